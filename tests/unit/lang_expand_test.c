/* SPDX-License-Identifier: ISC */
/* String expansion: cases by table; every row of every registry has one. */
#include "tests/unit/lang_util.h"
#include "tests/unit/lang_expand_cases.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/lang/expand_tree.h"
#include "common/lang/lang_header.h"

static const char conf_text[] =
	"primary_hostname = mail.example.test\n"
	"qualify_domain = example.test\n"
	"domainlist dl = a.example : *.b.example : !x.c.example : *.c.example\n"
	"domainlist outer = q.example : +dl\n"
	"hostlist hl = 10.0.0.0/8\n"
	"run_commands = /bin/words : /bin/exits : /bin/late : /bin/much : /bin/killed : /bin/refused : /bin/nobody\nrun_user = 8\nrun_group = 8\n"
	"begin acl\n"
	"yes_acl:\n  accept message = got $acl_narg: $acl_arg1, $acl_arg2\n"
	"no_acl:\n  deny message = no ($acl_arg1)\n"
	"wait_acl:\n  defer\n";

static struct conf *conf;
static struct lang *lang;
static struct fake fake;
static struct arena arena;

static int setup(void **state)
{
	struct lang_services services;

	(void)state;
	conf = test_conf(conf_text);
	services = fake_services(&fake);
	lang = lang_new(conf, &services);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	lang_free(lang);
	conf_free(conf);
	arena_clear(&arena);
	return 0;
}

static const char *shown(enum status st, struct str text, const struct err *err)
{
	return arena_printf(&arena, "%s \"%.*s\"%s%s", status_name(st), STR_FMT(text), st ? ": " : "", st ? err->text : "");
}

static void alone(void **state)
{
	unsigned failed = 0;

	(void)state;
	for (size_t i = 0; i < sizeof alone_cases / sizeof *alone_cases; i++) {
		const struct alone_case *c = &alone_cases[i];
		struct err err = ERR_INIT;
		struct eval ev;
		struct str out;
		enum status st;

		eval_init(&ev, lang, &arena);
		st = expand_text(&ev, str_of(c->text), &out, &err);
		if (st != c->status || (!st && !str_is(out, c->want))) {
			print_error("%s\n  got  %s\n  want %s \"%s\"\n", c->text, shown(st, out, &err), status_name(c->status), c->want ? c->want : "");
			failed++;
		}
		eval_clear(&ev);
		arena_reset(&arena);
	}
	assert_int_equal(failed, 0);
}

/* ---- in the context of a session and its message ---- */

static const char message[] =
	"Received: from x by y; today\r\nReceived: from z by x; yesterday\r\nFrom: =?utf-8?Q?J=C3=B6rg?= <j@from.example>\r\n"
	"To: a@to.example,\r\n b@to.example\r\nTo: c@to.example\r\nSubject: first\r\n second : line\r\nX-List: a:b\r\nX-List: c\r\nX-Latin: =?iso-8859-1?Q?=E9?=\r\n"
	"\r\nbody line 1\r\nbody line 2\r\n";

struct ctx_case {
	const char *text;
	enum status status;
	const char *want;   /* with ST_ERROR: part of the message */
	int tainted;        /* 1: the result must be, 0: must not be */
};

