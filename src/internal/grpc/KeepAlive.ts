/**
 * Watches the peer of a connection: when nothing was heard for the keep-alive interval it is sent a frame that must be
 * answered.
 *
 * That frame is an empty SETTINGS, not a PING, because servers built on grpc-go count PINGs: etcd closes a connection with
 * GOAWAY "too_many_pings" when they come more often than its `--grpc-keepalive-min-time`, or, while no call is
 * outstanding, more often than every two hours. Both frames must be acknowledged at once (RFC 9113, 6.5.3 and 6.7).
 *
 * @internal
 */
import { patience } from "../time.ts"
import type { ConnectionOptions } from "./Transport.ts"

/** How many looks the keep-alive interval is divided into: silence is noticed at most one of them late. */
const looksPerInterval = 4

interface Peer {
  readonly bytesHeard: () => number
  /** Sends an empty SETTINGS. */
  readonly probe: (onAnswer: () => void) => void
  readonly onSilence: (why: string) => void
}

export class KeepAlive {
  private readonly options: ConnectionOptions
  private readonly peer: Peer
  private watchdog: NodeJS.Timeout | undefined
  /** Ends the wait for the answer to a probe, while there is one under way. */
  private endWait: (() => void) | undefined
  private bytesHeard = 0
  /** Looks, not time: one look comes where this process stood still, however long. */
  private silentLooks = 0

  constructor(options: ConnectionOptions, peer: Peer) {
    this.options = options
    this.peer = peer
    const { keepAliveIntervalMillis } = options
    if (keepAliveIntervalMillis <= 0) return
    const lookEveryMillis = Math.max(1, keepAliveIntervalMillis / looksPerInterval)
    this.watchdog = setInterval(() => this.look(), lookEveryMillis).unref()
  }

  stop(): void {
    clearInterval(this.watchdog)
    this.answered()
  }

  /** Asks for a sign of life now, unless that is under way already, or never to be done. */
  ask(): void {
    const { keepAliveIntervalMillis, keepAliveTimeoutMillis } = this.options
    if (keepAliveIntervalMillis <= 0 || this.endWait !== undefined) return
    const heardBefore = this.peer.bytesHeard()
    this.endWait = patience(keepAliveTimeoutMillis, () => {
      this.endWait = undefined
      if (this.peer.bytesHeard() === heardBefore) this.peer.onSilence(describeSilence(keepAliveTimeoutMillis))
    })
    this.peer.probe(() => this.answered())
  }

  private look(): void {
    const heard = this.peer.bytesHeard()
    this.silentLooks = heard === this.bytesHeard ? this.silentLooks + 1 : 0
    this.bytesHeard = heard
    if (this.silentLooks >= looksPerInterval) this.ask()
  }

  private answered(): void {
    this.endWait?.()
    this.endWait = undefined
  }
}

const describeSilence = (millis: number): string =>
  `the server has not answered for ${millis} ms when asked for a sign of life; it may be paused, overloaded, or cut off`
