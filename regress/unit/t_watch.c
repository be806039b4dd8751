/*
 * t_watch.c
 *	  A backend's watches and the worker's registry, over a real version log,
 *	  against a model.
 *
 * Both sides run in this one process; the rings between them are doubles.
 * Random puts, deletes and compactions go on while watches of random ranges
 * and start revisions come and go, stall and go on, and registrations, wake-ups
 * and turns happen late.  Each watch must be told exactly the versions of its
 * range from its start on, each revision as a whole; or that it has ended.
 */
/* needs: watch mvcc lease/lease storage/snap common */
#include "server.h"

/* system */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* lib and utils */
#include "utils/clock.h"

/* this layer and below */
#include "mvcc/mvcc.h"
#include "mvcc/vlog.h"
#include "storage/ipc/control.h"
#include "storage/ipc/ring.h"
#include "watch/registry.h"
#include "watch/watch.h"

#define B(s) BYTES_LITERAL(s)
#define STORE_BYTES ((size_t) 256 * 1024 * 1024)
#define MAX_EVENTS 40000
#define MAX_WATCHES 60
#define NKEYS 30

/* ---- doubles ---- */

static StorePinWord pin_word;
static StorePinWord *
get_pin_word(uint32_t i)
{
	return &pin_word;
}

static ProcSlot slots[4];
static ControlSizes sizes = {.nslots = 4};
static Buf	submitted;
static bool has_submitted;
static bool ring_is_full;
static int	nnotified;
static int	nsubmissions;

ProcSlot *
control_slot(int slot)
{
	return &slots[slot];
}

ProcSlot *
control_self(void)
{
	return &slots[1];
}

const ControlSizes *
control_sizes(void)
{
	return &sizes;
}

bool
ring_submit(SubmitKind kind, uint64_t request_id, Bytes payload)
{
	assert_int_equal(kind, SUBMIT_WATCH);
	assert_true(request_id == WATCH_RING_ID);
	assert_false(has_submitted);
	assert_in_range(payload.len, 1, RING_PAYLOAD_SLACK);
	if (ring_is_full)
		return false;
	nsubmissions++;
	submitted.len = 0;
	buf_append(&submitted, payload.data, payload.len);
	has_submitted = true;
	return true;
}

void
ring_notify(uint32_t slot)
{
	nnotified++;
}

void
ring_flush_completions(void)
{
}

/* ---- the world: one history, some watches ---- */

typedef struct Event
{
	int			key;
	int64_t		revision;
	bool		is_delete;
} Event;

typedef struct TestWatch
{
	Watch		watch;			/* first */
	char		begin[8];
	char		end[8];
	bool		is_used;
	bool		is_blocked;
	bool		is_forbidden;
	size_t		next;			/* event that it must be told next */
	ErrCode		ended;
	int64_t		ended_at;		/* compacted revision then */
	int			nevents;
} TestWatch;

static char keys[NKEYS][8];
static Event events[MAX_EVENTS];
static size_t nevents;
static TestWatch watches[MAX_WATCHES];
static MemContext *scratch;
static uint64_t rng;
static int64_t told_beyond;		/* no event after this revision may be told */

static uint32_t
rnd(uint32_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t) (rng % n);
}

static bool
test_may_take(Watch *watch)
{
	return !((TestWatch *) watch)->is_blocked;
}

static ErrCode
test_authorize(Watch *watch, const StoreVersion *v)
{
	return ((TestWatch *) watch)->is_forbidden ? ERR_PERMISSION_DENIED : ERR_NONE;
}

/* the model's next event that concerns the watch */
static size_t
next_event(const TestWatch *w, size_t from)
{
	while (from < nevents &&
		   (events[from].revision < w->watch.start_revision ||
			!keyrange_contains(&w->watch.range,
							   bytes_from_cstr(keys[events[from].key]))))
		from++;
	return from;
}

static void
test_events(Watch *watch, const StoreVersion *v, const KvVersion *const *kvs,
			size_t n)
{
	TestWatch  *w = (TestWatch *) watch;
	size_t		at;

	assert_true(n > 0);
	assert_false(w->is_blocked);
	for (size_t i = 0; i < n; i++)
	{
		w->next = next_event(w, w->next);
		assert_true(w->next < nevents);
		assert_int_equal(kvs[i]->mod_revision, events[w->next].revision);
		assert_true(bytes_equal_cstr(kvversion_key(kvs[i]),
									 keys[events[w->next].key]));
		assert_int_equal(kvversion_is_tombstone(kvs[i]),
						 events[w->next].is_delete);
		assert_true(kvs[i]->mod_revision <= v->kv_revision);
		assert_true(kvs[i]->mod_revision <= told_beyond);
		w->next++;
		w->nevents++;
	}
	/* a revision is never cut */
	at = next_event(w, w->next);
	assert_true(at == nevents ||
				events[at].revision != kvs[n - 1]->mod_revision);
}

