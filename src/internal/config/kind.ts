/**
 * The kinds of value that etcd's options have: how each is given, what it becomes, and how it stands on etcd's command
 * line.
 *
 * @internal
 */
import * as ByteSize from "effect/ByteSize"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaTransformation from "effect/SchemaTransformation"
import type {
  DurationInput,
  Features,
  FeaturesInput,
  GoDuration,
  ListInput,
  Members,
  MembersInput,
  SizeInput
} from "../../EtcdConfig.ts"
import * as Options from "../options.ts"
import * as Url from "../url.ts"

/** One kind of value: `T` is what the program works with, `I` what a user may write. */
export interface Kind<T, I> {
  /** Built when asked for, because there are many and few programs need them. */
  readonly schema: () => Schema.Codec<T, I>
  /** The failure completes the sentence "<option>: …" and does not repeat a secret. */
  readonly decode: (input: unknown) => Result.Result<T, string>
  /** The value on the command line, after `--option=`. */
  readonly toFlag: (value: T) => string
  /** Reads what a source that has only text (the environment) gives. */
  readonly fromText: (text: string) => unknown
  /** Whether a bare number in a file says enough. If not, TOML must give a unit, and etcd's YAML means nanoseconds. */
  readonly bareNumber: "value" | "no unit"
  /** The value may also be given as several strings, or as strings by name. */
  readonly shape: "scalar" | "list" | "record"
  readonly secret: boolean
  /** Whether the value is a text as it stands, which in YAML may look like a number or a boolean. */
  readonly text: boolean
  /** Whether the value names files, which are relative to the user's directory and not to etcd's. */
  readonly file: boolean
  /** The values that not every version has, with the range of those that do. */
  readonly limits: Readonly<Record<string, string>>
}

const describeText = (shown: string): string => JSON.stringify(shown.length > 100 ? `${shown.slice(0, 100)}…` : shown)

const describe = (input: unknown): string => {
  if (input === null || input === undefined) return "nothing"
  if (Array.isArray(input)) return "a list"
  switch (typeof input) {
    case "string":
      return describeText(Url.withoutPasswords(input))
    case "boolean":
    case "number":
      return String(input)
    case "bigint":
      return `${input}n`
    case "object":
      return input instanceof Date ? "a date" : "a table"
    default:
      return `a ${typeof input}`
  }
}

const expected = (what: string, input: unknown) => Result.fail(`expected ${what}, got ${describe(input)}`)

const toSchema = <T, I>({
  decode,
  encode,
  is
}: {
  readonly is: (value: unknown) => value is T
  readonly decode: (input: unknown) => Result.Result<T, string>
  readonly encode: (value: T) => I
}): Schema.Codec<T, I> =>
  (Schema.Unknown as unknown as Schema.Codec<I>).pipe(
    Schema.decodeTo(
      Schema.declare(is),
      SchemaTransformation.transformEffect<T, I>({
        decode: (input, options) =>
          Effect.mapError(
            Effect.fromResult(decode(input)),
            (message) => new SchemaIssue.InvalidValue({ message }, input, options)
          ),
        encode: (value) => Effect.succeed(encode(value))
      })
    )
  )

const make = <T, I>(options: {
  readonly is: (value: unknown) => value is T
  readonly decode: (input: unknown) => Result.Result<T, string>
  readonly encode: (value: T) => I
  readonly toFlag?: (value: T) => string
  readonly fromText?: (text: string) => unknown
  readonly bareNumber?: "value" | "no unit"
  readonly shape?: "scalar" | "list" | "record"
  readonly secret?: boolean
  readonly file?: boolean
  readonly limits?: Readonly<Record<string, string>>
}): Kind<T, I> => ({
  schema: () => toSchema(options),
  decode: options.decode,
  toFlag: options.toFlag ?? ((value) => String(options.encode(value))),
  fromText: options.fromText ?? ((text) => text),
  bareNumber: options.bareNumber ?? "value",
  shape: options.shape ?? "scalar",
  secret: options.secret ?? false,
  text: (options.is as unknown) === isString || options.secret === true,
  file: options.file ?? false,
  limits: options.limits ?? {}
})

const isString = (value: unknown): value is string => typeof value === "string"
const isRecord = (value: unknown): value is Record<string, unknown> =>
  Options.isObject(value) && !(value instanceof Date) && !Redacted.isRedacted(value)

/** No operating system passes a NUL character to a program, and what is not Unicode arrives as something else. */
const passable = (value: string): Result.Result<string, string> => {
  if (value.includes("\0")) return Result.fail("must not contain a NUL character")
  return value.isWellFormed() ? Result.succeed(value) : Result.fail("must not contain half a surrogate pair")
}

