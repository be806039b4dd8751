/*
 * watch.c
 *	  The Watch stream: many watches on one stream, and what it says of them.
 *
 *	client                          here                         watch/hub.c
 *	create  -> right? shape? ->     created                      watch_start
 *	cancel  ->                      canceled                     watch_stop
 *	progress ->                     progress (at a turn's end) <- turn_end
 *	                                events                     <- events
 *	                                canceled, and why          <- ended
 *
 * Texts, and what is refused how, are etcd's (etcd-v3-wire.md 5.3).  A refused
 * create does not end the stream.
 *
 * Rights are judged when a watch is made, with the range as the client wrote
 * it, and again by the hub whenever the auth revision has moved.  A token also
 * ends by itself, which moves nothing: identity_until_ms says when, and it is
 * looked at before any event is sent, and by a timer.
 *
 * Thousands of watches of a stream are often told the same: the encoded events
 * of the last one are kept while the version is the same.
 */
#include "server.h"

/* libraries */
#include "etcdserverpb.pb-c.h"

/* lib and utils */
#include "lib/pbwire.h"
#include "utils/clock.h"
#include "utils/guc.h"

/* this layer and below */
#include "command/command.h"
#include "command/pbbytes.h"
#include "dispatch/arrival.h"
#include "dispatch/dispatch.h"
#include "dispatch/rpcstats.h"
#include "mvcc/mvcc.h"
#include "mvcc/vlog.h"
#include "storage/ipc/control.h"
#include "watch/watch.h"

/* watches of one connection: keys and what we keep beside them */
#define WATCHES_MAX_BYTES ((size_t) 64 * 1024 * 1024)
#define FIRST_BUCKETS 16
/* the same events for one more watch: so many may be kept encoded */
#define SAME_EVENTS 64
#define REFUSED_ID (-1)

/* WatchResponse, mvccpb.Event */
enum
{
	WATCH_ID = 2,
	WATCH_CREATED = 3,
	WATCH_CANCELED = 4,
	WATCH_COMPACT_REVISION = 5,
	WATCH_CANCEL_REASON = 6,
	WATCH_FRAGMENT = 7,
	WATCH_EVENTS = 11,

	EVENT_TYPE = 1,
	EVENT_KV = 2,
	EVENT_PREV_KV = 3,
	EVENT_DELETE = 1
};

typedef struct StreamWatch
{
	Watch		watch;			/* first */
	struct WatchStream *stream;
	int64_t		id;
	bool		prev_kv;
	bool		fragment;
	bool		notify;			/* progress, periodically */
	bool		no_put;
	bool		no_delete;
	bool		was_told;		/* since the last periodic progress */
	size_t		bytes;			/* of this */
	struct StreamWatch *next_in_bucket;
	struct StreamWatch *prev;	/* of the stream */
	struct StreamWatch *next;
	uint8_t		key[];			/* and the range's end */
} StreamWatch;

typedef struct WatchStream
{
	Request    *req;
	StreamWatch *first;
	uint32_t	n;
	StreamWatch **buckets;		/* by id */
	uint32_t	nbuckets;		/* power of two */
	int64_t		next_id;
	uint64_t	checked_auth;	/* for which the identity was looked at */
	uint32_t	nnotify;
	int64_t		notify_ms;		/* next periodic progress; if nnotify > 0 */
	bool		wants_progress; /* asked for by the client */
	bool		wants_notify;	/* it is time */
	struct WatchStream *prev_waiting;	/* for the end of a turn */
	struct WatchStream *next_waiting;
	bool		is_waiting;
} WatchStream;

/* streams to which progress is to be told at the end of the next turn */
static WatchStream *first_waiting;
static size_t total_bytes;

static ReqResult on_message(Request *req, const void *message);
static ReqResult on_half_close(Request *req);
static ReqResult on_writable(Request *req);
static ReqResult on_timer(Request *req);
static void stream_free(void *arg);
static void create(WatchStream *stream,
				   const Etcdserverpb__WatchCreateRequest *ask);
static const char *judge(WatchStream *stream, const StoreVersion *v,
						 const Etcdserverpb__WatchCreateRequest *ask,
						 const KeyRange *range);
static void refuse(WatchStream *stream, int64_t revision, const char *reason);
static void cancel(WatchStream *stream, int64_t id);
static StreamWatch *watch_make(WatchStream *stream, const KeyRange *range,
							   const Etcdserverpb__WatchCreateRequest *ask);
