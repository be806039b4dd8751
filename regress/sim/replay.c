/*
 * replay.c
 *	  The agreed entries carried out by the real apply, once for each member.
 *
 * The store belongs to a process, so members cannot apply side by side.  While
 * a seed runs, each member notes what happened to its state: batches as they
 * were published, checkpoints, restarts, states of others that it installed.
 * Afterwards each history is gone through from the beginning, one after the
 * other, with real apply, real loading of tables, and rows in memory in the
 * place of Berkeley DB.  At the end all states must be the same: keys with all
 * their versions, users, roles, members, revisions; and the rows as well.
 */
#include "server.h"

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "apply/apply.h"
#include "auth/authstate.h"
#include "lease/lease.h"
#include "member/member.h"
#include "mvcc/mvcc.h"
#include "sim.h"
#include "storage/bdb/persist.h"
#include "storage/ipc/control.h"

#define STORE_BYTES ((size_t) 128 * 1024 * 1024)
#define CANONICAL_BATCH 64

typedef struct Row
{
	TableId		table;
	Bytes		key;			/* of malloc(), like value */
	Bytes		value;
} Row;

typedef struct Rows
{
	Row		   *rows;
	size_t		n;
	size_t		cap;
} Rows;

/* rows as of an index at which some member installed another's state */
typedef struct Image
{
	uint64_t	index;
	Rows		rows;
} Image;

static Rows live;				/* what apply has said */
static Rows durable;			/* as of the last checkpoint */
static Image *images;
static size_t nimages;
static ApplyState *apply;
static uint64_t naccepted;
static uint64_t nrefused;

static void collect_images(void);
static const Rows *image_at(uint64_t index);
static void start_world(void);
static void end_world(void);
static void load_world(uint64_t log_last);
static void go_through(const Member *m);
static void go_through_canonical(void);
static void apply_batch(uint64_t to);
static void set_progress(void);
static void set_number(Bytes name, uint64_t number);
static void finish(Buf *state);
static void dump_state(Buf *out);
static void dump_keys(Buf *out, const StoreVersion *v);
static void dump_lease(Buf *out, const LeaseEntry *lease);
static bool is_same(const Buf *a, const Buf *b);

static int	rows_open(const char *dir, bool create, TableEnv **env);
static void rows_close(TableEnv *env);
static int	rows_nothing(TableEnv *env);
static void rows_abort(TableEnv *env);
static int	rows_put(TableEnv *env, TableId table, Bytes key, Bytes value);
static int	rows_remove(TableEnv *env, TableId table, Bytes key);
static int	rows_get(TableEnv *env, TableId table, Bytes key, Buf *out,
					 bool *found);
static int	rows_scan(TableEnv *env, TableId table,
					  bool (*fn) (void *arg, Bytes key, Bytes value),
					  void *arg);
static uint64_t rows_size(TableEnv *env);
static const char *rows_text(TableEnv *env, int code);
static size_t row_find(TableId table, Bytes key, bool *found);
static Bytes copy_bytes(Bytes b);
static void rows_copy(Rows *to, const Rows *from);
static void rows_clear(Rows *rows);
static void persist_row(void *arg, int table, Bytes key, Bytes value);
static void persist_no_row(void *arg, int table, Bytes key);

static const TableOps row_ops = {
	.open = rows_open,
	.close = rows_close,
	.txn_begin = rows_nothing,
	.put = rows_put,
	.remove = rows_remove,
	.commit = rows_nothing,
	.abort = rows_abort,
	.checkpoint = rows_nothing,
	.get = rows_get,
	.scan = rows_scan,
	.size_bytes = rows_size,
	.text = rows_text,
};

Verdict
replay_check(void)
{
	ControlSizes sizes = {
		.nslots = 2,
		.max_request_bytes = 65536,
		.token_cache_entries = 64,
		.hash_slots = 1,
		.hash_queue = 4,
	};
	Buf			want;
	Verdict		verdict = SIM_OK;

	if (!control_create(&sizes))
		violation("no shared memory for the replay");
	control_attach_slot(control_claim_slot());
	store_use_populate_thread(false);
	collect_images();
	go_through_canonical();
	finish(&want);
	for (uint32_t i = 0; i < MAX_MEMBERS; i++)
	{
		Buf			got;

		if (!members[i].is_used || members[i].applied != agreed_last)
			continue;
		go_through(&members[i]);
		finish(&got);
		if (!is_same(&want, &got))
		{
			printf("member %" PRIu64 " has another state\n", members[i].id);
			verdict = SIM_STATES_DIFFER;
		}
		buf_free(&got);
	}
	trace("carried out: %" PRIu64 " operations, %" PRIu64 " refused; the "
		  "state is %zu bytes as text", naccepted, nrefused, want.len);
	if (naccepted == 0)
		violation("no operation was accepted: the check is void");
	return verdict;
}

