/*
 * call.c
 *	  An RPC in JSON.
 *
 * The same Request as rpc/ makes: HTTP fields become metadata (so that a token
 * is read by the same code), the JSON object becomes the message's bytes, and
 * dispatch does the rest.  The answer goes the same way back: one object, or
 * for a stream one line {"result":...} for each message.
 *
 * Of a unary call the first object of the body counts and the rest is thrown
 * away, and an empty body is an empty message (etcd-v3-wire.md 9.2).  The
 * objects of a bidirectional stream are messages as they come; the end of the
 * body closes the client's half.  Over a WebSocket the one object is enough,
 * and its status is not told, only what would be in the body.
 *
 * Errors carry what clients of both generations of etcd's gateway look for:
 * "error", "code" and "message"; in a stream {"error":{...}} with "grpc_code",
 * "http_code" and "http_status" beside "code" and "message".
 */
#include "server.h"

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/injection.h"

/* this layer and below */
#include "dispatch/arrival.h"
#include "dispatch/dispatch.h"
#include "dispatch/metadata.h"
#include "dispatch/status.h"
#include "gateway/exchange.h"
#include "gateway/httptext.h"
#include "gateway/json.h"
#include "gateway/jsonsplit.h"

/* as dispatch/decode.c bounds the fields of a message */
#define VALUES_PER_REQUEST 256
#define VALUES_PER_OP 64

#define METADATA_PREFIX "grpc-metadata-"

struct GatewayCall
{
	HttpExchange *x;
	const RpcInfo *rpc;
	GrpcHead	meta;
	int64_t		deadline_ms;	/* CLOCK_MONOTONIC, 0: none */
	JsonSplit	split;
	bool		has_value;		/* not bidi: the object is there */
	Request    *req;			/* NULL: not begun, or answered */
	/* of streams */
	Buf			rest;			/* of the body, while dispatch takes no message */
	bool		body_is_complete;
	bool		has_told_end;	/* dispatch_half_close() was called */
	bool		wants_room;		/* dispatch was told that there is none */
	bool		is_untellable;	/* a message that JSON cannot say */
};

static void request_finished(Request *req);
static void stream_message(Request *req, Buf *message);
static size_t stream_backlog(const Request *req);
static void stream_ready(Request *req);

static const RequestOps request_ops = {
	.finished = request_finished,
	.message = stream_message,
	.backlog = stream_backlog,
	.ready = stream_ready,
};

static bool take_fields(GatewayCall *call);
static bool take_deadline(GatewayCall *call);
static bool ends_with_client(const GatewayCall *call);
static void make_request(GatewayCall *call);
static void finish_body(GatewayCall *call);
static void take_rest(GatewayCall *call);
static void feed(GatewayCall *call, Cursor *input);
static void take_message(GatewayCall *call);
static bool value_to_wire(GatewayCall *call, Bytes value, Buf *wire);
static void refuse_split(GatewayCall *call);
static void refuse(GatewayCall *call, ErrCode error, int code,
				   const char *text);
static void cancel_request(GatewayCall *call);
static void begin_stream(GatewayCall *call);
static void answer_status(GatewayCall *call, GrpcStatus status);
static void put_error(Buf *out, int code, const char *text);
static void put_stream_error(Buf *out, int http_status, int code,
							 const char *text);
static void answer_message(GatewayCall *call, Bytes message);
static void answer(GatewayCall *call, int http_status, Bytes body);
static int	http_status_of(int grpc_code);
static void wipe_and_free(Buf *buf);

void
call_start(HttpExchange *x, const RpcInfo *rpc)
{
	GatewayCall *call = mcx_alloc0(x->mcx, sizeof(*call));

	call->x = x;
	call->rpc = rpc;
	x->call = call;
	buf_init(&call->rest, NULL);
	jsonsplit_init(&call->split, json_max_bytes(),
				   VALUES_PER_REQUEST +
				   VALUES_PER_OP * (uint32_t) guc_max_txn_ops);
	if (x->head->is_websocket)
		exchange_begin_websocket(x);
	if (!take_fields(call) || !take_deadline(call))
		return;
	if (rpc->kind != RPC_BIDI)
		return;
	make_request(call);
	dispatch_open(call->req);
}

