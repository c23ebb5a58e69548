/**
 * The bytes of one connection in one direction, under the conditions of the way that they go.
 *
 * They arrive in order, whole and once, as late as the way lets them; and the end of the connection arrives as they do,
 * after all that came before it. What cannot go on waits here up to a limit, and then where it comes from, as it does
 * in the buffers of a machine whose network is gone.
 *
 * @internal
 */
import type { Socket } from "node:net"

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
const pieceMillis = 20

interface Piece {
  /** `undefined`: the connection ends. */
  readonly bytes: Uint8Array | undefined
  readonly sentAt: number
  due: number
}

export interface Flow {
  /** To be called when the condition has changed. */
  readonly changed: () => void
  readonly end: () => void
}

/** Passes on to `target` what `source` says, and that it has ended. */
export const make = (source: Socket, target: Socket, condition: () => Condition): Flow => {
  const queue: Array<Piece> = []
  let queued = 0
  /** When the way is free again of what went before, and when the last piece is due. */
  let freeAt = 0
  let lastDue = 0
  let isFull = false
  let hasEnded = false
  let timer: NodeJS.Timeout | undefined

  const schedule = (piece: Piece): void => {
    const { bytesPerSecond, delayMillis, jitterMillis } = condition()
    freeAt = Math.max(freeAt, piece.sentAt) + (1000 * (piece.bytes?.length ?? 0)) / bytesPerSecond
    lastDue = Math.max(lastDue, freeAt + delayMillis + jitterMillis * (2 * Math.random() - 1))
    piece.due = lastDue
  }

  const enqueue = (bytes: Uint8Array | undefined): void => {
    const piece = { bytes, sentAt: performance.now(), due: 0 }
    schedule(piece)
    queue.push(piece)
    queued += bytes?.length ?? 0
  }

  const deliver = ({ bytes }: Piece): void => {
    if (bytes === undefined) return void target.destroySoon()
    queued -= bytes.length
    isFull = !target.write(bytes)
  }

  const goOn = (): void => {
    clearTimeout(timer)
    while (queue.length > 0 && !isFull && !condition().hangs) {
      const early = queue[0]!.due - performance.now()
      if (early > 0) {
        timer = setTimeout(goOn, early)
        break
      }
      deliver(queue.shift()!)
    }
    if (queued >= longestQueue) source.pause()
    else if (source.isPaused()) source.resume()
  }

  source.on("data", (bytes: Uint8Array) => {
    if (hasEnded) return
    const most = Math.max(1, Math.floor((condition().bytesPerSecond * pieceMillis) / 1000))
    for (let from = 0; from < bytes.length; from += most) enqueue(bytes.subarray(from, from + most))
    goOn()
  })
  source.once("close", () => {
    if (hasEnded) return
    enqueue(undefined)
    goOn()
  })
  target.on("drain", () => {
    isFull = false
    goOn()
  })
  source.resume()

  return {
    changed: () => {
      freeAt = 0
      lastDue = 0
      queue.forEach(schedule)
      goOn()
    },
    end: () => {
      hasEnded = true
      clearTimeout(timer)
      queue.length = 0
    }
  }
}
