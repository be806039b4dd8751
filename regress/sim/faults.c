/*
 * faults.c
 *	  What goes wrong, and what an administrator does meanwhile.
 */
#include "server.h"

/* this layer and below */
#include "sim.h"

static Member *any_member(void);
static void cut_member(const Member *m);
static void cut_halves(void);
static void transfer(Member *leader, uint64_t target);
static void pause_member(Member *m);
static void keep_majority(void);
static void boot_all(void);
static void change(Member *leader);
static void add_member(Member *leader);
static void remove_member(Member *leader, const EngineMember *list,
						  uint32_t n);
static void promote_member(Member *leader, const EngineMember *list,
						   uint32_t n);
static void forget_removed(void);

void
fault_run(void)
{
	Member	   *m = any_member();
	Member	   *leader = member_leader();

	switch (between(0, 15))
	{
		case 0:
			fault_heal();
			break;
		case 1:
			network_heal();
			cut_member(m);
			break;
		case 2:
			network_heal();
			if (leader != NULL)
				cut_member(leader);
			break;
		case 3:
			/* one way */
			links[m->slot][any_member()->slot].is_cut = true;
			break;
		case 4:
			network_heal();
			cut_halves();
			break;
		case 5:
			network_loss_permille = (uint32_t) between(0, 200);
			break;
		case 6:
		case 7:
			if (m->is_alive)
				member_crash(m);
			break;
		case 8:
			if (leader != NULL)
				member_crash(leader);
			break;
		case 9:
			boot_all();
			break;
		case 10:
			m->disk_slow_us = m->disk_slow_us > 0 ? 0 :
				between(30, 200) * MS;
			break;
		case 11:
			if (leader != NULL && now_us >= leader->paused_until)
				transfer(leader, chance(500) ? 0 : m->id);
			break;
		case 12:
		case 13:
			for (uint32_t i = 0; i < MAX_MEMBERS; i++)
			{
				if (members[i].is_used && members[i].is_alive && chance(600))
					member_checkpoint(&members[i],
									  (uint32_t) between(1, 400));
			}
			break;
		case 14:
			if (leader != NULL && chance(500))
				m = leader;
			pause_member(m);
			break;
		case 15:
			/* only the rate: time since the start does not jump */
			if (m->is_alive)
			{
				uint64_t	old = m->clock_permille;

				m->clock_permille = between(900, 1100);
				m->clock_offset_ms += now_us / 1000 * old / 1000 + 1;
				m->clock_offset_ms -= now_us / 1000 * m->clock_permille / 1000;
			}
			break;
	}
	if (chance(400))
		fault_change_membership();
	if (chance(300))
		forget_removed();
	keep_majority();
}

void
fault_heal(void)
{
	network_heal();
	for (uint32_t i = 0; i < MAX_MEMBERS; i++)
	{
		members[i].disk_slow_us = 0;
		members[i].paused_until = 0;
	}
	if (options.verbose)
		trace("all is healed");
}

static Member *
any_member(void)
{
	uint32_t	n = 0;
	Member	   *list[MAX_MEMBERS];

	for (uint32_t i = 0; i < MAX_MEMBERS; i++)
	{
		if (members[i].is_used)
			list[n++] = &members[i];
	}
	return list[between(0, n - 1)];
}

static void
cut_member(const Member *m)
{
	trace("%" PRIu64 " is cut off", m->id);
	for (uint32_t i = 0; i < MAX_MEMBERS; i++)
		links[m->slot][i].is_cut = links[i][m->slot].is_cut = true;
}

static void
cut_halves(void)
{
	uint64_t	side = rnd();

	for (uint32_t i = 0; i < MAX_MEMBERS; i++)
	{
		for (uint32_t k = 0; k < MAX_MEMBERS; k++)
			links[i][k].is_cut = ((side >> i) & 1) != ((side >> k) & 1);
	}
}

/* at times the old leader hears nothing of the new one */
static void
transfer(Member *leader, uint64_t target)
{
	if (!member_transfer(leader, target) || chance(600))
		return;
	for (uint32_t i = 0; i < MAX_MEMBERS; i++)
		links[i][leader->slot].is_cut = true;
}

