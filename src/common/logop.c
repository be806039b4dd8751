/*
 * logop.c
 *	  Log operations to bytes and back.
 *
 *	entry    := version u8, kind u16, identity, operation
 *	identity := kind u8, user bytes, credential revision varint
 *	bytes    := length varint, that many bytes
 *	range    := kind u8, begin bytes, end bytes (KEYRANGE_SPAN only)
 *	flags    := u8, a set bit that has no meaning here is refused
 *	txn      := three counts (varint), compares, success ops, failure ops
 *	op       := KvOpKind u8, then put, range, delete or txn
 *
 * Signed numbers are two's complement in a varint of up to ten bytes.
 *
 * There is exactly one encoding of an operation: numbers are in their
 * shortest form, fields always in this order, nothing optional, nothing
 * behind.  So whatever decodes, encodes to the same bytes again, which is
 * what regress/fuzz/fuzz_logop.c checks.
 *
 * A new field means a new entry version: a member of the release before must
 * be able to refuse what it would misread.
 */
#include "server.h"

/* lib and utils */
#include "lib/pbwire.h"
#include "utils/elog.h"

/* this layer and below */
#include "common/logop.h"

#define LOGOP_ENTRY_VERSION 1

/*
 * The shortest encodings, against which counts are checked before arrays are
 * made: range 2, two numbers, number, value; kind and an empty txn; a
 * checkpoint's two numbers.
 */
#define COMPARE_MIN_BYTES 6
#define KVOP_MIN_BYTES 4
#define CHECKPOINT_MIN_BYTES 2

enum
{
	PUT_PREV_KV = 1,
	PUT_IGNORE_VALUE = 2,
	PUT_IGNORE_LEASE = 4,
	PUT_ALL_FLAGS = 7,

	RANGE_SERIALIZABLE = 1,
	RANGE_KEYS_ONLY = 2,
	RANGE_COUNT_ONLY = 4,
	RANGE_ALL_FLAGS = 7,

	DELETE_PREV_KV = 1,
	DELETE_ALL_FLAGS = 1,

	USER_NO_PASSWORD = 1,
	USER_ALL_FLAGS = 1,

	ALARM_IS_ON = 1,
	ALARM_ALL_FLAGS = 1
};

typedef struct Decoder
{
	Cursor		cur;
	MemContext *mcx;

	/*
	 * Bytes of the entry that no count has claimed yet.  Counts of nested
	 * transactions share it, so arrays of all levels together stay
	 * proportional to the entry.
	 */
	size_t		unclaimed;
} Decoder;

static void put_operation(Buf *out, const LogOp *op);
static void put_txn(Buf *out, const TxnOp *txn, unsigned depth);
static void put_kvops(Buf *out, const KvOp *ops, uint32_t n, unsigned depth);
static void put_put(Buf *out, const PutOp *op);
static void put_range(Buf *out, const RangeOp *op);
static void put_delete(Buf *out, const DeleteOp *op);
static void put_compare(Buf *out, const CompareOp *op);
static void put_checkpoint(Buf *out, const LogOp *op);
static void put_keyrange(Buf *out, const KeyRange *range);
static void put_int(Buf *out, int64_t v);

static bool get_operation(Decoder *d, LogOp *op);
static bool get_txn(Decoder *d, TxnOp *txn, unsigned depth);
static bool get_kvops(Decoder *d, KvOp **ops, uint32_t n, unsigned depth);
static bool get_kvop(Decoder *d, KvOp *op, unsigned depth);
static bool get_put(Decoder *d, PutOp *op);
static bool get_range(Decoder *d, RangeOp *op);
static bool get_delete(Decoder *d, DeleteOp *op);
static bool get_compare(Decoder *d, CompareOp *op);
static bool get_checkpoint(Decoder *d, LogOp *op);
static bool get_identity(Decoder *d, Identity *identity);
static bool get_keyrange(Decoder *d, KeyRange *range);
static bool get_bytes(Decoder *d, Bytes *b);
static bool get_flags(Decoder *d, uint8_t all, uint8_t *flags);
static bool get_count(Decoder *d, size_t min_bytes, uint32_t *n);
static bool get_uint32(Decoder *d, uint32_t *v);
static bool get_int(Decoder *d, int64_t *v);
static bool get_uint(Decoder *d, uint64_t *v);

