/*
 * t_persist.c
 *	  From apply to the tables and back: what was written is what is loaded,
 *	  also after kill -9 and after errors; nothing unsound is let in.
 *
 * Entry i of the workload is made from i alone.  So the state at any index can
 * be built twice: once from the tables, once by carrying out the entries in a
 * process that has no tables.  Both are written out and compared.
 *
 * Each life of a worker is a child process, because a failure ends it.
 */
/* needs: storage/bdb storage/snap storage/ipc storage/lmgr mvcc auth lease member alarm common utils/injection utils/guc */
#include "server.h"

/* system */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"

/* this layer and below */
#include "auth/authstate.h"
#include "mvcc/mvcc.h"
#include "member/member.h"
#include "storage/bdb/kvrecord.h"
#include "storage/bdb/persist.h"

#define B(s) BYTES_LITERAL(s)
#define NKEYS 40
#define ENTRIES 1500
#define PATIENCE_MS 60000

/* what lives tell the test */
typedef struct Shared
{
	_Atomic uint64_t submitted;
	_Atomic uint64_t durable;
	_Atomic uint64_t defragmented;
	_Atomic uint64_t ndurable;
	_Atomic uint64_t loaded_index;
	_Atomic uint64_t dump_hash;
	_Atomic uint64_t dump_bytes;
	_Atomic bool gate_is_closed;
	_Atomic bool wrong_durable;
} Shared;

static char dir[] = "/tmp/t_persist.XXXXXX";
static char home[64];
static int	log_fd;
static Shared *shared;

/* ---- tables that fail, wait and watch on command ---- */

static struct
{
	int			fail_put;		/* the nth from now fails with EIO; 0: none */
	int			fail_remove;
	int			fail_begin;
	int			fail_commit;
	int			fail_checkpoint;
	uint64_t	put_index;		/* last value of appliedIndex */
	uint64_t	committed_index;
	uint64_t	checkpoint_index;	/* committed when the last one began */
} twin;

static bool
counts_down(int *n)
{
	return *n > 0 && --*n == 0;
}

static int
twin_txn_begin(TableEnv *env)
{
	return counts_down(&twin.fail_begin) ? EIO : bdb_table_ops.txn_begin(env);
}

static int
twin_put(TableEnv *env, TableId table, Bytes key, Bytes value)
{
	if (counts_down(&twin.fail_put))
		return EIO;
	if (table == TABLE_META && bytes_equal_cstr(key, "appliedIndex"))
	{
		Cursor		cur = {value.data + 1, value.data + value.len};

		cursor_get_u64be(&cur, &twin.put_index);
	}
	return bdb_table_ops.put(env, table, key, value);
}

static int
twin_remove(TableEnv *env, TableId table, Bytes key)
{
	return counts_down(&twin.fail_remove) ? EIO :
		bdb_table_ops.remove(env, table, key);
}

static int
twin_commit(TableEnv *env)
{
	int			rc;

	while (atomic_load(&shared->gate_is_closed))
		usleep(500);
	if (counts_down(&twin.fail_commit))
	{
		bdb_table_ops.abort(env);
		return EIO;
	}
	rc = bdb_table_ops.commit(env);
	twin.committed_index = twin.put_index;
	return rc;
}

static int
twin_checkpoint(TableEnv *env)
{
	if (counts_down(&twin.fail_checkpoint))
		return EIO;
	twin.checkpoint_index = twin.committed_index;
	return bdb_table_ops.checkpoint(env);
}

static TableOps
twin_ops(void)
{
	TableOps	ops = bdb_table_ops;

	ops.txn_begin = twin_txn_begin;
	ops.put = twin_put;
	ops.remove = twin_remove;
	ops.commit = twin_commit;
	ops.checkpoint = twin_checkpoint;
	return ops;
}

/* ---- the workload ---- */

static uint64_t
mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static bool has_tables;
static Buf	record;

static void
save(int table, Bytes key)
{
	if (has_tables)
		persist_put(table, key, buf_bytes(&record));
	record.len = 0;
}

static void
on_version(void *arg, const KvVersion *kv)
{
	uint8_t		key[KVRECORD_KEY_BYTES];

	kvrecord_key(kv->mod_revision, kv->sub_revision, key);
	kvrecord_encode(kv, &record);
	save(TABLE_KEY, bytes_make(key, sizeof(key)));
}

