/**
 * `npm run check`: format and lint, types (examples and benchmarks too), imports as the map says, generated code fresh,
 * the package as it would be published, with what is built on it and bundled, the package in each runtime, the API site, the
 * programs of the guides, and the tests that `npm test` leaves out since they take long. Every step runs, also after one
 * has failed.
 */
import { spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { programs, sizeOf } from "../benchmark/bundle.ts"
import { indexes, indexOf, modules, nameOf, source, specifierOf } from "./modules.ts"
import { included } from "./packages/check.ts"
import { inAllRuntimes } from "./runtimes.ts"

const temporary = mkdtempSync(join(tmpdir(), "effect-etcd-check-"))
process.on("exit", () => rmSync(temporary, { recursive: true, force: true }))

const run = (command: string, args: ReadonlyArray<string>): boolean =>
  spawnSync(command, args, { stdio: "inherit", shell: process.platform === "win32" }).status === 0

/** The name that what an index exports has in the library. */
const namespaceOf = (index: string): string => (index === "index" ? "All" : index.replace("/index", "Index"))

/** A function for each interface of a module, in whose result it is written out, with the types of all that it has. */
const writtenOut = (place: string): ReadonlyArray<string> => {
  const module = nameOf(place)
  return Array.from(
    readFileSync(join(source, `${place}.ts`), "utf8").matchAll(/^export interface (\w+)(?:<(.*?)>)? /gm),
    ([, name, parameters]) => {
      const type = parameters === undefined ? name : `${name}<${parameters.replaceAll(/[^,]+/g, "any")}>`
      return `export const ${module}${name} = (value: ${namespaceOf(indexOf(place))}.${module}.${type}) => ({ ...value })`
    }
  )
}

/**
 * A library that is built on the package: what it infers of the package's types goes into its own declarations, so they
 * have to be such as a user can name.
 */
const library = `
import { Effect } from "effect"
${indexes.map((index) => `import * as ${namespaceOf(index)} from "${specifierOf(index)}"`).join("\n")}
import * as Proto from "effect-etcd/proto"
${modules.map((place) => `export * as ${nameOf(place)} from "${specifierOf(place)}"`).join("\n")}

export const range = (key: Uint8Array) =>
  All.EtcdClient.EtcdClient.use((client) => client.unary(Proto.KV.method.range, { key }))
export const observe = (client: All.EtcdClient.Client, name: Uint8Array) =>
  client.serverStream(Proto.Election.method.observe, { name })
export const watch = (client: All.EtcdClient.Client) => client.bidirectional(Proto.Watch.method.watch)
export const put = (key: string) => All.EtcdKv.put(key, "value")
export const connected = All.EtcdLayer.connect({ endpoints: ["127.0.0.1:2379"] })
export const program = Effect.scoped(All.EtcdProcess.make())
${modules.flatMap(writtenOut).join("\n")}
`

/** Compiles the library against the tarball and loads it, and compiles a program against the library's declarations. */
const used = (tarball: string): boolean => {
  const own = join(temporary, "node_modules", "effect-etcd")
  mkdirSync(own, { recursive: true })
  if (!run("tar", ["-xzf", tarball, "-C", own, "--strip-components=1"])) return false
  for (const name of ["effect", "@effect", "@bufbuild", "@types"]) {
    symlinkSync(join(process.cwd(), "node_modules", name), join(temporary, "node_modules", name), "junction")
  }
  writeFileSync(join(temporary, "package.json"), JSON.stringify({ type: "module" }))
  writeFileSync(join(temporary, "library.ts"), library)
  writeFileSync(join(temporary, "program.ts"), `export * from "./out/library.js"\n`)
  const compile = (...args: ReadonlyArray<string>) =>
    run("tsc", ["--ignoreConfig", "--strict", "--module", "nodenext", "--target", "es2024", "--types", "node", ...args])
  return (
    compile("--declaration", "--outDir", join(temporary, "out"), join(temporary, "library.ts")) &&
    run(process.execPath, [join(temporary, "out", "library.js")]) &&
    compile("--noEmit", join(temporary, "program.ts"))
  )
}

const packed = async (): Promise<boolean> => {
  if (!run("npm", ["pack", "--silent", "--pack-destination", temporary])) return false
  const tarball = join(temporary, readdirSync(temporary).find((name) => name.endsWith(".tgz")) ?? "")
  return [
    run("publint", ["run", tarball, "--strict"]),
    run("attw", [tarball, "--profile", "esm-only", "--quiet", "--include-entrypoints", ...modules]),
    // What npm says of it before it would publish, for which it asks no registry.
    run("npm", ["publish", tarball, "--dry-run", "--ignore-scripts", "--offline", "--loglevel=error"]),
    used(tarball),
    await included(tarball)
  ].every((passed) => passed)
}

/** Of what has just been built to be packed. */
const small = async (): Promise<boolean> => {
  let passed = true
  for (const [name, { limit, source: program }] of Object.entries(programs)) {
    const { effect, whole } = await sizeOf(program)
    if (whole - effect <= limit) continue
    passed = false
    console.error(`${name}: ${whole - effect} bytes beyond Effect, more than ${limit} (npm run bench -- size)`)
  }
  return passed
}

const steps: Record<string, () => boolean | Promise<boolean>> = {
  "format and lint": () => run("biome", ["check", "--error-on-warnings", "."]),
  types: () => run("tsc", ["--noEmit", "-p", "."]),
  map: () => run(process.execPath, [join("scripts", "check-map.ts")]),
  "generated code": () => run(process.execPath, [join("scripts", "check-generated.ts")]),
  package: packed,
  // With what has just been packed.
  runtimes: () => inAllRuntimes(temporary),
  docs: () => run(process.execPath, [join("scripts", "docs.ts")]),
  guides: () => run("vitest", ["run", "--project=guides", "--reporter=minimal"]),
  "long tests": () => run("vitest", ["run", "--project=long", "--reporter=minimal"]),
  size: small
}

process.exitCode = 0
for (const [name, step] of Object.entries(steps)) {
  const passed = await step()
  console.log(`${passed ? "ok" : "FAILED"}: ${name}`)
  if (!passed) process.exitCode = 1
}
