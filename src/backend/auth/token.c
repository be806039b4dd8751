/*
 * token.c
 *	  The cache of simple tokens, in shared memory.
 *
 * A token is found by the SHA-256 of its random part, which says nothing about
 * its user; so the cache is split into partitions by hash, and a user's tokens
 * lie in all of them.  Each partition has its own record of each user that has
 * tokens in it, with their number and order of use:
 *
 *	partition: lock
 *	  token buckets --> TokenCell --> TokenCell ...	 (same bucket)
 *	  user buckets ---> UserCell ---> UserCell ...
 *	  used list: all tokens, last used first
 *	  UserCell: name, count, list of its tokens, last used first
 *
 * The cap per user and the eviction of his least recently used token therefore
 * cost one look into each partition, and no walk over tokens.  Cells of all
 * kinds have one size and come from one array per partition; a name longer
 * than a UserCell holds goes on in NameCells.  Links are indexes, 0 is none.
 *
 * Who writes: apply inserts and removes (one thread); anybody who looks up
 * renews, and removes what has expired.  All of it under the partition's lock.
 * A process that is killed while it holds the lock may leave lists half
 * linked; the next owner is told and empties the partition, so its users log
 * in again.  Nothing is ever stored from which a token could be made.
 */
#include "server.h"

/* libraries */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/injection.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "auth/token.h"
#include "storage/lmgr/lwlock.h"

#define MAX_PARTITIONS 64
#define MIN_PARTITION_TOKENS 256	/* small caches have fewer partitions */
#define MAX_USER_BYTES 1024			/* AUTH_MAX_NAME_BYTES; as in TokenInfo */
#define EXPIRED_PER_PUT 8		/* removed at each insert, as they come */

#define CELL_BYTES 96
#define USER_INLINE_BYTES (CELL_BYTES - 28)
#define NAME_CELL_BYTES (CELL_BYTES - 4)

/* cells beyond one per token and one per user: names of the greatest length */
#define SPARE_CELLS 32

