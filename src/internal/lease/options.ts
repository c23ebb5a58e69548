/**
 * What the callers of the lease service may say. All checks of it are here; each says what would be right.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as EtcdClient from "../../EtcdClient.ts"
import * as EtcdError from "../../EtcdError.ts"

type Checked<A> = Effect.Effect<A, EtcdError.EtcdError>

const wrong = (what: string, right: string, given: unknown): Checked<never> =>
  Effect.fail(EtcdError.invalid(`${what} is ${right}, and not ${show(given)}.`))

const show = (value: unknown): string => {
  if (typeof value === "string") return JSON.stringify(value)
  if (typeof value === "bigint") return `${value}n`
  return typeof value === "object" && value !== null && !Duration.isDuration(value) ? "an object" : String(value)
}

/** The time to live as etcd wants it: whole seconds. What etcd finds too long it says so itself. */
export const ttl = (input: Duration.Input): Checked<bigint> => {
  const seconds = Option.match(Duration.fromInput(input), { onNone: () => 0, onSome: Duration.toSeconds })
  return seconds > 0 && Number.isFinite(seconds)
    ? Effect.succeed(BigInt(Math.min(Math.ceil(seconds), Number.MAX_SAFE_INTEGER)))
    : wrong("The time to live of a lease", "a positive, finite duration", input)
}

/** The id as it is on the wire: signed. */
export const id = (given: bigint): Checked<bigint> => {
  const isId = typeof given === "bigint" && (BigInt.asIntN(64, given) === given || BigInt.asUintN(64, given) === given)
  return isId && given !== 0n
    ? Effect.succeed(BigInt.asIntN(64, given))
    : wrong("The id of a lease", "a bigint of 64 bits other than 0n", given)
}

export const flag = (name: string, given: boolean | undefined): Checked<boolean> =>
  given === undefined || typeof given === "boolean"
    ? Effect.succeed(given ?? false)
    : wrong(`The option ${name}`, "true or false", given)

const isMetadata = (given: unknown): boolean =>
  typeof given === "object" && given !== null && Object.values(given).every((value) => typeof value === "string")

const isDeadline = (given: Duration.Input): boolean =>
  Option.exists(Duration.fromInput(given), (duration) => Duration.toMillis(duration) > 0)

export const call = <Options extends EtcdClient.CallOptions>(options: Options): Checked<Options> => {
  const { deadline, endpoint, metadata, requireLeader, retry } = options
  if (deadline !== undefined && !isDeadline(deadline)) {
    return wrong("The deadline of a call", "a positive duration", deadline)
  }
  if (retry !== undefined && !Schedule.isSchedule(retry)) return wrong("The option retry", "a Schedule", retry)
  if (endpoint !== undefined && typeof endpoint !== "string") {
    return wrong("The option endpoint", "a text such as http://10.0.0.1:2379", endpoint)
  }
  if (metadata !== undefined && !isMetadata(metadata)) {
    return wrong("The option metadata", "an object whose values are texts", metadata)
  }
  return Effect.as(flag("requireLeader", requireLeader), options)
}
