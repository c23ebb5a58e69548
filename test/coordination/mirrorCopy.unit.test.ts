/**
 * What a mirror has of its keys, by random histories: revisions, progress, and snapshots after a compaction or a loss,
 * with readers who begin, read and end at any time.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { KeyValue } from "../../src/EtcdResponse.ts"
import * as EtcdWatch from "../../src/EtcdWatch.ts"
import { Copy, type Kind } from "../../src/internal/coordination/mirrorCopy.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import { makeRandom, type Random } from "../support/random.ts"

interface Value {
  readonly size: number
  readonly modRevision: bigint
}

/** Values that are decoded at once, or after others had their turn. */
const kindOf = (isLate: () => boolean): Kind<Value> => ({
  range: KeyRange.all,
  prefixLength: 0,
  decode: (kvs) =>
    Effect.as(
      isLate() ? Effect.yieldNow : Effect.void,
      kvs.map(({ modRevision, value }) => ({ size: value.length, modRevision }))
    ),
  modRevisionOf: ({ modRevision }) => modRevision,
  isSame: (a, b) => a.size === b.size && a.modRevision === b.modRevision
})

const small = new Uint8Array(1)
const large = new Uint8Array(1 << 20)

const kvOf = (key: string, { modRevision, size }: Value) =>
  new KeyValue({
    key: new TextEncoder().encode(key),
    value: size > 1 ? large : small,
    createRevision: 1n,
    modRevision,
    version: 1n,
    lease: 0n
  })

const text = (map: Iterable<readonly [string, Value]>) =>
  Array.from(map, ([key, { modRevision, size }]) => `${key}=${size}@${modRevision}`)
    .sort()
    .join()

/** A store that is written, compacted and restored. */
const makeStore = (random: Random) => {
  const names = Array.from({ length: 2 + random(20) }, (_, n) => `k${n}`)
  const store = {
    keys: new Map<string, Value>(),
    revision: 1n,
    history: 0,
    /** What there was at each revision of each history. */
    states: new Map<string, string>()
  }
  const note = () => store.states.set(`${store.history}@${store.revision}`, text(store.keys))
  const snapshot = (cause: EtcdWatch.Snapshot["cause"]) => {
    note()
    const kvs = [...store.keys].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, value]) => kvOf(key, value))
    return new EtcdWatch.Snapshot({ revision: store.revision, kvs, cause })
  }
  const write = (): EtcdWatch.Revision => {
    store.revision++
    const put = (key: string) => {
      const value = { size: random(4) === 0 ? large.length : 1, modRevision: store.revision }
      store.keys.set(key, value)
      return new EtcdWatch.Put({ kv: kvOf(key, value), previous: Option.none() })
    }
    const remove = (key: string) => {
      store.keys.delete(key)
      const kv = kvOf(key, { size: 1, modRevision: store.revision })
      return new EtcdWatch.Delete({ kv, previous: Option.none() })
    }
    const rest = names.slice(1).filter(() => random(names.length) < 3)
    const events = rest.map((key) => (store.keys.has(key) && random(3) === 0 ? remove(key) : put(key)))
    const change = new EtcdWatch.Revision({ revision: store.revision, events: [put(names[0]!), ...events] })
    note()
    return change
  }
  const progress = () => {
    store.revision += BigInt(random(3))
    note()
    return new EtcdWatch.Progress({ revision: store.revision })
  }
  /** An older backup is restored, and written to: the same revisions may have written other values. */
  const restore = () => {
    store.history++
    store.revision -= store.revision > 6n ? BigInt(random(6)) : 0n
    const { revision } = store
    for (const [key, { modRevision, size }] of store.keys) {
      const other = {
        size: size === 1 ? large.length : 1,
        modRevision: modRevision > revision ? revision : modRevision
      }
      if (random(4) === 0) store.keys.delete(key)
      else if (modRevision > revision || random(4) === 0) store.keys.set(key, other)
    }
    return snapshot(random(2) === 0 ? "regressed" : "first")
  }
  return { store, snapshot, write, progress, restore }
}

const told = { complete: 0, joined: 0, lost: 0 }

/** Somebody who replays what is told, and looks at whether it fits. */
const makeReader = (copy: Copy<Value>, store: ReturnType<typeof makeStore>["store"]) => {
  const { close, pull } = copy.reader()
  let map = new Map<string, Value>()
  let revision = 0n
  /** Which one it is; unknown after a loss, since more than one may have been lost. */
  let history: number | undefined
  const take = Effect.map(pull, (changes) => {
    for (const change of changes) {
      if (change._tag === "Snapshot") {
        map = new Map(change.view)
        history = store.history
        revision = change.view.revision
      } else {
        told[change.history]++
        if (change.history === "lost") history = undefined
        else assert.isTrue(change.revision > revision)
        revision = change.revision
        for (const event of change.events) {
          const previous = event._tag === "Put" ? Option.getOrUndefined(event.previous) : event.previous
          assert.strictEqual(map.get(event.key), previous)
          if (event._tag === "Put") map.set(event.key, event.value)
          else map.delete(event.key)
          if (change.history === "complete" && event._tag === "Put")
            assert.strictEqual(event.value.modRevision, revision)
        }
      }
      if (history !== undefined) assert.strictEqual(text(map), store.states.get(`${history}@${revision}`))
    }
  })
  return { close, take, has: () => text(map) }
}

const run = (seed: number) =>
  Effect.gen(function* () {
    const random = makeRandom(seed)
    const copy = new Copy(kindOf(() => random(3) === 0))
    const { progress, restore, snapshot, store, write } = makeStore(random)
    yield* copy.take([snapshot("first")])
    const views = [{ view: copy.view, is: text(store.keys) }]
    const readers = new Set([makeReader(copy, store)])
    for (let step = 0; step < 60; step++) {
      const changes: Array<EtcdWatch.Change> = []
      for (let n = random(5); n >= 0; n--) changes.push(write(), ...(random(5) === 0 ? [progress()] : []))
      if (random(10) === 0) changes.push(snapshot("compacted"))
      if (random(15) === 0) changes.push(restore())
      yield* copy.take(changes)
      assert.strictEqual(text(copy.view), text(store.keys))
      views.push({ view: copy.view, is: text(store.keys) })
      if (random(4) === 0) readers.add(makeReader(copy, store))
      for (const reader of readers) {
        if (random(3) === 0) yield* Effect.timeoutOption(reader.take, 0)
        else if (random(20) === 0 && readers.delete(reader)) reader.close()
      }
    }
    for (const { is, view } of views) assert.strictEqual(text(view), is)
    // Something for each to read.
    yield* copy.take([write()])
    for (const { has, take } of readers) {
      yield* take
      assert.strictEqual(has(), text(store.keys))
    }
  })

describe("a copy of keys", () => {
  it.effect("is its history, and so is what anybody reads of it", () =>
    Effect.gen(function* () {
      for (let seed = 0; seed < 30; seed++) yield* run(seed)
      for (const count of Object.values(told)) assert.isAbove(count, 50)
    })
  )
})