static const char alphabet[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/* a doubly linked list of TokenCells, last used first */
typedef struct CellList
{
	uint32_t	first;
	uint32_t	last;
} CellList;

typedef struct CellLinks
{
	uint32_t	prev;
	uint32_t	next;
} CellLinks;

typedef struct TokenCell
{
	uint8_t		hash[TOKEN_HASH_BYTES];
	uint64_t	index;			/* log index of the login */
	uint64_t	cred_rev;
	int64_t		expires_ms;		/* CLOCK_MONOTONIC, the same for all */
	uint32_t	ttl_sec;
	uint32_t	next_in_bucket;
	uint32_t	user;			/* UserCell */
	CellLinks	in_used;
	CellLinks	in_user;
} TokenCell;

typedef struct UserCell
{
	uint32_t	next_in_bucket;
	uint32_t	name_hash;
	uint32_t	ntokens;
	CellList	tokens;
	uint32_t	name_len;
	uint32_t	more_name;		/* NameCell with what does not fit here */
	uint8_t		name[USER_INLINE_BYTES];
} UserCell;

typedef struct NameCell
{
	uint32_t	next;
	uint8_t		bytes[NAME_CELL_BYTES];
} NameCell;

typedef union Cell
{
	TokenCell	token;
	UserCell	user;
	NameCell	name;
	uint32_t	next_free;
	uint8_t		bytes[CELL_BYTES];
} Cell;

static_assert(sizeof(Cell) == CELL_BYTES, "cells have one size");

/* everything in it is protected by lock */
typedef struct Partition
{
	alignas(CACHE_LINE_BYTES) LwLock lock;
	CellList	used;
	uint32_t	ntokens;
	uint32_t	first_free;		/* given back */
	uint32_t	next_fresh;		/* never used so far; begins at 1 */
	uint32_t	ncells_free;
	uint32_t	slots[];		/* token buckets, user buckets; then cells */
} Partition;

/* set before the first fork, the same in all processes */
static uint8_t *memory;
static uint32_t npartitions;	/* power of two */
static uint32_t nbuckets;		/* of each kind, in a partition; power of two */
static uint32_t max_tokens;		/* in a partition */
static uint32_t ncells;			/* in a partition, besides number 0 */
static uint32_t max_per_user;

/*
 * Looking up the algorithm takes OpenSSL longer than using it, so that is done
 * once, before the fork.  Used by one thread of a process, the event loop.
 */
static EVP_MD_CTX *hasher;

static bool look_up(Bytes token, bool is_use, TokenInfo *info,
					int64_t *expires_ms);
static void size_up(const ControlSizes *sizes);
static size_t cells_offset(void);
static size_t partition_bytes(void);
static Partition *partition(uint32_t i);
static Partition *partition_of(const uint8_t *hash);
static Cell *cell(Partition *part, uint32_t i);
static bool lock_partition(Partition *part);
static void unlock_partition(Partition *part, bool was_emptied);
static void empty(Partition *part);
static void make_room_for_user(Bytes user);
static bool drop_oldest_of(Bytes user, bool *is_over);
static void insert(Partition *part, const TokenCell *token, Bytes user);
static void remove_token(Partition *part, uint32_t i);
static void remove_expired(Partition *part, int64_t now_ms, int most);
static uint32_t *token_bucket(Partition *part, const uint8_t *hash);
static uint32_t find_token(Partition *part, const uint8_t *hash);
static void renew(Partition *part, uint32_t i, int64_t now_ms);
static uint32_t name_hash(Bytes name);
static uint32_t *user_bucket(Partition *part, uint32_t hash);
static uint32_t find_user(Partition *part, Bytes name);
static uint32_t insert_user(Partition *part, Bytes name);
static void remove_user(Partition *part, uint32_t i);
static void put_name(Partition *part, UserCell *user, Bytes name);
static uint32_t get_name(Partition *part, const UserCell *user, char *name);
static uint32_t cells_for_user(Bytes name);
static uint32_t cell_alloc(Partition *part);
static void cell_free(Partition *part, uint32_t i);
static void list_push(Partition *part, CellList *list, uint32_t i,
					  size_t links);
static void list_unlink(Partition *part, CellList *list, uint32_t i,
						size_t links);
static CellLinks *links_at(Partition *part, uint32_t i, size_t links);
static bool parse_token(Bytes token, uint8_t hash[TOKEN_HASH_BYTES],
						uint64_t *index);
static bool parse_index(Bytes text, uint64_t *index);
static void hash_random(const void *random, uint8_t hash[TOKEN_HASH_BYTES]);
static void hash_presented(const void *random, uint8_t hash[TOKEN_HASH_BYTES]);
static void make_hasher(void);

#define IN_USED offsetof(TokenCell, in_used)
#define IN_USER offsetof(TokenCell, in_user)

/* ---- shared memory ---- */

size_t
token_shmem_size(const ControlSizes *sizes)
{
	size_up(sizes);
	return npartitions * partition_bytes();
}

void
token_shmem_init(void *shmem, const ControlSizes *sizes)
{
	size_up(sizes);
	memory = shmem;
	if (hasher == NULL)
		make_hasher();
	for (uint32_t i = 0; i < npartitions; i++)
	{
		lwlock_init(&partition(i)->lock, LWLOCK_TOKEN_PARTITION);
		/* the memory is zero already, so this touches few pages */
		partition(i)->next_fresh = 1;
		partition(i)->ncells_free = ncells;
	}
}

/* ---- making tokens ---- */

void
token_make_random(char random[TOKEN_RANDOM_CHARS + 1],
				  uint8_t hash[TOKEN_HASH_BYTES])
{
	const unsigned nletters = sizeof(alphabet) - 1;
	int			n = 0;

	while (n < TOKEN_RANDOM_CHARS)
	{
		uint8_t		bytes[TOKEN_RANDOM_CHARS];

		if (RAND_bytes(bytes, sizeof(bytes)) != 1)
			elog_fatal("no random bytes are to be had for a token");
		/* bytes past the last full round of the alphabet would favour some */
		for (size_t i = 0; i < sizeof(bytes) && n < TOKEN_RANDOM_CHARS; i++)
		{
			if (bytes[i] < 256 / nletters * nletters)
				random[n++] = alphabet[bytes[i] % nletters];
		}
		secret_wipe(bytes, sizeof(bytes));
	}
	random[n] = '\0';
	hash_random(random, hash);
}

/* ---- the cache ---- */

void
token_cache_put(const uint8_t hash[TOKEN_HASH_BYTES], uint64_t index,
				Bytes user, uint64_t cred_rev, uint32_t ttl_sec)
{
	Partition  *part = partition_of(hash);
	int64_t		now_ms = clock_monotonic_ms();
	TokenCell	token = {
		.index = index,
		.cred_rev = cred_rev,
		.expires_ms = now_ms + (int64_t) ttl_sec * 1000,
		.ttl_sec = ttl_sec,
	};
	uint32_t	old;
	bool		was_emptied;

	/* comes from the log: no such user can exist, so no token either */
	if (user.len == 0 || user.len > MAX_USER_BYTES)
		return;
	/* tools that replay a log have no cache */
	if (memory == NULL)
		return;
	memcpy(token.hash, hash, TOKEN_HASH_BYTES);
	make_room_for_user(user);

	was_emptied = lock_partition(part);
	old = find_token(part, hash);
	if (old != 0)
		remove_token(part, old);
	remove_expired(part, now_ms, EXPIRED_PER_PUT);
	insert(part, &token, user);
	unlock_partition(part, was_emptied);
}

bool
token_cache_lookup(Bytes token, TokenInfo *info)
{
	int64_t		expires_ms;

	return look_up(token, true, info, &expires_ms);
}

bool
token_cache_peek(Bytes token, TokenInfo *info, int64_t *expires_ms)
{
	return look_up(token, false, info, expires_ms);
}

static bool
look_up(Bytes token, bool is_use, TokenInfo *info, int64_t *expires_ms)
{
	uint8_t		hash[TOKEN_HASH_BYTES];
	uint64_t	index;
	int64_t		now_ms = clock_monotonic_ms();
	Partition  *part;
	bool		was_emptied;
	bool		found = false;
	uint32_t	i;

	if (memory == NULL || !parse_token(token, hash, &index))
		return false;
	part = partition_of(hash);
	was_emptied = lock_partition(part);
	i = find_token(part, hash);
	if (i != 0 && cell(part, i)->token.expires_ms <= now_ms)
		remove_token(part, i);
	else if (i != 0 && cell(part, i)->token.index == index)
	{
		const TokenCell *entry = &cell(part, i)->token;

		found = true;
		info->cred_rev = entry->cred_rev;
		info->user_len = get_name(part, &cell(part, entry->user)->user,
								  info->user);
		if (is_use)
			renew(part, i, now_ms);
		*expires_ms = entry->expires_ms;
	}
	unlock_partition(part, was_emptied);
	return found;
}

void
token_cache_void_user(Bytes user)
{
	for (uint32_t p = 0; p < npartitions; p++)
	{
		Partition  *part = partition(p);
		bool		was_emptied = lock_partition(part);

		if (user.len == 0)
			empty(part);
		else
		{
			uint32_t	i = find_user(part, user);

			/* the last token takes the user's cell with it */
			for (uint32_t n = i == 0 ? 0 : cell(part, i)->user.ntokens; n > 0;
				 n--)
				remove_token(part, cell(part, i)->user.tokens.first);
		}
		unlock_partition(part, was_emptied);
	}
}

uint32_t
token_cache_count(void)
{
	int64_t		now_ms = clock_monotonic_ms();
	uint32_t	count = 0;

	for (uint32_t p = 0; p < npartitions; p++)
	{
		Partition  *part = partition(p);
		bool		was_emptied = lock_partition(part);

		remove_expired(part, now_ms, INT_MAX);
		count += part->ntokens;
		unlock_partition(part, was_emptied);
	}
	return count;
}

/* ---- partitions ---- */

static void
size_up(const ControlSizes *sizes)
{
	uint32_t	entries = sizes->token_cache_entries;

	if (entries == 0)
		entries = 1;
	npartitions = 1;
	while (npartitions < MAX_PARTITIONS &&
		   entries / npartitions >= 2 * MIN_PARTITION_TOKENS)
		npartitions *= 2;
	max_tokens = (entries + npartitions - 1) / npartitions;
	ncells = 2 * max_tokens + SPARE_CELLS;
	nbuckets = 16;
	while (nbuckets < max_tokens)
		nbuckets *= 2;
	max_per_user = sizes->token_max_per_user;
}

static size_t
cells_offset(void)
{
	return align_up(sizeof(Partition) + 2 * nbuckets * sizeof(uint32_t),
					CACHE_LINE_BYTES);
}

static size_t
partition_bytes(void)
{
	return align_up(cells_offset() + ((size_t) ncells + 1) * sizeof(Cell),
					CACHE_LINE_BYTES);
}

static Partition *
partition(uint32_t i)
{
	return (Partition *) (memory + i * partition_bytes());
}

static Partition *
partition_of(const uint8_t *hash)
{
	return partition(hash[TOKEN_HASH_BYTES - 1] & (npartitions - 1));
}

static Cell *
cell(Partition *part, uint32_t i)
{
	Assert(i > 0 && i <= ncells);
	return (Cell *) ((uint8_t *) part + cells_offset()) + i;
}

/* Returns whether the partition had to be emptied; the caller hands it back. */
static bool
lock_partition(Partition *part)
{
	bool		owner_died = lwlock_acquire(&part->lock) == LWLOCK_OWNER_DIED;

	if (owner_died)
		empty(part);
	(void) INJECTION_POINT("token-partition-locked");
	return owner_died;
}

static void
unlock_partition(Partition *part, bool was_emptied)
{
	lwlock_release(&part->lock);
	if (was_emptied)
		elog_write(LOG_LEVEL_WARNING,
				   "A process died while it used this part of the cache.",
				   "Users whose tokens were there log in again.",
				   "a part of the token cache has been emptied");
}

/* Needs nothing of the partition to be sound but the lock. */
static void
empty(Partition *part)
{
	Assert(lwlock_is_held(&part->lock));
	memset(part->slots, 0, 2 * nbuckets * sizeof(uint32_t));
	part->used = (CellList) {0, 0};
	part->ntokens = 0;
	part->first_free = 0;
	part->next_fresh = 1;
	part->ncells_free = ncells;
}

/*
 * Let a user have one token less than he may, over all partitions.  Only
 * apply inserts, so nobody adds one while we look.
 */
static void
make_room_for_user(Bytes user)
{
	bool		is_over = true;

	if (max_per_user == 0)
		return;
	while (is_over && drop_oldest_of(user, &is_over))
		continue;
}

/*
 * If the user is at his cap, remove his least recently used token.  *is_over
 * says whether that might not have been enough.  Returns false if there was
 * nothing to remove.
 */
static bool
drop_oldest_of(Bytes user, bool *is_over)
{
	uint32_t	count = 0;
	uint32_t	oldest_partition = 0;
	int64_t		oldest_ms = INT64_MAX;
	Partition  *part;
	bool		was_emptied;
	uint32_t	i;

	for (uint32_t p = 0; p < npartitions; p++)
	{
		part = partition(p);
		was_emptied = lock_partition(part);
		i = find_user(part, user);
		if (i != 0)
		{
			const UserCell *entry = &cell(part, i)->user;
			const TokenCell *last = &cell(part, entry->tokens.last)->token;
			int64_t		used_ms = last->expires_ms -
				(int64_t) last->ttl_sec * 1000;

			count += entry->ntokens;
			if (used_ms < oldest_ms)
			{
				oldest_ms = used_ms;
				oldest_partition = p;
			}
		}
		unlock_partition(part, was_emptied);
	}
	*is_over = count > max_per_user;
	if (count < max_per_user)
		return false;

	/* it may have been used or have expired meanwhile: then another one goes */
	part = partition(oldest_partition);
	was_emptied = lock_partition(part);
	i = find_user(part, user);
	if (i != 0)
		remove_token(part, cell(part, i)->user.tokens.last);
	unlock_partition(part, was_emptied);
	return true;
}

/* ---- tokens; all of it with the partition's lock held ---- */

static void
insert(Partition *part, const TokenCell *token, Bytes user)
{
	uint32_t	i;
	uint32_t	u;
	uint32_t   *bucket = token_bucket(part, token->hash);

	/* the least recently used go until the worst case fits */
	while (part->ntokens >= max_tokens ||
		   part->ncells_free < 1 + cells_for_user(user))
		remove_token(part, part->used.last);
	u = find_user(part, user);
	if (u == 0)
		u = insert_user(part, user);
	i = cell_alloc(part);
	cell(part, i)->token = *token;
	cell(part, i)->token.user = u;
	cell(part, i)->token.next_in_bucket = *bucket;
	*bucket = i;
	(void) INJECTION_POINT("token-half-linked");
	list_push(part, &part->used, i, IN_USED);
	list_push(part, &cell(part, u)->user.tokens, i, IN_USER);
	cell(part, u)->user.ntokens++;
	part->ntokens++;
}

static void
remove_token(Partition *part, uint32_t i)
{
	TokenCell  *token = &cell(part, i)->token;
	uint32_t	u = token->user;
	UserCell   *user = &cell(part, u)->user;
	uint32_t   *link = token_bucket(part, token->hash);

	Assert(lwlock_is_held(&part->lock));
	while (*link != i)
		link = &cell(part, *link)->token.next_in_bucket;
	*link = token->next_in_bucket;
	list_unlink(part, &part->used, i, IN_USED);
	list_unlink(part, &user->tokens, i, IN_USER);
	OPENSSL_cleanse(token->hash, sizeof(token->hash));
	cell_free(part, i);
	part->ntokens--;
	if (--user->ntokens == 0)
		remove_user(part, u);
}

/* All tokens live equally long, so the first to expire was last used first. */
static void
remove_expired(Partition *part, int64_t now_ms, int most)
{
	while (most-- > 0 && part->used.last != 0 &&
		   cell(part, part->used.last)->token.expires_ms <= now_ms)
		remove_token(part, part->used.last);
}

static uint32_t *
token_bucket(Partition *part, const uint8_t *hash)
{
	uint32_t	h;

	memcpy(&h, hash, sizeof(h));
	return &part->slots[h & (nbuckets - 1)];
}

static uint32_t
find_token(Partition *part, const uint8_t *hash)
{
	uint32_t	i = *token_bucket(part, hash);

	while (i != 0 &&
		   CRYPTO_memcmp(cell(part, i)->token.hash, hash, TOKEN_HASH_BYTES) != 0)
		i = cell(part, i)->token.next_in_bucket;
	return i;
}

static void
renew(Partition *part, uint32_t i, int64_t now_ms)
{
	TokenCell  *token = &cell(part, i)->token;
	CellList   *of_user = &cell(part, token->user)->user.tokens;

	token->expires_ms = now_ms + (int64_t) token->ttl_sec * 1000;
	list_unlink(part, &part->used, i, IN_USED);
	list_push(part, &part->used, i, IN_USED);
	list_unlink(part, of_user, i, IN_USER);
	list_push(part, of_user, i, IN_USER);
}

/* ---- users of a partition ---- */

/* FNV-1a: who chooses names to collide slows his own logins only */
static uint32_t
name_hash(Bytes name)
{
	uint32_t	h = 2166136261u;

	for (size_t i = 0; i < name.len; i++)
		h = (h ^ name.data[i]) * 16777619u;
	return h;
}

static uint32_t *
user_bucket(Partition *part, uint32_t hash)
{
	return &part->slots[nbuckets + (hash & (nbuckets - 1))];
}

static uint32_t
find_user(Partition *part, Bytes name)
{
	uint32_t	hash = name_hash(name);
	uint32_t	i = *user_bucket(part, hash);

	for (; i != 0; i = cell(part, i)->user.next_in_bucket)
	{
		const UserCell *user = &cell(part, i)->user;
		char		stored[MAX_USER_BYTES];

		if (user->name_hash == hash && user->name_len == name.len &&
			bytes_equal(bytes_make(stored, get_name(part, user, stored)), name))
			break;
	}
	return i;
}

static uint32_t
insert_user(Partition *part, Bytes name)
{
	uint32_t	i = cell_alloc(part);
	UserCell   *user = &cell(part, i)->user;
	uint32_t	hash = name_hash(name);

	*user = (UserCell) {.name_hash = hash};
	put_name(part, user, name);
	user->next_in_bucket = *user_bucket(part, hash);
	*user_bucket(part, hash) = i;
	return i;
}

static void
remove_user(Partition *part, uint32_t i)
{
	UserCell   *user = &cell(part, i)->user;
	uint32_t   *link = user_bucket(part, user->name_hash);
	uint32_t	more = user->more_name;

	while (*link != i)
		link = &cell(part, *link)->user.next_in_bucket;
	*link = user->next_in_bucket;
	while (more != 0)
	{
		uint32_t	next = cell(part, more)->name.next;

		cell_free(part, more);
		more = next;
	}
	cell_free(part, i);
}

static void
put_name(Partition *part, UserCell *user, Bytes name)
{
	size_t		done = size_min(name.len, sizeof(user->name));
	uint32_t   *link = &user->more_name;

	user->name_len = (uint32_t) name.len;
	memcpy(user->name, name.data, done);
	while (done < name.len)
	{
		size_t		n = size_min(name.len - done, NAME_CELL_BYTES);

		*link = cell_alloc(part);
		memcpy(cell(part, *link)->name.bytes, name.data + done, n);
		done += n;
		link = &cell(part, *link)->name.next;
	}
	*link = 0;
}

/* name: MAX_USER_BYTES; returns the length */
static uint32_t
get_name(Partition *part, const UserCell *user, char *name)
{
	size_t		len = size_min(user->name_len, MAX_USER_BYTES);
	size_t		done = size_min(len, sizeof(user->name));
	uint32_t	more = user->more_name;

	memcpy(name, user->name, done);
	while (done < len && more != 0)
	{
		size_t		n = size_min(len - done, NAME_CELL_BYTES);

		memcpy(name + done, cell(part, more)->name.bytes, n);
		done += n;
		more = cell(part, more)->name.next;
	}
	return (uint32_t) done;
}

static uint32_t
cells_for_user(Bytes name)
{
	if (name.len <= USER_INLINE_BYTES)
		return 1;
	return (uint32_t) (1 + (name.len - USER_INLINE_BYTES +
							NAME_CELL_BYTES - 1) / NAME_CELL_BYTES);
}

/* ---- cells and lists ---- */

/* The caller has seen to it that one is free. */
static uint32_t
cell_alloc(Partition *part)
{
	uint32_t	i = part->first_free;

	Assert(part->ncells_free > 0);
	if (i != 0)
		part->first_free = cell(part, i)->next_free;
	else
		i = part->next_fresh++;
	part->ncells_free--;
	return i;
}

static void
cell_free(Partition *part, uint32_t i)
{
	cell(part, i)->next_free = part->first_free;
	part->first_free = i;
	part->ncells_free++;
}

static void
list_push(Partition *part, CellList *list, uint32_t i, size_t links)
{
	*links_at(part, i, links) = (CellLinks) {.prev = 0,.next = list->first};
	if (list->first != 0)
		links_at(part, list->first, links)->prev = i;
	else
		list->last = i;
	list->first = i;
}

static void
list_unlink(Partition *part, CellList *list, uint32_t i, size_t links)
{
	CellLinks	own = *links_at(part, i, links);

	if (own.prev != 0)
		links_at(part, own.prev, links)->next = own.next;
	else
		list->first = own.next;
	if (own.next != 0)
		links_at(part, own.next, links)->prev = own.prev;
	else
		list->last = own.prev;
}

static CellLinks *
links_at(Partition *part, uint32_t i, size_t links)
{
	return (CellLinks *) (cell(part, i)->bytes + links);
}

/* ---- tokens as clients write them ---- */

/*
 * Letters and digits, a point, the index without leading zeros: exactly what
 * was given out, so that no token has two spellings.
 */
static bool
parse_token(Bytes token, uint8_t hash[TOKEN_HASH_BYTES], uint64_t *index)
{
	if (token.len < TOKEN_RANDOM_CHARS + 2 ||
		token.data[TOKEN_RANDOM_CHARS] != '.')
		return false;
	for (size_t i = 0; i < TOKEN_RANDOM_CHARS; i++)
	{
		uint8_t		c = token.data[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			  (c >= '0' && c <= '9')))
			return false;
	}
	if (!parse_index(bytes_make(token.data + TOKEN_RANDOM_CHARS + 1,
								token.len - TOKEN_RANDOM_CHARS - 1), index))
		return false;
	hash_presented(token.data, hash);
	return true;
}

