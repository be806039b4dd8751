/*
 * engine_configuration.c
 *	  Who is a member: encoded, applied, changed.
 *
 * The library decodes without looking at lengths, so everything that comes
 * from disk or from a peer goes through engine_configuration_decode() first:
 *
 *	version (u8, 1), number (u64), then for each: id (u64), address with its
 *	final zero, role (u8); zeros up to a multiple of 8
 *
 * A change is a whole new configuration in one entry, in force as soon as it
 * is in a log.  It is made here from the present one, so that it differs by
 * one member; members keep their places, because the library keeps what it
 * knows of each by place.
 */
#include "server.h"

/* lib and utils */
#include "utils/elog.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "engine_internal.h"

static EngineChangeResult check_change(const RaftEngine *engine,
									   const EngineChange *change,
									   const EngineMember *members,
									   uint32_t n);
static EngineChangeResult change_members(EngineMember *members, uint32_t *n,
										 const EngineChange *change);
static uint32_t find_member(const EngineMember *members, uint32_t n,
							uint64_t id);
static bool has_address(const EngineMember *members, uint32_t n,
						const char *address);

void
engine_configuration_encode(const EngineMember *members, uint32_t n, Buf *out)
{
	struct raft_configuration c;
	struct raft_buffer encoded;
	int			rc = 0;

	Assert(n > 0);
	raft_configuration_init(&c);
	for (uint32_t i = 0; rc == 0 && i < n; i++)
		rc = raft_configuration_add(&c, members[i].id, members[i].address,
									members[i].role == MEMBER_VOTER ?
									RAFT_VOTER : RAFT_STANDBY);
	if (rc == 0)
		rc = raft_configuration_encode(&c, &encoded);
	if (rc != 0)
		elog_fatal("could not encode a configuration of %u members: %s", n,
				   raft_strerror(rc));
	buf_append(out, encoded.base, encoded.len);
	raft_free(encoded.base);
	raft_configuration_close(&c);
}

uint32_t
engine_configuration_decode(Bytes encoded, EngineMember *members, uint32_t max)
{
	Cursor		cur = cursor_make(encoded);
	uint8_t		version;
	uint64_t	n;

	if (!cursor_get_u8(&cur, &version) || version != 1 ||
		!cursor_get_u64(&cur, &n) || n == 0 || n > max)
		return 0;
	for (uint64_t i = 0; i < n; i++)
	{
		EngineMember *member = &members[i];
		const uint8_t *zero;
		Bytes		address;
		uint8_t		role;

		if (!cursor_get_u64(&cur, &member->id) || member->id == 0)
			return 0;
		zero = memchr(cur.pos, 0, cursor_left(&cur));
		if (zero == NULL ||
			(size_t) (zero - cur.pos) >= sizeof(member->address) ||
			!cursor_get_raw(&cur, (size_t) (zero - cur.pos) + 1, &address) ||
			!cursor_get_u8(&cur, &role) ||
			(role != RAFT_VOTER && role != RAFT_STANDBY))
			return 0;
		memcpy(member->address, address.data, address.len);
		member->role = role == RAFT_VOTER ? MEMBER_VOTER : MEMBER_LEARNER;
		if (find_member(members, (uint32_t) i, member->id) < i ||
			has_address(members, (uint32_t) i, member->address))
			return 0;
	}
	return cursor_left(&cur) < 8 ? (uint32_t) n : 0;
}

void
engine_configuration_to_raft(Bytes encoded, struct raft_configuration *c)
{
	EngineMember members[ENGINE_MAX_MEMBERS];
	uint32_t	n = engine_configuration_decode(encoded, members,
												ENGINE_MAX_MEMBERS);
	int			rc = 0;

	/*
	 * PANIC: a committed entry that is no configuration means that log or
	 * tables hold what no member can have agreed to.
	 */
	if (n == 0)
		elog_panic("a cluster configuration of %zu bytes cannot be decoded",
				   encoded.len);
	raft_configuration_init(c);
	for (uint32_t i = 0; rc == 0 && i < n; i++)
		rc = raft_configuration_add(c, members[i].id, members[i].address,
									members[i].role == MEMBER_VOTER ?
									RAFT_VOTER : RAFT_STANDBY);
	if (rc != 0)
		engine_panic("configuration", rc);
}

uint32_t
engine_nvoters(const RaftEngine *engine)
{
	const struct raft_configuration *c = &engine->raft.configuration;
	uint32_t	n = 0;

	for (unsigned i = 0; i < c->n; i++)
		n += c->servers[i].role == RAFT_VOTER;
	return n;
}

uint32_t
engine_members(const RaftEngine *engine, EngineMember *members, uint32_t max)
{
	const struct raft_configuration *c = &engine->raft.configuration;
	uint32_t	n = 0;

	for (unsigned i = 0; i < c->n && n < max; i++, n++)
	{
		members[n].id = c->servers[i].id;
		members[n].role = c->servers[i].role == RAFT_VOTER ? MEMBER_VOTER :
			MEMBER_LEARNER;
		snprintf(members[n].address, sizeof(members[n].address), "%s",
				 c->servers[i].address);
	}
	return n;
}

bool
engine_is_sole_voter(uint64_t id, const EngineMember *members, uint32_t n)
{
	bool		found = false;

	for (uint32_t i = 0; i < n; i++)
	{
		if (members[i].role != MEMBER_VOTER)
			continue;
		if (members[i].id != id)
			return false;
		found = true;
	}
	return found;
}

bool
engine_is_voter(const RaftEngine *engine, uint64_t id)
{
	const struct raft_configuration *c = &engine->raft.configuration;

	for (unsigned i = 0; i < c->n; i++)
	{
		if (c->servers[i].id == id)
			return c->servers[i].role == RAFT_VOTER;
	}
	return false;
}

