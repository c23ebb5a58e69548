/**
 * From header blocks to the headers of an answer, and whether they keep the rules of HTTP (RFC 9113, 8.2 and 8.3).
 *
 * The blocks of one server's answers are nearly always the same few bytes. A short block that did not change the
 * decoder's table is read once, and gives the same object until the table changes; so what was found out about it can be
 * kept as well, by its identity.
 *
 * @internal
 */
import type { HeaderSection } from "../grpc/answer.ts"
import { fieldBytes } from "../grpc/metadata.ts"
import { HpackDecoder } from "./HpackDecoder.ts"

export interface HeaderBlock extends HeaderSection {
  /** What makes the answer malformed, if anything does. */
  readonly malformed: string | undefined
}

/** The largest list of headers that is taken, as SETTINGS_MAX_HEADER_LIST_SIZE counts it (RFC 9113, 6.5.2). */
export const maxHeaderListBytes = 65_536

const longestKeptBlock = 6
const keptBlocks = 64

/** Fields that belong to HTTP/1.1 alone (RFC 9113, 8.2.2). */
const forbidden = new Set(["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"])

export class HeaderReader {
  private readonly decoder = new HpackDecoder()
  private readonly kept = new Map<number, HeaderBlock>()
  private keptVersion = 0
  private headers: Record<string, string> = {}
  private size = 0
  private status: number | undefined
  private malformed: string | undefined
  private hasFields = false

  /** A text says that the block cannot be decoded, which ends the connection. */
  read(bytes: Uint8Array, start: number, end: number): HeaderBlock | string {
    if (end - start > longestKeptBlock) return this.decode(bytes, start, end)
    const { table } = this.decoder
    if (this.keptVersion !== table.version) {
      this.kept.clear()
      this.keptVersion = table.version
    }
    const key = keyOf(bytes, start, end)
    const known = this.kept.get(key)
    if (known !== undefined) return known
    const block = this.decode(bytes, start, end)
    if (typeof block !== "string" && table.version === this.keptVersion && this.kept.size < keptBlocks) {
      this.kept.set(key, block)
    }
    return block
  }

  private decode(bytes: Uint8Array, start: number, end: number): HeaderBlock | string {
    this.headers = Object.create(null)
    this.size = 0
    this.status = undefined
    this.malformed = undefined
    this.hasFields = false
    const failure = this.decoder.decode(bytes, start, end, this.take)
    return failure ?? { headers: this.headers, status: this.status, malformed: this.malformed }
  }

  private readonly take = (name: string, value: string): void => {
    this.size += fieldBytes(name, value)
    if (this.size > maxHeaderListBytes) {
      this.malformed ??= `its headers are larger than ${maxHeaderListBytes} bytes`
    } else if (name.charCodeAt(0) === 0x3a) {
      this.takePseudo(name, value)
    } else {
      this.takeField(name, value)
    }
  }

  private takePseudo(name: string, value: string): void {
    if (name !== ":status") this.malformed ??= "it has a pseudo header that no answer has"
    else if (this.status !== undefined) this.malformed ??= "it has two values of :status"
    else if (this.hasFields) this.malformed ??= "its :status is not its first header"
    else if (!/^[1-9]\d\d$/.test(value)) this.malformed ??= "its :status is not a number of three digits"
    else this.status = Number(value)
  }

  private takeField(name: string, value: string): void {
    this.hasFields = true
    if (!isFieldName(name))
      this.malformed ??= "it has a header whose name is not in lower case, or has characters that no name has"
    else if (!isFieldValue(value))
      this.malformed ??= `the value of its header "${name}" has characters that no value has`
    else if (forbidden.has(name)) this.malformed ??= `it has the header "${name}", which HTTP/2 does not allow`
    else {
      const before = this.headers[name]
      this.headers[name] = before === undefined ? value : `${before}, ${value}`
    }
  }
}

/** The bytes as a number, with a one before them, so that the length counts. */
const keyOf = (bytes: Uint8Array, start: number, end: number): number => {
  let key = 1
  for (let at = start; at < end; at++) key = key * 256 + bytes[at]!
  return key
}

/** A token (RFC 9110, 5.6.2) without upper-case letters. */
const isFieldName = (name: string): boolean => /^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(name)

// biome-ignore lint/suspicious/noControlCharactersInRegex: NUL is what has to be found
const isFieldValue = (value: string): boolean => !/[\u0000\r\n]|^[ \t]|[ \t]$/.test(value)
