/**
 * A client whose lease calls end in the test: every stream that is opened, what was sent on it, and what to answer.
 */
import { create } from "@bufbuild/protobuf"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import type * as EtcdClient from "../../../src/EtcdClient.ts"
import * as EtcdError from "../../../src/EtcdError.ts"
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
}

export interface Stub {
  readonly client: EtcdClient.Client
  readonly streams: Array<OpenStream>
  readonly granted: Array<{ readonly id: bigint; readonly ttl: bigint }>
  readonly revoked: Array<bigint>
  /** What comes of the next grants: of `lost` and `silent` ones the lease is there, and nobody is told. */
  readonly grants: Array<"ok" | "lost" | "silent" | "refused" | "taken">
  /** Whether the server does not answer when a lease is to be revoked. */
  silent: boolean
  /** How many streams cannot be opened from now on. */
  unopenable: number
  /** What is granted in place of what is asked for. */
  grantedTtl: bigint | undefined
}

export const failure = (outcome: "unknown" | "not-applied" = "unknown") =>
  EtcdError.make(new EtcdError.ConnectionLost({ message: "The connection broke.", outcome }))

export const make = (endpoints: ReadonlyArray<string> = ["a"]): Stub => {
  const leases = new Set<bigint>()

  const grant = (request: LeaseGrantRequest) =>
    Effect.suspend(() => {
      const { ID, TTL } = request
      const fate = stub.grants.shift() ?? "ok"
      if (fate === "refused") return Effect.fail(EtcdError.invalid("No."))
      if (fate === "taken" || leases.has(ID)) {
        return Effect.fail(EtcdError.make(new EtcdError.LeaseExists({ message: "Taken.", outcome: "not-applied" })))
      }
      leases.add(ID)
      stub.granted.push({ id: ID, ttl: TTL })
      if (fate === "silent") return Effect.never
      return fate === "lost"
        ? Effect.fail(failure())
        : Effect.succeed(create(LeaseGrantResponseSchema, { ID, TTL: stub.grantedTtl ?? TTL }))
    })

  const revoke = (id: bigint) =>
    Effect.suspend(() => {
      stub.revoked.push(id)
      if (stub.silent) return Effect.never
      leases.delete(id)
      return Effect.succeed(create(LeaseRevokeResponseSchema, {}))
    })

  const open = Effect.fnUntraced(function* (options: EtcdClient.CallOptions) {
    const endpoint = options.endpoint ?? endpoints[0]!
    if (stub.unopenable > 0) {
      stub.unopenable--
      return yield* Effect.fail(failure("not-applied"))
    }
    const answers = yield* Queue.unbounded<LeaseKeepAliveResponse, EtcdError.EtcdError>()
    const stream: OpenStream = {
      endpoint,
      options,
      sent: [],
      closed: false,
      answer: (ID, TTL) => void Queue.offerUnsafe(answers, create(LeaseKeepAliveResponseSchema, { ID, TTL })),
      fail: (error) => Effect.runSync(Queue.fail(answers, error))
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
      endpoint
    }
  })

  const client = {
    unary: (method: { readonly name: string }, request: any) =>
      method.name === "LeaseGrant" ? grant(request) : revoke(request.ID),
    serverStream: () => Stream.die("not here"),
    bidirectional: (_: unknown, options: EtcdClient.CallOptions = {}) => open(options),
    endpoints: Effect.succeed(endpoints),
    renewToken: Effect.void
  } as unknown as EtcdClient.Client
  const stub: Stub = {
    client,
    streams: [],
    granted: [],
    revoked: [],
    grants: [],
    silent: false,
    unopenable: 0,
    grantedTtl: undefined
  }
  return stub
}
