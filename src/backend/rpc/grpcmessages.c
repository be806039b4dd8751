/*
 * grpcmessages.c
 *	  Calls with many messages: what comes goes to dispatch message by message,
 *	  what dispatch sends waits here for the client's window.
 *
 *	client -- DATA --> frame --> dispatch_message
 *	                    \-> in, while dispatch takes none
 *	client <-- DATA -- out <-- ops->message
 *
 * How memory is bounded.  The window of a bidi stream is given back as its
 * bytes reach the frame; while dispatch takes no message they stay in `in` and
 * the window closes, so `in` holds one window at most.  Frames count as held
 * (GrpcSession.held_bytes), and a message must arrive in time, as for unary
 * calls.  `out` is bounded by dispatch, which stops when messages_backlog()
 * says that there is enough, and told again when half of that is gone; all
 * streams of a connection together have a bound as well.  Above it a stream
 * may send only when it has nothing waiting, so that a stalled stream does not
 * starve the others; and far above it none may.
 *
 * Handlers are called from grpc_session_receive() and grpc_session_pull(), and
 * never from within nghttp2 while it writes: what happens there makes the
 * stream due.
 */
#include "server.h"

/* lib and utils */
#include "utils/elog.h"

/* this layer and below */
#include "dispatch/arrival.h"
#include "dispatch/dispatch.h"
#include "rpc/grpcstream.h"

/* unsent messages of all streams of a connection: none but the first of each */
#define STREAMS_MAX_BYTES ((size_t) 64 * 1024 * 1024)
/* and none at all */
#define STREAMS_CUT_BYTES (4 * STREAMS_MAX_BYTES)
/* an empty buffer larger than this is freed */
#define OUT_KEEP_BYTES 4096
/* sent bytes in front of a buffer are moved over beyond this */
#define OUT_MOVE_BYTES (64 * 1024)

static void begin_answer(GrpcStream *stream);
static void go_on_sending(GrpcStream *stream);
static ssize_t read_messages(nghttp2_session *h2, int32_t id, uint8_t *out,
							 size_t size, uint32_t *flags,
							 nghttp2_data_source *source, void *arg);
static void note_sent(GrpcStream *stream, size_t n);
static size_t unsent(const GrpcStream *stream);
static size_t boundary_at(const GrpcStream *stream, bool after);
static void cut_unbegun(GrpcStream *stream);
static void submit_trailers(GrpcStream *stream);
static void take_input(GrpcStream *stream);
static void feed(GrpcStream *stream, Bytes *data);
static bool is_running(const GrpcStream *stream);
static void make_due(GrpcStream *stream);
static void unlink_due(GrpcStream *stream);
static void wake_short(GrpcSession *session);

/* ---- for dispatch ---- */

void
messages_send(Request *req, Buf *message)
{
	GrpcStream *stream = req->door;
	uint8_t		prefix[GRPC_PREFIX_BYTES];

	grpcframe_write_prefix(prefix, (uint32_t) message->len);
	buf_append(&stream->out, prefix, sizeof(prefix));
	buf_append(&stream->out, message->data, message->len);
	stream->session->stream_bytes += sizeof(prefix) + message->len;
	message->len = 0;
	/* one that is only told that it may not proves nothing */
	if (req->has_right)
		stream->session->has_succeeded = true;
	go_on_sending(stream);
}

size_t
messages_backlog(const Request *req)
{
	GrpcStream *stream = req->door;
	GrpcSession *session = stream->session;
	size_t		backlog = unsent(stream);

	if (session->stream_bytes >= STREAMS_CUT_BYTES ||
		(session->stream_bytes >= STREAMS_MAX_BYTES && backlog > 0))
	{
		session->is_short = true;
		backlog = SIZE_MAX;
	}
	if (backlog >= REQUEST_BACKLOG_BYTES)
		stream->wants_room = true;
	return backlog;
}

void
messages_ready(Request *req)
{
	make_due(req->door);
}

/* ---- for the session ---- */

void
messages_receive(GrpcStream *stream, Bytes data)
{
	if (stream->in_taken == stream->in.len)
		feed(stream, &data);
	if (data.len == 0 || !is_running(stream))
		return;
	buf_append(&stream->in, data.data, data.len);
	stream_note_held(stream);
}

void
messages_end(GrpcStream *stream)
{
	take_input(stream);
}

