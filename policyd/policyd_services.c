/* SPDX-License-Identifier: ISC */
/* What the language asks of the world, asked of router. */
#include <string.h>

#include "common/base/clock.h"
#include "common/lang/lookup.h"
#include "policyd/policyd.h"
#include "policyd/scan.h"

/* A status from another daemon. */
static enum status status_of(uint64_t status, struct str text, struct err *err)
{
	enum status st = status <= ST_ERROR ? (enum status)status : ST_ERROR;

	return st ? err_set(err, st, "%.*s", STR_FMT(str_sub(text, 0, ERR_TEXT_MAX / 2))) : ST_OK;
}

/* Answers come into the worker's arena, which is where the evaluation's results are too. */
static enum status service_lookup(void *ctx, struct arena *a, const struct ipc_lookup_ask *ask, struct ipc_lookup_answer *out, struct err *err)
{
	struct policyd *p = ctx;
	enum status st = worker_call(p->worker, &ipc_type_lookup_ask, ask, NULL, 0, &ipc_type_lookup_answer, out, POLICYD_ASK_MS, err);

	(void)a;
	return st ? st : status_of(out->status, out->value, err);
}

static enum status service_name(void *ctx, struct arena *a, struct str ip, struct ipc_name_answer *out, struct err *err)
{
	struct policyd *p = ctx;
	struct ipc_name_ask ask = { .ip = ip };
	enum status st = worker_call(p->worker, &ipc_type_name_ask, &ask, NULL, 0, &ipc_type_name_answer, out, POLICYD_ASK_MS, err);

	(void)a;
	return st ? st : status_of(out->status, out->text, err);
}

static enum status service_host(void *ctx, struct arena *a, struct str name, const char *type, struct ipc_host_answer *out, struct err *err)
{
	struct policyd *p = ctx;
	struct ipc_host_ask ask = { .name = name, .type = str_of(type) };
	enum status st;

	(void)a;
	if (name.len > 255)
		return err_set(err, ST_FAIL, "no such host");
	st = worker_call(p->worker, &ipc_type_host_ask, &ask, NULL, 0, &ipc_type_host_answer, out, POLICYD_ASK_MS, err);
	return st ? st : status_of(out->status, out->text, err);
}

static enum status service_verify(void *ctx, struct arena *a, const struct ipc_verify_ask *ask, struct ipc_verify_answer *out, struct err *err)
{
	struct policyd *p = ctx;
	enum status st;

	(void)a;
	if (ask->addr.len > 1024 || ask->options.len > 1024)
		return err_set(err, ST_ERROR, "address or options too long to be verified");
	worker_allow(p->worker, POLICYD_VERIFY_MS); /* a server may be called, a router may ask a program */
	st = worker_call(p->worker, &ipc_type_verify_ask, ask, NULL, 0, &ipc_type_verify_answer, out, POLICYD_VERIFY_MS, err);
	return st ? st : status_of(out->status, out->log_text.len ? out->log_text : out->text, err);
}

static enum status service_file(void *ctx, struct arena *a, struct str path, struct lang_file *out, struct err *err)
{
	return policyd_file_get(ctx, a, path, out, err);
}

static enum status service_stat(void *ctx, struct arena *a, struct str path, struct str *out, struct err *err)
{
	struct policyd *p = ctx;
	struct ipc_lookup_ask ask = { .type = STR_LIT(LOOKUP_ASK_STAT), .file = path };
	struct ipc_lookup_answer answer;
	enum status st = service_lookup(p, a, &ask, &answer, err);

	*out = answer.value;
	out->tainted = false;
	return st;
}

static bool service_ip_is_local(void *ctx, struct str text)
{
	struct policyd *p = ctx;
	struct ip ip;

	if (!ip_parse_mapped(text, &ip))
		return false;
	for (unsigned i = 0; i < p->n_addresses; i++)
		if (p->addresses[i].len == ip.len && !memcmp(p->addresses[i].octets, ip.octets, ip.len))
			return true;
	return false;
}

static enum status service_hint(void *ctx, struct arena *a, const struct ipc_hint_ask *ask, struct ipc_hint_answer *out, struct err *err)
{
	struct policyd *p = ctx;
	enum status st = worker_call(p->worker, &ipc_type_hint_ask, ask, NULL, 0, &ipc_type_hint_answer, out, POLICYD_ASK_MS, err);

	(void)a;
	return st ? st : status_of(out->status, out->text, err);
}

/* Router has it run, for policyd may start nothing; scans and programs of one question share their time. Not asked twice. */
static enum status service_run(void *ctx, struct arena *a, const struct ipc_program_ask *asked, struct ipc_program_answer *out, struct err *err)
{
	struct policyd *p = ctx;
	struct ipc_program_ask ask = *asked;
	uint64_t now = clock_ms();

	(void)a;
	if (!p->worker)
		return err_set(err, ST_ERROR, "programs can't be run here");
	if (now + 1000 > p->scans_until_ms)
		return err_set(err, ST_DEFER, "programs and scans took too long, all together");
	if (ask.limit_s * 1000 > p->scans_until_ms - now)
		ask.limit_s = (p->scans_until_ms - now) / 1000;
	worker_allow(p->worker, ask.limit_s * 1000 + 2 * POLICYD_ASK_MS);
	return worker_call_once(p->worker, &ipc_type_program_ask, &ask, &ipc_type_program_answer, out, (int)ask.limit_s * 1000 + POLICYD_RUN_MORE_MS, err);
}

static void service_log(void *ctx, unsigned targets, struct str text)
{
	struct policyd *p = ctx;

	if (p->log_id.len)
		log_line(p->worker->log, targets, "%.*s %.*s", STR_FMT(p->log_id), STR_FMT(text));
	else
		log_text(p->worker->log, targets, text);
}

void policyd_services_init(struct policyd *p, struct lang_services *out)
{
	*out = (struct lang_services){ p, service_lookup, service_name, service_host, service_verify, service_file, service_stat, service_ip_is_local,
		service_log, service_hint, policyd_scan, service_run };
}
