/* SPDX-License-Identifier: ISC */
/* Files that lists and ACLs name: read by router, which sees the disk, in parts; kept here, and asked about at most once a second. */
#include <string.h>

#include "common/base/clock.h"
#include "common/lang/lookup.h"
#include "policyd/policyd.h"

enum { FILE_TRIES = 3 /* for a file that changes while its parts are fetched */ };

static void file_free(struct policyd_file *f)
{
	mem_free(f->path);
	mem_free(f->version);
	mem_free((void *)f->content.p);
	mem_free(f);
}

void policyd_files_clear(struct policyd *p)
{
	for (struct policyd_file *f = p->files, *next; f; f = next) {
		next = f->next;
		file_free(f);
	}
	p->files = NULL;
	p->n_files = 0;
}

static struct policyd_file *file_find(struct policyd *p, struct str path)
{
	for (struct policyd_file *f = p->files; f; f = f->next)
		if (str_is(path, f->path))
			return f;
	return NULL;
}

static void file_forget(struct policyd *p, struct policyd_file *gone)
{
	for (struct policyd_file **f = &p->files; *f; f = &(*f)->next)
		if (*f == gone) {
			*f = gone->next;
			file_free(gone);
			p->n_files--;
			return;
		}
}

/* "VERSION SIZE" */
static bool version_split(struct str matched, struct str *version, uint64_t *size)
{
	ptrdiff_t blank = str_rfind(matched, ' ');

	*version = blank < 0 ? matched : str_sub(matched, 0, (size_t)blank);
	return blank >= 0 && str_u64(str_from(matched, (size_t)blank + 1), LANG_FILE_MAX, size);
}

/* The whole of a file, part by part; ST_DEFER when it will not stay the same. */
static enum status file_fetch(struct policyd *p, struct arena *a, struct str path, struct str first, struct str matched, struct policyd_file **out,
	struct err *err)
{
	const struct lang_services *services = lang_services(p->lang);
	struct str version, again;
	uint64_t size, size_again;
	struct policyd_file *f;
	char *content;

	if (!version_split(matched, &version, &size) || first.len > size)
		return err_set(err, ST_ERROR, "router gave no size for \"%.*s\"", STR_FMT(path));
	content = mem_try(size + 1);
	if (!content)
		return err_set(err, ST_DEFER, "out of memory");
	if (first.len)
		memcpy(content, first.p, first.len);
	for (uint64_t got = first.len; got < size;) {
		struct ipc_lookup_ask ask = { .type = STR_LIT(LOOKUP_ASK_FILE), .file = path, .key = str_printf(a, "%llu", (unsigned long long)got) };
		struct ipc_lookup_answer answer;
		enum status st = services->lookup(services->ctx, a, &ask, &answer, err);

		if (!st && (!version_split(answer.matched, &again, &size_again) || !str_eq(again, version) || size_again != size || !answer.value.len
			|| answer.value.len > size - got))
			st = err_set(err, ST_DEFER, "\"%.*s\" changes while it is read", STR_FMT(path));
		if (st) {
			mem_free(content);
			return st;
		}
		memcpy(content + got, answer.value.p, answer.value.len);
		got += answer.value.len;
	}
	f = mem_new(sizeof *f);
	f->path = mem_memdup(path.p, path.len);
	f->version = mem_memdup(version.p, version.len);
	f->content = str_make(content, size);
	*out = f;
	return ST_OK;
}

static enum status file_refresh(struct policyd *p, struct arena *a, struct str path, struct policyd_file **f, struct err *err)
{
	const struct lang_services *services = lang_services(p->lang);
	struct ipc_lookup_ask ask = { .type = STR_LIT(LOOKUP_ASK_FILE), .file = path, .key = STR_LIT("0"), .options = str_of(*f ? (*f)->version : NULL) };
	struct ipc_lookup_answer answer;
	struct policyd_file *made = NULL;
	enum status st = services->lookup(services->ctx, a, &ask, &answer, err);

	if (st)
		return st;
	if (*f && str_is(answer.matched, (*f)->version))
		return ST_OK;
	st = file_fetch(p, a, path, answer.value, answer.matched, &made, err);
	if (st)
		return st;
	if (*f)
		file_forget(p, *f);
	if (p->n_files >= POLICYD_FILES_MAX)
		policyd_files_clear(p);
	made->next = p->files;
	p->files = made;
	p->n_files++;
	*f = made;
	return ST_OK;
}

enum status policyd_file_get(struct policyd *p, struct arena *a, struct str path, struct lang_file *out, struct err *err)
{
	struct policyd_file *f = file_find(p, path);
	enum status st = ST_OK;

	if (!f || clock_ms() - f->checked_ms >= POLICYD_FILE_FRESH_MS) {
		for (int i = 0; i < FILE_TRIES; i++) {
			st = file_refresh(p, a, path, &f, err);
			if (st != ST_DEFER)
				break;
		}
		if (st)
			return st;
		f->checked_ms = clock_ms();
	}
	/* A copy: the file may be forgotten while its text is in use. */
	out->content = str_dup(a, f->content);
	return ST_OK;
}