static const struct ctx_case ctx_cases[] = {
	/* session */
	{ "$sender_host_address/$sender_host_port/$interface_address/$interface_port", ST_OK, "192.0.2.1/4321/192.0.2.200/25", 0 },
	{ "$received_ip_address:$received_port $received_protocol", ST_OK, "192.0.2.200:25 esmtp", 0 },
	{ "$sender_host_name $host_lookup_failed$host_lookup_deferred", ST_OK, "client.example 00", 1 },
	{ "$sender_fullhost", ST_OK, "helo.example [192.0.2.1]", 1 },
	{ "$sender_rcvhost", ST_OK, "[192.0.2.1] (helo=helo.example)", 1 },
	{ "$sender_helo_name|$sender_helo_verified|$sender_ident", ST_OK, "helo.example|1|", 1 },
	{ "$authenticated_id|$authenticated_sender|$sender_host_authenticated", ST_OK, "someone|s@auth.example|plain", 1 },
	{ "$sender_host_authenticated", ST_OK, "plain", 0 },
	{ "$authenticated_fail_id|$authentication_failed|$tls_out_cipher", ST_OK, "somebody|1|", 1 },
	{ "$smtp_command|$smtp_command_argument|$connection_id", ST_OK, "RCPT TO:<u@r.example>|<u@r.example>|1-2-3", 1 },
	{ "$caller_uid,$caller_gid,$originator_uid,$originator_gid", ST_OK, "1000,100,1000,100", 0 },
	{ "$tls_in_cipher $tls_in_ver $tls_in_peerdn $tls_in_sni $tls_in_bits $tls_in_certificate_verified", ST_OK, "TLS_AES TLS1.3 CN=x sni.example 256 1", 1 },
	{ "$tls_cipher $tls_peerdn $tls_sni $tls_bits $tls_certificate_verified", ST_OK, "TLS_AES CN=x sni.example 256 1", 1 },
	{ "$proxy_external_address $proxy_external_port $proxy_local_address $proxy_local_port $proxy_session", ST_OK, "198.51.100.1 25 198.51.100.2 26 yes", 0 },
	/* message */
	{ "$message_id $message_exim_id", ST_OK, "1xAAAA-000001-AB 1xAAAA-000001-AB", 0 },
	{ "$sender_address $sender_address_domain $sender_address_local_part", ST_OK, "From.User@Sender.Example sender.example From.User", 1 },
	{ "$local_part@$domain $original_local_part@$original_domain", ST_OK, "u@r.example u@r.example", 1 },
	{ "$rcpt_count $recipients_count $rcpt_defer_count $rcpt_fail_count", ST_OK, "5 3 1 2", 0 },
	{ "$recipients / $recipients_list / $received_for", ST_OK, "one@r.example, two@r.example / one@r.example:two@r.example / ", 1 },
	{ "$received_time $message_size", ST_OK, "1700000000 4711", 0 },
	{ "$message_size $prdr_requested", ST_OK, "4711 yes", 0 },
	{ "${if >{$message_age}{100}{old}}$message_smtputf8", ST_OK, "oldyes", 0 },
	{ "$requiretls", ST_OK, "no", 0 },
	{ "$received_count $message_body_size", ST_OK, "2 26", 0 },
	{ "$message_body|$message_body_end", ST_OK, "body line 1 body line 2 |body line 1 body line 2 ", 1 },
	{ "$h_subject:|$rh_subject:", ST_OK, "first\n second : line| first\n second : line\n", 1 },
	{ "$header_to:", ST_OK, "a@to.example,\n b@to.example,\nc@to.example", 1 },
	{ "$bheader_from:", ST_OK, "J\303\266rg <j@from.example>", 1 },
	{ "$h_from: end", ST_OK, "J\303\266rg <j@from.example> end", 1 },
	{ "$lh_x-list:/$lheader_X-List:", ST_OK, " a::b: c/ a::b: c", 1 },
	{ "$bh_x-latin:$h_x-latin:", ST_OK, "\351\303\251", 1 },
	{ "$rheader_nosuch:|${if def:h_subject:{y}{n}}${if def:h_nosuch:{y}{n}}", ST_OK, "|yn", 0 },
	{ "$reply_address", ST_OK, "J\303\266rg <j@from.example>", 1 },
	{ "${strlen:$message_headers}", ST_OK, "202", 0 },
	{ "${length_9:$message_headers_raw}", ST_OK, "Received:", 1 },
	{ "$headers_added", ST_OK, "", -1 },
	/* ACL variables */
	{ "$acl_c0/$acl_c_foo/$acl_m_bar/$acl_m_none", ST_OK, "zero/foo value/bar value/", 1 },
	{ "$acl_c0", ST_OK, "zero", 0 },
	{ "$r_var", ST_OK, "router's", 0 },
	{ "${if bool{$acl_c0}{y}}", ST_ERROR, "unrecognised boolean", -1 },
	/* configuration and time */
	{ "$primary_hostname $qualify_domain $qualify_recipient $smtp_active_hostname", ST_OK, "mail.example.test example.test example.test mail.example.test", 0 },
	{ "$spool_directory|$bounce_return_size_limit|$return_size_limit|$config_file|$config_dir", ST_OK, "/var/spool/bulkhead|102400|102400|test|", 0 },
	{ "${if match{$tod_log}{\\N^\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d$\\N}{y}}", ST_OK, "y", 0 },
	{ "${if match{$tod_full}{\\N^\\w{3}, \\d\\d \\w{3} \\d{4} [\\d:]{8} [-+]\\d{4}$\\N}{y}}", ST_OK, "y", 0 },
	{ "${if match{$tod_epoch $tod_epoch_l $tod_logfile $tod_zulu $tod_zone}{\\N^\\d{10} \\d{16} \\d{8} \\d{14}Z [-+]\\d{4}$\\N}{y}}", ST_OK, "y", 0 },
	{ "${if match{$tod_bsdinbox}{\\N^\\w{3} \\w{3} [ \\d]\\d [\\d:]{8} \\d{4}$\\N}{y}}${if >{$pid}{1}{p}}${if def:version_number{v}}", ST_OK, "ypv", 0 },
	/* lookups */
	{ "${lookup{alice}lsearch{/t/users}}", ST_OK, "Alice A.", 0 },
	{ "${lookup{nobody}lsearch{/t/users}{$value}{none}}", ST_OK, "none", 0 },
	{ "${lookup{nobody}lsearch{/t/users}{$value}fail}", ST_FAIL, "", -1 },
	{ "${lookup{nobody}lsearch*{/t/users}{$value}}", ST_OK, "anybody", 0 },
	{ "${lookup{q@x.example}lsearch*@{/t/users}{$value,$1,$2}}", ST_OK, "all of x,q,", 0 },
	{ "${lookup{v.w.b.example}partial-lsearch{/t/domains}{$value:$1:$2}}", ST_OK, "data b:v.w:b.example", 0 },
	{ "${lookup{alice}lsearch,ret=key{/t/users}}", ST_OK, "alice", 0 },
	{ "${lookup redis{get key}{<$value>}}", ST_OK, "<redis value>", 0 },
	{ "${lookup redis{get ${quote_redis:a b}}}", ST_OK, "quoted", 0 },
	{ "${lookup redis{get ${quote_redis:$local_part}}{y}{n}}", ST_OK, "n", 0 },
	{ "${lookup redis{get $local_part}}", ST_ERROR, "tainted query", -1 },
	{ "${lookup redis{get ${quote_sqlite:$local_part}}}", ST_ERROR, "tainted query", -1 },
	{ "${lookup dnsdb{a=h.example}}", ST_OK, "192.0.2.7", 1 }, /* the owner of the name wrote it */
	{ "${readfile{${lookup dnsdb{a=h.example}}}}", ST_ERROR, "tainted", -1 },
	{ "${lookup{${lookup dnsdb{a=h.example}}}lsearch{/t/users}{y}{n}}", ST_OK, "n", 0 },
	{ "${lookup{$local_part}lsearch{/t/users}{y}{n}}", ST_OK, "n", 0 },
	{ "${lookup{x}lsearch{/t/$local_part}}", ST_ERROR, "tainted file name", -1 },
	{ "${lookup{x}lsearch{t/users}}", ST_ERROR, "absolute file name", -1 },
	{ "${lookup{x}lsearch{/t/../users}}", ST_ERROR, "not allowed", -1 },
	{ "${lookup{x}lsearch{/t/broken}{y}{n}}", ST_DEFER, "", -1 },
	{ "${lookup{x}redis{/f}}", ST_ERROR, "takes a query", -1 },
	{ "${lookup lsearch{/f}}", ST_ERROR, "a key in braces", -1 },
	{ "${lookup{x}lsearsh{/f}}", ST_ERROR, "did you mean \"lsearch\"", -1 },
	{ "${lookup{x}nis{/f}}", ST_ERROR, "known to Exim, not implemented", -1 },
	{ "${lookup{alice}lsearch{/t/users}{${lookup{bob}lsearch{/t/users}{[$value]}}$value}}", ST_OK, "[]Alice A.", 0 },
	/* files, environment */
	{ "${readfile{/f/text}}", ST_OK, "line 1\nline 2\n", 0 },
	{ "${readfile{/f/text}{, }}", ST_OK, "line 1, line 2, ", 0 },
	{ "${readfile{/f/nosuch}}", ST_ERROR, "no file", -1 },
	{ "${readfile{/f/$local_part}}", ST_ERROR, "tainted", -1 },
	{ "${if exists{/f/text}{y}{n}}${if exists{/f}{y}{n}}", ST_OK, "yn", 0 },
	{ "${extract{size}{${stat:/f/text}}}", ST_OK, "14", 0 },
	{ "${stat:/f/text/}", ST_OK, "mode=0644 smode=-rw-r--r-- size=14", 0 },
	{ "${stat:/nosuch}", ST_ERROR, "no such file", -1 },
	{ "${env{LANG_TEST}}|${env{LANG_TEST}{<$value>}}|${env{NO_SUCH_VARIABLE}{x}{none}}", ST_OK, "set|<set>|none", 0 },
	{ "${env{NO_SUCH_VARIABLE}{x}fail}", ST_FAIL, "", -1 },
	/* ACLs */
	{ "${acl{yes_acl}{a}{b c}}", ST_OK, "got 2: a, b c", 0 },
	{ "${acl{no_acl}{x}}", ST_OK, "no (x)", 0 },
	{ "${acl{wait_acl}}", ST_FAIL, "", -1 },
	{ "${acl{nosuch}}", ST_ERROR, "there is no ACL", -1 },
	{ "${if acl{{yes_acl}{q}}{$value}{n}}${if acl{{no_acl}}{y}{n}}", ST_OK, "got 1: q, n", 0 },
	{ "${acl{$local_part}}", ST_ERROR, "tainted", -1 },
	{ "$acl_arg1$acl_narg", ST_OK, "0", -1 },
	/* taint */
	{ "${expand:$local_part}", ST_ERROR, "tainted", -1 },
	{ "${expand:\\$primary_hostname}", ST_OK, "mail.example.test", 0 },
	{ "a${uc:$local_part}b", ST_OK, "aUb", 1 },
	{ "${if eq{$local_part}{u}{clean}}", ST_OK, "clean", 0 },
	{ "${if inlist{$local_part}{t:u:v}{$value}}", ST_OK, "u", 0 },
	{ "${if match_local_part{$local_part}{t:u}{$value}}", ST_OK, "u", 0 },
	{ "${if match{$local_part}{(.)}{$1}}", ST_OK, "u", 1 },
	{ "${sg{abc}{b}{$local_part}}", ST_OK, "auc", 1 },
	{ "${map{a:b}{$item$local_part}}", ST_OK, "au:bu", 1 },
	{ "${base64:$local_part}${hash_1:$local_part}", ST_OK, "dQ==u", 1 },
	{ "${strlen:$local_part}", ST_OK, "1", 0 },
	{ "${quote:$local_part}", ST_OK, "u", 1 },
	/* lists and JSON */
	{ "${if forany_json{[1,2,3]}{={$item}{2}}{y}{n}}${if forall_json{[1,2]}{>{$item}{0}}{y}{n}}", ST_OK, "yy", 0 },
	{ "${if forany_jsons{[\"a\",\"b\"]}{eq{$item}{b}}{y}{n}}${if forall_jsons{[\"a\"]}{eq{$item}{b}}{y}{n}}", ST_OK, "yn", 0 },
	{ "${extract jsons{a}{{\"a\":\"x\\\\ny\"\\}}}", ST_OK, "x\ny", 0 },
	{ "${extract json{2}{[1,{\"q\":[]\\},3]}}", ST_OK, "{\"q\":[]}", 0 },
	{ "${listnamed:dl}", ST_OK, "a.example : *.b.example : !x.c.example : *.c.example", 0 },
	{ "${listnamed:outer}|${listnamed_h:hl}", ST_OK, "q.example : a.example : *.b.example : !x.c.example : *.c.example|10.0.0.0/8", 0 },
	{ "${listnamed_h:dl}", ST_ERROR, "not a named list", -1 },
	{ "${if match_domain{z.b.example}{+outer}{$value:$1}}", ST_OK, "*.b.example:z", 0 },
	{ "${if match_ip{10.1.1.1}{@[] : 10.0.0.0/8}{$value}}${if match_ip{127.0.0.1}{@[]}{y}}", ST_OK, "y", 0 },
	{ "${if match_ip{10.1.1.1}{iplsearch;/t/nets}{y}{n}}${if match_ip{192.0.2.1}{lsearch;/t/nets}{y}{n}}", ST_OK, "ny", 0 },
	{ "${if first_delivery{f}{-}}${if queue_running{q}{-}}", ST_OK, "f-", 0 },
	/* signed addresses: one that was signed here is found good, a changed one is not */
	{ "${prvscheck{${prvs{a@b.example}{key}{2}}}{key}{$prvscheck_address $prvscheck_keynum $prvscheck_result}}", ST_OK, "a@b.example 2 1", 0 },
	{ "${prvscheck{${prvs{a@b.example}{key}}}{other}{[$prvscheck_result]}}", ST_OK, "[]", 0 },
	{ "${prvscheck{${prvs{a@b.example}{key}}}{key}}", ST_OK, "a@b.example", -1 },
	{ "${prvscheck{a@b.example}{key}{x}}", ST_OK, "", -1 },
	/* the rest of the operators */
	{ "${mask:3ffe:ffff:836f:0a00:000a:0800:200a:c031/99} ${mask_n:2001:db8::ffff/112}", ST_OK, "3ffe.ffff.836f.0a00.000a.0800.2000.0000/99 2001:db8::/112", 0 },
	{ "${ipv6norm:2001:0db8:0000:0000:0001:0000:0000:0001} ${ipv6norm:::} ${ipv6denorm:::1}", ST_OK,
		"2001:db8::1:0:0:1 :: 0000:0000:0000:0000:0000:0000:0000:0001", 0 },
	{ "${addresses:>& Chief <ceo@up.stairs>, sec@base.ment (dogsbody)}", ST_OK, "ceo@up.stairs&sec@base.ment", 0 },
	{ "${addresses:Good <a@b.example>, <<bad, c@d.example}", ST_OK, "a@b.example:c@d.example", 0 },
	{ "${headerwrap_20_40:subject: aaa bbb ccc ddd eee fff ggg hhh iii}", ST_OK, "subject: aaa bbb ccc\n\tddd eee fff\n\tggg hhh", 0 },
	{ "${xtextd:a+20b}${if <{${randint:5}}{5}{ok}}", ST_OK, "a bok", 0 },
	{ "${listcount:a:b}${listcount:<; a;b;}", ST_OK, "22", 0 },
	/* results of checks, certificates */
	{ "${if def:sender_host_name{${authresults{mx.example}}}}", ST_OK, "Authentication-Results: mx.example;\n\tiprev=pass (client.example) smtp.remote-ip=192.0.2.1;\n\tauth=pass (plain)"
		" smtp.auth=someone smtp.mailfrom=s@auth.example;\n\tspf=pass smtp.mailfrom=sender.example;\n\tdkim=pass header.d=a.example", 1 },
	{ "${certextract{subject}{$tls_in_peercert}} ${certextract{issuer,OU}{$tls_in_peercert}{($value)}}", ST_OK,
		"CN=mail.example.test,OU=Mail,O=Example\\, Inc,C=XX (Mail)", 1 },
	{ "${certextract{version}{$tls_in_peercert}} ${certextract{serial_number}{$tls_in_peercert}} ${certextract{sig_algorithm}{$tls_in_peercert}}", ST_OK,
		"3 1234abcd ecdsa-with-SHA256", 1 },
	{ "${certextract{subj_altname,>;}{$tls_in_peercert}}", ST_OK,
		"DNS=mail.example.test;DNS=mx.example.test;MAIL=postmaster@example.test;URI=http://example.test/", 1 },
	{ "${certextract{subj_altname,mail}{$tls_in_peercert}}", ST_OK, "postmaster@example.test", 1 },
	{ "${certextract{ocsp_uri}{$tls_in_peercert}} ${certextract{crl_uri}{$tls_in_peercert}}", ST_OK, "http://ocsp.example.test/ http://crl.example.test/ca.crl", 1 },
	{ "${if >{${certextract{notafter,int}{$tls_in_peercert}}}{${certextract{notbefore,int}{$tls_in_peercert}}}{y}{n}}", ST_OK, "y", 0 },
	{ "${if match{${certextract{notafter}{$tls_in_peercert}}}{\\N^\\w{3} [ \\d]\\d [\\d:]{8} \\d{4} \\w+$\\N}{y}{n}}"
		"${strlen:${certextract{signature}{$tls_in_peercert}{yes}}}", ST_OK, "y3", 0 },
	{ "${certextract{subject,DC}{$tls_in_peercert}{y}{n}}${certextract{subject}{$tls_in_ourcert}{y}{n}}", ST_OK, "nn", 0 },
	{ "${certextract{subject}{$tls_in_ourcert}{y}fail}", ST_FAIL, "", -1 },
	{ "${certextract{subject}{nonsense}}", ST_ERROR, "no certificate", -1 },
	{ "${certextract{colour}{$tls_in_peercert}}", ST_ERROR, "no field", -1 },
	/* SRS: the vector of Exim's own form, and back */
	{ "${sg{${srs_encode{mysecret}{alice@example.com}{fwd.test}}}{=..=}{=tt=}}", ST_OK, "SRS0=4492=tt=example.com=alice@fwd.test", 0 },
	{ "${sg{${srs_encode{mysecret}{\"a b\"@example.com}{fwd.test}}}{=..=}{=tt=}}", ST_OK, "\"SRS0=3df4=tt=example.com=a b\"@fwd.test", 0 },
	{ "${srs_encode{mysecret}{noat}{fwd.test}}", ST_ERROR, "no address", -1 },
	{ "[${srs_encode{s}{}{fwd.test}}]${srs_encode{s}{$sender_address}{f.test}}", ST_OK, NULL, 1 },
	{ "${if inbound_srs{SRS0=4492=ra=example.com=alice}{}{$srs_recipient}{n}}", ST_OK, "alice@example.com", 0 },
	{ "${if inbound_srs{SRS0=4492=ra=example.com=alice}{mysecret}{y}{n$srs_recipient}}", ST_OK, "n", 0 },
	{ "${if inbound_srs{${local_part:${srs_encode{k}{A.B@Example.Com}{f.test}}}}{k}{$srs_recipient}{n}}", ST_OK, "a.b@example.com", 0 },
	{ "${if inbound_srs{${local_part:${srs_encode{k}{a@b.example}{f.test}}}}{l}{y}{n}}", ST_OK, "n", 0 },
	/* folders, A-labels */
	{ "${imapfolder{H\303\244user & Co/\346\227\245}}", ST_OK, "H&AOQ-user &- Co.&ZeU-", 0 },
	{ "${imapfolder{a/b}{x/}}", ST_ERROR, "one character", -1 },
	{ "${utf8_domain_to_alabel:espa\303\261a.example} ${utf8_domain_from_alabel:xn--espaa-rta.example}", ST_OK, "xn--espaa-rta.example espa\303\261a.example", 0 },
	{ "${utf8_localpart_to_alabel:J\303\226RG} ${utf8_localpart_from_alabel:xn--jrg-sna}", ST_OK, "xn--JRG-4ja j\303\266rg", 0 },
	{ "${utf8_localpart_from_alabel:plain}", ST_ERROR, "no A-label", -1 },
	{ "${utf8_domain_from_alabel:xn--\\x80}", ST_ERROR, "no A-label", -1 },
	/* passwords */
	{ "${if crypteq{test}{\\{md5\\}CY9rzUYh03PK3k6DJie09g==}{y}{n}}${if crypteq{test}{\\{sha1\\}A94a8fe5ccb19ba61c4c0873d391e987982fbbd3}{y}{n}}", ST_OK, "yy", 0 },
	{ "${if crypteq{test}{aaqPiZY5xR5l.}{y}{n}}${if crypteq{tesT}{\\{crypt\\}aaqPiZY5xR5l.}{y}{n}}${if crypteq{}{}{y}{n}}", ST_OK, "ynn", 0 },
	{ "${if crypteq{test}{\\{rot13\\}x}{y}{n}}", ST_ERROR, "unknown encryption", -1 },
	/* the message counted; this software and machine */
	{ "$body_linecount $body_zerocount $message_linecount $max_received_linelength", ST_OK, "2 0 14 44", 0 },
	{ "$smtp_command_history $smtp_count_at_connection_start", ST_OK, " 0", 0 },
	{ "$queue_size $spool_space $spool_inodes $log_space $log_inodes", ST_OK, " -1 -1 -1 -1", 0 },
	{ "${if match{$compile_date}{\\N^\\d\\d-\\w{3}-\\d{4} [\\d:]{8}$\\N}{y}}$compile_number ${if match{$exim_uid $exim_gid $load_average}{\\N^\\d+ \\d+ \\d+$\\N}{y}}", ST_OK, "y1 y", 0 },
	{ "$exim_path ${if eq{$exim_version}{$version_number}{same}} $localhost_number", ST_OK, "/usr/sbin/bulkhead same 0", 0 },
	/* programs: the test's own (fake_run) */
	{ "${run{/bin/words a b}}", ST_OK, "[/bin/words][a][b]60\n", 0 },
	{ "${run{/bin/words a b}{Y}{N}}$runrc", ST_OK, "Y0", 0 },
	{ "${run{/bin/words a}{<$value>}{N}}$value|$runrc", ST_OK, "<[/bin/words][a]60\n>[/bin/words][a]60\n|0", 0 },
	{ "$runrc${run{/bin/exits 3}{Y}{N:$value}}$runrc$value", ST_OK, "0N:said\n3said\n", 0 },
	{ "${run{/bin/exits 1}}${run{/bin/exits 1}{Y}}$runrc", ST_OK, "1", 0 },
	{ "${run{/bin/exits 1}{Y}fail}", ST_FAIL, "\"run\" failed and \"fail\" requested", -1 },
	{ "${run {/bin/words a} {x${run{/bin/exits 1}{}{y}}z}}$runrc", ST_OK, "xyz1", 0 },
	{ "${run{/bin/words $primary_hostname ${lc:ABC}}}", ST_OK, "[/bin/words][mail.example.test][abc]60\n", 0 },
	{ "${run{/bin/words \"${lc:A B}\" \"${if eq{1}{1}{a}{b}}\" '' \"\" c}}", ST_OK, "[/bin/words][a b][a][][][c]60\n", 0 },
	{ "${run{/bin/words ${lc:A B}}}", ST_ERROR, "word 2 of the command", -1 },
	{ "${run,preexpand{/bin/words ${lc:A B} ${if eq{1}{2}{x}} \"c  d\"}}", ST_OK, "[/bin/words][a][b][c  d]60\n", 0 },
	{ "${run,preexpand {/bin/words x}}${run,preexpand,preexpand{/bin/exits 2}}$runrc", ST_OK, "[/bin/words][x]60\n2", 0 },
	{ "${run{\"/bin/words\" a\\\\x41 \"a\\\\x41\" 'a\\\\x41' a\\x41\\N$x}\\N \\}}}", ST_OK, "[/bin/words][a\\x41][aA][a\\x41][aA$x}][}]60\n", 0 },
	{ "${run{\"${if eq{1}{1}{/bin/words}}\" a}}", ST_OK, "[/bin/words][a]60\n", 0 },
	{ "${run{/bin/words a;b |c >d}}", ST_OK, "[/bin/words][a;b][|c][>d]60\n", 0 },
	{ "${run{/bin/words $local_part}{Y}}${run{/bin/words $local_part}{$value}}", ST_OK, "Y[/bin/words][u]60\n", 1 },
	{ "${run{/bin/exits $local_part}{Y}{N}}", ST_OK, "Y", 0 },
	{ "${run{$local_part a}}", ST_ERROR, "the command's name is tainted", -1 },
	{ "${run,preexpand{/bin/words a $local_part}}", ST_ERROR, "no part of the command may be tainted", -1 },
	{ "${if bool{${run{/bin/exits 1}{1}{0}}}{t}{f}}$runrc", ST_OK, "f1", 0 },
	{ "${run{/bin/late}}", ST_DEFER, "/bin/late timed out", -1 },
	{ "${run{/bin/much}{Y}{N}}", ST_ERROR, "/bin/much wrote more than 5 octets", -1 },
	{ "${run{/bin/killed}{Y}{N}}", ST_DEFER, "/bin/killed was killed by signal 9", -1 },
	{ "${run{/bin/refused}{Y}{N}}", ST_DEFER, "/bin/refused was not run: because", -1 },
	{ "${run{/bin/nobody}{Y}{N}}", ST_DEFER, "run: nobody answers", -1 },
	{ "${run{/bin/sh -c x}}", ST_ERROR, "column 20: run: \"/bin/sh\" is not in run_commands", -1 },
	{ "${run{words a}}", ST_ERROR, "\"words\" is not in run_commands", -1 },
	{ "${run{/bin/../bin/words a}}", ST_ERROR, "is not in run_commands", -1 },
	{ "${run{/bin/${lc:SH} a}}", ST_ERROR, "run: \"/bin/sh\" is not in run_commands", -1 },
	{ "${run,preexpand{/bin/sh a}}", ST_ERROR, "run: \"/bin/sh\" is not in run_commands", -1 },
	{ "${run,other{/bin/words a}}", ST_ERROR, "unknown option \"other\" of run", -1 },
	{ "${run{}}", ST_ERROR, "the command is empty", -1 },
	{ "${run,preexpand{}}", ST_ERROR, "the command is empty", -1 },
	{ "${run{/bin/words \"a}}", ST_ERROR, "a quote is missing", -1 },
	{ "${run{/bin/words a", ST_ERROR, "\"}\" missing", -1 },
	{ "${run{/bin/words $nosuch}}", ST_ERROR, "unknown variable \"$nosuch\"", -1 },
	{ "${run{/bin/words {a ${lc:{A} \\} \\N}\\N $primary_hostname{}}", ST_OK, "[/bin/words][{a][{a][}][}][mail.example.test{]60\n", 0 },
	{ "${run{/bin/words \"${run{/bin/words ${lc:A}}}\"}}", ST_OK, "[/bin/words][[/bin/words][a]60\n]60\n", 0 },
	{ "${run{/bin/words a}{Y}{N}{M}}", ST_ERROR, "\"}\" expected at the end of \"run\"", -1 },
	{ "${run{/bin/words '${if eq{1}{2}{x}fail}'}}", ST_FAIL, "run: word 2 of the command: \"if\" failed", -1 },
	{ "${run{/bin/words a\\000b}}", ST_ERROR, "word 2 of the command is too long or has a zero octet", -1 },
	/* errors at load */
	{ "abc ${nosuchitem{a}}", ST_ERROR, "column", -1 },
	{ "${uppercase:x}", ST_ERROR, "unknown expansion operator", -1 },
	{ "${ucc:x}", ST_ERROR, "did you mean \"uc\"", -1 },
	{ "$sender_adress", ST_ERROR, "did you mean \"$sender_address\"", -1 },
	{ "${if equ{a}{b}}", ST_ERROR, "did you mean \"eq\"", -1 },
	{ "${h_subject:}", ST_ERROR, "not put into braces", -1 },
	{ "${sg{a}{[}{b}}", ST_ERROR, "regular expression", -1 },
	{ "${sort{a:b}{eq}{$item}}", ST_ERROR, "compares by", -1 },
	{ "${extract{1}{a}}", ST_ERROR, "needs 3 arguments", -1 },
	{ "${tr{a}{b}}", ST_ERROR, "needs 3 arguments", -1 },
	{ "${if eq{a}{b}{c}{d}{e}}", ST_ERROR, "\"}\" expected", -1 },
	{ "${if match_domain{a}{lsearsh;/x}}", ST_ERROR, "did you mean", -1 },
	{ "${nhash{8}{64}{supercalifragilisticexpialidocious}}", ST_OK, "6/33", 0 },
	{ "${if <={1}{1}{y}{n}}${if <={2}{1}{y}{n}}${if lei{A}{a}{y}{n}}${if gt{b}{a}{y}{n}}${if gti{A}{a}{y}{n}}${if gei{A}{a}{y}{n}}", ST_OK, "ynyyny", 0 },
	{ "$host_lookup_failed $host_lookup_deferred", ST_OK, "0 0", 0 },
};

