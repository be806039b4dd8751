/*
 * timer.h
 *	  Requests that go on at a moment: for dispatch's own files.
 */
#ifndef DISPATCH_TIMER_H
#define DISPATCH_TIMER_H

#include <stdbool.h>
#include <stdint.h>

#include "dispatch/request.h"

extern void timer_init(void);

/* in place of what was set before; at the client's deadline at the latest */
extern void timer_set(Request *req, int64_t at_ms, ReqTimerFn on_timer);
extern bool timer_has(const Request *req);

/* harmless if there is none */
extern void timer_forget(Request *req);
extern uint32_t timer_count(void);

/* the earliest moment; -1: none */
extern int64_t timer_next_ms(void);

/* call those whose moment has come; see request_wait_until() */
extern void timer_run(int64_t now_ms);

#endif							/* DISPATCH_TIMER_H */
