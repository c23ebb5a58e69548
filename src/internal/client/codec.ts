/**
 * Requests on their way to the wire, and answers on their way from it: with what knows the frequent messages
 * (`frequent.ts`), or with protobuf-es.
 *
 * @internal
 */
import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as EtcdError from "../../EtcdError.ts"
import { messageOf } from "../grpc/errors.ts"
import { detach } from "../grpc/framing.ts"
import { TransportError } from "../grpc/Transport.ts"
import * as Frequent from "./frequent.ts"
import type { Method } from "./rpcs.ts"

let protobuf: typeof import("./protobuf.ts") | undefined

export const isReady = (): boolean => protobuf !== undefined

const load = Effect.map(
  Effect.promise(() => import("./protobuf.ts")),
  (loaded) => {
    protobuf = loaded
  }
)

/** What its caller does with it meanwhile is no part of the call. What cannot be copied cannot be encoded either. */
const keep = <A>(request: A): A =>
  Result.getOrElse(
    Result.try(() => structuredClone(request)),
    () => request
  )

/**
 * Waits until protobuf-es is loaded, from when on messages are written and read at once. Gives the request as it is now.
 */
export const ready = <A>(request: A): Effect.Effect<A> =>
  Effect.suspend(() => (protobuf === undefined ? Effect.as(load, keep(request)) : Effect.succeed(request)))

/** Makes the call's request ready for the wire. */
export const encode = <I extends DescMessage>(
  method: Method,
  schema: I,
  request: MessageInitShape<I>
): Result.Result<Uint8Array, EtcdError.EtcdError> => {
  if (typeof request !== "object" || request === null) return Result.fail(unencodable(method, "it is no object"))
  const bytes = Frequent.encode(schema, request)
  return bytes === undefined ? encodeAny(method, schema, request) : Result.succeed(bytes)
}

const unencodable = (method: Method, why: string): EtcdError.EtcdError =>
  EtcdError.make(
    new EtcdError.InvalidArgument({
      message: `The request of ${method.name} cannot be encoded: ${why}.`,
      outcome: "not-applied",
      method: method.name
    })
  )

const encodeAny = <I extends DescMessage>(
  method: Method,
  schema: I,
  request: MessageInitShape<I>
): Result.Result<Uint8Array, EtcdError.EtcdError> =>
  Result.try({
    try: () => protobuf!.toBinary(schema, protobuf!.create(schema, request)),
    catch: (cause) => unencodable(method, messageOf(cause))
  })

/** Reads an answer of the server, which lies from `start` up to `end`. */
export const decode = <O extends DescMessage>(
  schema: O,
  bytes: Uint8Array,
  start: number,
  end: number
): Exit.Exit<MessageShape<O>, TransportError> => {
  const message = Frequent.decode(schema, bytes, start, end) as MessageShape<O> | undefined
  return message === undefined ? decodeAny(schema, detach(bytes, start, end)) : Exit.succeed(message)
}

const decodeAny = <O extends DescMessage>(schema: O, bytes: Uint8Array): Exit.Exit<MessageShape<O>, TransportError> => {
  const message = Result.try(() => protobuf!.fromBinary(schema, bytes))
  return Result.isSuccess(message)
    ? Exit.succeed(message.success)
    : Exit.fail(
        new TransportError({
          kind: "Protocol",
          code: 13,
          processed: "unknown",
          message: `the answer is no ${schema.typeName}`,
          cause: message.failure
        })
      )
}
