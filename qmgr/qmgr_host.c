/* SPDX-License-Identifier: ISC */
/* What is remembered of hosts and addresses that failed: since when, and when to try them again. Kept in memory, bounded, and
 * handed to the hints store as advice; nothing waits for the store. */
#include "qmgr/qmgr.h"

#include <stdio.h>
#include <string.h>

enum { TOGETHER_S = 60 };

static const struct str space = { "retry", 5, false };

struct str retry_host_key(char out[static RETRY_KEY_MAX], struct str name, struct str ip, uint64_t port)
{
	int n = snprintf(out, RETRY_KEY_MAX, "T:%.*s:%.*s:%llu", STR_FMT(str_sub(name, 0, 255)), STR_FMT(str_sub(ip, 0, 64)), (unsigned long long)port);

	for (int i = 2; i < n; i++)
		out[i] = ascii_lower(out[i]);
	return str_make(out, n < RETRY_KEY_MAX ? (size_t)n : RETRY_KEY_MAX - 1);
}

struct str retry_addr(const struct ipc_leaf *l, struct str addr)
{
	ptrdiff_t at = l->retry_domain ? str_rfind(addr, '@') : -1;

	return at < 0 ? addr : str_from(addr, (size_t)at + 1);
}

struct str retry_addr_key(char out[static RETRY_KEY_MAX], char kind, struct str addr, struct str sender)
{
	int n = snprintf(out, RETRY_KEY_MAX, "%c:%.*s:%.*s", kind, STR_FMT(str_sub(addr, 0, 320)), STR_FMT(str_sub(sender, 0, 320)));

	return str_make(out, n < RETRY_KEY_MAX ? (size_t)n : RETRY_KEY_MAX - 1);
}

static struct str entry_key(const struct retry_entry *e) { return str_make(e->key, e->key_len); }

static void entry_free(struct qmgr *q, struct retry_entry *e)
{
	hash_remove(&q->retry, entry_key(e));
	list_remove(&e->node);
	q->n_retry--;
	mem_free(e);
}

static struct retry_entry *entry_new(struct qmgr *q, struct str key)
{
	struct retry_entry *e;

	while (q->n_retry >= RETRY_ENTRIES_MAX) /* the one that nobody needed for the longest time */
		entry_free(q, list_entry(list_first(&q->retry_age), struct retry_entry, node));
	e = mem_new(sizeof *e + key.len);
	e->key_len = (uint16_t)key.len;
	memcpy(e->key, key.p, key.len);
	hash_put(&q->retry, entry_key(e), e);
	list_push(&q->retry_age, &e->node);
	q->n_retry++;
	return e;
}

struct retry_entry *retry_get(struct qmgr *q, struct str key)
{
	struct retry_entry *e;

	if (!q->n_retry || !(e = hash_get(&q->retry, key)))
		return NULL;
	if (q->set->retry_data_expire && qmgr_now(q) > e->last_try + q->set->retry_data_expire) {
		entry_free(q, e);
		return NULL;
	}
	list_remove(&e->node);
	list_push(&q->retry_age, &e->node);
	return e;
}

static void hint_done(void *arg, struct ipc_in *in, const struct err *err)
{
	(void)arg, (void)in, (void)err; /* advice: lost, at worst */
}

static void hint_put(struct qmgr *q, const struct retry_entry *e)
{
	struct channel *ch = route_router(q);
	char value[96];
	struct ipc_hint_ask ask = { .op = HINT_PUT, .space = space, .key = entry_key(e), .expire_s = q->set->retry_data_expire };
	int n;

	if (!ch)
		return;
	n = snprintf(value, sizeof value, "%u %u %u %u %u", e->first_failed, e->last_try, e->next_try, e->expired, e->error);
	ask.value = str_make(value, (size_t)n);
	channel_ask(ch, &ipc_type_hint_ask, &ask, NULL, 0, &ipc_type_hint_answer, 60000, hint_done, NULL);
}

struct retry_entry *retry_failed(struct qmgr *q, struct str key, const struct retry_rule *rule, enum retry_error error, uint32_t not_later_than)
{
	struct retry_entry *e = retry_get(q, key);
	uint32_t now = qmgr_now(q);

	if (!rule || !rule->n)
		return NULL;
	/* One of several tries that were under way together: it tells nothing new, and must not shrink a geometric interval. */
	if (e && now < e->next_try && now < e->last_try + TOGETHER_S)
		return e;
	if (!e) {
		e = entry_new(q, key);
		e->first_failed = not_later_than && not_later_than < now ? not_later_than : now;
	}
	e->next_try = retry_next(rule, e->first_failed, e->last_try, e->next_try, now, q->set->retry_interval_max, qmgr_random(q), &e->expired);
	e->last_try = now;
	e->error = (uint8_t)error;
	hint_put(q, e);
	return e;
}

void retry_worked(struct qmgr *q, struct str key)
{
	struct retry_entry *e = q->n_retry ? hash_get(&q->retry, key) : NULL;
	struct channel *ch = route_router(q);
	struct ipc_hint_ask ask = { .op = HINT_REMOVE, .space = space, .key = key };

	if (!e)
		return;
	entry_free(q, e);
	if (ch)
		channel_ask(ch, &ipc_type_hint_ask, &ask, NULL, 0, &ipc_type_hint_answer, 60000, hint_done, NULL);
}

/* ---- what the store remembers ---- */

static bool entry_parse(struct qmgr *q, struct str key, struct str value)
{
	uint64_t v[5];
	struct str word;
	struct retry_entry *e;

	for (unsigned i = 0; i < 5; i++)
		if (!str_split(&value, ' ', &word) || !str_u64(word, UINT32_MAX - 1, &v[i]))
			return false;
	if (!key.len || key.len >= RETRY_KEY_MAX || v[0] > v[1] || v[4] >= RETRY_ERRORS_END || hash_get(&q->retry, key))
		return false;
	e = entry_new(q, key);
	e->first_failed = (uint32_t)v[0];
	e->last_try = (uint32_t)v[1];
	e->next_try = (uint32_t)v[2];
	e->expired = v[3] != 0;
	e->error = (uint8_t)v[4];
	return true;
}

static void hints_on_list(void *arg, struct ipc_in *in, const struct err *err)
{
	struct qmgr *q = arg;
	const struct ipc_hint_answer *answer = in ? in->msg : NULL;

	(void)err;
	if (!answer || in->type != &ipc_type_hint_answer || answer->status != ST_OK)
		return;
	for (uint32_t i = 0; i < answer->n_entries && q->n_retry < RETRY_ENTRIES_MAX; i++)
		entry_parse(q, answer->entries[i].name, answer->entries[i].value);
}

void retry_load(struct qmgr *q)
{
	struct channel *ch = route_router(q);
	/* Hosts alone: what is known of addresses comes with the messages that wait for them. */
	struct ipc_hint_ask ask = { .op = HINT_LIST, .space = space, .key = STR_LIT("T:") };

	if (ch)
		channel_ask(ch, &ipc_type_hint_ask, &ask, NULL, 0, &ipc_type_hint_answer, 60000, hints_on_list, q);
}

void retry_clear(struct qmgr *q)
{
	struct list *n;

	while ((n = list_first(&q->retry_age)))
		entry_free(q, list_entry(n, struct retry_entry, node));
	hash_clear(&q->retry);
}
