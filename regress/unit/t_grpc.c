/*
 * t_grpc.c
 *	  The gRPC door alone: a client of nghttp2 on one side, a double of
 *	  dispatch on the other, memory between.
 */
/* needs: rpc dispatch/metadata dispatch/status */
#include "server.h"

/* system */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* libraries */
#include <nghttp2/nghttp2.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"

/* this layer and below */
#include "rpc/grpc.h"
#include "rpc/grpcstream.h"

#include "grpc_double.h"
#include "http_echo.h"

#define CALLS_MAX 8192
#define ENOUGH_FIELDS 16

/* one call as the client sees it */
typedef struct Call
{
	int32_t		id;
	Buf			out;			/* body to send */
	size_t		sent;
	bool		stays_open;		/* no END_STREAM */
	Buf			in;
	int			http_status;
	int			grpc_status;	/* -1: none yet */
	char		message[512];
	char		content_type[64];
	bool		has_headers;
	int			header_frames;
	bool		is_closed;
	uint32_t	close_code;
} Call;

typedef struct Field
{
	const char *name;
	const char *value;
	size_t		value_len;		/* 0: strlen */
} Field;

static MemContext *mcx;
static GrpcSession *server;
static nghttp2_session *client;
static Call *calls;
static int	ncalls;
static uint32_t goaway_code;
static int	goaways;
static char goaway_text[64];
static int	pings_answered;
static int	pings_seen;
static bool is_over;
static size_t feed_bytes;		/* how much the server gets at a time */
static const HttpHandlerOps *handler;	/* for what is no gRPC call */
static bool is_deaf;			/* the client has seen nothing of the server yet */

/* ---- the client ---- */

static int
client_header(nghttp2_session *h2, const nghttp2_frame *frame,
			  const uint8_t *name, size_t name_len, const uint8_t *value,
			  size_t value_len, uint8_t flags, void *arg)
{
	Call	   *call = nghttp2_session_get_stream_user_data(h2, frame->hd.stream_id);
	char		text[512];

	snprintf(text, sizeof(text), "%.*s", (int) value_len, (const char *) value);
	if (strcmp((const char *) name, ":status") == 0)
		call->http_status = atoi(text);
	else if (strcmp((const char *) name, "grpc-status") == 0)
		call->grpc_status = atoi(text);
	else if (strcmp((const char *) name, "grpc-message") == 0)
		snprintf(call->message, sizeof(call->message), "%s", text);
	else if (strcmp((const char *) name, "content-type") == 0)
		snprintf(call->content_type, sizeof(call->content_type), "%.60s", text);
	return 0;
}

static int
client_data(nghttp2_session *h2, uint8_t flags, int32_t id,
			const uint8_t *data, size_t len, void *arg)
{
	Call	   *call = nghttp2_session_get_stream_user_data(h2, id);

	buf_append(&call->in, data, len);
	return 0;
}

static int
client_frame(nghttp2_session *h2, const nghttp2_frame *frame, void *arg)
{
	Call	   *call;

	switch (frame->hd.type)
	{
		case NGHTTP2_HEADERS:
			call = nghttp2_session_get_stream_user_data(h2, frame->hd.stream_id);
			call->header_frames++;
			break;
		case NGHTTP2_GOAWAY:
			goaways++;
			goaway_code = frame->goaway.error_code;
			snprintf(goaway_text, sizeof(goaway_text), "%.*s",
					 (int) frame->goaway.opaque_data_len,
					 (const char *) frame->goaway.opaque_data);
			break;
		case NGHTTP2_PING:
			if (frame->hd.flags & NGHTTP2_FLAG_ACK)
				pings_answered++;
			else
				pings_seen++;
			break;
		default:
			break;
	}
	return 0;
}

static int
client_close(nghttp2_session *h2, int32_t id, uint32_t code, void *arg)
{
	Call	   *call = nghttp2_session_get_stream_user_data(h2, id);

	if (call != NULL)
	{
		call->is_closed = true;
		call->close_code = code;
	}
	return 0;
}

static ssize_t
client_body(nghttp2_session *h2, int32_t id, uint8_t *out, size_t size,
			uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	Call	   *call = nghttp2_session_get_stream_user_data(h2, id);
	size_t		n = size_min(size, call->out.len - call->sent);

	if (n == 0 && call->stays_open)
		return NGHTTP2_ERR_DEFERRED;
	if (n > 0)
		memcpy(out, call->out.data + call->sent, n);
	call->sent += n;
	if (call->sent == call->out.len && !call->stays_open)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t) n;
}

static void
client_create(uint32_t window)
{
	nghttp2_session_callbacks *cb;
	nghttp2_option *option;
	nghttp2_settings_entry entry = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window};

	nghttp2_session_callbacks_new(&cb);
	nghttp2_session_callbacks_set_on_header_callback(cb, client_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, client_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, client_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, client_close);
	nghttp2_option_new(&option);
	nghttp2_option_set_peer_max_concurrent_streams(option, 5000);
	nghttp2_option_set_max_send_header_block_length(option, 1000000);
	assert_int_equal(nghttp2_session_client_new2(&client, cb, NULL, option), 0);
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(cb);
	nghttp2_submit_settings(client, 0, &entry, window > 0 ? 1 : 0);
}

/* message with its five bytes */
static void
put_message(Buf *out, const void *data, size_t len)
{
	buf_put_u8(out, 0);
	buf_put_u32be(out, (uint32_t) len);
	buf_append(out, data, len);
}

static Call *
call_new(const char *message)
{
	Call	   *call = &calls[ncalls++];

	assert_true(ncalls <= CALLS_MAX);
	*call = (Call) {.grpc_status = -1};
	buf_init(&call->out, mcx);
	buf_init(&call->in, mcx);
	if (message != NULL)
		put_message(&call->out, message, strlen(message));
	return call;
}

/* extra fields override the usual ones of the same name; value NULL: leave out */
static void
call_send(Call *call, const Field *extra, size_t nextra)
{
	static const Field usual[] = {
		{":method", "POST", 0}, {":scheme", "http", 0},
		{":path", "/etcdserverpb.KV/Range", 0}, {":authority", "x", 0},
		{"content-type", "application/grpc", 0}, {"te", "trailers", 0},
	};
	nghttp2_nv	nv[lengthof(usual) + ENOUGH_FIELDS];
	nghttp2_data_provider body = {.read_callback = client_body};
	size_t		n = 0;

	for (size_t i = 0; i < lengthof(usual) + nextra; i++)
	{
		const Field *field = i < lengthof(usual) ? &usual[i] :
			&extra[i - lengthof(usual)];
		bool		is_overridden = false;

		for (size_t j = 0; i < lengthof(usual) && j < nextra; j++)
			is_overridden |= strcmp(extra[j].name, field->name) == 0;
		if (is_overridden || field->value == NULL)
			continue;
		nv[n++] = (nghttp2_nv) {
			(uint8_t *) (uintptr_t) field->name,
				(uint8_t *) (uintptr_t) field->value, strlen(field->name),
				field->value_len > 0 ? field->value_len : strlen(field->value), 0
		};
	}
	/* pseudo fields must come first */
	for (size_t i = 1; i < n; i++)
		for (size_t j = i; j > 0 && nv[j].name[0] == ':' &&
			 nv[j - 1].name[0] != ':'; j--)
		{
			nghttp2_nv	swap = nv[j];

			nv[j] = nv[j - 1];
			nv[j - 1] = swap;
		}
	call->id = nghttp2_submit_request(client, NULL, nv, n, &body, call);
	assert_true(call->id > 0);
}

/* n calls, each with this message */
static void
send_messages(int n, const uint8_t *message, size_t size)
{
	for (int i = 0; i < n; i++)
	{
		Call	   *call = call_new(NULL);

		put_message(&call->out, message, size);
		call_send(call, NULL, 0);
	}
}

/* bytes both ways until nothing moves */
static bool
server_to_client(void)
{
	Bytes		out = grpc_session_pull(server);

	if (out.len == 0)
		return false;
	assert_true(nghttp2_session_mem_recv(client, out.data, out.len) ==
				(ssize_t) out.len);
	return true;
}

static bool
client_to_server(void)
{
	const uint8_t *data;
	ssize_t		n = nghttp2_session_mem_send(client, &data);

	if (n <= 0)
		return false;
	for (size_t done = 0; done < (size_t) n && !is_over;)
	{
		size_t		chunk = size_min(feed_bytes, (size_t) n - done);

		is_over = !grpc_session_receive(server, bytes_make(data + done, chunk));
		done += chunk;
	}
	return true;
}

static void
pump(void)
{
	bool		moved;

	do
	{
		moved = client_to_server();
		moved |= server_to_client();
	} while (moved);
}

/*
 * What the server has to say, without the client, who may have ended the
 * connection himself over what a test did in his name.
 */
