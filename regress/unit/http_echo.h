/*
 * http_echo.h
 *	  A handler of comm/http.h that answers with the body it got, for the tests
 *	  of its carriers.
 *
 * The path says what else: /early is answered before the body, /wait not at
 * all (answer() does it), /stream begins an answer that does not end.  What
 * would be a WebSocket becomes one.
 */
#ifndef HTTP_ECHO_H
#define HTTP_ECHO_H

#include "comm/http.h"
#include "lib/buf.h"

struct HttpExchange
{
	HttpCarrier *carrier;
	const HttpHead *head;
	Buf			body;
	bool		is_open;		/* a WebSocket */
	bool		is_answered;
};

static struct
{
	HttpExchange *last;
	int			alive;
	int			started;
	int			turns;
	bool		wants_no_body;
} handled;

static void
answer(HttpExchange *x, int status, Bytes body)
{
	HttpField	field = {BYTES_LITERAL("x-test"), BYTES_LITERAL("a\r\nb")};

	if (!x->is_open)
		x->carrier->ops->respond(x->carrier, status, &field, 1,
								 (int64_t) body.len);
	x->carrier->ops->write(x->carrier, body);
	x->carrier->ops->end(x->carrier);
	x->is_answered = true;
}

static HttpExchange *
echo_create(HttpCarrier *carrier, const HttpHead *head)
{
	HttpExchange *x = xcalloc(1, sizeof(*x));

	x->carrier = carrier;
	x->head = head;
	buf_init(&x->body, NULL);
	handled.last = x;
	handled.alive++;
	return x;
}

static void
echo_start(HttpExchange *x)
{
	handled.started++;
	if (bytes_equal_cstr(x->head->target, "/early"))
		answer(x, 404, BYTES_LITERAL("early"));
	else if (x->head->is_websocket)
	{
		x->is_open = true;
		x->carrier->ops->respond(x->carrier, 101, NULL, 0, -1);
	}
	else if (bytes_equal_cstr(x->head->target, "/stream"))
		x->carrier->ops->respond(x->carrier, 200, NULL, 0, -1);
}

static bool
echo_wants_body(const HttpExchange *x)
{
	return !handled.wants_no_body;
}

static void
echo_body(HttpExchange *x, Bytes data)
{
	buf_append(&x->body, data.data, data.len);
}

static void
echo_end_of_body(HttpExchange *x)
{
	if (x->is_answered || bytes_equal_cstr(x->head->target, "/wait") ||
		bytes_equal_cstr(x->head->target, "/stream"))
		return;
	answer(x, 200, buf_bytes(&x->body));
}

static void
echo_turn(HttpExchange *x)
{
	handled.turns++;
}

static void
echo_stop(HttpExchange *x)
{
	if (bytes_equal_cstr(x->head->target, "/stream"))
	{
		x->carrier->ops->write(x->carrier, BYTES_LITERAL("stopped"));
		x->carrier->ops->end(x->carrier);
	}
}

static int64_t
echo_next_timer_ms(const HttpExchange *x)
{
	return -1;
}

static void
echo_on_timer(HttpExchange *x, int64_t now_ms)
{
}

static size_t
echo_held_bytes(const HttpExchange *x)
{
	return x->body.cap;
}

static void
echo_destroy(HttpExchange *x)
{
	if (handled.last == x)
		handled.last = NULL;
	handled.alive--;
	buf_free(&x->body);
	free(x);
}

static const HttpHandlerOps echo = {
	echo_create, echo_start, echo_wants_body, echo_body, echo_end_of_body,
	echo_turn, echo_stop, echo_next_timer_ms, echo_on_timer, echo_held_bytes,
	echo_destroy
};

#endif							/* HTTP_ECHO_H */
