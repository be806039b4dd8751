/*
 * engine_libraft.c
 *	  The engine behind raft/engine.h: libraft's raft_step().
 *
 * libraft is taken as a pure function: an event goes in, an update comes out.
 * Its raft_io, its libuv backend and its own log are not used; it knows only
 * index and term of each entry.
 *
 * Everything that is peculiar to the library stands in this file: ownership
 * of its buffers (which changes after 0.22.1), its codes, and the guards that
 * it needs (found by simulation; see doc/design).  Of the guards the one that
 * a single voter needs is here:
 *
 *	G8  PERSISTED is reported only for entries that are still in the log with
 *	    the term they were written under, and what is handed out as commit
 *	    index is min(commit, persisted).
 *
 * The others (G1 to G7) concern messages.  There are no peers yet: messages
 * would go out in take_update() and come in through one function beside
 * engine_submit(), and that is where they belong.
 *
 * A term of its own at each start
 * -------------------------------
 * libraft makes a sole voter leader in the term it had before the restart.
 * Then two different entries could carry the same index and term, one lost
 * in the crash and one written after it, and a learner might hold the first.
 * So a sole voter votes for itself in a new term before it starts: what any
 * candidate may do.
 *
 * Out of memory inside raft_step() leaves the library half way through an
 * event.  That is a PANIC, not a FATAL: nobody knows what it believes to be in
 * the log, and the state on disk is sound.
 */
#include "server.h"

/* libraries */
#include <raft.h>

/* lib and utils */
#include "lib/buf.h"
#include "utils/elog.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "raft/engine.h"

/* Debian's 0.15.0 is another library of the same name; it loses entries. */
#if !defined(RAFT_VERSION_NUMBER)
#error "libraft 0.22.1 or newer is needed: install libraft-dev from backports"
#elif RAFT_VERSION_NUMBER < 2201
#error "libraft 0.22.1 or newer is needed: install libraft-dev from backports"
#endif

/* our numbers stand in logs; the library's must be the same */
static_assert((int) RAFT_COMMAND == ENTRY_COMMAND &&
			  (int) RAFT_BARRIER == ENTRY_BARRIER &&
			  (int) RAFT_CHANGE == ENTRY_CONFIGURATION,
			  "libraft numbers its entries differently");

/* its default of 32 costs a factor of four under load */
#define MAX_INFLIGHT_ENTRIES (1u << 20)
#define INSTALL_SNAPSHOT_TIMEOUT_MS (3600u * 1000u)

/* entries from first on (up to the next run) are of this term */
typedef struct TermRun
{
	uint64_t	first;
	uint64_t	term;
} TermRun;

struct RaftEngine
{
	struct raft raft;

	/* index and term of what is in the log, as runs */
	TermRun    *runs;
	uint32_t	nruns;
	uint32_t	cap_runs;
	uint64_t	first_index;
	uint64_t	last_index;

	/* the state that the tables hold, which the log may begin after */
	uint64_t	base_index;
	uint64_t	base_term;

	uint64_t	persisted;

	/* the last configuration that was applied */
	Buf			configuration;
	uint64_t	configuration_index;

	/* what the last update pointed to */
	LogEntry   *entries;
	uint32_t	cap_entries;
	uint64_t	last_term;		/* term and vote as last reported */
	uint64_t	last_vote;
};

static bool check_start(const EngineStart *start, char *error,
						size_t error_size);
static bool configuration_fits(const EngineStart *start,
							   const LogEntry *entry);
static Bytes newest_configuration(const EngineStart *start);
static bool is_sole_voter(uint64_t id, Bytes configuration);
static void step(RaftEngine *engine, uint64_t now_ms, struct raft_event *event,
				 EngineUpdate *update);
static void take_update(RaftEngine *engine, const struct raft_update *u,
						EngineUpdate *update);
static void take_entries(RaftEngine *engine, const struct raft_update *u,
						 EngineUpdate *update);
static void step_start(RaftEngine *engine, const EngineStart *start,
					   uint64_t now_ms, EngineUpdate *update);
static void fill_metadata(struct raft_snapshot_metadata *md, uint64_t index,
						  uint64_t term, Bytes configuration,
						  uint64_t configuration_index);
