/*
 * grpc.c
 *	  The gRPC door: HTTP/2 on one connection.
 *
 * nghttp2 parses and writes the frames, from and to memory; its callbacks turn
 * them into calls on streams (grpcstream.c).  Here is what concerns the
 * connection: settings and windows, floods, pings, the way it ends.
 *
 * nghttp2 does not give windows back by itself (no_auto_window_update): what
 * may be sent on a stream is decided in grpcstream.c.  RFC 7540 priorities are
 * switched off: they cost a tree per connection that only an attacker uses.
 */
#include "server.h"

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/guc.h"

/* this layer and below */
#include "rpc/grpc.h"
#include "rpc/grpcstream.h"
#include "rpc/webstream.h"

/* bytes of all streams that may be on the way; given back as they arrive */
#define CONNECTION_WINDOW_BYTES (4 * 1024 * 1024)
/* one call of pull() carries about so much: several frames, one write() */
#define OUT_ENOUGH_BYTES (48 * 1024)
/* an idle connection does not keep a larger output buffer than this */
#define OUT_KEEP_BYTES 4096
/* after the first GOAWAY: time for requests that are on their way */
#define SHUTDOWN_GRACE_MS 1000
/* nghttp2's own counters, above ours so that ours speak first */
#define H2_RESET_BURST 10000
#define H2_RESET_PER_SECOND 1000
#define H2_MAX_SETTINGS 32
#define H2_MAX_OUTBOUND_ACK 1000
/* the length byte and what it can say */
#define PADDING_MAX 256
/* frames that wait for a client who asks and does not read, beyond streams */
#define OUT_QUEUE_EXTRA 2000

static const uint8_t shutdown_ping[8] = "shutdown";
static const uint8_t keepalive_ping[8] = "keepaliv";

static nghttp2_session *h2_create(GrpcSession *session);
static nghttp2_session_callbacks *h2_callbacks(void);
static void submit_settings(GrpcSession *session);
static void drop_output_buffer(GrpcSession *session);
static void check_output_queue(GrpcSession *session);
static void check_keepalive(GrpcSession *session);
static void check_answers_move(GrpcSession *session);
static void final_goaway(GrpcSession *session);
static void end_calmly(GrpcSession *session, const char *debug);
static int	count_frame(GrpcSession *session, GuardKind kind);
static bool carries_nothing(const nghttp2_frame_hd *hd);
static int	on_ping(GrpcSession *session, const nghttp2_ping *ping);

static int	on_begin_frame(nghttp2_session *h2, const nghttp2_frame_hd *hd,
						   void *arg);
static int	on_begin_headers(nghttp2_session *h2, const nghttp2_frame *frame,
							 void *arg);
static int	on_header(nghttp2_session *h2, const nghttp2_frame *frame,
					  const uint8_t *name, size_t name_len,
					  const uint8_t *value, size_t value_len, uint8_t flags,
					  void *arg);
static int	malformed(nghttp2_session *h2, int32_t id);
static bool head_is_complete(const GrpcStream *stream,
							 const nghttp2_frame *frame);
static int	on_data_chunk(nghttp2_session *h2, uint8_t flags, int32_t id,
						  const uint8_t *data, size_t len, void *arg);
static int	on_frame_recv(nghttp2_session *h2, const nghttp2_frame *frame,
						  void *arg);
static int	on_frame_send(nghttp2_session *h2, const nghttp2_frame *frame,
						  void *arg);
static int	on_stream_close(nghttp2_session *h2, int32_t id, uint32_t code,
							void *arg);

static void *h2_malloc(size_t size, void *arg);
static void h2_free(void *p, void *arg);
static void *h2_calloc(size_t n, size_t size, void *arg);
static void *h2_realloc(void *p, size_t size, void *arg);

GrpcSession *
grpc_session_create(MemContext *mcx, const GrpcOptions *options)
{
	MemContext *own = mcx_create(mcx, "grpc session");
	GrpcSession *session = mcx_alloc0(own, sizeof(*session));

	session->mcx = own;
	session->requests_mcx = mcx;
	session->common_name = mcx_bytes_dup(own, options->common_name);
	session->refuse_with = options->refuse_with;
	session->http = options->http;
	session->conn = (HttpConn) {
		.common_name = session->common_name,
		.is_tls = options->is_tls,
		.has_certificate = options->has_certificate,
		.refuse_with = options->refuse_with,
	};
	buf_init(&session->out, NULL);
	session->now_ms = clock_coarse_ms();
	session->last_receive_ms = session->now_ms;
	session->earliest_deadline_ms = INT64_MAX;
	guard_init(&session->guard, session->now_ms);
	session->h2 = h2_create(session);
	session->stream_window = STREAM_WINDOW_BYTES;
	submit_settings(session);
	return session;
}

