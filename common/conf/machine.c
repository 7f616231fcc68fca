/* SPDX-License-Identifier: ISC */
/* Defaults that depend on the machine. */
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
