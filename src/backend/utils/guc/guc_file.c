/*
 * guc_file.c
 *	  Reads settings from claviger.conf, a file in libconfig's syntax.
 *
 *	name = "m1";  heartbeat_interval = 100;  grpc_keepalive_interval = "2h";
 *	listen_client_urls = ["https://10.0.0.1:2379", "http://127.0.0.1:2379"];
 *
 * libconfig 1.5 takes an integer of more than 32 bits without the suffix L
 * for another number and says nothing, so the text is gone through first: the
 * suffix is put where it is needed.  The same pass refuses @include, whose
 * files would escape it.
 */
#include "server.h"

/* system */
#include <ctype.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* libraries */
#include <libconfig.h>

/* lib and utils */
#include "lib/buf.h"

/* this layer and below */
#include "guc_internal.h"

#define FILE_MAX_BYTES (1024 * 1024)

static bool read_text(GucDraft *draft, const char *path, bool may_miss,
					  Buf *text);
static bool widen_integers(GucDraft *draft, const char *path, Buf *text,
						   Buf *out);
static const char *skip_quiet(const char *p);
static const char *integer_end(const char *p, bool *needs_suffix, bool *fits);
static bool take_settings(GucDraft *draft, const char *path,
						  const config_setting_t *root, bool in_data_dir);
static bool take_setting(GucDraft *draft, const char *where,
						 const config_setting_t *item, bool in_data_dir);
static const char *value_text(GucDraft *draft, const config_setting_t *item);
static const char *list_text(GucDraft *draft, const config_setting_t *item);

bool
guc_read_file(GucDraft *draft, const char *path, bool in_data_dir)
{
	Buf			text;
	Buf			widened;
	config_t	config;
	bool		ok;

	buf_init(&text, draft->mcx);
	buf_init(&widened, draft->mcx);
	if (!read_text(draft, path, in_data_dir, &text))
		return false;
	if (text.data == NULL)
		return true;
	if (!widen_integers(draft, path, &text, &widened))
		return false;
	config_init(&config);
	if (config_read_string(&config, (const char *) widened.data) != CONFIG_TRUE)
		ok = guc_draft_fail(draft, "%s:%d: %s", path,
							config_error_line(&config),
							config_error_text(&config));
	else
		ok = take_settings(draft, path, config_root_setting(&config),
						   in_data_dir);
	config_destroy(&config);
	return ok;
}

/* The whole file with a zero behind it; data NULL: it may miss, and does. */
static bool
read_text(GucDraft *draft, const char *path, bool may_miss, Buf *text)
{
	int			fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	ssize_t		n = 0;

	if (fd < 0 && may_miss && (errno == ENOENT || errno == ENOTDIR))
		return true;
	if (fd < 0 || fstat(fd, &st) < 0)
	{
		int			err = errno;

		if (fd >= 0)
			close(fd);
		return guc_draft_fail(draft, "%s: cannot read the settings file: %s",
							  path, strerror(err));
	}
	if (!S_ISREG(st.st_mode))
	{
		close(fd);
		return guc_draft_fail(draft, "%s: the settings file is not a regular "
							  "file", path);
	}
	do
	{
		n = read(fd, buf_reserve(text, 4096), 4096);
		if (n > 0)
			text->len += (size_t) n;
	} while ((n > 0 && text->len <= FILE_MAX_BYTES) ||
			 (n < 0 && errno == EINTR));
	if (n < 0)
		guc_draft_fail(draft, "%s: cannot read the settings file: %s", path,
					   strerror(errno));
	close(fd);
	if (n < 0)
		return false;
	if (text->len > FILE_MAX_BYTES)
		return guc_draft_fail(draft, "%s: the settings file is larger than "
							  "1 MiB", path);
	if (memchr(text->data, '\0', text->len) != NULL)
		return guc_draft_fail(draft, "%s: the settings file holds a zero byte",
							  path);
	buf_put_u8(text, '\0');
	return true;
}

/*
 * Copy the text, an L behind each integer that needs it.  Strings, comments
 * and names are passed over; lines stay as they are, so that messages name
 * the right one.
 */
static bool
widen_integers(GucDraft *draft, const char *path, Buf *text, Buf *out)
{
	const char *p = (const char *) text->data;
	int			line = 1;

	while (*p != '\0')
	{
		const char *end = skip_quiet(p);
		bool		needs_suffix = false;
		bool		fits = true;

		if (end == p && isdigit((unsigned char) *p))
			end = integer_end(p, &needs_suffix, &fits);
		else if (end == p)
			end = p + 1;
		if (!fits)
			return guc_draft_fail(draft, "%s:%d: the number %.*s is too large",
								  path, line, (int) (end - p), p);
		if (*p == '@')
			return guc_draft_fail(draft, "%s:%d: @include is not supported",
								  path, line);
		for (const char *q = p; q < end; q++)
			line += *q == '\n';
		buf_append(out, p, (size_t) (end - p));
		if (needs_suffix)
			buf_put_u8(out, 'L');
		p = end;
	}
	buf_put_u8(out, '\0');
	return true;
}

