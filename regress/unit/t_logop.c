/*
 * t_logop.c
 *	  Log entries: every kind there and back, known bytes, and refusals.
 */
/* needs: common */
#include "server.h"

/* system */
#include <setjmp.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>

/* lib and utils */
#include "utils/elog.h"

/* this layer and below */
#include "common/logop.h"

#define B(s) BYTES_LITERAL(s)
#define MAX_OPS 64

static MemContext *mcx;
static LogOp ops[MAX_OPS];
static uint32_t nops;

/* ---- one or more operations of every kind ---- */

static LogOp *
add_op(LogOpKind kind)
{
	LogOp	   *op = &ops[nops++];

	assert_true(nops <= MAX_OPS);
	memset(op, 0, sizeof(*op));
	op->kind = kind;
	op->identity = (Identity) {IDENTITY_TOKEN, B("alice"), 300};
	return op;
}

static TxnOp
make_txn(unsigned depth)
{
	TxnOp		txn = {.ncompares = 3, .nsuccess = 4, .nfailure = 1};

	txn.compares = mcx_alloc0(mcx, 3 * sizeof(CompareOp));
	txn.compares[0] = (CompareOp) {
		keyrange_make(B("k"), BYTES_EMPTY), COMPARE_LESS, COMPARE_MOD,
		INT64_MIN, BYTES_EMPTY};
	txn.compares[1] = (CompareOp) {
		keyrange_make(B("k"), B("l")), COMPARE_NOT_EQUAL, COMPARE_VALUE, 0,
		B("some\0value")};
	txn.compares[2] = (CompareOp) {
		keyrange_make(B("k"), B("\0")), UINT32_MAX, 4711, -1, BYTES_EMPTY};
	txn.success = mcx_alloc0(mcx, 4 * sizeof(KvOp));
	txn.success[0].kind = KVOP_RANGE;
	txn.success[0].range = (RangeOp) {
		.range = keyrange_make(B("a"), B("b")), .limit = 10, .revision = -1,
		.min_mod_revision = 1, .max_mod_revision = 2,
		.min_create_revision = 3, .max_create_revision = INT64_MAX,
		.sort_order = SORT_DESCEND, .sort_target = SORT_BY_VALUE,
		.serializable = true, .count_only = true};
	txn.success[1].kind = KVOP_PUT;
	txn.success[1].put = (PutOp) {
		.key = B("key"), .value = B("value"), .lease = -5, .prev_kv = true,
		.ignore_lease = true};
	txn.success[2].kind = KVOP_DELETE;
	txn.success[2].delete = (DeleteOp) {keyrange_make(B("x"), B("\0")), true};
	txn.success[3].kind = KVOP_TXN;
	if (depth > 1)
		txn.success[3].txn = make_txn(depth - 1);
	txn.failure = mcx_alloc0(mcx, sizeof(KvOp));
	txn.failure[0].kind = KVOP_RANGE;
	txn.failure[0].range.range = keyrange_make(B("z"), BYTES_EMPTY);
	txn.failure[0].range.keys_only = true;
	return txn;
}

static LeaseCheckpoint checkpoints[] = {
	{.id = 1,.remaining_sec = 0},
	{.id = INT64_MAX,.remaining_sec = 299},
	{.id = INT64_MIN,.remaining_sec = -1},
};

