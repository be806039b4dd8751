/*
 * pending.c
 *	  The requests that wait for the raft worker or the hashing thread.
 *
 * Found by ring id through a small hash table: ids are given out one after the
 * other and at most RING_MAX_OUTSTANDING are out, so the buckets hold about
 * one each.  For expiry they stand in a list too; the earliest moment is kept
 * as a lower bound (taking one out does not move it), so that the event loop
 * asks for it without looking at the list, and the list is walked only when
 * that moment has come.
 *
 * A record for which the ring has no room stands in a line, and goes into the
 * ring when answers have come: whoever filled the ring gets one for each record
 * in it, and the worker makes the room before it answers.  Its request has its
 * ring id all the time; that of a request which has gone meanwhile is not sent.
 */
#include "server.h"

/* lib and utils */
#include "utils/clock.h"
#include "utils/guc.h"

/* this layer and below */
#include "dispatch/pending.h"
#include "storage/ipc/control.h"

/* a record that waits for room in the ring; on the heap */
typedef struct UnsentRecord
{
	struct UnsentRecord *next;
	uint64_t	id;
	SubmitKind	kind;
	size_t		len;
	uint8_t		payload[];
} UnsentRecord;

#define NBUCKETS RING_MAX_OUTSTANDING	/* power of two */

/* what etcd gives a replicated request: 5 s and two elections */
#define REQUEST_TIMEOUT_MS 5000

/*
 * What a login may wait for its hash.  etcd sets no limit but the client's own;
 * when all clients come back at one time the last of them waits for long.
 */
#define HASH_TIMEOUT_MS 60000

static Request *buckets[NBUCKETS];
static Request *first_pending;
static uint32_t npending;
static uint64_t last_ring_id;
static int64_t earliest_ms;		/* meaningful while npending > 0 */
static UnsentRecord *first_unsent;
static UnsentRecord *last_unsent;
static size_t unsent_bytes;

static void line_up(SubmitKind kind, uint64_t id, Bytes payload);
static bool send_record(const UnsentRecord *record);
static void enter(Request *req, int64_t timeout_ms);
static Request **bucket_of(uint64_t ring_id);

void
pending_init(void)
{
	Assert(npending == 0);
	memset(buckets, 0, sizeof(buckets));
	first_pending = NULL;
}

void
pending_submit_ring(Request *req, SubmitKind kind, Bytes payload)
{
	uint64_t	id = ++last_ring_id;
	Request   **bucket = bucket_of(id);

	Assert(!pending_has(req));
	if (first_unsent != NULL || !ring_submit(kind, id, payload))
		line_up(kind, id, payload);
	req->ring_id = id;
	req->ring_kind = kind;
	req->next_in_bucket = *bucket;
	*bucket = req;
	enter(req, REQUEST_TIMEOUT_MS + 2 * guc_election_timeout);
}

void
pending_send_unsent(void)
{
	while (first_unsent != NULL && send_record(first_unsent))
	{
		UnsentRecord *record = first_unsent;

		first_unsent = record->next;
		if (first_unsent == NULL)
			last_unsent = NULL;
		unsent_bytes -= record->len;
		/* the hash of a password, perhaps */
		secret_wipe(record->payload, record->len);
		free(record);
	}
}

size_t
pending_unsent_bytes(void)
{
	return unsent_bytes;
}

ErrCode
pending_submit_hash(Request *req, PendingHash *hash)
{
	ErrCode		error;

	Assert(!pending_has(req));
	hash->req = req;
	hash->job.owner = hash;
	error = hashpool_submit(&hash->job);
	if (error != ERR_NONE)
		return error;
	req->hash = hash;
	enter(req, HASH_TIMEOUT_MS);
	return ERR_NONE;
}

bool
pending_has(const Request *req)
{
	return req->ring_id != 0 || req->hash != NULL;
}

void
pending_forget(Request *req)
{
	if (!pending_has(req))
		return;
	if (req->ring_id != 0)
	{
		Request   **link = bucket_of(req->ring_id);

		while (*link != req)
			link = &(*link)->next_in_bucket;
		*link = req->next_in_bucket;
		req->ring_id = 0;
	}
	if (req->hash != NULL)
	{
		req->hash->req = NULL;
		req->hash = NULL;
	}
	if (req->prev_pending != NULL)
		req->prev_pending->next_pending = req->next_pending;
	else
		first_pending = req->next_pending;
	if (req->next_pending != NULL)
		req->next_pending->prev_pending = req->prev_pending;
	npending--;
}

void
pending_give_up(Request *req)
{
	if (req->ring_id != 0 && req->ring_kind == SUBMIT_LOGOP)
		counter_add(COUNTER_PROPOSALS_FAILED, 1);
	pending_forget(req);
}

Request *
pending_find(uint64_t ring_id)
{
	Request    *req = *bucket_of(ring_id);

	while (req != NULL && req->ring_id != ring_id)
		req = req->next_in_bucket;
	return req;
}

Request *
pending_find_expired(int64_t now_ms)
{
	int64_t		earliest = INT64_MAX;

	if (npending == 0 || now_ms < earliest_ms)
		return NULL;
	for (Request *req = first_pending; req != NULL; req = req->next_pending)
	{
		if (req->expires_ms <= now_ms)
			return req;
		if (req->expires_ms < earliest)
			earliest = req->expires_ms;
	}
	earliest_ms = earliest;
	return NULL;
}

int64_t
pending_next_expiry_ms(void)
{
	return npending == 0 ? -1 : earliest_ms;
}

uint32_t
pending_count(void)
{
	return npending;
}

static void
line_up(SubmitKind kind, uint64_t id, Bytes payload)
{
	UnsentRecord *record = xmalloc(sizeof(*record) + payload.len);

	record->next = NULL;
	record->id = id;
	record->kind = kind;
	record->len = payload.len;
	if (payload.len > 0)
		memcpy(record->payload, payload.data, payload.len);
	if (last_unsent != NULL)
		last_unsent->next = record;
	else
		first_unsent = record;
	last_unsent = record;
	unsent_bytes += record->len;
}

/* False if there is still no room; true also if nobody waits for it any more. */
static bool
send_record(const UnsentRecord *record)
{
	return pending_find(record->id) == NULL ||
		ring_submit(record->kind, record->id,
					bytes_make(record->payload, record->len));
}

/* Into the list, with the time from which on nobody waits any longer. */
static void
enter(Request *req, int64_t timeout_ms)
{
	req->expires_ms = clock_coarse_ms() + timeout_ms;
	if (req->deadline_ms > 0 && req->deadline_ms < req->expires_ms)
		req->expires_ms = req->deadline_ms;
	if (npending == 0 || req->expires_ms < earliest_ms)
		earliest_ms = req->expires_ms;

	req->prev_pending = NULL;
	req->next_pending = first_pending;
	if (first_pending != NULL)
		first_pending->prev_pending = req;
	first_pending = req;
	npending++;
}

static Request **
bucket_of(uint64_t ring_id)
{
	return &buckets[ring_id % NBUCKETS];
}
