/**
 * Reads etcd's own YAML configuration file, as etcd reads it.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Yaml from "effect/encoding/Yaml"
import * as Result from "effect/Result"
import type * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Kind from "./kind.ts"
import { fail, invalid, isRecord, locateIn, type Reading, readEntries, type Spelling, withoutValue } from "./read.ts"
import * as Table from "./table.ts"

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
export const read = (text: string, file: string): Result.Result<Reading, EtcdProcessError.EtcdProcessError> => {
  const parsed = parseYaml(text)
  if (Result.isFailure(parsed)) {
    return fail(file, file, `not YAML: ${withPosition(withoutValue(parsed.failure), text)}`)
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
