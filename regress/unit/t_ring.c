/*
 * t_ring.c
 *	  The rings between processes: contents and order, wrapping, full rings,
 *	  broken and killed backends, slots that change hands, wake-ups.
 *
 * The test process is postmaster and, in most cases, raft worker; backends are
 * forked.  A backend tells what it found by its exit status: 0, or the line of
 * the check that failed modulo 200, or 1 (ELOG_EXIT_FATAL).
 */
/* needs: storage/ipc storage/lmgr storage/snap utils/injection */
#include "server.h"

/* system */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/injection.h"

/* this layer and below */
#include "storage/ipc/control.h"
#include "storage/ipc/ring.h"
#include "storage/ipc/ring_shmem.h"
#include "storage/snap/store.h"
#include "subsystem_doubles.h"

#define NSLOTS 6
#define MAX_REQUEST 30000
#define MAX_PAYLOAD (MAX_REQUEST + RING_PAYLOAD_SLACK)
#define DEADLINE_MS 60000
/* of a whole test, for children that nobody waits for any more */
#define ALARM_SEC 600
#define FORGET_ID UINT64_MAX	/* a submission that ends the forked worker */

/* in a child: cmocka's assertions would return into the parent's tests */
#define CHECK(condition) \
	do { \
		if (!(condition)) \
		{ \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			_exit(2 + __LINE__ % 200); \
		} \
	} while (0)

static const ControlSizes sizes = {
	.nslots = NSLOTS,
	.max_request_bytes = MAX_REQUEST,
	.hash_slots = 1,
};

/* a backend that the test runs step by step */
typedef struct Backend
{
	int			slot;
	uint64_t	generation;
	pid_t		pid;
	int			go;				/* a byte written here lets it go on */
	int			report;			/* it writes a byte here when it has come far */
} Backend;

static int	child_go;
static int	child_report;

static int
group_setup(void **state)
{
	store_use_populate_thread(false);
	if (!store_create(256 * 1024 * 1024))
		return -1;
	store_attach_writer();
	return 0;
}

static int
setup(void **state)
{
	if (!control_create(&sizes) || !ring_create_fds())
		return -1;
	ring_attach_worker();
	return 0;
}

static int
teardown(void **state)
{
	ring_detach_worker();
	ring_close_fds();
	control_destroy();
	return 0;
}

/*
 * The test process is the store's writer, which marks free memory for ASan.  A
 * real backend does not descend from the writer and has no such marks.
 */
static void
see_all_of_the_store(void)
{
#ifdef __SANITIZE_ADDRESS__
	__asan_unpoison_memory_region(store_base(), store_reserved_bytes());
#endif
}

static Backend
start_backend(void (*run) (void))
{
	Backend		backend;
	int			go[2];
	int			report[2];

	backend.slot = control_claim_slot();
	assert_true(backend.slot >= 0);
	backend.generation = atomic_load(&control_slot(backend.slot)->generation);
	assert_int_equal(pipe(go), 0);
	assert_int_equal(pipe(report), 0);
	backend.pid = fork();
	assert_true(backend.pid >= 0);
	if (backend.pid == 0)
	{
		alarm(ALARM_SEC);
		see_all_of_the_store();
		close(go[1]);
		close(report[0]);
		child_go = go[0];
		child_report = report[1];
		control_attach_slot(backend.slot);
		ring_attach_backend();
		run();
		_exit(0);
	}
	close(go[0]);
	close(report[1]);
	backend.go = go[1];
	backend.report = report[0];
	return backend;
}

/* in the child: tell that this point is reached, wait to be let on */
static void
pause_here(void)
{
	char		c = '.';

	CHECK(write(child_report, &c, 1) == 1);
	CHECK(read(child_go, &c, 1) == 1);
}

static void
wait_paused(const Backend *backend)
{
	char		c;

	assert_int_equal(read(backend->report, &c, 1), 1);
}

static void
let_on(const Backend *backend)
{
	assert_int_equal(write(backend->go, ".", 1), 1);
}

/* wait for its end, reap its slot, return its wait status */
static int
end_backend(const Backend *backend)
{
	int			status;

	assert_int_equal(waitpid(backend->pid, &status, 0), backend->pid);
	close(backend->go);
	close(backend->report);
	control_reap_slot(backend->slot);
	return status;
}

