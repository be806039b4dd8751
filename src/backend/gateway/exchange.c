/*
 * exchange.c
 *	  What an HTTP request asks for, and who answers it.
 *
 *	/v3/...              an RPC in JSON (call.c), if enable_grpc_gateway
 *	/health /livez ...   health.c
 *	/metrics             metrics.c
 *	/version             here
 *	everything else      404
 *
 * Before that, as in etcd (etcd-v3-wire.md 9.7): without TLS the Host must be
 * in host_whitelist, so that no web page can talk to us under a name of its
 * own (DNS rebinding); browsers are told by CORS fields whom cors allows.
 *
 * A gateway of our own process needs no certificate of its own, so a client's
 * common name counts here as it does for gRPC (etcd refuses such requests).
 */
#include "server.h"

/* lib and utils */
#include "utils/elog.h"
#include "utils/guc.h"

/* this layer and below */
#include "dispatch/dispatch.h"
#include "dispatch/status.h"
#include "gateway/exchange.h"
#include "gateway/json.h"
#include "gateway/metrics.h"
#include "storage/ipc/control.h"

#define OLD_PREFIX "/v3beta/"
#define METRICS_CONTENT "text/plain; version=0.0.4; charset=utf-8"

static const struct
{
	const char *path;
	RpcId		rpc;
} routes[] = {
#define ROUTE(path, rpc) {path, rpc},
#include "gateway/routelist.h"
#undef ROUTE
};

static HttpExchange *exchange_create(HttpCarrier *carrier,
									 const HttpHead *head);
static void exchange_start(HttpExchange *x);
static void exchange_body(HttpExchange *x, Bytes data);
static void exchange_end_of_body(HttpExchange *x);
static bool exchange_wants_body(const HttpExchange *x);
static void exchange_turn(HttpExchange *x);
static void exchange_stop(HttpExchange *x);
static int64_t exchange_next_timer_ms(const HttpExchange *x);
static void exchange_on_timer(HttpExchange *x, int64_t now_ms);
static size_t exchange_held_bytes(const HttpExchange *x);
static void exchange_destroy(HttpExchange *x);

const HttpHandlerOps gateway_handler = {
	.create = exchange_create,
	.start = exchange_start,
	.body = exchange_body,
	.end_of_body = exchange_end_of_body,
	.wants_body = exchange_wants_body,
	.turn = exchange_turn,
	.stop = exchange_stop,
	.next_timer_ms = exchange_next_timer_ms,
	.on_timer = exchange_on_timer,
	.held_bytes = exchange_held_bytes,
	.destroy = exchange_destroy,
};

static void split_target(HttpExchange *x);
static bool check_host(HttpExchange *x);
static void add_cors_fields(HttpExchange *x);
static bool is_of_foreign_page(const HttpExchange *x);
static void route(HttpExchange *x);
static void route_call(HttpExchange *x);
static const RpcInfo *find_route(Bytes path);
static void answer_version(HttpExchange *x);
static void answer_metrics(HttpExchange *x);
static void answer_not_found(HttpExchange *x);
static Bytes find_field(const HttpHead *head, const char *name);
static bool list_has(const char *list, Bytes word);
static Bytes host_name(Bytes host);
static bool begins_with(Bytes text, const char *prefix);

void
gateway_init(void)
{
	json_init();
}

/* ---- for the files of gateway/ ---- */

void
exchange_add_field(HttpExchange *x, const char *name, Bytes value)
{
	Assert(x->nfields < EXCHANGE_MAX_FIELDS);
	x->fields[x->nfields++] = (HttpField) {
		bytes_from_cstr(name), mcx_bytes_dup(x->mcx, value)
	};
}

void
exchange_answer(HttpExchange *x, int status, const char *content_type,
				Bytes body)
{
	HttpCarrier *carrier = x->carrier;

	Assert(!x->has_begun);
	x->has_begun = true;
	if (content_type != NULL)
		exchange_add_field(x, "content-type", bytes_from_cstr(content_type));
	carrier->ops->respond(carrier, status, x->fields, x->nfields,
						  (int64_t) body.len);
	carrier->ops->write(carrier, body);
	exchange_end(x);
}

