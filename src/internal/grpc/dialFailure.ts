/**
 * What a failure to connect means, in words that say which side it is about and what would fix it; and whether it is
 * certain to last until somebody does.
 *
 * @internal
 */
import { describeTarget } from "./dial.ts"
import { messageOf } from "./errors.ts"
import { Code, shorten } from "./status.ts"
import { type Target, TransportError } from "./Transport.ts"

/** Why a dial failed. */
export interface DialFailure {
  readonly why: string
  /** See {@link TransportError}. */
  readonly lasting: boolean
}

export const passing = (why: string): DialFailure => ({ why, lasting: false })

const lasting = (why: string): DialFailure => ({ why, lasting: true })

export const unreachable = (target: Target, failure: DialFailure, cause?: unknown): TransportError =>
  new TransportError({
    kind: "Unreachable",
    code: Code.unavailable,
    message: `cannot connect to ${describeTarget(target)}: ${failure.why}`,
    processed: "no",
    ...(failure.lasting ? { lasting: true } : {}),
    ...(cause === undefined ? {} : { cause })
  })

/** What an address begins with that has TLS, and one that has none. */
const withTls = ({ _tag }: Target): string => (_tag === "Unix" ? "unixs" : "https")
const withoutTls = ({ _tag }: Target): string => (_tag === "Unix" ? "unix" : "http")

/** Where a dial stands. */
export type Phase = "connecting" | "TLS handshake" | "HTTP/2 settings"

export const timedOut = (phase: Phase, millis: number): DialFailure => {
  switch (phase) {
    case "connecting":
      return passing(
        `no connection within ${millis} ms; check that the address is right and that no firewall drops packets`
      )
    case "TLS handshake":
      return passing(
        `the TLS handshake did not finish within ${millis} ms; check that the server speaks TLS on this address`
      )
    case "HTTP/2 settings":
      return passing(
        `the server accepted the connection but sent no HTTP/2 settings within ${millis} ms; it may be paused or overloaded, or it does not speak HTTP/2`
      )
  }
}

const untrusted = lasting(
  "the server's certificate is signed by a CA that is not trusted here; give the right CA certificate"
)

/** Of `node:tls`, about the server's certificate. What a renewed certificate mends does not last. */
const certificateFailures: Readonly<Record<string, DialFailure>> = {
  CERT_HAS_EXPIRED: passing("the server's certificate has expired; renew it"),
  CERT_NOT_YET_VALID: passing("the server's certificate is not valid yet; check the clocks"),
  CERT_REVOKED: passing("the server's certificate is revoked; renew it"),
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: untrusted,
  UNABLE_TO_GET_ISSUER_CERT: untrusted,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: untrusted,
  SELF_SIGNED_CERT_IN_CHAIN: untrusted,
  DEPTH_ZERO_SELF_SIGNED_CERT: lasting(
    "the server's certificate is self-signed and not trusted here; give it as the CA"
  ),
  CERT_SIGNATURE_FAILURE: lasting(
    "the signature of the server's certificate is wrong: another CA of the same name signed it; give the right CA certificate"
  ),
  INVALID_PURPOSE: lasting("the server's certificate is not one for servers; use another one there")
}

const systemFailures: Readonly<Record<string, DialFailure>> = {
  ECONNREFUSED: passing("the connection was refused; nothing listens there"),
  ENOENT: passing("there is no such socket; check the path, and that the server runs"),
  EACCES: passing("permission denied"),
  ENOTFOUND: passing("the host name does not exist; check its spelling and the DNS"),
  EAI_AGAIN: passing("the host name could not be looked up; check the DNS"),
  EHOSTUNREACH: passing("no route to the host"),
  ENETUNREACH: passing("the network is unreachable"),
  ETIMEDOUT: passing("the connection timed out"),
  ECONNRESET: passing("the connection was reset")
}

const propertyOf = (error: unknown, name: string): unknown =>
  typeof error === "object" && error !== null ? Reflect.get(error, name) : undefined

const codeOf = (error: unknown): string => String(propertyOf(error, "code") ?? "")

/** OpenSSL's own words, without the place in its source. */
const reasonOf = (error: unknown): string => {
  const reason = propertyOf(error, "reason")
  return shorten(typeof reason === "string" ? reason : messageOf(error), 200)
}

/** What an error of a socket or of TLS means while dialling. `greeting` is how the server began, as far as is known. */
export const socketFailed = (
  target: Target,
  phase: Phase,
  error: unknown,
  greeting: Uint8Array | undefined
): DialFailure => {
  if (error instanceof AggregateError) return allFailed(target, phase, error)
  const code = codeOf(error)
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    return lasting(
      `the server's certificate is for another name (${messageOf(error)}); set the server name, or use a certificate for this one`
    )
  }
  if (code === "ECONNRESET" && phase !== "connecting") return hungUp(target, phase, greeting)
  if (code.startsWith("ERR_HTTP2")) return notHttp2(target, greeting, messageOf(error))
  return (
    certificateFailures[code] ?? systemFailures[code] ?? tlsFailed(target, code, error) ?? passing(messageOf(error))
  )
}

