/*
 * engine.h
 *	  The consensus algorithm as a step: event in, update out.
 *
 * No I/O, no clock, no threads behind this; whoever calls it supplies them.
 * Behind it stands libraft's raft_step() with the guards that it needs
 * (raft/engine_libraft.c); another engine can take its place.
 *
 * Memory: entries given to an event are copied or taken over as each event
 * says; what an update points to is good until the next call that fills one.
 *
 * Peers.  Messages come in through engine_receive() and go out in an update.
 * How they travel is the caller's affair, with one rule: what two members
 * have between them is a stream (in order, cut off and begun anew), and what
 * an old stream still held is dropped when it is begun anew.
 */
#ifndef RAFT_ENGINE_H
#define RAFT_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/bytes.h"
#include "raft/log.h"
#include "utils/mmgr.h"

/* LogEntry.type; stands in the log */
#define ENTRY_COMMAND 1
#define ENTRY_BARRIER 2
#define ENTRY_CONFIGURATION 3

typedef enum EngineRole
{
	ENGINE_FOLLOWER,
	ENGINE_CANDIDATE,
	ENGINE_LEADER
} EngineRole;

typedef enum MemberRole
{
	MEMBER_VOTER,
	MEMBER_LEARNER
} MemberRole;

#define ENGINE_ADDRESS_BYTES 256
#define ENGINE_MAX_MEMBERS 64

typedef struct EngineMember
{
	uint64_t	id;
	MemberRole	role;
	char		address[ENGINE_ADDRESS_BYTES];
} EngineMember;

typedef struct RaftEngine RaftEngine;

/* ---- messages between members; the numbers stand on the wire ---- */

typedef enum EngineMessageKind
{
	MESSAGE_APPEND = 1,
	MESSAGE_APPEND_RESULT = 2,
	MESSAGE_VOTE = 3,
	MESSAGE_VOTE_RESULT = 4,
	MESSAGE_SNAPSHOT = 5,
	MESSAGE_TIMEOUT_NOW = 6,
	MESSAGE_READ = 7,
	MESSAGE_READ_RESULT = 8
} EngineMessageKind;

/*
 * MESSAGE_APPEND goes out as a descriptor, entries == NULL: the engine keeps
 * no bytes, so the sender loads entries prev_index + 1 .. + nentries from the
 * log when the stream takes them, and may cut them into several messages
 * (each with its own prev_index and prev_term).  Before loading it asks
 * engine_append_is_current(): by then another leader may have replaced the
 * entries, or a checkpoint may have let them go.
 *
 * MESSAGE_SNAPSHOT says what state a member needs; the state itself goes
 * beside it.  The sender takes its applied state (at or after .index, else it
 * drops the message: it will be asked for again), tells engine_compacted() if
 * that is newer, and fills the message anew with engine_snapshot_message().
 * A second request for a member whose stream still runs is to be dropped.
 */
typedef struct EngineMessage
{
	EngineMessageKind kind;
	uint64_t	from;
	uint64_t	to;
	uint64_t	term;
	union
	{
		struct
		{
			uint64_t	prev_index;
			uint64_t	prev_term;
			uint64_t	commit_index;
			uint32_t	nentries;
			const LogEntry *entries;
		}			append;
		struct
		{
			uint64_t	rejected;	/* prev_index of what was rejected, or 0 */
			uint64_t	last_index;
			uint64_t	hint_term;	/* G4: term of last_index; 0: no hint */
		}			append_result;
		struct
		{
			uint64_t	last_index;
			uint64_t	last_term;
			bool		disrupt_leader;
			bool		is_pre_vote;
			bool		is_voter;	/* G5: you are one, in my configuration */
		}			vote;
		struct
		{
			bool		is_granted;
			bool		is_pre_vote;
		}			vote_result;
		struct
		{
			uint64_t	index;
			uint64_t	term;	/* of index */
			uint64_t	configuration_index;
			Bytes		configuration;
		}			snapshot;
		struct
		{
			uint64_t	last_index;
			uint64_t	last_term;
		}			timeout_now;
		struct
		{
			uint64_t	seq;
		}			read;		/* and its result; raft/readround.h */
	};
} EngineMessage;

