/*
 * t_slab.c
 *	  The allocator of the store against a plain list of what it gave out.
 */
/* needs: storage/snap */
#include "server.h"

/* system */
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>

/* libraries */
#include <cmocka.h>

/* this layer and below */
#include "storage/snap/slab.h"
#include "utils/mmgr.h"

#define RANGE_BYTES (64 * SLAB_EXTENT_BYTES)

typedef struct Piece
{
	uint8_t    *p;
	size_t		size;
	uint8_t		fill;
} Piece;

typedef struct Fixture
{
	uint8_t    *base;
	Slab	   *slab;
	bool		is_backed[64];
	uint32_t	nbacked;
	uint32_t	ncommits;
	uint32_t	nreleases;
	uint32_t	max_backed;		/* commit fails beyond it */
	uint64_t	seed;
} Fixture;

static uint32_t
next_random(Fixture *f, uint32_t below)
{
	f->seed = f->seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t) (f->seed >> 33) % below;
}

static bool
test_commit(void *arg, size_t offset, bool is_fresh)
{
	Fixture    *f = arg;
	size_t		ext = offset / SLAB_EXTENT_BYTES;

	assert_true(offset % SLAB_EXTENT_BYTES == 0 && ext < lengthof(f->is_backed));
	assert_false(f->is_backed[ext]);
	if (f->nbacked == f->max_backed)
		return false;
	assert_int_equal(mprotect(f->base + offset, SLAB_EXTENT_BYTES,
							  PROT_READ | PROT_WRITE), 0);
	f->is_backed[ext] = true;
	f->nbacked++;
	f->ncommits++;
	return true;
}

/* what is released is out of bounds: a write there ends the test */
static bool
test_release(void *arg, size_t offset)
{
	Fixture    *f = arg;
	size_t		ext = offset / SLAB_EXTENT_BYTES;

	assert_true(f->is_backed[ext]);
	assert_int_equal(madvise(f->base + offset, SLAB_EXTENT_BYTES,
							 MADV_DONTNEED), 0);
	assert_int_equal(mprotect(f->base + offset, SLAB_EXTENT_BYTES, PROT_NONE), 0);
	f->is_backed[ext] = false;
	f->nbacked--;
	f->nreleases++;
	return true;
}

static const SlabOps test_ops = {
	.commit = test_commit,
	.release = test_release,
};

