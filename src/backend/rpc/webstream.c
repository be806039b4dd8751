/*
 * webstream.c
 *	  A stream of HTTP/2 that is no gRPC call: the JSON API and the plain pages
 *	  over the same connection.
 *
 * The window of the stream is given back as the handler takes the body; what
 * it does not take yet waits here, one window at most.  What is held counts as
 * held by the connection, what is not sent as unsent (GrpcSession), with the
 * same bounds as for gRPC.  A body must arrive at 8 kB/s, as over HTTP/1.1.
 *
 * The handler is never called from within nghttp2 while it writes: what
 * happens there asks for a turn.
 */
#include "server.h"

/* lib and utils */
#include "utils/elog.h"
#include "utils/clock.h"

/* this layer and below */
#include "comm/http.h"
#include "dispatch/arrival.h"
#include "rpc/webstream.h"

/* unsent answers of a connection: above, nothing new begins; far above, the end */
#define UNSENT_MAX_BYTES ((size_t) 64 * 1024 * 1024)
#define UNSENT_CUT_BYTES (4 * UNSENT_MAX_BYTES)
/* an empty buffer larger than this is freed; sent bytes beyond it are moved over */
#define OUT_KEEP_BYTES (64 * 1024)
#define MAX_TARGET_BYTES 8192
/*
 * So much of a body is read only to be thrown away: clients that still send
 * take a reset for a failure, and do not look at the answer before it.
 */
#define DISCARD_MAX_BYTES ((size_t) 8 * 1024 * 1024)

struct WebStream
{
	HttpCarrier carrier;		/* first: callbacks come with its address */
	GrpcStream *stream;
	HttpHead	head;
	uint32_t	fields_size;
	bool		is_bad;			/* a field that may come once came twice */
	HttpExchange *exchange;
	Buf			in;				/* what the handler does not take yet */
	size_t		body_bytes;
	size_t		discarded_bytes;
	Buf			out;
	size_t		out_sent;
	bool		has_told_end;	/* the handler knows of the end of the body */
	bool		is_responded;
	bool		is_answered;
	bool		has_no_body;
	bool		is_deferred;	/* nghttp2 waits until we have more */
	bool		is_due;			/* for a turn */
};

static void respond(HttpCarrier *carrier, int status, const HttpField *fields,
					uint32_t nfields, int64_t body_bytes);
static void write_body(HttpCarrier *carrier, Bytes data);
static void end_answer(HttpCarrier *carrier);
static void abort_answer(HttpCarrier *carrier);
static size_t backlog(const HttpCarrier *carrier);
static void wake(HttpCarrier *carrier);

static const HttpCarrierOps carrier_ops = {
	respond, write_body, end_answer, abort_answer, backlog, wake
};

static WebStream *web_create(GrpcStream *stream);
static bool check_head(GrpcStream *stream);
static bool take_body_bytes(HttpHead *head);
static void take_body(WebStream *web);
static void give(WebStream *web, Bytes data);
static ssize_t read_out(nghttp2_session *h2, int32_t id, uint8_t *out,
						size_t size, uint32_t *flags,
						nghttp2_data_source *source, void *arg);
static void resume(WebStream *web);
static void note_unsent(WebStream *web, size_t before);
static size_t unsent(const WebStream *web);
static void reset(GrpcStream *stream, uint32_t code);
static int64_t arrive_by_ms(const WebStream *web);
static Bytes sendable(MemContext *mcx, Bytes value);
static nghttp2_nv nv_of(Bytes name, Bytes value);

bool
web_is_rpc_path(Bytes path)
{
	const uint8_t *slash = path.len < 2 ? NULL :
		memchr(path.data + 1, '/', path.len - 1);

	/* "/package.Service/Method" */
	return slash != NULL && memchr(path.data, '.',
								   (size_t) (slash - path.data)) != NULL;
}

void
web_header(GrpcStream *stream, Bytes name, Bytes value)
{
	WebStream  *web = stream->web != NULL ? stream->web : web_create(stream);
	HttpHead   *head = &web->head;

	if (name.len == 0)
		return;
	if (bytes_equal_cstr(name, "host"))
	{
		if (head->host.len == 0)
			head->host = mcx_bytes_dup(stream->mcx, value);
		return;
	}
	if (bytes_equal_cstr(name, "authorization"))
		for (uint32_t i = 0; i < head->nfields; i++)
			web->is_bad |= bytes_equal_cstr(head->fields[i].name,
											"authorization");
	if (head->nfields == web->fields_size)
	{
		head->fields = mcx_grow(stream->mcx, head->fields,
								web->fields_size * sizeof(*head->fields),
								(web->fields_size * 2 + 8) *
								sizeof(*head->fields));
		web->fields_size = web->fields_size * 2 + 8;
	}
	head->fields[head->nfields++] = (HttpField) {
		mcx_bytes_dup(stream->mcx, name), mcx_bytes_dup(stream->mcx, value)
	};
}

