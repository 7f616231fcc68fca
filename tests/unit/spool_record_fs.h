/* SPDX-License-Identifier: ISC */
/* spool_record_fs.h - a struct spool_fs that does everything and writes it down, and a disk that believes in nothing but syncs.
 * What was recorded is replayed call by call into the disk; at any point it can be asked what a power cut would leave:
 *   - data written and not followed by fdatasync() or fsync() of that file may be there, missing, zero or half there, piece by piece;
 *   - a directory entry made, removed or renamed and not followed by fsync() of that directory may be either way, each by itself.
 * Used by:    tests/unit/spool_crash_test.c. */
#ifndef SPOOL_RECORD_FS_H
#define SPOOL_RECORD_FS_H

#include <pthread.h>

#include "tests/unit/spool_util.h"

enum op_type { OP_WRITE, OP_TRUNCATE, OP_SYNC, OP_LINK, OP_UNLINK, OP_RENAME, OP_EVENT };

struct op {
	enum op_type type;
	int object, object2;    /* file or directory; rename: the other directory */
	int target;             /* link: what the name stands for */
	uint64_t at;
	uint32_t length;
	char *data;             /* write: octets; link, unlink, rename: name */
	char *data2;            /* rename: new name */
};

struct object {
	bool is_dir;
	ino_t ino;
	bool dead;              /* the inode's number may be used again */
};

struct recorder {
	pthread_mutex_t mutex;
	struct op *ops;
	size_t n_ops, cap_ops;
	struct object *objects; /* 0: the directory above the spool's */
	size_t n_objects, cap_objects;
	struct spool_fs fs;
};

static inline struct op *rec_add(struct recorder *r, enum op_type type, int object)
{
	if (r->n_ops == r->cap_ops) {
		r->cap_ops = r->cap_ops ? r->cap_ops * 2 : 1024;
		r->ops = realloc(r->ops, r->cap_ops * sizeof *r->ops);
	}
	r->ops[r->n_ops] = (struct op){ .type = type, .object = object };
	return &r->ops[r->n_ops++];
}

static inline int rec_object(struct recorder *r, ino_t ino)
{
	for (size_t i = r->n_objects; i-- > 0;)
		if (r->objects[i].ino == ino && !r->objects[i].dead)
			return (int)i;
	return 0;
}

static inline int rec_fd_object(struct recorder *r, int fd)
{
	struct stat st;

	return fd == AT_FDCWD || fstat(fd, &st) ? 0 : rec_object(r, st.st_ino);
}

static inline int rec_object_new(struct recorder *r, bool is_dir, ino_t ino)
{
	int before = rec_object(r, ino);

	if (before)
		r->objects[before].dead = true;
	if (r->n_objects == r->cap_objects) {
		r->cap_objects = r->cap_objects ? r->cap_objects * 2 : 256;
		r->objects = realloc(r->objects, r->cap_objects * sizeof *r->objects);
	}
	r->objects[r->n_objects] = (struct object){ .is_dir = is_dir, .ino = ino };
	return (int)r->n_objects++;
}

/* The spool's own directory is the one path that is not relative to a descriptor: its last part is its name. */
static inline const char *rec_name(int dir_fd, const char *path)
{
	const char *slash = strrchr(path, '/');

	return dir_fd == AT_FDCWD && slash ? slash + 1 : path;
}

static inline int rec_open(void *arg, int dir_fd, const char *path, int flags, mode_t mode)
{
	struct recorder *r = arg;
	struct stat st;
	bool there;
	int fd;

	pthread_mutex_lock(&r->mutex);
	there = !fstatat(dir_fd, path, &st, 0);
	fd = spool_fs_real.open(NULL, dir_fd, path, flags, mode);
	if (fd >= 0 && (flags & O_CREAT) && !there && !fstat(fd, &st)) {
		struct op *op = rec_add(r, OP_LINK, rec_fd_object(r, dir_fd));

		op->target = rec_object_new(r, false, st.st_ino);
		op->data = strdup(rec_name(dir_fd, path));
	}
	if (fd >= 0 && (flags & O_TRUNC) && there)
		rec_add(r, OP_TRUNCATE, rec_fd_object(r, fd));
	pthread_mutex_unlock(&r->mutex);
	return fd;
}

