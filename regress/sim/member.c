/*
 * member.c
 *	  One member: what the raft worker does around the engine, in virtual time.
 *
 * The engine, the log's segments and the vote file are the real ones (the
 * files lie in a memory file system; a write is carried out when its virtual
 * time has come).  Simulated are the disk's time and what a crash leaves of a
 * write, the clock, the tables (an index to start over from) and what carries
 * messages.  The order of things is the worker's: vote stored, entries queued
 * for the disk, messages sent, what is committed applied; a leader sends
 * before its own write.
 */
#include "server.h"

/* system */
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "sim.h"

#define ELECTION_MS 150
#define HEARTBEAT_MS 15
#define SEGMENT_BYTES ((uint64_t) 128 * 1024)
#define CLUSTER_ID 1
/* entries of one message at most */
#define CHUNK_ENTRIES 256

Member		members[MAX_MEMBERS];
Counts		counts;

static uint64_t next_id = 1;
static uint64_t torn_left;		/* bytes that a torn write still gets to disk */

static uint64_t clock_ms(const Member *m);
static void arm_timer(Member *m);
static void follow(Member *m, const EngineUpdate *update);
static void take_entries(Member *m, const EngineUpdate *update);
static void take_messages(Member *m, const EngineUpdate *update);
static void take_install(Member *m, const EngineInstall *install);
static void send_message(Member *m, EngineMessage *message);
static void send_append(Member *m, EngineMessage *message, uint32_t to);
static void send_encoded(Member *m, const EngineMessage *message, uint32_t to);
static bool prepare_snapshot(Member *m, EngineMessage *message);
static void disk_queue(Member *m, DiskOp *op);
static void disk_start(Member *m);
static void disk_drop(Member *m);
static void write_entries(Member *m, DiskOp *op);
static void write_torn(Member *m, const DiskOp *op);
static void write_state(Member *m, const DiskOp *op);
static void apply_up_to(Member *m, uint64_t index);
static void apply_configuration(Member *m, const LogEntry *entry);
static void answer_reads(Member *m);
static void note_history(Member *m, HistoryKind kind, uint64_t index);
static LogOptions log_options(const Member *m, const LogIo *io);
static void load_log(Member *m);
static void remove_segments(const Member *m);
static void keep_entry(void *arg, const LogEntry *entry);
static void entries_truncate(Member *m, uint64_t index);
static void entries_add(Member *m, const LogEntry *entry);
static void entries_forget(Member *m, uint64_t first_kept);
static LogEntry *entry_at(Member *m, uint64_t index);

/* ---- coming and going ---- */

Member *
member_make(Bytes configuration)
{
	uint32_t	slot = 0;
	uint32_t	life;
	Member	   *m;
	LogOptions	log;
	char		error[1024];

	while (slot < MAX_MEMBERS && members[slot].is_used)
		slot++;
	if (slot == MAX_MEMBERS)
		return NULL;
	m = &members[slot];
	life = m->life;
	*m = (Member) {.is_used = true, .id = next_id++, .slot = slot,
		.life = life, .clock_permille = 1000};
	m->clock_offset_ms = between(0, 100000);
	snprintf(m->dir, sizeof(m->dir), "%s/%" PRIu64, options.dir, m->id);
	if (configuration.len > 0)
	{
		m->durable_index = m->durable_term = m->durable_configuration_index = 1;
		m->durable_configuration = configuration;
	}
	log = log_options(m, NULL);
	if (mkdir(m->dir, 0700) != 0 ||
		!log_create(&log, m->durable_index + 1, error, sizeof(error)) ||
		vote_create(m->dir, m->durable_index > 0 ? 1 : 0, 0) != 0)
		violation("could not make %s: %s %s", m->dir, error, strerror(errno));
	return m;
}