static void watch_take_out(StreamWatch *sw);
static StreamWatch *watch_find(const WatchStream *stream, int64_t id);
static int64_t free_id(WatchStream *stream, int64_t wanted);
static void grow_buckets(WatchStream *stream);
static uint32_t bucket_of(const WatchStream *stream, int64_t id);

static bool may_take(Watch *watch);
static ErrCode still_allowed(Watch *watch, const StoreVersion *v);
static void on_events(Watch *watch, const StoreVersion *v,
					  const KvVersion *const *kvs, size_t n);
static void on_ended(Watch *watch, const StoreVersion *v, ErrCode error);

static bool passes(const StreamWatch *sw, const KvVersion *kv);
static void send_events(StreamWatch *sw, const StoreVersion *v,
						const KvVersion *const *kvs, size_t n);
static Bytes same_events(const StreamWatch *sw, const StoreVersion *v,
						 const KvVersion *const *kvs, size_t n);
static void put_event(Buf *out, const StreamWatch *sw, const StoreVersion *v,
					  const KvVersion *kv);
static void send_progress(WatchStream *stream, int64_t id, int64_t revision);
static void wait_for_turn(WatchStream *stream);
static void stop_waiting(WatchStream *stream);
static void turn_end(const StoreVersion *v);
static void tell_notify(WatchStream *stream, const StoreVersion *v);
static bool all_synced(const WatchStream *stream);
static void set_timer(WatchStream *stream);
static const char *reason_of(WatchStream *stream, ErrCode error);

static const WatchOps stream_ops = {
	.may_take = may_take,
	.authorize = still_allowed,
	.events = on_events,
	.ended = on_ended,
};

ReqResult
command_watch(Request *req)
{
	WatchStream *stream = mcx_alloc0(req->mcx, sizeof(*stream));

	stream->req = req;
	req->handler_state = stream;
	mcx_on_reset(req->mcx, stream_free, stream);
	req->on_message = on_message;
	req->on_half_close = on_half_close;
	req->on_writable = on_writable;
	request_permit_stream(req);
	watch_set_turn_end(turn_end);
	return REQ_PENDING;
}

/* ---- the stream ---- */

static ReqResult
on_message(Request *req, const void *message)
{
	const Etcdserverpb__WatchRequest *ask = message;
	WatchStream *stream = req->handler_state;

	switch (ask->request_union_case)
	{
		case ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST:
			create(stream, ask->create_request);
			break;
		case ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CANCEL_REQUEST:
			cancel(stream, ask->cancel_request->watch_id);
			break;
		case ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_PROGRESS_REQUEST:
			stream->wants_progress = true;
			wait_for_turn(stream);
			break;
		default:
			/* of a newer client; etcd passes over it as well */
			break;
	}
	return REQ_PENDING;
}

/* He sends nothing more, and listens on. */
static ReqResult
on_half_close(Request *req)
{
	return REQ_PENDING;
}

static ReqResult
on_writable(Request *req)
{
	watch_go_on(req->handler_state);
	return REQ_PENDING;
}

static void
stream_free(void *arg)
{
	WatchStream *stream = arg;

	while (stream->first != NULL)
	{
		StreamWatch *sw = stream->first;

		watch_stop(&sw->watch);
		watch_take_out(sw);
	}
	stop_waiting(stream);
	free(stream->buckets);
}

/* ---- create and cancel ---- */

static void
create(WatchStream *stream, const Etcdserverpb__WatchCreateRequest *ask)
{
	static const uint8_t zero[1] = {0};
	Request    *req = stream->req;
	Bytes		key = pb_bytes(ask->key);
	KeyRange	range;
	const StoreVersion *v = store_pin();
	const char *reason;
	StreamWatch *sw;
	Buf			fields;

	if (key.len == 0)
		key = bytes_make(zero, sizeof(zero));
	range = keyrange_make(key, pb_bytes(ask->range_end));
	reason = judge(stream, v, ask, &range);
	if (reason != NULL)
	{
		refuse(stream, v->kv_revision, reason);
		store_unpin();
		return;
	}
	sw = watch_make(stream, &range, ask);
	sw->watch.start_revision = ask->start_revision != 0 ?
		ask->start_revision : v->kv_revision + 1;
	buf_init(&fields, request_scratch(req));
	pbwire_put_int(&fields, WATCH_ID, sw->id);
	pbwire_put_int(&fields, WATCH_CREATED, 1);
	req->header_revision = v->kv_revision;
	request_send(req, &fields);
	watch_start(&sw->watch, v);
	store_unpin();
	set_timer(stream);
}