/* ---- what has been applied ---- */

void
engine_note_configuration(RaftEngine *engine, uint64_t index, Bytes encoded)
{
	AppliedConfiguration *c;

	/* applied once more after a restart, perhaps */
	while (engine->nconfigurations > 0 &&
		   engine->configurations[engine->nconfigurations - 1].index >= index)
		buf_free(&engine->configurations[--engine->nconfigurations].encoded);
	if (engine->nconfigurations == engine->cap_configurations)
	{
		engine->cap_configurations = engine->cap_configurations == 0 ? 4 :
			engine->cap_configurations * 2;
		engine->configurations = xrealloc(engine->configurations,
										  engine->cap_configurations *
										  sizeof(*engine->configurations));
	}
	c = &engine->configurations[engine->nconfigurations++];
	c->index = index;
	buf_init(&c->encoded, NULL);
	buf_append(&c->encoded, encoded.data, encoded.len);
}

const AppliedConfiguration *
engine_configuration_at(const RaftEngine *engine, uint64_t index)
{
	for (uint32_t i = engine->nconfigurations; i > 1; i--)
	{
		if (engine->configurations[i - 1].index <= index)
			return &engine->configurations[i - 1];
	}
	return engine->nconfigurations > 0 ? &engine->configurations[0] : NULL;
}

void
engine_forget_configurations(RaftEngine *engine, uint64_t index)
{
	uint32_t	drop = 0;

	while (drop + 1 < engine->nconfigurations &&
		   engine->configurations[drop + 1].index <= index)
		buf_free(&engine->configurations[drop++].encoded);
	if (drop == 0)
		return;
	engine->nconfigurations -= drop;
	memmove(engine->configurations, engine->configurations + drop,
			engine->nconfigurations * sizeof(*engine->configurations));
}

/* ---- changes ---- */

EngineChangeResult
engine_propose_configuration(RaftEngine *engine, uint64_t now_ms,
							 const EngineChange *change, EngineUpdate *update)
{
	/* one more than may stay */
	EngineMember members[ENGINE_MAX_MEMBERS + 1];
	uint32_t	n = engine_members(engine, members, ENGINE_MAX_MEMBERS);
	EngineChangeResult result = check_change(engine, change, members, n);
	Bytes		data;

	engine_update_begin(engine);
	if (result == ENGINE_CHANGE_PROPOSED)
		result = change_members(members, &n, change);
	if (result == ENGINE_CHANGE_PROPOSED)
	{
		engine->proposed.len = 0;
		engine_configuration_encode(members, n, &engine->proposed);
		data = buf_bytes(&engine->proposed);
		engine_step_submit(engine, now_ms, RAFT_CHANGE, &data, 1);
	}
	engine_update_end(engine, update);
	return result;
}

static EngineChangeResult
check_change(const RaftEngine *engine, const EngineChange *change,
			 const EngineMember *members, uint32_t n)
{
	EngineChangeResult result;

	if (engine->raft.state != RAFT_LEADER ||
		raft_transferee(&engine->raft) != 0)
		return ENGINE_CHANGE_NOT_LEADER;
	if (engine->raft.configuration_uncommitted_index != 0)
		return ENGINE_CHANGE_IN_PROGRESS;
	result = guard6_check(engine, change);
	if (result != ENGINE_CHANGE_PROPOSED)
		return result;
	if (change->kind == CHANGE_PROMOTE &&
		find_member(members, n, change->member.id) < n &&
		!guard5_is_caught_up(engine, change->member.id))
		return ENGINE_CHANGE_NOT_CAUGHT_UP;
	return ENGINE_CHANGE_PROPOSED;
}

static EngineChangeResult
change_members(EngineMember *members, uint32_t *n, const EngineChange *change)
{
	uint32_t	i = find_member(members, *n, change->member.id);
	bool		is_new_address = change->kind == CHANGE_ADD ||
		change->kind == CHANGE_ADDRESS;

	if ((change->kind == CHANGE_ADD) != (i == *n))
		return change->kind == CHANGE_ADD ? ENGINE_CHANGE_EXISTS :
			ENGINE_CHANGE_NO_MEMBER;
	if (is_new_address && has_address(members, *n, change->member.address))
		return ENGINE_CHANGE_EXISTS;
	switch (change->kind)
	{
		case CHANGE_ADD:
			if (*n == ENGINE_MAX_MEMBERS || change->member.id == 0)
				return ENGINE_CHANGE_TOO_MANY;
			members[(*n)++] = change->member;
			break;
		case CHANGE_PROMOTE:
			if (members[i].role != MEMBER_LEARNER)
				return ENGINE_CHANGE_NO_LEARNER;
			members[i].role = MEMBER_VOTER;
			break;
		case CHANGE_REMOVE:
			(*n)--;
			memmove(members + i, members + i + 1,
					(*n - i) * sizeof(*members));
			break;
		case CHANGE_ADDRESS:
			memcpy(members[i].address, change->member.address,
				   sizeof(members[i].address));
			break;
	}
	return ENGINE_CHANGE_PROPOSED;
}

/* n if there is none */
static uint32_t
find_member(const EngineMember *members, uint32_t n, uint64_t id)
{
	uint32_t	i = 0;

	while (i < n && members[i].id != id)
		i++;
	return i;
}

static bool
has_address(const EngineMember *members, uint32_t n, const char *address)
{
	for (uint32_t i = 0; i < n; i++)
	{
		if (strcmp(members[i].address, address) == 0)
			return true;
	}
	return false;
}
