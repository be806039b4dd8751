/*
 * persist.c
 *	  The queue from apply to the tables, and the thread that empties it.
 *
 *	apply thread                       persist thread
 *	  persist_put ...  -> filling
 *	  persist_submit   -> queue (bounded) -> a moment later one transaction for
 *	                                         what is queued, up to ~2048
 *	                                         changes, with index, term,
 *	                                         revisions
 *	                                      -> checkpoint by bytes or time
 *	                                      -> on_durable(index, term)
 *
 * A batch is one growing buffer of encoded changes:
 *	u8 what (1 put, 2 remove), u8 table, key, and for a put value
 *	(varint length and bytes each)
 *
 * Nobody waits for the tables, so the thread lets changes gather for LINGER_MS
 * (or LINGER_BYTES): a transaction for each put, and waking up for it, cost
 * more than the put.  What is submitted meanwhile is added to the last batch of
 * the queue.
 *
 * The index given to on_durable is the one whose transaction was committed
 * before the checkpoint began; the same thread does both, one after the other.
 *
 * A stop does not wait for long either: what is still queued after
 * STOP_WRITE_MS is left out, as a crash would leave it out, and the log that is
 * kept has it for the next start.  Removals of compacted versions, which are in
 * no log entry, are found again by the pass that each start makes.
 *
 * Errors of the tables are PANIC: apply has already published what cannot be
 * written here, so the tables would fall behind the log for good, and a later
 * checkpoint would let go of log that they never saw.
 */
#include "server.h"

/* system */
#include <pthread.h>
#include <time.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/injection.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "persist_internal.h"
#include "storage/ipc/control.h"

/* several batches go into one transaction up to this many changes */
#define TRANSACTION_CHANGES 2048
#define BATCH_FIRST_BYTES 4096
/* so long, or until there is so much, changes gather for a transaction */
#define LINGER_MS 10
#define LINGER_BYTES (256 * 1024)
/* so long a stop writes what is queued */
#define STOP_WRITE_MS 3000
/* a buffer up to this size is used again */
#define BATCH_KEEP_BYTES (1024 * 1024)

#define CHANGE_PUT 1
#define CHANGE_REMOVE 2

typedef struct Batch
{
	struct Batch *next;
	Buf			changes;
	uint32_t	nchanges;
	uint32_t	nsubmits;
	uint64_t	index;
	uint64_t	term;
	int64_t		kv_revision;
	int64_t		compacted_revision;
} Batch;

typedef struct Persist
{
	/* set at open, never changed until the end */
	PersistOptions options;
	TableEnv   *env;
	pthread_t	thread;
	bool		has_thread;

	/* apply thread only */
	Batch	   *filling;

	/* protected by lock */
	pthread_mutex_t lock;
	pthread_cond_t has_work;	/* for the persist thread */
	pthread_cond_t has_room;	/* for the apply thread */
	Batch	   *head;
	Batch	   *tail;
	uint64_t	queued_bytes;	/* with those being written */
	uint64_t	waiting_bytes;	/* without them */
	int64_t		waiting_since_ms;
	bool		is_full;		/* apply waits for room */
	Batch	   *spare;			/* an empty one to use again, or NULL */
	bool		is_stopping;
	int64_t		stop_until_ms;	/* then the rest of the queue is left out */
	uint64_t	defragment_wanted;	/* the last ticket given */

	/* persist thread only */
	uint64_t	defragment_running; /* ticket being worked for; 0: none */
	uint64_t	defragment_done;
	TableId		defragment_table;
	Buf			defragment_from;
	uint64_t	committed_index;
	uint64_t	committed_term;
	uint64_t	bytes_since_checkpoint;
	bool		is_dirty;		/* committed since the last checkpoint */
	int64_t		dirty_since_ms;
} Persist;

static Persist persist;

