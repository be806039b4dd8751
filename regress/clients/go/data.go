package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// KV and Lease

var dataChecks = []check{
	{"get, every option", getOptions},
	{"put, every option", putOptions},
	{"put, a thousand side by side", putTogether},
	{"delete, every option", deleteOptions},
	{"txn, every comparison", txnCompares},
	{"txn, nested, refused", txnNested},
	{"compact", compact},
	{"requests that are refused", refusedRequests},
	{"lease, grant, time to live, revoke", leases},
	{"lease, kept alive, expires", leaseKeepAlive},
}

func put(ctx context.Context, key, value string, options ...clientv3.OpOption) int64 {
	answer, err := client.Put(ctx, key, value, options...)
	must(err)
	return answer.Header.Revision
}

func get(ctx context.Context, key string, options ...clientv3.OpOption) *clientv3.GetResponse {
	answer, err := client.Get(ctx, key, options...)
	must(err)
	return answer
}

// "key=value key=value", keys without what comes before the last slash
func text(kvs []*mvccpb.KeyValue) string {
	var parts []string
	for _, kv := range kvs {
		key := string(kv.Key)
		parts = append(parts, key[strings.LastIndexByte(key, '/')+1:]+"="+string(kv.Value))
	}
	return strings.Join(parts, " ")
}

func getOptions(ctx context.Context) {
	first := put(ctx, "app/get/a", "3")
	put(ctx, "app/get/b", "2")
	put(ctx, "app/get/c", "1")
	last := put(ctx, "app/get/a", "4")
	for _, row := range []struct {
		want    string
		options []clientv3.OpOption
	}{
		{"a=4 b=2 c=1", []clientv3.OpOption{clientv3.WithPrefix()}},
		{"a=4 b=2", []clientv3.OpOption{clientv3.WithRange("app/get/c")}},
		{"a=3 b=2", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithRev(first + 1)}},
		{"a= b= c=", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithKeysOnly()}},
		{"", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithCountOnly()}},
		{"a=4", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithLimit(1)}},
		{"a=4 b=2 c=1", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithSerializable()}},
		{"c=1 b=2 a=4", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)}},
		{"c=1 b=2 a=4", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend)}},
		{"a=4 b=2 c=1", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByVersion, clientv3.SortDescend)}},
		{"a=4 b=2 c=1", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend)}},
		{"a=4 c=1 b=2", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend)}},
		{"a=4", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithMinModRev(last)}},
		{"b=2 c=1", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithMaxModRev(last - 1)}},
		{"b=2 c=1", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithMinCreateRev(first + 1)}},
		{"a=4", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithMaxCreateRev(first)}},
		{"a=4", clientv3.WithFirstCreate()},
		{"c=1", clientv3.WithLastCreate()},
		{"a=4", clientv3.WithFirstKey()},
		{"c=1", clientv3.WithLastKey()},
		{"b=2", clientv3.WithFirstRev()},
		{"a=4", clientv3.WithLastRev()},
	} {
		equal(text(get(ctx, "app/get/", row.options...).Kvs), row.want)
	}
	page := get(ctx, "app/get/", clientv3.WithPrefix(), clientv3.WithLimit(2))
	equal([]interface{}{page.Count, page.More}, []interface{}{int64(3), true})
	equal(get(ctx, "app/get/", clientv3.WithPrefix(), clientv3.WithCountOnly()).Count, int64(3))
	kv := get(ctx, "app/get/a").Kvs[0]
	equal([]int64{kv.CreateRevision, kv.ModRevision, kv.Version}, []int64{first, last, 2})
	equal(len(get(ctx, "app/get/none").Kvs), 0)
	answer, err := root.Get(ctx, "app/get/b", clientv3.WithFromKey(), clientv3.WithLimit(2))
	must(err)
	equal(text(answer.Kvs), "b=2 c=1")
}

func putOptions(ctx context.Context) {
	lease, err := client.Grant(ctx, 60)
	must(err)
	put(ctx, "app/put", "one", clientv3.WithLease(lease.ID))
	answer, err := client.Put(ctx, "app/put", "two", clientv3.WithIgnoreLease(), clientv3.WithPrevKV())
	must(err)
	equal(string(answer.PrevKv.Value), "one")
	put(ctx, "app/put", "", clientv3.WithIgnoreValue(), clientv3.WithLease(lease.ID))
	kv := get(ctx, "app/put").Kvs[0]
	equal([]interface{}{string(kv.Value), kv.Lease}, []interface{}{"two", int64(lease.ID)})
	_, err = client.Put(ctx, "app/put/none", "", clientv3.WithIgnoreValue())
	mustBe(err, rpctypes.ErrKeyNotFound)
	_, err = client.Put(ctx, "app/put", "x", clientv3.WithLease(12345))
	mustBe(err, rpctypes.ErrLeaseNotFound)
	answerOp, err := client.Do(ctx, clientv3.OpPut("app/put", "three"))
	must(err)
	need(answerOp.Put().Header.Revision > kv.ModRevision, "Do: no new revision")
}