void
web_begin(GrpcStream *stream)
{
	GrpcSession *session = stream->session;
	WebStream  *web = stream->web;

	stream->phase = STREAM_WEB;
	if (!check_head(stream))
	{
		reset(stream, NGHTTP2_PROTOCOL_ERROR);
		return;
	}
	/* answers that are not read hold new requests back */
	if (session->stream_bytes + session->answer_bytes > UNSENT_MAX_BYTES)
	{
		reset(stream, NGHTTP2_REFUSED_STREAM);
		return;
	}
	web->has_no_body = bytes_equal_cstr(web->head.method, "HEAD");
	web->carrier = (HttpCarrier) {&carrier_ops, &session->conn,
		session->requests_mcx};
	session->nwebs++;
	web->exchange = session->http->create(&web->carrier, &web->head);
	session->http->start(web->exchange);
}

void
web_data(GrpcStream *stream, Bytes data)
{
	WebStream  *web = stream->web;

	if (web->exchange == NULL)
		return;
	web->body_bytes += data.len;
	if (web->is_answered)
		web->discarded_bytes += data.len;
	if (web->discarded_bytes > DISCARD_MAX_BYTES)
		reset(stream, NGHTTP2_NO_ERROR);
	if (web->in.len == 0 && (web->is_answered ||
							 stream->session->http->wants_body(web->exchange)))
		give(web, data);
	else
		buf_append(&web->in, data.data, data.len);
	stream_note_held(stream);
	if (stream_holds_too_much(stream->session))
		reset(stream, NGHTTP2_ENHANCE_YOUR_CALM);
}

void
web_end(GrpcStream *stream)
{
	if (stream->web->exchange != NULL)
		take_body(stream->web);
}

void
web_close(GrpcStream *stream)
{
	WebStream  *web = stream->web;
	size_t		before;

	if (web == NULL)
		return;
	if (web->exchange != NULL)
	{
		stream->session->http->destroy(web->exchange);
		stream->session->nwebs--;
	}
	for (uint32_t i = 0; i < web->head.nfields; i++)
		secret_wipe((void *) (uintptr_t) web->head.fields[i].value.data,
					web->head.fields[i].value.len);
	before = unsent(web);
	web->out.len = web->out_sent = 0;
	note_unsent(web, before);
	buf_free(&web->in);
	buf_free(&web->out);
	stream->web = NULL;
}

size_t
web_held_bytes(const GrpcStream *stream)
{
	const WebStream *web = stream->web;

	if (web == NULL || web->exchange == NULL)
		return 0;
	return web->in.cap + stream->session->http->held_bytes(web->exchange);
}

/* ---- for the session ---- */

void
web_run_turns(GrpcSession *session)
{
	/* a turn may make others due, but closes no stream */
	while (session->has_web_due)
	{
		session->has_web_due = false;
		for (GrpcStream *stream = session->first; stream != NULL;
			 stream = stream->next)
		{
			WebStream  *web = stream->web;

			if (web == NULL || !web->is_due)
				continue;
			web->is_due = false;
			if (web->exchange == NULL || web->is_answered)
				continue;
			session->http->turn(web->exchange);
			take_body(web);
		}
	}
}

void
web_stop_all(GrpcSession *session)
{
	if (session->nwebs == 0)
		return;
	for (GrpcStream *stream = session->first; stream != NULL;
		 stream = stream->next)
		if (stream->web != NULL && stream->web->exchange != NULL &&
			!stream->web->is_answered)
			session->http->stop(stream->web->exchange);
}

int64_t
web_next_timer_ms(const GrpcSession *session)
{
	int64_t		next_ms = INT64_MAX;

	if (session->nwebs == 0)
		return next_ms;
	for (GrpcStream *stream = session->first; stream != NULL;
		 stream = stream->next)
	{
		const WebStream *web = stream->web;
		int64_t		exchange_ms;

		if (web == NULL || web->exchange == NULL)
			continue;
		if (arrive_by_ms(web) < next_ms)
			next_ms = arrive_by_ms(web);
		if (web->is_answered)
			continue;
		exchange_ms = session->http->next_timer_ms(web->exchange);
		if (exchange_ms >= 0 && exchange_ms < next_ms)
			next_ms = exchange_ms;
	}
	return next_ms;
}