/* Why it is refused, in etcd's order and words; NULL: it is not. */
static const char *
judge(WatchStream *stream, const StoreVersion *v,
	  const Etcdserverpb__WatchCreateRequest *ask, const KeyRange *range)
{
	Request    *req = stream->req;
	AccessList	access;
	ErrCode		error;

	access_init(&access, request_scratch(req));
	access_add_range(&access, NEED_READ, range);
	request_identify_again(req);
	error = request_authorize(req, v, &access);
	/* once more without using the token, to know how long it is good */
	request_identify_again(req);
	if (error == ERR_NONE)
		error = request_recheck(req, v, &access);
	stream->checked_auth = store_auth_stamp(v);
	if (error != ERR_NONE)
		return reason_of(stream, error);
	if (ask->start_revision < 0)
		return err_info(ERR_COMPACTED)->text;
	if (keyrange_is_empty(range))
		return "mvcc: watcher range is empty";
	if (ask->watch_id != 0 && watch_find(stream, ask->watch_id) != NULL)
		return "mvcc: duplicate watch ID provided on the WatchStream";
	if (total_bytes > WATCHES_MAX_BYTES)
		return reason_of(stream, ERR_TOO_MANY_REQUESTS);
	return NULL;
}

static void
refuse(WatchStream *stream, int64_t revision, const char *reason)
{
	Buf			fields;

	buf_init(&fields, request_scratch(stream->req));
	pbwire_put_int(&fields, WATCH_ID, REFUSED_ID);
	pbwire_put_int(&fields, WATCH_CREATED, 1);
	pbwire_put_int(&fields, WATCH_CANCELED, 1);
	pbwire_put_bytes(&fields, WATCH_CANCEL_REASON, bytes_from_cstr(reason));
	stream->req->header_revision = revision;
	request_send(stream->req, &fields);
}

static void
cancel(WatchStream *stream, int64_t id)
{
	StreamWatch *sw = watch_find(stream, id);
	Buf			fields;

	if (sw == NULL)
		return;
	watch_stop(&sw->watch);
	watch_take_out(sw);
	buf_init(&fields, request_scratch(stream->req));
	pbwire_put_int(&fields, WATCH_ID, id);
	pbwire_put_int(&fields, WATCH_CANCELED, 1);
	stream->req->header_revision = 0;
	request_send(stream->req, &fields);
}

static StreamWatch *
watch_make(WatchStream *stream, const KeyRange *range,
		   const Etcdserverpb__WatchCreateRequest *ask)
{
	size_t		bytes = sizeof(StreamWatch) + range->begin.len + range->end.len;
	StreamWatch *sw = xcalloc(1, bytes);

	sw->bytes = bytes + watchtree_range_bytes(range);
	sw->stream = stream;
	sw->id = free_id(stream, ask->watch_id);
	sw->prev_kv = ask->prev_kv;
	sw->fragment = ask->fragment;
	sw->notify = ask->progress_notify;
	for (size_t i = 0; i < ask->n_filters; i++)
	{
		sw->no_put |= ask->filters[i] ==
			ETCDSERVERPB__WATCH_CREATE_REQUEST__FILTER_TYPE__NOPUT;
		sw->no_delete |= ask->filters[i] ==
			ETCDSERVERPB__WATCH_CREATE_REQUEST__FILTER_TYPE__NODELETE;
	}
	sw->watch.ops = &stream_ops;
	sw->watch.owner = stream;
	memcpy(sw->key, range->begin.data, range->begin.len);
	if (range->end.len > 0)
		memcpy(sw->key + range->begin.len, range->end.data, range->end.len);
	sw->watch.range = (KeyRange) {
		.kind = range->kind,
		.begin = bytes_make(sw->key, range->begin.len),
		.end = bytes_make(sw->key + range->begin.len, range->end.len),
	};
	total_bytes += sw->bytes;

	if (stream->n >= stream->nbuckets)
		grow_buckets(stream);
	sw->next_in_bucket = stream->buckets[bucket_of(stream, sw->id)];
	stream->buckets[bucket_of(stream, sw->id)] = sw;
	sw->next = stream->first;
	if (stream->first != NULL)
		stream->first->prev = sw;
	stream->first = sw;
	stream->n++;
	control_note_watches(1);
	if (sw->notify && stream->nnotify++ == 0)
		stream->notify_ms = 0;
	return sw;
}

