/* SPDX-License-Identifier: ISC */
/* options.c - writes bulkhead.conf(5), bulkhead-lookups(7), bulkhead-expansions(7) and their kin: a skeleton on standard input, its
 * reference pages from the tables. Lines of the skeleton that are replaced: "@options TABLE@", "@drivers CLASS@", "@selectors@",
 * "@lookups single@", "@lookups query@", "@lookups later@", "@acl verbs@", "@acl conditions@", "@acl modifiers@", "@acl controls@",
 * "@acl verify@", "@expansions item@" (operator, condition, variable). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/conf/log_selector.h"
#include "common/conf/option.h"
#include "common/ipc/enums.h"
#include "common/lang/acl.h"
#include "common/lang/expand.h"
#include "common/lang/lookup.h"

enum { LINE_MAX_OCTETS = 78 }; /* of the source: mandoc's style */

/* One word of text: what roff would take for something else is escaped. */
static size_t word_print(const char *p, size_t n, char *out, size_t room)
{
	size_t len = 0;

	for (size_t i = 0; i < n && len + 4 < room; i++) {
		if (p[i] == '\\') {
			out[len++] = '\\';
			out[len++] = 'e';
		} else if (!i && (p[i] == '.' || p[i] == '\'')) {
			out[len++] = '\\';
			out[len++] = '&';
			out[len++] = p[i];
		} else {
			out[len++] = p[i];
		}
	}
	out[len] = '\0';
	return len;
}

/* Text in lines of the source that are not too long; between ends each but the last. A line ends a sentence where a
 * sentence ends: mandoc's style again. */
static void text_print(const char *text, const char *between)
{
	char word[512];
	size_t column = 0;

	while (*text) {
		size_t n = strcspn(text, " "), len = word_print(text, n, word, sizeof word);
		if (column && column + 1 + len + strlen(between) > LINE_MAX_OCTETS) {
			printf("%s\n", between);
			column = 0;
		}
		printf("%s%s", column ? " " : "", word);
		column += len + (column ? 1 : 0);
		text += n;
		text += *text == ' ';
		if (*text && len > 1 && word[len - 1] == '.' && !*between) {
			putchar('\n');
			column = 0;
		}
	}
	putchar('\n');
}

static void flag_print(const struct conf_option *o)
{
	if (o->flags & F_EXPANDED)
		printf("Expanded%s.\n", o->flags & F_EXP_M ? " once, at start" : "");
	if (o->flags & F_REPEAT)
		printf("May be given several times.\n");
	if (o->flags & F_SECRET)
		printf("Never shown.\n");
	if (o->flags & F_RESTART)
		printf("A change takes effect with a restart.\n");
	if (o->flags & F_OURS)
		printf("Not in Exim.\n");
	if (o->flags & F_UNREAD)
		printf("Not served in this build: setting it %s.\n", (o->flags & F_PENDING) == F_PENDING ? "puts the mail concerned off" :
			"has no effect but a warning");
}

static void bounds_print(const struct conf_option *o)
{
	char low[32], high[32];

	if (!o->min && !o->max)
		return;
	if (o->kind == CONF_TIME) {
		conf_time_format(low, o->min);
		conf_time_format(high, o->max);
	} else if (o->kind == CONF_OCTAL) {
		snprintf(low, sizeof low, "%04llo", (unsigned long long)o->min);
		snprintf(high, sizeof high, "%04llo", (unsigned long long)o->max);
	} else {
		snprintf(low, sizeof low, "%lld", (long long)o->min / (o->kind == CONF_FIXED ? 1000 : 1));
		snprintf(high, sizeof high, "%lld", (long long)o->max / (o->kind == CONF_FIXED ? 1000 : 1));
	}
	printf("From %s to %s.\n", low, high);
}

static void option_print(const struct conf_option *o)
{
	char what[512], word[512];

	printf(".It Ic %s Pq %s\n", o->name, conf_kind_name(o->kind));
	snprintf(what, sizeof what, "%s.", o->what);
	if (what[1] >= 'a' && what[1] <= 'z' && !memchr(what, '_', strcspn(what, " ")))
		what[0] = (char)(what[0] >= 'a' && what[0] <= 'z' ? what[0] - 32 : what[0]);
	text_print(what, "");
	if (o->words) {
		printf("One of\n");
		for (const char *w = o->words; *w; w += *w == '|') {
			size_t n = strcspn(w, "|");
			word_print(w, n, word, sizeof word);
			w += n;
			printf(".Li %s%s\n", word, !*w ? " ." : " ,");
		}
	}
	bounds_print(o);
	if (o->fallback && *o->fallback && o->kind != CONF_BOOL && strlen(o->fallback) < 60 && !strpbrk(o->fallback, "\\\"")) {
		printf("Default:\n.Li \"%s\" .\n", o->fallback); /* quoted: one argument, whatever it holds */
	} else if (o->fallback && *o->fallback && o->kind != CONF_BOOL) {
		printf("Default:\n.Bd -literal -offset indent -compact\n");
		text_print(o->fallback, " \\e");
		printf(".Ed\n");
	} else if (o->kind == CONF_BOOL && o->fallback) {
		printf("Default: %s.\n", o->fallback);
	}
	flag_print(o);
}