/* A certificate of CN=mail.example.test, with names, OCSP and CRL. */
#define CERTIFICATE \
	"-----BEGIN CERTIFICATE-----\n" \
	"MIICfzCCAiWgAwIBAgIEEjSrzTAKBggqhkjOPQQDAjBPMQswCQYDVQQGEwJYWDEV\n" \
	"MBMGA1UECgwMRXhhbXBsZSwgSW5jMQ0wCwYDVQQLDARNYWlsMRowGAYDVQQDDBFt\n" \
	"YWlsLmV4YW1wbGUudGVzdDAeFw0yNjExMjExNDUyMjVaFw00NjExMTYxNDUyMjVa\n" \
	"ME8xCzAJBgNVBAYTAlhYMRUwEwYDVQQKDAxFeGFtcGxlLCBJbmMxDTALBgNVBAsM\n" \
	"BE1haWwxGjAYBgNVBAMMEW1haWwuZXhhbXBsZS50ZXN0MFkwEwYHKoZIzj0CAQYI\n" \
	"KoZIzj0DAQcDQgAEmCOFFACYXzvKJ2cWUFBI+Ep4El9mURV2As0LHP/xKa0FF/7h\n" \
	"23hPteEGdp8j8B5K+eDHd4Dbo3e6sdzpzzK+dKOB7jCB6zBiBgNVHREEWzBZghFt\n" \
	"YWlsLmV4YW1wbGUudGVzdIIPbXguZXhhbXBsZS50ZXN0gRdwb3N0bWFzdGVyQGV4\n" \
	"YW1wbGUudGVzdIYUaHR0cDovL2V4YW1wbGUudGVzdC+HBMAAAgEwNQYIKwYBBQUH\n" \
	"AQEEKTAnMCUGCCsGAQUFBzABhhlodHRwOi8vb2NzcC5leGFtcGxlLnRlc3QvMC8G\n" \
	"A1UdHwQoMCYwJKAioCCGHmh0dHA6Ly9jcmwuZXhhbXBsZS50ZXN0L2NhLmNybDAd\n" \
	"BgNVHQ4EFgQUsjV7VmK/8/7d5uT8y0tJ/WAA6sIwCgYIKoZIzj0EAwIDSAAwRQIg\n" \
	"EmLlzruogyBSxLifFA3Txas8AANPuBXQiB+2wOZ4wwMCIQCAYF3ixttmAnvVgkK0\n" \
	"qKEP6dGqoQKK+MNL828gJ9yGVQ==\n" \
	"-----END CERTIFICATE-----\n"

