/*
 * t_websocket.c
 *	  A WebSocket: handshake, messages, and every rule that a client may break.
 *	  Behind it is the handler that echoes.
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
#include "gateway/jsonsplit.h"

#include "http_echo.h"

int64_t		guc_http_header_timeout = 10000;
int64_t		guc_http_idle_timeout = 300000;
int64_t		guc_max_request_bytes = 1024;

enum
{
	CONTINUATION = 0x0,
	TEXT = 0x1,
	BINARY = 0x2,
	CLOSE = 0x8,
	PING = 0x9,
	PONG = 0xa,
	FIN = 0x80
};

static MemContext *mcx;
static HttpSession *session;
/* what came and was not yet looked at */
static Buf	output;

static int
setup(void **state UNUSED)
{
	HttpConn	conn = {.is_tls = false};

	memset(&handled, 0, sizeof(handled));
	mcx = mcx_create(NULL, "test");
	session = http_session_create(mcx, &conn, &echo);
	buf_init(&output, NULL);
	return 0;
}

static int
teardown(void **state UNUSED)
{
	http_session_destroy(session);
	assert_int_equal(handled.alive, 0);
	buf_free(&output);
	mcx_destroy(mcx);
	return 0;
}

static void
receive(Bytes data)
{
	http_session_receive(session, data);
}

static void
pull(void)
{
	Bytes		out;

	while ((out = http_session_pull(session)).len > 0)
		buf_append(&output, out.data, out.len);
}

static void
drop(size_t n)
{
	memmove(output.data, output.data + n, output.len - n);
	output.len -= n;
}

/* ---- the handshake ---- */

#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define UPGRADE "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define HEAD(path) "GET " path " HTTP/1.1\r\nHost: h\r\n"
#define SWITCHED "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n" \
	"Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"

static const char *
ask(const char *head)
{
	receive(bytes_from_cstr(head));
	pull();
	buf_put_u8(&output, '\0');
	output.len--;
	return (const char *) output.data;
}

static void
open_path(const char *head)
{
	assert_string_equal(ask(head), SWITCHED "\r\n");
	output.len = 0;
}

static void
open_one(void)
{
	open_path(HEAD("/ws") UPGRADE KEY VERSION "\r\n");
}

static void
test_handshake(void **state UNUSED)
{
	/* the key and its answer are those of RFC 6455 1.3 */
	open_one();
	assert_int_equal(handled.started, 1);
	assert_true(handled.last->head->is_websocket);
	assert_int_equal(http_session_streams(session), 1);
	/* a handshake is no request that has succeeded */
	assert_false(http_session_has_succeeded(session));
}

static void
test_handshake_words(void **state UNUSED)
{
	open_path(HEAD("/ws") "upgrade: foo, WebSocket\r\nconnection: keep-alive, UPGRADE\r\n"
			  "Sec-WebSocket-Extensions: permessage-deflate\r\n"
			  "Sec-WebSocket-Protocol: chat, superchat\r\n" KEY VERSION "\r\n");
}

static void
test_token(void **state UNUSED)
{
	const HttpHead *head;
	int			found = 0;

	assert_string_equal(ask(HEAD("/ws") UPGRADE KEY VERSION "Sec-WebSocket-Protocol: Bearer, abc.17\r\n\r\n"),
						SWITCHED "Sec-WebSocket-Protocol: Bearer\r\n\r\n");
	head = handled.last->head;
	for (uint32_t i = 0; i < head->nfields; i++)
	{
		assert_false(bytes_equal_cstr(head->fields[i].name, "sec-websocket-protocol"));
		if (bytes_equal_cstr(head->fields[i].name, "authorization"))
		{
			assert_true(bytes_equal_cstr(head->fields[i].value, "abc.17"));
			found++;
		}
	}
	assert_int_equal(found, 1);
}

