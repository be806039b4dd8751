/*
 * t_json.c
 *	  JSON to messages and back: a table of inputs with what must come of each
 *	  (vectors/json.in and json.ref), and what a table cannot show.
 *
 * With a file name as argument it writes what comes of the inputs there, to be
 * looked at and kept as json.ref.
 */
/* needs: gateway/jsonin gateway/jsonout gateway/jsonsplit dispatch/decode common proto */
#include "server.h"

/* libraries */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "etcdserverpb.pb-c.h"
#include "health.pb-c.h"
#include "v3electionpb.pb-c.h"
#include "v3lockpb.pb-c.h"

/* lib and utils */
#include "utils/guc.h"

/* this layer and below */
#include "dispatch/decode.h"
#include "gateway/json.h"
#include "gateway/jsonsplit.h"

#define VECTORS "regress/unit/vectors/json"
#define MAX_BYTES (1024 * 1024)
#define MAX_VALUES 10000

int64_t		guc_max_txn_ops = 128;

static const ProtobufCMessageDescriptor *const types[] = {
	&etcdserverpb__put_request__descriptor,
	&etcdserverpb__range_request__descriptor,
	&etcdserverpb__member_remove_request__descriptor,
	&etcdserverpb__compare__descriptor,
	&etcdserverpb__txn_request__descriptor,
	&etcdserverpb__watch_request__descriptor,
	&etcdserverpb__auth_user_add_request__descriptor,
	&etcdserverpb__auth_role_grant_permission_request__descriptor,
	&etcdserverpb__member_add_request__descriptor,
	&etcdserverpb__lease_time_to_live_request__descriptor,
	&etcdserverpb__hash_kvresponse__descriptor,
	&etcdserverpb__watch_response__descriptor,
	&etcdserverpb__range_response__descriptor,
};

/* every message of every RPC */
static const ProtobufCMessageDescriptor *const all_types[] = {
#define RPC(symbol, service, method, kind, flags, request, response, handler) \
	&request, &response,
#include "dispatch/rpclist.h"
#undef RPC
};

static const ProtobufCMessageDescriptor *
type_of(const char *name, size_t len)
{
	for (size_t i = 0; i < lengthof(types); i++)
		if (strlen(types[i]->short_name) == len &&
			memcmp(types[i]->short_name, name, len) == 0)
			return types[i];
	fail_msg("no type %.*s", (int) len, name);
	return NULL;
}

/* cut, to the wire, decoded as dispatch would, and back */
static void
convert(const ProtobufCMessageDescriptor *type, Bytes text, Buf *out)
{
	MemContext *mcx = mcx_create(NULL, "test");
	Cursor		input = cursor_make(text);
	JsonSplit	split;
	Buf			wire;
	void	   *message;
	const char *why = "";
	char		error[256];

	jsonsplit_init(&split, MAX_BYTES, MAX_VALUES);
	buf_init(&wire, mcx);
	switch (jsonsplit_feed(&split, &input))
	{
		case JSONSPLIT_MORE:
			buf_printf(out, "incomplete");
			break;
		case JSONSPLIT_BAD:
			buf_printf(out, "error: %s", split.why);
			break;
		case JSONSPLIT_VALUE:
			if (!json_to_wire(type, buf_bytes(&split.value), &wire, error,
							  sizeof(error)))
				buf_printf(out, "error: %s", error);
			else if (decode_message(type, buf_bytes(&wire), mcx, &message,
									&why) != ERR_NONE)
				buf_printf(out, "undecodable: %s", why);
			else
				assert_true(json_from_wire(type, buf_bytes(&wire), out));
			break;
	}
	jsonsplit_free(&split);
	mcx_destroy(mcx);
}

static void
convert_file(const char *path, Buf *out)
{
	FILE	   *file = fopen(path, "r");
	char		line[4096];

	if (file == NULL)
		fail_msg("cannot open %s: run this from the top of the tree", path);
	while (fgets(line, sizeof(line), file) != NULL)
	{
		char	   *tab = strchr(line, '\t');

		assert_non_null(tab);
		line[strcspn(line, "\n")] = '\0';
		convert(type_of(line, (size_t) (tab - line)), bytes_from_cstr(tab + 1),
				out);
		buf_put_u8(out, '\n');
	}
	fclose(file);
}

static void
test_vectors(void **state UNUSED)
{
	Buf			got;
	FILE	   *file = fopen(VECTORS ".ref", "r");
	char		want[4096];
	const char *line;
	int			n = 0;

	buf_init(&got, NULL);
	convert_file(VECTORS ".in", &got);
	buf_put_u8(&got, '\0');
	assert_non_null(file);
	line = (const char *) got.data;
	while (fgets(want, sizeof(want), file) != NULL)
	{
		size_t		len = strcspn(line, "\n");

		n++;
		want[strcspn(want, "\n")] = '\0';
		if (strlen(want) != len || memcmp(want, line, len) != 0)
			fail_msg("line %d: got %.*s, want %s", n, (int) len, line, want);
		line += len + 1;
	}
	assert_int_equal(*line, '\0');
	fclose(file);
	buf_free(&got);
}

