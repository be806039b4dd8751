/*
 * password.c
 *	  argon2id hashes in PHC string form.
 *
 *	$argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>
 *
 * A PHC string may come from a client (a user created with a hash made
 * elsewhere) or from disk, so it is read strictly, with bounds on what it may
 * cost, before libargon2 sees it: one type, one version, the parameters in
 * this order and without leading zeros, base64 without padding and without
 * stray bits.
 *
 * The memory of a hash is mapped for it and unmapped after it.  malloc() would
 * keep it: 19 MB in each backend that has seen two logins.  Huge pages make up
 * for the page faults, and argon2, which jumps about in all of it, misses the
 * TLB less (measured: 56 ms a hash with them, 73 without, on two cores busy
 * with hashes).  It is each process's own, though one area for each hash slot
 * would stay warm in the caches: who can see the first blocks can try passwords
 * at the price of one BLAKE2b each, and that is what argon2 is there against.
 *
 * Nothing here may run in an event loop; see hashpool.c.
 */
#include "server.h"

/* system */
#include <sys/mman.h>

/* libraries */
#include <argon2.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "auth/password.h"

#define SALT_BYTES 16
#define HASH_BYTES 32
#define MIN_MEMORY_KIB_PER_LANE 8

/* of salt and hash in a PHC string that was made elsewhere */
#define MIN_SALT_BYTES 8
#define MAX_SALT_BYTES 64
#define MIN_HASH_BYTES 16
#define MAX_HASH_BYTES 64

#define PHC_PREFIX "$argon2id$v=19$"
#define HUGE_PAGE_BYTES ((size_t) 2 * 1024 * 1024)

/* what a PHC string says */
typedef struct Phc
{
	PasswordCost cost;
	uint8_t		salt[MAX_SALT_BYTES];
	size_t		salt_len;
	uint8_t		hash[MAX_HASH_BYTES];
	size_t		hash_len;
} Phc;

static uint32_t memory_for(const PasswordCost *cost);
static PasswordResult compute(Bytes password, const Phc *phc,
							  uint8_t hash[MAX_HASH_BYTES]);
static int	map_blocks(uint8_t **memory, size_t bytes);
static void unmap_blocks(uint8_t *memory, size_t bytes);
static size_t whole_huge_pages(size_t bytes);
static void format_phc(const Phc *phc, char out[PASSWORD_PHC_BYTES]);
static bool parse_phc(Bytes text, Phc *phc);
static bool skip_text(Bytes *rest, const char *text);
static bool take_number(Bytes *rest, uint32_t max, uint32_t *value);
static bool take_base64(Bytes *rest, size_t min_bytes, size_t max_bytes,
						uint8_t *out, size_t *out_len);
static int	base64_value(uint8_t c);
static size_t put_base64(char *out, const uint8_t *data, size_t len);

bool
password_hash(Bytes password, const PasswordCost *cost,
			  char phc[PASSWORD_PHC_BYTES])
{
	Phc			made = {.cost = *cost,.salt_len = SALT_BYTES,.hash_len = HASH_BYTES};

	phc[0] = '\0';
	made.cost.memory_kib = memory_for(cost);
	if (RAND_bytes(made.salt, SALT_BYTES) != 1 ||
		compute(password, &made, made.hash) != PASSWORD_MATCHES)
		return false;
	format_phc(&made, phc);
	return true;
}

bool
password_make_unmatchable(const PasswordCost *cost,
						  char phc[PASSWORD_PHC_BYTES])
{
	Phc			made = {.cost = *cost,.salt_len = SALT_BYTES,.hash_len = HASH_BYTES};

	phc[0] = '\0';
	made.cost.memory_kib = memory_for(cost);
	if (RAND_bytes(made.salt, SALT_BYTES) != 1 ||
		RAND_bytes(made.hash, HASH_BYTES) != 1)
		return false;
	format_phc(&made, phc);
	return true;
}

PasswordResult
password_check(Bytes password, Bytes phc)
{
	Phc			stored;
	uint8_t		hash[MAX_HASH_BYTES];
	PasswordResult result;

	if (!parse_phc(phc, &stored))
		return PASSWORD_MALFORMED;
	result = compute(password, &stored, hash);
	if (result == PASSWORD_MATCHES &&
		CRYPTO_memcmp(hash, stored.hash, stored.hash_len) != 0)
		result = PASSWORD_DIFFERS;
	secret_wipe(hash, sizeof(hash));
	return result;
}

bool
password_verify(Bytes password, Bytes phc)
{
	return password_check(password, phc) == PASSWORD_MATCHES;
}

bool
password_phc_is_sound(Bytes phc)
{
	Phc			parsed;

	return parse_phc(phc, &parsed);
}

/* ---- static ---- */

static uint32_t
memory_for(const PasswordCost *cost)
{
	uint32_t	least = MIN_MEMORY_KIB_PER_LANE * cost->parallelism;

	return cost->memory_kib < least ? least : cost->memory_kib;
}

/*
 * The hash of password with the salt, the cost and the length of phc.
 * PASSWORD_MATCHES: done; else why not.
 */
static PasswordResult
compute(Bytes password, const Phc *phc, uint8_t hash[MAX_HASH_BYTES])
{
	argon2_context context = {
		.out = hash,.outlen = (uint32_t) phc->hash_len,
		/* argon2 only reads them */
		.pwd = (uint8_t *) password.data,.pwdlen = (uint32_t) password.len,
		.salt = (uint8_t *) phc->salt,.saltlen = (uint32_t) phc->salt_len,
		.t_cost = phc->cost.iterations,.m_cost = phc->cost.memory_kib,
		.lanes = phc->cost.parallelism,.threads = phc->cost.parallelism,
		.version = ARGON2_VERSION_13,
		.allocate_cbk = map_blocks,.free_cbk = unmap_blocks,
	};

	switch (argon2id_ctx(&context))
	{
		case ARGON2_OK:
			return PASSWORD_MATCHES;
		case ARGON2_MEMORY_ALLOCATION_ERROR:
		case ARGON2_THREAD_FAIL:
			return PASSWORD_NOT_COMPUTED;
		default:
			return PASSWORD_MALFORMED;
	}
}