static void
read_goaway(void)
{
	Buf			all;
	Bytes		out;

	buf_init(&all, mcx);
	while ((out = grpc_session_pull(server)).len > 0)
		buf_append(&all, out.data, out.len);
	for (size_t at = 0; at + 9 <= all.len;)
	{
		const uint8_t *p = all.data + at;
		size_t		len = (size_t) p[0] << 16 | (size_t) p[1] << 8 | p[2];

		if (p[3] == NGHTTP2_GOAWAY)
		{
			goaways++;
			goaway_code = p[16];
			snprintf(goaway_text, sizeof(goaway_text), "%.*s",
					 (int) len - 8, (const char *) p + 17);
		}
		at += 9 + len;
	}
}

static Call *
call_simple(const char *message, const Field *extra, size_t nextra)
{
	Call	   *call = call_new(message);

	call_send(call, extra, nextra);
	pump();
	return call;
}

static void
assert_status(const Call *call, int http_status, int grpc_status,
			  const char *message)
{
	assert_int_equal(call->http_status, http_status);
	assert_int_equal(call->grpc_status, grpc_status);
	assert_string_equal(call->message, message);
	assert_string_equal(call->content_type, "application/grpc");
	assert_true(call->is_closed);
	assert_int_equal(call->close_code, NGHTTP2_NO_ERROR);
}

static void
assert_trailers_only(const Call *call, int http_status, int grpc_status,
					 const char *message)
{
	assert_status(call, http_status, grpc_status, message);
	assert_int_equal(call->header_frames, 1);
	assert_int_equal(call->in.len, 0);
}

static void
assert_answer(const Call *call, const char *message)
{
	assert_status(call, 200, 0, "");
	assert_int_equal(call->header_frames, 2);
	assert_int_equal(call->in.len, 5 + strlen(message));
	assert_memory_equal(call->in.data + 5, message, strlen(message));
	assert_int_equal(call->in.data[0], 0);
	assert_int_equal(call->in.data[4], strlen(message) & 0xff);
}

static void
open_session(ErrCode refuse_with, uint32_t window)
{
	GrpcOptions options = {
		.common_name = BYTES_LITERAL("alice"),
		.refuse_with = refuse_with,
		.http = handler,
	};

	memset(&handled, 0, sizeof(handled));
	memset(&doubled, 0, sizeof(doubled));
	ncalls = goaways = pings_answered = pings_seen = 0;
	goaway_code = 0;
	goaway_text[0] = '\0';
	is_over = false;
	feed_bytes = SIZE_MAX;
	mcx = mcx_create(NULL, "test");
	server = grpc_session_create(mcx, &options);
	client_create(window);
	if (!is_deaf)
		pump();
}

static int
setup(void **state)
{
	elog_set_level(LOG_LEVEL_ERROR);
	calls = xcalloc(CALLS_MAX, sizeof(*calls));
	open_session(ERR_NONE, 0);
	return 0;
}

static int
teardown(void **state)
{
	nghttp2_session_del(client);
	if (server != NULL)
		grpc_session_destroy(server);
	assert_int_equal(doubled.alive, 0);
	mcx_destroy(mcx);
	free(calls);
	return 0;
}

static void
reopen(ErrCode refuse_with, uint32_t window)
{
	nghttp2_session_del(client);
	grpc_session_destroy(server);
	mcx_destroy(mcx);
	open_session(refuse_with, window);
}

/* ---- good calls ---- */

static void
test_unary(void **state)
{
	assert_answer(call_simple("Ehello", NULL, 0), "Ehello");
	assert_answer(call_simple("E", NULL, 0), "E");
	/* an empty answer is a message too */
	assert_answer(call_simple("x", NULL, 0), "");
	assert_answer(call_simple("", NULL, 0), "");
	assert_int_equal(doubled.dispatched, 4);
	assert_int_equal(grpc_session_streams(server), 0);
	assert_false(grpc_session_is_over(server));
}

static void
test_byte_by_byte(void **state)
{
	feed_bytes = 1;
	assert_answer(call_simple("Ebyte by byte", NULL, 0), "Ebyte by byte");
	assert_answer(call_simple("Eagain", NULL, 0), "Eagain");
}

static void
test_one_write(void **state)
{
	Call	   *call = call_new("Ehello");
	Bytes		out;

	call_send(call, NULL, 0);
	while (client_to_server())
		;
	out = grpc_session_pull(server);
	assert_true(nghttp2_session_mem_recv(client, out.data, out.len) > 0);
	/* headers, message and trailers came in one piece */
	assert_answer(call, "Ehello");
	assert_false(grpc_session_wants_output(server));
}

static void
test_metadata(void **state)
{
	const Field fields[] = {
		{"token", "Bearer Bearer abc", 0}, {"token", "second", 0},
		{"authorization", "other", 0}, {"hasleader", "true", 0},
		{"client-api-version", "3.5", 0}, {"grpc-timeout", "5S", 0},
	};
	int64_t		now_ms = clock_coarse_ms();

	assert_answer(call_simple("Ex", fields, lengthof(fields)), "Ex");
	assert_true(doubled.has_token);
	assert_string_equal(doubled.token, "Bearer abc");
	assert_string_equal(doubled.common_name, "alice");
	assert_string_equal(doubled.api_version, "3.5");
	assert_true(doubled.require_leader);
	assert_in_range(doubled.deadline_ms, now_ms + 4900, now_ms + 6000);

	call_simple("Ex", NULL, 0);
	assert_false(doubled.has_token);
	assert_false(doubled.require_leader);
	assert_int_equal(doubled.deadline_ms, 0);
	assert_string_equal(doubled.common_name, "alice");
}

static void
test_token_forms(void **state)
{
	const Field authorization[] = {{"authorization", "Bearer t1", 0}};
	const Field empty[] = {{"token", "", 0}, {"authorization", "t2", 0}};
	const Field lower[] = {{"token", "bearer t3", 0}};
	const Field only[] = {{"token", "Bearer ", 0}};
	const Field blank[] = {{"token", " t4", 0}};

	call_simple("Ex", authorization, 1);
	assert_string_equal(doubled.token, "t1");
	call_simple("Ex", empty, 2);
	assert_true(doubled.has_token);
	assert_string_equal(doubled.token, "");
	call_simple("Ex", lower, 1);
	assert_string_equal(doubled.token, "bearer t3");
	call_simple("Ex", only, 1);
	assert_true(doubled.has_token);
	assert_string_equal(doubled.token, "");
	/* not trimmed into something valid, and not lost either */
	call_simple("Ex", blank, 1);
	assert_true(doubled.has_token);
	assert_string_equal(doubled.token, " t4");
}

/* a token that HTTP forbids must not leave the certificate's name standing */
static void
test_invalid_token(void **state)
{
	const Field bad[] = {{"token", "a\x01" "b", 3}};
	Call	   *call = call_simple("Ex", bad, 1);

	assert_int_equal(doubled.dispatched, 0);
	assert_true(call->is_closed);
	assert_int_equal(call->close_code, NGHTTP2_PROTOCOL_ERROR);
	assert_answer(call_simple("Eok", NULL, 0), "Eok");
}

/* what RFC 9113 forbids ends the stream, and that stream only */
static void
test_malformed_head(void **state)
{
	static const Field bad[] = {
		{"connection", "close", 0},
		{"transfer-encoding", "chunked", 0},
		{"te", "gzip", 0},
		{":late", "x", 0},
		{"content-length", "1x", 0},
		{"content-length", "4", 0},
		{"content-length", "", 0},
		{":path", "", 0},
		{":path", "etcdserverpb.KV/Range", 0},
		{":method", "P ST", 0},
		{":scheme", NULL, 0},
		{":method", NULL, 0},
		{":path", NULL, 0},
	};

	for (size_t i = 0; i < lengthof(bad); i++)
	{
		Call	   *call = call_simple("Ex", &bad[i], 1);

		assert_int_equal(doubled.dispatched, 0);
		assert_true(call->is_closed);
		assert_int_equal(call->close_code, NGHTTP2_PROTOCOL_ERROR);
		assert_answer(call_simple("Eok", NULL, 0), "Eok");
		doubled.dispatched = 0;
	}
}

static bool
takes(HeadCheck *check, const char *name, const char *value)
{
	return headcheck_field(check, bytes_make(name, strlen(name)),
						   bytes_make(value, strlen(value)));
}

/* what nghttp2 as a client does not send */
static void
test_head_fields(void **state)
{
	HeadCheck	check = {0};

	assert_false(takes(&check, "Token", "t"));
	assert_false(takes(&check, "", "t"));
	assert_false(takes(&check, "token", "a\nb"));
	assert_true(takes(&check, ":method", "POST"));
	assert_false(takes(&check, ":method", "POST"));
	assert_true(takes(&check, ":authority", "https://[::1]:2379"));
	assert_false(takes(&check, ":authority", "x"));
	assert_true(takes(&check, "content-length", "3"));
	assert_false(takes(&check, "content-length", "3"));
	assert_false(takes(&check, ":path", "/"));
	assert_false(headcheck_complete(&check));
	assert_true(headcheck_data(&check, 2));
	assert_false(headcheck_end(&check));
	assert_true(headcheck_data(&check, 1));
	assert_true(headcheck_end(&check));
	assert_false(headcheck_data(&check, 1));
}

