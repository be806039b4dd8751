/*
 * webstream.h
 *	  A stream of HTTP/2 that is no gRPC call: private to rpc/.
 *
 * The carrier of comm/http.h for one stream.  Who answers is handed down from
 * above (GrpcOptions.http); without that such a stream is refused as it is by
 * a gRPC server.
 */
#ifndef RPC_WEBSTREAM_H
#define RPC_WEBSTREAM_H

#include "rpc/grpcstream.h"

/* could this be the path of an RPC?  Then its fields are not collected. */
extern bool web_is_rpc_path(Bytes path);

/* one field of the headers, not a pseudo field; makes stream->web */
extern void web_header(GrpcStream *stream, Bytes name, Bytes value);
/* all headers are there, and they are not those of gRPC */
extern void web_begin(GrpcStream *stream);
extern void web_data(GrpcStream *stream, Bytes data);
extern void web_end(GrpcStream *stream);
/* the stream closes; harmless if it never was one of these */
extern void web_close(GrpcStream *stream);
extern size_t web_held_bytes(const GrpcStream *stream);

/* ---- for the session ---- */

extern void web_run_turns(GrpcSession *session);
extern void web_stop_all(GrpcSession *session);
/* INT64_MAX: none */
extern int64_t web_next_timer_ms(const GrpcSession *session);
extern void web_on_timer(GrpcSession *session);

#endif							/* RPC_WEBSTREAM_H */