void
messages_finish(GrpcStream *stream, GrpcStatus status)
{
	stream->end = status;
	if (status.text != NULL)
		stream->end.text = mcx_strdup(stream->mcx, status.text);
	stream->has_end = true;
	buf_free(&stream->in);
	stream->in_taken = 0;
	stream_note_held(stream);
	if (status.code != GRPC_OK)
		cut_unbegun(stream);
	go_on_sending(stream);
}

void
messages_free(GrpcStream *stream)
{
	stream->session->stream_bytes -= unsent(stream);
	wake_short(stream->session);
	buf_free(&stream->in);
	buf_free(&stream->out);
	unlink_due(stream);
}

void
messages_run_due(GrpcSession *session)
{
	while (session->first_due != NULL)
	{
		GrpcStream *stream = session->first_due;

		unlink_due(stream);
		if (!is_running(stream))
			continue;
		if (stream->wants_room &&
			unsent(stream) < REQUEST_BACKLOG_BYTES / 2)
		{
			stream->wants_room = false;
			dispatch_writable(stream->req);
		}
		if (is_running(stream) && stream->rpc->kind == RPC_BIDI)
			take_input(stream);
	}
}

/* ---- out ---- */

static void
begin_answer(GrpcStream *stream)
{
	static const nghttp2_nv nv[] = {
		NV_LITERAL(":status", "200"),
		NV_LITERAL("content-type", "application/grpc"),
	};
	nghttp2_data_provider provider = {
		.source.ptr = stream,
		.read_callback = read_messages,
	};

	stream->has_begun = true;
	stream_submitted(stream, nghttp2_submit_response(stream->session->h2,
													 stream->id, nv,
													 lengthof(nv), &provider));
}

static void
go_on_sending(GrpcStream *stream)
{
	if (!stream->has_begun)
		begin_answer(stream);
	else if (stream->is_deferred)
	{
		stream->is_deferred = false;
		stream_submitted(stream,
						 nghttp2_session_resume_data(stream->session->h2,
													 stream->id));
	}
}

