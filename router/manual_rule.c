/* SPDX-License-Identifier: ISC */
#include "router/manual_rule.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static char escape_value(char c)
{
	switch (c) {
	case 'n': return '\n';
	case 't': return '\t';
	case 'r': return '\r';
	default: return c;
	}
}

/* Up to the closing quote; \" \\ \n \t are undone. */
static enum status quoted_take(struct str *rest, struct arena *a, struct str *out, struct err *err)
{
	struct buf b = BUF_INIT;
	uint32_t i = 1;

	while (i < rest->len && rest->p[i] != '"') {
		char c = rest->p[i++];
		if (c == '\\' && i < rest->len)
			c = escape_value(rest->p[i++]);
		buf_addc(&b, c);
	}
	*out = str_dup(a, buf_str(&b));
	out->tainted = rest->tainted;
	buf_clear(&b);
	if (i >= rest->len)
		return err_set(err, ST_ERROR, "a quote is not closed");
	*rest = str_from(*rest, i + 1);
	if (rest->len && !is_blank(rest->p[0]))
		return err_set(err, ST_ERROR, "no blank behind a closing quote");
	return ST_OK;
}

/* A word: quoted, or up to a blank outside braces (an expansion may hold blanks: "${lookup {$domain} ...}"). */
static enum status word_take(struct str *rest, struct arena *a, struct str *out, struct err *err)
{
	uint32_t i = 0, depth = 0;

	*rest = str_trim(*rest);
	*out = STR_NULL;
	if (!rest->len)
		return ST_OK;
	if (rest->p[0] == '"')
		return quoted_take(rest, a, out, err);
	for (; i < rest->len && (depth || !is_blank(rest->p[i])); i++) {
		char c = rest->p[i];
		if (c == '\\' && i + 1 < rest->len)
			i++;
		else if (c == '{' && (depth || (i && rest->p[i - 1] == '$')))
			depth++;
		else if (c == '}' && depth)
			depth--;
	}
	if (i > rest->len)
		i = rest->len;
	*out = str_sub(*rest, 0, i);
	*rest = str_from(*rest, i);
	return ST_OK;
}

static enum status options_parse(struct str rest, struct arena *a, struct manual_options *out, struct err *err)
{
	const struct {
		const char *word;
		bool *flag;
	} words[] = {
		{ "randomize", &out->randomize }, { "no_randomize", &out->no_randomize }, { "byname", &out->byname }, { "bydns", &out->bydns },
		{ "ipv4_only", &out->ipv4_only }, { "ipv4_prefer", &out->ipv4_prefer },
	};

	for (;;) {
		struct str word;
		size_t i = 0;
		enum status st = word_take(&rest, a, &word, err);
		if (st != ST_OK)
			return st;
		if (!word.len)
			break;
		while (i < sizeof words / sizeof *words && !str_is(word, words[i].word))
			i++;
		if (i < sizeof words / sizeof *words)
			*words[i].flag = true;
		else if (out->transport.len)
			return err_set(err, ST_ERROR, "\"%.*s\": a transport was named already (%.*s)", STR_FMT(word), STR_FMT(out->transport));
		else
			out->transport = word;
	}
	if (out->byname && out->bydns)
		return err_set(err, ST_ERROR, "byname and bydns exclude each other");
	if (out->randomize && out->no_randomize)
		return err_set(err, ST_ERROR, "randomize and no_randomize exclude each other");
	return ST_OK;
}

enum status manual_data_parse(struct str data, struct arena *a, struct str *hosts_out, struct manual_options *out, struct err *err)
{
	enum status st;

	*out = (struct manual_options){ .transport = STR_NULL };
	st = word_take(&data, a, hosts_out, err);
	return st == ST_OK ? options_parse(data, a, out, err) : st;
}

enum status manual_rule_parse(struct str rule, struct arena *a, struct manual_rule *out, struct err *err)
{
	enum status st;

	*out = (struct manual_rule){ .pattern = STR_NULL };
	st = word_take(&rule, a, &out->pattern, err);
	if (st == ST_OK && !out->pattern.len)
		st = err_set(err, ST_ERROR, "the rule is empty");
	return st == ST_OK ? manual_data_parse(rule, a, &out->hosts, &out->options, err) : st;
}
