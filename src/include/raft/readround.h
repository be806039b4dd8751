/*
 * readround.h
 *	  One round of the leader to its voters, so that reads need no log entry.
 *
 * The leader notes its commit index and asks all voters whether they are still
 * in its term.  When a majority has said so after the reads came in, no other
 * leader can have committed anything before they did, and they may be served
 * as soon as the noted index is applied.  One round serves all reads that
 * waited when it began.  Pure: no engine, no clock.
 */
#ifndef RAFT_READROUND_H
#define RAFT_READROUND_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/engine.h"

typedef struct ReadRound
{
	uint64_t	term;
	uint64_t	seq;			/* differs from round to round of a term */
	uint64_t	index;
	uint32_t	nanswers;
	uint64_t	answers[ENGINE_MAX_MEMBERS];	/* ids */
} ReadRound;

extern void read_round_begin(ReadRound *round, uint64_t term, uint64_t seq,
							 uint64_t index);
/* note an answer, if it is one to this round */
extern void read_round_note(ReadRound *round, const EngineMessage *result);
/* own_id: the leader itself has answered without being asked */
extern bool read_round_is_done(const ReadRound *round, uint64_t own_id,
							   const EngineMember *members, uint32_t n);
/* what a voter answers; false: nothing, it is in another term */
extern bool read_round_answer(const EngineMessage *question, uint64_t own_id,
							  uint64_t own_term, EngineMessage *result);

#endif							/* RAFT_READROUND_H */
