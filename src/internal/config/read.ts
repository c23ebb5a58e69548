/**
 * From what a user wrote to the values of options, with every problem found on the way: what all sources share, and those
 * that are no files. (`toml` and `yaml` read files.)
 *
 * @internal
 */

import * as Result from "effect/Result"
import * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Json from "../json.ts"
import * as Options from "../options.ts"
import * as Url from "../url.ts"
import type * as Kind from "./kind.ts"
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
export interface Spelling {
  readonly keys: ReadonlyMap<string, Table.Key>
  readonly formerly: ReadonlyMap<string, Table.Former>
  readonly convert: (kind: Kind.Kind<unknown, unknown>, value: unknown) => Result.Result<unknown, string>
  /** Where a name stands in the source, to be put after a message; empty if unknown. */
  readonly locate: (name: string) => string
}

export const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  Options.isObject(value) && !(value instanceof Date)

export const readEntries = (
  entries: ReadonlyArray<readonly [name: string, value: unknown]>,
  spelling: Spelling,
  warnings: Array<string> = []
): Result.Result<Table.Values, ReadonlyArray<Problem>> => {
  const problems: Array<Problem> = []
  const values: Partial<Record<Table.Key, unknown>> = {}
  const namesByKey = new Map<Table.Key, string>()
  for (const [name, given] of entries) {
    const report = (message: string) =>
      problems.push({ option: name, message: `${Url.withoutPasswordsIn(message)}${spelling.locate(name)}` })
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
  return problems.length > 0 ? Result.fail(problems) : Result.succeed(Json.answer(values as Table.Values))
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
export const locateIn =
  (text: string) =>
  (name: string): string => {
    const key = name.slice(name.lastIndexOf(".") + 1).replace(/[^A-Za-z0-9_-]/g, ".")
    const pattern = new RegExp(`^\\s*["']?${key}["']?\\s*[=:]`)
    const lines = text.split(/\r\n|\n/).flatMap((line, index) => (pattern.test(line) ? [index + 1] : []))
    return lines.length === 1 ? ` (line ${lines[0]})` : ""
  }

const quotedValue = /^(Invalid value|Invalid date-time|Integer out of range|Unknown (?:YAML )?alias) '.*'(?= at |$)/s

/** What a parser says, without the value that it could not read: that may be a secret which lacks its quotes. */
export const withoutValue = (message: string): string => message.replace(quotedValue, "$1")

export const fail = (subject: string, option: string, message: string) =>
  Result.fail(invalid(subject, [{ option, message }]))
