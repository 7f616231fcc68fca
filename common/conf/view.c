/* SPDX-License-Identifier: ISC */
/* The form of a view: "BHVIEW1\n", u32 mask, u64 generation, then the files, main options, lists, ACLs, instances of each
 * class, retry rules and rewriting rules, each as u32 count and elements. Numbers are little endian; a text is u32 length,
 * octets, a zero octet; u32 0xffffffff: no text. Option values are text, as an administrator would write them. */
#include "common/conf/view.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/conf/reader.h"

static const char magic[8] = { 'B', 'H', 'V', 'I', 'E', 'W', '1', '\n' };

enum { VIEW_MAX = 2 * CONF_TOTAL_MAX, TEXT_NONE = -1 };
enum { ENTRY_SET = 1, ENTRY_HIDE = 2, ENTRY_VALUE = 4 };

static bool may_see(uint32_t row, uint32_t see)
{
	return row & see || see & (V_MASTER | V_CTL);
}

/* Who may see the parts that are no options. */
enum {
	SEE_LISTS = V_LANG, SEE_ACLS = V_LANG, SEE_RETRY = V_QMGR | V_ROUTER, SEE_REWRITE = V_LANG,
};
static const uint32_t see_class[CONF_CLASSES] = {
	[CONF_ROUTERS] = V_LANG | V_QMGR | V_QUERY,
	[CONF_TRANSPORTS] = V_LANG | V_QMGR | V_SMTP_OUT | V_LOCAL | V_KEYD,
	[CONF_AUTHENTICATORS] = V_LANG,
};

/* ---- encoding ---- */

static void put_u8(struct buf *b, uint8_t n)
{
	buf_addc(b, (char)n);
}

static void put_u32(struct buf *b, uint32_t n)
{
	for (unsigned i = 0; i < 4; i++)
		put_u8(b, (uint8_t)(n >> 8 * i));
}

static void put_u64(struct buf *b, uint64_t n)
{
	put_u32(b, (uint32_t)n);
	put_u32(b, (uint32_t)(n >> 32));
}

static void put_str(struct buf *b, struct str s)
{
	if (!s.p) {
		put_u32(b, (uint32_t)TEXT_NONE);
		return;
	}
	put_u32(b, s.len);
	buf_add_str(b, s);
	put_u8(b, 0);
}

static void put_place(struct buf *b, struct conf_place place)
{
	put_u32(b, place.file);
	put_u32(b, place.line);
}

static void put_text(struct buf *b, const struct conf_text *t)
{
	put_u8(b, t->set);
	put_place(b, t->place);
	put_str(b, t->text);
}

static void put_entry(struct buf *b, const struct conf_option *o, const struct conf_meta *meta, struct conf_place place, struct str value,
	bool has_value)
{
	put_str(b, str_of(o->name));
	put_u8(b, (uint8_t)((meta->set ? ENTRY_SET : 0) | (meta->hide ? ENTRY_HIDE : 0) | (has_value ? ENTRY_VALUE : 0)));
	put_place(b, place);
	if (has_value)
		put_str(b, value);
}

/* Is the value anything but the row's default? */
static bool differs(const struct conf_option *o, struct str value)
{
	return o->kind >= CONF_TEXT && !(o->flags & F_REPEAT) && (!o->fallback || !str_is(value, o->fallback));
}

static void put_table(struct buf *b, const struct conf_table *table, const void *opts, const struct conf_meta *meta, uint32_t see)
{
	struct arena a = ARENA_INIT;
	size_t count_at = b->len;
	uint32_t n = 0;

	put_u32(b, 0);
	for (uint32_t i = 0; i < table->n; i++) {
		const struct conf_option *o = &table->rows[i];
		const struct conf_texts *all = conf_field(o, opts);
		struct str value;
		if (o->offset == CONF_NO_FIELD || !may_see(o->see, see))
			continue;
		if (o->flags & F_REPEAT) {
			for (uint32_t k = 0; k < all->n; k++, n++)
				put_entry(b, o, &meta[i], all->v[k].place, all->v[k].text, true);
		} else if (conf_opts_get(o, opts, &a, &value) && (meta[i].set || differs(o, value))) {
			put_entry(b, o, &meta[i], meta[i].place, value, true);
			n++;
		} else if (meta[i].set || meta[i].hide) {
			put_entry(b, o, &meta[i], meta[i].place, STR_NULL, false);
			n++;
		}
	}
	for (unsigned i = 0; i < 4 && b->len >= count_at + 4; i++)
		b->p[count_at + i] = (char)(n >> 8 * i);
	arena_clear(&a);
}

