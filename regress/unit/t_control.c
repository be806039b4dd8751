/*
 * t_control.c
 *	  The control area: slots given away and put right, generations, counters
 *	  from several processes, subsystems.
 */
/* needs: storage/ipc storage/lmgr storage/snap utils/injection */
#include "server.h"

/* system */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>

/* this layer and below */
#include "storage/ipc/control.h"
#include "storage/snap/store.h"
#include "subsystem_doubles.h"

#define NSLOTS 5

static const ControlSizes sizes = {
	.nslots = NSLOTS,
	.max_request_bytes = 100000,
	.token_cache_entries = 256,
	.token_max_per_user = 10,
	.hash_slots = 1,
	.hash_queue = 1,
};

static int
setup(void **state)
{
	return control_create(&sizes) ? 0 : -1;
}

static int
teardown(void **state)
{
	control_destroy();
	return 0;
}

static SlotState
state_of(int slot)
{
	return (SlotState) atomic_load(&control_slot(slot)->state);
}

static uint64_t
generation_of(int slot)
{
	return atomic_load(&control_slot(slot)->generation);
}

static void
test_claim_all_and_reap(void **state)
{
	bool		taken[NSLOTS] = {false};
	int			again;

	for (int i = 0; i < NSLOTS; i++)
	{
		int			slot = control_claim_slot();

		assert_in_range(slot, 0, NSLOTS - 1);
		assert_false(taken[slot]);
		taken[slot] = true;
		assert_int_equal(state_of(slot), SLOT_STARTING);
		assert_int_equal(generation_of(slot), 1);
		assert_true(control_slot(slot)->started_ms > 0);
	}
	assert_int_equal(control_claim_slot(), -1);

	control_reap_slot(3);
	assert_int_equal(state_of(3), SLOT_FREE);
	assert_int_equal(generation_of(3), 2);
	assert_int_equal(double_last_reaped, 3);
	/* whoever reaps a subsystem's share must see that the owner is gone */
	assert_int_equal(double_generation_at_reap, 2);

	again = control_claim_slot();
	assert_int_equal(again, 3);
	assert_int_equal(generation_of(3), 3);
	assert_int_equal(control_claim_slot(), -1);
}

static void
test_slots_are_given_out_in_turn(void **state)
{
	for (int i = 0; i < 3 * NSLOTS; i++)
	{
		int			slot = control_claim_slot();

		assert_int_equal(slot, i % NSLOTS);
		control_reap_slot(slot);
	}
}

/* what a killed child leaves in its slot */
static void
leave_everything(int slot)
{
	ProcSlot   *self;
	char		longest[300];

	assert_int_equal(control_own_slot(), -1);
	assert_null(control_self());
	control_attach_slot(slot);
	self = control_self();
	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	control_set_user(longest);
	control_set_peer("127.0.0.1:4711");
	atomic_store(&self->pin.epoch, 77);
	atomic_store(&self->state, SLOT_ACTIVE);
	atomic_store(&self->completions_armed, 1);
	atomic_store(&self->nstreams, 12);
	atomic_store(&self->current_rpc, 3);
	counter_add(COUNTER_REQUESTS, 5);
	raise(SIGKILL);
}

static void
test_reap_puts_right_what_a_killed_child_left(void **state)
{
	int			slot = control_claim_slot();
	ProcSlot   *entry = control_slot(slot);
	pid_t		pid = fork();
	int			status;

	assert_true(pid >= 0);
	if (pid == 0)
	{
		leave_everything(slot);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));

	/* it is all there, and visible here */
	assert_int_equal(atomic_load(&entry->pid), pid);
	assert_int_equal(atomic_load(&entry->pin.epoch), 77);
	assert_int_equal(strlen(entry->user), SLOT_USER_BYTES - 1);
	assert_string_equal(entry->peer, "127.0.0.1:4711");
	assert_int_equal(counter_get(COUNTER_REQUESTS), 5);

	control_reap_slot(slot);
	assert_int_equal(state_of(slot), SLOT_FREE);
	assert_int_equal(atomic_load(&entry->pid), 0);
	assert_int_equal(atomic_load(&entry->pin.epoch), 0);
	assert_int_equal(atomic_load(&entry->completions_armed), 0);
	assert_int_equal(atomic_load(&entry->nstreams), 0);
	assert_int_equal(atomic_load(&entry->current_rpc), 0);
	assert_string_equal(entry->user, "");
	assert_string_equal(entry->peer, "");
	/* counters are nobody's: they stay */
	assert_int_equal(counter_get(COUNTER_REQUESTS), 5);
}

static void
test_texts_are_replaced_whole(void **state)
{
	int			slot = control_claim_slot();

	control_set_user("nobody has a slot yet");
	control_attach_slot(slot);
	assert_string_equal(control_self()->user, "");
	control_set_user("a longer name");
	control_set_user("short");
	assert_string_equal(control_self()->user, "short");
	control_set_user(NULL);
	assert_string_equal(control_self()->user, "");
}

