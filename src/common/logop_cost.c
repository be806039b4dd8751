/*
 * logop_cost.c
 *	  How much an operation may add to the store.
 *
 * etcd's estimate (etcd-auth-semantics.md E8), the same on every member: apply
 * refuses by it while there is an alarm, so it looks at the operation alone.
 */
#include "server.h"

/* this layer and below */
#include "common/logop.h"

/* what a stored version costs besides key and value */
#define PUT_OVERHEAD_BYTES 256
#define LEASE_GRANT_BYTES 64

static uint64_t put_cost(const PutOp *put);
static uint64_t txn_cost(const TxnOp *txn);
static uint64_t branch_cost(const KvOp *ops, uint32_t n);

uint64_t
logop_cost(const LogOp *op)
{
	switch (op->kind)
	{
		case LOGOP_PUT:
			return put_cost(&op->put);
		case LOGOP_TXN:
			return txn_cost(&op->txn);
		case LOGOP_LEASE_GRANT:
			return LEASE_GRANT_BYTES;
		default:
			return 0;
	}
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
