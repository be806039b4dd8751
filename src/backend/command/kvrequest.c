/*
 * kvrequest.c
 *	  From protobuf requests to key-value operations.
 *
 * Here a (key, range_end) pair becomes a KeyRange, once; nothing behind this
 * file sees the pair again.  The order of the checks is etcd's, because a
 * client with two mistakes in its request is told of the same one.
 */
#include "server.h"

/* this layer and below */
#include "command/kvrequest.h"
#include "command/pbbytes.h"

#define HAS_ARM(compare, arm) \
	((compare)->target_union_case == ETCDSERVERPB__COMPARE__TARGET_UNION_##arm)

static ErrCode convert_txn(const Etcdserverpb__TxnRequest *message,
						   uint64_t max_ops, unsigned depth, MemContext *mcx,
						   TxnOp *op);
static ErrCode convert_compares(const Etcdserverpb__TxnRequest *message,
								MemContext *mcx, TxnOp *op);
static void convert_compare(const Etcdserverpb__Compare *message,
							CompareOp *op);
static int64_t compare_number(const Etcdserverpb__Compare *message);
static ErrCode convert_branch(Etcdserverpb__RequestOp **messages, size_t n,
							  uint64_t max_ops, unsigned depth,
							  MemContext *mcx, KvOp **ops, uint32_t *nops);
static ErrCode convert_op(const Etcdserverpb__RequestOp *message,
						  uint64_t max_ops, unsigned depth, MemContext *mcx,
						  KvOp *op);

ErrCode
kvrequest_range(const Etcdserverpb__RangeRequest *message, RangeOp *op)
{
	if (message->key.len == 0)
		return ERR_EMPTY_KEY;
	/* enums are open: any number can arrive */
	if ((uint32_t) message->sort_order > SORT_DESCEND ||
		(uint32_t) message->sort_target > SORT_BY_VALUE)
		return ERR_INVALID_SORT_OPTION;
	*op = (RangeOp) {
		.range = keyrange_make(pb_bytes(message->key),
							   pb_bytes(message->range_end)),
		.limit = message->limit,
		.revision = message->revision,
		.min_mod_revision = message->min_mod_revision,
		.max_mod_revision = message->max_mod_revision,
		.min_create_revision = message->min_create_revision,
		.max_create_revision = message->max_create_revision,
		.sort_order = (SortOrder) message->sort_order,
		.sort_target = (SortTarget) message->sort_target,
		.serializable = message->serializable,
		.keys_only = message->keys_only,
		.count_only = message->count_only,
	};
	return ERR_NONE;
}

ErrCode
kvrequest_put(const Etcdserverpb__PutRequest *message, PutOp *op)
{
	if (message->key.len == 0)
		return ERR_EMPTY_KEY;
	if (message->ignore_value && message->value.len != 0)
		return ERR_VALUE_PROVIDED;
	if (message->ignore_lease && message->lease != 0)
		return ERR_LEASE_PROVIDED;
	*op = (PutOp) {
		.key = pb_bytes(message->key),
		.value = pb_bytes(message->value),
		.lease = message->lease,
		.prev_kv = message->prev_kv,
		.ignore_value = message->ignore_value,
		.ignore_lease = message->ignore_lease,
	};
	return ERR_NONE;
}

ErrCode
kvrequest_delete(const Etcdserverpb__DeleteRangeRequest *message, DeleteOp *op)
{
	if (message->key.len == 0)
		return ERR_EMPTY_KEY;
	*op = (DeleteOp) {
		.range = keyrange_make(pb_bytes(message->key),
							   pb_bytes(message->range_end)),
		.prev_kv = message->prev_kv,
	};
	return ERR_NONE;
}

ErrCode
kvrequest_txn(const Etcdserverpb__TxnRequest *message, uint64_t max_ops,
			  MemContext *mcx, TxnOp *op)
{
	return convert_txn(message, max_ops, 1, mcx, op);
}

static ErrCode
convert_txn(const Etcdserverpb__TxnRequest *message, uint64_t max_ops,
			unsigned depth, MemContext *mcx, TxnOp *op)
{
	uint64_t	here = size_max(message->n_compare,
								size_max(message->n_success,
										 message->n_failure));
	ErrCode		error;

	/* before anything is allocated for them */
	if (here > max_ops || depth > KVREQUEST_MAX_TXN_DEPTH)
		return ERR_TOO_MANY_OPS;
	*op = (TxnOp) {0};
	error = convert_compares(message, mcx, op);
	/* what is nested may use what this level leaves */
	if (error == ERR_NONE)
		error = convert_branch(message->success, message->n_success,
							   max_ops - here, depth, mcx, &op->success,
							   &op->nsuccess);
	if (error == ERR_NONE)
		error = convert_branch(message->failure, message->n_failure,
							   max_ops - here, depth, mcx, &op->failure,
							   &op->nfailure);
	return error;
}

static ErrCode
convert_compares(const Etcdserverpb__TxnRequest *message, MemContext *mcx,
				 TxnOp *op)
{
	op->ncompares = (uint32_t) message->n_compare;
	op->compares = mcx_alloc(mcx, message->n_compare * sizeof(CompareOp));
	for (size_t i = 0; i < message->n_compare; i++)
	{
		if (message->compare[i]->key.len == 0)
			return ERR_EMPTY_KEY;
		convert_compare(message->compare[i], &op->compares[i]);
	}
	return ERR_NONE;
}

static void
convert_compare(const Etcdserverpb__Compare *message, CompareOp *op)
{
	*op = (CompareOp) {
		.range = keyrange_make(pb_bytes(message->key),
							   pb_bytes(message->range_end)),
		.result = (uint32_t) message->result,
		.target = (uint32_t) message->target,
		.number = compare_number(message),
	};
	if (message->target == ETCDSERVERPB__COMPARE__COMPARE_TARGET__VALUE &&
		HAS_ARM(message, VALUE))
		op->value = pb_bytes(message->value);
}

/*
 * What the target is compared with: 0 unless the arm that is set is the
 * target's own (E4).
 */
static int64_t
compare_number(const Etcdserverpb__Compare *message)
{
	switch (message->target)
	{
		case ETCDSERVERPB__COMPARE__COMPARE_TARGET__VERSION:
			return HAS_ARM(message, VERSION) ? message->version : 0;
		case ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE:
			return HAS_ARM(message, CREATE_REVISION) ?
				message->create_revision : 0;
		case ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD:
			return HAS_ARM(message, MOD_REVISION) ? message->mod_revision : 0;
		case ETCDSERVERPB__COMPARE__COMPARE_TARGET__LEASE:
			return HAS_ARM(message, LEASE) ? message->lease : 0;
		default:
			return 0;
	}
}

static ErrCode
convert_branch(Etcdserverpb__RequestOp **messages, size_t n, uint64_t max_ops,
			   unsigned depth, MemContext *mcx, KvOp **ops, uint32_t *nops)
{
	*nops = (uint32_t) n;
	*ops = mcx_alloc(mcx, n * sizeof(KvOp));
	for (size_t i = 0; i < n; i++)
	{
		ErrCode		error = convert_op(messages[i], max_ops, depth, mcx,
									   &(*ops)[i]);

		if (error != ERR_NONE)
			return error;
	}
	return ERR_NONE;
}

static ErrCode
convert_op(const Etcdserverpb__RequestOp *message, uint64_t max_ops,
		   unsigned depth, MemContext *mcx, KvOp *op)
{
	*op = (KvOp) {0};
	switch (message->request_case)
	{
		case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE:
			op->kind = KVOP_RANGE;
			return kvrequest_range(message->request_range, &op->range);
		case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT:
			op->kind = KVOP_PUT;
			return kvrequest_put(message->request_put, &op->put);
		case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE:
			op->kind = KVOP_DELETE;
			return kvrequest_delete(message->request_delete_range,
									&op->delete);
		case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN:
			op->kind = KVOP_TXN;
			return convert_txn(message->request_txn, max_ops, depth + 1, mcx,
							   &op->txn);
		default:
			/* no arm set; etcd's choice of words */
			return ERR_KEY_NOT_FOUND;
	}
}
