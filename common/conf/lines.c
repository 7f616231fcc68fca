/* SPDX-License-Identifier: ISC */
/* From files to logical lines: macros, conditional skips, inclusion, comments, continuation (specification, sections 6.2 to
 * 6.10). All of it but continuation works on physical lines, in this order: macros are replaced, then .ifdef and its family
 * are obeyed, then comments are dropped, then .include. */
#include "common/conf/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct input {
	struct str text;
	uint32_t at, file, line; /* line: that of the physical line just taken */
	unsigned ifs_before;     /* conditions open when it began */
	struct str dir;          /* of the file, with its slash */
};

struct condition {
	bool taken;              /* a branch of it has been read, or is being read */
	bool skipping;           /* the present branch is skipped */
	bool outer_skipping;
	bool had_else;
	struct conf_place place;
};

struct conf_lines {
	struct conf *conf;
	const struct conf_source *source;
	struct arena *a;
	struct input stack[CONF_INCLUDE_DEPTH_MAX];
	unsigned depth;
	struct condition ifs[CONF_IF_DEPTH_MAX];
	unsigned n_ifs;
	struct conf_macro *macros;
	uint32_t n_macros;
	struct hash predefined;
	struct buf line, phys, spare;
	uint64_t total;
	bool stop;
};

struct conf_lines *conf_lines_new(struct conf *conf, const struct conf_source *source)
{
	struct conf_lines *l = mem_new(sizeof *l);

	l->conf = conf;
	l->source = source;
	l->a = &conf->arena;
	l->line.max = l->phys.max = l->spare.max = CONF_LINE_MAX;
	conf_predefined_fill(&l->predefined, l->a, source->families);
	return l;
}

void conf_lines_free(struct conf_lines *l)
{
	l->conf->macros = l->macros;
	l->conf->n_macros = l->n_macros;
	hash_clear(&l->predefined);
	buf_clear(&l->line);
	buf_clear(&l->phys);
	buf_clear(&l->spare);
	mem_free(l);
}

/* ---- files ---- */

static struct conf_place here(const struct conf_lines *l)
{
	const struct input *in = &l->stack[l->depth ? l->depth - 1 : 0];

	return (struct conf_place){ in->file, in->line };
}

static uint32_t file_number(struct conf *conf, struct str name)
{
	for (uint32_t i = 0; i < conf->n_files; i++)
		if (str_eq(conf->files[i], name))
			return i;
	conf->files = conf_array_grow(&conf->arena, conf->files, conf->n_files, sizeof *conf->files);
	conf->files[conf->n_files] = str_dup(&conf->arena, name);
	return conf->n_files++;
}

/* Who else could change the file could become whoever the daemons run as. */
static void permissions_check(struct conf_lines *l, const char *path, const struct stat *st, struct conf_place place)
{
	if (st->st_mode & S_IWOTH)
		conf_problem_add(l->conf, CONF_ERROR, place, "%s: everybody may write to this file: chmod o-w it", path);
	else if (geteuid() == 0 && st->st_uid != 0)
		conf_problem_add(l->conf, CONF_WARNING, place, "%s: owned by uid %u, who can so change what runs as root: chown it to root",
			path, (unsigned)st->st_uid);
	else if (geteuid() == 0 && st->st_mode & S_IWGRP && st->st_gid != 0)
		conf_problem_add(l->conf, CONF_WARNING, place, "%s: group %u may write to this file: chmod g-w it", path, (unsigned)st->st_gid);
}

/* ST_FAIL: it does not exist. */
static enum status file_read(struct conf_lines *l, const char *path, struct conf_place place, struct str *text_out, struct err *err)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	enum status status = ST_ERROR;
	char *text;
	size_t got = 0;

	if (fd < 0)
		return err_set(err, errno == ENOENT || errno == ENOTDIR ? ST_FAIL : ST_ERROR, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		status = err_set(err, ST_ERROR, "%s: not a regular file", path);
	} else if ((uint64_t)st.st_size > CONF_TOTAL_MAX - l->total) {
		status = err_set(err, ST_ERROR, "%s: the configuration is larger than %d octets", path, CONF_TOTAL_MAX);
	} else {
		permissions_check(l, path, &st, place);
		text = arena_alloc(l->a, (size_t)st.st_size + 1);
		while (got < (size_t)st.st_size) {
			ssize_t n = read(fd, text + got, (size_t)st.st_size - got);
			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0) {
				status = err_set(err, ST_ERROR, "%s: %s", path, strerror(errno));
				goto done;
			}
			if (!n)
				break;
			got += (size_t)n;
		}
		*text_out = str_make(text, got);
		l->total += got;
		status = ST_OK;
	}
done:
	close(fd);
	return status;
}

