/*
 * sim.h
 *	  What the files of the simulator share; see README.
 *
 * One process simulates one cluster from one seed, and ends.  So memory of
 * entries is never given back, and state is global.
 */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/buf.h"
#include "raft/engine.h"
#include "raft/log.h"
#include "raft/readround.h"

#define MAX_MEMBERS 9
#define MAX_READS 64
#define MS 1000					/* virtual time is in microseconds */
#define SEC 1000000

/* exit codes of one seed's process */
typedef enum Verdict
{
	SIM_OK = 0,
	SIM_PANIC = 3,				/* ELOG_EXIT_PANIC */
	SIM_VIOLATION = 10,			/* what was promised does not hold */
	SIM_NOT_CONVERGED = 11,
	SIM_NO_PROGRESS = 12,
	SIM_CONFIGURATION_STUCK = 13,
	SIM_STATES_DIFFER = 14
} Verdict;

typedef struct Options
{
	uint64_t	seconds;		/* of faults; healing and rest come after */
	uint32_t	members;		/* 0: 3 or 5 by the seed */
	uint32_t	without;		/* guards left out: bit per number */
	bool		without_rounds; /* serve reads without asking the voters */
	bool		verbose;
	uint32_t	apply_every;	/* each nth seed is also carried out */
	const char *dir;			/* for logs and votes */
} Options;

extern Options options;

/* ---- world.c: time, chance, events ---- */

extern uint64_t now_us;

extern void world_seed(uint64_t seed);

extern uint64_t rnd(void);
/* from a to b, both included */
extern uint64_t between(uint64_t a, uint64_t b);
extern bool chance(uint32_t permille);

typedef enum EventKind
{
	EVENT_TIMER,				/* a member's engine wants a tick */
	EVENT_DELIVER,
	EVENT_FLUSH,				/* a member's outgoing messages */
	EVENT_DISK,
	EVENT_APPLY,
	EVENT_RESUME,				/* a paused member goes on: a client's read first */
	EVENT_CLIENT,
	EVENT_FAULT
} EventKind;

typedef struct Event
{
	uint64_t	at;
	uint64_t	seq;
	EventKind	kind;
	uint32_t	slot;
	uint32_t	life;			/* of the member; stale ones are dropped */
	uint64_t	number;
	void	   *data;
} Event;

extern void event_at(uint64_t at, EventKind kind, uint32_t slot,
					 uint32_t life, uint64_t number, void *data);
extern bool event_next(Event *event);

extern void violation(const char *fmt,...)
			__attribute__((format(printf, 1, 2), noreturn));
extern void trace(const char *fmt,...) __attribute__((format(printf, 1, 2)));

/* ---- agreed.c: what has been agreed and promised ---- */

typedef struct Agreed
{
	uint64_t	term;
	uint8_t		type;
	Bytes		data;
} Agreed;

extern uint64_t agreed_last;	/* index; the first state is at 1 */
extern uint64_t acknowledged_last;
extern uint64_t nacknowledged;

extern const Agreed *agreed_at(uint64_t index);
/* a member applies this; violation if another one has applied otherwise */
extern void agreed_apply(uint64_t member, const LogEntry *entry);
extern void agreed_acknowledge(uint64_t index, uint64_t term);
extern void agreed_check_acknowledged(void);

/* ---- member.c ---- */

/* what happened to a member's state, for replay.c */
typedef enum HistoryKind
{
	HISTORY_BATCH,				/* applied up to index, published */
	HISTORY_CHECKPOINT,			/* durable up to index */
	HISTORY_RESTART,			/* back to what is durable */
	HISTORY_INSTALL				/* another member's state at index */
} HistoryKind;

typedef struct History
{
	HistoryKind kind;
	uint64_t	index;
} History;

typedef struct DiskOp
{
	LogEntry   *entries;		/* NULL: the state of an install */
	uint32_t	n;
	EngineInstall install;		/* configuration: never freed */
	struct DiskOp *next;
} DiskOp;

typedef struct Read
{
	ReadRound	round;
	uint64_t	must_see;		/* acknowledged when it began */
	bool		is_open;
} Read;

