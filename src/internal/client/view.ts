/**
 * What members say of themselves: which cluster they belong to, who leads, and in which term.
 *
 * Each new connection is greeted with `Maintenance.Status`, before any call goes over it. A member answers that by
 * itself, without the others and without a leader; so the answer shows within a round trip that there is an etcd that
 * works, and that it is one of the cluster that the client talks to. A server that does not let everybody ask for its
 * status is taken as it is, and known by the headers of its answers.
 *
 * @internal
 */
import { fromBinary } from "@bufbuild/protobuf"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import type { Connection, Holder, Read, TransportError } from "../grpc/Transport.ts"
import { StatusResponseSchema } from "../proto/rpc_pb.ts"

/** What a member said of itself. It is replaced as a whole, so that a call can keep the one that it began with. */
export interface View {
  readonly clusterId: bigint
  readonly memberId: bigint
  /** 0: it knows no leader. `undefined`: it was not asked since its term changed. */
  readonly leader: bigint | undefined
  /** That of the last entry that the member has applied. */
  readonly term: bigint
  /** When it was said, in the client's time. */
  readonly at: number
}

const statusPath = "/etcdserverpb.Maintenance/Status"

const noBytes = new Uint8Array(0)

const read =
  (now: () => number): Read<View | undefined> =>
  (bytes, start, end) => {
    const answer = Result.try(() => fromBinary(StatusResponseSchema, bytes.subarray(start, end)))
    if (Result.isFailure(answer) || answer.success.header === undefined) return Exit.succeed(undefined)
    const { header, leader } = answer.success
    return Exit.succeed({
      clusterId: header.clusterId,
      memberId: header.memberId,
      leader,
      term: header.raftTerm,
      at: now()
    })
  }

/** The failures that mean that nobody answered. With any other, somebody did, who does not want to tell. */
const isSilence = (error: TransportError): boolean =>
  error.kind === "Deadline" || error.kind === "ConnectionLost" || error.kind === "Unreachable"

/** Asks a member over its connection. `undefined`: it answers, but not this. */
export const ask = (
  connection: Connection,
  timeoutMillis: number,
  now: () => number,
  holder?: Holder
): Effect.Effect<View | undefined, TransportError> =>
  Effect.catch(connection.unary(statusPath, noBytes, { timeoutMillis, holder }, read(now)), (error) =>
    isSilence(error) ? Effect.fail(error) : Effect.undefined
  )
