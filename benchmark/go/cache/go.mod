module effect-etcd/benchmark/go/cache

go 1.26.0

require (
	go.etcd.io/etcd/cache/v3 v3.7.1
	go.etcd.io/etcd/client/v3 v3.7.1
	go.uber.org/zap v1.28.0
)
