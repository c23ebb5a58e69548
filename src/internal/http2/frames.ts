/**
 * The frames of HTTP/2 (RFC 9113, 4 and 6): their types and flags, and how numbers lie in them.
 *
 * @internal
 */

export const FrameType = {
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

export const Flag = { ack: 0x1, endStream: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const

export const frameHeaderBytes = 9

/**
 * What SETTINGS_MAX_FRAME_SIZE is until a side says otherwise, and what we leave it at; what is sent is not larger either,
 * since a server can only allow more (RFC 9113, 6.5.2).
 */
export const maxFrameBytes = 16_384

/** The client's connection preface (RFC 9113, 3.4); its SETTINGS follow. */
export const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

export const uint32At = (bytes: Uint8Array, at: number): number =>
  bytes[at]! * 0x1000000 + ((bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!)

/** Without the first bit, which is reserved in stream ids and window increments. */
export const uint31At = (bytes: Uint8Array, at: number): number =>
  ((bytes[at]! & 0x7f) << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!
