/*
 * command.h
 *	  The handlers of rpclist.h: what each request means.
 *
 * Each checks the request's sense, asks for the right, and either reads from
 * a pinned version or proposes a log operation.  All are ReqHandlers.
 */
#ifndef COMMAND_COMMAND_H
#define COMMAND_COMMAND_H

#include "dispatch/request.h"

/* kv.c */
extern ReqResult command_range(Request *req);
extern ReqResult command_range_stream(Request *req);
extern ReqResult command_put(Request *req);
extern ReqResult command_delete_range(Request *req);
extern ReqResult command_txn(Request *req);
extern ReqResult command_compact(Request *req);

/* lease.c */
extern ReqResult command_lease_grant(Request *req);
extern ReqResult command_lease_revoke(Request *req);
extern ReqResult command_lease_time_to_live(Request *req);
extern ReqResult command_lease_leases(Request *req);

/* keepalive.c */
extern ReqResult command_lease_keep_alive(Request *req);

/* lock.c, election.c */
extern ReqResult command_lock(Request *req);
extern ReqResult command_unlock(Request *req);
extern ReqResult command_campaign(Request *req);
extern ReqResult command_proclaim(Request *req);
extern ReqResult command_leader(Request *req);
extern ReqResult command_observe(Request *req);
extern ReqResult command_resign(Request *req);

/* watch.c */
extern ReqResult command_watch(Request *req);

/* auth.c */
extern ReqResult command_auth_enable(Request *req);
extern ReqResult command_auth_disable(Request *req);
extern ReqResult command_auth_status(Request *req);
extern ReqResult command_authenticate(Request *req);
extern ReqResult command_user_add(Request *req);
extern ReqResult command_user_get(Request *req);
extern ReqResult command_user_list(Request *req);
extern ReqResult command_user_delete(Request *req);
extern ReqResult command_user_change_password(Request *req);
extern ReqResult command_user_grant_role(Request *req);
extern ReqResult command_user_revoke_role(Request *req);
extern ReqResult command_role_add(Request *req);
extern ReqResult command_role_get(Request *req);
extern ReqResult command_role_list(Request *req);
extern ReqResult command_role_delete(Request *req);
extern ReqResult command_role_grant_permission(Request *req);
extern ReqResult command_role_revoke_permission(Request *req);

/* cluster.c, maintenance.c, hash.c, snapshot.c, health.c */
extern ReqResult command_member_list(Request *req);
extern ReqResult command_member_add(Request *req);
extern ReqResult command_member_remove(Request *req);
extern ReqResult command_member_update(Request *req);
extern ReqResult command_member_promote(Request *req);
extern ReqResult command_status(Request *req);
extern ReqResult command_alarm(Request *req);
extern ReqResult command_defragment(Request *req);
extern ReqResult command_hash(Request *req);
extern ReqResult command_hash_kv(Request *req);
extern ReqResult command_snapshot(Request *req);
extern ReqResult command_move_leader(Request *req);
extern ReqResult command_downgrade(Request *req);
extern ReqResult command_health_check(Request *req);
extern ReqResult command_health_list(Request *req);
extern ReqResult command_health_watch(Request *req);
/* not of a client: a linearizable point from the raft worker, asked as nobody */
extern ReqResult command_health_read(Request *req);

#endif							/* COMMAND_COMMAND_H */
