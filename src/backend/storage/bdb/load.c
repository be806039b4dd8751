/*
 * load.c
 *	  Reads the tables into the draft, and refuses what is not sound.
 *
 * What lies on disk may be damaged, of another version, or from another
 * hand.  Whatever is missing, undecodable or out of order stops the start with
 * table, key and what to do: a user that loses his password, or a role that
 * loses a bound, would be worse than a server that does not start.  Values are
 * never shown.
 */
#include "server.h"

/* system */
#include <ctype.h>
#include <stdarg.h>

/* lib and utils */
#include "utils/clock.h"
#include "utils/elog.h"
#include "utils/injection.h"

/* this layer and below */
#include "alarm/alarm.h"
#include "auth/authstate.h"
#include "lease/lease.h"
#include "mvcc/mvcc.h"
#include "persist_internal.h"
#include "member/member.h"
#include "storage/bdb/kvrecord.h"

/* longest key that a message shows */
#define SHOWN_KEY_BYTES 64

typedef struct Loader
{
	const TableOps *ops;
	TableEnv   *env;
	const PersistMeta *meta;
	StoreVersion *draft;
	TableId		table;			/* being read */
	uint64_t	nrecords;
	/* table key: the one before */
	int64_t		mod_revision;
	uint32_t	sub_revision;
} Loader;

typedef bool (*RecordFn) (void *arg, Bytes key, Bytes value);

static void load_meta(Loader *loader, PersistMeta *meta);
static void load_auth(Loader *loader);
static void load_table(Loader *loader, TableId table, RecordFn fn);
static bool load_user(void *arg, Bytes key, Bytes value);
static bool load_role(void *arg, Bytes key, Bytes value);
static bool load_member(void *arg, Bytes key, Bytes value);
static bool load_key(void *arg, Bytes key, Bytes value);
static bool load_alarm(void *arg, Bytes key, Bytes value);
static bool load_lease(void *arg, Bytes key, Bytes value);
static void hang_keys_on_leases(Loader *loader);

static uint64_t get_number(Loader *loader, Bytes name);
static int64_t get_revision(Loader *loader, Bytes name);
static void get_versioned(Loader *loader, Bytes name, Buf *out);
static void get_record(Loader *loader, TableId table, Bytes name, Buf *out);
static void refuse(const Loader *loader, Bytes key, const char *fmt,...)
			__attribute__((format(printf, 3, 4), noreturn));
static void show_key(Bytes key, Buf *out);

void
load_tables(const TableOps *ops, TableEnv *env, PersistMeta *meta)
{
	Loader		loader = {.ops = ops, .env = env, .meta = meta};
	int64_t		begin_ms = clock_monotonic_ms();
	StoreVersion *draft = store_draft();
	uint64_t	nversions;

	loader.draft = draft;
	load_meta(&loader, meta);
	load_auth(&loader);
	/* roles before users: a user's rights stand on them */
	load_table(&loader, TABLE_ROLES, load_role);
	load_table(&loader, TABLE_USERS, load_user);
	load_table(&loader, TABLE_MEMBER, load_member);
	load_table(&loader, TABLE_LEASE, load_lease);
	load_table(&loader, TABLE_ALARM, load_alarm);
	(void) INJECTION_POINT("load-before-keys");
	load_table(&loader, TABLE_KEY, load_key);
	(void) INJECTION_POINT("load-after-keys");
	nversions = loader.nrecords;
	hang_keys_on_leases(&loader);

	draft->kv_revision = meta->kv_revision;
	draft->compacted_revision = meta->compacted_revision;
	draft->applied_index = meta->applied_index;
	draft->applied_term = meta->applied_term;
	store_publish();
	elog_info("tables loaded in %" PRId64 " ms: %" PRIu64 " versions of keys, "
			  "revision %" PRId64 ", applied index %" PRIu64,
			  clock_monotonic_ms() - begin_ms, nversions, meta->kv_revision,
			  meta->applied_index);
}

