/*
 * t_engine.c
 *	  The engine with one voter: nothing is committed before it is on disk.
 */
/* needs: raft utils/injection */
#include "server.h"

/* system */
#include <setjmp.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>

/* lib and utils */
#include "utils/elog.h"

/* this layer and below */
#include "raft/engine.h"

#define OWN_ID UINT64_C(0x8e9e05c52164694d)
#define MAX_LOG 2000

/* what the disk holds */
typedef struct Disk
{
	uint64_t	term;
	uint64_t	voted_for;
	uint64_t	applied_index;
	uint64_t	applied_term;
	uint64_t	first_index;
	LogEntry	entries[MAX_LOG];	/* data of commands: none */
	uint32_t	n;
	Buf			configuration;
	uint64_t	configuration_index;
} Disk;

static Disk disk;
static uint64_t now = 1000;
static EngineUpdate update;
static char error[1024];

static const Bytes some[] = {
	{(const uint8_t *) "one", 3},
	{(const uint8_t *) "two", 3},
	{(const uint8_t *) "three", 5},
};

static void
disk_init(uint32_t nvoters)
{
	EngineMember members[3];

	for (uint32_t i = 0; i < 3; i++)
	{
		members[i] = (EngineMember) {.id = OWN_ID + i,.role = i < nvoters ?
		MEMBER_VOTER : MEMBER_LEARNER};
		snprintf(members[i].address, sizeof(members[i].address),
				 "http://host%u:2380", i);
	}
	buf_free(&disk.configuration);
	memset(&disk, 0, sizeof(disk));
	disk.term = 1;
	disk.applied_index = disk.applied_term = disk.configuration_index = 1;
	disk.first_index = 2;
	engine_configuration_encode(members, nvoters == 1 ? 1 : 3,
								&disk.configuration);
}

static void
follow(void)
{
	if (update.vote_changed)
	{
		assert_true(update.term >= disk.term);
		disk.term = update.term;
		disk.voted_for = update.voted_for;
	}
	for (uint32_t i = 0; i < update.nentries; i++)
	{
		assert_int_equal(update.entries[i].index, disk.first_index + disk.n);
		disk.entries[disk.n] = update.entries[i];
		if (disk.entries[disk.n].type == ENTRY_COMMAND)
			disk.entries[disk.n].data = BYTES_EMPTY;
		disk.n++;
	}
}

static uint64_t
last_index(void)
{
	return disk.first_index + disk.n - 1;
}

static RaftEngine *
try_start(void)
{
	EngineStart start = {
		.id = OWN_ID,
		.address = "http://host0:2380",
		.term = disk.term,
		.voted_for = disk.voted_for,
		.election_timeout_ms = 1000,
		.heartbeat_ms = 100,
		.seed = 42,
		.applied_index = disk.applied_index,
		.applied_term = disk.applied_term,
		.configuration = buf_bytes(&disk.configuration),
		.configuration_index = disk.configuration_index,
		.first_index = disk.first_index,
		.entries = disk.entries,
		.nentries = disk.n,
	};
	RaftEngine *engine = engine_create(&start, now, &update, error,
									   sizeof(error));

	if (engine != NULL)
		follow();
	return engine;
}

static RaftEngine *
start_engine(void)
{
	RaftEngine *engine = try_start();

	if (engine == NULL)
		fail_msg("%s", error);
	return engine;
}

static void
persisted(RaftEngine *engine, uint64_t index, uint64_t term)
{
	engine_persisted(engine, ++now, index, term, &update);
	follow();
}

static void
submit(RaftEngine *engine, uint32_t n)
{
	assert_true(engine_submit(engine, ++now, some, n, &update));
	assert_int_equal(update.nentries, n);
	for (uint32_t i = 0; i < n; i++)
	{
		/* not copied */
		assert_ptr_equal(update.entries[i].data.data, some[i].data);
		assert_int_equal(update.entries[i].type, ENTRY_COMMAND);
		assert_int_equal(update.entries[i].term, disk.term);
	}
	follow();
}

