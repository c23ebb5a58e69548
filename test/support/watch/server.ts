/**
 * A client whose watch calls end at the test: it sees what is asked, and says what is answered.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import type { Client, Duplex } from "../../../src/EtcdClient.ts"
import * as EtcdError from "../../../src/EtcdError.ts"
import { Event_EventType } from "../../../src/internal/proto/kv_pb.ts"
import {
  type RangeRequest,
  RangeRequestSchema,
  RangeResponseSchema,
  StatusResponseSchema,
  type WatchCreateRequest,
  type WatchRequest,
  WatchRequestSchema,
  type WatchResponse,
  WatchResponseSchema
} from "../../../src/internal/proto/rpc_pb.ts"

type Answer = MessageInitShape<typeof WatchResponseSchema>

export interface Call {
  readonly options: unknown
  /** All requests so far. */
  readonly requests: ReadonlyArray<WatchRequest>
  readonly creates: () => ReadonlyArray<WatchCreateRequest>
  readonly cancels: () => ReadonlyArray<bigint>
  /** All answers at once, as they may come from the network. */
  readonly answer: (...answers: ReadonlyArray<Answer>) => void
  /** Says that the nth watch asked for on this call is there. */
  readonly created: (n: number, revision: bigint) => void
  readonly fail: (error: EtcdError.EtcdError) => void
  readonly end: () => void
  /** Says that the server is about to stop. */
  readonly drain: () => void
  isClosed: boolean
}

export interface Server {
  readonly client: Client
  readonly calls: ReadonlyArray<Call>
  /** The nth call, as soon as it has been made and `watches` have been asked for on it. */
  readonly call: (n: number, watches: number) => Effect.Effect<Call>
  renewals: number
  version: string
  /** What was read. */
  readonly reads: Array<RangeRequest>
  /** What the next reads of a range answer. */
  readonly ranges: Array<MessageInitShape<typeof RangeResponseSchema>>
}

/** Waits until something holds. */
export const until = (holds: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() => (holds() ? Effect.void : Effect.andThen(Effect.sleep("1 millis"), until(holds))))

export const put = (revision: bigint, key = "k", value = "v") => ({
  type: Event_EventType.PUT,
  kv: {
    key: new TextEncoder().encode(key),
    value: new TextEncoder().encode(value),
    modRevision: revision,
    createRevision: revision,
    version: 1n
  }
})

export const lost = EtcdError.make(
  new EtcdError.ConnectionLost({ message: "the connection broke", outcome: "not-applied" })
)

const makeCall = (
  options: unknown,
  queue: Queue.Queue<WatchResponse, EtcdError.EtcdError | Cause.Done>,
  drained: Deferred.Deferred<void>
) => {
  const requests: Array<WatchRequest> = []
  const call: Call = {
    options,
    requests,
    creates: () => requests.flatMap(({ requestUnion: r }) => (r.case === "createRequest" ? [r.value] : [])),
    cancels: () => requests.flatMap(({ requestUnion: r }) => (r.case === "cancelRequest" ? [r.value.watchId] : [])),
    answer: (...answers) => {
      Queue.offerAllUnsafe(
        queue,
        answers.map((answer) => create(WatchResponseSchema, answer))
      )
    },
    created: (n, revision) => call.answer({ watchId: call.creates()[n]!.watchId, created: true, header: { revision } }),
    fail: (error) => {
      Queue.failCauseUnsafe(queue, Cause.fail(error))
    },
    end: () => {
      Queue.endUnsafe(queue)
    },
    drain: () => {
      Deferred.doneUnsafe(drained, Exit.void)
    },
    isClosed: false
  }
  const send = (message: MessageInitShape<typeof WatchRequestSchema>) =>
    Effect.sync(() => {
      requests.push(create(WatchRequestSchema, message))
    })
  return { call, send }
}

export const make = (): Server => {
  const calls: Array<Call> = []
  const bidirectional = (_method: unknown, options: unknown) =>
    Effect.gen(function* () {
      const queue = yield* Queue.unbounded<WatchResponse, EtcdError.EtcdError | Cause.Done>()
      const drained = yield* Deferred.make<void>()
      const { call, send } = makeCall(options, queue, drained)
      calls.push(call)
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          call.isClosed = true
        })
      )
      const duplex: Duplex<typeof WatchRequestSchema, typeof WatchResponseSchema> = {
        send,
        end: Effect.void,
        messages: Stream.fromQueue(queue),
        endpoint: "http://server",
        draining: Deferred.await(drained)
      }
      return duplex
    })
  const unary = (method: { readonly name: string }, request: MessageInitShape<typeof RangeRequestSchema>) =>
    Effect.sync(() => {
      if (method.name === "Status") return create(StatusResponseSchema, { version: server.version })
      server.reads.push(create(RangeRequestSchema, request))
      return create(RangeResponseSchema, server.ranges.shift())
    })
  const server: Server = {
    client: {
      bidirectional: bidirectional as unknown as Client["bidirectional"],
      unary: unary as unknown as Client["unary"],
      serverStream: () => Stream.die("not used"),
      defaults: () => ({}),
      endpoints: Effect.succeed(["http://server"]),
      renewToken: Effect.sync(() => {
        server.renewals++
      })
    },
    calls,
    call: (n, watches) =>
      Effect.map(
        until(() => (calls[n]?.creates().length ?? -1) >= watches),
        () => calls[n]!
      ),
    renewals: 0,
    version: "3.5.30",
    reads: [],
    ranges: []
  }
  return server
}
