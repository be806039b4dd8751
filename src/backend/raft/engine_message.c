/*
 * engine_message.c
 *	  Messages between members as bytes; knows nothing of the library.
 *
 *	version (u8, 1), kind (u8), flags (u8), from, to, term (u64 each), then
 *	  append			prev index, prev term, commit index (u64 each), n (u32),
 *						for each entry: term (u64), type (u8), data (bytes)
 *	  append result		rejected, last index, hint term
 *	  vote				last index, last term; flags 1: disrupt leader,
 *						2: pre-vote, 4: you are a voter
 *	  vote result		flags 1: granted, 2: pre-vote
 *	  snapshot			index, term, configuration index, configuration (bytes)
 *	  timeout now		last index, last term
 *	  read, its result	seq
 *
 * Numbers are little-endian; "bytes" is a length (u32) and the bytes.  An
 * entry's index is not sent: it follows from where it stands.  Each
 * field of a message is written here and nowhere else, so what the library
 * leaves uninitialised never gets out.
 *
 * The decoder takes what the encoder can have written and nothing else; what
 * the fields mean is checked by engine_receive().
 */
#include "server.h"

/* this layer and below */
#include "raft/engine.h"

#define MESSAGE_VERSION 1

#define FLAG_DISRUPT 1
#define FLAG_PRE_VOTE 2
#define FLAG_VOTER 4
#define FLAG_GRANTED 1

/* the least that an entry takes: bounds the array before it is allocated */
#define ENTRY_MIN_BYTES 13

static uint8_t message_flags(const EngineMessage *m);
static bool take_flags(EngineMessage *m, uint8_t flags);
static bool get_append(Cursor *cur, EngineMessage *m, MemContext *mcx);
static bool get_entry(Cursor *cur, LogEntry *entry);
static void put_data(Buf *out, Bytes data);
static bool get_data(Cursor *cur, Bytes *data);
static bool get_two(Cursor *cur, uint64_t *a, uint64_t *b);

void
engine_message_encode(const EngineMessage *m, Buf *out)
{
	buf_put_u8(out, MESSAGE_VERSION);
	buf_put_u8(out, (uint8_t) m->kind);
	buf_put_u8(out, message_flags(m));
	buf_put_u64(out, m->from);
	buf_put_u64(out, m->to);
	buf_put_u64(out, m->term);
	switch (m->kind)
	{
		case MESSAGE_APPEND:
			Assert(m->append.nentries == 0 || m->append.entries != NULL);
			buf_put_u64(out, m->append.prev_index);
			buf_put_u64(out, m->append.prev_term);
			buf_put_u64(out, m->append.commit_index);
			buf_put_u32(out, m->append.nentries);
			for (uint32_t i = 0; i < m->append.nentries; i++)
			{
				buf_put_u64(out, m->append.entries[i].term);
				buf_put_u8(out, m->append.entries[i].type);
				put_data(out, m->append.entries[i].data);
			}
			break;
		case MESSAGE_APPEND_RESULT:
			buf_put_u64(out, m->append_result.rejected);
			buf_put_u64(out, m->append_result.last_index);
			buf_put_u64(out, m->append_result.hint_term);
			break;
		case MESSAGE_VOTE:
			buf_put_u64(out, m->vote.last_index);
			buf_put_u64(out, m->vote.last_term);
			break;
		case MESSAGE_VOTE_RESULT:
			break;
		case MESSAGE_SNAPSHOT:
			buf_put_u64(out, m->snapshot.index);
			buf_put_u64(out, m->snapshot.term);
			buf_put_u64(out, m->snapshot.configuration_index);
			put_data(out, m->snapshot.configuration);
			break;
		case MESSAGE_TIMEOUT_NOW:
			buf_put_u64(out, m->timeout_now.last_index);
			buf_put_u64(out, m->timeout_now.last_term);
			break;
		case MESSAGE_READ:
		case MESSAGE_READ_RESULT:
			buf_put_u64(out, m->read.seq);
			break;
	}
}

