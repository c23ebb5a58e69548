/**
 * What a program may give as an option or an argument, and what it is told where that makes no sense: the whole
 * vocabulary, of which each module makes the table of its own options. A table has every option of its interface, which
 * the compiler sees to.
 *
 * Where etcd takes 0 for "none given" (a limit, a revision, a lease) it is so here. `Infinity` is no limit.
 *
 * @internal
 */
import * as ByteSize from "effect/ByteSize"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Formatter from "effect/Formatter"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as SemVer from "effect/SemVer"
import type { BatchingOptions, CallDefaults, CallOptions } from "../EtcdClient.ts"
import * as EtcdError from "../EtcdError.ts"
import * as KeyRange from "../KeyRange.ts"
import { isSendable } from "./grpc/metadata.ts"
import { shorten } from "./grpc/status.ts"
import * as Ids from "./ids.ts"
import * as Json from "./json.ts"
import * as Keys from "./keys.ts"
import * as Url from "./url.ts"

/** What a value has to be. */
export interface Check {
  readonly accepts: (value: unknown) => boolean
  /** In words, as they go after "has to be". */
  readonly due: string
  /** How it is shown where it is not accepted; not at all where it may be a secret. */
  readonly show?: (value: unknown) => string
}

/** A check for each option. */
export type Checks<Options> = { readonly [Name in keyof Options]-?: Check }

/** The options of a call that are not those of every call, which the client checks itself. */
export type Own<Options> = Omit<Options, keyof CallOptions>

// ── what is wrong ──

const showKey = (key: unknown): string => (key instanceof Uint8Array ? Keys.show(key) : show(key))

const showKeyRange = ({ end, key }: KeyRange.KeyRange): string => `a KeyRange from ${showKey(key)} to ${showKey(end)}`

/** What is shown as it is: none of it holds values of others, or it hides them. */
const isShown = (value: object): boolean =>
  Duration.isDuration(value) ||
  DateTime.isDateTime(value) ||
  Redacted.isRedacted(value) ||
  value instanceof Date ||
  value instanceof URL ||
  value instanceof RegExp

const isBytes = (value: object): value is ArrayBuffer | ArrayBufferView =>
  value instanceof ArrayBuffer || ArrayBuffer.isView(value)

const showBytes = ({ byteLength }: ArrayBuffer | ArrayBufferView): string =>
  `${byteLength} ${byteLength === 1 ? "byte" : "bytes"}`

/** What it carries along may be anything. */
const showError = ({ message, name }: Error): string =>
  shorten(Url.withoutPasswords(message === "" ? name : `${name}: ${message}`), 80)

const kindOf = (value: object): string => {
  if (Effect.isEffect(value)) return "an Effect"
  const { name = "" } = (value.constructor as { readonly name?: string } | undefined) ?? {}
  if (name === "" || name === "Object") return "an object"
  return `${/^[AEIOU]/i.test(name) ? "an" : "a"} ${name}`
}

const showObject = (value: object): string => {
  if (isBytes(value)) return showBytes(value)
  if (SemVer.isSemVer(value)) return SemVer.format(value)
  if (value instanceof Error) return showError(value)
  if (isShown(value)) return shorten(Url.withoutPasswords(Formatter.format(value)), 80)
  const kind = kindOf(value)
  const names = Effect.isEffect(value) ? [] : Object.keys(value).filter((name) => !Json.isMarker(name))
  if (names.length > 0) return `${kind} with ${shorten(enumerate(names, "and"), 80)}`
  return kind === "an object" ? "an object with nothing" : kind
}

/** So many of a list are shown. */
const shownItems = 10

const showList = (value: ReadonlyArray<unknown>): string => {
  const items = value.slice(0, shownItems).map((one) => (Array.isArray(one) ? "a list" : show(one)))
  const others = value.length > shownItems ? `, and ${value.length - shownItems} more` : ""
  return `[${shorten(items.join(","), 80)}${others}]`
}

/** A value as messages show it: of an object no more than its names, since there may be a secret in it. */
export const show = (value: unknown): string => {
  if (typeof value === "function") return "a function"
  if (KeyRange.isKeyRange(value)) return showKeyRange(value)
  if (Array.isArray(value)) return showList(value)
  if (Option.isOption(value)) return Option.isSome(value) ? `some(${show(value.value)})` : "none()"
  if (typeof value === "object" && value !== null) return showObject(value)
  return shorten(Formatter.format(typeof value === "string" ? Url.withoutPasswords(value) : value), 80)
}

const sentence = (who: string, what: string, check: Check, value: unknown): string =>
  `${who}: ${what} has to be ${check.due}, and not ${(check.show ?? show)(value)}.`

