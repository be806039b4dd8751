/*
 * consensus.c
 *	  The consensus thread: takes submissions, steps the engine, hands
 *	  entries to the log and to apply.
 *
 *	  rings --> batch --> engine_submit --> inflight[] and log thread
 *	                      engine_persisted <-- log thread
 *	                      commit index --> inflight[] to apply thread
 *	                      engine_compacted <-- persist thread
 *
 * It owns the engine, the vote file and the entries between proposal and
 * commit (inflight, a circular array by index).  It waits in one place only,
 * for descriptors and the engine's deadline, and never for a disk (but for a
 * vote, which must be stored before anything else may happen).
 *
 * Memory: when too much is proposed and not yet applied, the rings are left
 * alone until apply has caught up; backends whose rings are full then stop
 * reading from their clients.
 *
 * What a backend submits is input from outside.  An entry that cannot be
 * decoded would be a PANIC in apply, on every member and after every restart,
 * so each is decoded before it is proposed.
 *
 * There are no peers yet.  Their sockets will be descriptors of this loop,
 * what they send goes through the engine's guards (raft/engine_libraft.c), and
 * SUBMIT_READ waits for a round of them in answer_reads().
 */
#include "server.h"

/* system */
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/injection.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "common/logop.h"
#include "lease/lease.h"
#include "lease/renewal.h"
#include "storage/bdb/persist.h"
#include "storage/ipc/control.h"
#include "storage/ipc/ring.h"
#include "storage/snap/store.h"
#include "worker_internal.h"

/* one engine_submit() takes so much at most */
#define BATCH_ENTRIES 1024
#define BATCH_BYTES ((uint64_t) 8 * 1024 * 1024)
/* proposed and not yet applied; above, the rings have to wait */
#define MAX_PENDING_ENTRIES 10000
#define MAX_PENDING_BYTES ((uint64_t) 64 * 1024 * 1024)
/* a look at the clock at least so often */
#define MAX_SLEEP_MS 1000
#define MAX_EVENTS 16

typedef struct Waiter
{
	uint32_t	slot;
	uint64_t	generation;
	uint64_t	request_id;
} Waiter;

typedef struct Consensus
{
	RaftEngine *engine;
	EngineRole	role;
	uint64_t	term;
	const char *log_dir;
	int			death_fd;
	int			epoll_fd;
	int			signal_fd;
	MemContext *scratch;		/* for looking into one submission */

	/* proposed, not yet committed */
	RaftEntry **inflight;		/* circular, by index */
	uint32_t	inflight_cap;	/* power of two */
	uint64_t	first_inflight; /* index of the oldest */
	uint64_t	next_index;

	/* the first entry of the running term: reads wait until it is applied */
	uint64_t	term_first_index;
	bool		may_read;		/* it has been */

	Waiter	   *reads;			/* linearizable reads that wait for that */
	uint32_t	nreads;
	uint32_t	cap_reads;

	uint64_t	own_id;
	bool		has_published;	/* has looked whether it must, after start */
	uint64_t	compacted;
	bool		is_throttled;
	bool		is_stopping;
} Consensus;

static Consensus me;

/* atomic: any thread writes it */
static int	wake_fd = -1;

/* atomic: written by the persist thread, index last */
static _Atomic uint64_t durable_term;
static _Atomic uint64_t durable_index;

static void open_descriptors(void);
static void poll_fd(int fd, uint32_t events);
static void wait_for_events(bool has_more);
static int	sleep_ms(void);
static void read_signals(void);
static void reload(void);
static void take_results(void);
static void take_submissions(bool *has_more);
static bool log_is_busy(void);
static bool may_take(void);
static bool take_one(const Submission *s, const Waiter *who, RaftEntry **batch,
					 uint32_t *n);
static bool logop_is_acceptable(const Submission *s, uint32_t slot,
								LogOp *op);