static void
assert_ended_well(const Backend *backend)
{
	int			status = end_backend(backend);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* payload n: its length and bytes follow from its number */
static size_t
payload_len(uint64_t n)
{
	uint64_t	h = n * UINT64_C(0x9e3779b97f4a7c15);

	h ^= h >> 29;
	if (n % 97 == 0)
		return MAX_PAYLOAD - h % 32;
	if (n % 13 == 0)
		return h % 20000;
	return h % 300;
}

static uint8_t
payload_byte(uint64_t n, size_t i)
{
	return (uint8_t) (n * 31 + i * 7 + (i >> 8));
}

static Bytes
make_payload(uint8_t *buffer, uint64_t n)
{
	size_t		len = payload_len(n);

	for (size_t i = 0; i < len; i++)
		buffer[i] = payload_byte(n, i);
	return bytes_make(buffer, len);
}

static bool
payload_is(Bytes payload, uint64_t n)
{
	if (payload.len != payload_len(n))
		return false;
	for (size_t i = 0; i < payload.len; i++)
	{
		if (payload.data[i] != payload_byte(n, i))
			return false;
	}
	return true;
}

static void
sleep_on(int fd, int fd2)
{
	struct pollfd fds[2] = {
		{.fd = fd,.events = POLLIN},
		{.fd = fd2,.events = POLLIN},
	};

	uint64_t	count;

	poll(fds, fd2 >= 0 ? 2 : 1, DEADLINE_MS);
	/* poll() knows no edges */
	if (read(fd, &count, sizeof(count)) < 0)
		assert_int_equal(errno, EAGAIN);
}

/* in a backend: wait for one completion */
static Completion
await_completion(void)
{
	Completion	done;

	while (!ring_completion_next(&done))
	{
		if (ring_arm_completions())
			sleep_on(ring_completion_fd(), -1);
	}
	return done;
}

/* in the worker: wait for one submission */
static void
await_submission(uint32_t *slot, uint64_t *generation, Submission *sub)
{
	int64_t		deadline = clock_monotonic_ms() + DEADLINE_MS;

	while (!ring_submission_next(slot, generation, sub))
	{
		assert_true(clock_monotonic_ms() < deadline);
		if (ring_arm_submissions())
			sleep_on(ring_submission_fd(), ring_attach_fd());
		ring_accept_attachments();
	}
}

static Completion
answer_to(uint64_t request_id)
{
	return (Completion) {
		.request_id = request_id,
		.error = ERR_NONE,
		.revision = (int64_t) request_id + 1,
		.count = (int64_t) request_id * 3,
		.index = request_id + 7,
	};
}

/* ---- contents, order, wrapping, both threads of the worker ---- */

#define STREAM_RECORDS 6000

static void
check_stream_completion(const Completion *done, bool *seen)
{
	uint64_t	n = done->request_id;

	CHECK(n < STREAM_RECORDS && !seen[n]);
	seen[n] = true;
	CHECK(done->error == ERR_NONE);
	CHECK(done->revision == (int64_t) n + 1);
	CHECK(done->count == (int64_t) n * 3);
	CHECK(done->index == n + 7);
	if (n % 2 == 0)
		CHECK(done->body == NULL);
	else
	{
		CHECK(done->body_len == 1 + n % 500);
		for (size_t i = 0; i < done->body_len; i++)
			CHECK(((const uint8_t *) done->body)[i] == payload_byte(n, i));
	}
}

static void
run_stream_backend(void)
{
	static uint8_t buffer[MAX_PAYLOAD];
	static bool seen[STREAM_RECORDS];
	Completion	done;
	uint64_t	sent = 0;
	uint64_t	received = 0;

	while (received < STREAM_RECORDS)
	{
		bool		is_full = sent == STREAM_RECORDS;

		if (!is_full)
		{
			is_full = !ring_submit(SUBMIT_LOGOP, sent,
								   make_payload(buffer, sent));
			sent += !is_full;
		}
		while (ring_completion_next(&done))
		{
			check_stream_completion(&done, seen);
			ring_completion_done();
			received++;
			is_full = false;
		}
		if (is_full && ring_arm_completions())
			sleep_on(ring_completion_fd(), -1);
	}
	CHECK(!ring_completion_next(&done));
}

/* what the consensus thread of the test hands to its apply thread */
static struct
{
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	uint64_t	ids[RING_MAX_OUTSTANDING];
	int			n;
	bool		stop;
	uint32_t	slot;
	uint64_t	generation;
} to_apply = {
	.mutex = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER,
};

static void
answer_with_body(uint64_t n)
{
	Completion	answer = answer_to(n);
	uint8_t    *body = store_alloc(1 + n % 500);

	for (size_t i = 0; i < 1 + n % 500; i++)
		body[i] = payload_byte(n, i);
	answer.body = body;
	answer.body_len = 1 + n % 500;
	ring_complete(to_apply.slot, to_apply.generation, &answer);
}

static void *
run_apply(void *unused)
{
	bool		stop = false;

	while (!stop)
	{
		uint64_t	ids[RING_MAX_OUTSTANDING];
		int			n;

		pthread_mutex_lock(&to_apply.mutex);
		while (to_apply.n == 0 && !to_apply.stop)
			pthread_cond_wait(&to_apply.changed, &to_apply.mutex);
		n = to_apply.n;
		memcpy(ids, to_apply.ids, (size_t) n * sizeof(ids[0]));
		to_apply.n = 0;
		stop = to_apply.stop;
		pthread_mutex_unlock(&to_apply.mutex);
		for (int i = 0; i < n; i++)
			answer_with_body(ids[i]);
		ring_flush_completions();
		ring_collect_bodies();
	}
	return NULL;
}

static void
hand_to_apply(uint64_t id)
{
	pthread_mutex_lock(&to_apply.mutex);
	assert_true(to_apply.n < RING_MAX_OUTSTANDING);
	to_apply.ids[to_apply.n++] = id;
	pthread_cond_signal(&to_apply.changed);
	pthread_mutex_unlock(&to_apply.mutex);
}

static void
test_stream_of_random_sizes(void **state)
{
	size_t		used_before = store_bytes_used();
	Backend		backend = start_backend(run_stream_backend);
	pthread_t	apply;

	to_apply.slot = (uint32_t) backend.slot;
	to_apply.generation = backend.generation;
	to_apply.stop = false;
	assert_int_equal(pthread_create(&apply, NULL, run_apply, NULL), 0);
	for (uint64_t n = 0; n < STREAM_RECORDS; n++)
	{
		uint32_t	slot;
		uint64_t	generation;
		Submission	sub;

		await_submission(&slot, &generation, &sub);
		assert_int_equal(slot, backend.slot);
		assert_int_equal(generation, backend.generation);
		assert_int_equal(sub.kind, SUBMIT_LOGOP);
		assert_int_equal(sub.request_id, n);
		assert_true(payload_is(sub.payload, n));
		if (n % 2 == 1)
			hand_to_apply(n);
		else
		{
			Completion	answer = answer_to(n);

			ring_complete(slot, generation, &answer);
			ring_flush_completions();
		}
	}
	pthread_mutex_lock(&to_apply.mutex);
	to_apply.stop = true;
	pthread_cond_signal(&to_apply.changed);
	pthread_mutex_unlock(&to_apply.mutex);
	pthread_join(apply, NULL);
	assert_ended_well(&backend);
	ring_collect_bodies();
	assert_int_equal(store_bytes_used(), used_before);
}

/* ---- wake-ups ---- */

#define PINGS 30000

static void
run_ping_backend(void)
{
	for (uint64_t n = 0; n < PINGS; n++)
	{
		CHECK(ring_submit(SUBMIT_READ, n, BYTES_EMPTY));
		CHECK(await_completion().request_id == n);
		ring_completion_done();
	}
}

static void
test_no_wakeup_is_lost(void **state)
{
	Backend		backend = start_backend(run_ping_backend);

	/* a lost one shows as the deadline of either side */
	for (uint64_t n = 0; n < PINGS; n++)
	{
		uint32_t	slot;
		uint64_t	generation;
		Submission	sub;
		Completion	answer = answer_to(n);

		await_submission(&slot, &generation, &sub);
		assert_int_equal(sub.request_id, n);
		assert_int_equal(sub.kind, SUBMIT_READ);
		ring_complete(slot, generation, &answer);
		ring_flush_completions();
	}
	assert_ended_well(&backend);
}

/* the same without a pause on the backend's side, for as long as it may take */
#define BUSY_MS 300

static void
run_busy_ping_backend(void)
{
	int64_t		end_ms = clock_monotonic_ms() + BUSY_MS;
	Completion	done;
	uint64_t	n;

	for (n = 0; n % 64 != 0 || clock_monotonic_ms() < end_ms; n++)
	{
		CHECK(ring_submit(SUBMIT_READ, n, BYTES_EMPTY));
		while (!ring_completion_next(&done))
			CHECK(clock_monotonic_ms() < end_ms + DEADLINE_MS / 2);
		CHECK(done.request_id == n);
		ring_completion_done();
		for (volatile uint64_t delay = n * 7 % 300; delay > 0; delay--)
			continue;
	}
	CHECK(ring_submit(SUBMIT_READ, FORGET_ID, BYTES_EMPTY));
}

static void
test_no_submission_is_overlooked(void **state)
{
	Backend		backend = start_backend(run_busy_ping_backend);
	uint32_t	slot;
	uint64_t	generation;
	Submission	sub;

	for (;;)
	{
		Completion	answer;

		await_submission(&slot, &generation, &sub);
		if (sub.request_id == FORGET_ID)
			break;
		answer = answer_to(sub.request_id);
		ring_complete(slot, generation, &answer);
		ring_flush_completions();
	}
	assert_ended_well(&backend);
}

/* what comes between the last look and going to sleep must be seen */
static void
run_arm_late(void)
{
	Completion	done;

	CHECK(ring_submit(SUBMIT_READ, 5, BYTES_EMPTY));
	CHECK(!ring_completion_next(&done));
	pause_here();
	CHECK(!ring_arm_completions());
	CHECK(ring_completion_next(&done) && done.request_id == 5);
	ring_completion_done();
	CHECK(ring_arm_completions());
}

static void
test_arming_looks_again(void **state)
{
	Backend		backend;
	uint32_t	slot;
	uint64_t	generation;
	Submission	sub;
	Completion	answer = answer_to(5);

	assert_false(ring_submission_next(&slot, &generation, &sub));
	backend = start_backend(run_arm_late);
	wait_paused(&backend);
	assert_false(ring_arm_submissions());
	assert_true(ring_submission_next(&slot, &generation, &sub));
	/* the slot's turn is not over: no sleep before it is */
	assert_false(ring_arm_submissions());
	assert_false(ring_submission_next(&slot, &generation, &sub));
	assert_true(ring_arm_submissions());
	ring_complete(slot, generation, &answer);
	ring_flush_completions();
	let_on(&backend);
	assert_ended_well(&backend);
}

static void
run_ask_once(void)
{
	CHECK(ring_submit(SUBMIT_READ, 5, BYTES_EMPTY));
	CHECK(await_completion().request_id == 5);
	ring_completion_done();
}

static void
test_answer_before_the_eventfd_has_arrived(void **state)
{
	Backend		backend = start_backend(run_ask_once);
	uint32_t	slot;
	uint64_t	generation;
	Submission	sub;
	Completion	answer = answer_to(5);
	int64_t		deadline = clock_monotonic_ms() + DEADLINE_MS;

	while (!ring_submission_next(&slot, &generation, &sub))
		assert_true(clock_monotonic_ms() < deadline);
	/* let it fall asleep */
	while (atomic_load(&control_slot((int) slot)->completions_armed) == 0)
		assert_true(clock_monotonic_ms() < deadline);
	ring_complete(slot, generation, &answer);
	ring_flush_completions();
	assert_int_equal(atomic_load(&control_slot((int) slot)->completions_armed),
					 0);
	ring_accept_attachments();
	assert_ended_well(&backend);
}

/* ---- full rings ---- */

static void
run_fill_backend(void)
{
	static uint8_t buffer[MAX_PAYLOAD];
	Bytes		greatest = bytes_make(buffer, MAX_PAYLOAD);
	uint64_t	nbig = 0;
	uint64_t	nsmall = 0;
	Completion	done;

	/* at least two of the greatest fit */
	while (ring_submit(SUBMIT_LOGOP, nbig, greatest))
		nbig++;
	CHECK(nbig >= 2 && nbig < 10);
	pause_here();
	for (uint64_t i = 0; i < nbig; i++)
	{
		CHECK(ring_completion_next(&done) && done.request_id == i);
		ring_completion_done();
	}
	while (ring_submit(SUBMIT_READ, nsmall, BYTES_EMPTY))
		nsmall++;
	CHECK(nsmall == RING_MAX_OUTSTANDING);
	pause_here();
	for (uint64_t i = 0; i < nsmall; i++)
	{
		CHECK(ring_completion_next(&done) && done.request_id == i);
		ring_completion_done();
	}
	CHECK(!ring_completion_next(&done));
	CHECK(ring_submit(SUBMIT_READ, 0, BYTES_EMPTY));
}

static int
answer_all(void)
{
	uint32_t	slot;
	uint64_t	generation;
	Submission	sub;
	int			n = 0;

	while (ring_submission_next(&slot, &generation, &sub))
	{
		Completion	answer = answer_to(sub.request_id);

		ring_complete(slot, generation, &answer);
		n++;
	}
	ring_flush_completions();
	return n;
}

static void
test_full_rings_refuse_and_recover(void **state)
{
	Backend		backend = start_backend(run_fill_backend);

	wait_paused(&backend);
	assert_true(answer_all() >= 2);
	let_on(&backend);
	wait_paused(&backend);
	assert_int_equal(answer_all(), RING_MAX_OUTSTANDING);
	let_on(&backend);
	assert_ended_well(&backend);
}

static void
run_quiet_backend(void)
{
	static uint8_t buffer[1000];
	Completion	done;

	for (int i = 0; i < 2000; i++)
	{
		CHECK(ring_submit(SUBMIT_LOGOP, 1, bytes_make(buffer, sizeof(buffer))));
		done = await_completion();
		CHECK(done.request_id == 1);
		ring_completion_done();
	}
	pause_here();
}

static void
test_quiet_backend_stays_at_the_front(void **state)
{
	Backend		backend = start_backend(run_quiet_backend);
	unsigned char resident[256];
	uint8_t    *memory = ring_submission_memory((uint32_t) backend.slot);
	size_t		npages = 0;

	assert_true(ring_places.submission_bytes / 4096 <= sizeof(resident));
	for (int i = 0; i < 2000; i++)
	{
		uint32_t	slot;
		uint64_t	generation;
		Submission	sub;
		Completion	answer = answer_to(1);

		await_submission(&slot, &generation, &sub);
		assert_int_equal(sub.payload.len, 1000);
		ring_complete(slot, generation, &answer);
		ring_flush_completions();
	}
	wait_paused(&backend);
	/* 2 MB went through, in the first 64 KB and the record that crosses */
	assert_int_equal(mincore(memory, ring_places.submission_bytes, resident),
					 0);
	for (size_t i = 0; i < ring_places.submission_bytes / 4096; i++)
		npages += resident[i] & 1;
	assert_in_range(npages, 1, RING_RESTART_BYTES / 4096 + 1);
	let_on(&backend);
	assert_ended_well(&backend);
}

/* ---- fairness ---- */

static void
run_flood_backend(void)
{
	for (uint64_t i = 0; i < 500; i++)
		CHECK(ring_submit(SUBMIT_READ, i, BYTES_EMPTY));
	pause_here();
}

static void
run_single_backend(void)
{
	CHECK(ring_submit(SUBMIT_READ, 0, BYTES_EMPTY));
	pause_here();
}

static void
test_busy_backend_does_not_shut_out_others(void **state)
{
	Backend		flood = start_backend(run_flood_backend);
	Backend		single = start_backend(run_single_backend);
	uint32_t	slot;
	uint64_t	generation;
	Submission	sub;
	int			before = 0;
	int			total = 0;

	wait_paused(&flood);
	wait_paused(&single);
	while (ring_submission_next(&slot, &generation, &sub))
	{
		total++;
		if ((int) slot == single.slot)
			before = total;
	}
	assert_int_equal(total, 501);
	assert_in_range(before, 1, 40);
	let_on(&flood);
	let_on(&single);
	assert_ended_well(&flood);
	assert_ended_well(&single);
}

/* ---- broken backends ---- */

static RingControl *
own_control(void)
{
	return &ring_places.controls[control_own_slot()];
}

/* damage is done to the last record; goes on until the worker ends it */
static void
await_rejection(void)
{
	Completion	done;

	pause_here();
	for (;;)
	{
		if (ring_completion_next(&done))
			ring_completion_done();
		else if (ring_arm_completions())
			sleep_on(ring_completion_fd(), -1);
	}
}

static void
run_head_too_far(void)
{
	CHECK(ring_submit(SUBMIT_READ, 1, BYTES_EMPTY));
	atomic_store(&own_control()->head, ring_places.submission_bytes + 16);
	await_rejection();
}

static void
run_head_torn(void)
{
	CHECK(ring_submit(SUBMIT_READ, 1, BYTES_EMPTY));
	atomic_store(&own_control()->head, 7);
	await_rejection();
}

static void
damage_record(uint32_t kind, uint32_t payload_bytes)
{
	RingRecord	record = {.kind = kind,.payload_bytes = payload_bytes};

	CHECK(ring_submit(SUBMIT_READ, 1, BYTES_EMPTY));
	ring_copy_in((uint32_t) control_own_slot(), 0, &record, sizeof(record));
	await_rejection();
}

static void
run_unknown_kind(void)
{
	damage_record(99, 0);
}

static void
run_kind_zero(void)
{
	damage_record(0, 0);
}

static void
run_length_beyond_head(void)
{
	damage_record(SUBMIT_LOGOP, 1);
}

static void
run_length_beyond_limit(void)
{
	damage_record(SUBMIT_LOGOP, UINT32_MAX);
}

static void
run_wrap_beyond_head(void)
{
	damage_record(RING_KIND_WRAP, 0);
}

static void (*const broken_backends[]) (void) = {
	run_head_too_far,
	run_head_torn,
	run_unknown_kind,
	run_kind_zero,
	run_length_beyond_head,
	run_length_beyond_limit,
	run_wrap_beyond_head,
};

/* another backend, and the next owner of the same slot, are served */
static void
assert_served(void)
{
	Backend		backend = start_backend(run_ask_once);
	uint32_t	slot;
	uint64_t	generation;
	Submission	sub;
	Completion	answer = answer_to(5);

	await_submission(&slot, &generation, &sub);
	assert_int_equal(slot, backend.slot);
	assert_int_equal(generation, backend.generation);
	assert_int_equal(sub.request_id, 5);
	ring_complete(slot, generation, &answer);
	ring_flush_completions();
	ring_accept_attachments();
	assert_ended_well(&backend);
}

static void
assert_all_slots_serve(void)
{
	for (int i = 0; i < NSLOTS; i++)
		assert_served();
}

static void
assert_ended_by_rejection(const Backend *backend)
{
	int			status = end_backend(backend);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), ELOG_EXIT_FATAL);
}