static inline ssize_t rec_pwrite(void *arg, int fd, const void *p, size_t n, off_t at)
{
	struct recorder *r = arg;
	int object;
	ssize_t k;

	pthread_mutex_lock(&r->mutex);
	k = pwrite(fd, p, n, at);
	object = k > 0 ? rec_fd_object(r, fd) : 0;
	if (object) { /* else it is in memory: a power cut leaves nothing of it */
		struct op *op = rec_add(r, OP_WRITE, object);

		op->at = (uint64_t)at;
		op->length = (uint32_t)k;
		op->data = malloc((size_t)k);
		memcpy(op->data, p, (size_t)k);
	}
	pthread_mutex_unlock(&r->mutex);
	return k;
}

static inline int rec_ftruncate(void *arg, int fd, off_t size)
{
	struct recorder *r = arg;
	int res;

	pthread_mutex_lock(&r->mutex);
	res = ftruncate(fd, size);
	if (!res)
		rec_add(r, OP_TRUNCATE, rec_fd_object(r, fd))->at = (uint64_t)size;
	pthread_mutex_unlock(&r->mutex);
	return res;
}

static inline int rec_fallocate(void *arg, int fd, off_t size)
{
	(void)arg, (void)fd, (void)size;
	return 0; /* promises nothing about what is read back */
}

static inline int rec_sync(void *arg, int fd)
{
	struct recorder *r = arg;

	pthread_mutex_lock(&r->mutex);
	rec_add(r, OP_SYNC, rec_fd_object(r, fd));
	pthread_mutex_unlock(&r->mutex);
	return 0;
}

static inline int rec_unlink(void *arg, int dir_fd, const char *path)
{
	struct recorder *r = arg;
	int res;

	pthread_mutex_lock(&r->mutex);
	res = unlinkat(dir_fd, path, 0);
	if (!res)
		rec_add(r, OP_UNLINK, rec_fd_object(r, dir_fd))->data = strdup(path);
	pthread_mutex_unlock(&r->mutex);
	return res;
}

static inline int rec_rename(void *arg, int dir_fd, const char *from, int to_dir_fd, const char *to)
{
	struct recorder *r = arg;
	int res;

	pthread_mutex_lock(&r->mutex);
	res = renameat(dir_fd, from, to_dir_fd, to);
	if (!res) {
		struct op *op = rec_add(r, OP_RENAME, rec_fd_object(r, dir_fd));

		op->object2 = rec_fd_object(r, to_dir_fd);
		op->data = strdup(from);
		op->data2 = strdup(to);
	}
	pthread_mutex_unlock(&r->mutex);
	return res;
}

static inline int rec_mkdir(void *arg, int dir_fd, const char *path, mode_t mode)
{
	struct recorder *r = arg;
	struct stat st;
	int res, error;

	pthread_mutex_lock(&r->mutex);
	res = mkdirat(dir_fd, path, mode);
	error = errno;
	if (!res && !fstatat(dir_fd, path, &st, 0)) {
		struct op *op = rec_add(r, OP_LINK, rec_fd_object(r, dir_fd));

		op->target = rec_object_new(r, true, st.st_ino);
		op->data = strdup(rec_name(dir_fd, path));
	}
	pthread_mutex_unlock(&r->mutex);
	errno = error;
	return res;
}

static inline int rec_nothing(void *arg, int fd)
{
	(void)arg, (void)fd;
	return 0;
}

static inline void recorder_init(struct recorder *r)
{
	memset(r, 0, sizeof *r);
	pthread_mutex_init(&r->mutex, NULL);
	rec_object_new(r, true, 0);
	r->fs = spool_fs_real;
	r->fs.open = rec_open;
	r->fs.pwrite = rec_pwrite;
	r->fs.ftruncate = rec_ftruncate;
	r->fs.fallocate = rec_fallocate;
	r->fs.writeback = rec_nothing;
	r->fs.fdatasync = rec_sync;
	r->fs.fsync = rec_sync;
	r->fs.unlink = rec_unlink;
	r->fs.rename = rec_rename;
	r->fs.mkdir = rec_mkdir;
	r->fs.arg = r;
}

