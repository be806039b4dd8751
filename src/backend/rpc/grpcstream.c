/*
 * grpcstream.c
 *	  One call: from its headers and body to a Request, and from its answer to
 *	  frames.
 *
 * How memory is bounded.  A message that fits the first window of a stream
 * (64 kB, HTTP/2's own default) comes without more ado.  For a larger one the
 * window is widened once its length is known, if the reservations of this
 * connection leave room for it, else as soon as they do; a stream that has
 * its window can always finish, so waiting streams cannot lock each other.
 * The window of the whole connection is given back at once for the same
 * reason.  What small messages and headers take before their request runs is
 * added up; a stream that brings it over HELD_MAX_BYTES is refused, and so is
 * one whose message does not arrive in time.  Answers that the client does not
 * read hold new requests back.
 *
 * Clients send what they ask at one time side by side, a piece of each in
 * turn, and shall not be refused for that.  So once there are many streams the
 * first window becomes so small that those of all fit (an honest client's
 * headers are small): the second SETTINGS frame of a connection.  What is sent
 * meanwhile is bounded by the window of the connection.  With the
 * acknowledgement the windows of open streams have shrunk, and what was granted
 * is granted again.  It stays so: such a client has many requests again soon.
 */
#include "server.h"

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"

/* this layer and below */
#include "dispatch/arrival.h"
#include "dispatch/dispatch.h"
#include "rpc/grpcstream.h"
#include "rpc/webstream.h"

/* large messages of one connection at one time, in greatest messages */
#define RESERVED_MESSAGES 4
/* headers and messages of requests that do not run yet, of one connection */
#define HELD_MAX_BYTES (32 * 1024 * 1024)
/* so many streams are many */
#define CROWD_STREAMS 100
/* first windows of all streams of a crowd; buffers are a quarter larger */
#define CROWD_MAX_BYTES (16 * 1024 * 1024)
#define CROWD_WINDOW_MIN_BYTES 1024
/* no new request starts while the client has this much to read */
#define ANSWERS_MAX_BYTES (64 * 1024 * 1024)
/* those that ran already may bring it so far, then the connection ends */
#define ANSWERS_CUT_BYTES (4 * ANSWERS_MAX_BYTES)
/* closed streams kept for reuse, and what one may hold */
#define UNUSED_MAX 64
#define UNUSED_MCX_BYTES 8192

static void request_finished(Request *req);

static const RequestOps request_ops = {
	.finished = request_finished,
	.message = messages_send,
	.backlog = messages_backlog,
	.ready = messages_ready,
};

static void collect_for_web(GrpcStream *stream, Bytes name, Bytes value);
static bool check_head(GrpcStream *stream);
static bool check_call(GrpcStream *stream);
static bool find_rpc(GrpcStream *stream);
static bool take_deadline(GrpcStream *stream);
static void ask_for_window(GrpcStream *stream);
static bool grant_window(GrpcStream *stream);
static void widen_window(GrpcStream *stream);
static void become_crowded(GrpcSession *session);
static void start_if_room(GrpcStream *stream);
static void start(GrpcStream *stream, Bytes message);
static void make_request(GrpcStream *stream);
static void open_bidi(GrpcStream *stream);
static void fill_request(GrpcStream *stream, Request *req);
static void wipe(Bytes secret);
static void cancel(GrpcStream *stream);
static void release_reservation(GrpcStream *stream);
static void answer(GrpcStream *stream);
static ssize_t read_answer(nghttp2_session *h2, int32_t id, uint8_t *out,
						   size_t size, uint32_t *flags,
						   nghttp2_data_source *source, void *arg);
static void drop_answer(GrpcStream *stream);
static bool refuse(GrpcStream *stream, int code, int http_status,
				   const char *text);
static bool refuse_quoting(GrpcStream *stream, int code, int http_status,
						   const char *before, Bytes quoted,
						   const char *after);

