/*
 * compactpolicy.c
 *	  When to compact, and up to where.
 */
#include "server.h"

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "worker/compactpolicy.h"

#define HOUR_MS INT64_C(3600000)
#define NOTES_PER_PERIOD 10

static int64_t look_by_revision(CompactPolicy *policy, int64_t revision);
static int64_t look_periodic(CompactPolicy *policy, int64_t now_ms,
							 int64_t revision);
static void note(CompactPolicy *policy, int64_t revision);

void
compactpolicy_init(CompactPolicy *policy, bool by_revision, int64_t retention,
				   int64_t interval_ms, int64_t now_ms)
{
	int64_t		period = retention < HOUR_MS ? retention : HOUR_MS;

	*policy = (CompactPolicy) {
		.by_revision = by_revision,
		.retention = retention,
		.interval_ms = interval_ms,
	};
	if (by_revision || retention == 0)
		return;
	/* periods below 10 ms are looked at each millisecond */
	policy->interval_ms = period < NOTES_PER_PERIOD ? 1 :
		period / NOTES_PER_PERIOD;
	policy->base_ms = retention;
	policy->last_success_ms = now_ms;
	policy->max_notes = (uint32_t) (retention / policy->interval_ms) + 1;
	policy->notes = xcalloc(policy->max_notes, sizeof(*policy->notes));
}

void
compactpolicy_fini(CompactPolicy *policy)
{
	free(policy->notes);
	policy->notes = NULL;
}

int64_t
compactpolicy_look(CompactPolicy *policy, int64_t now_ms, int64_t revision)
{
	int64_t		up_to;

	if (policy->retention == 0 || now_ms < policy->next_ms)
		return 0;
	policy->next_ms = now_ms + policy->interval_ms;
	up_to = policy->by_revision ? look_by_revision(policy, revision) :
		look_periodic(policy, now_ms, revision);
	return up_to > policy->last_revision ? up_to : 0;
}

void
compactpolicy_done(CompactPolicy *policy, int64_t now_ms, int64_t revision)
{
	policy->last_revision = revision;
	policy->last_success_ms = now_ms;
	/* only the first time the whole retention has to pass */
	if (policy->base_ms > HOUR_MS)
		policy->base_ms = HOUR_MS;
}

static int64_t
look_by_revision(CompactPolicy *policy, int64_t revision)
{
	return revision > policy->retention ? revision - policy->retention : 0;
}

/* the oldest note is from a retention ago once there are so many */
static int64_t
look_periodic(CompactPolicy *policy, int64_t now_ms, int64_t revision)
{
	note(policy, revision);
	if (now_ms - policy->last_success_ms < policy->base_ms ||
		policy->nnotes < policy->max_notes)
		return 0;
	return policy->notes[policy->first_note];
}

static void
note(CompactPolicy *policy, int64_t revision)
{
	if (policy->nnotes < policy->max_notes)
	{
		policy->notes[policy->nnotes++] = revision;
		return;
	}
	policy->notes[policy->first_note] = revision;
	policy->first_note = (policy->first_note + 1) % policy->max_notes;
}
