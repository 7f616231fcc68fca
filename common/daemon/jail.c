/* SPDX-License-Identifier: ISC */
#include "common/daemon/jail.h"

#include <errno.h>
#include <grp.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/base/str.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

enum { ID_MAX = 2147483647 };

/* ---- arguments ---- */

static enum status id_parse(struct str s, uint32_t *out, struct err *err)
{
	uint64_t n;

	if (!str_u64(s, ID_MAX, &n))
		return err_set(err, ST_ERROR, "\"%.*s\" is no uid or gid", STR_FMT(s));
	*out = (uint32_t)n;
	return ST_OK;
}

static enum status groups_parse(struct jail *j, struct str list, struct err *err)
{
	struct str part;

	while (list.len && str_split(&list, ',', &part)) {
		if (j->n_groups == JAIL_GROUPS_MAX)
			return err_set(err, ST_ERROR, "more than %d groups", JAIL_GROUPS_MAX);
		if (id_parse(part, &j->groups[j->n_groups], err))
			return err->status;
		j->n_groups++;
	}
	return ST_OK;
}

enum status jail_parse(int argc, char **argv, struct jail *out, struct err *err)
{
	bool uid = false, gid = false;

	*out = (struct jail){ 0 };
	if (argc < 2 || strcmp(argv[1], "--name") != 0)
		return err_set(err, ST_FAIL, "not started by master");
	for (int i = 1; i < argc; i++) {
		const char *a = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
		enum status st = ST_OK;

		if (!strcmp(a, "--unprivileged")) {
			out->unprivileged = true;
			continue;
		}
		if (!value)
			return err_set(err, ST_ERROR, "%s lacks its value", a);
		i++;
		if (!strcmp(a, "--name")) {
			out->name = value;
		} else if (!strcmp(a, "--root")) {
			out->root = value;
		} else if (!strcmp(a, "--uid")) {
			st = id_parse(str_of(value), &out->uid, err);
			uid = true;
		} else if (!strcmp(a, "--gid")) {
			st = id_parse(str_of(value), &out->gid, err);
			gid = true;
		} else if (!strcmp(a, "--groups")) {
			st = groups_parse(out, str_of(value), err);
		} else {
			return err_set(err, ST_ERROR, "unknown argument %s", a);
		}
		if (st)
			return st;
	}
	if (out->unprivileged)
		return ST_OK;
	if (!uid || !gid || !out->uid || !out->gid)
		return err_set(err, ST_ERROR, "--uid and --gid are needed, and are not 0");
	if (!out->root || out->root[0] != '/')
		return err_set(err, ST_ERROR, "--root needs an absolute path");
	return ST_OK;
}

char **jail_format(const struct jail *j, const char *path, struct arena *a)
{
	char **v = arena_alloc(a, (JAIL_ARGS_MAX + 1) * sizeof *v);
	unsigned n = 0;

	v[n++] = arena_strdup(a, path);
	v[n++] = arena_strdup(a, "--name");
	v[n++] = arena_strdup(a, j->name);
	if (j->unprivileged) {
		v[n++] = arena_strdup(a, "--unprivileged");
		return v;
	}
	v[n++] = arena_strdup(a, "--uid");
	v[n++] = arena_printf(a, "%u", j->uid);
	v[n++] = arena_strdup(a, "--gid");
	v[n++] = arena_printf(a, "%u", j->gid);
	v[n++] = arena_strdup(a, "--root");
	v[n++] = arena_strdup(a, j->root);
	if (j->n_groups) {
		struct buf b = BUF_INIT;

		for (unsigned i = 0; i < j->n_groups; i++)
			buf_printf(&b, "%s%u", i ? "," : "", j->groups[i]);
		v[n++] = arena_strdup(a, "--groups");
		v[n++] = arena_strdup(a, buf_cstr(&b));
		buf_clear(&b);
	}
	bug_on(n > JAIL_ARGS_MAX);
	return v;
}

/* ---- giving up rights ---- */

static enum status limit_set(int what, rlim_t value, const char *name, struct err *err)
{
	struct rlimit r;

	if (getrlimit((__rlimit_resource_t)what, &r) == 0) {
		if (r.rlim_max != RLIM_INFINITY && value > r.rlim_max)
			value = r.rlim_max;
		r.rlim_cur = r.rlim_max = value;
		if (setrlimit((__rlimit_resource_t)what, &r) == 0)
			return ST_OK;
	}
	return err_set(err, ST_ERROR, "limit on %s: %s", name, strerror(errno));
}

static enum status limits_enter(const struct jail_limits *l, struct err *err)
{
	struct rlimit files, cores;

	if (l->cores && getrlimit(RLIMIT_CORE, &cores) == 0) {
		cores.rlim_cur = 0;
		setrlimit(RLIMIT_CORE, &cores); /* the hard limit stays, for the programs */
	} else if (limit_set(RLIMIT_CORE, 0, "core files", err)) {
		return err->status;
	}
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return err_set(err, ST_ERROR, "limit on files: %s", strerror(errno));
	if (limit_set(RLIMIT_NOFILE, l->files ? l->files : files.rlim_max, "files", err))
		return err->status;
	if (!l->processes && !SANITIZED && limit_set(RLIMIT_NPROC, 0, "processes", err))
		return err->status;
	if (l->memory_mb && !SANITIZED && limit_set(RLIMIT_AS, (rlim_t)l->memory_mb * 1024 * 1024, "memory", err))
		return err->status;
	return ST_OK;
}

static enum status ids_enter(const struct jail *j, struct err *err)
{
	uid_t r, e, s;

	if (setgroups(j->n_groups, j->groups) < 0)
		return err_set(err, ST_ERROR, "setgroups: %s", strerror(errno));
	if (setresgid(j->gid, j->gid, j->gid) < 0)
		return err_set(err, ST_ERROR, "setresgid(%u): %s", j->gid, strerror(errno));
	if (setresuid(j->uid, j->uid, j->uid) < 0)
		return err_set(err, ST_ERROR, "setresuid(%u): %s", j->uid, strerror(errno));
	if (getresuid(&r, &e, &s) < 0 || r != j->uid || e != j->uid || s != j->uid || setresuid((uid_t)-1, 0, (uid_t)-1) == 0)
		return err_set(err, ST_ERROR, "root's rights could not be given up");
	return ST_OK;
}

enum status jail_enter(const struct jail *j, const struct jail_limits *limits, struct err *err)
{
	tzset(); /* the zone's file is out of reach afterwards */
	if (!j->unprivileged && (chroot(j->root) < 0 || chdir("/") < 0))
		return err_set(err, ST_ERROR, "chroot to %s: %s", j->root, strerror(errno));
	if (!j->unprivileged && ids_enter(j, err))
		return err->status;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_set(err, ST_ERROR, "no_new_privs: %s", strerror(errno));
	/* The leak checker of the sanitizers looks at the process from outside. */
	if (!SANITIZED && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_set(err, ST_ERROR, "dumpable: %s", strerror(errno));
	return limits_enter(limits, err);
}
