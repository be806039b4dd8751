/*
 * engine_receive.c
 *	  Messages from and to other members: checked, guarded, stepped.
 *
 * What comes in is checked before the library sees it, because the library
 * only asserts, and Debian's does not even do that.  Other members are
 * authenticated and trusted to be members, not to be free of mistakes: what
 * cannot be is refused as a whole, and what would change a committed entry is
 * refused with an error, because then something is seriously wrong somewhere.
 *
 * Who owns what the library is given stands at the functions that step it
 * (0.22.1; it changes after that).  Bytes of entries stay the caller's: the
 * library looks into configurations only, and while it is stepped.
 */
#include "server.h"

/* lib and utils */
#include "utils/elog.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "engine_internal.h"
#include "raft/readround.h"

/* what the library itself puts into its messages */
#define VOTE_VERSION 2
#define RESULT_VERSION 2
#define FEATURE_CAPACITY 1

static bool is_sane(const RaftEngine *engine, const EngineMessage *m);
static bool is_sane_append(const RaftEngine *engine, const EngineMessage *m);
static bool fits_committed(const RaftEngine *engine, const EngineMessage *m,
						   uint64_t index, uint64_t term);
static bool is_sane_entry(const EngineMessage *m, uint32_t i);
static bool is_configuration(Bytes encoded);
static void receive(RaftEngine *engine, uint64_t now_ms,
					const EngineMessage *m);
static void receive_append(RaftEngine *engine, uint64_t now_ms,
						   EngineMessage m);
static void step_append(RaftEngine *engine, uint64_t now_ms,
						const EngineMessage *m);
static void receive_append_result(RaftEngine *engine, uint64_t now_ms,
								  EngineMessage m);
static void receive_vote(RaftEngine *engine, uint64_t now_ms,
						 const EngineMessage *m);
static void receive_vote_result(RaftEngine *engine, uint64_t now_ms,
								const EngineMessage *m);
static void receive_snapshot(RaftEngine *engine, uint64_t now_ms,
							 const EngineMessage *m);
static void receive_timeout_now(RaftEngine *engine, uint64_t now_ms,
								const EngineMessage *m);
static void step_message(RaftEngine *engine, uint64_t now_ms,
						 struct raft_message *message);
static EngineMessage *add_message(RaftEngine *engine, EngineMessageKind kind,
								  uint64_t to, uint64_t term);
static void take_message(RaftEngine *engine, const struct raft_message *m);
static void take_append_result(RaftEngine *engine, EngineMessage *out,
							   const struct raft_append_entries_result *r);

bool
engine_receive(RaftEngine *engine, uint64_t now_ms, const EngineMessage *m,
			   EngineUpdate *update)
{
	bool		sane = is_sane(engine, m);

	engine_update_begin(engine);
	if (sane)
		receive(engine, now_ms, m);
	engine_update_end(engine, update);
	return sane;
}

/* ---- is it possible? ---- */

static bool
is_sane(const RaftEngine *engine, const EngineMessage *m)
{
	if (m->from == 0 || m->from == engine->raft.id ||
		m->to != engine->raft.id || m->term == 0 || m->term == UINT64_MAX)
		return false;
	switch (m->kind)
	{
		case MESSAGE_APPEND:
			return is_sane_append(engine, m);
		case MESSAGE_APPEND_RESULT:
			return m->append_result.last_index < UINT64_MAX;
		case MESSAGE_VOTE:
			return (m->vote.last_index == 0) == (m->vote.last_term == 0) &&
				m->vote.last_term <= m->term;
		case MESSAGE_VOTE_RESULT:
			/* nobody grants a vote in a term that was not asked for */
			return !m->vote_result.is_granted ||
				m->term <= raft_current_term(&engine->raft) + 1;
		case MESSAGE_SNAPSHOT:
			if (engine->raft.state == RAFT_LEADER &&
				m->term == raft_current_term(&engine->raft))
				return false;
			return m->snapshot.index > 0 && m->snapshot.index < UINT64_MAX &&
				m->snapshot.term > 0 && m->snapshot.term <= m->term &&
				m->snapshot.configuration_index > 0 &&
				m->snapshot.configuration_index <= m->snapshot.index &&
				is_configuration(m->snapshot.configuration);
		case MESSAGE_TIMEOUT_NOW:
		case MESSAGE_READ:
		case MESSAGE_READ_RESULT:
			return true;
	}
	return false;
}

