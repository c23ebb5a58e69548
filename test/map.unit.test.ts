import { execFile } from "node:child_process"
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { problemsOf } from "../scripts/check-map.ts"

const root = join(import.meta.dirname, "..")

const page = `# The map

\`\`\`
src/
  index.ts               the modules
  EtcdLayer.ts           the front door
  ── run
  EtcdProcess.ts         one node
  internal/process/      what becomes of it,
                         and when (\`guard\`)
  ── talk
  EtcdKv.ts              keys
  internal/kv/           requests
  internal/keys.ts       bytes
test/                    tests
\`\`\`

What a key is says \`internal/keys.ts\`, and \`internal/kv/\` what is asked.
`

const sound: Readonly<Record<string, string>> = {
  "docs/ARCHITECTURE.md": page,
  "src/index.ts": 'export * as EtcdKv from "./EtcdKv.ts"\n',
  "src/EtcdLayer.ts":
    'import * as EtcdKv from "./EtcdKv.ts"\nimport * as EtcdProcess from "./EtcdProcess.ts"\nvoid [EtcdKv, EtcdProcess]\n',
  "src/EtcdProcess.ts": 'import { guard } from "./internal/process/guard.ts"\nexport const make = guard\n',
  "src/internal/process/guard.ts": 'import * as EtcdKv from "../../EtcdKv.ts"\nexport const guard = EtcdKv.get\n',
  "src/EtcdKv.ts":
    'import { range } from "./internal/kv/requests.ts"\nexport interface Options {}\nexport const get = range\n',
  // A type comes from above within a part of the map, and is gone when the program runs.
  "src/internal/kv/requests.ts":
    'import type { Options } from "../../EtcdKv.ts"\nimport { own } from "../keys.ts"\nexport const range = (_: Options) => own\n',
  "src/internal/keys.ts": "export const own = 1\n"
}

/** A directory with the files that are sound, and those that are given in their place. */
const withFiles = (files: Readonly<Record<string, string>>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const directory = mkdtempSync(join(tmpdir(), "effect-etcd-map-"))
      for (const [path, text] of Object.entries({ ...sound, ...files })) {
        mkdirSync(dirname(join(directory, path)), { recursive: true })
        writeFileSync(join(directory, path), text)
      }
      return directory
    }),
    (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
  )

const problemsWith = (files: Readonly<Record<string, string>>) => Effect.map(withFiles(files), problemsOf)

/** What Biome, configured as this project is, says of the files. */
const lint = (files: Readonly<Record<string, string>>) =>
  Effect.flatMap(withFiles(files), (directory) =>
    Effect.callback<string>((resume) => {
      cpSync(join(root, "biome.json"), join(directory, "biome.json"))
      const child = execFile(
        join(root, "node_modules", ".bin", "biome"),
        ["lint", "--only=suspicious/noImportCycles", "--vcs-enabled=false", "src"],
        { cwd: directory },
        (error, stdout, stderr) => resume(Effect.succeed(error === null ? "" : stdout + stderr))
      )
      return Effect.sync(() => child.kill())
    })
  )