GrpcStream *
stream_open(GrpcSession *session, int32_t id)
{
	GrpcStream *stream = session->unused;

	if (stream != NULL)
	{
		session->unused = stream->next;
		session->nunused--;
	}
	else
	{
		stream = xcalloc(1, sizeof(*stream));
		stream->mcx = mcx_create(session->mcx, "stream");
	}
	stream->session = session;
	stream->id = id;
	stream->next = NULL;
	stream->prev = session->last;
	if (session->last != NULL)
		session->last->next = stream;
	else
		session->first = stream;
	session->last = stream;
	session->nstreams++;
	if (session->nstreams > CROWD_STREAMS && !session->is_crowded)
		become_crowded(session);
	return stream;
}

void
stream_header(GrpcStream *stream, Bytes name, Bytes value)
{
	if (stream->session->held_bytes > HELD_MAX_BYTES)
		stream->head.is_too_large = true;
	else
		metadata_add(&stream->head, stream->mcx, name, value);
	if (stream->session->http != NULL && !stream->head.is_too_large)
		collect_for_web(stream, name, value);
	stream_note_held(stream);
}

void
stream_begin(GrpcStream *stream)
{
	GrpcSession *session = stream->session;

	Assert(stream->phase == STREAM_HEADERS);
	stream->phase = STREAM_BODY;
	stream->begun_ms = session->now_ms;
	if (stream->web != NULL && !metadata_is_grpc(stream->head.content_type))
	{
		web_begin(stream);
		return;
	}
	if (!check_head(stream) || !check_call(stream))
		return;
	if (stream_arrive_by_ms(stream) < session->earliest_deadline_ms)
		session->earliest_deadline_ms = stream_arrive_by_ms(stream);
	/* whoever holds a stream open both ways expects an answer before its end */
	if (stream->rpc->kind == RPC_BIDI)
		open_bidi(stream);
}

void
stream_data(GrpcStream *stream, Bytes data)
{
	GrpcFrameResult result;

	if (stream->phase == STREAM_WEB)
		web_data(stream, data);
	if (stream->phase == STREAM_RUNNING && stream->rpc->kind == RPC_BIDI)
		messages_receive(stream, data);
	/* what comes after an early answer is thrown away */
	if (stream->phase != STREAM_BODY)
		return;
	result = grpcframe_feed(&stream->frame, data, arrival_max_bytes());
	stream_note_held(stream);
	if (result != GRPC_FRAME_MORE && result != GRPC_FRAME_COMPLETE)
		stream_refuse_frame(stream, result);
	else if (stream_holds_too_much(stream->session) &&
			 stream->reserved_bytes == 0)
		stream_refuse(stream, status_of_error(ERR_TOO_MANY_REQUESTS));
	else if (result == GRPC_FRAME_MORE)
		ask_for_window(stream);
}

void
stream_end(GrpcStream *stream)
{
	stream->is_half_closed = true;
	if (stream->phase == STREAM_WEB)
		web_end(stream);
	if (stream->phase == STREAM_RUNNING && stream->rpc->kind == RPC_BIDI)
		messages_end(stream);
	if (stream->phase != STREAM_BODY)
		return;
	if (grpcframe_end(&stream->frame) == GRPC_FRAME_COMPLETE)
	{
		/* it may have been sent before the client knew a smaller window */
		stream->wants_window = false;
		stream->phase = STREAM_READY;
		start_if_room(stream);
	}
	else if (stream->frame.prefix_len == 0)
		refuse(stream, GRPC_INTERNAL, 200,
			   "cardinality violation: received no request message from non-client-streaming RPC");
	else
		refuse(stream, GRPC_INTERNAL, 200, "unexpected EOF");
}

void
stream_close(GrpcStream *stream)
{
	GrpcSession *session = stream->session;
	GrpcFrame	frame;
	MemContext *mcx = stream->mcx;

	cancel(stream);
	drop_answer(stream);
	messages_free(stream);
	web_close(stream);
	release_reservation(stream);
	session->held_bytes -= stream->held_bytes;
	stream->held_bytes = 0;
	if (stream->prev != NULL)
		stream->prev->next = stream->next;
	else
		session->first = stream->next;
	if (stream->next != NULL)
		stream->next->prev = stream->prev;
	else
		session->last = stream->prev;
	session->nstreams--;

	wipe(stream->head.token);
	wipe(stream->head.authorization);
	if (session->nunused >= UNUSED_MAX ||
		mcx_total_bytes(mcx) > UNUSED_MCX_BYTES)
	{
		grpcframe_free(&stream->frame);
		mcx_destroy(mcx);
		free(stream);
		return;
	}
	grpcframe_reset(&stream->frame);
	mcx_reset(mcx);
	frame = stream->frame;
	*stream = (GrpcStream) {.mcx = mcx, .frame = frame, .next = session->unused};
	session->unused = stream;
	session->nunused++;
}