/* Format first: nothing else can be understood without it. */
static void
load_meta(Loader *loader, PersistMeta *meta)
{
	uint64_t	format = get_number(loader, META_FORMAT);

	if (format != TABLES_FORMAT_VERSION)
		elog_fatal_hint(NULL, "Start the release that wrote them, or give "
						"another data directory.",
						"the tables have format %" PRIu64 "; this release "
						"reads format %d", format, TABLES_FORMAT_VERSION);
	meta->cluster_id = get_number(loader, META_CLUSTER_ID);
	if (meta->cluster_id == 0)
		refuse(loader, META_CLUSTER_ID, "a cluster id is never 0");
	meta->member_id = get_number(loader, META_MEMBER_ID);
	if (meta->member_id == 0)
		refuse(loader, META_MEMBER_ID, "a member id is never 0");
	meta->applied_index = get_number(loader, META_APPLIED_INDEX);
	meta->applied_term = get_number(loader, META_APPLIED_TERM);
	if ((meta->applied_index == 0) != (meta->applied_term == 0))
		refuse(loader, META_APPLIED_TERM,
			   "term %" PRIu64 " does not fit applied index %" PRIu64,
			   meta->applied_term, meta->applied_index);
	meta->kv_revision = get_revision(loader, META_KV_REVISION);
	if (meta->kv_revision < 1)
		refuse(loader, META_KV_REVISION, "a revision is never below 1");
	meta->compacted_revision = get_revision(loader, META_COMPACTED_REVISION);
	if (meta->compacted_revision > meta->kv_revision)
		refuse(loader, META_COMPACTED_REVISION,
			   "compacted revision %" PRId64 " is beyond revision %" PRId64,
			   meta->compacted_revision, meta->kv_revision);
	meta->configuration_index = get_number(loader, META_CONFIGURATION_INDEX);
	buf_init(&meta->configuration, NULL);
	get_versioned(loader, META_CONFIGURATION, &meta->configuration);
}

static void
load_auth(Loader *loader)
{
	Buf			record;
	Cursor		cur;

	buf_init(&record, NULL);
	get_record(loader, TABLE_AUTH, AUTH_ENABLED, &record);
	if (record.len != 1 || record.data[0] > 1)
		refuse(loader, AUTH_ENABLED, "the record is neither on nor off");
	loader->draft->auth_enabled = record.data[0] == 1;

	record.len = 0;
	get_record(loader, TABLE_AUTH, AUTH_REVISION, &record);
	cur = cursor_make(buf_bytes(&record));
	if (record.len != sizeof(uint64_t) ||
		!cursor_get_u64be(&cur, &loader->draft->auth_revision) ||
		loader->draft->auth_revision == 0)
		refuse(loader, AUTH_REVISION, "the record is not an auth revision");
	buf_free(&record);
}

static void
load_table(Loader *loader, TableId table, RecordFn fn)
{
	int			rc;

	loader->table = table;
	loader->nrecords = 0;
	rc = loader->ops->scan(loader->env, table, fn, loader);
	if (rc != 0)
		elog_fatal_hint(NULL, TABLES_HINT,
						"could not read table \"%s\" after %" PRIu64
						" records: %s", table_name(table), loader->nrecords,
						loader->ops->text(loader->env, rc));
}

static bool
load_user(void *arg, Bytes key, Bytes value)
{
	Loader	   *loader = arg;

	if (!user_load(loader->draft, key, value))
		refuse(loader, key, "the record is not a user");
	loader->nrecords++;
	return true;
}

static bool
load_role(void *arg, Bytes key, Bytes value)
{
	Loader	   *loader = arg;

	if (!role_load(loader->draft, key, value))
		refuse(loader, key, "the record is not a role");
	loader->nrecords++;
	return true;
}

static bool
load_member(void *arg, Bytes key, Bytes value)
{
	Loader	   *loader = arg;
	Cursor		cur = cursor_make(key);
	MemberInfo	info;
	uint64_t	id;

	if (key.len != sizeof(id) || !cursor_get_u64be(&cur, &id))
		refuse(loader, key, "the key is not a member id");
	if (!member_decode(value, &info) || info.id != id)
		refuse(loader, key, "the record is not this member");
	member_put(loader->draft, &info);
	loader->nrecords++;
	return true;
}

static bool
load_key(void *arg, Bytes key, Bytes value)
{
	Loader	   *loader = arg;
	KvRecord	kv;
	int64_t		mod;
	uint32_t	sub;

	if (!kvrecord_key_decode(key, &mod, &sub))
		refuse(loader, key, "the key is not a revision");
	if (mod < loader->mod_revision ||
		(mod == loader->mod_revision && sub <= loader->sub_revision &&
		 loader->nrecords > 0))
		refuse(loader, key, "revision %" PRId64 ".%" PRIu32 " comes after %"
			   PRId64 ".%" PRIu32, mod, sub, loader->mod_revision,
			   loader->sub_revision);
	if (mod > loader->meta->kv_revision)
		refuse(loader, key, "revision %" PRId64 " is beyond the last, %" PRId64,
			   mod, loader->meta->kv_revision);
	if (!kvrecord_decode(value, &kv))
		refuse(loader, key, "the record of revision %" PRId64 ".%" PRIu32
			   " is not a version of a key", mod, sub);
	/* a key is created by its first version, and later ones come later */
	if (kv.version > 0 && (kv.version == 1 ? kv.create_revision != mod
						   : kv.create_revision >= mod))
		refuse(loader, key, "revision %" PRId64 ".%" PRIu32 " has version %"
			   PRId64 ", but was created at %" PRId64, mod, sub, kv.version,
			   kv.create_revision);
	loader->mod_revision = mod;
	loader->sub_revision = sub;
	loader->nrecords++;
	mvcc_load_version(loader->draft, kv.key, kv.value, mod, sub,
					  kv.create_revision, kv.version, kv.lease);
	return true;
}

