/*
 * guc_parse.c
 *	  Turns the text of a value into a number or a truth.
 *
 * Numbers may carry a unit: Go's durations (300ms, 5s, 1h30m) where the
 * setting is a time, because etcd's flags are written so; kB, MB (1000) and
 * KiB, MiB (1024) where it is a size.  A bare number counts in the setting's
 * own unit.  A value that is not a whole number of that unit is refused
 * rather than rounded.
 */
#include "server.h"

/* system */
#include <ctype.h>

/* this layer and below */
#include "guc_internal.h"

typedef struct Unit
{
	const char *name;
	int64_t		factor;
} Unit;

static const Unit time_units[] = {
	{"ns", 1},
	{"us", INT64_C(1000)},
	{"ms", INT64_C(1000000)},
	{"s", INT64_C(1000000000)},
	{"m", INT64_C(60000000000)},
	{"h", INT64_C(3600000000000)},
};

static const Unit size_units[] = {
	{"bytes", 1},
	{"B", 1},
	{"kB", INT64_C(1000)},
	{"KB", INT64_C(1000)},
	{"MB", INT64_C(1000000)},
	{"GB", INT64_C(1000000000)},
	{"TB", INT64_C(1000000000000)},
	{"KiB", INT64_C(1) << 10},
	{"MiB", INT64_C(1) << 20},
	{"GiB", INT64_C(1) << 30},
	{"TiB", INT64_C(1) << 40},
};

/* ten years: the compactor keeps a note for each six minutes */
#define MAX_RETENTION_MS (INT64_C(10) * 365 * 24 * 3600000)

/* fraction digits: a factor times ten to this power still fits */
#define MAX_FRACTION_DIGITS 6

static const Unit *find_unit(const Unit *units, size_t n, const char *name,
							 size_t len);
static bool parse_with_units(const char *text, const Unit *units, size_t n,
							 int64_t *sum);
static bool multiply_add(int64_t a, int64_t b, int64_t c, int64_t *result);
static bool parse_term(const char **pos, const Unit *units, size_t n,
					   int64_t *term);

bool
guc_parse_bool(const char *text, bool *value)
{
	static const char *const yes[] = {"true", "TRUE", "True", "t", "T", "1"};
	static const char *const no[] = {"false", "FALSE", "False", "f", "F", "0"};

	for (size_t i = 0; i < lengthof(yes); i++)
	{
		if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0)
		{
			*value = strcmp(text, yes[i]) == 0;
			return true;
		}
	}
	return false;
}

bool
guc_parse_retention(const char *text, bool by_revision, int64_t *retention)
{
	static const GucEntry hours = {.kind = GUC_KIND_INT,.unit = "",
	.max = MAX_RETENTION_MS / 3600000};
	static const GucEntry revisions = {.kind = GUC_KIND_INT,.unit = "",
	.max = INT64_MAX};
	static const GucEntry duration = {.kind = GUC_KIND_INT,.unit = "ms",
	.max = MAX_RETENTION_MS};
	char		reason[256];

	if (by_revision)
		return guc_parse_int(&revisions, text, retention, reason,
							 sizeof(reason));
	if (guc_parse_int(&hours, text, retention, reason, sizeof(reason)))
	{
		*retention *= 3600000;
		return true;
	}
	return guc_parse_int(&duration, text, retention, reason, sizeof(reason));
}

bool
guc_parse_int(const GucEntry *entry, const char *text, int64_t *value,
			  char *reason, size_t reason_size)
{
	const Unit *units = NULL;
	const Unit *own = NULL;
	size_t		n = 0;
	char	   *end;
	long long	number;

	errno = 0;
	number = strtoll(text, &end, 10);
	if (end == text || isspace((unsigned char) text[0]) || *end != '\0')
	{
		int64_t		sum;

		if (find_unit(time_units, lengthof(time_units), entry->unit,
					  strlen(entry->unit)) != NULL)
		{
			units = time_units;
			n = lengthof(time_units);
		}
		else if (entry->unit[0] != '\0')
		{
			units = size_units;
			n = lengthof(size_units);
		}
		own = find_unit(units, n, entry->unit, strlen(entry->unit));
		if (own == NULL || !parse_with_units(text, units, n, &sum))
		{
			snprintf(reason, reason_size, "\"%s\" is not %s", text,
					 units == time_units ? "a time such as 500ms, 5s or 2h" :
					 units == size_units ? "a size such as 4096, 64MB or 2GiB" :
					 "a whole number");
			return false;
		}
		if (sum % own->factor != 0)
		{
			snprintf(reason, reason_size, "\"%s\" is not a whole number of %s",
					 text, entry->unit);
			return false;
		}
		number = sum / own->factor;
	}
	else if (errno == ERANGE)
	{
		snprintf(reason, reason_size, "\"%s\" is too large a number", text);
		return false;
	}
	if (number < entry->min || number > entry->max)
	{
		snprintf(reason, reason_size,
				 "%lld%s%s is outside the range %" PRId64 " to %" PRId64,
				 number, entry->unit[0] != '\0' ? " " : "", entry->unit,
				 entry->min, entry->max);
		return false;
	}
	*value = number;
	return true;
}

static const Unit *
find_unit(const Unit *units, size_t n, const char *name, size_t len)
{
	for (size_t i = 0; i < n; i++)
	{
		if (strlen(units[i].name) == len &&
			strncmp(units[i].name, name, len) == 0)
			return &units[i];
	}
	return NULL;
}

/* [-] term ...: 1h30m, 1.5GiB; false if it is not that, or too large */
static bool
parse_with_units(const char *text, const Unit *units, size_t n, int64_t *sum)
{
	bool		is_negative = *text == '-';
	int64_t		total = 0;

	if (is_negative)
		text++;
	do
	{
		int64_t		term;

		if (!parse_term(&text, units, n, &term) ||
			!multiply_add(total, 1, term, &total))
			return false;
	} while (*text != '\0');
	*sum = is_negative ? -total : total;
	return true;
}

/* digits [. digits] [blank] unit */
static bool
parse_term(const char **pos, const Unit *units, size_t n, int64_t *term)
{
	const char *p = *pos;
	const char *name;
	const Unit *unit;
	int64_t		whole = 0;
	int64_t		fraction = 0;
	int64_t		scale = 1;

	if (!isdigit((unsigned char) *p))
		return false;
	for (; isdigit((unsigned char) *p); p++)
	{
		if (!multiply_add(whole, 10, *p - '0', &whole))
			return false;
	}
	if (*p == '.')
	{
		int			ndigits = 0;

		for (p++; isdigit((unsigned char) *p); p++)
		{
			if (++ndigits > MAX_FRACTION_DIGITS)
				return false;
			fraction = fraction * 10 + (*p - '0');
			scale *= 10;
		}
		if (ndigits == 0)
			return false;
	}
	if (*p == ' ')
		p++;
	for (name = p; isalpha((unsigned char) *p); p++)
		;
	unit = find_unit(units, n, name, (size_t) (p - name));
	/* fraction < scale, so its product fits if the factor's does */
	if (unit == NULL || unit->factor > INT64_MAX / scale ||
		(fraction * unit->factor) % scale != 0)
		return false;
	*pos = p;
	return multiply_add(whole, unit->factor, fraction * unit->factor / scale,
						term);
}

/* a * b + c, none of them negative; false if that does not fit */
static bool
multiply_add(int64_t a, int64_t b, int64_t c, int64_t *result)
{
	if (a > (INT64_MAX - c) / b)
		return false;
	*result = a * b + c;
	return true;
}
