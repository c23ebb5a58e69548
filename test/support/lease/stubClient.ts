/**
 * A client whose lease calls end in the test: every stream that is opened, what was sent on it, and what to answer.
 */
import { create } from "@bufbuild/protobuf"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as EtcdClient from "../../../src/EtcdClient.ts"
import * as EtcdError from "../../../src/EtcdError.ts"
import * as Options from "../../../src/internal/options.ts"
import {
  type LeaseGrantRequest,
  LeaseGrantResponseSchema,
  type LeaseKeepAliveResponse,
  LeaseKeepAliveResponseSchema,
  LeaseRevokeResponseSchema
} from "../../../src/internal/proto/rpc_pb.ts"

export interface OpenStream {
  readonly endpoint: string
  readonly options: EtcdClient.CallOptions
  /** The ids that keep-alives were sent for, in order. */
  readonly sent: Array<bigint>
  closed: boolean
  readonly answer: (id: bigint, ttl: bigint) => void
  readonly fail: (error: EtcdError.EtcdError) => void
  /** The server is about to go, and waits for its calls to end. */
  readonly drain: () => void
}

export interface Stub {
  readonly client: EtcdClient.Client
  /** The ids that are taken. */
  readonly leases: Set<bigint>
  readonly streams: Array<OpenStream>
  readonly granted: Array<{ readonly id: bigint; readonly ttl: bigint }>
  readonly revoked: Array<bigint>
  /**
   * What comes of the next grants: of `lost` and `silent` ones the lease is there, of `broken` ones it is not, and nobody
   * is told.
   */
  readonly grants: Array<"ok" | "lost" | "silent" | "broken" | "refused" | "taken">
  /** Whether the server does not answer when a lease is to be revoked. */
  silent: boolean
  /** Answers what it has kept silent about. */
  readonly answerRevocations: () => void
  /** Why nothing may be revoked, if so. */
  unrevocable: EtcdError.EtcdError | undefined
  /** For how long, in milliseconds, a grant is not answered that is there. */
  delay: number
  /** The deadline of calls for leases whose callers set none. */
  deadline: Duration.Duration | undefined
  /** How many streams cannot be opened from now on. */
  unopenable: number
  /** How often the client breaks down when a stream is to be opened. */
  defects: number
  /** What is granted in place of what is asked for. */
  grantedTtl: bigint | undefined
}

export const failure = (outcome: "unknown" | "not-applied" = "unknown") =>
  EtcdError.make(new EtcdError.ConnectionLost({ message: "The connection broke.", outcome }))

const tooLate = EtcdError.make(new EtcdError.DeadlineExceeded({ message: "Too late.", outcome: "unknown" }))

export const make = (endpoints: ReadonlyArray<string> = ["a"]): Stub => {
  const leases = new Set<bigint>()
  const withheld = Latch.makeUnsafe()

  const grant = (request: LeaseGrantRequest) =>
    Effect.suspend(() => {
      const { TTL } = request
      const ID = request.ID || BigInt(leases.size + 1000)
      const fate = stub.grants.shift() ?? "ok"
      if (fate === "broken") return Effect.fail(failure())
      if (fate === "refused") return Effect.fail(Options.invalid("No."))
      if (fate === "taken" || leases.has(ID)) {
        return Effect.fail(EtcdError.make(new EtcdError.LeaseExists({ message: "Taken.", outcome: "not-applied" })))
      }
      leases.add(ID)
      stub.granted.push({ id: ID, ttl: TTL })
      if (fate === "silent") return Effect.never
      const answer =
        fate === "lost"
          ? Effect.fail(failure())
          : Effect.succeed(create(LeaseGrantResponseSchema, { ID, TTL: stub.grantedTtl ?? TTL }))
      return stub.delay === 0 ? answer : Effect.delay(answer, stub.delay)
    })

  const revoke = (id: bigint) =>
    Effect.suspend(() => {
      stub.revoked.push(id)
      if (stub.unrevocable !== undefined) return Effect.fail(stub.unrevocable)
      const answer = Effect.sync(() => {
        leases.delete(id)
        return create(LeaseRevokeResponseSchema, {})
      })
      return stub.silent ? Effect.andThen(withheld.await, answer) : answer
    })

  const open = Effect.fnUntraced(function* (options: EtcdClient.CallOptions) {
    const endpoint = options.endpoint ?? endpoints[0]!
    if (stub.defects > 0) {
      stub.defects--
      return yield* Effect.die("a defect of the client")
    }
    if (stub.unopenable > 0) {
      stub.unopenable--
      return yield* Effect.fail(failure("not-applied"))
    }
    const draining = yield* Deferred.make<void>()
    const answers = yield* Queue.unbounded<LeaseKeepAliveResponse, EtcdError.EtcdError>()
    const stream: OpenStream = {
      endpoint,
      options,
      sent: [],
      closed: false,
      answer: (ID, TTL) => void Queue.offerUnsafe(answers, create(LeaseKeepAliveResponseSchema, { ID, TTL })),
      fail: (error) => Effect.runSync(Queue.fail(answers, error)),
      drain: () => void Deferred.doneUnsafe(draining, Exit.void)
    }
    stub.streams.push(stream)
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        stream.closed = true
      })
    )
    return {
      send: (message: { readonly ID?: bigint }) => Effect.sync(() => void stream.sent.push(message.ID ?? 0n)),
      end: Effect.void,
      messages: Stream.fromQueue(answers),
      endpoint,
      draining: Deferred.await(draining),
      renewToken: Effect.succeed(true)
    }
  })

  const client = {
    unary: (
      method: { readonly name: string },
      request: any,
      { deadline = stub.deadline }: EtcdClient.CallOptions = {}
    ) => {
      const call: Effect.Effect<any, EtcdError.EtcdError> =
        method.name === "LeaseGrant" ? grant(request) : revoke(request.ID)
      return deadline === undefined
        ? call
        : Effect.timeoutOrElse(call, { duration: deadline, orElse: () => Effect.fail(tooLate) })
    },
    serverStream: () => Stream.die("not here"),
    bidirectional: (_: unknown, options: EtcdClient.CallOptions = {}) => open(options),
    defaults: () => ({ deadline: stub.deadline, retry: EtcdClient.defaultRetry }),
    endpoints: Effect.succeed(endpoints)
  } as unknown as EtcdClient.Client
  const stub: Stub = {
    client,
    leases,
    streams: [],
    granted: [],
    revoked: [],
    grants: [],
    silent: false,
    unrevocable: undefined,
    answerRevocations: () => void withheld.openUnsafe(),
    delay: 0,
    deadline: undefined,
    unopenable: 0,
    defects: 0,
    grantedTtl: undefined
  }
  return stub
}