static void
on_removed(void *arg, const KvVersion *kv)
{
	uint8_t		key[KVRECORD_KEY_BYTES];

	kvrecord_key(kv->mod_revision, kv->sub_revision, key);
	if (has_tables)
		persist_remove(TABLE_KEY, bytes_make(key, sizeof(key)));
}

static void
on_user(void *arg, Bytes name, const UserEntry *user)
{
	if (user != NULL)
	{
		user_encode(user, &record);
		save(TABLE_USERS, name);
	}
	else if (has_tables)
		persist_remove(TABLE_USERS, name);
}

static void
on_role(void *arg, Bytes name, const RoleEntry *role)
{
	if (role != NULL)
	{
		role_encode(role, &record);
		save(TABLE_ROLES, name);
	}
	else if (has_tables)
		persist_remove(TABLE_ROLES, name);
}

static void
on_auth(void *arg, const StoreVersion *draft)
{
	buf_put_u8(&record, draft->auth_enabled);
	save(TABLE_AUTH, B("authEnabled"));
	buf_put_u64be(&record, draft->auth_revision);
	save(TABLE_AUTH, B("authRevision"));
}

static void
on_tokens_void(void *arg, Bytes user)
{
}

static const MvccSink kv_sink = {.on_version = on_version};
static const MvccSink removed_sink = {.on_version = on_removed};
static const AuthSink auth_sink = {
	.on_user = on_user,
	.on_role = on_role,
	.on_auth = on_auth,
	.on_tokens_void = on_tokens_void,
};

static Bytes
nth_key(uint64_t n)
{
	static char text[32];

	snprintf(text, sizeof(text), "key-%02d", (int) (n % NKEYS));
	return bytes_from_cstr(text);
}

static void
entry_kv(uint64_t r)
{
	static uint8_t value[3000];
	MemContext *scratch = mcx_create(NULL, "scratch");
	MvccWrite	w;

	mvcc_write_begin(&w, store_draft(), &kv_sink, scratch);
	if (r % 8 != 0)
	{
		PutOp		put = {.key = nth_key(r >> 8)};

		memset(value, (int) (r >> 16), sizeof(value));
		put.value = bytes_make(value, (r >> 24) % sizeof(value));
		mvcc_put(&w, &put, NULL);
	}
	else
	{
		DeleteOp	delete = {.range = keyrange_make(nth_key(r >> 8),
													  r % 16 == 0 ? B("key-2")
													  : BYTES_EMPTY)};
		int64_t		deleted;

		mvcc_delete_range(&w, &delete, &deleted, NULL);
	}
	mvcc_write_end(&w);
	mcx_destroy(scratch);
}

static void
entry_auth(uint64_t r)
{
	static const LogOpKind kinds[] = {
		LOGOP_USER_ADD, LOGOP_USER_DELETE, LOGOP_USER_CHANGE_PASSWORD,
		LOGOP_USER_GRANT_ROLE, LOGOP_USER_REVOKE_ROLE, LOGOP_ROLE_ADD,
		LOGOP_ROLE_DELETE, LOGOP_ROLE_GRANT_PERMISSION,
		LOGOP_ROLE_REVOKE_PERMISSION, LOGOP_USER_ADD, LOGOP_ROLE_ADD,
		LOGOP_USER_GRANT_ROLE, LOGOP_ROLE_GRANT_PERMISSION,
	};
	LogOp		op = {.kind = kinds[r % lengthof(kinds)]};
	char		user[16];
	char		role[16];
	char		phc[64];

	snprintf(user, sizeof(user), "user%d", (int) (r >> 8) % 4);
	snprintf(role, sizeof(role), "role%d", (int) (r >> 16) % 4);
	snprintf(phc, sizeof(phc), "$argon2id$%d", (int) (r >> 20));
	switch (op.kind)
	{
		case LOGOP_USER_ADD:
		case LOGOP_USER_DELETE:
		case LOGOP_USER_CHANGE_PASSWORD:
			op.user.name = bytes_from_cstr(user);
			op.user.phc = bytes_from_cstr(phc);
			break;
		case LOGOP_USER_GRANT_ROLE:
		case LOGOP_USER_REVOKE_ROLE:
			op.grant.user = bytes_from_cstr(user);
			op.grant.role = bytes_from_cstr(role);
			break;
		default:
			op.role.name = bytes_from_cstr(role);
			op.role.perm_type = (uint32_t) (r >> 24) % 3;
			op.role.range = keyrange_make(nth_key((r >> 28) % 5),
										  (r >> 32) % 2 ? B("key-3")
										  : BYTES_EMPTY);
	}
	(void) auth_apply(store_draft(), &op, &auth_sink);
}

