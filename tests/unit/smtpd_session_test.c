/* SPDX-License-Identifier: ISC */
/* Dialogues: what a client sends, what it gets, what reaches the queue; fed whole, in pieces and octet by octet. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>

#include "common/base/load.h"
#include "tests/unit/smtpd_mock.h"

#define HELLO "EHLO c.example\r\n"
#define MAIL "MAIL FROM:<a@b.example>\r\n"
#define RCPT "RCPT TO:<r@x.example>\r\n"
#define ENVELOPE HELLO MAIL RCPT
#define PMAIL HELLO "MAIL FROM:<a@b.example> PRDR\r\n"
#define RCPTS(to) "RCPT TO:<" to ">\r\n"
#define PDATA "DATA\r\nx\r\n.\r\n"
#define SEND(data) ENVELOPE "DATA\r\n" data
#define OK_SEND "220 250 250 250 354 250"
#define E8 "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4" /* 16 octets */
#define E32 E8 E8 E8 E8
#define X100 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X1000 X100 X100 X100 X100 X100 X100 X100 X100 X100 X100

enum { SYNC = 1, LOCAL = 2, TRUSTED = 4, CLOSED = 8, DSN = 16, LENIENT = 32, SMALL = 64, LITERALS = 128, ACLS = 256, INTAKE = 512, NOSPACE = 1024,
	FEW = 2048, UNQUALIFIED = 4096, REJECT_OVER = 8192, NOPIPE = 16384, NOCHUNKS = 32768, EARLY = 65536, NOFFER = 131072, PRDR = 262144, XCLIENT = 524288,
	UTF8_DOMAINS = 1 << 20, NOUTF8 = 1 << 21 };

