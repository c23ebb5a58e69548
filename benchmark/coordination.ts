/**
 * Coordination: this library beside etcd3 and etcd's Go client, against one etcd that syncs to disk. Locks (`locks.ts`),
 * transactions (`transactions.ts`), and leaders that go (`leaders.ts`).
 */
import { NodeServices } from "@effect/platform-node"
import { Effect, Layer, Option } from "effect"
import { EtcdProcess } from "effect-etcd"
import { Etcd3 } from "etcd3"
import { contest } from "./contest.ts"
import { goCoordination } from "./goClient.ts"
import * as Leaders from "./leaders.ts"
import * as Locks from "./locks.ts"
import { benchError, freePort } from "./support.ts"
import * as Transactions from "./transactions.ts"

/** A node whose data is on a disk, and synced. */
const makeSyncedNode = Effect.gen(function* () {
  const port = yield* freePort
  yield* EtcdProcess.make({ listenClientUrls: `http://127.0.0.1:${port}` }, { log: false })
  return `http://127.0.0.1:${port}`
})

const makeEtcd3 = (endpoint: string) =>
  Effect.acquireRelease(
    Effect.sync(() => new Etcd3({ hosts: endpoint })),
    (client) => Effect.sync(() => client.close())
  )

export const coordination = (quick: boolean) =>
  Effect.gen(function* () {
    const endpoint = yield* makeSyncedNode
    const etcd3 = yield* makeEtcd3(endpoint)
    const go = Option.toArray(yield* goCoordination(endpoint))
    const millis = quick ? 500 : 2000
    const warmUpMillis = quick ? 1500 : 3000
    const rounds = quick ? 3 : 11

    const lockers = [yield* Locks.ours(endpoint), Locks.etcd3(etcd3), ...go.map(({ locks }) => locks)]
    const ofLocks = yield* contest(lockers, Locks.warmUp(warmUpMillis), Locks.scenarios(millis), rounds)

    const unverified = [
      yield* Transactions.ours(endpoint),
      Transactions.etcd3(etcd3),
      ...go.map(({ transactions }) => transactions(Transactions.prefixOf("go clientv3")))
    ]
    const writers = yield* Effect.forEach(unverified, (contender) => Transactions.verified(endpoint, contender))
    const ofTransactions = yield* contest(
      writers,
      Transactions.warmUp(warmUpMillis),
      Transactions.scenarios(millis),
      rounds
    )

    const parties = [Leaders.ours(endpoint), Leaders.etcd3(endpoint), ...go.map(Leaders.go)]
    const ofLeaders = yield* Leaders.leaders(endpoint, parties, quick)
    return [...ofLocks, ...ofTransactions, ...ofLeaders]
  }).pipe(
    Effect.mapError((cause) => benchError("coordination", cause)),
    Effect.scoped,
    Effect.provide(Layer.fresh(NodeServices.layer))
  )