/* etcdctl sends its endpoint as it was given */
static void
test_authority_is_url(void **state)
{
	const Field url[] = {{":authority", "http://127.0.0.1:2379", 0}};

	assert_answer(call_simple("Eok", url, 1), "Eok");
}

static void
test_gateway_hides_name(void **state)
{
	const Field fields[] = {{"grpcgateway-accept", "*/*", 0}};

	call_simple("Ex", fields, 1);
	assert_int_equal(doubled.dispatched, 1);
	assert_string_equal(doubled.common_name, "");
}

/* ---- refusals ---- */

static void
test_head_errors(void **state)
{
	static const struct
	{
		Field		field;
		int			http_status;
		int			grpc_status;
		const char *message;
	}			rows[] = {
		{{":path", "/no.Such/Range", 0}, 200, 12, "unknown service no.Such"},
		{{":path", "/etcdserverpb.KV/Rang", 0}, 200, 12,
		"unknown method Rang for service etcdserverpb.KV"},
		{{":path", "/etcdserverpb.KV/Range/x", 0}, 200, 12,
		"unknown service etcdserverpb.KV/Range"},
		{{":path", "/etcdserverpb.KV", 0}, 200, 12,
		"malformed method name: \"/etcdserverpb.KV\""},
		{{":path", "/", 0}, 200, 12, "malformed method name: \"/\""},
		{{"content-type", "application/json", 0}, 415, 3,
		"invalid gRPC request content-type \"application/json\""},
		{{"content-type", "application/grpcx", 0}, 415, 3,
		"invalid gRPC request content-type \"application/grpcx\""},
		{{"content-type", NULL, 0}, 415, 3,
		"invalid gRPC request content-type \"\""},
		{{":method", "GET", 0}, 405, 13,
		"Received a HEADERS frame with :method \"GET\" which should be POST"},
		{{"grpc-encoding", "gzip", 0}, 200, 12,
		"grpc: Decompressor is not installed for grpc-encoding \"gzip\""},
		{{"grpc-timeout", "5", 0}, 400, 13,
		"malformed grpc-timeout: transport: timeout string is too short: \"5\""},
		{{"grpc-timeout", "123456789S", 0}, 400, 13,
		"malformed grpc-timeout: transport: timeout string is too long: \"123456789S\""},
		{{"grpc-timeout", "5x", 0}, 400, 13,
		"malformed grpc-timeout: transport: timeout unit is not recognized: \"5x\""},
		{{"grpc-timeout", "0n", 0}, 200, 4, "context deadline exceeded"},
	};

	for (size_t i = 0; i < lengthof(rows); i++)
		assert_trailers_only(call_simple("Ex", &rows[i].field, 1),
							 rows[i].http_status, rows[i].grpc_status,
							 rows[i].message);
	assert_int_equal(doubled.dispatched, 0);
	assert_int_equal(goaways, 0);
}

static void
test_accepted_heads(void **state)
{
	const Field rows[] = {
		{"content-type", "application/grpc+proto", 0},
		{"content-type", "application/grpc;x=y", 0},
		{"grpc-encoding", "identity", 0},
		{"grpc-timeout", "99999999H", 0},
		{"grpc-timeout", "10000000u", 0},
	};

	for (size_t i = 0; i < lengthof(rows); i++)
		assert_answer(call_simple("Ex", &rows[i], 1), "Ex");
}

static void
test_request_errors(void **state)
{
	assert_trailers_only(call_simple("D", NULL, 0), 200, 7,
						 "etcdserver: permission denied");
	/* percent encoding of %, bytes over 0x7e and controls */
	assert_trailers_only(call_simple("T", NULL, 0), 200, 9,
						 "100%25 \"f%C3%BCr\"%0A");
}

static Call *
call_raw(const void *body, size_t len)
{
	Call	   *call = call_new(NULL);

	buf_append(&call->out, body, len);
	call_send(call, NULL, 0);
	pump();
	return call;
}

static void
test_body_errors(void **state)
{
	char		text[128];

	assert_trailers_only(call_raw("\0\0\0\0\5Eabc", 9), 200, 13, "unexpected EOF");
	assert_trailers_only(call_raw("\0\0\0", 3), 200, 13, "unexpected EOF");
	assert_trailers_only(call_raw("", 0), 200, 13,
						 "cardinality violation: received no request message from non-client-streaming RPC");
	assert_trailers_only(call_raw("\0\0\0\0\1E\0\0\0\0\1E", 12), 200, 13,
						 "cardinality violation: received multiple request messages for non-client-streaming RPC");
	assert_trailers_only(call_raw("\1\0\0\0\1E", 6), 200, 13,
						 "grpc: compressed flag set with identity or empty encoding");
	assert_trailers_only(call_raw("\2\0\0\0\1E", 6), 200, 13,
						 "grpc: received unexpected payload format 2");
	snprintf(text, sizeof(text),
			 "grpc: received message larger than max (4294967295 vs. %d)",
			 1572864 + 512 * 1024);
	assert_trailers_only(call_raw("\0\xff\xff\xff\xff", 5), 200, 8, text);
	assert_int_equal(doubled.dispatched, 0);
	assert_answer(call_simple("Eok", NULL, 0), "Eok");
}

/* announcing much takes no memory */
static void
test_memory_follows_bytes(void **state)
{
	Call	   *call = call_new(NULL);

	call->stays_open = true;
	buf_append(&call->out, "\0\0\x1f\0\0E", 6);
	call_send(call, NULL, 0);
	pump();
	assert_non_null(server->first);
	assert_int_equal(server->first->frame.length, 0x1f0000);
	assert_true(server->first->frame.cap <= 4096);
}

static void
test_limit_is_exact(void **state)
{
	size_t		limit = 1572864 + 512 * 1024;
	uint8_t    *message = xcalloc(1, limit + 1);

	for (size_t over = 0; over < 2; over++)
	{
		Call	   *call = call_new(NULL);

		put_message(&call->out, message, limit + over);
		call_send(call, NULL, 0);
		pump();
		assert_int_equal(call->grpc_status, over == 0 ? 0 : 8);
	}
	assert_int_equal(doubled.dispatched, 1);
	assert_int_equal(doubled.message_len, limit);
	free(message);
}

static void
test_large_headers(void **state)
{
	char	   *value = xmalloc(30001);
	Field		fields[3];
	Call	   *call;

	memset(value, 'x', 30000);
	value[30000] = '\0';
	for (int i = 0; i < 3; i++)
		fields[i] = (Field) {"junk", value, 0};
	call = call_new("Ex");
	call_send(call, fields, 3);
	pump();
	assert_status(call, 431, 8,
				  "claviger: the headers of the request are too large");
	/* two of them fit */
	assert_answer(call_simple("Ey", fields, 2), "Ey");
	free(value);
}

/* answered when the headers are there, the client's side still open */
static void
test_bidi_unimplemented(void **state)
{
	const Field fields[] = {{":path", "/etcdserverpb.Watch/Watch", 0}};
	Call	   *call = call_new(NULL);

	call->stays_open = true;
	call_send(call, fields, 1);
	pump();
	assert_trailers_only(call, 200, 12,
						 "unknown method Watch for service etcdserverpb.Watch");
	assert_int_equal(grpc_session_streams(server), 0);
}

/* an error before the body is through resets the stream without an error */
static void
test_early_refusal(void **state)
{
	const Field fields[] = {{":path", "/no.Such/Range", 0}};
	Call	   *call = call_new("Ex");

	call->stays_open = true;
	call_send(call, fields, 1);
	pump();
	assert_trailers_only(call, 200, 12, "unknown service no.Such");
	assert_int_equal(grpc_session_streams(server), 0);
}

static void
test_refuse_all(void **state)
{
	reopen(ERR_TOO_MANY_CONNECTIONS, 0);
	assert_trailers_only(call_simple("Ex", NULL, 0), 200, 8,
						 "claviger: too many connections");
	assert_int_equal(doubled.dispatched, 0);
}

/* ---- time and cancelling ---- */

