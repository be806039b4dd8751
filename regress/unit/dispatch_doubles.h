/*
 * dispatch_doubles.h
 *	  What stands around dispatch and command, played by the test.
 *
 * Included once by a test program that links dispatch and command.  The test
 * sets the fields of `world`, sends a message with double_send(), lets the
 * raft worker answer with double_complete() and the hashing thread with
 * double_hash_done(), and looks at what came out.  The doubles decide simply:
 * a token is a user's name; a user may touch keys that begin with his name,
 * root everything.  What authorize() was asked is kept, so that a test can see
 * that the right question was put.
 */
#ifndef DISPATCH_DOUBLES_H
#define DISPATCH_DOUBLES_H

#include "auth/authstate.h"
#include "auth/token.h"
#include "command/command.h"
#include "dispatch/dispatch.h"
#include "lease/lease.h"
#include "lib/pbwire.h"
#include "mvcc/mvcc.h"
#include "mvcc/vlog.h"
#include "member/member.h"
#include "snapshot/walk.h"
#include "storage/ipc/control.h"
#include "storage/ipc/ring.h"
#include "watch/watch.h"

#include "guc_double.h"

#define TEST_CLUSTER_ID 77
#define TEST_MEMBER_ID 88
#define TEST_TERM 5
#define TEST_REVISION 42
#define TEST_PHC "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"

/* what the test sees of one answer */
typedef struct Answer
{
	int			n;				/* how often ops->finished was called */
	ErrCode		error;
	char		text[512];
	int			grpc_code;
	uint8_t		bytes[65536];
	size_t		len;
	size_t		body_len;		/* that was not made into the answer */
	size_t		request_bytes;	/* memory that the request had taken */
} Answer;

typedef struct World
{
	StoreVersion version;
	RaftStatus	raft;
	int			pins;
	int64_t		quota;

	/* what authorize() was asked last, and how often; answer instead if set */
	AccessOp	asked[64];
	uint32_t	nasked;
	int			nauthorized;
	int			nresolved;
	ErrCode		refuse_with;

	/* the ring: the last submission, and answers that wait */
	int			nsubmitted;
	SubmitKind	kind;
	uint64_t	id;
	uint8_t		payload[65536];
	size_t		payload_len;
	bool		ring_is_full;
	int			room;			/* full after so many, if not 0 */
	Completion	done;
	bool		has_done;

	/* the hashing pool */
	int			nhashes;
	HashJob    *job;
	HashJob    *finished;
	char		password[64];	/* as it arrived */
	char		phc[PASSWORD_PHC_BYTES];
	ErrCode		hash_error;
	bool		hash_queue_is_full;

	/* what mvcc was asked */
	int			nranges;
	int			ntxns;
	RangeOp		range;
	ErrCode		range_error;

	uint32_t	walk_records;
	uint32_t	walk_value_bytes;
	int			holds;

	uint64_t	counters[COUNTER_COUNT];
	ProcSlot	slot;
	char		user[SLOT_USER_BYTES];
	Answer		answer;
	Request    *req;			/* of the last double_send(), while pending */

	/* streams: the last message sent, and what the door says */
	int			nmessages;
	uint8_t		sent[65536];
	size_t		sent_len;
	size_t		backlog;
	int			nready;

	int			nregistered;	/* answers for watches */
	MemContext *mcx;
} World;

static World world;

static void double_finished(Request *req);

static void double_message(Request *req, Buf *message);
static size_t double_backlog(const Request *req);
static void double_ready(Request *req);

static const RequestOps double_ops = {
	.finished = double_finished,
	.message = double_message,
	.backlog = double_backlog,
	.ready = double_ready,
};

/* ---- for the test ---- */

