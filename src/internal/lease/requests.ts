/**
 * The requests for leases, and how long and how often they are tried, in real time.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as EtcdClient from "../../EtcdClient.ts"
import * as EtcdError from "../../EtcdError.ts"
import { format } from "../../EtcdId.ts"
import { closedError } from "../client/engine.ts"
import { deadlineExceeded, type Limit, limitOf } from "../client/limit.ts"
import { blamesEndpoint, decide } from "../client/retryRules.ts"
import * as Rpc from "../proto/rpc_pb.ts"
import * as Time from "../time.ts"
import { quantum } from "./entry.ts"

type Client = EtcdClient.Client

const notFound = (id: bigint, method: string): EtcdError.EtcdError =>
  EtcdError.make(
    new EtcdError.LeaseNotFound({
      message: `There is no lease ${format(id)}: it was never granted, has expired, or was revoked. Grant a new lease.`,
      outcome: "not-applied",
      method
    })
  )

const unanswered = EtcdError.make(
  new EtcdError.ConnectionLost({
    message: "Lease.LeaseKeepAlive failed: the server ended the stream without an answer. Try again.",
    outcome: "not-applied",
    method: "Lease.LeaseKeepAlive"
  })
)

const tooSlow = (id: bigint, ttlMillis: number, method: string): EtcdError.EtcdError =>
  EtcdError.make(
    new EtcdError.DeadlineExceeded({
      message:
        `etcd takes longer to answer than the lease ${format(id)} lives, ${Duration.format(Duration.millis(ttlMillis))}, ` +
        "so it cannot be held. Take a longer time to live, or look at the health of the cluster.",
      outcome: "unknown",
      method
    })
  )

/** What has come by now is read, and passed on to who waits for it. */
const lastReading = Effect.repeat(Time.reading, { times: 2 })

/** What is told where a call was given no time at all: nothing was sent. */
export const withoutTime = (limit: Limit, method: string): EtcdError.EtcdError =>
  deadlineExceeded(limit, { method, outcome: "not-applied", wasSent: false })

/** Holds several tries of a call to the time of one. */
export const within = <A, R>(
  time: Time.Time,
  effect: Effect.Effect<A, EtcdError.EtcdError, R>,
  limit: Limit,
  method: string
): Effect.Effect<A, EtcdError.EtcdError, R> => {
  if (limit.millis === Number.POSITIVE_INFINITY) return effect
  if (limit.millis <= 0) return Effect.fail(withoutTime(limit, method))
  const error = deadlineExceeded(limit, { method, outcome: "unknown", wasSent: true })
  return Time.within(time, effect, limit.millis, () => Effect.andThen(lastReading, Effect.fail(error)))
}

/** Whether another try may mend a failure that leaves open what came of the first. */
export const isMendable = (error: EtcdError.EtcdError): boolean =>
  error.outcome === "unknown" && blamesEndpoint(error.reason)

/** Tries again, with the pauses of a schedule, until the schedule ends or nobody wants it any more. */
export const retrying = <A, R>(
  time: Time.Time,
  attempt: Effect.Effect<A, EtcdError.EtcdError, R>,
  schedule: Schedule.Schedule<unknown, EtcdError.EtcdError>,
  isWorthwhile: (error: EtcdError.EtcdError) => boolean,
  unwanted: Effect.Effect<void> = Effect.never
): Effect.Effect<A, EtcdError.EtcdError, R> =>
  Effect.gen(function* () {
    let step: Time.Step<EtcdError.EtcdError> | undefined
    while (true) {
      const result = yield* Effect.result(attempt)
      if (Result.isSuccess(result)) return result.success
      const error = result.failure
      if (!isWorthwhile(error)) return yield* Effect.fail(error)
      step ??= yield* Schedule.toStep(schedule)
      const pause = yield* Time.nextPause(time, step, error)
      if (pause === undefined) return yield* Effect.fail(error)
      const goesOn = Effect.as(Time.sleep(time, pause), true)
      if (!(yield* Effect.raceFirst(goesOn, Effect.as(unwanted, false)))) return yield* Effect.fail(error)
    }
  })

export const grant = (client: Client, id: bigint, ttl: bigint, options: EtcdClient.CallOptions) =>
  client.unary(Rpc.Lease.method.leaseGrant, { ID: id, TTL: ttl }, options)

export const revoke = (client: Client, id: bigint, options: EtcdClient.CallOptions) =>
  client.unary(Rpc.Lease.method.leaseRevoke, { ID: id }, options)

export const timeToLive = (client: Client, id: bigint, keys: boolean, options: EtcdClient.CallOptions) =>
  Effect.flatMap(client.unary(Rpc.Lease.method.leaseTimeToLive, { ID: id, keys }, options), (answer) =>
    answer.TTL < 0n && answer.grantedTTL === 0n
      ? Effect.fail(notFound(id, "Lease.LeaseTimeToLive"))
      : Effect.succeed(answer)
  )

export const list = (client: Client, options: EtcdClient.CallOptions) =>
  client.unary(Rpc.Lease.method.leaseLeases, {}, options)

