/* SPDX-License-Identifier: ISC */
/* Whole configurations and addresses: which leaves and plans come of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/conf/read.h"
#include "router/owner_file.h"
#include "router/route.h"
#include "router/router.h"
#include "tests/unit/dns_fake.h"

static const char *const zone[] = {
	"remote.example. IN MX 10 mx1.remote.example.", "remote.example. IN MX 20 mx2.remote.example.",
	"other.example. IN MX 10 mx1.remote.example.", "other.example. IN MX 20 mx2.remote.example.",
	"foreign.example. IN MX 10 mx1.foreign.example.", "foreign.example. IN MX 20 mx2.remote.example.", "mx1.foreign.example. IN A 192.0.2.1",
	"mx1.remote.example. IN A 192.0.2.1", "mx2.remote.example. IN A 192.0.2.2",
	"null.example. IN MX 0 .", "self.example. IN MX 10 me.example.", "me.example. IN A 192.0.2.99",
	"smart.example. IN A 192.0.2.50", "smart2.example. IN A 192.0.2.51",
	"both.example. IN A 192.0.2.52", "both.example. IN AAAA 2001:db8::52",
	NULL,
};

/* What every configuration of this test begins with. DIR stands for the test's directory. */
static const char head[] =
	"primary_hostname = mail.here.example\n"
	"qualify_domain = here.example\n"
	"local_interfaces = 127.0.0.1 : 192.0.2.99\n"
	"dns_resolvers = <; 127.0.0.1#PORT\n"
	"dns_retrans = 1s\n"
	"dns_retry = 1\n"
	"domainlist local_domains = here.example\n";

static const char transports[] =
	"begin transports\n"
	"smtp:\n driver = smtp\n"
	"lmtp_tcp:\n driver = smtp\n protocol = lmtp\n port = 2400\n hosts = 127.0.0.1\n hosts_override\n allow_localhost\n"
	"lmtp_sock:\n driver = lmtp\n socket = /run/lmtp\n batch_max = 20\n"
	"mdir:\n driver = appendfile\n directory = /mail/$local_part_data\n maildir_format\n user = joe\n"
	"certs:\n driver = smtp\n tls_certificate = /c/$domain.pem\n"
	"tainted:\n driver = appendfile\n directory = /mail/$local_part\n maildir_format\n user = joe\n"
	"homed:\n driver = appendfile\n directory = $home/Maildir\n maildir_format\n"
	"tofile:\n driver = appendfile\n user = 1001\n group = users\n"
	"small:\n driver = smtp\n message_size_limit = 1K\n hosts = 192.0.2.50\n"
	"added:\n driver = smtp\n hosts = smart.example\n headers_add = X-One: 1\\nX-Two: $local_part\n headers_remove = Bcc : X-Old\n"
	" return_path = bounce-$local_part@here.example\n port = 2525\n interface = 192.0.2.99\n"
	"bydomain:\n driver = smtp\n multi_domain = false\n"
	"grouped:\n driver = appendfile\n directory = /mail/x\n maildir_format\n user = joe\n group = users\n initgroups\n"
	"named:\n driver = smtp\n helo_data = $local_part.example\n"
	"byhost:\n driver = smtp\n helo_data = ${if eq{$host_address}{192.0.2.1}{one}{two}}.example\n"
	" interface = ${if eq{$host_address}{192.0.2.2}{192.0.2.98}fail}\n dscp = ${if eq{$host_port}{25}{af21}}\n"
	"begin retry\n"
	"remote.example * F,2h,15m\n"
	"joe@here.example * F,1h,5m\n"
	"* * F,1d,1h\n";

static const char passwd[] = "root:x:0:0::/root:/bin/sh\njoe:x:1001:1001:Joe:/home/joe:/bin/sh\nann:x:1002:100::/home/ann:/bin/sh\n";
static const char group[] = "users:x:100:\njoe:x:1001:\n";

/* Files of the test's directory. */
static const struct { const char *name, *text; unsigned mode; } files[] = {
	{ "aliases", "postmaster: root, joe\nroot: admin@remote.example\nsales: ann, bob@remote.example, ann@here.example\n"
		"gone: :fail: 550 5.7.1 moved away, sorry\nlater: :defer: 451 4.3.9 back soon\nhole: :blackhole:\nunk: :unknown:\n"
		"loop1: loop2\nloop2: loop1\nselfish: selfish, extra@remote.example\nfile: /var/mail/x\nlist: :include:DIR/list\n"
		"bad: joe@@here\nsome: joe@@here, ann\ndir: /var/mail/d/\nnull: /dev/null\npipe: \"|/bin/cat -u\"\nchain: chain2\nchain2: chain3\nchain3: joe\nboth: joe, chain3\n"
		"*: \n", 0644 },
	{ "list", "# members\nann,\nbob@remote.example, # Bob\n\"|/bin/x\"\n", 0644 },
	{ "list2", "ann\nbob@remote.example\n", 0644 },
	{ "joe.forward", "\\joe, joe@remote.example\n", 0644 },
	{ "open.forward", "ann\n", 0666 },
	{ "routes", "remote.example: smart.example:smart2.example randomize bydns\nloc.example: 192.0.2.7::2525 byname lmtp_sock\n", 0644 },
	{ "users", "joe: joebox\n", 0644 },
};

struct one {
	const char *name, *routers;
	const char *addresses;    /* blank between several */
	const char *want;         /* what answer_text() makes of it */
	int mode;                 /* enum route_mode, or one of these: */
};
enum { ARRIVAL = 100, FORCED, EXACT /* of 1024 octets */ };

#define ALIASES "aliases:\n driver = redirect\n domains = +local_domains\n allow_fail\n allow_defer\n data = ${lookup{$local_part}lsearch{DIR/aliases}}\n" \
	" file_transport = tofile\n"
#define USERS "users:\n driver = accept\n domains = +local_domains\n check_local_user\n transport = homed\n"
#define REMOTE "remote:\n driver = dnslookup\n domains = ! +local_domains\n transport = smtp\n no_more\n"

