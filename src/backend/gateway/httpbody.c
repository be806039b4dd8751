/*
 * httpbody.c
 *	  The body of an HTTP/1.1 request: by its length, or in chunks.
 *
 * Chunk extensions and trailers, which no client of this API sends, are
 * refused: they are where parsers differ.
 */
#include "server.h"

/* this layer and below */
#include "gateway/httpbody.h"

/* 2^60 bytes are more than enough, and far from overflowing */
#define MAX_SIZE_DIGITS 15

static void take_framing(HttpBody *body, uint8_t c);
static void take_size(HttpBody *body, uint8_t c);
static int	hex_digit(uint8_t c);
static void expect(HttpBody *body, uint8_t c, uint8_t want, HttpBodyState next);

void
httpbody_init(HttpBody *body, int64_t length)
{
	*body = (HttpBody) {.state = HTTPBODY_SIZE};
	if (length < 0)
		return;
	body->state = length == 0 ? HTTPBODY_END : HTTPBODY_PLAIN;
	body->left = (uint64_t) length;
}

Bytes
httpbody_next(HttpBody *body, Cursor *input)
{
	Bytes		piece = BYTES_EMPTY;
	uint8_t		c;

	while (body->state != HTTPBODY_PLAIN && body->state != HTTPBODY_DATA)
	{
		if (body->state == HTTPBODY_END || body->state == HTTPBODY_BAD ||
			!cursor_get_u8(input, &c))
			return BYTES_EMPTY;
		take_framing(body, c);
	}
	cursor_get_raw(input, body->left < cursor_left(input) ?
				   (size_t) body->left : cursor_left(input), &piece);
	body->left -= piece.len;
	if (body->left == 0)
		body->state = body->state == HTTPBODY_PLAIN ? HTTPBODY_END :
			HTTPBODY_DATA_CR;
	return piece;
}

static void
take_framing(HttpBody *body, uint8_t c)
{
	switch (body->state)
	{
		case HTTPBODY_SIZE:
			take_size(body, c);
			break;
		case HTTPBODY_SIZE_LF:
			expect(body, c, '\n', body->left > 0 ? HTTPBODY_DATA :
				   HTTPBODY_LAST_CR);
			break;
		case HTTPBODY_DATA_CR:
			expect(body, c, '\r', HTTPBODY_DATA_LF);
			break;
		case HTTPBODY_DATA_LF:
			expect(body, c, '\n', HTTPBODY_SIZE);
			body->ndigits = 0;
			break;
		case HTTPBODY_LAST_CR:
			expect(body, c, '\r', HTTPBODY_LAST_LF);
			break;
		case HTTPBODY_LAST_LF:
			expect(body, c, '\n', HTTPBODY_END);
			break;
		default:
			body->state = HTTPBODY_BAD;
			break;
	}
}

static void
take_size(HttpBody *body, uint8_t c)
{
	int			digit = hex_digit(c);

	if (c == '\r' && body->ndigits > 0)
		body->state = HTTPBODY_SIZE_LF;
	else if (digit < 0 || body->ndigits == MAX_SIZE_DIGITS)
		body->state = HTTPBODY_BAD;
	else
	{
		if (body->ndigits++ == 0)
			body->left = 0;
		body->left = body->left << 4 | (unsigned) digit;
	}
}

static int
hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static void
expect(HttpBody *body, uint8_t c, uint8_t want, HttpBodyState next)
{
	body->state = c == want ? next : HTTPBODY_BAD;
}
