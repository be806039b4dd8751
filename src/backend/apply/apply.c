/*
 * apply.c
 *	  Committed log entries become state.
 *
 * For each entry: decode, ask once more whether its author may do this, now on
 * the state that it changes, and carry it out on the draft.  The right may
 * have been taken away between proposal and commit; the answer is part of the
 * replicated state, so it must depend on nothing but the entry and the draft:
 * no clock, no randomness, no settings, no counters that steer anything.
 *
 * An entry that is refused still moves the applied index: refusing it is how
 * it was applied.
 *
 * What changes goes three ways: into the draft, as rows to Berkeley DB
 * (through ApplyPersist), and as an answer to whoever waits.  Two things are
 * changed outside the draft, the token cache and the clocks of leases; they
 * belong to this machine, are not replicated state, and nothing here decides
 * by them.
 *
 * The quota is not looked at: a member over its quota must do what the others
 * do.  The command station refuses before proposing.
 *
 * Thread: apply.
 */
#include "server.h"

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/injection.h"

/* this layer and below */
#include "alarm/alarm.h"
#include "apply/apply.h"
#include "auth/authorize.h"
#include "auth/authstate.h"
#include "auth/token.h"
#include "common/logop.h"
#include "lease/lease.h"
#include "mvcc/mvcc.h"
#include "member/member.h"
#include "storage/bdb/kvrecord.h"
#include "storage/bdb/tables.h"
#include "storage/ipc/control.h"

/* keys looked at and versions removed in one idle step: about 1 ms */
#define IDLE_STEP_KEYS 1000
/*
 * Retired bytes from which a batch looks for what can be freed: that means a
 * look at the slots of all processes, which costs more than a small batch.  The
 * rest is freed when nothing else is to do.
 */
#define RECLAIM_BYTES ((size_t) 256 * 1024)

struct ApplyState
{
	ApplyPersist persist;
	uint64_t	replay_index;
	StoreVersion *draft;		/* within a batch, else NULL */
	MemContext *scratch;		/* per entry */
	Buf			record;			/* row in the making; heap, reused */
	MvccSink	on_version;
	MvccSink	on_removed;
	AuthSink	auth;
	uint64_t	nremoved;		/* versions, by the idle step under way */
};

typedef struct Entry
{
	uint64_t	index;
	LogOp		op;
	Buf		   *out;			/* the response's fields; NULL: not wanted */
	ApplyResult *result;
} Entry;

static void index_check(const StoreVersion *draft, uint64_t index);
static ErrCode entry_execute(ApplyState *apply, Entry *entry);
static ErrCode entry_authorize(ApplyState *apply, const Entry *entry);
static ErrCode entry_dispatch(ApplyState *apply, Entry *entry);
static ErrCode apply_kv(ApplyState *apply, Entry *entry);
static ErrCode apply_lease_grant(ApplyState *apply, Entry *entry);
static ErrCode apply_lease_revoke(ApplyState *apply, Entry *entry);
static ErrCode apply_lease_renew(ApplyState *apply, Entry *entry);
static void apply_lease_checkpoint(ApplyState *apply, const Entry *entry);
static void lease_remaining(ApplyState *apply, int64_t id,
							int64_t remaining_sec);
static ErrCode apply_authenticate(ApplyState *apply, const Entry *entry);
static void apply_member_publish(ApplyState *apply, const Entry *entry);
static void apply_alarm(ApplyState *apply, const Entry *entry);
static void raise_alarm(ApplyState *apply, uint64_t member_id, uint32_t type);
static void result_set_body(ApplyResult *result, const Buf *fields);
static void count_kv(LogOpKind kind, const MvccCounts *counts);

static void persist_version(void *arg, const KvVersion *kv);
static void persist_version_removed(void *arg, const KvVersion *kv);
static void persist_lease(ApplyState *apply, int64_t id);
static void persist_user(void *arg, Bytes name, const UserEntry *user);
static void persist_role(void *arg, Bytes name, const RoleEntry *role);
static void persist_auth(void *arg, const StoreVersion *draft);
static void void_tokens(void *arg, Bytes user);
static Buf *record_begin(ApplyState *apply);
static void record_put(ApplyState *apply, TableId table, Bytes key);
static void u64be_key(uint64_t v, uint8_t key[8]);

