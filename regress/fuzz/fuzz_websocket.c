/*
 * fuzz_websocket.c
 *	  Any bytes into the HTTP/1.1 door once it has become a WebSocket, with the
 *	  real handler behind it.
 *
 * The first byte chooses how (http_feed.h), the second one what is asked
 * for.  Whatever comes, what goes out must be frames as a server may send them,
 * and none behind a Close.
 */
/* needs: gateway/http gateway/websocket gateway/httphead gateway/httpbody gateway/httptext gateway/exchange gateway/call gateway/health gateway/jsonin gateway/jsonout gateway/jsonsplit dispatch/metadata dispatch/status dispatch/decode common proto */
#include "server.h"

/* lib and utils */
#include "utils/elog.h"

/* this layer and below */
#include "dispatch/decode.h"
#include "gateway/exchange.h"

#include "http_feed.h"

#define HANDSHAKE " HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n" \
	"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const paths[] = {
	"/v3/watch", "/v3/kv/put", "/v3/lease/keepalive", "/v3/maintenance/snapshot",
	"/v3beta/kv/txn", "/v3/lock/lock", "/v3/election/observe", "/v3/nothing",
};

/* all that was sent */
static Buf	output;

static void
pull_all(HttpSession *session)
{
	Bytes		out;

	while ((out = http_session_pull(session)).len > 0)
		buf_append(&output, out.data, out.len);
}

static void
require(bool condition)
{
	if (!condition)
		abort();
}

static void
check_frames(void)
{
	Cursor		cursor = cursor_make(buf_bytes(&output));
	bool		is_closed = false;
	const uint8_t *end = memmem(output.data, output.len, "\r\n\r\n", 4);

	require(end != NULL);
	if (memcmp(output.data, "HTTP/1.1 101 ", 13) != 0)
		return;
	cursor.pos = end + 4;
	while (cursor_left(&cursor) > 0)
	{
		Bytes		payload;
		uint8_t		first;
		uint8_t		n = 0;
		uint8_t		high;
		uint64_t	len;

		require(cursor_get_u8(&cursor, &first) && cursor_get_u8(&cursor, &n));
		require(!is_closed && (n & 0x80) == 0);
		len = n;
		if (n == 126)
		{
			require(cursor_get_u8(&cursor, &high) && cursor_get_u8(&cursor, &n));
			len = (uint64_t) high << 8 | n;
			require(len > 125);
		}
		else if (n == 127)
			require(cursor_get_u64be(&cursor, &len) && len > UINT16_MAX);
		require(cursor_get_raw(&cursor, len, &payload));
		switch (first)
		{
			case 0x81:
				require(utf8_is_valid(payload));
				break;
			case 0x88:
				is_closed = true;
				require(len != 1 && len <= 125);
				break;
			case 0x89:
			case 0x8a:
				require(len <= 125);
				break;
			default:
				abort();
		}
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	HttpConn	conn = {.common_name = BYTES_LITERAL("cn")};
	MemContext *mcx;
	HttpSession *session;
	char		head[512];

	if (size < 2)
		return 0;
	elog_set_level(LOG_LEVEL_FATAL);
	gateway_init();
	mcx = mcx_create(NULL, "fuzz");
	buf_init(&output, NULL);
	session = http_session_create(mcx, &conn, &gateway_handler);
	snprintf(head, sizeof(head), "GET %s" HANDSHAKE,
			 paths[data[1] % lengthof(paths)]);
	http_session_receive(session, bytes_from_cstr(head));
	http_feed(session, pull_all, bytes_make(data + 2, size - 2), data[0], 4000);
	pull_all(session);
	check_frames();
	http_session_destroy(session);
	if (doubled.alive != 0)
		abort();
	buf_free(&output);
	mcx_destroy(mcx);
	return 0;
}