static void input_push(struct conf_lines *l, struct str name, struct str text)
{
	ptrdiff_t slash = str_rfind(name, '/');

	l->stack[l->depth++] = (struct input){
		.text = text, .file = file_number(l->conf, name), .ifs_before = l->n_ifs, .dir = str_sub(name, 0, (size_t)(slash + 1)),
	};
}

enum status conf_lines_open(struct conf_lines *l, struct err *err)
{
	struct str text = str_make(l->source->text, l->source->text_len), name = str_of(l->source->path ? l->source->path : "configuration");
	enum status st = ST_OK;

	file_number(l->conf, name);
	if (!l->source->text)
		st = file_read(l, l->source->path, (struct conf_place){ 0, 0 }, &text, err);
	else if (text.len > CONF_TOTAL_MAX)
		st = err_set(err, ST_ERROR, "the configuration is larger than %d octets", CONF_TOTAL_MAX);
	if (st != ST_OK)
		return st == ST_FAIL ? ST_ERROR : st;
	for (uint32_t i = 0; i < l->source->n_defines; i++) {
		struct str line = str_printf(l->a, "%s = %s", l->source->defines[i].name, l->source->defines[i].value);
		uint32_t n = l->n_macros;
		if (!conf_line_is_macro(line))
			conf_problem_add(l->conf, CONF_ERROR, (struct conf_place){ 0, 0 }, "-D %s: not the name of a macro: it begins with a capital",
				l->source->defines[i].name);
		else
			conf_lines_define(l, line, (struct conf_place){ 0, 0 });
		if (l->n_macros > n)
			l->macros[n].fixed = true;
	}
	input_push(l, name, text);
	return ST_OK;
}

static void include(struct conf_lines *l, struct str rest, bool if_exists)
{
	struct conf_place place = here(l);
	struct err err = ERR_INIT;
	struct str name = str_trim(rest), text;
	enum status st;

	if (name.len >= 2 && *name.p == '"' && name.p[name.len - 1] == '"')
		name = str_sub(name, 1, name.len - 2);
	if (!name.len || name.len > 4095 || str_has_ctl(name)) {
		conf_problem_add(l->conf, CONF_ERROR, place, ".include: the name of a file must follow");
		return;
	}
	if (l->source->isolated) {
		conf_problem_add(l->conf, CONF_ERROR, place, ".include is not permitted here");
		return;
	}
	if (*name.p != '/')
		name = str_printf(l->a, "%.*s%.*s", STR_FMT(l->stack[l->depth - 1].dir), STR_FMT(name));
	if (l->depth == CONF_INCLUDE_DEPTH_MAX) {
		conf_problem_add(l->conf, CONF_ERROR, place, ".include %.*s: more than %d files deep: does a file include itself?", STR_FMT(name),
			CONF_INCLUDE_DEPTH_MAX);
		l->stop = true;
		return;
	}
	if (l->conf->n_files >= CONF_FILES_MAX) {
		conf_problem_add(l->conf, CONF_ERROR, place, ".include %.*s: more than %d files", STR_FMT(name), CONF_FILES_MAX);
		l->stop = true;
		return;
	}
	st = file_read(l, str_cstr(l->a, name), place, &text, &err);
	if (st == ST_OK)
		input_push(l, name, text);
	else if (st != ST_FAIL || !if_exists)
		conf_problem_add(l->conf, CONF_ERROR, place, "%s: %s", if_exists ? ".include_if_exists" : ".include", err.text);
}

/* The next physical line, without its end; an unfinished condition of a file that ends is a problem. False at the end. */
static bool physical_take(struct conf_lines *l, struct str *out)
{
	while (l->depth && !l->stop) {
		struct input *in = &l->stack[l->depth - 1];
		if (in->at < in->text.len) {
			struct str rest = str_from(in->text, in->at);
			ptrdiff_t end = str_find(rest, '\n');
			*out = end < 0 ? rest : str_sub(rest, 0, (size_t)end);
			in->at += out->len + 1;
			in->line++;
			return true;
		}
		for (; l->n_ifs > in->ifs_before; l->n_ifs--)
			conf_problem_add(l->conf, CONF_ERROR, l->ifs[l->n_ifs - 1].place, ".ifdef without an .endif in the same file");
		l->depth--;
	}
	return false;
}

/* ---- macros ---- */

bool conf_line_is_macro(struct str line)
{
	struct str name, rest = line;

	if (!line.len || *line.p < 'A' || *line.p > 'Z')
		return false;
	name = conf_name_take(&rest);
	return name.len && rest.len && *rest.p == '=';
}

