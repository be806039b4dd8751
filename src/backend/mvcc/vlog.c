/*
 * vlog.c
 *	  The version log: all versions in the order in which they came to be.
 *
 * See vlog.h for what readers may rely on.  Why it is safe without locks: a
 * reader touches positions in [first, end) of the version that he pinned.
 * Those slots were written before that version was published and are not
 * written again, but for vlog_forget(), which puts NULL where a tombstone
 * stood; chunks and directories that a version needs are retired, not freed.
 *
 * Thread: apply (or the loader before it) for what changes.
 */
#include "server.h"

/* lib and utils */
#include "utils/elog.h"

/* this layer and below */
#include "mvcc/mvcc_internal.h"
#include "mvcc/vlog.h"

/* with the revision in front a chunk takes 4 KB */
#define CHUNK_ENTRIES 511
#define FIRST_CHUNKS 16

typedef struct VlogChunk
{
	int64_t		first_revision; /* of entries[0] */
	_Atomic(const KvVersion *) entries[CHUNK_ENTRIES];
} VlogChunk;

struct VlogDirectory
{
	uint64_t	base;			/* number of the chunk in chunks[0] */
	uint64_t	cap;
	VlogChunk  *chunks[];
};

static VlogChunk *chunk_of(const VersionLog *log, uint64_t position);
static void chunk_open(VersionLog *log, int64_t revision);
static void directory_renew(VersionLog *log);
static size_t directory_bytes(uint64_t cap);
static int64_t revision_at(const VersionLog *log, uint64_t position);

uint64_t
vlog_seek(const VersionLog *log, int64_t revision)
{
	uint64_t	low = log->first;
	uint64_t	high = log->end;

	/* a slot that was forgotten has no revision of its own: see revision_at */
	while (low < high)
	{
		uint64_t	middle = low + (high - low) / 2;

		if (revision_at(log, middle) < revision)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const KvVersion *
vlog_get(const VersionLog *log, uint64_t position)
{
	Assert(position >= log->first && position < log->end);
	return atomic_load_explicit(&chunk_of(log, position)->
								entries[position % CHUNK_ENTRIES],
								memory_order_acquire);
}

const KvVersion *
vlog_previous(const VersionLog *log, const KvVersion *kv)
{
	const KvVersion *before;

	if (kv->mod_revision <= log->kept_revision)
		return NULL;
	/* what one revision did before to the same key is no state of its own */
	before = kvversion_prev(kv);
	while (before != NULL && before->mod_revision == kv->mod_revision)
		before = kvversion_prev(before);
	return before != NULL && !kvversion_is_tombstone(before) ? before : NULL;
}

void
vlog_append(VersionLog *log, const KvVersion *kv)
{
	uint64_t	at = log->end % CHUNK_ENTRIES;

	if (unlikely(at == 0))
		chunk_open(log, kv->mod_revision);
	/* published with the version's root */
	atomic_store_explicit(&chunk_of(log, log->end)->entries[at], kv,
						  memory_order_relaxed);
	log->end++;
}

void
vlog_trim(VersionLog *log, int64_t revision)
{
	uint64_t	from = log->first / CHUNK_ENTRIES;
	uint64_t	to;

	if (revision <= log->kept_revision)
		return;
	log->first = vlog_seek(log, revision);
	log->kept_revision = revision;
	to = log->first / CHUNK_ENTRIES;
	/* the chunk that is written next stays, even if nothing of it is left */
	for (uint64_t i = from; i < to; i++)
		store_retire(log->directory->chunks[i - log->directory->base],
					 sizeof(VlogChunk));
}

void
vlog_forget(VersionLog *log, const KvVersion *kv)
{
	uint64_t	position = vlog_seek(log, kv->mod_revision);

	for (; position < log->end; position++)
	{
		const KvVersion *found = vlog_get(log, position);

		if (found == kv)
		{
			atomic_store_explicit(&chunk_of(log, position)->
								  entries[position % CHUNK_ENTRIES], NULL,
								  memory_order_release);
			return;
		}
		if (found != NULL && found->mod_revision > kv->mod_revision)
			return;
	}
}

const char *
vlog_check(const VersionLog *log)
{
	int64_t		revision = log->kept_revision;
	uint32_t	sub = 0;

	if (log->first > log->end)
		return "it begins behind its end";
	for (uint64_t i = log->first; i < log->end; i++)
	{
		const KvVersion *kv = vlog_get(log, i);

		if (kv == NULL)
			continue;
		if (kv->mod_revision < revision)
			return "a revision is out of order, or compacted";
		if (kv->mod_revision == revision && kv->sub_revision < sub)
			return "a position within a revision is out of order";
		revision = kv->mod_revision;
		sub = kv->sub_revision;
	}
	return NULL;
}

/* ---- chunks ---- */

static VlogChunk *
chunk_of(const VersionLog *log, uint64_t position)
{
	return log->directory->chunks[position / CHUNK_ENTRIES -
								  log->directory->base];
}

/* for the position `end`, which begins a chunk */
static void
chunk_open(VersionLog *log, int64_t revision)
{
	uint64_t	number = log->end / CHUNK_ENTRIES;
	VlogChunk  *chunk = store_alloc(sizeof(*chunk));

	Assert(sizeof(*chunk) == 4096);
	chunk->first_revision = revision;
	if (log->directory == NULL ||
		number - log->directory->base == log->directory->cap)
		directory_renew(log);
	/* behind the end of every published version: nobody looks here yet */
	log->directory->chunks[number - log->directory->base] = chunk;
}

/* A directory without the chunks that are gone, at most half full. */
static void
directory_renew(VersionLog *log)
{
	const struct VlogDirectory *old = log->directory;
	uint64_t	base = log->first / CHUNK_ENTRIES;
	uint64_t	n = log->end / CHUNK_ENTRIES - base;
	uint64_t	cap = FIRST_CHUNKS;
	struct VlogDirectory *directory;

	while (cap < 2 * n)
		cap *= 2;
	directory = store_alloc(directory_bytes(cap));
	directory->base = base;
	directory->cap = cap;
	if (n > 0)
		memcpy(directory->chunks, old->chunks + (base - old->base),
			   n * sizeof(directory->chunks[0]));
	log->directory = directory;
	if (old != NULL)
		store_retire(old, directory_bytes(old->cap));
}

static size_t
directory_bytes(uint64_t cap)
{
	return sizeof(struct VlogDirectory) + cap * sizeof(VlogChunk *);
}

/*
 * The revision at a position.  A forgotten entry was of the compacted revision,
 * which is the oldest in the log: what stands before and behind it in that
 * revision says the same.
 */
static int64_t
revision_at(const VersionLog *log, uint64_t position)
{
	const KvVersion *kv;

	if (position % CHUNK_ENTRIES == 0)
		return chunk_of(log, position)->first_revision;
	kv = vlog_get(log, position);
	return kv != NULL ? kv->mod_revision : log->kept_revision;
}
