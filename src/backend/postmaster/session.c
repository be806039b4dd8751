/*
 * session.c
 *	  What a connection speaks, chosen by its first bytes.
 *
 * Two protocols and ten calls: a word for each is shorter than a table.
 */
#include "server.h"

/* this layer and below */
#include "gateway/exchange.h"
#include "gateway/http.h"
#include "postmaster/session.h"
#include "rpc/grpc.h"

static const char h2_preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/* one of the two */
struct Session
{
	GrpcSession *grpc;
	HttpSession *http;
};

SessionProtocol
session_sniff(Bytes first, const char *alpn, bool is_for_metrics)
{
	size_t		n = size_min(first.len, sizeof(h2_preface) - 1);

	if (first.len == 0)
		return PROTOCOL_UNDECIDED;
	if (memcmp(first.data, h2_preface, n) == 0)
	{
		if (strcmp(alpn, "http/1.1") == 0 || is_for_metrics)
			return PROTOCOL_UNKNOWN;
		return n == sizeof(h2_preface) - 1 ? PROTOCOL_HTTP2 :
			PROTOCOL_UNDECIDED;
	}
	if (strcmp(alpn, "h2") == 0 || !http_starts_here(first))
		return PROTOCOL_UNKNOWN;
	return PROTOCOL_HTTP1;
}

Session *
session_create(MemContext *mcx, SessionProtocol protocol, const HttpConn *conn)
{
	Session    *session = mcx_alloc0(mcx, sizeof(*session));
	GrpcOptions options = {
		.common_name = conn->common_name,
		.refuse_with = conn->refuse_with,
		.http = &gateway_handler,
		.is_tls = conn->is_tls,
		.has_certificate = conn->has_certificate,
	};

	gateway_init();
	if (protocol == PROTOCOL_HTTP2)
		session->grpc = grpc_session_create(mcx, &options);
	else
		session->http = http_session_create(mcx, conn, &gateway_handler);
	return session;
}

void
session_destroy(Session *session)
{
	if (session->grpc != NULL)
		grpc_session_destroy(session->grpc);
	else
		http_session_destroy(session->http);
}

bool
session_receive(Session *session, Bytes data)
{
	return session->grpc != NULL ?
		grpc_session_receive(session->grpc, data) :
		http_session_receive(session->http, data);
}

bool
session_wants_input(const Session *session)
{
	return session->grpc != NULL || http_session_wants_input(session->http);
}

Bytes
session_pull(Session *session)
{
	return session->grpc != NULL ? grpc_session_pull(session->grpc) :
		http_session_pull(session->http);
}

bool
session_is_over(const Session *session)
{
	return session->grpc != NULL ? grpc_session_is_over(session->grpc) :
		http_session_is_over(session->http);
}

void
session_shutdown(Session *session)
{
	if (session->grpc != NULL)
		grpc_session_shutdown(session->grpc);
	else
		http_session_shutdown(session->http);
}

int64_t
session_next_timer_ms(const Session *session)
{
	return session->grpc != NULL ? grpc_session_next_timer_ms(session->grpc) :
		http_session_next_timer_ms(session->http);
}

void
session_on_timer(Session *session, int64_t now_ms)
{
	if (session->grpc != NULL)
		grpc_session_on_timer(session->grpc, now_ms);
	else
		http_session_on_timer(session->http, now_ms);
}

bool
session_has_succeeded(const Session *session)
{
	return session->grpc != NULL ?
		grpc_session_has_succeeded(session->grpc) :
		http_session_has_succeeded(session->http);
}

uint32_t
session_streams(const Session *session)
{
	return session->grpc != NULL ? grpc_session_streams(session->grpc) :
		http_session_streams(session->http);
}