static void
make_ops(void)
{
	LogOp	   *op;

	nops = 0;
	add_op(LOGOP_PUT)->put = (PutOp) {.key = B("k"), .ignore_value = true};
	add_op(LOGOP_DELETE)->delete = (DeleteOp) {keyrange_make(B("k"), B("l")),
		false};
	add_op(LOGOP_TXN);
	add_op(LOGOP_TXN)->txn = make_txn(3);
	add_op(LOGOP_COMPACT)->compact_revision = INT64_MAX;
	add_op(LOGOP_COMPACT)->compact_revision = -1;
	add_op(LOGOP_LEASE_GRANT)->lease.id = INT64_MIN;
	op = add_op(LOGOP_LEASE_GRANT);
	op->lease.id = 0x694d8e9e05c52164;
	op->lease.ttl_sec = INT64_C(9000000000);
	add_op(LOGOP_LEASE_REVOKE)->lease.id = 0x694d8e9e05c52164;
	add_op(LOGOP_LEASE_RENEW)->lease.id = -1;
	add_op(LOGOP_LEASE_CHECKPOINT);
	op = add_op(LOGOP_LEASE_CHECKPOINT);
	op->identity.kind = IDENTITY_INTERNAL;
	op->checkpoint.n = lengthof(checkpoints);
	op->checkpoint.leases = checkpoints;
	add_op(LOGOP_AUTH_ENABLE);
	op = add_op(LOGOP_AUTH_DISABLE);
	op->identity = (Identity) {IDENTITY_NONE, BYTES_EMPTY, 0};
	op = add_op(LOGOP_USER_ADD);
	op->user.name = B("bob");
	op->user.phc = B("$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA");
	op = add_op(LOGOP_USER_ADD);
	op->user.name = B("cn-only");
	op->user.no_password = true;
	add_op(LOGOP_USER_DELETE)->user.name = B("bob");
	op = add_op(LOGOP_USER_CHANGE_PASSWORD);
	op->user.name = B("bob");
	op->user.phc = B("$argon2id$");
	op = add_op(LOGOP_USER_GRANT_ROLE);
	op->grant.user = B("bob");
	op->grant.role = B("r");
	op->identity = (Identity) {IDENTITY_CN, B("root"), UINT64_MAX};
	op = add_op(LOGOP_USER_REVOKE_ROLE);
	op->grant.user = B("bob");
	op->grant.role = B("r");
	add_op(LOGOP_ROLE_ADD)->role.name = B("r");
	add_op(LOGOP_ROLE_DELETE)->role.name = B("r");
	op = add_op(LOGOP_ROLE_GRANT_PERMISSION);
	op->role.name = B("r");
	op->role.perm_type = 4000000000u;
	op->role.range = keyrange_make(B("a"), B("\0"));
	op = add_op(LOGOP_ROLE_REVOKE_PERMISSION);
	op->role.name = B("r");
	op->role.range = keyrange_make(B("a"), B("b"));
	op = add_op(LOGOP_AUTHENTICATE);
	op->authenticate.user = B("bob");
	op->authenticate.cred_rev = UINT64_MAX;
	op->authenticate.ttl_sec = UINT32_MAX;
	memset(op->authenticate.token_hash, 0xab, TOKEN_HASH_BYTES);
	op = add_op(LOGOP_MEMBER_PUBLISH);
	op->identity.kind = IDENTITY_INTERNAL;
	op->member.id = 0x8e9e05c52164694d;
	op->member.name = B("default");
	op->member.client_urls = B("http://127.0.0.1:2379,http://[::1]:2379");
	op->member.peer_urls = B("http://127.0.0.1:2380");
	op = add_op(LOGOP_ALARM);
	op->alarm.is_on = true;
	op->alarm.member_id = UINT64_MAX;
	op->alarm.type = 4000000000u;
	add_op(LOGOP_ALARM)->alarm.type = 1;
	add_op(LOGOP_QUOTA_REACHED)->alarm.member_id = 0x8e9e05c52164694d;
}

/* ---- equality, field by field ---- */

static void
assert_bytes_equal(Bytes a, Bytes b)
{
	assert_int_equal(a.len, b.len);
	assert_true(bytes_equal(a, b));
}

static void
assert_range_equal(const KeyRange *a, const KeyRange *b)
{
	assert_int_equal(a->kind, b->kind);
	assert_bytes_equal(a->begin, b->begin);
	assert_bytes_equal(a->end, b->end);
}

static void
assert_put_equal(const PutOp *a, const PutOp *b)
{
	assert_bytes_equal(a->key, b->key);
	assert_bytes_equal(a->value, b->value);
	assert_int_equal(a->lease, b->lease);
	assert_int_equal(a->prev_kv, b->prev_kv);
	assert_int_equal(a->ignore_value, b->ignore_value);
	assert_int_equal(a->ignore_lease, b->ignore_lease);
}