const decodeText = (input: unknown): Result.Result<string, string> => {
  if (!isString(input)) return expected("a text", input)
  return input !== "" && input.trim() === "" ? Result.fail("must not be blank") : passable(input)
}

/** Any text. */
export const text: Kind<string, string> = make({ is: isString, decode: decodeText, encode: (value) => value })

/** The path of a file or directory. */
export const path: Kind<string, string> = make({
  is: isString,
  decode: decodeText,
  encode: (value) => value,
  file: true
})

/** The name of a member, which stands before `=` in `initial-cluster`. */
export const memberName: Kind<string, string> = make({
  is: isString,
  decode: (input) =>
    Result.flatMap(decodeText(input), (name) =>
      /[,=]/.test(name)
        ? Result.fail(`"${name}" must not contain "," or "=", which separate members in initial-cluster`)
        : Result.succeed(name)
    ),
  encode: (value) => value
})

/** Text that must not appear in a log, an error, or the process list. */
export const secret: Kind<Redacted.Redacted<string>, string | Redacted.Redacted<string>> = make({
  is: (value): value is Redacted.Redacted<string> => Redacted.isRedacted(value),
  decode: (input) => {
    const value = Redacted.isRedacted(input) ? Options.reveal(input) : input
    return isString(value) ? Result.map(passable(value), () => Redacted.make(value)) : Result.fail("expected a text")
  },
  encode: (value) => value,
  toFlag: Redacted.value,
  secret: true
})

/** `true` or `false`. */
export const boolean: Kind<boolean, boolean> = make({
  is: (value): value is boolean => typeof value === "boolean",
  decode: (input) => (typeof input === "boolean" ? Result.succeed(input) : expected("true or false", input)),
  encode: (value) => value,
  fromText: (text) => (/^(true|t|1|yes|on)$/i.test(text) ? true : /^(false|f|0|no|off)$/i.test(text) ? false : text)
})

/** A whole number from `minimum` to `maximum`, both included. */
export const integer = (minimum: number, maximum: number): Kind<number, number> =>
  make({
    is: (value): value is number => typeof value === "number",
    decode: (input) =>
      typeof input !== "number" || !Number.isSafeInteger(input)
        ? expected("a whole number", input)
        : input < minimum || input > maximum
          ? Result.fail(`must be ${range(minimum, maximum)}, got ${input}`)
          : Result.succeed(input),
    encode: (value) => value,
    fromText: numberFromText
  })

const range = (minimum: number, maximum: number) =>
  maximum === Number.MAX_SAFE_INTEGER ? `at least ${minimum}` : `between ${minimum} and ${maximum}`

const numberFromText = (text: string): unknown => (/^[-+]?\d+$/.test(text.trim()) ? Number(text) : text)