static void put_acl(struct buf *b, const struct conf_acl *acl)
{
	put_str(b, acl->name);
	put_place(b, acl->place);
	put_u32(b, acl->n);
	for (uint32_t i = 0; i < acl->n; i++) {
		const struct conf_statement *s = &acl->statements[i];
		put_str(b, s->verb);
		put_place(b, s->place);
		put_u32(b, s->n);
		for (uint32_t k = 0; k < s->n; k++) {
			put_str(b, s->items[k].name);
			put_u8(b, s->items[k].negated);
			put_str(b, s->items[k].argument);
			put_text(b, &s->items[k].value);
			put_place(b, s->items[k].place);
		}
	}
}

static void put_retry(struct buf *b, const struct conf_retry *r)
{
	put_text(b, &r->pattern);
	put_u32(b, r->error);
	put_u32(b, r->code_min);
	put_u32(b, r->code_max);
	put_u8(b, (uint8_t)r->via);
	put_u64(b, (uint64_t)r->quota_age);
	put_text(b, &r->senders);
	put_place(b, r->place);
	put_u32(b, r->n);
	for (uint32_t i = 0; i < r->n; i++) {
		put_u8(b, (uint8_t)r->steps[i].kind);
		put_u64(b, (uint64_t)r->steps[i].cutoff);
		put_u64(b, (uint64_t)r->steps[i].interval);
		put_u64(b, (uint64_t)r->steps[i].factor);
	}
}

static void put_instances(struct buf *b, const struct conf *conf, enum conf_class class, uint32_t see)
{
	const struct conf_instances *all = &conf->of[class];
	uint32_t n = 0;

	for (uint32_t i = 0; i < all->n; i++)
		n += all->v[i].driver != NULL;
	if (!may_see(see_class[class], see))
		n = 0;
	put_u32(b, n);
	for (uint32_t i = 0; n && i < all->n; i++) {
		const struct conf_instance *in = &all->v[i];
		if (!in->driver)
			continue;
		put_str(b, in->name);
		put_place(b, in->place);
		put_str(b, str_of(in->driver->name));
		put_table(b, conf_class_table(class), in->generic, in->generic_meta, see);
		put_table(b, in->driver->table, in->own, in->own_meta, see);
	}
}

enum status conf_view_encode(const struct conf *conf, uint32_t see, struct buf *b, struct err *err)
{
	size_t max = b->max;
	uint32_t n;

	b->max = VIEW_MAX;
	buf_add(b, magic, sizeof magic);
	put_u32(b, see);
	put_u64(b, conf->generation);
	put_u32(b, conf->n_files);
	for (uint32_t i = 0; i < conf->n_files; i++)
		put_str(b, conf->files[i]);
	put_table(b, &conf_table_main, &conf->main, conf->main_meta, see);
	put_u32(b, n = may_see(SEE_LISTS, see) ? conf->n_lists : 0);
	for (uint32_t i = 0; i < n; i++) {
		put_str(b, conf->lists[i].name);
		put_u8(b, (uint8_t)conf->lists[i].kind);
		put_u8(b, conf->lists[i].cache);
		put_u8(b, conf->lists[i].hide);
		put_text(b, &conf->lists[i].value);
	}
	put_u32(b, n = may_see(SEE_ACLS, see) ? conf->n_acls : 0);
	for (uint32_t i = 0; i < n; i++)
		put_acl(b, &conf->acls[i]);
	for (unsigned class = 0; class < CONF_CLASSES; class++)
		put_instances(b, conf, (enum conf_class)class, see);
	put_u32(b, n = may_see(SEE_RETRY, see) ? conf->n_retry : 0);
	for (uint32_t i = 0; i < n; i++)
		put_retry(b, &conf->retry[i]);
	put_u32(b, (uint32_t)conf->rewrites_args | (uint32_t)conf->rewrites_rcpt << 1 | (uint32_t)conf->rewrites_data << 2);
	put_u32(b, n = may_see(SEE_REWRITE, see) ? conf->n_rewrite : 0);
	for (uint32_t i = 0; i < n; i++) {
		put_text(b, &conf->rewrite[i].pattern);
		put_text(b, &conf->rewrite[i].replacement);
		put_str(b, conf->rewrite[i].flags);
		put_place(b, conf->rewrite[i].place);
	}
	b->max = max;
	if (b->full)
		return err_set(err, ST_ERROR, "the view of the configuration is larger than %d octets", VIEW_MAX);
	return ST_OK;
}