static void
double_reset(void)
{
	MemContext *mcx = world.mcx;

	mcx_destroy(mcx);
	memset(&world, 0, sizeof(world));
	world.mcx = mcx_create(NULL, "test");
	world.version.kv_revision = TEST_REVISION;
	world.version.auth_revision = 9;
	world.quota = INT64_C(2) << 30;
	atomic_store(&world.raft.cluster_id, TEST_CLUSTER_ID);
	atomic_store(&world.raft.member_id, TEST_MEMBER_ID);
	atomic_store(&world.raft.term, TEST_TERM);
	atomic_store(&world.raft.leader_id, TEST_MEMBER_ID);
	atomic_store(&world.raft.is_ready, true);
	atomic_store(&world.raft.reads_are_local, true);
	guc_max_txn_ops = 128;
	guc_max_request_bytes = 1572864;
	guc_auth_token = "simple";
}

static UNUSED Request *
double_request(RpcId id, const char *token)
{
	Request    *req = request_create(world.mcx, rpc_info(id), &double_ops,
									 &world);

	if (token != NULL)
	{
		req->credentials.has_token = true;
		req->credentials.token = bytes_from_cstr(token);
	}
	world.answer = (Answer) {0};
	world.req = req;
	return req;
}

/* the whole road with bytes; token NULL: none */
static UNUSED void
double_send_bytes(RpcId id, const char *token, Bytes message)
{
	dispatch_request(double_request(id, token), message);
}

static UNUSED void
double_send(RpcId id, const char *token, const void *message)
{
	size_t		size = protobuf_c_message_get_packed_size(message);
	uint8_t    *bytes = xmalloc(size);

	protobuf_c_message_pack(message, bytes);
	double_send_bytes(id, token, bytes_make(bytes, size));
	free(bytes);
}

/* the raft worker answers what was submitted last */
static UNUSED void
double_complete(const Completion *done)
{
	world.done = *done;
	if (world.done.request_id == 0)
		world.done.request_id = world.id;
	world.has_done = true;
	dispatch_on_completions();
}

static UNUSED void
double_hash_done(bool matches)
{
	HashJob    *job = world.job;

	job->matches = matches;
	job->error = world.hash_error;
	if (job->kind == HASH_JOB_MAKE)
		strcpy(job->phc, TEST_PHC);
	secret_wipe(job->password, job->password_len);
	free(job->password);
	job->password = NULL;
	world.job = NULL;
	world.finished = job;
	dispatch_on_hashes();
}

static void
double_finished(Request *req)
{
	Answer	   *answer = &world.answer;
	const char *text = req->error_text != NULL ? req->error_text :
		err_info(req->error)->text;

	answer->n++;
	answer->error = req->error;
	answer->grpc_code = req->error_grpc_code != -1 ? req->error_grpc_code :
		err_info(req->error)->grpc_code;
	snprintf(answer->text, sizeof(answer->text), "%s", text);
	answer->len = size_min(req->answer.len, sizeof(answer->bytes));
	if (answer->len > 0)
		memcpy(answer->bytes, req->answer.data, answer->len);
	answer->body_len = req->body.len;
	answer->request_bytes = mcx_total_bytes(req->mcx);
	world.req = NULL;
	request_destroy(req);
}

/* each message of a stream takes the place of the one before */
static void
double_message(Request *req, Buf *message)
{
	world.nmessages++;
	world.sent_len = size_min(message->len, sizeof(world.sent));
	memcpy(world.sent, message->data, world.sent_len);
	message->len = 0;
}

static size_t
double_backlog(const Request *req)
{
	return world.backlog;
}

static void
double_ready(Request *req)
{
	world.nready++;
}

/* the operation that was submitted last */
static UNUSED LogOp
double_submitted_op(void)
{
	LogOp		op;
	bool		ok = logop_decode(bytes_make(world.payload, world.payload_len),
								  &op, world.mcx);

	if (!ok)
		abort();
	return op;
}

/* ---- utils/guc ---- */

int64_t
guc_effective_quota(void)
{
	return world.quota;
}

/* ---- storage ---- */

const StoreVersion *
store_pin(void)
{
	world.pins++;
	return &world.version;
}

