/*
 * t_http.c
 *	  The HTTP/1.1 door: heads, bodies, and a session with a handler that
 *	  echoes.
 */
/* needs: gateway/http gateway/websocket gateway/httphead gateway/httpbody gateway/httptext */
#include "server.h"

/* libraries */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/guc.h"

/* this layer and below */
#include "gateway/http.h"
#include "gateway/httpbody.h"
#include "gateway/httphead.h"

#include "http_echo.h"

int64_t		guc_http_header_timeout = 10000;
int64_t		guc_http_idle_timeout = 300000;
int64_t		guc_max_request_bytes = 1572864;

/* ---- a session ---- */

static MemContext *mcx;
static HttpSession *session;
static char output[1 << 20];
static size_t output_len;

static int
setup(void **state UNUSED)
{
	HttpConn	conn = {.is_tls = false};

	memset(&handled, 0, sizeof(handled));
	mcx = mcx_create(NULL, "test");
	session = http_session_create(mcx, &conn, &echo);
	output_len = 0;
	return 0;
}

static int
teardown(void **state UNUSED)
{
	http_session_destroy(session);
	assert_int_equal(handled.alive, 0);
	mcx_destroy(mcx);
	return 0;
}

static bool
receive(const char *text, size_t len)
{
	return http_session_receive(session, bytes_make(text, len));
}

/* what there is to send, without the date */
static const char *
pull(void)
{
	char	   *date;
	Bytes		out;

	output_len = 0;
	while ((out = http_session_pull(session)).len > 0)
	{
		assert_true(output_len + out.len < sizeof(output));
		memcpy(output + output_len, out.data, out.len);
		output_len += out.len;
	}
	output[output_len] = '\0';
	while ((date = strstr(output, "Date: ")) != NULL)
	{
		char	   *end = strchr(date, '\n') + 1;

		memmove(date, end, strlen(end) + 1);
	}
	return output;
}

