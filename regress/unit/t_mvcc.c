/*
 * t_mvcc.c
 *	  The key-value state against a model that keeps all of history.
 *
 * Random puts, deletes, transactions, compactions and restarts run on both.
 * Answers are decoded with the generated protobuf code and written as text,
 * and so are the model's; the texts must be equal.  The model knows ranges
 * only as etcd's pair (key, range_end) and finds everything by going through
 * the whole history.  Seeds are fixed and printed; another one: T_MVCC_SEED.
 */
/* needs: mvcc lease storage/snap common proto */
#include "server.h"

/* system */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>

/* lib and utils */
#include "utils/clock.h"

/* this layer and below */
#include "etcdserverpb.pb-c.h"
#include "lease/lease.h"
#include "mvcc/mvcc.h"
#include "mvcc/vlog.h"
#include "storage/snap/store.h"

#define B(s) BYTES_LITERAL(s)
#define STORE_BYTES ((size_t) 256 * 1024 * 1024)

/* ---- the store under test, its rows, one pinned reader ---- */

/* a version that came to be: history of the model, and row on "disk" */
typedef struct Event
{
	int			key;			/* index into key_names */
	int64_t		mod;
	uint32_t	sub;
	int64_t		create;
	int64_t		version;		/* 0: tombstone */
	int64_t		lease;
	char		value[16];
	bool		has_row;		/* in table "key" */
} Event;

#define NKEYS 24
static char key_names[NKEYS][8];

static struct
{
	MemContext *mcx;
	Event	   *events;
	size_t		n;
	size_t		cap;
	int64_t		revision;
	int64_t		compacted;		/* -1: never */
	size_t		announced;		/* events that on_version told of */
	MvccCounts	counts;			/* of the step */
} model;

static MemContext *scratch;
static StorePinWord pin_word;
static uint64_t rng;

static StorePinWord *
get_pin_word(uint32_t i)
{
	return &pin_word;
}

static uint32_t
rnd(uint32_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t) (rng >> 32) % n;
}

static Bytes
key_bytes(int i)
{
	return bytes_from_cstr(key_names[i]);
}

static int
key_index(Bytes key)
{
	for (int i = 0; i < NKEYS; i++)
	{
		if (bytes_equal(key, key_bytes(i)))
			return i;
	}
	fail_msg("a key that nobody put");
	return -1;
}

static void
store_open(void)
{
	assert_true(store_create(STORE_BYTES));
	store_use_populate_thread(false);
	store_attach_writer();
	atomic_store(&pin_word.epoch, 0);
	store_set_pin_words(get_pin_word, 1);
	store_set_own_pin_word(&pin_word);
	/* who still reads what was freed, shall see it */
	store_set_wipe_freed(true);
	mvcc_compact_resume(store_draft());
	assert_int_equal(lease_grant(store_draft(), 7, 1000), ERR_NONE);
	assert_int_equal(lease_grant(store_draft(), 9, 1000), ERR_NONE);
	store_publish();
}

static void
store_close(void)
{
	store_set_pin_words(NULL, 0);
	store_destroy();
}

/* in byte order, with neighbours that are prefixes of each other */
static void
make_key_names(void)
{
	for (int i = 0; i < NKEYS; i++)
		snprintf(key_names[i], sizeof(key_names[i]), "%c%s", 'a' + i / 3,
				 i % 3 == 0 ? "" : i % 3 == 1 ? "a" : "z");
}

static void
model_reset(void)
{
	model.n = 0;
	model.revision = 1;
	model.compacted = -1;
	model.announced = 0;
}

static void
check_version(void *arg, const KvVersion *kv)
{
	Event	   *event;

	assert_true(model.announced < model.n);
	event = &model.events[model.announced++];
	assert_int_equal(key_index(kvversion_key(kv)), event->key);
	assert_int_equal(kv->mod_revision, event->mod);
	assert_int_equal(kv->sub_revision, event->sub);
	assert_int_equal(kv->create_revision, event->create);
	assert_int_equal(kv->version, event->version);
	assert_int_equal(kv->lease, event->lease);
	assert_true(bytes_equal_cstr(kvversion_value(kv), event->value));
	event->has_row = true;
}

static void
remove_row(void *arg, const KvVersion *kv)
{
	for (size_t i = 0; i < model.n; i++)
	{
		Event	   *event = &model.events[i];

		if (event->mod == kv->mod_revision && event->sub == kv->sub_revision)
		{
			assert_int_equal(key_index(kvversion_key(kv)), event->key);
			assert_true(event->has_row);
			event->has_row = false;
			return;
		}
	}
	fail_msg("removed a version that never was");
}

static const MvccSink removed_sink = {remove_row, NULL};

/*
 * The sink runs before the model has the event when the operation runs first;
 * so the model goes first, and the sink compares.
 */
static const MvccSink version_sink = {check_version, NULL};

/* ---- the model ---- */

static const Event *
model_newest(int key, int64_t revision)
{
	for (size_t i = model.n; i > 0; i--)
	{
		const Event *event = &model.events[i - 1];

		if (event->key == key && event->mod <= revision)
			return event;
	}
	return NULL;
}

/* NULL if the key did not live then */
static const Event *
model_at(int key, int64_t revision)
{
	const Event *event = model_newest(key, revision);

	return event == NULL || event->version == 0 ? NULL : event;
}

static Event *
model_add(int key, int64_t mod, uint32_t sub)
{
	Event	   *event;

	if (model.n == model.cap)
	{
		size_t		cap = model.cap == 0 ? 1024 : model.cap * 2;

		model.events = xrealloc(model.events, cap * sizeof(Event));
		model.cap = cap;
	}
	event = &model.events[model.n++];
	*event = (Event) {.key = key, .mod = mod, .sub = sub};
	return event;
}

static bool
model_holds(const KeyRange *range, int key)
{
	Bytes		end = keyrange_wire_end(range);
	Bytes		name = key_bytes(key);

	if (end.len == 0)
		return bytes_equal(range->begin, name);
	if (bytes_compare(name, range->begin) < 0)
		return false;
	return bytes_equal(end, B("\0")) || bytes_compare(name, end) < 0;
}

/* ---- text of answers: the model's ---- */

static void
text_event(Buf *text, const Event *event, bool keys_only)
{
	buf_printf(text, "%s:%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "=%s;",
			   key_names[event->key], event->create, event->mod,
			   event->version, event->lease, keys_only ? "" : event->value);
}

static int64_t
event_target(const Event *event, SortTarget target)
{
	switch (target)
	{
		case SORT_BY_VERSION:
			return event->version;
		case SORT_BY_CREATE:
			return event->create;
		case SORT_BY_MOD:
			return event->mod;
		default:
			return event->key;
	}
}

static bool
event_goes_before(const Event *a, const Event *b, const RangeOp *op)
{
	int64_t		c;

	if (op->sort_target == SORT_BY_VALUE)
		c = strcmp(a->value, b->value);
	else
		c = event_target(a, op->sort_target) -
			event_target(b, op->sort_target);
	if (c == 0)
		return a->key < b->key;
	return op->sort_order == SORT_DESCEND ? c > 0 : c < 0;
}

