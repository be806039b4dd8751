/*
 * t_command_kv.c
 *	  Range, Put, DeleteRange, Txn, Compact: the shape of requests, with the
 *	  texts and codes of etcd-v3-wire.md 7.1, and what they are turned into.
 */
/* needs: dispatch command alarm/alarm lease/clock lease/renewal common proto */
#include "server.h"

/* system */
#include <setjmp.h>
#include <stdarg.h>

/* libraries */
#include <cmocka.h>
#include "etcdserverpb.pb-c.h"

/* lib and utils */
#include "utils/clock.h"

/* this layer and below */
#include "command/kvrequest.h"

#include "dispatch_setup.h"

typedef Etcdserverpb__RangeRequest PbRange;
typedef Etcdserverpb__PutRequest PbPut;
typedef Etcdserverpb__DeleteRangeRequest PbDelete;
typedef Etcdserverpb__TxnRequest PbTxn;
typedef Etcdserverpb__RequestOp PbOp;
typedef Etcdserverpb__Compare PbCompare;

static const PbRange empty_range = ETCDSERVERPB__RANGE_REQUEST__INIT;
static const PbPut empty_put = ETCDSERVERPB__PUT_REQUEST__INIT;
static const PbDelete empty_delete = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
static const PbTxn empty_txn = ETCDSERVERPB__TXN_REQUEST__INIT;
static const PbOp empty_op = ETCDSERVERPB__REQUEST_OP__INIT;
static const PbCompare empty_compare = ETCDSERVERPB__COMPARE__INIT;

/* code and text as they stand in the reference, not as in our table */
static void
expect(int grpc_code, const char *text)
{
	assert_int_equal(world.answer.n, 1);
	assert_string_equal(world.answer.text, text);
	assert_int_equal(world.answer.grpc_code, grpc_code);
	assert_int_equal(world.nsubmitted, 0);
	assert_int_equal(world.nauthorized, 0);
	assert_int_equal(world.nranges, 0);
}

#define EMPTY_KEY 3, "etcdserver: key is not provided"
#define KEY_NOT_FOUND 3, "etcdserver: key not found"
#define VALUE_PROVIDED 3, "etcdserver: value is provided"
#define LEASE_PROVIDED 3, "etcdserver: lease is provided"
#define TOO_MANY_OPS 3, "etcdserver: too many operations in txn request"
#define DUPLICATE_KEY 3, "etcdserver: duplicate key given in txn request"
#define INVALID_SORT 3, "etcdserver: invalid sort option"

static void
expect_accepted(void)
{
	if (world.answer.n == 0)
		double_complete(&(Completion) {.revision = 43});
	assert_int_equal(world.answer.n, 1);
	assert_string_equal(world.answer.text, "");
}

/* ---- building messages ---- */

static ProtobufCBinaryData
data(const char *s)
{
	return (ProtobufCBinaryData) {strlen(s), (uint8_t *) s};
}

static ProtobufCBinaryData
from_key(void)
{
	static uint8_t zero[1];

	return (ProtobufCBinaryData) {1, zero};
}

static PbOp *
op_put(const char *key)
{
	PbOp	   *op = mcx_memdup(world.mcx, &empty_op, sizeof(empty_op));

	op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
	op->request_put = mcx_memdup(world.mcx, &empty_put, sizeof(empty_put));
	op->request_put->key = data(key);
	return op;
}

static PbOp *
op_range(const char *key, bool serializable)
{
	PbOp	   *op = mcx_memdup(world.mcx, &empty_op, sizeof(empty_op));

	op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
	op->request_range = mcx_memdup(world.mcx, &empty_range,
								   sizeof(empty_range));
	op->request_range->key = data(key);
	op->request_range->serializable = serializable;
	return op;
}

/* end NULL: the one key; "": from key on */
static PbOp *
op_delete(const char *key, const char *end)
{
	PbOp	   *op = mcx_memdup(world.mcx, &empty_op, sizeof(empty_op));

	op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
	op->request_delete_range = mcx_memdup(world.mcx, &empty_delete,
										  sizeof(empty_delete));
	op->request_delete_range->key = data(key);
	if (end != NULL)
		op->request_delete_range->range_end = *end == '\0' ? from_key() :
			data(end);
	return op;
}

