/*
 * election.c
 *	  v3electionpb: Campaign, Proclaim, Resign, Leader, Observe.
 *
 * A leader is who has created the first of the keys below the name, and what
 * he proclaims is its value.  He is known by the create revision of his key:
 * one who has lost the key and put it again is another leader.
 */
#include "server.h"

/* libraries */
#include "v3electionpb.pb-c.h"

/* lib and utils */
#include "lib/pbwire.h"
#include "utils/clock.h"

/* this layer and below */
#include "command/answer.h"
#include "command/command.h"
#include "command/contend.h"
#include "command/pbbytes.h"
#include "dispatch/dispatch.h"
#include "mvcc/mvcc.h"
#include "watch/watch.h"

enum
{
	CAMPAIGN_LEADER = 2,
	LEADER_KV = 2,

	KEY_NAME = 1,
	KEY_KEY = 2,
	KEY_REV = 3,
	KEY_LEASE = 4
};

typedef struct Observer
{
	Request    *req;
	KeyRange	range;
	AccessList	access;
	Watch		watch;
	Buf			leader;			/* his key; valid while created > 0 */
	int64_t		created;		/* create revision of his key; 0: there is none */
} Observer;

static void elected(Request *req, const StoreVersion *v, const KvVersion *own);
static ReqResult change_own(Request *req, const V3electionpb__LeaderKey *leader,
							const KvOp *op, ReqCompletionFn on_completion);
static ReqResult on_proclaimed(Request *req, const Completion *done);
static ReqResult on_resigned(Request *req, const Completion *done);
static ReqResult leader_at_point(Request *req);
static ErrCode leader_answer(Request *req, const StoreVersion *v);
static ReqResult observe_at_point(Request *req);
static ReqResult observe_on_writable(Request *req);
static void observe_event(Observer *o, const StoreVersion *v,
						  const KvVersion *kv);
static void observe_leader(Observer *o, const StoreVersion *v,
						   const KvVersion *kv);
static void on_observer_gone(void *arg);
static ReqResult observe_wait(Observer *o);
static ReqResult observe_on_timer(Request *req);
static bool observe_may_take(Watch *watch);
static ErrCode observe_authorize(Watch *watch, const StoreVersion *v);
static void observe_events(Watch *watch, const StoreVersion *v,
						   const KvVersion *const *kvs, size_t n);
static void observe_ended(Watch *watch, const StoreVersion *v, ErrCode error);

static const WatchOps observe_ops = {
	.may_take = observe_may_take,
	.authorize = observe_authorize,
	.events = observe_events,
	.ended = observe_ended,
};

/* ---- becoming leader, and being it ---- */

ReqResult
command_campaign(Request *req)
{
	const V3electionpb__CampaignRequest *message = req->message;
	ContendAsk	ask = {
		.name = pb_bytes(message->name),
		.lease = message->lease,
		.value = pb_bytes(message->value),
		.expired = ERR_CAMPAIGN_EXPIRED,
		.held = elected,
	};

	return contend(req, &ask);
}

static void
elected(Request *req, const StoreVersion *v, const KvVersion *own)
{
	const V3electionpb__CampaignRequest *message = req->message;
	Buf			leader;

	buf_init(&leader, req->mcx);
	pbwire_put_bytes(&leader, KEY_NAME, pb_bytes(message->name));
	pbwire_put_bytes(&leader, KEY_KEY, kvversion_key(own));
	pbwire_put_int(&leader, KEY_REV, own->create_revision);
	pbwire_put_int(&leader, KEY_LEASE, own->lease);
	pbwire_put_bytes_always(&req->body, CAMPAIGN_LEADER, buf_bytes(&leader));
}

ReqResult
command_proclaim(Request *req)
{
	const V3electionpb__ProclaimRequest *message = req->message;
	const V3electionpb__LeaderKey *leader = message->leader;
	KvOp		op = {.kind = KVOP_PUT};

	if (leader != NULL)
		op.put = (PutOp) {
			.key = pb_bytes(leader->key),
			.value = pb_bytes(message->value),
			.lease = leader->lease,
		};
	return change_own(req, leader, &op, on_proclaimed);
}