/* At a multiple of a huge page; argon2 wipes it before it is given back. */
static int
map_blocks(uint8_t **memory, size_t bytes)
{
	size_t		whole = whole_huge_pages(bytes);
	size_t		lead;
	uint8_t    *p = mmap(NULL, whole + HUGE_PAGE_BYTES, PROT_READ | PROT_WRITE,
						 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return ARGON2_MEMORY_ALLOCATION_ERROR;
	lead = whole_huge_pages((uintptr_t) p) - (uintptr_t) p;
	if (lead > 0)
		munmap(p, lead);
	if (lead < HUGE_PAGE_BYTES)
		munmap(p + lead + whole, HUGE_PAGE_BYTES - lead);
	*memory = p + lead;
	/* a kernel without huge pages computes as well */
	(void) madvise(*memory, whole, MADV_HUGEPAGE);
	/* nobody needs to find it in a core file */
	(void) madvise(*memory, whole, MADV_DONTDUMP);
	return ARGON2_OK;
}

static void
unmap_blocks(uint8_t *memory, size_t bytes)
{
	munmap(memory, whole_huge_pages(bytes));
}

static size_t
whole_huge_pages(size_t bytes)
{
	return (bytes + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
}

static void
format_phc(const Phc *phc, char out[PASSWORD_PHC_BYTES])
{
	size_t		used;

	used = (size_t) snprintf(out, PASSWORD_PHC_BYTES,
							 PHC_PREFIX "m=%u,t=%u,p=%u$",
							 phc->cost.memory_kib, phc->cost.iterations,
							 phc->cost.parallelism);
	used += put_base64(out + used, phc->salt, phc->salt_len);
	out[used++] = '$';
	used += put_base64(out + used, phc->hash, phc->hash_len);
	out[used] = '\0';
}

static bool
parse_phc(Bytes text, Phc *phc)
{
	Bytes		rest = text;

	return text.len < PASSWORD_PHC_BYTES &&
		skip_text(&rest, PHC_PREFIX "m=") &&
		take_number(&rest, PASSWORD_MAX_MEMORY_KIB, &phc->cost.memory_kib) &&
		skip_text(&rest, ",t=") &&
		take_number(&rest, PASSWORD_MAX_ITERATIONS, &phc->cost.iterations) &&
		skip_text(&rest, ",p=") &&
		take_number(&rest, PASSWORD_MAX_PARALLELISM,
					&phc->cost.parallelism) &&
		phc->cost.memory_kib >=
		MIN_MEMORY_KIB_PER_LANE * phc->cost.parallelism &&
		skip_text(&rest, "$") &&
		take_base64(&rest, MIN_SALT_BYTES, MAX_SALT_BYTES, phc->salt,
					&phc->salt_len) &&
		skip_text(&rest, "$") &&
		take_base64(&rest, MIN_HASH_BYTES, MAX_HASH_BYTES, phc->hash,
					&phc->hash_len) &&
		rest.len == 0;
}

static bool
skip_text(Bytes *rest, const char *text)
{
	size_t		len = strlen(text);

	if (rest->len < len || memcmp(rest->data, text, len) != 0)
		return false;
	*rest = bytes_make(rest->data + len, rest->len - len);
	return true;
}

/* 1 to max, without leading zeros */
static bool
take_number(Bytes *rest, uint32_t max, uint32_t *value)
{
	uint64_t	v = 0;
	size_t		n = 0;

	while (n < rest->len && rest->data[n] >= '0' && rest->data[n] <= '9' &&
		   v <= max)
		v = v * 10 + (uint64_t) (rest->data[n++] - '0');
	if (n == 0 || rest->data[0] == '0' || v > max)
		return false;
	*value = (uint32_t) v;
	*rest = bytes_make(rest->data + n, rest->len - n);
	return true;
}

/* Up to max_bytes into out. */
static bool
take_base64(Bytes *rest, size_t min_bytes, size_t max_bytes, uint8_t *out,
			size_t *out_len)
{
	uint32_t	bits = 0;
	int			nbits = 0;
	size_t		n = 0;
	size_t		made = 0;

	while (n < rest->len && base64_value(rest->data[n]) >= 0)
	{
		bits = bits << 6 | (uint32_t) base64_value(rest->data[n++]);
		nbits += 6;
		if (nbits < 8)
			continue;
		if (made == max_bytes)
			return false;
		nbits -= 8;
		out[made++] = (uint8_t) (bits >> nbits);
	}
	/* of the last character 4 or 2 bits lead nowhere: they must be zero */
	if (made < min_bytes || n % 4 == 1 || (bits & ((1u << nbits) - 1)) != 0)
		return false;
	*out_len = made;
	*rest = bytes_make(rest->data + n, rest->len - n);
	return true;
}

static int
base64_value(uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	return c == '/' ? 63 : -1;
}

/* Without padding; returns the characters written. */
static size_t
put_base64(char *out, const uint8_t *data, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t	bits = 0;
	int			nbits = 0;
	size_t		n = 0;

	for (size_t i = 0; i < len; i++)
	{
		bits = bits << 8 | data[i];
		for (nbits += 8; nbits >= 6; nbits -= 6)
			out[n++] = digits[bits >> (nbits - 6) & 0x3f];
	}
	if (nbits > 0)
		out[n++] = digits[bits << (6 - nbits) & 0x3f];
	return n;
}
