/* SPDX-License-Identifier: ISC */
/* The MIME stage (specification, section 45.4): the ACL for each part, and the decode condition. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/lang/acl_content.h"
#include "common/lang/acl_row.h"
#include "common/lang/lang_header.h"
#include "common/lang/lang_priv.h"

enum { DECODE_STEP = 1024 /* octets for which decoding counts as one step of evaluation */ };

struct content_state *content_state(struct eval *ev)
{
	if (!ev->content)
		ev->content = arena_alloc(ev->arena, sizeof *ev->content);
	return ev->content;
}

/* ---- variables ---- */

static void anomaly_set(struct eval *ev, enum mime_anomaly anomaly)
{
	eval_set(ev, EV_mime_anomaly_level, anomaly ? str_printf(ev->arena, "%d", (int)anomaly) : STR_NULL);
	eval_set(ev, EV_mime_anomaly_text, str_of(mime_anomaly_text(anomaly)));
}

static void part_variables(struct eval *ev, const struct mime_part *part)
{
	const struct { enum eval_slot slot; bool yes; } flags[] = {
		{ EV_mime_is_coverletter, part->cover_letter }, { EV_mime_is_multipart, part->multipart }, { EV_mime_is_rfc822, part->attached > 0 },
	};
	const struct { enum eval_slot slot; struct str text; } texts[] = {
		{ EV_mime_boundary, part->boundary }, { EV_mime_charset, part->charset }, { EV_mime_content_description, part->description },
		{ EV_mime_content_disposition, part->disposition }, { EV_mime_content_id, part->id },
		{ EV_mime_content_transfer_encoding, part->transfer_encoding }, { EV_mime_content_type, part->type },
		{ EV_mime_filename, header_decode_words(ev->arena, part->filename, false) },
	};

	for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
		eval_set(ev, flags[i].slot, flags[i].yes ? STR_LIT("1") : STR_NULL);
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		eval_set(ev, texts[i].slot, str_taint(texts[i].text));
	eval_set(ev, EV_mime_content_size, STR_NULL);
	eval_set(ev, EV_mime_decoded_filename, STR_NULL);
	eval_set(ev, EV_mime_part_count, str_printf(ev->arena, "%u", part->number));
	anomaly_set(ev, part->anomaly);
}

static void variables_clear(struct eval *ev)
{
	for (int i = EV_mime_anomaly_level; i <= EV_mime_is_rfc822; i++)
		eval_set(ev, (enum eval_slot)i, STR_NULL);
}

/* ---- decoding: into memory; there is no file ---- */

enum status content_decode(struct eval *ev, struct str name, struct err *err)
{
	struct content_state *c = content_state(ev);
	struct buf keep = BUF_LIMIT(CONTENT_DECODED_MAX);
	enum mime_anomaly anomaly;
	uint64_t size;
	enum status st;

	if (!c->part)
		return err_set(err, ST_ERROR, "there is no MIME part");
	if (!name.len)
		name = str_printf(ev->arena, "%.*s-%05u", STR_FMT(ev->facts->message_id), c->files);
	if (!c->decoded) {
		if (eval_step(ev, 1 + (uint32_t)((c->part->end - c->part->body) / DECODE_STEP), err))
			return ST_ERROR;
		st = mime_part_decode(c->part, &keep, &size, &anomaly, err);
		c->text = str_taint(str_dup(ev->arena, buf_str(&keep)));
		buf_clear(&keep);
		if (st)
			return st;
		c->decoded = true;
		c->files++;
		eval_set(ev, EV_mime_content_size, str_printf(ev->arena, "%llu", (unsigned long long)((size + 1023) / 1024)));
		eval_set(ev, EV_mime_decoded_filename, name);
		if (anomaly > c->part->anomaly)
			anomaly_set(ev, anomaly);
	}
	return ST_OK;
}

/* Where there are no files, none can be put anywhere. */
static enum status name_check(struct str name, struct err *err)
{
	return str_begins(name, "/") ? err_set(err, ST_ERROR, "parts are decoded in memory, not into files: \"default\" or a plain name, not a path") : ST_OK;
}

static enum status compile_decode(struct acl_compiler *c, struct acl_item *item, const struct conf_acl_item *from, struct err *err)
{
	(void)c;
	(void)item;
	return name_check(str_trim(from->value.text), err);
}

