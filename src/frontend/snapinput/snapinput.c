/*
 * snapinput.c
 *	  A snapshot file as input of a tool.
 *
 * Nothing of a file is used before all of it has been found sound, so it is
 * read twice; it is mapped for that.  Users and roles are decoded by putting
 * them into a store of this process: there is one decoder for them.
 */
#include "server.h"

/* system */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* libraries */
#include <openssl/evp.h>

/* lib and utils */
#include "utils/elog.h"

/* this layer and below */
#include "auth/authstate.h"
#include "lease/lease.h"
#include "storage/bdb/kvrecord.h"
#include "storage/snap/store.h"

/* this program */
#include "snapinput.h"

/* address space for users and roles; pages appear as they are used */
#define STORE_BYTES ((size_t) 4 * 1024 * 1024 * 1024)

static StorePinWord pin_word;

static StorePinWord *get_pin_word(uint32_t i);
static const char *check_auth(const SnapRecord *record);
static const char *check_key(const SnapMeta *meta, const SnapRecord *record);

Bytes
snapinput_map(const char *path)
{
	int			fd = open(path, O_RDONLY | O_CLOEXEC);
	Bytes		file;

	if (fd < 0)
		elog_fatal("could not open snapshot \"%s\": %s", path, strerror(errno));
	file = snapinput_map_fd(fd, path);
	close(fd);
	return file;
}

Bytes
snapinput_map_fd(int fd, const char *path)
{
	struct stat st;
	void	   *data;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		elog_fatal("snapshot \"%s\" is not a regular file", path);
	if (st.st_size == 0)
		elog_fatal("snapshot \"%s\" is empty", path);
	data = mmap(NULL, (size_t) st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (data == MAP_FAILED)
		elog_fatal("could not read snapshot \"%s\": %s", path, strerror(errno));
	return bytes_make(data, (size_t) st.st_size);
}

bool
snapinput_hash_matches(Bytes file)
{
	uint8_t		hash[EVP_MAX_MD_SIZE];
	unsigned	n = 0;

	if (file.len < SNAPFILE_HASH_BYTES)
		return false;
	if (EVP_Digest(file.data, file.len - SNAPFILE_HASH_BYTES, hash, &n,
				   EVP_sha256(), NULL) != 1)
		elog_fatal("could not compute a SHA-256");
	return n == SNAPFILE_HASH_BYTES &&
		memcmp(hash, file.data + file.len - SNAPFILE_HASH_BYTES, n) == 0;
}

void
snapinput_check(const char *path, Bytes file, SnapMeta *meta,
				uint64_t counts[8])
{
	SnapReader	reader;
	SnapRecord	record;
	const char *problem = NULL;
	uint64_t	n = 0;

	if (!snapreader_open(&reader, file))
		elog_fatal("snapshot \"%s\" cannot be used: %s (at byte %" PRIu64 ")",
				   path, reader.error, reader.offset);
	while (problem == NULL && snapreader_next(&reader, &record))
	{
		problem = snapinput_check_record(&reader.meta, &record);
		if (record.table < 8)
			counts[record.table]++;
		n++;
	}
	if (reader.error != NULL)
		elog_fatal("snapshot \"%s\" cannot be used: %s (at byte %" PRIu64 ")",
				   path, reader.error, reader.offset);
	if (problem != NULL)
		elog_fatal("snapshot \"%s\" cannot be used: record %" PRIu64
				   " (%s): %s", path, n, snaptable_name(record.table), problem);
	if (counts[SNAP_AUTH] != 2)
		elog_fatal("snapshot \"%s\" cannot be used: it does not say whether "
				   "authentication is on", path);
	*meta = reader.meta;
}

const char *
snapinput_check_record(const SnapMeta *meta, const SnapRecord *record)
{
	switch (record->table)
	{
		case SNAP_AUTH:
			return check_auth(record);
		case SNAP_ROLES:
			return role_load(store_draft(), record->key, record->value) ?
				NULL : "the record is not a role";
		case SNAP_USERS:
			return user_load(store_draft(), record->key, record->value) ?
				NULL : "the record is not a user";
		case SNAP_KEYS:
			return check_key(meta, record);
		case SNAP_LEASES:
			return lease_load(store_draft(), record->key, record->value) ?
				NULL : "the record is not a lease";
	}
	return "this version knows no such records";
}

void
snapinput_open_store(void)
{
	store_use_populate_thread(false);
	if (!store_create(STORE_BYTES))
		elog_fatal("could not reserve memory: %s", strerror(errno));
	store_attach_writer();
	store_set_pin_words(get_pin_word, 1);
	store_set_own_pin_word(&pin_word);
}

static StorePinWord *
get_pin_word(uint32_t i)
{
	return &pin_word;
}

static const char *
check_auth(const SnapRecord *record)
{
	Cursor		cur = cursor_make(record->value);
	uint64_t	revision;

	if (bytes_equal_cstr(record->key, "authEnabled"))
		return record->value.len == 1 && record->value.data[0] <= 1 ? NULL :
			"the record is neither on nor off";
	if (bytes_equal_cstr(record->key, "authRevision"))
		return record->value.len == sizeof(revision) &&
			cursor_get_u64be(&cur, &revision) && revision > 0 ? NULL :
			"the record is not an auth revision";
	return "there is no such record";
}

/* as the server looks at it when it loads */
static const char *
check_key(const SnapMeta *meta, const SnapRecord *record)
{
	KvRecord	kv;
	int64_t		mod;
	uint32_t	sub;

	if (!kvrecord_key_decode(record->key, &mod, &sub))
		return "the key is not a revision";
	if (mod > meta->revision)
		return "its revision is beyond that of the snapshot";
	if (!kvrecord_decode(record->value, &kv))
		return "the record is not a version of a key";
	if (kv.version > 0 && (kv.version == 1 ? kv.create_revision != mod
						   : kv.create_revision >= mod))
		return "its revision does not fit the one it was created at";
	return NULL;
}
