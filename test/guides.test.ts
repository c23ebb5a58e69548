/**
 * The programs of the guides and the demo, run as they stand (`npm run guides`).
 */
import { spawnSync } from "node:child_process"
import { mkdirSync, writeSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { authority, certificate } from "../examples/cluster-across-machines/certificates.ts"
import { freePort, temporaryDirectory } from "./support/machine.ts"
import { alone, differs, directory, guides, printWhatIsSaid, start, writeExamples } from "./support/pages.ts"

/** Its programs make certificates. */
const withCertificates = "docs/cluster-across-machines.md"
const hasOpenssl = spawnSync("openssl", ["version"]).error === undefined
/** Where nobody reads the names of what was not run, it fails. */
const isLeftOut = !hasOpenssl && process.env.CI === undefined
const missing = isLeftOut ? " (NOT RUN: there is no openssl)" : ""
// Not every reporter says which tests are left out, and of this file there is no other output.
if (isLeftOut) writeSync(2, `There is no openssl, so the programs of ${withCertificates} are not run.\n`)

/** What SIGTERM ends a program with, by `NodeRuntime.runMain`. */
const interrupted = 130

describe("the guides", () => {
  it.live(
    "have programs that print what they say",
    () => Effect.provide(printWhatIsSaid(guides.filter((guide) => guide !== withCertificates)), NodeServices.layer),
    600_000
  )

  it.live.skipIf(isLeftOut)(
    `have programs with certificates that print what they say${missing}`,
    () => Effect.provide(printWhatIsSaid([withCertificates]), NodeServices.layer),
    600_000
  )

  it.live.skipIf(isLeftOut)(`have a program for each host, and the hosts become a cluster${missing}`, () =>
    Effect.gen(function* () {
      const place = yield* directory
      yield* writeExamples(place)
      const certificates = join(place, "certificates")
      mkdirSync(certificates)
      yield* authority(certificates, "hosts")
      yield* authority(certificates, "clients")
      yield* certificate(certificates, "root")
      // Elsewhere a machine has one address only, and the ports of the program are the same for all.
      const addresses = process.platform === "linux" ? ["127.0.0.1", "127.0.0.2", "127.0.0.3"] : ["127.0.0.1"]
      const hosts = addresses.map((address, index) => ({ name: `host${index + 1}`, address }))
      // Connections within this machine come from its first address.
      for (const { address, name } of hosts) yield* certificate(certificates, name, [address, addresses[0]!])
      const started = yield* Effect.forEach(hosts, ({ name }) =>
        start(join(place, alone.host), {
          NAME: name,
          HOSTS: hosts.map(({ address, name }) => `${name}=${address}`).join(","),
          DATA_DIR: join(place, name),
          CERTIFICATES: certificates,
          ALICES_PASSWORD: "her password"
        })
      )
      for (const [index, { printed }] of started.entries()) yield* printed(`host${index + 1} is a Voter`)
      for (const { stop } of started) assert.strictEqual(yield* stop, interrupted)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("have a service that answers, ends when it is told to, and has its data when it comes back", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      const port = yield* freePort
      const ask = (method: string, path: string) =>
        Effect.tryPromise(() => fetch(`http://127.0.0.1:${port}${path}`, { method }).then((answer) => answer.text()))
      for (const visits of ["1", "2"]) {
        const service = yield* start(alone.server, { DATA_DIR: join(dataDir, "data"), PORT: String(port) })
        // It listens when etcd serves.
        const health = ask("GET", "/health").pipe(Effect.retry(Schedule.spaced("50 millis")))
        assert.strictEqual(
          yield* Effect.raceFirst(
            health,
            Effect.map(service.ended, ({ output }) => output)
          ),
          '{"ready":true}'
        )
        assert.strictEqual(yield* ask("POST", "/counters/visits"), visits)
        assert.strictEqual(yield* service.stop, interrupted)
      }
    }).pipe(Effect.scoped)
  )
})

describe("the demo", () => {
  it.live("kills a leader under load, and loses nothing", () =>
    Effect.gen(function* () {
      const { code, output } = yield* (yield* start(alone.demo)).ended
      const prints = [
        "… all serve, etcd …",
        "… wrote hello from its leader callback",
        "… a follower, reads hello = from …",
        "… killed … with SIGKILL after … acknowledged writes",
        "… read … keys back, and saw … changes of them in the watch",
        "demo ok: failover in … ms, … acknowledged writes, 0 lost"
      ]
      assert.isUndefined(differs({ at: alone.demo, source: "", file: alone.demo, prints }, output), output)
      assert.strictEqual(code, 0)
    }).pipe(Effect.scoped)
  )
})
