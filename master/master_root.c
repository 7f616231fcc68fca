/* SPDX-License-Identifier: ISC */
/* master_root.c - a daemon's own root in a private mount namespace: the configured directories, under their own names, and
 * nothing else. Runs in the new process, before exec; what is mounted here is seen by that daemon alone and goes with it. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/lang/scan_server.h"
#include "master/master.h"

enum { BINDS_MAX = 256 };

struct bind {
	const char *path;
	bool write;
};

struct binds {
	struct bind v[BINDS_MAX];
	unsigned n;
	struct arena arena;
};

/* What resolver and user lookups read, beside the configured directories. */
static const char *const tables_always[] = { "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/passwd", "/etc/group",
	"/etc/ssl/certs", NULL };

/* The directory of a socket, as far as it is known before expansion; empty: none. The directory, since a server that starts again
 * makes its socket anew. */
static struct str directory_of(struct str path)
{
	size_t i = 0, end = 0;

	for (; i < path.len && path.p[i] != '$' && path.p[i] != '\\'; i++)
		if (path.p[i] == '/')
			end = i;
	return (struct str){ path.p, end };
}

/* Of the lmtp transports for smtp-out, of the dovecot authenticators for policyd. False behind the last; *out may be empty. */
static bool socket_directory(const struct child *c, uint32_t i, struct str *out)
{
	bool policyd = c->service->see & V_POLICYD;
	const struct conf_instances *all = &child_conf(c)->of[policyd ? CONF_AUTHENTICATORS : CONF_TRANSPORTS];
	const struct conf_opts_authenticator_dovecot *d;
	const struct conf_opts_transport_lmtp *o;

	*out = STR_NULL;
	if (i >= all->n)
		return false;
	d = policyd ? CONF_OWN(&all->v[i], authenticator_dovecot) : NULL;
	o = policyd ? NULL : CONF_OWN(&all->v[i], transport_lmtp);
	if (o)
		*out = directory_of(o->socket.text);
	else if (d && str_begins(str_trim(d->server_socket.text), "/"))
		*out = directory_of(str_trim(d->server_socket.text));
	return true;
}

/* The file of trust anchors of a dovecot authenticator with TLS. */
static struct str anchors_file(const struct child *c, uint32_t i)
{
	const struct conf_instances *all = &child_conf(c)->of[CONF_AUTHENTICATORS];
	const struct conf_opts_authenticator_dovecot *d = c->service->see & V_POLICYD && i < all->n ? CONF_OWN(&all->v[i], authenticator_dovecot) : NULL;
	struct str file = d && d->server_tls ? d->server_tls_verify_certificates.text : STR_NULL;

	return str_is(file, "system") ? STR_LIT("/etc/ssl/certs/ca-certificates.crt") : file;
}

/* Where a name is a symbolic link, what it leads to is bound too, so that the link works inside. */
static void bind_add(struct binds *b, const char *path, bool write)
{
	char real[PATH_MAX];

	if (b->n + 2 > BINDS_MAX || path[0] != '/')
		return;
	b->v[b->n++] = (struct bind){ path, write };
	if (realpath(path, real) && strcmp(real, path) != 0)
		b->v[b->n++] = (struct bind){ arena_strdup(&b->arena, real), write };
}

/* The directories of the sockets on which policyd's scanners listen, as far as the options name them; b: NULL to know whether there are any. */
static void scanner_directories(const struct child *c, struct binds *b, bool *any_out)
{
	const struct conf *conf = child_conf(c);

	for (int spam = 0; spam < 2 && c->service->see & V_POLICYD; spam++) {
		struct str text = spam ? conf->main.spamd_address.text : conf->main.av_scanner.text;
		struct arena a = ARENA_INIT;
		struct scan_servers *servers = arena_alloc(&a, sizeof *servers);

		if (scan_wanted(conf, spam) && !scan_text_expands(text) && scan_servers_parse(&a, text, spam, servers, NULL) == ST_OK)
			for (unsigned i = 0; i < servers->n; i++) {
				struct str dir = directory_of(servers->v[i].path);

				*any_out |= dir.len > 0;
				if (b && dir.len)
					bind_add(b, str_cstr(&b->arena, dir), false);
			}
		arena_clear(&a);
	}
}

static bool has_sockets(const struct child *c)
{
	bool any = false;
	struct str dir;

	for (uint32_t i = 0; socket_directory(c, i, &dir); i++)
		if (dir.len || anchors_file(c, i).len)
			return true;
	scanner_directories(c, NULL, &any);
	return any;
}

bool root_is_empty(const struct master *m, const struct child *c)
{
	return c->service->root == ROOT_EMPTY || (c->service->root == ROOT_SOCKETS && !(m->privileged && has_sockets(c)));
}

