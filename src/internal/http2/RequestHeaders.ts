/**
 * The header block of each request of a connection (gRPC over HTTP2, Requests). After the first calls a block is a few
 * bytes, and the same ones for the same method and metadata, so it is kept until the encoder's table changes.
 *
 * @internal
 */
import { formatTimeout, shorten } from "../grpc/status.ts"
import type { CallOptions } from "../grpc/Transport.ts"
import type { HpackEncoder } from "./HpackEncoder.ts"
import { sizeOfField } from "./headerTables.ts"

type Metadata = CallOptions["metadata"]

interface KeptBlock {
  readonly metadata: Metadata
  readonly version: number
  readonly bytes: Uint8Array
}

const keptBlocks = 256

/** What this side says itself, whatever the metadata holds. */
const ownNames = new Set(["te", "content-type", "user-agent", "grpc-accept-encoding", "grpc-timeout"])

/** Fields that belong to HTTP/1.1 alone (RFC 9113, 8.2.2). */
const forbiddenNames = new Set([
  "connection",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade"
])

/** More than what this side says itself comes to. */
const ownHeaderBytes = 512

const isSendable = (name: string, value: string): boolean =>
  /^[0-9a-z_.-]+$/.test(name) && /^[\x20-\x7e]*$/.test(value) && !forbiddenNames.has(name)

export class RequestHeaders {
  private readonly encoder: HpackEncoder
  private readonly scheme: string
  private readonly authority: string
  private readonly kept = new Map<string, KeptBlock>()
  private sendable: Metadata
  private sendableBytes = 0

  constructor(encoder: HpackEncoder, scheme: string, authority: string) {
    this.encoder = encoder
    this.scheme = scheme
    this.authority = authority
  }

  /** The first header that cannot be sent. Metadata that was looked at last is not looked at again. */
  unsendable(metadata: Metadata): string | undefined {
    if (metadata === this.sendable) return undefined
    let bytes = 0
    for (const name in metadata) {
      const value = metadata[name]!
      if (!isSendable(name, value)) return shorten(name, 40)
      bytes += sizeOfField(name, value)
    }
    this.sendable = metadata
    this.sendableBytes = bytes
    return undefined
  }

  /** The size of the list of headers with the metadata that was looked at last (RFC 9113, 6.5.2). */
  listBytes(path: string): number {
    return ownHeaderBytes + path.length + this.authority.length + this.sendableBytes
  }

  /** Hands on the block in one part or two, which are valid until the next call. */
  encode<A>(
    path: string,
    metadata: Metadata,
    timeoutMillis: number | undefined,
    take: (block: Uint8Array, more: Uint8Array | undefined) => A
  ): A {
    const { encoder } = this
    const known = this.kept.get(path)
    if (known === undefined || known.metadata !== metadata || known.version !== encoder.table.version) {
      return take(this.build(path, metadata, timeoutMillis), undefined)
    }
    if (timeoutMillis === undefined) return take(known.bytes, undefined)
    encoder.start()
    encoder.volatile("grpc-timeout", formatTimeout(timeoutMillis))
    return take(known.bytes, encoder.finish())
  }

  /** Nothing is said of compression, so that the server does not compress. */
  private build(path: string, metadata: Metadata, timeoutMillis: number | undefined): Uint8Array {
    const { encoder } = this
    const isPlain = encoder.start()
    encoder.steady(":method", "POST")
    encoder.steady(":scheme", this.scheme)
    encoder.steady(":path", path)
    encoder.steady(":authority", this.authority)
    encoder.steady("te", "trailers")
    encoder.steady("content-type", "application/grpc")
    encoder.steady("user-agent", "effect-etcd")
    for (const name in metadata) {
      if (!ownNames.has(name)) encoder.varying(name, metadata[name]!)
    }
    if (isPlain && encoder.literals === 0) this.keep(path, metadata, new Uint8Array(encoder.finish()))
    if (timeoutMillis !== undefined) encoder.volatile("grpc-timeout", formatTimeout(timeoutMillis))
    return encoder.finish()
  }

  private keep(path: string, metadata: Metadata, bytes: Uint8Array): void {
    if (this.kept.size >= keptBlocks) this.kept.clear()
    this.kept.set(path, { metadata, version: this.encoder.table.version, bytes })
  }
}
