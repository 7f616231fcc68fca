/* SPDX-License-Identifier: ISC */
#include "local/local_options.h"

#include <string.h>

#include "common/conf/option.h"
#include "local/local.h"
#include "local/local_text.h"

bool local_path_is_safe(struct str path)
{
	struct str rest = path, part;

	if (!path.len || path.len > LOCAL_PATH_MAX || path.p[0] != '/' || str_has_ctl(path))
		return false;
	while (str_split(&rest, '/', &part))
		if (str_is(part, ".."))
			return false;
	return true;
}

enum status local_quota_parse(struct str text, uint64_t *out, bool *no_check, struct err *err)
{
	struct str s = str_trim(text), option;
	uint64_t whole = 0, part = 0, scale = 1, unit = 1;
	struct str number;

	*out = 0;
	*no_check = false;
	if (!s.len)
		return ST_OK;
	number = STR_NULL;
	str_split(&s, '/', &number);
	while (str_split(&s, '/', &option)) {
		if (!str_is(str_trim(option), "no_check"))
			return err_set(err, ST_ERROR, "unknown modifier \"%.*s\"", STR_FMT(option));
		*no_check = true;
	}
	number = str_trim(number);
	if (number.len) {
		char last = ascii_upper(number.p[number.len - 1]);

		unit = last == 'K' ? 1ULL << 10 : last == 'M' ? 1ULL << 20 : last == 'G' ? 1ULL << 30 : last == 'T' ? 1ULL << 40 : 1;
		if (unit > 1)
			number.len--;
	}
	str_split(&number, '.', &s);
	if (!str_u64(s, UINT64_MAX / (1ULL << 41), &whole))
		return err_set(err, ST_ERROR, "\"%.*s\" is no number of octets", STR_FMT(text));
	if (number.len) {
		if (!str_u64(str_sub(number, 0, 6), 999999, &part))
			return err_set(err, ST_ERROR, "\"%.*s\" is no number of octets", STR_FMT(text));
		for (uint32_t i = 0; i < number.len && i < 6; i++)
			scale *= 10;
	}
	*out = whole * unit + part * unit / scale;
	return ST_OK;
}

static uint64_t ms_of(int64_t seconds)
{
	return seconds > 0 ? (uint64_t)seconds * 1000 : 0;
}

static enum status number_take(struct str text, bool *has, uint64_t *out, const char *name, struct err *err)
{
	int64_t n;
	enum status st;

	*has = text.len > 0;
	if (!text.len)
		return ST_OK;
	st = conf_int_parse(text, &n, err);
	if (st || n < 0)
		return err_set(err, ST_ERROR, "%s: \"%.*s\" is no number", name, STR_FMT(text));
	*out = (uint64_t)n;
	return ST_OK;
}

/* "10M", or "75%" of the quota: without a quota that means nothing. */
static enum status warn_take(const struct conf_opts_transport_appendfile *o, struct local_options *out, struct err *err)
{
	struct str text = str_trim(o->quota_warn_threshold.text);
	uint64_t percent;
	bool no_check;

	out->warn_message = o->quota_warn_message.text;
	if (!str_ends(text, "%"))
		return local_quota_parse(text, &out->warn_at, &no_check, err);
	if (!str_u64(str_trim(str_sub(text, 0, text.len - 1)), 100, &percent))
		return err_set(err, ST_ERROR, "\"%.*s\" is no percentage", STR_FMT(text));
	out->warn_at = out->quota / 100 * percent + out->quota % 100 * percent / 100;
	return ST_OK;
}

static enum status quota_take(const struct conf_opts_transport_appendfile *o, struct local_options *out, struct err *err)
{
	enum status st = local_quota_parse(o->quota.text, &out->quota, &out->quota_no_check, err);

	if (st)
		return err_prefix(err, "quota");
	st = local_quota_parse(o->quota_filecount.text, &out->quota_files, &out->files_no_check, err);
	if (st)
		return err_prefix(err, "quota_filecount");
	st = warn_take(o, out, err);
	if (st)
		return err_prefix(err, "quota_warn_threshold");
	out->quota_inclusive = o->quota_is_inclusive;
	out->quota_directory = o->quota_directory.text;
	out->quota_size_regex = o->quota_size_regex.text;
	out->quota_directory_regex = o->maildir_quota_directory_regex.text;
	if (out->quota_directory.len && !local_path_is_safe(out->quota_directory))
		return err_set(err, ST_ERROR, "quota_directory: \"%.*s\" is no absolute path", STR_FMT(out->quota_directory));
	if (o->maildir_use_size_file.text.len) {
		st = conf_bool_parse(o->maildir_use_size_file.text, &out->size_file, err);
		if (st)
			return err_prefix(err, "maildir_use_size_file");
	}
	st = number_take(o->mailbox_size.text, &out->has_size, &out->mailbox_size, "mailbox_size", err);
	return st ? st : number_take(o->mailbox_filecount.text, &out->has_count, &out->mailbox_count, "mailbox_filecount", err);
}

static enum status store_take(const struct conf_opts_transport_appendfile *o, struct local_options *out, struct err *err)
{
	struct str path;

