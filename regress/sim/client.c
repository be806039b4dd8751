/*
 * client.c
 *	  Clients: they write to whoever says that it leads, and read there.
 *
 * Operations are real log operations.  The first ones switch authentication
 * on; names and revisions of the rest are guesses, so that many are refused
 * when they are carried out, which every member must do alike.
 */
#include "server.h"

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "common/logop.h"
#include "sim.h"

#define B(s) BYTES_LITERAL(s)
#define PHC B("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA")
#define MAX_BATCH 6
#define NUSERS 4
#define NROLES 4
#define NKEYS 30
#define NLEASES 6

/* proposed, and somebody waits for the answer */
typedef struct Pending
{
	uint64_t	member;
	uint32_t	life;
	uint64_t	index;
	uint64_t	term;
	bool		ends_script;
} Pending;

static Pending *pending;
static size_t npending;
static size_t cap_pending;
static bool script_is_done;
static MemContext *scratch;
static uint32_t txn_key;		/* of the transaction being made */

static void submit(Member *m);
static uint32_t make_script(Bytes *commands);
static Bytes encode(const LogOp *op);
static void random_kvop(KvOp *op, unsigned depth, bool in_txn);
static Bytes next_txn_key(void);
static KeyRange random_range(void);
static Bytes random_name(char c, uint32_t n);
static Identity random_identity(void);
static void random_lease_operation(LogOp *op);
static void random_kv_operation(LogOp *op);
static void random_auth_operation(LogOp *op);

void
client_run(void)
{
	if (scratch == NULL)
		scratch = mcx_create(NULL, "operations");
	for (uint32_t i = 0; i < MAX_MEMBERS; i++)
	{
		Member	   *m = &members[i];

		if (!m->is_used || !m->is_alive || m->role != ENGINE_LEADER ||
			now_us < m->paused_until)
			continue;
		/* an old leader, too: it may not know */
		submit(m);
		if (m->role == ENGINE_LEADER && chance(500))
			member_read(m);
	}
	mcx_reset(scratch);
}

static void
submit(Member *m)
{
	Bytes		commands[16];
	uint32_t	n;
	uint64_t	first;
	uint64_t	term;

	if (!script_is_done)
		n = make_script(commands);
	else
	{
		n = (uint32_t) between(1, MAX_BATCH);
		for (uint32_t i = 0; i < n; i++)
			commands[i] = client_operation();
	}
	if (!member_submit(m, commands, n, &first, &term))
		return;
	for (uint32_t i = 0; i < n; i++)
	{
		if (npending == cap_pending)
		{
			cap_pending = cap_pending == 0 ? 256 : cap_pending * 2;
			pending = xrealloc(pending, cap_pending * sizeof(*pending));
		}
		pending[npending++] = (Pending) {m->id, m->life, first + i, term,
			!script_is_done && i + 1 == n};
	}
}

/* the member has applied these and answers who waits there */
void
client_acknowledge(Member *m, uint64_t from, uint64_t to)
{
	size_t		kept = 0;

	for (size_t i = 0; i < npending; i++)
	{
		Pending    *p = &pending[i];

		if (p->member != m->id || (p->life == m->life &&
								   (p->index < from || p->index > to)))
			pending[kept++] = *p;
		else if (p->life == m->life && agreed_at(p->index)->term == p->term)
		{
			agreed_acknowledge(p->index, p->term);
			script_is_done = script_is_done || p->ends_script;
		}
	}
	npending = kept;
}

/* ---- operations ---- */

static uint32_t
make_script(Bytes *commands)
{
	LogOp		root = {.kind = LOGOP_USER_ADD};
	LogOp		root_role = {.kind = LOGOP_ROLE_ADD};
	LogOp		grant = {.kind = LOGOP_USER_GRANT_ROLE};
	LogOp		user = {.kind = LOGOP_USER_ADD};
	LogOp		role = {.kind = LOGOP_ROLE_ADD};
	LogOp		perm = {.kind = LOGOP_ROLE_GRANT_PERMISSION};
	LogOp		user_role = {.kind = LOGOP_USER_GRANT_ROLE};
	LogOp		enable = {.kind = LOGOP_AUTH_ENABLE};
	uint32_t	n = 0;

	root.user.name = B("root");
	root.user.phc = PHC;
	root_role.role.name = B("root");
	grant.grant.user = grant.grant.role = B("root");
	user.user.name = B("u0");
	user.user.phc = PHC;
	role.role.name = B("r0");
	perm.role.name = B("r0");
	perm.role.perm_type = PERM_READWRITE;
	perm.role.range = keyrange_make(B("k1"), B("k3"));
	user_role.grant.user = B("u0");
	user_role.grant.role = B("r0");
	commands[n++] = encode(&root);
	commands[n++] = encode(&root_role);
	commands[n++] = encode(&grant);
	commands[n++] = encode(&user);
	commands[n++] = encode(&role);
	commands[n++] = encode(&perm);
	commands[n++] = encode(&user_role);
	commands[n++] = encode(&enable);
	return n;
}

