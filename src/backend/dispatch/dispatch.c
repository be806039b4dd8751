/*
 * dispatch.c
 *	  The life of a request, from the door and back to it.
 *
 *	dispatch_request   decode, look at what concerns every RPC, call the handler
 *	on_completions     the raft worker has answered: call the continuation
 *	on_hashes          the hashing thread has finished: likewise
 *	expire, cancel     nobody waits any longer (streams: stream.c)
 *	settle, finish     make the answer, give the request back to its door
 *
 * Here stands the rule that nothing is answered without permission: finish()
 * looks at the state, which only request_authorize() can move to PERMITTED.
 *
 * A door may destroy the request, and cancel others, from within
 * ops->finished(); so nothing here touches a request after settling it, and
 * no loop keeps a pointer to a neighbour.
 */
#include "server.h"

/* libraries */
#include "etcdserverpb.pb-c.h"

/* lib and utils */
#include "lib/pbwire.h"
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/guc.h"

/* this layer and below */
#include "dispatch/decode.h"
#include "dispatch/dispatch.h"
#include "dispatch/lifecycle.h"
#include "dispatch/pending.h"
#include "dispatch/rpcstats.h"
#include "dispatch/status.h"
#include "dispatch/timer.h"
#include "storage/ipc/control.h"
#include "watch/watch.h"

/* a request that took longer is worth a line at debug level */
#define SLOW_REQUEST_MS 300

/* field numbers of ResponseHeader, and of the header in every response */
#define HEADER_FIELD 1
#define HEADER_CLUSTER_ID 1
#define HEADER_MEMBER_ID 2
#define HEADER_REVISION 3
#define HEADER_RAFT_TERM 4

/* codes of gRPC */
#define CODE_OK 0
#define CODE_CANCELED 1

#define BIT(state) (1u << (state))

/* where each state may lead */
static const uint8_t next_states[] = {
	[REQ_RECEIVED] = BIT(REQ_BARRIER) | BIT(REQ_PERMITTED) | BIT(REQ_ANSWERED),
	[REQ_BARRIER] = BIT(REQ_PERMITTED) | BIT(REQ_ANSWERED),
	[REQ_PERMITTED] = BIT(REQ_WAITING) | BIT(REQ_ANSWERED),
	[REQ_WAITING] = BIT(REQ_WAITING) | BIT(REQ_ANSWERED),
	[REQ_ANSWERED] = 0,
};

/* of operations that wait for room in the ring; above it no input is read */
#define UNSENT_MAX_BYTES ((size_t) 1024 * 1024)

static uint32_t nawaited;

static void count_awaited(Request *req, bool is_awaited);
static bool goes_on(Request *req);
static ReqResult run_handler(Request *req, Bytes message);
static bool serves_on_learner(const Request *req);
static ReqResult continue_from_ring(Request *req, const Completion *done);
static void finish(Request *req);
static int64_t took_us(const Request *req);
static bool is_permitted(const Request *req);
static void make_answer(Request *req);
static ReqResult give_up(Request *req, ErrCode error);
static void free_buffers(void *arg);
static int64_t current_revision(void);
static void show_rpc(RpcId id);

/* ---- for the doors ---- */

void
dispatch_init(void)
{
	PasswordCost cost = {
		.memory_kib = (uint32_t) guc_argon2_memory,
		.iterations = (uint32_t) guc_argon2_iterations,
		.parallelism = (uint32_t) guc_argon2_parallelism,
	};

	pending_init();
	timer_init();
	hashpool_init(&cost);
}

Request *
request_create(MemContext *parent, const RpcInfo *rpc, const RequestOps *ops,
			   void *door)
{
	MemContext *mcx = mcx_create(parent, "request");
	Request    *req = mcx_alloc0(mcx, sizeof(*req));

	req->mcx = mcx;
	req->rpc = rpc;
	req->state = REQ_RECEIVED;
	req->ops = ops;
	req->door = door;
	req->error_grpc_code = -1;
	/* on the heap: an answer that grows leaves no pieces behind */
	buf_init(&req->body, NULL);
	buf_init(&req->answer, NULL);
	mcx_on_reset(mcx, free_buffers, req);
	return req;
}