static PbTxn *
txn_new(void)
{
	return mcx_memdup(world.mcx, &empty_txn, sizeof(empty_txn));
}

static PbOp *
op_txn(PbTxn *txn)
{
	PbOp	   *op = mcx_memdup(world.mcx, &empty_op, sizeof(empty_op));

	op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN;
	op->request_txn = txn;
	return op;
}

static void
add_op(PbOp ***ops, size_t *n, PbOp *op)
{
	*ops = mcx_grow(world.mcx, *ops, *n * sizeof(op), (*n + 1) * sizeof(op));
	(*ops)[(*n)++] = op;
}

static PbTxn *
success(PbTxn *txn, PbOp *op)
{
	add_op(&txn->success, &txn->n_success, op);
	return txn;
}

static PbTxn *
failure(PbTxn *txn, PbOp *op)
{
	add_op(&txn->failure, &txn->n_failure, op);
	return txn;
}

static PbTxn *
compare(PbTxn *txn, const char *key)
{
	PbCompare  *c = mcx_memdup(world.mcx, &empty_compare,
							   sizeof(empty_compare));

	c->key = data(key);
	txn->compare = mcx_grow(world.mcx, txn->compare,
							txn->n_compare * sizeof(c),
							(txn->n_compare + 1) * sizeof(c));
	txn->compare[txn->n_compare++] = c;
	return txn;
}

static void
send_txn(const PbTxn *txn)
{
	double_send(RPC_KV_TXN, NULL, txn);
}

/* ---- shape of single requests ---- */

static void
range_shape(void **state)
{
	PbRange		range = empty_range;

	/* the key first, whatever else is wrong */
	range.sort_order = (Etcdserverpb__RangeRequest__SortOrder) 3;
	double_send(RPC_KV_RANGE, NULL, &range);
	expect(EMPTY_KEY);
	range.key = data("k");
	double_send(RPC_KV_RANGE, NULL, &range);
	expect(INVALID_SORT);
	range.sort_order = (Etcdserverpb__RangeRequest__SortOrder) -1;
	double_send(RPC_KV_RANGE, NULL, &range);
	expect(INVALID_SORT);
	range.sort_order = ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND;
	range.sort_target = (Etcdserverpb__RangeRequest__SortTarget) 5;
	double_send(RPC_KV_RANGE, NULL, &range);
	expect(INVALID_SORT);
	range.sort_target = ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VALUE;
	double_send(RPC_KV_RANGE, NULL, &range);
	expect_accepted();
}

static void
range_becomes_an_operation(void **state)
{
	PbRange		range = empty_range;

	range.key = data("k");
	range.range_end = data("m");
	range.limit = 1;
	range.revision = 2;
	range.sort_order = ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__ASCEND;
	range.sort_target = ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__MOD;
	range.keys_only = true;
	range.count_only = true;
	range.min_mod_revision = 3;
	range.max_mod_revision = 4;
	range.min_create_revision = 5;
	range.max_create_revision = 6;
	double_send(RPC_KV_RANGE, NULL, &range);
	expect_accepted();
	assert_int_equal(world.range.range.kind, KEYRANGE_SPAN);
	assert_int_equal(world.range.limit, 1);
	assert_int_equal(world.range.revision, 2);
	assert_int_equal(world.range.sort_order, SORT_ASCEND);
	assert_int_equal(world.range.sort_target, SORT_BY_MOD);
	assert_false(world.range.serializable);
	assert_true(world.range.keys_only);
	assert_true(world.range.count_only);
	assert_int_equal(world.range.min_mod_revision, 3);
	assert_int_equal(world.range.max_mod_revision, 4);
	assert_int_equal(world.range.min_create_revision, 5);
	assert_int_equal(world.range.max_create_revision, 6);
	assert_int_equal(world.counters[COUNTER_RANGES], 1);
	/* what was asked for is what was done */
	assert_int_equal(world.nasked, 1);
	assert_int_equal(world.asked[0].need, NEED_READ);
	assert_int_equal(world.asked[0].range.kind, KEYRANGE_SPAN);

	range.range_end = from_key();
	double_send(RPC_KV_RANGE, NULL, &range);
	assert_int_equal(world.range.range.kind, KEYRANGE_FROM);
	assert_int_equal(world.asked[0].range.kind, KEYRANGE_FROM);
}

