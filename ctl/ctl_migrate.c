/* SPDX-License-Identifier: ISC */
/* ctl_migrate.c - check-config --exim: an existing Exim configuration, line by line: what means the same, what differs, what is not
 * there and what to write instead. The reader and its checks judge; migrate.def adds what they cannot know. */
#include <stdlib.h>
#include <string.h>

#include "common/conf/conf.h"
#include "ctl/config.h"
#include "ctl/ctl.h"

enum verdict { SAME, DIFFERS, UNSUPPORTED, VERDICTS };
static const char *const verdict_words[VERDICTS] = { "same", "differs", "not supported" };

static const struct advice {
	const char *table, *name;
	enum verdict verdict;
	const char *text;
} advices[] = {
#define ADVICE(table, name, verdict, text) { #table, #name, verdict, text },
#include "ctl/migrate.def"
#undef ADVICE
};
enum { ADVICES = sizeof advices / sizeof *advices };

/* One setting of the file, or a problem that belongs to none of them. */
struct finding {
	struct conf_place place;
	uint32_t order;         /* as found: settings of one line stay as they are */
	const char *what;       /* "router dnslookup: option transport" */
	const char *name;       /* the word alone */
	const char *table;      /* its table in migrate.def; NULL: it has none */
	enum verdict verdict;
	const char *text;
};

struct report {
	struct ctl *ctl;
	const struct conf *conf;
	struct finding *v;
	uint32_t n, room;
	unsigned count[VERDICTS];
};

/* table NULL: any. */
static const struct advice *advice_find(const char *table, const char *name)
{
	for (unsigned i = 0; i < ADVICES; i++)
		if ((!table || !strcmp(advices[i].table, table)) && !strcmp(advices[i].name, name))
			return &advices[i];
	return NULL;
}

static struct finding *finding_add(struct report *r, struct conf_place place, const char *what, const char *name, const char *table)
{
	const struct advice *advice = table ? advice_find(table, name) : NULL;
	struct finding *f;

	if (r->n == r->room) {
		struct finding *more = arena_alloc(&r->ctl->arena, (r->room * 2 + 256) * sizeof *more);

		if (r->n)
			memcpy(more, r->v, r->n * sizeof *more);
		r->v = more;
		r->room = r->room * 2 + 256;
	}
	f = &r->v[r->n];
	*f = (struct finding){ .place = place, .order = r->n++, .what = what, .name = name, .table = table };
	if (advice) {
		f->verdict = advice->verdict;
		f->text = advice->text;
	}
	return f;
}

/* ---- settings ---- */

static void table_gather(struct report *r, const struct conf_table *table, const struct conf_meta *meta, const char *owner)
{
	for (uint32_t i = 0; i < table->n; i++)
		if (meta[i].set && strcmp(table->rows[i].name, "driver"))
			finding_add(r, meta[i].place, arena_printf(&r->ctl->arena, "%s%s", owner, table->rows[i].name), table->rows[i].name, table->name);
}

static void instances_gather(struct report *r)
{
	struct arena *a = &r->ctl->arena;

	for (unsigned class = 0; class < CONF_CLASSES; class++)
		for (uint32_t i = 0; i < r->conf->of[class].n; i++) {
			const struct conf_instance *in = &r->conf->of[class].v[i];
			const char *owner = arena_printf(a, "%s %.*s: ", conf_class_name((enum conf_class)class), STR_FMT(in->name));

			if (!in->driver)
				continue;
			finding_add(r, in->place, arena_printf(a, "%sdriver %s", owner, in->driver->name), in->driver->name, "driver");
			table_gather(r, conf_class_table((enum conf_class)class), in->generic_meta, owner);
			table_gather(r, in->driver->table, in->own_meta, owner);
		}
}

static void acls_gather(struct report *r)
{
	struct arena *a = &r->ctl->arena;

	for (uint32_t i = 0; i < r->conf->n_acls; i++)
		for (uint32_t k = 0; k < r->conf->acls[i].n; k++) {
			const struct conf_acl *acl = &r->conf->acls[i];
			const struct conf_statement *s = &acl->statements[k];

			for (uint32_t m = 0; m < s->n; m++) {
				const char *name = str_cstr(a, s->items[m].name);
				bool control = !strcmp(name, "control");
				struct str word = str_trim(s->items[m].value.text);
				int slash = str_find(word, '/');

				if (control && word.len)
					word = slash >= 0 ? str_sub(word, 0, (uint32_t)slash) : word;
				finding_add(r, s->items[m].place, arena_printf(a, "ACL %.*s: %s%s%.*s", STR_FMT(acl->name), name, control ? " = " : "",
					STR_FMT(control ? word : STR_LIT(""))), control ? str_cstr(a, word) : name, control ? "control" : "acl");
			}
		}
}

