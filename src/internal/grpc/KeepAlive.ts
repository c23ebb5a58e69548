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
import { longestTimer, patience } from "../time.ts"
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
  /** Ends the wait for a sign of life, while one is waited for. */
  private endWait: (() => void) | undefined
  /** A server that is heard all the time may leave a probe unanswered; more of them would say nothing more. */
  private isAnswerDue = false
  private isStopped = false
  private bytesHeard = 0
  /** Looks, not time: one look comes where this process stood still, however long. */
  private silentLooks = 0

  constructor(options: ConnectionOptions, peer: Peer) {
    this.options = options
    this.peer = peer
    const { keepAliveIntervalMillis } = options
    if (keepAliveIntervalMillis <= 0) return
    const lookEveryMillis = Math.max(1, keepAliveIntervalMillis / looksPerInterval)
    this.watchdog = setInterval(() => this.look(), Math.min(lookEveryMillis, longestTimer)).unref()
  }

  stop(): void {
    this.isStopped = true
    clearInterval(this.watchdog)
    this.heard()
  }

  /** Asks for a sign of life now, unless that is under way already, or never to be done. */
  ask(): void {
    const { keepAliveIntervalMillis, keepAliveTimeoutMillis } = this.options
    if (this.isStopped || keepAliveIntervalMillis <= 0 || this.endWait !== undefined) return
    const heardBefore = this.peer.bytesHeard()
    this.endWait = patience(keepAliveTimeoutMillis, () => {
      this.endWait = undefined
      if (this.peer.bytesHeard() === heardBefore) this.peer.onSilence(describeSilence(keepAliveTimeoutMillis))
    })
    if (this.isAnswerDue) return
    this.isAnswerDue = true
    this.peer.probe(() => {
      this.isAnswerDue = false
      this.heard()
    })
  }

  private look(): void {
    const heard = this.peer.bytesHeard()
    this.silentLooks = heard === this.bytesHeard ? this.silentLooks + 1 : 0
    this.bytesHeard = heard
    if (this.silentLooks >= looksPerInterval) this.ask()
  }

  private heard(): void {
    this.endWait?.()
    this.endWait = undefined
  }
}

const describeSilence = (millis: number): string =>
  `the server has not answered for ${millis} ms when asked for a sign of life; it may be paused, overloaded, or cut off`
