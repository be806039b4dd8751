/*
 * metrics.c
 *	  /metrics: what the server counts and how it stands, in Prometheus' text
 *	  format.
 *
 * Names are etcd's where they mean the same (etcd-server-features.md section
 * 6), claviger_... otherwise.  Everything comes from shared memory, one pinned
 * version for all that concerns the store; no user name, key or token is in it.
 */
#include "server.h"

/* lib and utils */
#include "utils/guc.h"

/* this layer and below */
#include "alarm/alarm.h"
#include "dispatch/dispatch.h"
#include "dispatch/rpcstats.h"
#include "gateway/exchange.h"
#include "gateway/metrics.h"
#include "storage/ipc/control.h"

/* all that the numbers are taken from, at one moment */
typedef struct Sight
{
	const StoreVersion *v;
	const RaftStatus *status;
	uint32_t	slots[SLOT_DEAD + 1];	/* backends by state */
	uint64_t	streams;
	uint64_t	watches;
} Sight;

typedef struct Gauge
{
	const char *name;
	const char *help;
	uint64_t	(*get) (const Sight *s);
} Gauge;

#define GAUGE_GET(name, expression) \
	static uint64_t \
	name(const Sight *s) \
	{ \
		return (uint64_t) (expression); \
	}

GAUGE_GET(get_has_leader, atomic_load(&s->status->leader_id) != 0)
GAUGE_GET(get_is_leader, atomic_load(&s->status->leader_id) != 0 &&
		  atomic_load(&s->status->leader_id) ==
		  atomic_load(&s->status->member_id))
GAUGE_GET(get_is_learner, atomic_load(&s->status->is_learner))
GAUGE_GET(get_committed, atomic_load(&s->status->commit_index))
GAUGE_GET(get_applied, s->v->applied_index)
GAUGE_GET(get_quota, guc_effective_quota())
GAUGE_GET(get_db_size, atomic_load(&s->status->db_size_bytes))
GAUGE_GET(get_live_bytes, s->v->live_bytes)
GAUGE_GET(get_store_used, atomic_load(&s->status->store_used_bytes))
GAUGE_GET(get_store_retired, atomic_load(&s->status->store_retired_bytes))
GAUGE_GET(get_revision, s->v->kv_revision)
GAUGE_GET(get_compacted, s->v->compacted_revision)
GAUGE_GET(get_auth_revision, s->v->auth_revision)
GAUGE_GET(get_keys, s->v->keys.nitems)
GAUGE_GET(get_live_keys, s->v->live_keys)
GAUGE_GET(get_auth_enabled, s->v->auth_enabled)
GAUGE_GET(get_users, s->v->users.nitems)
GAUGE_GET(get_roles, s->v->roles.nitems)
GAUGE_GET(get_leases, s->v->leases.nitems)
GAUGE_GET(get_term, atomic_load(&s->status->term))
GAUGE_GET(get_streams, s->streams)
GAUGE_GET(get_watches, s->watches)
GAUGE_GET(get_watch_ranges, atomic_load(&s->status->watch_ranges))
GAUGE_GET(get_max_connections, guc_max_connections)

/* begun and not ended */
static uint64_t
get_watch_streams(const Sight *s)
{
	RpcStats	stats;
	uint64_t	ended = 0;

	rpcstats_get(RPC_WATCH_WATCH, &stats);
	for (int code = 0; code < RPCSTATS_CODES; code++)
		ended += stats.handled[code];
	return stats.started > ended ? stats.started - ended : 0;
}

/* behind commit, proposals wait for their turn in apply */
static uint64_t
get_pending(const Sight *s)
{
	uint64_t	last = atomic_load(&s->status->last_index);

	return last > s->v->applied_index ? last - s->v->applied_index : 0;
}