void
request_destroy(Request *req)
{
	pending_give_up(req);
	timer_forget(req);
	stream_unguard(req);
	count_awaited(req, false);
	mcx_destroy(req->mcx);
}

void
dispatch_request(Request *req, Bytes message)
{
	Assert(req->state == REQ_RECEIVED);
	Assert(req->rpc->kind != RPC_BIDI || req->rpc->handler == NULL);
	request_begin(req);
	rpcstats_received(req, message.len);
	if (request_is_stream(req))
		stream_guard(req);
	request_settle(req, run_handler(req, message));
}

void
dispatch_cancel(Request *req)
{
	if (req->started_ms != 0 && req->state != REQ_ANSWERED)
		rpcstats_handled(req, CODE_CANCELED, took_us(req));
	req->door = NULL;
	request_destroy(req);
	if (dispatch_outstanding() == 0)
		show_rpc(RPC_NONE);
}

int
dispatch_completion_fd(void)
{
	return ring_completion_fd();
}

void
dispatch_on_completions(void)
{
	Completion	done;

	while (ring_completion_next(&done))
	{
		Request    *req = pending_find(done.request_id);

		if (done.request_id == WATCH_RING_ID)
			watch_registered(&done);
		else if (req != NULL)
		{
			pending_forget(req);
			request_settle(req, continue_from_ring(req, &done));
		}
		ring_completion_done();
	}
	pending_send_unsent();
}

int
dispatch_hash_fd(void)
{
	return hashpool_fd();
}

void
dispatch_on_hashes(void)
{
	HashJob    *job;

	while ((job = hashpool_collect()) != NULL)
	{
		PendingHash *hash = job->owner;
		Request    *req = hash->req;

		if (req != NULL)
		{
			pending_forget(req);
			request_settle(req, req->on_hash(req, job));
		}
		/* what it holds now can still be tried offline */
		secret_wipe(hash, sizeof(*hash));
		free(hash);
	}
}

int64_t
dispatch_next_expiry_ms(void)
{
	return clock_earlier(clock_earlier(pending_next_expiry_ms(),
									   timer_next_ms()),
						 stream_next_check_ms());
}

void
dispatch_expire(int64_t now_ms)
{
	Request    *req;

	timer_run(now_ms);
	while ((req = pending_find_expired(now_ms)) != NULL)
	{
		bool		is_clients = req->deadline_ms > 0 &&
			req->deadline_ms <= now_ms;

		pending_give_up(req);
		request_settle(req, give_up(req, is_clients ?
									ERR_DEADLINE_EXCEEDED : ERR_TIMEOUT));
	}
	pending_send_unsent();
	stream_check_leader(now_ms);
}

uint32_t
dispatch_outstanding(void)
{
	return pending_count() + timer_count();
}

bool
dispatch_is_congested(void)
{
	return pending_unsent_bytes() > UNSENT_MAX_BYTES;
}

bool
dispatch_is_awaited(void)
{
	return nawaited > 0;
}

/* ---- for dispatch's own files ---- */

void
request_move(Request *req, ReqState next)
{
	Assert((next_states[req->state] & BIT(next)) != 0);
	req->state = next;
	count_awaited(req, next == REQ_WAITING && req->has_right &&
				  (req->rpc->flags & RPC_FLAG_ENDLESS) != 0);
}

void
request_settle(Request *req, ReqResult result)
{
	if (result == REQ_PENDING && req->error == ERR_NONE)
	{
		if (goes_on(req))
			return;
		/* it would never be answered */
		elog_error("%s waits for nothing", req->rpc->method);
		request_fail(req, ERR_INTERNAL);
	}
	else if (result == REQ_FAILED && req->error == ERR_NONE)
	{
		elog_error("%s failed without an error", req->rpc->method);
		request_fail(req, ERR_INTERNAL);
	}
	finish(req);
}