void
store_unpin(void)
{
	world.pins--;
}

RaftStatus *
store_raft_status(void)
{
	return &world.raft;
}

ProcSlot *
control_self(void)
{
	return &world.slot;
}

void
control_set_user(const char *user)
{
	snprintf(world.user, sizeof(world.user), "%s", user);
}

void
counter_add(CounterId id, uint64_t n)
{
	world.counters[id] += n;
}

void
control_note_watches(int change)
{
}

void
stat_add(uint32_t cell, uint64_t n)
{
}

uint64_t
stat_get(uint32_t cell)
{
	return 0;
}

uint32_t
histogram_bucket(uint64_t first_us, uint32_t nbuckets, uint64_t us)
{
	return 0;
}

bool
guc_metrics_are_extensive(void)
{
	return false;
}

int
ring_completion_fd(void)
{
	return 3;
}

bool
ring_submit(SubmitKind kind, uint64_t request_id, Bytes payload)
{
	if (world.ring_is_full)
		return false;
	world.ring_is_full = world.room > 0 && --world.room == 0;
	world.nsubmitted++;
	world.kind = kind;
	world.id = request_id;
	world.payload_len = size_min(payload.len, sizeof(world.payload));
	if (world.payload_len > 0)
		memcpy(world.payload, payload.data, world.payload_len);
	return true;
}

bool
ring_completion_next(Completion *completion)
{
	if (!world.has_done)
		return false;
	*completion = world.done;
	return true;
}

void
ring_completion_done(void)
{
	world.has_done = false;
}

/* what a snapshot or a hash walks over: world.walk_records, all alike */
const StoreVersion *
store_hold(StoreHold *hold)
{
	world.holds++;
	hold->version = &world.version;
	return hold->version;
}

void
store_release(StoreHold *hold)
{
	if (hold->version != NULL)
		world.holds--;
	hold->version = NULL;
}

void
snapshot_walk_begin(SnapshotWalk *walk, const StoreVersion *v,
					int64_t revision, bool keys_only)
{
	*walk = (SnapshotWalk) {.v = v,.revision = revision};
	buf_init(&walk->record, NULL);
	memset(buf_reserve(&walk->record, world.walk_value_bytes + 1), 'v',
		   world.walk_value_bytes);
	walk->record.len = world.walk_value_bytes;
	walk->cursor.depth = world.walk_records;
}

bool
snapshot_walk_next(SnapshotWalk *walk, SnapRecord *record)
{
	if (walk->cursor.depth == 0)
		return false;
	walk->cursor.depth--;
	*record = (SnapRecord) {.table = SNAP_KEYS,.key = BYTES_LITERAL("k"),
		.value = buf_bytes(&walk->record)};
	return true;
}

void
snapshot_walk_end(SnapshotWalk *walk)
{
	buf_free(&walk->record);
}

uint32_t
snapshot_hash_add(uint32_t hash, const SnapRecord *record)
{
	return hash + 1;
}

/* ---- watch ---- */

void
watch_registered(const Completion *done)
{
	world.nregistered++;
}

/* none of what these tests ask watches a key; 200_watch.t and t_watch.c do */
void
watch_start(Watch *watch, const StoreVersion *v)
{
}

void
watch_stop(Watch *watch)
{
}

void
watch_go_on(const void *owner)
{
}

bool
watch_is_synced(const Watch *watch)
{
	return false;
}

void
watch_ask_turn(void)
{
}

void
watch_set_turn_end(void (*fn) (const StoreVersion *v))
{
}

/* ---- keys: there are none ---- */

ErrCode
mvcc_range_part(const StoreVersion *v, const RangeOp *op, RangePart *part,
				uint64_t max_keys, int64_t deadline_ms, Buf *out)
{
	part->nkeys = 0;
	part->is_last = true;
	return ERR_NONE;
}