/* a type that the converters do not know would fail only when it is used */
static void
check_types(const ProtobufCMessageDescriptor *type, unsigned depth)
{
	assert_true(type->n_fields <= 64);
	for (unsigned i = 0; i < type->n_fields; i++)
	{
		const ProtobufCFieldDescriptor *field = &type->fields[i];

		switch (field->type)
		{
			case PROTOBUF_C_TYPE_MESSAGE:
				/* transactions hold transactions */
				if (depth < 8)
					check_types(field->descriptor, depth + 1);
				break;
			case PROTOBUF_C_TYPE_BYTES:
			case PROTOBUF_C_TYPE_STRING:
			case PROTOBUF_C_TYPE_BOOL:
			case PROTOBUF_C_TYPE_ENUM:
			case PROTOBUF_C_TYPE_INT32:
			case PROTOBUF_C_TYPE_UINT32:
			case PROTOBUF_C_TYPE_INT64:
			case PROTOBUF_C_TYPE_UINT64:
				break;
			default:
				fail_msg("%s.%s has a type that JSON cannot give",
						 type->short_name, field->name);
		}
	}
}

static void
test_all_types(void **state UNUSED)
{
	for (size_t i = 0; i < lengthof(all_types); i++)
		check_types(all_types[i], 0);
}

/* the same objects in pieces of every size */
static void
test_split(void **state UNUSED)
{
	static const char text[] = " {\"a\":\"}\\\"{\"} \n{\"b\":[{},{\"c\":1}]}{}\t"
		"{\"n\":12345678901234567890,\"m\":-1234567890123456789,\"s\":"
		"\"12345678901234567890\",\"t\":[1234567890123456789,123456789012345678]}";
	static const char *const want[] = {
		"{\"a\":\"}\\\"{\"}", "{\"b\":[{},{\"c\":1}]}", "{}",
		"{\"n\":\"12345678901234567890\",\"m\":\"-1234567890123456789\",\"s\":"
		"\"12345678901234567890\",\"t\":[\"1234567890123456789\",123456789012345678]}"
	};

	for (size_t piece = 1; piece < sizeof(text); piece++)
	{
		JsonSplit	split;
		size_t		n = 0;

		jsonsplit_init(&split, MAX_BYTES, MAX_VALUES);
		for (size_t at = 0; at < sizeof(text) - 1; at += piece)
		{
			Cursor		input = cursor_make(bytes_make(text + at, size_min(piece, sizeof(text) - 1 - at)));

			while (jsonsplit_feed(&split, &input) == JSONSPLIT_VALUE)
			{
				assert_true(n < lengthof(want));
				assert_true(bytes_equal_cstr(buf_bytes(&split.value), want[n]));
				n++;
				jsonsplit_next(&split);
			}
			assert_null(split.why);
		}
		assert_int_equal(n, lengthof(want));
		assert_true(jsonsplit_is_between(&split));
		jsonsplit_free(&split);
	}
}

static void
refused(const char *text, size_t len, size_t max_bytes, uint32_t max_values,
		const char *why)
{
	Cursor		input = cursor_make(bytes_make(text, len));
	JsonSplit	split;

	jsonsplit_init(&split, max_bytes, max_values);
	assert_int_equal(jsonsplit_feed(&split, &input), JSONSPLIT_BAD);
	assert_string_equal(split.why, why);
	/* and it stays so */
	assert_int_equal(jsonsplit_feed(&split, &input), JSONSPLIT_BAD);
	jsonsplit_free(&split);
}

static void
test_split_limits(void **state UNUSED)
{
	char		deep[2000];
	char		number[200];

	refused("x", 1, MAX_BYTES, MAX_VALUES, "a JSON object is expected");
	refused("[{}]", 4, MAX_BYTES, MAX_VALUES, "a JSON object is expected");
	refused("{\"a\":\"bcdef\"}", 13, 10, MAX_VALUES, "the JSON value is too large");
	refused("{\"a\":[1,2,3,4]}", 15, MAX_BYTES, 4, "too many values");
	memset(deep, '[', sizeof(deep));
	deep[0] = '{';
	refused(deep, sizeof(deep), MAX_BYTES, MAX_VALUES,
			"exceeded maximum recursion depth");
	memset(number, '1', sizeof(number));
	memcpy(number, "{\"a\":", 5);
	refused(number, sizeof(number), MAX_BYTES, MAX_VALUES,
			"a number is too long");
}

