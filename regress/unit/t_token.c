/*
 * t_token.c
 *	  The token cache: expiry and renewal, order of use, the cap per user,
 *	  names of any length, several processes, owners killed under the lock.
 */
/* needs: auth lease common storage/snap storage/ipc storage/lmgr utils/injection */
#include "server.h"

/* system */
#include <ctype.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>
#include <openssl/evp.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/injection.h"

/* this layer and below */
#include "auth/authstate.h"
#include "auth/token.h"
#include "storage/ipc/control.h"

#define TTL 300
#define MAX_TOKENS 2000

typedef struct Token
{
	char		random[TOKEN_RANDOM_CHARS + 1];
	uint8_t		hash[TOKEN_HASH_BYTES];
	uint64_t	index;
	char		text[TOKEN_RANDOM_CHARS + 32];
} Token;

static ControlSizes sizes;
static Token tokens[MAX_TOKENS];
static uint64_t next_index;

static void
open_cache(uint32_t entries, uint32_t max_per_user)
{
	sizes = (ControlSizes) {
		.nslots = 1,
		.max_request_bytes = 4096,
		.token_cache_entries = entries,
		.token_max_per_user = max_per_user,
	};
	assert_true(control_create(&sizes));
}

static int
close_cache(void **state)
{
	control_destroy();
	return 0;
}

static Bytes
text_of(const Token *token)
{
	return bytes_from_cstr(token->text);
}

static void
make_token(Token *token)
{
	char		random[TOKEN_RANDOM_CHARS + 1];

	token_make_random(random, token->hash);
	memcpy(token->random, random, sizeof(random));
	token->index = ++next_index;
	snprintf(token->text, sizeof(token->text), "%s.%llu", random,
			 (unsigned long long) token->index);
}

static void
put_for(Token *token, const char *user, uint32_t ttl_sec)
{
	make_token(token);
	token_cache_put(token->hash, token->index, bytes_from_cstr(user),
					token->index + 1000, ttl_sec);
}

static bool
is_valid(const Token *token)
{
	TokenInfo	info;

	return token_cache_lookup(text_of(token), &info);
}

/* so that two uses are not in one millisecond */
static void
let_clock_move(int64_t ms)
{
	int64_t		until = clock_monotonic_ms() + ms;

	while (clock_monotonic_ms() <= until)
		nanosleep(&(struct timespec) {.tv_nsec = 500000}, NULL);
}

static void
test_random_part(void **state)
{
	bool		seen[256] = {false};
	int			nletters = 0;

	for (int i = 0; i < MAX_TOKENS; i++)
	{
		uint8_t		hash[EVP_MAX_MD_SIZE];
		Token	   *token = &tokens[i];

		make_token(token);
		assert_int_equal(strlen(token->random), TOKEN_RANDOM_CHARS);
		for (int c = 0; c < TOKEN_RANDOM_CHARS; c++)
		{
			assert_true(isalnum((unsigned char) token->random[c]));
			seen[(unsigned char) token->random[c]] = true;
		}
		assert_int_equal(EVP_Digest(token->random, TOKEN_RANDOM_CHARS, hash,
									NULL, EVP_sha256(), NULL), 1);
		assert_memory_equal(hash, token->hash, TOKEN_HASH_BYTES);
		for (int j = 0; j < i; j += 97)
			assert_string_not_equal(tokens[j].random, token->random);
	}
	/* 44 000 characters: each letter and digit comes up */
	for (int c = 0; c < 256; c++)
		nletters += seen[c];
	assert_int_equal(nletters, 62);
}

static void
test_put_and_lookup(void **state)
{
	TokenInfo	info;
	Token		token;
	Token		other;

	open_cache(65536, 0);
	put_for(&token, "alice", TTL);
	make_token(&other);
	assert_true(token_cache_lookup(text_of(&token), &info));
	assert_int_equal(info.cred_rev, token.index + 1000);
	assert_true(bytes_equal_cstr(bytes_make(info.user, info.user_len),
								 "alice"));
	assert_false(is_valid(&other));
	assert_int_equal(token_cache_count(), 1);

	/* the same hash again, as a replayed entry would: replaced, not doubled */
	token_cache_put(token.hash, token.index, BYTES_LITERAL("bob"), 7, TTL);
	assert_int_equal(token_cache_count(), 1);
	assert_true(token_cache_lookup(text_of(&token), &info));
	assert_int_equal(info.cred_rev, 7);
	assert_true(bytes_equal_cstr(bytes_make(info.user, info.user_len), "bob"));
}

