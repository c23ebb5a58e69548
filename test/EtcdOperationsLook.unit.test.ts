/**
 * What operations make of what members say, where it takes members that no test has: some that lag far behind, lack
 * revisions, or are of another version.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdError from "../src/EtcdError.ts"
import { MemberId } from "../src/EtcdId.ts"
import * as EtcdOperations from "../src/EtcdOperations.ts"
import { awaitWhole } from "../src/internal/operations/health.ts"
import { refusal } from "../src/internal/operations/operation.ts"
import { start } from "./support/effects.ts"
import { byTestClock, turns } from "./support/time.ts"

interface Said {
  readonly revision?: bigint
  readonly applied?: bigint
  readonly hash?: number
  readonly compacted?: bigint
  readonly version?: string
  readonly isLearner?: boolean
  readonly isSilent?: boolean
  /** Which member gives its hash, where a balancer is in between. */
  readonly hashedBy?: number
}

const details = { outcome: "not-applied" } as const

/** A client of members that say this, of whom the first leads; `a:0`, `a:1` and so on. */
const saying = (all: ReadonlyArray<Said>, denied?: "HashKV" | "Status") => {
  const members = all.map(({ isLearner = false }, index) => ({
    ID: BigInt(index + 1),
    name: `node${index}`,
    peerURLs: [],
    clientURLs: [`a:${index}`],
    isLearner
  }))
  const header = (index: number, { revision = 10n }: Said) => ({
    clusterId: 7n,
    memberId: BigInt(index + 1),
    revision,
    raftTerm: 2n
  })
  const unary = ({ name }: { readonly name: string }, request: { readonly revision?: bigint }, options = {}) => {
    const { endpoint = "a:0" }: EtcdClient.CallOptions = options
    const index = Number(endpoint.slice(2))
    const said = all[index]!
    const { applied = 100n, compacted = 5n, hash = 1, revision = 10n, version = "3.5.30" } = said
    if (name === "Status" && said.isSilent === true) {
      return Effect.fail(EtcdError.make(new EtcdError.Unreachable({ ...details, message: "nobody is there" })))
    }
    if (name === denied) {
      return Effect.fail(EtcdError.make(new EtcdError.PermissionDenied({ ...details, message: "denied" })))
    }
    if (name === "MemberList") return Effect.succeed({ header: header(0, said), members })
    if (name === "Alarm") return Effect.succeed({ header: header(0, said), alarms: [] })
    if (name === "HashKV") {
      const asked = request.revision!
      if (asked > revision) {
        return Effect.fail(EtcdError.make(new EtcdError.FutureRevision({ ...details, message: "future" })))
      }
      return Effect.succeed({
        header: header(said.hashedBy ?? index, said),
        hash,
        compactRevision: compacted,
        hashRevision: asked
      })
    }
    // Nobody else is at an operation.
    if (name === "Range") return Effect.succeed({ header: header(0, said), kvs: [], count: 0n, more: false })
    return Effect.succeed({
      header: header(index, said),
      version,
      dbSize: 1_000_000_000n,
      dbSizeInUse: 100n,
      dbSizeQuota: 0n,
      leader: 1n,
      raftTerm: 2n,
      raftIndex: applied,
      raftAppliedIndex: applied,
      errors: [],
      isLearner: said.isLearner ?? false,
      storageVersion: ""
    })
  }
  return { unary, endpoints: Effect.succeed(members.map(({ clientURLs }) => clientURLs[0]!)) } as never
}

/** Lets time go on until it has ended. */
const inNoTime = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const fiber = yield* start(byTestClock(effect))
  yield* Effect.repeat(Effect.andThen(TestClock.adjust("1 second"), turns(2)), {
    until: () => fiber.pollUnsafe() !== undefined
  })
  return yield* Fiber.join(fiber)
})

const compare = (...all: ReadonlyArray<Said>) =>
  EtcdOperations.findCorrupt().pipe(
    Effect.provideService(EtcdClient.EtcdClient, saying(all)),
    inNoTime,
    Effect.map(({ corrupt, evidence, sound, unknown, verdict }) => {
      const names = (members: typeof corrupt) => members.map(({ name }) => name.replace("node", "")).join("")
      return { found: [verdict, names(sound), names(corrupt), names(unknown)], evidence }
    })
  )

