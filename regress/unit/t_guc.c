/*
 * t_guc.c
 *	  Settings: sources and their strength, values, checks, mistakes, reload.
 */
/* needs: utils/guc */
#include "server.h"

/* system */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* libraries */
#include <cmocka.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/guc.h"

#define MAX_ARGS 32

static char dir[] = "/tmp/t_guc.XXXXXX";
static char file[256];			/* a settings file */
static char pem[256];			/* any readable file */
static int	log_fd;
static char error[1024];
static GucCommand command;

/* ---- helpers ---- */

static bool
load_args(const char *first, va_list rest)
{
	char	   *argv[MAX_ARGS + 1] = {(char *) "claviger"};
	int			argc = 1;

	for (const char *arg = first; arg != NULL; arg = va_arg(rest, char *))
	{
		assert_true(argc < MAX_ARGS);
		argv[argc++] = (char *) (uintptr_t) arg;
	}
	guc_init_defaults();
	assert_int_equal(ftruncate(log_fd, 0), 0);
	strcpy(error, "untouched");
	return guc_load(argc, argv, &command, error, sizeof(error));
}

static void
good(const char *first,...)
{
	va_list		args;
	bool		ok;

	va_start(args, first);
	ok = load_args(first, args);
	va_end(args);
	if (!ok)
		fail_msg("refused: %s", error);
	assert_string_equal(error, "");
}

/* load is refused with exactly this message */
#define bad(message, ...) \
	do { \
		load_bad(__VA_ARGS__, NULL); \
		assert_string_equal(error, message); \
		/* nothing was assigned */ \
		assert_string_equal(guc_data_dir, ""); \
	} while (0)

static void
load_bad(const char *first,...)
{
	va_list		args;
	bool		ok;

	va_start(args, first);
	ok = load_args(first, args);
	va_end(args);
	assert_false(ok);
}

