/*
 * contend.c
 *	  Lock and Campaign: put one's key, wait until those before it are gone.
 *
 *	granting ---> putting ---> looking ---> held: the answer
 *	(lease 0)       |           |    ^
 *	                |           v    |  the key before, or the own one, is gone
 *	                |          waiting
 *	                '--> looking may find another value under the own key and
 *	                     put its own (Campaign), then looks again
 *
 * Looking is done on one pinned version, rights included: who has created the
 * newest key before ours?  That key is waited for, and no other, so a release
 * wakes one waiter and not all of them; then comes another look, since others
 * may have been there between.  The own key is watched as well: when its lease
 * ends there is nothing to wait for.
 *
 * If the request ends otherwise (cancelled, deadline, connection lost) the key
 * must not stay in everybody's way until its lease ends.  So the cleanup of its
 * memory proposes to delete the key, as a request of its own that nobody waits
 * for, under the condition that it is the key that this request has made: one
 * that was there before may be held by the same client already.
 */
#include "server.h"

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"

/* this layer and below */
#include "command/contend.h"
#include "command/leaserequest.h"
#include "dispatch/dispatch.h"
#include "mvcc/mvcc.h"
#include "watch/watch.h"

/* when the client has no lease; as etcd's sessions */
#define DEFAULT_TTL_SEC 60
/* a sign, 16 digits, and the end of the string */
#define HEX_BYTES 18

typedef struct Contender
{
	Request    *req;
	ContendAsk	ask;
	Bytes		key;			/* the own one */
	KeyRange	range;			/* all of them */
	AccessList	access;			/* what looking needs */

	bool		is_proposed;	/* the own key may have been put */
	bool		is_held;
	int64_t		before;			/* revision before it was put */

	Watch		own;
	Watch		blocker;
	Buf			blocker_key;
} Contender;

static ReqResult on_granted(Request *req, const Completion *done);
static ReqResult grant(Request *req);
static ReqResult put_key(Request *req);
static ReqResult on_put(Request *req, const Completion *done);
static ReqResult put_value(Request *req, int64_t own_revision);
static ReqResult on_value(Request *req, const Completion *done);
static ReqResult look(Request *req);
static ReqResult look_at(Request *req, const StoreVersion *v);
static ReqResult wait_for(Request *req, const StoreVersion *v,
						  const KvVersion *blocker);
static void go_on(Contender *c);
static void stop_watches(Contender *c);
static const KvVersion *newest_before(const StoreVersion *v,
									  const Contender *c, int64_t revision);
static void make_key(Contender *c);
static TxnOp *put_txn(Contender *c, int64_t revision);
static void on_request_gone(void *arg);
static void withdraw(const Contender *c);
static void on_withdrawn(Request *req);

static ErrCode watch_authorize(Watch *watch, const StoreVersion *v);
static void watch_events(Watch *watch, const StoreVersion *v,
						 const KvVersion *const *kvs, size_t n);
static void watch_ended(Watch *watch, const StoreVersion *v, ErrCode error);

static const WatchOps watch_ops = {
	.authorize = watch_authorize,
	.events = watch_events,
	.ended = watch_ended,
};

static const RequestOps withdraw_ops = {
	.finished = on_withdrawn,
};

/* The right is asked for before a lease is granted for nothing. */
ReqResult
contend(Request *req, const ContendAsk *ask)
{
	Contender  *c = mcx_alloc0(req->mcx, sizeof(*c));
	LogOp		op = {.kind = LOGOP_TXN};
	ErrCode		error;

	c->req = req;
	c->ask = *ask;
	buf_init(&c->blocker_key, req->mcx);
	c->own.ops = c->blocker.ops = &watch_ops;
	c->own.owner = c->blocker.owner = c;
	c->range = contend_range(req->mcx, ask->name);
	access_init(&c->access, req->mcx);
	access_add_range(&c->access, NEED_READ, &c->range);
	req->handler_state = c;
	make_key(c);
	op.txn = *put_txn(c, 0);
	error = request_permit(req, &op);
	if (error != ERR_NONE)
		return request_fail(req, error);
	mcx_on_reset(req->mcx, on_request_gone, c);
	return ask->lease == 0 ? grant(req) : put_key(req);
}

KeyRange
contend_range(MemContext *mcx, Bytes name)
{
	uint8_t    *begin = mcx_alloc(mcx, name.len + 1);
	uint8_t    *end = mcx_alloc(mcx, name.len + 1);

	if (name.len > 0)
	{
		memcpy(begin, name.data, name.len);
		memcpy(end, name.data, name.len);
	}
	begin[name.len] = '/';
	/* the byte that follows a slash */
	end[name.len] = '/' + 1;
	return keyrange_make(bytes_make(begin, name.len + 1),
						 bytes_make(end, name.len + 1));
}

