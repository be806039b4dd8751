package main

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

var authChecks = []check{
	{"permission denied", permissionDenied},
	{"wrong password", wrongPassword},
	{"users and roles", usersAndRoles},
	{"rights and passwords that change", changes},
}

var tokenChecks = []check{
	{"tokens that run out", tokenRunsOut},
}

func permissionDenied(ctx context.Context) {
	_, err := client.Get(ctx, "other")
	mustBe(err, rpctypes.ErrPermissionDenied)
	need(errors.Is(err, rpctypes.ErrPermissionDenied), "errors.Is")
	_, err = client.Put(ctx, "other", "x")
	mustBe(err, rpctypes.ErrPermissionDenied)
	_, err = client.Delete(ctx, "app/", clientv3.WithFromKey())
	mustBe(err, rpctypes.ErrPermissionDenied)
	_, err = client.Txn(ctx).If(clientv3.Compare(clientv3.Version("other"), "=", 0)).Then(clientv3.OpGet("app/a")).Commit()
	mustBe(err, rpctypes.ErrPermissionDenied)
	_, err = client.UserAdd(ctx, "x", "y")
	mustBe(err, rpctypes.ErrPermissionDenied)
	_, err = client.Compact(ctx, 1)
	need(err == nil || err == rpctypes.ErrPermissionDenied || err == rpctypes.ErrCompacted, "%v", err)
	_, err = client.Defragment(ctx, client.Endpoints()[0])
	if isEtcd() { // which has forgotten to translate this one
		equal(err.Error(), "rpc error: code = Unknown desc = auth: permission denied")
	} else {
		mustBe(err, rpctypes.ErrPermissionDenied)
	}
	watch := client.Watch(ctx, "other")
	answer := receive(watch, "refusal")
	need(answer.Canceled, "%v", answer)
	// this release of the client leaves the reason of a watch as it is, a text
	equal(answer.Err().Error(), "rpc error: code = PermissionDenied desc = etcdserver: permission denied")
	closed(watch, "refused watch")
	mustBe(concurrency.NewMutex(session(), "other").Lock(ctx), rpctypes.ErrPermissionDenied)
	put(ctx, "app/after", "x")
}

func wrongPassword(ctx context.Context) {
	_, err := clientv3.New(config("app", "wrong"))
	mustBe(err, rpctypes.ErrAuthFailed)
	_, err = clientv3.New(config("none", "wrong"))
	mustBe(err, rpctypes.ErrAuthFailed)
	_, err = client.Authenticate(ctx, "app", "wrong")
	mustBe(err, rpctypes.ErrAuthFailed)
}

