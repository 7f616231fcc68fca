/* SPDX-License-Identifier: ISC */
/* Defaults that depend on the machine, and what is expanded once at start: by constants alone, as master knows no more of the
 * language. */
#include "common/conf/reader.h"

#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>

/* The system's name; if it has one part only, its canonical form (specification, primary_hostname). */
static const char *system_name(struct arena *a)
{
	struct utsname names;
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_CANONNAME }, *found = NULL;
	const char *name;

	if (uname(&names) || !names.nodename[0])
		return NULL;
	name = arena_strdup(a, names.nodename);
	if (!strchr(name, '.') && !getaddrinfo(name, NULL, &hints, &found)) {
		if (found && found->ai_canonname && strchr(found->ai_canonname, '.') && strlen(found->ai_canonname) < 256)
			name = arena_strdup(a, found->ai_canonname);
		freeaddrinfo(found);
	}
	return name;
}

static void fall_back(struct conf_text *text, struct str value)
{
	if (!text->text.len)
		text->text = value;
}

void conf_machine_defaults(struct conf *conf)
{
	if (!conf->main.primary_hostname.text.len) {
		const char *name = system_name(&conf->arena);
		if (name)
			conf->main.primary_hostname.text = str_of(name);
		else
			conf_problem_add(conf, CONF_ERROR, (struct conf_place){ 0, 0 }, "the system has no name: set primary_hostname");
	}
	fall_back(&conf->main.qualify_domain, conf->main.primary_hostname.text);
	fall_back(&conf->main.qualify_recipient, conf->main.qualify_domain.text);
	fall_back(&conf->main.smtp_active_hostname, conf->main.primary_hostname.text);
}

/* ---- expanded once ---- */

/* "$name" or "${name}" off the front of s; the constant's value, p NULL if it is none. */
static struct str constant_take(const struct conf *conf, struct str *s)
{
	const struct {
		const char *name;
		struct str value;
	} rows[] = {
		{ "primary_hostname", conf->main.primary_hostname.text },
		{ "qualify_domain", conf->main.qualify_domain.text },
		{ "qualify_recipient", conf->main.qualify_recipient.text },
		{ "spool_directory", conf->main.spool_directory.text },
		{ "config_file", conf->files[0] },
		{ "config_dir", str_sub(conf->files[0], 0, (size_t)(str_rfind(conf->files[0], '/') + 1)) },
	};
	struct str rest = str_from(*s, 1), name;
	bool braces = rest.len && *rest.p == '{';
	uint32_t n = 0;

	if (braces)
		rest = str_from(rest, 1);
	while (n < rest.len && (ascii_is_alnum(rest.p[n]) || rest.p[n] == '_'))
		n++;
	name = str_sub(rest, 0, n);
	rest = str_from(rest, n);
	if (braces && (!rest.len || *rest.p != '}'))
		return STR_NULL;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (str_is(name, rows[i].name) && rows[i].value.p) {
			*s = str_from(rest, braces);
			return rows[i].value;
		}
	return STR_NULL;
}

static void text_expand(struct conf *conf, const struct conf_option *o, struct conf_text *text)
{
	struct buf out = BUF_LIMIT(CONF_LINE_MAX);
	struct str s = text->text;
	struct err err = ERR_INIT;

	if (str_find(s, '$') < 0)
		return;
	while (s.len) {
		struct str value = STR_NULL;
		if (*s.p == '$')
			value = constant_take(conf, &s);
		if (!value.p && *s.p == '$' && !(o->flags & (F_EXP_P | F_EXP_R))) {
			conf_problem_add(conf, CONF_ERROR, text->place,
				"option \"%s\": is read at start, when only $primary_hostname, $qualify_domain, $qualify_recipient, $spool_directory, "
				"$config_file and $config_dir are known", o->name);
			buf_clear(&out);
			return;
		}
		if (!value.p) {
			value = str_sub(s, 0, 1);
			s = str_from(s, 1);
		}
		buf_add_str(&out, value);
	}
	if (out.full)
		err_set(&err, ST_ERROR, "longer than %d octets when expanded", CONF_LINE_MAX);
	else if (conf_text_check(o, buf_str(&out), &err) == ST_OK)
		text->text = str_dup(&conf->arena, buf_str(&out));
	if (err.text[0])
		conf_problem_add(conf, CONF_ERROR, text->place, "option \"%s\": value \"%.*s\": %s", o->name, STR_FMT(str_sub(buf_str(&out), 0, 80)),
			err.text);
	buf_clear(&out);
}

void conf_constants_expand(struct conf *conf)
{
	/* first: the others may name it */
	text_expand(conf, &conf_table_main.rows[CONF_INDEX(main, spool_directory)], &conf->main.spool_directory);
	for (const struct conf_option *o = conf_table_main.rows; o->name; o++) {
		struct conf_text *text = conf_field(o, &conf->main);
		if (text && o->flags & F_EXP_M && o->kind >= CONF_TEXT)
			text_expand(conf, o, text);
	}
}