static void submit(RaftEngine *engine, uint64_t now_ms,
				   enum raft_entry_type type, const Bytes *data, uint32_t n,
				   EngineUpdate *update);
static void log_note(RaftEngine *engine, uint64_t index, uint64_t term);
static void log_truncate(RaftEngine *engine, uint64_t index);
static uint64_t log_term(const RaftEngine *engine, uint64_t index);
static void configuration_decode(Bytes encoded, struct raft_configuration *c);
static void panic(const char *what, int rc) NORETURN;

RaftEngine *
engine_create(const EngineStart *start, uint64_t now_ms, EngineUpdate *update,
			  char *error, size_t error_size)
{
	EngineStart adjusted = *start;
	bool		leads_alone;
	RaftEngine *engine;
	int			rc;

	if (!check_start(start, error, error_size))
		return NULL;
	leads_alone = is_sole_voter(start->id, newest_configuration(start));
	if (leads_alone)
	{
		adjusted.term++;
		adjusted.voted_for = start->id;
	}
	engine = xcalloc(1, sizeof(*engine));
	buf_init(&engine->configuration, NULL);
	rc = raft_init(&engine->raft, NULL, NULL, start->id, start->address);
	if (rc != 0)
		panic("start", rc);
	/* else it formats each trace line into a static buffer */
	engine->raft.tracer = NULL;
	raft_seed(&engine->raft, start->seed);
	raft_set_election_timeout(&engine->raft, start->election_timeout_ms);
	raft_set_heartbeat_timeout(&engine->raft, start->heartbeat_ms);
	raft_set_install_snapshot_timeout(&engine->raft,
									  INSTALL_SNAPSHOT_TIMEOUT_MS);
	raft_set_pre_vote(&engine->raft, true);
	raft_set_max_inflight_entries(&engine->raft, MAX_INFLIGHT_ENTRIES);

	engine->last_term = start->term;
	engine->last_vote = start->voted_for;
	step_start(engine, &adjusted, now_ms, update);
	if (leads_alone && update->role == ENGINE_LEADER)
	{
		/*
		 * An entry of the own term: until it is committed nobody may rely on
		 * what was committed before.  The library does this by itself only
		 * when there are other voters.
		 */
		bool		vote_changed = update->vote_changed;

		submit(engine, now_ms, RAFT_BARRIER, &BYTES_EMPTY, 1, update);
		update->vote_changed = vote_changed;
	}
	return engine;
}

void
engine_destroy(RaftEngine *engine)
{
	if (engine == NULL)
		return;
	raft_close(&engine->raft, NULL);
	buf_free(&engine->configuration);
	free(engine->runs);
	free(engine->entries);
	free(engine);
}

void
engine_tick(RaftEngine *engine, uint64_t now_ms, EngineUpdate *update)
{
	struct raft_event event = {.type = RAFT_TIMEOUT};

	step(engine, now_ms, &event, update);
}

uint64_t
engine_deadline_ms(const RaftEngine *engine)
{
	return raft_timeout(&engine->raft);
}

bool
engine_submit(RaftEngine *engine, uint64_t now_ms, const Bytes *commands,
			  uint32_t n, EngineUpdate *update)
{
	*update = (EngineUpdate) {0};
	if (n == 0 || raft_state(&engine->raft) != RAFT_LEADER ||
		raft_transferee(&engine->raft) != 0)
		return false;
	submit(engine, now_ms, RAFT_COMMAND, commands, n, update);
	return true;
}

void
engine_persisted(RaftEngine *engine, uint64_t now_ms, uint64_t index,
				 uint64_t term, EngineUpdate *update)
{
	struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};

	/* G8 */
	if (index <= engine->persisted || log_term(engine, index) != term)
	{
		take_update(engine, NULL, update);
		return;
	}
	engine->persisted = index;
	event.persisted_entries.index = index;
	step(engine, now_ms, &event, update);
}

void
engine_configuration_applied(RaftEngine *engine, uint64_t now_ms,
							 uint64_t index, Bytes configuration,
							 EngineUpdate *update)
{
	struct raft_event event = {.type = RAFT_CONFIGURATION};

	buf_free(&engine->configuration);
	buf_append(&engine->configuration, configuration.data, configuration.len);
	engine->configuration_index = index;
	event.configuration.index = index;
	/* the library takes over or frees it, whatever it does with it */
	configuration_decode(configuration, &event.configuration.conf);
	step(engine, now_ms, &event, update);
}

