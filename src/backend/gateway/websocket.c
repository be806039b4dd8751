/*
 * websocket.c
 *	  A connection that has become a WebSocket (RFC 6455): handshake, messages
 *	  both ways, and its end.
 *
 *	OPEN --the client's Close--> ENDED --the answer is over--> OVER
 *	 | '--the answer is over--> CLOSING --the client's Close--> OVER
 *	 '--the client breaks a rule--> FAILED
 *
 * wslay reads and writes the frames: headers, masks, lengths.  Of it only that
 * part is used: its messages are kept in memory that nobody overwrites, and it
 * answers a Close at once, while here an answer that is under way goes first.
 * So what frames may follow each other, UTF-8 and Close codes are checked here.
 *
 * Messages are not collected: each piece goes on as it comes, because the
 * request's JSON is cut by jsonsplit.c anyway, wherever messages end.
 *
 * Time: a message comes at 8 kB/s or better, as a body does, and the first one
 * within a minute.  A client who is silent for http_idle_timeout is pinged, and
 * is gone if it is silent for as long again.  Extensions (RFC 7692: compressed
 * messages) are not offered.
 */
#include "server.h"

/* libraries */
#include <openssl/evp.h>
#include <wslay/wslay.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/guc.h"

/* this layer and below */
#include "dispatch/arrival.h"
#include "gateway/jsonsplit.h"
#include "gateway/websocket.h"

/* RFC 6455 1.3 */
#define ACCEPT_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#define KEY_BYTES 24			/* 16 in base64 */
#define SHA1_BYTES 20
#define SUBPROTOCOL "Bearer"

#define CONTROL_MAX_BYTES 125
/* of pongs that wait to be sent, before the next ping is read */
#define PONGS_MAX_BYTES (64 * 1024)
/* for the rest of an answer after the client's Close, or for his after ours */
#define CLOSE_MS 5000

/* RFC 6455 7.4.1; the others are in the header */
#define CODE_PROTOCOL_ERROR 1002
#define CODE_NONE 1005			/* never sent */
#define CODE_ABNORMAL 1006		/* never sent */
#define CODE_INVALID_TEXT 1007
#define CODE_POLICY 1008
#define CODE_TOO_BIG 1009

/* the UTF-8 of a text so far: bytes its last character lacks, and their range */
typedef struct Utf8
{
	unsigned	left;
	uint8_t		low;
	uint8_t		high;
} Utf8;

struct WebSocket
{
	WebSocketState state;
	Buf		   *out;
	struct wslay_frame_context *frames;

	/* for the callback of wslay: from where to read, and that all is read */
	Cursor	   *input;
	bool		is_starved;

	/* the frame under way, and the message that it belongs to */
	uint64_t	frame_left;
	bool		in_message;
	bool		is_text;
	Utf8		utf8;
	uint64_t	message_bytes;	/* as far as announced */
	size_t		received_bytes;
	int64_t		message_ms;		/* when it began; at first, the connection */
	bool		has_message;	/* one has come */

	uint8_t		control[CONTROL_MAX_BYTES];
	size_t		control_len;
	size_t		pong_bytes;
	unsigned	client_code;	/* of the client's Close */
	int64_t		close_ms;		/* when the first Close came or went */
	int64_t		heard_ms;		/* when the client last sent something */
	bool		is_pinged;		/* since ping_ms, and not heard since */
	int64_t		ping_ms;
};

static HttpField *find_once(HttpHead *head, const char *name, bool *is_twice);
static bool is_key(Bytes key);
static int	take_subprotocol(HttpHead1 *head, HttpField *field,
							 const char **why);
static void put_accept(Buf *out, Bytes key);
static ssize_t feed(uint8_t *to, size_t size, int flags, void *arg);
static ssize_t put(const uint8_t *data, size_t len, int flags, void *arg);
static Bytes take_frame(WebSocket *ws, const struct wslay_frame_iocb *frame);
static bool begin_frame(WebSocket *ws, const struct wslay_frame_iocb *frame);
static Bytes take_text(WebSocket *ws, const struct wslay_frame_iocb *frame);
static void take_control(WebSocket *ws, const struct wslay_frame_iocb *frame);
static void take_close(WebSocket *ws, Bytes payload);
static bool is_close_code(unsigned code);
static void fail(WebSocket *ws, unsigned code, const char *why);
static void put_frame(WebSocket *ws, uint8_t opcode, Bytes payload);
static void put_close(WebSocket *ws, unsigned code, const char *why);
static void wipe_received(WebSocket *ws);
static int64_t arrival_limit_ms(const WebSocket *ws);
static int64_t silence_limit_ms(const WebSocket *ws);
static bool utf8_take(Utf8 *utf8, Bytes text);
static bool utf8_begin(Utf8 *utf8, uint8_t c);