static void
test_broken_submissions_are_dropped(void **state)
{
	for (size_t i = 0; i < lengthof(broken_backends); i++)
	{
		Backend		broken = start_backend(broken_backends[i]);
		Completion	answer = answer_to(1);
		uint32_t	slot;
		uint64_t	generation;
		Submission	sub;

		wait_paused(&broken);
		ring_accept_attachments();
		let_on(&broken);
		/* it may sleep already: the rejection must wake it */
		if (i % 2 == 0)
			nanosleep(&(struct timespec) {.tv_nsec = 5000000}, NULL);
		if (ring_submission_next(&slot, &generation, &sub))
		{
			/* head too far: the first record is sound, but nothing says so */
			fail_msg("broken backend %zu was heard", i);
		}
		/* nothing is posted for it any more */
		ring_complete((uint32_t) broken.slot, broken.generation, &answer);
		assert_int_equal(
			atomic_load(&ring_places.controls[broken.slot].posted),
			atomic_load(&ring_places.controls[broken.slot].consumed));
		assert_ended_by_rejection(&broken);
	}
	assert_all_slots_serve();
}

static void
run_consumed_too_far(void)
{
	CHECK(ring_submit(SUBMIT_READ, 1, BYTES_EMPTY));
	atomic_store(&own_control()->consumed, 1000000);
	await_rejection();
}

