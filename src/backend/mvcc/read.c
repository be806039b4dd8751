/*
 * read.c
 *	  Reading keys at a revision: get, range, and the walk under both.
 *
 * A reader holds a StoreVersion and needs no lock.  The key tree of that
 * version gives the newest version of each key; older ones hang behind it and
 * are found by following prev until the revision fits.
 *
 * XXX A read of an old revision of a key that was changed very often since
 * walks all of its younger versions; etcd has a binary search there.  It will
 * hurt with a hot key and compactions far apart.
 */
#include "server.h"

/* lib and utils */
#include "lib/pbwire.h"
#include "utils/clock.h"

/* this layer and below */
#include "mvcc/mvcc_internal.h"

/* the clock is read once for this many keys and chain steps */
#define WORK_PER_CLOCK_READ 256

/* copying so much takes as long as looking at a key */
#define BYTES_PER_WORK 1024

/* RangeResponse, mvccpb.KeyValue */
enum
{
	RANGE_KVS = 2,
	RANGE_MORE = 3,
	RANGE_COUNT = 4,

	KV_KEY = 1,
	KV_CREATE_REVISION = 2,
	KV_MOD_REVISION = 3,
	KV_VERSION = 4,
	KV_VALUE = 5,
	KV_LEASE = 6
};

typedef struct KvArray
{
	const KvVersion **items;
	size_t		n;
	size_t		cap;
	MemContext *mcx;
} KvArray;

static ErrCode range_direct(const StoreVersion *v, const RangeOp *op,
							ReadBudget *budget, Buf *out);
static ErrCode range_collected(const StoreVersion *v, const RangeOp *op,
							   ReadBudget *budget, MemContext *scratch,
							   Buf *out);
static ErrCode answer_kv(const RangeOp *op, const KvVersion *kv,
						 ReadBudget *budget, size_t start, Buf *out);
static bool in_key_order(const RangeOp *op);
static bool has_filter(const RangeOp *op);
static bool passes_filter(const RangeOp *op, const KvVersion *kv);
static void collected_sort(KvArray *kvs, const RangeOp *op);
static int	compare_for_sort(const void *a, const void *b, void *arg);
static int	compare_target(const KvVersion *a, const KvVersion *b,
						   SortTarget target);
static void kvarray_add(KvArray *kvs, const KvVersion *kv);
static const KvVersion *version_at(const KvVersion *newest, int64_t revision,
								   ReadBudget *budget);

const KvVersion *
mvcc_get(const StoreVersion *v, Bytes key, int64_t revision)
{
	const CowItem *item;
	ReadBudget	unlimited = {0};

	/* what lies behind the compacted revision may be freed under our feet */
	if (revision > 0 && revision < v->compacted_revision)
		return NULL;
	item = cowtree_get(&v->keys, key);
	if (item == NULL)
		return NULL;
	return version_at(kvversion_from_item(item), revision, &unlimited);
}

ErrCode
mvcc_range(const StoreVersion *v, const RangeOp *op, int64_t deadline_ms,
		   MemContext *scratch, Buf *out)
{
	ReadBudget	budget = {.deadline_ms = deadline_ms};
	size_t		start = out->len;
	ErrCode		error;

	if (op->revision > v->kv_revision)
		return ERR_FUTURE_REV;
	if (op->revision > 0 && op->revision < v->compacted_revision)
		return ERR_COMPACTED;
	if (op->count_only || (in_key_order(op) && !has_filter(op)))
		error = range_direct(v, op, &budget, out);
	else
		error = range_collected(v, op, &budget, scratch, out);
	if (error != ERR_NONE)
		out->len = start;
	return error;
}

ErrCode
mvcc_range_part(const StoreVersion *v, const RangeOp *op, RangePart *part,
				uint64_t max_keys, int64_t deadline_ms, Buf *out)
{
	ReadBudget	budget = {.deadline_ms = deadline_ms};
	KeyRange	rest = op->range;
	RangeScan	scan;
	const KvVersion *kv;

	if (part->next.len > 0)
		rest.begin = buf_bytes(&part->next);
	part->nkeys = 0;
	part->is_last = true;
	mvcc_scan_begin(&scan, v, &rest, op->revision, &budget);
	while ((kv = mvcc_scan_next(&scan)) != NULL)
	{
		if (part->nkeys == max_keys)
		{
			/* may be what rest begins with: first the copy is over */
			Bytes		key = kvversion_key(kv);

			part->is_last = false;
			part->next.len = 0;
			buf_append(&part->next, key.data, key.len);
			break;
		}
		if (out != NULL)
			mvcc_put_kv_field(out, RANGE_KVS, kv, op->keys_only);
		part->nkeys++;
	}
	return scan.error;
}

