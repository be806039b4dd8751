/*
 * guc_check.c
 *	  What settings may not say: each by itself, and all together.
 *
 * The first kind is a table row per setting.  The second runs once per load or
 * reload, on the whole draft; a message names the setting that can be changed
 * to mend it, and where it was given.
 */
#include "server.h"

/* system */
#include <ctype.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

/* lib and utils */
#include "utils/elog.h"

/* this layer and below */
#include "guc_internal.h"

/* the draft's value of a setting, by its name in the list */
#define VALUE(draft, name) value_of(draft, &guc_##name)

typedef bool (*ValueCheck) (GucDraft *draft, const GucEntry *entry,
							GucValue *value);

static bool fail(GucDraft *draft, const GucValue *value, const char *fmt,...)
			__attribute__((format(printf, 3, 4)));
static bool check_name(GucDraft *draft, const GucEntry *entry, GucValue *value);
static bool check_listen_urls(GucDraft *draft, const GucEntry *entry,
							  GucValue *value);
static bool check_metrics_urls(GucDraft *draft, const GucEntry *entry,
							   GucValue *value);
static bool check_urls(GucDraft *draft, const GucEntry *entry, GucValue *value);
static bool check_initial_cluster(GucDraft *draft, const GucEntry *entry,
								  GucValue *value);
static bool check_cluster_state(GucDraft *draft, const GucEntry *entry,
								GucValue *value);
static bool check_tls_version(GucDraft *draft, const GucEntry *entry,
							  GucValue *value);
static bool check_auth_token(GucDraft *draft, const GucEntry *entry,
							 GucValue *value);
static bool check_log_level(GucDraft *draft, const GucEntry *entry,
							GucValue *value);
static bool check_metrics(GucDraft *draft, const GucEntry *entry,
						  GucValue *value);
static bool check_log_outputs(GucDraft *draft, const GucEntry *entry,
							  GucValue *value);

static const struct
{
	const void *variable;
	ValueCheck	check;
} value_checks[] = {
	{&guc_name, check_name},
	{&guc_listen_client_urls, check_listen_urls},
	{&guc_listen_metrics_urls, check_metrics_urls},
	{&guc_advertise_client_urls, check_urls},
	{&guc_initial_advertise_peer_urls, check_urls},
	{&guc_initial_cluster, check_initial_cluster},
	{&guc_initial_cluster_state, check_cluster_state},
	{&guc_tls_min_version, check_tls_version},
	{&guc_tls_max_version, check_tls_version},
	{&guc_auth_token, check_auth_token},
	{&guc_log_level, check_log_level},
	{&guc_metrics, check_metrics},
	{&guc_log_outputs, check_log_outputs},
};

static bool check_timers(GucDraft *draft);
static bool check_compaction(GucDraft *draft);
static bool check_cluster(GucDraft *draft);
static bool check_certificates(GucDraft *draft);
static bool check_client_certificates(GucDraft *draft);
static bool check_tls_versions(GucDraft *draft);
static bool check_argon2(GucDraft *draft);
static bool check_files(GucDraft *draft);

static const char *url_list_problem(MemContext *mcx, const char *list,
									bool is_for_listening);
static const char *url_problem(const char *url, bool is_for_listening);
static const char *host_port_problem(const char *text, bool is_for_listening);
static bool has_scheme(const char *list, const char *a, const char *b);
static GucValue *value_of(const GucDraft *draft, const void *variable);
static const GucEntry *entry_of(const GucDraft *draft, const GucValue *value);

bool
guc_check_value(GucDraft *draft, const GucEntry *entry)
{
	for (size_t i = 0; i < lengthof(value_checks); i++)
	{
		if (value_checks[i].variable == entry->variable &&
			!value_checks[i].check(draft, entry,
								   guc_draft_value(draft, entry)))
			return false;
	}
	return true;
}

bool
guc_check_together(GucDraft *draft)
{
	return check_timers(draft) && check_compaction(draft) && check_cluster(draft) &&
		check_certificates(draft) && check_client_certificates(draft) &&
		check_tls_versions(draft) && check_argon2(draft) && check_files(draft);
}

static bool
fail(GucDraft *draft, const GucValue *value, const char *fmt,...)
{
	char		reason[512];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(reason, sizeof(reason), fmt, args);
	va_end(args);
	return guc_draft_fail(draft, "%s: setting \"%s\": %s", value->where,
						  entry_of(draft, value)->name, reason);
}

/* ---- each by itself ---- */

