/**
 * How long a program waits for an ephemeral node: from the start of building the layer to the first acknowledged put,
 * beside the plain executable with the same flags, from spawn to the line that says it serves. Rounds alternate.
 */
import { spawn } from "node:child_process"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { NodeServices } from "@effect/platform-node"
import { Effect } from "effect"
import { EtcdBinary, EtcdConfig, EtcdKv, EtcdLayer, EtcdLog } from "effect-etcd"
import { median, percentile, table } from "./support.ts"

const rounds = 20

const throughLayer = Effect.promise(async () => {
  const start = performance.now()
  return Effect.runPromise(
    EtcdKv.put("a", "b").pipe(
      Effect.map(() => performance.now() - start),
      Effect.provide(EtcdLayer.ephemeral({}, { log: false }))
    )
  )
})

const plain = Effect.gen(function* () {
  const binary = yield* EtcdBinary.find()
  return yield* Effect.promise(async () => {
    const directory = await mkdtemp(join(tmpdir(), "effect-etcd-bench-"))
    const flags = await Effect.runPromise(
      EtcdConfig.decode(EtcdConfig.ephemeral(binary.version)).pipe(
        Effect.flatMap((config) =>
          EtcdConfig.resolve(config, { version: binary.version, dataDir: join(directory, "data") })
        ),
        Effect.map(EtcdConfig.toFlags)
      )
    )
    const start = performance.now()
    const child = spawn(binary.path, flags, { cwd: directory, stdio: ["ignore", "pipe", "ignore"] })
    const reader = EtcdLog.makeLineReader()
    const millis = await new Promise<number>((resolve) => {
      child.stdout.on("data", (chunk) => {
        for (const line of reader.push(chunk)) {
          if (EtcdLog.fromLine(line)._tag === "Ready") resolve(performance.now() - start)
        }
      })
    })
    child.kill("SIGKILL")
    await new Promise((resolve) => child.once("close", resolve))
    await rm(directory, { recursive: true })
    return millis
  })
})

export const startup = Effect.gen(function* () {
  const binary = yield* EtcdBinary.find()
  yield* throughLayer
  const layer: Array<number> = []
  const executable: Array<number> = []
  for (let round = 0; round < rounds; round++) {
    layer.push(yield* throughLayer)
    executable.push(yield* plain)
  }
  const row = (name: string, values: Array<number>) => ({
    what: name,
    "median ms": median(values).toFixed(1),
    "min ms": Math.min(...values).toFixed(1),
    "p90 ms": percentile(values, 0.9).toFixed(1)
  })
  console.log(
    `startup, etcd ${binary.version.major}.${binary.version.minor}.${binary.version.patch}, ${rounds} alternating rounds`
  )
  table([row("layer to first put", layer), row("plain etcd to ready line", executable)])
  return []
}).pipe(Effect.provide(NodeServices.layer))