static const struct dialogue {
	const char *name, *in;
	int flags;
	const char *codes;            /* of all replies; a continued reply counts once */
	const char *content;          /* NULL: nothing was committed */
	const char *has;              /* in the replies or the log */
} dialogues[] = {
	{ "plain", SEND("A: b\r\n\r\nhello\r\n.\r\n") "QUIT\r\n", 0, OK_SEND " 221", "A: b\r\n\r\nhello\r\n", "250 2.0.0 OK id=16IOWa-00019l-00" },
	{ "HELO", "HELO c.example\r\n" MAIL RCPT "DATA\r\nx\r\n.\r\n", 0, OK_SEND, "x\r\n", NULL },
	{ "empty message", SEND(".\r\n"), 0, OK_SEND, "", NULL },
	{ "two messages", SEND("1\r\n.\r\n") MAIL RCPT "DATA\r\n2\r\n.\r\n", 0, OK_SEND " 250 250 354 250", "2\r\n", NULL },
	{ "dots", SEND("..\r\n...x\r\n.x\r\nx.\r\n.\r\n"), 0, OK_SEND, ".\r\n..x\r\nx\r\nx.\r\n", NULL },
	{ "8 bit", SEND("\xc3\xa4\xff\r\n.\r\n"), 0, OK_SEND, "\xc3\xa4\xff\r\n", NULL },
	{ "long line", SEND(X1000 X1000 X1000 "\r\n.\r\n"), 0, OK_SEND, X1000 X1000 X1000 "\r\n", NULL },
	{ "null sender", HELLO "MAIL FROM:<>\r\n" RCPT "DATA\r\nx\r\n.\r\n", 0, OK_SEND, "x\r\n", NULL },
	{ "blank behind the colon", HELLO "MAIL FROM: <a@b.example>\r\nRCPT TO: <r@x.example>\r\nDATA\r\nx\r\n.\r\n", 0, OK_SEND, "x\r\n", NULL },
	{ "small letters, blanks at the end", "ehlo c.example  \r\nmail from:<a@b> \r\nrcpt to:<c@d>  \r\ndata \r\nx\r\n.\r\nquit\r\n", CLOSED, OK_SEND " 221",
	  "x\r\n", NULL },
	{ "commands in pieces that are no commands", "\r\nFOO\r\nMAILX\r\nQUIT\r\n", 0, "220 500 500 500 221", NULL, NULL },

	/* smuggling: only CR LF . CR LF ends the data */
	{ "LF . LF", SEND("a\n.\nMAIL FROM:<evil@b>\r\n.\r\n"), CLOSED, "220 250 250 250 354 550", NULL, "5.6.11" },
	{ "LF . CRLF", SEND("a\n.\r\nMAIL FROM:<evil@b>\r\nRCPT TO:<r@x>\r\nDATA\r\nb\r\n.\r\n"), CLOSED, "220 250 250 250 354 550", NULL, "5.6.11" },
	{ "CRLF . LF", SEND("a\r\n.\nMAIL FROM:<evil@b>\r\n.\r\n"), CLOSED, "220 250 250 250 354 550", NULL, "5.6.11" },
	{ "CR . CR", SEND("a\r.\rMAIL FROM:<evil@b>\r\n.\r\n"), 0, "220 250 250 250 354 550", NULL, "5.6.11" },
	{ "CRLF . CR", SEND("a\r\n.\rMAIL FROM:<evil@b>\r\n.\r\n"), 0, "220 250 250 250 354 550", NULL, "5.6.11" },
	{ "CR . CRLF", SEND("a\r.\r\nMAIL FROM:<evil@b>\r\n.\r\n"), 0, "220 250 250 250 354 550", NULL, "5.6.11" },
	{ "CR CR LF . CR CR LF", SEND("a\r\r\n.\r\r\nx\r\n.\r\n"), 0, "220 250 250 250 354 550", NULL, "5.6.11" },
	{ "CRLF . CR CR LF", SEND("a\r\n.\r\r\nx\r\n.\r\n"), 0, "220 250 250 250 354 550", NULL, "5.6.11" },
	{ "LF LF", SEND("a\n\nb\r\n.\r\n"), 0, "220 250 250 250 354 550", NULL, "5.6.11" },
	{ "LF CR . CR LF", SEND("a\n\r.\r\nb\r\n.\r\n"), 0, "220 250 250 250 354 550", NULL, "5.6.11" },
	{ "NUL . ", SEND("a\r\n.%0\r\nb\r\n.\r\n"), 0, "220 250 250 250 354 550", NULL, "NUL" },
	{ "NUL in text", SEND("a%0b\r\n.\r\n") MAIL, 0, "220 250 250 250 354 550 250", NULL, "NUL" },
	{ "CR at the very end", SEND("a\r\r\n.\r\n") MAIL, 0, "220 250 250 250 354 550 250", NULL, "5.6.11" },
	{ ". CR LF at the start", SEND(".\r\n"), 0, OK_SEND, "", NULL },
	{ ". LF at the start", SEND(".\nMAIL FROM:<e@f>\r\n.\r\n"), CLOSED, "220 250 250 250 354 550", NULL, NULL },
	{ "dot stuffed dot", SEND("..\r\n.\r\n"), 0, OK_SEND, ".\r\n", NULL },
	{ "bare LF in a command", "EHLO c.example\nMAIL FROM:<a@b>\r\nNOOP\r\n", 0, "220 500 250", NULL, "bare line feed" },
	{ "command behind a bare LF", HELLO "NOOP\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n", 0, "220 250 500 503", NULL, NULL },
	{ "bare CR in a command", HELLO "NOOP\rRSET\r\nNOOP\r\n", 0, "220 250 500 250", NULL, "control characters" },
	{ "NUL in a command", HELLO "MAIL FROM:<a@b%0.example>\r\n", 0, "220 250 500", NULL, NULL },
	{ "8 bit in a command", HELLO "NOOP \xc3\xa4\r\n\xc3\xa4\r\nRSET\xff\r\n", 0, "220 250 500 500 500", NULL, "8-bit" },
	{ "tab in a command", HELLO "MAIL\tFROM:<a@b>\r\n", 0, "220 250 500", NULL, NULL },
	{ "line too long", HELLO "NOOP " X1000 X1000 X1000 "\r\nNOOP\r\n", 0, "220 250 500 250", NULL, "line too long" },
	{ "line too long hides nothing", HELLO "NOOP " X1000 X1000 X100 "\nMAIL FROM:<a@b>\r\nNOOP\r\n", 0, "220 250 500 250", NULL, NULL },

	/* SMTPUTF8: Latin, Han, Arabic, emoji; forms of the same letter stay as they are */
	{ "utf8", HELLO "MAIL FROM:<j\xc3\xbcrgen@b\xc3\xbc" "cher.example> SMTPUTF8\r\n" RCPT "DATA\r\nx\r\n.\r\n", 0, OK_SEND, "x\r\n",
	  "j\xc3\xbcrgen@b\xc3\xbc" "cher.example" },
	{ "utf8, 250-SMTPUTF8", HELLO, 0, "220 250", NULL, "250-SMTPUTF8\r\n" },
	{ "utf8, recipients", HELLO "MAIL FROM:<> SMTPUTF8 BODY=8BITMIME\r\nRCPT TO:<\xe7\x94\xa8\xe6\x88\xb7@\xe4\xbe\x8b\xe3\x81\x88.example>\r\n"
	  "RCPT TO:<\xd9\x85\xd8\xab\xd8\xa7\xd9\x84@\xd9\x85\xd8\xab\xd8\xa7\xd9\x84.example>\r\nRCPT TO:<\xf0\x9f\x98\x80@x.example>\r\nRCPT TO:<e\xcc\x81@x.example>\r\n"
	  "RCPT TO:<\"\xc3\xa9 b\"@x.example>\r\n", 0, "220 250 250 250 250 250 250 250", NULL, NULL },
	{ "utf8, no parameter", HELLO "MAIL FROM:<\xc3\xa4@b>\r\n" MAIL "RCPT TO:<\xc3\xa4@b>\r\nRCPT TO:<a@\xc3\xa4.b>\r\n", 0, "220 250 501 250 501 501", NULL,
	  "501 5.6.7 ??@b: an address that is not ASCII needs SMTPUTF8" },
	{ "utf8, domains alone", HELLO "MAIL FROM:<a@\xc3\xa4.b>\r\nRCPT TO:<\xc3\xa4@b>\r\nRCPT TO:<a@\xc3\xa4.b>\r\n", UTF8_DOMAINS, "220 250 250 501 250", NULL, NULL },
	{ "utf8, not offered", HELLO "MAIL FROM:<a@b> SMTPUTF8\r\nVRFY a@b SMTPUTF8\r\n", NOUTF8, "220 250 501 501", NULL, "501 5.5.4 SMTPUTF8 used when not advertised" },
	{ "utf8, not with HELO", "HELO c.example\r\nMAIL FROM:<a@b> SMTPUTF8\r\n", 0, "220 250 555", NULL, NULL },
	{ "utf8, a value", HELLO "MAIL FROM:<a@b> SMTPUTF8=1\r\nMAIL FROM:<a@b> SMTPUTF8=\r\n" MAIL "RCPT TO:<a@b> SMTPUTF8\r\n", 0, "220 250 501 501 250 555", NULL, NULL },
	{ "utf8, overlong", HELLO "MAIL FROM:<\xc0\xaf@b> SMTPUTF8\r\nMAIL FROM:<\xe0\x80\xaf@b> SMTPUTF8\r\nMAIL FROM:<\xf0\x80\x80\xaf@b> SMTPUTF8\r\n", 0,
	  "220 250 501 501 501", NULL, "malformed UTF-8" },
	{ "utf8, surrogates, too large, controls", HELLO "MAIL FROM:<\xed\xa0\x80@b> SMTPUTF8\r\nMAIL FROM:<\xf4\x90\x80\x80@b> SMTPUTF8\r\nMAIL FROM:<\xc2\x85@b> SMTPUTF8\r\n", 0,
	  "220 250 501 501 501", NULL, "malformed UTF-8" },
	{ "utf8, cut off", HELLO "MAIL FROM:<a@\xe4\xbe> SMTPUTF8\r\nMAIL FROM:<\xff@b> SMTPUTF8\r\n", 0, "220 250 501 501", NULL, NULL },
	{ "utf8, no domain of IDNA", HELLO "MAIL FROM:<a@\xe2\x80\xae.example> SMTPUTF8\r\nMAIL FROM:<a@a\xd7\x90.example> SMTPUTF8\r\nMAIL FROM:<a@\xcc\x81" "e.example> SMTPUTF8\r\n", 0,
	  "220 250 501 501 501", NULL, "no domain name" },
	{ "utf8, unknown parameter", HELLO "MAIL FROM:<a@b> \xc3\xa4=1\r\n", 0, "220 250 555", NULL, NULL },
	{ "utf8, HELO", "EHLO b\xc3\xbc" "cher.example\r\n", 0, "220 501", NULL, NULL },
	{ "utf8, HELO allowed", "EHLO b\xc3\xbc" "cher.example\r\nEHLO \xe2\x80\xae.example\r\nEHLO \xff.example\r\n", UTF8_DOMAINS, "220 250 501 501", NULL, NULL },
	{ "utf8, VRFY", HELLO "VRFY \xc3\xa4@b SMTPUTF8\r\nVRFY \xc3\xa4@b\r\nEXPN \xff@b SMTPUTF8\r\n", 0, "220 250 252 501 501", NULL, NULL },
	{ "utf8, local part too long", HELLO "MAIL FROM:<" E32 "@b> SMTPUTF8\r\nRSET\r\nMAIL FROM:<" E32 "\xc3\xa4@b> SMTPUTF8\r\n", 0, "220 250 250 250 501", NULL, "longer than 64 octets" },
	{ "utf8, label too long", HELLO "MAIL FROM:<a@" E32 E32 ".example> SMTPUTF8\r\n", 0, "220 250 501", NULL, NULL },
	{ "utf8, ORCPT", HELLO "MAIL FROM:<a@b> SMTPUTF8\r\nRCPT TO:<a@b> ORCPT=utf-8;\xc3\xa4@b\r\nRCPT TO:<a@b> ORCPT=utf-8;\\x{E4}@b\r\nRCPT TO:<a@b> ORCPT=UTF-8;+C3@b\r\n"
	  "RCPT TO:<a@b> ORCPT=utf-8;\\x{D800}@b\r\n", DSN, "220 250 250 250 250 501 501", NULL, NULL },
	{ "utf8, ORCPT elsewhere", HELLO MAIL "RCPT TO:<a@b> ORCPT=utf-8;\xc3\xa4@b\r\nRCPT TO:<a@b> ORCPT=utf-8;\\x{E4}@b\r\nRCPT TO:<a@b> ORCPT=rfc822;\xc3\xa4@b\r\n", DSN,
	  "220 250 250 501 250 501", NULL, NULL },

	/* order */
	{ "no HELO", MAIL, 0, "220 503", NULL, "HELO or EHLO required" },
	{ "RCPT first", HELLO RCPT, 0, "220 250 503", NULL, NULL },
	{ "DATA first", HELLO "DATA\r\n", 0, "220 250 503", NULL, NULL },
	{ "MAIL twice", HELLO MAIL MAIL, 0, "220 250 250 503", NULL, "sender already given" },
	{ "no recipient", HELLO MAIL "DATA\r\n", 0, "220 250 250 554", NULL, NULL },
	{ "RSET", ENVELOPE "RSET\r\nDATA\r\n", 0, "220 250 250 250 250 503", NULL, NULL },
	{ "EHLO resets", ENVELOPE HELLO "DATA\r\n", 0, "220 250 250 250 250 503", NULL, NULL },
	{ "refused HELO", "EHLO a b\r\nHELO\r\nEHLO c_d\r\n" MAIL, CLOSED, "220 501 501 501 503", NULL, NULL },
	{ "HELO literals", "EHLO [192.0.2.1]\r\nEHLO [IPv6:2001:db8::1]\r\nHELO 192.0.2.1\r\n", 0, "220 250 250 250", NULL, NULL },
	{ "small commands", HELLO "NOOP x\r\nHELP\r\nVRFY a\r\nEXPN a\r\nVRFY\r\n", 0, "220 250 250 214 252 550 501", NULL, NULL },
	{ "arguments where none are", HELLO "QUIT x\r\nRSET x\r\nDATA x\r\n", 0, "220 250 501 501 501", NULL, NULL },

	/* verdicts */
	{ "denied", HELLO MAIL "RCPT TO:<deny@x>\r\nDATA\r\n", 0, "220 250 250 550 554", NULL, "rejected RCPT <deny@x>" },
	{ "deferred", HELLO MAIL "RCPT TO:<defer@x>\r\n" RCPT "DATA\r\nx\r\n.\r\n", 0, "220 250 250 451 250 354 250", "x\r\n", "temporarily rejected RCPT" },
	{ "dropped", HELLO MAIL "RCPT TO:<drop@x>\r\n" RCPT, CLOSED, "220 250 250 550", NULL, NULL },
	{ "discarded", HELLO MAIL "RCPT TO:<discard@x>\r\nDATA\r\nx\r\n.\r\n", 0, OK_SEND, NULL, "message discarded" },
	{ "one discarded", HELLO MAIL "RCPT TO:<discard@x>\r\n" RCPT "DATA\r\nx\r\n.\r\n", 0, "220 250 250 250 250 354 250", "x\r\n", NULL },
	{ "delayed", HELLO MAIL "RCPT TO:<delay@x>\r\nDATA\r\nx\r\n.\r\n", 0, OK_SEND, "x\r\n", NULL },
	{ "lost worker", HELLO MAIL "RCPT TO:<lost@x>\r\n" RCPT, 0, "220 250 250 451 250", NULL, "given up: 3 workers" },
	{ "sender denied", HELLO "MAIL FROM:<deny@x>\r\n" RCPT MAIL, ACLS, "220 250 550 503 250", NULL, "rejected MAIL <deny@x>" },
	{ "sender discarded", HELLO "MAIL FROM:<discard@x>\r\n" RCPT "DATA\r\nx\r\n.\r\n", ACLS, OK_SEND, NULL, NULL },
	{ "HELO denied", "EHLO deny.example\r\n" MAIL, ACLS, "220 550 503", NULL, "rejected EHLO or HELO deny.example" },
	{ "all ACLs", SEND("x\r\n.\r\n") "QUIT\r\n", ACLS, OK_SEND " 221", "x\r\n", NULL },

	/* addresses and parameters */
	{ "no brackets", HELLO "MAIL FROM:a@b.example\r\n", 0, "220 250 501", NULL, NULL },
	{ "no brackets, lenient", HELLO "MAIL FROM:a@b.example\r\n", LENIENT, "220 250 250", NULL, NULL },
	{ "no domain", HELLO MAIL "RCPT TO:<a>\r\nRCPT TO:<postmaster>\r\n", 0, "220 250 250 501 250", NULL, "must contain a domain" },
	{ "no domain, allowed", HELLO "MAIL FROM:<a>\r\n", UNQUALIFIED, "220 250 250", NULL, NULL },
	{ "no literals", HELLO MAIL "RCPT TO:<a@[192.0.2.1]>\r\n", 0, "220 250 250 501", NULL, "literals not allowed" },
	{ "literals", HELLO MAIL "RCPT TO:<a@[192.0.2.1]>\r\n", LITERALS, "220 250 250 250", NULL, NULL },
	{ "null recipient", HELLO MAIL "RCPT TO:<>\r\n", 0, "220 250 250 501", NULL, NULL },
	{ "keyword missing", HELLO "MAIL <a@b>\r\nRSET\r\n" MAIL "RCPT <a@b>\r\n", 0, "220 250 501 250 250 501", NULL, NULL },
	{ "SIZE", HELLO "MAIL FROM:<a@b> SIZE=100\r\nRSET\r\nMAIL FROM:<a@b> SIZE=99999999999\r\nMAIL FROM:<a@b> SIZE=x\r\n", 0,
	  "220 250 250 250 552 501", NULL, NULL },
	{ "BODY", HELLO "MAIL FROM:<a@b> BODY=8BITMIME SIZE=5\r\nRSET\r\nMAIL FROM:<a@b> BODY=9\r\nMAIL FROM:<a@b> BODY\r\n", 0, "220 250 250 250 501 501", NULL,
	  NULL },
	{ "unknown parameters", HELLO "MAIL FROM:<a@b> FOO=1\r\nMAIL FROM:<a@b>SIZE=1\r\n" MAIL "RCPT TO:<a@b> NOTIFY=NEVER\r\n", 0, "220 250 555 501 250 555", NULL,
	  NULL },
	{ "parameters without EHLO", "HELO c.example\r\nMAIL FROM:<a@b> SIZE=1\r\n", 0, "220 250 555", NULL, NULL },
	{ "DSN", HELLO "MAIL FROM:<a@b> RET=hdrs ENVID=x+2Dy\r\nRCPT TO:<a@b> NOTIFY=SUCCESS,delay ORCPT=rfc822;a+40b\r\nRCPT TO:<a@b> NOTIFY=NEVER,DELAY\r\n"
	  "RCPT TO:<a@b> ORCPT=x\r\nRCPT TO:<a@b> NOTIFY=\r\n", DSN, "220 250 250 250 501 501 501", NULL, NULL },

	/* limits */
	{ "too big", SEND(X1000 X1000 "\r\n.\r\n") MAIL, SMALL, "220 250 250 250 354 552 250", NULL, NULL },
	{ "header too big", SEND("A: " X1000 "\r\n " X1000 "\r\n\r\n.\r\n"), FEW, "220 250 250 250 354 552", NULL, "header size" },
	{ "recipients", HELLO MAIL RCPT RCPT RCPT "DATA\r\nx\r\n.\r\n", FEW, "220 250 250 250 250 452 354 250", "x\r\n", "too many recipients" },
	{ "recipients, all refused", HELLO MAIL RCPT RCPT RCPT "DATA\r\n", FEW | REJECT_OVER, "220 250 250 250 250 552 554", NULL, NULL },
	{ "loop", SEND("Received: 1\r\nReceived: 2\r\nreceived : 3\r\n\r\n.\r\n"), FEW, "220 250 250 250 354 550", NULL, "mail loop" },
	{ "Received in the body", SEND("Received: 1\r\n\r\nReceived: 2\r\nReceived: 3\r\n.\r\n"), FEW, OK_SEND,
	  "Received: 1\r\n\r\nReceived: 2\r\nReceived: 3\r\n", NULL },
	{ "errors", HELLO "MAIL\r\nMAIL\r\nMAIL\r\nMAIL\r\nNOOP\r\n", CLOSED, "220 250 501 501 501 501", NULL, "too many syntax or protocol errors" },
	{ "unknown commands", HELLO "A\r\nB\r\nC\r\nD\r\nNOOP\r\n", CLOSED, "220 250 500 500 500 500", NULL, "too many unrecognized commands" },
	{ "nonmail", HELLO "NOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\n", CLOSED,
	  "220 250 250 250 250 250 250 250 250 250 250 250 421", NULL, "too many nonmail commands" },
	{ "messages", HELLO MAIL "RSET\r\n" MAIL "RSET\r\n" MAIL, FEW | CLOSED, "220 250 250 250 250 250 421", NULL, NULL },
	{ "intake closed", HELLO MAIL RCPT, INTAKE, "220 250 452 503", NULL, "no room" },
	{ "no space", HELLO "MAIL FROM:<a@b> SIZE=20000\r\n" MAIL, INTAKE | SMALL, "220 250 552 452", NULL, NULL },
	{ "disk full", SEND("x\r\n.\r\n") MAIL, NOSPACE, "220 250 250 250 354 452 250", NULL, "No space left" },
	{ "pipelined after errors", HELLO "MAIL FROM:<>x\r\n" RCPT RCPT RCPT RCPT RCPT "DATA\r\nNOOP\r\n", 0, "220 250 501 503 503 503 503 503 503 250", NULL, NULL },
	{ "the same without pipelining", HELLO "MAIL FROM:<>x\r\n" RCPT RCPT RCPT, NOPIPE | CLOSED, "220 250 501 503 503 503", NULL, NULL },

	/* BDAT: octets of a chunk are never commands, whatever is said of it */
	{ "chunk", ENVELOPE "BDAT 7 LAST\r\nhello\r\n" "QUIT\r\n", 0, "220 250 250 250 250 221", "hello\r\n", "250 2.0.0 OK id=16IOWa-00019l-00" },
	{ "chunks", ENVELOPE "BDAT 6\r\nA: b\r\nBDAT 2\r\n\r\nBDAT 0 last\r\n", 0, "220 250 250 250 250 250 250", "A: b\r\n\r\n", "6 octets received" },
	{ "chunks cut in CR LF, in a field, in a line", ENVELOPE "BDAT 1\r\nABDAT 4\r\n: b\rBDAT 2\r\n\nBBDAT 2\r\n: BDAT 3\r\nc\r\nBDAT 4 LAST\r\n\r\nx\r" "BDAT 0\r\n", 0,
	  "220 250 250 250 250 250 250 250 250 550 503", NULL, "5.6.11" },
	{ "chunks cut in CR LF, in a field, in a line, well", ENVELOPE "BDAT 1\r\nABDAT 4\r\n: b\rBDAT 2\r\n\nBBDAT 2\r\n: BDAT 3\r\nc\r\nBDAT 5 LAST\r\n\r\nx\r\n" MAIL, 0,
	  "220 250 250 250 250 250 250 250 250 250 250", "A: b\r\nB: c\r\n\r\nx\r\n", NULL },
	{ "a last line without an end gets one", ENVELOPE "BDAT 9\r\n\r\nhello\r\nBDAT 4 LAST\r\n...x" MAIL, 0, "220 250 250 250 250 250 250", "\r\nhello\r\n...x\r\n", NULL },
	{ "a field without an end gets one", ENVELOPE "BDAT 4 LAST\r\nA: b" MAIL, 0, "220 250 250 250 250 250", "A: b\r\n", NULL },
	{ "nothing at all", ENVELOPE "BDAT 0 LAST\r\n", 0, "220 250 250 250 250", "", NULL },
	{ "a dot is a dot", ENVELOPE "BDAT 19 LAST\r\na\r\n.\r\nQUIT\r\n..\r\nb\r\n" "NOOP\r\n", 0, "220 250 250 250 250 250", "a\r\n.\r\nQUIT\r\n..\r\nb\r\n", NULL },
	{ "bare LF in a chunk", ENVELOPE "BDAT 9\r\na\n.\nRSET\nBDAT 6 LAST\r\nRSET\r\nNOOP\r\n", 0, "220 250 250 250 550 503 250", NULL, "5.6.11" },
	{ "bare CR in a chunk", ENVELOPE "BDAT 5 LAST\r\na\rb\r\n" MAIL, 0, "220 250 250 250 550 250", NULL, "5.6.11" },
	{ "bare CR at the end of the last chunk", ENVELOPE "BDAT 2 LAST\r\na\r" MAIL, 0, "220 250 250 250 550 250", NULL, "5.6.11" },
	{ "NUL in a chunk", ENVELOPE "BDAT 4 LAST\r\na%0\r\n" MAIL, 0, "220 250 250 250 550 250", NULL, "NUL" },
	{ "BDAT without MAIL", HELLO "BDAT 6\r\nRSET\r\nBDAT 6 LAST\r\nQUIT\r\n" MAIL, 0, "220 250 503 503 250", NULL, NULL },
	{ "BDAT without recipients", HELLO MAIL "RCPT TO:<deny@x>\r\nBDAT 6\r\nRSET\r\nBDAT 6 LAST\r\nQUIT\r\n" RCPT, 0, "220 250 250 550 554 554 250", NULL, NULL },
	{ "BDAT without EHLO", "HELO c.example\r\n" MAIL RCPT "BDAT 6 LAST\r\nQUIT\r\n" "NOOP\r\n", 0, "220 250 250 250 503 250", NULL, "not advertised" },
	{ "BDAT not offered", ENVELOPE "BDAT 6 LAST\r\nQUIT\r\n" "NOOP\r\n", NOCHUNKS, "220 250 250 250 503 250", NULL, "not advertised" },
	{ "BDAT, all discarded", HELLO MAIL "RCPT TO:<discard@x>\r\nBDAT 2\r\n\r\nBDAT 3 LAST\r\nx\r\n" MAIL, 0, "220 250 250 250 250 250 250", NULL, "message discarded" },
	{ "BDAT, all ACLs", ENVELOPE "BDAT 3 LAST\r\nx\r\nQUIT\r\n", ACLS, "220 250 250 250 250 221", "x\r\n", NULL },
	{ "DATA behind BDAT", ENVELOPE "BDAT 3\r\nx\r\nDATA\r\nBDAT 0 LAST\r\n", 0, "220 250 250 250 250 503 250", "x\r\n", "DATA may not follow BDAT" },
	{ "RCPT, MAIL behind BDAT", ENVELOPE "BDAT 3\r\nx\r\n" RCPT MAIL "NOOP\r\nBDAT 0 LAST\r\n", 0, "220 250 250 250 250 503 503 250 250", "x\r\n", NULL },
	{ "RSET between chunks", ENVELOPE "BDAT 3\r\nx\r\nRSET\r\nBDAT 6 LAST\r\nQUIT\r\n" MAIL RCPT "BDAT 3 LAST\r\ny\r\n", 0, "220 250 250 250 250 250 503 250 250 250", "y\r\n", NULL },
	{ "BDAT behind the last one", ENVELOPE "BDAT 3 LAST\r\nx\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", 0, "220 250 250 250 250 503 250", "x\r\n", NULL },
	{ "chunks too big", ENVELOPE "BDAT 1000\r\n" X1000 "BDAT 501\r\n" X100 X100 X100 X100 X100 "xBDAT 6 LAST\r\nQUIT\r\n" MAIL, SMALL,
	  "220 250 250 250 250 552 503 250", NULL, NULL },
	{ "the line end that was missing counts", ENVELOPE "BDAT 1000\r\n" X1000 "BDAT 500 LAST\r\n" X100 X100 X100 X100 X100 MAIL, SMALL, "220 250 250 250 250 552 250", NULL, NULL },
	{ "one chunk too big", ENVELOPE "BDAT 2000\r\n" X1000 X1000 MAIL, SMALL, "220 250 250 250 552 250", NULL, NULL },
	{ "header too big, in chunks", ENVELOPE "BDAT 1003\r\nA: " X1000 "BDAT 1004 LAST\r\n\r\n " X1000 "\r" "NOOP\r\n", FEW, "220 250 250 250 250 552 250", NULL, NULL },
	{ "loop, in chunks", ENVELOPE "BDAT 13\r\nReceived: 1\r\nBDAT 25\r\nReceived: 2\r\nreceived : 3BDAT 4 LAST\r\n\r\n\r\n", FEW, "220 250 250 250 250 250 550", NULL, "mail loop" },
	{ "BDAT, disk full", ENVELOPE "BDAT 3 LAST\r\nx\r\n" MAIL, NOSPACE, "220 250 250 250 452 250", NULL, "No space left" },
	{ "huge chunk", ENVELOPE "BDAT 9223372036854775807 LAST\r\nRSET\r\n", CLOSED, "220 250 250 250 552", NULL, NULL },
	{ "malformed: nothing", ENVELOPE "BDAT\r\nRSET\r\n", CLOSED, "220 250 250 250 501", NULL, "malformed BDAT" },
	{ "malformed: sign", ENVELOPE "BDAT +5\r\nRSET\r\n", CLOSED, "220 250 250 250 501", NULL, NULL },
	{ "malformed: minus", ENVELOPE "BDAT -5\r\nRSET\r\n", CLOSED, "220 250 250 250 501", NULL, NULL },
	{ "malformed: overflow", ENVELOPE "BDAT 18446744073709551617 LAST\r\nRSET\r\n", CLOSED, "220 250 250 250 501", NULL, NULL },
	{ "malformed: 21 digits", ENVELOPE "BDAT 000000000000000000005\r\nRSET\r\n", CLOSED, "220 250 250 250 501", NULL, NULL },
	{ "20 digits", ENVELOPE "BDAT 00000000000000000005 LAST\r\nRST\r\n", 0, "220 250 250 250 250", "RST\r\n", NULL },
	{ "malformed: hex", ENVELOPE "BDAT 0x5 LAST\r\nRSET\r\n", CLOSED, "220 250 250 250 501", NULL, NULL },
	{ "malformed: junk", ENVELOPE "BDAT 5 LAST 1\r\nRSET\r\n", CLOSED, "220 250 250 250 501", NULL, NULL },
	{ "malformed: no blank", ENVELOPE "BDAT 5LAST\r\nRSET\r\n", CLOSED, "220 250 250 250 501", NULL, NULL },
	{ "malformed: FIRST", ENVELOPE "BDAT 5 FIRST\r\nRSET\r\n", CLOSED, "220 250 250 250 501", NULL, NULL },
	{ "malformed: tab", ENVELOPE "BDAT 5\tLAST\r\nRSET\r\n", CLOSED, "220 250 250 250 501", NULL, NULL },
	{ "malformed: BDAT5", ENVELOPE "bdat5\r\nRSET\r\n", CLOSED, "220 250 250 250 501", NULL, NULL },
	{ "malformed: bare LF", ENVELOPE "BDAT 6 LAST\nRSET\r\nRSET\r\n", CLOSED, "220 250 250 250 501", NULL, NULL },
	{ "malformed: too long", ENVELOPE "BDAT " X1000 X1000 X100 "\r\nRSET\r\n", CLOSED, "220 250 250 250 501", NULL, NULL },

	/* PRDR: a reply for each recipient that was accepted, and the last one */
	{ "PRDR", PMAIL RCPTS("a@x") RCPTS("pdeny@x") RCPTS("pdefer@x") RCPTS("b@x") PDATA, PRDR, "220 250 250 250 250 250 250 354 353 250 550 450 250 250", "x\r\n", "a@x b@x " },
	{ "PRDR, text", PMAIL RCPTS("a@x") RCPTS("pdeny@x") PDATA, PRDR, "220 250 250 250 250 354 353 250 550 250", "x\r\n", "rejected PRDR <pdeny@x>" },
	{ "PRDR, for some", PMAIL RCPTS("a@x") RCPTS("pdeny@x") PDATA, PRDR, "220 250 250 250 250 354 353 250 550 250", "x\r\n", "message accepted for some recipients" },
	{ "PRDR, all refused", PMAIL RCPTS("pdeny@x") RCPTS("pdeny2@x") PDATA MAIL, PRDR, "220 250 250 250 250 354 353 550 550 550 250", NULL, "for all recipients" },
	{ "PRDR, all refused, one for now", PMAIL RCPTS("pdeny@x") RCPTS("pdefer@x") PDATA MAIL, PRDR, "220 250 250 250 250 354 353 550 450 450 250", NULL, NULL },
	{ "PRDR, discarded by RCPT", PMAIL RCPTS("discard@x") RCPTS("a@x") RCPTS("discard@x") RCPTS("pdeny@x") RCPTS("discard@x") PDATA MAIL, PRDR,
	  "220 250 250 250 250 250 250 250 354 353 250 250 250 550 250 250 250", "x\r\n", NULL },
	{ "PRDR, discarded by its ACL", PMAIL RCPTS("pdiscard@x") RCPTS("a@x") PDATA, PRDR, "220 250 250 250 250 354 353 250 250 250", "x\r\n", NULL },
	{ "PRDR, all discarded or refused", PMAIL RCPTS("pdiscard@x") RCPTS("pdeny@x") PDATA, PRDR, "220 250 250 250 250 354 353 250 550 250", NULL, "message discarded" },
	{ "PRDR, dropped", PMAIL RCPTS("a@x") RCPTS("pdrop@x") RCPTS("b@x") PDATA, PRDR | CLOSED, "220 250 250 250 250 250 354 353 250 550", NULL, NULL },
	{ "PRDR, delayed", PMAIL RCPTS("pdelay@x") RCPTS("b@x") PDATA, PRDR, "220 250 250 250 250 354 353 250 250 250", "x\r\n", NULL },
	{ "PRDR, lost worker", PMAIL RCPTS("plost@x") RCPTS("b@x") PDATA, PRDR, "220 250 250 250 250 354 353 450 250 250", "x\r\n", NULL },
	{ "PRDR, one recipient", PMAIL RCPTS("pdeny@x") PDATA, PRDR, "220 250 250 250 354 250", "x\r\n", NULL },
	{ "PRDR, one left", PMAIL RCPTS("pdeny@x") RCPTS("discard@x") PDATA, PRDR, "220 250 250 250 250 354 250", "x\r\n", NULL },
	{ "PRDR by BDAT", PMAIL RCPTS("a@x") RCPTS("pdeny@x") "BDAT 3 LAST\r\nx\r\n" MAIL, PRDR, "220 250 250 250 250 353 250 550 250 250", "x\r\n", NULL },
	{ "PRDR, message refused as a whole", PMAIL RCPTS("a@x") RCPTS("b@x") "DATA\r\na\rb\r\n.\r\n" MAIL, PRDR, "220 250 250 250 250 354 550 250", NULL, NULL },
	{ "PRDR not asked for", HELLO MAIL RCPTS("a@x") RCPTS("pdeny@x") PDATA, PRDR, "220 250 250 250 250 354 250", "x\r\n", NULL },
	{ "PRDR not offered", PMAIL "MAIL FROM:<a@b.example>\r\n", 0, "220 250 555 250", NULL, NULL },
	{ "PRDR with a value", HELLO "MAIL FROM:<a@b> PRDR=1\r\nMAIL FROM:<a@b> PRDR=\r\nMAIL FROM:<a@b> PRDR PRDR\r\n", PRDR, "220 250 501 501 501", NULL, NULL },

	/* XCLIENT: the session begins anew, for another client */
	{ "XCLIENT", HELLO "XCLIENT NAME=spike.example ADDR=198.51.100.7\r\n" SEND("x\r\n.\r\n"), XCLIENT, "220 250 220 250 250 250 354 250", "x\r\n",
	  "Hello spike.example [198.51.100.7]" },
	{ "XCLIENT before HELO, HELO and the rest", "XCLIENT HELO=h.example PROTO=ESMTP PORT=99 LOGIN=joe+2Bx DESTADDR=IPV6:2001:db8::1 DESTPORT=25 ADDR=ipv6:2001:db8::7\r\n"
	  MAIL RCPT "DATA\r\nx\r\n.\r\n", XCLIENT, "220 220 250 250 354 250", "x\r\n", "from [2001:db8::7] (helo=h.example)\r\n\tby mx.example with esmtpa " },
	{ "XCLIENT, what is not known", "XCLIENT NAME=[UNAVAILABLE] ADDR=[unavailable] PORT=[UNAVAILABLE] HELO=[UNAVAILABLE] LOGIN=[UNAVAILABLE] DESTADDR=[UNAVAILABLE]\r\n"
	  "XCLIENT NAME=[TEMPUNAVAIL]\r\n" MAIL, XCLIENT, "220 220 220 503", NULL, NULL },
	{ "XCLIENT not allowed", HELLO "XCLIENT ADDR=198.51.100.7\r\nNOOP\r\n", 0, "220 250 550 250", NULL, "rejected XCLIENT: not in hosts_xclient" },
	{ "XCLIENT in a transaction", HELLO MAIL "XCLIENT ADDR=198.51.100.7\r\n" RCPT, XCLIENT, "220 250 250 503 250", NULL, NULL },
	{ "XCLIENT offered", HELLO, XCLIENT, "220 250", NULL, "250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n" },
	{ "XCLIENT malformed", "XCLIENT\r\nXCLIENT ADDR\r\nXCLIENT ADDR=\r\n", XCLIENT, "220 501 501 501", NULL, NULL },
	{ "XCLIENT malformed addresses", "XCLIENT ADDR=2001:db8::7\r\nXCLIENT ADDR=1.2.3\r\nXCLIENT ADDR=IPV6:1.2.3.4\r\n", XCLIENT, "220 501 501 501", NULL, NULL },
	{ "XCLIENT malformed numbers", "XCLIENT PORT=65536\r\nXCLIENT PORT=-1\r\nXCLIENT DESTPORT=1x\r\n", XCLIENT, "220 501 501 501", NULL, NULL },
	{ "XCLIENT malformed texts", "XCLIENT NAME=a+0D+0Ab\r\nXCLIENT LOGIN=a+4\r\nXCLIENT PROTO=LMTP\r\n", XCLIENT, "220 501 501 501", NULL, NULL },
	{ "XCLIENT unknown, twice, half good", "XCLIENT FOO=1\r\nXCLIENT PORT=1 PORT=2\r\nXCLIENT ADDR=198.51.100.7 PORT=x\r\n" HELLO, XCLIENT, "220 501 501 501 250", NULL, "Hello c.example [192.0.2.1]" },
	{ "EHLO resets what HELO= said", "XCLIENT HELO=h.example\r\n" HELLO MAIL, XCLIENT, "220 220 250 250", NULL, NULL },
	{ "XCLIENT and more behind it", "XCLIENT PORT=1\r\n" HELLO, XCLIENT | SYNC | CLOSED, "220 554", NULL, "synchronization error" },

	/* LIMITS */
	{ "limits", HELLO, 0, "220 250", NULL, "250-LIMITS MAILMAX=1000 RCPTMAX=50000\r\n" },
	{ "limits, few", HELLO, FEW, "220 250", NULL, "250-LIMITS MAILMAX=2 RCPTMAX=2\r\n" },

	/* synchronisation; only seen when all comes at once */
	{ "data before 354", ENVELOPE "DATA\r\nx\r\n.\r\n", SYNC | CLOSED, "220 554", NULL, "synchronization error" },
	{ "EHLO and more", HELLO MAIL, SYNC | CLOSED, "220 554", NULL, NULL },

	/* PIPECONNECT: before the greeting */
	{ "early", ENVELOPE "DATA\r\n", SYNC | EARLY, "220 250 250 250 354", NULL, "250-PIPECONNECT" },
	{ "early BDAT", ENVELOPE "BDAT 3 LAST\r\nx\r\n" MAIL, SYNC | EARLY, "220 250 250 250 250 250", "x\r\n", NULL },
	{ "early BDAT, EHLO denied", "EHLO deny.example\r\n" MAIL RCPT "BDAT 8 LAST\r\nQUIT x\r\n" MAIL, SYNC | EARLY | ACLS, "220 550 503 503 503 503", NULL, NULL },
	{ "early, not offered", ENVELOPE, SYNC | EARLY | NOFFER | CLOSED, "554", NULL, "input sent without waiting for greeting" },
	{ "early, without PIPELINING", ENVELOPE, SYNC | EARLY | NOPIPE | CLOSED, "554", NULL, NULL },
	{ "early HELO", "HELO c.example\r\n" MAIL, SYNC | EARLY | CLOSED, "220 554", NULL, "synchronization error" },
	{ "early MAIL", MAIL RCPT, SYNC | EARLY | CLOSED, "220 554", NULL, NULL },
	{ "early, EHLO denied", "EHLO deny.example\r\n" MAIL RCPT "DATA\r\n", SYNC | EARLY | ACLS, "220 550 503 503 503", NULL, NULL },
	{ "early, EHLO malformed", "EHLO a b\r\n" MAIL RCPT RCPT RCPT RCPT "DATA\r\nMAIL\r\n", SYNC | EARLY | CLOSED, "220 501 503 503 503 503 503 554", NULL, NULL },
	{ "early, content before 354", ENVELOPE "DATA\r\nx\r\n.\r\n", SYNC | EARLY | CLOSED, "220 250 250 250 554", NULL, NULL },
	{ "early, the second EHLO", HELLO MAIL HELLO MAIL, SYNC | EARLY | CLOSED, "220 250 250 554", NULL, NULL },
	{ "early, after EHLO was denied", "EHLO deny.example\r\nEHLO c.example\r\n" MAIL, SYNC | EARLY | ACLS | CLOSED, "220 550 554", NULL, NULL },
	{ "early AUTH must be last", HELLO "AUTH PLAIN AAA=\r\n" MAIL, SYNC | EARLY | CLOSED, "220 250 554", NULL, NULL },
	{ "no offer without turns", HELLO MAIL, EARLY, "220 250 250", NULL, "250-PIPELINING\r\n250-CHUNKING" },

	/* local submission */
	{ "local", "MAIL FROM:<x@y.example>\r\nRCPT TO:<r@x.example>\r\nDATA\r\nSubject: s\r\n\r\nx\r\n.\r\n", LOCAL, "220 250 250 354 250",
	  "Subject: s\r\n\r\nx\r\n", "ann@mx.example" },
	{ "local, trusted", "MAIL FROM:<x@y.example>\r\nRCPT TO:<r@x.example>\r\nDATA\r\nFrom: <z@y>\r\n\r\nx\r\n.\r\n", LOCAL | TRUSTED, "220 250 250 354 250",
	  "From: <z@y>\r\n\r\nx\r\n", "x@y.example" },
	{ "local, null sender", "MAIL FROM:<>\r\nRCPT TO:<r>\r\nDATA\r\n\r\nx\r\n.\r\n", LOCAL, "220 250 250 354 250", "\r\nx\r\n", "r@mx.example" },
};

