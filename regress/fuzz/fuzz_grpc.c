/*
 * fuzz_grpc.c
 *	  Any bytes into the gRPC door.
 *
 * The first byte chooses: bit 0, a good preface and SETTINGS come before the
 * rest; bit 1, a whole request too, so that a stream is open; bit 2, the rest
 * goes in one byte at a time; bit 3, output is pulled only at the end; bit 4,
 * requests that wait are answered between the pieces, and timers fire.
 */
/* needs: rpc dispatch/metadata dispatch/status */
#include "server.h"

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"

/* this layer and below */
#include "rpc/grpc.h"

#include "../unit/grpc_double.h"
#include "../unit/http_echo.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define PIECE_BYTES 37

/* POST http /etcdserverpb.KV/Range, application/grpc; body not yet there */
static const uint8_t open_stream[] =
	"\x00\x00\x39\x01\x04\x00\x00\x00\x01"
	"\x83\x86\x41\x01x\x04\x16/etcdserverpb.KV/Range"
	"\x0f\x10\x10" "application/grpc"
	"\x00\x05token\x01t";

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
pull_all(GrpcSession *session)
{
	while (grpc_session_pull(session).len > 0)
		;
}

static void
answer_one(GrpcSession *session)
{
	if (doubled.npending > 0)
		double_finish(doubled.pending[0]);
	grpc_session_on_timer(session, clock_monotonic_ms() + 60000);
}

static void
feed(GrpcSession *session, Bytes data, unsigned choice)
{
	size_t		piece = choice & 4 ? 1 : PIECE_BYTES;

	for (size_t at = 0; at < data.len; at += piece)
	{
		Bytes		part = bytes_make(data.data + at,
									  size_min(piece, data.len - at));

		if (!grpc_session_receive(session, part))
			break;
		if ((choice & 8) == 0)
			pull_all(session);
		if (choice & 16)
			answer_one(session);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	MemContext *mcx;
	GrpcSession *session;
	GrpcOptions options = {.common_name = BYTES_LITERAL("fuzz"), .http = &echo};
	unsigned	choice;

	if (size < 1)
		return 0;
	elog_set_level(LOG_LEVEL_ERROR);
	choice = data[0];
	mcx = mcx_create(NULL, "fuzz");
	session = grpc_session_create(mcx, &options);
	if (choice & 1)
		grpc_session_receive(session, BYTES_LITERAL(PREFACE "\0\0\0\4\0\0\0\0\0"));
	if ((choice & 3) == 3)
		grpc_session_receive(session, bytes_make(open_stream,
												 sizeof(open_stream) - 1));
	feed(session, bytes_make(data + 1, size - 1), choice);
	grpc_session_shutdown(session);
	grpc_session_on_timer(session, clock_monotonic_ms() + 10000);
	pull_all(session);
	grpc_session_destroy(session);
	/* every request came back, and nothing is left of it */
	if (doubled.alive != 0 || doubled.npending != 0 || handled.alive != 0)
		abort();
	mcx_destroy(mcx);
	return 0;
}
