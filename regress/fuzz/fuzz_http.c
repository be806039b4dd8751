/*
 * fuzz_http.c
 *	  Any bytes into the HTTP/1.1 door, with the real handler behind it.
 *
 * The first byte chooses: bit 0, the rest goes in one byte at a time; bit 1,
 * output is pulled only at the end; bit 2, timers fire between the pieces;
 * bit 3, the server is told to stop in the middle.  Requests are answered by
 * the doubles of ../unit/gateway_double.h.
 */
/* needs: gateway/http gateway/websocket gateway/httphead gateway/httpbody gateway/httptext gateway/exchange gateway/call gateway/health gateway/jsonin gateway/jsonout gateway/jsonsplit dispatch/metadata dispatch/status dispatch/decode common proto */
#include "server.h"

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"

/* this layer and below */
#include "gateway/exchange.h"
#include "gateway/http.h"

#include "../unit/gateway_double.h"

#define PIECE_BYTES 41

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
pull_all(HttpSession *session)
{
	while (http_session_pull(session).len > 0)
		;
}

static void
feed(HttpSession *session, Bytes data, unsigned choice)
{
	size_t		piece = choice & 1 ? 1 : PIECE_BYTES;

	for (size_t at = 0; at < data.len; at += piece)
	{
		Bytes		part = bytes_make(data.data + at,
									  size_min(piece, data.len - at));

		if (http_session_wants_input(session) &&
			!http_session_receive(session, part))
			break;
		if (!(choice & 2))
			pull_all(session);
		if (choice & 4)
		{
			if (doubled.npending > 0)
				double_finish(doubled.pending[0]);
			http_session_on_timer(session, clock_coarse_ms() + (int64_t) at);
		}
		if ((choice & 8) && at > data.len / 2)
			http_session_shutdown(session);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	HttpConn	conn = {.common_name = BYTES_LITERAL("cn")};
	MemContext *mcx;
	HttpSession *session;

	if (size == 0)
		return 0;
	elog_set_level(LOG_LEVEL_FATAL);
	gateway_init();
	mcx = mcx_create(NULL, "fuzz");
	session = http_session_create(mcx, &conn, &gateway_handler);
	feed(session, bytes_make(data + 1, size - 1), data[0]);
	pull_all(session);
	http_session_destroy(session);
	if (doubled.alive != 0)
		abort();
	mcx_destroy(mcx);
	return 0;
}