static void setup(struct mock *m, int flags, bool whole)
{
	struct settings *set = &m->server.settings;
	struct client_settings *c = m->server.everyone;

	set->enforce_sync = flags & SYNC;
	(void)whole;
	set->strict = !(flags & LENIENT);
	set->literals = flags & LITERALS;
	if (flags & SMALL)
		c->size_limit = 1500;
	if (flags & DSN)
		c->flags |= CLIENT_DSN;
	if (flags & UNQUALIFIED)
		c->flags |= CLIENT_SENDER_UNQUALIFIED | CLIENT_RCPT_UNQUALIFIED;
	m->input_waits = flags & EARLY;
	if (flags & EARLY && !(flags & NOFFER))
		c->flags |= CLIENT_PIPECONNECT;
	if (flags & NOPIPE)
		c->flags &= ~(uint32_t)CLIENT_PIPELINING;
	if (flags & XCLIENT)
		c->flags |= CLIENT_XCLIENT;
	if (flags & PRDR) {
		set->prdr = true;
		set->acl_stages |= 1u << ACL_PRDR;
	}
	if (flags & NOCHUNKS)
		c->flags &= ~(uint32_t)CLIENT_CHUNKING;
	set->utf8_domains = flags & UTF8_DOMAINS;
	if (flags & NOUTF8)
		c->flags &= ~(uint32_t)CLIENT_UTF8;
	if (flags & FEW) {
		set->recipients_max = 2;
		set->received_max = 2;
		set->header_max = 1200;
		c->max_per_connection = 2;
	}
	set->recipients_reject = flags & REJECT_OVER;
	if (flags & ACLS)
		set->acl_stages = ~0u & ~(1u << ACL_VRFY);
	if (flags & INTAKE) {
		m->server.intake_closed = true;
		m->server.intake_code = 452;
		strcpy(m->server.intake_text, "no room");
	}
	if (flags & NOSPACE)
		m->write_fails = ST_DEFER;
	if (flags & LOCAL) {
		m->session.local = true;
		m->session.trusted = flags & TRUSTED;
		m->session.ident = mem_strdup("ann");
		m->session.uid = 1001;
	}
}