Bytes
client_operation(void)
{
	LogOp		op = {.identity = random_identity()};
	uint64_t	dice = between(0, 999);

	if (dice < 15)
	{
		op.kind = LOGOP_COMPACT;
		op.compact_revision = (int64_t) between(0, 1 + agreed_last / 2);
	}
	else if (dice < 30)
	{
		op.kind = LOGOP_AUTHENTICATE;
		op.authenticate.user = random_name('u', NUSERS);
		op.authenticate.cred_rev = between(1, 60);
		op.authenticate.ttl_sec = 300;
	}
	else if (dice < 33)
		op.kind = chance(500) ? LOGOP_AUTH_DISABLE : LOGOP_AUTH_ENABLE;
	else if (dice < 250)
		random_auth_operation(&op);
	else if (dice < 400)
		random_lease_operation(&op);
	else
		random_kv_operation(&op);
	return encode(&op);
}

/* few leases, so that they come and go with keys on them */
static void
random_lease_operation(LogOp *op)
{
	static const LogOpKind kinds[] = {LOGOP_LEASE_GRANT, LOGOP_LEASE_GRANT,
	LOGOP_LEASE_REVOKE, LOGOP_LEASE_RENEW, LOGOP_LEASE_CHECKPOINT};

	op->kind = kinds[between(0, lengthof(kinds) - 1)];
	if (op->kind != LOGOP_LEASE_CHECKPOINT)
	{
		/* the lessor's, too */
		if (op->kind == LOGOP_LEASE_REVOKE && chance(500))
			op->identity = (Identity) {.kind = IDENTITY_INTERNAL};
		op->lease.id = (int64_t) between(1, NLEASES);
		op->lease.ttl_sec = (int64_t) between(0, 100);
		return;
	}
	if (chance(900))
		op->identity = (Identity) {.kind = IDENTITY_INTERNAL};
	op->checkpoint.n = (uint32_t) between(0, 3);
	op->checkpoint.leases = mcx_alloc0(scratch, 3 * sizeof(LeaseCheckpoint));
	for (uint32_t i = 0; i < op->checkpoint.n; i++)
		op->checkpoint.leases[i] = (LeaseCheckpoint) {
			.id = (int64_t) between(1, NLEASES),
			.remaining_sec = (int64_t) between(0, 120),
		};
}

/* user u0 of the script has revision 4 as long as nobody changes it */
static Identity
random_identity(void)
{
	if (chance(600))
		return (Identity) {IDENTITY_TOKEN, B("root"), 2};
	if (chance(500))
		return (Identity) {IDENTITY_TOKEN, B("u0"), between(3, 6)};
	return (Identity) {chance(800) ? IDENTITY_TOKEN : IDENTITY_NONE,
		random_name('u', NUSERS), between(1, 60)};
}

static void
random_kv_operation(LogOp *op)
{
	KvOp		kv;

	txn_key = (uint32_t) between(0, NKEYS - 1);
	do
		random_kvop(&kv, 2, false);
	while (kv.kind == KVOP_RANGE);
	if (kv.kind == KVOP_PUT)
	{
		op->kind = LOGOP_PUT;
		op->put = kv.put;
	}
	else if (kv.kind == KVOP_DELETE)
	{
		op->kind = LOGOP_DELETE;
		op->delete = kv.delete;
	}
	else
	{
		op->kind = LOGOP_TXN;
		op->txn = kv.txn;
	}
}

/*
 * No key is written twice in a transaction: that is refused before it is
 * proposed, and what is in the log need not expect it.
 */
