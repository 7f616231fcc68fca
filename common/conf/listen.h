/* SPDX-License-Identifier: ISC */
/* listen.h - on which addresses and ports to listen, from local_interfaces, daemon_smtp_ports and tls_on_connect_ports.
 * Used by:    master, which binds them; checks.
 * Owns:       results are allocated from the caller's arena.
 * Errors:     ST_ERROR with the option and the item. */
#ifndef CONF_LISTEN_H
#define CONF_LISTEN_H

#include "common/conf/conf.h"

enum { CONF_LISTENERS_MAX = 1024 };

struct conf_listener {
	struct str ip;        /* "::" and "0.0.0.0" for all interfaces; zero-terminated */
	uint16_t port;
	bool v6, tls;         /* tls: begins with TLS */
};

/* The sockets to bind, in order. One of two for the same address and port is an error. */
enum status conf_listeners_get(const struct conf *conf, struct arena *a, struct conf_listener **v_out, uint32_t *n_out, struct err *err);

/* "IP", "IP.PORT", "[IP]:PORT" or "[IP]"; *port_out is 0 where there is none. ip_out is the address in its usual form. */
enum status conf_endpoint_parse(struct str s, struct arena *a, struct str *ip_out, bool *v6_out, uint16_t *port_out, struct err *err);
/* A number or the name of a TCP service. */
enum status conf_port_parse(struct str s, uint16_t *port_out, struct err *err);

#endif