/*
 * Stopped for a while, as by a debugger or a busy host.  When it goes on, the
 * first thing that it looks at is a client, before it looks at the clock.
 */
static void
pause_member(Member *m)
{
	if (!m->is_alive || now_us < m->paused_until)
		return;
	m->paused_until = now_us + between(50, 900) * MS;
	event_at(m->paused_until, EVENT_RESUME, m->slot, m->life, 0, NULL);
}

/* else nothing happens for long */
static void
keep_majority(void)
{
	for (;;)
	{
		uint32_t	nused = 0;
		uint32_t	nalive = 0;
		Member	   *dead = NULL;

		for (uint32_t i = 0; i < MAX_MEMBERS; i++)
		{
			nused += members[i].is_used;
			nalive += members[i].is_used && members[i].is_alive;
			if (members[i].is_used && !members[i].is_alive && dead == NULL)
				dead = &members[i];
		}
		if (nalive > nused / 2)
			return;
		member_boot(dead);
	}
}

static void
boot_all(void)
{
	for (uint32_t i = 0; i < MAX_MEMBERS; i++)
	{
		if (members[i].is_used && !members[i].is_alive)
			member_boot(&members[i]);
	}
}

/* ---- membership ---- */

void
fault_change_membership(void)
{
	Member	   *leader = member_leader();

	if (leader != NULL && !leader->is_installing &&
		now_us >= leader->paused_until)
		change(leader);
}

static void
change(Member *leader)
{
	EngineMember list[ENGINE_MAX_MEMBERS];
	uint32_t	n = engine_members(leader->engine, list, ENGINE_MAX_MEMBERS);

	switch (between(0, 2))
	{
		case 0:
			if (n < 6)
				add_member(leader);
			break;
		case 1:
			remove_member(leader, list, n);
			break;
		case 2:
			promote_member(leader, list, n);
			break;
	}
}

static void
add_member(Member *leader)
{
	EngineChange c = {.kind = CHANGE_ADD};
	Member	   *m = member_make(BYTES_EMPTY);

	if (m == NULL)
		return;
	c.member.id = m->id;
	c.member.role = chance(150) ? MEMBER_VOTER : MEMBER_LEARNER;
	snprintf(c.member.address, sizeof(c.member.address), "m%" PRIu64, m->id);
	member_boot(m);
	if (member_change(leader, &c) != ENGINE_CHANGE_PROPOSED)
		member_forget(m);
}

static void
remove_member(Member *leader, const EngineMember *list, uint32_t n)
{
	EngineChange c = {.kind = CHANGE_REMOVE};
	uint32_t	nvoters = engine_nvoters(leader->engine);

	c.member = list[between(0, n - 1)];
	if (c.member.role == MEMBER_VOTER && nvoters <= (chance(100) ? 2 : 3))
		return;
	if (member_change(leader, &c) == ENGINE_CHANGE_OWN_REMOVAL)
		member_transfer(leader, 0);
}

static void
promote_member(Member *leader, const EngineMember *list, uint32_t n)
{
	EngineChange c = {.kind = CHANGE_PROMOTE};

	for (uint32_t i = 0; i < n; i++)
	{
		if (list[i].role != MEMBER_LEARNER)
			continue;
		c.member = list[i];
		if (member_change(leader, &c) == ENGINE_CHANGE_PROPOSED)
			return;
	}
}

/* who is in nobody's configuration any more, while all others are there */
static void
forget_removed(void)
{
	for (uint32_t i = 0; i < MAX_MEMBERS; i++)
	{
		if (members[i].is_used && !members[i].is_alive)
			return;
	}
	for (uint32_t i = 0; i < MAX_MEMBERS; i++)
	{
		bool		is_known = false;

		if (!members[i].is_used || &members[i] == member_leader())
			continue;
		for (uint32_t k = 0; k < MAX_MEMBERS; k++)
			is_known = is_known || (k != i && members[k].is_used &&
									member_knows(&members[k], members[i].id));
		if (!is_known)
			member_forget(&members[i]);
	}
}