ApplyState *
apply_create(const ApplyPersist *persist, uint64_t replay_index)
{
	ApplyState *apply = xcalloc(1, sizeof(*apply));

	apply->persist = *persist;
	apply->replay_index = replay_index;
	apply->scratch = mcx_create(NULL, "apply entry");
	apply->on_version = (MvccSink) {persist_version, apply};
	apply->on_removed = (MvccSink) {persist_version_removed, apply};
	apply->auth = (AuthSink) {
		.on_user = persist_user,
		.on_role = persist_role,
		.on_auth = persist_auth,
		.on_tokens_void = void_tokens,
		.arg = apply,
	};
	mvcc_compact_resume(store_draft());
	return apply;
}

void
apply_destroy(ApplyState *apply)
{
	if (apply == NULL)
		return;
	buf_free(&apply->record);
	mcx_destroy(apply->scratch);
	free(apply);
}

void
apply_batch_begin(ApplyState *apply)
{
	Assert(apply->draft == NULL);
	apply->draft = store_draft();
}

void
apply_entry(ApplyState *apply, uint64_t index, uint64_t term, Bytes data,
			bool want_result, ApplyResult *result)
{
	StoreVersion *draft = apply->draft;
	Entry		entry = {.index = index, .result = result};
	Buf			fields;

	Assert(draft != NULL);
	memset(result, 0, sizeof(*result));
	result->revision = draft->kv_revision;
	if (index <= draft->applied_index)
		return;
	index_check(draft, index);

	if (data.len > 0)
	{
		mcx_reset(apply->scratch);
		buf_init(&fields, apply->scratch);
		entry.out = want_result ? &fields : NULL;
		/*
		 * PANIC, because the log is wrong or another program wrote it: going
		 * on without this entry, or with this process only, would split the
		 * members' states for good.
		 */
		if (!logop_decode(data, &entry.op, apply->scratch))
			elog_panic("log entry %" PRIu64 " of %zu bytes cannot be decoded",
					   index, data.len);
		result->error = entry_execute(apply, &entry);
		if (result->error == ERR_NONE && entry.out != NULL)
			result_set_body(result, entry.out);
	}
	draft->applied_index = index;
	draft->applied_term = term;
	result->revision = draft->kv_revision;
}

void
apply_batch_end(ApplyState *apply)
{
	Assert(apply->draft != NULL);
	apply->draft = NULL;
	store_publish();
	if (store_bytes_retired() >= RECLAIM_BYTES)
		store_reclaim();
}

bool
apply_idle_step(ApplyState *apply)
{
	bool		done;

	Assert(apply->draft == NULL);
	apply->nremoved = 0;
	done = mvcc_compact_step(store_draft(), IDLE_STEP_KEYS, &apply->on_removed);
	if (apply->nremoved > 0 || mvcc_compact_awaits_publish(store_draft()))
	{
		(void) INJECTION_POINT("compact-step");
		store_publish();
	}
	store_reclaim();
	return !done;
}

/* ---- one entry ---- */

static void
index_check(const StoreVersion *draft, uint64_t index)
{
	/*
	 * PANIC: the log lost entries that the others have applied, or the tables
	 * are of another time.  Whatever came next would be applied to a state
	 * that no other member has.
	 */
	if (index != draft->applied_index + 1)
		elog_panic("log entry %" PRIu64 " comes after %" PRIu64
				   ": the entries between them are missing",
				   index, draft->applied_index);
}

static ErrCode
entry_execute(ApplyState *apply, Entry *entry)
{
	ErrCode		error = entry_authorize(apply, entry);

	/* an alarm is state, unlike the quota */
	if (error == ERR_NONE)
		error = alarm_check(apply->draft, &entry->op);
	if (error != ERR_NONE)
		return error;
	return entry_dispatch(apply, entry);
}

static ErrCode
entry_authorize(ApplyState *apply, const Entry *entry)
{
	AccessList	list;

	access_init(&list, apply->scratch);
	access_add_logop(&list, &entry->op);
	return authorize(apply->draft, &entry->op.identity, &list);
}

