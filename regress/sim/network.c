/*
 * network.c
 *	  What carries messages between members.
 *
 * As in production: a stream each way, in order; a loss breaks it, what it
 * held is dropped, and it takes a while until there is a new one.  In some
 * seeds: message by message, each with its own delay, lost or doubled, which
 * is more than a stream can do to us.
 */
#include "server.h"

/* lib and utils */
#include "utils/mmgr.h"

/* this layer and below */
#include "sim.h"

typedef struct Packet
{
	uint32_t	from;
	uint32_t	stream;
	Bytes		bytes;
} Packet;

Link		links[MAX_MEMBERS][MAX_MEMBERS];
bool		network_has_streams;
uint32_t	network_loss_permille;

static uint64_t delay_us(void);
static void break_stream(Link *link);
static void put(uint32_t from, uint32_t to, uint64_t at, Bytes bytes);

void
network_send(uint32_t from, uint32_t to, Bytes bytes)
{
	Link	   *link = &links[from][to];
	uint64_t	at = now_us + delay_us();

	if (link->is_cut || !members[to].is_alive)
		return;
	if (!network_has_streams)
	{
		if (chance(network_loss_permille))
			return;
		put(from, to, at, bytes);
		if (chance(20))
			put(from, to, now_us + delay_us(), bytes);
		return;
	}
	if (now_us < link->ready_at)
		return;
	/* a lost packet is sent again; now and then the stream breaks over it */
	if (chance(network_loss_permille))
	{
		if (chance(300))
		{
			break_stream(link);
			return;
		}
		at += between(5, 60) * MS;
	}
	if (at <= link->last_at)
		at = link->last_at + 1;
	link->last_at = at;
	put(from, to, at, bytes);
}

static uint64_t
delay_us(void)
{
	return chance(5) ? between(3, 40) * MS : between(200, 3000);
}

static void
break_stream(Link *link)
{
	link->stream++;
	link->last_at = 0;
	link->ready_at = now_us + between(1, 100) * MS;
}

static void
put(uint32_t from, uint32_t to, uint64_t at, Bytes bytes)
{
	Packet	   *packet = xmalloc(sizeof(*packet) + bytes.len);
	uint8_t    *copy = (uint8_t *) (packet + 1);

	memcpy(copy, bytes.data, bytes.len);
	*packet = (Packet) {from, links[from][to].stream,
		bytes_make(copy, bytes.len)};
	event_at(at, EVENT_DELIVER, to, members[to].life, 0, packet);
}

void
network_deliver(const Event *event)
{
	Packet	   *packet = event->data;
	Link	   *link = &links[packet->from][event->slot];

	if (packet->stream == link->stream &&
		(!link->is_cut || !network_has_streams))
		member_receive(&members[event->slot], packet->bytes);
	else if (packet->stream == link->stream && chance(300))
		break_stream(link);		/* nothing came for too long */
	else if (packet->stream == link->stream)
	{
		/* under way; it comes when the way is free again */
		uint64_t	at = now_us + between(1, 30) * MS;

		if (at <= link->last_at)
			at = link->last_at + 1;
		link->last_at = at;
		event_at(at, EVENT_DELIVER, event->slot, event->life, 0, packet);
		return;
	}
	free(packet);
}

void
network_reset(uint32_t slot)
{
	for (uint32_t i = 0; i < MAX_MEMBERS; i++)
	{
		if (!network_has_streams)
			continue;
		break_stream(&links[slot][i]);
		break_stream(&links[i][slot]);
	}
}

void
network_heal(void)
{
	for (uint32_t i = 0; i < MAX_MEMBERS; i++)
	{
		for (uint32_t k = 0; k < MAX_MEMBERS; k++)
			links[i][k].is_cut = false;
	}
	network_loss_permille = 0;
}
