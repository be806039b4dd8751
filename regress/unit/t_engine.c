/*
 * t_engine.c
 *	  The engine alone: with one voter nothing is committed before it is on
 *	  disk; with more, one engine is fed messages by hand.
 *
 * Each guard has a test that is passed with it and, where the simulator's
 * random runs seldom get there, is run once more without it to see that it
 * fails then (regress/sim/README).
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
#include <raft.h>

/* lib and utils */
#include "utils/elog.h"

/* this layer and below */
#include "raft/engine.h"
#include "raft/readround.h"

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
	assert_int_equal(disk.term, 1); /* pre-vote */
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

/* ---- peers, by hand ---- */

#define PEER (OWN_ID + 1)
#define OTHER (OWN_ID + 2)

static bool
receive(RaftEngine *engine, EngineMessage m)
{
	bool		sane;

	m.to = OWN_ID;
	if (m.from == 0)
		m.from = PEER;
	sane = engine_receive(engine, ++now, &m, &update);
	if (update.vote_changed)
	{
		disk.term = update.term;
		disk.voted_for = update.voted_for;
	}
	return sane;
}

static const EngineMessage *
sent(EngineMessageKind kind, uint64_t to)
{
	for (uint32_t i = 0; i < update.nmessages; i++)
	{
		if (update.messages[i].kind == kind && update.messages[i].to == to)
			return &update.messages[i];
	}
	return NULL;
}

static EngineMessage
append(uint64_t term, uint64_t prev_index, uint64_t prev_term,
	   const LogEntry *entries, uint32_t n, uint64_t commit)
{
	EngineMessage m = {.kind = MESSAGE_APPEND,.term = term};

	m.append.prev_index = prev_index;
	m.append.prev_term = prev_term;
	m.append.commit_index = commit;
	m.append.entries = entries;
	m.append.nentries = n;
	return m;
}

static EngineMessage
append_result(uint64_t from, uint64_t term, uint64_t rejected, uint64_t last)
{
	EngineMessage m = {.kind = MESSAGE_APPEND_RESULT,.from = from,
	.term = term};

	m.append_result.rejected = rejected;
	m.append_result.last_index = last;
	return m;
}

static EngineMessage
vote_result(uint64_t term, bool granted, bool pre_vote)
{
	EngineMessage m = {.kind = MESSAGE_VOTE_RESULT,.term = term};

	m.vote_result.is_granted = granted;
	m.vote_result.is_pre_vote = pre_vote;
	return m;
}

/* entries of one term; data of commands is not looked at */
static const LogEntry *
entries_of(uint64_t first, uint32_t n, uint64_t term)
{
	static LogEntry entries[64];

	for (uint32_t i = 0; i < n; i++)
		entries[i] = (LogEntry) {first + i, term, ENTRY_COMMAND, some[i % 3]};
	return entries;
}

/* elected in term 2 by PEER; its barrier at 2 is on disk but not committed */
static RaftEngine *
start_leader(void)
{
	RaftEngine *engine;

	disk_init(3);
	engine = start_engine();
	now = engine_deadline_ms(engine);
	engine_tick(engine, now, &update);
	follow();
	assert_int_equal(update.role, ENGINE_CANDIDATE);
	assert_non_null(sent(MESSAGE_VOTE, PEER));
	assert_true(sent(MESSAGE_VOTE, PEER)->vote.is_pre_vote);
	assert_true(sent(MESSAGE_VOTE, PEER)->vote.is_voter);
	assert_true(receive(engine, vote_result(2, true, true)));
	assert_false(sent(MESSAGE_VOTE, OTHER)->vote.is_pre_vote);
	assert_int_equal(disk.voted_for, OWN_ID);
	assert_true(receive(engine, vote_result(2, true, false)));
	assert_int_equal(update.role, ENGINE_LEADER);
	follow();
	/* nothing was uncommitted, and yet there is an entry of the term */
	assert_int_equal(last_index(), 2);
	assert_int_equal(disk.entries[0].type, ENTRY_BARRIER);
	persisted(engine, 2, 2);
	assert_int_equal(update.commit_index, 1);
	return engine;
}

/* and PEER has the barrier */
static RaftEngine *
start_ready_leader(void)
{
	RaftEngine *engine = start_leader();

	assert_true(receive(engine, append_result(PEER, 2, 0, 2)));
	assert_int_equal(update.commit_index, 2);
	assert_true(engine_has_committed_in_term(engine));
	return engine;
}