static const struct ipc_pair tls[] = {
	{ STR_LIT("cipher"), STR_LIT("TLS_AES"), true }, { STR_LIT("ver"), STR_LIT("TLS1.3"), true }, { STR_LIT("peerdn"), STR_LIT("CN=x"), true },
	{ STR_LIT("sni"), STR_LIT("sni.example"), true }, { STR_LIT("bits"), STR_LIT("256"), true }, { STR_LIT("certificate_verified"), STR_LIT("1"), false },
	{ STR_LIT("peercert"), STR_LIT(CERTIFICATE), true },
};
static const struct ipc_pair proxy[] = {
	{ STR_LIT("external_address"), STR_LIT("198.51.100.1"), false }, { STR_LIT("external_port"), STR_LIT("25"), false },
	{ STR_LIT("local_address"), STR_LIT("198.51.100.2"), false }, { STR_LIT("local_port"), STR_LIT("26"), false }, { STR_LIT("session"), STR_LIT("yes"), false },
};
static const struct ipc_pair results[] = {
	{ STR_LIT("authres_dkim"), STR_LIT("dkim=pass header.d=a.example"), true }, { STR_LIT("authres_spf"), STR_LIT("spf=pass smtp.mailfrom=sender.example"), true },
};
static const struct ipc_pair acl_c[] = { { STR_LIT("c0"), STR_LIT("zero"), false }, { STR_LIT("c_foo"), STR_LIT("foo value"), true } };
static const struct ipc_pair acl_m[] = { { STR_LIT("m_bar"), STR_LIT("bar value"), true } };
static const struct str recipients[] = { STR_LIT("one@r.example"), STR_LIT("two@r.example") };

