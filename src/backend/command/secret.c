/*
 * secret.c
 *	  Passwords in decoded messages do not outlive their use.
 *
 * The bytes of the message before decoding are the door's; the copy for the
 * hashing thread is wiped by the pool.
 */
#include "server.h"

/* this layer and below */
#include "command/secret.h"

static void wipe(void *secret);

Bytes
secret_take(Request *req, char *field)
{
	Bytes	   *secret = mcx_alloc(req->mcx, sizeof(*secret));

	/* its length now: it may be all zero when the request ends */
	*secret = bytes_from_cstr(field);
	mcx_on_reset(req->mcx, wipe, secret);
	return *secret;
}

void
secret_forget(Bytes secret)
{
	/* an empty one may be protobuf-c's constant */
	if (secret.len > 0)
		secret_wipe((void *) secret.data, secret.len);
}

static void
wipe(void *secret)
{
	secret_forget(*(Bytes *) secret);
}
