/**
 * Who the client trusts, and what it shows, against real etcd nodes that serve TLS.
 */

import { execFileSync } from "node:child_process"
import { closeSync, copyFileSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as EtcdClient from "../src/EtcdClient.ts"
import type * as EtcdError from "../src/EtcdError.ts"
import { KV } from "../src/internal/proto/rpc_pb.ts"
import * as Etcd from "./support/client/etcd.ts"
import { reasonOf } from "./support/effects.ts"
import { standStill } from "./support/machine.ts"
import { fixture } from "./support/tls.ts"

const put = (client: EtcdClient.Client) => client.unary(KV.method.put, { key: new Uint8Array([1]) })

const node = (certificate: string, flags: ReadonlyArray<string> = []) =>
  Etcd.node({
    scheme: "https",
    flags: ["--cert-file", fixture.path(`${certificate}.pem`), "--key-file", fixture.path("server.key"), ...flags],
    client: {
      tls: { insecureSkipVerify: true, certificate: fixture.file("client.pem"), key: fixture.file("client.key") }
    }
  })

const connect = (to: Etcd.Node, tls: EtcdClient.Tls) =>
  EtcdClient.make({ endpoints: [to.endpoint], tls, retry: Schedule.recurs(0), reconnect: Schedule.spaced("1 milli") })

const ca = fixture.file("ca.pem")

const temporary = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "effect-etcd-test-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

const assertUnreachable = (reason: EtcdError.Reason, saying: RegExp) => {
  assert.strictEqual(reason._tag, "Unreachable")
  assert.strictEqual(reason.outcome, "not-applied")
  assert.match(reason.message, saying)
}

describe("a server's certificate", () => {
  it.live("must come from an authority that the client trusts", () =>
    Effect.gen(function* () {
      const good = yield* node("server")
      yield* put(yield* connect(good, { ca }))
      yield* put(yield* connect(good, { ca: fixture.text("ca.pem"), minVersion: "TLSv1.3" }))
      yield* put(yield* connect(good, { ca, serverName: "localhost" }))
      assertUnreachable(yield* reasonOf(put(yield* connect(good, {}))), /CA that is not trusted/)
      assertUnreachable(
        yield* reasonOf(put(yield* connect(good, { ca: fixture.file("other-ca.pem") }))),
        /CA that is not trusted/
      )
      yield* put(yield* connect(good, { insecureSkipVerify: true }))
    })
  )

  it.live("must not have expired", () =>
    Effect.gen(function* () {
      const expired = yield* node("server-expired")
      assertUnreachable(yield* reasonOf(put(yield* connect(expired, { ca }))), /expired/i)
    })
  )

  it.live("must be for the name of the endpoint, or for the one that is asked for", () =>
    Effect.gen(function* () {
      const other = yield* node("server-wrong-name")
      assertUnreachable(yield* reasonOf(put(yield* connect(other, { ca }))), /127\.0\.0\.1/)
      yield* put(yield* connect(other, { ca, serverName: "wrong.example" }))
    })
  )
})

describe("a client's certificate", () => {
  const demanding = node("server", ["--client-cert-auth", "--trusted-ca-file", fixture.path("ca.pem")])

  it.live("is shown to a server that asks for one", () =>
    Effect.gen(function* () {
      const strict = yield* demanding
      const key = Redacted.make(fixture.text("client.key"))
      yield* put(yield* connect(strict, { ca, certificate: fixture.text("client.pem"), key }))
      const without = yield* reasonOf(put(yield* connect(strict, { ca })))
      assertUnreachable(without, /certificate/i)
      const others = { certificate: fixture.file("other-client.pem"), key: fixture.file("other-client.key") }
      assertUnreachable(yield* reasonOf(put(yield* connect(strict, { ca, ...others }))), /certificate|unknown ca/i)
    })
  )

  it.live("is read again for each connection", () =>
    Effect.gen(function* () {
      const strict = yield* demanding
      const directory = yield* temporary
      const certificate = { file: join(directory, "client.pem") }
      const key = { file: join(directory, "client.key") }
      const use = (name: string) => {
        copyFileSync(fixture.path(`${name}.pem`), certificate.file)
        copyFileSync(fixture.path(`${name}.key`), key.file)
      }
      const restart = Effect.andThen(strict.stop, strict.start)
      const client = yield* connect(strict, { ca, certificate, key })

      const missing = yield* reasonOf(put(client))
      assertUnreachable(missing, /client\.pem/)

      use("client")
      yield* Effect.retry(put(client), Schedule.spaced("20 millis"))

      use("other-client")
      yield* put(client)
      yield* restart
      const refused = Effect.flip(put(client)).pipe(
        Effect.repeat({
          until: (error) => /certificate|unknown ca/i.test(error.message),
          schedule: Schedule.spaced("20 millis")
        })
      )
      yield* refused

      use("client")
      yield* Effect.retry(put(client), Schedule.spaced("20 millis"))
      // What cannot be read does no harm to the connection that there is, and none to the next one when it is there again.
      writeFileSync(key.file, fixture.text("client.key").slice(0, 60))
      yield* put(client)
      yield* restart
      const halfWritten = yield* Effect.flip(put(client)).pipe(
        Effect.repeat({
          until: (error) => /client\.key.*cut off/.test(error.message),
          schedule: Schedule.spaced("20 millis")
        })
      )
      assertUnreachable(halfWritten.reason, /client\.key/)
      use("client")
      yield* Effect.retry(put(client), Schedule.spaced("20 millis"))
    })
  )

  it.live("that makes no sense is told, and its key is not", () =>
    Effect.gen(function* () {
      const strict = yield* demanding
      const text = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
      const certificate = fixture.file("client.pem")
      const given = yield* reasonOf(connect(strict, { ca, certificate, key: Redacted.make(text) }))
      assert.strictEqual(given._tag, "InvalidArgument")
      const directory = yield* temporary
      const key = { file: join(directory, "client.key") }
      writeFileSync(key.file, text)
      const client = yield* connect(strict, { ca, certificate, key })
      const read = yield* reasonOf(put(client))
      assertUnreachable(read, /client\.key/)
      for (const reason of [given, read]) {
        assert.notInclude(JSON.stringify(reason), "c2VjcmV0")
        assert.match(reason.message, /key/)
      }
    })
  )

  it.live("without its key, an authority that is a path, and an empty one are refused when the client is made", () =>
    Effect.gen(function* () {
      const options: ReadonlyArray<[EtcdClient.Tls, RegExp]> = [
        [{ certificate: fixture.file("client.pem") }, /without its key/],
        [{ key: fixture.file("client.key") }, /without tls\.certificate/],
        [{ ca: fixture.path("ca.pem") }, /name of a file/],
        [{ ca: "" }, /is empty/],
        [{ ca: fixture.text("client.key") }, /certificate is due/],
        [{ minVersion: "TLSv1.1" as never }, /TLSv1\.2/],
        [{ serverName: "" }, /serverName/]
      ]
      for (const [tls, saying] of options) {
        const reason = yield* reasonOf(EtcdClient.make({ endpoints: ["https://127.0.0.1:1"], tls }))
        assert.strictEqual(reason._tag, "InvalidArgument")
        assert.match(reason.message, saying)
      }
    })
  )
})

describe("files", () => {
  it.live("that cannot be read in time fail the dial, and take nobody along", () =>
    Effect.gen(function* () {
      const good = yield* node("server")
      const directory = yield* temporary
      const pipe = join(directory, "ca.pem")
      execFileSync("mkfifo", [pipe])
      // Whoever reads a pipe that nobody writes to waits for ever.
      yield* Effect.addFinalizer(() => Effect.sync(() => closeSync(openSync(pipe, "r+"))))
      const client = yield* EtcdClient.make({
        endpoints: [good.endpoint],
        tls: { ca: { file: pipe } },
        retry: Schedule.recurs(0),
        connectTimeout: "50 millis"
      })
      assertUnreachable(yield* reasonOf(put(client)), /tls\.ca.*not.*within 50 ms/)
    })
  )

  it.live("that were there in time are read, though this process stood still", () =>
    Effect.gen(function* () {
      const good = yield* node("server")
      const client = yield* EtcdClient.make({
        endpoints: [good.endpoint],
        tls: { ca },
        retry: Schedule.recurs(0),
        connectTimeout: "2 seconds"
      })
      const call = yield* Effect.forkChild(put(client), { startImmediately: true })
      yield* Effect.yieldNow
      yield* standStill(3000)
      yield* Fiber.join(call)
    })
  )
})

describe("what cannot mend itself", () => {
  it.live("fails at once, and says so", () =>
    Effect.gen(function* () {
      const good = yield* node("server")
      // With the client's own schedule, which goes on for seconds.
      const client = (tls: EtcdClient.Tls) => EtcdClient.make({ endpoints: [good.endpoint], tls })
      for (const tls of [{}, { ca: fixture.file("other-ca.pem") }, { ca, serverName: "other.example" }]) {
        const reason = yield* reasonOf(put(yield* client(tls)))
        if (reason._tag !== "Unreachable") return assert.fail(reason.message)
        assert.strictEqual(reason.lasting, true)
      }
      // A file may be there in a moment.
      const missing = yield* EtcdClient.make({
        endpoints: [good.endpoint],
        tls: { ca: { file: fixture.path("none.pem") } },
        retry: Schedule.recurs(1)
      })
      const reason = yield* reasonOf(put(missing))
      if (reason._tag !== "Unreachable") return assert.fail(reason.message)
      assert.strictEqual(reason.lasting, undefined)
    })
  )
})