/* A watch that is stopped leaves its stream, and is no more. */
static void
watch_take_out(StreamWatch *sw)
{
	WatchStream *stream = sw->stream;
	StreamWatch **link = &stream->buckets[bucket_of(stream, sw->id)];

	while (*link != sw)
		link = &(*link)->next_in_bucket;
	*link = sw->next_in_bucket;
	if (sw->prev != NULL)
		sw->prev->next = sw->next;
	else
		stream->first = sw->next;
	if (sw->next != NULL)
		sw->next->prev = sw->prev;
	stream->n--;
	control_note_watches(-1);
	stream->nnotify -= sw->notify;
	total_bytes -= sw->bytes;
	free(sw);
}

static StreamWatch *
watch_find(const WatchStream *stream, int64_t id)
{
	StreamWatch *sw = stream->nbuckets == 0 ? NULL :
		stream->buckets[bucket_of(stream, id)];

	while (sw != NULL && sw->id != id)
		sw = sw->next_in_bucket;
	return sw;
}

/* 0: the next that is not used */
static int64_t
free_id(WatchStream *stream, int64_t wanted)
{
	if (wanted != 0)
		return wanted;
	while (watch_find(stream, stream->next_id) != NULL)
		stream->next_id++;
	return stream->next_id++;
}

static void
grow_buckets(WatchStream *stream)
{
	uint32_t	n = stream->nbuckets == 0 ? FIRST_BUCKETS : 2 * stream->nbuckets;

	free(stream->buckets);
	stream->buckets = xcalloc(n, sizeof(*stream->buckets));
	stream->nbuckets = n;
	for (StreamWatch *sw = stream->first; sw != NULL; sw = sw->next)
	{
		StreamWatch **bucket = &stream->buckets[bucket_of(stream, sw->id)];

		sw->next_in_bucket = *bucket;
		*bucket = sw;
	}
}

/* clients may choose ids, but hurt only themselves with bad ones */
static uint32_t
bucket_of(const WatchStream *stream, int64_t id)
{
	uint64_t	hash = (uint64_t) id * UINT64_C(0x9e3779b97f4a7c15);

	return (uint32_t) (hash >> 32) & (stream->nbuckets - 1);
}

/* ---- what the hub asks and tells ---- */

static bool
may_take(Watch *watch)
{
	return request_may_send(((StreamWatch *) watch)->stream->req);
}

static ErrCode
still_allowed(Watch *watch, const StoreVersion *v)
{
	WatchStream *stream = ((StreamWatch *) watch)->stream;
	AccessOp	op = {.need = NEED_READ,.range = watch->range};
	AccessList	access = {.ops = &op,.n = 1,.cap = 1};

	if (stream->checked_auth != store_auth_stamp(v) ||
		clock_monotonic_ms() >= stream->req->identity_until_ms)
	{
		request_identify_again(stream->req);
		stream->checked_auth = store_auth_stamp(v);
	}
	return request_recheck(stream->req, v, &access);
}

static void
on_events(Watch *watch, const StoreVersion *v, const KvVersion *const *kvs,
		  size_t n)
{
	StreamWatch *sw = (StreamWatch *) watch;
	ErrCode		error;

	if (clock_monotonic_ms() >= sw->stream->req->identity_until_ms)
	{
		error = still_allowed(watch, v);
		if (error != ERR_NONE)
		{
			watch_stop(watch);
			on_ended(watch, v, error);
			return;
		}
	}
	send_events(sw, v, kvs, n);
}

static void
on_ended(Watch *watch, const StoreVersion *v, ErrCode error)
{
	static Buf	fields;
	StreamWatch *sw = (StreamWatch *) watch;
	WatchStream *stream = sw->stream;

	fields.len = 0;
	pbwire_put_int(&fields, WATCH_ID, sw->id);
	pbwire_put_int(&fields, WATCH_CANCELED, 1);
	stream->req->header_revision = v->kv_revision;
	if (error == ERR_COMPACTED)
	{
		pbwire_put_int(&fields, WATCH_COMPACT_REVISION, v->compacted_revision);
		stream->req->header_revision = HEADER_REVISION_ZERO;
	}
	else
		pbwire_put_bytes(&fields, WATCH_CANCEL_REASON,
						 bytes_from_cstr(reason_of(stream, error)));
	watch_take_out(sw);
	request_send(stream->req, &fields);
}