static void
test_deadline(void **state)
{
	const Field fields[] = {{"grpc-timeout", "60S", 0}};
	int64_t		begun_ms = clock_coarse_ms();
	Call	   *call = call_simple("Pwait", fields, 1);
	Call	   *other = call_simple("Pother", NULL, 0);
	int64_t		due_ms = grpc_session_next_timer_ms(server);
	int64_t		now_ms = clock_coarse_ms();

	assert_int_equal(doubled.npending, 2);
	assert_in_range(due_ms, begun_ms + 60000, now_ms + 60000);
	grpc_session_on_timer(server, due_ms - 1);
	pump();
	assert_false(call->is_closed);
	grpc_session_on_timer(server, due_ms);
	pump();
	assert_trailers_only(call, 200, 4, "context deadline exceeded");
	assert_int_equal(doubled.cancelled, 1);
	assert_int_equal(doubled.npending, 1);
	double_finish(doubled.pending[0]);
	pump();
	assert_answer(other, "Pother");
	/* what is left is keepalive */
	assert_true(grpc_session_next_timer_ms(server) > due_ms);
}

/* the deadline also ends a body that does not come */
static void
test_deadline_in_body(void **state)
{
	const Field fields[] = {{"grpc-timeout", "1S", 0}};
	Call	   *call = call_new(NULL);

	call->stays_open = true;
	buf_append(&call->out, "\0\0\0\0\5Ea", 7);
	call_send(call, fields, 1);
	pump();
	grpc_session_on_timer(server, clock_coarse_ms() + 1001);
	pump();
	assert_trailers_only(call, 200, 4, "context deadline exceeded");
	assert_int_equal(doubled.dispatched, 0);
}

static void
test_cancel(void **state)
{
	Call	   *call = call_simple("Pwait", NULL, 0);

	assert_int_equal(doubled.npending, 1);
	nghttp2_submit_rst_stream(client, 0, call->id, NGHTTP2_CANCEL);
	pump();
	assert_int_equal(doubled.cancelled, 1);
	assert_int_equal(doubled.npending, 0);
	assert_int_equal(grpc_session_streams(server), 0);
	assert_answer(call_simple("Ex", NULL, 0), "Ex");
}

static void
test_destroy_cancels(void **state)
{
	call_simple("Pone", NULL, 0);
	call_simple("Ptwo", NULL, 0);
	grpc_session_destroy(server);
	server = NULL;
	assert_int_equal(doubled.cancelled, 2);
	assert_int_equal(doubled.alive, 0);
}

static void
test_keepalive(void **state)
{
	int64_t		due_ms = grpc_session_next_timer_ms(server);

	assert_in_range(due_ms, clock_coarse_ms() + 7190000,
					clock_coarse_ms() + 7200000);
	grpc_session_on_timer(server, due_ms);
	server_to_client();
	assert_int_equal(pings_seen, 1);
	/* answered */
	pump();
	assert_false(grpc_session_is_over(server));
	assert_true(grpc_session_next_timer_ms(server) < due_ms + 1000);

	/* not answered */
	due_ms = grpc_session_next_timer_ms(server);
	grpc_session_on_timer(server, due_ms);
	server_to_client();
	assert_int_equal(grpc_session_next_timer_ms(server), due_ms + 20000);
	grpc_session_on_timer(server, due_ms + 19999);
	assert_false(grpc_session_is_over(server));
	grpc_session_on_timer(server, due_ms + 20000);
	assert_true(grpc_session_is_over(server));
}

static void
test_shutdown(void **state)
{
	Call	   *running = call_simple("Prun", NULL, 0);

	grpc_session_shutdown(server);
	assert_true(server_to_client());
	assert_int_equal(goaways, 1);
	/* the client has not answered the ping yet: what he sent is served */
	assert_false(server->has_final_goaway);
	pump();
	assert_int_equal(goaways, 2);
	assert_int_equal(goaway_code, NGHTTP2_NO_ERROR);
	assert_false(grpc_session_is_over(server));
	double_finish(doubled.pending[0]);
	pump();
	assert_answer(running, "Prun");
	assert_true(grpc_session_is_over(server));
}

static void
test_shutdown_without_ack(void **state)
{
	grpc_session_shutdown(server);
	read_goaway();
	assert_false(grpc_session_is_over(server));
	goaways = 0;
	grpc_session_on_timer(server, grpc_session_next_timer_ms(server));
	read_goaway();
	assert_int_equal(goaways, 1);
	assert_int_equal(goaway_code, NGHTTP2_NO_ERROR);
	assert_true(grpc_session_is_over(server));
}

/* what the GOAWAY does not name must not be done: the client does it again */
static void
test_shutdown_races_request(void **state)
{
	grpc_session_shutdown(server);
	grpc_session_on_timer(server, grpc_session_next_timer_ms(server));
	assert_true(server->has_final_goaway);
	call_send(call_new("Prun"), NULL, 0);
	assert_true(client_to_server());
	assert_int_equal(grpc_session_streams(server), 0);
	read_goaway();
	assert_true(grpc_session_is_over(server));
}

/* ---- floods ---- */

static void
assert_sent_away(const char *text)
{
	assert_true(is_over);
	read_goaway();
	assert_int_equal(goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);
	assert_string_equal(goaway_text, text);
	assert_true(grpc_session_is_over(server));
	assert_false(grpc_session_wants_output(server));
}

static void
test_ping_strikes(void **state)
{
	/* the first is free, two strikes are forgiven */
	for (int i = 0; i < 3; i++)
	{
		nghttp2_submit_ping(client, 0, NULL);
		pump();
	}
	assert_int_equal(pings_answered, 3);
	assert_false(is_over);
	nghttp2_submit_ping(client, 0, NULL);
	pump();
	assert_sent_away("too_many_pings");
}

/* a client that gets answers may ping for each of them (gRPC measures so) */
static void
test_ping_with_answers(void **state)
{
	for (int i = 0; i < 2000; i++)
	{
		ncalls = 0;
		nghttp2_submit_ping(client, 0, NULL);
		assert_answer(call_simple("Ex", NULL, 0), "Ex");
	}
	assert_false(is_over);
	assert_int_equal(pings_answered, 2000);
}

static void
test_ping_interval_with_stream(void **state)
{
	guc_grpc_keepalive_min_time = 0;
	call_simple("Pwait", NULL, 0);
	for (int i = 0; i < 20; i++)
	{
		nghttp2_submit_ping(client, 0, NULL);
		pump();
	}
	assert_int_equal(pings_answered, 20);
	guc_grpc_keepalive_min_time = 5000;
}

static void
test_rapid_reset(void **state)
{
	int			i;

	for (i = 0; i < 8000 && !is_over; i++)
	{
		Call	   *call = call_new("Pwait");

		call_send(call, NULL, 0);
		while (client_to_server())
			;
		nghttp2_submit_rst_stream(client, 0, call->id, NGHTTP2_CANCEL);
		while (client_to_server())
			;
	}
	assert_in_range(i, 4000, 7000);
	assert_sent_away("too_many_frames");
	assert_true(doubled.npending <= 1);
}

/* n times the same frame, straight into the server */
static void
flood(const void *frame, size_t len, int n)
{
	for (int i = 0; i < n && !is_over; i++)
		is_over = !grpc_session_receive(server, bytes_make(frame, len));
}

static void
test_settings_flood(void **state)
{
	flood("\0\0\0\4\0\0\0\0\0", 9, 1000);
	assert_sent_away("too_many_frames");
}

static void
test_empty_data_flood(void **state)
{
	Call	   *call = call_new(NULL);

	call->stays_open = true;
	call_send(call, NULL, 0);
	pump();
	flood("\0\0\0\0\0\0\0\0\1", 9, 1000);
	assert_sent_away("too_many_frames");
}

static void
test_padding_flood(void **state)
{
	Call	   *call = call_new(NULL);

	call->stays_open = true;
	call_send(call, NULL, 0);
	pump();
	flood("\0\0\2\0\x8\0\0\0\1\1\0", 11, 1000);
	assert_sent_away("too_many_frames");
}

static void
test_priority_flood(void **state)
{
	flood("\0\0\5\2\0\0\0\0\1\0\0\0\0\0", 14, 2000);
	assert_sent_away("too_many_frames");
}

static void
test_window_update_flood(void **state)
{
	flood("\0\0\4\x8\0\0\0\0\0\0\0\0\1", 13, 20000);
	assert_sent_away("too_many_frames");
}

static void
test_continuation_flood(void **state)
{
	Call	   *call = call_new(NULL);

	call->stays_open = true;
	call_send(call, NULL, 0);
	pump();
	/* HEADERS of stream 3 without END_HEADERS */
	flood("\0\0\0\1\0\0\0\0\3", 9, 1);
	flood("\0\0\0\x9\0\0\0\0\3", 9, 100);
	assert_true(is_over);
}

static void
test_not_http2(void **state)
{
	GrpcSession *other = grpc_session_create(mcx, &(GrpcOptions) {.refuse_with = ERR_NONE});

	assert_false(grpc_session_receive(other, BYTES_LITERAL("GET / HTTP/1.1\r\nHost: x\r\n\r\n")));
	assert_true(grpc_session_is_over(other));
	grpc_session_destroy(other);
}

