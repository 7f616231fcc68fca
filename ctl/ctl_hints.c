/* SPDX-License-Identifier: ISC */
/* ctl_hints.c - what is remembered of hosts: forgetting their replies to EHLO (early pipelining). */
#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>

#include "common/ipc/channel.h"
#include "common/ipc/enums.h"
#include "ctl/ctl.h"

enum { WAIT_MS = 60000 };

static const char space[] = "ehlo";

/* One question to router, and its answer. */
static const void *asked(struct ctl *ctl, int fd, const struct ipc_type *type, const void *ask, const struct ipc_type *want, struct err *err)
{
	struct ipc_packet packet = { .data = BUF_INIT };
	const void *answer = NULL;
	struct ipc_in in;
	enum status st = ipc_send(fd, type, 1, false, ask, NULL, 0, WAIT_MS, err);

	if (!st)
		st = ipc_recv(fd, &packet, WAIT_MS, err);
	if (!st)
		st = ipc_packet_next(&packet, &ctl->arena, &in, err);
	if (!st && in.type == want)
		answer = in.msg;
	else if (!st)
		err_set(err, ST_DEFER, "no answer from router");
	ipc_packet_clear(&packet);
	return answer;
}

static const struct ipc_hint_answer *hint(struct ctl *ctl, int fd, enum hint_op op, struct str key, struct err *err)
{
	struct ipc_hint_ask ask = { .op = op, .space = str_of(space), .key = key };
	const struct ipc_hint_answer *answer = asked(ctl, fd, &ipc_type_hint_ask, &ask, &ipc_type_hint_answer, err);

	if (answer && answer->status != ST_OK && answer->status != ST_FAIL) {
		err_set(err, ST_DEFER, "%.*s", STR_FMT(answer->text.len ? answer->text : STR_LIT("the hints are out of reach")));
		return NULL;
	}
	return answer;
}

/* The entries of all ports of an address. */
static enum status address_forget(struct ctl *ctl, int fd, struct str ip, json_t *gone, struct err *err)
{
	struct str prefix = str_printf(&ctl->arena, str_find(ip, ':') < 0 ? "%.*s:" : "[%.*s]:", STR_FMT(ip));
	const struct ipc_hint_answer *found = hint(ctl, fd, HINT_LIST, prefix, err);

	for (uint32_t i = 0; found && i < found->n_entries; i++) {
		struct str key = found->entries[i].name;

		if (!hint(ctl, fd, HINT_REMOVE, key, err))
			return ST_DEFER;
		json_array_append_new(gone, json_stringn(key.p, key.len));
	}
	return found ? ST_OK : ST_DEFER;
}

static enum status host_forget(struct ctl *ctl, int fd, const char *host, json_t *gone, struct err *err)
{
	struct ipc_host_ask ask = { .name = str_of(host), .type = STR_LIT("A") };
	const struct ipc_host_answer *answer;
	unsigned char octets[16];
	enum status st = ST_OK;

	if (inet_pton(AF_INET, host, octets) == 1 || inet_pton(AF_INET6, host, octets) == 1)
		return address_forget(ctl, fd, str_of(host), gone, err);
	answer = asked(ctl, fd, &ipc_type_host_ask, &ask, &ipc_type_host_answer, err);
	if (!answer)
		return ST_DEFER;
	if (answer->status != ST_OK || !answer->n_hosts)
		return err_set(err, ST_FAIL, "%s: no address is known of it", host);
	for (uint32_t i = 0; !st && i < answer->n_hosts; i++)
		st = address_forget(ctl, fd, answer->hosts[i].ip, gone, err);
	return st;
}

int ctl_hints(struct ctl *ctl, int argc, char **argv)
{
	struct ipc_cmd_answer answer;
	struct err err = ERR_INIT;
	enum status st = ST_OK;
	json_t *gone, *key;
	size_t at;
	int fd = -1;

	if (argc < 3 || strcmp(argv[1], "forget") != 0)
		return ctl_fail(CTL_USAGE, "usage: bulkhead hints forget HOST...");
	if (!ctl_ask(ctl, "channel", "router", &answer, &fd, 10000, &err) && fd < 0)
		err_set(&err, ST_ERROR, "master sent no channel to router");
	if (fd < 0)
		return ctl_fail(err.status == ST_DEFER ? CTL_UNAVAILABLE : CTL_FAILED, "%s", err.text);
	gone = json_array();
	for (int i = 2; !st && i < argc; i++)
		st = host_forget(ctl, fd, argv[i], gone, &err);
	close(fd);
	if (st) {
		json_decref(gone);
		return ctl_fail(st == ST_FAIL ? CTL_FAILED : CTL_UNAVAILABLE, "hints forget: %s", err.text);
	}
	if (ctl->json) {
		ctl_json_print(gone);
		return CTL_OK;
	}
	json_array_foreach(gone, at, key)
		printf("%s\n", json_string_value(key));
	json_decref(gone);
	return CTL_OK;
}
