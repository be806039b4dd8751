/*
 * txn.c
 *	  Transactions: compares, then one branch, nested ones included.
 *
 * Two passes.  Prepare walks the tree of transactions from the top along the
 * branches that will run: it evaluates every level's compares on the state
 * before the transaction, notes the choices, and checks all that can fail:
 * the puts of the whole tree before its ranges, since that decides which error
 * a client of etcd is told.
 * Execute walks the same way again by the noted choices, and cannot fail when
 * it writes; so a transaction that is refused has changed nothing.
 *
 * Recursion is bounded by LOGOP_MAX_TXN_DEPTH (common/logop.h).
 *
 * While a transaction that writes is carried out everybody waits, and its
 * operations are few but its ranges may be long.  So the first pass also counts
 * what compares and ranges look at and how large the answer will be, and
 * refuses what is beyond TXN_MAX_STEPS and TXN_MAX_BYTES.  The bounds are part
 * of the state machine, the same on all members.  One that only reads runs in
 * its client's own process, until a deadline.
 */
#include "server.h"

/* lib and utils */
#include "lib/pbwire.h"

/* this layer and below */
#include "mvcc/mvcc_internal.h"

/* some 30 ms, and some 400 (the answer is copied several times) */
#define TXN_MAX_STEPS 200000
#define TXN_MAX_BYTES (64 * 1024 * 1024)
/* what sorting a key costs beside looking at it */
#define SORT_STEPS 1
/* numbers of a KeyValue, and what is around it */
#define KV_OVERHEAD_BYTES 64

/* TxnResponse, ResponseOp, ResponseHeader */
enum
{
	TXN_HEADER = 1,
	TXN_SUCCEEDED = 2,
	TXN_RESPONSES = 3,

	OP_RANGE = 1,
	OP_PUT = 2,
	OP_DELETE_RANGE = 3,
	OP_TXN = 4,

	NESTED_HEADER = 1,
	HEADER_REVISION = 3
};

typedef struct TxnRun
{
	const StoreVersion *v;		/* the draft when writing */
	MvccWrite  *w;				/* NULL: read-only */
	MvccCounts *counts;
	ReadBudget	budget;
	MemContext *scratch;
	Buf		   *out;			/* NULL: no answer wanted */
	size_t		out_start;

	/* per transaction, in the order of walking: did its compares hold? */
	Buf			choices;
	size_t		next_choice;

	/* those that ranges_check() has passed: later ranges will see them */
	const PutOp **puts;
	uint32_t	nputs;
	uint32_t	cap_puts;
} TxnRun;

typedef struct Branch
{
	const KvOp *ops;
	uint32_t	n;
} Branch;

static ErrCode txn_prepare(TxnRun *run, const TxnOp *txn);
static ErrCode put_check(TxnRun *run, const KvOp *op);
static ErrCode ranges_check(TxnRun *run, const TxnOp *txn);
static ErrCode range_check(TxnRun *run, const RangeOp *op);
static ErrCode range_measure(TxnRun *run, const RangeOp *op);
static void note_put(TxnRun *run, const PutOp *op);
static ErrCode revision_check(const StoreVersion *v, int64_t revision);
static ErrCode txn_execute(TxnRun *run, const TxnOp *txn);
static ErrCode op_execute(TxnRun *run, const KvOp *op);
static ErrCode range_execute(TxnRun *run, const RangeOp *op);
static void put_execute(TxnRun *run, const PutOp *op);
static void delete_execute(TxnRun *run, const DeleteOp *op);
static ErrCode nested_execute(TxnRun *run, const TxnOp *txn);
static Branch branch_of(const TxnOp *txn, bool succeeded);
static void nested_header(Buf *out, int64_t revision);
static int64_t revision_so_far(const TxnRun *run);
static ErrCode compares_hold(const StoreVersion *v, const TxnOp *txn,
							 ReadBudget *budget, bool *hold);