static void
assert_rangeop_equal(const RangeOp *a, const RangeOp *b)
{
	assert_range_equal(&a->range, &b->range);
	assert_int_equal(a->limit, b->limit);
	assert_int_equal(a->revision, b->revision);
	assert_int_equal(a->min_mod_revision, b->min_mod_revision);
	assert_int_equal(a->max_mod_revision, b->max_mod_revision);
	assert_int_equal(a->min_create_revision, b->min_create_revision);
	assert_int_equal(a->max_create_revision, b->max_create_revision);
	assert_int_equal(a->sort_order, b->sort_order);
	assert_int_equal(a->sort_target, b->sort_target);
	assert_int_equal(a->serializable, b->serializable);
	assert_int_equal(a->keys_only, b->keys_only);
	assert_int_equal(a->count_only, b->count_only);
}

static void assert_txn_equal(const TxnOp *a, const TxnOp *b);

static void
assert_kvops_equal(const KvOp *a, const KvOp *b, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
	{
		assert_int_equal(a[i].kind, b[i].kind);
		switch (a[i].kind)
		{
			case KVOP_RANGE:
				assert_rangeop_equal(&a[i].range, &b[i].range);
				break;
			case KVOP_PUT:
				assert_put_equal(&a[i].put, &b[i].put);
				break;
			case KVOP_DELETE:
				assert_range_equal(&a[i].delete.range, &b[i].delete.range);
				assert_int_equal(a[i].delete.prev_kv, b[i].delete.prev_kv);
				break;
			case KVOP_TXN:
				assert_txn_equal(&a[i].txn, &b[i].txn);
				break;
		}
	}
}

static void
assert_txn_equal(const TxnOp *a, const TxnOp *b)
{
	assert_int_equal(a->ncompares, b->ncompares);
	assert_int_equal(a->nsuccess, b->nsuccess);
	assert_int_equal(a->nfailure, b->nfailure);
	for (uint32_t i = 0; i < a->ncompares; i++)
	{
		assert_range_equal(&a->compares[i].range, &b->compares[i].range);
		assert_int_equal(a->compares[i].result, b->compares[i].result);
		assert_int_equal(a->compares[i].target, b->compares[i].target);
		assert_int_equal(a->compares[i].number, b->compares[i].number);
		assert_bytes_equal(a->compares[i].value, b->compares[i].value);
	}
	assert_kvops_equal(a->success, b->success, a->nsuccess);
	assert_kvops_equal(a->failure, b->failure, a->nfailure);
}

