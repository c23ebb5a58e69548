/**
 * SETTINGS (RFC 9113, 6.5): what the server asks of a client, checked.
 *
 * @internal
 */
import { Reset } from "../grpc/status.ts"
import { uint32At } from "./frames.ts"
import { largestWindow } from "./windows.ts"

export const SettingId = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6
} as const

const settingBytes = 6
const smallestMaxFrameSize = 16_384
const largestMaxFrameSize = 16_777_215

export interface BrokenRule {
  readonly code: number
  readonly what: string
}

/** Hands on each setting of a payload that keeps the rules; those that are unknown too, to be ignored. */
export const readSettings = (
  bytes: Uint8Array,
  start: number,
  end: number,
  take: (id: number, value: number) => void
): BrokenRule | undefined => {
  if ((end - start) % settingBytes !== 0) {
    return { code: Reset.frameSizeError, what: `SETTINGS of ${end - start} bytes` }
  }
  for (let at = start; at < end; at += settingBytes) {
    const id = (bytes[at]! << 8) | bytes[at + 1]!
    const value = uint32At(bytes, at + 2)
    const broken = check(id, value)
    if (broken !== undefined) return broken
    take(id, value)
  }
  return undefined
}

const check = (id: number, value: number): BrokenRule | undefined => {
  if (id === SettingId.enablePush && value !== 0) {
    return { code: Reset.protocolError, what: `SETTINGS_ENABLE_PUSH of ${value} from a server` }
  }
  if (id === SettingId.initialWindowSize && value > largestWindow) {
    return { code: Reset.flowControlError, what: `SETTINGS_INITIAL_WINDOW_SIZE of ${value}` }
  }
  if (id === SettingId.maxFrameSize && (value < smallestMaxFrameSize || value > largestMaxFrameSize)) {
    return { code: Reset.protocolError, what: `SETTINGS_MAX_FRAME_SIZE of ${value}` }
  }
  return undefined
}
