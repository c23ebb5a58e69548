/**
 * Every option of the etcd server: the kind of its value, its names on the command line, and the versions that know each
 * name.
 *
 * This one table is what the schema, the readers of files, the command line and the checks are made from. It was taken
 * from the flag sets in etcd's sources at every release tag from 3.4.0 to 3.7.1 (`server/embed/config.go` and
 * `server/etcdmain/config.go`), and a test compares it with the etcd at hand.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as SemVer from "effect/SemVer"
import * as SemVerRange from "effect/SemVerRange"
import * as Kind from "./kind.ts"

/** One option. */
export interface Option<T, I> {
  readonly kind: Kind.Kind<T, I>
  /** The option's names on the command line, the newest first, each with the range of versions that know it. */
  readonly names: Readonly<Record<string, string>>
  /** The feature that took the option's place in `--feature-gates`, from 3.6 on. */
  readonly gate: string | undefined
  /** What a version that does not have the option, or this value of it, does anyway. */
  readonly implied: T | undefined
}

const option = <T, I>(
  kind: Kind.Kind<T, I>,
  names: string | Readonly<Record<string, string>>,
  more: { readonly gate?: string; readonly implied?: NoInfer<T> } = {}
): Option<T, I> => ({
  kind,
  names: typeof names === "string" ? { [names]: always } : names,
  gate: more.gate,
  implied: more.implied ?? ((kind as unknown) === Kind.boolean ? (false as T) : undefined)
})

const always = "*"
const until35 = "<3.5.0"
const until36 = "<3.6.0"
const until37 = "<3.7.0"
const from35 = ">=3.5.0"
const from36 = ">=3.6.0"
const only36 = ">=3.6.0 <3.7.0"
const from35Until37 = ">=3.5.0 <3.7.0"
const tlsVersions = ">=3.4.25 <3.5.0 || >=3.5.8"

const count = Kind.integer(0, Number.MAX_SAFE_INTEGER)
const positive = Kind.integer(1, Number.MAX_SAFE_INTEGER)
const int32 = Kind.integer(0, 2 ** 31 - 1)
const uint32 = Kind.integer(0, 2 ** 32 - 1)
const uint64 = 2n ** 64n - 1n

/**
 * The options, by their names in TypeScript.
 *
 * Durations in files need a unit (`"5s"`), except where etcd itself counts in milliseconds.
 */
