/*
 * jsonin.c
 *	  From JSON to a message on the wire.
 *
 * Names are those of the .proto file or their lowerCamelCase form; unknown
 * ones are skipped, null is "not there".  64-bit numbers may be strings,
 * numbers may have an exponent as long as they are whole; enums go by name or
 * number; bytes are base64 of either alphabet, with or without padding.
 *
 * Refused: a field that is given twice (also by its other name, or as another
 * arm of a oneof), a name that an enum does not have (etcd from 3.6 on ignores
 * it: a grant of "READWRIT" would silently become READ), everything that does
 * not fit its type.
 */
#include "server.h"

/* system */
#include <ctype.h>
#include <malloc.h>
#include <math.h>
#include <stdarg.h>

/* libraries */
#include <jansson.h>

/* lib and utils */
#include "lib/pbwire.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "gateway/json.h"

/* no message of the API has half as many fields */
#define MAX_FIELDS 64

/* every whole number below can be told from its neighbours as a double */
#define EXACT_DOUBLE 9007199254740992.0

typedef struct JsonIn
{
	char	   *error;
	size_t		error_size;
	Buf		   *wire;
} JsonIn;

static bool fail(JsonIn *in, const char *fmt,...)
			__attribute__((format(printf, 2, 3)));
static void *json_alloc(size_t size);
static void json_free(void *p);
static bool put_message(JsonIn *in, const ProtobufCMessageDescriptor *type,
						const json_t *object);
static const ProtobufCFieldDescriptor *find_field(
	const ProtobufCMessageDescriptor *type, const char *name);
static bool is_camel_of(const char *camel, const char *name);
static bool note_field(JsonIn *in, const ProtobufCMessageDescriptor *type,
					   const ProtobufCFieldDescriptor *field, bool *seen);
static bool put_field(JsonIn *in, const ProtobufCFieldDescriptor *field,
					  const json_t *value);
static bool put_value(JsonIn *in, const ProtobufCFieldDescriptor *field,
					  const json_t *value);
static void leave_out_input(char *reason);
static bool put_nested(JsonIn *in, const ProtobufCFieldDescriptor *field,
					   const json_t *value);
static bool put_bytes(JsonIn *in, const ProtobufCFieldDescriptor *field,
					  const json_t *value);
static bool put_string(JsonIn *in, const ProtobufCFieldDescriptor *field,
					   const json_t *value);
static bool put_bool(JsonIn *in, const ProtobufCFieldDescriptor *field,
					 const json_t *value);
static bool put_enum(JsonIn *in, const ProtobufCFieldDescriptor *field,
					 const json_t *value);
static bool put_integer(JsonIn *in, const ProtobufCFieldDescriptor *field,
						const json_t *value);
static void put_varint_field(JsonIn *in,
							 const ProtobufCFieldDescriptor *field,
							 uint64_t v);
static bool wrong_value(JsonIn *in, const ProtobufCFieldDescriptor *field);
static bool integer_of(const json_t *value, bool *is_negative, uint64_t *v);
static bool integer_of_text(const char *text, bool *is_negative, uint64_t *v);
static bool integer_of_double(double d, bool *is_negative, uint64_t *v);
static bool is_number_text(const char *text, bool *is_whole);
static bool base64_decode(const char *text, size_t len, Buf *out);
static int	base64_digit(char c, bool *is_std, bool *is_url);

void
json_init(void)
{
	json_set_alloc_funcs(json_alloc, json_free);
}

bool
json_to_wire(const ProtobufCMessageDescriptor *type, Bytes text, Buf *wire,
			 char *error, size_t error_size)
{
	JsonIn		in = {error, error_size, wire};
	json_error_t why;
	json_t	   *root = json_loadb((const char *) text.data, text.len,
								  JSON_REJECT_DUPLICATES, &why);
	bool		ok;

	if (root == NULL)
	{
		leave_out_input(why.text);
		return fail(&in, "proto: syntax error (line %d:%d): %s", why.line,
					why.column, why.text);
	}
	if (json_is_object(root))
		ok = put_message(&in, type, root);
	else
		ok = fail(&in, "proto: syntax error (line 1:1): a JSON object is expected");
	json_decref(root);
	return ok;
}

/*
 * What the mistake is near to may be a password.  The reason stands before it,
 * and may have quotes of its own: string or '}' expected near '}'.
 */
