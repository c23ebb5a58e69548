/**
 * How long a program waits for an ephemeral node: from the start of building the layer to the first acknowledged put,
 * beside the plain executable with the same flags, from spawn to the line that says it serves. And for an ephemeral cluster
 * of three, to the first acknowledged put, beside three plain executables with the same flags that are started at once.
 * Rounds alternate.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { NodeServices } from "@effect/platform-node"
import { Effect, FileSystem, SemVer } from "effect"
import { EtcdBinary, EtcdCluster, EtcdConfig, EtcdKv, EtcdLayer, EtcdLog } from "effect-etcd"
import { BenchError, type Elapsed, median, percentile, type Row, rounded, stopwatch, table } from "./support.ts"

const throughLayer = Effect.suspend(() => {
  const stop = stopwatch()
  return EtcdKv.put("a", "b").pipe(Effect.map(stop), Effect.provide(EtcdLayer.ephemeral({}, { log: false })))
})

const untilReady = (child: ChildProcess) =>
  Effect.callback<void, BenchError>((resume) => {
    const reader = EtcdLog.makeLineReader()
    child.once("error", ({ message }) => resume(new BenchError({ message })))
    child.once("close", () => resume(new BenchError({ message: "etcd ended before it was ready" })))
    child.stdout!.on("data", (chunk) => {
      if (reader.push(chunk).some((line) => EtcdLog.fromLine(line)._tag === "Ready")) resume(Effect.void)
    })
  })

const aDirectory = FileSystem.FileSystem.use((fs) => fs.makeTempDirectoryScoped({ prefix: "effect-etcd-bench-" }))

const flagsOf = Effect.fnUntraced(function* (binary: EtcdBinary.EtcdBinary, dataDir: string, given: EtcdConfig.Input) {
  const config = yield* EtcdConfig.decode({ ...EtcdConfig.ephemeral(binary.version), ...given })
  return EtcdConfig.toFlags(yield* EtcdConfig.resolve(config, { version: binary.version, dataDir }))
})

const running = (binary: EtcdBinary.EtcdBinary, flags: ReadonlyArray<string>, cwd: string) =>
  Effect.acquireRelease(
    Effect.sync(() => spawn(binary.path, flags, { cwd, stdio: ["ignore", "pipe", "ignore"] })),
    (child) =>
      Effect.promise(async () => {
        if (child.kill("SIGKILL")) await once(child, "close")
      })
  )

const plain = Effect.gen(function* () {
  const binary = yield* EtcdBinary.find()
  const directory = yield* aDirectory
  const flags = yield* flagsOf(binary, `${directory}/data`, {})
  const stop = stopwatch()
  yield* untilReady(yield* running(binary, flags, directory))
  return stop()
}).pipe(Effect.scoped)

const names = ["node0", "node1", "node2"]

const clusterOf = (name: string): EtcdConfig.Input => ({
  name,
  heartbeatInterval: "50 millis",
  electionTimeout: "500 millis",
  listenClientUrls: `unix://${name}.client:0`,
  listenPeerUrls: `unix://${name}.peer:0`,
  initialAdvertisePeerUrls: `unix://${name}.peer:0`,
  initialCluster: Object.fromEntries(names.map((other) => [other, `unix://${other}.peer:0`]))
})

const clusterThroughLibrary = Effect.gen(function* () {
  const stop = stopwatch()
  const cluster = yield* EtcdCluster.ephemeral({ log: false })
  yield* EtcdKv.put("a", "b").pipe(Effect.provide(EtcdKv.layer), Effect.provide(cluster.client))
  return stop()
}).pipe(Effect.scoped)

const plainCluster = Effect.gen(function* () {
  const binary = yield* EtcdBinary.find()
  const directory = yield* aDirectory
  const flags = yield* Effect.forEach(names, (name) => flagsOf(binary, `${directory}/${name}`, clusterOf(name)))
  const stop = stopwatch()
  const children = yield* Effect.forEach(flags, (own) => running(binary, own, directory))
  yield* Effect.forEach(children, untilReady, { concurrency: "unbounded" })
  const endpoints = names.map((name) => `unix://${directory}/${name}.client:0`)
  yield* Effect.provide(EtcdKv.put("a", "b"), EtcdLayer.connect({ endpoints }))
  return stop()
}).pipe(Effect.scoped)

const rowOf = (scenario: string, client: string, valueBytes: number, rounds: ReadonlyArray<Elapsed>): Row => {
  const millis = rounds.map((round) => round.millis)
  return {
    scenario,
    client,
    inFlight: 1,
    valueBytes,
    opsPerSecond: rounded(1000 / median(millis), 2),
    spread: `${(1000 / Math.max(...millis)).toFixed(2)}-${(1000 / Math.min(...millis)).toFixed(2)}`,
    p50Micros: Math.round(median(millis) * 1000),
    p99Micros: Math.round(percentile(millis, 0.99) * 1000),
    cpuMicrosPerOp: Math.round(median(rounds.map(({ cpuMicros }) => cpuMicros)))
  }
}

export const startup = (quick: boolean) =>
  Effect.gen(function* () {
    const count = quick ? 10 : 20
    const { version } = yield* EtcdBinary.find()
    yield* throughLayer
    const layer: Array<Elapsed> = []
    const executable: Array<Elapsed> = []
    for (let round = 0; round < count; round++) {
      layer.push(yield* throughLayer)
      executable.push(yield* plain)
    }
    const line = (what: string, rounds: ReadonlyArray<Elapsed>) => {
      const millis = rounds.map((round) => round.millis)
      return {
        what,
        "median ms": rounded(median(millis), 1),
        "min ms": rounded(Math.min(...millis), 1),
        "p90 ms": rounded(percentile(millis, 0.9), 1)
      }
    }
    console.log(`startup: etcd ${SemVer.format(version)}, ${count} alternating rounds`)
    table([line("layer to first put", layer), line("plain etcd to ready line", executable)])
    const cluster: Array<Elapsed> = []
    const executables: Array<Elapsed> = []
    for (let round = 0; round < count; round++) {
      cluster.push(yield* clusterThroughLibrary)
      executables.push(yield* plainCluster)
    }
    console.log(`startup of three members: etcd ${SemVer.format(version)}, ${count} alternating rounds`)
    table([line("EtcdCluster to first put", cluster), line("three plain etcd to first put", executables)])
    return [
      rowOf("startup", "effect-etcd", 1, layer),
      rowOf("startup", "plain etcd", 0, executable),
      rowOf("startup of three", "effect-etcd", 1, cluster),
      rowOf("startup of three", "plain etcd", 1, executables)
    ]
  }).pipe(Effect.provide(NodeServices.layer))