static inline void recorder_clear(struct recorder *r)
{
	for (size_t i = 0; i < r->n_ops; i++) {
		free(r->ops[i].data);
		free(r->ops[i].data2);
	}
	free(r->ops);
	free(r->objects);
	pthread_mutex_destroy(&r->mutex);
}

/* ---- the disk ---- */

struct disk_entry {
	char *name;
	int target;
};

struct disk_object {
	bool is_dir;
	char *data;             /* durable content */
	size_t size;
	struct disk_entry *entries;
	size_t n_entries;
	size_t *pending;        /* operations since the last sync */
	size_t n_pending;
};

struct disk {
	const struct op *ops;
	struct disk_object *objects;
	size_t n_objects;
};

static inline void entries_set(struct disk_entry **v, size_t *n, const char *name, int target)
{
	for (size_t i = 0; i < *n; i++)
		if (!strcmp((*v)[i].name, name)) {
			if (target) {
				(*v)[i].target = target;
			} else {
				free((*v)[i].name);
				(*v)[i] = (*v)[--*n];
			}
			return;
		}
	if (!target)
		return;
	*v = realloc(*v, (*n + 1) * sizeof **v);
	(*v)[(*n)++] = (struct disk_entry){ strdup(name), target };
}

static inline int entries_get(const struct disk_entry *v, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(v[i].name, name))
			return v[i].target;
	return 0;
}

static inline void data_size(char **data, size_t *size, size_t want)
{
	*data = realloc(*data, want + 1);
	if (want > *size)
		memset(*data + *size, 0, want - *size);
	*size = want;
}

static inline void data_write(char **data, size_t *size, const struct op *op, size_t from, size_t n)
{
	if (op->at + from + n > *size)
		data_size(data, size, op->at + from + n);
	if (n)
		memcpy(*data + op->at + from, op->data + from, n);
}

static inline void disk_init(struct disk *d, const struct recorder *r)
{
	d->ops = r->ops;
	d->n_objects = r->n_objects;
	d->objects = calloc(d->n_objects, sizeof *d->objects);
	for (size_t i = 0; i < d->n_objects; i++)
		d->objects[i].is_dir = r->objects[i].is_dir;
}

static inline void entry_op(const struct disk *d, const struct op *op, int target, bool in_first, struct disk_entry **v, size_t *n)
{
	(void)d;
	switch (op->type) {
	case OP_LINK:
		entries_set(v, n, op->data, op->target);
		break;
	case OP_UNLINK:
		entries_set(v, n, op->data, 0);
		break;
	case OP_RENAME:
		entries_set(v, n, in_first ? op->data : op->data2, in_first ? 0 : target);
		break;
	case OP_WRITE: case OP_TRUNCATE: case OP_SYNC: case OP_EVENT:
		break;
	}
}

/* What a rename moves: where its old name points to, all of the past taken together. */
static inline int rename_target(const struct disk *d, const struct op *op)
{
	const struct disk_object *o = &d->objects[op->object];
	int target = entries_get(o->entries, o->n_entries, op->data);

	for (size_t i = 0; i < o->n_pending; i++) {
		const struct op *p = &d->ops[o->pending[i]];

		if (p->type == OP_LINK && !strcmp(p->data, op->data))
			target = p->target;
	}
	return target;
}

static inline void disk_pend(struct disk *d, int object, size_t index)
{
	struct disk_object *o = &d->objects[object];

	o->pending = realloc(o->pending, (o->n_pending + 1) * sizeof *o->pending);
	o->pending[o->n_pending++] = index;
}