/* "220 250": the codes of complete replies. */
static void codes_of(const struct buf *out, struct buf *codes)
{
	struct str rest = buf_str(out), line;

	while (str_split(&rest, '\n', &line)) {
		if (!line.len)
			continue;
		if (line.len < 5 || line.p[line.len - 1] != '\r')
			fail_msg("malformed reply line \"%.*s\"", STR_FMT(line));
		if (line.p[3] == ' ')
			buf_printf(codes, "%s%.3s", codes->len ? " " : "", line.p);
	}
}

/* %0 is a NUL. */
static size_t input_of(const char *in, char *out)
{
	size_t n = 0;

	for (; *in; in++, n++) {
		out[n] = *in;
		if (in[0] == '%' && in[1] == '0') {
			out[n] = 0;
			in++;
		}
	}
	return n;
}

static void run(const struct dialogue *d, size_t chunk, bool late)
{
	static char in[65536];
	size_t n = input_of(d->in, in);
	struct buf codes = BUF_INIT, all = BUF_INIT;
	struct mock m;

	mock_init(&m);
	setup(&m, d->flags, chunk == sizeof in);
	session_start(&m.session);
	mock_feed(&m, in, n, chunk, late);
	codes_of(&m.out, &codes);
	if (strcmp(buf_cstr(&codes), d->codes))
		fail_msg("%s (pieces of %zu, %s): got %s, want %s\n%s%s", d->name, chunk, late ? "late answers" : "answers at once", buf_cstr(&codes), d->codes,
			buf_cstr(&m.out), buf_cstr(&m.log));
	if (m.committed != (d->content != NULL))
		fail_msg("%s (pieces of %zu): %scommitted", d->name, chunk, m.committed ? "" : "not ");
	if (d->content && (m.content.len != strlen(d->content) || memcmp(m.content.p ? m.content.p : "", d->content, m.content.len)))
		fail_msg("%s (pieces of %zu): content \"%.*s\"", d->name, chunk, (int)m.content.len, m.content.p);
	buf_printf(&all, "%s%s%s%s\n%s", buf_cstr(&m.out), buf_cstr(&m.log), buf_cstr(&m.recipients), m.sender, buf_cstr(&m.edits));
	if (d->has && !strstr(buf_cstr(&all), d->has))
		fail_msg("%s: \"%s\" is missing in\n%s", d->name, d->has, buf_cstr(&all));
	if ((m.session.state == SESSION_CLOSING || m.session.state == SESSION_CLOSED) != (d->flags & CLOSED || str_ends(str_of(d->in), "\r\nQUIT\r\n")))
		fail_msg("%s: ended in state %s", d->name, session_state_name(&m.session));
	buf_clear(&codes);
	buf_clear(&all);
	mock_clear(&m);
}

