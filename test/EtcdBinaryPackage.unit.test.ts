import { execFileSync } from "node:child_process"
import { pathToFileURL } from "node:url"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as EtcdBinary from "../src/EtcdBinary.ts"
import * as Package from "../src/internal/binary/package.ts"
import * as Releases from "../src/internal/binary/releases.ts"
import { says, settings, tempDir, writeExecutable } from "./support/binary/release.ts"
import { reasonOf } from "./support/effects.ts"

const own = `@effect-etcd/${process.platform}-${process.arch}`
const foreign = Releases.packagedPlatforms.map(Releases.packageName).find((name) => name !== own)!

const saysUtl = (version: string) => `#!/bin/sh\necho "etcdutl version: ${version}"\necho "API version: 3.6"\n`

/** Puts a package into a `node_modules`. */
const put = Effect.fnUntraced(function* (modules: string, name: string, version: string) {
  const fs = yield* FileSystem.FileSystem
  yield* fs.makeDirectory(`${modules}/${name}/bin`, { recursive: true })
  yield* fs.writeFileString(`${modules}/${name}/package.json`, JSON.stringify({ name, version }))
  yield* writeExecutable(`${modules}/${name}/bin/etcd`, says(version))
  yield* writeExecutable(`${modules}/${name}/bin/etcdutl`, saysUtl(version))
  return `${modules}/${name}/bin`
})

/** A directory, an `effect-etcd` in it whose module looks, and nothing in its surroundings but what is given. */
const project = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  const root = yield* fs.realPath(yield* tempDir)
  const modules = `${root}/node_modules`
  const library = `${modules}/effect-etcd/dist/internal/chunks`
  yield* fs.makeDirectory(library, { recursive: true })
  yield* fs.makeDirectory(`${root}/path`)
  const looksFrom =
    (directory: string) =>
    <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      effect.pipe(
        Effect.provideService(Package.From, pathToFileURL(`${directory}/find.js`).href),
        settings({ PATH: `${root}/path`, XDG_CACHE_HOME: `${root}/cache`, ETCDUTL_BINARY: "" })
      )
  const find = (options: EtcdBinary.FindOptions = {}, directory = library) =>
    looksFrom(directory)(EtcdBinary.find(options))
  return { root, modules, library, looksFrom, find }
})

