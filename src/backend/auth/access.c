/*
 * access.c
 *	  What a request needs: any request as one flat list.
 *
 * One walk over the operation, nested transactions and their compares
 * included, both branches whatever the outcome would be.  The ranges in the
 * list are the very ones that are executed.
 *
 * Fails closed: a kind of operation that is not known here, or nesting deeper
 * than any entry of the log can have, becomes NEED_REFUSED.
 *
 * Rules: etcd-auth-semantics.md part B.
 */
#include "server.h"

/* this layer and below */
#include "auth/authorize.h"

#define ACCESS_FIRST_OPS 8

static void add_op(AccessList *list, const AccessOp *op);
static void add_range_op(AccessList *list, const RangeOp *op);
static void add_put(AccessList *list, const PutOp *op);
static void add_delete(AccessList *list, const DeleteOp *op);
static void add_txn(AccessList *list, const TxnOp *txn, unsigned depth);
static void add_kvops(AccessList *list, const KvOp *ops, uint32_t n,
					  unsigned depth);
static void add_kvop(AccessList *list, const KvOp *op, unsigned depth);

void
access_init(AccessList *list, MemContext *mcx)
{
	*list = (AccessList) {.mcx = mcx};
}

void
access_add(AccessList *list, AccessNeed need)
{
	add_op(list, &(AccessOp) {.need = need});
}

void
access_add_range(AccessList *list, AccessNeed need, const KeyRange *range)
{
	add_op(list, &(AccessOp) {.need = need, .range = *range});
}

void
access_add_name(AccessList *list, AccessNeed need, Bytes name)
{
	add_op(list, &(AccessOp) {.need = need, .name = name});
}

void
access_add_lease(AccessList *list, AccessNeed need, int64_t lease)
{
	add_op(list, &(AccessOp) {.need = need, .lease = lease});
}

void
access_add_kvop(AccessList *list, const KvOp *op)
{
	add_kvop(list, op, 1);
}

void
access_add_logop(AccessList *list, const LogOp *op)
{
	switch (op->kind)
	{
		case LOGOP_PUT:
			add_put(list, &op->put);
			return;
		case LOGOP_DELETE:
			add_delete(list, &op->delete);
			return;
		case LOGOP_TXN:
			add_txn(list, &op->txn, 1);
			return;
		case LOGOP_LEASE_GRANT:
			access_add(list, NEED_IDENTITY);
			return;
		case LOGOP_LEASE_REVOKE:
		case LOGOP_LEASE_RENEW:
			access_add(list, NEED_IDENTITY);
			access_add_lease(list, NEED_LEASE_WRITE, op->lease.id);
			return;
		case LOGOP_LEASE_CHECKPOINT:
			access_add(list, NEED_INTERNAL);
			return;
		case LOGOP_COMPACT:
		case LOGOP_AUTH_ENABLE:
		case LOGOP_AUTH_DISABLE:
		case LOGOP_USER_ADD:
		case LOGOP_USER_DELETE:
		case LOGOP_USER_CHANGE_PASSWORD:
		case LOGOP_USER_GRANT_ROLE:
		case LOGOP_USER_REVOKE_ROLE:
		case LOGOP_ROLE_ADD:
		case LOGOP_ROLE_DELETE:
		case LOGOP_ROLE_GRANT_PERMISSION:
		case LOGOP_ROLE_REVOKE_PERMISSION:
		case LOGOP_ALARM:
			access_add(list, NEED_ADMIN);
			return;
		case LOGOP_AUTHENTICATE:
			/* the password is the right */
			access_add(list, NEED_NOBODY);
			return;
		case LOGOP_QUOTA_REACHED:
			/* a backend says so for whoever was allowed to write */
			access_add(list, NEED_IDENTITY);
			return;
		case LOGOP_MEMBER_PUBLISH:
			access_add(list, NEED_INTERNAL);
			return;
	}
	access_add(list, NEED_REFUSED);
}

/* ---- static ---- */

static void
add_kvop(AccessList *list, const KvOp *op, unsigned depth)
{
	switch (op->kind)
	{
		case KVOP_RANGE:
			add_range_op(list, &op->range);
			return;
		case KVOP_PUT:
			add_put(list, &op->put);
			return;
		case KVOP_DELETE:
			add_delete(list, &op->delete);
			return;
		case KVOP_TXN:
			add_txn(list, &op->txn, depth);
			return;
	}
	access_add(list, NEED_REFUSED);
}

/* also for count_only and keys_only: they tell about keys, too */
static void
add_range_op(AccessList *list, const RangeOp *op)
{
	access_add_range(list, NEED_READ, &op->range);
}

static void
add_put(AccessList *list, const PutOp *op)
{
	KeyRange	key = keyrange_make(op->key, BYTES_EMPTY);

	access_add_range(list, NEED_WRITE, &key);
	if (op->lease != 0)
		access_add_lease(list, NEED_LEASE_WRITE, op->lease);
	if (op->prev_kv)
		access_add_range(list, NEED_READ, &key);
}

static void
add_delete(AccessList *list, const DeleteOp *op)
{
	if (op->prev_kv)
		access_add_range(list, NEED_READ, &op->range);
	access_add_range(list, NEED_WRITE, &op->range);
}

static void
add_txn(AccessList *list, const TxnOp *txn, unsigned depth)
{
	uint32_t	before = list->n;

	if (depth > LOGOP_MAX_TXN_DEPTH)
	{
		access_add(list, NEED_REFUSED);
		return;
	}
	for (uint32_t i = 0; i < txn->ncompares; i++)
		access_add_range(list, NEED_READ, &txn->compares[i].range);
	add_kvops(list, txn->success, txn->nsuccess, depth);
	add_kvops(list, txn->failure, txn->nfailure, depth);

	/*
	 * A transaction that does and compares nothing needs no right to a key,
	 * but somebody must have sent it: there is no anonymous access.  (etcd
	 * answers it to anybody.)
	 */
	if (list->n == before)
		access_add(list, NEED_IDENTITY);
}

static void
add_kvops(AccessList *list, const KvOp *ops, uint32_t n, unsigned depth)
{
	for (uint32_t i = 0; i < n; i++)
		add_kvop(list, &ops[i], depth + 1);
}

static void
add_op(AccessList *list, const AccessOp *op)
{
	if (list->n == list->cap)
	{
		uint32_t	cap = list->cap == 0 ? ACCESS_FIRST_OPS : list->cap * 2;

		list->ops = mcx_grow(list->mcx, list->ops,
							 list->cap * sizeof(*list->ops),
							 cap * sizeof(*list->ops));
		list->cap = cap;
	}
	list->ops[list->n++] = *op;
}
