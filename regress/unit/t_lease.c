/*
 * t_lease.c
 *	  Leases: entries and what hangs on them, records, clocks, renewals.
 */
/* needs: lease storage/snap */
#include "server.h"

/* system */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>

/* libraries */
#include <cmocka.h>

/* lib and utils */
#include "lib/buf.h"
#include "utils/clock.h"

/* this layer and below */
#include "lease/lease.h"
#include "lease/renewal.h"
#include "storage/snap/store.h"

#define B(s) BYTES_LITERAL(s)
#define STORE_BYTES ((size_t) 64 * 1024 * 1024)

static StorePinWord pin_word;

static StorePinWord *
get_pin_word(uint32_t i)
{
	return &pin_word;
}

static int
setup(void **state)
{
	assert_true(store_create(STORE_BYTES));
	store_use_populate_thread(false);
	store_attach_writer();
	atomic_store(&pin_word.epoch, 0);
	store_set_pin_words(get_pin_word, 1);
	store_set_own_pin_word(&pin_word);
	store_set_wipe_freed(true);
	return 0;
}

static int
teardown(void **state)
{
	store_set_pin_words(NULL, 0);
	store_destroy();
	return 0;
}

/* a version of a key, as mvcc would make it */
static KvVersion *
version(int64_t lease, const char *key)
{
	size_t		len = strlen(key);
	KvVersion  *kv = store_alloc(sizeof(*kv) + len);

	memset(kv, 0, sizeof(*kv));
	kv->item.key_len = (uint32_t) len;
	kv->item.key_offset = offsetof(KvVersion, bytes);
	kv->version = 1;
	kv->lease = lease;
	memcpy(kv->bytes, key, len);
	return kv;
}

/* the keys of a lease, with blanks between them */
static const char *
keys_of(const StoreVersion *v, int64_t id)
{
	static char text[256];
	LeaseKeyCursor cursor;
	size_t		used = 0;

	text[0] = '\0';
	for (const KvVersion *kv = lease_keys_seek(lease_find(v, id), &cursor,
											   BYTES_EMPTY);
		 kv != NULL; kv = lease_keys_next(&cursor))
		used += (size_t) snprintf(text + used, sizeof(text) - used, "%s%.*s",
								  used > 0 ? " " : "",
								  (int) kv->item.key_len,
								  (const char *) kv->bytes);
	return text;
}

static void
test_grant_and_its_bounds(void **state)
{
	StoreVersion *draft = store_draft();

	assert_int_equal(lease_grant(draft, 1, 0), ERR_LEASE_TTL_TOO_LARGE);
	assert_int_equal(lease_grant(draft, 1, LEASE_MAX_TTL_SEC + 1),
					 ERR_LEASE_TTL_TOO_LARGE);
	assert_int_equal(draft->leases.nitems, 0);
	assert_int_equal(lease_grant(draft, INT64_MIN, LEASE_MAX_TTL_SEC),
					 ERR_NONE);
	assert_int_equal(lease_grant(draft, 1, 1), ERR_NONE);
	assert_int_equal(lease_grant(draft, 1, 5), ERR_LEASE_EXIST);
	assert_int_equal(lease_find(draft, 1)->granted_sec, 1);
	assert_null(lease_find(draft, 2));
	assert_int_equal(draft->live_bytes, 2 * LEASE_LIVE_BYTES);
	assert_true(lease_remaining_ms(lease_find(draft, INT64_MIN), 0) >
				LEASE_MAX_TTL_SEC * 1000 - 1);
}

static void
test_keys_and_old_versions(void **state)
{
	StoreVersion *draft = store_draft();
	const StoreVersion *old;

	assert_int_equal(lease_grant(draft, 1, 100), ERR_NONE);
	assert_false(lease_attach(draft, version(2, "x")));
	assert_true(lease_attach(draft, version(1, "b")));
	assert_string_equal(keys_of(draft, 1), "b");
	lease_detach(draft, 1, B("c"));
	assert_string_equal(keys_of(draft, 1), "b");
	assert_true(lease_attach(draft, version(1, "b")));
	assert_int_equal(lease_nkeys(lease_find(draft, 1)), 1);
	store_publish();
	draft = store_draft();
	old = store_pin();

	assert_true(lease_attach(draft, version(1, "a")));
	assert_true(lease_attach(draft, version(1, "c")));
	assert_string_equal(keys_of(draft, 1), "a b c");
	assert_string_equal(keys_of(old, 1), "b");
	/* one clock for both */
	assert_ptr_equal(lease_find(draft, 1)->clock, lease_find(old, 1)->clock);
	lease_detach(draft, 1, B("b"));
	lease_detach(draft, 1, B("b"));
	lease_detach(draft, 7, B("b"));
	assert_string_equal(keys_of(draft, 1), "a c");
	store_publish();
	draft = store_draft();
	lease_detach(draft, 1, B("a"));
	lease_detach(draft, 1, B("c"));
	assert_string_equal(keys_of(draft, 1), "");
	assert_int_equal(lease_nkeys(lease_find(draft, 1)), 0);
	assert_true(lease_attach(draft, version(1, "d")));
	assert_string_equal(keys_of(draft, 1), "d");
	lease_remove(draft, 1);
	store_publish();
	store_reclaim();
	/* who still looks at it sees what there was */
	assert_string_equal(keys_of(old, 1), "b");
	store_unpin();
}