static void
test_ended(Watch *watch, const StoreVersion *v, ErrCode error)
{
	TestWatch  *w = (TestWatch *) watch;

	assert_false(watch_is_started(watch));
	w->ended = error;
	w->ended_at = v->compacted_revision;
}

static const WatchOps test_ops = {
	.may_take = test_may_take,
	.authorize = test_authorize,
	.events = test_events,
	.ended = test_ended,
};

static void
world_open(void)
{
	scratch = mcx_create(NULL, "scratch");
	assert_true(store_create(STORE_BYTES));
	store_use_populate_thread(false);
	store_attach_writer();
	memset(&pin_word, 0, sizeof(pin_word));
	store_set_pin_words(get_pin_word, 1);
	store_set_own_pin_word(&pin_word);
	store_set_wipe_freed(true);
	mvcc_compact_resume(store_draft());
	memset(slots, 0, sizeof(slots));
	atomic_store(&slots[1].generation, 7);
	nevents = 0;
	memset(watches, 0, sizeof(watches));
	told_beyond = INT64_MAX;
	for (int i = 0; i < NKEYS; i++)
		snprintf(keys[i], sizeof(keys[i]), "%c%d", 'a' + i / 10, i % 10);
	registry_init(store_draft());
	mvcc_compact_set_gate(registry_gate);
}

/* the registration that is under way, and what came after */
static void
confirm_all(void)
{
	ring_is_full = false;
	watch_turn();
	while (has_submitted)
	{
		has_submitted = false;
		assert_true(registry_take(1, 7, buf_bytes(&submitted)));
		watch_registered(&(Completion) {.error = ERR_NONE});
	}
}

static void
world_close(void)
{
	for (int i = 0; i < MAX_WATCHES; i++)
		watch_stop(&watches[i].watch);
	confirm_all();
	assert_int_equal(registry_count(), 0);
	assert_null(registry_check());
	registry_fini();
	watch_forget_all();
	mvcc_compact_set_gate(NULL);
	store_destroy();
	mcx_destroy(scratch);
	buf_free(&submitted);
}

static void
write_one(int key, bool is_delete)
{
	StoreVersion *draft = store_draft();
	KvOp		op = {.kind = is_delete ? KVOP_DELETE : KVOP_PUT};
	MvccWrite	w;
	int64_t		deleted = 1;

	mcx_reset(scratch);
	mvcc_write_begin(&w, draft, NULL, scratch);
	if (is_delete)
	{
		op.delete.range = keyrange_make(bytes_from_cstr(keys[key]), BYTES_EMPTY);
		assert_int_equal(mvcc_delete_range(&w, &op.delete, &deleted, NULL),
						 ERR_NONE);
	}
	else
	{
		op.put = (PutOp) {.key = bytes_from_cstr(keys[key]),.value = B("v")};
		assert_int_equal(mvcc_put(&w, &op.put, NULL), ERR_NONE);
	}
	mvcc_write_end(&w);
	if (deleted == 1)
		events[nevents++] = (Event) {key, draft->kv_revision, is_delete};
}

/* several keys in one revision */
static void
write_many(int first, int n)
{
	StoreVersion *draft = store_draft();
	MvccWrite	w;

	mcx_reset(scratch);
	mvcc_write_begin(&w, draft, NULL, scratch);
	for (int i = 0; i < n; i++)
	{
		PutOp		put = {.key = bytes_from_cstr(keys[(first + i) % NKEYS]),
			.value = B("many")};

		assert_int_equal(mvcc_put(&w, &put, NULL), ERR_NONE);
	}
	mvcc_write_end(&w);
	for (int i = 0; i < n; i++)
		events[nevents++] = (Event) {(first + i) % NKEYS, draft->kv_revision,
			false};
}

static void
publish(void)
{
	store_publish();
	store_reclaim();
}