static void
test_leader_replicates(void **state)
{
	RaftEngine *engine = start_ready_leader();
	const EngineMessage *m;
	EngineMessage kept;

	submit(engine, 3);
	m = sent(MESSAGE_APPEND, PEER);
	assert_non_null(m);
	assert_int_equal(m->append.prev_index, 2);
	assert_int_equal(m->append.prev_term, 2);
	assert_int_equal(m->append.nentries, 3);
	assert_null(m->append.entries);
	assert_int_equal(m->append.commit_index, 2);
	kept = *m;
	assert_true(engine_append_is_current(engine, &kept));
	/* a majority may be without us: then it is committed, but not for us */
	assert_true(receive(engine, append_result(PEER, 2, 0, 5)));
	assert_int_equal(engine_match_index(engine, PEER), 5);
	assert_true(receive(engine, append_result(OTHER, 2, 0, 5)));
	assert_int_equal(update.commit_index, 2);
	persisted(engine, 5, 2);
	assert_int_equal(update.commit_index, 5);
	/* a newer term: what is in sockets' queues must not be loaded any more */
	assert_true(receive(engine, append_result(PEER, 3, 5, 0)));
	assert_int_equal(update.role, ENGINE_FOLLOWER);
	assert_int_equal(disk.term, 3);
	assert_false(engine_append_is_current(engine, &kept));
	assert_int_equal(engine_match_index(engine, PEER), 0);
	engine_destroy(engine);
}

static void
test_read_rounds(void **state)
{
	RaftEngine *engine = start_leader();
	EngineMessage question = {.kind = MESSAGE_READ,.term = 2};
	EngineMessage answer = {.kind = MESSAGE_READ_RESULT,.from = PEER,.term = 2};
	ReadRound	round;
	ReadRound	next;

	/* no entry of its own is committed */
	assert_false(engine_read_begin(engine, &round, &update));
	assert_true(receive(engine, append_result(PEER, 2, 0, 2)));
	assert_true(engine_read_begin(engine, &round, &update));
	assert_int_equal(round.index, 2);
	assert_int_equal(update.nmessages, 2);
	assert_int_equal(sent(MESSAGE_READ, PEER)->read.seq, round.seq);
	assert_false(engine_read_is_done(engine, &round));
	assert_true(engine_read_begin(engine, &next, &update));
	answer.read.seq = round.seq;
	read_round_note(&next, &answer);	/* of another round */
	answer.term = 1;
	read_round_note(&round, &answer);	/* of another term */
	answer.term = 2;
	answer.from = 77;
	read_round_note(&round, &answer);	/* of no voter */
	assert_false(engine_read_is_done(engine, &next));
	assert_false(engine_read_is_done(engine, &round));
	answer.from = PEER;
	read_round_note(&round, &answer);
	read_round_note(&round, &answer);
	assert_int_equal(round.nanswers, 2);
	assert_true(engine_read_is_done(engine, &round));
	assert_false(engine_read_is_done(engine, &next));

	/* asked by another one: only in its term */
	question.read.seq = 9;
	assert_true(receive(engine, question));
	assert_int_equal(sent(MESSAGE_READ_RESULT, PEER)->read.seq, 9);
	question.term = 3;
	assert_true(receive(engine, question));
	assert_int_equal(update.nmessages, 0);
	question.term = 1;
	assert_true(receive(engine, question));
	assert_int_equal(update.nmessages, 0);
	/* no leader any more */
	assert_true(receive(engine, append_result(PEER, 3, 5, 0)));
	assert_false(engine_read_is_done(engine, &round));
	engine_destroy(engine);
}