static void rules_gather(struct report *r)
{
	struct arena *a = &r->ctl->arena;

	for (uint32_t i = 0; i < r->conf->n_lists; i++)
		finding_add(r, r->conf->lists[i].value.place, arena_printf(a, "list %.*s", STR_FMT(r->conf->lists[i].name)),
			str_cstr(a, r->conf->lists[i].name), NULL);
	for (uint32_t i = 0; i < r->conf->n_retry; i++)
		finding_add(r, r->conf->retry[i].place, "retry rule", "retry", NULL);
	for (uint32_t i = 0; i < r->conf->n_rewrite; i++)
		finding_add(r, r->conf->rewrite[i].place, "rewriting rule", "rewrite", NULL);
}

/* ---- what the reader had to say ---- */

/* The word that a problem is about: what stands in its first quotes. */
static const char *problem_subject(struct report *r, struct str text)
{
	int from = str_find(text, '"'), to;

	if (from < 0)
		return "";
	text = str_from(text, (uint32_t)from + 1);
	to = str_find(text, '"');
	return str_cstr(&r->ctl->arena, to < 0 ? text : str_sub(text, 0, (uint32_t)to));
}

static void problem_place(struct report *r, const struct conf_problem *p, uint32_t settings)
{
	enum verdict verdict = p->severity == CONF_ERROR ? UNSUPPORTED : DIFFERS;
	const char *text = str_cstr(&r->ctl->arena, p->text), *subject = problem_subject(r, p->text);
	const struct advice *advice;
	struct finding *at = NULL;

	for (uint32_t i = 0; i < settings && !at; i++)
		if (r->v[i].place.file == p->place.file && r->v[i].place.line == p->place.line && p->place.line &&
		    (str_find_str(p->text, str_of(r->v[i].name)) >= 0 || r->v[i].verdict == SAME))
			at = &r->v[i];
	advice = advice_find(at ? at->table : NULL, subject); /* transports and routers have options of one name */
	if (at && !strcmp(subject, at->name) && str_find_str(p->text, str_printf(&r->ctl->arena, "\"%s\": ", subject)) >= 0) /* the line begins with it */
		text += (size_t)str_find_str(p->text, str_printf(&r->ctl->arena, "\"%s\": ", subject)) + strlen(subject) + 4;
	if (!at)
		at = finding_add(r, p->place, NULL, subject, NULL);
	if (advice && (verdict == UNSUPPORTED) == (advice->verdict == UNSUPPORTED))
		text = arena_printf(&r->ctl->arena, "%s: %s", text, advice->text);
	at->text = at->text && at->verdict == verdict && !(advice && at->text == advice->text) ? arena_printf(&r->ctl->arena, "%s; %s", text, at->text) : text;
	if (at->verdict < verdict)
		at->verdict = verdict;
}

static int finding_order(const void *a, const void *b)
{
	const struct finding *x = a, *y = b;

	if (x->place.file != y->place.file)
		return x->place.file < y->place.file ? -1 : 1;
	if (x->place.line != y->place.line)
		return x->place.line < y->place.line ? -1 : 1;
	return x->order < y->order ? -1 : 1;
}

static void finding_print(struct report *r, const struct finding *f)
{
	struct str place = conf_place_format(r->conf, f->place, &r->ctl->arena);

	r->count[f->verdict]++;
	if (place.len)
		printf("%.*s: ", STR_FMT(place));
	printf("%s: ", verdict_words[f->verdict]);
	if (f->what)
		printf("%s%s", f->what, f->text ? ": " : "");
	puts(f->text ? f->text : "");
}

int ctl_migrate(struct ctl *ctl, const char *path)
{
	struct report r = { .ctl = ctl };
	struct conf *conf;
	uint32_t settings;

	ctl->conf_path = path;
	r.conf = conf = config_read(ctl, true);
	instances_gather(&r);
	acls_gather(&r);
	rules_gather(&r);
	table_gather(&r, &conf_table_main, conf->main_meta, "");
	settings = r.n;
	for (uint32_t i = 0; i < conf->n_problems; i++)
		problem_place(&r, &conf->problems[i], settings);
	if (r.n)
		qsort(r.v, r.n, sizeof *r.v, finding_order);
	for (uint32_t i = 0; i < r.n; i++)
		finding_print(&r, &r.v[i]);
	printf("%s: %u settings mean the same, %u differ, %u are not supported\n", path, r.count[SAME], r.count[DIFFERS], r.count[UNSUPPORTED]);
	conf_free(conf);
	return r.count[UNSUPPORTED] ? CTL_CONFIG : CTL_OK;
}
