/*
 * worker.c
 *	  The raft worker process, from its start to its end.
 *
 * Start: tables into store memory, log into memory from where the tables end,
 * threads, engine.  Entries that the tables do not hold are applied as if they
 * had just been committed; nobody waits for them.
 *
 * End in order (SIGTERM): what is proposed is written and applied, the tables
 * get a last checkpoint, and the next start has nothing to replay.  End at
 * once (SIGQUIT, or the postmaster is gone): the log has everything that was
 * acknowledged.
 */
#include "server.h"

/* system */
#include <signal.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "common/logop.h"
#include "member/member.h"
#include "raft/worker.h"
#include "storage/bdb/persist.h"
#include "storage/ipc/control.h"
#include "storage/ipc/ring.h"
#include "storage/snap/store.h"
#include "worker_internal.h"

#define NICE_VALUE (-5)
#define EXIT_AT_ONCE 2
#define RESTORE_HINT "Restore the data directory from a backup, or remove it " \
	"and let the member join again."

/* Entries of the log at start. */
typedef struct Loaded
{
	uint64_t	applied_index;
	LogEntry   *entries;		/* all; data only of those after applied */
	uint32_t	n;
	uint32_t	cap;
	RaftEntry **replay;			/* those after applied */
	uint32_t	nreplay;
	uint32_t	cap_replay;
} Loaded;

static int	death_fd = -1;
static char tables_dir[PATH_MAX];
static char log_dir[PATH_MAX];

static void set_signals(void);
static void exit_at_once(int signo);
static void load_tables(PersistMeta *meta);
static void on_durable(void *arg, uint64_t index, uint64_t term);
static void on_defragmented(void *arg, uint64_t ticket);
static RaftLog *load_log(const PersistMeta *meta, Loaded *loaded);
static void take_entry(void *arg, const LogEntry *entry);
static void start(const PersistMeta *meta, RaftLog *log, Loaded *loaded);
static void own_address(const PersistMeta *meta, char *address);

void
raft_worker_set_death_fd(int fd)
{
	death_fd = fd;
}

void
RaftWorkerMain(int slot)
{
	PersistMeta meta;
	Loaded		loaded;
	RaftLog    *log;

	elog_set_process_name("raft worker");
	set_signals();
	/* everybody waits for this process; without the right it stays as it is */
	(void) setpriority(PRIO_PROCESS, 0, NICE_VALUE);

	store_attach_writer();
	control_attach_slot(slot);
	ring_attach_worker();
	snprintf(tables_dir, sizeof(tables_dir), "%s/tables", guc_data_dir);
	snprintf(log_dir, sizeof(log_dir), "%s/log", guc_data_dir);

	load_tables(&meta);
	log = load_log(&meta, &loaded);
	start(&meta, log, &loaded);
	consensus_run();

	logthread_stop();
	applythread_stop();
	persist_stop();
	log_close(log);
	elog_info("raft worker has stopped");
	_exit(0);
}

/*
 * Threads inherit the mask, so this comes before the first of them: SIGTERM
 * and SIGHUP are read by the consensus thread from a descriptor.  A terminal's
 * SIGINT goes to all processes; ours is the postmaster's to give.
 */