describe("EtcdOperations", () => {
  it.effect("nobody who answers is no quorum, but not where nobody is trusted", () =>
    Effect.gen(function* () {
      const tagWhere = (more: { readonly lasting?: true }) => {
        const nobody = Effect.fail(EtcdError.make(new EtcdError.Unreachable({ ...details, ...more, message: "no" })))
        const client = { unary: () => nobody, endpoints: Effect.succeed(["a:0"]) } as never
        return EtcdOperations.moveLeader().pipe(
          Effect.provideService(EtcdClient.EtcdClient, client),
          Effect.flip,
          Effect.map(({ _tag }) => _tag)
        )
      }
      assert.strictEqual(yield* tagWhere({}), "ClusterRefused")
      assert.strictEqual(yield* tagWhere({ lasting: true }), "OperationFailed")
    })
  )

  it.effect("findCorrupt: who has other data, fewer revisions, or more", () =>
    Effect.gen(function* () {
      const found = (...all: ReadonlyArray<Said>) => Effect.map(compare(...all), ({ found }) => found)
      assert.deepStrictEqual(yield* found({}, {}, {}), ["sound", "012", "", ""])
      assert.deepStrictEqual(yield* found({ hash: 2 }, {}, {}), ["corrupt", "12", "0", ""])
      assert.deepStrictEqual(yield* found({}, {}, { revision: 9n }), ["corrupt", "01", "2", ""])
      assert.deepStrictEqual(yield* found({}, { revision: 11n }, {}), ["corrupt", "02", "1", ""])
      assert.deepStrictEqual(yield* found({}, {}, { hash: 2 }, { hash: 3 }, {}), ["corrupt", "014", "23", ""])
      assert.deepStrictEqual(yield* found({}, {}, {}, { isLearner: true }), ["sound", "012", "", "3"])
      assert.deepStrictEqual(yield* found({}, {}, { hashedBy: 0 }), ["sound", "01", "", "2"])
    })
  )

  it.effect("findCorrupt: no verdict where there is no majority, or another reason", () =>
    Effect.gen(function* () {
      const undecided = Effect.fnUntraced(function* (all: ReadonlyArray<Said>, why: RegExp) {
        const { evidence, found } = yield* compare(...all)
        assert.deepStrictEqual(found.slice(0, 3), ["undecided", "", ""])
        assert.match(evidence.join("\n"), why)
      })
      yield* undecided([{}, { hash: 2 }, { hash: 3 }], /no 2 of 3 voters have the same data/)
      yield* undecided([{}, { hash: 2 }], /no 2 of 2 voters/)
      const never = { compacted: -1n }
      yield* undecided([never, { ...never, hash: 2 }], /node0 .*: hash 1, never compacted\n/)
      yield* undecided([{}], /nobody to compare it with/)
      yield* undecided([{}, {}, { hash: 2, version: "3.5.15" }], /members of other versions/)
      yield* undecided([{}, {}, { compacted: 4n }], /have not compacted the same/)
      // One that has the version of those who agree has no such excuse.
      const { found } = yield* compare({}, { version: "3.5.15" }, { hash: 2 })
      assert.deepStrictEqual(found, ["corrupt", "01", "2", ""])
    })
  )

  it.effect("are refused where somebody lags far behind, and say where they may not ask", () =>
    Effect.gen(function* () {
      const far = saying([{ applied: 6000n }, { applied: 5999n }, { applied: 999n }])
      const failing = <A, E extends { readonly _tag: string; readonly message: string }>(
        operation: Effect.Effect<A, E, EtcdClient.EtcdClient>,
        client: never
      ) => Effect.flip(Effect.provideService(operation, EtcdClient.EtcdClient, client))
      for (const operation of [EtcdOperations.moveLeader("node2"), EtcdOperations.defragment()]) {
        const { _tag, message } = yield* failing(operation, far)
        assert.strictEqual(_tag, "ClusterRefused")
        assert.match(message, /\(unhealthy-member\): node2 .* has 5001 entries of the log still to apply/)
      }
      const near = saying([{ applied: 6000n }, { applied: 5999n }, { applied: 1000n }])
      const { steps } = yield* Effect.provideService(
        EtcdOperations.moveLeader(undefined, { dryRun: true }),
        EtcdClient.EtcdClient,
        near
      )
      assert.deepStrictEqual(
        steps.map(({ title }) => title),
        ["move the leader from node0 to node1"]
      )
      const { _tag, message } = yield* failing(EtcdOperations.defragment(), saying([{}, {}, {}], "Status"))
      assert.deepStrictEqual([_tag, /denied/.test(message)], ["OperationFailed", true])
      // Nothing is wrong with data that one may not compare.
      const compared = yield* failing(EtcdOperations.findCorrupt(), saying([{}, {}, {}], "HashKV"))
      assert.deepStrictEqual([compared._tag, compared.message], ["EtcdError", "denied"])
    })
  )

  it.effect("wait for no longer for one that is gone where the others have more and more to apply", () =>
    Effect.gen(function* () {
      let applied = 100n
      const writes = {
        get applied() {
          return applied++
        }
      }
      const waiting = awaitWhole(
        saying([writes, writes, { isSilent: true }]),
        refusal("restart"),
        () => Effect.void,
        MemberId(2n)
      )
      const { message } = yield* Effect.flip(inNoTime(waiting))
      assert.match(message, /node2 .* does not answer.* Nothing got on for 120 seconds/)
    })
  )
})