void
stream_free_unused(GrpcSession *session)
{
	while (session->unused != NULL)
	{
		GrpcStream *stream = session->unused;

		session->unused = stream->next;
		grpcframe_free(&stream->frame);
		mcx_destroy(stream->mcx);
		free(stream);
	}
	session->nunused = 0;
}

/*
 * Headers and trailers in one frame.  When the client is not through with its
 * body, on_frame_send() in grpc.c resets the stream behind it.
 */
void
stream_refuse(GrpcStream *stream, GrpcStatus status)
{
	GrpcSession *session = stream->session;
	char		http[8];
	char		code[8];
	nghttp2_nv	nv[] = {
		{(uint8_t *) (uintptr_t) ":status", (uint8_t *) http, 7,
		(size_t) snprintf(http, sizeof(http), "%d", status.http_status),
		NGHTTP2_NV_FLAG_NO_COPY_NAME},
		NV_LITERAL("content-type", "application/grpc"),
		{(uint8_t *) (uintptr_t) "grpc-status", (uint8_t *) code, 11,
		(size_t) snprintf(code, sizeof(code), "%d", status.code),
		NGHTTP2_NV_FLAG_NO_COPY_NAME},
		{(uint8_t *) (uintptr_t) "grpc-message", NULL, 12, 0,
		NGHTTP2_NV_FLAG_NO_COPY_NAME},
	};
	Bytes		message = status_encode_message(stream->mcx, status.text);

	Assert(stream->phase != STREAM_ANSWERED);
	cancel(stream);
	stream->phase = STREAM_ANSWERED;
	stream->wants_window = false;
	grpcframe_reset(&stream->frame);
	release_reservation(stream);
	stream_note_held(stream);
	if (stream->has_begun)
	{
		messages_finish(stream, status);
		return;
	}
	nv[3].value = (uint8_t *) (uintptr_t) message.data;
	nv[3].valuelen = message.len;
	stream_submitted(stream, nghttp2_submit_response(session->h2, stream->id, nv,
													 message.len > 0 ? 4 : 3,
													 NULL));
}

void
stream_expire_all(GrpcSession *session)
{
	int64_t		earliest_ms = INT64_MAX;

	if (session->now_ms < session->earliest_deadline_ms)
		return;
	for (GrpcStream *stream = session->first; stream != NULL;
		 stream = stream->next)
	{
		int64_t		arrive_ms = stream_arrive_by_ms(stream);

		if (stream->phase == STREAM_ANSWERED || stream->phase == STREAM_WEB)
			continue;
		if (stream->deadline_ms != 0 &&
			stream->deadline_ms <= session->now_ms)
			stream_refuse(stream, status_of_error(ERR_DEADLINE_EXCEEDED));
		else if (arrive_ms <= session->now_ms)
			stream_refuse(stream, status_of_error(ERR_TIMEOUT));
		else
		{
			if (stream->deadline_ms != 0 && stream->deadline_ms < earliest_ms)
				earliest_ms = stream->deadline_ms;
			if (arrive_ms < earliest_ms)
				earliest_ms = arrive_ms;
		}
	}
	session->earliest_deadline_ms = earliest_ms;
}

void
stream_end_endless(GrpcSession *session)
{
	for (GrpcStream *stream = session->first; stream != NULL;
		 stream = stream->next)
		if (stream->phase != STREAM_ANSWERED && stream->rpc != NULL &&
			(stream->rpc->flags & RPC_FLAG_ENDLESS) != 0)
			stream_refuse(stream, status_of_error(ERR_STOPPED));
}