describe("the etcd that comes with the library", () => {
  it.effect("is found where npm puts it, by a program with an empty PATH, with its etcdutl", () =>
    Effect.gen(function* () {
      const { find, looksFrom, library, modules } = yield* project
      const bin = yield* put(modules, own, "3.6.14")
      const etcd = yield* find()
      assert.strictEqual(etcd.path, `${bin}/etcd`)
      const utl = yield* looksFrom(library)(EtcdBinary.findUtl(etcd))
      assert.strictEqual(utl.path, `${bin}/etcdutl`)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("goes before the PATH and the cache, and behind the option and ETCD_BINARY", () =>
    Effect.gen(function* () {
      const { find, modules, root } = yield* project
      const bin = yield* put(`${modules}/effect-etcd/node_modules`, own, "3.6.14")
      const onPath = yield* writeExecutable(`${root}/path/etcd`, says("3.5.9"))
      const named = yield* writeExecutable(`${root}/named`, says("3.5.1"))
      assert.strictEqual((yield* find()).path, `${bin}/etcd`)
      assert.strictEqual((yield* find({ path: named })).path, named)
      const byVariable = EtcdBinary.find().pipe(
        Effect.provideService(Package.From, pathToFileURL(`${modules}/effect-etcd/find.js`).href),
        settings({ ETCD_BINARY: named })
      )
      assert.strictEqual((yield* byVariable).path, named)
      assert.strictEqual((yield* find({}, `${root}/path`)).path, onPath)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("is that of the library, whichever the program has beside it", () =>
    Effect.gen(function* () {
      const { find, modules } = yield* project
      yield* put(modules, own, "3.5.33")
      const nested = yield* put(`${modules}/effect-etcd/node_modules`, own, "3.6.14")
      assert.strictEqual((yield* find()).path, `${nested}/etcd`)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("is found in the strict node_modules of pnpm, where the program does not see it", () =>
    Effect.gen(function* () {
      const { find, modules } = yield* project
      const fs = yield* FileSystem.FileSystem
      const store = `${modules}/.pnpm`
      const bin = yield* put(`${store}/${own.replace("/", "+")}@3.6.14/node_modules`, own, "3.6.14")
      const virtual = `${store}/effect-etcd@0.1.0/node_modules`
      yield* fs.makeDirectory(`${virtual}/effect-etcd/dist`, { recursive: true })
      yield* fs.makeDirectory(`${virtual}/@effect-etcd`)
      yield* fs.symlink(bin.replace(/\/bin$/, ""), `${virtual}/${own}`)
      assert.strictEqual((yield* find({}, `${virtual}/effect-etcd/dist`)).path, `${bin}/etcd`)
      const reason = yield* reasonOf(find({}, `${modules}/other`))
      assert.strictEqual(reason._tag, "BinaryNotFound")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("is passed over in a bundle that does not know where it is", () =>
    Effect.gen(function* () {
      const { root } = yield* project
      const onPath = yield* writeExecutable(`${root}/path/etcd`, says("3.5.9"))
      // What bundlers make of `import.meta.url` for CommonJS.
      const nowhere = undefined as unknown as string
      for (const from of [nowhere, "", "app.js", "data:text/javascript,0"]) {
        const etcd = yield* EtcdBinary.find().pipe(
          Effect.provideService(Package.From, from),
          settings({ PATH: `${root}/path` })
        )
        assert.strictEqual(etcd.path, onPath)
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("is none that lies where NODE_PATH or a home directory lead: require would take it from there", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { modules, root } = yield* project
      const elsewhere = `${root}/elsewhere/.node_modules`
      yield* put(elsewhere, own, "3.6.14")
      const program = `
        import * as Effect from "effect/Effect"
        import * as NodeServices from "@effect/platform-node/NodeServices"
        import * as Package from ${JSON.stringify(new URL("../src/internal/binary/package.ts", import.meta.url).href)}
        const found = Package.executables().pipe(
          Effect.provideService(Package.From, ${JSON.stringify(pathToFileURL(`${modules}/effect-etcd/find.js`).href)}),
          Effect.provide(NodeServices.layer)
        )
        console.log(String(await Effect.runPromise(found)))`
      const run = (variables: Record<string, string>) =>
        execFileSync(process.execPath, ["--input-type=module", "--eval", program], { env: variables, encoding: "utf8" })
      assert.strictEqual(run({ NODE_PATH: elsewhere }), "undefined\n")
      assert.strictEqual(run({ HOME: `${root}/elsewhere` }), "undefined\n")
      // As pnpm has it: a link beside the library, which is found by the place that it has in truth.
      const store = yield* put(`${modules}/.pnpm/etcd`, own, "3.6.14")
      yield* fs.makeDirectory(`${modules}/@effect-etcd`, { recursive: true })
      yield* fs.symlink(store.slice(0, -"/bin".length), `${modules}/${own}`)
      assert.strictEqual(run({ NODE_PATH: elsewhere }), `${store}\n`)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("is made executable where a tool has lost its mode, and its etcdutl with it", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { find, looksFrom, library, modules } = yield* project
      const bin = yield* put(modules, own, "3.6.14")
      for (const name of ["etcd", "etcdutl"]) yield* fs.chmod(`${bin}/${name}`, 0o644)
      const etcd = yield* find()
      yield* looksFrom(library)(EtcdBinary.findUtl(etcd))
      for (const name of ["etcd", "etcdutl"]) assert.strictEqual((yield* fs.stat(`${bin}/${name}`)).mode & 0o777, 0o755)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("is an error where it is there and cannot be used: another etcd would be another version", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { find, modules, root } = yield* project
      yield* writeExecutable(`${root}/path/etcd`, says("3.5.9"))
      const bin = yield* put(modules, own, "3.6.14")
      yield* fs.remove(`${bin}/etcd`)
      const missing = yield* reasonOf(find())
      assert.strictEqual(missing._tag, "BinaryNotFound")
      assert.include(missing.message, `The etcd of the package ${own} is "${bin}/etcd", which does not exist.`)
      assert.include(missing.message, "Remove the package and install it again.")
      yield* writeExecutable(`${bin}/etcd`, "\u007fELF")
      const cutShort = yield* reasonOf(find())
      assert.strictEqual(cutShort._tag, "UnsupportedVersion")
      assert.include(cutShort.message, `${bin}/etcd`)
      yield* fs.remove(`${bin}/etcd`)
      yield* fs.makeDirectory(`${bin}/etcd`)
      assert.include((yield* reasonOf(find())).message, "is a Directory, not a file")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("is no reason to fetch another one where it is there and cannot be used", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { library, looksFrom, modules } = yield* project
      const bin = yield* put(modules, own, "3.5.33")
      yield* fs.remove(`${bin}/etcd`)
      for (const having of [EtcdBinary.findOrFetch({ baseUrl: "http://127.0.0.1:1" }), EtcdBinary.fromInput("fetch")]) {
        const reason = yield* reasonOf(looksFrom(library)(having))
        assert.strictEqual(reason._tag, "BinaryNotFound")
        assert.include(reason.message, `The etcd of the package ${own} is "${bin}/etcd", which does not exist.`)
      }
    }).pipe(Effect.provide([NodeServices.layer, FetchHttpClient.layer]))
  )

  it.effect("is named where it is not there, with what may have kept it away and how to get it", () =>
    Effect.gen(function* () {
      const { find, modules } = yield* project
      const none = yield* reasonOf(find())
      for (const part of [
        `the package ${own} (not installed)`,
        "--omit=optional",
        "package-lock.json was made on another platform",
        `npm install --save-optional ${own}@${Releases.releases[0]!.version}`
      ]) {
        assert.include(none.message, part)
      }
      yield* put(modules, foreign, "3.6.14")
      const other = yield* reasonOf(find())
      assert.include(other.message, `There is ${foreign}, for another platform: node_modules are from there`)
      assert.notInclude(other.message, "--omit=optional")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("gives its etcdutl to an etcd of its line that has none", () =>
    Effect.gen(function* () {
      const { library, looksFrom, modules, root } = yield* project
      const bin = yield* put(`${modules}/effect-etcd/node_modules`, own, "3.6.14")
      const path = yield* writeExecutable(`${root}/etcd`, says("3.6.2"))
      const etcd = yield* EtcdBinary.find({ path })
      const lacking = yield* reasonOf(looksFrom(`${root}/path`)(EtcdBinary.findUtl(etcd)))
      assert.include(lacking.message, `the package ${own}, which comes with effect-etcd`)
      const found = yield* looksFrom(library)(EtcdBinary.findUtl(etcd))
      assert.strictEqual(found.path, `${bin}/etcdutl`)
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