/* ---- events ---- */

static bool
passes(const StreamWatch *sw, const KvVersion *kv)
{
	return kvversion_is_tombstone(kv) ? !sw->no_delete : !sw->no_put;
}

static void
send_events(StreamWatch *sw, const StoreVersion *v,
			const KvVersion *const *kvs, size_t n)
{
	static Buf	fields;
	Request    *req = sw->stream->req;
	size_t		limit = arrival_max_bytes();
	Bytes		same = same_events(sw, v, kvs, n);
	size_t		head;
	size_t		before;
	bool		has_any = false;

	req->header_revision = v->kv_revision;
	fields.len = 0;
	pbwire_put_int(&fields, WATCH_ID, sw->id);
	head = fields.len;
	buf_append(&fields, same.data, same.len);
	for (size_t i = 0; i < n && same.len == 0; i++)
	{
		if (!passes(sw, kvs[i]))
			continue;
		before = fields.len;
		put_event(&fields, sw, v, kvs[i]);
		if (sw->fragment && before > head && fields.len > limit)
		{
			/* without the last one, which begins the next */
			fields.len = before;
			pbwire_put_int(&fields, WATCH_FRAGMENT, 1);
			request_send(req, &fields);
			pbwire_put_int(&fields, WATCH_ID, sw->id);
			put_event(&fields, sw, v, kvs[i]);
		}
		has_any = true;
	}
	/* what the filters left nothing of is not sent */
	if (!has_any && same.len == 0)
		return;
	sw->was_told = true;
	counter_add(COUNTER_EVENTS, n);
	request_send(req, &fields);
	if (fields.cap > limit)
		buf_free(&fields);
}

/*
 * The encoded events, if they are the ones that were encoded last, or few
 * enough to be worth keeping for the next watch; else empty.
 */
static Bytes
same_events(const StreamWatch *sw, const StoreVersion *v,
			const KvVersion *const *kvs, size_t n)
{
	static Buf	encoded;
	static uint64_t number;
	static bool prev_kv;
	static size_t nkept;
	static const KvVersion *kept[SAME_EVENTS];

	if (n > SAME_EVENTS || sw->fragment || sw->no_put || sw->no_delete)
		return BYTES_EMPTY;
	/* pointers mean the same as long as the version does */
	if (number == v->number && prev_kv == sw->prev_kv && nkept == n &&
		memcmp(kept, kvs, n * sizeof(*kvs)) == 0)
		return buf_bytes(&encoded);
	if (encoded.cap > WATCHES_MAX_BYTES / 16)
		buf_free(&encoded);
	encoded.len = 0;
	for (size_t i = 0; i < n; i++)
		put_event(&encoded, sw, v, kvs[i]);
	number = v->number;
	prev_kv = sw->prev_kv;
	nkept = n;
	memcpy(kept, kvs, n * sizeof(*kvs));
	return buf_bytes(&encoded);
}

static void
put_event(Buf *out, const StreamWatch *sw, const StoreVersion *v,
		  const KvVersion *kv)
{
	static Buf	event;
	const KvVersion *before = NULL;

	event.len = 0;
	if (kvversion_is_tombstone(kv))
		pbwire_put_int(&event, EVENT_TYPE, EVENT_DELETE);
	mvcc_put_kv_field(&event, EVENT_KV, kv, false);
	if (sw->prev_kv && kv->create_revision != kv->mod_revision)
		before = vlog_previous(&v->log, kv);
	if (before != NULL)
		mvcc_put_kv_field(&event, EVENT_PREV_KV, before, false);
	pbwire_put_bytes_always(out, WATCH_EVENTS, buf_bytes(&event));
	if (event.cap > WATCHES_MAX_BYTES / 16)
		buf_free(&event);
}

/* ---- progress ---- */

static void
send_progress(WatchStream *stream, int64_t id, int64_t revision)
{
	static Buf	fields;

	fields.len = 0;
	pbwire_put_int(&fields, WATCH_ID, id);
	stream->req->header_revision = revision;
	request_send(stream->req, &fields);
}