static ErrCode
model_range(const RangeOp *op, int64_t current, int64_t compacted,
			int64_t newest, Buf *text)
{
	const Event *found[NKEYS];
	int			n = 0;
	int			count = 0;
	int			shown;

	if (op->revision > current)
		return ERR_FUTURE_REV;
	if (op->revision > 0 && op->revision < compacted)
		return ERR_COMPACTED;
	for (int k = 0; k < NKEYS; k++)
	{
		const Event *event;
		int			at;

		if (!model_holds(&op->range, k))
			continue;
		event = model_at(k, op->revision > 0 ? op->revision : newest);
		if (event == NULL)
			continue;
		count++;
		if ((op->max_mod_revision != 0 && event->mod > op->max_mod_revision) ||
			(op->min_mod_revision != 0 && event->mod < op->min_mod_revision) ||
			(op->max_create_revision != 0 &&
			 event->create > op->max_create_revision) ||
			(op->min_create_revision != 0 &&
			 event->create < op->min_create_revision))
			continue;
		for (at = n++; at > 0 && event_goes_before(event, found[at - 1], op);
			 at--)
			found[at] = found[at - 1];
		found[at] = event;
	}
	shown = n;
	if (op->limit > 0 && op->limit < n)
		shown = (int) op->limit;
	if (op->count_only)
		shown = n = 0;
	buf_printf(text, "R(%d,%d ", count, shown < n);
	for (int i = 0; i < shown; i++)
		text_event(text, found[i], op->keys_only);
	buf_printf(text, ")");
	return ERR_NONE;
}

static ErrCode
model_put_check(const PutOp *op)
{
	if ((op->ignore_value || op->ignore_lease) &&
		model_at(key_index(op->key), INT64_MAX) == NULL)
		return ERR_KEY_NOT_FOUND;
	if (op->lease != 0 && op->lease != 7 && op->lease != 9)
		return ERR_LEASE_NOT_FOUND;
	return ERR_NONE;
}

static void
model_put(const PutOp *op, uint32_t *sub, Buf *text)
{
	int			key = key_index(op->key);
	const Event *found = model_at(key, INT64_MAX);
	Event		old = {0};
	bool		had = found != NULL;
	Event	   *event;

	if (had)
		old = *found;
	model.counts.puts++;
	event = model_add(key, model.revision + 1, (*sub)++);
	event->create = had ? old.create : event->mod;
	event->version = had ? old.version + 1 : 1;
	event->lease = op->ignore_lease ? old.lease : op->lease;
	if (op->ignore_value)
		memcpy(event->value, old.value, sizeof(old.value));
	else
		snprintf(event->value, sizeof(event->value), "%.*s",
				 (int) op->value.len, (const char *) op->value.data);
	buf_printf(text, "P(");
	if (op->prev_kv && had)
		text_event(text, &old, false);
	buf_printf(text, ")");
}

static void
model_delete(const DeleteOp *op, uint32_t *sub, Buf *text)
{
	Buf			prev;
	int			deleted = 0;

	model.counts.deletes++;
	buf_init(&prev, model.mcx);
	for (int k = 0; k < NKEYS; k++)
	{
		const Event *old = model_at(k, INT64_MAX);

		if (!model_holds(&op->range, k) || old == NULL)
			continue;
		deleted++;
		if (op->prev_kv)
			text_event(&prev, old, false);
		model_add(k, model.revision + 1, (*sub)++);
	}
	buf_printf(text, "D(%d ", deleted);
	buf_append(text, prev.data, prev.len);
	buf_printf(text, ")");
}

static bool
model_compare_kv(const CompareOp *op, const Event *event)
{
	static const Event missing;
	int64_t		c = 0;

	if (event == NULL)
		event = &missing;
	if (op->target == COMPARE_VERSION)
		c = event->version - op->number;
	else if (op->target == COMPARE_CREATE)
		c = event->create - op->number;
	else if (op->target == COMPARE_MOD)
		c = event->mod - op->number;
	else if (op->target == COMPARE_LEASE)
		c = event->lease - op->number;
	else if (op->target == COMPARE_VALUE)
		c = bytes_compare(bytes_from_cstr(event->value), op->value);
	if (op->result == COMPARE_EQUAL)
		return c == 0;
	if (op->result == COMPARE_NOT_EQUAL)
		return c != 0;
	if (op->result == COMPARE_GREATER)
		return c > 0;
	return op->result != COMPARE_LESS || c < 0;
}

/* always on the state before the entry */
static bool
model_compares(const TxnOp *txn, int64_t revision)
{
	for (uint32_t i = 0; i < txn->ncompares; i++)
	{
		const CompareOp *op = &txn->compares[i];
		int			n = 0;

		for (int k = 0; k < NKEYS; k++)
		{
			const Event *event = model_at(k, revision);

			if (event == NULL || !model_holds(&op->range, k))
				continue;
			n++;
			if (!model_compare_kv(op, event))
				return false;
		}
		if (n == 0 &&
			(op->target == COMPARE_VALUE || !model_compare_kv(op, NULL)))
			return false;
	}
	return true;
}

/* puts of the whole tree come before its ranges */
static ErrCode
model_txn_check_kind(const TxnOp *txn, KvOpKind kind)
{
	bool		hold = model_compares(txn, model.revision);
	const KvOp *ops = hold ? txn->success : txn->failure;
	uint32_t	n = hold ? txn->nsuccess : txn->nfailure;

	for (uint32_t i = 0; i < n; i++)
	{
		ErrCode		error = ERR_NONE;

		if (ops[i].kind == KVOP_TXN)
			error = model_txn_check_kind(&ops[i].txn, kind);
		else if (ops[i].kind == kind && kind == KVOP_PUT)
			error = model_put_check(&ops[i].put);
		else if (ops[i].kind == kind && kind == KVOP_RANGE)
		{
			int64_t		revision = ops[i].range.revision;

			if (revision > model.revision)
				error = ERR_FUTURE_REV;
			else if (revision != 0 && revision < model.compacted)
				error = ERR_COMPACTED;
		}
		if (error != ERR_NONE)
			return error;
	}
	return ERR_NONE;
}

static ErrCode
model_txn_check(const TxnOp *txn)
{
	ErrCode		error = model_txn_check_kind(txn, KVOP_PUT);

	return error != ERR_NONE ? error : model_txn_check_kind(txn, KVOP_RANGE);
}

static void
model_txn(const TxnOp *txn, uint32_t *sub, Buf *text)
{
	bool		hold = model_compares(txn, model.revision);
	const KvOp *ops = hold ? txn->success : txn->failure;
	uint32_t	n = hold ? txn->nsuccess : txn->nfailure;

	buf_printf(text, "T(%d ", hold);
	for (uint32_t i = 0; i < n; i++)
	{
		Buf			part;
		int64_t		revision = 0;

		buf_init(&part, model.mcx);
		switch (ops[i].kind)
		{
			case KVOP_RANGE:
				model.counts.ranges++;
				assert_int_equal(model_range(&ops[i].range, model.revision,
											 model.compacted, INT64_MAX,
											 &part), ERR_NONE);
				revision = model.revision + (*sub > 0);
				break;
			case KVOP_PUT:
				model_put(&ops[i].put, sub, &part);
				revision = model.revision + 1;
				break;
			case KVOP_DELETE:
				model_delete(&ops[i].delete, sub, &part);
				revision = model.revision + (*sub > 0);
				break;
			case KVOP_TXN:
				model_txn(&ops[i].txn, sub, &part);
				break;
		}
		/* the revision of its header; a nested txn's is there, but empty */
		buf_printf(text, "h%" PRId64, revision);
		buf_append(text, part.data, part.len);
	}
	buf_printf(text, ")");
}

/* ---- text of answers: what came over the wire ---- */

static void
text_kv(Buf *text, const Mvccpb__KeyValue *kv)
{
	buf_append(text, kv->key.data, kv->key.len);
	buf_printf(text, ":%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "=%.*s;",
			   kv->create_revision, kv->mod_revision, kv->version, kv->lease,
			   (int) kv->value.len, (const char *) kv->value.data);
}

static void
text_range(Buf *text, const Etcdserverpb__RangeResponse *r)
{
	buf_printf(text, "R(%" PRId64 ",%d ", r->count, r->more);
	for (size_t i = 0; i < r->n_kvs; i++)
		text_kv(text, r->kvs[i]);
	buf_printf(text, ")");
}

