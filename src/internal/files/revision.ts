/**
 * The newest revision that is in a database of etcd: what a member that is started with it begins with. And which version's it
 * is, and who it says was removed.
 *
 * It is that of the last key in the bucket `key`, whose keys are revisions; or of a compaction, if that is newer, since it
 * may have removed the last ones (`restore` in etcd's `server/storage/mvcc/kvstore.go`). Only the pages on the way to it are
 * read. (Facts: `internal/common/page.go`, `inode.go` and `bucket.go` of bbolt.)
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import type { PlatformError } from "effect/PlatformError"
import * as Bolt from "./bolt.ts"

/** Reads so many bytes from a place on; fewer, where the file ends. */
export type Read<E, R> = (from: number, length: number) => Effect.Effect<Uint8Array, E, R>

/** Reads in a file that lies there. */
export const inFile = <A, E>(path: string, use: (read: Read<PlatformError, never>) => Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const file = yield* (yield* FileSystem.FileSystem).open(path, { flag: "r" })
    return yield* use(
      Effect.fnUntraced(function* (from, length) {
        yield* file.seek(BigInt(from), "start")
        const bytes = new Uint8Array(length)
        let read = 0
        for (let more = -1; more !== 0 && read < length; read += more) more = yield* file.read(bytes.subarray(read))
        return bytes.subarray(0, read)
      })
    )
  }).pipe(Effect.scoped)

const branch = 0x01
const pageHead = 16
const elementBytes = 16
const bucketHead = 16
/** Trees are not as high: what goes deeper goes in a circle. */
const deepest = 32

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

interface Element {
  readonly key: Uint8Array
  /** What a leaf has. */
  readonly value: Uint8Array
  /** Where a branch leads. */
  readonly page: number
}

interface Page {
  readonly isBranch: boolean
  readonly elements: ReadonlyArray<Element>
}

/** Fails with a `RangeError` where the page does not make sense. */
const parse = (bytes: Uint8Array): Page => {
  const view = viewOf(bytes)
  const isBranch = view.getUint16(8, true) === branch
  const slice = (from: number, length: number) => {
    if (length > 0) view.getUint8(from + length - 1)
    return bytes.subarray(from, from + length)
  }
  const elements = Array.from({ length: view.getUint16(10, true) }, (_, index): Element => {
    const at = pageHead + index * elementBytes
    if (isBranch) {
      const key = slice(at + view.getUint32(at, true), view.getUint32(at + 4, true))
      return { key, value: key, page: Number(view.getBigUint64(at + 8, true)) }
    }
    const from = at + view.getUint32(at + 4, true)
    const length = view.getUint32(at + 8, true)
    return { key: slice(from, length), value: slice(from + length, view.getUint32(at + 12, true)), page: 0 }
  })
  return { isBranch, elements }
}

class Senseless {
  readonly _tag = "Senseless"
}

const sensible = <A>(read: () => A): Effect.Effect<A, Senseless> =>
  Effect.try({ try: read, catch: () => new Senseless() })

/** Where what is there makes no sense. */
const otherwise =
  <B>(answer: () => B) =>
  <A, E, R>(self: Effect.Effect<A, E, R>) =>
    Effect.catchIf(
      self,
      (error) => error instanceof Senseless,
      () => Effect.sync(answer)
    )

const found = <A>(value: A | undefined): Effect.Effect<A, Senseless> =>
  value === undefined ? Effect.fail(new Senseless()) : Effect.succeed(value)

/** The revision that the beginning of a key, or of what a compaction has written, stands for. */
const revisionOf = (bytes: Uint8Array) => sensible(() => viewOf(bytes).getBigInt64(0, false))

