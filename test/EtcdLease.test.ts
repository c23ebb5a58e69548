import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdAuth from "../src/EtcdAuth.ts"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import * as EtcdId from "../src/EtcdId.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdLease from "../src/EtcdLease.ts"
import * as EtcdMaintenance from "../src/EtcdMaintenance.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import * as EtcdTxn from "../src/EtcdTxn.ts"
import * as EtcdWatch from "../src/EtcdWatch.ts"
import * as KeyRange from "../src/KeyRange.ts"
import { text } from "./support/bytes.ts"
import * as Etcd from "./support/client/etcd.ts"
import { freeze } from "./support/machine.ts"

const reason = <A, R>(effect: Effect.Effect<A, { readonly reason: { readonly _tag: string } }, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason._tag)

const isThere = (leases: EtcdLease.Service, id: EtcdId.LeaseId) => Effect.map(leases.list(), (ids) => ids.includes(id))

/** Waits until a lease that nobody renews has come and gone, as soon as the cluster grants one. */
const aLifetime = Effect.fnUntraced(function* (leases: EtcdLease.Service, ttl: Duration.Input) {
  const { id } = yield* Effect.retry(leases.grant(ttl, { deadline: "1 second" }), { times: 20 })
  yield* isThere(leases, id).pipe(Effect.repeat({ while: (there) => there, schedule: Schedule.spaced(50) }))
})

const isLost = (lease: EtcdLease.Lease) =>
  Effect.map(lease.remaining, (remaining) => Duration.toMillis(remaining) === 0)