void
member_boot(Member *m)
{
	EngineStart start = {
		.id = m->id,
		.address = "own",
		.election_timeout_ms = ELECTION_MS,
		.heartbeat_ms = HEARTBEAT_MS,
		.seed = (uint32_t) rnd(),
		.is_joining = m->durable_index == 0,
		.applied_index = m->durable_index,
		.applied_term = m->durable_term,
		.configuration = m->durable_configuration,
		.configuration_index = m->durable_configuration_index,
	};
	EngineUpdate update;
	char		error[1024];

	network_reset(m->slot);
	m->is_alive = true;
	m->life++;
	m->role = ENGINE_FOLLOWER;
	m->commit_index = 0;
	m->is_installing = m->disk_is_busy = m->apply_is_due = false;
	m->flush_is_due = false;
	m->nout = 0;
	m->paused_until = 0;
	memset(m->reads, 0, sizeof(m->reads));
	m->applied = m->durable_index;
	m->applied_term = m->durable_term;
	m->configuration = m->durable_configuration;
	m->configuration_index = m->durable_configuration_index;
	load_log(m);
	start.first_index = m->first_index;
	start.entries = m->entries;
	start.nentries = m->nentries;
	if (!vote_load(m->dir, &start.term, &start.voted_for, error,
				   sizeof(error)))
		violation("member %" PRIu64 ": %s", m->id, error);
	m->term = start.term;
	note_history(m, HISTORY_RESTART, m->applied);
	trace("%" PRIu64 " starts at %" PRIu64 ", log %" PRIu64 " to %" PRIu64
		  ", term %" PRIu64, m->id, m->applied, m->first_index,
		  m->first_index + m->nentries - 1, start.term);
	m->engine = engine_create(&start, clock_ms(m), &update, error,
							  sizeof(error));
	if (m->engine == NULL)
		violation("member %" PRIu64 " cannot start: %s", m->id, error);
	follow(m, &update);
}

void
member_crash(Member *m)
{
	trace("%" PRIu64 " crashes", m->id);
	counts.crashes++;
	if (m->disk_is_busy && m->disk_head->entries != NULL && chance(500))
		write_torn(m, m->disk_head);
	disk_drop(m);
	log_close(m->log);
	engine_destroy(m->engine);
	m->log = NULL;
	m->engine = NULL;
	m->is_alive = false;
	m->life++;
}

/* it has been removed, and nobody needs it */
void
member_forget(Member *m)
{
	if (m->is_alive)
		member_crash(m);
	m->is_used = false;
}

Member *
member_by_id(uint64_t id)
{
	for (uint32_t i = 0; i < MAX_MEMBERS; i++)
	{
		if (members[i].is_used && members[i].id == id)
			return &members[i];
	}
	return NULL;
}

/* the one of the highest term; an old one may not know yet */
Member *
member_leader(void)
{
	Member	   *leader = NULL;

	for (uint32_t i = 0; i < MAX_MEMBERS; i++)
	{
		Member	   *m = &members[i];

		if (m->is_used && m->is_alive && m->role == ENGINE_LEADER &&
			(leader == NULL || m->term > leader->term))
			leader = m;
	}
	return leader;
}

bool
member_knows(const Member *m, uint64_t id)
{
	EngineMember list[ENGINE_MAX_MEMBERS];
	uint32_t	n = m->configuration.len == 0 ? 0 :
		engine_configuration_decode(m->configuration, list,
									ENGINE_MAX_MEMBERS);

	for (uint32_t i = 0; i < n; i++)
	{
		if (list[i].id == id)
			return true;
	}
	n = m->is_alive ? engine_members(m->engine, list, ENGINE_MAX_MEMBERS) : 0;
	for (uint32_t i = 0; i < n; i++)
	{
		if (list[i].id == id)
			return true;
	}
	return false;
}

/* ---- time ---- */

static uint64_t
clock_ms(const Member *m)
{
	return m->clock_offset_ms + now_us / 1000 * m->clock_permille / 1000;
}