bool root_has_namespace(const struct master *m, const struct child *c)
{
	return m->privileged && c->service->root != ROOT_SPOOL && c->service->root != ROOT_HOST && !root_is_empty(m, c) &&
	       !str_is(child_conf(c)->main.namespaces.text, "off") && !m->namespaces_fail;
}

static void binds_add_list(struct binds *b, struct str list, bool write)
{
	struct conf_list_walk walk = CONF_LIST_WALK(list);
	struct str item;

	while (conf_list_next(&walk, &b->arena, &item))
		if (item.len > 1)
			bind_add(b, str_cstr(&b->arena, item), write);
}

/* Directories of files that the router looks at by name: queue_only_file (with smtp before the path), templates of reports. */
static void binds_add_files(struct binds *b, const struct conf_opts_main *o)
{
	struct conf_list_walk walk = CONF_LIST_WALK(o->queue_only_file.text);
	const struct str files[] = { o->bounce_message_file.text, o->warn_message_file.text };
	struct str item, dir;

	while (o->queue_only_file.text.len && conf_list_next(&walk, &b->arena, &item)) {
		dir = directory_of(str_begins(item, "smtp") ? str_from(item, 4) : item);
		if (dir.len)
			bind_add(b, str_cstr(&b->arena, dir), false);
	}
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		dir = directory_of(files[i]);
		if (dir.len)
			bind_add(b, str_cstr(&b->arena, dir), false);
	}
}

/* The directories of the sockets that a list of database servers names: "(/path)" in an item; MySQL's own place where a server
 * is named by nothing or "localhost". */
static void binds_add_servers(struct binds *b, struct str list, bool mysql)
{
	struct conf_list_walk walk = CONF_LIST_WALK(list);
	struct str item;

	while (list.len && conf_list_next(&walk, &b->arena, &item)) {
		ptrdiff_t open = str_find(item, '('), close = open < 0 ? -1 : str_find(item, ')'), slash;
		struct str path = close > open ? str_sub(item, (size_t)open + 1, (size_t)(close - open - 1)) : STR_NULL;

		if (!path.len && mysql && (str_begins(item, "/") || str_beginsi(item, "localhost")))
			path = STR_LIT("/run/mysqld/mysqld.sock");
		slash = str_rfind(path, '/');
		if (slash > 0) /* to connect needs no right to write to the file system */
			bind_add(b, str_cstr(&b->arena, str_sub(path, 0, (size_t)slash)), false);
	}
}

/* Files that LMDB writes, each with its lock; made here where they are missing, since the daemon sees their directory read-only. */
static void binds_add_lmdb(const struct child *c, struct binds *b, struct str list)
{
	static const char *const ends[] = { "", "-lock" };
	struct conf_list_walk walk = CONF_LIST_WALK(list);
	struct str item;

	while (list.len && conf_list_next(&walk, &b->arena, &item)) {
		for (size_t i = 0; item.len > 1 && item.p[0] == '/' && i < 2; i++) {
			char *path = arena_printf(&b->arena, "%.*s%s", STR_FMT(item), ends[i]);
			struct stat st;
			int fd;

			if (lstat(path, &st) < 0 && (fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640)) >= 0) {
				if (fchown(fd, c->uid, c->gid) < 0)
					unlink(path);
				close(fd);
			}
			if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
				bind_add(b, path, true);
		}
	}
}

/* Parents before what is in them, so that the inner one covers. */
static int bind_cmp(const void *a, const void *b)
{
	const struct bind *x = a, *y = b;
	int c = strcmp(x->path, y->path);

	return c ? c : (int)x->write - (int)y->write;
}

/* A queuefile transport's directory; as far as it is known before expansion, and down to what exists. */
static void handover_bind(struct arena *a, const struct conf_instance *t, struct binds *b)
{
	const struct conf_opts_transport_queuefile *o = CONF_OWN(t, transport_queuefile);
	struct str path = o ? str_trim(o->directory.text) : STR_NULL;
	bool whole = true;
	struct stat st;

	for (uint32_t i = 0; i < path.len; i++)
		if (path.p[i] == '$' || path.p[i] == '\\') {
			path = str_sub(path, 0, i);
			whole = false;
		}
	while (path.len > 1 && (!whole || stat(str_cstr(a, path), &st) < 0)) {
		ptrdiff_t slash = str_rfind(path, '/');

		path = str_sub(path, 0, slash > 0 ? (size_t)slash : 0);
		whole = true;
	}
	/* A final symbolic link is refused: bound, it would look like the directory that it leads to. */
	if (path.len > 1 && lstat(str_cstr(a, path), &st) == 0 && S_ISDIR(st.st_mode))
		bind_add(b, str_cstr(a, path), true);
}

