/*
 * engine_internal.h
 *	  What the files of the engine share.
 */
#ifndef ENGINE_INTERNAL_H
#define ENGINE_INTERNAL_H

/* libraries */
#include <raft.h>

/* lib and utils */
#include "lib/buf.h"

/* this layer and below */
#include "raft/engine.h"

/* Debian's 0.15.0 is another library of the same name; it loses entries. */
#if !defined(RAFT_VERSION_NUMBER)
#error "libraft 0.22.1 or newer is needed: install libraft-dev from backports"
#elif RAFT_VERSION_NUMBER < 2201
#error "libraft 0.22.1 or newer is needed: install libraft-dev from backports"
#endif

/* entries from first on (up to the next run) are of this term */
typedef struct TermRun
{
	uint64_t	first;
	uint64_t	term;
} TermRun;

/* a configuration that has been applied */
typedef struct AppliedConfiguration
{
	uint64_t	index;
	Buf			encoded;
} AppliedConfiguration;

struct RaftEngine
{
	struct raft raft;

	/* index and term of what is in the log, as runs */
	TermRun    *runs;
	uint32_t	nruns;
	uint32_t	cap_runs;
	uint64_t	first_index;
	uint64_t	last_index;

	/* the state that is durable, or that is being fetched */
	uint64_t	base_index;
	uint64_t	base_term;

	uint64_t	persisted;

	/* as of base_index, and those applied since; ascending */
	AppliedConfiguration *configurations;
	uint32_t	nconfigurations;
	uint32_t	cap_configurations;

	bool		is_installing;
	EngineInstall install;		/* its configuration: the last of the above */

	Buf			proposed;		/* a configuration of our own, encoded */
	uint64_t	read_seq;

	/* the event under way, for what the library says while it lasts */
	const struct raft_entry *submitted; /* ours: the library frees nothing */
	uint64_t	append_term;	/* of the MESSAGE_APPEND that is looked at */
	uint64_t	append_prev_term;
	bool		was_rejected;

	/* what the update under way says; several steps may make one update */
	LogEntry   *entries;
	uint32_t	nentries;
	uint32_t	cap_entries;
	EngineMessage *messages;
	uint32_t	nmessages;
	uint32_t	cap_messages;
	bool		wants_install;

	uint64_t	last_term;		/* term and vote as last reported */
	uint64_t	last_vote;
};

/* ---- engine_libraft.c: stepping, and who owns what ---- */

extern void engine_update_begin(RaftEngine *engine);
extern void engine_update_end(RaftEngine *engine, EngineUpdate *update);
extern void engine_step(RaftEngine *engine, uint64_t now_ms,
						struct raft_event *event);
/* one entry or more of a type */
extern void engine_step_submit(RaftEngine *engine, uint64_t now_ms,
							   enum raft_entry_type type, const Bytes *data,
							   uint32_t n);
/* the library's record of a durable state, without forgetting entries */
extern void engine_step_base(RaftEngine *engine, uint64_t now_ms,
							 uint64_t index, uint32_t keep);
extern void engine_panic(const char *what, int rc)
			__attribute__((noreturn));

/* ---- engine_log.c ---- */

extern void engine_log_note(RaftEngine *engine, uint64_t index, uint64_t term);
extern void engine_log_truncate(RaftEngine *engine, uint64_t index);
/* forget entries before first_kept */
extern void engine_log_forget(RaftEngine *engine, uint64_t first_kept);
/* nothing but the base, which is at index */
extern void engine_log_reset(RaftEngine *engine, uint64_t index,
							 uint64_t term);
/*
 * The last index from floor to index whose term is not above max_term; floor
 * if there is none.
 */
extern uint64_t engine_log_lower(const RaftEngine *engine, uint64_t index,
								 uint64_t floor, uint64_t max_term);

/* ---- engine_configuration.c ---- */

/* into the library's form; PANIC if the bytes are no configuration */
extern void engine_configuration_to_raft(Bytes encoded,
										 struct raft_configuration *c);
extern bool engine_is_sole_voter(uint64_t id, const EngineMember *members,
								 uint32_t n);
/* by the newest configuration in the log */
extern bool engine_is_voter(const RaftEngine *engine, uint64_t id);
extern void engine_note_configuration(RaftEngine *engine, uint64_t index,
									  Bytes encoded);
/* the newest applied one as of index */
extern const AppliedConfiguration *engine_configuration_at(const RaftEngine *engine,
														   uint64_t index);
/* only those needed as of index and later */
extern void engine_forget_configurations(RaftEngine *engine, uint64_t index);

/* ---- engine_receive.c ---- */

extern void engine_take_messages(RaftEngine *engine,
								 const struct raft_update *u);

/* ---- engine_guards.c ---- */

/* min(commit, persisted) */
extern uint64_t engine_committed(const RaftEngine *engine);

extern uint32_t guard1_piece(const EngineMessage *m, uint32_t from);
extern bool guard2_is_stale(const RaftEngine *engine, const EngineMessage *m);
extern void guard3_trim(const RaftEngine *engine, EngineMessage *m);
extern void guard4_give_hint(const RaftEngine *engine, EngineMessage *result);
extern void guard4_take_hint(const RaftEngine *engine, EngineMessage *result);
extern bool guard5_is_voter(const EngineMessage *m);
extern bool guard5_is_caught_up(const RaftEngine *engine, uint64_t id);
extern EngineChangeResult guard6_check(const RaftEngine *engine,
									   const EngineChange *change);
extern bool guard7_is_late(const RaftEngine *engine);
extern bool guard8_is_in_log(const RaftEngine *engine, uint64_t index,
							 uint64_t term);
extern uint64_t guard8_limit(const RaftEngine *engine, uint64_t commit);
extern uint64_t guard9_base(const RaftEngine *engine, const EngineMessage *m);
extern uint64_t guard10_term(const RaftEngine *engine, uint64_t term,
							 bool is_granted);
extern bool guard11_is_old(const RaftEngine *engine, const EngineMessage *m);

#endif							/* ENGINE_INTERNAL_H */