/* nghttp2 asks for the next bytes of a DATA frame */
static ssize_t
read_messages(nghttp2_session *h2, int32_t id, uint8_t *out, size_t size,
			  uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	GrpcStream *stream = source->ptr;
	size_t		n = size_min(size, unsent(stream));

	if (n > 0)
		memcpy(out, stream->out.data + stream->out_sent, n);
	note_sent(stream, n);
	if (stream->has_end && unsent(stream) == 0)
	{
		*flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
		submit_trailers(stream);
	}
	else if (n == 0)
	{
		stream->is_deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	return (ssize_t) n;
}

static void
note_sent(GrpcStream *stream, size_t n)
{
	Buf		   *out = &stream->out;

	stream->out_sent += n;
	stream->session->stream_bytes -= n;
	if (unsent(stream) == 0)
	{
		if (out->cap > OUT_KEEP_BYTES)
			buf_free(out);
		out->len = stream->out_sent = stream->out_begin = 0;
	}
	else if (stream->out_sent > OUT_MOVE_BYTES &&
			 stream->out_sent > out->len / 2)
	{
		size_t		begin = boundary_at(stream, false);

		memmove(out->data, out->data + begin, out->len - begin);
		out->len -= begin;
		stream->out_sent -= begin;
		stream->out_begin = 0;
	}
	if (stream->wants_room && unsent(stream) < REQUEST_BACKLOG_BYTES / 2)
		make_due(stream);
	wake_short(stream->session);
}

static size_t
unsent(const GrpcStream *stream)
{
	return stream->out.len - stream->out_sent;
}

/*
 * The boundary between two messages next to what is sent: the last at or
 * before it, or (after) the first at or behind it.
 */
static size_t
boundary_at(const GrpcStream *stream, bool after)
{
	size_t		at = stream->out_begin;

	while (at < stream->out_sent)
	{
		const uint8_t *p = stream->out.data + at;
		size_t		next = at + GRPC_PREFIX_BYTES +
			((size_t) p[1] << 24 | (size_t) p[2] << 16 |
			 (size_t) p[3] << 8 | p[4]);

		if (next > stream->out_sent && !after)
			break;
		at = next;
	}
	return at;
}

/*
 * An error comes soon: messages of which nothing is sent are thrown away.  One
 * that has begun is finished, or the client would take it for a broken stream.
 */
static void
cut_unbegun(GrpcStream *stream)
{
	size_t		end = boundary_at(stream, true);

	stream->session->stream_bytes -= stream->out.len - end;
	stream->out.len = end;
	wake_short(stream->session);
}

static void
submit_trailers(GrpcStream *stream)
{
	char		code[8];
	nghttp2_nv	nv[] = {
		{(uint8_t *) (uintptr_t) "grpc-status", (uint8_t *) code, 11,
		(size_t) snprintf(code, sizeof(code), "%d", stream->end.code),
		NGHTTP2_NV_FLAG_NO_COPY_NAME},
		{(uint8_t *) (uintptr_t) "grpc-message", NULL, 12, 0,
		NGHTTP2_NV_FLAG_NO_COPY_NAME},
	};
	Bytes		message = BYTES_EMPTY;

	if (stream->end.text != NULL)
		message = status_encode_message(stream->mcx, stream->end.text);
	nv[1].value = (uint8_t *) (uintptr_t) message.data;
	nv[1].valuelen = message.len;
	stream_submitted(stream, nghttp2_submit_trailer(stream->session->h2,
													stream->id, nv,
													message.len > 0 ? 2 : 1));
}

/* ---- in ---- */

/* What waits, as far as dispatch takes it; then the end, if it has come. */
static void
take_input(GrpcStream *stream)
{
	if (stream->in_taken < stream->in.len)
	{
		Bytes		rest = bytes_make(stream->in.data + stream->in_taken,
									  stream->in.len - stream->in_taken);

		feed(stream, &rest);
		if (!is_running(stream))
			return;
		stream->in_taken = stream->in.len - rest.len;
		if (rest.len > 0)
			return;
		buf_free(&stream->in);
		stream->in_taken = 0;
		stream_note_held(stream);
	}
	if (!stream->is_half_closed || stream->has_told_end)
		return;
	if (stream->frame.prefix_len > 0)
		stream_refuse(stream, (GrpcStatus) {GRPC_INTERNAL, 200,
					  "unexpected EOF"});
	else if (dispatch_takes_messages(stream->req))
	{
		stream->has_told_end = true;
		dispatch_half_close(stream->req);
	}
}

/*
 * Cut messages out of the front of data and hand them over, until dispatch
 * takes no more.  The stream may be answered afterwards.
 */
static void
feed(GrpcStream *stream, Bytes *data)
{
	GrpcSession *session = stream->session;

	while (data->len > 0 && dispatch_takes_messages(stream->req))
	{
		GrpcFrame  *frame = &stream->frame;
		size_t		before = data->len;
		GrpcFrameResult result;

		if (frame->prefix_len == 0)
			stream->begun_ms = session->now_ms;
		result = grpcframe_take(frame, data, arrival_max_bytes());
		nghttp2_session_consume_stream(session->h2, stream->id,
									   before - data->len);
		stream_note_held(stream);
		if (result == GRPC_FRAME_MORE && !stream_holds_too_much(session))
		{
			if (stream_arrive_by_ms(stream) < session->earliest_deadline_ms)
				session->earliest_deadline_ms = stream_arrive_by_ms(stream);
			return;
		}
		if (result == GRPC_FRAME_MORE)
			stream_refuse(stream, status_of_error(ERR_TOO_MANY_REQUESTS));
		else if (result != GRPC_FRAME_COMPLETE)
			stream_refuse_frame(stream, result);
		else
			dispatch_message(stream->req, bytes_make(frame->data, frame->len));
		if (!is_running(stream))
			return;
		grpcframe_reset(frame);
		stream_note_held(stream);
	}
}

static bool
is_running(const GrpcStream *stream)
{
	return stream->phase == STREAM_RUNNING;
}

/* ---- the list of streams that something is to be done for ---- */

static void
make_due(GrpcStream *stream)
{
	GrpcSession *session = stream->session;

	if (stream->is_due)
		return;
	stream->is_due = true;
	stream->prev_due = NULL;
	stream->next_due = session->first_due;
	if (session->first_due != NULL)
		session->first_due->prev_due = stream;
	session->first_due = stream;
}

static void
unlink_due(GrpcStream *stream)
{
	if (!stream->is_due)
		return;
	if (stream->prev_due != NULL)
		stream->prev_due->next_due = stream->next_due;
	else
		stream->session->first_due = stream->next_due;
	if (stream->next_due != NULL)
		stream->next_due->prev_due = stream->prev_due;
	stream->is_due = false;
}

/* The connection has room again: all who were told no may ask once more. */
static void
wake_short(GrpcSession *session)
{
	if (likely(!session->is_short) ||
		session->stream_bytes >= STREAMS_MAX_BYTES / 2)
		return;
	session->is_short = false;
	for (GrpcStream *stream = session->first; stream != NULL;
		 stream = stream->next)
		if (stream->wants_room)
			make_due(stream);
}