static void
test_changes(void **state)
{
	RaftEngine *engine = start_leader();
	EngineChange add = {CHANGE_ADD, {9, MEMBER_LEARNER, "http://host9:2380"}};
	EngineChange promote = {CHANGE_PROMOTE, {.id = 9}};
	EngineChange c;
	EngineMember members[4];
	Buf			applied;

#define PROPOSE(change) \
	engine_propose_configuration(engine, ++now, change, &update)
	assert_int_equal(PROPOSE(&add), ENGINE_CHANGE_TOO_EARLY);
	assert_true(receive(engine, append_result(PEER, 2, 0, 2)));
	c = (EngineChange) {CHANGE_REMOVE, {.id = 9}};
	assert_int_equal(PROPOSE(&c), ENGINE_CHANGE_NO_MEMBER);
	c.member.id = OWN_ID;
	assert_int_equal(PROPOSE(&c), ENGINE_CHANGE_OWN_REMOVAL);
	c = (EngineChange) {CHANGE_PROMOTE, {.id = PEER}};
	assert_int_equal(PROPOSE(&c), ENGINE_CHANGE_NO_LEARNER);
	c.member.id = OTHER;
	assert_int_equal(PROPOSE(&c), ENGINE_CHANGE_NOT_CAUGHT_UP);
	c.member.id = 9;
	assert_int_equal(PROPOSE(&c), ENGINE_CHANGE_NO_MEMBER);
	c = (EngineChange) {CHANGE_ADD, {9, MEMBER_LEARNER, "http://host1:2380"}};
	assert_int_equal(PROPOSE(&c), ENGINE_CHANGE_EXISTS);
	c = (EngineChange) {CHANGE_ADD, {PEER, MEMBER_VOTER, "http://new:2380"}};
	assert_int_equal(PROPOSE(&c), ENGINE_CHANGE_EXISTS);
	assert_int_equal(update.nentries, 0);

	assert_int_equal(PROPOSE(&add), ENGINE_CHANGE_PROPOSED);
	assert_int_equal(update.nentries, 1);
	assert_int_equal(update.entries[0].type, ENTRY_CONFIGURATION);
	assert_int_equal(engine_configuration_decode(update.entries[0].data,
												 members, 4), 4);
	assert_int_equal(members[3].role, MEMBER_LEARNER);
	buf_init(&applied, NULL);
	buf_append(&applied, update.entries[0].data.data,
			   update.entries[0].data.len);
	follow();
	assert_int_equal(PROPOSE(&promote), ENGINE_CHANGE_IN_PROGRESS);
	persisted(engine, 3, 2);
	assert_true(receive(engine, append_result(PEER, 2, 0, 3)));
	assert_int_equal(update.commit_index, 3);
	assert_int_equal(PROPOSE(&promote), ENGINE_CHANGE_IN_PROGRESS);
	engine_configuration_applied(engine, ++now, 3, buf_bytes(&applied),
								 &update);
	assert_int_equal(engine_nvoters(engine), 3);
	assert_int_equal(PROPOSE(&promote), ENGINE_CHANGE_NOT_CAUGHT_UP);
	assert_true(receive(engine, append_result(9, 2, 0, 3)));
	assert_int_equal(PROPOSE(&promote), ENGINE_CHANGE_PROPOSED);
	assert_int_equal(engine_nvoters(engine), 4);
	follow();
	buf_free(&applied);
	engine_destroy(engine);
}

static void
test_transfer(void **state)
{
	RaftEngine *engine = start_ready_leader();

	assert_false(engine_transfer(engine, ++now, OWN_ID, &update));
	assert_false(engine_transfer(engine, ++now, 99, &update));
	/* to the one that is furthest */
	assert_true(engine_transfer(engine, ++now, 0, &update));
	assert_int_equal(sent(MESSAGE_TIMEOUT_NOW, PEER)->timeout_now.last_index,
					 2);
	assert_false(engine_submit(engine, ++now, some, 1, &update));
	assert_false(engine_transfer(engine, ++now, OTHER, &update));
	engine_destroy(engine);
}

static void
test_followers_snapshot(void **state)
{
	RaftEngine *engine;
	EngineMessage m = {.kind = MESSAGE_SNAPSHOT,.term = 3};
	Buf			kept;

	disk_init(3);
	engine = start_engine();
	buf_init(&kept, NULL);
	buf_append(&kept, disk.configuration.data, disk.configuration.len);
	m.snapshot.index = 50;
	m.snapshot.term = 2;
	m.snapshot.configuration_index = 1;
	m.snapshot.configuration = buf_bytes(&kept);
	assert_true(receive(engine, append(2, 1, 1, entries_of(2, 4, 2), 4, 3)));
	follow();
	assert_true(receive(engine, m));
	assert_non_null(update.install);
	assert_int_equal(update.install->index, 50);
	assert_int_equal(update.install->from, PEER);
	assert_true(bytes_equal(update.install->configuration, buf_bytes(&kept)));
	assert_int_equal(update.commit_index, 0);
	/* G8: the write that was under way means nothing now */
	engine_persisted(engine, ++now, 5, 2, &update);
	assert_int_equal(update.commit_index, 0);
	assert_int_equal(update.nmessages, 0);
	/* again, and a newer one: not while it lasts */
	assert_true(receive(engine, m));
	assert_null(update.install);
	m.snapshot.index = 60;
	assert_true(receive(engine, m));
	assert_null(update.install);
	assert_true(receive(engine, append(3, 50, 2, entries_of(51, 2, 3), 2, 50)));
	assert_int_equal(update.nentries, 0);
	engine_snapshot_installed(engine, ++now, &update);
	assert_int_equal(update.commit_index, 50);
	assert_int_equal(sent(MESSAGE_APPEND_RESULT, PEER)->append_result.last_index,
					 50);
	assert_true(receive(engine, append(3, 50, 2, entries_of(51, 2, 3), 2, 50)));
	assert_int_equal(update.nentries, 2);
	assert_int_equal(engine_last_index(engine), 52);
	/* what we have already is not fetched */
	m.snapshot.index = 50;
	assert_true(receive(engine, m));
	assert_null(update.install);
	engine_destroy(engine);
	buf_free(&kept);
}

