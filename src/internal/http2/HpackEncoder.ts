/**
 * Writes header blocks (RFC 7541, 3 and 6). A field that comes again takes one byte, or two: it was put into the dynamic
 * table the first time, or the second time where its name is not known to keep its value. So a value that differs from
 * call to call never pushes out those that are the same.
 *
 * A name can only be in the table with a value. So that it need not be written out each time, one that comes with many
 * values is put in with the first of them that is small, once as long as it stays there.
 *
 * @internal
 */
import { DynamicTable, defaultTableSize, type HeaderField, sizeOfField, staticTable } from "./headerTables.ts"
import * as Huffman from "./huffman.ts"

const keyOf = (name: string, value: string): string => `${name}\n${value}`

const staticNames = new Map<string, number>()
const staticFields = new Map<string, number>()
staticTable.forEach(({ name, value }, index) => {
  if (!staticNames.has(name)) staticNames.set(name, index + 1)
  staticFields.set(keyOf(name, value), index + 1)
})

/** How many names are remembered with the value they had last. */
const rememberedNames = 16

/** A field is put into the table only if a few of its size have room there. */
const shareOfTable = 0.5

/** The same where it is for the sake of its name: all that are remembered together may fill half of the table. */
const shareOfName = 1 / 32

export class HpackEncoder {
  readonly table = new DynamicTable(defaultTableSize, (field, number) => this.forget(field, number))
  /** The number (see `DynamicTable.inserted`) of the newest field with this name and value, and with this name. */
  private readonly fields = new Map<string, number>()
  private readonly names = new Map<string, number>()
  private readonly lastValues = new Map<string, string>()
  private pendingSizes: Array<number> = []
  /** How many fields of the block so far were written out, and not by their index. */
  literals = 0
  private buffer = Buffer.allocUnsafe(1024)
  private at = 0

  private forget(field: HeaderField, number: number): void {
    const key = keyOf(field.name, field.value)
    if (this.fields.get(key) === number) this.fields.delete(key)
    if (this.names.get(field.name) === number) this.names.delete(field.name)
  }

  /** The peer's SETTINGS_HEADER_TABLE_SIZE: the next block begins by saying what is made of it (RFC 7541, 4.2). */
  limitTable(size: number): void {
    const next = Math.min(size, defaultTableSize)
    if (next === this.table.maxSize) return
    const smallest = Math.min(next, ...this.pendingSizes)
    this.table.resize(next)
    this.pendingSizes = smallest < next ? [smallest, next] : [next]
  }

  /** Begins a block. Returns whether it begins plainly, without saying that the table's size changes. */
  start(): boolean {
    this.at = 0
    this.literals = 0
    if (this.pendingSizes.length === 0) return true
    for (const size of this.pendingSizes) this.integer(0x20, 5, size)
    this.pendingSizes = []
    return false
  }

  /** The block since `start`, valid until the next one begins. */
  finish(): Uint8Array {
    return this.buffer.subarray(0, this.at)
  }

  /** Adds a field that comes again and again with this value. */
  steady(name: string, value: string): void {
    this.field(name, value, true)
  }

  /** Adds a field that may have another value each time. */
  varying(name: string, value: string): void {
    const isSame = this.lastValues.get(name) === value
    const isRemembered = this.lastValues.has(name) || this.lastValues.size < rememberedNames
    if (!isSame && isRemembered) this.lastValues.set(name, value)
    const isForName = isRemembered && sizeOfField(name, value) <= this.table.maxSize * shareOfName
    this.field(name, value, isSame || (isForName && this.indexOfName(name) === 0))
  }

  /** Adds a field with one of so many values that none is worth a place; its name takes one. */
  volatile(name: string, value: string): void {
    this.field(name, value, this.indexOfName(name) === 0)
  }

  private field(name: string, value: string, isKept: boolean): void {
    const index = this.indexOfField(name, value)
    if (index !== 0) {
      this.integer(0x80, 7, index)
      return
    }
    this.literals++
    const isPutIn = isKept && sizeOfField(name, value) <= this.table.maxSize * shareOfTable
    const nameIndex = this.indexOfName(name)
    if (isPutIn) this.integer(0x40, 6, nameIndex)
    else this.integer(0, 4, nameIndex)
    if (nameIndex === 0) this.text(name)
    this.text(value)
    if (isPutIn) this.putIn(name, value)
  }

  private putIn(name: string, value: string): void {
    this.table.add(name, value)
    this.fields.set(keyOf(name, value), this.table.inserted)
    this.names.set(name, this.table.inserted)
  }

  private indexOfField(name: string, value: string): number {
    const key = keyOf(name, value)
    return staticFields.get(key) ?? this.placeOf(this.fields.get(key))
  }

  private indexOfName(name: string): number {
    return staticNames.get(name) ?? this.placeOf(this.names.get(name))
  }

  private placeOf(number: number | undefined): number {
    return number === undefined ? 0 : staticTable.length + 1 + this.table.inserted - number
  }

  private integer(pattern: number, prefixBits: number, value: number): void {
    this.reserve(6)
    const mask = (1 << prefixBits) - 1
    if (value < mask) {
      this.buffer[this.at++] = pattern | value
      return
    }
    this.buffer[this.at++] = pattern | mask
    let rest = value - mask
    while (rest >= 128) {
      this.buffer[this.at++] = (rest & 127) | 128
      rest >>>= 7
    }
    this.buffer[this.at++] = rest
  }

  private text(text: string): void {
    const short = Huffman.encodedLength(text)
    const isHuffman = short <= text.length && text.length > 0
    const length = isHuffman ? short : text.length
    this.integer(isHuffman ? 0x80 : 0, 7, length)
    this.reserve(length)
    if (isHuffman) Huffman.encode(text, this.buffer, this.at)
    else this.buffer.write(text, this.at, "latin1")
    this.at += length
  }

  private reserve(length: number): void {
    if (this.at + length <= this.buffer.length) return
    const larger = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.at + length))
    larger.set(this.buffer.subarray(0, this.at))
    this.buffer = larger
  }
}
