package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var watchChecks = []check{
	{"watch, events with what was before, filters", watchEvents},
	{"watch, created, from a revision, to come", watchRevisions},
	{"watch, progress", watchProgress},
	{"watch, fragments", watchFragments},
	{"watch, compacted", watchCompacted},
	{"watch, many on one client", watchMany},
}

// The next n events as "PUT key=value(before)".
func events(watch clientv3.WatchChan, n int) string {
	var parts []string
	for len(parts) < n {
		answer := receive(watch, fmt.Sprintf("event after %v", parts))
		must(answer.Err())
		for _, event := range answer.Events {
			part := fmt.Sprintf("%v %s", event.Type, event.Kv.Key)
			if event.Type == clientv3.EventTypePut {
				part += "=" + string(event.Kv.Value)
			}
			if event.PrevKv != nil {
				part += "(" + string(event.PrevKv.Value) + ")"
			}
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, " ")
}

func watchEvents(ctx context.Context) {
	all := client.Watch(clientv3.WithRequireLeader(ctx), "app/w/", clientv3.WithPrefix(), clientv3.WithPrevKV())
	noPut := client.Watch(ctx, "app/w/", clientv3.WithPrefix(), clientv3.WithFilterPut())
	noDelete := client.Watch(ctx, "app/w/", clientv3.WithPrefix(), clientv3.WithFilterDelete())
	first := put(ctx, "app/w/a", "1")
	put(ctx, "app/w/a", "2")
	_, err := client.Delete(ctx, "app/w/a")
	must(err)
	_, err = client.Txn(ctx).Then(clientv3.OpPut("app/w/b", "3"), clientv3.OpPut("app/w/c", "4")).Commit()
	must(err)
	_, err = client.Delete(ctx, "app/w/", clientv3.WithPrefix())
	must(err)
	equal(events(all, 7), "PUT app/w/a=1 PUT app/w/a=2(1) DELETE app/w/a(2) PUT app/w/b=3 PUT app/w/c=4 "+
		"DELETE app/w/b(3) DELETE app/w/c(4)")
	equal(events(noPut, 3), "DELETE app/w/a DELETE app/w/b DELETE app/w/c")
	equal(events(noDelete, 4), "PUT app/w/a=1 PUT app/w/a=2 PUT app/w/b=3 PUT app/w/c=4")
	late := client.Watch(ctx, "app/w/a", clientv3.WithRev(first), clientv3.WithPrevKV())
	equal(events(late, 3), "PUT app/w/a=1 PUT app/w/a=2(1) DELETE app/w/a(2)")
}

func watchRevisions(ctx context.Context) {
	revision := put(ctx, "app/v/a", "0")
	watching, stop := context.WithCancel(ctx)
	created := client.Watch(watching, "app/v/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	answer := receive(created, "notice of the creation")
	need(answer.Created && len(answer.Events) == 0 && answer.Header.Revision >= revision, "%v", answer)
	later := client.Watch(ctx, "app/v/", clientv3.WithPrefix(), clientv3.WithRev(revision+3))
	for i := 1; i <= 4; i++ {
		put(ctx, "app/v/a", fmt.Sprint(i))
	}
	equal(events(later, 2), "PUT app/v/a=3 PUT app/v/a=4")
	equal(events(created, 4), "PUT app/v/a=1 PUT app/v/a=2 PUT app/v/a=3 PUT app/v/a=4")
	stop()
	closed(created, "watch whose context is cancelled")
	put(ctx, "app/v/a", "5")
	equal(events(later, 1), "PUT app/v/a=5")
}

func watchProgress(ctx context.Context) {
	// a context of its own: progress is told to all watches of its stream
	own := metadataContext(ctx)
	watch := client.Watch(own, "app/progress", clientv3.WithProgressNotify(), clientv3.WithCreatedNotify())
	need(receive(watch, "notice of the creation").Created, "not created")
	revision := put(ctx, "app/other", "x")
	for i := 0; i < 3; i++ {
		must(client.RequestProgress(own))
		answer := receive(watch, "progress")
		need(answer.IsProgressNotify() && answer.Header.Revision >= revision, "%v", answer)
	}
}

func watchFragments(ctx context.Context) {
	big := strings.Repeat("x", 700*1024)
	first := put(ctx, "app/fragment/0", big)
	for i := 1; i < 6; i++ {
		put(ctx, fmt.Sprintf("app/fragment/%d", i), big)
	}
	for _, options := range [][]clientv3.OpOption{{clientv3.WithFragment()}, {}} {
		watch := client.Watch(ctx, "app/fragment/", append(options, clientv3.WithPrefix(), clientv3.WithRev(first))...)
		equal(len(strings.Split(events(watch, 6), " ")), 12)
	}
}

func watchCompacted(ctx context.Context) {
	old := put(ctx, "app/c", "1")
	now := put(ctx, "app/c", "2")
	_, err := root.Compact(ctx, now)
	must(err)
	watch := client.Watch(ctx, "app/c", clientv3.WithRev(old))
	answer := receive(watch, "end")
	mustBe(answer.Err(), rpctypes.ErrCompacted)
	equal([]interface{}{answer.Canceled, answer.CompactRevision}, []interface{}{true, now})
	closed(watch, "watch of what is compacted")
	equal(events(client.Watch(ctx, "app/c", clientv3.WithRev(now)), 1), "PUT app/c=2")
}

func watchMany(ctx context.Context) {
	const n = 200
	watching, stop := context.WithCancel(ctx)
	var watches []clientv3.WatchChan
	for i := 0; i < n; i++ {
		watches = append(watches, client.Watch(watching, fmt.Sprintf("app/many/%d", i%100)))
	}
	for i := 0; i < 100; i++ {
		put(ctx, fmt.Sprintf("app/many/%d", i), "x")
	}
	for i, watch := range watches {
		equal(events(watch, 1), fmt.Sprintf("PUT app/many/%d=x", i%100))
	}
	stop()
	for _, watch := range watches {
		closed(watch, "watch")
	}
	time.Sleep(10 * time.Millisecond)
	equal(text(get(ctx, "app/many/1").Kvs), "1=x")
}