static void
test_joining(void **state)
{
	EngineStart start = {
		.id = OWN_ID,
		.address = "http://host0:2380",
		.election_timeout_ms = 1000,
		.heartbeat_ms = 100,
		.seed = 1,
		.is_joining = true,
		.first_index = 1,
	};
	EngineMessage vote = {.kind = MESSAGE_VOTE,.term = 8};
	RaftEngine *engine;

	engine = engine_create(&start, now, &update, error, sizeof(error));
	assert_non_null(engine);
	for (int i = 0; i < 5; i++)
	{
		now = engine_deadline_ms(engine);
		engine_tick(engine, now, &update);
		assert_int_equal(update.role, ENGINE_FOLLOWER);
		assert_int_equal(update.nmessages, 0);
	}
	/* G5: it votes if it is told that it has a vote, and not else */
	vote.vote.last_index = 9;
	vote.vote.last_term = 7;
	assert_true(receive(engine, vote));
	assert_false(sent(MESSAGE_VOTE_RESULT, PEER)->vote_result.is_granted);
	vote.term = 9;
	vote.vote.is_voter = true;
	assert_true(receive(engine, vote));
	assert_true(sent(MESSAGE_VOTE_RESULT, PEER)->vote_result.is_granted);
	assert_int_equal(update.voted_for, PEER);
	assert_int_equal(engine_nvoters(engine), 0);
	/* once in a term */
	vote.from = OTHER;
	assert_true(receive(engine, vote));
	assert_false(sent(MESSAGE_VOTE_RESULT, OTHER)->vote_result.is_granted);
	/* entries behind nothing are not for us */
	assert_false(receive(engine, append(9, 0, 0, entries_of(1, 1, 1), 1, 0)));
	assert_true(receive(engine, append(9, 7, 5, NULL, 0, 7)));
	assert_int_equal(sent(MESSAGE_APPEND_RESULT, PEER)->append_result.rejected,
					 7);
	engine_destroy(engine);
	start.nentries = 1;
	start.entries = entries_of(1, 1, 1);
	assert_null(engine_create(&start, now, &update, error, sizeof(error)));
}

static void
test_nonsense_is_refused(void **state)
{
	RaftEngine *engine = start_ready_leader();
	LogEntry	entries[2];
	EngineMessage m;

#define REFUSED(message) assert_false(receive(engine, message))
	/* two leaders in one term */
	REFUSED(append(2, 2, 2, NULL, 0, 2));
	m = (EngineMessage) {.kind = MESSAGE_SNAPSHOT,.term = 2};
	m.snapshot.index = m.snapshot.term = 2;
	m.snapshot.configuration_index = 1;
	m.snapshot.configuration = buf_bytes(&disk.configuration);
	REFUSED(m);
	m.term = 3;
	m.snapshot.configuration.len -= 9;
	REFUSED(m);
	m.snapshot.configuration = buf_bytes(&disk.configuration);
	m.snapshot.configuration_index = 3;
	REFUSED(m);
	m.snapshot.configuration_index = 1;
	m.snapshot.index = 0;
	REFUSED(m);
	assert_int_equal(update.role, ENGINE_LEADER);
	/* what is committed is of term 2 */
	REFUSED(append(3, 2, 3, NULL, 0, 2));
	REFUSED(append(3, 1, 1, entries_of(2, 1, 3), 1, 2));
	REFUSED(append(3, 0, 3, NULL, 0, 2));
	REFUSED(append(3, 3, 0, NULL, 0, 2));
	REFUSED(append(3, 2, 4, NULL, 0, 2));
	REFUSED(append(3, 2, 2, entries_of(4, 2, 3), 2, 2));
	REFUSED(append(3, 2, 2, entries_of(3, 2, 1), 2, 2));
	REFUSED(append(3, 2, 2, entries_of(3, 2, 4), 2, 2));
	REFUSED(append(3, UINT64_MAX, 2, entries_of(3, 2, 3), 2, 2));
	entries[0] = (LogEntry) {3, 3, ENTRY_CONFIGURATION, some[0]};
	REFUSED(append(3, 2, 2, entries, 1, 2));
	entries[0].type = 4;
	REFUSED(append(3, 2, 2, entries, 1, 2));
	entries[0].type = ENTRY_BARRIER;
	REFUSED(append(3, 2, 2, entries, 1, 2));
	/* a vote that was not asked for */
	REFUSED(vote_result(9, true, false));
	REFUSED(((EngineMessage) {.kind = (EngineMessageKind) 9,.term = 2}));
	REFUSED(((EngineMessage) {.kind = MESSAGE_READ,.term = 0}));
	REFUSED(((EngineMessage) {.kind = MESSAGE_READ,.term = 2,.from = OWN_ID}));
	m = append(3, 2, 2, NULL, 0, 2);
	m.to = PEER;
	m.from = PEER;
	assert_false(engine_receive(engine, ++now, &m, &update));
	assert_int_equal(update.role, ENGINE_LEADER);
	assert_int_equal(update.term, 2);
	/* an old leader's is only old */
	assert_true(receive(engine, append(1, 2, 1, NULL, 0, 2)));
	assert_int_equal(sent(MESSAGE_APPEND_RESULT, PEER)->term, 2);
	assert_int_equal(sent(MESSAGE_APPEND_RESULT, PEER)->append_result.last_index,
					 1);
	engine_destroy(engine);
}