static void
assert_op_equal(const LogOp *a, const LogOp *b)
{
	assert_int_equal(a->kind, b->kind);
	assert_int_equal(a->identity.kind, b->identity.kind);
	assert_bytes_equal(a->identity.user, b->identity.user);
	assert_true(a->identity.cred_rev == b->identity.cred_rev);
	switch (a->kind)
	{
		case LOGOP_PUT:
			assert_put_equal(&a->put, &b->put);
			break;
		case LOGOP_DELETE:
			assert_range_equal(&a->delete.range, &b->delete.range);
			assert_int_equal(a->delete.prev_kv, b->delete.prev_kv);
			break;
		case LOGOP_TXN:
			assert_txn_equal(&a->txn, &b->txn);
			break;
		case LOGOP_COMPACT:
			assert_int_equal(a->compact_revision, b->compact_revision);
			break;
		case LOGOP_LEASE_GRANT:
			assert_int_equal(a->lease.ttl_sec, b->lease.ttl_sec);
			/* fall through */
		case LOGOP_LEASE_REVOKE:
		case LOGOP_LEASE_RENEW:
			assert_int_equal(a->lease.id, b->lease.id);
			break;
		case LOGOP_LEASE_CHECKPOINT:
			assert_int_equal(a->checkpoint.n, b->checkpoint.n);
			for (uint32_t i = 0; i < a->checkpoint.n; i++)
			{
				assert_int_equal(a->checkpoint.leases[i].id,
								 b->checkpoint.leases[i].id);
				assert_int_equal(a->checkpoint.leases[i].remaining_sec,
								 b->checkpoint.leases[i].remaining_sec);
			}
			break;
		case LOGOP_AUTH_ENABLE:
		case LOGOP_AUTH_DISABLE:
			break;
		case LOGOP_USER_ADD:
		case LOGOP_USER_DELETE:
		case LOGOP_USER_CHANGE_PASSWORD:
			assert_bytes_equal(a->user.name, b->user.name);
			assert_bytes_equal(a->user.phc, b->user.phc);
			assert_int_equal(a->user.no_password, b->user.no_password);
			break;
		case LOGOP_USER_GRANT_ROLE:
		case LOGOP_USER_REVOKE_ROLE:
			assert_bytes_equal(a->grant.user, b->grant.user);
			assert_bytes_equal(a->grant.role, b->grant.role);
			break;
		case LOGOP_ROLE_ADD:
		case LOGOP_ROLE_DELETE:
		case LOGOP_ROLE_GRANT_PERMISSION:
		case LOGOP_ROLE_REVOKE_PERMISSION:
			assert_bytes_equal(a->role.name, b->role.name);
			assert_int_equal(a->role.perm_type, b->role.perm_type);
			assert_range_equal(&a->role.range, &b->role.range);
			break;
		case LOGOP_AUTHENTICATE:
			assert_bytes_equal(a->authenticate.user, b->authenticate.user);
			assert_true(a->authenticate.cred_rev == b->authenticate.cred_rev);
			assert_memory_equal(a->authenticate.token_hash,
								b->authenticate.token_hash, TOKEN_HASH_BYTES);
			assert_int_equal(a->authenticate.ttl_sec, b->authenticate.ttl_sec);
			break;
		case LOGOP_MEMBER_PUBLISH:
			assert_true(a->member.id == b->member.id);
			assert_bytes_equal(a->member.name, b->member.name);
			assert_bytes_equal(a->member.client_urls, b->member.client_urls);
			assert_bytes_equal(a->member.peer_urls, b->member.peer_urls);
			break;
		case LOGOP_ALARM:
		case LOGOP_QUOTA_REACHED:
			assert_int_equal(a->alarm.is_on, b->alarm.is_on);
			assert_true(a->alarm.member_id == b->alarm.member_id);
			assert_int_equal(a->alarm.type, b->alarm.type);
			break;
	}
}

/*
 * On the heap and exactly as long, so that the address sanitizer sees a read
 * beyond the end.
 */
static bool
decode_copy(Bytes data, LogOp *op)
{
	uint8_t    *copy = malloc(data.len == 0 ? 1 : data.len);
	bool		ok;

	if (data.len > 0)
		memcpy(copy, data.data, data.len);
	ok = logop_decode(bytes_make(copy, data.len), op, mcx);
	free(copy);
	return ok;
}

static Buf
encode(const LogOp *op)
{
	Buf			buf;

	buf_init(&buf, mcx);
	logop_encode(op, &buf);
	return buf;
}

static int
setup(void **state)
{
	mcx = mcx_create(NULL, "t_logop");
	make_ops();
	return 0;
}

static int
teardown(void **state)
{
	mcx_destroy(mcx);
	return 0;
}

/* ---- tests ---- */

static void
test_every_kind_is_here(void **state)
{
#define LOGOP(symbol, number, name) \
	{ \
		bool		found = false; \
		for (uint32_t i = 0; i < nops; i++) \
			found |= ops[i].kind == symbol; \
		assert_true(found); \
		assert_string_equal(logop_name(number), name); \
	}
#include "common/logoplist.h"
#undef LOGOP
	assert_string_equal(logop_name(0), "unknown");
	assert_string_equal(logop_name(65535), "unknown");
}

static void
test_round_trip(void **state)
{
	for (uint32_t i = 0; i < nops; i++)
	{
		Buf			first = encode(&ops[i]);
		Buf			second;
		LogOp		back;

		assert_true(logop_decode(buf_bytes(&first), &back, mcx));
		assert_op_equal(&ops[i], &back);
		second = encode(&back);
		assert_bytes_equal(buf_bytes(&first), buf_bytes(&second));
	}
}

