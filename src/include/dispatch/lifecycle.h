/*
 * lifecycle.h
 *	  How a request moves from state to state: for dispatch's own files.
 */
#ifndef DISPATCH_LIFECYCLE_H
#define DISPATCH_LIFECYCLE_H

#include "dispatch/request.h"

/* Go to the next state; asserts that the transition exists. */
extern void request_move(Request *req, ReqState next);

/*
 * Take what a handler or continuation returned; unless PENDING the request is
 * answered, and may be gone when this returns.
 */
extern void request_settle(Request *req, ReqResult result);

#endif							/* DISPATCH_LIFECYCLE_H */