static ErrCode compare_holds(const StoreVersion *v, const CompareOp *op,
							 ReadBudget *budget, bool *holds);
static bool version_satisfies(const CompareOp *op, const KvVersion *kv);
static bool result_satisfies(uint32_t result, int c);
static bool ops_are_serializable(const KvOp *ops, uint32_t n);
static size_t message_begin(Buf *out, unsigned field);
static void message_end(Buf *out, size_t start);

ErrCode
mvcc_txn(MvccWrite *w, const TxnOp *op, bool *succeeded, Buf *out)
{
	TxnRun		run = {
		.v = w->draft, .w = w, .counts = &w->counts,
		.scratch = w->scratch, .out = out};
	ErrCode		error;

	run.budget.max_steps = TXN_MAX_STEPS;
	run.budget.max_bytes = TXN_MAX_BYTES;
	Assert(w->next_sub == 0);
	buf_init(&run.choices, w->scratch);
	error = txn_prepare(&run, op);
	if (error == ERR_NONE)
		error = ranges_check(&run, op);
	if (error != ERR_NONE)
		return error;
	run.next_choice = 0;
	*succeeded = run.choices.data[0] != 0;
	error = txn_execute(&run, op);
	Assert(error == ERR_NONE);
	return error;
}

ErrCode
mvcc_txn_readonly(const StoreVersion *v, const TxnOp *txn, int64_t deadline_ms,
				  MemContext *scratch, Buf *out, MvccCounts *counts)
{
	size_t		start = out->len;
	TxnRun		run = {
		.v = v, .counts = counts, .scratch = scratch, .out = out,
		.out_start = start};
	ErrCode		error;

	Assert(mvcc_txn_is_readonly(txn));
	run.budget.deadline_ms = deadline_ms;
	buf_init(&run.choices, scratch);
	error = txn_prepare(&run, txn);
	if (error == ERR_NONE)
		error = ranges_check(&run, txn);
	run.next_choice = 0;
	if (error == ERR_NONE)
		error = txn_execute(&run, txn);
	if (error != ERR_NONE)
		out->len = start;
	return error;
}

bool
mvcc_compares_hold(const StoreVersion *v, const TxnOp *txn)
{
	ReadBudget	unlimited = {0};
	bool		hold = false;

	return compares_hold(v, txn, &unlimited, &hold) == ERR_NONE && hold;
}

bool
mvcc_txn_is_readonly(const TxnOp *txn)
{
	for (uint32_t i = 0; i < txn->nsuccess; i++)
	{
		if (txn->success[i].kind != KVOP_RANGE)
			return false;
	}
	for (uint32_t i = 0; i < txn->nfailure; i++)
	{
		if (txn->failure[i].kind != KVOP_RANGE)
			return false;
	}
	return true;
}

bool
mvcc_txn_is_serializable(const TxnOp *txn)
{
	return txn->nsuccess + txn->nfailure > 0 &&
		ops_are_serializable(txn->success, txn->nsuccess) &&
		ops_are_serializable(txn->failure, txn->nfailure);
}

/* ---- first pass: decide and check ---- */

static ErrCode
txn_prepare(TxnRun *run, const TxnOp *txn)
{
	bool		hold;
	Branch		branch;
	ErrCode		error = compares_hold(run->v, txn, &run->budget, &hold);

	if (error != ERR_NONE)
		return error;
	buf_put_u8(&run->choices, hold);
	branch = branch_of(txn, hold);
	for (uint32_t i = 0; i < branch.n; i++)
	{
		error = put_check(run, &branch.ops[i]);
		if (error != ERR_NONE)
			return error;
	}
	return ERR_NONE;
}

static ErrCode
put_check(TxnRun *run, const KvOp *op)
{
	switch (op->kind)
	{
		case KVOP_PUT:
			return mvcc_put_check(run->v, &op->put);
		case KVOP_RANGE:
		case KVOP_DELETE:
			return ERR_NONE;
		case KVOP_TXN:
			return txn_prepare(run, &op->txn);
	}
	return ERR_INTERNAL;
}

