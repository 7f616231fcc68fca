/* SPDX-License-Identifier: ISC */
/* Files that the configuration names, but that the daemons will not see: told when it is read, not by the first mail. A path outside
 * of lookup_directories or store_directories does not exist for those who need it, whatever root sees. */
#include <string.h>

#include "common/lang/acl_row.h"
#include "common/lang/lang.h"
#include "common/lang/lang_list.h"
#include "common/lang/lookup.h"
#include "common/tls/tls.h"

bool lang_path_covered(struct str directories, struct str path, struct arena *a)
{
	struct lang_split split = LANG_SPLIT(directories);
	struct str dir;

	while (directories.len && lang_split_next(&split, a, &dir)) {
		while (dir.len && dir.p[dir.len - 1] == '/')
			dir.len--;
		if (!dir.len || (path.len >= dir.len && !memcmp(path.p, dir.p, dir.len) && (path.len == dir.len || path.p[dir.len] == '/')))
			return true;
	}
	return false;
}

/* What is known of a path before it is expanded: up to the last slash before the first $. */
static struct str path_constant(struct str path)
{
	for (uint32_t i = 0; i < path.len; i++)
		if (path.p[i] == '$' || path.p[i] == '\\') {
			ptrdiff_t slash = str_rfind(str_sub(path, 0, i), '/');

			return str_sub(path, 0, slash > 0 ? (size_t)slash : 0);
		}
	return path;
}

/* The word that ends at `end`: "partial-lsearch*,ret=full" in "${lookup{$x}partial-lsearch*,ret=full{/file}}" and in lists; without what
 * stands before an "@" as in "*@lsearch". */
static struct str word_before(struct str text, uint32_t end)
{
	uint32_t from;

	while (end && ascii_is_space(text.p[end - 1]))
		end--;
	for (from = end; from && !ascii_is_space(text.p[from - 1]) && !strchr("{}:;!<|", text.p[from - 1]); from--)
		if (text.p[from - 1] == '@' && from < end && ascii_is_alnum(text.p[from]))
			break;
	return str_sub(text, from, end - from);
}

/* Does a word before a brace or semicolon say that a file of the router follows? */
static bool word_opens(struct str word, bool brace)
{
	struct lookup_spec spec;
	struct err err = ERR_INIT;
	ptrdiff_t dash = str_begins(word, "net") ? str_find(word, '-') : -1;

	if (brace && (str_is(word, "readfile") || str_is(word, "exists")))
		return true;
	if (!lookup_type_find(word) && dash > 0) /* net24-lsearch, net-lsearch */
		word = str_from(word, (uint32_t)dash + 1);
	return word.len && lookup_spec_parse(word, &spec, &err) == ST_OK && spec.type->flags & (LOOKUP_FILE | LOOKUP_DIR | LOOKUP_OPTFILE);
}

/* Does a file of the router begin at text[at], a slash? */
static bool path_begins(struct str text, uint32_t at)
{
	uint32_t before = at;

	if (at >= 6 && !memcmp(text.p + at - 6, ",file=", 6))
		return true;
	while (before && ascii_is_space(text.p[before - 1]))
		before--;
	if (!before || (text.p[before - 1] != '{' && text.p[before - 1] != ';'))
		return false;
	before -= text.p[before - 1] == ';' && before > 1 && text.p[before - 2] == ';' ? 2 : 1; /* doubled: the list's separator is ; */
	return word_opens(word_before(text, before), text.p[before] == '{');
}

/* One warning for a file, wherever it is named first. */
static void file_warn(struct conf *conf, struct conf_place place, const char *who, struct str path, const char *option, struct arena *a)
{
	struct str text = str_printf(a, "%s will not see %.*s: name its directory in %s", who, STR_FMT(path), option);

	for (uint32_t i = 0; i < conf->n_problems; i++)
		if (str_eq(conf->problems[i].text, text))
			return;
	conf_problem_add(conf, CONF_WARNING, place, "%.*s", STR_FMT(text));
}

void lang_paths_check(struct conf *conf, struct conf_place place, struct str text)
{
	const struct conf_opts_main *o = &conf->main;
	struct arena scratch = ARENA_INIT;

	for (uint32_t i = 0; i < text.len; i++) {
		struct str path;
		uint32_t n = 0;

		if (text.p[i] != '/' || !path_begins(text, i))
			continue;
		while (i + n < text.len && !ascii_is_space(text.p[i + n]) && !strchr("{}:;,", text.p[i + n]))
			n++;
		path = path_constant(str_sub(text, i, n));
		if (path.len > 1 && !lang_path_covered(o->lookup_directories.text, path, &scratch) && !lang_path_covered(o->sqlite_writable.text, path, &scratch) &&
		    !lang_path_covered(o->lmdb_writable.text, path, &scratch))
			file_warn(conf, place, "router", path, "lookup_directories", &scratch);
		i += n ? n - 1 : 0;
	}
	arena_clear(&scratch);
}

/* Files and words of TLS: where the value is known before it is expanded. */
void lang_keys_check(struct conf *conf, const struct conf_option *option, const struct conf_text *text)
{
	static const char *const options[] = { "tls_certificate", "tls_privatekey", "tls_ocsp_file", "tls_crl", "tls_dhparam", "tls_verify_certificates" };
	struct lang_split split = LANG_SPLIT(text->text);
	struct arena scratch = ARENA_INIT;
	struct err err = ERR_INIT;
	bool files = false;
	struct str path;

	for (size_t i = 0; i < sizeof options / sizeof *options; i++)
		files |= !strcmp(option->name, options[i]);
	while (files && str_find(text->text, '$') < 0 && lang_split_next(&split, &scratch, &path)) {
		if (str_begins(path, "PEM ") || str_begins(path, "DER "))
			path = str_trim(str_from(path, 4));
		if (str_begins(path, "/") && !lang_path_covered(conf->main.tls_directories.text, path, &scratch) &&
		    !lang_path_covered(STR_LIT("/etc/ssl/certs"), path, &scratch))
			file_warn(conf, text->place, "keyd", path, "tls_directories", &scratch);
	}
	arena_clear(&scratch);
	if (str_find(text->text, '$') < 0 && str_find(text->text, '\\') < 0 && tls_text_check(option->name, text->text, &err))
		conf_problem_add(conf, CONF_WARNING, text->place, "no TLS with %s = %.*s: %s", option->name, STR_FMT(str_sub(text->text, 0, 100)), err.text);
}

void lang_store_check(struct conf *conf, const struct conf_option *option, const char *owner, const struct conf_text *text)
{
	const struct conf_table *t = &conf_table_transport_appendfile;
	struct arena scratch = ARENA_INIT;
	struct str path = path_constant(str_trim(text->text));

	if (option >= t->rows && option < t->rows + t->n && (!strcmp(option->name, "file") || !strcmp(option->name, "directory")) && path.len > 1 &&
	    path.p[0] == '/' && !lang_path_covered(conf->main.store_directories.text, path, &scratch))
		conf_problem_add(conf, CONF_WARNING, text->place, "%s: option \"%s\": local will not see %.*s: name it, or a directory above it, in store_directories",
			owner, option->name, STR_FMT(path));
	arena_clear(&scratch);
}