static const struct one cases[] = {
	/* accept */
	{ "accept with hosts of the transport", "r:\n driver = accept\n transport = lmtp_tcp\n", "a@b.example",
		"a@b.example -> lmtp_tcp [127.0.0.1:2400] rules=2 allow_localhost=true helo_data=mail.here.example protocol=lmtp", 0 },
	{ "accept to a socket", "r:\n driver = accept\n transport = lmtp_sock\n", "a@b.example",
		"a@b.example -> lmtp_sock rules=2 batch_max=20 socket=/run/lmtp max=20", 0 },
	{ "nothing accepts", "r:\n driver = accept\n domains = x.example\n transport = smtp\n", "a@b.example",
		"a@b.example FAIL 5.1.1 Unrouteable address", 0 },
	{ "no routers at all", "", "a@b.example", "a@b.example FAIL 5.1.1 Unrouteable address", 0 },
	{ "cannot_route_message of the last router", "r:\n driver = accept\n domains = x.example\n transport = smtp\n cannot_route_message = no $local_part here\n",
		"a@b.example", "a@b.example FAIL 5.1.1 no a here", 0 },
	{ "login and home", USERS, "joe@here.example", "joe@here.example -> homed rules=1,2 directory=/home/joe/Maildir maildir_format=true uid=1001 gid=1001 max=1", 0 },
	{ "login in capitals", USERS, "JOE@HERE.example", "JOE@HERE.example -> homed rules=1,2 directory=/home/joe/Maildir maildir_format=true uid=1001 gid=1001 max=1", 0 },
	{ "no login", USERS, "bob@here.example", "bob@here.example FAIL 5.1.1 Unrouteable address", 0 },
	{ "local_part_data names the directory", "r:\n driver = accept\n local_parts = lsearch;DIR/users\n transport = mdir\n", "joe@here.example",
		"joe@here.example -> mdir rules=1,2 directory=/mail/joebox maildir_format=true uid=1001 gid=1001 max=1", 0 },
	{ "a stranger's text names no certificate", "r:\n driver = manualroute\n route_list = * 192.0.2.1\n transport = certs\n", "joe@x.example",
		"joe@x.example DEFER  router r: transport certs: tls_certificate: the file \"/c/x.example.pem\" is tainted, since its name holds text from a stranger", 0 },
	{ "a stranger's text names no directory", "r:\n driver = accept\n transport = tainted\n", "joe@here.example",
		"joe@here.example DEFER  router r: transport tainted: directory: the path \"/mail/joe\" is tainted, since it holds text from a stranger; "
		"use $local_part_data or $domain_data, which the options local_parts, domains and check_local_user set", 0 },
	{ "no login to deliver as", "r:\n driver = accept\n transport = homed\n transport_home_directory = /x\n", "joe@here.example",
		"joe@here.example DEFER  router r: transport homed: no login to deliver as: set user in the transport or the router, or check_local_user in the router", 0 },
	{ "user and group of the router", "r:\n driver = accept\n transport = homed\n transport_home_directory = /x\n user = 7\n group = users\n", "joe@here.example",
		"joe@here.example -> homed rules=1,2 directory=/x/Maildir maildir_format=true uid=7 gid=100 max=1", 0 },
	{ "too big", "r:\n driver = accept\n transport = small\n", "a@b.example", "a@b.example FAIL 5.3.4 message is too big (transport limit = 1024)", 0 },
	{ "fields, return path, port", "r:\n driver = accept\n transport = added\n headers_add = X-Router: r\n headers_remove = To\n", "Bob@b.example",
		"Bob@b.example -> added [192.0.2.50:2525] rules=2 helo_data=mail.here.example interface=192.0.2.99 +\"X-Router: r\" +\"X-One: 1\" +\"X-Two: bob\" "
		"-To -Bcc -X-Old from=bounce-bob@here.example", 0 },
	{ "just not too big", "r:\n driver = accept\n transport = ${if ={1}{1}{small}}\n", "a@b.example", "a@b.example -> small [192.0.2.50:25] rules=2 helo_data=mail.here.example", EXACT },
	{ "hosts_override", "r:\n driver = dnslookup\n transport = lmtp_tcp\n", "a@remote.example",
		"a@remote.example -> lmtp_tcp [127.0.0.1:2400] rules=0,2 allow_localhost=true helo_data=mail.here.example protocol=lmtp", 0 },
	{ "the transport's group and groups", "r:\n driver = accept\n transport = grouped\n user = ann\n group = joe\n", "joe@here.example",
		"joe@here.example -> grouped rules=1,2 directory=/mail/x maildir_format=true uid=1001 gid=100 initgroups max=1", 0 },
	{ "the router's groups", "r:\n driver = accept\n transport = homed\n transport_home_directory = /x\n user = ann\n group = joe\n initgroups\n", "joe@here.example",
		"joe@here.example -> homed rules=1,2 directory=/x/Maildir maildir_format=true uid=1002 gid=1001 initgroups max=1", 0 },
	{ "errors_to without a domain", "r:\n driver = accept\n transport = lmtp_sock\n errors_to = ann\n", "joe@x.example",
		"joe@x.example -> lmtp_sock rules=2 batch_max=20 socket=/run/lmtp max=20 from=ann@here.example errors=ann@here.example", 0 },
	{ "a list's data before a login's", "r:\n driver = accept\n local_parts = lsearch;DIR/users\n check_local_user\n transport = mdir\n", "joe@here.example",
		"joe@here.example -> mdir rules=1,2 directory=/mail/joebox maildir_format=true uid=1001 gid=1001 max=1", 0 },
	{ "max_username_length", "#max_username_length = 2\n" USERS, "joe@here.example", "joe@here.example FAIL 5.1.1 Unrouteable address", 0 },
	{ "max_username_length, long enough", "#max_username_length = 3\n" USERS, "joe@here.example",
		"joe@here.example -> homed rules=1,2 directory=/home/joe/Maildir maildir_format=true uid=1001 gid=1001 max=1", 0 },
	{ "check_ancestor", "a:\n driver = redirect\n check_ancestor\n data = ${if eq{$local_part}{joe}{ann}{joe}}\n" USERS, "joe@here.example",
		"ann@here.example -> homed rules=2 directory=/home/ann/Maildir maildir_format=true uid=1002 gid=100 max=1 <joe@here.example,ann@here.example>", 0 },
	{ "without check_ancestor", "a:\n driver = redirect\n data = ${if eq{$local_part}{joe}{ann}{joe}}\n" USERS, "joe@here.example",
		"joe@here.example -> homed rules=1,2 directory=/home/joe/Maildir maildir_format=true uid=1001 gid=1001 max=1 <joe@here.example,ann@here.example>", 0 },
	{ "one_time that declines", "a:\n driver = redirect\n one_time\n data =\n" USERS, "joe@here.example",
		"joe@here.example -> homed rules=1,2 directory=/home/joe/Maildir maildir_format=true uid=1001 gid=1001 max=1", 0 },
	{ "ignore_target_hosts by $host_address", "r:\n driver = dnslookup\n ignore_target_hosts = ${if eq{$host_address}{192.0.2.1}{*}}\n transport = smtp\n", "a@remote.example",
		"a@remote.example -> smtp [192.0.2.2:25] rules=0,2 helo_data=mail.here.example", 0 },
	{ "variables are an address's own", "a:\n driver = redirect\n local_parts = all\n set = r_x = base\n data = one, two\nb:\n driver = accept\n local_parts = one\n"
		" set = r_x = other\n transport = lmtp_sock\nc:\n driver = redirect\n allow_fail\n data = :fail: $r_x\n", "all@here.example",
		"one@here.example -> lmtp_sock rules=2 batch_max=20 socket=/run/lmtp max=20 <all@here.example>\ntwo@here.example FAIL 5.1.1 base <all@here.example>", 0 },
	/* preconditions */
	{ "prefix", "r:\n driver = accept\n local_part_prefix = real- : *+\n check_local_user\n transport = homed\n", "real-joe@here.example",
		"real-joe@here.example -> homed rules=2 directory=/home/joe/Maildir maildir_format=true uid=1001 gid=1001 max=1 prefix=real-", 0 },
	{ "prefix missing", "r:\n driver = accept\n local_part_prefix = real-\n transport = smtp\n", "joe@here.example", "joe@here.example FAIL 5.1.1 Unrouteable address", 0 },
	{ "suffix with any text", "r:\n driver = accept\n local_part_suffix = -* : +*\n local_part_suffix_optional\n check_local_user\n transport = homed\n",
		"joe+a+b@here.example joe@here.example",
		"joe+a+b@here.example -> homed rules=2 directory=/home/joe/Maildir maildir_format=true uid=1001 gid=1001 max=1 suffix=+a+b\n"
		"joe@here.example -> homed rules=1,2 directory=/home/joe/Maildir maildir_format=true uid=1001 gid=1001 max=1 (0)", 0 },
	{ "condition", "r:\n driver = accept\n condition = ${if eq{$local_part}{joe}}\n condition = yes\n transport = lmtp_sock\n", "joe@x.example ann@x.example",
		"joe@x.example -> lmtp_sock rules=2 batch_max=20 socket=/run/lmtp max=20\nann@x.example FAIL 5.1.1 Unrouteable address", 0 },
	{ "senders", "r:\n driver = accept\n senders = s@x.example\n transport = lmtp_sock\n", "joe@x.example",
		"joe@x.example FAIL 5.1.1 Unrouteable address", 0 },
	{ "files", "r:\n driver = accept\n require_files = DIR/users:!DIR/nothing\n transport = lmtp_sock\n", "joe@x.example",
		"joe@x.example -> lmtp_sock rules=2 batch_max=20 socket=/run/lmtp max=20", 0 },
	{ "a stranger's file", "r:\n driver = accept\n require_files = /x/$local_part\n transport = lmtp_sock\n", "joe@x.example",
		"joe@x.example DEFER  router r: require_files: the path \"/x/joe\" is tainted (it comes from a stranger)", 0 },
	{ "verify_only is skipped", "r:\n driver = accept\n verify_only\n transport = smtp\n", "joe@x.example", "joe@x.example FAIL 5.1.1 Unrouteable address", 0 },
	{ "address_data and set", "r:\n driver = accept\n domains = x.example\n set = r_a = $local_part ; r_b = ${uc:$r_a}\n address_data = <$r_b>\n"
		" condition = yes\n transport = ${if eq{$address_data}{<JOE>}{lmtp_sock}{nope}}\n", "joe@x.example",
		"joe@x.example -> lmtp_sock rules=2 batch_max=20 socket=/run/lmtp max=20", 0 },
	{ "address_data fails: declines", "r:\n driver = accept\n address_data = ${if eq{1}{2}{x}fail}\n transport = smtp\nr2:\n driver = accept\n transport = lmtp_sock\n",
		"joe@x.example", "joe@x.example -> lmtp_sock rules=2 batch_max=20 socket=/run/lmtp max=20", 0 },
	{ "unknown transport", "r:\n driver = accept\n transport = x${lc:Y}\n", "joe@x.example", "joe@x.example DEFER  router r: transport: there is no transport \"xy\"", 0 },
	{ "a stranger's transport", "r:\n driver = accept\n transport = $local_part\n", "smtp@x.example",
		"smtp@x.example DEFER  router r: transport: the name \"smtp\" is tainted (it comes from a stranger)", 0 },
	{ "unseen", "r:\n driver = accept\n unseen\n transport = lmtp_sock\n" REMOTE, "a@remote.example",
		"a@remote.example -> lmtp_sock rules=0,2 batch_max=20 socket=/run/lmtp max=20 unseen\n"
		"a@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example", 0 },
	/* dnslookup */
	{ "mx", REMOTE, "a@remote.example", "a@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example", 0 },
	{ "options differ from host to host", "r:\n driver = dnslookup\n transport = byhost\n", "a@remote.example",
		"a@remote.example -> byhost [192.0.2.1:25(helo_data=one.example) 192.0.2.2:25(helo_data=two.example)(interface=192.0.2.98)] rules=0,2 dscp=af21", 0 },
	{ "one plan for two", REMOTE, "a@remote.example b@Remote.Example", "a@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example\n"
		"b@Remote.Example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example (0)", 0 },
	{ "one plan for two domains with the same hosts", REMOTE, "a@remote.example b@other.example",
		"a@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example\n"
		"b@other.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=2 helo_data=mail.here.example (0)", 0 },
	{ "multi_domain = false", "r:\n driver = dnslookup\n transport = bydomain\n", "a@remote.example b@other.example",
		"a@remote.example -> bydomain [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example\n"
		"b@other.example -> bydomain [192.0.2.1:25 192.0.2.2:25] rules=2 helo_data=mail.here.example (1)", 0 },
	{ "no such domain", REMOTE, "a@nowhere.example", "a@nowhere.example FAIL 5.1.2 Unrouteable address: nowhere.example does not exist", 0 },
	{ "null mx", REMOTE, "a@null.example", "a@null.example FAIL 5.1.10 Unrouteable address: null.example takes no mail (null MX)", 0 },
	{ "dns trouble", REMOTE, "a@servfail.example", "a@servfail.example DEFER  servfail.example: server failure (SERVFAIL)", 0 },
	{ "pass_on_timeout", "r:\n driver = dnslookup\n transport = smtp\n pass_on_timeout\n no_more\nr2:\n driver = accept\n transport = lmtp_sock\n", "a@servfail.example",
		"a@servfail.example -> lmtp_sock rules=2 batch_max=20 socket=/run/lmtp max=20", 0 },
	{ "self: freeze", REMOTE, "a@self.example", "a@self.example FREEZE  remote host is the local host: self.example (me.example)", 0 },
	{ "self: fail", "r:\n driver = dnslookup\n self = fail\n transport = smtp\n", "a@self.example",
		"a@self.example FAIL 5.1.1 remote host is the local host: self.example (me.example)", 0 },
	{ "self: pass", "r:\n driver = dnslookup\n self = pass\n no_more\n transport = smtp\nr2:\n driver = accept\n condition = ${if eq{$self_hostname}{me.example}}\n transport = lmtp_sock\n",
		"a@self.example", "a@self.example -> lmtp_sock rules=2 batch_max=20 socket=/run/lmtp max=20", 0 },
	{ "self: send", "r:\n driver = dnslookup\n self = send\n transport = smtp\n", "a@self.example",
		"a@self.example -> smtp [192.0.2.99:25] rules=2 helo_data=mail.here.example", 0 },
	{ "self: reroute", "r:\n driver = dnslookup\n self = reroute: remote.example\n transport = smtp\n", "a@self.example",
		"a@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example <a@self.example>", 0 },
	{ "ignore_target_hosts", "r:\n driver = dnslookup\n ignore_target_hosts = 192.0.2.1/32\n transport = smtp\n", "a@remote.example",
		"a@remote.example -> smtp [192.0.2.2:25] rules=0,2 helo_data=mail.here.example", 0 },
	{ "fail_defer_domains", "r:\n driver = dnslookup\n fail_defer_domains = *\n transport = smtp\n", "a@nowhere.example",
		"a@nowhere.example DEFER 5.1.2 nowhere.example does not exist", 0 },
	{ "not secure, as demanded", "r:\n driver = dnslookup\n dnssec_require_domains = remote.example\n transport = smtp\n", "a@remote.example a@other.example",
		"a@remote.example DEFER  remote.example: lookup not DNSSEC-secure, as dnssec_require_domains demands\n"
		"a@other.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=2 helo_data=mail.here.example", 0 },
	{ "srv, ipv4_only, mx_domains", "r:\n driver = dnslookup\n check_srv = smtp\n ipv4_only = true\n mx_domains = smart.example\n transport = smtp\n", "a@smart.example",
		"a@smart.example FAIL 5.1.2 Unrouteable address: smart.example has no MX record", 0 },
	{ "widen_domains", "r:\n driver = dnslookup\n widen_domains = nothing.example : example\n transport = smtp\n", "a@remote",
		"a@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example <a@remote>", 0 },
	/* ipliteral */
	{ "literal", "r:\n driver = ipliteral\n transport = smtp\n", "a@[192.0.2.7]", "a@[192.0.2.7] -> smtp [192.0.2.7:25] rules=2 helo_data=mail.here.example", 0 },
	{ "literal of this host", "r:\n driver = ipliteral\n transport = smtp\n", "a@[192.0.2.99]",
		"a@[192.0.2.99] FREEZE  remote host is the local host: [192.0.2.99] (192.0.2.99)", 0 },
	/* manualroute */
	{ "one host", "r:\n driver = manualroute\n route_list = * smart.example\n transport = smtp\n", "a@remote.example",
		"a@remote.example -> smtp [192.0.2.50:25] rules=0,2 helo_data=mail.here.example", 0 },
	{ "hosts, ports, a transport", "r:\n driver = manualroute\n route_list = x.example 192.0.2.8 ; *.example \"smart.example::2525 : 192.0.2.9\" byname added\n transport = smtp\n",
		"a@y.example", "a@y.example -> added [192.0.2.50:2525 192.0.2.9:2525] rules=2 helo_data=mail.here.example interface=192.0.2.99 +\"X-One: 1\" +\"X-Two: a\" "
		"-Bcc -X-Old from=bounce-a@here.example", 0 },
	{ "mx of another name", "r:\n driver = manualroute\n route_list = * remote.example/MX\n transport = smtp\n", "a@b.example",
		"a@b.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=2 helo_data=mail.here.example", 0 },
	{ "regular expression and $1", "r:\n driver = manualroute\n route_list = ^(\\\\w+)\\\\.x\\\\.example\\$ $1.example\n transport = smtp\n", "a@smart.x.example",
		"a@smart.x.example -> smtp [192.0.2.50:25] rules=2 helo_data=mail.here.example", 0 },
	{ "no rule fits", "r:\n driver = manualroute\n route_list = x.example smart.example\n transport = smtp\n", "a@b.example", "a@b.example FAIL 5.1.1 Unrouteable address", 0 },
	{ "route_data", "r:\n driver = manualroute\n route_data = ${lookup{$domain}lsearch{DIR/routes}}\n transport = smtp\n", "a@loc.example b@none.example",
		"a@loc.example -> lmtp_sock rules=2 batch_max=20 socket=/run/lmtp max=20\nb@none.example FAIL 5.1.1 Unrouteable address", 0 },
	{ "host not found: freeze", "r:\n driver = manualroute\n route_list = * nothing.example\n transport = smtp\n", "a@b.example",
		"a@b.example FREEZE  nothing.example does not exist", 0 },
	{ "host not found: pass", "r:\n driver = manualroute\n route_list = * nothing.example\n host_find_failed = pass\n transport = smtp\nr2:\n driver = accept\n transport = lmtp_sock\n",
		"a@b.example", "a@b.example -> lmtp_sock rules=2 batch_max=20 socket=/run/lmtp max=20", 0 },
	{ "host not found: ignore", "r:\n driver = manualroute\n route_list = * nothing.example:smart.example\n host_find_failed = ignore\n transport = smtp\n", "a@b.example",
		"a@b.example -> smtp [192.0.2.50:25] rules=2 helo_data=mail.here.example", 0 },
	{ "all ignored", "r:\n driver = manualroute\n route_list = * nothing.example\n host_find_failed = ignore\n host_all_ignored = fail\n transport = smtp\n", "a@b.example",
		"a@b.example FAIL 5.1.1 no host is left: all are ignored or unknown", 0 },
	{ "host in trouble", "r:\n driver = manualroute\n route_list = * servfail.example\n transport = smtp\n", "a@b.example",
		"a@b.example DEFER  servfail.example: server failure (SERVFAIL)", 0 },
	{ "this host behind another", "r:\n driver = manualroute\n route_list = * smart.example:me.example:smart2.example\n transport = smtp\n", "a@b.example",
		"a@b.example -> smtp [192.0.2.50:25] rules=2 helo_data=mail.here.example", 0 },
	{ "this host first, send", "r:\n driver = manualroute\n route_list = * 127.0.0.1::2500\n self = send\n transport = smtp\n", "a@b.example",
		"a@b.example -> smtp [127.0.0.1:2500] rules=2 helo_data=mail.here.example", 0 },
	{ "fallback", "r:\n driver = manualroute\n route_list = * smart.example\n fallback_hosts = smart2.example::26\n transport = smtp\n", "a@b.example",
		"a@b.example -> smtp [192.0.2.50:25 192.0.2.51:26] rules=2 helo_data=mail.here.example", 0 },
	/* redirect */
	{ "aliases", ALIASES USERS REMOTE, "postmaster@here.example",
		"joe@here.example -> homed rules=1,2 directory=/home/joe/Maildir maildir_format=true uid=1001 gid=1001 max=1 <postmaster@here.example>\n"
		"admin@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example <postmaster@here.example,root@here.example>", 0 },
	{ "the same twice", ALIASES USERS REMOTE, "sales@here.example",
		"ann@here.example -> homed rules=2 directory=/home/ann/Maildir maildir_format=true uid=1002 gid=100 max=1 <sales@here.example>\n"
		"bob@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example <sales@here.example>", 0 },
	{ "the same by two ways", ALIASES USERS, "both@here.example",
		"joe@here.example -> homed rules=1,2 directory=/home/joe/Maildir maildir_format=true uid=1001 gid=1001 max=1 <both@here.example>", 0 },
	{ "fail", ALIASES, "gone@here.example", "gone@here.example FAIL 5.7.1 550 5.7.1 moved away, sorry", 0 },
	{ "defer", ALIASES, "later@here.example", "later@here.example DEFER 4.3.9 451 4.3.9 back soon", 0 },
	{ "blackhole", ALIASES, "hole@here.example", "hole@here.example DISCARD", 0 },
	{ "unknown: the next router", ALIASES "r2:\n driver = accept\n transport = lmtp_sock\n", "unk@here.example",
		"unk@here.example -> lmtp_sock rules=2 batch_max=20 socket=/run/lmtp max=20", 0 },
	{ "/dev/null", ALIASES, "null@here.example", "/dev/null DISCARD <null@here.example>", 0 },
	{ "no :fail: here", "a:\n driver = redirect\n data = :fail: x\n", "joe@here.example",
		"joe@here.example DEFER  :fail: is not permitted in this router (allow_fail)", 0 },
	{ "two that name each other", ALIASES USERS, "loop1@here.example", "loop1@here.example FAIL 5.1.1 Unrouteable address <loop1@here.example,loop2@here.example>", 0 },
	{ "one that names itself", ALIASES "r2:\n driver = accept\n domains = +local_domains\n transport = lmtp_sock\n" REMOTE, "selfish@here.example",
		"selfish@here.example -> lmtp_sock rules=2 batch_max=20 socket=/run/lmtp max=20 <selfish@here.example>\n"
		"extra@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example <selfish@here.example>", 0 },
	{ "a file", ALIASES, "file@here.example", "/var/mail/x -> tofile rules=2 file=/var/mail/x uid=1001 gid=100 max=1 <file@here.example>", 0 },
	{ "a directory without its transport", ALIASES, "dir@here.example",
		"dir@here.example DEFER  delivery to a directory is refused: directory_transport is not set", 0 },
	{ "a pipe", ALIASES, "pipe@here.example", "pipe@here.example DEFER  delivery to a pipe is refused: pipe_transport is not set", 0 },
	{ "a list with a pipe in it", ALIASES USERS REMOTE, "list@here.example",
		"list@here.example DEFER  :include:: delivery to a pipe is refused: pipe_transport is not set", 0 },
	{ "a list", "a:\n driver = redirect\n local_parts = list\n data = :include:DIR/list2\n one_time\n errors_to = owner@remote.example\n" USERS REMOTE, "list@here.example",
		"ann@here.example -> homed rules=2 directory=/home/ann/Maildir maildir_format=true uid=1002 gid=100 max=1 from=owner@remote.example "
		"errors=owner@remote.example one_time <list@here.example>\n"
		"bob@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example from=owner@remote.example "
		"errors=owner@remote.example one_time <list@here.example>", 0 },
	{ "errors_to that leads nowhere", "a:\n driver = redirect\n local_parts = list\n data = bob@remote.example\n errors_to = owner@nowhere.example\n" REMOTE, "list@here.example",
		"bob@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example <list@here.example>", 0 },
	{ "a list outside", "a:\n driver = redirect\n data = :include:/etc/passwd\n include_directory = DIR\n", "list@here.example",
		"list@here.example DEFER  :include: /etc/passwd is not in DIR (include_directory)", 0 },
	{ "a malformed address", ALIASES, "bad@here.example", "bad@here.example DEFER  syntax error in redirection data: \"joe@@here\": *", 0 },
	{ "a malformed address, skipped", "a:\n driver = redirect\n skip_syntax_errors\n data = ${lookup{$local_part}lsearch{DIR/aliases}}\n" USERS, "some@here.example",
		"ann@here.example -> homed rules=2 directory=/home/ann/Maildir maildir_format=true uid=1002 gid=100 max=1 <some@here.example>", 0 },
	{ "forward file", "f:\n driver = redirect\n domains = +local_domains\n check_local_user\n check_ancestor\n file = DIR/$local_part_data.forward\n owners = root\n" USERS REMOTE, "joe@here.example ann@here.example",
		"joe@here.example -> homed rules=1,2 directory=/home/joe/Maildir maildir_format=true uid=1001 gid=1001 max=1 <joe@here.example>\n"
		"joe@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example <joe@here.example>\n"
		"ann@here.example -> homed rules=2 directory=/home/ann/Maildir maildir_format=true uid=1002 gid=100 max=1 (2)", 0 },
	{ "forward file that all may write", "f:\n driver = redirect\n file = DIR/open.forward\n", "joe@here.example",
		"joe@here.example DEFER  DIR/open.forward: bad mode 0666: 022 is not allowed (modemask)", 0 },
	{ "forward file of a stranger's name", "f:\n driver = redirect\n file = DIR/$local_part.forward\n", "joe@here.example",
		"joe@here.example DEFER  file: the path \"DIR/joe.forward\" is tainted, since it holds text from a stranger; use $home or $local_part_data", 0 },
	{ "its directory is missing", "f:\n driver = redirect\n file = DIR/no/such\n", "joe@here.example", "joe@here.example DEFER  DIR/no: No such file or directory: is a file system missing?", 0 },
	{ "redirect_router", "a:\n driver = redirect\n local_parts = x\n data = joe\n redirect_router = z\nb:\n driver = accept\n transport = smtp\nz:\n driver = accept\n transport = lmtp_sock\n",
		"x@here.example", "joe@here.example -> lmtp_sock rules=1,2 batch_max=20 socket=/run/lmtp max=20 <x@here.example>", 0 },
	{ "an endless chain", "a:\n driver = redirect\n data = x$local_part@here.example\n", "a@here.example", "*50 redirections in a row: a loop*", 0 },
	{ "a domain on hold", "#hold_domains = held.example\nr:\n driver = accept\n transport = smtp\n", "a@held.example", "a@held.example DEFER  domain is held wait=1", 0 },
	{ "on hold behind an alias", "#hold_domains = remote.example\n" ALIASES USERS REMOTE, "root@here.example",
		"admin@remote.example DEFER  domain is held wait=1 <root@here.example>", 0 },
	{ "on hold, forced", "#hold_domains = held.example\nr:\n driver = accept\n transport = lmtp_sock\n", "a@held.example",
		"a@held.example -> lmtp_sock rules=2 batch_max=20 socket=/run/lmtp max=20", FORCED },
	{ "on hold, verified", "#hold_domains = held.example\nr:\n driver = accept\n transport = lmtp_sock\n", "a@held.example", "OK r", MODE_VERIFY_RECIPIENT },
	{ "hold_domains can't be known", "#hold_domains = ${lookup{x}lsearch{/no/such}}\nr:\n driver = accept\n transport = lmtp_sock\n", "a@held.example",
		"a@held.example DEFER  *", 0 },
	{ "queue_domains, on arrival", "#queue_domains = *.slow.example\n" REMOTE, "a@x.slow.example", "a@x.slow.example DEFER  domain is in queue_domains wait=2", ARRIVAL },
	{ "queue_domains, later", "#queue_domains = remote.example\n" REMOTE, "a@remote.example",
		"a@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example", 0 },
	{ "queue_domains, another domain", "#queue_domains = *.slow.example\n" REMOTE, "a@remote.example",
		"a@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example", ARRIVAL },
	{ "queue_smtp_domains, on arrival", "#queue_smtp_domains = remote.example\n" REMOTE, "a@remote.example",
		"a@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example wait=2", ARRIVAL },
	{ "queue_smtp_domains, later", "#queue_smtp_domains = remote.example\n" REMOTE, "a@remote.example",
		"a@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example", 0 },
	{ "queue_smtp_domains, not by SMTP", "#queue_smtp_domains = *\nr:\n driver = accept\n transport = lmtp_sock\n", "a@x.example",
		"a@x.example -> lmtp_sock rules=2 batch_max=20 socket=/run/lmtp max=20", ARRIVAL },
	{ "queue_only_file", "#queue_only_file = /no/such : DIR/users\n" REMOTE, "a@remote.example",
		"a@remote.example DEFER  a file of queue_only_file exists wait=2", ARRIVAL },
	{ "queue_only_file, later", "#queue_only_file = DIR/users\n" REMOTE, "a@remote.example",
		"a@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example", 0 },
	{ "queue_only_file for SMTP", "#queue_only_file = smtpDIR/users\n" REMOTE, "a@remote.example",
		"a@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example wait=2", ARRIVAL },
	{ "queue_only_file is not there", "#queue_only_file = DIR/nothing : smtpDIR/nothing\n" REMOTE, "a@remote.example",
		"a@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example", ARRIVAL },
	{ "remote_sort_domains", "#remote_sort_domains = !remote.example : smart*.example : *.example\n" "r:\n driver = manualroute\n route_list = * smart.example\n transport = smtp\n",
		"a@remote.example b@smart.example c@x.test", "a@remote.example -> smtp [192.0.2.50:25] rules=0,2 helo_data=mail.here.example order=3\n"
		"b@smart.example -> smtp [192.0.2.50:25] rules=2 helo_data=mail.here.example order=1 (0)\n"
		"c@x.test -> smtp [192.0.2.50:25] rules=2 helo_data=mail.here.example order=1 (0)", 0 },
	{ "remote_sort_domains, expanded", "#remote_sort_domains = x.test : ${if eq{$sender_address_domain}{from.example}{smart.example}}\n"
		"r:\n driver = manualroute\n route_list = * smart.example\n transport = smtp\n",
		"a@y.test b@smart.example", "a@y.test -> smtp [192.0.2.50:25] rules=2 helo_data=mail.here.example order=3\n"
		"b@smart.example -> smtp [192.0.2.50:25] rules=2 helo_data=mail.here.example order=2 (0)", 0 },
	/* hosts, changed */
	{ "translate_ip_address", "r:\n driver = dnslookup\n translate_ip_address = ${if eq{$host_address}{192.0.2.1}{10.0.0.1}{${if eq{$host_address}{192.0.2.50}{smart2.example}fail}}}\n"
		" transport = smtp\n", "a@remote.example b@smart.example",
		"a@remote.example -> smtp [10.0.0.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example\n"
		"b@smart.example -> smtp [192.0.2.51:25] rules=2 helo_data=mail.here.example (1)", 0 },
	{ "translate_ip_address to nobody", "r:\n driver = dnslookup\n translate_ip_address = nothing.example\n transport = smtp\n", "a@smart.example",
		"a@smart.example DEFER  router r: translate_ip_address: host \"nothing.example\" not found for 192.0.2.50", 0 },
	{ "hosts that depend on the local part are not kept", "r:\n driver = dnslookup\n ignore_target_hosts = ${if eq{$local_part}{one}{192.0.2.1}{192.0.2.2}}\n transport = smtp\n",
		"one@remote.example two@remote.example", "one@remote.example -> smtp [192.0.2.2:25] rules=0,2 helo_data=mail.here.example\n"
		"two@remote.example -> smtp [192.0.2.1:25] rules=0,2 helo_data=mail.here.example (1)", 0 },
	{ "but with same_domain_copy_routing", "r:\n driver = dnslookup\n same_domain_copy_routing\n ignore_target_hosts = ${if eq{$local_part}{one}{192.0.2.1}{192.0.2.2}}\n"
		" transport = smtp\n", "one@remote.example two@remote.example", "one@remote.example -> smtp [192.0.2.2:25] rules=0,2 helo_data=mail.here.example\n"
		"two@remote.example -> smtp [192.0.2.2:25] rules=0,2 helo_data=mail.here.example (0)", 0 },
	{ "an ignored host is not found", "r:\n driver = manualroute\n ignore_target_hosts = 192.0.2.50\n route_list = * smart.example:smart2.example\n host_find_failed = fail\n transport = smtp\n",
		"a@b.example", "a@b.example FAIL 5.1.1 all addresses are ignored (ignore_target_hosts): smart.example", 0 },
	{ "check_secondary_mx asks self first", "r:\n driver = dnslookup\n check_secondary_mx\n self = fail\n transport = smtp\n", "a@self.example",
		"a@self.example FAIL 5.1.1 remote host is the local host: self.example (me.example)", 0 },
	{ "a completed name begins with the first router", "z:\n driver = accept\n domains = remote.example\n transport = lmtp_sock\n"
		"r:\n driver = dnslookup\n widen_domains = example\n redirect_router = y\n transport = smtp\ny:\n driver = accept\n transport = smtp\n", "a@remote",
		"a@remote.example -> lmtp_sock rules=0,2 batch_max=20 socket=/run/lmtp max=20 <a@remote>", 0 },
	/* names and files */
	{ "nothing is left before a suffix", "r:\n driver = accept\n local_part_suffix = -owner\n transport = lmtp_sock\n", "-owner@x.example", "-owner@x.example FAIL 5.1.1 Unrouteable address", 0 },
	{ "a file that another may read", "r:\n driver = accept\n require_files = root:DIR/users\n transport = lmtp_sock\n", "joe@x.example",
		"joe@x.example -> lmtp_sock rules=2 batch_max=20 socket=/run/lmtp max=20", 0 },
	{ "a file that another may not read", "r:\n driver = accept\n require_files = joe:DIR/users\n transport = lmtp_sock\n", "joe@x.example",
		"joe@x.example DEFER  router r: require_files: DIR/users: Permission denied", 0 },
	{ "which counts as missing with +", "r:\n driver = accept\n require_files = 1001,joe:+!DIR/users\n transport = lmtp_sock\n", "joe@x.example",
		"joe@x.example -> lmtp_sock rules=2 batch_max=20 socket=/run/lmtp max=20", 0 },
	{ "nobody to look for files", "r:\n driver = accept\n require_files = nobody-at-all:DIR/users\n transport = lmtp_sock\n", "joe@x.example",
		"joe@x.example DEFER  router r: require_files: there is no login \"nobody-at-all\"", 0 },
	{ "unseen in the last router", "r:\n driver = accept\n unseen\n transport = lmtp_sock\n", "a@x.example", "a@x.example -> lmtp_sock rules=2 batch_max=20 socket=/run/lmtp max=20", 0 },
	/* more of redirections */
	{ "what stands before :unknown:", "a:\n driver = redirect\n local_parts = x\n data = joe, :unknown:, ann\n" USERS, "x@here.example",
		"joe@here.example -> homed rules=1,2 directory=/home/joe/Maildir maildir_format=true uid=1001 gid=1001 max=1 <x@here.example>", 0 },
	{ "forbid_smtp_code", "a:\n driver = redirect\n allow_fail\n forbid_smtp_code\n data = :fail: 550 5.7.1 plain words\n", "x@here.example", "x@here.example FAIL 5.1.1 plain words", 0 },
	{ "forbid_smtp_code, another digit", "a:\n driver = redirect\n allow_fail\n forbid_smtp_code\n data = :fail: 450 4.7.1 plain words\n", "x@here.example",
		"x@here.example FAIL 5.1.1 plain words", 0 },
	{ "beside include_directory", "a:\n driver = redirect\n data = :include:DIRx/list\n include_directory = DIR\n", "list@here.example",
		"list@here.example DEFER  :include: DIRx/list is not in DIR (include_directory)", 0 },
	{ "the same hosts, found in two ways", "r:\n driver = manualroute\n route_list = a.example both.example ipv4_only ; b.example both.example\n transport = smtp\n",
		"x@a.example y@b.example", "x@a.example -> smtp [192.0.2.52:25] rules=2 helo_data=mail.here.example\n"
		"y@b.example -> smtp [2001:db8::52:25 192.0.2.52:25] rules=2 helo_data=mail.here.example (1)", 0 },
	{ "special words in lower case only", "a:\n driver = redirect\n allow_fail\n data = :FAIL: x\n", "x@here.example", "x@here.example DEFER  syntax error in redirection data: *", 0 },
	{ "a source route", "a:\n driver = redirect\n local_parts = x\n data = @other.example,@x.example:bob@remote.example\n" REMOTE, "x@here.example",
		"bob@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example <x@here.example>", 0 },
	{ "a filter", "a:\n driver = redirect\n data = \"# Exim filter\\nfinish\"\n", "x@here.example", "x@here.example DEFER  the data is a filter: Exim and Sieve filters are not implemented", 0 },
	{ "out of include_directory", "a:\n driver = redirect\n data = :include:DIR/../etc/passwd\n include_directory = DIR\n", "list@here.example",
		"list@here.example DEFER  :include: DIR/../etc/passwd: with \"..\" it may leave DIR (include_directory)", 0 },
	{ "no_repeat_use", "a:\n driver = redirect\n domains = +local_domains\n no_repeat_use\n data = x$local_part\nz:\n driver = accept\n transport = lmtp_sock\n", "a@here.example",
		"xa@here.example -> lmtp_sock rules=2 batch_max=20 socket=/run/lmtp max=20 <a@here.example>", 0 },
	{ "names of ancestors in lower case", "a:\n driver = redirect\n domains = +local_domains\n local_parts = joe\n local_part_suffix = +*\n data = $original_local_part@remote.example\n" REMOTE, "JOE+X@here.example",
		"joe+x@remote.example -> smtp [192.0.2.1:25 192.0.2.2:25] rules=0,2 helo_data=mail.here.example <JOE+X@here.example>", 0 },
	/* verification */
	{ "a forbidden file verifies", "a:\n driver = redirect\n forbid_file\n data = /x/y\n", "x@here.example", "OK a", MODE_VERIFY_RECIPIENT },
	{ "unseen makes several of one", "a:\n driver = redirect\n unseen\n data = a@nowhere.example\n" REMOTE, "x@here.example", "OK a", MODE_VERIFY_RECIPIENT },
	{ "no_verify_sender", "r:\n driver = accept\n no_verify_sender\n transport = smtp\n", "x@here.example", "OK r", MODE_VERIFY_RECIPIENT },
	{ "verified", ALIASES USERS REMOTE, "joe@here.example", "OK users", MODE_VERIFY_RECIPIENT },
	{ "verified through an alias", ALIASES USERS REMOTE, "chain@here.example", "OK users", MODE_VERIFY_RECIPIENT },
	{ "an alias of several", ALIASES USERS REMOTE, "sales@here.example", "OK aliases", MODE_VERIFY_RECIPIENT },
	{ "not verified", ALIASES USERS REMOTE, "who@here.example", "FAIL 5.1.1 Unrouteable address", MODE_VERIFY_RECIPIENT },
	{ "no_verify", "r:\n driver = accept\n no_verify\n transport = smtp\n", "who@here.example", "FAIL 5.1.1 Unrouteable address", MODE_VERIFY_RECIPIENT },
	{ "fail_verify", "r:\n driver = accept\n fail_verify_sender\n transport = smtp\n", "who@here.example", "FAIL 5.1.1 r router forced verify failure", MODE_VERIFY_SENDER },
	{ "fail_verify of the other kind", "r:\n driver = accept\n fail_verify_sender\n transport = smtp\n", "who@here.example", "OK r", MODE_VERIFY_RECIPIENT },
	{ "sender's domain", REMOTE, "a@nowhere.example", "FAIL 5.1.2 Unrouteable address: nowhere.example does not exist", MODE_VERIFY_SENDER },
	{ "sender's domain in trouble", REMOTE, "a@servfail.example", "DEFER  servfail.example: server failure (SERVFAIL) (not told)", MODE_VERIFY_SENDER },
	{ "redirected to :defer:", ALIASES, "later@here.example", "DEFER 4.3.9 451 4.3.9 back soon", MODE_VERIFY_RECIPIENT },
	{ "redirected to a mistake", ALIASES, "bad@here.example", "*(not told)*", MODE_VERIFY_RECIPIENT },
	{ "redirected to :fail:", ALIASES, "gone@here.example", "FAIL 5.7.1 550 5.7.1 moved away, sorry", MODE_VERIFY_RECIPIENT },
	{ "verify_only", "r:\n driver = accept\n verify_only\n", "who@here.example", "OK r", MODE_VERIFY_RECIPIENT },
#include "tests/unit/router_query_cases.h"
};

