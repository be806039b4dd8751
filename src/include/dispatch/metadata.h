/*
 * metadata.h
 *	  What the headers of a request say, and nothing else of them.
 */
#ifndef DISPATCH_METADATA_H
#define DISPATCH_METADATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/identity.h"
#include "dispatch/request.h"
#include "lib/bytes.h"
#include "utils/mmgr.h"

/* as HTTP/2 counts: name, value and 32 for each field */
#define METADATA_MAX_BYTES 65536
#define METADATA_MAX_FIELDS 256

/* all zero at the start; the Bytes live in the context given to metadata_add */
typedef struct GrpcHead
{
	Bytes		method;
	Bytes		path;
	Bytes		content_type;
	Bytes		encoding;
	Bytes		timeout;
	Bytes		token;			/* the first value, as it was sent */
	Bytes		authorization;
	Bytes		client_api_version;
	bool		has_timeout;
	bool		has_token;
	bool		has_authorization;
	bool		require_leader;
	bool		is_from_gateway;	/* any grpcgateway-... field */
	bool		is_too_large;
	uint32_t	fields;
	size_t		bytes;
} GrpcHead;

extern void metadata_add(GrpcHead *head, MemContext *mcx, Bytes name,
						 Bytes value);

/*
 * Token (first value; one leading "Bearer " goes) or else authorization.  The
 * certificate's name is left out of what a gateway forwards: it would be the
 * gateway's own (CVE-2018-16886).  Borrows from head and common_name.
 */
extern void metadata_credentials(const GrpcHead *head, Bytes common_name,
								 Credentials *credentials);

/*
 * Credentials, client's version and require_leader into a new request.  What
 * is borrowed from head is copied, the token so that it is overwritten with
 * the request: that may outlive its door.
 */
extern void metadata_fill_request(const GrpcHead *head, Bytes common_name,
								  Request *req);

/* grpc-timeout in ms, rounded up; false and gRPC's words in why if malformed */
extern bool metadata_timeout_ms(Bytes text, int64_t *ms, const char **why);

/* application/grpc, alone or followed by + or ; */
extern bool metadata_is_grpc(Bytes content_type);

/* "/package.Service/Method" at its last slash */
extern bool metadata_split_path(Bytes path, Bytes *service, Bytes *method);

#endif							/* DISPATCH_METADATA_H */
