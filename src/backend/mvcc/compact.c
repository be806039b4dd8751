/*
 * compact.c
 *	  Taking away history that nobody may ask for any more.
 *
 * Compact(R) is two things.  mvcc_compact_begin() runs in the log entry, moves
 * the compacted revision, and is all that the replicated state knows of it.
 * The removal follows at leisure, in small steps between batches; members need
 * not agree on how far they are.
 *
 * For each key the newest version at or below R is kept, for it is what a
 * reader at R sees; what lies behind it goes:
 *
 *	tree --> 9 --> 7 --> 4 --> 2        R = 8: keep 7, cut its link,
 *	              keep   \____/         4 and 2 are the tail
 *	                      tail
 *
 * If the one to keep is a tombstone it goes too, after its tail: from the
 * tree if it is the newest, else from the link of the one above it.
 *
 * Why this is safe for readers, who hold no lock:
 * - A reader asks for revisions >= the compacted revision of the version that
 *   it pinned.  Those pinned before R was published may ask for less, so
 *   nothing is cut until all of them have gone (store_epoch_passed()).
 * - Everybody else asks for r >= R and stops at the first version <= r on the
 *   way down a chain, at the kept one at the latest.  Nobody looks behind it:
 *   the tail is unreachable and freed at once.
 * - A kept tombstone is where such a reader may stand just now, and versions
 *   pinned now have it in their tree: it is retired, not freed.
 *
 * Watchers read the version log, which is trimmed first, once the gate is open
 * (mvcc_compact_set_gate()): only what a published version no longer has in its
 * log is removed.  A tombstone of R itself may still stand there, at the front;
 * it is taken out of its slot before it is retired.
 *
 * Why it is safe on disk: rows of a tail are older than a row that stays, and
 * a tombstone's row goes in the same step as the last of its tail or in a
 * later one.  So whatever prefix of the steps reaches the disk, no deleted
 * key comes back; after a crash a full pass finds the rest.
 *
 * The position survives from step to step as the key it stands at; the tail in
 * work stays in the list.  Thread: apply (all state is that thread's own).
 */
#include "server.h"

/* this layer and below */
#include "mvcc/mvcc_internal.h"
#include "mvcc/vlog.h"

typedef struct CompactState
{
	/* what has been asked for */
	int64_t		wanted;			/* newest compacted revision; 0: none */
	uint64_t	wanted_draft;	/* draft that it, or its trimmed log, was set in */
	bool		has_mark;
	uint64_t	mark;			/* epoch, taken after its publish */

	/* the pass under way */
	int64_t		pass;			/* its revision; 0: none */
	Buf			key;			/* where it stands; heap */
	bool		key_is_done;	/* go on with the next one */
	const KvVersion *tail;		/* cut off, still to be freed */
} CompactState;

static CompactState compact;

static bool (*gate) (int64_t revision);

static bool pass_may_begin(StoreVersion *draft);
static bool pass_step(StoreVersion *draft, uint32_t budget,
					  const MvccSink *on_removed);
static const KvVersion *pass_next_key(const StoreVersion *draft);
static void key_examine(StoreVersion *draft, const KvVersion *newest,
						const MvccSink *on_removed);
static void tail_free_one(StoreVersion *draft, const MvccSink *on_removed);
static void tombstone_retire(StoreVersion *draft, const KvVersion *above,
							 const KvVersion *tombstone,
							 const MvccSink *on_removed);
static void link_cut(const KvVersion *kv);
static void version_gone(StoreVersion *draft, const KvVersion *kv,
						 const MvccSink *on_removed);

ErrCode
mvcc_compact_begin(StoreVersion *draft, int64_t revision)
{
	if (revision <= mvcc_compacted(draft))
		return ERR_COMPACTED;
	if (revision > draft->kv_revision)
		return ERR_FUTURE_REV;
	/* 0 is how "never" is stored; below revision 2 there is nothing */
	draft->compacted_revision = revision == 0 ? 1 : revision;
	compact.wanted = draft->compacted_revision;
	compact.wanted_draft = draft->number;
	compact.has_mark = false;
	return ERR_NONE;
}

void
mvcc_compact_set_gate(bool (*is_open) (int64_t revision))
{
	gate = is_open;
}

void
mvcc_compact_resume(StoreVersion *draft)
{
	buf_free(&compact.key);
	compact = (CompactState) {0};
	/* what the tables still held of it */
	vlog_trim(&draft->log, draft->compacted_revision);
	if (draft->compacted_revision > 0)
	{
		compact.wanted = draft->compacted_revision;
		compact.wanted_draft = draft->number;
	}
}

bool
mvcc_compact_step(StoreVersion *draft, uint32_t max_keys,
				  const MvccSink *on_removed)
{
	/*
	 * A pass finishes before a newer revision gets its own: restarting it each
	 * time would never reach the last keys where compactions are frequent.
	 */
	if (compact.pass == 0)
	{
		if (compact.wanted == 0)
			return true;
		if (!pass_may_begin(draft))
			return false;
		compact.pass = compact.wanted;
		compact.wanted = 0;
		compact.key.len = 0;
		compact.key_is_done = false;
	}
	if (pass_step(draft, max_keys, on_removed))
		compact.pass = 0;
	return compact.pass == 0 && compact.wanted == 0;
}