static void
entry_member(uint64_t r)
{
	char		url[32];
	MemberInfo	info = {.id = r % 3 + 1, .name = B("m"), .is_learner = r % 2};
	uint8_t		key[8] = {0};

	snprintf(url, sizeof(url), "http://a:%d", (int) (r >> 8) % 100);
	info.client_urls = info.peer_urls = bytes_from_cstr(url);
	member_put(store_draft(), &info);
	member_encode(&info, &record);
	key[7] = (uint8_t) info.id;
	save(TABLE_MEMBER, bytes_make(key, sizeof(key)));
}

static void
entry(uint64_t i)
{
	uint64_t	r = mix(i);
	uint64_t	kind = r % 100;

	r >>= 8;
	if (kind < 80)
		entry_kv(r);
	else if (kind < 95)
		entry_auth(r);
	else if (kind < 98)
		entry_member(r);
	else
		(void) mvcc_compact_begin(store_draft(),
								  store_draft()->kv_revision -
								  (int64_t) (r % 50));
}

/* Batches end where a multiple of 7 or 10 stands. */
static void
run_entries(uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i <= to; i++)
	{
		StoreVersion *draft = store_draft();

		entry(i);
		if (i % 7 != 0 && i % 10 != 0 && i != to)
			continue;
		draft->applied_index = i;
		draft->applied_term = 1 + i / 1000;
		store_publish();
		if (has_tables)
		{
			persist_submit(i, 1 + i / 1000, draft->kv_revision,
						   draft->compacted_revision);
			atomic_store(&shared->submitted, i);
		}
		(void) mvcc_compact_step(store_draft(), 3, &removed_sink);
		store_reclaim();
	}
}

/* ---- the whole state as text ---- */

static void
dump_tree(Buf *out, const CowTree *tree, void (*one) (Buf *, const CowItem *))
{
	CowCursor	cursor;

	buf_printf(out, "%" PRIu64 "\n", tree->nitems);
	for (const CowItem *item = cowtree_seek(tree, &cursor, BYTES_EMPTY);
		 item != NULL; item = cowtree_next(&cursor))
	{
		buf_put_bytes(out, cowitem_key(item));
		one(out, item);
	}
}

static void
dump_user(Buf *out, const CowItem *item)
{
	user_encode((const UserEntry *) item, out);
}

static void
dump_role(Buf *out, const CowItem *item)
{
	role_encode((const RoleEntry *) item, out);
}

static void
dump_member(Buf *out, const CowItem *item)
{
	MemberInfo	info = member_info((const MemberEntry *) item);

	member_encode(&info, out);
}

/* every key at every revision that may be read */
static void
dump_keys(Buf *out, const StoreVersion *v)
{
	int64_t		first = v->compacted_revision > 1 ? v->compacted_revision : 1;

	for (uint64_t k = 0; k < NKEYS; k++)
	{
		const KvVersion *before = NULL;

		for (int64_t rev = first; rev <= v->kv_revision; rev++)
		{
			const KvVersion *kv = mvcc_get(v, nth_key(k), rev);

			if (kv == before)
				continue;
			before = kv;
			buf_printf(out, "%" PRIu64 "@%" PRId64 " ", k, rev);
			if (kv == NULL)
				continue;
			buf_printf(out, "%" PRId64 ".%" PRIu32 " ", kv->mod_revision,
					   kv->sub_revision);
			kvrecord_encode(kv, out);
		}
	}
}

/* leaves length and hash in shared */
static void
dump(void)
{
	const StoreVersion *v = store_draft();
	Buf			out;
	uint64_t	hash = UINT64_C(0xcbf29ce484222325);

	buf_init(&out, NULL);
	buf_printf(&out, "%" PRId64 " %" PRId64 " %" PRIu64 " %d %" PRIu64 " %"
			   PRIu64 "\n", v->kv_revision, v->compacted_revision,
			   v->auth_revision, v->auth_enabled, v->applied_index,
			   v->applied_term);
	dump_tree(&out, &v->users, dump_user);
	dump_tree(&out, &v->roles, dump_role);
	dump_tree(&out, &v->members, dump_member);
	dump_keys(&out, v);
	for (size_t i = 0; i < out.len; i++)
		hash = (hash ^ out.data[i]) * UINT64_C(0x100000001b3);
	atomic_store(&shared->dump_hash, hash);
	atomic_store(&shared->dump_bytes, out.len);
	buf_free(&out);
}