static void
arm_timer(Member *m)
{
	uint64_t	deadline = engine_deadline_ms(m->engine);
	uint64_t	now = clock_ms(m);
	uint64_t	wait_us = deadline <= now ? 1000 :
		(deadline - now) * 1000 * 1000 / m->clock_permille + 1;

	event_at(now_us + wait_us, EVENT_TIMER, m->slot, m->life, ++m->timer,
			 NULL);
}

void
member_on_timer(Member *m)
{
	EngineUpdate update;

	engine_tick(m->engine, clock_ms(m), &update);
	follow(m, &update);
}

/* ---- what the engine wants ---- */

static void
follow(Member *m, const EngineUpdate *update)
{
	if (update->vote_changed &&
		vote_store(m->dir, update->term, update->voted_for) != 0)
		violation("member %" PRIu64 " cannot store its vote", m->id);
	if (update->role == ENGINE_LEADER && m->role != ENGINE_LEADER)
	{
		counts.elections++;
		trace("%" PRIu64 " leads term %" PRIu64, m->id, update->term);
	}
	if (update->term < m->term)
		violation("member %" PRIu64 " goes back in term", m->id);
	m->role = update->role;
	m->term = update->term;
	m->commit_index = update->commit_index;
	if (update->install != NULL)
		take_install(m, update->install);
	if (update->nentries > 0)
		take_entries(m, update);
	if (update->nmessages > 0)
		take_messages(m, update);
	if (!m->is_installing && m->commit_index > m->applied && !m->apply_is_due)
	{
		m->apply_is_due = true;
		event_at(now_us + (chance(800) ? between(0, 300) : between(0, 20 * MS)),
				 EVENT_APPLY, m->slot, m->life, 0, NULL);
	}
	arm_timer(m);
}

static void
take_entries(Member *m, const EngineUpdate *update)
{
	DiskOp	   *op = xcalloc(1, sizeof(*op));

	op->n = update->nentries;
	op->entries = xcalloc(op->n, sizeof(*op->entries));
	entries_truncate(m, update->entries[0].index);
	for (uint32_t i = 0; i < op->n; i++)
	{
		op->entries[i] = update->entries[i];
		op->entries[i].data = bytes_keep(update->entries[i].data);
		entries_add(m, &op->entries[i]);
	}
	disk_queue(m, op);
}

static void
take_messages(Member *m, const EngineUpdate *update)
{
	for (uint32_t i = 0; i < update->nmessages; i++)
	{
		if (m->nout == m->cap_out)
		{
			m->cap_out = m->cap_out == 0 ? 16 : m->cap_out * 2;
			m->out = xrealloc(m->out, m->cap_out * sizeof(*m->out));
		}
		m->out[m->nout++] = update->messages[i];
	}
	if (m->flush_is_due)
		return;
	/* the sockets are mostly ready, but not always */
	m->flush_is_due = true;
	event_at(chance(850) ? now_us : now_us + between(100, 6000), EVENT_FLUSH,
			 m->slot, m->life, 0, NULL);
}

static void
take_install(Member *m, const EngineInstall *install)
{
	DiskOp	   *op = xcalloc(1, sizeof(*op));

	trace("%" PRIu64 " fetches the state at %" PRIu64, m->id, install->index);
	if (install->index > agreed_last)
		violation("member %" PRIu64 " gets a state that is not committed",
				  m->id);
	counts.installs++;
	m->is_installing = true;
	op->install = *install;
	op->install.configuration = bytes_keep(install->configuration);
	m->nentries = 0;
	m->first_index = install->index + 1;
	disk_queue(m, op);
}

/* ---- messages ---- */

void
member_on_flush(Member *m)
{
	EngineMessage *out = m->out;
	uint32_t	n = m->nout;

	/* sending a snapshot may make more of them */
	m->out = NULL;
	m->nout = m->cap_out = 0;
	m->flush_is_due = false;
	for (uint32_t i = 0; i < n; i++)
		send_message(m, &out[i]);
	free(out);
}