void conf_lines_define(struct conf_lines *l, struct str line, struct conf_place place)
{
	struct str rest = line, name = conf_name_take(&rest);
	bool again = str_begins(rest, "==");
	struct str value = str_trim(str_from(rest, again ? 2 : 1));
	struct conf_macro *old = NULL;

	for (uint32_t i = 0; i < l->n_macros; i++)
		if (str_eq(l->macros[i].name, name))
			old = &l->macros[i];
	if (old && old->fixed)
		return;
	if (old && !again) {
		conf_problem_add(l->conf, CONF_ERROR, place, "macro \"%.*s\" is defined already: write == to give it another value", STR_FMT(name));
		return;
	}
	if (!old && again) {
		conf_problem_add(l->conf, CONF_ERROR, place, "macro \"%.*s\" is not yet defined: write = for its first value", STR_FMT(name));
		return;
	}
	if (old) {
		old->value = str_dup(l->a, value);
		return;
	}
	if (name.len > CONF_NAME_MAX || l->n_macros >= CONF_MACROS_MAX) {
		conf_problem_add(l->conf, CONF_ERROR, place, "macro \"%.*s\": more than %d octets in a name, or more than %d macros", STR_FMT(name),
			CONF_NAME_MAX, CONF_MACROS_MAX);
		return;
	}
	for (uint32_t i = 0; i < l->n_macros; i++)
		if (str_find_str(name, l->macros[i].name) >= 0) {
			conf_problem_add(l->conf, CONF_ERROR, place,
				"macro \"%.*s\" can never be used: its name contains that of the earlier macro \"%.*s\"", STR_FMT(name),
				STR_FMT(l->macros[i].name));
			return;
		}
	l->macros = conf_array_grow(l->a, l->macros, l->n_macros, sizeof *l->macros);
	l->macros[l->n_macros++] = (struct conf_macro){ str_dup(l->a, name), str_dup(l->a, value), false };
}

static bool is_name_char(char c)
{
	return ascii_is_alnum(c) || c == '_';
}

/* Replaces predefined macros: whole words that begin with an underscore. */
static bool replace_predefined(struct conf_lines *l, size_t from)
{
	bool found = false;
	struct buf *b = &l->phys;

	for (size_t i = from; i < b->len; i++) {
		size_t end = i, n;
		const char *value;

		if (b->p[i] != '_' || (i && is_name_char(b->p[i - 1])))
			continue;
		while (end < b->len && is_name_char(b->p[end]))
			end++;
		value = hash_get(&l->predefined, str_make(b->p + i, end - i));
		if (value) {
			n = strlen(value);
			buf_room(b, n);
			memmove(b->p + i + n, b->p + end, b->len - end);
			memcpy(b->p + i, value, n);
			b->len = b->len - (end - i) + n;
			i += n - 1;
			found = true;
		} else {
			i = end - 1;
		}
	}
	return found;
}

static bool replace_one(struct conf_lines *l, const struct conf_macro *m, size_t from)
{
	struct str text = str_make(l->phys.p + from, l->phys.len - from);
	ptrdiff_t at = str_find_str(text, m->name);
	struct buf swap;

	if (at < 0)
		return false;
	buf_reset(&l->spare);
	buf_add(&l->spare, l->phys.p, from);
	for (; at >= 0; at = str_find_str(text, m->name)) {
		buf_add(&l->spare, text.p, (size_t)at);
		buf_add_str(&l->spare, m->value);
		text = str_from(text, (size_t)at + m->name.len);
	}
	buf_add_str(&l->spare, text);
	swap = l->phys;
	l->phys = l->spare;
	l->spare = swap;
	return true;
}

/* Replaces all macros in the physical line; true if there was one. The name that a line defines stays. */
static bool macros_replace(struct conf_lines *l, bool line_begins)
{
	struct str line = buf_str(&l->phys), trimmed = conf_skip(line);
	size_t from = 0;
	bool found;

	if (!line.len)
		return false;
	if (line_begins && conf_line_is_macro(trimmed)) {
		struct str rest = trimmed;
		conf_name_take(&rest);
		from = line.len - rest.len;
	}
	found = replace_predefined(l, from);
	for (uint32_t i = 0; i < l->n_macros; i++)
		found |= replace_one(l, &l->macros[i], from);
	return found;
}

/* ---- conditions ---- */

static bool skipping(const struct conf_lines *l)
{
	return l->n_ifs && l->ifs[l->n_ifs - 1].skipping;
}

static void condition_begin(struct conf_lines *l, bool truth)
{
	bool outer = skipping(l);

	if (l->n_ifs == CONF_IF_DEPTH_MAX) {
		conf_problem_add(l->conf, CONF_ERROR, here(l), ".ifdef nested more than %d deep", CONF_IF_DEPTH_MAX);
		l->stop = true;
		return;
	}
	l->ifs[l->n_ifs++] = (struct condition){ truth, outer || !truth, outer, false, here(l) };
}