static const Gauge gauges[] = {
	{"etcd_server_has_leader", "Whether a leader is known: 1 or 0.", get_has_leader},
	{"etcd_server_is_leader", "Whether this member is the leader: 1 or 0.", get_is_leader},
	{"etcd_server_is_learner", "Whether this member is a learner: 1 or 0.", get_is_learner},
	{"etcd_server_proposals_committed_total", "Index of the last committed entry of the log.", get_committed},
	{"etcd_server_proposals_applied_total", "Index of the last applied entry of the log.", get_applied},
	{"etcd_server_proposals_pending", "Entries in the log that are not applied.", get_pending},
	{"etcd_server_quota_backend_bytes", "Quota on stored bytes.", get_quota},
	{"etcd_mvcc_db_total_size_in_bytes", "Size of the tables on disk.", get_db_size},
	{"etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of keys, values and headers that are reachable.", get_live_bytes},
	{"etcd_debugging_mvcc_current_revision", "Revision of the store.", get_revision},
	{"etcd_debugging_mvcc_compact_revision", "Revision of the last compaction.", get_compacted},
	{"etcd_debugging_auth_revision", "Revision of users and roles.", get_auth_revision},
	{"etcd_debugging_mvcc_keys_total", "Keys, without those that were deleted.", get_live_keys},
	{"claviger_store_used_bytes", "Bytes of shared memory that hold keys, trees, users and roles, and what waits for readers.", get_store_used},
	{"claviger_store_retired_bytes", "Bytes of it that nobody can reach any more, but readers that began earlier.", get_store_retired},
	{"claviger_store_keys", "Keys in the index; deleted ones until they are compacted.", get_keys},
	{"claviger_auth_enabled", "Whether authentication is on: 1 or 0.", get_auth_enabled},
	{"claviger_users", "Users.", get_users},
	{"claviger_roles", "Roles.", get_roles},
	{"claviger_leases", "Leases.", get_leases},
	{"claviger_raft_term", "Term of the member.", get_term},
	{"etcd_debugging_mvcc_watcher_total", "Watches.", get_watches},
	{"etcd_debugging_mvcc_watch_stream_total", "Streams of watches.", get_watch_streams},
	{"claviger_streams", "Requests and streams that are open.", get_streams},
	{"claviger_watch_ranges", "Ranges of keys that connections watch.", get_watch_ranges},
	{"claviger_max_connections", "Setting max_connections.", get_max_connections},
};

static void look(Sight *s);
static void put_gauges(Buf *out, const Sight *s);
static void put_names(Buf *out, const Sight *s);
static void put_alarms(Buf *out, const Sight *s);
static void put_connections(Buf *out, const Sight *s);
static void put_counters(Buf *out);
static void put_histograms(Buf *out);
static void put_rpcs(Buf *out);
static void put_rpc_counter(Buf *out, const char *name, const char *help,
							uint64_t (*get) (const RpcStats *stats));
static void put_rpc_handled(Buf *out);
static void put_rpc_times(Buf *out);
static void put_buckets(Buf *out, const char *name, const char *labels,
						uint64_t first_us, uint32_t nbuckets,
						const HistogramValues *values);
static const char *kind_name(RpcKind kind);

void
metrics_write(Buf *out)
{
	Sight		s = {.v = store_pin(), .status = store_raft_status()};

	look(&s);
	put_gauges(out, &s);
	put_names(out, &s);
	put_alarms(out, &s);
	put_connections(out, &s);
	store_unpin();
	put_counters(out);
	put_histograms(out);
	put_rpcs(out);
	metrics_write_process(out);
}