/* ---- worlds ---- */

static void
collect_images(void)
{
	for (uint32_t i = 0; i < MAX_MEMBERS; i++)
	{
		for (uint32_t k = 0; k < members[i].nhistory; k++)
		{
			const History *h = &members[i].history[k];

			if (!members[i].is_used || h->kind != HISTORY_INSTALL)
				continue;
			images = xrealloc(images, (nimages + 1) * sizeof(*images));
			images[nimages++] = (Image) {.index = h->index};
		}
	}
}

static const Rows *
image_at(uint64_t index)
{
	for (size_t i = 0; i < nimages; i++)
	{
		if (images[i].index == index)
			return &images[i].rows;
	}
	return NULL;
}

/* the first state: nothing, at index 1 */
static void
start_world(void)
{
	PersistMeta meta = {
		.cluster_id = 1,
		.member_id = 1,
		.applied_index = 1,
		.applied_term = 1,
		.kv_revision = 1,
		.configuration_index = 1,
	};

	rows_clear(&live);
	buf_put_u8(&meta.configuration, 1);
	persist_initialise(&row_ops, "rows", &meta);
	buf_free(&meta.configuration);
	rows_copy(&durable, &live);
	load_world(1);
}

static void
end_world(void)
{
	apply_destroy(apply);
	apply = NULL;
	persist_stop();
	store_destroy();
}

/* rows to state, as at every start of the raft worker */
static void
load_world(uint64_t log_last)
{
	static const ApplyPersist persist = {persist_row, persist_no_row, NULL};
	PersistOptions table_options = {.ops = &row_ops, .dir = "rows",
		.queue_bytes = 1024};
	PersistMeta meta;

	memset(&meta, 0, sizeof(meta));
	if (!store_create(STORE_BYTES))
		violation("no memory for the store");
	store_attach_writer();
	persist_open_and_load(&table_options, &meta);
	buf_free(&meta.configuration);
	apply = apply_create(&persist, log_last);
}

static void
go_through(const Member *m)
{
	start_world();
	for (uint32_t i = 0; i < m->nhistory; i++)
	{
		const History *h = &m->history[i];

		switch (h->kind)
		{
			case HISTORY_BATCH:
				apply_batch(h->index);
				if (i % 3 == 0)
					(void) apply_idle_step(apply);
				break;
			case HISTORY_CHECKPOINT:
				set_progress();
				rows_copy(&durable, &live);
				break;
			case HISTORY_RESTART:
				end_world();
				rows_copy(&live, &durable);
				load_world(h->index);
				break;
			case HISTORY_INSTALL:
				end_world();
				rows_copy(&live, image_at(h->index));
				rows_copy(&durable, &live);
				load_world(h->index);
				break;
		}
	}
}

/* without any trouble, and with an image wherever somebody takes one */
static void
go_through_canonical(void)
{
	uint64_t	index = 1;

	start_world();
	while (index < agreed_last)
	{
		uint64_t	to = index + CANONICAL_BATCH;

		for (size_t i = 0; i < nimages; i++)
		{
			if (images[i].index > index && images[i].index < to)
				to = images[i].index;
		}
		if (to > agreed_last)
			to = agreed_last;
		apply_batch(to);
		index = to;
		set_progress();
		for (size_t i = 0; i < nimages; i++)
		{
			if (images[i].index == index)
				rows_copy(&images[i].rows, &live);
		}
	}
}

static void
apply_batch(uint64_t to)
{
	apply_batch_begin(apply);
	for (uint64_t index = store_draft()->applied_index + 1; index <= to;
		 index++)
	{
		const Agreed *entry = agreed_at(index);
		ApplyResult result;

		apply_entry(apply, index, entry->term, entry->type == ENTRY_COMMAND ?
					entry->data : BYTES_EMPTY, index % 5 == 0, &result);
		naccepted += entry->type == ENTRY_COMMAND && result.error == ERR_NONE;
		nrefused += result.error != ERR_NONE;
		if (result.body != NULL)
			store_retire(result.body, result.body_len);
	}
	apply_batch_end(apply);
}