static Batch *batch_create(void);
static void batch_destroy(Batch *batch);
static void batch_recycle(Batch *batch);
static void enqueue(Batch *batch);
static uint64_t batch_bytes(const Batch *batch);
static void add_change(uint8_t what, int table, Bytes key, Bytes value);
static void *persist_main(void *arg);
static bool take_batches(Batch **batches);
static void leave_rest(void);
static void linger(void);
static void write_batches(Batch *first);
static bool defragment_is_due(void);
static bool is_defragmenting(void);
static void defragment_step(void);
static void apply_changes(const Batch *batch);
static void put_progress(const Batch *last);
static void put_number(Bytes name, uint64_t number);
static bool checkpoint_is_due(void);
static int64_t checkpoint_deadline_ms(void);
static void checkpoint(void);
static void check(int rc, const char *what);
static int	initialise_records(const TableOps *ops, TableEnv *env,
							   const PersistMeta *meta);

void
persist_initialise(const TableOps *ops, const char *dir,
				   const PersistMeta *meta)
{
	persist_initialise_filled(ops, dir, meta, NULL, NULL);
}

void
persist_initialise_filled(const TableOps *ops, const char *dir,
						  const PersistMeta *meta, PersistFillFn fill,
						  void *arg)
{
	TableEnv   *env;
	int			rc = ops->open(dir, true, &env);

	if (rc == EEXIST)
		elog_fatal_hint(NULL, "Give an empty data directory.",
						"there are tables in \"%s\" already", dir);
	if (rc != 0)
		elog_fatal("could not create tables in \"%s\": %s", dir,
				   ops->text(NULL, rc));
	if ((rc = ops->txn_begin(env)) != 0 ||
		(rc = initialise_records(ops, env, meta)) != 0 ||
		(rc = INJECTION_POINT("init-records-written")) != 0 ||
		(rc = ops->commit(env)) != 0 ||
		(rc = INJECTION_POINT("init-records-committed")) != 0 ||
		(fill != NULL && (rc = fill(arg, ops, env)) != 0) ||
		(rc = ops->checkpoint(env)) != 0)
		elog_fatal("could not write the first records of the tables in "
				   "\"%s\": %s", dir, ops->text(env, rc));
	ops->close(env);
}

void
persist_open_and_load(const PersistOptions *options, PersistMeta *meta)
{
	pthread_condattr_t attr;
	int			rc;

	persist = (Persist) {.options = *options};
	rc = options->ops->open(options->dir, false, &persist.env);
	if (rc != 0)
		elog_fatal_hint(NULL, TABLES_HINT,
						"could not open the tables in \"%s\": %s",
						options->dir, options->ops->text(NULL, rc));
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&persist.lock, NULL);
	pthread_cond_init(&persist.has_work, &attr);
	pthread_cond_init(&persist.has_room, &attr);
	pthread_condattr_destroy(&attr);

	load_tables(options->ops, persist.env, meta);
	persist.committed_index = meta->applied_index;
	persist.committed_term = meta->applied_term;
	persist.filling = batch_create();
}

void
persist_start_thread(void)
{
	int			rc = pthread_create(&persist.thread, NULL, persist_main, NULL);

	if (rc != 0)
		elog_fatal("could not start the persist thread: %s", strerror(rc));
	persist.has_thread = true;
}

void
persist_put(int table, Bytes key, Bytes value)
{
	add_change(CHANGE_PUT, table, key, value);
}

void
persist_remove(int table, Bytes key)
{
	add_change(CHANGE_REMOVE, table, key, BYTES_EMPTY);
}

void
persist_configuration(Bytes encoded, uint64_t index)
{
	Buf			record;
	uint8_t		number[NUMBER_RECORD_BYTES];

	buf_init(&record, NULL);
	buf_put_u8(&record, TABLES_RECORD_VERSION);
	buf_append(&record, encoded.data, encoded.len);
	persist_put(TABLE_META, META_CONFIGURATION, buf_bytes(&record));
	buf_free(&record);
	number_record_make(index, number);
	persist_put(TABLE_META, META_CONFIGURATION_INDEX,
				bytes_make(number, sizeof(number)));
}

/*
 * A batch that is larger than the whole queue is let in when the queue is
 * empty: it must go somewhere.
 */
