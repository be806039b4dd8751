/*
 * jsonout.c
 *	  From a message on the wire to JSON.
 *
 * The wire is walked, field by field in the order of their numbers, and not
 * unpacked: an answer may be large, and a message of it would be a second copy
 * of every value.  Where a field begins is found once per message.
 *
 * The input is ours (answers of dispatch), but it is checked all the same: the
 * getters know what is left, and a wrong wire type ends the conversion.
 */
#include "server.h"

/* lib and utils */
#include "lib/pbwire.h"

/* this layer and below */
#include "dispatch/decode.h"
#include "gateway/json.h"

#define MAX_FIELDS 64
/* twice the nesting of transactions, and what is around them */
#define MAX_DEPTH 200

/* a field with its value, one of the two by its wire type */
typedef struct WireField
{
	uint32_t	id;
	unsigned	wire_type;
	uint64_t	number;
	Bytes		bytes;
} WireField;

/* where a field is in its message */
typedef struct Place
{
	const uint8_t *first;		/* NULL: nowhere */
	uint32_t	count;
} Place;

static bool put_message(const ProtobufCMessageDescriptor *type, Bytes wire,
						unsigned depth, Buf *out);
static bool find_places(const ProtobufCMessageDescriptor *type, Bytes wire,
						Place *places);
static bool next_field(Cursor *cur, WireField *field);
static bool last_value(const ProtobufCFieldDescriptor *field,
					   const Place *place, const uint8_t *end,
					   WireField *value);
static bool is_shown(const ProtobufCFieldDescriptor *field,
					 const WireField *value);
static bool put_array(const ProtobufCFieldDescriptor *field,
					  const Place *place, const uint8_t *end, unsigned depth,
					  Buf *out);
static bool put_value(const ProtobufCFieldDescriptor *field,
					  const WireField *value, unsigned depth, Buf *out);
static void put_enum(const ProtobufCEnumDescriptor *type, int value, Buf *out);
static void put_base64(Buf *out, Bytes bytes);
static bool expects_bytes(const ProtobufCFieldDescriptor *field);
static size_t utf8_length(Bytes text, size_t at);
static void put_escaped(Buf *out, uint8_t c);

bool
json_from_wire(const ProtobufCMessageDescriptor *type, Bytes wire, Buf *out)
{
	return put_message(type, wire, 1, out);
}

void
json_put_string(Buf *out, Bytes text)
{
	size_t		i = 0;

	buf_put_u8(out, '"');
	while (i < text.len)
	{
		size_t		from = i;
		size_t		n;

		/* the longest run that stands for itself */
		while (i < text.len && text.data[i] >= 0x20 && text.data[i] < 0x7f &&
			   text.data[i] != '"' && text.data[i] != '\\')
			i++;
		buf_append(out, text.data + from, i - from);
		if (i == text.len)
			break;
		if (text.data[i] < 0x80)
		{
			put_escaped(out, text.data[i++]);
			continue;
		}
		n = utf8_length(text, i);
		if (n == 0)
		{
			buf_append(out, "\xef\xbf\xbd", 3);
			i++;
			continue;
		}
		buf_append(out, text.data + i, n);
		i += n;
	}
	buf_put_u8(out, '"');
}

/* ---- messages ---- */

static bool
put_message(const ProtobufCMessageDescriptor *type, Bytes wire, unsigned depth,
			Buf *out)
{
	Place		places[MAX_FIELDS] = {{NULL, 0}};
	const uint8_t *end = cursor_make(wire).end;
	char		separator = '{';

	if (type->n_fields > MAX_FIELDS || depth > MAX_DEPTH ||
		!find_places(type, wire, places))
		return false;
	for (unsigned i = 0; i < type->n_fields; i++)
	{
		const ProtobufCFieldDescriptor *field = &type->fields[i];
		bool		is_repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
		WireField	value;

		if (places[i].count == 0)
			continue;
		if (!is_repeated)
		{
			if (!last_value(field, &places[i], end, &value))
				return false;
			if (!is_shown(field, &value))
				continue;
		}
		buf_put_u8(out, (uint8_t) separator);
		separator = ',';
		json_put_string(out, bytes_from_cstr(field->name));
		buf_put_u8(out, ':');
		if (!(is_repeated ? put_array(field, &places[i], end, depth, out) :
			  put_value(field, &value, depth, out)))
			return false;
	}
	if (separator == '{')
		buf_put_u8(out, '{');
	buf_put_u8(out, '}');
	return true;
}