static void
write_file(const char *text)
{
	FILE	   *f = fopen(file, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static bool
log_has(const char *text)
{
	static char buf[65536];
	ssize_t		n = pread(log_fd, buf, sizeof(buf) - 1, 0);

	assert_true(n >= 0);
	buf[n] = '\0';
	return strstr(buf, text) != NULL;
}

static const char *
in_file(const char *line_and_reason)
{
	static char message[1024];

	snprintf(message, sizeof(message), "%s%s", file, line_and_reason);
	return message;
}

/* load with the settings file only; the message begins with the file's name */
static void
bad_file(const char *text, const char *line_and_reason)
{
	write_file(text);
	bad(in_file(line_and_reason), "--config-file", file);
}

static void
good_file(const char *text)
{
	write_file(text);
	good("--config-file", file, NULL);
}

/* ---- sources ---- */

static void
test_defaults(void **state)
{
	good(NULL, NULL);
	assert_int_equal(command, GUC_RUN);
	assert_string_equal(guc_name, "default");
	assert_string_equal(guc_data_dir, "default.claviger");
	assert_int_equal(guc_heartbeat_interval, 100);
	assert_false(guc_client_cert_auth);
	good("--name=m1", NULL);
	assert_string_equal(guc_data_dir, "m1.claviger");
	good("--name=m1", "--data-dir", "/x", NULL);
	assert_string_equal(guc_data_dir, "/x");
}

static void
test_spellings(void **state)
{
	good("--heartbeat-interval=7", NULL);
	assert_int_equal(guc_heartbeat_interval, 7);
	good("-heartbeat-interval", "8", NULL);
	assert_int_equal(guc_heartbeat_interval, 8);
	good("--heartbeat_interval", "9", "--heartbeat-interval=10", NULL);
	assert_int_equal(guc_heartbeat_interval, 10);
	good("--name", "--odd", NULL);
	assert_string_equal(guc_name, "--odd");
	good("--auth-token=", NULL);
	assert_string_equal(guc_auth_token, "");
	good("--experimental-snapshot-catchup-entries=17", NULL);
	assert_int_equal(guc_snapshot_catchup_entries, 17);
	good("--log-output=default", "--", NULL);
	assert_string_equal(guc_log_outputs, "stderr");
}

static void
test_bools(void **state)
{
	static const char *const yes[] = {"", "=true", "=T", "=1", "=TRUE"};
	static const char *const no[] = {"=false", "=f", "=0", "=False"};
	char		flag[64];

	for (size_t i = 0; i < lengthof(yes); i++)
	{
		snprintf(flag, sizeof(flag), "--client-cert-auth%s", yes[i]);
		good(flag, "--trusted-ca-file", pem, NULL);
		assert_true(guc_client_cert_auth);
	}
	for (size_t i = 0; i < lengthof(no); i++)
	{
		snprintf(flag, sizeof(flag), "--client-cert-auth%s", no[i]);
		good(flag, NULL);
		assert_false(guc_client_cert_auth);
	}
	bad("command line: setting \"client_cert_auth\": must be true or false, "
		"not \"yes\"", "--client-cert-auth=yes");
	/* a value by itself is none */
	bad("\"false\" is not a valid flag", "--client-cert-auth", "false");
}

static void
test_commands(void **state)
{
	good("--help", NULL);
	assert_int_equal(command, GUC_SHOW_HELP);
	good("-h", "rubbish", NULL);
	assert_int_equal(command, GUC_SHOW_HELP);
	good("--version", NULL);
	assert_int_equal(command, GUC_SHOW_VERSION);
	good("--version=false", NULL);
	assert_int_equal(command, GUC_RUN);
}

static void
test_flag_mistakes(void **state)
{
	bad("\"x\" is not a valid flag", "--name=m1", "x");
	bad("\"-\" is not a valid flag", "-");
	bad("\"x\" is not a valid flag", "--", "x");
	bad("command line: unknown flag \"--data-dri=/x\"; did you mean "
		"\"--data-dir\"?", "--data-dri=/x");
	bad("command line: unknown flag \"--hearbeat_interval\"; did you mean "
		"\"--heartbeat-interval\"?", "--hearbeat_interval", "5");
	bad("command line: unknown flag \"--zzzzzz\"; see --help", "--zzzzzz");
	bad("command line: unknown flag \"---name=x\"; did you mean \"--name\"?",
		"---name=x");
	bad("command line: unknown flag \"--=x\"; see --help", "--=x");
	bad("command line: flag \"--name\" needs a value", "--name");
}

static void
test_strength(void **state)
{
	write_file("heartbeat_interval = 11; max_txn_ops = 21;"
			   "max_connections = 31; token_cache_size = 401;\n");
	setenv("ETCD_HEARTBEAT_INTERVAL", "12", 1);
	setenv("ETCD_MAX_TXN_OPS", "22", 1);
	setenv("ETCD_MAX_CONNECTIONS", "32", 1);
	setenv("CLAVIGER_HEARTBEAT_INTERVAL", "13", 1);
	setenv("CLAVIGER_MAX_TXN_OPS", "23", 1);
	/* empty counts as absent */
	setenv("CLAVIGER_TOKEN_CACHE_SIZE", "", 1);
	good("--heartbeat-interval=14", "--config-file", file, NULL);
	assert_int_equal(guc_heartbeat_interval, 14);
	assert_int_equal(guc_max_txn_ops, 23);
	assert_int_equal(guc_max_connections, 32);
	assert_int_equal(guc_token_cache_size, 401);

	/* a mistake counts also where something stronger stands */
	setenv("ETCD_HEARTBEAT_INTERVAL", "soon", 1);
	bad("environment variable ETCD_HEARTBEAT_INTERVAL: setting "
		"\"heartbeat_interval\": \"soon\" is not a time such as 500ms, 5s or "
		"2h", "--heartbeat-interval=14");
	unsetenv("ETCD_HEARTBEAT_INTERVAL");
	unsetenv("ETCD_MAX_TXN_OPS");
	unsetenv("ETCD_MAX_CONNECTIONS");
	unsetenv("CLAVIGER_HEARTBEAT_INTERVAL");
	unsetenv("CLAVIGER_MAX_TXN_OPS");
	unsetenv("CLAVIGER_TOKEN_CACHE_SIZE");
}

static void
test_environment(void **state)
{
	setenv("ETCD_NO_SUCH_THING", "1", 1);
	setenv("CLAVIGER_INJECT", "a=kill", 1);
	setenv("CLAVIGER_max_txn_ops", "5", 1);
	setenv("ETCD_PRE_VOTE", "true", 1);
	good(NULL, NULL);
	assert_true(log_has("environment variable ETCD_NO_SUCH_THING is not a "
						"setting"));
	assert_true(log_has("environment variable CLAVIGER_max_txn_ops is not"));
	assert_int_equal(guc_max_txn_ops, 128);
	assert_false(log_has("INJECT"));
	assert_true(log_has("environment variable ETCD_PRE_VOTE: setting "
						"\"pre_vote\" is accepted and ignored"));
	unsetenv("ETCD_NO_SUCH_THING");
	unsetenv("CLAVIGER_INJECT");
	unsetenv("CLAVIGER_max_txn_ops");
	unsetenv("ETCD_PRE_VOTE");
}

/* etcd's flags, 3.4 to 3.7; '!' marks those that take no value of their own */
static const char *const etcd_flags[] = {
	"name", "data-dir", "wal-dir", "snapshot-count", "heartbeat-interval",
	"election-timeout", "initial-election-tick-advance!", "listen-peer-urls",
	"listen-client-urls", "listen-client-http-urls", "max-wals",
	"max-snapshots", "memory-mlock!", "experimental-memory-mlock!",
	"quota-backend-bytes", "backend-bbolt-freelist-type",
	"experimental-backend-bbolt-freelist-type", "backend-batch-interval",
	"backend-batch-limit", "max-txn-ops", "max-request-bytes",
	"max-concurrent-streams", "grpc-keepalive-min-time",
	"grpc-keepalive-interval", "grpc-keepalive-timeout", "socket-reuse-port!",
	"socket-reuse-address!", "enable-grpc-gateway!", "raft-read-timeout",
	"raft-write-timeout", "feature-gates", "initial-advertise-peer-urls",
	"initial-cluster", "initial-cluster-state", "initial-cluster-token",
	"advertise-client-urls", "discovery", "discovery-proxy",
	"discovery-token", "discovery-endpoints", "discovery-dial-timeout",
	"discovery-request-timeout", "discovery-keepalive-time",
	"discovery-keepalive-timeout", "discovery-insecure-transport!",
	"discovery-insecure-skip-tls-verify!", "discovery-cert", "discovery-key",
	"discovery-cacert", "discovery-user", "discovery-password",
	"discovery-fallback", "discovery-srv", "discovery-srv-name",
	"strict-reconfig-check!", "pre-vote!", "auto-compaction-retention",
	"auto-compaction-mode", "v2-deprecation", "cert-file", "key-file",
	"client-cert-auth!", "client-cert-file", "client-key-file",
	"client-crl-file", "client-cert-allowed-hostname", "trusted-ca-file",
	"auto-tls!", "peer-cert-file", "peer-key-file", "peer-client-cert-auth!",
	"peer-client-cert-file", "peer-client-key-file", "peer-trusted-ca-file",
	"peer-crl-file", "peer-auto-tls!", "peer-cert-allowed-cn",
	"peer-cert-allowed-hostname", "peer-skip-client-san-verification!",
	"experimental-peer-skip-client-san-verification!",
	"self-signed-cert-validity", "cipher-suites", "cors", "host-whitelist",
	"tls-min-version", "tls-max-version", "auth-token", "bcrypt-cost",
	"auth-token-ttl", "enable-pprof!", "metrics", "listen-metrics-urls",
	"logger", "log-outputs", "log-level", "log-format",
	"enable-log-rotation!", "log-rotation-config-json",
	"warning-unary-request-duration",
	"experimental-warning-unary-request-duration",
	"enable-distributed-tracing!", "distributed-tracing-address",
	"distributed-tracing-service-name", "distributed-tracing-instance-id",
	"distributed-tracing-sampling-rate",
	"experimental-enable-distributed-tracing!",
	"experimental-distributed-tracing-address",
	"experimental-distributed-tracing-service-name",
	"experimental-distributed-tracing-instance-id",
	"experimental-distributed-tracing-sampling-rate", "debug!",
	"log-package-levels", "log-output", "corrupt-check-time",
	"compact-hash-check-time", "compaction-batch-limit",
	"compaction-sleep-interval", "watch-progress-notify-interval",
	"warning-apply-duration", "bootstrap-defrag-threshold-megabytes",
	"max-learners", "downgrade-check-time", "snapshot-catchup-entries",
	"force-new-cluster!", "unsafe-no-fsync!",
	"experimental-corrupt-check-time", "experimental-compact-hash-check-time",
	"experimental-compaction-batch-limit",
	"experimental-compaction-sleep-interval",
	"experimental-watch-progress-notify-interval",
	"experimental-warning-apply-duration",
	"experimental-bootstrap-defrag-threshold-megabytes",
	"experimental-max-learners", "experimental-downgrade-check-time",
	"experimental-snapshot-catchup-entries",
	"experimental-initial-corrupt-check!",
	"experimental-compact-hash-check-enabled!",
	"experimental-enable-lease-checkpoint!",
	"experimental-enable-lease-checkpoint-persist!",
	"experimental-stop-grpc-service-on-defrag!",
	"experimental-txn-mode-write-with-shared-buffer!", "enable-v2!",
	"experimental-enable-v2v3", "proxy", "proxy-failure-wait",
	"proxy-refresh-interval", "proxy-dial-timeout", "proxy-write-timeout",
	"proxy-read-timeout", "cluster-active-size!", "cluster-remove-delay!",
	"cluster-sync-interval!", "config!", "force!", "max-result-buffer!",
	"max-retry-attempts!", "peer-heartbeat-interval!",
	"peer-election-timeout!", "retry-interval!", "snapshot!", "v!", "vv!",
	"test.coverprofile!", "test.outputdir!", "config-file",
};

/* Each is known, and takes its value from where etcd takes it. */
static void
test_every_etcd_flag(void **state)
{
	for (size_t i = 0; i < lengthof(etcd_flags); i++)
	{
		const char *name = etcd_flags[i];
		bool		is_bool = name[strlen(name) - 1] == '!';
		char		flag[128];
		char		needs[192];

		snprintf(flag, sizeof(flag), "--%.*s",
				 (int) strlen(name) - is_bool, name);
		if (!is_bool)
		{
			snprintf(needs, sizeof(needs),
					 "command line: flag \"%s\" needs a value", flag);
			bad(needs, flag);
		}
		else if (strstr(name, "auto-tls") == NULL)
		{
			load_bad(flag, "leftover", NULL);
			assert_string_equal(error, "\"leftover\" is not a valid flag");
		}
	}
	good("--snapshot-count", "10000", "--pre-vote", "--v2-deprecation=x", NULL);
	assert_true(log_has("command line: setting \"snapshot_count\" is accepted "
						"and ignored; DETAIL: The tables follow the log all "
						"the time; see checkpoint_bytes."));
	assert_true(log_has("\"pre_vote\" is accepted"));
	assert_true(log_has("\"v2_deprecation\" is accepted"));
}

/* asked for, they would not be there: better no server than one without them */
static void
test_dangerous_flags_are_refused(void **state)
{
	bad("command line: setting \"auto_tls\" is refused: Certificates are not "
		"made by the server: give cert_file and key_file (clav_ctl init --tls "
		"makes some).", "--auto-tls");
	bad("command line: setting \"peer_auto_tls\" is refused: This release has "
		"no peers, and makes no certificates.", "--peer-auto-tls=1");
	load_bad("--discovery", "https://discovery.etcd.io/x", NULL);
	assert_non_null(strstr(error, "\"discovery\" is refused: No cluster is "
						   "discovered"));
	load_bad("--discovery-srv=example.com", NULL);
	load_bad("--discovery-token=x", NULL);
	load_bad("--discovery-endpoints=http://a:1", NULL);
	load_bad("--proxy=on", NULL);
	setenv("ETCD_AUTO_TLS", "true", 1);
	load_bad(NULL, NULL);
	assert_non_null(strstr(error, "environment variable ETCD_AUTO_TLS"));
	setenv("ETCD_AUTO_TLS", "false", 1);
	good("--auto-tls=false", "--discovery=", "--proxy=off",
		 "--listen-peer-urls=http://localhost:2380", NULL);
	unsetenv("ETCD_AUTO_TLS");
	/* peers that would be waited for in vain */
	load_bad("--listen-peer-urls=http://a:1",
			 "--initial-cluster=default=http://a:1,b=http://b:1", NULL);
	assert_non_null(strstr(error, "names other members"));
}

static void
test_compaction(void **state)
{
	static const struct
	{
		const char *retention;
		int64_t		ms;
	}			cases[] = {
		{"0", 0}, {"1", 3600000}, {"72h", 259200000}, {"5m", 300000},
		{"1h30m", 5400000}, {"10s", 10000}, {"0s", 0},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		good("--auto-compaction-retention", cases[i].retention, NULL);
		assert_true(guc_effective_auto_compaction_retention() == cases[i].ms);
	}
	good("--auto-compaction-mode=revision", "--auto-compaction-retention=1000",
		 NULL);
	assert_int_equal(guc_effective_auto_compaction_retention(), 1000);
	bad("command line: setting \"auto_compaction_mode\": must be periodic or "
		"revision, not \"x\"", "--auto-compaction-mode=x");
	bad("command line: setting \"auto_compaction_retention\": \"x\" is neither "
		"hours nor a duration", "--auto-compaction-retention=x");
	load_bad("--auto-compaction-retention=-1", NULL);
	load_bad("--auto-compaction-mode=revision",
			 "--auto-compaction-retention=5m", NULL);
	good(NULL, NULL);
	assert_int_equal(guc_effective_auto_compaction_retention(), 0);
}

/* ---- values ---- */

static void
test_units(void **state)
{
	static const struct
	{
		const char *flag;
		const int64_t *variable;
		int64_t		value;
	}			cases[] = {
		{"--grpc-keepalive-min-time=5s", &guc_grpc_keepalive_min_time, 5000},
		{"--grpc-keepalive-min-time=0", &guc_grpc_keepalive_min_time, 0},
		{"--grpc-keepalive-interval=2h", &guc_grpc_keepalive_interval, 7200000},
		{"--grpc-keepalive-interval=1h30m5.5s", &guc_grpc_keepalive_interval,
		5405500},
		{"--grpc-keepalive-timeout=20000000us", &guc_grpc_keepalive_timeout,
		20000},
		{"--heartbeat-interval=150ms", &guc_heartbeat_interval, 150},
		{"--auth-token-ttl=5m", &guc_auth_token_ttl, 300},
		{"--auth-token-ttl=77", &guc_auth_token_ttl, 77},
		{"--max-request-bytes=2MiB", &guc_max_request_bytes, 2097152},
		{"--max-request-bytes=1.5 MB", &guc_max_request_bytes, 1500000},
		{"--max-request-bytes=10kB", &guc_max_request_bytes, 10000},
		{"--quota-backend-bytes=8GiB", &guc_quota_backend_bytes,
		INT64_C(8) << 30},
		{"--quota-backend-bytes=-1", &guc_quota_backend_bytes, -1},
		{"--quota-backend-bytes=9223372036854775807",
		&guc_quota_backend_bytes, INT64_MAX},
		{"--argon2-memory=64MiB", &guc_argon2_memory, 65536},
		{"--argon2-memory=100", &guc_argon2_memory, 100},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		good(cases[i].flag, NULL);
		if (*cases[i].variable != cases[i].value)
			fail_msg("%s gave %" PRId64, cases[i].flag, *cases[i].variable);
	}
}

static void
test_bad_numbers(void **state)
{
	static const struct
	{
		const char *value;
		const char *reason;
	}			times[] = {
		{"0", "0 ms is outside the range 1 to 50000"},
		{"50001", "50001 ms is outside the range 1 to 50000"},
		{"-5s", "-5000 ms is outside the range 1 to 50000"},
		{"1500us", "\"1500us\" is not a whole number of ms"},
		{"5 s s", "\"5 s s\" is not a time such as 500ms, 5s or 2h"},
		{"5KiB", "\"5KiB\" is not a time such as 500ms, 5s or 2h"},
		{"", "\"\" is not a time such as 500ms, 5s or 2h"},
		{"1e3", "\"1e3\" is not a time such as 500ms, 5s or 2h"},
		{" 5", "\" 5\" is not a time such as 500ms, 5s or 2h"},
		{"9999999999999999999", "\"9999999999999999999\" is too large a number"},
		{"9999999999999h", "\"9999999999999h\" is not a time such as 500ms, "
		"5s or 2h"},
		{"1.1234567s", "\"1.1234567s\" is not a time such as 500ms, 5s or 2h"},
	};

	for (size_t i = 0; i < lengthof(times); i++)
	{
		char		flag[128];
		char		message[256];

		snprintf(flag, sizeof(flag), "--heartbeat-interval=%s", times[i].value);
		snprintf(message, sizeof(message), "command line: setting "
				 "\"heartbeat_interval\": %s", times[i].reason);
		bad(message, flag);
	}
	bad("command line: setting \"max_txn_ops\": \"5s\" is not a whole number",
		"--max-txn-ops=5s");
	bad("command line: setting \"max_txn_ops\": 0 is outside the range 1 to "
		"100000", "--max-txn-ops=0");
	bad("command line: setting \"argon2_memory\": \"1500 B\" is not a whole "
		"number of KiB", "--argon2-memory=1500 B");
	bad("command line: setting \"max_request_bytes\": \"1.5\" is not a size "
		"such as 4096, 64MB or 2GiB", "--max-request-bytes=1.5");
}

static void
test_urls(void **state)
{
	static const struct
	{
		const char *list;
		const char *reason;		/* NULL: good */
	}			cases[] = {
		{"http://127.0.0.1:2379", NULL},
		{"http://localhost:0", NULL},
		{"http://[::1]:2379,unix:///tmp/x", NULL},
		{"", "must not be empty"},
		{"127.0.0.1:2379", "\"127.0.0.1:2379\" is not a URL "
		"(scheme://host:port)"},
		{"ftp://a:1", "\"ftp://a:1\" has a scheme other than http, https, "
		"unix and unixs"},
		{"http://a:1,", "\"\" is not a URL (scheme://host:port)"},
		{"http://a", "\"http://a\" lacks a port (host:port)"},
		{"http://:2379", "\"http://:2379\" lacks a host (host:port)"},
		{"http://a:1/x", "\"http://a:1/x\" must not hold a path"},
		{"http://u@a:1", "\"http://u@a:1\" must not hold a user"},
		{"http://a:65536", "\"http://a:65536\" has no valid port"},
		{"http://a:", "\"http://a:\" has no valid port"},
		{"http://a:+1", "\"http://a:+1\" has no valid port"},
		{"http://::1:2379", "\"http://::1:2379\" must have an IPv6 address in "
		"brackets"},
		{"http://[::1]", "\"http://[::1]\" lacks a port (host:port)"},
		{"http://[]:1", "\"http://[]:1\" must have an IPv6 address in brackets"},
		{"http://a b:1", "\"http://a b:1\" holds a blank"},
		{"unix://", "\"unix://\" names no socket"},
		{"https://a:1", "a URL with https or unixs needs cert_file and "
		"key_file"},
		{"http://a:1,unixs:///x", "a URL with https or unixs needs cert_file "
		"and key_file"},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		char		message[512];

		if (cases[i].reason == NULL)
		{
			good("--listen-client-urls", cases[i].list, NULL);
			assert_string_equal(guc_listen_client_urls, cases[i].list);
			continue;
		}
		snprintf(message, sizeof(message), "command line: setting "
				 "\"listen_client_urls\": %s", cases[i].reason);
		bad(message, "--listen-client-urls", cases[i].list);
	}
	bad("command line: setting \"advertise_client_urls\": \"http://a:0\" has "
		"no valid port", "--advertise-client-urls=http://a:0");
	bad("command line: setting \"initial_advertise_peer_urls\": must not be "
		"empty", "--initial-advertise-peer-urls=");
	good("--listen-client-urls=https://a:1", "--cert-file", pem, "--key-file",
		 pem, NULL);
}

static void
test_choices(void **state)
{
	good("--log-level=warn", "--tls-min-version=", NULL);
	assert_string_equal(guc_log_level, "warning");
	assert_int_equal(elog_level(), LOG_LEVEL_WARNING);
	assert_string_equal(guc_tls_min_version, "TLS1.2");
	bad("command line: setting \"log_level\": must be debug, info, warning or "
		"error, not \"loud\"", "--log-level=loud");
	assert_int_equal(elog_level(), LOG_LEVEL_INFO);
	bad("command line: setting \"tls_min_version\": must be TLS1.2 or TLS1.3, "
		"not \"TLS1.0\"", "--tls-min-version=TLS1.0");
	bad("command line: setting \"initial_cluster_state\": must be new or "
		"existing, not \"old\"", "--initial-cluster-state=old");
	bad("command line: setting \"auth_token\": JWT tokens are not part of "
		"this release; use simple",
		"--auth-token=jwt,pub-key=/k,sign-method=RS256");
	bad("command line: setting \"auth_token\": must be simple, or empty for "
		"certificates only", "--auth-token=other");
	bad("command line: setting \"log_outputs\": only one output is supported",
		"--log-outputs=stdout,/x");
	bad("command line: setting \"log_outputs\": must not be empty",
		"--log-outputs=");
	bad("command line: setting \"name\": must not be empty", "--name=");
	bad("command line: setting \"name\": must not hold '=', ',' or '/'",
		"--name=a/b");
	bad("command line: setting \"name\": must not hold control characters",
		"--name=a\nb");
}

static void
test_together(void **state)
{
	char		message[512];
	char		none[300];

	good("--heartbeat-interval=200", "--election-timeout=1000", NULL);
	bad("command line: setting \"election_timeout\": election_timeout "
		"(999 ms) must be at least five times heartbeat_interval (200 ms)",
		"--heartbeat-interval=200", "--election-timeout=999");
	bad("command line: setting \"heartbeat_interval\": election_timeout "
		"(1000 ms) must be at least five times heartbeat_interval (201 ms)",
		"--heartbeat-interval=201");
	bad("command line: setting \"cert_file\": needs key_file as well",
		"--cert-file", pem);
	bad("command line: setting \"key_file\": needs cert_file as well",
		"--key-file", pem);
	bad("command line: setting \"client_cert_auth\": needs trusted_ca_file",
		"--client-cert-auth");
	bad("command line: setting \"client_crl_file\": needs trusted_ca_file",
		"--client-crl-file", pem);
	bad("command line: setting \"client_cert_allowed_hostname\": needs "
		"trusted_ca_file", "--client-cert-allowed-hostname=a");
	bad("command line: setting \"tls_max_version\": TLS1.2 is lower than "
		"tls_min_version (TLS1.3)", "--tls-min-version=TLS1.3",
		"--tls-max-version=TLS1.2");
	bad("command line: setting \"argon2_memory\": must be at least 8 KiB for "
		"each of argon2_parallelism (4) lanes", "--argon2-memory=31",
		"--argon2-parallelism=4");
	snprintf(none, sizeof(none), "%s/none", dir);
	snprintf(message, sizeof(message), "command line: setting "
			 "\"trusted_ca_file\": cannot read \"%s\": No such file or "
			 "directory", none);
	bad(message, "--trusted-ca-file", none);
	snprintf(message, sizeof(message), "command line: setting "
			 "\"trusted_ca_file\": \"%s\" is not a regular file", dir);
	bad(message, "--trusted-ca-file", dir);

	good("--cert-file", pem, "--key-file", pem, NULL);
	assert_true(log_has("some of listen_client_urls are without TLS"));
	good("--client-cert-auth", "--trusted-ca-file", pem, NULL);
	assert_true(log_has("client_cert_auth has no effect on those"));
}

static void
test_initial_cluster(void **state)
{
	good("--initial-cluster=default=http://a:2380,default=http://b:2380", NULL);
	bad("command line: setting \"initial_cluster\": \"http://a:2380\" is not "
		"name=url", "--initial-cluster=http://a:2380");
	bad("command line: setting \"initial_cluster\": \"a:2380\" is not a URL "
		"(scheme://host:port)", "--initial-cluster=default=a:2380");
	bad("command line: setting \"initial_cluster\": couldn't find local name "
		"\"m1\" in the initial cluster configuration", "--name=m1",
		"--initial-cluster=default=http://a:2380");
	bad("command line: setting \"initial_cluster\": names other members than "
		"\"m1\"; this release runs clusters of one member", "--name=m1",
		"--initial-cluster=m1=http://a:2380,m2=http://b:2380");
}

/* ---- the file ---- */

static void
test_file(void **state)
{
	good_file("# a comment with 99999999999 and @include\n"
			  "name = \"m1\"; // 99999999999999999999999\n"
			  "/* \" 88888888888888888888888\n */\n"
			  "heartbeat-interval = \"20ms\";\n"
			  "election_timeout = 0x400;\n"
			  "quota_backend_bytes = 8589934592\n"
			  "shared_memory_size = 8589934593L;\n"
			  "listen_client_urls = [\"http://a:1\", \"http://b:2\"];\n"
			  "advertise_client_urls = (\"http://c:3\");\n"
			  "client_cert_auth = false;\n"
			  "initial_cluster_token = \"a\\\"b 99999999999999999999\";\n"
			  "snapshot_count = 5;\n");
	assert_string_equal(guc_name, "m1");
	assert_string_equal(guc_data_dir, "m1.claviger");
	assert_int_equal(guc_heartbeat_interval, 20);
	assert_int_equal(guc_election_timeout, 1024);
	/* libconfig alone makes 0 of it */
	assert_true(guc_quota_backend_bytes == INT64_C(8589934592));
	assert_true(guc_shared_memory_size == INT64_C(8589934593));
	assert_string_equal(guc_listen_client_urls, "http://a:1,http://b:2");
	assert_string_equal(guc_advertise_client_urls, "http://c:3");
	assert_string_equal(guc_initial_cluster_token,
						"a\"b 99999999999999999999");
	assert_true(log_has(in_file(":13: setting \"snapshot_count\" is accepted "
								"and ignored")));
	good_file("quota_backend_bytes = -5000000000;\n");
	assert_true(guc_quota_backend_bytes == INT64_C(-5000000000));
	good_file("");
}

static void
test_file_errors(void **state)
{
	char		message[512];

	bad_file("name = \"a\";\n\nname = \"b\";\n",
			 ":3: duplicate setting name");
	bad_file("\n\nname = ;\n", ":3: syntax error");
	bad_file("name = \"unfinished\n", ":2: syntax error");
	bad_file("\nheartbeat_interval = 0;\n", ":2: setting "
			 "\"heartbeat_interval\": 0 ms is outside the range 1 to 50000");
	bad_file("heartbeat_interval = 1.5;\n", ":1: setting "
			 "\"heartbeat_interval\": must be a string, a whole number, true "
			 "or false, or a list of strings");
	bad_file("name = { a = 1; };\n", ":1: setting \"name\": must be a string, "
			 "a whole number, true or false, or a list of strings");
	bad_file("listen_client_urls = [1, 2];\n", ":1: setting "
			 "\"listen_client_urls\": must be a string, a whole number, true "
			 "or false, or a list of strings");
	bad_file("client_cert_auth = \"perhaps\";\n", ":1: setting "
			 "\"client_cert_auth\": must be true or false, not \"perhaps\"");
	bad_file("heart_beat_interval = 5;\n", ":1: unknown setting "
			 "\"heart_beat_interval\"; did you mean \"heartbeat_interval\"?");
	bad_file("what_is_this = 5;\n", ":1: unknown setting \"what_is_this\"");
	bad_file("# x\nquota_backend_bytes = 9999999999999999999;\n",
			 ":2: the number 9999999999999999999 is too large");
	bad_file("quota_backend_bytes = 0x8000000000000000L;\n",
			 ":1: the number 0x8000000000000000L is too large");
	bad_file("@include \"/etc/passwd\"\n", ":1: @include is not supported");
	bad_file("config_file = \"x\";\n", ":1: setting \"config_file\" cannot "
			 "stand in the file itself");
	snprintf(message, sizeof(message), ":2: setting \"max_txn_ops\" was given "
			 "before (%s:1)", file);
	bad_file("max-txn-ops = 5;\nmax_txn_ops = 6;\n", message);
	bad_file("client_cert_auth = true;\n", ":1: setting \"client_cert_auth\": "
			 "needs trusted_ca_file");
}

static void
test_file_unreadable(void **state)
{
	char		message[512];
	char		none[300];
	FILE	   *f;

	snprintf(none, sizeof(none), "%s/none.conf", dir);
	snprintf(message, sizeof(message), "%s: cannot read the settings file: No "
			 "such file or directory", none);
	bad(message, "--config-file", none);
	snprintf(message, sizeof(message), "%s: the settings file is not a "
			 "regular file", dir);
	bad(message, "--config-file", dir);

	f = fopen(file, "w");
	fwrite("name = \"a\";\0\n", 1, 13, f);
	fclose(f);
	bad(in_file(": the settings file holds a zero byte"), "--config-file",
		file);
	f = fopen(file, "w");
	for (int i = 0; i < 1200; i++)
		fprintf(f, "#%01000d\n", i);
	fclose(f);
	bad(in_file(": the settings file is larger than 1 MiB"), "--config-file",
		file);
	if (geteuid() != 0)
	{
		write_file("");
		chmod(file, 0);
		bad(in_file(": cannot read the settings file: Permission denied"),
			"--config-file", file);
		unlink(file);
	}
}

/* claviger.conf in the data directory is taken if it is there */
static void
test_file_in_data_dir(void **state)
{
	write_file("max_txn_ops = 77;\nname = \"other\";\n");
	good("--data-dir", dir, NULL);
	assert_int_equal(guc_max_txn_ops, 77);
	assert_string_equal(guc_data_dir, dir);
	assert_string_equal(guc_name, "other");
	write_file("data_dir = \"/elsewhere\";\n");
	bad(in_file(":1: setting \"data_dir\" cannot stand in a file that was "
				"found in the data directory"), "--data-dir", dir);
	/* named, it may */
	good("--config-file", file, NULL);
	assert_string_equal(guc_data_dir, "/elsewhere");
	unlink(file);
	good("--data-dir", dir, NULL);
}

/* ---- later changes ---- */

static void
test_reload(void **state)
{
	const char *held;

	write_file("max_concurrent_streams = 5; max_connections = 50;"
			   "cipher_suites = \"A\"; log_level = \"info\";\n");
	good("--config-file", file, "--handshake-timeout=900", "--pre-vote", NULL);
	assert_int_equal(guc_max_concurrent_streams, 5);
	held = guc_cipher_suites;

	write_file("max_concurrent_streams = 6; max_connections = 60;"
			   "cipher_suites = \"B\"; handshake_timeout = 800;"
			   "log_level = \"error\"; name = \"late\";\n");
	assert_int_equal(ftruncate(log_fd, 0), 0);
	assert_true(guc_reload(error, sizeof(error)));
	assert_string_equal(error, "");
	assert_int_equal(guc_max_concurrent_streams, 6);
	assert_string_equal(guc_cipher_suites, "B");
	assert_string_equal(held, "A");
	assert_string_equal(guc_log_level, "error");
	assert_int_equal(elog_level(), LOG_LEVEL_ERROR);
	/* the command line is stronger, and only a start changes these */
	assert_int_equal(guc_handshake_timeout, 900);
	assert_int_equal(guc_max_connections, 50);
	assert_string_equal(guc_name, "default");
	assert_string_equal(guc_data_dir, "default.claviger");
	assert_true(log_has("setting \"max_connections\" cannot change while the "
						"server runs; HINT: Restart the server to bring it "
						"into force."));
	assert_true(log_has("setting \"name\" cannot change while"));
	assert_true(log_has("setting \"max_concurrent_streams\" changed"));
	assert_false(log_has("accepted and ignored"));

	/* a mistake changes nothing, also not what stands before it */
	write_file("max_concurrent_streams = 7;\ntls_min_version = \"SSL3\";\n");
	assert_false(guc_reload(error, sizeof(error)));
	assert_string_equal(error, in_file(":2: setting \"tls_min_version\": must "
									   "be TLS1.2 or TLS1.3, not \"SSL3\""));
	assert_int_equal(guc_max_concurrent_streams, 6);

	/* what is taken out of the file goes back to its default */
	write_file("");
	assert_true(guc_reload(error, sizeof(error)));
	assert_int_equal(guc_max_concurrent_streams, 1000);
	assert_string_equal(guc_cipher_suites, "");
	elog_set_level(LOG_LEVEL_INFO);

	unlink(file);
	assert_false(guc_reload(error, sizeof(error)));
}

static void
test_set(void **state)
{
	guc_init_defaults();
	assert_true(guc_set("max-txn-ops", "9", error, sizeof(error)));
	assert_int_equal(guc_max_txn_ops, 9);
	assert_true(guc_set("cert_file", "/only/one", error, sizeof(error)));
	assert_string_equal(guc_cert_file, "/only/one");
	assert_false(guc_set("max_txn_ops", "0", error, sizeof(error)));
	assert_int_equal(guc_max_txn_ops, 9);
	assert_false(guc_set("nothing", "0", error, sizeof(error)));
	assert_string_equal(error, "unknown setting \"nothing\"");
	assert_false(guc_set("wal_dir", "0", error, sizeof(error)));
	assert_string_equal(error, "setting \"wal_dir\" is accepted and ignored");
	guc_init_defaults();
	assert_int_equal(guc_max_txn_ops, 128);
	assert_string_equal(guc_cert_file, "");
}

static void
test_effective(void **state)
{
	good("--quota-backend-bytes=0", NULL);
	assert_true(guc_effective_quota() == INT64_C(2) << 30);
	assert_true(guc_effective_shared_memory() == INT64_C(16) << 30);
	good("--quota-backend-bytes=-1", NULL);
	assert_true(guc_effective_quota() == INT64_MAX);
	assert_true(guc_effective_shared_memory() > INT64_C(8) << 30);
	good("--quota-backend-bytes=9223372036854775807",
		 "--auth-hash-slots=3", NULL);
	assert_true(guc_effective_shared_memory() > 0);
	assert_int_equal(guc_effective_hash_slots(), 3);
	good("--shared-memory-size=1GiB", NULL);
	assert_true(guc_effective_shared_memory() == INT64_C(1) << 30);
	assert_true(guc_effective_hash_slots() >= 1);
}

/* ---- what is printed ---- */

/* every line of the sample is a setting with its default */
static void
test_sample(void **state)
{
	FILE	   *f = fopen(file, "w+");
	char		text[65536];
	size_t		n;
	int			nsettings = 0;

	guc_print_sample(f);
	rewind(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	f = fopen(file, "w");
	for (char *line = strtok(text, "\n"); line != NULL;
		 line = strtok(NULL, "\n"))
	{
		bool		is_setting = line[0] == '#' && line[1] != ' ' &&
			line[1] != '\0';

		nsettings += is_setting;
		fprintf(f, "%s\n", line + is_setting);
	}
	fclose(f);
	assert_true(nsettings > 40);
	good("--config-file", file, NULL);
#define GUC_STRING(name, def, when, text_) \
	if (strcmp(#name, "data_dir") != 0 && strcmp(#name, "config_file") != 0) \
		assert_string_equal(guc_##name, def);
#define GUC_INT(name, def, min, max, unit, when, text_) \
	assert_true(guc_##name == def);
#define GUC_BOOL(name, def, when, text_) assert_true(guc_##name == def);
#include "utils/guclist.h"
#undef GUC_STRING
#undef GUC_INT
#undef GUC_BOOL
	unlink(file);
}

static void
test_prints(void **state)
{
	char	   *text;
	size_t		size;
	FILE	   *f = open_memstream(&text, &size);

	guc_print_help(f);
	fflush(f);
	assert_non_null(strstr(text, "\nMember:\n  --name 'default'\n"));
	assert_non_null(strstr(text, "  --heartbeat-interval '100' ms\n"));
	assert_null(strstr(text, "--wal-dir"));
	fclose(f);
	free(text);

	f = open_memstream(&text, &size);
	guc_print_manual(f);
	fflush(f);
	assert_non_null(strstr(text, "| `--heartbeat-interval` | `100` | "
						   "ms, 1 to 50000 | start |"));
	assert_non_null(strstr(text, "| `--wal-dir` | The raft log lies"));
	assert_non_null(strstr(text, "| `--log-output` | same as `log_outputs` |"));
	fclose(f);
	free(text);

	f = open_memstream(&text, &size);
	guc_print_version(f);
	fclose(f);
	assert_string_equal(text, "claviger " CLAVIGER_VERSION "\netcd API "
						ETCD_API_VERSION "\n");
	free(text);
}

static int
setup(void **state)
{
	extern char **environ;

	/* nothing of the caller's environment may count */
	for (char **var = environ; *var != NULL;)
	{
		if (strncmp(*var, "ETCD_", 5) == 0 ||
			strncmp(*var, "CLAVIGER_", 9) == 0)
		{
			char	   *name = strndup(*var, strcspn(*var, "="));

			unsetenv(name);
			free(name);
		}
		else
			var++;
	}
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(file, sizeof(file), "%s/claviger.conf", dir);
	snprintf(pem, sizeof(pem), "%s/some.pem", dir);
	close(open(pem, O_CREAT | O_WRONLY, 0600));
	log_fd = memfd_create("log", MFD_CLOEXEC);
	/* ftruncate() empties it */
	fcntl(log_fd, F_SETFL, O_APPEND);
	elog_set_fd(log_fd);
	return 0;
}

static int
teardown(void **state)
{
	guc_init_defaults();
	unlink(file);
	unlink(pem);
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_spellings),
		cmocka_unit_test(test_bools),
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_flag_mistakes),
		cmocka_unit_test(test_strength),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_every_etcd_flag),
		cmocka_unit_test(test_dangerous_flags_are_refused),
		cmocka_unit_test(test_compaction),
		cmocka_unit_test(test_units),
		cmocka_unit_test(test_bad_numbers),
		cmocka_unit_test(test_urls),
		cmocka_unit_test(test_choices),
		cmocka_unit_test(test_together),
		cmocka_unit_test(test_initial_cluster),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_file_errors),
		cmocka_unit_test(test_file_unreadable),
		cmocka_unit_test(test_file_in_data_dir),
		cmocka_unit_test(test_reload),
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_effective),
		cmocka_unit_test(test_sample),
		cmocka_unit_test(test_prints),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
