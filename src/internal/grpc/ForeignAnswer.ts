/**
 * An answer that is not gRPC: its first bytes go into the error.
 *
 * @internal
 */
import { patience } from "../time.ts"
import { shorten } from "./status.ts"

/** How much of an answer that is not gRPC goes into the error, and how long that piece is waited for. */
const maxBodyBytes = 256
const maxBodyWaitMillis = 1000

/** Collects the first bytes, and calls `finish` when there are enough, or no more come. */
export class ForeignAnswer {
  /** Waits for no more. */
  readonly stop: () => void
  private readonly finish: () => void
  private readonly pieces: Array<Uint8Array> = []
  private received = 0

  constructor(finish: () => void) {
    this.finish = finish
    this.stop = patience(maxBodyWaitMillis, finish)
  }

  push(piece: Uint8Array): void {
    this.pieces.push(piece)
    this.received += piece.length
    if (this.received >= maxBodyBytes) this.finish()
  }

  get text(): string {
    return shorten(Buffer.concat(this.pieces).subarray(0, maxBodyBytes).toString("utf8"), maxBodyBytes)
  }
}