static const struct ipc_facts facts = {
	.client_ip = STR_LIT("192.0.2.1"), .client_port = 4321, .server_ip = STR_LIT("192.0.2.200"), .server_port = 25, .helo = STR_LIT("helo.example"),
	.esmtp = true, .helo_verified = true, .protocol = STR_LIT("esmtp"), .auth_id = STR_LIT("someone"), .auth_method = STR_LIT("plain"),
	.auth_sender = STR_LIT("s@auth.example"), .auth_fail_id = STR_LIT("somebody"), .auth_failed = true, .uid = 1001, .gid = 101, .connection_id = STR_LIT("1-2-3"), .command = STR_LIT("RCPT TO:<u@r.example>"),
	.tls = (struct ipc_pair *)tls, .n_tls = 7, .proxy = (struct ipc_pair *)proxy, .n_proxy = 5, .message_id = STR_LIT("1xAAAA-000001-AB"),
	.sender = STR_LIT("From.User@Sender.Example"), .has_sender = true, .recipient = STR_LIT("U@R.Example"), .rcpt_count = 5, .rcpt_accepted = 3,
	.rcpt_deferred = 1, .rcpt_failed = 2, .size = 4711, .flags = MSG_PRDR, .smtputf8 = true, .recipients = { (struct str *)recipients, 2 },
	.received_us = 1700000000000000, .results = (struct ipc_pair *)results, .n_results = 2, .acl_c = (struct ipc_pair *)acl_c, .n_acl_c = 2, .acl_m = (struct ipc_pair *)acl_m, .n_acl_m = 1,
};

