/*
 * grpc_double.h
 *	  Stands in for dispatch and the settings when the gRPC door is tested or
 *	  fuzzed alone.
 *
 * The first byte of a message says what is to become of it:
 *	E  echo: the answer is the message
 *	P  pending, until double_finish()
 *	D  permission denied
 *	T  an error with its own text and code
 *	B  an answer of as many bytes as the next four say (big-endian)
 * Anything else is answered empty.
 *
 * On a bidi stream (LeaseKeepAlive here) a message is answered with one:
 *	E, B as above
 *	M  as many messages as byte 1 says, each of as many bytes as the next four
 *	   say; as long as the backlog allows, the rest when it is writable again
 *	S  none, and no further message is taken until double_ready()
 *	D  ends the stream with permission denied
 *	F  ends the stream OK
 * Anything else is not answered.  The half close ends the stream OK.
 */
#ifndef GRPC_DOUBLE_H
#define GRPC_DOUBLE_H

#include "guc_double.h"
#include "request_double.h"

#define DOUBLE_TEXT "100% \"f\xc3\xbcr\"\n"

static const RpcInfo double_rpcs[] = {
	{.id = RPC_KV_RANGE, .service = "etcdserverpb.KV", .method = "Range",
	.kind = RPC_UNARY, .handler = double_handler},
	{.id = RPC_AUTH_AUTHENTICATE, .service = "etcdserverpb.Auth",
	.method = "Authenticate", .kind = RPC_UNARY, .handler = double_handler},
	{.id = RPC_WATCH_WATCH, .service = "etcdserverpb.Watch",
	.method = "Watch", .kind = RPC_BIDI},
	{.id = RPC_LEASE_LEASE_KEEP_ALIVE, .service = "etcdserverpb.Lease",
	.method = "LeaseKeepAlive", .kind = RPC_BIDI, .flags = RPC_FLAG_ENDLESS,
	.handler = double_handler},
};

const RpcInfo *
rpc_find(Bytes service, Bytes method)
{
	for (size_t i = 0; i < lengthof(double_rpcs); i++)
		if (bytes_equal_cstr(service, double_rpcs[i].service) &&
			bytes_equal_cstr(method, double_rpcs[i].method))
			return &double_rpcs[i];
	return NULL;
}

bool
rpc_service_exists(Bytes service)
{
	for (size_t i = 0; i < lengthof(double_rpcs); i++)
		if (bytes_equal_cstr(service, double_rpcs[i].service))
			return true;
	return false;
}

static void
double_copy(char *out, size_t size, Bytes b)
{
	size_t		n = size_min(size - 1, b.len);

	if (n > 0)
		memcpy(out, b.data, n);
	out[n] = '\0';
}

static void
double_note(const Request *req, Bytes message)
{
	doubled.dispatched++;
	double_copy(doubled.token, sizeof(doubled.token), req->credentials.token);
	double_copy(doubled.common_name, sizeof(doubled.common_name),
				req->credentials.common_name);
	double_copy(doubled.api_version, sizeof(doubled.api_version),
				req->client_api_version);
	doubled.has_token = req->credentials.has_token;
	doubled.require_leader = req->require_leader;
	doubled.deadline_ms = req->deadline_ms;
	doubled.message_len = message.len;
	doubled.message_sum = 0;
	for (size_t i = 0; i < message.len; i++)
		doubled.message_sum = doubled.message_sum * 31 + message.data[i];
}

static void
double_answer_bytes(Request *req, Bytes message)
{
	size_t		n;

	if (message.len < 5)
		return;
	n = (size_t) message.data[1] << 24 | (size_t) message.data[2] << 16 |
		(size_t) message.data[3] << 8 | message.data[4];
	/* a fuzzer asks for anything */
	n = size_min(n, 16 * 1024 * 1024);
	buf_reserve(&req->answer, n);
	for (size_t i = 0; i < n; i++)
		req->answer.data[i] = (uint8_t) (i * 7 + i / 251);
	req->answer.len = n;
}

