/*
 * headcheck.h
 *	  Is the head of an HTTP/2 request well-formed?
 *
 * RFC 9113, section 8, as nghttp2 would check it by itself, but for one thing:
 * :authority may be anything.  grpc-go sends the whole URL there when it was
 * given one as its endpoint ("http://127.0.0.1:2379"), which nghttp2 refuses
 * and no option allows; so nghttp2's checks are off and these are on.
 */
#ifndef RPC_HEADCHECK_H
#define RPC_HEADCHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/buf.h"

/* zeroed when the stream begins */
typedef struct HeadCheck
{
	bool		has_method;
	bool		has_scheme;
	bool		has_path;
	bool		has_authority;
	bool		has_regular;	/* no pseudo-header may follow */
	bool		has_length;
	uint64_t	length;			/* content-length */
	uint64_t	received;		/* bytes of DATA */
} HeadCheck;

/* the next field; false: the request is malformed */
extern bool headcheck_field(HeadCheck *check, Bytes name, Bytes value);
/* all fields have come */
extern bool headcheck_complete(const HeadCheck *check);
/* some of the body has come; has it all? */
extern bool headcheck_data(HeadCheck *check, size_t len);
extern bool headcheck_end(const HeadCheck *check);

#endif							/* RPC_HEADCHECK_H */
