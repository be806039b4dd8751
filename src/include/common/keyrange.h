/*
 * keyrange.h
 *	  A range of keys, normalised once.
 *
 * etcd writes ranges as (key, range_end) with special cases; the same pair
 * was read differently at different places there more than once, and each
 * time that was an advisory.  Here a request's pair becomes a KeyRange at the
 * door, and the same KeyRange is checked and executed.
 *
 * Rules (etcd-auth-semantics.md A6, etcd-v3-wire.md 5.2): range_end empty or
 * absent: the single key.  range_end = one byte 0x00: all keys >= key.  Else
 * [key, range_end), empty if key >= range_end.
 */
#ifndef COMMON_KEYRANGE_H
#define COMMON_KEYRANGE_H

#include <stdbool.h>

#include "lib/bytes.h"

typedef enum KeyRangeKind
{
	KEYRANGE_POINT,				/* exactly begin */
	KEYRANGE_SPAN,				/* [begin, end) */
	KEYRANGE_FROM				/* begin and everything after it */
} KeyRangeKind;

typedef struct KeyRange
{
	KeyRangeKind kind;
	Bytes		begin;
	Bytes		end;			/* KEYRANGE_SPAN only */
} KeyRange;

extern KeyRange keyrange_make(Bytes key, Bytes range_end);

/* true for a span whose begin >= end: holds no key */
extern bool keyrange_is_empty(const KeyRange *range);
extern bool keyrange_contains(const KeyRange *range, Bytes key);
/* key lies behind the range: stop scanning */
extern bool keyrange_is_past(const KeyRange *range, Bytes key);
extern bool keyrange_overlaps(const KeyRange *a, const KeyRange *b);

/* back to etcd's pair, for stored permissions and messages */
extern Bytes keyrange_wire_end(const KeyRange *range);

#endif							/* COMMON_KEYRANGE_H */