static enum acl_rc cond_decode(struct acl_state *s, const struct acl_item *item, struct str text, struct err *err)
{
	(void)item;
	text = str_trim(text);
	if (!text.len || str_is(text, "0") || str_isi(text, "false"))
		return RC_FAIL;
	if (name_check(text, err)) {
		err_prefix(err, "decode");
		return RC_ERROR;
	}
	s->ev->deps |= DEP_SESSION;
	return acl_rc_of(content_decode(s->ev, str_is(text, "default") || str_is(text, "1") ? STR_NULL : text, err));
}

/* ---- the stage ---- */

static enum status tree_read(struct eval *ev, struct mime_source *source, struct mime_tree *tree, struct err *err)
{
	struct stat st;

	*tree = (struct mime_tree){ .arena = ev->arena };
	*source = (struct mime_source){ .fd = ev->message_fd, .offset = ev->facts->offset, .size = ev->facts->size };
	if (!source->size) {
		if (fstat(ev->message_fd, &st) < 0)
			return err_set(err, ST_DEFER, "MIME: the message's size is not known: %s", strerror(errno));
		source->size = (uint64_t)st.st_size > source->offset ? (uint64_t)st.st_size - source->offset : 0;
	}
	return mime_parse(tree, ev->arena, source, err);
}

/* ACL after ACL; false: one did not accept. */
static bool parts_run(struct eval *ev, const struct mime_tree *tree, struct ipc_acl_answer *out)
{
	struct content_state *c = content_state(ev);
	uint64_t delay = 0;

	for (const struct mime_part *p = tree->first; p; p = p->next) {
		c->part = p;
		c->decoded = false;
		c->text = STR_NULL;
		part_variables(ev, p);
		acl_stage_run(ev, out);
		delay += out->delay_ms;
		out->delay_ms = delay < ACL_DELAY_MAX_MS ? delay : ACL_DELAY_MAX_MS;
		if (out->verdict != ACL_ACCEPT)
			return false;
	}
	return true;
}

/* Beyond a limit, parts may hide that the ACL should see. */
static void limit_answer(struct eval *ev, enum status st, const struct err *err, struct ipc_acl_answer *out)
{
	struct str text = str_of(arena_strdup(ev->arena, err->text));

	out->verdict = st == ST_FAIL ? ACL_DENY : ACL_DEFER;
	out->log_text = text;
	out->text = st == ST_FAIL ? text : STR_NULL;
}

bool acl_mime_run(struct eval *ev, enum acl_stage stage, struct ipc_acl_answer *out)
{
	const struct conf_text *option = ev->lang->conf ? acl_option(ev->lang->conf, stage) : NULL;
	enum acl_stage before = ev->stage;
	struct mime_source source;
	struct mime_tree tree;
	struct err err = ERR_INIT;
	enum status st;
	unsigned count = 0;
	bool go_on;

	*out = (struct ipc_acl_answer){ .verdict = ACL_ACCEPT };
	if (!option || !option->text.len || ev->message_fd < 0)
		return true;
	st = tree_read(ev, &source, &tree, &err);
	go_on = st != ST_DEFER && !tree.first->typed;
	if (st == ST_DEFER) {
		limit_answer(ev, st, &err, out);
	} else if (!go_on) {
		ev->stage = stage;
		go_on = parts_run(ev, &tree, out);
		if (go_on && st) {
			limit_answer(ev, st, &err, out);
			go_on = false;
		}
		for (const struct mime_part *p = tree.first; p && !p->attached; p = p->next)
			count = p->number;
		variables_clear(ev);
		eval_set(ev, EV_mime_part_count, str_printf(ev->arena, "%u", count));
		ev->content->part = NULL;
		ev->stage = before;
	}
	mime_clear(&tree);
	out->stage = go_on ? 0 : stage;
	return go_on;
}

const struct acl_item_row acl_items_mime[] = {
	{ "decode", false, SHAPE_TEXT, STAGE(ACL_MIME) | STAGE(ACL_NOTSMTP_MIME), 0, cond_decode, compile_decode, false,
		"the MIME part is decoded, in memory; its value is but a name for $mime_decoded_filename" },
	{ NULL }
};
