/*
 * request.h
 *	  One request of a client, whatever door it came through.
 *
 * A Request's state only moves forward:
 *
 *	RECEIVED --> BARRIER --> PERMITTED --> WAITING --> ANSWERED
 *	  |  |__________|___________^  |________|_|___________^ ^
 *	  |_____________|______________________________________|
 *	                           (left of PERMITTED only with an error)
 *
 * BARRIER waits for a linearizable point at which to look; nothing is
 * permitted yet, because the right is judged on the same version as the data.
 * WAITING waits for the log or the hashing thread, and may do so more than
 * once.  A request can be answered without error only after authorize() has
 * said yes (PERMITTED or WAITING); otherwise dispatch logs the mistake and
 * answers ERR_INTERNAL.  A handler never waits: it returns DONE (answer
 * complete), PENDING (a continuation will be called) or FAILED
 * (request_fail() was called).
 *
 * Streams.  A request of kind RPC_BIDI or RPC_SERVER_STREAM answers with
 * request_send(), as often as it likes, and ends with DONE or FAILED like any
 * other.  The handler of a bidi stream runs when the stream is opened, without
 * a message; it sets on_message and returns PENDING, which for a stream means
 * "goes on".  It is PERMITTED from then on (request_permit_stream()): the
 * stream itself is open to everybody, and each message on it is judged for
 * itself.  No request timeout applies to a stream, only the client's deadline.
 */
#ifndef DISPATCH_REQUEST_H
#define DISPATCH_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "auth/authorize.h"
#include "auth/identity.h"
#include "auth/password.h"
#include "common/logop.h"
#include "lib/buf.h"
#include "storage/ipc/ring.h"
#include "utils/errcodes.h"
#include "utils/mmgr.h"

typedef struct Request Request;

typedef enum ReqState
{
	REQ_RECEIVED,
	REQ_BARRIER,
	REQ_PERMITTED,
	REQ_WAITING,
	REQ_ANSWERED
} ReqState;

typedef enum ReqResult
{
	REQ_DONE,
	REQ_PENDING,
	REQ_FAILED
} ReqResult;

typedef ReqResult (*ReqHandler) (Request *req);
/* called when what a PENDING request waited for is there */
typedef ReqResult (*ReqCompletionFn) (Request *req, const Completion *done);
typedef ReqResult (*ReqReadFn) (Request *req);
typedef ReqResult (*ReqHashFn) (Request *req, const HashJob *job);
/* of streams: what was decoded lives in request_scratch() */
typedef ReqResult (*ReqMessageFn) (Request *req, const void *message);
typedef ReqResult (*ReqEventFn) (Request *req);
typedef ReqResult (*ReqTimerFn) (Request *req);

/* dispatch/timer.c only */
typedef struct ReqTimer
{
	ReqTimerFn	on_timer;		/* NULL: not set */
	int64_t		at_ms;			/* CLOCK_MONOTONIC */
	uint64_t	turn;			/* of the loop, in which it was set */
	Request    *prev;
	Request    *next;
} ReqTimer;

typedef enum RpcId
{
	RPC_NONE = 0,
#define RPC(symbol, service, method, kind, flags, request, response, handler) symbol,
#include "dispatch/rpclist.h"
#undef RPC
	RPC_COUNT
} RpcId;

typedef enum RpcKind
{
	RPC_UNARY,
	RPC_SERVER_STREAM,
	RPC_BIDI
} RpcKind;

#define RPC_FLAG_NO_HEADER		0x01	/* response has no ResponseHeader */
#define RPC_FLAG_NO_REVISION	0x02	/* header without revision (Cluster) */
/* goes on until the client leaves: a shutdown does not wait for it */
#define RPC_FLAG_ENDLESS	0x04

typedef struct RpcInfo
{
	RpcId		id;
	const char *service;		/* "etcdserverpb.KV" */
	const char *method;			/* "Range" */
	RpcKind		kind;
	uint32_t	flags;
	const ProtobufCMessageDescriptor *request;
	const ProtobufCMessageDescriptor *response;
	ReqHandler	handler;		/* NULL: Unimplemented */
} RpcInfo;