/* what came while dispatch took no message must go first */
bool
call_wants_body(const GatewayCall *call)
{
	return call->rest.len == 0;
}

void
call_body(GatewayCall *call, Bytes data)
{
	Cursor		input = cursor_make(data);

	Assert(call->rest.len == 0);
	feed(call, &input);
	if (cursor_left(&input) > 0 && call->rpc->kind == RPC_BIDI &&
		!call->x->is_answered)
		buf_append(&call->rest, input.pos, cursor_left(&input));
	/* who waits for the answer does not close the WebSocket before */
	if (call->x->head->is_websocket && call->has_value &&
		!call->body_is_complete)
	{
		call->body_is_complete = true;
		finish_body(call);
	}
}

void
call_end_of_body(GatewayCall *call)
{
	bool		was_complete = call->body_is_complete;

	call->body_is_complete = true;
	if (call->x->head->is_websocket && ends_with_client(call))
	{
		cancel_request(call);
		exchange_end(call->x);
	}
	else if (call->rpc->kind == RPC_BIDI)
		take_rest(call);
	else if (!was_complete)
		finish_body(call);
}

void
call_turn(GatewayCall *call)
{
	if (call->is_untellable)
		refuse(call, ERR_INTERNAL, -1, NULL);
	if (call->wants_room && call->req != NULL &&
		call->x->carrier->ops->backlog(call->x->carrier) <
		REQUEST_BACKLOG_BYTES / 2)
	{
		call->wants_room = false;
		dispatch_writable(call->req);
	}
	if (call->rpc->kind == RPC_BIDI)
		take_rest(call);
}

void
call_stop(GatewayCall *call)
{
	bool		has_begun = call->body_is_complete || call->req != NULL;

	/* to a WebSocket the request may never come */
	if ((call->rpc->flags & RPC_FLAG_ENDLESS) ||
		(call->x->head->is_websocket && !has_begun))
		refuse(call, ERR_STOPPED, -1, NULL);
}

int64_t
call_next_timer_ms(const GatewayCall *call)
{
	return call->deadline_ms == 0 ? -1 : call->deadline_ms;
}

void
call_on_timer(GatewayCall *call, int64_t now_ms)
{
	if (call->deadline_ms != 0 && now_ms >= call->deadline_ms)
		refuse(call, ERR_DEADLINE_EXCEEDED, -1, NULL);
}

size_t
call_held_bytes(const GatewayCall *call)
{
	return call->split.value.cap + call->rest.cap;
}

void
call_destroy(GatewayCall *call)
{
	cancel_request(call);
	jsonsplit_free(&call->split);
	buf_free(&call->rest);
	if (call->meta.token.len > 0)
		secret_wipe((void *) (uintptr_t) call->meta.token.data,
					call->meta.token.len);
	if (call->meta.authorization.len > 0)
		secret_wipe((void *) (uintptr_t) call->meta.authorization.data,
					call->meta.authorization.len);
}

void
call_answer_error(HttpExchange *x, int http_status, int code, const char *text)
{
	Buf			out;

	buf_init(&out, x->mcx);
	put_error(&out, code, text);
	exchange_answer(x, http_status, CONTENT_JSON, buf_bytes(&out));
}

/* ---- from HTTP to the request ---- */

/*
 * "Authorization" and "Grpc-Metadata-X" become metadata, as in etcd's gateway.
 * Authorization itself comes first, whatever order they were sent in.
 */