static struct dns_fake *fake;
static char dir[] = "/tmp/router-test-XXXXXX";

/* DIR and PORT replaced. */
static char *filled(const char *text)
{
	struct buf b = BUF_INIT;

	for (; *text; text++) {
		if (!strncmp(text, "DIR", 3)) {
			buf_adds(&b, dir);
			text += 2;
		} else if (!strncmp(text, "PORT", 4)) {
			buf_printf(&b, "%u", fake->port);
			text += 3;
		} else {
			buf_addc(&b, *text);
		}
	}
	buf_addc(&b, 0);
	return b.p;
}

static bool quiet; /* problems are what the test is about */

static struct conf *conf_make(const char *routers)
{
	struct conf *conf;
	char *text = filled(routers), *main_end;
	struct buf b = BUF_INIT;
	struct conf_source source = { .path = "test" };

	char *start = filled(head), *end = filled(transports);
	buf_adds(&b, start);
	main_end = text;
	while (*main_end == '#') { /* options of the main section stand first */
		char *line = main_end + 1;

		main_end = strchr(line, '\n') + 1;
		buf_add(&b, line, (size_t)(main_end - line));
	}
	buf_adds(&b, "begin routers\n");
	buf_adds(&b, main_end);
	buf_adds(&b, end);
	source.text = b.p;
	source.text_len = b.len;
	if (conf_read(&source, &conf) != ST_OK || conf_check(conf, NULL) != ST_OK)
		for (uint32_t i = 0; i < conf->n_problems && !quiet; i++)
			print_error("%.*s\n", STR_FMT(conf_problem_format(conf, &conf->problems[i], &conf->arena)));
	buf_clear(&b);
	free(text);
	free(start);
	free(end);
	return conf;
}