/* ---- lives ---- */

typedef struct Life
{
	uint64_t	until;			/* run entries up to here; 0: only load */
	uint64_t	from;			/* without tables: start empty and run */
	const char *inject;
	uint64_t	queue_bytes;
	uint64_t	checkpoint_bytes;
	uint32_t	checkpoint_ms;
	bool		no_stop;		/* wait to be killed */
	bool		defragments;
} Life;

static void
on_durable(void *arg, uint64_t index, uint64_t term)
{
	/* exactly what was committed when the checkpoint began */
	if (index != twin.checkpoint_index || term != 1 + index / 1000 ||
		index <= atomic_load(&shared->durable))
		atomic_store(&shared->wrong_durable, true);
	/* whoever sees the index sees it counted */
	atomic_fetch_add(&shared->ndurable, 1);
	atomic_store(&shared->durable, index);
}

static void
on_defragmented(void *arg, uint64_t ticket)
{
	atomic_store(&shared->defragmented, ticket);
}

/* asked for in between and at the end, when it is waited for */
static void
live_defragmenting(uint64_t from, uint64_t to)
{
	uint64_t	ticket;

	for (uint64_t i = from; i <= to; i += 100)
	{
		run_entries(i, i + 99 < to ? i + 99 : to);
		(void) persist_defragment();
	}
	ticket = persist_defragment();
	while (atomic_load(&shared->defragmented) < ticket)
		usleep(1000);
}

static void
make_store(void)
{
	store_use_populate_thread(false);
	if (!store_create((size_t) 1 << 30))
		_exit(9);
	store_attach_writer();
	store_draft()->kv_revision = 1;
	store_draft()->auth_revision = 1;
}

static void
live(const Life *life)
{
	TableOps	ops = twin_ops();
	PersistMeta meta;
	PersistOptions options = {
		.ops = &ops,
		.dir = home,
		.queue_bytes = life->queue_bytes ? life->queue_bytes : 200000,
		.checkpoint_bytes = life->checkpoint_bytes ? life->checkpoint_bytes
			: 100000,
		.checkpoint_interval_ms = life->checkpoint_ms ? life->checkpoint_ms
			: 60000,
		.on_durable = on_durable,
		.on_defragmented = on_defragmented,
	};

	atomic_store(&shared->defragmented, 0);
	if (life->inject != NULL)
		setenv("CLAVIGER_INJECT", life->inject, 1);
	make_store();
	persist_open_and_load(&options, &meta);
	atomic_store(&shared->loaded_index, meta.applied_index);
	atomic_store(&shared->durable, meta.applied_index);
	dump();
	if (store_draft()->applied_index != meta.applied_index ||
		meta.cluster_id != 77 || meta.member_id != 88 ||
		persist_size_bytes() == 0)
		_exit(8);
	buf_free(&meta.configuration);
	has_tables = true;
	persist_start_thread();
	if (life->defragments)
		live_defragmenting(meta.applied_index + 1, life->until);
	else if (life->until > 0)
		run_entries(meta.applied_index + 1, life->until);
	while (life->no_stop)
		pause();
	if (life->until > 0)
		dump();
	persist_stop();
	if (life->until > meta.applied_index &&
		atomic_load(&shared->durable) != life->until)
		_exit(7);
}

static void
live_without_tables(const Life *life)
{
	make_store();
	has_tables = false;
	run_entries(1, life->until);
	store_draft()->applied_index = life->until;
	store_draft()->applied_term = life->until > 0 ? 1 + life->until / 1000 : 0;
	dump();
}

static pid_t
spawn(void (*fn) (const Life *life), const Life *life)
{
	pid_t		pid;

	assert_int_equal(ftruncate(log_fd, 0), 0);
	pid = fork();
	if (pid == 0)
	{
		fn(life);
		_exit(0);
	}
	return pid;
}

static const char *
log_text(void)
{
	static char buf[65536];
	ssize_t		n = pread(log_fd, buf, sizeof(buf) - 1, 0);

	buf[n < 0 ? 0 : n] = '\0';
	return buf;
}

