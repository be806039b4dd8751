/*
 * tlswarm.c
 *	  One TLS connection of the postmaster with itself, before the first fork.
 *
 * OpenSSL looks up an algorithm when a handshake first needs it, and keeps what
 * it found.  When the postmaster has done that, the backends inherit it: a
 * handshake takes fewer instructions, and the memory is shared, not one copy
 * for each connection.
 *
 * Nothing depends on the outcome.  Where client certificates are asked for,
 * this client has none and is refused; by then nearly everything has been used.
 */
#include "server.h"

/* libraries */
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

/* this layer and below */
#include "comm/tls.h"

/* a handshake is done after 2 or 3; the bound is for one that never is */
#define MAX_ROUNDS 20

static SSL *create_client(SSL_CTX *ctx);
static bool connect_pair(SSL *client, SSL *server);
static void exchange(SSL *client, SSL *server);

void
tls_context_warm(TlsContext *tls)
{
	SSL_CTX    *ctx = SSL_CTX_new(TLS_client_method());
	SSL		   *client = create_client(ctx);
	SSL		   *server = tls_session_create(tls);

	if (client != NULL && server != NULL && connect_pair(client, server))
		exchange(client, server);
	SSL_free(client);
	SSL_free(server);
	SSL_CTX_free(ctx);
	ERR_clear_error();
}

/* NULL if there is no ctx, or OpenSSL refuses. */
static SSL *
create_client(SSL_CTX *ctx)
{
	static const uint8_t h2[] = "\x02h2";
	SSL		   *client = ctx == NULL ? NULL : SSL_new(ctx);

	if (client == NULL)
		return NULL;
	SSL_set_connect_state(client);
	/* 0 is success here */
	if (SSL_set_alpn_protos(client, h2, sizeof(h2) - 1) != 0)
	{
		SSL_free(client);
		return NULL;
	}
	return client;
}

static bool
connect_pair(SSL *client, SSL *server)
{
	BIO		   *client_bio;
	BIO		   *server_bio;

	if (BIO_new_bio_pair(&client_bio, 0, &server_bio, 0) != 1)
		return false;
	SSL_set_bio(client, client_bio, client_bio);
	SSL_set_bio(server, server_bio, server_bio);
	return true;
}

/* Shake hands, and one byte each way. */
static void
exchange(SSL *client, SSL *server)
{
	char		byte = 0;

	for (int i = 0; i < MAX_ROUNDS; i++)
	{
		int			done = SSL_do_handshake(client);

		if (SSL_do_handshake(server) == 1 && done == 1)
			break;
	}
	if (SSL_write(client, &byte, 1) == 1 && SSL_read(server, &byte, 1) == 1 &&
		SSL_write(server, &byte, 1) == 1)
		(void) SSL_read(client, &byte, 1);
}