void
logop_encode(const LogOp *op, Buf *out)
{
	buf_put_u8(out, LOGOP_ENTRY_VERSION);
	buf_put_u16(out, (uint16_t) op->kind);
	buf_put_u8(out, (uint8_t) op->identity.kind);
	buf_put_bytes(out, op->identity.user);
	buf_put_varint(out, op->identity.cred_rev);
	put_operation(out, op);
}

bool
logop_decode(Bytes data, LogOp *op, MemContext *mcx)
{
	Decoder		d = {cursor_make(data), mcx, data.len};
	uint8_t		version;
	uint16_t	kind;

	memset(op, 0, sizeof(*op));
	if (!cursor_get_u8(&d.cur, &version) || version != LOGOP_ENTRY_VERSION ||
		!cursor_get_u16(&d.cur, &kind))
		return false;
	op->kind = (LogOpKind) kind;
	return get_identity(&d, &op->identity) && get_operation(&d, op) &&
		cursor_left(&d.cur) == 0;
}

const char *
logop_name(uint32_t kind)
{
	switch (kind)
	{
#define LOGOP(symbol, number, name) \
	case symbol: \
		return name;
#include "common/logoplist.h"
#undef LOGOP
		default:
			return "unknown";
	}
}

/* ---- writing ---- */

static void
put_operation(Buf *out, const LogOp *op)
{
	switch (op->kind)
	{
		case LOGOP_PUT:
			put_put(out, &op->put);
			break;
		case LOGOP_DELETE:
			put_delete(out, &op->delete);
			break;
		case LOGOP_TXN:
			put_txn(out, &op->txn, 1);
			break;
		case LOGOP_COMPACT:
			put_int(out, op->compact_revision);
			break;
		case LOGOP_LEASE_GRANT:
			put_int(out, op->lease.id);
			put_int(out, op->lease.ttl_sec);
			break;
		case LOGOP_LEASE_REVOKE:
		case LOGOP_LEASE_RENEW:
			put_int(out, op->lease.id);
			break;
		case LOGOP_LEASE_CHECKPOINT:
			put_checkpoint(out, op);
			break;
		case LOGOP_AUTH_ENABLE:
		case LOGOP_AUTH_DISABLE:
			break;
		case LOGOP_USER_ADD:
			buf_put_bytes(out, op->user.name);
			buf_put_bytes(out, op->user.phc);
			buf_put_u8(out, op->user.no_password ? USER_NO_PASSWORD : 0);
			break;
		case LOGOP_USER_CHANGE_PASSWORD:
			buf_put_bytes(out, op->user.name);
			buf_put_bytes(out, op->user.phc);
			break;
		case LOGOP_USER_DELETE:
			buf_put_bytes(out, op->user.name);
			break;
		case LOGOP_USER_GRANT_ROLE:
		case LOGOP_USER_REVOKE_ROLE:
			buf_put_bytes(out, op->grant.user);
			buf_put_bytes(out, op->grant.role);
			break;
		case LOGOP_ROLE_ADD:
		case LOGOP_ROLE_DELETE:
			buf_put_bytes(out, op->role.name);
			break;
		case LOGOP_ROLE_GRANT_PERMISSION:
			buf_put_bytes(out, op->role.name);
			buf_put_varint(out, op->role.perm_type);
			put_keyrange(out, &op->role.range);
			break;
		case LOGOP_ROLE_REVOKE_PERMISSION:
			buf_put_bytes(out, op->role.name);
			put_keyrange(out, &op->role.range);
			break;
		case LOGOP_AUTHENTICATE:
			buf_put_bytes(out, op->authenticate.user);
			buf_put_varint(out, op->authenticate.cred_rev);
			buf_append(out, op->authenticate.token_hash, TOKEN_HASH_BYTES);
			buf_put_varint(out, op->authenticate.ttl_sec);
			break;
		case LOGOP_MEMBER_PUBLISH:
			buf_put_varint(out, op->member.id);
			buf_put_bytes(out, op->member.name);
			buf_put_bytes(out, op->member.client_urls);
			buf_put_bytes(out, op->member.peer_urls);
			break;
		case LOGOP_ALARM:
			buf_put_u8(out, op->alarm.is_on ? ALARM_IS_ON : 0);
			buf_put_varint(out, op->alarm.member_id);
			buf_put_varint(out, op->alarm.type);
			break;
		case LOGOP_QUOTA_REACHED:
			buf_put_varint(out, op->alarm.member_id);
			break;
	}
}

