/*
 * authenticate.c
 *	  Authenticate: from a name and a password to a token.
 *
 *	handler            nobody asks; token and certificate are not looked at
 *	  |  linearizable point: the password may have been changed elsewhere
 *	look_up            auth on?  the user's hash, or one nobody can match
 *	  |  hashing thread
 *	on_verified        right?  a random token; its hash goes into the log
 *	  |  log, apply: every member knows the token, if the credentials that
 *	  |  were checked are still the user's (cred_rev)
 *	on_applied         the token, with the index of its entry
 *
 * An unknown user, a user without a password and a wrong password take the
 * same road: the same hash is computed and the same answer given.
 */
#include "server.h"

/* libraries */
#include "etcdserverpb.pb-c.h"

/* lib and utils */
#include "lib/pbwire.h"
#include "utils/elog.h"
#include "utils/guc.h"

/* this layer and below */
#include "auth/authstate.h"
#include "auth/token.h"
#include "command/command.h"
#include "command/secret.h"
#include "dispatch/dispatch.h"
#include "dispatch/status.h"
#include "storage/ipc/control.h"

#define RESPONSE_TOKEN 2

/* of a name that somebody made up, no more than this goes into the log */
#define LOGGED_NAME_BYTES 128

/* point, and the log index in decimal */
#define TOKEN_INDEX_CHARS 22

typedef struct Login
{
	Bytes		name;
	Bytes		password;
	uint64_t	cred_rev;		/* of the credentials that are checked */
	char		random[TOKEN_RANDOM_CHARS + 1];
} Login;

static ReqResult look_up(Request *req);
static ErrCode check_login(Request *req, const StoreVersion *v, Bytes *phc);
static ReqResult on_verified(Request *req, const HashJob *job);
static ReqResult on_applied(Request *req, const Completion *done);
static void put_token(Request *req, uint64_t index);
static ReqResult refuse(Request *req, ErrCode error);
static void wipe_login(void *login);

ReqResult
command_authenticate(Request *req)
{
	Etcdserverpb__AuthenticateRequest *message = req->message;
	Login	   *login = mcx_alloc0(req->mcx, sizeof(*login));

	login->name = bytes_from_cstr(message->name);
	login->password = secret_take(req, message->password);
	mcx_on_reset(req->mcx, wipe_login, login);
	req->handler_state = login;
	request_be_nobody(req);
	return request_read_barrier(req, look_up);
}

static ReqResult
look_up(Request *req)
{
	Login	   *login = req->handler_state;
	const StoreVersion *v = store_pin();
	Bytes		phc = BYTES_EMPTY;
	ErrCode		error = check_login(req, v, &phc);
	ReqResult	result;

	if (error == ERR_NONE)
		result = request_hash(req, HASH_JOB_VERIFY, login->password, phc,
							  on_verified);
	else
		result = request_fail(req, error);
	/* the hash was copied */
	store_unpin();
	secret_forget(login->password);
	return result;
}

/*
 * Everything but the password.  *phc stays empty, and then nothing matches,
 * for a user who cannot log in.
 */
static ErrCode
check_login(Request *req, const StoreVersion *v, Bytes *phc)
{
	Login	   *login = req->handler_state;
	const UserEntry *user;
	AccessList	access;
	ErrCode		error;

	access_init(&access, req->mcx);
	access_add(&access, NEED_NOBODY);
	error = request_authorize(req, v, &access);
	if (error != ERR_NONE)
		return error;
	if (!v->auth_enabled)
		return ERR_AUTH_NOT_ENABLED;
	/* certificates only: there are no tokens to be had */
	if (guc_auth_token[0] == '\0')
		return ERR_AUTH_FAILED;
	if (login->password.len > AUTH_MAX_PASSWORD_BYTES)
		return ERR_PASSWORD_TOO_LONG;
	user = auth_user(v, login->name);
	if (user == NULL)
		return ERR_NONE;
	login->cred_rev = user->cred_rev;
	if (!user->no_password)
		*phc = user_phc(user);
	return ERR_NONE;
}

static ReqResult
on_verified(Request *req, const HashJob *job)
{
	Login	   *login = req->handler_state;
	LogOp		op = {
		.kind = LOGOP_AUTHENTICATE,
		.authenticate.user = login->name,
		.authenticate.cred_rev = login->cred_rev,
		.authenticate.ttl_sec = (uint32_t) guc_auth_token_ttl,
	};

	if (job->error != ERR_NONE)
		return request_fail(req, job->error);
	if (!job->matches)
		return refuse(req, ERR_AUTH_FAILED);
	token_make_random(login->random, op.authenticate.token_hash);
	return request_propose(req, &op, on_applied);
}

static ReqResult
on_applied(Request *req, const Completion *done)
{
	/* the user was deleted, or given another password, in the meantime */
	if (done->error == ERR_AUTH_FAILED)
		return refuse(req, done->error);
	if (done->error != ERR_NONE)
		return request_fail(req, done->error);
	counter_add(COUNTER_LOGINS, 1);
	req->header_revision = done->revision;
	put_token(req, done->index);
	return REQ_DONE;
}

/* "<random>.<index>", as etcd's look */
static void
put_token(Request *req, uint64_t index)
{
	Login	   *login = req->handler_state;
	char		token[TOKEN_RANDOM_CHARS + TOKEN_INDEX_CHARS + 1];

	snprintf(token, sizeof(token), "%s.%" PRIu64, login->random, index);
	pbwire_put_bytes(&req->body, RESPONSE_TOKEN, bytes_from_cstr(token));
	secret_wipe(token, sizeof(token));
}

/* A login that failed: one line in the log, without what was tried. */
static ReqResult
refuse(Request *req, ErrCode error)
{
	const Login *login = req->handler_state;
	const ProcSlot *self = control_self();
	Bytes		name = bytes_make(login->name.data,
								  size_min(login->name.len, LOGGED_NAME_BYTES));

	counter_add(COUNTER_LOGINS_FAILED, 1);
	/* quoted so that what is made up cannot say where it came from */
	elog_warning("login of user %s from %s failed", status_quote(req->mcx, name),
				 self != NULL && self->peer[0] != '\0' ? self->peer
				 : "an unknown address");
	return request_fail(req, error);
}

static void
wipe_login(void *login)
{
	secret_wipe(((Login *) login)->random, TOKEN_RANDOM_CHARS);
}
