/**
 * How large a program is that has been bundled, and how much of it is this library and what the library brings along.
 */
import { join } from "node:path"
import { gzipSync } from "node:zlib"
import { rolldown } from "rolldown"

const root = join(import.meta.dirname, "..")
const entry = join(root, "entry.js")

/** Programs by what they use, and how many bytes beyond Effect they may have: `npm run check` holds them to it. */
export const programs = {
  "connect and EtcdKv": {
    limit: 110_000,
    source: `
    import * as Effect from "effect/Effect"
    import { EtcdKv, EtcdLayer } from "effect-etcd"
    Effect.runPromise(Effect.provide(EtcdKv.put("a", "b"), EtcdLayer.connect({ endpoints: ["127.0.0.1:2379"] })))`
  },
  "EtcdClient and EtcdKv": {
    limit: 85_000,
    source: `
    import * as Effect from "effect/Effect"
    import * as Layer from "effect/Layer"
    import { EtcdClient, EtcdKv } from "effect-etcd"
    const client = EtcdClient.layer({ endpoints: ["127.0.0.1:2379"] })
    Effect.runPromise(Effect.provide(EtcdKv.put("a", "b"), Layer.provide(EtcdKv.layer, client)))`
  },
  "EtcdClient and EtcdLock": {
    limit: 110_000,
    source: `
    import * as Effect from "effect/Effect"
    import * as Layer from "effect/Layer"
    import { EtcdClient } from "effect-etcd"
    import { EtcdLock, EtcdSession } from "effect-etcd/coordination"
    const client = EtcdClient.layer({ endpoints: ["127.0.0.1:2379"] })
    const work = EtcdLock.withLock(Effect.void, EtcdLock.make("a"))
    Effect.runPromise(Effect.provide(work, Layer.provideMerge(EtcdSession.layer, client)))`
  },
  "a condition of EtcdTxn": {
    limit: 3_000,
    source: `
    import { EtcdTxn } from "effect-etcd"
    console.log(EtcdTxn.missing("a"))`
  },
  "a value of EtcdLock": {
    limit: 3_000,
    source: `
    import { EtcdLock } from "effect-etcd/coordination"
    console.log(EtcdLock.make("a"))`
  }
} as const

const node = /^node:/

/** What is loaded at once; not what is imported later. */
const bundle = async (
  program: string,
  external: ReadonlyArray<RegExp>,
  minify: boolean
): Promise<ReadonlyArray<string>> => {
  const build = await rolldown({
    input: entry,
    cwd: root,
    external: [...external],
    platform: "node",
    plugins: [
      { name: "program", load: (id) => (id === entry ? program : null), resolveId: (id) => (id === entry ? id : null) }
    ]
  })
  const { output } = await build.generate({ comments: false, minify })
  await build.close()
  const chunks = new Map(output.flatMap((file) => (file.type === "chunk" ? [[file.fileName, file] as const] : [])))
  const needed = new Set(Array.from(chunks.values(), (chunk) => (chunk.isEntry ? [chunk.fileName] : [])).flat())
  for (const name of needed) for (const other of chunks.get(name)?.imports ?? []) needed.add(other)
  return Array.from(needed).flatMap((name) => chunks.get(name)?.code ?? [])
}

const gzipped = (chunks: ReadonlyArray<string>): number =>
  chunks.reduce((bytes, chunk) => bytes + gzipSync(chunk, { level: 9 }).length, 0)

/** A program that uses of Effect what these chunks do, and nothing else. */
const usesOfEffect = (chunks: ReadonlyArray<string>): string => {
  const used = chunks.flatMap((code) =>
    Array.from(code.matchAll(/^import \* as ([\w$]+) from "((?:effect|@effect)\/[^"]+)";$/gm)).flatMap(
      ([, name, module]) =>
        Array.from(
          code.matchAll(new RegExp(`(?<![\\w$.])${name!.replaceAll("$", "\\$")}\\.(\\w+)`, "g")),
          ([, member]) => JSON.stringify({ member, module })
        )
    )
  )
  const imports = Array.from(new Set(used), (use, index) => {
    const { member, module } = JSON.parse(use)
    return `import { ${member} as used${index} } from "${module}"`
  })
  return `${imports.join("\n")}\nconsole.log([${imports.map((_, index) => `used${index}`).join(", ")}])`
}

/** Bytes, minified and gzipped: of the program, and of one that uses the same parts of Effect, without this library. */
export const sizeOf = async (program: string): Promise<{ readonly whole: number; readonly effect: number }> => {
  const whole = await bundle(program, [node], true)
  const withoutEffect = await bundle(program, [node, /^effect(\/|$)/, /^@effect\//], false)
  const effect = await bundle(usesOfEffect(withoutEffect), [node], true)
  return { whole: gzipped(whole), effect: gzipped(effect) }
}
