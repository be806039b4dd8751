/*
 * http.c
 *	  The HTTP/1.1 door: one connection, one request after the other.
 *
 *	HEAD --head is complete--> BODY --its end--> ANSWER --answered--> HEAD
 *	  |                          |                  |
 *	  |                       101|                  |
 *	  |                          v                  |
 *	  |                      WEBSOCKET--both closed-+-------------> OVER
 *	  |                          |                  |
 *	  '--malformed, too late-----+------------------'----> LINGER --> OVER
 *
 * The carrier of comm/http.h.  A request that is answered before its body has
 * come is followed by the rest of the body, if that is not much; else the
 * connection ends, after a moment (LINGER) in which what still comes is thrown
 * away: a socket closed over unread bytes is reset, and the client would lose
 * the answer.
 *
 * Memory: of what a client sends ahead INPUT_MAX_BYTES are kept, and no
 * further request is begun while so much output waits.  What a handler writes
 * is not refused here: it asks for the backlog.
 *
 * Time: a head must be complete http_header_timeout after its first byte, a
 * body comes at 8 kB/s or better, an idle connection ends after
 * http_idle_timeout.  Those of a WebSocket are in websocket.c.
 */
#include "server.h"

/* lib and utils */
#include "lib/buf.h"
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/guc.h"

/* this layer and below */
#include "dispatch/arrival.h"
#include "gateway/http.h"
#include "gateway/httpbody.h"
#include "gateway/httphead.h"
#include "gateway/httptext.h"
#include "gateway/websocket.h"

#define INPUT_MAX_BYTES (128 * 1024)
#define OUTPUT_MAX_BYTES (64 * 1024)
/* an idle connection does not keep larger buffers than this */
#define KEEP_BYTES 16384
/* how much of a body is read only to be thrown away */
#define DISCARD_MAX_BYTES (256 * 1024)
#define LINGER_MS 1000
/* empty lines before a request: RFC 9112 2.2 asks for one */
#define EMPTY_LINES_MAX 4

typedef enum SessionPhase
{
	PHASE_HEAD,
	PHASE_BODY,
	PHASE_ANSWER,
	PHASE_WEBSOCKET,
	PHASE_LINGER,
	PHASE_OVER
} SessionPhase;

struct HttpSession
{
	HttpCarrier carrier;		/* first: callbacks come with its address */
	HttpConn	conn;
	const HttpHandlerOps *handler;
	MemContext *mcx;
	SessionPhase phase;

	/* received and not yet read: in.data[in_pos .. in.len) */
	Buf			in;
	size_t		in_pos;
	size_t		scanned;		/* of the head, by httphead_length() */
	uint32_t	empty_lines;
	/* to be sent, and what was given to the last pull() */
	Buf			out;
	Buf			sending;

	/* the request under way */
	MemContext *head_mcx;
	HttpHead1	head;
	HttpBody	body;
	uint64_t	body_bytes;		/* so far */
	HttpExchange *exchange;
	WebSocket  *websocket;		/* not NULL: to the end of the connection */
	bool		is_responded;
	bool		is_answered;
	bool		is_chunked;		/* the answer */
	bool		has_no_body;	/* the answer: to HEAD, or 204 */
	bool		is_aborted;
	bool		closes;			/* after this answer */