/* ---- the guards; each returns whether all is well ---- */

/* G1: a configuration in the middle of a message is found when it commits */
static bool
scene_g1(void)
{
	RaftEngine *engine;
	LogEntry	entries[4];
	Buf			c;
	bool		well;

	disk_init(3);
	engine = start_engine();
	buf_init(&c, NULL);
	buf_append(&c, disk.configuration.data, disk.configuration.len);
	memcpy(entries, entries_of(2, 4, 2), sizeof(entries));
	entries[2].type = ENTRY_CONFIGURATION;
	entries[2].data = buf_bytes(&c);
	assert_true(receive(engine, append(2, 1, 1, entries, 4, 1)));
	assert_int_equal(update.nentries, 4);
	follow();
	persisted(engine, 5, 2);
	assert_true(receive(engine, append(2, 5, 2, NULL, 0, 5)));
	assert_int_equal(update.commit_index, 5);
	engine_configuration_applied(engine, ++now, 4, buf_bytes(&c), &update);
	/* it becomes leader, and may change the configuration */
	now = engine_deadline_ms(engine);
	engine_tick(engine, now, &update);
	assert_true(receive(engine, vote_result(3, true, true)));
	assert_true(receive(engine, vote_result(3, true, false)));
	assert_int_equal(update.role, ENGINE_LEADER);
	follow();
	persisted(engine, 6, 3);
	assert_true(receive(engine, append_result(PEER, 3, 0, 6)));
	well = engine_propose_configuration(engine, ++now,
										&(EngineChange) {CHANGE_REMOVE,
										{.id = OTHER}}, &update) ==
		ENGINE_CHANGE_PROPOSED;
	engine_destroy(engine);
	buf_free(&c);
	return well;
}

/* G2: a rejection from before comes late, while the member is probed */
static bool
scene_g2(void)
{
	RaftEngine *engine = start_ready_leader();
	const EngineMessage *m;
	bool		well;

	submit(engine, 3);
	submit(engine, 3);
	submit(engine, 2);
	persisted(engine, 10, 2);
	assert_true(receive(engine, append_result(PEER, 2, 0, 6)));
	submit(engine, 3);
	/* something was lost: probe from what it is known to have */
	assert_true(receive(engine, append_result(PEER, 2, 10, 6)));
	m = sent(MESSAGE_APPEND, PEER);
	assert_non_null(m);
	assert_int_equal(m->append.prev_index, 6);
	/* and now an old one, of index 6 itself */
	assert_true(receive(engine, append_result(PEER, 2, 6, 3)));
	now = engine_deadline_ms(engine) + 200;
	engine_tick(engine, now, &update);
	m = sent(MESSAGE_APPEND, PEER);
	well = m != NULL && m->append.prev_index >= 6 && m->append.nentries > 0;
	engine_destroy(engine);
	return well;
}

/* G3: entries that begin before our log does */
static bool
scene_g3(void)
{
	RaftEngine *engine;
	const EngineMessage *m;
	bool		well;

	disk_init(3);
	engine = start_engine();
	assert_true(receive(engine, append(2, 1, 1, entries_of(2, 20, 2), 20, 1)));
	follow();
	persisted(engine, 21, 2);
	assert_true(receive(engine, append(2, 21, 2, NULL, 0, 21)));
	engine_compacted(engine, ++now, 20, 2, 2, &update);
	assert_int_equal(engine_first_index(engine), 19);
	assert_true(receive(engine, append(3, 10, 2, entries_of(11, 15, 2), 15,
									   21)));
	well = update.nentries == 4 && update.entries[0].index == 22;
	assert_true(receive(engine, append(3, 10, 2, entries_of(11, 3, 2), 3, 21)));
	m = sent(MESSAGE_APPEND_RESULT, PEER);
	well = well && m != NULL && m->append_result.rejected == 0 &&
		m->append_result.last_index == 21;
	engine_destroy(engine);
	return well;
}

