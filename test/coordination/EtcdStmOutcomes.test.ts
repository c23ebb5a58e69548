/**
 * What becomes of a transaction when its answer is lost: it is applied once or not at all, and the caller is told no more
 * than what is certain.
 */
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as EtcdStm from "../../src/coordination/EtcdStm.ts"
import * as EtcdClient from "../../src/EtcdClient.ts"
import * as EtcdError from "../../src/EtcdError.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as EtcdProcess from "../../src/EtcdProcess.ts"
import { AlarmRequest_AlarmAction, AlarmType, KV, Lease, Maintenance } from "../../src/internal/proto/rpc_pb.ts"
import * as Time from "../../src/internal/time.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import { type Fate, losing } from "../support/coordination/losing.ts"
import { silencing } from "../support/coordination/silencing.ts"
import { start } from "../support/effects.ts"

const live = EtcdLayer.ephemeral({}, { log: false })

const fates: ReadonlyArray<Fate> = ["answered", "applied", "lost", "late"]

const everyPair = fates.flatMap((first) => fates.map((second) => [first, second] as const))

const numberAt = (key: string) =>
  Effect.map(EtcdStm.getString(key), (text) => Number(Option.getOrElse(text, () => "0")))

const add = (key: string, amount: number) => Effect.flatMap(numberAt(key), (n) => EtcdStm.put(key, String(n + amount)))

const through = (client: EtcdClient.Client) => Effect.provideService(EtcdClient.EtcdClient, client)

/** Runs it while the transactions of its client are lost, and lets those land that are late. */
const losingIt = <A, E>(
  tx: Effect.Effect<A, E, EtcdClient.EtcdClient>,
  lost: ReadonlyArray<Fate>,
  meanwhile: Effect.Effect<unknown, unknown>
) =>
  Effect.gen(function* () {
    const { client, counts, landing } = losing(yield* EtcdClient.EtcdClient, lost, meanwhile)
    const exit = yield* Effect.exit(through(client)(tx))
    yield* landing
    return { exit, counts }
  })

const isUnknown = <A, E>(exit: Exit.Exit<A, E>): boolean =>
  Exit.match(exit, {
    onSuccess: () => false,
    onFailure: (cause) => cause.reasons.some((reason) => (reason as any).error?.outcome === "unknown")
  })

