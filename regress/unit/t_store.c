/*
 * t_store.c
 *	  The store between processes: one writes, others read, some are killed.
 *
 * The test program is the postmaster here: it creates the store and forks the
 * writer and the readers.  A child says what it found by its exit status.
 */
/* needs: storage/snap */
#include "server.h"

/* system */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"

/* this layer and below */
#include "storage/snap/slab.h"
#include "storage/snap/store.h"

#define MB ((size_t) 1024 * 1024)
#define NREADERS 4
/* pins, one more, holds */
#define NWORDS (2 * NREADERS + 1)
#define HOLD_WORD(reader) (NREADERS + 1 + (reader))
#define LOAD_MS 2500
#define WAIT_MAX_MS 120000

/* exit statuses of children; apart from those of elog */
#define CHILD_OK 0
#define CHILD_FAULT 40

/* shared with all children */
typedef struct Shared
{
	StorePinWord words[NWORDS];
	_Atomic bool stop_readers;
	_Atomic bool stop;			/* the writer; when no reader is left */
	_Atomic uint32_t stage;
	_Atomic uint64_t npublished;
	_Atomic uint64_t nwalks;
	_Atomic size_t waiting;		/* what the writer's reclaim returned last */
	_Atomic size_t max_waiting;
	char		fault[200];		/* written by the child that failed */
} Shared;

static Shared *shared;

static StorePinWord *
get_pin_word(uint32_t i)
{
	return &shared->words[i];
}

static int
setup(void **state)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(shared, MAP_FAILED);
	store_use_populate_thread(false);
	assert_true(store_create(512 * MB));
	store_set_pin_words(get_pin_word, NWORDS);
	return 0;
}

static int
teardown(void **state)
{
	store_set_pin_words(NULL, 0);
	store_set_own_pin_word(NULL);
	store_destroy();
	munmap(shared, sizeof(*shared));
	return 0;
}

/* ---- children ---- */

static pid_t
child_start(void (*fn) (uint32_t arg), uint32_t arg)
{
	pid_t		pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
	{
		/* cmocka's handler would run the rest of the tests in the child */
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		signal(SIGABRT, SIG_DFL);
		alarm(600);
		fn(arg);
		_exit(CHILD_OK);
	}
	return pid;
}

static int
child_wait(pid_t pid)
{
	int			status;

	while (waitpid(pid, &status, 0) < 0)
		assert_int_equal(errno, EINTR);
	return status;
}

static void
assert_exit(pid_t pid, int expected)
{
	int			status = child_wait(pid);

	if (WIFSIGNALED(status))
		fail_msg("child was ended by signal %d", WTERMSIG(status));
	if (WEXITSTATUS(status) != expected)
		fail_msg("child exited with %d: %s", WEXITSTATUS(status),
				 shared->fault);
}

static void
child_expect(bool condition, const char *what)
{
	if (condition)
		return;
	snprintf(shared->fault, sizeof(shared->fault), "%s", what);
	_exit(CHILD_FAULT);
}

static void
sleep_ms(long ms)
{
	nanosleep(&(struct timespec) {.tv_nsec = ms * 1000000}, NULL);
}

static bool
stage_wait(uint32_t stage)
{
	int64_t		until = clock_monotonic_ms() + WAIT_MAX_MS;

	while (atomic_load(&shared->stage) != stage)
	{
		if (clock_monotonic_ms() > until)
			return false;
		sleep_ms(1);
	}
	return true;
}

/* ---- what is written and read ---- */

/*
 * A version holds together when the sum over all items is its live_bytes,
 * their number its applied_index, and each item's seal fits.
 */
typedef struct Item
{
	CowItem		item;
	uint64_t	value;
	uint64_t	seal;			/* value times a constant, plus the key */
	uint32_t	size;			/* of it all; varies */
	uint8_t		key[8];
} Item;

#define KEY_RANGE 3000