ReqResult
command_resign(Request *req)
{
	const V3electionpb__ResignRequest *message = req->message;
	const V3electionpb__LeaderKey *leader = message->leader;
	KvOp		op = {.kind = KVOP_DELETE};

	if (leader != NULL)
		op.delete.range = keyrange_make(pb_bytes(leader->key), BYTES_EMPTY);
	return change_own(req, leader, &op, on_resigned);
}

/* If the key is still the one by which he was elected. */
static ReqResult
change_own(Request *req, const V3electionpb__LeaderKey *leader, const KvOp *op,
		   ReqCompletionFn on_completion)
{
	CompareOp	compare = {
		.result = COMPARE_EQUAL,
		.target = COMPARE_CREATE,
	};
	LogOp		logop = {
		.kind = LOGOP_TXN,
		.txn = {
			.ncompares = 1,
			.nsuccess = 1,
			.compares = &compare,
			.success = (KvOp *) op,
		},
	};

	if (leader == NULL)
		return request_fail(req, ERR_LEADER_NOT_GIVEN);
	if (leader->key.len == 0)
		return request_fail(req, ERR_EMPTY_KEY);
	compare.range = keyrange_make(pb_bytes(leader->key), BYTES_EMPTY);
	compare.number = leader->rev;
	return request_propose(req, &logop, on_completion);
}

static ReqResult
on_proclaimed(Request *req, const Completion *done)
{
	if (done->error != ERR_NONE)
		return request_fail(req, done->error);
	if (done->count == 0)
		return request_fail(req, ERR_ELECTION_NOT_LEADER);
	req->header_revision = done->revision;
	return REQ_DONE;
}

/* who is not leader any more has nothing to give up */
static ReqResult
on_resigned(Request *req, const Completion *done)
{
	if (done->error != ERR_NONE)
		return request_fail(req, done->error);
	req->header_revision = done->revision;
	return REQ_DONE;
}

/* ---- asking who leads ---- */

ReqResult
command_leader(Request *req)
{
	return request_read_barrier(req, leader_at_point);
}

static ReqResult
leader_at_point(Request *req)
{
	const V3electionpb__LeaderRequest *message = req->message;
	KeyRange   *range = mcx_alloc(req->mcx, sizeof(*range));
	AccessList	access;

	*range = contend_range(req->mcx, pb_bytes(message->name));
	req->handler_state = range;
	access_init(&access, req->mcx);
	access_add_range(&access, NEED_READ, range);
	return answer_pinned(req, &access, leader_answer);
}

static ErrCode
leader_answer(Request *req, const StoreVersion *v)
{
	const KvVersion *kv = contend_first(v, req->handler_state, 0);

	if (kv == NULL)
		return ERR_ELECTION_NO_LEADER;
	mvcc_put_kv_field(&req->body, LEADER_KV, kv, false);
	return ERR_NONE;
}

/* ---- being told who leads ---- */

ReqResult
command_observe(Request *req)
{
	return request_read_barrier(req, observe_at_point);
}

static ReqResult
observe_at_point(Request *req)
{
	const V3electionpb__LeaderRequest *message = req->message;
	Observer   *o = mcx_alloc0(req->mcx, sizeof(*o));
	const StoreVersion *v = store_pin();
	ErrCode		error;

	o->req = req;
	buf_init(&o->leader, req->mcx);
	o->range = contend_range(req->mcx, pb_bytes(message->name));
	o->watch.ops = &observe_ops;
	o->watch.owner = o;
	o->watch.range = o->range;
	o->watch.start_revision = v->kv_revision + 1;
	access_init(&o->access, req->mcx);
	access_add_range(&o->access, NEED_READ, &o->range);
	error = request_authorize(req, v, &o->access);
	/* once more without using the token, to know how long it is good */
	if (error == ERR_NONE)
		error = observe_authorize(&o->watch, v);
	if (error == ERR_NONE)
	{
		req->handler_state = o;
		req->on_writable = observe_on_writable;
		mcx_on_reset(req->mcx, on_observer_gone, o);
		observe_leader(o, v, contend_first(v, &o->range, 0));
		watch_start(&o->watch, v);
	}
	store_unpin();
	if (error != ERR_NONE)
		return request_fail(req, error);
	(void) observe_wait(o);
	return request_park(req);
}