static void
send_message(Member *m, EngineMessage *message)
{
	Member	   *to = member_by_id(message->to);

	if (to == NULL)
		return;
	if (message->kind == MESSAGE_APPEND)
		send_append(m, message, to->slot);
	else if (message->kind != MESSAGE_SNAPSHOT || prepare_snapshot(m, message))
		send_encoded(m, message, to->slot);
}

/* load what the descriptor names, in pieces */
static void
send_append(Member *m, EngineMessage *message, uint32_t to)
{
	uint32_t	left = message->append.nentries;

	if (!engine_append_is_current(m->engine, message) ||
		links[m->slot][to].is_cut || !members[to].is_alive)
		return;
	do
	{
		uint32_t	n = left < CHUNK_ENTRIES ? left : CHUNK_ENTRIES;
		uint64_t	prev = message->append.prev_index;

		message->append.nentries = n;
		message->append.entries = n > 0 ? entry_at(m, prev + 1) : NULL;
		if (n > 0 && (message->append.entries == NULL ||
					  entry_at(m, prev + n) == NULL))
			violation("member %" PRIu64 " cannot load entries from %" PRIu64,
					  m->id, prev + 1);
		send_encoded(m, message, to);
		if (n > 0)
		{
			message->append.prev_index = prev + n;
			message->append.prev_term = entry_at(m, prev + n)->term;
		}
		left -= n;
	} while (left > 0);
}

static void
send_encoded(Member *m, const EngineMessage *message, uint32_t to)
{
	Buf			buf;

	buf_init(&buf, NULL);
	engine_message_encode(message, &buf);
	network_send(m->slot, to, buf_bytes(&buf));
	buf_free(&buf);
}

/* our applied state is what we can give */
static bool
prepare_snapshot(Member *m, EngineMessage *message)
{
	EngineUpdate update;

	if (m->role != ENGINE_LEADER || m->term != message->term ||
		m->is_installing || m->applied < message->snapshot.index)
		return false;
	engine_compacted(m->engine, clock_ms(m), m->applied, m->applied_term,
					 (uint32_t) between(1, 400), &update);
	follow(m, &update);
	engine_snapshot_message(m->engine, message);
	return m->applied >= message->snapshot.index;
}

void
member_receive(Member *m, Bytes bytes)
{
	EngineMessage message;
	EngineUpdate update;
	MemContext *mcx = mcx_create(NULL, "message");

	if (!engine_message_decode(bytes, &message, mcx))
		violation("member %" PRIu64 " gets bytes that are no message", m->id);
	/* a slot may have a new member, to whom the message is not */
	if (message.to == m->id)
	{
		if (!engine_receive(m->engine, clock_ms(m), &message, &update))
			violation("member %" PRIu64 " gets a message of kind %d from %"
					  PRIu64 " that makes no sense", m->id, message.kind,
					  message.from);
		follow(m, &update);
		if (message.kind == MESSAGE_READ_RESULT)
		{
			for (uint32_t i = 0; i < MAX_READS; i++)
				read_round_note(&m->reads[i].round, &message);
			answer_reads(m);
		}
	}
	mcx_destroy(mcx);
}

/* ---- disk ---- */

static void
disk_queue(Member *m, DiskOp *op)
{
	if (m->disk_tail == NULL)
		m->disk_head = op;
	else
		m->disk_tail->next = op;
	m->disk_tail = op;
	disk_start(m);
}

static void
disk_start(Member *m)
{
	uint64_t	us = m->disk_slow_us > 0 ?
		between(20 * MS, m->disk_slow_us) : between(100, 2500);

	if (m->disk_is_busy || m->disk_head == NULL)
		return;
	m->disk_is_busy = true;
	if (m->disk_head->entries == NULL)
		us *= 20;
	event_at(now_us + us, EVENT_DISK, m->slot, m->life, 0, NULL);
}

static void
disk_drop(Member *m)
{
	while (m->disk_head != NULL)
	{
		DiskOp	   *op = m->disk_head;

		m->disk_head = op->next;
		free(op->entries);
		free(op);
	}
	m->disk_tail = NULL;
	m->disk_is_busy = false;
}