/* more streams than there are, from one who never reads */
static void
test_unread_refusals(void **state)
{
	guc_max_concurrent_streams = 10;
	is_deaf = true;
	reopen(ERR_NONE, 0);
	for (int i = 0; i < 4000 && !is_over; i++)
	{
		call_send(call_new("Pwait"), NULL, 0);
		while (client_to_server())
			;
	}
	is_deaf = false;
	guc_max_concurrent_streams = 1000;
	assert_int_equal(grpc_session_streams(server), 10);
	assert_int_equal(doubled.dispatched, 10);
	assert_true(is_over);
	assert_in_range(ncalls, 1500, 2100);
	assert_true(grpc_session_is_over(server));
}

/* ---- much ---- */

static void
test_many_streams(void **state)
{
	const int	n = 900;

	for (int i = 0; i < n; i++)
	{
		char		text[16];

		snprintf(text, sizeof(text), "P%d", i);
		call_send(call_new(text), NULL, 0);
	}
	pump();
	assert_int_equal(doubled.npending, n);
	assert_int_equal(grpc_session_streams(server), n);
	while (doubled.npending > 0)
		double_finish(doubled.pending[(doubled.npending * 7) % doubled.npending]);
	pump();
	for (int i = 0; i < n; i++)
	{
		char		text[16];

		snprintf(text, sizeof(text), "P%d", i);
		assert_answer(&calls[i], text);
	}
	assert_int_equal(grpc_session_streams(server), 0);
	assert_true(server->nunused <= 64);
}

static void
assert_pattern(const Call *call, size_t n)
{
	assert_status(call, 200, 0, "");
	assert_int_equal(call->in.len, n + 5);
	for (size_t i = 0; i < n; i++)
		if (call->in.data[5 + i] != (uint8_t) (i * 7 + i / 251))
			fail_msg("byte %zu of the answer is wrong", i);
}

static void
test_large_answer(void **state)
{
	const char	ask[] = "B\x00\xa0\x00\x00";	/* 10 MB */
	Call	   *call;

	/* the client opens his window by a few bytes at a time */
	reopen(ERR_NONE, 1000);
	call = call_new(NULL);
	put_message(&call->out, ask, 5);
	call_send(call, NULL, 0);
	pump();
	assert_pattern(call, 0xa00000);

	reopen(ERR_NONE, 0x7fffffff);
	call = call_new(NULL);
	put_message(&call->out, ask, 5);
	call_send(call, NULL, 0);
	pump();
	assert_pattern(call, 0xa00000);
	/* the output buffer of an idle session is small again */
	assert_true(server->out.cap <= 4096);
	assert_int_equal(server->answer_bytes, 0);
}

/* twenty at once, each as large as may be: all come, memory stays bounded */
static void
test_large_messages(void **state)
{
	const size_t size = 1500000;
	uint8_t    *message = xmalloc(size);
	size_t		most = 0;
	bool		moved;

	for (size_t i = 0; i < size; i++)
		message[i] = (uint8_t) (i % 253);
	message[0] = 'x';
	send_messages(20, message, size);
	do
	{
		moved = client_to_server();
		most = size_max(most, server->reserved_bytes);
		moved |= server_to_client();
	} while (moved);
	assert_true(most > size);
	assert_true(most <= 4 * (1572864 + 512 * 1024 + 5));
	assert_int_equal(doubled.dispatched, 20);
	for (int i = 0; i < 20; i++)
		assert_status(&calls[i], 200, 0, "");
	assert_int_equal(server->reserved_bytes, 0);
	free(message);
}

/* a reservation is held while the request runs, and passed on afterwards */
static void
test_reservation_is_passed_on(void **state)
{
	const size_t size = 2000000;
	uint8_t    *message = xcalloc(1, size);

	message[0] = 'P';
	send_messages(6, message, size);
	pump();
	assert_int_equal(doubled.npending, 4);
	nghttp2_submit_rst_stream(client, 0, calls[5].id, NGHTTP2_CANCEL);
	pump();
	double_finish(doubled.pending[0]);
	pump();
	assert_int_equal(doubled.dispatched, 5);
	while (doubled.npending > 0)
		double_finish(doubled.pending[0]);
	pump();
	for (int i = 0; i < 5; i++)
		assert_status(&calls[i], 200, 0, "");
	assert_true(calls[5].is_closed);
	assert_int_equal(server->reserved_bytes, 0);
	free(message);
}

/* a client that does not read his answers gets no more work done */
static void
test_unread_answers(void **state)
{
	const char	ask[] = "B\x01\x00\x00\x00";	/* 16 MB */
	Call	   *call;

	reopen(ERR_NONE, 10);
	for (int i = 0; i < 8; i++)
	{
		call = call_new(NULL);
		put_message(&call->out, ask, 5);
		call_send(call, NULL, 0);
	}
	while (client_to_server())
		;
	assert_int_equal(doubled.dispatched, 4);
	assert_int_equal(grpc_session_streams(server), 8);
	/* he goes away with four of them, so there is room for the rest */
	for (int i = 0; i < 4; i++)
		nghttp2_submit_rst_stream(client, 0, calls[i].id, NGHTTP2_CANCEL);
	while (client_to_server())
		;
	assert_int_equal(doubled.dispatched, 8);
}

/* ... and not for ever what he has */
static void
test_closed_window(void **state)
{
	const char	ask[] = "B\x00\x00\xff\x00";
	Call	   *call;
	int64_t		now_ms;

	reopen(ERR_NONE, 10);
	call = call_new(NULL);
	put_message(&call->out, ask, 5);
	call_send(call, NULL, 0);
	now_ms = clock_coarse_ms();
	while (client_to_server())
		;
	while (server_to_client())
		;
	assert_true(grpc_session_next_timer_ms(server) <=
				clock_coarse_ms() + guc_client_send_timeout);
	grpc_session_on_timer(server, now_ms + guc_client_send_timeout - 1);
	assert_false(grpc_session_is_over(server));
	grpc_session_on_timer(server, clock_coarse_ms() +
						  guc_client_send_timeout);
	assert_true(grpc_session_is_over(server));
}

/* answers of requests that were running already */
static void
test_unread_answers_of_running(void **state)
{
	const size_t size = 100 * 1024 * 1024;

	for (int i = 0; i < 4; i++)
		call_simple("P", NULL, 0);
	assert_int_equal(doubled.npending, 4);
	for (int n = 0; n < 4; n++)
	{
		Request    *req = doubled.pending[0];

		memset(buf_reserve(&req->answer, size), 'x', size);
		req->answer.len = size;
		double_finish(req);
		assert_int_equal(grpc_session_is_over(server), n >= 2);
	}
}

/* ---- requests that do not come to an end ---- */

static void
open_halves(int n, size_t bytes, const Field *extra, size_t nextra)
{
	for (int i = 0; i < n; i++)
	{
		Call	   *call = call_new(NULL);
		uint8_t		prefix[5];

		call->stays_open = true;
		grpcframe_write_prefix(prefix, (uint32_t) bytes + 1);
		buf_append(&call->out, prefix, sizeof(prefix));
		memset(buf_reserve(&call->out, bytes), 'E', bytes);
		call->out.len += bytes;
		call_send(call, extra, nextra);
	}
	pump();
}

/* as clients send them: a piece of each in turn */
static void
test_side_by_side(void **state)
{
	const size_t size = 60000;
	uint8_t    *message = xcalloc(1, size);
	size_t		most = 0;
	bool		moved;

	message[0] = 'x';
	send_messages(1000, message, size);
	do
	{
		moved = client_to_server();
		most = size_max(most, server->held_bytes + server->reserved_bytes);
		moved |= server_to_client();
	} while (moved);
	for (int i = 0; i < 1000; i++)
		assert_status(&calls[i], 200, 0, "");
	assert_in_range(most, 16 * 1024 * 1024, 34 * 1024 * 1024);
	assert_int_equal(server->held_bytes + server->reserved_bytes, 0);
	free(message);
}

static uint32_t
window_told(void)
{
	return nghttp2_session_get_remote_settings(client,
											   NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE);
}

static void
test_crowded_window(void **state)
{
	assert_int_equal(stream_crowded_window(1), 65535);
	assert_int_equal(stream_crowded_window(250), 65535);
	assert_int_equal(stream_crowded_window(1000), 16777);
	assert_int_equal(stream_crowded_window(16 * 1024), 1024);
	assert_int_equal(stream_crowded_window(UINT32_MAX), 1024);

	open_halves(100, 100, NULL, 0);
	assert_int_equal(window_told(), 65535);
	open_halves(1, 100, NULL, 0);
	assert_int_equal(window_told(), 16777);
	assert_int_equal(server->stream_window, 16777);
}