/* exit status, or 128 + signal */
static int
await(pid_t pid)
{
	int			status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void
expect_end(pid_t pid, int status)
{
	int			got = await(pid);

	if (got != status)
		fail_msg("ended with %d instead of %d: %s", got, status, log_text());
	if (atomic_load(&shared->wrong_durable))
		fail_msg("on_durable was told a wrong index");
}

static void
expect_log(const char *text)
{
	if (strstr(log_text(), text) == NULL)
		fail_msg("not in the log: %s\nbut: %s", text, log_text());
}

static void
remove_home(void)
{
	DIR		   *d = opendir(home);
	struct dirent *e;

	if (d == NULL)
		return;
	while ((e = readdir(d)) != NULL)
		unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
	rmdir(home);
}

static void
initialise(const Life *life)
{
	PersistMeta meta = {.cluster_id = 77, .member_id = 88, .kv_revision = 1};

	buf_init(&meta.configuration, NULL);
	buf_append(&meta.configuration, "conf", 4);
	persist_initialise(&bdb_table_ops, home, &meta);
	buf_free(&meta.configuration);
}

static void
fresh(void)
{
	remove_home();
	memset(shared, 0, sizeof(*shared));
	memset(&twin, 0, sizeof(twin));
	expect_end(spawn(initialise, NULL), 0);
}

/* load what is there: it must be the state at some index in [least, most] */
static uint64_t
expect_prefix(uint64_t least, uint64_t most)
{
	Life		load = {0};
	uint64_t	hash;
	uint64_t	bytes;
	uint64_t	index;

	expect_end(spawn(live, &load), 0);
	hash = atomic_load(&shared->dump_hash);
	bytes = atomic_load(&shared->dump_bytes);
	index = atomic_load(&shared->loaded_index);
	assert_true(index >= least);
	assert_true(index <= most);
	load.until = index;
	expect_end(spawn(live_without_tables, &load), 0);
	assert_true(atomic_load(&shared->dump_bytes) == bytes);
	assert_true(atomic_load(&shared->dump_hash) == hash);
	return index;
}

/* ---- cases ---- */

static void
test_empty(void **state)
{
	fresh();
	expect_prefix(0, 0);
	expect_end(spawn(initialise, NULL), ELOG_EXIT_FATAL);
	expect_log("there are tables in");
	/* and those are as they were */
	expect_prefix(0, 0);
	remove_home();
	expect_end(spawn(live, &(Life) {0}), ELOG_EXIT_FATAL);
	expect_log("could not open the tables in");
}

static void
test_reload_equals(void **state)
{
	fresh();
	for (uint64_t until = 1; until <= ENTRIES; until += 499)
	{
		expect_end(spawn(live, &(Life) {.until = until}), 0);
		assert_true(atomic_load(&shared->dump_bytes) > 100);
		assert_true(expect_prefix(until, until) == until);
	}
	/* checkpoints were made on the way, not only at the end */
	assert_true(atomic_load(&shared->ndurable) > 6);
}

static void
test_kill(void **state)
{
	static const char *const injections[] = {
		"persist-before-commit@3=kill", "persist-after-commit@4=kill",
		"persist-before-checkpoint@2=kill", "persist-after-checkpoint@2=kill",
		"persist-before-commit=kill", "persist-after-commit=kill",
	};
	uint64_t	index = 0;

	fresh();
	for (size_t i = 0; i < lengthof(injections); i++)
	{
		Life		life = {.until = index + 600, .inject = injections[i],
			.checkpoint_bytes = 30000};

		expect_end(spawn(live, &life), 128 + SIGKILL);
		index = expect_prefix(atomic_load(&shared->durable), life.until);
	}
	/* and at any moment */
	for (int i = 0; i < 4; i++)
	{
		Life		life = {.until = index + 500, .no_stop = true,
			.checkpoint_bytes = 40000};
		uint64_t	kill_at = index + 100 + 90 * (uint64_t) i;
		pid_t		pid;

		atomic_store(&shared->submitted, 0);
		pid = spawn(live, &life);
		while (atomic_load(&shared->submitted) < kill_at)
			usleep(100);
		kill(pid, SIGKILL);
		expect_end(pid, 128 + SIGKILL);
		index = expect_prefix(atomic_load(&shared->durable), life.until);
	}
	assert_true(index > 0);
}

/* It changes no record, whatever happens meanwhile. */
static void
test_defragment(void **state)
{
	uint64_t	index = 0;

	fresh();
	expect_end(spawn(live, &(Life) {.until = 900, .defragments = true}), 0);
	index = expect_prefix(900, 900);
	/* a step for each table at least */
	for (int i = 1; i <= TABLE_COUNT; i++)
	{
		char		inject[64];
		Life		life = {.until = index + 300, .inject = inject,
			.checkpoint_bytes = 30000, .defragments = true};

		snprintf(inject, sizeof(inject), "persist-defragment-step@%d=kill", i);
		expect_end(spawn(live, &life), 128 + SIGKILL);
		index = expect_prefix(atomic_load(&shared->durable), life.until);
	}
	/* without a change in between */
	expect_end(spawn(live, &(Life) {.until = index, .defragments = true}), 0);
	expect_prefix(index, index);
}

/* An error of the tables ends the worker, and what is there is a prefix. */
static void
test_errors(void **state)
{
	static const struct
	{
		int		   *counter;
		int			n;
		const char *message;
	}			cases[] = {
		{&twin.fail_put, 1, "could not write to the tables in"},
		{&twin.fail_put, 150, "could not write to the tables in"},
		{&twin.fail_remove, 2, "could not remove from the tables in"},
		{&twin.fail_begin, 2, "could not begin a transaction on the tables in"},
		{&twin.fail_commit, 1, "could not commit to the tables in"},
		{&twin.fail_commit, 4, "could not commit to the tables in"},
		{&twin.fail_checkpoint, 1, "could not checkpoint the tables in"},
		{&twin.fail_checkpoint, 3, "could not checkpoint the tables in"},
	};
	uint64_t	index = 0;

	fresh();
	for (size_t i = 0; i < lengthof(cases); i++)
	{
		/* a small queue, so that there are several transactions */
		Life		life = {.until = index + 400, .checkpoint_bytes = 30000,
			.queue_bytes = 20000};

		*cases[i].counter = cases[i].n;
		expect_end(spawn(live, &life), ELOG_EXIT_PANIC);
		expect_log(cases[i].message);
		expect_log("Input/output error");
		*cases[i].counter = 0;
		index = expect_prefix(atomic_load(&shared->durable), life.until);
	}
	expect_end(spawn(live, &(Life) {.until = index + 100,
			   .inject = "persist-before-commit=error:28"}), ELOG_EXIT_PANIC);
	expect_log("No space left on device");
}

/* rather than ready to run, on a machine that does not let it */
static bool
is_asleep(pid_t pid)
{
	char		path[64];
	char		state_letter = '?';
	FILE	   *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%*d (%*[^)]) %c", &state_letter), 1);
	fclose(file);
	return state_letter == 'S';
}