/** What is wrong with an argument. `what`: as in "the key". */
export const problemOfArgument = (who: string, what: string, check: Check, value: unknown): string | undefined =>
  check.accepts(value) ? undefined : sentence(who, what, check, value)

/** The option that makes no sense, and what is wrong with it. */
export interface Problem {
  readonly option: string
  readonly message: string
}

/** Checks by the names of options. */
type Table = { readonly [name: string]: Check }

const unknown = (who: string, option: string, names: ReadonlyArray<string>): string =>
  `${who}: there is no option ${show(option)}. There ${names.length === 1 ? "is" : "are"} ${enumerate(names, "and")}.`

/**
 * The first option that makes no sense, or that there is none of. `others`: those that somebody else checks; undefined
 * where they are none of this table's business.
 */
const search = (who: string, checks: Table, others: Table | undefined, options: unknown): Problem | undefined => {
  if (options === undefined) return undefined
  if (!isObject(options)) {
    return { option: "options", message: `${who}: the options have to be an object, and not ${show(options)}.` }
  }
  for (const option in options) {
    const value = options[option]
    if (value === undefined) continue
    if (Object.hasOwn(checks, option)) {
      const check = checks[option]!
      if (!check.accepts(value)) return { option, message: sentence(who, `the option ${option}`, check, value) }
    } else if (others !== undefined && !Object.hasOwn(others, option)) {
      return { option, message: unknown(who, option, Object.keys({ ...checks, ...others })) }
    }
  }
  return undefined
}

const none: Table = {}

/** The first option that makes no sense, or that there is none of. */
export const find = <Options extends object>(
  who: string,
  checks: Checks<Options>,
  options: Options | undefined
): Problem | undefined => search(who, checks as Table, none, options)

/** What is wrong with options. */
export const problemOf = <Options extends object>(
  who: string,
  checks: Checks<Options>,
  options: Options | undefined
): string | undefined => find(who, checks, options)?.message

/** What is wrong with the options that every call has. What else there is, is a matter of its service. */
export const problemOfCall = (who: string, options: CallOptions): string | undefined =>
  search(who, ofCall as Table, undefined, options)?.message

/** What a caller asked for makes no sense, and was not sent. */
export const invalid = (message: string): EtcdError.EtcdError =>
  EtcdError.make(new EtcdError.InvalidArgument({ message, outcome: "not-applied" }))

type Failure = Effect.Effect<never, EtcdError.EtcdError>

/** Fails with what is wrong, if anything is. */
const failing = (problem: string | undefined): Failure | undefined =>
  problem === undefined ? undefined : Effect.fail(invalid(problem))

export const wrongArgument = (who: string, what: string, check: Check, value: unknown): Failure | undefined =>
  check.accepts(value) ? undefined : failing(sentence(who, what, check, value))

/** What is wrong with the options of a call, of which the table has those of its own. */
export const wrongOptions = <Options extends object>(
  who: string,
  checks: Checks<Options>,
  options: Options | undefined
): Failure | undefined => failing(search(who, checks as Table, ofCall as Table, options)?.message)

/** What is wrong with the options of a call that has none of its own. */
export const wrongCall = (who: string, options: CallOptions | undefined): Failure | undefined =>
  wrongOptions(who, ofCall, options)

// ── the vocabulary ──

/** An object with properties by name, which a list, a `Map` or `Headers` are not. */
export const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !(Symbol.iterator in value)

export const anything: Check = { accepts: () => true, due: "anything" }

export const flag: Check = { accepts: (value) => typeof value === "boolean", due: "true or false" }

export const callback: Check = { accepts: (value) => typeof value === "function", due: "a function" }

const enumerate = (words: ReadonlyArray<string>, last: "and" | "or"): string =>
  words.map((word, index) => (index === 0 ? "" : index === words.length - 1 ? ` ${last} ` : ", ") + word).join("")

export const oneOf = (...words: ReadonlyArray<string>): Check => ({
  accepts: (value) => words.includes(value as string),
  due: enumerate(
    words.map((word) => JSON.stringify(word)),
    "or"
  )
})

/** Half of a character beyond the first 65,536 is no text: UTF-8 would make the same of any of them. */
const isText = (value: unknown): value is string =>
  typeof value === "string" && value.trim() !== "" && value.isWellFormed()

/** Text. `what`: as in "the name of a user". */
export const text = (what: string): Check => ({ accepts: isText, due: `${what}, as text that is not empty` })

const isWhole = (value: unknown, from: number): boolean =>
  typeof value === "bigint"
    ? value >= BigInt(from) && value <= largest
    : value === Number.POSITIVE_INFINITY || (Number.isSafeInteger(value) && (value as number) >= from)