/* The names of the rows with the flag, in lines. */
static void names_print(const struct conf_table *table, uint32_t flag, const char *intro)
{
	bool any = false;

	for (const struct conf_option *o = table->rows; o->name; o++) {
		if (!(o->flags & flag))
			continue;
		if (!any)
			printf(".Pp\n%s\n", intro);
		else
			printf(" ,\n");
		any = true;
		printf(".Ic %s", o->name);
		if (flag == F_ALIAS)
			printf(" No for Ic %s", o->what);
	}
	if (any)
		printf(" .\n");
}

static int options_print(const char *name)
{
	for (unsigned t = 0; conf_tables[t]; t++) {
		bool any = false;
		if (strcmp(conf_tables[t]->name, name))
			continue;
		for (const struct conf_option *o = conf_tables[t]->rows; o->name; o++) {
			if (o->offset == CONF_NO_FIELD)
				continue;
			if (!any)
				printf(".Bl -tag -width indent\n");
			any = true;
			option_print(o);
		}
		printf("%s", any ? ".El\n" : "It has no options of its own.\n");
		names_print(conf_tables[t], F_ALIAS, "Older names, accepted with a warning:");
		names_print(conf_tables[t], F_IGNORED, "Accepted with a warning, without effect:");
		names_print(conf_tables[t], F_LATER, "Known to Exim, not implemented in this build:");
		return 0;
	}
	fprintf(stderr, "no option table \"%s\"\n", name);
	return 1;
}

/* Every implemented driver of the class with its options. */
static int drivers_print(const char *class)
{
	int bad = 0;

	for (const struct conf_driver *d = conf_drivers; d->name; d++) {
		if (strcmp(conf_class_name(d->class), class) || d->later)
			continue;
		printf(".Ss The %s %s\n", d->name, class);
		printf("The\n.Ic %s\n%s %s.\n", d->name, class, d->what);
		bad |= options_print(d->table->name);
	}
	return bad;
}

static void selectors_print(void)
{
	printf(".Bl -tag -width indent\n");
	for (unsigned i = 0; i < LOG_SELECTORS; i++) {
		uint64_t bits = 0;
		log_selector_parse(STR_NULL, &bits, NULL);
		printf(".It Cm %s%s\n", log_selector_name(i), bits >> i & 1 ? " Pq on" : "");
		text_print(log_selector_what(i), "");
	}
	printf(".El\n");
}

/* The lookup types of a style, or the names of those that are not in this build. */
static void lookups_print(const char *which)
{
	bool later = !strcmp(which, "later"), query = !strcmp(which, "query"), any = false;

	if (!later)
		printf(".Bl -tag -width nwildlsearch\n");
	for (const struct lookup_type *t = lookup_types; t->name; t++) {
		char what[1024];

		if (later && t->flags & LOOKUP_LATER) {
			printf("%s.Ic %s", any ? " ,\n" : "", t->name);
			any = true;
		}
		if (later || t->flags & LOOKUP_LATER || (t->style == LOOKUP_QUERY) != query)
			continue;
		printf(".It Ic %s\n", t->name);
		snprintf(what, sizeof what, "Looks in %s.", t->what);
		text_print(what, "");
		if (t->quote)
			printf("What came from outside must pass\n.Li ${quote_%s:...} .\n", t->name);
		if (t->flags & LOOKUP_ABSENT)
			printf("Not built in here: its library was missing.\n");
	}
	printf(later ? " .\n" : ".El\n");
}

/* Where it may stand: named, or by where it may not when that is shorter. */
static void stages_print(uint32_t stages)
{
	uint32_t all = (1u << ACL_STAGES_END) - 2, without = all & ~stages;
	char text[1024];
	size_t n;
	bool named = __builtin_popcount(stages & all) <= __builtin_popcount(without);

	if (!stages || !without)
		return;
	n = (size_t)snprintf(text, sizeof text, named ? "ACLs:" : "All ACLs but");
	for (unsigned i = 1; i < ACL_STAGES_END; i++)
		if ((named ? stages : without) >> i & 1)
			n += (size_t)snprintf(text + n, sizeof text - n, " %s,", acl_stage_name(i));
	text[n - 1] = '.';
	text_print(text, "");
}