void
member_on_disk(Member *m)
{
	DiskOp	   *op = m->disk_head;
	uint32_t	life = m->life;

	m->disk_head = op->next;
	if (m->disk_head == NULL)
		m->disk_tail = NULL;
	m->disk_is_busy = false;
	if (op->entries != NULL)
		write_entries(m, op);
	else
		write_state(m, op);
	free(op->entries);
	free(op);
	if (m->is_alive && m->life == life)
		disk_start(m);
}

static void
write_entries(Member *m, DiskOp *op)
{
	const LogEntry *last = &op->entries[op->n - 1];
	EngineUpdate update;
	int			rc = log_append(m->log, op->entries, op->n);

	if (rc != 0)
		violation("member %" PRIu64 " cannot write its log: %s", m->id,
				  strerror(rc));
	if (chance(100))
		(void) log_prepare_spare(m->log);
	engine_persisted(m->engine, clock_ms(m), last->index, last->term, &update);
	follow(m, &update);
}

static int64_t
torn_pwrite(int fd, const void *data, size_t n, int64_t offset)
{
	size_t		some = n < torn_left ? n : (size_t) torn_left;

	torn_left -= some;
	if (some > 0 && pwrite(fd, data, some, (off_t) offset) != (ssize_t) some)
		return -1;
	if (some == n)
		return (int64_t) n;
	errno = EIO;
	return -1;
}

/* the power went while the first write was under way */
static void
write_torn(Member *m, const DiskOp *op)
{
	LogIo		io = log_io_system;
	LogOptions	log = log_options(m, &io);
	RaftLog    *torn;
	uint64_t	bytes = 0;
	char		error[1024];

	io.pwrite = torn_pwrite;
	for (uint32_t i = 0; i < op->n; i++)
		bytes += 40 + op->entries[i].data.len;
	counts.torn++;
	log_close(m->log);
	m->log = NULL;
	torn_left = UINT64_MAX;
	torn = log_load(&log, m->durable_index, NULL, NULL, error, sizeof(error));
	if (torn == NULL)
		violation("member %" PRIu64 ": %s", m->id, error);
	torn_left = between(0, bytes + 100);
	(void) log_append(torn, op->entries, op->n);
	log_close(torn);
}

/* a state that was fetched takes the place of ours, at once */
static void
write_state(Member *m, const DiskOp *op)
{
	LogOptions	log = log_options(m, NULL);
	EngineUpdate update;
	char		error[1024];

	if (chance(150))
	{
		/* the stream broke: there is no event for that */
		trace("%" PRIu64 " could not fetch the state", m->id);
		member_crash(m);
		member_boot(m);
		return;
	}
	log_close(m->log);
	remove_segments(m);
	if (!log_create(&log, op->install.index + 1, error, sizeof(error)) ||
		(m->log = log_load(&log, op->install.index, NULL, NULL, error,
						   sizeof(error))) == NULL)
		violation("member %" PRIu64 ": %s", m->id, error);
	m->durable_index = m->applied = op->install.index;
	m->durable_term = m->applied_term = op->install.term;
	m->durable_configuration = m->configuration = op->install.configuration;
	m->durable_configuration_index = m->configuration_index =
		op->install.configuration_index;
	m->is_installing = false;
	note_history(m, HISTORY_INSTALL, m->applied);
	engine_snapshot_installed(m->engine, clock_ms(m), &update);
	follow(m, &update);
}

/* tables durable; the engine, memory and log may forget */
void
member_checkpoint(Member *m, uint32_t keep)
{
	EngineUpdate update;

	if (m->is_installing || m->applied <= m->durable_index)
		return;
	counts.checkpoints++;
	m->durable_index = m->applied;
	m->durable_term = m->applied_term;
	m->durable_configuration = m->configuration;
	m->durable_configuration_index = m->configuration_index;
	note_history(m, HISTORY_CHECKPOINT, m->applied);
	engine_compacted(m->engine, clock_ms(m), m->applied, m->applied_term, keep,
					 &update);
	follow(m, &update);
	entries_forget(m, engine_first_index(m->engine));
	if (log_trim(m->log, engine_first_index(m->engine)) != 0)
		violation("member %" PRIu64 " cannot trim its log", m->id);
}