typedef struct Member
{
	bool		is_used;
	bool		is_alive;
	uint64_t	id;
	uint32_t	slot;
	uint32_t	life;			/* counts starts and crashes */
	char		dir[512];		/* log and vote: on disk indeed */

	/* the tables: where they stand */
	uint64_t	durable_index;
	uint64_t	durable_term;
	Bytes		durable_configuration;
	uint64_t	durable_configuration_index;

	/* its clock */
	uint64_t	clock_permille;
	uint64_t	clock_offset_ms;
	uint64_t	paused_until;

	RaftEngine *engine;
	EngineRole	role;
	uint64_t	term;
	uint64_t	commit_index;
	uint64_t	timer;			/* number of the timer that counts */

	RaftLog    *log;			/* on disk */
	LogEntry   *entries;		/* the same and what is to be written */
	uint64_t	first_index;
	uint32_t	nentries;
	uint32_t	cap_entries;
	DiskOp	   *disk_head;
	DiskOp	   *disk_tail;
	bool		disk_is_busy;
	uint64_t	disk_slow_us;	/* 0: not slow */

	uint64_t	applied;
	uint64_t	applied_term;
	Bytes		configuration;
	uint64_t	configuration_index;
	bool		apply_is_due;
	bool		is_installing;

	Bytes	   *outbox;			/* encoded, or a descriptor */
	EngineMessage *out;
	uint32_t	nout;
	uint32_t	cap_out;
	bool		flush_is_due;

	Read		reads[MAX_READS];

	History    *history;
	uint32_t	nhistory;
	uint32_t	cap_history;
} Member;

extern Member members[MAX_MEMBERS];

/* counters for the report */
typedef struct Counts
{
	uint64_t	elections;
	uint64_t	reads;
	uint64_t	installs;
	uint64_t	checkpoints;
	uint64_t	changes;
	uint64_t	transfers;
	uint64_t	crashes;
	uint64_t	torn;
	uint64_t	refused;		/* changes, by a guard */
} Counts;

extern Counts counts;

/* a place for a member; with a first state (configuration), or joining */
extern Member *member_make(Bytes configuration);
extern void member_boot(Member *m);
extern void member_crash(Member *m);
extern void member_forget(Member *m);
extern void member_checkpoint(Member *m, uint32_t keep);
extern bool member_submit(Member *m, const Bytes *commands, uint32_t n,
						  uint64_t *first_index, uint64_t *term);
extern void member_read(Member *m);
extern EngineChangeResult member_change(Member *m, const EngineChange *change);
extern bool member_transfer(Member *m, uint64_t target);
extern void member_receive(Member *m, Bytes bytes);
extern void member_on_timer(Member *m);
extern void member_on_flush(Member *m);
extern void member_on_disk(Member *m);
extern void member_on_apply(Member *m);
extern Member *member_by_id(uint64_t id);
extern Member *member_leader(void);
extern bool member_knows(const Member *m, uint64_t id);
extern Bytes bytes_keep(Bytes b);

/* ---- network.c ---- */

typedef struct Link
{
	bool		is_cut;
	uint32_t	stream;			/* what an older one held is dropped */
	uint64_t	ready_at;		/* being connected until then */
	uint64_t	last_at;		/* streams keep their order */
} Link;

extern Link links[MAX_MEMBERS][MAX_MEMBERS];	/* from, to */
extern bool network_has_streams;	/* else messages go one by one */
extern uint32_t network_loss_permille;

extern void network_send(uint32_t from, uint32_t to, Bytes bytes);
extern void network_deliver(const Event *event);
/* all streams from and to a member break */
extern void network_reset(uint32_t slot);
extern void network_heal(void);

/* ---- client.c, faults.c ---- */

extern void client_run(void);
extern void client_acknowledge(Member *m, uint64_t from, uint64_t to);
extern Bytes client_operation(void);	/* a random log operation */
extern void fault_run(void);
extern void fault_heal(void);
extern void fault_change_membership(void);

/* ---- replay.c: the agreed entries carried out for real ---- */

/* SIM_OK, or SIM_STATES_DIFFER */
extern Verdict replay_check(void);

/* ---- run.c: one seed ---- */
extern Verdict run_seed(uint64_t seed);

#endif							/* SIM_H */