static bool
parse_index(Bytes text, uint64_t *index)
{
	uint64_t	value = 0;

	if (text.len == 0 || (text.len > 1 && text.data[0] == '0'))
		return false;
	for (size_t i = 0; i < text.len; i++)
	{
		uint8_t		digit = (uint8_t) (text.data[i] - '0');

		if (digit > 9 || value > (UINT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*index = value;
	return true;
}

static void
hash_random(const void *random, uint8_t hash[TOKEN_HASH_BYTES])
{
	if (hasher == NULL)
		make_hasher();
	if (EVP_DigestInit_ex2(hasher, NULL, NULL) != 1 ||
		EVP_DigestUpdate(hasher, random, TOKEN_RANDOM_CHARS) != 1 ||
		EVP_DigestFinal_ex(hasher, hash, NULL) != 1)
		elog_fatal("SHA-256 is not to be had");
}

/*
 * A client presents one token with all its requests, and a process that has
 * slept finds nothing of SHA-256 in the caches: remembering the last one saves
 * a twentieth of the server's time for a Put (measured).  Nothing is kept that
 * was not here before: HPACK has the header of this connection in its table.
 */
static void
hash_presented(const void *random, uint8_t hash[TOKEN_HASH_BYTES])
{
	static uint8_t last_random[TOKEN_RANDOM_CHARS];
	static uint8_t last_hash[TOKEN_HASH_BYTES];

	/* all zeros is no token: those are letters and digits */
	if (CRYPTO_memcmp(random, last_random, TOKEN_RANDOM_CHARS) != 0)
	{
		hash_random(random, last_hash);
		memcpy(last_random, random, TOKEN_RANDOM_CHARS);
	}
	memcpy(hash, last_hash, TOKEN_HASH_BYTES);
}

/* Without a hash nobody can be told apart, so go no further if it fails. */
static void
make_hasher(void)
{
	EVP_MD	   *sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);

	hasher = EVP_MD_CTX_new();
	if (sha256 == NULL || hasher == NULL ||
		EVP_DigestInit_ex2(hasher, sha256, NULL) != 1)
		elog_fatal("SHA-256 is not to be had");
	/* the hasher keeps it */
	EVP_MD_free(sha256);
}
