/*
 * engine_guards.c
 *	  What libraft 0.22.1 needs around it, each thing with its reason.
 *
 * Found by simulation (regress/sim), in which each of them can be left out to
 * see what happens without it.  They only look and decide, with one or two
 * fields of a message changed; who calls them when stands in engine_receive.c
 * and engine_libraft.c.
 */
#include "server.h"

/* this layer and below */
#include "engine_internal.h"

/* a learner may vote when it lacks no more entries than this */
#define PROMOTE_LAG_ENTRIES 1000

#ifdef USE_INJECTION
static uint32_t disabled_guards;

void
engine_test_disable_guards(uint32_t mask)
{
	disabled_guards = mask;
}

static bool
guard_is_on(int number)
{
	return (disabled_guards & (1u << number)) == 0;
}
#else
#define guard_is_on(number) true
#endif

uint64_t
engine_committed(const RaftEngine *engine)
{
	uint64_t	commit = raft_commit_index(&engine->raft);

	return commit < engine->persisted ? commit : engine->persisted;
}

/*
 * G1: how many entries from the given one on may be stepped together.
 *
 * The library notes a configuration under the index of the first entry that it
 * is stepped with.  The change is then never found committed, and if this
 * member leads one day, no other change is possible.  So a configuration is
 * always the first of its piece.
 */
uint32_t
guard1_piece(const EngineMessage *m, uint32_t from)
{
	uint32_t	n = m->append.nentries;
	uint32_t	to = from + 1;

	if (!guard_is_on(1))
		return n - from;
	while (to < n && m->append.entries[to].type != ENTRY_CONFIGURATION)
		to++;
	return to - from;
}

/*
 * G2: a leader has no use for a rejection at or below what it knows that
 * member to have.  It is from before, and in its probing state the library
 * would go back below that point, underflow, and send that member nothing more.
 */
bool
guard2_is_stale(const RaftEngine *engine, const EngineMessage *m)
{
	return guard_is_on(2) && m->append_result.rejected > 0 &&
		m->term == raft_current_term(&engine->raft) &&
		m->append_result.rejected <= engine_match_index(engine, m->from);
}

/*
 * G3: take away what we have committed and on disk; it cannot differ.
 *
 * A message that begins before our log does would be rejected for lack of the
 * entry before it, again and again, and the leader would not get on.
 */
void
guard3_trim(const RaftEngine *engine, EngineMessage *m)
{
	uint64_t	known = engine_committed(engine);
	uint64_t	skip;

	if (!guard_is_on(3) || engine->is_installing ||
		m->term < raft_current_term(&engine->raft) ||
		known <= m->append.prev_index || engine_entry_term(engine, known) == 0)
		return;
	skip = known - m->append.prev_index;
	if (skip > m->append.nentries)
		skip = m->append.nentries;
	m->append.entries = skip == m->append.nentries ? NULL :
		m->append.entries + skip;
	m->append.nentries -= (uint32_t) skip;
	m->append.prev_index = known;
	m->append.prev_term = engine_entry_term(engine, known);
}

/*
 * G4: say more in a rejection than "not there".
 *
 * The library goes back one index for each rejection, a round trip each: a
 * member with a long tail of an old term would take minutes.  As in etcd, the
 * follower goes back to what is not of a later term than the entry it was
 * asked for, and says of which term that is; the leader goes back to what is
 * not of a later term than that.  Both only ever lower the index, never below
 * what is committed, so it costs messages at worst.
 */
void
guard4_give_hint(const RaftEngine *engine, EngineMessage *result)
{
	uint64_t	last = result->append_result.last_index;
	uint64_t	floor = engine_committed(engine);

	if (!guard_is_on(4) || result->append_result.rejected == 0 ||
		last >= result->append_result.rejected ||
		engine->append_prev_term == 0)
		return;
	last = engine_log_lower(engine, last, floor < last ? floor : last,
							engine->append_prev_term);
	result->append_result.last_index = last;
	result->append_result.hint_term = engine_entry_term(engine, last);
}

void
guard4_take_hint(const RaftEngine *engine, EngineMessage *result)
{
	uint64_t	last = result->append_result.last_index;
	uint64_t	lower;

	if (!guard_is_on(4) || result->append_result.rejected == 0 ||
		result->append_result.hint_term == 0 ||
		last <= engine->first_index)
		return;
	lower = engine_log_lower(engine, last, engine->first_index,
							 result->append_result.hint_term);
	if (lower < last)
		result->append_result.last_index = lower;
}

/*
 * G5: a vote is asked for, and the candidate says that we have one.
 *
 * The library denies its vote while its own log, which may be older, does not
 * make it a voter.  If the candidate needs that vote, nobody is ever elected,
 * and the log never gets newer.  To vote is always safe: the candidate counts
 * by its own configuration, and its log is not older than ours.
 */
