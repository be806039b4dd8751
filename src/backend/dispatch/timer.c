/*
 * timer.c
 *	  Requests that go on at a moment, or with the next turn of the loop.
 *
 * For what takes long and must not hold up the other requests of the
 * connection (a slice of it each turn), and for what waits for something that
 * nobody tells of.  They are few, so they stand in a list that is walked.
 *
 * A request that is put in while others are called has its turn the next time,
 * else one that always goes on at once would keep the loop for itself.
 */
#include "server.h"

/* lib and utils */
#include "utils/clock.h"

/* this layer and below */
#include "dispatch/dispatch.h"
#include "dispatch/lifecycle.h"
#include "dispatch/timer.h"

static Request *first_timer;
static uint32_t ntimers;
static uint64_t turn;

static Request *timer_find_due(int64_t now_ms);

void
timer_init(void)
{
	first_timer = NULL;
	ntimers = 0;
}

void
timer_set(Request *req, int64_t at_ms, ReqTimerFn on_timer)
{
	ReqTimer   *timer = &req->timer;

	timer_forget(req);
	/* who waits no longer is told so at once */
	if (req->deadline_ms > 0 && req->deadline_ms < at_ms)
		at_ms = req->deadline_ms;
	timer->at_ms = at_ms;
	timer->turn = turn;
	timer->on_timer = on_timer;
	timer->prev = NULL;
	timer->next = first_timer;
	if (first_timer != NULL)
		first_timer->timer.prev = req;
	first_timer = req;
	ntimers++;
}

bool
timer_has(const Request *req)
{
	return req->timer.on_timer != NULL;
}

void
timer_forget(Request *req)
{
	ReqTimer   *timer = &req->timer;

	if (!timer_has(req))
		return;
	timer->on_timer = NULL;
	if (timer->prev != NULL)
		timer->prev->timer.next = timer->next;
	else
		first_timer = timer->next;
	if (timer->next != NULL)
		timer->next->timer.prev = timer->prev;
	ntimers--;
}

uint32_t
timer_count(void)
{
	return ntimers;
}

int64_t
timer_next_ms(void)
{
	int64_t		next = -1;

	for (Request *req = first_timer; req != NULL; req = req->timer.next)
	{
		if (next < 0 || req->timer.at_ms < next)
			next = req->timer.at_ms;
	}
	return next;
}

void
timer_run(int64_t now_ms)
{
	Request    *req;

	turn++;
	while ((req = timer_find_due(now_ms)) != NULL)
	{
		ReqTimerFn	on_timer = req->timer.on_timer;

		timer_forget(req);
		if (req->deadline_ms > 0 && req->deadline_ms <= now_ms)
			request_settle(req, request_fail(req, ERR_DEADLINE_EXCEEDED));
		else
			request_settle(req, on_timer(req));
	}
}

/* looked for anew each time: what is called may end other requests */
static Request *
timer_find_due(int64_t now_ms)
{
	for (Request *req = first_timer; req != NULL; req = req->timer.next)
	{
		if (req->timer.at_ms <= now_ms && req->timer.turn < turn)
			return req;
	}
	return NULL;
}
