/*
 * health.c
 *	  The standard gRPC health service: Check and List.
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

#define SERVING GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING

enum
{
	CHECK_STATUS = 1,

	LIST_STATUSES = 1,
	/* an entry of a map is a message with key and value */
	MAP_KEY = 1,
	MAP_VALUE = 2
};

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
