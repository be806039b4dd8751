/*
 * doublewrite.h
 *	  Pages of the tables reach their place only after they stand elsewhere.
 *
 * For bdb.c.  One at a time in a process, and one thread at a time, as with
 * TableOps; it stands between Berkeley DB and the files of the environment
 * from begin to end.
 */
#ifndef STORAGE_BDB_DOUBLEWRITE_H
#define STORAGE_BDB_DOUBLEWRITE_H

#include <stdbool.h>

#include "lib/bytes.h"

/* the file in the directory of the environment */
#define DOUBLEWRITE_NAME "doublewrite"

/*
 * Put in their places what the file has of an end in the middle of writing
 * pages, and see to all writing from now on.  Before the environment is
 * opened: recovery reads the pages.  The file is made if it is not there;
 * whoever creates the environment syncs the directory.  Returns 0 or an errno;
 * then nothing has begun.
 */
extern int	doublewrite_begin(const char *dir);

/*
 * After the environment is closed.  Pages that were written and never synced
 * are lost, as they would be in a crash; recovery makes them again.
 */
extern void doublewrite_end(void);

/*
 * What a batch holds, for each page in order until fn returns false.  name is
 * that of a file in the directory, without any '/'.  False if it is no batch:
 * never written, or not as a whole.  Borrows from the input.
 */
extern bool doublewrite_decode(Bytes batch, bool (*fn) (void *arg, Bytes name,
														uint64_t offset,
														Bytes page),
							   void *arg);

#endif							/* STORAGE_BDB_DOUBLEWRITE_H */