static bool
is_sane_append(const RaftEngine *engine, const EngineMessage *m)
{
	uint64_t	prev = m->append.prev_index;
	uint32_t	n = m->append.nentries;

	/* there is one leader in a term */
	if (engine->raft.state == RAFT_LEADER &&
		m->term == raft_current_term(&engine->raft))
		return false;
	/* no log begins at index 1: the first state is there */
	if ((prev == 0) != (m->append.prev_term == 0) || (prev == 0 && n > 0) ||
		m->append.prev_term > m->term || prev > UINT64_MAX - 1 - n ||
		(n > 0 && m->append.entries == NULL) ||
		!fits_committed(engine, m, prev, m->append.prev_term))
		return false;
	for (uint32_t i = 0; i < n; i++)
	{
		if (!is_sane_entry(m, i) ||
			!fits_committed(engine, m, prev + 1 + i,
							m->append.entries[i].term))
			return false;
	}
	return true;
}

static bool
fits_committed(const RaftEngine *engine, const EngineMessage *m,
			   uint64_t index, uint64_t term)
{
	uint64_t	own = index == 0 ? 0 : engine_entry_term(engine, index);

	/* an old leader may well have had others; its term will be rejected */
	if (own == 0 || own == term ||
		m->term < raft_current_term(&engine->raft) ||
		index > raft_commit_index(&engine->raft))
		return true;
	elog_error("member %" PRIx64 " wants entry %" PRIu64 " to be of term %"
			   PRIu64 ", but it is committed with term %" PRIu64, m->from,
			   index, term, own);
	return false;
}

static bool
is_sane_entry(const EngineMessage *m, uint32_t i)
{
	const LogEntry *entry = &m->append.entries[i];
	uint64_t	before = i == 0 ? m->append.prev_term :
		m->append.entries[i - 1].term;

	if (entry->index != m->append.prev_index + 1 + i ||
		entry->term < before || entry->term > m->term)
		return false;
	if (entry->type == ENTRY_CONFIGURATION)
		return is_configuration(entry->data);
	if (entry->type == ENTRY_BARRIER)
		return entry->data.len == 0;
	return entry->type == ENTRY_COMMAND;
}

static bool
is_configuration(Bytes encoded)
{
	EngineMember members[ENGINE_MAX_MEMBERS];

	return engine_configuration_decode(encoded, members,
									   ENGINE_MAX_MEMBERS) > 0;
}

/* ---- coming in ---- */

static void
receive(RaftEngine *engine, uint64_t now_ms, const EngineMessage *m)
{
	EngineMessage answer;

	switch (m->kind)
	{
		case MESSAGE_APPEND:
			receive_append(engine, now_ms, *m);
			break;
		case MESSAGE_APPEND_RESULT:
			receive_append_result(engine, now_ms, *m);
			break;
		case MESSAGE_VOTE:
			receive_vote(engine, now_ms, m);
			break;
		case MESSAGE_VOTE_RESULT:
			receive_vote_result(engine, now_ms, m);
			break;
		case MESSAGE_SNAPSHOT:
			receive_snapshot(engine, now_ms, m);
			break;
		case MESSAGE_TIMEOUT_NOW:
			receive_timeout_now(engine, now_ms, m);
			break;
		case MESSAGE_READ:
			if (read_round_answer(m, engine->raft.id,
								  raft_current_term(&engine->raft), &answer))
				*add_message(engine, answer.kind, answer.to, answer.term) =
					answer;
			break;
		case MESSAGE_READ_RESULT:
			/* for the caller's read_round_note() */
			break;
	}
}

