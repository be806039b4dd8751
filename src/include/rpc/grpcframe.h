/*
 * grpcframe.h
 *	  Messages of a request, cut out of DATA frames.
 *
 *	+------+---------------------+------------------
 *	| flag | length, 4 bytes, be | message ...
 *	+------+---------------------+------------------
 *	  1: compressed
 *
 * Memory is taken as bytes come, never by the length announced.
 */
#ifndef RPC_GRPCFRAME_H
#define RPC_GRPCFRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/bytes.h"

#define GRPC_PREFIX_BYTES 5

/* all zero at the start */
typedef struct GrpcFrame
{
	uint8_t		prefix[GRPC_PREFIX_BYTES];
	uint8_t		prefix_len;
	uint32_t	length;			/* of the message, once the prefix is there */
	uint8_t    *data;			/* heap */
	size_t		len;
	size_t		cap;
} GrpcFrame;

typedef enum GrpcFrameResult
{
	GRPC_FRAME_MORE,
	GRPC_FRAME_COMPLETE,
	GRPC_FRAME_TOO_LARGE,		/* announces more than the limit */
	GRPC_FRAME_COMPRESSED,
	GRPC_FRAME_BAD_FLAG,		/* prefix[0] is neither 0 nor 1 */
	GRPC_FRAME_SECOND			/* bytes after the one message */
} GrpcFrameResult;

/*
 * Take what belongs to the message from the front of data; the rest stays in
 * data.  COMPLETE: the message is there, and grpcframe_reset() begins the next.
 */
extern GrpcFrameResult grpcframe_take(GrpcFrame *frame, Bytes *data,
									  size_t limit);

/* the same where there is one message only: bytes behind it are SECOND */
extern GrpcFrameResult grpcframe_feed(GrpcFrame *frame, Bytes data,
									  size_t limit);

/* end of the body: COMPLETE, MORE (cut off, or nothing if prefix_len is 0) */
extern GrpcFrameResult grpcframe_end(const GrpcFrame *frame);

static inline bool
grpcframe_has_length(const GrpcFrame *frame)
{
	return frame->prefix_len == GRPC_PREFIX_BYTES;
}

/* ready for the next request; a small buffer is kept, a large one freed */
extern void grpcframe_reset(GrpcFrame *frame);
extern void grpcframe_free(GrpcFrame *frame);

extern void grpcframe_write_prefix(uint8_t prefix[GRPC_PREFIX_BYTES],
								   uint32_t length);

#endif							/* RPC_GRPCFRAME_H */