/* what a door supplies */
typedef struct RequestOps
{
	/*
	 * Called exactly once per request, when it is ANSWERED.  The door copies
	 * or sends, then calls request_destroy().
	 */
	void		(*finished) (Request *req);

	/*
	 * The rest is for streams; a door without them leaves NULL.
	 *
	 * One finished message of the answer.  The door takes the bytes, by
	 * copying or by taking the memory, and leaves the Buf empty.  Must not
	 * call back.
	 */
	void		(*message) (Request *req, Buf *message);

	/*
	 * Bytes given to message() that the client has not taken yet.  A door
	 * whose connection holds too much says more than that.
	 */
	size_t		(*backlog) (const Request *req);

	/*
	 * dispatch_takes_messages() said no and would now say yes.  Must not call
	 * back: the door goes on when its turn comes.
	 */
	void		(*ready) (Request *req);
} RequestOps;

/* request_may_send(): while fewer bytes than this wait for the client */
#define REQUEST_BACKLOG_BYTES ((size_t) 256 * 1024)

/* in Request.header_revision: the header says 0 */
#define HEADER_REVISION_ZERO (-1)

struct Request
{
	MemContext *mcx;			/* everything of this request */
	const RpcInfo *rpc;
	ReqState	state;

	/* set by the door */
	const RequestOps *ops;
	void	   *door;			/* the door's stream; NULL once cancelled */
	Credentials credentials;
	Bytes		client_api_version; /* empty: not sent */
	bool		require_leader; /* metadata hasleader: true */
	int64_t		deadline_ms;	/* CLOCK_MONOTONIC, 0: none */

	/* decoded message, of type rpc->request */
	void	   *message;

	/* request_authorize() has said yes, at least once */
	bool		has_right;
	bool		is_awaited;		/* dispatch.c: counted by dispatch_is_awaited() */

	/* once resolved */
	bool		is_identified;
	Identity	identity;
	int64_t		identity_until_ms;	/* streams: after request_recheck() */

	/* the handler's own; allocated in mcx */
	void	   *handler_state;

	/*
	 * pending: the continuation, by what is waited for; one of the three.  A
	 * stream's on_completion is told of a timeout as of any other error.
	 */
	ReqCompletionFn on_completion;
	ReqReadFn	on_read;
	ReqHashFn	on_hash;

	/*
	 * streams: the next message of a bidi stream; the client sends nothing
	 * more (NULL: ends the stream OK); there is room to send again, after
	 * request_may_send() said no (NULL: nothing waits for that)
	 */
	ReqMessageFn on_message;
	ReqEventFn	on_half_close;
	ReqEventFn	on_writable;

	/* dispatch/stream.c only */
	MemContext *step_mcx;		/* of one message; NULL: none yet */
	MemContext *identity_mcx;	/* streams: of the identity; NULL: none yet */
	bool		is_parked;		/* see request_park() */
	bool		has_refused_message;	/* the door waits for ops->ready */
	bool		is_guarded;		/* in the list of those that need a leader */
	Request    *prev_guarded;
	Request    *next_guarded;

	/* dispatch/pending.c only */
	uint64_t	ring_id;		/* 0: nothing in the ring */
	SubmitKind	ring_kind;		/* what is in it */
	struct PendingHash *hash;	/* NULL: nothing with the hashing thread */
	int64_t		expires_ms;		/* CLOCK_MONOTONIC */
	Request    *next_in_bucket;
	Request    *prev_pending;
	Request    *next_pending;

	ReqTimer	timer;

	int64_t		started_ms;		/* CLOCK_MONOTONIC, for the slow-request line */
	int64_t		started_us;		/* likewise, if metrics are extensive; else 0 */

	/* the answer */
	ErrCode		error;			/* with one, body and answer are empty */
	const char *error_text;		/* instead of the table's text, or NULL */
	int			error_grpc_code;	/* instead of the table's, or -1 */
	int64_t		header_revision;	/* 0: dispatch fills in the current one;
									 * streams set it before each message */
	Buf			body;			/* fields of the response but the header; heap */
	Buf			answer;			/* complete message, made by dispatch of body */
};

#endif							/* DISPATCH_REQUEST_H */
