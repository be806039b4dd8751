/*
 * fuzz_lease.c
 *	  Records of table "lease", and keepalives on their way to the raft worker.
 *
 * What is taken encodes to the same bytes again, and is within the bounds of
 * what can be granted.  The first eight bytes of the input are a record's key.
 */
/* needs: lease storage/snap */
#include "server.h"

/* this layer and below */
#include "lease/lease.h"
#include "lease/renewal.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

static void
try_record(Bytes key, Bytes input)
{
	LeaseRecord record;
	LeaseEntry	lease = {0};
	uint8_t		again[LEASE_KEY_BYTES];
	Buf			out;

	if (!lease_decode(key, input, &record))
		return;
	require(record.id != 0 && record.granted_sec >= 1 &&
			record.granted_sec <= LEASE_MAX_TTL_SEC &&
			record.remaining_sec >= 0 &&
			record.remaining_sec < record.granted_sec);
	lease_key(record.id, again);
	require(bytes_equal(key, bytes_make(again, sizeof(again))));
	lease.granted_sec = record.granted_sec;
	lease.remaining_sec = record.remaining_sec;
	buf_init(&out, NULL);
	lease_encode(&lease, &out);
	require(bytes_equal(input, buf_bytes(&out)));
	buf_free(&out);
}

static void
try_renewal(Bytes input)
{
	LeaseRenewal renewal;
	Buf			out;

	if (!lease_renewal_decode(input, &renewal))
		return;
	buf_init(&out, NULL);
	lease_renewal_encode(&renewal, &out);
	require(bytes_equal(input, buf_bytes(&out)));
	buf_free(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t		n = size_min(size, LEASE_KEY_BYTES);

	try_record(bytes_make(data, n), bytes_make(data + n, size - n));
	try_renewal(bytes_make(data, size));
	return 0;
}
