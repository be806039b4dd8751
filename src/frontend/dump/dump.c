/*
 * dump.c
 *	  clav_dump: a snapshot file in a form that can be read: one JSON object a
 *	  line.
 *
 * The first line describes the snapshot, each further one is a record, in the
 * order of the file.  Keys and values that are no UTF-8 text stand in base64,
 * under a name that says so.  The hash of a password is shown only to who asks
 * for it.
 */
#include "server.h"

/* system */
#include <getopt.h>

/* libraries */
#include <openssl/evp.h>

/* lib and utils */
#include "utils/elog.h"
#include "utils/mmgr.h"

/* this layer and below */
#include "auth/authstate.h"
#include "lease/lease.h"
#include "storage/bdb/kvrecord.h"
#include "storage/snap/store.h"

/* this program */
#include "../snapinput/snapinput.h"
#include "fetch.h"

#define EXIT_USAGE 2

typedef struct Options
{
	const char *file;			/* or endpoint, for messages */
	FetchOptions fetch;
	bool		shows_hashes;
	bool		skip_hash_check;
	bool		is_summary;
} Options;

static void read_options(int argc, char **argv, Options *options);
static void dump_meta(const SnapMeta *meta, const uint64_t counts[8]);
static void dump_records(const Options *options, Bytes file);
static void dump_auth(const SnapRecord *record);
static void dump_role(const SnapRecord *record);
static void dump_user(const SnapRecord *record, bool shows_hash);
static void dump_lease(const SnapRecord *record);
static void dump_key(const SnapRecord *record);
static void put_text(const char *name, Bytes text);
static void put_string(Bytes text);
static bool text_is_utf8(Bytes text);
static void put_base64(Bytes bytes);
static void print_help(FILE *out);

int
main(int argc, char **argv)
{
	Options		options = {0};
	uint64_t	counts[8] = {0};
	SnapMeta	meta;
	Bytes		file;
	bool		is_whole;

	elog_set_process_name("clav_dump");
	read_options(argc, argv, &options);
	if (options.fetch.endpoint != NULL)
		file = snapinput_map_fd(fileno(fetch_snapshot(&options.fetch)),
								options.file);
	else
		file = snapinput_map(options.file);
	secret_free(options.fetch.user);
	snapinput_open_store();
	snapinput_check(options.file, file, &meta, counts);
	is_whole = options.skip_hash_check || snapinput_hash_matches(file);
	if (!is_whole)
		elog_fatal("snapshot \"%s\" cannot be used: its contents do not match "
				   "the SHA-256 at its end", options.file);
	dump_meta(&meta, counts);
	if (!options.is_summary)
		dump_records(&options, file);
	if (fflush(stdout) != 0 || ferror(stdout))
		elog_fatal("could not write: %s", strerror(errno));
	return EXIT_SUCCESS;
}

static void
read_options(int argc, char **argv, Options *options)
{
	static const struct option long_options[] = {
		{"endpoint", required_argument, NULL, 'e'},
		{"user", required_argument, NULL, 'u'},
		{"cacert", required_argument, NULL, 'A'},
		{"cert", required_argument, NULL, 'C'},
		{"key", required_argument, NULL, 'K'},
		{"show-password-hashes", no_argument, NULL, 'P'},
		{"skip-hash-check", no_argument, NULL, 'S'},
		{"summary", no_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0}
	};
	int			c;

	while ((c = getopt_long(argc, argv, "e:u:shV", long_options, NULL)) != -1)
	{
		switch (c)
		{
			case 'e':
				options->fetch.endpoint = optarg;
				break;
			case 'u':
				options->fetch.user = secret_take_argument(optarg, ':');
				break;
			case 'A':
				options->fetch.ca_file = optarg;
				break;
			case 'C':
				options->fetch.cert_file = optarg;
				break;
			case 'K':
				options->fetch.key_file = optarg;
				break;
			case 'P':
				options->shows_hashes = true;
				break;
			case 'S':
				options->skip_hash_check = true;
				break;
			case 's':
				options->is_summary = true;
				break;
			case 'h':
				print_help(stdout);
				exit(EXIT_SUCCESS);
			case 'V':
				printf("clav_dump %s\n", CLAVIGER_VERSION);
				exit(EXIT_SUCCESS);
			default:
				exit(EXIT_USAGE);
		}
	}
	if (optind != argc - (options->fetch.endpoint == NULL) ||
		(options->fetch.cert_file == NULL) != (options->fetch.key_file == NULL))
	{
		print_help(stderr);
		exit(EXIT_USAGE);
	}
	options->file = options->fetch.endpoint != NULL ?
		options->fetch.endpoint : argv[optind];
}

