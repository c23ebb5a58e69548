/**
 * What has to work in each runtime, with the package as it is published: one program, which prints a line of JSON with what
 * became of each part. `scripts/runtimes.ts` runs it in all of them. Its argument is the directory of the certificates.
 */
import { join } from "node:path"
import process from "node:process"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Cause, Duration, Effect, Exit, Fiber, Layer, Option, Schedule, Stream } from "effect"
import {
  EtcdCluster,
  EtcdKv,
  EtcdLayer,
  EtcdLease,
  EtcdMaintenance,
  EtcdProcess,
  EtcdTxn,
  EtcdWatch,
  KeyRange
} from "effect-etcd"
import { EtcdElection, EtcdLock, EtcdMirror, EtcdSession } from "effect-etcd/coordination"

const certificates = process.argv[2]

const expect = (value, due) => {
  const [found, expected] = [value, due].map((one) => JSON.stringify(one))
  return found === expected ? Effect.void : Effect.die(new Error(`${found}, and not ${expected}`))
}

const isThere = (pid) => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

const gone = (pid) =>
  Effect.retry(
    Effect.suspend(() => (isThere(pid) ? Effect.fail("it is still there") : Effect.void)),
    { times: 200, schedule: Schedule.spaced("20 millis") }
  )

const quiet = { log: false }

const keys = Effect.gen(function* () {
  yield* EtcdKv.put("keys/a", "1")
  yield* EtcdKv.put("keys/b", "2")
  yield* expect(Option.getOrNull(yield* EtcdKv.getString("keys/a")), "1")
  const { kvs } = yield* EtcdKv.range(KeyRange.interval("keys/a", "keys/c"))
  yield* expect(
    kvs.map((kv) => kv.keyString),
    ["keys/a", "keys/b"]
  )
  const { succeeded } = yield* EtcdTxn.commit(
    EtcdTxn.make({ compare: EtcdTxn.value("keys/a").equals("1"), success: EtcdTxn.put("keys/c", "3") })
  )
  yield* expect(succeeded, true)
  // More than a window of HTTP/2, and than a frame.
  const large = "x".repeat(1_000_000)
  yield* EtcdKv.put("keys/large", large)
  yield* expect(Option.getOrThrow(yield* EtcdKv.getString("keys/large")).length, large.length)
})

/** The same over another client. */
const over = (options) => Effect.provide(keys, EtcdLayer.connect({ retry: Schedule.recurs(2), ...options }))

