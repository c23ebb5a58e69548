/**
 * Judges an answer by its headers.
 *
 * @internal
 */
import { protocolError } from "./errors.ts"
import { Code, type Headers, header, isGrpcContentType, readStatus, shorten } from "./status.ts"
import type { TransportError } from "./Transport.ts"

/** The headers of an answer, or its trailers. */
export interface HeaderSection {
  readonly headers: Headers
  /** The value of `:status` as a number; `undefined` in trailers. */
  readonly status: number | undefined
}

/** Messages follow, or nothing does because the headers are the trailers as well, or what follows is not gRPC. */
export type Judgement = "messages" | "trailers" | "foreign" | TransportError

export const judge = (name: string, { headers, status }: HeaderSection, isEndOfStream: boolean): Judgement => {
  if (isEndOfStream && readStatus(headers) !== undefined) return "trailers"
  const contentType = header(headers, "content-type")
  if (status === 200 && isGrpcContentType(contentType)) return judgeEncoding(name, header(headers, "grpc-encoding"))
  if (status !== 200 || /^text\//i.test(contentType ?? "")) return "foreign"
  const found = contentType === undefined ? "missing" : `"${shorten(contentType, 80)}"`
  return protocolError(name, Code.unknown, `the answer's content type is ${found}, not application/grpc`)
}

const judgeEncoding = (name: string, encoding: string | undefined): Judgement =>
  encoding === undefined || encoding === "identity"
    ? "messages"
    : protocolError(
        name,
        Code.unimplemented,
        `the server compresses its messages (grpc-encoding "${shorten(encoding, 40)}"), which it was not asked for`
      )