static void
put_txn(Buf *out, const TxnOp *txn, unsigned depth)
{
	/*
	 * The command station refuses deeper requests with an error.  Should one
	 * get here, this process must end: the entry would be committed, and then
	 * no member could decode it.
	 */
	if (depth > LOGOP_MAX_TXN_DEPTH)
		elog_fatal("transaction nested deeper than %d levels",
				   LOGOP_MAX_TXN_DEPTH);
	buf_put_varint(out, txn->ncompares);
	buf_put_varint(out, txn->nsuccess);
	buf_put_varint(out, txn->nfailure);
	for (uint32_t i = 0; i < txn->ncompares; i++)
		put_compare(out, &txn->compares[i]);
	put_kvops(out, txn->success, txn->nsuccess, depth);
	put_kvops(out, txn->failure, txn->nfailure, depth);
}

static void
put_kvops(Buf *out, const KvOp *ops, uint32_t n, unsigned depth)
{
	for (uint32_t i = 0; i < n; i++)
	{
		buf_put_u8(out, (uint8_t) ops[i].kind);
		switch (ops[i].kind)
		{
			case KVOP_RANGE:
				put_range(out, &ops[i].range);
				break;
			case KVOP_PUT:
				put_put(out, &ops[i].put);
				break;
			case KVOP_DELETE:
				put_delete(out, &ops[i].delete);
				break;
			case KVOP_TXN:
				put_txn(out, &ops[i].txn, depth + 1);
				break;
		}
	}
}

static void
put_put(Buf *out, const PutOp *op)
{
	buf_put_bytes(out, op->key);
	buf_put_bytes(out, op->value);
	put_int(out, op->lease);
	buf_put_u8(out, (uint8_t) ((op->prev_kv ? PUT_PREV_KV : 0) |
							   (op->ignore_value ? PUT_IGNORE_VALUE : 0) |
							   (op->ignore_lease ? PUT_IGNORE_LEASE : 0)));
}

static void
put_range(Buf *out, const RangeOp *op)
{
	put_keyrange(out, &op->range);
	put_int(out, op->limit);
	put_int(out, op->revision);
	put_int(out, op->min_mod_revision);
	put_int(out, op->max_mod_revision);
	put_int(out, op->min_create_revision);
	put_int(out, op->max_create_revision);
	buf_put_u8(out, (uint8_t) op->sort_order);
	buf_put_u8(out, (uint8_t) op->sort_target);
	buf_put_u8(out, (uint8_t) ((op->serializable ? RANGE_SERIALIZABLE : 0) |
							   (op->keys_only ? RANGE_KEYS_ONLY : 0) |
							   (op->count_only ? RANGE_COUNT_ONLY : 0)));
}

static void
put_delete(Buf *out, const DeleteOp *op)
{
	put_keyrange(out, &op->range);
	buf_put_u8(out, op->prev_kv ? DELETE_PREV_KV : 0);
}

