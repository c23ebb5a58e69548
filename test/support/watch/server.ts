/**
 * A client whose watch calls end at the test: it sees what is asked, and says what is answered.
 *
 * Single keys that are looked up are those that calls and ranges have told of; ranges are answered as the test says.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import type { CallOptions, Client, Duplex } from "../../../src/EtcdClient.ts"
import * as EtcdError from "../../../src/EtcdError.ts"
import { type Event, Event_EventType } from "../../../src/internal/proto/kv_pb.ts"
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
import { until } from "../machine.ts"

type Answer = MessageInitShape<typeof WatchResponseSchema>

export interface Call {
  readonly options: CallOptions
  readonly endpoint: string
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
  /** Whether the client of the watches could get another token. Default: it could. */
  hasCredentials: boolean
  version: string
  /** What was read. */
  readonly reads: Array<RangeRequest>
  /** What the next reads of a range answer. */
  readonly ranges: Array<MessageInitShape<typeof RangeResponseSchema>>
  /** Single keys that were looked up. */
  readonly looks: Array<RangeRequest>
  /** Where the store is, if that is not what the calls have told. */
  store: { readonly revision: bigint; readonly term: bigint } | undefined
  /** The term that the leader is at. */
  leaderTerm: bigint | undefined
  /** What happens before a read is answered. */
  beforeRead: Effect.Effect<void, EtcdError.EtcdError>
  /** Where the last read was made, if it had to be there. */
  readAt: string | undefined
  /** What happens before a server says which version it is. */
  beforeStatus: (endpoint: string) => Effect.Effect<void, EtcdError.EtcdError>
  /** How often a server was asked for its version. */
  statuses: number
  /** What happens before a call is there. */
  beforeCall: (endpoint: string) => Effect.Effect<void, EtcdError.EtcdError>
  /** What happens when a call is closed. */
  onClose: Effect.Effect<void>
  endpoints: ReadonlyArray<string>
  /** Lets go of what the calls have told: the store is another. */
  readonly forget: () => void
  /** Something that the store has, and that no call has told. */
  readonly remember: (event: ReturnType<typeof put>) => void
}

/** Where the leader is, if it is one of the endpoints. */
export const leaderEndpoint = "http://leader"

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
  options: CallOptions,
  endpoint: string,
  queue: Queue.Queue<WatchResponse, EtcdError.EtcdError | Cause.Done>,
  drained: Deferred.Deferred<void>,
  told: Array<WatchResponse>
) => {
  const requests: Array<WatchRequest> = []
  const call: Call = {
    options,
    endpoint,
    requests,
    creates: () => requests.flatMap(({ requestUnion: r }) => (r.case === "createRequest" ? [r.value] : [])),
    cancels: () => requests.flatMap(({ requestUnion: r }) => (r.case === "cancelRequest" ? [r.value.watchId] : [])),
    answer: (...answers) => {
      const messages = answers.map((answer) => create(WatchResponseSchema, answer))
      told.push(...messages)
      Queue.offerAllUnsafe(queue, messages)
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
  const told: Array<WatchResponse> = []
  const bidirectional = (_method: unknown, options: CallOptions) =>
    Effect.gen(function* () {
      const endpoint = options.endpoint ?? server.endpoints[0]!
      yield* server.beforeCall(endpoint)
      const queue = yield* Queue.unbounded<WatchResponse, EtcdError.EtcdError | Cause.Done>()
      const drained = yield* Deferred.make<void>()
      const { call, send } = makeCall(options, endpoint, queue, drained, told)
      calls.push(call)
      yield* Effect.addFinalizer(() =>
        Effect.suspend(() => {
          call.isClosed = true
          return server.onClose
        })
      )
      const duplex: Duplex<typeof WatchRequestSchema, typeof WatchResponseSchema> = {
        send,
        end: Effect.void,
        messages: Stream.fromQueue(queue),
        endpoint,
        draining: Deferred.await(drained),
        renewToken: Effect.sync(() => {
          server.renewals++
          return server.hasCredentials
        })
      }
      return duplex
    })
  const latest = (all: ReadonlyArray<bigint>): bigint => all.reduce((max, one) => (one > max ? one : max), 0n)
  const revisions = () =>
    told.flatMap(({ events, header }) => [header?.revision ?? 0n, ...events.map(({ kv }) => kv!.modRevision)])
  const terms = () => told.map(({ header }) => header?.raftTerm ?? 0n)
  const header = (term?: bigint) => ({
    memberId: 1n,
    revision: server.store?.revision ?? latest(revisions()),
    raftTerm: term ?? server.store?.term ?? latest(terms())
  })
  const isKey = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0
  const look = ({ key, revision }: RangeRequest, endpoint: string | undefined) => {
    const last = told
      .flatMap(({ events }) => events)
      .filter(({ kv }) => isKey(kv!.key, key) && (revision === 0n || kv!.modRevision <= revision))
      .reduce<Event | undefined>(
        (max, one) => (max !== undefined && max.kv!.modRevision > one.kv!.modRevision ? max : one),
        undefined
      )
    return create(RangeResponseSchema, {
      header: header(endpoint === leaderEndpoint ? server.leaderTerm : undefined),
      kvs: last?.type === Event_EventType.PUT ? [last.kv!] : []
    })
  }
  const unary = (
    method: { readonly name: string },
    message: MessageInitShape<typeof RangeRequestSchema>,
    options: CallOptions
  ) =>
    Effect.gen(function* () {
      if (method.name === "Status") {
        server.statuses++
        yield* server.beforeStatus(options.endpoint!)
        const leader = options.endpoint === leaderEndpoint ? 1n : 2n
        return create(StatusResponseSchema, { version: server.version, header: header(), leader })
      }
      const request = create(RangeRequestSchema, message)
      const isLook = request.keysOnly
      ;(isLook ? server.looks : server.reads).push(request)
      server.readAt = options.endpoint
      yield* server.beforeRead
      return isLook ? look(request, options.endpoint) : nextRange()
    })
  const nextRange = () => {
    const response = create(RangeResponseSchema, server.ranges.shift())
    const { header, kvs } = response
    const events = kvs.map((kv) => ({ type: Event_EventType.PUT, kv }))
    told.push(create(WatchResponseSchema, header === undefined ? { events } : { header, events }))
    return response
  }
  const server: Server = {
    client: {
      bidirectional: bidirectional as unknown as Client["bidirectional"],
      unary: unary as unknown as Client["unary"],
      serverStream: () => Stream.fail(lost),
      defaults: () => ({}),
      endpoints: Effect.sync(() => server.endpoints)
    },
    calls,
    call: (n, watches) =>
      Effect.map(
        until(() => (calls[n]?.creates().length ?? -1) >= watches),
        () => calls[n]!
      ),
    renewals: 0,
    hasCredentials: true,
    version: "3.5.30",
    reads: [],
    ranges: [],
    looks: [],
    store: undefined,
    leaderTerm: undefined,
    beforeRead: Effect.void,
    readAt: undefined,
    beforeStatus: () => Effect.void,
    statuses: 0,
    beforeCall: () => Effect.void,
    onClose: Effect.void,
    endpoints: ["http://server"],
    forget: () => {
      told.length = 0
    },
    remember: (event) => {
      told.push(create(WatchResponseSchema, { events: [event] }))
    }
  }
  return server
}
