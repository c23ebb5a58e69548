/**
 * What the suites of a transport's conformance stand on: how they connect, and what a failure has to be.
 */
import { assert } from "@effect/vitest"
import type { ConnectionOptions, Target, Tls, TransportError } from "../../../src/internal/grpc/Transport.ts"
import { turns } from "../time.ts"

export const defaults: ConnectionOptions = {
  connectTimeoutMillis: 10_000,
  keepAliveIntervalMillis: 0,
  keepAliveTimeoutMillis: 10_000,
  maxReceiveMessageBytes: 4 * 1024 * 1024
}

export const bytes = (...values: ReadonlyArray<number>): Uint8Array => Uint8Array.from(values)
export const empty = bytes()

export const tcp = (port: number, tls?: Tls): Target => ({ _tag: "Tcp", host: "127.0.0.1", port, ...(tls && { tls }) })

/** Waits until what was sent in this turn of the event loop has gone out, and for no answer. */
export const requestsLeave = turns(1)

export const check = (
  error: TransportError,
  expected: Pick<TransportError, "kind" | "code" | "processed" | "lasting">,
  message?: RegExp
): void => {
  assert.strictEqual(error._tag, "TransportError")
  const { code, kind, lasting, processed } = error
  assert.deepStrictEqual({ kind, code, processed, ...(lasting && { lasting }) }, expected, error.message)
  if (message !== undefined) assert.match(error.message, message)
}

export const lostUnknown = { kind: "ConnectionLost", code: 14, processed: "unknown" } as const
export const lostNo = { kind: "ConnectionLost", code: 14, processed: "no" } as const
export const unreachable = { kind: "Unreachable", code: 14, processed: "no" } as const
export const unreachableForGood = { ...unreachable, lasting: true } as const
export const brokenOff = (code: number) => ({ kind: "ConnectionLost", code, processed: "unknown" }) as const
export const protocol = (code: number) => ({ kind: "Protocol", code, processed: "unknown" }) as const