static void
test_malformed_tokens(void **state)
{
	static const char *const tails[] = {
		"", ".", ".x", ".1x", ".-1", ".+31", ". 31", ".31 ", ".31.", ".031",
		"..31", ".18446744073709551616", ".99999999999999999999999", ".0x1f",
	};
	Token		token;
	char		text[128];
	TokenInfo	info;

	open_cache(1024, 0);
	next_index = 30;
	put_for(&token, "alice", TTL);
	assert_true(is_valid(&token));
	for (size_t i = 0; i < lengthof(tails); i++)
	{
		snprintf(text, sizeof(text), "%s%s", token.random, tails[i]);
		assert_false(token_cache_lookup(bytes_from_cstr(text), &info));
	}
	assert_false(token_cache_lookup(BYTES_EMPTY, &info));
	assert_false(token_cache_lookup(BYTES_LITERAL(".31"), &info));
	assert_false(token_cache_lookup(bytes_from_cstr(token.text + 1), &info));
	snprintf(text, sizeof(text), "x%s", token.text);
	assert_false(token_cache_lookup(bytes_from_cstr(text), &info));
	/* the right random part with another index */
	snprintf(text, sizeof(text), "%s.32", token.random);
	assert_false(token_cache_lookup(bytes_from_cstr(text), &info));
	/* a zero byte is a byte like others */
	assert_false(token_cache_lookup(bytes_make(token.text,
											   strlen(token.text) + 1), &info));
	assert_true(is_valid(&token));

	/* the greatest index there is */
	token_cache_put(token.hash, UINT64_MAX, BYTES_LITERAL("alice"), 1, TTL);
	snprintf(text, sizeof(text), "%s.18446744073709551615", token.random);
	assert_true(token_cache_lookup(bytes_from_cstr(text), &info));
}

static void
test_expiry_and_renewal(void **state)
{
	Token		used;
	Token		unused;
	int64_t		last_ms;
	int64_t		end_ms;

	open_cache(1024, 0);
	put_for(&unused, "alice", 1);
	last_ms = clock_monotonic_ms();
	put_for(&used, "alice", 1);
	end_ms = last_ms + 1300;
	while (last_ms < end_ms)
	{
		int64_t		now_ms;

		nanosleep(&(struct timespec) {.tv_nsec = 50000000}, NULL);
		now_ms = clock_monotonic_ms();
		if (!is_valid(&used))
		{
			/* only on a machine that lets us sleep too long; then again */
			assert_true(clock_monotonic_ms() - last_ms >= 1000);
			now_ms = clock_monotonic_ms();
			put_for(&used, "alice", 1);
			end_ms = now_ms + 1300;
		}
		last_ms = now_ms;
	}
	assert_false(is_valid(&unused));
	let_clock_move(1000);
	assert_int_equal(token_cache_count(), 0);
	assert_false(is_valid(&used));
}

static void
test_expired_go_as_new_ones_come(void **state)
{
	open_cache(256, 0);
	for (int i = 0; i < 100; i++)
		put_for(&tokens[i], "alice", 0);
	let_clock_move(1);
	/* the dead do not push out the living */
	for (int i = 100; i < 356; i++)
		put_for(&tokens[i], "bob", TTL);
	for (int i = 100; i < 356; i++)
		assert_true(is_valid(&tokens[i]));
	assert_int_equal(token_cache_count(), 256);
}

