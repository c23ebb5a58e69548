/**
 * From an address to a connected socket: TCP or a Unix socket, with TLS or without. What a failure on the way means is in
 * `dialFailure.ts`.
 *
 * A name with several addresses is tried one after the other, families taking turns, as `node:net` does for
 * `autoSelectFamily`. With TLS the server must choose `h2` by ALPN, and it is verified unless `insecureSkipVerify` says
 * otherwise: against the CA given, or the system's; and against `serverName`, or the host that was dialled (a Unix
 * socket has none, so there it is `localhost`).
 *
 * @internal
 */
import type * as net from "node:net"
import type * as tls from "node:tls"
import * as Redacted from "effect/Redacted"
import type { Target, Tls } from "./Transport.ts"

/** The address as it stands in messages. */
export const describeTarget = (target: Target): string => {
  const secure = target.tls !== undefined
  if (target._tag === "Unix") return `${secure ? "unixs" : "unix"}://${target.path}`
  return `${secure ? "https" : "http"}://${formatHost(target.host)}:${target.port}`
}

/** `:authority` of each request. */
export const authorityOf = (target: Target): string =>
  target._tag === "Unix" ? "localhost" : `${formatHost(target.host)}:${target.port}`

const formatHost = (host: string): string => (host.includes(":") && !host.startsWith("[") ? `[${host}]` : host)

const bareHost = (host: string): string => (host.startsWith("[") && host.endsWith("]") ? host.slice(1, -1) : host)

/** How long one of several addresses may take before the next one is tried. */
const attemptTimeoutMillis = (connectTimeoutMillis: number): number =>
  Math.max(10, Math.min(1000, Math.floor(connectTimeoutMillis / 3)))

/** How much waits for a socket before it says that it is full: as Node.js has it, whatever the program makes of that. */
const buffering = { highWaterMark: 64 * 1024 }

// Node.js's own modules are loaded where they are needed: to import one reads all that it exports, and so loads all that
// this stands on. `node:process` even opens standard input.

const loadNet = (): typeof net => globalThis.process.getBuiltinModule("node:net")

/** Not with `node:net`: it takes as long as dozens of modules, and a Unix socket has no use for it. */
const loadTls = (): typeof tls => globalThis.process.getBuiltinModule("node:tls")

/** Starts to connect. Throws where `node:tls` does: on a certificate, key or CA that is not PEM, or do not match. */
export const openSocket = (target: Target, connectTimeoutMillis: number): net.Socket => {
  const address =
    target._tag === "Unix"
      ? { path: target.path }
      : {
          host: bareHost(target.host),
          port: target.port,
          autoSelectFamily: true,
          autoSelectFamilyAttemptTimeout: attemptTimeoutMillis(connectTimeoutMillis)
        }
  return target.tls === undefined
    ? loadNet().connect({ ...address, ...buffering, noDelay: true })
    : loadTls()
        .connect({ ...address, ...buffering, ...tlsOptions(target, target.tls) })
        .setNoDelay(true)
}

const tlsOptions = (target: Target, options: Tls): tls.ConnectionOptions => {
  const name = options.serverName ?? (target._tag === "Unix" ? "localhost" : bareHost(target.host))
  const connection: tls.ConnectionOptions = {
    ALPNProtocols: ["h2"],
    minVersion: options.minVersion ?? "TLSv1.2",
    rejectUnauthorized: options.insecureSkipVerify !== true,
    checkServerIdentity: (_, certificate) => loadTls().checkServerIdentity(name, certificate)
  }
  if (loadNet().isIP(name) === 0) connection.servername = name
  // `node:tls` takes an empty text, unless it is in a list, for the authorities of the system.
  if (options.ca !== undefined) connection.ca = [options.ca]
  if (options.certificate !== undefined) connection.cert = options.certificate
  if (options.key !== undefined) connection.key = Redacted.value(options.key)
  return connection
}