static int message_file(void)
{
	char name[] = "/tmp/lang_expand_test.XXXXXX";
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	unlink(name);
	assert_int_equal(write(fd, message, sizeof message - 1), sizeof message - 1);
	return fd;
}

static void in_context(void **state)
{
	int fd = message_file();
	unsigned failed = 0;

	(void)state;
	setenv("LANG_TEST", "set", 1);
	for (size_t i = 0; i < sizeof ctx_cases / sizeof *ctx_cases; i++) {
		const struct ctx_case *c = &ctx_cases[i];
		struct err err = ERR_INIT;
		struct eval ev;
		struct str out;
		enum status st;
		bool good;

		eval_init(&ev, lang, &arena);
		eval_facts(&ev, &facts);
		eval_set_address(&ev, str_taint(facts.recipient));
		ev.message_fd = fd;
		ev.first_delivery = true;
		assert_int_equal(eval_var_set(&ev, &ev.r, STR_LIT("var"), STR_LIT("router's"), &err), ST_OK);
		st = expand_text(&ev, str_of(c->text), &out, &err);
		good = st == c->status && (st == ST_OK ? (!c->want || str_is(out, c->want)) && (c->tainted < 0 || out.tainted == (c->tainted == 1)) : strstr(err.text, c->want) != NULL);
		if (!good) {
			print_error("%s\n  got  %s tainted %d\n  want %s \"%s\" tainted %d\n", c->text, shown(st, out, &err), out.tainted, status_name(c->status), c->want,
				c->tainted);
			failed++;
		}
		eval_clear(&ev);
		arena_reset(&arena);
	}
	close(fd);
	assert_int_equal(failed, 0);
}

/* ---- every row has a case ---- */

static bool mentioned(const char *before, const char *name, const char *after)
{
	char word[128];

	for (const char *a = after; *a; a++) {
		snprintf(word, sizeof word, "%s%s%c", before, name, *a);
		for (size_t i = 0; i < sizeof alone_cases / sizeof *alone_cases; i++)
			if (strstr(alone_cases[i].text, word))
				return true;
		for (size_t i = 0; i < sizeof ctx_cases / sizeof *ctx_cases; i++)
			if (strstr(ctx_cases[i].text, word))
				return true;
	}
	return false;
}

static void later(const char *text)
{
	struct err err = ERR_INIT;
	struct expansion *x;

	if (expansion_compile(lang, &arena, str_of(text), &x, &err) != ST_ERROR || !strstr(err.text, "known to Exim, not implemented"))
		fail_msg("%s: %s", text, err.text);
}

static void complete(void **state)
{
	struct lang_row r;
	unsigned missing = 0, count = 0;

	(void)state;
	for (size_t i = 0; expand_item_at(i, &r); i++, count++) {
		assert_true(r.what && strchr(r.what, ' ') && strlen(r.what) >= 12);
		if (r.later)
			later(arena_printf(&arena, "${%s{a}}", r.name));
		else if (!mentioned("${", r.name, "{ ") && ++missing)
			print_error("item %s has no case\n", r.name);
	}
	for (size_t i = 0; expand_operator_at(i, &r); i++, count++) {
		assert_true(r.what && strchr(r.what, ' ') && strlen(r.what) >= 12);
		if (r.later)
			later(arena_printf(&arena, "${%s:a}", r.name));
		else if (!mentioned("${", r.name, ":_") && ++missing)
			print_error("operator %s has no case\n", r.name);
	}
	for (size_t i = 0; expand_condition_at(i, &r); i++, count++) {
		assert_true(r.what && strchr(r.what, ' ') && strlen(r.what) >= 12);
		if (r.later)
			later(arena_printf(&arena, "${if %s{a}{b}}", r.name));
		else if (!mentioned("", r.name, "{ :") && ++missing)
			print_error("condition %s has no case\n", r.name);
	}
	assert_int_equal(missing, 0);
	assert_true(count > 100);
}

static bool variable_mentioned(const char *name)
{
	return mentioned("$", name, " /|:,.@}]!){\"0_") || mentioned("def:", name, "{ ");
}

/* A variable that is set by others is read back; all others have a case. */
static void variables(void **state)
{
	static const char *const slots[] = {
#define SLOT(name, what) #name,
#include "common/lang/slots.def"
#undef SLOT
	};
	struct lang_row r;
	unsigned missing = 0;

	(void)state;
	for (size_t i = 0; i < EVAL_SLOTS; i++) {
		struct err err = ERR_INIT;
		struct eval ev;
		struct str out;

		eval_init(&ev, lang, &arena);
		eval_set(&ev, (enum eval_slot)i, str_of(slots[i]));
		assert_int_equal(expand_variable(&ev, str_of(slots[i]), &out, &err), ST_OK);
		assert_true(str_is(out, slots[i]));
		eval_clear(&ev);
	}
	for (size_t i = 0; expand_variable_at(i, &r); i++) {
		bool slot = false;

		assert_true(r.what && strchr(r.what, ' ') && strlen(r.what) >= 12);
		for (size_t k = 0; k < EVAL_SLOTS; k++)
			slot |= !strcmp(slots[k], r.name);
		if (r.later) {
			later(arena_printf(&arena, "${%s}", r.name));
			continue;
		}
		for (const struct var_row *row = exp_vars_results; row->name; row++)
			slot |= row->name == r.name; /* results_read() */
		if (!slot && !variable_mentioned(r.name) && strcmp(r.name, "r_") && strcmp(r.name, "acl_c") && strcmp(r.name, "acl_m")) {
			/* at the end of a case's text */
			char word[128];
			bool found = false;

			snprintf(word, sizeof word, "$%s", r.name);
			for (size_t k = 0; k < sizeof ctx_cases / sizeof *ctx_cases; k++)
				found |= str_ends(str_of(ctx_cases[k].text), word);
			if (!found && ++missing)
				print_error("variable %s has no case\n", r.name);
		}
	}
	assert_int_equal(missing, 0);
}