/* whatever leases come and go, their memory comes back */
static void
test_memory_comes_back(void **state)
{
	size_t		before;

	store_publish();
	while (store_reclaim() > 0)
		store_publish();
	before = store_bytes_used();
	for (int round = 0; round < 3; round++)
	{
		KvVersion  *kvs[500];

		for (int64_t id = 1; id <= 50; id++)
		{
			assert_int_equal(lease_grant(store_draft(), id, 100), ERR_NONE);
			for (int k = 0; k < 10; k++)
			{
				char		key[16];
				KvVersion  *kv;

				snprintf(key, sizeof(key), "k%d", k);
				kv = kvs[(id - 1) * 10 + k] = version(id, key);
				assert_true(lease_attach(store_draft(), kv));
				if (k % 3 == 0)
					store_publish();
				if (k % 4 == 0)
					lease_detach(store_draft(), id, kvversion_key(kv));
			}
			assert_true(lease_set_remaining(store_draft(), id, 50));
		}
		for (int64_t id = 1; id <= 50; id++)
		{
			lease_remove(store_draft(), id);
			if (id % 7 == 0)
				store_publish();
		}
		for (int i = 0; i < 500; i++)
			store_free(kvs[i], sizeof(KvVersion) + kvs[i]->item.key_len);
		store_publish();
		while (store_reclaim() > sizeof(StoreVersion))
			store_publish();
	}
	assert_int_equal(store_draft()->live_bytes, 0);
	assert_int_equal(store_draft()->leases.nitems, 0);
	assert_in_range(store_bytes_used(), before, before + 4096);
	assert_null(store_check());
}

static void
test_records(void **state)
{
	StoreVersion *draft = store_draft();
	uint8_t		key[LEASE_KEY_BYTES];
	const LeaseEntry *lease;
	Buf			record;

	buf_init(&record, NULL);
	assert_int_equal(lease_grant(draft, -2, 300), ERR_NONE);
	assert_true(lease_set_remaining(draft, -2, 77));
	lease_encode(lease_find(draft, -2), &record);
	lease_key(-2, key);
	/* twice is one too many */
	assert_false(lease_load(draft, bytes_make(key, sizeof(key)),
							buf_bytes(&record)));
	lease_remove(draft, -2);
	assert_true(lease_load(draft, bytes_make(key, sizeof(key)),
						   buf_bytes(&record)));
	lease = lease_find(draft, -2);
	assert_int_equal(lease->granted_sec, 300);
	assert_int_equal(lease->remaining_sec, 77);
	assert_in_range(lease_remaining_ms(lease, clock_monotonic_ms()), 70000,
					77000);
	lease_remove(draft, -2);
	for (size_t n = 0; n < record.len; n++)
		assert_false(lease_load(draft, bytes_make(key, sizeof(key)),
								bytes_make(record.data, n)));
	buf_put_u8(&record, 0);
	assert_false(lease_load(draft, bytes_make(key, sizeof(key)),
							buf_bytes(&record)));
	/* never more than was granted, nor less than nothing */
	assert_int_equal(lease_grant(draft, 3, 10), ERR_NONE);
	assert_true(lease_set_remaining(draft, 3, 10));
	assert_int_equal(lease_find(draft, 3)->remaining_sec, 0);
	assert_true(lease_set_remaining(draft, 3, -1));
	assert_int_equal(lease_find(draft, 3)->remaining_sec, 0);
	assert_true(lease_set_remaining(draft, 3, 9));
	assert_int_equal(lease_find(draft, 3)->remaining_sec, 9);
	assert_false(lease_set_remaining(draft, 4, 9));
	buf_free(&record);
}

static void
test_clock(void **state)
{
	StoreVersion *draft = store_draft();
	const LeaseEntry *lease;

	assert_int_equal(lease_grant(draft, 1, 10), ERR_NONE);
	lease = lease_find(draft, 1);
	atomic_store(&lease->clock->deadline_ms, 5000);
	assert_int_equal(lease_remaining_ms(lease, 4000), 1000);
	assert_int_equal(lease_remaining_ms(lease, 6000), 0);
	assert_false(lease_expire(lease, 4999));
	assert_int_equal(lease_renew(lease, 4999), 10);
	assert_int_equal(atomic_load(&lease->clock->deadline_ms), 14999);
	/* a clock read earlier does not take away what a later one gave */
	assert_int_equal(lease_renew(lease, 4000), 10);
	assert_int_equal(atomic_load(&lease->clock->deadline_ms), 14999);
	/* its time is over, marked or not */
	assert_int_equal(lease_renew(lease, 14999), 0);
	assert_true(lease_expire(lease, 14999));
	assert_true(lease_expire(lease, 0));
	assert_int_equal(lease_renew(lease, 0), 0);
	assert_int_equal(lease_remaining_ms(lease, 0), 0);

	/* who begins to lead gives all that is known to be left */
	assert_true(lease_set_remaining(draft, 1, 4));
	lease_promote(draft, 100000);
	lease = lease_find(draft, 1);
	assert_int_equal(lease_remaining_ms(lease, 100000), 4000);
	assert_int_equal(lease_renew(lease, 100001), LEASE_NEEDS_LOG);
	assert_int_equal(lease_remaining_ms(lease, 100000), 4000);
	assert_true(lease_set_remaining(draft, 1, 0));
	assert_int_equal(lease_renew(lease_find(draft, 1), 100001), 10);
}

