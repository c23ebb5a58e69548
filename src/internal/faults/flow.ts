/**
 * The bytes of one connection in one direction, under the conditions of the way that they go.
 *
 * They arrive in order, whole and once, as late as the way lets them; and the end of the connection arrives as they do,
 * after all that came before it: who has ended what it says may still be told something. What cannot go on waits here up
 * to a limit, and then where it comes from, as it does in the buffers of a machine whose network is gone.
 *
 * @internal
 */
import type { Socket } from "node:net"
import { longestTimer } from "../time.ts"

/** What befalls what one party says to another. */
export interface Condition {
  /** Connections are closed, and so is each new one. */
  readonly isCut: boolean
  /** Nothing arrives, and nobody is told. What was sent arrives when this is over. */
  readonly hangs: boolean
  readonly delayMillis: number
  /** Up to so much is added to the delay or taken from it, anew for each piece. */
  readonly jitterMillis: number
  /** Infinity: no limit. */
  readonly bytesPerSecond: number
}

export const undisturbed: Condition = {
  isCut: false,
  hangs: false,
  delayMillis: 0,
  jitterMillis: 0,
  bytesPerSecond: Number.POSITIVE_INFINITY
}

/** What holds where two conditions do: the worse of them; delays add up. */
export const worse = (one: Condition, other: Condition): Condition => ({
  isCut: one.isCut || other.isCut,
  hangs: one.hangs || other.hangs,
  delayMillis: one.delayMillis + other.delayMillis,
  jitterMillis: one.jitterMillis + other.jitterMillis,
  bytesPerSecond: Math.min(one.bytesPerSecond, other.bytesPerSecond)
})

/** How many bytes wait here before no more is read. */
const longestQueue = 1024 * 1024

/** Where the rate is limited, what goes on at once takes about so long. */
const stepMillis = 20

/** What has come, and is to arrive: bytes, that the source says no more, or that it has gone. */
interface Piece {
  readonly what: Uint8Array | "end" | "close"
  readonly sentAt: number
  due: number
}

export interface Flow {
  /** To be called when the condition has changed. */
  readonly changed: () => void
  readonly end: () => void
}

/** Passes on to `target` what `source` says, and that it has ended. Both have to allow to be half open. */
export const make = (source: Socket, target: Socket, condition: () => Condition): Flow => {
  const queue: Array<Piece> = []
  let queued = 0
  /** When the last piece is due. */
  let lastDue = 0
  /** When the way is free again of what has gone, at the rate that it had. */
  let freeAt = 0
  let rate = Number.POSITIVE_INFINITY
  let isFull = false
  let hasEnded = false
  let timer: NodeJS.Timeout | undefined

  const schedule = (piece: Piece): void => {
    const { delayMillis, jitterMillis } = condition()
    lastDue = Math.max(lastDue, piece.sentAt + delayMillis + jitterMillis * (2 * Math.random() - 1))
    piece.due = lastDue
  }

  const enqueue = (what: Piece["what"]): void => {
    if (hasEnded) return
    const piece = { what, sentAt: performance.now(), due: 0 }
    schedule(piece)
    queue.push(piece)
    if (typeof what !== "string") queued += what.length
    goOn()
  }

  /** Passes on as many bytes as may go at once, and leaves the rest. */
  const write = (piece: Piece, bytes: Uint8Array): void => {
    const most = Math.max(1, Math.floor((rate * stepMillis) / 1000))
    const now = bytes.subarray(0, most)
    if (now.length < bytes.length) queue[0] = { ...piece, what: bytes.subarray(most) }
    else queue.shift()
    queued -= now.length
    freeAt = Math.max(freeAt, performance.now() - stepMillis) + (1000 * now.length) / rate
    isFull = !target.write(now) && !target.destroyed
  }

  const deliver = (piece: Piece): void => {
    const { what } = piece
    if (typeof what === "string") queue.shift()
    if (what === "end") target.end()
    else if (what === "close") target.destroySoon()
    else write(piece, what)
  }

  const goOn = (): void => {
    clearTimeout(timer)
    while (queue.length > 0 && !isFull && !condition().hangs) {
      const early = Math.max(queue[0]!.due, freeAt) - performance.now()
      if (early > 0) {
        timer = setTimeout(goOn, Math.min(early, longestTimer))
        break
      }
      deliver(queue[0]!)
    }
    if (queued >= longestQueue) source.pause()
    else if (source.isPaused()) source.resume()
  }

  const hasRoom = (): void => {
    isFull = false
    goOn()
  }

  source.on("data", enqueue)
  source.once("end", () => enqueue("end"))
  source.once("close", () => enqueue("close"))
  target.on("drain", hasRoom)
  target.once("close", hasRoom)
  source.resume()

  const changed = (): void => {
    if (rate !== condition().bytesPerSecond) freeAt = 0
    rate = condition().bytesPerSecond
    lastDue = 0
    queue.forEach(schedule)
    goOn()
  }
  changed()

  return {
    changed,
    end: () => {
      hasEnded = true
      clearTimeout(timer)
      queue.length = 0
    }
  }
}