/* Pairs of the facts are read by their rows' keys with their taint; absent ones give what the row says; this run's come first. */
static void results_read(void **state)
{
	(void)state;
	for (const struct var_row *row = exp_vars_results; row->name; row++) {
		struct ipc_pair pair = { .name = str_of(row->key), .value = STR_LIT("there"), .tainted = true }, newer = { .name = str_of(row->key), .value = STR_LIT("new") };
		struct ipc_facts with = { 0 }, without = { 0 };
		struct err err = ERR_INIT;
		struct eval ev;
		struct str out;

		with.tls = with.proxy = with.results = &pair;
		*(row->kind == VAR_TLS ? &with.n_tls : row->kind == VAR_PROXY ? &with.n_proxy : &with.n_results) = 1;
		eval_init(&ev, lang, &arena);
		eval_facts(&ev, &with);
		assert_int_equal(expand_variable(&ev, str_of(row->name), &out, &err), ST_OK);
		if (!str_is(out, "there") || !out.tainted)
			fail_msg("$%s: %s", row->name, shown(ST_OK, out, &err));
		if (row->kind == VAR_RESULT) {
			ev.results = &newer;
			ev.n_results = 1;
			assert_int_equal(expand_variable(&ev, str_of(row->name), &out, &err), ST_OK);
			assert_true(str_is(out, "new") && !out.tainted);
		}
		eval_clear(&ev);
		eval_init(&ev, lang, &arena);
		eval_facts(&ev, &without);
		assert_int_equal(expand_variable(&ev, str_of(row->name), &out, &err), ST_OK);
		if (!str_eq(out, str_of(row->absent)))
			fail_msg("$%s, absent: %s", row->name, shown(ST_OK, out, &err));
		eval_clear(&ev);
		arena_reset(&arena);
	}
}

static void no_duplicates(void **state)
{
	bool (*const registries[])(size_t, struct lang_row *) = { expand_item_at, expand_operator_at, expand_condition_at, expand_variable_at };

	(void)state;
	for (size_t k = 0; k < 4; k++) {
		struct lang_row a, b;

		for (size_t i = 0; registries[k](i, &a); i++)
			for (size_t j = i + 1; registries[k](j, &b); j++)
				if (!strcmp(a.name, b.name))
					fail_msg("%s is there twice", a.name);
	}
}

/* ---- limits ---- */

/* A daemon that was taken over says what it likes of a client's address: that is a stranger's word then. */
/* Each is told + 1, so that 0 is "not known". */
static void figures(void **state)
{
	const char *text = "$queue_size:$spool_space:$spool_inodes:$log_space:$log_inodes";
	const struct ipc_house some = { .queue_size = 1, .spool_space = 2001, .log_space = 31, .log_inodes = UINT64_MAX };
	const struct {
		const struct ipc_house *house;
		const char *want;
	} rows[] = { { NULL, ":-1:-1:-1:-1" }, { &some, "0:2000:-1:30:18446744073709551614" } };
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct ipc_facts told = { .house = (struct ipc_house *)(uintptr_t)rows[i].house };
		struct arena a = ARENA_INIT;
		struct err err = ERR_INIT;
		struct eval ev;
		struct str got;

		eval_init(&ev, lang, &a);
		eval_facts(&ev, &told);
		assert_int_equal(expand_text(&ev, str_of(text), &got, &err), ST_OK);
		if (!str_is(got, rows[i].want))
			fail_msg("got %.*s, want %s", STR_FMT(got), rows[i].want);
		eval_clear(&ev);
		arena_clear(&a);
	}
}

