/* SPDX-License-Identifier: ISC */
/* ACLs: verbs and their outcomes, texts, what is kept, and what is refused when a configuration is loaded. */
#include "tests/unit/lang_util.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/lang/acl.h"

/* An ACL at a stage, the facts it sees, and what comes of it. Texts of expectations: NULL is not compared. */
struct acl_case {
	const char *acl;            /* statements, one item a line */
	enum acl_stage stage;
	enum acl_verdict verdict;
	unsigned code;
	const char *text, *log;
	const char *more;           /* edits, variables, flags, delay, results, lines logged: as shown() writes them */
};

static const struct acl_case cases[] = {
	/* verbs */
	{ "accept", ACL_RCPT, ACL_ACCEPT, 0, "", "", "" },
	{ "deny", ACL_RCPT, ACL_DENY, 0, "", "", "" },
	{ "defer", ACL_RCPT, ACL_DEFER, 0, "", "", "" },
	{ "drop", ACL_RCPT, ACL_DROP, 0, "", "", "" },
	{ "discard", ACL_RCPT, ACL_DISCARD, 0, "", "", "" },
	{ "warn", ACL_RCPT, ACL_DENY, 0, "", "", "" },
	{ "require", ACL_RCPT, ACL_DENY, 0, "", "", "" },
	{ "require condition = no\naccept", ACL_RCPT, ACL_DENY, 0, "", "", NULL },
	{ "require condition = yes\naccept", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept condition = no\ndeny message = second", ACL_RCPT, ACL_DENY, 0, "second", "second", NULL },
	{ "deny condition = no\naccept", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	{ "deny condition = yes\ncondition = no\naccept", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	{ "deny !condition = no", ACL_RCPT, ACL_DENY, 0, "", "", NULL },
	{ "accept condition = no", ACL_RCPT, ACL_DENY, 0, "", "", NULL },
	{ "drop condition = no\nwarn\naccept", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	{ "discard condition = no\naccept", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	{ "discard", ACL_PREDATA, ACL_DEFER, 0, "", "\"discard\" is not allowed in the predata ACL", NULL },
	{ "discard", ACL_HELO, ACL_DEFER, 0, "", NULL, NULL },
	/* endpass */
	{ "accept condition = yes\nendpass\ncondition = no\naccept", ACL_RCPT, ACL_DENY, 0, "", "", NULL },
	{ "accept condition = no\nendpass\ncondition = no\naccept", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept message = refused\nendpass\ncondition = no", ACL_RCPT, ACL_DENY, 0, "refused", "refused", NULL },
	{ "accept message = refused\nendpass\ncondition = yes", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	/* message and log_message: only those reached, and only for the outcome they are for */
	{ "deny message = one\nmessage = two", ACL_RCPT, ACL_DENY, 0, "two", "two", NULL },
	{ "require message = one\ncondition = yes\nmessage = two\ncondition = no\nmessage = three", ACL_RCPT, ACL_DENY, 0, "two", "two", NULL },
	{ "require condition = no\nmessage = late", ACL_RCPT, ACL_DENY, 0, "", "", NULL },
	{ "deny condition = no\nmessage = first\ndeny", ACL_RCPT, ACL_DENY, 0, "", "", NULL },
	{ "accept message = hello", ACL_RCPT, ACL_ACCEPT, 0, "hello", "hello", NULL },
	{ "accept message = 250 2.1.5 fine", ACL_RCPT, ACL_ACCEPT, 250, "2.1.5 fine", NULL, NULL },
	{ "deny message = 553 5.1.1 no such box", ACL_RCPT, ACL_DENY, 553, "5.1.1 no such box", "553 5.1.1 no such box", NULL },
	{ "deny message = 450 later", ACL_RCPT, ACL_DENY, 0, "later", NULL, "log 5 configured error code starts with incorrect digit (expected 5) in \"450 later\"" },
	{ "defer message = 452 4.2.2 full", ACL_RCPT, ACL_DEFER, 452, "4.2.2 full", NULL, NULL },
	{ "accept message = 354 go on", ACL_PREDATA, ACL_ACCEPT, 354, "go on", NULL, NULL },
	{ "deny message = to the client\nlog_message = to the log", ACL_RCPT, ACL_DENY, 0, "to the client", "to the log", NULL },
	{ "deny message = ${if eq{a}{b}{x}fail}", ACL_RCPT, ACL_DENY, 0, "", "", "" },
	{ "deny message = ${if bool{x}{a}}", ACL_RCPT, ACL_DENY, 0, "", "", NULL },
	{ "deny message = one\\ntwo", ACL_RCPT, ACL_DENY, 0, "one\ntwo", NULL, NULL },
	{ "deny message = $acl_c_none bell\\007", ACL_RCPT, ACL_DENY, 0, "bell?", NULL, NULL },
	/* conditions on the address and the session */
	{ "accept domains = r.example", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept domains = R.EXAMPLE : other\nset acl_m0 = $domain_data", ACL_RCPT, ACL_ACCEPT, 0, "", "", "m0=R.EXAMPLE" },
	{ "accept local_parts = u : v", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept local_parts = +caseful : U", ACL_RCPT, ACL_DENY, 0, "", "", NULL },
	{ "deny spf = fail", ACL_RCPT, ACL_DEFER, 0, "", "\"spf\" is not served in this build", NULL },
	{ "accept bmi_optin = x", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept control = dmarc_disable_verify\ncontrol = dkim_disable_verify", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept control = caseful_local_part\nlocal_parts = +caseful : U", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept control = caseful_local_part\ncontrol = caselower_local_part\nset acl_m0 = $local_part", ACL_RCPT, ACL_ACCEPT, 0, "", "", "m0=u!" },
	{ "accept recipients = u@r.example", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept senders = s@sender.example", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept sender_domains = +locals", ACL_MAIL, ACL_DENY, 0, "", "", NULL },
	{ "accept sender_domains = sender.example", ACL_MAIL, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept hosts = 192.0.2.0/24", ACL_CONNECT, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept hosts = +relays", ACL_CONNECT, ACL_DENY, 0, "", "", NULL },
	{ "accept hosts = *.example", ACL_HELO, ACL_ACCEPT, 0, "", "", "name=client.example" },
	{ "accept hosts = defer.example", ACL_HELO, ACL_DEFER, 0, "", "host \"defer.example\" of a host list: no answer for now", NULL },
	{ "warn hosts = defer.example\naccept", ACL_HELO, ACL_ACCEPT, 0, "", "",
		"log 1 H=helo.example [192.0.2.1] Warning: ACL \"warn\" statement skipped: condition test deferred: host \"defer.example\" of a host list: no answer for now" },
	{ "accept authenticated = *", ACL_MAIL, ACL_DENY, 0, "", "", NULL },
	{ "accept encrypted = *", ACL_MAIL, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept encrypted = *_SHA384", ACL_MAIL, ACL_DENY, 0, "", "", NULL },
	/* condition */
	{ "accept condition = ${if eq{a}{a}}", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept condition = 0", ACL_RCPT, ACL_DENY, 0, "", "", NULL },
	{ "accept condition = 3", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept condition =", ACL_RCPT, ACL_DENY, 0, "", "", NULL },
	{ "accept condition = maybe", ACL_RCPT, ACL_DEFER, 0, "", "condition: \"maybe\" is neither true nor false", NULL },
	{ "accept condition = ${if eq{a}{b}{x}fail}", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept !condition = ${if eq{a}{b}{x}fail}", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept condition = ${lookup{a}lsearch{/t/broken}}", ACL_RCPT, ACL_DEFER, 0, "", NULL, NULL },
	{ "accept condition = ${lookup{a}lsearch{/t/$local_part}}", ACL_RCPT, ACL_DEFER, 0, "", NULL, NULL },
	/* verify */
	{ "accept verify = recipient", ACL_RCPT, ACL_ACCEPT, 0, "", "", "verified R U@r.example ;" },
	{ "require verify = recipient/callout=30s,random/defer_ok\naccept", ACL_RCPT, ACL_ACCEPT, 0, "", "", "verified R U@r.example callout=30s,random/defer_ok;" },
	{ "accept verify = sender", ACL_MAIL, ACL_ACCEPT, 0, "", "", "verified S s@sender.example ;" },
	{ "require verify = sender=bad@x.example", ACL_MAIL, ACL_DENY, 0, "Verification failed for <bad@x.example>\nno such user\nSender verify failed",
		"Sender verify failed", NULL },
	{ "require verify = sender=bad@x.example/no_details", ACL_MAIL, ACL_DENY, 0, "Sender verify failed", NULL, NULL },
	{ "require message = no: $acl_verify_message\nverify = sender=bad@x.example/no_details", ACL_MAIL, ACL_DENY, 0, "no: Sender verify failed", NULL, NULL },
	{ "require verify = sender=wait@x.example", ACL_MAIL, ACL_DEFER, 0, "Could not complete sender verify", "router is thinking", NULL },
	{ "require verify = sender=wait@x.example/defer_ok\naccept", ACL_MAIL, ACL_ACCEPT, 0, "", "", NULL },
	{ "warn !verify = sender=bad@x.example\nlog_message = why: $acl_verify_message\naccept", ACL_MAIL, ACL_ACCEPT, 0, "", "",
		"log 1 H=helo.example [192.0.2.1] sender verify fail for <bad@x.example>\n1 H=helo.example [192.0.2.1] Warning: why: Sender verify failed "
		"verified S bad@x.example ;" },
	/* callouts: what failed, and how the client hears it */
	{ "require verify = sender=nobounce@x.example/callout", ACL_MAIL, ACL_DENY, 0, "Callback setup failed while verifying <nobounce@x.example>\nCalled: x\n"
		"The initial connection, or a HELO or MAIL FROM:<> command was\nrejected. Refusing MAIL FROM:<> does not help fight spam, disregards\n"
		"RFC requirements, and stops you from receiving standard bounce\nmessages. This host does not accept mail from domains whose servers\n"
		"refuse bounces.\nSender verify failed", "Sender verify failed",
		"log 1 H=helo.example [192.0.2.1] sender verify fail for <nobounce@x.example>: Called: x verified S nobounce@x.example callout;" },
	{ "require verify = sender=nopm@x.example/callout=postmaster", ACL_MAIL, ACL_DENY, 0, "Postmaster verification failed while checking <nopm@x.example>\n"
		"Called: y\nSeveral RFCs state that you are required to have a postmaster\nmailbox for each mail domain. This host does not accept mail\n"
		"from domains whose servers reject the postmaster address.\nSender verify failed", NULL, NULL },
	{ "require verify = sender=gone@x.example/callout", ACL_MAIL, ACL_DENY, 0, "Verification failed for <gone@x.example>\nCalled: z\nSender verify failed", NULL,
		NULL },
	{ "require verify = sender=gone@x.example/callout/no_details", ACL_MAIL, ACL_DENY, 0, "Sender verify failed", "Sender verify failed",
		"verified S gone@x.example callout/no_details;" },
	{ "warn !verify = sender=gone@x.example/callout/no_details\nset acl_m0 = $sender_verify_failure $callout_address\naccept", ACL_MAIL, ACL_ACCEPT, 0, "", "",
		"m0=recipient [192.0.2.9]:25 verified S gone@x.example callout/no_details;" },
	{ "warn !verify = sender=bad@x.example/no_details\nset acl_m0 = $sender_verify_failure\naccept", ACL_MAIL, ACL_ACCEPT, 0, "", "",
		"m0=route verified S bad@x.example no_details;" },
	{ "warn verify = sender=any@x.example/callout=random\nset acl_m0 = $sender_verify_failure\naccept", ACL_MAIL, ACL_ACCEPT, 0, "", "",
		"m0=random verified S any@x.example callout=random;" },
	{ "require verify = sender=busy@x.example/callout", ACL_MAIL, ACL_DEFER, 0, "Could not complete sender verify callout", NULL, NULL },
	{ "require verify = sender=busy@x.example/callout=10s,defer_ok\naccept", ACL_MAIL, ACL_ACCEPT, 0, "", "", NULL },
	{ "require verify = sender=wait@x.example/callout=10s,defer_ok\naccept", ACL_MAIL, ACL_DEFER, 0, NULL, NULL, NULL },
	{ "require message = M <$acl_verify_message>\nverify = sender=gone@x.example/callout", ACL_MAIL, ACL_DENY, 0,
		"Verification failed for <gone@x.example>\nCalled: z\nM <Sender verify failed>", "Sender verify failed", NULL },
	{ "warn !verify = sender=gone@x.example/no_details/callout\nset acl_m0 = $acl_verify_message\nwarn set acl_m1 = <$acl_verify_message>\naccept", ACL_MAIL,
		ACL_ACCEPT, 0, "", "", "m0=Sender verify failed m1=<> verified S gone@x.example no_details/callout;" },
	{ "require verify = header_sender\naccept", ACL_DATA, ACL_DENY, 0, "", "there is no valid sender in any header line", NULL },
	{ "require verify = sender/callout=mailfrom=a@b", ACL_MAIL, ACL_DEFER, 0, NULL, NULL, NULL },
	{ "accept verify = reverse_host_lookup", ACL_HELO, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept verify = helo", ACL_HELO, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept verify = certificate", ACL_HELO, ACL_DENY, 0, NULL, NULL, NULL },
	{ "accept verify = header_names_ascii", ACL_DATA, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept verify = header_syntax", ACL_DATA, ACL_ACCEPT, 0, "", "", NULL },
	/* nested */
	{ "accept acl = yes", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept acl = no", ACL_RCPT, ACL_DENY, 0, "", "", NULL },
	{ "deny !acl = no_with_text", ACL_RCPT, ACL_DENY, 0, "nested text", NULL, NULL },
	{ "require acl = no_with_text", ACL_RCPT, ACL_DENY, 0, "nested text", NULL, NULL },
	{ "require acl = dropping", ACL_RCPT, ACL_DROP, 0, "", "", NULL },
	{ "accept acl = deferring", ACL_RCPT, ACL_DEFER, 0, "", "", NULL },
	{ "accept acl = discarding", ACL_RCPT, ACL_DISCARD, 0, "", "", NULL },
	{ "deny acl = discarding", ACL_RCPT, ACL_DEFER, 0, "", NULL, NULL },
	{ "accept acl = args one ${uc:two x}\nset acl_m0 = $acl_m_args/$acl_narg", ACL_RCPT, ACL_ACCEPT, 0, "", "", "m_args=2:one:TWO X m0=2:one:TWO X/0" },
	{ "accept acl = args \"one \\\"two\\\" ${uc:x}\" three", ACL_RCPT, ACL_ACCEPT, 0, "", "", "m_args=2:one \"two\" X:three" },
	{ "accept hosts = 192.0.2.0/24\nset acl_m0 = [$host_data]", ACL_RCPT, ACL_ACCEPT, 0, "", "", "m0=[]" },
	{ "accept hosts = net-iplsearch;/t/nets\nset acl_m0 = [$host_data]", ACL_RCPT, ACL_ACCEPT, 0, "", "", "m0=[one]" },
	{ "deny message = T\\nsecond", ACL_RCPT, ACL_DENY, 0, "T\nsecond", "T", NULL },
	{ "accept acl = /f/acl", ACL_RCPT, ACL_DENY, 0, "", "", NULL },
	{ "require acl = /f/acl", ACL_RCPT, ACL_DENY, 0, "from a file", NULL, NULL },
	{ "accept acl = endless", ACL_RCPT, ACL_DEFER, 0, "", NULL, NULL },
	{ "accept acl = $local_part", ACL_RCPT, ACL_DEFER, 0, "", NULL, NULL },
	{ "accept acl = nosuch", ACL_RCPT, ACL_DEFER, 0, "", NULL, NULL },
	/* modifiers */
	{ "accept set acl_c_a = 1\nset acl_m_b = $acl_c_a$acl_c_a\nset acl_c_a = 2", ACL_RCPT, ACL_ACCEPT, 0, "", "", "c_old=kept c_a=2 m_b=11" },
	{ "accept set acl_c_old = new", ACL_RCPT, ACL_ACCEPT, 0, "", "", "c_old=new" }, /* what came with the question stays as it is */
	{ "accept add_header = X-Before: 1", ACL_RCPT, ACL_ACCEPT, 0, "", "", "" },
	{ "accept add_header = X-Before: 1", ACL_DATA, ACL_ACCEPT, 0, "", "", "edit 4 X-Before: 1" },
	{ "require log_message = L\nverify = sender=bad@x.example", ACL_MAIL, ACL_DENY, 0, NULL, "L: Sender verify failed", NULL },
	{ "accept set acl_m0 = $local_part", ACL_RCPT, ACL_ACCEPT, 0, "", "", "m0=u!" },
	{ "warn condition = no\nset acl_m0 = x\naccept", ACL_RCPT, ACL_ACCEPT, 0, "", "", "" },
	{ "accept delay = 2s\ndelay = 1m", ACL_RCPT, ACL_ACCEPT, 0, "", "", "delay=62000" },
	{ "accept delay = 5w", ACL_RCPT, ACL_ACCEPT, 0, "", "", "delay=3600000" },
	{ "accept delay = x", ACL_RCPT, ACL_DEFER, 0, "", NULL, NULL },
	{ "accept continue = ${lookup{alice}lsearch{/t/users}}", ACL_RCPT, ACL_ACCEPT, 0, "", "", "" },
	{ "accept udpsend = <; 192.0.2.9 ; 1234 ; a;b: $sender_address ", ACL_RCPT, ACL_ACCEPT, 0, "", "", "verified sent 192.0.2.9:1234 < a;b: s@sender.example>;" },
	{ "accept udpsend = other.example:99:", ACL_RCPT, ACL_ACCEPT, 0, "", "", "verified sent 192.0.2.77:99 <>;" },
	{ "accept udpsend = <; 2001:db8::1 ; 99 ; x", ACL_RCPT, ACL_ACCEPT, 0, "", "", "verified sent 2001:db8::1:99 < x>;" },
	{ "accept udpsend = 192.0.2.9:7:x", ACL_RCPT, ACL_ACCEPT, 0, "", "", "log 1 udpsend to [192.0.2.9]:7: Message too long verified sent 192.0.2.9:7 <x>;" },
	{ "accept udpsend = nosuch.example:99:x", ACL_RCPT, ACL_DEFER, 0, "", "DNS lookup failed in \"udpsend\" modifier", NULL },
	{ "accept udpsend = 192.0.2.9:smtp:x", ACL_RCPT, ACL_DEFER, 0, "", "test:24: bad destination port in \"udpsend\" modifier", NULL },
	{ "accept udpsend = 192.0.2.9:65536:x", ACL_RCPT, ACL_DEFER, 0, "", "test:24: bad destination port in \"udpsend\" modifier", NULL },
	{ "accept udpsend = 192.0.2.9", ACL_RCPT, ACL_DEFER, 0, "", "test:24: missing destination port in \"udpsend\" modifier", NULL },
	{ "accept udpsend = ${if eq{a}{b}{x}}", ACL_RCPT, ACL_DEFER, 0, "", "test:24: missing destination host in \"udpsend\" modifier", NULL },
	{ "accept udpsend = ${if eq{a}{b}{x}fail}", ACL_RCPT, ACL_ACCEPT, 0, "", "", "" },
	{ "accept udpsend = $sender_helo_name:99:x", ACL_RCPT, ACL_DEFER, 0, "",
		"test:24: udpsend: a stranger's text may be in the server or the port: write these as they are", NULL },
	{ "accept udpsend = ${lookup{client.example}lsearch{/t/names}{192.0.2.9}}:99:x", ACL_RCPT, ACL_ACCEPT, 0, "", "", "verified sent 192.0.2.9:99 <x>;" },
	{ "accept logwrite = plain line", ACL_RCPT, ACL_ACCEPT, 0, "", "", "log 1 plain line" },
	{ "accept logwrite = :main,reject: two logs", ACL_RCPT, ACL_ACCEPT, 0, "", "", "log 3 two logs" },
	{ "accept logwrite = :panic: panic", ACL_RCPT, ACL_ACCEPT, 0, "", "", "log 4 panic" },
	{ "accept logwrite = :nosuch: x", ACL_RCPT, ACL_ACCEPT, 0, "", "",
		"log 5 logwrite: main, reject and panic may stand between the colons in \":nosuch: x\"\n1 x" },
	{ "deny message = m\nlog_reject_target = panic", ACL_RCPT, ACL_DENY, 0, "m", "m", NULL },
	{ "deny log_reject_target =", ACL_RCPT, ACL_DENY, 0, "", "", "quiet" },
	{ "deny log_reject_target = main", ACL_RCPT, ACL_DENY, 0, "", "", "" },
	{ "warn log_message = odd\nwarn log_message = odd\naccept", ACL_RCPT, ACL_ACCEPT, 0, "", "", "log 1 H=helo.example [192.0.2.1] Warning: odd" },
	{ "accept add_header = X-One: 1", ACL_RCPT, ACL_ACCEPT, 0, "", "", "edit 4 X-One: 1" },
	{ "accept add_header = :at_start:X-One: 1\\nX-Two: 2\\n more\\n:after_received:X-Three: 3", ACL_DATA, ACL_ACCEPT, 0, "", "",
		"edit 1 X-One: 1|edit 4 X-Two: 2/ more|edit 2 X-Three: 3" },
	{ "accept add_header = :at_start_rfc: X-One: 1\nadd_header = :at_end:X-One: 1", ACL_DATA, ACL_ACCEPT, 0, "", "", "edit 3 X-One: 1|edit 4 X-One: 1" },
	{ "accept add_header = no colon here", ACL_DATA, ACL_ACCEPT, 0, "", "", "edit 4 X-ACL-Warn: no colon here" },
	{ "warn message = X-Warned: yes\naccept", ACL_RCPT, ACL_ACCEPT, 0, "", "", "edit 4 X-Warned: yes" },
	{ "accept add_header = X-One: 1\nadd_header = X-One: 1", ACL_RCPT, ACL_ACCEPT, 0, "", "", "edit 4 X-One: 1" },
	{ "accept add_header = X-One: 1\nset acl_m0 = $headers_added", ACL_RCPT, ACL_ACCEPT, 0, "", "", "edit 4 X-One: 1|m0=X-One: 1!" },
	{ "accept remove_header = x-a : X-B", ACL_DATA, ACL_ACCEPT, 0, "", "", "edit 5 x-a|edit 5 X-B" },
	{ "accept remove_header = x a", ACL_DATA, ACL_DEFER, 0, "", NULL, NULL },
	{ "accept add_header = X: a\\rY: b\\r\\n c", ACL_DATA, ACL_ACCEPT, 0, "", "", "edit 4 X: a Y: b/ c" },
	{ "accept add_header = X: a\\000b", ACL_DATA, ACL_DEFER, 0, "", NULL, NULL },
	/* controls */
	{ "accept control = freeze\ncontrol = queue", ACL_RCPT, ACL_ACCEPT, 0, "", "", "flags=3 off=0" },
	{ "accept control = queue_only", ACL_RCPT, ACL_ACCEPT, 0, "", "", "flags=2 off=0" },
	{ "accept control = requiretls\nlog_message = $requiretls", ACL_RCPT, ACL_ACCEPT, 0, "", "yes", "flags=4000 off=0" },
	{ "accept log_message = $requiretls", ACL_RCPT, ACL_ACCEPT, 0, "", "no", "" },
	{ "accept control = freeze/no_tell", ACL_RCPT, ACL_ACCEPT, 0, "", "", "flags=2000001 off=0" },
	{ "accept control = freeze/no_tell\ncontrol = freeze", ACL_RCPT, ACL_ACCEPT, 0, "", "", "flags=1 off=2000000" },
	{ "accept control = freeze\ncontrol = freeze/no_tell", ACL_RCPT, ACL_ACCEPT, 0, "", "", "flags=1 off=0" },
	{ "accept control = queue/first_pass_route", ACL_RCPT, ACL_ACCEPT, 0, "", "", "flags=4000000 off=0" },
	{ "accept control = no_enforce_sync\ncontrol = enforce_sync", ACL_CONNECT, ACL_ACCEPT, 0, "", "", "flags=800 off=400" },
	{ "accept control = fakereject/sorry", ACL_DATA, ACL_ACCEPT, 0, "", "", "!fake_text=sorry flags=80 off=100" },
	{ "accept control = utf8_downconvert", ACL_RCPT, ACL_ACCEPT, 0, "", "", "flags=100000000 off=200000000" },
	{ "accept control = utf8_downconvert/1", ACL_VRFY, ACL_ACCEPT, 0, "", "", "flags=100000000 off=200000000" },
	{ "accept control = utf8_downconvert\ncontrol = utf8_downconvert/0", ACL_RCPT, ACL_ACCEPT, 0, "", "", "flags=0 off=300000000" },
	{ "accept control = utf8_downconvert\ncontrol = utf8_downconvert/-1", ACL_RCPT, ACL_ACCEPT, 0, "", "", "flags=200000000 off=100000000" },
	{ "accept control = fakedefer", ACL_DATA, ACL_ACCEPT, 0, "", "", "flags=100 off=80" },
	{ "accept control = submission/sender_retain", ACL_MAIL, ACL_ACCEPT, 0, "", "", "!submission=sender_retain flags=20 off=0" },
	{ "accept control = suppress_local_fixups", ACL_MAIL, ACL_ACCEPT, 0, "", "", "flags=40 off=0" },
	{ "accept control = no_multiline_responses\ncontrol = no_pipelining\ncontrol = no_delay_flush\ncontrol = no_callout_flush", ACL_HELO, ACL_ACCEPT, 0, "",
		"", "flags=1042200 off=0" },

	{ "accept control = debug/opts=+acl", ACL_RCPT, ACL_ACCEPT, 0, "", "", NULL },
	{ "accept control = allow_auth_unadvertised", ACL_HELO, ACL_ACCEPT, 0, "", "", "flags=800000 off=0" },
	{ "accept control = cutthrough_delivery/defer=pass", ACL_RCPT, ACL_ACCEPT, 0, "", "", "" },
	{ "accept control = dscp/ef", ACL_RCPT, ACL_ACCEPT, 0, "", "", "" },
	{ "accept control = error", ACL_RCPT, ACL_DEFER, 0, "", NULL, NULL },
	{ "accept queue = ${if eq{a}{b}{other}}", ACL_RCPT, ACL_ACCEPT, 0, "", "", "" },
	{ "accept queue = ${if eq{a}{a}{other}}", ACL_RCPT, ACL_DEFER, 0, "", NULL, NULL },
	/* ratelimit: the fake rate is the count */
	{ "deny ratelimit = 2 / 1h / per_mail\naccept set acl_m0 = $sender_rate/$sender_rate_limit/$sender_rate_period", ACL_MAIL, ACL_ACCEPT, 0, "", "",
		"!rate 3600/per_mail/192.0.2.1=1 m0=1.0/2/1h hinted rate 3600/per_mail/192.0.2.1 1 2 3600 leaky;" },
	{ "deny ratelimit = 1 / 1h / per_rcpt / strict / k", ACL_RCPT, ACL_DENY, 0, "", "", "hinted rate 3600/per_rcpt/k 1 1 3600;" },
	{ "deny ratelimit = 9 / 1h / per_cmd / count=3.5 / k\naccept ratelimit = 3 / 1h / per_cmd / count=3.5 / k", ACL_RCPT, ACL_ACCEPT, 0, "", "",
		"hinted rate 3600/per_cmd/k 3.5 9 3600 leaky;" },
	{ "deny ratelimit = 9 / 2h / per_addr\naccept", ACL_RCPT, ACL_ACCEPT, 0, "", "",
		"hinted rate 7200/per_rcpt/unique/192.0.2.1 1 9 7200 leaky unique u@r.example;" },
	{ "deny ratelimit = 9 / 1h / per_byte / k\naccept", ACL_DATA, ACL_ACCEPT, 0, "", "", "!rate 3600/per_mail/k=5 hinted rate 3600/per_mail/k 5 9 3600 leaky;" },
	{ "deny ratelimit = 9 / 1h / per_cmd / k\ndeny ratelimit = 9 / 1h / per_cmd / k\ndeny ratelimit = 9 / 1h / per_cmd / readonly / k\naccept", ACL_RCPT, ACL_ACCEPT,
		0, "", "", "hinted rate 3600/per_cmd/k 1 9 3600 leaky;rate 3600/per_cmd/k 1 9 3600 readonly;" },
	{ "accept ratelimit = 0 / 1h / per_mail / strict", ACL_CONNECT, ACL_DEFER, 0, "", NULL, NULL },
	{ "accept ratelimit = 0 / 1h", ACL_CONNECT, ACL_ACCEPT, 0, "", "", "hinted rate 3600/per_mail/192.0.2.1 1 0 3600 readonly;" },
	{ "accept ratelimit = 2 / 1h / leaky / strict", ACL_RCPT, ACL_DEFER, 0, "", NULL, NULL },
	{ "accept ratelimit = x / 1h", ACL_RCPT, ACL_DEFER, 0, "", NULL, NULL },
	{ "accept ratelimit = 1 / 1x", ACL_RCPT, ACL_DEFER, 0, "", NULL, NULL },
	{ "deny ratelimit = 0 / 1h / broken\ndeny !ratelimit = 0 / 1h / broken\nrequire ratelimit = 0 / 1h / broken\naccept", ACL_MAIL, ACL_ACCEPT, 0, "", "", NULL },
	/* seen */
	{ "deny seen = 5m\naccept", ACL_CONNECT, ACL_ACCEPT, 0, "", "", "hinted get 192.0.2.1 ;put 192.0.2.1 now;" },
	{ "accept seen = -5m / key=old", ACL_CONNECT, ACL_ACCEPT, 0, "", "", "hinted get old ;put old now;" },
	{ "accept seen = -5m / key=old / refresh=100000d", ACL_CONNECT, ACL_ACCEPT, 0, "", "", "hinted get old ;" },
	{ "deny seen = 5m / key=old / readonly\naccept", ACL_CONNECT, ACL_ACCEPT, 0, "", "", "hinted get old ;" },
	{ "accept seen = -5m / key=old / write", ACL_CONNECT, ACL_ACCEPT, 0, "", "", "hinted get old ;put old now;" },
	{ "accept seen = 5m / nosuch", ACL_CONNECT, ACL_DEFER, 0, "", NULL, NULL },
	{ "deny seen = 5m / key=broken\naccept", ACL_CONNECT, ACL_ACCEPT, 0, "", "", NULL },
	/* dnslists: 192.0.2.1 has 127.0.0.2 and .3 */
	{ "accept dnslists = none.example : dnsbl.example\nset acl_m0 = $dnslist_domain/$dnslist_matched/$dnslist_value/$dnslist_text", ACL_CONNECT, ACL_ACCEPT, 0, "", "",
		"m0=dnsbl.example/192.0.2.1/127.0.0.2, 127.0.0.3/listed!" },
	{ "accept dnslists = dnsbl.example=127.0.0.2", ACL_CONNECT, ACL_ACCEPT, 0, "", "", "" },
	{ "accept dnslists = dnsbl.example=127.0.0.4,127.0.0.3", ACL_CONNECT, ACL_ACCEPT, 0, "", "", "" },
	{ "accept dnslists = dnsbl.example==127.0.0.2", ACL_CONNECT, ACL_DENY, 0, "", "", "" },
	{ "accept dnslists = dnsbl.example==127.0.0.2,127.0.0.3", ACL_CONNECT, ACL_ACCEPT, 0, "", "", "" },
	{ "accept dnslists = dnsbl.example&0.0.0.3", ACL_CONNECT, ACL_ACCEPT, 0, "", "", "" },
	{ "accept dnslists = dnsbl.example=&0.0.0.3", ACL_CONNECT, ACL_DENY, 0, "", "", "" },
	{ "accept dnslists = dnsbl.example!=127.0.0.2", ACL_CONNECT, ACL_DENY, 0, "", "", "" },
	{ "accept dnslists = dnsbl.example!==127.0.0.2", ACL_CONNECT, ACL_ACCEPT, 0, "", "", "" },
	{ "accept dnslists = dnsbl.example!&0.0.0.4", ACL_CONNECT, ACL_ACCEPT, 0, "", "", "" },
	{ "accept dnslists = dnsbl.example!=&0.0.0.1", ACL_CONNECT, ACL_ACCEPT, 0, "", "", "" },
	{ "accept dnslists = dnsbl.example/<;x;name.example\nset acl_m0 = $dnslist_matched", ACL_CONNECT, ACL_ACCEPT, 0, "", "", "m0=name.example!" },
	{ "accept dnslists = part.example,dnsbl.example=127.0.0.3\nset acl_m0 = $dnslist_domain $dnslist_text", ACL_CONNECT, ACL_ACCEPT, 0, "", "", "m0=part.example part!" },
	{ "accept dnslists = dnsbl.example/9.9.9.9", ACL_CONNECT, ACL_DENY, 0, "", "", NULL },
	{ "accept dnslists = bad!domain", ACL_CONNECT, ACL_DEFER, 0, "", NULL, NULL },
	{ "accept decode = default", ACL_MIME, ACL_DEFER, 0, "", "test:24: there is no MIME part", NULL },
	{ "accept mime_regex = x", ACL_MIME, ACL_DEFER, 0, "", "test:24: there is no MIME part", NULL },
	{ "deny malware = *", ACL_DATA, ACL_DEFER, 0, "", "malware acl condition: there is no message to look at", NULL },
	{ "deny malware = * / defer_ok\naccept", ACL_DATA, ACL_ACCEPT, 0, "", "",
		"av_failed=1 log 1 malware acl condition: there is no message to look at" },
	{ "deny malware = false\naccept", ACL_DATA, ACL_ACCEPT, 0, "", "", "" },
	{ "deny malware = ${if eq{a}{a}{* / tmo=never}}", ACL_DATA, ACL_DEFER, 0, "", NULL, NULL },
	{ "deny spam = nobody", ACL_DATA, ACL_DEFER, 0, "", "spam acl condition: there is no message to look at", NULL },
	{ "deny spam = nobody:true/defer_ok\naccept", ACL_DATA, ACL_ACCEPT, 0, "", "", "log 1 spam acl condition: there is no message to look at" },
	{ "deny spam = 0:true\naccept", ACL_DATA, ACL_ACCEPT, 0, "", "", "" },
	{ "accept regex = hello", ACL_DATA, ACL_DENY, 0, "", "", "" },
	{ "accept control = ${if eq{a}{a}{freeze}}", ACL_RCPT, ACL_ACCEPT, 0, "", "", "flags=1 off=0" },
	{ "accept control = ${if eq{a}{a}{nosuch}}", ACL_RCPT, ACL_DEFER, 0, "", NULL, NULL },
	{ "accept control = ${if eq{a}{a}{submission}}", ACL_DATA, ACL_DEFER, 0, "", NULL, NULL },
};

static const char conf_text[] =
	"primary_hostname = mail.example.test\n"
	"av_scanner = clamd:127.0.0.1 3310\n"
	"domainlist locals = local.example\n"
	"hostlist relays = 10.0.0.0/8\n"
	"begin acl\n"
	"yes:\n  accept message = never seen\n"
	"no:\n  deny\n"
	"no_with_text:\n  deny message = nested text\n"
	"dropping:\n  drop\n"
	"deferring:\n  defer\n"
	"discarding:\n  discard\n"
	"args:\n  accept set acl_m_args = $acl_narg:$acl_arg1:$acl_arg2\n"
	"endless:\n  accept acl = endless\n"
	;

static struct arena arena;
static struct fake fake;

static const struct ipc_pair tls[] = { { STR_LIT("cipher"), STR_LIT("TLS_AES_SHA256"), true } };
static const struct ipc_pair acl_c[] = { { STR_LIT("c_old"), STR_LIT("kept"), false } };
static const struct ipc_edit edits[] = { { .op = EDIT_ADD_END, .text = STR_LIT("X-Before: 1\r\n") } };
static const struct ipc_facts facts = {
	.client_ip = STR_LIT("192.0.2.1"), .client_port = 4321, .server_ip = STR_LIT("192.0.2.200"), .server_port = 25, .helo = STR_LIT("helo.example"),
	.esmtp = true, .helo_verified = true, .protocol = STR_LIT("esmtps"), .tls = (struct ipc_pair *)tls, .n_tls = 1, .sender = STR_LIT("s@sender.example"),
	.has_sender = true, .recipient = STR_LIT("U@r.example"), .acl_c = (struct ipc_pair *)acl_c, .n_acl_c = 1, .size = 5,
	.edits = (struct ipc_edit *)edits, .n_edits = 1,
};

static void show_pairs(struct buf *b, const struct ipc_pair *v, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		buf_printf(b, "%s%.*s=%.*s%s", b->len ? b->p[b->len - 1] == '|' ? "" : " " : "", STR_FMT(v[i].name), STR_FMT(v[i].value), v[i].tainted ? "!" : "");
}

/* All but verdict and texts, in one line. What a run without any such effect leaves is empty. */
static const char *shown(const struct ipc_acl_answer *a, bool with_c)
{
	struct buf b = BUF_INIT;
	const char *s;

	for (uint32_t i = 0; i < a->n_edits; i++) {
		buf_printf(&b, "%sedit %u ", b.len ? "|" : "", (unsigned)a->edits[i].op);
		for (uint32_t k = 0; k < a->edits[i].text.len; k++) {
			char c = a->edits[i].text.p[k];

			if (c == '\n' && k + 1 < a->edits[i].text.len)
				buf_addc(&b, '/');
			else if (c != '\r' && c != '\n')
				buf_addc(&b, c);
		}
	}
	if (b.len && a->n_acl_m)
		buf_addc(&b, '|');
	if (with_c)
		show_pairs(&b, a->acl_c, a->n_acl_c);
	show_pairs(&b, a->acl_m, a->n_acl_m);
	if (a->flags || a->flags_off)
		buf_printf(&b, "%sflags=%llx off=%llx", b.len ? " " : "", (unsigned long long)a->flags, (unsigned long long)a->flags_off);
	show_pairs(&b, a->results, a->n_results);
	if (a->delay_ms)
		buf_printf(&b, "%sdelay=%llu", b.len ? " " : "", (unsigned long long)a->delay_ms);
	if (a->no_reject_log)
		buf_adds(&b, "quiet");
	if (fake.log[0])
		buf_printf(&b, "%slog %.*s", b.len ? " " : "", (int)strlen(fake.log) - 1, fake.log);
	if (fake.verified[0])
		buf_printf(&b, "%sverified %s", b.len ? " " : "", fake.verified);
	if (fake.hinted[0])
		buf_printf(&b, "%shinted %s", b.len ? " " : "", fake.hinted);
	if (a->client_name.len)
		buf_printf(&b, "%sname=%.*s", b.len ? " " : "", STR_FMT(a->client_name));
	s = arena_strdup(&arena, buf_cstr(&b));
	buf_clear(&b);
	return s;
}

static bool is_text(struct str got, const char *want) { return !want || str_is(got, want); }

static bool run_case(const struct acl_case *c, struct lang *lang)
{
	struct ipc_acl_answer answer = { 0 };
	struct eval ev;
	const char *more;
	bool good;

	fake = (struct fake){ 0 };
	eval_init(&ev, lang, &arena);
	eval_facts(&ev, &facts);
	ev.stage = c->stage;
	eval_set_address(&ev, str_taint(facts.recipient));
	acl_stage_run(&ev, &answer);
	more = shown(&answer, c->more && strstr(c->more, "c_old"));
	good = answer.verdict == c->verdict && answer.code == c->code && is_text(answer.text, c->text) && is_text(answer.log_text, c->log)
		&& (!c->more || !strcmp(more, c->more));
	if (!good)
		print_error("%s\n  got  %s %u \"%.*s\" log \"%.*s\" %s\n  want %s %u \"%s\" log \"%s\" %s\n", c->acl, acl_verdict_name(answer.verdict),
			(unsigned)answer.code, STR_FMT(answer.text), STR_FMT(answer.log_text), more, acl_verdict_name(c->verdict), c->code, c->text ? c->text : "*",
			c->log ? c->log : "*", c->more ? c->more : "*");
	eval_clear(&ev);
	return good;
}

static const char *const stage_option[ACL_STAGES_END] = {
	[ACL_CONNECT] = "acl_smtp_connect", [ACL_HELO] = "acl_smtp_helo", [ACL_MAIL] = "acl_smtp_mail", [ACL_RCPT] = "acl_smtp_rcpt",
	[ACL_PREDATA] = "acl_smtp_predata", [ACL_DATA] = "acl_smtp_data", [ACL_MIME] = "acl_smtp_mime", [ACL_VRFY] = "acl_smtp_vrfy", [ACL_ETRN] = "acl_smtp_etrn",
};

static struct conf *conf_with(const char *acl, enum acl_stage stage)
{
	struct buf b = BUF_INIT;
	struct conf *conf;

	if (acl)
		buf_printf(&b, "%s = tested\n", stage_option[stage]);
	buf_adds(&b, conf_text);
	if (acl)
		buf_printf(&b, "tested:\n  %s\n", acl);
	conf = test_conf(buf_cstr(&b));
	buf_clear(&b);
	return conf;
}

static void outcomes(void **state)
{
	unsigned failed = 0;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct conf *conf = conf_with(cases[i].acl, cases[i].stage);
		struct lang_services services = fake_services(&fake);
		struct lang *lang = lang_new(conf, &services);

		failed += !run_case(&cases[i], lang);
		lang_free(lang);
		conf_free(conf);
		arena_reset(&arena);
	}
	assert_int_equal(failed, 0);
}

/* Why the sender was not verified is told once a message; what says so travels with the facts. */
static void told_once(void **state)
{
	struct conf *conf = conf_with("require verify = sender=$sender_helo_name@x.example", ACL_RCPT);
	struct lang_services services = fake_services(&fake);
	struct lang *lang = lang_new(conf, &services);
	struct ipc_facts now = facts;
	static const struct { int64_t message; const char *sender; bool told; } rows[] = {
		{ 1, "bad@x.example", true }, { 1, "bad@x.example", false }, { 1, "bad2@x.example", true }, { 2, "bad2@x.example", true }, { 2, "bad2@x.example", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct ipc_acl_answer answer;
		struct eval ev;

		now.received_us = rows[i].message;
		now.helo = str_sub(str_of(rows[i].sender), 0, strlen(rows[i].sender) - 10);
		eval_init(&ev, lang, &arena);
		eval_facts(&ev, &now);
		ev.stage = ACL_RCPT;
		acl_stage_run(&ev, &answer);
		assert_int_equal(answer.verdict, ACL_DENY);
		assert_int_equal(str_find_str(answer.text, str_of(rows[i].sender)) >= 0, rows[i].told);
		now.results = answer.results;
		now.n_results = answer.n_results;
		eval_clear(&ev);
	}
	lang_free(lang);
	conf_free(conf);
}

/* A server that takes an address vouches for it, unless it is one that means something elsewhere. */
static void data_trusted(void **state)
{
	static const struct { const char *recipient; bool local, domain; } rows[] = {
		{ "there.who+x@r.example", false, false }, { "there/../x@r.example", true, false }, { "there'x@r.example", true, false },
		{ "there..x@r.example", true, false }, { "there:x@r.example", true, false }, { "there@[192.0.2.1]", false, true }, { "there$x@r.example", true, false },
	};
	struct conf *conf = conf_with("accept verify = recipient/callout", ACL_RCPT);
	struct lang_services services = fake_services(&fake);
	struct lang *lang = lang_new(conf, &services);

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct ipc_facts f = facts;
		struct ipc_acl_answer answer;
		struct eval ev;

		fake = (struct fake){ 0 };
		f.recipient = str_of(rows[i].recipient);
		eval_init(&ev, lang, &arena);
		eval_facts(&ev, &f);
		ev.stage = ACL_RCPT;
		eval_set_address(&ev, str_taint(f.recipient));
		acl_stage_run(&ev, &answer);
		assert_int_equal(answer.verdict, ACL_ACCEPT);
		assert_true(str_eq(eval_get(&ev, EV_local_part_data), eval_get(&ev, EV_local_part)));
		if (eval_get(&ev, EV_local_part_data).tainted != rows[i].local || eval_get(&ev, EV_domain_data).tainted != rows[i].domain)
			fail_msg("%s: %d %d", rows[i].recipient, eval_get(&ev, EV_local_part_data).tainted, eval_get(&ev, EV_domain_data).tainted);
		eval_clear(&ev);
	}
	lang_free(lang);
	conf_free(conf);
	arena_reset(&arena);
}

/* A header of many short fields costs what it is long, not the square of that. */
static void many_fields(void **state)
{
	static const struct { const char *verify; enum acl_verdict want; } rows[] = {
		{ "require verify = not_blind\naccept", ACL_DENY }, { "require verify = header_syntax\naccept", ACL_ACCEPT },
		{ "require verify = header_sender\naccept", ACL_DENY },
	};
	enum { FIELDS = 4000 };
	struct str visible = STR_LIT("not@in.example");
	struct buf b = BUF_INIT;
	char name[] = "/tmp/lang_acl_test.XXXXXX";
	int fd = mkstemp(name);

	(void)state;
	unlink(name);
	for (int i = 0; i < FIELDS; i++)
		buf_printf(&b, "To: a@b.example\r\nFrom: bad%d@b.example\r\n", i);
	buf_adds(&b, "\r\nbody\r\n");
	assert_int_equal(write(fd, b.p, b.len), (ssize_t)b.len);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct conf *conf = conf_with(rows[i].verify, ACL_DATA);
		struct lang_services services = fake_services(&fake);
		struct lang *lang = lang_new(conf, &services);
		struct ipc_facts many = { .recipients = { &visible, 1 }, .rcpt_accepted = 1, .body_offset = b.len - 8, .size = b.len };
		struct ipc_acl_answer answer;
		struct arena work = ARENA_INIT;
		struct eval ev;

		fake = (struct fake){ 0 };
		eval_init(&ev, lang, &work);
		eval_facts(&ev, &many);
		ev.stage = ACL_DATA;
		ev.message_fd = fd;
		acl_stage_run(&ev, &answer);
		if (answer.verdict != rows[i].want || work.used > 40 * 1024 * 1024 || fake.verifies > 20)
			fail_msg("%s: %s, %zu octets, %u verifications: %.*s", rows[i].verify, acl_verdict_name(answer.verdict), work.used, fake.verifies,
				STR_FMT(answer.log_text));
		eval_clear(&ev);
		arena_clear(&work);
		lang_free(lang);
		conf_free(conf);
	}
	buf_clear(&b);
	close(fd);
}

/* A stage without an ACL. */
static void unset(void **state)
{
	struct conf *conf = conf_with(NULL, 0);
	struct lang_services services = fake_services(&fake);
	struct lang *lang = lang_new(conf, &services);

	(void)state;
	for (int stage = 1; stage < ACL_STAGES_END; stage++) {
		struct acl_case c = { "(none)", (enum acl_stage)stage, ACL_ACCEPT, 0, "", "", "" };

		if (stage == ACL_RCPT || stage == ACL_VRFY || stage == ACL_EXPN || stage == ACL_ETRN)
			c.verdict = ACL_DENY;
		assert_true(run_case(&c, lang));
	}
	lang_free(lang);
	conf_free(conf);
}

/* The option's value: a name, a file, statements in line, made by expansion. */
static void values(void **state)
{
	static const struct { const char *value; enum acl_verdict verdict; const char *text; } list[] = {
		{ "yes", ACL_ACCEPT, NULL }, { "no_with_text", ACL_DENY, "nested text" }, { "${if ={25}{$interface_port}{yes}{no}}", ACL_ACCEPT, NULL },
		{ "/f/acl", ACL_DENY, "from a file" }, { "deny message = in line", ACL_DENY, "in line" }, { "accept", ACL_ACCEPT, NULL },
		{ "accept condition = no\\ndeny message = two lines", ACL_DENY, "two lines" }, { "nosuch", ACL_DEFER, NULL }, { "/f/nosuch", ACL_DEFER, NULL },
		{ "$sender_address_local_part", ACL_DEFER, NULL }, { "${if eq{a}{b}{x}fail}", ACL_DENY, NULL }, { "accept hosst = *", ACL_DEFER, NULL },
		{ "${lookup{a}lsearch{/t/broken}}", ACL_DEFER, NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
		struct conf *conf = test_conf(arena_printf(&arena, "acl_smtp_rcpt = %s\n%s", list[i].value, conf_text));
		struct lang_services services = fake_services(&fake);
		struct lang *lang = lang_new(conf, &services);
		struct acl_case c = { list[i].value, ACL_RCPT, list[i].verdict, 0, list[i].text, NULL, NULL };

		assert_true(run_case(&c, lang));
		assert_true(run_case(&c, lang)); /* from the cache */
		lang_free(lang);
		conf_free(conf);
	}
}

/* ---- what is said when a configuration is loaded ---- */

static void problems(void **state)
{
	static const struct { const char *conf, *want; } list[] = {
		{ "begin acl\nx:\n  deny hostss = *\n", "test:3: unknown ACL condition or modifier \"hostss\": did you mean \"hosts\"?" },
		{ "begin acl\nx:\n  deny delay = soon\n", "test:3: delay: not a time" },
		{ "begin acl\nx:\n  deny ratelimit = ten / 1h / per_rcpt\n", "test:3: ratelimit: \"ten\" is no number" },
		{ "begin acl\nx:\n  deny ratelimit = 10 / 1x\n", "test:3: ratelimit: \"1x\" is no time" },
		{ "begin acl\nx:\n  deny ratelimit = 10K\n", "test:3: ratelimit: \"\" is no time" },
		{ "begin acl\nx:\n  deny\n    domains = lsearch,rte=full;/x\n",
			"test:4: domains: item \"lsearch,rte=full;/x\": lookup type \"lsearch\" has no option \"rte=full\"" },
		{ "begin acl\nx:\n  deny\n    condition = ${lookup sqlite,ret=key,file=/x{select 1}}\n",
			"lookup type \"sqlite\" has no option \"ret=key\"" },
		{ "begin acl\nx:\n  deny\n    hosts = 10.0.0.0/99\n    domains = ^[\n", "test:5: domains: item \"^[\": regular expression" },
		{ "begin acl\nx:\n  deny\n    domains = lsaerch;/x\n", "test:4: domains: item \"lsaerch;/x\": unknown lookup type \"lsaerch\": did you mean \"lsearch\"?" },
		{ "begin acl\nx:\n  deny message = ${if eq{a}{b}\n", "test:3: message: column 14: " },
		{ "begin acl\nx:\n  deny control = freze\n", "test:3: control: unknown control \"freze\": did you mean \"freeze\"?" },
		{ "begin acl\nx:\n  deny spf = fail\n", "test:3: warning: \"spf = fail\" is not served in this build: it defers the statement" },
		{ "begin acl\nx:\n  deny verify = arc/fail\n", "test:3: warning: \"verify = arc/fail\" is not served in this build: it defers the statement" },
		{ "begin acl\nx:\n  warn control = bmi_run\n", "test:3: warning: \"control = bmi_run\" is not served in this build: it does nothing" },
		{ "begin acl\nx:\n  deny malware = *\n", "test:3: malware: the option av_scanner must say which scanner to ask" },
		{ "av_scanner = clamd:/x\nbegin acl\nx:\n  deny malware = * / defer_okay\n", "test:4: malware: \"defer_okay\": defer_ok and tmo=TIME, up to 4m, may stand behind" },
		{ "av_scanner = clamd:/x\nbegin acl\nx:\n  deny malware = * / tmo=1h\n", "test:4: malware: \"tmo=1h\"" },
		{ "begin acl\nx:\n  deny spam = joe/tmo=1s\n", "test:3: spam: \"tmo=1s\": defer_ok may stand behind" },
		{ "av_scanner = sophie:/x\n", "test:1: av_scanner: scanner \"sophie\" is known to Exim, not implemented: clamd is" },
		{ "spamd_address = 127.0.0.1\n", "test:1: spamd_address: \"127.0.0.1\": ADDRESS PORT or the path of a socket must stand here" },
		{ "av_scanner = clamd:/x\nacl_smtp_mime = x\nbegin acl\nx:\n  deny malware = *\n", "cannot use \"malware\" (line 5) in the mime ACL" },
		{ "begin acl\nx:\n  warn decode = /tmp/x\n", "test:3: decode: parts are decoded in memory, not into files" },
		{ "acl_smtp_data = x\nbegin acl\nx:\n  warn decode = default\n", "cannot use \"decode\" (line 4) in the data ACL; it can be used in the ACLs mime, not_smtp_mime" },
		{ "begin acl\nx:\n  deny control = wellknown\n", "known to Exim, not implemented" },
		{ "begin acl\nx:\n  deny control = freeze/loud\n", "control \"freeze\" has no option \"loud\"" },
		{ "begin acl\nx:\n  deny queue = other\n", "there are no named queues" },
		{ "acl_smtp_rcpt = nosuch\n", "there is no ACL \"nosuch\"" },
		{ "begin acl\nx:\n  deny verify = recipent\n", "not \"recipent\"" },
		{ "begin acl\nx:\n  deny endpass\n", "for accept and discard only" },
		{ "begin acl\nx:\n  deny !message = x\n", "can't be negated" },
		{ "begin acl\nx:\n  deny set acl_x = x\n", "variables that can be set" },
		{ "begin acl\nx:\n  deny condition = $nosuch\n", "unknown variable" },
		{ "begin acl\nx:\n  deny domains = +nosuch\n", "unknown domain list \"+nosuch\"" },
		{ "acl_smtp_mail = x\nbegin acl\nx:\n  deny domains = a\n", "test:1: acl_smtp_mail of main: cannot use \"domains\" (line 4) in the mail ACL; it can be used in the ACLs rcpt, data_prdr, vrfy" },
		{ "acl_smtp_connect = x\nbegin acl\nx:\n  accept control = freeze\n", "cannot use \"control=freeze\" (line 4) in the connect ACL" },
		{ "acl_smtp_rcpt = x\nbegin acl\nx:\n  accept verify = header_syntax\n", "cannot use \"verify\" (line 4) in the rcpt ACL" },
		{ "domainlist a = +b\n", "test:1: domain list \"+a\": item \"+b\": unknown domain list \"+b\"" },
		{ "smtp_banner = ${uc:$primary_hostname\n", "test:1: smtp_banner of main: column" },
		{ "host_lookup = 10.0.0.0/40\n", "malformed network" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
		struct conf *conf = test_conf(list[i].conf);
		struct lang *lang = lang_new(conf, NULL);
		struct conf_checks checks;
		bool found = false;
		struct buf b = BUF_INIT;

		lang_checks(lang, &checks);
		conf_check(conf, &checks);
		for (uint32_t k = 0; k < conf->n_problems; k++) {
			struct str s = conf_problem_format(conf, &conf->problems[k], &arena);

			found |= str_find_str(s, str_of(list[i].want)) >= 0;
			buf_printf(&b, "  %.*s\n", STR_FMT(s));
		}
		if (!found)
			fail_msg("%s: want %s, got\n%s", list[i].conf, list[i].want, buf_cstr(&b));
		buf_clear(&b);
		lang_free(lang);
		conf_free(conf);
	}
}

/* ---- every row has a case ---- */

static bool mentioned(const char *before, const char *name, const char *after)
{
	char word[128];

	for (const char *a = after; *a; a++) {
		snprintf(word, sizeof word, "%s%s%c", before, name, *a == '.' ? 0 : *a);
		for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
			if (*a == '.' ? str_ends(str_of(cases[i].acl), word) : strstr(cases[i].acl, word) != NULL)
				return true;
	}
	return false;
}

static void complete(void **state)
{
	struct lang_row r;
	unsigned missing = 0;

	(void)state;
	for (size_t i = 0; acl_condition_at(i, &r); i++)
		if (!r.later && !mentioned("", r.name, " \n") && ++missing)
			print_error("%s has no case\n", r.name);
	for (size_t i = 0; acl_control_at(i, &r); i++)
		if (!r.later && !mentioned("control = ", r.name, "\n./") && ++missing)
			print_error("control %s has no case\n", r.name);
	for (size_t i = 0; acl_verb_at(i, &r); i++)
		if (!mentioned("", r.name, " \n.") && ++missing)
			print_error("verb %s has no case\n", r.name);
	assert_int_equal(missing, 0);
}

/* What is there can be asked for by .ifdef; what is only known cannot. */
static void macros(void **state)
{
	static const char text[] = ".ifdef _EXP_ITEM_LOOKUP\nprimary_hostname = yes.example\n.endif\n.ifdef _ACL_SPF\nqualify_domain = no.example\n.endif\n"
		".ifdef _ACL_COND_SET\nqualify_domain = no.example\n.endif\n.ifdef _ACL_MOD_VERIFY\nqualify_domain = no.example\n.endif\n"
		".ifdef _HAVE_LOOKUP_WHOSON\nqualify_domain = no.example\n.endif\n.ifdef _ACL_COND_VERIFY\n.ifdef _ACL_MOD_SET\n"
		".ifdef _HAVE_LOOKUP_DSEARCH\nsmtp_banner = found\n.endif\n.endif\n.endif\n"
		".ifdef _EXP_OP_SHA256\n.ifdef _EXP_COND_FORANY\n.ifdef _EXP_VAR_SENDER_ADDRESS\n.ifdef _ACL_VERIFY\nqualify_recipient = all.example\n"
		".endif\n.endif\n.endif\n.endif\n";
	struct conf_source source = { .path = "test", .text = text, .text_len = sizeof text - 1, .isolated = true, .families = lang_macro_families(&arena) };
	struct conf *conf;

	(void)state;
	assert_int_equal(conf_read(&source, &conf), ST_OK);
	assert_true(str_is(conf->main.primary_hostname.text, "yes.example"));
	assert_false(str_is(conf->main.qualify_domain.text, "no.example"));
	assert_true(str_is(conf->main.qualify_recipient.text, "all.example"));
	assert_true(str_is(conf->main.smtp_banner.text, "found"));
	conf_free(conf);
}

/* A recipient check with three constant lists: the budget is 20 microseconds. */
static void fast(void **state)
{
	struct conf *conf = conf_with("deny domains = !r.example : *\n  accept hosts = 10.0.0.0/8 : 192.0.2.0/24\n  local_parts = alice : bob : u", ACL_RCPT);
	struct lang_services services = fake_services(&fake);
	struct lang *lang = lang_new(conf, &services);
	struct arena work = ARENA_INIT;
	enum { TURNS = 20000 };
	uint64_t t0 = clock_us();

	(void)state;
	for (int i = 0; i < TURNS; i++) {
		struct ipc_acl_answer answer;
		struct eval ev;

		eval_init(&ev, lang, &work);
		eval_facts(&ev, &facts);
		ev.stage = ACL_RCPT;
		eval_set_address(&ev, str_taint(facts.recipient));
		acl_stage_run(&ev, &answer);
		assert_int_equal(answer.verdict, ACL_ACCEPT);
		eval_clear(&ev);
		arena_reset(&work);
	}
	print_message("recipient check: %.2f microseconds\n", (double)(clock_us() - t0) / TURNS);
	assert_true(clock_us() - t0 < TURNS * 200);
	arena_clear(&work);
	lang_free(lang);
	conf_free(conf);
}

static int teardown(void **state)
{
	(void)state;
	arena_clear(&arena);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(outcomes), cmocka_unit_test(told_once), cmocka_unit_test(many_fields), cmocka_unit_test(data_trusted), cmocka_unit_test(unset), cmocka_unit_test(values), cmocka_unit_test(problems), cmocka_unit_test(complete), cmocka_unit_test(macros),
		cmocka_unit_test(fast),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