static uint64_t
seal_of(uint64_t value, uint32_t number)
{
	return value * UINT64_C(0x9e3779b97f4a7c15) + number;
}

static Bytes
make_key(uint8_t *buf, uint32_t number)
{
	memcpy(buf, "key/", 4);
	buf[4] = (uint8_t) (number >> 24);
	buf[5] = (uint8_t) (number >> 16);
	buf[6] = (uint8_t) (number >> 8);
	buf[7] = (uint8_t) number;
	return bytes_make(buf, 8);
}

static uint32_t
number_of(const Item *item)
{
	return (uint32_t) item->key[4] << 24 | (uint32_t) item->key[5] << 16 |
		(uint32_t) item->key[6] << 8 | item->key[7];
}

static uint32_t
next_random(uint64_t *seed, uint32_t below)
{
	*seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t) (*seed >> 33) % below;
}

static void
item_retire(const Item *item)
{
	store_retire(item, item->size);
}

static void
write_one(StoreVersion *draft, uint64_t *seed)
{
	uint32_t	number = next_random(seed, KEY_RANGE);
	const Item *old;
	Item	   *item;
	uint32_t	size;
	uint8_t		buf[8];
	Bytes		key = make_key(buf, number);

	if (next_random(seed, 100) < 40)
		old = (const Item *) cowtree_delete(&draft->keys, key);
	else
	{
		size = (uint32_t) sizeof(*item) + next_random(seed, 2000);
		item = store_alloc(size);
		item->item.key_len = 8;
		item->item.key_offset = offsetof(Item, key);
		item->value = ((uint64_t) next_random(seed, UINT32_MAX) << 31) + number;
		item->seal = seal_of(item->value, number);
		item->size = size;
		memcpy(item->key, key.data, key.len);
		draft->live_bytes += item->value;
		old = (const Item *) cowtree_put(&draft->keys, &item->item);
	}
	if (old != NULL)
	{
		draft->live_bytes -= old->value;
		item_retire(old);
	}
	draft->applied_index = draft->keys.nitems;
}

static bool
version_holds_together(const StoreVersion *v)
{
	CowCursor	cursor;
	uint64_t	sum = 0;
	uint64_t	n = 0;
	const Item *item;

	for (item = (const Item *) cowtree_seek(&v->keys, &cursor, BYTES_EMPTY);
		 item != NULL; item = (const Item *) cowtree_next(&cursor))
	{
		if (item->item.key_len != 8 ||
			item->seal != seal_of(item->value, number_of(item)))
			return false;
		sum += item->value;
		n++;
	}
	return sum == v->live_bytes && n == v->applied_index &&
		n == v->keys.nitems;
}

/* random keys one by one must agree with a walk to the same place */
static bool
lookups_hold_together(const StoreVersion *v, uint64_t *seed)
{
	for (uint32_t i = 0; i < 50; i++)
	{
		uint8_t		buf[8];
		Bytes		key = make_key(buf, next_random(seed, KEY_RANGE));
		CowCursor	cursor;
		const CowItem *item = cowtree_get(&v->keys, key);
		const CowItem *from = cowtree_seek(&v->keys, &cursor, key);

		if (item != NULL && item != from)
			return false;
		if (item == NULL && from != NULL &&
			bytes_compare(cowitem_key(from), key) <= 0)
			return false;
	}
	return true;
}

/* nothing but the published version and the draft may be left */
static void
writer_empty_and_check(void)
{
	size_t		bytes_empty = 2 * slab_rounded_bytes(sizeof(StoreVersion));
	StoreVersion *draft = store_draft();
	CowCursor	cursor;

	for (const CowItem *item = cowtree_seek(&draft->keys, &cursor, BYTES_EMPTY);
		 item != NULL; item = cowtree_next(&cursor))
		item_retire((const Item *) item);
	cowtree_drop(&draft->keys);
	draft->live_bytes = draft->applied_index = 0;
	store_publish();
	store_publish();
	for (uint32_t i = 0; i < 100 && store_reclaim() > 0; i++)
		;
	child_expect(store_reclaim() == 0, "retired pieces are left");
	child_expect(store_bytes_used() == bytes_empty,
				 "memory leaked in the store");
	child_expect(store_check() == NULL, "the allocator's books are wrong");
}

