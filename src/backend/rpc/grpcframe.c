/*
 * grpcframe.c
 *	  Messages of a request, cut out of DATA frames.
 */
#include "server.h"

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "rpc/grpcframe.h"

#define FIRST_BYTES 1024
/* above the first window of a stream there are few at one time */
#define MANY_BYTES 65536
/* a buffer up to this size waits for the next request */
#define KEEP_BYTES 8192

static bool take_prefix(GrpcFrame *frame, Bytes *data);
static void store(GrpcFrame *frame, Bytes data);

GrpcFrameResult
grpcframe_take(GrpcFrame *frame, Bytes *data, size_t limit)
{
	size_t		n;

	if (!grpcframe_has_length(frame))
	{
		if (!take_prefix(frame, data))
			return GRPC_FRAME_MORE;
		if (frame->prefix[0] > 1)
			return GRPC_FRAME_BAD_FLAG;
		if (frame->length > limit)
			return GRPC_FRAME_TOO_LARGE;
		if (frame->prefix[0] == 1)
			return GRPC_FRAME_COMPRESSED;
	}
	n = size_min(data->len, frame->length - frame->len);
	store(frame, bytes_make(data->data, n));
	*data = bytes_make(data->data + n, data->len - n);
	return frame->len == frame->length ? GRPC_FRAME_COMPLETE : GRPC_FRAME_MORE;
}

GrpcFrameResult
grpcframe_feed(GrpcFrame *frame, Bytes data, size_t limit)
{
	GrpcFrameResult result = grpcframe_take(frame, &data, limit);

	return result == GRPC_FRAME_COMPLETE && data.len > 0 ?
		GRPC_FRAME_SECOND : result;
}

GrpcFrameResult
grpcframe_end(const GrpcFrame *frame)
{
	return grpcframe_has_length(frame) && frame->len == frame->length ?
		GRPC_FRAME_COMPLETE : GRPC_FRAME_MORE;
}

void
grpcframe_reset(GrpcFrame *frame)
{
	if (frame->cap > KEEP_BYTES)
		grpcframe_free(frame);
	frame->prefix_len = 0;
	frame->length = 0;
	frame->len = 0;
}

void
grpcframe_free(GrpcFrame *frame)
{
	free(frame->data);
	*frame = (GrpcFrame) {.data = NULL};
}

void
grpcframe_write_prefix(uint8_t prefix[GRPC_PREFIX_BYTES], uint32_t length)
{
	prefix[0] = 0;
	prefix[1] = (uint8_t) (length >> 24);
	prefix[2] = (uint8_t) (length >> 16);
	prefix[3] = (uint8_t) (length >> 8);
	prefix[4] = (uint8_t) length;
}

static bool
take_prefix(GrpcFrame *frame, Bytes *data)
{
	size_t		n = size_min(data->len,
							 (size_t) (GRPC_PREFIX_BYTES - frame->prefix_len));
	const uint8_t *p = frame->prefix;

	if (n > 0)
		memcpy(frame->prefix + frame->prefix_len, data->data, n);
	frame->prefix_len += (uint8_t) n;
	*data = bytes_make(data->data + n, data->len - n);
	if (!grpcframe_has_length(frame))
		return false;
	frame->length = (uint32_t) p[1] << 24 | (uint32_t) p[2] << 16 |
		(uint32_t) p[3] << 8 | p[4];
	return true;
}

static void
store(GrpcFrame *frame, Bytes data)
{
	if (data.len == 0)
		return;
	if (frame->cap - frame->len < data.len)
	{
		/*
		 * A quarter more than came while many may lie side by side, later at
		 * most twice what came, and never more than was announced.
		 */
		size_t		more = frame->cap < MANY_BYTES ? frame->cap / 4 : frame->cap;
		size_t		cap = size_max(frame->cap + more, FIRST_BYTES);

		cap = size_max(cap, frame->len + data.len);
		if (cap > frame->length)
			cap = size_max(frame->length, frame->len + data.len);
		frame->data = xrealloc(frame->data, cap);
		frame->cap = cap;
	}
	memcpy(frame->data + frame->len, data.data, data.len);
	frame->len += data.len;
}