/* A further branch of the open condition. */
static void condition_branch(struct conf_lines *l, const char *word, bool is_else, bool truth)
{
	struct condition *c = l->n_ifs > l->stack[l->depth - 1].ifs_before ? &l->ifs[l->n_ifs - 1] : NULL;

	if (!c || c->had_else) {
		conf_problem_add(l->conf, CONF_ERROR, here(l), c ? "%s after .else" : "%s without an .ifdef in the same file", word);
		return;
	}
	c->skipping = c->outer_skipping || c->taken || !truth;
	c->taken |= truth;
	c->had_else = is_else;
}

/* Obeys a line of the .ifdef family; false if it is none. */
static bool condition_obey(struct conf_lines *l, struct str s, bool found)
{
	static const struct {
		const char *word;
		enum { IF, BRANCH, ELSE, END } what;
		bool negated;
	} rows[] = {
		{ ".ifdef", IF, false }, { ".ifndef", IF, true }, { ".elifdef", BRANCH, false }, { ".elifndef", BRANCH, true },
		{ ".else", ELSE, false }, { ".endif", END, false },
	};
	unsigned i = 0;
	uint32_t len = 0;

	while (len < s.len && !ascii_is_space(s.p[len]))
		len++;
	while (i < sizeof rows / sizeof *rows && !str_is(str_sub(s, 0, len), rows[i].word))
		i++;
	if (i == sizeof rows / sizeof *rows)
		return false;
	if (rows[i].what == IF) {
		condition_begin(l, found != rows[i].negated);
	} else if (rows[i].what != END) {
		condition_branch(l, rows[i].word, rows[i].what == ELSE, rows[i].what == ELSE || found != rows[i].negated);
	} else if (l->n_ifs > l->stack[l->depth - 1].ifs_before) {
		l->n_ifs--;
	} else {
		conf_problem_add(l->conf, CONF_ERROR, here(l), ".endif without an .ifdef in the same file");
	}
	return true;
}

static bool directive_is(struct str s, const char *word, struct str *rest_out)
{
	size_t n = strlen(word);

	if (!str_begins(s, word) || (s.len > n && !ascii_is_space(s.p[n])))
		return false;
	*rest_out = str_from(s, n);
	return true;
}

/* ---- logical lines ---- */

/* One physical line into l->phys, macros replaced. False: it was a directive or comment, or is skipped. */
static bool physical_work(struct conf_lines *l, struct str raw, bool line_begins, struct str *out)
{
	struct str s = conf_skip(raw), rest;
	bool found;

	if (skipping(l) && (!s.len || *s.p != '.'))
		return false;
	if (memchr(raw.p ? raw.p : "", '\0', raw.len)) {
		conf_problem_add(l->conf, CONF_ERROR, here(l), "the line contains a zero octet");
		return false;
	}
	buf_reset(&l->phys);
	buf_add_str(&l->phys, raw);
	found = macros_replace(l, line_begins);
	if (l->phys.full || l->spare.full) {
		conf_problem_add(l->conf, CONF_ERROR, here(l), "the line is longer than %d octets with its macros replaced", CONF_LINE_MAX);
		l->phys.full = l->spare.full = false;
		l->stop = true;
		return false;
	}
	l->total += l->phys.len;
	if (l->total > CONF_TOTAL_MAX || l->a->used > 2u * CONF_TOTAL_MAX) {
		conf_problem_add(l->conf, CONF_ERROR, here(l), "the configuration is larger than %d octets", CONF_TOTAL_MAX);
		l->stop = true;
		return false;
	}
	s = str_trim(buf_str(&l->phys));
	if (s.len && *s.p == '.' && condition_obey(l, s, found))
		return false;
	if (skipping(l) || (s.len && *s.p == '#'))
		return false;
	if (directive_is(s, ".include", &rest) || directive_is(s, ".include_if_exists", &rest)) {
		include(l, rest, !directive_is(s, ".include", &rest));
		return false;
	}
	*out = s;
	return true;
}

bool conf_lines_next(struct conf_lines *l, struct str *line_out, struct conf_place *place_out)
{
	struct str raw, s;
	bool begins = true;

	buf_reset(&l->line);
	while (physical_take(l, &raw)) {
		bool more;
		if (!physical_work(l, raw, begins, &s))
			continue;
		if (begins && !s.len)
			continue;
		if (begins)
			*place_out = here(l);
		begins = false;
		more = s.len && s.p[s.len - 1] == '\\';
		if (!buf_add_str(&l->line, str_sub(s, 0, s.len - more))) {
			conf_problem_add(l->conf, CONF_ERROR, *place_out, "the line is longer than %d octets with its continuations", CONF_LINE_MAX);
			l->stop = true;
			return false;
		}
		if (more)
			continue;
		*line_out = str_trim(buf_str(&l->line));
		if (line_out->len)
			return true;
		begins = true;
		buf_reset(&l->line);
	}
	if (l->stop || begins)
		return false;
	*line_out = str_trim(buf_str(&l->line)); /* a continuation at the end of the file */
	return line_out->len > 0;
}