static void binds_make(const struct master *m, const struct child *c, struct binds *b)
{
	const struct conf *conf = child_conf(c);
	const struct conf_opts_main *o = &conf->main;

	if (c->service->root == ROOT_STORE) {
		binds_add_list(b, o->store_directories.text, true);
	} else if (c->service->root == ROOT_HANDOVER) {
		for (uint32_t i = 0; i < conf->of[CONF_TRANSPORTS].n; i++)
			handover_bind(&b->arena, &conf->of[CONF_TRANSPORTS].v[i], b);
	} else if (c->service->root == ROOT_KEYS) {
		bind_add(b, "/etc/ssl/certs", false);
		binds_add_list(b, o->tls_directories.text, false);
	} else if (c->service->root == ROOT_SOCKETS) {
		struct str dir;
		bool any = false;

		for (uint32_t i = 0; socket_directory(c, i, &dir); i++) { /* to connect needs no right to write to the file system */
			if (dir.len)
				bind_add(b, str_cstr(&b->arena, dir), false);
			if (anchors_file(c, i).len)
				bind_add(b, str_cstr(&b->arena, anchors_file(c, i)), false);
		}
		scanner_directories(c, b, &any);
	} else {
		for (const char *const *p = tables_always; *p; p++)
			bind_add(b, *p, false);
		binds_add_list(b, o->lookup_directories.text, false);
		binds_add_servers(b, o->redis_servers.text, false);
		binds_add_servers(b, o->pgsql_servers.text, false);
		binds_add_servers(b, o->mysql_servers.text, true);
		binds_add_list(b, o->sqlite_writable.text, true);
		binds_add_lmdb(c, b, o->lmdb_writable.text);
		binds_add_files(b, o);
		bind_add(b, m->hints, true);
	}
	qsort(b->v, b->n, sizeof b->v[0], bind_cmp);
}

static enum status target_make(const char *root, const char *path, bool directory, char out[MASTER_PATH_MAX], struct err *err)
{
	size_t from = strlen(root) + 1;
	int fd;

	if ((size_t)snprintf(out, MASTER_PATH_MAX, "%s%s", root, path) >= MASTER_PATH_MAX)
		return err_set(err, ST_ERROR, "%s: too long", path);
	for (char *p = out + from; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(out, 0755) < 0 && errno != EEXIST)
			return err_set(err, ST_ERROR, "%s: %s", out, strerror(errno));
		*p = '/';
	}
	if (directory)
		return mkdir(out, 0755) < 0 && errno != EEXIST ? err_set(err, ST_ERROR, "%s: %s", out, strerror(errno)) : ST_OK;
	fd = open(out, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0444);
	if (fd < 0 && access(out, F_OK) < 0)
		return err_set(err, ST_ERROR, "%s: %s", out, strerror(errno));
	if (fd >= 0)
		close(fd);
	return ST_OK;
}

static enum status bind_mount(const char *root, const struct bind *b, struct err *err)
{
	unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | (b->write ? 0 : MS_RDONLY);
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | (b->write ? 0u : MOUNT_ATTR_RDONLY) };
	char target[MASTER_PATH_MAX];
	struct stat st, link;

	if (b->write)
		attr.attr_clr = MOUNT_ATTR_RDONLY; /* it may lie in one that was made read-only */
	if (stat(b->path, &st) < 0)
		return ST_OK; /* not there: nothing to show. The configuration's check warns */
	if ((size_t)snprintf(target, sizeof target, "%s%s", root, b->path) < sizeof target && lstat(target, &link) == 0 && S_ISLNK(link.st_mode))
		return ST_OK;
	if (target_make(root, b->path, S_ISDIR(st.st_mode), target, err))
		return err->status;
	if (mount(b->path, target, "none", MS_BIND | MS_REC, NULL) < 0)
		return err_set(err, ST_ERROR, "binding %s: %s", b->path, strerror(errno));
	if (mount_setattr(AT_FDCWD, target, AT_RECURSIVE, &attr, sizeof attr) < 0 &&
	    mount("none", target, "none", MS_BIND | MS_REMOUNT | flags, NULL) < 0)
		return err_set(err, ST_ERROR, "protecting %s: %s", b->path, strerror(errno));
	return ST_OK;
}

enum status root_enter(const struct master *m, const struct child *c, struct err *err)
{
	struct binds b = { .arena = ARENA_INIT };
	char root[MASTER_PATH_MAX + 16];

	snprintf(root, sizeof root, "%s/root", m->run);
	if (unshare(CLONE_NEWNS) < 0)
		return err_set(err, ST_DEFER, "mount namespace: %s", strerror(errno));
	if (mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("bulkhead", root, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=1m,nr_inodes=4096") < 0)
		return err_set(err, ST_DEFER, "private root on %s: %s", root, strerror(errno));
	umask(022); /* directories on the way to a bound one must be passable */
	binds_make(m, c, &b);
	for (unsigned i = 0; i < b.n; i++)
		if (bind_mount(root, &b.v[i], err))
			return err->status;
	umask(077);
	if (mount("none", root, "none", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return err_set(err, ST_ERROR, "private root: %s", strerror(errno));
	arena_clear(&b.arena);
	return ST_OK;
}
