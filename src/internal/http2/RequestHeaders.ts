/**
 * The header block of each request of a connection (gRPC over HTTP2, Requests). After the first calls a block is a few
 * bytes, and the same ones for the same method and metadata, so it is kept until the encoder's table changes.
 *
 * @internal
 */
import { fieldBytes, unsendableName } from "../grpc/metadata.ts"
import { formatTimeout } from "../grpc/status.ts"
import type { Metadata } from "../grpc/Transport.ts"
import type { HpackEncoder } from "./HpackEncoder.ts"

interface KeptBlock {
  readonly metadata: Metadata | undefined
  readonly version: number
  readonly bytes: Uint8Array
}

const keptBlocks = 256

/** What this side says itself, whatever the metadata holds. */
const ownNames = new Set(["te", "content-type", "user-agent", "grpc-accept-encoding", "grpc-timeout"])

const timeoutName = "grpc-timeout"

/** `grpc-timeout` has at most eight digits and a unit. */
const largestTimeoutBytes = fieldBytes(timeoutName, "12345678H")

export class RequestHeaders {
  private readonly encoder: HpackEncoder
  /** What comes with each call, besides its path. Nothing is said of compression, so that the server does not compress. */
  private readonly own: ReadonlyArray<readonly [name: string, value: string]>
  private readonly ownBytes: number
  private readonly kept = new Map<string, KeptBlock>()
  private sendable: Metadata | undefined
  private sendableBytes = 0

  constructor(encoder: HpackEncoder, scheme: string, authority: string) {
    this.encoder = encoder
    this.own = [
      [":method", "POST"],
      [":scheme", scheme],
      [":authority", authority],
      ["te", "trailers"],
      ["content-type", "application/grpc"],
      ["user-agent", "effect-etcd"]
    ]
    this.ownBytes = this.own.reduce((sum, [name, value]) => sum + fieldBytes(name, value), fieldBytes(":path", ""))
  }

  /** The first header that cannot be sent. Metadata that was looked at last is not looked at again. */
  unsendable(metadata: Metadata | undefined): string | undefined {
    if (metadata === this.sendable) return undefined
    const bad = unsendableName(metadata)
    if (bad !== undefined) return bad
    this.sendable = metadata
    this.sendableBytes = 0
    for (const name in metadata) {
      if (!ownNames.has(name)) this.sendableBytes += fieldBytes(name, metadata[name]!)
    }
    return undefined
  }

  /** The size of the list of headers with the metadata that was looked at last, if it is over the limit. */
  bytesOver(limit: number, path: string, timeoutMillis: number | undefined): number | undefined {
    const bytes = this.ownBytes + path.length + this.sendableBytes
    if (bytes + largestTimeoutBytes <= limit) return undefined
    const whole = timeoutMillis === undefined ? bytes : bytes + fieldBytes(timeoutName, formatTimeout(timeoutMillis))
    return whole > limit ? whole : undefined
  }

  /** Hands on the block in one part or two, which are valid until the next call. */
  encode<A>(
    path: string,
    metadata: Metadata | undefined,
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
    encoder.volatile(timeoutName, formatTimeout(timeoutMillis))
    return take(known.bytes, encoder.finish())
  }

  private build(path: string, metadata: Metadata | undefined, timeoutMillis: number | undefined): Uint8Array {
    const { encoder } = this
    const isPlain = encoder.start()
    encoder.steady(":path", path)
    for (const [name, value] of this.own) encoder.steady(name, value)
    for (const name in metadata) {
      if (!ownNames.has(name)) encoder.varying(name, metadata[name]!)
    }
    if (isPlain && encoder.literals === 0) this.keep(path, metadata, new Uint8Array(encoder.finish()))
    if (timeoutMillis !== undefined) encoder.volatile(timeoutName, formatTimeout(timeoutMillis))
    return encoder.finish()
  }

  private keep(path: string, metadata: Metadata | undefined, bytes: Uint8Array): void {
    if (this.kept.size >= keptBlocks) this.kept.clear()
    this.kept.set(path, { metadata, version: this.encoder.table.version, bytes })
  }
}