/* ---- life of the mapping ---- */

static void
touch_store(uint32_t arg)
{
	*(volatile uint8_t *) store_base() = 1;
}

static bool
store_descriptor_is_open(int *found)
{
	DIR		   *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	bool		is_open = false;

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL)
	{
		char		target[256];
		ssize_t		n = readlinkat(dirfd(dir), entry->d_name, target,
								   sizeof(target) - 1);

		if (n <= 0)
			continue;
		target[n] = '\0';
		if (strstr(target, "claviger-store") == NULL)
			continue;
		is_open = true;
		if (found != NULL)
			*found = atoi(entry->d_name);
	}
	closedir(dir);
	return is_open;
}

/* in a reader: all the ways to make the mapping writable that it has */
static void
try_to_write(uint32_t arg)
{
	uint8_t		byte = 1;
	int			mem;

	child_expect(!store_descriptor_is_open(NULL),
				 "a descriptor of the store is open in a reader");
	child_expect(mprotect((void *) store_base(), 2 * MB,
						  PROT_READ | PROT_WRITE) != 0 && errno == EACCES,
				 "mprotect did not fail with EACCES");
	child_expect(mprotect((void *) store_base(), store_reserved_bytes(),
						  PROT_READ | PROT_WRITE) != 0 && errno == EACCES,
				 "mprotect of the whole did not fail with EACCES");
	mem = open("/proc/self/mem", O_RDWR);
	if (mem >= 0)
		child_expect(pwrite(mem, &byte, 1, (off_t) (uintptr_t) store_base()) < 0,
					 "the store was written through /proc/self/mem");
}

static void
readers_cannot_write(void **state)
{
	int			fd;
	struct stat st;
	int			status;

	/* until the worker is forked the postmaster has it; mode 0400 */
	assert_true(store_descriptor_is_open(&fd));
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, S_IRUSR);

	store_close_writer_fd();
	assert_int_equal(mprotect((void *) store_base(), store_reserved_bytes(),
							  PROT_READ | PROT_WRITE), -1);
	assert_int_equal(errno, EACCES);
	assert_exit(child_start(try_to_write, 0), CHILD_OK);

	status = child_wait(child_start(touch_store, 0));
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSEGV);
}

static void
attach_writer(uint32_t arg)
{
	store_attach_writer();
	child_expect(!store_descriptor_is_open(NULL),
				 "the writer keeps its descriptor");
	atomic_store(&store_raft_status()->term, 42);
	store_draft()->kv_revision = 7;
	store_publish();
}

static void
the_writer_shows_to_others(void **state)
{
	const StoreVersion *v;

	store_set_own_pin_word(&shared->words[0]);
	/* a store that nobody has written yet is an empty one */
	v = store_pin();
	assert_int_equal(v->number, 1);
	assert_int_equal(v->kv_revision, 1);
	assert_int_equal(v->auth_revision, 1);
	assert_int_equal(v->keys.nitems, 0);
	assert_false(v->auth_enabled);
	store_unpin();
	assert_false(atomic_load(&store_raft_status()->is_ready));

	assert_exit(child_start(attach_writer, 0), CHILD_OK);
	assert_int_equal(atomic_load(&store_raft_status()->term), 42);
	v = store_pin();
	assert_int_equal(v->kv_revision, 7);
	assert_int_equal(v->number, 2);
	store_unpin();

	/* the restart after a crash: a new store, nothing of the old one */
	store_destroy();
	assert_true(store_create(64 * MB));
	assert_int_equal(atomic_load(&store_raft_status()->term), 0);
	assert_int_equal(store_pin()->kv_revision, 1);
	store_unpin();
	assert_exit(child_start(attach_writer, 0), CHILD_OK);
	assert_int_equal(atomic_load(&store_raft_status()->term), 42);
}