/* along the choices that txn_prepare() has noted */
static ErrCode
ranges_check(TxnRun *run, const TxnOp *txn)
{
	bool		succeeded = run->choices.data[run->next_choice++] != 0;
	Branch		branch = branch_of(txn, succeeded);
	ErrCode		error = ERR_NONE;

	for (uint32_t i = 0; error == ERR_NONE && i < branch.n; i++)
	{
		if (branch.ops[i].kind == KVOP_RANGE)
			error = range_check(run, &branch.ops[i].range);
		else if (branch.ops[i].kind == KVOP_PUT)
			note_put(run, &branch.ops[i].put);
		else if (branch.ops[i].kind == KVOP_TXN)
			error = ranges_check(run, &branch.ops[i].txn);
	}
	return error;
}

static ErrCode
range_check(TxnRun *run, const RangeOp *op)
{
	ErrCode		error = revision_check(run->v, op->revision);

	if (error == ERR_NONE && run->w != NULL)
		error = range_measure(run, op);
	return error;
}

/*
 * Counts what the range will look at and answer.  Where a limit cuts what is
 * sorted, as many of the largest are counted.
 */
static ErrCode
range_measure(TxnRun *run, const RangeOp *op)
{
	ReadBudget *budget = &run->budget;
	bool		is_sorted = op->sort_target != SORT_BY_KEY ||
		op->sort_order == SORT_DESCEND;
	uint64_t	limit = op->limit > 0 ? (uint64_t) op->limit : UINT64_MAX;
	uint64_t	n = 0;
	uint64_t	bytes = 0;
	uint64_t	largest = 0;
	RangeScan	scan;
	const KvVersion *kv;

	mvcc_scan_begin(&scan, run->v, &op->range, op->revision, budget);
	while ((kv = mvcc_scan_next(&scan)) != NULL)
	{
		uint64_t	size = KV_OVERHEAD_BYTES + kvversion_key(kv).len +
			(op->keys_only ? 0 : kvversion_value(kv).len);

		if (is_sorted)
			budget->steps += SORT_STEPS;
		if (op->sort_target == SORT_BY_VALUE)
			budget->bytes += kvversion_value(kv).len;
		if (size > largest)
			largest = size;
		if (is_sorted || n < limit)
			bytes += size;
		n++;
	}
	if (scan.error != ERR_NONE)
		return scan.error;
	budget->steps += run->nputs;
	for (uint32_t i = 0; i < run->nputs && op->revision <= 0; i++)
	{
		const PutOp *put = run->puts[i];

		if (keyrange_contains(&op->range, put->key))
			bytes += KV_OVERHEAD_BYTES + put->key.len +
				(op->keys_only ? 0 : put->value.len);
	}
	if (is_sorted && limit < n && limit * largest < bytes)
		bytes = limit * largest;
	if (!op->count_only)
		budget->bytes += bytes;
	return mvcc_budget_check(budget);
}

static void
note_put(TxnRun *run, const PutOp *op)
{
	if (run->nputs == run->cap_puts)
	{
		uint32_t	cap = run->cap_puts == 0 ? 16 : 2 * run->cap_puts;

		run->puts = mcx_grow(run->scratch, run->puts,
							 run->cap_puts * sizeof(*run->puts),
							 cap * sizeof(*run->puts));
		run->cap_puts = cap;
	}
	run->puts[run->nputs++] = op;
}

/*
 * Inside a transaction etcd compares negative revisions too: -1 is the
 * current one as long as nothing was compacted, below that is compacted.
 */
static ErrCode
revision_check(const StoreVersion *v, int64_t revision)
{
	if (revision > v->kv_revision)
		return ERR_FUTURE_REV;
	if (revision != 0 && revision < mvcc_compacted(v))
		return ERR_COMPACTED;
	return ERR_NONE;
}