static void
test_broken_position_in_answers(void **state)
{
	Backend		broken = start_backend(run_consumed_too_far);
	size_t		used_before = store_bytes_used();
	Completion	answer = answer_to(1);
	uint32_t	slot;
	uint64_t	generation;
	Submission	sub;

	wait_paused(&broken);
	ring_accept_attachments();
	assert_true(ring_submission_next(&slot, &generation, &sub));
	answer.body = store_alloc(100);
	answer.body_len = 100;
	ring_complete(slot, generation, &answer);
	let_on(&broken);
	assert_ended_by_rejection(&broken);
	ring_collect_bodies();
	assert_int_equal(store_bytes_used(), used_before);
	assert_all_slots_serve();
}

/* more answers than anybody can have asked for */
static void
test_unread_answers_are_bounded(void **state)
{
	Backend		lazy = start_backend(run_single_backend);
	Completion	answer = answer_to(0);

	wait_paused(&lazy);
	for (int i = 0; i < 2 * RING_ENTRIES; i++)
		ring_complete((uint32_t) lazy.slot, lazy.generation, &answer);
	assert_int_equal(atomic_load(&ring_places.controls[lazy.slot].posted),
					 RING_ENTRIES);
	let_on(&lazy);
	assert_ended_well(&lazy);
	assert_all_slots_serve();
}

