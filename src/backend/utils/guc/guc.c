/*
 * guc.c
 *	  Settings: the table, its variables, and how new values reach them.
 *
 *	command line   environment   file
 *	      \             |         /        guc_source.c, guc_file.c
 *	       +-----> draft <-------+         text to value: guc_parse.c
 *	                 |
 *	              checks                   guc_check.c
 *	                 |
 *	             variables                 here; cannot fail
 *
 * A draft is complete before the first variable changes, so that a mistake
 * anywhere changes nothing.
 *
 * Memory: the strings behind variables are on the heap and stay until
 * guc_init_defaults(), also when a reload has replaced them, because somebody
 * may hold the old one.  A reload that changes strings therefore costs their
 * length; that is bytes per reload.
 */
#include "server.h"

/* system */
#include <stdarg.h>
#include <unistd.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "guc_internal.h"

#define DEFAULT_QUOTA_BYTES (INT64_C(2) << 30)
#define SHARED_MEMORY_EXTRA (INT64_C(8) << 30)
/* an eighth of what a process can address */
#define SHARED_MEMORY_MOST (INT64_C(1) << 44)

/* ---- the variables ---- */
#define GUC_STRING(name, def, when, text) const char *guc_##name = def;
#define GUC_INT(name, def, min, max, unit, when, text) int64_t guc_##name = def;
#define GUC_BOOL(name, def, when, text) bool guc_##name = def;
#include "utils/guclist.h"
#undef GUC_STRING
#undef GUC_INT
#undef GUC_BOOL

