/*
 * identity.h
 *	  From what a connection and a request carry to an Identity.
 *
 * Token first, then the certificate's CN, never both; a bad token never falls
 * back to the certificate.  An empty CN, or one that names no user, is nobody.
 * etcd-auth-semantics.md A3.
 */
#ifndef AUTH_IDENTITY_H
#define AUTH_IDENTITY_H

#include "common/logop.h"
#include "storage/snap/store.h"
#include "utils/errcodes.h"
#include "utils/mmgr.h"

typedef struct Credentials
{
	bool		has_token;		/* a token was sent, even an empty one */
	Bytes		token;			/* "Bearer " already taken off */
	Bytes		common_name;	/* of the verified certificate; empty: none */
} Credentials;

/*
 * Resolve on a pinned version.  With auth off: IDENTITY_NONE, ERR_NONE, and
 * a token is not even looked at.  ERR_INVALID_AUTH_TOKEN for a bad one.
 * identity->user lives in mcx, so it may be kept after the pin is given back.
 */
extern ErrCode identity_resolve(const StoreVersion *v,
								const Credentials *credentials,
								MemContext *mcx, Identity *identity);

/*
 * The same for somebody who is here already and goes on (a watch): looking does
 * not count as a use of the token.  *until_ms: when to look again at the
 * latest, because the token expires (CLOCK_MONOTONIC; INT64_MAX: never).
 */
extern ErrCode identity_check(const StoreVersion *v,
							  const Credentials *credentials,
							  MemContext *mcx, Identity *identity,
							  int64_t *until_ms);

#endif							/* AUTH_IDENTITY_H */
