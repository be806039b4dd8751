package main

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

// Maintenance, Cluster, and how the client finds its server

var serverChecks = []check{
	{"maintenance", maintenance},
	{"snapshot", snapshot},
	{"members, endpoints from them", members},
	{"several endpoints, one dead", deadEndpoint},
}

func appUser() (string, string) { return os.Getenv("CLIENT_USER"), os.Getenv("CLIENT_PASSWORD") }

// The client has a stream for each set of metadata.
func metadataContext(ctx context.Context) context.Context {
	return metadata.NewOutgoingContext(ctx, metadata.Pairs("stream", "own"))
}

func maintenance(ctx context.Context) {
	endpoint := root.Endpoints()[0]
	status, err := root.Status(ctx, endpoint)
	must(err)
	need(strings.HasPrefix(status.Version, "3.") && status.Leader == status.Header.MemberId && status.RaftTerm > 0 &&
		status.DbSize > 0 && status.DbSizeInUse > 0 && !status.IsLearner && len(status.Errors) == 0, "%v", status)
	first, err := root.HashKV(ctx, endpoint, 0)
	must(err)
	again, err := root.HashKV(ctx, endpoint, 0)
	must(err)
	need(first.Hash == again.Hash && first.Hash != 0, "hashes %v, %v", first, again)
	alarms, err := root.AlarmList(ctx)
	must(err)
	equal(len(alarms.Alarms), 0)
	_, err = root.AlarmDisarm(ctx, &clientv3.AlarmMember{})
	must(err)
	_, err = root.Defragment(ctx, endpoint)
	must(err)
}

func snapshot(ctx context.Context) {
	stream, err := root.Snapshot(ctx)
	must(err)
	data, err := io.ReadAll(stream)
	must(err)
	must(stream.Close())
	need(len(data) > 32 && len(data)%512 == 32, "%d bytes: no checksum at the end", len(data))
}

func members(ctx context.Context) {
	list, err := root.MemberList(ctx)
	must(err)
	equal(list.Members[0].ClientURLs, []string{os.Getenv("URL")})
	c := config("", "")
	if hasAuth() {
		c = config("root", os.Getenv("ROOT_PASSWORD"))
	}
	c.AutoSyncInterval = 50 * time.Millisecond
	c.RejectOldCluster = true
	other := connect(c)
	defer other.Close()
	other.SetEndpoints(os.Getenv("URL"), strings.Replace(os.Getenv("URL"), "127.0.0.1", "localhost", 1))
	must(other.Sync(ctx))
	equal(other.Endpoints(), []string{os.Getenv("URL")})
	time.Sleep(200 * time.Millisecond)
	_, err = other.Put(ctx, "app/sync", "x")
	must(err)
}

func deadEndpoint(ctx context.Context) {
	c := config(appUser())
	scheme := strings.SplitAfter(os.Getenv("URL"), "//")[0]
	for _, list := range [][]string{{scheme + "127.0.0.1:1", os.Getenv("URL")}, {os.Getenv("URL"), scheme + "127.0.0.1:1"}} {
		c.Endpoints = list
		other := connect(c)
		watch := other.Watch(ctx, "app/dead")
		for i := 0; i < 10; i++ {
			_, err := other.Put(ctx, "app/dead", "x")
			must(err)
		}
		lease, err := other.Grant(ctx, 60)
		must(err)
		_, err = other.KeepAliveOnce(ctx, lease.ID)
		must(err)
		receive(watch, "event")
		other.Close()
	}
	c.Endpoints = []string{scheme + "127.0.0.1:1"}
	c.DialTimeout = 300 * time.Millisecond
	none, err := clientv3.New(c)
	if err == nil {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		_, err = none.Get(short, "app/dead")
		cancel()
		none.Close()
	}
	need(err != nil, "an answer from nobody")
}
