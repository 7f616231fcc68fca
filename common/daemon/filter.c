/* SPDX-License-Identifier: ISC */
#include "common/daemon/filter.h"

#include <asm/ioctls.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/daemon/daemon.h"

#if defined(__s390__)
#define CLONE_FLAGS_ARG 1
#else
#define CLONE_FLAGS_ARG 0
#endif
#define CLONE_NAMESPACES (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36
#endif

/* Names unknown to this kernel's architecture are skipped, so that lists serve several. Not pwritev2: its flag RWF_NOAPPEND writes
 * anywhere in a log that was opened for appending. */
static const char *const sys_base[] = {
	"read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev", "close", "lseek", "fstat", "dup",
	"munmap", "mremap", "madvise", "brk",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall",
	"epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6", "eventfd2",
	"recvmsg", "recvmmsg", "recvfrom", "sendmsg", "sendmmsg", "sendto",
	"clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time",
	"getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid", "getrusage", "uname", "getrandom", "sched_yield",
	"futex", "set_robust_list", "rseq", "exit", "exit_group", "getcwd", "sched_getaffinity", "sysinfo",
	NULL
};
static const char *const sys_accept[] = {
	"accept", "accept4", "getsockopt", "setsockopt", "getsockname", "getpeername", "shutdown", NULL
};
static const char *const sys_connect[] = {
	"connect", "bind", "getsockopt", "setsockopt", "getsockname", "getpeername", "shutdown", NULL
};
static const char *const sys_read[] = {
	"newfstatat", "stat", "lstat", "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat", "getdents64", "statfs", "fstatfs",
	"fadvise64", "flock", NULL
};
static const char *const sys_write[] = {
	"open", "openat", "creat", "newfstatat", "stat", "lstat", "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat",
	"getdents64", "statfs", "fstatfs", "fadvise64", "flock", "mkdir", "mkdirat", "rmdir", "rename", "renameat", "renameat2", "link", "linkat",
	"unlink", "unlinkat", "symlink", "symlinkat", "ftruncate", "fallocate", "fsync", "fdatasync", "sync_file_range", "chmod", "fchmod",
	"fchmodat", "utimensat", "copy_file_range", "msync", "umask", "syncfs", NULL
};
static const char *const sys_fork[] = {
	"clone", "fork", "vfork", "wait4", "waitid", "kill", "tgkill", "prctl", "close_range", "socketpair", "setsockopt", "getsockopt", "shutdown",
	NULL
};

static const struct {
	uint32_t bit; /* 0: always */
	const char *const *names;
} groups[] = {
	{ 0, sys_base }, { DAEMON_SYS_ACCEPT, sys_accept }, { DAEMON_SYS_CONNECT | DAEMON_SYS_CONNECT_UNIX, sys_connect }, { DAEMON_SYS_READ, sys_read },
	{ DAEMON_SYS_WRITE, sys_write }, { DAEMON_SYS_FORK, sys_fork },
};

/* Opening and looking at files, where it is not allowed. */
static const char *const sys_file[] = {
	"open", "openat", "stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat", NULL
};

static int rule_add(scmp_filter_ctx f, uint32_t action, const char *name, unsigned n, const struct scmp_arg_cmp *args)
{
	/* Threads and processes, but no namespaces of one's own, in which one would be root. */
	static const struct scmp_arg_cmp no_namespace = { CLONE_FLAGS_ARG, SCMP_CMP_MASKED_EQ, CLONE_NAMESPACES, 0 };
	int nr = seccomp_syscall_resolve_name(name), rc;

	if (nr == __NR_SCMP_ERROR)
		return 0;
	if (action == SCMP_ACT_ALLOW && !strcmp(name, "clone")) {
		n = 1;
		args = &no_namespace;
	}
	rc = seccomp_rule_add_array(f, action, nr, n, args);
	return rc == -EDOM || rc == -EEXIST ? 0 : rc;
}

static int names_add(scmp_filter_ctx f, uint32_t action, const char *const *names)
{
	int rc = 0;

	for (; !rc && *names; names++)
		rc = rule_add(f, action, *names, 0, NULL);
	return rc;
}

/* One rule for each value of the argument's low 32 bits. */
static int values_add(scmp_filter_ctx f, uint32_t action, const char *name, unsigned arg, const unsigned *values, size_t n)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < n; i++) {
		struct scmp_arg_cmp cmp = { arg, SCMP_CMP_MASKED_EQ, 0xffffffff, values[i] };

		rc = rule_add(f, action, name, 1, &cmp);
	}
	return rc;
}