static void
test_sole_voter_leads_at_once(void **state)
{
	RaftEngine *engine;
	EngineMember members[4];

	disk_init(1);
	engine = start_engine();
	assert_int_equal(update.role, ENGINE_LEADER);
	assert_int_equal(update.leader_id, OWN_ID);
	assert_true(update.vote_changed);
	assert_int_equal(update.term, 2);
	assert_int_equal(update.voted_for, OWN_ID);
	/* its first entry is a barrier of the new term, not yet on disk */
	assert_int_equal(update.nentries, 1);
	assert_int_equal(update.entries[0].index, 2);
	assert_int_equal(update.entries[0].term, 2);
	assert_int_equal(update.entries[0].type, ENTRY_BARRIER);
	assert_int_equal(update.entries[0].data.len, 0);
	assert_int_equal(update.commit_index, 1);
	assert_false(engine_has_committed_in_term(engine));

	persisted(engine, 2, 2);
	assert_int_equal(update.commit_index, 2);
	assert_false(update.vote_changed);
	assert_true(engine_has_committed_in_term(engine));

	assert_int_equal(engine_nvoters(engine), 1);
	assert_int_equal(engine_members(engine, members, 4), 1);
	assert_int_equal(members[0].id, OWN_ID);
	assert_int_equal(members[0].role, MEMBER_VOTER);
	assert_string_equal(members[0].address, "http://host0:2380");
	engine_destroy(engine);
}

static void
test_nothing_commits_before_it_is_on_disk(void **state)
{
	RaftEngine *engine;

	disk_init(1);
	engine = start_engine();
	persisted(engine, 2, 2);
	submit(engine, 3);
	assert_int_equal(update.entries[0].index, 3);
	assert_int_equal(update.commit_index, 2);
	submit(engine, 2);
	assert_int_equal(update.commit_index, 2);
	for (int i = 0; i < 50; i++)
	{
		now += 500;
		engine_tick(engine, now, &update);
		assert_int_equal(update.role, ENGINE_LEADER);
		assert_int_equal(update.commit_index, 2);
		assert_int_equal(update.nentries, 0);
		assert_true(engine_deadline_ms(engine) > now);
	}
	persisted(engine, 4, 2);
	assert_int_equal(update.commit_index, 4);
	persisted(engine, 7, 2);
	assert_int_equal(update.commit_index, 7);
	/* no commands: nothing is taken */
	assert_false(engine_submit(engine, now, some, 0, &update));
	engine_destroy(engine);
}

static void
test_late_news_are_ignored(void **state)
{
	RaftEngine *engine;

	disk_init(1);
	engine = start_engine();
	persisted(engine, 2, 2);
	submit(engine, 3);
	persisted(engine, 5, 1);	/* another term's entry 5 */
	assert_int_equal(update.commit_index, 2);
	persisted(engine, 6, 2);	/* not in the log */
	assert_int_equal(update.commit_index, 2);
	persisted(engine, 5, 2);
	assert_int_equal(update.commit_index, 5);
	persisted(engine, 3, 2);	/* known already */
	assert_int_equal(update.commit_index, 5);
	persisted(engine, 5, 2);
	assert_int_equal(update.commit_index, 5);
	assert_int_equal(update.role, ENGINE_LEADER);
	engine_destroy(engine);
}

static void
test_restart_from_log(void **state)
{
	RaftEngine *engine;

	disk_init(1);
	engine = start_engine();
	persisted(engine, 2, 2);
	submit(engine, 3);			/* to disk, but nobody was told */
	engine_destroy(engine);

	for (uint64_t term = 3; term < 20; term++)
	{
		uint64_t	before = last_index();

		engine = start_engine();
		/* all that is on disk is committed: there is no other voter */
		assert_int_equal(update.term, term);
		assert_int_equal(update.commit_index, before);
		assert_int_equal(update.nentries, 1);
		assert_int_equal(update.entries[0].index, before + 1);
		assert_false(engine_has_committed_in_term(engine));
		persisted(engine, before + 1, term);
		assert_int_equal(update.commit_index, before + 1);
		assert_true(engine_has_committed_in_term(engine));
		submit(engine, 2);
		engine_destroy(engine);
	}
}

