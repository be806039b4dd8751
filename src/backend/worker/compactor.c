/*
 * compactor.c
 *	  The compactor: proposes compactions as auto_compaction_mode says.
 *
 * It looks at the revision of the published version, on every member, so that
 * one who begins to lead knows what was current a retention ago; only the
 * leader proposes.  What it does not know after a restart it does not compact:
 * the retention begins anew.
 *
 * One proposal at a time.  One that is lost, or comes too late because somebody
 * else has compacted further, is forgotten; the next look makes another.
 */
#include "server.h"

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/errcodes.h"
#include "utils/guc.h"
#include "utils/injection.h"

/* this layer and below */
#include "storage/snap/store.h"
#include "worker/auxiliary.h"
#include "worker/compactpolicy.h"

/* while the store is not loaded */
#define NOT_READY_MS 100

static CompactPolicy policy;
static int64_t proposed;		/* revision under way; 0: none */

static int64_t look(void);
static void propose(int64_t revision);
static void on_compacted(void *arg, const Completion *done);

void
CompactorMain(const AuxiliaryStart *start)
{
	auxiliary_begin(start, "compactor");
	compactpolicy_init(&policy,
					   strcmp(guc_auto_compaction_mode, "revision") == 0,
					   guc_effective_auto_compaction_retention(),
					   guc_auto_compaction_interval, clock_monotonic_ms());
	while (auxiliary_wait(look()))
		continue;
	compactpolicy_fini(&policy);
	auxiliary_end();
}

/* returns for how long there is nothing to do; -1: ever */
static int64_t
look(void)
{
	int64_t		now_ms = clock_monotonic_ms();
	int64_t		revision;
	int64_t		up_to;

	if (policy.retention == 0)
		return -1;
	/* an unloaded store is at revision 1 */
	if (!atomic_load(&store_raft_status()->is_ready))
		return NOT_READY_MS;
	revision = store_pin()->kv_revision;
	store_unpin();
	up_to = compactpolicy_look(&policy, now_ms, revision);
	if (up_to > 0 && proposed == 0 && auxiliary_is_leader())
		propose(up_to);
	return policy.next_ms > now_ms ? policy.next_ms - now_ms : 0;
}

static void
propose(int64_t revision)
{
	LogOp		op = {
		.kind = LOGOP_COMPACT,
		.compact_revision = revision,
	};

	(void) INJECTION_POINT("compactor-before-compact");
	if (auxiliary_propose(&op, on_compacted, NULL))
		proposed = revision;
	(void) INJECTION_POINT("compactor-proposed");
}

static void
on_compacted(void *arg, const Completion *done)
{
	int64_t		revision = proposed;

	proposed = 0;
	if (done->error == ERR_NONE)
		elog_info("compacted up to revision %" PRId64, revision);
	else if (done->error != ERR_COMPACTED)
	{
		elog_warning("could not compact up to revision %" PRId64 ": %s",
					 revision, err_info(done->error)->text);
		return;
	}
	compactpolicy_done(&policy, clock_monotonic_ms(), revision);
}