void
grpc_session_destroy(GrpcSession *session)
{
	MemContext *mcx = session->mcx;

	while (session->first != NULL)
		stream_close(session->first);
	nghttp2_session_del(session->h2);
	stream_free_unused(session);
	buf_free(&session->out);
	mcx_destroy(mcx);
}

bool
grpc_session_receive(GrpcSession *session, Bytes data)
{
	ssize_t		n;

	if (session->is_ending || session->is_broken)
		return false;
	session->now_ms = clock_coarse_ms();
	session->last_receive_ms = session->now_ms;
	session->ping_sent_ms = 0;
	n = nghttp2_session_mem_recv(session->h2, data.data, data.len);
	if (n == NGHTTP2_ERR_FLOODED && !session->is_ending)
		end_calmly(session, "flood");
	else if (n < 0 && !session->is_ending)
	{
		elog_debug("HTTP/2 connection is over: %s", nghttp2_strerror((int) n));
		session->is_broken = true;
	}
	if (n < 0)
		return false;
	stream_run_waiting(session);
	check_output_queue(session);
	return !grpc_session_is_over(session);
}

Bytes
grpc_session_pull(GrpcSession *session)
{
	Buf		   *out = &session->out;

	out->len = 0;
	while (out->len < OUT_ENOUGH_BYTES && !session->is_broken &&
		   !(session->is_ending && session->is_goaway_sent))
	{
		const uint8_t *frame;
		ssize_t		n;

		stream_run_waiting(session);
		messages_run_due(session);
		web_run_turns(session);
		n = nghttp2_session_mem_send(session->h2, &frame);
		if (n < 0)
			session->is_broken = true;
		if (n <= 0 && !session->has_room && session->first_due == NULL)
			break;
		if (n > 0)
			buf_append(out, frame, (size_t) n);
	}
	if (out->len == 0)
		drop_output_buffer(session);
	return bytes_make(out->data, out->len);
}

bool
grpc_session_wants_output(const GrpcSession *session)
{
	if (session->is_broken || (session->is_ending && session->is_goaway_sent))
		return false;
	return session->has_room || session->first_due != NULL ||
		nghttp2_session_want_write(session->h2);
}

bool
grpc_session_is_over(const GrpcSession *session)
{
	if (session->is_broken)
		return true;
	if (session->is_ending)
		return session->is_goaway_sent;
	if (nghttp2_session_want_write(session->h2))
		return false;
	if (session->has_final_goaway && session->nstreams == 0)
		return true;
	return !nghttp2_session_want_read(session->h2);
}

void
grpc_session_shutdown(GrpcSession *session)
{
	if (session->shutdown_ms != 0 || session->is_ending || session->is_broken)
		return;
	session->shutdown_ms = clock_coarse_ms();
	/*
	 * The first GOAWAY names no last stream, so that requests on their way
	 * are still served; the answer to the ping says that none can follow.
	 */
	nghttp2_submit_shutdown_notice(session->h2);
	nghttp2_submit_ping(session->h2, NGHTTP2_FLAG_NONE, shutdown_ping);
}

int64_t
grpc_session_next_timer_ms(const GrpcSession *session)
{
	int64_t		next_ms = session->earliest_deadline_ms;
	int64_t		keepalive_ms = session->ping_sent_ms != 0 ?
		session->ping_sent_ms + guc_grpc_keepalive_timeout :
		session->last_receive_ms + guc_grpc_keepalive_interval;

	if (session->is_ending || session->is_broken)
		return -1;
	if (web_next_timer_ms(session) < next_ms)
		next_ms = web_next_timer_ms(session);
	if (keepalive_ms < next_ms)
		next_ms = keepalive_ms;
	if (session->nanswers > 0 &&
		session->answer_ms + guc_client_send_timeout < next_ms)
		next_ms = session->answer_ms + guc_client_send_timeout;
	if (session->shutdown_ms != 0 && !session->has_final_goaway &&
		session->shutdown_ms + SHUTDOWN_GRACE_MS < next_ms)
		next_ms = session->shutdown_ms + SHUTDOWN_GRACE_MS;
	return next_ms;
}