static void
compact(RaftEngine *engine, uint64_t index, uint32_t keep)
{
	uint64_t	term = disk.entries[index - disk.first_index].term;
	uint32_t	drop;

	engine_compacted(engine, ++now, index, term, keep, &update);
	follow();
	disk.applied_index = index;
	disk.applied_term = term;
	if (index <= keep || index - keep + 1 <= disk.first_index)
		return;
	drop = (uint32_t) (index - keep + 1 - disk.first_index);
	disk.n -= drop;
	disk.first_index += drop;
	memmove(disk.entries, disk.entries + drop, disk.n * sizeof(LogEntry));
}

static void
test_restart_from_compacted_state(void **state)
{
	static const uint32_t keeps[] = {0, 1, 2, 7, 1000};
	RaftEngine *engine;

	for (size_t k = 0; k < lengthof(keeps); k++)
	{
		disk_init(1);
		for (uint64_t round = 0; round < 12; round++)
		{
			uint64_t	stale;

			engine = start_engine();
			persisted(engine, last_index(), disk.term);
			for (int i = 0; i < 4; i++)
			{
				submit(engine, 3);
				persisted(engine, last_index(), disk.term);
				assert_int_equal(update.commit_index, last_index());
			}
			stale = last_index() - 5;
			compact(engine, last_index() - round % 3, keeps[k]);
			/* again, an older one, and one that is not in the log */
			engine_compacted(engine, ++now, disk.applied_index,
							 disk.applied_term, keeps[k], &update);
			engine_compacted(engine, ++now, stale, disk.term, keeps[k],
							 &update);
			engine_compacted(engine, ++now, last_index() + 9, disk.term,
							 keeps[k], &update);
			submit(engine, 1);
			persisted(engine, last_index(), disk.term);
			assert_int_equal(update.commit_index, last_index());
			engine_destroy(engine);
		}
	}
}

static void
test_followers_do_not_propose(void **state)
{
	RaftEngine *engine;

	disk_init(3);
	engine = start_engine();
	assert_int_equal(update.role, ENGINE_FOLLOWER);
	assert_int_equal(update.term, 1);
	assert_false(update.vote_changed);
	assert_int_equal(update.nentries, 0);
	assert_int_equal(update.leader_id, 0);
	assert_int_equal(engine_nvoters(engine), 3);
	assert_false(engine_submit(engine, ++now, some, 1, &update));
	/* alone, it does not get beyond asking */
	for (int i = 0; i < 20; i++)
	{
		now = engine_deadline_ms(engine);
		engine_tick(engine, now, &update);
		follow();
		assert_int_not_equal(update.role, ENGINE_LEADER);
		assert_int_equal(update.commit_index, 1);
	}
	assert_int_equal(disk.term, 1);	/* pre-vote */
	engine_destroy(engine);
}

static void
test_configuration_in_the_log(void **state)
{
	EngineMember members[2] = {
		{OWN_ID, MEMBER_VOTER, "http://host0:2380"},
		{5, MEMBER_LEARNER, "http://host5:2380"},
	};
	EngineMember got[2];
	RaftEngine *engine;
	Buf			encoded;

	disk_init(1);
	buf_init(&encoded, NULL);
	engine_configuration_encode(members, 2, &encoded);
	disk.entries[0] = (LogEntry) {2, 1, ENTRY_CONFIGURATION,
								  buf_bytes(&encoded)};
	disk.n = 1;
	engine = start_engine();
	assert_int_equal(update.role, ENGINE_LEADER);
	assert_int_equal(update.commit_index, 2);
	engine_configuration_applied(engine, ++now, 2, buf_bytes(&encoded),
								 &update);
	assert_int_equal(engine_members(engine, got, 2), 2);
	assert_int_equal(got[1].id, 5);
	assert_int_equal(got[1].role, MEMBER_LEARNER);
	assert_int_equal(engine_nvoters(engine), 1);
	persisted(engine, 3, 2);
	compact(engine, 3, 0);
	engine_destroy(engine);
	buf_free(&encoded);
}