/* In place of the query process. Words are joined, with bars where /login shows them. */
static enum status program_fake(void *ctx, const struct worker_login *login, const struct ipc_program_ask *ask, struct ipc_program_answer *out,
	int timeout_ms, struct err *err)
{
	static struct buf said;
	bool shows = str_is(ask->argv.v[0], "/login");
	struct str first = ask->argv.n > 1 ? ask->argv.v[1] : STR_NULL;

	assert_null(ctx);
	assert_in_range(timeout_ms, 1000, ROUTER_PROGRAM_MS + 60000);
	assert_in_range(ask->limit_s, 1, ROUTER_PROGRAM_MS / 1000);
	buf_reset(&said);
	if (shows)
		buf_printf(&said, "fail %u %u %.*s", (unsigned)login->uid, (unsigned)login->gid, STR_FMT(ask->router));
	for (uint32_t i = 1; i < ask->argv.n; i++) {
		buf_adds(&said, shows ? "|" : i > 1 ? " " : "");
		buf_add_str(&said, ask->argv.v[i]);
	}
	out->output = buf_str(&said);
	if (str_is(ask->argv.v[0], "/exits"))
		str_u64(first, 255, &out->code);
	if (str_is(ask->argv.v[0], "/killed"))
		str_u64(first, 255, &out->signal);
	out->too_late = str_is(ask->argv.v[0], "/late");
	out->own_time = str_is(first, "own");
	if (str_is(ask->argv.v[0], "/absent"))
		out->text = STR_LIT("no such file");
	return str_is(ask->argv.v[0], "/nobody") ? err_set(err, ST_DEFER, "nobody runs it") : ST_OK;
}

