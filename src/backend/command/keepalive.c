/*
 * keepalive.c
 *	  LeaseKeepAlive: a stream on which each message renews a lease.
 *
 * One answer for each message, in order: the next message is taken when the
 * last one is answered, and what comes meanwhile waits in the client's window,
 * so a flood of keepalives fills nobody's memory.  A lease that is unknown or
 * over is answered with a time of 0 and the stream goes on; any other failure
 * ends it.
 *
 * A keepalive makes no log entry (lease/renewal.h), unless a checkpoint has
 * noted that the lease has less than its full time left: then the renewal goes
 * through the log once, so that a restart does not go back to that.
 *
 * Each message is judged for itself, by a token that must still be good.
 */
#include "server.h"

/* libraries */
#include "etcdserverpb.pb-c.h"

/* lib and utils */
#include "lib/pbwire.h"
#include "utils/injection.h"

/* this layer and below */
#include "command/command.h"
#include "dispatch/dispatch.h"
#include "lease/lease.h"

/* rights or keys of the lease changed while we asked: as often we ask again */
#define MAX_TRIES 16

enum
{
	KEEP_ALIVE_ID = 2,
	KEEP_ALIVE_TTL = 3
};

typedef struct KeepAlive
{
	int64_t		id;				/* in work */
	uint32_t	tries;
	bool		is_busy;
	bool		is_half_closed;
} KeepAlive;

static ReqResult on_message(Request *req, const void *message);
static ReqResult on_half_close(Request *req);
static ReqResult renew(Request *req);
static ReqResult on_renewed(Request *req, const Completion *done);
static ReqResult on_logged(Request *req, const Completion *done);
static ReqResult answer(Request *req, int64_t revision, int64_t ttl_sec);

ReqResult
command_lease_keep_alive(Request *req)
{
	req->handler_state = mcx_alloc0(req->mcx, sizeof(KeepAlive));
	req->on_message = on_message;
	req->on_half_close = on_half_close;
	request_permit_stream(req);
	return REQ_PENDING;
}

static ReqResult
on_message(Request *req, const void *message)
{
	const Etcdserverpb__LeaseKeepAliveRequest *ask = message;
	KeepAlive  *state = req->handler_state;

	state->id = ask->id;
	state->tries = 0;
	state->is_busy = true;
	return renew(req);
}

static ReqResult
on_half_close(Request *req)
{
	KeepAlive  *state = req->handler_state;

	state->is_half_closed = true;
	return state->is_busy ? REQ_PENDING : request_end(req);
}

static ReqResult
renew(Request *req)
{
	KeepAlive  *state = req->handler_state;

	/* the stream may have outlived the token */
	request_identify_again(req);
	return request_renew_lease(req, state->id, on_renewed);
}

static ReqResult
on_renewed(Request *req, const Completion *done)
{
	KeepAlive  *state = req->handler_state;
	LogOp		op = {.kind = LOGOP_LEASE_RENEW,.lease.id = state->id};

	(void) INJECTION_POINT("lease-renewed");
	if (done->error == ERR_AUTH_OLD_REVISION && ++state->tries < MAX_TRIES)
		return renew(req);
	if (done->error != ERR_NONE)
		return request_fail(req, done->error);
	if (done->count == LEASE_NEEDS_LOG)
		return request_propose(req, &op, on_logged);
	return answer(req, done->revision, done->count);
}

static ReqResult
on_logged(Request *req, const Completion *done)
{
	if (done->error == ERR_LEASE_NOT_FOUND)
		return answer(req, done->revision, 0);
	if (done->error != ERR_NONE)
		return request_fail(req, done->error);
	return answer(req, done->revision, done->count);
}

static ReqResult
answer(Request *req, int64_t revision, int64_t ttl_sec)
{
	KeepAlive  *state = req->handler_state;

	req->header_revision = revision;
	pbwire_put_int(&req->body, KEEP_ALIVE_ID, state->id);
	pbwire_put_int(&req->body, KEEP_ALIVE_TTL, ttl_sec);
	request_send(req, &req->body);
	state->is_busy = false;
	return state->is_half_closed ? request_end(req) : REQ_PENDING;
}
