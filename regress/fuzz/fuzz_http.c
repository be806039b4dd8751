/*
 * fuzz_http.c
 *	  Any bytes into the HTTP/1.1 door, with the real handler behind it.
 *
 * The first byte chooses how the rest goes in (http_feed.h).  Requests are
 * answered by the doubles of ../unit/gateway_double.h.
 */
/* needs: gateway/http gateway/websocket gateway/httphead gateway/httpbody gateway/httptext gateway/exchange gateway/call gateway/health gateway/jsonin gateway/jsonout gateway/jsonsplit dispatch/metadata dispatch/status dispatch/decode common proto */
#include "server.h"

/* lib and utils */
#include "utils/elog.h"

/* this layer and below */
#include "gateway/exchange.h"

#include "http_feed.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
pull_all(HttpSession *session)
{
	while (http_session_pull(session).len > 0)
		;
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
	http_feed(session, pull_all, bytes_make(data + 1, size - 1), data[0], 1);
	pull_all(session);
	http_session_destroy(session);
	if (doubled.alive != 0)
		abort();
	mcx_destroy(mcx);
	return 0;
}
