/**
 * What the errors of calls say, whichever transport it is. `name` is a call's, as {@link nameOf} gives it.
 *
 * Whether a failure counts as a lost connection or as a broken contract is decided by one question: would trying again on
 * another connection do better? A stream that breaks off is what a proxy does that is idle or reloads its configuration,
 * or a server that ends, so yes. What a server says in good order, and says wrongly or too largely, it will say again.
 *
 * @internal
 */
import type { FramingFailure, MessageReader } from "./MessageReader.ts"
import {
  Code,
  codeOfHttpStatus,
  codeOfReset,
  type Headers,
  header,
  Reset,
  readMetadata,
  readStatus,
  resetName,
  shorten
} from "./status.ts"
import { TransportError } from "./Transport.ts"

export const nameOf = (path: string, peer: string): string => `${path} to ${peer}`

// ── answers ──

export const protocolError = (name: string, code: number, what: string): TransportError =>
  new TransportError({ kind: "Protocol", code, message: `${name}: ${what}`, processed: "unknown" })

/** What came is not a message that can be taken. */
export const framingError = (name: string, failure: FramingFailure, maxMessageBytes: number): TransportError => {
  if (failure._tag === "TooLarge") {
    return protocolError(
      name,
      Code.resourceExhausted,
      `the server sent a message of ${failure.length} bytes, and the limit is ${maxMessageBytes}; raise the limit, or ask for less at a time`
    )
  }
  return protocolError(
    name,
    Code.internal,
    failure.flag === 1
      ? "the server sent a compressed message, which it was not asked for"
      : `the server sent a malformed message (compression flag ${failure.flag})`
  )
}

/** How trailers end a call, after what `reader` has read; `undefined` is OK. */
export const errorOfTrailers = (
  name: string,
  trailers: Headers,
  reader: MessageReader | undefined
): TransportError | undefined => {
  const status = readStatus(trailers)
  if (status === undefined) return missingStatus(name, reader)
  if (status.code !== 0) {
    return new TransportError({
      kind: "Status",
      code: status.code,
      message: status.message,
      processed: "yes",
      metadata: readMetadata(trailers)
    })
  }
  if (reader === undefined || reader.isComplete) return undefined
  // Nothing got lost on the way, since the status came behind it: this is how the server made it.
  return protocolError(name, Code.internal, `the answer was cut off after ${reader.progress}`)
}

/** The stream ended, and broke off what the server was saying. */
export const missingStatus = (name: string, reader: MessageReader | undefined): TransportError =>
  reader === undefined || reader.isComplete
    ? brokenOff(name, Code.unknown, "the server ended the call without a gRPC status")
    : brokenOff(name, Code.internal, `the answer was cut off after ${reader.progress}, without a gRPC status`)

/** The answer is not gRPC, and `body` is how it begins. */
export const foreignAnswer = (name: string, status: number, headers: Headers, body: string): TransportError => {
  const type = header(headers, "content-type")
  const location = header(headers, "location")
  const parts = [
    `${name}: the answer is not gRPC but HTTP ${status}`,
    ...(type === undefined ? [] : [`content type "${shorten(type, 80)}"`]),
    ...(location === undefined ? [] : [`redirected to "${shorten(location, 200)}"`]),
    ...(body === "" ? [] : [`"${body}"`])
  ]
  return new TransportError({
    kind: "Http",
    code: codeOfHttpStatus(status),
    message: `${parts.join(", ")}; check that the address is etcd's, and that any proxy in between passes gRPC`,
    processed: "unknown",
    metadata: readMetadata(headers)
  })
}

/**
 * The stream was reset, whatever for: another one, on another connection, need not be. A server that refuses a call whose
 * answer has begun contradicts itself, and has acted on it.
 */
export const resetError = (name: string, code: number, isAnswered: boolean, cause?: unknown): TransportError =>
  brokenOff(
    name,
    codeOfReset(code),
    `the call was reset with ${resetName(code)}`,
    code === Reset.refusedStream && !isAnswered ? "no" : "unknown",
    cause
  )

// ── deadlines ──

/** With what the request waited for if it was never sent. */
export const deadlinePassed = (name: string, millis: number, waitedFor: string | undefined): TransportError =>
  new TransportError({
    kind: "Deadline",
    code: Code.deadlineExceeded,
    ...(waitedFor === undefined
      ? { message: `${name}: no answer within the deadline of ${millis} ms`, processed: "unknown" }
      : {
          message: `${name}: the deadline of ${millis} ms passed before the request was sent, because ${waitedFor}`,
          processed: "no",
          waitedFor
        })
  })

/** What calls wait for while so many streams are open as the server takes. */
export const noMoreStreams = (limit: number): string =>
  `the server takes no more than ${limit} calls at a time on a connection, with watches and the keeping of leases among them (--max-concurrent-streams of etcd)`

/** The deadline was over when the call was begun. */
export const tooLate = (name: string): TransportError =>
  new TransportError({
    kind: "Deadline",
    code: Code.deadlineExceeded,
    message: `${name} was not sent: its deadline had already passed`,
    processed: "no"
  })

// ── requests that cannot go out ──

/** Something could not be sent. */
export const unsent = (message: string): TransportError =>
  new TransportError({ kind: "Protocol", code: Code.internal, message, processed: "no" })

export const unsendable = (name: string, header: string): TransportError =>
  unsent(
    `${name} was not sent: gRPC cannot carry its header "${header}"; header names are lower-case letters, digits, "-", "_" and ".", and values are printable ASCII`
  )

export const headersTooLarge = (name: string, bytes: number, limit: number): TransportError =>
  unsent(
    `${name}: the request could not be sent, because its headers have ${bytes} bytes and at most ${limit} are taken; send less metadata`
  )

// ── connections ──

const connectionLost = (
  message: string,
  processed: "no" | "unknown",
  cause?: unknown,
  code: number = Code.unavailable
): TransportError =>
  new TransportError({
    kind: "ConnectionLost",
    code,
    message,
    processed,
    ...(cause === undefined ? {} : { cause })
  })

/** A stream broke off under its call. */
const brokenOff = (
  name: string,
  code: number,
  what: string,
  processed: "no" | "unknown" = "unknown",
  cause?: unknown
): TransportError => connectionLost(`${name}: ${what}`, processed, cause, code)

/** The connection broke, or drains, under a call. */
export const lost = (name: string, why: string, processed: "no" | "unknown", cause?: unknown): TransportError =>
  connectionLost(`${name}: ${why}`, processed, cause)

/** A connection takes no more calls. */
export const retired = (peer: string, why: string): TransportError => connectionLost(`${peer}: ${why}`, "no")

/** A call was begun on a connection that takes no more. */
export const refused = (path: string, why: TransportError): TransportError =>
  connectionLost(`${path} was not sent: ${why.message}`, "no")

export const describeGoaway = (code: number, debug: Uint8Array | undefined): string => {
  const text = debug === undefined ? "" : shorten(Buffer.from(debug).toString("utf8"), 100)
  return `the server is closing the connection (GOAWAY ${resetName(code)}${text === "" ? "" : `, "${text}"`})`
}

/** What an error of a socket means on a connection that was good before; without one, the server closed it. */
export const describeBreak = (error: unknown): string => {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined
  switch (code) {
    case "ECONNRESET":
      return "the connection was reset"
    case "EPIPE":
      return "the server closed the connection"
    case "ETIMEDOUT":
      return "the connection timed out"
    default:
      return error === undefined ? "the server closed the connection" : `the connection broke (${messageOf(error)})`
  }
}

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