const largest = 2n ** 63n - 1n

/** How many there may be at most. */
export const limit: Check = {
  accepts: (value) => isWhole(value, 0),
  due: "a whole number from 0 on (0 and Infinity: no limit)"
}

/** The limit for the wire. */
export const limitOf = (value: number | bigint | undefined): bigint =>
  value === undefined || value === Number.POSITIVE_INFINITY ? 0n : BigInt(value)

/** How many there are to be, where none makes no sense. */
export const count: Check = {
  accepts: (value) => typeof value === "number" && isWhole(value, 1),
  due: "a whole number from 1 on, or Infinity"
}

/** How many there are to be, of something that takes room from the beginning. */
export const countUpTo = (most: number): Check => ({
  accepts: (value) => typeof value === "number" && isWhole(value, 1) && value <= most,
  due: `a whole number from 1 up to ${most}`
})

/** A revision, or a number that counts revisions or writes. */
export const revision: Check = {
  accepts: (value) => typeof value === "bigint" && value >= 0n && value <= largest,
  due: "a bigint from 0n up to 2n ** 63n - 1n"
}

/** The id of something that is there. Both forms of it are taken, the signed and the unsigned one. */
export const id = (what: string): Check => ({
  accepts: (value) => Ids.isId(value) && value !== 0n,
  due: `the id of ${what}, a bigint of 64 bits other than 0n`
})

/** The lease of a key, which need not have one. */
export const lease: Check = { accepts: Ids.isId, due: "the id of a lease, a bigint of 64 bits (0n: none)" }

const units: Record<keyof Duration.DurationObject, true> = {
  weeks: true,
  days: true,
  hours: true,
  minutes: true,
  seconds: true,
  milliseconds: true,
  microseconds: true,
  nanoseconds: true
}

/** Whether it is an object that has parts, and each of them counts something. */
const isOfUnits = (value: unknown): boolean => {
  if (!isObject(value)) return false
  const parts = Object.entries(value).filter(([, part]) => part !== undefined)
  return (
    parts.length > 0 &&
    parts.every(([unit, part]) => Object.hasOwn(units, unit) && typeof part === "number" && !Number.isNaN(part))
  )
}

/** What a duration may be made of: `Duration` itself takes NaN for none, and leaves out what is of no unit it knows. */
const mayBeDuration = (value: unknown): boolean => {
  if (typeof value !== "object" || Duration.isDuration(value)) return !Number.isNaN(value)
  return Array.isArray(value) ? !value.some(Number.isNaN) : isOfUnits(value)
}

/** How long it is, where it is a duration. */
export const durationOf = (value: unknown): Option.Option<Duration.Duration> =>
  mayBeDuration(value) ? Duration.fromInput(value as Duration.Input) : Option.none()

const isDuration =
  (accepts: (millis: number) => boolean) =>
  (value: unknown): boolean =>
    Option.exists(durationOf(value), (duration) => accepts(Duration.toMillis(duration)))

/** How long to wait for something at most. */
export const deadline: Check = {
  accepts: isDuration((millis) => millis >= 0),
  due: 'a duration that is not negative, such as "5 seconds" or Infinity'
}

/**
 * Whether a bare number is surely meant to count something else than milliseconds: it makes less than anybody would ask
 * for. 0 is no time at all, whatever its unit. A `bigint` has its unit by its type: Effect's durations are of nanoseconds
 * then.
 */
const lacksUnit = (value: unknown, leastMillis: number): value is number =>
  typeof value === "number" && value > 0 && value < leastMillis

const shortest = 100

/** What is said of a bare number that surely lacks its unit; undefined where it need not. */
export const unitHint = (value: unknown, leastMillis = shortest): string | undefined =>
  lacksUnit(value, leastMillis)
    ? `a bare number counts milliseconds: give it with its unit, as in "${value} second${value === 1 ? "" : "s"}"`
    : undefined

/**
 * The same, but for a bare number of less than that many milliseconds, which lacks its unit. For what a program says once,
 * in seconds or more: what it computes for a call (what is left of a deadline) may come to any number of milliseconds.
 */
export const withUnit = (check: Check, leastMillis = shortest): Check => ({
  accepts: (value) => check.accepts(value) && !lacksUnit(value, leastMillis),
  due: check.due,
  show: (value) => {
    const hint = unitHint(value, leastMillis)
    return hint === undefined ? show(value) : `${value} (${hint})`
  }
})

