/*
 * engine_libraft.c
 *	  The engine behind raft/engine.h: libraft's raft_step().
 *
 * libraft is taken as a pure function: an event goes in, an update comes out.
 * Its raft_io, its libuv backend and its own log are not used; it knows only
 * index and term of each entry.
 *
 *	events and ownership of what goes in and comes out		this file
 *	messages from and to other members						engine_receive.c
 *	what the library needs around it, G1 to G11				engine_guards.c
 *	who is a member											engine_configuration.c
 *	index and term of the log								engine_log.c
 *	messages as bytes										engine_message.c
 *
 * One call may take several steps; what they say is gathered into one update.
 * Entries of several steps follow one another; messages are sent in order.
 *
 * A term of its own for who leads alone
 * -------------------------------------
 * libraft makes a sole voter leader in the term it has, at the start and when
 * it has lost office.  Then two different entries could carry the same index
 * and term, one lost in a crash and one written after it, and a learner might
 * hold the first.  So a sole voter votes for itself in a new term before: what
 * any candidate may do.
 *
 * An entry of its own at the start of a term
 * ------------------------------------------
 * Until one is committed nobody may rely on what was committed before.  The
 * library adds one only if it has entries that may not be committed yet; we
 * add it in the other cases.
 *
 * Out of memory inside raft_step() leaves the library half way through an
 * event.  That is a PANIC, not a FATAL: nobody knows what it believes to be in
 * the log, and the state on disk is sound.
 */
#include "server.h"

/* lib and utils */
#include "lib/buf.h"
#include "utils/elog.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "engine_internal.h"

/* our numbers stand in logs; the library's must be the same */
static_assert((int) RAFT_COMMAND == ENTRY_COMMAND &&
			  (int) RAFT_BARRIER == ENTRY_BARRIER &&
			  (int) RAFT_CHANGE == ENTRY_CONFIGURATION,
			  "libraft numbers its entries differently");

/* its default of 32 costs a factor of four under load */
#define MAX_INFLIGHT_ENTRIES (1u << 20)
/*
 * After so many election timeouts a snapshot is offered again.  A stream that
 * still runs is not disturbed (the caller drops the second offer); one whose
 * offer was lost begins.
 */
#define INSTALL_SNAPSHOT_TIMEOUTS 30

static bool check_start(const EngineStart *start, char *error,
						size_t error_size);
static bool check_joining(const EngineStart *start, char *error,
						  size_t error_size);
static bool configuration_fits(const EngineStart *start,
							   const LogEntry *entry);
static bool leads_alone(const EngineStart *start);
static void set_up(RaftEngine *engine, const EngineStart *start);
static void step_start(RaftEngine *engine, const EngineStart *start,
					   uint64_t now_ms);
static void take_own_term(RaftEngine *engine, uint64_t now_ms);
static void fill_metadata(const RaftEngine *engine,
						  struct raft_snapshot_metadata *md, uint64_t index,
						  uint64_t term);
static void step(RaftEngine *engine, uint64_t now_ms,
				 struct raft_event *event);
static void take_entries(RaftEngine *engine, const struct raft_update *u);
static void take_entry(RaftEngine *engine, uint64_t index,
					   const struct raft_entry *from);
static void take_install(RaftEngine *engine, const struct raft_update *u);
static void move_base(RaftEngine *engine, uint64_t now_ms);
static uint64_t furthest_voter(const RaftEngine *engine);

/* ---- start and end ---- */

RaftEngine *
engine_create(const EngineStart *start, uint64_t now_ms, EngineUpdate *update,
			  char *error, size_t error_size)
{
	EngineStart adjusted = *start;
	RaftEngine *engine;

	if (start->is_joining && start->applied_index == 0)
	{
		if (!check_joining(start, error, error_size))
			return NULL;
	}
	else if (!check_start(start, error, error_size))
		return NULL;
	if (leads_alone(start))
	{
		adjusted.term++;
		adjusted.voted_for = start->id;
	}
	engine = xcalloc(1, sizeof(*engine));
	set_up(engine, start);
	engine_update_begin(engine);
	step_start(engine, &adjusted, now_ms);
	engine_update_end(engine, update);
	return engine;
}

