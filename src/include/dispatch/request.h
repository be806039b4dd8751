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

/*
 * What a door supplies: called exactly once per request, when it is
 * ANSWERED.  The door copies or sends, then calls request_destroy().
 */
typedef struct RequestOps
{
	void		(*finished) (Request *req);
} RequestOps;

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

	/* once resolved */
	bool		is_identified;
	Identity	identity;

	/* the handler's own; allocated in mcx */
	void	   *handler_state;

	/* pending: the continuation, by what is waited for; one of the three */
	ReqCompletionFn on_completion;
	ReqReadFn	on_read;
	ReqHashFn	on_hash;

	/* dispatch/pending.c only */
	uint64_t	ring_id;		/* 0: nothing in the ring */
	struct PendingHash *hash;	/* NULL: nothing with the hashing thread */
	int64_t		expires_ms;		/* CLOCK_MONOTONIC */
	Request    *next_in_bucket;
	Request    *prev_pending;
	Request    *next_pending;

	int64_t		started_ms;		/* CLOCK_MONOTONIC, for the slow-request line */

	/* the answer */
	ErrCode		error;			/* with one, body and answer are empty */
	const char *error_text;		/* instead of the table's text, or NULL */
	int			error_grpc_code;	/* instead of the table's, or -1 */
	int64_t		header_revision;	/* 0: dispatch fills in the current one */
	Buf			body;			/* fields of the response but the header; heap */
	Buf			answer;			/* complete message, made by dispatch of body */
};

#endif							/* DISPATCH_REQUEST_H */
