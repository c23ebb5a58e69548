import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { request } from "node:http"
import { request as secureRequest } from "node:https"
import { fileURLToPath } from "node:url"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as SemVer from "effect/SemVer"
import * as EtcdConfig from "../src/EtcdConfig.ts"
import * as Table from "../src/internal/config/table.ts"
import { exited } from "./support/etcd.ts"
import { freePort } from "./support/machine.ts"
import { fixture } from "./support/tls.ts"

const version = (text: string) => SemVer.parseUnsafe(text)

const binary = process.env.ETCD_BINARY ?? "etcd"
const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("ETCD_")))

const runEtcd = (args: ReadonlyArray<string>, directory?: string) => {
  const { error, status, stderr, stdout } = spawnSync(binary, args, {
    cwd: directory,
    env: environment,
    encoding: "utf8",
    timeout: 30_000
  })
  if (error !== undefined) throw error
  return { status, output: `${stdout}${stderr}` }
}

const currentVersion = () => version(/etcd Version: (\S+)/.exec(runEtcd(["--version"]).output)![1]!)

/** One value for every option, so that a new one cannot be forgotten here. */
const everything: { readonly [K in keyof EtcdConfig.Input]-?: Exclude<EtcdConfig.Input[K], undefined> } = {
  name: "a",
  dataDir: "/d",
  walDir: "/w",
  snapshotCount: 10,
  snapshotCatchupEntries: 10,
  heartbeatInterval: 10,
  electionTimeout: "100ms",
  initialElectionTickAdvance: false,
  listenPeerUrls: "unix://p.sock:0",
  listenClientUrls: "http://127.0.0.1:1,https://[::1]:2",
  listenClientHttpUrls: "http://127.0.0.1:3",
  maxSnapshots: 1,
  maxWals: 1,
  memoryMlock: true,
  quotaBackendBytes: "unlimited",
  backendBboltFreelistType: "array",
  backendBatchInterval: "1.5ms",
  backendBatchLimit: 1,
  maxTxnOps: 1,
  maxRequestBytes: "1 MiB",
  maxConcurrentStreams: 2 ** 32 - 1,
  enableGrpcGateway: false,
  grpcKeepaliveMinTime: "1h1m1s",
  grpcKeepaliveInterval: "1us",
  grpcKeepaliveTimeout: 0,
  socketReusePort: true,
  socketReuseAddress: true,
  raftReadTimeout: "10s",
  raftWriteTimeout: "10s",
  maxLearners: 2,
  featureGates: { InitialCorruptCheck: true, LeaseCheckpoint: false },
  initialAdvertisePeerUrls: "http://127.0.0.1:4",
  initialCluster: { a: "http://127.0.0.1:4", b: ["http://127.0.0.1:5", "http://127.0.0.1:6"] },
  initialClusterState: "existing",
  initialClusterToken: "t",
  advertiseClientUrls: "http://127.0.0.1:1",
  discovery: "http://127.0.0.1:1/x",
  discoveryFallback: "exit",
  discoveryProxy: "http://127.0.0.1:1",
  discoverySrv: "example.com",
  discoverySrvName: "x",
  discoveryToken: "t",
  discoveryEndpoints: "http://127.0.0.1:1",
  discoveryDialTimeout: "1s",
  discoveryRequestTimeout: "1s",
  discoveryKeepaliveTime: "1s",
  discoveryKeepaliveTimeout: "1s",
  discoveryInsecureTransport: false,
  discoveryInsecureSkipTlsVerify: true,
  discoveryCert: "/c",
  discoveryKey: "/k",
  discoveryCacert: "/c",
  discoveryUser: "u",
  discoveryPassword: "p",
  strictReconfigCheck: false,
  preVote: false,
  autoCompactionRetention: "5m",
  autoCompactionMode: "revision",
  enableV2: true,
  v2Deprecation: "write-only",
  nextClusterVersionCompatible: true,
  certFile: "/c",
  keyFile: "/k",
  clientCertAuth: true,
  clientCertFile: "/c",
  clientKeyFile: "/k",
  clientCrlFile: "/c",
  clientCertAllowedHostname: "a",
  trustedCaFile: "/c",
  autoTls: true,
  peerCertFile: "/c",
  peerKeyFile: "/k",
  peerClientCertAuth: true,
  peerClientCertFile: "/c",
  peerClientKeyFile: "/k",
  peerTrustedCaFile: "/c",
  peerCertAllowedCn: "a",
  peerCertAllowedHostname: "a",
  peerAutoTls: true,
  peerCrlFile: "/c",
  peerSkipClientSanVerification: true,
  selfSignedCertValidity: 2,
  cipherSuites: ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
  tlsMinVersion: "TLS1.2",
  tlsMaxVersion: "TLS1.3",
  cors: "http://127.0.0.1:1",
  hostWhitelist: ["localhost", "127.0.0.1"],
  authToken: "simple",
  bcryptCost: 4,
  authTokenTtl: 10,
  enablePprof: true,
  metrics: "extensive",
  listenMetricsUrls: "http://127.0.0.1:7",
  logger: "zap",
  logOutputs: ["stdout", "/l"],
  logLevel: "debug",
  logFormat: "console",
  enableLogRotation: true,
  logRotationConfigJson: '{"maxsize": 1}',
  debug: true,
  logPackageLevels: "etcdmain=DEBUG",
  warningUnaryRequestDuration: "1s",
  warningApplyDuration: "1s",
  enableDistributedTracing: true,
  distributedTracingAddress: "localhost:1",
  distributedTracingServiceName: "x",
  distributedTracingInstanceId: "x",
  distributedTracingSamplingRate: 1,
  proxy: "readonly",
  proxyFailureWait: 1,
  proxyRefreshInterval: 1,
  proxyDialTimeout: 1,
  proxyWriteTimeout: 1,
  proxyReadTimeout: 1,
  initialCorruptCheck: true,
  corruptCheckTime: "1m",
  compactHashCheckEnabled: true,
  compactHashCheckTime: "1m",
  enableV2V3: "/v2",
  enableLeaseCheckpoint: true,
  enableLeaseCheckpointPersist: true,
  compactionBatchLimit: 1,
  compactionSleepInterval: "1ms",
  watchProgressNotifyInterval: "1s",
  downgradeCheckTime: "1s",
  txnModeWriteWithSharedBuffer: false,
  bootstrapDefragThresholdMegabytes: 1,
  stopGrpcServiceOnDefrag: true,
  forceNewCluster: true,
  unsafeNoFsync: true
}