/** How long something takes, where no time at all makes no sense. */
export const duration: Check = withUnit({
  accepts: isDuration((millis) => millis > 0),
  due: 'a positive duration, such as "5 seconds" or Infinity'
})

/** How long something takes that has to end. */
export const finiteDuration: Check = {
  accepts: isDuration((millis) => millis > 0 && millis !== Number.POSITIVE_INFINITY),
  due: 'a positive, finite duration, such as "10 seconds"'
}

/** How long something lives that cannot live for ever: etcd counts it in seconds. */
export const timeToLive: Check = withUnit(finiteDuration, 1000)

export const schedule: Check = { accepts: Schedule.isSchedule, due: "a Schedule" }

/** How many bytes; undefined where that is no size, or none is given. */
export const bytesOf = (value: unknown): number | undefined =>
  value === Number.POSITIVE_INFINITY
    ? Number.POSITIVE_INFINITY
    : Option.getOrUndefined(Option.flatMap(ByteSize.fromInput(value as ByteSize.Input), ByteSize.toNumber))

/** How many bytes there may be at most. */
export const size: Check = {
  accepts: (value) => (bytesOf(value) ?? 0) >= 1,
  due: 'a size of at least one byte, such as 65536, "4 MiB" or Infinity (no limit)'
}

/** Which endpoint; whether it is one that the client may ask is for the client to say. */
export const endpoint: Check = text('the address of an endpoint, such as "http://127.0.0.1:2379"')

/** What is in a Redacted; undefined where it holds nothing any more. */
export const reveal = <A>(redacted: Redacted.Redacted<A>): A | undefined =>
  Result.getOrUndefined(Result.try(() => Redacted.value(redacted)))

/** A secret, which is shown to nobody. */
export const secret: Required<Check> = {
  accepts: (value) => {
    const text = Redacted.isRedacted(value) ? reveal(value) : undefined
    return typeof text === "string" && text !== "" && text.isWellFormed()
  },
  due: "text in a Redacted that is not empty, as Redacted.make gives it",
  show: (value) =>
    Redacted.isRedacted(value) ? "a Redacted that is empty, or of something else" : `a ${typeof value} without it`
}

export const bytes: Check = { accepts: Keys.isBytes, due: "text (without half a surrogate pair) or a Uint8Array" }

/** A value of a key, of which nothing is shown: somebody may have forgotten to encode it. */
export const value: Check = {
  ...bytes,
  show: (value) => (typeof value === "string" ? "text with half of one" : value === null ? "null" : typeof value)
}

export const key: Check = {
  accepts: (value) => Keys.isBytes(value) && value.length > 0,
  due: "a key: text (without half a surrogate pair) or a Uint8Array that is not empty"
}

export const range: Check = {
  accepts: (value) =>
    KeyRange.isKeyRange(value)
      ? value.key instanceof Uint8Array && value.key.length > 0 && value.end instanceof Uint8Array
      : key.accepts(value),
  due:
    "a KeyRange, or a key (text, without half a surrogate pair, or a Uint8Array) that is not empty; KeyRange.all is " +
    "the range of every key"
}

const hasRoom = ({ end, key }: KeyRange.KeyRange): boolean =>
  end.length === 0 || Keys.isUnbounded(end) || Keys.compare(key, end) < 0

/** A range for what is to come: what no key can be in is read as nothing, but waited for, or allowed, in vain. */
export const rangeOfKeys: Check = {
  accepts: (value) => range.accepts(value) && (!KeyRange.isKeyRange(value) || hasRoom(value)),
  due: `${range.due}; the end of a range has to be after its start`
}

// ── metadata ──

const isHeader = (name: string, value: unknown): boolean => typeof value === "string" && isSendable(name, value)

const metadata: Check = {
  accepts: (value) => isObject(value) && Object.entries(value).every(([name, value]) => isHeader(name, value)),
  due:
    'lower-case names (letters, digits, "-", "_" and "."), none of which is HTTP\'s or gRPC\'s own, with values of ' +
    "printable ASCII",
  // Values may be secrets.
  show: (value) =>
    isObject(value)
      ? Object.entries(value)
          .filter(([name, value]) => !isHeader(name, value))
          .map(([name]) => `${isHeader(name, "") ? "the value of" : "the name"} ${show(name)}`)
          .join(", ")
      : typeof value
}

// ── what calls have ──

export const ofDefaults: Checks<CallDefaults> = { deadline: withUnit(deadline), retry: schedule }

export const ofBatching: Checks<BatchingOptions> = { maxOperations: count, maxBytes: size, maxInFlight: count }

export const ofCall: Checks<CallOptions> = { deadline, retry: schedule, endpoint, requireLeader: flag, metadata }
