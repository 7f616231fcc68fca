/* SPDX-License-Identifier: ISC */
/* check_proxy.c - hosts_proxy that has this machine: programs here that send mail over loopback would need a header, too. */
#include "common/conf/read.h"
#include "common/conf/reader.h"

static bool is_loopback(struct str item)
{
	return str_begins(item, "127.") || str_is(item, "::1");
}

void conf_check_proxy(struct conf *conf)
{
	const struct conf_text *text = &conf->main.hosts_proxy;
	struct conf_list_walk walk = CONF_LIST_WALK(text->text);
	struct arena a = ARENA_INIT;
	bool covered = false, excluded = false;
	struct str item;

	while (!covered && !excluded && str_find(text->text, '$') < 0 && conf_list_next(&walk, &a, &item)) {
		covered = str_is(item, "*") || is_loopback(item);
		excluded = str_begins(item, "!") && is_loopback(str_trim(str_from(item, 1)));
	}
	arena_clear(&a);
	if (covered)
		conf_problem_add(conf, CONF_WARNING, text->place, "option \"hosts_proxy\": programs of this machine that connect to 127.0.0.1 or ::1 must send "
			"a PROXY header, too, and get 503 without; put ! 127.0.0.0/8 in front, unless the proxy is here");
}
