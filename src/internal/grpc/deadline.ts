/**
 * When the time of a call is up.
 *
 * The server keeps the same deadline (`grpc-timeout`), and some servers, grpc-go among them, reset the stream with
 * CANCEL when it passes. That reset may be read before the timer here has fired, and means the same.
 *
 * @internal
 */

/** The timeout that the server is told is rounded to milliseconds, and so are timers. */
const toleranceMillis = 2

/** The time that a call may take, if there is a limit. */
export const finite = (millis: number | undefined): number | undefined =>
  millis !== undefined && Number.isFinite(millis) ? millis : undefined

export class Deadline {
  readonly millis: number
  private readonly at: number

  constructor(millis: number) {
    this.millis = millis
    this.at = performance.now() + millis
  }

  get isDue(): boolean {
    return performance.now() >= this.at - toleranceMillis
  }
}