export const table = {
  // member

  /** Name of this member, unique in its cluster. Default: `"default"`. */
  name: option(Kind.memberName, "name"),
  /** Where the node keeps its data. Default: a directory that goes away with the node. */
  dataDir: option(Kind.path, "data-dir"),
  /** Where the node keeps its write-ahead log. Default: inside the data directory. */
  walDir: option(Kind.path, "wal-dir"),
  /** Transactions that are committed between two snapshots to disk. Default: 100000; from 3.6 on 10000. */
  snapshotCount: option(count, "snapshot-count"),
  /** Entries that stay in memory after a snapshot, for slow followers. Default: 5000. */
  snapshotCatchupEntries: option(count, {
    "snapshot-catchup-entries": from36,
    "experimental-snapshot-catchup-entries": ">=3.5.14 <3.7.0"
  }),
  /** Time between two heartbeats of the leader; whole milliseconds, a bare number counts them. Default: 100 ms. */
  heartbeatInterval: option(Kind.millis, "heartbeat-interval"),
  /** Silence after which a follower wants an election; at least five heartbeats, at most 50 s. Default: 1000 ms. */
  electionTimeout: option(Kind.millis, "election-timeout"),
  /** Whether a starting node skips ahead to an early first election. Default: true. */
  initialElectionTickAdvance: option(Kind.boolean, "initial-election-tick-advance"),
  /** Where to listen for other members. Default: a Unix socket that nobody else can reach. */
  listenPeerUrls: option(Kind.urls, "listen-peer-urls"),
  /** Where to listen for clients. Default: a Unix socket that only the owner can reach. */
  listenClientUrls: option(Kind.urls, "listen-client-urls"),
  /**
   * Where to listen for HTTP alone (`/health`, `/metrics`, `/version`, the JSON gateway); then `listenClientUrls` serve
   * gRPC alone. Default: where one of them is encrypted, a Unix socket that only the owner can reach, because etcd
   * serves gRPC several times as fast on a port without HTTP; nowhere apart where `enableV2` or `enableGrpcGateway` is
   * true, or in versions that would not look at `clientCrlFile` there (before 3.5.32, 3.6.0 to 3.6.12). An empty list
   * leaves HTTP with gRPC.
   */
  listenClientHttpUrls: option(Kind.urlsOrNone, { "listen-client-http-urls": tlsVersions }),
  /** Snapshot files to keep; 0 keeps all. Default: 5. */
  maxSnapshots: option(count, "max-snapshots"),
  /** Write-ahead log files to keep; 0 keeps all. Default: 5. */
  maxWals: option(count, "max-wals"),
  /** Whether to keep the memory of the node out of swap. Default: false. */
  memoryMlock: option(Kind.boolean, { "memory-mlock": from36, "experimental-memory-mlock": from35Until37 }),
  /** Size in bytes at which the database takes no more writes; 0 is etcd's default. Default: 2 GiB. */
  quotaBackendBytes: option(Kind.bytesOrUnlimited, "quota-backend-bytes"),
  /** How the database file tracks its free pages. Default: `"map"`; in 3.4 `"array"`. */
  backendBboltFreelistType: option(Kind.choice({ array: always, map: always }), {
    "backend-bbolt-freelist-type": from35,
    "experimental-backend-bbolt-freelist-type": until35
  }),
  /** Longest time before a batch of writes is committed to the database file. Default: 100 ms. */
  backendBatchInterval: option(Kind.duration, "backend-batch-interval"),
  /** Most operations before a batch of writes is committed to the database file. Default: 10000. */
  backendBatchLimit: option(int32, "backend-batch-limit"),
  /** Most operations in one transaction. Default: 128. */
  maxTxnOps: option(count, "max-txn-ops"),
  /** Largest request of a client, in bytes. Default: 1.5 MiB. */
  maxRequestBytes: option(Kind.bytes(uint64), "max-request-bytes"),
  /** Most HTTP/2 streams that one client may have open. Default: no limit. */
  maxConcurrentStreams: option(uint32, { "max-concurrent-streams": ">=3.4.20 <3.5.0 || >=3.5.5" }),
  /** Whether to serve the JSON gateway. Default: true; false where 3.4.28 or a newer 3.4 listens on a socket for clients. */
  enableGrpcGateway: option(Kind.boolean, "enable-grpc-gateway"),
  /** Shortest time between two pings of a client; faster ones are cut off. Default: 5 s. */
  grpcKeepaliveMinTime: option(Kind.longDuration, "grpc-keepalive-min-time"),
  /** Time between two pings of the server to an idle client; 0 sends none. Default: 2 h. */
  grpcKeepaliveInterval: option(Kind.longDuration, "grpc-keepalive-interval"),
  /** How long a client may take to answer a ping; 0 never closes. Default: 20 s. */
  grpcKeepaliveTimeout: option(Kind.longDuration, "grpc-keepalive-timeout"),
  /** Whether listeners set SO_REUSEPORT. Default: false. */
  socketReusePort: option(Kind.boolean, { "socket-reuse-port": from35 }),
  /** Whether listeners set SO_REUSEADDR. Default: false. */
  socketReuseAddress: option(Kind.boolean, { "socket-reuse-address": from35 }),
  /** Read timeout of connections between members; etcd raises less to 5 s. Default: 5 s. */
  raftReadTimeout: option(Kind.longDuration, { "raft-read-timeout": from35 }),
  /** Write timeout of connections between members; etcd raises less to 5 s. Default: 5 s. */
  raftWriteTimeout: option(Kind.longDuration, { "raft-write-timeout": from35 }),
  /** Most learners in the cluster. Default: 1. */
  maxLearners: option(int32, { "max-learners": from36 }),
  /** Features of 3.6 and newer by name; those that were flags before work on older versions too. Default: none. */
  featureGates: option(Kind.features, { "feature-gates": from36 }),

  // clustering

  /** Peer URLs that the other members use for this one. Default: what it listens on. */
  initialAdvertisePeerUrls: option(Kind.urls, "initial-advertise-peer-urls"),
  /** All members that the cluster starts with, by name. Default: this member alone. */
  initialCluster: option(Kind.members, "initial-cluster"),
  /** Whether the node starts a new cluster or joins an existing one. Default: `"new"`. */
  initialClusterState: option(Kind.choice({ new: always, existing: always }), "initial-cluster-state"),
  /** Text that keeps clusters with the same members apart. Default: `"etcd-cluster"`. */
  initialClusterToken: option(Kind.text, "initial-cluster-token"),
  /** Client URLs that the cluster's member list shows for this member. Default: what it listens on. */
  advertiseClientUrls: option(Kind.urls, "advertise-client-urls"),
  /** URL of the v2 discovery service that knows the other members: secret, as all who know it can join. Default: none. */
  discovery: option(Kind.secret, { discovery: until37 }),
  /** What happens when discovery fails. Default: `"proxy"`; from 3.6 on `"exit"`. */
  discoveryFallback: option(Kind.choice({ exit: always, proxy: until36 }), "discovery-fallback", { implied: "proxy" }),
  /** HTTP proxy for the v2 discovery service: secret, as there may be a password in it. Default: none. */
  discoveryProxy: option(Kind.secret, { "discovery-proxy": until37 }),
  /** DNS domain whose SRV records name the members. Default: none. */
  discoverySrv: option(Kind.text, "discovery-srv"),
  /** Suffix of the service name in those SRV records. Default: none. */
  discoverySrvName: option(Kind.text, "discovery-srv-name"),
  /** Token of this cluster at the v3 discovery service. Default: none. */
  discoveryToken: option(Kind.text, { "discovery-token": from36 }),
  /** Endpoints of the v3 discovery service, without a user, which is `discoveryUser`. Default: none. */
  discoveryEndpoints: option(Kind.endpoints, { "discovery-endpoints": from36 }),
  /** Longest dial of the v3 discovery service. Default: 2 s. */
  discoveryDialTimeout: option(Kind.longDuration, { "discovery-dial-timeout": from36 }),
  /** Longest request to the v3 discovery service. Default: 5 s. */
  discoveryRequestTimeout: option(Kind.longDuration, { "discovery-request-timeout": from36 }),
  /** Time between two pings of the v3 discovery service. Default: 2 s. */
  discoveryKeepaliveTime: option(Kind.longDuration, { "discovery-keepalive-time": from36 }),
  /** How long the v3 discovery service may take to answer a ping. Default: 6 s. */
  discoveryKeepaliveTimeout: option(Kind.longDuration, { "discovery-keepalive-timeout": from36 }),
  /** Whether to talk to the v3 discovery service without TLS. Default: true. */
  discoveryInsecureTransport: option(Kind.boolean, { "discovery-insecure-transport": from36 }, { implied: true }),
  /** Whether to accept any certificate of the v3 discovery service. Default: false. */
  discoveryInsecureSkipTlsVerify: option(Kind.boolean, { "discovery-insecure-skip-tls-verify": from36 }),
  /** Certificate file to show to the v3 discovery service. Default: none. */
  discoveryCert: option(Kind.path, { "discovery-cert": from36 }),
  /** Key file of that certificate. Default: none. */
  discoveryKey: option(Kind.path, { "discovery-key": from36 }),
  /** CA file to check the v3 discovery service by. Default: that of the system. */
  discoveryCacert: option(Kind.path, { "discovery-cacert": from36 }),
  /** User at the v3 discovery service, `user` or `user:password`. Default: none. */
  discoveryUser: option(Kind.secret, { "discovery-user": from36 }),
  /** Password of that user. Default: none. */
  discoveryPassword: option(Kind.secret, { "discovery-password": from36 }),
  /** Whether to refuse membership changes that would lose the quorum. Default: true. */
  strictReconfigCheck: option(Kind.boolean, "strict-reconfig-check"),
  /**
   * Whether a candidate asks first if it could win, which keeps a returning node from upsetting the leader.
   * Default: true; in 3.4 false.
   */
  preVote: option(Kind.boolean, "pre-vote"),
  /** How much history to keep: a duration, or a number of hours or of revisions; 0 keeps all. Default: 0. */
  autoCompactionRetention: option(Kind.retention, "auto-compaction-retention"),
  /** Whether `autoCompactionRetention` is a time or a number of revisions. Default: `"periodic"`. */
  autoCompactionMode: option(Kind.choice({ periodic: always, revision: always }), "auto-compaction-mode"),
  /** Whether to serve the v2 API. Default: false. */
  enableV2: option(Kind.boolean, { "enable-v2": until36 }),
  /** How far the v2 store is switched off. Default: `"not-yet"`; from 3.6 on etcd ignores it. */
  v2Deprecation: option(
    Kind.choice({
      "not-yet": until36,
      "write-only": always,
      "write-only-skip-check": from36,
      "write-only-drop-data": always,
      gone: always
    }),
    { "v2-deprecation": from35 },
    { implied: "not-yet" }
  ),
  /** Whether a 3.4 node may join a 3.5 cluster during a downgrade. Default: false. */
  nextClusterVersionCompatible: option(Kind.boolean, { "next-cluster-version-compatible": ">=3.4.31 <3.5.0" }),

  // security

  /** Certificate file that the node shows to clients. Default: none. */
  certFile: option(Kind.path, "cert-file"),
  /** Key file of that certificate. Default: none. */
  keyFile: option(Kind.path, "key-file"),
  /** Whether clients must show a certificate. Default: false. */
  clientCertAuth: option(Kind.boolean, "client-cert-auth"),
  /** Certificate file for the node's connection to itself. Default: `certFile`. */
  clientCertFile: option(Kind.path, { "client-cert-file": from35 }),
  /** Key file of that certificate. Default: `keyFile`. */
  clientKeyFile: option(Kind.path, { "client-key-file": from35 }),
  /** File with revoked certificates of clients. Default: none. */
  clientCrlFile: option(Kind.path, "client-crl-file"),
  /** Names that the certificate of a client may carry. Default: any. Before 3.5.15 only one. */
  clientCertAllowedHostname: option(Kind.list, "client-cert-allowed-hostname"),
  /** CA file to check clients by. Default: none. */
  trustedCaFile: option(Kind.path, "trusted-ca-file"),
  /** Whether the node makes itself a certificate for clients. Default: false. */
  autoTls: option(Kind.boolean, "auto-tls"),
  /** Certificate file that the node shows to other members. Default: none. */
  peerCertFile: option(Kind.path, "peer-cert-file"),
  /** Key file of that certificate. Default: none. */
  peerKeyFile: option(Kind.path, "peer-key-file"),
  /** Whether other members must show a certificate. Default: false. */
  peerClientCertAuth: option(Kind.boolean, "peer-client-cert-auth"),
  /** Certificate file to show when dialling other members. Default: `peerCertFile`. */
  peerClientCertFile: option(Kind.path, { "peer-client-cert-file": from35 }),
  /** Key file of that certificate. Default: `peerKeyFile`. */
  peerClientKeyFile: option(Kind.path, { "peer-client-key-file": from35 }),
  /** CA file to check other members by. Default: none. */
  peerTrustedCaFile: option(Kind.path, "peer-trusted-ca-file"),
  /** Common names that the certificate of a member may carry. Default: any. Before 3.5.15 only one. */
  peerCertAllowedCn: option(Kind.list, "peer-cert-allowed-cn"),
  /** Names that the certificate of a member may carry. Default: any. Before 3.5.15 only one. */
  peerCertAllowedHostname: option(Kind.list, "peer-cert-allowed-hostname"),
  /** Whether the node makes itself a certificate for peers. Default: true if a peer URL is https without certificate. */
  peerAutoTls: option(Kind.boolean, "peer-auto-tls"),
  /** File with revoked certificates of members. Default: none. */
  peerCrlFile: option(Kind.path, "peer-crl-file"),
  /** Whether to leave the names in certificates of members unchecked. Default: false. */
  peerSkipClientSanVerification: option(Kind.boolean, {
    "peer-skip-client-san-verification": from36,
    "experimental-peer-skip-client-san-verification": until37
  }),
  /** How long certificates that etcd makes are valid, in years. Default: 1. */
  selfSignedCertValidity: option(positive, { "self-signed-cert-validity": from35 }, { implied: 1 }),
  /** TLS cipher suites by Go's names. Default: Go's choice. */
  cipherSuites: option(Kind.cipherSuites, "cipher-suites"),
  /** Oldest TLS version to speak. Default: `"TLS1.2"`. */
  tlsMinVersion: option(Kind.choice({ "TLS1.2": always, "TLS1.3": always }), { "tls-min-version": tlsVersions }),
  /** Newest TLS version to speak. Default: the newest that Go knows. */
  tlsMaxVersion: option(Kind.choice({ "TLS1.2": always, "TLS1.3": always }), { "tls-max-version": tlsVersions }),
  /** Web origins that may call the HTTP API; `*` allows all. Default: `*`. */
  cors: option(Kind.origins, "cors"),
  /**
   * Host names under which plain HTTP requests are served, without ports; `*` allows all.
   * Default: `localhost`, `127.0.0.1`, and the hosts of the client URLs.
   */
  hostWhitelist: option(Kind.list, "host-whitelist"),

  // authentication

  /**
   * How tokens are made: `simple`, or `jwt` with its options (`jwt,pub-key=…,priv-key=…,sign-method=RS256`).
   * Default: `simple`.
   */
  authToken: option(Kind.text, "auth-token"),
  /** Cost of hashing a password, from 4 to 31. Default: 10. */
  bcryptCost: option(Kind.integer(4, 31), "bcrypt-cost"),
  /** How long a simple token lives without use, in seconds. Default: 300. */
  authTokenTtl: option(count, { "auth-token-ttl": ">=3.4.10" }),

  // observability

  /** Whether to serve Go's profiler under `/debug/pprof`. Default: false. */
  enablePprof: option(Kind.boolean, "enable-pprof"),
  /** How much the metrics tell. Default: `"basic"`. */
  metrics: option(Kind.choice({ basic: always, extensive: always }), "metrics"),
  /** Where to listen for `/metrics` and `/health` besides the client URLs. Default: none. */
  listenMetricsUrls: option(Kind.urls, "listen-metrics-urls"),
  /** What formats log lines. Default: `"zap"`. */
  logger: option(Kind.choice({ zap: always, capnslog: until35 }), "logger"),
  /**
   * Where logs go. Standard output is always among them, because that is where events come from, and takes the place of
   * `stderr` and `default`, since this library reads both and would read each line twice. Default: `stdout`.
   */
  logOutputs: option(Kind.logOutputs, "log-outputs"),
  /**
   * The least level that is logged. Above `info`, the role is not in the log and etcd is asked for it.
   * Default: `"info"`.
   */
  logLevel: option(
    Kind.choice({
      debug: always,
      info: always,
      warn: always,
      error: always,
      dpanic: always,
      panic: always,
      fatal: always
    }),
    "log-level"
  ),
  /** Format of log lines. Default: `"json"`. */
  logFormat: option(Kind.choice({ json: always, console: always }), { "log-format": from36 }),
  /** Whether to rotate the one file among `logOutputs`. Default: false. */
  enableLogRotation: option(Kind.boolean, { "enable-log-rotation": from35 }),
  /** How to rotate it, as JSON. Default: at 100 MB, keeping all. */
  logRotationConfigJson: option(Kind.json, { "log-rotation-config-json": from35 }),
  /** Whether to log at debug level. Default: false. */
  debug: option(Kind.boolean, { debug: until35 }),
  /** Log levels by package, like `etcdmain=CRITICAL,etcdserver=DEBUG`. Default: none. */
  logPackageLevels: option(Kind.text, { "log-package-levels": until35 }),
  /** How long a unary request may take before a warning is logged. Default: 300 ms. */
  warningUnaryRequestDuration: option(Kind.duration, {
    "warning-unary-request-duration": from36,
    "experimental-warning-unary-request-duration": only36
  }),
  /** How long applying a request may take before a warning is logged. Default: 100 ms. */
  warningApplyDuration: option(Kind.duration, {
    "warning-apply-duration": from36,
    "experimental-warning-apply-duration": ">=3.4.16 <3.7.0"
  }),
  /** Whether to trace requests with OpenTelemetry. Default: false. */
  enableDistributedTracing: option(Kind.boolean, {
    "enable-distributed-tracing": from36,
    "experimental-enable-distributed-tracing": from35Until37
  }),
  /** Address of the OpenTelemetry collector. Default: `localhost:4317`. */
  distributedTracingAddress: option(Kind.text, {
    "distributed-tracing-address": from36,
    "experimental-distributed-tracing-address": from35Until37
  }),
  /** Service name in traces, the same for all members. Default: `etcd`. */
  distributedTracingServiceName: option(Kind.text, {
    "distributed-tracing-service-name": from36,
    "experimental-distributed-tracing-service-name": from35Until37
  }),
  /** Instance id in traces, different for each member. Default: none. */
  distributedTracingInstanceId: option(Kind.text, {
    "distributed-tracing-instance-id": from36,
    "experimental-distributed-tracing-instance-id": from35Until37
  }),
  /** How many of a million requests are traced. Default: 0. */
  distributedTracingSamplingRate: option(Kind.integer(0, 1_000_000), {
    "distributed-tracing-sampling-rate": from36,
    "experimental-distributed-tracing-sampling-rate": ">=3.5.11 <3.7.0"
  }),

  // v2 proxy

  /** Whether the process is a v2 proxy and not a member. Default: `"off"`. */
  proxy: option(Kind.choice({ off: always, readonly: always, on: always }), { proxy: until36 }, { implied: "off" }),
  /** How long a v2 proxy leaves a failed endpoint alone; whole milliseconds. Default: 5000 ms. */
  proxyFailureWait: option(Kind.millis, { "proxy-failure-wait": until36 }, { implied: Duration.millis(5_000) }),
  /** Time between two refreshes of a v2 proxy's endpoints; whole milliseconds. Default: 30000 ms. */
  proxyRefreshInterval: option(
    Kind.millis,
    { "proxy-refresh-interval": until36 },
    { implied: Duration.millis(30_000) }
  ),
  /** Longest dial of a v2 proxy; whole milliseconds. Default: 1000 ms. */
  proxyDialTimeout: option(Kind.millis, { "proxy-dial-timeout": until36 }, { implied: Duration.millis(1_000) }),
  /** Longest write of a v2 proxy; whole milliseconds. Default: 5000 ms. */
  proxyWriteTimeout: option(Kind.millis, { "proxy-write-timeout": until36 }, { implied: Duration.millis(5_000) }),
  /** Longest read of a v2 proxy; whole milliseconds, 0 for no limit. Default: 0. */
  proxyReadTimeout: option(Kind.millis, { "proxy-read-timeout": until36 }, { implied: Duration.zero }),

  // features

  /** Whether to compare data with the other members before serving. Default: false. */
  initialCorruptCheck: option(
    Kind.boolean,
    { "experimental-initial-corrupt-check": until37 },
    { gate: "InitialCorruptCheck" }
  ),
  /** Time between two checks of the cluster for corrupt data; 0 makes none. Default: 0. */
  corruptCheckTime: option(Kind.longDuration, {
    "corrupt-check-time": from36,
    "experimental-corrupt-check-time": until37
  }),
  /** Whether the leader compares hashes at compactions with the followers. Default: false. */
  compactHashCheckEnabled: option(
    Kind.boolean,
    { "experimental-compact-hash-check-enabled": ">=3.5.5 <3.7.0" },
    { gate: "CompactHashCheck" }
  ),
  /** Time between two such comparisons. Default: 1 min. */
  compactHashCheckTime: option(Kind.longDuration, {
    "compact-hash-check-time": from36,
    "experimental-compact-hash-check-time": ">=3.5.5 <3.7.0"
  }),
  /** Prefix under which v2 requests are served from the v3 store. Default: none. */
  enableV2V3: option(Kind.text, { "experimental-enable-v2v3": until36 }),
  /** Whether the remaining time of leases survives a change of leader. Default: false. */
  enableLeaseCheckpoint: option(
    Kind.boolean,
    { "experimental-enable-lease-checkpoint": until37 },
    { gate: "LeaseCheckpoint" }
  ),
  /** Whether it survives a restart as well; needs `enableLeaseCheckpoint`. Default: false. */
  enableLeaseCheckpointPersist: option(
    Kind.boolean,
    { "experimental-enable-lease-checkpoint-persist": ">=3.4.20 <3.5.0 || >=3.5.2 <3.7.0" },
    { gate: "LeaseCheckpointPersist" }
  ),
  /** Most revisions that one batch of a compaction removes. Default: 1000. */
  compactionBatchLimit: option(int32, {
    "compaction-batch-limit": from36,
    "experimental-compaction-batch-limit": until37
  }),
  /** Pause between two batches of a compaction. Default: 10 ms. */
  compactionSleepInterval: option(Kind.duration, {
    "compaction-sleep-interval": from36,
    "experimental-compaction-sleep-interval": ">=3.5.16 <3.7.0"
  }),
  /** Time between two progress notifications of a watch. Default: 10 min. */
  watchProgressNotifyInterval: option(Kind.longDuration, {
    "watch-progress-notify-interval": from36,
    "experimental-watch-progress-notify-interval": ">=3.4.11 <3.7.0"
  }),
  /** Time between two looks at the state of a downgrade. Default: 5 s. */
  downgradeCheckTime: option(Kind.longDuration, {
    "downgrade-check-time": from36,
    "experimental-downgrade-check-time": from35Until37
  }),
  /** Whether a write transaction shares its buffer with its own reads. Default: true. */
  txnModeWriteWithSharedBuffer: option(
    Kind.boolean,
    { "experimental-txn-mode-write-with-shared-buffer": from35Until37 },
    { gate: "TxnModeWriteWithSharedBuffer", implied: true }
  ),
  /** Free space in megabytes from which on the database file is defragmented at the start; 0 never. Default: 0. */
  bootstrapDefragThresholdMegabytes: option(count, {
    "bootstrap-defrag-threshold-megabytes": from36,
    "experimental-bootstrap-defrag-threshold-megabytes": from35Until37
  }),
  /** Whether the node takes no requests while it defragments. Default: false. */
  stopGrpcServiceOnDefrag: option(
    Kind.boolean,
    { "experimental-stop-grpc-service-on-defrag": ">=3.5.14 <3.7.0" },
    { gate: "StopGRPCServiceOnDefrag" }
  ),

  // unsafe

  /** Makes a new cluster of one member from the data of a lost one. Default: false. */
  forceNewCluster: option(Kind.boolean, "force-new-cluster"),
  /** Leaves writes to the operating system without syncing them: fast, and loses data on a crash. Default: false. */
  unsafeNoFsync: option(Kind.boolean, { "unsafe-no-fsync": ">=3.4.10" })
}