static ErrCode
entry_dispatch(ApplyState *apply, Entry *entry)
{
	switch (entry->op.kind)
	{
		case LOGOP_PUT:
		case LOGOP_DELETE:
		case LOGOP_TXN:
			return apply_kv(apply, entry);
		case LOGOP_COMPACT:
			return mvcc_compact_begin(apply->draft,
									  entry->op.compact_revision);
		case LOGOP_LEASE_GRANT:
			return apply_lease_grant(apply, entry);
		case LOGOP_LEASE_REVOKE:
			return apply_lease_revoke(apply, entry);
		case LOGOP_LEASE_RENEW:
			return apply_lease_renew(apply, entry);
		case LOGOP_LEASE_CHECKPOINT:
			apply_lease_checkpoint(apply, entry);
			return ERR_NONE;
		case LOGOP_AUTH_ENABLE:
		case LOGOP_AUTH_DISABLE:
		case LOGOP_USER_ADD:
		case LOGOP_USER_DELETE:
		case LOGOP_USER_CHANGE_PASSWORD:
		case LOGOP_USER_GRANT_ROLE:
		case LOGOP_USER_REVOKE_ROLE:
		case LOGOP_ROLE_ADD:
		case LOGOP_ROLE_DELETE:
		case LOGOP_ROLE_GRANT_PERMISSION:
		case LOGOP_ROLE_REVOKE_PERMISSION:
			return auth_apply(apply->draft, &entry->op, &apply->auth);
		case LOGOP_AUTHENTICATE:
			return apply_authenticate(apply, entry);
		case LOGOP_MEMBER_PUBLISH:
			apply_member_publish(apply, entry);
			return ERR_NONE;
		case LOGOP_ALARM:
			apply_alarm(apply, entry);
			return ERR_NONE;
		case LOGOP_QUOTA_REACHED:
			raise_alarm(apply, entry->op.alarm.member_id, ALARM_NO_SPACE);
			return ERR_NONE;
	}
	/* the decoder lets no other kind through */
	Assert(false);
	return ERR_INTERNAL;
}

static ErrCode
apply_kv(ApplyState *apply, Entry *entry)
{
	const LogOp *op = &entry->op;
	MvccWrite	w;
	bool		succeeded = false;
	ErrCode		error = ERR_INTERNAL;

	mvcc_write_begin(&w, apply->draft, &apply->on_version, apply->scratch);
	switch (op->kind)
	{
		case LOGOP_PUT:
			error = mvcc_put(&w, &op->put, entry->out);
			break;
		case LOGOP_DELETE:
			error = mvcc_delete_range(&w, &op->delete, &entry->result->count,
									  entry->out);
			break;
		case LOGOP_TXN:
			error = mvcc_txn(&w, &op->txn, &succeeded, entry->out);
			entry->result->count = succeeded;
			break;
		default:
			break;
	}
	mvcc_write_end(&w);
	if (error == ERR_NONE)
		count_kv(op->kind, &w.counts);
	return error;
}

static ErrCode
apply_lease_grant(ApplyState *apply, Entry *entry)
{
	int64_t		id = entry->op.lease.id;
	ErrCode		error = lease_grant(apply->draft, id, entry->op.lease.ttl_sec);

	if (error != ERR_NONE)
		return error;
	persist_lease(apply, id);
	counter_add(COUNTER_LEASES_GRANTED, 1);
	return ERR_NONE;
}

/* its keys go with it, in one revision */
static ErrCode
apply_lease_revoke(ApplyState *apply, Entry *entry)
{
	int64_t		id = entry->op.lease.id;
	MvccWrite	w;

	if (!lease_exists(apply->draft, id))
		return ERR_LEASE_NOT_FOUND;
	mvcc_write_begin(&w, apply->draft, &apply->on_version, apply->scratch);
	entry->result->count = mvcc_revoke_lease(&w, id);
	mvcc_write_end(&w);
	persist_lease(apply, id);
	counter_add(COUNTER_LEASES_REVOKED, 1);
	if (entry->op.identity.kind == IDENTITY_INTERNAL)
		counter_add(COUNTER_LEASES_EXPIRED, 1);
	return ERR_NONE;
}