/*
 * Oldest first.  Starting one may answer it at once, but takes no stream out
 * of the list: only nghttp2 closes streams, and not in here.
 */
void
stream_run_waiting(GrpcSession *session)
{
	while (session->has_room)
	{
		session->has_room = false;
		for (GrpcStream *stream = session->first; stream != NULL;
			 stream = stream->next)
		{
			if (stream->wants_window)
				grant_window(stream);
			else if (stream->phase == STREAM_READY)
				start_if_room(stream);
		}
	}
}

/*
 * What may turn out to be no gRPC call needs all its fields.  Pseudo fields
 * come first, so the path is known when the first of the others comes.
 */
static void
collect_for_web(GrpcStream *stream, Bytes name, Bytes value)
{
	if (name.len > 0 && name.data[0] != ':')
	{
		if (stream->web != NULL)
			web_header(stream, name, value);
	}
	else if (bytes_equal_cstr(name, ":authority"))
		stream->authority = mcx_bytes_dup(stream->mcx, value);
	else if (bytes_equal_cstr(name, ":path") && !web_is_rpc_path(value))
		/* a request without any further field is one, too */
		web_header(stream, BYTES_EMPTY, BYTES_EMPTY);
}

/* ---- checks of the headers; false: refused ---- */

/* what makes it no gRPC call at all (etcd-v3-wire.md section 1) */
static bool
check_head(GrpcStream *stream)
{
	const GrpcHead *head = &stream->head;

	if (head->is_too_large)
		return refuse(stream, GRPC_RESOURCE_EXHAUSTED, 431,
					  "claviger: the headers of the request are too large");
	if (!metadata_is_grpc(head->content_type))
		return refuse_quoting(stream, GRPC_INVALID_ARGUMENT, 415,
							  "invalid gRPC request content-type ",
							  head->content_type, "");
	if (!take_deadline(stream))
		return false;
	if (!bytes_equal_cstr(head->method, "POST"))
		return refuse_quoting(stream, GRPC_INTERNAL, 405,
							  "Received a HEADERS frame with :method ",
							  head->method, " which should be POST");
	return true;
}

static bool
check_call(GrpcStream *stream)
{
	const GrpcHead *head = &stream->head;

	if (stream->session->refuse_with != ERR_NONE)
	{
		stream_refuse(stream, status_of_error(stream->session->refuse_with));
		return false;
	}
	if (!find_rpc(stream))
		return false;
	if (head->encoding.len > 0 && !bytes_equal_cstr(head->encoding, "identity"))
		return refuse_quoting(stream, GRPC_UNIMPLEMENTED, 200,
							  "grpc: Decompressor is not installed for grpc-encoding ",
							  head->encoding, "");
	return true;
}

static bool
find_rpc(GrpcStream *stream)
{
	MemContext *mcx = stream->mcx;
	Bytes		service;
	Bytes		method;
	const char *text;

	if (!metadata_split_path(stream->head.path, &service, &method))
		return refuse_quoting(stream, GRPC_UNIMPLEMENTED, 200,
							  "malformed method name: ", stream->head.path, "");
	stream->rpc = rpc_find(service, method);
	if (stream->rpc != NULL)
		return true;
	if (rpc_service_exists(service))
		text = mcx_printf(mcx, "unknown method %s for service %s",
						  mcx_strndup(mcx, method.data, method.len),
						  mcx_strndup(mcx, service.data, service.len));
	else
		text = mcx_printf(mcx, "unknown service %s",
						  mcx_strndup(mcx, service.data, service.len));
	return refuse(stream, GRPC_UNIMPLEMENTED, 200, text);
}

