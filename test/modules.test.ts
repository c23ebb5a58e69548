import { execFile } from "node:child_process"
import { readdirSync } from "node:fs"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as All from "../src/index.ts"
import * as Declarations from "./support/declarations.ts"

const root = join(import.meta.dirname, "..")

/**
 * Imports each module as if it were the first of this package that is imported: all that it imports of the package is
 * evaluated anew. Told are those that cannot be.
 */
const importer = `
  import { registerHooks } from "node:module"
  const [source, ...names] = process.argv.slice(1)
  registerHooks({
    resolve: (specifier, context, next) => {
      const resolved = next(specifier, context)
      const [, alone] = (context.parentURL ?? "").split("?")
      return alone !== undefined && resolved.url.startsWith(source) && !resolved.url.includes("?")
        ? { ...resolved, url: resolved.url + "?" + alone }
        : resolved
    }
  })
  for (const name of names) {
    const url = import.meta.resolve(name === "index" ? "effect-etcd" : "effect-etcd/" + name)
    await import(url + "?" + name).catch((error) => console.error(name, error))
    if (url !== source + name + ".ts") console.error(name, url)
  }
`

const importAlone = (names: ReadonlyArray<string>) =>
  Effect.callback<string>((resume) => {
    const source = pathToFileURL(join(root, "src/")).href
    const child = execFile(
      process.execPath,
      ["--conditions=effect-etcd-source", "--no-warnings", "--input-type=module", "--eval", importer, source, ...names],
      { cwd: root },
      (error, _stdout, stderr) => resume(Effect.succeed(`${error?.message ?? ""}${stderr}`))
    )
    return Effect.sync(() => child.kill())
  })

/** Those whose service is made over a client. */
const overClient = ["EtcdAuth", "EtcdKv", "EtcdLease", "EtcdMaintenance", "EtcdMembership", "EtcdTxn", "EtcdWatch"]

describe("the modules", () => {
  it("with a service over a client have one manner", () => {
    const all = new Map<string, object>(Object.entries(All))
    for (const module of overClient) {
      const exported = new Map(Object.entries(all.get(module)!))
      for (const name of ["fromClient", "layer", module]) assert.isTrue(exported.has(name), `${module}.${name}`)
      const functions = new Map(Declarations.functionsOf(module).map((one) => [one.name, one.parameters]))
      for (const property of Declarations.propertiesOf(`${module}.Service`)) {
        const what = `${module}.${property.name}`
        assert.isTrue(exported.has(property.name), `${what} is there without its service at hand`)
        const parameters = Declarations.parametersOf(property)
        if (parameters === undefined) continue
        assert.deepStrictEqual(functions.get(property.name), parameters, what)
        // How it is done comes last, and may be left out.
        const last = parameters.at(-1)!
        assert.strictEqual(last.name, "options", what)
        assert.isTrue(last.isOptional, what)
      }
    }
  })

  it.live(
    "can each be imported alone",
    () =>
      Effect.gen(function* () {
        const names = readdirSync(join(root, "src"))
          .filter((name) => name.endsWith(".ts"))
          .map((name) => name.replace(/\.ts$/, ""))
        assert.isAbove(names.length, 20)
        assert.strictEqual(yield* importAlone(names), "")
      }),
    60_000
  )
})
