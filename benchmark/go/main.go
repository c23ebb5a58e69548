// Command clientv3 measures etcd's own Go client for `npm run bench`.
//
// It connects to the endpoints that are its arguments, and answers each line on stdin, a request, with one line on
// stdout. It ends when stdin does.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// A request is a round of gets or puts; or, as scenario "check", one put of the key and one get of it; or it is about a
// load of puts that goes on in the background: "load" starts it, "wait" waits until so many puts in a row are acknowledged
// that were begun since a moment that is past, "stop" ends it. The scenarios of coordination.go, transactions.go and leaders.go are said there.
type request struct {
	Scenario   string `json:"scenario"`
	InFlight   int    `json:"inFlight"`
	Millis     int    `json:"millis"`
	Since      int64  `json:"since"`
	Row        int    `json:"row"`
	Seconds    int    `json:"seconds"`
	ValueBytes int    `json:"valueBytes"`
	Key        string `json:"key"`
	Value      []byte `json:"value"`
}

// An answer says what a round did, what a check read, or what went wrong.
type answer struct {
	Ops       int     `json:"ops"`
	Seconds   float64 `json:"seconds"`
	CPUMicros int64   `json:"cpuMicros"`
	// LatencyMicros are those of all operations, in no order.
	LatencyMicros []int64 `json:"latencyMicros,omitempty"`
	Value         []byte  `json:"value,omitempty"`
	WaitMillis    *waits  `json:"waitMillis,omitempty"`
	Lines         *lines  `json:"lines,omitempty"`
	Error         string  `json:"error,omitempty"`
}

type operation func(key string) error

// keyOf makes the key of a caller, as keyOf in ../round.ts does.
func keyOf(caller int) string {
	return fmt.Sprintf("bench/key/%04d", caller)
}

// cpuMicros is the processor time that this process has used.
func cpuMicros() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return (usage.Utime.Nano() + usage.Stime.Nano()) / 1000
}

func operationOf(client *clientv3.Client, asked request) (operation, error) {
	switch asked.Scenario {
	case "get":
		return func(key string) error {
			_, err := client.Get(context.Background(), key)
			return err
		}, nil
	case "put":
		value := string(bytes.Repeat([]byte("v"), asked.ValueBytes))
		return func(key string) error {
			_, err := client.Put(context.Background(), key, value)
			return err
		}, nil
	}
	return nil, fmt.Errorf("there is no scenario %q", asked.Scenario)
}

// call runs an operation over and over until the end, and answers how long each took.
func call(run operation, key string, end time.Time) ([]int64, error) {
	var latencies []int64
	for start := time.Now(); start.Before(end); {
		if err := run(key); err != nil {
			return latencies, err
		}
		now := time.Now()
		latencies = append(latencies, now.Sub(start).Microseconds())
		start = now
	}
	return latencies, nil
}

func measure(client *clientv3.Client, asked request) (answer, error) {
	run, err := operationOf(client, asked)
	if err != nil {
		return answer{}, err
	}
	return measureCallers(asked, func(int) operation { return run })
}

// measureCallers lets each caller repeat its operation until the time is up.
func measureCallers(asked request, runOf func(caller int) operation) (answer, error) {
	latencies := make([][]int64, asked.InFlight)
	failures := make([]error, asked.InFlight)
	var callers sync.WaitGroup
	cpuBefore := cpuMicros()
	start := time.Now()
	end := start.Add(time.Duration(asked.Millis) * time.Millisecond)
	for caller := range asked.InFlight {
		callers.Go(func() {
			latencies[caller], failures[caller] = call(runOf(caller), keyOf(caller), end)
		})
	}
	callers.Wait()
	seconds := time.Since(start).Seconds()
	measured := answer{Seconds: seconds, CPUMicros: cpuMicros() - cpuBefore}
	for caller := range asked.InFlight {
		if failures[caller] != nil {
			return answer{}, failures[caller]
		}
		measured.LatencyMicros = append(measured.LatencyMicros, latencies[caller]...)
	}
	measured.Ops = len(measured.LatencyMicros)
	return measured, nil
}

func check(client *clientv3.Client, asked request) (answer, error) {
	if _, err := client.Put(context.Background(), asked.Key, string(asked.Value)); err != nil {
		return answer{}, err
	}
	got, err := client.Get(context.Background(), asked.Key)
	if err != nil {
		return answer{}, err
	}
	if len(got.Kvs) != 1 {
		return answer{}, fmt.Errorf("%q has %d values", asked.Key, len(got.Kvs))
	}
	return answer{Value: got.Kvs[0].Value}, nil
}

// waits are how long it took until the first of the puts in a row was acknowledged.
type waits struct {
	Closed float64 `json:"closed"`
	Open   float64 `json:"open"`
}

// A line has the puts of a loop, as Line in ../results.ts does: when each was begun and ended, in milliseconds since the fault.
type line struct {
	Acknowledged [][2]int64 `json:"acknowledged"`
	Failed       [][2]int64 `json:"failed"`
}

type lines struct {
	Closed line `json:"closed"`
	Open   line `json:"open"`
}

// A span is a put that has ended.
type span struct {
	begun, ended time.Time
	acknowledged bool
}