/** The name of an option in TypeScript. */
export type Key = keyof typeof table

/** What the program works with. */
export type Values = {
  readonly [K in keyof typeof table]?: (typeof table)[K] extends Option<infer T, any> ? T : never
}

/** What a user may write. */
export type Inputs = {
  readonly [K in keyof typeof table]?: ((typeof table)[K] extends Option<any, infer I> ? I : never) | undefined
}

/** All keys, in the order of the table. */
export const keys = Object.keys(table) as ReadonlyArray<Key>

/** An option without its types. */
export const get = (key: Key): Option<any, any> => table[key]

/** An option that etcd had once. */
export interface Former {
  /** The values, besides none, that say what etcd does now. */
  readonly implied: ReadonlyArray<unknown>
  /** What took its place. */
  readonly successor: string
}

/** The options that are in files for etcd before 3.4, and in no version since. */
export const formerly: ReadonlyMap<string, Former> = new Map([
  ["ca-file", { implied: [], successor: "trusted-ca-file" }],
  ["peer-ca-file", { implied: [], successor: "peer-trusted-ca-file" }],
  ["log-output", { implied: ["default", "stdout", "stderr"], successor: "log-outputs" }]
])

/** The features that `--feature-gates` takes, with the versions that know them. */
export const gates: Readonly<Record<string, string>> = {
  AllAlpha: from36,
  AllBeta: from36,
  CompactHashCheck: from36,
  FastLeaseKeepAlive: ">=3.7.0",
  InitialCorruptCheck: from36,
  LeaseCheckpoint: from36,
  LeaseCheckpointPersist: from36,
  PriorityRequest: ">=3.7.0",
  SetMemberLocalAddr: from36,
  StopGRPCServiceOnDefrag: from36,
  TxnModeWriteWithSharedBuffer: from36
}

