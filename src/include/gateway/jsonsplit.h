/*
 * jsonsplit.h
 *	  Where one JSON value ends and the next begins.
 *
 * The body of a stream is a row of JSON objects in pieces of any size.  This
 * cuts it, and refuses what would be too much before a parser sees it: depth,
 * number of values, bytes.  It knows strings, brackets and numbers, no more.
 */
#ifndef GATEWAY_JSONSPLIT_H
#define GATEWAY_JSONSPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dispatch/arrival.h"
#include "lib/buf.h"

/* what JSON adds to a message: a third for base64, and names and blanks */
#define JSON_OVERHEAD_BYTES (64 * 1024)

/* a transaction in a transaction is four levels further down */
#define JSONSPLIT_MAX_DEPTH 300
/* no number of the API has more characters, not even as 1e3 */
#define JSONSPLIT_MAX_NUMBER 64

typedef enum JsonSplitResult
{
	JSONSPLIT_MORE,				/* all input taken */
	JSONSPLIT_VALUE,			/* an object is complete in value */
	JSONSPLIT_BAD				/* split->why; no more can be read */
} JsonSplitResult;

typedef struct JsonSplit
{
	/* set by jsonsplit_init() */
	size_t		max_bytes;
	uint32_t	max_values;

	/*
	 * The object so far; heap.  Numbers of 19 digits and more stand in quotes,
	 * so that a parser without unsigned numbers can be used.
	 */
	Buf			value;
	const char *why;
	bool		is_too_large;	/* why is that one: more than max_bytes */
	uint32_t	depth;
	uint32_t	nvalues;
	size_t		number_at;		/* where the number under way begins */
	bool		in_number;
	bool		in_string;
	bool		is_escaped;
} JsonSplit;

/* most bytes of a message in JSON */
static inline size_t
json_max_bytes(void)
{
	return arrival_max_bytes() / 3 * 4 + JSON_OVERHEAD_BYTES;
}

extern void jsonsplit_init(JsonSplit *split, size_t max_bytes,
						   uint32_t max_values);
extern void jsonsplit_free(JsonSplit *split);

/* Take from input until an object is complete, or all of it. */
extern JsonSplitResult jsonsplit_feed(JsonSplit *split, Cursor *input);

/* after a value: begin the next one */
extern void jsonsplit_next(JsonSplit *split);

/* nothing of a further value was seen */
extern bool jsonsplit_is_between(const JsonSplit *split);

#endif							/* GATEWAY_JSONSPLIT_H */