/* what the persist thread writes beside the rows of a batch */
static void
set_progress(void)
{
	const StoreVersion *v = store_draft();

	set_number(BYTES_LITERAL("appliedIndex"), v->applied_index);
	set_number(BYTES_LITERAL("appliedTerm"), v->applied_term);
	set_number(BYTES_LITERAL("kvRevision"), (uint64_t) v->kv_revision);
	set_number(BYTES_LITERAL("compactedRevision"),
			   (uint64_t) v->compacted_revision);
}

static void
set_number(Bytes name, uint64_t number)
{
	Buf			record;

	buf_init(&record, NULL);
	buf_put_u8(&record, TABLES_RECORD_VERSION);
	buf_put_u64be(&record, number);
	(void) rows_put(NULL, TABLE_META, name, buf_bytes(&record));
	buf_free(&record);
}

/* ---- what must be the same ---- */

static void
finish(Buf *state)
{
	while (apply_idle_step(apply))
		;
	set_progress();
	buf_init(state, NULL);
	dump_state(state);
	end_world();
}

static void
dump_state(Buf *out)
{
	const StoreVersion *v = store_draft();
	CowCursor	cursor;
	const CowItem *item;

	buf_printf(out, "index %" PRIu64 " revision %" PRId64 " compacted %" PRId64
			   " auth %" PRIu64 " %d live %" PRIu64 " keys %" PRIu64 "\n",
			   v->applied_index, v->kv_revision, v->compacted_revision,
			   v->auth_revision, v->auth_enabled, v->live_bytes,
			   v->keys.nitems);
	dump_keys(out, v);
	for (item = cowtree_seek(&v->users, &cursor, BYTES_EMPTY); item != NULL;
		 item = cowtree_next(&cursor))
		user_encode((const UserEntry *) item, out);
	for (item = cowtree_seek(&v->roles, &cursor, BYTES_EMPTY); item != NULL;
		 item = cowtree_next(&cursor))
		role_encode((const RoleEntry *) item, out);
	for (item = cowtree_seek(&v->leases, &cursor, BYTES_EMPTY); item != NULL;
		 item = cowtree_next(&cursor))
		dump_lease(out, lease_from_item(item));
	for (item = cowtree_seek(&v->members, &cursor, BYTES_EMPTY); item != NULL;
		 item = cowtree_next(&cursor))
	{
		MemberInfo	info = member_info((const MemberEntry *) item);

		member_encode(&info, out);
	}
	for (size_t i = 0; i < live.n; i++)
	{
		buf_printf(out, "\n%d:", (int) live.rows[i].table);
		buf_put_bytes(out, live.rows[i].key);
		buf_put_bytes(out, live.rows[i].value);
	}
}

/* all but the clock, which each member has for itself */
static void
dump_lease(Buf *out, const LeaseEntry *lease)
{
	LeaseKeyCursor cursor;

	buf_printf(out, "lease %" PRId64 " granted %" PRId64 " rest %" PRId64
			   " keys %" PRIu64 ":", lease->id, lease->granted_sec,
			   lease->remaining_sec, lease_nkeys(lease));
	for (const KvVersion *kv = lease_keys_seek(lease, &cursor, BYTES_EMPTY);
		 kv != NULL; kv = lease_keys_next(&cursor))
		buf_printf(out, " %" PRId64 ".%" PRIu32, kv->mod_revision,
				   kv->sub_revision);
	buf_put_u8(out, '\n');
}

static void
dump_keys(Buf *out, const StoreVersion *v)
{
	CowCursor	cursor;

	for (const CowItem *item = cowtree_seek(&v->keys, &cursor, BYTES_EMPTY);
		 item != NULL; item = cowtree_next(&cursor))
	{
		for (const KvVersion *kv = (const KvVersion *) item; kv != NULL;
			 kv = atomic_load(&kv->prev))
		{
			buf_printf(out, "key %" PRId64 ".%u %" PRId64 " %" PRId64 " "
					   "%" PRId64 " ", kv->mod_revision, kv->sub_revision,
					   kv->create_revision, kv->version, kv->lease);
			buf_put_bytes(out, kvversion_key(kv));
			buf_put_bytes(out, kvversion_value(kv));
		}
	}
}

