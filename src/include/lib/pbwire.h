/*
 * pbwire.h
 *	  Writes protobuf fields straight into a Buf.
 *
 * For answers that are made of stored keys and values: building a message
 * tree first would copy every value once more.  Fields with their default
 * value are left out, as proto3 does; say _always where presence matters.
 */
#ifndef LIB_PBWIRE_H
#define LIB_PBWIRE_H

#include "lib/buf.h"

#define PBWIRE_VARINT 0
#define PBWIRE_BYTES 2

static inline void
pbwire_tag(Buf *buf, unsigned field, unsigned wire_type)
{
	buf_put_varint(buf, (uint64_t) field << 3 | wire_type);
}

static inline void
pbwire_put_uint(Buf *buf, unsigned field, uint64_t v)
{
	if (v == 0)
		return;
	pbwire_tag(buf, field, PBWIRE_VARINT);
	buf_put_varint(buf, v);
}

static inline void
pbwire_put_int(Buf *buf, unsigned field, int64_t v)
{
	pbwire_put_uint(buf, field, (uint64_t) v);
}

static inline void
pbwire_put_bytes(Buf *buf, unsigned field, Bytes b)
{
	if (b.len == 0)
		return;
	pbwire_tag(buf, field, PBWIRE_BYTES);
	buf_put_bytes(buf, b);
}

static inline void
pbwire_put_bytes_always(Buf *buf, unsigned field, Bytes b)
{
	pbwire_tag(buf, field, PBWIRE_BYTES);
	buf_put_bytes(buf, b);
}

/* length of v as a varint, 1 to 10 bytes */
static inline size_t
pbwire_varint_size(uint64_t v)
{
	size_t		n = 1;

	while (v >= 0x80)
	{
		v >>= 7;
		n++;
	}
	return n;
}

static inline size_t
pbwire_int_size(unsigned field, int64_t v)
{
	return v == 0 ? 0 :
		pbwire_varint_size((uint64_t) field << 3) +
		pbwire_varint_size((uint64_t) v);
}

static inline size_t
pbwire_bytes_size(unsigned field, Bytes b)
{
	return b.len == 0 ? 0 :
		pbwire_varint_size((uint64_t) field << 3) +
		pbwire_varint_size(b.len) + b.len;
}

#endif							/* LIB_PBWIRE_H */
