/*
 * requests.c
 *	  The messages that clav_bench sends, and the one answer that it reads.
 */
#include "server.h"

/* lib and utils */
#include "lib/buf.h"
#include "lib/pbwire.h"

/* this program */
#include "bench.h"

#define KEY_BYTES 24			/* "bench/" and 18 digits */

static void put_key(const BenchOptions *options, uint64_t number, Buf *out);

const char *
request_path(BenchOp op)
{
	switch (op)
	{
		case BENCH_PUT:
			return "/etcdserverpb.KV/Put";
		case BENCH_LOGIN:
			return "/etcdserverpb.Auth/Authenticate";
		default:
			return "/etcdserverpb.KV/Range";
	}
}

void
request_build(const BenchOptions *options, BenchOp op, uint64_t key_number,
			  Buf *out)
{
	const char *colon;

	out->len = 0;
	switch (op)
	{
		case BENCH_PUT:
			put_key(options, key_number, out);
			pbwire_tag(out, 2, PBWIRE_BYTES);
			buf_put_varint(out, options->value_bytes);
			memset(buf_reserve(out, options->value_bytes), 'v',
				   options->value_bytes);
			out->len += options->value_bytes;
			break;
		case BENCH_LOGIN:
			colon = strchr(options->user, ':');
			pbwire_put_bytes(out, 1, bytes_make(options->user,
												(size_t) (colon - options->user)));
			pbwire_put_bytes(out, 2, bytes_from_cstr(colon + 1));
			break;
		default:
			put_key(options, key_number, out);
			pbwire_put_uint(out, 7, options->serializable ? 1 : 0);
			break;
	}
}

BenchOp
request_next_op(const BenchOptions *options, uint64_t *rng)
{
	if (options->op != BENCH_MIXED)
		return options->op;
	return (int) (request_random(rng) % 100) < options->read_percent
		? BENCH_RANGE : BENCH_PUT;
}

/* xorshift64: fast, and the same sequence for the same seed */
uint64_t
request_random(uint64_t *rng)
{
	*rng ^= *rng << 13;
	*rng ^= *rng >> 7;
	*rng ^= *rng << 17;
	return *rng;
}

bool
response_token(Bytes body, char *token, size_t size)
{
	Cursor		cur = cursor_make(body);
	uint64_t	tag;
	Bytes		field;

	while (cursor_get_varint(&cur, &tag) && (tag & 7) == PBWIRE_BYTES &&
		   cursor_get_bytes(&cur, &field))
	{
		if (tag >> 3 != 2 || field.len >= size)
			continue;
		memcpy(token, field.data, field.len);
		token[field.len] = '\0';
		return true;
	}
	return false;
}

static void
put_key(const BenchOptions *options, uint64_t number, Buf *out)
{
	char		key[KEY_BYTES + 1];

	snprintf(key, sizeof(key), "bench/%018" PRIu64,
			 (number % options->keys) % 1000000000000000000u);
	pbwire_put_bytes(out, 1, bytes_make(key, KEY_BYTES));
}