static void test_dialogues(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof dialogues / sizeof *dialogues; i++) {
		run(&dialogues[i], 65536, false);
		run(&dialogues[i], 65536, true);
		if (dialogues[i].flags & SYNC)
			continue;
		for (size_t chunk = 1; chunk < 8; chunk++)
			run(&dialogues[i], chunk, false);
		run(&dialogues[i], 300, true);
	}
}

static void feed(struct mock *m, const char *in)
{
	mock_feed(m, in, strlen(in), strlen(in), false);
}

static void test_early_talker(void **state)
{
	struct mock m;

	(void)state;
	mock_init(&m);
	m.input_waits = m.server.settings.enforce_sync = true;
	session_start(&m.session);
	assert_non_null(strstr(buf_cstr(&m.out), "554 5.5.0 SMTP synchronization error"));
	assert_int_equal(m.session.state, SESSION_CLOSING);
	mock_clear(&m);
}

/* A load that passes queue_only_load and falls again: which of a connection's three messages wait. */
static void test_load(void **state)
{
	static const struct {
		const char *name;
		uint32_t limit;
		bool latch;
		uint32_t load[3];
		bool waits[3];
		unsigned lines;          /* in the log */
	} cases[] = {
		{ "no limit", LOAD_NO_LIMIT, true, { 90000, 90000, 90000 }, { false, false, false }, 0 },
		{ "below", 4000, true, { 4000, 100, 0 }, { false, false, false }, 0 },
		{ "above, then latched", 4000, true, { 0, 4001, 0 }, { false, true, true }, 1 },
		{ "above, not latched", 4000, false, { 4001, 0, 5000 }, { true, false, true }, 2 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		unsigned lines = 0;
		struct mock m;

		mock_init(&m);
		m.server.settings.queue_load = cases[i].limit;
		m.server.settings.queue_load_latch = cases[i].latch;
		session_start(&m.session);
		feed(&m, "EHLO c.example\r\n");
		for (unsigned k = 0; k < 3; k++) {
			m.server.load = cases[i].load[k];
			m.committed = false;
			feed(&m, MAIL RCPT "DATA\r\n");
			feed(&m, "Subject: x\r\n\r\n.\r\n");
			assert_true(m.committed || m.commit.content);
			if (!(m.commit.flags & MSG_QUEUE) != !cases[i].waits[k])
				fail_msg("%s: message %u: flags %x", cases[i].name, k, (unsigned)m.commit.flags);
		}
		for (const char *p = buf_cstr(&m.log); (p = strstr(p, "no immediate delivery: load average")); p++)
			lines++;
		assert_int_equal(lines, cases[i].lines);
		mock_clear(&m);
	}
}

/* smtp_load_reserve: only reserved hosts may come. */
static void test_load_reserve(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		bool high = i & 1, reserved = i & 2;
		struct mock m;

		mock_init(&m);
		m.server.settings.load_reserve = 2500;
		m.server.load = high ? 2501 : 2500;
		if (reserved)
			m.server.everyone->flags |= CLIENT_RESERVED;
		session_start(&m.session);
		if ((strstr(buf_cstr(&m.out), "421 4.3.2 mx.example Too much load; please try again later") != NULL) != (high && !reserved))
			fail_msg("load %u, %sreserved: %s", m.server.load, reserved ? "" : "not ", buf_cstr(&m.out));
		mock_clear(&m);
	}
}

