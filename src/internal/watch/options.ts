/**
 * Checks what a program asks of a watch. All the checks are here.
 *
 * @internal
 */
import * as ByteSize from "effect/ByteSize"
import * as Formatter from "effect/Formatter"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as EtcdError from "../../EtcdError.ts"
import type { ChangesOptions } from "../../EtcdWatch.ts"
import * as KeyRange from "../../KeyRange.ts"
import { shorten } from "../grpc/status.ts"
import * as Keys from "../kv/keys.ts"
import { WatchCreateRequest_FilterType as Filter } from "../proto/rpc_pb.ts"
import type { Request } from "./subscription.ts"

const defaultBufferBytes = 4 * 1024 * 1024

const largestRevision = 2n ** 63n - 1n

/** What belongs to HTTP or gRPC themselves, and not to a program. */
const ownHeaders =
  /^(?:connection|content-type|grpc-.*|host|http2-settings|keep-alive|proxy-connection|te|transfer-encoding|upgrade|user-agent)$/

type Check = (value: unknown) => boolean

const show = (value: unknown): string => shorten(Formatter.format(value), 80)

const isFlag: Check = (value) => typeof value === "boolean"

const isOneOf =
  (...words: ReadonlyArray<string>): Check =>
  (value) =>
    words.includes(value as string)

const bytesOf = (value: unknown): number | undefined =>
  Option.getOrUndefined(Option.flatMap(ByteSize.fromInput(value as ByteSize.Input), ByteSize.toNumber))

const isHeader = ([name, value]: readonly [string, unknown]): boolean =>
  /^[0-9a-z_.-]+$/.test(name) && !ownHeaders.test(name) && typeof value === "string" && /^[\x20-\x7e]*$/.test(value)

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const isMetadata: Check = (value) => isRecord(value) && Object.entries(value).every(isHeader)

/** Values may be secrets, so that a message has the names alone. */
const showMetadata = (value: unknown): string =>
  isRecord(value)
    ? Object.entries(value)
        .filter((entry) => !isHeader(entry))
        .map(([name]) => show(name))
        .join(", ")
    : typeof value

/** What each option is to be, where it is given. */
const checks: { readonly [Name in keyof ChangesOptions]-?: readonly [check: Check, what: string] } = {
  startRevision: [
    (value) => typeof value === "bigint" && value >= 0n && value <= largestRevision,
    "a bigint from 0n (from now on) up to 2n ** 63n - 1n"
  ],
  previousValues: [isFlag, "true or false"],
  ignore: [isOneOf("puts", "deletes"), '"puts" or "deletes"'],
  fragment: [isFlag, "true or false"],
  bufferSize: [
    (value) => (bytesOf(value) ?? 0) >= 1,
    'a size of at least one byte, such as 65536 or "4 MiB"; there is no size that means no limit'
  ],
  retry: [Schedule.isSchedule, "a Schedule"],
  progress: [isFlag, "true or false"],
  created: [isFlag, "true or false"],
  snapshot: [isOneOf("never", "when-compacted", "first"), '"never", "when-compacted" or "first"'],
  endpoint: [
    (value) => typeof value === "string" && value !== "",
    'the address of an endpoint, such as "127.0.0.1:2379"'
  ],
  metadata: [
    isMetadata,
    'lower-case names (letters, digits, "-", "_" and "."), none of which is HTTP\'s or gRPC\'s own, with values of ' +
      "printable ASCII"
  ],
  requireLeader: [isFlag, "true or false"]
}

const names = Object.keys(checks) as ReadonlyArray<keyof ChangesOptions>

const isBytes = (value: unknown): value is KeyRange.Bytes => typeof value === "string" || value instanceof Uint8Array

const isEmpty = ({ end, key }: KeyRange.KeyRange): boolean =>
  key.length === 0 || (end.length > 0 && !Keys.isUnbounded(end) && Keys.compare(key, end) >= 0)

/** What is wrong with a watch. */
const wrongWith = (input: unknown, options: unknown): string | undefined => {
  if (!KeyRange.isKeyRange(input) && !isBytes(input)) {
    return `What is to be watched is a key (text or bytes) or a KeyRange, not ${show(input)}.`
  }
  if (isEmpty(KeyRange.fromInput(input))) {
    return KeyRange.isKeyRange(input) && input.end.length > 0
      ? "A watch needs a range that a key can be in: its end is not after its start."
      : "A watch needs a key, and the empty one is none. KeyRange.all is the range of every key."
  }
  if (typeof options !== "object" || options === null) {
    return `The options of a watch are to be an object, not ${show(options)}.`
  }
  for (const name of names) {
    const value = (options as ChangesOptions)[name]
    const [check, what] = checks[name]
    if (value !== undefined && !check(value)) {
      const found = name === "metadata" ? showMetadata(value) : show(value)
      return `The option ${name} of a watch is to be ${what}, not ${found}.`
    }
  }
  return undefined
}

const filters = ({ ignore }: ChangesOptions): ReadonlyArray<Filter> => {
  if (ignore === "puts") return [Filter.NOPUT]
  return ignore === "deletes" ? [Filter.NODELETE] : []
}

/** The watch that is asked for, or what would be right. */
export const request = (
  input: KeyRange.Input,
  options: ChangesOptions,
  retry: Request["carriage"]["retry"]
): Result.Result<Request, EtcdError.EtcdError> => {
  const wrong = wrongWith(input, options)
  if (wrong !== undefined) return Result.fail(EtcdError.invalid(wrong))
  return Result.succeed({
    range: KeyRange.fromInput(input),
    startRevision: options.startRevision ?? 0n,
    previousValues: options.previousValues ?? false,
    filters: filters(options),
    fragment: options.fragment ?? false,
    progress: options.progress ?? false,
    created: options.created ?? false,
    snapshot: options.snapshot ?? "never",
    bufferBytes: options.bufferSize === undefined ? defaultBufferBytes : bytesOf(options.bufferSize)!,
    carriage: {
      endpoint: options.endpoint,
      metadata: options.metadata,
      requireLeader: options.requireLeader,
      retry: options.retry ?? retry
    }
  })
}
