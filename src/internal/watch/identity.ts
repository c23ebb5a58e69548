/**
 * Whether the store is still the one that a watch has seen.
 *
 * A store that was restored from a backup, or whose data was wiped, answers at the same address as if nothing had
 * happened, and is silent to a watch until it has passed the revision that the watch was at. What shows it: a revision
 * or a raft term that is behind what was seen, or a history without a write that was delivered. A member that only lags
 * behind its leader shows the first two as well, so that none of them is believed before a linearizable read has said
 * the same, which no lagging member answers from what it has. It is the same member that is asked: where two stores have
 * the same ids, as those have that were set up in the same way, another one knows nothing of it.
 *
 * A member tells the term of the last entry that it has applied, and one that was just given the leader's snapshot has
 * applied none (`applySnapshot` in etcd's `server/etcdserver/server.go`). Therefore a term that is behind counts only if
 * the leader itself says so.
 *
 * A new history that has passed the revision and the term of the old one, and that has the same write at the same
 * revision, cannot be told from it.
 *
 * @internal
 */
import type { MessageInitShape } from "@bufbuild/protobuf"
import * as Effect from "effect/Effect"
import type { CallOptions, Client } from "../../EtcdClient.ts"
import * as EtcdError from "../../EtcdError.ts"
import * as Keys from "../keys.ts"
import * as Rpc from "../proto/rpc_pb.ts"

/** How far a store was, by what a server said. */
export interface Position {
  readonly revision: bigint
  readonly term: bigint
}

/** A write that was delivered. A history that has its revision has it too, or is another one. */
export interface Write {
  readonly key: Uint8Array
  readonly revision: bigint
}

export const unknown: Position = { revision: 0n, term: 0n }

export const positionOf = (header: Rpc.ResponseHeader | undefined): Position =>
  header === undefined ? unknown : { revision: header.revision, term: header.raftTerm }

/** What both have seen. */
export const later = (a: Position, b: Position): Position => {
  if (b.revision >= a.revision && b.term >= a.term) return b
  return {
    revision: a.revision > b.revision ? a.revision : b.revision,
    term: a.term > b.term ? a.term : b.term
  }
}

/** Whether what a server says is behind what was seen: the store may be another, or the server may lag. */
export const isBehind = (now: Position, seen: Position): boolean => now.revision < seen.revision || now.term < seen.term

export interface Question {
  /** Whom it is about. */
  readonly endpoint: string
  /** A key that may be read. */
  readonly key: Uint8Array
  readonly write: Write | undefined
  /** The latest term that anybody has seen who asks. */
  readonly term: bigint
}

export interface Evidence {
  /** Undefined where the server did not say. */
  readonly now: Position | undefined
  /** The write that the history does not have. */
  readonly missing: Write | undefined
  /** The leader's term, where it was asked for and could be. */
  readonly term: bigint | undefined
}

const advice =
  'It was probably restored from a backup, or its data was wiped. Read the current state and watch from there, or let `snapshot: "when-compacted"` do so.'

const regressed = (seen: Position, now: Position, what: string): EtcdError.EtcdError =>
  EtcdError.make(
    new EtcdError.RevisionRegressed({
      message: `The store is not the one that was watched: ${what}. ${advice}`,
      outcome: "not-applied",
      method: "Watch.Watch",
      seen: seen.revision,
      current: now.revision
    })
  )

/** That the store has gone back, for somebody who has seen so much, if it has. */
export const regressionOf = (seen: Position, { missing, now, term }: Evidence): EtcdError.EtcdError | undefined => {
  if (now === undefined) return undefined
  if (now.revision < seen.revision) {
    return regressed(seen, now, `it was at revision ${seen.revision}, and is at ${now.revision} now`)
  }
  if (missing !== undefined && missing.revision <= seen.revision) {
    const key = Keys.show(missing.key)
    return regressed(
      seen,
      now,
      `revision ${missing.revision} wrote ${key}, and its history does not have that any more`
    )
  }
  if (term !== undefined && term < seen.term) {
    return regressed(seen, now, `its leader was at raft term ${seen.term}, and is at ${term} now`)
  }
  return undefined
}

type RangeRequest = MessageInitShape<typeof Rpc.RangeRequestSchema>

/** As little as a read can be. */
const range = (client: Client, request: RangeRequest, options: CallOptions) =>
  client.unary(Rpc.KV.method.range, { limit: 1n, keysOnly: true, ...request }, options)

type Found = Omit<Evidence, "term">

const found = (header: Rpc.ResponseHeader | undefined, missing: Write | undefined): Found => ({
  now: header === undefined ? undefined : positionOf(header),
  missing
})

const lookNow = (client: Client, key: Uint8Array, missing: Write | undefined, options: CallOptions) =>
  Effect.map(range(client, { key }, options), ({ header }) => found(header, missing))

const lookBack = (client: Client, write: Write, options: CallOptions) =>
  range(client, { key: write.key, revision: write.revision }, options).pipe(
    Effect.map(({ header, kvs }) => found(header, kvs[0]?.modRevision === write.revision ? undefined : write)),
    Effect.catchReason("EtcdError", "Compacted", () => lookNow(client, write.key, undefined, options)),
    Effect.catchReason("EtcdError", "FutureRevision", () => lookNow(client, write.key, write, options))
  )

/** The term that the leader is at, if it is among those that can be asked. */
const leaderTerm = Effect.fnUntraced(function* (
  client: Client,
  { endpoint: first, key }: Question,
  options: CallOptions
) {
  const all = options.endpoint === undefined ? yield* client.endpoints : []
  for (const endpoint of new Set([first, ...all])) {
    const there = { ...options, endpoint }
    const term = yield* Effect.gen(function* () {
      const { header, leader } = yield* client.unary(Rpc.Maintenance.method.status, {}, there)
      if (leader === 0n || leader !== header?.memberId) return undefined
      return positionOf((yield* range(client, { key }, there)).header).term
    }).pipe(Effect.catch(() => Effect.undefined))
    if (term !== undefined) return term
  }
  return undefined
})

/** Looks at the store. `once` makes one try, for what need not be known. */
export const look = Effect.fnUntraced(function* (
  client: Client,
  question: Question,
  options: CallOptions,
  once: Client
): Effect.fn.Return<Evidence, EtcdError.EtcdError> {
  const { endpoint, key, term, write } = question
  const there = { ...options, endpoint }
  const { missing, now } = yield* write === undefined
    ? lookNow(client, key, undefined, there)
    : lookBack(client, write, there)
  const isPast = now !== undefined && now.term < term
  return { now, missing, term: isPast ? yield* leaderTerm(once, question, options) : undefined }
})
