/**
 * What members say of themselves: which cluster they belong to, who leads, and in which term.
 *
 * Each new connection is greeted with `Maintenance.Status`, before any call goes over it. A member answers that by
 * itself, without the others and without a leader; so the answer shows within a round trip that there is an etcd that
 * works, and that it is one of the cluster that the client talks to. Where users are authenticated, newer versions of etcd
 * tell it only to those who show a token: it is shown to whom has asked for it, and to nobody else, who may be of another
 * cluster. A server that does not tell all the same is taken as it is, and known by the headers of its answers.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { CallOptions, Connection, Read, TransportError } from "../grpc/Transport.ts"
import { StatusResponseSchema } from "../proto/rpc_pb.ts"
import * as Codec from "./codec.ts"

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
    const answer = Codec.decode(StatusResponseSchema, bytes, start, end)
    if (Exit.isFailure(answer) || answer.value.header === undefined) return Exit.succeed(undefined)
    const { header, leader } = answer.value
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

/** The answer of a member that tells only those who show who they are. */
const isReserve = ({ kind, message }: TransportError): boolean =>
  kind === "Status" && /user name is empty/.test(message)

/** What a member answers: `undefined`, that it does not tell; `reserved`, that it may tell those who show a token. */
export type Answer = View | "reserved" | undefined

/** Asks a member over its connection. */
export const ask = (
  connection: Connection,
  now: () => number,
  options: CallOptions
): Effect.Effect<Answer, TransportError> =>
  Effect.catch(connection.unary<Answer>(statusPath, noBytes, options, read(now)), (error) =>
    isSilence(error) ? Effect.fail(error) : Effect.succeed(isReserve(error) ? "reserved" : undefined)
  )
