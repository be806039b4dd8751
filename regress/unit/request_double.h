/*
 * request_double.h
 *	  What the doubles of dispatch for both doors have in common: requests that
 *	  are made, wait, end and go, and a count of what has become of them.
 */
#ifndef REQUEST_DOUBLE_H
#define REQUEST_DOUBLE_H

#include "dispatch/dispatch.h"

#define DOUBLE_MAX 4096

static struct
{
	Request    *pending[DOUBLE_MAX];
	int			npending;
	int			dispatched;
	int			cancelled;
	int			alive;			/* created and not destroyed */
	/* of the last one dispatched */
	char		token[256];
	char		common_name[64];
	char		api_version[16];
	bool		has_token;
	bool		require_leader;
	int64_t		deadline_ms;
	size_t		message_len;
	uint64_t	message_sum;
	/* of streams */
	int			opened;
	int			messages;
	int			half_closes;
	int			writables;
	int			readies;
	bool		is_stalled;
	bool		has_refused;
	int			left;			/* of an M */
	size_t		each;
	Request    *stream;			/* the last one opened, while it runs */
} doubled;

static ReqResult
double_handler(Request *req)
{
	return REQ_DONE;
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

static void
double_forget(const Request *req)
{
	for (int i = 0; i < doubled.npending; i++)
		if (doubled.pending[i] == req)
			doubled.pending[i] = doubled.pending[--doubled.npending];
}

void
request_destroy(Request *req)
{
	double_forget(req);
	if (doubled.stream == req)
		doubled.stream = NULL;
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
	double_forget(req);
	double_end(req, ERR_NONE);
}

void
dispatch_cancel(Request *req)
{
	doubled.cancelled++;
	req->door = NULL;
	request_destroy(req);
}

#endif							/* REQUEST_DOUBLE_H */
