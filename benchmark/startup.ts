/**
 * How long a program waits for an ephemeral node: from the start of building the layer to the first acknowledged put,
 * beside the plain executable with the same flags, from spawn to the line that says it serves. Rounds alternate.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { NodeServices } from "@effect/platform-node"
import { Effect, FileSystem, Path, SemVer } from "effect"
import { EtcdBinary, EtcdConfig, EtcdKv, EtcdLayer, EtcdLog } from "effect-etcd"
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

const plain = Effect.gen(function* () {
  const binary = yield* EtcdBinary.find()
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "effect-etcd-bench-" })
  const config = yield* EtcdConfig.decode(EtcdConfig.ephemeral(binary.version))
  const resolved = yield* EtcdConfig.resolve(config, {
    version: binary.version,
    dataDir: path.join(directory, "data")
  })
  const flags = EtcdConfig.toFlags(resolved)
  const stop = stopwatch()
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => spawn(binary.path, flags, { cwd: directory, stdio: ["ignore", "pipe", "ignore"] })),
    (child) =>
      Effect.promise(async () => {
        if (child.kill("SIGKILL")) await once(child, "close")
      })
  )
  yield* untilReady(child)
  return stop()
}).pipe(Effect.scoped)

const rowOf = (client: string, valueBytes: number, rounds: ReadonlyArray<Elapsed>): Row => {
  const millis = rounds.map((round) => round.millis)
  return {
    scenario: "startup",
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
    return [rowOf("effect-etcd", 1, layer), rowOf("plain etcd", 0, executable)]
  }).pipe(Effect.provide(NodeServices.layer))