/* what had a window, or most of it, when the windows shrank comes all the same */
static void
test_crowd_comes(void **state)
{
	const size_t sizes[] = {10, 16000, 17000, 40000, 65530, 70000, 1500000};
	const int	nearly = (int) lengthof(sizes);

	for (int i = 0; i < nearly; i++)
	{
		Call	   *call = call_new(NULL);
		uint8_t		prefix[5];

		/* all but the last 10 bytes */
		call->stays_open = true;
		grpcframe_write_prefix(prefix, (uint32_t) sizes[i]);
		buf_append(&call->out, prefix, sizeof(prefix));
		memset(buf_reserve(&call->out, sizes[i]), 'x', sizes[i]);
		call->out.len += sizes[i] - 10;
		call_send(call, NULL, 0);
	}
	pump();
	open_halves(200, 100, NULL, 0);
	assert_int_equal(server->stream_window, 16777);
	for (int i = 0; i < nearly; i++)
	{
		calls[i].out.len += 10;
		calls[i].stays_open = false;
		nghttp2_session_resume_data(client, calls[i].id);
	}
	pump();
	for (int i = 0; i < nearly; i++)
		assert_status(&calls[i], 200, 0, "");
	assert_int_equal(server->reserved_bytes, 0);
}

static void
test_unfinished_bodies(void **state)
{
	char		token[25001];
	Field		field = {"token", token, 0};
	int			nrefused = 0;

	open_halves(1000, 60000, NULL, 0);
	assert_true(server->held_bytes + server->reserved_bytes <= 34 * 1024 * 1024);
	for (int i = 0; i < 1000; i++)
		assert_false(calls[i].is_closed);
	reopen(ERR_NONE, 0);

	/* large headers besides */
	memset(token, 't', sizeof(token) - 1);
	token[sizeof(token) - 1] = '\0';
	open_halves(1000, 20000, &field, 1);
	assert_in_range(server->held_bytes, 16 * 1024 * 1024, 32 * 1024 * 1024 + 65536);
	for (int i = 0; i < 1000; i++)
	{
		if (!calls[i].is_closed)
			continue;
		assert_trailers_only(&calls[i], 200, 8, "etcdserver: too many requests");
		nrefused++;
	}
	assert_in_range(nrefused, 20, 300);
	/* the connection goes on as soon as there is room */
	for (int i = 0; i < 1000; i++)
		if (!calls[i].is_closed)
			nghttp2_submit_rst_stream(client, 0, calls[i].id, NGHTTP2_CANCEL);
	pump();
	assert_int_equal(server->held_bytes, 0);
	assert_answer(call_simple("Ex", NULL, 0), "Ex");
}

static void
test_unfinished_heads(void **state)
{
	char	   *path = xmalloc(60001);
	Field		field = {"token", path, 0};

	memset(path, 't', 60000);
	path[60000] = '\0';
	for (int i = 0; i < 800; i++)
	{
		Call	   *call = call_new(NULL);

		call->stays_open = true;
		call_send(call, &field, 1);
	}
	pump();
	assert_true(server->held_bytes <= 33 * 1024 * 1024 + 65536);
	assert_true(calls[799].is_closed);
	assert_int_equal(calls[799].http_status, 431);
	assert_false(calls[0].is_closed);
	free(path);
}

static void
test_trickled_body(void **state)
{
	Call	   *call;
	int64_t		now_ms = clock_coarse_ms();

	open_halves(1, 10, NULL, 0);
	call = &calls[0];
	assert_true(grpc_session_next_timer_ms(server) <= now_ms + 61000);
	grpc_session_on_timer(server, now_ms + 59000);
	pump();
	assert_false(call->is_closed);
	grpc_session_on_timer(server, now_ms + 61000);
	pump();
	assert_trailers_only(call, 200, 14, "etcdserver: request timed out");
	assert_int_equal(server->held_bytes, 0);
}

static void
test_has_succeeded(void **state)
{
	assert_false(grpc_session_has_succeeded(server));
	call_simple("D", NULL, 0);
	assert_false(grpc_session_has_succeeded(server));
	call_simple("Ex", NULL, 0);
	assert_true(grpc_session_has_succeeded(server));
}

/* ---- the parts ---- */

static void
test_guard_refills(void **state)
{
	Guard		guard;
	int			n = 0;

	guard_init(&guard, 1000);
	while (guard_count(&guard, GUARD_SETTINGS, 1000))
		n++;
	assert_int_equal(n, 100);
	assert_false(guard_count(&guard, GUARD_SETTINGS, 1999));
	n = 0;
	while (guard_count(&guard, GUARD_SETTINGS, 3000))
		n++;
	assert_int_equal(n, 10);
	/* never beyond the burst */
	n = 0;
	while (guard_count(&guard, GUARD_SETTINGS, 1000000000))
		n++;
	assert_int_equal(n, 100);
}

static void
test_guard_pings(void **state)
{
	Guard		guard;

	/* a client with a stream that keeps to the interval is never struck */
	guard_init(&guard, 0);
	for (int64_t t = 0; t < 1000000; t += 5000)
		assert_true(guard_ping(&guard, t, true, 5000));
	/* without streams the same is too much */
	guard_init(&guard, 0);
	for (int i = 0; i < 3; i++)
		assert_true(guard_ping(&guard, i * 5000, false, 5000));
	assert_false(guard_ping(&guard, 15000, false, 5000));
}

/* ---- streams ---- */

static const Field stream_path[] = {
	{":path", "/etcdserverpb.Lease/LeaseKeepAlive", 0},
};

static Call *
stream_open_call(const Field *extra, size_t nextra)
{
	Field		fields[4] = {stream_path[0]};
	Call	   *call = call_new(NULL);

	for (size_t i = 0; i < nextra; i++)
		fields[i + 1] = extra[i];
	call->stays_open = true;
	call_send(call, fields, nextra + 1);
	pump();
	return call;
}

static void
stream_put(Call *call, const void *data, size_t len)
{
	put_message(&call->out, data, len);
	nghttp2_session_resume_data(client, call->id);
}

static void
stream_say(Call *call, const char *message)
{
	stream_put(call, message, strlen(message));
	pump();
}

static void
stream_half_close(Call *call)
{
	call->stays_open = false;
	nghttp2_session_resume_data(client, call->id);
	pump();
}

/* the client reads what fits his windows, and does not open them again */
static void
say_and_stall(void)
{
	while (client_to_server())
		;
	while (server_to_client())
		;
}

/* how many whole messages have come; each must be sound */
static int
messages_of(const Call *call)
{
	size_t		at = 0;
	int			n = 0;

	while (at + 5 <= call->in.len)
	{
		const uint8_t *p = call->in.data + at;
		size_t		len = (size_t) p[1] << 24 | (size_t) p[2] << 16 |
			(size_t) p[3] << 8 | p[4];

		assert_int_equal(p[0], 0);
		if (at + 5 + len > call->in.len)
			break;
		at += 5 + len;
		n++;
	}
	return n;
}

/* n messages of so many bytes each, as dispatch's double makes them */
static void
stream_ask_many(Call *call, uint8_t n, uint32_t bytes)
{
	uint8_t		ask[6] = {'M', n, (uint8_t) (bytes >> 24),
		(uint8_t) (bytes >> 16), (uint8_t) (bytes >> 8), (uint8_t) bytes};

	stream_put(call, ask, sizeof(ask));
}

static void
test_stream_echo(void **state)
{
	Call	   *call = stream_open_call(NULL, 0);

	assert_int_equal(doubled.opened, 1);
	/* nothing is said before there is something to say */
	assert_int_equal(call->header_frames, 0);
	stream_say(call, "Eone");
	assert_int_equal(call->http_status, 200);
	assert_int_equal(messages_of(call), 1);
	assert_memory_equal(call->in.data + 5, "Eone", 4);
	assert_true(grpc_session_has_succeeded(server));
	stream_say(call, "x");
	stream_say(call, "");
	stream_say(call, "Etwo");
	assert_int_equal(messages_of(call), 2);
	assert_int_equal(doubled.messages, 4);
	assert_false(call->is_closed);
	stream_half_close(call);
	assert_int_equal(doubled.half_closes, 1);
	assert_status(call, 200, 0, "");
	assert_int_equal(call->header_frames, 2);
	/* the connection serves on */
	assert_answer(call_simple("Eok", NULL, 0), "Eok");
}

static void
test_stream_bytewise(void **state)
{
	Call	   *call;

	feed_bytes = 1;
	call = stream_open_call(NULL, 0);
	for (int i = 0; i < 20; i++)
		put_message(&call->out, "Eabc", 4);
	stream_say(call, "E");
	assert_int_equal(messages_of(call), 21);
	stream_half_close(call);
	assert_status(call, 200, 0, "");
}

