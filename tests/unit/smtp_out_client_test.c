/* SPDX-License-Identifier: ISC */
/* The client core against scripts of servers: what a reply, or none, at each point does to the recipients. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "smtp-out/smtp_client.h"
#include "smtp-out/smtp_command.h"

/* A script is a list of steps, one a line of what the server says, in turn with what the client sends:
 *   "<TEXT"   the server sends TEXT, CRLF behind it ("\n" in it: CRLF, further lines in the same packet)
 *   "!TEXT"   the server sends TEXT as it is, no line end
 *   ">TEXT"   the client has sent exactly TEXT since the last such step ("|" stands for CRLF)
 *   "BODY"    the client asks for the content; it is sent
 *   "PIECE" "LAST"  one of it goes by BDAT: 100 octets, 7 octets
 *   "CLOSE" "RESET" "TIMEOUT" "UNREADABLE"
 *   "READY" "OVER" "BUSY"  the phase must be this
 *   "QUIT"    the client is told to quit
 *   "AGAIN"   a second transaction, like the first
 *   "SHAKE"   a handshake is asked for; "SECURE" it is done, "BROKEN" it has failed, "OURS" by our fault
 * `want` is one line a recipient: RESULT CODE ERROR [host] [refused]; "clear": the host is to be tried again without TLS. */
struct script {
	const char *name;
	unsigned flags;
	unsigned n_rcpts;
	const char *steps[20];
	const char *want[4];
	const char *text;        /* part of the first recipient's text that must be there */
};
enum { LMTP = 1, NO_PIPELINING = 2, NO_ESMTP = 4, EIGHTBIT = 8, BIG = 16, DSN = 32, UTF8 = 64, BAD_SENDER = 128, BAD_RCPT = 256, CHUNK = 512, PRDR = 1024,
	TLS = 2048, TLS_MUST = 4096, CLEAR_REFUSED = 8192, CLEAR_FAILED = 16384, TLS_FIRST = 32768,
	UNMARKED = 1 << 20, HEADER8 = 1 << 21, CONVERT = 1 << 22, CONVERT_IF = 1 << 23, ASCII = 1 << 24, SENDER8 = 1 << 25, BAD_DOMAIN = 1 << 26, BAD_UTF8 = 1 << 27,
	ORCPT8 = 1 << 28 };

#define PIPE "<250-peer hello\n250-PIPELINING\n250 SIZE 100000"
#define PLAIN "<250 peer hello"
#define OFFER8 "<250-peer\n250-PIPELINING\n250-8BITMIME\n250 SMTPUTF8"
#define HELLO "<220 peer", ">EHLO me|"
#define BIND "<250-peer\n250-PIPELINING\n250 CHUNKING"
#define BIND1 ">MAIL FROM:<s@x>|RCPT TO:<r0@y>|"
#define ONES "<250-peer\n250-PIPELINING\n250 PRDR"
#define ONES2 ">MAIL FROM:<s@x> PRDR|RCPT TO:<r0@y>|RCPT TO:<r1@y>|DATA|"
#define ONES3 ">MAIL FROM:<s@x> PRDR|RCPT TO:<r0@y>|RCPT TO:<r1@y>|RCPT TO:<r2@y>|DATA|"
#define GROUP1 ">MAIL FROM:<s@x> SIZE=2024|RCPT TO:<r0@y>|DATA|"
#define GROUP2 ">MAIL FROM:<s@x> SIZE=2024|RCPT TO:<r0@y>|RCPT TO:<r1@y>|DATA|"

#define SAFE "<250-peer\n250-STARTTLS\n250-PIPELINING\n250 SIZE 100000"
#define UPGRADE HELLO, SAFE, ">STARTTLS|", "<220 go", "SHAKE"

