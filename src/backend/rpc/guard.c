/*
 * guard.c
 *	  How much of what costs us and carries no request a client may send.
 *
 * An honest client sends a window update or a bandwidth ping (gRPC clients
 * measure with them) for about every frame it gets, and may cancel what it
 * asked for; so these are earned by our own frames.  The rest is rare at all
 * times.
 */
#include "server.h"

/* this layer and below */
#include "rpc/guard.h"

#define MAX_STRIKES 2
/* without streams a client has no reason to ping at all */
#define IDLE_PING_INTERVAL_MS (2 * 3600 * 1000)

typedef struct GuardRule
{
	const char *name;
	int64_t		burst;
	int64_t		per_second;
	int64_t		per_sent;		/* for each frame of ours */
} GuardRule;

static const GuardRule rules[GUARD_KINDS] = {
	/* when the server stalls, a client gives up all its requests each second */
	[GUARD_RESET] = {"RST_STREAM", 4000, 1000, 1},
	[GUARD_SETTINGS] = {"SETTINGS", 100, 5, 0},
	[GUARD_PING] = {"PING", 500, 10, 2},
	[GUARD_WINDOW_UPDATE] = {"WINDOW_UPDATE", 5000, 100, 4},
	[GUARD_EMPTY] = {"empty", 200, 20, 1},
	[GUARD_OTHER] = {"PRIORITY", 500, 20, 1},
};

static void refill(Guard *guard, int64_t now_ms);

void
guard_init(Guard *guard, int64_t now_ms)
{
	*guard = (Guard) {.refilled_ms = now_ms};
	for (int i = 0; i < GUARD_KINDS; i++)
		guard->tokens[i] = rules[i].burst;
}

bool
guard_count(Guard *guard, GuardKind kind, int64_t now_ms)
{
	if (guard->tokens[kind] <= 0)
		refill(guard, now_ms);
	if (guard->tokens[kind] <= 0)
		return false;
	guard->tokens[kind]--;
	return true;
}

const char *
guard_kind_name(GuardKind kind)
{
	return rules[kind].name;
}

void
guard_sent(Guard *guard)
{
	guard->has_sent = true;
	for (int i = 0; i < GUARD_KINDS; i++)
		if (guard->tokens[i] < rules[i].burst)
			guard->tokens[i] += rules[i].per_sent;
}

/*
 * As gRPC servers count: a ping after frames of ours clears the strikes; one
 * that comes too soon after the ping before is a strike.
 */
bool
guard_ping(Guard *guard, int64_t now_ms, bool has_streams,
		   int64_t min_interval_ms)
{
	int64_t		interval_ms = has_streams ? min_interval_ms :
		IDLE_PING_INTERVAL_MS;
	bool		is_early = guard->has_ping &&
		now_ms - guard->last_ping_ms < interval_ms;

	guard->has_ping = true;
	guard->last_ping_ms = now_ms;
	if (guard->has_sent)
	{
		guard->has_sent = false;
		guard->strikes = 0;
		return true;
	}
	if (is_early)
		guard->strikes++;
	return guard->strikes <= MAX_STRIKES;
}

/* by time; done only when a bucket is empty, so that it costs nothing else */
static void
refill(Guard *guard, int64_t now_ms)
{
	int64_t		elapsed_ms = now_ms - guard->refilled_ms;

	/* whole seconds, so that no rounding is lost */
	elapsed_ms -= elapsed_ms % 1000;
	if (elapsed_ms <= 0)
		return;
	guard->refilled_ms += elapsed_ms;
	for (int i = 0; i < GUARD_KINDS; i++)
	{
		int64_t		tokens = guard->tokens[i] +
			rules[i].per_second * (elapsed_ms / 1000);

		guard->tokens[i] = tokens < rules[i].burst ? tokens : rules[i].burst;
	}
}