static void
dump_meta(const SnapMeta *meta, const uint64_t counts[8])
{
	printf("{\"snapshot\":{\"format\":%d,\"cluster_id\":\"%" PRIx64
		   "\",\"member_id\":\"%" PRIx64 "\",\"created_ms\":%" PRId64
		   ",\"revision\":%" PRId64 ",\"compacted_revision\":%" PRId64
		   ",\"applied_index\":%" PRIu64 ",\"applied_term\":%" PRIu64
		   ",\"versions\":%" PRIu64 ",\"leases\":%" PRIu64 ",\"users\":%" PRIu64
		   ",\"roles\":%" PRIu64 "}}\n", SNAPFILE_FORMAT, meta->cluster_id,
		   meta->member_id, meta->created_ms, meta->revision,
		   meta->compacted_revision, meta->applied_index, meta->applied_term,
		   counts[SNAP_KEYS], counts[SNAP_LEASES], counts[SNAP_USERS],
		   counts[SNAP_ROLES]);
}

static void
dump_records(const Options *options, Bytes file)
{
	SnapReader	reader;
	SnapRecord	record;

	(void) snapreader_open(&reader, file);
	while (snapreader_next(&reader, &record))
	{
		printf("{\"table\":\"%s\"", snaptable_name(record.table));
		switch (record.table)
		{
			case SNAP_AUTH:
				dump_auth(&record);
				break;
			case SNAP_ROLES:
				dump_role(&record);
				break;
			case SNAP_USERS:
				dump_user(&record, options->shows_hashes);
				break;
			case SNAP_LEASES:
				dump_lease(&record);
				break;
			case SNAP_KEYS:
				dump_key(&record);
				break;
		}
		printf("}\n");
	}
}

static void
dump_auth(const SnapRecord *record)
{
	Cursor		cur = cursor_make(record->value);
	uint64_t	revision = 0;

	put_text("name", record->key);
	if (record->value.len == 1)
		printf(",\"value\":%s", record->value.data[0] != 0 ? "true" : "false");
	else if (cursor_get_u64be(&cur, &revision))
		printf(",\"value\":%" PRIu64, revision);
}

/* Users, roles and leases are in the store since they were checked. */
static void
dump_role(const SnapRecord *record)
{
	static const char *const types[] = {"read", "write", "readwrite"};
	const RoleEntry *role = auth_role(store_draft(), record->key);
	RolePermCursor cursor;
	uint32_t	type;
	KeyRange	range;
	bool		is_first = true;

	put_text("name", record->key);
	printf(",\"permissions\":[");
	role_perms_begin(role, &cursor);
	while (role_perms_next(&cursor, &type, &range))
	{
		printf("%s{\"type\":\"%s\"", is_first ? "" : ",",
			   type < lengthof(types) ? types[type] : "unknown");
		put_text("key", range.begin);
		if (range.kind == KEYRANGE_SPAN)
			put_text("range_end", range.end);
		printf(",\"covers\":\"%s\"}", range.kind == KEYRANGE_POINT ? "key" :
			   range.kind == KEYRANGE_FROM ? "from key" : "range");
		is_first = false;
	}
	printf("]");
}

static void
dump_user(const SnapRecord *record, bool shows_hash)
{
	const UserEntry *user = auth_user(store_draft(), record->key);
	RoleNameCursor cursor = user_roles(user);
	Bytes		phc = user_phc(user);
	Bytes		role;
	bool		is_first = true;

	put_text("name", record->key);
	printf(",\"credential_revision\":%" PRIu64 ",\"no_password\":%s"
		   ",\"has_password\":%s,\"roles\":[", user->cred_rev,
		   user->no_password ? "true" : "false",
		   phc.len > 0 ? "true" : "false");
	while (user_roles_next(&cursor, &role))
	{
		if (!is_first)
			printf(",");
		put_string(role);
		is_first = false;
	}
	printf("]");
	if (shows_hash && phc.len > 0)
		put_text("password_hash", phc);
}