describe("with a real etcd", () => {
  it("has in its table exactly the options that this version knows", () => {
    const current = currentVersion()
    const known = [...Table.keyByName].filter(([name, key]) => Table.contains(Table.get(key).names[name]!, current))
    const listed = [...runEtcd(["--help"]).output.matchAll(/^ {2}--([a-z0-9-]+)/gm)].map(([, name]) => name!)
    // 3.7.1 still lists two options that it no longer takes
    const taken = listed.filter((name) => isTaken(name))
    assert.deepStrictEqual(
      taken.filter((name) => !known.some(([knownName]) => knownName === name)),
      [],
      "in --help but not in the table"
    )
    for (const [name, key] of Table.keyByName) {
      const inTable = Table.contains(Table.get(key).names[name]!, current)
      assert.strictEqual(inTable, listed.includes(name) ? taken.includes(name) : isTaken(name), name)
    }
  })

  it.effect("understands every option as this module spells it", () =>
    Effect.gen(function* () {
      const current = currentVersion()
      const options = yield* EtcdConfig.decode(everything)
      const { discovery: _, discoveryProxy: __, discoveryPassword: ___, discoveryUser: ____, ...flags } = options
      const { output, status } = runEtcd([
        ...EtcdConfig.toFlags({ name: "a", dataDir: "/d", version: current, options: flags, warnings: [] }),
        "--help"
      ])
      assert.strictEqual(status, 0, output)
    })
  )

  it.live("refuses what resolve refuses", () =>
    Effect.gen(function* () {
      const directory = yield* (yield* FileSystem.FileSystem).makeTempDirectoryScoped()
      const valid = EtcdConfig.toFlags(
        yield* EtcdConfig.resolve({}, { version: currentVersion(), dataDir: `${directory}/data` })
      )
      const refused = [
        ["--election-timeout=400"],
        ["--election-timeout=51000"],
        ["--heartbeat-interval=0"],
        ["--initial-cluster=other=http://localhost:2380"],
        ["--initial-cluster=default=http://127.0.0.1:1,b=http://127.0.0.1:1"],
        ["--initial-advertise-peer-urls=http://127.0.0.1:2", "--initial-cluster=default=http://127.0.0.1:1"],
        ["--discovery-srv=example.com"],
        ["--listen-client-urls=http://example.com:1"],
        ["--listen-client-urls=https://127.0.0.1:1"],
        ["--listen-client-urls=http://127.0.0.1"],
        ["--listen-client-urls=http://127.0.0.1:1/"],
        ["--auth-token=paseto"],
        ["--auth-token=jwt,ttl=5m"]
      ]
      for (const flags of refused) {
        const { output, status } = runEtcd([...valid, ...flags], directory)
        assert.notStrictEqual(status, 0, `${flags.join(" ")}\n${output}`)
        assert.notStrictEqual(status, null, `${flags.join(" ")} was still running\n${output}`)
      }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("starts with the defaults, on sockets alone, and serves only the hosts of the whitelist", () =>
    Effect.gen(function* () {
      const node = yield* start((current) => EtcdConfig.ephemeral(current))
      const [endpoint] = EtcdConfig.endpoints(node.resolved, node.directory)
      assert.strictEqual(endpoint, `unix://${node.directory}/client.sock:0`)
      assert.strictEqual(yield* statusOf(endpoint.replace("unix://", ""), "localhost"), 200)
      assert.strictEqual(yield* statusOf(endpoint.replace("unix://", ""), "evil.example"), 421)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("prints each line once, whatever log-outputs says", () =>
    Effect.gen(function* () {
      const given = ["stderr", "/dev/stderr,stdout", "/dev/null"]
      const counts = yield* Effect.forEach(
        given,
        (logOutputs) =>
          Effect.gen(function* () {
            const node = yield* start((current) => ({ ...EtcdConfig.ephemeral(current), logOutputs }))
            yield* node.stop
            return [...node.output().matchAll(/ became leader at term/g)].length
          }).pipe(Effect.scoped),
        { concurrency: 3 }
      )
      assert.deepStrictEqual(counts, [1, 1, 1])
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("starts with etcd's own sample, as this version can", () =>
    Effect.gen(function* () {
      const path = fileURLToPath(new URL("./fixtures/config/etcd-3.3.conf.yml.sample", import.meta.url))
      const {
        advertiseClientUrls: _,
        listenClientUrls: __,
        listenPeerUrls: ___,
        initialAdvertisePeerUrls: ____,
        ...sample
      } = yield* EtcdConfig.fromYaml(path)
      const input: EtcdConfig.Input = { ...(sample as EtcdConfig.Input), enableV2: false }
      yield* start((current) => Object.assign({}, input, EtcdConfig.ephemeral(current)))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("serves HTTP with TLS on its socket, and gRPC alone on the port", () =>
    Effect.gen(function* () {
      const port = yield* freePort
      const node = yield* start((current) => ({
        ...EtcdConfig.ephemeral(current),
        name: "a/..",
        listenClientUrls: `https://127.0.0.1:${port}`,
        certFile: fixture.path("server.pem"),
        keyFile: fixture.path("server.key"),
        trustedCaFile: fixture.path("ca.pem"),
        clientCertAuth: true
      }))
      const socket = node.resolved.options.listenClientHttpUrls?.[0]
      assert.strictEqual(socket, Table.nameFor("listenClientHttpUrls", currentVersion()) && "unixs://a_2f_...http:0")
      if (socket === undefined) return
      const socketPath = `${node.directory}/${socket.replace("unixs://", "")}`
      assert.strictEqual(yield* secureStatusOf({ socketPath }, true), 200)
      assert.isUndefined(yield* secureStatusOf({ socketPath }, false))
      assert.isUndefined(yield* secureStatusOf({ host: "127.0.0.1", port }, true))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("starts with many options at once", () =>
    Effect.gen(function* () {
      const node = yield* start((current) => ({
        ...EtcdConfig.ephemeral(current),
        name: "a b",
        walDir: "wal",
        quotaBackendBytes: "1 GiB",
        maxRequestBytes: "3 MiB",
        autoCompactionMode: "periodic",
        autoCompactionRetention: "1h",
        initialCorruptCheck: true,
        corruptCheckTime: "1h",
        enableLeaseCheckpoint: true,
        listenPeerUrls: "https://127.0.0.1:0",
        logLevel: "debug",
        logOutputs: "etcd.log",
        watchProgressNotifyInterval: "5s",
        metrics: "extensive",
        hostWhitelist: "*"
      }))
      const [endpoint] = EtcdConfig.endpoints(node.resolved, node.directory)
      assert.strictEqual(yield* statusOf(endpoint.replace("unix://", ""), "anything"), 200)
      const files = yield* (yield* FileSystem.FileSystem).readDirectory(node.directory)
      assert.includeMembers(files, ["wal", "etcd.log", "data"])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})

const isTaken = (name: string) => !runEtcd([`--${name}=`, "--help"]).output.includes("not defined")

const start = Effect.fnUntraced(function* (input: (current: SemVer.SemVer) => EtcdConfig.Input) {
  const directory = yield* (yield* FileSystem.FileSystem).makeTempDirectoryScoped()
  const current = currentVersion()
  const resolved = yield* EtcdConfig.resolve(yield* EtcdConfig.decode(input(current)), {
    version: current,
    dataDir: `${directory}/data`,
    directory
  })
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => spawn(binary, EtcdConfig.toFlags(resolved), { cwd: directory, env: environment })),
    kill
  )
  const output: Array<string> = []
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data: Buffer) => output.push(data.toString()))
  const closed = Effect.callback<void>((resume) => void child.once("close", () => resume(Effect.void)))
  yield* serving(child)
  return {
    resolved,
    directory,
    output: () => output.join(""),
    /** Ends it, and waits until all that it printed has been read. */
    stop: Effect.andThen(Effect.forkChild(closed, { startImmediately: true }), (fiber) =>
      Effect.andThen(kill(child), Fiber.join(fiber))
    )
  }
})

const kill = (child: ChildProcess) =>
  Effect.suspend(() => {
    child.kill("SIGKILL")
    return exited(child)
  })

const serving = (child: ChildProcess) =>
  Effect.callback<void, Error>((resume) => {
    let output = ""
    const onData = (data: Buffer) => {
      output += data.toString()
      if (/ready to serve client requests|serving client traffic (in)?securely/.test(output)) resume(Effect.void)
    }
    child.stdout?.on("data", onData)
    child.stderr?.on("data", onData)
    child.once("error", (error) => resume(Effect.fail(error)))
    child.once("exit", (code) => resume(Effect.fail(new Error(`etcd ended with ${code}:\n${output}`))))
  })

const statusOf = (socketPath: string, host: string) =>
  Effect.callback<number | undefined, Error>((resume) => {
    request({ socketPath, path: "/version", headers: { host }, agent: false }, (response) => {
      response.resume()
      response.once("end", () => resume(Effect.succeed(response.statusCode)))
    })
      .once("error", (error) => resume(Effect.fail(error)))
      .end()
  })

/** The status of `/version` over TLS; nothing where there is no answer. */
const secureStatusOf = (target: { socketPath: string } | { host: string; port: number }, certified: boolean) =>
  Effect.callback<number | undefined>((resume) => {
    const own = certified ? { cert: fixture.text("client.pem"), key: fixture.text("client.key") } : {}
    const options = { ...target, ...own, ca: fixture.text("ca.pem"), path: "/version", servername: "localhost" }
    secureRequest({ ...options, headers: { host: "localhost" }, agent: false }, (response) => {
      response.resume()
      response.once("end", () => resume(Effect.succeed(response.statusCode)))
    })
      .once("error", () => resume(Effect.succeed(undefined)))
      .end()
  })