/* ---- slots that change hands ---- */

static void
run_die_with_everything_open(void)
{
	static uint8_t buffer[MAX_PAYLOAD];

	for (uint64_t i = 100; i < 103; i++)
		CHECK(ring_submit(SUBMIT_LOGOP, i, make_payload(buffer, i)));
	pause_here();
}

static void
test_successor_hears_nothing_of_the_dead(void **state)
{
	size_t		used_before = store_bytes_used();
	Backend		dead = start_backend(run_die_with_everything_open);
	Completion	late = answer_to(100);
	uint64_t	posted;
	Backend		next;
	uint32_t	slot;
	uint64_t	generation;
	Submission	sub;

	wait_paused(&dead);
	/* one taken and answered, one taken and not answered, one not taken */
	assert_true(ring_submission_next(&slot, &generation, &sub));
	late.body = store_alloc(64);
	late.body_len = 64;
	ring_complete(slot, generation, &late);
	assert_true(ring_submission_next(&slot, &generation, &sub));
	kill(dead.pid, SIGKILL);
	end_backend(&dead);
	assert_false(ring_submission_next(&slot, &generation, &sub));

	/* go round until the same slot is given away again */
	for (int i = 1; i < NSLOTS; i++)
		assert_served();
	next = start_backend(run_ask_once);
	assert_int_equal(next.slot, dead.slot);
	assert_int_equal(next.generation, dead.generation + 2);

	/* the late answer, with its body, reaches nobody */
	late.request_id = 5;
	late.body = store_alloc(64);
	posted = atomic_load(&ring_places.controls[dead.slot].posted);
	ring_complete((uint32_t) dead.slot, dead.generation, &late);
	assert_int_equal(atomic_load(&ring_places.controls[dead.slot].posted),
					 posted);
	await_submission(&slot, &generation, &sub);
	assert_int_equal(slot, next.slot);
	assert_int_equal(generation, next.generation);
	assert_int_equal(sub.request_id, 5);
	late = answer_to(5);
	ring_complete(slot, generation, &late);
	ring_flush_completions();
	ring_accept_attachments();
	assert_ended_well(&next);
	ring_collect_bodies();
	assert_int_equal(store_bytes_used(), used_before);
}