static void
put_compare(Buf *out, const CompareOp *op)
{
	put_keyrange(out, &op->range);
	buf_put_varint(out, op->result);
	buf_put_varint(out, op->target);
	put_int(out, op->number);
	buf_put_bytes(out, op->value);
}

static void
put_checkpoint(Buf *out, const LogOp *op)
{
	buf_put_varint(out, op->checkpoint.n);
	for (uint32_t i = 0; i < op->checkpoint.n; i++)
	{
		put_int(out, op->checkpoint.leases[i].id);
		put_int(out, op->checkpoint.leases[i].remaining_sec);
	}
}

static void
put_keyrange(Buf *out, const KeyRange *range)
{
	buf_put_u8(out, (uint8_t) range->kind);
	buf_put_bytes(out, range->begin);
	if (range->kind == KEYRANGE_SPAN)
		buf_put_bytes(out, range->end);
}

static void
put_int(Buf *out, int64_t v)
{
	buf_put_varint(out, (uint64_t) v);
}

/* ---- reading ---- */

static bool
get_operation(Decoder *d, LogOp *op)
{
	uint8_t		flags;
	Bytes		hash;

	switch (op->kind)
	{
		case LOGOP_PUT:
			return get_put(d, &op->put);
		case LOGOP_DELETE:
			return get_delete(d, &op->delete);
		case LOGOP_TXN:
			return get_txn(d, &op->txn, 1);
		case LOGOP_COMPACT:
			return get_int(d, &op->compact_revision);
		case LOGOP_LEASE_GRANT:
			return get_int(d, &op->lease.id) &&
				get_int(d, &op->lease.ttl_sec);
		case LOGOP_LEASE_REVOKE:
		case LOGOP_LEASE_RENEW:
			return get_int(d, &op->lease.id);
		case LOGOP_LEASE_CHECKPOINT:
			return get_checkpoint(d, op);
		case LOGOP_AUTH_ENABLE:
		case LOGOP_AUTH_DISABLE:
			return true;
		case LOGOP_USER_ADD:
			if (!get_bytes(d, &op->user.name) || !get_bytes(d, &op->user.phc) ||
				!get_flags(d, USER_ALL_FLAGS, &flags))
				return false;
			op->user.no_password = (flags & USER_NO_PASSWORD) != 0;
			return true;
		case LOGOP_USER_CHANGE_PASSWORD:
			return get_bytes(d, &op->user.name) && get_bytes(d, &op->user.phc);
		case LOGOP_USER_DELETE:
			return get_bytes(d, &op->user.name);
		case LOGOP_USER_GRANT_ROLE:
		case LOGOP_USER_REVOKE_ROLE:
			return get_bytes(d, &op->grant.user) &&
				get_bytes(d, &op->grant.role);
		case LOGOP_ROLE_ADD:
		case LOGOP_ROLE_DELETE:
			return get_bytes(d, &op->role.name);
		case LOGOP_ROLE_GRANT_PERMISSION:
			return get_bytes(d, &op->role.name) &&
				get_uint32(d, &op->role.perm_type) &&
				get_keyrange(d, &op->role.range);
		case LOGOP_ROLE_REVOKE_PERMISSION:
			return get_bytes(d, &op->role.name) &&
				get_keyrange(d, &op->role.range);
		case LOGOP_AUTHENTICATE:
			if (!get_bytes(d, &op->authenticate.user) ||
				!get_uint(d, &op->authenticate.cred_rev) ||
				!cursor_get_raw(&d->cur, TOKEN_HASH_BYTES, &hash))
				return false;
			memcpy(op->authenticate.token_hash, hash.data, TOKEN_HASH_BYTES);
			return get_uint32(d, &op->authenticate.ttl_sec);
		case LOGOP_MEMBER_PUBLISH:
			return get_uint(d, &op->member.id) &&
				get_bytes(d, &op->member.name) &&
				get_bytes(d, &op->member.client_urls) &&
				get_bytes(d, &op->member.peer_urls);
		case LOGOP_ALARM:
			if (!get_flags(d, ALARM_ALL_FLAGS, &flags))
				return false;
			op->alarm.is_on = (flags & ALARM_IS_ON) != 0;
			return get_uint(d, &op->alarm.member_id) &&
				get_uint32(d, &op->alarm.type);
		case LOGOP_QUOTA_REACHED:
			return get_uint(d, &op->alarm.member_id);
	}
	return false;
}

