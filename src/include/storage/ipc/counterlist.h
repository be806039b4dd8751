/*
 * counterlist.h
 *	  Counters in shared memory: COUNTER(symbol, metric name, help).
 *
 * No include guard: expanded where needed.
 */
COUNTER(COUNTER_CONNECTIONS, "claviger_connections_total", "Connections accepted.")
COUNTER(COUNTER_CONNECTIONS_REFUSED, "claviger_connections_refused_total", "Connections refused because all slots were taken.")
COUNTER(COUNTER_HANDSHAKES_FAILED, "claviger_tls_handshakes_failed_total", "TLS handshakes that failed or timed out.")
COUNTER(COUNTER_REQUESTS, "claviger_requests_total", "Requests begun.")
COUNTER(COUNTER_REQUESTS_FAILED, "claviger_requests_failed_total", "Requests answered with an error.")
COUNTER(COUNTER_DENIED, "claviger_permission_denied_total", "Requests refused by authorization.")
COUNTER(COUNTER_LOGINS, "claviger_logins_total", "Password logins that succeeded.")
COUNTER(COUNTER_LOGINS_FAILED, "claviger_logins_failed_total", "Password logins that failed.")
COUNTER(COUNTER_PUTS, "etcd_mvcc_put_total", "Puts applied.")
COUNTER(COUNTER_DELETES, "etcd_mvcc_delete_total", "Deletes applied.")
COUNTER(COUNTER_TXNS, "etcd_mvcc_txn_total", "Transactions applied.")
COUNTER(COUNTER_RANGES, "etcd_mvcc_range_total", "Ranges served.")
COUNTER(COUNTER_LOG_SYNCS, "claviger_raft_log_syncs_total", "Syncs of the raft log.")
COUNTER(COUNTER_LOG_BYTES, "etcd_disk_wal_write_bytes_total", "Bytes written to the raft log.")
COUNTER(COUNTER_PROPOSALS, "claviger_proposals_total", "Log entries proposed.")
COUNTER(COUNTER_CHECKPOINTS, "claviger_checkpoints_total", "Checkpoints of the tables.")
COUNTER(COUNTER_HEALTH_SUCCESS, "etcd_server_health_success", "Answers of /health that were good.")
COUNTER(COUNTER_HEALTH_FAILURES, "etcd_server_health_failures", "Answers of /health that were bad.")
COUNTER(COUNTER_LEASES_GRANTED, "etcd_debugging_lease_granted_total", "Leases granted.")
COUNTER(COUNTER_LEASES_REVOKED, "etcd_debugging_lease_revoked_total", "Leases revoked, by clients or because their time was over.")
COUNTER(COUNTER_LEASES_EXPIRED, "etcd_server_lease_expired_total", "Leases revoked because their time was over.")
COUNTER(COUNTER_LEASES_RENEWED, "etcd_debugging_lease_renewed_total", "Keepalives that renewed a lease.")
COUNTER(COUNTER_LEADER_CHANGES, "etcd_server_leader_changes_seen_total", "Changes of leader that this member has seen.")
COUNTER(COUNTER_CLIENT_RECEIVED_BYTES, "etcd_network_client_grpc_received_bytes_total", "Bytes of messages from clients, without their framing.")
COUNTER(COUNTER_CLIENT_SENT_BYTES, "etcd_network_client_grpc_sent_bytes_total", "Bytes of messages to clients, without their framing.")
COUNTER(COUNTER_HTTP_REQUESTS, "claviger_http_requests_total", "Requests by HTTP that are not gRPC.")
COUNTER(COUNTER_EVENTS, "etcd_debugging_mvcc_events_total", "Events given to watches, before their filters.")