void
engine_compacted(RaftEngine *engine, uint64_t now_ms, uint64_t index,
				 uint64_t term, uint32_t keep, EngineUpdate *update)
{
	struct raft_event event = {.type = RAFT_SNAPSHOT};
	uint64_t	first_kept;

	/* the library wants an entry that is in its log, and a new one */
	if (index <= engine->base_index || log_term(engine, index) != term)
	{
		take_update(engine, NULL, update);
		return;
	}
	fill_metadata(&event.snapshot.metadata, index, term,
				  buf_bytes(&engine->configuration),
				  engine->configuration_index);
	event.snapshot.trailing = keep;
	step(engine, now_ms, &event, update);
	engine->base_index = index;
	engine->base_term = term;

	first_kept = index > keep ? index - keep + 1 : 1;
	if (first_kept > engine->first_index)
	{
		uint32_t	drop = 0;

		while (drop + 1 < engine->nruns &&
			   engine->runs[drop + 1].first <= first_kept)
			drop++;
		engine->nruns -= drop;
		memmove(engine->runs, engine->runs + drop,
				engine->nruns * sizeof(*engine->runs));
		engine->first_index = first_kept;
	}
}

uint32_t
engine_nvoters(const RaftEngine *engine)
{
	const struct raft_configuration *c = &engine->raft.configuration;
	uint32_t	n = 0;

	for (unsigned i = 0; i < c->n; i++)
		n += c->servers[i].role == RAFT_VOTER;
	return n;
}

uint32_t
engine_members(const RaftEngine *engine, EngineMember *members, uint32_t max)
{
	const struct raft_configuration *c = &engine->raft.configuration;
	uint32_t	n = 0;

	for (unsigned i = 0; i < c->n && n < max; i++, n++)
	{
		members[n].id = c->servers[i].id;
		members[n].role = c->servers[i].role == RAFT_VOTER ? MEMBER_VOTER :
			MEMBER_LEARNER;
		snprintf(members[n].address, sizeof(members[n].address), "%s",
				 c->servers[i].address);
	}
	return n;
}

bool
engine_has_committed_in_term(const RaftEngine *engine)
{
	uint64_t	commit = raft_commit_index(&engine->raft);

	if (commit > engine->persisted)
		commit = engine->persisted;
	return commit > 0 &&
		log_term(engine, commit) == raft_current_term(&engine->raft);
}

/* ---- configurations ---- */

void
engine_configuration_encode(const EngineMember *members, uint32_t n, Buf *out)
{
	struct raft_configuration c;
	struct raft_buffer encoded;
	int			rc = 0;

	Assert(n > 0);
	raft_configuration_init(&c);
	for (uint32_t i = 0; rc == 0 && i < n; i++)
		rc = raft_configuration_add(&c, members[i].id, members[i].address,
									members[i].role == MEMBER_VOTER ?
									RAFT_VOTER : RAFT_STANDBY);
	if (rc == 0)
		rc = raft_configuration_encode(&c, &encoded);
	if (rc != 0)
		elog_fatal("could not encode a configuration of %u members: %s", n,
				   raft_strerror(rc));
	buf_append(out, encoded.base, encoded.len);
	raft_free(encoded.base);
	raft_configuration_close(&c);
}

/*
 * The library decodes without looking at lengths, so everything that comes
 * from disk or from a peer goes through here first.
 *
 * version (u8, 1), number (u64), then for each: id (u64), address with its
 * final zero, role (u8); zeros up to a multiple of 8
 */