void
persist_submit(uint64_t applied_index, uint64_t applied_term,
			   int64_t kv_revision, int64_t compacted_revision)
{
	Batch	   *batch = persist.filling;
	uint64_t	bytes = sizeof(*batch) + batch->changes.len;
	bool		wakes;

	batch->index = applied_index;
	batch->term = applied_term;
	batch->kv_revision = kv_revision;
	batch->compacted_revision = compacted_revision;

	pthread_mutex_lock(&persist.lock);
	while (persist.queued_bytes > 0 &&
		   persist.queued_bytes + bytes > persist.options.queue_bytes)
	{
		persist.is_full = true;
		pthread_cond_signal(&persist.has_work);
		pthread_cond_wait(&persist.has_room, &persist.lock);
	}
	persist.is_full = false;
	wakes = persist.head == NULL ||
		(persist.waiting_bytes < LINGER_BYTES &&
		 persist.waiting_bytes + bytes >= LINGER_BYTES);
	if (persist.head == NULL)
		persist.waiting_since_ms = clock_monotonic_ms();
	persist.queued_bytes += bytes;
	persist.waiting_bytes += bytes;
	enqueue(batch);
	pthread_mutex_unlock(&persist.lock);

	if (wakes)
		pthread_cond_signal(&persist.has_work);
	if (persist.filling == NULL)
		persist.filling = batch_create();
}

uint64_t
persist_defragment(void)
{
	uint64_t	ticket;

	pthread_mutex_lock(&persist.lock);
	ticket = ++persist.defragment_wanted;
	pthread_cond_signal(&persist.has_work);
	pthread_mutex_unlock(&persist.lock);
	return ticket;
}

void
persist_stop(void)
{
	if (persist.has_thread)
	{
		pthread_mutex_lock(&persist.lock);
		persist.is_stopping = true;
		persist.stop_until_ms = clock_monotonic_ms() + STOP_WRITE_MS;
		pthread_cond_signal(&persist.has_work);
		pthread_mutex_unlock(&persist.lock);
		pthread_join(persist.thread, NULL);
		leave_rest();
	}
	persist.options.ops->close(persist.env);
	batch_destroy(persist.filling);
	batch_destroy(persist.spare);
	buf_free(&persist.defragment_from);
	pthread_cond_destroy(&persist.has_work);
	pthread_cond_destroy(&persist.has_room);
	pthread_mutex_destroy(&persist.lock);
	persist = (Persist) {.env = NULL};
}

/* The thread has ended. */
static void
leave_rest(void)
{
	uint64_t	n = 0;

	while (persist.head != NULL)
	{
		Batch	   *batch = persist.head;

		persist.head = batch->next;
		n += batch->nchanges;
		batch_destroy(batch);
	}
	persist.tail = NULL;
	if (n > 0)
		elog_info("%" PRIu64 " changes of the tables are left to the next start",
				  n);
}

uint64_t
persist_size_bytes(void)
{
	return persist.options.ops->size_bytes(persist.env);
}

void
number_record_make(uint64_t number, uint8_t record[NUMBER_RECORD_BYTES])
{
	record[0] = TABLES_RECORD_VERSION;
	for (int i = 0; i < 8; i++)
		record[1 + i] = (uint8_t) (number >> (56 - 8 * i));
}

static Batch *
batch_create(void)
{
	Batch	   *batch = xcalloc(1, sizeof(*batch));

	batch->nsubmits = 1;
	buf_init(&batch->changes, NULL);
	buf_reserve(&batch->changes, BATCH_FIRST_BYTES);
	return batch;
}

static void
batch_destroy(Batch *batch)
{
	if (batch == NULL)
		return;
	buf_free(&batch->changes);
	free(batch);
}

/* keep one for apply, so that a steady stream allocates nothing; lock held */
static void
batch_recycle(Batch *batch)
{
	if (persist.spare != NULL || batch->changes.cap > BATCH_KEEP_BYTES)
	{
		batch_destroy(batch);
		return;
	}
	batch->changes.len = 0;
	batch->nchanges = 0;
	batch->nsubmits = 1;
	batch->next = NULL;
	persist.spare = batch;
}