const parsedRanges = new Map<string, SemVerRange.SemVerRange>()

const parseRange = (range: string): SemVerRange.SemVerRange => {
  const known = parsedRanges.get(range)
  if (known !== undefined) return known
  const parsed = SemVerRange.parseUnsafe(range)
  parsedRanges.set(range, parsed)
  return parsed
}

/** Whether a range of this table contains a version; a pre-release counts as its release. */
export const contains = (range: string, version: SemVer.SemVer): boolean =>
  range === always || SemVerRange.matches(parseRange(range), SemVer.release(version))

/** The name by which a version knows an option, if it does. */
export const nameFor = (key: Key, version: SemVer.SemVer): string | undefined =>
  Object.entries(get(key).names).find(([, range]) => contains(range, version))?.[0]

/** The name that an option is best called by where no version is at hand. */
export const newestName = (key: Key): string => Object.keys(get(key).names)[0]!

/** Every name of every option on the command line, with its key. */
export const keyByName: ReadonlyMap<string, Key> = new Map(
  keys.flatMap((key) => Object.keys(get(key).names).map((name) => [name, key] as const))
)

const camelCase = (name: string) => name.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())

/** Every name in TypeScript, those from older names on the command line included, with its key. */
export const keyByProperty: ReadonlyMap<string, Key> = new Map([
  ...[...keyByName].map(([name, key]) => [camelCase(name), key] as const),
  ...keys.map((key) => [key, key] as const)
])