static void
pin_without_slot(uint32_t arg)
{
	store_set_own_pin_word(NULL);
	store_pin();
}

static void
attach_without_descriptor(uint32_t arg)
{
	store_close_writer_fd();
	store_attach_writer();
}

static void
misuse_is_fatal(void **state)
{
	assert_exit(child_start(pin_without_slot, 0), ELOG_EXIT_FATAL);
	assert_exit(child_start(attach_without_descriptor, 0), ELOG_EXIT_FATAL);
}

/* ---- pins and epochs, in one process ---- */

/* a hold keeps its version while later pins see newer ones */
static void
holds_last(void **state)
{
	StoreHold	first = {0};
	StoreHold	second = {0};
	const StoreVersion *v;
	uint64_t	mark;

	store_attach_writer();
	store_set_own_pin_word(&shared->words[0]);
	store_set_own_hold_word(&shared->words[NWORDS - 1]);
	v = store_hold(&first);
	assert_int_equal(atomic_load(&shared->words[0].epoch), 0);
	assert_int_equal(atomic_load(&shared->words[NWORDS - 1].epoch), first.epoch);
	store_draft()->kv_revision = 2;
	store_publish();
	assert_int_equal(store_pin()->kv_revision, 2);
	store_unpin();
	assert_int_equal(v->kv_revision, 1);
	mark = store_epoch_mark();
	assert_false(store_epoch_passed(mark));

	/* the word has the oldest, and moves on when that is let go */
	assert_int_equal(store_hold(&second)->kv_revision, 2);
	assert_true(second.epoch > first.epoch);
	assert_int_equal(atomic_load(&shared->words[NWORDS - 1].epoch), first.epoch);
	store_release(&first);
	store_release(&first);
	assert_int_equal(atomic_load(&shared->words[NWORDS - 1].epoch),
					 second.epoch);
	assert_true(store_epoch_passed(mark));
	mark = store_epoch_mark();
	assert_false(store_epoch_passed(mark));
	store_release(&second);
	assert_int_equal(atomic_load(&shared->words[NWORDS - 1].epoch), 0);
	assert_true(store_epoch_passed(mark));
	store_set_own_hold_word(NULL);
}

static void
pins_nest(void **state)
{
	const StoreVersion *first;

	store_attach_writer();
	store_set_own_pin_word(&shared->words[0]);
	first = store_pin();
	assert_true(atomic_load(&shared->words[0].epoch) != 0);
	assert_true(atomic_load(&shared->words[0].since_ms) > 0);
	store_draft()->kv_revision++;
	store_publish();
	/* an inner pin sees what the outer one saw */
	assert_ptr_equal(store_pin(), first);
	store_unpin();
	assert_true(atomic_load(&shared->words[0].epoch) != 0);
	store_unpin();
	assert_true(atomic_load(&shared->words[0].epoch) == 0);
	assert_ptr_not_equal(store_pin(), first);
	store_unpin();
}

static void
retired_memory_waits_for_readers(void **state)
{
	const size_t size = 1000;
	void	   *piece;
	size_t		used;

	store_attach_writer();
	store_publish();
	store_publish();
	assert_int_equal(store_reclaim(), 0);
	used = store_bytes_used();

	/* of the open draft: the published version may still show it */
	piece = store_alloc(size);
	store_retire(piece, size);
	assert_int_equal(store_reclaim(), size);
	/* a mark moves the epoch, but not the root */
	assert_true(store_epoch_passed(store_epoch_mark()));
	assert_int_equal(store_reclaim(), size);

	/* a reader of the version before */
	store_set_own_pin_word(&shared->words[1]);
	store_pin();
	store_publish();
	assert_int_equal(store_reclaim(), size + sizeof(StoreVersion));
	store_publish();
	assert_int_equal(store_reclaim(), size + 2 * sizeof(StoreVersion));
	/* a reader of the newest one holds nothing */
	store_set_own_pin_word(&shared->words[2]);
	store_pin();
	assert_int_equal(store_reclaim(), size + 2 * sizeof(StoreVersion));
	atomic_store(&shared->words[1].epoch, 0);
	assert_int_equal(store_reclaim(), 0);
	assert_int_equal(store_bytes_used(), used);
	store_unpin();
	store_retire(NULL, 10);
	store_free(NULL, 10);
}