static void
text_put(Buf *text, const Etcdserverpb__PutResponse *r)
{
	buf_printf(text, "P(");
	if (r->prev_kv != NULL)
		text_kv(text, r->prev_kv);
	buf_printf(text, ")");
}

static void
text_delete(Buf *text, const Etcdserverpb__DeleteRangeResponse *r)
{
	buf_printf(text, "D(%" PRId64 " ", r->deleted);
	for (size_t i = 0; i < r->n_prev_kvs; i++)
		text_kv(text, r->prev_kvs[i]);
	buf_printf(text, ")");
}

static void
text_header(Buf *text, const Etcdserverpb__ResponseHeader *header)
{
	assert_non_null(header);
	assert_true(header->cluster_id == 0 && header->member_id == 0 &&
				header->raft_term == 0);
	buf_printf(text, "h%" PRId64, header->revision);
}

static void
text_txn(Buf *text, const Etcdserverpb__TxnResponse *r)
{
	buf_printf(text, "T(%d ", r->succeeded);
	for (size_t i = 0; i < r->n_responses; i++)
	{
		const Etcdserverpb__ResponseOp *op = r->responses[i];

		switch (op->response_case)
		{
			case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE:
				text_header(text, op->response_range->header);
				text_range(text, op->response_range);
				break;
			case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_PUT:
				text_header(text, op->response_put->header);
				text_put(text, op->response_put);
				break;
			case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE:
				text_header(text, op->response_delete_range->header);
				text_delete(text, op->response_delete_range);
				break;
			case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_TXN:
				text_header(text, op->response_txn->header);
				text_txn(text, op->response_txn);
				break;
			default:
				fail_msg("no arm is set");
		}
	}
	buf_printf(text, ")");
}

#define DECODE_AS_TEXT(name, type, unpack, free_it, print) \
	static void name(const Buf *out, Buf *text) \
	{ \
		type *r = unpack(NULL, out->len, out->data); \
		assert_non_null(r); \
		assert_null(r->header); \
		print(text, r); \
		free_it(r, NULL); \
	}

DECODE_AS_TEXT(decode_range, Etcdserverpb__RangeResponse,
			   etcdserverpb__range_response__unpack,
			   etcdserverpb__range_response__free_unpacked, text_range)
DECODE_AS_TEXT(decode_put, Etcdserverpb__PutResponse,
			   etcdserverpb__put_response__unpack,
			   etcdserverpb__put_response__free_unpacked, text_put)
DECODE_AS_TEXT(decode_delete, Etcdserverpb__DeleteRangeResponse,
			   etcdserverpb__delete_range_response__unpack,
			   etcdserverpb__delete_range_response__free_unpacked, text_delete)
DECODE_AS_TEXT(decode_txn, Etcdserverpb__TxnResponse,
			   etcdserverpb__txn_response__unpack,
			   etcdserverpb__txn_response__free_unpacked, text_txn)

static void
assert_same_text(const Buf *got, const Buf *want)
{
	if (bytes_equal(buf_bytes(got), buf_bytes(want)))
		return;
	fail_msg("got  %.*s\nwant %.*s", (int) got->len, (char *) got->data,
			 (int) want->len, (char *) want->data);
}

/* ---- random requests ---- */

static KeyRange
random_range(void)
{
	Bytes		key = key_bytes((int) rnd(NKEYS));

	switch (rnd(6))
	{
		case 0:
			return keyrange_make(key, B("\0"));
		case 1:
			return keyrange_make(B("\0"), B("\0"));
		case 2:
		case 3:
			/* may be inverted: empty */
			return keyrange_make(key, key_bytes((int) rnd(NKEYS)));
		default:
			return keyrange_make(key, BYTES_EMPTY);
	}
}

static int64_t
random_revision(void)
{
	switch (rnd(8))
	{
		case 0:
			return (int64_t) rnd(3) - 2;
		case 1:
			return model.revision + rnd(3);
		case 2:
			return model.compacted + rnd(3) - 1;
		default:
			return 1 + rnd((uint32_t) model.revision);
	}
}

static int64_t
random_bound(void)
{
	return rnd(3) > 0 ? 0 : (int64_t) rnd((uint32_t) model.revision + 2) - 1;
}

static RangeOp
random_rangeop(void)
{
	RangeOp		op = {.range = random_range()};

	op.limit = rnd(2) ? 0 : (int64_t) rnd(8) - 1;
	op.revision = rnd(2) ? 0 : random_revision();
	if (rnd(3) == 0)
	{
		op.min_mod_revision = random_bound();
		op.max_mod_revision = random_bound();
		op.min_create_revision = random_bound();
		op.max_create_revision = random_bound();
	}
	op.sort_order = (SortOrder) rnd(3);
	op.sort_target = (SortTarget) rnd(5);
	op.keys_only = rnd(4) == 0;
	op.count_only = rnd(6) == 0;
	return op;
}

static PutOp
random_putop(void)
{
	PutOp		op = {.key = key_bytes((int) rnd(NKEYS))};

	op.value = bytes_from_cstr(mcx_printf(scratch, "v%u", rnd(50)));
	if (rnd(10) == 0)
		op.value = BYTES_EMPTY;
	op.lease = rnd(4) ? 0 : 7 + rnd(3);
	op.prev_kv = rnd(3) == 0;
	op.ignore_value = rnd(8) == 0;
	op.ignore_lease = rnd(8) == 0;
	return op;
}

static DeleteOp
random_deleteop(void)
{
	DeleteOp	op = {random_range(), rnd(2) == 0};

	/* not everything every time */
	if (op.range.kind == KEYRANGE_FROM && rnd(8) > 0)
		op.range = keyrange_make(op.range.begin, BYTES_EMPTY);
	return op;
}

static CompareOp
random_compare(void)
{
	CompareOp	op = {.range = random_range(), .result = rnd(5),
		.target = rnd(6)};

	op.number = rnd(2) ? rnd(4) : rnd((uint32_t) model.revision + 2);
	op.value = bytes_from_cstr(mcx_printf(scratch, "v%u", rnd(50)));
	return op;
}

static TxnOp random_txn(unsigned depth, bool readonly);

static KvOp *
random_kvops(uint32_t *n, unsigned depth, bool readonly)
{
	KvOp	   *ops;

	*n = rnd(4);
	ops = mcx_alloc0(scratch, *n * sizeof(*ops));
	for (uint32_t i = 0; i < *n; i++)
	{
		ops[i].kind = readonly ? KVOP_RANGE : (KvOpKind) (1 + rnd(4));
		if (ops[i].kind == KVOP_TXN && depth == 0)
			ops[i].kind = KVOP_PUT;
		if (ops[i].kind == KVOP_RANGE)
		{
			ops[i].range = random_rangeop();
			if (rnd(3) > 0)
				ops[i].range.revision = 0;
		}
		else if (ops[i].kind == KVOP_PUT)
			ops[i].put = random_putop();
		else if (ops[i].kind == KVOP_DELETE)
			ops[i].delete = random_deleteop();
		else
			ops[i].txn = random_txn(depth - 1, false);
	}
	return ops;
}

static TxnOp
random_txn(unsigned depth, bool readonly)
{
	TxnOp		txn = {.ncompares = rnd(3)};

	txn.compares = mcx_alloc0(scratch, txn.ncompares * sizeof(*txn.compares));
	for (uint32_t i = 0; i < txn.ncompares; i++)
		txn.compares[i] = random_compare();
	txn.success = random_kvops(&txn.nsuccess, depth, readonly);
	txn.failure = random_kvops(&txn.nfailure, depth, readonly);
	return txn;
}

/* ---- steps: one request on both ---- */