static void router_make(struct router *r, const struct conf *conf)
{
	static char paths[2][100];
	const struct router_files system = { .hosts = "/dev/null", .passwd = paths[0], .group = paths[1] };
	struct err err = ERR_INIT;

	snprintf(paths[0], sizeof paths[0], "%s/passwd", dir);
	snprintf(paths[1], sizeof paths[1], "%s/group", dir);
	if (router_open(r, conf, NULL, &system, &err) != ST_OK)
		fail_msg("%s", err.text);
	r->program = program_fake;
}

/* ---- answers as text ---- */

static void leaf_text(struct buf *b, const struct ipc_route_answer *x, const struct ipc_leaf *l, uint32_t *last_plan)
{
	static const char *const words[] = { "?", "", "FAIL", "DEFER", "DISCARD" };
	const struct ipc_plan *p = l->outcome == ROUTE_DELIVER ? &x->plans[l->plan] : NULL;

	if (b->len)
		buf_addc(b, '\n');
	buf_printf(b, "%.*s ", STR_FMT(l->addr));
	if (!p) {
		buf_printf(b, "%s", l->freeze ? "FREEZE" : words[l->outcome]);
		if (l->outcome != ROUTE_DISCARD)
			buf_printf(b, " %.*s %.*s", STR_FMT(l->status), STR_FMT(l->text));
	} else {
		buf_printf(b, "-> %.*s", STR_FMT(p->transport));
		for (uint32_t i = 0; i < p->n_hosts; i++) {
			const struct ipc_host *h = &p->hosts[i];

			buf_printf(b, "%s%.*s:%u", i ? " " : " [", STR_FMT(h->ip), (unsigned)h->port);
			for (uint32_t k = 0; k < h->n_options; k++)
				buf_printf(b, "(%.*s=%.*s)", STR_FMT(h->options[k].name), STR_FMT(h->options[k].value));
		}
		buf_adds(b, p->n_hosts ? "] rules=" : " rules=");
		for (uint32_t i = 0; i < l->retry_rules.n; i++)
			buf_printf(b, "%s%.*s", i ? "," : "", STR_FMT(l->retry_rules.v[i]));
		for (uint32_t i = 0; i < p->n_options; i++)
			buf_printf(b, " %.*s=%.*s", STR_FMT(p->options[i].name), STR_FMT(p->options[i].value));
		if (p->uid)
			buf_printf(b, " uid=%u gid=%u%s", (unsigned)p->uid - 1, (unsigned)p->gid - 1, p->initgroups ? " initgroups" : "");
		if (p->max_rcpt != 100 && p->max_rcpt)
			buf_printf(b, " max=%u", (unsigned)p->max_rcpt);
		for (uint32_t i = 0; i < p->headers_add.n; i++)
			buf_printf(b, " +\"%.*s\"", STR_FMT(str_trim(p->headers_add.v[i])));
		for (uint32_t i = 0; i < p->headers_remove.n; i++)
			buf_printf(b, " -%.*s", STR_FMT(p->headers_remove.v[i]));
		if (p->has_return_path)
			buf_printf(b, " from=%.*s", STR_FMT(p->return_path));
		if (l->has_errors_to)
			buf_printf(b, " errors=%.*s", STR_FMT(l->errors_to));
		if (l->local_part_prefix.len)
			buf_printf(b, " prefix=%.*s", STR_FMT(l->local_part_prefix));
		if (l->local_part_suffix.len)
			buf_printf(b, " suffix=%.*s", STR_FMT(l->local_part_suffix));
		if (l->unseen)
			buf_adds(b, " unseen");
		if (l->one_time)
			buf_adds(b, " one_time");
		/* the number of the plan is shown where it is not the first leaf's own */
		if (l->order)
			buf_printf(b, " order=%u", (unsigned)l->order);
		if (b->len && *last_plan != UINT32_MAX && l->recipient)
			buf_printf(b, " (%u)", (unsigned)l->plan);
		*last_plan = (uint32_t)l->plan;
	}
	if (l->wait)
		buf_printf(b, " wait=%u", (unsigned)l->wait);
	if (l->parents.len) {
		struct str rest = l->parents, part;
		bool first = true;
		buf_adds(b, " <");
		for (; str_split(&rest, '\n', &part); first = false)
			buf_printf(b, "%s%.*s", first ? "" : ",", STR_FMT(part));
		buf_adds(b, ">");
	}
}