static bool
take_fields(GatewayCall *call)
{
	const HttpHead *head = call->x->head;
	MemContext *mcx = call->x->mcx;
	size_t		prefix = strlen(METADATA_PREFIX);

	for (uint32_t i = 0; i < head->nfields; i++)
		if (bytes_equal_cstr(head->fields[i].name, "authorization") ||
			bytes_equal_cstr(head->fields[i].name, "grpc-timeout"))
			metadata_add(&call->meta, mcx, head->fields[i].name,
						 head->fields[i].value);
	for (uint32_t i = 0; i < head->nfields; i++)
	{
		Bytes		name = head->fields[i].name;

		if (name.len > prefix && memcmp(name.data, METADATA_PREFIX, prefix) == 0)
			metadata_add(&call->meta, mcx,
						 bytes_make(name.data + prefix, name.len - prefix),
						 head->fields[i].value);
	}
	if (!call->meta.is_too_large)
		return true;
	refuse(call, ERR_NONE, GRPC_RESOURCE_EXHAUSTED,
		   "claviger: the headers of the request are too large");
	return false;
}

static bool
take_deadline(GatewayCall *call)
{
	int64_t		timeout_ms;
	const char *why;

	if (!call->meta.has_timeout)
		return true;
	if (!metadata_timeout_ms(call->meta.timeout, &timeout_ms, &why))
	{
		refuse(call, ERR_NONE, GRPC_INVALID_ARGUMENT,
			   mcx_printf(call->x->mcx, "invalid grpc-timeout: %s", why));
		return false;
	}
	call->deadline_ms = clock_monotonic_ms() + timeout_ms;
	return true;
}

/*
 * Who closes a WebSocket reads no more.  What has been asked for is done, and
 * answered if that takes no time; but a stream that would go on for ever ends,
 * and if nothing was asked nothing is done, empty message or not.
 */
static bool
ends_with_client(const GatewayCall *call)
{
	if (call->rpc->kind == RPC_UNARY)
		return !call->has_value && jsonsplit_is_between(&call->split);
	return call->rpc->id != RPC_LEASE_LEASE_KEEP_ALIVE &&
		((call->rpc->flags & RPC_FLAG_ENDLESS) != 0 || !call->has_value);
}

static void
make_request(GatewayCall *call)
{
	HttpCarrier *carrier = call->x->carrier;
	Request    *req = request_create(carrier->mcx, call->rpc, &request_ops,
									 call);

	metadata_fill_request(&call->meta, carrier->conn->common_name, req);
	req->deadline_ms = call->deadline_ms;
	call->req = req;
	(void) INJECTION_POINT("gateway-request-made");
}

/* The one message of a call that is no bidirectional stream. */
static void
finish_body(GatewayCall *call)
{
	Buf			wire;

	if (!call->has_value && !jsonsplit_is_between(&call->split))
	{
		refuse(call, ERR_NONE, GRPC_INVALID_ARGUMENT, "unexpected EOF");
		return;
	}
	buf_init(&wire, NULL);
	/* no object at all is a message without fields */
	if (!call->has_value ||
		value_to_wire(call, buf_bytes(&call->split.value), &wire))
	{
		if (call->has_value)
			jsonsplit_next(&call->split);
		make_request(call);
		dispatch_request(call->req, buf_bytes(&wire));
	}
	wipe_and_free(&wire);
}

/* Of a bidirectional stream: what waits, as far as dispatch takes it. */
static void
take_rest(GatewayCall *call)
{
	Cursor		input = cursor_make(buf_bytes(&call->rest));

	feed(call, &input);
	if (call->x->is_answered || call->req == NULL)
		return;
	if (cursor_left(&input) > 0)
	{
		memmove(call->rest.data, input.pos, cursor_left(&input));
		call->rest.len = cursor_left(&input);
		return;
	}
	buf_free(&call->rest);
	if (!call->body_is_complete || call->has_told_end)
		return;
	if (!jsonsplit_is_between(&call->split))
		refuse(call, ERR_NONE, GRPC_INVALID_ARGUMENT, "unexpected EOF");
	else if (dispatch_takes_messages(call->req))
	{
		call->has_told_end = true;
		dispatch_half_close(call->req);
	}
}

