/**
 * What is done while no server takes what watches need of one: the pauses between tries, and what the log is told.
 *
 * A few failures in a row are an outage. The log has one warning of it, and one line when it is over, however many calls
 * it is about.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import type * as EtcdError from "../../EtcdError.ts"
import * as Caller from "../caller.ts"
import * as Time from "../time.ts"
import type { Pool } from "./pool.ts"
import type { StreamOptions } from "./subscription.ts"

/** How many failures in a row are told. */
const failuresTold = 3

/** What it is that no server does. */
type Matter = "call" | "read"

const words = {
  call: { begins: "etcd watches have no server", ends: "etcd watches have a server again" },
  read: { begins: "etcd watches cannot read the store", ends: "etcd watches can read the store again" }
}

type Step = (now: number, error: EtcdError.EtcdError) => Pull.Pull<[unknown, Duration.Duration], never, unknown>

export class Outage {
  private readonly pool: Pool
  private readonly options: StreamOptions
  private readonly matter: Matter
  private step: Step | undefined
  private failures = 0

  constructor(pool: Pool, options: StreamOptions, matter: Matter) {
    this.pool = pool
    this.options = options
    this.matter = matter
  }

  /** A server did what it was asked: what fails from now on is something new. */
  get over(): Effect.Effect<void> {
    if (this.failures === 0) return Effect.void
    this.failures = 0
    this.step = undefined
    return this.pool.told.delete(this.subject)
      ? Effect.flatMap(this.endpoints, (endpoints) =>
          this.say(
            Effect.annotateLogs(Effect.logInfo(`${words[this.matter].ends}, of those at ${endpoints}`), { endpoints })
          )
        )
      : Effect.void
  }

  /** Waits for the next try; fails with the error where there is to be none. */
  pause(error: EtcdError.EtcdError, isLong: boolean): Effect.Effect<void, EtcdError.EtcdError> {
    this.failures++
    const told = this.failures >= failuresTold || isLong ? this.tell(error) : Effect.void
    const next = Effect.flatMap(this.nextStep, (step) =>
      Pull.catchDone(Effect.map(step(this.pool.time.now(), error), Option.some), () => Effect.succeedNone)
    )
    return Time.inRealTime(
      this.pool.time,
      Effect.flatMap(Effect.andThen(told, next), (step) =>
        Option.isNone(step) ? Effect.fail(error) : this.sleep(step.value[1], error)
      )
    )
  }

  /** Nobody tries any more: whoever does next tells the log anew. */
  forget(): void {
    const { told } = this.pool
    if (told.get(this.subject) === this) told.delete(this.subject)
  }

  private sleep(pause: Duration.Duration, error: EtcdError.EtcdError): Effect.Effect<void> {
    return Effect.andThen(
      this.say(
        Effect.annotateLogs(Effect.logDebug("etcd watches go on elsewhere", { pause, error: error.message }), {
          "error.type": error.reason._tag,
          pauseMillis: Duration.toMillis(pause)
        })
      ),
      Effect.sleep(pause)
    )
  }

  private get nextStep(): Effect.Effect<Step> {
    return this.step === undefined
      ? Effect.map(Schedule.toStep(this.options.retry), (step) => {
          this.step = step
          return step
        })
      : Effect.succeed(this.step)
  }

  private tell(error: EtcdError.EtcdError): Effect.Effect<void> {
    const { told } = this.pool
    if (told.has(this.subject)) return Effect.void
    told.set(this.subject, this)
    return Effect.flatMap(this.endpoints, (endpoints) =>
      this.say(
        Effect.annotateLogs(
          Effect.logWarning(
            `${words[this.matter].begins}, of those at ${endpoints}, after ${this.failures} tries; they go on trying. ${error.message}`
          ),
          { endpoints, "error.type": error.reason._tag, tries: this.failures }
        )
      )
    )
  }

  private say(saying: Effect.Effect<void>): Effect.Effect<void> {
    return Caller.say(this.pool.caller, saying)
  }

  private get subject(): string {
    return `${this.matter} ${this.options.endpoint ?? ""}`
  }

  private get endpoints(): Effect.Effect<string> {
    const { endpoint } = this.options
    return endpoint === undefined
      ? Effect.map(this.pool.client.endpoints, (endpoints) => endpoints.join(", "))
      : Effect.succeed(endpoint)
  }
}