static bool is_too_early(const LogOp *op);
static void renew_lease(const Submission *s, const Waiter *who);
static void defragment(const Waiter *who);
static void propose(RaftEntry **batch, uint32_t n);
static void propose_publish(void);
static void follow(const EngineUpdate *update, RaftEntry **made);
static void take_entries(const EngineUpdate *update, RaftEntry **made);
static void hand_to_apply(uint64_t commit_index);
static void note_readiness(void);
static void answer_reads(void);
static void refuse(const Waiter *who, ErrCode error);
static void inflight_add(RaftEntry *entry);
static RaftEntry **inflight_at(uint64_t index);
static uint64_t now_ms(void);

void
consensus_init(const ConsensusStart *start)
{
	EngineUpdate update;
	char		error[1024];

	me.log_dir = start->log_dir;
	me.death_fd = start->death_fd;
	me.own_id = start->engine.id;
	me.scratch = mcx_create(NULL, "submission");
	me.first_inflight = me.next_index = start->engine.applied_index + 1;
	open_descriptors();
	for (uint32_t i = 0; i < start->nreplay; i++)
	{
		applythread_note_proposed(start->replay[i]);
		inflight_add(start->replay[i]);
	}
	me.engine = engine_create(&start->engine, now_ms(), &update, error,
							  sizeof(error));
	if (me.engine == NULL)
		elog_fatal_hint(NULL, "Restore the data directory from a backup, or "
						"remove it and let the member join again.",
						"could not start the raft engine: %s", error);
	follow(&update, NULL);
}

void
consensus_run(void)
{
	bool		has_more = false;

	/* as the other threads, for top and perf */
	(void) pthread_setname_np(pthread_self(), "clav consensus");
	for (;;)
	{
		wait_for_events(has_more);
		take_results();
		take_submissions(&has_more);
		if (now_ms() >= engine_deadline_ms(me.engine))
		{
			EngineUpdate update;

			engine_tick(me.engine, now_ms(), &update);
			follow(&update, NULL);
		}
		note_readiness();
		if (me.is_stopping && me.first_inflight == me.next_index &&
			applythread_pending_entries() == 0)
			break;
	}
	engine_destroy(me.engine);
	mcx_destroy(me.scratch);
}