uint32_t
engine_configuration_decode(Bytes encoded, EngineMember *members, uint32_t max)
{
	Cursor		cur = cursor_make(encoded);
	uint8_t		version;
	uint64_t	n;

	if (!cursor_get_u8(&cur, &version) || version != 1 ||
		!cursor_get_u64(&cur, &n) || n == 0 || n > max)
		return 0;
	for (uint64_t i = 0; i < n; i++)
	{
		EngineMember *member = &members[i];
		const uint8_t *zero;
		Bytes		address;
		uint8_t		role;

		if (!cursor_get_u64(&cur, &member->id) || member->id == 0)
			return 0;
		zero = memchr(cur.pos, 0, cursor_left(&cur));
		if (zero == NULL ||
			(size_t) (zero - cur.pos) >= sizeof(member->address) ||
			!cursor_get_raw(&cur, (size_t) (zero - cur.pos) + 1, &address) ||
			!cursor_get_u8(&cur, &role) ||
			(role != RAFT_VOTER && role != RAFT_STANDBY))
			return 0;
		memcpy(member->address, address.data, address.len);
		member->role = role == RAFT_VOTER ? MEMBER_VOTER : MEMBER_LEARNER;
		for (uint64_t j = 0; j < i; j++)
		{
			if (members[j].id == member->id ||
				strcmp(members[j].address, member->address) == 0)
				return 0;
		}
	}
	return cursor_left(&cur) < 8 ? (uint32_t) n : 0;
}

/* into the library's form; the bytes have been checked before */
static void
configuration_decode(Bytes encoded, struct raft_configuration *c)
{
	EngineMember members[ENGINE_MAX_MEMBERS];
	uint32_t	n = engine_configuration_decode(encoded, members,
												ENGINE_MAX_MEMBERS);
	int			rc = 0;

	/*
	 * PANIC: a committed entry that is no configuration means that log or
	 * tables hold what no member can have agreed to.
	 */
	if (n == 0)
		elog_panic("a cluster configuration of %zu bytes cannot be decoded",
				   encoded.len);
	raft_configuration_init(c);
	for (uint32_t i = 0; rc == 0 && i < n; i++)
		rc = raft_configuration_add(c, members[i].id, members[i].address,
									members[i].role == MEMBER_VOTER ?
									RAFT_VOTER : RAFT_STANDBY);
	if (rc != 0)
		panic("configuration", rc);
}

/* ---- start ---- */

/* What comes from the disk is checked here; the library only asserts. */
static bool
check_start(const EngineStart *start, char *error, size_t error_size)
{
	EngineMember members[ENGINE_MAX_MEMBERS];
	uint64_t	term = 0;

	if (start->applied_index == 0 || start->applied_term == 0 ||
		engine_configuration_decode(start->configuration, members,
									ENGINE_MAX_MEMBERS) == 0)
	{
		snprintf(error, error_size, "the tables hold no cluster "
				 "configuration: the data directory was not initialised");
		return false;
	}
	if (start->first_index == 0 ||
		start->first_index > start->applied_index + 1 ||
		start->first_index + start->nentries <= start->applied_index)
	{
		snprintf(error, error_size, "the log (first index %" PRIu64 ", %u "
				 "entries) does not reach the tables' index %" PRIu64,
				 start->first_index, start->nentries, start->applied_index);
		return false;
	}
	for (uint32_t i = 0; i < start->nentries; i++)
	{
		const LogEntry *entry = &start->entries[i];

		if (entry->index != start->first_index + i || entry->term < term ||
			entry->term == 0 ||
			(entry->index == start->applied_index &&
			 entry->term != start->applied_term) ||
			(entry->type == ENTRY_CONFIGURATION &&
			 !configuration_fits(start, entry)))
		{
			snprintf(error, error_size, "the log's entry at index %" PRIu64
					 " (term %" PRIu64 ") does not fit what stands before it",
					 entry->index, entry->term);
			return false;
		}
		term = entry->term;
	}
	if (start->term < term || start->term < start->applied_term)
	{
		snprintf(error, error_size, "the vote file knows term %" PRIu64
				 ", but the log holds entries of term %" PRIu64
				 ": it is older than the log", start->term,
				 term > start->applied_term ? term : start->applied_term);
		return false;
	}
	return true;
}

/* one that the tables hold already is not looked into, and has no data here */
static bool
configuration_fits(const EngineStart *start, const LogEntry *entry)
{
	EngineMember members[ENGINE_MAX_MEMBERS];

	if (entry->index <= start->applied_index)
		return entry->index <= start->configuration_index;
	return engine_configuration_decode(entry->data, members,
									   ENGINE_MAX_MEMBERS) > 0;
}