/* a state to fetch from another member, and to take the place of our own */
typedef struct EngineInstall
{
	uint64_t	from;
	uint64_t	index;
	uint64_t	term;
	uint64_t	configuration_index;
	Bytes		configuration;
} EngineInstall;

typedef struct EngineStart
{
	uint64_t	id;
	const char *address;
	uint64_t	term;
	uint64_t	voted_for;
	uint32_t	election_timeout_ms;
	uint32_t	heartbeat_ms;
	uint32_t	seed;
	/*
	 * A member that joins and has no state yet: no configuration, no log.  Its
	 * first state comes as a snapshot from the leader.
	 */
	bool		is_joining;
	/* the durable applied state: everything up to here is in the tables */
	uint64_t	applied_index;	/* 0: none */
	uint64_t	applied_term;
	Bytes		configuration;	/* encoded, as of configuration_index */
	uint64_t	configuration_index;
	/* the log: index, term, and the data of configurations after applied */
	uint64_t	first_index;	/* of the log */
	const LogEntry *entries;
	uint32_t	nentries;
} EngineStart;

typedef struct EngineUpdate
{
	bool		vote_changed;	/* store term and voted_for before all else */
	uint64_t	term;
	uint64_t	voted_for;

	/* append these (entries[0].index says where; truncates what follows) */
	const LogEntry *entries;
	uint32_t	nentries;

	uint64_t	commit_index;	/* min(commit, persisted): apply up to here */
	EngineRole	role;
	uint64_t	leader_id;

	/* send these, after vote and term are stored; a leader before its sync */
	const EngineMessage *messages;
	uint32_t	nmessages;

	/*
	 * Not NULL: fetch this state.  Own entries are void from now on (but stay
	 * on disk until the new state has taken their place), commit_index is 0.
	 * Then engine_snapshot_installed(); if the fetch fails there is no event
	 * for that: destroy the engine and create it from disk again.
	 */
	const EngineInstall *install;
} EngineUpdate;

/*
 * Start from disk.  What start points to need only last for the call.  A sole
 * voter is leader at once, in a new term, and update->entries holds its first
 * entry, a barrier.  NULL with an explanation if what start says cannot be.
 */
extern RaftEngine *engine_create(const EngineStart *start, uint64_t now_ms,
								 EngineUpdate *update, char *error,
								 size_t error_size);
extern void engine_destroy(RaftEngine *engine);

/* the deadline passed */
extern void engine_tick(RaftEngine *engine, uint64_t now_ms,
						EngineUpdate *update);
extern uint64_t engine_deadline_ms(const RaftEngine *engine);

/*
 * Propose commands (leader only: false otherwise, nothing taken).
 * update->entries then holds them with their indexes; the data of entry i is
 * that of command i, not a copy, because the engine itself needs no data.
 */
extern bool engine_submit(RaftEngine *engine, uint64_t now_ms,
						  const Bytes *commands, uint32_t n,
						  EngineUpdate *update);

/*
 * Entries up to index are durable; the one at index was of this term.  Late
 * news of entries that have been replaced since are ignored.
 */
extern void engine_persisted(RaftEngine *engine, uint64_t now_ms,
							 uint64_t index, uint64_t term,
							 EngineUpdate *update);

/* the configuration entry at index has been applied */
extern void engine_configuration_applied(RaftEngine *engine, uint64_t now_ms,
										 uint64_t index, Bytes configuration,
										 EngineUpdate *update);

/*
 * The tables are durable up to index: the engine may forget before it, all
 * but keep entries.
 */
extern void engine_compacted(RaftEngine *engine, uint64_t now_ms,
							 uint64_t index, uint64_t term,
							 uint32_t keep, EngineUpdate *update);

/* ---- peers ---- */

/*
 * A message has come.  False if it makes no sense (it can only come from a
 * program that is not ours, or another cluster: close the connection); it was
 * not looked at then.  Entries are not copied: the data of update->entries is
 * that of the message.
 */
extern bool engine_receive(RaftEngine *engine, uint64_t now_ms,
						   const EngineMessage *message, EngineUpdate *update);

/* may a MESSAGE_APPEND from an earlier update still be loaded and sent? */
extern bool engine_append_is_current(const RaftEngine *engine,
									 const EngineMessage *message);