void
consensus_wake(void)
{
	uint64_t	one = 1;

	/* full means that it has been woken often enough */
	if (write(wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		elog_error("could not wake the consensus thread: %s", strerror(errno));
}

void
consensus_durable(uint64_t index, uint64_t term)
{
	atomic_store(&durable_term, term);
	atomic_store(&durable_index, index);
	consensus_wake();
}

/* ---- descriptors ---- */

/* Signals have been blocked by RaftWorkerMain(). */
static void
open_descriptors(void)
{
	sigset_t	signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	me.signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
	wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	me.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (me.signal_fd < 0 || wake_fd < 0 || me.epoll_fd < 0)
		elog_fatal("could not create descriptors: %s", strerror(errno));
	poll_fd(me.signal_fd, EPOLLIN);
	/* nobody reads it: each write makes an edge */
	poll_fd(wake_fd, EPOLLIN | EPOLLET);
	poll_fd(ring_submission_fd(), EPOLLIN);
	poll_fd(ring_attach_fd(), EPOLLIN);
	if (me.death_fd >= 0)
		poll_fd(me.death_fd, EPOLLIN);
}

static void
poll_fd(int fd, uint32_t events)
{
	struct epoll_event event = {.events = events,.data.fd = fd};

	if (epoll_ctl(me.epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		elog_fatal("could not watch a descriptor: %s", strerror(errno));
}

static void
wait_for_events(bool has_more)
{
	struct epoll_event events[MAX_EVENTS];
	uint64_t	count;
	int			n;

	/* while throttled the rings are left alone; apply wakes us */
	if (!has_more && !me.is_throttled && !log_is_busy() &&
		!ring_arm_submissions())
		has_more = true;
	n = epoll_wait(me.epoll_fd, events, MAX_EVENTS, has_more ? 0 : sleep_ms());
	if (n < 0 && errno != EINTR)
		elog_fatal("could not wait for events: %s", strerror(errno));
	for (int i = 0; i < n; i++)
	{
		int			fd = events[i].data.fd;

		if (fd == me.signal_fd)
			read_signals();
		else if (fd == ring_attach_fd())
			ring_accept_attachments();
		else if (fd == ring_submission_fd() &&
				 read(fd, &count, sizeof(count)) < 0)
			(void) 0;			/* EAGAIN: another reader cannot be */
		else if (fd == me.death_fd)
		{
			/* the store goes with it; the log has all that was promised */
			elog_error("the postmaster is gone: ending at once");
			_exit(ELOG_EXIT_FATAL);
		}
	}
}

static int
sleep_ms(void)
{
	uint64_t	now = now_ms();
	uint64_t	deadline = engine_deadline_ms(me.engine);

	if (deadline <= now)
		return 0;
	return deadline - now > MAX_SLEEP_MS ? MAX_SLEEP_MS : (int) (deadline - now);
}

static void
read_signals(void)
{
	struct signalfd_siginfo info;

	while (read(me.signal_fd, &info, sizeof(info)) == (ssize_t) sizeof(info))
	{
		if (info.ssi_signo == SIGHUP)
			reload();
		else
			me.is_stopping = true;
	}
}

static void
reload(void)
{
	char		error[1024];

	/* the postmaster has reported mistakes already */
	(void) guc_reload(error, sizeof(error));
}

/* ---- what the other threads have done ---- */

static void
take_results(void)
{
	EngineUpdate update;
	uint64_t	index;
	uint64_t	term;
	Buf			configuration;

	if (logthread_take_persisted(&index, &term))
	{
		engine_persisted(me.engine, now_ms(), index, term, &update);
		follow(&update, NULL);
	}
	buf_init(&configuration, NULL);
	if (applythread_take_configuration(&index, &configuration))
	{
		engine_configuration_applied(me.engine, now_ms(), index,
									 buf_bytes(&configuration), &update);
		follow(&update, NULL);
	}
	buf_free(&configuration);

	index = atomic_load(&durable_index);
	if (index > me.compacted)
	{
		uint64_t	keep = (uint64_t) guc_snapshot_catchup_entries;

		/*
		 * The persist thread may be storing the next pair just now: an index
		 * with the next one's term is not in the log, and is ignored.
		 */
		me.compacted = index;
		(void) INJECTION_POINT("consensus-before-compact");
		engine_compacted(me.engine, now_ms(), index,
						 atomic_load(&durable_term), (uint32_t) keep, &update);
		follow(&update, NULL);
		(void) INJECTION_POINT("consensus-compacted");
		if (index > keep)
			logthread_trim(index - keep + 1);
	}
}

/* ---- submissions ---- */

static void
take_submissions(bool *has_more)
{
	RaftEntry  *batch[BATCH_ENTRIES];
	uint64_t	bytes = 0;
	uint32_t	n = 0;
	uint32_t	taken = 0;
	Submission	s;
	Waiter		who;

	*has_more = false;
	while (!log_is_busy() && may_take())
	{
		if (!ring_submission_next(&who.slot, &who.generation, &s))
			break;
		who.request_id = s.request_id;
		if (take_one(&s, &who, batch, &n))
			bytes += entry_bytes(batch[n - 1]);
		if (n == BATCH_ENTRIES || bytes >= BATCH_BYTES ||
			++taken == 4 * BATCH_ENTRIES)
		{
			*has_more = true;
			break;
		}
	}
	if (n > 0)
		propose(batch, n);
	if (me.role == ENGINE_LEADER && me.may_read && !me.has_published)
		propose_publish();
}

/*
 * A lone voter leaves what comes in the rings while the log is being synced: it
 * could not be written sooner, and backends that submit need not wake us.  What
 * has gathered is the next batch.  With other voters there are reads among the
 * submissions that need not wait for the disk, and peers that can begin.
 */
static bool
log_is_busy(void)
{
	return me.first_inflight < me.next_index &&
		atomic_load(&store_raft_status()->reads_are_local);
}

/* Is there room for more?  If not, apply will wake us when there is. */
static bool
may_take(void)
{
	bool		is_full = applythread_pending_entries() >= MAX_PENDING_ENTRIES ||
		applythread_pending_bytes() >= MAX_PENDING_BYTES;

	if (is_full && !me.is_throttled)
	{
		me.is_throttled = true;
		applythread_want_wakeups(true);
		return may_take();
	}
	/* half empty, so that it does not go to and fro with each batch */
	if (me.is_throttled &&
		applythread_pending_entries() < MAX_PENDING_ENTRIES / 2 &&
		applythread_pending_bytes() < MAX_PENDING_BYTES / 2)
		me.is_throttled = false;
	return !me.is_throttled;
}

/* True if it became an entry of the batch; else it is answered or waits. */
static bool
take_one(const Submission *s, const Waiter *who, RaftEntry **batch,
		 uint32_t *n)
{
	RaftEntry  *entry;
	LogOp		op;

	/* not of the log: whatever the role */
	if (s->kind == SUBMIT_WATCH)
		applythread_watch(who->slot, who->generation, who->request_id,
						  s->payload);
	else if (s->kind == SUBMIT_DEFRAGMENT)
		defragment(who);
	else if (me.is_stopping)
		refuse(who, ERR_STOPPED);
	else if (me.role != ENGINE_LEADER)
	{
		if (s->kind == SUBMIT_LOGOP)
			counter_add(COUNTER_PROPOSALS_FAILED, 1);
		refuse(who, ERR_NO_LEADER);
	}
	else if (s->kind == SUBMIT_READ)
	{
		if (me.nreads == me.cap_reads)
		{
			me.cap_reads = me.cap_reads == 0 ? 64 : me.cap_reads * 2;
			me.reads = xrealloc(me.reads, me.cap_reads * sizeof(*me.reads));
		}
		me.reads[me.nreads++] = *who;
	}
	else if (s->kind == SUBMIT_LEASE_RENEW)
		renew_lease(s, who);
	else if (s->kind != SUBMIT_LOGOP)
		refuse(who, ERR_UNIMPLEMENTED);
	else if (!logop_is_acceptable(s, who->slot, &op))
	{
		elog_error("a backend submitted an operation that makes no sense: "
				   "slot %u, request %" PRIu64 ", %zu bytes", who->slot,
				   who->request_id, s->payload.len);
		refuse(who, ERR_INTERNAL);
	}
	else if (is_too_early(&op))
		refuse(who, ERR_LEASE_EXIST);
	else
	{
		entry = entry_create(s->payload);
		entry->has_waiter = true;
		entry->slot = who->slot;
		entry->generation = who->generation;
		entry->request_id = who->request_id;
		batch[(*n)++] = entry;
		return true;
	}
	return false;
}

/* Memory by the apply thread, tables by the persist thread; any member. */
static void
defragment(const Waiter *who)
{
	applythread_trim();
	ring_complete(who->slot, who->generation, &(Completion) {
		.request_id = who->request_id,
		.count = (int64_t) persist_defragment(),
	});
}

/*
 * What apply could not decode would end the worker now and after each
 * restart.  Only the server itself may act as the server: the auxiliary
 * processes, whose slots the postmaster has marked.
 */
static bool
logop_is_acceptable(const Submission *s, uint32_t slot, LogOp *op)
{
	mcx_reset(me.scratch);
	if (s->payload.len == 0 || !logop_decode(s->payload, op, me.scratch) ||
		op->kind == LOGOP_MEMBER_PUBLISH)
		return false;
	return op->identity.kind != IDENTITY_INTERNAL ||
		atomic_load(&control_slot((int) slot)->is_internal);
}

/*
 * The lessor wants to revoke a lease whose time is not over: a keepalive came
 * in between.  If it is over, no keepalive can come any more.
 */
static bool
is_too_early(const LogOp *op)
{
	const LeaseEntry *lease;
	bool		is_early;

	if (op->kind != LOGOP_LEASE_REVOKE ||
		op->identity.kind != IDENTITY_INTERNAL)
		return false;
	lease = lease_find(store_pin(), op->lease.id);
	is_early = lease != NULL && !lease_expire(lease, clock_monotonic_ms());
	store_unpin();
	return is_early;
}

/*
 * Carried out right here: a deadline is an atomic word, and a queue to the
 * apply thread would have to be bounded.  In the rings keepalives take turns
 * with what others submit.
 */
static void
renew_lease(const Submission *s, const Waiter *who)
{
	const StoreVersion *v = store_pin();
	Completion	done = {
		.request_id = who->request_id,
		.revision = v->kv_revision,
	};
	LeaseRenewal renewal;

	if (!me.may_read)
		done.error = ERR_NO_LEADER;
	else if (!lease_renewal_decode(s->payload, &renewal))
		done.error = ERR_INTERNAL;
	else
		done.error = lease_renewal_execute(v, &renewal, clock_monotonic_ms(),
										   &done.count);
	store_unpin();
	if (done.count > 0)
		counter_add(COUNTER_LEASES_RENEWED, 1);
	(void) INJECTION_POINT("consensus-lease-renewed");
	ring_complete(who->slot, who->generation, &done);
}

static void
propose(RaftEntry **batch, uint32_t n)
{
	Bytes		data[BATCH_ENTRIES];
	EngineUpdate update;

	for (uint32_t i = 0; i < n; i++)
		data[i] = batch[i]->log.data;
	if (!engine_submit(me.engine, now_ms(), data, n, &update))
	{
		/* role is as of the last step, so this is a transfer under way */
		counter_add(COUNTER_PROPOSALS_FAILED, n);
		for (uint32_t i = 0; i < n; i++)
		{
			if (batch[i]->has_waiter)
				refuse(&(Waiter) {batch[i]->slot, batch[i]->generation,
								  batch[i]->request_id}, ERR_NO_LEADER);
			free(batch[i]);
		}
		ring_flush_completions();
		return;
	}
	(void) INJECTION_POINT("consensus-proposed");
	counter_add(COUNTER_PROPOSALS, n);
	follow(&update, batch);
}

/* Once after the start, when what the log says of us has been applied. */
static void
propose_publish(void)
{
	RaftEntry  *entry = publish_entry(store_pin(), me.own_id);

	store_unpin();
	me.has_published = true;
	if (entry != NULL)
		propose(&entry, 1);
}

/* ---- what the engine wants ---- */

/*
 * Carry out an update, in the order that it demands: term and vote, entries,
 * commit.  made: the entries behind update->entries, or NULL if the engine
 * made them itself.
 */
static void
follow(const EngineUpdate *update, RaftEntry **made)
{
	RaftStatus *status = store_raft_status();

	if (update->vote_changed)
	{
		int			rc = vote_store(me.log_dir, update->term,
									update->voted_for);

		/*
		 * PANIC: whether the vote is on disk is unknown, and a member that
		 * forgets a vote can make a second leader.
		 */
		if (rc != 0)
			elog_panic("could not store term %" PRIu64 " and vote: %s",
					   update->term, strerror(rc));
	}
	if (update->term != me.term)
	{
		me.term = update->term;
		me.term_first_index = 0;
		me.may_read = false;
	}
	if (me.role == ENGINE_LEADER && update->role != ENGINE_LEADER)
		atomic_store(&status->reads_are_local, false);
	me.role = update->role;
	atomic_store(&status->term, update->term);
	if (update->leader_id != 0 &&
		update->leader_id != atomic_load(&status->leader_id))
		counter_add(COUNTER_LEADER_CHANGES, 1);
	atomic_store(&status->leader_id, update->leader_id);
	if (update->nentries > 0)
		take_entries(update, made);
	if (update->commit_index >= me.first_inflight)
		hand_to_apply(update->commit_index);
}

static void
take_entries(const EngineUpdate *update, RaftEntry **made)
{
	uint64_t	first = update->entries[0].index;
	RaftEntry **entries = xmalloc(update->nentries * sizeof(*entries));

	/*
	 * PANIC: only another leader can make us replace entries, and there is
	 * none; whoever waits for them would get another entry's answer.
	 */
	if (first != me.next_index)
		elog_panic("the raft engine appends at index %" PRIu64 " instead of %"
				   PRIu64, first, me.next_index);
	for (uint32_t i = 0; i < update->nentries; i++)
	{
		const LogEntry *log = &update->entries[i];
		RaftEntry  *entry = made != NULL ? made[i] : entry_create(log->data);

		entry->log.index = log->index;
		entry->log.term = log->term;
		entry->log.type = log->type;
		entries[i] = entry;
		applythread_note_proposed(entry);
		inflight_add(entry);
		if (me.term_first_index == 0 && log->term == me.term)
			me.term_first_index = log->index;
	}
	atomic_store(&store_raft_status()->last_index, me.next_index - 1);
	logthread_append(entries, update->nentries);
	free(entries);
}

static void
hand_to_apply(uint64_t commit_index)
{
	RaftEntry  *first = NULL;
	RaftEntry  *last = NULL;

	Assert(commit_index < me.next_index);
	for (; me.first_inflight <= commit_index; me.first_inflight++)
	{
		RaftEntry  *entry = *inflight_at(me.first_inflight);

		entry->next = NULL;
		if (last == NULL)
			first = entry;
		else
			last->next = entry;
		last = entry;
	}
	(void) INJECTION_POINT("consensus-committed");
	atomic_store(&store_raft_status()->commit_index, commit_index);
	applythread_submit(first, last);
}

/* ---- reads ---- */

/*
 * Reads may be served once an entry of our own term is applied: then all that
 * earlier leaders committed is, too.
 */
static void
note_readiness(void)
{
	RaftStatus *status = store_raft_status();

	if (me.role == ENGINE_LEADER && !me.may_read)
	{
		applythread_want_wakeups(true);
		if (me.term_first_index != 0 &&
			engine_has_committed_in_term(me.engine) &&
			applythread_applied() >= me.term_first_index)
		{
			me.may_read = true;
			/* nobody could renew a lease meanwhile */
			lease_promote(store_pin(), clock_monotonic_ms());
			store_unpin();
			atomic_store(&status->reads_are_local,
						 engine_nvoters(me.engine) == 1);
			if (!atomic_load(&status->is_ready))
				elog_info("leader of term %" PRIu64 ", log applied up to index %"
						  PRIu64, me.term, applythread_applied());
			(void) INJECTION_POINT("consensus-before-ready");
			atomic_store(&status->is_ready, true);
			/* there may be something to publish */
			consensus_wake();
		}
	}
	answer_reads();
	applythread_want_wakeups(me.is_throttled || me.is_stopping ||
							 (me.role == ENGINE_LEADER && !me.may_read));
}

/*
 * With one voter nothing is acknowledged before it is published, so whatever
 * was acknowledged before the read came in is in the published version.
 * (Peers: note the commit index, one round to the voters for all that wait,
 * and answer when that index is applied.)
 */
static void
answer_reads(void)
{
	if (me.nreads > 0 && (me.role != ENGINE_LEADER || me.may_read))
	{
		for (uint32_t i = 0; i < me.nreads; i++)
			refuse(&me.reads[i], me.role == ENGINE_LEADER ? ERR_NONE :
				   ERR_NO_LEADER);
		me.nreads = 0;
	}
	/* also for what was refused on the way */
	ring_flush_completions();
}

static void
refuse(const Waiter *who, ErrCode error)
{
	ring_complete(who->slot, who->generation, &(Completion) {
		.request_id = who->request_id,
		.error = error,
	});
}

/* ---- entries between proposal and commit ---- */

static void
inflight_add(RaftEntry *entry)
{
	uint64_t	n = me.next_index - me.first_inflight;

	if (n == me.inflight_cap)
	{
		uint32_t	cap = me.inflight_cap == 0 ? 1024 : me.inflight_cap * 2;
		RaftEntry **grown = xmalloc(cap * sizeof(*grown));

		for (uint64_t i = me.first_inflight; i < me.next_index; i++)
			grown[i & (cap - 1)] = *inflight_at(i);
		free(me.inflight);
		me.inflight = grown;
		me.inflight_cap = cap;
	}
	*inflight_at(me.next_index) = entry;
	me.next_index++;
}

static RaftEntry **
inflight_at(uint64_t index)
{
	return &me.inflight[index & (me.inflight_cap - 1)];
}

static uint64_t
now_ms(void)
{
	return (uint64_t) clock_monotonic_ms();
}