static bool
check_name(GucDraft *draft, const GucEntry *entry, GucValue *value)
{
	if (value->string[0] == '\0')
		return fail(draft, value, "must not be empty");
	/* '=' and ',' part names in initial_cluster, '/' would leave data_dir */
	if (strpbrk(value->string, "=,/") != NULL)
		return fail(draft, value, "must not hold '=', ',' or '/'");
	for (const char *p = value->string; *p != '\0'; p++)
	{
		if (iscntrl((unsigned char) *p))
			return fail(draft, value, "must not hold control characters");
	}
	if (strlen(value->string) > 200)
		return fail(draft, value, "must not be longer than 200 bytes");
	return true;
}

static bool
check_listen_urls(GucDraft *draft, const GucEntry *entry, GucValue *value)
{
	const char *problem = url_list_problem(draft->mcx, value->string, true);

	return problem == NULL || fail(draft, value, "%s", problem);
}

static bool
check_metrics_urls(GucDraft *draft, const GucEntry *entry, GucValue *value)
{
	return value->string[0] == '\0' ||
		check_listen_urls(draft, entry, value);
}

static bool
check_urls(GucDraft *draft, const GucEntry *entry, GucValue *value)
{
	const char *problem = url_list_problem(draft->mcx, value->string, false);

	return problem == NULL || fail(draft, value, "%s", problem);
}

/* name=url,name=url; a name may come again with its next url */
static bool
check_initial_cluster(GucDraft *draft, const GucEntry *entry, GucValue *value)
{
	char	   *list = mcx_strdup(draft->mcx, value->string);
	char	   *rest = list;
	char	   *pair;

	if (list[0] == '\0')
		return true;
	while ((pair = strsep(&rest, ",")) != NULL)
	{
		char	   *url = strchr(pair, '=');
		const char *problem;

		if (url == NULL || url == pair)
			return fail(draft, value, "\"%s\" is not name=url", pair);
		problem = url_problem(url + 1, false);
		if (problem != NULL)
			return fail(draft, value, "\"%s\" %s", url + 1, problem);
	}
	return true;
}

static bool
check_cluster_state(GucDraft *draft, const GucEntry *entry, GucValue *value)
{
	if (strcmp(value->string, "new") == 0 ||
		strcmp(value->string, "existing") == 0)
		return true;
	return fail(draft, value, "must be new or existing, not \"%s\"",
				value->string);
}

static bool
check_tls_version(GucDraft *draft, const GucEntry *entry, GucValue *value)
{
	if (strcmp(value->string, "TLS1.2") == 0 ||
		strcmp(value->string, "TLS1.3") == 0)
		return true;
	if (value->string[0] == '\0')
	{
		/* empty: our lowest, or no limit above */
		if (entry->variable == &guc_tls_min_version)
			value->string = "TLS1.2";
		return true;
	}
	return fail(draft, value, "must be TLS1.2 or TLS1.3, not \"%s\"",
				value->string);
}

static bool
check_auth_token(GucDraft *draft, const GucEntry *entry, GucValue *value)
{
	if (value->string[0] == '\0' || strcmp(value->string, "simple") == 0)
		return true;
	if (strncmp(value->string, "jwt", 3) == 0)
		return fail(draft, value, "JWT tokens are not part of this release; "
					"use simple");
	/* not the value: it may hold names of keys */
	return fail(draft, value, "must be simple, or empty for certificates only");
}

static bool
check_metrics(GucDraft *draft, const GucEntry *entry, GucValue *value)
{
	if (strcmp(value->string, "basic") == 0 ||
		strcmp(value->string, "extensive") == 0)
		return true;
	return fail(draft, value, "must be basic or extensive, not \"%s\"",
				value->string);
}

static bool
check_log_level(GucDraft *draft, const GucEntry *entry, GucValue *value)
{
	static const char *const levels[] = {"debug", "info", "warning", "error"};

	/* etcd's word */
	if (strcmp(value->string, "warn") == 0)
		value->string = "warning";
	for (size_t i = 0; i < lengthof(levels); i++)
	{
		if (strcmp(value->string, levels[i]) == 0)
			return true;
	}
	return fail(draft, value, "must be debug, info, warning or error, not "
				"\"%s\"", value->string);
}

static bool
check_log_outputs(GucDraft *draft, const GucEntry *entry, GucValue *value)
{
	if (value->string[0] == '\0')
		return fail(draft, value, "must not be empty");
	if (strcmp(value->string, "default") == 0)
		value->string = "stderr";
	if (strchr(value->string, ',') != NULL)
		return fail(draft, value, "only one output is supported");
	return true;
}

/* ---- all together ---- */

static bool
check_timers(GucDraft *draft)
{
	const GucValue *heartbeat = VALUE(draft, heartbeat_interval);
	const GucValue *election = VALUE(draft, election_timeout);

	if (election->integer >= heartbeat->integer * 5)
		return true;
	return fail(draft, election->source == GUC_SOURCE_DEFAULT ? heartbeat
				: election, "election_timeout (%" PRId64 " ms) must be at "
				"least five times heartbeat_interval (%" PRId64 " ms)",
				election->integer, heartbeat->integer);
}

