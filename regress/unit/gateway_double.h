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

#include "guc_double.h"
#include "request_double.h"

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