static bool
is_same(const Buf *a, const Buf *b)
{
	size_t		i = 0;

	while (i < a->len && i < b->len && a->data[i] == b->data[i])
		i++;
	if (i == a->len && i == b->len)
		return true;
	printf("states of %zu and %zu bytes differ at %zu\n", a->len, b->len, i);
	return false;
}

/* ---- rows ---- */

static int
rows_open(const char *dir, bool create, TableEnv **env)
{
	*env = NULL;
	return 0;
}

static void
rows_close(TableEnv *env)
{
}

static int
rows_nothing(TableEnv *env)
{
	return 0;
}

static void
rows_abort(TableEnv *env)
{
}

static int
rows_put(TableEnv *env, TableId table, Bytes key, Bytes value)
{
	bool		found;
	size_t		i = row_find(table, key, &found);

	if (found)
		free((void *) live.rows[i].value.data);
	else
	{
		if (live.n == live.cap)
		{
			live.cap = live.cap == 0 ? 256 : live.cap * 2;
			live.rows = xrealloc(live.rows, live.cap * sizeof(*live.rows));
		}
		memmove(&live.rows[i + 1], &live.rows[i],
				(live.n - i) * sizeof(*live.rows));
		live.n++;
		live.rows[i] = (Row) {.table = table, .key = copy_bytes(key)};
	}
	live.rows[i].value = copy_bytes(value);
	return 0;
}

static int
rows_remove(TableEnv *env, TableId table, Bytes key)
{
	bool		found;
	size_t		i = row_find(table, key, &found);

	if (!found)
		return 0;
	free((void *) live.rows[i].key.data);
	free((void *) live.rows[i].value.data);
	live.n--;
	memmove(&live.rows[i], &live.rows[i + 1],
			(live.n - i) * sizeof(*live.rows));
	return 0;
}

static int
rows_get(TableEnv *env, TableId table, Bytes key, Buf *out, bool *found)
{
	size_t		i = row_find(table, key, found);

	if (*found)
		buf_append(out, live.rows[i].value.data, live.rows[i].value.len);
	return 0;
}

static int
rows_scan(TableEnv *env, TableId table,
		  bool (*fn) (void *arg, Bytes key, Bytes value), void *arg)
{
	bool		found;

	for (size_t i = row_find(table, BYTES_EMPTY, &found);
		 i < live.n && live.rows[i].table == table; i++)
	{
		if (!fn(arg, live.rows[i].key, live.rows[i].value))
			return ECANCELED;
	}
	return 0;
}

static uint64_t
rows_size(TableEnv *env)
{
	return 0;
}

static const char *
rows_text(TableEnv *env, int code)
{
	return strerror(code);
}

/* where the row is, or where it belongs */
static size_t
row_find(TableId table, Bytes key, bool *found)
{
	size_t		low = 0;
	size_t		high = live.n;

	*found = false;
	while (low < high)
	{
		size_t		middle = (low + high) / 2;
		const Row  *row = &live.rows[middle];
		int			c = row->table != table ? (int) row->table - (int) table :
			bytes_compare(row->key, key);

		if (c < 0)
			low = middle + 1;
		else
		{
			high = middle;
			*found = *found || c == 0;
		}
	}
	return low;
}

static Bytes
copy_bytes(Bytes b)
{
	uint8_t    *copy = xmalloc(b.len + 1);

	memcpy(copy, b.data, b.len);
	return bytes_make(copy, b.len);
}

static void
rows_copy(Rows *to, const Rows *from)
{
	rows_clear(to);
	if (to->cap < from->n)
	{
		to->cap = from->n;
		to->rows = xrealloc(to->rows, to->cap * sizeof(*to->rows));
	}
	for (; to->n < from->n; to->n++)
		to->rows[to->n] = (Row) {from->rows[to->n].table,
			copy_bytes(from->rows[to->n].key),
			copy_bytes(from->rows[to->n].value)};
}

static void
rows_clear(Rows *rows)
{
	for (size_t i = 0; i < rows->n; i++)
	{
		free((void *) rows->rows[i].key.data);
		free((void *) rows->rows[i].value.data);
	}
	rows->n = 0;
}

static void
persist_row(void *arg, int table, Bytes key, Bytes value)
{
	(void) rows_put(NULL, (TableId) table, key, value);
}

static void
persist_no_row(void *arg, int table, Bytes key)
{
	(void) rows_remove(NULL, (TableId) table, key);
}
