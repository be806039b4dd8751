/*
 * tls.h
 *	  The TLS settings of the client port as one checked context.
 *
 * The postmaster makes it at start and on reload, before any fork that uses
 * it, so that a backend pays no file reading and all share ticket keys.  A
 * mistake (missing file, key that does not fit, expired certificate, bad CRL)
 * is reported with file and reason and leaves the earlier context in force.
 *
 * As in etcd, a client must show a certificate when client_cert_auth is on or
 * a trusted_ca_file is given; its CN is an identity only with client_cert_auth.
 * Without a trusted_ca_file client_cert_auth is refused: any public CA could
 * otherwise make a "root".
 */
#ifndef COMM_TLS_H
#define COMM_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm/conn.h"

typedef struct TlsOptions
{
	const char *cert_file;
	const char *key_file;
	const char *trusted_ca_file;
	const char *crl_file;
	bool		client_cert_auth;
	const char *allowed_hostnames;	/* commas; one must match a SAN */
	const char *cipher_suites;	/* commas; IANA or OpenSSL names */
	const char *min_version;
	const char *max_version;
} TlsOptions;

/*
 * NULL and a line in error when something is wrong.  Strings may be NULL or
 * empty; nothing of options is kept.
 */
extern TlsContext *tls_context_create(const TlsOptions *options, char *error,
									  size_t error_size);
/* connections that were made with it go on */
extern void tls_context_destroy(TlsContext *tls);

/*
 * Let OpenSSL do once what each backend would do again at its first handshake
 * (tlswarm.c).  For the postmaster, after the first context was made.
 */
extern void tls_context_warm(TlsContext *tls);

/* ---- for conn.c ---- */

/* server side of a new connection, no BIO yet; NULL if OpenSSL refuses */
extern struct ssl_st *tls_session_create(TlsContext *tls);

/*
 * The last CN of the verified certificate, in UTF-8, as Go's crypto/x509
 * reads it.  False when client_cert_auth is off or there is none; free() the
 * result.
 */
extern bool tls_session_common_name(const struct ssl_st *ssl, uint8_t **name,
									size_t *len);

/*
 * After a reload: would the handshake of this session end well now, as far as
 * the client's certificate goes, and would its name count as it did?
 */
extern bool tls_session_is_still_good(TlsContext *now, const struct ssl_st *ssl);

/* why the last OpenSSL call failed, as one line; empties the error queue */
extern void tls_error_text(char *text, size_t size);

#endif							/* COMM_TLS_H */
