/**
 * The streaming calls of a connection, from how its transport starts one.
 *
 * @internal
 */
import type * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type * as Pull from "effect/Pull"
import * as Stream from "effect/Stream"
import type { CallOptions, Connection, Duplex, TransportError } from "./Transport.ts"

/** A call under way, read by one reader. */
interface StreamingCall {
  readonly send: Duplex["send"]
  readonly end: Duplex["end"]
  readonly pull: Pull.Pull<Arr.NonEmptyReadonlyArray<Uint8Array>, TransportError>
  /** Resets the stream unless the call has ended. */
  readonly close: Effect.Effect<void>
}

/** With a request that is all that there is to send, or without one. */
type Start = (path: string, options: CallOptions | undefined, request: Uint8Array | undefined) => StreamingCall

const messagesOf = (call: StreamingCall): Stream.Stream<Uint8Array, TransportError> =>
  Stream.fromPull(Effect.succeed(call.pull))

export const streaming = (start: Start): Pick<Connection, "serverStream" | "bidirectional"> => {
  const open = (...call: Parameters<Start>) =>
    Effect.acquireRelease(
      Effect.sync(() => start(...call)),
      ({ close }) => close
    )
  return {
    serverStream: (path, request, options) => Stream.unwrap(Effect.map(open(path, options, request), messagesOf)),
    bidirectional: (path, options) =>
      Effect.map(
        open(path, options, undefined),
        (call): Duplex => ({ send: call.send, end: call.end, messages: messagesOf(call) })
      )
  }
}
