/**
 * What TLS needs, read anew for each connection so that renewed certificates are taken up, and checked each time: a file
 * may be missing, half-written, or of a kind that OpenSSL takes for something else.
 *
 * What cannot be used fails the dial, and never makes it less secure: no authority at all is not the same as those of the
 * system. Nothing that is told holds any of a key.
 *
 * @internal
 */

import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Pem, Tls } from "../../EtcdClient.ts"
import { messageOf } from "../grpc/errors.ts"
import { TransportError, type Tls as TransportTls } from "../grpc/Transport.ts"
import { reveal } from "../options.ts"
import * as PemText from "./pem.ts"

type Part = "ca" | "certificate" | "key"

const names: Readonly<Record<Part, string>> = {
  ca: "the CA certificates that the client trusts (tls.ca)",
  certificate: "the client's certificate (tls.certificate)",
  key: "the client's key (tls.key)"
}

const parts = ["ca", "certificate", "key"] as const

const isFile = (pem: Pem): pem is { readonly file: string } => typeof pem !== "string" && !Redacted.isRedacted(pem)

/** A secret that was wiped is no text any more. */
const textOf = (pem: string | Redacted.Redacted<string>): string | undefined =>
  typeof pem === "string" ? pem : reveal(pem)

const unusable = (part: Part, why: string): string => `${names[part]} cannot be used: ${why}`

const dueIn = (part: Part): PemText.Due => (part === "key" ? "key" : "certificates")

const emptyAdvice: Readonly<Record<Part, string>> = {
  ca: "leave it out where the authorities of the system are to be trusted",
  certificate: "leave it out where the client has none",
  key: "leave it out where the client has none"
}

const problemOfText = (part: Part, text: unknown): string | undefined => {
  if (typeof text !== "string") return unusable(part, "it is neither PEM text nor { file: name }")
  const found = PemText.problemOf(text, dueIn(part))
  if (found === undefined) return undefined
  return unusable(part, `the text ${found.what}${text.trim() === "" ? `; ${emptyAdvice[part]}` : ""}`)
}

const problemOfPem = (part: Part, pem: Pem | undefined): string | undefined => {
  if (pem === undefined) return undefined
  if (typeof pem === "string" || Redacted.isRedacted(pem)) return problemOfText(part, textOf(pem))
  const file: unknown = pem?.file
  if (typeof file !== "string") return unusable(part, "it is neither PEM text nor { file: name }")
  return file === "" ? unusable(part, "the name of its file is empty") : undefined
}

const mismatch = `${names.key} does not belong to ${names.certificate}`

/** What is wrong with options that are given as they are, and not in files. */
const problemOfGiven = (options: Tls): string | undefined => {
  const { certificate, key } = options
  if (certificate !== undefined && key === undefined) return `${names.certificate} is given without its key (tls.key)`
  if (key !== undefined && certificate === undefined) return `${names.key} is given without tls.certificate`
  for (const part of parts) {
    const found = problemOfPem(part, options[part])
    if (found !== undefined) return found
  }
  if (certificate === undefined || key === undefined || isFile(certificate) || isFile(key)) return undefined
  return PemText.belongTogether(textOf(certificate) ?? "", textOf(key) ?? "") ? undefined : mismatch
}

const sentence = (text: string): string => `${text[0]!.toUpperCase()}${text.slice(1)}.`

/** What is wrong with the options, as far as it shows without reading files: a sentence that says what would be right. */
export const problemOf = (options: Tls): string | undefined => {
  const found = problemOfGiven(options)
  return found === undefined ? undefined : sentence(found)
}

const failure = (message: string, mayPass: boolean, cause?: unknown): TransportError =>
  new TransportError({
    kind: "Unreachable",
    code: 14,
    processed: "no",
    message,
    ...(mayPass ? {} : { lasting: true }),
    ...(cause === undefined ? {} : { cause })
  })

const unreadableReasons: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  EISDIR: "it is a directory",
  EACCES: "this process may not read it",
  EPERM: "this process may not read it"
}

/** A file that is missing may be there soon; a directory in its place will not go away. */
const unreadable = (part: Part, file: string, cause: unknown): TransportError => {
  const code = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : ""
  const why = unreadableReasons[code] ?? `it cannot be read (${messageOf(cause)})`
  return failure(unusable(part, `${file}: ${why}`), code !== "EISDIR", cause)
}

const checked = (part: Part, file: string, text: string): Effect.Effect<string, TransportError> => {
  const found = PemText.problemOf(text, dueIn(part))
  if (found === undefined) return Effect.succeed(text)
  const doubt = found.mayBeHalfWritten ? ", perhaps because it is just being written" : ""
  return Effect.fail(failure(unusable(part, `${file}: the file ${found.what}${doubt}`), found.mayBeHalfWritten))
}

const read = (part: Part, pem: Pem | undefined): Effect.Effect<string | undefined, TransportError> => {
  if (pem === undefined) return Effect.undefined
  if (!isFile(pem)) return Effect.succeed(textOf(pem))
  const text = Effect.tryPromise({
    try: (signal) =>
      globalThis.process.getBuiltinModule("node:fs/promises").readFile(pem.file, { encoding: "utf8", signal }),
    catch: (cause) => unreadable(part, pem.file, cause)
  })
  return Effect.flatMap(text, (text) => checked(part, pem.file, text))
}

/** Files that are renewed one after the other do not belong together in between. */
const checkPair = (certificate: string | undefined, key: string | undefined) =>
  certificate === undefined || key === undefined || PemText.belongTogether(certificate, key)
    ? Effect.void
    : Effect.fail(failure(`${mismatch}, perhaps because they are just being renewed`, true))

/** A file that is none, or is far away, may keep its reader for ever. */
export const unread = (millis: number): TransportError =>
  failure(
    `the files of the client's TLS options (tls.ca, tls.certificate, tls.key) were not read within ${millis} ms`,
    true
  )

/** Reads and checks the files. Fails as a dial does. */
export const material = (options: Tls): Effect.Effect<TransportTls, TransportError> =>
  Effect.gen(function* () {
    const problem = problemOfGiven(options)
    if (problem !== undefined) return yield* failure(problem, false)
    const [ca, certificate, key] = yield* Effect.all([
      read("ca", options.ca),
      read("certificate", options.certificate),
      read("key", options.key)
    ])
    yield* checkPair(certificate, key)
    return {
      ca,
      certificate,
      key: key === undefined ? undefined : Redacted.make(key),
      serverName: options.serverName,
      minVersion: options.minVersion,
      insecureSkipVerify: options.insecureSkipVerify
    }
  })
