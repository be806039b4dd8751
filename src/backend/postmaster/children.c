/*
 * children.c
 *	  The postmaster's list of its children.
 *
 * A plain array: looking a process id up costs a scan of some thousand words
 * when a connection ends, less than the fork that began it.
 */
#include "server.h"

/* system */
#include <signal.h>

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "postmaster/children.h"

static Child *children;			/* by slot, then the refusers */
static uint32_t nslot_children;
static uint32_t nentries;
static uint32_t counts[CHILD_REFUSER + 1];

static Child *free_refuser(void);

void
children_init(uint32_t nslots)
{
	nslot_children = nslots;
	nentries = nslots + CHILDREN_MAX_REFUSERS;
	children = xcalloc(nentries, sizeof(*children));
	memset(counts, 0, sizeof(counts));
}

void
children_fini(void)
{
	free(children);
	children = NULL;
	nentries = 0;
}

bool
children_has_room(int slot)
{
	return slot >= 0 ? children[slot].kind == CHILD_NONE
		: free_refuser() != NULL;
}

void
children_add(ChildKind kind, pid_t pid, int slot)
{
	Child	   *child = slot >= 0 ? &children[slot] : free_refuser();

	Assert(child != NULL && child->kind == CHILD_NONE);
	*child = (Child) {.kind = kind,.pid = pid,.slot = slot};
	counts[kind]++;
}

Child
children_remove(pid_t pid)
{
	for (uint32_t i = 0; i < nentries; i++)
	{
		if (children[i].kind != CHILD_NONE && children[i].pid == pid)
		{
			Child		child = children[i];

			children[i].kind = CHILD_NONE;
			counts[child.kind]--;
			return child;
		}
	}
	return (Child) {.kind = CHILD_NONE,.slot = -1};
}

uint32_t
children_count(ChildKind kind)
{
	return counts[kind];
}

uint32_t
children_count_clients(void)
{
	return counts[CHILD_BACKEND] + counts[CHILD_REFUSER];
}

void
children_signal_clients(int signo)
{
	for (uint32_t i = 0; i < nentries; i++)
	{
		if (children[i].kind == CHILD_BACKEND ||
			children[i].kind == CHILD_REFUSER)
			kill(children[i].pid, signo);
	}
}

void
children_signal_worker(int signo)
{
	for (uint32_t i = 0; i < nentries; i++)
	{
		if (children[i].kind == CHILD_RAFT_WORKER)
			kill(children[i].pid, signo);
	}
}

static Child *
free_refuser(void)
{
	for (uint32_t i = nslot_children; i < nentries; i++)
	{
		if (children[i].kind == CHILD_NONE)
			return &children[i];
	}
	return NULL;
}