const KvVersion *
mvcc_get(const StoreVersion *v, Bytes key, int64_t revision)
{
	return NULL;
}

void
mvcc_put_kv_field(Buf *out, unsigned field, const KvVersion *kv,
				  bool keys_only)
{
}

const KvVersion *
vlog_previous(const VersionLog *log, const KvVersion *kv)
{
	return NULL;
}

/* trees: root points to an array of items */
const CowItem *
cowtree_seek(const CowTree *tree, CowCursor *cursor, Bytes key)
{
	cursor->path[0].node = tree->root;
	cursor->path[0].slot = 0;
	cursor->depth = (uint32_t) tree->nitems;
	return tree->nitems == 0 ? NULL : *(const CowItem *const *) tree->root;
}

const CowItem *
cowtree_next(CowCursor *cursor)
{
	const CowItem *const *items = (const void *) cursor->path[0].node;

	cursor->path[0].slot++;
	return cursor->path[0].slot < cursor->depth ?
		items[cursor->path[0].slot] : NULL;
}

/* ---- auth ---- */

ErrCode
identity_resolve(const StoreVersion *v, const Credentials *credentials,
				 MemContext *mcx, Identity *identity)
{
	*identity = (Identity) {.kind = IDENTITY_NONE};
	world.nresolved++;
	if (!v->auth_enabled)
		return ERR_NONE;
	if (credentials->has_token)
	{
		if (bytes_equal_cstr(credentials->token, "bad"))
			return ERR_INVALID_AUTH_TOKEN;
		identity->kind = IDENTITY_TOKEN;
		identity->user = credentials->token;
		return ERR_NONE;
	}
	if (credentials->common_name.len > 0)
	{
		identity->kind = IDENTITY_CN;
		identity->user = credentials->common_name;
	}
	return ERR_NONE;
}

ErrCode
identity_check(const StoreVersion *v, const Credentials *credentials,
			   MemContext *mcx, Identity *identity, int64_t *until_ms)
{
	*until_ms = INT64_MAX;
	return identity_resolve(v, credentials, mcx, identity);
}

static bool
double_may_touch(Bytes user, Bytes key)
{
	return key.len >= user.len && memcmp(key.data, user.data, user.len) == 0;
}

/* ---- leases: there are none ---- */

const LeaseEntry *
lease_find(const StoreVersion *v, int64_t id)
{
	return NULL;
}

bool
lease_exists(const StoreVersion *v, int64_t id)
{
	return false;
}

const KvVersion *
lease_keys_seek(const LeaseEntry *lease, LeaseKeyCursor *cursor, Bytes key)
{
	return NULL;
}

const KvVersion *
lease_keys_next(LeaseKeyCursor *cursor)
{
	return NULL;
}

ErrCode
authorize(const StoreVersion *v, const Identity *identity,
		  const AccessList *list)
{
	world.nauthorized++;
	world.nasked = list->n;
	for (uint32_t i = 0; i < list->n && i < lengthof(world.asked); i++)
		world.asked[i] = list->ops[i];
	if (world.refuse_with != ERR_NONE)
		return world.refuse_with;
	if (list->n == 0)
		return ERR_PERMISSION_DENIED;
	if (!v->auth_enabled)
		return ERR_NONE;
	for (uint32_t i = 0; i < list->n; i++)
	{
		const AccessOp *op = &list->ops[i];

		if (op->need == NEED_NOBODY)
			continue;
		if (identity->user.len == 0)
			return ERR_USER_EMPTY;
		if (op->need == NEED_IDENTITY ||
			bytes_equal_cstr(identity->user, "root"))
			continue;
		if ((op->need == NEED_READ || op->need == NEED_WRITE) &&
			double_may_touch(identity->user, op->range.begin))
			continue;
		if ((op->need == NEED_SELF_OR_ADMIN || op->need == NEED_ROLE_OR_ADMIN)
			&& bytes_equal(op->name, identity->user))
			continue;
		return ERR_PERMISSION_DENIED;
	}
	return ERR_NONE;
}

