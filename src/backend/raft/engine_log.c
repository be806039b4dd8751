/*
 * engine_log.c
 *	  Index and term of what is in the log, as runs of one term each.
 *
 * The library keeps the same thing for itself and shows it to nobody; the
 * guards need it.  A log has as many runs as it has seen leaders, so walking
 * them from the end is fast enough.
 */
#include "server.h"

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "engine_internal.h"

void
engine_log_note(RaftEngine *engine, uint64_t index, uint64_t term)
{
	Assert(index == engine->last_index + 1);
	engine->last_index = index;
	if (engine->nruns > 0 && engine->runs[engine->nruns - 1].term == term)
		return;
	if (engine->nruns == engine->cap_runs)
	{
		engine->cap_runs = engine->cap_runs == 0 ? 16 : engine->cap_runs * 2;
		engine->runs = xrealloc(engine->runs,
								engine->cap_runs * sizeof(*engine->runs));
	}
	engine->runs[engine->nruns++] = (TermRun) {index, term};
}

void
engine_log_truncate(RaftEngine *engine, uint64_t index)
{
	if (index > engine->last_index)
		return;
	engine->last_index = index - 1;
	if (engine->persisted >= index)
		engine->persisted = index - 1;
	while (engine->nruns > 0 && engine->runs[engine->nruns - 1].first >= index)
		engine->nruns--;
}

void
engine_log_forget(RaftEngine *engine, uint64_t first_kept)
{
	uint32_t	drop = 0;

	if (first_kept <= engine->first_index)
		return;
	while (drop + 1 < engine->nruns &&
		   engine->runs[drop + 1].first <= first_kept)
		drop++;
	engine->nruns -= drop;
	memmove(engine->runs, engine->runs + drop,
			engine->nruns * sizeof(*engine->runs));
	engine->first_index = first_kept;
}

void
engine_log_reset(RaftEngine *engine, uint64_t index, uint64_t term)
{
	engine->nruns = 0;
	engine->first_index = index + 1;
	engine->last_index = index;
	engine->base_index = index;
	engine->base_term = term;
}

uint64_t
engine_entry_term(const RaftEngine *engine, uint64_t index)
{
	if (index == engine->base_index)
		return engine->base_term;
	if (index < engine->first_index || index > engine->last_index)
		return 0;
	for (uint32_t i = engine->nruns; i > 0; i--)
	{
		if (engine->runs[i - 1].first <= index)
			return engine->runs[i - 1].term;
	}
	return 0;
}

uint64_t
engine_last_index(const RaftEngine *engine)
{
	return engine->last_index;
}

uint64_t
engine_first_index(const RaftEngine *engine)
{
	return engine->first_index;
}

uint64_t
engine_log_lower(const RaftEngine *engine, uint64_t index, uint64_t floor,
				 uint64_t max_term)
{
	if (index > engine->last_index)
		index = engine->last_index;
	for (uint32_t i = engine->nruns; i > 0 && index > floor; i--)
	{
		const TermRun *run = &engine->runs[i - 1];

		if (run->first > index)
			continue;
		if (run->term <= max_term)
			return index;
		index = run->first - 1;
	}
	return index > floor ? index : floor;
}
