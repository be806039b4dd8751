/*
 * cluster.c
 *	  MemberList.
 */
#include "server.h"

/* libraries */
#include "etcdserverpb.pb-c.h"

/* lib and utils */
#include "lib/pbwire.h"

/* this layer and below */
#include "command/answer.h"
#include "command/command.h"
#include "dispatch/dispatch.h"
#include "member/member.h"

enum
{
	RESPONSE_MEMBERS = 2,

	MEMBER_ID = 1,
	MEMBER_NAME = 2,
	MEMBER_PEER_URLS = 3,
	MEMBER_CLIENT_URLS = 4,
	MEMBER_IS_LEARNER = 5
};

static ReqResult member_list_at_point(Request *req);
static ErrCode member_list_answer(Request *req, const StoreVersion *v);
static void put_member(Buf *out, const MemberInfo *member);
static void put_urls(Buf *out, unsigned field, Bytes urls);

/* Clients before 3.5 do not know the field and get the local view, as ever. */
ReqResult
command_member_list(Request *req)
{
	const Etcdserverpb__MemberListRequest *message = req->message;

	if (!message->linearizable)
		return member_list_at_point(req);
	return request_read_barrier(req, member_list_at_point);
}

static ReqResult
member_list_at_point(Request *req)
{
	return answer_pinned_need(req, NEED_IDENTITY, BYTES_EMPTY,
							  member_list_answer);
}

static ErrCode
member_list_answer(Request *req, const StoreVersion *v)
{
	CowCursor	cursor;
	const CowItem *item;
	Buf			message;

	buf_init(&message, req->mcx);
	for (item = cowtree_seek(&v->members, &cursor, BYTES_EMPTY); item != NULL;
		 item = cowtree_next(&cursor))
	{
		MemberInfo	member = member_info(container_of(item, MemberEntry, item));

		message.len = 0;
		put_member(&message, &member);
		pbwire_put_bytes_always(&req->body, RESPONSE_MEMBERS,
								buf_bytes(&message));
	}
	return ERR_NONE;
}

static void
put_member(Buf *out, const MemberInfo *member)
{
	pbwire_put_uint(out, MEMBER_ID, member->id);
	pbwire_put_bytes(out, MEMBER_NAME, member->name);
	put_urls(out, MEMBER_PEER_URLS, member->peer_urls);
	put_urls(out, MEMBER_CLIENT_URLS, member->client_urls);
	pbwire_put_uint(out, MEMBER_IS_LEARNER, member->is_learner);
}

/* from a list with commas to a repeated field */
static void
put_urls(Buf *out, unsigned field, Bytes urls)
{
	while (urls.len > 0)
	{
		const uint8_t *comma = memchr(urls.data, ',', urls.len);
		size_t		n = comma == NULL ? urls.len :
			(size_t) (comma - urls.data);

		pbwire_put_bytes(out, field, bytes_make(urls.data, n));
		if (comma != NULL)
			n++;
		urls = bytes_make(urls.data + n, urls.len - n);
	}
}
