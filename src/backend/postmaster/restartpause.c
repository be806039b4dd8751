/*
 * restartpause.c
 *	  How long to wait before the raft worker is started again.
 *
 * Not at all after one that has served well, which is twice as long as the
 * longest pause: whatever ended it is no more likely to happen at once than
 * before.  Else the second time in a row 100 ms, then twice as long each time:
 * a disk that is full ends each new worker with the first request.
 */
#include "server.h"

/* this layer and below */
#include "postmaster/restartpause.h"

#define PAUSE_MIN_MS 100

static int64_t next_pause(int64_t pause_ms, int64_t longest_ms);

void
restartpause_ready(RestartPause *pause, int64_t now_ms)
{
	pause->ready_ms = now_ms;
}

int64_t
restartpause_died(RestartPause *pause, int64_t now_ms, int64_t longest_ms)
{
	bool		was_well = now_ms - pause->ready_ms >= 2 * longest_ms;
	int64_t		pause_ms = was_well ? 0 : pause->pause_ms;

	/* the next one in a row has this one to go by */
	pause->pause_ms = next_pause(pause_ms, longest_ms);
	return pause_ms;
}

static int64_t
next_pause(int64_t pause_ms, int64_t longest_ms)
{
	int64_t		next_ms = pause_ms == 0 ? PAUSE_MIN_MS : pause_ms * 2;

	return next_ms < longest_ms ? next_ms : longest_ms;
}