static void
put_shape(void **state)
{
	PbPut		put = empty_put;

	put.ignore_value = true;
	put.value = data("v");
	put.ignore_lease = true;
	put.lease = 1;
	double_send(RPC_KV_PUT, NULL, &put);
	expect(EMPTY_KEY);
	put.key = data("k");
	double_send(RPC_KV_PUT, NULL, &put);
	expect(VALUE_PROVIDED);
	put.value.len = 0;
	double_send(RPC_KV_PUT, NULL, &put);
	expect(LEASE_PROVIDED);
	put.lease = 0;
	double_send(RPC_KV_PUT, NULL, &put);
	expect_accepted();
}

static void
put_becomes_an_operation(void **state)
{
	PbPut		put = empty_put;
	LogOp		op;

	put.key = data("k");
	put.value = data("v");
	put.lease = -5;
	put.prev_kv = true;
	double_send(RPC_KV_PUT, NULL, &put);
	op = double_submitted_op();
	assert_int_equal(op.kind, LOGOP_PUT);
	assert_true(bytes_equal_cstr(op.put.key, "k"));
	assert_true(bytes_equal_cstr(op.put.value, "v"));
	assert_int_equal(op.put.lease, -5);
	assert_true(op.put.prev_kv);
	assert_false(op.put.ignore_value);
	assert_false(op.put.ignore_lease);
	expect_accepted();
}

static void
delete_shape(void **state)
{
	PbDelete	del = empty_delete;
	LogOp		op;

	del.range_end = data("m");
	double_send(RPC_KV_DELETE_RANGE, NULL, &del);
	expect(EMPTY_KEY);
	del.key = data("k");
	del.prev_kv = true;
	double_send(RPC_KV_DELETE_RANGE, NULL, &del);
	op = double_submitted_op();
	assert_int_equal(op.kind, LOGOP_DELETE);
	assert_int_equal(op.delete.range.kind, KEYRANGE_SPAN);
	assert_true(op.delete.prev_kv);
	expect_accepted();
}

/* physical: not before the worker says that it is through */
static void
compact_waits_for_the_removal(void **state)
{
	Etcdserverpb__CompactionRequest compact =
		ETCDSERVERPB__COMPACTION_REQUEST__INIT;
	int64_t		now;

	compact.revision = 17;
	compact.physical = true;
	double_send(RPC_KV_COMPACT, NULL, &compact);
	atomic_store(&world.raft.removed_revision, 16);
	double_complete(&(Completion) {.revision = 40});
	assert_int_equal(world.answer.n, 0);
	assert_int_equal(dispatch_outstanding(), 1);
	now = dispatch_next_expiry_ms();
	dispatch_expire(now - 1);
	assert_true(dispatch_next_expiry_ms() == now);
	dispatch_expire(now);
	assert_int_equal(world.answer.n, 0);
	atomic_store(&world.raft.removed_revision, 17);
	dispatch_expire(dispatch_next_expiry_ms());
	assert_int_equal(world.answer.n, 1);
	assert_int_equal(world.answer.error, ERR_NONE);

	/* who is gone does not wait, and whose time is over is told */
	atomic_store(&world.raft.removed_revision, 16);
	double_send(RPC_KV_COMPACT, NULL, &compact);
	double_complete(&(Completion) {.revision = 40});
	dispatch_cancel(world.req);
	assert_int_equal(dispatch_outstanding(), 0);
	double_send(RPC_KV_COMPACT, NULL, &compact);
	world.req->deadline_ms = clock_monotonic_ms() - 1;
	double_complete(&(Completion) {.revision = 40});
	dispatch_expire(clock_monotonic_ms());
	assert_int_equal(world.answer.error, ERR_DEADLINE_EXCEEDED);
}

