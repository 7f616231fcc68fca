/* SPDX-License-Identifier: ISC */
/* pipe_options.c - a plan for the pipe transport, read and checked. */
#include <string.h>

#include "common/conf/option.h"
#include "local/local_pipe.h"
#include "local/local_text.h"

static void text_take(const struct conf_opts_transport *g, const struct conf_opts_transport_pipe *o, struct local_options *t)
{
	t->bsmtp = o->use_bsmtp;
	t->crlf = o->use_crlf;
	t->has_prefix = o->message_prefix.set || o->use_bsmtp;
	t->message_prefix = o->message_prefix.text;
	t->message_suffix = o->message_suffix.set || o->use_bsmtp ? o->message_suffix.text : STR_LIT("\n");
	t->check_string = o->check_string.text;
	t->escape_string = o->escape_string.text;
	if (!o->check_string.set || !o->escape_string.set)
		t->check_string = STR_NULL;
	if (t->bsmtp) {
		t->check_string = STR_LIT(".");
		t->escape_string = STR_LIT("..");
	}
	t->headers_only = g->headers_only;
	t->body_only = g->body_only;
	t->return_path_add = g->return_path_add;
	t->delivery_date_add = g->delivery_date_add;
	t->envelope_to_add = g->envelope_to_add;
}

static void own_take(const struct conf_opts_transport_pipe *o, struct pipe_options *out)
{
	out->path = o->path.text;
	out->temp_errors = o->temp_errors.text;
	out->freeze_exec_fail = o->freeze_exec_fail;
	out->freeze_signal = o->freeze_signal;
	out->ignore_status = o->ignore_status;
	out->log_defer = o->log_defer_output;
	out->log_fail = o->log_fail_output;
	out->log_output = o->log_output;
	out->return_output = o->return_output;
	out->return_fail_output = o->return_fail_output;
	out->permit_coredump = o->permit_coredump;
	out->restrict_to_path = o->restrict_to_path;
	out->timeout_defer = o->timeout_defer;
	out->max_output = (uint64_t)o->max_output;
	out->timeout_s = o->timeout;
	out->umask = (mode_t)(o->umask & 0777);
}

enum status pipe_options_read(const struct ipc_plan *plan, struct arena *a, struct pipe_options *out, struct err *err)
{
	struct conf_opts_transport_pipe own;
	struct conf_opts_transport generic;

	memset(out, 0, sizeof *out);
	if (!str_is(plan->driver, "pipe"))
		return err_set(err, ST_ERROR, "driver %.*s is not delivered here", STR_FMT(plan->driver));
	if (local_plan_options(plan, &conf_table_transport_pipe, &own, &generic, a, err))
		return err->status;
	text_take(&generic, &own, &out->text);
	own_take(&own, out);
	out->transport = plan->transport;
	out->argv = plan->argv;
	out->environment = plan->environment;
	out->directory = plan->directory;
	if (!out->argv.n || !out->argv.v[0].len)
		return err_set(err, ST_ERROR, "transport %.*s: there is no command", STR_FMT(plan->transport));
	if (out->text.check_string.len > LOCAL_CHECK_MAX)
		return err_set(err, ST_ERROR, "transport %.*s: check_string is too long", STR_FMT(plan->transport));
	return ST_OK;
}
