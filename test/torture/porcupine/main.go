// Command porcupine judges histories of test/torture/history.ts, for test/torture/porcupine.unit.test.ts.
//
// It reads histories from stdin, each a line of JSON: {"initial": {key: value}, "operations": [...]}. For each it writes a
// line: "true" where it is linearizable, "false" where it is not, and "undecided" where that took too long. What it knows of
// histories is here and nowhere else: it shares nothing with the judges that it is compared with but the format.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

type comparison struct {
	Key   string  `json:"key"`
	Value *string `json:"value"`
}

type step struct {
	Do    string `json:"do"`
	Key   string `json:"key"`
	Value string `json:"value"`
}

type call struct {
	Serializable bool         `json:"serializable"`
	Compare      []comparison `json:"compare"`
	Success      []step       `json:"success"`
	Failure      []step       `json:"failure"`
}

type result struct {
	Outcome   string    `json:"outcome"`
	Succeeded bool      `json:"succeeded"`
	Found     []*string `json:"found"`
}

type operation struct {
	Begun  float64  `json:"begun"`
	Ended  *float64 `json:"ended"`
	Call   call     `json:"call"`
	Result result   `json:"result"`
}

type history struct {
	Initial    map[string]string `json:"initial"`
	Operations []operation       `json:"operations"`
}

// What keys hold; those that are not there are not in it. It is never changed.
type state map[string]string

func (s state) holds(key string, value *string) bool {
	held, isThere := s[key]
	if value == nil {
		return !isThere
	}
	return isThere && held == *value
}

func (s state) succeeds(asked call) bool {
	for _, one := range asked.Compare {
		if !s.holds(one.Key, one.Value) {
			return false
		}
	}
	return true
}

// What an operation makes of a state, and whether it can have had its result.
func (s state) step(asked call, got result) (bool, state) {
	succeeded := s.succeeds(asked)
	isKnown := got.Outcome == "answered"
	if isKnown && succeeded != got.Succeeded {
		return false, s
	}
	steps := asked.Failure
	if succeeded {
		steps = asked.Success
	}
	after := state{}
	for key, value := range s {
		after[key] = value
	}
	for index, one := range steps {
		switch one.Do {
		case "get":
			if isKnown && !after.holds(one.Key, got.Found[index]) {
				return false, s
			}
		case "put":
			after[one.Key] = one.Value
		case "delete":
			delete(after, one.Key)
		}
	}
	return true, after
}

func (s state) text() string {
	parts := make([]string, 0, len(s))
	for key, value := range s {
		parts = append(parts, fmt.Sprintf("%q=%q", key, value))
	}
	sort.Strings(parts)
	return strings.Join(parts, ",")
}

func group(key string) string {
	return key[:strings.LastIndex(key, "/")+1]
}

func (c call) group() string {
	if len(c.Compare) > 0 {
		return group(c.Compare[0].Key)
	}
	if len(c.Success) > 0 {
		return group(c.Success[0].Key)
	}
	return group(c.Failure[0].Key)
}

func byGroup(operations []porcupine.Operation) [][]porcupine.Operation {
	groups := map[string][]porcupine.Operation{}
	for _, one := range operations {
		name := one.Input.(call).group()
		groups[name] = append(groups[name], one)
	}
	parts := make([][]porcupine.Operation, 0, len(groups))
	for _, part := range groups {
		parts = append(parts, part)
	}
	return parts
}

func model(initial state) porcupine.Model {
	return porcupine.Model{
		Partition: byGroup,
		Init:      func() interface{} { return initial },
		Step: func(before, input, output interface{}) (bool, interface{}) {
			return before.(state).step(input.(call), output.(result))
		},
		Equal: func(one, two interface{}) bool { return one.(state).text() == two.(state).text() },
		Hash: func(one interface{}) uint64 {
			hash := fnv.New64a()
			hash.Write([]byte(one.(state).text()))
			return hash.Sum64()
		},
	}
}

// Milliseconds as nanoseconds.
func instant(millis float64) int64 {
	return int64(math.Round(millis * 1e6))
}

// Unknown operations never return. To be done after all others is to be never done.
func (h history) judge() string {
	var operations []porcupine.Operation
	for _, one := range h.Operations {
		if one.Call.Serializable || one.Result.Outcome == "not-applied" {
			continue
		}
		returned := int64(math.MaxInt64)
		got := one.Result
		if one.Ended == nil {
			got = result{Outcome: "unknown"}
		}
		if got.Outcome == "answered" {
			returned = instant(*one.Ended)
		}
		operations = append(operations, porcupine.Operation{Input: one.Call, Output: got, Call: instant(one.Begun), Return: returned})
	}
	switch porcupine.CheckOperationsTimeout(model(h.Initial), operations, 20*time.Second) {
	case porcupine.Ok:
		return "true"
	case porcupine.Illegal:
		return "false"
	default:
		return "undecided"
	}
}

func run() error {
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for in.More() {
		var one history
		if err := in.Decode(&one); err != nil {
			return err
		}
		fmt.Fprintln(out, one.judge())
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