/* It has reached dispatch: clock, counter, activity view. */
void
request_begin(Request *req)
{
	req->started_ms = clock_coarse_ms();
	if (guc_metrics_are_extensive())
		req->started_us = clock_monotonic_us();
	rpcstats_started(req);
	counter_add(COUNTER_REQUESTS, 1);
	show_rpc(req->rpc->id);
}

static void
count_awaited(Request *req, bool is_awaited)
{
	nawaited += is_awaited;
	nawaited -= req->is_awaited;
	req->is_awaited = is_awaited;
}

/*
 * Will somebody call its handler again?  A stream that waited for the log, and
 * does no longer, may have messages waiting at its door.
 */
static bool
goes_on(Request *req)
{
	if (pending_has(req) || timer_has(req) || req->is_parked)
		return true;
	if (req->rpc->kind == RPC_BIDI && req->has_refused_message &&
		dispatch_takes_messages(req))
		req->ops->ready(req);
	return req->rpc->kind == RPC_BIDI || req->on_writable != NULL;
}

/* ---- from the message to the handler ---- */

/*
 * In etcd's order: can it be decoded, then what concerns every RPC, and only
 * then what the message says.
 */
static ReqResult
run_handler(Request *req, Bytes message)
{
	const char *why = "";
	ErrCode		decoded;
	ErrCode		refused;

	if (req->rpc->handler == NULL)
		return request_fail_unknown_method(req);
	decoded = decode_message(req->rpc->request, message, req->mcx,
							 &req->message, &why);
	if (decoded == ERR_INTERNAL)
		return request_fail_unmarshalling(req, why);
	refused = request_check_preconditions(req);
	if (refused != ERR_NONE)
		return request_fail(req, refused);
	if (decoded != ERR_NONE)
		return request_fail(req, decoded);
	return req->rpc->handler(req);
}

ReqResult
request_fail_unknown_method(Request *req)
{
	return request_fail_text(req, ERR_UNIMPLEMENTED, -1,
							 "unknown method %s for service %s",
							 req->rpc->method, req->rpc->service);
}

ReqResult
request_fail_unmarshalling(Request *req, const char *why)
{
	return request_fail_text(req, ERR_INTERNAL, -1,
							 "grpc: error unmarshalling request: %s", why);
}

ErrCode
request_check_preconditions(const Request *req)
{
	const RaftStatus *status = store_raft_status();

	/*
	 * Before the tables are loaded the store looks like one without users, in
	 * which everything is allowed.
	 */
	if (!atomic_load(&status->is_ready))
		return ERR_NO_LEADER;
	if (atomic_load(&status->is_learner) && !serves_on_learner(req))
		return ERR_NOT_SUPPORTED_FOR_LEARNER;
	if (!utf8_is_valid(req->client_api_version))
		return ERR_INVALID_CLIENT_API_VERSION;
	if (req->require_leader && atomic_load(&status->leader_id) == 0)
		return ERR_NO_LEADER;
	return ERR_NONE;
}

static bool
serves_on_learner(const Request *req)
{
	const Etcdserverpb__RangeRequest *range = req->message;

	switch (req->rpc->id)
	{
		case RPC_MAINTENANCE_STATUS:
		case RPC_MAINTENANCE_SNAPSHOT:
			return true;
		case RPC_KV_RANGE:
			return range != NULL && range->serializable;
		default:
			return false;
	}
}

static ReqResult
continue_from_ring(Request *req, const Completion *done)
{
	if (req->on_completion != NULL)
		return req->on_completion(req, done);
	if (done->error != ERR_NONE)
		return request_fail(req, done->error);
	return req->on_read(req);
}

