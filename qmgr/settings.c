/* SPDX-License-Identifier: ISC */
#include "qmgr/settings.h"

#include <string.h>

#include "common/base/load.h"

struct settings *settings_new(void)
{
	struct settings *s = mem_new(sizeof *s);

	s->host = STR_LIT("localhost");
	s->qualify_domain = STR_LIT("localhost");
	s->return_body = s->extra_info = true;
	s->return_size_max = 100 * 1024;
	s->return_line_max = 998;
	s->n_warn = 1;
	s->warn_at = arena_alloc(&s->arena, sizeof *s->warn_at);
	s->warn_at[0] = 24 * 3600;
	s->retry_interval_max = 24 * 3600;
	s->retry_data_expire = 7 * 24 * 3600;
	s->timeout_frozen = -1;
	s->ignore_bounce_errors = 10 * 7 * 24 * 3600;
	s->auto_thaw = -1;
	s->queue_interval = 30 * 60;
	s->load_max = LOAD_NO_LIMIT;
	s->space_kb = 10 * 1024;
	s->inodes = 100;
	s->concurrency_first = 10;
	s->concurrency_max = 50;
	s->remote_max = 1000;
	s->local_max = 128;
	log_selector_parse(STR_NULL, &s->log, NULL);
	return s;
}

void settings_free(struct settings *s)
{
	if (!s)
		return;
	arena_clear(&s->arena);
	mem_free(s);
}