static void
leave_out_input(char *reason)
{
	/* invalid Unicode '\uD800'; not allowed without JSON_ALLOW_NUL */
	static const char *const behind[] = {" near ", " '\\", " without "};

	for (size_t i = 0; i < lengthof(behind); i++)
	{
		char	   *at = strstr(reason, behind[i]);

		if (at != NULL)
			*at = '\0';
	}
}

static bool
fail(JsonIn *in, const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	vsnprintf(in->error, in->error_size, fmt, args);
	va_end(args);
	return false;
}

/* jansson's memory: ends the process instead of failing */
static void *
json_alloc(size_t size)
{
	return xmalloc(size);
}

/* there may have been a password in it */
static void
json_free(void *p)
{
	if (p == NULL)
		return;
	secret_wipe(p, malloc_usable_size(p));
	free(p);
}

/* ---- messages and fields ---- */

/* Depth is bounded by the text (jsonsplit.h), or by jansson at 2048. */
static bool
put_message(JsonIn *in, const ProtobufCMessageDescriptor *type,
			const json_t *object)
{
	bool		seen[MAX_FIELDS] = {false};
	const char *name;
	json_t	   *value;

	if (type->n_fields > MAX_FIELDS)
		return fail(in, "proto: %s has too many fields", type->short_name);
	/* the macro wants an object it could change */
	json_object_foreach((json_t *) (uintptr_t) object, name, value)
	{
		const ProtobufCFieldDescriptor *field = find_field(type, name);

		if (field == NULL || json_is_null(value))
			continue;
		if (!note_field(in, type, field, seen) || !put_field(in, field, value))
			return false;
	}
	return true;
}

static const ProtobufCFieldDescriptor *
find_field(const ProtobufCMessageDescriptor *type, const char *name)
{
	for (unsigned i = 0; i < type->n_fields; i++)
		if (strcmp(type->fields[i].name, name) == 0 ||
			is_camel_of(name, type->fields[i].name))
			return &type->fields[i];
	return NULL;
}

/* prevKv is prev_kv: an underscore goes, and the letter behind it is large */
static bool
is_camel_of(const char *camel, const char *name)
{
	for (; *name != '\0'; name++, camel++)
	{
		if (*name == '_' && name[1] != '\0')
		{
			name++;
			if (*camel != toupper((unsigned char) *name))
				return false;
		}
		else if (*camel != *name)
			return false;
	}
	return *camel == '\0';
}

