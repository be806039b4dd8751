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

/* what a stored version costs besides key and value (E8) */
#define PUT_OVERHEAD_BYTES 256

static uint64_t put_cost(const PutOp *put);
static uint64_t txn_cost(const TxnOp *txn);
static uint64_t branch_cost(const KvOp *ops, uint32_t n);

uint64_t
limits_cost(const LogOp *op)
{
	switch (op->kind)
	{
		case LOGOP_PUT:
			return put_cost(&op->put);
		case LOGOP_TXN:
			return txn_cost(&op->txn);
		default:
			return 0;
	}
}

ErrCode
limits_check_quota(const StoreVersion *v, const LogOp *op)
{
	uint64_t	cost = limits_cost(op);
	uint64_t	quota;

	if (cost == 0)
		return ERR_NONE;
	quota = (uint64_t) guc_effective_quota();
	if (v->live_bytes > quota || cost > quota - v->live_bytes)
		return ERR_NO_SPACE;
	return ERR_NONE;
}

static uint64_t
put_cost(const PutOp *put)
{
	return PUT_OVERHEAD_BYTES + put->key.len + put->value.len;
}

/* Only one branch runs: the dearer one counts. */
static uint64_t
txn_cost(const TxnOp *txn)
{
	uint64_t	success = branch_cost(txn->success, txn->nsuccess);
	uint64_t	failure = branch_cost(txn->failure, txn->nfailure);

	return success > failure ? success : failure;
}

static uint64_t
branch_cost(const KvOp *ops, uint32_t n)
{
	uint64_t	cost = 0;

	for (uint32_t i = 0; i < n; i++)
	{
		if (ops[i].kind == KVOP_PUT)
			cost += put_cost(&ops[i].put);
		else if (ops[i].kind == KVOP_TXN)
			cost += txn_cost(&ops[i].txn);
	}
	return cost;
}