void
mvcc_put_kv_field(Buf *out, unsigned field, const KvVersion *kv,
				  bool keys_only)
{
	Bytes		key = kvversion_key(kv);
	Bytes		value = keys_only ? BYTES_EMPTY : kvversion_value(kv);
	size_t		size;

	size = pbwire_bytes_size(KV_KEY, key) +
		pbwire_int_size(KV_CREATE_REVISION, kv->create_revision) +
		pbwire_int_size(KV_MOD_REVISION, kv->mod_revision) +
		pbwire_int_size(KV_VERSION, kv->version) +
		pbwire_bytes_size(KV_VALUE, value) +
		pbwire_int_size(KV_LEASE, kv->lease);
	pbwire_tag(out, field, PBWIRE_BYTES);
	buf_put_varint(out, size);
	buf_reserve(out, size);
	pbwire_put_bytes(out, KV_KEY, key);
	pbwire_put_int(out, KV_CREATE_REVISION, kv->create_revision);
	pbwire_put_int(out, KV_MOD_REVISION, kv->mod_revision);
	pbwire_put_int(out, KV_VERSION, kv->version);
	pbwire_put_bytes(out, KV_VALUE, value);
	pbwire_put_int(out, KV_LEASE, kv->lease);
}

/* ---- the walk ---- */

void
mvcc_scan_begin(RangeScan *scan, const StoreVersion *v, const KeyRange *range,
				int64_t revision, ReadBudget *budget)
{
	scan->range = range;
	scan->revision = revision;
	scan->compacted_revision = v->compacted_revision;
	scan->budget = budget;
	scan->error = ERR_NONE;
	/* one key needs no position */
	if (range->kind == KEYRANGE_POINT)
	{
		scan->cursor.depth = 0;
		scan->next = cowtree_get(&v->keys, range->begin);
	}
	else
		scan->next = cowtree_seek(&v->keys, &scan->cursor, range->begin);
}

const KvVersion *
mvcc_scan_next(RangeScan *scan)
{
	while (scan->next != NULL)
	{
		const CowItem *item = scan->next;
		const KvVersion *newest = kvversion_from_item(item);
		uint32_t	before;
		const KvVersion *kv;

		if (keyrange_is_past(scan->range, cowitem_key(item)))
			break;
		scan->error = mvcc_budget_check(scan->budget);
		if (scan->error != ERR_NONE)
			break;
		scan->next = scan->range->kind == KEYRANGE_POINT
			? NULL
			: cowtree_next(&scan->cursor);
		before = scan->budget->work;
		kv = version_at(newest, scan->revision, scan->budget);
		if (kv != NULL || newest->mod_revision > scan->compacted_revision)
			scan->budget->steps += scan->budget->work - before;
		if (kv != NULL)
			return kv;
	}
	scan->next = NULL;
	return NULL;
}

ErrCode
mvcc_budget_check(ReadBudget *budget)
{
	if (budget->max_steps > 0 && (budget->steps > budget->max_steps ||
								  budget->bytes > budget->max_bytes))
		return ERR_TXN_READS_TOO_MUCH;
	if (budget->work < WORK_PER_CLOCK_READ || budget->deadline_ms == 0)
		return ERR_NONE;
	budget->work = 0;
	return clock_monotonic_ms() < budget->deadline_ms ? ERR_NONE :
		ERR_SNAPSHOT_TOO_OLD;
}

/* ---- ranges ---- */

/*
 * Key order, no filter: each key goes straight into the answer, and beyond
 * the limit it is only counted.
 */
static ErrCode
range_direct(const StoreVersion *v, const RangeOp *op, ReadBudget *budget,
			 Buf *out)
{
	RangeScan	scan;
	const KvVersion *kv;
	size_t		start = out->len;
	int64_t		count = 0;
	ErrCode		error = ERR_NONE;

	mvcc_scan_begin(&scan, v, &op->range, op->revision, budget);
	while (error == ERR_NONE && (kv = mvcc_scan_next(&scan)) != NULL)
	{
		if (!op->count_only && (op->limit <= 0 || count < op->limit))
			error = answer_kv(op, kv, budget, start, out);
		count++;
	}
	if (error != ERR_NONE)
		return error;
	if (!op->count_only && op->limit > 0 && count > op->limit)
		pbwire_put_uint(out, RANGE_MORE, 1);
	pbwire_put_int(out, RANGE_COUNT, count);
	return scan.error;
}

/*
 * Filter, then sort, then cut at the limit.  (etcd cuts first in one case,
 * sort target other than KEY without an order; that answer is of no use.)
 */