void
access_init(AccessList *list, MemContext *mcx)
{
	*list = (AccessList) {.mcx = mcx};
}

static void
double_access(AccessList *list, AccessOp op)
{
	if (list->n == list->cap)
	{
		uint32_t	cap = list->cap == 0 ? 8 : list->cap * 2;

		list->ops = mcx_grow(list->mcx, list->ops, list->n * sizeof(op),
							 cap * sizeof(op));
		list->cap = cap;
	}
	list->ops[list->n++] = op;
}

void
access_add(AccessList *list, AccessNeed need)
{
	double_access(list, (AccessOp) {.need = need});
}

void
access_add_range(AccessList *list, AccessNeed need, const KeyRange *range)
{
	double_access(list, (AccessOp) {.need = need,.range = *range});
}

void
access_add_lease(AccessList *list, AccessNeed need, int64_t lease)
{
	double_access(list, (AccessOp) {.need = need,.lease = lease});
}

void
access_add_name(AccessList *list, AccessNeed need, Bytes name)
{
	double_access(list, (AccessOp) {.need = need,.name = name});
}

static void double_access_txn(AccessList *list, const TxnOp *txn);

void
access_add_kvop(AccessList *list, const KvOp *op)
{
	switch (op->kind)
	{
		case KVOP_RANGE:
			double_access(list, (AccessOp) {.need = NEED_READ,
						  .range = op->range.range});
			break;
		case KVOP_PUT:
			double_access(list, (AccessOp) {.need = NEED_WRITE,
						  .range = keyrange_make(op->put.key, BYTES_EMPTY)});
			break;
		case KVOP_DELETE:
			double_access(list, (AccessOp) {.need = NEED_WRITE,
						  .range = op->delete.range});
			break;
		case KVOP_TXN:
			double_access_txn(list, &op->txn);
			break;
	}
}

static void
double_access_txn(AccessList *list, const TxnOp *txn)
{
	uint32_t	before = list->n;

	for (uint32_t i = 0; i < txn->ncompares; i++)
		double_access(list, (AccessOp) {.need = NEED_READ,
					  .range = txn->compares[i].range});
	for (uint32_t i = 0; i < txn->nsuccess; i++)
		access_add_kvop(list, &txn->success[i]);
	for (uint32_t i = 0; i < txn->nfailure; i++)
		access_add_kvop(list, &txn->failure[i]);
	if (list->n == before)
		access_add(list, NEED_IDENTITY);
}

void
access_add_logop(AccessList *list, const LogOp *op)
{
	KvOp		kvop;

	switch (op->kind)
	{
		case LOGOP_PUT:
			kvop = (KvOp) {.kind = KVOP_PUT,.put = op->put};
			access_add_kvop(list, &kvop);
			break;
		case LOGOP_DELETE:
			kvop = (KvOp) {.kind = KVOP_DELETE,.delete = op->delete};
			access_add_kvop(list, &kvop);
			break;
		case LOGOP_TXN:
			double_access_txn(list, &op->txn);
			break;
		case LOGOP_AUTHENTICATE:
			access_add(list, NEED_NOBODY);
			break;
		default:
			access_add(list, NEED_ADMIN);
	}
}

/* users: alice (password, role r1), nopass; both with cred_rev 7 */
static UserEntry double_alice = {.cred_rev = 7};
static UserEntry double_nopass = {.cred_rev = 7,.no_password = true};
static RoleEntry double_role;

const UserEntry *
auth_user(const StoreVersion *v, Bytes name)
{
	if (bytes_equal_cstr(name, "alice"))
		return &double_alice;
	return bytes_equal_cstr(name, "nopass") ? &double_nopass : NULL;
}

const RoleEntry *
auth_role(const StoreVersion *v, Bytes name)
{
	return bytes_equal_cstr(name, "r1") || bytes_equal_cstr(name, "root") ?
		&double_role : NULL;
}