/* ---- apply ---- */

void
member_on_apply(Member *m)
{
	m->apply_is_due = false;
	if (!m->is_installing)
		apply_up_to(m, m->commit_index);
	answer_reads(m);
}

static void
apply_up_to(Member *m, uint64_t index)
{
	uint64_t	before = m->applied;

	while (!m->is_installing && m->applied < index)
	{
		LogEntry   *entry = entry_at(m, m->applied + 1);

		if (entry == NULL)
			violation("member %" PRIu64 " lacks committed entry %" PRIu64,
					  m->id, m->applied + 1);
		agreed_apply(m->id, entry);
		m->applied = entry->index;
		m->applied_term = entry->term;
		if (entry->type == ENTRY_CONFIGURATION)
			apply_configuration(m, entry);
	}
	if (m->applied > before)
	{
		note_history(m, HISTORY_BATCH, m->applied);
		client_acknowledge(m, before + 1, m->applied);
	}
}

static void
apply_configuration(Member *m, const LogEntry *entry)
{
	EngineUpdate update;

	m->configuration = entry->data;
	m->configuration_index = entry->index;
	engine_configuration_applied(m->engine, clock_ms(m), entry->index,
								 entry->data, &update);
	follow(m, &update);
}

/* ---- clients ---- */

bool
member_submit(Member *m, const Bytes *commands, uint32_t n,
			  uint64_t *first_index, uint64_t *term)
{
	EngineUpdate update;

	if (!engine_submit(m->engine, clock_ms(m), commands, n, &update))
		return false;
	*first_index = update.entries[0].index;
	*term = update.entries[0].term;
	follow(m, &update);
	return true;
}

void
member_read(Member *m)
{
	EngineUpdate update;
	uint32_t	i = 0;

	while (i < MAX_READS && m->reads[i].is_open)
		i++;
	if (i == MAX_READS)
		return;
	if (!engine_read_begin(m->engine, &m->reads[i].round, &update))
		return;
	m->reads[i].is_open = true;
	m->reads[i].must_see = acknowledged_last;
	follow(m, &update);
	answer_reads(m);
}

static void
answer_reads(Member *m)
{
	for (uint32_t i = 0; i < MAX_READS; i++)
	{
		Read	   *read = &m->reads[i];

		if (!read->is_open)
			continue;
		if (m->role != ENGINE_LEADER || m->term != read->round.term)
			read->is_open = false;
		else if ((options.without_rounds ||
				  engine_read_is_done(m->engine, &read->round)) &&
				 m->applied >= read->round.index)
		{
			if (m->applied < read->must_see)
				violation("member %" PRIu64 " serves a read at %" PRIu64
						  ", but %" PRIu64 " was acknowledged before it began",
						  m->id, m->applied, read->must_see);
			counts.reads++;
			read->is_open = false;
		}
	}
}

EngineChangeResult
member_change(Member *m, const EngineChange *change)
{
	EngineUpdate update;
	EngineChangeResult result;

	result = engine_propose_configuration(m->engine, clock_ms(m), change,
										  &update);
	trace("%" PRIu64 " changes the configuration: kind %d, member %" PRIu64
		  ", result %d", m->id, change->kind, change->member.id, result);
	follow(m, &update);
	if (result == ENGINE_CHANGE_PROPOSED)
		counts.changes++;
	else
		counts.refused++;
	return result;
}

bool
member_transfer(Member *m, uint64_t target)
{
	EngineUpdate update;
	bool		begun = engine_transfer(m->engine, clock_ms(m), target,
										&update);

	follow(m, &update);
	counts.transfers += begun;
	return begun;
}

