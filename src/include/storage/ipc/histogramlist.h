/*
 * histogramlist.h
 *	  Histograms of time in shared memory:
 *	  HISTOGRAM(symbol, metric name, first bound in us, buckets, help).
 *
 * Each bound is twice the one before it.  No include guard: expanded where
 * needed.
 */
HISTOGRAM(HISTOGRAM_LOG_SYNC, "etcd_disk_wal_fsync_duration_seconds", 1000, 14, "Time of a write and its sync to the raft log.")
HISTOGRAM(HISTOGRAM_TABLE_COMMIT, "etcd_disk_backend_commit_duration_seconds", 1000, 14, "Time to write one batch to the tables.")
HISTOGRAM(HISTOGRAM_APPLY_BATCH, "claviger_apply_batch_duration_seconds", 100, 18, "Time from the first entry of a batch to its publication.")