/* run one write on model and draft; refused: nothing may have changed */
static void
step_write(void)
{
	KvOp		op = {.kind = (KvOpKind) (2 + rnd(3))};
	StoreVersion before = *store_draft();
	bool		wants_answer = rnd(5) > 0;
	bool		succeeded = false;
	int64_t		deleted = 0;
	uint32_t	sub = 0;
	ErrCode		want = ERR_NONE;
	ErrCode		got;
	MvccWrite	w;
	Buf			out;
	Buf			got_text;
	Buf			want_text;
	Buf		   *answer = wants_answer ? &out : NULL;

	buf_init(&out, scratch);
	buf_init(&got_text, scratch);
	buf_init(&want_text, scratch);
	model.counts = (MvccCounts) {0};
	mvcc_write_begin(&w, store_draft(), &version_sink, scratch);
	if (op.kind == KVOP_PUT)
	{
		op.put = random_putop();
		/* outside a txn the lease is looked for first */
		want = op.put.lease == 0 || op.put.lease == 7 || op.put.lease == 9 ?
			model_put_check(&op.put) : ERR_LEASE_NOT_FOUND;
		if (want == ERR_NONE)
			model_put(&op.put, &sub, &want_text);
		got = mvcc_put(&w, &op.put, answer);
	}
	else if (op.kind == KVOP_DELETE)
	{
		op.delete = random_deleteop();
		model_delete(&op.delete, &sub, &want_text);
		got = mvcc_delete_range(&w, &op.delete, &deleted, answer);
		assert_int_equal(deleted, sub);
	}
	else
	{
		op.txn = random_txn(3, false);
		want = model_txn_check(&op.txn);
		if (want == ERR_NONE)
			model_txn(&op.txn, &sub, &want_text);
		got = mvcc_txn(&w, &op.txn, &succeeded, answer);
	}
	mvcc_write_end(&w);
	assert_int_equal(got, want);
	if (want != ERR_NONE)
	{
		assert_int_equal(out.len, 0);
		assert_memory_equal(&before, store_draft(), sizeof(before));
		return;
	}
	if (sub > 0)
		model.revision++;
	assert_int_equal(store_draft()->kv_revision, model.revision);
	assert_int_equal(model.announced, model.n);
	assert_int_equal(w.counts.puts, model.counts.puts);
	assert_int_equal(w.counts.deletes, model.counts.deletes);
	assert_int_equal(w.counts.ranges, model.counts.ranges);
	if (!wants_answer)
		return;
	if (op.kind == KVOP_PUT)
		decode_put(&out, &got_text);
	else if (op.kind == KVOP_DELETE)
		decode_delete(&out, &got_text);
	else
	{
		decode_txn(&out, &got_text);
		assert_int_equal(want_text.data[2] == '1', succeeded);
	}
	assert_same_text(&got_text, &want_text);
}

/* a range on any version that may still be read */
static void
step_range(const StoreVersion *v)
{
	RangeOp		op = random_rangeop();
	int64_t		compacted = v->compacted_revision;
	Buf			out;
	Buf			got_text;
	Buf			want_text;
	ErrCode		want;

	buf_init(&out, scratch);
	buf_init(&got_text, scratch);
	buf_init(&want_text, scratch);
	buf_printf(&out, "before");
	want = model_range(&op, v->kv_revision, compacted, v->kv_revision,
					   &want_text);
	assert_int_equal(mvcc_range(v, &op, 0, scratch, &out), want);
	assert_memory_equal(out.data, "before", 6);
	if (want != ERR_NONE)
	{
		assert_int_equal(out.len, 6);
		return;
	}
	out.data += 6;
	out.len -= 6;
	decode_range(&out, &got_text);
	assert_same_text(&got_text, &want_text);
}

static void
step_get(const StoreVersion *v)
{
	int			key = (int) rnd(NKEYS);
	int64_t		revision = rnd(2) ? 0 : random_revision();
	const KvVersion *kv = mvcc_get(v, key_bytes(key), revision);
	const Event *event;

	if (revision > 0 && revision < v->compacted_revision)
	{
		assert_null(kv);
		return;
	}
	if (revision <= 0 || revision > v->kv_revision)
		revision = v->kv_revision;
	event = model_at(key, revision);
	assert_int_equal(kv != NULL, event != NULL);
	if (kv == NULL)
		return;
	assert_int_equal(kv->mod_revision, event->mod);
	assert_int_equal(kv->create_revision, event->create);
	assert_int_equal(kv->version, event->version);
	assert_true(bytes_equal_cstr(kvversion_value(kv), event->value));
}

static void
step_readonly_txn(void)
{
	TxnOp		txn = random_txn(0, true);
	uint32_t	sub = 0;
	ErrCode		want = model_txn_check(&txn);
	MvccCounts	counts = {0};
	Buf			out;
	Buf			got_text;
	Buf			want_text;

	buf_init(&out, scratch);
	buf_init(&got_text, scratch);
	buf_init(&want_text, scratch);
	assert_true(mvcc_txn_is_readonly(&txn));
	assert_int_equal(mvcc_compares_hold(store_draft(), &txn),
					 model_compares(&txn, model.revision));
	assert_int_equal(mvcc_txn_readonly(store_draft(), &txn, 0, scratch, &out,
									   &counts), want);
	if (want != ERR_NONE)
	{
		assert_int_equal(out.len, 0);
		return;
	}
	model.counts.ranges = 0;
	model_txn(&txn, &sub, &want_text);
	assert_int_equal(counts.ranges, model.counts.ranges);
	decode_txn(&out, &got_text);
	assert_same_text(&got_text, &want_text);
}

static void
step_compact(void)
{
	int64_t		revision = random_revision();
	ErrCode		want = ERR_NONE;

	if (revision <= model.compacted)
		want = ERR_COMPACTED;
	else if (revision > model.revision)
		want = ERR_FUTURE_REV;
	else						/* see "Compacted revision" in mvcc.h */
		model.compacted = revision == 0 ? 1 : revision;
	assert_int_equal(mvcc_compact_begin(store_draft(), revision), want);
}

/* ---- what is left after compaction ---- */

/* must this version be there once everything at R has been removed? */
static bool
event_is_kept(const Event *event, int64_t compacted)
{
	if (event->mod > compacted)
		return true;
	return event->version != 0 &&
		model_newest(event->key, compacted) == event;
}

static size_t
count_reachable(size_t *bytes)
{
	CowCursor	cursor;
	size_t		n = 0;

	*bytes = 0;
	for (const CowItem *item = cowtree_seek(&store_draft()->keys, &cursor,
											BYTES_EMPTY);
		 item != NULL; item = cowtree_next(&cursor))
	{
		for (const KvVersion *kv = (const KvVersion *) item; kv != NULL;
			 kv = atomic_load(&kv->prev))
		{
			n++;
			*bytes += kvversion_size(kv);
		}
	}
	return n;
}

static void
check_all_removed(void)
{
	size_t		kept = 0;
	size_t		bytes;

	for (size_t i = 0; i < model.n; i++)
	{
		const Event *event = &model.events[i];
		bool		want = event_is_kept(event, model.compacted);

		assert_int_equal(event->has_row, want);
		kept += want;
	}
	assert_int_equal(count_reachable(&bytes), kept);
	assert_int_equal(store_draft()->live_bytes, bytes + 2 * LEASE_LIVE_BYTES);
	assert_null(cowtree_check(&store_draft()->keys));
	assert_null(store_check());
}

