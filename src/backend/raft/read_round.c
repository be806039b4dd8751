/*
 * read_round.c
 *	  raft/readround.h.
 *
 * Why it is safe: a leader of a later term needs votes from a majority, and
 * whoever votes leaves our term for good.  Two majorities have a member in
 * common; it answered us before it voted.  So that leader was elected after
 * our round began, and what it commits was not acknowledged to anybody before
 * the reads of this round came in.  Configurations change by one member at a
 * time, so the majorities of neighbours overlap as well.
 */
#include "server.h"

/* this layer and below */
#include "raft/readround.h"

static bool has_answered(const ReadRound *round, uint64_t id);

void
read_round_begin(ReadRound *round, uint64_t term, uint64_t seq, uint64_t index)
{
	*round = (ReadRound) {.term = term, .seq = seq, .index = index};
}

void
read_round_note(ReadRound *round, const EngineMessage *result)
{
	if (result->kind != MESSAGE_READ_RESULT || result->term != round->term ||
		result->read.seq != round->seq ||
		has_answered(round, result->from) ||
		round->nanswers == ENGINE_MAX_MEMBERS)
		return;
	round->answers[round->nanswers++] = result->from;
}

bool
read_round_is_done(const ReadRound *round, uint64_t own_id,
				   const EngineMember *members, uint32_t n)
{
	uint32_t	nvoters = 0;
	uint32_t	nanswers = 0;

	for (uint32_t i = 0; i < n; i++)
	{
		if (members[i].role != MEMBER_VOTER)
			continue;
		nvoters++;
		nanswers += members[i].id == own_id ||
			has_answered(round, members[i].id);
	}
	return nanswers > nvoters / 2;
}

bool
read_round_answer(const EngineMessage *question, uint64_t own_id,
				  uint64_t own_term, EngineMessage *result)
{
	if (question->term != own_term)
		return false;
	*result = (EngineMessage) {
		.kind = MESSAGE_READ_RESULT,
		.from = own_id,
		.to = question->from,
		.term = own_term,
		.read.seq = question->read.seq,
	};
	return true;
}

static bool
has_answered(const ReadRound *round, uint64_t id)
{
	for (uint32_t i = 0; i < round->nanswers; i++)
	{
		if (round->answers[i] == id)
			return true;
	}
	return false;
}