void
grpc_session_on_timer(GrpcSession *session, int64_t now_ms)
{
	if (session->is_ending || session->is_broken)
		return;
	session->now_ms = now_ms;
	stream_expire_all(session);
	web_on_timer(session);
	check_keepalive(session);
	check_answers_move(session);
	if (session->shutdown_ms != 0 &&
		now_ms >= session->shutdown_ms + SHUTDOWN_GRACE_MS)
		final_goaway(session);
	stream_run_waiting(session);
}

bool
grpc_session_has_succeeded(const GrpcSession *session)
{
	return session->has_succeeded;
}

uint32_t
grpc_session_streams(const GrpcSession *session)
{
	return session->nstreams;
}

/* ---- the connection ---- */

static nghttp2_session *
h2_create(GrpcSession *session)
{
	nghttp2_mem mem = {NULL, h2_malloc, h2_free, h2_calloc, h2_realloc};
	nghttp2_option *option;
	nghttp2_session *h2;

	if (nghttp2_option_new(&option) != 0)
		elog_fatal("out of memory");
	nghttp2_option_set_no_auto_window_update(option, 1);
	nghttp2_option_set_no_closed_streams(option, 1);
	nghttp2_option_set_max_settings(option, H2_MAX_SETTINGS);
	nghttp2_option_set_max_outbound_ack(option, H2_MAX_OUTBOUND_ACK);
	nghttp2_option_set_stream_reset_rate_limit(option, H2_RESET_BURST,
											   H2_RESET_PER_SECOND);
	/* headcheck.h; and a token with a blank around it is a bad token, not none */
	nghttp2_option_set_no_http_messaging(option, 1);
	if (nghttp2_session_server_new3(&h2, h2_callbacks(), session, option,
									&mem) != 0)
		elog_fatal("nghttp2 could not make a session");
	nghttp2_option_del(option);
	return h2;
}

/* the same for all; lives as long as the process */
static nghttp2_session_callbacks *
h2_callbacks(void)
{
	static nghttp2_session_callbacks *cb;

	if (cb != NULL)
		return cb;
	if (nghttp2_session_callbacks_new(&cb) != 0)
		elog_fatal("out of memory");
	nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb,
															on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb,
															  on_data_chunk);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb,
														   on_stream_close);
	return cb;
}

static void
submit_settings(GrpcSession *session)
{
	nghttp2_settings_entry entries[] = {
		{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
		(uint32_t) guc_max_concurrent_streams},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, METADATA_MAX_BYTES},
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, session->stream_window},
		{NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
	};

	if (nghttp2_submit_settings(session->h2, NGHTTP2_FLAG_NONE, entries,
								lengthof(entries)) != 0 ||
		nghttp2_session_set_local_window_size(session->h2, NGHTTP2_FLAG_NONE, 0,
											  CONNECTION_WINDOW_BYTES) != 0)
		elog_fatal("nghttp2 does not take our settings");
}

static void
drop_output_buffer(GrpcSession *session)
{
	if (session->out.cap > OUT_KEEP_BYTES)
		buf_free(&session->out);
}

/* refusals of what comes over the limit of streams have no other bound */
static void
check_output_queue(GrpcSession *session)
{
	size_t		max = 3 * (size_t) guc_max_concurrent_streams +
		OUT_QUEUE_EXTRA;

	if (likely(nghttp2_session_get_outbound_queue_size(session->h2) <= max))
		return;
	elog_info("closing a connection whose client asks and does not read");
	session->is_broken = true;
}

/* an idle client is asked whether he is there; whatever he sends is a yes */
static void
check_keepalive(GrpcSession *session)
{
	if (session->ping_sent_ms == 0)
	{
		if (session->now_ms < session->last_receive_ms +
			guc_grpc_keepalive_interval)
			return;
		session->ping_sent_ms = session->now_ms;
		nghttp2_submit_ping(session->h2, NGHTTP2_FLAG_NONE, keepalive_ping);
	}
	else if (session->now_ms >= session->ping_sent_ms +
			 guc_grpc_keepalive_timeout)
	{
		elog_info("closing a connection whose client does not answer pings");
		session->is_broken = true;
	}
}

/*
 * A client that lets its windows stay closed makes us keep its answers as
 * surely as one that does not read the socket.  That one stream moves is
 * enough: how much all of them may hold is bounded elsewhere.
 */
static void
check_answers_move(GrpcSession *session)
{
	if (session->nanswers == 0 || session->now_ms < session->answer_ms +
		guc_client_send_timeout)
		return;
	elog_info("closing a connection whose client gives no window for its answers");
	session->is_broken = true;
}