/** One of a few words; a word's range says which versions know it. */
export const choice = <const L extends string>(words: Readonly<Record<L, string>>): Kind<L, L> => {
  const known: ReadonlyArray<string> = Object.keys(words)
  const is = (value: unknown): value is L => isString(value) && known.includes(value)
  return make({
    is,
    decode: (input) => (is(input) ? Result.succeed(input) : expected(`one of ${known.join(", ")}`, input)),
    encode: (value) => value,
    limits: words
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// durations and sizes
// ---------------------------------------------------------------------------------------------------------------------

const goUnits: ReadonlyArray<readonly [unit: string, nanos: bigint]> = [
  ["h", 3_600_000_000_000n],
  ["m", 60_000_000_000n],
  ["s", 1_000_000_000n],
  ["ms", 1_000_000n],
  ["us", 1_000n],
  ["ns", 1n]
]
const nanosByUnit = new Map<string, bigint>([...goUnits, ["µs", 1_000n], ["μs", 1_000n]])
const goDuration = /^\+?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/
const goDurationParts = /(\d*)(?:\.(\d*))?(ns|us|µs|μs|ms|s|m|h)/g
const maxNanos = 2n ** 63n - 1n

const parseGoDuration = (text: string): Option.Option<Duration.Duration> => {
  if (text === "0") return Option.some(Duration.zero)
  if (!goDuration.test(text)) return Option.none()
  let nanos = 0n
  for (const [, whole = "", fraction = "", unit = ""] of text.matchAll(goDurationParts)) {
    const scale = 10n ** BigInt(fraction.length)
    nanos += (BigInt(`${whole}${fraction}` || "0") * nanosByUnit.get(unit)!) / scale
  }
  return Option.some(Duration.nanos(nanos))
}

/** A duration as Go's `time.ParseDuration` reads it, in the largest unit that divides it. */
export const formatGoDuration = (duration: Duration.Duration): string => {
  const nanos = Option.getOrElse(Duration.toNanos(duration), () => 0n)
  if (nanos === 0n) return "0s"
  const [unit, size] = goUnits.find(([, size]) => nanos % size === 0n)!
  return `${nanos / size}${unit}`
}

const durationForm = 'a duration like "5s", "100ms" or "1h30m"'

const decodeDuration = (input: unknown): Result.Result<Duration.Duration, string> => {
  const parsed = isString(input)
    ? Option.orElse(parseGoDuration(input.trim()), () => Duration.fromInput(input.trim() as Duration.Input))
    : Options.durationOf(input)
  if (Option.isNone(parsed)) return expected(durationForm, input)
  const nanos = Duration.toNanos(parsed.value)
  if (Option.isNone(nanos)) return Result.fail("must be finite")
  if (nanos.value < 0n) return Result.fail("must not be negative")
  return nanos.value > maxNanos
    ? Result.fail("is longer than etcd can count (about 292 years)")
    : Result.succeed(parsed.value)
}

/** A duration that etcd takes with its unit. */
export const duration: Kind<Duration.Duration, DurationInput> = make<Duration.Duration, DurationInput>({
  is: Duration.isDuration,
  decode: decodeDuration,
  encode: (value) => formatGoDuration(value) as GoDuration,
  bareNumber: "no unit"
})

/** The same, of an option that counts seconds or more: a bare number that makes less than a tenth of one lacks its unit. */
export const longDuration: Kind<Duration.Duration, DurationInput> = make<Duration.Duration, DurationInput>({
  is: Duration.isDuration,
  decode: (input) => {
    const hint = Options.unitHint(input)
    return hint === undefined ? decodeDuration(input) : Result.fail(`got ${input}, and ${hint}`)
  },
  encode: (value) => formatGoDuration(value) as GoDuration,
  bareNumber: "no unit"
})

/** A duration that etcd takes as a whole number of milliseconds. */
export const millis: Kind<Duration.Duration, DurationInput> = make<Duration.Duration, DurationInput>({
  is: Duration.isDuration,
  decode: (input) =>
    Result.flatMap(decodeDuration(input), (value) =>
      Number.isInteger(Duration.toMillis(value))
        ? Result.succeed(value)
        : Result.fail(`must be a whole number of milliseconds, got ${formatGoDuration(value)}`)
    ),
  encode: (value) => formatGoDuration(value) as GoDuration,
  toFlag: (value) => String(Duration.toMillis(value)),
  fromText: numberFromText
})

/** `auto-compaction-retention`: a duration, or a number that is of hours or revisions, depending on the mode. */
export const retention: Kind<Duration.Duration | number, DurationInput | number> = make<
  Duration.Duration | number,
  DurationInput | number
>({
  is: (value): value is Duration.Duration | number => typeof value === "number" || Duration.isDuration(value),
  decode: (input) => {
    const value = isString(input) ? numberFromText(input) : input
    if (typeof value !== "number") return decodeDuration(value)
    return Number.isSafeInteger(value) && value >= 0
      ? Result.succeed(value)
      : expected(`a whole number (of hours or revisions) or ${durationForm}`, input)
  },
  encode: (value) => (typeof value === "number" ? value : (formatGoDuration(value) as GoDuration))
})

const sizeForm = 'a number of bytes or a size like "8 GiB"'

const decodeSize =
  (maximum: bigint) =>
  (input: unknown): Result.Result<ByteSize.ByteSize, string> => {
    const value = isString(input) && /^\d+$/.test(input.trim()) ? BigInt(input.trim()) : input
    const size =
      isString(value) || typeof value === "bigint" || typeof value === "number"
        ? ByteSize.fromInput(value as ByteSize.Input)
        : Option.none()
    if (Option.isNone(size)) return expected(sizeForm, input)
    return ByteSize.toBigInt(size.value) > maximum
      ? Result.fail(`must be at most ${maximum} bytes, got ${ByteSize.toBigInt(size.value)}`)
      : Result.succeed(size.value)
  }

/** A size in bytes. */
export const bytes = (maximum: bigint): Kind<ByteSize.ByteSize, ByteSize.Input> =>
  make<ByteSize.ByteSize, ByteSize.Input>({
    is: ByteSize.isByteSize,
    decode: decodeSize(maximum),
    encode: (value) => value
  })

/** A size in bytes, or `"unlimited"`, which etcd writes as a negative number. */
export const bytesOrUnlimited: Kind<ByteSize.ByteSize | "unlimited", SizeInput> = make<
  ByteSize.ByteSize | "unlimited",
  SizeInput
>({
  is: (value): value is ByteSize.ByteSize | "unlimited" => value === "unlimited" || ByteSize.isByteSize(value),
  decode: (input) => {
    const value = isString(input) ? numberFromText(input) : input
    return input === "unlimited" || (typeof value === "number" && Number.isInteger(value) && value < 0)
      ? Result.succeed("unlimited" as const)
      : decodeSize(2n ** 63n - 1n)(input)
  },
  encode: (value): SizeInput => value,
  toFlag: (value) => (value === "unlimited" ? "-1" : String(value))
})

// ---------------------------------------------------------------------------------------------------------------------
// lists and maps
// ---------------------------------------------------------------------------------------------------------------------

interface ListRules {
  readonly file?: boolean
  /** Whether an empty array is a value. */
  readonly orNone?: boolean
  /** Whether they are URLs: one with a user, which is refused, is kept whole, since a password may have commas. */
  readonly url?: boolean
}

/** What is given twice is there once: to etcd, lists are sets. */
const decodeList =
  (what: string, item: (text: string) => Result.Result<string, string>, { orNone = false, url = false }: ListRules) =>
  (input: unknown): Result.Result<ReadonlyArray<string>, string> => {
    if (orNone && Array.isArray(input) && input.length === 0) return Result.succeed([])
    const given = isString(input) ? [input] : input
    if (!Array.isArray(given) || !given.every(isString)) return expected(`${what}: a text or a list of texts`, input)
    const split = (text: string) => (url && Url.hasUser(text) ? [text] : text.split(","))
    const items = [...new Set(given.flatMap(split).map((text) => text.trim()))]
    if (items.length === 0 || items.includes("")) return Result.fail(`expected ${what}, got an empty entry or list`)
    const results = items.map((text) => Result.flatMap(passable(text), item))
    const problems = results.flatMap((result) => (Result.isFailure(result) ? [result.failure] : []))
    return problems.length > 0 ? Result.fail(problems.join("; ")) : Result.succeed(items)
  }

const isStrings = (value: unknown): value is ReadonlyArray<string> => Array.isArray(value) && value.every(isString)

const makeList = (
  what: string,
  item: (text: string) => Result.Result<string, string>,
  rules: ListRules = {}
): Kind<ReadonlyArray<string>, ListInput> =>
  make<ReadonlyArray<string>, ListInput>({
    is: isStrings,
    decode: decodeList(what, item, rules),
    encode: (value) => value,
    toFlag: (value) => value.join(","),
    shape: "list",
    file: rules.file ?? false
  })

/** Several texts without commas. */
export const list: Kind<ReadonlyArray<string>, ListInput> = makeList("one or more texts", Result.succeed)

/** Endpoints of a service that is told of a user otherwise. */
export const endpoints: Kind<ReadonlyArray<string>, ListInput> = makeList("one or more endpoints", (text) =>
  Url.hasUser(text)
    ? Result.fail(
        "must not contain a user, at which etcd does not look there; write discovery-user and discovery-password"
      )
    : Result.succeed(text)
)

/** Where logs go: words that etcd knows, and paths of files. */
export const logOutputs: Kind<ReadonlyArray<string>, ListInput> = makeList("one or more log outputs", Result.succeed, {
  file: true
})

const decodeUrl = (text: string) => Result.map(Url.parse(text), (url) => url.text)

/** URLs of the form that `Url.parse` takes. */
export const urls: Kind<ReadonlyArray<string>, ListInput> = makeList("one or more URLs", decodeUrl, { url: true })

/** URLs, or none. */
export const urlsOrNone: Kind<ReadonlyArray<string>, ListInput> = makeList("one or more URLs", decodeUrl, {
  orNone: true,
  url: true
})

/** Origins for CORS: `*`, or URLs of the same form. */
export const origins: Kind<ReadonlyArray<string>, ListInput> = makeList(
  '"*" or one or more URLs',
  (text) => (text === "*" ? Result.succeed(text) : decodeUrl(text)),
  { url: true }
)

/** TLS cipher suites by the names that Go gives them. */
export const cipherSuites: Kind<ReadonlyArray<string>, ListInput> = makeList("one or more cipher suites", (text) =>
  /^TLS_[A-Z0-9_]+$/.test(text)
    ? Result.succeed(text)
    : Result.fail(`"${text}" is not a cipher suite's name like TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`)
)

const membersFromText = (text: string): Result.Result<Record<string, Array<string>>, string> => {
  const members = new Map<string, Array<string>>()
  for (const entry of text.split(",").filter((entry) => entry.trim() !== "")) {
    const equals = entry.indexOf("=")
    if (equals === -1) return Result.fail(`"${entry.trim()}" is not of the form name=URL`)
    const name = entry.slice(0, equals).trim()
    members.set(name, [...(members.get(name) ?? []), entry.slice(equals + 1).trim()])
  }
  return Result.succeed(Object.fromEntries(members))
}

const withoutUsers = 'members whose URLs have no user, and so no "@"'

const decodeMembers = (input: unknown): Result.Result<Members, string> => {
  const decoded = readMembers(input)
  // Its password may have commas, and parts of it would be shown as members.
  return Result.isFailure(decoded) && isString(input) && Url.hasUser(input)
    ? Result.fail(`expected ${withoutUsers}, got ${describeText(Url.withoutUser(input))}`)
    : decoded
}

const readMembers = (input: unknown): Result.Result<Members, string> => {
  const given = isString(input) ? membersFromText(input) : isRecord(input) ? Result.succeed(input) : undefined
  if (given === undefined) return expected('members, like "a=http://127.0.0.1:2380" or a URL by name', input)
  if (Result.isFailure(given)) return Result.fail(given.failure)
  const problems: Array<string> = []
  const members: Array<readonly [name: string, urls: ReadonlyArray<string>]> = []
  for (const [name, value] of Object.entries(given.success)) {
    const valid = Result.flatMap(memberName.decode(name), (name) =>
      name === "" ? Result.fail("a member has no name before =") : urls.decode(value)
    )
    if (Result.isFailure(valid)) problems.push(name === "" ? valid.failure : `member ${name}: ${valid.failure}`)
    else members.push([name, valid.success])
  }
  if (Object.keys(given.success).length === 0) problems.push("names no member")
  return problems.length > 0 ? Result.fail(problems.join("; ")) : Result.succeed(Object.fromEntries(members))
}

/** `initial-cluster`. */
export const members: Kind<Members, MembersInput> = make<Members, MembersInput>({
  is: (value): value is Members => isRecord(value) && Object.values(value).every(isStrings),
  decode: decodeMembers,
  encode: (value) => value,
  toFlag: (value) =>
    Object.entries(value)
      .flatMap(([name, urls]) => urls.map((url) => `${name}=${url}`))
      .join(","),
  shape: "record"
})

const featureFromText = (entry: string): readonly [string, unknown] => {
  const equals = entry.indexOf("=")
  return equals === -1
    ? [entry.trim(), undefined]
    : [entry.slice(0, equals).trim(), boolean.fromText(entry.slice(equals + 1).trim())]
}

/** `feature-gates`. */
export const features: Kind<Features, FeaturesInput> = make<Features, FeaturesInput>({
  is: (value): value is Features => isRecord(value) && Object.values(value).every((on) => typeof on === "boolean"),
  decode: (input) => {
    const given = isString(input)
      ? input.split(",").map(featureFromText)
      : isRecord(input)
        ? Object.entries(input).map(([name, on]) => [name, isString(on) ? boolean.fromText(on) : on] as const)
        : undefined
    if (given === undefined) return expected('features, like "InitialCorruptCheck=true"', input)
    const wrong = given.find(([name, on]) => name === "" || typeof on !== "boolean")
    return wrong === undefined
      ? Result.succeed(Object.fromEntries(given) as Features)
      : Result.fail(`${JSON.stringify(wrong[0])} must be followed by =true or =false`)
  },
  encode: (value) => value,
  toFlag: (value) =>
    Object.entries(value)
      .map(([name, on]) => `${name}=${on}`)
      .join(","),
  shape: "record"
})

/** A JSON object as text. */
export const json: Kind<string, string> = make({
  is: isString,
  decode: (input) =>
    Result.flatMap(decodeText(input), (value) =>
      Option.match(Schema.decodeUnknownOption(JsonObject)(value), {
        onNone: () => Result.fail(`expected a JSON object, got ${JSON.stringify(value)}`),
        onSome: () => Result.succeed(value)
      })
    ),
  encode: (value) => value
})

const JsonObject = Schema.fromJsonString(Schema.Record(Schema.String, Schema.Unknown))