const KvVersion *
contend_first(const StoreVersion *v, const KeyRange *range, int64_t revision)
{
	const KvVersion *first = NULL;
	CowCursor	cursor;
	const CowItem *item;

	for (item = cowtree_seek(&v->keys, &cursor, range->begin);
		 item != NULL && !keyrange_is_past(range, cowitem_key(item));
		 item = cowtree_next(&cursor))
	{
		const KvVersion *kv = mvcc_get(v, cowitem_key(item), revision);

		if (kv != NULL && (first == NULL ||
						   kv->create_revision < first->create_revision))
			first = kv;
	}
	return first;
}

/* ---- putting the key ---- */

static ReqResult
grant(Request *req)
{
	Contender  *c = req->handler_state;
	LogOp		op = {
		.kind = LOGOP_LEASE_GRANT,
		.lease.ttl_sec = lease_effective_ttl(DEFAULT_TTL_SEC),
	};

	op.lease.id = c->ask.lease = lease_choose_id(store_pin());
	store_unpin();
	return request_propose(req, &op, on_granted);
}

static ReqResult
on_granted(Request *req, const Completion *done)
{
	/* somebody has taken the number meanwhile */
	if (done->error == ERR_LEASE_EXIST)
		return grant(req);
	if (done->error != ERR_NONE)
		return request_fail(req, done->error);
	make_key(req->handler_state);
	return put_key(req);
}

static ReqResult
put_key(Request *req)
{
	Contender  *c = req->handler_state;
	LogOp		op = {.kind = LOGOP_TXN};

	c->before = store_pin()->kv_revision;
	store_unpin();
	op.txn = *put_txn(c, 0);
	c->is_proposed = true;
	return request_propose(req, &op, on_put);
}

static ReqResult
on_put(Request *req, const Completion *done)
{
	Contender  *c = req->handler_state;

	if (done->error != ERR_NONE)
	{
		c->is_proposed = false;
		return request_fail(req, done->error);
	}
	return look(req);
}

/* Under the condition that the own key is still the same. */
static ReqResult
put_value(Request *req, int64_t own_revision)
{
	Contender  *c = req->handler_state;
	LogOp		op = {.kind = LOGOP_TXN};

	op.txn = *put_txn(c, own_revision);
	return request_propose(req, &op, on_value);
}

static ReqResult
on_value(Request *req, const Completion *done)
{
	if (done->error != ERR_NONE)
		return request_fail(req, done->error);
	return look(req);
}

/* ---- looking and waiting ---- */

static ReqResult
look(Request *req)
{
	ReqResult	result = look_at(req, store_pin());

	store_unpin();
	return result;
}

static ReqResult
look_at(Request *req, const StoreVersion *v)
{
	Contender  *c = req->handler_state;
	ErrCode		error = request_authorize(req, v, &c->access);
	const KvVersion *own;
	const KvVersion *blocker;

	if (error != ERR_NONE)
		return request_fail(req, error);
	own = mvcc_get(v, c->key, 0);
	if (own == NULL)
		return request_fail(req, c->ask.expired);
	if (!c->ask.keeps_value &&
		!bytes_equal(kvversion_value(own), c->ask.value))
		return put_value(req, own->create_revision);
	blocker = newest_before(v, c, own->create_revision);
	if (blocker != NULL)
		return wait_for(req, v, blocker);
	c->is_held = true;
	req->header_revision = v->kv_revision;
	c->ask.held(req, v, own);
	return REQ_DONE;
}

static ReqResult
wait_for(Request *req, const StoreVersion *v, const KvVersion *blocker)
{
	Contender  *c = req->handler_state;
	Bytes		key = kvversion_key(blocker);

	/* one buffer for all whom we wait for */
	c->blocker_key.len = 0;
	buf_append(&c->blocker_key, key.data, key.len);
	c->own.range = keyrange_make(c->key, BYTES_EMPTY);
	c->blocker.range = keyrange_make(buf_bytes(&c->blocker_key), BYTES_EMPTY);
	c->own.start_revision = c->blocker.start_revision = v->kv_revision + 1;
	watch_start(&c->own, v);
	watch_start(&c->blocker, v);
	return request_park(req);
}

/* Something has happened to one of the two keys: look again. */
static void
go_on(Contender *c)
{
	Request    *req = c->req;
	ReqResult	result;

	stop_watches(c);
	result = look(req);
	/* still waiting, for another one perhaps */
	if (result == REQ_PENDING && watch_is_started(&c->own))
		return;
	request_resume(req, result);
}

static void
stop_watches(Contender *c)
{
	watch_stop(&c->own);
	watch_stop(&c->blocker);
}

static const KvVersion *
newest_before(const StoreVersion *v, const Contender *c, int64_t revision)
{
	const KvVersion *newest = NULL;
	CowCursor	cursor;
	const CowItem *item;

	for (item = cowtree_seek(&v->keys, &cursor, c->range.begin);
		 item != NULL && !keyrange_is_past(&c->range, cowitem_key(item));
		 item = cowtree_next(&cursor))
	{
		const KvVersion *kv = mvcc_get(v, cowitem_key(item), 0);

		if (kv != NULL && kv->create_revision < revision &&
			(newest == NULL || kv->create_revision > newest->create_revision))
			newest = kv;
	}
	return newest;
}