bool
engine_message_decode(Bytes encoded, EngineMessage *m, MemContext *mcx)
{
	Cursor		cur = cursor_make(encoded);
	uint8_t		version;
	uint8_t		kind;
	uint8_t		flags;
	bool		is_whole = false;

	memset(m, 0, sizeof(*m));
	if (!cursor_get_u8(&cur, &version) || version != MESSAGE_VERSION ||
		!cursor_get_u8(&cur, &kind) || !cursor_get_u8(&cur, &flags) ||
		!cursor_get_u64(&cur, &m->from) || !cursor_get_u64(&cur, &m->to) ||
		!cursor_get_u64(&cur, &m->term))
		return false;
	m->kind = (EngineMessageKind) kind;
	switch (kind)
	{
		case MESSAGE_APPEND:
			is_whole = get_append(&cur, m, mcx);
			break;
		case MESSAGE_APPEND_RESULT:
			is_whole = get_two(&cur, &m->append_result.rejected,
							   &m->append_result.last_index) &&
				cursor_get_u64(&cur, &m->append_result.hint_term);
			break;
		case MESSAGE_VOTE:
			is_whole = get_two(&cur, &m->vote.last_index, &m->vote.last_term);
			break;
		case MESSAGE_VOTE_RESULT:
			is_whole = true;
			break;
		case MESSAGE_SNAPSHOT:
			is_whole = get_two(&cur, &m->snapshot.index, &m->snapshot.term) &&
				cursor_get_u64(&cur, &m->snapshot.configuration_index) &&
				get_data(&cur, &m->snapshot.configuration);
			break;
		case MESSAGE_TIMEOUT_NOW:
			is_whole = get_two(&cur, &m->timeout_now.last_index,
							   &m->timeout_now.last_term);
			break;
		case MESSAGE_READ:
		case MESSAGE_READ_RESULT:
			is_whole = cursor_get_u64(&cur, &m->read.seq);
			break;
	}
	return is_whole && cursor_left(&cur) == 0 && take_flags(m, flags);
}

static uint8_t
message_flags(const EngineMessage *m)
{
	if (m->kind == MESSAGE_VOTE)
		return (uint8_t) ((m->vote.disrupt_leader ? FLAG_DISRUPT : 0) |
						  (m->vote.is_pre_vote ? FLAG_PRE_VOTE : 0) |
						  (m->vote.is_voter ? FLAG_VOTER : 0));
	if (m->kind == MESSAGE_VOTE_RESULT)
		return (uint8_t) ((m->vote_result.is_granted ? FLAG_GRANTED : 0) |
						  (m->vote_result.is_pre_vote ? FLAG_PRE_VOTE : 0));
	return 0;
}

static bool
take_flags(EngineMessage *m, uint8_t flags)
{
	if (m->kind == MESSAGE_VOTE)
	{
		m->vote.disrupt_leader = (flags & FLAG_DISRUPT) != 0;
		m->vote.is_pre_vote = (flags & FLAG_PRE_VOTE) != 0;
		m->vote.is_voter = (flags & FLAG_VOTER) != 0;
	}
	else if (m->kind == MESSAGE_VOTE_RESULT)
	{
		m->vote_result.is_granted = (flags & FLAG_GRANTED) != 0;
		m->vote_result.is_pre_vote = (flags & FLAG_PRE_VOTE) != 0;
	}
	return message_flags(m) == flags;
}

static bool
get_append(Cursor *cur, EngineMessage *m, MemContext *mcx)
{
	LogEntry   *entries;
	uint32_t	n;

	if (!get_two(cur, &m->append.prev_index, &m->append.prev_term) ||
		!cursor_get_u64(cur, &m->append.commit_index) ||
		!cursor_get_u32(cur, &n) ||
		n > cursor_left(cur) / ENTRY_MIN_BYTES)
		return false;
	m->append.nentries = n;
	if (n == 0)
		return true;
	entries = mcx_alloc(mcx, n * sizeof(*entries));
	m->append.entries = entries;
	for (uint32_t i = 0; i < n; i++)
	{
		entries[i].index = m->append.prev_index + 1 + i;
		if (!get_entry(cur, &entries[i]))
			return false;
	}
	return true;
}

static bool
get_entry(Cursor *cur, LogEntry *entry)
{
	return cursor_get_u64(cur, &entry->term) &&
		cursor_get_u8(cur, &entry->type) &&
		get_data(cur, &entry->data);
}

static void
put_data(Buf *out, Bytes data)
{
	Assert(data.len <= UINT32_MAX);
	buf_put_u32(out, (uint32_t) data.len);
	buf_append(out, data.data, data.len);
}

static bool
get_data(Cursor *cur, Bytes *data)
{
	uint32_t	len;

	return cursor_get_u32(cur, &len) && cursor_get_raw(cur, len, data);
}

static bool
get_two(Cursor *cur, uint64_t *a, uint64_t *b)
{
	return cursor_get_u64(cur, a) && cursor_get_u64(cur, b);
}