static bool
get_txn(Decoder *d, TxnOp *txn, unsigned depth)
{
	if (depth > LOGOP_MAX_TXN_DEPTH ||
		!get_count(d, COMPARE_MIN_BYTES, &txn->ncompares) ||
		!get_count(d, KVOP_MIN_BYTES, &txn->nsuccess) ||
		!get_count(d, KVOP_MIN_BYTES, &txn->nfailure))
		return false;
	txn->compares = NULL;
	if (txn->ncompares > 0)
		txn->compares =
			mcx_alloc0(d->mcx, txn->ncompares * sizeof(*txn->compares));
	for (uint32_t i = 0; i < txn->ncompares; i++)
	{
		if (!get_compare(d, &txn->compares[i]))
			return false;
	}
	return get_kvops(d, &txn->success, txn->nsuccess, depth) &&
		get_kvops(d, &txn->failure, txn->nfailure, depth);
}

static bool
get_kvops(Decoder *d, KvOp **ops, uint32_t n, unsigned depth)
{
	*ops = NULL;
	if (n == 0)
		return true;
	*ops = mcx_alloc0(d->mcx, n * sizeof(**ops));
	for (uint32_t i = 0; i < n; i++)
	{
		if (!get_kvop(d, &(*ops)[i], depth))
			return false;
	}
	return true;
}

static bool
get_kvop(Decoder *d, KvOp *op, unsigned depth)
{
	uint8_t		kind;

	if (!cursor_get_u8(&d->cur, &kind))
		return false;
	op->kind = (KvOpKind) kind;
	switch (op->kind)
	{
		case KVOP_RANGE:
			return get_range(d, &op->range);
		case KVOP_PUT:
			return get_put(d, &op->put);
		case KVOP_DELETE:
			return get_delete(d, &op->delete);
		case KVOP_TXN:
			return get_txn(d, &op->txn, depth + 1);
	}
	return false;
}

static bool
get_put(Decoder *d, PutOp *op)
{
	uint8_t		flags;

	if (!get_bytes(d, &op->key) || !get_bytes(d, &op->value) ||
		!get_int(d, &op->lease) || !get_flags(d, PUT_ALL_FLAGS, &flags))
		return false;
	op->prev_kv = (flags & PUT_PREV_KV) != 0;
	op->ignore_value = (flags & PUT_IGNORE_VALUE) != 0;
	op->ignore_lease = (flags & PUT_IGNORE_LEASE) != 0;
	return true;
}

static bool
get_range(Decoder *d, RangeOp *op)
{
	uint8_t		order;
	uint8_t		target;
	uint8_t		flags;

	if (!get_keyrange(d, &op->range) || !get_int(d, &op->limit) ||
		!get_int(d, &op->revision) || !get_int(d, &op->min_mod_revision) ||
		!get_int(d, &op->max_mod_revision) ||
		!get_int(d, &op->min_create_revision) ||
		!get_int(d, &op->max_create_revision) ||
		!cursor_get_u8(&d->cur, &order) || order > SORT_DESCEND ||
		!cursor_get_u8(&d->cur, &target) || target > SORT_BY_VALUE ||
		!get_flags(d, RANGE_ALL_FLAGS, &flags))
		return false;
	op->sort_order = (SortOrder) order;
	op->sort_target = (SortTarget) target;
	op->serializable = (flags & RANGE_SERIALIZABLE) != 0;
	op->keys_only = (flags & RANGE_KEYS_ONLY) != 0;
	op->count_only = (flags & RANGE_COUNT_ONLY) != 0;
	return true;
}