/* ---- the handshake ---- */

int
websocket_check_head(HttpHead1 *head1, const char **why)
{
	HttpHead   *head = &head1->head;
	bool		is_twice = false;
	HttpField  *version;
	HttpField  *key;
	HttpField  *protocol;

	if (!head1->wants_upgrade || !head1->names_websocket || head1->is_http10 ||
		!bytes_equal_cstr(head->method, "GET"))
		return 0;
	version = find_once(head, "sec-websocket-version", &is_twice);
	key = find_once(head, "sec-websocket-key", &is_twice);
	protocol = find_once(head, "sec-websocket-protocol", &is_twice);
	if (is_twice)
	{
		*why = "a field of the WebSocket handshake is given twice";
		return 400;
	}
	if (version == NULL || !bytes_equal_cstr(version->value, "13"))
	{
		*why = "the version of WebSocket is 13";
		return 426;
	}
	if (key == NULL || !is_key(key->value))
	{
		*why = "malformed Sec-WebSocket-Key";
		return 400;
	}
	if (head->body_bytes != 0)
	{
		*why = "a request for a WebSocket has no body";
		return 400;
	}
	head->is_websocket = true;
	head1->websocket_key = key->value;
	return protocol == NULL ? 0 : take_subprotocol(head1, protocol, why);
}

WebSocket *
websocket_create(MemContext *mcx, const HttpHead1 *head, Buf *out)
{
	static const struct wslay_frame_callbacks callbacks = {
		.send_callback = put,
		.recv_callback = feed,
	};
	WebSocket  *ws = mcx_alloc0(mcx, sizeof(*ws));

	Assert(head->head.is_websocket);
	ws->out = out;
	ws->message_ms = ws->heard_ms = clock_coarse_ms();
	if (wslay_frame_context_init(&ws->frames, &callbacks, ws) != 0)
		elog_fatal("out of memory for a WebSocket");
	buf_printf(out,
			   "HTTP/1.1 101 Switching Protocols\r\n"
			   "Upgrade: websocket\r\n"
			   "Connection: Upgrade\r\n");
	put_accept(out, head->websocket_key);
	if (head->has_bearer)
		buf_printf(out, "Sec-WebSocket-Protocol: " SUBPROTOCOL "\r\n");
	buf_append(out, "\r\n", 2);
	return ws;
}

void
websocket_destroy(WebSocket *ws)
{
	wipe_received(ws);
	wslay_frame_context_free(ws->frames);
}

static HttpField *
find_once(HttpHead *head, const char *name, bool *is_twice)
{
	HttpField  *found = NULL;

	for (uint32_t i = 0; i < head->nfields; i++)
		if (bytes_equal_cstr(head->fields[i].name, name))
		{
			*is_twice |= found != NULL;
			found = &head->fields[i];
		}
	return found;
}

static bool
is_key(Bytes key)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
		"abcdefghijklmnopqrstuvwxyz0123456789+/";

	if (key.len != KEY_BYTES || memcmp(key.data + KEY_BYTES - 2, "==", 2) != 0)
		return false;
	for (size_t i = 0; i < KEY_BYTES - 2; i++)
		if (key.data[i] == '\0' || strchr(alphabet, key.data[i]) == NULL)
			return false;
	return true;
}

/*
 * A browser's script cannot set fields of a WebSocket's request, but it can
 * offer protocols.  One that we do not know is none: the browser then ends the
 * connection by itself.
 */
static int
take_subprotocol(HttpHead1 *head, HttpField *field, const char **why)
{
	Bytes		value = field->value;
	size_t		n = strlen(SUBPROTOCOL);
	bool		is_twice = false;

	if (value.len < n || memcmp(value.data, SUBPROTOCOL, n) != 0 ||
		(value.len > n && value.data[n] != ',' && value.data[n] != ' '))
		return 0;
	value = httphead_trim(bytes_make(value.data + n, value.len - n));
	if (value.len > 0 && value.data[0] == ',')
		value = httphead_trim(bytes_make(value.data + 1, value.len - 1));
	if (!httphead_is_token(value))
	{
		*why = "the WebSocket protocol Bearer is followed by one token";
		return 400;
	}
	if (find_once(&head->head, "authorization", &is_twice) != NULL)
	{
		*why = "a token in Authorization and one in Sec-WebSocket-Protocol";
		return 400;
	}
	*field = (HttpField) {BYTES_LITERAL("authorization"), value};
	head->has_bearer = true;
	return 0;
}