static void
receive_append(RaftEngine *engine, uint64_t now_ms, EngineMessage m)
{
	uint32_t	done = 0;

	guard3_trim(engine, &m);
	engine->append_term = m.term;
	engine->was_rejected = false;
	do
	{
		EngineMessage piece = m;

		if (done > 0)
		{
			piece.append.prev_index = m.append.entries[done - 1].index;
			piece.append.prev_term = m.append.entries[done - 1].term;
		}
		if (m.append.nentries > 0)
		{
			piece.append.entries = m.append.entries + done;
			piece.append.nentries = guard1_piece(&m, done);
		}
		engine->append_prev_term = piece.append.prev_term;
		step_append(engine, now_ms, &piece);
		done += piece.append.nentries;
		/* what follows would be rejected as well */
	} while (done < m.append.nentries && !engine->was_rejected);
	engine->append_term = engine->append_prev_term = 0;
}

/*
 * The array stays ours.  The library frees the batch, or hands it back with
 * the entries of its update (engine_libraft.c frees it then); it is nothing
 * here, because the bytes are the caller's.
 */
static void
step_append(RaftEngine *engine, uint64_t now_ms, const EngineMessage *m)
{
	uint32_t	n = m->append.nentries;
	struct raft_entry *entries = NULL;
	void	   *batch = NULL;
	struct raft_message message = {
		.type = RAFT_APPEND_ENTRIES,
		.server_id = m->from,
		.append_entries = {
			.term = m->term,
			.prev_log_index = m->append.prev_index,
			.prev_log_term = m->append.prev_term,
			.leader_commit = m->append.commit_index,
			.n_entries = n,
		},
	};

	if (n > 0)
	{
		entries = xcalloc(n, sizeof(*entries));
		batch = raft_malloc(1);
		if (batch == NULL)
			engine_panic("message", RAFT_NOMEM);
	}
	for (uint32_t i = 0; i < n; i++)
	{
		const LogEntry *from = &m->append.entries[i];

		entries[i].term = from->term;
		entries[i].type = (enum raft_entry_type) from->type;
		entries[i].buf.base = (void *) from->data.data;
		entries[i].buf.len = from->data.len;
		entries[i].batch = batch;
	}
	message.append_entries.entries = entries;
	step_message(engine, now_ms, &message);
	free(entries);
}

static void
receive_append_result(RaftEngine *engine, uint64_t now_ms, EngineMessage m)
{
	struct raft_message message = {
		.type = RAFT_APPEND_ENTRIES_RESULT,
		.server_id = m.from,
	};

	if (engine->raft.state == RAFT_LEADER)
	{
		if (guard2_is_stale(engine, &m))
			return;
		guard4_take_hint(engine, &m);
	}
	message.append_entries_result = (struct raft_append_entries_result) {
		.version = RESULT_VERSION,
		.term = m.term,
		.rejected = m.append_result.rejected,
		.last_log_index = m.append_result.last_index,
		.features = FEATURE_CAPACITY,
	};
	step_message(engine, now_ms, &message);
}

/*
 * G5: for this one step the library's configuration is one in which we vote;
 * all it looks for while it decides on a vote is our own role.
 */
static void
receive_vote(RaftEngine *engine, uint64_t now_ms, const EngineMessage *m)
{
	struct raft_server self = {engine->raft.id, engine->raft.address,
	RAFT_VOTER};
	struct raft_configuration voting = {&self, 1};
	struct raft_configuration own = engine->raft.configuration;
	bool		is_lent = engine->raft.state == RAFT_FOLLOWER &&
		guard5_is_voter(m);
	struct raft_message message = {
		.type = RAFT_REQUEST_VOTE,
		.server_id = m->from,
		.request_vote = {
			.version = VOTE_VERSION,
			.term = m->term,
			.candidate_id = m->from,
			.last_log_index = m->vote.last_index,
			.last_log_term = m->vote.last_term,
			.disrupt_leader = m->vote.disrupt_leader,
			.pre_vote = m->vote.is_pre_vote,
		},
	};

	if (is_lent)
		engine->raft.configuration = voting;
	step_message(engine, now_ms, &message);
	if (is_lent)
		engine->raft.configuration = own;
}

static void
receive_vote_result(RaftEngine *engine, uint64_t now_ms,
					const EngineMessage *m)
{
	struct raft_message message = {
		.type = RAFT_REQUEST_VOTE_RESULT,
		.server_id = m->from,
		.request_vote_result = {
			.version = RESULT_VERSION,
			.term = m->term,
			.vote_granted = m->vote_result.is_granted,
			.pre_vote = m->vote_result.is_pre_vote,
			.features = FEATURE_CAPACITY,
		},
	};

	if (!guard7_is_late(engine))
		step_message(engine, now_ms, &message);
}