/* nested transactions as deep as dispatch allows come through */
static void
test_depth(void **state UNUSED)
{
	Buf			text;
	Buf			wire;
	Buf			back;
	char		error[256];
	JsonSplit	split;
	Cursor		input;

	buf_init(&text, NULL);
	buf_init(&wire, NULL);
	buf_init(&back, NULL);
	for (int i = 0; i < 60; i++)
		buf_printf(&text, "{\"success\":[{\"request_txn\":");
	buf_printf(&text, "{}");
	for (int i = 0; i < 60; i++)
		buf_printf(&text, "}]}");
	jsonsplit_init(&split, MAX_BYTES, MAX_VALUES);
	input = cursor_make(buf_bytes(&text));
	assert_int_equal(jsonsplit_feed(&split, &input), JSONSPLIT_VALUE);
	assert_true(json_to_wire(&etcdserverpb__txn_request__descriptor,
							 buf_bytes(&split.value), &wire, error,
							 sizeof(error)));
	assert_true(json_from_wire(&etcdserverpb__txn_request__descriptor,
							   buf_bytes(&wire), &back));
	assert_true(bytes_equal(buf_bytes(&text), buf_bytes(&back)));
	jsonsplit_free(&split);
	buf_free(&text);
	buf_free(&wire);
	buf_free(&back);
}

/* all lengths, all byte values, there and back */
static void
test_base64(void **state UNUSED)
{
	uint8_t		key[300];

	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t) (i * 7);
	for (size_t len = 1; len < sizeof(key); len++)
	{
		Buf			wire;
		Buf			json;
		Buf			again;
		char		error[256];

		buf_init(&wire, NULL);
		buf_init(&json, NULL);
		buf_init(&again, NULL);
		buf_put_u8(&wire, 0x0a);
		buf_put_bytes(&wire, bytes_make(key, len));
		assert_true(json_from_wire(&etcdserverpb__put_request__descriptor,
								   buf_bytes(&wire), &json));
		assert_true(json_to_wire(&etcdserverpb__put_request__descriptor,
								 buf_bytes(&json), &again, error,
								 sizeof(error)));
		assert_true(bytes_equal(buf_bytes(&wire), buf_bytes(&again)));
		buf_free(&wire);
		buf_free(&json);
		buf_free(&again);
	}
}

/* what is no such message is not told */
static void
test_bad_wire(void **state UNUSED)
{
	static const struct
	{
		const char *wire;
		size_t		len;
	}			bad[] = {
		{"\x0a\x05" "ab", 4},	/* shorter than it says */
		{"\x08\x01", 2},		/* a number where bytes belong */
		{"\x1a\x01x", 3},		/* bytes where a number belongs */
		{"\x00", 1},			/* field 0 */
		{"\x0f\x01", 2},		/* a wire type that does not exist */
	};
	Buf			out;

	buf_init(&out, NULL);
	for (size_t i = 0; i < lengthof(bad); i++)
		assert_false(json_from_wire(&etcdserverpb__put_request__descriptor,
									bytes_make(bad[i].wire, bad[i].len), &out));
	buf_free(&out);
}

static void
test_wire_oddities(void **state UNUSED)
{
	/* a field twice: the last counts; unknown ones are skipped; packed enums */
	static const char put[] = "\x18\x05\x98\x06\x07\x18\x06";
	static const char watch[] = "\x0a\x04\x2a\x02\x00\x01";
	Buf			out;

	buf_init(&out, NULL);
	assert_true(json_from_wire(&etcdserverpb__put_request__descriptor,
							   BYTES_LITERAL(put), &out));
	assert_true(bytes_equal_cstr(buf_bytes(&out), "{\"lease\":\"6\"}"));
	out.len = 0;
	assert_true(json_from_wire(&etcdserverpb__watch_request__descriptor,
							   bytes_make(watch, 6), &out));
	assert_true(bytes_equal_cstr(buf_bytes(&out),
								 "{\"create_request\":{\"filters\":[\"NOPUT\",\"NODELETE\"]}}"));
	out.len = 0;
	json_put_string(&out, BYTES_LITERAL("a\xff\"\xe2\x82\xac\xc0"));
	assert_true(bytes_equal_cstr(buf_bytes(&out),
								 "\"a\xef\xbf\xbd\\\"\xe2\x82\xac\xef\xbf\xbd\""));
	buf_free(&out);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_all_types),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_split_limits),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_bad_wire),
		cmocka_unit_test(test_wire_oddities),
	};

	json_init();
	if (argc > 1)
	{
		FILE	   *file = fopen(argv[1], "w");
		Buf			out;

		buf_init(&out, NULL);
		convert_file(VECTORS ".in", &out);
		fwrite(out.data, 1, out.len, file);
		fclose(file);
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