static void
compact_becomes_an_operation(void **state)
{
	Etcdserverpb__CompactionRequest compact =
		ETCDSERVERPB__COMPACTION_REQUEST__INIT;
	LogOp		op;

	compact.revision = 17;
	compact.physical = true;
	double_send(RPC_KV_COMPACT, NULL, &compact);
	op = double_submitted_op();
	assert_int_equal(op.kind, LOGOP_COMPACT);
	assert_int_equal(op.compact_revision, 17);
	assert_int_equal(world.asked[0].need, NEED_ADMIN);
	double_complete(&(Completion) {.error = ERR_FUTURE_REV});
	assert_int_equal(world.answer.grpc_code, 11);
	assert_string_equal(world.answer.text, "etcdserver: mvcc: required "
						"revision is a future revision");
}

/* ---- shape of transactions ---- */

static void
txn_keys(void **state)
{
	send_txn(compare(txn_new(), ""));
	expect(EMPTY_KEY);
	send_txn(success(txn_new(), op_put("")));
	expect(EMPTY_KEY);
	send_txn(failure(txn_new(), op_delete("", "m")));
	expect(EMPTY_KEY);
	send_txn(success(txn_new(), op_range("", false)));
	expect(EMPTY_KEY);
	send_txn(success(txn_new(), op_txn(compare(txn_new(), ""))));
	expect(EMPTY_KEY);
	send_txn(failure(txn_new(), op_txn(failure(txn_new(), op_put("")))));
	expect(EMPTY_KEY);
}

static void
txn_ops(void **state)
{
	PbOp	   *put = op_put("k");
	PbOp	   *range = op_range("k", false);

	/* an operation with no arm */
	send_txn(success(txn_new(),
					 mcx_memdup(world.mcx, &empty_op, sizeof(empty_op))));
	expect(KEY_NOT_FOUND);

	put->request_put->ignore_value = true;
	put->request_put->value = data("v");
	send_txn(success(txn_new(), put));
	expect(VALUE_PROVIDED);
	put->request_put->ignore_value = false;
	put->request_put->ignore_lease = true;
	put->request_put->lease = 3;
	send_txn(failure(txn_new(), put));
	expect(LEASE_PROVIDED);
	range->request_range->sort_target =
		(Etcdserverpb__RangeRequest__SortTarget) 99;
	send_txn(success(txn_new(), op_txn(success(txn_new(), range))));
	expect(INVALID_SORT);
	/* success is looked at before failure, compares before both */
	send_txn(failure(success(txn_new(), range), put));
	expect(INVALID_SORT);
	send_txn(compare(failure(success(txn_new(), range), put), ""));
	expect(EMPTY_KEY);
}

static void
txn_too_many_ops(void **state)
{
	PbTxn	   *txn = txn_new();

	guc_max_txn_ops = 3;
	for (int i = 0; i < 3; i++)
		failure(success(compare(txn, "k"), op_range("k", true)),
				op_range("k", true));
	send_txn(txn);
	expect_accepted();
	double_reset();
	guc_max_txn_ops = 3;

	/* each of the three counts by itself, and before any empty key */
	txn = txn_new();
	for (int i = 0; i < 4; i++)
		compare(txn, "");
	send_txn(txn);
	expect(TOO_MANY_OPS);
	txn = txn_new();
	for (int i = 0; i < 4; i++)
		success(txn, op_put(""));
	send_txn(txn);
	expect(TOO_MANY_OPS);
	txn = txn_new();
	for (int i = 0; i < 4; i++)
		failure(txn, op_put(""));
	send_txn(txn);
	expect(TOO_MANY_OPS);
}