static void
start_watch(TestWatch *w, int64_t start)
{
	const StoreVersion *v = store_pin();

	w->is_used = true;
	w->ended = ERR_NONE;
	w->nevents = 0;
	w->watch.ops = &test_ops;
	w->watch.owner = w;
	w->watch.start_revision = start;
	w->next = 0;
	watch_start(&w->watch, v);
	store_unpin();
}

static void
random_watch(TestWatch *w)
{
	int64_t		current;
	int64_t		start;

	memset(w, 0, sizeof(*w));
	do
	{
		snprintf(w->begin, sizeof(w->begin), "%c%d", 'a' + rnd(3), rnd(10));
		snprintf(w->end, sizeof(w->end), "%c%d", 'a' + rnd(3), rnd(10));
		w->watch.range = (KeyRange) {.kind = (KeyRangeKind) rnd(3),
			.begin = bytes_from_cstr(w->begin)};
		if (w->watch.range.kind == KEYRANGE_SPAN)
			w->watch.range.end = bytes_from_cstr(w->end);
	} while (keyrange_is_empty(&w->watch.range));
	current = store_pin()->kv_revision;
	store_unpin();
	start = rnd(3) == 0 ? 1 + rnd((uint32_t) current) :
		current + 1 + (rnd(5) == 0 ? rnd(20) : 0);
	start_watch(w, start);
}

static void
check_complete(TestWatch *w)
{
	if (!watch_is_started(&w->watch) || w->is_blocked)
		return;
	assert_true(watch_is_synced(&w->watch));
	w->next = next_event(w, w->next);
	assert_true(w->next == nevents);
}

/* until everything has been told to everybody who takes it */
static void
settle(void)
{
	publish();
	registry_notify(store_draft());
	confirm_all();
	for (int i = 0; i < 20 && watch_is_due(); i++)
		watch_turn();
	assert_false(watch_is_due());
	for (int i = 0; i < MAX_WATCHES; i++)
		check_complete(&watches[i]);
}

/* ---- random ---- */

static void
random_step(void)
{
	TestWatch  *w = &watches[rnd(MAX_WATCHES)];
	uint32_t	what = rnd(100);

	if (what < 25)
		write_one((int) rnd(NKEYS), rnd(4) == 0);
	else if (what < 30)
		write_many((int) rnd(NKEYS), 2 + (int) rnd(6));
	else if (what < 50)
	{
		publish();
		/* watchers may look before they are told */
		if (rnd(3) == 0)
			watch_turn();
		registry_notify(store_draft());
	}
	else if (what < 70)
		watch_turn();
	else if (what < 78)
	{
		if (watch_is_started(&w->watch))
			watch_stop(&w->watch);
		else
			random_watch(w);
	}
	else if (what < 84)
	{
		w->is_blocked = !w->is_blocked;
		if (!w->is_blocked)
			watch_go_on(w);
	}
	else if (what < 92)
		confirm_all();
	else if (what < 94)
		ring_is_full = !ring_is_full;
	else if (what < 95)
	{
		(void) mvcc_compact_begin(store_draft(), 1 +
								  rnd((uint32_t) store_draft()->kv_revision));
		publish();
		registry_notify(store_draft());
	}
	else
	{
		publish();
		registry_notify(store_draft());
		(void) mvcc_compact_step(store_draft(), 10, NULL);
		publish();
	}
}

static void
test_random(void **state)
{
	int			told = 0;

	for (uint64_t seed = 1; seed <= 10; seed++)
	{
		rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
		world_open();
		for (int i = 0; i < 5000 && nevents < MAX_EVENTS - 20; i++)
		{
			random_step();
			if (i % 500 == 499)
				settle();
			for (int j = 0; j < MAX_WATCHES; j++)
			{
				TestWatch  *w = &watches[j];

				/* the only end here is by compaction, and not without reason */
				if (w->ended == ERR_NONE)
					continue;
				assert_int_equal(w->ended, ERR_COMPACTED);
				w->next = next_event(w, w->next);
				assert_true(w->watch.start_revision < w->ended_at);
				w->ended = ERR_NONE;
			}
		}
		settle();
		for (int j = 0; j < MAX_WATCHES; j++)
			told += watches[j].nevents;
		world_close();
	}
	assert_true(told > 1000);
}

/* ---- single cases ---- */

static void
watch_key(TestWatch *w, const char *key, int64_t start)
{
	memset(w, 0, sizeof(*w));
	w->watch.range = keyrange_make(bytes_from_cstr(key), BYTES_EMPTY);
	start_watch(w, start);
}