static void
test_truncated_and_longer(void **state)
{
	for (uint32_t i = 0; i < nops; i++)
	{
		Buf			whole = encode(&ops[i]);
		LogOp		back;

		for (size_t len = 0; len < whole.len; len++)
			assert_false(decode_copy(bytes_make(whole.data, len), &back));
		buf_put_u8(&whole, 0);
		assert_false(decode_copy(buf_bytes(&whole), &back));
	}
}

/* every single-bit error: refused, or another operation with its own bytes */
static void
test_bit_errors(void **state)
{
	for (uint32_t i = 0; i < nops; i++)
	{
		Buf			whole = encode(&ops[i]);

		for (size_t bit = 0; bit < whole.len * 8; bit++)
		{
			MemContext *old = mcx;
			LogOp		back;

			mcx = mcx_create(NULL, "bit");
			whole.data[bit / 8] ^= (uint8_t) (1 << bit % 8);
			if (logop_decode(buf_bytes(&whole), &back, mcx))
			{
				Buf			again = encode(&back);

				assert_bytes_equal(buf_bytes(&whole), buf_bytes(&again));
			}
			whole.data[bit / 8] ^= (uint8_t) (1 << bit % 8);
			mcx_destroy(mcx);
			mcx = old;
		}
	}
}

/* the format is on disks: it must not change by accident */
static void
test_known_bytes(void **state)
{
	static const uint8_t want[] = {
		1,						/* entry version */
		1, 0,					/* put */
		1, 5, 'a', 'l', 'i', 'c', 'e', 0xac, 0x02,
		3, 'k', 'e', 'y', 1, 'v', 0x07, 0x01,
	};
	LogOp		op = {.kind = LOGOP_PUT};
	Buf			buf;

	op.identity = (Identity) {IDENTITY_TOKEN, B("alice"), 300};
	op.put = (PutOp) {
		.key = B("key"), .value = B("v"), .lease = 7, .prev_kv = true};
	buf = encode(&op);
	assert_bytes_equal(buf_bytes(&buf), bytes_make(want, sizeof(want)));
}

static void
refuse(const uint8_t *data, size_t len)
{
	LogOp		op;

	assert_false(decode_copy(bytes_make(data, len), &op));
}

#define REFUSE(...) \
	refuse((const uint8_t[]){__VA_ARGS__}, \
		   sizeof((const uint8_t[]){__VA_ARGS__}))

static void
test_refusals(void **state)
{
	LogOp		op;

	/* the good ones, so that the bad ones are bad for their reason */
	assert_true(decode_copy(B("\x01\x04\x00\x00\x00\x00\x05"), &op));
	assert_true(decode_copy(B("\x01\x01\x00\x00\x00\x00\x01k\x00\x00\x07"),
							&op));
	assert_true(decode_copy(B("\x01\x03\x00\x00\x00\x00\x00\x00\x00"), &op));

	/* version 0 and 2; kinds 0, 5 and 0x0104; identity kind 4 */
	REFUSE(0, 4, 0, 0, 0, 0, 5);
	REFUSE(2, 4, 0, 0, 0, 0, 5);
	REFUSE(1, 0, 0, 0, 0, 0, 5);
	REFUSE(1, 5, 0, 0, 0, 0, 5);
	REFUSE(1, 4, 1, 0, 0, 0, 5);
	REFUSE(1, 4, 0, 4, 0, 0, 5);
	/* a number in two bytes that fits one; one of eleven bytes */
	REFUSE(1, 4, 0, 0, 0, 0, 0x85, 0);
	REFUSE(1, 4, 0, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
		   0x80, 0x80, 1);
	/* a put with a flag that has no meaning */
	REFUSE(1, 1, 0, 0, 0, 0, 1, 'k', 0, 0, 8);
	/* a key longer than the entry, and one of 2^64 - 1 bytes */
	REFUSE(1, 1, 0, 0, 0, 0, 9, 'k', 0, 0, 0);
	REFUSE(1, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		   0xff, 1, 'k', 0, 0, 0);
	/* delete: range kind 3, flag 2 */
	REFUSE(1, 2, 0, 0, 0, 0, 3, 1, 'k', 0);
	REFUSE(1, 2, 0, 0, 0, 0, 0, 1, 'k', 2);
	/* txn: op kinds 0 and 5; sort order 3, sort target 5 */
	REFUSE(1, 3, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0);
	REFUSE(1, 3, 0, 0, 0, 0, 0, 1, 0, 5, 0, 0, 0);
	REFUSE(1, 3, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 'k', 0, 0, 0, 0, 0, 0, 3, 0, 0);
	REFUSE(1, 3, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 'k', 0, 0, 0, 0, 0, 0, 0, 5, 0);
	/* counts beyond what is there, up to 2^32 - 1, and beyond 32 bits */
	REFUSE(1, 3, 0, 0, 0, 0, 1, 0, 0);
	REFUSE(1, 3, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0);
	REFUSE(1, 3, 0, 0, 0, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x10);
}