/* A stream need not end because one of its messages was not answered in time. */
static ReqResult
give_up(Request *req, ErrCode error)
{
	if (!request_is_stream(req) || req->on_completion == NULL)
		return request_fail(req, error);
	return req->on_completion(req, &(Completion) {.error = error});
}

/* ---- from the handler to the door ---- */

static void
finish(Request *req)
{
	int64_t		took_ms = clock_coarse_ms() - req->started_ms;

	if (req->error == ERR_NONE && !is_permitted(req))
	{
		elog_error("%s was about to be answered without permission",
				   req->rpc->method);
		request_fail(req, ERR_INTERNAL);
	}
	pending_give_up(req);
	timer_forget(req);
	request_move(req, REQ_ANSWERED);
	if (req->error != ERR_NONE)
	{
		/* half an answer must not get out */
		buf_free(&req->body);
		counter_add(COUNTER_REQUESTS_FAILED, 1);
	}
	else if (!request_is_stream(req))
	{
		make_answer(req);
		rpcstats_sent(req, req->answer.len);
	}
	rpcstats_handled(req, req->error == ERR_NONE ? CODE_OK :
					 status_of_request(req).code, took_us(req));
	if (took_ms > SLOW_REQUEST_MS && !request_is_stream(req))
		elog_debug("%s took %" PRId64 " ms", req->rpc->method, took_ms);
	if (dispatch_outstanding() == 0)
		show_rpc(RPC_NONE);
	req->ops->finished(req);
}

/* -1: nobody wants to know */
static int64_t
took_us(const Request *req)
{
	return req->started_us == 0 ? -1 : clock_monotonic_us() - req->started_us;
}

static bool
is_permitted(const Request *req)
{
	return req->state == REQ_PERMITTED || req->state == REQ_WAITING;
}

/*
 * Header (field 1) and body make the message.  The body is moved up to make
 * room: it may be large, and a second copy of it would stay until it is sent.
 */
static void
make_answer(Request *req)
{
	Buf			header;

	if ((req->rpc->flags & RPC_FLAG_NO_HEADER) == 0)
	{
		buf_init(&header, req->mcx);
		request_put_header(req, &header);
		buf_reserve(&req->body, header.len);
		if (req->body.len > 0)
			memmove(req->body.data + header.len, req->body.data,
					req->body.len);
		memcpy(req->body.data, header.data, header.len);
		req->body.len += header.len;
	}
	req->answer = req->body;
	buf_init(&req->body, NULL);
}

void
request_put_header(const Request *req, Buf *out)
{
	/* kept: a stream writes many */
	static Buf	fields;
	const RaftStatus *status = store_raft_status();
	int64_t		revision = 0;

	if ((req->rpc->flags & RPC_FLAG_NO_REVISION) == 0 &&
		req->header_revision != HEADER_REVISION_ZERO)
		revision = req->header_revision != 0 ? req->header_revision :
			current_revision();
	fields.len = 0;
	pbwire_put_uint(&fields, HEADER_CLUSTER_ID,
					atomic_load(&status->cluster_id));
	pbwire_put_uint(&fields, HEADER_MEMBER_ID, atomic_load(&status->member_id));
	pbwire_put_int(&fields, HEADER_REVISION, revision);
	pbwire_put_uint(&fields, HEADER_RAFT_TERM, atomic_load(&status->term));
	pbwire_put_bytes_always(out, HEADER_FIELD, buf_bytes(&fields));
}

static int64_t
current_revision(void)
{
	int64_t		revision = store_pin()->kv_revision;

	store_unpin();
	return revision;
}

static void
free_buffers(void *arg)
{
	Request    *req = arg;

	buf_free(&req->body);
	buf_free(&req->answer);
}

static void
show_rpc(RpcId id)
{
	ProcSlot   *self = control_self();

	if (self != NULL)
		atomic_store_explicit(&self->current_rpc, (uint16_t) id,
							  memory_order_relaxed);
}
