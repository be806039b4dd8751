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
#define LEASE_TTL_SEC 600

static void put_range(const BenchOptions *options, uint64_t number, Buf *out);
static void put_key(const BenchOptions *options, uint64_t number, Buf *out);
static void put_key_bytes(const BenchOptions *options, uint64_t number,
						  Buf *out);
static void put_value(const BenchOptions *options, unsigned field, Buf *out);
static void put_cas(const BenchOptions *options, uint64_t number, Buf *out);
static void put_nested(Buf *out, unsigned outer, unsigned inner,
					   const Buf *message);

const char *
request_path(BenchOp op)
{
	switch (op)
	{
		case BENCH_PUT:
			return "/etcdserverpb.KV/Put";
		case BENCH_LOGIN:
			return "/etcdserverpb.Auth/Authenticate";
		case BENCH_CAS:
			return "/etcdserverpb.KV/Txn";
		case BENCH_LEASE_GRANT:
			return "/etcdserverpb.Lease/LeaseGrant";
		case BENCH_KEEP_ALIVE:
			return "/etcdserverpb.Lease/LeaseKeepAlive";
		case BENCH_WATCH:
			return "/etcdserverpb.Watch/Watch";
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
			put_value(options, 2, out);
			break;
		case BENCH_CAS:
			put_cas(options, key_number, out);
			break;
		case BENCH_LEASE_GRANT:
			pbwire_put_int(out, 1, LEASE_TTL_SEC);
			pbwire_put_int(out, 2, (int64_t) key_number);
			break;
		case BENCH_KEEP_ALIVE:
			pbwire_put_int(out, 1, (int64_t) key_number);
			break;
		case BENCH_LOGIN:
			colon = strchr(options->user, ':');
			pbwire_put_bytes(out, 1, bytes_make(options->user,
												(size_t) (colon - options->user)));
			pbwire_put_bytes(out, 2, bytes_from_cstr(colon + 1));
			break;
		default:
			put_range(options, key_number, out);
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

uint64_t
response_ttl(Bytes body)
{
	Cursor		cur = cursor_make(body);
	uint64_t	tag;
	uint64_t	number;
	Bytes		field;

	while (cursor_get_varint(&cur, &tag))
	{
		if ((tag & 7) == PBWIRE_BYTES)
		{
			if (!cursor_get_bytes(&cur, &field))
				return 0;
		}
		else if (!cursor_get_varint(&cur, &number))
			return 0;
		else if (tag >> 3 == 3)
			return number;
	}
	return 0;
}

void
request_add_watch(const BenchOptions *options, uint64_t key_number, Buf *out)
{
	static Buf	create;
	static Buf	request;

	create.len = request.len = 0;
	put_key(options, key_number, &create);
	pbwire_put_bytes(&request, 1, buf_bytes(&create));
	buf_put_u8(out, 0);
	buf_put_u32be(out, (uint32_t) request.len);
	buf_append(out, request.data, request.len);
}

int
response_events(Bytes body)
{
	Cursor		cur = cursor_make(body);
	uint64_t	tag;
	uint64_t	number;
	Bytes		field;
	int			n = 0;

	while (cursor_get_varint(&cur, &tag))
	{
		if ((tag & 7) == PBWIRE_BYTES)
		{
			if (!cursor_get_bytes(&cur, &field))
				return -1;
			n += tag >> 3 == 11;
		}
		else if (!cursor_get_varint(&cur, &number) || tag >> 3 == 4)
			return -1;
	}
	return n;
}

/* Txn: value(key) = what was loaded; then put(key), else range(key) */
static void
put_cas(const BenchOptions *options, uint64_t number, Buf *out)
{
	static Buf	part;

	part.len = 0;
	pbwire_put_uint(&part, 2, 3);	/* target VALUE; result EQUAL is 0 */
	pbwire_tag(&part, 3, PBWIRE_BYTES);
	buf_put_varint(&part, KEY_BYTES);
	put_key_bytes(options, number, &part);
	put_value(options, 7, &part);
	pbwire_put_bytes(out, 1, buf_bytes(&part));

	part.len = 0;
	put_key(options, number, &part);
	put_value(options, 2, &part);
	put_nested(out, 2, 2, &part);

	part.len = 0;
	put_key(options, number, &part);
	put_nested(out, 3, 1, &part);
}

/* a RequestOp in a branch */
static void
put_nested(Buf *out, unsigned outer, unsigned inner, const Buf *message)
{
	size_t		len = pbwire_bytes_size(inner, buf_bytes(message));

	pbwire_tag(out, outer, PBWIRE_BYTES);
	buf_put_varint(out, len);
	pbwire_put_bytes(out, inner, buf_bytes(message));
}

static void
put_value(const BenchOptions *options, unsigned field, Buf *out)
{
	pbwire_tag(out, field, PBWIRE_BYTES);
	buf_put_varint(out, options->value_bytes);
	memset(buf_reserve(out, options->value_bytes), 'v', options->value_bytes);
	out->len += options->value_bytes;
}

/* one key, or as many as asked for, all of which exist when keys were loaded */
static void
put_range(const BenchOptions *options, uint64_t number, Buf *out)
{
	uint64_t	first = number % (options->keys - options->range_keys + 1);

	if (options->range_keys == 1)
	{
		put_key(options, number, out);
		return;
	}
	put_key(options, first, out);
	pbwire_tag(out, 2, PBWIRE_BYTES);
	buf_put_varint(out, KEY_BYTES + 1);
	put_key_bytes(options, first + options->range_keys - 1, out);
	buf_put_u8(out, 0);			/* the end is what follows the last key */
}

static void
put_key(const BenchOptions *options, uint64_t number, Buf *out)
{
	pbwire_tag(out, 1, PBWIRE_BYTES);
	buf_put_varint(out, KEY_BYTES);
	put_key_bytes(options, number, out);
}

static void
put_key_bytes(const BenchOptions *options, uint64_t number, Buf *out)
{
	char		key[KEY_BYTES + 1];

	snprintf(key, sizeof(key), "bench/%018" PRIu64,
			 (number % options->keys) % 1000000000000000000u);
	buf_append(out, key, KEY_BYTES);
}
