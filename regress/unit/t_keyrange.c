/*
 * t_keyrange.c
 *	  Ranges of keys: every rule of common/keyrange.h, and the questions
 *	  against a plain reading of etcd's pair over all short keys.
 */
/* needs: common */
#include "server.h"

/* system */
#include <setjmp.h>
#include <stdarg.h>

/* libraries */
#include <cmocka.h>

/* this layer and below */
#include "common/keyrange.h"

#define B(s) BYTES_LITERAL(s)

/* all keys of 0 to 2 bytes over these, in byte order each */
static const uint8_t alphabet[] = {0x00, 0x01, 'a', 'b', 0xff};
#define NSHORT (1 + lengthof(alphabet) + lengthof(alphabet) * lengthof(alphabet))
static uint8_t short_bytes[NSHORT][2];
static Bytes short_keys[NSHORT];

static void
make_short_keys(void)
{
	size_t		n = 0;

	short_keys[n++] = BYTES_EMPTY;
	for (size_t i = 0; i < lengthof(alphabet); i++)
	{
		short_bytes[n][0] = alphabet[i];
		short_keys[n] = bytes_make(short_bytes[n], 1);
		n++;
		for (size_t j = 0; j < lengthof(alphabet); j++)
		{
			short_bytes[n][0] = alphabet[i];
			short_bytes[n][1] = alphabet[j];
			short_keys[n] = bytes_make(short_bytes[n], 2);
			n++;
		}
	}
	assert_int_equal(n, NSHORT);
}

/* the rules once more, straight from the pair */
static bool
pair_holds(Bytes key, Bytes range_end, Bytes candidate)
{
	if (range_end.len == 0)
		return bytes_equal(key, candidate);
	if (range_end.len == 1 && range_end.data[0] == 0)
		return bytes_compare(candidate, key) >= 0;
	return bytes_compare(candidate, key) >= 0 &&
		bytes_compare(candidate, range_end) < 0;
}

static void
test_make(void **state)
{
	KeyRange	r = keyrange_make(B("k"), BYTES_EMPTY);

	assert_int_equal(r.kind, KEYRANGE_POINT);
	assert_true(bytes_equal(r.begin, B("k")));
	assert_int_equal(r.end.len, 0);

	/* empty but not absent is the same (etcd advisory D1.23) */
	r = keyrange_make(B("k"), bytes_make("", 0));
	assert_int_equal(r.kind, KEYRANGE_POINT);

	r = keyrange_make(B("k"), B("\0"));
	assert_int_equal(r.kind, KEYRANGE_FROM);
	assert_true(bytes_equal(r.begin, B("k")));
	r = keyrange_make(B("\0"), B("\0"));
	assert_int_equal(r.kind, KEYRANGE_FROM);

	r = keyrange_make(B("k"), B("l"));
	assert_int_equal(r.kind, KEYRANGE_SPAN);
	assert_true(bytes_equal(r.end, B("l")));
	/* two zero bytes are an ordinary end */
	r = keyrange_make(B("k"), B("\0\0"));
	assert_int_equal(r.kind, KEYRANGE_SPAN);
}

static void
test_empty(void **state)
{
	KeyRange	r = keyrange_make(B("k"), B("k"));

	assert_true(keyrange_is_empty(&r));
	r = keyrange_make(B("l"), B("k"));
	assert_true(keyrange_is_empty(&r));
	r = keyrange_make(B("k"), B("k\0"));
	assert_false(keyrange_is_empty(&r));
	r = keyrange_make(B("k"), BYTES_EMPTY);
	assert_false(keyrange_is_empty(&r));
	r = keyrange_make(B("k"), B("\0"));
	assert_false(keyrange_is_empty(&r));
}

static void
test_wire_end(void **state)
{
	KeyRange	r = keyrange_make(B("k"), BYTES_EMPTY);

	assert_int_equal(keyrange_wire_end(&r).len, 0);
	r = keyrange_make(B("k"), B("\0"));
	assert_true(bytes_equal(keyrange_wire_end(&r), B("\0")));
	r = keyrange_make(B("k"), B("m"));
	assert_true(bytes_equal(keyrange_wire_end(&r), B("m")));
}

/* a kind that is none holds nothing: never more than was asked for */
static void
test_unknown_kind(void **state)
{
	KeyRange	r = {.kind = (KeyRangeKind) 77, .begin = B("a"), .end = B("z")};

	assert_false(keyrange_contains(&r, B("b")));
	assert_true(keyrange_is_past(&r, B("b")));
}

static void
test_contains_and_past(void **state)
{
	for (size_t k = 0; k < NSHORT; k++)
	{
		for (size_t e = 0; e < NSHORT; e++)
		{
			KeyRange	r = keyrange_make(short_keys[k], short_keys[e]);

			for (size_t c = 0; c < NSHORT; c++)
			{
				bool		want = pair_holds(short_keys[k], short_keys[e],
											  short_keys[c]);

				assert_int_equal(keyrange_contains(&r, short_keys[c]), want);
				/* past: not in it, and neither is any greater key */
				if (keyrange_is_past(&r, short_keys[c]))
				{
					for (size_t g = 0; g < NSHORT; g++)
					{
						if (bytes_compare(short_keys[g], short_keys[c]) >= 0)
							assert_false(keyrange_contains(&r, short_keys[g]));
					}
				}
				else if (bytes_compare(short_keys[c], short_keys[k]) >= 0)
					assert_true(want);
			}
		}
	}
}

static bool
overlap_by_keys(const KeyRange *a, const KeyRange *b)
{
	for (size_t i = 0; i < NSHORT; i++)
	{
		if (keyrange_contains(a, short_keys[i]) &&
			keyrange_contains(b, short_keys[i]))
			return true;
	}
	return false;
}

/*
 * Where two ranges over short bounds overlap, they do so at the greater of
 * their begins, which is a short key itself; so short keys decide.
 */
static void
test_overlaps(void **state)
{
	for (size_t k1 = 0; k1 < NSHORT; k1 += 2)
		for (size_t e1 = 0; e1 < NSHORT; e1++)
			for (size_t k2 = 0; k2 < NSHORT; k2 += 3)
				for (size_t e2 = 0; e2 < NSHORT; e2++)
				{
					KeyRange	a = keyrange_make(short_keys[k1],
												  short_keys[e1]);
					KeyRange	b = keyrange_make(short_keys[k2],
												  short_keys[e2]);
					bool		want = overlap_by_keys(&a, &b);

					assert_int_equal(keyrange_overlaps(&a, &b), want);
					assert_int_equal(keyrange_overlaps(&b, &a), want);
				}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_make),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_wire_end),
		cmocka_unit_test(test_unknown_kind),
		cmocka_unit_test(test_contains_and_past),
		cmocka_unit_test(test_overlaps),
	};

	make_short_keys();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
