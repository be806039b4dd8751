/*
 * exchange.h
 *	  One HTTP request and its answer, as the files of gateway/ see it.
 *
 * exchange.c decides what is asked for; call.c, health.c and metrics.c answer,
 * with exchange_answer() in one piece or exchange_begin() and what follows.
 */
#ifndef GATEWAY_EXCHANGE_H
#define GATEWAY_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm/http.h"
#include "dispatch/request.h"
#include "lib/buf.h"

#define EXCHANGE_MAX_FIELDS 12

#define CONTENT_JSON "application/json"
#define CONTENT_TEXT "text/plain; charset=utf-8"

typedef struct GatewayCall GatewayCall;
typedef struct HealthRun HealthRun;

struct HttpExchange
{
	MemContext *mcx;			/* of the exchange; not of its Request */
	HttpCarrier *carrier;
	const HttpHead *head;
	Bytes		path;			/* "/v3beta/" has become "/v3/" */
	Bytes		query;			/* behind the '?' */
	/* of the answer, besides Content-Type */
	HttpField	fields[EXCHANGE_MAX_FIELDS];
	uint32_t	nfields;
	bool		has_begun;
	bool		is_answered;
	/* one of them, or none */
	GatewayCall *call;
	HealthRun  *health;
};

/* what the carriers are given */
extern const HttpHandlerOps gateway_handler;

/* once per backend that serves HTTP */
extern void gateway_init(void);

/* ---- for the files of gateway/ ---- */

/* value is copied */
extern void exchange_add_field(HttpExchange *x, const char *name, Bytes value);
extern void exchange_answer(HttpExchange *x, int status,
							const char *content_type, Bytes body);
/* an answer whose length is not known; then carrier->ops->write and end */
extern void exchange_begin(HttpExchange *x, int status,
						   const char *content_type);
/* or, if the head says is_websocket: messages, each with exchange_write() */
extern void exchange_begin_websocket(HttpExchange *x);
extern void exchange_write(HttpExchange *x, Bytes data);
extern void exchange_end(HttpExchange *x);
extern bool exchange_is_get(HttpExchange *x);	/* else answers 405 */

/*
 * The values of a query parameter, one after the other: *at is 0 at first.
 * Percent signs are left as they are.
 */
extern bool exchange_query_next(const HttpExchange *x, const char *name,
								size_t *at, Bytes *value);
extern bool exchange_query_has(const HttpExchange *x, const char *name);

/* ---- call.c: an RPC in JSON ---- */

extern void call_start(HttpExchange *x, const RpcInfo *rpc);
extern bool call_wants_body(const GatewayCall *call);
extern void call_body(GatewayCall *call, Bytes data);
extern void call_end_of_body(GatewayCall *call);
extern void call_turn(GatewayCall *call);
extern void call_stop(GatewayCall *call);
extern int64_t call_next_timer_ms(const GatewayCall *call);
extern void call_on_timer(GatewayCall *call, int64_t now_ms);
extern size_t call_held_bytes(const GatewayCall *call);
extern void call_destroy(GatewayCall *call);
/* the error body of an answer that is none: {"error":...,"code":...} */
extern void call_answer_error(HttpExchange *x, int http_status, int code,
							  const char *text);

/* ---- health.c ---- */

extern bool health_is_path(Bytes path);
extern void health_start(HttpExchange *x);
extern void health_destroy(HealthRun *run);

#endif							/* GATEWAY_EXCHANGE_H */