static void
marks_wait_for_readers_of_their_time(void **state)
{
	uint64_t	mark;

	store_attach_writer();
	store_set_own_pin_word(&shared->words[0]);
	store_pin();
	mark = store_epoch_mark();
	assert_false(store_epoch_passed(mark));
	/* who comes later does not hold it up, with or without a publish */
	store_set_own_pin_word(&shared->words[1]);
	store_pin();
	assert_false(store_epoch_passed(mark));
	atomic_store(&shared->words[0].epoch, 0);
	assert_true(store_epoch_passed(mark));
	store_publish();
	assert_true(store_epoch_passed(mark));
	assert_false(store_epoch_passed(store_epoch_mark()));
	store_unpin();
}

/*
 * The narrowest place of the order in store.h, made wide: the reader has
 * loaded the epoch and is held up right before its pin word is written, while
 * the writer publishes, sees no pin, and frees.  Held up by a page fault: the
 * two halves of the pin word lie on two pages, the first one read-only.
 */
static StorePinWord *late_word;

static void
publish_and_let_go(int signo)
{
	size_t		page = (size_t) sysconf(_SC_PAGESIZE);

	/* a fault of the code under test, not of the thread that holds locks */
	store_publish();
	store_publish();
	store_reclaim();
	mprotect((uint8_t *) late_word + sizeof(late_word->epoch) - page, page,
			 PROT_READ | PROT_WRITE);
}

static StorePinWord *
get_late_word(uint32_t i)
{
	return late_word;
}

static void
a_late_pin_sees_the_newest_version(void **state)
{
	size_t		page = (size_t) sysconf(_SC_PAGESIZE);
	uint8_t    *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
							 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct sigaction action = {.sa_handler = publish_and_let_go};
	struct sigaction old;
	const StoreVersion *v;
	uint64_t	before;

#ifdef __SANITIZE_THREAD__
	/* it puts off signals that arrive inside an atomic: the fault repeats */
	munmap(pages, 2 * page);
	skip();
#endif
	assert_ptr_not_equal(pages, MAP_FAILED);
	static_assert(offsetof(StorePinWord, since_ms) == sizeof(uint64_t),
				  "the epoch is the first half");
	late_word = (StorePinWord *) (pages + page - sizeof(uint64_t));
	store_attach_writer();
	store_set_wipe_freed(true);
	store_set_pin_words(get_late_word, 1);
	store_set_own_pin_word(late_word);
	store_publish();
	store_publish();
	store_reclaim();
	before = store_draft()->number;

	assert_int_equal(mprotect(pages, page, PROT_READ), 0);
	assert_int_equal(sigaction(SIGSEGV, &action, &old), 0);
	v = store_pin();
	sigaction(SIGSEGV, &old, NULL);
	/* the handler ran, once, and what it published is what we see */
	assert_int_equal(store_draft()->number, before + 2);
	assert_int_equal(v->number, before + 1);
	/* it carries the old epoch, and so holds what is retired from now on */
	store_publish();
	assert_true(store_reclaim() > 0);
	assert_int_equal(v->number, before + 1);
	store_unpin();
	assert_int_equal(store_reclaim(), 0);
	munmap(pages, 2 * page);
}