static ErrCode
range_collected(const StoreVersion *v, const RangeOp *op, ReadBudget *budget,
				MemContext *scratch, Buf *out)
{
	KvArray		kvs = {.mcx = scratch};
	RangeScan	scan;
	const KvVersion *kv;
	size_t		start = out->len;
	int64_t		count = 0;
	size_t		nshown;

	mvcc_scan_begin(&scan, v, &op->range, op->revision, budget);
	while ((kv = mvcc_scan_next(&scan)) != NULL)
	{
		count++;
		if (passes_filter(op, kv))
			kvarray_add(&kvs, kv);
	}
	if (scan.error != ERR_NONE)
		return scan.error;
	collected_sort(&kvs, op);
	nshown = kvs.n;
	if (op->limit > 0 && (uint64_t) op->limit < nshown)
		nshown = (size_t) op->limit;
	for (size_t i = 0; i < nshown; i++)
	{
		ErrCode		error = mvcc_budget_check(budget);

		if (error == ERR_NONE)
			error = answer_kv(op, kvs.items[i], budget, start, out);
		if (error != ERR_NONE)
			return error;
	}
	if (nshown < kvs.n)
		pbwire_put_uint(out, RANGE_MORE, 1);
	pbwire_put_int(out, RANGE_COUNT, count);
	return ERR_NONE;
}

static ErrCode
answer_kv(const RangeOp *op, const KvVersion *kv, ReadBudget *budget,
		  size_t start, Buf *out)
{
	size_t		before = out->len;

	mvcc_put_kv_field(out, RANGE_KVS, kv, op->keys_only);
	budget->work += (uint32_t) ((out->len - before) / BYTES_PER_WORK);
	return out->len - start > MVCC_MAX_ANSWER_BYTES ? ERR_ANSWER_TOO_LARGE :
		ERR_NONE;
}

static bool
in_key_order(const RangeOp *op)
{
	return op->sort_target == SORT_BY_KEY && op->sort_order != SORT_DESCEND;
}

static bool
has_filter(const RangeOp *op)
{
	return op->min_mod_revision != 0 || op->max_mod_revision != 0 ||
		op->min_create_revision != 0 || op->max_create_revision != 0;
}

static bool
passes_filter(const RangeOp *op, const KvVersion *kv)
{
	if (op->max_mod_revision != 0 && kv->mod_revision > op->max_mod_revision)
		return false;
	if (op->min_mod_revision != 0 && kv->mod_revision < op->min_mod_revision)
		return false;
	if (op->max_create_revision != 0 &&
		kv->create_revision > op->max_create_revision)
		return false;
	return op->min_create_revision == 0 ||
		kv->create_revision >= op->min_create_revision;
}

/* they come in key order, which is all that a filter without a sort needs */
static void
collected_sort(KvArray *kvs, const RangeOp *op)
{
	if (kvs->n > 1 && !in_key_order(op))
		qsort_r(kvs->items, kvs->n, sizeof(*kvs->items), compare_for_sort,
				(void *) op);
}

/*
 * A total order, equal targets by ascending key in both directions, so that
 * the same question has the same answer on every member.
 */
static int
compare_for_sort(const void *a, const void *b, void *arg)
{
	const KvVersion *kv_a = *(const KvVersion *const *) a;
	const KvVersion *kv_b = *(const KvVersion *const *) b;
	const RangeOp *op = arg;
	int			c = compare_target(kv_a, kv_b, op->sort_target);

	if (c != 0)
		return op->sort_order == SORT_DESCEND ? -c : c;
	return bytes_compare(kvversion_key(kv_a), kvversion_key(kv_b));
}

static int
compare_int64(int64_t a, int64_t b)
{
	return (a > b) - (a < b);
}

static int
compare_target(const KvVersion *a, const KvVersion *b, SortTarget target)
{
	int			c = 0;

	switch (target)
	{
		case SORT_BY_KEY:
			c = bytes_compare(kvversion_key(a), kvversion_key(b));
			break;
		case SORT_BY_VERSION:
			c = compare_int64(a->version, b->version);
			break;
		case SORT_BY_CREATE:
			c = compare_int64(a->create_revision, b->create_revision);
			break;
		case SORT_BY_MOD:
			c = compare_int64(a->mod_revision, b->mod_revision);
			break;
		case SORT_BY_VALUE:
			c = bytes_compare(kvversion_value(a), kvversion_value(b));
			break;
	}
	/* memcmp() may give INT_MIN, whose negative is itself */
	return (c > 0) - (c < 0);
}

static void
kvarray_add(KvArray *kvs, const KvVersion *kv)
{
	if (kvs->n == kvs->cap)
	{
		size_t		cap = kvs->cap == 0 ? 64 : kvs->cap * 2;

		kvs->items = mcx_grow(kvs->mcx, kvs->items,
							  kvs->n * sizeof(*kvs->items),
							  cap * sizeof(*kvs->items));
		kvs->cap = cap;
	}
	kvs->items[kvs->n++] = kv;
}

/* ---- one key ---- */

/* NULL if the key did not exist then */
static const KvVersion *
version_at(const KvVersion *newest, int64_t revision, ReadBudget *budget)
{
	const KvVersion *kv = newest;

	budget->work++;
	if (revision > 0)
	{
		while (kv != NULL && kv->mod_revision > revision)
		{
			kv = kvversion_prev(kv);
			budget->work++;
		}
	}
	return kv == NULL || kvversion_is_tombstone(kv) ? NULL : kv;
}