/* start over from the rows, as after a crash: also amid a removal */
static void
restart(void)
{
	StoreVersion *draft;

	store_close();
	store_open();
	draft = store_draft();
	for (size_t i = 0; i < model.n; i++)
	{
		const Event *event = &model.events[i];

		if (event->has_row)
			mvcc_load_version(draft, key_bytes(event->key),
							  bytes_from_cstr(event->value), event->mod,
							  event->sub, event->create, event->version,
							  event->lease);
	}
	draft->kv_revision = model.revision;
	if (model.compacted > 0)
		draft->compacted_revision = model.compacted;
	mvcc_compact_resume(draft);
	assert_null(lease_load_keys(draft));
	store_publish();
}

/* on each lease hang the newest versions that say so, and nothing else */
static void
check_leases(const StoreVersion *v)
{
	static const int64_t ids[] = {7, 9};
	CowCursor	cursor;

	for (size_t i = 0; i < lengthof(ids); i++)
	{
		const LeaseEntry *lease = lease_find(v, ids[i]);
		LeaseKeyCursor keys;
		const KvVersion *hangs = lease_keys_seek(lease, &keys, BYTES_EMPTY);
		uint64_t	n = 0;

		for (const CowItem *item = cowtree_seek(&v->keys, &cursor, BYTES_EMPTY);
			 item != NULL; item = cowtree_next(&cursor))
		{
			const KvVersion *kv = (const KvVersion *) item;

			if (kvversion_is_tombstone(kv) || kv->lease != ids[i])
				continue;
			assert_ptr_equal(hangs, kv);
			assert_ptr_equal(lease_keys_seek(lease, &keys, kvversion_key(kv)),
							 kv);
			hangs = lease_keys_next(&keys);
			n++;
		}
		assert_null(hangs);
		assert_int_equal(lease_nkeys(lease), n);
		assert_null(cowtree_check(&lease->keys));
	}
}

static void
check_live_keys(const StoreVersion *v)
{
	uint64_t	n = 0;
	CowCursor	cursor;

	for (const CowItem *item = cowtree_seek(&v->keys, &cursor, BYTES_EMPTY);
		 item != NULL; item = cowtree_next(&cursor))
		n += !kvversion_is_tombstone((const KvVersion *) item);
	assert_int_equal(v->live_keys, n);
}

/* the last version that a reader holds, for a while */
static void
move_pin(const StoreVersion **pinned)
{
	if (*pinned != NULL)
		store_unpin();
	*pinned = rnd(2) ? store_pin() : NULL;
}

/* ---- the version log ---- */

/* the log is the model's history from the kept revision on */
static void
check_log(const StoreVersion *v)
{
	const VersionLog *log = &v->log;
	uint64_t	at = log->first;

	assert_null(vlog_check(log));
	for (size_t i = 0; i < model.n; i++)
	{
		const Event *event = &model.events[i];
		const KvVersion *kv;

		if (event->mod < log->kept_revision)
			continue;
		/* removed at the compacted revision itself: an empty slot, or none */
		if (!event->has_row)
		{
			assert_int_equal(event->mod, log->kept_revision);
			if (at < log->end && vlog_get(log, at) == NULL)
				at++;
			continue;
		}
		if (i == 0 || model.events[i - 1].mod < event->mod)
			assert_int_equal(vlog_seek(log, event->mod), at);
		assert_true(at < log->end);
		kv = vlog_get(log, at++);
		assert_non_null(kv);
		assert_int_equal(kv->mod_revision, event->mod);
		assert_int_equal(kv->sub_revision, event->sub);
		assert_int_equal(kv->version, event->version);
		assert_true(bytes_equal_cstr(kvversion_key(kv), key_names[event->key]));
		/* the compacted revision may be ahead of the log's */
		if (event->mod > v->compacted_revision)
			assert_ptr_equal(vlog_previous(log, kv),
							 mvcc_get(v, kvversion_key(kv), event->mod - 1));
	}
	assert_int_equal(at, log->end);
	assert_int_equal(vlog_seek(log, v->kv_revision + 1), log->end);
}

static void
run_model(uint64_t seed, int nsteps)
{
	const StoreVersion *pinned = NULL;
	int			nremovals = 0;

	rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	model.mcx = mcx_create(NULL, "model");
	scratch = mcx_create(NULL, "scratch");
	model_reset();
	store_open();
	for (int i = 0; i < nsteps; i++)
	{
		uint32_t	what = rnd(100);

		mcx_reset(scratch);
		mcx_reset(model.mcx);
		if (what == 41)
			check_log(store_draft());
		check_leases(store_draft());
		check_live_keys(store_draft());
		if (pinned != NULL)
			check_leases(pinned);
		if (what < 40)
			step_write();
		else if (what < 60)
			step_range(store_draft());
		else if (what < 70)
			step_get(store_draft());
		else if (what < 75)
			step_readonly_txn();
		else if (what < 77)
			step_compact();
		else if (what < 85)
		{
			store_publish();
			store_reclaim();
		}
		else if (what < 93)
		{
			store_publish();
			if (mvcc_compact_step(store_draft(), 1 + rnd(12), &removed_sink))
			{
				check_all_removed();
				nremovals++;
			}
			store_publish();
			store_reclaim();
		}
		else if (what < 95)
			move_pin(&pinned);
		else if (what == 99 && rnd(4) == 0)
		{
			if (pinned != NULL)
				store_unpin();
			pinned = NULL;
			restart();
		}
		else if (pinned != NULL)
		{
			step_range(pinned);
			step_get(pinned);
		}
	}
	if (pinned != NULL)
		store_unpin();
	for (int i = 0; i < 3; i++)
	{
		store_publish();
		while (!mvcc_compact_step(store_draft(), 7, &removed_sink))
			store_publish();
	}
	check_all_removed();
	assert_true(nremovals > 0);
	store_close();
	mcx_destroy(scratch);
	mcx_destroy(model.mcx);
}

/* ---- tests ---- */

static void
test_model(void **state)
{
	const char *given = getenv("T_MVCC_SEED");

	if (given != NULL)
	{
		run_model(strtoull(given, NULL, 10), 6000);
		return;
	}
	for (uint64_t seed = 1; seed <= 12; seed++)
	{
		printf("seed %" PRIu64 "\n", seed);
		run_model(seed, 4000);
	}
}

static int
setup(void **state)
{
	scratch = mcx_create(NULL, "scratch");
	model_reset();
	store_open();
	return 0;
}

static int
teardown(void **state)
{
	store_close();
	mcx_destroy(scratch);
	return 0;
}

static void
put(const char *key, const char *value)
{
	PutOp		op = {.key = bytes_from_cstr(key),
		.value = bytes_from_cstr(value)};
	MvccWrite	w;

	mvcc_write_begin(&w, store_draft(), NULL, scratch);
	assert_int_equal(mvcc_put(&w, &op, NULL), ERR_NONE);
	mvcc_write_end(&w);
}

static void
delete_from(const char *key)
{
	DeleteOp	op = {keyrange_make(bytes_from_cstr(key), B("\0")), false};
	MvccWrite	w;
	int64_t		deleted;

	mvcc_write_begin(&w, store_draft(), NULL, scratch);
	assert_int_equal(mvcc_delete_range(&w, &op, &deleted, NULL), ERR_NONE);
	mvcc_write_end(&w);
}

/* E5: a fresh store counts as -1 */
static void
test_compact_fresh(void **state)
{
	StoreVersion *draft = store_draft();

	assert_int_equal(mvcc_compact_begin(draft, -1), ERR_COMPACTED);
	assert_int_equal(mvcc_compact_begin(draft, 0), ERR_NONE);
	assert_int_equal(mvcc_compact_begin(draft, 0), ERR_COMPACTED);
	assert_int_equal(mvcc_compact_begin(draft, 2), ERR_FUTURE_REV);
	put("a", "1");
	assert_int_equal(mvcc_compact_begin(draft, 2), ERR_NONE);
	assert_int_equal(mvcc_compact_begin(draft, 2), ERR_COMPACTED);
}