void
exchange_begin(HttpExchange *x, int status, const char *content_type)
{
	Assert(!x->has_begun);
	x->has_begun = true;
	exchange_add_field(x, "content-type", bytes_from_cstr(content_type));
	x->carrier->ops->respond(x->carrier, status, x->fields, x->nfields, -1);
}

void
exchange_begin_websocket(HttpExchange *x)
{
	Assert(!x->has_begun && x->head->is_websocket);
	x->has_begun = true;
	x->carrier->ops->respond(x->carrier, 101, NULL, 0, -1);
}

void
exchange_write(HttpExchange *x, Bytes data)
{
	Assert(x->has_begun && !x->is_answered);
	x->carrier->ops->write(x->carrier, data);
}

void
exchange_end(HttpExchange *x)
{
	Assert(x->has_begun && !x->is_answered);
	x->is_answered = true;
	x->carrier->ops->end(x->carrier);
}

bool
exchange_is_get(HttpExchange *x)
{
	if (bytes_equal_cstr(x->head->method, "GET"))
		return true;
	exchange_add_field(x, "allow", BYTES_LITERAL("GET"));
	exchange_answer(x, 405, CONTENT_TEXT, BYTES_LITERAL("Method Not Allowed\n"));
	return false;
}

bool
exchange_query_next(const HttpExchange *x, const char *name, size_t *at,
					Bytes *value)
{
	size_t		name_len = strlen(name);

	while (*at < x->query.len)
	{
		const uint8_t *start = x->query.data + *at;
		const uint8_t *end = memchr(start, '&', x->query.len - *at);
		Bytes		pair = bytes_make(start, end == NULL ? x->query.len - *at :
									  (size_t) (end - start));

		*at += pair.len + 1;
		if (pair.len < name_len || memcmp(pair.data, name, name_len) != 0)
			continue;
		if (pair.len == name_len)
			*value = BYTES_EMPTY;
		else if (pair.data[name_len] == '=')
			*value = bytes_make(pair.data + name_len + 1,
								pair.len - name_len - 1);
		else
			continue;
		return true;
	}
	return false;
}

bool
exchange_query_has(const HttpExchange *x, const char *name)
{
	size_t		at = 0;
	Bytes		value;

	return exchange_query_next(x, name, &at, &value);
}

/* ---- what the carrier calls ---- */

static HttpExchange *
exchange_create(HttpCarrier *carrier, const HttpHead *head)
{
	MemContext *mcx = mcx_create(carrier->mcx, "http exchange");
	HttpExchange *x = mcx_alloc0(mcx, sizeof(*x));

	x->mcx = mcx;
	x->carrier = carrier;
	x->head = head;
	return x;
}

static void
exchange_start(HttpExchange *x)
{
	ErrCode		refuse_with = x->carrier->conn->refuse_with;

	counter_add(COUNTER_HTTP_REQUESTS, 1);
	split_target(x);
	if (!check_host(x))
		return;
	add_cors_fields(x);
	if (refuse_with != ERR_NONE)
		call_answer_error(x, err_info(refuse_with)->http_status,
						  err_info(refuse_with)->grpc_code,
						  err_info(refuse_with)->text);
	else if (bytes_equal_cstr(x->head->method, "OPTIONS"))
		exchange_answer(x, 200, NULL, BYTES_EMPTY);
	else
		route(x);
}

static void
exchange_body(HttpExchange *x, Bytes data)
{
	if (x->call != NULL && !x->is_answered)
		call_body(x->call, data);
}

static void
exchange_end_of_body(HttpExchange *x)
{
	if (x->call != NULL && !x->is_answered)
		call_end_of_body(x->call);
}

static bool
exchange_wants_body(const HttpExchange *x)
{
	return x->call == NULL || x->is_answered || call_wants_body(x->call);
}

static void
exchange_turn(HttpExchange *x)
{
	if (x->call != NULL && !x->is_answered)
		call_turn(x->call);
}

static void
exchange_stop(HttpExchange *x)
{
	if (x->call != NULL && !x->is_answered)
		call_stop(x->call);
}