layer(live)((it) => {
  describe("a transaction whose answers are lost, or which is lost itself, or late", () => {
    for (const receipt of [true, false]) {
      const how = receipt ? "with a receipt" : "without a receipt"

      it.effect(`${how} adds to a counter once if it succeeds, and at most once if it fails`, () =>
        Effect.gen(function* () {
          const client = yield* EtcdClient.EtcdClient
          const kv = yield* EtcdKv.EtcdKv
          const cases = everyPair.flatMap((pair) => [0, 1].map((others) => ({ pair, others })))
          yield* Effect.forEach(
            cases,
            ({ others, pair }) =>
              Effect.gen(function* () {
                const key = `counter/${receipt}/${pair}/${others}`
                yield* kv.put(key, "0")
                const other = through(client)(EtcdStm.tx(add(key, 10)))
                const { exit } = yield* losingIt(
                  EtcdStm.tx(add(key, 1), { receipt }),
                  pair,
                  others === 0 ? Effect.void : other
                )
                const times = Number(Option.getOrThrow(yield* kv.getString(key))) % 10
                if (receipt || Exit.isSuccess(exit)) assert.strictEqual(times, 1, key)
                else assert.isAtMost(times, 1, key)
                if (receipt) assert.isTrue(Exit.isSuccess(exit), key)
                else if (Exit.isFailure(exit)) assert.isTrue(isUnknown(exit), key)
              }),
            { concurrency: 8 }
          )
        })
      )

      it.effect(`${how} creates a key once at most, though somebody deletes it meanwhile`, () =>
        Effect.gen(function* () {
          const kv = yield* EtcdKv.EtcdKv
          yield* Effect.forEach(
            everyPair,
            (pair) =>
              Effect.gen(function* () {
                const key = `created/${receipt}/${pair}`
                let taken = 0n
                const take = Effect.map(kv.delete(key), ({ deleted }) => {
                  taken += deleted
                })
                const body = Effect.gen(function* () {
                  if (Option.isNone(yield* EtcdStm.get(key))) yield* EtcdStm.put(key, "1")
                })
                const { exit } = yield* losingIt(EtcdStm.tx(body, { receipt }), pair, take)
                yield* take
                if (Exit.isSuccess(exit)) assert.strictEqual(taken, 1n, key)
                else {
                  assert.isAtMost(Number(taken), 1, key)
                  assert.isTrue(!receipt && isUnknown(exit), key)
                }
              }),
            { concurrency: 8 }
          )
        })
      )
    }

    it.effect("is not sent again without a receipt where it would not refuse itself", () =>
      Effect.gen(function* () {
        const bodies = [
          EtcdStm.put("blind", "1"),
          Effect.andThen(EtcdStm.get("absent"), EtcdStm.put("absent", "1")),
          Effect.andThen(EtcdStm.get("present"), EtcdStm.put("blind", "1"))
        ]
        yield* EtcdKv.put("present", "1")
        for (const body of bodies) {
          const { counts, exit } = yield* losingIt(EtcdStm.tx(body), ["lost"], Effect.void)
          assert.isTrue(isUnknown(exit))
          assert.strictEqual(counts.sent, 1)
        }
      })
    )

    it.effect("without a receipt goes on where the keys themselves show that it was not applied", () =>
      Effect.gen(function* () {
        const kv = yield* EtcdKv.EtcdKv
        yield* kv.put("shown/a", "1")
        yield* kv.put("shown/b", "1")
        const sum = Effect.gen(function* () {
          yield* EtcdStm.put("shown/a", String((yield* numberAt("shown/a")) + (yield* numberAt("shown/b"))))
        })
        // Another key that it has read was changed, and the one that it writes was not.
        const first = yield* losingIt(EtcdStm.tx(sum), ["lost"], kv.put("shown/b", "5"))
        assert.isTrue(Exit.isSuccess(first.exit))
        assert.deepStrictEqual(yield* kv.getString("shown/a"), Option.some("6"))
        // The one that it writes was written once, and otherwise.
        const second = yield* losingIt(EtcdStm.tx(sum), ["lost"], kv.put("shown/a", "100"))
        assert.isTrue(Exit.isSuccess(second.exit))
        assert.deepStrictEqual(yield* kv.getString("shown/a"), Option.some("105"))
      })
    )

    it.effect("without a receipt fails where somebody else may have written the same, and says so", () =>
      Effect.gen(function* () {
        const kv = yield* EtcdKv.EtcdKv
        yield* kv.put("same", "1")
        const { exit } = yield* losingIt(EtcdStm.tx(add("same", 1)), ["lost"], kv.put("same", "2"))
        assert.isTrue(isUnknown(exit))
        assert.include(String(Exit.isFailure(exit) && exit.cause), "With receipt: true it would be known which")
      })
    )

    it.effect("with a receipt is told as unknown where its lease has gone, and a late one is refused", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        const kv = yield* EtcdKv.EtcdKv
        const receipts = KeyRange.prefix("effect-etcd/receipts/")
        yield* kv.put("orphan", "0")
        yield* EtcdStm.tx(add("orphan", 1), { receipt: true })
        const revoke = Effect.gen(function* () {
          const { leases } = yield* client.unary(Lease.method.leaseLeases, {})
          yield* Effect.forEach(leases, ({ ID }) => Effect.ignore(client.unary(Lease.method.leaseRevoke, { ID })))
          assert.strictEqual((yield* kv.range(receipts)).kvs.length, 0)
        })
        for (const fate of ["applied", "lost", "late"] as const) {
          const before = Option.getOrThrow(yield* kv.getString("orphan"))
          const { exit } = yield* losingIt(EtcdStm.tx(add("orphan", 1), { receipt: true }), [fate], revoke)
          assert.isTrue(isUnknown(exit), fate)
          const after = Option.getOrThrow(yield* kv.getString("orphan"))
          assert.strictEqual(Number(after) - Number(before), fate === "applied" ? 1 : 0, fate)
          // And where what it read was changed as well, so that only the receipt could tell.
          yield* EtcdStm.tx(add("orphan", 1), { receipt: true })
          const changed = Effect.andThen(revoke, kv.put("orphan", "100"))
          const other = yield* losingIt(EtcdStm.tx(add("orphan", 1), { receipt: true }), [fate], changed)
          assert.isTrue(isUnknown(other.exit), fate)
          assert.deepStrictEqual(yield* kv.getString("orphan"), Option.some("100"))
        }
        // Nobody was harmed by leases that there are none of.
        yield* EtcdStm.tx(add("orphan", 1), { receipt: true })
      })
    )

    it.effect("with a receipt is known to be applied, or not, where it is refused for want of space", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        const kv = yield* EtcdKv.EtcdKv
        const alarm = (action: AlarmRequest_AlarmAction) =>
          client.unary(Maintenance.method.alarm, { action, alarm: AlarmType.NOSPACE })
        const write = EtcdStm.tx(add("full", 1), { receipt: true })
        yield* write
        // What just fits no more is applied, and refused all the same.
        const barely: EtcdClient.Client["unary"] = (method, request, options) => {
          const call = client.unary(method, request, options)
          return (method as object) === KV.method.txn ? Effect.andThen(call, Effect.fail(EtcdError.make(full))) : call
        }
        const full = new EtcdError.NoSpace({ message: "There is no space.", outcome: "unknown" })
        yield* through({ ...client, unary: barely })(write)
        assert.deepStrictEqual(yield* kv.getString("full"), Option.some("2"))
        const { message, outcome, reason } = yield* Effect.acquireUseRelease(
          alarm(AlarmRequest_AlarmAction.ACTIVATE),
          () => Effect.flip(write),
          () => Effect.orDie(alarm(AlarmRequest_AlarmAction.DEACTIVATE))
        )
        assert.deepStrictEqual([reason._tag, outcome], ["NoSpace", "not-applied"])
        assert.include(message, "It was not applied.")
        yield* write
        assert.deepStrictEqual(yield* kv.getString("full"), Option.some("3"))
      })
    )

    it.effect("with a receipt asks again for a lease whose answer is lost, and is not sent where there is none", () =>
      Effect.gen(function* () {
        const node = yield* EtcdProcess.EtcdProcess
        const kv = yield* EtcdKv.EtcdKv
        /** A client whose first grants fail so, and how many it asked for. */
        const failing = Effect.fnUntraced(function* (reasons: ReadonlyArray<EtcdError.Reason>) {
          const client = yield* EtcdClient.make({ endpoints: node.endpoints })
          const left = [...reasons]
          const counts = { asked: 0 }
          const unary: EtcdClient.Client["unary"] = (method, request, options) => {
            if ((method as object) !== Lease.method.leaseGrant) return client.unary(method, request, options)
            return Effect.suspend(() => {
              counts.asked++
              const reason = left.shift()
              if (reason === undefined) return client.unary(method, request, options)
              return Effect.andThen(Time.reading, Effect.fail(EtcdError.make(reason)))
            })
          }
          return { counts, client: { ...client, unary } satisfies EtcdClient.Client }
        })
        const write = (key: string) => EtcdStm.tx(EtcdStm.put(key, "1"), { receipt: true })
        const lost = new EtcdError.ConnectionLost({ message: "It was lost.", outcome: "unknown" })
        const again = yield* failing([lost, lost])
        yield* through(again.client)(write("leased"))
        assert.deepStrictEqual(again.counts, { asked: 3 })
        assert.deepStrictEqual(yield* kv.getString("leased"), Option.some("1"))
        // And who waits for a lease of which nothing comes, does not ask for it once more.
        const late = yield* failing([new EtcdError.DeadlineExceeded({ message: "It is late.", outcome: "unknown" })])
        const errors = yield* Effect.forEach(
          ["unleased/a", "unleased/b", "unleased/c"],
          (key) => Effect.flip(through(late.client)(write(key))),
          { concurrency: "unbounded" }
        )
        for (const { message, outcome } of errors) {
          assert.strictEqual(outcome, "not-applied")
          assert.include(message, "no lease for its receipt. It is late.")
        }
        assert.deepStrictEqual(late.counts, { asked: 1 })
        assert.strictEqual((yield* kv.range(KeyRange.prefix("unleased/"))).kvs.length, 0)
        yield* through(late.client)(write("leased"))
      })
    )
  })

  describe("a transaction whose connection is lost between request and answer", () => {
    const throughTheCut = (key: string, options: EtcdStm.Options<undefined>) =>
      Effect.gen(function* () {
        yield* EtcdKv.put(key, "0")
        const node = yield* EtcdProcess.EtcdProcess
        const way = yield* silencing(node.endpoints[0])
        const client = yield* EtcdClient.make({ endpoints: [way.endpoint] })
        // What the receipts of a client need is there already, and read is what is to be read.
        yield* through(client)(EtcdStm.tx(add(key, 1), options))
        let tries = 0
        const body = Effect.gen(function* () {
          yield* add(key, 1)
          if (++tries === 1) yield* way.silence
        })
        const transaction = yield* start(Effect.exit(through(client)(EtcdStm.tx(body, options))))
        yield* EtcdKv.getString(key).pipe(
          Effect.filterOrFail(Option.contains("2")),
          Effect.retry({ while: (error) => error._tag === "NoSuchElementError" })
        )
        yield* way.cut
        const exit = yield* Fiber.join(transaction)
        assert.strictEqual(tries, 1)
        assert.deepStrictEqual(yield* EtcdKv.getString(key), Option.some("2"))
        return exit
      })

    it.effect("has happened, as its receipt tells", () =>
      Effect.gen(function* () {
        assert.isTrue(Exit.isSuccess(yield* throughTheCut("cut/receipt", { receipt: true })))
      })
    )

    it.effect("is not known to have happened without a receipt, and happens once", () =>
      Effect.gen(function* () {
        assert.isTrue(isUnknown(yield* throughTheCut("cut/none", {})))
      })
    )
  })
})
