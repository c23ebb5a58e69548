package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

var background = context.Background()

// A candidate stands in an election with a session of its own, as ../candidate.ts does.
type candidate struct {
	session  *concurrency.Session
	election *concurrency.Election
}

var standing *candidate

// leave ends the session, and the leadership before, when this process is to end.
func (c *candidate) leave() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	<-signals
	c.election.Resign(background)
	c.session.Close()
	os.Exit(0)
}

// stand answers when this process leads.
func stand(client *clientv3.Client, asked request) (answer, error) {
	if standing == nil {
		session, err := concurrency.NewSession(client, concurrency.WithTTL(asked.Seconds))
		if err != nil {
			return answer{}, err
		}
		standing = &candidate{session: session, election: concurrency.NewElection(session, asked.Key)}
		go standing.leave()
	}
	return answer{}, standing.election.Campaign(background, "go")
}

func resign(*clientv3.Client, request) (answer, error) {
	if standing == nil {
		return answer{}, errors.New("it does not stand in an election")
	}
	return answer{}, standing.election.Resign(background)
}