static int64_t
exchange_next_timer_ms(const HttpExchange *x)
{
	return x->call == NULL ? -1 : call_next_timer_ms(x->call);
}

static void
exchange_on_timer(HttpExchange *x, int64_t now_ms)
{
	if (x->call != NULL && !x->is_answered)
		call_on_timer(x->call, now_ms);
}

static size_t
exchange_held_bytes(const HttpExchange *x)
{
	return x->call == NULL ? 0 : call_held_bytes(x->call);
}

static void
exchange_destroy(HttpExchange *x)
{
	if (x->call != NULL)
		call_destroy(x->call);
	if (x->health != NULL)
		health_destroy(x->health);
	mcx_destroy(x->mcx);
}

/* ---- who answers ---- */

static void
split_target(HttpExchange *x)
{
	Bytes		target = x->head->target;
	const uint8_t *mark = memchr(target.data, '?', target.len);

	x->path = target;
	if (mark != NULL)
	{
		x->path.len = (size_t) (mark - target.data);
		x->query = bytes_make(mark + 1, target.len - x->path.len - 1);
	}
	if (begins_with(x->path, OLD_PREFIX))
	{
		size_t		skip = strlen(OLD_PREFIX);
		char	   *path = mcx_printf(x->mcx, "/v3/%.*s",
									  (int) (x->path.len - skip),
									  (const char *) x->path.data + skip);

		x->path = bytes_from_cstr(path);
	}
}

static bool
check_host(HttpExchange *x)
{
	static const char text[] =
		"claviger: this Host is not in host_whitelist; a web page may be trying "
		"to reach the server under a name of its own (DNS rebinding)\n";

	if (x->carrier->conn->is_tls || list_has(guc_host_whitelist, BYTES_LITERAL("*")) ||
		list_has(guc_host_whitelist, host_name(x->head->host)))
		return true;
	exchange_answer(x, 421, CONTENT_TEXT, BYTES_LITERAL(text));
	return false;
}

static void
add_cors_fields(HttpExchange *x)
{
	Bytes		origin = find_field(x->head, "origin");

	if (list_has(guc_cors, BYTES_LITERAL("*")))
		origin = BYTES_LITERAL("*");
	else if (origin.len == 0 || !list_has(guc_cors, origin))
		return;
	exchange_add_field(x, "access-control-allow-methods",
					   BYTES_LITERAL("POST, GET, OPTIONS, PUT, DELETE"));
	exchange_add_field(x, "access-control-allow-origin", origin);
	exchange_add_field(x, "access-control-allow-headers",
					   BYTES_LITERAL("accept, content-type, authorization"));
	if (!bytes_equal_cstr(origin, "*"))
		exchange_add_field(x, "vary", BYTES_LITERAL("Origin"));
}

/*
 * A browser sends its user's certificate with whatever any page asks for, and
 * asks nobody before it POSTs text/plain (Fetch, 3.2.2: "CORS-safelisted").  So
 * where connections have certificates, a page that is not ours does nothing,
 * unless cors names its origin; that it says "*" is not meant for this.  It is
 * the connection that counts: without client_cert_auth a certificate is what
 * lets one in, and a reload changes nothing for connections that are there.  A
 * token is no such danger: only who knows it can send it.
 *
 * What a page reads of an answer is else kept from it by the browser, as the
 * CORS fields say; but what comes over a WebSocket every page reads.  So there
 * cors counts here, and its "*" too if no certificate is in play.
 */
static bool
is_of_foreign_page(const HttpExchange *x)
{
	const HttpConn *conn = x->carrier->conn;
	const char *scheme = conn->is_tls ? "https://" : "http://";
	Bytes		origin = find_field(x->head, "origin");
	size_t		n = strlen(scheme);

	if (origin.len == 0 || list_has(guc_cors, origin))
		return false;
	if (begins_with(origin, scheme) &&
		bytes_equal(bytes_make(origin.data + n, origin.len - n),
					x->head->host))
		return false;
	return conn->has_certificate ||
		(x->head->is_websocket && !list_has(guc_cors, BYTES_LITERAL("*")));
}