struct collected {
	struct buf text;
	uint32_t last_plan;
	unsigned parts, leaves;
	bool need_content;
};

static void collect(void *arg, const struct ipc_route_answer *x)
{
	struct collected *c = arg;
	struct buf encoded = BUF_INIT;
	struct err err = ERR_INIT;

	c->parts++;
	c->need_content |= x->need_content;
	for (uint32_t i = 0; i < x->n_leaves; i++)
		leaf_text(&c->text, x, &x->leaves[i], &c->last_plan);
	c->leaves += x->n_leaves;
	if (ipc_encode(&ipc_type_route_answer, x, &encoded, &err) != ST_OK)
		fail_msg("does not encode: %s", err.text);
	if (encoded.len > IPC_FRAME_MAX - IPC_HEAD)
		fail_msg("an answer of %zu octets", encoded.len);
	buf_clear(&encoded);
}

static void route(struct router *r, struct arena *a, const char *addresses, struct collected *out, int mode)
{
	struct ipc_recipient rcpt[64];
	struct ipc_facts facts = { .sender = str_taint(STR_LIT("sender@from.example")), .has_sender = true, .size = mode == EXACT ? 1024 : 5000 };
	struct ipc_route_ask ask = { .facts = &facts, .recipients = rcpt, .arrival = mode == ARRIVAL, .forced = mode == FORCED };
	struct str rest = str_of(addresses), one;

	memset(rcpt, 0, sizeof rcpt);
	while (str_split(&rest, ' ', &one))
		rcpt[ask.n_recipients++].addr = str_taint(one);
	*out = (struct collected){ .last_plan = UINT32_MAX };
	router_route(r, a, &ask, -1, collect, out);
}

static void verify(struct router *r, struct arena *a, const struct one *c, struct buf *out)
{
	static const char *const words[] = { "OK", "FAIL", "DEFER", "ERROR" };
	struct ipc_verify_ask ask = { .addr = str_taint(str_of(c->addresses)), .sender = c->mode == MODE_VERIFY_SENDER };
	struct ipc_verify_answer x;

	router_verify(r, a, &ask, &x);
	buf_printf(out, "%s ", words[x.status]);
	if (x.status == ST_OK)
		buf_printf(out, "%.*s", STR_FMT(x.router));
	else
		buf_printf(out, "%.*s %.*s%s", STR_FMT(x.code), STR_FMT(x.log_text), x.text.len ? "" : " (not told)");
}