/* past a string, a comment or a name that begins at p; p if none does */
static const char *
skip_quiet(const char *p)
{
	if (*p == '"')
	{
		for (p++; *p != '\0' && *p != '"'; p++)
		{
			if (*p == '\\' && p[1] != '\0')
				p++;
		}
		return *p == '"' ? p + 1 : p;
	}
	if (*p == '#' || (p[0] == '/' && p[1] == '/'))
		return p + strcspn(p, "\n");
	if (p[0] == '/' && p[1] == '*')
	{
		const char *end = strstr(p + 2, "*/");

		return end == NULL ? p + strlen(p) : end + 2;
	}
	if (isalpha((unsigned char) *p) || *p == '*' || *p == '_')
	{
		while (isalnum((unsigned char) *p) || *p == '-' || *p == '_' ||
			   *p == '*')
			p++;
	}
	return p;
}

/*
 * The end of the number at p.  Fractions and numbers that carry their suffix
 * are libconfig's affair, but that a suffixed one fits is not.
 */
static const char *
integer_end(const char *p, bool *needs_suffix, bool *fits)
{
	bool		is_hex = p[0] == '0' && (p[1] == 'x' || p[1] == 'X');
	char	   *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(p, &end, is_hex ? 16 : 10);
	if (!is_hex && (*end == '.' || *end == 'e' || *end == 'E'))
	{
		/* a fraction: whatever belongs to it */
		while (isalnum((unsigned char) *end) || *end == '.' ||
			   ((*end == '+' || *end == '-') &&
				(end[-1] == 'e' || end[-1] == 'E')))
			end++;
		return end;
	}
	*fits = errno == 0 && value <= INT64_MAX;
	*needs_suffix = *fits && value > INT32_MAX && *end != 'L';
	/* the suffix may be doubled */
	while (*end == 'L')
		end++;
	return end;
}

static bool
take_settings(GucDraft *draft, const char *path, const config_setting_t *root,
			  bool in_data_dir)
{
	int			n = config_setting_length(root);

	for (int i = 0; i < n; i++)
	{
		const config_setting_t *item =
			config_setting_get_elem(root, (unsigned) i);
		const char *where = mcx_printf(draft->mcx, "%s:%d", path,
									   (int) config_setting_source_line(item));

		if (!take_setting(draft, where, item, in_data_dir))
			return false;
	}
	return true;
}

static bool
take_setting(GucDraft *draft, const char *where, const config_setting_t *item,
			 bool in_data_dir)
{
	const char *name = config_setting_name(item);
	const GucEntry *entry = guc_lookup(bytes_from_cstr(name));
	const char *text;

	if (entry == NULL)
	{
		const char *closest = guc_closest_name(bytes_from_cstr(name),
											   draft->mcx);

		if (closest == NULL)
			return guc_draft_fail(draft, "%s: unknown setting \"%s\"", where,
								  name);
		return guc_draft_fail(draft, "%s: unknown setting \"%s\"; did you "
							  "mean \"%s\"?", where, name, closest);
	}
	if (entry->variable == NULL)
		return guc_pass_over(draft, entry, value_text(draft, item), where);
	if (entry->variable == &guc_config_file)
		return guc_draft_fail(draft, "%s: setting \"config_file\" cannot stand "
							  "in the file itself", where);
	if (entry->variable == &guc_data_dir && in_data_dir)
		return guc_draft_fail(draft, "%s: setting \"data_dir\" cannot stand in "
							  "a file that was found in the data directory",
							  where);
	/* libconfig refuses the same name twice, but not two spellings of it */
	if (guc_draft_value(draft, entry)->source == GUC_SOURCE_FILE)
		return guc_draft_fail(draft, "%s: setting \"%s\" was given before (%s)",
							  where, entry->name,
							  guc_draft_value(draft, entry)->where);
	text = value_text(draft, item);
	if (text == NULL)
		return guc_draft_fail(draft, "%s: setting \"%s\": must be a string, a "
							  "whole number, true or false, or a list of "
							  "strings", where, entry->name);
	return guc_draft_put(draft, entry, text, GUC_SOURCE_FILE, where);
}

/* as it would stand on the command line, or NULL if it cannot */
static const char *
value_text(GucDraft *draft, const config_setting_t *item)
{
	switch (config_setting_type(item))
	{
		case CONFIG_TYPE_STRING:
			return config_setting_get_string(item);
		case CONFIG_TYPE_INT:
			return mcx_printf(draft->mcx, "%d", config_setting_get_int(item));
		case CONFIG_TYPE_INT64:
			return mcx_printf(draft->mcx, "%lld",
							  config_setting_get_int64(item));
		case CONFIG_TYPE_BOOL:
			return config_setting_get_bool(item) ? "true" : "false";
		case CONFIG_TYPE_ARRAY:
		case CONFIG_TYPE_LIST:
			return list_text(draft, item);
		default:
			return NULL;
	}
}

/* strings joined by commas */
static const char *
list_text(GucDraft *draft, const config_setting_t *item)
{
	Buf			text;

	buf_init(&text, draft->mcx);
	for (int i = 0; i < config_setting_length(item); i++)
	{
		const char *part = config_setting_get_string_elem(item, i);

		if (part == NULL)
			return NULL;
		buf_printf(&text, "%s%s", i == 0 ? "" : ",", part);
	}
	buf_put_u8(&text, '\0');
	return (const char *) text.data;
}
