/*
 * fuzz_kvrecord.c
 *	  Any bytes as key and record of the table "key".
 *
 * What is taken must come out of encoding and decoding again as it was.
 */
/* needs: storage/bdb storage/snap storage/ipc storage/lmgr mvcc auth lease member alarm common utils/injection utils/guc */
#include "server.h"

/* this layer and below */
#include "storage/bdb/kvrecord.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

static void
try_key(Bytes input)
{
	uint8_t		key[KVRECORD_KEY_BYTES];
	int64_t		mod;
	uint32_t	sub;

	if (!kvrecord_key_decode(input, &mod, &sub))
		return;
	require(mod > 0);
	kvrecord_key(mod, sub, key);
	require(bytes_equal(input, bytes_make(key, sizeof(key))));
}

static void
try_record(Bytes input)
{
	KvRecord	first;
	KvRecord	again;
	KvVersion  *kv;
	Buf			out;

	if (!kvrecord_decode(input, &first))
		return;
	require(first.key.len > 0 && first.version >= 0);
	kv = xcalloc(1, sizeof(*kv) + first.key.len + first.value.len);
	kv->item.key_len = (uint32_t) first.key.len;
	kv->item.key_offset = offsetof(KvVersion, bytes);
	kv->value_len = (uint32_t) first.value.len;
	kv->create_revision = first.create_revision;
	kv->version = first.version;
	kv->lease = first.lease;
	memcpy(kv->bytes, first.key.data, first.key.len);
	if (first.value.len > 0)
		memcpy(kv->bytes + first.key.len, first.value.data, first.value.len);

	buf_init(&out, NULL);
	kvrecord_encode(kv, &out);
	require(kvrecord_decode(buf_bytes(&out), &again));
	require(first.create_revision == again.create_revision &&
			first.version == again.version && first.lease == again.lease &&
			bytes_equal(first.key, again.key) &&
			bytes_equal(first.value, again.value));
	buf_free(&out);
	free(kv);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	try_key(bytes_make(data, size));
	try_record(bytes_make(data, size));
	return 0;
}
