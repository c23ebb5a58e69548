/**
 * Says whether what callers were told agrees with the store's history, which is read by a call of its own.
 *
 * A write whose outcome is unknown may be applied at any time after it was called, also after later ones, or never; what
 * is demanded of it is that it is not there twice.
 */
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"
import type { Client } from "../../../src/EtcdClient.ts"
import type { Reason } from "../../../src/EtcdError.ts"
import { Event_EventType } from "../../../src/internal/proto/kv_pb.ts"
import { Watch, type WatchResponse } from "../../../src/internal/proto/rpc_pb.ts"
import * as KeyRange from "../../../src/KeyRange.ts"
import { errorOf, isWrite, type Told } from "./load.ts"

export interface Change {
  readonly key: string
  readonly revision: bigint
  /** `null`: deleted. */
  readonly value: string | null
}

const text = new TextDecoder()

const changesOf = (message: WatchResponse): ReadonlyArray<Change> =>
  message.events.map(({ kv, type }) => ({
    key: text.decode(kv!.key),
    revision: kv!.modRevision,
    value: type === Event_EventType.DELETE ? null : text.decode(kv!.value)
  }))

/** All changes of the store up to a revision that one of them made, in their order. */
const changesUpTo = (client: Client, to: bigint) =>
  Effect.gen(function* () {
    const changes: Array<Change> = []
    const call = yield* client.bidirectional(Watch.method.watch)
    const { end, key } = KeyRange.all
    yield* call.send({ requestUnion: { case: "createRequest", value: { key, rangeEnd: end, startRevision: 1n } } })
    yield* call.messages.pipe(
      Stream.takeUntil((message) => {
        changes.push(...changesOf(message))
        return changes.length > 0 && changes.at(-1)!.revision >= to
      }),
      Stream.runDrain
    )
    return changes
  }).pipe(Effect.scoped)

export class History {
  readonly changes: ReadonlyArray<Change>
  private readonly byKey: Map<string, Array<Change>>

  constructor(changes: ReadonlyArray<Change>) {
    this.changes = changes
    this.byKey = Map.groupBy(changes, ({ key }) => key)
  }

  /** The last change of the key up to the revision. */
  changeAt(key: string, revision: bigint): Change | undefined {
    const changes = this.byKey.get(key) ?? []
    let from = 0
    let to = changes.length
    while (from < to) {
      const middle = (from + to) >> 1
      if (changes[middle]!.revision <= revision) from = middle + 1
      else to = middle
    }
    return changes[from - 1]
  }

  heldAt(key: string, revision: bigint): string | null {
    return this.changeAt(key, revision)?.value ?? null
  }
}

/** Each revision of the store has a change: nothing was left out when they were read. */
const isWhole = (changes: ReadonlyArray<Change>) => {
  const steps = changes.slice(1).map(({ revision }, index) => revision - changes[index]!.revision)
  assert.isTrue(steps.every((step) => step === 0n || step === 1n))
}

/** What became of the keys with the prefix. */
export const historyUpTo = (client: Client, prefix: string, to: bigint) =>
  Effect.map(changesUpTo(client, to), (changes) => {
    isWhole(changes)
    return new History(changes.filter(({ key }) => key.startsWith(prefix)))
  })

/** What the failure of a member can come to. Anything else would be a fault of the client. */
const expected: ReadonlySet<Reason["_tag"]> = new Set<Reason["_tag"]>([
  "DeadlineExceeded",
  "ConnectionLost",
  "Unreachable",
  "NoLeader",
  "LeaderChanged",
  "ProposalDropped",
  "ServerTimeout",
  "ServerStopped"
])

const methods = { get: "KV.Range", stale: "KV.Range", put: "KV.Put", delete: "KV.DeleteRange" } as const

/** Each caller gets an error of its own call, and nobody but itself interrupts it. */
const failsAsItself = (one: Told) => {
  if (Exit.isSuccess(one.exit)) return
  if (one.isImpatient && Cause.hasInterruptsOnly(one.exit.cause)) return
  const reason = errorOf(one)?.reason
  assert.isDefined(reason, String(one.exit.cause))
  assert.isTrue(expected.has(reason._tag), reason.message)
  assert.strictEqual(reason.method, methods[one.kind])
  if (!isWrite(one)) assert.strictEqual(reason.outcome, "not-applied")
}

