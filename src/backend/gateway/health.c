/*
 * health.c
 *	  /health, /livez, /readyz: can this member do its work?
 *
 * etcd-v3-wire.md section 10.  Nothing is taken for granted: the linearizable
 * read goes through the raft worker's queue even where reads are answered
 * locally, so that a worker that hangs shows; it must come back within
 * READ_TIMEOUT_MS.  Open to everybody: what comes back says nothing about the
 * data, and the request asks as nobody.
 */
#include "server.h"

/* libraries */
#include "health.pb-c.h"

/* lib and utils */
#include "utils/clock.h"

/* this layer and below */
#include "alarm/alarm.h"
#include "command/command.h"
#include "dispatch/dispatch.h"
#include "dispatch/status.h"
#include "gateway/exchange.h"
#include "gateway/json.h"
#include "storage/ipc/control.h"

/* probes give up after 5 to 10 seconds themselves */
#define READ_TIMEOUT_MS 5000

typedef enum HealthPage
{
	PAGE_HEALTH,
	PAGE_LIVEZ,
	PAGE_READYZ,
	PAGES
} HealthPage;

typedef enum HealthCheck
{
	CHECK_DATA_CORRUPTION,
	CHECK_SERIALIZABLE_READ,
	CHECK_LINEARIZABLE_READ,
	CHECK_NON_LEARNER,
	CHECKS
} HealthCheck;

#define BIT(check) (1u << (check))

static const char *const page_paths[PAGES] = {"/health", "/livez", "/readyz"};

static const char *const check_names[CHECKS] = {
	"data_corruption", "serializable_read", "linearizable_read", "non_learner"
};

static const unsigned page_checks[PAGES] = {
	[PAGE_LIVEZ] = BIT(CHECK_SERIALIZABLE_READ),
	[PAGE_READYZ] = BIT(CHECKS) - 1,
};

struct HealthRun
{
	HttpExchange *x;
	HealthPage	page;
	unsigned	checks;			/* those to be done */
	const char *failures[CHECKS];	/* NULL: passed */
	Request    *req;			/* the read under way */
};

/* no client can call it: it is in no table */
static const RpcInfo read_rpc = {
	.id = RPC_NONE,
	.service = "claviger.Health",
	.method = "HealthRead",
	.kind = RPC_UNARY,
	.flags = RPC_FLAG_NO_HEADER,
	.request = &grpc__health__v1__health_check_request__descriptor,
	.response = &grpc__health__v1__health_check_response__descriptor,
	.handler = command_health_read,
};

static void read_finished(Request *req);

static const RequestOps read_ops = {.finished = read_finished};

static bool find_page(Bytes path, HealthPage *page, Bytes *check);
static void run_health(HealthRun *run);
static void run_checks(HealthRun *run, Bytes only);
static unsigned wanted_checks(const HealthRun *run, Bytes only);
static bool is_excluded(const HttpExchange *x, const char *name);
static bool has_alarm(AlarmType type);
static const char *read_locally(void);
static void read_linearizably(HealthRun *run);
static void answer_health(HealthRun *run, const char *reason);
static void answer_checks(HealthRun *run);

bool
health_is_path(Bytes path)
{
	HealthPage	page;
	Bytes		check;

	return find_page(path, &page, &check);
}

void
health_start(HttpExchange *x)
{
	HealthRun  *run;
	Bytes		only;

	if (!exchange_is_get(x))
		return;
	run = mcx_alloc0(x->mcx, sizeof(*run));
	run->x = x;
	x->health = run;
	(void) find_page(x->path, &run->page, &only);
	if (run->page == PAGE_HEALTH)
		run_health(run);
	else
		run_checks(run, only);
}

void
health_destroy(HealthRun *run)
{
	Request    *req = run->req;

	run->req = NULL;
	if (req != NULL)
		dispatch_cancel(req);
}

/* "/readyz" with all its checks, or "/readyz/serializable_read" with one */
static bool
find_page(Bytes path, HealthPage *page, Bytes *check)
{
	*check = BYTES_EMPTY;
	for (int i = 0; i < PAGES; i++)
	{
		size_t		n = strlen(page_paths[i]);

		if (path.len < n || memcmp(path.data, page_paths[i], n) != 0)
			continue;
		*page = (HealthPage) i;
		if (path.len == n)
			return true;
		if (path.data[n] != '/' || i == PAGE_HEALTH)
			return false;
		*check = bytes_make(path.data + n + 1, path.len - n - 1);
		for (int c = 0; c < CHECKS; c++)
			if ((page_checks[i] & BIT(c)) &&
				bytes_equal_cstr(*check, check_names[c]))
				return true;
		return false;
	}
	return false;
}

/* ---- /health: alarms, leader, a read; the first that fails is told ---- */

