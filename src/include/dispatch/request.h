/*
 * request.h
 *	  One request of a client, whatever door it came through.
 *
 * A Request's state only moves forward:
 *
 *	RECEIVED -> PERMITTED -> WAITING -> ANSWERED
 *	    |           |____________________^ ^
 *	    |__________________________________|   (only with an error)
 *
 * A request can be answered without error only after authorize() has said
 * yes (PERMITTED); dispatch asserts it and answers ERR_INTERNAL otherwise.
 * A handler never waits: it returns DONE (answer complete), PENDING (a
 * continuation will be called) or FAILED (request_fail() was called).
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

	/* waiting: one of these is set */
	uint64_t	ring_id;		/* 0: nothing in the ring */
	int64_t		expires_ms;		/* request timeout, CLOCK_MONOTONIC */
	ReqCompletionFn on_completion;
	ReqReadFn	on_read;
	ReqHashFn	on_hash;
	void	   *handler_state;
	Request    *next;			/* dispatch's table */

	/* the answer */
	ErrCode		error;
	const char *error_text;		/* instead of the table's text, or NULL */
	int			error_grpc_code;	/* instead of the table's, or -1 */
	int64_t		header_revision;	/* 0: dispatch fills in the current one */
	Buf			body;			/* fields of the response but the header */
	Buf			answer;			/* complete message, made by dispatch */
};

#endif							/* DISPATCH_REQUEST_H */
