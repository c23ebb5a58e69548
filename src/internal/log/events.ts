/**
 * What the readers of all formats make events of.
 *
 * @internal
 */
import * as DateTime from "effect/DateTime"
import type { Severity } from "effect/LogLevel"
import * as Option from "effect/Option"
import * as EtcdId from "../../EtcdId.ts"
import type { Common, Entry, Failure, FailureReason, Unparsed } from "../../EtcdLog.ts"

export const noFields: Readonly<Record<string, unknown>> = Object.freeze({})

export const entry = (
  line: string,
  level: Severity,
  time: Option.Option<DateTime.Utc>,
  caller: Option.Option<string>,
  message: string,
  fields: Readonly<Record<string, unknown>>
): Entry => ({ _tag: "Entry", line, level, time, caller, message, fields })

export const unparsed = (line: string, omittedBytes: number): Unparsed => ({
  _tag: "Unparsed",
  line,
  level: line.startsWith("[WARNING]") ? "Warn" : "Info",
  time: Option.none(),
  caller: Option.none(),
  message: line,
  fields: noFields,
  omittedBytes
})

export const failure = (common: Common, reason: FailureReason, detail: string): Failure => ({
  ...common,
  _tag: "Failure",
  reason,
  detail
})

export const memberId = (text: string): EtcdId.MemberId => EtcdId.MemberId(BigInt(`0x${text}`))

export const fieldString = (self: Common, name: string): Option.Option<string> => {
  const value = self.fields[name]
  return typeof value === "string" && value !== "" ? Option.some(value) : Option.none()
}

export const fieldId = (self: Common, name: string): Option.Option<bigint> =>
  Option.flatMap(fieldString(self, name), EtcdId.parse)

export const fromEpochMillis = (millis: number): Option.Option<DateTime.Utc> =>
  Number.isFinite(millis) ? DateTime.make({ epochMilliseconds: millis }) : Option.none()

export const isGrave = (level: Severity): boolean => level === "Fatal" || level === "Error" || level === "Warn"

/** What etcd calls the version of a cluster that has none yet. */
export const undecided = "to_be_decided"
