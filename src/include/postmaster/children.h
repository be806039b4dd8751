/*
 * children.h
 *	  The postmaster's private list of its children.
 *
 * One entry per process slot, and a few for connections that are only refused
 * (they have no slot).  Nothing here is shared memory.
 */
#ifndef POSTMASTER_CHILDREN_H
#define POSTMASTER_CHILDREN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef enum ChildKind
{
	CHILD_NONE,
	CHILD_RAFT_WORKER,
	CHILD_AUXILIARY,			/* which one: postmaster/auxproc.h */
	CHILD_BACKEND,
	CHILD_REFUSER
} ChildKind;

typedef struct Child
{
	ChildKind	kind;
	pid_t		pid;
	int			slot;			/* -1 for CHILD_REFUSER */
} Child;

/* processes that may exist at one time only to refuse a connection */
#define CHILDREN_MAX_REFUSERS 16

extern void children_init(uint32_t nslots);
extern void children_fini(void);

/* slot -1 looks for a refuser's place; false if there is none */
extern bool children_has_room(int slot);
extern void children_add(ChildKind kind, pid_t pid, int slot);

/* take the entry of a dead process out; kind CHILD_NONE if it is not ours */
extern Child children_remove(pid_t pid);

extern uint32_t children_count(ChildKind kind);
/* backends and refusers */
extern uint32_t children_count_clients(void);
extern void children_signal_clients(int signo);
extern void children_signal_worker(int signo);

#endif							/* POSTMASTER_CHILDREN_H */
