/*
 * store_private.h
 *	  What the files of storage/snap share among themselves.
 */
#ifndef STORAGE_SNAP_STORE_PRIVATE_H
#define STORAGE_SNAP_STORE_PRIVATE_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/snap/store.h"

/*
 * At the base of the store; what lies in its first extent.  Written by
 * store_create() through the descriptor before anybody maps it, then by the
 * raft worker only.
 */
typedef struct StoreHeader
{
	/* set at creation, never changed */
	uint64_t	magic;
	uint64_t	reserved_bytes;

	/* atomic: see the order in store.h */
	alignas(64) _Atomic(const StoreVersion *) root;
	_Atomic uint64_t epoch;		/* from 1 */

	/* atomic, each field by itself */
	alignas(64) RaftStatus raft_status;

	/* the version of an empty store, so that the root is never NULL */
	alignas(64) StoreVersion first;
} StoreHeader;

/* read-only outside the raft worker; NULL: no store */
extern StoreHeader *store_header;

/* this process called store_attach_writer() */
extern bool store_is_writer;

/* version.c: open the first draft, and forget everything */
extern void store_open_draft(void);
extern void store_forget_versions(void);

#endif							/* STORAGE_SNAP_STORE_PRIVATE_H */
