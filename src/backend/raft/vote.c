/*
 * vote.c
 *	  Term and vote on disk: two slots, written in turn.
 *
 *	<data>/log/vote: two slots of 512 bytes, little-endian
 *	   0  u64  magic "CLVGVOTE"        24  u64  term
 *	   8  u32  format version          32  u64  voted for (0: nobody)
 *	  12  u32  0                       40  u32  CRC32C of bytes 0 to 39
 *	  16  u64  sequence number
 *
 * The slot of sequence n is n modulo 2, and the newest sound one counts.  A
 * write that is torn by a crash hits the older slot, and nobody has acted on
 * it yet.  A slot is one sector, so that the other is never touched.
 *
 * A member that forgets its vote may vote twice in a term, and two leaders in
 * one term lose data.  So a missing file and two bad slots are errors.
 */
#include "server.h"

/* system */
#include <fcntl.h>
#include <unistd.h>

/* libraries */
#include <isa-l/crc.h>

/* lib and utils */
#include "lib/buf.h"
#include "utils/elog.h"
#include "utils/injection.h"

/* this layer and below */
#include "raft/log.h"

#define VOTE_MAGIC UINT64_C(0x45544f5647564c43)	/* "CLVGVOTE" */
#define VOTE_FORMAT_VERSION 1
#define SLOT_BYTES 512
#define SLOT_CRC_OFFSET 40
#define PATH_BYTES 4096

typedef struct Vote
{
	uint64_t	sequence;
	uint64_t	term;
	uint64_t	voted_for;
} Vote;

static void vote_path(const char *dir, char *path);
static int	read_newest(int fd, Vote *vote, uint32_t *nsound);
static bool slot_decode(Bytes slot, uint64_t position, Vote *vote);
static int	slot_write(int fd, const Vote *vote);

int
vote_create(const char *dir, uint64_t term, uint64_t voted_for)
{
	char		path[PATH_BYTES];
	int			fd;
	int			rc;

	vote_path(dir, path);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno;
	/* both slots, so that later a bad one is always news */
	if ((rc = slot_write(fd, &(Vote) {1, term, voted_for})) == 0 &&
		(rc = slot_write(fd, &(Vote) {2, term, voted_for})) == 0)
		rc = log_io_system.fsync_dir(dir) == 0 ? 0 : errno;
	close(fd);
	return rc;
}

bool
vote_load(const char *dir, uint64_t *term, uint64_t *voted_for, char *error,
		  size_t error_size)
{
	char		path[PATH_BYTES];
	Vote		vote;
	uint32_t	nsound = 0;
	int			fd;
	int			rc;

	vote_path(dir, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	rc = fd < 0 ? errno : read_newest(fd, &vote, &nsound);
	/* it may be in the page cache only, from a process that died meanwhile */
	if (rc == 0 && fdatasync(fd) != 0)
		rc = errno;
	if (fd >= 0)
		close(fd);
	if (rc != 0)
	{
		snprintf(error, error_size, "could not read vote file \"%s\": %s; a "
				 "member must not forget how it voted: restore the data "
				 "directory from a backup, or remove it and let the member "
				 "join again", path, strerror(rc));
		return false;
	}
	if (nsound == 0)
	{
		snprintf(error, error_size, "vote file \"%s\" is damaged: neither of "
				 "its two copies is sound; a member must not forget how it "
				 "voted: restore the data directory from a backup, or remove "
				 "it and let the member join again", path);
		return false;
	}
	if (nsound == 1)
		elog_warning("one of the two copies in vote file \"%s\" is not sound; "
					 "the other is used", path);
	*term = vote.term;
	*voted_for = vote.voted_for;
	return true;
}

int
vote_store(const char *dir, uint64_t term, uint64_t voted_for)
{
	char		path[PATH_BYTES];
	Vote		vote;
	uint32_t	nsound;
	int			fd;
	int			rc;

	vote_path(dir, path);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return errno;
	rc = read_newest(fd, &vote, &nsound);
	if (rc == 0 && nsound == 0)
		rc = EIO;
	if (rc == 0)
	{
		vote = (Vote) {vote.sequence + 1, term, voted_for};
		rc = slot_write(fd, &vote);
	}
	close(fd);
	return rc;
}

static void
vote_path(const char *dir, char *path)
{
	snprintf(path, PATH_BYTES, "%s/vote", dir);
}

static int
read_newest(int fd, Vote *vote, uint32_t *nsound)
{
	uint8_t		bytes[2 * SLOT_BYTES] = {0};

	*vote = (Vote) {0};
	*nsound = 0;
	if (pread(fd, bytes, sizeof(bytes), 0) < 0)
		return errno;
	for (uint64_t i = 0; i < 2; i++)
	{
		Vote		found;

		if (!slot_decode(bytes_make(bytes + i * SLOT_BYTES, SLOT_BYTES), i,
						 &found))
			continue;
		(*nsound)++;
		if (found.sequence > vote->sequence)
			*vote = found;
	}
	return 0;
}

static bool
slot_decode(Bytes slot, uint64_t position, Vote *vote)
{
	Cursor		cur = cursor_make(slot);
	uint64_t	magic;
	uint32_t	version;
	uint32_t	zero;
	uint32_t	crc;

	return cursor_get_u64(&cur, &magic) && cursor_get_u32(&cur, &version) &&
		cursor_get_u32(&cur, &zero) && cursor_get_u64(&cur, &vote->sequence) &&
		cursor_get_u64(&cur, &vote->term) &&
		cursor_get_u64(&cur, &vote->voted_for) && cursor_get_u32(&cur, &crc) &&
		magic == VOTE_MAGIC && version == VOTE_FORMAT_VERSION && zero == 0 &&
		vote->sequence > 0 && vote->sequence % 2 == position &&
		crc32_iscsi((unsigned char *) slot.data, SLOT_CRC_OFFSET, 0) == crc;
}

static int
slot_write(int fd, const Vote *vote)
{
	int			rc = INJECTION_POINT("vote-before-store");
	Buf			buf;

	if (rc != 0)
		return rc;
	buf_init(&buf, NULL);
	buf_put_u64(&buf, VOTE_MAGIC);
	buf_put_u32(&buf, VOTE_FORMAT_VERSION);
	buf_put_u32(&buf, 0);
	buf_put_u64(&buf, vote->sequence);
	buf_put_u64(&buf, vote->term);
	buf_put_u64(&buf, vote->voted_for);
	buf_put_u32(&buf, crc32_iscsi(buf.data, (int) buf.len, 0));
	memset(buf_reserve(&buf, SLOT_BYTES - buf.len), 0, SLOT_BYTES - buf.len);
	buf.len = SLOT_BYTES;
	if (pwrite(fd, buf.data, buf.len,
			   (off_t) (vote->sequence % 2) * SLOT_BYTES) !=
		(ssize_t) buf.len)
		rc = errno != 0 ? errno : EIO;
	if (rc == 0)
		rc = INJECTION_POINT("vote-before-sync");
	if (rc == 0 && fdatasync(fd) != 0)
		rc = errno;
	buf_free(&buf);
	return rc != 0 ? rc : INJECTION_POINT("vote-after-store");
}
