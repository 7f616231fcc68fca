/* SPDX-License-Identifier: ISC */
/* What is told at load of files that the daemons will not see. */
#include "tests/unit/lang_util.h"

#include "common/lang/lang.h"

static const struct {
	const char *line;       /* of the main section, below lookup_directories = /etc/mail/ : /srv/t */
	const char *path;       /* that is not seen; NULL: none */
} cases[] = {
	{ "domainlist x = lsearch;/etc/mail/domains", NULL },
	{ "domainlist x = lsearch;/etc/mailx/domains", "/etc/mailx/domains" },
	{ "domainlist x = a.example : !partial-lsearch*@,ret=key;/var/lib/x : b.example", "/var/lib/x" },
	{ "domainlist x = /etc/other", NULL },   /* opened, and told, by the list itself */
	{ "hostlist x = <; 192.0.2.1 ; net24-lsearch;;/var/nets ; ::1", "/var/nets" },
	{ "hostlist x = net-iplsearch;/srv/t", NULL },
	{ "hostlist x = net-iplsearch;/srv/tt", "/srv/tt" },
	{ "addresslist x = @@lsearch;/var/bad", "/var/bad" },
	{ "domainlist x = sqlite,file=/var/mail.db select a from b where c='${quote_sqlite:$domain}'", "/var/mail.db" },
	{ "domainlist x = sqlite;/var/mail.db select a from b", "/var/mail.db" },
	{ "domainlist x = ${lookup sqlite,file=/var/lib/mail.db{select a from b}}", "/var/lib/mail.db" },
	{ "domainlist x = ${lookup sqlite,file=/srv/rw/mail.db{select a from b}}", NULL },
	{ "domainlist x = ${lookup{$domain}lmdb{/srv/seen.mdb}}", NULL },
	{ "smtp_banner = ${lookup{a}cdb{/var/a.cdb}{$value}{/var/not/this}}", "/var/a.cdb" },
	{ "smtp_banner = ${lookup {a} dsearch,ret=full {/var/dir/$sender_host_address}}", "/var/dir" },
	{ "smtp_banner = ${lookup{a}lsearch{/etc/mail/$sender_host_address/x}}", NULL },
	{ "smtp_banner = ${readfile{/var/banner}}", "/var/banner" },
	{ "smtp_banner = ${if exists{/var/banner}{a}{b}}", "/var/banner" },
	{ "smtp_banner = ${lookup pgsql{select '/var/x'}}", NULL },
	{ "smtp_banner = see http://www.example/; /var/x {/var/y}", NULL },
	{ "acl_smtp_rcpt = accept domains = lsearch;/var/acl", "/var/acl" },
	{ "begin acl\na:\n accept condition = ${lookup{a}lsearch{/var/acl}}\n", "/var/acl" },
	{ "begin rewrite\n*@lsearch;/var/rw a@b.example F\n", "/var/rw" },
	{ "begin routers\na:\n driver = redirect\n data = ${lookup{a}lsearch{/var/al}}${lookup{b}lsearch{/var/al}}", "/var/al" },
	{ "begin transports\na:\n driver = appendfile\n file = /var/spool/mail/$local_part_data", "/var/spool/mail" },
	{ "begin transports\na:\n driver = appendfile\n directory = /var/mail/$local_part_data/Maildir", NULL },
	{ "begin transports\na:\n driver = appendfile\n directory = $home/Maildir", NULL },
	{ "tls_certificate = /etc/ssl/a.pem : /etc/letsencrypt/b.pem", NULL },
	{ "tls_certificate = /etc/ssl/a.pem : /etc/exim4/b.pem", "/etc/exim4/b.pem" },
	{ "tls_ocsp_file = PEM /etc/exim4/b.ocsp", "/etc/exim4/b.ocsp" },
	{ "tls_directories = /etc/exim4\ntls_privatekey = /etc/exim4/b.key\ntls_verify_certificates = /etc/ssl/certs/x.pem\ntls_dhparam = none", NULL },
	{ "tls_certificate = ${if eq{a}{b}{/etc/x}{/etc/y}}", NULL },
	{ "tls_require_ciphers = /nothing", NULL },
};

/* Words that OpenSSL will not have, before the first handshake needs them. */
static void test_words(void **state)
{
	static const struct { const char *line; bool good; } words[] = {
		{ "tls_require_ciphers = ECDHE+AESGCM:!aNULL", true },
		{ "tls_require_ciphers = NORMAL:-VERS-TLS1.0:%SERVER_PRECEDENCE", false },
		{ "tls_require_ciphers = ${if eq{a}{b}{NORMAL}{SECURE}}", true },
		{ "tls_eccurve = auto", true },
		{ "tls_eccurve = X25519:P-256", true },
		{ "tls_eccurve = nonsense", false },
		{ "begin transports\nt:\n driver = smtp\n dane_require_tls_ciphers = SECURE128", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		struct lang_services services = { 0 };
		struct conf *conf = test_conf(words[i].line);
		struct lang *lang = lang_new(conf, &services);
		struct conf_checks checks;
		unsigned found = 0;

		lang_checks(lang, &checks);
		(void)conf_check(conf, &checks);
		for (uint32_t k = 0; k < conf->n_problems; k++)
			found += str_begins(conf->problems[k].text, "no TLS with ");
		if (found != !words[i].good)
			fail_msg("%s: %u warnings", words[i].line, found);
		lang_free(lang);
		conf_free(conf);
	}
}

static void test_paths(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct lang_services services = { 0 };
		struct arena a = ARENA_INIT;
		struct conf *conf = test_conf(str_cstr(&a, str_printf(&a, "lookup_directories = /etc/mail/ : /srv/t\nsqlite_writable = /srv/rw\n"
			"lmdb_writable = /srv/seen.mdb\n%s\n", cases[i].line)));
		struct lang *lang = lang_new(conf, &services);
		struct conf_checks checks;
		unsigned found = 0;

		lang_checks(lang, &checks);
		(void)conf_check(conf, &checks);
		for (uint32_t k = 0; k < conf->n_problems; k++) {
			struct str text = conf->problems[k].text;

			if (str_find_str(text, STR_LIT("will not see ")) < 0)
				continue;
			found++;
			assert_int_equal(conf->problems[k].severity, CONF_WARNING);
			if (!cases[i].path || str_find_str(text, str_printf(&a, "see %s: ", cases[i].path)) < 0)
				fail_msg("%s: %.*s", cases[i].line, STR_FMT(text));
		}
		if (found != (cases[i].path ? 1 : 0))
			fail_msg("%s: %u warnings", cases[i].line, found);
		lang_free(lang);
		conf_free(conf);
		arena_clear(&a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_paths), cmocka_unit_test(test_words) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