/* many pieces, several blocks of the queue, and the bound of one call */
static void
reclaim_is_bounded(void **state)
{
	const uint32_t n = STORE_RECLAIM_MAX + 1000;
	size_t		used;

	store_attach_writer();
	store_publish();
	store_publish();
	store_reclaim();
	used = store_bytes_used();
	for (uint32_t i = 0; i < n; i++)
		store_retire(store_alloc(16), 16);
	store_publish();
	assert_int_equal(store_reclaim(), 1000 * 16 + sizeof(StoreVersion));
	assert_int_equal(store_reclaim(), 0);
	assert_int_equal(store_bytes_used(), used);
	assert_null(store_check());
}

/* ---- running out ---- */

static int
store_descriptor_dup(void)
{
	int			fd;

	child_expect(store_descriptor_is_open(&fd), "no descriptor to be found");
	return dup(fd);
}

static void
fill_reserved_size(uint32_t arg)
{
	store_destroy();
	child_expect(store_create(8 * MB), "store_create failed");
	store_attach_writer();
	while (store_bytes_free() > 0)
		store_alloc(100000);
	store_alloc(16 * MB);
}

/*
 * What a tmpfs without room is to the kernel, a memfd cut short is as well:
 * touching it is a SIGBUS, populating it an error.
 */
static void
fill_without_memory(uint32_t arg)
{
	int			fd = store_descriptor_dup();

	store_attach_writer();
	child_expect(ftruncate(fd, 16 * MB) == 0, "ftruncate failed");
	for (size_t i = 0; i < 64; i++)
		memset(store_alloc(MB / 2), 1, MB / 2);
}

static void
populate_without_memory(uint32_t arg)
{
	int			fd = store_descriptor_dup();
	int64_t		until = clock_monotonic_ms() + WAIT_MAX_MS;

	child_expect(ftruncate(fd, 16 * MB) == 0, "ftruncate failed");
	store_use_populate_thread(true);
	store_attach_writer();
	/* the thread finds out long before the writer would */
	while (store_bytes_free() > 16 * MB && clock_monotonic_ms() < until)
		sleep_ms(1);
	child_expect(store_bytes_free() < 16 * MB,
				 "free bytes do not show that memory has run out");
	while (store_bytes_free() > 4096)
		memset(store_alloc(4096), 1, 4096);
	/* and when there is memory again, it goes on */
	child_expect(ftruncate(fd, (off_t) store_reserved_bytes()) == 0,
				 "ftruncate failed");
	while (store_bytes_free() < 16 * MB && clock_monotonic_ms() < until)
		sleep_ms(10);
	child_expect(store_bytes_free() > 16 * MB,
				 "free bytes do not show that memory is back");
	memset(store_alloc(64 * MB), 1, 64 * MB);
	store_destroy();
}

static void
running_out_is_an_error(void **state)
{
	assert_exit(child_start(fill_reserved_size, 0), ELOG_EXIT_PANIC);
	assert_exit(child_start(fill_without_memory, 0), ELOG_EXIT_PANIC);
	assert_exit(child_start(populate_without_memory, 0), CHILD_OK);
}

static void
wrong_free(uint32_t arg)
{
	void	   *p;

	store_attach_writer();
	p = store_alloc(100);
	store_free(p, 100);
	store_free(p, 100);
}

static void
double_free_is_panic(void **state)
{
	assert_exit(child_start(wrong_free, 0), ELOG_EXIT_PANIC);
}

static size_t
memory_of(int fd)
{
	struct stat st;

	child_expect(fstat(fd, &st) == 0, "fstat failed");
	return (size_t) st.st_blocks * 512;
}

static void
grow_and_shrink(uint32_t arg)
{
	int			fd = store_descriptor_dup();
	void	   *pieces[100];

	store_attach_writer();
	for (uint32_t i = 0; i < lengthof(pieces); i++)
	{
		pieces[i] = store_alloc(2 * MB);
		memset(pieces[i], 1, 2 * MB);
	}
	child_expect(memory_of(fd) >= 200 * MB, "memory did not grow");
	for (uint32_t i = 0; i < lengthof(pieces); i++)
		store_free(pieces[i], 2 * MB);
	child_expect(memory_of(fd) <= (SLAB_KEEP_EXTENTS + 3) * 2 * MB,
				 "memory did not go back to the kernel");
	/* what went back comes again, as zeros */
	for (uint32_t i = 0; i < lengthof(pieces); i++)
	{
		pieces[i] = store_alloc(2 * MB);
		memset(pieces[i], 1, 2 * MB);
	}
	store_destroy();
}