/* an ordinary request, which is answered as ever */
static void
test_no_websocket(void **state UNUSED)
{
	static const char *const heads[] = {
		HEAD("/") KEY VERSION "\r\n",
		HEAD("/") "Upgrade: websocket\r\n" KEY VERSION "\r\n",
		HEAD("/") "Connection: upgrade\r\n" KEY VERSION "\r\n",
		HEAD("/") "Upgrade: websockets\r\nConnection: upgrade\r\n" KEY VERSION "\r\n",
		HEAD("/") "Upgrade: h2c\r\nConnection: upgrade\r\n\r\n",
		"GET / HTTP/1.0\r\nHost: h\r\n" UPGRADE KEY VERSION "\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\n" UPGRADE KEY VERSION "Content-Length: 0\r\n\r\n",
	};

	for (size_t i = 0; i < lengthof(heads); i++)
	{
		setup(NULL);
		if (strncmp(ask(heads[i]), "HTTP/1.1 200 OK\r\n", 17) != 0)
			fail_msg("got \"%s\" for \"%s\"", (char *) output.data, heads[i]);
		assert_int_equal(handled.started, 1);
		teardown(NULL);
	}
}

/* the handler has another answer than 101 */
static void
test_refused_by_handler(void **state UNUSED)
{
	assert_non_null(strstr(ask(HEAD("/early") UPGRADE KEY VERSION "\r\n"), "HTTP/1.1 404 Not Found\r\n"));
	output.len = 0;
	/* and the connection goes on */
	assert_non_null(strstr(ask(HEAD("/") "\r\n"), "HTTP/1.1 200 OK\r\n"));
}