/* smtpd and smtp-out share no memory: a writable mapping of a message would outlive its seals. */
static int memory_add(scmp_filter_ctx f, uint32_t sys)
{
	struct scmp_arg_cmp exec = { 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC }, no_exec = { 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0 };
	struct scmp_arg_cmp shared = { 3, SCMP_CMP_MASKED_EQ, MAP_SHARED, MAP_SHARED };
	struct scmp_arg_cmp fine[] = { no_exec, { 3, SCMP_CMP_MASKED_EQ, MAP_SHARED, 0 } };
	bool may_share = sys & (DAEMON_SYS_READ | DAEMON_SYS_WRITE | DAEMON_SYS_FORK);
	int rc = rule_add(f, SCMP_ACT_ALLOW, "mprotect", 1, &no_exec);

	if (!rc)
		rc = rule_add(f, SCMP_ACT_ERRNO(EACCES), "mprotect", 1, &exec);
	if (!rc)
		rc = rule_add(f, SCMP_ACT_ALLOW, "mmap", may_share ? 1 : 2, fine);
	if (!rc)
		rc = rule_add(f, SCMP_ACT_ERRNO(EACCES), "mmap", 1, &exec);
	if (!rc && !may_share)
		rc = rule_add(f, SCMP_ACT_ERRNO(EACCES), "mmap", 1, &shared);
	return rc;
}

static int fcntl_add(scmp_filter_ctx f, uint32_t sys)
{
	static const unsigned plain[] = { F_GETFL, F_GETFD, F_SETFD, F_DUPFD, F_DUPFD_CLOEXEC, F_GET_SEALS, F_ADD_SEALS };
	static const unsigned locks[] = { F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW };
	static const unsigned setfl[] = { F_SETFL }, lease[] = { F_SETLEASE };
	int rc = values_add(f, SCMP_ACT_ALLOW, "fcntl", 1, plain, sizeof plain / sizeof *plain);

	if (!rc && sys & (DAEMON_SYS_READ | DAEMON_SYS_WRITE))
		rc = values_add(f, SCMP_ACT_ALLOW, "fcntl", 1, locks, sizeof locks / sizeof *locks);
	if (!rc && sys & DAEMON_SYS_WRITE)
		rc = values_add(f, SCMP_ACT_ALLOW, "fcntl", 1, lease, 1);
	if (!rc)
		rc = values_add(f, sys & DAEMON_SYS_SETFL ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(EPERM), "fcntl", 1, setfl, 1);
	return rc;
}

static int ioctl_add(scmp_filter_ctx f)
{
	static const unsigned fine[] = { FIONREAD, FIONBIO, SIOCOUTQ };
	static const unsigned terminal[] = { TCGETS, TIOCGWINSZ };
	int rc = values_add(f, SCMP_ACT_ALLOW, "ioctl", 1, fine, sizeof fine / sizeof *fine);

	return rc ? rc : values_add(f, SCMP_ACT_ERRNO(ENOTTY), "ioctl", 1, terminal, sizeof terminal / sizeof *terminal);
}

static int files_add(scmp_filter_ctx f, uint32_t sys)
{
	struct scmp_arg_cmp at_fd = { 3, SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH };
	struct scmp_arg_cmp by_path = { 3, SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, 0 };
	struct scmp_arg_cmp read_at = { 2, SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY };
	struct scmp_arg_cmp read_only = { 1, SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY };
	int rc = 0;

	if (sys & DAEMON_SYS_WRITE)
		return 0;
	if (sys & DAEMON_SYS_READ) {
		rc = rule_add(f, SCMP_ACT_ALLOW, "openat", 1, &read_at);
		return rc ? rc : rule_add(f, SCMP_ACT_ALLOW, "open", 1, &read_only);
	}
	/* fstat() is newfstatat(fd, "", AT_EMPTY_PATH) in newer libraries. */
	rc = rule_add(f, SCMP_ACT_ALLOW, "newfstatat", 1, &at_fd);
	if (!rc)
		rc = rule_add(f, SCMP_ACT_ERRNO(EACCES), "newfstatat", 1, &by_path);
	for (const char *const *n = sys_file; !rc && *n; n++)
		if (strcmp(*n, "newfstatat") != 0)
			rc = rule_add(f, SCMP_ACT_ERRNO(EACCES), *n, 0, NULL);
	return rc;
}

static int sockets_add(scmp_filter_ctx f, uint32_t sys)
{
	static const unsigned families[] = { AF_UNIX, AF_INET, AF_INET6 }, netlink[] = { AF_NETLINK };
	int rc;

	if (!(sys & (DAEMON_SYS_CONNECT | DAEMON_SYS_CONNECT_UNIX)))
		return 0;
	rc = values_add(f, SCMP_ACT_ALLOW, "socket", 0, families, sys & DAEMON_SYS_CONNECT ? sizeof families / sizeof *families : 1);
	return rc ? rc : values_add(f, SCMP_ACT_ERRNO(EAFNOSUPPORT), "socket", 0, netlink, 1);
}

