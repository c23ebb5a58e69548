/**
 * The certificates in test/fixtures/tls, which scripts/make-test-certificates.sh makes.
 */
import * as fs from "node:fs"
import { fileURLToPath } from "node:url"
import * as Redacted from "effect/Redacted"
import type { Tls } from "../../src/internal/grpc/Transport.ts"

const directory = new URL("../fixtures/tls/", import.meta.url)

const pathOf = (name: string): string => fileURLToPath(new URL(name, directory))

export const fixture = {
  path: pathOf,
  text: (name: string): string => fs.readFileSync(pathOf(name), "utf8"),
  file: (name: string) => ({ file: pathOf(name) })
}

/** What a client needs to trust the test CA, and to be known as `client` if it wants to. */
export const trusted = (options: { readonly certificate?: boolean } = {}): Tls => ({
  ca: fixture.text("ca.pem"),
  ...(options.certificate === true ? certificateOf("client") : {})
})

export const certificateOf = (name: string): Pick<Tls, "certificate" | "key"> => ({
  certificate: fixture.text(`${name}.pem`),
  key: Redacted.make(fixture.text(`${name}.key`))
})
