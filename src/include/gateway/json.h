/*
 * json.h
 *	  JSON to protobuf and back, along the descriptors of the messages.
 *
 * etcd-v3-wire.md 9.2.  What goes in becomes bytes on the wire, not a message,
 * so that dispatch decodes and checks it as it does for gRPC; what comes out
 * is written straight from the wire, so that no value is copied once more.
 */
#ifndef GATEWAY_JSON_H
#define GATEWAY_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include <protobuf-c/protobuf-c.h>

#include "lib/buf.h"
#include "lib/bytes.h"

/* for all of the process, before the first conversion */
extern void json_init(void);

/*
 * Append the message that text describes, an object, to wire.  False and one
 * line in error if it does not; wire then holds part of it.
 */
extern bool json_to_wire(const ProtobufCMessageDescriptor *type, Bytes text,
						 Buf *wire, char *error, size_t error_size);

/*
 * Append the message as compact JSON: names as in the .proto file, fields in
 * the order of their numbers, defaults left out.  False if wire is not such a
 * message; out then holds part of it.
 */
extern bool json_from_wire(const ProtobufCMessageDescriptor *type, Bytes wire,
						   Buf *out);

/* a string with its quotes; what is not UTF-8 becomes U+FFFD */
extern void json_put_string(Buf *out, Bytes text);

#endif							/* GATEWAY_JSON_H */