static void facts_plain(void **state)
{
	static const struct { const char *ip; bool tainted; } rows[] = {
		{ "192.0.2.1", false }, { "fe80::1%eth0", false }, { "::ffff:192.0.2.1", false }, { "", false },
		{ "../../etc/passwd", true }, { "..", true }, { "x/y", true }, { "a b", true }, { "a'b", true }, { "${readfile{/x}}", true }, { "a\nb", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct ipc_facts hostile = { .client_ip = str_of(rows[i].ip) };
		struct err err = ERR_INIT;
		struct eval ev;
		struct str out;

		eval_init(&ev, lang, &arena);
		eval_facts(&ev, &hostile);
		assert_int_equal(expand_text(&ev, STR_LIT("$sender_host_address"), &out, &err), ST_OK);
		if (out.tainted != rows[i].tainted)
			fail_msg("%s is %stainted", rows[i].ip, out.tainted ? "" : "not ");
		eval_clear(&ev);
	}
}

/* What a client claims to be ends where it ends: it can't say that some other check was passed. */
static void authres_claims(void **state)
{
	static const struct { const char *id; bool failed; const char *want; } rows[] = {
		{ "someone@a.example", true, "auth=fail smtp.auth=someone@a.example" },
		{ "x; dkim=pass header.d=bank.example", true, "auth=fail smtp.auth=\"x; dkim=pass header.d=bank.example\"" },
		{ "a\"b\\c\r\nX-Other: field", true, "auth=fail smtp.auth=\"a\\\"b\\\\c??X-Other: field\"" },
		{ "", true, "auth=fail smtp.auth=\"\"" },
		{ "a b", false, "auth=pass (pl\\)in) smtp.auth=\"a b\" smtp.mailfrom=\"<x>; spf=pass\"" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct ipc_facts claim = { .auth_failed = rows[i].failed, .auth_fail_id = str_of(rows[i].id) };
		struct err err = ERR_INIT;
		struct eval ev;
		struct str out;

		if (!rows[i].failed) {
			claim.auth_method = STR_LIT("pl)in");
			claim.auth_id = str_of(rows[i].id);
			claim.auth_sender = STR_LIT("<x>; spf=pass");
		}
		eval_init(&ev, lang, &arena);
		eval_facts(&ev, &claim);
		assert_int_equal(expand_text(&ev, STR_LIT("${authresults{mx.example}}"), &out, &err), ST_OK);
		if (!str_ends(out, rows[i].want) || out.len != strlen("Authentication-Results: mx.example;\n\t") + strlen(rows[i].want))
			fail_msg("%.*s, want %s", STR_FMT(out), rows[i].want);
		eval_clear(&ev);
	}
}

/* Words that begin and never end cost no more than their octets. */
static void words_begun(void **state)
{
	static const char *const starts[] = { "=?a?b?xy", "=?a?q?xy", "=?utf-8?B?====", "=?", "=?a?q?=41" };
	struct arena work = ARENA_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
		struct buf b = BUF_INIT;

		while (b.len < 64000)
			buf_adds(&b, starts[i]);
		buf_adds(&b, "?=");
		header_decode_words(&work, buf_str(&b), "UTF-8");
		if (work.used > 1000000)
			fail_msg("%s: %zu octets", starts[i], work.used);
		buf_clear(&b);
		arena_clear(&work);
	}
}

static void limits(void **state)
{
	struct buf b = BUF_INIT;
	struct err err = ERR_INIT;
	struct expansion *x;
	struct eval ev;
	struct str out;

	(void)state;
	for (int i = 0; i < 2 * EXPAND_DEPTH_MAX; i++)
		buf_adds(&b, "${uc:");
	assert_int_equal(expansion_compile(lang, &arena, buf_str(&b), &x, &err), ST_ERROR);
	assert_non_null(strstr(err.text, "nested deeper"));
	/* growth by doubling is stopped */
	buf_reset(&b);
	buf_adds(&b, "${reduce{");
	for (int i = 0; i < 40; i++)
		buf_adds(&b, "x:");
	buf_adds(&b, "}{0123456789}{$value$value}}");
	eval_init(&ev, lang, &arena);
	assert_int_equal(expand_text(&ev, buf_str(&b), &out, &err), ST_ERROR);
	assert_non_null(strstr(err.text, "longer than"));
	eval_clear(&ev);
	/* so is work */
	buf_reset(&b);
	buf_adds(&b, "${map{");
	for (int i = 0; i < 2000; i++)
		buf_adds(&b, "x:");
	buf_adds(&b, "}{${if forany{");
	for (int i = 0; i < 2000; i++)
		buf_adds(&b, "x:");
	buf_adds(&b, "}{eq{$item}{y}}}}}");
	eval_init(&ev, lang, &arena);
	assert_int_equal(expand_text(&ev, buf_str(&b), &out, &err), ST_ERROR);
	assert_non_null(strstr(err.text, "steps"));
	eval_clear(&ev);
	/* and memory: each result is short enough, but there are many */
	buf_reset(&b);
	buf_adds(&b, "${strlen:${map{");
	for (int i = 0; i < 2000; i++)
		buf_adds(&b, "x:");
	buf_adds(&b, "}{${strlen:${uc:$local_part}}}}}");
	eval_init(&ev, lang, &arena);
	eval_set(&ev, EV_local_part, str_make(mem_new(1000000), 1000000));
	assert_int_equal(expand_text(&ev, buf_str(&b), &out, &err), ST_ERROR);
	assert_non_null(strstr(err.text, "memory"));
	mem_free((void *)(uintptr_t)eval_get(&ev, EV_local_part).p);
	eval_clear(&ev);
	arena_clear(&arena);
	/* lookups are more work than that; the same one again is not */
	for (int same = 0; same < 2; same++) {
		buf_reset(&b);
		buf_adds(&b, "${strlen:${map{");
		for (int i = 0; i < 6000; i++)
			buf_printf(&b, same ? "alice:" : "x%d:", i);
		buf_adds(&b, "}{${lookup{$item}lsearch{/t/users}{y}{n}}}}}");
		fake.lookups = 0;
		eval_init(&ev, lang, &arena);
		assert_int_equal(expand_text(&ev, buf_str(&b), &out, &err), same ? ST_OK : ST_ERROR);
		assert_in_range(fake.lookups, same ? 1 : 1000, same ? 1 : 5000);
		eval_clear(&ev);
	}
	/* back-tracking without end */
	eval_init(&ev, lang, &arena);
	assert_int_equal(expand_text(&ev, STR_LIT("${if match{aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab}{\\N^(a+)+$\\N}{y}{n}}"), &out, &err), ST_ERROR);
	assert_non_null(strstr(err.text, "matching a regular expression"));
	eval_clear(&ev);
	/* an ACL that calls itself through expansions ends */
	buf_clear(&b);
}

/* The date of a banner stays for others to fill in, and what was looked at is known. */
static void leaving(void **state)
{
	struct conf_place nowhere = { 0, 0 };
	struct err err = ERR_INIT;
	struct expansion *x;
	struct eval ev;
	struct str out;

	(void)state;
	assert_int_equal(lang_compile(lang, STR_LIT("$primary_hostname ${uc:x} $tod_full"), nowhere, &x, &err), ST_OK);
	assert_true(expansion_mentions(x, "tod_full"));
	assert_false(expansion_mentions(x, "tod_log"));
	eval_init(&ev, lang, &arena);
	assert_int_equal(expand_leaving(&ev, x, "tod_full", &out, &err), ST_OK);
	assert_string_equal(str_cstr(&arena, out), "mail.example.test X $tod_full");
	assert_int_equal(ev.deps, 0);
	assert_int_equal(expand(&ev, x, &out, &err), ST_OK);
	assert_int_equal(ev.deps, DEP_TIME);
	eval_clear(&ev);
	eval_init(&ev, lang, &arena);
	eval_facts(&ev, &facts);
	assert_int_equal(expand_text(&ev, STR_LIT("$sender_host_address"), &out, &err), ST_OK);
	assert_int_equal(ev.deps, DEP_CLIENT);
	assert_int_equal(expand_text(&ev, STR_LIT("$sender_helo_name${lookup{a}lsearch{/t/users}}"), &out, &err), ST_OK);
	assert_int_equal(ev.deps, DEP_CLIENT | DEP_SESSION | DEP_WORLD);
	eval_clear(&ev);
}

static void typed(void **state)
{
	static const struct { const char *text; char type; enum status status; int64_t want; } cases[] = {
		{ "10M", 'i', ST_OK, 10 << 20 }, { "", 'i', ST_ERROR, 0 }, { "x", 'i', ST_ERROR, 0 }, { " -5 ", 'i', ST_OK, -5 },
		{ "9223372036854775807", 'i', ST_OK, INT64_MAX }, { "9223372036854775808", 'i', ST_ERROR, 0 }, { "9223372036854775807K", 'i', ST_ERROR, 0 },
		{ "1h5m", 't', ST_OK, 3900 }, { "x", 't', ST_ERROR, 0 }, { "yes", 'b', ST_OK, 1 }, { "", 'b', ST_OK, 0 }, { "0", 'b', ST_OK, 0 },
		{ "12", 'b', ST_OK, 1 }, { "No", 'b', ST_OK, 0 }, { "maybe", 'b', ST_ERROR, 0 }, { "${if eq{a}{b}{}fail}", 'b', ST_FAIL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct err err = ERR_INIT;
		struct expansion *x;
		struct eval ev;
		int64_t n = 0;
		bool yes = false;
		enum status st;

		assert_int_equal(expansion_compile(lang, &arena, str_of(cases[i].text), &x, &err), ST_OK);
		eval_init(&ev, lang, &arena);
		st = cases[i].type == 'i' ? expand_int(&ev, x, &n, &err) : cases[i].type == 't' ? expand_time(&ev, x, &n, &err) : expand_bool(&ev, x, &yes, &err);
		if (st != cases[i].status || (!st && (cases[i].type == 'b' ? yes : n) != cases[i].want))
			fail_msg("%s: got %s %lld", cases[i].text, status_name(st), (long long)(cases[i].type == 'b' ? yes : n));
		eval_clear(&ev);
	}
}

/* Texts from header fields are in headers_charset; what it has no character for stays encoded. */
static void charsets(void **state)
{
	static const struct { const char *charset, *text, *want; } rows[] = {
		{ "UTF-8", "${rfc2047d:=?iso-8859-1?Q?=FC?=}", "\xc3\xbc" }, { "ISO-8859-1", "${rfc2047d:=?utf-8?Q?=C3=BC?=}", "\xfc" },
		{ "ISO-8859-1", "${rfc2047d:=?iso-8859-15?Q?=A4?=}", "=?iso-8859-15?Q?=A4?=" }, { "ISO-8859-15", "${rfc2047d:=?utf-8?B?4oKs?=}", "\xa4" },
		{ "ISO-8859-1", "${rfc2047:\xfc}", "=?ISO-8859-1?Q?=FC?=" }, { "KOI8-R", "${rfc2047d:=?iso-8859-1?Q?=FC?=}", "\xc3\xbc" },
		{ "Windows-1252", "${rfc2047d:=?utf-8?Q?a=E2=80=9Eb=0A?=}", "a\x84" "b " },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct conf *other = test_conf(arena_printf(&arena, "headers_charset = %s\n", rows[i].charset));
		struct lang_services services = fake_services(&fake);
		struct lang *l = lang_new(other, &services);
		struct err err = ERR_INIT;
		struct str text;
		struct eval ev;

		eval_init(&ev, l, &arena);
		assert_int_equal(expand_text(&ev, str_of(rows[i].text), &text, &err), ST_OK);
		if (!str_is(text, rows[i].want))
			fail_msg("%s in %s: got \"%.*s\"", rows[i].text, rows[i].charset, STR_FMT(text));
		eval_clear(&ev);
		lang_free(l);
		conf_free(other);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(charsets), cmocka_unit_test(alone), cmocka_unit_test(in_context), cmocka_unit_test(complete), cmocka_unit_test(variables),
		cmocka_unit_test(results_read), cmocka_unit_test(no_duplicates), cmocka_unit_test(facts_plain), cmocka_unit_test(figures), cmocka_unit_test(words_begun), cmocka_unit_test(authres_claims), cmocka_unit_test(limits), cmocka_unit_test(leaving), cmocka_unit_test(typed),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