static void
free_memory_goes_back(void **state)
{
	assert_exit(child_start(grow_and_shrink, 0), CHILD_OK);
}

/* ---- readers against a writer ---- */

static void
writer_main(uint32_t seed_number)
{
	uint64_t	seed = seed_number;

	store_attach_writer();
	store_set_wipe_freed(true);
	while (!atomic_load(&shared->stop))
	{
		size_t		waiting;

		for (uint32_t n = 1 + next_random(&seed, 8); n > 0; n--)
			write_one(store_draft(), &seed);
		store_publish();
		waiting = store_reclaim();
		atomic_store(&shared->waiting, waiting);
		if (waiting > atomic_load(&shared->max_waiting))
			atomic_store(&shared->max_waiting, waiting);
		if (atomic_fetch_add(&shared->npublished, 1) % 1000 == 0)
		{
			child_expect(cowtree_check(&store_draft()->keys) == NULL,
						 "the tree is broken");
			child_expect(store_check() == NULL,
						 "the allocator's books are wrong");
			/* a version takes about 4 MB here; readers hold a few */
			child_expect(store_bytes_free() > 64 * MB, "memory is not freed");
		}
	}
	writer_empty_and_check();
}

/* pins of newer versions come and go while an older one is held */
static void
hold_for_a_while(uint64_t *seed)
{
	StoreHold	hold = {0};
	const StoreVersion *v = store_hold(&hold);
	const StoreVersion copy = *v;

	for (uint32_t n = next_random(seed, 6); n > 0; n--)
	{
		const StoreVersion *newer = store_pin();

		child_expect(newer->number >= copy.number,
					 "a pin sees an older version than is held");
		child_expect(lookups_hold_together(newer, seed),
					 "lookups beside a held version disagree");
		store_unpin();
	}
	child_expect(version_holds_together(v),
				 "a held version does not hold together");
	child_expect(memcmp(v, &copy, sizeof(copy)) == 0,
				 "a held version has changed");
	store_release(&hold);
}

static void
pin_for_a_while(uint64_t *seed)
{
	const StoreVersion *v = store_pin();
	const StoreVersion copy = *v;

	for (uint32_t walk = next_random(seed, 4); walk > 0; walk--)
	{
		child_expect(version_holds_together(v),
					 "a pinned version does not hold together");
		child_expect(memcmp(v, &copy, sizeof(copy)) == 0,
					 "a pinned version has changed");
		atomic_fetch_add(&shared->nwalks, 1);
	}
	child_expect(lookups_hold_together(v, seed),
				 "lookups in a pinned version disagree");
	store_unpin();
}

static void
reader_main(uint32_t slot)
{
	uint64_t	seed = (uint64_t) getpid() * 77;

	store_set_own_pin_word(&shared->words[slot]);
	store_set_own_hold_word(&shared->words[HOLD_WORD(slot)]);
	while (!atomic_load(&shared->stop_readers))
	{
		hold_for_a_while(&seed);
		pin_for_a_while(&seed);
	}
}

/* as the postmaster: reap, clear the pin, start another */
static void
reader_replace(pid_t *pids, uint32_t slot)
{
	int			status;

	assert_int_equal(kill(pids[slot], SIGKILL), 0);
	status = child_wait(pids[slot]);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		fail_msg("reader ended by itself: %s", shared->fault);
	atomic_store(&shared->words[slot].epoch, 0);
	atomic_store(&shared->words[HOLD_WORD(slot)].epoch, 0);
	pids[slot] = child_start(reader_main, slot);
}

