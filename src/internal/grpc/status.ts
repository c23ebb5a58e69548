/**
 * What the headers and trailers of an answer say, in gRPC's terms, and what an answer that is not gRPC means.
 *
 * Sources of facts, all in grpc/grpc: doc/PROTOCOL-HTTP2.md (responses, deadlines, error codes of HTTP/2),
 * doc/http-grpc-status-mapping.md, doc/statuscodes.md.
 *
 * @internal
 */
import * as Result from "effect/Result"

export const Code = {
  cancelled: 1,
  unknown: 2,
  deadlineExceeded: 4,
  permissionDenied: 7,
  resourceExhausted: 8,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16
} as const

export type Headers = Readonly<Record<string, string | ReadonlyArray<string> | undefined>>

export const header = (headers: Headers, name: string): string | undefined => {
  const value = headers[name]
  return value === undefined || typeof value === "string" ? value : value.join(", ")
}

interface Status {
  readonly code: number
  readonly message: string
}

/** The gRPC status in headers or trailers; `undefined` without one, `UNKNOWN` when it is not a number from 0 to 16. */
export const readStatus = (headers: Headers): Status | undefined => {
  const text = header(headers, "grpc-status")
  if (text === undefined) return undefined
  const message = percentDecode(header(headers, "grpc-message") ?? "")
  if (/^\d{1,2}$/.test(text) && Number(text) <= 16) return { code: Number(text), message }
  return { code: Code.unknown, message: `the server sent the unknown gRPC status "${shorten(text, 40)}": ${message}` }
}

/** `grpc-message` as the specification wants it read: what is not a valid escape stays as it came. */
const percentDecode = (text: string): string => {
  if (!text.includes("%")) return text
  return Result.getOrElse(
    Result.try(() => decodeURIComponent(text)),
    () => text.replace(/(?:%[0-9a-fA-F]{2})+/g, decodeEscapes)
  )
}

const decodeEscapes = (escapes: string): string => Buffer.from(escapes.replaceAll("%", ""), "hex").toString("utf8")

/** What the server said besides the status: no pseudo headers, and nothing of gRPC's own. */
export const readMetadata = (headers: Headers): Record<string, string> => {
  const metadata: Record<string, string> = {}
  for (const name of Object.keys(headers)) {
    if (name.startsWith(":") || name === "grpc-status" || name === "grpc-message") continue
    const value = header(headers, name)
    if (value !== undefined) metadata[name] = value
  }
  return metadata
}

export const isGrpcContentType = (contentType: string | undefined): boolean =>
  contentType !== undefined && /^application\/grpc(?:$|[+; ])/i.test(contentType)

const httpStatusCodes: Readonly<Record<number, number>> = {
  400: Code.internal,
  401: Code.unauthenticated,
  403: Code.permissionDenied,
  404: Code.unimplemented,
  429: Code.unavailable,
  502: Code.unavailable,
  503: Code.unavailable,
  504: Code.unavailable
}

/** The gRPC code for an HTTP status that came without a gRPC status. */
export const codeOfHttpStatus = (status: number): number => httpStatusCodes[status] ?? Code.unknown

const resetNames = [
  "NO_ERROR",
  "PROTOCOL_ERROR",
  "INTERNAL_ERROR",
  "FLOW_CONTROL_ERROR",
  "SETTINGS_TIMEOUT",
  "STREAM_CLOSED",
  "FRAME_SIZE_ERROR",
  "REFUSED_STREAM",
  "CANCEL",
  "COMPRESSION_ERROR",
  "CONNECT_ERROR",
  "ENHANCE_YOUR_CALM",
  "INADEQUATE_SECURITY",
  "HTTP_1_1_REQUIRED"
]

export const Reset = {
  noError: 0,
  protocolError: 1,
  flowControlError: 3,
  streamClosed: 5,
  frameSizeError: 6,
  refusedStream: 7,
  cancel: 8,
  compressionError: 9,
  enhanceYourCalm: 11,
  inadequateSecurity: 12
} as const

export const resetName = (code: number): string => resetNames[code] ?? `error code ${code}`

/** The gRPC code for the error code of a RST_STREAM or GOAWAY. */
export const codeOfReset = (code: number): number => {
  switch (code) {
    case Reset.refusedStream:
      return Code.unavailable
    case Reset.cancel:
      return Code.cancelled
    case Reset.enhanceYourCalm:
      return Code.resourceExhausted
    case Reset.inadequateSecurity:
      return Code.permissionDenied
    default:
      return Code.internal
  }
}

const maxTimeoutValue = 99_999_999

/** `grpc-timeout`: at most eight digits and a unit; rounded up, so that the server never gives up first. */
export const formatTimeout = (millis: number): string => {
  if (millis <= 0) return "0m"
  if (millis < 1) return `${Math.ceil(millis * 1000)}u`
  const units = [
    ["m", 1],
    ["S", 1_000],
    ["M", 60_000],
    ["H", 3_600_000]
  ] as const
  for (const [unit, size] of units) {
    const value = Math.ceil(millis / size)
    if (value <= maxTimeoutValue) return `${value}${unit}`
  }
  return `${maxTimeoutValue}H`
}

/** A piece of text for an error: one line, no control characters, not longer than `max`. */
export const shorten = (text: string, max: number): string => {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what has to go
  const line = text.replace(/[\u0000-\u0020\u007f-\u009f]+/g, " ").trim()
  return line.length <= max ? line : `${line.slice(0, max)}...`
}