static void
final_goaway(GrpcSession *session)
{
	if (session->has_final_goaway)
		return;
	session->has_final_goaway = true;
	nghttp2_submit_goaway(session->h2, NGHTTP2_FLAG_NONE,
						  nghttp2_session_get_last_proc_stream_id(session->h2),
						  NGHTTP2_NO_ERROR, NULL, 0);
	stream_end_endless(session);
	web_stop_all(session);
}

/* GOAWAY ENHANCE_YOUR_CALM, and nothing after it */
static void
end_calmly(GrpcSession *session, const char *debug)
{
	session->is_ending = true;
	nghttp2_submit_goaway(session->h2, NGHTTP2_FLAG_NONE,
						  nghttp2_session_get_last_proc_stream_id(session->h2),
						  NGHTTP2_ENHANCE_YOUR_CALM, (const uint8_t *) debug,
						  strlen(debug));
}

static int
count_frame(GrpcSession *session, GuardKind kind)
{
	if (likely(guard_count(&session->guard, kind, session->now_ms)))
		return 0;
	elog_info("closing a connection: too many %s frames",
			  guard_kind_name(kind));
	end_calmly(session, "too_many_frames");
	return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int
on_ping(GrpcSession *session, const nghttp2_ping *ping)
{
	if (ping->hd.flags & NGHTTP2_FLAG_ACK)
	{
		if (session->shutdown_ms != 0 &&
			memcmp(ping->opaque_data, shutdown_ping, sizeof(shutdown_ping)) == 0)
			final_goaway(session);
		return 0;
	}
	if (guard_ping(&session->guard, session->now_ms, session->nstreams > 0,
				   guc_grpc_keepalive_min_time))
		return 0;
	elog_info("closing a connection: too many pings");
	end_calmly(session, "too_many_pings");
	return NGHTTP2_ERR_CALLBACK_FAILURE;
}

/*
 * DATA that may hold padding alone counts as empty: gRPC clients do not pad,
 * and nghttp2 gives the window for padding back.
 */
static bool
carries_nothing(const nghttp2_frame_hd *hd)
{
	if (hd->flags & NGHTTP2_FLAG_END_STREAM)
		return false;
	return hd->length == 0 ||
		((hd->flags & NGHTTP2_FLAG_PADDED) && hd->length <= PADDING_MAX);
}

/* ---- callbacks of nghttp2 ---- */

static int
on_begin_frame(nghttp2_session *h2, const nghttp2_frame_hd *hd, void *arg)
{
	GrpcSession *session = arg;

	switch (hd->type)
	{
		case NGHTTP2_HEADERS:
		case NGHTTP2_CONTINUATION:
			return 0;
		case NGHTTP2_DATA:
			return carries_nothing(hd) ? count_frame(session, GUARD_EMPTY) : 0;
		case NGHTTP2_RST_STREAM:
			return count_frame(session, GUARD_RESET);
		case NGHTTP2_SETTINGS:
			return hd->flags & NGHTTP2_FLAG_ACK ? 0 :
				count_frame(session, GUARD_SETTINGS);
		case NGHTTP2_PING:
			return hd->flags & NGHTTP2_FLAG_ACK ? 0 :
				count_frame(session, GUARD_PING);
		case NGHTTP2_WINDOW_UPDATE:
			return count_frame(session, GUARD_WINDOW_UPDATE);
		default:
			return count_frame(session, GUARD_OTHER);
	}
}

static int
on_begin_headers(nghttp2_session *h2, const nghttp2_frame *frame, void *arg)
{
	GrpcSession *session = arg;
	GrpcStream *stream;

	/* trailers of a client mean nothing in gRPC */
	if (frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return count_frame(session, GUARD_EMPTY);
	/*
	 * The last GOAWAY says that this stream was not processed, and clients
	 * make its request again elsewhere: so it must not be, also while that
	 * GOAWAY is not sent yet and nghttp2 goes on to take streams.
	 */
	if (session->has_final_goaway)
	{
		nghttp2_submit_rst_stream(h2, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
								  NGHTTP2_REFUSED_STREAM);
		return 0;
	}
	stream = stream_open(session, frame->hd.stream_id);
	nghttp2_session_set_stream_user_data(h2, stream->id, stream);
	return 0;
}

static int
on_header(nghttp2_session *h2, const nghttp2_frame *frame,
		  const uint8_t *name, size_t name_len, const uint8_t *value,
		  size_t value_len, uint8_t flags, void *arg)
{
	GrpcStream *stream = nghttp2_session_get_stream_user_data(h2,
															  frame->hd.stream_id);
	Bytes		key = bytes_make(name, name_len);
	Bytes		text = bytes_make(value, value_len);

	if (stream == NULL || stream->phase != STREAM_HEADERS)
		return 0;
	/*
	 * To leave a bad field out and go on would not do: a token that is left
	 * out is no bad token any more, and the certificate's name would count.
	 */
	if (!headcheck_field(&stream->check, key, text))
		return malformed(h2, frame->hd.stream_id);
	stream_header(stream, key, text);
	return 0;
}

/* nothing more of this frame or stream is told to us */
static int
malformed(nghttp2_session *h2, int32_t id)
{
	nghttp2_submit_rst_stream(h2, NGHTTP2_FLAG_NONE, id,
							  NGHTTP2_PROTOCOL_ERROR);
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int
on_data_chunk(nghttp2_session *h2, uint8_t flags, int32_t id,
			  const uint8_t *data, size_t len, void *arg)
{
	GrpcStream *stream = nghttp2_session_get_stream_user_data(h2, id);

	nghttp2_session_consume_connection(h2, len);
	if (stream == NULL)
		return 0;
	if (!headcheck_data(&stream->check, len))
		return malformed(h2, id);
	stream_data(stream, bytes_make(data, len));
	return 0;
}

static int
on_frame_recv(nghttp2_session *h2, const nghttp2_frame *frame, void *arg)
{
	GrpcSession *session = arg;
	GrpcStream *stream;

	if (frame->hd.type == NGHTTP2_PING)
		return on_ping(session, &frame->ping);
	if (frame->hd.type == NGHTTP2_SETTINGS &&
		(frame->hd.flags & NGHTTP2_FLAG_ACK) != 0)
		stream_settings_acknowledged(session);
	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
		return 0;
	stream = nghttp2_session_get_stream_user_data(h2, frame->hd.stream_id);
	if (stream == NULL)
		return 0;
	if (frame->hd.type == NGHTTP2_HEADERS && !head_is_complete(stream, frame))
	{
		(void) malformed(h2, stream->id);
		return 0;
	}
	if (frame->hd.type == NGHTTP2_HEADERS &&
		frame->headers.cat == NGHTTP2_HCAT_REQUEST)
	{
		/* known before, so that an early answer needs no reset behind it */
		stream->is_half_closed = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
		stream_begin(stream);
	}
	/* a head that was refused has not begun */
	if (stream->phase == STREAM_HEADERS ||
		(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
		return 0;
	if (!headcheck_end(&stream->check))
		(void) malformed(h2, stream->id);
	else
		stream_end(stream);
	return 0;
}

/* headers of a request with all they must have, or trailers that end it */
static bool
head_is_complete(const GrpcStream *stream, const nghttp2_frame *frame)
{
	if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		return headcheck_complete(&stream->check);
	return (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
}

static int
on_frame_send(nghttp2_session *h2, const nghttp2_frame *frame, void *arg)
{
	GrpcSession *session = arg;
	GrpcStream *stream;

	if (frame->hd.type == NGHTTP2_GOAWAY && session->is_ending &&
		frame->goaway.error_code == NGHTTP2_ENHANCE_YOUR_CALM)
		session->is_goaway_sent = true;
	/* a client can make us reset his streams as well as do it himself */
	if (frame->hd.type == NGHTTP2_RST_STREAM && !session->is_ending &&
		frame->rst_stream.error_code != NGHTTP2_NO_ERROR)
		count_frame(session, GUARD_RESET);
	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
		return 0;
	guard_sent(&session->guard);
	if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
		return 0;
	/* answered before the end of the body: we do not want the rest */
	stream = nghttp2_session_get_stream_user_data(h2, frame->hd.stream_id);
	if (stream != NULL && !stream->is_half_closed &&
		stream->phase != STREAM_WEB)
		nghttp2_submit_rst_stream(h2, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
								  NGHTTP2_NO_ERROR);
	return 0;
}

static int
on_stream_close(nghttp2_session *h2, int32_t id, uint32_t code, void *arg)
{
	GrpcStream *stream = nghttp2_session_get_stream_user_data(h2, id);

	if (stream != NULL)
		stream_close(stream);
	return 0;
}

/* ---- memory of nghttp2: ends the process instead of failing ---- */

static void *
h2_malloc(size_t size, void *arg)
{
	return xmalloc(size);
}

static void
h2_free(void *p, void *arg)
{
	free(p);
}

static void *
h2_calloc(size_t n, size_t size, void *arg)
{
	return xcalloc(n, size);
}

static void *
h2_realloc(void *p, size_t size, void *arg)
{
	return xrealloc(p, size);
}
