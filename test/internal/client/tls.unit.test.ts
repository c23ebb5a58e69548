/**
 * What is wrong with TLS options, and with the files that they name: which part it is, and what would be right, without a
 * word of any key.
 */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import process from "node:process"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Tls } from "../../../src/EtcdClient.ts"
import * as ClientOptions from "../../../src/internal/client/options.ts"
import { material, problemOf } from "../../../src/internal/client/tls.ts"
import { temporaryDirectory } from "../../support/machine.ts"
import { fixture } from "../../support/tls.ts"

const ca = fixture.text("ca.pem")
const certificate = fixture.text("client.pem")
const keyText = fixture.text("client.key")
const key = Redacted.make(keyText)
const both = `${certificate}${keyText}`
const half = (text: string): string => text.slice(0, text.length / 2)
const encrypted = keyText.replaceAll("PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
const rubbish = (label: string): string => `-----BEGIN ${label}-----\nc2VjcmV0\n-----END ${label}-----\n`

const good: ReadonlyArray<readonly [string, Tls]> = [
  ["nothing at all", {}],
  ["authorities", { ca }],
  ["several authorities", { ca: `# comment\n${ca}\n${fixture.text("other-ca.pem")}` }],
  ["lines that end as on Windows", { ca: ca.replaceAll("\n", "\r\n") }],
  ["a certificate and its key", { ca: Redacted.make(ca), certificate, key }],
  ["both in one text", { certificate: both, key: Redacted.make(both) }],
  ["a chain", { certificate: `${certificate}${ca}`, key }],
  ["files that need not be there yet", { ca: { file: "a" }, certificate: { file: "b" }, key: { file: "c" } }],
  ["a name and a version", { serverName: "etcd.example", minVersion: "TLSv1.3", insecureSkipVerify: false }]
]

const bad: ReadonlyArray<readonly [string, unknown, RegExp]> = [
  ["a certificate without its key", { certificate }, /^The client's certificate .* given without its key \(tls\.key\)/],
  ["a key without its certificate", { key }, /^The client's key .* given without tls\.certificate/],
  ["a key of another certificate", { certificate, key: Redacted.make(fixture.text("other-client.key")) }, /not belong/],
  ["no authority", { ca: "" }, /^The CA certificates that the client trusts .*text is empty; leave it out/],
  ["no authority, at length", { ca: Redacted.make(" \n") }, /^The CA certificates .*text is empty/],
  ["an authority's file as text", { ca: "/etc/etcd/ca.pem" }, /tls\.ca.*name of a file.*\{ file: name \}/],
  ["an authority's file as text, on Windows", { ca: "certs\\ca.pem" }, /name of a file/],
  ["a file's bare name as text", { ca: "ca.crt" }, /name of a file/],
  ["a key's file as text", { certificate, key: Redacted.make("client.key") }, /tls\.key.*name of a file/],
  ["an authority that is none", { ca: "MIIB" }, /tls\.ca.*no PEM block/],
  ["an authority that is cut off", { ca: half(ca) }, /tls\.ca.*cut off/],
  ["a second authority that is cut off", { ca: `${ca}${half(ca)}` }, /tls\.ca.*cut off/],
  ["a second authority that is rubbish", { ca: `${ca}${rubbish("CERTIFICATE")}` }, /certificate 2 of 2/],
  ["a key for an authority", { ca: keyText }, /tls\.ca.*holds a private key where a certificate is due/],
  ["a request for a certificate", { ca: rubbish("CERTIFICATE REQUEST") }, /holds a certificate request/],
  ["a key for a certificate", { certificate: keyText, key }, /tls\.certificate.*holds a private key/],
  ["a certificate for a key", { certificate, key: Redacted.make(certificate) }, /tls\.key.*where a private key is due/],
  ["a key that is encrypted", { certificate, key: Redacted.make(encrypted) }, /tls\.key.*encrypted/],
  ["a key that is rubbish", { certificate, key: Redacted.make(rubbish("PRIVATE KEY")) }, /tls\.key.*cannot be read/],
  ["a key that is empty", { certificate, key: Redacted.make("") }, /tls\.key.*empty/],
  ["line breaks that are none", { ca: ca.replaceAll("\n", "\\n") }, /tls\.ca.*\\n/],
  ["lines that are indented", { ca: ca.replaceAll(/^/gm, "  ") }, /tls\.ca.*indented/],
  ["a file without a name", { ca: { file: "" } }, /tls\.ca.*name of its file is empty/],
  ["bytes", { ca: new Uint8Array(3) }, /tls\.ca.*neither PEM text nor \{ file: name \}/],
  ["null", { ca: null }, /tls\.ca.*neither/],
  ["a number in disguise", { certificate, key: Redacted.make(5) }, /tls\.key.*neither/]
]

const badBesides: ReadonlyArray<readonly [string, unknown, RegExp]> = [
  ["a version that is too old", { minVersion: "TLSv1.1" }, /tls.*minVersion.*"TLSv1\.2" or "TLSv1\.3".*"TLSv1\.1"/],
  ["a server without a name", { serverName: "" }, /tls.*serverName.*empty/],
  ["a yes that is no boolean", { insecureSkipVerify: "yes" }, /tls.*insecureSkipVerify/]
]

/** Each line of a key, which must not be told. */
const secrets = [...keyText.split("\n"), ...fixture.text("other-client.key").split("\n"), "c2VjcmV0"].filter(
  (line) => line !== "" && !line.startsWith("-----")
)

const assertDiscreet = (told: string) => {
  for (const secret of secrets) assert.notInclude(told, secret)
}

describe("TLS options", () => {
  it.each(good)("that are good: %s", (_, options) => {
    assert.isUndefined(problemOf(options))
  })

  it.live.each(bad)("that make no sense are told: %s", ([, options, message]) =>
    Effect.gen(function* () {
      const problem = problemOf(options as Tls)
      assert.match(problem ?? "none", message)
      assert.match(problem ?? "", /\.$/)
      assertDiscreet(problem ?? "")
      const error = yield* Effect.flip(material(options as Tls))
      assert.deepInclude(error, { kind: "Unreachable", processed: "no", lasting: true })
      assertDiscreet(JSON.stringify(error))
    })
  )

  it.each(badBesides)("that make no sense beside PEM are told: %s", (_, tls, message) => {
    assert.match(ClientOptions.problemOf({ endpoints: ["https://127.0.0.1"], tls: tls as Tls }) ?? "none", message)
  })
})

describe("files", () => {
  const contents: ReadonlyArray<readonly [string, string, RegExp, mayMend: boolean]> = [
    ["empty", "", /the file is empty, perhaps because it is just being written/, true],
    ["half-written", half(ca), /the file is cut off .*perhaps because it is just being written/, true],
    ["no PEM", "rubbish", /the file has no PEM block/, false],
    ["a key", keyText, /the file holds a private key where a certificate is due/, false]
  ]

  it.live.each(contents)(
    "that are no good are told, and whether that may mend itself: %s",
    ([, text, message, mayMend]) =>
      Effect.gen(function* () {
        const file = join(yield* temporaryDirectory, "ca.pem")
        writeFileSync(file, text)
        const error = yield* Effect.flip(material({ ca: { file } }))
        assert.deepInclude(error, { kind: "Unreachable", code: 14, processed: "no" })
        assert.match(error.message, message)
        assert.include(error.message, file)
        assert.match(error.message, /^the CA certificates that the client trusts \(tls\.ca\) cannot be used/)
        assert.strictEqual(error.lasting, mayMend ? undefined : true)
        assertDiscreet(JSON.stringify(error))
      })
  )

  it.live("that cannot be read are told, and may be there soon unless a directory is in their place", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const missing = yield* Effect.flip(material({ ca: { file: join(directory, "none.pem") } }))
      assert.match(missing.message, /tls\.ca.*none\.pem: there is no such file/)
      assert.isUndefined(missing.lasting)
      mkdirSync(join(directory, "ca.pem"))
      const folder = yield* Effect.flip(material({ ca: { file: join(directory, "ca.pem") } }))
      assert.match(folder.message, /tls\.ca.*ca\.pem: it is a directory/)
      assert.isTrue(folder.lasting)
      const secret = join(directory, "client.key")
      writeFileSync(secret, keyText)
      chmodSync(secret, 0)
      if (process.getuid?.() === 0) return
      const locked = yield* Effect.flip(material({ certificate, key: { file: secret } }))
      assert.match(locked.message, /tls\.key.*client\.key: this process may not read it/)
    })
  )

  it.live("that are renewed one after the other do not belong together in between", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const options = { certificate: { file: join(directory, "c.pem") }, key: { file: join(directory, "c.key") } }
      writeFileSync(options.certificate.file, certificate)
      writeFileSync(options.key.file, fixture.text("other-client.key"))
      const error = yield* Effect.flip(material(options))
      assert.match(error.message, /the client's key .* does not belong to the client's certificate .*being renewed/)
      assert.isUndefined(error.lasting)
      assertDiscreet(JSON.stringify(error))
      writeFileSync(options.certificate.file, fixture.text("other-client.pem"))
      const { certificate: read } = yield* material(options)
      assert.strictEqual(read, fixture.text("other-client.pem"))
    })
  )
})
