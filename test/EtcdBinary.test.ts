import * as NodeChildProcess from "node:child_process"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Tar from "effect/encoding/Tar"
import * as SemVer from "effect/SemVer"
import * as EtcdBinary from "../src/EtcdBinary.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import {
  host,
  releaseAt,
  root,
  sends,
  serve,
  settings,
  tarGz,
  tempDir,
  writeExecutable
} from "./support/binary/release.ts"

describe("EtcdBinary.find", () => {
  it.effect("finds the etcd of this machine and tells its version", () =>
    Effect.gen(function* () {
      const etcd = yield* EtcdBinary.find()
      const printed = NodeChildProcess.execFileSync(etcd.path, ["--version"], { encoding: "utf8" })
      assert.include(printed, `etcd Version: ${SemVer.format(etcd.version)}\n`)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("takes from the environment what the ConfigProvider does not have", () =>
    Effect.gen(function* () {
      const usual = yield* EtcdBinary.find()
      const other = yield* EtcdBinary.find().pipe(
        Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromUnknown({ port: 1 }))
      )
      assert.strictEqual(other.path, usual.path)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("takes a shell wrapper for the etcd that it runs, with and without exec", () =>
    Effect.gen(function* () {
      const { path: real, version } = yield* EtcdBinary.find()
      const dir = yield* tempDir
      for (const run of ["exec", ""]) {
        yield* writeExecutable(`${dir}/etcd`, `#!/bin/sh\necho "shim: looking for etcd" >&2\n${run} '${real}' "$@"\n`)
        const etcd = yield* settings({ PATH: dir })(EtcdBinary.find())
        assert.strictEqual(etcd.path, `${dir}/etcd`)
        assert.deepStrictEqual(etcd.version, version)
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )
})

describe("EtcdBinary.fromInput", () => {
  it.effect("is what the binary option of a node is made of", () =>
    Effect.gen(function* () {
      const cacheDirectory = yield* tempDir
      const { path, version: real } = yield* EtcdBinary.find()
      const archive = yield* tarGz([Tar.file(`${root}/etcd`, `#!/bin/sh\nexec '${path}' "$@"\n`, { mode: 0o755 })])
      const server = yield* serve(sends(archive))
      const node = yield* EtcdProcess.ephemeral(
        {},
        { binary: { fetch: { ...releaseAt(server, archive, host), cacheDirectory } } }
      )
      assert.deepStrictEqual(node.version, real)
      assert.lengthOf(server.requests, 1)
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
