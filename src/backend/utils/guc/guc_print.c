/*
 * guc_print.c
 *	  What is made from the list: help, sample file, manual.
 */
#include "server.h"

/* this layer and below */
#include "guc_internal.h"

static const char *flag_name(const GucEntry *entry, char *out, size_t size);
static const char *kind_name(const GucEntry *entry);
static void put_default(FILE *out, const GucEntry *entry, const char *quote);
static void put_bounds(FILE *out, const GucEntry *entry);
static void put_literal(FILE *out, const GucEntry *entry);

void
guc_print_version(FILE *out)
{
	fprintf(out, "claviger %s\netcd API %s\n", CLAVIGER_VERSION,
			ETCD_API_VERSION);
}

void
guc_print_help(FILE *out)
{
	char		name[128];

	fprintf(out,
			"Usage: claviger [--flag=value ...]\n"
			"\n"
			"A key-value server with etcd's v3 API.  On an empty data "
			"directory it\nmakes a new cluster and serves.\n"
			"\n"
			"  --help, --version\n");
	for (size_t i = 0; i < guc_nentries; i++)
	{
		const GucEntry *entry = &guc_entries[i];

		if (entry->kind == GUC_KIND_GROUP)
			fprintf(out, "\n%s:\n", entry->text);
		else if (entry->variable != NULL)
		{
			fprintf(out, "  --%s '", flag_name(entry, name, sizeof(name)));
			put_default(out, entry, "");
			fprintf(out, "'%s%s\n        %s\n",
					entry->unit[0] != '\0' ? " " : "", entry->unit,
					entry->text);
		}
	}
	fprintf(out,
			"\n"
			"Each flag is also a setting in claviger.conf (with underscores) "
			"and an\n"
			"environment variable: CLAVIGER_DATA_DIR, ETCD_DATA_DIR.  The "
			"command line\n"
			"is stronger than CLAVIGER_, that than ETCD_, that than the file.\n"
			"Other flags of etcd are accepted with a warning.\n");
}

void
guc_print_sample(FILE *out)
{
	fprintf(out,
			"# claviger.conf: settings, in libconfig syntax.\n"
			"#\n"
			"# Every setting is shown with its default, commented out.  Take "
			"the # away to\n"
			"# change one.  The command line and the environment are stronger "
			"than this\n"
			"# file.  After a change: clav_ctl reload; what is marked \"at "
			"start\" needs a\n"
			"# restart.\n");
	for (size_t i = 0; i < guc_nentries; i++)
	{
		const GucEntry *entry = &guc_entries[i];

		if (entry->kind == GUC_KIND_GROUP)
			fprintf(out, "\n# ---- %s ----\n", entry->text);
		/* these two say where the file is */
		if (entry->variable == NULL || entry->variable == &guc_config_file ||
			entry->variable == &guc_data_dir)
			continue;
		fprintf(out, "\n# %s\n# (", entry->text);
		put_bounds(out, entry);
		fprintf(out, "; %s)\n#%s = ",
				entry->when == GUC_START ? "at start" : "reload", entry->name);
		put_literal(out, entry);
		fprintf(out, ";\n");
	}
}

void
guc_print_manual(FILE *out)
{
	char		name[128];
	bool		is_ignored_table = false;

	fprintf(out,
			"# Settings\n"
			"\n"
			"Made from `src/include/utils/guclist.h` by "
			"`guc_print_manual()`; do not edit.\n"
			"\n"
			"Each setting can be given, from strong to weak, on the command "
			"line (`--data-dir D`),\n"
			"in the environment (`CLAVIGER_DATA_DIR`, then `ETCD_DATA_DIR`) "
			"or in the file\n"
			"(`data_dir = \"D\";`, libconfig syntax; `--config-file`, else "
			"`claviger.conf` in the data\n"
			"directory). Times take `ms`, `s`, `m`, `h`; sizes take `kB`, "
			"`MB`, `GB`, `KiB`, `MiB`,\n"
			"`GiB`; a bare number counts in the setting's unit. What says "
			"*reload* is taken over by\n"
			"`clav_ctl reload`, the rest needs a restart. A mistake anywhere "
			"changes nothing.\n");
	for (size_t i = 0; i < guc_nentries; i++)
	{
		const GucEntry *entry = &guc_entries[i];

		if (entry->kind == GUC_KIND_GROUP)
			fprintf(out, "\n## %s\n\n"
					"| flag | default | unit or kind, range | when | meaning |\n"
					"|---|---|---|---|---|\n", entry->text);
		if (entry->variable == NULL)
			continue;
		fprintf(out, "| `--%s` | ", flag_name(entry, name, sizeof(name)));
		put_default(out, entry, "`");
		fprintf(out, " | ");
		put_bounds(out, entry);
		fprintf(out, " | %s | %s |\n",
				entry->when == GUC_START ? "start" : "reload", entry->text);
	}
	for (size_t i = 0; i < guc_nentries; i++)
	{
		const GucEntry *entry = &guc_entries[i];

		if (entry->kind < GUC_KIND_IGNORED || entry->kind == GUC_KIND_GROUP)
			continue;
		if (!is_ignored_table)
			fprintf(out, "\n## Other flags of etcd\n\n"
					"Accepted; the first kind means a setting of ours, the "
					"others do nothing and give a warning.\n\n"
					"| flag | instead |\n|---|---|\n");
		is_ignored_table = true;
		fprintf(out, "| `--%s` | %s%s%s |\n",
				flag_name(entry, name, sizeof(name)),
				entry->kind == GUC_KIND_ALIAS ? "same as `" : "", entry->text,
				entry->kind == GUC_KIND_ALIAS ? "`" : "");
	}
}

static const char *
flag_name(const GucEntry *entry, char *out, size_t size)
{
	snprintf(out, size, "%s", entry->name);
	for (char *p = out; *p != '\0'; p++)
	{
		if (*p == '_')
			*p = '-';
	}
	return out;
}

static const char *
kind_name(const GucEntry *entry)
{
	if (entry->kind == GUC_KIND_STRING)
		return "string";
	if (entry->kind == GUC_KIND_BOOL)
		return "true or false";
	return entry->unit[0] != '\0' ? entry->unit : "number";
}

static void
put_default(FILE *out, const GucEntry *entry, const char *quote)
{
	if (entry->kind == GUC_KIND_INT)
		fprintf(out, "%s%" PRId64 "%s", quote, entry->int_default, quote);
	else if (entry->kind == GUC_KIND_BOOL)
		fprintf(out, "%s%s%s", quote, entry->bool_default ? "true" : "false",
				quote);
	else if (entry->string_default[0] != '\0')
		fprintf(out, "%s%s%s", quote, entry->string_default, quote);
}

/* "ms, 1 to 50000" */
static void
put_bounds(FILE *out, const GucEntry *entry)
{
	fprintf(out, "%s", kind_name(entry));
	if (entry->kind != GUC_KIND_INT || entry->min == INT64_MIN)
		return;
	if (entry->max == INT64_MAX)
		fprintf(out, ", %" PRId64 " or more", entry->min);
	else
		fprintf(out, ", %" PRId64 " to %" PRId64, entry->min, entry->max);
}

static void
put_literal(FILE *out, const GucEntry *entry)
{
	const char *quote = entry->kind == GUC_KIND_STRING ? "\"" : "";

	fprintf(out, "%s", quote);
	put_default(out, entry, "");
	fprintf(out, "%s", quote);
	/* libconfig wants the suffix beyond 32 bits */
	if (entry->kind == GUC_KIND_INT && (entry->int_default > INT32_MAX ||
										entry->int_default < INT32_MIN))
		fprintf(out, "L");
}
