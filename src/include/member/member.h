/*
 * member.h
 *	  A member of the cluster in the table and tree "members".
 */
#ifndef MEMBER_MEMBER_H
#define MEMBER_MEMBER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/buf.h"
#include "storage/snap/cowtree.h"
#include "storage/snap/store.h"

typedef struct MemberEntry
{
	CowItem		item;			/* id, u64 big-endian */
	uint64_t	id;
	uint32_t	size;
	bool		is_learner;
	/* three runs behind the struct: name, peer urls, client urls (commas) */
	uint32_t	name_len;
	uint32_t	peer_urls_len;
	uint32_t	client_urls_len;
	uint8_t		bytes[];
} MemberEntry;

typedef struct MemberInfo
{
	uint64_t	id;
	bool		is_learner;
	Bytes		name;
	Bytes		peer_urls;
	Bytes		client_urls;
} MemberInfo;

extern MemberInfo member_info(const MemberEntry *entry);
/* Thread: apply or loader.  Puts or replaces. */
extern void member_put(StoreVersion *draft, const MemberInfo *info);
extern void member_encode(const MemberInfo *info, Buf *out);
extern bool member_decode(Bytes record, MemberInfo *info);

#endif							/* MEMBER_MEMBER_H */
