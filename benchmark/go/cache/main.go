// Command cache measures the cache of etcd's own Go client for `npm run bench -- mirror`.
//
// It connects to the endpoints that are its arguments, and answers each line on stdin, a request, with one line on
// stdout. It ends when stdin does.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"go.etcd.io/etcd/cache/v3"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// A request opens a cache of a prefix, and waits until it is filled; reads keys over and over; looks at the processor
// time ("mark"); waits until the cache is where the store is ("fresh"); or closes the cache.
type request struct {
	Scenario string `json:"scenario"`
	Prefix   string `json:"prefix"`
	Keys     int    `json:"keys"`
	Reads    int    `json:"reads"`
	// Buffer is how many answers of its watch may wait to be applied.
	Buffer int `json:"buffer"`
}

type answer struct {
	Millis float64 `json:"millis"`
	// CPUMicros is what the process has used: since a mark, and of a read of all.
	CPUMicros int64  `json:"cpuMicros"`
	Bytes     int64  `json:"bytes"`
	Keys      int    `json:"keys"`
	Error     string `json:"error,omitempty"`
}

// mostMemory is how many bytes of addresses this process may have.
const mostMemory = 6 << 30

// A bench has at most one cache, with a client of its own.
type bench struct {
	endpoints []string
	client    *clientv3.Client
	cache     *cache.Cache
	prefix    string
	marked    int64
}

// cpuMicros is the processor time that this process has used.
func cpuMicros() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return (usage.Utime.Nano() + usage.Stime.Nano()) / 1000
}

// heap is what lives, in bytes.
func heap() int64 {
	var stats runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func (b *bench) open(asked request) (answer, error) {
	// What it logs would hide the results.
	client, err := clientv3.New(clientv3.Config{Endpoints: b.endpoints, Logger: zap.NewNop()})
	if err != nil {
		return answer{}, err
	}
	b.client = client
	b.prefix = asked.Prefix
	// The connection is there, as ours is.
	if _, err := client.Get(context.Background(), asked.Prefix, clientv3.WithCountOnly()); err != nil {
		return answer{}, err
	}
	before := heap()
	start := time.Now()
	if b.cache, err = cache.New(client, asked.Prefix, cache.WithPerWatcherBufferSize(asked.Buffer)); err != nil {
		return answer{}, err
	}
	if err := b.cache.WaitReady(context.Background()); err != nil {
		return answer{}, err
	}
	millis := float64(time.Since(start).Microseconds()) / 1000
	bytes := heap() - before
	all, err := b.cache.Get(context.Background(), asked.Prefix, clientv3.WithPrefix(), clientv3.WithSerializable())
	if err != nil {
		return answer{}, err
	}
	return answer{Millis: millis, Bytes: bytes, Keys: len(all.Kvs)}, nil
}

// read reads so many single keys, in the order in which ../../mirror.ts does.
func (b *bench) read(asked request) (answer, error) {
	keys := make([]string, asked.Reads)
	for n := range keys {
		keys[n] = fmt.Sprintf("%s%08d", asked.Prefix, (n*104_729)%asked.Keys)
	}
	before := cpuMicros()
	start := time.Now()
	for _, key := range keys {
		got, err := b.cache.Get(context.Background(), key, clientv3.WithSerializable())
		if err != nil {
			return answer{}, err
		}
		if len(got.Kvs) != 1 {
			return answer{}, fmt.Errorf("%q is missing", key)
		}
	}
	return answer{Millis: float64(time.Since(start).Microseconds()) / 1000, CPUMicros: cpuMicros() - before}, nil
}

// fresh is a linearizable read, which the cache answers when it is where the store is.
func (b *bench) fresh() (answer, error) {
	for {
		_, err := b.cache.Get(context.Background(), b.prefix)
		// It gives up after three seconds.
		if errors.Is(err, cache.ErrCacheTimeout) {
			continue
		}
		return answer{CPUMicros: cpuMicros() - b.marked}, err
	}
}

func (b *bench) close() (answer, error) {
	// It tells that it was closed, as if that were a failure.
	said := os.Stdout
	os.Stdout = nil
	b.cache.Close()
	os.Stdout = said
	err := b.client.Close()
	b.cache, b.client = nil, nil
	return answer{}, err
}

func (b *bench) answerTo(line []byte) (answer, error) {
	var asked request
	if err := json.Unmarshal(line, &asked); err != nil {
		return answer{}, err
	}
	switch asked.Scenario {
	case "open":
		return b.open(asked)
	case "read":
		return b.read(asked)
	case "mark":
		b.marked = cpuMicros()
		return answer{}, nil
	case "fresh":
		return b.fresh()
	case "close":
		return b.close()
	}
	return answer{}, fmt.Errorf("there is no scenario %q", asked.Scenario)
}

// readLines passes on the lines of stdin, and ends the process with them, also in the middle of a request.
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

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: cache ENDPOINT...")
		os.Exit(2)
	}
	// A cache that begins anew again and again would otherwise take all memory that there is.
	limit := syscall.Rlimit{Cur: mostMemory, Max: mostMemory}
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &limit); err != nil {
		panic(err)
	}
	// The cache says on stdout what it could not do, where the answers are.
	out := os.Stdout
	os.Stdout = os.Stderr
	answers := json.NewEncoder(out)
	lines := make(chan []byte)
	go readLines(lines)
	measured := bench{endpoints: os.Args[1:]}
	for line := range lines {
		answered, err := measured.answerTo(line)
		if err != nil {
			answered = answer{Error: err.Error()}
		}
		if err := answers.Encode(answered); err != nil {
			panic(err)
		}
	}
}
