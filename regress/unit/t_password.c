/*
 * t_password.c
 *	  Password hashes, PHC strings from elsewhere, hash slots whose holders are
 *	  killed, and the hashing thread.
 */
/* needs: auth lease common storage/snap storage/ipc storage/lmgr utils/injection */
#include "server.h"

/* system */
#include <dirent.h>
#include <dlfcn.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* libraries */
#include <argon2.h>
#include <cmocka.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "auth/password.h"
#include "storage/ipc/control.h"

#define DEADLINE_MS 60000

static const PasswordCost cheap = {
	.memory_kib = 64,.iterations = 1,.parallelism = 1
};

/*
 * Stands before the C library's function of this name and lets who sleeps on a
 * futex sleep until he is woken: no waiter looks again by himself, so that one
 * who comes was woken, however long that took.
 */
long
syscall(long number,...)
{
	static long (*real_syscall) (long number,...);
	long		arg[6];
	va_list		args;

	if (real_syscall == NULL)
	{
		void	   *found = dlsym(RTLD_NEXT, "syscall");

		if (found == NULL)
			abort();
		/* a function pointer out of a data pointer, as POSIX allows */
		memcpy(&real_syscall, &found, sizeof(found));
	}
	va_start(args, number);
	for (size_t i = 0; i < lengthof(arg); i++)
		arg[i] = va_arg(args, long);
	va_end(args);
	if (number == SYS_futex && (arg[1] & FUTEX_CMD_MASK) == FUTEX_WAIT)
		arg[3] = 0;
	return real_syscall(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

/*
 * Stands before libargon2's function of this name and notes what is computed;
 * this is how the tests see that a login without a hash costs the same.
 */
static _Atomic int nverified;
static argon2_context last_computed;

int
argon2id_ctx(argon2_context *context)
{
	last_computed = *context;
	atomic_fetch_add(&nverified, 1);
	return argon2_ctx(context, Argon2_id);
}

/* ---- hashes ---- */

static void
test_hash_and_verify(void **state)
{
	static const uint8_t zeros[3] = {'a', 0, 'b'};
	uint8_t		longest[1024];
	Bytes		passwords[] = {
		BYTES_EMPTY,
		BYTES_LITERAL("secret"),
		BYTES_LITERAL("secret2"),
		bytes_make(zeros, 1),
		bytes_make(zeros, 3),
		bytes_make(longest, sizeof(longest)),
		bytes_make(longest, sizeof(longest) - 1),
	};
	char		phc[PASSWORD_PHC_BYTES];

	memset(longest, 0xff, sizeof(longest));
	for (size_t i = 0; i < lengthof(passwords); i++)
	{
		assert_true(password_hash(passwords[i], &cheap, phc));
		assert_true(password_phc_is_sound(bytes_from_cstr(phc)));
		assert_memory_equal(phc, "$argon2id$v=19$m=64,t=1,p=1$", 28);
		for (size_t j = 0; j < lengthof(passwords); j++)
			assert_int_equal(password_verify(passwords[j],
											 bytes_from_cstr(phc)), i == j);
	}
}

static void
test_salt_is_random(void **state)
{
	char		one[PASSWORD_PHC_BYTES];
	char		two[PASSWORD_PHC_BYTES];

	assert_true(password_hash(BYTES_LITERAL("x"), &cheap, one));
	assert_true(password_hash(BYTES_LITERAL("x"), &cheap, two));
	assert_string_not_equal(one, two);
	/* 16 bytes of salt, 32 of hash */
	assert_int_equal(strlen(one), 28 + 22 + 1 + 43);
}

static void
test_known_answers(void **state)
{
	static const char *const vectors[] = {
		"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
		"$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
	};

	for (size_t i = 0; i < lengthof(vectors); i++)
	{
		assert_true(password_verify(BYTES_LITERAL("password"),
									bytes_from_cstr(vectors[i])));
		assert_false(password_verify(BYTES_LITERAL("Password"),
									 bytes_from_cstr(vectors[i])));
	}
}

static void
test_memory_is_raised_to_what_the_lanes_need(void **state)
{
	PasswordCost cost = {.memory_kib = 8,.iterations = 1,.parallelism = 4};
	char		phc[PASSWORD_PHC_BYTES];

	assert_true(password_hash(BYTES_LITERAL("x"), &cost, phc));
	assert_memory_equal(phc, "$argon2id$v=19$m=32,t=1,p=4$", 28);
	assert_true(password_verify(BYTES_LITERAL("x"), bytes_from_cstr(phc)));
}

#define SALT "c29tZXNhbHQ"
#define HASH "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"

static void
test_malformed_phc_strings(void **state)
{
	static const char *const bad[] = {
		"",
		"$",
		"x",
		"argon2id$v=19$m=256,t=2,p=1$" SALT "$" HASH,
		"$argon2i$v=19$m=256,t=2,p=1$" SALT "$" HASH,
		"$argon2d$v=19$m=256,t=2,p=1$" SALT "$" HASH,
		"$argon2id$m=256,t=2,p=1$" SALT "$" HASH,
		"$argon2id$v=16$m=256,t=2,p=1$" SALT "$" HASH,
		"$argon2id$v=19$t=2,m=256,p=1$" SALT "$" HASH,
		"$argon2id$v=19$m=256,t=2$" SALT "$" HASH,
		"$argon2id$v=19$m=256,t=2,p=1,$" SALT "$" HASH,
		"$argon2id$v=19$m=0256,t=2,p=1$" SALT "$" HASH,
		"$argon2id$v=19$m=+256,t=2,p=1$" SALT "$" HASH,
		"$argon2id$v=19$m=,t=2,p=1$" SALT "$" HASH,
		"$argon2id$v=19$m=256,t=0,p=1$" SALT "$" HASH,
		"$argon2id$v=19$m=256,t=2,p=0$" SALT "$" HASH,
		/* cost out of bounds, or not what 32 bits hold */
		"$argon2id$v=19$m=7,t=2,p=1$" SALT "$" HASH,
		"$argon2id$v=19$m=15,t=2,p=2$" SALT "$" HASH,
		"$argon2id$v=19$m=4194305,t=2,p=1$" SALT "$" HASH,
		"$argon2id$v=19$m=4294967552,t=2,p=1$" SALT "$" HASH,
		"$argon2id$v=19$m=18446744073709551872,t=2,p=1$" SALT "$" HASH,
		"$argon2id$v=19$m=256,t=1001,p=1$" SALT "$" HASH,
		"$argon2id$v=19$m=4096,t=2,p=65$" SALT "$" HASH,
		/* salt and hash */
		"$argon2id$v=19$m=256,t=2,p=1$$" HASH,
		"$argon2id$v=19$m=256,t=2,p=1$" SALT "$",
		"$argon2id$v=19$m=256,t=2,p=1$" SALT,
		"$argon2id$v=19$m=256,t=2,p=1$" SALT "$" HASH "$",
		"$argon2id$v=19$m=256,t=2,p=1$" SALT "$" HASH " ",
		"$argon2id$v=19$m=256,t=2,p=1$" SALT "=$" HASH,
		"$argon2id$v=19$m=256,t=2,p=1$c29tZXM$" HASH,	/* 5 bytes */
		"$argon2id$v=19$m=256,t=2,p=1$" SALT "$bQk8UB/VmZZF4Oo79iDX",	/* 15 */
		"$argon2id$v=19$m=256,t=2,p=1$" SALT "AA$" HASH,
		/* stray bits in the last character */
		"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHR$" HASH,
		"$argon2id$v=19$m=256,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAB$" HASH,
		"$argon2id$v=19$m=256,t=2,p=1$" SALT "$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/5",
		/* url-safe base64 is another alphabet */
		"$argon2id$v=19$m=256,t=2,p=1$" SALT "$nf65EOgLrQMR_uIPnA4rEsF5h7TKyQwu9U1bMCHGi-4",
	};
	static const char good[] = "$argon2id$v=19$m=256,t=2,p=1$" SALT "$" HASH;
	char		long_one[PASSWORD_PHC_BYTES + 200];

	assert_true(password_phc_is_sound(bytes_from_cstr(good)));
	for (size_t i = 0; i < lengthof(bad); i++)
	{
		if (password_phc_is_sound(bytes_from_cstr(bad[i])))
			fail_msg("taken for sound: %s", bad[i]);
		assert_false(password_verify(BYTES_LITERAL("password"),
									 bytes_from_cstr(bad[i])));
	}
	/* every prefix, and a zero byte at the end */
	for (size_t len = 0; len < sizeof(good) - 23; len++)
		assert_false(password_phc_is_sound(bytes_make(good, len)));
	assert_false(password_phc_is_sound(bytes_make(good, sizeof(good))));
	memset(long_one, 'A', sizeof(long_one));
	memcpy(long_one, good, sizeof(good) - 1);
	assert_false(password_phc_is_sound(bytes_make(long_one,
												  sizeof(long_one))));
	assert_true(password_phc_is_sound(BYTES_LITERAL(
		"$argon2id$v=19$m=256,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$" HASH)));
	/* at the bounds, which only needs to be read */
	assert_true(password_phc_is_sound(BYTES_LITERAL(
		"$argon2id$v=19$m=4194304,t=1000,p=64$" SALT "$" HASH)));
}

static void
test_unmatchable(void **state)
{
	char		phc[PASSWORD_PHC_BYTES];
	char		again[PASSWORD_PHC_BYTES];
	int			before = atomic_load(&nverified);

	assert_true(password_make_unmatchable(&cheap, phc));
	assert_true(password_make_unmatchable(&cheap, again));
	assert_string_not_equal(phc, again);
	assert_memory_equal(phc, "$argon2id$v=19$m=64,t=1,p=1$", 28);
	assert_int_equal(strlen(phc), 28 + 22 + 1 + 43);
	assert_true(password_phc_is_sound(bytes_from_cstr(phc)));
	assert_int_equal(password_check(BYTES_EMPTY, bytes_from_cstr(phc)),
					 PASSWORD_DIFFERS);
	assert_int_equal(atomic_load(&nverified), before + 1);
}

/* ---- hash slots ---- */

static void
open_slots(uint32_t nslots, uint32_t nhash_slots, uint32_t queue)
{
	ControlSizes sizes = {
		.nslots = nslots,
		.max_request_bytes = 4096,
		.token_cache_entries = 256,
		.hash_slots = nhash_slots,
		.hash_queue = queue,
	};

	assert_true(control_create(&sizes));
}

static int
close_slots(void **state)
{
	control_destroy();
	return 0;
}

typedef struct Child
{
	int			slot;
	pid_t		pid;
	int			report;			/* a byte comes for each step */
	int			go;				/* a byte lets it take the next one */
} Child;

static void
child_report(int fd)
{
	if (write(fd, ".", 1) != 1)
		_exit(1);
}

/* enters, takes a slot and holds it until told to let go */
static Child
start_holder(void)
{
	Child		child = {.slot = control_claim_slot()};
	int			report[2];
	int			go[2];
	char		c;

	assert_true(child.slot >= 0);
	assert_int_equal(pipe(report), 0);
	assert_int_equal(pipe(go), 0);
	child.pid = fork();
	assert_true(child.pid >= 0);
	if (child.pid == 0)
	{
		uint32_t	held;

		alarm(600);
		close(go[1]);
		control_attach_slot(child.slot);
		if (!hashslot_enter())
			_exit(2);
		child_report(report[1]);
		held = hashslot_acquire();
		child_report(report[1]);
		if (read(go[0], &c, 1) != 1)
			_exit(3);
		hashslot_release(held);
		hashslot_leave();
		_exit(0);
	}
	close(report[1]);
	close(go[0]);
	child.report = report[0];
	child.go = go[1];
	/* it has entered */
	assert_int_equal(read(child.report, &c, 1), 1);
	return child;
}

static bool
comes_within(const Child *child, int timeout_ms)
{
	struct pollfd fd = {.fd = child->report,.events = POLLIN};
	char		c;

	return poll(&fd, 1, timeout_ms) == 1 && read(child->report, &c, 1) == 1;
}

/* a process's wait channel is not to be had everywhere: its state is */
static void
wait_until_it_sleeps(const Child *child)
{
	int64_t		deadline = clock_monotonic_ms() + DEADLINE_MS;
	char		path[64];
	char		state_letter = '?';

	snprintf(path, sizeof(path), "/proc/%d/stat", (int) child->pid);
	while (state_letter != 'S')
	{
		FILE	   *file = fopen(path, "r");

		assert_non_null(file);
		assert_int_equal(fscanf(file, "%*d (%*[^)]) %c", &state_letter), 1);
		fclose(file);
		assert_true(clock_monotonic_ms() < deadline);
		nanosleep(&(struct timespec) {.tv_nsec = 2000000}, NULL);
	}
}

static void
end_child(const Child *child, bool is_killed)
{
	int			status;

	if (is_killed)
		kill(child->pid, SIGKILL);
	else
		assert_int_equal(write(child->go, ".", 1), 1);
	assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
	if (is_killed)
		assert_true(WIFSIGNALED(status));
	else
		assert_int_equal(status, 0);
	close(child->report);
	close(child->go);
	control_reap_slot(child->slot);
}

static void
test_slots_bound_what_runs(void **state)
{
	Child		a;
	Child		b;
	Child		c;

	open_slots(4, 2, 10);
	a = start_holder();
	assert_true(comes_within(&a, DEADLINE_MS));
	b = start_holder();
	assert_true(comes_within(&b, DEADLINE_MS));
	c = start_holder();
	assert_false(comes_within(&c, 50));
	end_child(&b, false);
	assert_true(comes_within(&c, DEADLINE_MS));
	end_child(&a, false);
	end_child(&c, false);
}

static void
test_killed_holder_gives_its_slot_back(void **state)
{
	Child		holder;
	Child		waiter;

	open_slots(4, 1, 10);
	holder = start_holder();
	assert_true(comes_within(&holder, DEADLINE_MS));
	waiter = start_holder();
	wait_until_it_sleeps(&waiter);
	assert_false(comes_within(&waiter, 20));
	end_child(&holder, true);
	assert_true(comes_within(&waiter, DEADLINE_MS));
	end_child(&waiter, true);
	holder = start_holder();
	assert_true(comes_within(&holder, DEADLINE_MS));
	end_child(&holder, false);
}

/* waits like any other, but is slow to take what it was woken for */
static Child
start_sluggish_waiter(void)
{
	Child		child = {.slot = control_claim_slot()};
	int			report[2];

	assert_true(child.slot >= 0);
	assert_int_equal(pipe(report), 0);
	child.pid = fork();
	assert_true(child.pid >= 0);
	if (child.pid == 0)
	{
		/* released, which stands first in the memory of the hash slots */
		_Atomic uint32_t *released = control_subsystem(SUBSYSTEM_HASH_SLOTS);

		alarm(600);
		control_attach_slot(child.slot);
		if (!hashslot_enter())
			_exit(2);
		syscall(SYS_futex, released, FUTEX_WAIT, atomic_load(released), NULL,
				NULL, 0);
		child_report(report[1]);
		for (;;)
			pause();
	}
	close(report[1]);
	child.report = report[0];
	child.go = dup(report[0]);
	return child;
}

/* who is woken and killed before he takes the slot must not keep it asleep */
static void
test_killed_waiter_passes_its_wakeup_on(void **state)
{
	Child		holder;
	Child		first;
	Child		second;

	open_slots(4, 1, 10);
	holder = start_holder();
	assert_true(comes_within(&holder, DEADLINE_MS));
	/* the kernel wakes in order of arrival */
	first = start_sluggish_waiter();
	wait_until_it_sleeps(&first);
	second = start_holder();
	wait_until_it_sleeps(&second);
	end_child(&holder, false);
	assert_true(comes_within(&first, DEADLINE_MS));
	end_child(&first, true);
	assert_true(comes_within(&second, DEADLINE_MS));
	end_child(&second, false);
}

/* enter until refused; returns how often it was granted */
static uint32_t
enter_all(void)
{
	uint32_t	n = 0;

	while (n < 100 && hashslot_enter())
		n++;
	return n;
}

static void
test_queue_is_bounded_over_all_processes(void **state)
{
	const uint32_t most = 1 + 7;
	Child		other;
	int			slot;
	uint32_t	n;

	open_slots(4, 1, 7);
	slot = control_claim_slot();
	control_attach_slot(slot);
	other = start_holder();
	n = enter_all();
	assert_in_range(n, most / 2 - 1, most - 1);
	assert_int_equal(atomic_load(&control_slot(slot)->hash_waiting), n);
	assert_int_equal(atomic_load(&control_slot(other.slot)->hash_waiting), 1);

	/* what a killed process had counts no more */
	end_child(&other, true);
	assert_int_equal(atomic_load(&control_slot(other.slot)->hash_waiting), 0);
	assert_int_equal(enter_all(), 1);
	hashslot_leave();
	assert_int_equal(enter_all(), 1);
}

/* enters once; true if it is granted */
static bool
another_process_enters(void)
{
	int			slot = control_claim_slot();
	pid_t		pid = fork();
	int			status;

	assert_true(slot >= 0 && pid >= 0);
	if (pid == 0)
	{
		control_attach_slot(slot);
		_exit(hashslot_enter() ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	control_reap_slot(slot);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status) == 0;
}

/* however one process fills its share, others get the rest and no more */
static void
test_first_job_is_refused_when_all_is_full(void **state)
{
	const uint32_t most = 1 + 5;
	Child		children[6];
	uint32_t	nchildren;
	uint32_t	n;

	open_slots(8, 1, 5);
	control_attach_slot(control_claim_slot());
	n = enter_all();
	assert_in_range(n, 1, most);
	nchildren = most - n;
	for (uint32_t i = 0; i < nchildren; i++)
		children[i] = start_holder();
	assert_false(another_process_enters());
	for (uint32_t i = 0; i < nchildren; i++)
		end_child(&children[i], true);
	if (nchildren == 0)
		hashslot_leave();
	assert_true(another_process_enters());
}

static void
test_no_more_than_the_slots_at_one_time(void **state)
{
	_Atomic int *running = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
								MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	_Atomic int *worst = running + 1;
	pid_t		pids[5];
	int			status;

	assert_ptr_not_equal(running, MAP_FAILED);
	open_slots(6, 2, 100);
	for (size_t i = 0; i < lengthof(pids); i++)
	{
		int			slot = control_claim_slot();

		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] != 0)
			continue;
		alarm(600);
		control_attach_slot(slot);
		for (int n = 0; n < 300; n++)
		{
			uint32_t	held;
			int			now;
			int			seen;

			if (!hashslot_enter())
				_exit(1);
			held = hashslot_acquire();
			now = atomic_fetch_add(running, 1) + 1;
			seen = atomic_load(worst);
			while (now > seen &&
				   !atomic_compare_exchange_weak(worst, &seen, now))
				continue;
			/* the first one waits until another has the other slot */
			while (atomic_load(worst) < 2)
				sched_yield();
			if (n % 10 == 0)
				nanosleep(&(struct timespec) {.tv_nsec = 100000}, NULL);
			atomic_fetch_sub(running, 1);
			hashslot_release(held);
			hashslot_leave();
		}
		_exit(0);
	}
	for (size_t i = 0; i < lengthof(pids); i++)
	{
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(atomic_load(running), 0);
	assert_int_equal(atomic_load(worst), 2);
	munmap(running, 4096);
}

/* ---- the hashing thread ---- */

static bool pool_is_ready;

static int
open_pool(void **state)
{
	open_slots(2, 1, 5);
	control_attach_slot(control_claim_slot());
	if (!pool_is_ready)
		hashpool_init(&cheap);
	pool_is_ready = true;
	return 0;
}

static HashJob *
make_job(HashJobKind kind, const char *password, const char *phc)
{
	HashJob    *job = xcalloc(1, sizeof(*job));

	job->kind = kind;
	job->owner = job;
	job->password_len = strlen(password);
	job->password = xmalloc(job->password_len + 1);
	memcpy(job->password, password, job->password_len);
	job->cost = cheap;
	snprintf(job->phc, sizeof(job->phc), "%s", phc);
	/* results are the pool's: whatever stands here is not believed */
	job->matches = true;
	job->error = ERR_UNKNOWN;
	return job;
}

static HashJob *
await_job(void)
{
	int64_t		deadline = clock_monotonic_ms() + DEADLINE_MS;
	HashJob    *job;

	while ((job = hashpool_collect()) == NULL)
	{
		struct pollfd fd = {.fd = hashpool_fd(),.events = POLLIN};

		poll(&fd, 1, DEADLINE_MS);
		assert_true(clock_monotonic_ms() < deadline);
	}
	assert_ptr_equal(job->owner, job);
	assert_null(job->password);
	return job;
}

/* submit, wait, and return the job */
static HashJob *
run_job(HashJobKind kind, const char *password, const char *phc)
{
	HashJob    *job = make_job(kind, password, phc);

	assert_int_equal(hashpool_submit(job), ERR_NONE);
	assert_ptr_equal(await_job(), job);
	return job;
}

static bool
verify_in_pool(const char *password, const char *phc)
{
	HashJob    *job = run_job(HASH_JOB_VERIFY, password, phc);
	bool		matches = job->matches;

	assert_int_equal(job->error, ERR_NONE);
	free(job);
	return matches;
}

static void
test_pool_makes_and_verifies(void **state)
{
	HashJob    *made = run_job(HASH_JOB_MAKE, "secret", "");

	assert_int_equal(made->error, ERR_NONE);
	assert_true(password_verify(BYTES_LITERAL("secret"),
								bytes_from_cstr(made->phc)));
	assert_true(verify_in_pool("secret", made->phc));
	assert_false(verify_in_pool("Secret", made->phc));
	assert_false(verify_in_pool("", made->phc));
	assert_null(hashpool_collect());
	assert_int_equal(atomic_load(&control_self()->hash_waiting), 0);
	free(made);
}

static long
resident_pages(void)
{
	FILE	   *f = fopen("/proc/self/statm", "r");
	long		total;
	long		resident;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%ld %ld", &total, &resident), 2);
	fclose(f);
	return resident;
}

/* what a hash needed is given back at once, also after many */
static void
test_memory_of_a_hash_is_given_back(void **state)
{
	const PasswordCost large = {
		.memory_kib = 19456,.iterations = 1,.parallelism = 1
	};
	char		phc[PASSWORD_PHC_BYTES];
	long		before;

	assert_true(password_hash(BYTES_LITERAL("secret"), &large, phc));
	before = resident_pages();
	for (int i = 0; i < 3; i++)
		assert_true(password_verify(BYTES_LITERAL("secret"),
									bytes_from_cstr(phc)));
	/* sanitizers keep books of their own: a tenth of the 19 MB */
	assert_true(resident_pages() - before < 19456 / 4 / 10);
}

/* the same work for a wrong password, no hash, and a hash that is damaged */
static void
test_no_hash_costs_as_much_as_a_wrong_password(void **state)
{
	static const char *const phcs[] = {"", "damaged", ""};
	HashJob    *made = run_job(HASH_JOB_MAKE, "secret", "");
	int			before = atomic_load(&nverified);
	argon2_context wrong;

	assert_false(verify_in_pool("wrong", made->phc));
	assert_int_equal(atomic_load(&nverified), ++before);
	wrong = last_computed;
	assert_int_equal(wrong.m_cost, cheap.memory_kib);
	assert_int_equal(wrong.t_cost, cheap.iterations);
	for (size_t i = 0; i < lengthof(phcs); i++)
	{
		assert_false(verify_in_pool("secret", phcs[i]));
		assert_int_equal(atomic_load(&nverified), ++before);
		assert_int_equal(last_computed.m_cost, wrong.m_cost);
		assert_int_equal(last_computed.t_cost, wrong.t_cost);
		assert_int_equal(last_computed.lanes, wrong.lanes);
		assert_int_equal(last_computed.saltlen, wrong.saltlen);
		assert_int_equal(last_computed.outlen, wrong.outlen);
	}
	free(made);
}

static void
test_pool_keeps_order_and_bounds(void **state)
{
	HashJob    *jobs[7];
	int			naccepted = 0;
	uint32_t	held;

	/* nobody computes while we hold the only slot: of 6 places 1 is taken */
	assert_true(hashslot_enter());
	held = hashslot_acquire();
	for (size_t i = 0; i < lengthof(jobs); i++)
	{
		ErrCode		error;

		jobs[i] = make_job(HASH_JOB_VERIFY, "x", "");
		error = hashpool_submit(jobs[i]);
		if (error == ERR_NONE)
			assert_int_equal(naccepted++, i);
		else
		{
			/* still ours, untouched */
			assert_int_equal(error, ERR_TOO_MANY_LOGINS);
			assert_int_equal(jobs[i]->password[0], 'x');
		}
	}
	assert_in_range(naccepted, 2, 5);
	hashslot_release(held);
	hashslot_leave();
	for (int i = 0; i < naccepted; i++)
		assert_ptr_equal(await_job(), jobs[i]);
	for (size_t i = (size_t) naccepted; i < lengthof(jobs); i++)
		free(jobs[i]->password);
	for (size_t i = 0; i < lengthof(jobs); i++)
		free(jobs[i]);
	assert_true(hashslot_enter());
	hashslot_leave();
}

static void
test_eventfd_is_quiet_when_all_is_collected(void **state)
{
	struct pollfd fd = {.fd = hashpool_fd(),.events = POLLIN};

	for (int i = 0; i < 50; i++)
		assert_false(verify_in_pool("x", ""));
	assert_null(hashpool_collect());
	assert_int_equal(poll(&fd, 1, 0), 0);
}

static bool
read_status_mask(const char *tid, const char *field, uint64_t *mask)
{
	char		path[300];
	char		line[256];
	FILE	   *file;
	bool		found = false;
	size_t		len = strlen(field);

	snprintf(path, sizeof(path), "/proc/self/task/%s/status", tid);
	file = fopen(path, "r");
	if (file == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), file) != NULL)
	{
		found = strncmp(line, field, len) == 0;
		if (found)
			*mask = strtoull(line + len, NULL, 16);
	}
	fclose(file);
	return found;
}

