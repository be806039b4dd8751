/*
 * publish.c
 *	  What this member tells the cluster of itself: name and URLs.
 */
#include "server.h"

/* lib and utils */
#include "lib/buf.h"
#include "utils/guc.h"

/* this layer and below */
#include "common/logop.h"
#include "member/member.h"
#include "storage/snap/store.h"
#include "worker_internal.h"

static bool is_published(const StoreVersion *v, const LogOp *op);

RaftEntry *
publish_entry(const StoreVersion *v, uint64_t member_id)
{
	LogOp		op = {
		.kind = LOGOP_MEMBER_PUBLISH,
		.identity.kind = IDENTITY_INTERNAL,
		.member = {
			.id = member_id,
			.name = bytes_from_cstr(guc_name),
			.client_urls = bytes_from_cstr(guc_advertise_client_urls),
			.peer_urls = bytes_from_cstr(guc_initial_advertise_peer_urls),
		},
	};
	RaftEntry  *entry;
	Buf			encoded;

	if (is_published(v, &op))
		return NULL;
	buf_init(&encoded, NULL);
	logop_encode(&op, &encoded);
	entry = entry_create(buf_bytes(&encoded));
	buf_free(&encoded);
	return entry;
}

static bool
is_published(const StoreVersion *v, const LogOp *op)
{
	uint8_t		key[8];
	const CowItem *item;
	MemberInfo	info;

	for (int i = 0; i < 8; i++)
		key[i] = (uint8_t) (op->member.id >> (56 - 8 * i));
	item = cowtree_get(&v->members, bytes_make(key, sizeof(key)));
	if (item == NULL)
		return false;
	info = member_info((const MemberEntry *) item);
	return bytes_equal(info.name, op->member.name) &&
		bytes_equal(info.client_urls, op->member.client_urls) &&
		bytes_equal(info.peer_urls, op->member.peer_urls);
}