/* a transaction with n reads in each branch, then nested in it another */
static PbTxn *
txn_with_rest(int n, PbTxn *nested)
{
	PbTxn	   *txn = txn_new();

	for (int i = 0; i < n - (nested != NULL); i++)
		success(txn, op_range("k", false));
	if (nested != NULL)
		success(txn, op_txn(nested));
	return txn;
}

static void
txn_nested_gets_the_rest(void **state)
{
	guc_max_txn_ops = 10;
	send_txn(txn_with_rest(4, txn_with_rest(6, NULL)));
	expect_accepted();
	send_txn(txn_with_rest(4, txn_with_rest(3, txn_with_rest(3, NULL))));
	expect_accepted();
	double_reset();
	guc_max_txn_ops = 10;

	send_txn(txn_with_rest(4, txn_with_rest(7, NULL)));
	expect(TOO_MANY_OPS);
	send_txn(txn_with_rest(4, txn_with_rest(3, txn_with_rest(4, NULL))));
	expect(TOO_MANY_OPS);
	/* the greatest of the three counts is taken off, not its own branch's */
	send_txn(failure(txn_with_rest(9, NULL), op_txn(txn_with_rest(2, NULL))));
	expect(TOO_MANY_OPS);
}

static void
txn_becomes_an_operation(void **state)
{
	PbTxn	   *txn = txn_new();
	PbCompare  *c;
	LogOp		op;

	for (int i = 0; i < 6; i++)
		compare(txn, "c");
	c = txn->compare[0];
	c->result = ETCDSERVERPB__COMPARE__COMPARE_RESULT__NOT_EQUAL;
	c->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__VALUE;
	c->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE;
	c->value = data("v");
	c->range_end = data("d");
	c = txn->compare[1];
	c->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__LEASE;
	c->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_LEASE;
	c->lease = 11;
	c = txn->compare[2];
	c->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE;
	c->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION;
	c->create_revision = 12;
	c = txn->compare[3];
	c->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD;
	c->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION;
	c->mod_revision = 13;
	/* another arm than the target's: compared with 0 */
	c = txn->compare[4];
	c->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__VERSION;
	c->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_LEASE;
	c->lease = 14;
	c = txn->compare[5];
	c->target = (Etcdserverpb__Compare__CompareTarget) 9;
	c->result = (Etcdserverpb__Compare__CompareResult) 8;
	c->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_VERSION;
	c->version = 15;

	success(success(txn, op_put("a")), op_delete("b", ""));
	failure(txn, op_txn(success(txn_new(), op_range("r", true))));
	send_txn(txn);
	op = double_submitted_op();
	assert_int_equal(op.kind, LOGOP_TXN);
	assert_int_equal(op.txn.ncompares, 6);
	assert_int_equal(op.txn.compares[0].result, COMPARE_NOT_EQUAL);
	assert_int_equal(op.txn.compares[0].target, COMPARE_VALUE);
	assert_true(bytes_equal_cstr(op.txn.compares[0].value, "v"));
	assert_int_equal(op.txn.compares[0].range.kind, KEYRANGE_SPAN);
	assert_int_equal(op.txn.compares[1].number, 11);
	assert_int_equal(op.txn.compares[2].number, 12);
	assert_int_equal(op.txn.compares[3].number, 13);
	assert_int_equal(op.txn.compares[4].number, 0);
	assert_int_equal(op.txn.compares[5].target, 9);
	assert_int_equal(op.txn.compares[5].result, 8);
	assert_int_equal(op.txn.compares[5].number, 0);
	assert_int_equal(op.txn.nsuccess, 2);
	assert_int_equal(op.txn.success[0].kind, KVOP_PUT);
	assert_int_equal(op.txn.success[1].delete.range.kind, KEYRANGE_FROM);
	assert_int_equal(op.txn.nfailure, 1);
	assert_int_equal(op.txn.failure[0].kind, KVOP_TXN);
	assert_int_equal(op.txn.failure[0].txn.success[0].kind, KVOP_RANGE);
	/* both branches, the nested one and the compares were asked for */
	assert_int_equal(world.nasked, 6 + 2 + 1);
	expect_accepted();
}

