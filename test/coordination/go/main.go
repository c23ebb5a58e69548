// Command coordination stands in lines with etcd's own Go client, for test/coordination/interop.test.ts.
//
// It connects to the endpoint that is its first argument, and performs one after the other what it is asked by lines on
// stdin, each "what name": "lock" (concurrency.Mutex), "campaign" (concurrency.Election, with the value "go"), "rlock" and
// "wlock" (recipe.RWMutex); "leader" of an election; "hold", "wait" and "open" (recipe.Barrier), "enter" (recipe.DoubleBarrier
// for two); "add" of an endpoint, where "name" is its key and what it is as JSON, and "list" of those of a service
// (naming/endpoints); "release" gives the last place back. It answers each with a line: the key and the revision that are
// the lock's, the leader's value, the endpoints as JSON, or "error" with a message. It ends when stdin does, and revokes its
// lease.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
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

func (p *program) barrier(name string) *recipe.Barrier {
	return recipe.NewBarrier(p.session.Client(), name)
}

func (p *program) enter(name string) (string, error) {
	barrier := recipe.NewDoubleBarrier(p.session, name, 2)
	p.release = barrier.Leave
	return name, barrier.Enter()
}

// add is told "key json".
func (p *program) add(what string) (string, error) {
	key, text, _ := strings.Cut(what, " ")
	service := key[:strings.LastIndex(key, "/")]
	var endpoint endpoints.Endpoint
	if err := json.Unmarshal([]byte(text), &endpoint); err != nil {
		return "", err
	}
	manager, err := endpoints.NewManager(p.session.Client(), service)
	if err != nil {
		return "", err
	}
	return key, manager.AddEndpoint(background, key, endpoint, clientv3.WithLease(p.session.Lease()))
}

func (p *program) list(service string) (string, error) {
	manager, err := endpoints.NewManager(p.session.Client(), service)
	if err != nil {
		return "", err
	}
	all, err := manager.List(background)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(all)
	return string(text), err
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
	case "hold":
		return name, p.barrier(name).Hold()
	case "wait":
		return name, p.barrier(name).Wait()
	case "open":
		return name, p.barrier(name).Release()
	case "enter":
		return p.enter(name)
	case "add":
		return p.add(name)
	case "list":
		return p.list(name)
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