/* To the end of the queue, and another one to fill in its place; lock held. */
static void
enqueue(Batch *batch)
{
	Batch	   *tail = persist.tail;

	if (tail != NULL &&
		tail->nchanges + batch->nchanges <= TRANSACTION_CHANGES &&
		tail->changes.len + batch->changes.len <= BATCH_KEEP_BYTES)
	{
		buf_append(&tail->changes, batch->changes.data, batch->changes.len);
		tail->nchanges += batch->nchanges;
		tail->nsubmits++;
		tail->index = batch->index;
		tail->term = batch->term;
		tail->kv_revision = batch->kv_revision;
		tail->compacted_revision = batch->compacted_revision;
		batch->changes.len = 0;
		batch->nchanges = 0;
		return;
	}
	if (tail == NULL)
		persist.head = batch;
	else
		tail->next = batch;
	persist.tail = batch;
	persist.filling = persist.spare;
	persist.spare = NULL;
}

static uint64_t
batch_bytes(const Batch *batch)
{
	return batch->nsubmits * sizeof(*batch) + batch->changes.len;
}

static void
add_change(uint8_t what, int table, Bytes key, Bytes value)
{
	Buf		   *changes = &persist.filling->changes;

	Assert(table >= 0 && table < TABLE_COUNT);
	buf_put_u8(changes, what);
	buf_put_u8(changes, (uint8_t) table);
	buf_put_bytes(changes, key);
	if (what == CHANGE_PUT)
		buf_put_bytes(changes, value);
	persist.filling->nchanges++;
}

/* Thread: persist. */
static void *
persist_main(void *arg)
{
	Batch	   *batches;

	(void) pthread_setname_np(pthread_self(), "clav persist");
	while (take_batches(&batches))
	{
		if (batches != NULL)
			write_batches(batches);
		if (checkpoint_is_due())
			checkpoint();
		if (is_defragmenting())
			defragment_step();
	}
	if (persist.is_dirty)
		checkpoint();
	return NULL;
}

/*
 * Wait for batches and give those for one transaction as a list; NULL when a
 * checkpoint is due by time instead.  False when stopping and nothing is left,
 * or no time.
 */
static bool
take_batches(Batch **batches)
{
	Batch	   *last;
	bool		is_time = false;
	bool		go_on;

	pthread_mutex_lock(&persist.lock);
	while (persist.head == NULL && !persist.is_stopping && !is_time &&
		   !defragment_is_due())
	{
		int64_t		deadline = checkpoint_deadline_ms();
		struct timespec until = {
			.tv_sec = deadline / 1000,
			.tv_nsec = deadline % 1000 * 1000000,
		};

		if (!persist.is_dirty)
			pthread_cond_wait(&persist.has_work, &persist.lock);
		else
			is_time = pthread_cond_timedwait(&persist.has_work, &persist.lock,
											 &until) == ETIMEDOUT;
	}
	linger();
	if (persist.is_stopping && clock_monotonic_ms() >= persist.stop_until_ms)
	{
		pthread_mutex_unlock(&persist.lock);
		*batches = NULL;
		return false;
	}
	*batches = last = persist.head;
	go_on = last != NULL || !persist.is_stopping;
	if (last != NULL)
	{
		uint32_t	nchanges = last->nchanges;

		persist.waiting_bytes -= batch_bytes(last);
		while (last->next != NULL &&
			   nchanges + last->next->nchanges <= TRANSACTION_CHANGES)
		{
			last = last->next;
			nchanges += last->nchanges;
			persist.waiting_bytes -= batch_bytes(last);
		}
		persist.head = last->next;
		if (persist.head == NULL)
			persist.tail = NULL;
		last->next = NULL;
	}
	pthread_mutex_unlock(&persist.lock);
	return go_on;
}

/* Lock held; it is given back meanwhile. */
static void
linger(void)
{
	int64_t		until_ms = persist.waiting_since_ms + LINGER_MS;
	struct timespec until = {
		.tv_sec = until_ms / 1000,
		.tv_nsec = until_ms % 1000 * 1000000,
	};

	while (persist.head != NULL && persist.waiting_bytes < LINGER_BYTES &&
		   !persist.is_full && !persist.is_stopping)
	{
		if (pthread_cond_timedwait(&persist.has_work, &persist.lock,
								   &until) == ETIMEDOUT)
			return;
	}
}