/** A name with several addresses, none of which took the connection. */
const allFailed = (target: Target, phase: Phase, error: AggregateError): DialFailure => {
  const each = error.errors.map((one) => ({ one, ...socketFailed(target, phase, one, undefined) }))
  const texts = each.map(({ one, why }) => {
    const address = propertyOf(one, "address")
    return address === undefined ? why : `${address}: ${why}`
  })
  return { why: [...new Set(texts)].join("; "), lasting: each.every((failure) => failure.lasting) }
}

const tlsFailed = (target: Target, code: string, error: unknown): DialFailure | undefined => {
  const { tls } = target
  if (tls === undefined || !(code.startsWith("ERR_SSL") || code === "EPROTO" || code.startsWith("ERR_TLS"))) {
    return undefined
  }
  const text = `${code} ${messageOf(error)}`
  const says = (alerts: RegExp): boolean => alerts.test(text)
  if (says(/WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST/i)) {
    return lasting(
      `the server does not speak TLS on this address; use ${withoutTls(target)}, or the address that has TLS`
    )
  }
  if (says(/PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL/i)) {
    return lasting(
      `the server does not take TLS of a version that is allowed here (at least ${tls.minVersion ?? "TLSv1.2"})`
    )
  }
  if (says(/NO_APPLICATION_PROTOCOL/i)) {
    return lasting("the server does not offer HTTP/2 (ALPN h2); check that this is etcd's client address")
  }
  if (tls.certificate === undefined) {
    if (says(/CERTIFICATE_REQUIRED|BAD_CERTIFICATE/i)) {
      return lasting("the server requires a client certificate, and none was given")
    }
    if (says(/HANDSHAKE_FAILURE/i)) {
      return passing(
        "the server refused the TLS handshake; it may require a client certificate, and none was given, or take none of the ciphers"
      )
    }
  } else if (says(/CERTIFICATE|UNKNOWN_CA/i)) {
    const why = `the server rejected the client certificate (${reasonOf(error)}); use one that its CA signed and that is valid`
    return says(/UNKNOWN_CA/i) ? lasting(why) : passing(why)
  }
  return passing(`TLS failed: ${reasonOf(error)}`)
}

/** The server closed the connection before it was ready. */
export const hungUp = (target: Target, phase: Phase, greeting: Uint8Array | undefined): DialFailure => {
  const other = otherProtocol(target, greeting)
  if (other !== undefined) return other
  if (phase === "connecting") return passing("the connection was closed")
  if (target.tls === undefined) {
    return passing(
      `the server closed the connection at once; it may require TLS (use ${withTls(target)}), or not speak HTTP/2`
    )
  }
  const certificate =
    target.tls.certificate === undefined
      ? "require a client certificate, and none was given"
      : "have rejected the client certificate"
  return passing(
    phase === "TLS handshake"
      ? `the server closed the connection in the TLS handshake; most likely it does not speak TLS on this address (use ${withoutTls(target)}, or the address that has TLS); if it does, it may ${certificate}`
      : `the server closed the connection after the TLS handshake; it may ${certificate}`
  )
}

/** What the server says is not HTTP/2. */
export const notHttp2 = (target: Target, greeting: Uint8Array | undefined, what: string): DialFailure =>
  otherProtocol(target, greeting) ??
  passing(`the server does not speak HTTP/2 (${what}); check that this is etcd's client address`)

const tlsAlert = 0x15
const tlsMajorVersion = 3

/** Whether it is a line for people, as mail and SSH servers send: a frame of HTTP/2 begins with its length, in bytes. */
const isText = (text: string): boolean => /^[\x20-\x7e]{4,}[\r\n]/.test(text)

/** What else the server speaks, where its first bytes tell. */
const otherProtocol = (target: Target, greeting: Uint8Array | undefined): DialFailure | undefined => {
  if (greeting === undefined) return undefined
  if (target.tls === undefined && greeting[0] === tlsAlert && greeting[1] === tlsMajorVersion) {
    return lasting(`the server speaks TLS on this address; use ${withTls(target)}`)
  }
  const text = Buffer.from(greeting).toString("latin1")
  if (!text.startsWith("HTTP/")) {
    return isText(text)
      ? passing(
          `the server speaks another protocol (it said "${shorten(text, 100)}"); check that this is etcd's client address`
        )
      : undefined
  }
  const told = shorten(text, 100)
  return target.tls === undefined && /\bHTTPS\b/i.test(text)
    ? lasting(`the server speaks TLS on this address (it answered "${told}"); use ${withTls(target)}`)
    : passing(
        `the server speaks HTTP/1 and not HTTP/2 (it answered "${told}"); check that this is etcd's client address`
      )
}

/** TLS is up, but the server did not choose HTTP/2. */
export const noAlpn = (protocol: string | false | null): DialFailure =>
  lasting(
    `the server did not agree to HTTP/2 over TLS (ALPN chose ${protocol ? `"${protocol}"` : "nothing"}); check that this is etcd's client address`
  )

/** What does not parse or match makes `node:tls` throw; the text names the part and holds nothing of it. */
export const badTlsMaterial = (error: unknown): DialFailure =>
  lasting(
    `the CA, client certificate or client key cannot be used (${reasonOf(error)}); give PEM text, and a key that belongs to the certificate`
  )
