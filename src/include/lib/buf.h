/*
 * buf.h
 *	  Bytes out (Buf) and bytes in (Cursor), with the length always known.
 *
 * Fixed-width integers are little-endian unless the name says "be".  Getters
 * return false and change nothing when too little is left, so a decoder is a
 * chain of && and cannot read beyond its input.
 */
#ifndef LIB_BUF_H
#define LIB_BUF_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/bytes.h"
#include "utils/mmgr.h"

typedef struct Buf
{
	uint8_t    *data;
	size_t		len;
	size_t		cap;
	MemContext *mcx;			/* NULL: heap, give back with buf_free() */
} Buf;

typedef struct Cursor
{
	const uint8_t *pos;
	const uint8_t *end;
} Cursor;

extern void buf_init(Buf *buf, MemContext *mcx);
extern void buf_free(Buf *buf);

/* room for n more bytes; returns where they go, does not move len */
extern uint8_t *buf_reserve(Buf *buf, size_t n);
extern void buf_append(Buf *buf, const void *data, size_t n);
extern void buf_put_u8(Buf *buf, uint8_t v);
extern void buf_put_u16(Buf *buf, uint16_t v);
extern void buf_put_u32(Buf *buf, uint32_t v);
extern void buf_put_u64(Buf *buf, uint64_t v);
extern void buf_put_u32be(Buf *buf, uint32_t v);
extern void buf_put_u64be(Buf *buf, uint64_t v);
/* base-128, as protobuf writes it: 1 to 10 bytes */
extern void buf_put_varint(Buf *buf, uint64_t v);
/* varint length, then the bytes */
extern void buf_put_bytes(Buf *buf, Bytes b);
extern void buf_printf(Buf *buf, const char *fmt,...)
			__attribute__((format(printf, 2, 3)));

static inline Bytes
buf_bytes(const Buf *buf)
{
	return bytes_make(buf->data, buf->len);
}

static inline Cursor
cursor_make(Bytes b)
{
	return (Cursor) {b.data, b.data == NULL ? NULL : b.data + b.len};
}

static inline size_t
cursor_left(const Cursor *cur)
{
	return (size_t) (cur->end - cur->pos);
}

extern bool cursor_get_u8(Cursor *cur, uint8_t *v);
extern bool cursor_get_u16(Cursor *cur, uint16_t *v);
extern bool cursor_get_u32(Cursor *cur, uint32_t *v);
extern bool cursor_get_u64(Cursor *cur, uint64_t *v);
extern bool cursor_get_u32be(Cursor *cur, uint32_t *v);
extern bool cursor_get_u64be(Cursor *cur, uint64_t *v);
extern bool cursor_get_varint(Cursor *cur, uint64_t *v);
/* what buf_put_bytes() wrote; borrows from the input */
extern bool cursor_get_bytes(Cursor *cur, Bytes *b);
extern bool cursor_get_raw(Cursor *cur, size_t n, Bytes *b);

#endif							/* LIB_BUF_H */
