/* SPDX-License-Identifier: ISC */
/* Files that lookups read, damaged in every way: lsearch and iplsearch tables, cdb, JSON, Berkeley DB (D). The first octet says which, then a key up to
 * the first LF, then the file. */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/lang/text_table.h"
#include "router/lookup_drivers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void);

/* libdb's check of a damaged file; it is made once a file. */
const char *__lsan_default_suppressions(void)
{
	return "leak:libdb-";
}

static bool entry(void *arg, const struct text_entry *e)
{
	struct arena *a = arg;

	/* Parts are lent from the text: they must be readable. */
	text_entry_full(a, e);
	return true;
}

static void file_search(const struct lookup_driver *d, struct str file, struct str key, struct arena *a)
{
	struct lookup_env env = { .dns = NULL };
	struct lookup_result r = { .value = STR_NULL };
	struct err err = ERR_INIT;
	void *handle = NULL;
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	struct str path = str_printf(a, "/proc/self/fd/%d", fd);

	if (fd >= 0 && write(fd, file.p, file.len) == (ssize_t)file.len && !d->open(&env, path, &handle, &err)) {
		d->find(&env, handle, path, key, STR_LIT("ret=full"), a, &r, &err);
		d->close(handle);
	}
	if (fd >= 0)
		close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct lookup_driver *const drivers[] = { &lookup_driver_lsearch, &lookup_driver_iplsearch, &lookup_driver_cdb, &lookup_driver_json };
	struct arena arena = ARENA_INIT;
	struct str text = { (const char *)data, (uint32_t)size, false }, key;
	const struct lookup_driver *d;

	if (size < 2 || size > 100000)
		return 0;
	d = data[0] == 'D' ? &lookup_driver_dbmnz : drivers[data[0] % 4];
	text = str_from(text, 1);
	if (!str_split(&text, '\n', &key))
		return 0;
	if (!text.p)
		text = STR_LIT("");
	if (d->open)
		file_search(d, text, key, &arena);
	text_table_each(text, &arena, entry, &arena);
	arena_clear(&arena);
	return 0;
}
