/*
 * bytes.h
 *	  A run of bytes that somebody else owns.
 *
 * Keys, values, names and messages may hold any byte, zero included, so they
 * are never C strings inside the server.  A Bytes borrows: it is good as long
 * as what it points into.
 */
#ifndef LIB_BYTES_H
#define LIB_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct Bytes
{
	const uint8_t *data;		/* may be NULL when len is 0 */
	size_t		len;
} Bytes;

#define BYTES_EMPTY ((Bytes) {NULL, 0})

/* a Bytes over a string literal or char array, without its final zero */
#define BYTES_LITERAL(s) ((Bytes) {(const uint8_t *) (s), sizeof(s) - 1})

static inline Bytes
bytes_make(const void *data, size_t len)
{
	return (Bytes) {(const uint8_t *) data, len};
}

static inline Bytes
bytes_from_cstr(const char *s)
{
	return bytes_make(s, s == NULL ? 0 : strlen(s));
}

/* Byte order, shorter first when one is a prefix: etcd's order of keys. */
static inline int
bytes_compare(Bytes a, Bytes b)
{
	size_t		n = a.len < b.len ? a.len : b.len;
	int			c = n == 0 ? 0 : memcmp(a.data, b.data, n);

	if (c != 0)
		return c;
	return a.len < b.len ? -1 : a.len > b.len;
}

static inline bool
bytes_equal(Bytes a, Bytes b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool
bytes_equal_cstr(Bytes a, const char *s)
{
	return bytes_equal(a, bytes_from_cstr(s));
}

#endif							/* LIB_BYTES_H */
