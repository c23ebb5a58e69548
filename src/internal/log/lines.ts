/**
 * From bytes to lines.
 *
 * @internal
 */
import type { Line, LineOptions, LineReader } from "../../EtcdLog.ts"

const defaultMaxLineBytes = 1024 * 1024
const isLineLimit = (value: number | undefined): value is number =>
  Number.isSafeInteger(value) && value! >= 0 && value! <= 1024 ** 3
const headBytes = 4096
const initialCapacity = 4096
const keptCapacity = 64 * 1024
const lineFeed = 0x0a
const carriageReturn = 0x0d

export const makeLineReader = (options?: LineOptions): LineReader => {
  const given = options?.maxLineBytes
  const maxLineBytes = isLineLimit(given) ? given : defaultMaxLineBytes
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true })
  // One byte more than the limit is held, since a CR before the LF does not count.
  const capacity = maxLineBytes + 1
  let pending = new Uint8Array(0)
  let held = 0
  let seen = 0
  let lastByte = 0

  const reserve = (size: number): void => {
    if (size > pending.length) {
      const grown = new Uint8Array(Math.min(capacity, Math.max(size, pending.length * 2, initialCapacity)))
      grown.set(pending.subarray(0, held))
      pending = grown
    }
  }

  const hold = (bytes: Uint8Array): void => {
    if (bytes.length === 0) {
      return
    }
    const fitting = Math.min(bytes.length, capacity - held)
    reserve(held + fitting)
    pending.set(bytes.subarray(0, fitting), held)
    held += fitting
    seen += bytes.length
    lastByte = bytes[bytes.length - 1]!
  }

  const whole = (bytes: Uint8Array, length: number): Line => ({
    text: decoder.decode(bytes.subarray(0, length)),
    omittedBytes: 0
  })

  // A code point that the cut would split is left out as a whole.
  const cut = (bytes: Uint8Array, length: number): Line => {
    let end = Math.min(headBytes, maxLineBytes)
    while (end > 0 && (bytes[end]! & 0xc0) === 0x80) {
      end--
    }
    return { text: decoder.decode(bytes.subarray(0, end)), omittedBytes: length - end }
  }

  const line = (bytes: Uint8Array, length: number): Line =>
    length > maxLineBytes ? cut(bytes, length) : whole(bytes, length)

  const release = (): void => {
    held = 0
    seen = 0
    if (pending.length > keptCapacity) {
      pending = new Uint8Array(0)
    }
  }

  const takeHeld = (terminated: boolean): Line => {
    const taken = line(pending, terminated && lastByte === carriageReturn ? seen - 1 : seen)
    release()
    return taken
  }

  const takeFrom = (chunk: Uint8Array, start: number, end: number): Line => {
    if (seen > 0) {
      hold(chunk.subarray(start, end))
      return takeHeld(true)
    }
    const length = end > start && chunk[end - 1] === carriageReturn ? end - start - 1 : end - start
    return line(chunk.subarray(start, end), length)
  }

  return {
    push: (chunk) => {
      const lines: Array<Line> = []
      let start = 0
      let end = chunk.indexOf(lineFeed)
      while (end !== -1) {
        lines.push(takeFrom(chunk, start, end))
        start = end + 1
        end = chunk.indexOf(lineFeed, start)
      }
      hold(chunk.subarray(start))
      return lines
    },
    end: () => (seen === 0 ? [] : [takeHeld(false)])
  }
}