describe("the map", () => {
  it("is as the sources are", () => {
    assert.deepStrictEqual(problemsOf(root), [])
  })

  it.effect("takes what is as it says", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* problemsWith({}), [])
    })
  )

  it.effect("finds rooms that load each other", () =>
    Effect.gen(function* () {
      const imports = 'import { get } from "../EtcdKv.ts"\n'
      assert.deepStrictEqual(yield* problemsWith({ "src/internal/keys.ts": `${imports}export const own = get\n` }), [
        "These load each other: EtcdKv.ts → internal/kv/ → internal/keys.ts → EtcdKv.ts."
      ])
      const exports = 'export {\n  get\n} from "../EtcdKv.ts"\n'
      assert.lengthOf(yield* problemsWith({ "src/internal/keys.ts": `${exports}export const own = 1\n` }), 1)
      const lazy = 'export const own = () => import("../EtcdKv.ts")\n'
      assert.lengthOf(yield* problemsWith({ "src/internal/keys.ts": lazy }), 1)
    })
  )

  it.live("finds modules that load each other, and not types that name each other", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* lint({}), "")
      const found = yield* lint({
        "src/internal/kv/requests.ts": 'import { get } from "../../EtcdKv.ts"\nexport const range = () => get\n'
      })
      assert.include(found, "lint/suspicious/noImportCycles")
      assert.include(found, "src/EtcdKv.ts")
    })
  )

  it.effect("finds what is imported from above, types too", () =>
    Effect.gen(function* () {
      for (const type of ["", "type "]) {
        const imports = `import ${type}{ make } from "../EtcdProcess.ts"\n`
        assert.include(
          yield* problemsWith({ "src/internal/keys.ts": imports }),
          "src/internal/keys.ts imports src/EtcdProcess.ts, which is above it on the map."
        )
      }
      assert.include(
        yield* problemsWith({ "src/EtcdProcess.ts": 'export const layer = import("./EtcdLayer.ts")\n' }),
        "src/EtcdProcess.ts imports src/EtcdLayer.ts, which is above it on the map."
      )
    })
  )

  it.effect("finds modules and rooms that it does not name, and what it names that there is not", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* problemsWith({ "src/EtcdLock.ts": "", "src/internal/lock/owner.ts": "" }), [
        "src/EtcdLock.ts is not on the map, nor is its room.",
        "src/internal/lock/owner.ts is not on the map, nor is its room."
      ])
      const lock = page
        .replace("  EtcdKv.ts", "  EtcdLock.ts            locks\n  internal/lock/         their owners\n  EtcdKv.ts")
        .replace("what is asked", "what is asked, `internal/lock/owner.ts` of whom")
      assert.deepStrictEqual(yield* problemsWith({ "docs/ARCHITECTURE.md": lock }), [
        "The map names src/EtcdLock.ts, and there is no such thing.",
        "The map names src/internal/lock/, and there is no such thing.",
        "The page tells of src/internal/lock/owner.ts, and there is no such thing."
      ])
    })
  )

  it.effect("finds modules that it tells of in a room and that are not there", () =>
    Effect.gen(function* () {
      const stale = page.replace("(`guard`)", "(`guard`, by `watch`)")
      assert.deepStrictEqual(yield* problemsWith({ "docs/ARCHITECTURE.md": stale }), [
        "The map tells of src/internal/process/watch.ts, and there is no such thing."
      ])
    })
  )

  it.effect("has walks that go from one function to another that there is", () =>
    Effect.gen(function* () {
      const walk = (...hops: ReadonlyArray<string>) => `${page}\n\`\`\`walk\n${hops.join("\n")}\n\`\`\`\n`
      const sound = walk("get           EtcdKv.ts", "└─ range      internal/kv/requests.ts")
      assert.deepStrictEqual(yield* problemsWith({ "docs/ARCHITECTURE.md": sound }), [])
      const lost = walk("put           EtcdKv.ts", "└─ range      internal/kv/gone.ts")
      assert.deepStrictEqual(yield* problemsWith({ "docs/ARCHITECTURE.md": lost }), [
        "A walk goes to put in src/EtcdKv.ts, and there is no such thing.",
        "A walk goes to range in src/internal/kv/gone.ts, and there is no such thing."
      ])
    })
  )

  it.effect("has room for what is to come, above all that is loaded with the library", () =>
    Effect.gen(function* () {
      const toCome = page.replace("  index.ts", "  coordination/          to come: locks\n  index.ts")
      const lock = { "src/coordination/EtcdLock.ts": 'import { get } from "../EtcdKv.ts"\nexport const lock = get\n' }
      assert.deepStrictEqual(yield* problemsWith({ "docs/ARCHITECTURE.md": toCome }), [])
      assert.deepStrictEqual(yield* problemsWith({ "docs/ARCHITECTURE.md": toCome, ...lock }), [
        "The map says that src/coordination/ is to come, and it is there."
      ])
      const come = { "docs/ARCHITECTURE.md": toCome.replace("to come: ", ""), ...lock }
      assert.deepStrictEqual(yield* problemsWith(come), [])
      for (const below of ["index.ts", "EtcdLayer.ts", "EtcdKv.ts"]) {
        const text = 'export * as EtcdLock from "./coordination/EtcdLock.ts"\n'
        assert.include(
          yield* problemsWith({ ...come, [`src/${below}`]: text }),
          `src/${below} imports src/coordination/EtcdLock.ts, which is above it on the map.`
        )
      }
    })
  )

  it.effect("keeps what both transports share free of either, and of node:http2", () =>
    Effect.gen(function* () {
      const transports = ["internal/http2/Http2Transport.ts", "internal/nodeHttp2/NodeHttp2Transport.ts"]
      const above = `  ── what carries the talk
  internal/http2/        one transport
  internal/nodeHttp2/    the other
  ── what both stand on
  internal/grpc/         what both share
test/`
      const files = {
        "docs/ARCHITECTURE.md": page.replace("test/", above),
        [`src/${transports[0]}`]: 'import { name } from "../grpc/GrpcConnection.ts"\nexport const own = name\n',
        [`src/${transports[1]}`]: 'import type * as http2 from "node:http2"\nexport type Own = http2.Settings\n',
        "src/internal/grpc/GrpcConnection.ts": 'export const name = "node:http2"\n'
      }
      const problemsOfShared = (text: string) => problemsWith({ ...files, "src/internal/grpc/GrpcConnection.ts": text })
      assert.deepStrictEqual(yield* problemsWith(files), [])
      for (const transport of transports) {
        const imports = `import type * as Own from "../${transport.slice("internal/".length)}"\nexport type Name = typeof Own\n`
        assert.deepStrictEqual(yield* problemsOfShared(imports), [
          `src/internal/grpc/GrpcConnection.ts imports src/${transport}, which is above it on the map.`
        ])
      }
      for (const text of [
        'import type * as http2 from "node:http2"\nexport type Name = http2.Settings\n',
        'import "node:http2"\n',
        'export const name = () => import("node:http2")\n',
        'export const name = process.getBuiltinModule("node:http2")\n'
      ]) {
        assert.deepStrictEqual(yield* problemsOfShared(text), [
          "src/internal/grpc/GrpcConnection.ts imports node:http2, which only src/internal/nodeHttp2/ does."
        ])
      }
    })
  )

  it.effect("finds what is internal in a module that can be imported", () =>
    Effect.gen(function* () {
      const internal = "/**\n * The bytes of a key.\n *\n * @internal\n */\nexport const own = 1\n"
      assert.deepStrictEqual(yield* problemsWith({ "src/EtcdKv.ts": internal, "src/internal/keys.ts": internal }), [
        "src/EtcdKv.ts exports what it calls internal."
      ])
    })
  )

  it.effect("has indexes that do nothing but export modules", () =>
    Effect.gen(function* () {
      const index = 'export * as EtcdKv from "./EtcdKv.ts"\nexport * from "./EtcdKv.ts"\n'
      assert.deepStrictEqual(yield* problemsWith({ "src/index.ts": index }), [
        "src/index.ts has more than modules that it exports by their names."
      ])
      const files = {
        "docs/ARCHITECTURE.md": page.replace("  index.ts", "  coordination/          locks\n  index.ts"),
        "src/coordination/EtcdLock.ts": 'import { get } from "../EtcdKv.ts"\nexport const lock = get\n'
      }
      const problemsOfLocks = (index: string) => problemsWith({ ...files, "src/coordination/index.ts": index })
      const exports = '/**\n * Locks.\n */\nexport * as EtcdLock from "./EtcdLock.ts"\n'
      assert.deepStrictEqual(yield* problemsOfLocks(exports), [])
      for (const more of ['export { lock } from "./EtcdLock.ts"\n', 'export * as Lock from "./EtcdLock.ts"\n']) {
        assert.deepStrictEqual(yield* problemsOfLocks(exports + more), [
          "src/coordination/index.ts has more than modules that it exports by their names."
        ])
      }
    })
  )
})
