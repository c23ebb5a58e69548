/**
 * What a client is given: the checks, the defaults, and what is made of it.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdError from "../../EtcdError.ts"
import * as EtcdId from "../../EtcdId.ts"
import type { ConnectionOptions } from "../grpc/Transport.ts"
import * as Options from "../options.ts"
import * as Time from "../time.ts"
import type { Defaults } from "./engine.ts"
import { serviceNamed } from "./rpcs.ts"
import type { Policy } from "./selection.ts"
import * as Tls from "./tls.ts"

export const defaultRetry: Schedule.Schedule<unknown, EtcdError.EtcdError> = Time.pauses(
  "25 millis",
  "250 millis"
).pipe(Schedule.upTo({ duration: "5 seconds" }))

export const defaultReconnect: Schedule.Schedule<unknown, unknown> = Time.pauses("50 millis", "1 second")

const defaultSelection: Policy = "leader"

const largestMessage = 2_147_483_647

// ── what is wrong ──

const who = "EtcdClient"

const ofCredentials: Options.Checks<EtcdClient.Credentials> = {
  username: Options.text("the name of a user"),
  password: Options.secret
}

/** What is wrong with a user and a password, which may come from an effect. */
export const problemOfCredentials = (credentials: EtcdClient.Credentials): string | undefined => {
  const whose = `${who}'s credentials`
  const { password, username }: Partial<EtcdClient.Credentials> = Options.isObject(credentials) ? credentials : {}
  return (
    Options.problemOf(whose, ofCredentials, credentials) ??
    Options.problemOfArgument(whose, "the option username", ofCredentials.username, username) ??
    Options.problemOfArgument(whose, "the option password", ofCredentials.password, password)
  )
}

/** A list of endpoints, wherever it came from. What each of them has to be is said by who reads it. */
export const endpointList: Required<Options.Check> = {
  accepts: (value) => Array.isArray(value) && value.every((text) => typeof text === "string" && text.isWellFormed()),
  due: "a list of endpoints as text",
  // Somebody may have put a password into one.
  show: (value) => (Array.isArray(value) ? "a list of something else" : value === null ? "null" : typeof value)
}

const isSource = (value: unknown): boolean => Effect.isEffect(value) || Stream.isStream(value)

// What PEM has to be is said by who reads it.
const ofTls: Options.Checks<EtcdClient.Tls> = {
  ca: Options.anything,
  certificate: Options.anything,
  key: Options.anything,
  serverName: Options.text("the name that the server's certificate is for"),
  minVersion: Options.oneOf("TLSv1.2", "TLSv1.3"),
  insecureSkipVerify: Options.flag
}

const checks: Options.Checks<EtcdClient.Options> = {
  ...Options.ofDefaults,
  endpoints: {
    accepts: (value) => endpointList.accepts(value) || isSource(value),
    due: `${endpointList.due}, or an Effect or a Stream of that`,
    show: endpointList.show
  },
  clusterId: Options.id("a cluster"),
  selection: Options.oneOf("leader", "sticky", "spread"),
  tls: { accepts: Options.isObject, due: "an object", show: (value) => (value === null ? "null" : typeof value) },
  credentials: {
    accepts: (value) => Options.isObject(value) || Effect.isEffect(value),
    due: "{ username, password }, or an Effect of that",
    show: (value) => typeof value
  },
  services: { accepts: Options.isObject, due: "an object with a property for each service" },
  memberRefresh: Options.duration,
  connectTimeout: Options.duration,
  keepAliveInterval: Options.duration,
  keepAliveTimeout: Options.duration,
  reconnect: Options.schedule,
  batching: {
    accepts: (value) => typeof value === "boolean" || Options.isObject(value),
    due: "true, false, or an object with the options of batching"
  },
  transport: Options.oneOf("http2", "node:http2"),
  maxReceiveMessageSize: Options.size
}