/*
 * What a checkpoint had cut is whole again.  The answer is the time that this
 * member's clock has for it, 0 if that had run out before.
 */
static ErrCode
apply_lease_renew(ApplyState *apply, Entry *entry)
{
	const LeaseEntry *lease;

	lease_remaining(apply, entry->op.lease.id, 0);
	lease = lease_find(apply->draft, entry->op.lease.id);
	if (lease == NULL)
		return ERR_LEASE_NOT_FOUND;
	entry->result->count = lease_renew(lease, clock_monotonic_ms());
	return ERR_NONE;
}

/* for those that are still there */
static void
apply_lease_checkpoint(ApplyState *apply, const Entry *entry)
{
	for (uint32_t i = 0; i < entry->op.checkpoint.n; i++)
		lease_remaining(apply, entry->op.checkpoint.leases[i].id,
						entry->op.checkpoint.leases[i].remaining_sec);
}

static void
lease_remaining(ApplyState *apply, int64_t id, int64_t remaining_sec)
{
	if (lease_set_remaining(apply->draft, id, remaining_sec))
		persist_lease(apply, id);
}

/*
 * A login whose password a backend has checked, against credentials of
 * cred_rev.  Anything could have happened to the user since.
 */
static ErrCode
apply_authenticate(ApplyState *apply, const Entry *entry)
{
	const UserEntry *user;
	Bytes		name = entry->op.authenticate.user;
	uint64_t	cred_rev = entry->op.authenticate.cred_rev;

	if (!apply->draft->auth_enabled)
		return ERR_AUTH_NOT_ENABLED;
	user = auth_user(apply->draft, name);
	if (user == NULL || user->cred_rev != cred_rev)
		return ERR_AUTH_FAILED;

	/* a token from before the start is void, as etcd's are: nobody waits */
	if (entry->index > apply->replay_index)
		token_cache_put(entry->op.authenticate.token_hash, entry->index, name,
						cred_rev, entry->op.authenticate.ttl_sec);
	return ERR_NONE;
}

/* what a member says of itself; whether it votes is not its to say */
static void
apply_member_publish(ApplyState *apply, const Entry *entry)
{
	const LogOp *op = &entry->op;
	MemberInfo	info = {
		.id = op->member.id,
		.name = op->member.name,
		.peer_urls = op->member.peer_urls,
		.client_urls = op->member.client_urls,
	};
	uint8_t		key[8];
	const CowItem *before;

	u64be_key(info.id, key);
	before = cowtree_get(&apply->draft->members, bytes_make(key, sizeof(key)));
	if (before != NULL)
		info.is_learner = ((const MemberEntry *) before)->is_learner;
	member_put(apply->draft, &info);
	member_encode(&info, record_begin(apply));
	record_put(apply, TABLE_MEMBER, bytes_make(key, sizeof(key)));
}

/*
 * As etcd: raising one that is on already answers it again, clearing one that
 * is not on answers nothing, and neither is an error.
 */
static void
apply_alarm(ApplyState *apply, const Entry *entry)
{
	const LogOp *op = &entry->op;
	uint64_t	member_id = op->alarm.member_id;
	uint32_t	type = op->alarm.type;
	uint8_t		key[ALARM_KEY_BYTES];

	if (type != ALARM_NO_SPACE && type != ALARM_CORRUPT)
		return;
	if (op->alarm.is_on)
		raise_alarm(apply, member_id, type);
	else
	{
		if (!alarm_clear(apply->draft, member_id, type))
			return;
		alarm_key(member_id, type, key);
		apply->persist.remove(apply->persist.arg, TABLE_ALARM,
							  bytes_make(key, sizeof(key)));
	}
	if (entry->out != NULL)
		alarm_put_field(entry->out, ALARM_RESPONSE_ALARMS, member_id, type);
}

static void
raise_alarm(ApplyState *apply, uint64_t member_id, uint32_t type)
{
	uint8_t		key[ALARM_KEY_BYTES];

	if (!alarm_raise(apply->draft, member_id, type))
		return;
	alarm_key(member_id, type, key);
	buf_put_u8(record_begin(apply), TABLES_RECORD_VERSION);
	record_put(apply, TABLE_ALARM, bytes_make(key, sizeof(key)));
}