	out->file = o->file.text;
	out->directory = o->directory.text;
	out->maildir = o->maildir_format;
	if (!out->file.len == !out->directory.len)
		return err_set(err, ST_ERROR, "%s file and directory is set", out->file.len ? "not only one of" : "neither");
	path = out->file.len ? out->file : out->directory;
	if (!local_path_is_safe(path))
		return err_set(err, ST_ERROR, "%s: \"%.*s\" is no absolute path, or has .. in it", out->file.len ? "file" : "directory", STR_FMT(path));
	out->allow_fifo = o->allow_fifo;
	out->maildir_tag = o->maildir_tag.text;
	if (o->directory_file.set)
		out->directory_file = o->directory_file.text;
	if (str_find(out->directory_file, '/') >= 0)
		return err_set(err, ST_ERROR, "a slash in directory_file");
	out->create_file = o->create_file.text;
	out->create_directory = o->create_directory;
	out->file_must_exist = o->file_must_exist;
	out->check_owner = o->check_owner;
	out->check_group = o->check_group;
	out->allow_symlink = o->allow_symlink;
	out->mode_fail_narrower = o->mode_fail_narrower;
	out->mode = (mode_t)(o->mode & 07777);
	out->directory_mode = (mode_t)(o->directory_mode & 07777);
	out->folder_regex = o->maildirfolder_create_regex.text;
	out->maildir_retries = o->maildir_retries > 0 ? (unsigned)o->maildir_retries : 1;
	return ST_OK;
}

static void lock_take(const struct conf_opts_transport_appendfile *o, bool fcntl_set, struct local_options *out)
{
	out->use_lockfile = o->use_lockfile;
	out->use_flock = o->use_flock_lock;
	out->use_fcntl = o->use_fcntl_lock && (fcntl_set || !o->use_flock_lock);
	out->lock_retries = o->lock_retries > 0 ? (unsigned)o->lock_retries : 1;
	out->lock_interval_ms = ms_of(o->lock_interval);
	out->lock_fcntl_ms = ms_of(o->lock_fcntl_timeout);
	out->lock_flock_ms = ms_of(o->lock_flock_timeout);
	out->lockfile_timeout_s = o->lockfile_timeout;
	out->lockfile_mode = (mode_t)(o->lockfile_mode & 07777);
}

static void text_take(const struct conf_opts_transport_appendfile *o, struct local_options *out)
{
	bool mbox = out->file.len > 0;

	out->bsmtp = o->use_bsmtp;
	out->crlf = o->use_crlf;
	out->has_prefix = o->message_prefix.set || !mbox || out->bsmtp;
	out->message_prefix = o->message_prefix.text;
	out->message_suffix = o->message_suffix.set || !mbox || out->bsmtp ? o->message_suffix.text : STR_LIT("\n");
	out->check_string = o->check_string.set || !mbox ? o->check_string.text : STR_LIT("From ");
	out->escape_string = o->escape_string.set || !mbox ? o->escape_string.text : STR_LIT(">From ");
	if (out->bsmtp) {
		out->check_string = STR_LIT(".");
		out->escape_string = STR_LIT("..");
	}
}

enum status local_plan_options(const struct ipc_plan *plan, const struct conf_table *table, void *own, struct conf_opts_transport *generic,
	struct arena *a, struct err *err)
{
	const struct conf_table *above = conf_class_table(CONF_TRANSPORTS);

	conf_opts_init(above, generic);
	conf_opts_init(table, own);
	for (uint32_t i = 0; i < plan->n_options; i++) {
		const struct ipc_pair *o = &plan->options[i];
		enum status st = conf_opts_set(table, own, a, o->name, o->value, err);

		if (st == ST_FAIL) {
			err_clear(err); /* not its own */
			st = conf_opts_set(above, generic, a, o->name, o->value, err);
		}
		if (st)
			return err_prefix(err, "transport %.*s", STR_FMT(plan->transport));
	}
	return ST_OK;
}

enum status local_options_read(const struct ipc_plan *plan, struct arena *a, struct local_options *out, struct err *err)
{
	struct conf_opts_transport_appendfile own;
	struct conf_opts_transport generic;
	bool fcntl_set = false;
	enum status st;

	if (!str_is(plan->driver, "appendfile"))
		return err_set(err, ST_ERROR, "driver %.*s is not delivered here", STR_FMT(plan->driver));
	memset(out, 0, sizeof *out);
	st = local_plan_options(plan, &conf_table_transport_appendfile, &own, &generic, a, err);
	if (st)
		return st;
	for (uint32_t i = 0; i < plan->n_options; i++)
		fcntl_set |= str_is(plan->options[i].name, "use_fcntl_lock");
	out->home = plan->home;
	out->headers_only = generic.headers_only;
	out->body_only = generic.body_only;
	out->return_path_add = generic.return_path_add;
	out->delivery_date_add = generic.delivery_date_add;
	out->envelope_to_add = generic.envelope_to_add;
	st = store_take(&own, out, err);
	if (!st)
		st = quota_take(&own, out, err);
	if (st)
		return err_prefix(err, "transport %.*s", STR_FMT(plan->transport));
	lock_take(&own, fcntl_set, out);
	text_take(&own, out);
	if (out->check_string.len > LOCAL_CHECK_MAX)
		return err_set(err, ST_ERROR, "transport %.*s: check_string is too long", STR_FMT(plan->transport));
	if (out->file.len && !out->use_lockfile && !out->use_fcntl && !out->use_flock)
		return err_set(err, ST_ERROR, "transport %.*s: no kind of lock is used", STR_FMT(plan->transport));
	return ST_OK;
}
