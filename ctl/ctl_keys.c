/* SPDX-License-Identifier: ISC */
/* ctl_keys.c - the files of certificates and keys, looked at before the first client asks for TLS: are they there, and may keyd read them?
 * As root, with keyd's login made; others only see what is not there. Expanded names are left to keyd. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/conf/reader.h"
#include "common/lang/lang_list.h"
#include "ctl/config.h"

/* errno of keyd's opening the file; 0: it can, or nobody can say. */
static int keyd_reads(const struct conf *conf, const char *path)
{
	struct str prefix = conf->main.daemon_user_prefix.text;
	struct arena a = ARENA_INIT;
	const struct passwd *pw = prefix.len && geteuid() == 0 ? getpwnam(arena_printf(&a, "%.*skeyd", STR_FMT(prefix))) : NULL;
	int status = 0;
	pid_t pid;

	arena_clear(&a);
	if (access(path, F_OK) < 0)
		return errno == ENOENT || errno == ENOTDIR ? errno : 0;
	if (!pw || !pw->pw_uid)
		return 0;
	pid = fork();
	if (pid == 0) {
		if (initgroups(pw->pw_name, pw->pw_gid) || setgid(pw->pw_gid) || setuid(pw->pw_uid))
			_exit(0);
		_exit(access(path, R_OK) < 0 ? errno : 0);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

static void files_try(struct conf *conf, const char *option, const struct conf_text *text)
{
	struct lang_split split = LANG_SPLIT(text->text);
	struct arena a = ARENA_INIT;
	struct str path;

	while (text->set && str_find(text->text, '$') < 0 && lang_split_next(&split, &a, &path)) {
		int fault = str_begins(path, "/") ? keyd_reads(conf, str_cstr(&a, path)) : 0;

		if (fault)
			conf_problem_add(conf, CONF_WARNING, text->place, "option \"%s\": %.*s: %s%s", option, STR_FMT(path), strerror(fault),
				fault == EACCES ? " for keyd's user" : "");
	}
	arena_clear(&a);
}

void keys_try(struct conf *conf)
{
	files_try(conf, "tls_certificate", &conf->main.tls_certificate);
	files_try(conf, "tls_privatekey", &conf->main.tls_privatekey);
	files_try(conf, "tls_verify_certificates", &conf->main.tls_verify_certificates);
	files_try(conf, "tls_crl", &conf->main.tls_crl);
	for (uint32_t i = 0; i < conf->of[CONF_TRANSPORTS].n; i++) {
		const struct conf_instance *t = &conf->of[CONF_TRANSPORTS].v[i];
		const struct conf_opts_transport_smtp *o = t->driver ? CONF_OWN(t, transport_smtp) : NULL;

		if (!o)
			continue;
		files_try(conf, "tls_certificate", &o->tls_certificate);
		files_try(conf, "tls_privatekey", &o->tls_privatekey);
		files_try(conf, "tls_verify_certificates", &o->tls_verify_certificates);
		files_try(conf, "tls_crl", &o->tls_crl);
	}
}
