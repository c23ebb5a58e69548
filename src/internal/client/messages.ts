/**
 * Requests on their way to the wire, and answers on their way from it: with the codec that knows the frequent messages,
 * or with protobuf-es.
 *
 * @internal
 */
import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf"
import { create, fromBinary, toBinary } from "@bufbuild/protobuf"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as EtcdError from "../../EtcdError.ts"
import { messageOf } from "../grpc/errors.ts"
import { detach } from "../grpc/framing.ts"
import { TransportError } from "../grpc/Transport.ts"
import * as Codec from "./codec.ts"
import type { Method } from "./rpcs.ts"

/** Makes the call's request ready for the wire. */
export const encode = <I extends DescMessage>(
  method: Method,
  schema: I,
  request: MessageInitShape<I>
): Result.Result<Uint8Array, EtcdError.EtcdError> => {
  if (typeof request !== "object" || request === null) return Result.fail(unencodable(method, "it is no object"))
  const bytes = Codec.encode(schema, request)
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
    try: () => toBinary(schema, create(schema, request)),
    catch: (cause) => unencodable(method, messageOf(cause))
  })

/** Reads an answer of the server, which lies from `start` up to `end`. */
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
  const message = Result.try(() => fromBinary(schema, bytes))
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