/* "*" at either end of what is wanted stands for any text. */
static bool text_fits(const char *got, const char *want)
{
	size_t n = strlen(want);

	if (n > 2 && want[0] == '*' && want[n - 1] == '*') {
		char middle[1000];
		snprintf(middle, sizeof middle, "%.*s", (int)n - 2, want + 1);
		return strstr(got, middle) != NULL;
	}
	if (n > 1 && want[n - 1] == '*')
		return !strncmp(got, want, n - 1);
	return !strcmp(got, want);
}

static void test_routes(void **state)
{
	unsigned failed = 0;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const struct one *c = &cases[i];
		struct conf *conf = conf_make(c->routers);
		struct collected got = { .last_plan = UINT32_MAX };
		struct arena a = ARENA_INIT;
		struct router r;
		char *want = filled(c->want);
		router_make(&r, conf);
		if (c->mode == MODE_DELIVER || c->mode >= ARRIVAL)
			route(&r, &a, c->addresses, &got, c->mode);
		else
			verify(&r, &a, c, &got.text);
		if (!text_fits(buf_cstr(&got.text), want)) {
			print_error("%s:\n got %s\nwant %s\n", c->name, buf_cstr(&got.text), want);
			failed++;
		}
		free(want);
		buf_clear(&got.text);
		arena_clear(&a);
		router_close(&r);
		conf_free(conf);
	}
	if (failed)
		fail_msg("%u cases", failed);
}

/* ---- identity ---- */

static struct str key_of(const char *routers, const char *address, struct arena *keep, struct str *destination)
{
	struct conf *conf = conf_make(routers);
	struct arena a = ARENA_INIT;
	struct router r;
	struct eval ev;
	static const struct ipc_facts facts;
	struct route *rt = arena_alloc(&a, sizeof *rt);
	struct ipc_recipient rcpt = { .addr = str_taint(str_of(address)) };
	struct str key;

	router_make(&r, conf);
	*rt = (struct route){ .r = &r, .site = r.site, .a = &a, .ev = &ev, .facts = &facts };
	rt->queue_end = &rt->queue;
	eval_init(&ev, r.lang, &a);
	route_recipient(rt, 0, &rcpt);
	route_run(rt);
	assert_true(rt->n_plans == 1);
	key = str_dup(keep, rt->plans[0].key);
	*destination = str_dup(keep, rt->plans[0].destination);
	eval_clear(&ev);
	hash_clear(&rt->plan_by_octets);
	hash_clear(&rt->leaf_by_key);
	arena_clear(&a);
	router_close(&r);
	conf_free(conf);
	return key;
}

static void test_keys(void **state)
{
	static const char mx[] = "r:\n driver = dnslookup\n transport = smtp\n";
	static const char manual[] = "r:\n driver = manualroute\n transport = smtp\n route_list = * \"192.0.2.1 : 192.0.2.2\" randomize\n";
	static const char *const ports = "r:\n driver = manualroute\n transport = smtp\n route_list = * \"192.0.2.1::26 : 192.0.2.2\"\n";
	struct arena a = ARENA_INIT;
	struct str destination, first, other;

	(void)state;
	first = key_of(mx, "a@remote.example", &a, &destination);
	assert_true(str_begins(first, "smtp/") && first.len == 5 + 32);
	assert_true(str_is(destination, "mx1.remote.example"));
	assert_true(str_eq(first, key_of(mx, "b@other.example", &a, &destination)));     /* the same hosts, another domain */
	assert_true(str_is(destination, "mx1.remote.example"));
	/* The same address by a name of somebody else's: a certificate that fits one does not fit the other. */
	assert_false(str_eq(first, key_of(mx, "a@foreign.example", &a, &destination)));
	assert_false(str_eq(first, key_of("r:\n driver = dnslookup\n transport = bydomain\n", "a@remote.example", &a, &destination)));
	other = key_of(manual, "a@remote.example", &a, &destination);
	for (int i = 0; i < 10; i++) /* whatever order they came in */
		assert_true(str_eq(other, key_of(manual, "a@remote.example", &a, &destination)));
	assert_false(str_eq(other, key_of(ports, "a@remote.example", &a, &destination)));
	assert_true(str_is(destination, "192.0.2.1:26"));
	/* what a connection is known by there makes it another one */
	other = key_of("r:\n driver = dnslookup\n transport = named\n", "a@remote.example", &a, &destination);
	assert_true(str_eq(other, key_of("r:\n driver = dnslookup\n transport = named\n", "a@other.example", &a, &destination)));
	assert_false(str_eq(other, key_of("r:\n driver = dnslookup\n transport = named\n", "b@remote.example", &a, &destination)));
	other = key_of("r:\n driver = accept\n local_parts = lsearch;DIR/users\n transport = mdir\n", "joe@here.example", &a, &destination);
	assert_true(str_is(destination, "/mail/joebox"));
	arena_clear(&a);
}

/* ---- much ---- */

static void test_many(void **state)
{
	struct conf *conf = conf_make("a:\n driver = redirect\n local_parts = big\n data = :include:DIR/big\n"
		"r:\n driver = manualroute\n route_list = * 192.0.2.1\n transport = smtp\n");
	struct collected got;
	struct arena a = ARENA_INIT;
	struct router r;
	char path[100];
	FILE *f;

	(void)state;
	snprintf(path, sizeof path, "%s/big", dir);
	f = fopen(path, "w");
	for (int i = 0; i < 20000; i++)
		fprintf(f, "member%d@list%d.example\n", i, i % 100);
	fclose(f);
	router_make(&r, conf);
	route(&r, &a, "big@here.example", &got, 0);
	assert_int_equal(got.leaves, 20000);
	assert_true(got.parts > 10);
	buf_clear(&got.text);
	arena_clear(&a);
	router_close(&r);
	conf_free(conf);
}

/* A list that grows without end is stopped, and its recipient waits. */
static void test_explosion(void **state)
{
	struct conf *conf = conf_make("a:\n driver = redirect\n data = 1$local_part, 2$local_part, 3$local_part, 4$local_part\n");
	struct collected got;
	struct arena a = ARENA_INIT;
	struct router r;

	(void)state;
	router_make(&r, conf);
	route(&r, &a, "x@here.example", &got, 0);
	assert_true(strstr(buf_cstr(&got.text), "addresses made by redirection") != NULL);
	buf_clear(&got.text);
	arena_clear(&a);
	router_close(&r);
	conf_free(conf);
}

static void test_needs_content(void **state)
{
	struct conf *conf = conf_make("r:\n driver = accept\n condition = ${if def:h_list-id:}\n transport = smtp\n");
	struct ipc_recipient rcpt = { .addr = STR_LIT("a@b.example") };
	struct ipc_facts facts = { .message_id = STR_LIT("1tEabc-000123-XY") };
	struct ipc_route_ask ask = { .facts = &facts, .recipients = &rcpt, .n_recipients = 1 };
	struct collected got = { .last_plan = UINT32_MAX };
	struct arena a = ARENA_INIT;
	struct router r;

	(void)state;
	router_make(&r, conf);
	router_route(&r, &a, &ask, -1, collect, &got);
	assert_true(got.need_content && !got.leaves);
	arena_clear(&a);
	router_close(&r);
	conf_free(conf);
}

/* What cannot work is said at the start, with its place. */
static void test_refused(void **state)
{
	static const struct { const char *routers, *want; } bad[] = {
		{ "r:\n driver = manualroute\n transport = smtp\n", "exactly one of route_list and route_data" },
		{ "r:\n driver = manualroute\n transport = smtp\n route_list = * h nope\n", "neither an option nor a transport" },
		{ "r:\n driver = manualroute\n transport = smtp\n route_list = * h byname bydns\n", "exclude each other" },
		{ "r:\n driver = manualroute\n transport = smtp\n route_list = * a/b/c\n", "is no host" },
		{ "r:\n driver = redirect\n", "exactly one of data and file" },
		{ "r:\n driver = redirect\n data = x\n one_time\n headers_add = X: y\n", "one_time" },
		{ "r:\n driver = accept\n transport = smtp\n condition = ${if eq{\n", "" },
		{ "r:\n driver = accept\n transport = smtp\n set = x = y\n", "r_NAME" },
		{ "r:\n driver = queryprogram\n command_user = joe\n", "command and command_user must be set" },
		{ "r:\n driver = queryprogram\n command = /x\n", "command and command_user must be set" },
		{ "r:\n driver = queryprogram\n command = x y\n command_user = joe\n", "an absolute path" },
		{ "r:\n driver = queryprogram\n command = /x$domain y\n command_user = joe\n", "written out" },
		{ "r:\n driver = queryprogram\n command = /x \"y\n command_user = joe\n", "a quote is missing" },
		{ "r:\n driver = queryprogram\n command = /x ${if x}\n command_user = joe\n", "" },
	};
	struct router_files system = { .hosts = "/dev/null" };

	(void)state;
	quiet = true;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct conf *conf = conf_make(bad[i].routers);
		struct err err = ERR_INIT;
		struct router r;
		enum status st = router_open(&r, conf, NULL, &system, &err);
		if (st == ST_OK || !strstr(err.text, bad[i].want) || !strstr(err.text, "router r"))
			fail_msg("%s: got %s \"%s\"", bad[i].routers, status_name(st), err.text);
		router_close(&r);
		conf_free(conf);
	}
}

static void file_write(const char *name, const char *text, unsigned mode)
{
	char path[200];
	char *content = filled(text);
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "w");
	fputs(content, f);
	fclose(f);
	chmod(path, mode);
	free(content);
}