interface Renewed {
  readonly header: Rpc.ResponseHeader | undefined
  readonly ttl: bigint
  /** When the keep-alive was sent that was answered. */
  readonly sentAt: number
}

/** The endpoint after one that is no good, where there is another. */
export const endpointAfter = (client: Client, bad: string | undefined): Effect.Effect<string | undefined> =>
  client.endpoints.pipe(
    Effect.map((endpoints) => {
      const next = endpoints[(endpoints.indexOf(bad ?? "") + 1) % endpoints.length]
      return next === bad ? undefined : next
    }),
    Effect.catchCause(() => Effect.undefined)
  )

/** Tries an endpoint once: where it cannot be connected to, there are others. */
export const once = Schedule.recurs(0)

/** How long one endpoint is waited for while there is another, in milliseconds; the next one twice as long. */
const firstPatience = 1000

/**
 * Sends one keep-alive on a stream of its own, and again when that stream breaks before the answer, or when its server
 * is silent and there is another one.
 */
export const renew = (
  client: Client,
  time: Time.Time,
  id: bigint,
  options: EtcdClient.CallOptions
): Effect.Effect<Renewed, EtcdError.EtcdError> =>
  Effect.suspend(() => {
    const method = "Lease.LeaseKeepAlive"
    let opened = false
    let turnedTo: string | undefined
    let patience = firstPatience
    /** Where to ask next when this one says nothing. */
    const silence = (endpoint: string): Effect.Effect<string> =>
      Effect.gen(function* () {
        yield* Time.sleep(time, patience)
        yield* Time.reading
        turnedTo = yield* endpointAfter(client, turnedTo ?? endpoint)
        if (turnedTo === undefined) return yield* Effect.never
        patience *= 2
        return turnedTo
      })
    const ask = Effect.fnUntraced(function* (call: EtcdClient.CallOptions) {
      const duplex = yield* client.bidirectional(Rpc.Lease.method.leaseKeepAlive, call)
      opened = true
      const sentAt = time.now()
      yield* duplex.send({ ID: id })
      const answer = yield* Effect.raceAllFirst([
        Stream.runHead(duplex.messages),
        Effect.as(duplex.draining, Option.none()),
        options.endpoint === undefined ? silence(duplex.endpoint) : Effect.never
      ])
      if (typeof answer === "string") return answer
      if (Option.isNone(answer)) return yield* Effect.fail(unanswered)
      const { header, TTL } = answer.value
      if (TTL <= 0n) return yield* Effect.fail(notFound(id, method))
      return { header, ttl: TTL, sentAt }
    }, Effect.scoped)
    const attempt = Effect.gen(function* () {
      opened = false
      let answer = yield* ask(options)
      while (typeof answer === "string") answer = yield* ask({ ...options, endpoint: answer, retry: once })
      return answer
    })
    const schedule = options.retry ?? EtcdClient.defaultRetry
    const isWorthwhile = (error: EtcdError.EtcdError) => opened && decide(error.reason) !== "fail"
    return within(time, retrying(time, attempt, schedule, isWorthwhile), limitOf(options.deadline), method)
  })

/** How often it is tried to get a lease, or an answer, before its time to live is over. */
export const mostRounds = 3

/** Whether there is time left when the answer to a request has come that was sent at `renewedAt`. */
export const isRunning = (time: Time.Time, ttl: bigint, renewedAt: number): boolean =>
  renewedAt + Number(ttl) * 1000 > time.now() + quantum

/** Renews a lease so that some of its time is left when the answer has come. */
export const renewInTime = Effect.fnUntraced(function* (
  client: Client,
  time: Time.Time,
  id: bigint,
  options: EtcdClient.CallOptions
) {
  for (let round = 1; ; round++) {
    const renewed = yield* renew(client, time, id, options)
    if (isRunning(time, renewed.ttl, renewed.sentAt)) return renewed
    if (round === mostRounds) {
      return yield* Effect.fail(tooSlow(id, Number(renewed.ttl) * 1000, "Lease.LeaseKeepAlive"))
    }
  }
})

/** How long one try to revoke a lease may take, in milliseconds. */
const longestTry = 30_000

const pauses = Time.pauses("50 millis", "1 second")

/** Revokes a lease, for which it can be asked as often as need be, as well as can be done until some time. */
export const revokeUntil = (
  client: Client,
  time: Time.Time,
  id: bigint,
  until: number
): Effect.Effect<void, EtcdError.EtcdError> => {
  const attempt = Effect.suspend(() =>
    revoke(client, id, { deadline: Math.min(Math.max(1, until - time.now()), longestTry) })
  )
  const isWorthwhile = (error: EtcdError.EtcdError) =>
    time.now() < until &&
    error !== closedError &&
    (blamesEndpoint(error.reason) || error.reason._tag === "DeadlineExceeded")
  return retrying(time, attempt, pauses, isWorthwhile).pipe(
    Effect.catchReason("EtcdError", "LeaseNotFound", () => Effect.void),
    Effect.asVoid
  )
}
