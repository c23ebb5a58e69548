package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// withSessions runs something with so many sessions, which it makes before and closes afterwards.
func withSessions(client *clientv3.Client, count int, run func([]*concurrency.Session) (answer, error)) (answer, error) {
	var sessions []*concurrency.Session
	defer func() {
		for _, session := range sessions {
			session.Close()
		}
	}()
	for range count {
		session, err := concurrency.NewSession(client)
		if err != nil {
			return answer{}, err
		}
		sessions = append(sessions, session)
	}
	return run(sessions)
}

func lockAndUnlock(session *concurrency.Session) operation {
	return func(name string) error {
		mutex := concurrency.NewMutex(session, name)
		if err := mutex.Lock(context.Background()); err != nil {
			return err
		}
		return mutex.Unlock(context.Background())
	}
}

// lockApart locks and unlocks names of the callers' own, in one session that they share.
func lockApart(client *clientv3.Client, asked request) (answer, error) {
	return withSessions(client, 1, func(sessions []*concurrency.Session) (answer, error) {
		run := lockAndUnlock(sessions[0])
		return measureCallers(asked, func(caller int) operation {
			return func(string) error { return run(fmt.Sprintf("bench/lock/go/%d", caller)) }
		})
	})
}

// lockOne locks and unlocks one name, in a session for each caller: a mutex is reentrant within a session.
func lockOne(client *clientv3.Client, asked request) (answer, error) {
	return withSessions(client, asked.InFlight, func(sessions []*concurrency.Session) (answer, error) {
		return measureCallers(asked, func(caller int) operation {
			run := lockAndUnlock(sessions[caller])
			return func(string) error { return run("bench/lock/go/one") }
		})
	})
}

// handover measures from the beginning of a release to the moment at which who waits has the lock.
func handover(client *clientv3.Client, asked request) (answer, error) {
	return withSessions(client, 2, func(sessions []*concurrency.Session) (answer, error) {
		var released time.Time
		var turn sync.Mutex
		measured := answer{}
		start := time.Now()
		end := start.Add(time.Duration(asked.Millis) * time.Millisecond)
		errs := make(chan error, 2)
		for caller := range 2 {
			go func() {
				errs <- func() error {
					for time.Now().Before(end) {
						mutex := concurrency.NewMutex(sessions[caller], "bench/lock/go/handover")
						if err := mutex.Lock(context.Background()); err != nil {
							return err
						}
						turn.Lock()
						if !released.IsZero() {
							measured.LatencyMicros = append(measured.LatencyMicros, time.Since(released).Microseconds())
						}
						turn.Unlock()
						// The other one waits by then.
						time.Sleep(10 * time.Millisecond)
						turn.Lock()
						released = time.Now()
						turn.Unlock()
						if err := mutex.Unlock(context.Background()); err != nil {
							return err
						}
					}
					return nil
				}()
			}()
		}
		for range 2 {
			if err := <-errs; err != nil {
				return answer{}, err
			}
		}
		measured.Ops = len(measured.LatencyMicros)
		measured.Seconds = time.Since(start).Seconds()
		return measured, nil
	})
}
