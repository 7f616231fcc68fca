/* SPDX-License-Identifier: ISC */
#include "common/lang/scan_server.h"

#include <string.h>

#include "common/conf/option.h"
#include "common/conf/reader.h"
#include "common/lang/lang_list.h"

enum { DAY_S = 86400 };

/* ---- options behind an address ---- */

static bool option_number(struct str text, unsigned *out)
{
	uint64_t n;

	if (!str_u64(text, 1000000, &n) || !n)
		return false;
	*out = (unsigned)n;
	return true;
}

static bool option_priority(struct scan_server *s, struct str text) { return option_number(text, &s->priority); }
static bool option_weight(struct scan_server *s, struct str text) { return option_number(text, &s->weight); }

static bool option_duration(struct str text, uint64_t *out_ms)
{
	int64_t seconds;

	if (conf_time_parse(text, &seconds, NULL) || seconds <= 0 || seconds > SCAN_TIMEOUT_MAX_MS / 1000)
		return false;
	*out_ms = (uint64_t)seconds * 1000;
	return true;
}

static bool option_retry(struct scan_server *s, struct str text) { return option_duration(text, &s->retry_ms); }
static bool option_timeout(struct scan_server *s, struct str text) { return option_duration(text, &s->timeout_ms); }

/* "hour.minute.second"; the last ones may be missing. */
static bool time_of_day(struct str text, int64_t *out_s)
{
	static const int64_t unit[] = { 3600, 60, 1 };
	struct str part;
	uint64_t n;

	*out_s = 0;
	for (size_t i = 0; str_split(&text, '.', &part); i++) {
		if (i == 3 || !str_u64(part, i ? 59 : 24, &n))
			return false;
		*out_s += (int64_t)n * unit[i];
	}
	return *out_s <= DAY_S;
}

static bool option_time(struct scan_server *s, struct str text)
{
	ptrdiff_t dash = str_find(text, '-');

	return dash > 0 && time_of_day(str_sub(text, 0, (size_t)dash), &s->from_s) && time_of_day(str_from(text, (size_t)dash + 1), &s->until_s);
}

static bool option_variant(struct scan_server *s, struct str text)
{
	s->rspamd = str_is(text, "rspamd");
	return s->rspamd || str_is(text, "spamassassin");
}

static const struct option_row {
	const char *name;            /* with its = */
	bool spam_only;
	bool (*fn)(struct scan_server *s, struct str text);
} options[] = {
	{ "retry=", false, option_retry }, { "pri=", true, option_priority }, { "weight=", true, option_weight }, { "time=", true, option_time },
	{ "tmo=", true, option_timeout }, { "variant=", true, option_variant },
};

static enum status option_take(struct scan_server *s, struct str word, bool spam, struct err *err)
{
	for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
		const struct option_row *o = &options[i];

		if (!str_begins(word, o->name) || (o->spam_only && !spam))
			continue;
		return o->fn(s, str_from(word, strlen(o->name))) ? ST_OK : err_set(err, ST_ERROR, "\"%.*s\": this value can't be", STR_FMT(word));
	}
	return err_set(err, ST_ERROR, "unknown option \"%.*s\"; there are %s", STR_FMT(word), spam ? "pri, weight, time, retry, tmo and variant" : "retry");
}

/* ---- one server ---- */

/* By blanks, however many, unless another separator is named. */
static bool next_word(struct lang_split *split, struct arena *a, struct str *out)
{
	uint32_t i = 0;

	if (split->sep != ' ')
		while (lang_split_next(split, a, out))
			if (out->len)
				return true;
	split->rest = str_trim(split->rest);
	while (i < split->rest.len && !ascii_is_space(split->rest.p[i]))
		i++;
	*out = str_sub(split->rest, 0, i);
	split->rest = str_from(split->rest, i);
	return out->len > 0;
}

/* "783" or "783-790" */
static bool ports_parse(struct str text, struct scan_server *s)
{
	ptrdiff_t dash = str_find(text, '-');
	uint64_t first, last;

	if (!str_u64(dash < 0 ? text : str_sub(text, 0, (size_t)dash), 65535, &first) || !first)
		return false;
	last = first;
	if (dash >= 0 && (!str_u64(str_from(text, (size_t)dash + 1), 65535, &last) || last < first))
		return false;
	s->port = (uint16_t)first;
	s->port_last = (uint16_t)last;
	return true;
}

static enum status server_parse(struct arena *a, struct str text, bool spam, struct scan_server *out, struct err *err)
{
	struct lang_split split = LANG_SPLIT(str_trim(text));
	struct str word;