static void
test_bad_handshakes(void **state UNUSED)
{
	static const struct
	{
		const char *head;
		const char *status;
	}			cases[] = {
		{HEAD("/ws") UPGRADE KEY "\r\n", "426"},
		{HEAD("/ws") UPGRADE KEY "Sec-WebSocket-Version: 8\r\n\r\n", "426"},
		{HEAD("/ws") UPGRADE KEY "Sec-WebSocket-Version: 13, 8\r\n\r\n", "426"},
		{HEAD("/ws") UPGRADE KEY VERSION VERSION "\r\n", "400"},
		{HEAD("/ws") UPGRADE KEY KEY VERSION "\r\n", "400"},
		{HEAD("/ws") UPGRADE VERSION "\r\n", "400"},
		{HEAD("/ws") UPGRADE VERSION "Sec-WebSocket-Key: \r\n\r\n", "400"},
		{HEAD("/ws") UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n\r\n", "400"},
		{HEAD("/ws") UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQA=\r\n\r\n", "400"},
		{HEAD("/ws") UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j-Q==\r\n\r\n", "400"},
		{HEAD("/ws") UPGRADE KEY VERSION "Content-Length: 1\r\n\r\nx", "400"},
		{HEAD("/ws") UPGRADE KEY VERSION "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
		{HEAD("/ws") UPGRADE KEY VERSION "Sec-WebSocket-Protocol: Bearer\r\n\r\n", "400"},
		{HEAD("/ws") UPGRADE KEY VERSION "Sec-WebSocket-Protocol: Bearer,\r\n\r\n", "400"},
		{HEAD("/ws") UPGRADE KEY VERSION "Sec-WebSocket-Protocol: Bearer, a, b\r\n\r\n", "400"},
		{HEAD("/ws") UPGRADE KEY VERSION "Sec-WebSocket-Protocol: Bearer, a\r\n"
		"Sec-WebSocket-Protocol: Bearer, b\r\n\r\n", "400"},
		{HEAD("/ws") UPGRADE KEY VERSION "Authorization: a\r\nSec-WebSocket-Protocol: Bearer, b\r\n\r\n", "400"},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		const char *text;

		setup(NULL);
		text = ask(cases[i].head);
		if (strncmp(text, "HTTP/1.1 ", 9) != 0 || strncmp(text + 9, cases[i].status, 3) != 0 ||
			strstr(text, "Connection: close\r\n") == NULL)
			fail_msg("got \"%s\", want %s, for \"%s\"", text, cases[i].status, cases[i].head);
		assert_int_equal(strstr(text, "\r\nSec-WebSocket-Version: 13\r\n") != NULL,
						 strcmp(cases[i].status, "426") == 0);
		assert_int_equal(handled.started, 0);
		teardown(NULL);
	}
}

/* ---- frames ---- */

static void
put_frame(Buf *to, unsigned first, Bytes payload)
{
	static const uint8_t mask[] = {0x37, 0xfa, 0x21, 0x3d};

	buf_put_u8(to, (uint8_t) first);
	if (payload.len < 126)
		buf_put_u8(to, (uint8_t) (0x80 | payload.len));
	else if (payload.len < 65536)
	{
		buf_put_u8(to, 0x80 | 126);
		buf_put_u8(to, (uint8_t) (payload.len >> 8));
		buf_put_u8(to, (uint8_t) payload.len);
	}
	else
	{
		buf_put_u8(to, 0x80 | 127);
		buf_put_u64be(to, payload.len);
	}
	buf_append(to, mask, sizeof(mask));
	for (size_t i = 0; i < payload.len; i++)
		buf_put_u8(to, payload.data[i] ^ mask[i % 4]);
}

static void
send_frame(unsigned first, Bytes payload)
{
	Buf			frame;

	buf_init(&frame, NULL);
	put_frame(&frame, first, payload);
	receive(buf_bytes(&frame));
	buf_free(&frame);
}

#define SEND(first, text) send_frame(first, BYTES_LITERAL(text))
#define NORMAL_CLOSE "\x03\xe8"

/* the next frame of the server's; 0: none */
static unsigned
next_frame(Buf *payload)
{
	size_t		n = 2;
	uint64_t	len;
	unsigned	first;

	pull();
	payload->len = 0;
	if (output.len == 0)
		return 0;
	assert_true(output.len >= 2);
	first = output.data[0];
	len = output.data[1];
	/* a server does not mask */
	assert_true(len < 0x80);
	if (len == 126)
	{
		len = (uint64_t) output.data[2] << 8 | output.data[3];
		assert_true(len > 125);
		n = 4;
	}
	else if (len == 127)
	{
		Cursor		cursor = cursor_make(bytes_make(output.data + 2, 8));

		assert_true(cursor_get_u64be(&cursor, &len) && len > 65535);
		n = 10;
	}
	assert_true(output.len >= n + len);
	buf_append(payload, output.data + n, len);
	drop(n + len);
	return first;
}

static void
expect_frame(unsigned first, Bytes want)
{
	Buf			payload;

	buf_init(&payload, NULL);
	assert_int_equal(next_frame(&payload), first);
	assert_int_equal(payload.len, want.len);
	if (want.len > 0)
		assert_memory_equal(payload.data, want.data, want.len);
	buf_free(&payload);
}

#define EXPECT(first, text) expect_frame(first, BYTES_LITERAL(text))

static void
expect_nothing(void)
{
	pull();
	assert_int_equal(output.len, 0);
}

/* a Close with this code, and then nothing but the end */
static void
expect_failure(unsigned code)
{
	Buf			payload;

	buf_init(&payload, NULL);
	assert_int_equal(next_frame(&payload), FIN | CLOSE);
	assert_true(payload.len > 2 && payload.len <= 125);
	assert_int_equal(payload.data[0] << 8 | payload.data[1], code);
	buf_free(&payload);
	assert_int_equal(handled.alive, 0);
	SEND(FIN | TEXT, "more");
	SEND(FIN | PING, "");
	expect_nothing();
	http_session_on_timer(session, http_session_next_timer_ms(session));
	assert_true(http_session_is_over(session));
}

static void
write_message(const char *text)
{
	handled.last->carrier->ops->write(handled.last->carrier, bytes_from_cstr(text));
}

static void
test_messages(void **state UNUSED)
{
	open_path(HEAD("/stream") UPGRADE KEY VERSION "\r\n");
	SEND(FIN | TEXT, "{1}");
	SEND(FIN | BINARY, "{\x80\xff}");
	assert_memory_equal(handled.last->body.data, "{1}{\x80\xff}", 7);
	write_message("one\n");
	write_message("two");
	write_message("");
	EXPECT(FIN | TEXT, "one");
	EXPECT(FIN | TEXT, "two");
	EXPECT(FIN | TEXT, "");
	expect_nothing();
	assert_true(http_session_has_succeeded(session));
}

/* answered before the client closes, as every unary call is */
static void
test_answer_closes(void **state UNUSED)
{
	open_one();
	SEND(FIN | TEXT, "hello");
	answer(handled.last, 200, BYTES_LITERAL("world"));
	EXPECT(FIN | TEXT, "world");
	EXPECT(FIN | CLOSE, NORMAL_CLOSE);
	expect_nothing();
	assert_int_equal(handled.alive, 0);
	/* what is still on its way does not count; pings neither */
	SEND(FIN | TEXT, "more");
	SEND(FIN | PING, "ping");
	expect_nothing();
	assert_false(http_session_is_over(session));
	SEND(FIN | CLOSE, NORMAL_CLOSE);
	expect_nothing();
	assert_true(http_session_is_over(session));
}

static void
test_answer_and_no_close_from_client(void **state UNUSED)
{
	int64_t		limit_ms;

	open_one();
	SEND(FIN | TEXT, "hello");
	answer(handled.last, 200, BYTES_EMPTY);
	pull();
	limit_ms = http_session_next_timer_ms(session);
	assert_true(limit_ms <= clock_coarse_ms() + 5000);
	http_session_on_timer(session, limit_ms - 1);
	assert_false(http_session_is_over(session));
	http_session_on_timer(session, limit_ms);
	assert_true(http_session_is_over(session));
}

/* the client's Close ends the body; the answer comes before ours */
static void
test_client_closes(void **state UNUSED)
{
	open_one();
	SEND(FIN | TEXT, "hello");
	SEND(FIN | CLOSE, "\x0f\xa1" "bye");
	EXPECT(FIN | TEXT, "hello");
	EXPECT(FIN | CLOSE, "\x0f\xa1");
	assert_true(http_session_is_over(session));
}

static void
test_client_closes_without_code(void **state UNUSED)
{
	open_one();
	SEND(FIN | CLOSE, "");
	EXPECT(FIN | TEXT, "");
	EXPECT(FIN | CLOSE, "");
	assert_true(http_session_is_over(session));
}

/* an answer that does not end is not waited for for ever */
static void
test_client_closes_and_answer_lasts(void **state UNUSED)
{
	int64_t		limit_ms;

	open_path(HEAD("/stream") UPGRADE KEY VERSION "\r\n");
	SEND(FIN | CLOSE, NORMAL_CLOSE);
	write_message("late");
	EXPECT(FIN | TEXT, "late");
	expect_nothing();
	/* not read any more */
	SEND(FIN | PING, "x");
	expect_nothing();
	limit_ms = http_session_next_timer_ms(session);
	assert_true(limit_ms <= clock_coarse_ms() + 5000);
	http_session_on_timer(session, limit_ms);
	EXPECT(FIN | CLOSE, NORMAL_CLOSE);
	assert_int_equal(handled.alive, 0);
	assert_true(http_session_is_over(session));
}

static void
test_abort(void **state UNUSED)
{
	open_one();
	handled.last->carrier->ops->abort(handled.last->carrier);
	EXPECT(FIN | CLOSE, "\x03\xf3");
}

static void
test_fragments(void **state UNUSED)
{
	open_path(HEAD("/stream") UPGRADE KEY VERSION "\r\n");
	SEND(TEXT, "a\xe2");
	SEND(FIN | PING, "in between");
	EXPECT(FIN | PONG, "in between");
	SEND(CONTINUATION, "");
	SEND(CONTINUATION, "\x82");
	SEND(FIN | CONTINUATION, "\xac" "b");
	SEND(FIN | TEXT, "");
	SEND(BINARY, "");
	SEND(FIN | CONTINUATION, "c");
	assert_int_equal(handled.last->body.len, 6);
	assert_memory_equal(handled.last->body.data, "a\xe2\x82\xac" "bc", 6);
	expect_nothing();
}

static void
test_one_byte_at_a_time(void **state UNUSED)
{
	static char large[70000];
	static char medium[300];
	Buf			all;

	memset(large, 'l', sizeof(large));
	memset(medium, 'm', sizeof(medium));
	buf_init(&all, NULL);
	buf_append(&all, HEAD("/ws") UPGRADE KEY VERSION "\r\n", strlen(HEAD("/ws") UPGRADE KEY VERSION "\r\n"));
	put_frame(&all, FIN | TEXT, BYTES_LITERAL("x"));
	put_frame(&all, TEXT, bytes_make(medium, sizeof(medium)));
	put_frame(&all, FIN | PING, BYTES_LITERAL("p"));
	put_frame(&all, FIN | CONTINUATION, bytes_make(large, sizeof(large)));
	put_frame(&all, FIN | CLOSE, BYTES_LITERAL(NORMAL_CLOSE));
	for (size_t i = 0; i < all.len; i++)
		receive(bytes_make(all.data + i, 1));
	buf_free(&all);
	pull();
	drop(strlen(SWITCHED "\r\n"));
	EXPECT(FIN | PONG, "p");
	buf_init(&all, NULL);
	assert_int_equal(next_frame(&all), FIN | TEXT);
	assert_int_equal(all.len, 1 + sizeof(medium) + sizeof(large));
	assert_true(all.data[0] == 'x' && all.data[1] == 'm' && all.data[all.len - 1] == 'l');
	buf_free(&all);
	EXPECT(FIN | CLOSE, NORMAL_CLOSE);
	assert_true(http_session_is_over(session));
}

static void
test_sizes_of_answers(void **state UNUSED)
{
	static const size_t sizes[] = {0, 125, 126, 65535, 65536, 300000};
	static char text[300000];
	Buf			got;

	memset(text, 't', sizeof(text));
	open_path(HEAD("/stream") UPGRADE KEY VERSION "\r\n");
	buf_init(&got, NULL);
	for (size_t i = 0; i < lengthof(sizes); i++)
	{
		HttpCarrier *carrier = handled.last->carrier;

		carrier->ops->write(carrier, bytes_make(text, sizes[i]));
		assert_true(carrier->ops->backlog(carrier) >= sizes[i]);
		assert_int_equal(next_frame(&got), FIN | TEXT);
		assert_int_equal(got.len, sizes[i]);
		assert_int_equal(carrier->ops->backlog(carrier), 0);
	}
	buf_free(&got);
}

/* ---- rules that a client may break ---- */

static void
test_protocol_errors(void **state UNUSED)
{
	static const struct
	{
		Bytes		input;
		unsigned	code;
	}			cases[] = {
#define CASE(text, code) {BYTES_LITERAL(text), code}
		/* not masked, and with bytes to come */
		CASE("\x81\x01x", 1002),
		CASE("\x81\x7e\x10\x00x", 1002),
		CASE("\x88\x00", 1002),
		/* reserved bits and opcodes */
		CASE("\xc1\x81" "0000" "H", 1002),
		CASE("\xa1\x80" "0000", 1002),
		CASE("\x91\x80" "0000", 1002),
		CASE("\xc9\x80" "0000", 1002),
		CASE("\x83\x80" "0000", 1002),
		CASE("\x87\x80" "0000", 1002),
		CASE("\x8b\x80" "0000", 1002),
		CASE("\x8f\x80" "0000", 1002),
		/* fragments that do not fit */
		CASE("\x80\x80" "0000", 1002),
		CASE("\x00\x80" "0000", 1002),
		CASE("\x01\x80" "0000" "\x81\x80" "0000", 1002),
		CASE("\x01\x80" "0000" "\x80\x80" "0000" "\x80\x80" "0000", 1002),
		/* control frames in pieces, or too long */
		CASE("\x09\x80" "0000", 1002),
		CASE("\x08\x80" "0000", 1002),
		CASE("\x89\xfe\x00\x7e" "0000", 1002),
		/* lengths with more bytes than they need, or with a sign */
		CASE("\x81\xfe\x00\x01" "0000" "H", 1002),
		CASE("\x81\xff\x00\x00\x00\x00\x00\x00\xff\xff" "0000", 1002),
		CASE("\x81\xff\x80\x00\x00\x00\x00\x01\x00\x00" "0000", 1002),
		/* Close: one byte, codes that nobody may send, no UTF-8 */
		CASE("\x88\x81" "\0\0\0\0" "\x03", 1002),
		CASE("\x88\x82" "\0\0\0\0" "\x00\x00", 1002),
		CASE("\x88\x82" "\0\0\0\0" "\x03\xe7", 1002),
		CASE("\x88\x82" "\0\0\0\0" "\x03\xec", 1002),
		CASE("\x88\x82" "\0\0\0\0" "\x03\xed", 1002),
		CASE("\x88\x82" "\0\0\0\0" "\x03\xee", 1002),
		CASE("\x88\x82" "\0\0\0\0" "\x03\xf7", 1002),
		CASE("\x88\x82" "\0\0\0\0" "\x0b\xb7", 1002),
		CASE("\x88\x82" "\0\0\0\0" "\x13\x88", 1002),
		CASE("\x88\x83" "\0\0\0\0" "\x03\xe8\xff", 1007),
		CASE("\x88\x83" "\0\0\0\0" "\x03\xe8\xc3", 1007),
		/* text that is no UTF-8 */
		CASE("\x81\x81" "\0\0\0\0" "\x80", 1007),
		CASE("\x81\x81" "\0\0\0\0" "\xff", 1007),
		CASE("\x81\x82" "\0\0\0\0" "\xc0\x80", 1007),
		CASE("\x81\x82" "\0\0\0\0" "\xc1\xbf", 1007),
		CASE("\x81\x83" "\0\0\0\0" "\xe0\x9f\xbf", 1007),
		CASE("\x81\x83" "\0\0\0\0" "\xed\xa0\x80", 1007),
		CASE("\x81\x84" "\0\0\0\0" "\xf0\x8f\xbf\xbf", 1007),
		CASE("\x81\x84" "\0\0\0\0" "\xf4\x90\x80\x80", 1007),
		CASE("\x81\x82" "\0\0\0\0" "\xc3(", 1007),
		/* a character that is cut off, and one that is cut off later */
		CASE("\x81\x82" "\0\0\0\0" "\xe2\x82", 1007),
		CASE("\x01\x81" "\0\0\0\0" "\xe2" "\x80\x81" "\0\0\0\0" "\x82", 1007),
		CASE("\x01\x81" "\0\0\0\0" "\xe2" "\x80\x80" "\0\0\0\0", 1007),
#undef CASE
	};

	for (size_t i = 0; i < lengthof(cases); i++)
		/* at once, and one byte after the other */
		for (size_t step = 1; step < 100; step += 98)
		{
			setup(NULL);
			print_message("case %zu, %zu bytes at a time\n", i, step);
			open_one();
			for (size_t at = 0; at < cases[i].input.len; at += step)
				receive(bytes_make(cases[i].input.data + at,
								   size_min(step, cases[i].input.len - at)));
			expect_failure(cases[i].code);
			teardown(NULL);
		}
}

static void
test_sound_text(void **state UNUSED)
{
	/* the first and the last of each length, and those beside the surrogates */
	static const char text[] = "\x01\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"
		"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf";

	open_one();
	SEND(FIN | TEXT, "\x01\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"
		 "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
	SEND(FIN | CLOSE, "\x0b\xb8");
	expect_frame(FIN | TEXT, BYTES_LITERAL(text));
	EXPECT(FIN | CLOSE, "\x0b\xb8");
}

/* as large as a body may be, in one piece or in many, and not a byte more */
static void
test_size_of_message(void **state UNUSED)
{
	size_t		max = json_max_bytes();
	char	   *text = xmalloc(max + 1);

	memset(text, ' ', max + 1);
	open_path(HEAD("/stream") UPGRADE KEY VERSION "\r\n");
	send_frame(FIN | TEXT, bytes_make(text, max));
	send_frame(TEXT, bytes_make(text, max - 1));
	SEND(FIN | CONTINUATION, "x");
	assert_int_equal(handled.last->body.len, 2 * max);
	expect_nothing();
	send_frame(TEXT, bytes_make(text, max));
	SEND(FIN | CONTINUATION, "x");
	expect_failure(1009);
	teardown(NULL);

	setup(NULL);
	open_one();
	send_frame(FIN | BINARY, bytes_make(text, max + 1));
	expect_failure(1009);
	teardown(NULL);

	/* it is refused when it is announced */
	setup(NULL);
	open_one();
	receive(BYTES_LITERAL("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff" "0000" "x"));
	expect_failure(1009);
	free(text);
}

/* ---- bounds ---- */

static void
test_handler_takes_no_body(void **state UNUSED)
{
	open_one();
	handled.wants_no_body = true;
	SEND(FIN | TEXT, "a");
	SEND(FIN | PING, "p");
	SEND(FIN | TEXT, "b");
	assert_int_equal(handled.last->body.len, 0);
	/* nor is he late with it, or silent */
	assert_int_equal(http_session_next_timer_ms(session), -1);
	for (int i = 0; i < 100 && http_session_wants_input(session); i++)
	{
		char		text[4000] = {0};

		send_frame(FIN | BINARY, bytes_make(text, sizeof(text)));
	}
	assert_false(http_session_wants_input(session));
	handled.wants_no_body = false;
	EXPECT(FIN | PONG, "p");
	assert_memory_equal(handled.last->body.data, "ab", 2);
	assert_true(http_session_wants_input(session));
}

/* pings are answered as the client takes the answers */
static void
test_ping_flood(void **state UNUSED)
{
	char		payload[125] = "p";
	size_t		sent = 0;
	size_t		got = 0;
	Bytes		out;

	open_one();
	while (http_session_wants_input(session))
	{
		assert_true(++sent < 10000);
		send_frame(FIN | PING, bytes_make(payload, sizeof(payload)));
	}
	assert_true(handled.last->carrier->ops->backlog(handled.last->carrier) < 70 * 1024);
	while ((out = http_session_pull(session)).len > 0)
	{
		assert_true(out.len < 70 * 1024);
		got += out.len;
	}
	assert_int_equal(got, sent * (2 + sizeof(payload)));
	assert_true(http_session_wants_input(session));
}

/* ---- time ---- */

static void
test_first_message_is_late(void **state UNUSED)
{
	int64_t		limit_ms;

	open_one();
	limit_ms = http_session_next_timer_ms(session);
	assert_true(limit_ms <= clock_coarse_ms() + 60000);
	/* a ping now and then is no message */
	SEND(FIN | PING, "");
	EXPECT(FIN | PONG, "");
	assert_int_equal(http_session_next_timer_ms(session), limit_ms);
	http_session_on_timer(session, limit_ms - 1);
	expect_nothing();
	http_session_on_timer(session, limit_ms);
	expect_failure(1008);
}

static void
test_message_is_late(void **state UNUSED)
{
	int64_t		limit_ms;

	open_one();
	SEND(FIN | TEXT, "whole");
	assert_true(http_session_next_timer_ms(session) > clock_coarse_ms() + 290000);
	SEND(TEXT, "part");
	limit_ms = http_session_next_timer_ms(session);
	assert_true(limit_ms <= clock_coarse_ms() + 60000);
	SEND(CONTINUATION, "");
	assert_int_equal(http_session_next_timer_ms(session), limit_ms);
	http_session_on_timer(session, limit_ms);
	expect_failure(1008);
}

/* who only listens is asked whether he is still there */
static void
test_silence(void **state UNUSED)
{
	int64_t		limit_ms;

	open_path(HEAD("/stream") UPGRADE KEY VERSION "\r\n");
	SEND(FIN | TEXT, "{}");
	for (int i = 0; i < 3; i++)
	{
		limit_ms = http_session_next_timer_ms(session);
		http_session_on_timer(session, limit_ms - 1);
		expect_nothing();
		http_session_on_timer(session, limit_ms);
		EXPECT(FIN | PING, "");
		SEND(FIN | PONG, "");
	}
	limit_ms = http_session_next_timer_ms(session);
	http_session_on_timer(session, limit_ms);
	EXPECT(FIN | PING, "");
	assert_int_equal(http_session_next_timer_ms(session), limit_ms + guc_http_idle_timeout);
	http_session_on_timer(session, limit_ms + guc_http_idle_timeout - 1);
	assert_false(http_session_is_over(session));
	http_session_on_timer(session, limit_ms + guc_http_idle_timeout);
	expect_nothing();
	assert_int_equal(handled.alive, 0);
	assert_true(http_session_is_over(session));
}

/* while answers wait for the client, client_send_timeout counts */
static void
test_no_ping_behind_output(void **state UNUSED)
{
	open_path(HEAD("/stream") UPGRADE KEY VERSION "\r\n");
	SEND(FIN | TEXT, "{}");
	write_message("waits");
	assert_int_equal(http_session_next_timer_ms(session), -1);
	EXPECT(FIN | TEXT, "waits");
	assert_true(http_session_next_timer_ms(session) > 0);
}

static void
test_shutdown(void **state UNUSED)
{
	open_path(HEAD("/stream") UPGRADE KEY VERSION "\r\n");
	http_session_shutdown(session);
	EXPECT(FIN | TEXT, "stopped");
	EXPECT(FIN | CLOSE, "\x03\xe9");
	assert_false(http_session_is_over(session));
	SEND(FIN | CLOSE, "\x03\xe9");
	assert_true(http_session_is_over(session));
}

#define SESSION_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SESSION_TEST(test_handshake),
		SESSION_TEST(test_handshake_words),
		SESSION_TEST(test_token),
		cmocka_unit_test(test_no_websocket),
		SESSION_TEST(test_refused_by_handler),
		cmocka_unit_test(test_bad_handshakes),
		SESSION_TEST(test_messages),
		SESSION_TEST(test_answer_closes),
		SESSION_TEST(test_answer_and_no_close_from_client),
		SESSION_TEST(test_client_closes),
		SESSION_TEST(test_client_closes_without_code),
		SESSION_TEST(test_client_closes_and_answer_lasts),
		SESSION_TEST(test_abort),
		SESSION_TEST(test_fragments),
		SESSION_TEST(test_one_byte_at_a_time),
		SESSION_TEST(test_sizes_of_answers),
		cmocka_unit_test(test_protocol_errors),
		SESSION_TEST(test_sound_text),
		SESSION_TEST(test_size_of_message),
		SESSION_TEST(test_handler_takes_no_body),
		SESSION_TEST(test_ping_flood),
		SESSION_TEST(test_first_message_is_late),
		SESSION_TEST(test_message_is_late),
		SESSION_TEST(test_silence),
		SESSION_TEST(test_no_ping_behind_output),
		SESSION_TEST(test_shutdown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