	bool		is_advancing;
	bool		is_stopping;
	bool		has_succeeded;
	int64_t		now_ms;
	int64_t		phase_ms;		/* when this phase began; LINGER: when it ends */
	bool		head_has_begun;
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

static void advance(HttpSession *session);
static bool advance_head(HttpSession *session);
static void skip_empty_lines(HttpSession *session);
static bool begin_request(HttpSession *session, Bytes head);
static bool advance_body(HttpSession *session);
static bool advance_answer(HttpSession *session);
static bool advance_websocket(HttpSession *session);
static bool take_messages(HttpSession *session);
static void end_exchange(HttpSession *session);
static void wipe_fields(HttpHead *head);
static void refuse(HttpSession *session, int status, const char *why);
static void linger(HttpSession *session);
static void enter(HttpSession *session, SessionPhase phase);
static void take_input(HttpSession *session, size_t n);
static Bytes unread(const HttpSession *session);
static bool rest_of_body_is_small(const HttpSession *session);
static int64_t phase_limit_ms(const HttpSession *session);
static bool is_held(const HttpSession *session);
static HttpSession *session_of(HttpCarrier *carrier);

bool
http_starts_here(Bytes data)
{
	/* methods are capital letters; of TLS and HTTP/2 the latter are not here */
	for (size_t i = 0; i < size_min(data.len, 8); i++)
	{
		uint8_t		c = data.data[i];

		if (i > 0 && c == ' ')
			return true;
		if (!((c >= 'A' && c <= 'Z') || (i > 0 && c == '-') ||
			  (i < 2 && (c == '\r' || c == '\n'))))
			return false;
	}
	return true;
}

HttpSession *
http_session_create(MemContext *mcx, const HttpConn *conn,
					const HttpHandlerOps *handler)
{
	MemContext *own = mcx_create(mcx, "http session");
	HttpSession *session = mcx_alloc0(own, sizeof(*session));

	session->mcx = own;
	session->handler = handler;
	session->conn = *conn;
	session->conn.common_name = mcx_bytes_dup(own, conn->common_name);
	session->carrier = (HttpCarrier) {&carrier_ops, &session->conn, mcx};
	session->head_mcx = mcx_create(own, "http head");
	buf_init(&session->in, NULL);
	buf_init(&session->out, NULL);
	buf_init(&session->sending, NULL);
	session->now_ms = clock_coarse_ms();
	session->phase_ms = session->now_ms;
	return session;
}

void
http_session_destroy(HttpSession *session)
{
	MemContext *mcx = session->mcx;

	end_exchange(session);
	if (session->websocket != NULL)
		websocket_destroy(session->websocket);
	take_input(session, unread(session).len);
	buf_free(&session->in);
	buf_free(&session->out);
	buf_free(&session->sending);
	mcx_destroy(mcx);
}

bool
http_session_receive(HttpSession *session, Bytes data)
{
	session->now_ms = clock_coarse_ms();
	if (session->phase == PHASE_OVER)
		return false;
	if (session->phase != PHASE_LINGER)
		buf_append(&session->in, data.data, data.len);
	if (session->websocket != NULL)
		websocket_heard(session->websocket);
	advance(session);
	return session->phase != PHASE_OVER;
}

bool
http_session_wants_input(const HttpSession *session)
{
	return unread(session).len < INPUT_MAX_BYTES;
}

Bytes
http_session_pull(HttpSession *session)
{
	Buf			sent = session->sending;

	session->now_ms = clock_coarse_ms();
	/* what was given last time has gone */
	sent.len = 0;
	session->sending = session->out;
	session->out = sent;
	if (session->sending.len == 0 && session->out.cap > KEEP_BYTES)
		buf_free(&session->out);
	if (session->websocket != NULL)
		websocket_flushed(session->websocket);
	if (session->exchange != NULL && !session->is_answered)
		session->handler->turn(session->exchange);
	advance(session);
	if (session->sending.len == 0 && session->out.len > 0)
	{
		Buf			empty = session->sending;

		session->sending = session->out;
		session->out = empty;
	}
	if (session->sending.len == 0 && session->sending.cap > KEEP_BYTES)
		buf_free(&session->sending);
	return buf_bytes(&session->sending);
}

bool
http_session_is_over(const HttpSession *session)
{
	return session->phase == PHASE_OVER && session->out.len == 0 &&
		session->sending.len == 0;
}

void
http_session_shutdown(HttpSession *session)
{
	session->now_ms = clock_coarse_ms();
	session->is_stopping = true;
	session->closes = true;
	if (session->exchange != NULL && !session->is_answered)
		session->handler->stop(session->exchange);
	/* between two requests; one of which nothing but a part is here is lost */
	else if (session->phase == PHASE_HEAD)
		enter(session, PHASE_OVER);
	advance(session);
}

int64_t
http_session_next_timer_ms(const HttpSession *session)
{
	int64_t		limit_ms = phase_limit_ms(session);

	if (session->exchange == NULL || session->is_answered)
		return limit_ms;
	return clock_earlier(limit_ms,
						 session->handler->next_timer_ms(session->exchange));
}

void
http_session_on_timer(HttpSession *session, int64_t now_ms)
{
	int64_t		limit_ms = phase_limit_ms(session);

	session->now_ms = now_ms;
	if (session->exchange != NULL && !session->is_answered)
		session->handler->on_timer(session->exchange, now_ms);
	if (limit_ms >= 0 && now_ms >= limit_ms)
		switch (session->phase)
		{
			case PHASE_HEAD:
				/* an idle connection just ends */
				if (session->head_has_begun)
					refuse(session, 408, "the request did not arrive in time");
				else
					enter(session, PHASE_OVER);
				break;
			case PHASE_BODY:
				refuse(session, 408, "the request did not arrive in time");
				break;
			case PHASE_WEBSOCKET:
				websocket_on_timer(session->websocket, is_held(session),
								   now_ms);
				break;
			default:
				enter(session, PHASE_OVER);
				break;
		}
	advance(session);
}

bool
http_session_has_succeeded(const HttpSession *session)
{
	return session->has_succeeded;
}

uint32_t
http_session_streams(const HttpSession *session)
{
	return session->exchange != NULL && !session->is_answered;
}

/* ---- the road of a request ---- */

/*
 * As far as it goes.  Not re-entrant: what a handler does from within only
 * leaves its marks, which the loop sees.
 */
static void
advance(HttpSession *session)
{
	bool		moves = !session->is_advancing;

	session->is_advancing = true;
	while (moves)
	{
		switch (session->phase)
		{
			case PHASE_HEAD:
				moves = advance_head(session);
				break;
			case PHASE_BODY:
				moves = advance_body(session);
				break;
			case PHASE_ANSWER:
				moves = advance_answer(session);
				break;
			case PHASE_WEBSOCKET:
				moves = advance_websocket(session);
				break;
			default:
				take_input(session, unread(session).len);
				moves = false;
				break;
		}
		if (!moves)
			session->is_advancing = false;
	}
}

static bool
advance_head(HttpSession *session)
{
	Bytes		data;
	size_t		len;

	/* a client who asks and does not read gets no further */
	if (session->out.len + session->sending.len > OUTPUT_MAX_BYTES)
		return false;
	skip_empty_lines(session);
	data = unread(session);
	if (data.len > 0 && !session->head_has_begun)
	{
		session->head_has_begun = true;
		session->phase_ms = session->now_ms;
	}
	if (session->empty_lines > EMPTY_LINES_MAX)
	{
		refuse(session, 400, "malformed request");
		return true;
	}
	len = httphead_length(data, &session->scanned);
	if (len > HTTP_MAX_HEAD_BYTES || (len == 0 && data.len > HTTP_MAX_HEAD_BYTES))
	{
		refuse(session, 431, "the header of the request is too large");
		return true;
	}
	return len > 0 && begin_request(session, bytes_make(data.data, len));
}

static void
skip_empty_lines(HttpSession *session)
{
	Bytes		data;

	while ((data = unread(session)).len >= 2 && !session->head_has_begun &&
		   data.data[0] == '\r' && data.data[1] == '\n' &&
		   session->empty_lines <= EMPTY_LINES_MAX)
	{
		take_input(session, 2);
		session->empty_lines++;
	}
}

static bool
begin_request(HttpSession *session, Bytes head)
{
	const char *why;
	int			status = httphead_parse(head, session->head_mcx,
										&session->head, &why);

	if (status == 0)
		status = websocket_check_head(&session->head, &why);
	if (status != 0)
	{
		refuse(session, status, why);
		return true;
	}
	take_input(session, head.len);
	httpbody_init(&session->body, session->head.head.body_bytes);
	session->body_bytes = 0;
	session->is_responded = session->is_answered = session->is_aborted = false;
	session->has_no_body = bytes_equal_cstr(session->head.head.method, "HEAD");
	session->closes = session->head.wants_close || session->is_stopping ||
		session->conn.refuse_with != ERR_NONE;
	enter(session, PHASE_BODY);
	session->exchange = session->handler->create(&session->carrier,
												 &session->head.head);
	session->handler->start(session->exchange);
	/* who asks whether he may send does not send if the answer is there */
	if (session->head.expects_continue && session->body.state != HTTPBODY_END)
	{
		if (!session->is_responded)
			buf_append(&session->out, "HTTP/1.1 100 Continue\r\n\r\n", 25);
		else
			session->closes = true;
	}
	return true;
}

static bool
advance_body(HttpSession *session)
{
	Cursor		input = cursor_make(unread(session));
	size_t		before = cursor_left(&input);
	Bytes		piece;

	/* answered already: is what is still to come worth waiting for? */
	if (session->is_answered && session->body.state != HTTPBODY_END &&
		(session->closes || !rest_of_body_is_small(session)))
	{
		linger(session);
		return true;
	}
	if (!session->is_answered && session->body.state != HTTPBODY_END &&
		!session->handler->wants_body(session->exchange))
		return false;
	piece = httpbody_next(&session->body, &input);
	if (piece.len > 0)
	{
		session->body_bytes += piece.len;
		session->handler->body(session->exchange, piece);
	}
	take_input(session, before - cursor_left(&input));
	if (session->body.state == HTTPBODY_BAD)
	{
		refuse(session, 400, "malformed chunked body");
		return true;
	}
	if (session->body.state != HTTPBODY_END)
		return piece.len > 0;
	enter(session, PHASE_ANSWER);
	session->handler->end_of_body(session->exchange);
	return true;
}

static bool
advance_answer(HttpSession *session)
{
	if (!session->is_answered)
		return false;
	end_exchange(session);
	if (session->closes)
	{
		/* after an answer to the whole request there is nothing unread */
		if (unread(session).len > 0 && !session->is_aborted)
			linger(session);
		else
			enter(session, PHASE_OVER);
		return true;
	}
	enter(session, PHASE_HEAD);
	return true;
}

/* The exchange goes when it is answered, the connection when both have closed. */
static bool
advance_websocket(HttpSession *session)
{
	WebSocket  *ws = session->websocket;

	if (session->is_answered)
	{
		websocket_close(ws, session->is_aborted ? WEBSOCKET_INTERNAL_ERROR :
						session->is_stopping ? WEBSOCKET_GOING_AWAY :
						WEBSOCKET_NORMAL);
		end_exchange(session);
	}
	switch (websocket_state(ws))
	{
		case WEBSOCKET_OVER:
			end_exchange(session);
			enter(session, PHASE_OVER);
			return true;
		case WEBSOCKET_FAILED:
			linger(session);
			return true;
		default:
			return take_messages(session);
	}
}

static bool
take_messages(HttpSession *session)
{
	WebSocket  *ws = session->websocket;
	HttpExchange *x = session->exchange;
	Cursor		input = cursor_make(unread(session));
	size_t		before = cursor_left(&input);
	Bytes		piece;
	bool		moves;

	if (x != NULL && !session->handler->wants_body(x))
		return false;
	moves = websocket_next(ws, &input, &piece);
	if (x != NULL && piece.len > 0)
		session->handler->body(x, piece);
	take_input(session, before - cursor_left(&input));
	if (moves && x != NULL && websocket_state(ws) == WEBSOCKET_ENDED)
		session->handler->end_of_body(x);
	return moves;
}

static void
end_exchange(HttpSession *session)
{
	if (session->exchange != NULL)
		session->handler->destroy(session->exchange);
	session->exchange = NULL;
	session->is_answered = false;
	wipe_fields(&session->head.head);
	session->head = (HttpHead1) {.head.body_bytes = 0};
	mcx_reset(session->head_mcx);
}

/* one of them may be a token */
static void
wipe_fields(HttpHead *head)
{
	for (uint32_t i = 0; i < head->nfields; i++)
		if (head->fields[i].value.len > 0)
			secret_wipe((void *) (uintptr_t) head->fields[i].value.data,
						head->fields[i].value.len);
}

/*
 * The carrier's own word, about a request that is none, or that does not come.
 * If an answer has begun the client can only be cut off.
 */
static void
refuse(HttpSession *session, int status, const char *why)
{
	const char *reason = httptext_reason(status);

	if (session->is_responded && session->exchange != NULL)
	{
		end_exchange(session);
		linger(session);
		return;
	}
	end_exchange(session);
	elog_debug("HTTP request refused with %d: %s", status, why);
	buf_printf(&session->out,
			   "HTTP/1.1 %d %s\r\n"
			   "Content-Type: text/plain; charset=utf-8\r\n"
			   "X-Content-Type-Options: nosniff\r\n"
			   "Content-Length: %zu\r\n"
			   "%s"
			   "Connection: close\r\n\r\n"
			   "%d %s: %s\n",
			   status, reason, strlen(reason) + strlen(why) + 7,
			   status == 426 ? "Upgrade: websocket\r\n"
			   "Sec-WebSocket-Version: 13\r\n" : "",
			   status, reason, why);
	linger(session);
}

static void
linger(HttpSession *session)
{
	end_exchange(session);
	enter(session, PHASE_LINGER);
	session->phase_ms = session->now_ms + LINGER_MS;
}

static void
enter(HttpSession *session, SessionPhase phase)
{
	session->phase = phase;
	session->phase_ms = session->now_ms;
	session->scanned = 0;
	session->empty_lines = 0;
	session->head_has_begun = false;
}

/* What was read is overwritten: tokens and passwords come this way. */
static void
take_input(HttpSession *session, size_t n)
{
	if (n > 0)
		secret_wipe(session->in.data + session->in_pos, n);
	session->in_pos += n;
	session->scanned = 0;
	if (session->in_pos < session->in.len)
	{
		/* move the rest down, but not for every piece */
		if (session->in_pos > INPUT_MAX_BYTES)
		{
			memmove(session->in.data, session->in.data + session->in_pos,
					session->in.len - session->in_pos);
			session->in.len -= session->in_pos;
			session->in_pos = 0;
		}
		return;
	}
	session->in.len = session->in_pos = 0;
	if (session->in.cap > KEEP_BYTES)
		buf_free(&session->in);
}

static Bytes
unread(const HttpSession *session)
{
	if (session->in.len == session->in_pos)
		return BYTES_EMPTY;
	return bytes_make(session->in.data + session->in_pos,
					  session->in.len - session->in_pos);
}

static bool
rest_of_body_is_small(const HttpSession *session)
{
	if (session->head.is_chunked)
		return session->body_bytes < DISCARD_MAX_BYTES;
	return session->body.left < DISCARD_MAX_BYTES;
}

/* when this phase has taken too long; -1: never */
static int64_t
phase_limit_ms(const HttpSession *session)
{
	switch (session->phase)
	{
		case PHASE_HEAD:
			return session->phase_ms + (session->head_has_begun ?
										guc_http_header_timeout :
										guc_http_idle_timeout);
		case PHASE_BODY:
			/* the messages of a stream come when they come */
			return session->is_responded && !session->is_answered ? -1 :
				arrival_due_ms(session->phase_ms, session->body_bytes);
		case PHASE_WEBSOCKET:
			return websocket_next_timer_ms(session->websocket,
										   is_held(session));
		case PHASE_LINGER:
			return session->phase_ms;
		default:
			return -1;
	}
}

/* something waits for the client to take it, or for the handler */
static bool
is_held(const HttpSession *session)
{
	return session->out.len + session->sending.len + unread(session).len > 0;
}

/* ---- the answer: what the handler calls ---- */

static HttpSession *
session_of(HttpCarrier *carrier)
{
	return (HttpSession *) carrier;
}

static void
respond(HttpCarrier *carrier, int status, const HttpField *fields,
		uint32_t nfields, int64_t body_bytes)
{
	HttpSession *session = session_of(carrier);
	Buf		   *out = &session->out;

	Assert(!session->is_responded);
	session->is_responded = true;
	if (status == 101)
	{
		session->is_chunked = false;
		session->closes = true;
		session->websocket = websocket_create(session->mcx, &session->head,
											  out);
		enter(session, PHASE_WEBSOCKET);
		return;
	}
	session->has_succeeded |= status < 300;
	session->is_chunked = body_bytes < 0 && !session->head.is_http10 &&
		!session->has_no_body;
	if (session->phase == PHASE_BODY && session->body.state != HTTPBODY_END &&
		!rest_of_body_is_small(session))
		session->closes = true;
	/* the end of the connection is the end of the body */
	if (body_bytes < 0 && session->head.is_http10)
		session->closes = true;

	buf_printf(out, "HTTP/1.1 %d %s\r\n", status, httptext_reason(status));
	for (uint32_t i = 0; i < nfields; i++)
	{
		httptext_put_name(out, fields[i].name);
		buf_append(out, ": ", 2);
		httptext_put_value(out, fields[i].value);
		buf_append(out, "\r\n", 2);
	}
	httptext_put_date(out);
	if (session->is_chunked)
		buf_printf(out, "Transfer-Encoding: chunked\r\n");
	else if (body_bytes >= 0)
		buf_printf(out, "Content-Length: %" PRId64 "\r\n", body_bytes);
	if (session->closes)
		buf_printf(out, "Connection: close\r\n");
	buf_append(out, "\r\n", 2);
}

static void
write_body(HttpCarrier *carrier, Bytes data)
{
	HttpSession *session = session_of(carrier);

	Assert(session->is_responded && !session->is_answered);
	if (session->websocket != NULL)
	{
		/* an error is followed by the end anyway */
		session->has_succeeded = true;
		websocket_send(session->websocket, data);
		return;
	}
	/* an empty chunk would be the last one */
	if (data.len == 0 || session->has_no_body)
		return;
	if (session->is_chunked)
		buf_printf(&session->out, "%zx\r\n", data.len);
	buf_append(&session->out, data.data, data.len);
	if (session->is_chunked)
		buf_append(&session->out, "\r\n", 2);
}

static void
end_answer(HttpCarrier *carrier)
{
	HttpSession *session = session_of(carrier);

	Assert(session->is_responded && !session->is_answered);
	if (session->is_chunked)
		buf_append(&session->out, "0\r\n\r\n", 5);
	session->is_answered = true;
}

/* without the last chunk the client knows that something is missing */
static void
abort_answer(HttpCarrier *carrier)
{
	HttpSession *session = session_of(carrier);

	session->is_aborted = true;
	session->is_answered = true;
	session->closes = true;
}

static size_t
backlog(const HttpCarrier *carrier)
{
	const HttpSession *session = (const HttpSession *) carrier;

	return session->out.len + session->sending.len;
}

/* the backend's loop pulls after everything that happens: that is the turn */
static void
wake(HttpCarrier *carrier)
{
}