static bool
find_places(const ProtobufCMessageDescriptor *type, Bytes wire, Place *places)
{
	Cursor		cur = cursor_make(wire);

	while (cursor_left(&cur) > 0)
	{
		const uint8_t *start = cur.pos;
		const ProtobufCFieldDescriptor *known;
		WireField	field;
		Place	   *place;

		if (!next_field(&cur, &field))
			return false;
		known = protobuf_c_message_descriptor_get_field(type, field.id);
		if (known == NULL)
			continue;
		place = &places[known - type->fields];
		if (place->count++ == 0)
			place->first = start;
	}
	return true;
}

static bool
next_field(Cursor *cur, WireField *field)
{
	uint64_t	tag;

	*field = (WireField) {0};
	if (!cursor_get_varint(cur, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
		return false;
	field->id = (uint32_t) (tag >> 3);
	field->wire_type = tag & 7;
	if (field->wire_type == PBWIRE_VARINT)
		return cursor_get_varint(cur, &field->number);
	/* fixed widths do not occur in the API */
	return field->wire_type == PBWIRE_BYTES &&
		cursor_get_bytes(cur, &field->bytes);
}

/* proto3: the last one counts */
static bool
last_value(const ProtobufCFieldDescriptor *field, const Place *place,
		   const uint8_t *end, WireField *value)
{
	Cursor		cur = {place->first, end};
	uint32_t	seen = 0;
	WireField	one;

	while (seen < place->count)
	{
		if (!next_field(&cur, &one))
			return false;
		if (one.id != field->id)
			continue;
		*value = one;
		seen++;
	}
	return (value->wire_type == PBWIRE_BYTES) == expects_bytes(field);
}

/* Defaults are left out, but for messages and the arms of a oneof. */
static bool
is_shown(const ProtobufCFieldDescriptor *field, const WireField *value)
{
	if (field->type == PROTOBUF_C_TYPE_MESSAGE ||
		(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF))
		return true;
	return value->wire_type == PBWIRE_BYTES ? value->bytes.len > 0 :
		value->number != 0;
}

static bool
put_array(const ProtobufCFieldDescriptor *field, const Place *place,
		  const uint8_t *end, unsigned depth, Buf *out)
{
	Cursor		cur = {place->first, end};
	char		separator = '[';
	uint32_t	seen = 0;

	while (seen < place->count)
	{
		WireField	value;
		Cursor		packed;

		if (!next_field(&cur, &value))
			return false;
		if (value.id != field->id)
			continue;
		seen++;
		if ((value.wire_type == PBWIRE_BYTES) == expects_bytes(field))
		{
			buf_put_u8(out, (uint8_t) separator);
			separator = ',';
			if (!put_value(field, &value, depth, out))
				return false;
			continue;
		}
		if (value.wire_type != PBWIRE_BYTES)
			return false;
		/* numbers without tags in one run */
		packed = cursor_make(value.bytes);
		while (cursor_left(&packed) > 0)
		{
			if (!cursor_get_varint(&packed, &value.number))
				return false;
			buf_put_u8(out, (uint8_t) separator);
			separator = ',';
			value.wire_type = PBWIRE_VARINT;
			if (!put_value(field, &value, depth, out))
				return false;
		}
	}
	if (separator == '[')
		buf_put_u8(out, '[');
	buf_put_u8(out, ']');
	return true;
}

/* ---- values ---- */

static bool
put_value(const ProtobufCFieldDescriptor *field, const WireField *value,
		  unsigned depth, Buf *out)
{
	switch (field->type)
	{
		case PROTOBUF_C_TYPE_MESSAGE:
			return put_message(field->descriptor, value->bytes, depth + 1, out);
		case PROTOBUF_C_TYPE_BYTES:
			put_base64(out, value->bytes);
			return true;
		case PROTOBUF_C_TYPE_STRING:
			json_put_string(out, value->bytes);
			return true;
		case PROTOBUF_C_TYPE_BOOL:
			buf_printf(out, "%s", value->number != 0 ? "true" : "false");
			return true;
		case PROTOBUF_C_TYPE_ENUM:
			put_enum(field->descriptor, (int) value->number, out);
			return true;
			/* 64 bits are strings: a JavaScript number has 53 */
		case PROTOBUF_C_TYPE_INT64:
			buf_printf(out, "\"%" PRId64 "\"", (int64_t) value->number);
			return true;
		case PROTOBUF_C_TYPE_UINT64:
			buf_printf(out, "\"%" PRIu64 "\"", value->number);
			return true;
		case PROTOBUF_C_TYPE_INT32:
			buf_printf(out, "%" PRId32, (int32_t) value->number);
			return true;
		case PROTOBUF_C_TYPE_UINT32:
			buf_printf(out, "%" PRIu32, (uint32_t) value->number);
			return true;
		default:
			return false;
	}
}

static void
put_enum(const ProtobufCEnumDescriptor *type, int value, Buf *out)
{
	const ProtobufCEnumValue *named =
		protobuf_c_enum_descriptor_get_value(type, value);

	if (named != NULL)
		json_put_string(out, bytes_from_cstr(named->name));
	else
		buf_printf(out, "%d", value);
}

static void
put_base64(Buf *out, Bytes bytes)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint8_t    *to = buf_reserve(out, (bytes.len + 2) / 3 * 4 + 2);
	size_t		n = 0;
	size_t		i = 0;

	to[n++] = '"';
	for (; i + 2 < bytes.len; i += 3)
	{
		uint32_t	bits = (uint32_t) bytes.data[i] << 16 |
			(uint32_t) bytes.data[i + 1] << 8 | bytes.data[i + 2];

		to[n++] = (uint8_t) digits[bits >> 18];
		to[n++] = (uint8_t) digits[bits >> 12 & 63];
		to[n++] = (uint8_t) digits[bits >> 6 & 63];
		to[n++] = (uint8_t) digits[bits & 63];
	}
	if (i < bytes.len)
	{
		bool		is_two = i + 1 < bytes.len;
		uint32_t	bits = (uint32_t) bytes.data[i] << 16 |
			(is_two ? (uint32_t) bytes.data[i + 1] << 8 : 0);

		to[n++] = (uint8_t) digits[bits >> 18];
		to[n++] = (uint8_t) digits[bits >> 12 & 63];
		to[n++] = is_two ? (uint8_t) digits[bits >> 6 & 63] : '=';
		to[n++] = '=';
	}
	to[n++] = '"';
	out->len += n;
}

static bool
expects_bytes(const ProtobufCFieldDescriptor *field)
{
	return field->type == PROTOBUF_C_TYPE_MESSAGE ||
		field->type == PROTOBUF_C_TYPE_BYTES ||
		field->type == PROTOBUF_C_TYPE_STRING;
}

/* ---- strings ---- */

/* bytes of the sequence that begins there; 0: it is none */
static size_t
utf8_length(Bytes text, size_t at)
{
	uint8_t		c = text.data[at];
	size_t		n = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

	if (at + n > text.len || !utf8_is_valid(bytes_make(text.data + at, n)))
		return 0;
	return n;
}

static void
put_escaped(Buf *out, uint8_t c)
{
	switch (c)
	{
		case '"':
		case '\\':
			buf_put_u8(out, '\\');
			buf_put_u8(out, c);
			break;
		case '\n':
			buf_append(out, "\\n", 2);
			break;
		case '\r':
			buf_append(out, "\\r", 2);
			break;
		case '\t':
			buf_append(out, "\\t", 2);
			break;
		default:
			buf_printf(out, "\\u%04x", c);
			break;
	}
}
