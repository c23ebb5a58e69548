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

/** What is being printed, and is not begun again within itself, also where it gets there through a `toJSON`. */
const printing = new Set<object>()

const once = <A>(value: object, print: () => A): A | "[Circular]" => {
  if (printing.has(value)) return "[Circular]"
  printing.add(value)
  const printed = Result.try(print)
  printing.delete(value)
  return Result.getOrThrow(printed)
}

const ofEntries = (entries: ReadonlyArray<readonly [name: string, value: unknown]>): object =>
  Object.fromEntries(
    entries.flatMap(([name, value]) => {
      const shown = isMarker(name) ? undefined : json(value)
      return shown === undefined ? [] : [[name, shown] as const]
    })
  )

/** The fields of an object, but for the markers of its kind. */
export const ofFields = (value: object): unknown => once(value, () => ofEntries(Object.entries(value)))

/** The fields of an error of this library, with what it says and why. */
export const ofError = (error: Error): object =>
  once(error, () => ofEntries([["message", error.message], ...Object.entries(error), ["cause", error.cause]])) as object

/**
 * What an error of somebody else says. Of what it carries along (a certificate, with all that have signed it; a socket) no
 * more than texts and numbers.
 */
const ofForeign = (error: Error & { readonly errors?: unknown }): unknown =>
  once(error, () =>
    ofEntries([
      ["name", error.name],
      ["message", error.message],
      ...Object.entries(error).filter(([, value]) => !Predicate.isObjectOrArray(value)),
      ["errors", Array.isArray(error.errors) ? error.errors : undefined],
      ["cause", error.cause]
    ])
  )

const ofList = (value: object & Iterable<unknown>): unknown =>
  once(value, () => Array.from(value, (one) => json(one) ?? null))

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
  if (ask && Predicate.hasProperty(value, "toJSON") && typeof value.toJSON === "function") {
    const shown: unknown = value.toJSON()
    return Predicate.isObjectOrArray(shown) ? ofObject(shown, false) : json(shown)
  }
  if (Array.isArray(value) || value instanceof Map || value instanceof Set || ArrayBuffer.isView(value)) {
    return ofList(value as unknown as Iterable<unknown> & object)
  }
  return value instanceof Error ? ofForeign(value) : ofFields(value)
}

/** What JSON can hold of a value. */
export const json = (value: unknown): unknown => {
  switch (typeof value) {
    case "bigint":
      return String(value)
    case "function":
    case "symbol":
      return undefined
    case "object":
      return value === null ? null : ofObject(value)
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
