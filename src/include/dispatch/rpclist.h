/*
 * rpclist.h
 *	  Every RPC: one line each.
 *
 *	RPC(symbol, service, method, kind, flags, request, response, handler)
 *
 * A method that is not here is unknown; one whose handler is NULL is answered
 * Unimplemented.  The handler decides with request_authorize() what it needs
 * (etcd-auth-semantics.md, part B); dispatch sees to it that no request is
 * answered without that.
 *
 * No include guard: expanded where needed.
 */
RPC(RPC_KV_RANGE, "etcdserverpb.KV", "Range", RPC_UNARY, 0,
	etcdserverpb__range_request__descriptor,
	etcdserverpb__range_response__descriptor, command_range)
RPC(RPC_KV_PUT, "etcdserverpb.KV", "Put", RPC_UNARY, 0,
	etcdserverpb__put_request__descriptor,
	etcdserverpb__put_response__descriptor, command_put)
RPC(RPC_KV_DELETE_RANGE, "etcdserverpb.KV", "DeleteRange", RPC_UNARY, 0,
	etcdserverpb__delete_range_request__descriptor,
	etcdserverpb__delete_range_response__descriptor, command_delete_range)
RPC(RPC_KV_TXN, "etcdserverpb.KV", "Txn", RPC_UNARY, 0,
	etcdserverpb__txn_request__descriptor,
	etcdserverpb__txn_response__descriptor, command_txn)
RPC(RPC_KV_COMPACT, "etcdserverpb.KV", "Compact", RPC_UNARY, 0,
	etcdserverpb__compaction_request__descriptor,
	etcdserverpb__compaction_response__descriptor, command_compact)
RPC(RPC_KV_RANGE_STREAM, "etcdserverpb.KV", "RangeStream", RPC_SERVER_STREAM, RPC_FLAG_NO_HEADER,
	etcdserverpb__range_request__descriptor,
	etcdserverpb__range_stream_response__descriptor, command_range_stream)
RPC(RPC_WATCH_WATCH, "etcdserverpb.Watch", "Watch", RPC_BIDI, RPC_FLAG_ENDLESS,
	etcdserverpb__watch_request__descriptor,
	etcdserverpb__watch_response__descriptor, command_watch)
RPC(RPC_LEASE_LEASE_GRANT, "etcdserverpb.Lease", "LeaseGrant", RPC_UNARY, 0,
	etcdserverpb__lease_grant_request__descriptor,
	etcdserverpb__lease_grant_response__descriptor, command_lease_grant)
RPC(RPC_LEASE_LEASE_REVOKE, "etcdserverpb.Lease", "LeaseRevoke", RPC_UNARY, 0,
	etcdserverpb__lease_revoke_request__descriptor,
	etcdserverpb__lease_revoke_response__descriptor, command_lease_revoke)
RPC(RPC_LEASE_LEASE_TIME_TO_LIVE, "etcdserverpb.Lease", "LeaseTimeToLive", RPC_UNARY, 0,
	etcdserverpb__lease_time_to_live_request__descriptor,
	etcdserverpb__lease_time_to_live_response__descriptor, command_lease_time_to_live)
RPC(RPC_LEASE_LEASE_LEASES, "etcdserverpb.Lease", "LeaseLeases", RPC_UNARY, 0,
	etcdserverpb__lease_leases_request__descriptor,
	etcdserverpb__lease_leases_response__descriptor, command_lease_leases)
RPC(RPC_LEASE_LEASE_KEEP_ALIVE, "etcdserverpb.Lease", "LeaseKeepAlive", RPC_BIDI, RPC_FLAG_ENDLESS,
	etcdserverpb__lease_keep_alive_request__descriptor,
	etcdserverpb__lease_keep_alive_response__descriptor, command_lease_keep_alive)
RPC(RPC_CLUSTER_MEMBER_ADD, "etcdserverpb.Cluster", "MemberAdd", RPC_UNARY, RPC_FLAG_NO_REVISION,
	etcdserverpb__member_add_request__descriptor,
	etcdserverpb__member_add_response__descriptor, command_member_add)
RPC(RPC_CLUSTER_MEMBER_REMOVE, "etcdserverpb.Cluster", "MemberRemove", RPC_UNARY, RPC_FLAG_NO_REVISION,
	etcdserverpb__member_remove_request__descriptor,
	etcdserverpb__member_remove_response__descriptor, command_member_remove)
RPC(RPC_CLUSTER_MEMBER_UPDATE, "etcdserverpb.Cluster", "MemberUpdate", RPC_UNARY, RPC_FLAG_NO_REVISION,
	etcdserverpb__member_update_request__descriptor,
	etcdserverpb__member_update_response__descriptor, command_member_update)
RPC(RPC_CLUSTER_MEMBER_PROMOTE, "etcdserverpb.Cluster", "MemberPromote", RPC_UNARY, RPC_FLAG_NO_REVISION,
	etcdserverpb__member_promote_request__descriptor,
	etcdserverpb__member_promote_response__descriptor, command_member_promote)