/* ---- reading transactions ---- */

static void
txn_of_ranges_is_read(void **state)
{
	atomic_store(&world.raft.reads_are_local, false);
	send_txn(success(txn_new(), op_range("k", true)));
	expect_accepted();
	assert_int_equal(world.nsubmitted, 0);
	assert_int_equal(world.ntxns, 1);

	send_txn(failure(success(txn_new(), op_range("k", true)),
					 op_range("l", false)));
	assert_int_equal(world.kind, SUBMIT_READ);
	expect_accepted();
	assert_int_equal(world.ntxns, 2);

	/* compares alone are not stale either, unlike in etcd */
	send_txn(compare(txn_new(), "k"));
	assert_int_equal(world.nsubmitted, 2);
	assert_int_equal(world.kind, SUBMIT_READ);
	expect_accepted();

	/* a nested transaction counts as a write */
	send_txn(success(txn_new(), op_txn(success(txn_new(),
											   op_range("k", true)))));
	assert_int_equal(world.kind, SUBMIT_LOGOP);
	expect_accepted();
}

static void
txn_reading_is_asked_for(void **state)
{
	world.version.auth_enabled = true;
	double_send(RPC_KV_TXN, "alice",
				failure(success(compare(txn_new(), "alice"),
								op_range("alice", true)),
						op_range("bob", true)));
	assert_string_equal(world.answer.text, "etcdserver: permission denied");
	assert_int_equal(world.ntxns, 0);
	/* even one that touches nothing */
	double_send(RPC_KV_TXN, NULL, txn_new());
	assert_string_equal(world.answer.text, "etcdserver: user name is empty");
	double_send(RPC_KV_TXN, "alice", success(txn_new(), op_txn(txn_new())));
	expect_accepted();
}

/* ---- duplicate keys ---- */

static void
duplicates_on_one_level(void **state)
{
	send_txn(success(success(txn_new(), op_put("k")), op_put("k")));
	expect(DUPLICATE_KEY);
	send_txn(failure(failure(txn_new(), op_put("k")), op_put("k")));
	expect(DUPLICATE_KEY);
	send_txn(success(success(txn_new(), op_put("k")), op_delete("k", NULL)));
	expect(DUPLICATE_KEY);
	send_txn(success(success(txn_new(), op_delete("a", "l")), op_put("k")));
	expect(DUPLICATE_KEY);
	/* from a key on */
	send_txn(success(success(txn_new(), op_delete("a", "")), op_put("k")));
	expect(DUPLICATE_KEY);
	send_txn(success(success(txn_new(), op_put("k")), op_delete("k", "")));
	expect(DUPLICATE_KEY);
	/* behind a range that is over before it */
	send_txn(success(success(success(txn_new(), op_delete("a", "z")),
							 op_delete("b", "c")), op_put("k")));
	expect(DUPLICATE_KEY);
}

static void
no_duplicates_on_one_level(void **state)
{
	/* the branches are alternatives */
	send_txn(failure(success(txn_new(), op_put("k")), op_put("k")));
	expect_accepted();
	send_txn(success(success(txn_new(), op_put("k")), op_put("kk")));
	expect_accepted();
	/* the end is not in the range, the key before neither */
	send_txn(success(success(success(txn_new(), op_delete("b", "k")),
							 op_put("k")), op_put("a")));
	expect_accepted();
	send_txn(success(success(txn_new(), op_delete("l", "")), op_put("k")));
	expect_accepted();
	/* an empty range deletes nothing */
	send_txn(success(success(txn_new(), op_delete("z", "a")), op_put("k")));
	expect_accepted();
	/* deletes may overlap, ranges are free */
	send_txn(success(success(success(success(txn_new(), op_delete("a", "m")),
									 op_delete("c", "")), op_range("a", true)),
					 op_range("a", true)));
	expect_accepted();
	send_txn(success(success(txn_new(), op_put("k")), op_range("k", true)));
	expect_accepted();
}