static int
setup(void **state)
{
	Fixture    *f = xcalloc(1, sizeof(*f));

	f->base = mmap(NULL, RANGE_BYTES, PROT_NONE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(f->base, MAP_FAILED);
	f->max_backed = UINT32_MAX;
	f->seed = 20240917;
	f->slab = slab_create(f->base, RANGE_BYTES, &test_ops, f);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	Fixture    *f = *state;

	slab_destroy(f->slab);
	munmap(f->base, RANGE_BYTES);
	free(f);
	return 0;
}

/* mostly small, some of some pages, a few of several extents */
static size_t
random_size(Fixture *f)
{
	uint32_t	kind = next_random(f, 1000);

	if (kind < 700)
		return next_random(f, 512);
	if (kind < 950)
		return next_random(f, SLAB_SMALL_MAX_BYTES + 2);
	if (kind < 998)
		return SLAB_SMALL_MAX_BYTES + next_random(f, 300000);
	return next_random(f, 5 * 1024 * 1024);
}

static void
piece_fill(Piece *piece, uint8_t fill)
{
	piece->fill = fill;
	if (piece->size > 0)
		memset(piece->p, fill, piece->size);
}

/* whoever overlaps with another has overwritten its bytes */
static void
piece_check(const Piece *piece)
{
	/* all bytes are equal to the next one, and the first is right */
	if (piece->size > 0 &&
		(piece->p[0] != piece->fill ||
		 memcmp(piece->p, piece->p + 1, piece->size - 1) != 0))
		fail_msg("a piece of %zu bytes was overwritten", piece->size);
}

static void
sizes_waste_little(void **state)
{
	for (size_t size = 1; size < 40000; size++)
	{
		size_t		rounded = slab_rounded_bytes(size);

		assert_true(rounded >= size && rounded % 16 == 0);
		if (size <= 128)
			assert_true(rounded - size < 16);
		else
			assert_true(rounded - size <= size / 8 || size > SLAB_SMALL_MAX_BYTES);
		assert_true(rounded - size < SLAB_PAGE_BYTES);
	}
}

static void
random_pieces_do_not_overlap(void **state)
{
	Fixture    *f = *state;
	enum
	{
		NPIECES = 3000, NSTEPS = 30000
	};
	Piece	   *pieces = xcalloc(NPIECES, sizeof(*pieces));
	size_t		expected = 0;

	for (uint32_t step = 0; step < NSTEPS; step++)
	{
		Piece	   *piece = &pieces[next_random(f, NPIECES)];

		if (piece->p != NULL)
		{
			piece_check(piece);
			expected -= slab_rounded_bytes(piece->size);
			assert_null(slab_free(f->slab, piece->p, piece->size));
			piece->p = NULL;
		}
		else
		{
			piece->size = random_size(f);
			piece->p = slab_alloc(f->slab, piece->size);
			if (piece->p == NULL)
				continue;		/* full: the next ones are freed */
			assert_int_equal((uintptr_t) piece->p % 16, 0);
			assert_true(piece->p >= f->base &&
						piece->p + piece->size <= f->base + RANGE_BYTES);
			expected += slab_rounded_bytes(piece->size);
			piece_fill(piece, (uint8_t) step);
		}
		if (step % 500 == 0)
		{
			const char *fault = slab_check(f->slab);

			if (fault != NULL)
				fail_msg("step %u: %s", step, fault);
		}
		assert_int_equal(slab_usage(f->slab).used_bytes, expected);
	}
	for (uint32_t i = 0; i < NPIECES; i++)
	{
		if (pieces[i].p == NULL)
			continue;
		piece_check(&pieces[i]);
		assert_null(slab_free(f->slab, pieces[i].p, pieces[i].size));
	}
	assert_null(slab_check(f->slab));
	assert_int_equal(slab_usage(f->slab).used_bytes, 0);
	/* at most one empty chunk for each class is left */
	assert_true(slab_usage(f->slab).run_bytes <= 72 * 128 * SLAB_PAGE_BYTES);
	free(pieces);
}

static void
free_extents_go_back(void **state)
{
	Fixture    *f = *state;
	void	   *pieces[60];
	SlabUsage	usage;

	for (uint32_t i = 0; i < lengthof(pieces); i++)
	{
		pieces[i] = slab_alloc(f->slab, SLAB_EXTENT_BYTES);
		assert_non_null(pieces[i]);
		memset(pieces[i], 1, SLAB_EXTENT_BYTES);
	}
	assert_int_equal(f->nbacked, lengthof(pieces));
	for (uint32_t i = 0; i < lengthof(pieces); i++)
		assert_null(slab_free(f->slab, pieces[i], SLAB_EXTENT_BYTES));
	usage = slab_usage(f->slab);
	assert_int_equal(usage.used_bytes, 0);
	assert_int_equal(usage.free_extents, SLAB_KEEP_EXTENTS);
	assert_int_equal(f->nbacked, SLAB_KEEP_EXTENTS);
	assert_int_equal(f->nreleases, lengthof(pieces) - SLAB_KEEP_EXTENTS);

	/* all of it can be had again, in one piece */
	pieces[0] = slab_alloc(f->slab, RANGE_BYTES);
	assert_non_null(pieces[0]);
	memset(pieces[0], 1, RANGE_BYTES);
	assert_null(slab_alloc(f->slab, 16));
	assert_null(slab_free(f->slab, pieces[0], RANGE_BYTES));
	assert_null(slab_check(f->slab));
}

static void
full_range_and_refused_memory_give_null(void **state)
{
	Fixture    *f = *state;
	void	   *large;
	void	   *small;

	assert_null(slab_alloc(f->slab, RANGE_BYTES + 1));
	assert_null(slab_alloc(f->slab, SIZE_MAX));
	assert_null(slab_alloc(f->slab, SIZE_MAX - SLAB_PAGE_BYTES + 1));

	f->max_backed = 3;
	small = slab_alloc(f->slab, 100);
	assert_non_null(small);
	assert_null(slab_alloc(f->slab, 5 * SLAB_EXTENT_BYTES));
	assert_null(slab_check(f->slab));
	large = slab_alloc(f->slab, SLAB_EXTENT_BYTES);
	assert_non_null(large);
	assert_null(slab_alloc(f->slab, 3 * SLAB_EXTENT_BYTES));
	/* the machine has memory again */
	f->max_backed = UINT32_MAX;
	assert_null(slab_free(f->slab, large, SLAB_EXTENT_BYTES));
	large = slab_alloc(f->slab, 8 * SLAB_EXTENT_BYTES);
	assert_non_null(large);
	memset(large, 1, 8 * SLAB_EXTENT_BYTES);
	assert_null(slab_free(f->slab, large, 8 * SLAB_EXTENT_BYTES));
	assert_null(slab_free(f->slab, small, 100));
	assert_null(slab_check(f->slab));
}

static void
wrong_frees_are_refused(void **state)
{
	Fixture    *f = *state;
	uint8_t    *small = slab_alloc(f->slab, 200);
	uint8_t    *large = slab_alloc(f->slab, 100000);
	size_t		used = slab_usage(f->slab).used_bytes;
	int			other;

	assert_non_null(slab_free(f->slab, &other, 200));
	assert_non_null(slab_free(f->slab, f->base + RANGE_BYTES - 16, 16));
	assert_non_null(slab_free(f->slab, small + 16, 200));
	assert_non_null(slab_free(f->slab, small, 500));
	assert_non_null(slab_free(f->slab, small, 100000));
	assert_non_null(slab_free(f->slab, large, 200));
	assert_non_null(slab_free(f->slab, large, 200000));
	assert_non_null(slab_free(f->slab, large + SLAB_PAGE_BYTES, 96000));
	assert_int_equal(slab_usage(f->slab).used_bytes, used);

	assert_null(slab_free(f->slab, small, 200));
	assert_non_null(slab_free(f->slab, small, 200));
	assert_null(slab_free(f->slab, large, 100000));
	assert_non_null(slab_free(f->slab, large, 100000));
	assert_int_equal(slab_usage(f->slab).used_bytes, 0);
	assert_null(slab_check(f->slab));
}

/* neighbours join in each order of freeing */
static void
free_runs_join(void **state)
{
	static const uint8_t order[][3] = {
		{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0},
	};
	Fixture    *f = *state;

	for (uint32_t i = 0; i < lengthof(order); i++)
	{
		uint8_t    *run[3];
		uint8_t    *whole;

		for (uint32_t k = 0; k < 3; k++)
			run[k] = slab_alloc(f->slab, SLAB_EXTENT_BYTES / 4);
		assert_ptr_equal(run[1], run[0] + SLAB_EXTENT_BYTES / 4);
		for (uint32_t k = 0; k < 3; k++)
		{
			assert_null(slab_free(f->slab, run[order[i][k]],
								  SLAB_EXTENT_BYTES / 4));
			assert_null(slab_check(f->slab));
		}
		whole = slab_alloc(f->slab, SLAB_EXTENT_BYTES);
		assert_ptr_equal(whole, run[0]);
		assert_null(slab_free(f->slab, whole, SLAB_EXTENT_BYTES));
	}
	assert_int_equal(f->nbacked, 1);
}

/*
 * A free run that is too short may share the list that is looked at first,
 * while the run that growing makes is so long that it goes into another.
 */
static void
short_run_does_not_hide_new_one(void **state)
{
	Fixture    *f = *state;
	size_t		short_bytes = 260 * SLAB_PAGE_BYTES;
	size_t		wanted_bytes = 293 * SLAB_PAGE_BYTES;
	void	   *p = slab_alloc(f->slab, short_bytes);

	assert_non_null(p);
	assert_non_null(slab_alloc(f->slab, SLAB_EXTENT_BYTES - short_bytes));
	assert_null(slab_free(f->slab, p, short_bytes));
	assert_non_null(slab_alloc(f->slab, wanted_bytes));
	assert_null(slab_check(f->slab));
	assert_ptr_equal(slab_alloc(f->slab, short_bytes), p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_waste_little),
		cmocka_unit_test_setup_teardown(random_pieces_do_not_overlap, setup,
										teardown),
		cmocka_unit_test_setup_teardown(free_extents_go_back, setup, teardown),
		cmocka_unit_test_setup_teardown(full_range_and_refused_memory_give_null,
										setup, teardown),
		cmocka_unit_test_setup_teardown(wrong_frees_are_refused, setup,
										teardown),
		cmocka_unit_test_setup_teardown(free_runs_join, setup, teardown),
		cmocka_unit_test_setup_teardown(short_run_does_not_hide_new_one, setup,
										teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