static Bytes
newest_configuration(const EngineStart *start)
{
	for (uint32_t i = start->nentries; i > 0; i--)
	{
		const LogEntry *entry = &start->entries[i - 1];

		if (entry->index <= start->applied_index)
			break;
		if (entry->type == ENTRY_CONFIGURATION)
			return entry->data;
	}
	return start->configuration;
}

static bool
is_sole_voter(uint64_t id, Bytes configuration)
{
	EngineMember members[ENGINE_MAX_MEMBERS];
	uint32_t	n = engine_configuration_decode(configuration, members,
												ENGINE_MAX_MEMBERS);
	bool		found = false;

	for (uint32_t i = 0; i < n; i++)
	{
		if (members[i].role != MEMBER_VOTER)
			continue;
		if (members[i].id != id)
			return false;
		found = true;
	}
	return found;
}

static void
step_start(RaftEngine *engine, const EngineStart *start, uint64_t now_ms,
		   EngineUpdate *update)
{
	struct raft_event event = {.type = RAFT_START};
	struct raft_snapshot_metadata md;
	struct raft_entry *entries = NULL;

	engine->first_index = start->first_index;
	engine->last_index = start->first_index - 1;
	engine->base_index = start->applied_index;
	engine->base_term = start->applied_term;
	buf_append(&engine->configuration, start->configuration.data,
			   start->configuration.len);
	engine->configuration_index = start->configuration_index;

	if (start->nentries > 0)
		entries = xcalloc(start->nentries, sizeof(*entries));
	for (uint32_t i = 0; i < start->nentries; i++)
	{
		entries[i].term = start->entries[i].term;
		entries[i].type = (enum raft_entry_type) start->entries[i].type;
		entries[i].buf.base = (void *) start->entries[i].data.data;
		entries[i].buf.len = start->entries[i].data.len;
		log_note(engine, start->entries[i].index, start->entries[i].term);
	}
	engine->persisted = engine->last_index;

	fill_metadata(&md, start->applied_index, start->applied_term,
				  start->configuration, start->configuration_index);
	event.start.term = start->term;
	event.start.voted_for = start->voted_for;
	event.start.metadata = &md;
	event.start.start_index = start->first_index;
	event.start.entries = entries;
	event.start.n_entries = start->nentries;
	step(engine, now_ms, &event, update);
	/* on success they stay ours, and the library has forgotten them */
	free(entries);
}

/* the configuration in it goes over to the library with the event */
static void
fill_metadata(struct raft_snapshot_metadata *md, uint64_t index, uint64_t term,
			  Bytes configuration, uint64_t configuration_index)
{
	memset(md, 0, sizeof(*md));
	md->index = index;
	md->term = term;
	md->configuration_index = configuration_index;
	configuration_decode(configuration, &md->configuration);
}

/* ---- stepping ---- */

static void
step(RaftEngine *engine, uint64_t now_ms, struct raft_event *event,
	 EngineUpdate *update)
{
	struct raft_update u;
	int			rc;

	memset(&u, 0, sizeof(u));
	event->time = now_ms;
	rc = raft_step(&engine->raft, event, &u);
	if (rc != 0)
		panic("event", rc);
	take_update(engine, &u, update);
}

static void
take_update(RaftEngine *engine, const struct raft_update *u,
			EngineUpdate *update)
{
	static const EngineRole roles[] = {
		[RAFT_UNAVAILABLE] = ENGINE_FOLLOWER,
		[RAFT_FOLLOWER] = ENGINE_FOLLOWER,
		[RAFT_CANDIDATE] = ENGINE_CANDIDATE,
		[RAFT_LEADER] = ENGINE_LEADER,
	};
	raft_id		leader = 0;
	const char *address = NULL;

	*update = (EngineUpdate) {
		.term = raft_current_term(&engine->raft),
		.voted_for = raft_voted_for(&engine->raft),
		.role = roles[raft_state(&engine->raft)],
	};
	update->vote_changed = update->term != engine->last_term ||
		update->voted_for != engine->last_vote;
	engine->last_term = update->term;
	engine->last_vote = update->voted_for;
	raft_leader(&engine->raft, &leader, &address);
	update->leader_id = leader;

	if (u != NULL && (u->flags & (RAFT_UPDATE_ENTRIES)) != 0)
		take_entries(engine, u, update);
	/*
	 * PANIC: without peers nobody can have sent a snapshot; to go on would
	 * mean to go on without the state that the engine believes in.
	 */
	if (u != NULL && (u->flags & (RAFT_UPDATE_SNAPSHOT)) != 0)
		elog_panic("the raft engine asks for a snapshot that nobody sent");
	/* u->messages: there are no peers yet, and the batch stays the library's */

	update->commit_index = raft_commit_index(&engine->raft);
	if (update->commit_index > engine->persisted)
		update->commit_index = engine->persisted;
}

