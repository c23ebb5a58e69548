/**
 * What TLS needs, read anew for each connection so that renewed certificates are taken up.
 *
 * @internal
 */

import { readFile } from "node:fs/promises"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Pem, Tls } from "../../EtcdClient.ts"
import { TransportError, type Tls as TransportTls } from "../grpc/Transport.ts"

const unreadable = (what: string, file: string, cause: unknown): TransportError =>
  new TransportError({
    kind: "Unreachable",
    code: 14,
    processed: "no",
    message: `cannot read the ${what} from ${file} (${cause instanceof Error ? cause.message : String(cause)})`,
    cause
  })

const read = (what: string, pem: Pem | undefined): Effect.Effect<string | undefined, TransportError> => {
  if (pem === undefined) return Effect.undefined
  if (typeof pem === "string") return Effect.succeed(pem)
  if (Redacted.isRedacted(pem)) return Effect.succeed(Redacted.value(pem))
  return Effect.tryPromise({
    try: (signal) => readFile(pem.file, { encoding: "utf8", signal }),
    catch: (cause) => unreadable(what, pem.file, cause)
  })
}

export const material = (options: Tls): Effect.Effect<TransportTls, TransportError> =>
  Effect.map(
    Effect.all([
      read("CA certificates", options.ca),
      read("client certificate", options.certificate),
      read("client key", options.key)
    ]),
    ([ca, certificate, key]) => ({
      ca,
      certificate,
      key: key === undefined ? undefined : Redacted.make(key),
      serverName: options.serverName,
      minVersion: options.minVersion,
      insecureSkipVerify: options.insecureSkipVerify
    })
  )