/* SHA-1 is what the protocol says; nothing depends on its strength */
static void
put_accept(Buf *out, Bytes key)
{
	char		text[KEY_BYTES + sizeof(ACCEPT_GUID)];
	uint8_t		digest[SHA1_BYTES];
	uint8_t		encoded[SHA1_BYTES / 3 * 4 + 5];
	int			len;

	len = snprintf(text, sizeof(text), "%.*s" ACCEPT_GUID, (int) key.len,
				   (const char *) key.data);
	if (EVP_Digest(text, (size_t) len, digest, NULL, EVP_sha1(), NULL) != 1)
		elog_fatal("SHA-1 failed");
	EVP_EncodeBlock(encoded, digest, sizeof(digest));
	buf_printf(out, "Sec-WebSocket-Accept: %s\r\n", (const char *) encoded);
}

/* ---- from the client ---- */

WebSocketState
websocket_state(const WebSocket *ws)
{
	return ws->state;
}

bool
websocket_next(WebSocket *ws, Cursor *input, Bytes *piece)
{
	struct wslay_frame_iocb frame = {.fin = 0};
	ssize_t		n;

	*piece = BYTES_EMPTY;
	if ((ws->state != WEBSOCKET_OPEN && ws->state != WEBSOCKET_CLOSING) ||
		ws->pong_bytes > PONGS_MAX_BYTES)
		return false;
	ws->input = input;
	ws->is_starved = false;
	do
		n = wslay_frame_recv(ws->frames, &frame);
	while (n == WSLAY_ERR_WANT_READ && !ws->is_starved);
	ws->input = NULL;
	if (n == WSLAY_ERR_WANT_READ)
		return false;
	if (n < 0)
		fail(ws, CODE_PROTOCOL_ERROR, "malformed frame");
	else
		*piece = take_frame(ws, &frame);
	return true;
}

/*
 * wslay wants to read.  When there is nothing all of its buffer behind what it
 * has still to look at comes by: what was received before is overwritten.
 */
static ssize_t
feed(uint8_t *to, size_t size, int flags, void *arg)
{
	WebSocket  *ws = arg;
	size_t		n = ws->input == NULL ? 0 : size_min(size,
													 cursor_left(ws->input));
	Bytes		data;

	if (n == 0 || !cursor_get_raw(ws->input, n, &data))
	{
		secret_wipe(to, size);
		ws->is_starved = true;
		return -1;
	}
	memcpy(to, data.data, n);
	return (ssize_t) n;
}

/* A frame, or a part of one; what it adds to the request. */
static Bytes
take_frame(WebSocket *ws, const struct wslay_frame_iocb *frame)
{
	if (ws->frame_left == 0 && !begin_frame(ws, frame))
		return BYTES_EMPTY;
	ws->frame_left -= frame->data_length;
	if (!wslay_is_ctrl_frame(frame->opcode))
		return take_text(ws, frame);
	take_control(ws, frame);
	return BYTES_EMPTY;
}

/* False: it is not allowed, and the WebSocket has failed. */
static bool
begin_frame(WebSocket *ws, const struct wslay_frame_iocb *frame)
{
	uint64_t	max_bytes = json_max_bytes();
	bool		is_known = frame->opcode <= WSLAY_BINARY_FRAME ||
		(frame->opcode >= WSLAY_CONNECTION_CLOSE &&
		 frame->opcode <= WSLAY_PONG);

	if (!frame->mask)
		fail(ws, CODE_PROTOCOL_ERROR, "a client must mask its frames");
	else if (frame->rsv != WSLAY_RSV_NONE || !is_known)
		fail(ws, CODE_PROTOCOL_ERROR, "reserved bit or unknown opcode");
	else if (wslay_is_ctrl_frame(frame->opcode))
		ws->control_len = 0;
	else if (ws->in_message != (frame->opcode == WSLAY_CONTINUATION_FRAME))
		fail(ws, CODE_PROTOCOL_ERROR, "a fragment is missing or left over");
	else
	{
		if (!ws->in_message)
		{
			ws->in_message = true;
			ws->is_text = frame->opcode == WSLAY_TEXT_FRAME;
			ws->utf8 = (Utf8) {.left = 0};
			ws->message_bytes = ws->received_bytes = 0;
			ws->message_ms = clock_coarse_ms();
		}
		if (frame->payload_length > max_bytes - ws->message_bytes)
			fail(ws, CODE_TOO_BIG, "the message is too large");
		else
			ws->message_bytes += frame->payload_length;
	}
	ws->frame_left = frame->payload_length;
	return ws->state != WEBSOCKET_FAILED;
}