/* Chunks that do not come to an end, wanted or not; too many of them. */
static void test_chunks(void **state)
{
	static const struct {
		const char *name, *begin, *step;
		unsigned step_s, most;       /* seconds each step takes; steps after which it must be over */
		const char *has;
	} cases[] = {
		{ "dribbles", ENVELOPE "BDAT 100000\r\n", "x\r\n", 1, 70, "SMTP data too slow (message abandoned) on connection from (c.example) [192.0.2.1] F=<a@b.example>" },
		{ "dribbles though refused", HELLO "BDAT 100000\r\n", "x", 1, 70, "SMTP data too slow (message abandoned) on connection from (c.example) [192.0.2.1] F=<>" },
		{ "chunks that dribble", ENVELOPE, "BDAT 3\r\nx\r\n", 100, 3, "421 4.4.2 mx.example SMTP data timeout" },
		{ "silence in a chunk", ENVELOPE "BDAT 100000\r\nx", "", 301, 1, "SMTP data timeout (message abandoned) on connection from (c.example) [192.0.2.1] F=<a@b.example>" },
		{ "silence in one that is refused", HELLO "BDAT 100000\r\nx", "", 301, 1, "F=<>" },
		{ "silence between chunks", ENVELOPE "BDAT 3\r\nx\r\n", "", 301, 1, "421 4.4.2 mx.example SMTP command timeout" },
		{ "small chunks", ENVELOPE, "BDAT 3\r\nx\r\n", 0, 1001, "421 4.7.0 mx.example too many small chunks" },
		{ "empty chunks", ENVELOPE, "BDAT 0\r\n", 0, 1001, "421 4.7.0 mx.example too many small chunks" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct mock m;
		unsigned steps = 0;

		mock_init(&m);
		session_start(&m.session);
		feed(&m, cases[i].begin);
		while (m.session.state != SESSION_CLOSING) {
			m.server.now_ms += 1000 * cases[i].step_s;
			session_on_deadline(&m.session);
			if (*cases[i].step)
				feed(&m, cases[i].step);
			if (++steps > cases[i].most)
				fail_msg("%s: not over after %u steps", cases[i].name, steps);
		}
		assert_false(m.committed);
		assert_null(m.session.txn);
		if (!strstr(buf_cstr(&m.out), cases[i].has) && !strstr(buf_cstr(&m.log), cases[i].has))
			fail_msg("%s: \"%s\" is missing in\n%s%s", cases[i].name, cases[i].has, buf_cstr(&m.out), buf_cstr(&m.log));
		mock_clear(&m);
	}
}

/* The connection is lost: what came goes. */
static void test_chunk_lost(void **state)
{
	static const char *const begins[] = { ENVELOPE "BDAT 10\r\nx\r\n", ENVELOPE "BDAT 3\r\nx\r\nBDAT 5 LAST\r\nx\r\n\r", HELLO "BDAT 10\r\nx" };

	(void)state;
	for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
		struct mock m;

		mock_init(&m);
		session_start(&m.session);
		feed(&m, begins[i]);
		assert_int_equal(m.session.state, SESSION_CHUNK);
		session_on_eof(&m.session, NULL);
		assert_int_equal(m.session.state, SESSION_CLOSED);
		assert_false(m.committed);
		assert_true(m.forgot == (i < 2));
		assert_non_null(strstr(buf_cstr(&m.log), "lost while reading message data"));
		mock_clear(&m);
	}
}

