/**
 * A transport without a network: for each address, a function that says what comes of a dial and of each call.
 */
import { create, toBinary } from "@bufbuild/protobuf"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { readBytes } from "../../../src/internal/grpc/framing.ts"
import {
  type CallOptions,
  type Connection,
  type Read,
  type Target,
  type Transport,
  TransportError
} from "../../../src/internal/grpc/Transport.ts"
import { StatusResponseSchema } from "../../../src/internal/proto/rpc_pb.ts"

export interface Sent {
  readonly address: string
  readonly path: string
  readonly request: Uint8Array
  readonly options: CallOptions
}

export interface Server {
  /** What comes of a dial. Default: it succeeds. */
  dial?: (() => Effect.Effect<void, TransportError>) | undefined
  /** What comes of a call. */
  answer: (call: Sent) => Effect.Effect<Uint8Array, TransportError>
  /** What it tells the client itself, when that greets it or asks who leads. Default: it does not want to tell. */
  status?: ((question: CallOptions) => Effect.Effect<Status, TransportError>) | undefined
  /** How many bytes have come from it besides its answers: of those that are still on their way, or of streams. */
  bytes?: (() => number) | undefined
  /** Whether there is room for another call. Where there is none, calls wait for ever. Default: there is. */
  hasRoom?: (() => boolean) | undefined
}

/** What a member says of itself. */
export interface Status {
  readonly clusterId: bigint
  readonly memberId: bigint
  readonly leader: bigint
  readonly term: bigint
}

const statusBytes = ({ clusterId, leader, memberId, term }: Status): Uint8Array =>
  toBinary(
    StatusResponseSchema,
    create(StatusResponseSchema, { header: { clusterId, memberId, raftTerm: term }, leader })
  )

export interface Fake {
  readonly transport: Transport
  /** Every call that was sent, in order. */
  readonly sent: Array<Sent>
  /** Every dial, by address. */
  readonly dials: Array<string>
  /** Ends the connections to an address, as a server that goes away or drains. */
  readonly drop: (address: string, reason?: TransportError) => void
  /** How many connections are open. */
  readonly open: () => number
}

export const addressOf = (target: Target): string =>
  target._tag === "Tcp" ? `${target.host}:${target.port}` : target.path

export const failure = (
  kind: TransportError["kind"],
  processed: TransportError["processed"],
  message: string = kind,
  code = 14
): TransportError => new TransportError({ kind, code, processed, message })

export const status = (code: number, message: string): TransportError => failure("Status", "yes", message, code)

/** A call that whoever holds it can end. */
const endable = <A>(call: Effect.Effect<A, TransportError>, isSent: boolean, options: CallOptions | undefined) => {
  const holder = options?.holder
  if (holder === undefined) return call
  return Effect.suspend(() => {
    const ended = Deferred.makeUnsafe<A, TransportError>()
    holder.begun = {
      isSent,
      waitsFor: undefined,
      end: (error) => {
        if (error !== undefined) Deferred.doneUnsafe(ended, Exit.fail(error))
      }
    }
    return Effect.raceFirst(call, Deferred.await(ended))
  })
}

/** Whether the client asks for itself, and not for its caller. */
const isQuestion = (path: string, options: CallOptions | undefined): boolean =>
  path.endsWith("Maintenance/Status") && !(options?.holder !== undefined && "call" in options.holder)

const tellStatus = (server: Server, question: CallOptions = {}): Effect.Effect<Uint8Array, TransportError> =>
  server.status === undefined
    ? Effect.fail(status(12, "unknown method"))
    : Effect.map(server.status(question), statusBytes)

/** By the clock of who calls. */
const withinTimeout = <A>(call: Effect.Effect<A, TransportError>, isSent: boolean, options: CallOptions | undefined) =>
  options?.timeoutMillis === undefined
    ? call
    : Effect.timeoutOrElse(call, {
        duration: options.timeoutMillis,
        orElse: () => Effect.fail(failure("Deadline", isSent ? "unknown" : "no", "no answer in time", 4))
      })

export const make = (servers: { [address: string]: Server }): Fake => {
  const sent: Array<Sent> = []
  const dials: Array<string> = []
  const connections = new Map<Deferred.Deferred<TransportError>, string>()

  const connect: Transport["connect"] = (target) =>
    Effect.gen(function* () {
      const address = addressOf(target)
      dials.push(address)
      const server = servers[address]
      if (server === undefined) return yield* failure("Unreachable", "no", `connect ECONNREFUSED ${address}`)
      if (server.dial !== undefined) yield* server.dial()
      const closed = yield* Deferred.make<TransportError>()
      let answers = 0
      connections.set(closed, address)
      yield* Scope.addFinalizer(
        yield* Effect.scope,
        Effect.sync(() => connections.delete(closed))
      )
      const call = (path: string, request: Uint8Array, options: CallOptions = {}) =>
        Effect.suspend(() => {
          const call = { address, path, request, options }
          if (!connections.has(closed)) return Effect.fail(failure("Unreachable", "no", "the connection is closed"))
          sent.push(call)
          return server.answer(call)
        })
      const unary: Connection["unary"] = <A>(
        path: string,
        request: Uint8Array,
        options?: CallOptions | undefined,
        read: Read<A> = readBytes as Read<any>
      ) => {
        const hasRoom = server.hasRoom?.() ?? true
        const asked = isQuestion(path, options) ? tellStatus(server, options) : call(path, request, options)
        const answered = Effect.onExit(hasRoom ? asked : Effect.never, (exit) =>
          Effect.sync(() => {
            if (!Exit.hasInterrupts(exit)) answers++
          })
        )
        const inTime = withinTimeout(answered, hasRoom, options)
        return Effect.flatMap(endable(inTime, hasRoom, options), (answer) => read(answer, 0, answer.length))
      }
      return {
        unary,
        serverStream: (path, request, options) => Stream.fromEffect(call(path, request, options)),
        bidirectional: (path, options) =>
          Effect.succeed({
            send: (message) => Effect.asVoid(call(path, message, options)),
            end: Effect.void,
            messages: Stream.fromEffect(call(path, new Uint8Array(0), options))
          }),
        closed: Deferred.await(closed),
        bytesHeard: () => answers + (server.bytes?.() ?? 0),
        probe: () => {}
      }
    })

  return {
    transport: { name: "fake", connect },
    sent,
    dials,
    drop: (address, reason = failure("ConnectionLost", "unknown", "the connection was dropped")) => {
      for (const [closed, at] of connections) {
        if (at === address) Deferred.doneUnsafe(closed, Exit.succeed(reason))
      }
    },
    open: () => connections.size
  }
}