/* ---- what comes from a disk ---- */

static void
expect_refused(const char *text)
{
	assert_null(try_start());
	assert_non_null(strstr(error, text));
}

static void
test_what_cannot_be_is_refused(void **state)
{
	RaftEngine *engine;

	disk_init(1);
	engine = start_engine();
	persisted(engine, 2, 2);
	submit(engine, 3);
	engine_destroy(engine);

	disk.term = 1;
	expect_refused("older than the log");
	disk.term = 2;
	disk.entries[1].index++;
	expect_refused("index 4");
	disk.entries[1].index--;
	disk.entries[2].term = 1;
	expect_refused("index 4");
	disk.entries[2].term = 0;
	expect_refused("index 4");
	disk.entries[2].term = 2;
	disk.entries[2].type = ENTRY_CONFIGURATION;
	disk.entries[2].data = BYTES_LITERAL("no configuration");
	expect_refused("index 4");
	disk.entries[2].type = ENTRY_COMMAND;
	disk.applied_index = 9;
	expect_refused("does not reach");
	disk.applied_index = 3;
	disk.applied_term = 1;
	expect_refused("index 3");
	disk.applied_index = 0;
	expect_refused("not initialised");
	disk.applied_index = 1;
	disk.first_index = 3;
	expect_refused("does not reach");
	disk.first_index = 2;
	disk.configuration.len -= 8;
	expect_refused("not initialised");
	disk.configuration.len += 8;
	engine_destroy(start_engine());
}

static void
test_configurations(void **state)
{
	EngineMember members[ENGINE_MAX_MEMBERS] = {0};
	EngineMember got[ENGINE_MAX_MEMBERS];
	Buf			encoded;
	uint8_t    *copy;

	for (uint32_t i = 0; i < ENGINE_MAX_MEMBERS; i++)
	{
		members[i].id = i * 1000 + 1;
		members[i].role = i % 4 == 3 ? MEMBER_LEARNER : MEMBER_VOTER;
		snprintf(members[i].address, sizeof(members[i].address),
				 "https://%*d:2380", (int) i, (int) i);
	}
	for (uint32_t n = 1; n <= ENGINE_MAX_MEMBERS; n += 9)
	{
		buf_init(&encoded, NULL);
		engine_configuration_encode(members, n, &encoded);
		assert_int_equal(engine_configuration_decode(buf_bytes(&encoded), got,
													 n), n);
		for (uint32_t i = 0; i < n; i++)
		{
			assert_int_equal(got[i].id, members[i].id);
			assert_int_equal(got[i].role, members[i].role);
			assert_string_equal(got[i].address, members[i].address);
		}
		assert_int_equal(engine_configuration_decode(buf_bytes(&encoded), got,
													 n - 1), 0);
		/* cut anywhere: never read beyond, and only padding may be missing */
		for (size_t len = 0; len < encoded.len; len++)
		{
			copy = xmalloc(len);
			memcpy(copy, encoded.data, len);
			if (engine_configuration_decode(bytes_make(copy, len), got, n) != 0)
				assert_true(encoded.len - len < 8);
			free(copy);
		}
		buf_free(&encoded);
	}
	/* the same id or address twice */
	members[1].id = members[0].id;
	buf_init(&encoded, NULL);
	members[1].id = 2;
	engine_configuration_encode(members, 2, &encoded);
	encoded.data[9 + 8 + strlen(members[0].address) + 2] = 1;
	assert_int_equal(engine_configuration_decode(buf_bytes(&encoded), got, 2),
					 0);
	buf_free(&encoded);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sole_voter_leads_at_once),
		cmocka_unit_test(test_nothing_commits_before_it_is_on_disk),
		cmocka_unit_test(test_late_news_are_ignored),
		cmocka_unit_test(test_restart_from_log),
		cmocka_unit_test(test_restart_from_compacted_state),
		cmocka_unit_test(test_followers_do_not_propose),
		cmocka_unit_test(test_configuration_in_the_log),
		cmocka_unit_test(test_what_cannot_be_is_refused),
		cmocka_unit_test(test_configurations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
