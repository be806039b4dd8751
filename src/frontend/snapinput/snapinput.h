/*
 * snapinput.h
 *	  A snapshot file as input of a tool: mapped, and checked.
 */
#ifndef SNAPINPUT_H
#define SNAPINPUT_H

#include <stdbool.h>

#include "common/snapfile.h"

/*
 * Map the file.  Ends the program with a message if that cannot be done.  The
 * mapping stays until the end.
 */
extern Bytes snapinput_map(const char *path);
/* the same for what is open; the descriptor may be closed afterwards */
extern Bytes snapinput_map_fd(int fd, const char *path);

/* the SHA-256 at the end is that of what stands before it */
extern bool snapinput_hash_matches(Bytes file);

/*
 * Read all of it once: blocks, checksums, records and the number of them.
 * Then what the records say: each must be what the server would load.  Ends the
 * program with a message if something is not sound; else fills meta and counts
 * (by SnapTable; 8 of them are enough).
 */
extern void snapinput_check(const char *path, Bytes file, SnapMeta *meta,
							uint64_t counts[8]);

/* one record as snapinput_check() does it; NULL, or what is wrong */
extern const char *snapinput_check_record(const SnapMeta *meta,
										  const SnapRecord *record);

/* memory for the users and roles of snapinput_check_record() */
extern void snapinput_open_store(void);

#endif							/* SNAPINPUT_H */
