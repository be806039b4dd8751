/*
 * t_identity.c
 *	  From credentials to an identity, with the real token cache.
 *
 * Rules: etcd-auth-semantics.md A3 and design, section 5.
 */
/* needs: auth lease common storage/snap storage/ipc storage/lmgr utils/injection */
#include "server.h"

/* this layer and below */
#include "auth/identity.h"
#include "auth/token.h"

/* what the tests share */
#include "unit_auth.h"

#define LOGIN_INDEX 31

static const ControlSizes sizes = {
	.nslots = 1, .token_cache_entries = 1024, .token_max_per_user = 16};

static MemContext *mcx;
static void *tokens;
static char token_text[TOKEN_RANDOM_CHARS + 32];

static int
setup(void **state)
{
	size_t		bytes = align_up(token_shmem_size(&sizes), CACHE_LINE_BYTES);

	mcx = mcx_create(NULL, "test");
	unit_store_open();
	tokens = aligned_alloc(CACHE_LINE_BYTES, bytes);
	memset(tokens, 0, bytes);
	token_shmem_init(tokens, &sizes);
	enable_auth();
	add_user("alice");
	add_user("bob");
	return 0;
}

static int
teardown(void **state)
{
	unit_store_close();
	mcx_destroy(mcx);
	free(tokens);
	return 0;
}

/* what apply does at a login; the token in clear */
static Bytes
login(const char *user)
{
	char		random[TOKEN_RANDOM_CHARS + 1];
	uint8_t		hash[TOKEN_HASH_BYTES];
	const UserEntry *entry = auth_user(store_draft(), bytes_from_cstr(user));

	token_make_random(random, hash);
	token_cache_put(hash, LOGIN_INDEX, bytes_from_cstr(user), entry->cred_rev,
					300);
	snprintf(token_text, sizeof(token_text), "%s.%d", random, LOGIN_INDEX);
	return bytes_from_cstr(token_text);
}

static ErrCode
resolve(bool has_token, Bytes token, Bytes common_name, Identity *identity)
{
	Credentials credentials = {has_token, token, common_name};

	memset(identity, 0xaa, sizeof(*identity));
	return identity_resolve(store_draft(), &credentials, mcx, identity);
}

static void
assert_is(const Identity *identity, IdentityKind kind, const char *user)
{
	assert_int_equal(identity->kind, kind);
	assert_true(bytes_equal_cstr(identity->user, user));
}

static void
test_token(void **state)
{
	Identity	identity;

	assert_error(resolve(true, login("alice"), BYTES_EMPTY, &identity),
				 ERR_NONE);
	assert_is(&identity, IDENTITY_TOKEN, "alice");
	assert_int_equal(identity.cred_rev,
					 auth_user(store_draft(), B("alice"))->cred_rev);
}

static void
test_token_before_common_name(void **state)
{
	Identity	identity;

	assert_error(resolve(true, login("alice"), B("bob"), &identity), ERR_NONE);
	assert_is(&identity, IDENTITY_TOKEN, "alice");
}

static void
test_common_name(void **state)
{
	Identity	identity;

	assert_error(resolve(false, BYTES_EMPTY, B("bob"), &identity), ERR_NONE);
	assert_is(&identity, IDENTITY_CN, "bob");
}

static void
test_nobody(void **state)
{
	static const Bytes names[] = {
		{NULL, 0}, BYTES_LITERAL("mallory"), BYTES_LITERAL("Alice"),
		BYTES_LITERAL("alice "), BYTES_LITERAL("alice\0"),
		BYTES_LITERAL("alice\0.example.com"), BYTES_LITERAL("\0")};
	Identity	identity;

	for (size_t i = 0; i < lengthof(names); i++)
	{
		assert_error(resolve(false, BYTES_EMPTY, names[i], &identity),
					 ERR_NONE);
		assert_is(&identity, IDENTITY_NONE, "");
	}
}

/* a bad token never falls back to the certificate */
static void
test_bad_tokens(void **state)
{
	Bytes		good = login("alice");
	char		bearer[64];
	char		other_index[64];
	Identity	identity;

	snprintf(bearer, sizeof(bearer), "Bearer %s", token_text);
	snprintf(other_index, sizeof(other_index), "%.*s.32", TOKEN_RANDOM_CHARS,
			 token_text);
	const Bytes bad[] = {
		BYTES_EMPTY, B("x"), B("."), B("alice"), B("root"), B("\0"),
		bytes_from_cstr(bearer), bytes_from_cstr(other_index),
		bytes_make(good.data, good.len - 1),
		bytes_make(good.data + 1, good.len - 1),
		bytes_make(good.data, TOKEN_RANDOM_CHARS),
	};

	for (size_t i = 0; i < lengthof(bad); i++)
	{
		assert_error(resolve(true, bad[i], B("bob"), &identity),
					 ERR_INVALID_AUTH_TOKEN);
		assert_is(&identity, IDENTITY_NONE, "");
	}
	assert_error(resolve(true, good, B("bob"), &identity), ERR_NONE);
}

static void
test_token_of_other_credentials(void **state)
{
	Bytes		token = login("alice");
	Identity	identity;

	apply_ok(op_user(LOGOP_USER_CHANGE_PASSWORD, B("alice"), B("$n"), false));
	assert_error(resolve(true, token, B("bob"), &identity),
				 ERR_INVALID_AUTH_TOKEN);
	token = login("alice");
	assert_error(resolve(true, token, BYTES_EMPTY, &identity), ERR_NONE);
	apply_ok(op_user(LOGOP_USER_DELETE, B("alice"), BYTES_EMPTY, false));
	assert_error(resolve(true, token, B("bob"), &identity),
				 ERR_INVALID_AUTH_TOKEN);
	/* of the same name, but not the one who logged in */
	add_user("alice");
	assert_error(resolve(true, token, B("bob"), &identity),
				 ERR_INVALID_AUTH_TOKEN);
	assert_is(&identity, IDENTITY_NONE, "");
}

static void
test_auth_off(void **state)
{
	Identity	identity;
	Bytes		token = login("alice");

	apply_ok(op_plain(LOGOP_AUTH_DISABLE));
	assert_error(resolve(true, B("bad"), B("bob"), &identity), ERR_NONE);
	assert_is(&identity, IDENTITY_NONE, "");
	assert_error(resolve(true, token, B("bob"), &identity), ERR_NONE);
	assert_is(&identity, IDENTITY_NONE, "");
	assert_error(resolve(false, BYTES_EMPTY, B("bob"), &identity), ERR_NONE);
	assert_is(&identity, IDENTITY_NONE, "");
}

/* the request keeps its identity longer than the pin */
static void
test_identity_outlives_the_version(void **state)
{
	Identity	identity;
	const UserEntry *alice = auth_user(store_draft(), B("alice"));

	assert_error(resolve(true, login("alice"), BYTES_EMPTY, &identity),
				 ERR_NONE);
	assert_true(identity.user.data < (const uint8_t *) alice ||
				identity.user.data >= (const uint8_t *) alice + alice->size);
	apply_ok(op_user(LOGOP_USER_DELETE, B("alice"), BYTES_EMPTY, false));
	store_publish();
	while (store_reclaim() > 0)
		;
	assert_is(&identity, IDENTITY_TOKEN, "alice");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		TEST(test_token),
		TEST(test_token_before_common_name),
		TEST(test_common_name),
		TEST(test_nobody),
		TEST(test_bad_tokens),
		TEST(test_token_of_other_credentials),
		TEST(test_auth_off),
		TEST(test_identity_outlives_the_version),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
