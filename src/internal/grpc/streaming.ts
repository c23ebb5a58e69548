/**
 * The streaming calls of a connection.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { GrpcConnection } from "./GrpcConnection.ts"
import { StreamingCall } from "./StreamingCall.ts"
import type { CallOptions, Connection, RawDuplex, TransportError } from "./Transport.ts"

const messagesOf = (call: StreamingCall): Stream.Stream<Uint8Array, TransportError> =>
  Stream.fromPull(Effect.succeed(call.pull))

export const streaming = (connection: GrpcConnection): Pick<Connection, "serverStream" | "bidirectional"> => {
  const open = (path: string, options: CallOptions | undefined, request: Uint8Array | undefined) =>
    Effect.acquireRelease(
      Effect.sync(() => new StreamingCall(connection, path, options, request)),
      ({ close }) => close
    )
  return {
    serverStream: (path, request, options) => Stream.unwrap(Effect.map(open(path, options, request), messagesOf)),
    bidirectional: (path, options) =>
      Effect.map(
        open(path, options, undefined),
        (call): RawDuplex => ({ send: call.send, end: call.end, messages: messagesOf(call) })
      )
  }
}
