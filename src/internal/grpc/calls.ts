/**
 * What a unary and a streaming call need of the transport that they go over.
 *
 * @internal
 */
import type { CallOptions, TransportError } from "./Transport.ts"

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
  /** The stream exists: requests can go out from now on. */
  readonly onStart: (stream: Outgoing) => void
  /** A message, where it lies. */
  readonly onMessage: (bytes: Uint8Array, start: number, end: number) => void
  readonly onEnd: (error: TransportError | undefined) => void
  /** All that was to be sent is with the socket. */
  readonly onWritable: () => void
}

/** A call that was begun. */
export interface Begun {
  /** Whether the request may have left. */
  readonly isSent: boolean
  /** What it waits for while it is not sent. */
  readonly waitsFor: string | undefined
  /** Ends the call, and resets its stream unless both sides have ended it. */
  readonly end: (error: TransportError | undefined) => void
  /** Nobody wants the call any more. */
  readonly cancel: () => void
  /** The server is not told of room for more until {@link Begun.resume}. */
  readonly pause: () => void
  readonly resume: () => void
}

/** Begins calls on a connection. */
export interface Caller {
  readonly peer: string
  readonly begin: (path: string, options: CallOptions | undefined, listener: CallListener) => Begun
}