// A mark remembers the acknowledgements of puts that were begun after a moment, each by its number, and finds out when the
// first of so many in a row was there.
type mark struct {
	mutex        sync.Mutex
	since        time.Time
	row          int
	puts         int
	spans        []span
	took         map[int]time.Duration
	acknowledged chan time.Duration
}

func (m *mark) begin(since time.Time, row int) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.since = since
	m.row = row
	m.took = make(map[int]time.Duration)
	m.acknowledged = make(chan time.Duration, 1)
}

func (m *mark) number() int {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.puts++
	return m.puts
}

// end finds where the puts in a row end that are acknowledged, from a number on in steps.
func (m *mark) end(number int, step int) int {
	for {
		if _, ok := m.took[number+step]; !ok {
			return number
		}
		number += step
	}
}

func (m *mark) record(begun time.Time, acknowledged bool) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.spans = append(m.spans, span{begun, time.Now(), acknowledged})
}

// line is what was put from two seconds before the fault on.
func (m *mark) line() line {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	result := line{Acknowledged: [][2]int64{}, Failed: [][2]int64{}}
	for _, span := range m.spans {
		begun := span.begun.Sub(m.since)
		if begun < -2*time.Second {
			continue
		}
		put := [2]int64{begun.Milliseconds(), span.ended.Sub(m.since).Milliseconds()}
		if span.acknowledged {
			result.Acknowledged = append(result.Acknowledged, put)
		} else {
			result.Failed = append(result.Failed, put)
		}
	}
	return result
}

func (m *mark) note(number int, begun time.Time) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.since.IsZero() || begun.Before(m.since) {
		return
	}
	m.took[number] = time.Since(m.since)
	first := m.end(number, -1)
	if m.end(number, 1)-first+1 < m.row {
		return
	}
	select {
	case m.acknowledged <- m.took[first]:
	default:
	}
}

// await answers with milliseconds; with those until the end where there were too few acknowledgements.
func (m *mark) await(end time.Time) float64 {
	select {
	case took := <-m.acknowledged:
		return float64(took.Microseconds()) / 1000
	default:
	}
	select {
	case took := <-m.acknowledged:
		return float64(took.Microseconds()) / 1000
	case <-time.After(time.Until(end)):
		return float64(time.Since(m.since).Milliseconds())
	}
}

// A load puts one value after the other, and one every 50 ms whatever became of those before, as ../failover.ts does.
type load struct {
	closed, open mark
	cancel       context.CancelFunc
}

func putOnce(ctx context.Context, client *clientv3.Client, key string, to *mark) {
	number, begun := to.number(), time.Now()
	_, err := client.Put(ctx, key, "v")
	if ctx.Err() != nil {
		return
	}
	to.record(begun, err == nil)
	if err == nil {
		to.note(number, begun)
	}
}

func startLoad(client *clientv3.Client) *load {
	ctx, cancel := context.WithCancel(context.Background())
	started := &load{cancel: cancel}
	go func() {
		for ctx.Err() == nil {
			putOnce(ctx, client, "bench/failover/go/closed", &started.closed)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	go func() {
		for ctx.Err() == nil {
			go putOnce(ctx, client, "bench/failover/go/open", &started.open)
			time.Sleep(50 * time.Millisecond)
		}
	}()
	return started
}

func (l *load) wait(since time.Time, row int, longest time.Duration) *waits {
	l.closed.begin(since, row)
	l.open.begin(since, row)
	end := since.Add(longest)
	closed := l.closed.await(end)
	return &waits{Closed: closed, Open: l.open.await(end)}
}

var running *load

func answerTo(client *clientv3.Client, line []byte) answer {
	var asked request
	if err := json.Unmarshal(line, &asked); err != nil {
		return answer{Error: err.Error()}
	}
	switch asked.Scenario {
	case "load":
		running = startLoad(client)
		return answer{}
	case "wait":
		return answer{WaitMillis: running.wait(time.UnixMilli(asked.Since), asked.Row, time.Duration(asked.Millis)*time.Millisecond)}
	case "stop":
		running.cancel()
		return answer{Lines: &lines{Closed: running.closed.line(), Open: running.open.line()}}
	}
	handle := measure
	switch asked.Scenario {
	case "check":
		handle = check
	case "locks apart":
		handle = lockApart
	case "one lock":
		handle = lockOne
	case "handover":
		handle = handover
	case "commits apart":
		handle = incrementApart
	case "commits on one key":
		handle = incrementOne
	case "stand":
		handle = stand
	case "resign":
		handle = resign
	}
	answered, err := handle(client, asked)
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answered
}

// readLines passes on the lines of stdin, and ends the process with them, also in the middle of a round.
func readLines(lines chan<- []byte) {
	reader := bufio.NewReader(os.Stdin)
	for {
		line, err := reader.ReadBytes('\n')
		if err != nil {
			os.Exit(0)
		}
		lines <- line
	}
}

func run(endpoints []string) error {
	// What it logs of a leader that is gone would hide the results.
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	lines := make(chan []byte)
	go readLines(lines)
	answers := json.NewEncoder(os.Stdout)
	for line := range lines {
		if err := answers.Encode(answerTo(client, line)); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: clientv3 ENDPOINT...")
		os.Exit(2)
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
