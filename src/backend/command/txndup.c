/*
 * txndup.c
 *	  A transaction may not put a key twice, nor put and delete it.
 *
 * The rule (etcd-auth-semantics.md E4) for each branch of the top level: of
 * all puts and deletes in it, nested transactions included, no two puts have
 * the same key and no put lies in a deleted range; but success and failure of
 * one nested transaction are alternatives and do not see each other.  Deletes
 * may overlap deletes, ranges are free.
 *
 * The footprint of a run of operations is its puts and its deletes, each
 * sorted by key.  Footprints are joined by halves, like a merge sort, and each
 * join looks for conflicts between its two sides only; so a pair is looked at
 * where its paths meet, which is what the exception for alternatives needs.
 * n operations in k siblings cost O(n log k) on each level.
 *
 * Better than etcd: a delete of all keys from k on is seen as such (there
 * 0x00 is compared like an ordinary end), and a put conflicts with a delete in
 * a later nested transaction as with one in an earlier.
 */
#include "server.h"

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "command/kvrequest.h"

/*
 * On the heap, because the parts of a join are given back at once: in the
 * request's memory a deep transaction would keep one copy per level.
 */
typedef struct Footprint
{
	Bytes	   *puts;			/* sorted, no key twice */
	KeyRange   *dels;			/* sorted by begin, none empty */
	size_t		nputs;
	size_t		ndels;
} Footprint;

static bool branch_footprint(const KvOp *ops, uint32_t n, Footprint *out);
static bool op_footprint(const KvOp *op, Footprint *out);
static bool txn_footprint(const TxnOp *txn, Footprint *out);
static bool footprints_conflict(const Footprint *a, const Footprint *b);
static bool puts_meet(const Footprint *a, const Footprint *b);
static bool put_is_deleted(const Footprint *puts, const Footprint *dels);
static void footprint_join(Footprint *a, Footprint *b, Footprint *out);
static void join_puts(const Footprint *a, const Footprint *b, Footprint *out);
static void join_dels(const Footprint *a, const Footprint *b, Footprint *out);
static void footprint_free(Footprint *footprint);

ErrCode
kvrequest_check_duplicates(const TxnOp *txn)
{
	Footprint	all;

	if (!txn_footprint(txn, &all))
		return ERR_DUPLICATE_KEY;
	footprint_free(&all);
	return ERR_NONE;
}

/*
 * These three return false, and leave nothing to free, if there is a conflict
 * within what they look at.
 */
static bool
branch_footprint(const KvOp *ops, uint32_t n, Footprint *out)
{
	Footprint	left;
	Footprint	right;
	bool		conflict;

	*out = (Footprint) {0};
	if (n == 0)
		return true;
	if (n == 1)
		return op_footprint(&ops[0], out);
	if (!branch_footprint(ops, n / 2, &left))
		return false;
	if (!branch_footprint(ops + n / 2, n - n / 2, &right))
	{
		footprint_free(&left);
		return false;
	}
	conflict = footprints_conflict(&left, &right);
	footprint_join(&left, &right, out);
	if (conflict)
		footprint_free(out);
	return !conflict;
}

static bool
op_footprint(const KvOp *op, Footprint *out)
{
	switch (op->kind)
	{
		case KVOP_PUT:
			out->puts = xmalloc(sizeof(*out->puts));
			out->puts[out->nputs++] = op->put.key;
			return true;
		case KVOP_DELETE:
			if (keyrange_is_empty(&op->delete.range))
				return true;
			out->dels = xmalloc(sizeof(*out->dels));
			out->dels[out->ndels++] = op->delete.range;
			return true;
		case KVOP_TXN:
			return txn_footprint(&op->txn, out);
		case KVOP_RANGE:
			break;
	}
	return true;
}

/* both branches, without looking for conflicts between them */
static bool
txn_footprint(const TxnOp *txn, Footprint *out)
{
	Footprint	success;
	Footprint	failure;

	if (!branch_footprint(txn->success, txn->nsuccess, &success))
		return false;
	if (!branch_footprint(txn->failure, txn->nfailure, &failure))
	{
		footprint_free(&success);
		return false;
	}
	footprint_join(&success, &failure, out);
	return true;
}

static bool
footprints_conflict(const Footprint *a, const Footprint *b)
{
	return puts_meet(a, b) || put_is_deleted(a, b) || put_is_deleted(b, a);
}

static bool
puts_meet(const Footprint *a, const Footprint *b)
{
	size_t		i = 0;
	size_t		k = 0;

	while (i < a->nputs && k < b->nputs)
	{
		int			c = bytes_compare(a->puts[i], b->puts[k]);

		if (c == 0)
			return true;
		if (c < 0)
			i++;
		else
			k++;
	}
	return false;
}

/*
 * The first put at or behind a range's begin tells all: if the range does not
 * hold it, it holds none of those behind it either.
 */
static bool
put_is_deleted(const Footprint *puts, const Footprint *dels)
{
	size_t		k = 0;

	for (size_t i = 0; i < puts->nputs; i++)
		for (; k < dels->ndels &&
			 bytes_compare(dels->dels[k].begin, puts->puts[i]) <= 0; k++)
			if (keyrange_contains(&dels->dels[k], puts->puts[i]))
				return true;
	return false;
}

/* out takes over what a and b hold */
static void
footprint_join(Footprint *a, Footprint *b, Footprint *out)
{
	bool		a_is_empty = a->nputs == 0 && a->ndels == 0;
	bool		b_is_empty = b->nputs == 0 && b->ndels == 0;

	if (a_is_empty || b_is_empty)
	{
		*out = a_is_empty ? *b : *a;
		return;
	}
	*out = (Footprint) {0};
	join_puts(a, b, out);
	join_dels(a, b, out);
	footprint_free(a);
	footprint_free(b);
}

/* a key that both have (alternatives only) stands there once */
static void
join_puts(const Footprint *a, const Footprint *b, Footprint *out)
{
	size_t		i = 0;
	size_t		k = 0;

	out->puts = xmalloc((a->nputs + b->nputs) * sizeof(*out->puts));
	while (i < a->nputs || k < b->nputs)
	{
		int			c = i == a->nputs ? 1 : k == b->nputs ? -1 :
			bytes_compare(a->puts[i], b->puts[k]);

		out->puts[out->nputs++] = c <= 0 ? a->puts[i] : b->puts[k];
		if (c <= 0)
			i++;
		if (c >= 0)
			k++;
	}
}

static void
join_dels(const Footprint *a, const Footprint *b, Footprint *out)
{
	size_t		i = 0;
	size_t		k = 0;

	out->dels = xmalloc((a->ndels + b->ndels) * sizeof(*out->dels));
	while (i < a->ndels || k < b->ndels)
	{
		bool		take_a = k == b->ndels ||
			(i < a->ndels &&
			 bytes_compare(a->dels[i].begin, b->dels[k].begin) <= 0);

		out->dels[out->ndels++] = take_a ? a->dels[i++] : b->dels[k++];
	}
}

static void
footprint_free(Footprint *footprint)
{
	free(footprint->puts);
	free(footprint->dels);
	*footprint = (Footprint) {0};
}