static void
random_kvop(KvOp *op, unsigned depth, bool in_txn)
{
	static const KvOpKind kinds[] = {KVOP_PUT, KVOP_PUT, KVOP_PUT, KVOP_PUT,
	KVOP_DELETE, KVOP_RANGE, KVOP_TXN};

	*op = (KvOp) {.kind = kinds[between(0, depth > 0 ? 6 : 5)]};
	switch (op->kind)
	{
		case KVOP_RANGE:
			op->range.range = random_range();
			break;
		case KVOP_PUT:
			op->put.key = in_txn ? next_txn_key() : random_name('k', NKEYS);
			op->put.value = random_name('v', 100000);
			op->put.ignore_value = chance(50);
			op->put.prev_kv = chance(100);
			if (chance(250))
				op->put.lease = (int64_t) between(1, NLEASES);
			else
				op->put.ignore_lease = chance(100);
			break;
		case KVOP_DELETE:
			op->delete.range = in_txn ?
				keyrange_make(next_txn_key(), BYTES_EMPTY) : random_range();
			break;
		case KVOP_TXN:
			op->txn.ncompares = (uint32_t) between(0, 1);
			op->txn.nsuccess = (uint32_t) between(0, 2);
			op->txn.nfailure = (uint32_t) between(0, 2);
			op->txn.compares = mcx_alloc0(scratch, sizeof(CompareOp));
			op->txn.compares[0].range = random_range();
			op->txn.compares[0].result = (uint32_t) between(0, 3);
			op->txn.compares[0].number = (int64_t) between(0, 1);
			op->txn.success = mcx_alloc0(scratch, 2 * sizeof(KvOp));
			op->txn.failure = mcx_alloc0(scratch, 2 * sizeof(KvOp));
			for (uint32_t i = 0; i < op->txn.nsuccess; i++)
				random_kvop(&op->txn.success[i], depth - 1, true);
			for (uint32_t i = 0; i < op->txn.nfailure; i++)
				random_kvop(&op->txn.failure[i], depth - 1, true);
			break;
	}
}

/* at most 20 are needed; 7 has no factor in common with NKEYS */
static Bytes
next_txn_key(void)
{
	txn_key = (txn_key + 7) % NKEYS;
	return bytes_from_cstr(mcx_printf(scratch, "k%u", txn_key));
}

static void
random_auth_operation(LogOp *op)
{
	static const LogOpKind kinds[] = {
		LOGOP_USER_ADD, LOGOP_USER_DELETE, LOGOP_USER_CHANGE_PASSWORD,
		LOGOP_USER_GRANT_ROLE, LOGOP_USER_GRANT_ROLE, LOGOP_USER_REVOKE_ROLE,
		LOGOP_ROLE_ADD, LOGOP_ROLE_DELETE, LOGOP_ROLE_GRANT_PERMISSION,
		LOGOP_ROLE_GRANT_PERMISSION, LOGOP_ROLE_REVOKE_PERMISSION,
	};

	op->kind = kinds[between(0, lengthof(kinds) - 1)];
	switch (op->kind)
	{
		case LOGOP_USER_ADD:
		case LOGOP_USER_DELETE:
		case LOGOP_USER_CHANGE_PASSWORD:
			op->user.name = random_name('u', NUSERS);
			op->user.phc = PHC;
			break;
		case LOGOP_USER_GRANT_ROLE:
		case LOGOP_USER_REVOKE_ROLE:
			op->grant.user = random_name('u', NUSERS);
			op->grant.role = random_name('r', NROLES);
			break;
		default:
			op->role.name = random_name('r', NROLES);
			op->role.perm_type = (uint32_t) between(0, 2);
			op->role.range = random_range();
			break;
	}
}

static KeyRange
random_range(void)
{
	Bytes		key = random_name('k', NKEYS);

	if (chance(700))
		return keyrange_make(key, BYTES_EMPTY);
	return keyrange_make(key, chance(800) ? B("k2") : B("\0"));
}

static Bytes
random_name(char c, uint32_t n)
{
	return bytes_from_cstr(mcx_printf(scratch, "%c%u", c,
									  (unsigned) between(0, n - 1)));
}

static Bytes
encode(const LogOp *op)
{
	Buf			buf;

	buf_init(&buf, scratch);
	logop_encode(op, &buf);
	return buf_bytes(&buf);
}