static ReqResult
observe_on_writable(Request *req)
{
	watch_go_on(req->handler_state);
	return REQ_PENDING;
}

/*
 * One change of one of the keys.  When the leader's key goes, who was next at
 * that moment leads, even if others went in the meantime.
 */
static void
observe_event(Observer *o, const StoreVersion *v, const KvVersion *kv)
{
	bool		is_leader = o->created != 0 &&
		bytes_equal(kvversion_key(kv), buf_bytes(&o->leader));

	if (!kvversion_is_tombstone(kv))
	{
		if (is_leader || o->created == 0)
			observe_leader(o, v, kv);
	}
	else if (is_leader)
	{
		/* as of then, if that can still be seen */
		int64_t		revision = kv->mod_revision < v->compacted_revision ? 0 :
			kv->mod_revision;

		o->created = 0;
		observe_leader(o, v, contend_first(v, &o->range, revision));
	}
}

/* He leads, or has proclaimed something new; NULL: nobody does. */
static void
observe_leader(Observer *o, const StoreVersion *v, const KvVersion *kv)
{
	Bytes		key;

	if (kv == NULL)
		return;
	key = kvversion_key(kv);
	o->leader.len = 0;
	buf_append(&o->leader, key.data, key.len);
	o->created = kv->create_revision;
	mvcc_put_kv_field(&o->req->body, LEADER_KV, kv, false);
	o->req->header_revision = v->kv_revision;
	request_send(o->req, &o->req->body);
}

static void
on_observer_gone(void *arg)
{
	Observer   *o = arg;

	watch_stop(&o->watch);
}

static bool
observe_may_take(Watch *watch)
{
	const Observer *o = watch->owner;

	return request_may_send(o->req);
}

/*
 * The stream may outlive its token: who asks is looked up again, without using
 * the token, which lives on by what its owner does and not by what he is told.
 */
static ErrCode
observe_authorize(Watch *watch, const StoreVersion *v)
{
	Observer   *o = watch->owner;

	request_identify_again(o->req);
	return request_recheck(o->req, v, &o->access);
}

/* until the token ends, if nothing comes before */
static ReqResult
observe_wait(Observer *o)
{
	if (o->req->identity_until_ms != INT64_MAX)
		(void) request_wait_until(o->req, o->req->identity_until_ms,
								  observe_on_timer);
	return REQ_PENDING;
}

static ReqResult
observe_on_timer(Request *req)
{
	Observer   *o = req->handler_state;
	ErrCode		error = observe_authorize(&o->watch, store_pin());

	store_unpin();
	if (error == ERR_NONE)
		return observe_wait(o);
	watch_stop(&o->watch);
	return request_fail(req, error);
}

static void
observe_events(Watch *watch, const StoreVersion *v,
			   const KvVersion *const *kvs, size_t n)
{
	Observer   *o = watch->owner;
	ErrCode		error = ERR_NONE;

	if (clock_monotonic_ms() >= o->req->identity_until_ms)
		error = observe_authorize(watch, v);
	if (error != ERR_NONE)
	{
		watch_stop(watch);
		observe_ended(watch, v, error);
		return;
	}
	for (size_t i = 0; i < n; i++)
		observe_event(o, v, kvs[i]);
}

static void
observe_ended(Watch *watch, const StoreVersion *v, ErrCode error)
{
	Observer   *o = watch->owner;

	request_resume(o->req, request_fail(o->req, error));
}