static bool
load_alarm(void *arg, Bytes key, Bytes value)
{
	Loader	   *loader = arg;
	uint64_t	member_id;
	uint32_t	type;

	if (!alarm_key_decode(key, &member_id, &type))
		refuse(loader, key, "the key is not an alarm");
	if (value.len != 1 || value.data[0] != TABLES_RECORD_VERSION)
		refuse(loader, key, "the record is of an unknown version");
	alarm_raise(loader->draft, member_id, type);
	loader->nrecords++;
	return true;
}

static bool
load_lease(void *arg, Bytes key, Bytes value)
{
	Loader	   *loader = arg;

	if (key.len != LEASE_KEY_BYTES)
		refuse(loader, key, "the key is not a lease id");
	if (!lease_load(loader->draft, key, value))
		refuse(loader, key, "the record is not a lease");
	loader->nrecords++;
	return true;
}

/* a key without its lease would stay for ever, so none is let through */
static void
hang_keys_on_leases(Loader *loader)
{
	const KvVersion *kv = lease_load_keys(loader->draft);
	uint8_t		key[KVRECORD_KEY_BYTES];

	if (kv == NULL)
		return;
	kvrecord_key(kv->mod_revision, kv->sub_revision, key);
	refuse(loader, bytes_make(key, sizeof(key)), "revision %" PRId64 ".%"
		   PRIu32 " hangs on lease %" PRIx64 ", which does not exist",
		   kv->mod_revision, kv->sub_revision, (uint64_t) kv->lease);
}

/* a number of meta; FATAL if it is missing or something else */
static uint64_t
get_number(Loader *loader, Bytes name)
{
	Buf			record;
	Cursor		cur;
	uint64_t	number;

	buf_init(&record, NULL);
	get_versioned(loader, name, &record);
	cur = cursor_make(buf_bytes(&record));
	if (record.len != sizeof(number) || !cursor_get_u64be(&cur, &number))
		refuse(loader, name, "the record is not a number");
	buf_free(&record);
	return number;
}

static int64_t
get_revision(Loader *loader, Bytes name)
{
	uint64_t	number = get_number(loader, name);

	if (number > INT64_MAX)
		refuse(loader, name, "the record is not a revision");
	return (int64_t) number;
}

/* a record of meta, behind its version byte; FATAL if it has another */
static void
get_versioned(Loader *loader, Bytes name, Buf *out)
{
	get_record(loader, TABLE_META, name, out);
	if (out->len == 0 || out->data[0] != TABLES_RECORD_VERSION)
		refuse(loader, name, "the record is of an unknown version");
	memmove(out->data, out->data + 1, --out->len);
}

/* FATAL if there is none */
static void
get_record(Loader *loader, TableId table, Bytes name, Buf *out)
{
	bool		found;
	int			rc;

	loader->table = table;
	rc = loader->ops->get(loader->env, table, name, out, &found);
	if (rc != 0)
		elog_fatal_hint(NULL, TABLES_HINT,
						"could not read \"%.*s\" in table \"%s\": %s",
						(int) name.len, (const char *) name.data,
						table_name(table), loader->ops->text(loader->env, rc));
	if (!found)
		refuse(loader, name, "the record is missing");
}

static void
refuse(const Loader *loader, Bytes key, const char *fmt,...)
{
	char		reason[256];
	Buf			text;
	va_list		args;

	va_start(args, fmt);
	vsnprintf(reason, sizeof(reason), fmt, args);
	va_end(args);
	buf_init(&text, NULL);
	show_key(key, &text);
	elog_fatal_hint(NULL, TABLES_HINT,
					"table \"%s\" is not sound at key %s: %s",
					table_name(loader->table), (char *) text.data, reason);
}

/* in hex, and as text if it can be read; ends with a zero */
static void
show_key(Bytes key, Buf *out)
{
	size_t		n = size_min(key.len, SHOWN_KEY_BYTES);
	bool		is_text = n > 0;

	buf_printf(out, "0x");
	for (size_t i = 0; i < n; i++)
	{
		buf_printf(out, "%02x", key.data[i]);
		is_text = is_text && isprint(key.data[i]);
	}
	if (key.len > n)
		buf_printf(out, "... (%zu bytes)", key.len);
	if (is_text)
		buf_printf(out, " (\"%.*s%s\")", (int) n, (const char *) key.data,
				   key.len > n ? "..." : "");
	buf_put_u8(out, '\0');
}