/* levels of empty txns, each holding the next as its only success op */
static Buf
nested_entry(unsigned depth)
{
	Buf			buf;

	buf_init(&buf, mcx);
	buf_append(&buf, "\x01\x03\x00\x00\x00\x00", 6);
	for (unsigned i = 1; i < depth; i++)
	{
		buf_append(&buf, "\x00\x01\x00", 3);
		buf_put_u8(&buf, KVOP_TXN);
	}
	buf_append(&buf, "\x00\x00\x00", 3);
	return buf;
}

static void
test_depth(void **state)
{
	Buf			deepest = nested_entry(LOGOP_MAX_TXN_DEPTH);
	Buf			deeper = nested_entry(LOGOP_MAX_TXN_DEPTH + 1);
	Buf			again;
	LogOp		op;

	assert_false(logop_decode(buf_bytes(&deeper), &op, mcx));
	assert_true(logop_decode(buf_bytes(&deepest), &op, mcx));
	again = encode(&op);
	assert_bytes_equal(buf_bytes(&deepest), buf_bytes(&again));
}

/* what no member could decode ends the process that would have written it */
static void
test_encode_too_deep(void **state)
{
	TxnOp		txn = {0};
	LogOp		op = {.kind = LOGOP_TXN};
	pid_t		pid;
	int			status;

	for (int i = 0; i < LOGOP_MAX_TXN_DEPTH; i++)
	{
		KvOp	   *outer = mcx_alloc0(mcx, sizeof(*outer));

		outer->kind = KVOP_TXN;
		outer->txn = txn;
		txn = (TxnOp) {.nsuccess = 1, .success = outer};
	}
	op.txn = txn;
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
	{
		close(2);
		encode(&op);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), ELOG_EXIT_FATAL);
}

/*
 * Each level claims as many ops as there are bytes for: all levels together
 * must not take more memory than one.
 */
static void
test_counts_share_the_entry(void **state)
{
	MemContext *small = mcx_create(NULL, "small");
	Buf			buf;
	LogOp		op;
	size_t		total = 100000;

	buf_init(&buf, mcx);
	buf_append(&buf, "\x01\x03\x00\x00\x00\x00", 6);
	for (unsigned i = 1; i < LOGOP_MAX_TXN_DEPTH; i++)
	{
		buf_put_u8(&buf, 0);
		buf_put_varint(&buf, (total - buf.len - 10) / 4);
		buf_put_u8(&buf, 0);
		buf_put_u8(&buf, KVOP_TXN);
	}
	while (buf.len < total)
		buf_put_u8(&buf, 0);
	assert_false(logop_decode(buf_bytes(&buf), &op, small));
	assert_true(mcx_total_bytes(small) < total / 4 * sizeof(KvOp) * 2);
	mcx_destroy(small);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_kind_is_here),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_truncated_and_longer),
		cmocka_unit_test(test_bit_errors),
		cmocka_unit_test(test_known_bytes),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_encode_too_deep),
		cmocka_unit_test(test_counts_share_the_entry),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
