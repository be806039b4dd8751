/*
 * guc_source.c
 *	  Reads settings from the command line and from the environment.
 *
 * The command line follows Go's flag package, which etcd uses: one dash or
 * two, --flag=value or --flag value, a truth only with "=" or bare.
 */
#include "server.h"

/* system */
#include <ctype.h>
#include <unistd.h>

/* lib and utils */
#include "utils/elog.h"

/* this layer and below */
#include "guc_internal.h"

/* ours, but not settings: read by injection.c and by the tests' harness */
static const char *const not_settings[] = {
	"CLAVIGER_INJECT",
	"CLAVIGER_BINDIR",
};

typedef struct Prefix
{
	const char *text;
	GucSource	source;
} Prefix;

static const Prefix prefixes[] = {
	{"CLAVIGER_", GUC_SOURCE_ENV_CLAVIGER},
	{"ETCD_", GUC_SOURCE_ENV_ETCD},
};

static bool read_flag(GucDraft *draft, int argc, char *const *argv, int *i,
					  GucCommand *command);
static bool unknown_flag(GucDraft *draft, const char *arg, Bytes name);
static bool read_variable(GucDraft *draft, const Prefix *prefix,
						  const char *assignment);
static bool is_not_a_setting(const char *name);
static bool is_no_wish(const char *value);

bool
guc_read_command_line(GucDraft *draft, int argc, char *const *argv,
					  GucCommand *command)
{
	int			i = 1;

	while (i < argc && *command == GUC_RUN)
	{
		const char *arg = argv[i];
		bool		is_end = strcmp(arg, "--") == 0;

		if (is_end && i + 1 == argc)
			break;
		if (is_end)
			arg = argv[i + 1];
		if (is_end || arg[0] != '-' || arg[1] == '\0')
			return guc_draft_fail(draft, "\"%s\" is not a valid flag", arg);
		if (!read_flag(draft, argc, argv, &i, command))
			return false;
	}
	return true;
}

bool
guc_read_environment(GucDraft *draft)
{
	for (char **var = environ; var != NULL && *var != NULL; var++)
	{
		for (size_t i = 0; i < lengthof(prefixes); i++)
		{
			if (strncmp(*var, prefixes[i].text, strlen(prefixes[i].text)) == 0 &&
				!read_variable(draft, &prefixes[i], *var))
				return false;
		}
	}
	return true;
}

bool
guc_pass_over(GucDraft *draft, const GucEntry *entry, const char *value,
			  const char *where)
{
	if (entry->kind == GUC_KIND_REFUSED || entry->kind == GUC_KIND_REFUSED_BOOL)
		return is_no_wish(value) ||
			guc_draft_fail(draft, "%s: setting \"%s\" is refused: %s", where,
						   entry->name, entry->text);
	if (!draft->is_reload)
		elog_write(LOG_LEVEL_WARNING, entry->text, NULL,
				   "%s: setting \"%s\" is accepted and ignored", where,
				   entry->name);
	return true;
}

/* who says so asks for nothing; NULL is a value that makes no sense anyway */
static bool
is_no_wish(const char *value)
{
	bool		is_on;

	return value != NULL && (value[0] == '\0' || strcmp(value, "off") == 0 ||
							 (guc_parse_bool(value, &is_on) && !is_on));
}

/* one flag, and its value if that stands by itself; moves *i behind them */
static bool
read_flag(GucDraft *draft, int argc, char *const *argv, int *i,
		  GucCommand *command)
{
	const char *arg = argv[(*i)++];
	const char *text = arg + (arg[1] == '-' ? 2 : 1);
	const char *value = strchr(text, '=');
	Bytes		name = bytes_make(text, value == NULL ? strlen(text)
								  : (size_t) (value - text));
	const GucEntry *entry;

	if (bytes_equal_cstr(name, "help") || bytes_equal_cstr(name, "h"))
	{
		*command = GUC_SHOW_HELP;
		return true;
	}
	if (bytes_equal_cstr(name, "version"))
	{
		bool		is_wanted = true;

		if (value != NULL && !guc_parse_bool(value + 1, &is_wanted))
			return guc_draft_fail(draft, "command line: flag \"--version\" "
								  "takes true or false");
		if (is_wanted)
			*command = GUC_SHOW_VERSION;
		return true;
	}
	entry = guc_lookup(name);
	if (entry == NULL)
		return unknown_flag(draft, arg, name);
	if (value != NULL)
		value++;
	else if (entry->kind == GUC_KIND_BOOL ||
			 entry->kind == GUC_KIND_IGNORED_BOOL ||
			 entry->kind == GUC_KIND_REFUSED_BOOL)
		value = "true";
	else if (*i < argc)
		value = argv[(*i)++];
	else
		return guc_draft_fail(draft, "command line: flag \"%s\" needs a value",
							  arg);
	if (entry->variable == NULL)
		return guc_pass_over(draft, entry, value, "command line");
	return guc_draft_put(draft, entry, value, GUC_SOURCE_COMMAND_LINE,
						 "command line");
}

static bool
unknown_flag(GucDraft *draft, const char *arg, Bytes name)
{
	const char *closest = guc_closest_name(name, draft->mcx);
	char	   *flag;

	if (closest == NULL)
		return guc_draft_fail(draft, "command line: unknown flag \"%s\"; "
							  "see --help", arg);
	flag = mcx_strdup(draft->mcx, closest);
	for (char *p = flag; *p != '\0'; p++)
	{
		if (*p == '_')
			*p = '-';
	}
	return guc_draft_fail(draft, "command line: unknown flag \"%s\"; "
						  "did you mean \"--%s\"?", arg, flag);
}

/*
 * NAME=value with one of our prefixes.  An empty value counts as absent, as
 * in etcd; an unknown name is no mistake, because the environment is not only
 * ours.
 */
static bool
read_variable(GucDraft *draft, const Prefix *prefix, const char *assignment)
{
	const char *equals = strchr(assignment, '=');
	const GucEntry *entry = NULL;
	char	   *variable;
	char	   *name;
	bool		is_upper = true;

	if (equals == NULL || equals[1] == '\0')
		return true;
	variable = mcx_strndup(draft->mcx, assignment,
						   (size_t) (equals - assignment));
	if (is_not_a_setting(variable))
		return true;
	name = mcx_strdup(draft->mcx, variable + strlen(prefix->text));
	for (char *p = name; *p != '\0'; p++)
	{
		is_upper = is_upper && !islower((unsigned char) *p) && *p != '-';
		*p = (char) tolower((unsigned char) *p);
	}
	if (is_upper)
		entry = guc_lookup(bytes_from_cstr(name));
	if (entry == NULL)
	{
		if (!draft->is_reload)
			elog_warning("environment variable %s is not a setting", variable);
		return true;
	}
	variable = mcx_printf(draft->mcx, "environment variable %s", variable);
	if (entry->variable == NULL)
		return guc_pass_over(draft, entry, equals + 1, variable);
	return guc_draft_put(draft, entry, equals + 1, prefix->source, variable);
}

static bool
is_not_a_setting(const char *name)
{
	for (size_t i = 0; i < lengthof(not_settings); i++)
	{
		if (strcmp(name, not_settings[i]) == 0)
			return true;
	}
	return false;
}