void
metrics_put_head(Buf *out, const char *name, const char *type,
				 const char *help)
{
	buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void
look(Sight *s)
{
	for (uint32_t i = 0; i < control_sizes()->nslots; i++)
	{
		const ProcSlot *slot = control_slot((int) i);
		uint32_t	state = atomic_load_explicit(&slot->state,
												 memory_order_relaxed);

		if (state > SLOT_DEAD || state == SLOT_FREE)
			continue;
		s->slots[state]++;
		s->watches += atomic_load_explicit(&slot->nwatches,
										   memory_order_relaxed);
		s->streams += atomic_load_explicit(&slot->nstreams,
										   memory_order_relaxed);
	}
}

/* ---- how it stands ---- */

static void
put_gauges(Buf *out, const Sight *s)
{
	for (size_t i = 0; i < lengthof(gauges); i++)
	{
		metrics_put_head(out, gauges[i].name, "gauge", gauges[i].help);
		buf_printf(out, "%s %" PRIu64 "\n", gauges[i].name, gauges[i].get(s));
	}
}

static void
put_names(Buf *out, const Sight *s)
{
	metrics_put_head(out, "etcd_server_id", "gauge",
					 "1 for the id of this member, in hexadecimal.");
	buf_printf(out, "etcd_server_id{server_id=\"%" PRIx64 "\"} 1\n",
			   atomic_load(&s->status->member_id));
	metrics_put_head(out, "etcd_server_version", "gauge",
					 "1 for the release of etcd whose API this is.");
	buf_printf(out, "etcd_server_version{server_version=\"%s\"} 1\n",
			   ETCD_API_VERSION);
	metrics_put_head(out, "etcd_cluster_version", "gauge",
					 "1 for the version of the cluster.");
	/* etcd leaves out the last part here */
	buf_printf(out, "etcd_cluster_version{cluster_version=\"%.*s\"} 1\n",
			   (int) (strrchr(ETCD_CLUSTER_VERSION, '.') -
					  (const char *) ETCD_CLUSTER_VERSION),
			   ETCD_CLUSTER_VERSION);
	metrics_put_head(out, "claviger_version", "gauge",
					 "1 for the version of the server.");
	buf_printf(out, "claviger_version{version=\"%s\"} 1\n", CLAVIGER_VERSION);
}

static void
put_alarms(Buf *out, const Sight *s)
{
	static const AlarmType types[] = {ALARM_NO_SPACE, ALARM_CORRUPT};

	metrics_put_head(out, "etcd_debugging_server_alarms", "gauge",
					 "Whether an alarm is on, for any member: 1 or 0.");
	for (size_t i = 0; i < lengthof(types); i++)
		buf_printf(out, "etcd_debugging_server_alarms{server_id=\"%" PRIx64
				   "\",alarm_type=\"%s\"} %d\n",
				   atomic_load(&s->status->member_id), alarm_name(types[i]),
				   alarm_is_on(s->v, types[i]));
}

static void
put_connections(Buf *out, const Sight *s)
{
	static const char name[] = "claviger_processes";

	metrics_put_head(out, name, "gauge",
					 "Processes with a slot: one for each connection, and those of the server itself.");
	buf_printf(out, "%s{state=\"starting\"} %u\n", name,
			   s->slots[SLOT_STARTING]);
	buf_printf(out, "%s{state=\"handshake\"} %u\n", name,
			   s->slots[SLOT_HANDSHAKE]);
	buf_printf(out, "%s{state=\"serving\"} %u\n", name,
			   s->slots[SLOT_IDLE] + s->slots[SLOT_ACTIVE]);
}

/* ---- what was counted ---- */

static void
put_counters(Buf *out)
{
	for (int i = 0; i < COUNTER_COUNT; i++)
	{
		metrics_put_head(out, counter_name(i), "counter", counter_help(i));
		buf_printf(out, "%s %" PRIu64 "\n", counter_name(i), counter_get(i));
	}
}

static void
put_histograms(Buf *out)
{
	for (int i = 0; i < HISTOGRAM_COUNT; i++)
	{
		const HistogramInfo *info = histogram_info(i);
		HistogramValues values;

		histogram_get(i, &values);
		metrics_put_head(out, info->name, "histogram", info->help);
		put_buckets(out, info->name, "", info->first_us, info->nbuckets,
					&values);
	}
}

static uint64_t
get_started(const RpcStats *stats)
{
	return stats->started;
}

static uint64_t
get_received(const RpcStats *stats)
{
	return stats->received;
}

static uint64_t
get_sent(const RpcStats *stats)
{
	return stats->sent;
}

static void
put_rpcs(Buf *out)
{
	put_rpc_counter(out, "grpc_server_started_total",
					"Calls begun, in JSON too.", get_started);
	put_rpc_counter(out, "grpc_server_msg_received_total",
					"Messages received.", get_received);
	put_rpc_counter(out, "grpc_server_msg_sent_total",
					"Messages sent.", get_sent);
	put_rpc_handled(out);
	if (guc_metrics_are_extensive())
		put_rpc_times(out);
}

static void
put_rpc_counter(Buf *out, const char *name, const char *help,
				uint64_t (*get) (const RpcStats *stats))
{
	metrics_put_head(out, name, "counter", help);
	for (int id = RPC_NONE + 1; id < RPC_COUNT; id++)
	{
		const RpcInfo *rpc = rpc_info(id);
		RpcStats	stats;

		rpcstats_get(id, &stats);
		buf_printf(out, "%s{grpc_method=\"%s\",grpc_service=\"%s\","
				   "grpc_type=\"%s\"} %" PRIu64 "\n", name, rpc->method,
				   rpc->service, kind_name(rpc->kind), get(&stats));
	}
}

static void
put_rpc_handled(Buf *out)
{
	metrics_put_head(out, "grpc_server_handled_total", "counter",
					 "Calls ended, by their code.");
	for (int id = RPC_NONE + 1; id < RPC_COUNT; id++)
	{
		const RpcInfo *rpc = rpc_info(id);
		RpcStats	stats;

		rpcstats_get(id, &stats);
		for (int code = 0; code < RPCSTATS_CODES; code++)
		{
			/*
			 * A thousand lines of 0 would tell nothing; but a dashboard that
			 * subtracts ended calls from begun ones needs one to begin with.
			 */
			if (stats.handled[code] == 0 && code != 0)
				continue;
			buf_printf(out, "grpc_server_handled_total{grpc_code=\"%s\","
					   "grpc_method=\"%s\",grpc_service=\"%s\","
					   "grpc_type=\"%s\"} %" PRIu64 "\n",
					   rpcstats_code_name(code), rpc->method, rpc->service,
					   kind_name(rpc->kind), stats.handled[code]);
		}
	}
}

static void
put_rpc_times(Buf *out)
{
	static const char name[] = "grpc_server_handling_seconds";

	metrics_put_head(out, name, "histogram",
					 "Time from the request to its end.");
	for (int id = RPC_NONE + 1; id < RPC_COUNT; id++)
	{
		const RpcInfo *rpc = rpc_info(id);
		char		labels[200];
		RpcStats	stats;

		rpcstats_get(id, &stats);
		if (stats.started == 0)
			continue;
		snprintf(labels, sizeof(labels), "grpc_method=\"%s\","
				 "grpc_service=\"%s\",grpc_type=\"%s\"", rpc->method,
				 rpc->service, kind_name(rpc->kind));
		put_buckets(out, name, labels, RPCSTATS_FIRST_US, RPCSTATS_BUCKETS,
					&stats.times);
	}
}

/* Bounds and counts are cumulative; labels are without braces, or empty. */
static void
put_buckets(Buf *out, const char *name, const char *labels, uint64_t first_us,
			uint32_t nbuckets, const HistogramValues *values)
{
	const char *comma = labels[0] == '\0' ? "" : ",";
	char		braced[256] = "";
	uint64_t	sum = 0;

	for (uint32_t i = 0; i < nbuckets; i++)
	{
		sum += values->counts[i];
		buf_printf(out, "%s_bucket{%s%sle=\"%g\"} %" PRIu64 "\n", name, labels,
				   comma, (double) (first_us << i) / 1e6, sum);
	}
	sum += values->counts[nbuckets];
	buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels,
			   comma, sum);
	if (labels[0] != '\0')
		snprintf(braced, sizeof(braced), "{%s}", labels);
	buf_printf(out, "%s_sum%s %.6f\n", name, braced,
			   (double) values->sum_us / 1e6);
	buf_printf(out, "%s_count%s %" PRIu64 "\n", name, braced, sum);
}

static const char *
kind_name(RpcKind kind)
{
	switch (kind)
	{
		case RPC_SERVER_STREAM:
			return "server_stream";
		case RPC_BIDI:
			return "bidi_stream";
		default:
			return "unary";
	}
}