/* G4: a long tail of old terms is skipped in one round trip each way */
static bool
scene_g4(void)
{
	RaftEngine *engine;
	const EngineMessage *m;
	bool		well;

	disk_init(3);
	engine = start_engine();
	assert_true(receive(engine, append(2, 1, 1, entries_of(2, 10, 2), 10, 1)));
	follow();
	assert_true(receive(engine, append(5, 11, 2, entries_of(12, 40, 5), 40,
									   1)));
	follow();
	persisted(engine, 51, 5);
	assert_true(receive(engine, append(7, 45, 6, NULL, 0, 1)));
	m = sent(MESSAGE_APPEND_RESULT, PEER);
	assert_int_equal(m->append_result.rejected, 45);
	/* of term 5 is all that may be the same */
	well = m->append_result.last_index == 44 &&
		m->append_result.hint_term == 5;
	assert_true(receive(engine, append(7, 45, 4, NULL, 0, 1)));
	m = sent(MESSAGE_APPEND_RESULT, PEER);
	well = well && m->append_result.last_index == 11 &&
		m->append_result.hint_term == 2;
	engine_destroy(engine);
	return well;
}

/* G5: asked for a vote by somebody in whose configuration we have one */
static bool
scene_g5(void)
{
	EngineMember members[3];
	RaftEngine *engine;
	EngineMessage vote = {.kind = MESSAGE_VOTE,.term = 2};
	bool		well;

	disk_init(3);
	assert_int_equal(engine_configuration_decode(buf_bytes(&disk.configuration),
												 members, 3), 3);
	members[0].role = MEMBER_LEARNER;
	disk.configuration.len = 0;
	engine_configuration_encode(members, 3, &disk.configuration);
	engine = start_engine();
	vote.vote.last_index = 5;
	vote.vote.last_term = 1;
	vote.vote.is_voter = true;
	assert_true(receive(engine, vote));
	well = sent(MESSAGE_VOTE_RESULT, PEER)->vote_result.is_granted;
	assert_int_equal(engine_nvoters(engine), 2);
	engine_destroy(engine);
	return well;
}

/* G6: no change before an entry of the term is committed; not of oneself */
static bool
scene_g6(void)
{
	RaftEngine *engine = start_leader();
	EngineChange other = {CHANGE_REMOVE, {.id = OTHER}};
	EngineChange own = {CHANGE_REMOVE, {.id = OWN_ID}};
	bool		well;

	well = engine_propose_configuration(engine, ++now, &other, &update) !=
		ENGINE_CHANGE_PROPOSED;
	engine_destroy(engine);
	engine = start_ready_leader();
	well = engine_propose_configuration(engine, ++now, &own, &update) !=
		ENGINE_CHANGE_PROPOSED && well;
	engine_destroy(engine);
	return well;
}

/*
 * G7: a late result of our pre-vote.  The library reads a byte of its leader's
 * address in the place of "was it a pre-vote"; where the heap puts that is
 * chance, so all its addresses have a zero there.
 */
static void *
low_malloc(void *data, size_t size)
{
	static alignas(65536) uint8_t room[64][65536];
	static int	used;

	if (size > 16 || used == 64)
		return malloc(size);
	return room[used++] + 16;
}

static void
low_free(void *data, void *p)
{
	if (((uintptr_t) p & 0xffff) != 16)
		free(p);
}

static void *
low_calloc(void *data, size_t n, size_t size)
{
	return calloc(n, size);
}

static void *
low_realloc(void *data, void *p, size_t size)
{
	return realloc(p, size);
}

static bool
scene_g7(void)
{
	static struct raft_heap heap = {NULL, low_malloc, low_free, low_calloc,
	low_realloc, NULL, NULL};
	RaftEngine *engine;
	bool		well;

	raft_heap_set(&heap);
	disk_init(3);
	engine = start_engine();
	now = engine_deadline_ms(engine);
	engine_tick(engine, now, &update);
	assert_int_equal(update.role, ENGINE_CANDIDATE);
	/* there is a leader after all */
	assert_true(receive(engine, append(1, 1, 1, NULL, 0, 1)));
	assert_int_equal(update.leader_id, PEER);
	assert_true(receive(engine, (EngineMessage) {.kind = MESSAGE_VOTE_RESULT,
						.from = OTHER,.term = 2,.vote_result =
						{.is_granted = true,.is_pre_vote = true}}));
	well = update.term == 1 && update.leader_id == PEER;
	engine_destroy(engine);
	raft_heap_set_default();
	return well;
}