/** Goes down from the root. Where something does not make sense on the way, there is nothing. */
const reader = Effect.fnUntraced(function* <E, R>(read: Read<E, R>) {
  const head = yield* found(Bolt.headOf(yield* read(0, Bolt.headBytes)))
  const pageAt = Effect.fnUntraced(function* (page: number) {
    const first = yield* read(page * head.pageSize, head.pageSize)
    const more = yield* sensible(() => viewOf(first).getUint32(12, true))
    if (more > head.pages) return yield* Effect.fail(new Senseless())
    const bytes = more === 0 ? first : yield* read(page * head.pageSize, head.pageSize * (1 + more))
    return yield* sensible(() => parse(bytes))
  })
  /** Goes down to the leaf to which a choice among the elements of each branch leads. */
  const leafBelow = Effect.fnUntraced(function* (
    top: Page,
    choose: (elements: Page["elements"]) => Element | undefined
  ) {
    let page = top
    for (let depth = 0; page.isBranch; depth++) {
      if (depth === deepest) return yield* Effect.fail(new Senseless())
      page = yield* pageAt((yield* found(choose(page.elements))).page)
    }
    return page.elements
  })
  const valueOf = Effect.fnUntraced(function* (top: Page, name: string) {
    const key = new TextEncoder().encode(name)
    const leaf = yield* leafBelow(
      top,
      (elements) => elements.findLast((one) => Buffer.compare(one.key, key) <= 0) ?? elements[0]
    )
    return leaf.find((one) => Buffer.compare(one.key, key) === 0)?.value
  })
  const root = yield* pageAt(head.root)
  /** A bucket that is small is in place. */
  const bucket = Effect.fnUntraced(function* (name: string) {
    const value = yield* found(yield* valueOf(root, name))
    const page = yield* sensible(() => viewOf(value).getBigUint64(0, true))
    return page === 0n ? yield* sensible(() => parse(value.subarray(bucketHead))) : yield* pageAt(Number(page))
  })
  return { bucket, leafBelow, valueOf }
})

/** Reads the newest revision; nothing, where there is no database of etcd, or one that is damaged on the way. */
export const newest = <E, R>(read: Read<E, R>): Effect.Effect<bigint | undefined, E, R> =>
  Effect.gen(function* () {
    const { bucket, leafBelow, valueOf } = yield* reader(read)
    const last = (yield* leafBelow(yield* bucket("key"), (elements) => elements.at(-1))).at(-1)
    const meta = yield* bucket("meta")
    const compactions = yield* Effect.forEach(["finishedCompactRev", "scheduledCompactRev"], (name) =>
      valueOf(meta, name)
    )
    const revisions = yield* Effect.forEach(
      [last?.key, ...compactions].filter((bytes) => bytes !== undefined),
      revisionOf
    )
    // A store without any key is at revision 1.
    return revisions.reduce((most, one) => (one > most ? one : most), 1n)
  }).pipe(otherwise(() => undefined))

/** Reads the version of the layout, as in `3.6.0`, which etcd writes from 3.6 on; nothing, where it is not there. */
export const storageVersion = <E, R>(read: Read<E, R>): Effect.Effect<string | undefined, E, R> =>
  Effect.gen(function* () {
    const { bucket, valueOf } = yield* reader(read)
    const value = yield* valueOf(yield* bucket("meta"), "storageVersion")
    return value === undefined ? undefined : new TextDecoder().decode(value)
  }).pipe(otherwise(() => undefined))

/** Whether it says that a member was removed. */
export const hasRemoved =
  (memberId: bigint) =>
  <E, R>(read: Read<E, R>): Effect.Effect<boolean, E, R> =>
    Effect.gen(function* () {
      const { bucket, valueOf } = yield* reader(read)
      return (yield* valueOf(yield* bucket("members_removed"), memberId.toString(16))) !== undefined
    }).pipe(otherwise(() => false))

/** As etcd writes it: a member that was just added has no name. */
interface Member {
  readonly name?: string
  readonly peerURLs: ReadonlyArray<string>
}

/** Who the members are that it knows of, and how they reach each other. */
export const members = <E, R>(read: Read<E, R>): Effect.Effect<ReadonlyArray<Member>, E, R> =>
  Effect.gen(function* () {
    const { bucket, leafBelow } = yield* reader(read)
    const leaf = yield* leafBelow(yield* bucket("members"), ([first]) => first)
    return yield* sensible(() => leaf.map(({ value }): Member => JSON.parse(new TextDecoder().decode(value))))
  }).pipe(otherwise(() => []))