/* term of an entry in the log; 0: not there */
extern uint64_t engine_entry_term(const RaftEngine *engine, uint64_t index);
/* MESSAGE_SNAPSHOT anew, from the state last told to engine_compacted() */
extern void engine_snapshot_message(RaftEngine *engine, EngineMessage *message);
/* the state of update->install has taken the place of ours, durably */
extern void engine_snapshot_installed(RaftEngine *engine, uint64_t now_ms,
									  EngineUpdate *update);

typedef enum EngineChangeKind
{
	CHANGE_ADD,					/* member.role: a learner, or a voter at once */
	CHANGE_PROMOTE,				/* a learner that has caught up */
	CHANGE_REMOVE,
	CHANGE_ADDRESS
} EngineChangeKind;

typedef struct EngineChange
{
	EngineChangeKind kind;
	EngineMember member;		/* id; role for ADD; address for ADD, ADDRESS */
} EngineChange;

typedef enum EngineChangeResult
{
	ENGINE_CHANGE_PROPOSED,
	ENGINE_CHANGE_NOT_LEADER,	/* or handing leadership over */
	ENGINE_CHANGE_IN_PROGRESS,	/* another one is not yet committed */
	ENGINE_CHANGE_TOO_EARLY,	/* nothing of the own term is committed yet */
	ENGINE_CHANGE_OWN_REMOVAL,	/* transfer leadership first */
	ENGINE_CHANGE_NOT_CAUGHT_UP,
	ENGINE_CHANGE_NO_MEMBER,
	ENGINE_CHANGE_NO_LEARNER,
	ENGINE_CHANGE_EXISTS,		/* id or address */
	ENGINE_CHANGE_TOO_MANY
} EngineChangeResult;

/* one change of the configuration; update->entries then holds its entry */
extern EngineChangeResult engine_propose_configuration(RaftEngine *engine,
													   uint64_t now_ms,
													   const EngineChange *change,
													   EngineUpdate *update);
/*
 * Begin to hand leadership to a voter; 0: to the one that is furthest.  Until
 * it has worked, or an election timeout has passed, nothing can be proposed.
 * False: not leader, or no such voter.
 */
extern bool engine_transfer(RaftEngine *engine, uint64_t now_ms,
							uint64_t target, EngineUpdate *update);
/* how far a member is known to have the log; leader only, else 0 */
extern uint64_t engine_match_index(const RaftEngine *engine, uint64_t id);
/* its newest entry, on disk or not */
extern uint64_t engine_last_index(const RaftEngine *engine);
/* what lies before may go: no message will ask for it */
extern uint64_t engine_first_index(const RaftEngine *engine);

struct ReadRound;
/*
 * Begin a round for all reads that wait now: messages to the voters.  False:
 * not leader, or no entry of the own term is committed.  See raft/readround.h.
 */
extern bool engine_read_begin(RaftEngine *engine, struct ReadRound *round,
							  EngineUpdate *update);
/* a majority has answered: reads may be served once round->index is applied */
extern bool engine_read_is_done(const RaftEngine *engine,
								const struct ReadRound *round);

/*
 * Messages as bytes.  A MESSAGE_APPEND needs its entries loaded.  Decoding
 * borrows from the bytes; the array of entries comes from mcx.  False if the
 * bytes are not exactly what the encoder can have written.
 */
extern void engine_message_encode(const EngineMessage *message, Buf *out);
extern bool engine_message_decode(Bytes encoded, EngineMessage *message,
								  MemContext *mcx);

#ifdef USE_INJECTION
/* bits 1 << 1 .. 1 << 11: leave guards G1 .. G11 out, to see that they are needed */
extern void engine_test_disable_guards(uint32_t mask);
#endif

extern uint32_t engine_nvoters(const RaftEngine *engine);
extern uint32_t engine_members(const RaftEngine *engine, EngineMember *members,
							   uint32_t max);
/* term of the newest committed entry; reads need it to be the current one */
extern bool engine_has_committed_in_term(const RaftEngine *engine);

/* at least one member; ids and addresses differ */
extern void engine_configuration_encode(const EngineMember *members,
										uint32_t n, Buf *out);
/* how many members; 0 if the bytes are not a configuration, or over max */
extern uint32_t engine_configuration_decode(Bytes encoded,
											EngineMember *members,
											uint32_t max);

#endif							/* RAFT_ENGINE_H */