static void
duplicates_in_nested_ones(void **state)
{
	PbTxn	   *inner = success(txn_new(), op_put("k"));

	send_txn(success(success(txn_new(), op_put("k")), op_txn(inner)));
	expect(DUPLICATE_KEY);
	send_txn(success(success(txn_new(), op_txn(inner)), op_put("k")));
	expect(DUPLICATE_KEY);
	send_txn(success(success(txn_new(), op_txn(inner)),
					 op_txn(failure(txn_new(), op_put("k")))));
	expect(DUPLICATE_KEY);
	send_txn(success(txn_new(), op_txn(success(inner, op_put("k")))));
	expect(DUPLICATE_KEY);
	inner = failure(txn_new(), op_put("k"));
	send_txn(success(success(txn_new(), op_txn(inner)), op_delete("a", "z")));
	expect(DUPLICATE_KEY);
	send_txn(success(success(txn_new(), op_put("k")),
					 op_txn(failure(txn_new(), op_delete("k", "")))));
	expect(DUPLICATE_KEY);
	/* in siblings, in both orders */
	send_txn(success(success(txn_new(), op_txn(inner)),
					 op_txn(success(txn_new(), op_delete("a", "z")))));
	expect(DUPLICATE_KEY);
	send_txn(success(success(txn_new(),
							 op_txn(success(txn_new(), op_delete("a", "z")))),
					 op_txn(inner)));
	expect(DUPLICATE_KEY);
	/* two levels down, against the top */
	send_txn(success(success(txn_new(), op_txn(success(txn_new(),
													   op_txn(inner)))),
					 op_put("k")));
	expect(DUPLICATE_KEY);
}

static void
no_duplicates_in_nested_ones(void **state)
{
	/* then and else of a nested one: put and put, put and delete */
	send_txn(success(txn_new(), op_txn(failure(success(txn_new(),
													   op_put("k")),
											   op_put("k")))));
	expect_accepted();
	send_txn(success(txn_new(),
					 op_txn(failure(success(txn_new(), op_put("k")),
									op_delete("a", "z")))));
	expect_accepted();
	/* deeper on both sides */
	send_txn(success(txn_new(), op_txn(
		failure(success(txn_new(),
						op_txn(success(txn_new(), op_put("k")))),
				op_txn(success(txn_new(), op_put("k")))))));
	expect_accepted();
	/* top success against top failure */
	send_txn(failure(success(txn_new(), op_txn(success(txn_new(),
													   op_put("k")))),
					 op_put("k")));
	expect_accepted();
}

/*
 * Against a model that compares every pair: random transactions over few keys.
 * A leaf's path says which branch of which transaction it is in.
 */
typedef struct Leaf
{
	const KvOp *op;
	unsigned	depth;
	struct
	{
		const TxnOp *txn;
		bool		is_failure;
	}			path[8];
} Leaf;

typedef struct Leaves
{
	Leaf		leaves[512];
	size_t		n;
} Leaves;

static void
collect_leaves(const TxnOp *txn, Leaf at, Leaves *out)
{
	at.path[at.depth].txn = txn;
	at.depth++;
	for (int branch = 0; branch < 2; branch++)
	{
		const KvOp *ops = branch == 0 ? txn->success : txn->failure;
		uint32_t	n = branch == 0 ? txn->nsuccess : txn->nfailure;

		at.path[at.depth - 1].is_failure = branch == 1;
		for (uint32_t i = 0; i < n; i++)
		{
			if (ops[i].kind == KVOP_TXN)
				collect_leaves(&ops[i].txn, at, out);
			else
			{
				at.op = &ops[i];
				out->leaves[out->n++] = at;
			}
		}
	}
}

