/**
 * What the store has done: one watch over everything for the whole run, and at the end the history once more, read by a call
 * that nothing of this library's watches has a part in.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as EtcdClient from "../../src/EtcdClient.ts"
import type { EtcdError } from "../../src/EtcdError.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdWatch from "../../src/EtcdWatch.ts"
import { Event_EventType } from "../../src/internal/proto/kv_pb.ts"
import { Watch } from "../../src/internal/proto/rpc_pb.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import { until } from "../support/machine.ts"
import * as Programs from "../support/programs.ts"
import type { Entry, Instant } from "./history.ts"
import { endKey, valueOf } from "./protocol.ts"

export interface Observer {
  readonly entries: Array<Entry>
  /** When the watch told of a revision: no earlier than it came about. */
  readonly seenAt: Map<number, Instant>
  /** Up to where it was let forget, each time. */
  readonly compactions: Array<number>
  /** Lets the store forget what was seen, but for the last so many revisions. */
  readonly compact: (keep: number) => Effect.Effect<void, EtcdError>
  /** Writes a last key, waits until that is seen, and answers what is wrong with what was seen. */
  readonly end: Effect.Effect<ReadonlyArray<string>, unknown>
}

const text = new TextDecoder()

/** All changes from a revision on up to another one. */
const historyFrom = (client: EtcdClient.Client, from: number, to: number) =>
  Effect.gen(function* () {
    const entries: Array<Entry> = []
    const call = yield* client.bidirectional(Watch.method.watch)
    const { end, key } = KeyRange.all
    const value = { key, rangeEnd: end, startRevision: BigInt(from) }
    yield* call.send({ requestUnion: { case: "createRequest", value } })
    yield* call.messages.pipe(
      Stream.takeUntil(({ cancelReason, canceled, compactRevision, events }) => {
        if (canceled) throw new Error(`the history is not there from ${from} on: ${cancelReason} ${compactRevision}`)
        const changes = events.map(({ kv, type }) => ({
          revision: Number(kv!.modRevision),
          key: text.decode(kv!.key),
          value: type === Event_EventType.DELETE ? null : valueOf(text.decode(kv!.value))
        }))
        for (const [revision, group] of Map.groupBy(changes, ({ revision }) => revision)) {
          entries.push({ revision, changes: group.map(({ key, value }) => ({ key, value })) })
        }
        return (entries.at(-1)?.revision ?? 0) >= to
      }),
      Stream.runDrain
    )
    return entries
  }).pipe(Effect.scoped)

/** Up to the end: what a lease that runs out deletes after that may have been seen, and not read, or the other way round. */
const differences = (seen: ReadonlyArray<Entry>, found: ReadonlyArray<Entry>, end: number): ReadonlyArray<string> => {
  const first = found[0]?.revision ?? 0
  const read = found.filter(({ revision }) => revision <= end)
  const due = seen.filter(({ revision }) => revision >= first && revision <= end)
  const wrong = read.findIndex((entry, index) => JSON.stringify(entry) !== JSON.stringify(due[index]))
  if (wrong < 0 && due.length === read.length) return []
  return [
    `the watch over everything told ${JSON.stringify(due[wrong])}, and the history has ${JSON.stringify(read[wrong])}`
  ]
}

/** `endpoints`: those of the members themselves, which nobody disturbs. */
export const observe = (endpoints: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const client = yield* EtcdClient.make({ endpoints })
    const kv = EtcdKv.fromClient(client)
    const watch = yield* EtcdWatch.fromClient(client)
    const entries: Array<Entry> = []
    const seenAt = new Map<number, Instant>()
    const see = ({ events, revision }: EtcdWatch.Revision) => {
      seenAt.set(Number(revision), Programs.now())
      const changes = events.map((event) => ({
        key: event.kv.keyString,
        value: event._tag === "Put" ? valueOf(event.kv.valueString) : null
      }))
      entries.push({ revision: Number(revision), changes })
    }
    let failure: unknown
    const compactions: Array<number> = []
    const compacted = () => compactions.at(-1) ?? 0
    yield* watch.changes(KeyRange.all, { startRevision: 1n, bufferSize: Number.POSITIVE_INFINITY }).pipe(
      Stream.runForEach((change) => Effect.sync(() => (change._tag === "Revision" ? see(change) : undefined))),
      Effect.catch((error) =>
        Effect.sync(() => {
          failure = error
        })
      ),
      Effect.forkScoped
    )
    const last = () => entries.at(-1)?.revision ?? 0
    const observer: Observer = {
      entries,
      seenAt,
      compactions,
      compact: (keep) =>
        Effect.suspend(() => {
          const to = last() - keep
          if (to <= compacted()) return Effect.void
          // Also where the answer is lost.
          compactions.push(to)
          return kv.compact(BigInt(to))
        }),
      end: Effect.gen(function* () {
        const { header } = yield* kv.put(endKey, "end")
        const end = Number(header.revision)
        yield* until(() => last() >= end || failure !== undefined)
        if (failure !== undefined) return [`the watch over everything ended with ${failure}`]
        return differences(entries, yield* historyFrom(client, compacted() + 1, end), end)
      })
    }
    return observer
  })
