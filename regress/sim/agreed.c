/*
 * agreed.c
 *	  The one sequence: what any member has applied, and what was promised.
 *
 * The first member to apply an index fixes what is there for all.
 */
#include "server.h"

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "sim.h"

uint64_t	agreed_last = 1;
uint64_t	acknowledged_last;
uint64_t	nacknowledged;

typedef struct Promise
{
	uint64_t	index;
	uint64_t	term;
} Promise;

static Agreed *agreed;
static size_t agreed_cap;
static Promise *promises;
static size_t promises_cap;

const Agreed *
agreed_at(uint64_t index)
{
	Assert(index > 1 && index <= agreed_last);
	return &agreed[index];
}

void
agreed_apply(uint64_t member, const LogEntry *entry)
{
	const Agreed *known;

	if (entry->index > agreed_last)
	{
		if (entry->index != agreed_last + 1)
			violation("member %" PRIu64 " applies %" PRIu64 " after %" PRIu64,
					  member, entry->index, agreed_last);
		if (entry->index >= agreed_cap)
		{
			agreed_cap = agreed_cap == 0 ? 4096 : agreed_cap * 2;
			agreed = xrealloc(agreed, agreed_cap * sizeof(*agreed));
		}
		agreed[++agreed_last] = (Agreed) {entry->term, entry->type,
			entry->data};
		return;
	}
	known = &agreed[entry->index];
	if (known->term != entry->term || known->type != entry->type ||
		!bytes_equal(known->data, entry->data))
		violation("member %" PRIu64 " applies another entry at %" PRIu64
				  ": term %" PRIu64 " instead of %" PRIu64, member,
				  entry->index, entry->term, known->term);
}

void
agreed_acknowledge(uint64_t index, uint64_t term)
{
	if (nacknowledged == promises_cap)
	{
		promises_cap = promises_cap == 0 ? 4096 : promises_cap * 2;
		promises = xrealloc(promises, promises_cap * sizeof(*promises));
	}
	promises[nacknowledged++] = (Promise) {index, term};
	if (index > acknowledged_last)
		acknowledged_last = index;
}

void
agreed_check_acknowledged(void)
{
	for (uint64_t i = 0; i < nacknowledged; i++)
	{
		if (promises[i].index > agreed_last ||
			agreed[promises[i].index].term != promises[i].term)
			violation("entry %" PRIu64 " of term %" PRIu64
					  " was acknowledged and is not there", promises[i].index,
					  promises[i].term);
	}
}
