/* SPDX-License-Identifier: ISC */
/* The dovecot authenticator: Dovecot's auth service decides (specification, chapter 37; Dovecot's auth-protocol.txt).
 *
 * A dialogue of several steps needs one connection to Dovecot for all of them, and the client may take its time: the open connection
 * goes to smtpd with the challenge and comes back with the response, so no worker waits for a client. One with TLS has its state
 * in this process and can't travel: there the strings of PLAIN, LOGIN and EXTERNAL are collected first, and Dovecot is asked at the end
 * in one go; other mechanisms are refused. A connection that is not needed any more is kept for the next question. */
#include <fcntl.h>
#include <openssl/rand.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/mail/base64.h"
#include "policyd/dovecot_conn.h"
#include "policyd/policyd_auth.h"

enum { ANSWERS_MAX = 3 };

struct dovecot {
	const struct conf_opts_authenticator_dovecot *o;
	struct dovecot_conn conn;        /* kept open between questions, fd -1: none */
	uint64_t next_id;
	struct str path, host;           /* one of them */
	uint16_t port;
	SSL_CTX *tls;
	char tls_trouble[128];           /* why there is none */
	bool learned;                    /* mechs holds what Dovecot offers */
	struct dovecot_greeting greeting;
};

/* An exchange with Dovecot as far as this step takes it. */
struct talk {
	struct auth_step *s;
	struct dovecot *d;
	struct arena *a;
	uint64_t id, until;
	bool has_initial;
	struct str initial;              /* decoded */
	struct str answers[ANSWERS_MAX]; /* to CONT, collected before */
	unsigned n_answers, at;
};

/* ---- at load ---- */

static bool is_server(const struct conf_instance *conf)
{
	return CONF_OWN(conf, authenticator_dovecot)->server_socket.set;
}

static bool collects(struct str mechanism, unsigned *strings_out)
{
	*strings_out = str_isi(mechanism, "LOGIN") ? 2 : 1;
	return *strings_out == 2 || str_isi(mechanism, "PLAIN") || str_isi(mechanism, "EXTERNAL");
}

static enum status socket_parse(struct dovecot *d, struct str text, struct err *err)
{
	struct str host, port;
	uint64_t n;
	uint32_t i = 0;

	text = str_trim(text);
	if (text.len && text.p[0] == '/') {
		d->path = text;
		return ST_OK;
	}
	while (i < text.len && !ascii_is_space(text.p[i]))
		i++;
	host = str_sub(text, 0, i);
	port = str_trim(str_from(text, i));
	if (!host.len || !str_u64(port, 65535, &n) || !n)
		return err_set(err, ST_ERROR, "server_socket: \"%.*s\" is neither an absolute path nor a host, a blank and a port number", STR_FMT(text));
	d->host = host;
	d->port = (uint16_t)n;
	return ST_OK;
}

static void tls_make(struct dovecot *d)
{
	struct str file = d->o->server_tls_verify_certificates.text;
	char path[1024];
	bool system = !file.len || str_is(file, "system");

	if (file.len >= sizeof path)
		file.len = sizeof path - 1;
	if (file.len)
		memcpy(path, file.p, file.len);
	path[file.len] = '\0';
	d->tls = SSL_CTX_new(TLS_client_method());
	if (!d->tls)
		snprintf(d->tls_trouble, sizeof d->tls_trouble, "no memory");
	else if (!SSL_CTX_load_verify_locations(d->tls, system ? "/etc/ssl/certs/ca-certificates.crt" : path, NULL))
		snprintf(d->tls_trouble, sizeof d->tls_trouble, "server_tls_verify_certificates: %.80s can't be read", system ? "the system's file" : path);
	else
		SSL_CTX_set_verify(d->tls, SSL_VERIFY_PEER, NULL);
}

static enum status dovecot_compile(struct policyd *p, struct auth_inst *inst, struct err *err)
{
	struct dovecot *d = arena_alloc(lang_arena(p->lang), sizeof *d);
	unsigned strings;

