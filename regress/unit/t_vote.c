/*
 * t_vote.c
 *	  Term and vote on disk.
 */
/* needs: raft utils/injection */
#include "server.h"

/* system */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>

/* lib and utils */
#include "utils/elog.h"

/* this layer and below */
#include "raft/log.h"

#define FILE_BYTES 1024
#define SLOT_BYTES 512
/* what a slot's checksum covers, and the checksum */
#define SLOT_USED_BYTES 44

static char dir[256];
static char path[300];
static char error[1024];

static int
set_up(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/t_vote.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/vote", dir);
	assert_int_equal(vote_create(dir, 1, 0), 0);
	return 0;
}

static int
tear_down(void **state)
{
	unlink(path);
	rmdir(dir);
	return 0;
}

static void
file_read(uint8_t bytes[FILE_BYTES])
{
	int			fd = open(path, O_RDONLY);

	assert_int_equal(read(fd, bytes, FILE_BYTES), FILE_BYTES);
	close(fd);
}

static void
file_write(const uint8_t *bytes, size_t n)
{
	int			fd = open(path, O_WRONLY | O_TRUNC);

	assert_int_equal(write(fd, bytes, n), n);
	close(fd);
}

static void
expect_vote(uint64_t want_term, uint64_t want_vote)
{
	uint64_t	term = 0;
	uint64_t	voted_for = 0;

	if (!vote_load(dir, &term, &voted_for, error, sizeof(error)))
		fail_msg("%s", error);
	assert_int_equal(term, want_term);
	assert_int_equal(voted_for, want_vote);
}

static void
expect_error(const char *text)
{
	uint64_t	term;
	uint64_t	voted_for;

	assert_false(vote_load(dir, &term, &voted_for, error, sizeof(error)));
	assert_non_null(strstr(error, path));
	assert_non_null(strstr(error, text));
}

static void
test_round_trip(void **state)
{
	expect_vote(1, 0);
	for (uint64_t i = 2; i < 20; i++)
	{
		assert_int_equal(vote_store(dir, i, i % 3 == 0 ? 0 : UINT64_MAX - i),
						 0);
		expect_vote(i, i % 3 == 0 ? 0 : UINT64_MAX - i);
	}
	/* made once */
	assert_int_equal(vote_create(dir, 1, 0), EEXIST);
	expect_vote(19, UINT64_MAX - 19);
}

/* Each byte of the slot that was just written: the vote before it stands. */
static void
test_torn_store(void **state)
{
	uint8_t		bytes[FILE_BYTES];

	for (uint64_t term = 2; term < 4; term++)
	{
		size_t		slot = term % 2 == 0 ? SLOT_BYTES : 0;

		/* sequences 1 and 2 were taken by vote_create() */
		assert_int_equal(vote_store(dir, term, 7), 0);
		file_read(bytes);
		for (size_t i = 0; i < SLOT_USED_BYTES; i++)
		{
			bytes[slot + i] ^= 1;
			file_write(bytes, FILE_BYTES);
			expect_vote(term - 1, term == 2 ? 0 : 7);
			/* and the bad slot is the one that is written next */
			assert_int_equal(vote_store(dir, term + 10, 8), 0);
			expect_vote(term + 10, 8);
			bytes[slot + i] ^= 1;
		}
		file_write(bytes, FILE_BYTES);
		expect_vote(term, 7);
	}
}

static void
test_lost_votes_are_errors(void **state)
{
	uint8_t		bytes[FILE_BYTES];
	uint8_t		swapped[FILE_BYTES];

	assert_int_equal(vote_store(dir, 5, 9), 0);
	file_read(bytes);

	bytes[20] ^= 1;
	bytes[SLOT_BYTES + 30] ^= 1;
	file_write(bytes, FILE_BYTES);
	expect_error("damaged");
	assert_int_equal(vote_store(dir, 6, 9), EIO);
	bytes[20] ^= 1;
	bytes[SLOT_BYTES + 30] ^= 1;

	/* in each other's place */
	memcpy(swapped, bytes + SLOT_BYTES, SLOT_BYTES);
	memcpy(swapped + SLOT_BYTES, bytes, SLOT_BYTES);
	file_write(swapped, FILE_BYTES);
	expect_error("damaged");

	file_write(bytes, 0);
	expect_error("damaged");
	file_write(bytes, 40);
	expect_error("damaged");
	file_write(bytes, FILE_BYTES);
	expect_vote(5, 9);

	unlink(path);
	expect_error("must not forget");
	assert_int_equal(vote_store(dir, 6, 9), ENOENT);
	assert_int_equal(access(path, F_OK), -1);
}

int
main(void)
{
#define VOTE_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		VOTE_TEST(test_round_trip),
		VOTE_TEST(test_torn_store),
		VOTE_TEST(test_lost_votes_are_errors),
	};

	elog_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
