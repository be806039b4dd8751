/*
 * decode.c
 *	  From the bytes of a message to the message.
 *
 * protobuf-c does the unpacking, but it trusts its input in ways that a server
 * cannot, so the bytes are walked once before, along the same descriptors:
 *
 *	- It recurses for each nested message: 1.5 MB of nested transactions would
 *	  overflow the stack.
 *	- It allocates for each element before anybody can count them: 700 000
 *	  empty operations cost 100 MB.
 *	- It keeps 32 bytes for each field while it unpacks, and 40 for each one it
 *	  does not know: 64 kB of two-byte fields would cost 2 MB for as long as a
 *	  login waits for its hash.  More fields than a request can need are
 *	  refused.
 *	- It merges a message field that is given twice by building a new array
 *	  from both, which is quadratic in the number of repetitions.  Encoders
 *	  never write one twice; it is refused.
 *	- It does not check UTF-8, and hands strings over without their length, so
 *	  that "root\0x" would become "root".  A zero byte in a string is refused.
 *
 * Nested too deep, or too many: that can only be a transaction, and etcd's
 * word for it is "too many operations in txn request".  (etcd bounds depth
 * through the number of operations, ours is the bound of the log's decoder.)
 * Everything else that is wrong is an Internal error, as in grpc-go.
 */
#include "server.h"

/* lib and utils */
#include "lib/buf.h"
#include "utils/guc.h"

/* this layer and below */
#include "common/logop.h"
#include "dispatch/decode.h"

/* a transaction in a transaction is two messages further down */
#define MAX_MESSAGE_DEPTH (2 * LOGOP_MAX_TXN_DEPTH + 1)

/* no message of the API has half as many */
#define MAX_FIELDS 64

/* for a whole request: an operation, with the fields around it, has 16 */
#define FIELDS_PER_REQUEST 256
#define FIELDS_PER_OP 64

#define WIRE_VARINT 0
#define WIRE_FIXED64 1
#define WIRE_LENGTH 2
#define WIRE_FIXED32 5

typedef struct Scan
{
	const char *why;			/* what is wrong, NULL: nothing so far */
	bool		exceeds;		/* too deep, or too many of something */
	uint64_t	nfields;		/* seen so far, at all depths */
} Scan;

static void scan_message(Scan *scan, const ProtobufCMessageDescriptor *type,
						 Bytes wire, unsigned depth);
static bool scan_field(Scan *scan, const ProtobufCFieldDescriptor *field,
					   unsigned wire_type, Cursor *cur, unsigned depth);
static bool skip_scalar(Cursor *cur, unsigned wire_type);
static bool count_field(Scan *scan, const ProtobufCFieldDescriptor *field,
						uint32_t seen);
static bool count_any_field(Scan *scan);
static void scan_string(Scan *scan, Bytes text);
static size_t utf8_sequence(const uint8_t *p, size_t left);
static void *arena_alloc(void *mcx, size_t size);
static void arena_free(void *mcx, void *p);

ErrCode
decode_message(const ProtobufCMessageDescriptor *type, Bytes wire,
			   MemContext *mcx, void **message, const char **why)
{
	ProtobufCAllocator arena = {arena_alloc, arena_free, mcx};
	Scan		scan = {NULL, false, 0};

	scan_message(&scan, type, wire, 1);
	if (scan.why != NULL)
	{
		*why = scan.why;
		return ERR_INTERNAL;
	}
	if (scan.exceeds)
		return ERR_TOO_MANY_OPS;
	*message = protobuf_c_message_unpack(type, &arena, wire.len, wire.data);
	if (*message == NULL)
	{
		*why = "a field has the wrong type";
		return ERR_INTERNAL;
	}
	return ERR_NONE;
}