	d->o = CONF_OWN(inst->conf, authenticator_dovecot);
	dovecot_conn_init(&d->conn);
	inst->state = d;
	if (socket_parse(d, d->o->server_socket.text, err))
		return err->status;
	if (d->o->server_tls && d->path.len)
		return err_set(err, ST_ERROR, "server_tls: the socket is a Unix socket");
	if (d->o->server_tls && !collects(inst->public_name, &strings))
		return err_set(err, ST_ERROR, "server_tls: %.*s needs several steps, and the connection to Dovecot can't wait for them with TLS; only PLAIN, "
			"LOGIN and EXTERNAL can be used with it", STR_FMT(inst->public_name));
	if (d->o->server_tls)
		tls_make(d);
	return ST_OK;
}

static void dovecot_stop(struct auth_inst *inst)
{
	struct dovecot *d = inst->state;

	if (!d)
		return;
	dovecot_conn_close(&d->conn);
	if (d->tls)
		SSL_CTX_free(d->tls);
	d->tls = NULL;
}

static bool dovecot_offers(const struct auth_inst *inst)
{
	const struct dovecot *d = inst->state;

	return !d->learned || dovecot_has_mech(&d->greeting, inst->public_name);
}

/* ---- connecting ---- */

static enum status host_find(struct talk *t, struct dovecot_target *to, struct err *err)
{
	const struct lang_services *services = lang_services(t->s->p->lang);
	struct ipc_host_answer answer = { 0 };
	struct ip ip;
	enum status st;

	to->ip = t->d->host;
	if (!t->d->host.len || ip_parse_mapped(t->d->host, &ip))
		return ST_OK;
	if (!services->host)
		return err_set(err, ST_DEFER, "%.*s: names of hosts can't be looked up here", STR_FMT(t->d->host));
	st = services->host(services->ctx, t->a, t->d->host, "A", &answer, err);
	if (st || !answer.n_hosts)
		return err_set(err, ST_DEFER, "Dovecot's host %.*s has no address", STR_FMT(t->d->host));
	to->ip = answer.hosts[0].ip;
	return ST_OK;
}

static enum status greeting_read(struct talk *t, struct err *err)
{
	struct dovecot_conn *c = &t->d->conn;
	struct dovecot_greeting *g = &t->d->greeting;
	enum status st = ST_OK;

	memset(g, 0, sizeof *g);
	t->d->learned = false;
	while (!st && !g->done) {
		struct str line;

		st = dovecot_conn_line(c, t->until, &line, err);
		if (!st)
			st = dovecot_greeting_line(g, line, err);
		if (!st)
			dovecot_conn_next(c, line);
	}
	t->d->learned = st == ST_OK;
	return st;
}

static enum status connect_new(struct talk *t, struct err *err)
{
	struct dovecot *d = t->d;
	struct dovecot_target to = { .path = d->path, .port = d->port, .tls = d->tls, .timeout_ms = (uint32_t)d->o->server_timeout * 1000 };
	uint32_t number;
	enum status st;

	if (d->o->server_tls && d->tls_trouble[0])
		return err_set(err, ST_DEFER, "%s", d->tls_trouble);
	to.tls_name = d->o->server_tls_name.text.len ? d->o->server_tls_name.text : d->host;
	st = host_find(t, &to, err);
	if (!st)
		st = dovecot_conn_open(&d->conn, &to, err);
	if (!st)
		st = greeting_read(t, err);
	/* CPID: Dovecot wants it to differ from that of every other connection. */
	if (!st && RAND_bytes((unsigned char *)&number, sizeof number) != 1)
		st = err_set(err, ST_DEFER, "no random numbers");
	if (!st)
		st = dovecot_conn_send(&d->conn, str_printf(t->a, "VERSION\t1\t0\nCPID\t%u\n", (unsigned)(number >> 1 | 1)), t->until, err);
	d->next_id = 1;
	return st;
}

/* ---- talking ---- */

static struct str auth_line(struct talk *t)
{
	const struct ipc_facts *f = t->s->ev->facts;
	struct buf b = BUF_INIT;
	bool cipher = false, verified = false;
	struct str line;