/*
 * Cut objects out of the input; those of a stream go to dispatch as long as it
 * takes any.  The call may be answered afterwards.
 */
static void
feed(GatewayCall *call, Cursor *input)
{
	bool		is_bidi = call->rpc->kind == RPC_BIDI;

	while (cursor_left(input) > 0 && !call->x->is_answered && !call->has_value)
	{
		if (is_bidi && (call->req == NULL ||
						!dispatch_takes_messages(call->req)))
			return;
		switch (jsonsplit_feed(&call->split, input))
		{
			case JSONSPLIT_MORE:
				return;
			case JSONSPLIT_VALUE:
				if (is_bidi)
					take_message(call);
				else
					call->has_value = true;
				break;
			case JSONSPLIT_BAD:
				refuse_split(call);
				return;
		}
	}
}

static void
take_message(GatewayCall *call)
{
	Buf			wire;

	buf_init(&wire, NULL);
	if (value_to_wire(call, buf_bytes(&call->split.value), &wire))
	{
		jsonsplit_next(&call->split);
		dispatch_message(call->req, buf_bytes(&wire));
	}
	buf_free(&wire);
}

/* False: the call was refused. */
static bool
value_to_wire(GatewayCall *call, Bytes value, Buf *wire)
{
	char		error[256];

	/* never more than its text, so that no piece of it stays behind */
	buf_reserve(wire, value.len + 64);
	if (!json_to_wire(call->rpc->request, value, wire, error, sizeof(error)))
	{
		refuse(call, ERR_NONE, GRPC_INVALID_ARGUMENT, error);
		return false;
	}
	if (wire->len <= arrival_max_bytes())
		return true;
	refuse(call, ERR_NONE, GRPC_RESOURCE_EXHAUSTED,
		   mcx_printf(call->x->mcx, "grpc: received message larger than max (%zu vs. %zu)",
					  wire->len, arrival_max_bytes()));
	return false;
}

static void
refuse_split(GatewayCall *call)
{
	const JsonSplit *split = &call->split;

	refuse(call, ERR_NONE, split->is_too_large ? GRPC_RESOURCE_EXHAUSTED :
		   GRPC_INVALID_ARGUMENT,
		   split->is_too_large ?
		   mcx_printf(call->x->mcx, "claviger: the request is larger than max (%zu)",
					  split->max_bytes) :
		   mcx_printf(call->x->mcx, "proto: syntax error (line 1:1): %s",
					  split->why));
}

/* With a line of errlist.h, or a code and a text of the gateway's own. */
static void
refuse(GatewayCall *call, ErrCode error, int code, const char *text)
{
	GrpcStatus	status = {code, 200, text};

	cancel_request(call);
	answer_status(call, error == ERR_NONE ? status : status_of_error(error));
}

static void
cancel_request(GatewayCall *call)
{
	Request    *req = call->req;

	call->req = NULL;
	if (req != NULL)
		dispatch_cancel(req);
}

/* ---- from the request to HTTP ---- */

static void
request_finished(Request *req)
{
	GatewayCall *call = req->door;

	Assert(call->req == req);
	call->req = NULL;
	if (req->error != ERR_NONE)
		answer_status(call, status_of_request(req));
	else if (call->rpc->kind == RPC_UNARY)
		answer_message(call, buf_bytes(&req->answer));
	else
	{
		/* a stream may end before its first message */
		if (!call->x->has_begun)
			begin_stream(call);
		exchange_end(call->x);
	}
	request_destroy(req);
}

static void
stream_message(Request *req, Buf *message)
{
	GatewayCall *call = req->door;
	Buf			line;

	buf_init(&line, NULL);
	buf_printf(&line, "{\"result\":");
	if (json_from_wire(call->rpc->response, buf_bytes(message), &line))
	{
		buf_append(&line, "}\n", 2);
		if (!call->x->has_begun)
			begin_stream(call);
		exchange_write(call->x, buf_bytes(&line));
		(void) INJECTION_POINT("gateway-stream-told");
	}
	else
	{
		elog_error("a message of %s could not be told in JSON",
				   call->rpc->method);
		/* not from here: dispatch is on its way */
		call->is_untellable = true;
		call->x->carrier->ops->wake(call->x->carrier);
	}
	buf_free(&line);
	message->len = 0;
}

