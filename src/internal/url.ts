/**
 * The URLs that etcd listens on and advertises, read by etcd's own rules.
 *
 * etcd takes `http://host:port`, `https://host:port`, `unix://name:port` and `unixs://name:port`, the last two also
 * with a path from 3.5.13 on. (Facts: `client/pkg/types/urls.go` and `checkBindURLs`, `checkHostURLs` in
 * `server/embed/config.go` of etcd.)
 *
 * @internal
 */
import * as Result from "effect/Result"

/** A URL that etcd accepts in some option. */
export interface EtcdUrl {
  /** As it was given, without surrounding spaces. */
  readonly text: string
  readonly scheme: "http" | "https" | "unix" | "unixs"
  /** For a Unix socket, the first part of its path: what stands before the first slash, without the port. */
  readonly host: string
  /** `undefined` only for a Unix socket. */
  readonly port: number | undefined
  /** The path of a Unix socket, as etcd uses it: relative to its working directory unless it starts with a slash. */
  readonly socket: string | undefined
}

const form = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/(.*)$/s
const address = /^(\[[0-9A-Fa-f:.]+(?:%25[\w.~-]+)?\]|[^:[\]]*):(\d*)$/
/** What stands after an address that more than one link of the machine may have. */
const zone = /%25[\w.~-]+(?=\]:)/
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that must not occur
const forbidden = /[\u0000-\u0020\u007f<>"^`{}|\\%?#,@]/

const schemes: ReadonlySet<string> = new Set(["http", "https", "unix", "unixs"])

/** Reads a URL; the failure says what is wrong with it. */
export const parse = (given: string): Result.Result<EtcdUrl, string> => {
  const text = given.trim()
  const match = form.exec(text)
  const shown = withoutUser(text)
  if (match === null) {
    return Result.fail(`"${shown}" is not a URL; write it like http://127.0.0.1:2379`)
  }
  const scheme = match[1]!.toLowerCase()
  const rest = match[2]!
  if (!schemes.has(scheme)) {
    return Result.fail(`"${shown}" has the scheme ${scheme}; etcd knows http, https, unix and unixs`)
  }
  const isTcp = scheme === "http" || scheme === "https"
  const character = forbidden.exec(isTcp ? rest.replace(zone, "") : rest)
  if (character !== null) {
    return Result.fail(`"${shown}" must not contain ${JSON.stringify(character[0])}`)
  }
  return isTcp ? parseTcp(text, scheme, rest) : parseUnix(text, scheme as "unix", rest)
}

const parseTcp = (text: string, scheme: "http" | "https", rest: string): Result.Result<EtcdUrl, string> => {
  if (rest.includes("/")) {
    return Result.fail(`"${text}" must end after the port, without a path or slash`)
  }
  const match = address.exec(rest)
  if (match === null || match[2] === "") {
    return Result.fail(`"${text}" needs a host and a port, like ${scheme}://127.0.0.1:2379`)
  }
  if (match[1] === "") {
    return Result.fail(`"${text}" has no host; write 0.0.0.0 to listen on every address`)
  }
  const port = Number(match[2])
  if (port > 65535) {
    return Result.fail(`"${text}" has the port ${port}; the largest is 65535`)
  }
  return Result.succeed({ text, scheme, host: match[1]!.replace(/^\[|\]$/g, ""), port, socket: undefined })
}

const parseUnix = (text: string, scheme: "unix" | "unixs", rest: string): Result.Result<EtcdUrl, string> => {
  const slash = rest.indexOf("/")
  const authority = slash === -1 ? rest : rest.slice(0, slash)
  const colon = authority.lastIndexOf(":")
  const port = colon === -1 ? undefined : authority.slice(colon + 1)
  if (rest === "" || rest === "/") {
    return Result.fail(`"${text}" names no socket; write it like ${scheme}://etcd.sock:0`)
  }
  if (port !== undefined && !/^\d*$/.test(port)) {
    return Result.fail(`"${text}" has ${JSON.stringify(port)} where etcd expects a port number`)
  }
  return Result.succeed({
    text,
    scheme,
    host: colon === -1 ? authority : authority.slice(0, colon),
    port: port === undefined || port === "" ? undefined : Number(port),
    socket: rest
  })
}

/**
 * Whether the host is an IP address, and not a name; etcd takes none with a zone for one. Asks Node.js only where it may be
 * one: its first answer is slow.
 */
export const isIp = (host: string): boolean =>
  /^\d|:/.test(host) && !host.includes("%") && globalThis.process.getBuiltinModule("node:net").isIP(host) !== 0

/** Whether only this machine can reach the URL. */
export const isLocal = (url: EtcdUrl): boolean =>
  url.socket !== undefined || url.host === "localhost" || url.host.startsWith("127.") || url.host === "::1"

/** Whether the host stands for every address of the machine. */
export const isWildcard = (url: EtcdUrl): boolean =>
  url.socket === undefined && (url.host === "0.0.0.0" || /^[0:]+$/.test(url.host))

/** Whether etcd can listen on it: etcd wants an IP address or `localhost`, and no other name. */
export const isBindable = (url: EtcdUrl): boolean =>
  url.socket !== undefined || url.host === "localhost" || isIp(url.host)

export const isEncrypted = (url: EtcdUrl): boolean => url.scheme === "https" || url.scheme === "unixs"

/** The URL with the loopback address in place of a wildcard. */
export const toLoopback = (url: EtcdUrl): string =>
  isWildcard(url) ? `${url.scheme}://${url.host === "0.0.0.0" ? "127.0.0.1" : "[::1]"}:${url.port}` : url.text

/** Two URLs with the same key cannot be listened on at once. */
export const listenKey = (url: EtcdUrl): string =>
  url.socket ?? `${url.host === "localhost" ? "127.0.0.1" : url.host.toLowerCase()}:${url.port}`

/** Two URLs with the same key are the same to etcd. */
export const identity = (url: EtcdUrl): string =>
  url.socket === undefined ? `${url.scheme}://${url.host.toLowerCase()}:${url.port}` : `${url.scheme}://${url.socket}`

/** Whether there may be a user in what was given for a URL, or for several, and so a password, which may have any characters. */
export const hasUser = (given: string): boolean => given.includes("@")

/**
 * The text without what may be a password in it, from `start` on. Of `user:password@` the user is shown, but one that stands
 * alone may be a token, which lets its bearer in.
 */
const withoutUserFrom = (text: string, start: number): string => {
  const end = text.lastIndexOf("@")
  if (end < start) return text
  const user = text.slice(start, end)
  const colon = user.indexOf(":")
  const isShown = colon !== -1 && colon < user.length - 1 && !/[\s/@"\\]/.test(user.slice(0, colon))
  return `${text.slice(0, start)}${isShown ? user.slice(0, colon + 1) : ""}<redacted>${text.slice(end)}`
}

/** What was given for a URL without what may be a password in it, also where the scheme was forgotten. */
export const withoutUser = (given: string): string => {
  const slashes = given.indexOf("//")
  return withoutUserFrom(given, slashes === -1 ? 0 : slashes + 2)
}

/** A text that may have a URL in it, or several, without all that may be a password. */
export const withoutPasswords = (text: string): string => (text.includes("//") ? withoutUser(text) : text)

/** A line of somebody's, in which there may be URLs, without what may be passwords: up to the next space or quote. */
export const withoutPasswordsIn = (line: string): string =>
  line.includes("@") ? line.replace(/(?:[^\s"\\]|\\.)+/g, withoutPasswords) : line
