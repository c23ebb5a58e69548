// Command coordination stands in lines with etcd's own Go client, for test/coordination/interop.test.ts.
//
// It connects to the endpoint that is its first argument, and performs one after the other what it is asked by lines on
// stdin, each "what name": "lock" (concurrency.Mutex), "campaign" (concurrency.Election, with the value "go"), "rlock" and
// "wlock" (recipe.RWMutex); "leader" of an election; "release" gives the last place back. It answers each with a line: the
// key and the revision that are the lock's, the leader's value, or "error" with a message. It ends when stdin does, and
// revokes its lease.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
	"go.uber.org/zap"
)

var background = context.Background()

// A program has one session, and at most one place in a line.
type program struct {
	session *concurrency.Session
	release func() error
}

func (p *program) lock(name string) (string, error) {
	mutex := concurrency.NewMutex(p.session, name)
	if err := mutex.Lock(background); err != nil {
		return "", err
	}
	p.release = func() error { return mutex.Unlock(background) }
	return fmt.Sprintf("%s %d", mutex.Key(), mutex.Header().Revision), nil
}

func (p *program) campaign(name string) (string, error) {
	election := concurrency.NewElection(p.session, name)
	if err := election.Campaign(background, "go"); err != nil {
		return "", err
	}
	p.release = func() error { return election.Resign(background) }
	return fmt.Sprintf("%s %d", election.Key(), election.Rev()), nil
}

func (p *program) leader(name string) (string, error) {
	response, err := concurrency.NewElection(p.session, name).Leader(background)
	if err != nil {
		return "", err
	}
	return string(response.Kvs[0].Value), nil
}

func (p *program) rlock(name string) (string, error) {
	mutex := recipe.NewRWMutex(p.session, name)
	p.release = mutex.RUnlock
	return name, mutex.RLock()
}

func (p *program) wlock(name string) (string, error) {
	mutex := recipe.NewRWMutex(p.session, name)
	p.release = mutex.Unlock
	return name, mutex.Lock()
}

func (p *program) perform(what, name string) (string, error) {
	switch what {
	case "lock":
		return p.lock(name)
	case "campaign":
		return p.campaign(name)
	case "leader":
		return p.leader(name)
	case "rlock":
		return p.rlock(name)
	case "wlock":
		return p.wlock(name)
	case "release":
		return "released", p.release()
	}
	return "", fmt.Errorf("there is no %q", what)
}

func run(endpoint string) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	session, err := concurrency.NewSession(client, concurrency.WithTTL(60))
	if err != nil {
		return err
	}
	defer session.Close()
	asked := &program{session: session}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		what, name, _ := strings.Cut(lines.Text(), " ")
		answer, err := asked.perform(what, name)
		if err != nil {
			answer = "error " + err.Error()
		}
		fmt.Println(answer)
	}
	return lines.Err()
}

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