static void
test_compact_bounds(void **state)
{
	RangeOp		op = {.range = keyrange_make(B("a"), BYTES_EMPTY)};
	Buf			out;

	buf_init(&out, scratch);
	for (int i = 0; i < 5; i++)
		put("a", "v");
	assert_int_equal(mvcc_compact_begin(store_draft(), 4), ERR_NONE);
	op.revision = 3;
	assert_int_equal(mvcc_range(store_draft(), &op, 0, scratch, &out),
					 ERR_COMPACTED);
	op.revision = 4;
	assert_int_equal(mvcc_range(store_draft(), &op, 0, scratch, &out),
					 ERR_NONE);
	op.revision = 7;
	assert_int_equal(mvcc_range(store_draft(), &op, 0, scratch, &out),
					 ERR_FUTURE_REV);
}

/* many chunks, the directory grows, and is trimmed; old readers see their own */
static void
test_log_grows_and_is_trimmed(void **state)
{
	const StoreVersion *old;
	size_t		used;

	for (int i = 0; i < 20000; i++)
		put("a", "1");
	store_publish();
	old = store_pin();
	assert_int_equal(old->log.end - old->log.first, 20000);
	for (int i = 0; i < 60000; i++)
		put("b", "1");
	store_publish();
	assert_null(vlog_check(&store_draft()->log));
	assert_int_equal(vlog_get(&store_draft()->log, 79999)->mod_revision, 80001);
	/* both through the directory that has been replaced since */
	assert_int_equal(vlog_get(&old->log, 0)->mod_revision, 2);
	assert_int_equal(vlog_get(&old->log, 19999)->mod_revision, 20001);
	used = store_bytes_used();
	assert_int_equal(mvcc_compact_begin(store_draft(), 70000), ERR_NONE);
	for (int i = 0; i < 5; i++)
	{
		store_publish();
		assert_false(mvcc_compact_step(store_draft(), 100, NULL));
	}
	assert_int_equal(store_draft()->log.first, 69998);
	assert_null(vlog_check(&old->log));
	assert_int_equal(vlog_get(&old->log, 0)->mod_revision, 2);
	store_unpin();
	store_publish();
	while (!mvcc_compact_step(store_draft(), 1000, NULL))
		store_publish();
	store_publish();
	store_reclaim();
	assert_null(vlog_check(&store_draft()->log));
	/* the chunks have gone with the versions */
	assert_true(store_bytes_used() < used / 5);
	for (int i = 0; i < 60000; i++)
		put("c", "1");
	assert_null(vlog_check(&store_draft()->log));
	assert_int_equal(vlog_seek(&store_draft()->log, 140001), 139999);
	assert_int_equal(vlog_seek(&store_draft()->log, 1), 69998);
}

static bool gate_is_open;
static int64_t gate_asked;

static bool
ask_gate(int64_t revision)
{
	gate_asked = revision;
	return gate_is_open;
}

static void
test_gate_holds_history(void **state)
{
	const VersionLog *log;

	gate_is_open = false;
	mvcc_compact_set_gate(ask_gate);
	put("a", "1");
	put("a", "2");
	put("a", "3");
	assert_int_equal(mvcc_compact_begin(store_draft(), 4), ERR_NONE);
	for (int i = 0; i < 5; i++)
	{
		store_publish();
		assert_false(mvcc_compact_step(store_draft(), 100, NULL));
	}
	log = &store_draft()->log;
	assert_int_equal(gate_asked, 4);
	assert_int_equal(log->first, 0);
	assert_int_equal(vlog_previous(log, vlog_get(log, 2))->version, 2);
	gate_is_open = true;
	while (!mvcc_compact_step(store_draft(), 100, NULL))
		store_publish();
	log = &store_draft()->log;
	assert_int_equal(log->first, 2);
	assert_null(vlog_previous(log, vlog_get(log, 2)));
	mvcc_compact_set_gate(NULL);
}

/* nothing is cut while a reader from before the compaction is there */
static void
test_compact_waits_for_readers(void **state)
{
	const StoreVersion *old;
	size_t		bytes;

	put("a", "1");
	put("a", "2");
	delete_from("a");
	put("b", "1");
	store_publish();
	assert_int_equal(mvcc_compact_begin(store_draft(), 4), ERR_NONE);
	/* not yet published, so this reader may still ask for everything */
	assert_false(mvcc_compact_step(store_draft(), 100, NULL));
	old = store_pin();
	store_publish();
	for (int i = 0; i < 5; i++)
	{
		assert_false(mvcc_compact_step(store_draft(), 100, NULL));
		store_publish();
		assert_int_equal(mvcc_get(old, B("a"), 2)->mod_revision, 2);
		assert_int_equal(mvcc_get(old, B("a"), 3)->mod_revision, 3);
	}
	assert_int_equal(count_reachable(&bytes), 4);
	store_unpin();
	/* a reader from after it does not hold it up */
	old = store_pin();
	assert_true(mvcc_compact_step(store_draft(), 100, NULL));
	assert_int_equal(count_reachable(&bytes), 1);
	assert_int_equal(store_draft()->live_bytes, bytes + 2 * LEASE_LIVE_BYTES);
	assert_null(mvcc_get(old, B("a"), 4));
	assert_non_null(mvcc_get(old, B("b"), 5));
	store_publish();
	assert_null(mvcc_get(old, B("a"), 5));
	store_unpin();
}

static void
test_deadline(void **state)
{
	RangeOp		op = {.range = keyrange_make(B("\0"), B("\0"))};
	TxnOp		txn = {.nsuccess = 1};
	CompareOp	compare = {.range = op.range, .result = COMPARE_GREATER,
		.target = COMPARE_MOD};
	KvOp		range = {.kind = KVOP_RANGE, .range = op};
	MvccCounts	counts = {0};
	char		key[16];
	Buf			out;

	buf_init(&out, scratch);
	for (int i = 0; i < 1000; i++)
	{
		snprintf(key, sizeof(key), "k%04d", i);
		put(key, "v");
	}
	assert_int_equal(mvcc_range(store_draft(), &op, clock_monotonic_ms() - 1,
								scratch, &out), ERR_SNAPSHOT_TOO_OLD);
	assert_int_equal(out.len, 0);
	op.sort_order = SORT_DESCEND;
	assert_int_equal(mvcc_range(store_draft(), &op, clock_monotonic_ms() - 1,
								scratch, &out), ERR_SNAPSHOT_TOO_OLD);
	assert_int_equal(out.len, 0);
	txn.success = &range;
	assert_int_equal(mvcc_txn_readonly(store_draft(), &txn,
									   clock_monotonic_ms() - 1, scratch,
									   &out, &counts), ERR_SNAPSHOT_TOO_OLD);
	assert_int_equal(out.len, 0);
	/* compares as well */
	txn = (TxnOp) {.ncompares = 1, .compares = &compare};
	assert_int_equal(mvcc_txn_readonly(store_draft(), &txn,
									   clock_monotonic_ms() - 1, scratch,
									   &out, &counts), ERR_SNAPSHOT_TOO_OLD);
	assert_int_equal(out.len, 0);
	assert_int_equal(mvcc_range(store_draft(), &op,
								clock_monotonic_ms() + 60000, scratch, &out),
					 ERR_NONE);
	assert_true(out.len > 1000);
}

