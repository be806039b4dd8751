/*
 * identity.c
 *	  Who asks: the token's user, else the certificate's, else nobody.
 *
 * A token that was sent decides alone: if it is bad, empty included, the
 * request is refused and the certificate is not looked at.  A name counts only
 * if it is a user, compared byte for byte, so a common name with a zero byte
 * in it is not the name before the zero.
 */
#include "server.h"

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "auth/authstate.h"
#include "auth/identity.h"
#include "auth/token.h"

static ErrCode resolve(const StoreVersion *v, const Credentials *credentials,
					   MemContext *mcx, Identity *identity, int64_t *until_ms);
static ErrCode resolve_token(const StoreVersion *v, Bytes token,
							 MemContext *mcx, Identity *identity,
							 int64_t *until_ms);
static void identity_set(Identity *identity, IdentityKind kind,
						 const UserEntry *user, MemContext *mcx);

ErrCode
identity_resolve(const StoreVersion *v, const Credentials *credentials,
				 MemContext *mcx, Identity *identity)
{
	return resolve(v, credentials, mcx, identity, NULL);
}

ErrCode
identity_check(const StoreVersion *v, const Credentials *credentials,
			   MemContext *mcx, Identity *identity, int64_t *until_ms)
{
	*until_ms = INT64_MAX;
	return resolve(v, credentials, mcx, identity, until_ms);
}

/* until_ms NULL: a token is used, not just looked at */
static ErrCode
resolve(const StoreVersion *v, const Credentials *credentials,
		MemContext *mcx, Identity *identity, int64_t *until_ms)
{
	const UserEntry *user;

	*identity = (Identity) {.kind = IDENTITY_NONE};
	if (!v->auth_enabled)
		return ERR_NONE;
	if (credentials->has_token)
		return resolve_token(v, credentials->token, mcx, identity, until_ms);
	user = auth_user(v, credentials->common_name);
	if (user != NULL)
		identity_set(identity, IDENTITY_CN, user, mcx);
	return ERR_NONE;
}

static ErrCode
resolve_token(const StoreVersion *v, Bytes token, MemContext *mcx,
			  Identity *identity, int64_t *until_ms)
{
	TokenInfo	info;
	const UserEntry *user;
	bool		is_good = token.len > 0;

	if (is_good)
		is_good = until_ms == NULL ? token_cache_lookup(token, &info) :
			token_cache_peek(token, &info, until_ms);
	if (!is_good || info.user_len > sizeof(info.user))
		return ERR_INVALID_AUTH_TOKEN;
	user = auth_user(v, bytes_make(info.user, info.user_len));
	if (user == NULL || user->cred_rev != info.cred_rev)
		return ERR_INVALID_AUTH_TOKEN;
	identity_set(identity, IDENTITY_TOKEN, user, mcx);
	return ERR_NONE;
}

/* copies the name: the request outlives the pin under which it is resolved */
static void
identity_set(Identity *identity, IdentityKind kind, const UserEntry *user,
			 MemContext *mcx)
{
	*identity = (Identity) {
		.kind = kind,
		.user = mcx_bytes_dup(mcx, cowitem_key(&user->item)),
		.cred_rev = user->cred_rev};
}
