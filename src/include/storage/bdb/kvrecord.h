/*
 * kvrecord.h
 *	  How one version of a key lies in the table "key".
 *
 * Key: mod revision (u64 big-endian), sub revision (u32 big-endian), so that
 * a scan gives revision order.  Record: version byte, flags (1: tombstone),
 * create revision, version, lease (varints), key (bytes), value (the rest).
 */
#ifndef STORAGE_BDB_KVRECORD_H
#define STORAGE_BDB_KVRECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/buf.h"
#include "mvcc/kvversion.h"

#define KVRECORD_KEY_BYTES 12

extern void kvrecord_key(int64_t mod_revision, uint32_t sub_revision,
						 uint8_t key[KVRECORD_KEY_BYTES]);
extern bool kvrecord_key_decode(Bytes key, int64_t *mod_revision,
								uint32_t *sub_revision);
extern void kvrecord_encode(const KvVersion *kv, Buf *out);

typedef struct KvRecord
{
	int64_t		create_revision;
	int64_t		version;		/* 0: tombstone */
	int64_t		lease;
	Bytes		key;
	Bytes		value;
} KvRecord;
/*
 * Bytes borrow from record.  False for what kvrecord_encode() cannot have
 * written: another version, unknown flags, an empty key, a tombstone that
 * holds more than its key, a version number that no key can have.
 */
extern bool kvrecord_decode(Bytes record, KvRecord *kv);

#endif							/* STORAGE_BDB_KVRECORD_H */
