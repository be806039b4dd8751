/*
 * conn.h
 *	  One client connection as a stream of bytes, plain or TLS.
 *
 * Never blocks.  Used by a backend, which owns exactly one.
 */
#ifndef COMM_CONN_H
#define COMM_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/bytes.h"

typedef struct TlsContext TlsContext;
typedef struct Conn Conn;

typedef enum ConnResult
{
	CONN_OK,
	CONN_WANT_READ,				/* call again when readable */
	CONN_WANT_WRITE,
	CONN_CLOSED,				/* the peer has closed */
	CONN_FAILED					/* conn_error() says why */
} ConnResult;

/* takes over fd (made non-blocking); tls NULL: plain */
extern Conn *conn_create(int fd, TlsContext *tls);
extern void conn_destroy(Conn *conn);	/* sends close_notify if it can */
extern int	conn_fd(const Conn *conn);

/* CONN_OK at once on a plain connection */
extern ConnResult conn_handshake(Conn *conn);
extern ConnResult conn_read(Conn *conn, void *data, size_t size, size_t *got);
extern ConnResult conn_write(Conn *conn, const void *data, size_t size,
							 size_t *sent);
/* decrypted bytes that epoll does not know of */
extern bool conn_has_pending(const Conn *conn);

extern const char *conn_error(const Conn *conn);
extern bool conn_is_tls(const Conn *conn);
/* "h2", "http/1.1" or "" */
extern const char *conn_alpn(const Conn *conn);
/* CN of the verified client certificate when client_cert_auth; else empty */
extern Bytes conn_common_name(const Conn *conn);
/* whether there is one, with client_cert_auth or without */
extern bool conn_has_certificate(const Conn *conn);
/* see tls_session_is_still_good(); plain connections are */
extern bool conn_is_still_good(const Conn *conn, TlsContext *now);
/* "127.0.0.1:5000", "unix" */
extern const char *conn_peer_name(const Conn *conn);

#endif							/* COMM_CONN_H */