/* Nothing is written while the gate is closed, so apply must stop. */
static void
test_back_pressure(void **state)
{
	Life		life = {.until = 1000, .queue_bytes = 50000};
	uint64_t	submitted = 0;
	uint64_t	before;
	int64_t		until;
	pid_t		pid;

	fresh();
	atomic_store(&shared->gate_is_closed, true);
	pid = spawn(live, &life);
	until = clock_monotonic_ms() + PATIENCE_MS;
	do
	{
		before = submitted;
		usleep(150000);
		submitted = atomic_load(&shared->submitted);
	} while (clock_monotonic_ms() < until &&
			 (submitted < 20 || submitted != before || !is_asleep(pid)));
	/* an entry is some 1000 bytes: about 50 of them fit */
	assert_true(submitted >= 20);
	assert_true(submitted < 150);
	assert_true(atomic_load(&shared->durable) == 0);
	atomic_store(&shared->gate_is_closed, false);
	expect_end(pid, 0);
	expect_prefix(1000, 1000);

	/* a batch that is larger than the queue goes through all the same */
	fresh();
	life.queue_bytes = 1;
	expect_end(spawn(live, &life), 0);
	expect_prefix(1000, 1000);
}

static void
test_checkpoints(void **state)
{
	Life		life = {.until = 50, .no_stop = true, .checkpoint_ms = 150,
		.checkpoint_bytes = INT64_MAX};
	int64_t		begin;
	uint64_t	ndurable;
	pid_t		pid;

	/* by time, with nothing more coming */
	fresh();
	begin = clock_monotonic_ms();
	pid = spawn(live, &life);
	while (atomic_load(&shared->durable) < 50 &&
		   clock_monotonic_ms() < begin + PATIENCE_MS)
		usleep(1000);
	assert_true(atomic_load(&shared->durable) == 50);
	assert_true(clock_monotonic_ms() >= begin + 150);
	/* and then none without a reason */
	ndurable = atomic_load(&shared->ndurable);
	usleep(400000);
	assert_true(atomic_load(&shared->ndurable) == ndurable);
	kill(pid, SIGKILL);
	expect_end(pid, 128 + SIGKILL);
	expect_prefix(50, 50);

	/* by bytes */
	fresh();
	life = (Life) {.until = 1000, .checkpoint_bytes = 50000};
	expect_end(spawn(live, &life), 0);
	assert_true(atomic_load(&shared->ndurable) >= 3);
}