static void
wait_for_turn(WatchStream *stream)
{
	watch_ask_turn();
	if (stream->is_waiting)
		return;
	stream->is_waiting = true;
	stream->prev_waiting = NULL;
	stream->next_waiting = first_waiting;
	if (first_waiting != NULL)
		first_waiting->prev_waiting = stream;
	first_waiting = stream;
}

static void
stop_waiting(WatchStream *stream)
{
	if (!stream->is_waiting)
		return;
	if (stream->prev_waiting != NULL)
		stream->prev_waiting->next_waiting = stream->next_waiting;
	else
		first_waiting = stream->next_waiting;
	if (stream->next_waiting != NULL)
		stream->next_waiting->prev_waiting = stream->prev_waiting;
	stream->is_waiting = false;
}

/*
 * Whoever is synced has been told of everything in v.  Sending ends no request,
 * so the list stays as it is.
 */
static void
turn_end(const StoreVersion *v)
{
	WatchStream *next;

	for (WatchStream *stream = first_waiting; stream != NULL; stream = next)
	{
		next = stream->next_waiting;
		if (stream->wants_notify)
			tell_notify(stream, v);
		stream->wants_notify = false;
		/* etcd drops it then, and clients ask again; we wait a little */
		if (stream->wants_progress && stream->n > 0 && !all_synced(stream))
			continue;
		if (stream->wants_progress && stream->n > 0)
			send_progress(stream, REFUSED_ID, v->kv_revision);
		stream->wants_progress = false;
		stop_waiting(stream);
	}
}

static void
tell_notify(WatchStream *stream, const StoreVersion *v)
{
	for (StreamWatch *sw = stream->first; sw != NULL; sw = sw->next)
	{
		if (sw->notify && !sw->was_told && watch_is_synced(&sw->watch) &&
			sw->watch.start_revision <= v->kv_revision + 1 &&
			request_may_send(stream->req))
			send_progress(stream, sw->id, v->kv_revision);
		sw->was_told = false;
	}
}

static bool
all_synced(const WatchStream *stream)
{
	for (const StreamWatch *sw = stream->first; sw != NULL; sw = sw->next)
		if (!watch_is_synced(&sw->watch))
			return false;
	return true;
}

/* ---- time ---- */

/* the next of: periodic progress, the token's end */
static void
set_timer(WatchStream *stream)
{
	int64_t		now_ms = clock_monotonic_ms();
	int64_t		next_ms = stream->req->identity_until_ms;

	if (stream->nnotify > 0)
	{
		/* +-10 %, so that not all streams of a server are told at once */
		if (stream->notify_ms == 0)
			stream->notify_ms = now_ms + guc_watch_progress_notify_interval -
				guc_watch_progress_notify_interval / 10 +
				(int64_t) ((uintptr_t) stream / 64 %
						   (uintptr_t) (guc_watch_progress_notify_interval / 5 + 1));
		if (stream->notify_ms < next_ms)
			next_ms = stream->notify_ms;
	}
	if (next_ms != INT64_MAX && stream->n > 0)
		(void) request_wait_until(stream->req, next_ms, on_timer);
}

static ReqResult
on_timer(Request *req)
{
	WatchStream *stream = req->handler_state;
	int64_t		now_ms = clock_monotonic_ms();

	if (stream->nnotify > 0 && now_ms >= stream->notify_ms)
	{
		stream->notify_ms = 0;
		stream->wants_notify = true;
		wait_for_turn(stream);
	}
	if (now_ms >= req->identity_until_ms)
	{
		const StoreVersion *v = store_pin();
		StreamWatch *next;

		for (StreamWatch *sw = stream->first; sw != NULL; sw = next)
		{
			ErrCode		error = still_allowed(&sw->watch, v);

			next = sw->next;
			if (error == ERR_NONE)
				continue;
			watch_stop(&sw->watch);
			on_ended(&sw->watch, v, error);
		}
		store_unpin();
	}
	set_timer(stream);
	return REQ_PENDING;
}

/* ---- texts ---- */

/* an error as a Go client prints it, which is what clients compare */
static const char *
reason_of(WatchStream *stream, ErrCode error)
{
	static char text[256];
	const ErrInfo *info = err_info(error);

	snprintf(text, sizeof(text), "rpc error: code = %s desc = %s",
			 rpcstats_code_name(info->grpc_code), info->text);
	return text;
}
