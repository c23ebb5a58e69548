/**
 * From an address to a connected socket: TCP or a Unix socket, with TLS or without, and what a failure on the way means
 * in words that say what would fix it.
 *
 * A name with several addresses is tried one after the other, families taking turns, as `node:net` does for
 * `autoSelectFamily`. With TLS the server must choose `h2` by ALPN, and it is verified unless `insecureSkipVerify` says
 * otherwise: against the CA given, or the system's; and against `serverName`, or the host that was dialled (a Unix
 * socket has none, so there it is `localhost`).
 *
 * @internal
 */
import * as net from "node:net"
import * as tls from "node:tls"
import * as Redacted from "effect/Redacted"
import { messageOf } from "./errors.ts"
import { Code } from "./status.ts"
import { type Target, type Tls, TransportError } from "./Transport.ts"

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
    ? net.connect({ ...address, noDelay: true })
    : tls.connect({ ...address, ...tlsOptions(target, target.tls) }).setNoDelay(true)
}

const tlsOptions = (target: Target, options: Tls): tls.ConnectionOptions => {
  const name = options.serverName ?? (target._tag === "Unix" ? "localhost" : bareHost(target.host))
  const connection: tls.ConnectionOptions = {
    ALPNProtocols: ["h2"],
    minVersion: options.minVersion ?? "TLSv1.2",
    rejectUnauthorized: options.insecureSkipVerify !== true,
    checkServerIdentity: (_, certificate) => tls.checkServerIdentity(name, certificate)
  }
  if (net.isIP(name) === 0) connection.servername = name
  if (options.ca !== undefined) connection.ca = options.ca
  if (options.certificate !== undefined) connection.cert = options.certificate
  if (options.key !== undefined) connection.key = Redacted.value(options.key)
  return connection
}

export const unreachable = (target: Target, why: string, cause?: unknown): TransportError =>
  new TransportError({
    kind: "Unreachable",
    code: Code.unavailable,
    message: `cannot connect to ${describeTarget(target)}: ${why}`,
    processed: "no",
    ...(cause === undefined ? {} : { cause })
  })

/** Where a dial stands, for the message when its time is up. */
export type Phase = "connecting" | "TLS handshake" | "HTTP/2 settings"

export const describeTimeout = (phase: Phase, millis: number): string => {
  switch (phase) {
    case "connecting":
      return `no connection within ${millis} ms; check that the address is right and that no firewall drops packets`
    case "TLS handshake":
      return `the TLS handshake did not finish within ${millis} ms; check that the server speaks TLS on this address`
    case "HTTP/2 settings":
      return `the server accepted the connection but sent no HTTP/2 settings within ${millis} ms; it may be paused or overloaded, or it does not speak HTTP/2`
  }
}

const certificateReasons: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: "the server's certificate has expired; renew it",
  CERT_NOT_YET_VALID: "the server's certificate is not valid yet; check the clocks",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    "the server's certificate is signed by a CA that is not trusted here; give the right CA certificate",
  UNABLE_TO_GET_ISSUER_CERT:
    "the server's certificate is signed by a CA that is not trusted here; give the right CA certificate",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    "the server's certificate is signed by a CA that is not trusted here; give the right CA certificate",
  SELF_SIGNED_CERT_IN_CHAIN:
    "the server's certificate is signed by a CA that is not trusted here; give the right CA certificate",
  DEPTH_ZERO_SELF_SIGNED_CERT: "the server's certificate is self-signed and not trusted here; give it as the CA",
  CERT_SIGNATURE_FAILURE:
    "the signature of the server's certificate is wrong: another CA of the same name signed it; give the right CA certificate",
  CERT_REVOKED: "the server's certificate is revoked"
}

const systemReasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: "the connection was refused; nothing listens there",
  ENOENT: "there is no such socket; check the path, and that the server runs",
  EACCES: "permission denied",
  ENOTFOUND: "the host name does not exist; check its spelling and the DNS",
  EAI_AGAIN: "the host name could not be looked up; check the DNS",
  EHOSTUNREACH: "no route to the host",
  ENETUNREACH: "the network is unreachable",
  ETIMEDOUT: "the connection timed out",
  ECONNRESET: "the connection was reset"
}

const codeOf = (error: unknown): string =>
  typeof error === "object" && error !== null && "code" in error ? String(error.code) : ""

/** What an error of a socket or of TLS means while dialling. */
export const describeDialError = (target: Target, phase: Phase, error: unknown): string => {
  if (error instanceof AggregateError) {
    const each = error.errors.map((one) => `${addressOf(one)}${describeDialError(target, phase, one)}`)
    return [...new Set(each)].join("; ")
  }
  const code = codeOf(error)
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    return `the server's certificate is for another name (${messageOf(error)}); set the server name, or use a certificate for this one`
  }
  if (code === "ECONNRESET" && target.tls !== undefined && phase !== "connecting") return describeHangUp(target, phase)
  return certificateReasons[code] ?? systemReasons[code] ?? describeTlsAlert(target, code, error) ?? messageOf(error)
}

const addressOf = (error: unknown): string =>
  typeof error === "object" && error !== null && "address" in error ? `${error.address}: ` : ""

const describeTlsAlert = (target: Target, code: string, error: unknown): string | undefined => {
  if (code.startsWith("ERR_HTTP2") || code === "ERR_HTTP2_ERROR") {
    return `the server does not speak HTTP/2 (${messageOf(error)}); check that this is etcd's client address`
  }
  if (target.tls === undefined || !(code.startsWith("ERR_SSL") || code === "EPROTO" || code.startsWith("ERR_TLS"))) {
    return undefined
  }
  const text = `${code} ${messageOf(error)}`
  const client = target.tls.certificate === undefined
  if (/WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST/i.test(text)) {
    return "the server does not speak TLS on this address; use http, or the address that has TLS"
  }
  if (/CERTIFICATE_REQUIRED/i.test(text) || (client && /HANDSHAKE_FAILURE|BAD_CERTIFICATE/i.test(text))) {
    return "the server requires a client certificate, and none was given"
  }
  if (/PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL/i.test(text)) {
    return `the server does not take TLS of a version that is allowed here (at least ${target.tls.minVersion ?? "TLSv1.2"})`
  }
  if (/NO_APPLICATION_PROTOCOL/i.test(text)) return "the server does not offer HTTP/2 (ALPN h2)"
  if (/BAD_CERTIFICATE|UNKNOWN_CA|CERTIFICATE_EXPIRED|CERTIFICATE_UNKNOWN|UNSUPPORTED_CERTIFICATE/i.test(text)) {
    return `the server rejected the client certificate (${messageOf(error)}); use one that its CA signed and that is valid`
  }
  return `TLS failed: ${messageOf(error)}`
}

/** The server closed the connection, and said nothing, before it was ready. */
export const describeHangUp = (target: Target, phase: Phase): string => {
  if (target.tls === undefined) {
    return phase === "connecting"
      ? "the connection was closed"
      : "the server closed the connection at once; it may require TLS (use https), or not speak HTTP/2"
  }
  return target.tls.certificate === undefined
    ? `the server closed the connection (${phase}); it may require a client certificate, and none was given`
    : `the server closed the connection (${phase}); it may have rejected the client certificate`
}

/** TLS is up, but the server did not choose HTTP/2. */
export const describeAlpn = (protocol: string | false | null): string =>
  `the server did not agree to HTTP/2 over TLS (ALPN chose ${protocol ? `"${protocol}"` : "nothing"}); check that this is etcd's client address`

/** Keys that do not parse or match make `node:tls` throw; the text names the part and holds nothing of it. */
export const describeTlsMaterial = (error: unknown): string =>
  `the CA, client certificate or client key cannot be used (${messageOf(error)}); give PEM text, and a key that belongs to the certificate`