static void
write_configuration(const Life *life)
{
	PersistMeta meta;
	PersistOptions options = {
		.ops = &bdb_table_ops, .dir = home, .queue_bytes = 1000,
		.checkpoint_bytes = 1000, .checkpoint_interval_ms = 1000,
	};

	make_store();
	persist_open_and_load(&options, &meta);
	if (!bytes_equal_cstr(buf_bytes(&meta.configuration),
						  life->from == 0 ? "conf" : "other") ||
		meta.configuration_index != life->from)
		_exit(6);
	persist_start_thread();
	persist_configuration(B("other"), 5);
	persist_submit(5, 2, 1, 0);
	persist_stop();
}

static void
test_configuration_change(void **state)
{
	fresh();
	expect_end(spawn(write_configuration, &(Life) {.from = 0}), 0);
	expect_end(spawn(write_configuration, &(Life) {.from = 5}), 0);
}

/* ---- what the loader refuses ---- */

/* put a record, or take it away (value.data NULL); old gets the former one */
static void
change_record(TableId table, Bytes key, Bytes value, Buf *old, bool *was_there)
{
	const TableOps *ops = &bdb_table_ops;
	TableEnv   *env;

	assert_int_equal(ops->open(home, false, &env), 0);
	if (old != NULL)
		assert_int_equal(ops->get(env, table, key, old, was_there), 0);
	assert_int_equal(ops->txn_begin(env), 0);
	assert_int_equal(value.data == NULL ? ops->remove(env, table, key)
					 : ops->put(env, table, key, value), 0);
	assert_int_equal(ops->commit(env), 0);
	assert_int_equal(ops->checkpoint(env), 0);
	ops->close(env);
}

#define KEY(mod, sub) B("\0\0\0\0\0\0\0" mod "\0\0\0" sub)
#define NUMBER(n) B("\1\0\0\0\0\0\0\0" n)

