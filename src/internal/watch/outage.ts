/**
 * What is done while no server takes what watches need of one: the pauses between tries, and what the log is told.
 *
 * A few failures in a row are an outage. The log has one warning of it, and one line when it is over, however many calls
 * it is about.
 *
 * @internal
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import type { Client } from "../../EtcdClient.ts"
import type * as EtcdError from "../../EtcdError.ts"
import * as Caller from "../caller.ts"
import * as Time from "../time.ts"
import type { Carriage } from "./subscription.ts"

/** How many failures in a row are told. */
const failuresTold = 3

/** What it is that no server does. */
export type Matter = "call" | "read"

const words = {
  call: { begins: "etcd watches have no server", ends: "etcd watches have a server again" },
  read: { begins: "etcd watches cannot read the store", ends: "etcd watches can read the store again" }
}

/** What all outages of a service have in common. */
export interface Desk {
  readonly client: Client
  /** Whoever asked for a watch last. */
  readonly caller: Caller.Caller
  readonly time: Time.Time
  /** Who has told the log of what. */
  readonly told: Map<string, Outage>
}

type Step = (now: number, error: EtcdError.EtcdError) => Pull.Pull<[unknown, Duration.Duration], never, unknown>

export class Outage {
  private readonly desk: Desk
  private readonly carriage: Carriage
  private readonly matter: Matter
  private step: Step | undefined
  private failures = 0

  constructor(desk: Desk, carriage: Carriage, matter: Matter) {
    this.desk = desk
    this.carriage = carriage
    this.matter = matter
  }

  /** A server did what it was asked: what fails from now on is something new. */
  get over(): Effect.Effect<void> {
    if (this.failures === 0) return Effect.void
    this.failures = 0
    this.step = undefined
    return this.desk.told.delete(this.place)
      ? Effect.flatMap(this.endpoints, (endpoints) =>
          this.say(Effect.logInfo(`${words[this.matter].ends}, of those at ${endpoints}`))
        )
      : Effect.void
  }

  /** Waits for the next try; fails with the error where there is to be none. */
  pause(error: EtcdError.EtcdError, isLong: boolean): Effect.Effect<void, EtcdError.EtcdError> {
    this.failures++
    const told = this.failures >= failuresTold || isLong ? this.tell(error) : Effect.void
    const next = Effect.flatMap(this.nextStep, (step) =>
      Pull.catchDone(Effect.map(step(this.desk.time.now(), error), Option.some), () => Effect.succeedNone)
    )
    return Time.inRealTime(
      this.desk.time,
      Effect.flatMap(Effect.andThen(told, next), (step) =>
        Option.isNone(step) ? Effect.fail(error) : this.sleep(step.value[1], error)
      )
    )
  }

  /** Nobody tries any more: whoever does next tells the log himself. */
  forget(): void {
    const { told } = this.desk
    if (told.get(this.place) === this) told.delete(this.place)
  }

  private sleep(pause: Duration.Duration, error: EtcdError.EtcdError): Effect.Effect<void> {
    return Effect.andThen(
      this.say(Effect.logDebug("etcd watches go on elsewhere", { pause, error: error.message })),
      Effect.sleep(pause)
    )
  }

  private get nextStep(): Effect.Effect<Step> {
    return this.step === undefined
      ? Effect.map(Schedule.toStep(this.carriage.retry), (step) => {
          this.step = step
          return step
        })
      : Effect.succeed(this.step)
  }

  private tell(error: EtcdError.EtcdError): Effect.Effect<void> {
    const { told } = this.desk
    if (told.has(this.place)) return Effect.void
    told.set(this.place, this)
    return Effect.flatMap(this.endpoints, (endpoints) =>
      this.say(
        Effect.logWarning(
          `${words[this.matter].begins}, of those at ${endpoints}, after ${this.failures} tries; they go on trying. ${error.message}`
        )
      )
    )
  }

  private say(saying: Effect.Effect<void>): Effect.Effect<void> {
    return Caller.say(this.desk.caller, saying)
  }

  private get place(): string {
    return `${this.matter} ${this.carriage.endpoint ?? ""}`
  }

  private get endpoints(): Effect.Effect<string> {
    const { endpoint } = this.carriage
    return endpoint === undefined
      ? Effect.map(this.desk.client.endpoints, (endpoints) => endpoints.join(", "))
      : Effect.succeed(endpoint)
  }
}