static bool
check_compaction(GucDraft *draft)
{
	const GucValue *mode = VALUE(draft, auto_compaction_mode);
	const GucValue *retention = VALUE(draft, auto_compaction_retention);
	bool		by_revision = strcmp(mode->string, "revision") == 0;
	int64_t		number;

	if (!by_revision && strcmp(mode->string, "periodic") != 0)
		return fail(draft, mode, "must be periodic or revision, not \"%s\"",
					mode->string);
	if (guc_parse_retention(retention->string, by_revision, &number) &&
		number >= 0)
		return true;
	return fail(draft, retention, by_revision ? "\"%s\" is not a number of "
				"revisions" : "\"%s\" is neither hours nor a duration",
				retention->string);
}

/*
 * A member that was told of others and started alone would be a cluster of
 * its own beside theirs; so this is refused, not ignored.
 */
static bool
check_cluster(GucDraft *draft)
{
	const GucValue *cluster = VALUE(draft, initial_cluster);
	const char *name = VALUE(draft, name)->string;
	char	   *list = mcx_strdup(draft->mcx, cluster->string);
	char	   *rest = list;
	char	   *pair;
	bool		is_named = false;
	bool		has_others = false;

	if (list[0] == '\0')
		return true;
	while ((pair = strsep(&rest, ",")) != NULL)
	{
		*strchr(pair, '=') = '\0';
		if (strcmp(pair, name) == 0)
			is_named = true;
		else
			has_others = true;
	}
	if (!is_named)
		return fail(draft, cluster, "couldn't find local name \"%s\" in the "
					"initial cluster configuration", name);
	if (has_others)
		return fail(draft, cluster, "names other members than \"%s\"; this "
					"release runs clusters of one member", name);
	return true;
}

static bool
check_certificates(GucDraft *draft)
{
	const GucValue *cert = VALUE(draft, cert_file);
	const GucValue *key = VALUE(draft, key_file);
	const GucValue *listen = VALUE(draft, listen_client_urls);
	const GucValue *metrics = VALUE(draft, listen_metrics_urls);
	bool		has_cert = cert->string[0] != '\0';
	bool		has_key = key->string[0] != '\0';

	if (has_cert && !has_key)
		return fail(draft, cert, "needs key_file as well");
	if (has_key && !has_cert)
		return fail(draft, key, "needs cert_file as well");
	if (!has_cert && has_scheme(listen->string, "https://", "unixs://"))
		return fail(draft, listen, "a URL with https or unixs needs cert_file "
					"and key_file");
	if (!has_cert && has_scheme(metrics->string, "https://", "unixs://"))
		return fail(draft, metrics, "a URL with https or unixs needs cert_file "
					"and key_file");
	if (has_cert && !draft->is_reload &&
		has_scheme(listen->string, "http://", "unix://"))
		elog_write(LOG_LEVEL_WARNING, NULL, "Write https:// or unixs://.",
				   "certificates are given, but some of listen_client_urls "
				   "are without TLS");
	return true;
}

static bool
check_client_certificates(GucDraft *draft)
{
	const GucValue *auth = VALUE(draft, client_cert_auth);
	const GucValue *listen = VALUE(draft, listen_client_urls);
	const GucValue *demands[] = {
		VALUE(draft, client_crl_file),
		VALUE(draft, client_cert_allowed_hostname),
	};

	if (VALUE(draft, trusted_ca_file)->string[0] == '\0')
	{
		if (auth->boolean)
			return fail(draft, auth, "needs trusted_ca_file");
		/* a demand that would be passed over in silence */
		for (size_t i = 0; i < lengthof(demands); i++)
		{
			if (demands[i]->string[0] != '\0')
				return fail(draft, demands[i], "needs trusted_ca_file");
		}
	}
	if (auth->boolean && !draft->is_reload &&
		has_scheme(listen->string, "http://", "unix://"))
		elog_write(LOG_LEVEL_WARNING, NULL, "Write https:// or unixs://.",
				   "client_cert_auth has no effect on those of "
				   "listen_client_urls that are without TLS");
	return true;
}

static bool
check_tls_versions(GucDraft *draft)
{
	const GucValue *min = VALUE(draft, tls_min_version);
	const GucValue *max = VALUE(draft, tls_max_version);

	if (max->string[0] != '\0' && strcmp(min->string, max->string) > 0)
		return fail(draft, max, "%s is lower than tls_min_version (%s)",
					max->string, min->string);
	return true;
}

