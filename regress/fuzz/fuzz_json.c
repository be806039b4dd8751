/*
 * fuzz_json.c
 *	  Any bytes as JSON for a message, and as the wire of one.
 *
 * The first byte chooses the message, and (bit 7) the direction.  What JSON
 * becomes must be decodable as dispatch decodes it or be refused there, and
 * must survive the way to JSON and back unchanged.
 */
/* needs: gateway/jsonin gateway/jsonout gateway/jsonsplit dispatch/decode common proto */
#include "server.h"

/* libraries */
#include "etcdserverpb.pb-c.h"

/* lib and utils */
#include "utils/guc.h"

/* this layer and below */
#include "dispatch/decode.h"
#include "gateway/json.h"
#include "gateway/jsonsplit.h"

int64_t		guc_max_txn_ops = 128;

static const ProtobufCMessageDescriptor *const types[] = {
	&etcdserverpb__txn_request__descriptor,
	&etcdserverpb__put_request__descriptor,
	&etcdserverpb__range_request__descriptor,
	&etcdserverpb__watch_request__descriptor,
	&etcdserverpb__auth_user_add_request__descriptor,
	&etcdserverpb__auth_role_grant_permission_request__descriptor,
	&etcdserverpb__member_add_request__descriptor,
	&etcdserverpb__watch_response__descriptor,
	&etcdserverpb__txn_response__descriptor,
	&etcdserverpb__status_response__descriptor,
	&etcdserverpb__hash_kvresponse__descriptor,
};

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
from_json(const ProtobufCMessageDescriptor *type, Bytes text)
{
	MemContext *mcx = mcx_create(NULL, "fuzz");
	Cursor		input = cursor_make(text);
	JsonSplit	split;

	jsonsplit_init(&split, 64 * 1024, 1000);
	while (jsonsplit_feed(&split, &input) == JSONSPLIT_VALUE)
	{
		Buf			wire;
		Buf			json;
		Buf			again;
		Buf			json2;
		void	   *message;
		const char *why;
		char		error[128];

		buf_init(&wire, mcx);
		buf_init(&json, mcx);
		buf_init(&again, mcx);
		buf_init(&json2, mcx);
		if (json_to_wire(type, buf_bytes(&split.value), &wire, error,
						 sizeof(error)))
		{
			(void) decode_message(type, buf_bytes(&wire), mcx, &message, &why);
			if (!json_from_wire(type, buf_bytes(&wire), &json) ||
				!json_to_wire(type, buf_bytes(&json), &again, error,
							  sizeof(error)) ||
				!json_from_wire(type, buf_bytes(&again), &json2) ||
				!bytes_equal(buf_bytes(&json), buf_bytes(&json2)))
				abort();
		}
		jsonsplit_next(&split);
	}
	jsonsplit_free(&split);
	mcx_destroy(mcx);
}

static void
from_wire(const ProtobufCMessageDescriptor *type, Bytes wire)
{
	Buf			json;
	Buf			again;
	char		error[128];

	buf_init(&json, NULL);
	buf_init(&again, NULL);
	/* what we say is JSON that we understand, but for enums below 0 */
	if (json_from_wire(type, wire, &json))
		(void) json_to_wire(type, buf_bytes(&json), &again, error,
							sizeof(error));
	buf_free(&json);
	buf_free(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const ProtobufCMessageDescriptor *type;

	if (size == 0)
		return 0;
	json_init();
	type = types[(data[0] & 0x7f) % lengthof(types)];
	if (data[0] & 0x80)
		from_wire(type, bytes_make(data + 1, size - 1));
	else
		from_json(type, bytes_make(data + 1, size - 1));
	return 0;
}