bool
mvcc_compact_awaits_publish(const StoreVersion *draft)
{
	return compact.pass == 0 && compact.wanted != 0 &&
		draft->number == compact.wanted_draft;
}

/* have all gone who may ask for revisions before the wanted one? */
static bool
pass_may_begin(StoreVersion *draft)
{
	/* not before it is published: the next draft says so */
	if (mvcc_compact_awaits_publish(draft))
		return false;
	if (draft->log.kept_revision < compact.wanted)
	{
		if (gate == NULL || gate(compact.wanted))
		{
			vlog_trim(&draft->log, compact.wanted);
			compact.wanted_draft = draft->number;
		}
		return false;
	}
	if (!compact.has_mark)
	{
		compact.mark = store_epoch_mark();
		compact.has_mark = true;
	}
	return store_epoch_passed(compact.mark);
}

/* true when the pass is through */
static bool
pass_step(StoreVersion *draft, uint32_t budget, const MvccSink *on_removed)
{
	while (budget-- > 0)
	{
		const KvVersion *newest;

		if (compact.tail != NULL)
		{
			tail_free_one(draft, on_removed);
			continue;
		}
		newest = pass_next_key(draft);
		if (newest == NULL)
			return true;
		key_examine(draft, newest, on_removed);
	}
	return false;
}

/*
 * The key to look at now, looked up afresh: batches ran since the last step,
 * and the pass itself takes keys out.  One descent per key is cheap beside
 * what is done with it.
 */
static const KvVersion *
pass_next_key(const StoreVersion *draft)
{
	CowCursor	cursor;
	const CowItem *item;

	item = cowtree_seek(&draft->keys, &cursor, buf_bytes(&compact.key));
	if (item != NULL && compact.key_is_done &&
		bytes_equal(cowitem_key(item), buf_bytes(&compact.key)))
		item = cowtree_next(&cursor);
	if (item == NULL)
		return NULL;
	if (!bytes_equal(cowitem_key(item), buf_bytes(&compact.key)))
	{
		compact.key.len = 0;
		buf_append(&compact.key, cowitem_key(item).data,
				   cowitem_key(item).len);
	}
	compact.key_is_done = false;
	return kvversion_from_item(item);
}

/*
 * Cut off the tail of a key, or when it has none, take out its tombstone.
 * With a tail the key is looked at again once that is freed.
 */
static void
key_examine(StoreVersion *draft, const KvVersion *newest,
			const MvccSink *on_removed)
{
	const KvVersion *above = NULL;
	const KvVersion *keep = newest;

	while (keep != NULL && keep->mod_revision > compact.pass)
	{
		above = keep;
		keep = kvversion_prev(keep);
	}
	if (keep != NULL && kvversion_prev(keep) != NULL)
	{
		compact.tail = kvversion_prev(keep);
		link_cut(keep);
		/* a live key is done with that */
		compact.key_is_done = !kvversion_is_tombstone(keep);
		return;
	}
	compact.key_is_done = true;
	if (keep != NULL && kvversion_is_tombstone(keep))
		tombstone_retire(draft, above, keep, on_removed);
}

static void
tail_free_one(StoreVersion *draft, const MvccSink *on_removed)
{
	const KvVersion *kv = compact.tail;

	compact.tail = kvversion_prev(kv);
	version_gone(draft, kv, on_removed);
	if (likely(kv->mod_revision < draft->log.kept_revision))
	{
		store_free((void *) kv, kvversion_size(kv));
		return;
	}
	/* changed twice in the compacted revision: a watcher may stand there */
	vlog_forget(&draft->log, kv);
	store_retire(kv, kvversion_size(kv));
}

static void
tombstone_retire(StoreVersion *draft, const KvVersion *above,
				 const KvVersion *tombstone, const MvccSink *on_removed)
{
	vlog_forget(&draft->log, tombstone);
	if (above == NULL)
		cowtree_delete(&draft->keys, kvversion_key(tombstone));
	else
		link_cut(above);
	version_gone(draft, tombstone, on_removed);
	store_retire(tombstone, kvversion_size(tombstone));
}

/*
 * The one change that a published version ever sees.  A reader beside us gets
 * the old link or none, and needs neither.
 */
static void
link_cut(const KvVersion *kv)
{
	atomic_store_explicit(&((KvVersion *) kv)->prev, NULL,
						  memory_order_release);
}

static void
version_gone(StoreVersion *draft, const KvVersion *kv,
			 const MvccSink *on_removed)
{
	draft->live_bytes -= kvversion_size(kv);
	if (on_removed != NULL && on_removed->on_version != NULL)
		on_removed->on_version(on_removed->arg, kv);
}
