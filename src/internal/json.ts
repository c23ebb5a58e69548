/**
 * How answers are printed as JSON, which has neither `bigint`s nor bytes: for people and logs.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"

const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

/** The fields of an object; what begins with ~ is Effect's or this library's own. */
export const ofFields = (value: object): object => {
  const fields: Record<string, unknown> = {}
  for (const name of Object.keys(value)) {
    if (name.startsWith("~")) continue
    const field = json((value as Readonly<Record<string, unknown>>)[name])
    if (field !== undefined) fields[name] = field
  }
  return fields
}

const ofObject = (value: object): unknown => {
  if (value instanceof Uint8Array) return decoder.decode(value)
  if (Array.isArray(value)) return value.map((one) => json(one) ?? null)
  if (value instanceof Answer) return ofFields(value)
  if (Option.isOption(value)) return Option.isSome(value) ? json(value.value) : null
  if (Duration.isDuration(value)) return Duration.format(value)
  if (Effect.isEffect(value) && !(value instanceof Error)) return undefined
  if (Predicate.hasProperty(value, "toJSON") && typeof value.toJSON === "function") return json(value.toJSON())
  if (value instanceof Map) return Array.from(value, json)
  if (value instanceof Set) return Array.from(value, json)
  return value instanceof Error ? ofError(value) : ofFields(value)
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

/** The fields of an error, with what it says. */
export const ofError = (error: Error): object => ({ message: error.message, ...ofFields(error) })

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
  Object.defineProperty(self, "toJSON", { value: () => ofFields(fields(self)), writable: true, configurable: true })