void
web_on_timer(GrpcSession *session)
{
	if (session->nwebs == 0)
		return;
	for (GrpcStream *stream = session->first; stream != NULL;
		 stream = stream->next)
	{
		WebStream  *web = stream->web;

		if (web == NULL || web->exchange == NULL)
			continue;
		if (arrive_by_ms(web) <= session->now_ms)
			reset(stream, NGHTTP2_CANCEL);
		else if (!web->is_answered)
			session->http->on_timer(web->exchange, session->now_ms);
	}
}

/* ---- the request ---- */

static WebStream *
web_create(GrpcStream *stream)
{
	WebStream  *web = mcx_alloc0(stream->mcx, sizeof(*web));

	web->stream = stream;
	buf_init(&web->in, NULL);
	buf_init(&web->out, NULL);
	stream->web = web;
	return web;
}

/* headcheck.c has seen to the rest; the authority may be anything */
static bool
check_head(GrpcStream *stream)
{
	WebStream  *web = stream->web;
	Bytes		target = stream->head.path;

	if (web->is_bad || stream->head.is_too_large ||
		target.len > MAX_TARGET_BYTES)
		return false;
	if (target.len == 0 || (target.data[0] != '/' &&
							!bytes_equal_cstr(target, "*")))
		return false;
	for (size_t i = 0; i < target.len; i++)
		if (target.data[i] <= 0x20 || target.data[i] >= 0x7f ||
			target.data[i] == '#')
			return false;
	web->head.method = stream->head.method;
	web->head.target = target;
	if (stream->authority.len > 0)
		web->head.host = stream->authority;
	return take_body_bytes(&web->head);
}

static bool
take_body_bytes(HttpHead *head)
{
	head->body_bytes = -1;
	for (uint32_t i = 0; i < head->nfields; i++)
	{
		Bytes		value = head->fields[i].value;

		if (!bytes_equal_cstr(head->fields[i].name, "content-length"))
			continue;
		if (value.len == 0 || value.len > 15)
			return false;
		head->body_bytes = 0;
		/* that these are digits, headcheck.c has checked */
		for (size_t k = 0; k < value.len; k++)
			head->body_bytes = head->body_bytes * 10 + (value.data[k] - '0');
	}
	return true;
}

/* What waits, as far as the handler takes it; then the end, if it has come. */
static void
take_body(WebStream *web)
{
	GrpcStream *stream = web->stream;
	const HttpHandlerOps *http = stream->session->http;

	if (web->in.len > 0)
	{
		if (!web->is_answered && !http->wants_body(web->exchange))
			return;
		give(web, buf_bytes(&web->in));
		buf_free(&web->in);
		stream_note_held(stream);
	}
	if (!stream->is_half_closed || web->has_told_end || web->is_answered)
		return;
	web->has_told_end = true;
	http->end_of_body(web->exchange);
	stream_note_held(stream);
}

static void
give(WebStream *web, Bytes data)
{
	GrpcStream *stream = web->stream;

	if (!web->is_answered && data.len > 0)
		stream->session->http->body(web->exchange, data);
	nghttp2_session_consume_stream(stream->session->h2, stream->id, data.len);
}

/* ---- the answer ---- */

static void
respond(HttpCarrier *carrier, int status, const HttpField *fields,
		uint32_t nfields, int64_t body_bytes)
{
	WebStream  *web = (WebStream *) carrier;
	GrpcStream *stream = web->stream;
	nghttp2_data_provider provider = {
		.source.ptr = web,
		.read_callback = read_out,
	};
	char		status_text[8];
	char		length_text[24];
	nghttp2_nv *nv = mcx_alloc(stream->mcx, (nfields + 2) * sizeof(*nv));
	size_t		n = 0;

	Assert(!web->is_responded);
	web->is_responded = true;
	stream->session->has_succeeded |= status < 300;
	snprintf(status_text, sizeof(status_text), "%d", status);
	nv[n++] = nv_of(BYTES_LITERAL(":status"), bytes_from_cstr(status_text));
	for (uint32_t i = 0; i < nfields; i++)
		nv[n++] = nv_of(fields[i].name,
						sendable(stream->mcx, fields[i].value));
	snprintf(length_text, sizeof(length_text), "%" PRId64, body_bytes);
	if (body_bytes >= 0)
		nv[n++] = nv_of(BYTES_LITERAL("content-length"),
						bytes_from_cstr(length_text));
	stream_submitted(stream, nghttp2_submit_response(stream->session->h2,
													 stream->id, nv, n,
													 &provider));
}

static void
write_body(HttpCarrier *carrier, Bytes data)
{
	WebStream  *web = (WebStream *) carrier;
	size_t		before = unsent(web);

	if (web->has_no_body || data.len == 0)
		return;
	buf_append(&web->out, data.data, data.len);
	note_unsent(web, before);
	resume(web);
}