static void
test_least_recently_used_goes_first(void **state)
{
	open_cache(256, 0);
	for (int i = 0; i < 256; i++)
		put_for(&tokens[i], i % 2 == 0 ? "alice" : "bob", TTL);
	assert_true(is_valid(&tokens[0]));
	assert_true(is_valid(&tokens[2]));
	put_for(&tokens[256], "carol", TTL);
	put_for(&tokens[257], "carol", TTL);
	assert_int_equal(token_cache_count(), 256);
	assert_true(is_valid(&tokens[0]));
	assert_false(is_valid(&tokens[1]));
	assert_true(is_valid(&tokens[2]));
	assert_false(is_valid(&tokens[3]));
	for (int i = 4; i < 258; i++)
		assert_true(is_valid(&tokens[i]));
}

static void
test_cap_per_user_over_all_partitions(void **state)
{
	open_cache(65536, 3);
	for (int i = 0; i < 3; i++)
	{
		put_for(&tokens[i], "alice", TTL);
		let_clock_move(2);
	}
	put_for(&tokens[10], "bob", TTL);
	assert_true(is_valid(&tokens[0]));
	let_clock_move(2);

	/* the one that was not used for longest makes room */
	put_for(&tokens[3], "alice", TTL);
	assert_true(is_valid(&tokens[0]));
	assert_false(is_valid(&tokens[1]));
	assert_true(is_valid(&tokens[2]));
	assert_true(is_valid(&tokens[3]));
	for (int i = 20; i < 120; i++)
		put_for(&tokens[i], "alice", TTL);
	assert_int_equal(token_cache_count(), 4);
	assert_true(is_valid(&tokens[119]));
	assert_true(is_valid(&tokens[10]));
}

static void
test_void_user(void **state)
{
	open_cache(65536, 0);
	for (int i = 0; i < 600; i++)
		put_for(&tokens[i], i % 3 == 0 ? "alice" : "bob", TTL);
	token_cache_void_user(BYTES_LITERAL("nobody"));
	assert_int_equal(token_cache_count(), 600);
	token_cache_void_user(BYTES_LITERAL("alice"));
	assert_int_equal(token_cache_count(), 400);
	for (int i = 0; i < 600; i++)
		assert_int_equal(is_valid(&tokens[i]), i % 3 != 0);
	token_cache_void_user(BYTES_EMPTY);
	assert_int_equal(token_cache_count(), 0);
	for (int i = 0; i < 600; i++)
		assert_false(is_valid(&tokens[i]));
	put_for(&tokens[0], "alice", TTL);
	assert_true(is_valid(&tokens[0]));
}

/* names that differ in the last byte only, at every length of interest */
static void
test_names_of_any_length(void **state)
{
	static const size_t lengths[] = {1, 2, 66, 67, 68, 69, 70, 158, 159, 160,
	161, 252, 253, 1023, AUTH_MAX_NAME_BYTES};
	uint8_t		name[AUTH_MAX_NAME_BYTES + 1];
	TokenInfo	info;

	open_cache(1024, 0);
	for (size_t i = 0; i < lengthof(lengths); i++)
	{
		for (size_t j = 0; j < lengths[i]; j++)
			name[j] = (uint8_t) (j * 7);
		for (int last = 0; last < 2; last++)
		{
			name[lengths[i] - 1] = (uint8_t) last;
			make_token(&tokens[2 * i + (size_t) last]);
			token_cache_put(tokens[2 * i + (size_t) last].hash, next_index,
							bytes_make(name, lengths[i]), 1, TTL);
		}
	}
	for (size_t i = 0; i < 2 * lengthof(lengths); i++)
	{
		size_t		len = lengths[i / 2];

		assert_true(token_cache_lookup(text_of(&tokens[i]), &info));
		assert_int_equal(info.user_len, len);
		for (size_t j = 0; j + 1 < len; j++)
			assert_int_equal((uint8_t) info.user[j], (uint8_t) (j * 7));
		assert_int_equal(info.user[len - 1], i % 2);
	}
	token_cache_void_user(bytes_make(info.user, info.user_len));
	assert_int_equal(token_cache_count(), 2 * lengthof(lengths) - 1);

	/* longer ones and empty ones do not exist: nothing is stored */
	make_token(&tokens[0]);
	token_cache_put(tokens[0].hash, next_index, bytes_make(name, sizeof(name)),
					1, TTL);
	token_cache_put(tokens[0].hash, next_index, BYTES_EMPTY, 1, TTL);
	assert_false(is_valid(&tokens[0]));
}