static int
read_nice(const char *tid)
{
	char		path[300];
	FILE	   *file;
	int			nice_value = -100;

	snprintf(path, sizeof(path), "/proc/self/task/%s/stat", tid);
	file = fopen(path, "r");
	if (file == NULL)
		return nice_value;
	assert_int_equal(fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u "
							"%*u %*u %*u %*u %*u %*u %*d %*d %*d %d",
							&nice_value), 1);
	fclose(file);
	return nice_value;
}

/* signals are the event loop's, and so is the processor */
static void
test_thread_is_polite(void **state)
{
	DIR		   *tasks;
	struct dirent *entry;
	char		own[32];
	int			polite;
	int			npolite = 0;

	assert_false(verify_in_pool("x", ""));
	snprintf(own, sizeof(own), "%d", (int) getpid());
	/* there is nothing beyond 19, which this process may be near already */
	polite = read_nice(own) + 10 < 19 ? read_nice(own) + 10 : 19;
	tasks = opendir("/proc/self/task");
	assert_non_null(tasks);
	while ((entry = readdir(tasks)) != NULL)
	{
		uint64_t	blocked = 0;

		if (entry->d_name[0] == '.' || strcmp(entry->d_name, own) == 0)
			continue;
		/* sanitizers have threads of their own */
		if (!read_status_mask(entry->d_name, "SigBlk:", &blocked) ||
			(blocked & (UINT64_C(1) << (SIGTERM - 1))) == 0 ||
			(blocked & (UINT64_C(1) << (SIGHUP - 1))) == 0)
			continue;
		if (read_nice(entry->d_name) == polite)
			npolite++;
	}
	closedir(tasks);
	assert_int_equal(npolite, 1);
}