static void
note_history(Member *m, HistoryKind kind, uint64_t index)
{
	if (m->nhistory == m->cap_history)
	{
		m->cap_history = m->cap_history == 0 ? 1024 : m->cap_history * 2;
		m->history = xrealloc(m->history,
							  m->cap_history * sizeof(*m->history));
	}
	m->history[m->nhistory++] = (History) {kind, index};
}

/* ---- the log on disk ---- */

static LogOptions
log_options(const Member *m, const LogIo *io)
{
	return (LogOptions) {.dir = m->dir, .segment_bytes = SEGMENT_BYTES,
		.io = io, .cluster_id = CLUSTER_ID};
}

static void
load_log(Member *m)
{
	LogOptions	log = log_options(m, NULL);
	char		error[1024];

	m->nentries = 0;
	m->first_index = 0;
	m->log = log_load(&log, m->durable_index, keep_entry, m, error,
					  sizeof(error));
	if (m->log == NULL)
		violation("member %" PRIu64 ": %s", m->id, error);
	if (m->nentries == 0)
		m->first_index = log_last_index(m->log) + 1;
}

static void
keep_entry(void *arg, const LogEntry *entry)
{
	Member	   *m = arg;
	LogEntry	kept = *entry;

	if (m->nentries == 0)
		m->first_index = entry->index;
	kept.data = bytes_keep(entry->data);
	entries_add(m, &kept);
}

/* segments and spares, not the vote */
static void
remove_segments(const Member *m)
{
	DIR		   *dir = opendir(m->dir);
	struct dirent *file;
	char		path[1024];

	while (dir != NULL && (file = readdir(dir)) != NULL)
	{
		if (file->d_name[0] == '.' || strcmp(file->d_name, "vote") == 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", m->dir, file->d_name);
		unlink(path);
	}
	if (dir != NULL)
		closedir(dir);
}

/* ---- entries in memory ---- */

/* entries live as long as the process */
Bytes
bytes_keep(Bytes b)
{
	static uint8_t *room;
	static size_t left;
	uint8_t    *copy;

	if (b.len == 0)
		return BYTES_EMPTY;
	if (b.len > left)
	{
		left = b.len > 65536 ? b.len : 65536;
		room = xmalloc(left);
	}
	copy = room;
	room += b.len;
	left -= b.len;
	memcpy(copy, b.data, b.len);
	return bytes_make(copy, b.len);
}

static LogEntry *
entry_at(Member *m, uint64_t index)
{
	if (index < m->first_index || index >= m->first_index + m->nentries)
		return NULL;
	return &m->entries[index - m->first_index];
}

static void
entries_truncate(Member *m, uint64_t index)
{
	if (index < m->first_index)
		m->nentries = 0;
	else if (index < m->first_index + m->nentries)
		m->nentries = (uint32_t) (index - m->first_index);
	if (index <= m->applied)
		violation("member %" PRIu64 " replaces applied entry %" PRIu64, m->id,
				  index);
	if (m->first_index + m->nentries != index)
		violation("member %" PRIu64 " appends %" PRIu64 " after %" PRIu64,
				  m->id, index, m->first_index + m->nentries - 1);
}

static void
entries_add(Member *m, const LogEntry *entry)
{
	if (m->nentries == m->cap_entries)
	{
		m->cap_entries = m->cap_entries == 0 ? 256 : m->cap_entries * 2;
		m->entries = xrealloc(m->entries,
							  m->cap_entries * sizeof(*m->entries));
	}
	m->entries[m->nentries++] = *entry;
}

static void
entries_forget(Member *m, uint64_t first_kept)
{
	uint32_t	drop;

	if (first_kept <= m->first_index)
		return;
	drop = (uint32_t) (first_kept - m->first_index);
	if (drop > m->nentries)
		drop = m->nentries;
	memmove(m->entries, m->entries + drop,
			(m->nentries - drop) * sizeof(*m->entries));
	m->nentries -= drop;
	m->first_index += drop;
}