static void
test_renewals(void **state)
{
	StoreVersion *draft = store_draft();
	LeaseRenewal renewal;
	LeaseRenewal decoded;
	int64_t		now_ms = clock_monotonic_ms();
	int64_t		ttl_sec;
	Buf			payload;

	buf_init(&payload, NULL);
	assert_int_equal(lease_grant(draft, 1, 10), ERR_NONE);
	renewal = lease_renewal_make(draft, 1);
	lease_renewal_encode(&renewal, &payload);
	assert_true(lease_renewal_decode(buf_bytes(&payload), &decoded));
	assert_memory_equal(&renewal, &decoded, sizeof(renewal));
	for (size_t n = 0; n < payload.len; n++)
		assert_false(lease_renewal_decode(bytes_make(payload.data, n),
										  &decoded));
	buf_put_u8(&payload, 0);
	assert_false(lease_renewal_decode(buf_bytes(&payload), &decoded));
	buf_free(&payload);

	assert_int_equal(lease_renewal_execute(draft, &renewal, now_ms, &ttl_sec),
					 ERR_NONE);
	assert_int_equal(ttl_sec, 10);
	/* with authentication off nobody cares what hangs on it */
	store_publish();
	draft = store_draft();
	assert_true(lease_attach(draft, version(1, "a")));
	assert_int_equal(lease_renewal_execute(draft, &renewal, now_ms, &ttl_sec),
					 ERR_NONE);
	assert_int_equal(ttl_sec, 10);

	draft->auth_enabled = true;
	assert_int_equal(lease_renewal_execute(draft, &renewal, now_ms, &ttl_sec),
					 ERR_AUTH_OLD_REVISION);
	renewal = lease_renewal_make(draft, 1);
	assert_int_equal(lease_renewal_execute(draft, &renewal, now_ms, &ttl_sec),
					 ERR_NONE);
	draft->auth_revision++;
	assert_int_equal(lease_renewal_execute(draft, &renewal, now_ms, &ttl_sec),
					 ERR_AUTH_OLD_REVISION);
	renewal = lease_renewal_make(draft, 1);
	store_publish();
	draft = store_draft();
	assert_true(lease_attach(draft, version(1, "b")));
	assert_int_equal(lease_renewal_execute(draft, &renewal, now_ms, &ttl_sec),
					 ERR_AUTH_OLD_REVISION);
	assert_int_equal(ttl_sec, 0);
	renewal = lease_renewal_make(draft, 2);
	assert_int_equal(lease_renewal_execute(draft, &renewal, now_ms, &ttl_sec),
					 ERR_NONE);
	assert_int_equal(ttl_sec, 0);
}

/* ---- a keepalive and the end of a lease at the same moment ---- */

#define RACES 3000

static const LeaseEntry *race_lease;
static _Atomic int race_round;
static _Atomic int race_ready;

static void *
race_renew(void *arg)
{
	int64_t    *answers = arg;

	for (int i = 1; i <= RACES; i++)
	{
		atomic_fetch_add(&race_ready, 1);
		while (atomic_load(&race_round) < i)
			sched_yield();
		/* both have read the clock at about the deadline */
		answers[i - 1] = lease_renew(race_lease, 999);
	}
	return NULL;
}

static void
test_renew_against_expire(void **state)
{
	static int64_t answers[RACES];
	static bool ended[RACES];
	pthread_t	thread;
	int			nended = 0;

	assert_int_equal(lease_grant(store_draft(), 1, 10), ERR_NONE);
	race_lease = lease_find(store_draft(), 1);
	assert_int_equal(pthread_create(&thread, NULL, race_renew, answers), 0);
	for (int i = 1; i <= RACES; i++)
	{
		while (atomic_load(&race_ready) < i)
			sched_yield();
		atomic_store(&race_lease->clock->deadline_ms, 1000);
		atomic_store(&race_round, i);
		ended[i - 1] = lease_expire(race_lease, 1000);
	}
	pthread_join(thread, NULL);
	for (int i = 0; i < RACES; i++)
	{
		/* exactly one of the two has won */
		assert_true(ended[i] == (answers[i] == 0));
		nended += ended[i];
	}
	print_message("the lease ended in %d of %d races\n", nended, RACES);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_grant_and_its_bounds),
		TEST(test_keys_and_old_versions),
		TEST(test_memory_comes_back),
		TEST(test_records),
		TEST(test_clock),
		TEST(test_renewals),
		TEST(test_renew_against_expire),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