/*
 * The window that cannot be made from outside: the worker looked at the
 * generation, the slot changed hands, and the entry lands afterwards.
 */
static void
run_with_foreign_entry(void)
{
	RingControl *control = own_control();
	uint64_t	posted = atomic_load(&control->posted);
	Completion	done;

	*ring_entry((uint32_t) control_own_slot(), posted) = (RingEntry) {
		.generation = atomic_load(&control_self()->generation) - 2,
		.request_id = 5,
	};
	atomic_store(&control->posted, posted + 1);
	CHECK(!ring_completion_next(&done));
	CHECK(atomic_load(&control->consumed) == posted + 1);
	CHECK(ring_arm_completions());
}

static void
test_entry_for_the_dead_is_passed_over(void **state)
{
	Backend		backend;

	for (int i = 0; i < NSLOTS; i++)
		assert_served();
	backend = start_backend(run_with_foreign_entry);
	assert_ended_well(&backend);
}

static void
run_submit_after_the_worker_looked(void)
{
	/* set the bit with nothing to submit: the worker looks, and finds us */
	atomic_fetch_or(&ring_places.shared->pending[0],
					UINT64_C(1) << control_own_slot());
	pause_here();
	CHECK(ring_submit(SUBMIT_READ, 5, BYTES_EMPTY));
}

static void
test_successor_begins_with_an_empty_ring(void **state)
{
	Backend		backend;
	uint32_t	slot;
	uint64_t	generation;
	Submission	sub;

	/* a slot of which much has been consumed, the only one to be had */
	for (int i = 1; i < NSLOTS; i++)
		assert_int_equal(control_claim_slot(), i - 1);
	backend = start_backend(run_flood_backend);
	wait_paused(&backend);
	assert_int_equal(answer_all(), 500);
	let_on(&backend);
	assert_ended_well(&backend);

	backend = start_backend(run_submit_after_the_worker_looked);
	wait_paused(&backend);
	assert_false(ring_submission_next(&slot, &generation, &sub));
	let_on(&backend);
	await_submission(&slot, &generation, &sub);
	assert_int_equal(sub.request_id, 5);
	assert_ended_well(&backend);
}

static void
run_submit_payload_2(void)
{
	uint8_t		buffer[64];

	memset(buffer, '2', sizeof(buffer));
	CHECK(ring_submit(SUBMIT_LOGOP, 2, bytes_make(buffer, sizeof(buffer))));
	pause_here();
}

static void
run_submit_payload_1(void)
{
	uint8_t		buffer[64];

	memset(buffer, '1', sizeof(buffer));
	CHECK(ring_submit(SUBMIT_LOGOP, 1, bytes_make(buffer, sizeof(buffer))));
	pause_here();
}

/* a worker that stops in the middle of its first copy */
static void
run_worker_that_stops(uint64_t successor)
{
	uint32_t	slot;
	uint64_t	generation;
	Submission	sub;

	setenv("CLAVIGER_INJECT", "ring-copying@1=stop", 1);
	injection_reload();
	CHECK(ring_submission_next(&slot, &generation, &sub));
	CHECK(generation == successor);
	CHECK(sub.request_id == 2);
	CHECK(sub.payload.len == 64);
	for (int i = 0; i < 64; i++)
		CHECK(sub.payload.data[i] == '2');
}

