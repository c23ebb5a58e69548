/**
 * gRPC's length-prefixed messages: one byte that says whether the message is compressed, four bytes of length (big
 * endian), then the message.
 *
 * Source of facts: "gRPC over HTTP2" (grpc/grpc, doc/PROTOCOL-HTTP2.md), Length-Prefixed-Message.
 *
 * @internal
 */
import * as Exit from "effect/Exit"
import type { Read } from "./Transport.ts"

export const messagePrefixBytes = 5

/**
 * A message that may be kept: as it lies there if it fills at least half of the memory that is kept with it, else as a
 * copy. A socket is read 64 KiB at a time, and a small value that somebody keeps must not keep all of that. It is a plain
 * `Uint8Array`, never a `Buffer`, whose `slice` means something else.
 */
export const detach = (bytes: Uint8Array, start: number, end: number): Uint8Array =>
  (end - start) * 2 >= bytes.buffer.byteLength
    ? new Uint8Array(bytes.buffer, bytes.byteOffset + start, end - start)
    : new Uint8Array(bytes.subarray(start, end))

/** Reads a message as its bytes. */
export const readBytes: Read<Uint8Array> = (bytes, start, end) => Exit.succeed(detach(bytes, start, end))