RPC(RPC_CLUSTER_MEMBER_LIST, "etcdserverpb.Cluster", "MemberList", RPC_UNARY, RPC_FLAG_NO_REVISION,
	etcdserverpb__member_list_request__descriptor,
	etcdserverpb__member_list_response__descriptor, command_member_list)
RPC(RPC_MAINTENANCE_STATUS, "etcdserverpb.Maintenance", "Status", RPC_UNARY, 0,
	etcdserverpb__status_request__descriptor,
	etcdserverpb__status_response__descriptor, command_status)
RPC(RPC_MAINTENANCE_ALARM, "etcdserverpb.Maintenance", "Alarm", RPC_UNARY, 0,
	etcdserverpb__alarm_request__descriptor,
	etcdserverpb__alarm_response__descriptor, command_alarm)
RPC(RPC_MAINTENANCE_HASH, "etcdserverpb.Maintenance", "Hash", RPC_UNARY, 0,
	etcdserverpb__hash_request__descriptor,
	etcdserverpb__hash_response__descriptor, command_hash)
RPC(RPC_MAINTENANCE_HASH_KV, "etcdserverpb.Maintenance", "HashKV", RPC_UNARY, 0,
	etcdserverpb__hash_kvrequest__descriptor,
	etcdserverpb__hash_kvresponse__descriptor, command_hash_kv)
RPC(RPC_MAINTENANCE_DOWNGRADE, "etcdserverpb.Maintenance", "Downgrade", RPC_UNARY, 0,
	etcdserverpb__downgrade_request__descriptor,
	etcdserverpb__downgrade_response__descriptor, command_downgrade)
RPC(RPC_MAINTENANCE_DEFRAGMENT, "etcdserverpb.Maintenance", "Defragment", RPC_UNARY, RPC_FLAG_NO_HEADER,
	etcdserverpb__defragment_request__descriptor,
	etcdserverpb__defragment_response__descriptor, command_defragment)
RPC(RPC_MAINTENANCE_MOVE_LEADER, "etcdserverpb.Maintenance", "MoveLeader", RPC_UNARY, RPC_FLAG_NO_HEADER,
	etcdserverpb__move_leader_request__descriptor,
	etcdserverpb__move_leader_response__descriptor, command_move_leader)
RPC(RPC_MAINTENANCE_SNAPSHOT, "etcdserverpb.Maintenance", "Snapshot", RPC_SERVER_STREAM, RPC_FLAG_NO_HEADER,
	etcdserverpb__snapshot_request__descriptor,
	etcdserverpb__snapshot_response__descriptor, command_snapshot)
RPC(RPC_AUTH_AUTH_ENABLE, "etcdserverpb.Auth", "AuthEnable", RPC_UNARY, 0,
	etcdserverpb__auth_enable_request__descriptor,
	etcdserverpb__auth_enable_response__descriptor, command_auth_enable)
RPC(RPC_AUTH_AUTH_DISABLE, "etcdserverpb.Auth", "AuthDisable", RPC_UNARY, 0,
	etcdserverpb__auth_disable_request__descriptor,
	etcdserverpb__auth_disable_response__descriptor, command_auth_disable)
RPC(RPC_AUTH_AUTH_STATUS, "etcdserverpb.Auth", "AuthStatus", RPC_UNARY, 0,
	etcdserverpb__auth_status_request__descriptor,
	etcdserverpb__auth_status_response__descriptor, command_auth_status)
RPC(RPC_AUTH_AUTHENTICATE, "etcdserverpb.Auth", "Authenticate", RPC_UNARY, 0,
	etcdserverpb__authenticate_request__descriptor,
	etcdserverpb__authenticate_response__descriptor, command_authenticate)
RPC(RPC_AUTH_USER_ADD, "etcdserverpb.Auth", "UserAdd", RPC_UNARY, 0,
	etcdserverpb__auth_user_add_request__descriptor,
	etcdserverpb__auth_user_add_response__descriptor, command_user_add)
RPC(RPC_AUTH_USER_GET, "etcdserverpb.Auth", "UserGet", RPC_UNARY, 0,
	etcdserverpb__auth_user_get_request__descriptor,
	etcdserverpb__auth_user_get_response__descriptor, command_user_get)
RPC(RPC_AUTH_USER_LIST, "etcdserverpb.Auth", "UserList", RPC_UNARY, 0,
	etcdserverpb__auth_user_list_request__descriptor,
	etcdserverpb__auth_user_list_response__descriptor, command_user_list)
RPC(RPC_AUTH_USER_DELETE, "etcdserverpb.Auth", "UserDelete", RPC_UNARY, 0,
	etcdserverpb__auth_user_delete_request__descriptor,
	etcdserverpb__auth_user_delete_response__descriptor, command_user_delete)
RPC(RPC_AUTH_USER_CHANGE_PASSWORD, "etcdserverpb.Auth", "UserChangePassword", RPC_UNARY, 0,
	etcdserverpb__auth_user_change_password_request__descriptor,
	etcdserverpb__auth_user_change_password_response__descriptor, command_user_change_password)
