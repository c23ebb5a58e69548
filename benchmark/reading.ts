/**
 * Reading much: the events of one watch while another process writes at full speed, beside `etcd3`; and all keys of a
 * large range, page by page, with the memory that it takes.
 */
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { NodeServices } from "@effect/platform-node"
import { Effect, Stream } from "effect"
import { EtcdKv, EtcdLayer, EtcdProcess, EtcdWatch, KeyRange } from "effect-etcd"
import { Etcd3 } from "etcd3"
import { freePort, median, type Row, table } from "./support.ts"

const node = Effect.gen(function* () {
  const port = yield* freePort
  return yield* EtcdProcess.make(
    { listenClientUrls: `http://127.0.0.1:${port}`, unsafeNoFsync: true, quotaBackendBytes: "4 GiB" },
    { log: false }
  )
})

const writer = (endpoint: string) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() =>
        spawn(
          process.execPath,
          ["--conditions=effect-etcd-source", fileURLToPath(new URL("writer.ts", import.meta.url)), endpoint],
          { stdio: ["pipe", "pipe", "inherit"] }
        )
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    ),
    (child) => {
      const lines = createInterface(child.stdout)
      return (prefix: string, count: number, perRevision: number) =>
        new Promise<void>((resolve) => {
          lines.once("line", () => resolve())
          child.stdin.write(`${prefix} ${count} ${perRevision}\n`)
        })
    }
  )

/** Watches a prefix: `ready` once the server has the watch, `ended` once so many events were seen. */
interface Watching {
  readonly ready: Promise<unknown>
  readonly ended: Promise<unknown>
}

const ours = (endpoint: string, prefix: string, count: number): Watching => {
  let seen = 0
  let isReady = () => {}
  const ready = new Promise<void>((resolve) => {
    isReady = resolve
  })
  const ended = EtcdWatch.changes(KeyRange.prefix(prefix), { created: true }).pipe(
    Stream.takeUntil((item) => {
      if (item._tag === "Created") isReady()
      if (item._tag === "Revision") seen += item.events.length
      return seen >= count
    }),
    Stream.runDrain,
    Effect.provide(EtcdLayer.connect({ endpoints: [endpoint] })),
    Effect.runPromise
  )
  return { ready, ended }
}

const etcd3 = (endpoint: string, prefix: string, count: number): Watching => {
  const client = new Etcd3({ hosts: endpoint })
  const watcher = client.watch().prefix(prefix).create()
  const ended = watcher.then(
    (watch) =>
      new Promise<void>((resolve) => {
        let seen = 0
        watch.on("data", (response) => {
          seen += response.events.length
          if (seen >= count) {
            client.close()
            resolve()
          }
        })
      })
  )
  return { ready: watcher, ended }
}

const eventsPerRevision = 100

export const watch = (quick: boolean) =>
  Effect.gen(function* () {
    const count = quick ? 50_000 : 200_000
    const { endpoints } = yield* node
    const write = yield* writer(endpoints[0])
    const clients = { "effect-etcd": ours, etcd3 }
    const measured = new Map(Object.keys(clients).map((name) => [name, { rates: [0].slice(1), cpu: [0].slice(1) }]))
    for (let round = 0; round < 6; round++) {
      for (const [name, client] of Object.entries(clients)) {
        const prefix = `${name}/${round}/`
        const { ended, ready } = client(endpoints[0], prefix, count)
        yield* Effect.promise(() => ready)
        const before = process.cpuUsage()
        const start = performance.now()
        yield* Effect.promise(() => Promise.all([write(prefix, count, eventsPerRevision), ended]))
        const seconds = (performance.now() - start) / 1000
        const { system, user } = process.cpuUsage(before)
        if (round === 0) continue
        measured.get(name)!.rates.push(count / seconds)
        measured.get(name)!.cpu.push((system + user) / count)
      }
    }
    const rows = Array.from(
      measured,
      ([client, { cpu, rates }]): Row => ({
        scenario: "watch",
        client,
        inFlight: 1,
        valueBytes: 64,
        opsPerSecond: Math.round(median(rates)),
        spread: `${Math.round(Math.min(...rates))}-${Math.round(Math.max(...rates))}`,
        p50Micros: Number.NaN,
        p99Micros: Number.NaN,
        cpuMicrosPerOp: Math.round(median(cpu) * 100) / 100
      })
    )
    console.log(
      `watch: ${count} events of 64 bytes on one watch, ${eventsPerRevision} a revision, written by another process`
    )
    table(
      rows.map(({ client, cpuMicrosPerOp, opsPerSecond, spread }) => ({
        client,
        "events/s": opsPerSecond,
        spread,
        "CPU µs/event": cpuMicrosPerOp
      }))
    )
    return rows
  }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))

export const scan = (quick: boolean) =>
  Effect.gen(function* () {
    const count = quick ? 200_000 : 1_000_000
    const { endpoints } = yield* node
    const write = yield* writer(endpoints[0])
    yield* Effect.promise(() => write("scan/", count, 100))
    const rates: Array<number> = []
    const cpu: Array<number> = []
    let peak = 0
    const sampler = setInterval(() => {
      peak = Math.max(peak, process.memoryUsage().rss)
    }, 10)
    for (let round = 0; round < 4; round++) {
      let seen = 0
      const before = process.cpuUsage()
      const start = performance.now()
      yield* EtcdKv.stream(KeyRange.prefix("scan/")).pipe(
        Stream.runForEachArray((kvs) =>
          Effect.sync(() => {
            seen += kvs.length
          })
        ),
        Effect.provide(EtcdLayer.connect({ endpoints }))
      )
      const seconds = (performance.now() - start) / 1000
      const { system, user } = process.cpuUsage(before)
      if (seen !== count) throw new Error(`${seen} of ${count} keys`)
      if (round === 0) continue
      rates.push(count / seconds)
      cpu.push((system + user) / count)
    }
    clearInterval(sampler)
    console.log(`scan: ${count} keys of 64 bytes through EtcdKv.stream`)
    table([
      {
        "keys/s": Math.round(median(rates)),
        spread: `${Math.round(Math.min(...rates))}-${Math.round(Math.max(...rates))}`,
        "CPU µs/key": median(cpu).toFixed(2),
        "peak RSS MB": Math.round(peak / 1e6)
      }
    ])
    return [
      {
        scenario: "scan",
        client: "effect-etcd",
        inFlight: 1,
        valueBytes: 64,
        opsPerSecond: Math.round(median(rates)),
        spread: `${Math.round(Math.min(...rates))}-${Math.round(Math.max(...rates))}`,
        p50Micros: Number.NaN,
        p99Micros: Number.NaN,
        cpuMicrosPerOp: Math.round(median(cpu) * 100) / 100
      } satisfies Row
    ]
  }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