/* ---- second pass: carry out ---- */

static ErrCode
txn_execute(TxnRun *run, const TxnOp *txn)
{
	bool		succeeded = run->choices.data[run->next_choice++] != 0;
	Branch		branch = branch_of(txn, succeeded);

	if (run->out != NULL)
		pbwire_put_uint(run->out, TXN_SUCCEEDED, succeeded);
	for (uint32_t i = 0; i < branch.n; i++)
	{
		size_t		response = 0;
		ErrCode		error;

		if (run->out != NULL)
			response = message_begin(run->out, TXN_RESPONSES);
		error = op_execute(run, &branch.ops[i]);
		if (error != ERR_NONE)
			return error;
		if (run->out != NULL)
			message_end(run->out, response);
		/* one that writes was measured before, and cannot fail */
		if (run->w == NULL &&
			run->out->len - run->out_start > MVCC_MAX_ANSWER_BYTES)
			return ERR_ANSWER_TOO_LARGE;
	}
	return ERR_NONE;
}

/* each writes its arm, also when there is nothing in it */
static ErrCode
op_execute(TxnRun *run, const KvOp *op)
{
	switch (op->kind)
	{
		case KVOP_RANGE:
			return range_execute(run, &op->range);
		case KVOP_PUT:
			put_execute(run, &op->put);
			return ERR_NONE;
		case KVOP_DELETE:
			delete_execute(run, &op->delete);
			return ERR_NONE;
		case KVOP_TXN:
			return nested_execute(run, &op->txn);
	}
	return ERR_INTERNAL;
}

/* sees what earlier ops of the transaction did */
static ErrCode
range_execute(TxnRun *run, const RangeOp *op)
{
	size_t		arm;
	ErrCode		error;

	run->counts->ranges++;
	if (run->out == NULL)
		return ERR_NONE;
	arm = message_begin(run->out, OP_RANGE);
	nested_header(run->out, revision_so_far(run));
	error = mvcc_range(run->v, op, run->budget.deadline_ms, run->scratch,
					   run->out);
	message_end(run->out, arm);
	return error;
}

static void
put_execute(TxnRun *run, const PutOp *op)
{
	size_t		arm;

	if (run->out == NULL)
	{
		mvcc_put_checked(run->w, op, NULL);
		return;
	}
	arm = message_begin(run->out, OP_PUT);
	nested_header(run->out, run->w->revision);
	mvcc_put_checked(run->w, op, run->out);
	message_end(run->out, arm);
}

static void
delete_execute(TxnRun *run, const DeleteOp *op)
{
	int64_t		deleted;
	Buf			fields;
	size_t		arm;

	if (run->out == NULL)
	{
		mvcc_delete_range(run->w, op, &deleted, NULL);
		return;
	}

	/* the header's revision is known only when it is known what was hit */
	buf_init(&fields, run->scratch);
	mvcc_delete_range(run->w, op, &deleted, &fields);
	arm = message_begin(run->out, OP_DELETE_RANGE);
	nested_header(run->out, revision_so_far(run));
	buf_append(run->out, fields.data, fields.len);
	message_end(run->out, arm);
}

static ErrCode
nested_execute(TxnRun *run, const TxnOp *txn)
{
	size_t		arm;
	ErrCode		error;

	if (run->out == NULL)
		return txn_execute(run, txn);
	arm = message_begin(run->out, OP_TXN);
	pbwire_put_bytes_always(run->out, TXN_HEADER, BYTES_EMPTY);
	error = txn_execute(run, txn);
	message_end(run->out, arm);
	return error;
}

static Branch
branch_of(const TxnOp *txn, bool succeeded)
{
	if (succeeded)
		return (Branch) {txn->success, txn->nsuccess};
	return (Branch) {txn->failure, txn->nfailure};
}