/* header of the dead owner, payload of the successor: nobody may see that */
static void
test_slot_changes_hands_under_the_copying_worker(void **state)
{
	Backend		backend;
	pid_t		worker;
	int			status;

	/* a slot that has been used, so that the successor has the same one */
	for (int i = 1; i < NSLOTS; i++)
		assert_int_equal(control_claim_slot(), i - 1);
	backend = start_backend(run_submit_payload_1);
	wait_paused(&backend);
	worker = fork();
	assert_true(worker >= 0);
	if (worker == 0)
	{
		alarm(ALARM_SEC);
		run_worker_that_stops(backend.generation + 2);
		_exit(0);
	}
	assert_int_equal(waitpid(worker, &status, WUNTRACED), worker);
	assert_true(WIFSTOPPED(status));
	kill(backend.pid, SIGKILL);
	end_backend(&backend);
	backend = start_backend(run_submit_payload_2);
	wait_paused(&backend);
	kill(worker, SIGCONT);
	assert_int_equal(waitpid(worker, &status, 0), worker);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	let_on(&backend);
	assert_ended_well(&backend);
}

static void
run_die_with_the_flag(void)
{
	setenv("CLAVIGER_INJECT", "ring-flag-taken=kill", 1);
	injection_reload();
	(void) ring_submit(SUBMIT_READ, 1, BYTES_EMPTY);
}

static void
test_killed_waker_does_not_leave_the_worker_asleep(void **state)
{
	uint32_t	slot;
	uint64_t	generation;
	Submission	sub;
	Backend		dead;
	struct pollfd fd = {.fd = ring_submission_fd(),.events = POLLIN};
	uint64_t	count;
	int			status;

	assert_false(ring_submission_next(&slot, &generation, &sub));
	assert_true(ring_arm_submissions());
	dead = start_backend(run_die_with_the_flag);
	assert_int_equal(waitpid(dead.pid, &status, 0), dead.pid);
	assert_true(WIFSIGNALED(status));
	/* the flag is gone, and nothing would wake us */
	assert_int_equal(atomic_load(&ring_places.shared->worker_asleep), 0);
	assert_int_equal(poll(&fd, 1, 0), 0);
	close(dead.go);
	close(dead.report);
	control_reap_slot(dead.slot);
	assert_int_equal(poll(&fd, 1, 0), 1);
	/* read as the worker's loop does; then it is quiet */
	assert_int_equal(read(fd.fd, &count, sizeof(count)), sizeof(count));
	assert_false(ring_submission_next(&slot, &generation, &sub));
	assert_int_equal(poll(&fd, 1, 0), 0);
	assert_all_slots_serve();
}

static void
run_use_much_memory(void)
{
	static uint8_t buffer[MAX_PAYLOAD];

	memset(buffer, 'm', sizeof(buffer));
	CHECK(ring_submit(SUBMIT_LOGOP, 1, bytes_make(buffer, MAX_PAYLOAD)));
	CHECK(ring_submit(SUBMIT_LOGOP, 2, bytes_make(buffer, MAX_PAYLOAD)));
}

static void
test_reaping_gives_memory_back(void **state)
{
	Backend		backend = start_backend(run_use_much_memory);
	const uint8_t *memory = ring_submission_memory((uint32_t) backend.slot);
	int			status;

	assert_int_equal(waitpid(backend.pid, &status, 0), backend.pid);
	assert_int_equal(memory[100000], 'm');
	close(backend.go);
	close(backend.report);
	control_reap_slot(backend.slot);
	assert_int_equal(memory[100000], 0);
	assert_all_slots_serve();
}

/* ---- kill -9 while everything runs ---- */

/*
 * A worker of its own process that answers whatever comes, until it is told
 * to stop, and says by its exit status whether all of it made sense.
 */
static void
run_worker(void)
{
	size_t		used_before = store_bytes_used();

	for (;;)
	{
		uint32_t	slot;
		uint64_t	generation;
		Submission	sub;
		Completion	answer;
		uint8_t    *body;

		ring_accept_attachments();
		while (!ring_submission_next(&slot, &generation, &sub))
		{
			ring_flush_completions();
			ring_collect_bodies();
			if (ring_arm_submissions())
				sleep_on(ring_submission_fd(), ring_attach_fd());
			ring_accept_attachments();
		}
		if (sub.request_id == FORGET_ID)
			break;
		/* ids are (generation, n) so that strays show */
		CHECK(sub.request_id >> 32 == generation);
		CHECK(payload_is(sub.payload, sub.request_id & 0xffff));
		answer = answer_to(sub.request_id);
		body = store_alloc(32);
		memcpy(body, &sub.request_id, sizeof(sub.request_id));
		answer.body = body;
		answer.body_len = 32;
		ring_complete(slot, generation, &answer);
	}
	/* the one who told us to stop is still there; all others are gone */
	ring_collect_bodies();
	CHECK(store_bytes_used() == used_before);
}

static uint64_t
own_id(uint64_t n)
{
	return atomic_load(&control_self()->generation) << 32 | (n & 0xffff);
}

