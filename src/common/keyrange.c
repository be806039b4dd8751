/*
 * keyrange.c
 *	  A range of keys: made from etcd's pair, and asked questions.
 *
 * The only place that knows what range_end 0x00 and an empty range_end mean.
 */
#include "server.h"

/* this layer and below */
#include "common/keyrange.h"

static const uint8_t open_end[1] = {0x00};

static bool is_open_end(Bytes range_end);

KeyRange
keyrange_make(Bytes key, Bytes range_end)
{
	if (range_end.len == 0)
		return (KeyRange) {.kind = KEYRANGE_POINT, .begin = key};
	if (is_open_end(range_end))
		return (KeyRange) {.kind = KEYRANGE_FROM, .begin = key};
	return (KeyRange) {
		.kind = KEYRANGE_SPAN, .begin = key, .end = range_end};
}

bool
keyrange_is_empty(const KeyRange *range)
{
	return range->kind == KEYRANGE_SPAN &&
		bytes_compare(range->begin, range->end) >= 0;
}

bool
keyrange_contains(const KeyRange *range, Bytes key)
{
	if (range->kind == KEYRANGE_POINT)
		return bytes_equal(range->begin, key);
	return bytes_compare(range->begin, key) <= 0 &&
		!keyrange_is_past(range, key);
}

bool
keyrange_is_past(const KeyRange *range, Bytes key)
{
	switch (range->kind)
	{
		case KEYRANGE_POINT:
			return bytes_compare(key, range->begin) > 0;
		case KEYRANGE_SPAN:
			return bytes_compare(key, range->end) >= 0;
		case KEYRANGE_FROM:
			return false;
	}
	/* a kind that nobody made holds nothing */
	return true;
}

bool
keyrange_overlaps(const KeyRange *a, const KeyRange *b)
{
	return !keyrange_is_empty(a) && !keyrange_is_empty(b) &&
		!keyrange_is_past(a, b->begin) && !keyrange_is_past(b, a->begin);
}

Bytes
keyrange_wire_end(const KeyRange *range)
{
	switch (range->kind)
	{
		case KEYRANGE_POINT:
			return BYTES_EMPTY;
		case KEYRANGE_SPAN:
			return range->end;
		case KEYRANGE_FROM:
			return bytes_make(open_end, sizeof(open_end));
	}
	return BYTES_EMPTY;
}

static bool
is_open_end(Bytes range_end)
{
	return range_end.len == 1 && range_end.data[0] == 0x00;
}
