/**
 * Requests on their way to the wire, and answers on their way from it: with the codec that knows the frequent messages,
 * or with protobuf-es.
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
import * as Codec from "./codec.ts"
import type { Method } from "./rpcs.ts"

type Protobuf = typeof import("./protobuf.ts")

let protobuf: Protobuf | undefined

const loadProtobuf = Effect.map(
  Effect.promise(() => import("./protobuf.ts")),
  (loaded) => {
    protobuf = loaded
    return loaded
  }
)

/** Who waits for this before a connection is made can decode whatever comes over it. */
export const ready: Effect.Effect<unknown> = Effect.suspend(() => (protobuf === undefined ? loadProtobuf : Effect.void))

type Encoding = Effect.Effect<Uint8Array, EtcdError.EtcdError>
type Encoded = Exit.Exit<Uint8Array, EtcdError.EtcdError>

/** Makes the call's request ready for the wire: at once, but where protobuf-es has to be loaded for it. */
export const encode = <I extends DescMessage>(method: Method, schema: I, request: MessageInitShape<I>): Encoding => {
  if (typeof request !== "object" || request === null) return Exit.fail(unencodable(method, "it is no object"))
  const bytes = Codec.encode(schema, request)
  if (bytes !== undefined) return Exit.succeed(bytes)
  return protobuf === undefined
    ? Effect.flatMap(loadProtobuf, (loaded) => encodeAny(loaded, method, schema, request))
    : encodeAny(protobuf, method, schema, request)
}

export const isEncoded = (encoding: Encoding): encoding is Encoded => Exit.isExit(encoding)

const unencodable = (method: Method, why: string): EtcdError.EtcdError =>
  EtcdError.make(
    new EtcdError.InvalidArgument({
      message: `The request of ${method.name} cannot be encoded: ${why}.`,
      outcome: "not-applied",
      method: method.name
    })
  )

const encodeAny = <I extends DescMessage>(
  { create, toBinary }: Protobuf,
  method: Method,
  schema: I,
  request: MessageInitShape<I>
): Encoded => {
  const bytes = Result.try(() => toBinary(schema, create(schema, request)))
  return Result.isSuccess(bytes)
    ? Exit.succeed(bytes.success)
    : Exit.fail(unencodable(method, messageOf(bytes.failure)))
}

/** Reads an answer of the server, which lies from `start` up to `end`, and came over a connection: see `ready`. */
export const decode = <O extends DescMessage>(
  schema: O,
  bytes: Uint8Array,
  start: number,
  end: number
): Exit.Exit<MessageShape<O>, TransportError> => {
  const message = Codec.decode(schema, bytes, start, end) as MessageShape<O> | undefined
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
