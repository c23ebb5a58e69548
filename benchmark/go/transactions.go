package main

import (
	"fmt"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// increment reads a number and writes the next one, as one transaction (serializable snapshot, which is the default).
func increment(client *clientv3.Client, key string) error {
	_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
		number, err := strconv.Atoi("0" + stm.Get(key))
		if err != nil {
			return err
		}
		stm.Put(key, strconv.Itoa(number+1))
		return nil
	})
	return err
}

// incrementApart increments keys of the callers' own.
func incrementApart(client *clientv3.Client, asked request) (answer, error) {
	return measureCallers(asked, func(caller int) operation {
		return func(string) error { return increment(client, fmt.Sprintf("%s%d", asked.Key, caller)) }
	})
}

// incrementOne increments one key.
func incrementOne(client *clientv3.Client, asked request) (answer, error) {
	return measureCallers(asked, func(int) operation {
		return func(string) error { return increment(client, asked.Key+"one") }
	})
}