static bool
note_field(JsonIn *in, const ProtobufCMessageDescriptor *type,
		   const ProtobufCFieldDescriptor *field, bool *seen)
{
	bool		is_oneof = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;

	for (unsigned i = 0; i < type->n_fields; i++)
	{
		const ProtobufCFieldDescriptor *other = &type->fields[i];

		if (!seen[i])
			continue;
		if (other == field)
			return fail(in, "proto: duplicate field \"%s\"", field->name);
		/* the arms of a oneof share the word that says which is set */
		if (is_oneof && (other->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
			other->quantifier_offset == field->quantifier_offset)
			return fail(in, "proto: error parsing \"%s\", oneof %s.%s is already set",
						field->name, type->short_name, other->name);
	}
	seen[field - type->fields] = true;
	return true;
}

static bool
put_field(JsonIn *in, const ProtobufCFieldDescriptor *field,
		  const json_t *value)
{
	size_t		i;
	json_t	   *element;

	if (field->label != PROTOBUF_C_LABEL_REPEATED)
		return put_value(in, field, value);
	if (!json_is_array(value))
		return wrong_value(in, field);
	json_array_foreach((json_t *) (uintptr_t) value, i, element)
		if (!put_value(in, field, element))
			return false;
	return true;
}

static bool
put_value(JsonIn *in, const ProtobufCFieldDescriptor *field,
		  const json_t *value)
{
	switch (field->type)
	{
		case PROTOBUF_C_TYPE_MESSAGE:
			return put_nested(in, field, value);
		case PROTOBUF_C_TYPE_BYTES:
			return put_bytes(in, field, value);
		case PROTOBUF_C_TYPE_STRING:
			return put_string(in, field, value);
		case PROTOBUF_C_TYPE_BOOL:
			return put_bool(in, field, value);
		case PROTOBUF_C_TYPE_ENUM:
			return put_enum(in, field, value);
		case PROTOBUF_C_TYPE_INT32:
		case PROTOBUF_C_TYPE_UINT32:
		case PROTOBUF_C_TYPE_INT64:
		case PROTOBUF_C_TYPE_UINT64:
			return put_integer(in, field, value);
		default:
			/* the API has no others; t_json.c looks */
			return fail(in, "proto: field %s has a type that JSON cannot give",
						field->name);
	}
}

static bool
put_nested(JsonIn *in, const ProtobufCFieldDescriptor *field,
		   const json_t *value)
{
	Buf		   *wire = in->wire;
	size_t		start;
	size_t		len;
	size_t		prefix;

	if (!json_is_object(value))
		return wrong_value(in, field);
	pbwire_tag(wire, field->id, PBWIRE_BYTES);
	start = wire->len;
	if (!put_message(in, field->descriptor, value))
		return false;
	/* the length goes before what it counts */
	len = wire->len - start;
	prefix = pbwire_varint_size(len);
	buf_reserve(wire, prefix);
	memmove(wire->data + start + prefix, wire->data + start, len);
	wire->len = start;
	buf_put_varint(wire, len);
	wire->len = start + prefix + len;
	return true;
}

static bool
put_bytes(JsonIn *in, const ProtobufCFieldDescriptor *field,
		  const json_t *value)
{
	Buf		   *wire = in->wire;
	size_t		len;
	size_t		start;

	if (!json_is_string(value))
		return wrong_value(in, field);
	len = json_string_length(value);
	/* decode to where the longest length prefix would end, then close up */
	pbwire_tag(wire, field->id, PBWIRE_BYTES);
	start = wire->len;
	buf_reserve(wire, len + 10);
	wire->len = start + 10;
	if (!base64_decode(json_string_value(value), len, wire))
		return wrong_value(in, field);
	len = wire->len - start - 10;
	wire->len = start;
	buf_put_varint(wire, len);
	memmove(wire->data + wire->len, wire->data + start + 10, len);
	wire->len += len;
	return true;
}

static bool
put_string(JsonIn *in, const ProtobufCFieldDescriptor *field,
		   const json_t *value)
{
	if (!json_is_string(value))
		return wrong_value(in, field);
	pbwire_put_bytes_always(in->wire, field->id,
							bytes_make(json_string_value(value),
									   json_string_length(value)));
	return true;
}

static bool
put_bool(JsonIn *in, const ProtobufCFieldDescriptor *field,
		 const json_t *value)
{
	if (!json_is_boolean(value))
		return wrong_value(in, field);
	put_varint_field(in, field, json_is_true(value));
	return true;
}

static bool
put_enum(JsonIn *in, const ProtobufCFieldDescriptor *field,
		 const json_t *value)
{
	const ProtobufCEnumValue *named;
	bool		is_negative;
	uint64_t	v;

	if (json_is_string(value))
	{
		named = protobuf_c_enum_descriptor_get_value_by_name(field->descriptor,
															 json_string_value(value));
		if (named == NULL)
			return wrong_value(in, field);
		put_varint_field(in, field, (uint64_t) (int64_t) named->value);
		return true;
	}
	if (!integer_of(value, &is_negative, &v) || is_negative || v > INT32_MAX)
		return wrong_value(in, field);
	put_varint_field(in, field, v);
	return true;
}

static bool
put_integer(JsonIn *in, const ProtobufCFieldDescriptor *field,
			const json_t *value)
{
	bool		is_signed = field->type == PROTOBUF_C_TYPE_INT32 ||
		field->type == PROTOBUF_C_TYPE_INT64;
	bool		is_wide = field->type == PROTOBUF_C_TYPE_INT64 ||
		field->type == PROTOBUF_C_TYPE_UINT64;
	uint64_t	max = is_wide ? (is_signed ? INT64_MAX : UINT64_MAX) :
		(is_signed ? INT32_MAX : UINT32_MAX);
	bool		is_negative;
	uint64_t	v;

	if (!integer_of(value, &is_negative, &v) ||
		(is_negative ? !is_signed || v > max + 1 : v > max))
		return wrong_value(in, field);
	put_varint_field(in, field, is_negative ? 0 - v : v);
	return true;
}

/* also the default: which arm of a oneof is set depends on it */
static void
put_varint_field(JsonIn *in, const ProtobufCFieldDescriptor *field, uint64_t v)
{
	pbwire_tag(in->wire, field->id, PBWIRE_VARINT);
	buf_put_varint(in->wire, v);
}

/* the value itself may be a secret: it is not shown */
static bool
wrong_value(JsonIn *in, const ProtobufCFieldDescriptor *field)
{
	return fail(in, "proto: invalid value for field %s", field->name);
}

/* ---- numbers ---- */

/* magnitude and sign; zero has none */
static bool
integer_of(const json_t *value, bool *is_negative, uint64_t *v)
{
	json_int_t	i;

	switch (json_typeof(value))
	{
		case JSON_INTEGER:
			i = json_integer_value(value);
			*is_negative = i < 0;
			*v = i < 0 ? 0 - (uint64_t) i : (uint64_t) i;
			return true;
		case JSON_REAL:
			return integer_of_double(json_real_value(value), is_negative, v);
		case JSON_STRING:
			return integer_of_text(json_string_value(value), is_negative, v);
		default:
			return false;
	}
}

static bool
integer_of_text(const char *text, bool *is_negative, uint64_t *v)
{
	bool		is_whole;
	const char *p = text;
	uint64_t	n = 0;

	if (strlen(text) > 64 || !is_number_text(text, &is_whole))
		return false;
	if (!is_whole)
		return integer_of_double(strtod(text, NULL), is_negative, v);
	if (*p == '-')
		p++;
	for (; *p != '\0'; p++)
	{
		unsigned	digit = (unsigned) (*p - '0');

		if (n > (UINT64_MAX - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*v = n;
	*is_negative = text[0] == '-' && n != 0;
	return true;
}

/* 1e3 is a number like another, 1e300 and 0.5 are not */
static bool
integer_of_double(double d, bool *is_negative, uint64_t *v)
{
	if (!(fabs(d) <= EXACT_DOUBLE) || d != floor(d))
		return false;
	*is_negative = d < 0;
	*v = (uint64_t) fabs(d);
	return true;
}

/* as the grammar of JSON has it */
static bool
is_number_text(const char *text, bool *is_whole)
{
	const char *p = text;

	*is_whole = true;
	if (*p == '-')
		p++;
	if (*p == '0')
		p++;
	else if (isdigit((unsigned char) *p))
		while (isdigit((unsigned char) *p))
			p++;
	else
		return false;
	if (*p == '.')
	{
		*is_whole = false;
		if (!isdigit((unsigned char) *++p))
			return false;
		while (isdigit((unsigned char) *p))
			p++;
	}
	if (*p == 'e' || *p == 'E')
	{
		*is_whole = false;
		p++;
		if (*p == '+' || *p == '-')
			p++;
		if (!isdigit((unsigned char) *p))
			return false;
		while (isdigit((unsigned char) *p))
			p++;
	}
	return *p == '\0';
}

/* ---- base64 ---- */

/* out has room for len bytes more */
static bool
base64_decode(const char *text, size_t len, Buf *out)
{
	bool		is_std = false;
	bool		is_url = false;
	size_t		ndigits = 0;
	size_t		npadding = 0;
	uint32_t	bits = 0;

	for (size_t i = 0; i < len; i++)
	{
		int			digit;

		/* as Go's decoder: lines may be broken */
		if (text[i] == '\r' || text[i] == '\n')
			continue;
		if (text[i] == '=')
		{
			npadding++;
			continue;
		}
		digit = base64_digit(text[i], &is_std, &is_url);
		if (digit < 0 || npadding > 0)
			return false;
		bits = bits << 6 | (uint32_t) digit;
		if (++ndigits % 4 == 0)
		{
			buf_put_u8(out, (uint8_t) (bits >> 16));
			buf_put_u8(out, (uint8_t) (bits >> 8));
			buf_put_u8(out, (uint8_t) bits);
		}
	}
	/* one alphabet at a time; padding is complete or not there */
	if ((is_std && is_url) ||
		(npadding > 0 && (npadding > 2 || (ndigits + npadding) % 4 != 0)))
		return false;
	switch (ndigits % 4)
	{
		case 0:
			return npadding == 0;
		case 2:
			buf_put_u8(out, (uint8_t) (bits >> 4));
			return true;
		case 3:
			buf_put_u8(out, (uint8_t) (bits >> 10));
			buf_put_u8(out, (uint8_t) (bits >> 2));
			return true;
		default:
			return false;
	}
}

static int
base64_digit(char c, bool *is_std, bool *is_url)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	*is_std |= c == '+' || c == '/';
	*is_url |= c == '-' || c == '_';
	if (c == '+' || c == '-')
		return 62;
	if (c == '/' || c == '_')
		return 63;
	return -1;
}