static Bytes
take_text(WebSocket *ws, const struct wslay_frame_iocb *frame)
{
	Bytes		data = bytes_make(frame->data, frame->data_length);
	bool		is_end = frame->fin && ws->frame_left == 0;

	if (ws->is_text && (!utf8_take(&ws->utf8, data) ||
						(is_end && ws->utf8.left > 0)))
	{
		fail(ws, CODE_INVALID_TEXT, "the text is not UTF-8");
		return BYTES_EMPTY;
	}
	ws->received_bytes += data.len;
	ws->in_message = !is_end;
	ws->has_message |= is_end;
	return data;
}

/* wslay has seen to it that it is whole and no longer than control[] */
static void
take_control(WebSocket *ws, const struct wslay_frame_iocb *frame)
{
	Assert(ws->control_len + frame->data_length <= sizeof(ws->control));
	if (frame->data_length > 0)
		memcpy(ws->control + ws->control_len, frame->data, frame->data_length);
	ws->control_len += frame->data_length;
	if (ws->frame_left > 0)
		return;
	if (frame->opcode == WSLAY_CONNECTION_CLOSE)
		take_close(ws, bytes_make(ws->control, ws->control_len));
	else if (frame->opcode == WSLAY_PING && ws->state == WEBSOCKET_OPEN)
	{
		put_frame(ws, WSLAY_PONG, bytes_make(ws->control, ws->control_len));
		ws->pong_bytes += ws->control_len + 2;
	}
}

static void
take_close(WebSocket *ws, Bytes payload)
{
	Utf8		utf8 = {.left = 0};
	unsigned	code = CODE_NONE;

	if (payload.len >= 2)
		code = (unsigned) payload.data[0] << 8 | payload.data[1];
	if (payload.len == 1 || (payload.len >= 2 && !is_close_code(code)))
		fail(ws, CODE_PROTOCOL_ERROR, "malformed Close");
	else if (payload.len > 2 &&
			 (!utf8_take(&utf8, bytes_make(payload.data + 2,
										   payload.len - 2)) ||
			  utf8.left > 0))
		fail(ws, CODE_INVALID_TEXT, "the text is not UTF-8");
	else if (ws->state == WEBSOCKET_CLOSING)
		ws->state = WEBSOCKET_OVER;
	else
	{
		ws->client_code = code;
		ws->close_ms = clock_coarse_ms();
		ws->state = WEBSOCKET_ENDED;
	}
}

/* RFC 6455 7.4, and what IANA has added up to 1014 */
static bool
is_close_code(unsigned code)
{
	return (code >= 1000 && code <= 1014 && code != 1004 &&
			code != CODE_NONE && code != CODE_ABNORMAL) ||
		(code >= 3000 && code <= 4999);
}

static void
fail(WebSocket *ws, unsigned code, const char *why)
{
	elog_debug("WebSocket ended with %u: %s", code, why);
	/* after a Close of ours nothing may follow */
	if (ws->state == WEBSOCKET_OPEN)
		put_close(ws, code, why);
	ws->state = WEBSOCKET_FAILED;
}

/* What wslay has in its buffer is read to its end, and then overwritten. */
static void
wipe_received(WebSocket *ws)
{
	struct wslay_frame_iocb frame;

	ws->is_starved = false;
	while (!ws->is_starved)
		(void) wslay_frame_recv(ws->frames, &frame);
	secret_wipe(ws->control, sizeof(ws->control));
}

/* ---- to the client ---- */

void
websocket_send(WebSocket *ws, Bytes text)
{
	if (ws->state != WEBSOCKET_OPEN && ws->state != WEBSOCKET_ENDED)
		return;
	if (text.len > 0 && text.data[text.len - 1] == '\n')
		text.len--;
	put_frame(ws, WSLAY_TEXT_FRAME, text);
}

void
websocket_close(WebSocket *ws, unsigned code)
{
	if (ws->state == WEBSOCKET_ENDED)
	{
		put_close(ws, ws->client_code, "");
		ws->state = WEBSOCKET_OVER;
	}
	else if (ws->state == WEBSOCKET_OPEN)
	{
		put_close(ws, code, "");
		ws->state = WEBSOCKET_CLOSING;
		ws->close_ms = clock_coarse_ms();
	}
}