func usersAndRoles(ctx context.Context) {
	if !isEtcd() { // 3.4 has no AuthStatus
		status, err := root.AuthStatus(ctx)
		must(err)
		need(status.Enabled && status.AuthRevision > 0, "%v", status)
	}
	_, err := root.UserAdd(ctx, "made", "secret")
	must(err)
	_, err = root.UserAdd(ctx, "made", "secret")
	mustBe(err, rpctypes.ErrUserAlreadyExist)
	_, err = root.UserAdd(ctx, "", "secret")
	mustBe(err, rpctypes.ErrUserEmpty)
	_, err = root.UserAddWithOptions(ctx, "by-certificate", "", &clientv3.UserAddOptions{NoPassword: true})
	must(err)
	_, err = root.RoleAdd(ctx, "maker")
	must(err)
	_, err = root.RoleAdd(ctx, "maker")
	mustBe(err, rpctypes.ErrRoleAlreadyExist)
	_, err = root.RoleGrantPermission(ctx, "maker", "made/", clientv3.GetPrefixRangeEnd("made/"),
		clientv3.PermissionType(clientv3.PermReadWrite))
	must(err)
	role, err := root.RoleGet(ctx, "maker")
	must(err)
	equal(string(role.Perm[0].Key)+"-"+string(role.Perm[0].RangeEnd), "made/-made0")
	_, err = root.UserGrantRole(ctx, "made", "none")
	mustBe(err, rpctypes.ErrRoleNotFound)
	_, err = root.UserGrantRole(ctx, "none", "maker")
	mustBe(err, rpctypes.ErrUserNotFound)
	_, err = root.UserGrantRole(ctx, "made", "maker")
	must(err)
	user, err := root.UserGet(ctx, "made")
	must(err)
	equal(user.Roles, []string{"maker"})

	made := connect(config("made", "secret"))
	defer made.Close()
	_, err = made.Put(ctx, "made/x", "1")
	must(err)
	own, err := made.UserGet(ctx, "made")
	must(err)
	equal(own.Roles, []string{"maker"})
	_, err = made.UserGet(ctx, "app")
	mustBe(err, rpctypes.ErrPermissionDenied)
	login, err := made.Authenticate(ctx, "made", "secret")
	must(err)
	need(login.Token != "", "no token")

	users, err := root.UserList(ctx)
	must(err)
	need(strings.Contains(strings.Join(users.Users, " "), "made"), "%v", users.Users)
	roles, err := root.RoleList(ctx)
	must(err)
	need(strings.Contains(strings.Join(roles.Roles, " "), "maker"), "%v", roles.Roles)
	_, err = root.RoleRevokePermission(ctx, "maker", "none", "")
	mustBe(err, rpctypes.ErrPermissionNotGranted)
	_, err = root.RoleRevokePermission(ctx, "maker", "made/", "made0")
	must(err)
	_, err = made.Put(ctx, "made/x", "2")
	mustBe(err, rpctypes.ErrPermissionDenied)
	_, err = root.UserRevokeRole(ctx, "made", "maker")
	must(err)
	_, err = root.UserRevokeRole(ctx, "made", "maker")
	mustBe(err, rpctypes.ErrRoleNotGranted)
	_, err = root.RoleDelete(ctx, "maker")
	must(err)
	_, err = root.RoleDelete(ctx, "maker")
	mustBe(err, rpctypes.ErrRoleNotFound)
	for _, name := range []string{"made", "by-certificate"} {
		_, err = root.UserDelete(ctx, name)
		must(err)
	}
	_, err = root.UserDelete(ctx, "made")
	mustBe(err, rpctypes.ErrUserNotFound)
	_, err = root.UserDelete(ctx, "root")
	mustBe(err, rpctypes.ErrInvalidAuthMgmt)
}

// The client logs in again when its token is void, and says so when it cannot.
func changes(ctx context.Context) {
	_, err := root.UserAdd(ctx, "changing", "one")
	must(err)
	_, err = root.UserGrantRole(ctx, "changing", "app")
	must(err)
	user := connect(config("changing", "one"))
	defer user.Close()
	lease, err := user.Grant(ctx, 60)
	must(err)
	alive, err := user.KeepAlive(ctx, lease.ID)
	must(err)
	receive(alive, "answer to a keep-alive")
	_, err = root.UserChangePassword(ctx, "changing", "one")
	must(err)
	for i := 0; i < 3; i++ {
		_, err = user.Put(ctx, "app/changing", "x")
		must(err)
		_, err = root.RoleAdd(ctx, "unrelated")
		must(err)
		_, err = user.Get(ctx, "app/changing")
		must(err)
		_, err = root.RoleDelete(ctx, "unrelated")
		must(err)
	}
	_, err = user.KeepAliveOnce(ctx, lease.ID)
	must(err)
	_, err = root.UserRevokeRole(ctx, "changing", "app")
	must(err)
	_, err = user.Get(ctx, "app/changing")
	mustBe(err, rpctypes.ErrPermissionDenied)
	_, err = root.UserChangePassword(ctx, "changing", "two")
	must(err)
	_, err = user.Get(ctx, "app/changing")
	mustBe(err, rpctypes.ErrAuthFailed)
	_, err = root.UserDelete(ctx, "changing")
	must(err)
	_, err = root.Put(ctx, "app/root", "x")
	must(err)
}