void
dispatch_request(Request *req, Bytes message)
{
	double_note(req, message);
	if (req->rpc->handler == NULL)
	{
		req->error = ERR_UNIMPLEMENTED;
		req->error_text = mcx_printf(req->mcx, "unknown method %s for service %s",
									 req->rpc->method, req->rpc->service);
	}
	else if (message.len > 0)
	{
		switch (message.data[0])
		{
			case 'E':
				buf_append(&req->answer, message.data, message.len);
				break;
			case 'P':
				if (doubled.npending == DOUBLE_MAX)
					break;
				doubled.pending[doubled.npending++] = req;
				buf_append(&req->answer, message.data, message.len);
				return;
			case 'D':
				req->error = ERR_PERMISSION_DENIED;
				break;
			case 'T':
				req->error = ERR_UNKNOWN;
				req->error_text = DOUBLE_TEXT;
				req->error_grpc_code = 9;
				break;
			case 'B':
				double_answer_bytes(req, message);
				break;
			default:
				break;
		}
	}
	req->state = REQ_ANSWERED;
	req->ops->finished(req);
}

/* ---- streams ---- */

void
dispatch_open(Request *req)
{
	doubled.opened++;
	if (req->rpc->handler == NULL)
	{
		req->error_text = mcx_printf(req->mcx, "unknown method %s for service %s",
									 req->rpc->method, req->rpc->service);
		double_end(req, ERR_UNIMPLEMENTED);
		return;
	}
	req->has_right = true;
	doubled.stream = req;
	doubled.deadline_ms = req->deadline_ms;
}

bool
dispatch_takes_messages(Request *req)
{
	bool		takes = !doubled.is_stalled &&
		req->ops->backlog(req) < REQUEST_BACKLOG_BYTES;

	doubled.has_refused = !takes;
	return takes;
}

static size_t
double_u32(Bytes message, size_t at)
{
	const uint8_t *p = message.data + at;

	if (message.len < at + 4)
		return 0;
	return (size_t) p[0] << 24 | (size_t) p[1] << 16 | (size_t) p[2] << 8 | p[3];
}

/* the n-th byte of what is sent is always the same, so it can be checked */
static void
double_send_bytes(Request *req, size_t n)
{
	Buf			message;

	buf_init(&message, NULL);
	for (size_t i = 0; i < n; i++)
		buf_put_u8(&message, (uint8_t) (i * 7 + i / 251));
	req->ops->message(req, &message);
	buf_free(&message);
}

static void
double_send_left(Request *req)
{
	while (doubled.left > 0 && req->ops->backlog(req) < REQUEST_BACKLOG_BYTES)
	{
		doubled.left--;
		double_send_bytes(req, doubled.each);
	}
}

void
dispatch_message(Request *req, Bytes message)
{
	Buf			copy;

	doubled.messages++;
	doubled.message_len = message.len;
	switch (message.len > 0 ? message.data[0] : 0)
	{
		case 'E':
			buf_init(&copy, NULL);
			buf_append(&copy, message.data, message.len);
			req->ops->message(req, &copy);
			buf_free(&copy);
			break;
		case 'B':
			double_send_bytes(req, size_min(double_u32(message, 1),
											16 * 1024 * 1024));
			break;
		case 'M':
			doubled.left = message.len > 1 ? message.data[1] : 0;
			doubled.each = size_min(double_u32(message, 2), 1024 * 1024);
			double_send_left(req);
			break;
		case 'S':
			doubled.is_stalled = true;
			break;
		case 'D':
			double_end(req, ERR_PERMISSION_DENIED);
			break;
		case 'F':
			double_end(req, ERR_NONE);
			break;
		default:
			break;
	}
}

void
dispatch_half_close(Request *req)
{
	doubled.half_closes++;
	double_end(req, ERR_NONE);
}

void
dispatch_writable(Request *req)
{
	doubled.writables++;
	double_send_left(req);
}

static inline void
double_ready(void)
{
	doubled.is_stalled = false;
	if (doubled.stream == NULL || !doubled.has_refused)
		return;
	doubled.readies++;
	doubled.stream->ops->ready(doubled.stream);
}

#endif							/* GRPC_DOUBLE_H */
