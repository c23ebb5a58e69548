import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as SemVer from "effect/SemVer"
import * as EtcdBinary from "../src/EtcdBinary.ts"
import * as Binaries from "./support/binary/release.ts"

const says = (tool: string, version: string) =>
  `#!/bin/sh\n[ "$1" = version ] || exit 3\n[ "$ETCDCTL_API" = 3 ] || exit 4\n[ -z "$ETCDUTL_WRITE_OUT" ] || exit 5\n` +
  `echo "${tool} version: ${version}"\necho "API version: 3"\n`

const settings = (values: Record<string, string>) =>
  Binaries.settings({ ETCDUTL_BINARY: "", ETCDCTL_BINARY: "", ...values })

/** Puts tools into directories below a new one. */
const put = Effect.fnUntraced(function* (tools: Readonly<Record<string, string>>) {
  const fs = yield* FileSystem.FileSystem
  const root = yield* fs.realPath(yield* Binaries.tempDir)
  for (const [path, version] of Object.entries(tools)) {
    const [directory = "", tool = ""] = path.split("/")
    yield* fs.makeDirectory(`${root}/${directory}`, { recursive: true })
    yield* Binaries.writeExecutable(`${root}/${path}`, says(tool, version))
  }
  return root
})

const etcdAt = (path: string, version: string): EtcdBinary.EtcdBinary => ({
  path,
  version: SemVer.parseUnsafe(version)
})

const reasonOf = <A, R>(effect: Effect.Effect<A, { readonly reason: { readonly message: string } }, R>) =>
  Effect.map(Effect.flip(effect), ({ reason }) => reason.message)

describe("EtcdBinary.findUtl", () => {
  it.effect("looks beside the etcd, beside what its link leads to, and on the PATH", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const root = yield* put({ "real/etcdutl": "3.6.2", "path/etcdutl": "3.6.3" })
      yield* fs.makeDirectory(`${root}/linked`)
      yield* fs.symlink("../real/etcd", `${root}/linked/etcd`)
      yield* Binaries.writeExecutable(`${root}/real/etcd`, Binaries.says("3.6.1"))
      const etcd = etcdAt(`${root}/linked/etcd`, "3.6.1")
      const find = Effect.map(EtcdBinary.findUtl(etcd), ({ path }) => path.slice(root.length + 1))
      const onPath = settings({ PATH: `${root}/none:${root}/path` })
      assert.strictEqual(yield* onPath(find), "real/etcdutl")
      yield* Binaries.writeExecutable(`${root}/linked/etcdutl`, says("etcdutl", "3.6.9"))
      assert.strictEqual(yield* onPath(find), "linked/etcdutl")
      yield* fs.remove(`${root}/linked/etcdutl`)
      yield* fs.remove(`${root}/real/etcdutl`)
      assert.strictEqual(yield* onPath(find), "path/etcdutl")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("passes over what does not go with the etcd, but not where somebody has named it", () =>
    Effect.gen(function* () {
      const root = yield* put({ "beside/etcdutl": "3.5.16", "path/etcdutl": "3.7.1" })
      const etcd = etcdAt(`${root}/beside/etcd`, "3.7.3")
      const found = yield* settings({ PATH: `${root}/path` })(EtcdBinary.findUtl(etcd))
      assert.deepStrictEqual(found, {
        path: `${root}/path/etcdutl`,
        version: SemVer.parseUnsafe("3.7.1"),
        tool: "etcdutl",
        bumpsRevisions: true
      })
      const why = "is etcdutl 3.5.16, which is not for etcd 3.7.3"
      const path = `${root}/beside/etcdutl`
      const byVariable = settings({ ETCDUTL_BINARY: path, PATH: `${root}/path` })(EtcdBinary.findUtl(etcd))
      assert.include(yield* reasonOf(byVariable), `ETCDUTL_BINARY is "${path}", which ${why}`)
      assert.include(
        yield* reasonOf(EtcdBinary.findUtl(etcd, { path })),
        `The etcdutl given is "${path}", which ${why}`
      )
      const none = EtcdBinary.findUtl(etcd, { path: `${root}/none` })
      assert.include(yield* reasonOf(none), "which does not exist")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("takes an etcdutl 3.5 that can bump revisions for an etcd 3.4, or else its etcdctl", () =>
    Effect.gen(function* () {
      const root = yield* put({
        "old/etcdctl": "3.4.23",
        "new/etcdctl": "3.4.27",
        "early/etcdutl": "3.5.9",
        "late/etcdutl": "3.5.10",
        "other/etcdctl": "3.5.10"
      })
      const find = (from: string, ...path: ReadonlyArray<string>) =>
        Effect.map(
          settings({ PATH: path.map((name) => `${root}/${name}`).join(":") })(
            EtcdBinary.findUtl(etcdAt(`${root}/${from}/etcd`, "3.4.23"))
          ),
          (found) => [found.path.slice(root.length + 1), found.bumpsRevisions]
        )
      assert.deepStrictEqual(yield* find("old", "late"), ["late/etcdutl", true])
      assert.deepStrictEqual(yield* find("old", "early"), ["old/etcdctl", false])
      assert.deepStrictEqual(yield* find("new", "early"), ["new/etcdctl", true])
      const none = yield* reasonOf(find("early", "other"))
      for (const part of [
        "No etcdutl 3.5 (from 3.5.10 on), nor an etcdctl 3.4, was found for etcd 3.4.23",
        `${root}/early/etcdutl, which is etcdutl 3.5.9`,
        `${root}/other/etcdctl, which is etcdctl 3.5.10`
      ]) {
        assert.include(none, part)
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("says what cannot be done without it, and where it was looked for", () =>
    Effect.gen(function* () {
      const root = yield* put({ "path/etcdctl": "3.5.16" })
      yield* Binaries.writeExecutable(`${root}/path/etcdutl`, "#!/bin/sh\necho consul v1.20.1\n")
      const find = EtcdBinary.findUtl(etcdAt(`${root}/beside/etcd`, "3.5.16"))
      const message = yield* reasonOf(settings({ PATH: `${root}/path` })(find))
      for (const part of [
        "no snapshot can be restored",
        "no cluster recovered that has lost its quorum",
        "ETCDUTL_BINARY (not set)",
        `${root}/beside/etcdutl`,
        `${root}/path/etcdutl, which cannot be used: `,
        "etcd-client"
      ]) {
        assert.include(message, part)
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
