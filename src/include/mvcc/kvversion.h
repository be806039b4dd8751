/*
 * kvversion.h
 *	  One version of one key: immutable but for its link to the older one.
 *
 *	keys tree leaf --> newest KvVersion --prev--> older --prev--> ... NULL
 *
 * A deletion is a version too (a tombstone: version == 0).  prev is cut by
 * compaction, in place, once no pinned reader can need what lies behind
 * (mvcc/compact.c); until then readers may follow it freely.
 */
#ifndef MVCC_KVVERSION_H
#define MVCC_KVVERSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "storage/snap/cowtree.h"

typedef struct KvVersion
{
	CowItem		item;			/* the key */
	int64_t		mod_revision;
	int64_t		create_revision;	/* 0 in a tombstone */
	int64_t		version;		/* 0: tombstone */
	int64_t		lease;
	uint32_t	sub_revision;	/* position within the revision */
	uint32_t	value_len;
	_Atomic(const struct KvVersion *) prev;
	uint8_t		bytes[];		/* key, then value */
} KvVersion;

static inline bool
kvversion_is_tombstone(const KvVersion *kv)
{
	return kv->version == 0;
}

static inline Bytes
kvversion_key(const KvVersion *kv)
{
	return cowitem_key(&kv->item);
}

static inline Bytes
kvversion_value(const KvVersion *kv)
{
	return bytes_make(kv->bytes + kv->item.key_len, kv->value_len);
}

static inline size_t
kvversion_size(const KvVersion *kv)
{
	return sizeof(*kv) + kv->item.key_len + kv->value_len;
}

/*
 * Acquire pairs with the release in mvcc/compact.c; what is behind a link was
 * complete before the link was published.
 */
static inline const KvVersion *
kvversion_prev(const KvVersion *kv)
{
	return atomic_load_explicit(&kv->prev, memory_order_acquire);
}

#endif							/* MVCC_KVVERSION_H */
