/*
 * jsonsplit.c
 *	  Where one JSON value ends and the next begins.
 *
 * What is cut out goes to jansson, which says whether it is JSON at all; so
 * here it is enough to be right about objects that are, and to be bounded for
 * all others.  Every byte is looked at once.
 */
#include "server.h"

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "gateway/jsonsplit.h"

/* jansson's integers end at 2^63 - 1, which has 19 digits */
#define QUOTE_DIGITS 19
/* a buffer that grew beyond this is not kept for the next value */
#define KEEP_BYTES (64 * 1024)

static JsonSplitResult bad(JsonSplit *split, const char *why);
static JsonSplitResult take(JsonSplit *split, uint8_t c);
static void take_in_string(JsonSplit *split, uint8_t c);
static JsonSplitResult open_bracket(JsonSplit *split);
static bool is_number_char(uint8_t c);
static void quote_number(JsonSplit *split);

void
jsonsplit_init(JsonSplit *split, size_t max_bytes, uint32_t max_values)
{
	*split = (JsonSplit) {.max_bytes = max_bytes, .max_values = max_values};
	buf_init(&split->value, NULL);
}

void
jsonsplit_free(JsonSplit *split)
{
	/* it may hold a password */
	if (split->value.data != NULL)
		secret_wipe(split->value.data, split->value.cap);
	buf_free(&split->value);
}

JsonSplitResult
jsonsplit_feed(JsonSplit *split, Cursor *input)
{
	uint8_t		c;

	if (split->why != NULL)
		return JSONSPLIT_BAD;
	while (cursor_get_u8(input, &c))
	{
		JsonSplitResult result = take(split, c);

		if (result != JSONSPLIT_MORE)
			return result;
	}
	return JSONSPLIT_MORE;
}

void
jsonsplit_next(JsonSplit *split)
{
	Assert(split->depth == 0);
	if (split->value.len > 0)
		secret_wipe(split->value.data, split->value.len);
	split->value.len = 0;
	split->nvalues = 0;
	if (split->value.cap > KEEP_BYTES)
		buf_free(&split->value);
}

bool
jsonsplit_is_between(const JsonSplit *split)
{
	return split->why == NULL && split->value.len == 0;
}

static JsonSplitResult
bad(JsonSplit *split, const char *why)
{
	split->why = why;
	return JSONSPLIT_BAD;
}

static JsonSplitResult
take(JsonSplit *split, uint8_t c)
{
	if (split->depth == 0)
	{
		if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
			return JSONSPLIT_MORE;
		if (c != '{')
			return bad(split, "a JSON object is expected");
	}
	if (split->value.len >= split->max_bytes)
	{
		split->is_too_large = true;
		return bad(split, "the JSON value is too large");
	}
	if (split->in_string)
	{
		take_in_string(split, c);
		return JSONSPLIT_MORE;
	}
	if (split->in_number && !is_number_char(c))
		quote_number(split);
	else if (split->in_number &&
			 split->value.len - split->number_at >= JSONSPLIT_MAX_NUMBER)
		return bad(split, "a number is too long");
	if (!split->in_number && ((c >= '0' && c <= '9') || c == '-'))
	{
		split->in_number = true;
		split->number_at = split->value.len;
	}
	buf_put_u8(&split->value, c);
	switch (c)
	{
		case '"':
			split->in_string = true;
			return JSONSPLIT_MORE;
		case '{':
		case '[':
			return open_bracket(split);
		case '}':
		case ']':
			return --split->depth == 0 ? JSONSPLIT_VALUE : JSONSPLIT_MORE;
		case ',':
			if (++split->nvalues > split->max_values)
				return bad(split, "too many values");
			return JSONSPLIT_MORE;
		default:
			return JSONSPLIT_MORE;
	}
}

static void
take_in_string(JsonSplit *split, uint8_t c)
{
	buf_put_u8(&split->value, c);
	if (split->is_escaped)
		split->is_escaped = false;
	else if (c == '\\')
		split->is_escaped = true;
	else if (c == '"')
		split->in_string = false;
}

static JsonSplitResult
open_bracket(JsonSplit *split)
{
	if (++split->depth > JSONSPLIT_MAX_DEPTH)
		return bad(split, "exceeded maximum recursion depth");
	if (++split->nvalues > split->max_values)
		return bad(split, "too many values");
	return JSONSPLIT_MORE;
}

static bool
is_number_char(uint8_t c)
{
	return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' ||
		c == 'e' || c == 'E';
}

/* the number under way has ended: into quotes if it is a long integer */
static void
quote_number(JsonSplit *split)
{
	Buf		   *value = &split->value;
	size_t		len = value->len - split->number_at;
	uint8_t    *number = value->data + split->number_at;

	split->in_number = false;
	for (size_t i = 0; i < len; i++)
		if (number[i] < '0' || number[i] > '9')
		{
			/* a sign is part of an integer, a fraction is not */
			if (i > 0 || number[i] != '-')
				return;
		}
	/* what begins with 0 is no number; let the parser say so */
	if (len < QUOTE_DIGITS || number[0] == '0' ||
		(number[0] == '-' && number[1] == '0'))
		return;
	buf_reserve(value, 2);
	number = value->data + split->number_at;
	memmove(number + 1, number, len);
	number[0] = '"';
	number[len + 1] = '"';
	value->len += 2;
}
