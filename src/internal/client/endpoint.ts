/**
 * Where an etcd is, from the text that people write.
 *
 * @internal
 */
import * as Result from "effect/Result"
import type { Target } from "../grpc/Transport.ts"

/** A place to connect to; what TLS needs is read later, for each connection. */
export interface Endpoint {
  /** The canonical text. Two endpoints are the same if this is. */
  readonly address: string
  readonly target: Target
  readonly secure: boolean
}

const defaultPort = 2379

const forms = "host:port, http://host:port, https://host:port, unix:///path/to.sock or unixs:///path/to.sock"

const refuse = (text: string, why: string): Result.Result<never, string> =>
  Result.fail(`Endpoint ${JSON.stringify(text)} ${why}. An endpoint is ${forms}.`)

/** What may have a password in it. */
const notShown = "(not shown)"

const withScheme = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/i
const authority = /^(?:\[([0-9a-f:.]+(?:%[^\]]+)?)\]|([^\s:/?#@[\]]+))(?::(\d{1,5}))?\/?$/i

const tcp = (text: string, rest: string, secure: boolean): Result.Result<Endpoint, string> => {
  if (rest.includes("@")) return refuse(notShown, "has a user in it; give credentials to the client instead")
  const match = authority.exec(rest)
  if (match === null) return refuse(text, "is no host and port")
  const [, v6, name, digits] = match
  const port = digits === undefined ? defaultPort : Number(digits)
  if (port < 1 || port > 65535) return refuse(text, `has a port that is not between 1 and 65535`)
  const host = v6 ?? name!
  return Result.succeed({
    address: `${secure ? "https" : "http"}://${v6 === undefined ? host : `[${host}]`}:${port}`,
    target: { _tag: "Tcp", host, port },
    secure
  })
}

const unix = (text: string, path: string, secure: boolean): Result.Result<Endpoint, string> =>
  path === "" || path.includes("\0")
    ? refuse(text, "has no path")
    : Result.succeed({
        address: `${secure ? "unixs" : "unix"}://${path}`,
        target: { _tag: "Unix", path },
        secure
      })

/** Reads one endpoint. A bare `host:port` is secure if `secureByDefault`. */
export const parse = (text: string, secureByDefault: boolean): Result.Result<Endpoint, string> => {
  const match = withScheme.exec(text)
  if (match === null) return tcp(text, text, secureByDefault)
  const [, scheme = "", rest = ""] = match
  switch (scheme.toLowerCase()) {
    case "http":
      return tcp(text, rest, false)
    case "https":
      return tcp(text, rest, true)
    case "unix":
      return unix(text, rest, false)
    case "unixs":
      return unix(text, rest, true)
    default:
      return refuse(rest.includes("@") ? notShown : text, `has the scheme ${scheme}, which etcd does not serve`)
  }
}

/** Whether what is said to it can be read on the way: a Unix socket is within the machine. */
export const isExposed = ({ secure, target }: Endpoint): boolean => !secure && target._tag === "Tcp"

/** Reads a list of endpoints; each is there once. The failure names every problem. */
export const parseAll = (
  texts: ReadonlyArray<string>,
  secureByDefault: boolean
): Result.Result<ReadonlyArray<Endpoint>, string> => {
  if (texts.length === 0) return Result.fail("The client needs at least one endpoint, and the list is empty.")
  const endpoints = new Map<string, Endpoint>()
  const problems: Array<string> = []
  for (const text of texts) {
    const parsed = parse(text, secureByDefault)
    if (Result.isSuccess(parsed)) endpoints.set(parsed.success.address, parsed.success)
    else problems.push(parsed.failure)
  }
  return problems.length === 0 ? Result.succeed([...endpoints.values()]) : Result.fail(problems.join(" "))
}
