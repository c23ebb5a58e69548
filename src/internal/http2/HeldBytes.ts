/**
 * Bytes of an answer whose reader does not read. They are copied close together, so that they take no more memory than
 * they are long, however small the pieces in which they came.
 *
 * @internal
 */

const blockBytes = 64 * 1024

export class HeldBytes {
  private readonly blocks: Array<Uint8Array> = []
  private filled = blockBytes

  get isEmpty(): boolean {
    return this.blocks.length === 0
  }

  push(bytes: Uint8Array, start: number, end: number): void {
    let at = start
    while (at < end) {
      if (this.filled === blockBytes) {
        this.blocks.push(new Uint8Array(blockBytes))
        this.filled = 0
      }
      const taken = Math.min(end - at, blockBytes - this.filled)
      this.blocks[this.blocks.length - 1]!.set(bytes.subarray(at, at + taken), this.filled)
      this.filled += taken
      at += taken
    }
  }

  /** The oldest block. */
  shift(): Uint8Array | undefined {
    const block = this.blocks.shift()
    if (block === undefined || this.blocks.length > 0) return block
    const last = block.subarray(0, this.filled)
    this.filled = blockBytes
    return last
  }
}
