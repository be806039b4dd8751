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
 * stray bits.  The compare is libargon2's, in constant time.
 *
 * Nothing here may run in an event loop; see hashpool.c.
 */
#include "server.h"

/* libraries */
#include <argon2.h>
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

static uint32_t memory_for(const PasswordCost *cost);
static bool parse_phc(Bytes phc, PasswordCost *cost);
static bool skip_text(Bytes *rest, const char *text);
static bool take_number(Bytes *rest, uint32_t max, uint32_t *value);
static bool take_base64(Bytes *rest, size_t min_bytes, size_t max_bytes);
static int	base64_value(uint8_t c);
static size_t put_base64(char *out, const uint8_t *data, size_t len);

bool
password_hash(Bytes password, const PasswordCost *cost,
			  char phc[PASSWORD_PHC_BYTES])
{
	uint8_t		salt[SALT_BYTES];

	phc[0] = '\0';
	if (RAND_bytes(salt, sizeof(salt)) != 1)
		return false;
	if (argon2id_hash_encoded(cost->iterations, memory_for(cost),
							  cost->parallelism, password.data, password.len,
							  salt, sizeof(salt), HASH_BYTES, phc,
							  PASSWORD_PHC_BYTES) != ARGON2_OK)
	{
		phc[0] = '\0';
		return false;
	}
	return true;
}

bool
password_make_unmatchable(const PasswordCost *cost,
						  char phc[PASSWORD_PHC_BYTES])
{
	uint8_t		random[SALT_BYTES + HASH_BYTES];
	size_t		used;

	phc[0] = '\0';
	if (RAND_bytes(random, sizeof(random)) != 1)
		return false;
	used = (size_t) snprintf(phc, PASSWORD_PHC_BYTES,
							 PHC_PREFIX "m=%u,t=%u,p=%u$", memory_for(cost),
							 cost->iterations, cost->parallelism);
	used += put_base64(phc + used, random, SALT_BYTES);
	phc[used++] = '$';
	used += put_base64(phc + used, random + SALT_BYTES, HASH_BYTES);
	phc[used] = '\0';
	return true;
}

PasswordResult
password_check(Bytes password, Bytes phc)
{
	char		encoded[PASSWORD_PHC_BYTES];
	PasswordCost cost;
	int			rc;

	if (!parse_phc(phc, &cost))
		return PASSWORD_MALFORMED;
	memcpy(encoded, phc.data, phc.len);
	encoded[phc.len] = '\0';
	rc = argon2id_verify(encoded, password.data, password.len);
	secret_wipe(encoded, sizeof(encoded));
	switch (rc)
	{
		case ARGON2_OK:
			return PASSWORD_MATCHES;
		case ARGON2_VERIFY_MISMATCH:
			return PASSWORD_DIFFERS;
		case ARGON2_MEMORY_ALLOCATION_ERROR:
		case ARGON2_THREAD_FAIL:
			return PASSWORD_NOT_COMPUTED;
		default:
			return PASSWORD_MALFORMED;
	}
}

bool
password_verify(Bytes password, Bytes phc)
{
	return password_check(password, phc) == PASSWORD_MATCHES;
}

bool
password_phc_is_sound(Bytes phc)
{
	PasswordCost cost;

	return parse_phc(phc, &cost);
}

/* ---- static ---- */

static uint32_t
memory_for(const PasswordCost *cost)
{
	uint32_t	least = MIN_MEMORY_KIB_PER_LANE * cost->parallelism;

	return cost->memory_kib < least ? least : cost->memory_kib;
}

static bool
parse_phc(Bytes phc, PasswordCost *cost)
{
	Bytes		rest = phc;

	return phc.len < PASSWORD_PHC_BYTES &&
		skip_text(&rest, PHC_PREFIX "m=") &&
		take_number(&rest, PASSWORD_MAX_MEMORY_KIB, &cost->memory_kib) &&
		skip_text(&rest, ",t=") &&
		take_number(&rest, PASSWORD_MAX_ITERATIONS, &cost->iterations) &&
		skip_text(&rest, ",p=") &&
		take_number(&rest, PASSWORD_MAX_PARALLELISM, &cost->parallelism) &&
		cost->memory_kib >= MIN_MEMORY_KIB_PER_LANE * cost->parallelism &&
		skip_text(&rest, "$") &&
		take_base64(&rest, MIN_SALT_BYTES, MAX_SALT_BYTES) &&
		skip_text(&rest, "$") &&
		take_base64(&rest, MIN_HASH_BYTES, MAX_HASH_BYTES) &&
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

/* Only checked here: libargon2 decodes it. */
static bool
take_base64(Bytes *rest, size_t min_bytes, size_t max_bytes)
{
	size_t		n = 0;
	size_t		decoded;
	int			last;

	while (n < rest->len && base64_value(rest->data[n]) >= 0)
		n++;
	decoded = n / 4 * 3 + (n % 4 == 0 ? 0 : n % 4 - 1);
	if (n % 4 == 1 || decoded < min_bytes || decoded > max_bytes)
		return false;
	/* of the last character 4 or 2 bits lead nowhere: they must be zero */
	last = base64_value(rest->data[n - 1]);
	if ((n % 4 == 2 && (last & 0x0f) != 0) ||
		(n % 4 == 3 && (last & 0x03) != 0))
		return false;
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
