/*
 * cluster.c
 *	  Members: the list, and what one node can say to changes.
 *
 * This release has no peers.  A member that is added would never answer, and
 * with two voters of which one is silent nothing could be written any more; a
 * learner would never get a byte.  So all changes that would need another
 * process are refused, with the answer that etcd gives for the reason:
 *
 *	add a voter		not enough started members (strict reconfiguration check)
 *	add a learner	too many learners: the greatest number is none
 *	remove			not enough started members: the last voter stays
 *	update			our own: peer URLs would be told to nobody
 *	promote			it is no learner
 *
 * Before that comes what etcd finds out before: bad URLs, URLs that are taken,
 * members that are not there.
 */
#include "server.h"

/* libraries */
#include "etcdserverpb.pb-c.h"

/* lib and utils */
#include "lib/pbwire.h"
#include "utils/errcodes.h"

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

static ErrCode member_add(Request *req, const StoreVersion *v);
static ErrCode member_remove(Request *req, const StoreVersion *v);
static ErrCode member_update(Request *req, const StoreVersion *v);
static ErrCode member_promote(Request *req, const StoreVersion *v);
static bool find_member(const StoreVersion *v, uint64_t id, MemberInfo *info);
static bool url_is_taken(const StoreVersion *v, Bytes url);
static bool list_has_url(Bytes list, Bytes url);
static bool list_is_same(Bytes list, char *const *urls, size_t n);
static Bytes next_url(Bytes *list);
static bool urls_are_sound(char *const *urls, size_t n);
static bool url_is_sound(const char *url);

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

ReqResult
command_member_add(Request *req)
{
	const Etcdserverpb__MemberAddRequest *message = req->message;

	if (!urls_are_sound(message->peerurls, message->n_peerurls))
		return request_fail(req, ERR_MEMBER_BAD_URLS);
	return answer_pinned_need(req, NEED_ADMIN, BYTES_EMPTY, member_add);
}

ReqResult
command_member_remove(Request *req)
{
	return answer_pinned_need(req, NEED_ADMIN, BYTES_EMPTY, member_remove);
}

ReqResult
command_member_update(Request *req)
{
	return answer_pinned_need(req, NEED_ADMIN, BYTES_EMPTY, member_update);
}

ReqResult
command_member_promote(Request *req)
{
	return answer_pinned_need(req, NEED_ADMIN, BYTES_EMPTY, member_promote);
}

/* ---- changes ---- */

static ErrCode
member_add(Request *req, const StoreVersion *v)
{
	const Etcdserverpb__MemberAddRequest *message = req->message;

	for (size_t i = 0; i < message->n_peerurls; i++)
	{
		if (url_is_taken(v, bytes_from_cstr(message->peerurls[i])))
			return ERR_PEER_URL_EXIST;
	}
	if (message->islearner)
		return ERR_TOO_MANY_LEARNERS;
	return ERR_MEMBER_NOT_ENOUGH_STARTED;
}

static ErrCode
member_remove(Request *req, const StoreVersion *v)
{
	const Etcdserverpb__MemberRemoveRequest *message = req->message;
	MemberInfo	member;

	if (!find_member(v, message->id, &member))
		return ERR_MEMBER_NOT_FOUND;
	return ERR_MEMBER_NOT_ENOUGH_STARTED;
}

/* URLs that are what they were are no change */
static ErrCode
member_update(Request *req, const StoreVersion *v)
{
	const Etcdserverpb__MemberUpdateRequest *message = req->message;
	MemberInfo	member;

	if (!find_member(v, message->id, &member))
		return ERR_MEMBER_NOT_FOUND;
	if (!urls_are_sound(message->peerurls, message->n_peerurls))
		return ERR_MEMBER_BAD_URLS;
	if (!list_is_same(member.peer_urls, message->peerurls,
					  message->n_peerurls))
		return ERR_NO_PEERS;
	return member_list_answer(req, v);
}

static ErrCode
member_promote(Request *req, const StoreVersion *v)
{
	const Etcdserverpb__MemberPromoteRequest *message = req->message;
	MemberInfo	member;

	if (!find_member(v, message->id, &member))
		return ERR_MEMBER_NOT_FOUND;
	return member.is_learner ? ERR_LEARNER_NOT_READY : ERR_MEMBER_NOT_LEARNER;
}

static bool
find_member(const StoreVersion *v, uint64_t id, MemberInfo *info)
{
	CowCursor	cursor;
	const CowItem *item;

	for (item = cowtree_seek(&v->members, &cursor, BYTES_EMPTY); item != NULL;
		 item = cowtree_next(&cursor))
	{
		*info = member_info(container_of(item, MemberEntry, item));
		if (info->id == id)
			return true;
	}
	return false;
}

static bool
url_is_taken(const StoreVersion *v, Bytes url)
{
	CowCursor	cursor;
	const CowItem *item;

	for (item = cowtree_seek(&v->members, &cursor, BYTES_EMPTY); item != NULL;
		 item = cowtree_next(&cursor))
	{
		MemberInfo	member = member_info(container_of(item, MemberEntry, item));

		if (list_has_url(member.peer_urls, url))
			return true;
	}
	return false;
}

static bool
list_has_url(Bytes list, Bytes url)
{
	while (list.len > 0)
	{
		if (bytes_equal(next_url(&list), url))
			return true;
	}
	return false;
}

/* in any order */
static bool
list_is_same(Bytes list, char *const *urls, size_t n)
{
	Bytes		rest = list;
	size_t		nlist = 0;

	for (; rest.len > 0; nlist++)
		(void) next_url(&rest);
	if (nlist != n)
		return false;
	for (size_t i = 0; i < n; i++)
	{
		if (!list_has_url(list, bytes_from_cstr(urls[i])))
			return false;
	}
	return true;
}

/* the first of a list with commas; the list becomes the rest */
static Bytes
next_url(Bytes *list)
{
	const uint8_t *comma = memchr(list->data, ',', list->len);
	size_t		n = comma == NULL ? list->len : (size_t) (comma - list->data);
	Bytes		url = bytes_make(list->data, n);

	if (comma != NULL)
		n++;
	*list = bytes_make(list->data + n, list->len - n);
	return url;
}

static bool
urls_are_sound(char *const *urls, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		if (!url_is_sound(urls[i]))
			return false;
	}
	return n > 0;
}

/* scheme://host:port without a path, as etcd wants it */
static bool
url_is_sound(const char *url)
{
	static const char *const schemes[] = {
		"http://", "https://", "unix://", "unixs://",
	};

	for (size_t i = 0; i < lengthof(schemes); i++)
	{
		size_t		n = strlen(schemes[i]);
		const char *port;

		if (strncmp(url, schemes[i], n) != 0)
			continue;
		url += n;
		port = strrchr(url, ':');
		return port != NULL && strpbrk(url, "/,?# @") == NULL &&
			(url[0] == '[' ? port > url && port[-1] == ']' :
			 strchr(url, ':') == port);
	}
	return false;
}

/* ---- the list ---- */

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
		pbwire_put_bytes(out, field, next_url(&urls));
}