static void
set_up(RaftEngine *engine, const EngineStart *start)
{
	int			rc = raft_init(&engine->raft, NULL, NULL, start->id,
							   start->address);

	if (rc != 0)
		engine_panic("start", rc);
	/* else it formats each trace line into a static buffer */
	engine->raft.tracer = NULL;
	raft_seed(&engine->raft, start->seed);
	raft_set_election_timeout(&engine->raft, start->election_timeout_ms);
	raft_set_heartbeat_timeout(&engine->raft, start->heartbeat_ms);
	raft_set_install_snapshot_timeout(&engine->raft,
									  INSTALL_SNAPSHOT_TIMEOUTS *
									  start->election_timeout_ms);
	raft_set_pre_vote(&engine->raft, true);
	raft_set_max_inflight_entries(&engine->raft, MAX_INFLIGHT_ENTRIES);

	buf_init(&engine->proposed, NULL);
	engine->last_term = start->term;
	engine->last_vote = start->voted_for;
	engine->first_index = start->first_index;
	engine->last_index = start->first_index - 1;
	engine->base_index = start->applied_index;
	engine->base_term = start->applied_term;
	if (start->applied_index > 0)
		engine_note_configuration(engine, start->configuration_index,
								  start->configuration);
}

void
engine_destroy(RaftEngine *engine)
{
	if (engine == NULL)
		return;
	raft_close(&engine->raft, NULL);
	for (uint32_t i = 0; i < engine->nconfigurations; i++)
		buf_free(&engine->configurations[i].encoded);
	free(engine->configurations);
	buf_free(&engine->proposed);
	free(engine->runs);
	free(engine->entries);
	free(engine->messages);
	free(engine);
}

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

/* it may have voted, but nothing else can have happened to it */
static bool
check_joining(const EngineStart *start, char *error, size_t error_size)
{
	if (start->nentries == 0 && start->first_index == 1 &&
		start->configuration.len == 0 &&
		(start->term > 0 || start->voted_for == 0))
		return true;
	snprintf(error, error_size, "there is a log of %u entries, but no state "
			 "before it", start->nentries);
	return false;
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

/* by the newest configuration, committed or not */
static bool
leads_alone(const EngineStart *start)
{
	EngineMember members[ENGINE_MAX_MEMBERS];
	Bytes		configuration = start->configuration;
	uint32_t	n;

	for (uint32_t i = 0; i < start->nentries; i++)
	{
		const LogEntry *entry = &start->entries[i];

		if (entry->index > start->applied_index &&
			entry->type == ENTRY_CONFIGURATION)
			configuration = entry->data;
	}
	n = engine_configuration_decode(configuration, members,
									ENGINE_MAX_MEMBERS);
	return engine_is_sole_voter(start->id, members, n);
}

static void
step_start(RaftEngine *engine, const EngineStart *start, uint64_t now_ms)
{
	struct raft_event event = {.type = RAFT_START};
	struct raft_snapshot_metadata md;
	struct raft_entry *entries = NULL;

	if (start->nentries > 0)
		entries = xcalloc(start->nentries, sizeof(*entries));
	for (uint32_t i = 0; i < start->nentries; i++)
	{
		entries[i].term = start->entries[i].term;
		entries[i].type = (enum raft_entry_type) start->entries[i].type;
		entries[i].buf.base = (void *) start->entries[i].data.data;
		entries[i].buf.len = start->entries[i].data.len;
		engine_log_note(engine, start->entries[i].index,
						start->entries[i].term);
	}
	engine->persisted = engine->last_index;

	if (start->applied_index > 0)
	{
		fill_metadata(engine, &md, start->applied_index, start->applied_term);
		event.start.metadata = &md;
	}
	event.start.term = start->term;
	event.start.voted_for = start->voted_for;
	event.start.start_index = start->first_index;
	event.start.entries = entries;
	event.start.n_entries = start->nentries;
	engine_step(engine, now_ms, &event);
	/* on success they stay ours, and the library has forgotten them */
	free(entries);
}

/* ---- events ---- */

void
engine_tick(RaftEngine *engine, uint64_t now_ms, EngineUpdate *update)
{
	struct raft_event event = {.type = RAFT_TIMEOUT};

	engine_update_begin(engine);
	take_own_term(engine, now_ms);
	engine_step(engine, now_ms, &event);
	engine_update_end(engine, update);
}

/* before the library makes a sole voter leader in the term it has */
static void
take_own_term(RaftEngine *engine, uint64_t now_ms)
{
	EngineMember members[ENGINE_MAX_MEMBERS];
	uint32_t	n;

	if (engine->raft.state != RAFT_FOLLOWER || engine->is_installing ||
		now_ms < raft_timeout(&engine->raft) ||
		engine->persisted < engine->last_index)
		return;
	n = engine_members(engine, members, ENGINE_MAX_MEMBERS);
	if (engine_is_sole_voter(engine->raft.id, members, n))
	{
		engine->raft.current_term++;
		engine->raft.voted_for = engine->raft.id;
	}
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
	bool		may_submit = n > 0 && engine->raft.state == RAFT_LEADER &&
		raft_transferee(&engine->raft) == 0;

	if (!may_submit)
	{
		*update = (EngineUpdate) {0};
		return false;
	}
	engine_update_begin(engine);
	engine_step_submit(engine, now_ms, RAFT_COMMAND, commands, n);
	engine_update_end(engine, update);
	return true;
}

void
engine_persisted(RaftEngine *engine, uint64_t now_ms, uint64_t index,
				 uint64_t term, EngineUpdate *update)
{
	struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};

	engine_update_begin(engine);
	if (guard8_is_in_log(engine, index, term))
	{
		engine->persisted = index;
		event.persisted_entries.index = index;
		engine_step(engine, now_ms, &event);
	}
	engine_update_end(engine, update);
}

