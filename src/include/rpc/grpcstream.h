/*
 * grpcstream.h
 *	  Sessions and streams as the files of rpc/ see them; private to rpc/.
 *
 *	HEADERS -> BODY -> READY -> RUNNING -> ANSWERED -> (closed)
 *
 * From each of them an error leads to ANSWERED, and the client's reset to the
 * end.  READY waits for room (see GrpcSession.answer_bytes).
 *
 * A call with many messages (kind other than RPC_UNARY) is RUNNING from its
 * headers on if it is bidirectional, answers while it runs (grpcmessages.c),
 * and is ANSWERED when its status is known.
 */
#ifndef RPC_GRPCSTREAM_H
#define RPC_GRPCSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <nghttp2/nghttp2.h>

#include "dispatch/metadata.h"
#include "dispatch/request.h"
#include "dispatch/status.h"
#include "lib/buf.h"
#include "rpc/grpc.h"
#include "rpc/grpcframe.h"
#include "rpc/guard.h"
#include "rpc/headcheck.h"
#include "utils/mmgr.h"

/*
 * What a client may send on a stream before we know how long its message is, as
 * long as few streams are open.
 */
#define STREAM_WINDOW_BYTES 65535

typedef enum StreamPhase
{
	STREAM_HEADERS,
	STREAM_BODY,
	STREAM_READY,
	STREAM_RUNNING,
	STREAM_ANSWERED,
	STREAM_WEB					/* no gRPC call: webstream.c */
} StreamPhase;

typedef struct WebStream WebStream;

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
	HeadCheck	check;
	Bytes		authority;		/* only if the session serves HTTP */
	WebStream  *web;			/* NULL: certainly a gRPC call */
	const RpcInfo *rpc;
	int64_t		deadline_ms;	/* 0: none */
	GrpcFrame	frame;
	int64_t		begun_ms;		/* since when we wait for the message */
	size_t		held_bytes;		/* part of session->held_bytes */
	size_t		reserved_bytes; /* part of session->reserved_bytes */
	/* RUNNING; and unary, ANSWERED until the answer is read to its end */
	Request    *req;
	uint8_t		prefix[GRPC_PREFIX_BYTES];
	size_t		sent;			/* of prefix and answer */

	/*
	 * Many messages.  in: what came while dispatch takes none, in_taken bytes
	 * of it are done.  out: messages with their prefixes, out_sent bytes of it
	 * are sent; out_begin is the start of a message, not after out_sent.
	 */
	Buf			in;
	size_t		in_taken;
	Buf			out;
	size_t		out_sent;
	size_t		out_begin;
	bool		has_told_end;	/* dispatch knows of is_half_closed */
	bool		has_begun;		/* our headers are on their way */
	bool		is_deferred;	/* nghttp2 waits until we have more */
	bool		wants_room;		/* dispatch waits until we have less */
	bool		has_end;		/* end is known: trailers after out */
	GrpcStatus	end;
	bool		is_due;			/* in the session's list */
	struct GrpcStream *next_due;
	struct GrpcStream *prev_due;
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
	const HttpHandlerOps *http; /* NULL: gRPC only */
	HttpConn	conn;			/* for http */
	uint32_t	nwebs;			/* streams that http answers */
	bool		has_web_due;	/* one of them wants a turn */
	Guard		guard;
	Buf			out;

	GrpcStream *first;			/* open streams, oldest first */
	GrpcStream *last;
	uint32_t	nstreams;
	GrpcStream *unused;			/* through next */
	uint32_t	nunused;
	uint32_t	stream_window;	/* what a stream may send before it is granted
								 * more, as the client has acknowledged */
	bool		is_crowded;		/* it has been told to send less */

	/*
	 * Memory.  held_bytes: headers and messages of requests that have not
	 * begun to run, but for the large ones.  reserved_bytes: windows given for
	 * large messages, counted until the request is answered.  answer_bytes:
	 * of nanswers answers not yet read by the client.  has_room: one of the
	 * latter two has shrunk.  stream_bytes: of messages that streams have not
	 * sent; is_short: some were told that this is too much.
	 */
	size_t		held_bytes;
	size_t		reserved_bytes;
	size_t		answer_bytes;
	uint32_t	nanswers;
	bool		has_room;
	size_t		stream_bytes;
	bool		is_short;
	GrpcStream *first_due;		/* streams that something is to be done for */
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
/* end those that would go on for ever; the session is shutting down */
extern void stream_end_endless(GrpcSession *session);
/* the client has acknowledged our settings, perhaps those of a crowd */
extern void stream_settings_acknowledged(GrpcSession *session);
/* the first window of a stream in a crowd, where nstreams are allowed; bytes */
extern uint32_t stream_crowded_window(uint32_t nstreams);
/* start what waited for room */
extern void stream_run_waiting(GrpcSession *session);
/* give the memory of closed streams back */
extern void stream_free_unused(GrpcSession *session);

/* ---- between grpcstream.c and grpcmessages.c ---- */

/* headers and messages of requests that do not run yet, of one connection */
extern bool stream_holds_too_much(const GrpcSession *session);
extern void stream_note_held(GrpcStream *stream);
/* when a message must have arrived; INT64_MAX: none is on its way */
extern int64_t stream_arrive_by_ms(const GrpcStream *stream);
extern void stream_refuse_frame(GrpcStream *stream, GrpcFrameResult result);
/* what nghttp2 said to a submission */
extern void stream_submitted(GrpcStream *stream, int rc);

/* what a request of kind RPC_BIDI or RPC_SERVER_STREAM calls */
extern void messages_send(Request *req, Buf *message);
extern size_t messages_backlog(const Request *req);
extern void messages_ready(Request *req);
/* DATA and END_STREAM of a bidi stream that runs */
extern void messages_receive(GrpcStream *stream, Bytes data);
extern void messages_end(GrpcStream *stream);
/* trailers after what is there; with an error, after the message begun */
extern void messages_finish(GrpcStream *stream, GrpcStatus status);
extern void messages_free(GrpcStream *stream);
/* do what is due; may answer requests, closes no stream */
extern void messages_run_due(GrpcSession *session);

#define NV_STATIC (NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE)
/* nghttp2 takes pointers without const but does not write */
#define NV_LITERAL(name, value) \
	{(uint8_t *) (uintptr_t) (name), (uint8_t *) (uintptr_t) (value), \
		sizeof(name) - 1, sizeof(value) - 1, NV_STATIC}

#endif							/* RPC_GRPCSTREAM_H */