int
main(void)
{
#define WITH_SLOTS(test) cmocka_unit_test_teardown(test, close_slots)
#define WITH_POOL(test) \
	cmocka_unit_test_setup_teardown(test, open_pool, close_slots)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hash_and_verify),
		cmocka_unit_test(test_salt_is_random),
		cmocka_unit_test(test_memory_of_a_hash_is_given_back),
		cmocka_unit_test(test_known_answers),
		cmocka_unit_test(test_memory_is_raised_to_what_the_lanes_need),
		cmocka_unit_test(test_malformed_phc_strings),
		cmocka_unit_test(test_unmatchable),
		/* these fork, so before the thread is there */
		WITH_SLOTS(test_slots_bound_what_runs),
		WITH_SLOTS(test_killed_holder_gives_its_slot_back),
		WITH_SLOTS(test_killed_waiter_passes_its_wakeup_on),
		WITH_SLOTS(test_queue_is_bounded_over_all_processes),
		WITH_SLOTS(test_first_job_is_refused_when_all_is_full),
		WITH_SLOTS(test_no_more_than_the_slots_at_one_time),
		WITH_POOL(test_pool_makes_and_verifies),
		WITH_POOL(test_no_hash_costs_as_much_as_a_wrong_password),
		WITH_POOL(test_pool_keeps_order_and_bounds),
		WITH_POOL(test_eventfd_is_quiet_when_all_is_collected),
		WITH_POOL(test_thread_is_polite),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