void
engine_configuration_applied(RaftEngine *engine, uint64_t now_ms,
							 uint64_t index, Bytes configuration,
							 EngineUpdate *update)
{
	struct raft_event event = {.type = RAFT_CONFIGURATION};

	engine_update_begin(engine);
	/* a newer state may have been fetched while it was under way */
	if (index > engine->base_index)
	{
		engine_note_configuration(engine, index, configuration);
		event.configuration.index = index;
		/* the library takes over or frees it, whatever it does with it */
		engine_configuration_to_raft(configuration,
									 &event.configuration.conf);
		engine_step(engine, now_ms, &event);
	}
	engine_update_end(engine, update);
}

void
engine_compacted(RaftEngine *engine, uint64_t now_ms, uint64_t index,
				 uint64_t term, uint32_t keep, EngineUpdate *update)
{
	engine_update_begin(engine);
	/* the library wants an entry that is in its log, and a new one */
	if (!engine->is_installing && index > engine->base_index &&
		engine_entry_term(engine, index) == term)
	{
		engine_step_base(engine, now_ms, index, keep);
		engine_log_forget(engine, index > keep ? index - keep + 1 : 1);
	}
	engine_update_end(engine, update);
}

/* the configuration in the event goes over to the library */
void
engine_step_base(RaftEngine *engine, uint64_t now_ms, uint64_t index,
				 uint32_t keep)
{
	struct raft_event event = {.type = RAFT_SNAPSHOT};
	uint64_t	term = engine_entry_term(engine, index);

	fill_metadata(engine, &event.snapshot.metadata, index, term);
	event.snapshot.trailing = keep;
	engine_step(engine, now_ms, &event);
	engine->base_index = index;
	engine->base_term = term;
	engine_forget_configurations(engine, index);
}

void
engine_snapshot_installed(RaftEngine *engine, uint64_t now_ms,
						  EngineUpdate *update)
{
	struct raft_event event = {.type = RAFT_PERSISTED_SNAPSHOT};

	engine_update_begin(engine);
	if (engine->is_installing)
	{
		engine->is_installing = false;
		engine->persisted = engine->base_index;
		fill_metadata(engine, &event.persisted_snapshot.metadata,
					  engine->base_index, engine->base_term);
		event.persisted_snapshot.last = true;
		engine_step(engine, now_ms, &event);
	}
	engine_update_end(engine, update);
}