static void
test_quiet_watch_is_not_woken(void **state)
{
	world_open();
	watch_key(&watches[0], "a1", 2);
	settle();
	nnotified = 0;
	for (int i = 0; i < 100; i++)
	{
		write_one(5, false);
		publish();
		registry_notify(store_draft());
	}
	assert_int_equal(nnotified, 0);
	assert_false(watch_is_due());
	write_one(1, false);
	write_one(1, false);
	publish();
	registry_notify(store_draft());
	assert_int_equal(nnotified, 1);
	assert_true(watch_is_due());
	watch_turn();
	assert_int_equal(watches[0].nevents, 2);
	world_close();
}

/* its past is told without anything else that brings a turn */
static void
test_second_watch_of_a_range(void **state)
{
	world_open();
	write_one(1, false);
	publish();
	registry_notify(store_draft());
	watch_key(&watches[0], "a1", 2);
	confirm_all();
	watch_turn();
	assert_int_equal(watches[0].nevents, 1);
	assert_false(watch_is_due());
	watch_key(&watches[1], "a1", 2);
	assert_true(watch_is_due());
	watch_turn();
	assert_int_equal(watches[1].nevents, 1);
	assert_int_equal(watches[0].nevents, 1);
	world_close();
}

/* a compaction right behind an event that nobody has read yet */
static void
test_late_reader_is_waited_for(void **state)
{
	world_open();
	watch_key(&watches[0], "a1", 2);
	settle();
	write_one(1, false);
	write_one(2, false);
	write_one(2, false);
	assert_int_equal(mvcc_compact_begin(store_draft(), 4), ERR_NONE);
	publish();
	registry_notify(store_draft());
	for (int i = 0; i < 5; i++)
	{
		(void) mvcc_compact_step(store_draft(), 100, NULL);
		publish();
	}
	assert_int_equal(store_draft()->log.kept_revision, 0);
	watch_turn();
	assert_int_equal(watches[0].nevents, 1);
	assert_int_equal(watches[0].ended, ERR_NONE);
	(void) mvcc_compact_step(store_draft(), 100, NULL);
	assert_int_equal(store_draft()->log.kept_revision, 4);
	publish();
	/* one whose client does not read is waited for only so long */
	watches[0].is_blocked = true;
	write_one(1, false);
	write_one(2, false);
	publish();
	registry_notify(store_draft());
	watch_turn();
	assert_int_equal(mvcc_compact_begin(store_draft(), 6), ERR_NONE);
	for (int i = 0; i < 300 && store_draft()->log.kept_revision < 6; i++)
	{
		publish();
		(void) mvcc_compact_step(store_draft(), 100, NULL);
		watch_turn();
		nanosleep(&(struct timespec) {.tv_nsec = 10000000}, NULL);
	}
	publish();
	assert_int_equal(store_draft()->log.kept_revision, 6);
	watches[0].is_blocked = false;
	watch_go_on(&watches[0]);
	watch_turn();
	assert_int_equal(watches[0].ended, ERR_COMPACTED);
	world_close();
}

static void
test_compacted_start(void **state)
{
	world_open();
	for (int i = 0; i < 10; i++)
		write_one(1, false);
	assert_int_equal(mvcc_compact_begin(store_draft(), 5), ERR_NONE);
	publish();
	registry_notify(store_draft());
	watch_key(&watches[0], "a1", 4);
	watch_key(&watches[1], "a1", 5);
	confirm_all();
	watch_turn();
	assert_int_equal(watches[0].ended, ERR_COMPACTED);
	assert_int_equal(watches[1].ended, ERR_NONE);
	assert_int_equal(watches[1].nevents, 7);
	world_close();
}

/* rights: what is published with a revocation, or later, is not told */
static void
test_rights_end_a_watch(void **state)
{
	world_open();
	watch_key(&watches[0], "a1", 2);
	watch_key(&watches[1], "a1", 2);
	settle();
	write_one(1, false);
	publish();
	registry_notify(store_draft());
	/* not yet read when the right goes */
	store_draft()->auth_enabled = true;
	watches[0].is_forbidden = true;
	write_one(1, false);
	publish();
	registry_notify(store_draft());
	watch_turn();
	assert_int_equal(watches[0].ended, ERR_PERMISSION_DENIED);
	assert_int_equal(watches[0].nevents, 0);
	assert_int_equal(watches[1].nevents, 2);
	/* without any event, too: everybody who watches is woken */
	watches[1].is_forbidden = true;
	store_draft()->auth_revision++;
	publish();
	nnotified = 0;
	registry_notify(store_draft());
	assert_int_equal(nnotified, 1);
	watch_turn();
	assert_int_equal(watches[1].ended, ERR_PERMISSION_DENIED);
	world_close();
}

