package main

import (
	"context"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"go.etcd.io/etcd/client/v3/ordering"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// What the module builds of KV, Watch and Lease

var recipeChecks = []check{
	{"concurrency, session and mutex", mutex},
	{"concurrency, election", election},
	{"concurrency, STM, every isolation", stm},
	{"namespace", namespaces},
	{"leasing", leasingCache},
	{"ordering", orderings},
	{"mirror", mirrors},
	{"naming, endpoints and resolver", naming},
	{"kubernetes", kubernetesInterface},
}

func session(options ...concurrency.SessionOption) *concurrency.Session {
	made, err := concurrency.NewSession(client, append([]concurrency.SessionOption{concurrency.WithTTL(10)}, options...)...)
	must(err)
	return made
}

func mutex(ctx context.Context) {
	first, second := session(), session()
	mine, other := concurrency.NewMutex(first, "app/mutex"), concurrency.NewMutex(second, "app/mutex")
	must(mine.Lock(ctx))
	mustBe(other.TryLock(ctx), concurrency.ErrLocked)
	owned, err := client.Txn(ctx).If(mine.IsOwner()).Then(clientv3.OpPut("app/mutex-owner", "x")).Commit()
	must(err)
	need(owned.Succeeded, "not the owner")
	locked := make(chan error, 1)
	go func() { locked <- other.Lock(ctx) }()
	select {
	case err := <-locked:
		fail("locked twice: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	must(mine.Unlock(ctx))
	must(receive(locked, "lock"))
	// who waits is told that his session is over
	go func() { locked <- mine.Lock(ctx) }()
	for len(get(ctx, "app/mutex/", clientv3.WithPrefix()).Kvs) < 2 {
		time.Sleep(10 * time.Millisecond)
	}
	_, err = client.Revoke(ctx, first.Lease())
	must(err)
	closed(first.Done(), "session whose lease was revoked")
	must(other.Unlock(ctx))
	mustBe(receive(locked, "refused lock"), concurrency.ErrSessionExpired)
	must(second.Close())
	closed(second.Done(), "session")

	third, counter := session(), 0
	defer third.Close()
	together(4, func(int) {
		own := session()
		defer own.Close()
		lock := concurrency.NewLocker(own, "app/locker")
		lock.Lock()
		was := counter
		time.Sleep(5 * time.Millisecond)
		counter = was + 1
		lock.Unlock()
	})
	equal(counter, 4)
}

func election(ctx context.Context) {
	first, second := session(), session()
	defer second.Close()
	mine, other := concurrency.NewElection(first, "app/election"), concurrency.NewElection(second, "app/election")
	_, err := mine.Leader(ctx)
	mustBe(err, concurrency.ErrElectionNoLeader)
	mustBe(mine.Proclaim(ctx, "x"), concurrency.ErrElectionNotLeader)
	observing, stop := context.WithCancel(ctx)
	seen := other.Observe(observing)
	must(mine.Campaign(ctx, "one"))
	equal(text(receive(seen, "leader").Kvs), strconv.FormatInt(int64(first.Lease()), 16)+"=one")
	must(mine.Proclaim(ctx, "two"))
	equal(string(receive(seen, "proclamation").Kvs[0].Value), "two")
	elected := make(chan error, 1)
	go func() { elected <- other.Campaign(ctx, "three") }()
	resumed := concurrency.ResumeElection(first, "app/election", mine.Key(), mine.Rev())
	must(resumed.Proclaim(ctx, "resumed"))
	equal(string(receive(seen, "proclamation").Kvs[0].Value), "resumed")
	must(first.Close())
	must(receive(elected, "election after the leader's session"))
	equal(string(receive(seen, "next leader").Kvs[0].Value), "three")
	leader, err := other.Leader(ctx)
	must(err)
	equal(string(leader.Kvs[0].Value), "three")
	must(other.Resign(ctx))
	_, err = other.Leader(ctx)
	mustBe(err, concurrency.ErrElectionNoLeader)
	stop()
	closed(seen, "observer")
}

func stm(ctx context.Context) {
	for _, level := range []concurrency.Isolation{concurrency.SerializableSnapshot, concurrency.Serializable,
		concurrency.RepeatableReads, concurrency.ReadCommitted} {
		put(ctx, "app/stm/from", "100")
		put(ctx, "app/stm/to", "0")
		workers := 4
		if level == concurrency.ReadCommitted {
			workers = 1 // does not exclude the others
		}
		together(workers, func(int) {
			for i := 0; i < 5; i++ {
				_, err := concurrency.NewSTM(client, func(s concurrency.STM) error {
					from, _ := strconv.Atoi(s.Get("app/stm/from"))
					to, _ := strconv.Atoi(s.Get("app/stm/to"))
					s.Put("app/stm/from", strconv.Itoa(from-1))
					s.Put("app/stm/to", strconv.Itoa(to+1))
					s.Del("app/stm/none")
					return nil
				}, concurrency.WithIsolation(level), concurrency.WithAbortContext(ctx),
					concurrency.WithPrefetch("app/stm/from", "app/stm/to"))
				must(err)
			}
		})
		n := workers * 5
		equal(text(get(ctx, "app/stm/", clientv3.WithPrefix()).Kvs), "from="+strconv.Itoa(100-n)+" to="+strconv.Itoa(n))
	}
}

func namespaces(ctx context.Context) {
	kv := namespace.NewKV(client.KV, "app/ns/")
	watch := namespace.NewWatcher(client.Watcher, "app/ns/").Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithPrevKV())
	lease := namespace.NewLease(client.Lease, "app/ns/")
	granted, err := lease.Grant(ctx, 60)
	must(err)
	_, err = kv.Put(ctx, "a", "1", clientv3.WithLease(granted.ID))
	must(err)
	done, err := kv.Txn(ctx).If(clientv3.Compare(clientv3.Value("a"), "=", "1")).
		Then(clientv3.OpGet("a"), clientv3.OpPut("b", "2")).Commit()
	must(err)
	equal(text(done.Responses[0].GetResponseRange().Kvs), "a=1")
	answer, err := kv.Get(ctx, "", clientv3.WithPrefix())
	must(err)
	equal(string(answer.Kvs[0].Key), "a")
	equal(string(receive(watch, "event").Events[0].Kv.Key), "a")
	left, err := lease.TimeToLive(ctx, granted.ID, clientv3.WithAttachedKeys())
	must(err)
	equal(string(left.Keys[0]), "a")
	gone, err := kv.Delete(ctx, "", clientv3.WithFromKey())
	must(err)
	equal(gone.Deleted, int64(2))
}

func leasingCache(ctx context.Context) {
	put(ctx, "app/leasing/k", "1")
	first, closeFirst, err := leasing.NewKV(client, "app/leases/")
	must(err)
	defer closeFirst()
	another := connectApp()
	defer another.Close()
	second, closeSecond, err := leasing.NewKV(another, "app/leases/")
	must(err)
	defer closeSecond()
	for _, value := range []string{"2", "3", "4"} {
		_, err = first.Get(ctx, "app/leasing/k")
		must(err)
		// takes the lease of the key from the other
		_, err = second.Put(ctx, "app/leasing/k", value)
		must(err)
		answer, err := first.Get(ctx, "app/leasing/k")
		must(err)
		equal(text(answer.Kvs), "k="+value)
	}
	_, err = first.Txn(ctx).Then(clientv3.OpPut("app/leasing/k", "5")).Commit()
	must(err)
	gone, err := second.Delete(ctx, "app/leasing/", clientv3.WithPrefix())
	must(err)
	equal(gone.Deleted, int64(1))
}

func orderings(ctx context.Context) {
	violated := false
	kv := ordering.NewKV(client.KV, func(clientv3.Op, clientv3.OpResponse, int64) error {
		violated = true
		return nil
	})
	put(ctx, "app/ordering", "1")
	for i := 0; i < 20; i++ {
		_, err := kv.Get(ctx, "app/ordering", clientv3.WithSerializable())
		must(err)
		put(ctx, "app/ordering", "1")
	}
	need(!violated, "an older revision after a newer")
}

func mirrors(ctx context.Context) {
	for i := 0; i < 10; i++ {
		put(ctx, "app/mirror/"+strconv.Itoa(i), "x")
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	syncer := mirror.NewSyncer(client, "app/mirror/", 0)
	pages, failures := syncer.SyncBase(watching)
	n := 0
	for page := range pages {
		n += len(page.Kvs)
	}
	if err := <-failures; err != nil {
		must(err)
	}
	equal(n, 10)
	updates := syncer.SyncUpdates(watching)
	put(ctx, "app/mirror/new", "y")
	equal(string(receive(updates, "update").Events[0].Kv.Key), "app/mirror/new")
}

func naming(ctx context.Context) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go server.Serve(listener)
	defer server.Stop()

	manager, err := endpoints.NewManager(client, "app/service")
	must(err)
	updates, err := manager.NewWatchChannel(ctx)
	must(err)
	must(manager.AddEndpoint(ctx, "app/service/one", endpoints.Endpoint{Addr: listener.Addr().String()}))
	equal(receive(updates, "update")[0].Key, "app/service/one")
	all, err := manager.List(ctx)
	must(err)
	equal(all["app/service/one"].Addr, listener.Addr().String())

	builder, err := resolver.NewBuilder(client)
	must(err)
	conn, err := grpc.Dial("etcd:///app/service", grpc.WithResolvers(builder), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(err)
	defer conn.Close()
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
	must(err)
	equal(answer.Status, grpc_health_v1.HealthCheckResponse_SERVING)
	must(manager.DeleteEndpoint(ctx, "app/service/one"))
	equal(receive(updates, "update")[0].Op, endpoints.Delete)
}

// How kube-apiserver keeps its objects.
func kubernetesInterface(ctx context.Context) {
	store, err := kubernetes.New(config(appUser()))
	must(err)
	defer store.Close()
	store.Kubernetes = *store // so are the requests of kube-apiserver made
	made, err := store.Kubernetes.OptimisticPut(ctx, "app/registry/pods/a", []byte("1"), 0, kubernetes.PutOptions{})
	must(err)
	need(made.Succeeded, "not created")
	again, err := store.Kubernetes.OptimisticPut(ctx, "app/registry/pods/a", []byte("2"), 0, kubernetes.PutOptions{GetOnFailure: true})
	must(err)
	need(!again.Succeeded && string(again.KV.Value) == "1", "created twice: %v", again)
	lease, err := client.Grant(ctx, 60)
	must(err)
	changed, err := store.Kubernetes.OptimisticPut(ctx, "app/registry/pods/a", []byte("2"), made.Revision,
		kubernetes.PutOptions{LeaseID: lease.ID})
	must(err)
	need(changed.Succeeded, "not changed")
	for _, name := range []string{"b", "c", "d", "e"} {
		put(ctx, "app/registry/pods/"+name, name)
	}
	first, err := store.Kubernetes.List(ctx, "app/registry/pods/", kubernetes.ListOptions{Limit: 2})
	must(err)
	put(ctx, "app/registry/pods/f", "later")
	rest, err := store.Kubernetes.List(ctx, "app/registry/pods/",
		kubernetes.ListOptions{Limit: 10, Revision: first.Revision, Continue: "app/registry/pods/b\x00"})
	must(err)
	equal([]interface{}{text(first.Kvs), first.Count, text(rest.Kvs)}, []interface{}{"a=2 b=b", int64(5), "c=c d=d e=e"})
	count, err := store.Kubernetes.Count(ctx, "app/registry/pods/", kubernetes.CountOptions{})
	must(err)
	equal(count, int64(6))
	kept, err := store.Kubernetes.OptimisticDelete(ctx, "app/registry/pods/a", made.Revision, kubernetes.DeleteOptions{GetOnFailure: true})
	must(err)
	need(!kept.Succeeded && kept.KV.ModRevision == changed.Revision, "deleted although changed: %v", kept)
	gone, err := store.Kubernetes.OptimisticDelete(ctx, "app/registry/pods/a", changed.Revision, kubernetes.DeleteOptions{})
	must(err)
	need(gone.Succeeded, "not deleted")
	none, err := store.Kubernetes.Get(ctx, "app/registry/pods/a", kubernetes.GetOptions{})
	must(err)
	need(none.KV == nil && none.Revision == gone.Revision, "after the delete: %v", none)
	was, err := store.Kubernetes.Get(ctx, "app/registry/pods/a", kubernetes.GetOptions{Revision: changed.Revision})
	must(err)
	equal(string(was.KV.Value), "2")
	// the compactor: who changes the key compacts to the revision that the last one saw
	var won int32
	together(3, func(int) {
		answer, err := client.Txn(ctx).If(clientv3.Compare(clientv3.Version("app/compact_rev_key"), "=", 0)).
			Then(clientv3.OpPut("app/compact_rev_key", strconv.FormatInt(changed.Revision, 10))).
			Else(clientv3.OpGet("app/compact_rev_key")).Commit()
		must(err)
		if answer.Succeeded {
			atomic.AddInt32(&won, 1)
		}
	})
	equal(won, int32(1))
	_, err = root.Compact(ctx, gone.Revision)
	must(err)
	_, err = store.Kubernetes.Get(ctx, "app/registry/pods/a", kubernetes.GetOptions{Revision: made.Revision})
	mustBe(err, rpctypes.ErrCompacted)
}
