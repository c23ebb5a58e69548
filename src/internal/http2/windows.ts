/**
 * Flow control (RFC 9113, 5.2 and 6.9): how many bytes of DATA may be under way, for each stream and for the connection,
 * each way.
 *
 * @internal
 */

export const largestWindow = 0x7fffffff

/** Every window of a connection until SETTINGS or WINDOW_UPDATE change it. */
export const initialWindow = 65_535

/** What may still be sent. It can be below zero when the peer makes its initial window smaller. */
export class SendWindow {
  size: number

  constructor(size: number) {
    this.size = size
  }

  /** Whether the window could be made larger; it may not be over 2^31 - 1. */
  grow(increment: number): boolean {
    this.size += increment
    return this.size <= largestWindow
  }
}

/** What the peer may still send. It is told of room in batches: when half of the window is used up and free again. */
export class ReceiveWindow {
  available: number
  private freed = 0
  private readonly batch: number

  constructor(size: number) {
    this.available = size
    this.batch = size >>> 1
  }

  /** Whether the bytes were allowed. */
  receive(length: number): boolean {
    this.available -= length
    return this.available >= 0
  }

  /** The bytes take no more room. Returns the increment for a WINDOW_UPDATE, or 0 when none is due yet. */
  free(length: number): number {
    this.freed += length
    if (this.freed < this.batch) return 0
    const increment = this.freed
    this.freed = 0
    this.available += increment
    return increment
  }
}