Bytes
user_phc(const UserEntry *user)
{
	return BYTES_LITERAL(TEST_PHC);
}

RoleNameCursor
user_roles(const UserEntry *user)
{
	return (RoleNameCursor) {NULL, 1};
}

bool
user_roles_next(RoleNameCursor *cursor, Bytes *name)
{
	if (cursor->left == 0)
		return false;
	cursor->left--;
	*name = BYTES_LITERAL("r1");
	return true;
}

void
role_perms_begin(const RoleEntry *role, RolePermCursor *cursor)
{
	cursor->item = (const void *) "";
}

bool
role_perms_next(RolePermCursor *cursor, uint32_t *perm_type, KeyRange *range)
{
	if (cursor->item == NULL)
		return false;
	cursor->item = NULL;
	*perm_type = PERM_WRITE;
	*range = keyrange_make(BYTES_LITERAL("k"), BYTES_LITERAL("m"));
	return true;
}

void
token_make_random(char random[TOKEN_RANDOM_CHARS + 1],
				  uint8_t hash[TOKEN_HASH_BYTES])
{
	memset(random, 'R', TOKEN_RANDOM_CHARS);
	random[TOKEN_RANDOM_CHARS] = '\0';
	memset(hash, 0x5a, TOKEN_HASH_BYTES);
}

bool
password_phc_is_sound(Bytes phc)
{
	return bytes_equal_cstr(phc, TEST_PHC);
}

void
hashpool_init(const PasswordCost *dummy_cost)
{
}

int
hashpool_fd(void)
{
	return 4;
}

ErrCode
hashpool_submit(HashJob *job)
{
	if (world.hash_queue_is_full)
		return ERR_TOO_MANY_LOGINS;
	world.nhashes++;
	world.job = job;
	snprintf(world.password, sizeof(world.password), "%s", job->password);
	snprintf(world.phc, sizeof(world.phc), "%s", job->phc);
	return ERR_NONE;
}

HashJob *
hashpool_collect(void)
{
	HashJob    *job = world.finished;

	world.finished = NULL;
	return job;
}

/* ---- mvcc, members ---- */

ErrCode
mvcc_range(const StoreVersion *v, const RangeOp *op, int64_t deadline_ms,
		   MemContext *scratch, Buf *out)
{
	world.nranges++;
	world.range = *op;
	pbwire_put_int(out, 4, 3);
	return world.range_error;
}

ErrCode
mvcc_txn_readonly(const StoreVersion *v, const TxnOp *txn,
				  int64_t deadline_ms, MemContext *scratch, Buf *out,
				  MvccCounts *counts)
{
	world.ntxns++;
	pbwire_put_uint(out, 2, 1);
	return ERR_NONE;
}

static bool
double_all_ranges(const KvOp *ops, uint32_t n, bool serializable)
{
	for (uint32_t i = 0; i < n; i++)
		if (ops[i].kind != KVOP_RANGE ||
			(serializable && !ops[i].range.serializable))
			return false;
	return true;
}

bool
mvcc_txn_is_readonly(const TxnOp *txn)
{
	return double_all_ranges(txn->success, txn->nsuccess, false) &&
		double_all_ranges(txn->failure, txn->nfailure, false);
}

bool
mvcc_txn_is_serializable(const TxnOp *txn)
{
	return txn->nsuccess + txn->nfailure > 0 &&
		double_all_ranges(txn->success, txn->nsuccess, true) &&
		double_all_ranges(txn->failure, txn->nfailure, true);
}

MemberInfo
member_info(const MemberEntry *entry)
{
	return (MemberInfo) {
		.id = entry->id,
		.name = BYTES_LITERAL("m1"),
		.peer_urls = BYTES_LITERAL("http://a:1,http://b:2"),
		.client_urls = BYTES_LITERAL("http://c:3"),
	};
}

#endif							/* DISPATCH_DOUBLES_H */