static void
route(HttpExchange *x)
{
	if (health_is_path(x->path))
		health_start(x);
	else if (bytes_equal_cstr(x->path, "/metrics"))
		answer_metrics(x);
	else if (x->carrier->conn->is_for_metrics)
		answer_not_found(x);
	else if (bytes_equal_cstr(x->path, "/version"))
		answer_version(x);
	else if (begins_with(x->path, "/v3/") && guc_enable_grpc_gateway)
		route_call(x);
	else
		answer_not_found(x);
}

static void
route_call(HttpExchange *x)
{
	const RpcInfo *rpc = find_route(x->path);

	if (rpc == NULL)
		call_answer_error(x, 404, 5, "Not Found");
	else if (!bytes_equal_cstr(x->head->method, "POST") &&
			 !x->head->is_websocket)
	{
		exchange_add_field(x, "allow", BYTES_LITERAL("POST"));
		call_answer_error(x, 405, GRPC_UNIMPLEMENTED, "Method Not Allowed");
	}
	else if (is_of_foreign_page(x))
		call_answer_error(x, 403, GRPC_PERMISSION_DENIED,
						  x->carrier->conn->has_certificate ?
						  "claviger: a page of another origin may not use the "
						  "client certificate; if it shall, name its origin in "
						  "cors" :
						  "claviger: a page of an origin that cors does not "
						  "name may not open a WebSocket");
	else
		call_start(x, rpc);
}

static const RpcInfo *
find_route(Bytes path)
{
	for (size_t i = 0; i < lengthof(routes); i++)
		if (bytes_equal_cstr(path, routes[i].path))
			return rpc_info(routes[i].rpc);
	return NULL;
}

static void
answer_version(HttpExchange *x)
{
	static const char text[] =
		"{\"etcdserver\":\"" ETCD_API_VERSION "\",\"etcdcluster\":\""
		ETCD_CLUSTER_VERSION "\",\"storage\":\"" ETCD_CLUSTER_VERSION "\"}";

	if (exchange_is_get(x))
		exchange_answer(x, 200, CONTENT_JSON, BYTES_LITERAL(text));
}

static void
answer_metrics(HttpExchange *x)
{
	Buf			out;

	if (!exchange_is_get(x))
		return;
	buf_init(&out, NULL);
	metrics_write(&out);
	exchange_answer(x, 200, METRICS_CONTENT, buf_bytes(&out));
	buf_free(&out);
}

static void
answer_not_found(HttpExchange *x)
{
	exchange_add_field(x, "x-content-type-options", BYTES_LITERAL("nosniff"));
	exchange_answer(x, 404, CONTENT_TEXT, BYTES_LITERAL("404 page not found\n"));
}

/* ---- small things ---- */

static Bytes
find_field(const HttpHead *head, const char *name)
{
	for (uint32_t i = 0; i < head->nfields; i++)
		if (bytes_equal_cstr(head->fields[i].name, name))
			return head->fields[i].value;
	return BYTES_EMPTY;
}

/* in a list with commas; blanks around a word do not count */
static bool
list_has(const char *list, Bytes word)
{
	while (*list != '\0')
	{
		size_t		n = strcspn(list, ",");
		Bytes		one = bytes_make(list, n);

		while (one.len > 0 && one.data[0] == ' ')
			one = bytes_make(one.data + 1, one.len - 1);
		while (one.len > 0 && one.data[one.len - 1] == ' ')
			one.len--;
		if (word.len > 0 && bytes_equal(one, word))
			return true;
		list += n + (list[n] == ',');
	}
	return false;
}

/* without the port; of "[::1]:2379" what is in the brackets */
static Bytes
host_name(Bytes host)
{
	const uint8_t *end;

	if (host.len > 0 && host.data[0] == '[')
	{
		end = memchr(host.data, ']', host.len);
		return end == NULL ? host :
			bytes_make(host.data + 1, (size_t) (end - host.data) - 1);
	}
	end = host.len == 0 ? NULL : memrchr(host.data, ':', host.len);
	return end == NULL ? host :
		bytes_make(host.data, (size_t) (end - host.data));
}

static bool
begins_with(Bytes text, const char *prefix)
{
	size_t		n = strlen(prefix);

	return text.len >= n && memcmp(text.data, prefix, n) == 0;
}