static void test_deadlines(void **state)
{
	struct mock m;

	(void)state;
	mock_init(&m); /* silence */
	session_start(&m.session);
	feed(&m, HELLO);
	m.server.now_ms += 299000;
	session_on_deadline(&m.session);
	assert_int_equal(m.session.state, SESSION_COMMAND);
	m.server.now_ms += 2000;
	session_on_deadline(&m.session);
	assert_non_null(strstr(buf_cstr(&m.out), "421 4.4.2 mx.example SMTP command timeout"));
	mock_clear(&m);

	mock_init(&m); /* a command that dribbles */
	m.server.settings.command_timeout_ms = 20000;
	session_start(&m.session);
	for (int i = 0; i < 30 && m.session.state == SESSION_COMMAND; i++) {
		char line[64];

		memset(line, 'N', sizeof line);
		session_input(&m.session, line, (size_t)i + 1);
		m.server.now_ms += 1000;
		session_on_deadline(&m.session);
		assert_true((m.session.state == SESSION_COMMAND) == (i < 19));
	}
	mock_clear(&m);

	mock_init(&m); /* data that dribble */
	session_start(&m.session);
	feed(&m, SEND(""));
	for (int i = 0; m.session.state == SESSION_DATA; i++) {
		feed(&m, "x\r\n");
		m.server.now_ms += 1000;
		session_on_deadline(&m.session);
		assert_true(i < 70);
	}
	assert_true(m.server.now_ms > 1060000 && !m.committed);
	assert_non_null(strstr(buf_cstr(&m.out), "421 4.4.2 mx.example SMTP data timeout"));
	mock_clear(&m);

	mock_init(&m); /* policyd does not answer */
	session_start(&m.session);
	session_input(&m.session, ENVELOPE, strlen(HELLO));
	session_input(&m.session, MAIL, strlen(MAIL));
	session_input(&m.session, RCPT, strlen(RCPT));
	assert_int_equal(m.session.state, SESSION_ASK);
	m.server.now_ms += SESSION_POLICY_WAIT_MS;
	session_on_deadline(&m.session);
	assert_non_null(strstr(buf_cstr(&m.out), "451 4.3.0"));
	mock_clear(&m);
}

