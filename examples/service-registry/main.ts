import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Fiber, Layer, Result, Stream } from "effect"
import { FetchHttpClient, HttpClient } from "effect/http"
import { EtcdLayer } from "effect-etcd"
import { EtcdSession } from "effect-etcd/coordination"
import { make } from "./balance.ts"
import { hello, service } from "./hello.ts"

/** An instance, with a session of its own, as if it were a process of its own. */
const start = (name: string, options: EtcdSession.Options = {}) =>
  hello(name).pipe(
    Effect.provide(Layer.fresh(EtcdSession.layerWith({ ttl: "2 seconds", ...options }))),
    Effect.forkScoped
  )

const program = Effect.gen(function* () {
  const { call, live } = yield* make(service)
  const untilThereAre = (count: number) =>
    live.changes.pipe(
      Stream.mapEffect(() => live.view),
      Stream.filter(({ size }) => size === count),
      Stream.take(1),
      Stream.runDrain
    )

  /** Makes a hundred calls, and prints which instance has answered how many. */
  const ask = Effect.fnUntraced(function* (when: string) {
    const answers: Record<string, number> = {}
    for (let n = 0; n < 100; n++) {
      const answer = yield* Effect.result(
        call((address) => Effect.flatMap(HttpClient.get(`http://${address}/`), ({ text }) => text))
      )
      const who = Result.isSuccess(answer) ? answer.success : answer.failure._tag
      answers[who] = (answers[who] ?? 0) + 1
    }
    const told = Object.keys(answers)
      .sort()
      .map((who) => `${who} ${answers[who]}`)
    yield* Console.log(`${when}: ${told.join(", ")}`)
  })

  yield* start("a")
  const b = yield* start("b")
  // When this one ends, it leaves its announcement behind, as if it were killed.
  const c = yield* start("c", { onClose: "leave" })
  yield* untilThereAre(3)
  yield* ask("three instances")

  // A clean stop, as for a deployment: it leaves the list first, and ends when it has served those that still call it.
  const stopping = yield* Effect.forkChild(Fiber.interrupt(b))
  yield* untilThereAre(2)
  yield* ask("one is stopped")
  yield* Fiber.join(stopping)

  // It stays on the list until its lease has run out; calls to it are repeated at another instance.
  yield* Fiber.interrupt(c)
  yield* ask("one is gone")
  yield* untilThereAre(1)
  yield* Console.log("its lease has run out")
}).pipe(Effect.scoped)

const etcd = EtcdLayer.connect({ endpoints: ["http://127.0.0.1:2379"] })

program.pipe(Effect.provide(Layer.mergeAll(etcd, FetchHttpClient.layer)), NodeRuntime.runMain)
