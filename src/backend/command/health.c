/*
 * health.c
 *	  The standard gRPC health service: Check, Watch and List.
 *
 * Open to everybody: a load balancer has no user.  One service is registered,
 * the server as a whole, whose name is the empty string.  Who is asked here
 * can serve: dispatch answers before that while the store is not loaded.
 */
#include "server.h"

/* libraries */
#include "health.pb-c.h"

/* lib and utils */
#include "lib/pbwire.h"

/* this layer and below */
#include "command/answer.h"
#include "command/command.h"
#include "dispatch/dispatch.h"

#define SERVICE_UNKNOWN \
	GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN
#define SERVING GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING

enum
{
	CHECK_STATUS = 1,

	LIST_STATUSES = 1,
	/* an entry of a map is a message with key and value */
	MAP_KEY = 1,
	MAP_VALUE = 2
};

static ReqResult read_at_point(Request *req);
static ErrCode read_answer(Request *req, const StoreVersion *v);
static ErrCode check_answer(Request *req, const StoreVersion *v);
static ErrCode list_answer(Request *req, const StoreVersion *v);

ReqResult
command_health_check(Request *req)
{
	request_be_nobody(req);
	return answer_pinned_need(req, NEED_NOBODY, BYTES_EMPTY, check_answer);
}

ReqResult
command_health_list(Request *req)
{
	request_be_nobody(req);
	return answer_pinned_need(req, NEED_NOBODY, BYTES_EMPTY, list_answer);
}

ReqResult
command_health_read(Request *req)
{
	request_be_nobody(req);
	return request_ask_worker(req, read_at_point);
}

/*
 * Says how it is, and would say when that changes; but who can be asked serves
 * until the connection ends.  A name that is not registered may become known
 * later, says the protocol, so that stream stays open, too.
 */
ReqResult
command_health_watch(Request *req)
{
	const Grpc__Health__V1__HealthCheckRequest *message = req->message;
	AccessList	access;
	ErrCode		error;
	Buf			fields;

	request_be_nobody(req);
	access_init(&access, req->mcx);
	access_add(&access, NEED_NOBODY);
	error = request_authorize(req, store_pin(), &access);
	store_unpin();
	if (error != ERR_NONE)
		return request_fail(req, error);
	buf_init(&fields, req->mcx);
	pbwire_put_uint(&fields, CHECK_STATUS, message->service[0] == '\0' ?
					SERVING : SERVICE_UNKNOWN);
	request_send(req, &fields);
	return request_park(req);
}

static ReqResult
read_at_point(Request *req)
{
	return answer_pinned_need(req, NEED_NOBODY, BYTES_EMPTY, read_answer);
}

/* that it was pinned is all that was asked */
static ErrCode
read_answer(Request *req, const StoreVersion *v)
{
	return ERR_NONE;
}

static ErrCode
check_answer(Request *req, const StoreVersion *v)
{
	const Grpc__Health__V1__HealthCheckRequest *message = req->message;

	if (message->service[0] != '\0')
		return ERR_HEALTH_UNKNOWN_SERVICE;
	pbwire_put_uint(&req->body, CHECK_STATUS, SERVING);
	return ERR_NONE;
}

static ErrCode
list_answer(Request *req, const StoreVersion *v)
{
	Buf			status;
	Buf			entry;

	buf_init(&status, req->mcx);
	buf_init(&entry, req->mcx);
	pbwire_put_uint(&status, CHECK_STATUS, SERVING);
	pbwire_put_bytes_always(&entry, MAP_KEY, BYTES_EMPTY);
	pbwire_put_bytes_always(&entry, MAP_VALUE, buf_bytes(&status));
	pbwire_put_bytes_always(&req->body, LIST_STATUSES, buf_bytes(&entry));
	return ERR_NONE;
}
