/**
 * From what a user wrote (an object, TOML, etcd's YAML, text by name) to the values of options, with every problem found
 * on the way.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Toml from "effect/encoding/Toml"
import * as Yaml from "effect/encoding/Yaml"
import * as Result from "effect/Result"
import * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Options from "../options.ts"
import * as Kind from "./kind.ts"
import * as Table from "./table.ts"

/** What is wrong with one option, or with the file as a whole. */
export interface Problem {
  readonly option: string
  readonly message: string
}

/** One error for all problems. */
export const invalid = (subject: string, problems: ReadonlyArray<Problem>): EtcdProcessError.EtcdProcessError => {
  const lines = problems.map(({ message, option }) => (option === subject ? message : `${option}: ${message}`))
  return EtcdProcessError.make(
    new EtcdProcessError.InvalidConfig({
      message:
        lines.length === 1
          ? `${subject}: ${lines[0]}`
          : `${subject} has ${lines.length} problems:\n${lines.map((line) => `  ${line}`).join("\n")}`,
      problems
    })
  )
}

/** The error of an argument that makes no sense. `what`: as in "the path". */
export const wrongArgument = (
  who: string,
  what: string,
  check: Options.Check,
  value: unknown
): EtcdProcessError.EtcdProcessError | undefined => {
  const message = Options.problemOfArgument(who, what, check, value)
  return message === undefined ? undefined : refused({ option: what, message })
}

/** The error of the first option that makes no sense, or that there is none of. */
export const wrongOptions = <O extends object>(
  who: string,
  checks: Options.Checks<O>,
  options: O | undefined
): EtcdProcessError.EtcdProcessError | undefined => {
  const problem = Options.find(who, checks, options)
  return problem === undefined ? undefined : refused(problem)
}

/** The error of something that makes no sense, told in a whole sentence. */
export const refused = (problem: Problem): EtcdProcessError.EtcdProcessError =>
  EtcdProcessError.make(new EtcdProcessError.InvalidConfig({ message: problem.message, problems: [problem] }))

/** What came of reading a file. */
export interface Reading {
  readonly values: Table.Values
  /** What was passed over, for people to read. */
  readonly warnings: ReadonlyArray<string>
}