static void
test_refusals(void **state)
{
	static const struct
	{
		TableId		table;
		Bytes		key;
		Bytes		value;		/* data NULL: take the record away */
		const char *message;
	}			cases[] = {
		{TABLE_META, B("format"), {0}, "table \"meta\" is not sound at key "
		"0x666f726d6174 (\"format\"): the record is missing"},
		{TABLE_META, B("format"), NUMBER("\2"), "the tables have format 2; "
		"this release reads format 1"},
		{TABLE_META, B("clusterId"), {0}, "(\"clusterId\"): the record is "
		"missing"},
		{TABLE_META, B("clusterId"), NUMBER("\0"), "a cluster id is never 0"},
		{TABLE_META, B("memberId"), B("\2\0\0\0\0\0\0\0\1"),
		"(\"memberId\"): the record is of an unknown version"},
		{TABLE_META, B("memberId"), B("\1\0\0\0\0\0\0\1"),
		"the record is not a number"},
		{TABLE_META, B("appliedIndex"), {0}, "(\"appliedIndex\"): the record "
		"is missing"},
		{TABLE_META, B("appliedTerm"), NUMBER("\7"), "term 7 does not fit "
		"applied index 0"},
		{TABLE_META, B("kvRevision"), NUMBER("\0"), "a revision is never "
		"below 1"},
		{TABLE_META, B("kvRevision"), B("\1\x80\0\0\0\0\0\0\1"),
		"the record is not a revision"},
		{TABLE_META, B("compactedRevision"), NUMBER("\2"), "compacted "
		"revision 2 is beyond revision 1"},
		{TABLE_META, B("configuration"), {0}, "(\"configuration\"): the "
		"record is missing"},
		{TABLE_META, B("configurationIndex"), {0}, "(\"configurationIndex\")"},
		{TABLE_AUTH, B("authEnabled"), {0}, "table \"auth\" is not sound at "
		"key 0x61757468456e61626c6564 (\"authEnabled\"): the record is "
		"missing"},
		{TABLE_AUTH, B("authEnabled"), B("\2"), "neither on nor off"},
		{TABLE_AUTH, B("authRevision"), {0}, "(\"authRevision\"): the record "
		"is missing"},
		{TABLE_AUTH, B("authRevision"), B("\0\0\0\0\0\0\0\0"), "not an auth "
		"revision"},
		{TABLE_USERS, B("eve"), B("\1rubbish"), "table \"authUsers\" is not "
		"sound at key 0x657665 (\"eve\"): the record is not a user"},
		{TABLE_ROLES, B("r\n"), B("\1"), "table \"authRoles\" is not sound at "
		"key 0x720a: the record is not a role"},
		{TABLE_MEMBER, B("short"), B(""), "the key is not a member id"},
		{TABLE_MEMBER, B("\0\0\0\0\0\0\0\1"), B("\1"), "the record is not "
		"this member"},
		{TABLE_LEASE, B("\0\0\0\0\0\0\0\1"), B("\1"), "table \"lease\" is not "
		"sound at key 0x0000000000000001: the record is not a lease"},
		{TABLE_LEASE, B("\0\0\0\0\0\0\0\1"), B("\1\144\0\0"), "not a lease"},
		{TABLE_LEASE, B("\0\0\0\0\0\0\0\1"), B("\1\144\144"), "not a lease"},
		{TABLE_LEASE, B("\0\0\0\0\0\0\0\1"), B("\1\0\0"), "not a lease"},
		{TABLE_LEASE, B("\0\0\0\0\0\0\0\0"), B("\1\144\0"), "not a lease"},
		{TABLE_LEASE, B("\0\0\0\0\0\0\0\1"), B("\2\144\0"), "not a lease"},
		{TABLE_LEASE, B("\1"), B("\1\144\0"), "the key is not a lease id"},
		{TABLE_KEY, KEY("\1", "\0"), B("\1\0\1\1\7\1k"), "revision 1.0 hangs "
		"on lease 7, which does not exist"},
		{TABLE_ALARM, B("a"), B("\1"), "the key is not an alarm"},
		{TABLE_ALARM, B("\0\0\0\0\0\0\0\1\0\0\0\7"), B("\1"),
		"the key is not an alarm"},
		{TABLE_ALARM, B("\0\0\0\0\0\0\0\1\0\0\0\1"), B("\2"),
		"the record is of an unknown version"},
		{TABLE_KEY, B("short"), B("\1"), "the key is not a revision"},
		{TABLE_KEY, KEY("\1", "\0"), B("\2\0\1\1\0\1k"), "table \"key\" is "
		"not sound at key 0x000000000000000100000000: the record of revision "
		"1.0 is not a version of a key"},
		{TABLE_KEY, KEY("\2", "\0"), B("\1\0\2\1\0\1k"), "revision 2 is "
		"beyond the last, 1"},
		{TABLE_KEY, KEY("\1", "\3"), B("\1\0\1\2\0\1k"), "revision 1.3 has "
		"version 2, but was created at 1"},
	};

	fresh();
	for (size_t i = 0; i < lengthof(cases); i++)
	{
		Buf			old;
		bool		was_there;

		buf_init(&old, NULL);
		change_record(cases[i].table, cases[i].key, cases[i].value, &old,
					  &was_there);
		expect_end(spawn(live, &(Life) {0}), ELOG_EXIT_FATAL);
		expect_log(cases[i].message);
		expect_log("HINT: ");
		change_record(cases[i].table, cases[i].key,
					  was_there ? buf_bytes(&old) : BYTES_EMPTY, NULL, NULL);
		buf_free(&old);
	}
	/* mended, it is taken */
	expect_prefix(0, 0);
}

static int
setup(void **state)
{
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(home, sizeof(home), "%s/db", dir);
	log_fd = memfd_create("log", MFD_CLOEXEC);
	fcntl(log_fd, F_SETFL, O_APPEND);
	elog_set_fd(log_fd);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return 0;
}

static int
teardown(void **state)
{
	remove_home();
	munmap(shared, sizeof(*shared));
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_reload_equals),
		cmocka_unit_test(test_kill),
		cmocka_unit_test(test_defragment),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_back_pressure),
		cmocka_unit_test(test_checkpoints),
		cmocka_unit_test(test_configuration_change),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