enum status conf_view_make(const struct conf *conf, uint32_t see, int *fd_out, struct err *err)
{
	struct buf b = BUF_INIT;
	size_t done = 0;
	int fd = -1;

	if (conf_view_encode(conf, see, &b, err) != ST_OK)
		goto fail;
	fd = memfd_create("bulkhead-view", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		goto fail_errno;
	while (done < b.len) {
		ssize_t n = write(fd, b.p + done, b.len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			goto fail_errno;
		done += (size_t)n;
	}
	if (lseek(fd, 0, SEEK_SET) || fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
		goto fail_errno;
	buf_clear(&b);
	*fd_out = fd;
	return ST_OK;
fail_errno:
	err_set(err, ST_ERROR, "memory file for a view of the configuration: %s", strerror(errno));
fail:
	if (fd >= 0)
		close(fd);
	buf_clear(&b);
	return ST_ERROR;
}

/* ---- decoding ---- */

struct input {
	const char *p;
	size_t left;
	bool bad;
	struct conf *conf;
};

static const char *take(struct input *in, size_t n)
{
	const char *p = in->p;

	if (in->bad || n > in->left) {
		in->bad = true;
		return NULL;
	}
	in->p += n;
	in->left -= n;
	return p;
}

static uint8_t get_u8(struct input *in)
{
	const char *p = take(in, 1);

	return p ? (uint8_t)*p : 0;
}

static uint32_t get_u32(struct input *in)
{
	const char *p = take(in, 4);
	uint32_t n = 0;

	for (unsigned i = 0; p && i < 4; i++)
		n |= (uint32_t)(uint8_t)p[i] << 8 * i;
	return n;
}

static uint64_t get_u64(struct input *in)
{
	uint64_t low = get_u32(in);

	return low | (uint64_t)get_u32(in) << 32;
}

/* How many elements follow; each is at least one octet, so that a false count cannot ask for more than the view holds. */
static uint32_t get_count(struct input *in, uint32_t max)
{
	uint32_t n = get_u32(in);

	if (n > max || n > in->left)
		in->bad = true;
	return in->bad ? 0 : n;
}

static struct str get_str(struct input *in)
{
	uint32_t len = get_u32(in);
	const char *p;

	if (len == (uint32_t)TEXT_NONE)
		return STR_NULL;
	p = take(in, (size_t)len + 1);
	if (p && p[len])
		in->bad = true;
	return p && !in->bad ? str_make(p, len) : STR_NULL;
}

static struct conf_place get_place(struct input *in)
{
	uint32_t file = get_u32(in);

	return (struct conf_place){ file, get_u32(in) };
}

static struct conf_text get_text(struct input *in)
{
	struct conf_text t;

	t.set = get_u8(in);
	t.place = get_place(in);
	t.text = get_str(in);
	return t;
}

/* A value that may not be seen by this view is refused too: master never sends one. */
static void get_entry(struct input *in, const struct conf_table *table, void *opts, struct conf_meta *meta, uint32_t see)
{
	struct str name = get_str(in), value;
	uint8_t flags = get_u8(in);
	struct conf_place place = get_place(in);
	const struct conf_option *o = in->bad ? NULL : conf_option_find(table, name);

	value = flags & ENTRY_VALUE ? get_str(in) : STR_NULL;
	if (in->bad)
		return;
	if (!o || o->offset == CONF_NO_FIELD || !may_see(o->see, see)) {
		in->bad = true;
		return;
	}
	meta += o - table->rows;
	meta->set = flags & ENTRY_SET;
	meta->hide = flags & ENTRY_HIDE;
	meta->place = place;
	if (!(flags & ENTRY_VALUE))
		return;
	if (!value.p || conf_option_store(o, opts, &in->conf->arena, value, place, NULL) != ST_OK)
		in->bad = true;
	else if (o->kind >= CONF_TEXT && !(o->flags & F_REPEAT))
		((struct conf_text *)conf_field(o, opts))->set = meta->set;
}

static void get_table(struct input *in, const struct conf_table *table, void *opts, struct conf_meta *meta, uint32_t see)
{
	uint32_t n = get_count(in, UINT32_MAX);

	for (uint32_t i = 0; i < table->n; i++)
		meta[i].unseen = table->rows[i].offset != CONF_NO_FIELD && !may_see(table->rows[i].see, see);
	while (n-- && !in->bad)
		get_entry(in, table, opts, meta, see);
}

static void get_acl(struct input *in)
{
	struct str name = get_str(in);
	struct conf_place place = get_place(in);
	uint32_t n = get_count(in, CONF_RULES_MAX);
	struct conf_acl *acl;

	if (in->bad || !name.len || conf_acl_find(in->conf, name)) {
		in->bad = true;
		return;
	}
	acl = conf_acl_add(in->conf, name, place);
	acl->statements = arena_alloc(&in->conf->arena, (n + 1) * sizeof *acl->statements);
	for (; acl->n < n && !in->bad; acl->n++) {
		struct conf_statement *s = &acl->statements[acl->n];
		uint32_t items;
		s->verb = get_str(in);
		s->place = get_place(in);
		items = get_count(in, CONF_RULES_MAX);
		s->items = arena_alloc(&in->conf->arena, (items + 1) * sizeof *s->items);
		for (; s->n < items && !in->bad; s->n++) {
			struct conf_acl_item *item = &s->items[s->n];
			item->name = get_str(in);
			item->negated = get_u8(in);
			item->argument = get_str(in);
			item->value = get_text(in);
			item->place = get_place(in);
		}
	}
}

static void get_instance(struct input *in, enum conf_class class, uint32_t see)
{
	struct str name = get_str(in), driver_name;
	struct conf_place place = get_place(in);
	const struct conf_driver *driver;
	struct conf_instance *i;

	driver_name = get_str(in);
	driver = in->bad ? NULL : conf_driver_find(class, driver_name);
	if (!driver || !name.len || conf_instance_find(in->conf, class, name)) {
		in->bad = true;
		return;
	}
	i = conf_instance_add(in->conf, class, name, place);
	conf_instance_drive(in->conf, i, driver);
	get_table(in, conf_class_table(class), i->generic, i->generic_meta, see);
	get_table(in, driver->table, i->own, i->own_meta, see);
}

static void get_retry(struct input *in, struct conf_retry *r)
{
	uint32_t n;

	r->pattern = get_text(in);
	r->error = get_u32(in);
	r->code_min = (uint16_t)get_u32(in);
	r->code_max = (uint16_t)get_u32(in);
	r->via = (char)get_u8(in);
	r->quota_age = (int64_t)get_u64(in);
	r->senders = get_text(in);
	r->place = get_place(in);
	n = get_count(in, 64);
	r->steps = arena_alloc(&in->conf->arena, (n + 1) * sizeof *r->steps);
	for (; r->n < n && !in->bad; r->n++) {
		struct conf_retry_step *s = &r->steps[r->n];
		s->kind = (char)get_u8(in);
		s->cutoff = (int64_t)get_u64(in);
		s->interval = (int64_t)get_u64(in);
		s->factor = (int64_t)get_u64(in);
		in->bad |= (s->kind != 'F' && s->kind != 'G' && s->kind != 'H') || s->cutoff <= 0 || s->interval <= 0 ||
			(s->kind != 'F' && s->factor < 1000);
	}
	in->bad |= (unsigned)r->error >= RETRY_ERRORS_END;
}

static void get_list(struct input *in)
{
	struct str name = get_str(in);
	uint8_t kind = get_u8(in);
	struct conf_list *l;

	if (in->bad || kind >= CONF_LIST_KINDS || !name.len || conf_list_find(in->conf, (enum conf_list_kind)kind, name)) {
		in->bad = true;
		return;
	}
	l = conf_list_add(in->conf, (enum conf_list_kind)kind, name);
	l->cache = get_u8(in);
	l->hide = get_u8(in);
	l->value = get_text(in);
}

static void get_all(struct input *in)
{
	struct conf *conf = in->conf;
	const char *head = take(in, sizeof magic);
	uint32_t n;

	if (!head || memcmp(head, magic, sizeof magic)) {
		in->bad = true;
		return;
	}
	conf->seen_by = get_u32(in);
	conf->generation = get_u64(in);
	n = get_count(in, CONF_FILES_MAX + 1);
	conf->files = arena_alloc(&conf->arena, (n + 1) * sizeof *conf->files);
	for (; conf->n_files < n && !in->bad; conf->n_files++)
		conf->files[conf->n_files] = get_str(in);
	get_table(in, &conf_table_main, &conf->main, conf->main_meta, conf->seen_by);
	for (n = get_count(in, CONF_LISTS_MAX); n && !in->bad; n--)
		get_list(in);
	for (n = get_count(in, CONF_LISTS_MAX); n && !in->bad; n--)
		get_acl(in);
	for (unsigned class = 0; class < CONF_CLASSES; class++)
		for (n = get_count(in, CONF_INSTANCES_MAX); n && !in->bad; n--)
			get_instance(in, (enum conf_class)class, conf->seen_by);
	n = get_count(in, CONF_RULES_MAX);
	conf->retry = arena_alloc(&conf->arena, (n + 1) * sizeof *conf->retry);
	for (; conf->n_retry < n && !in->bad; conf->n_retry++)
		get_retry(in, &conf->retry[conf->n_retry]);
	n = get_u32(in);
	conf->rewrites_args = n & 1;
	conf->rewrites_rcpt = n & 2;
	conf->rewrites_data = n & 4;
	n = get_count(in, CONF_RULES_MAX);
	conf->rewrite = arena_alloc(&conf->arena, (n + 1) * sizeof *conf->rewrite);
	for (; conf->n_rewrite < n && !in->bad; conf->n_rewrite++) {
		struct conf_rewrite *r = &conf->rewrite[conf->n_rewrite];
		r->pattern = get_text(in);
		r->replacement = get_text(in);
		r->flags = get_str(in);
		r->place = get_place(in);
	}
	in->bad |= in->left != 0;
}

/* The octets are in the configuration's arena already: texts lend from them. */
static enum status decode_owned(struct conf *conf, const char *p, size_t n, struct conf **conf_out, struct err *err)
{
	struct input in = { p, n, false, conf };

	get_all(&in);
	if (in.bad) {
		conf_free(conf);
		return err_set(err, ST_ERROR, "what came as a view of the configuration is none");
	}
	*conf_out = conf;
	return ST_OK;
}

enum status conf_view_decode(struct str octets, struct conf **conf_out, struct err *err)
{
	struct conf *conf = conf_new();

	return decode_owned(conf, arena_memdup(&conf->arena, octets.p ? octets.p : "", octets.len), octets.len, conf_out, err);
}

enum status conf_view_load(int fd, struct conf **conf_out, struct err *err)
{
	const int wanted = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	struct conf *conf;
	size_t got = 0;
	char *p;

	if (seals < 0 || (seals & wanted) != wanted || fstat(fd, &st) || st.st_size < 0 || st.st_size > VIEW_MAX)
		return err_set(err, ST_ERROR, "the descriptor is no sealed view of the configuration");
	conf = conf_new();
	p = arena_alloc(&conf->arena, (size_t)st.st_size + 1);
	while (got < (size_t)st.st_size) {
		ssize_t n = pread(fd, p + got, (size_t)st.st_size - got, (off_t)got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			conf_free(conf);
			return err_set(err, ST_ERROR, "reading the view of the configuration: %s", n ? strerror(errno) : "it is too short");
		}
		got += (size_t)n;
	}
	return decode_owned(conf, p, got, conf_out, err);
}