static void
readers_see_whole_versions(void **state)
{
	pid_t		readers[NREADERS];
	pid_t		writer = child_start(writer_main, 99);
	int64_t		until = clock_monotonic_ms() + LOAD_MS;
	uint64_t	seed = 5;
	uint32_t	nkilled = 0;

	store_close_writer_fd();
	for (uint32_t i = 0; i < NREADERS; i++)
		readers[i] = child_start(reader_main, i);
	/* and longer, where there is little of the processor for us */
	while ((clock_monotonic_ms() < until ||
			(clock_monotonic_ms() < until + WAIT_MAX_MS &&
			 (atomic_load(&shared->npublished) <= 200 ||
			  atomic_load(&shared->nwalks) <= 20 || nkilled <= 10))) &&
		   shared->fault[0] == '\0')
	{
		sleep_ms(5 + next_random(&seed, 20));
		reader_replace(readers, next_random(&seed, NREADERS));
		nkilled++;
	}
	atomic_store(&shared->stop_readers, true);
	for (uint32_t i = 0; i < NREADERS; i++)
		assert_exit(readers[i], CHILD_OK);
	atomic_store(&shared->stop, true);
	/* it checks by itself that all memory came back */
	assert_exit(writer, CHILD_OK);
	print_message("%" PRIu64 " versions, %" PRIu64 " walks, %u readers killed, "
				  "at most %zu KB waited\n", atomic_load(&shared->npublished),
				  atomic_load(&shared->nwalks), nkilled,
				  atomic_load(&shared->max_waiting) / 1024);
	assert_true(atomic_load(&shared->npublished) > 200);
	assert_true(atomic_load(&shared->nwalks) > 20);
	assert_true(nkilled > 10);
}

/* pins, says so, and waits to be killed */
static void
stuck_reader_main(uint32_t slot)
{
	store_set_own_pin_word(&shared->words[slot]);
	store_pin();
	atomic_store(&shared->stage, 1);
	for (;;)
		pause();
}

static size_t
wait_for_publishes(uint64_t n)
{
	uint64_t	target = atomic_load(&shared->npublished) + n;
	int64_t		until = clock_monotonic_ms() + WAIT_MAX_MS;

	while (atomic_load(&shared->npublished) < target)
	{
		assert_true(clock_monotonic_ms() < until);
		sleep_ms(1);
	}
	return atomic_load(&shared->waiting);
}

static void
a_killed_reader_holds_memory_until_cleared(void **state)
{
	pid_t		writer = child_start(writer_main, 7);
	pid_t		reader;

	store_close_writer_fd();
	wait_for_publishes(100);
	reader = child_start(stuck_reader_main, 2);
	assert_true(stage_wait(1));
	wait_for_publishes(500);
	assert_int_equal(kill(reader, SIGKILL), 0);
	child_wait(reader);
	/* nobody lives there, but nobody has said so yet */
	assert_true(atomic_load(&shared->words[2].epoch) != 0);
	assert_true(wait_for_publishes(100) > 600 * sizeof(StoreVersion));
	atomic_store(&shared->words[2].epoch, 0);
	/* the pieces of the last publish but the bound of one call */
	assert_true(wait_for_publishes(100) < 100 * 1024);
	atomic_store(&shared->stop, true);
	assert_exit(writer, CHILD_OK);
}

int
main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(readers_cannot_write),
		T(the_writer_shows_to_others),
		T(misuse_is_fatal),
		T(holds_last),
		T(pins_nest),
		T(retired_memory_waits_for_readers),
		T(marks_wait_for_readers_of_their_time),
		T(a_late_pin_sees_the_newest_version),
		T(reclaim_is_bounded),
		T(running_out_is_an_error),
		T(double_free_is_panic),
		T(free_memory_goes_back),
		T(readers_see_whole_versions),
		T(a_killed_reader_holds_memory_until_cleared),
	};
#undef T

	return cmocka_run_group_tests(tests, NULL, NULL);
}