static void
check_own_completion(const Completion *done, uint64_t *expected)
{
	uint64_t	id;

	CHECK(done->request_id == own_id(*expected));
	CHECK(done->body_len == 32);
	memcpy(&id, done->body, sizeof(id));
	CHECK(id == done->request_id);
	(*expected)++;
}

/* submits and checks answers, in order, until it is killed or has enough */
static void
submit_and_check(uint64_t enough)
{
	static uint8_t buffer[MAX_PAYLOAD];
	uint64_t	sent = 0;
	uint64_t	expected = 0;
	Completion	done;

	while (expected < enough)
	{
		bool		is_full = sent - expected > 50 || sent == enough ||
			!ring_submit(SUBMIT_LOGOP, own_id(sent),
						 make_payload(buffer, sent & 0xffff));

		sent += !is_full;
		if (!is_full)
			continue;
		while (ring_completion_next(&done))
		{
			check_own_completion(&done, &expected);
			ring_completion_done();
			is_full = false;
		}
		if (is_full && ring_arm_completions())
			sleep_on(ring_completion_fd(), -1);
	}
}

static void
run_until_killed(void)
{
	submit_and_check(UINT64_MAX);
}

static void
run_some(void)
{
	submit_and_check(300);
}

static void
run_stop_worker(void)
{
	CHECK(ring_submit(SUBMIT_READ, FORGET_ID, BYTES_EMPTY));
}

#define KILL_ROUNDS 40

static void
test_kill_nine_at_any_moment(void **state)
{
	pid_t		worker = fork();
	Backend		victims[NSLOTS - 1];
	Backend		last;
	int			status;

	assert_true(worker >= 0);
	if (worker == 0)
	{
		alarm(ALARM_SEC);
		run_worker();
		_exit(0);
	}
	for (size_t i = 0; i < lengthof(victims); i++)
		victims[i] = start_backend(run_until_killed);
	for (int round = 0; round < KILL_ROUNDS; round++)
	{
		Backend    *victim = &victims[round % lengthof(victims)];

		nanosleep(&(struct timespec) {.tv_nsec = round * 97 % 7000 * 1000L},
				  NULL);
		kill(victim->pid, SIGKILL);
		status = end_backend(victim);
		/* it had found nothing wrong until then */
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGKILL);
		*victim = start_backend(run_until_killed);
	}
	for (size_t i = 0; i < lengthof(victims); i++)
	{
		kill(victims[i].pid, SIGKILL);
		status = end_backend(&victims[i]);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	}
	/* each slot serves its next owner */
	for (int i = 0; i < NSLOTS; i++)
	{
		Backend		backend = start_backend(run_some);

		assert_ended_well(&backend);
	}
	last = start_backend(run_stop_worker);
	assert_int_equal(waitpid(worker, &status, 0), worker);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_ended_well(&last);
}

/* ---- attaching ---- */

static void
test_descriptors_stay_bounded(void **state)
{
	struct rlimit limit;
	int			first;
	int			second;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_true(limit.rlim_cur == limit.rlim_max);
	assert_all_slots_serve();
	first = dup(0);
	close(first);
	for (int i = 0; i < 3; i++)
		assert_all_slots_serve();
	second = dup(0);
	close(second);
	assert_int_equal(first, second);
}

static void
test_nonsense_announcements_are_ignored(void **state)
{
	RingAttachMessage attach = {.slot = NSLOTS + 3,.generation = 1};

	assert_int_equal(write(ring_places.attach_fds[1], &attach,
						   sizeof(attach)), sizeof(attach));
	assert_int_equal(write(ring_places.attach_fds[1], "x", 1), 1);
	attach.slot = 0;
	attach.generation = 12;
	assert_int_equal(write(ring_places.attach_fds[1], &attach,
						   sizeof(attach)), sizeof(attach));
	ring_accept_attachments();
	assert_all_slots_serve();
}

int
main(void)
{
#define WITH_RINGS(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_RINGS(test_stream_of_random_sizes),
		WITH_RINGS(test_no_wakeup_is_lost),
		WITH_RINGS(test_no_submission_is_overlooked),
		WITH_RINGS(test_arming_looks_again),
		WITH_RINGS(test_answer_before_the_eventfd_has_arrived),
		WITH_RINGS(test_full_rings_refuse_and_recover),
		WITH_RINGS(test_quiet_backend_stays_at_the_front),
		WITH_RINGS(test_busy_backend_does_not_shut_out_others),
		WITH_RINGS(test_broken_submissions_are_dropped),
		WITH_RINGS(test_broken_position_in_answers),
		WITH_RINGS(test_unread_answers_are_bounded),
		WITH_RINGS(test_successor_hears_nothing_of_the_dead),
		WITH_RINGS(test_entry_for_the_dead_is_passed_over),
		WITH_RINGS(test_successor_begins_with_an_empty_ring),
		WITH_RINGS(test_slot_changes_hands_under_the_copying_worker),
		WITH_RINGS(test_killed_waker_does_not_leave_the_worker_asleep),
		WITH_RINGS(test_reaping_gives_memory_back),
		WITH_RINGS(test_kill_nine_at_any_moment),
		WITH_RINGS(test_descriptors_stay_bounded),
		WITH_RINGS(test_nonsense_announcements_are_ignored),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