static size_t
stream_backlog(const Request *req)
{
	GatewayCall *call = req->door;
	HttpCarrier *carrier = call->x->carrier;
	size_t		backlog = carrier->ops->backlog(carrier);

	if (backlog >= REQUEST_BACKLOG_BYTES)
		call->wants_room = true;
	return backlog;
}

static void
stream_ready(Request *req)
{
	GatewayCall *call = req->door;

	call->x->carrier->ops->wake(call->x->carrier);
}

static void
begin_stream(GatewayCall *call)
{
	exchange_add_field(call->x, "grpc-metadata-content-type",
					   BYTES_LITERAL("application/grpc"));
	exchange_begin(call->x, 200, CONTENT_JSON);
}

static void
answer_status(GatewayCall *call, GrpcStatus status)
{
	HttpExchange *x = call->x;
	int			http_status = http_status_of(status.code);
	Buf			out;

	if (status.code == 16)
		exchange_add_field(x, "www-authenticate", bytes_from_cstr(status.text));
	buf_init(&out, x->mcx);
	if (call->rpc->kind == RPC_UNARY)
		put_error(&out, status.code, status.text);
	else
	{
		put_stream_error(&out, http_status, status.code, status.text);
		buf_put_u8(&out, '\n');
	}
	answer(call, http_status, buf_bytes(&out));
}

static void
put_error(Buf *out, int code, const char *text)
{
	buf_printf(out, "{\"error\":");
	json_put_string(out, bytes_from_cstr(text));
	buf_printf(out, ",\"code\":%d,\"message\":", code);
	json_put_string(out, bytes_from_cstr(text));
	buf_put_u8(out, '}');
}

static void
put_stream_error(Buf *out, int http_status, int code, const char *text)
{
	buf_printf(out, "{\"error\":{\"grpc_code\":%d,\"http_code\":%d,\"message\":",
			   code, http_status);
	json_put_string(out, bytes_from_cstr(text));
	buf_printf(out, ",\"http_status\":");
	json_put_string(out, bytes_from_cstr(httptext_reason(http_status)));
	buf_printf(out, ",\"code\":%d}}", code);
}

static void
answer_message(GatewayCall *call, Bytes message)
{
	HttpExchange *x = call->x;
	Buf			out;

	(void) INJECTION_POINT("gateway-before-answer");
	buf_init(&out, NULL);
	if (json_from_wire(call->rpc->response, message, &out))
	{
		exchange_add_field(x, "grpc-metadata-content-type",
						   BYTES_LITERAL("application/grpc"));
		answer(call, 200, buf_bytes(&out));
	}
	else
	{
		elog_error("an answer of %s could not be told in JSON",
				   call->rpc->method);
		refuse(call, ERR_INTERNAL, -1, NULL);
	}
	wipe_and_free(&out);
}

/* all of it, or the last of it */
static void
answer(GatewayCall *call, int http_status, Bytes body)
{
	HttpExchange *x = call->x;

	if (!x->has_begun)
		exchange_answer(x, http_status, CONTENT_JSON, body);
	else
	{
		exchange_write(x, body);
		exchange_end(x);
	}
}

/* ---- small things ---- */

/* etcd-v3-wire.md 9.4 */
static int
http_status_of(int grpc_code)
{
	static const int statuses[] = {
		200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500,
		503, 500, 401
	};

	return grpc_code >= 0 && (size_t) grpc_code < lengthof(statuses) ?
		statuses[grpc_code] : 500;
}

static void
wipe_and_free(Buf *buf)
{
	if (buf->data != NULL)
		secret_wipe(buf->data, buf->len);
	buf_free(buf);
}