static const struct script scripts[] = {
	{ "STARTTLS, and all is asked anew", TLS, 1, { UPGRADE, "SECURE", "BUSY", ">EHLO me|", PLAIN, ">MAIL FROM:<s@x>|", "<250 ok", ">RCPT TO:<r0@y>|",
		"<250 ok", ">DATA|", "<354 go", "BODY", "<250 queued" }, { "delivered 250 none" }, NULL },
	{ "STARTTLS offered again inside", TLS, 1, { UPGRADE, "SECURE", ">EHLO me|", SAFE, GROUP1, "<250 ok\n250 ok\n354 go", "BODY", "<250 queued" },
		{ "delivered 250 none" }, NULL },
	{ "STARTTLS unwanted", 0, 1, { HELLO, SAFE, GROUP1, "<250 ok\n250 ok\n354 go", "BODY", "<250 queued" }, { "delivered 250 none" }, NULL },
	{ "STARTTLS not offered", TLS, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok\n354 go", "BODY", "<250 queued" }, { "delivered 250 none" }, NULL },
	{ "STARTTLS not offered, required", TLS_MUST, 1, { HELLO, PIPE, ">QUIT|" }, { "deferred 0 tls_required host" },
		"a TLS session is required, but the server did not offer TLS support" },
	{ "no EHLO, TLS required", TLS_MUST, 1, { HELLO, "<500 what", ">HELO me|", PLAIN, ">QUIT|" }, { "deferred 0 tls_required host" }, NULL },
	{ "HELO at once, TLS required", TLS_MUST | NO_ESMTP, 1, { "<220 peer", ">HELO me|", PLAIN, ">QUIT|" }, { "deferred 0 tls_required host" }, NULL },
	{ "STARTTLS 5xx: on in clear", TLS, 1, { HELLO, SAFE, ">STARTTLS|", "<502 no", GROUP1, "<250 ok\n250 ok\n354 go", "BODY", "<250 queued" },
		{ "delivered 250 none" }, NULL },
	{ "STARTTLS 5xx, required", TLS_MUST | CLEAR_REFUSED, 1, { HELLO, SAFE, ">STARTTLS|", "<502 no", ">QUIT|" }, { "deferred 502 tls_required host" },
		"SMTP error from remote mail server after STARTTLS: 502 no" },
	{ "STARTTLS 4xx: deferred", TLS, 1, { HELLO, SAFE, ">STARTTLS|", "<454 later", ">QUIT|" }, { "deferred 454 other host" }, "after STARTTLS: 454" },
	{ "STARTTLS 4xx: on in clear", TLS | CLEAR_REFUSED, 1, { HELLO, SAFE, ">STARTTLS|", "<454 later", GROUP1, "<250 ok\n250 ok\n354 go", "BODY",
		"<250 queued" }, { "delivered 250 none" }, NULL },
	{ "STARTTLS 4xx, required", TLS_MUST | CLEAR_REFUSED, 1, { HELLO, SAFE, ">STARTTLS|", "<454 later", ">QUIT|" }, { "deferred 454 tls_required host" }, NULL },
	{ "STARTTLS 421", TLS, 1, { HELLO, SAFE, ">STARTTLS|", "<421 bye", "OVER" }, { "deferred 421 lost_connection host" }, NULL },
	{ "STARTTLS 421: again in clear", TLS | CLEAR_REFUSED, 1, { HELLO, SAFE, ">STARTTLS|", "<421 bye", "OVER" }, { "clear" }, NULL },
	{ "STARTTLS 421, required", TLS_MUST | CLEAR_REFUSED, 1, { HELLO, SAFE, ">STARTTLS|", "<421 bye", "OVER" }, { "deferred 421 tls_required host" }, NULL },
	{ "STARTTLS 354", TLS, 1, { HELLO, SAFE, ">STARTTLS|", "<354 what", ">QUIT|" }, { "deferred 354 other host" }, NULL },
	{ "STARTTLS, closed", TLS | CLEAR_REFUSED | CLEAR_FAILED, 1, { HELLO, SAFE, ">STARTTLS|", "CLOSE" }, { "deferred 0 lost_connection host" }, NULL },
	{ "clear octets behind 220", TLS | CLEAR_REFUSED | CLEAR_FAILED, 1, { HELLO, SAFE, ">STARTTLS|", "<220 go\n250-evil\n250 AUTH PLAIN", ">", "OVER" },
		{ "deferred 0 other host" }, "octets in clear behind the reply to STARTTLS" },
	{ "one clear octet behind 220", TLS_MUST, 1, { HELLO, SAFE, ">STARTTLS|", "<220 go", "SHAKE", "!2", "OVER" }, { "deferred 0 tls_required host" }, NULL },
	{ "handshake failed", TLS, 1, { UPGRADE, "BROKEN", ">", "OVER" }, { "deferred 0 other host" }, "TLS session: why" },
	{ "handshake failed: again in clear", TLS | CLEAR_FAILED, 1, { UPGRADE, "BROKEN", ">", "OVER" }, { "clear" }, NULL },
	{ "handshake failed, required", TLS_MUST | CLEAR_FAILED, 1, { UPGRADE, "BROKEN", "OVER" }, { "deferred 0 tls_required host" }, NULL },
	{ "handshake failed here", TLS | CLEAR_FAILED, 1, { UPGRADE, "OURS", ">", "OVER" }, { "deferred 0 other" }, "TLS session: why" },
	{ "handshake failed here, required", TLS_MUST, 1, { UPGRADE, "OURS", "OVER" }, { "deferred 0 other" }, NULL },
	{ "TLS, then closed", TLS | CLEAR_FAILED, 1, { UPGRADE, "SECURE", ">EHLO me|", "CLOSE" }, { "deferred 0 lost_connection host" }, NULL },
	{ "TLS, then EHLO is refused", TLS, 1, { UPGRADE, "SECURE", ">EHLO me|", "<450 later", ">QUIT|" }, { "deferred 450 other host" }, NULL },
	{ "TLS, and no EHLO inside: what was offered in clear is forgotten", TLS, 1, { UPGRADE, "SECURE", ">EHLO me|", "<500 what", ">HELO me|", PLAIN,
		">MAIL FROM:<s@x>|", "<250 ok", ">RCPT TO:<r0@y>|", "<250 ok", ">DATA|", "<354 go", "BODY", "<250 queued" }, { "delivered 250 none" }, NULL },
	{ "TLS, a second transaction", TLS, 1, { UPGRADE, "SECURE", ">EHLO me|", PIPE, GROUP1, "<250 ok\n250 ok\n354 go", "BODY", "<250 queued", "AGAIN",
		GROUP1, "<250 ok\n250 ok\n354 go", "BODY", "<250 queued" }, { "delivered 250 none" }, NULL },
	{ "TLS first", TLS_MUST | TLS_FIRST, 1, { "SHAKE", "SECURE", "BUSY", ">", "<220 peer", ">EHLO me|", SAFE, GROUP1, "<250 ok\n250 ok\n354 go", "BODY",
		"<250 queued" }, { "delivered 250 none" }, NULL },
	{ "TLS first, failed", TLS_MUST | TLS_FIRST, 1, { "SHAKE", "BROKEN", ">", "OVER" }, { "deferred 0 tls_required host" }, NULL },
	{ "LMTP with STARTTLS", LMTP | TLS, 1, { "<220 peer", ">LHLO me|", SAFE, ">STARTTLS|", "<220 go", "SHAKE", "SECURE", ">LHLO me|", PIPE, GROUP1,
		"<250 ok\n250 ok\n354 go", "BODY", "<250 one" }, { "delivered 250 none" }, NULL },

	{ "pipelined, two recipients", 0, 2, { HELLO, PIPE, GROUP2, "<250 ok\n250 ok\n250 ok\n354 go", "BODY", "<250 2.6.0 queued", "READY" },
		{ "delivered 250 none", "delivered 250 none" }, "250 2.6.0 queued" },
	{ "one command at a time", 0, 2, { HELLO, PLAIN, ">MAIL FROM:<s@x>|", "<250 ok", ">RCPT TO:<r0@y>|", "<250 ok", ">RCPT TO:<r1@y>|",
		"<251 will forward", ">DATA|", "<354 go", "BODY", "<250 queued", "READY" }, { "delivered 250 none", "delivered 250 none" }, NULL },
	{ "pipelining not wanted", NO_PIPELINING, 1, { HELLO, PIPE, ">MAIL FROM:<s@x> SIZE=2024|", "<250 ok", ">RCPT TO:<r0@y>|", "<250 ok", ">DATA|",
		"<354 go", "BODY", "<250 queued", "READY" }, { "delivered 250 none" }, NULL },
	{ "EHLO refused, HELO taken", 0, 1, { HELLO, "<500 what", ">HELO me|", PLAIN, ">MAIL FROM:<s@x>|", "<250 ok", ">RCPT TO:<r0@y>|", "<250 ok",
		">DATA|", "<354 go", "BODY", "<250 queued" }, { "delivered 250 none" }, NULL },
	{ "HELO at once", NO_ESMTP, 1, { "<220 peer", ">HELO me|", PIPE, ">MAIL FROM:<s@x>|", "<250 ok", ">RCPT TO:<r0@y>|", "<250 ok",
		">DATA|", "<354 go", "BODY", "<250 queued" }, { "delivered 250 none" }, NULL },
	{ "8BITMIME and DSN", EIGHTBIT | DSN, 1, { HELLO, "<250-p\n250-8bitmime\n250-DSN\n250 PIPELINING",
		">MAIL FROM:<s@x> BODY=8BITMIME RET=HDRS ENVID=id+2B|RCPT TO:<r0@y> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;r0@y|DATA|",
		"<250 ok\n250 ok\n354 go", "BODY", "<250 queued" }, { "delivered 250 none" }, NULL },
	{ "8-bit not offered: as it is", EIGHTBIT | DSN, 1, { HELLO, PLAIN, ">MAIL FROM:<s@x>|", "<250 ok", ">RCPT TO:<r0@y>|", "<250 ok", ">DATA|",
		"<354 go", "BODY", "<250 queued" }, { "delivered 250 none" }, NULL },
	{ "second transaction, no RSET", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok\n354 go", "BODY", "<250 queued", "READY", "AGAIN", GROUP1,
		"<250 ok\n250 ok\n354 go", "BODY", "<250 queued" }, { "delivered 250 none" }, NULL },
	{ "second transaction, RSET after a refusal", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n550 no\n503 none", "READY", "AGAIN",
		">RSET|MAIL FROM:<s@x> SIZE=2024|RCPT TO:<r0@y>|DATA|", "<250 ok\n250 ok\n250 ok\n354 go", "BODY", "<250 queued" },
		{ "delivered 250 none" }, NULL },
	{ "quit", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok\n354 go", "BODY", "<250 queued", "READY", "QUIT", ">QUIT|", "BUSY", "<221 bye", "OVER" },
		{ "delivered 250 none" }, NULL },

	{ "banner 5xx", 0, 2, { "<554 go away", ">QUIT|", "BUSY", "CLOSE", "OVER" }, { "deferred 554 other host refused", "deferred 554 other host refused" },
		"SMTP error from remote mail server after initial connection: 554 go away" },
	{ "banner 4xx", 0, 1, { "<450 busy", ">QUIT|" }, { "deferred 450 other host" }, NULL },
	{ "banner 421", 0, 1, { "<421 busy", "OVER" }, { "deferred 421 lost_connection host" }, NULL },
	{ "banner 3xx", 0, 1, { "<354 what", ">QUIT|" }, { "deferred 354 other host" }, NULL },
	{ "no banner but a close", 0, 1, { "CLOSE", "OVER" }, { "deferred 0 lost_connection host" }, "Remote host closed connection in response to initial connection" },
	{ "half a banner", 0, 1, { "!220-pe", "CLOSE", "OVER" }, { "deferred 0 lost_connection host" }, NULL },
	{ "no banner in time", 0, 1, { "TIMEOUT", "OVER" }, { "deferred 0 timeout host" }, "SMTP timeout after initial connection" },
	{ "banner of another protocol", 0, 1, { "<* OK IMAP4rev1", "OVER" }, { "deferred 0 other host" }, "Malformed SMTP reply (no code at the start) in response to initial connection: * OK" },
	{ "EHLO 4xx", 0, 1, { HELLO, "<450 later", ">QUIT|" }, { "deferred 450 other host" }, "after EHLO me: 450" },
	{ "EHLO 5xx, HELO 5xx", 0, 1, { HELLO, "<502 what", ">HELO me|", "<550 no", ">QUIT|" }, { "deferred 550 other host refused" }, "after HELO me: 550" },
	{ "EHLO, closed", 0, 1, { HELLO, "CLOSE", "OVER" }, { "deferred 0 lost_connection host" }, NULL },
	{ "EHLO, timeout", 0, 1, { HELLO, "TIMEOUT", "OVER" }, { "deferred 0 timeout host" }, NULL },
	{ "EHLO, 421", 0, 1, { HELLO, "<421 bye", "OVER" }, { "deferred 421 lost_connection host" }, NULL },
	{ "codes differ", 0, 1, { HELLO, "<250-a\n251 b", "OVER" }, { "deferred 0 other host" }, "different codes" },
	{ "a reply nobody asked for", 0, 1, { "<220 peer\n250 hello\n250 ok", "OVER" }, { "deferred 0 other host" }, "before its command" },

	{ "MAIL 4xx, pipelined", 0, 1, { HELLO, PIPE, GROUP1, "<451 4.3.0 later\n503 no\n503 no", "READY" }, { "deferred 451 mail_4xx" },
		"SMTP error from remote mail server after pipelined MAIL FROM:<s@x> SIZE=2024: 451 4.3.0 later" },
	{ "MAIL 5xx, pipelined, DATA taken all the same", 0, 1, { HELLO, PIPE, GROUP1, "<550 no\n503 no\n354 go", ">.|", "BUSY", "<554 nothing", "READY" },
		{ "failed 550 other" }, NULL },
	{ "MAIL 5xx", 0, 2, { HELLO, PLAIN, ">MAIL FROM:<s@x>|", "<550 5.7.1 no", "READY" }, { "failed 550 other", "failed 550 other" }, NULL },
	{ "MAIL closed", 0, 1, { HELLO, PIPE, GROUP1, "CLOSE", "OVER" }, { "deferred 0 lost_connection host" }, NULL },
	{ "MAIL timeout is the message's", 0, 1, { HELLO, PIPE, GROUP1, "TIMEOUT", "OVER" }, { "deferred 0 timeout" }, "SMTP timeout after pipelined MAIL" },
	{ "MAIL 421", 0, 1, { HELLO, PIPE, GROUP1, "<421 bye", "OVER" }, { "deferred 421 lost_connection host" }, NULL },
	{ "MAIL malformed", 0, 1, { HELLO, PIPE, GROUP1, "<2500 ok", "OVER" }, { "deferred 0 other host" }, "no blank or hyphen" },
	{ "MAIL 354", 0, 1, { HELLO, PIPE, GROUP1, "<354 ok", "OVER" }, { "deferred 0 other host" }, NULL },

	{ "one recipient refused", 0, 2, { HELLO, PIPE, GROUP2, "<250 ok\n550 5.1.1 unknown\n250 ok\n354 go", "BODY", "<250 queued", "READY" },
		{ "failed 550 other", "delivered 250 none" }, "after pipelined RCPT TO:<r0@y>: 550 5.1.1 unknown" },
	{ "one recipient later", 0, 2, { HELLO, PIPE, GROUP2, "<250 ok\n250 ok\n450 later\n354 go", "BODY", "<250 queued" },
		{ "delivered 250 none", "deferred 450 rcpt_4xx" }, NULL },
	{ "all refused, DATA refused", 0, 2, { HELLO, PIPE, GROUP2, "<250 ok\n550 a\n450 b\n554 none", "READY" }, { "failed 550 other", "deferred 450 rcpt_4xx" }, NULL },
	{ "all refused, DATA taken: a lone dot", 0, 2, { HELLO, PIPE, GROUP2, "<250 ok\n550 a\n550 b\n354 go", ">.|", "BUSY", "<250 ok", "READY" },
		{ "failed 550 other", "failed 550 other" }, NULL },
	{ "all refused, no DATA", 0, 1, { HELLO, PLAIN, ">MAIL FROM:<s@x>|", "<250 ok", ">RCPT TO:<r0@y>|", "<550 no", ">", "READY" }, { "failed 550 other" }, NULL },
	{ "lone dot, closed", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n550 a\n354 go", "CLOSE", "OVER" }, { "failed 550 other" }, NULL },
	{ "RCPT closed", 0, 2, { HELLO, PIPE, GROUP2, "<250 ok\n550 a", "CLOSE" }, { "failed 550 other", "deferred 0 lost_connection host" }, NULL },
	{ "RCPT timeout is nobody's host", 0, 2, { HELLO, PIPE, GROUP2, "<250 ok\n250 ok", "TIMEOUT" }, { "deferred 0 timeout", "deferred 0 timeout" }, NULL },
	{ "RCPT 421", 0, 2, { HELLO, PIPE, GROUP2, "<250 ok\n421 bye", "OVER" }, { "deferred 421 rcpt_4xx", "deferred 421 lost_connection host" }, NULL },

	{ "DATA 4xx", 0, 2, { HELLO, PIPE, GROUP2, "<250 ok\n550 no\n250 ok\n451 later", "READY" }, { "failed 550 other", "deferred 451 data_4xx" }, NULL },
	{ "DATA 5xx", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok\n554 no", "READY" }, { "failed 554 other" }, "after pipelined DATA: 554 no" },
	{ "DATA 2xx", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok\n250 ok", "OVER" }, { "deferred 0 other host" }, NULL },
	{ "DATA closed", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok", "CLOSE" }, { "deferred 0 lost_connection host" }, NULL },
	{ "DATA timeout is the host's", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok", "TIMEOUT" }, { "deferred 0 timeout host" }, NULL },
	{ "DATA 421", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok\n421 bye", "OVER" }, { "deferred 421 lost_connection host" }, NULL },

	{ "error while the content goes out", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok\n354 go", "<552 too much", "OVER" }, { "failed 552 other" }, "after pipelined sending data block: 552" },
	{ "temporary error while the content goes out", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok\n354 go", "<421 too slow", "OVER" }, { "deferred 421 data_4xx" }, NULL },
	{ "250 before the dot", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok\n354 go", "<250 ok", "OVER" }, { "deferred 0 other host" }, NULL },
	{ "250 right behind 354", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok\n354 go\n250 ok", "OVER" }, { "deferred 0 other host" }, NULL },
	{ "closed while the content goes out", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok\n354 go", "RESET" }, { "deferred 0 lost_connection host" }, "Connection reset by peer" },
	{ "content timeout", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok\n354 go", "TIMEOUT" }, { "deferred 0 timeout host" }, NULL },
	{ "content unreadable", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok\n354 go", "UNREADABLE" }, { "deferred 0 other" }, "could not be read: why" },
	{ "dot 4xx", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok\n354 go", "BODY", "<451 4.7.1 later", "READY" }, { "deferred 451 data_4xx" }, "after pipelined end of data: 451" },
	{ "dot 5xx", 0, 2, { HELLO, PIPE, GROUP2, "<250 ok\n250 ok\n450 x\n354 go", "BODY", "<554-spam\n554 really", "READY" }, { "failed 554 other", "deferred 450 rcpt_4xx" }, "554-spam\n554 really" },
	{ "dot closed is the message's", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok\n354 go", "BODY", "CLOSE" }, { "deferred 0 lost_connection" }, NULL },
	{ "dot timeout is the message's", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok\n354 go", "BODY", "TIMEOUT" }, { "deferred 0 timeout" }, NULL },
	{ "dot 421", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok\n354 go", "BODY", "<421 bye", "OVER" }, { "deferred 421 data_4xx" }, NULL },
	{ "dot malformed", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok\n354 go", "BODY", "<ok", "OVER" }, { "deferred 0 other" }, NULL },
	{ "421 while it waits", 0, 1, { HELLO, PIPE, GROUP1, "<250 ok\n250 ok\n354 go", "BODY", "<250 queued", "READY", "<421 idle", "OVER" }, { "delivered 250 none" }, NULL },

	{ "too big for the peer", BIG, 1, { HELLO, PIPE, ">", "READY" }, { "failed 552 other" }, "too big" },
	{ "utf8: not there", UTF8, 2, { HELLO, PIPE, ">MAIL FROM:<s@x> SIZE=2024|RCPT TO:<r1@y>|DATA|", "<250 ok\n250 ok\n354 go", "BODY", "<250 queued" },
		{ "deferred 0 other refused", "delivered 250 none" }, "utf8 support required but not offered for forwarding" },
	{ "utf8: not there, unmarked", UTF8 | UNMARKED, 2, { HELLO, PIPE, ">MAIL FROM:<s@x> SIZE=2024|RCPT TO:<r1@y>|DATA|", "<250 ok\n250 ok\n354 go", "BODY", "<250 queued" },
		{ "deferred 0 other refused", "delivered 250 none" }, "utf8 support required but not offered for forwarding" },
	{ "utf8: header, not there", UTF8 | CONVERT_IF | HEADER8, 2, { HELLO, PIPE, ">", "READY" }, { "deferred 0 other refused", "deferred 0 other refused" }, "utf8 support" },
	{ "utf8: header, not there, to be converted", UTF8 | CONVERT | HEADER8, 2, { HELLO, PIPE, ">", "READY" }, { "deferred 0 other refused", "deferred 0 other refused" },
		"utf8 support" },
	{ "utf8: converted if not there", UTF8 | CONVERT_IF, 2, { HELLO, PIPE, ">MAIL FROM:<s@x> SIZE=2024|RCPT TO:<xn--4ca@y>|RCPT TO:<r1@y>|DATA|",
		"<250 ok\n250 ok\n250 ok\n354 go", "BODY", "<250 queued" }, { "delivered 250 none", "delivered 250 none" }, NULL },
	{ "utf8: converted if not there, unmarked with an old header", UTF8 | UNMARKED | HEADER8 | CONVERT_IF, 2, { HELLO, PIPE,
		">MAIL FROM:<s@x> SIZE=2024|RCPT TO:<xn--4ca@y>|RCPT TO:<r1@y>|DATA|", "<250 ok\n250 ok\n250 ok\n354 go", "BODY", "<250 queued" }, { "delivered 250 none", "delivered 250 none" }, NULL },
	{ "utf8: offered", UTF8 | CONVERT_IF, 2, { HELLO, OFFER8, ">MAIL FROM:<s@x> SMTPUTF8|RCPT TO:<\xc3\xa4@y>|RCPT TO:<r1@y>|DATA|",
		"<250 ok\n250 ok\n250 ok\n354 go", "BODY", "<250 queued" }, { "delivered 250 none", "delivered 250 none" }, NULL },
	{ "utf8: offered, unmarked", UTF8 | UNMARKED, 2, { HELLO, OFFER8, ">MAIL FROM:<s@x> SMTPUTF8|RCPT TO:<\xc3\xa4@y>|RCPT TO:<r1@y>|DATA|",
		"<250 ok\n250 ok\n250 ok\n354 go", "BODY", "<250 queued" }, { "delivered 250 none", "delivered 250 none" }, NULL },
	{ "utf8: offered, always converted", UTF8 | CONVERT, 2, { HELLO, OFFER8, ">MAIL FROM:<s@x>|RCPT TO:<xn--4ca@y>|RCPT TO:<r1@y>|DATA|",
		"<250 ok\n250 ok\n250 ok\n354 go", "BODY", "<250 queued" }, { "delivered 250 none", "delivered 250 none" }, NULL },
	{ "utf8: offered, always converted, header", UTF8 | CONVERT | HEADER8, 2, { HELLO, OFFER8, ">MAIL FROM:<s@x> SMTPUTF8|RCPT TO:<xn--4ca@y>|RCPT TO:<r1@y>|DATA|",
		"<250 ok\n250 ok\n250 ok\n354 go", "BODY", "<250 queued" }, { "delivered 250 none", "delivered 250 none" }, NULL },
	{ "utf8: marked, but ASCII", UTF8 | ASCII, 2, { HELLO, OFFER8, ">MAIL FROM:<s@x>|RCPT TO:<r0@y>|RCPT TO:<r1@y>|DATA|",
		"<250 ok\n250 ok\n250 ok\n354 go", "BODY", "<250 queued" }, { "delivered 250 none", "delivered 250 none" }, NULL },
	{ "utf8: marked, but ASCII, not there", UTF8 | ASCII, 2, { HELLO, PIPE, GROUP2, "<250 ok\n250 ok\n250 ok\n354 go", "BODY", "<250 queued" }, { "delivered 250 none", "delivered 250 none" }, NULL },
	{ "utf8: marked, parts may need it", UTF8 | ASCII | EIGHTBIT, 2, { HELLO, OFFER8, ">MAIL FROM:<s@x> BODY=8BITMIME SMTPUTF8|RCPT TO:<r0@y>|RCPT TO:<r1@y>|DATA|",
		"<250 ok\n250 ok\n250 ok\n354 go", "BODY", "<250 queued" }, { "delivered 250 none", "delivered 250 none" }, NULL },
	{ "utf8: sender", UTF8 | ASCII | SENDER8, 2, { HELLO, PIPE, ">", "READY" }, { "deferred 0 other refused", "deferred 0 other refused" }, "utf8 support" },
	{ "utf8: sender converted", UTF8 | ASCII | SENDER8 | CONVERT_IF, 2, { HELLO, PIPE, ">MAIL FROM:<xn--s-bga@xn--bcher-kva.x> SIZE=2024|RCPT TO:<r0@y>|RCPT TO:<r1@y>|DATA|",
		"<250 ok\n250 ok\n250 ok\n354 go", "BODY", "<250 queued" }, { "delivered 250 none", "delivered 250 none" }, NULL },
	{ "utf8: a domain without A-labels", UTF8 | BAD_DOMAIN | CONVERT_IF, 2, { HELLO, PIPE, ">MAIL FROM:<s@x> SIZE=2024|RCPT TO:<r1@y>|DATA|", "<250 ok\n250 ok\n354 go",
		"BODY", "<250 queued" }, { "deferred 0 other refused", "delivered 250 none" }, "utf8 support" },
	{ "utf8: no UTF-8", UTF8 | BAD_UTF8 | CONVERT_IF, 2, { HELLO, OFFER8, ">MAIL FROM:<s@x>|RCPT TO:<r1@y>|DATA|", "<250 ok\n250 ok\n354 go", "BODY", "<250 queued" },
		{ "failed 0 other", "delivered 250 none" }, "can't be sent" },
	{ "utf8: ORCPT to such a host", UTF8 | ORCPT8, 1, { HELLO, "<250-peer\n250-PIPELINING\n250-SMTPUTF8\n250 DSN",
		">MAIL FROM:<s@x> SMTPUTF8|RCPT TO:<\xc3\xa4@y> ORCPT=utf-8;\xc3\xa4\xe7\x94\xa8\\x{2B}@y|DATA|", "<250 ok\n250 ok\n354 go", "BODY", "<250 queued" },
		{ "delivered 250 none" }, NULL },
	{ "utf8: ORCPT to another", UTF8 | ORCPT8 | CONVERT_IF, 1, { HELLO, "<250-peer\n250-PIPELINING\n250 DSN",
		">MAIL FROM:<s@x>|RCPT TO:<xn--4ca@y> ORCPT=utf-8;\\x{E4}\\x{7528}\\x{2B}@y|DATA|", "<250 ok\n250 ok\n354 go", "BODY", "<250 queued" },
		{ "delivered 250 none" }, NULL },
	{ "utf8: LMTP", LMTP | UTF8, 1, { "<220 peer", ">LHLO me|", OFFER8, ">MAIL FROM:<s@x> SMTPUTF8|RCPT TO:<\xc3\xa4@y>|DATA|", "<250 ok\n250 ok\n354 go", "BODY", "<250 queued" },
		{ "delivered 250 none" }, NULL },
	{ "sender that can't be said", BAD_SENDER, 1, { HELLO, PIPE, ">", "READY" }, { "failed 0 other" }, NULL },
	{ "recipient that can't be said", BAD_RCPT, 2, { HELLO, PIPE, ">MAIL FROM:<s@x> SIZE=2024|RCPT TO:<r1@y>|DATA|", "<250 ok\n250 ok\n354 go", "BODY",
		"<250 queued" }, { "failed 0 other", "delivered 250 none" }, NULL },

	{ "CHUNKING: one piece", CHUNK, 2, { HELLO, BIND, ">MAIL FROM:<s@x>|RCPT TO:<r0@y>|RCPT TO:<r1@y>|", "<250 ok\n250 ok\n550 no", ">", "LAST",
		">BDAT 7 LAST|", "BUSY", "<250 kept", "READY" }, { "delivered 250 none", "failed 550 other" }, "250 kept" },
	{ "CHUNKING: pieces, and their replies at any time", CHUNK, 1, { HELLO, BIND, BIND1, "<250 ok\n250 ok", "PIECE", "PIECE", "<250 one", "PIECE",
		">BDAT 100|BDAT 100|BDAT 100|", "LAST", ">BDAT 7 LAST|", "<250 two\n250 three", "BUSY", "<250 kept", "READY" },
		{ "delivered 250 none" }, "250 kept" },
	{ "CHUNKING: a piece refused while others go out", CHUNK, 1, { HELLO, BIND, BIND1, "<250 ok\n250 ok", "PIECE", "PIECE", "<552 too much", "OVER" },
		{ "failed 552 other" }, "after pipelined sending data block: 552 too much" },
	{ "CHUNKING: a piece refused behind the last one", CHUNK, 1, { HELLO, BIND, BIND1, "<250 ok\n250 ok", "PIECE", "LAST", "<451 later", "OVER" },
		{ "deferred 451 data_4xx" }, NULL },
	{ "CHUNKING: more replies than pieces", CHUNK, 1, { HELLO, BIND, BIND1, "<250 ok\n250 ok", "PIECE", "<250 one\n250 two", "OVER" },
		{ "deferred 0 other host" }, "too early" },
	{ "CHUNKING: closed behind the last piece", CHUNK, 1, { HELLO, BIND, BIND1, "<250 ok\n250 ok", "PIECE", "LAST", "<250 one", "CLOSE" },
		{ "deferred 0 lost_connection" }, NULL },
	{ "CHUNKING: nobody accepted", CHUNK, 1, { HELLO, BIND, BIND1, "<250 ok\n550 no", ">", "READY", "AGAIN",
		">RSET|MAIL FROM:<s@x>|RCPT TO:<r0@y>|", "<250 ok\n250 ok\n250 ok", "LAST", "<250 kept" }, { "delivered 250 none" }, NULL },
	{ "CHUNKING without PIPELINING, or unwanted: DATA", CHUNK, 1, { HELLO, "<250-p\n250 CHUNKING", ">MAIL FROM:<s@x>|", "<250 ok", ">RCPT TO:<r0@y>|",
		"<250 ok", ">DATA|", "<354 go", "BODY", "<250 kept" }, { "delivered 250 none" }, NULL },
	{ "CHUNKING unwanted", 0, 1, { HELLO, BIND, ">MAIL FROM:<s@x>|RCPT TO:<r0@y>|DATA|", "<250 ok\n250 ok\n354 go", "BODY", "<250 kept" },
		{ "delivered 250 none" }, NULL },

	{ "PRDR: each its own", PRDR, 3, { HELLO, ONES, ONES3, "<250 ok\n250 ok\n250 ok\n250 ok\n354 go", "BODY", "<353 wait", "BUSY",
		"<250 one\n550 two\n450 three", "BUSY", "<250 all", "READY" },
		{ "delivered 250 none", "failed 550 other", "deferred 450 data_4xx" }, "250 one\n250 all" },
	{ "PRDR: one was refused before", PRDR, 2, { HELLO, ONES, ONES2, "<250 ok\n550 no\n250 ok\n354 go", "BODY", "<353 wait\n250 two\n250 all", "READY" },
		{ "failed 550 other", "delivered 250 none" }, NULL },
	{ "PRDR: refused in the end", PRDR, 2, { HELLO, ONES, ONES2, "<250 ok\n250 ok\n250 ok\n354 go", "BODY", "<353 wait\n250 one\n450 two\n554 all", "READY" },
		{ "failed 554 other", "deferred 450 data_4xx" }, NULL },
	{ "PRDR: asked for, and one reply for all", PRDR, 2, { HELLO, ONES, ONES2, "<250 ok\n250 ok\n250 ok\n354 go", "BODY", "<250 both", "READY" },
		{ "delivered 250 none", "delivered 250 none" }, "250 both" },
	{ "PRDR: closed before the last word", PRDR, 2, { HELLO, ONES, ONES2, "<250 ok\n250 ok\n250 ok\n354 go", "BODY", "<353 wait\n250 one\n550 two", "CLOSE" },
		{ "deferred 0 lost_connection", "failed 550 other" }, NULL },
	{ "PRDR: 353 twice", PRDR, 2, { HELLO, ONES, ONES2, "<250 ok\n250 ok\n250 ok\n354 go", "BODY", "<353 wait\n353 wait", "OVER" },
		{ "deferred 0 other", "deferred 0 other" }, NULL },
	{ "PRDR: not for one", PRDR, 1, { HELLO, ONES, ">MAIL FROM:<s@x>|RCPT TO:<r0@y>|DATA|", "<250 ok\n250 ok\n354 go", "BODY", "<353 what", "OVER" },
		{ "deferred 0 other" }, NULL },

	{ "LMTP: one reply each", LMTP, 3, { "<220 peer", ">LHLO me|", PIPE, ">MAIL FROM:<s@x> SIZE=2024|RCPT TO:<r0@y>|RCPT TO:<r1@y>|RCPT TO:<r2@y>|DATA|",
		"<250 ok\n250 ok\n550 no\n250 ok\n354 go", "BODY", "<250 one", "BUSY", "<452 full", "READY" },
		{ "delivered 250 none", "failed 550 other", "deferred 452 data_4xx" }, "250 one" },
	{ "LMTP: LHLO refused, no HELO", LMTP, 1, { "<220 peer", ">LHLO me|", "<500 what", ">QUIT|" }, { "deferred 500 other host refused" }, NULL },
	{ "LMTP: closed between the replies", LMTP, 2, { "<220 peer", ">LHLO me|", PIPE, GROUP2, "<250 ok\n250 ok\n250 ok\n354 go", "BODY", "<250 one", "CLOSE" },
		{ "delivered 250 none", "deferred 0 lost_connection" }, NULL },
	{ "LMTP: 421 between the replies", LMTP, 2, { "<220 peer", ">LHLO me|", PIPE, GROUP2, "<250 ok\n250 ok\n250 ok\n354 go", "BODY", "<421 bye", "OVER" },
		{ "deferred 421 data_4xx", "deferred 0 lost_connection" }, NULL },
	{ "LMTP: nobody accepted, DATA taken", LMTP, 1, { "<220 peer", ">LHLO me|", PIPE, GROUP1, "<250 ok\n550 no\n354 go", "OVER" }, { "failed 550 other" }, NULL },
};

struct run {
	struct smtp_client c;
	struct smtp_profile profile;
	struct smtp_txn txn;
	struct smtp_rcpt rcpts[4];
	struct arena arena;
	char sent[2048];
	bool bytewise;
};

static void txn_set(struct run *r, const struct script *s)
{
	static const char *const addrs[] = { "r0@y", "r1@y", "r2@y" };

	memset(r->rcpts, 0, sizeof r->rcpts);
	for (unsigned i = 0; i < s->n_rcpts; i++)
		r->rcpts[i].addr = str_of(addrs[i]);
	r->txn = (struct smtp_txn){ .arena = &r->arena, .sender = STR_LIT("s@x"), .size = s->flags & BIG ? 200000 : 1000, .rcpts = r->rcpts, .n_rcpts = s->n_rcpts };
	r->txn.eightbit = s->flags & EIGHTBIT;
	if (s->flags & DSN) {
		r->txn.ret = STR_LIT("HDRS");
		r->txn.envid = STR_LIT("id+2B");
		r->rcpts[0].notify = DSN_SUCCESS | DSN_DELAY;
		r->rcpts[0].orcpt = STR_LIT("rfc822;r0@y");
	}
	if (s->flags & UTF8) {
		r->txn.utf8 = !(s->flags & UNMARKED);
		r->txn.utf8_header = s->flags & HEADER8;
		r->txn.downconvert = s->flags & CONVERT ? 1 : s->flags & CONVERT_IF ? -1 : 0;
		if (!(s->flags & ASCII))
			r->rcpts[0].addr = s->flags & BAD_DOMAIN ? STR_LIT("r0@\xf0\x9f\x98\x80") : s->flags & BAD_UTF8 ? STR_LIT("\xe4@y") : STR_LIT("\xc3\xa4@y");
		if (s->flags & SENDER8)
			r->txn.sender = STR_LIT("s\xc3\xa9@B\xc3\x9c" "cher.x");
		if (s->flags & ORCPT8)
			r->rcpts[0].orcpt = STR_LIT("utf-8;\xc3\xa4\\x{7528}\\x{2B}@y");
	}
	if (s->flags & BAD_SENDER)
		r->txn.sender = STR_LIT("s@x>\r\nRSET");
	if (s->flags & BAD_RCPT)
		r->rcpts[0].addr = STR_LIT("r0@y> NOTIFY=NEVER");
}

static void take_sent(struct run *r)
{
	size_t at = strlen(r->sent);

	assert_true(at + r->c.out.len < sizeof r->sent);
	if (r->c.out.len)
		memcpy(r->sent + at, r->c.out.p, r->c.out.len);
	r->sent[at + r->c.out.len] = '\0';
	smtp_client_sent(&r->c, r->c.out.len);
}

static void feed(struct run *r, const char *text, bool line)
{
	char octets[1024];
	size_t n = 0;

	for (const char *p = text; *p; p++) {
		if (*p == '\n')
			octets[n++] = '\r';
		octets[n++] = *p;
	}
	if (line) {
		octets[n++] = '\r';
		octets[n++] = '\n';
	}
	if (!r->bytewise) {
		smtp_client_input(&r->c, octets, n);
		return;
	}
	/* One octet at a time; what the client sends meanwhile counts as sent in between, so stray replies are not tried so. */
	for (size_t i = 0; i < n; i++)
		smtp_client_input(&r->c, octets + i, 1);
}

static void step_run(struct run *r, const struct script *s, const char *step)
{
	static const struct { const char *name; enum smtp_phase phase; } phases[] = {
		{ "READY", SMTP_READY }, { "OVER", SMTP_OVER }, { "BUSY", SMTP_BUSY }, { "SHAKE", SMTP_SHAKE },
	};
	char want[1024];
	size_t n = 0;

	take_sent(r);
	if (*step == '<' || *step == '!') {
		feed(r, step + 1, *step == '<');
	} else if (*step == '>') {
		for (const char *p = step + 1; *p; p++)
			n += (size_t)snprintf(want + n, sizeof want - n, "%s", *p == '|' ? "\r\n" : (char[]){ *p, 0 });
		want[n] = '\0';
		if (strcmp(r->sent, want))
			fail_msg("%s: sent \"%s\", want \"%s\"", s->name, r->sent, want);
		r->sent[0] = '\0';
	} else if (!strcmp(step, "BODY")) {
		if (r->c.phase != SMTP_BODY)
			fail_msg("%s: step %s: the content is not asked for", s->name, smtp_step_name(r->c.recv));
		smtp_client_body_sent(&r->c);
	} else if (!strcmp(step, "PIECE")) {
		smtp_client_chunk(&r->c, 100, false);
	} else if (!strcmp(step, "LAST")) {
		smtp_client_chunk(&r->c, 7, true);
		take_sent(r);
		smtp_client_body_sent(&r->c);
	} else if (!strcmp(step, "CLOSE")) {
		smtp_client_lost(&r->c, SMTP_LOST_CLOSED, NULL);
	} else if (!strcmp(step, "RESET")) {
		smtp_client_lost(&r->c, SMTP_LOST_ERROR, "Connection reset by peer");
	} else if (!strcmp(step, "TIMEOUT")) {
		smtp_client_lost(&r->c, SMTP_LOST_TIMEOUT, NULL);
	} else if (!strcmp(step, "UNREADABLE")) {
		smtp_client_lost(&r->c, SMTP_LOST_CONTENT, "why");
	} else if (!strcmp(step, "QUIT")) {
		smtp_client_quit(&r->c);
	} else if (!strcmp(step, "SECURE")) {
		smtp_client_tls_done(&r->c);
	} else if (!strcmp(step, "BROKEN") || !strcmp(step, "OURS")) {
		smtp_client_tls_failed(&r->c, "why", !strcmp(step, "OURS"));
	} else if (!strcmp(step, "AGAIN")) {
		txn_set(r, s);
		smtp_client_begin(&r->c, &r->txn);
	} else {
		for (size_t i = 0; i < sizeof phases / sizeof *phases; i++)
			if (!strcmp(step, phases[i].name) && r->c.phase != phases[i].phase)
				fail_msg("%s: phase %d at %s, want %s", s->name, r->c.phase, smtp_step_name(r->c.recv), step);
	}
	take_sent(r);
}

static void script_run(const struct script *s, bool bytewise)
{
	struct run r = { .bytewise = bytewise };

	r.profile = (struct smtp_profile){
		.helo = STR_LIT("me"), .lmtp = s->flags & LMTP, .avoid_esmtp = s->flags & NO_ESMTP, .avoid_pipelining = s->flags & NO_PIPELINING, .size_addition = 1024,
	};
	txn_set(&r, s);
	smtp_client_init(&r.c, &r.profile, &r.txn);
	r.profile.try_chunking = s->flags & CHUNK;
	r.profile.try_prdr = s->flags & PRDR;
	r.c.tls_want = s->flags & TLS_MUST ? SMTP_TLS_MUST : s->flags & TLS ? SMTP_TLS_TRY : SMTP_TLS_NO;
	r.c.clear_if_refused = s->flags & CLEAR_REFUSED;
	r.c.clear_if_failed = s->flags & CLEAR_FAILED;
	if (s->flags & TLS_FIRST)
		smtp_client_tls_first(&r.c);
	for (unsigned i = 0; i < 20 && s->steps[i]; i++)
		step_run(&r, s, s->steps[i]);
	if (r.c.again_clear && (!s->want[0] || strcmp(s->want[0], "clear")))
		fail_msg("%s: nobody wants to try in clear", s->name);
	if (r.c.txn)
		fail_msg("%s: the transaction is not over", s->name);
	for (unsigned i = 0; i < s->n_rcpts; i++) {
		char got[200];
		const struct smtp_rcpt *p = &r.rcpts[i];
		const char *result = delivery_result_name(p->result);

		if (!strcmp(s->want[i], "clear")) {
			if (!r.c.again_clear || p->result || r.txn.host_error)
				fail_msg("%s: recipient %u has a result", s->name, i);
			continue;
		}
		snprintf(got, sizeof got, "%s %u %s%s%s", result ? result : "?", p->code, retry_error_name(p->error), p->host_error ? " host" : "",
			p->refused ? " refused" : "");
		if (strcmp(got, s->want[i]))
			fail_msg("%s: recipient %u: got \"%s\", want \"%s\" (%.*s)", s->name, i, got, s->want[i], STR_FMT(p->text));
		if (!p->status.len || !p->text.len || !p->stage)
			fail_msg("%s: recipient %u: no status, text or stage", s->name, i);
		if (p->host_error && (!r.txn.host_error || !r.txn.host_text.len))
			fail_msg("%s: the host's trouble is not noted", s->name);
	}
	if (s->text && str_find_str(r.rcpts[0].text, str_of(s->text)) < 0)
		fail_msg("%s: text \"%.*s\", want \"%s\" in it", s->name, STR_FMT(r.rcpts[0].text), s->text);
	smtp_client_trim(&r.c);
	smtp_client_clear(&r.c);
	arena_clear(&r.arena);
}

static void test_scripts(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++)
		script_run(&scripts[i], false);
}

static void test_scripts_octet_by_octet(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++)
		if (!strstr(scripts[i].name, "clear octets") && strcmp(scripts[i].name, "a reply nobody asked for") && strcmp(scripts[i].name, "250 right behind 354"))
			script_run(&scripts[i], true);
}

/* Deferred recipients are tried again at the next host, the others keep what they have. */
static void test_again(void **state)
{
	struct run r = { .bytewise = false };
	static const struct script s = { "again", 0, 2, { NULL }, { NULL }, NULL };

	(void)state;
	r.profile = (struct smtp_profile){ .helo = STR_LIT("me"), .size_addition = 1024 };
	txn_set(&r, &s);
	smtp_client_init(&r.c, &r.profile, &r.txn);
	feed(&r, "220 a", true);
	take_sent(&r);
	feed(&r, "250-a\n250 PIPELINING", true);
	take_sent(&r);
	feed(&r, "250 ok\n450 later\n250 ok\n354 go", true);
	smtp_client_body_sent(&r.c);
	feed(&r, "250 queued", true);
	assert_int_equal(r.c.phase, SMTP_READY);
	smtp_client_clear(&r.c);
	assert_true(smtp_txn_again(&r.txn));
	assert_true(r.rcpts[1].skip);
	assert_int_equal(r.rcpts[1].result, DELIVERY_OK);
	assert_int_equal(r.rcpts[0].result, 0);
	smtp_client_init(&r.c, &r.profile, &r.txn);
	feed(&r, "220 a", true);
	take_sent(&r);
	r.sent[0] = '\0';
	feed(&r, "250-a\n250 PIPELINING", true);
	take_sent(&r);
	assert_string_equal(r.sent, "MAIL FROM:<s@x>\r\nRCPT TO:<r0@y>\r\nDATA\r\n");
	feed(&r, "250 ok\n550 no\n503 none", true);
	assert_int_equal(r.rcpts[0].result, DELIVERY_FAILED);
	assert_false(smtp_txn_again(&r.txn));
	smtp_client_clear(&r.c);
	arena_clear(&r.arena);
}

static void test_addresses(void **state)
{
	static const struct { const char *addr; bool safe; } cases[] = {
		{ "", true }, { "a@b", true }, { "\"a b\"@c", true }, { "\"a\\\"> b\"@c", true }, { "\xc3\xa4@b", true }, { "a b@c", false },
		{ "a>@c", false }, { "<a@c", false }, { "\"a@c", false }, { "\"a\\\"@c", false }, { "\"a\\", false }, { "a\r\n@c", false }, { "a\x7f@c", false },
		{ "\"a\\\n\"@c", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (smtp_address_is_safe(str_of(cases[i].addr)) != cases[i].safe)
			fail_msg("%s", cases[i].addr);
	assert_false(smtp_address_is_safe(STR_LIT("a\0b@c")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scripts),
		cmocka_unit_test(test_scripts_octet_by_octet),
		cmocka_unit_test(test_again),
		cmocka_unit_test(test_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