bool
guard5_is_voter(const EngineMessage *m)
{
	return guard_is_on(5) && m->vote.is_voter;
}

/*
 * G5, the other half: who is made a voter has nearly all of the log, and the
 * newest configuration for certain.
 */
bool
guard5_is_caught_up(const RaftEngine *engine, uint64_t id)
{
	uint64_t	match = engine_match_index(engine, id);

	return !guard_is_on(5) ||
		(match >= engine->raft.configuration_committed_index &&
		 match + PROMOTE_LAG_ENTRIES >= engine->last_index);
}

/*
 * G6: when the leader may change the configuration.
 *
 * Not before an entry of its own term is committed: else two leaders may each
 * have a change in their logs, and majorities that do not overlap (etcd waits
 * as well).  And never to remove itself: the library lets it lead on until the
 * change is committed, but a leader that loses office before that stays a
 * follower for good, and if its vote is needed nobody is elected.
 */
EngineChangeResult
guard6_check(const RaftEngine *engine, const EngineChange *change)
{
	if (!guard_is_on(6))
		return ENGINE_CHANGE_PROPOSED;
	if (!engine_has_committed_in_term(engine))
		return ENGINE_CHANGE_TOO_EARLY;
	if (change->kind == CHANGE_REMOVE &&
		change->member.id == engine->raft.id)
		return ENGINE_CHANGE_OWN_REMOVAL;
	return ENGINE_CHANGE_PROPOSED;
}

/*
 * G7: a result for a vote that is no longer open.  The library looks whether
 * it was a pre-vote in a field that only a candidate has; as a follower it
 * reads a byte of a pointer there, and may leave its leader's term.
 */
bool
guard7_is_late(const RaftEngine *engine)
{
	return guard_is_on(7) &&
		engine->raft.state != RAFT_CANDIDATE;
}

/*
 * G8: are these the entries that were written?  A write that was under way
 * when another leader replaced its entries, or when a snapshot took their
 * place, ends like any other.  The library would acknowledge what is now in
 * its log in their stead, which is not on disk.
 */
bool
guard8_is_in_log(const RaftEngine *engine, uint64_t index, uint64_t term)
{
	if (!guard_is_on(8))
		return index > engine->persisted;
	return !engine->is_installing && index > engine->persisted &&
		engine_entry_term(engine, index) == term;
}

/*
 * G8, the other half: the library's commit index may be ahead of our disk;
 * what is applied must not be, or a checkpoint could be ahead of the log.
 */
uint64_t
guard8_limit(const RaftEngine *engine, uint64_t commit)
{
	if (engine->is_installing)
		return 0;
	return guard_is_on(8) && commit > engine->persisted ? engine->persisted :
		commit;
}

/*
 * G9: to which index the base has to be moved before a member that has
 * nothing can be given anything; 0: it need not be moved.
 *
 * To such a member the library goes back to index 1, and sends a snapshot if
 * it does not know the term of that entry.  Our first state is at index 1
 * with no entry behind it: the library knows the term, sends an empty message
 * that begins at 0 instead, gets a success for it, and does so for ever.
 */
uint64_t
guard9_base(const RaftEngine *engine, const EngineMessage *m)
{
	uint64_t	index = engine_committed(engine);

	if (!guard_is_on(9) || m->append.prev_index != 0 ||
		engine->base_index != 1 || index <= 1 ||
		(engine->raft.configuration_uncommitted_index != 0 &&
		 engine->raft.configuration_uncommitted_index <= index))
		return 0;
	return index;
}

/*
 * G10: of which term the answer to a vote or pre-vote is.
 *
 * The library answers a pre-vote in the term that was asked for, even if it
 * refuses it because its own is later.  The candidate never learns of that
 * term: pre-votes raise nobody's.  If the log of the one with the later term
 * is older and both votes are needed, each refuses the other for ever.  So a
 * refusal tells the later term, as in etcd.
 */
uint64_t
guard10_term(const RaftEngine *engine, uint64_t term, bool is_granted)
{
	uint64_t	own = raft_current_term(&engine->raft);

	return guard_is_on(10) && !is_granted && own > term ? own : term;
}

/*
 * G11: a state that a leader of an old term wants us to have.  The library
 * answers with success, in our term, up to an index that it has not set.  If
 * that member leads our term as well, it takes us to have its whole log: it
 * sends us nothing more, and would count us for what is committed.  There is no
 * need to answer: of the new term it hears from its heartbeats.
 */
bool
guard11_is_old(const RaftEngine *engine, const EngineMessage *m)
{
	return guard_is_on(11) && m->term < raft_current_term(&engine->raft);
}
