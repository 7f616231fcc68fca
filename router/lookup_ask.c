/* SPDX-License-Identifier: ISC */
/* lookup_ask.c - lookups asked for by expansions here and by policyd: which driver, and the files that stay open. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "router/lookup_servers.h"
#include "router/router.h"

enum { IDLE_MS = 60000 /* a handle that was not used for so long is closed */ };

struct handle {
	struct list recent;
	struct str key;                     /* driver, LF, path */
	const struct lookup_driver *driver;
	void *handle;
	uint64_t used_ms;
};

struct lookup_handles {
	struct hash by_key;
	struct list recent;                 /* first: the one to go */
	unsigned n, max;
};

struct lookup_handles *lookup_handles_new(unsigned max)
{
	struct lookup_handles *h = mem_new(sizeof *h);

	list_init(&h->recent);
	h->max = max;
	return h;
}

static void handle_close(struct lookup_handles *h, struct handle *x)
{
	hash_remove(&h->by_key, x->key);
	list_remove(&x->recent);
	h->n--;
	if (x->driver->close)
		x->driver->close(x->handle);
	mem_free(x);
}

void lookup_handles_free(struct lookup_handles *h, struct lookup_env *env)
{
	if (!h)
		return;
	list_each_safe(&h->recent, n)
		handle_close(h, list_entry(n, struct handle, recent));
	hash_clear(&h->by_key);
	lookup_env_clear(env);
	mem_free(h);
}

static void handles_tidy(struct lookup_handles *h, uint64_t now)
{
	while (h->n) {
		struct handle *x = list_entry(list_first(&h->recent), struct handle, recent);
		if (h->n < h->max && now - x->used_ms < IDLE_MS)
			return;
		handle_close(h, x);
	}
}

bool lookup_handles_tidy(struct lookup_handles *h, struct lookup_env *env)
{
	uint64_t now = clock_ms();

	handles_tidy(h, now);
	return (env->conns && conns_tidy(env->conns, now)) || h->n;
}

/* The open file, opened if need be; NULL for a driver that opens none. */
static enum status handle_get(struct router *r, const struct lookup_driver *driver, struct str file, void **out, struct err *err)
{
	struct lookup_handles *h = r->handles;
	char room[4200];
	struct str key;
	struct handle *x;
	uint64_t now = clock_ms();
	size_t n = strlen(driver->name);
	enum status st;

	*out = NULL;
	if (!driver->open)
		return ST_OK;
	if (n + 1 + file.len > sizeof room)
		return err_set(err, ST_ERROR, "the path is too long");
	memcpy(room, driver->name, n);
	room[n++] = '\n';
	if (file.len)
		memcpy(room + n, file.p, file.len);
	key = str_make(room, n + file.len);
	x = hash_get(&h->by_key, key);
	if (x && driver->changed && driver->changed(x->handle)) {
		handle_close(h, x);
		x = NULL;
	}
	if (!x) {
		handles_tidy(h, now);
		x = mem_new(sizeof *x + key.len);
		st = driver->open(&r->lookup_env, file, &x->handle, err);
		if (st != ST_OK) {
			mem_free(x);
			return st;
		}
		x->driver = driver;
		x->key = str_make(memcpy(x + 1, key.p, key.len), key.len);
		hash_put(&h->by_key, x->key, x);
		list_push(&h->recent, &x->recent);
		h->n++;
	} else {
		list_remove(&x->recent);
		list_push(&h->recent, &x->recent);
	}
	x->used_ms = now;
	*out = x->handle;
	return ST_OK;
}

/* A file that cannot be opened may be there for whoever looks for it with root's eyes: say why it is not for us. */
static enum status unseen_tell(const struct router *r, struct str file, struct arena *a, struct err *err)
{
	const struct conf_opts_main *o = &r->conf->main;
	enum status st = err->status;

	if (!file.len)
		return st;
	if (access(str_cstr(a, file), R_OK) == 0)
		return st;
	if (errno == EACCES)
		return err_set(err, st, "%s (it must be readable for router's user, uid %u)", str_cstr(a, str_of(err->text)), (unsigned)geteuid());
	if (lang_path_covered(o->lookup_directories.text, file, a) ||
	    lang_path_covered(o->sqlite_writable.text, file, a) || lang_path_covered(o->lmdb_writable.text, file, a))
		return st;
	return err_set(err, st, "%s (it is not in lookup_directories)", str_cstr(a, str_of(err->text)));
}

enum status router_lookup_service(void *ctx, struct arena *a, const struct ipc_lookup_ask *ask, struct ipc_lookup_answer *out, struct err *err)
{
	struct router *r = ctx;
	const struct lookup_driver *driver;
	struct lookup_spec spec;
	void *handle;
	enum status st;

	memset(out, 0, sizeof *out);
	if (str_is(ask->type, LOOKUP_ASK_PACKET))
		return router_packet(ask, err);
	if (lookup_is_internal(ask->type)) {
		st = lookup_internal(ask, a, out, err);
		return st == ST_OK || st == ST_FAIL ? st : unseen_tell(r, ask->file, a, err);
	}
	st = lookup_spec_parse(ask->type, &spec, err);
	if (st != ST_OK)
		return st;
	driver = lookup_driver_find(spec.type->name);
	if (!driver)
		return err_set(err, ST_ERROR, "lookup type %s does not work here", spec.type->name);
	st = handle_get(r, driver, ask->file, &handle, err);
	if (st != ST_OK)
		st = unseen_tell(r, ask->file, a, err);
	if (r->lookup_env.conns)
		conns_tidy(r->lookup_env.conns, clock_ms());
	if (st == ST_OK)
		st = lookup_search(driver, &r->lookup_env, handle, &spec, ask->file, ask->key, a, out, err);
	out->status = st;
	return st;
}

/* From another process: what is tainted there comes tainted for certain here, so the asker has checked (lookup_check()); paths are
 * checked once more for their form, and only the directories of lookup_directories can be seen from here at all. */
void router_lookup(struct router *r, struct arena *a, const struct ipc_lookup_ask *asked, struct ipc_lookup_answer *out)
{
	struct ipc_lookup_ask ask = *asked;
	struct err err = ERR_INIT;
	enum status st;
	bool begun;

	ask.file.tainted = false;
	ask.type.tainted = false;
	/* The asker waits no longer; one query may name many domains whose servers are slow. */
	begun = r->dns && dns_deadline_begin(r->dns, clock_ms() + ROUTER_DNS_MS);
	st = router_lookup_service(r, a, &ask, out, &err);
	dns_deadline_end(r->dns, begun);
	out->status = st;
	if (st != ST_OK)
		out->value = str_of(arena_strdup(a, err.text));
	else
		out->value = str_sub(out->value, 0, LOOKUP_VALUE_MAX);
}