	for (uint32_t i = 0; i < f->n_tls; i++) {
		cipher |= str_is(f->tls[i].name, "cipher") && f->tls[i].value.len;
		verified |= str_is(f->tls[i].name, "certificate_verified") && str_is(f->tls[i].value, "1");
	}
	buf_printf(&b, "AUTH\t%llu\t%.*s\tservice=smtp", (unsigned long long)t->id, STR_FMT(str_upper(t->a, t->s->inst->public_name)));
	if (cipher || (f->client_ip.len && str_eq(f->client_ip, f->server_ip)))
		buf_adds(&b, "\tsecured");
	if (verified)
		buf_adds(&b, "\tvalid-client-cert");
	if (f->client_ip.len)
		buf_printf(&b, "\trip=%.*s", STR_FMT(f->client_ip));
	if (f->server_ip.len)
		buf_printf(&b, "\tlip=%.*s", STR_FMT(f->server_ip));
	buf_adds(&b, "\tnologin");
	if (t->has_initial) {
		buf_adds(&b, "\tresp=");
		base64_encode(&b, t->initial);
	}
	buf_addc(&b, '\n');
	line = str_dup(t->a, buf_str(&b));
	explicit_bzero(b.p, b.len);
	buf_clear(&b);
	return line;
}

static enum status cont_send(struct talk *t, struct str answer, struct err *err)
{
	struct buf b = BUF_INIT;
	enum status st;

	buf_printf(&b, "CONT\t%llu\t", (unsigned long long)t->id);
	base64_encode(&b, answer);
	buf_addc(&b, '\n');
	st = dovecot_conn_send(&t->d->conn, buf_str(&b), t->until, err);
	explicit_bzero(b.p, b.len);
	buf_clear(&b);
	return st;
}

static enum status reply_read(struct talk *t, struct dovecot_reply *r, struct err *err)
{
	struct str line, copy;
	enum status st = dovecot_conn_line(&t->d->conn, t->until, &line, err);

	if (st)
		return st;
	copy = str_dup(t->a, line);
	dovecot_conn_next(&t->d->conn, line);
	return dovecot_reply_line(t->a, copy, t->id, r, err);
}

/* What Dovecot says in the end, or its next challenge that only the client can answer. */
static enum status replies_read(struct talk *t, struct dovecot_reply *r, struct err *err)
{
	enum status st;

	while ((st = reply_read(t, r, err)) == ST_OK && r->kind == DOVECOT_CONT && t->at < t->n_answers) {
		st = cont_send(t, t->answers[t->at++], err);
		if (st)
			break;
	}
	return st;
}

/* A kept connection may have been closed meanwhile: then the question is asked once more on a new one. */
static enum status auth_ask(struct talk *t, struct dovecot_reply *r, struct err *err)
{
	bool kept = dovecot_conn_quiet(&t->d->conn);
	enum status st = ST_OK;

	for (;;) {
		if (!kept) {
			dovecot_conn_close(&t->d->conn);
			st = connect_new(t, err);
		}
		if (!st && !dovecot_has_mech(&t->d->greeting, t->s->inst->public_name))
			return err_set(err, ST_DEFER, "Dovecot did not advertise mechanism \"%.*s\" to us", STR_FMT(t->s->inst->public_name));
		t->id = t->d->next_id++;
		if (!st)
			st = dovecot_conn_send(&t->d->conn, auth_line(t), t->until, err);
		t->at = 0;
		if (!st)
			st = replies_read(t, r, err);
		if (st != ST_FAIL || !kept)
			return st;
		kept = false;
		err_clear(err);
		st = ST_OK;
	}
}

/* ---- what it means ---- */

static enum auth_result challenge_pass(struct talk *t, const struct dovecot_reply *r, struct err *err)
{
	struct auth_step *s = t->s;
	struct buf b = BUF_LIMIT(8000);
	bool whole = base64_decode(&b, r->data);

	if (!whole || t->d->conn.ssl || t->d->conn.in_len) {
		err_set(err, ST_DEFER, !whole ? "authentication socket protocol error, a challenge that is no base64" : t->d->conn.ssl ?
			"Dovecot asks for more than was collected for it" : "authentication socket protocol error, more than a challenge came");
		buf_clear(&b);
		dovecot_conn_close(&t->d->conn);
		return AUTH_DEFER;
	}
	s->out->challenge = str_dup(s->ev->arena, buf_str(&b));
	s->out->state = str_printf(s->ev->arena, "%llu", (unsigned long long)t->id);
	buf_clear(&b);
	s->fd = dovecot_conn_take(&t->d->conn);
	return AUTH_CHALLENGE;
}