static void
set_signals(void)
{
	struct sigaction at_once = {.sa_handler = exit_at_once};
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	sigset_t	blocked;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigaddset(&blocked, SIGHUP);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	sigaction(SIGQUIT, &at_once, NULL);
	sigaction(SIGINT, &ignore, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
}

static void
exit_at_once(int signo)
{
	_exit(EXIT_AT_ONCE);
}

static void
load_tables(PersistMeta *meta)
{
	PersistOptions options = {
		.ops = &bdb_table_ops,
		.dir = tables_dir,
		.queue_bytes = (uint64_t) guc_persist_queue_bytes,
		.checkpoint_bytes = (uint64_t) guc_checkpoint_bytes,
		.checkpoint_interval_ms = (uint32_t) guc_checkpoint_interval,
		.on_durable = on_durable,
		.on_defragmented = on_defragmented,
	};
	RaftStatus *status = store_raft_status();

	memset(meta, 0, sizeof(*meta));
	persist_open_and_load(&options, meta);
	atomic_store(&status->cluster_id, meta->cluster_id);
	atomic_store(&status->member_id, meta->member_id);
	atomic_store(&status->db_size_bytes, persist_size_bytes());
}

/* Thread: persist. */
static void
on_durable(void *arg, uint64_t index, uint64_t term)
{
	atomic_store(&store_raft_status()->db_size_bytes, persist_size_bytes());
	consensus_durable(index, term);
}

/* Thread: persist. */
static void
on_defragmented(void *arg, uint64_t ticket)
{
	RaftStatus *status = store_raft_status();

	atomic_store(&status->db_size_bytes, persist_size_bytes());
	atomic_store(&status->defragmented, ticket);
}

static RaftLog *
load_log(const PersistMeta *meta, Loaded *loaded)
{
	LogOptions	options = {
		.dir = log_dir,
		.segment_bytes = (uint64_t) guc_raft_log_segment_bytes,
		.cluster_id = meta->cluster_id,
	};
	char		error[2048];
	RaftLog    *log;

	*loaded = (Loaded) {.applied_index = meta->applied_index};
	log = log_load(&options, meta->applied_index, take_entry, loaded, error,
				   sizeof(error));
	if (log == NULL)
		elog_fatal("%s", error);
	elog_info("tables stand at index %" PRIu64 ", log at index %" PRIu64,
			  meta->applied_index, log_last_index(log));
	return log;
}

static void
take_entry(void *arg, const LogEntry *entry)
{
	Loaded	   *loaded = arg;
	LogEntry	kept = *entry;

	kept.data = BYTES_EMPTY;
	if (entry->index > loaded->applied_index)
	{
		RaftEntry  *copy = entry_create(entry->data);

		kept.data = copy->log.data;
		copy->log = kept;
		if (loaded->nreplay == loaded->cap_replay)
		{
			loaded->cap_replay = loaded->cap_replay == 0 ? 1024 :
				loaded->cap_replay * 2;
			loaded->replay = xrealloc(loaded->replay, loaded->cap_replay *
									  sizeof(*loaded->replay));
		}
		loaded->replay[loaded->nreplay++] = copy;
	}
	if (loaded->n == loaded->cap)
	{
		loaded->cap = loaded->cap == 0 ? 1024 : loaded->cap * 2;
		loaded->entries = xrealloc(loaded->entries,
								   loaded->cap * sizeof(*loaded->entries));
	}
	loaded->entries[loaded->n++] = kept;
}

static void
start(const PersistMeta *meta, RaftLog *log, Loaded *loaded)
{
	char		address[ENGINE_ADDRESS_BYTES];
	char		error[1024];
	ConsensusStart s = {
		.engine = {
			.id = meta->member_id,
			.address = address,
			.election_timeout_ms = (uint32_t) guc_election_timeout,
			.heartbeat_ms = (uint32_t) guc_heartbeat_interval,
			.applied_index = meta->applied_index,
			.applied_term = meta->applied_term,
			.configuration = buf_bytes(&meta->configuration),
			.configuration_index = meta->configuration_index,
			.first_index = loaded->n > 0 ? loaded->entries[0].index :
				log_last_index(log) + 1,
			.entries = loaded->entries,
			.nentries = loaded->n,
		},
		.log_dir = log_dir,
		.death_fd = death_fd,
		.replay = loaded->replay,
		.nreplay = loaded->nreplay,
	};

	if (!vote_load(log_dir, &s.engine.term, &s.engine.voted_for, error,
				   sizeof(error)))
		elog_fatal("%s", error);
	own_address(meta, address);
	if (getrandom(&s.engine.seed, sizeof(s.engine.seed), 0) !=
		(ssize_t) sizeof(s.engine.seed))
		elog_fatal("could not get random bytes: %s", strerror(errno));

	logthread_start(log);
	applythread_start(apply_create(&applythread_persist, log_last_index(log)),
					  meta->applied_index);
	persist_start_thread();
	consensus_init(&s);
	free(loaded->entries);
	free(loaded->replay);
}

static void
own_address(const PersistMeta *meta, char *address)
{
	EngineMember members[ENGINE_MAX_MEMBERS];
	uint32_t	n = engine_configuration_decode(buf_bytes(&meta->configuration),
												members, ENGINE_MAX_MEMBERS);

	address[0] = '\0';
	for (uint32_t i = 0; i < n; i++)
	{
		if (members[i].id == meta->member_id)
			memcpy(address, members[i].address, ENGINE_ADDRESS_BYTES);
	}
	if (address[0] == '\0')
		elog_fatal_hint(NULL, RESTORE_HINT, "the tables' cluster configuration "
						"does not name this member");
}