static bool
take_deadline(GrpcStream *stream)
{
	GrpcSession *session = stream->session;
	int64_t		timeout_ms;
	const char *why;

	if (!stream->head.has_timeout)
		return true;
	if (!metadata_timeout_ms(stream->head.timeout, &timeout_ms, &why))
		return refuse_quoting(stream, GRPC_INTERNAL, 400,
							  mcx_printf(stream->mcx,
										 "malformed grpc-timeout: %s: ", why),
							  stream->head.timeout, "");
	stream->deadline_ms = session->now_ms + timeout_ms;
	if (timeout_ms == 0)
	{
		stream_refuse(stream, status_of_error(ERR_DEADLINE_EXCEEDED));
		return false;
	}
	if (stream->deadline_ms < session->earliest_deadline_ms)
		session->earliest_deadline_ms = stream->deadline_ms;
	return true;
}

/* ---- the message ---- */

uint32_t
stream_crowded_window(uint32_t nstreams)
{
	size_t		share = CROWD_MAX_BYTES / nstreams;

	return (uint32_t) size_min(size_max(share, CROWD_WINDOW_MIN_BYTES),
							   STREAM_WINDOW_BYTES);
}

/* The client shall send less of each stream; he does when he has this. */
static void
become_crowded(GrpcSession *session)
{
	nghttp2_settings_entry entry = {
		NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
		stream_crowded_window((uint32_t) guc_max_concurrent_streams)
	};

	session->is_crowded = true;
	if (nghttp2_submit_settings(session->h2, NGHTTP2_FLAG_NONE, &entry, 1) != 0)
		elog_fatal("nghttp2 does not take our settings");
}

void
stream_settings_acknowledged(GrpcSession *session)
{
	uint32_t	window = nghttp2_session_get_local_settings(
		session->h2, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE);

	if (window == session->stream_window)
		return;
	session->stream_window = window;
	for (GrpcStream *stream = session->first; stream != NULL;
		 stream = stream->next)
	{
		if (stream->phase != STREAM_BODY)
			continue;
		if (stream->reserved_bytes > 0)
			widen_window(stream);
		else
			ask_for_window(stream);
	}
}

bool
stream_holds_too_much(const GrpcSession *session)
{
	return session->held_bytes > HELD_MAX_BYTES;
}

/* The session's sum follows what the stream has taken, or given back. */
void
stream_note_held(GrpcStream *stream)
{
	size_t		held = stream->head.bytes + stream->in.cap +
		web_held_bytes(stream);

	if (stream->reserved_bytes == 0)
		held += stream->frame.cap;
	stream->session->held_bytes += held - stream->held_bytes;
	stream->held_bytes = held;
}

/*
 * When a message must have arrived.  One that waits for us to give it a window
 * has all the time; one that trickles in has not.
 */
int64_t
stream_arrive_by_ms(const GrpcStream *stream)
{
	bool		is_partial = stream->phase == STREAM_RUNNING &&
		stream->rpc->kind == RPC_BIDI && stream->frame.prefix_len > 0;

	if ((stream->phase != STREAM_BODY && !is_partial) || stream->wants_window)
		return INT64_MAX;
	return arrival_due_ms(stream->begun_ms, stream->frame.len);
}

void
stream_refuse_frame(GrpcStream *stream, GrpcFrameResult result)
{
	MemContext *mcx = stream->mcx;

	switch (result)
	{
		case GRPC_FRAME_TOO_LARGE:
			refuse(stream, GRPC_RESOURCE_EXHAUSTED, 200,
				   mcx_printf(mcx, "grpc: received message larger than max (%u vs. %zu)",
							  stream->frame.length, arrival_max_bytes()));
			break;
		case GRPC_FRAME_COMPRESSED:
			refuse(stream, GRPC_INTERNAL, 200,
				   "grpc: compressed flag set with identity or empty encoding");
			break;
		case GRPC_FRAME_BAD_FLAG:
			refuse(stream, GRPC_INTERNAL, 200,
				   mcx_printf(mcx, "grpc: received unexpected payload format %u",
							  stream->frame.prefix[0]));
			break;
		default:
			refuse(stream, GRPC_INTERNAL, 200,
				   "cardinality violation: received multiple request messages for non-client-streaming RPC");
			break;
	}
}

static void
ask_for_window(GrpcStream *stream)
{
	if (stream->wants_window || stream->reserved_bytes > 0 ||
		!grpcframe_has_length(&stream->frame) ||
		stream->frame.length + GRPC_PREFIX_BYTES <=
		stream->session->stream_window)
		return;
	stream->wants_window = !grant_window(stream);
}

