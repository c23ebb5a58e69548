/**
 * How answers are printed as JSON, which has neither `bigint`s nor bytes: for people and logs.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as SemVer from "effect/SemVer"

const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

/** Whether it is a name by which Effect or this library know what is theirs. */
export const isMarker = (name: string): boolean => /^~effect(?:-[a-z]+)?\//.test(name)

/** What stands where something throws that is asked for what is in it. */
const notPrinted = (thrown: unknown): string =>
  `[not printed: ${thrown instanceof Error ? thrown.message : typeof thrown}]`

const read = <A>(get: () => A): A | string => Result.getOrElse(Result.try(get), notPrinted)

/** What is being looked at: it may have a `toJSON`, of Effect's too, that gives copies of it. */
const looking = new Set<object>()
/** Whose fields are being printed, by its own `toJSON` too, which JSON asks where nothing has been looked at. */
const printing = new Set<object>()

const circle = "[Circular]"

/** What is not begun again within itself. */
const once = <A>(among: Set<object>, value: object, print: () => A): A | string => {
  if (among.has(value)) return circle
  among.add(value)
  const printed = read(print)
  among.delete(value)
  return printed
}

type Entry = readonly [name: string, value: unknown]

const entriesOf = (value: object): ReadonlyArray<Entry> =>
  Object.keys(value).map((name) => [name, read(() => value[name as never])])

const ofEntries = (entries: ReadonlyArray<Entry>): object =>
  Object.fromEntries(
    entries.flatMap(([name, value]) => {
      const shown = isMarker(name) ? undefined : json(value)
      return shown === undefined ? [] : [[name, shown] as const]
    })
  )

/** The fields of an object, but for the markers of its kind. */
export const ofFields = (value: object): unknown => once(printing, value, () => ofEntries(entriesOf(value)))

const messageOf = (error: Error): Entry => ["message", read(() => error.message)]

/** The fields of an error of this library, with what it says and why. */
export const ofError = (error: Error): object => {
  const shown = once(printing, error, () => ofEntries([messageOf(error), ...entriesOf(error), ["cause", error.cause]]))
  return typeof shown === "string" ? { message: shown } : shown
}

/**
 * What an error of somebody else says. Of what it carries along (a certificate, with all that have signed it; a socket) no
 * more than texts and numbers.
 */
const ofForeign = (error: Error & { readonly errors?: unknown }): unknown =>
  once(printing, error, () =>
    ofEntries([
      ["name", error.name],
      messageOf(error),
      ...entriesOf(error).filter(([, value]) => !Predicate.isObjectOrArray(value)),
      ["errors", Array.isArray(error.errors) ? error.errors : undefined],
      ["cause", error.cause]
    ])
  )

const ofList = (value: object & Iterable<unknown>): unknown =>
  once(printing, value, () => Array.from(value, (one) => json(one) ?? null))

/** What its `toJSON` gives. Of an error of Effect's that has neither what it is called nor what it says. */
const ofAsked = (value: object & { readonly toJSON: () => unknown }): unknown => {
  const given = value.toJSON()
  const shown = Predicate.isObjectOrArray(given) ? ofObject(given, false) : json(given)
  return value instanceof Error && Predicate.isObject(shown)
    ? { ...ofEntries([["name", value.name], messageOf(value)]), ...shown }
    : shown
}

const isAsked = (value: object): value is { readonly toJSON: () => unknown } =>
  Predicate.hasProperty(value, "toJSON") && typeof value.toJSON === "function"

/** `ask`: whether its `toJSON` is still to be asked. */
const ofObject = (value: object, ask = true): unknown => {
  if (value instanceof Uint8Array || value instanceof ArrayBuffer || value instanceof DataView) {
    return decoder.decode(value)
  }
  if (value instanceof Answer) return ofFields(value)
  if (Option.isOption(value)) return Option.isSome(value) ? json(value.value) : null
  if (Duration.isDuration(value)) return Duration.format(value)
  if (SemVer.isSemVer(value)) return SemVer.format(value)
  if (Effect.isEffect(value) && !Exit.isExit(value) && !(value instanceof Error)) return undefined
  if (ask && isAsked(value)) return ofAsked(value)
  if (Array.isArray(value) || value instanceof Map || value instanceof Set || ArrayBuffer.isView(value)) {
    return ofList(value as unknown as Iterable<unknown> & object)
  }
  return value instanceof Error ? ofForeign(value) : ofFields(value)
}

/** What JSON can hold of a value. It does not throw. */
export const json = (value: unknown): unknown => {
  switch (typeof value) {
    case "bigint":
      return String(value)
    case "function":
    case "symbol":
      return undefined
    case "object":
      if (value === null) return null
      return printing.has(value) ? circle : once(looking, value, () => ofObject(value))
    default:
      return value
  }
}

/**
 * What is like a plain object in all, but that it can be printed as JSON. It has no constructor of its own, which tells
 * Effect's `Equal`, `node:assert` and others that it is one.
 */
export class Answer {
  toJSON(): unknown {
    return ofFields(this)
  }
}

/** Whether a value is a plain object, or an answer, which is to be taken for one. */
export const isPlainObject = (value: unknown): value is Readonly<Record<string, unknown>> => {
  if (typeof value !== "object" || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null || value instanceof Answer
}

/** For each class of answers, which is made where there are many: as fast as a literal. */
export const asPlain = (Class: { readonly prototype: object }): void => {
  Object.defineProperty(Class.prototype, "constructor", { value: Object, writable: true, configurable: true })
}

asPlain(Answer)

/** The same fields as an answer. */
export const answer = <Fields extends object>(fields: Fields): Fields => Object.assign(new Answer(), fields)

/** Lets what is more than its fields (a lease that is held, a node that runs) be printed as some of them. */
export const showing = <Self extends object>(self: Self, fields: (self: Self) => object): Self =>
  Object.defineProperty(self, "toJSON", {
    value(this: Self) {
      return ofFields(fields(this))
    },
    writable: true,
    configurable: true
  })

/** A copy with other fields, which is printed as what it is a copy of. */
export const copy = <Self extends object>(self: Self, changes: Partial<Self>): Self =>
  Object.assign(Object.defineProperties({}, Object.getOwnPropertyDescriptors(self)) as Self, changes)