static void
test_stream_ends_by_itself(void **state)
{
	Call	   *call = stream_open_call(NULL, 0);

	stream_say(call, "Ea");
	stream_say(call, "D");
	assert_status(call, 200, 7, "etcdserver: permission denied");
	assert_int_equal(messages_of(call), 1);
	/* before anything was sent: in one frame */
	call = stream_open_call(NULL, 0);
	stream_say(call, "D");
	assert_trailers_only(call, 200, 7, "etcdserver: permission denied");
	/* and without any message at all */
	call = stream_open_call(NULL, 0);
	stream_say(call, "F");
	assert_status(call, 200, 0, "");
	assert_int_equal(call->header_frames, 2);
	call = stream_open_call(NULL, 0);
	stream_half_close(call);
	assert_status(call, 200, 0, "");
	assert_int_equal(grpc_session_streams(server), 0);
}

static void
test_stream_cut_message(void **state)
{
	Call	   *call = stream_open_call(NULL, 0);

	buf_append(&call->out, "\0\0\0\0\5Eab", 8);
	stream_half_close(call);
	assert_trailers_only(call, 200, 13, "unexpected EOF");
	assert_int_equal(doubled.cancelled, 1);
	call = stream_open_call(NULL, 0);
	stream_say(call, "Ea");
	buf_append(&call->out, "\1\0\0\0\1E", 6);
	stream_half_close(call);
	assert_status(call, 200, 13,
				  "grpc: compressed flag set with identity or empty encoding");
	assert_int_equal(messages_of(call), 1);
}

static void
test_stream_cancel(void **state)
{
	Call	   *call = stream_open_call(NULL, 0);

	stream_say(call, "Ea");
	nghttp2_submit_rst_stream(client, 0, call->id, NGHTTP2_CANCEL);
	pump();
	assert_int_equal(doubled.cancelled, 1);
	assert_int_equal(doubled.alive, 0);
	assert_int_equal(grpc_session_streams(server), 0);
}

static void
test_stream_deadline(void **state)
{
	const Field timeout[] = {{"grpc-timeout", "50m", 0}};
	Call	   *call = stream_open_call(timeout, 1);

	stream_say(call, "Ea");
	assert_true(doubled.deadline_ms > 0);
	assert_true(grpc_session_next_timer_ms(server) <= doubled.deadline_ms);
	grpc_session_on_timer(server, doubled.deadline_ms);
	pump();
	assert_status(call, 200, 4, "context deadline exceeded");
	assert_int_equal(doubled.cancelled, 1);
}

/* a client who does not read: the sender is told, and told again */
static void
test_stream_backlog(void **state)
{
	Call	   *call;

	reopen(ERR_NONE, 1000);
	call = stream_open_call(NULL, 0);
	stream_ask_many(call, 200, 10000);
	say_and_stall();
	assert_int_equal(doubled.writables, 0);
	assert_in_range(server->stream_bytes, REQUEST_BACKLOG_BYTES - 1100,
					REQUEST_BACKLOG_BYTES + 11000);
	assert_in_range(doubled.left, 150, 199);
	/* he does not even get new messages read while he does not read ours */
	stream_put(call, "Ex", 2);
	say_and_stall();
	assert_int_equal(doubled.messages, 1);
}

static void
test_stream_backlog_drains(void **state)
{
	Call	   *call = stream_open_call(NULL, 0);

	stream_ask_many(call, 200, 10000);
	stream_put(call, "Elast", 5);
	pump();
	assert_int_equal(doubled.left, 0);
	assert_true(doubled.writables > 3);
	assert_int_equal(messages_of(call), 201);
	assert_int_equal(server->stream_bytes, 0);
	stream_half_close(call);
	assert_status(call, 200, 0, "");
}

