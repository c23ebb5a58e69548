/**
 * Frames of HTTP/2 (RFC 9113) as bytes, and header blocks (RFC 7541) without compression: just enough to say anything to
 * a client, right or wrong.
 */

export const Type = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9
} as const

export const Flag = { endStream: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const

export interface Frame {
  readonly type: number
  readonly flags: number
  readonly stream: number
  readonly payload: Buffer
}

export const frame = (type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer => {
  const header = Buffer.alloc(9)
  header.writeUIntBE(payload.length, 0, 3)
  header[3] = type
  header[4] = flags
  header.writeUInt32BE(stream >>> 0, 5)
  return Buffer.concat([header, payload])
}

const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value >>> 0)
  return bytes
}

const integer = (value: number, prefixBits: number): Buffer => {
  const max = 2 ** prefixBits - 1
  if (value < max) return Buffer.of(value)
  const bytes = [max]
  let rest = value - max
  while (rest >= 128) {
    bytes.push((rest & 127) | 128)
    rest = Math.floor(rest / 128)
  }
  bytes.push(rest)
  return Buffer.from(bytes)
}

const text = (value: string): Buffer => {
  const bytes = Buffer.from(value, "latin1")
  return Buffer.concat([integer(bytes.length, 7), bytes])
}

export type HeaderList = ReadonlyArray<readonly [name: string, value: string]>

export const headerBlock = (headers: HeaderList): Buffer =>
  Buffer.concat(headers.flatMap(([name, value]) => [Buffer.of(0), text(name), text(value)]))

export const settings = (values: Readonly<Record<number, number>> = {}): Buffer =>
  frame(
    Type.settings,
    0,
    0,
    Buffer.concat(Object.entries(values).map(([id, value]) => Buffer.concat([Buffer.of(0, Number(id)), uint32(value)])))
  )

export const settingsAck = frame(Type.settings, Flag.ack, 0)

export const headers = (stream: number, list: HeaderList, flags: number = Flag.endHeaders): Buffer =>
  frame(Type.headers, flags, stream, headerBlock(list))

export const data = (stream: number, payload: Uint8Array, flags = 0): Buffer => frame(Type.data, flags, stream, payload)

export const rstStream = (stream: number, code: number): Buffer => frame(Type.rstStream, 0, stream, uint32(code))

export const goaway = (lastStream: number, code: number, debug = ""): Buffer =>
  frame(Type.goaway, 0, 0, Buffer.concat([uint32(lastStream), uint32(code), Buffer.from(debug)]))

export const ping = (payload: Uint8Array = Buffer.alloc(8), flags = 0): Buffer => frame(Type.ping, flags, 0, payload)

export const windowUpdate = (stream: number, increment: number): Buffer =>
  frame(Type.windowUpdate, 0, stream, uint32(increment))

/** A gRPC message with its prefix. */
export const message = (payload: Uint8Array, flag = 0): Buffer =>
  Buffer.concat([Buffer.of(flag), uint32(payload.length), payload])

export const grpcHeaders: HeaderList = [
  [":status", "200"],
  ["content-type", "application/grpc"]
]

/** A whole good answer of one message. */
export const answer = (stream: number, payload: Uint8Array): Buffer =>
  Buffer.concat([
    headers(stream, grpcHeaders),
    data(stream, message(payload)),
    headers(stream, [["grpc-status", "0"]], Flag.endHeaders | Flag.endStream)
  ])

/** Cuts a byte stream into frames. */
export const makeFrameReader = (onFrame: (frame: Frame) => void): ((chunk: Buffer) => void) => {
  let held: Buffer = Buffer.alloc(0)
  return (chunk) => {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk])
    while (held.length >= 9) {
      const length = held.readUIntBE(0, 3)
      if (held.length < 9 + length) return
      const found = {
        type: held[3]!,
        flags: held[4]!,
        stream: held.readUInt32BE(5) & 0x7fffffff,
        payload: held.subarray(9, 9 + length)
      }
      held = held.subarray(9 + length)
      onFrame(found)
    }
  }
}
