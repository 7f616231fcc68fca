/* SPDX-License-Identifier: ISC */
/* sendmail.c - local submission, as everyone's programs know it: reads a message, hands it to smtpd through the Unix socket
 * run_directory/submit, where the kernel says who we are. It runs with its caller's rights and needs none. */
#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/sendmail.h"

static const struct option long_none[] = { { NULL, 0, NULL, 0 } };

/* Words of -o that mean something here; the others are the old program's and change nothing. */
static void option_o(struct submission *s, const char *arg)
{
	if (!strcmp(arg, "i") || !strcmp(arg, "ai"))
		s->dot_ends = false;
	else if (!strcmp(arg, "em") || !strcmp(arg, "ep") || !strcmp(arg, "ee") || !strcmp(arg, "eq"))
		s->report = arg[1];
}

static int options_read(struct submission *s, int argc, char **argv)
{
	int c;

	opterr = 0;
	optind = 1;
	while ((c = getopt_long(argc, argv, "+b:B:C:d:e:F:f:h:iL:mN:nO:o:p:q::R:r:tUV:vX:", long_none, NULL)) != -1) {
		switch (c) {
		case 'b': s->mode = optarg[0]; break;
		case 'f':
		case 'r': s->sender = optarg; break;
		case 'F': s->full_name = optarg; break;
		case 'i': s->dot_ends = false; break;
		case 't': s->from_header = true; break;
		case 'o': option_o(s, optarg); break;
		case 'C': s->conf_path = optarg; break;
		case 'O': s->utf8 |= !strcasecmp(optarg, "SMTPUTF8=yes"); break;
		case 'N': s->notify = optarg; break;
		case 'R': s->ret = optarg; break;
		case 'V': s->envid = optarg; break;
		case 'q': s->mode = 'q'; break;
		case 'v': s->verbose = true; break;
		case '?': return ctl_fail(CTL_USAGE, "sendmail: option -%c is not known, or lacks its value", optopt);
		default: break; /* known to callers, without effect here */
		}
	}
	s->recipients = (const char *const *)argv + optind;
	s->n_recipients = (size_t)(argc - optind);
	return CTL_OK;
}

int submission_connect(struct ctl *ctl)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const char *run = ctl_run_directory(ctl);
	int fd;

	if (!run || (size_t)snprintf(sa.sun_path, sizeof sa.sun_path, "%s/submit", run) >= sizeof sa.sun_path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0) {
		int e = errno;

		close(fd);
		errno = e;
		return -1;
	}
	return fd;
}

/* -bs: the caller speaks SMTP on standard input and output; we only carry the octets. */
static int relay_session(int fd)
{
	return submission_relay(fd, STDIN_FILENO, STDOUT_FILENO) ? CTL_OK : CTL_IOERR;
}

int ctl_sendmail(struct ctl *ctl, int argc, char **argv)
{
	struct submission s = { .mode = 'm', .dot_ends = true, .report = 'p' };
	int code = options_read(&s, argc, argv), fd;

	if (code)
		return code;
	if (s.conf_path)
		ctl->conf_path = s.conf_path;
	switch (s.mode) {
	case 'p':
		return ctl_mailq(ctl, 1, argv);
	case 'q': {
		static const char *const retry[] = { "queue", "retry", NULL };

		return ctl_queue(ctl, 2, (char **)(uintptr_t)retry);
	}
	case 'm':
	case 's':
		break;
	case 'i': /* newaliases: routers read them where they lie, as with Exim */
		return CTL_OK;
	case 'd':
	case 'D':
		return ctl_fail(CTL_USAGE, "sendmail: the daemons are started with `bulkhead start`");
	case 'v':
	case 't':
		return s.n_recipients ? ctl_route(ctl, (int)s.n_recipients + 1, argv + argc - s.n_recipients - 1) : CTL_USAGE;
	default:
		return ctl_fail(CTL_USAGE, "sendmail: mode -b%c is not known; -bm, -bs, -bp, -bt, -bv are", s.mode);
	}
	fd = submission_connect(ctl);
	if (fd < 0)
		return ctl_fail(CTL_TEMPFAIL, "sendmail: %s/submit: %s: is Bulkhead running?", ctl_run_directory(ctl) ? ctl_run_directory(ctl) : "",
			strerror(errno));
	code = s.mode == 's' ? relay_session(fd) : submission_send(ctl, &s, fd);
	close(fd);
	return code;
}