static void
dump_lease(const SnapRecord *record)
{
	Cursor		cur = cursor_make(record->key);
	uint64_t	id = 0;
	const LeaseEntry *lease;

	(void) cursor_get_u64be(&cur, &id);
	lease = lease_find(store_draft(), (int64_t) id);
	printf(",\"id\":\"%" PRIx64 "\"", id);
	if (lease != NULL)
		printf(",\"granted_ttl\":%" PRId64 ",\"remaining_ttl\":%" PRId64,
			   lease->granted_sec, lease->remaining_sec);
}

static void
dump_key(const SnapRecord *record)
{
	KvRecord	kv;
	int64_t		mod;
	uint32_t	sub;

	(void) kvrecord_key_decode(record->key, &mod, &sub);
	(void) kvrecord_decode(record->value, &kv);
	put_text("key", kv.key);
	printf(",\"mod_revision\":%" PRId64 ",\"sub_revision\":%" PRIu32, mod, sub);
	if (kv.version == 0)
	{
		printf(",\"deleted\":true");
		return;
	}
	printf(",\"create_revision\":%" PRId64 ",\"version\":%" PRId64,
		   kv.create_revision, kv.version);
	if (kv.lease != 0)
		printf(",\"lease\":\"%" PRIx64 "\"", (uint64_t) kv.lease);
	put_text("value", kv.value);
}

/* ---- JSON ---- */

static void
put_text(const char *name, Bytes text)
{
	if (text_is_utf8(text))
	{
		printf(",\"%s\":", name);
		put_string(text);
		return;
	}
	printf(",\"%s_base64\":\"", name);
	put_base64(text);
	printf("\"");
}

static void
put_string(Bytes text)
{
	putchar('"');
	for (size_t i = 0; i < text.len; i++)
	{
		uint8_t		c = text.data[i];

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

/* RFC 3629: no overlong forms, no surrogates, nothing beyond U+10FFFF */
static bool
text_is_utf8(Bytes text)
{
	for (size_t i = 0; i < text.len;)
	{
		uint8_t		c = text.data[i++];
		uint32_t	rune = c;
		int			more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 :
			c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : -1;

		if (more < 0)
			return false;
		if (more > 0)
			rune = c & (0x3fu >> more);
		for (int k = 0; k < more; k++, i++)
		{
			if (i >= text.len || (text.data[i] & 0xc0) != 0x80)
				return false;
			rune = rune << 6 | (text.data[i] & 0x3f);
		}
		if ((more == 2 && rune < 0x800) || (more == 3 && rune < 0x10000) ||
			(rune >= 0xd800 && rune < 0xe000) || rune > 0x10ffff)
			return false;
	}
	return true;
}

static void
put_base64(Bytes bytes)
{
	unsigned char out[68];

	for (size_t i = 0; i < bytes.len; i += 48)
	{
		size_t		n = size_min(48, bytes.len - i);

		printf("%.*s", EVP_EncodeBlock(out, bytes.data + i, (int) n), out);
	}
}

static void
print_help(FILE *out)
{
	fprintf(out,
			"clav_dump writes a snapshot in a readable form, one JSON object a "
			"line.\n"
			"\n"
			"usage: clav_dump FILE [OPTION ...]\n"
			"       clav_dump --endpoint HOST:PORT [OPTION ...]\n"
			"\n"
			"  -e, --endpoint URL        take a snapshot of a running server\n"
			"  -u, --user NAME:PASSWORD  log in as (an admin, if auth is on)\n"
			"  --cacert FILE  --cert FILE  --key FILE\n"
			"  -s, --summary             only what the file is and how much is "
			"in it\n"
			"  --show-password-hashes    users with the hashes of their "
			"passwords\n"
			"  --skip-hash-check         read a file whose SHA-256 does not "
			"match\n"
			"  -h, --help    -V, --version\n"
			"\n"
			"A snapshot file is made by: etcdctl snapshot save FILE\n");
}