describe("EtcdLease", () => {
  const node = Layer.provideMerge(EtcdLease.layer, EtcdLayer.ephemeral({}, { log: false }))

  layer(node, { excludeTestServices: true })((it) => {
    it.effect("grant, time to live, list, renew, revoke", () =>
      Effect.gen(function* () {
        const granted = yield* EtcdLease.grant("99.5 seconds")
        assert.strictEqual(Duration.toSeconds(granted.ttl), 100)
        assert.isTrue(granted.header.clusterId !== 0n)
        yield* EtcdKv.put("lease/a", "1", { lease: granted.id })
        yield* EtcdKv.put("lease/b", "1", { lease: granted.id })
        const found = yield* EtcdLease.timeToLive(granted.id, { keys: true })
        assert.strictEqual(found.id, granted.id)
        assert.isTrue(Duration.toSeconds(found.ttl) > 0 && Duration.toSeconds(found.ttl) <= 100)
        assert.strictEqual(Duration.toSeconds(found.grantedTtl), 100)
        assert.deepStrictEqual(found.keys.map(text).sort(), ["lease/a", "lease/b"])
        assert.deepStrictEqual((yield* EtcdLease.timeToLive(granted.id)).keys, [])
        assert.include(yield* EtcdLease.list(), granted.id)
        const renewed = yield* EtcdLease.keepAliveOnce(granted.id)
        assert.strictEqual(renewed.id, granted.id)
        assert.strictEqual(Duration.toSeconds(renewed.ttl), 100)
        yield* EtcdLease.revoke(granted.id)
        assert.deepStrictEqual(yield* EtcdKv.get("lease/a"), Option.none())
        assert.notInclude(yield* EtcdLease.list(), granted.id)
      })
    )

    it.effect("an id of the caller's, all 64 bits of it", () =>
      Effect.gen(function* () {
        const id = EtcdId.LeaseId(0x1234_5678_9abcn)
        assert.strictEqual((yield* EtcdLease.grant("1 minute", { id })).id, id)
        assert.strictEqual(yield* reason(EtcdLease.grant("1 minute", { id })), "LeaseExists")
        const unsigned = EtcdId.LeaseId(0xffff_ffff_ffff_fff0n)
        const granted = yield* EtcdLease.grant("1 minute", { id: unsigned })
        assert.strictEqual(EtcdId.format(granted.id), "fffffffffffffff0")
        // As on the wire: signed.
        assert.strictEqual(granted.id, EtcdId.LeaseId(-16n))
        assert.include(yield* EtcdLease.list(), granted.id)
        assert.strictEqual((yield* EtcdLease.timeToLive(unsigned)).id, granted.id)
        assert.strictEqual((yield* EtcdLease.keepAliveOnce(unsigned)).id, granted.id)
        assert.strictEqual((yield* Effect.scoped(EtcdLease.keepAlive(unsigned))).id, granted.id)
        yield* EtcdKv.put("lease/unsigned", "", { lease: granted.id })
        assert.strictEqual((yield* EtcdLease.timeToLive(unsigned, { keys: true })).keys.length, 1)
        yield* EtcdLease.keepAliveOnce(unsigned)
        yield* EtcdLease.revoke(unsigned)
        yield* EtcdLease.revoke(id)
      })
    )

    it.effect("an id in the form that etcd prints, wherever a lease is asked for", () =>
      Effect.gen(function* () {
        const printed = "ffffffffffffff00"
        const given = Option.getOrThrow(EtcdId.parse(printed)) as EtcdId.LeaseId
        const id = EtcdId.LeaseId(given)
        assert.notStrictEqual(given, id)
        assert.strictEqual((yield* EtcdLease.grant("1 minute", { id: given })).id, id)
        yield* EtcdKv.put("lease/printed", "", { lease: given })
        assert.deepStrictEqual(Option.getOrThrow(yield* EtcdKv.get("lease/printed")).lease, Option.some(id))
        const isItsLease = yield* EtcdTxn.commit(
          EtcdTxn.make({
            compare: EtcdTxn.lease("lease/printed").equals(given),
            success: [EtcdTxn.put("lease/printed/too", "", { lease: given })]
          })
        )
        assert.isTrue(isItsLease.succeeded)
        assert.strictEqual((yield* EtcdLease.timeToLive(given, { keys: true })).keys.length, 2)
        assert.strictEqual((yield* EtcdLease.keepAliveOnce(given)).id, id)
        const kept = yield* Effect.scoped(EtcdLease.keepAlive(given))
        assert.strictEqual(kept.id, id)
        assert.include((yield* kept.lost).message, printed)
        assert.include(yield* EtcdLease.list(), id)
        yield* EtcdLease.revoke(given)
        assert.strictEqual((yield* Effect.scoped(EtcdLease.make("1 minute", { id: given }))).id, id)
      })
    )

    it.effect("what is not there, or not possible", () =>
      Effect.gen(function* () {
        const id = EtcdId.LeaseId(404n)
        assert.strictEqual(yield* reason(EtcdLease.revoke(id)), "LeaseNotFound")
        assert.strictEqual(yield* reason(EtcdLease.keepAliveOnce(id)), "LeaseNotFound")
        assert.strictEqual(yield* reason(EtcdLease.timeToLive(id, { keys: true })), "LeaseNotFound")
        assert.strictEqual(yield* reason(Effect.scoped(EtcdLease.keepAlive(id))), "LeaseNotFound")
        assert.strictEqual(yield* reason(EtcdLease.grant("9000000001 seconds")), "LeaseTtlTooLarge")
        const longest = yield* EtcdLease.grant("9000000000 seconds")
        assert.strictEqual(Duration.toSeconds(longest.ttl), 9_000_000_000)
        yield* EtcdLease.revoke(longest.id)
      })
    )

    it.effect("is kept longer than its time to live, and revoked with its scope", () =>
      Effect.gen(function* () {
        const leases = yield* EtcdLease.EtcdLease
        const id = yield* Effect.scoped(
          Effect.gen(function* () {
            const lease = yield* EtcdLease.make("1 seconds")
            assert.isTrue(lease.id > 0n)
            yield* EtcdKv.put("lease/kept", "1", { lease: lease.id })
            yield* aLifetime(leases, lease.ttl)
            yield* aLifetime(leases, lease.ttl)
            assert.isFalse(yield* isLost(lease))
            assert.deepStrictEqual(yield* EtcdKv.getString("lease/kept"), Option.some("1"))
            assert.isTrue(Duration.toMillis(yield* lease.remaining) > 0)
            return lease.id
          })
        )
        assert.isFalse(yield* isThere(leases, id))
        assert.deepStrictEqual(yield* EtcdKv.get("lease/kept"), Option.none())
      })
    )

    it.effect("that exists is kept, and left alone at the end", () =>
      Effect.gen(function* () {
        const leases = yield* EtcdLease.EtcdLease
        const { id, ttl } = yield* EtcdLease.grant("2 seconds")
        yield* Effect.scoped(
          Effect.gen(function* () {
            const lease = yield* EtcdLease.keepAlive(id)
            assert.strictEqual(Duration.toSeconds(lease.ttl), Duration.toSeconds(ttl))
            yield* aLifetime(leases, ttl)
            assert.isFalse(yield* isLost(lease))
          })
        )
        assert.isTrue(yield* isThere(leases, id))
        yield* EtcdLease.revoke(id)
      })
    )

    it.effect("tells of its loss when somebody revokes it", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        const others = yield* EtcdLease.fromClient(client)
        const lease = yield* EtcdLease.make("1 seconds")
        const work = yield* Effect.forkChild(lease.whileHeld(Effect.never))
        yield* others.revoke(lease.id)
        const lost = yield* Effect.flip(Fiber.join(work))
        assert.strictEqual(lost._tag, "LeaseLost")
        assert.strictEqual(lost.reason, "not-found")
        const own = yield* EtcdLease.make("1 minute")
        yield* EtcdLease.revoke(own.id)
        assert.strictEqual((yield* own.lost).reason, "revoked")
      })
    )

    it.effect("that etcd ends early is told at once by a key that has it, and here by the next keep-alive", () =>
      Effect.gen(function* () {
        const others = yield* EtcdLease.fromClient(yield* EtcdClient.EtcdClient)
        const lease = yield* EtcdLease.make("1 hour")
        const { header } = yield* EtcdKv.put("lease/own", "", { lease: lease.id })
        const telling = yield* EtcdWatch.watch("lease/own", { startRevision: header.revision + 1n }).pipe(
          Stream.take(1),
          Stream.runCollect,
          Effect.forkChild
        )
        const lost = yield* Effect.forkChild(lease.lost, { startImmediately: true })
        yield* others.revoke(lease.id)
        const [event] = yield* Fiber.join(telling)
        assert.strictEqual(event?._tag, "Delete")
        assert.strictEqual(lost.pollUnsafe(), undefined)
        // Whoever asks for a renewal, as the keeper will, tells all holders.
        assert.strictEqual(yield* reason(EtcdLease.keepAliveOnce(lease.id)), "LeaseNotFound")
        assert.strictEqual((yield* Fiber.join(lost)).reason, "not-found")
      })
    )

    it.effect("many share a stream", () =>
      Effect.gen(function* () {
        const leases = yield* EtcdLease.EtcdLease
        // Long enough for a machine that is slow.
        const ttl = "5 seconds"
        const scope = yield* Scope.make()
        const kept = yield* Effect.forEach(Array.from({ length: 500 }), () => Scope.provide(leases.make(ttl), scope), {
          concurrency: 64
        })
        yield* aLifetime(leases, ttl)
        const there = new Set(yield* leases.list())
        assert.isTrue(kept.every((lease) => there.has(lease.id)))
        yield* Scope.close(scope, Exit.void)
        const left = new Set(yield* leases.list())
        assert.isFalse(kept.some((lease) => left.has(lease.id)))
      })
    )
  })

  it.live("is lost by this program's clock when etcd is gone", () =>
    Effect.gen(function* () {
      const etcd = yield* EtcdProcess.EtcdProcess
      const lease = yield* EtcdLease.make("1 seconds")
      yield* freeze(etcd)
      const lost = yield* lease.lost
      yield* etcd.signal("SIGKILL")
      assert.strictEqual(lost.reason, "not-renewed")
    }).pipe(Effect.scoped, Effect.provide(node))
  )

  it.live("is kept longer than the token that it was asked for with, and only by who may", () =>
    Effect.gen(function* () {
      const etcd = yield* EtcdProcess.ephemeral({ authTokenTtl: 1 }, { log: false })
      const as = (username: string) =>
        EtcdClient.make({
          endpoints: etcd.endpoints,
          credentials: { username, password: Redacted.make("secret") }
        })
      const auth = EtcdAuth.fromClient(yield* EtcdClient.make({ endpoints: etcd.endpoints }))
      for (const name of ["root", "app"]) {
        yield* auth.addUser(name, Redacted.make("secret"))
        yield* auth.addRole(name)
        yield* auth.grantRole(name, name)
      }
      yield* auth.grantPermission("app", "readwrite", KeyRange.prefix("app/"))
      yield* auth.enable()

      const root = yield* as("root")
      const leases = yield* EtcdLease.fromClient(yield* as("app"))
      const all = yield* Effect.forEach(Array.from({ length: 20 }), () => leases.make("4 seconds"))
      const lease = all[7]!
      yield* EtcdKv.fromClient(root).put("app/a", "", { lease: lease.id })
      const others = yield* EtcdLease.fromClient(root)
      yield* aLifetime(others, lease.ttl)
      for (const one of all) assert.isFalse(yield* isLost(one))

      yield* EtcdKv.fromClient(root).put("root/a", "", { lease: lease.id })
      // Whether etcd asks who renews depends on the patch release.
      const renewed = yield* Effect.result(leases.keepAliveOnce(lease.id))
      if (Result.isFailure(renewed)) {
        assert.strictEqual(renewed.failure.reason._tag, "PermissionDenied")
        assert.strictEqual((yield* lease.lost).reason, "refused")
        // All were due at the same time, and none of the others pays for it.
        yield* aLifetime(others, lease.ttl)
        for (const one of all) assert.strictEqual(yield* isLost(one), one === lease)
      }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("leaves a server that is about to stop, which waits for its calls to end", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const real = yield* EtcdClient.make({ endpoints: [node.endpoint] })
      let opened = 0
      const failures: Array<unknown> = []
      const bidirectional = (method: any, options: any) =>
        Effect.map(real.bidirectional(method, options), (duplex) => {
          opened++
          return {
            ...duplex,
            messages: Stream.tapError(duplex.messages, (error) => Effect.succeed(failures.push(error)))
          }
        })
      const leases = yield* EtcdLease.fromClient({ ...real, bidirectional } as EtcdClient.Client)
      const lease = yield* leases.make("4 seconds")
      while (opened === 0 || Duration.toMillis(yield* lease.remaining) < 3000) yield* Effect.sleep(20)
      yield* node.stop
      assert.deepStrictEqual([opened, failures], [1, []])
      yield* node.start
      while (opened === 1 || Duration.toMillis(yield* lease.remaining) < 2000) yield* Effect.sleep(20)
      assert.isFalse(yield* isLost(lease))
    }).pipe(Effect.scoped)
  )

  it.live("is taken up though the member that is asked first stands still, and nothing else tells of that", () =>
    Effect.gen(function* () {
      const nodes = yield* Etcd.cluster(3)
      const leader = yield* Etcd.leading(nodes)
      const client = yield* EtcdClient.make({
        endpoints: nodes.map(({ endpoint }) => endpoint),
        keepAliveInterval: "Infinity"
      })
      const leases = yield* EtcdLease.fromClient(client)
      const { id } = yield* leases.grant("1 hour")
      // From here on the client keeps to the leader.
      yield* leases.timeToLive(id, { endpoint: leader.endpoint })
      yield* leases.keepAliveOnce(id)
      yield* leader.pause
      // An election may take longer than the usual tries.
      const retry = Schedule.spaced("100 millis")
      assert.strictEqual((yield* leases.keepAliveOnce(id, { retry })).id, id)
      yield* leader.resume
    }).pipe(Effect.scoped)
  )

  it.live("outlives the death and the silence of members", () =>
    Effect.gen(function* () {
      const cluster = yield* EtcdCluster.ephemeral({ log: false })
      const leasesOf = (members: ReadonlyArray<EtcdProcess.Node>) =>
        Effect.gen(function* () {
          const client = yield* EtcdClient.make({ endpoints: members.flatMap((node) => node.endpoints) })
          return { client, leases: yield* EtcdLease.fromClient(client) }
        })
      const { client, leases } = yield* leasesOf(SubscriptionRef.getUnsafe(cluster.members))
      const lease = yield* leases.make("3 seconds")
      const passALifetimeWithout = (down: EtcdProcess.Node) =>
        Effect.gen(function* () {
          const { leases } = yield* leasesOf(SubscriptionRef.getUnsafe(cluster.members).filter((node) => node !== down))
          yield* aLifetime(leases, lease.ttl)
          assert.isFalse(yield* isLost(lease))
          assert.isTrue(yield* isThere(leases, lease.id))
        })

      const leader = yield* cluster.awaitLeader
      yield* leader.signal("SIGKILL")
      yield* leader.exit
      yield* passALifetimeWithout(leader)
      yield* leader.start

      const { memberId } = (yield* EtcdMaintenance.fromClient(client).status()).header
      const asked = SubscriptionRef.getUnsafe(cluster.members).find((node) => node.id === memberId)!
      yield* freeze(asked)
      yield* passALifetimeWithout(asked)
      yield* asked.signal("SIGCONT")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