/* Files that name files that name files: none is nested too deeply, but there are too many. */
static void test_includes(void **state)
{
	struct conf *conf = conf_make("a:\n driver = redirect\n data = :include:DIR/level0\n");
	struct collected got;
	struct arena a = ARENA_INIT;
	struct router r;

	(void)state;
	for (int level = 0; level < 8; level++) {
		struct buf b = BUF_INIT;
		char name[20];

		for (int i = 0; i < 8; i++)
			buf_printf(&b, level < 7 ? ":include:DIR/level%d\n" : "#\n", level + 1);
		snprintf(name, sizeof name, "level%d", level);
		file_write(name, buf_cstr(&b), 0644);
		buf_clear(&b);
	}
	router_make(&r, conf);
	route(&r, &a, "x@here.example", &got, 0);
	assert_true(strstr(buf_cstr(&got.text), "more than 200 files") != NULL);
	buf_clear(&got.text);
	arena_clear(&a);
	router_close(&r);
	conf_free(conf);
}

/* What a user's file names is read as that user could; the router itself may read more. */
static void test_owner_file(void **state)
{
	static const struct { const char *path; uid_t uid; gid_t gid; const char *below; enum status want; } rows[] = {
		{ "own/public", 1001, 1001, "", ST_OK }, { "own/secret", 1001, 1001, "", ST_ERROR }, { "own/secret", 0, 0, "", ST_OK },
		{ "own/secret", 1002, 50, "", ST_OK }, { "own/secret", 1002, 1001, "", ST_ERROR }, { "own/his", 1001, 50, "", ST_OK },
		{ "own/his", 1002, 50, "", ST_ERROR }, { "own/closed/public", 1001, 1001, "", ST_ERROR }, { "own/closed/public", 0, 0, "", ST_OK },
		{ "own/link", 1001, 1001, "", ST_ERROR }, { "own/link", 0, 0, "", ST_OK }, { "own/link", 0, 0, "own", ST_ERROR },
		{ "own/rootlink", 1001, 1001, "", ST_OK }, { "own/rootlink", 0, 0, "own", ST_OK }, { "own/dirlink/public", 1001, 1001, "", ST_ERROR },
		{ "own/../own/public", 1001, 1001, "", ST_ERROR }, { "own/../own/public", 0, 0, "", ST_OK }, { "own//./public", 1001, 1001, "", ST_OK },
		{ "own/none", 1001, 1001, "", ST_FAIL }, { "own", 0, 0, "", ST_ERROR }, { "own/public/x", 0, 0, "", ST_FAIL }, { "own/fifo", 0, 0, "", ST_ERROR },
	};
	char path[200], top[200], target[200];
	struct arena a = ARENA_INIT;

	(void)state;
	if (geteuid() != 0)
		skip();
	chmod(dir, 0755);
	snprintf(path, sizeof path, "%s/own", dir);
	mkdir(path, 0755);
	snprintf(path, sizeof path, "%s/own/closed", dir);
	mkdir(path, 0750);
	file_write("own/public", "x\n", 0644);
	file_write("own/secret", "x\n", 0640);
	file_write("own/his", "x\n", 0600);
	file_write("own/closed/public", "x\n", 0644);
	snprintf(path, sizeof path, "%s/own/secret", dir);
	assert_int_equal(chown(path, 0, 50), 0);
	snprintf(path, sizeof path, "%s/own/his", dir);
	assert_int_equal(chown(path, 1001, 1001), 0);
	snprintf(target, sizeof target, "%s/own/public", dir);
	snprintf(path, sizeof path, "%s/own/rootlink", dir);
	assert_int_equal(symlink(target, path), 0);
	snprintf(path, sizeof path, "%s/own/link", dir);
	assert_int_equal(symlink(target, path) | lchown(path, 1001, 1001), 0);
	snprintf(path, sizeof path, "%s/own/dirlink", dir);
	assert_int_equal(symlink(dir, path) | lchown(path, 1001, 1001), 0);
	snprintf(path, sizeof path, "%s/own/fifo", dir);
	assert_int_equal(mkfifo(path, 0666), 0);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct file_owner who = { rows[i].uid == 0, rows[i].uid, rows[i].gid }, next;
		struct err err = ERR_INIT;
		struct str text;
		enum status st;

		snprintf(path, sizeof path, "%s/%s", dir, rows[i].path);
		snprintf(top, sizeof top, *rows[i].below ? "%s/%s" : "", dir, rows[i].below);
		st = owner_file_read(&a, str_of(path), &who, str_of(top), &text, &next, &err);
		if (st != rows[i].want || (!st && !str_is(text, "x\n")))
			fail_msg("%s by %u/%u: %s %s", rows[i].path, (unsigned)rows[i].uid, (unsigned)rows[i].gid, status_name(st), err.text);
	}
	/* the same through a router: a forward file, and a list that the configuration names */
	file_write("mine", ":include:DIR/own/secret\n", 0644);
	snprintf(path, sizeof path, "%s/mine", dir);
	assert_int_equal(chown(path, 1001, 1001), 0);
	for (int i = 0; i < 2; i++) {
		struct conf *conf = conf_make(i ? "a:\n driver = redirect\n data = :include:DIR/mine\n" : "a:\n driver = redirect\n file = DIR/mine\n");
		struct collected got;
		struct router r;

		router_make(&r, conf);
		route(&r, &a, "x@here.example", &got, 0);
		assert_non_null(strstr(buf_cstr(&got.text), "may not read it"));
		buf_clear(&got.text);
		router_close(&r);
		conf_free(conf);
	}
	arena_clear(&a);
}

/* What a daemon that was taken over may ask for. */
static void test_rights(void **state)
{
	struct conf *conf = conf_make("r:\n driver = accept\n transport = smtp\n");

	(void)state;
	assert_true(router_text_is_option(conf, conf->main.delay_warning_condition.text));
	assert_true(router_text_is_option(conf, conf->main.dsn_from.text));
	assert_false(router_text_is_option(conf, STR_LIT("${readfile{/etc/passwd}}")));
	assert_false(router_text_is_option(conf, STR_LIT("")));
	assert_false(router_text_is_option(conf, str_printf(&conf->arena, "%.*s ", STR_FMT(conf->main.dsn_from.text))));
	assert_true(router_hint_permitted(STR_LIT("ratelimit"), "policyd") && router_hint_permitted(STR_LIT("retry"), "qmgr"));
	assert_false(router_hint_permitted(STR_LIT("retry"), "policyd") || router_hint_permitted(STR_LIT("callout"), "policyd"));
	assert_false(router_hint_permitted(STR_LIT("callout"), "qmgr") || router_hint_permitted(STR_LIT("seen"), "qmgr"));
	assert_true(router_hint_permitted(STR_LIT("new"), "policyd"));
	/* No other name leads to the same entries: "retry:T" with key "x" would be key "T:x" of retry. */
	assert_false(router_hint_permitted(STR_LIT("retry:T"), "policyd") || router_hint_permitted(STR_LIT("ehlo:192.0.2.1"), "policyd"));
	assert_false(router_hint_permitted(STR_LIT("callout:"), "smtp-out") || router_hint_permitted(STR_LIT(""), "smtp-out"));
	conf_free(conf);
}

/* What smtp-out says is a stranger's, and no more than it can know. */
static void test_extract(void **state)
{
	struct ipc_pair v[] = {
		{ .name = STR_LIT("host"), .value = STR_LIT("passwd") }, { .name = STR_LIT("item"), .value = STR_LIT("250-one") }, { .name = STR_LIT("sender_address"), .value = STR_LIT("me") },
		{ .name = STR_LIT("r_x"), .value = STR_LIT("set") },
	};
	static const struct { const char *text; enum status want; const char *gives; } texts[] = {
		{ "${item}", ST_OK, "250-one" }, { "<$sender_address$r_x>", ST_OK, "<>" }, { "${readfile{DIR/passwd}{}}", ST_OK, NULL }, { "${readfile{DIR/$host}{}}", ST_ERROR, "taint" },
	};
	struct conf *conf = conf_make("r:\n driver = accept\n transport = smtp\n");
	struct arena a = ARENA_INIT;
	struct router r;

	(void)state;
	router_make(&r, conf);
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct ipc_expand_ask ask = { .variables = v, .n_variables = 4, .facts = &(struct ipc_facts){ .sender = STR_LIT("me"), .has_sender = true } };
		const char *at = strstr(texts[i].text, "DIR");
		struct ipc_expand_answer got;

		ask.text = at ? str_printf(&a, "%.*s%s%s", (int)(at - texts[i].text), texts[i].text, dir, at + 3) : str_of(texts[i].text);
		router_expand_extract(&r, &a, &ask, &got);
		if ((got.status != ST_OK) != (texts[i].want != ST_OK) || (texts[i].gives && str_find_str(got.text, str_of(texts[i].gives)) < 0))
			fail_msg("%s: %u %.*s", texts[i].text, (unsigned)got.status, STR_FMT(got.text));
	}
	router_close(&r);
	conf_free(conf);
	arena_clear(&a);
}

static int setup(void **state)
{
	(void)state;
	fake = dns_fake_start(zone);
	if (!fake || !mkdtemp(dir))
		return -1;
	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		file_write(files[i].name, files[i].text, files[i].mode);
	file_write("passwd", passwd, 0644);
	file_write("group", group, 0644);
	return 0;
}

static int teardown(void **state)
{
	char command[100];

	(void)state;
	dns_fake_stop(fake);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_routes), cmocka_unit_test(test_keys), cmocka_unit_test(test_many), cmocka_unit_test(test_explosion),
		cmocka_unit_test(test_needs_content), cmocka_unit_test(test_refused), cmocka_unit_test(test_includes), cmocka_unit_test(test_owner_file), cmocka_unit_test(test_rights), cmocka_unit_test(test_extract),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