static void
test_long_names_use_up_cells(void **state)
{
	char		name[AUTH_MAX_NAME_BYTES];

	open_cache(256, 0);
	memset(name, 'n', sizeof(name));
	for (int round = 0; round < 3; round++)
	{
		for (int i = 0; i < 500; i++)
		{
			/* bytes, not text */
			memcpy(name, &i, sizeof(i));
			make_token(&tokens[i]);
			token_cache_put(tokens[i].hash, next_index,
							bytes_make(name, sizeof(name)), 1, TTL);
			assert_true(is_valid(&tokens[i]));
		}
		/* fewer fit, the newest do */
		assert_in_range(token_cache_count(), 30, 256);
		assert_true(is_valid(&tokens[480]));
		token_cache_void_user(BYTES_EMPTY);
	}
	/* no cell was lost: as many short ones fit as ever */
	for (int i = 0; i < 256; i++)
		put_for(&tokens[i], "short", TTL);
	assert_int_equal(token_cache_count(), 256);
}

static void
test_no_cell_is_lost(void **state)
{
	char		name[200];
	uint32_t	h = 1;

	open_cache(256, 5);
	for (int i = 0; i < 20000; i++)
	{
		size_t		len;

		h = h * 1664525u + 1013904223u;
		len = 1 + (h >> 8) % 190;
		memset(name, 'a' + (int) (h >> 28), len);
		make_token(&tokens[i % 400]);
		token_cache_put(tokens[i % 400].hash, next_index,
						bytes_make(name, len), 1, TTL);
		(void) is_valid(&tokens[(h >> 12) % 400]);
		if (i % 7 == 0)
			token_cache_void_user(bytes_make(name, len));
	}
	for (int i = 0; i < 300; i++)
	{
		snprintf(name, sizeof(name), "user %d", i);
		put_for(&tokens[i], name, TTL);
	}
	/* one user cell and one token cell each */
	assert_int_equal(token_cache_count(), 256);
}

static void
test_nothing_is_stored_in_clear(void **state)
{
	Token		token;

	open_cache(1024, 0);
	put_for(&token, "alice", TTL);
	assert_true(is_valid(&token));
	assert_non_null(memmem(control_subsystem(SUBSYSTEM_TOKENS),
						   token_shmem_size(&sizes), token.hash, 32));
	for (int i = 0; i + 8 <= TOKEN_RANDOM_CHARS; i++)
		assert_null(memmem(control_subsystem(SUBSYSTEM_TOKENS),
						   token_shmem_size(&sizes), token.random + i, 8));
}

/* ---- several processes ---- */

static void
test_lookups_beside_puts(void **state)
{
	pid_t		readers[3];
	int			status;

	open_cache(512, 100);
	for (int i = 0; i < 300; i++)
		make_token(&tokens[i]);
	for (size_t r = 0; r < lengthof(readers); r++)
	{
		readers[r] = fork();
		assert_true(readers[r] >= 0);
		if (readers[r] == 0)
		{
			int64_t		end_ms = clock_monotonic_ms() + 300;
			TokenInfo	info;

			for (uint32_t i = (uint32_t) r; clock_monotonic_ms() < end_ms; i++)
			{
				const Token *token = &tokens[i * 37 % 300];

				/* who is found is who he should be */
				if (token_cache_lookup(text_of(token), &info) &&
					(info.user_len != 1 + token->index % 150 ||
					 info.cred_rev != token->index ||
					 info.user[info.user_len - 1] !=
					 (char) ('a' + token->index % 5)))
					_exit(1);
			}
			_exit(0);
		}
	}
	for (int64_t end_ms = clock_monotonic_ms() + 300, i = 0;
		 clock_monotonic_ms() < end_ms; i++)
	{
		const Token *token = &tokens[i * 11 % 300];
		char		name[200];
		size_t		len = 1 + token->index % 150;

		memset(name, 'a' + (int) (token->index % 5), len);
		token_cache_put(token->hash, token->index, bytes_make(name, len),
						token->index, TTL);
		if (i % 19 == 0)
			token_cache_void_user(bytes_make(name, len));
	}
	for (size_t r = 0; r < lengthof(readers); r++)
	{
		assert_int_equal(waitpid(readers[r], &status, 0), readers[r]);
		assert_int_equal(status, 0);
	}
	token_cache_void_user(BYTES_EMPTY);
	assert_int_equal(token_cache_count(), 0);
}

