/*
 * decode.h
 *	  From the bytes of a message to the message: for dispatch's own files.
 */
#ifndef DISPATCH_DECODE_H
#define DISPATCH_DECODE_H

#include <stdbool.h>

#include <protobuf-c/protobuf-c.h>

#include "lib/bytes.h"
#include "utils/errcodes.h"
#include "utils/mmgr.h"

/*
 * Decode into memory of mcx, where the message stays.
 *
 * ERR_INTERNAL: not a message of this type; *why is a literal that says what
 * is wrong.  ERR_TOO_MANY_OPS: well-formed, but with more operations or
 * deeper nesting than any transaction may have; it is not unpacked.
 */
extern ErrCode decode_message(const ProtobufCMessageDescriptor *type,
							  Bytes wire, MemContext *mcx, void **message,
							  const char **why);

extern bool utf8_is_valid(Bytes text);

#endif							/* DISPATCH_DECODE_H */