/* G8: the end of a write whose entries another leader has replaced */
static bool
scene_g8(void)
{
	RaftEngine *engine;
	const EngineMessage *m;
	bool		well;

	disk_init(3);
	engine = start_engine();
	assert_true(receive(engine, append(2, 1, 1, entries_of(2, 4, 2), 4, 1)));
	/* they are being written; another leader */
	assert_true(receive(engine, append(3, 1, 1, entries_of(2, 4, 3), 4, 5)));
	well = update.commit_index == 1;	/* not on disk */
	engine_persisted(engine, ++now, 5, 2, &update);
	m = sent(MESSAGE_APPEND_RESULT, PEER);
	well = well && m == NULL && update.commit_index == 1;
	engine_persisted(engine, ++now, 5, 3, &update);
	m = sent(MESSAGE_APPEND_RESULT, PEER);
	well = well && m != NULL && m->append_result.last_index == 5 &&
		update.commit_index == 5;
	engine_destroy(engine);
	return well;
}

/* G9: a member that has nothing, while our first state is all that we have */
static bool
scene_g9(void)
{
	RaftEngine *engine = start_ready_leader();
	const EngineMessage *m = NULL;

	assert_true(receive(engine, append_result(OTHER, 2, 1, 0)));
	for (int i = 0; i < 5 && m == NULL; i++)
	{
		now = engine_deadline_ms(engine);
		engine_tick(engine, now, &update);
		assert_true(receive(engine, append_result(PEER, 2, 0, 2)));
		if (i == 0)
			assert_true(receive(engine, append_result(OTHER, 2, 0, 0)));
		now = engine_deadline_ms(engine);
		engine_tick(engine, now, &update);
		m = sent(MESSAGE_SNAPSHOT, OTHER);
	}
	if (m != NULL)
	{
		assert_int_equal(m->snapshot.index, 2);
		assert_int_equal(m->snapshot.configuration_index, 1);
	}
	engine_destroy(engine);
	return m != NULL;
}

/*
 * G10: a pre-vote of a term that is over for the one who is asked, by somebody
 * whose log is longer; and what the candidate makes of the answer
 */
static bool
scene_g10(void)
{
	EngineMessage vote = {.kind = MESSAGE_VOTE,.term = 2};
	EngineMessage refusal = {.kind = MESSAGE_VOTE_RESULT};
	const EngineMessage *m;
	RaftEngine *engine;
	bool		well;

	disk_init(3);
	disk.term = 4;
	engine = start_engine();
	vote.vote.last_index = 5;
	vote.vote.last_term = 1;
	vote.vote.is_pre_vote = vote.vote.is_voter = true;
	assert_true(receive(engine, vote));
	m = sent(MESSAGE_VOTE_RESULT, PEER);
	assert_false(m->vote_result.is_granted);
	assert_true(m->vote_result.is_pre_vote);
	assert_false(update.vote_changed);
	refusal.term = m->term;
	engine_destroy(engine);

	disk_init(3);
	engine = start_engine();
	now = engine_deadline_ms(engine);
	engine_tick(engine, now, &update);
	assert_int_equal(sent(MESSAGE_VOTE, PEER)->term, 2);
	refusal.vote_result.is_pre_vote = true;
	assert_true(receive(engine, refusal));
	follow();
	now = engine_deadline_ms(engine);
	engine_tick(engine, now, &update);
	m = sent(MESSAGE_VOTE, PEER);
	assert_true(m->vote.is_pre_vote);
	well = m->term == 5;
	engine_destroy(engine);
	return well;
}

/* G11: the leader of an old term wants us to fetch a state */
static bool
scene_g11(void)
{
	EngineMessage offer = {.kind = MESSAGE_SNAPSHOT,.term = 3};
	RaftEngine *engine;
	const EngineMessage *m;
	bool		well;

	disk_init(3);
	disk.term = 4;
	engine = start_engine();
	offer.snapshot.index = 50;
	offer.snapshot.term = 3;
	offer.snapshot.configuration_index = 1;
	offer.snapshot.configuration = buf_bytes(&disk.configuration);
	assert_true(receive(engine, offer));
	m = sent(MESSAGE_APPEND_RESULT, PEER);
	well = m == NULL || m->append_result.rejected > 0;
	assert_null(update.install);
	engine_destroy(engine);
	return well;
}

static bool (*const scenes[]) (void) = {NULL, scene_g1, scene_g2, scene_g3,
	scene_g4, scene_g5, scene_g6, scene_g7, scene_g8, scene_g9, scene_g10, scene_g11};

