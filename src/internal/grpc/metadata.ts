/**
 * What of a call's metadata can go out, and how large a list of headers is, whichever HTTP/2 carries it.
 *
 * @internal
 */
import { shorten } from "./status.ts"
import type { Metadata } from "./Transport.ts"

/** The largest list of headers that is sent, whatever the server takes. */
export const largestHeaderList = 1024 * 1024

/** What a field counts besides its name and value (RFC 9113, 6.5.2). */
const fieldOverhead = 32

/** What a field counts in a list of headers. */
export const fieldBytes = (name: string, value: string): number => name.length + value.length + fieldOverhead

/** What belongs to HTTP (RFC 9113, 8.2.2) or gRPC themselves, and not to a program. */
const ownNames =
  /^(?:connection|content-type|grpc-.*|host|http2-settings|keep-alive|proxy-connection|te|transfer-encoding|upgrade|user-agent)$/

export const isSendable = (name: string, value: string): boolean =>
  /^[0-9a-z_.-]+$/.test(name) && /^[\x20-\x7e]*$/.test(value) && !ownNames.test(name)

/** The first header that cannot be sent, shortened for an error. */
export const unsendableName = (metadata: Metadata | undefined): string | undefined => {
  for (const name in metadata) {
    if (!isSendable(name, metadata[name]!)) return shorten(name, 40)
  }
  return undefined
}
