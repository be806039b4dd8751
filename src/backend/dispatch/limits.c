/*
 * limits.c
 *	  The quota on stored bytes.
 *
 * Judged on the version that was current when the request was permitted, so
 * requests that are on their way at the same time can overshoot by what they
 * carry together; shared memory is reserved with room for that
 * (guc_effective_shared_memory).  What frees space is never refused.
 */
#include "server.h"

/* lib and utils */
#include "utils/guc.h"

/* this layer and below */
#include "dispatch/limits.h"

ErrCode
limits_check_quota(const StoreVersion *v, const LogOp *op)
{
	uint64_t	cost = logop_cost(op);
	uint64_t	quota;

	if (cost == 0)
		return ERR_NONE;
	quota = (uint64_t) guc_effective_quota();
	if (v->live_bytes > quota || cost > quota - v->live_bytes)
		return ERR_NO_SPACE;
	return ERR_NONE;
}
