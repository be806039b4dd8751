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
extern ReqResult command_put(Request *req);
extern ReqResult command_delete_range(Request *req);
extern ReqResult command_txn(Request *req);
extern ReqResult command_compact(Request *req);

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

/* cluster.c, maintenance.c, health.c */
extern ReqResult command_member_list(Request *req);
extern ReqResult command_status(Request *req);
extern ReqResult command_health_check(Request *req);
extern ReqResult command_health_list(Request *req);

#endif							/* COMMAND_COMMAND_H */
