/*
 * unit_auth.h
 *	  What the tests of backend/auth share: a store, and log operations.
 *
 * Each helper is static inline, so that a test need not use all of them.
 */
#ifndef UNIT_AUTH_H
#define UNIT_AUTH_H

#include "server.h"

/* system */
#include <setjmp.h>
#include <stdarg.h>

/* libraries */
#include <cmocka.h>

/* lib and utils */
#include "utils/errcodes.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "auth/authstate.h"
#include "common/keyrange.h"
#include "common/logop.h"
#include "storage/snap/store.h"

#define B(s) BYTES_LITERAL(s)
#define OPEN_END B("\0")

static StorePinWord unit_pin_word;
static uint64_t unit_rng;

static inline StorePinWord *
unit_get_pin_word(uint32_t i)
{
	return &unit_pin_word;
}

/* a fresh store, as the loader leaves it */
static inline void
unit_store_open(void)
{
	assert_true(store_create((size_t) 1 << 30));
	store_use_populate_thread(false);
	store_set_pin_words(unit_get_pin_word, 1);
	store_set_own_pin_word(&unit_pin_word);
	store_attach_writer();
	store_draft()->kv_revision = 1;
	store_draft()->auth_revision = 1;
}

static inline void
unit_store_close(void)
{
	store_destroy();
}

static inline void
unit_seed(uint64_t seed)
{
	unit_rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

static inline uint32_t
unit_random(uint32_t n)
{
	unit_rng ^= unit_rng << 13;
	unit_rng ^= unit_rng >> 7;
	unit_rng ^= unit_rng << 17;
	return (uint32_t) (unit_rng >> 32) % n;
}

/* ---- log operations ---- */

static inline LogOp
op_plain(LogOpKind kind)
{
	return (LogOp) {.kind = kind};
}

static inline LogOp
op_user(LogOpKind kind, Bytes name, Bytes phc, bool no_password)
{
	return (LogOp) {.kind = kind, .user = {name, phc, no_password}};
}

static inline LogOp
op_grant(LogOpKind kind, Bytes user, Bytes role)
{
	return (LogOp) {.kind = kind, .grant = {user, role}};
}

static inline LogOp
op_role(LogOpKind kind, Bytes name)
{
	return (LogOp) {.kind = kind, .role = {.name = name}};
}

static inline LogOp
op_perm(LogOpKind kind, Bytes role, uint32_t perm_type, Bytes key,
		Bytes range_end)
{
	return (LogOp) {
		.kind = kind,
		.role = {role, perm_type, keyrange_make(key, range_end)}};
}

/* carry out what must succeed, without anybody being told */
static inline void
apply_ok(LogOp op)
{
	ErrCode		error = auth_apply(store_draft(), &op, NULL);

	if (error != ERR_NONE)
		fail_msg("%s: %s", logop_name(op.kind), err_info(error)->text);
}

static inline void
add_user(const char *name)
{
	apply_ok(op_user(LOGOP_USER_ADD, bytes_from_cstr(name), B("$phc"), false));
}

static inline void
add_role(const char *name)
{
	apply_ok(op_role(LOGOP_ROLE_ADD, bytes_from_cstr(name)));
}

static inline void
give_role(const char *user, const char *role)
{
	apply_ok(op_grant(LOGOP_USER_GRANT_ROLE, bytes_from_cstr(user),
					  bytes_from_cstr(role)));
}

static inline void
give_perm(const char *role, PermType type, Bytes key, Bytes range_end)
{
	apply_ok(op_perm(LOGOP_ROLE_GRANT_PERMISSION, bytes_from_cstr(role), type,
					 key, range_end));
}

/* user root with role root, and auth on */
static inline void
enable_auth(void)
{
	add_user(AUTH_ROOT_USER);
	give_role(AUTH_ROOT_USER, AUTH_ROOT_ROLE);
	apply_ok(op_plain(LOGOP_AUTH_ENABLE));
}

#define assert_error(actual, expected) \
	unit_assert_error(actual, expected, __FILE__, __LINE__)

static inline void
unit_assert_error(ErrCode actual, ErrCode expected, const char *file, int line)
{
	if (actual == expected)
		return;
	print_error("answered \"%s\", expected \"%s\"\n", err_info(actual)->symbol,
				err_info(expected)->symbol);
	_fail(file, line);
}

#endif							/* UNIT_AUTH_H */
