/**
 * What a program may say of how etcd is found and run.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as SemVer from "effect/SemVer"
import type * as EtcdBinary from "../../EtcdBinary.ts"
import type { Options as NodeOptions } from "../../EtcdProcess.ts"
import type * as EtcdProcessError from "../../EtcdProcessError.ts"
import { problemOf as problemOfClient } from "../client/options.ts"
import * as Read from "../config/read.ts"
import * as Options from "../options.ts"

const aDirectory = Options.text("the name of a directory")
const anExecutable = Options.text("the name of an executable")

const problemOfOwnClient = (value: Readonly<Record<string, unknown>>): string | undefined =>
  value.endpoints === undefined
    ? problemOfClient({ ...value, endpoints: [] })
    : "EtcdClient: the option endpoints is not to be given, since they are those of the node."

/** What a client for the node is given, but for its endpoints. */
const client: Options.Check = {
  accepts: (value) => Options.isObject(value) && problemOfOwnClient(value) === undefined,
  due: "options of a client that make sense",
  show: (value) => (Options.isObject(value) ? `these (${problemOfOwnClient(value)})` : typeof value)
}

/** What is in errors must not hold a secret, as a user or a query may; and what is to come after it is a path. */
const isPublicUrl = (value: string): boolean => {
  const { password, protocol, username } = new URL(value)
  return (protocol === "https:" || protocol === "http:") && username === "" && password === "" && !/[?#]/.test(value)
}

export const ofFetch: Options.Checks<EtcdBinary.FetchOptions> = {
  version: {
    accepts: (value) => typeof value === "string" && Result.isSuccess(SemVer.parse(value)),
    due: 'a version such as "3.6.14", without a leading v'
  },
  sha256: {
    accepts: (value) => typeof value === "string" && /^[0-9a-f]{64}$/i.test(value),
    due: "64 hexadecimal digits"
  },
  platform: Options.oneOf("linux-amd64", "linux-arm64", "darwin-amd64", "darwin-arm64", "windows-amd64"),
  baseUrl: {
    accepts: (value) => typeof value === "string" && URL.canParse(value) && isPublicUrl(value),
    due: "an http or https URL without a user and a password, a query or a fragment",
    show: () => "what is given (not shown, since there may be a secret in it)"
  },
  cacheDirectory: aDirectory,
  stallTimeout: Options.duration,
  onProgress: Options.callback
}

const problemOfFetch = (value: unknown): string | undefined =>
  Options.problemOf("EtcdBinary.fetch", ofFetch, value as EtcdBinary.FetchOptions)

const ofRelease: Options.Checks<Exclude<EtcdBinary.Input, string>> = {
  fetch: {
    accepts: (value) => problemOfFetch(value) === undefined,
    due: "options of EtcdBinary.fetch that make sense",
    show: (value) => `these (${problemOfFetch(value)})`
  }
}

const problemOfRelease = (value: Readonly<Record<string, unknown>>): string | undefined =>
  value.fetch === undefined
    ? "There is no fetch in it."
    : Options.problemOf("EtcdBinary", ofRelease, value as { fetch: EtcdBinary.FetchOptions })

/** Which executable to use. */
export const binary: Options.Check = {
  accepts: (value) => (Options.isObject(value) ? problemOfRelease(value) === undefined : anExecutable.accepts(value)),
  due: 'the name of an executable, "fetch", or { fetch: the options of EtcdBinary.fetch }',
  show: (value) => (Options.isObject(value) ? `this object (${problemOfRelease(value)})` : Options.show(value))
}

/** Fails if no executable can be meant. */
export const checkBinary = (who: string, value: unknown): Effect.Effect<void, EtcdProcessError.EtcdProcessError> => {
  const wrong = value === undefined ? undefined : Read.wrongArgument(who, "the executable", binary, value)
  return wrong === undefined ? Effect.void : Effect.fail(wrong)
}

const isVariable = ([name, value]: [string, unknown]): boolean =>
  /^[^=\0]+$/.test(name) && !name.startsWith("ETCD_") && typeof value === "string" && !value.includes("\0")

/** What is in it may be secret. */
const environment: Options.Check = {
  accepts: (value) => Options.isObject(value) && Object.entries(value).every(isVariable),
  due: "an object with the values of environment variables, as text, and none of etcd's own (ETCD_…)",
  show: (value) =>
    Options.isObject(value)
      ? `one with ${Object.entries(value)
          .filter((variable) => !isVariable(variable))
          .map(([name]) => JSON.stringify(name))
          .join(", ")}`
      : typeof value
}

export const ofNode: Options.Checks<NodeOptions> = {
  binary,
  startTimeout: Options.duration,
  gracePeriod: Options.withUnit(Options.deadline),
  restart: Options.schedule,
  log: Options.flag,
  eventBuffer: Options.countUpTo(16_777_216),
  statusInterval: Options.duration,
  runDirectory: aDirectory,
  runDirectoryIsTemporary: Options.flag,
  environment,
  client
}

export const ofFind: Options.Checks<EtcdBinary.FindOptions> = { path: anExecutable, cacheDirectory: aDirectory }

export const ofFindUtl: Options.Checks<EtcdBinary.FindUtlOptions> = { path: anExecutable }

const anEtcd: Options.Check = {
  accepts: (value) => Options.isObject(value) && anExecutable.accepts(value.path) && SemVer.isSemVer(value.version),
  due: "an etcd that was found: its path, and its version as a SemVer"
}

/** Fails if it is no etcd that was found. */
export const checkFound = (who: string, value: unknown): Effect.Effect<void, EtcdProcessError.EtcdProcessError> => {
  const wrong = Read.wrongArgument(who, "the etcd", anEtcd, value)
  return wrong === undefined ? Effect.void : Effect.fail(wrong)
}

/** Fails with the first option that makes no sense. */
export const check = <O extends object>(
  who: string,
  checks: Options.Checks<O>,
  options: O
): Effect.Effect<void, EtcdProcessError.EtcdProcessError> => {
  const wrong = Read.wrongOptions(who, checks, options)
  return wrong === undefined ? Effect.void : Effect.fail(wrong)
}

/** Fails if the client is to talk TLS where the node does not: it would take no answer. */
export const checkClient = (
  who: string,
  { client }: Pick<NodeOptions, "client">,
  endpoint: string
): Effect.Effect<void, EtcdProcessError.EtcdProcessError> =>
  client?.tls === undefined || /^(https|unixs):/i.test(endpoint)
    ? Effect.void
    : Effect.fail(refused("client", `${who}: the option client has TLS options, and ${endpoint} has no TLS.`))

/** The error of one option that makes no sense, told in a whole sentence. */
export const refused = (option: string, message: string): EtcdProcessError.EtcdProcessError =>
  Read.refused({ option, message })