static void
test_much_is_cut_into_turns(void **state)
{
	world_open();
	watch_key(&watches[0], "a1", 1);
	watch_key(&watches[1], "a2", 1);
	for (int i = 0; i < 30000; i++)
		write_one(1 + i % 3, false);
	publish();
	registry_notify(store_draft());
	confirm_all();
	watch_turn();
	assert_in_range(watches[0].nevents, 1, 9999);
	assert_true(watch_is_due());
	settle();
	assert_int_equal(watches[0].nevents, 10000);
	assert_int_equal(watches[1].nevents, 10000);
	world_close();
}

static void
test_too_many_ranges_become_all(void **state)
{
	static Watch many[20000];
	static char names[20000][16];
	KeyRange	all = {.kind = KEYRANGE_FROM};
	Buf			ops;

	world_open();
	for (int i = 0; i < 20000; i++)
	{
		snprintf(names[i], sizeof(names[i]), "key%05d", i);
		many[i] = (Watch) {.ops = &test_ops,
			.range = keyrange_make(bytes_from_cstr(names[i]), BYTES_EMPTY)};
		many[i].start_revision = 1000000;
		watch_start(&many[i], store_pin());
		store_unpin();
	}
	confirm_all();
	/* a few records carry them all */
	assert_int_equal(registry_count(), 20000);
	assert_true(nsubmissions < 200);
	for (int i = 0; i < 20000; i++)
		watch_stop(&many[i]);
	confirm_all();
	assert_int_equal(registry_count(), 0);

	/* the worker does not keep more than so many for one backend */
	buf_init(&ops, NULL);
	for (int i = 0; i < 100001; i++)
	{
		char		name[16];
		KeyRange	range;

		snprintf(name, sizeof(name), "%d", i);
		range = keyrange_make(bytes_from_cstr(name), BYTES_EMPTY);
		registry_put_op(&ops, REGISTRY_ADD, &range);
	}
	assert_true(registry_take(2, 9, buf_bytes(&ops)));
	assert_int_equal(registry_count(), 1);
	ops.len = 0;
	registry_put_op(&ops, REGISTRY_REMOVE, &all);
	assert_true(registry_take(2, 9, buf_bytes(&ops)));
	assert_int_equal(registry_count(), 1);
	/* its successor begins with nothing */
	assert_true(registry_take(2, 11, BYTES_EMPTY));
	assert_int_equal(registry_count(), 0);
	/* nonsense */
	assert_false(registry_take(2, 11, B("\x09")));
	assert_false(registry_take(2, 11, B("\x01\x07")));
	assert_false(registry_take(2, 11, B("\x01\x00\x05" "ab")));
	assert_false(registry_take(2, 11, B("\x01\x01\x01" "b\x01" "a")));
	assert_int_equal(registry_count(), 0);
	buf_free(&ops);
	world_close();
}

/* the dead are forgotten */
static void
test_sweep(void **state)
{
	KeyRange	range = keyrange_make(B("a"), BYTES_EMPTY);
	Buf			ops;

	world_open();
	buf_init(&ops, NULL);
	registry_put_op(&ops, REGISTRY_ADD, &range);
	atomic_store(&slots[3].generation, 3);
	assert_true(registry_take(3, 3, buf_bytes(&ops)));
	registry_sweep();
	assert_int_equal(registry_count(), 1);
	atomic_store(&slots[3].generation, 4);
	for (int i = 0; i < 150 && registry_count() > 0; i++)
	{
		registry_sweep();
		nanosleep(&(struct timespec) {.tv_nsec = 10000000}, NULL);
	}
	assert_int_equal(registry_count(), 0);
	buf_free(&ops);
	world_close();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quiet_watch_is_not_woken),
		cmocka_unit_test(test_second_watch_of_a_range),
		cmocka_unit_test(test_late_reader_is_waited_for),
		cmocka_unit_test(test_compacted_start),
		cmocka_unit_test(test_rights_end_a_watch),
		cmocka_unit_test(test_much_is_cut_into_turns),
		cmocka_unit_test(test_too_many_ranges_become_all),
		cmocka_unit_test(test_sweep),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