/* ST: 1 when a row has no sentence, which fails the build. */
static int acl_print(const char *which)
{
	static const char *const names[ACL_PAGES] = { "verbs", "conditions", "modifiers", "controls", "verify" };
	struct acl_page_row row;
	int bad = 0, page = 0;

	while (page < ACL_PAGES && strcmp(which, names[page]))
		page++;
	if (page == ACL_PAGES)
		return 1;
	printf(".Bl -tag -width Ds\n");
	for (size_t i = 0; acl_page_at((enum acl_page)page, i, &row); i++) {
		char what[1024];

		if (!row.what || strlen(row.what) < 12) {
			fprintf(stderr, "ACL %s: %s has no sentence\n", which, row.name);
			bad = 1;
			continue;
		}
		snprintf(what, sizeof what, "%c%s.", row.what[0] >= 'a' && row.what[0] <= 'z' ? row.what[0] - 32 : row.what[0], row.what + 1);
		printf(".It Ic %s\n", row.name);
		text_print(what, "");
		stages_print(row.stages);
		if (row.later)
			printf("Known to Exim, not implemented: an error at load.\n");
		if (row.pending) {
			snprintf(what, sizeof what, "Not served in this build: it %s.", row.pending);
			text_print(what, "");
		}
	}
	printf(".El\n");
	return bad;
}

/* ---- the expander's registries ---- */

static const struct {
	const char *name, *before;
	bool (*at)(size_t i, struct lang_row *out);
} registries[] = {
	{ "item", "${", expand_item_at }, { "operator", "${", expand_operator_at }, { "condition", "", expand_condition_at },
	{ "variable", "$", expand_variable_at },
};

/* Rows are sorted by name; a sentence is what every one must have. */
static int row_cmp(const void *x, const void *y)
{
	const struct lang_row *a = x, *b = y;

	return strcmp(a->name, b->name);
}

static int row_check(const char *kind, const struct lang_row *r)
{
	if (r->what && strlen(r->what) >= 12 && strchr(r->what, ' ') && r->what[strlen(r->what) - 1] != '.')
		return 0;
	fprintf(stderr, "%s \"%s\": its row lacks a sentence (\"%s\")\n", kind, r->name, r->what ? r->what : "");
	return 1;
}

static void row_print(const char *kind, const char *before, const struct lang_row *r)
{
	char what[512], close = *before == '$' && before[1] ? '}' : 0;

	printf(".It Ic \"%s%s", before, r->name);
	if (!strcmp(kind, "operator"))
		printf("%s:text", r->args ? "_n" : "");
	else if (r->usage && r->usage[0])
		printf("%s%s", strchr("{:", r->usage[0]) ? "" : " ", r->usage);
	printf("%s\"\n", close ? "}" : "");
	snprintf(what, sizeof what, "%s.", r->what);
	if (what[0] >= 'a' && what[0] <= 'z' && !memchr(what, '_', strcspn(what, " :")))
		what[0] = (char)(what[0] - 32);
	text_print(what, "");
}

static int expansions_print(const char *kind)
{
	static struct lang_row rows[1024];
	size_t k = 0, n = 0;
	int bad = 0;
	bool later = false;

	while (k < sizeof registries / sizeof *registries && strcmp(registries[k].name, kind))
		k++;
	if (k == sizeof registries / sizeof *registries) {
		fprintf(stderr, "no registry \"%s\"\n", kind);
		return 1;
	}
	while (n < sizeof rows / sizeof *rows && registries[k].at(n, &rows[n]))
		n++;
	qsort(rows, n, sizeof *rows, row_cmp);
	printf(".Bl -tag -width indent\n");
	for (size_t i = 0; i < n; i++) {
		bad |= row_check(kind, &rows[i]);
		if (!rows[i].later && !bad)
			row_print(kind, registries[k].before, &rows[i]);
	}
	printf(".El\n");
	for (size_t i = 0; i < n; i++)
		if (rows[i].later) {
			printf("%s.Ic %s", later ? " ,\n" : ".Pp\nKnown to Exim, not implemented in this build:\n", rows[i].name);
			later = true;
		}
	printf("%s", later ? " .\n" : "");
	return bad;
}

int main(void)
{
	char line[1024], name[64];
	int bad = 0;

	while (fgets(line, sizeof line, stdin)) {
		if (sscanf(line, "@options %63[a-z_]@", name) == 1)
			bad |= options_print(name);
		else if (sscanf(line, "@drivers %63[a-z_]@", name) == 1)
			bad |= drivers_print(name);
		else if (sscanf(line, "@lookups %63[a-z]@", name) == 1)
			lookups_print(name);
		else if (sscanf(line, "@acl %63[a-z]@", name) == 1)
			bad |= acl_print(name);
		else if (sscanf(line, "@expansions %63[a-z]@", name) == 1)
			bad |= expansions_print(name);
		else if (!strcmp(line, "@selectors@\n"))
			selectors_print();
		else
			fputs(line, stdout);
	}
	return bad;
}
