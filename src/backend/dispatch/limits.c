/*
 * limits.c
 *	  The quota on stored bytes.
 *
 * Judged on the version that was current when the request was permitted, so
 * requests that are on their way at the same time can overshoot by what they
 * carry together; shared memory is reserved with room for that
 * (guc_effective_shared_memory).  What frees space is never refused.
 *
 * Leases are granted to every user, also to one who may not write a single key.
 * So they may take only a share of the quota: beyond it there are no more
 * leases, but nobody's puts are refused and no alarm is raised.
 */
#include "server.h"

/* lib and utils */
#include "utils/guc.h"

/* this layer and below */
#include "dispatch/limits.h"
#include "lease/lease.h"

#define LEASE_SHARE 8

ErrCode
limits_check_quota(const StoreVersion *v, const LogOp *op)
{
	uint64_t	cost = logop_cost(op);
	uint64_t	quota;

	if (cost == 0)
		return ERR_NONE;
	quota = (uint64_t) guc_effective_quota();
	if (op->kind == LOGOP_LEASE_GRANT &&
		v->leases.nitems >= quota / LEASE_SHARE / LEASE_LIVE_BYTES)
		return ERR_TOO_MANY_LEASES;
	if (v->live_bytes > quota || cost > quota - v->live_bytes)
		return ERR_NO_SPACE;
	return ERR_NONE;
}