/* ---- the table ---- */
const GucEntry guc_entries[] = {
#define GUC_STRING(name_, def, when_, text_) \
	{.kind = GUC_KIND_STRING, .name = #name_, .text = text_, .when = when_, \
	 .unit = "", .string_default = def, .variable = &guc_##name_},
#define GUC_INT(name_, def, min_, max_, unit_, when_, text_) \
	{.kind = GUC_KIND_INT, .name = #name_, .text = text_, .when = when_, \
	 .unit = unit_, .int_default = def, .min = min_, .max = max_, \
	 .variable = &guc_##name_},
#define GUC_BOOL(name_, def, when_, text_) \
	{.kind = GUC_KIND_BOOL, .name = #name_, .text = text_, .when = when_, \
	 .unit = "", .bool_default = def, .variable = &guc_##name_},
#define GUC_IGNORED(name_, text_) \
	{.kind = GUC_KIND_IGNORED, .name = #name_, .text = text_},
#define GUC_IGNORED_BOOL(name_, text_) \
	{.kind = GUC_KIND_IGNORED_BOOL, .name = #name_, .text = text_},
#define GUC_REFUSED(name_, text_) \
	{.kind = GUC_KIND_REFUSED, .name = #name_, .text = text_},
#define GUC_REFUSED_BOOL(name_, text_) \
	{.kind = GUC_KIND_REFUSED_BOOL, .name = #name_, .text = text_},
#define GUC_ALIAS(spelling, name_) \
	{.kind = GUC_KIND_ALIAS, .name = #spelling, .text = #name_},
#define GUC_GROUP(title) {.kind = GUC_KIND_GROUP, .name = "", .text = title},
#include "utils/guclist.h"
#undef GUC_STRING
#undef GUC_INT
#undef GUC_BOOL
};

const size_t guc_nentries = lengthof(guc_entries);

/* every string ever given to a variable, so that none is lost */
static char **held_strings;
static size_t nheld_strings;

/* for guc_reload(): argv may be overwritten by a process title */
static char **saved_argv;
static int	saved_argc;
/* who loaded: his children reload in silence, he has said it already */
static pid_t loader_pid;

static void draft_init(GucDraft *draft, char *error, size_t error_size);
static bool draft_fill(GucDraft *draft, int argc, char *const *argv,
					   GucCommand *command);
static bool draft_fill_from_file(GucDraft *draft);
static void draft_settle_data_dir(GucDraft *draft);
static void draft_assign(const GucDraft *draft, bool all);
static void assign(const GucEntry *entry, const GucValue *value);
static bool is_current(const GucEntry *entry, const GucValue *value);
static const char *hold_string(const char *s);
static void save_argv(int argc, char *const *argv);
static void apply_log_level(void);
static const GucEntry *setting(const char *name);
static bool name_matches(const char *name, Bytes given);
static size_t edit_distance(Bytes a, const char *b);

void
guc_init_defaults(void)
{
	for (size_t i = 0; i < guc_nentries; i++)
	{
		const GucEntry *entry = &guc_entries[i];

		if (entry->kind == GUC_KIND_STRING)
			*(const char **) entry->variable = entry->string_default;
		else if (entry->kind == GUC_KIND_INT)
			*(int64_t *) entry->variable = entry->int_default;
		else if (entry->kind == GUC_KIND_BOOL)
			*(bool *) entry->variable = entry->bool_default;
	}
	while (nheld_strings > 0)
		free(held_strings[--nheld_strings]);
	free(held_strings);
	held_strings = NULL;
	save_argv(0, NULL);
	apply_log_level();
}

bool
guc_load(int argc, char **argv, GucCommand *command, char *error,
		 size_t error_size)
{
	GucDraft	draft;
	bool		ok;

	draft_init(&draft, error, error_size);
	*command = GUC_RUN;
	ok = draft_fill(&draft, argc, argv, command);
	if (ok && *command == GUC_RUN)
	{
		draft_assign(&draft, true);
		save_argv(argc, argv);
		loader_pid = getpid();
	}
	mcx_destroy(draft.mcx);
	return ok;
}

bool
guc_reload(char *error, size_t error_size)
{
	GucDraft	draft;
	GucCommand	command = GUC_RUN;
	bool		ok;

	draft_init(&draft, error, error_size);
	draft.is_reload = true;
	ok = draft_fill(&draft, saved_argc, saved_argv, &command);
	if (ok)
		draft_assign(&draft, false);
	mcx_destroy(draft.mcx);
	return ok;
}

bool
guc_set(const char *name, const char *value, char *error, size_t error_size)
{
	const GucEntry *entry = guc_lookup(bytes_from_cstr(name));
	GucDraft	draft;
	bool		ok;

	draft_init(&draft, error, error_size);
	if (entry == NULL)
		ok = guc_draft_fail(&draft, "unknown setting \"%s\"", name);
	else if (entry->variable == NULL)
		ok = guc_draft_fail(&draft, "setting \"%s\" is accepted and ignored",
							name);
	else
	{
		ok = guc_draft_put(&draft, entry, value, GUC_SOURCE_COMMAND_LINE,
						   "command line");
		if (ok)
			assign(entry, guc_draft_value(&draft, entry));
		apply_log_level();
	}
	mcx_destroy(draft.mcx);
	return ok;
}

int64_t
guc_effective_quota(void)
{
	if (guc_quota_backend_bytes < 0)
		return INT64_MAX;
	if (guc_quota_backend_bytes == 0)
		return DEFAULT_QUOTA_BYTES;
	return guc_quota_backend_bytes;
}

bool
guc_metrics_are_extensive(void)
{
	return strcmp(guc_metrics, "extensive") == 0;
}

int64_t
guc_effective_auto_compaction_retention(void)
{
	int64_t		retention;

	/* it has been checked */
	if (!guc_parse_retention(guc_auto_compaction_retention,
							 strcmp(guc_auto_compaction_mode, "revision") == 0,
							 &retention))
		return 0;
	return retention;
}

int64_t
guc_effective_hash_slots(void)
{
	long		cores;

	if (guc_auth_hash_slots > 0)
		return guc_auth_hash_slots;
	cores = sysconf(_SC_NPROCESSORS_ONLN);
	return cores > 0 ? cores : 1;
}

int64_t
guc_effective_shared_memory(void)
{
	int64_t		quota = guc_effective_quota();

	if (guc_shared_memory_size > 0)
		return guc_shared_memory_size;
	/* without a quota the machine's memory is what can be filled */
	if (quota == INT64_MAX)
		quota = (int64_t) sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
	if (quota > (SHARED_MEMORY_MOST - SHARED_MEMORY_EXTRA) / 4)
		return SHARED_MEMORY_MOST;
	return quota * 4 + SHARED_MEMORY_EXTRA;
}

const GucEntry *
guc_lookup(Bytes name)
{
	for (size_t i = 0; i < guc_nentries; i++)
	{
		const GucEntry *entry = &guc_entries[i];

		if (entry->kind == GUC_KIND_GROUP || !name_matches(entry->name, name))
			continue;
		if (entry->kind == GUC_KIND_ALIAS)
			return setting(entry->text);
		return entry;
	}
	return NULL;
}

const char *
guc_closest_name(Bytes name, MemContext *mcx)
{
	const char *best = NULL;
	size_t		best_distance = size_max(2, name.len / 4) + 1;

	if (name.len > 64)
		return NULL;
	for (size_t i = 0; i < guc_nentries; i++)
	{
		const GucEntry *entry = &guc_entries[i];
		size_t		distance;

		if (entry->kind == GUC_KIND_GROUP || entry->kind == GUC_KIND_ALIAS)
			continue;
		distance = edit_distance(name, entry->name);
		/* two letters turned into two others is no likeness */
		if (distance < best_distance && distance < name.len)
		{
			best = entry->name;
			best_distance = distance;
		}
	}
	return best == NULL ? NULL : mcx_strdup(mcx, best);
}

GucValue *
guc_draft_value(const GucDraft *draft, const GucEntry *entry)
{
	return &draft->values[entry - guc_entries];
}

bool
guc_draft_fail(GucDraft *draft, const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	vsnprintf(draft->error, draft->error_size, fmt, args);
	va_end(args);
	return false;
}

bool
guc_draft_put(GucDraft *draft, const GucEntry *entry, const char *text,
			  GucSource source, const char *where)
{
	GucValue   *value = guc_draft_value(draft, entry);
	GucValue	stronger = *value;
	char		reason[256];

	value->source = source;
	value->where = mcx_strdup(draft->mcx, where);
	switch (entry->kind)
	{
		case GUC_KIND_STRING:
			value->string = mcx_strdup(draft->mcx, text);
			break;
		case GUC_KIND_INT:
			if (!guc_parse_int(entry, text, &value->integer, reason,
							   sizeof(reason)))
				return guc_draft_fail(draft, "%s: setting \"%s\": %s", where,
									  entry->name, reason);
			break;
		case GUC_KIND_BOOL:
			if (!guc_parse_bool(text, &value->boolean))
				return guc_draft_fail(draft, "%s: setting \"%s\": "
									  "must be true or false, not \"%s\"",
									  where, entry->name, text);
			break;
		default:
			return guc_draft_fail(draft, "%s: \"%s\" is not a setting", where,
								  entry->name);
	}
	if (!guc_check_value(draft, entry))
		return false;
	if (stronger.source > source)
		*value = stronger;
	return true;
}

static void
draft_init(GucDraft *draft, char *error, size_t error_size)
{
	*draft = (GucDraft) {
		.mcx = mcx_create(NULL, "settings draft"),
		.error = error,
		.error_size = error_size,
	};
	if (error_size > 0)
		error[0] = '\0';
	draft->values = mcx_alloc0(draft->mcx,
							   guc_nentries * sizeof(*draft->values));
	for (size_t i = 0; i < guc_nentries; i++)
	{
		draft->values[i] = (GucValue) {
			.string = guc_entries[i].string_default,
			.integer = guc_entries[i].int_default,
			.boolean = guc_entries[i].bool_default,
			.source = GUC_SOURCE_DEFAULT,
			.where = "default",
		};
	}
}

/*
 * Strong sources first: the file's name comes from them.
 */
static bool
draft_fill(GucDraft *draft, int argc, char *const *argv, GucCommand *command)
{
	if (!guc_read_command_line(draft, argc, argv, command))
		return false;
	if (*command != GUC_RUN)
		return true;
	return guc_read_environment(draft) && draft_fill_from_file(draft) &&
		guc_check_together(draft);
}

/*
 * The file named by config_file, else claviger.conf in the data directory if
 * it is there; that one may not move the directory it was found in.
 */
static bool
draft_fill_from_file(GucDraft *draft)
{
	const char *given = guc_draft_value(draft, setting("config_file"))->string;
	const char *data_dir;

	if (given[0] != '\0')
	{
		if (!guc_read_file(draft, given, false))
			return false;
		draft_settle_data_dir(draft);
		return true;
	}
	draft_settle_data_dir(draft);
	data_dir = guc_draft_value(draft, setting("data_dir"))->string;
	return guc_read_file(draft, mcx_printf(draft->mcx, "%s/claviger.conf",
										   data_dir), true);
}

/* an empty data_dir becomes NAME.claviger */
static void
draft_settle_data_dir(GucDraft *draft)
{
	GucValue   *value = guc_draft_value(draft, setting("data_dir"));
	const char *name = guc_draft_value(draft, setting("name"))->string;

	if (value->string[0] == '\0')
		value->string = mcx_printf(draft->mcx, "%s.claviger", name);
}

/*
 * Take over a checked draft.  all: also what may change only at start; else
 * such a difference is reported.
 */
static void
draft_assign(const GucDraft *draft, bool all)
{
	bool		is_loader = getpid() == loader_pid;

	for (size_t i = 0; i < guc_nentries; i++)
	{
		const GucEntry *entry = &guc_entries[i];
		const GucValue *value = &draft->values[i];

		if (entry->variable == NULL || is_current(entry, value))
			continue;
		if (all || entry->when == GUC_RELOAD)
		{
			assign(entry, value);
			if (!all && is_loader)
				elog_info("setting \"%s\" changed (%s)", entry->name,
						  value->where);
		}
		else if (is_loader)
			elog_write(LOG_LEVEL_WARNING, NULL,
					   "Restart the server to bring it into force.",
					   "%s: setting \"%s\" cannot change while the server runs",
					   value->where, entry->name);
	}
	apply_log_level();
}

static void
assign(const GucEntry *entry, const GucValue *value)
{
	if (is_current(entry, value))
		return;
	if (entry->kind == GUC_KIND_STRING)
		*(const char **) entry->variable = hold_string(value->string);
	else if (entry->kind == GUC_KIND_INT)
		*(int64_t *) entry->variable = value->integer;
	else if (entry->kind == GUC_KIND_BOOL)
		*(bool *) entry->variable = value->boolean;
}

static bool
is_current(const GucEntry *entry, const GucValue *value)
{
	if (entry->kind == GUC_KIND_STRING)
		return strcmp(*(const char **) entry->variable, value->string) == 0;
	if (entry->kind == GUC_KIND_INT)
		return *(int64_t *) entry->variable == value->integer;
	return *(bool *) entry->variable == value->boolean;
}

static const char *
hold_string(const char *s)
{
	size_t		size = strlen(s) + 1;
	char	   *copy = xmalloc(size);

	held_strings = xrealloc(held_strings,
							(nheld_strings + 1) * sizeof(*held_strings));
	held_strings[nheld_strings++] = copy;
	return memcpy(copy, s, size);
}

static void
save_argv(int argc, char *const *argv)
{
	for (int i = 0; i < saved_argc; i++)
		free(saved_argv[i]);
	free(saved_argv);
	saved_argv = NULL;
	saved_argc = argc;
	if (argc == 0)
		return;
	saved_argv = xcalloc((size_t) argc + 1, sizeof(*saved_argv));
	for (int i = 0; i < argc; i++)
	{
		size_t		size = strlen(argv[i]) + 1;

		saved_argv[i] = memcpy(xmalloc(size), argv[i], size);
	}
}

static void
apply_log_level(void)
{
	static const struct
	{
		const char *name;
		LogLevel	level;
	}			levels[] = {
		{"debug", LOG_LEVEL_DEBUG},
		{"info", LOG_LEVEL_INFO},
		{"warning", LOG_LEVEL_WARNING},
		{"error", LOG_LEVEL_ERROR},
	};

	for (size_t i = 0; i < lengthof(levels); i++)
	{
		if (strcmp(guc_log_level, levels[i].name) == 0)
			elog_set_level(levels[i].level);
	}
}

/* a setting that is known to be in the list */
static const GucEntry *
setting(const char *name)
{
	const GucEntry *entry = guc_lookup(bytes_from_cstr(name));

	Assert(entry != NULL && entry->variable != NULL);
	return entry;
}

static bool
name_matches(const char *name, Bytes given)
{
	if (strlen(name) != given.len)
		return false;
	for (size_t i = 0; i < given.len; i++)
	{
		char		c = (char) given.data[i];

		if ((c == '-' ? '_' : c) != name[i])
			return false;
	}
	return true;
}

/* how many letters must be put in, taken out or changed */
static size_t
edit_distance(Bytes a, const char *b)
{
	size_t		row[128];
	size_t		blen = strlen(b);

	if (blen >= lengthof(row))
		return SIZE_MAX;
	for (size_t j = 0; j <= blen; j++)
		row[j] = j;
	for (size_t i = 1; i <= a.len; i++)
	{
		size_t		diagonal = row[0];
		char		c = (char) a.data[i - 1];

		row[0] = i;
		for (size_t j = 1; j <= blen; j++)
		{
			size_t		above = row[j];
			size_t		change = diagonal +
				((c == '-' ? '_' : c) == b[j - 1] ? 0 : 1);

			row[j] = change;
			if (above + 1 < row[j])
				row[j] = above + 1;
			if (row[j - 1] + 1 < row[j])
				row[j] = row[j - 1] + 1;
			diagonal = above;
		}
	}
	return row[blen];
}
