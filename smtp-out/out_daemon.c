/* SPDX-License-Identifier: ISC */
#include "smtp-out/out_daemon.h"

#include <string.h>
#include <sys/utsname.h>

#include "common/conf/conf.h"
#include "smtp-out/out_hint.h"

static struct smtp_out *link_state(void *owner)
{
	struct daemon_link *link = owner;

	return link->daemon->state;
}

static void on_deliver(void *owner, struct ipc_in *in)
{
	smtp_out_deliver(link_state(owner), in);
}

static void on_conn_close(void *owner, struct ipc_in *in)
{
	smtp_out_conn_close(link_state(owner), in);
}

static void on_callout(void *owner, struct ipc_in *in)
{
	smtp_out_callout(link_state(owner), in);
}

static void peer_closed(struct daemon_link *link, const char *why)
{
	(void)why; /* the skeleton logs it */
	smtp_out_channel_closed(link->daemon->state, link->channel);
}

/* Router's workers ask by channels of theirs; the one that we asked for has the cookie. */
static void router_opened(struct daemon_link *link)
{
	if (link->cookie)
		out_hint_opened(link->daemon->state, link->channel);
}

static void router_closed(struct daemon_link *link, const char *why)
{
	if (link->cookie)
		out_hint_closed(link->daemon->state);
	else
		peer_closed(link, why);
}

static void keyd_opened(struct daemon_link *link)
{
	struct smtp_out *so = link->daemon->state;

	tls_keyd_open(&so->keyd, link->fd);
	link->fd = -1;
}

static void daemon_wants(void *arg, const char *peer, uint64_t cookie)
{
	daemon_need_any(arg, peer, cookie);
}

static void daemon_says(void *arg, const char *line)
{
	struct daemon *d = arg;

	log_line(&d->log, LOG_MAIN, "%s", line);
}

static enum status daemon_start(struct daemon *d, struct err *err)
{
	struct str helo = d->conf->main.primary_hostname.text;
	struct smtp_out *so;
	struct utsname uts;

	if (!helo.len) {
		if (uname(&uts) < 0)
			return err_set(err, ST_ERROR, "this machine has no name; set primary_hostname");
		helo = str_of(uts.nodename);
	}
	so = smtp_out_new(d->loop, helo, d->conf->main.openssl_options.text);
	so->log = daemon_says;
	so->log_arg = d;
	so->ehlo_expire_s = (uint64_t)d->conf->main.retry_data_expire;
	so->need = daemon_wants;
	so->need_arg = d;
	d->state = so;
	return ST_OK;
}

static void daemon_drained(void *arg)
{
	daemon_finish(arg);
}

static void daemon_drain(struct daemon *d, uint64_t deadline_ms)
{
	(void)deadline_ms;
	smtp_out_drain(d->state, daemon_drained, d);
}

static void daemon_stop(struct daemon *d)
{
	smtp_out_free(d->state);
}

static void daemon_session_key(struct daemon *d, struct str key)
{
	struct smtp_out *so = d->state;

	if (key.len != sizeof so->session_key)
		return;
	memcpy(so->session_key, key.p, sizeof so->session_key);
	so->session_key_known = true;
}

static void daemon_status_fill(struct daemon *d, struct daemon_status *out)
{
	struct smtp_out_counter c;

	for (unsigned i = 0; smtp_out_counter(d->state, i, &c); i++)
		daemon_count(out, c.name, c.value);
}

static const struct ipc_handler qmgr_handlers[] = {
	{ IPC_deliver, on_deliver },
	{ IPC_conn_close, on_conn_close },
	{ 0, NULL },
};

/* One channel for each of its workers that ever calls out. */
static const struct ipc_handler router_handlers[] = {
	{ IPC_callout_ask, on_callout },
	{ 0, NULL },
};

static const struct daemon_peer peers[] = {
	{ .name = "qmgr", .handlers = qmgr_handlers, .closed = peer_closed },
	{ .name = "router", .handlers = router_handlers, .pack = 8, .opened = router_opened, .closed = router_closed },
	{ .name = "keyd", .raw = true, .opened = keyd_opened },
	{ .name = NULL },
};

const struct daemon_spec out_daemon_spec = {
	.name = "smtp-out",
	.what = "speaks SMTP and LMTP to servers",
	.see = V_SMTP_OUT,
	.peers = peers,
	.sys = DAEMON_SYS_CONNECT,
	.start = daemon_start,
	.drain = daemon_drain,
	.stop = daemon_stop,
	.status = daemon_status_fill,
	.session_key = daemon_session_key,
};
