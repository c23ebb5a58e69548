/**
 * What of secrets etcd prints, and how it is left out.
 *
 * @internal
 */
import * as Option from "effect/Option"
import type { Event } from "../../EtcdLog.ts"
import * as Json from "../json.ts"
import * as Url from "../url.ts"

const hidden = "<redacted>"

// -----------------------------------------------------------------------------
// wherever a line comes from
// -----------------------------------------------------------------------------

// What etcd takes from its environment, and who it is for a discovery service. A line that was too long, or whose rest
// never came, may end in the middle of that.
const secretFields = /("(?:variable-value|discovery-user|discovery-password)": ?)"(?:(?:[^"\\]|\\.)+"?|\\$)/g

// A variable that is no option of etcd's is printed with all that it says; etcd 3.4 prints every one so, without quotes.
const variable = /("environment-variable": ?"[^"=]*=)(?:[^"\\]|\\.)*/g
const plainVariable = /(environment variable [^\s"=]+=).+/g

// Who knows the path that a discovery service has for a cluster can join it. etcd makes the name of the cluster of it, too.
const discoveryUrl =
  /((?:"(?:discovery-url|initial-cluster-token)": ?"|discovery URL= |--discovery(?:=|", ?"))[a-z]+:\/\/[^/?#\s"\\]*)[/?#](?:[^\s"\\]|\\.)*/gi
const discoveryPath = /("path": ?")(?:[^"\\]|\\.)*/g

// Half of a token that lets its bearer in as that user; a slow request to authenticate is logged with it.
const simpleToken = /(simple_token:)[^\s>"\\]+/g

/** The line without what is secret by its place in it. */
export const withoutSecrets = (line: string): string => {
  let shown = line
  if (line.includes('"variable-value"') || line.includes('"discovery-')) {
    shown = shown.replace(secretFields, `$1"${hidden}"`)
  }
  if (line.includes("environment")) {
    shown = shown.replace(variable, `$1${hidden}`)
    if (!line.startsWith("{")) shown = shown.replace(plainVariable, `$1${hidden}`)
  }
  // `discovery`, `discovery-proxy`, endpoints: etcd prints its arguments, and calls them in errors.
  shown = Url.withoutPasswordsIn(shown)
  if (line.includes("discovery")) {
    shown = shown.replace(discoveryUrl, `$1/${hidden}`)
    if (line.includes('"discovery-url"')) shown = shown.replace(discoveryPath, `$1${hidden}`)
  }
  if (line.includes("simple_token:")) shown = shown.replace(simpleToken, `$1${hidden}`)
  return shown
}

// -----------------------------------------------------------------------------
// values that are known to be secret
// -----------------------------------------------------------------------------

/** A shorter value is hidden where it stands alone; in the middle of words it would be found everywhere. */
const distinct = 8
/** A still shorter one is any number or word, and hidden only by its place. */
const tellable = 4

const controls: Readonly<Record<string, string>> = { "\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f" }

const literal = (text: string): string => text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")
const anyCase = (hex: string): string => hex.replace(/[a-f]/g, (digit) => `[${digit}${digit.toUpperCase()}]`)
const hexOf = (code: number, digits: number): string => anyCase(code.toString(16).padStart(digits, "0"))

/** How often backslashes are doubled at most: by JSON or Go's %q, one in the other. */
const doublings = 4

// A character as it stands, and as JSON, Go's %q and URLs write it; JSON in JSON doubles the backslashes. There is a limit
// to them, since otherwise a line of backslashes alone, as of a client's key, would be gone through for each of them.
const anyForm = (char: string, backslashes: string): string => {
  const units = Array.from({ length: char.length }, (_, index) => `u${hexOf(char.charCodeAt(index), 4)}`)
  const bytes = Array.from(new TextEncoder().encode(char))
  const percent = bytes.map((byte) => `%${hexOf(byte, 2)}`).join("")
  const escaped = bytes.map((byte) => `x${hexOf(byte, 2)}`)
  const escapes = [units.join(backslashes), `U${hexOf(char.codePointAt(0)!, 8)}`, escaped.join(backslashes)]
  if (char in controls) escapes.push(controls[char]!)
  if (char === '"' || char === "'" || char === "/") escapes.push(char)
  const afterBackslashes = `${backslashes}(?:${escapes.join("|")})`
  return char === "\\"
    ? `(?:${afterBackslashes}?|(?:${percent})+)`
    : `(?:${literal(char)}|${percent}|${afterBackslashes})`
}

const patternOf = (secret: string): string => {
  const longest = Math.max(1, ...(secret.match(/\\+/g) ?? []).map((run) => run.length))
  const backslashes = `\\\\{1,${longest * 2 ** doublings}}`
  const chars = Array.from(secret.replace(/\\+/g, "\\"))
  const pattern = chars.map((char) => anyForm(char, backslashes)).join("")
  return chars.length < distinct ? `(?<![\\p{L}\\p{N}_])${pattern}(?![\\p{L}\\p{N}_])` : pattern
}

// A secret with line breaks may come in several lines.
const partsOf = (secret: string): ReadonlyArray<string> => [secret, ...secret.split(/[\r\n]+/)]

const isTellable = (secret: string): boolean => Array.from(secret).length >= tellable

/** The longest beginning of the secret that the text ends with. */
const cutOff = (text: string, secret: string): number => {
  for (let length = Math.min(text.length, secret.length - 1); length >= tellable; length--) {
    if (text.endsWith(secret.slice(0, length))) return length
  }
  return 0
}

// What the parser calls things is not etcd's to say.
const isOwnWord = (key: string): boolean => key === "_tag" || key === "level" || key === "role"

const mapStrings = (value: unknown, f: (text: string) => string, isField = false): unknown => {
  if (typeof value === "string") return f(value)
  if (Array.isArray(value)) return value.map((item) => mapStrings(item, f, isField))
  if (Option.isOption(value)) return Option.map(value, (item) => mapStrings(item, f, isField))
  if (!Json.isPlainObject(value)) return value
  const shown = Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      key,
      !isField && isOwnWord(key) ? item : mapStrings(item, f, isField || key === "fields")
    ])
  )
  return value instanceof Json.Answer ? Json.answer(shown) : shown
}

/**
 * Hides the values given in all that an event says: the line, the message, the fields, the details of a failure. The
 * event stays what it is, whatever its words. A value of fewer than four characters is left to {@link withoutSecrets}.
 */
export const hide = (secrets: ReadonlyArray<string>): ((event: Event) => Event) => {
  const parts = [...new Set(secrets.flatMap(partsOf))].filter(isTellable).sort((a, b) => b.length - a.length)
  if (parts.length === 0) return (event) => event
  const pattern = new RegExp(parts.map(patternOf).join("|"), "gu")
  // Of a line that was cut, the end may be the beginning of a secret.
  const ends = [...parts, ...parts.map((part) => JSON.stringify(part).slice(1, -1))]
  const hideAll = (text: string): string => text.replace(pattern, hidden)
  const hideCut = (text: string): string => {
    const shown = hideAll(text)
    const length = Math.max(...ends.map((part) => cutOff(shown, part)))
    return length === 0 ? shown : `${shown.slice(0, -length)}${hidden}`
  }
  return (event) => {
    const isCut = event._tag === "Unparsed"
    if (!isCut && event.line.search(pattern) === -1) return event
    return mapStrings(event, isCut ? hideCut : hideAll) as Event
  }
}
