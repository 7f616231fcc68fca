/* SPDX-License-Identifier: ISC */
#include <string.h>

#include "common/mail/delivery.h"
#include "local/local.h"

bool local_message_begin(struct local_job *job, const struct ipc_plan *plan, struct local_fault *f)
{
	const struct local_options *o = job->options;
	const struct ipc_deliver *m = job->msg;
	struct str fields[DELIVERY_FIELDS_MAX];
	struct str sender = plan->has_return_path ? plan->return_path : m->sender;
	struct delivery_fields want = {
		.return_path = o->return_path_add, .envelope_to = o->envelope_to_add, .delivery_date = o->delivery_date_add, .sender = sender,
		.recipients = m->recipients, .n_recipients = m->n_recipients, .now_s = job->now_us / 1000000,
	};
	struct edit_input in = {
		.edits = m->edits, .n_edits = m->n_edits, .rewrites = plan->rewrites, .n_rewrites = plan->n_rewrites, .headers_add = plan->headers_add, .headers_remove = plan->headers_remove,
		.prepend = fields, .fd = job->fd, .offset = m->offset, .header_size = m->header_size, .flags = m->flags,
	};
	struct edit_result r = { NULL, 0, 0 };
	struct err err;

	job->sender = sender;
	if (job->fd < 0)
		return local_fault_set(f, RETRY_OTHER, "4.3.0", "no descriptor came with the message");
	if (m->header_size > m->content)
		return local_fault_set(f, RETRY_OTHER, "4.3.0", "the header is larger than the message");
	in.n_prepend = delivery_fields_make(&want, job->arena, fields);
	if (!o->body_only && edit_apply(&in, job->arena, &r, &err))
		return local_fault_set(f, RETRY_OTHER, "4.3.0", "%s", err.text);
	job->pieces = arena_alloc(job->arena, (r.n + 1) * sizeof *job->pieces);
	if (r.n)
		memcpy(job->pieces, r.v, r.n * sizeof *job->pieces);
	job->n_pieces = r.n;
	job->size = r.size;
	if (!o->headers_only && m->content > m->header_size) {
		job->pieces[job->n_pieces++] = (struct edit_piece){ NULL, m->header_size, m->content - m->header_size };
		job->size += m->content - m->header_size;
	}
	return true;
}

bool local_deliver(struct local_job *job, const struct ipc_plan *plan, struct local_fault *f)
{
	struct local_options *o = arena_alloc(job->arena, sizeof *o);
	struct err err;

	if (local_options_read(plan, job->arena, o, &err))
		return local_fault_set(f, RETRY_OTHER, "4.3.5", "%s", err.text);
	o->file = o->file.len ? str_dup(job->arena, o->file) : STR_NULL;
	o->directory = o->directory.len ? str_dup(job->arena, o->directory) : STR_NULL;
	job->options = o;
	if (!local_message_begin(job, plan, f))
		return false;
	if (o->file.len)
		return local_mbox_deliver(job, f);
	return o->maildir ? local_maildir_deliver(job, f) : local_newfile_deliver(job, f);
}