/** For what is asked of tens of thousands of calls: the words are made only when they are needed. */
const demand = (holds: boolean, complaint: () => string): void => {
  if (!holds) assert.fail(complaint())
}

/** An answer is what the store held at the revision that it names, no older than what was known before the call. */
const agrees = ({ after, exit, key, kind, value }: Told, history: History) => {
  if (Exit.isFailure(exit)) return
  const { changed, held, revision } = exit.value
  const now = history.heldAt(key, revision)
  const before = changed ? history.heldAt(key, revision - 1n) : now
  const call = () => `${kind} ${value === "" ? key : value} at ${revision}`
  demand(kind === "stale" || revision >= after, () => `${call()}: older than ${after}, which was known`)
  demand(held === before, () => `${call()}: held ${before}, and not ${held}`)
  if (kind === "delete") demand(now === null, () => `${call()}: still holds ${now}`)
  if (!changed) return
  demand(revision > after, () => `${call()}: not newer than ${after}, which was known`)
  demand(history.changeAt(key, revision)?.revision === revision, () => `${call()}: is not there`)
  if (kind === "put") demand(now === value, () => `${call()}: holds ${now}`)
}

/** Whether a write that was not acknowledged may be applied. */
export const isUncertain = (one: Told): boolean =>
  isWrite(one) && Exit.isFailure(one.exit) && errorOf(one)?.outcome !== "not-applied"

/** No value is there twice, or before it was written, or although its writer was told that it is not. */
const isWrittenOnce = (told: ReadonlyArray<Told>, history: History) => {
  const puts = new Map(told.filter(({ kind }) => kind === "put").map((one) => [one.value, one]))
  for (const { key, revision, value } of history.changes) {
    if (value === null) continue
    const put = puts.get(value)
    assert.isDefined(put, `${value} at ${revision}: there once more, or never written`)
    assert.strictEqual(put.key, key)
    assert.isTrue(Exit.isSuccess(put.exit) || isUncertain(put), `${value} at ${revision}: said not to be applied`)
    assert.isTrue(revision > put.after, `${value} at ${revision}: before it was written`)
    puts.delete(value)
  }
}

const count = <A>(values: ReadonlyArray<A>, condition: (value: A) => boolean) => values.filter(condition).length

/** Deletions have no names: no key was deleted more often than those who deleted it can account for. */
const isDeletedOnce = (told: ReadonlyArray<Told>, history: History) => {
  const calls = Map.groupBy(
    told.filter(({ kind }) => kind === "delete"),
    ({ key }) => key
  )
  const deletions = Map.groupBy(
    history.changes.filter(({ value }) => value === null),
    ({ key }) => key
  )
  for (const [key, { length }] of deletions) {
    const own = calls.get(key) ?? []
    const acknowledged = count(own, ({ exit }) => Exit.isSuccess(exit) && exit.value.changed)
    assert.isAtLeast(length, acknowledged, `${key}: deletions`)
    assert.isAtMost(length, acknowledged + count(own, isUncertain), `${key}: deletions`)
  }
}

/** The acknowledged writes of a key are there in the order in which they were called. */
const isInOrder = (told: ReadonlyArray<Told>) => {
  const last = new Map<string, bigint>()
  for (const { begun, exit, key } of told.toSorted((a, b) => a.begun - b.begun)) {
    if (Exit.isFailure(exit) || !exit.value.changed) continue
    const { revision } = exit.value
    const before = last.get(key) ?? 0n
    assert.isTrue(revision > before, `${key}: call ${begun} made ${revision}, and one before it ${before}`)
    last.set(key, revision)
  }
}

export const check = (told: ReadonlyArray<Told>, history: History): void => {
  for (const one of told) {
    failsAsItself(one)
    agrees(one, history)
  }
  isWrittenOnce(told, history)
  isDeletedOnce(told, history)
  isInOrder(told)
}
