/*
 * renewal.h
 *	  A keepalive on its way from a backend to the raft worker
 *	  (SUBMIT_LEASE_RENEW).
 *
 * The backend has asked on a version that it pinned whether the caller may do
 * this, which can mean looking at many keys; the raft worker, where all
 * keepalives meet, does not ask again but sees to it that nothing has changed
 * of what the answer stood on: the rights (auth revision) and what hangs on the
 * lease.  If something has, the backend asks again.
 *
 * No log entry is made: deadlines are not replicated (lease/lease.h).
 */
#ifndef LEASE_RENEWAL_H
#define LEASE_RENEWAL_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/buf.h"
#include "storage/snap/store.h"
#include "utils/errcodes.h"

typedef struct LeaseRenewal
{
	int64_t		id;
	uint64_t	auth_revision;	/* 0: auth was off */
	uint64_t	changed;		/* LeaseEntry.changed; 0: there was no such lease,
								 * or auth was off */
} LeaseRenewal;

/* for this lease on this version */
extern LeaseRenewal lease_renewal_make(const StoreVersion *v, int64_t id);

extern void lease_renewal_encode(const LeaseRenewal *renewal, Buf *out);
extern bool lease_renewal_decode(Bytes payload, LeaseRenewal *renewal);

/*
 * Renew it.  *ttl_sec as from lease_renew(), 0 also if there is none.
 * ERR_AUTH_OLD_REVISION: ask again whether the caller may.
 */
extern ErrCode lease_renewal_execute(const StoreVersion *v,
									 const LeaseRenewal *renewal,
									 int64_t now_ms, int64_t *ttl_sec);

#endif							/* LEASE_RENEWAL_H */