/* All batches of the list in one transaction, with the progress of the last. */
static void
write_batches(Batch *first)
{
	const TableOps *ops = persist.options.ops;
	int64_t		begun_us;
	uint64_t	bytes = 0;
	Batch	   *last = first;

	begun_us = clock_monotonic_us();
	check(ops->txn_begin(persist.env), "begin a transaction on");
	for (Batch *batch = first; batch != NULL; batch = batch->next)
	{
		apply_changes(batch);
		check(INJECTION_POINT("persist-in-transaction"), "write to");
		bytes += batch_bytes(batch);
		last = batch;
	}
	put_progress(last);
	check(INJECTION_POINT("persist-before-commit"), "commit to");
	check(ops->commit(persist.env), "commit to");
	check(INJECTION_POINT("persist-after-commit"), "commit to");
	histogram_observe(HISTOGRAM_TABLE_COMMIT, clock_monotonic_us() - begun_us);

	persist.committed_index = last->index;
	persist.committed_term = last->term;
	persist.bytes_since_checkpoint += bytes;
	if (!persist.is_dirty)
		persist.dirty_since_ms = clock_monotonic_ms();
	persist.is_dirty = true;

	pthread_mutex_lock(&persist.lock);
	while (first != NULL)
	{
		Batch	   *next = first->next;

		batch_recycle(first);
		first = next;
	}
	persist.queued_bytes -= bytes;
	pthread_cond_signal(&persist.has_room);
	pthread_mutex_unlock(&persist.lock);
}

/* Lock held. */
static bool
defragment_is_due(void)
{
	return persist.defragment_wanted > persist.defragment_done;
}

/* Take a ticket if there is one and none is worked for. */
static bool
is_defragmenting(void)
{
	if (persist.defragment_running != 0)
		return true;
	pthread_mutex_lock(&persist.lock);
	if (defragment_is_due() && !persist.is_stopping)
		persist.defragment_running = persist.defragment_wanted;
	pthread_mutex_unlock(&persist.lock);
	persist.defragment_table = 0;
	persist.defragment_from.len = 0;
	return persist.defragment_running != 0;
}

/*
 * A little of one table.  Batches go on in between, so the tables keep up with
 * apply.  A step that fails has changed nothing, and nobody needs it: the rest
 * is left.
 */
static void
defragment_step(void)
{
	const TableOps *ops = persist.options.ops;
	int			rc = ops->compact(persist.env, persist.defragment_table,
								  &persist.defragment_from);

	(void) INJECTION_POINT("persist-defragment-step");
	if (rc != 0)
		elog_warning("could not defragment table \"%s\": %s",
					 table_name(persist.defragment_table),
					 ops->text(persist.env, rc));
	if (rc == 0 && persist.defragment_from.len > 0)
		return;
	persist.defragment_from.len = 0;
	if (rc == 0 && ++persist.defragment_table < TABLE_COUNT)
		return;
	/* files get shorter, and old log files go */
	checkpoint();
	persist.defragment_done = persist.defragment_running;
	persist.defragment_running = 0;
	if (persist.options.on_defragmented != NULL)
		persist.options.on_defragmented(persist.options.arg,
										persist.defragment_done);
}

static void
apply_changes(const Batch *batch)
{
	const TableOps *ops = persist.options.ops;
	Cursor		cur = cursor_make(buf_bytes(&batch->changes));
	uint8_t		what;
	uint8_t		table;
	Bytes		key;
	Bytes		value;

	while (cursor_left(&cur) > 0)
	{
		bool		ok = cursor_get_u8(&cur, &what) &&
			cursor_get_u8(&cur, &table) && cursor_get_bytes(&cur, &key);

		if (ok && what == CHANGE_PUT)
		{
			ok = cursor_get_bytes(&cur, &value);
			if (ok)
				check(ops->put(persist.env, (TableId) table, key, value),
					  "write to");
		}
		else if (ok)
			check(ops->remove(persist.env, (TableId) table, key),
				  "remove from");
		/* only memory that was overwritten can do this: PANIC */
		if (!ok)
			elog_panic("a batch for the tables is damaged in memory");
	}
}

