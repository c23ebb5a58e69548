/**
 * When the time of a call is up.
 *
 * The server keeps the same deadline (`grpc-timeout`), and some servers, grpc-go among them, reset the stream with
 * CANCEL when it passes. That reset may be read before the timer here has fired, and means the same.
 *
 * @internal
 */
import { longestTimer, whenRead } from "../time.ts"

/** The timeout that the server is told is rounded to milliseconds, and so are timers. */
const toleranceMillis = 2

/** The time that a call may take, if there is a limit. */
export const finite = (millis: number | undefined): number | undefined =>
  millis !== undefined && Number.isFinite(millis) ? millis : undefined

interface Limited {
  /** How much has come over its connection, where it has one of its own. */
  readonly bytesHeard?: number | undefined
  /** The time is up. */
  readonly expire: (timeoutMillis: number) => void
}

export class Deadline {
  readonly millis: number
  private readonly at: number
  private readonly call: Limited
  private timer: NodeJS.Timeout
  private isStopped = false

  constructor(call: Limited, millis: number) {
    this.call = call
    this.millis = millis
    this.at = performance.now() + millis
    this.timer = this.wait(millis)
  }

  get isDue(): boolean {
    return performance.now() >= this.at - toleranceMillis
  }

  stop(): void {
    this.isStopped = true
    clearTimeout(this.timer)
  }

  private wait(millis: number): NodeJS.Timeout {
    return setTimeout(fired, Math.min(millis, longestTimer), this).unref()
  }

  /** Where this process stood still, a timer fires before the sockets are read; an answer that lies there counts. */
  onTimer(): void {
    if (!this.isDue) {
      this.timer = this.wait(this.at - performance.now())
      return
    }
    const heard = () => this.call.bytesHeard ?? 0
    whenRead(heard, performance.now() - this.at, () => {
      if (!this.isStopped) this.call.expire(this.millis)
    })
  }
}

const fired = (deadline: Deadline): void => deadline.onTimer()