/* messages that come while the handler waits are kept, and closed off */
static void
test_stream_stall(void **state)
{
	Call	   *call = stream_open_call(NULL, 0);
	char		big[30001];

	memset(big, 'E', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	stream_say(call, "S");
	for (int i = 0; i < 10; i++)
		stream_put(call, big, sizeof(big) - 1);
	call->stays_open = false;
	pump();
	assert_int_equal(doubled.messages, 1);
	/* no more than one window lies with us */
	assert_true(call->sent < call->out.len);
	assert_in_range(server->held_bytes, 60000, 200000);
	double_ready();
	assert_int_equal(doubled.readies, 1);
	assert_true(grpc_session_wants_output(server));
	pump();
	assert_int_equal(doubled.messages, 11);
	assert_int_equal(messages_of(call), 10);
	assert_int_equal(doubled.half_closes, 1);
	assert_status(call, 200, 0, "");
}

/* a large message on a stream: the window follows what is taken */
static void
test_stream_large_message(void **state)
{
	Call	   *call = stream_open_call(NULL, 0);
	size_t		size = 1500000;
	char	   *big = xmalloc(size);

	memset(big, 'E', size);
	stream_put(call, big, size);
	pump();
	assert_int_equal(doubled.messages, 1);
	assert_int_equal(call->in.len, size + 5);
	assert_memory_equal(call->in.data + 5, big, size);
	free(big);
	stream_half_close(call);
	assert_status(call, 200, 0, "");
}

/* an error with messages waiting: the one begun is finished, others are not */
static void
test_stream_error_cuts(void **state)
{
	Call	   *call;

	reopen(ERR_NONE, 15000);
	call = stream_open_call(NULL, 0);
	stream_ask_many(call, 20, 10000);
	/* one window of it goes out, which ends within the second message */
	say_and_stall();
	assert_int_equal(messages_of(call), 1);
	assert_int_equal(call->in.len, 15000);
	stream_put(call, "D", 1);
	say_and_stall();
	pump();
	assert_status(call, 200, 7, "etcdserver: permission denied");
	assert_int_equal(messages_of(call), 2);
	assert_int_equal(server->stream_bytes, 0);
}

static void
test_stream_shutdown(void **state)
{
	Call	   *stream = stream_open_call(NULL, 0);
	Call	   *unary = call_simple("Pwait", NULL, 0);

	stream_say(stream, "Ea");
	grpc_session_shutdown(server);
	pump();
	assert_status(stream, 200, 14, "etcdserver: server stopped");
	assert_int_equal(messages_of(stream), 1);
	assert_false(grpc_session_is_over(server));
	/* what will end is waited for */
	double_finish(doubled.pending[0]);
	pump();
	assert_answer(unary, "Pwait");
	assert_true(grpc_session_is_over(server));
}

static void
test_stream_idle_keepalive(void **state)
{
	Call	   *call = stream_open_call(NULL, 0);
	int64_t		now_ms = clock_coarse_ms();

	stream_say(call, "Ea");
	grpc_session_on_timer(server, now_ms + guc_grpc_keepalive_interval + 1000);
	pump();
	assert_int_equal(pings_seen, 1);
	assert_false(call->is_closed);
	stream_say(call, "Eb");
	assert_int_equal(messages_of(call), 2);
}

static void
test_stream_trickle(void **state)
{
	Call	   *call = stream_open_call(NULL, 0);
	int64_t		now_ms = clock_coarse_ms();

	/* an idle stream may wait for ever */
	grpc_session_on_timer(server, now_ms + 10 * 60000);
	pump();
	assert_false(call->is_closed);
	/* half a message may not */
	buf_append(&call->out, "\0\0\0\0\5Eab", 8);
	nghttp2_session_resume_data(client, call->id);
	pump();
	grpc_session_on_timer(server, clock_coarse_ms() + 100000);
	pump();
	assert_trailers_only(call, 200, 14, "etcdserver: request timed out");
}

static void
test_stream_many_stalled(void **state)
{
	Call	   *first = NULL;
	Call	   *last;
	uint8_t		ask[5] = {'B', 0, 0x10, 0, 0};	/* 1 MB */

	reopen(ERR_NONE, 100);
	/* 64 MB may wait; a stream with nothing waiting may still send one */
	for (int i = 0; i < 70; i++)
	{
		Call	   *call = call_new(NULL);

		first = first == NULL ? call : first;
		call->stays_open = true;
		put_message(&call->out, ask, sizeof(ask));
		call_send(call, stream_path, 1);
		say_and_stall();
	}
	assert_int_equal(doubled.messages, 70);
	assert_true(server->stream_bytes > (size_t) 64 * 1024 * 1024);
	stream_put(first, "Ex", 2);
	say_and_stall();
	assert_int_equal(doubled.messages, 70);
	/* they go, and all is as before */
	for (int i = 0; i < 70; i++)
		nghttp2_submit_rst_stream(client, 0, calls[i].id, NGHTTP2_CANCEL);
	pump();
	assert_int_equal(server->stream_bytes, 0);
	assert_false(server->is_short);
	last = stream_open_call(NULL, 0);
	stream_say(last, "Ehere");
	assert_int_equal(messages_of(last), 1);
}

/* ---- what is no gRPC call, for a handler of the caller's ---- */

static int
setup_web(void **state)
{
	handler = &echo;
	return setup(state);
}

static int
teardown_web(void **state)
{
	int			rc = teardown(state);

	handler = NULL;
	assert_int_equal(handled.alive, 0);
	return rc;
}

static Call *
web_call(const char *path, const void *body, size_t len, bool stays_open)
{
	const Field fields[] = {
		{":path", path, 0}, {"content-type", "application/json", 0},
		{"te", NULL, 0}, {"authorization", "secret", 0},
	};
	Call	   *call = call_new(NULL);

	buf_append(&call->out, body, len);
	call->stays_open = stays_open;
	call_send(call, fields, lengthof(fields));
	pump();
	return call;
}

static void
assert_web(const Call *call, int http_status, const void *body, size_t len)
{
	assert_int_equal(call->http_status, http_status);
	assert_int_equal(call->grpc_status, -1);
	assert_int_equal(call->in.len, len);
	if (len > 0)
		assert_memory_equal(call->in.data, body, len);
	assert_true(call->is_closed);
	assert_int_equal(call->close_code, NGHTTP2_NO_ERROR);
}

static void
test_web_echo(void **state)
{
	Call	   *grpc;

	assert_web(web_call("/x?y", "hello", 5, false), 200, "hello", 5);
	assert_web(web_call("/x", "", 0, false), 200, "", 0);
	feed_bytes = 1;
	assert_web(web_call("/x", "hello", 5, false), 200, "hello", 5);
	/* a gRPC call beside it, and one that is neither */
	grpc = call_simple("Ehello", NULL, 0);
	assert_int_equal(grpc->grpc_status, 0);
	grpc = web_call("/etcdserverpb.KV/Range", "x", 1, false);
	assert_int_equal(grpc->http_status, 415);
	assert_int_equal(grpc->grpc_status, 3);
	/* gRPC's content type makes it a call, whatever the path */
	grpc = call_simple("E", &(Field) {":path", "/v3/kv/range", 0}, 1);
	assert_int_equal(grpc->grpc_status, 12);
}

/* more than the window of a stream and of the connection, both ways */
static void
test_web_large(void **state)
{
	size_t		len = 6 * 1024 * 1024;
	uint8_t    *body = mcx_alloc(mcx, len);

	for (size_t i = 0; i < len; i++)
		body[i] = (uint8_t) (i * 13 + i / 255);
	assert_web(web_call("/x", body, len, false), 200, body, len);
}

static void
test_web_early_answer(void **state)
{
	uint8_t    *body = mcx_alloc0(mcx, 20 * 1024 * 1024);
	Call	   *call = web_call("/early", body, 3 * 1024 * 1024, false);

	assert_web(call, 404, "early", 5);
	/* but not for ever */
	call = web_call("/early", body, 20 * 1024 * 1024, false);
	assert_int_equal(call->http_status, 404);
	assert_true(call->is_closed);
	assert_true(call->sent < 10 * 1024 * 1024);
}

static void
test_web_stream(void **state)
{
	Call	   *call = web_call("/stream", "one", 3, true);
	HttpExchange *x = handled.last;

	assert_int_equal(call->http_status, 200);
	assert_int_equal(x->body.len, 3);
	x->carrier->ops->write(x->carrier, BYTES_LITERAL("abc"));
	assert_int_equal(x->carrier->ops->backlog(x->carrier), 3);
	pump();
	assert_int_equal(call->in.len, 3);
	assert_int_equal(x->carrier->ops->backlog(x->carrier), 0);
	assert_true(handled.turns > 0);
	x->carrier->ops->end(x->carrier);
	pump();
	assert_int_equal(call->in.len, 3);
}

static void
test_web_body_waits(void **state)
{
	Call	   *call;

	handled.wants_no_body = true;
	call = web_call("/x", "hello", 5, false);
	assert_int_equal(handled.last->body.len, 0);
	handled.wants_no_body = false;
	handled.last->carrier->ops->wake(handled.last->carrier);
	pump();
	assert_web(call, 200, "hello", 5);
}

static void
test_web_reset_and_abort(void **state)
{
	Call	   *call = web_call("/wait", "", 0, false);

	assert_int_equal(handled.alive, 1);
	nghttp2_submit_rst_stream(client, 0, call->id, NGHTTP2_CANCEL);
	pump();
	assert_int_equal(handled.alive, 0);
	call = web_call("/stream", "", 0, false);
	handled.last->carrier->ops->abort(handled.last->carrier);
	pump();
	assert_true(call->is_closed);
	assert_int_equal(call->close_code, NGHTTP2_INTERNAL_ERROR);
	assert_int_equal(handled.alive, 0);
}

static void
test_web_two_tokens(void **state)
{
	const Field fields[] = {
		{":path", "/x", 0}, {"content-type", NULL, 0},
		{"authorization", "a", 0}, {"authorization", "b", 0},
	};
	Call	   *call = call_simple(NULL, fields, lengthof(fields));

	assert_true(call->is_closed);
	assert_int_equal(call->close_code, NGHTTP2_PROTOCOL_ERROR);
	assert_int_equal(handled.started, 0);
}

static void
test_web_shutdown(void **state)
{
	Call	   *call = web_call("/stream", "", 0, false);

	grpc_session_shutdown(server);
	pump();
	grpc_session_on_timer(server, clock_coarse_ms() + 2000);
	pump();
	assert_web(call, 200, "stopped", 7);
	assert_true(grpc_session_is_over(server));
}

/* a body that trickles, and one that does not come at all */
static void
test_web_slow_body(void **state)
{
	Call	   *call = web_call("/x", "hel", 3, true);
	int64_t		limit_ms = grpc_session_next_timer_ms(server);

	assert_true(limit_ms <= clock_coarse_ms() + 60000);
	grpc_session_on_timer(server, limit_ms);
	pump();
	assert_true(call->is_closed);
	assert_int_equal(handled.alive, 0);
}

int
main(void)
{
#define WEB_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup_web, teardown_web)
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		WEB_TEST(test_web_echo),
		WEB_TEST(test_web_large),
		WEB_TEST(test_web_early_answer),
		WEB_TEST(test_web_stream),
		WEB_TEST(test_web_body_waits),
		WEB_TEST(test_web_reset_and_abort),
		WEB_TEST(test_web_two_tokens),
		WEB_TEST(test_web_shutdown),
		WEB_TEST(test_web_slow_body),
		TEST(test_unary),
		TEST(test_byte_by_byte),
		TEST(test_one_write),
		TEST(test_metadata),
		TEST(test_token_forms),
		TEST(test_invalid_token),
		TEST(test_malformed_head),
		TEST(test_head_fields),
		TEST(test_authority_is_url),
		TEST(test_gateway_hides_name),
		TEST(test_head_errors),
		TEST(test_accepted_heads),
		TEST(test_request_errors),
		TEST(test_body_errors),
		TEST(test_memory_follows_bytes),
		TEST(test_limit_is_exact),
		TEST(test_large_headers),
		TEST(test_bidi_unimplemented),
		TEST(test_early_refusal),
		TEST(test_refuse_all),
		TEST(test_deadline),
		TEST(test_deadline_in_body),
		TEST(test_cancel),
		TEST(test_destroy_cancels),
		TEST(test_keepalive),
		TEST(test_shutdown),
		TEST(test_shutdown_without_ack),
		TEST(test_shutdown_races_request),
		TEST(test_ping_strikes),
		TEST(test_ping_with_answers),
		TEST(test_ping_interval_with_stream),
		TEST(test_rapid_reset),
		TEST(test_settings_flood),
		TEST(test_empty_data_flood),
		TEST(test_padding_flood),
		TEST(test_priority_flood),
		TEST(test_window_update_flood),
		TEST(test_continuation_flood),
		TEST(test_not_http2),
		TEST(test_unread_refusals),
		TEST(test_many_streams),
		TEST(test_large_answer),
		TEST(test_large_messages),
		TEST(test_reservation_is_passed_on),
		TEST(test_unread_answers),
		TEST(test_closed_window),
		TEST(test_unread_answers_of_running),
		TEST(test_side_by_side),
		TEST(test_crowded_window),
		TEST(test_crowd_comes),
		TEST(test_unfinished_bodies),
		TEST(test_unfinished_heads),
		TEST(test_trickled_body),
		TEST(test_has_succeeded),
		TEST(test_guard_refills),
		TEST(test_guard_pings),
		TEST(test_stream_echo),
		TEST(test_stream_bytewise),
		TEST(test_stream_ends_by_itself),
		TEST(test_stream_cut_message),
		TEST(test_stream_cancel),
		TEST(test_stream_deadline),
		TEST(test_stream_backlog),
		TEST(test_stream_backlog_drains),
		TEST(test_stream_stall),
		TEST(test_stream_large_message),
		TEST(test_stream_error_cuts),
		TEST(test_stream_shutdown),
		TEST(test_stream_idle_keepalive),
		TEST(test_stream_trickle),
		TEST(test_stream_many_stalled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
