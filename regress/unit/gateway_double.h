/*
 * gateway_double.h
 *	  Stands in for dispatch, the store and the settings when the HTTP door is
 *	  fuzzed alone.
 *
 * What becomes of a message is said by its length: modulo 4, 0 is answered
 * with an empty message, 1 with an error, 2 waits for double_finish(), 3 is
 * answered with the message's own bytes (which are rarely an answer).  Each
 * message of a stream is answered with three; every fifth ends the stream.
 */
#ifndef GATEWAY_DOUBLE_H
#define GATEWAY_DOUBLE_H

#include "etcdserverpb.pb-c.h"
#include "health.pb-c.h"
#include "v3electionpb.pb-c.h"
#include "v3lockpb.pb-c.h"

#include "alarm/alarm.h"
#include "command/command.h"
#include "dispatch/dispatch.h"
#include "gateway/metrics.h"
#include "storage/ipc/control.h"
#include "utils/guc.h"

#define GUC_STRING(name, def, when, text) const char *guc_##name = def;
#define GUC_INT(name, def, min, max, unit, when, text) int64_t guc_##name = def;
#define GUC_BOOL(name, def, when, text) bool guc_##name = def;
#define GUC_IGNORED(name, text)
#include "utils/guclist.h"
#undef GUC_STRING
#undef GUC_INT
#undef GUC_BOOL
#undef GUC_IGNORED

#define DOUBLE_MAX 4096

static struct
{
	Request    *pending[DOUBLE_MAX];
	int			npending;
	int			alive;			/* created and not destroyed */
	int			messages;
}			doubled;

static ReqResult
double_handler(Request *req)
{
	return REQ_DONE;
}

static const RpcInfo double_rpcs[RPC_COUNT] = {
#define RPC(symbol, service, method, kind, flags, request, response, handler) \
	[symbol] = {symbol, service, method, kind, flags, &request, &response, \
		double_handler},
#include "dispatch/rpclist.h"
#undef RPC
};

const RpcInfo *
rpc_info(RpcId id)
{
	return id > RPC_NONE && id < RPC_COUNT ? &double_rpcs[id] : NULL;
}

Request *
request_create(MemContext *parent, const RpcInfo *rpc, const RequestOps *ops,
			   void *door)
{
	MemContext *mcx = mcx_create(parent, "request");
	Request    *req = mcx_alloc0(mcx, sizeof(*req));

	req->mcx = mcx;
	req->rpc = rpc;
	req->ops = ops;
	req->door = door;
	req->error_grpc_code = -1;
	buf_init(&req->body, mcx);
	buf_init(&req->answer, mcx);
	doubled.alive++;
	return req;
}

void
request_destroy(Request *req)
{
	for (int i = 0; i < doubled.npending; i++)
		if (doubled.pending[i] == req)
			doubled.pending[i] = doubled.pending[--doubled.npending];
	doubled.alive--;
	mcx_destroy(req->mcx);
}

static void
double_end(Request *req, ErrCode error)
{
	req->error = error;
	req->state = REQ_ANSWERED;
	req->ops->finished(req);
}

static inline void
double_finish(Request *req)
{
	for (int i = 0; i < doubled.npending; i++)
		if (doubled.pending[i] == req)
			doubled.pending[i] = doubled.pending[--doubled.npending];
	double_end(req, ERR_NONE);
}

static void
double_send(Request *req, Bytes message)
{
	Buf			copy;

	for (int i = 0; i < 3; i++)
	{
		buf_init(&copy, NULL);
		buf_append(&copy, message.data, message.len);
		req->ops->message(req, &copy);
		buf_free(&copy);
	}
}

void
dispatch_request(Request *req, Bytes message)
{
	switch (message.len % 4)
	{
		case 1:
			double_end(req, ERR_PERMISSION_DENIED);
			return;
		case 2:
			if (doubled.npending < DOUBLE_MAX)
			{
				doubled.pending[doubled.npending++] = req;
				return;
			}
			break;
		case 3:
			if (req->rpc->kind == RPC_UNARY)
				buf_append(&req->answer, message.data, message.len);
			else
				double_send(req, message);
			break;
		default:
			break;
	}
	double_end(req, ERR_NONE);
}

void
dispatch_open(Request *req)
{
}

bool
dispatch_takes_messages(Request *req)
{
	return req->ops->backlog(req) < REQUEST_BACKLOG_BYTES;
}

void
dispatch_message(Request *req, Bytes message)
{
	double_send(req, message.len % 2 ? message : BYTES_EMPTY);
	if (++doubled.messages % 5 == 0)
		double_end(req, message.len % 2 ? ERR_NONE : ERR_WATCH_CANCELED);
}

void
dispatch_half_close(Request *req)
{
	/* a watch goes on */
	if (req->rpc->id != RPC_WATCH_WATCH)
		double_end(req, ERR_NONE);
}

void
dispatch_writable(Request *req)
{
	double_send(req, BYTES_EMPTY);
}

void
dispatch_cancel(Request *req)
{
	req->door = NULL;
	request_destroy(req);
}

ReqResult
command_health_read(Request *req)
{
	return REQ_DONE;
}

const StoreVersion *
store_pin(void)
{
	static const StoreVersion version;

	return &version;
}

void
store_unpin(void)
{
}

RaftStatus *
store_raft_status(void)
{
	static RaftStatus status = {.leader_id = 1, .is_ready = true};

	return &status;
}

bool
alarm_is_on(const StoreVersion *v, AlarmType type)
{
	return false;
}

void
counter_add(CounterId id, uint64_t n)
{
}

void
metrics_write(Buf *out)
{
	buf_printf(out, "# no metrics\n");
}

#endif							/* GATEWAY_DOUBLE_H */