void
websocket_flushed(WebSocket *ws)
{
	ws->pong_bytes = 0;
}

static void
put_frame(WebSocket *ws, uint8_t opcode, Bytes payload)
{
	struct wslay_frame_iocb frame = {
		.fin = 1,
		.opcode = opcode,
		.payload_length = payload.len,
		.data = payload.data,
		.data_length = payload.len,
	};
	ssize_t		n = wslay_frame_send(ws->frames, &frame);

	/* put() takes all of it, and no payload is too long */
	Assert(n == (ssize_t) payload.len);
	(void) n;
}

static void
put_close(WebSocket *ws, unsigned code, const char *why)
{
	uint8_t		payload[CONTROL_MAX_BYTES];
	size_t		n = strlen(why);

	Assert(n + 2 <= sizeof(payload));
	payload[0] = (uint8_t) (code >> 8);
	payload[1] = (uint8_t) code;
	memcpy(payload + 2, why, n);
	put_frame(ws, WSLAY_CONNECTION_CLOSE,
			  bytes_make(payload, code == CODE_NONE ? 0 : n + 2));
}

static ssize_t
put(const uint8_t *data, size_t len, int flags, void *arg)
{
	WebSocket  *ws = arg;

	buf_append(ws->out, data, len);
	return (ssize_t) len;
}

/* ---- time ---- */

void
websocket_heard(WebSocket *ws)
{
	ws->heard_ms = clock_coarse_ms();
	ws->is_pinged = false;
}

int64_t
websocket_next_timer_ms(const WebSocket *ws, bool is_held)
{
	switch (ws->state)
	{
		case WEBSOCKET_OPEN:
			return is_held ? -1 :
				clock_earlier(arrival_limit_ms(ws), silence_limit_ms(ws));
		case WEBSOCKET_ENDED:
		case WEBSOCKET_CLOSING:
			return ws->close_ms + CLOSE_MS;
		default:
			return -1;
	}
}

void
websocket_on_timer(WebSocket *ws, bool is_held, int64_t now_ms)
{
	int64_t		limit_ms = websocket_next_timer_ms(ws, is_held);
	int64_t		arrival_ms = arrival_limit_ms(ws);

	if (limit_ms < 0 || now_ms < limit_ms)
		return;
	if (ws->state == WEBSOCKET_ENDED)
		websocket_close(ws, ws->client_code);
	else if (ws->state == WEBSOCKET_CLOSING)
		ws->state = WEBSOCKET_OVER;
	else if (arrival_ms >= 0 && now_ms >= arrival_ms)
		fail(ws, CODE_POLICY, "the message did not arrive in time");
	else if (ws->is_pinged)
		/* nobody is there to be told */
		ws->state = WEBSOCKET_OVER;
	else
	{
		put_frame(ws, WSLAY_PING, BYTES_EMPTY);
		ws->is_pinged = true;
		ws->ping_ms = now_ms;
	}
}

/* when the message under way is late, or the first one; -1: none is awaited */
static int64_t
arrival_limit_ms(const WebSocket *ws)
{
	if (ws->has_message && !ws->in_message)
		return -1;
	return arrival_due_ms(ws->message_ms, ws->received_bytes);
}

static int64_t
silence_limit_ms(const WebSocket *ws)
{
	return (ws->is_pinged ? ws->ping_ms : ws->heard_ms) +
		guc_http_idle_timeout;
}

/* ---- UTF-8 in pieces: Unicode 15, table 3-7 ---- */

static bool
utf8_take(Utf8 *utf8, Bytes text)
{
	for (size_t i = 0; i < text.len; i++)
	{
		uint8_t		c = text.data[i];

		if (utf8->left == 0)
		{
			if (c >= 0x80 && !utf8_begin(utf8, c))
				return false;
			continue;
		}
		if (c < utf8->low || c > utf8->high)
			return false;
		utf8->left--;
		utf8->low = 0x80;
		utf8->high = 0xbf;
	}
	return true;
}

/* neither longer than need be, nor half of a pair, nor beyond U+10FFFF */
static bool
utf8_begin(Utf8 *utf8, uint8_t c)
{
	if (c < 0xc2 || c > 0xf4)
		return false;
	utf8->left = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
	utf8->low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
	utf8->high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
	return true;
}
