import { NodeRuntime } from "@effect/platform-node"
import { Console, Deferred, Effect, Fiber, Layer, Option } from "effect"
import { EtcdKv, EtcdLayer, EtcdLease } from "effect-etcd"
import { EtcdLock, EtcdSession } from "effect-etcd/coordination"
import { checking, type StaleToken, trusting } from "./storage.ts"

const lock = EtcdLock.make("example/ledger")

/** A program of its own, with a session of its own. */
const program = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provide(effect, Layer.fresh(EtcdSession.layer))

const demonstration = Effect.gen(function* () {
  const [naive, careful] = [yield* trusting, yield* checking]

  /** A holder writes to all three storages, with its token. */
  const writeAll = (value: string) =>
    Effect.gen(function* () {
      const { token } = yield* EtcdLock.Held
      yield* naive.write(value, token)
      const told = yield* Effect.result(careful.write(value, token))
      const inEtcd = yield* Effect.result(EtcdKv.put("example/balance", value))
      const answers = [told, inEtcd].map((result) =>
        result._tag === "Success"
          ? "written"
          : "reason" in result.failure
            ? result.failure.reason._tag
            : result.failure._tag
      )
      yield* Console.log(`${value} was told by the storage that checks: ${answers[0]}; by etcd: ${answers[1]}`)
    })

  // `a` has the lock, and checks it: it is held. Then time passes before its writes arrive: the machine swaps, the garbage
  // collector runs, a switch has a long queue. `a` cannot notice that, and interrupting `a` does not take back what is sent.
  const onItsWay = yield* Deferred.make<Fiber.Fiber<void, StaleToken>>()
  const arrives = yield* Deferred.make<void>()
  const work = Effect.gen(function* () {
    const held = yield* EtcdLock.Held
    yield* Console.log(`a looks, and has the lock: ${held.isHeldUnsafe()}`)
    const writing = yield* Effect.forkDetach(Effect.andThen(Deferred.await(arrives), writeAll("a")))
    yield* Deferred.succeed(onItsWay, writing)
    return yield* Effect.never
  })
  const a = yield* work.pipe(EtcdLock.withLock(lock), program, Effect.forkChild)
  const writing = yield* Deferred.await(onItsWay)

  // Its lease ends, as if `a` had stood still for ten seconds, and etcd gives the lock to `b`.
  for (const { lease } of yield* EtcdLock.line(lock)) yield* EtcdLease.revoke(lease)
  yield* writeAll("b").pipe(EtcdLock.withLock(lock), program)

  yield* Deferred.succeed(arrives, undefined)
  yield* Fiber.join(writing)
  const { message } = yield* Effect.flip(Fiber.join(a))
  yield* Console.log(message)
  yield* Console.log(`the storage that trusts has what ${yield* naive.read} wrote`)
  yield* Console.log(`the storage that checks has what ${yield* careful.read} wrote`)
  yield* Console.log(`etcd has what ${Option.getOrThrow(yield* EtcdKv.getString("example/balance"))} wrote`)
})

demonstration.pipe(Effect.provide(EtcdLayer.connect({ endpoints: ["http://127.0.0.1:2379"] })), NodeRuntime.runMain)
