/*
 * stream.c
 *	  Requests with many messages: bidirectional and server streams.
 *
 *	dispatch_open          the handler runs, and says what it wants to hear of
 *	dispatch_message       decode the next message, on_message
 *	dispatch_half_close    on_half_close
 *	dispatch_writable      on_writable
 *	request_send           one message of the answer, given to the door
 *
 * A stream holds little: the message it is looking at (step_mcx, reset for the
 * next one), who it is (identity_mcx), and what its handler keeps.  What it has
 * sent and the client has not taken lies with the door, which says how much
 * that is; the handler stops at REQUEST_BACKLOG_BYTES, and no message is given
 * to it meanwhile, so that a client who only asks cannot fill the memory.
 *
 * A client may ask that there be a leader (metadata hasleader).  Such streams
 * are ended when the member has not seen one for three election timeouts, as
 * etcd does, so that the client goes to a member that does.
 */
#include "server.h"

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/guc.h"

/* this layer and below */
#include "dispatch/decode.h"
#include "dispatch/dispatch.h"
#include "dispatch/lifecycle.h"
#include "dispatch/pending.h"
#include "dispatch/rpcstats.h"

/* the message buffer is kept between messages unless it has grown beyond */
#define MESSAGE_KEEP_BYTES (256 * 1024)
#define LEADERLESS_TIMEOUTS 3

static Request *first_guarded;
static int64_t next_check_ms;	/* meaningful while there are guarded ones */
static int64_t leaderless_ms;	/* since when there is no leader; 0: there is */

static ReqResult open_stream(Request *req);
static ReqResult take_message(Request *req, Bytes wire);

/* ---- for the doors ---- */

void
dispatch_open(Request *req)
{
	Assert(req->state == REQ_RECEIVED);
	request_begin(req);
	stream_guard(req);
	request_settle(req, open_stream(req));
}

bool
dispatch_takes_messages(Request *req)
{
	bool		takes = !pending_has(req) && !req->is_parked &&
		request_may_send(req);

	req->has_refused_message = !takes;
	return takes;
}

void
dispatch_message(Request *req, Bytes message)
{
	Assert(!pending_has(req));
	rpcstats_received(req, message.len);
	request_settle(req, take_message(req, message));
}

void
dispatch_half_close(Request *req)
{
	request_settle(req, req->on_half_close != NULL ?
				   req->on_half_close(req) : request_end(req));
}

void
dispatch_writable(Request *req)
{
	if (req->on_writable != NULL && !pending_has(req))
		request_settle(req, req->on_writable(req));
}

/* ---- for the handlers ---- */

void
request_permit_stream(Request *req)
{
	Assert(request_is_stream(req));
	if (req->state == REQ_RECEIVED)
		request_move(req, REQ_PERMITTED);
}

void
request_send(Request *req, Buf *fields)
{
	static Buf	message;

	Assert(request_is_stream(req) && req->state != REQ_ANSWERED);
	if (req->state != REQ_PERMITTED && req->state != REQ_WAITING)
	{
		elog_error("%s was about to send without permission",
				   req->rpc->method);
		request_fail(req, ERR_INTERNAL);
		fields->len = 0;
		return;
	}
	if ((req->rpc->flags & RPC_FLAG_NO_HEADER) == 0)
		request_put_header(req, &message);
	buf_append(&message, fields->data, fields->len);
	fields->len = 0;
	rpcstats_sent(req, message.len);
	req->ops->message(req, &message);
	message.len = 0;
	if (message.cap > MESSAGE_KEEP_BYTES)
		buf_free(&message);
}

bool
request_may_send(const Request *req)
{
	return req->ops->backlog(req) < REQUEST_BACKLOG_BYTES;
}

ReqResult
request_end(Request *req)
{
	return req->error == ERR_NONE ? REQ_DONE : REQ_FAILED;
}

MemContext *
request_scratch(Request *req)
{
	if (!request_is_stream(req))
		return req->mcx;
	if (req->step_mcx == NULL)
		req->step_mcx = mcx_create(req->mcx, "message");
	return req->step_mcx;
}

void
request_identify_again(Request *req)
{
	Assert(request_is_stream(req));
	req->is_identified = false;
}

ReqResult
request_park(Request *req)
{
	/* what is not permitted has nothing to wait for */
	if (req->state != REQ_PERMITTED && req->state != REQ_WAITING)
	{
		elog_error("%s waits without permission", req->rpc->method);
		return request_fail(req, ERR_INTERNAL);
	}
	request_move(req, REQ_WAITING);
	req->is_parked = true;
	return REQ_PENDING;
}

void
request_resume(Request *req, ReqResult result)
{
	req->is_parked = false;
	request_settle(req, result);
}

/* ---- streams that need a leader ---- */

void
stream_guard(Request *req)
{
	if (!req->require_leader || req->is_guarded)
		return;
	if (first_guarded == NULL)
	{
		leaderless_ms = 0;
		next_check_ms = req->started_ms + guc_election_timeout;
	}
	req->is_guarded = true;
	req->prev_guarded = NULL;
	req->next_guarded = first_guarded;
	if (first_guarded != NULL)
		first_guarded->prev_guarded = req;
	first_guarded = req;
}

void
stream_unguard(Request *req)
{
	if (!req->is_guarded)
		return;
	if (req->prev_guarded != NULL)
		req->prev_guarded->next_guarded = req->next_guarded;
	else
		first_guarded = req->next_guarded;
	if (req->next_guarded != NULL)
		req->next_guarded->prev_guarded = req->prev_guarded;
	req->is_guarded = false;
}

int64_t
stream_next_check_ms(void)
{
	return first_guarded == NULL ? -1 : next_check_ms;
}

void
stream_check_leader(int64_t now_ms)
{
	if (first_guarded == NULL || now_ms < next_check_ms)
		return;
	next_check_ms = now_ms + guc_election_timeout;
	if (atomic_load(&store_raft_status()->leader_id) != 0)
	{
		leaderless_ms = 0;
		return;
	}
	if (leaderless_ms == 0)
		leaderless_ms = now_ms;
	if (now_ms - leaderless_ms < LEADERLESS_TIMEOUTS * guc_election_timeout)
		return;
	/* each may be gone when it is settled, and its neighbours with it */
	while (first_guarded != NULL)
	{
		Request    *req = first_guarded;

		stream_unguard(req);
		pending_give_up(req);
		request_settle(req, request_fail(req, ERR_NO_LEADER));
	}
}

/* ---- static ---- */

static ReqResult
open_stream(Request *req)
{
	ErrCode		refused;

	if (req->rpc->handler == NULL)
		return request_fail_unknown_method(req);
	refused = request_check_preconditions(req);
	if (refused != ERR_NONE)
		return request_fail(req, refused);
	return req->rpc->handler(req);
}

static ReqResult
take_message(Request *req, Bytes wire)
{
	const char *why = "";
	void	   *message = NULL;
	ErrCode		decoded;

	mcx_reset(request_scratch(req));
	decoded = decode_message(req->rpc->request, wire, req->step_mcx, &message,
							 &why);
	if (decoded == ERR_INTERNAL)
		return request_fail_unmarshalling(req, why);
	if (decoded != ERR_NONE)
		return request_fail(req, decoded);
	if (req->on_message == NULL)
	{
		elog_error("%s has nothing to take a message", req->rpc->method);
		return request_fail(req, ERR_INTERNAL);
	}
	return req->on_message(req, message);
}