static bool
leaves_conflict(const Leaf *a, const Leaf *b)
{
	for (unsigned i = 0; i < a->depth && i < b->depth; i++)
		if (a->path[i].txn == b->path[i].txn &&
			a->path[i].is_failure != b->path[i].is_failure)
			return false;
	if (a->op->kind == KVOP_PUT && b->op->kind == KVOP_PUT)
		return bytes_equal(a->op->put.key, b->op->put.key);
	if (a->op->kind == KVOP_PUT && b->op->kind == KVOP_DELETE)
		return keyrange_contains(&b->op->delete.range, a->op->put.key);
	if (a->op->kind == KVOP_DELETE && b->op->kind == KVOP_PUT)
		return keyrange_contains(&a->op->delete.range, b->op->put.key);
	return false;
}

static bool
model_has_duplicate(const TxnOp *txn)
{
	static Leaves leaves;

	leaves.n = 0;
	collect_leaves(txn, (Leaf) {0}, &leaves);
	for (size_t i = 0; i < leaves.n; i++)
		for (size_t k = i + 1; k < leaves.n; k++)
			if (leaves_conflict(&leaves.leaves[i], &leaves.leaves[k]))
				return true;
	return false;
}

static uint64_t seed = 20;

static unsigned
roll(unsigned n)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (unsigned) (seed >> 33) % n;
}

static Bytes
roll_key(unsigned nkeys)
{
	uint8_t    *key = mcx_alloc(world.mcx, 1);

	*key = (uint8_t) roll(nkeys);
	return bytes_make(key, 1);
}

static void roll_txn(TxnOp *txn, unsigned nkeys, unsigned depth);

static void
roll_branch(KvOp **ops, uint32_t *n, unsigned nkeys, unsigned depth)
{
	*n = roll(4);
	*ops = mcx_alloc0(world.mcx, *n * sizeof(**ops));
	for (uint32_t i = 0; i < *n; i++)
	{
		KvOp	   *op = &(*ops)[i];

		switch (roll(depth < 4 ? 4 : 3))
		{
			case 0:
			case 1:
				op->kind = KVOP_PUT;
				op->put.key = roll_key(nkeys);
				break;
			case 2:
				op->kind = KVOP_DELETE;
				op->delete.range = keyrange_make(roll_key(nkeys),
												 roll(3) == 0 ? BYTES_EMPTY :
												 roll_key(nkeys));
				break;
			default:
				op->kind = KVOP_TXN;
				roll_txn(&op->txn, nkeys, depth + 1);
		}
	}
}

static void
roll_txn(TxnOp *txn, unsigned nkeys, unsigned depth)
{
	roll_branch(&txn->success, &txn->nsuccess, nkeys, depth);
	roll_branch(&txn->failure, &txn->nfailure, nkeys, depth);
}

static void
duplicates_as_in_the_model(void **state)
{
	int			nduplicates = 0;
	const int	nrounds = 30000;

	for (int i = 0; i < nrounds; i++)
	{
		TxnOp		txn = {0};
		bool		expected;

		mcx_reset(world.mcx);
		roll_txn(&txn, 8 + roll(200), 0);
		expected = model_has_duplicate(&txn);
		nduplicates += expected;
		assert_int_equal(kvrequest_check_duplicates(&txn),
						 expected ? ERR_DUPLICATE_KEY : ERR_NONE);
	}
	/* the test is one only if both happen */
	assert_in_range(nduplicates, nrounds / 10, nrounds - nrounds / 10);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(range_shape),
		TEST(range_becomes_an_operation),
		TEST(put_shape),
		TEST(put_becomes_an_operation),
		TEST(delete_shape),
		TEST(compact_becomes_an_operation),
		TEST(compact_waits_for_the_removal),
		TEST(txn_keys),
		TEST(txn_ops),
		TEST(txn_too_many_ops),
		TEST(txn_nested_gets_the_rest),
		TEST(txn_becomes_an_operation),
		TEST(txn_of_ranges_is_read),
		TEST(txn_reading_is_asked_for),
		TEST(duplicates_on_one_level),
		TEST(no_duplicates_on_one_level),
		TEST(duplicates_in_nested_ones),
		TEST(no_duplicates_in_nested_ones),
		TEST(duplicates_as_in_the_model),
	};

	dispatch_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