/* a header inside a transaction carries the revision only */
static void
nested_header(Buf *out, int64_t revision)
{
	size_t		header = message_begin(out, NESTED_HEADER);

	pbwire_put_int(out, HEADER_REVISION, revision);
	message_end(out, header);
}

static int64_t
revision_so_far(const TxnRun *run)
{
	if (run->w != NULL && run->w->next_sub > 0)
		return run->w->revision;
	return run->v->kv_revision;
}

/* ---- compares ---- */

static ErrCode
compares_hold(const StoreVersion *v, const TxnOp *txn, ReadBudget *budget,
			  bool *hold)
{
	*hold = true;
	for (uint32_t i = 0; *hold && i < txn->ncompares; i++)
	{
		ErrCode		error = compare_holds(v, &txn->compares[i], budget, hold);

		if (error != ERR_NONE)
			return error;
	}
	return ERR_NONE;
}

/*
 * Every key of the range must satisfy it.  Where there is none, the numbers
 * compare as 0, and a value compares as false: there is no way to ask for a
 * missing value, since an empty one is sent as nothing.
 */
static ErrCode
compare_holds(const StoreVersion *v, const CompareOp *op, ReadBudget *budget,
			  bool *holds)
{
	RangeScan	scan;
	const KvVersion *kv;
	bool		found = false;

	*holds = true;
	mvcc_scan_begin(&scan, v, &op->range, 0, budget);
	while (*holds && (kv = mvcc_scan_next(&scan)) != NULL)
	{
		found = true;
		if (op->target == COMPARE_VALUE)
			budget->bytes += size_min(kvversion_value(kv).len, op->value.len);
		*holds = version_satisfies(op, kv);
	}
	if (scan.error != ERR_NONE)
		return scan.error;
	if (!found)
		*holds = version_satisfies(op, NULL);
	return ERR_NONE;
}

/* kv NULL: a missing key */
static bool
version_satisfies(const CompareOp *op, const KvVersion *kv)
{
	int64_t		number = 0;

	switch (op->target)
	{
		case COMPARE_VERSION:
			number = kv != NULL ? kv->version : 0;
			break;
		case COMPARE_CREATE:
			number = kv != NULL ? kv->create_revision : 0;
			break;
		case COMPARE_MOD:
			number = kv != NULL ? kv->mod_revision : 0;
			break;
		case COMPARE_LEASE:
			number = kv != NULL ? kv->lease : 0;
			break;
		case COMPARE_VALUE:
			return kv != NULL &&
				result_satisfies(op->result,
								 bytes_compare(kvversion_value(kv), op->value));
		default:
			/* etcd's answer to a target that it does not know */
			return result_satisfies(op->result, 0);
	}
	return result_satisfies(op->result,
							(number > op->number) - (number < op->number));
}

static bool
result_satisfies(uint32_t result, int c)
{
	switch (result)
	{
		case COMPARE_EQUAL:
			return c == 0;
		case COMPARE_GREATER:
			return c > 0;
		case COMPARE_LESS:
			return c < 0;
		case COMPARE_NOT_EQUAL:
			return c != 0;
		default:
			/* as etcd; the same on every member is what matters */
			return true;
	}
}

static bool
ops_are_serializable(const KvOp *ops, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
	{
		if (ops[i].kind != KVOP_RANGE || !ops[i].range.serializable)
			return false;
	}
	return true;
}

/* ---- a field whose length is known only at its end ---- */

static size_t
message_begin(Buf *out, unsigned field)
{
	pbwire_tag(out, field, PBWIRE_BYTES);
	/* one byte for the length, enough for most */
	buf_put_u8(out, 0);
	return out->len;
}

static void
message_end(Buf *out, size_t start)
{
	size_t		len = out->len - start;
	size_t		extra = pbwire_varint_size(len) - 1;

	if (extra > 0)
	{
		buf_reserve(out, extra);
		memmove(out->data + start + extra, out->data + start, len);
	}
	out->len = start - 1;
	buf_put_varint(out, len);
	out->len += len;
}