static const char *
ask(const char *text)
{
	receive(text, strlen(text));
	return pull();
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: h\r\n\r\n"
#define OK(length, body) "HTTP/1.1 200 OK\r\nX-Test: ab\r\nContent-Length: " \
	length "\r\n\r\n" body

static void
test_echo(void **state UNUSED)
{
	assert_string_equal(ask("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"), OK("5", "hello"));
	assert_string_equal(ask(GET("/")), OK("0", ""));
	assert_string_equal(ask("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
							"3\r\nhel\r\n0002\r\nlo\r\n0\r\n\r\n"), OK("5", "hello"));
	/* to HEAD the length, not the body */
	assert_string_equal(ask("HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"), OK("1", ""));
	/* an empty line or two before a request */
	assert_string_equal(ask("\r\n\r\n" GET("/")), OK("0", ""));
	assert_true(http_session_has_succeeded(session));
	assert_false(http_session_is_over(session));
}

static void
test_one_byte_at_a_time(void **state UNUSED)
{
	static const char text[] = "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
		"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n" GET("/");

	for (size_t i = 0; i < sizeof(text) - 1; i++)
		assert_true(receive(text + i, 1));
	assert_string_equal(pull(), OK("5", "hello") OK("0", ""));
}

static void
test_pipelining(void **state UNUSED)
{
	assert_string_equal(ask(GET("/a") GET("/b") GET("/wait") GET("/c")), OK("0", "") OK("0", ""));
	assert_int_equal(handled.started, 3);
	assert_int_equal(http_session_streams(session), 1);
	answer(handled.last, 200, BYTES_LITERAL("late"));
	assert_string_equal(pull(), OK("4", "late") OK("0", ""));
	assert_int_equal(handled.started, 4);
}

/* who sends ahead without end is not read any more, and loses nothing */
static void
test_pipelining_is_bounded(void **state UNUSED)
{
	int			n = 0;

	ask(GET("/wait"));
	while (http_session_wants_input(session))
	{
		assert_true(receive(GET("/x"), strlen(GET("/x"))));
		assert_true(++n < 100000);
	}
	assert_int_equal(handled.started, 1);
	answer(handled.last, 200, BYTES_EMPTY);
	pull();
	assert_int_equal(handled.started, n + 1);
	assert_true(http_session_wants_input(session));
}

/* no request is begun while the answers before it wait for the client */
static void
test_unread_answers_hold_requests(void **state UNUSED)
{
	char		body[50000];
	char		head[200];

	memset(body, 'x', sizeof(body));
	snprintf(head, sizeof(head), "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", sizeof(body));
	for (int i = 0; i < 4; i++)
	{
		receive(head, strlen(head));
		receive(body, sizeof(body));
	}
	assert_int_equal(handled.started, 2);
	pull();
	assert_int_equal(handled.started, 4);
}

static void
test_close(void **state UNUSED)
{
	assert_string_equal(ask("GET / HTTP/1.1\r\nHost: h\r\nConnection: foo, Close\r\n\r\n"),
						"HTTP/1.1 200 OK\r\nX-Test: ab\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
	assert_true(http_session_is_over(session));
	assert_false(receive(GET("/"), strlen(GET("/"))));
}

static void
test_http10(void **state UNUSED)
{
	assert_string_equal(ask("GET /stream HTTP/1.0\r\n\r\n"),
						"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
	handled.last->carrier->ops->write(handled.last->carrier, BYTES_LITERAL("abc"));
	handled.last->carrier->ops->end(handled.last->carrier);
	assert_string_equal(pull(), "abc");
	assert_true(http_session_is_over(session));
}

static void
test_stream(void **state UNUSED)
{
	assert_string_equal(ask(GET("/stream")), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
	handled.last->carrier->ops->write(handled.last->carrier, BYTES_LITERAL("0123456789abcdef"));
	assert_int_equal(handled.last->carrier->ops->backlog(handled.last->carrier), 22);
	assert_string_equal(pull(), "10\r\n0123456789abcdef\r\n");
	assert_int_equal(handled.last->carrier->ops->backlog(handled.last->carrier), 0);
	assert_true(handled.turns > 0);
	handled.last->carrier->ops->end(handled.last->carrier);
	assert_string_equal(pull(), "0\r\n\r\n");
	assert_string_equal(ask(GET("/")), OK("0", ""));
}

/* given up in the middle: no last chunk, and the end */
static void
test_abort(void **state UNUSED)
{
	ask(GET("/stream"));
	handled.last->carrier->ops->write(handled.last->carrier, BYTES_LITERAL("a"));
	handled.last->carrier->ops->abort(handled.last->carrier);
	assert_string_equal(pull(), "1\r\na\r\n");
	assert_true(http_session_is_over(session));
}

static void
test_continue(void **state UNUSED)
{
	assert_string_equal(ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n"),
						"HTTP/1.1 100 Continue\r\n\r\n");
	assert_string_equal(ask("ab"), OK("2", "ab"));
	/* the answer is there already: no 100, and the body is not waited for */
	assert_string_equal(ask("POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"),
						"HTTP/1.1 404 Not Found\r\nX-Test: ab\r\nContent-Length: 5\r\n\r\nearly");
	ask("ab");
	http_session_on_timer(session, clock_coarse_ms() + 2000);
	assert_true(http_session_is_over(session));
}

/* answered early: a small rest of the body is read, a large one is not */
static void
test_early_answer(void **state UNUSED)
{
	static char zeros[100000];

	ask("POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
	assert_non_null(strstr(output, "404 Not Found"));
	assert_null(strstr(output, "Connection: close"));
	receive(zeros, sizeof(zeros));
	assert_string_equal(ask(GET("/")), OK("0", ""));

	ask("POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n");
	assert_non_null(strstr(output, "Connection: close"));
	for (int i = 0; i < 100; i++)
		assert_true(receive(zeros, sizeof(zeros)));
	assert_int_equal(handled.alive, 0);
	assert_true(http_session_wants_input(session));
	http_session_on_timer(session, clock_coarse_ms() + 2000);
	assert_true(http_session_is_over(session));
}

static void
test_handler_takes_no_body(void **state UNUSED)
{
	handled.wants_no_body = true;
	assert_string_equal(ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab"), "");
	handled.wants_no_body = false;
	assert_string_equal(pull(), OK("2", "ab"));
}

static void
test_shutdown(void **state UNUSED)
{
	ask(GET("/wait"));
	http_session_shutdown(session);
	assert_false(http_session_is_over(session));
	answer(handled.last, 200, BYTES_EMPTY);
	assert_non_null(strstr(pull(), "Connection: close"));
	assert_true(http_session_is_over(session));
}

static void
test_shutdown_ends_streams(void **state UNUSED)
{
	ask(GET("/stream"));
	http_session_shutdown(session);
	assert_string_equal(pull(), "7\r\nstopped\r\n0\r\n\r\n");
	assert_true(http_session_is_over(session));
}

static void
test_shutdown_when_idle(void **state UNUSED)
{
	ask(GET("/"));
	http_session_shutdown(session);
	assert_true(http_session_is_over(session));
}

/* ---- time ---- */

static void
test_idle(void **state UNUSED)
{
	int64_t		limit_ms = http_session_next_timer_ms(session);

	assert_true(limit_ms > clock_coarse_ms() + 290000);
	http_session_on_timer(session, limit_ms - 1);
	assert_false(http_session_is_over(session));
	http_session_on_timer(session, limit_ms);
	assert_string_equal(pull(), "");
	assert_true(http_session_is_over(session));
}

static void
test_slow_head(void **state UNUSED)
{
	int64_t		limit_ms;

	receive("GET / HT", 8);
	limit_ms = http_session_next_timer_ms(session);
	assert_true(limit_ms <= clock_coarse_ms() + 10000);
	/* a byte now and then does not help */
	receive("T", 1);
	assert_int_equal(http_session_next_timer_ms(session), limit_ms);
	http_session_on_timer(session, limit_ms);
	assert_non_null(strstr(pull(), "HTTP/1.1 408 "));
	http_session_on_timer(session, limit_ms + 2000);
	assert_true(http_session_is_over(session));
}

static void
test_slow_body(void **state UNUSED)
{
	ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n");
	http_session_on_timer(session, http_session_next_timer_ms(session));
	assert_non_null(strstr(pull(), "HTTP/1.1 408 "));
	assert_int_equal(handled.alive, 0);
}

/* the client of a stream may take his time for the next message */
static void
test_slow_stream(void **state UNUSED)
{
	ask("POST /stream HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
	assert_int_equal(http_session_next_timer_ms(session), -1);
	assert_int_equal(handled.last->body.len, 1);
}

/* ---- what is refused ---- */

static void
refused(const char *text, const char *status)
{
	setup(NULL);
	receive(text, strlen(text));
	pull();
	if (strncmp(output, "HTTP/1.1 ", 9) != 0 ||
		strncmp(output + 9, status, strlen(status)) != 0 ||
		strstr(output, "Connection: close") == NULL)
		fail_msg("got \"%s\", want %s, for \"%s\"", output, status, text);
	/* and whatever follows is thrown away */
	receive(GET("/"), strlen(GET("/")));
	assert_string_equal(pull(), "");
	assert_int_equal(handled.alive, 0);
	http_session_on_timer(session, clock_coarse_ms() + 2000);
	assert_true(http_session_is_over(session));
	http_session_destroy(session);
	mcx_destroy(mcx);
}

#define HEAD "POST / HTTP/1.1\r\nHost: h\r\n"
#define CHUNKED HEAD "Transfer-Encoding: chunked\r\n\r\n"

static void
test_refused(void **state UNUSED)
{
	static const struct
	{
		const char *text;
		const char *status;
	}			cases[] = {
		/* the request line */
		{"GET /\r\n\r\n", "505"},
		{"GET / HTTP/2.0\r\nHost: h\r\n\r\n", "505"},
		{"GET / HTTP/1.2\r\nHost: h\r\n\r\n", "505"},
		{"GET / HTTP/0.9\r\nHost: h\r\n\r\n", "505"},
		{"get / HTTP/1.1\r\nHost: h\r\n\r\n", "400"},
		{"GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n", "400"},
		{"GET h:80 HTTP/1.1\r\nHost: h\r\n\r\n", "400"},
		{"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", "400"},
		{"GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n", "400"},
		{"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n", "400"},
		{"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", "400"},
		{"GET / x HTTP/1.1\r\nHost: h\r\n\r\n", "400"},
		{"\r\n\r\n\r\n\r\n\r\n\r\n" GET("/"), "400"},
		/* lines */
		{"GET / HTTP/1.1\nHost: h\r\n\r\n", "400"},
		{"GET / HTTP/1.1\r\nHost: h\n\r\n\r\n", "400"},
		{"GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", "400"},
		{"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", "400"},
		{"GET / HTTP/1.1\r\n Host: h\r\n\r\n", "400"},
		{"GET / HTTP/1.1\r\nHost: h\r\nX : a\r\n\r\n", "400"},
		{"GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n", "400"},
		{"GET / HTTP/1.1\r\nHost: h\r\n: a\r\n\r\n", "400"},
		{"GET / HTTP/1.1\r\nHost: h\r\nX: \x7f\r\n\r\n", "400"},
		{"GET / HTTP/1.1\r\nHost: h\r\nX\x80: a\r\n\r\n", "400"},
		/* fields that count */
		{"GET / HTTP/1.1\r\n\r\n", "400"},
		{"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", "400"},
		{"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n", "400"},
		{HEAD "Expect: tea\r\n\r\n", "417"},
		{HEAD "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "400"},
		{HEAD "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "400"},
		{HEAD "Content-Length: 5, 5\r\n\r\nhello", "400"},
		{HEAD "Content-Length: +5\r\n\r\nhello", "400"},
		{HEAD "Content-Length: -5\r\n\r\nhello", "400"},
		{HEAD "Content-Length: 0x5\r\n\r\nhello", "400"},
		{HEAD "Content-Length: \r\n\r\nhello", "400"},
		{HEAD "Content-Length: 99999999999999999999\r\n\r\n", "400"},
		{HEAD "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
		{HEAD "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400"},
		{HEAD "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
		{HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"},
		{HEAD "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", ""},
		{HEAD "Transfer-Encoding: identity\r\n\r\n", ""},
		{HEAD "Transfer-Encoding: xchunked\r\n\r\n", ""},
		{"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
		/* chunks */
		{CHUNKED "x\r\n", "400"},
		{CHUNKED "\r\n", "400"},
		{CHUNKED "-1\r\n", "400"},
		{CHUNKED " 1\r\na\r\n", "400"},
		{CHUNKED "1;ext=1\r\na\r\n0\r\n\r\n", "400"},
		{CHUNKED "1\na\r\n0\r\n\r\n", "400"},
		{CHUNKED "1\r\nab\r\n0\r\n\r\n", "400"},
		{CHUNKED "1\r\na\n0\r\n\r\n", "400"},
		{CHUNKED "1\r\na\r\r\n", "400"},
		{CHUNKED "0\r\nTrailer: x\r\n\r\n", "400"},
		{CHUNKED "fffffffffffffffff\r\n", "400"},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
		refused(cases[i].text, cases[i].status);
}

static void
test_large_heads(void **state UNUSED)
{
	char	   *text = xmalloc(200000);
	size_t		n = (size_t) sprintf(text, "GET / HTTP/1.1\r\nHost: h\r\nX: ");

	memset(text + n, 'x', 60000);
	strcpy(text + n + 60000, "\r\n\r\n");
	setup(NULL);
	assert_string_equal(ask(text), OK("0", ""));
	teardown(NULL);

	memset(text + n, 'x', 70000);
	strcpy(text + n + 70000, "\r\n\r\n");
	refused(text, "431");
	/* and one that never ends */
	text[n + 70000] = '\0';
	refused(text, "431");

	n = (size_t) sprintf(text, "GET / HTTP/1.1\r\nHost: h\r\n");
	for (int i = 0; i < 300; i++)
		n += (size_t) sprintf(text + n, "a%d: b\r\n", i);
	strcpy(text + n, "\r\n");
	refused(text, "431");

	n = (size_t) sprintf(text, "GET /");
	memset(text + n, 'x', 9000);
	strcpy(text + n + 9000, " HTTP/1.1\r\nHost: h\r\n\r\n");
	refused(text, "414");
	free(text);
}

/* the head's NUL bytes cannot be said with strlen() */
static void
test_nul(void **state UNUSED)
{
	static const char text[] = "GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n";

	receive(text, sizeof(text) - 1);
	assert_non_null(strstr(pull(), "HTTP/1.1 400"));
}

static void
test_starts_here(void **state UNUSED)
{
	assert_true(http_starts_here(BYTES_LITERAL("G")));
	assert_true(http_starts_here(BYTES_LITERAL("GET / HTTP/1.1")));
	assert_true(http_starts_here(BYTES_LITERAL("OPTIONS * HTTP/1.1")));
	assert_true(http_starts_here(BYTES_LITERAL("M-SEARCH")));
	assert_true(http_starts_here(BYTES_LITERAL("\r\nGET /")));
	assert_false(http_starts_here(BYTES_LITERAL("\x16\x03\x01")));
	assert_false(http_starts_here(BYTES_LITERAL("get / HTTP/1.1")));
	assert_false(http_starts_here(BYTES_LITERAL(" GET")));
	assert_false(http_starts_here(BYTES_LITERAL("GET\t")));
}

static void
test_head_fields(void **state UNUSED)
{
	static const char text[] = "POST /v3/kv/put?a=b HTTP/1.1\r\nHOST:  h:2379 \r\n"
		"AUTHORIZATION:\tBearer x \r\nGrpc-Metadata-Token: t\r\nEmpty:\r\n"
		"Content-Length: 17\r\nConnection: keep-alive\r\n\r\n";
	MemContext *own = mcx_create(NULL, "test");
	HttpHead1	head;
	const char *why;

	assert_int_equal(httphead_parse(BYTES_LITERAL(text), own, &head, &why), 0);
	assert_true(bytes_equal_cstr(head.head.method, "POST"));
	assert_true(bytes_equal_cstr(head.head.target, "/v3/kv/put?a=b"));
	assert_true(bytes_equal_cstr(head.head.host, "h:2379"));
	assert_int_equal(head.head.body_bytes, 17);
	assert_false(head.wants_close);
	assert_int_equal(head.head.nfields, 4);
	assert_true(bytes_equal_cstr(head.head.fields[0].name, "authorization"));
	assert_true(bytes_equal_cstr(head.head.fields[0].value, "Bearer x"));
	assert_true(bytes_equal_cstr(head.head.fields[1].name, "grpc-metadata-token"));
	assert_true(bytes_equal_cstr(head.head.fields[2].name, "empty"));
	assert_int_equal(head.head.fields[2].value.len, 0);
	mcx_destroy(own);
}

#define SESSION_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SESSION_TEST(test_echo),
		SESSION_TEST(test_one_byte_at_a_time),
		SESSION_TEST(test_pipelining),
		SESSION_TEST(test_pipelining_is_bounded),
		SESSION_TEST(test_unread_answers_hold_requests),
		SESSION_TEST(test_close),
		SESSION_TEST(test_http10),
		SESSION_TEST(test_stream),
		SESSION_TEST(test_abort),
		SESSION_TEST(test_continue),
		SESSION_TEST(test_early_answer),
		SESSION_TEST(test_handler_takes_no_body),
		SESSION_TEST(test_shutdown),
		SESSION_TEST(test_shutdown_ends_streams),
		SESSION_TEST(test_shutdown_when_idle),
		SESSION_TEST(test_idle),
		SESSION_TEST(test_slow_head),
		SESSION_TEST(test_slow_body),
		SESSION_TEST(test_slow_stream),
		SESSION_TEST(test_nul),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_large_heads),
		cmocka_unit_test(test_starts_here),
		cmocka_unit_test(test_head_fields),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