static void
end_answer(HttpCarrier *carrier)
{
	WebStream  *web = (WebStream *) carrier;

	web->is_answered = true;
	resume(web);
}

static void
abort_answer(HttpCarrier *carrier)
{
	WebStream  *web = (WebStream *) carrier;

	web->is_answered = true;
	reset(web->stream, NGHTTP2_INTERNAL_ERROR);
}

static size_t
backlog(const HttpCarrier *carrier)
{
	const WebStream *web = (const WebStream *) carrier;

	/* beyond its share of the connection a stream may send only one by one */
	if (web->stream->session->stream_bytes > UNSENT_MAX_BYTES &&
		unsent(web) > 0)
		return SIZE_MAX;
	return unsent(web);
}

static void
wake(HttpCarrier *carrier)
{
	WebStream  *web = (WebStream *) carrier;

	web->is_due = true;
	web->stream->session->has_web_due = true;
}

/* nghttp2 asks for the next bytes of a DATA frame */
static ssize_t
read_out(nghttp2_session *h2, int32_t id, uint8_t *out, size_t size,
		 uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	WebStream  *web = source->ptr;
	size_t		before = unsent(web);
	size_t		n = size_min(size, before);

	if (n > 0)
		memcpy(out, web->out.data + web->out_sent, n);
	web->out_sent += n;
	note_unsent(web, before);
	web->stream->session->answer_ms = clock_coarse_ms();
	if (unsent(web) == 0)
	{
		if (web->out.cap > OUT_KEEP_BYTES)
			buf_free(&web->out);
		web->out.len = web->out_sent = 0;
		/* there is room: the handler may have waited for it */
		if (!web->is_answered)
			wake(&web->carrier);
	}
	else if (web->out_sent > OUT_KEEP_BYTES &&
			 web->out_sent > web->out.len / 2)
	{
		memmove(web->out.data, web->out.data + web->out_sent, unsent(web));
		web->out.len -= web->out_sent;
		web->out_sent = 0;
	}
	if (web->is_answered && unsent(web) == 0)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	else if (n == 0)
	{
		web->is_deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	return (ssize_t) n;
}

static void
resume(WebStream *web)
{
	if (!web->is_deferred)
		return;
	web->is_deferred = false;
	stream_submitted(web->stream,
					 nghttp2_session_resume_data(web->stream->session->h2,
												 web->stream->id));
}

/*
 * The session's sums follow.  A stream with unsent bytes is one of its answers
 * that must move; one that has said all for now is not.
 */
static void
note_unsent(WebStream *web, size_t before)
{
	GrpcSession *session = web->stream->session;
	size_t		after = unsent(web);

	session->stream_bytes += after - before;
	if (before == 0 && after > 0 && session->nanswers++ == 0)
		session->answer_ms = clock_coarse_ms();
	if (before > 0 && after == 0)
		session->nanswers--;
	if (session->stream_bytes > UNSENT_CUT_BYTES)
	{
		elog_info("closing a connection whose client asks and does not read");
		session->is_broken = true;
	}
}

static size_t
unsent(const WebStream *web)
{
	return web->out.len - web->out_sent;
}

/* ---- small things ---- */

static void
reset(GrpcStream *stream, uint32_t code)
{
	nghttp2_submit_rst_stream(stream->session->h2, NGHTTP2_FLAG_NONE,
							  stream->id, code);
}

/* the messages of a stream come when they come; INT64_MAX: no limit */
static int64_t
arrive_by_ms(const WebStream *web)
{
	if (web->stream->is_half_closed || web->in.len > 0 ||
		(web->is_responded && !web->is_answered))
		return INT64_MAX;
	return arrival_due_ms(web->stream->begun_ms, web->body_bytes);
}

/* a value without what no header may hold: clients end the stream over it */
static Bytes
sendable(MemContext *mcx, Bytes value)
{
	uint8_t    *copy = mcx_alloc(mcx, value.len);
	size_t		n = 0;

	for (size_t i = 0; i < value.len; i++)
		if ((value.data[i] >= 0x20 && value.data[i] != 0x7f) ||
			value.data[i] == '\t')
			copy[n++] = value.data[i];
	return bytes_make(copy, n);
}

static nghttp2_nv
nv_of(Bytes name, Bytes value)
{
	/* nghttp2 takes pointers without const but does not write; it copies */
	return (nghttp2_nv) {
		.name = (uint8_t *) (uintptr_t) name.data,
		.namelen = name.len,
		.value = (uint8_t *) (uintptr_t) value.data,
		.valuelen = value.len,
	};
}