static void
run_health(HealthRun *run)
{
	HttpExchange *x = run->x;
	const char *reason = NULL;
	bool		is_local = false;
	size_t		at = 0;
	Bytes		value;

	if (has_alarm(ALARM_NO_SPACE) && !is_excluded(x, "NOSPACE"))
		reason = "ALARM NOSPACE";
	else if (has_alarm(ALARM_CORRUPT) && !is_excluded(x, "CORRUPT"))
		reason = "ALARM CORRUPT";
	while (exchange_query_next(x, "serializable", &at, &value))
		is_local |= bytes_equal_cstr(value, "true");
	if (reason == NULL && !is_local &&
		atomic_load(&store_raft_status()->leader_id) == 0)
		reason = "RAFT NO LEADER";
	if (reason == NULL && is_local)
	{
		const char *failure = read_locally();

		if (failure != NULL)
			reason = mcx_printf(x->mcx, "RANGE ERROR:%s", failure);
	}
	if (reason == NULL && !is_local)
	{
		run->checks = BIT(CHECK_LINEARIZABLE_READ);
		read_linearizably(run);
	}
	else
		answer_health(run, reason);
}

static void
answer_health(HealthRun *run, const char *reason)
{
	HttpExchange *x = run->x;
	Buf			out;

	counter_add(reason == NULL ? COUNTER_HEALTH_SUCCESS :
				COUNTER_HEALTH_FAILURES, 1);
	buf_init(&out, x->mcx);
	buf_printf(&out, "{\"health\":\"%s\",\"reason\":",
			   reason == NULL ? "true" : "false");
	json_put_string(&out, bytes_from_cstr(reason == NULL ? "" : reason));
	buf_printf(&out, reason == NULL ? "}" : "}\n");
	exchange_answer(x, reason == NULL ? 200 : 503,
					reason == NULL ? CONTENT_JSON : CONTENT_TEXT,
					buf_bytes(&out));
}

/* ---- /livez and /readyz: each check by itself ---- */

static void
run_checks(HealthRun *run, Bytes only)
{
	const RaftStatus *status = store_raft_status();

	run->checks = wanted_checks(run, only);
	if (run->checks & BIT(CHECK_DATA_CORRUPTION) &&
		has_alarm(ALARM_CORRUPT))
		run->failures[CHECK_DATA_CORRUPTION] = "alarm activated: CORRUPT";
	if (run->checks & BIT(CHECK_SERIALIZABLE_READ))
		run->failures[CHECK_SERIALIZABLE_READ] = read_locally();
	if (run->checks & BIT(CHECK_NON_LEARNER) &&
		atomic_load(&status->is_learner))
		run->failures[CHECK_NON_LEARNER] = "not supported for learner";
	if (run->checks & BIT(CHECK_LINEARIZABLE_READ))
		read_linearizably(run);
	else
		answer_checks(run);
}

static unsigned
wanted_checks(const HealthRun *run, Bytes only)
{
	unsigned	checks = 0;

	for (int c = 0; c < CHECKS; c++)
		if ((page_checks[run->page] & BIT(c)) &&
			(only.len == 0 || bytes_equal_cstr(only, check_names[c])) &&
			!is_excluded(run->x, check_names[c]))
			checks |= BIT(c);
	return checks;
}

static void
answer_checks(HealthRun *run)
{
	HttpExchange *x = run->x;
	bool		has_failed = false;
	bool		is_verbose = exchange_query_has(x, "verbose");
	Buf			out;

	for (int c = 0; c < CHECKS; c++)
		has_failed |= run->failures[c] != NULL;
	buf_init(&out, x->mcx);
	for (int c = 0; c < CHECKS && (has_failed || is_verbose); c++)
	{
		if (!(run->checks & BIT(c)))
			continue;
		if (run->failures[c] == NULL)
			buf_printf(&out, "[+]%s ok\n", check_names[c]);
		else
			buf_printf(&out, "[-]%s failed: %s\n", check_names[c],
					   run->failures[c]);
	}
	if (!has_failed)
		buf_printf(&out, "ok\n");
	exchange_add_field(x, "x-content-type-options", BYTES_LITERAL("nosniff"));
	exchange_answer(x, has_failed ? 503 : 200, CONTENT_TEXT, buf_bytes(&out));
}

static bool
is_excluded(const HttpExchange *x, const char *name)
{
	size_t		at = 0;
	Bytes		value;

	while (exchange_query_next(x, "exclude", &at, &value))
		if (bytes_equal_cstr(value, name))
			return true;
	return false;
}

/* ---- looking ---- */

static bool
has_alarm(AlarmType type)
{
	bool		is_on = alarm_is_on(store_pin(), type);

	store_unpin();
	return is_on;
}

/* Can a version be pinned, and is it one that was loaded?  NULL: yes. */
static const char *
read_locally(void)
{
	if (!atomic_load(&store_raft_status()->is_ready))
		return "the store is not loaded";
	(void) store_pin();
	store_unpin();
	return NULL;
}

static void
read_linearizably(HealthRun *run)
{
	Request    *req = request_create(run->x->carrier->mcx, &read_rpc,
									 &read_ops, run);

	req->deadline_ms = clock_monotonic_ms() + READ_TIMEOUT_MS;
	run->req = req;
	dispatch_request(req, BYTES_EMPTY);
}

static void
read_finished(Request *req)
{
	HealthRun  *run = req->door;
	const char *failure = NULL;

	run->req = NULL;
	if (req->error != ERR_NONE)
		failure = mcx_strdup(run->x->mcx, status_of_request(req).text);
	request_destroy(req);
	run->failures[CHECK_LINEARIZABLE_READ] = failure;
	if (run->page != PAGE_HEALTH)
		answer_checks(run);
	else
		answer_health(run, failure == NULL ? NULL :
					  mcx_printf(run->x->mcx, "RANGE ERROR:%s", failure));
}
