/*
 * b_authorize.c
 *	  How long a permission check takes with 10^2 to 10^6 permissions.
 *
 * One user holds one role; a permission is READ on one key, or on a range that
 * touches the next.  Asked is authorize() with the list of a Range, as dispatch
 * does for each request: of a key that is granted, of one that is not, and of
 * a range that 10 grants together cover.  Prints a line of JSON per size.
 *
 *	  b_authorize [LARGEST]
 */
/* needs: auth lease common storage/snap storage/ipc storage/lmgr utils/injection */
#include "server.h"

/* lib and utils */
#include "utils/clock.h"

/* this layer and below */
#include "auth/authorize.h"
#include "auth/authstate.h"

#include "../unit/unit_auth.h"

#define CHECKS 200000
#define KEY_BYTES 16

typedef struct Question
{
	uint32_t	n;				/* permissions in the role */
	uint32_t	width;			/* keys asked for */
	bool		is_granted;
} Question;

static MemContext *mcx;

static Bytes
key_of(char buf[KEY_BYTES], uint32_t number)
{
	int			len = snprintf(buf, KEY_BYTES, "k%08" PRIu32, number);

	return bytes_make(buf, (size_t) len);
}

/* key 2i is granted alone, so that 2i+1 is not, or [2i, 2i+2) with it */
static void
grant_many(uint32_t from, uint32_t n, bool as_ranges)
{
	for (uint32_t i = from; i < n; i++)
	{
		char		key[KEY_BYTES];
		char		end[KEY_BYTES];

		give_perm("app", PERM_READ, key_of(key, 2 * i), as_ranges
				  ? key_of(end, 2 * i + 2) : BYTES_EMPTY);
		/* as apply does it: batches, each published */
		if (i % 1000 == 999)
		{
			store_publish();
			(void) store_reclaim();
		}
	}
	store_publish();
}

static double
ns_per_check(const Question *q)
{
	Identity	who = {
		IDENTITY_TOKEN, B("alice"),
		auth_user(store_draft(), B("alice"))->cred_rev};
	int64_t		began_us = clock_monotonic_us();

	for (uint32_t i = 0; i < CHECKS; i++)
	{
		char		key[KEY_BYTES];
		char		end[KEY_BYTES];
		uint32_t	first = 2 * unit_random(q->n - q->width / 2) +
			(q->is_granted ? 0 : 1);
		KeyRange	range = keyrange_make(key_of(key, first), q->width > 1
										  ? key_of(end, first + q->width)
										  : BYTES_EMPTY);
		AccessList	access;
		ErrCode		error;

		access_init(&access, mcx);
		access_add_range(&access, NEED_READ, &range);
		error = authorize(store_draft(), &who, &access);
		if ((error == ERR_NONE) != q->is_granted)
		{
			fprintf(stderr, "b_authorize: wrong answer\n");
			exit(1);
		}
		mcx_reset(mcx);
	}
	return (double) (clock_monotonic_us() - began_us) * 1000 / CHECKS;
}

static void
open_store(void)
{
	unit_store_open();
	enable_auth();
	add_user("alice");
	add_role("app");
	give_role("alice", "app");
}

int
main(int argc, char **argv)
{
	uint32_t	largest = argc > 1 ? (uint32_t) atol(argv[1]) : 1000000;

	mcx = mcx_create(NULL, "bench");
	unit_seed(1);
	for (uint32_t n = 100; n <= largest; n *= 10)
	{
		double		granted;
		double		refused;

		open_store();
		grant_many(0, n, false);
		granted = ns_per_check(&(Question) {n, 1, true});
		refused = ns_per_check(&(Question) {n, 1, false});
		unit_store_close();

		open_store();
		grant_many(0, n, true);
		printf("{\"permissions\":%" PRIu32 ",\"granted_ns\":%.0f,"
			   "\"refused_ns\":%.0f,\"range_of_10_ns\":%.0f}\n", n, granted,
			   refused, ns_per_check(&(Question) {n, 20, true}));
		fflush(stdout);
		unit_store_close();
	}
	mcx_destroy(mcx);
	return 0;
}
