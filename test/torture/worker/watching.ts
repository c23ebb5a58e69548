/**
 * Watches and mirrors, and what they tell.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as EtcdMirror from "../../../src/coordination/EtcdMirror.ts"
import * as EtcdKv from "../../../src/EtcdKv.ts"
import type { KeyValue } from "../../../src/EtcdResponse.ts"
import * as EtcdWatch from "../../../src/EtcdWatch.ts"
import * as KeyRange from "../../../src/KeyRange.ts"
import * as Programs from "../../support/programs.ts"
import { makeRandom } from "../../support/random.ts"
import { groupsPrefix, keysOfGroup, type Told, valueOf } from "../protocol.ts"
import { aGroup, failed, say, settings, turns } from "./program.ts"

const toldOf = (change: EtcdWatch.Change): Told | undefined => {
  switch (change._tag) {
    case "Revision":
      return {
        _tag: "Revision",
        revision: Number(change.revision),
        changes: change.events.map((event) => ({
          key: event.kv.keyString,
          value: event._tag === "Put" ? valueOf(event.kv.valueString) : null
        }))
      }
    case "Progress":
      return { _tag: "Progress", revision: Number(change.revision) }
    case "Snapshot":
      return {
        _tag: "Snapshot",
        revision: Number(change.revision),
        keys: change.kvs.map((kv) => [kv.keyString, valueOf(kv.valueString)])
      }
    case "Created":
      return undefined
  }
}

/**
 * Watches the keys of a group, or of all, for a while, and others then. Now and then it goes on where it has stopped, or begins
 * with what is long over, or reads slowly.
 */
export const watcher = Effect.suspend(() => {
  const random = makeRandom(settings.seed * 1000 + 501)
  let count = 0
  let next: number | undefined
  let highest = 1
  let prefix = ""
  const turn = Effect.suspend(() => {
    if (next === undefined || random(2) === 0) {
      prefix = random(2) === 0 ? groupsPrefix : keysOfGroup(aGroup(random))[0].slice(0, -1)
      next = random(2) === 0 ? undefined : Math.max(1, highest - random(400))
    }
    const watch = `${settings.name}.w${count++}`
    const first = next
    // It leaves the server while it has too much to read.
    const isSlow = random(3) === 0
    const deliver = (change: EtcdWatch.Change) => {
      if (change._tag === "Created") {
        // Asked for a revision, it is for that one, whatever it says.
        next = first ?? Number(change.startRevision)
        say({ _tag: "Watching", watch, prefix, from: next })
        return
      }
      const told = toldOf(change)!
      next = told.revision + 1
      highest = Math.max(highest, told.revision)
      say({ _tag: "Watched", watch, told })
    }
    const changes = EtcdWatch.changes(KeyRange.prefix(prefix), {
      created: true,
      progress: true,
      snapshot: "when-compacted",
      fragment: random(2) === 0,
      ...(isSlow ? { bufferSize: "8 KiB" as const } : {}),
      ...(first === undefined ? {} : { startRevision: BigInt(first) })
    })
    return Effect.timeoutOption(
      Stream.runForEach(changes, (change) =>
        Effect.andThen(
          Effect.sync(() => deliver(change)),
          isSlow ? Effect.sleep(random(100)) : Effect.void
        )
      ),
      2000 + random(8000)
    )
  })
  return turns(Effect.catchCause(turn, (cause) => Effect.sync(() => void failed(cause))))
})

/** How long a watch may take to be where the store is, when all is well. */
const longestLagMillis = 20_000

/** Watches the keys of all groups for as long as it lives, and is where the store is when it ends. */
export const watching = Effect.gen(function* () {
  const watch = `${settings.name}.all`
  let last = 0
  const deliver = (change: EtcdWatch.Change) => {
    if (change._tag === "Created") {
      say({ _tag: "Watching", watch, prefix: groupsPrefix, from: Number(change.startRevision) })
      return
    }
    const told = toldOf(change)!
    last = told.revision
    say({ _tag: "Watched", watch, told })
  }
  const changes = EtcdWatch.changes(KeyRange.prefix(groupsPrefix), {
    created: true,
    progress: true,
    snapshot: "when-compacted"
  })
  yield* Effect.forkScoped(Stream.runForEach(changes, (change) => Effect.sync(() => deliver(change))))
  yield* turns(Effect.sleep(100))
  const there = EtcdKv.range(KeyRange.prefix(groupsPrefix), { keysOnly: true })
  const { header, kvs } = yield* Effect.retry(there, { times: 10 })
  const canBeAsked = yield* Effect.match(EtcdWatch.requestProgress, {
    onFailure: ({ reason }) => reason._tag !== "Unsupported",
    onSuccess: () => true
  })
  // Where no server can be asked how far it is, nothing but the changes themselves tells of it.
  const lastChange = kvs.reduce((last, { modRevision }) => Math.max(last, Number(modRevision)), 0)
  const due = canBeAsked ? Number(header.revision) : lastChange
  const asked = Effect.andThen(Effect.ignore(EtcdWatch.requestProgress), Effect.sleep(100))
  const arrived = yield* Effect.timeoutOption(Effect.repeat(asked, { until: () => last >= due }), longestLagMillis)
  if (Option.isNone(arrived)) say({ _tag: "Problem", what: `a watch is at revision ${last}, and not at ${due}` })
}).pipe(Effect.scoped)

export const asking = turns(Effect.andThen(Effect.ignore(EtcdWatch.requestProgress), Effect.sleep(700)))

/** Replays what a mirror tells of its changes, as a watch that begins with a snapshot. */
const replaying = (mirror: EtcdMirror.Mirror<KeyValue>) => {
  const watch = `${settings.name}.m`
  const replay = new Map<string, string>()
  const toldOfMirror = (change: EtcdMirror.Change<KeyValue>): Told => {
    if (change._tag === "Snapshot") {
      for (const [key, kv] of change.view) replay.set(key, valueOf(kv.valueString))
      return { _tag: "Snapshot", revision: Number(change.view.revision), keys: [...replay] }
    }
    const revision = Number(change.revision)
    const changes = change.events.map((event) => ({
      key: event.key,
      value: event._tag === "Put" ? valueOf(event.value.valueString) : null
    }))
    for (const { key, value } of changes) {
      if (value === null) replay.delete(key)
      else replay.set(key, value)
    }
    return change.history === "complete"
      ? { _tag: "Revision", revision, changes }
      : { _tag: "Snapshot", revision, keys: [...replay] }
  }
  say({ _tag: "Watching", watch, prefix: groupsPrefix, from: 1 })
  return Stream.runForEach(mirror.changes, (change) =>
    Effect.sync(() => say({ _tag: "Watched", watch, told: toldOfMirror(change) }))
  )
}

export const mirroring = Effect.gen(function* () {
  let count = 0
  const mirror = yield* EtcdMirror.make(groupsPrefix)
  yield* Effect.forkScoped(Effect.ignore(replaying(mirror)))
  const look = Effect.gen(function* () {
    const asked = count++ % 2 === 0 ? Programs.now() : undefined
    const view = yield* asked === undefined ? mirror.view : mirror.fresh
    const keys = [...view].map(([key, kv]) => [key, valueOf(kv.valueString)] as const)
    say({ _tag: "Mirrored", at: Programs.now(), asked, revision: Number(view.revision), keys })
  })
  yield* turns(Effect.andThen(Effect.ignore(Effect.timeout(look, "3 seconds")), Effect.sleep(500)))
}).pipe(Effect.scoped)
