/*
 * tls.h
 *	  The TLS settings of the client port as one checked context.
 *
 * The postmaster makes it at start and on reload, before any fork that uses
 * it, so that a backend pays no file reading and all share ticket keys.  A
 * mistake (missing file, key that does not fit, expired certificate, bad CRL)
 * is reported with file and reason and leaves the earlier context in force.
 */
#ifndef COMM_TLS_H
#define COMM_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "comm/conn.h"

typedef struct TlsOptions
{
	const char *cert_file;
	const char *key_file;
	const char *trusted_ca_file;
	const char *crl_file;
	bool		client_cert_auth;
	const char *allowed_hostnames;	/* commas */
	const char *cipher_suites;
	const char *min_version;
	const char *max_version;
} TlsOptions;

extern TlsContext *tls_context_create(const TlsOptions *options, char *error,
									  size_t error_size);
extern void tls_context_destroy(TlsContext *tls);

#endif							/* COMM_TLS_H */