/* with so many compares or ranges over all keys beside a put: does it run? */
static ErrCode
write_and_read(uint32_t ncompares, uint32_t nranges, const RangeOp *range)
{
	TxnOp		txn = {.ncompares = ncompares, .nsuccess = nranges + 1};
	KvOp	   *ops = mcx_alloc0(scratch, txn.nsuccess * sizeof(*ops));
	int64_t		before = store_draft()->kv_revision;
	MvccWrite	w;
	bool		succeeded;
	ErrCode		error;

	txn.compares = mcx_alloc0(scratch, (ncompares + 1) *
							  sizeof(*txn.compares));
	for (uint32_t i = 0; i < ncompares; i++)
		txn.compares[i] = (CompareOp) {.range = range->range,
			.result = COMPARE_GREATER, .target = COMPARE_MOD};
	ops[0].kind = KVOP_PUT;
	ops[0].put = (PutOp) {.key = B("k0000"), .value = B("v")};
	for (uint32_t i = 0; i < nranges; i++)
		ops[i + 1] = (KvOp) {.kind = KVOP_RANGE, .range = *range};
	txn.success = ops;
	mvcc_write_begin(&w, store_draft(), NULL, scratch);
	error = mvcc_txn(&w, &txn, &succeeded, NULL);
	mvcc_write_end(&w);
	assert_int_equal(store_draft()->kv_revision,
					 error == ERR_NONE ? before + 1 : before);
	return error;
}

/* while one that writes is carried out everybody waits */
static void
test_writer_reads_little(void **state)
{
	RangeOp		all = {.range = keyrange_make(B("k"), B("l"))};
	RangeOp		one = {.range = keyrange_make(B("big"), BYTES_EMPTY)};
	char	   *big = mcx_alloc(scratch, 1024 * 1024 + 1);
	char		key[16];

	memset(big, 'x', 1024 * 1024);
	big[1024 * 1024] = '\0';
	for (int i = 0; i < 2000; i++)
	{
		snprintf(key, sizeof(key), "k%04d", i);
		put(key, "v");
	}
	put("big", big);
	/* 200 000 keys in all */
	assert_int_equal(write_and_read(99, 0, &all), ERR_NONE);
	assert_int_equal(write_and_read(101, 0, &all), ERR_TXN_READS_TOO_MUCH);
	assert_int_equal(write_and_read(49, 49, &all), ERR_NONE);
	assert_int_equal(write_and_read(51, 51, &all), ERR_TXN_READS_TOO_MUCH);
	all.count_only = true;
	assert_int_equal(write_and_read(0, 101, &all), ERR_TXN_READS_TOO_MUCH);
	/* what is sorted counts twice */
	all.count_only = false;
	all.limit = 1;
	all.sort_target = SORT_BY_CREATE;
	assert_int_equal(write_and_read(0, 49, &all), ERR_NONE);
	assert_int_equal(write_and_read(0, 51, &all), ERR_TXN_READS_TOO_MUCH);
	/* 64 MB */
	assert_int_equal(write_and_read(0, 63, &one), ERR_NONE);
	assert_int_equal(write_and_read(0, 64, &one), ERR_TXN_READS_TOO_MUCH);
	one.keys_only = true;
	assert_int_equal(write_and_read(0, 64, &one), ERR_NONE);
	one.keys_only = false;
	one.count_only = true;
	assert_int_equal(write_and_read(0, 64, &one), ERR_NONE);

	/* deleted keys count until they are compacted, there or not */
	all = (RangeOp) {.range = keyrange_make(B("k"), B("l"))};
	delete_from("k");
	assert_int_equal(write_and_read(0, 101, &all), ERR_TXN_READS_TOO_MUCH);
	assert_int_equal(mvcc_compact_begin(store_draft(),
										store_draft()->kv_revision), ERR_NONE);
	assert_int_equal(write_and_read(0, 101, &all), ERR_NONE);
}

/* a range sees what was put before it */
static void
test_writer_reads_its_own(void **state)
{
	KvOp		ops[80];
	TxnOp		txn = {.success = ops};
	char	   *big = mcx_alloc(scratch, 1024 * 1024);
	RangeOp		range = {.range = keyrange_make(B("a"), B("z"))};
	MvccWrite	w;
	bool		succeeded;
	Buf			out;

	memset(big, 'x', 1024 * 1024);
	buf_init(&out, NULL);
	ops[0] = (KvOp) {.kind = KVOP_PUT, .put = {.key = B("k"),
			.value = bytes_make(big, 1024 * 1024)}};
	for (int i = 1; i < 80; i++)
		ops[i] = (KvOp) {.kind = KVOP_RANGE, .range = range};
	txn.nsuccess = 16;
	mvcc_write_begin(&w, store_draft(), NULL, scratch);
	assert_int_equal(mvcc_txn(&w, &txn, &succeeded, &out), ERR_NONE);
	mvcc_write_end(&w);
	assert_true(out.len > 15 * 1024 * 1024);
	out.len = 0;
	txn.nsuccess = 66;
	ops[0].put.key = B("l");
	mvcc_write_begin(&w, store_draft(), NULL, scratch);
	assert_int_equal(mvcc_txn(&w, &txn, &succeeded, &out),
					 ERR_TXN_READS_TOO_MUCH);
	mvcc_write_end(&w);
	assert_int_equal(out.len, 0);
	assert_null(mvcc_get(store_draft(), B("l"), 0));
	buf_free(&out);
}

/* sorting by anything but the key, then the limit: not the other way round */
static void
test_limit_after_sort(void **state)
{
	RangeOp		op = {.range = keyrange_make(B("\0"), B("\0")), .limit = 1,
		.sort_target = SORT_BY_VALUE};
	Etcdserverpb__RangeResponse *r;
	Buf			out;

	buf_init(&out, scratch);
	put("a", "3");
	put("b", "2");
	put("c", "1");
	assert_int_equal(mvcc_range(store_draft(), &op, 0, scratch, &out),
					 ERR_NONE);
	r = etcdserverpb__range_response__unpack(NULL, out.len, out.data);
	assert_non_null(r);
	assert_int_equal(r->n_kvs, 1);
	assert_int_equal(r->kvs[0]->key.data[0], 'c');
	assert_true(r->more);
	assert_int_equal(r->count, 3);
	etcdserverpb__range_response__free_unpacked(r, NULL);
}

static void
test_serializable(void **state)
{
	KvOp		ops[2] = {{.kind = KVOP_RANGE}, {.kind = KVOP_RANGE}};
	TxnOp		txn = {0};

	/* compares alone are to be linearizable */
	assert_true(mvcc_txn_is_readonly(&txn));
	assert_false(mvcc_txn_is_serializable(&txn));
	txn.nsuccess = txn.nfailure = 1;
	txn.success = &ops[0];
	txn.failure = &ops[1];
	ops[0].range.serializable = true;
	assert_false(mvcc_txn_is_serializable(&txn));
	ops[1].range.serializable = true;
	assert_true(mvcc_txn_is_serializable(&txn));
	/* a nested txn counts as a write, even an empty one */
	ops[1] = (KvOp) {.kind = KVOP_TXN};
	assert_false(mvcc_txn_is_readonly(&txn));
	assert_false(mvcc_txn_is_serializable(&txn));
}