// The server's tokens are good for 2 seconds after their last use: the client has
// to log in again.  A watch goes on with etcd; here it ends with its token
// (doc/api.md), for this client by a closed channel, and the next goes on where
// it was.
func tokenRunsOut(ctx context.Context) {
	user := connect(config("app", os.Getenv("APP_PASSWORD")))
	defer user.Close()
	watch := user.Watch(ctx, "app/ttl", clientv3.WithPrevKV())
	lease, err := user.Grant(ctx, 60)
	must(err)
	alive, err := user.KeepAlive(ctx, lease.ID)
	must(err)
	receive(alive, "answer to a keep-alive")
	for i, want := range []string{"PUT app/ttl=0", "PUT app/ttl=1(0)"} {
		time.Sleep(3500 * time.Millisecond)
		answer, err := user.Put(ctx, "app/ttl", strconv.Itoa(i))
		must(err)
		if !isEtcd() {
			closed(watch, "watch whose token has run out")
			watch = user.Watch(ctx, "app/ttl", clientv3.WithPrevKV(), clientv3.WithRev(answer.Header.Revision))
		}
		equal(events(watch, 1), want)
	}
	time.Sleep(3500 * time.Millisecond)
	_, err = user.KeepAliveOnce(ctx, lease.ID)
	must(err)
	time.Sleep(3500 * time.Millisecond)
	list, err := user.MemberList(ctx)
	must(err)
	equal(len(list.Members), 1)
	time.Sleep(3500 * time.Millisecond)
	_, err = user.TimeToLive(ctx, lease.ID)
	must(err)
	_, err = user.UserGet(ctx, "app")
	must(err)
}

var restartChecks = []check{
	{"the server is stopped and started", func(ctx context.Context) { restart(ctx, "stop") }},
	{"the server is killed and started", func(ctx context.Context) { restart(ctx, "kill") }},
}

// Watches, sessions and tokens over a restart: no event is lost, none comes twice,
// what was answered is there.
func restart(ctx context.Context, how string) {
	prefix := "app/restart-" + how + "/"
	watches := []clientv3.WatchChan{
		client.Watch(ctx, prefix, clientv3.WithPrefix()),
		client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify(), clientv3.WithPrevKV()),
	}
	need(receive(watches[1], "notice of the creation").Created, "not created")
	kept := session()
	lock := concurrency.NewMutex(kept, "app/restart-mutex-"+how)
	must(lock.Lock(ctx))

	stop, stopped := make(chan struct{}), make(chan map[string]bool, 1)
	go func() {
		answered := map[string]bool{}
		for i := 0; ; i++ {
			select {
			case <-stop:
				stopped <- answered
				return
			default:
			}
			key := prefix + strconv.Itoa(i)
			short, cancel := context.WithTimeout(ctx, 5*time.Second)
			if _, err := client.Put(short, key, "x"); err == nil {
				answered[key] = true
			}
			cancel()
			time.Sleep(2 * time.Millisecond)
		}
	}()
	time.Sleep(300 * time.Millisecond)
	restartServer(how)
	// answers again: token, connection
	for {
		_, err := client.Get(ctx, prefix)
		if err == nil {
			break
		}
		need(ctx.Err() == nil, "%v", err)
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(300 * time.Millisecond)
	close(stop)
	answered := receive(stopped, "end of the writer")
	put(ctx, prefix+"end", "x")

	for _, watch := range watches {
		seen := map[string]bool{}
		revision := int64(0)
		for !seen[prefix+"end"] {
			answer := receive(watch, "event")
			must(answer.Err())
			for _, event := range answer.Events {
				key := string(event.Kv.Key)
				need(!seen[key], "%s twice, the second time at revision %d (version %d) after %d", key, event.Kv.ModRevision,
					event.Kv.Version, revision)
				need(event.Kv.ModRevision >= revision, "revision %d after %d", event.Kv.ModRevision, revision)
				seen[key], revision = true, event.Kv.ModRevision
			}
		}
		for key := range answered {
			need(seen[key], "no event of %s", key)
		}
	}
	need(len(answered) > 20, "only %d puts", len(answered))
	equal(get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly()).Count >= int64(len(answered)), true)
	// the session is the same, and still kept
	select {
	case <-kept.Done():
		fail("the session is over")
	default:
	}
	_, err := client.KeepAliveOnce(ctx, kept.Lease())
	must(err)
	must(lock.Unlock(ctx))
	must(kept.Close())
}