	*out = (struct scan_server){ .priority = 1, .weight = 1, .until_s = DAY_S, .timeout_ms = SCAN_TIMEOUT_MS };
	if (!str_begins(split.rest, "<"))
		split.sep = ' ';
	if (!next_word(&split, a, &word))
		return err_set(err, ST_ERROR, "an empty address");
	if (str_begins(word, "/")) {
		out->path = word;
	} else {
		out->host = word;
		if (!next_word(&split, a, &word) || !ports_parse(word, out))
			return err_set(err, ST_ERROR, "\"%.*s\": ADDRESS PORT or the path of a socket must stand here", STR_FMT(text));
	}
	while (next_word(&split, a, &word))
		if (option_take(out, word, spam, err))
			return err->status;
	return ST_OK;
}

static enum status server_add(struct arena *a, struct str text, bool spam, struct scan_servers *out, struct err *err)
{
	if (out->n == SCAN_SERVERS_MAX)
		return err_set(err, ST_ERROR, "more than %d servers", SCAN_SERVERS_MAX);
	return server_parse(a, text, spam, &out->v[out->n++], err);
}

/* ---- the lists ---- */

/* Exim's scanners for malware. Those that are given a file's name have no file to read here. */
static const struct {
	const char *name;
	bool served;
} scanners[] = {
	{ "clamd", true }, { "avast", false }, { "aveserver", false }, { "cmdline", false }, { "drweb", false }, { "f-prot6d", false },
	{ "f-protd", false }, { "fsecure", false }, { "kavdaemon", false }, { "mksd", false }, { "sock", false }, { "sophie", false },
};

static enum status scanner_check(struct str name, struct err *err)
{
	struct conf_nearest nearest;
	const char *near = NULL;
	char word[64];

	conf_nearest_begin(&nearest, word, sizeof word, name);
	for (size_t i = 0; i < sizeof scanners / sizeof *scanners; i++) {
		if (str_is(name, scanners[i].name))
			return scanners[i].served ? ST_OK : err_set(err, ST_ERROR, "scanner \"%s\" is known to Exim, not implemented: clamd is", scanners[i].name);
		near = conf_nearest_pick(&nearest, scanners[i].name);
	}
	return near ? err_set(err, ST_ERROR, "unknown scanner \"%.*s\": did you mean \"%s\"?", STR_FMT(name), near) :
		err_set(err, ST_ERROR, "unknown scanner \"%.*s\": clamd is implemented", STR_FMT(name));
}

/* "clamd:SERVER:SERVER:local" */
static enum status malware_parse(struct arena *a, struct str text, struct scan_servers *out, struct err *err)
{
	struct lang_split split = LANG_SPLIT(text);
	bool local_socket = false;
	struct str item;
	enum status st;

	if (!lang_split_next(&split, a, &item) || !item.len)
		return err_set(err, ST_ERROR, "no scanner is named");
	st = scanner_check(item, err);
	while (!st && lang_split_next(&split, a, &item)) {
		if (!item.len || str_is(item, "local")) /* the content is sent either way: it has no file name */
			continue;
		st = server_add(a, item, false, out, err);
		local_socket |= !st && out->v[out->n - 1].path.len;
	}
	if (!st && !out->n)
		st = server_add(a, STR_LIT("/tmp/clamd"), false, out, err);
	if (!st && local_socket && out->n > 1)
		st = err_set(err, ST_ERROR, "a Unix socket can't be one of several servers");
	return st;
}

enum status scan_servers_parse(struct arena *a, struct str text, bool spam, struct scan_servers *out, struct err *err)
{
	struct lang_split split = LANG_SPLIT(text);
	enum status st = ST_OK;
	struct str item;

	out->n = 0;
	if (!spam)
		return malware_parse(a, text, out, err);
	while (!st && lang_split_next(&split, a, &item))
		if (item.len)
			st = server_add(a, item, true, out, err);
	return st || out->n ? st : err_set(err, ST_ERROR, "no server is named");
}

bool scan_text_expands(struct str text) { return str_begins(str_trim(text), "$"); }

bool scan_wanted(const struct conf *conf, bool spam)
{
	const char *condition = spam ? "spam" : "malware";

	if (spam ? conf_main_meta(conf, spamd_address)->set : conf->main.av_scanner.text.len > 0)
		return true;
	for (uint32_t i = 0; i < conf->n_acls; i++)
		for (uint32_t s = 0; s < conf->acls[i].n; s++)
			for (uint32_t k = 0; k < conf->acls[i].statements[s].n; k++)
				if (str_is(conf->acls[i].statements[s].items[k].name, condition))
					return true;
	return false;
}
