/*
 * guard.h
 *	  What Berkeley DB may not go on after, and what it may not do.
 */
#ifndef STORAGE_BDB_GUARD_H
#define STORAGE_BDB_GUARD_H

/*
 * Before an environment is opened, while nobody uses the library.  create: the
 * tables are made, which may fail and be taken back.  Returns 0 or an errno.
 */
extern int	guard_set(bool create);

/*
 * Before tables are opened: can all of the library's log be read?  Returns 0 or
 * an errno, after a message.
 */
extern int	guard_read_log(const char *dir);

#endif							/* STORAGE_BDB_GUARD_H */