static void
take_entries(RaftEngine *engine, const struct raft_update *u,
			 EngineUpdate *update)
{
	if (u->entries.n > engine->cap_entries)
	{
		engine->cap_entries = u->entries.n;
		free(engine->entries);
		engine->entries = xmalloc(engine->cap_entries *
								  sizeof(*engine->entries));
	}
	log_truncate(engine, u->entries.index);
	for (unsigned i = 0; i < u->entries.n; i++)
	{
		const struct raft_entry *from = &u->entries.batch[i];

		engine->entries[i] = (LogEntry) {
			.index = u->entries.index + i,
			.term = from->term,
			.type = (uint8_t) from->type,
			.data = bytes_make(from->buf.base, from->buf.len),
		};
		/* the library's own barrier carries eight zero bytes, ours nothing */
		if (from->type == RAFT_BARRIER)
			engine->entries[i].data = BYTES_EMPTY;
		log_note(engine, u->entries.index + i, from->term);
	}
	update->entries = engine->entries;
	update->nentries = u->entries.n;
	/* it allocates the batch of the barrier that it submits by itself */
	if (u->entries.batch == &engine->raft.barrier)
		raft_free(u->entries.batch[0].batch);
}

static void
submit(RaftEngine *engine, uint64_t now_ms, enum raft_entry_type type,
	   const Bytes *data, uint32_t n, EngineUpdate *update)
{
	struct raft_event event = {.type = RAFT_SUBMIT};
	struct raft_entry *entries = xcalloc(n, sizeof(*entries));

	for (uint32_t i = 0; i < n; i++)
	{
		entries[i].term = raft_current_term(&engine->raft);
		entries[i].type = type;
		entries[i].buf.base = (void *) data[i].data;
		entries[i].buf.len = data[i].len;
		/* it wants a batch there, and never looks into it or frees it */
		entries[i].batch = entries;
	}
	event.submit.entries = entries;
	event.submit.n = n;
	step(engine, now_ms, &event, update);
	free(entries);
}

/* ---- index and term of what is in the log ---- */

static void
log_note(RaftEngine *engine, uint64_t index, uint64_t term)
{
	Assert(index == engine->last_index + 1);
	engine->last_index = index;
	if (engine->nruns > 0 && engine->runs[engine->nruns - 1].term == term)
		return;
	if (engine->nruns == engine->cap_runs)
	{
		engine->cap_runs = engine->cap_runs == 0 ? 16 : engine->cap_runs * 2;
		engine->runs = xrealloc(engine->runs,
								engine->cap_runs * sizeof(*engine->runs));
	}
	engine->runs[engine->nruns++] = (TermRun) {index, term};
}

static void
log_truncate(RaftEngine *engine, uint64_t index)
{
	if (index > engine->last_index)
		return;
	engine->last_index = index - 1;
	if (engine->persisted >= index)
		engine->persisted = index - 1;
	while (engine->nruns > 0 && engine->runs[engine->nruns - 1].first >= index)
		engine->nruns--;
}

/* 0 if the entry is not in the log */
static uint64_t
log_term(const RaftEngine *engine, uint64_t index)
{
	if (index == engine->base_index)
		return engine->base_term;
	if (index < engine->first_index || index > engine->last_index)
		return 0;
	for (uint32_t i = engine->nruns; i > 0; i--)
	{
		if (engine->runs[i - 1].first <= index)
			return engine->runs[i - 1].term;
	}
	return 0;
}

static void
panic(const char *what, int rc)
{
	elog_panic("the raft engine failed at %s: %s", what, raft_strerror(rc));
}