/*
 * The configuration goes over to the library, which frees it if it does not
 * want the snapshot and hands it back with its update if it does, but forgets
 * it while it installs another one.
 */
static void
receive_snapshot(RaftEngine *engine, uint64_t now_ms, const EngineMessage *m)
{
	bool		is_forgotten = engine->is_installing &&
		m->term >= raft_current_term(&engine->raft);
	struct raft_configuration *c;
	struct raft_message message = {
		.type = RAFT_INSTALL_SNAPSHOT,
		.server_id = m->from,
		.install_snapshot = {
			.term = m->term,
			.last_index = m->snapshot.index,
			.last_term = m->snapshot.term,
			.conf_index = m->snapshot.configuration_index,
		},
	};

	if (guard11_is_old(engine, m))
		return;
	c = &message.install_snapshot.conf;
	engine_configuration_to_raft(m->snapshot.configuration, c);
	if (!is_forgotten)
		engine->install = (EngineInstall) {
			.from = m->from,
			.index = m->snapshot.index,
			.term = m->snapshot.term,
			.configuration_index = m->snapshot.configuration_index,
			.configuration = m->snapshot.configuration,
		};
	step_message(engine, now_ms, &message);
	if (is_forgotten)
		raft_configuration_close(c);
}

static void
receive_timeout_now(RaftEngine *engine, uint64_t now_ms,
					const EngineMessage *m)
{
	struct raft_message message = {
		.type = RAFT_TIMEOUT_NOW,
		.server_id = m->from,
		.timeout_now = {
			.term = m->term,
			.last_log_index = m->timeout_now.last_index,
			.last_log_term = m->timeout_now.last_term,
		},
	};

	step_message(engine, now_ms, &message);
}

static void
step_message(RaftEngine *engine, uint64_t now_ms, struct raft_message *message)
{
	struct raft_event event = {.type = RAFT_RECEIVE};

	/* it copies the leader's address, and nobody reads it: we go by id */
	message->server_address = "";
	event.receive.message = message;
	engine_step(engine, now_ms, &event);
}

/* ---- going out ---- */

bool
engine_append_is_current(const RaftEngine *engine, const EngineMessage *m)
{
	uint64_t	prev = m->append.prev_index;

	return engine->raft.state == RAFT_LEADER &&
		m->term == raft_current_term(&engine->raft) &&
		(m->append.nentries == 0 ||
		 (prev + 1 >= engine->first_index &&
		  prev + m->append.nentries <= engine->last_index &&
		  engine_entry_term(engine, prev) == m->append.prev_term));
}

void
engine_snapshot_message(RaftEngine *engine, EngineMessage *m)
{
	const AppliedConfiguration *c = engine_configuration_at(engine,
															engine->base_index);

	m->snapshot.index = engine->base_index;
	m->snapshot.term = engine->base_term;
	m->snapshot.configuration_index = c->index;
	m->snapshot.configuration = buf_bytes(&c->encoded);
}

bool
engine_read_begin(RaftEngine *engine, ReadRound *round, EngineUpdate *update)
{
	const struct raft_configuration *c = &engine->raft.configuration;
	uint64_t	term = raft_current_term(&engine->raft);
	bool		may_read = engine->raft.state == RAFT_LEADER &&
		engine_has_committed_in_term(engine);

	engine_update_begin(engine);
	if (may_read)
	{
		read_round_begin(round, term, ++engine->read_seq,
						 raft_commit_index(&engine->raft));
		for (unsigned i = 0; i < c->n; i++)
		{
			if (c->servers[i].role == RAFT_VOTER &&
				c->servers[i].id != engine->raft.id)
				add_message(engine, MESSAGE_READ, c->servers[i].id,
							term)->read.seq = round->seq;
		}
	}
	engine_update_end(engine, update);
	return may_read;
}