static enum auth_result reply_judge(struct talk *t, enum status st, const struct dovecot_reply *r, struct err *err)
{
	if (st) {
		dovecot_conn_close(&t->d->conn); /* nobody knows what it would say next */
		return AUTH_DEFER;
	}
	if (r->kind == DOVECOT_CONT)
		return challenge_pass(t, r, err);
	if (r->user.len)
		auth_string_set(t->s->ev, 1, r->user);
	if (r->kind == DOVECOT_OK)
		return auth_condition(t->s, err);
	if (r->reason.len)
		err_set(err, ST_FAIL, "%.*s", STR_FMT(str_sub(r->reason, 0, 200)));
	return r->temp ? AUTH_DEFER : AUTH_FAIL;
}

/* The response to a challenge: on the connection that came with it. */
static enum auth_result step_on(struct talk *t, struct err *err)
{
	struct auth_step *s = t->s;
	struct dovecot_conn kept = t->d->conn;
	uint64_t next_id = t->d->next_id;
	struct dovecot_reply r;
	enum auth_result result;
	enum status st;

	if (s->fd < 0 || !str_u64(s->ask->state, UINT64_MAX / 2, &t->id)) {
		err_set(err, ST_DEFER, "the connection to Dovecot was lost");
		return AUTH_DEFER;
	}
	dovecot_conn_adopt(&t->d->conn, s->fd);
	s->fd = -1;
	st = cont_send(t, s->ask->data, err);
	if (!st)
		st = replies_read(t, &r, err);
	result = reply_judge(t, st, &r, err);
	t->d->next_id = t->id + 1;
	if (kept.fd >= 0 || t->d->conn.fd < 0) { /* one is enough */
		dovecot_conn_close(&t->d->conn);
		t->d->conn = kept;
		t->d->next_id = next_id;
	}
	return result;
}

/* TLS: the strings that the mechanism takes, as Dovecot would ask for them. AUTH_OK: all are here. */
static enum auth_result strings_collect(struct talk *t)
{
	static const char *const prompts[] = { "Username:", "Password:" };
	struct auth_step *s = t->s;
	struct str rest = s->ask->state;
	struct buf b = BUF_LIMIT(AUTH_STATE_MAX);
	unsigned strings = 1;

	collects(s->inst->public_name, &strings);
	/* The state: base64 of each string, LF behind it. */
	buf_add_str(&b, s->ask->state);
	if (s->ask->has_data) {
		base64_encode(&b, s->ask->data);
		buf_addc(&b, '\n');
	}
	rest = str_taint(str_dup(t->a, buf_str(&b)));
	explicit_bzero(b.p, b.len);
	buf_clear(&b);
	if (b.full)
		return AUTH_FAIL;
	s->out->state = rest;
	while (rest.len && t->n_answers < ANSWERS_MAX) {
		struct str line;
		struct buf plain = BUF_INIT;

		str_split(&rest, '\n', &line);
		base64_decode(&plain, line);
		t->answers[t->n_answers++] = str_taint(str_dup(t->a, buf_str(&plain)));
		if (plain.p)
			explicit_bzero(plain.p, plain.len);
		buf_clear(&plain);
	}
	if (t->n_answers < strings) {
		s->out->challenge = strings == 2 ? str_of(prompts[t->n_answers]) : STR_NULL;
		return AUTH_CHALLENGE;
	}
	s->out->state = STR_NULL;
	if (strings == 1) {
		t->has_initial = true;
		t->initial = t->answers[0];
		t->n_answers = 0;
	}
	return AUTH_OK;
}

static enum auth_result dovecot_step(struct auth_step *s, struct err *err)
{
	struct dovecot *d = s->inst->state;
	struct talk t = { .s = s, .d = d, .a = s->ev->arena, .until = clock_ms() + (uint64_t)d->o->server_timeout * 1000 };
	struct dovecot_reply r;
	enum status st;

	if (s->p->worker)
		worker_flush(s->p->worker);
	if (d->o->server_tls) {
		enum auth_result result = strings_collect(&t);

		if (result != AUTH_OK)
			return result;
	} else if (s->ask->step) {
		return step_on(&t, err);
	} else {
		t.has_initial = s->ask->has_data;
		t.initial = s->ask->data;
	}
	st = auth_ask(&t, &r, err);
	return reply_judge(&t, st, &r, err);
}

const struct auth_driver auth_dovecot = {
	.table = &conf_table_authenticator_dovecot, .smtp = true, .is_server = is_server, .compile = dovecot_compile, .step = dovecot_step,
	.offers = dovecot_offers, .stop = dovecot_stop,
};
