/*
 * run.c
 *	  One seed from the beginning to the verdict.
 *
 *	0 .. seconds		clients, faults, changes
 *	+ 6 s				all healed: progress must be made, and a change of the
 *						configuration must be possible
 *	+ 6 s				no more writes: all members must come to the same index
 */
#include "server.h"

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "sim.h"

#define HEAL_US ((uint64_t) 6 * SEC)
#define REST_US ((uint64_t) 6 * SEC)

typedef struct Phases
{
	uint64_t	heal_at;
	uint64_t	rest_at;
	uint64_t	end_at;
	bool		is_healed;
	uint64_t	agreed_at_heal;
	uint64_t	probe;			/* configuration entry made after healing */
	uint64_t	probe_term;
} Phases;

static Phases phases;
static uint64_t client_pause_us;

static void make_cluster(void);
static void heal(void);
static void run_event(const Event *event);
static void run_member_event(Member *m, const Event *event);
static void probe_configuration(void);
static Verdict judge(void);
static void report(uint64_t seed);

Verdict
run_seed(uint64_t seed)
{
	Event		event;
	Verdict		verdict;

	world_seed(seed);
	make_cluster();
	phases.heal_at = options.seconds * SEC;
	phases.rest_at = phases.heal_at + HEAL_US;
	phases.end_at = phases.rest_at + REST_US;
	event_at(1 * MS, EVENT_CLIENT, 0, 0, 0, NULL);
	event_at(300 * MS, EVENT_FAULT, 0, 0, 0, NULL);
	while (event_next(&event))
	{
		now_us = event.at;
		if (now_us > phases.end_at)
			break;
		if (!phases.is_healed && now_us > phases.heal_at)
			heal();
		run_event(&event);
	}
	agreed_check_acknowledged();
	verdict = judge();
	if (verdict == SIM_OK && options.apply_every > 0 &&
		seed % options.apply_every == 0)
		verdict = replay_check();
	if (options.verbose)
		report(seed);
	return verdict;
}

static void
make_cluster(void)
{
	uint32_t	n = options.members != 0 ? options.members : chance(333) ? 5 : 3;
	EngineMember list[5] = {0};
	Buf			configuration;

	network_has_streams = chance(600);
	client_pause_us = between(2, 12) * MS;
	for (uint32_t i = 0; i < n; i++)
	{
		list[i].id = i + 1;
		list[i].role = MEMBER_VOTER;
		snprintf(list[i].address, sizeof(list[i].address), "m%u", i + 1);
	}
	buf_init(&configuration, NULL);
	engine_configuration_encode(list, n, &configuration);
	for (uint32_t i = 0; i < n; i++)
		(void) member_make(buf_bytes(&configuration));
	for (uint32_t i = 0; i < n; i++)
		member_boot(&members[i]);
}

static void
heal(void)
{
	phases.is_healed = true;
	phases.agreed_at_heal = agreed_last;
	fault_heal();
	for (uint32_t i = 0; i < MAX_MEMBERS; i++)
	{
		if (members[i].is_used && !members[i].is_alive)
			member_boot(&members[i]);
	}
}

static void
run_event(const Event *event)
{
	Member	   *m = &members[event->slot];

	switch (event->kind)
	{
		case EVENT_CLIENT:
			if (now_us < phases.rest_at)
				client_run();
			if (phases.is_healed)
				probe_configuration();
			event_at(now_us + between(client_pause_us / 4, client_pause_us),
					 EVENT_CLIENT, 0, 0, 0, NULL);
			return;
		case EVENT_FAULT:
			if (phases.is_healed)
				return;
			fault_run();
			event_at(now_us + between(20, 500) * MS, EVENT_FAULT, 0, 0, 0,
					 NULL);
			return;
		default:
			break;
	}
	if (!m->is_used || !m->is_alive || event->life != m->life)
		return;
	if (now_us < m->paused_until)
		event_at(m->paused_until, event->kind, event->slot, event->life,
				 event->number, event->data);
	else
		run_member_event(m, event);
}

static void
run_member_event(Member *m, const Event *event)
{
	switch (event->kind)
	{
		case EVENT_TIMER:
			if (event->number == m->timer)
				member_on_timer(m);
			break;
		case EVENT_DELIVER:
			network_deliver(event);
			break;
		case EVENT_FLUSH:
			member_on_flush(m);
			break;
		case EVENT_DISK:
			member_on_disk(m);
			break;
		case EVENT_APPLY:
			member_on_apply(m);
			break;
		case EVENT_RESUME:
			if (m->role == ENGINE_LEADER)
				member_read(m);
			break;
		default:
			break;
	}
}

/* tried again until it is agreed: an address that changes hurts nobody */
static void
probe_configuration(void)
{
	EngineChange c = {.kind = CHANGE_ADDRESS};
	Member	   *leader = member_leader();

	if (leader == NULL || leader->is_installing ||
		(phases.probe != 0 && phases.probe_term == leader->term))
		return;
	if (phases.probe != 0 && phases.probe <= agreed_last &&
		agreed_at(phases.probe)->term == phases.probe_term)
		return;
	c.member.id = leader->id;
	snprintf(c.member.address, sizeof(c.member.address), "probe%" PRIu64,
			 leader->term);
	if (member_change(leader, &c) != ENGINE_CHANGE_PROPOSED)
		return;
	phases.probe = engine_last_index(leader->engine);
	phases.probe_term = leader->term;
}

static Verdict
judge(void)
{
	EngineMember list[ENGINE_MAX_MEMBERS];
	Member	   *leader = member_leader();
	uint32_t	n;

	if (agreed_last == phases.agreed_at_heal)
		return SIM_NO_PROGRESS;
	if (leader == NULL)
		return SIM_NOT_CONVERGED;
	n = engine_members(leader->engine, list, ENGINE_MAX_MEMBERS);
	for (uint32_t i = 0; i < n; i++)
	{
		Member	   *m = member_by_id(list[i].id);

		if (m == NULL || m->applied != agreed_last)
			return SIM_NOT_CONVERGED;
	}
	if (phases.probe == 0 || phases.probe > agreed_last ||
		agreed_at(phases.probe)->term != phases.probe_term)
		return SIM_CONFIGURATION_STUCK;
	return SIM_OK;
}

static void
report(uint64_t seed)
{
	printf("seed %" PRIu64 ": agreed %" PRIu64 " (%" PRIu64 " after healing), "
		   "acknowledged %" PRIu64 ", reads %" PRIu64 ", elections %" PRIu64
		   ", transfers %" PRIu64 ", changes %" PRIu64 " (refused %" PRIu64
		   "), checkpoints %" PRIu64 ", installs %" PRIu64 ", crashes %" PRIu64
		   " (torn writes %" PRIu64 ")\n", seed, agreed_last,
		   agreed_last - phases.agreed_at_heal, nacknowledged, counts.reads,
		   counts.elections, counts.transfers, counts.changes, counts.refused,
		   counts.checkpoints, counts.installs, counts.crashes, counts.torn);
	for (uint32_t i = 0; i < MAX_MEMBERS; i++)
	{
		Member	   *m = &members[i];

		if (m->is_used && m->is_alive)
			printf("  member %" PRIu64 " role %d term %" PRIu64 " applied %"
				   PRIu64 " commit %" PRIu64 " last %" PRIu64
				   " configuration at %" PRIu64 " voters %u%s\n", m->id,
				   m->role, m->term, m->applied, m->commit_index,
				   engine_last_index(m->engine), m->configuration_index,
				   engine_nvoters(m->engine),
				   m->is_installing ? " installing" : "");
	}
}
