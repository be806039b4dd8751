/*
 * status.h
 *	  The end of a call: gRPC status code and message.
 */
#ifndef DISPATCH_STATUS_H
#define DISPATCH_STATUS_H

#include "dispatch/request.h"
#include "lib/bytes.h"
#include "utils/errcodes.h"
#include "utils/mmgr.h"

/* of gRPC; those that a door gives without a line in errlist.h */
#define GRPC_OK 0
#define GRPC_INVALID_ARGUMENT 3
#define GRPC_PERMISSION_DENIED 7
#define GRPC_RESOURCE_EXHAUSTED 8
#define GRPC_UNIMPLEMENTED 12
#define GRPC_INTERNAL 13

typedef struct GrpcStatus
{
	int			code;
	int			http_status;	/* 200 but for what is no gRPC call at all */
	const char *text;			/* before percent encoding */
} GrpcStatus;

extern GrpcStatus status_of_error(ErrCode error);
/* of a request that was answered with an error; borrows its text */
extern GrpcStatus status_of_request(const Request *req);

/* the value of grpc-message, cut off at a length that clients accept */
extern Bytes status_encode_message(MemContext *mcx, const char *text);

/* as Go's %q shows it, for texts that quote what the client sent */
extern const char *status_quote(MemContext *mcx, Bytes text);

#endif							/* DISPATCH_STATUS_H */