static bool
grant_window(GrpcStream *stream)
{
	GrpcSession *session = stream->session;
	size_t		bytes = (size_t) stream->frame.length + GRPC_PREFIX_BYTES;
	size_t		room = RESERVED_MESSAGES *
		(arrival_max_bytes() + GRPC_PREFIX_BYTES);

	if (session->reserved_bytes + bytes > room)
		return false;
	session->reserved_bytes += bytes;
	stream->reserved_bytes = bytes;
	stream->wants_window = false;
	stream->begun_ms = session->now_ms;
	if (stream_arrive_by_ms(stream) < session->earliest_deadline_ms)
		session->earliest_deadline_ms = stream_arrive_by_ms(stream);
	stream_note_held(stream);
	widen_window(stream);
	return true;
}

/* To what is reserved; nothing was ever given back, so that counts from its start. */
static void
widen_window(GrpcStream *stream)
{
	stream_submitted(stream, nghttp2_session_set_local_window_size(
		stream->session->h2, 0, stream->id, (int32_t) stream->reserved_bytes));
}

static void
release_reservation(GrpcStream *stream)
{
	if (stream->reserved_bytes == 0)
		return;
	stream->session->reserved_bytes -= stream->reserved_bytes;
	stream->session->has_room = true;
	stream->reserved_bytes = 0;
}

/* ---- the request ---- */

static void
start_if_room(GrpcStream *stream)
{
	if (stream->session->answer_bytes < ANSWERS_MAX_BYTES)
		start(stream, bytes_make(stream->frame.data, stream->frame.len));
}

static void
start(GrpcStream *stream, Bytes message)
{
	make_request(stream);
	/* the message is decoded in there; nothing of it is needed afterwards */
	dispatch_request(stream->req, message);
	/* passwords */
	if (strcmp(stream->rpc->service, "etcdserverpb.Auth") == 0)
		wipe(bytes_make(stream->frame.data, stream->frame.len));
	grpcframe_reset(&stream->frame);
	stream_note_held(stream);
}

static void
make_request(GrpcStream *stream)
{
	Request    *req = request_create(stream->session->requests_mcx,
									 stream->rpc, &request_ops, stream);

	fill_request(stream, req);
	stream->req = req;
	stream->phase = STREAM_RUNNING;
}

static void
open_bidi(GrpcStream *stream)
{
	make_request(stream);
	dispatch_open(stream->req);
}

static void
fill_request(GrpcStream *stream, Request *req)
{
	metadata_fill_request(&stream->head, stream->session->common_name, req);
	req->deadline_ms = stream->deadline_ms;
}

static void
wipe(Bytes secret)
{
	if (secret.len > 0)
		secret_wipe((void *) (uintptr_t) secret.data, secret.len);
}

static void
cancel(GrpcStream *stream)
{
	if (stream->phase != STREAM_RUNNING)
		return;
	dispatch_cancel(stream->req);
	stream->req = NULL;
	stream->phase = STREAM_BODY;
}

/* ---- the answer ---- */

static void
request_finished(Request *req)
{
	GrpcStream *stream = req->door;
	GrpcSession *session = stream->session;
	GrpcStatus	status = {GRPC_OK, 200, NULL};

	Assert(stream->phase == STREAM_RUNNING && stream->req == req);
	if (req->error != ERR_NONE)
		status = status_of_request(req);
	else if (req->answer.len > INT32_MAX)
		status = (GrpcStatus) {GRPC_RESOURCE_EXHAUSTED, 200,
			mcx_printf(stream->mcx, "grpc: trying to send message larger than max (%zu vs. %d)",
					   req->answer.len, INT32_MAX)};
	if (status.code == GRPC_OK && stream->rpc->kind == RPC_UNARY)
	{
		answer(stream);
		return;
	}
	/* no longer RUNNING: there is nothing to cancel */
	stream->phase = STREAM_BODY;
	stream->req = NULL;
	if (status.code == GRPC_OK)
	{
		stream->phase = STREAM_ANSWERED;
		release_reservation(stream);
		session->has_succeeded = true;
		messages_finish(stream, status);
	}
	else
		stream_refuse(stream, status);
	request_destroy(req);
}