const parts = {
  keys,
  watch: Effect.gen(function* () {
    const { header } = yield* EtcdKv.put("watch/a", "before")
    const seen = yield* Effect.forkChild(
      EtcdWatch.watch(KeyRange.prefix("watch/"), { startRevision: header.revision + 1n }).pipe(
        Stream.take(2),
        Stream.runCollect
      )
    )
    yield* EtcdKv.put("watch/a", "after")
    yield* EtcdKv.delete("watch/a")
    yield* expect(
      Array.from(yield* Fiber.join(seen), ({ _tag }) => _tag),
      ["Put", "Delete"]
    )
  }),
  "lease, kept alive": Effect.scoped(
    Effect.gen(function* () {
      const lease = yield* EtcdLease.make("2 seconds")
      yield* EtcdKv.put("lease/a", "", { lease: lease.id })
      yield* Effect.sleep("2500 millis")
      yield* expect(Option.isSome(yield* EtcdKv.get("lease/a")), true)
      return lease
    })
  ).pipe(
    Effect.andThen(EtcdKv.get("lease/a")),
    Effect.flatMap((kv) => expect(Option.isNone(kv), true))
  ),
  lock: EtcdKv.put("lock/done", "yes").pipe(
    EtcdLock.withLock(EtcdLock.make("lock")),
    Effect.andThen(EtcdLock.line(EtcdLock.make("lock"))),
    Effect.flatMap((line) => expect(line, [])),
    Effect.provide(Layer.fresh(EtcdSession.layer))
  ),
  election: Effect.scoped(
    Effect.gen(function* () {
      const election = EtcdElection.make("election")
      yield* EtcdElection.campaign(election, "me")
      yield* expect(Option.getOrThrow(yield* EtcdElection.leader(election)).valueString, "me")
    })
  ).pipe(Effect.provide(Layer.fresh(EtcdSession.layer))),
  mirror: Effect.scoped(
    Effect.gen(function* () {
      yield* EtcdKv.put("mirror/a", "1")
      const mirror = yield* EtcdMirror.make("mirror/")
      const { header } = yield* EtcdKv.put("mirror/b", "2")
      const view = yield* mirror.awaitRevision(header.revision)
      yield* expect(view.size, 2)
    })
  ),
  snapshot: Effect.gen(function* () {
    const bytes = yield* Stream.runFold(
      EtcdMaintenance.snapshot(),
      () => 0,
      (sum, piece) => sum + piece.length
    )
    yield* expect(bytes > 10_000, true)
  }),
  "many calls at once": Effect.forEach(
    Array.from({ length: 500 }, (_, index) => `many/${index}`),
    (key) => Effect.andThen(EtcdKv.put(key, key), EtcdKv.get(key)),
    { concurrency: "unbounded", discard: true }
  ),
  deadline: Effect.flip(EtcdKv.get("a", { deadline: 0 })).pipe(
    Effect.flatMap(({ reason }) => expect(reason._tag, "DeadlineExceeded"))
  ),
  "Unix socket, node:http2": Effect.gen(function* () {
    const { endpoints } = yield* EtcdProcess.EtcdProcess
    yield* over({ endpoints, transport: "node:http2" })
  }),
  "TCP, both transports": Effect.scoped(
    Effect.gen(function* () {
      const { endpoints } = yield* EtcdProcess.ephemeral({ listenClientUrls: "http://127.0.0.1:0" }, quiet)
      yield* over({ endpoints })
      yield* over({ endpoints, transport: "node:http2" })
    })
  ),
  "TLS, both transports": Effect.scoped(
    Effect.gen(function* () {
      const tls = {
        ca: { file: join(certificates, "ca.pem") },
        certificate: { file: join(certificates, "client.pem") },
        key: { file: join(certificates, "client.key") }
      }
      const { endpoints } = yield* EtcdProcess.ephemeral(
        {
          listenClientUrls: "https://127.0.0.1:0",
          certFile: join(certificates, "server.pem"),
          keyFile: join(certificates, "server.key"),
          trustedCaFile: join(certificates, "ca.pem"),
          clientCertAuth: true
        },
        { ...quiet, client: { tls } }
      )
      yield* over({ endpoints, tls })
      yield* over({ endpoints, tls, transport: "node:http2" })
      const stranger = over({ endpoints, tls: { ca: tls.ca }, retry: Schedule.recurs(0) })
      yield* expect((yield* Effect.flip(stranger)).reason._tag, "Unreachable")
    })
  ),
  "no process is left": Effect.gen(function* () {
    const pid = yield* Effect.scoped(
      Effect.gen(function* () {
        const node = yield* EtcdProcess.ephemeral({}, quiet)
        const pid = Option.getOrThrow(yield* node.pid)
        yield* expect(isThere(pid), true)
        return pid
      })
    )
    yield* gone(pid)
  }),
  "a cluster of three": Effect.gen(function* () {
    const cluster = yield* EtcdCluster.EtcdCluster
    yield* cluster.awaitLeader
    yield* EtcdKv.put("cluster", "yes")
    yield* expect(Option.getOrNull(yield* EtcdKv.getString("cluster")), "yes")
  }).pipe(Effect.provide(EtcdLayer.cluster({ size: 3, log: false })))
}

const runtime = "Bun" in globalThis ? "Bun" : "Deno" in globalThis ? "Deno" : "Node.js"

const version = { Bun: () => Bun.version, Deno: () => Deno.version.deno, "Node.js": () => process.versions.node }[
  runtime
]()

const program = Effect.forEach(
  Object.entries(parts),
  ([name, part]) =>
    Effect.map(Effect.exit(Effect.timeout(part, Duration.seconds(20))), (exit) => [
      name,
      Exit.isSuccess(exit) ? "ok" : Cause.pretty(exit.cause)
    ]),
  // One after the other: it is what each does that is looked at.
  { concurrency: 1 }
).pipe(Effect.provide(Layer.provideMerge(EtcdLayer.ephemeral({}, quiet), NodeServices.layer)))

Effect.runPromise(program).then(
  (results) => {
    console.log(JSON.stringify({ runtime, version, results: Object.fromEntries(results) }))
  },
  (error) => {
    console.error(error)
    process.exitCode = 1
  }
)