/* many nested levels and answers of more than 127 and 16383 bytes */
static void
test_long_answers(void **state)
{
	enum
	{
		DEPTH = 60
	};
	static char value[20000];
	Etcdserverpb__TxnResponse *r;
	const Etcdserverpb__TxnResponse *level;
	TxnOp		txn = {0};
	MvccWrite	w;
	bool		succeeded;
	Buf			out;

	memset(value, 'x', sizeof(value) - 1);
	put("a", value);
	for (int i = 0; i <= DEPTH; i++)
	{
		KvOp	   *op = mcx_alloc0(scratch, sizeof(*op));

		op->kind = i == 0 ? KVOP_RANGE : KVOP_TXN;
		if (i == 0)
			op->range.range = keyrange_make(B("a"), BYTES_EMPTY);
		else
			op->txn = txn;
		txn = (TxnOp) {.nsuccess = 1, .success = op};
	}
	buf_init(&out, scratch);
	mvcc_write_begin(&w, store_draft(), NULL, scratch);
	assert_int_equal(mvcc_txn(&w, &txn, &succeeded, &out), ERR_NONE);
	mvcc_write_end(&w);
	assert_int_equal(store_draft()->kv_revision, 2);
	r = etcdserverpb__txn_response__unpack(NULL, out.len, out.data);
	assert_non_null(r);
	level = r;
	for (int i = 0; i < DEPTH; i++)
	{
		assert_int_equal(level->n_responses, 1);
		assert_non_null(level->responses[0]->response_txn);
		level = level->responses[0]->response_txn;
		assert_true(level->succeeded);
	}
	assert_int_equal(level->responses[0]->response_range->kvs[0]->value.len,
					 sizeof(value) - 1);
	etcdserverpb__txn_response__free_unpacked(r, NULL);
}

/* ---- readers in other processes, while the writer compacts ---- */

enum
{
	READERS = 3,
	RACE_KEYS = 8,
	RACE_REVISIONS = 20000
};

typedef struct Race
{
	StorePinWord pins[READERS];
	_Atomic bool stop;
	_Atomic uint64_t nchecks[READERS];
} Race;

static Race *race;

static StorePinWord *
race_pin_word(uint32_t i)
{
	return &race->pins[i];
}

/*
 * Revision r changes key r % RACE_KEYS: a delete if r is a multiple of 5, else
 * a put; a delete of what is not there changes nothing and so has no
 * revision, but 5 and 8 have no common factor, so a key's two deletes are
 * never neighbours.  Returns the revision whose put is to be seen, 0: none.
 */
static int64_t
race_expected(int key, int64_t revision)
{
	while (revision > 1 && revision % RACE_KEYS != key)
		revision--;
	return revision <= 1 || revision % 5 == 0 ? 0 : revision;
}

static bool
race_check_get(const StoreVersion *v, int key, int64_t revision)
{
	const KvVersion *kv = mvcc_get(v, key_bytes(key), revision);
	int64_t		want = race_expected(key, revision);
	char		value[32];

	if (want == 0)
		return kv == NULL;
	snprintf(value, sizeof(value), "%" PRId64, want);
	return kv != NULL && kv->mod_revision == want &&
		bytes_equal_cstr(kvversion_value(kv), value);
}

static bool
race_check_range(const StoreVersion *v, int64_t revision)
{
	RangeOp		op = {.range = keyrange_make(B("\0"), B("\0")),
		.revision = revision, .sort_order = SORT_DESCEND};
	Etcdserverpb__RangeResponse *r;
	int64_t		want = 0;
	bool		ok;
	Buf			out;

	mcx_reset(scratch);
	buf_init(&out, scratch);
	for (int key = 0; key < RACE_KEYS; key++)
		want += race_expected(key, revision) != 0;
	if (mvcc_range(v, &op, 0, scratch, &out) != ERR_NONE)
		return false;
	r = etcdserverpb__range_response__unpack(NULL, out.len, out.data);
	ok = r != NULL && r->count == want && (int64_t) r->n_kvs == want;
	etcdserverpb__range_response__free_unpacked(r, NULL);
	return ok;
}

/* in a child, on the read-only mapping; its exit status */
static int
race_read(int me)
{
	rng = (uint64_t) me + 99;
	store_set_own_pin_word(&race->pins[me]);
	while (!atomic_load(&race->stop))
	{
		const StoreVersion *v = store_pin();
		int64_t		lowest = v->compacted_revision > 0
			? v->compacted_revision
			: 1;
		uint32_t	span = (uint32_t) (v->kv_revision - lowest) + 1;

		for (int i = 0; i < 50; i++)
		{
			int64_t		revision = lowest + (i % 2 ? rnd(span) : 0);

			if (!race_check_get(v, (int) rnd(RACE_KEYS), revision))
				return 10;
		}
		if (!race_check_range(v, lowest + rnd(span)))
			return 11;
		/* sometimes slow, so that compactions come and go meanwhile */
		if (rnd(20) == 0)
			usleep(500);
		if (!race_check_range(v, lowest))
			return 12;
		store_unpin();
		atomic_fetch_add(&race->nchecks[me], 1);
	}
	return 0;
}

static void
race_write(void)
{
	for (int64_t r = 2; r <= RACE_REVISIONS; r++)
	{
		char		value[32];

		snprintf(value, sizeof(value), "%" PRId64, r);
		if (r % 5 != 0)
			put(key_names[r % RACE_KEYS], value);
		else
		{
			DeleteOp	op = {keyrange_make(key_bytes((int) (r % RACE_KEYS)),
											BYTES_EMPTY), false};
			MvccWrite	w;
			int64_t		deleted;

			mvcc_write_begin(&w, store_draft(), NULL, scratch);
			mvcc_delete_range(&w, &op, &deleted, NULL);
			mvcc_write_end(&w);
			/* before its first put: somebody has to take the revision */
			if (deleted == 0)
				store_draft()->kv_revision++;
		}
		assert_int_equal(store_draft()->kv_revision, r);
		if (r % 37 == 0)
			assert_int_equal(mvcc_compact_begin(store_draft(), r - 20),
							 ERR_NONE);
		store_publish();
		mvcc_compact_step(store_draft(), 20, NULL);
		store_reclaim();
		mcx_reset(scratch);
	}
}

static void
test_readers_beside_compaction(void **state)
{
	pid_t		pids[READERS];

	race = mmap(NULL, sizeof(*race), PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(race != MAP_FAILED);
	scratch = mcx_create(NULL, "scratch");
	assert_true(store_create(STORE_BYTES));
	store_use_populate_thread(false);
	store_set_pin_words(race_pin_word, READERS);
	fflush(NULL);
	for (int i = 0; i < READERS; i++)
	{
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0)
			_exit(race_read(i));
	}
	store_attach_writer();
	store_set_wipe_freed(true);
	mvcc_compact_resume(store_draft());
	race_write();
	/* on a busy machine a reader may not have had its turn yet */
	for (int i = 0; i < READERS; i++)
		for (int n = 0; n < 12000 && atomic_load(&race->nchecks[i]) == 0; n++)
			usleep(10000);
	atomic_store(&race->stop, true);
	for (int i = 0; i < READERS; i++)
	{
		int			status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
		assert_true(atomic_load(&race->nchecks[i]) > 0);
	}
	/* without readers the rest goes, and one version a key stays */
	assert_int_equal(mvcc_compact_begin(store_draft(), RACE_REVISIONS),
					 ERR_NONE);
	store_publish();
	while (!mvcc_compact_step(store_draft(), 100, NULL))
		store_publish();
	assert_true(store_draft()->keys.nitems <= RACE_KEYS);
	store_close();
	mcx_destroy(scratch);
	munmap(race, sizeof(*race));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test_setup_teardown(test_compact_fresh, setup, teardown),
		cmocka_unit_test_setup_teardown(test_compact_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_compact_waits_for_readers, setup,
										teardown),
		cmocka_unit_test_setup_teardown(test_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(test_writer_reads_little, setup,
										teardown),
		cmocka_unit_test_setup_teardown(test_writer_reads_its_own, setup,
										teardown),
		cmocka_unit_test_setup_teardown(test_limit_after_sort, setup,
										teardown),
		cmocka_unit_test_setup_teardown(test_serializable, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_log_grows_and_is_trimmed, setup,
										teardown),
		cmocka_unit_test_setup_teardown(test_gate_holds_history, setup,
										teardown),
		cmocka_unit_test(test_readers_beside_compaction),
	};
	int			rc;

	make_key_names();
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	free(model.events);
	return rc;
}
