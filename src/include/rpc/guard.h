/*
 * guard.h
 *	  How much of what costs us and carries no request a client may send.
 *
 * One token bucket for each kind of frame, refilled by time and, where honest
 * clients answer our frames with theirs, by what we send; and gRPC's ping
 * strikes (etcd-v3-wire.md section 8).  No clock and no I/O in here.
 */
#ifndef RPC_GUARD_H
#define RPC_GUARD_H

#include <stdbool.h>
#include <stdint.h>

typedef enum GuardKind
{
	GUARD_RESET,				/* RST_STREAM: "rapid reset" */
	GUARD_SETTINGS,
	GUARD_PING,
	GUARD_WINDOW_UPDATE,
	GUARD_EMPTY,				/* DATA or HEADERS that carry nothing */
	GUARD_OTHER,				/* PRIORITY and the like */
	GUARD_KINDS
} GuardKind;

typedef struct Guard
{
	int64_t		refilled_ms;
	int64_t		tokens[GUARD_KINDS];
	/* ping strikes */
	int64_t		last_ping_ms;
	int			strikes;
	bool		has_ping;
	bool		has_sent;		/* HEADERS or DATA since the last ping */
} Guard;

extern void guard_init(Guard *guard, int64_t now_ms);
/* false: a flood */
extern bool guard_count(Guard *guard, GuardKind kind, int64_t now_ms);
extern const char *guard_kind_name(GuardKind kind);
/* we sent HEADERS or DATA */
extern void guard_sent(Guard *guard);

/* false: too_many_pings */
extern bool guard_ping(Guard *guard, int64_t now_ms, bool has_streams,
					   int64_t min_interval_ms);

#endif							/* RPC_GUARD_H */
