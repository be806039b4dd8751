/*
 * token.h
 *	  The simple token provider: random tokens in a shared cache.
 *
 * A token is 22 random letters and digits (131 bits), a point, and the log
 * index of its login, as etcd's: "<random>.<index>".  The cache holds the
 * SHA-256 of the random part, never the token.  It lies in the control area:
 * fixed size, hashed partitions, each under a robust mutex, least recently
 * used entry out first, at most token_max_per_user per user.  A partition
 * whose owner died is emptied: its users log in again.
 */
#ifndef AUTH_TOKEN_H
#define AUTH_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/logop.h"
#include "storage/ipc/control.h"

#define TOKEN_RANDOM_CHARS 22

extern size_t token_shmem_size(const ControlSizes *sizes);
extern void token_shmem_init(void *memory, const ControlSizes *sizes);

/* a fresh random part, NUL-terminated, and its hash */
extern void token_make_random(char random[TOKEN_RANDOM_CHARS + 1],
							  uint8_t hash[TOKEN_HASH_BYTES]);

/* Thread: apply.  Replaces an entry of the same hash. */
extern void token_cache_put(const uint8_t hash[TOKEN_HASH_BYTES],
							uint64_t index, Bytes user, uint64_t cred_rev,
							uint32_t ttl_sec);

typedef struct TokenInfo
{
	uint64_t	cred_rev;
	uint32_t	user_len;
	char		user[1024];		/* AUTH_MAX_NAME_BYTES */
} TokenInfo;

/*
 * Look a presented token up; renews its expiry.  False if malformed, unknown
 * or expired.  Any process.
 */
extern bool token_cache_lookup(Bytes token, TokenInfo *info);

/* the same without renewing; *expires_ms: until when (CLOCK_MONOTONIC) */
extern bool token_cache_peek(Bytes token, TokenInfo *info,
							 int64_t *expires_ms);

/* Thread: apply.  Empty user: all tokens. */
extern void token_cache_void_user(Bytes user);
extern uint32_t token_cache_count(void);

#endif							/* AUTH_TOKEN_H */
