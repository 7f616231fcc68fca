/* SPDX-License-Identifier: ISC */
/* users.c - logins and groups, from the files that this daemon can see; read again when they change. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "router/route.h"

enum { FILE_MAX = 64 * 1024 * 1024, CHECK_MS = 1000 /* a change is noticed after so long */ };

/* A table of lines with colons, by their first field. */
struct table {
	const char *path;
	struct hash by_name;     /* the line's rest */
	struct arena arena;
	struct timespec mtime;
	off_t size;
	ino_t ino;
	uint64_t checked_ms;
	bool loaded;
};

struct users {
	struct table passwd, group;
};

struct line {
	struct str name, rest;
};

static enum status file_read(const char *path, struct arena *a, struct str *out, struct stat *st, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t n = 0;
	char *p;

	if (fd < 0 || fstat(fd, st) || st->st_size > FILE_MAX) {
		enum status s = err_set(err, ST_DEFER, "%s: %s", path, fd < 0 ? strerror(errno) : "too large");
		if (fd >= 0)
			close(fd);
		return s;
	}
	p = arena_alloc(a, (size_t)st->st_size + 1);
	while (n < (size_t)st->st_size) {
		ssize_t got = read(fd, p + n, (size_t)st->st_size - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	close(fd);
	*out = str_make(p, n);
	return ST_OK;
}

static bool table_is_fresh(struct table *t)
{
	struct stat st;
	uint64_t now = clock_ms();

	if (!t->loaded)
		return false;
	if (now - t->checked_ms < CHECK_MS)
		return true;
	t->checked_ms = now;
	return stat(t->path, &st) == 0 && st.st_ino == t->ino && st.st_size == t->size && st.st_mtim.tv_sec == t->mtime.tv_sec &&
		st.st_mtim.tv_nsec == t->mtime.tv_nsec;
}

static enum status table_load(struct table *t, struct err *err)
{
	struct str text = STR_NULL, line, name;
	struct stat st;
	enum status s;

	if (table_is_fresh(t))
		return ST_OK;
	hash_clear(&t->by_name);
	arena_clear(&t->arena);
	t->loaded = false;
	s = file_read(t->path, &t->arena, &text, &st, err);
	if (s != ST_OK)
		return s;
	while (str_split(&text, '\n', &line)) {
		struct line *l;
		if (!str_split(&line, ':', &name) || !name.len || name.p[0] == '#' || hash_get(&t->by_name, name))
			continue;
		l = arena_alloc(&t->arena, sizeof *l);
		l->name = name;
		l->rest = line;
		hash_put(&t->by_name, l->name, l);
	}
	t->mtime = st.st_mtim;
	t->size = st.st_size;
	t->ino = st.st_ino;
	t->checked_ms = clock_ms();
	t->loaded = true;
	return ST_OK;
}

struct users *users_new(const char *passwd, const char *group)
{
	struct users *u = mem_new(sizeof *u);

	u->passwd.path = passwd;
	u->group.path = group;
	return u;
}

static void table_clear(struct table *t)
{
	hash_clear(&t->by_name);
	arena_clear(&t->arena);
}

void users_free(struct users *u)
{
	if (!u)
		return;
	table_clear(&u->passwd);
	table_clear(&u->group);
	mem_free(u);
}

enum status users_line(struct users *u, struct str name, struct str *rest_out, struct err *err)
{
	const struct line *l;
	enum status st = table_load(&u->passwd, err);

	if (st)
		return st;
	l = name.len ? hash_get(&u->passwd.by_name, name) : NULL;
	if (!l)
		return ST_FAIL;
	*rest_out = l->rest;
	return ST_OK;
}

enum status users_find(struct users *u, struct str name, struct user *out, struct err *err)
{
	struct str field[5]; /* password, uid, gid, gecos, home */
	struct line *l;
	enum status st = table_load(&u->passwd, err);

	if (st != ST_OK)
		return st;
	l = name.len ? hash_get(&u->passwd.by_name, name) : NULL;
	if (!l)
		return err_set(err, ST_FAIL, "there is no login \"%.*s\"", STR_FMT(name));
	struct str rest = l->rest;
	for (int i = 0; i < 5; i++)
		if (!str_split(&rest, ':', &field[i]))
			field[i] = STR_NULL;
	out->name = l->name;
	out->home = field[4];
	if (!str_u64(field[1], UINT32_MAX, &out->uid) || !str_u64(field[2], UINT32_MAX, &out->gid))
		return err_set(err, ST_DEFER, "%s: the line of \"%.*s\" is damaged", u->passwd.path, STR_FMT(l->name));
	return ST_OK;
}

enum status users_group(struct users *u, struct str name, uint64_t *gid_out, struct err *err)
{
	struct str rest, field;
	struct line *l;
	enum status st;

	if (str_u64(name, UINT32_MAX, gid_out))
		return ST_OK;
	st = table_load(&u->group, err);
	if (st != ST_OK)
		return st;
	l = name.len ? hash_get(&u->group.by_name, name) : NULL;
	if (!l)
		return err_set(err, ST_FAIL, "there is no group \"%.*s\"", STR_FMT(name));
	rest = l->rest;
	if (!str_split(&rest, ':', &field) || !str_split(&rest, ':', &field) || !str_u64(field, UINT32_MAX, gid_out))
		return err_set(err, ST_DEFER, "%s: the line of \"%.*s\" is damaged", u->group.path, STR_FMT(name));
	return ST_OK;
}