const problemOfServices = (services: NonNullable<EtcdClient.Options["services"]>): string | undefined => {
  for (const [name, defaults] of Object.entries(services)) {
    if (serviceNamed(name) === undefined) return `${who}: the option services has no service ${JSON.stringify(name)}.`
    const problem = Options.problemOf(`${who}'s services.${name}`, Options.ofDefaults, defaults)
    if (problem !== undefined) return problem
  }
  return undefined
}

/** What is wrong with the options of a client. */
export const problemOf = (options: EtcdClient.Options): string | undefined => {
  const problem =
    Options.problemOf(who, checks, options ?? null) ??
    Options.problemOfArgument(who, "the option endpoints", checks.endpoints, options.endpoints)
  if (problem !== undefined) return problem
  const { batching, credentials, services, tls } = options
  return (
    Options.problemOf(`${who}'s tls`, ofTls, tls) ??
    (tls === undefined ? undefined : Tls.problemOf(tls)) ??
    (credentials === undefined || Effect.isEffect(credentials) ? undefined : problemOfCredentials(credentials)) ??
    (services === undefined ? undefined : problemOfServices(services)) ??
    (typeof batching === "object" ? Options.problemOf(`${who}'s batching`, Options.ofBatching, batching) : undefined)
  )
}

// ── what is made of it ──

/** How a client works. */
export interface Settings {
  /** 0 where that of the first one that answers is meant. */
  readonly clusterId: bigint
  readonly selection: Policy
  readonly connection: ConnectionOptions
  readonly reconnect: Schedule.Schedule<unknown, unknown>
  readonly defaults: (service: string) => Defaults
  /** Undefined: never. */
  readonly memberRefresh: Duration.Duration | undefined
}

const durationOf = (input: Duration.Input | undefined): Duration.Duration | undefined =>
  input === undefined ? undefined : Duration.fromInputUnsafe(input)

/** More than a timer can wait for is as good as for ever. */
const timeout = (input: Duration.Input | undefined, fallback: Duration.Input): number =>
  Math.min(Duration.toMillis(Duration.fromInputUnsafe(input ?? fallback)), Time.longestTimer)

const connectionOf = (options: EtcdClient.Options): ConnectionOptions => {
  const keepAliveIntervalMillis = timeout(options.keepAliveInterval, "6 seconds")
  return {
    connectTimeoutMillis: timeout(options.connectTimeout, "5 seconds"),
    keepAliveIntervalMillis: keepAliveIntervalMillis === Time.longestTimer ? 0 : keepAliveIntervalMillis,
    keepAliveTimeoutMillis: timeout(options.keepAliveTimeout, "3 seconds"),
    maxReceiveMessageBytes: Math.min(Options.bytesOf(options.maxReceiveMessageSize) ?? largestMessage, largestMessage)
  }
}

const defaultsOf = ({ deadline, retry, services = {} }: EtcdClient.Options): Settings["defaults"] => {
  const base: Defaults = { deadline: durationOf(deadline), retry: retry ?? defaultRetry }
  const own = new Map(
    Object.entries(services).map(([name, { deadline, retry }]) => [
      serviceNamed(name) ?? name,
      { deadline: durationOf(deadline) ?? base.deadline, retry: retry ?? base.retry }
    ])
  )
  return (service) => own.get(service) ?? base
}

const refreshOf = (input: Duration.Input | undefined): Duration.Duration | undefined => {
  const interval = durationOf(input)
  return interval !== undefined && Duration.isFinite(interval) ? interval : undefined
}

/** The client that is asked for, or what would be right. */
export const settings = (options: EtcdClient.Options): Result.Result<Settings, EtcdError.EtcdError> => {
  const problem = problemOf(options)
  if (problem !== undefined) return Result.fail(Options.invalid(problem))
  return Result.succeed({
    clusterId: EtcdId.ClusterId(options.clusterId ?? 0n),
    selection: options.selection ?? defaultSelection,
    connection: connectionOf(options),
    reconnect: options.reconnect ?? defaultReconnect,
    defaults: defaultsOf(options),
    memberRefresh: refreshOf(options.memberRefresh)
  })
}