static void test_qmgr_lost(void **state)
{
	struct mock m;

	(void)state;
	mock_init(&m); /* before the data: another file is asked for */
	session_start(&m.session);
	feed(&m, ENVELOPE);
	session_on_file_lost(&m.session);
	assert_int_equal(m.begins, 1);
	feed(&m, "DATA\r\n");
	assert_int_equal(m.begins, 2);
	assert_int_equal(m.session.state, SESSION_DATA);
	session_on_file_lost(&m.session); /* within the data: 451, and the session lives */
	feed(&m, "x\r\n.\r\nNOOP\r\n");
	assert_non_null(strstr(buf_cstr(&m.out), "451 4.3.0"));
	assert_false(m.committed);
	assert_int_equal(m.session.state, SESSION_COMMAND);
	mock_clear(&m);

	mock_init(&m); /* at the commit */
	session_start(&m.session);
	mock_feed(&m, SEND("x\r\n"), strlen(SEND("x\r\n")), 1000, false);
	session_input(&m.session, ".\r\n", 3);
	assert_int_equal(m.session.state, SESSION_COMMIT);
	session_on_commit(&m.session, ST_DEFER, false, STR_NULL);
	assert_non_null(strstr(buf_cstr(&m.out), "451 4.3.0"));
	mock_clear(&m);
}

static void test_ends(void **state)
{
	struct mock m;

	(void)state;
	mock_init(&m);
	session_start(&m.session);
	feed(&m, SEND("Subject"));
	session_on_eof(&m.session, NULL);
	assert_int_equal(m.session.state, SESSION_CLOSED);
	assert_true(m.forgot);
	assert_non_null(strstr(buf_cstr(&m.log), "lost while reading message data"));
	mock_clear(&m);

	mock_init(&m);
	session_start(&m.session);
	feed(&m, HELLO);
	session_on_drain(&m.session);
	assert_non_null(strstr(buf_cstr(&m.out), "421 4.3.2"));
	mock_clear(&m);

	mock_init(&m); /* no ACL for RCPT: nobody may send anything */
	m.server.settings.acl_stages = 0;
	session_start(&m.session);
	feed(&m, ENVELOPE);
	assert_non_null(strstr(buf_cstr(&m.out), "550 5.7.1 Administrative prohibition"));
	mock_clear(&m);
}

static void test_connect(void **state)
{
	struct ipc_pair settings[] = { { .name = STR_LIT("smtp_banner"), .value = STR_LIT("hello\nthere") }, { .name = STR_LIT("message_size_limit"), .value = STR_LIT("10K") },
		{ .name = STR_LIT("pipelining_advertise_hosts"), .value = STR_LIT("no") } };
	struct ipc_acl_answer answer = { .verdict = ACL_ACCEPT, .settings = settings, .n_settings = 3, .cache_scope = 2 };
	struct mock m;

	(void)state;
	mock_init(&m);
	client_settings_unref(m.server.everyone);
	m.server.everyone = NULL;
	session_start(&m.session);
	assert_true(m.asked && m.stage == ACL_CONNECT);
	m.asked = false;
	session_on_acl(&m.session, &answer, false, NULL);
	assert_true(!strncmp(buf_cstr(&m.out), "220-hello\r\n220 there\r\n", 22));
	assert_non_null(m.server.everyone);
	feed(&m, HELLO);
	assert_non_null(strstr(buf_cstr(&m.out), "250-SIZE 10240\r\n"));
	assert_null(strstr(buf_cstr(&m.out), "PIPELINING"));
	mock_clear(&m);

	mock_init(&m);
	client_settings_unref(m.server.everyone);
	m.server.everyone = NULL;
	session_start(&m.session);
	answer = (struct ipc_acl_answer){ .verdict = ACL_DENY, .text = STR_LIT("go away") };
	m.asked = false;
	session_on_acl(&m.session, &answer, false, NULL);
	assert_string_equal(buf_cstr(&m.out), "554 5.7.1 go away\r\n");
	assert_int_equal(m.session.state, SESSION_CLOSING);
	mock_clear(&m);
}

/* Header facts, edits, many recipients. */
static void test_commit(void **state)
{
	struct mock m;
	struct buf in = BUF_INIT;

	(void)state;
	mock_init(&m);
	session_start(&m.session);
	buf_adds(&in, HELLO MAIL);
	for (int i = 0; i < 1500; i++)
		buf_printf(&in, "RCPT TO:<r%d@x.example>\r\n", i);
	buf_adds(&in, "DATA\r\nReturn-Path: <x@y>\r\nMessage-ID:\r\n <a@b>\r\nSubject: su\r\n\tbj\r\nSubject: no\r\n\r\nbody\xff\r\n.\r\n");
	mock_feed(&m, in.p, in.len, in.len, false);
	assert_true(m.committed);
	assert_true(m.commit.recipients_sent == 1200 || m.commit.recipients_sent > 1000);
	assert_int_equal(m.commit.recipients_sent + m.commit.n_recipients, 1500);
	assert_true(m.commit.content_8bit);
	assert_int_equal(m.commit.header_size, 74);
	assert_int_equal(m.commit.longest_line, 18);
	assert_true(!(m.commit.flags & MSG_HEADER_OPEN));
	assert_non_null(strstr(buf_cstr(&m.edits), "1:Received: from [192.0.2.1] (helo=c.example)"));
	assert_non_null(strstr(buf_cstr(&m.edits), "5:Return-path|"));
	buf_clear(&in);
	mock_clear(&m);

	mock_init(&m);
	session_start(&m.session);
	feed(&m, SEND("no header\r\n.\r\n"));
	assert_true(m.commit.flags & MSG_HEADER_OPEN);
	assert_int_equal(m.commit.header_size, 0);
	assert_non_null(strstr(buf_cstr(&m.edits), "for r@x.example;\r\n\tSat, 21 Nov 2026"));
	mock_clear(&m);
}

static void test_size(void **state)
{
	(void)state;
	if (session_size() > 1024)
		fail_msg("a session has %zu octets", session_size());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dialogues), cmocka_unit_test(test_early_talker), cmocka_unit_test(test_chunks), cmocka_unit_test(test_chunk_lost), cmocka_unit_test(test_deadlines), cmocka_unit_test(test_load), cmocka_unit_test(test_load_reserve), cmocka_unit_test(test_qmgr_lost),
		cmocka_unit_test(test_ends), cmocka_unit_test(test_connect), cmocka_unit_test(test_commit), cmocka_unit_test(test_size),
	};

	setenv("TZ", "UTC", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