bool
engine_read_is_done(const RaftEngine *engine, const ReadRound *round)
{
	EngineMember members[ENGINE_MAX_MEMBERS];
	uint32_t	n;

	if (engine->raft.state != RAFT_LEADER ||
		raft_current_term(&engine->raft) != round->term)
		return false;
	n = engine_members(engine, members, ENGINE_MAX_MEMBERS);
	return read_round_is_done(round, engine->raft.id, members, n);
}

void
engine_take_messages(RaftEngine *engine, const struct raft_update *u)
{
	for (unsigned i = 0; i < u->messages.n; i++)
		take_message(engine, &u->messages.batch[i]);
}

static EngineMessage *
add_message(RaftEngine *engine, EngineMessageKind kind, uint64_t to,
			uint64_t term)
{
	EngineMessage *m;

	if (engine->nmessages == engine->cap_messages)
	{
		engine->cap_messages = engine->cap_messages == 0 ? 16 :
			engine->cap_messages * 2;
		engine->messages = xrealloc(engine->messages, engine->cap_messages *
									sizeof(*engine->messages));
	}
	m = &engine->messages[engine->nmessages++];
	*m = (EngineMessage) {.kind = kind, .from = engine->raft.id, .to = to,
		.term = term};
	return m;
}

/* field by field: what the library does not set is not passed on */
static void
take_message(RaftEngine *engine, const struct raft_message *m)
{
	const struct raft_append_entries *append = &m->append_entries;
	const struct raft_request_vote *vote = &m->request_vote;
	const struct raft_request_vote_result *vote_result = &m->request_vote_result;
	EngineMessage *out;

	switch (m->type)
	{
		case RAFT_APPEND_ENTRIES:
			out = add_message(engine, MESSAGE_APPEND, m->server_id,
							  append->term);
			out->append.prev_index = append->prev_log_index;
			out->append.prev_term = append->prev_log_term;
			out->append.commit_index = append->leader_commit;
			out->append.nentries = append->n_entries;
			break;
		case RAFT_APPEND_ENTRIES_RESULT:
			out = add_message(engine, MESSAGE_APPEND_RESULT, m->server_id,
							  m->append_entries_result.term);
			take_append_result(engine, out, &m->append_entries_result);
			break;
		case RAFT_REQUEST_VOTE:
			out = add_message(engine, MESSAGE_VOTE, m->server_id, vote->term);
			out->vote.last_index = vote->last_log_index;
			out->vote.last_term = vote->last_log_term;
			out->vote.disrupt_leader = vote->disrupt_leader;
			out->vote.is_pre_vote = vote->pre_vote;
			out->vote.is_voter = engine_is_voter(engine, m->server_id);
			break;
		case RAFT_REQUEST_VOTE_RESULT:
			out = add_message(engine, MESSAGE_VOTE_RESULT, m->server_id,
							  guard10_term(engine, vote_result->term,
										   vote_result->vote_granted));
			out->vote_result.is_granted = vote_result->vote_granted;
			out->vote_result.is_pre_vote = vote_result->pre_vote;
			break;
		case RAFT_INSTALL_SNAPSHOT:
			out = add_message(engine, MESSAGE_SNAPSHOT, m->server_id,
							  m->install_snapshot.term);
			engine_snapshot_message(engine, out);
			break;
		case RAFT_TIMEOUT_NOW:
			out = add_message(engine, MESSAGE_TIMEOUT_NOW, m->server_id,
							  m->timeout_now.term);
			out->timeout_now.last_index = m->timeout_now.last_log_index;
			out->timeout_now.last_term = m->timeout_now.last_log_term;
			break;
	}
}

/*
 * To a leader of an old term the library says no more than that it is old: the
 * index is not set.  He may lead the present term as well, and then goes by
 * what we say; so it is what costs him least, one entry back.
 */
static void
take_append_result(RaftEngine *engine, EngineMessage *out,
				   const struct raft_append_entries_result *r)
{
	bool		is_old = engine->append_term != 0 &&
		engine->append_term < r->term;

	out->append_result.rejected = r->rejected;
	out->append_result.last_index = !is_old ? r->last_log_index :
		r->rejected > 0 ? r->rejected - 1 : 0;
	if (!is_old && engine->append_term != 0)
	{
		engine->was_rejected = r->rejected > 0;
		guard4_give_hint(engine, out);
	}
	if (is_old)
		engine->was_rejected = true;
}