RPC(RPC_AUTH_USER_GRANT_ROLE, "etcdserverpb.Auth", "UserGrantRole", RPC_UNARY, 0,
	etcdserverpb__auth_user_grant_role_request__descriptor,
	etcdserverpb__auth_user_grant_role_response__descriptor, command_user_grant_role)
RPC(RPC_AUTH_USER_REVOKE_ROLE, "etcdserverpb.Auth", "UserRevokeRole", RPC_UNARY, 0,
	etcdserverpb__auth_user_revoke_role_request__descriptor,
	etcdserverpb__auth_user_revoke_role_response__descriptor, command_user_revoke_role)
RPC(RPC_AUTH_ROLE_ADD, "etcdserverpb.Auth", "RoleAdd", RPC_UNARY, 0,
	etcdserverpb__auth_role_add_request__descriptor,
	etcdserverpb__auth_role_add_response__descriptor, command_role_add)
RPC(RPC_AUTH_ROLE_GET, "etcdserverpb.Auth", "RoleGet", RPC_UNARY, 0,
	etcdserverpb__auth_role_get_request__descriptor,
	etcdserverpb__auth_role_get_response__descriptor, command_role_get)
RPC(RPC_AUTH_ROLE_LIST, "etcdserverpb.Auth", "RoleList", RPC_UNARY, 0,
	etcdserverpb__auth_role_list_request__descriptor,
	etcdserverpb__auth_role_list_response__descriptor, command_role_list)
RPC(RPC_AUTH_ROLE_DELETE, "etcdserverpb.Auth", "RoleDelete", RPC_UNARY, 0,
	etcdserverpb__auth_role_delete_request__descriptor,
	etcdserverpb__auth_role_delete_response__descriptor, command_role_delete)
RPC(RPC_AUTH_ROLE_GRANT_PERMISSION, "etcdserverpb.Auth", "RoleGrantPermission", RPC_UNARY, 0,
	etcdserverpb__auth_role_grant_permission_request__descriptor,
	etcdserverpb__auth_role_grant_permission_response__descriptor, command_role_grant_permission)
RPC(RPC_AUTH_ROLE_REVOKE_PERMISSION, "etcdserverpb.Auth", "RoleRevokePermission", RPC_UNARY, 0,
	etcdserverpb__auth_role_revoke_permission_request__descriptor,
	etcdserverpb__auth_role_revoke_permission_response__descriptor, command_role_revoke_permission)
RPC(RPC_LOCK_LOCK, "v3lockpb.Lock", "Lock", RPC_UNARY, RPC_FLAG_ENDLESS,
	v3lockpb__lock_request__descriptor,
	v3lockpb__lock_response__descriptor, command_lock)
RPC(RPC_LOCK_UNLOCK, "v3lockpb.Lock", "Unlock", RPC_UNARY, 0,
	v3lockpb__unlock_request__descriptor,
	v3lockpb__unlock_response__descriptor, command_unlock)
RPC(RPC_ELECTION_CAMPAIGN, "v3electionpb.Election", "Campaign", RPC_UNARY, RPC_FLAG_ENDLESS,
	v3electionpb__campaign_request__descriptor,
	v3electionpb__campaign_response__descriptor, command_campaign)
RPC(RPC_ELECTION_PROCLAIM, "v3electionpb.Election", "Proclaim", RPC_UNARY, 0,
	v3electionpb__proclaim_request__descriptor,
	v3electionpb__proclaim_response__descriptor, command_proclaim)
RPC(RPC_ELECTION_LEADER, "v3electionpb.Election", "Leader", RPC_UNARY, 0,
	v3electionpb__leader_request__descriptor,
	v3electionpb__leader_response__descriptor, command_leader)
RPC(RPC_ELECTION_RESIGN, "v3electionpb.Election", "Resign", RPC_UNARY, 0,
	v3electionpb__resign_request__descriptor,
	v3electionpb__resign_response__descriptor, command_resign)
RPC(RPC_ELECTION_OBSERVE, "v3electionpb.Election", "Observe", RPC_SERVER_STREAM, RPC_FLAG_ENDLESS,
	v3electionpb__leader_request__descriptor,
	v3electionpb__leader_response__descriptor, command_observe)
RPC(RPC_HEALTH_CHECK, "grpc.health.v1.Health", "Check", RPC_UNARY, RPC_FLAG_NO_HEADER,
	grpc__health__v1__health_check_request__descriptor,
	grpc__health__v1__health_check_response__descriptor, command_health_check)
RPC(RPC_HEALTH_WATCH, "grpc.health.v1.Health", "Watch", RPC_SERVER_STREAM, RPC_FLAG_NO_HEADER | RPC_FLAG_ENDLESS,
	grpc__health__v1__health_check_request__descriptor,
	grpc__health__v1__health_check_response__descriptor, command_health_watch)
RPC(RPC_HEALTH_LIST, "grpc.health.v1.Health", "List", RPC_UNARY, RPC_FLAG_NO_HEADER,
	grpc__health__v1__health_list_request__descriptor,
	grpc__health__v1__health_list_response__descriptor, command_health_list)