bool
engine_transfer(RaftEngine *engine, uint64_t now_ms, uint64_t target,
				EngineUpdate *update)
{
	struct raft_event event = {.type = RAFT_TRANSFER};
	bool		may_transfer = engine->raft.state == RAFT_LEADER &&
		raft_transferee(&engine->raft) == 0;

	if (may_transfer && target == 0)
		target = furthest_voter(engine);
	may_transfer = may_transfer && target != engine->raft.id &&
		engine_is_voter(engine, target);
	engine_update_begin(engine);
	if (may_transfer)
	{
		event.transfer.server_id = target;
		engine_step(engine, now_ms, &event);
	}
	engine_update_end(engine, update);
	return may_transfer;
}

static uint64_t
furthest_voter(const RaftEngine *engine)
{
	const struct raft_configuration *c = &engine->raft.configuration;
	uint64_t	best = 0;

	for (unsigned i = 0; i < c->n; i++)
	{
		uint64_t	id = c->servers[i].id;

		if (id == engine->raft.id || c->servers[i].role != RAFT_VOTER)
			continue;
		if (best == 0 || engine_match_index(engine, id) >
			engine_match_index(engine, best))
			best = id;
	}
	return best;
}

uint64_t
engine_match_index(const RaftEngine *engine, uint64_t id)
{
	raft_index	index = 0;

	/* not leader, or no such member */
	if (raft_match_index(&engine->raft, id, &index) != 0)
		return 0;
	return index;
}

bool
engine_has_committed_in_term(const RaftEngine *engine)
{
	uint64_t	commit = engine_committed(engine);

	return commit > 0 && engine_entry_term(engine, commit) ==
		raft_current_term(&engine->raft);
}

/* ---- stepping ---- */

void
engine_update_begin(RaftEngine *engine)
{
	engine->nentries = 0;
	engine->nmessages = 0;
	engine->wants_install = false;
}

void
engine_update_end(RaftEngine *engine, EngineUpdate *update)
{
	static const EngineRole roles[] = {
		[RAFT_UNAVAILABLE] = ENGINE_FOLLOWER,
		[RAFT_FOLLOWER] = ENGINE_FOLLOWER,
		[RAFT_CANDIDATE] = ENGINE_CANDIDATE,
		[RAFT_LEADER] = ENGINE_LEADER,
	};
	raft_id		leader = 0;
	const char *address = NULL;

	raft_leader(&engine->raft, &leader, &address);
	*update = (EngineUpdate) {
		.term = raft_current_term(&engine->raft),
		.voted_for = raft_voted_for(&engine->raft),
		.entries = engine->nentries > 0 ? engine->entries : NULL,
		.nentries = engine->nentries,
		.commit_index = guard8_limit(engine,
									 raft_commit_index(&engine->raft)),
		.role = roles[engine->raft.state],
		.leader_id = leader,
		.messages = engine->nmessages > 0 ? engine->messages : NULL,
		.nmessages = engine->nmessages,
		.install = engine->wants_install ? &engine->install : NULL,
	};
	update->vote_changed = update->term != engine->last_term ||
		update->voted_for != engine->last_vote;
	engine->last_term = update->term;
	engine->last_vote = update->voted_for;
}

void
engine_step(RaftEngine *engine, uint64_t now_ms, struct raft_event *event)
{
	bool		was_leader = engine->raft.state == RAFT_LEADER;

	step(engine, now_ms, event);
	if (was_leader || engine->raft.state != RAFT_LEADER)
		return;
	if (engine_entry_term(engine, engine->last_index) !=
		raft_current_term(&engine->raft))
		engine_step_submit(engine, now_ms, RAFT_BARRIER, &BYTES_EMPTY, 1);
}

static void
step(RaftEngine *engine, uint64_t now_ms, struct raft_event *event)
{
	struct raft_update u;
	uint32_t	nmessages = engine->nmessages;
	int			rc;

	memset(&u, 0, sizeof(u));
	event->time = now_ms;
	rc = raft_step(&engine->raft, event, &u);
	if (rc != 0)
		engine_panic("event", rc);
	if ((u.flags & (RAFT_UPDATE_ENTRIES)) != 0)
		take_entries(engine, &u);
	if ((u.flags & (RAFT_UPDATE_SNAPSHOT)) != 0)
		take_install(engine, &u);
	if ((u.flags & (RAFT_UPDATE_MESSAGES)) != 0)
		engine_take_messages(engine, &u);
	if (engine->nmessages > nmessages)
		move_base(engine, now_ms);
}