// The client sends requests that are made at one time a piece of each in turn.
func putTogether(ctx context.Context) {
	for _, row := range []struct{ requests, size int }{{1000, 60000}, {100, 700000}} {
		value := strings.Repeat("x", row.size)
		together(row.requests, func(i int) {
			put(ctx, fmt.Sprintf("app/together/%d", i), value)
		})
		answer := get(ctx, "app/together/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		equal(answer.Count, int64(row.requests))
		_, err := client.Delete(ctx, "app/together/", clientv3.WithPrefix())
		must(err)
	}
}

func deleteOptions(ctx context.Context) {
	for _, key := range []string{"a", "b", "c", "d"} {
		put(ctx, "app/delete/"+key, key)
	}
	for _, row := range []struct {
		key, want string
		options   []clientv3.OpOption
	}{
		{"a", "a=a", nil},
		{"b", "b=b", []clientv3.OpOption{clientv3.WithRange("app/delete/c")}},
		{"", "c=c d=d", []clientv3.OpOption{clientv3.WithPrefix()}},
		{"", "", []clientv3.OpOption{clientv3.WithPrefix()}},
	} {
		answer, err := client.Delete(ctx, "app/delete/"+row.key, append(row.options, clientv3.WithPrevKV())...)
		must(err)
		equal(text(answer.PrevKvs), row.want)
		equal(answer.Deleted, int64(len(answer.PrevKvs)))
	}
}

func txnCompares(ctx context.Context) {
	lease, err := client.Grant(ctx, 60)
	must(err)
	revision := put(ctx, "app/txn/a", "b", clientv3.WithLease(lease.ID))
	for _, row := range []struct {
		want    bool
		compare clientv3.Cmp
	}{
		{true, clientv3.Compare(clientv3.Value("app/txn/a"), "=", "b")},
		{false, clientv3.Compare(clientv3.Value("app/txn/a"), "!=", "b")},
		{true, clientv3.Compare(clientv3.Value("app/txn/a"), "<", "c")},
		{false, clientv3.Compare(clientv3.Value("app/txn/a"), ">", "c")},
		{true, clientv3.Compare(clientv3.Version("app/txn/a"), "=", 1)},
		{true, clientv3.Compare(clientv3.Version("app/txn/none"), "=", 0)},
		{true, clientv3.Compare(clientv3.CreateRevision("app/txn/a"), "=", revision)},
		{true, clientv3.Compare(clientv3.CreateRevision("app/txn/none"), "=", 0)},
		{false, clientv3.Compare(clientv3.ModRevision("app/txn/a"), "<", revision)},
		{true, clientv3.Compare(clientv3.LeaseValue("app/txn/a"), "=", lease.ID)},
		{true, clientv3.Compare(clientv3.CreateRevision("app/txn/"), ">", 0).WithPrefix()},
		{false, clientv3.Compare(clientv3.Version("app/txn/a"), ">", 1).WithRange("app/txn/b")},
	} {
		answer, err := client.Txn(ctx).If(row.compare).Then(clientv3.OpGet("app/txn/a")).
			Else(clientv3.OpGet("app/txn/none")).Commit()
		must(err)
		need(answer.Succeeded == row.want, "%v: %v", row.compare, answer.Succeeded)
		equal(len(answer.Responses[0].GetResponseRange().Kvs) == 1, row.want)
	}
}

func txnNested(ctx context.Context) {
	present := clientv3.Compare(clientv3.Version("app/nested/a"), ">", 0)
	inner := clientv3.OpTxn([]clientv3.Cmp{present}, []clientv3.Op{clientv3.OpDelete("app/nested/a", clientv3.WithPrevKV())},
		[]clientv3.Op{clientv3.OpPut("app/nested/a", "new")})
	for _, had := range []bool{false, true} {
		answer, err := client.Txn(ctx).Then(inner, clientv3.OpPut("app/nested/b", "x")).Commit()
		must(err)
		equal(answer.Responses[0].GetResponseTxn().Succeeded, had)
	}
	_, err := client.Txn(ctx).Then(clientv3.OpPut("app/d", "1"), clientv3.OpPut("app/d", "2")).Commit()
	mustBe(err, rpctypes.ErrDuplicateKey)
	var many []clientv3.Op
	for len(many) < 129 {
		many = append(many, clientv3.OpGet("app/d"))
	}
	_, err = client.Txn(ctx).Then(many...).Commit()
	mustBe(err, rpctypes.ErrTooManyOps)
	_, err = client.Txn(ctx).Then(many[1:]...).Commit()
	must(err)
}

func compact(ctx context.Context) {
	old := put(ctx, "app/compact", "1")
	newer := put(ctx, "app/compact", "2")
	_, err := root.Compact(ctx, newer, clientv3.WithCompactPhysical())
	must(err)
	_, err = client.Get(ctx, "app/compact", clientv3.WithRev(old))
	mustBe(err, rpctypes.ErrCompacted)
	_, err = root.Compact(ctx, old)
	mustBe(err, rpctypes.ErrCompacted)
	_, err = root.Compact(ctx, newer+1000)
	mustBe(err, rpctypes.ErrFutureRev)
	_, err = client.Get(ctx, "app/compact", clientv3.WithRev(newer+1000))
	mustBe(err, rpctypes.ErrFutureRev)
	equal(text(get(ctx, "app/compact", clientv3.WithRev(newer)).Kvs), "compact=2")
}

func refusedRequests(ctx context.Context) {
	_, err := root.Put(ctx, "", "x")
	mustBe(err, rpctypes.ErrEmptyKey)
	_, err = root.Get(ctx, "")
	mustBe(err, rpctypes.ErrEmptyKey)
	_, err = client.Put(ctx, "app/big", strings.Repeat("x", 1600*1024))
	mustBe(err, rpctypes.ErrRequestTooLarge)
	_, err = client.Put(ctx, "app/big", strings.Repeat("x", 3*1024*1024))
	need(err != nil && strings.Contains(err.Error(), "message larger than max"), "3 MiB: %v", err)
	put(ctx, "app/big", strings.Repeat("x", 1400*1024))
}

func leases(ctx context.Context) {
	lease, err := client.Grant(ctx, 60)
	must(err)
	equal(lease.TTL, int64(60))
	put(ctx, "app/lease/a", "1", clientv3.WithLease(lease.ID))
	put(ctx, "app/lease/b", "2", clientv3.WithLease(lease.ID))
	left, err := client.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
	must(err)
	equal(len(left.Keys), 2)
	need(left.GrantedTTL == 60 && left.TTL <= 60 && left.TTL > 30, "time to live %d of %d", left.TTL, left.GrantedTTL)
	all, err := root.Leases(ctx)
	must(err)
	found := false
	for _, one := range all.Leases {
		found = found || one.ID == lease.ID
	}
	need(found, "not in the list")
	_, err = client.Revoke(ctx, lease.ID)
	must(err)
	equal(len(get(ctx, "app/lease/", clientv3.WithPrefix()).Kvs), 0)
	_, err = client.Revoke(ctx, lease.ID)
	mustBe(err, rpctypes.ErrLeaseNotFound)
	_, err = client.KeepAliveOnce(ctx, lease.ID)
	mustBe(err, rpctypes.ErrLeaseNotFound)
	left, err = client.TimeToLive(ctx, lease.ID)
	must(err)
	equal(left.TTL, int64(-1))
	_, err = client.Grant(ctx, 9000000001)
	mustBe(err, rpctypes.ErrLeaseTTLTooLarge)
}

func leaseKeepAlive(ctx context.Context) {
	kept, err := client.Grant(ctx, 2)
	must(err)
	left, err := client.Grant(ctx, 2)
	must(err)
	put(ctx, "app/kept", "x", clientv3.WithLease(kept.ID))
	put(ctx, "app/left", "x", clientv3.WithLease(left.ID))
	alive, err := client.KeepAlive(ctx, kept.ID)
	must(err)
	equal(receive(alive, "answer to a keep-alive").TTL, int64(2))
	once, err := client.KeepAliveOnce(ctx, left.ID)
	must(err)
	equal(once.TTL, int64(2))
	gone := receive(client.Watch(ctx, "app/left"), "end of the lease that nobody kept")
	equal(gone.Events[0].Type, clientv3.EventTypeDelete)
	time.Sleep(2 * time.Second)
	equal(len(get(ctx, "app/kept").Kvs), 1)
	_, err = client.Revoke(ctx, kept.ID)
	must(err)
	closed(alive, "keep-alive of a lease that was revoked")
}