static inline void disk_apply(struct disk *d, size_t index)
{
	const struct op *op = &d->ops[index];
	struct disk_object *o = &d->objects[op->object];

	switch (op->type) {
	case OP_EVENT:
		return;
	case OP_WRITE: case OP_TRUNCATE: case OP_LINK: case OP_UNLINK:
		disk_pend(d, op->object, index);
		return;
	case OP_RENAME:
		disk_pend(d, op->object, index);
		if (op->object2 != op->object)
			disk_pend(d, op->object2, index);
		return;
	case OP_SYNC:
		break;
	}
	for (size_t i = 0; i < o->n_pending; i++) {
		const struct op *p = &d->ops[o->pending[i]];

		if (p->type == OP_WRITE)
			data_write(&o->data, &o->size, p, 0, p->length);
		else if (p->type == OP_TRUNCATE)
			data_size(&o->data, &o->size, p->at);
		else
			entry_op(d, p, p->type == OP_RENAME ? rename_target(d, p) : 0, p->object == op->object, &o->entries, &o->n_entries);
	}
	o->n_pending = 0;
}

enum cut { CUT_KEEP_NOTHING, CUT_KEEP_ALL, CUT_RANDOM, CUTS };

/* One write that was under way: each piece is there, is not, is zero, or its beginning is there. */
static inline void cut_write(const struct op *op, char **data, size_t *size, unsigned *seed)
{
	const size_t piece = 4096;
	unsigned mood = (unsigned)rand_r(seed) % 4; /* often all pieces share their fate */

	for (size_t from = 0; from < op->length;) {
		size_t n = piece - (op->at + from) % piece, whole;
		unsigned fate = mood == 3 ? (unsigned)rand_r(seed) % 5 : mood;

		n = whole = n < op->length - from ? n : op->length - from;
		if (fate == 0 || fate == 4) {
			data_write(data, size, op, from, n);
		} else if (fate == 2) {
			n = (unsigned)rand_r(seed) % (n + 1);
			if (n)
				data_write(data, size, op, from, n);
		} else if (fate == 3) {
			if (op->at + from + n > *size)
				data_size(data, size, op->at + from + n); /* zeros where nothing was; what was there stays */
		}
		from += whole;
	}
}

/* Writes what a power cut would leave into the directory `path`, which must not exist. */
static inline void disk_materialise(const struct disk *d, int object, const char *path, enum cut cut, unsigned *seed)
{
	const struct disk_object *o = &d->objects[object];

	if (o->is_dir) {
		struct disk_entry *v = NULL;
		size_t n = 0;

		assert_int_equal(mkdir(path, 0700), 0);
		for (size_t i = 0; i < o->n_entries; i++)
			entries_set(&v, &n, o->entries[i].name, o->entries[i].target);
		for (size_t i = 0; i < o->n_pending && cut != CUT_KEEP_NOTHING; i++) {
			const struct op *p = &d->ops[o->pending[i]];

			if (cut == CUT_KEEP_ALL || rand_r(seed) % 2)
				entry_op(d, p, p->type == OP_RENAME ? rename_target(d, p) : 0, p->object == object, &v, &n);
		}
		for (size_t i = 0; i < n; i++) {
			char inner[400];

			snprintf(inner, sizeof inner, "%s/%s", path, v[i].name);
			disk_materialise(d, v[i].target, inner, cut, seed);
			free(v[i].name);
		}
		free(v);
	} else {
		char *data = malloc(o->size + 1);
		size_t size = o->size, done = 0;
		int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);

		if (o->size)
			memcpy(data, o->data, o->size);
		for (size_t i = 0; i < o->n_pending && cut != CUT_KEEP_NOTHING; i++) {
			const struct op *p = &d->ops[o->pending[i]];

			if (p->type == OP_TRUNCATE) {
				if (cut == CUT_KEEP_ALL || rand_r(seed) % 2)
					data_size(&data, &size, p->at);
			} else if (cut == CUT_KEEP_ALL) {
				data_write(&data, &size, p, 0, p->length);
			} else {
				cut_write(p, &data, &size, seed);
			}
		}
		assert_true(fd >= 0);
		while (done < size) {
			ssize_t k = write(fd, data + done, size - done);

			assert_true(k > 0);
			done += (size_t)k;
		}
		close(fd);
		free(data);
	}
}

static inline void disk_clear(struct disk *d)
{
	for (size_t i = 0; i < d->n_objects; i++) {
		for (size_t k = 0; k < d->objects[i].n_entries; k++)
			free(d->objects[i].entries[k].name);
		free(d->objects[i].entries);
		free(d->objects[i].pending);
		free(d->objects[i].data);
	}
	free(d->objects);
}

#endif
