/*
 * grpcstream.h
 *	  Sessions and streams as the files of rpc/ see them; private to rpc/.
 *
 *	HEADERS -> BODY -> READY -> RUNNING -> ANSWERED -> (closed)
 *
 * From each of them an error leads to ANSWERED, and the client's reset to the
 * end.  READY waits for room (see GrpcSession.answer_bytes).
 */
#ifndef RPC_GRPCSTREAM_H
#define RPC_GRPCSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <nghttp2/nghttp2.h>

#include "dispatch/request.h"
#include "lib/buf.h"
#include "rpc/grpc.h"
#include "rpc/grpcframe.h"
#include "rpc/guard.h"
#include "rpc/metadata.h"
#include "rpc/status.h"
#include "utils/mmgr.h"

/* what a client may send on a stream before we know how long its message is */
#define STREAM_WINDOW_BYTES 65535

typedef enum StreamPhase
{
	STREAM_HEADERS,
	STREAM_BODY,
	STREAM_READY,
	STREAM_RUNNING,
	STREAM_ANSWERED
} StreamPhase;

typedef struct GrpcStream
{
	GrpcSession *session;
	struct GrpcStream *next;	/* session->first, oldest first; or unused */
	struct GrpcStream *prev;
	int32_t		id;
	StreamPhase phase;
	bool		is_half_closed; /* the client has sent END_STREAM */
	bool		wants_window;	/* for the rest of a large message */
	MemContext *mcx;			/* of head */
	GrpcHead	head;
	const RpcInfo *rpc;
	int64_t		deadline_ms;	/* 0: none */
	GrpcFrame	frame;
	int64_t		begun_ms;		/* since when we wait for the message */
	size_t		held_bytes;		/* part of session->held_bytes */
	size_t		reserved_bytes; /* part of session->reserved_bytes */
	/* RUNNING; and ANSWERED until the answer is read to its end */
	Request    *req;
	uint8_t		prefix[GRPC_PREFIX_BYTES];
	size_t		sent;			/* of prefix and answer */
} GrpcStream;

struct GrpcSession
{
	MemContext *mcx;
	/*
	 * Requests live here, not in mcx: a cancelled one may have to outlive the
	 * session.
	 */
	MemContext *requests_mcx;
	nghttp2_session *h2;
	Bytes		common_name;
	ErrCode		refuse_with;
	Guard		guard;
	Buf			out;

	GrpcStream *first;			/* open streams, oldest first */
	GrpcStream *last;
	uint32_t	nstreams;
	GrpcStream *unused;			/* through next */
	uint32_t	nunused;

	/*
	 * Memory.  held_bytes: headers and messages of requests that have not
	 * begun to run, but for the large ones.  reserved_bytes: windows given for
	 * large messages, counted until the request is answered.  answer_bytes:
	 * of nanswers answers not yet read by the client.  has_room: one of the
	 * latter two has shrunk.
	 */
	size_t		held_bytes;
	size_t		reserved_bytes;
	size_t		answer_bytes;
	uint32_t	nanswers;
	bool		has_room;
	bool		has_succeeded;	/* a request was answered without error */

	/* time */
	int64_t		now_ms;			/* when this call came in */
	int64_t		earliest_deadline_ms;	/* or earlier; INT64_MAX: none */
	int64_t		last_receive_ms;
	int64_t		ping_sent_ms;	/* keepalive; 0: none outstanding */
	int64_t		answer_ms;		/* when an answer last moved; if nanswers > 0 */
	int64_t		shutdown_ms;	/* 0: not shutting down */
	bool		has_final_goaway;

	/* the end */
	bool		is_ending;		/* a last GOAWAY is on its way */
	bool		is_goaway_sent;
	bool		is_broken;		/* not even that */
};

extern GrpcStream *stream_open(GrpcSession *session, int32_t id);
/* one field of the headers */
extern void stream_header(GrpcStream *stream, Bytes name, Bytes value);
/* all headers are there */
extern void stream_begin(GrpcStream *stream);
extern void stream_data(GrpcStream *stream, Bytes data);
/* END_STREAM */
extern void stream_end(GrpcStream *stream);
/* nghttp2 has forgotten it: cancels what runs, frees */
extern void stream_close(GrpcStream *stream);

/* answer with a status, whatever it was doing */
extern void stream_refuse(GrpcStream *stream, GrpcStatus status);
/* refuse those whose time is over: to be answered, or to arrive */
extern void stream_expire_all(GrpcSession *session);
/* start what waited for room */
extern void stream_run_waiting(GrpcSession *session);
/* give the memory of closed streams back */
extern void stream_free_unused(GrpcSession *session);

#endif							/* RPC_GRPCSTREAM_H */