/* a child is killed at an injection point while it holds the lock */
static void
kill_child_at(const char *injection, void (*act) (void))
{
	pid_t		pid = fork();
	int			status;

	assert_true(pid >= 0);
	if (pid == 0)
	{
		setenv("CLAVIGER_INJECT", injection, 1);
		injection_reload();
		act();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void
act_lookup(void)
{
	(void) is_valid(&tokens[0]);
}

static void
act_put(void)
{
	put_for(&tokens[1], "mallory", TTL);
}

static void
assert_cache_works(void)
{
	for (int i = 0; i < 256; i++)
		put_for(&tokens[i], i % 2 == 0 ? "alice" : "bob", TTL);
	assert_int_equal(token_cache_count(), 256);
	for (int i = 0; i < 256; i++)
		assert_true(is_valid(&tokens[i]));
}

static void
test_killed_owner_empties_the_partition(void **state)
{
	static const struct
	{
		const char *injection;
		void		(*act) (void);
	}			cases[] = {
		{"token-partition-locked=kill", act_lookup},
		{"token-partition-locked=kill", act_put},
		{"token-half-linked=kill", act_put},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		open_cache(256, 0);		/* one partition */
		assert_cache_works();
		kill_child_at(cases[i].injection, cases[i].act);
		/* the first who comes is told, whoever he is */
		assert_false(is_valid(&tokens[0]));
		assert_int_equal(token_cache_count(), 0);
		assert_cache_works();
		control_destroy();
	}
	open_cache(256, 0);
}

static void
test_killed_owner_costs_one_partition_only(void **state)
{
	uint32_t	left;
	int			nvalid = 0;

	open_cache(65536, 0);
	for (int i = 0; i < 1280; i++)
		put_for(&tokens[i], "alice", TTL);
	kill_child_at("token-partition-locked=kill", act_lookup);
	assert_false(is_valid(&tokens[0]));
	left = token_cache_count();
	/* 1 of 64 partitions, about 20 of 1280 */
	assert_in_range(left, 1200, 1279);
	for (int i = 0; i < 1280; i++)
		nvalid += is_valid(&tokens[i]);
	assert_int_equal(nvalid, left);
	token_cache_void_user(BYTES_LITERAL("alice"));
	assert_int_equal(token_cache_count(), 0);
}

static void
test_without_a_cache(void **state)
{
	Token		token;

	make_token(&token);
	assert_false(is_valid(&token));
	token_cache_void_user(BYTES_EMPTY);
	assert_int_equal(token_cache_count(), 0);
}

int
main(void)
{
#define WITH_CACHE(test) cmocka_unit_test_teardown(test, close_cache)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_a_cache),
		cmocka_unit_test(test_random_part),
		WITH_CACHE(test_put_and_lookup),
		WITH_CACHE(test_malformed_tokens),
		WITH_CACHE(test_expiry_and_renewal),
		WITH_CACHE(test_expired_go_as_new_ones_come),
		WITH_CACHE(test_least_recently_used_goes_first),
		WITH_CACHE(test_cap_per_user_over_all_partitions),
		WITH_CACHE(test_void_user),
		WITH_CACHE(test_names_of_any_length),
		WITH_CACHE(test_long_names_use_up_cells),
		WITH_CACHE(test_no_cell_is_lost),
		WITH_CACHE(test_nothing_is_stored_in_clear),
		WITH_CACHE(test_lookups_beside_puts),
		WITH_CACHE(test_killed_owner_empties_the_partition),
		WITH_CACHE(test_killed_owner_costs_one_partition_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
