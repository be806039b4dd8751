/*
 * engine.h
 *	  The consensus algorithm as a step: event in, update out.
 *
 * No I/O, no clock, no threads behind this; whoever calls it supplies them.
 * Behind it stands libraft's raft_step() with the guards that it needs
 * (raft/engine_libraft.c); another engine can take its place.
 *
 * Memory: entries given to an event are copied or taken over as each event
 * says; what an update points to is good until the next call.
 */
#ifndef RAFT_ENGINE_H
#define RAFT_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/bytes.h"
#include "raft/log.h"

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

typedef struct EngineStart
{
	uint64_t	id;
	const char *address;
	uint64_t	term;
	uint64_t	voted_for;
	uint32_t	election_timeout_ms;
	uint32_t	heartbeat_ms;
	uint32_t	seed;
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
