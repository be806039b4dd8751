/*
 * fuzz_engine.c
 *	  Any bytes as messages between members, and what they mean to an engine.
 *
 * The input is a row of messages, each behind its length (u16).  What can be
 * decoded must be written again as the same bytes; then a member gets it, as
 * from one of two others, with its writes finished at once or never, and its
 * clock moved in between.  Whatever comes, it must go on: not crash, not
 * PANIC, not go back in its term, not take back what it said is committed.
 */
/* needs: raft utils/injection */
#include "server.h"

/* lib and utils */
#include "utils/elog.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "raft/engine.h"

#define OWN_ID 1

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct World
{
	RaftEngine *engine;
	uint64_t	now_ms;
	uint64_t	term;
	uint64_t	commit_index;
	bool		is_installing;
} World;

static void
require(bool condition)
{
	if (!condition)
		abort();
}

static void follow(World *w, const EngineUpdate *update, bool writes);

static void
persisted(World *w, uint64_t index, uint64_t term)
{
	EngineUpdate update;

	engine_persisted(w->engine, w->now_ms, index, term, &update);
	follow(w, &update, false);
}

static void
follow(World *w, const EngineUpdate *update, bool writes)
{
	require(update->term >= w->term);
	w->term = update->term;
	if (update->install != NULL)
	{
		w->is_installing = true;
		w->commit_index = update->install->index;
	}
	require(w->is_installing || update->commit_index >= w->commit_index);
	if (!w->is_installing)
		w->commit_index = update->commit_index;
	if (writes && update->nentries > 0)
	{
		LogEntry	last = update->entries[update->nentries - 1];

		persisted(w, last.index, last.term);
	}
}

static void
start(World *w, Buf *configuration)
{
	EngineMember members[3] = {{1, MEMBER_VOTER, "a"}, {2, MEMBER_VOTER, "b"},
	{3, MEMBER_VOTER, "c"}};
	EngineStart s = {
		.id = OWN_ID,
		.address = "a",
		.term = 1,
		.election_timeout_ms = 100,
		.heartbeat_ms = 10,
		.seed = 1,
		.applied_index = 1,
		.applied_term = 1,
		.configuration_index = 1,
		.first_index = 2,
	};
	EngineUpdate update;
	char		error[256];

	*w = (World) {.now_ms = 1000};
	buf_init(configuration, NULL);
	engine_configuration_encode(members, 3, configuration);
	s.configuration = buf_bytes(configuration);
	w->engine = engine_create(&s, w->now_ms, &update, error, sizeof(error));
	require(w->engine != NULL);
	follow(w, &update, true);
}

static void
receive(World *w, Bytes bytes, MemContext *mcx)
{
	EngineMessage m;
	EngineUpdate update;
	Buf			again;
	bool		writes;

	mcx_reset(mcx);
	if (!engine_message_decode(bytes, &m, mcx))
		return;
	buf_init(&again, NULL);
	engine_message_encode(&m, &again);
	require(bytes_equal(bytes, buf_bytes(&again)));
	buf_free(&again);

	writes = m.to % 2 == 0;
	w->now_ms += m.to % 8 * 10;
	/* else no guess would ever get there */
	m.to = OWN_ID;
	m.from = 2 + m.from % 2;
	(void) engine_receive(w->engine, w->now_ms, &m, &update);
	follow(w, &update, writes);
	if (w->is_installing && writes)
	{
		engine_snapshot_installed(w->engine, w->now_ms, &update);
		w->is_installing = false;
		follow(w, &update, false);
	}
	if (w->now_ms >= engine_deadline_ms(w->engine))
	{
		engine_tick(w->engine, w->now_ms, &update);
		follow(w, &update, true);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	MemContext *mcx = mcx_create(NULL, "messages");
	Cursor		cur = cursor_make(bytes_make(data, size));
	Buf			configuration;
	World		w;
	uint16_t	len;
	Bytes		bytes;

	elog_set_level(LOG_LEVEL_FATAL);
	start(&w, &configuration);
	while (cursor_get_u16(&cur, &len) && cursor_get_raw(&cur, len, &bytes))
		receive(&w, bytes, mcx);
	engine_destroy(w.engine);
	buf_free(&configuration);
	mcx_destroy(mcx);
	return 0;
}