/** How a source spells names and values. */
interface Spelling {
  readonly keys: ReadonlyMap<string, Table.Key>
  readonly formerly: ReadonlyMap<string, Table.Former>
  readonly convert: (kind: Kind.Kind<unknown, unknown>, value: unknown) => Result.Result<unknown, string>
  /** Where a name stands in the source, to be put after a message; empty if unknown. */
  readonly locate: (name: string) => string
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  Options.isObject(value) && !(value instanceof Date)

const readEntries = (
  entries: ReadonlyArray<readonly [name: string, value: unknown]>,
  spelling: Spelling,
  warnings: Array<string> = []
): Result.Result<Table.Values, ReadonlyArray<Problem>> => {
  const problems: Array<Problem> = []
  const values: Partial<Record<Table.Key, unknown>> = {}
  const namesByKey = new Map<Table.Key, string>()
  for (const [name, given] of entries) {
    const report = (message: string) => problems.push({ option: name, message: `${message}${spelling.locate(name)}` })
    const key = spelling.keys.get(name)
    if (key === undefined) {
      const former = spelling.formerly.get(name)
      if (former !== undefined && (isUnset(given) || former.implied.includes(given))) {
        warnings.push(`${name} is left out: it is no option of etcd now, and asks for nothing${spelling.locate(name)}`)
      } else if (former !== undefined) {
        report(`is no option of etcd now; write ${former.successor}`)
      } else report(explainUnknown(name, spelling))
      continue
    }
    const earlier = namesByKey.get(key)
    if (earlier !== undefined) {
      report(`is the same option as ${earlier}; give it once`)
      continue
    }
    namesByKey.set(key, name)
    if (isUnset(given)) continue
    const kind = Table.get(key).kind
    const value = Result.flatMap(spelling.convert(kind, given), kind.decode)
    if (Result.isFailure(value)) report(value.failure)
    else values[key] = value.success
  }
  return problems.length > 0 ? Result.fail(problems) : Result.succeed(values as Table.Values)
}

/** etcd takes an empty option for one that is not given. */
const isUnset = (value: unknown) => value === undefined || value === null || value === ""

const notOptions: Readonly<Record<string, string>> = {
  "config-file": "is not taken, because etcd would then ignore all else; read the file with EtcdConfig.fromYaml",
  version: "asks etcd for its version and does not configure a node",
  help: "asks etcd for its options and does not configure a node"
}

const explainUnknown = (name: string, spelling: Spelling): string => {
  const plain = kebabCase(name)
  const hint = Object.hasOwn(notOptions, plain) ? notOptions[plain] : undefined
  if (hint !== undefined) return hint
  const suggestion = nearest(plain, [...spelling.keys.keys()], kebabCase)
  return suggestion === undefined ? "is not an option of etcd" : `is not an option of etcd; did you mean ${suggestion}?`
}

const kebabCase = (name: string) =>
  name
    .replace(/^-+/, "")
    .replace(/([a-z0-9])([A-Z])/g, "$1-$2")
    .replace(/_/g, "-")
    .toLowerCase()

/** The candidate that takes the fewest changes of a character to become the name, if it takes but a few. */
export const nearest = (
  name: string,
  candidates: ReadonlyArray<string>,
  normalize: (candidate: string) => string = (candidate) => candidate
): string | undefined => {
  const limit = Math.max(2, Math.floor(name.length / 4))
  let best: string | undefined
  let bestDistance = limit + 1
  for (const candidate of candidates) {
    const distance = editDistance(name, normalize(candidate))
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

const editDistance = (from: string, to: string): number => {
  if (Math.abs(from.length - to.length) > 20) return 20
  let previous = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (let row = 1; row <= from.length; row++) {
    const current = [row]
    for (let column = 1; column <= to.length; column++) {
      const replaced = previous[column - 1]! + (from[row - 1] === to[column - 1] ? 0 : 1)
      current.push(Math.min(replaced, previous[column]! + 1, current[column - 1]! + 1))
    }
    previous = current
  }
  return previous[to.length]!
}

// ---------------------------------------------------------------------------------------------------------------------
// objects
// ---------------------------------------------------------------------------------------------------------------------

const objectSubject = "The etcd configuration"

const objectSpelling: Spelling = {
  keys: Table.keyByProperty,
  formerly: new Map(),
  convert: (_, value) => Result.succeed(value),
  locate: () => ""
}

/** Reads an object with names as in TypeScript. */
export const fromObject = (input: unknown): Result.Result<Table.Values, EtcdProcessError.EtcdProcessError> =>
  isRecord(input)
    ? Result.mapError(readEntries(Object.entries(input), objectSpelling), (problems) =>
        invalid(objectSubject, problems)
      )
    : Result.fail(
        invalid(objectSubject, [
          { option: objectSubject, message: `expected an object of options, got ${Options.show(input)}` }
        ])
      )

/** Reads values from a source that has little but text. */
export const fromTexts = (
  texts: ReadonlyArray<readonly [key: Table.Key, text: unknown]>
): Result.Result<Table.Values, ReadonlyArray<Problem>> =>
  readEntries(texts, {
    ...objectSpelling,
    convert: (kind, value) => Result.succeed(typeof value === "string" ? kind.fromText(value) : value)
  })

// ---------------------------------------------------------------------------------------------------------------------
// files
// ---------------------------------------------------------------------------------------------------------------------

/** Says on which line a name is given, if there is exactly one such line. */
const locateIn =
  (text: string) =>
  (name: string): string => {
    const key = name.slice(name.lastIndexOf(".") + 1).replace(/[^A-Za-z0-9_-]/g, ".")
    const pattern = new RegExp(`^\\s*["']?${key}["']?\\s*[=:]`)
    const lines = text.split(/\r\n|\n/).flatMap((line, index) => (pattern.test(line) ? [index + 1] : []))
    return lines.length === 1 ? ` (line ${lines[0]})` : ""
  }

const tomlSpelling = (text: string): Spelling => ({
  keys: Table.keyByName,
  formerly: Table.formerly,
  convert: (kind, value) =>
    typeof value === "number" && value !== 0 && kind.bareNumber === "no unit"
      ? Result.fail(`the number ${value} has no unit; write a duration like "${value}s" or "${value}ms"`)
      : Result.succeed(value),
  locate: locateIn(text)
})

const fail = (subject: string, option: string, message: string) => Result.fail(invalid(subject, [{ option, message }]))

/** Reads the table `etcd` of a TOML document. */
export const fromToml = (text: string, file: string): Result.Result<Reading, EtcdProcessError.EtcdProcessError> => {
  const document = Toml.parse(text)
  if (Result.isFailure(document)) {
    return fail(file, file, `not TOML: ${document.failure.message}`)
  }
  const table = document.success.etcd
  const stray = Object.keys(document.success).filter((name) => name !== "etcd" && Table.keyByName.has(name))
  const misplaced = stray.map((name) => ({ option: name, message: `belongs below [etcd]${locateIn(text)(name)}` }))
  if (!isRecord(table)) {
    const message = table === undefined ? "has no [etcd] table" : "etcd must be one table, written [etcd]"
    return Result.fail(invalid(file, [{ option: file, message }, ...misplaced]))
  }
  const warnings: Array<string> = []
  const values = readEntries(Object.entries(table), tomlSpelling(text), warnings)
  const problems = [...(Result.isFailure(values) ? values.failure : []), ...misplaced]
  return Result.isFailure(values) || problems.length > 0
    ? Result.fail(invalid(file, problems))
    : Result.succeed({ values: values.success, warnings })
}

/** The names in etcd's YAML file that are not those on the command line. */
const yamlNames: Readonly<Record<string, string>> = {
  "experimental-snapshot-catch-up-entries": "experimental-snapshot-catchup-entries",
  "client-transport-security.cert-file": "cert-file",
  "client-transport-security.key-file": "key-file",
  "client-transport-security.client-cert-file": "client-cert-file",
  "client-transport-security.client-key-file": "client-key-file",
  "client-transport-security.client-cert-auth": "client-cert-auth",
  "client-transport-security.trusted-ca-file": "trusted-ca-file",
  "client-transport-security.auto-tls": "auto-tls",
  "client-transport-security.allowed-hostname": "client-cert-allowed-hostname",
  "peer-transport-security.cert-file": "peer-cert-file",
  "peer-transport-security.key-file": "peer-key-file",
  "peer-transport-security.client-cert-file": "peer-client-cert-file",
  "peer-transport-security.client-key-file": "peer-client-key-file",
  "peer-transport-security.client-cert-auth": "peer-client-cert-auth",
  "peer-transport-security.trusted-ca-file": "peer-trusted-ca-file",
  "peer-transport-security.auto-tls": "peer-auto-tls",
  "peer-transport-security.allowed-cn": "peer-cert-allowed-cn",
  "peer-transport-security.allowed-hostname": "peer-cert-allowed-hostname",
  "peer-transport-security.skip-client-san-verification": "peer-skip-client-san-verification",
  "socket-options.reuse-port": "socket-reuse-port",
  "socket-options.reuse-address": "socket-reuse-address",
  "discovery-config.token": "discovery-token",
  "discovery-config.client.endpoints": "discovery-endpoints",
  "discovery-config.client.dial-timeout": "discovery-dial-timeout",
  "discovery-config.client.request-timeout": "discovery-request-timeout",
  "discovery-config.client.keepalive-time": "discovery-keepalive-time",
  "discovery-config.client.keepalive-timeout": "discovery-keepalive-timeout",
  "discovery-config.client.secure.insecure-transport": "discovery-insecure-transport",
  "discovery-config.client.secure.insecure-skip-tls-verify": "discovery-insecure-skip-tls-verify",
  "discovery-config.client.secure.cert": "discovery-cert",
  "discovery-config.client.secure.key": "discovery-key",
  "discovery-config.client.secure.cacert": "discovery-cacert",
  "discovery-config.client.auth.username": "discovery-user",
  "discovery-config.client.auth.password": "discovery-password"
}

const yamlSections: ReadonlySet<string> = new Set(
  Object.keys(yamlNames).flatMap((name) => {
    const parts = name.split(".")
    return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join("."))
  })
)

const yamlKeys: ReadonlyMap<string, Table.Key> = new Map([
  ...Table.keyByName,
  ...Object.entries(yamlNames).map(([name, flag]) => [name, Table.keyByName.get(flag)!] as const)
])

/** What was in etcd's own sample, or still is in many files that were made of it. */
const yamlFormerly: ReadonlyMap<string, Table.Former> = new Map([
  ...Table.formerly,
  ["client-transport-security.ca-file", { implied: [], successor: "client-transport-security.trusted-ca-file" }],
  ["peer-transport-security.ca-file", { implied: [], successor: "peer-transport-security.trusted-ca-file" }],
  [
    "peer-transport-security.peer-client-cert-auth",
    { implied: [false], successor: "peer-transport-security.client-cert-auth" }
  ]
])

/** etcd reads YAML 1.1, whose booleans have more words than those of 1.2. */
const yamlTrue = /^(?:y|Y|yes|Yes|YES|on|On|ON|true|True|TRUE)$/
const yamlFalse = /^(?:n|N|no|No|NO|off|Off|OFF|false|False|FALSE)$/

const yamlBoolean = (value: unknown): unknown =>
  typeof value !== "string" ? value : yamlTrue.test(value) ? true : yamlFalse.test(value) ? false : value

/** etcd's reader makes a text of a bare number or boolean where one is due. What has lost digits stays a number. */
const yamlText = (value: unknown): unknown =>
  typeof value === "boolean" || (typeof value === "number" && Math.abs(value) <= Number.MAX_SAFE_INTEGER)
    ? String(value)
    : value

const yamlValue = (kind: Kind.Kind<unknown, unknown>, value: unknown): unknown => {
  if ((kind as unknown) === Kind.boolean) return yamlBoolean(value)
  if (kind.shape === "list") return Array.isArray(value) ? value.map(yamlText) : yamlText(value)
  return kind.text ? yamlText(value) : value
}

const yamlSpelling = (text: string): Spelling => ({
  keys: yamlKeys,
  formerly: yamlFormerly,
  convert: (kind, value) =>
    typeof value !== "number" || kind.bareNumber === "value"
      ? Result.succeed(yamlValue(kind, value))
      : Number.isSafeInteger(value) && value >= 0
        ? Result.succeed(Duration.nanos(BigInt(value)))
        : Result.fail(`expected a whole number of nanoseconds, got ${value}`),
  locate: locateIn(text)
})

const flatten = (record: Readonly<Record<string, unknown>>, prefix: string): Array<readonly [string, unknown]> =>
  Object.entries(record).flatMap(([name, value]) => {
    const path = `${prefix}${name}`
    if (!yamlSections.has(path) || value === null) return [[path, value] as const]
    return isRecord(value) ? flatten(value, `${path}.`) : [[path, value] as const]
  })

interface ParsedYaml {
  readonly document: unknown
  /** The names that were given again, and on which lines. */
  readonly repeated: ReadonlyArray<readonly [name: string, line: number]>
}

const repetition = /^Duplicate key '(.*)' at line (\d+)$/s
const keyOnLine = /^(\s*(?:-\s+)*)(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s"'][^:]*(?::(?!\s|$)[^:]*)*?)(?=\s*:(?:\s|$))/
/** Stands between a name that was given again and how often that had happened before; nobody writes it. */
const again = "\ue000"
const maxRepeated = 1000

/**
 * Reads YAML in which a name may be given twice. Effect's parser takes no such name, and etcd's takes the last; so each is
 * given a name of its own, on the line that the parser names, and after parsing the last of them gets it back.
 */
const parseYaml = (text: string): Result.Result<ParsedYaml, string> => {
  const lines = text.replace(/\r\n?/g, "\n").split("\n")
  const repeated: Array<readonly [name: string, line: number]> = []
  while (true) {
    const parsed = Result.try({
      try: () => Yaml.parse(lines.join("\n")),
      catch: (cause) => (cause instanceof Error ? cause.message : String(cause))
    })
    if (Result.isSuccess(parsed)) {
      return Result.succeed({ document: repeated.length === 0 ? parsed.success : withLast(parsed.success), repeated })
    }
    const [, name, number] = repetition.exec(parsed.failure) ?? []
    const line = lines[Number(number) - 1]
    if (name === undefined || name === "<<" || line === undefined || repeated.length === maxRepeated) {
      return Result.fail(parsed.failure)
    }
    const renamed = line.replace(
      keyOnLine,
      (_, start) => `${start}${JSON.stringify(`${name}${again}${repeated.length}`)}`
    )
    if (renamed === line) return Result.fail(parsed.failure)
    lines[Number(number) - 1] = renamed
    repeated.push([name, Number(number)])
  }
}

const withLast = (value: unknown): unknown =>
  isRecord(value)
    ? Object.fromEntries(Object.entries(value).map(([name, value]) => [name.split(again)[0], withLast(value)]))
    : value

/** Reads etcd's own YAML configuration file. */
export const fromYaml = (text: string, file: string): Result.Result<Reading, EtcdProcessError.EtcdProcessError> => {
  const parsed = parseYaml(text)
  if (Result.isFailure(parsed)) {
    return fail(file, file, `not YAML: ${withPosition(parsed.failure, text)}`)
  }
  const { document, repeated } = parsed.success
  const warnings = repeated.map(([name, line]) => `${name} is given again on line ${line}; the last one counts`)
  if (document === null || document === undefined) return Result.succeed({ values: {}, warnings })
  if (!isRecord(document)) {
    return fail(file, file, "must be a mapping of options, as in etcd.conf.yml.sample")
  }
  const entries = flatten(document, "").filter(([name, value]) => !(yamlSections.has(name) && value === null))
  return Result.mapBoth(readEntries(entries, yamlSpelling(text), warnings), {
    onFailure: (problems) => invalid(file, problems),
    onSuccess: (values) => ({ values, warnings })
  })
}

const maxLinesSearched = 2000

/**
 * Effect's YAML parser names the line of most errors, and the column of none. The rest begin right after the longest
 * run of lines that is YAML by itself.
 */
const withPosition = (message: string, text: string): string => {
  const lines = text.replace(/\r\n?/g, "\n").split("\n")
  const named = /^(.*) at line (\d+)$/s.exec(message)
  const line = named === null ? firstBadLine(lines) : Number(named[2])
  const reason = named === null ? message.replace(/ at flow offset \d+$/, "") : named[1]!
  const content = lines[line - 1] ?? ""
  return `${reason} at line ${line}, column ${columnOf(content, named === null)}`
}

const firstBadLine = (lines: ReadonlyArray<string>): number => {
  let good = 0
  for (let count = 1; count < Math.min(lines.length, maxLinesSearched); count++) {
    if (Result.isSuccess(parseYaml(lines.slice(0, count).join("\n")))) good = count
  }
  return good + 1
}

/** Where a line's content begins, or its value where it is the value that could not be read. */
const columnOf = (line: string, inValue: boolean): number => {
  const value = inValue ? /^\s*[^\s#:"'[{]+:\s+(?=\S)/.exec(line) : null
  return (value?.[0].length ?? line.search(/\S|$/)) + 1
}
