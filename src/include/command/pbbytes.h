/*
 * pbbytes.h
 *	  A bytes field of a decoded message, as the handlers take it.
 */
#ifndef COMMAND_PBBYTES_H
#define COMMAND_PBBYTES_H

#include <protobuf-c/protobuf-c.h>

#include "lib/bytes.h"

/* The bytes stay the message's. */
static inline Bytes
pb_bytes(ProtobufCBinaryData data)
{
	return bytes_make(data.data, data.len);
}

#endif							/* COMMAND_PBBYTES_H */
