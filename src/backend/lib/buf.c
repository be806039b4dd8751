/*
 * buf.c
 *	  Growing output buffer and bounded input cursor.
 */
#include "server.h"

/* system */
#include <endian.h>
#include <stdarg.h>

/* lib and utils */
#include "lib/buf.h"
#include "utils/mmgr.h"

#define BUF_FIRST_BYTES 256

void
buf_init(Buf *buf, MemContext *mcx)
{
	*buf = (Buf) {.mcx = mcx};
}

void
buf_free(Buf *buf)
{
	if (buf->mcx == NULL)
		free(buf->data);
	*buf = (Buf) {.mcx = buf->mcx};
}

uint8_t *
buf_reserve(Buf *buf, size_t n)
{
	if (unlikely(buf->cap - buf->len < n))
	{
		size_t		cap = size_max(buf->cap * 2, BUF_FIRST_BYTES);

		while (cap - buf->len < n)
			cap *= 2;
		if (buf->mcx != NULL)
			buf->data = mcx_grow(buf->mcx, buf->data, buf->len, cap);
		else
			buf->data = xrealloc(buf->data, cap);
		buf->cap = cap;
	}
	return buf->data + buf->len;
}

void
buf_append(Buf *buf, const void *data, size_t n)
{
	if (n == 0)
		return;
	memcpy(buf_reserve(buf, n), data, n);
	buf->len += n;
}

void
buf_put_u8(Buf *buf, uint8_t v)
{
	buf_append(buf, &v, sizeof(v));
}

void
buf_put_u16(Buf *buf, uint16_t v)
{
	v = htole16(v);
	buf_append(buf, &v, sizeof(v));
}

void
buf_put_u32(Buf *buf, uint32_t v)
{
	v = htole32(v);
	buf_append(buf, &v, sizeof(v));
}

void
buf_put_u64(Buf *buf, uint64_t v)
{
	v = htole64(v);
	buf_append(buf, &v, sizeof(v));
}

void
buf_put_u32be(Buf *buf, uint32_t v)
{
	v = htobe32(v);
	buf_append(buf, &v, sizeof(v));
}

void
buf_put_u64be(Buf *buf, uint64_t v)
{
	v = htobe64(v);
	buf_append(buf, &v, sizeof(v));
}

void
buf_put_varint(Buf *buf, uint64_t v)
{
	uint8_t    *out = buf_reserve(buf, 10);
	size_t		n = 0;

	while (v >= 0x80)
	{
		out[n++] = (uint8_t) (v | 0x80);
		v >>= 7;
	}
	out[n++] = (uint8_t) v;
	buf->len += n;
}

void
buf_put_bytes(Buf *buf, Bytes b)
{
	buf_put_varint(buf, b.len);
	buf_append(buf, b.data, b.len);
}

void
buf_printf(Buf *buf, const char *fmt,...)
{
	va_list		args;
	int			len;

	va_start(args, fmt);
	len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (len < 0)
		return;
	buf_reserve(buf, (size_t) len + 1);
	va_start(args, fmt);
	vsnprintf((char *) buf->data + buf->len, (size_t) len + 1, fmt, args);
	va_end(args);
	buf->len += (size_t) len;
}

bool
cursor_get_raw(Cursor *cur, size_t n, Bytes *b)
{
	if (cursor_left(cur) < n)
		return false;
	*b = bytes_make(cur->pos, n);
	cur->pos += n;
	return true;
}

static bool
take(Cursor *cur, void *v, size_t n)
{
	if (cursor_left(cur) < n)
		return false;
	memcpy(v, cur->pos, n);
	cur->pos += n;
	return true;
}

bool
cursor_get_u8(Cursor *cur, uint8_t *v)
{
	return take(cur, v, sizeof(*v));
}

bool
cursor_get_u16(Cursor *cur, uint16_t *v)
{
	if (!take(cur, v, sizeof(*v)))
		return false;
	*v = le16toh(*v);
	return true;
}

bool
cursor_get_u32(Cursor *cur, uint32_t *v)
{
	if (!take(cur, v, sizeof(*v)))
		return false;
	*v = le32toh(*v);
	return true;
}

bool
cursor_get_u64(Cursor *cur, uint64_t *v)
{
	if (!take(cur, v, sizeof(*v)))
		return false;
	*v = le64toh(*v);
	return true;
}

bool
cursor_get_u32be(Cursor *cur, uint32_t *v)
{
	if (!take(cur, v, sizeof(*v)))
		return false;
	*v = be32toh(*v);
	return true;
}

bool
cursor_get_u64be(Cursor *cur, uint64_t *v)
{
	if (!take(cur, v, sizeof(*v)))
		return false;
	*v = be64toh(*v);
	return true;
}

bool
cursor_get_varint(Cursor *cur, uint64_t *v)
{
	const uint8_t *pos = cur->pos;
	uint64_t	value = 0;

	for (unsigned shift = 0; shift < 64; shift += 7)
	{
		if (pos == cur->end)
			return false;
		/* the tenth byte may only carry the top bit */
		if (shift == 63 && *pos > 1)
			return false;
		value |= (uint64_t) (*pos & 0x7f) << shift;
		if ((*pos++ & 0x80) == 0)
		{
			cur->pos = pos;
			*v = value;
			return true;
		}
	}
	return false;
}

bool
cursor_get_bytes(Cursor *cur, Bytes *b)
{
	Cursor		save = *cur;
	uint64_t	len;

	if (cursor_get_varint(cur, &len) && len <= cursor_left(cur) &&
		cursor_get_raw(cur, (size_t) len, b))
		return true;
	*cur = save;
	return false;
}