static void
test_guards(void **state)
{
	for (size_t i = 1; i < lengthof(scenes); i++)
	{
		if (!scenes[i] ())
			fail_msg("G%zu does not guard", i);
	}
}

/*
 * Without its guard each scene must go wrong, or it shows nothing; in a
 * process of its own, for the library may end it.  Under the sanitizers too:
 * what they find is what is wrong.
 */
static void
test_guards_are_needed(void **state)
{
	for (size_t i = 1; i < lengthof(scenes); i++)
	{
		int			status;
		pid_t		pid = fork();

		if (pid == 0)
		{
			close(2);
			engine_test_disable_guards(1u << i);
			_exit(scenes[i] () ? 0 : 7);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
			fail_msg("nothing happens without G%zu", i);
		printf("without G%zu: %s %d\n", i, WIFEXITED(status) ? "exit" :
			   "signal", WIFEXITED(status) ? WEXITSTATUS(status) :
			   WTERMSIG(status));
	}
}

/* ---- messages as bytes ---- */

static void
check_coding(const EngineMessage *m, MemContext *mcx)
{
	EngineMessage got;
	Buf			once;
	Buf			again;

	buf_init(&once, NULL);
	buf_init(&again, NULL);
	engine_message_encode(m, &once);
	assert_true(engine_message_decode(buf_bytes(&once), &got, mcx));
	engine_message_encode(&got, &again);
	assert_true(bytes_equal(buf_bytes(&once), buf_bytes(&again)));
	for (size_t len = 0; len < once.len; len++)
	{
		uint8_t    *cut = xmalloc(len);

		memcpy(cut, once.data, len);
		assert_false(engine_message_decode(bytes_make(cut, len), &got, mcx));
		free(cut);
	}
	buf_put_u8(&again, 0);
	assert_false(engine_message_decode(buf_bytes(&again), &got, mcx));
	buf_free(&once);
	buf_free(&again);
}

static void
test_messages_as_bytes(void **state)
{
	MemContext *mcx = mcx_create(NULL, "messages");
	EngineMessage m = append(7, 5, 6, entries_of(6, 3, 7), 3, 4);
	EngineMessage got;
	Buf			buf;

	m.from = 1;
	m.to = 2;
	check_coding(&m, mcx);
	buf_init(&buf, NULL);
	engine_message_encode(&m, &buf);
	assert_true(engine_message_decode(buf_bytes(&buf), &got, mcx));
	assert_int_equal(got.append.entries[2].index, 8);
	assert_int_equal(got.append.entries[2].term, 7);
	assert_true(bytes_equal(got.append.entries[2].data, some[2]));
	/* more entries than bytes: nothing is allocated for them */
	memset(buf.data + 3 + 48, 0xff, 4);
	assert_false(engine_message_decode(buf_bytes(&buf), &got, mcx));
	buf_free(&buf);

	for (int kind = MESSAGE_APPEND_RESULT; kind <= MESSAGE_READ_RESULT; kind++)
	{
		m = (EngineMessage) {.kind = (EngineMessageKind) kind,.from = 3,
			.to = UINT64_MAX,.term = 5};
		if (kind == MESSAGE_VOTE)
			m.vote.is_voter = m.vote.is_pre_vote = true;
		else if (kind == MESSAGE_VOTE_RESULT)
			m.vote_result.is_granted = true;
		else if (kind == MESSAGE_SNAPSHOT)
			m.snapshot.configuration = some[1];
		else
			m.append_result.rejected = 1234567;
		check_coding(&m, mcx);
		/* flags that mean nothing */
		buf_init(&buf, NULL);
		engine_message_encode(&m, &buf);
		buf.data[2] |= 0x80;
		assert_false(engine_message_decode(buf_bytes(&buf), &got, mcx));
		buf.data[2] &= 0x7f;
		buf.data[0]++;
		assert_false(engine_message_decode(buf_bytes(&buf), &got, mcx));
		buf.data[0]--;
		buf.data[1] = 9;
		assert_false(engine_message_decode(buf_bytes(&buf), &got, mcx));
		buf_free(&buf);
	}
	mcx_destroy(mcx);
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
		cmocka_unit_test(test_leader_replicates),
		cmocka_unit_test(test_read_rounds),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_transfer),
		cmocka_unit_test(test_followers_snapshot),
		cmocka_unit_test(test_joining),
		cmocka_unit_test(test_nonsense_is_refused),
		cmocka_unit_test(test_guards),
		cmocka_unit_test(test_guards_are_needed),
		cmocka_unit_test(test_messages_as_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
