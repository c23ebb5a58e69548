/**
 * The tables of HPACK: the static one (RFC 7541, appendix A) and the dynamic one (2.3.2, 4.1 to 4.4), which an encoder
 * and a decoder each keep in the same state.
 *
 * @internal
 */

export interface HeaderField {
  readonly name: string
  readonly value: string
}

/** The static table; index 1 comes first. A line without a value has the empty one. */
const staticText = `:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate`

const parseLine = (line: string): HeaderField => {
  const space = line.indexOf(" ")
  return space < 0 ? { name: line, value: "" } : { name: line.slice(0, space), value: line.slice(space + 1) }
}

export const staticTable: ReadonlyArray<HeaderField> = staticText.split("\n").map(parseLine)

/** The size that the table has until one side says otherwise, in bytes (RFC 9113, 6.5.2); here it is never larger. */
export const defaultTableSize = 4096

/** What an entry counts besides its name and value (RFC 7541, 4.1). */
const entryOverhead = 32

export const sizeOfField = (name: string, value: string): number => name.length + value.length + entryOverhead

/**
 * Fields, the newest first, that together are not larger than a limit. Every change gives the table another `version`,
 * so that what was derived from it can be kept until then.
 */
export class DynamicTable {
  version = 0
  /** How many fields were ever put in; the newest has this number. */
  inserted = 0
  size = 0
  maxSize: number
  /** Oldest first, from `first` on. */
  private fields: Array<HeaderField> = []
  private first = 0
  private readonly onEvict: ((field: HeaderField, number: number) => void) | undefined

  constructor(maxSize: number, onEvict?: (field: HeaderField, number: number) => void) {
    this.maxSize = maxSize
    this.onEvict = onEvict
  }

  get length(): number {
    return this.fields.length - this.first
  }

  /** The field at a place from 0, the newest, on. */
  at(place: number): HeaderField | undefined {
    return place < this.length ? this.fields[this.fields.length - 1 - place] : undefined
  }

  /** A field that is larger than the whole table empties it, and is not put in. */
  add(name: string, value: string): void {
    const size = sizeOfField(name, value)
    this.version++
    this.shrinkTo(this.maxSize - size)
    if (size > this.maxSize) return
    this.fields.push({ name, value })
    this.size += size
    this.inserted++
  }

  resize(maxSize: number): void {
    this.version++
    this.maxSize = maxSize
    this.shrinkTo(maxSize)
  }

  private shrinkTo(size: number): void {
    while (this.size > size && this.length > 0) {
      const field = this.fields[this.first]!
      this.size -= sizeOfField(field.name, field.value)
      this.onEvict?.(field, this.inserted - this.length + 1)
      this.first++
    }
    if (this.first > 64 && this.first * 2 > this.fields.length) {
      this.fields = this.fields.slice(this.first)
      this.first = 0
    }
  }
}