static bool
get_delete(Decoder *d, DeleteOp *op)
{
	uint8_t		flags;

	if (!get_keyrange(d, &op->range) ||
		!get_flags(d, DELETE_ALL_FLAGS, &flags))
		return false;
	op->prev_kv = (flags & DELETE_PREV_KV) != 0;
	return true;
}

static bool
get_compare(Decoder *d, CompareOp *op)
{
	return get_keyrange(d, &op->range) && get_uint32(d, &op->result) &&
		get_uint32(d, &op->target) && get_int(d, &op->number) &&
		get_bytes(d, &op->value);
}

static bool
get_checkpoint(Decoder *d, LogOp *op)
{
	uint32_t	n;

	if (!get_count(d, CHECKPOINT_MIN_BYTES, &n))
		return false;
	op->checkpoint.n = n;
	op->checkpoint.leases = NULL;
	if (n > 0)
		op->checkpoint.leases =
			mcx_alloc0(d->mcx, n * sizeof(*op->checkpoint.leases));
	for (uint32_t i = 0; i < n; i++)
	{
		LeaseCheckpoint *lease = &op->checkpoint.leases[i];

		if (!get_int(d, &lease->id) || !get_int(d, &lease->remaining_sec))
			return false;
	}
	return true;
}

static bool
get_identity(Decoder *d, Identity *identity)
{
	uint8_t		kind;

	if (!cursor_get_u8(&d->cur, &kind) || kind > IDENTITY_INTERNAL ||
		!get_bytes(d, &identity->user) || !get_uint(d, &identity->cred_rev))
		return false;
	identity->kind = (IdentityKind) kind;
	return true;
}

static bool
get_keyrange(Decoder *d, KeyRange *range)
{
	uint8_t		kind;

	if (!cursor_get_u8(&d->cur, &kind) || kind > KEYRANGE_FROM ||
		!get_bytes(d, &range->begin))
		return false;
	range->kind = (KeyRangeKind) kind;
	return range->kind != KEYRANGE_SPAN || get_bytes(d, &range->end);
}

static bool
get_bytes(Decoder *d, Bytes *b)
{
	uint64_t	len;

	/* 32 bits is what a stored version has for a length */
	return get_uint(d, &len) && len <= UINT32_MAX &&
		cursor_get_raw(&d->cur, (size_t) len, b);
}

static bool
get_flags(Decoder *d, uint8_t all, uint8_t *flags)
{
	return cursor_get_u8(&d->cur, flags) && (*flags & ~all) == 0;
}

/* a count of things that take at least min_bytes each */
static bool
get_count(Decoder *d, size_t min_bytes, uint32_t *n)
{
	if (!get_uint32(d, n) || *n > d->unclaimed / min_bytes)
		return false;
	d->unclaimed -= *n * min_bytes;
	return true;
}

static bool
get_uint32(Decoder *d, uint32_t *v)
{
	uint64_t	wide;

	if (!get_uint(d, &wide) || wide > UINT32_MAX)
		return false;
	*v = (uint32_t) wide;
	return true;
}

static bool
get_int(Decoder *d, int64_t *v)
{
	uint64_t	bits;

	if (!get_uint(d, &bits))
		return false;
	*v = (int64_t) bits;
	return true;
}

/* a varint in its shortest form only: one encoding for one operation */
static bool
get_uint(Decoder *d, uint64_t *v)
{
	const uint8_t *start = d->cur.pos;

	return cursor_get_varint(&d->cur, v) &&
		(size_t) (d->cur.pos - start) == pbwire_varint_size(*v);
}
