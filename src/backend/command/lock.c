/*
 * lock.c
 *	  v3lockpb: Lock and Unlock.
 */
#include "server.h"

/* libraries */
#include "v3lockpb.pb-c.h"

/* lib and utils */
#include "lib/pbwire.h"

/* this layer and below */
#include "command/command.h"
#include "command/contend.h"
#include "command/pbbytes.h"
#include "dispatch/dispatch.h"

#define LOCK_KEY 2

static void locked(Request *req, const StoreVersion *v, const KvVersion *own);
static ReqResult on_unlocked(Request *req, const Completion *done);

/* Who has the lock already, by the same lease, gets it again. */
ReqResult
command_lock(Request *req)
{
	const V3lockpb__LockRequest *message = req->message;
	ContendAsk	ask = {
		.name = pb_bytes(message->name),
		.lease = message->lease,
		.keeps_value = true,
		.expired = ERR_LOCK_EXPIRED,
		.held = locked,
	};

	return contend(req, &ask);
}

/* A key that is not there is unlocked. */
ReqResult
command_unlock(Request *req)
{
	const V3lockpb__UnlockRequest *message = req->message;
	LogOp		op = {.kind = LOGOP_DELETE};

	if (message->key.len == 0)
		return request_fail(req, ERR_EMPTY_KEY);
	op.delete.range = keyrange_make(pb_bytes(message->key), BYTES_EMPTY);
	return request_propose(req, &op, on_unlocked);
}

static void
locked(Request *req, const StoreVersion *v, const KvVersion *own)
{
	pbwire_put_bytes(&req->body, LOCK_KEY, kvversion_key(own));
}

/* how many keys were deleted is no part of the answer */
static ReqResult
on_unlocked(Request *req, const Completion *done)
{
	if (done->error != ERR_NONE)
		return request_fail(req, done->error);
	req->header_revision = done->revision;
	return REQ_DONE;
}
