/* SPDX-License-Identifier: ISC */
/* Strings of the configuration: compiled, and evaluated in a context whose facts are the same octets. Lookups answer with them too, so that
 * what strangers and databases say gets everywhere. The first octet chooses: the rest is compiled as it is, or is only data. */
#include <stdint.h>
#include <stdlib.h>

#include "common/conf/read.h"
#include "common/lang/acl.h"
#include "common/lang/expand.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum status answer(void *ctx, struct arena *a, const struct ipc_lookup_ask *ask, struct ipc_lookup_answer *out, struct err *err)
{
	const struct str *s = ctx;

	(void)err;
	out->value = str_dup(a, *s);
	out->value.tainted = false;
	out->matched = ask->key;
	return s->len % 7 ? ST_OK : ST_FAIL;
}

static enum status run(void *ctx, struct arena *a, const struct ipc_program_ask *ask, struct ipc_program_answer *out, struct err *err)
{
	const struct str *s = ctx;

	(void)a;
	(void)err;
	if (!str_is(ask->argv.v[0], "/x"))
		abort();
	out->output = *s;
	out->code = s->len % 3;
	out->too_late = s->len % 31 == 0;
	return s->len % 37 ? ST_OK : ST_DEFER;
}

/* What run may start. */
static struct conf *conf_make(void)
{
	static const char text[] = "primary_hostname = mail.example\nrun_commands = /x\nrun_user = 8\nrun_group = 8\n";
	struct conf_source source = { .path = "fuzz", .text = text, .text_len = sizeof text - 1 };
	struct conf *conf;

	if (conf_read(&source, &conf))
		abort();
	return conf;
}

static void evaluate(struct lang *lang, struct arena *arena, const char *text, const struct ipc_facts *facts)
{
	struct err err = ERR_INIT;
	struct eval ev;
	struct str out;

	eval_init(&ev, lang, arena);
	eval_facts(&ev, facts);
	eval_set_address(&ev, str_taint(facts->recipient));
	eval_set(&ev, EV_value, str_taint(facts->helo));
	if (!expand_text(&ev, str_of(text), &out, &err) && out.len > EVAL_LENGTH_MAX)
		abort();
	eval_clear(&ev);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const templates[] = {
		"${sg{$sender_helo_name}{$sender_address}{$local_part}}", "${eval:$sender_helo_name}", "${if match{$sender_address}{$sender_helo_name}{$1}}",
		"${addresses:$sender_helo_name}${address:$sender_helo_name}", "${extract{$local_part}{$sender_helo_name}}", "${extract json{a}{$sender_helo_name}}",
		"${map{$sender_helo_name}{$item}}${sort{$sender_helo_name}{lt}{$item}}", "${base64d:$sender_helo_name}", "${rfc2047d:$sender_helo_name}",
		"${listextract{-1}{$sender_helo_name}}${utf8clean:$sender_helo_name}", "${hash_3_5:$sender_helo_name}${mask:$sender_helo_name}",
		"${if match_address{$sender_helo_name}{*@*.b : ^x : lsearch*@;/x : a@partial-lsearch;/y}{$value}}", "${prvscheck{$sender_helo_name}{x}{y}}",
		"${utf8_domain_from_alabel:$sender_helo_name}${utf8_localpart_to_alabel:$sender_helo_name}", "${utf8_localpart_from_alabel:$sender_helo_name}",
		"${if inbound_srs{$sender_helo_name}{k}{$srs_recipient}{${srs_encode{k}{$sender_helo_name}{d}}}}", "${imapfolder{$sender_helo_name}}",
		"${certextract{subject}{$sender_helo_name}}", "${if crypteq{$sender_helo_name}{$sender_address}{y}{n}}", "${xtextd:$sender_helo_name}",
		"${from_utf8:$sender_helo_name}${rfc2047:$sender_helo_name}", "${if forany_json{$sender_helo_name}{def:item}{y}{n}}", "${headerwrap_20:$sender_helo_name}",
		"${run{/x $sender_helo_name \"$sender_address\"}{$value}{$runrc}}", "${run{$sender_helo_name}}", "${run,preexpand{/x ${hexquote:$sender_helo_name}}}",
	};
	static struct conf *conf;
	struct lang_services services = { .lookup = answer, .run = run };
	struct arena arena = ARENA_INIT;
	struct str text;
	struct lang *lang;
	struct ipc_facts facts = { 0 };

	if (size < 1 || size > 4096)
		return 0;
	text = str_make((const char *)data + 1, size - 1);
	services.ctx = &text;
	facts.client_ip = STR_LIT("192.0.2.1");
	facts.helo = facts.sender = facts.recipient = text;
	facts.has_sender = true;
	if (!conf)
		conf = conf_make();
	lang = lang_new(conf, &services);
	if (data[0] % 2) {
		char *copy = str_cstr(&arena, text);

		evaluate(lang, &arena, copy, &facts);
	} else {
		evaluate(lang, &arena, templates[data[0] / 2 % (sizeof templates / sizeof *templates)], &facts);
	}
	lang_free(lang);
	arena_clear(&arena);
	return 0;
}