static void
result_set_body(ApplyResult *result, const Buf *fields)
{
	if (fields->len == 0)
		return;
	result->body = store_alloc(fields->len);
	result->body_len = fields->len;
	memcpy(result->body, fields->data, fields->len);
}

static void
count_kv(LogOpKind kind, const MvccCounts *counts)
{
	if (counts->puts > 0)
	{
		counter_add(COUNTER_PUTS, counts->puts);
		counter_add(COUNTER_PUT_BYTES, counts->put_bytes);
	}
	if (counts->deletes > 0)
		counter_add(COUNTER_DELETES, counts->deletes);
	if (counts->ranges > 0)
		counter_add(COUNTER_RANGES, counts->ranges);
	if (kind == LOGOP_TXN)
		counter_add(COUNTER_TXNS, 1);
}

/* ---- rows for Berkeley DB ---- */

static void
persist_version(void *arg, const KvVersion *kv)
{
	ApplyState *apply = arg;
	uint8_t		key[KVRECORD_KEY_BYTES];

	kvrecord_key(kv->mod_revision, kv->sub_revision, key);
	kvrecord_encode(kv, record_begin(apply));
	record_put(apply, TABLE_KEY, bytes_make(key, sizeof(key)));
}

static void
persist_version_removed(void *arg, const KvVersion *kv)
{
	ApplyState *apply = arg;
	uint8_t		key[KVRECORD_KEY_BYTES];

	apply->nremoved++;
	kvrecord_key(kv->mod_revision, kv->sub_revision, key);
	apply->persist.remove(apply->persist.arg, TABLE_KEY,
						  bytes_make(key, sizeof(key)));
}

/* as it is in the draft, or not any more */
static void
persist_lease(ApplyState *apply, int64_t id)
{
	const LeaseEntry *lease = lease_find(apply->draft, id);
	uint8_t		key[LEASE_KEY_BYTES];

	lease_key(id, key);
	if (lease == NULL)
	{
		apply->persist.remove(apply->persist.arg, TABLE_LEASE,
							  bytes_make(key, sizeof(key)));
		return;
	}
	lease_encode(lease, record_begin(apply));
	record_put(apply, TABLE_LEASE, bytes_make(key, sizeof(key)));
}

static void
persist_user(void *arg, Bytes name, const UserEntry *user)
{
	ApplyState *apply = arg;

	if (user == NULL)
	{
		apply->persist.remove(apply->persist.arg, TABLE_USERS, name);
		return;
	}
	user_encode(user, record_begin(apply));
	record_put(apply, TABLE_USERS, name);
}

static void
persist_role(void *arg, Bytes name, const RoleEntry *role)
{
	ApplyState *apply = arg;

	if (role == NULL)
	{
		apply->persist.remove(apply->persist.arg, TABLE_ROLES, name);
		return;
	}
	role_encode(role, record_begin(apply));
	record_put(apply, TABLE_ROLES, name);
}

static void
persist_auth(void *arg, const StoreVersion *draft)
{
	ApplyState *apply = arg;

	buf_put_u8(record_begin(apply), draft->auth_enabled ? 1 : 0);
	record_put(apply, TABLE_AUTH, BYTES_LITERAL("authEnabled"));
	buf_put_u64be(record_begin(apply), draft->auth_revision);
	record_put(apply, TABLE_AUTH, BYTES_LITERAL("authRevision"));
}

static void
void_tokens(void *arg, Bytes user)
{
	token_cache_void_user(user);
}

static Buf *
record_begin(ApplyState *apply)
{
	apply->record.len = 0;
	return &apply->record;
}

static void
record_put(ApplyState *apply, TableId table, Bytes key)
{
	apply->persist.put(apply->persist.arg, table, key,
					   buf_bytes(&apply->record));
}

static void
u64be_key(uint64_t v, uint8_t key[8])
{
	for (int i = 0; i < 8; i++)
		key[i] = (uint8_t) (v >> (56 - 8 * i));
}