static enum status more_add(scmp_filter_ctx f, const char *const *more, struct err *err)
{
	for (; more && *more; more++) {
		int rc = seccomp_syscall_resolve_name(*more);

		if (rc == __NR_SCMP_ERROR)
			return err_set(err, ST_ERROR, "filter: there is no system call \"%s\"", *more);
		rc = rule_add(f, SCMP_ACT_ALLOW, *more, 0, NULL);
		if (rc)
			return err_set(err, ST_ERROR, "filter: %s: %s", *more, strerror(-rc));
	}
	return ST_OK;
}

static int rules_add(scmp_filter_ctx f, uint32_t sys)
{
	/* Death by abort() shall look like it; a daemon that has no children may signal itself only. */
	struct scmp_arg_cmp self = { 0, SCMP_CMP_MASKED_EQ, 0xffffffff, (scmp_datum_t)getpid() };
	int rc = 0;

	for (size_t i = 0; !rc && i < sizeof groups / sizeof *groups; i++)
		if (!groups[i].bit || sys & groups[i].bit)
			rc = names_add(f, SCMP_ACT_ALLOW, groups[i].names);
	if (!rc && !(sys & DAEMON_SYS_FORK))
		rc = rule_add(f, SCMP_ACT_ALLOW, "tgkill", 1, &self);
	if (!rc)
		rc = rule_add(f, SCMP_ACT_ERRNO(ENOSYS), "clone3", 0, NULL);
	if (!rc)
		rc = memory_add(f, sys);
	if (!rc)
		rc = fcntl_add(f, sys);
	if (!rc)
		rc = ioctl_add(f);
	if (!rc)
		rc = files_add(f, sys);
	if (!rc)
		rc = sockets_add(f, sys);
	return rc;
}

/* For processes that run other people's programs, which inherit it: what these need can't be listed. Refused is what changes the
 * machine, makes a world of its own in which one would be root, or looks into other processes. */
static const char *const sys_never[] = {
	"unshare", "setns", "mount", "umount", "umount2", "mount_setattr", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick",
	"pivot_root", "chroot", "ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd", "process_madvise", "bpf",
	"perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "keyctl", "add_key", "request_key",
	"init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff", "acct", "quotactl",
	"quotactl_fd", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "stime", "sethostname", "setdomainname", "iopl", "ioperm",
	"modify_ldt", "personality", "syslog", "vhangup", "nfsservctl", "lookup_dcookie", "open_by_handle_at", "fanotify_init", "move_pages",
	"migrate_pages", NULL
};

static enum status filter_exec_enter(enum filter_mode mode, struct err *err)
{
	uint32_t refuse = mode == FILTER_LOG ? SCMP_ACT_LOG : SCMP_ACT_ERRNO(EPERM);
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
	int rc = 0;

	if (!f)
		return err_set(err, ST_ERROR, "filter: no memory");
	seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	rc = names_add(f, refuse, sys_never);
	for (unsigned bit = 0; !rc && bit < 32; bit++) {
		struct scmp_arg_cmp space = { CLONE_FLAGS_ARG, SCMP_CMP_MASKED_EQ, 1U << bit, 1U << bit };

		if ((uint32_t)CLONE_NAMESPACES & (1U << bit))
			rc = rule_add(f, refuse, "clone", 1, &space);
	}
	if (!rc)
		rc = rule_add(f, SCMP_ACT_ERRNO(ENOSYS), "clone3", 0, NULL);
	if (!rc)
		rc = seccomp_load(f);
	seccomp_release(f);
	return rc < 0 ? err_set(err, ST_ERROR, "filter: %s", strerror(-rc)) : ST_OK;
}

enum status filter_enter(uint32_t sys, const char *const *more, enum filter_mode mode, struct err *err)
{
	scmp_filter_ctx f;
	enum status st;
	int rc;

	if (mode == FILTER_OFF)
		return ST_OK;
	if (sys & DAEMON_SYS_EXEC)
		return filter_exec_enter(mode, err);
	f = seccomp_init(mode == FILTER_LOG ? SCMP_ACT_LOG : SCMP_ACT_KILL_PROCESS);
	if (!f)
		return err_set(err, ST_ERROR, "filter: no memory");
	/* A binary tree of numbers instead of a list: a call is checked in a few steps. */
	seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	rc = rules_add(f, sys);
	st = rc ? err_set(err, ST_ERROR, "filter: %s", strerror(-rc)) : more_add(f, more, err);
	if (!st && (rc = seccomp_load(f)) < 0)
		st = err_set(err, ST_ERROR, "filter: %s", strerror(-rc));
	seccomp_release(f);
	return st;
}
