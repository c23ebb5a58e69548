/**
 * Reads header blocks (RFC 7541, 3 and 6). A block that breaks the rules ends the connection, because the two sides'
 * tables no longer agree (RFC 9113, 4.3).
 *
 * @internal
 */
import { DynamicTable, defaultTableSize, type HeaderField, staticTable } from "./headerTables.ts"
import * as Huffman from "./huffman.ts"

/** Who takes the fields of a block, in their order. */
type FieldSink = (name: string, value: string) => void

/** The largest integer that is taken: nothing in a block can be larger than this. */
const largestInteger = 0xffffff

export class HpackDecoder {
  readonly table = new DynamicTable(defaultTableSize)
  private bytes: Uint8Array = new Uint8Array(0)
  private at = 0
  private end = 0
  private failure: string | undefined

  /** Hands on the fields in `bytes` from `start` to `end`, and returns what is wrong with them, if anything is. */
  decode(bytes: Uint8Array, start: number, end: number, sink: FieldSink): string | undefined {
    this.bytes = bytes
    this.at = start
    this.end = end
    this.failure = undefined
    let sizeMayChange = true
    while (this.at < this.end && this.failure === undefined) {
      const first = bytes[this.at]!
      if ((first & 0xe0) === 0x20) {
        this.changeSize(sizeMayChange)
      } else {
        sizeMayChange = false
        if (first >= 0x80) this.indexedField(sink)
        else if (first >= 0x40) this.literalField(6, true, sink)
        else this.literalField(4, false, sink)
      }
    }
    return this.failure
  }

  private changeSize(allowed: boolean): void {
    const size = this.integer(5)
    if (!allowed) this.fail("the table's size changes in the middle of a header block")
    else if (size > defaultTableSize) this.fail(`the table's size of ${size} is over the limit of ${defaultTableSize}`)
    else if (this.failure === undefined) this.table.resize(size)
  }

  private indexedField(sink: FieldSink): void {
    const field = this.field(this.integer(7))
    if (field !== undefined) sink(field.name, field.value)
  }

  private literalField(prefixBits: number, isKept: boolean, sink: FieldSink): void {
    const index = this.integer(prefixBits)
    const name = index === 0 ? this.text() : this.field(index)?.name
    const value = this.text()
    if (this.failure !== undefined || name === undefined) return
    if (isKept) this.table.add(name, value)
    sink(name, value)
  }

  private field(index: number): HeaderField | undefined {
    const field = index <= staticTable.length ? staticTable[index - 1] : this.table.at(index - staticTable.length - 1)
    if (field === undefined) this.fail(`there is no header field with the index ${index}`)
    return field
  }

  /** RFC 7541, 5.1. */
  private integer(prefixBits: number): number {
    if (this.at >= this.end) return this.cutOff()
    const mask = (1 << prefixBits) - 1
    let value = this.bytes[this.at++]! & mask
    if (value < mask) return value
    for (let shift = 0; ; shift += 7) {
      if (this.at >= this.end) return this.cutOff()
      const byte = this.bytes[this.at++]!
      value += (byte & 0x7f) * 2 ** shift
      if (value > largestInteger || shift > 28) return this.fail("an integer is too large")
      if (byte < 0x80) return value
    }
  }

  /** RFC 7541, 5.2. */
  private text(): string {
    if (this.failure !== undefined) return ""
    const isHuffman = this.at < this.end && this.bytes[this.at]! >= 0x80
    const length = this.integer(7)
    const start = this.at
    if (this.failure !== undefined) return ""
    if (length > this.end - start) {
      this.cutOff()
      return ""
    }
    this.at = start + length
    const text = isHuffman ? Huffman.decode(this.bytes, start, this.at) : latin1(this.bytes, start, this.at)
    if (text === undefined) this.fail("a string's Huffman code is invalid")
    return text ?? ""
  }

  private cutOff(): number {
    return this.fail("the header block is cut off")
  }

  private fail(what: string): number {
    this.failure ??= what
    return 0
  }
}

const latin1 = (bytes: Uint8Array, start: number, end: number): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString("latin1")