bool
utf8_is_valid(Bytes text)
{
	size_t		i = 0;

	while (i < text.len)
	{
		size_t		n = utf8_sequence(text.data + i, text.len - i);

		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

static void
scan_message(Scan *scan, const ProtobufCMessageDescriptor *type, Bytes wire,
			 unsigned depth)
{
	uint32_t	seen[MAX_FIELDS] = {0};
	Cursor		cur = cursor_make(wire);

	if (type->n_fields > MAX_FIELDS)
	{
		scan->why = "the message type has too many fields";
		return;
	}
	while (scan->why == NULL && cursor_left(&cur) > 0)
	{
		const ProtobufCFieldDescriptor *field;
		uint64_t	tag;

		if (!cursor_get_varint(&cur, &tag) || tag > UINT32_MAX ||
			tag >> 3 == 0)
		{
			scan->why = "invalid tag";
			return;
		}
		if (!count_any_field(scan))
			return;
		field = protobuf_c_message_descriptor_get_field(type,
														(unsigned) (tag >> 3));
		if (field != NULL &&
			!count_field(scan, field, ++seen[field - type->fields]))
			return;
		if (!scan_field(scan, field, tag & 7, &cur, depth))
			return;
	}
}

/* field: NULL if unknown.  False if the rest cannot be read. */
static bool
scan_field(Scan *scan, const ProtobufCFieldDescriptor *field,
		   unsigned wire_type, Cursor *cur, unsigned depth)
{
	Bytes		content;

	if (wire_type != WIRE_LENGTH)
	{
		if (skip_scalar(cur, wire_type))
			return true;
		scan->why = "truncated or unknown field";
		return false;
	}
	if (!cursor_get_bytes(cur, &content))
	{
		scan->why = "unexpected end of the message";
		return false;
	}
	if (field == NULL)
		return true;
	if (field->type == PROTOBUF_C_TYPE_STRING)
		scan_string(scan, content);
	else if (field->type == PROTOBUF_C_TYPE_MESSAGE)
	{
		/* not looked into: it will not be unpacked either */
		if (depth >= MAX_MESSAGE_DEPTH)
			scan->exceeds = true;
		else
			scan_message(scan, field->descriptor, content, depth + 1);
	}
	return true;
}

static bool
skip_scalar(Cursor *cur, unsigned wire_type)
{
	uint64_t	number;
	uint32_t	number32;

	switch (wire_type)
	{
		case WIRE_VARINT:
			return cursor_get_varint(cur, &number);
		case WIRE_FIXED64:
			return cursor_get_u64(cur, &number);
		case WIRE_FIXED32:
			return cursor_get_u32(cur, &number32);
		default:
			return false;		/* groups, and what does not exist */
	}
}

/* The field was seen for the seen-th time in this message. */
static bool
count_field(Scan *scan, const ProtobufCFieldDescriptor *field, uint32_t seen)
{
	if (field->type != PROTOBUF_C_TYPE_MESSAGE || seen == 1)
		return true;
	if (field->label != PROTOBUF_C_LABEL_REPEATED)
	{
		scan->why = "a message field is given twice";
		return false;
	}
	if (seen > (uint64_t) guc_max_txn_ops)
		scan->exceeds = true;
	return true;
}

/* One that has too many operations has too many fields as well. */
static bool
count_any_field(Scan *scan)
{
	uint64_t	max = FIELDS_PER_REQUEST +
		FIELDS_PER_OP * (uint64_t) guc_max_txn_ops;

	if (++scan->nfields <= max)
		return true;
	if (!scan->exceeds)
		scan->why = "too many fields";
	return false;
}

static void
scan_string(Scan *scan, Bytes text)
{
	if (!utf8_is_valid(text))
		scan->why = "string field contains invalid UTF-8";
	else if (text.len > 0 && memchr(text.data, 0, text.len) != NULL)
		scan->why = "string field contains a zero byte";
}

/*
 * Length of the UTF-8 sequence at p, 0 if it is not one (RFC 3629: no
 * overlong forms, no surrogates, nothing above U+10FFFF).
 */
static size_t
utf8_sequence(const uint8_t *p, size_t left)
{
	uint8_t		low = 0x80;
	uint8_t		high = 0xbf;
	size_t		n;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (left < n)
		return 0;
	/* the second byte carries all the special cases */
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

static void *
arena_alloc(void *mcx, size_t size)
{
	return mcx_alloc(mcx, size);
}

static void
arena_free(void *mcx, void *p)
{
	(void) mcx;
	(void) p;					/* goes with the request */
}