/* G9 */
static void
move_base(RaftEngine *engine, uint64_t now_ms)
{
	uint64_t	index = 0;

	for (uint32_t i = 0; i < engine->nmessages; i++)
	{
		const EngineMessage *m = &engine->messages[i];

		if (m->kind == MESSAGE_APPEND && m->append.prev_index == 0)
			index = guard9_base(engine, m);
	}
	/* nothing is forgotten, and the next message to that member is right */
	if (index > 0)
		engine_step_base(engine, now_ms, index, UINT32_MAX);
}

/*
 * Memory: the array is the library's for its own barrier, ours else.  The
 * batch of a barrier or of a received message is free for us to give back;
 * what we submit has none.
 */
static void
take_entries(RaftEngine *engine, const struct raft_update *u)
{
	uint64_t	index = u->entries.index;

	/* several steps of one call: a later one may replace, but never leaves a gap */
	while (engine->nentries > 0 &&
		   engine->entries[engine->nentries - 1].index >= index)
		engine->nentries--;
	engine_log_truncate(engine, index);
	for (unsigned i = 0; i < u->entries.n; i++)
		take_entry(engine, index + i, &u->entries.batch[i]);
	if (u->entries.batch != engine->submitted)
		raft_free(u->entries.batch[0].batch);
}

static void
take_entry(RaftEngine *engine, uint64_t index, const struct raft_entry *from)
{
	LogEntry   *entry;

	if (engine->nentries == engine->cap_entries)
	{
		engine->cap_entries = engine->cap_entries == 0 ? 64 :
			engine->cap_entries * 2;
		engine->entries = xrealloc(engine->entries, engine->cap_entries *
								   sizeof(*engine->entries));
	}
	entry = &engine->entries[engine->nentries++];
	*entry = (LogEntry) {
		.index = index,
		.term = from->term,
		.type = (uint8_t) from->type,
		.data = bytes_make(from->buf.base, from->buf.len),
	};
	/* the library's own barrier carries eight zero bytes, ours nothing */
	if (from->type == RAFT_BARRIER)
		entry->data = BYTES_EMPTY;
	engine_log_note(engine, index, from->term);
}

/* the configuration of the update is ours now; we have it as bytes */
static void
take_install(RaftEngine *engine, const struct raft_update *u)
{
	struct raft_configuration c = u->snapshot.metadata.configuration;
	EngineInstall *install = &engine->install;

	raft_configuration_close(&c);
	engine_log_reset(engine, install->index, install->term);
	engine->persisted = 0;
	engine->is_installing = true;
	engine->wants_install = true;
	while (engine->nconfigurations > 0)
		buf_free(&engine->configurations[--engine->nconfigurations].encoded);
	engine_note_configuration(engine, install->configuration_index,
							  install->configuration);
	install->configuration = buf_bytes(&engine->configurations[0].encoded);
	/* what was to be written is void */
	engine->nentries = 0;
}

void
engine_step_submit(RaftEngine *engine, uint64_t now_ms,
				   enum raft_entry_type type, const Bytes *data, uint32_t n)
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
	engine->submitted = entries;
	step(engine, now_ms, &event);
	engine->submitted = NULL;
	free(entries);
}

/* the configuration in it goes over to the library with the event */
static void
fill_metadata(const RaftEngine *engine, struct raft_snapshot_metadata *md,
			  uint64_t index, uint64_t term)
{
	const AppliedConfiguration *c = engine_configuration_at(engine, index);

	memset(md, 0, sizeof(*md));
	md->index = index;
	md->term = term;
	md->configuration_index = c->index;
	engine_configuration_to_raft(buf_bytes(&c->encoded), &md->configuration);
}

void
engine_panic(const char *what, int rc)
{
	elog_panic("the raft engine failed at %s: %s", what, raft_strerror(rc));
}