/* RFC 9106, section 3.1: memory is at least 8 blocks of 1 KiB a lane */
static bool
check_argon2(GucDraft *draft)
{
	const GucValue *memory = VALUE(draft, argon2_memory);
	const GucValue *lanes = VALUE(draft, argon2_parallelism);

	if (memory->integer >= lanes->integer * 8)
		return true;
	return fail(draft, memory, "must be at least 8 KiB for each of "
				"argon2_parallelism (%" PRId64 ") lanes", lanes->integer);
}

static bool
check_files(GucDraft *draft)
{
	const GucValue *files[] = {
		VALUE(draft, cert_file),
		VALUE(draft, key_file),
		VALUE(draft, trusted_ca_file),
		VALUE(draft, client_crl_file),
	};

	for (size_t i = 0; i < lengthof(files); i++)
	{
		const char *path = files[i]->string;
		struct stat st;
		int			fd;

		if (path[0] == '\0')
			continue;
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (fd < 0)
			return fail(draft, files[i], "cannot read \"%s\": %s", path,
						strerror(errno));
		if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		{
			close(fd);
			return fail(draft, files[i], "\"%s\" is not a regular file", path);
		}
		close(fd);
	}
	return true;
}

/* ---- URLs ---- */

/* what is wrong with a comma-separated list, or NULL */
static const char *
url_list_problem(MemContext *mcx, const char *list, bool is_for_listening)
{
	char	   *rest = mcx_strdup(mcx, list);
	char	   *url;

	if (list[0] == '\0')
		return "must not be empty";
	while ((url = strsep(&rest, ",")) != NULL)
	{
		const char *problem = url_problem(url, is_for_listening);

		if (problem != NULL)
			return mcx_printf(mcx, "\"%s\" %s", url, problem);
	}
	return NULL;
}

static const char *
url_problem(const char *url, bool is_for_listening)
{
	const char *rest = strstr(url, "://");
	size_t		scheme_len;

	if (rest == NULL)
		return "is not a URL (scheme://host:port)";
	scheme_len = (size_t) (rest - url);
	rest += 3;
	if ((scheme_len == 4 && strncmp(url, "http", 4) == 0) ||
		(scheme_len == 5 && strncmp(url, "https", 5) == 0))
		return host_port_problem(rest, is_for_listening);
	if ((scheme_len == 4 && strncmp(url, "unix", 4) == 0) ||
		(scheme_len == 5 && strncmp(url, "unixs", 5) == 0))
		return rest[0] == '\0' ? "names no socket" : NULL;
	return "has a scheme other than http, https, unix and unixs";
}

/* host:port or [v6]:port; port 0 lets the system choose when listening */
static const char *
host_port_problem(const char *text, bool is_for_listening)
{
	const char *port = strrchr(text, ':');
	const char *bracket = strrchr(text, ']');
	size_t		ndigits;
	long		number;

	if (strchr(text, '/') != NULL)
		return "must not hold a path";
	if (strchr(text, '@') != NULL)
		return "must not hold a user";
	if (port == NULL || (bracket != NULL && bracket > port))
		return "lacks a port (host:port)";
	if (port == text)
		return "lacks a host (host:port)";
	if (text[0] == '[' ? bracket != port - 1 || bracket == text + 1
		: memchr(text, ':', (size_t) (port - text)) != NULL)
		return "must have an IPv6 address in brackets";
	port++;
	ndigits = strspn(port, "0123456789");
	number = ndigits > 0 && ndigits <= 5 ? atol(port) : -1;
	if (port[ndigits] != '\0' || number < (is_for_listening ? 0 : 1) ||
		number > 65535)
		return "has no valid port";
	for (const char *p = text; *p != '\0'; p++)
	{
		if (isspace((unsigned char) *p) || iscntrl((unsigned char) *p))
			return "holds a blank";
	}
	return NULL;
}

/* does a URL of the list begin with one of two schemes? */
static bool
has_scheme(const char *list, const char *a, const char *b)
{
	for (const char *url = list; url != NULL;)
	{
		const char *comma = strchr(url, ',');

		if (strncmp(url, a, strlen(a)) == 0 || strncmp(url, b, strlen(b)) == 0)
			return true;
		url = comma == NULL ? NULL : comma + 1;
	}
	return false;
}

/* ---- table ---- */

static GucValue *
value_of(const GucDraft *draft, const void *variable)
{
	for (size_t i = 0; i < guc_nentries; i++)
	{
		if (guc_entries[i].variable == variable)
			return &draft->values[i];
	}
	elog_fatal("a check names a setting that is not in the list");
}

static const GucEntry *
entry_of(const GucDraft *draft, const GucValue *value)
{
	return &guc_entries[value - draft->values];
}
