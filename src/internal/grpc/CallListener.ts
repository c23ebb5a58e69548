/**
 * What a call tells whoever made it, which is a `UnaryCall` or a `StreamingCall`.
 *
 * @internal
 */
import type { TransportError } from "./Transport.ts"

/** This side's half of a call's stream. */
export interface Outgoing {
  readonly isClosed: boolean
  /** Whether it has ended, or will when all that waits has gone. */
  readonly isEnding: boolean
  /** Whether something waits for a window or for the socket. */
  readonly isBlocked: boolean
  /** Sends a message, now as far as windows and socket allow, and the rest as soon as they do. */
  readonly write: (message: Uint8Array, isLast: boolean) => void
  /** Ends it after what is still to be sent. */
  readonly end: () => void
}

/** Who hears of a call. `onEnd` comes once and last; `undefined` is OK. */
export interface CallListener {
  /** The stream of a call that was begun without its request exists: requests can go out from now on. */
  readonly onStart: (stream: Outgoing) => void
  /** A message, where it lies. */
  readonly onMessage: (bytes: Uint8Array, start: number, end: number) => void
  readonly onEnd: (error: TransportError | undefined) => void
  /** All that was to be sent is with the socket. */
  readonly onWritable: () => void
}
