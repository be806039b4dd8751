/*
 * fuzz_registry.c
 *	  What a backend says that it watches, from arbitrary bytes: never a bad
 *	  access, and the tree is sound and emptied afterwards.
 *
 * The first byte is the number of the backend; a byte 0xff ends what one
 * backend says in one record, and the next byte begins another.
 */
/* needs: watch/registry watch/watchtree mvcc/vlog common */
#include "server.h"

/* this layer and below */
#include "storage/ipc/control.h"
#include "storage/ipc/ring.h"
#include "watch/registry.h"

#define SLOTS 4

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ProcSlot slots[SLOTS];
static RaftStatus status;
static StoreVersion version;
static const ControlSizes sizes = {.nslots = SLOTS};

ProcSlot *
control_slot(int slot)
{
	return &slots[slot];
}

const ControlSizes *
control_sizes(void)
{
	return &sizes;
}

RaftStatus *
store_raft_status(void)
{
	return &status;
}

StoreVersion *
store_draft(void)
{
	return &version;
}

void *
store_alloc(size_t size)
{
	return xmalloc(size);
}

void
store_retire(const void *p, size_t size)
{
}

void
ring_notify(uint32_t slot)
{
}

void
ring_flush_completions(void)
{
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t		at = 0;

	registry_init(&version);
	while (at < size)
	{
		uint32_t	slot = data[at] % SLOTS;
		/* now and then the slot has another owner */
		uint64_t	generation = data[at] / 128 * 2 + 1;
		const uint8_t *end = memchr(data + at + 1, 0xff, size - at - 1);
		size_t		len = (end != NULL ? (size_t) (end - data) : size) - at - 1;

		(void) registry_take(slot, generation, bytes_make(data + at + 1, len));
		if (registry_check() != NULL)
			abort();
		at += len + 2;
	}
	version.auth_enabled = !version.auth_enabled;
	version.auth_revision = 1;
	(void) registry_notify(&version);
	registry_fini();
	if (registry_count() != 0)
		abort();
	return 0;
}
