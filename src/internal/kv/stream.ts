/**
 * All keys of a range, page by page, at one revision.
 *
 * The first page tells the revision; all others are read at it. They come by `RangeStream` where the server has it, and
 * otherwise, and whenever that breaks off, by `Range` from after the last key that came. So the retry rules of the
 * client, and its failover, are those of a plain read.
 *
 * Pages grow and shrink towards a size in bytes, by what the keys of the page before weighed, as a server does it in
 * `RangeStream`. One that turns out to be larger than a message may be is asked for again with fewer keys.
 *
 * For each `Range` before 3.7 a server counts all keys of the range asked for, so that pages of a long range cost the
 * square of its length. Therefore a page is asked for not up to the end of the range but within a window: the keys that
 * begin with what the first and the last key of the page before have in common. A window that is used up is followed by
 * one that is a byte of that beginning wider.
 *
 * @internal
 */
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Pull from "effect/Pull"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as EtcdClient from "../../EtcdClient.ts"
import type { EtcdError } from "../../EtcdError.ts"
import type { StreamOptions } from "../../EtcdKv.ts"
import type { KeyValue } from "../../EtcdResponse.ts"
import * as KeyRange from "../../KeyRange.ts"
import * as Wire from "../client/wire.ts"
import * as Keys from "../keys.ts"
import type * as Kv from "../proto/kv_pb.ts"
import * as Rpc from "../proto/rpc_pb.ts"

const firstPage = 32
const largestGrowth = 16
/** Where a page has been too large. */
const cautiousGrowth = 2
const targetBytes = 2 * 1024 * 1024
const defaultPageSize = 16_384

/** What a key costs on the wire besides its bytes and those of its value, about. */
const overhead = 24

type Page = Arr.NonEmptyReadonlyArray<Kv.KeyValue>
type PagePull = Pull.Pull<Page, EtcdError>
type ServerPull = Pull.Pull<Arr.NonEmptyReadonlyArray<Rpc.RangeStreamResponse>, EtcdError>

/** A `RangeStream` under way. */
interface Open {
  readonly pull: ServerPull
  readonly scope: Scope.Closeable
  hasGiven: boolean
}

interface Reader {
  readonly client: EtcdClient.Client
  readonly end: Uint8Array
  readonly options: StreamOptions
  readonly pageSize: number
  readonly scope: Scope.Scope
  /** From where to go on. */
  key: Uint8Array
  /** 0 until the first page has come. */
  revision: bigint
  /** Of the first page. */
  header: Rpc.ResponseHeader | undefined
  limit: number
  /** How many times as many keys as the page before a page may have. */
  growth: number
  /** The end of the next page: that of the range, or of the window. */
  windowEnd: Uint8Array
  done: boolean
  /** Whether to try `RangeStream`. */
  streams: boolean
  open: Open | undefined
}

const request = (reader: Reader) => ({
  key: reader.key,
  revision: reader.revision,
  serializable: reader.options.serializable ?? false,
  keysOnly: reader.options.keysOnly ?? false
})

const isNonEmpty = (kvs: ReadonlyArray<Kv.KeyValue>): kvs is Page => kvs.length > 0

const commonLength = (a: Uint8Array, b: Uint8Array): number => {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return i
  return length
}

const isBefore = (end: Uint8Array, other: Uint8Array): boolean =>
  !Keys.isUnbounded(end) && (Keys.isUnbounded(other) || Keys.compare(end, other) < 0)

/** The end of all keys with this beginning, or that of the range where it comes first. */
const windowOf = (beginning: Uint8Array, end: Uint8Array): Uint8Array => {
  const window = KeyRange.prefixEnd(beginning)
  return isBefore(window, end) ? window : end
}

const narrower = (page: Page, end: Uint8Array): Uint8Array => {
  const last = page[page.length - 1]!.key
  return windowOf(last.subarray(0, commonLength(page[0].key, last)), end)
}

const wider = (window: Uint8Array, end: Uint8Array): Uint8Array => windowOf(window.subarray(0, -1), end)

const nextLimit = (reader: Reader, page: Page): number => {
  let bytes = 0
  for (const kv of page) bytes += kv.key.length + kv.value.length + overhead
  const fitting = Math.floor((targetBytes * page.length) / bytes)
  return Math.max(1, Math.min(reader.pageSize, reader.limit * reader.growth, fitting))
}

const goOnAfter = (reader: Reader, page: Page): void => {
  reader.key = Keys.next(page[page.length - 1]!.key)
}

/** Takes up where the page leaves off. */
const advance = (reader: Reader, page: ReadonlyArray<Kv.KeyValue>, response: Rpc.RangeResponse): void => {
  reader.header ??= response.header
  if (reader.revision === 0n) reader.revision = response.header?.revision ?? 0n
  if (isNonEmpty(page) && response.more) {
    goOnAfter(reader, page)
    reader.limit = nextLimit(reader, page)
    if (response.count > BigInt(4 * reader.limit)) reader.windowEnd = narrower(page, reader.windowEnd)
  } else if (reader.windowEnd !== reader.end) {
    reader.key = reader.windowEnd
    reader.windowEnd = wider(reader.windowEnd, reader.end)
  } else {
    reader.done = true
  }
}