static void
test_counters_of_many_processes_add_up(void **state)
{
	pid_t		pids[4];
	int			status;

	for (size_t i = 0; i < lengthof(pids); i++)
	{
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0)
		{
			/* in shards of their own, two of them in the same */
			if (i < 3)
				control_attach_slot((int) i);
			for (int n = 0; n < 20000; n++)
			{
				counter_add(COUNTER_PUTS, 2);
				stat_add(STAT_CELLS - 1, 1);
			}
			_exit(0);
		}
	}
	for (size_t i = 0; i < lengthof(pids); i++)
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
	assert_int_equal(counter_get(COUNTER_PUTS), 4 * 20000 * 2);
	assert_int_equal(counter_get(COUNTER_DELETES), 0);
	assert_int_equal(stat_get(STAT_CELLS - 1), 4 * 20000);
	assert_int_equal(stat_get(0), 0);
	assert_string_equal(counter_name(COUNTER_PUTS), "etcd_mvcc_put_total");
	assert_true(strlen(counter_help(COUNTER_PUTS)) > 0);
}

static void
test_histogram(void **state)
{
	const HistogramInfo *info = histogram_info(HISTOGRAM_LOG_SYNC);
	HistogramValues values;

	/* a bound belongs to the bucket that it bounds */
	histogram_observe(HISTOGRAM_LOG_SYNC, 0);
	histogram_observe(HISTOGRAM_LOG_SYNC, 1000);
	histogram_observe(HISTOGRAM_LOG_SYNC, 1001);
	histogram_observe(HISTOGRAM_LOG_SYNC, 2000);
	histogram_observe(HISTOGRAM_LOG_SYNC, 8192000);
	histogram_observe(HISTOGRAM_LOG_SYNC, 8192001);
	/* a clock that went back */
	histogram_observe(HISTOGRAM_LOG_SYNC, -5);
	histogram_get(HISTOGRAM_LOG_SYNC, &values);
	assert_int_equal(info->nbuckets, 14);
	assert_int_equal(values.counts[0], 3);
	assert_int_equal(values.counts[1], 2);
	assert_int_equal(values.counts[13], 1);
	assert_int_equal(values.counts[14], 1);
	assert_int_equal(values.sum_us, 1000 + 1001 + 2000 + 8192000 + 8192001);
	histogram_get(HISTOGRAM_APPLY_BATCH, &values);
	assert_int_equal(values.sum_us, 0);
}

static void
test_reload_generation(void **state)
{
	assert_int_equal(control_reload_generation(), 0);
	control_bump_reload_generation();
	control_bump_reload_generation();
	assert_int_equal(control_reload_generation(), 2);
}

static void
test_subsystems_have_zeroed_memory_of_their_own(void **state)
{
	const uint8_t *tokens = control_subsystem(SUBSYSTEM_TOKENS);
	const uint8_t *hashes = control_subsystem(SUBSYSTEM_HASH_SLOTS);

	assert_ptr_equal(tokens, double_memory[0]);
	assert_ptr_equal(hashes, double_memory[1]);
	assert_int_equal((uintptr_t) tokens % 4096, 0);
	assert_true(hashes >= tokens + DOUBLE_BYTES);
	for (int i = 0; i < DOUBLE_BYTES; i++)
		assert_int_equal(tokens[i] | hashes[i], 0);
	assert_int_equal(control_sizes()->nslots, NSLOTS);
}

static void
test_impossible_sizes_are_refused(void **state)
{
	ControlSizes none = sizes;
	ControlSizes many = sizes;
	ControlSizes huge = sizes;

	none.nslots = 0;
	assert_false(control_create(&none));
	assert_int_equal(errno, EINVAL);
	many.nslots = 100000;
	assert_false(control_create(&many));
	assert_int_equal(errno, EINVAL);
	/* 65 536 rings of 8 GiB: more than there are addresses */
	huge.nslots = 65536;
	huge.max_request_bytes = UINT32_MAX - 64 * 1024;
	assert_false(control_create(&huge));
	assert_int_equal(errno, ENOMEM);
}

static void
test_greatest_settings_fit_in_address_space(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	/* sanitizers keep most addresses for themselves */
	skip();
#else
	ControlSizes greatest = sizes;

	greatest.nslots = 60004;
	greatest.max_request_bytes = 104857600;
	assert_true(control_create(&greatest));
	control_destroy();
#endif
}

static void
test_counters_without_the_area(void **state)
{
	counter_add(COUNTER_PUTS, 1);
	assert_int_equal(counter_get(COUNTER_PUTS), 0);
	assert_int_equal(control_reload_generation(), 0);
}

int
main(void)
{
#define WITH_AREA(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_AREA(test_claim_all_and_reap),
		WITH_AREA(test_slots_are_given_out_in_turn),
		WITH_AREA(test_reap_puts_right_what_a_killed_child_left),
		WITH_AREA(test_texts_are_replaced_whole),
		WITH_AREA(test_counters_of_many_processes_add_up),
		WITH_AREA(test_histogram),
		WITH_AREA(test_reload_generation),
		WITH_AREA(test_subsystems_have_zeroed_memory_of_their_own),
		cmocka_unit_test(test_impossible_sizes_are_refused),
		cmocka_unit_test(test_greatest_settings_fit_in_address_space),
		cmocka_unit_test(test_counters_without_the_area),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
