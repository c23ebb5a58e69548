/**
 * The time of calls whose callers have set none.
 *
 * @internal
 */
import * as Time from "../time.ts"
import type { Member } from "./member.ts"

/**
 * The calls whose callers have set no deadline, the oldest first. All of them may take the same time, so that one timer
 * does for them.
 */
export class Unhurried {
  private readonly time: Time.Time
  private first: Member | undefined = undefined
  private last: Member | undefined = undefined
  private isTiming = false

  constructor(time: Time.Time) {
    this.time = time
  }

  add(member: Member): void {
    member.older = this.last
    if (this.last === undefined) this.first = member
    else this.last.younger = member
    this.last = member
    this.wait()
  }

  /** What it pointed to is let go of, since it may be kept by somebody who is old. */
  remove(member: Member): void {
    const { older, younger } = member
    if (older === undefined) this.first = younger
    else older.younger = younger
    if (younger === undefined) this.last = older
    else younger.older = older
    member.older = undefined
    member.younger = undefined
  }

  private wait(): void {
    if (this.isTiming || this.first === undefined) return
    this.isTiming = true
    Time.patience(Math.max(0, this.first.deadlineAt - this.time.now()), () => {
      this.isTiming = false
      const now = this.time.now()
      while (this.first?.isDue(now) === true) this.first.expire()
      this.wait()
    })
  }
}
