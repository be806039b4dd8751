// The official Go client (go.etcd.io/etcd/client/v3) against one server; run by
// 070_go_client.t, which says in the environment where it is and who asks.
//
// Prints a line for each check: "ok NAME" or "not ok NAME: why".  A line "server
// kill" or "server stop" asks that the server be killed or stopped and started
// again; a line on the standard input says that it is done.  Names given as
// arguments: only checks whose name contains one of them.  CHECKS=tokens: the
// server's tokens are good for 2 seconds, and only what that shows is tried.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// how long one answer may take, and one check
var (
	patience = slow(20 * time.Second)
	limit    = slow(60 * time.Second)
)

// The user "app": what all checks use unless they say otherwise, and one who may
// do everything.
var client, root *clientv3.Client

var stdin = bufio.NewReader(os.Stdin)

func slow(d time.Duration) time.Duration {
	if factor, err := strconv.ParseFloat(os.Getenv("CLAVIGER_SLOW"), 64); err == nil {
		return time.Duration(float64(d) * factor)
	}
	return d
}

func tlsConfig() *tls.Config {
	if os.Getenv("CA") == "" {
		return nil
	}
	info := transport.TLSInfo{TrustedCAFile: os.Getenv("CA"), CertFile: os.Getenv("CERT"), KeyFile: os.Getenv("KEY")}
	config, err := info.ClientConfig()
	must(err)
	return config
}

func config(user, password string) clientv3.Config {
	return clientv3.Config{
		Endpoints:   []string{os.Getenv("URL")},
		DialTimeout: patience,
		TLS:         tlsConfig(),
		Username:    user,
		Password:    password,
		Logger:      zap.NewNop(),
	}
}

func connect(c clientv3.Config) *clientv3.Client {
	made, err := clientv3.New(c)
	must(err)
	return made
}

func connectApp() *clientv3.Client {
	return connect(config(os.Getenv("CLIENT_USER"), os.Getenv("CLIENT_PASSWORD")))
}

func hasAuth() bool { return os.Getenv("CA") != "" }

// The server is Debian's etcd, 3.4.
func isEtcd() bool { return os.Getenv("CLIENTS_AGAINST") == "etcd" }

// The context of a check; cancelled when it ends.
func within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

type failure string

func fail(format string, arguments ...interface{}) {
	panic(failure(fmt.Sprintf(format, arguments...)))
}

func must(err error) {
	if err != nil {
		fail("%v (%T)", err, err)
	}
}

// The error itself, as programs compare it.
func mustBe(err, want error) {
	if err != want {
		fail("%v (%T) instead of %v", err, err, want)
	}
}

func equal(got, want interface{}) {
	if !reflect.DeepEqual(got, want) {
		fail("%v instead of %v", got, want)
	}
}

func need(ok bool, format string, arguments ...interface{}) {
	if !ok {
		fail(format, arguments...)
	}
}

func receive[T any](from <-chan T, what string) T {
	select {
	case value, ok := <-from:
		need(ok, "%s: the channel is closed", what)
		return value
	case <-time.After(patience):
		fail("no %s", what)
	}
	panic("not reached")
}

func closed[T any](from <-chan T, what string) {
	end := time.After(patience)
	for {
		select {
		case _, ok := <-from:
			if !ok {
				return
			}
		case <-end:
			fail("not closed: %s", what)
		}
	}
}

// Both ends of a file in the hands of the .t: how = "kill" or "stop".
func restartServer(how string) {
	fmt.Println("server " + how)
	_, err := stdin.ReadString('\n')
	must(err)
}

type check struct {
	name string
	run  func(ctx context.Context)
}

func perform(c check) (err error) {
	ctx, cancel := within(limit)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer func() {
			switch what := recover().(type) {
			case nil:
				done <- nil
			case failure:
				done <- fmt.Errorf("%s", string(what))
			default:
				panic(what)
			}
		}()
		c.run(ctx)
	}()
	select {
	case err = <-done:
	case <-time.After(limit + patience):
		err = fmt.Errorf("not ended")
	}
	return err
}

func wanted(name string) bool {
	for _, part := range os.Args[1:] {
		if strings.Contains(name, part) {
			return true
		}
	}
	return len(os.Args) == 1
}

// Runs f n times at once; a failure of one is the failure of all.
func together(n int, f func(i int)) {
	var wait sync.WaitGroup
	failures := make(chan interface{}, n)
	for i := 0; i < n; i++ {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			defer func() {
				if what := recover(); what != nil {
					failures <- what
				}
			}()
			f(i)
		}(i)
	}
	wait.Wait()
	select {
	case what := <-failures:
		panic(what)
	default:
	}
}

func main() {
	client = connectApp()
	root = client
	if hasAuth() {
		root = connect(config("root", os.Getenv("ROOT_PASSWORD")))
	}
	var checks []check
	for _, part := range [][]check{dataChecks, recipeChecks, watchChecks, serverChecks} {
		checks = append(checks, part...)
	}
	if hasAuth() {
		checks = append(checks, authChecks...)
	}
	// last: they break connections and tokens
	checks = append(checks, restartChecks...)
	if os.Getenv("CHECKS") == "tokens" {
		checks = tokenChecks
	}
	failed := 0
	for _, c := range checks {
		if !wanted(c.name) {
			continue
		}
		begin := time.Now()
		if err := perform(c); err != nil {
			failed++
			fmt.Printf("not ok %s: %s\n", c.name, strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Printf("ok %s\n", c.name)
		}
		fmt.Fprintf(os.Stderr, "%6.2f s  %s\n", time.Since(begin).Seconds(), c.name)
	}
	fmt.Println("end")
	if failed > 0 {
		os.Exit(1)
	}
}