/** How large the values are that come next shows only when they have come. */
const mayBeTooLarge = ({ reason }: EtcdError): boolean =>
  reason._tag === "ProtocolViolation" || (reason._tag === "GrpcStatus" && reason.code === resourceExhausted)

/** What grpc-go says of an answer that is larger than it sends. */
const resourceExhausted = 8

/** The next page: with fewer keys where it would be larger than a message may be. */
const readPage = (reader: Reader): Effect.Effect<Rpc.RangeResponse, EtcdError> =>
  Effect.catchIf(
    askForPage(reader),
    (error) => mayBeTooLarge(error) && reader.limit > 1,
    () => {
      reader.limit = Math.max(1, Math.floor(reader.limit / largestGrowth))
      reader.growth = cautiousGrowth
      return readPage(reader)
    }
  )

const askForPage = (reader: Reader): Effect.Effect<Rpc.RangeResponse, EtcdError> => {
  const asked = { ...request(reader), rangeEnd: reader.windowEnd, limit: BigInt(reader.limit) }
  const answer = reader.client.unary(Rpc.KV.method.range, asked, reader.options)
  // Another member than that of the pages before may not have got as far as the revision.
  return asked.serializable && asked.revision !== 0n
    ? Effect.catchReason(answer, "EtcdError", "FutureRevision", () =>
        reader.client.unary(Rpc.KV.method.range, { ...asked, serializable: false }, reader.options)
      )
    : answer
}

const fromRange = (reader: Reader): PagePull =>
  Effect.flatMap(readPage(reader), (response) => {
    const page = response.kvs
    advance(reader, page, response)
    return isNonEmpty(page) ? Effect.succeed(page) : next(reader)
  })

const openStream = (reader: Reader): Effect.Effect<Open> =>
  Effect.gen(function* () {
    const scope = yield* Scope.fork(reader.scope)
    const asked = { ...request(reader), rangeEnd: reader.end }
    const responses = reader.client.serverStream(Rpc.KV.method.rangeStream, asked, reader.options)
    const pull = yield* Scope.provide(Stream.toPull(responses), scope)
    reader.open = { pull, scope, hasGiven: false }
    return reader.open
  })

const closeStream = (reader: Reader, open: Open): Effect.Effect<void> =>
  Effect.suspend(() => {
    reader.open = undefined
    return Scope.close(open.scope, Exit.void)
  })

const keysOf = (responses: ReadonlyArray<Rpc.RangeStreamResponse>): ReadonlyArray<Kv.KeyValue> =>
  responses.flatMap((response) => response.rangeResponse?.kvs ?? [])

const given = (reader: Reader, open: Open, page: ReadonlyArray<Kv.KeyValue>): PagePull => {
  if (!isNonEmpty(page)) return next(reader)
  open.hasGiven = true
  goOnAfter(reader, page)
  return Effect.succeed(page)
}

const ended = (reader: Reader, open: Open): PagePull => {
  reader.done = true
  return Effect.andThen(closeStream(reader, open), Cause.done())
}

/** What is wrong for good, the next `Range` will say. A `RangeStream` that gave nothing is not tried again. */
const brokeOff = (reader: Reader, open: Open): PagePull => {
  reader.streams = open.hasGiven
  reader.windowEnd = reader.end
  return Effect.andThen(closeStream(reader, open), fromRange(reader))
}

const fromRangeStream = (reader: Reader): PagePull =>
  Effect.flatMap(
    Effect.suspend(() => (reader.open === undefined ? openStream(reader) : Effect.succeed(reader.open))),
    (open) =>
      Pull.matchEffect(open.pull, {
        onSuccess: (responses): PagePull => given(reader, open, keysOf(responses)),
        onDone: () => ended(reader, open),
        onFailure: (cause) => (Cause.hasFails(cause) ? brokeOff(reader, open) : Effect.failCause(cause))
      })
  )

const next = (reader: Reader): PagePull =>
  Effect.suspend(() => {
    if (reader.done) return Cause.done()
    return reader.streams && reader.revision !== 0n ? fromRangeStream(reader) : fromRange(reader)
  })

/** A range as it is being read. */
export interface Reading {
  /** The keys as they came from the server. To be read once. */
  readonly kvs: Stream.Stream<Kv.KeyValue, EtcdError>
  /** What the server said of its store with the first page: before that, nothing. */
  readonly header: () => Rpc.ResponseHeader | undefined
}

export const read = (
  client: EtcdClient.Client,
  range: KeyRange.KeyRange,
  options: StreamOptions
): Effect.Effect<Reading, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope) => {
    const pageSize = options.pageSize ?? defaultPageSize
    const reader: Reader = {
      client,
      end: range.end,
      options,
      pageSize,
      scope,
      key: range.key,
      revision: options.revision ?? 0n,
      header: undefined,
      limit: Math.min(firstPage, pageSize),
      growth: largestGrowth,
      windowEnd: range.end,
      done: false,
      streams: true,
      open: undefined
    }
    const pages = Stream.fromPull(Effect.succeed(next(reader)))
    return { kvs: Stream.bufferArray(pages, { capacity: 1 }), header: () => reader.header }
  })

export const stream = (
  client: EtcdClient.Client,
  range: KeyRange.KeyRange,
  options: StreamOptions
): Stream.Stream<KeyValue, EtcdError> =>
  Stream.unwrap(Effect.map(read(client, range, options), ({ kvs }) => Stream.map(kvs, Wire.keyValue)))