static void
put_progress(const Batch *last)
{
	put_number(META_APPLIED_INDEX, last->index);
	put_number(META_APPLIED_TERM, last->term);
	put_number(META_KV_REVISION, (uint64_t) last->kv_revision);
	put_number(META_COMPACTED_REVISION, (uint64_t) last->compacted_revision);
}

static void
put_number(Bytes name, uint64_t number)
{
	uint8_t		record[NUMBER_RECORD_BYTES];

	number_record_make(number, record);
	check(persist.options.ops->put(persist.env, TABLE_META, name,
								   bytes_make(record, sizeof(record))),
		  "write to");
}

static bool
checkpoint_is_due(void)
{
	return persist.is_dirty &&
		(persist.bytes_since_checkpoint >= persist.options.checkpoint_bytes ||
		 clock_monotonic_ms() >= checkpoint_deadline_ms());
}

static int64_t
checkpoint_deadline_ms(void)
{
	return persist.dirty_since_ms + persist.options.checkpoint_interval_ms;
}

static void
checkpoint(void)
{
	bool		has_news = persist.is_dirty;

	check(INJECTION_POINT("persist-before-checkpoint"), "checkpoint");
	check(persist.options.ops->checkpoint(persist.env), "checkpoint");
	check(INJECTION_POINT("persist-after-checkpoint"), "checkpoint");
	persist.is_dirty = false;
	persist.bytes_since_checkpoint = 0;
	(void) INJECTION_POINT("persist-before-durable");
	if (has_news && persist.options.on_durable != NULL)
		persist.options.on_durable(persist.options.arg,
								   persist.committed_index,
								   persist.committed_term);
}

/* PANIC, not FATAL: see the head of this file */
static void
check(int rc, const char *what)
{
	if (unlikely(rc != 0))
		elog_panic("could not %s the tables in \"%s\": %s", what,
				   persist.options.dir,
				   persist.options.ops->text(persist.env, rc));
}

static int
initialise_records(const TableOps *ops, TableEnv *env, const PersistMeta *meta)
{
	static const uint8_t off[] = {0};
	static const uint8_t one[] = {0, 0, 0, 0, 0, 0, 0, 1};
	const struct
	{
		Bytes		name;
		uint64_t	number;
	}			numbers[] = {
		{META_FORMAT, TABLES_FORMAT_VERSION},
		{META_CLUSTER_ID, meta->cluster_id},
		{META_MEMBER_ID, meta->member_id},
		{META_APPLIED_INDEX, meta->applied_index},
		{META_APPLIED_TERM, meta->applied_term},
		{META_KV_REVISION, (uint64_t) meta->kv_revision},
		{META_COMPACTED_REVISION, (uint64_t) meta->compacted_revision},
		{META_CONFIGURATION_INDEX, meta->configuration_index},
	};
	Buf			configuration;
	int			rc = 0;

	for (size_t i = 0; rc == 0 && i < lengthof(numbers); i++)
	{
		uint8_t		record[NUMBER_RECORD_BYTES];

		number_record_make(numbers[i].number, record);
		rc = ops->put(env, TABLE_META, numbers[i].name,
					  bytes_make(record, sizeof(record)));
	}
	buf_init(&configuration, NULL);
	buf_put_u8(&configuration, TABLES_RECORD_VERSION);
	buf_append(&configuration, meta->configuration.data,
			   meta->configuration.len);
	if (rc == 0)
		rc = ops->put(env, TABLE_META, META_CONFIGURATION,
					  buf_bytes(&configuration));
	buf_free(&configuration);
	if (rc == 0)
		rc = ops->put(env, TABLE_AUTH, AUTH_ENABLED,
					  bytes_make(off, sizeof(off)));
	if (rc == 0)
		rc = ops->put(env, TABLE_AUTH, AUTH_REVISION,
					  bytes_make(one, sizeof(one)));
	return rc;
}