static void
answer(GrpcStream *stream)
{
	static const nghttp2_nv nv[] = {
		NV_LITERAL(":status", "200"),
		NV_LITERAL("content-type", "application/grpc"),
	};
	GrpcSession *session = stream->session;
	nghttp2_data_provider provider = {
		.source.ptr = stream,
		.read_callback = read_answer,
	};

	stream->phase = STREAM_ANSWERED;
	release_reservation(stream);
	session->has_succeeded = true;
	if (session->nanswers++ == 0)
		session->answer_ms = clock_coarse_ms();
	session->answer_bytes += stream->req->answer.len;
	if (session->answer_bytes > ANSWERS_CUT_BYTES)
	{
		elog_info("closing a connection whose client asks and does not read");
		session->is_broken = true;
	}
	grpcframe_write_prefix(stream->prefix,
						   (uint32_t) stream->req->answer.len);
	stream_submitted(stream, nghttp2_submit_response(session->h2, stream->id, nv,
													 lengthof(nv), &provider));
}

/* nghttp2 asks for the next bytes of a DATA frame */
static ssize_t
read_answer(nghttp2_session *h2, int32_t id, uint8_t *out, size_t size,
			uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	static const nghttp2_nv ok[] = {NV_LITERAL("grpc-status", "0")};
	GrpcStream *stream = source->ptr;
	const Buf  *body = &stream->req->answer;
	size_t		n = 0;
	size_t		chunk;

	if (stream->sent < GRPC_PREFIX_BYTES)
	{
		n = size_min(size, GRPC_PREFIX_BYTES - stream->sent);
		memcpy(out, stream->prefix + stream->sent, n);
		stream->sent += n;
	}
	if (stream->sent >= GRPC_PREFIX_BYTES)
	{
		size_t		from = stream->sent - GRPC_PREFIX_BYTES;

		chunk = size_min(size - n, body->len - from);
		if (chunk > 0)
			memcpy(out + n, body->data + from, chunk);
		stream->sent += chunk;
		n += chunk;
	}
	stream->session->answer_ms = clock_coarse_ms();
	if (stream->sent == body->len + GRPC_PREFIX_BYTES)
	{
		*flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
		stream_submitted(stream, nghttp2_submit_trailer(h2, id, ok, lengthof(ok)));
		drop_answer(stream);
	}
	return (ssize_t) n;
}

static void
drop_answer(GrpcStream *stream)
{
	GrpcSession *session = stream->session;

	/* of a stream nothing is left here once it is answered */
	if (stream->phase != STREAM_ANSWERED || stream->req == NULL)
		return;
	if (session->answer_bytes >= ANSWERS_MAX_BYTES)
		session->has_room = true;
	session->answer_bytes -= stream->req->answer.len;
	session->nanswers--;
	request_destroy(stream->req);
	stream->req = NULL;
}

/*
 * nghttp2 refuses a submission only for a stream that is gone or a state we
 * should not be in; nothing more can be said on such a stream.
 */
void
stream_submitted(GrpcStream *stream, int rc)
{
	if (likely(rc == 0))
		return;
	elog_debug("stream %d cannot be answered: %s", stream->id,
			   nghttp2_strerror(rc));
	nghttp2_submit_rst_stream(stream->session->h2, NGHTTP2_FLAG_NONE,
							  stream->id, NGHTTP2_INTERNAL_ERROR);
}

/* always false, so that a check can return it */
static bool
refuse(GrpcStream *stream, int code, int http_status, const char *text)
{
	stream_refuse(stream, (GrpcStatus) {code, http_status, text});
	return false;
}

static bool
refuse_quoting(GrpcStream *stream, int code, int http_status,
			   const char *before, Bytes quoted, const char *after)
{
	return refuse(stream, code, http_status,
				  mcx_printf(stream->mcx, "%s%s%s", before,
							 status_quote(stream->mcx, quoted), after));
}
