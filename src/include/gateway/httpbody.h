/*
 * httpbody.h
 *	  The body of an HTTP/1.1 request: by its length, or in chunks.
 */
#ifndef GATEWAY_HTTPBODY_H
#define GATEWAY_HTTPBODY_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/buf.h"

typedef enum HttpBodyState
{
	/* by length */
	HTTPBODY_PLAIN,
	/* in chunks: size, its CR LF, data, CR LF behind it, the last empty line */
	HTTPBODY_SIZE,
	HTTPBODY_SIZE_LF,
	HTTPBODY_DATA,
	HTTPBODY_DATA_CR,
	HTTPBODY_DATA_LF,
	HTTPBODY_LAST_CR,
	HTTPBODY_LAST_LF,
	HTTPBODY_END,
	HTTPBODY_BAD
} HttpBodyState;

typedef struct HttpBody
{
	HttpBodyState state;
	uint64_t	left;			/* of the body, or of the chunk */
	unsigned	ndigits;		/* of the size of a chunk */
} HttpBody;

/* length -1: in chunks */
extern void httpbody_init(HttpBody *body, int64_t length);

/*
 * The next piece of the body, which borrows from input; empty when input is
 * used up, or at the end, or when it is malformed: look at the state.
 */
extern Bytes httpbody_next(HttpBody *body, Cursor *input);

#endif							/* GATEWAY_HTTPBODY_H */