/* ---- what the watches tell ---- */

/* by who it was when the request came: a token that runs out ends no wait */
static ErrCode
watch_authorize(Watch *watch, const StoreVersion *v)
{
	const Contender *c = watch->owner;

	return authorize(v, &c->req->identity, &c->access);
}

static void
watch_events(Watch *watch, const StoreVersion *v, const KvVersion *const *kvs,
			 size_t n)
{
	bool		is_gone = false;

	for (size_t i = 0; i < n; i++)
		is_gone = is_gone || kvversion_is_tombstone(kvs[i]);
	if (is_gone)
		go_on(watch->owner);
}

static void
watch_ended(Watch *watch, const StoreVersion *v, ErrCode error)
{
	Contender  *c = watch->owner;

	/* what was to be told is compacted: the state says it, too */
	if (error == ERR_COMPACTED)
	{
		go_on(c);
		return;
	}
	stop_watches(c);
	request_resume(c->req, request_fail(c->req, error));
}

/* ---- making operations ---- */

/* the id in hex without leading zeros; etcd writes a negative one with a minus */
static void
make_key(Contender *c)
{
	Bytes		prefix = c->range.begin;
	uint64_t	lease = (uint64_t) c->ask.lease;
	bool		is_negative = c->ask.lease < 0;
	char	   *key = mcx_alloc(c->req->mcx, prefix.len + HEX_BYTES);
	int			n;

	memcpy(key, prefix.data, prefix.len);
	n = snprintf(key + prefix.len, HEX_BYTES, "%s%" PRIx64,
				 is_negative ? "-" : "", is_negative ? -lease : lease);
	c->key = bytes_make(key, prefix.len + (size_t) n);
}

/*
 * If the key has this create revision (0: is not there), put it.  The range in
 * the other branch is never looked at, but makes apply ask for the right to
 * see who else is waiting.
 */
static TxnOp *
put_txn(Contender *c, int64_t revision)
{
	MemContext *mcx = c->req->mcx;
	TxnOp	   *txn = mcx_alloc0(mcx, sizeof(*txn));

	txn->ncompares = txn->nsuccess = txn->nfailure = 1;
	txn->compares = mcx_alloc0(mcx, sizeof(*txn->compares));
	txn->compares[0] = (CompareOp) {
		.range = keyrange_make(c->key, BYTES_EMPTY),
		.result = COMPARE_EQUAL,
		.target = COMPARE_CREATE,
		.number = revision,
	};
	txn->success = mcx_alloc0(mcx, sizeof(*txn->success));
	txn->success[0].kind = KVOP_PUT;
	txn->success[0].put = (PutOp) {
		.key = c->key,
		.value = c->ask.value,
		.lease = c->ask.lease,
	};
	txn->failure = mcx_alloc0(mcx, sizeof(*txn->failure));
	txn->failure[0].kind = KVOP_RANGE;
	txn->failure[0].range = (RangeOp) {
		.range = c->range,
		.count_only = true,
	};
	return txn;
}

/* ---- the request ends ---- */

static void
on_request_gone(void *arg)
{
	Contender  *c = arg;

	stop_watches(c);
	if (c->is_proposed && !c->is_held)
		withdraw(c);
}

/*
 * Delete the key if it was created after we came: as a request of its own, by
 * the same caller.  Its place in the ring is behind the put, if that is still
 * on its way.
 */
static void
withdraw(const Contender *c)
{
	Request    *req = request_create(NULL, rpc_info(RPC_KV_TXN), &withdraw_ops,
									 NULL);
	KvOp	   *delete = mcx_alloc0(req->mcx, sizeof(*delete));
	CompareOp  *compare = mcx_alloc0(req->mcx, sizeof(*compare));
	LogOp		op = {
		.kind = LOGOP_TXN,
		.txn = {
			.ncompares = 1,
			.nsuccess = 1,
			.compares = compare,
			.success = delete,
		},
	};

	*compare = (CompareOp) {
		.range = keyrange_make(c->key, BYTES_EMPTY),
		.result = COMPARE_GREATER,
		.target = COMPARE_CREATE,
		.number = c->before,
	};
	delete->kind = KVOP_DELETE;
	delete->delete.range = compare->range;
	req->started_ms = clock_monotonic_ms();
	req->identity = c->req->identity;
	req->identity.user = mcx_bytes_dup(req->mcx, c->req->identity.user);
	req->is_identified = true;
	request_resume(req, request_propose(req, &op, NULL));
}

static void
on_withdrawn(Request *req)
{
	if (req->error != ERR_NONE)
		elog_debug("the key of a cancelled request was not deleted: %s",
				   err_info(req->error)->text);
	request_destroy(req);
}
