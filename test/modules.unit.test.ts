import { execFile } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
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

const source = pathToFileURL(join(root, "src/")).href

/** Runs a module in a process of its own. */
const evaluate = (module: string, ...args: ReadonlyArray<string>) =>
  Effect.callback<{ readonly stdout: string; readonly problems: string }>((resume) => {
    const child = execFile(
      process.execPath,
      ["--conditions=effect-etcd-source", "--no-warnings", "--input-type=module", "--eval", module, ...args],
      { cwd: root },
      (error, stdout, stderr) => resume(Effect.succeed({ stdout, problems: `${error?.message ?? ""}${stderr}` }))
    )
    return Effect.sync(() => child.kill())
  })

const importAlone = (names: ReadonlyArray<string>) =>
  Effect.map(evaluate(importer, source, ...names), ({ problems }) => problems)

/** What is loaded for a program, as addresses below `src/` and as specifiers. */
const loadedBy = (program: string) =>
  Effect.map(
    evaluate(`
      import { registerHooks } from "node:module"
      registerHooks({
        load: (url, context, next) => {
          console.log(url)
          return next(url, context)
        }
      })
      const Effect = await import("effect/Effect")
      const Layer = await import("effect/Layer")
      ${program}
    `),
    ({ problems, stdout }) => {
      assert.strictEqual(problems, "")
      return stdout.trim().split("\n")
    }
  )

const sourceOf = (module: string): string => readFileSync(join(root, "src", `${module}.ts`), "utf8")

/** Those that have a service, each with the name of its shape. */
const withService = Object.keys(All).flatMap((module) => {
  const service = /^export class (\w+) extends Context\.Service<\1, (\w+)>\(\)\("effect-etcd\/(\w+)"\) \{\}$/gm
  return Array.from(sourceOf(module).matchAll(service), ([, name, shape, key]) => {
    assert.deepStrictEqual([name, key], [module, module])
    return { module, shape: shape! }
  })
})

/** Those whose service is made over a client. */
const overClient = withService.filter(({ shape }) => shape === "Service").map(({ module }) => module)

const exportsOf = (module: string): ReadonlyMap<string, unknown> =>
  new Map(Object.entries(new Map<string, object>(Object.entries(All)).get(module)!))

const functionsOf = (module: string) =>
  new Map(
    Declarations.functionsOf(module)
      .filter(({ name }) => exportsOf(module).has(name))
      .map(({ name, parameters }) => [name, parameters])
  )

describe("the modules", () => {
  it("with a service have one manner", () => {
    const sources = Object.keys(All).filter((module) => /\bContext\.Service\b/.test(sourceOf(module)))
    assert.sameMembers(
      withService.map(({ module }) => module),
      sources
    )
    for (const { module, shape } of withService) {
      for (const name of [module, "layer", shape === "Service" ? "fromClient" : "make"]) {
        assert.isTrue(exportsOf(module).has(name), `${module}.${name}`)
      }
      assert.include(Declarations.names, `${module}.${shape}`)
      // A layer takes what makes its service takes.
      const { layer = [], make } = Object.fromEntries(functionsOf(module))
      assert.deepStrictEqual(layer, shape === "Service" ? [] : make, `${module}.layer`)
    }
  })

  it("make everything that stands over a client with fromClient, which begins with the client", () => {
    const client = { name: "client", type: "EtcdClient.Client", isOptional: false }
    for (const module of Object.keys(All)) {
      for (const [name, [first]] of functionsOf(module)) {
        const what = `${module}.${name}`
        assert.strictEqual(first?.type === client.type, name === "fromClient", what)
        if (name === "fromClient") assert.deepStrictEqual(first, client, what)
      }
    }
  })

  it("say how something is done in options, the last argument", () => {
    for (const module of Object.keys(All)) {
      for (const [name, parameters] of functionsOf(module)) {
        const at = parameters.findIndex((parameter) => parameter.name === "options")
        assert.include([-1, parameters.length - 1], at, `${module}.${name}`)
      }
    }
  })

  it("do not repeat their name in those of their types", () => {
    const repeated = Declarations.names.filter((name) => {
      const [module = "", type = ""] = name.split(".")
      const thing = module.replace(/^Etcd/, "")
      const isOfFunction = functionsOf(module).has(type.replace(/Options$/, "").toLowerCase())
      return type !== thing && type.startsWith(thing) && !isOfFunction
    })
    assert.deepStrictEqual(repeated, [])
  })

  it("with a service over a client have its functions at hand", () => {
    assert.isAtLeast(overClient.length, 7)
    for (const module of overClient) {
      const exported = exportsOf(module)
      const functions = functionsOf(module)
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

  it("say what each member of a service does", () => {
    const silent = overClient.flatMap((module) => {
      const source = readFileSync(join(root, "src", `${module}.ts`), "utf8")
      const [, members = ""] = /^export interface Service \{\n([\s\S]*?)^\}/m.exec(source) ?? []
      assert.isNotEmpty(members)
      return Array.from(members.matchAll(/^(?<!\*\/\n) {2}readonly (\w+)/gm), ([, name]) => `${module}.${name}`)
    })
    assert.deepStrictEqual(silent, [])
  })

  it("of errors have reasons, and nothing that only this library makes errors with", () => {
    for (const module of [All.EtcdError, All.EtcdProcessError]) {
      const functions = Object.entries(module).filter(([, value]) => !Schema.isSchema(value))
      assert.deepStrictEqual(
        functions.map(([name]) => name),
        ["make"]
      )
    }
  })

  it.live("can each be imported alone", () =>
    Effect.gen(function* () {
      const names = readdirSync(join(root, "src"))
        .filter((name) => name.endsWith(".ts"))
        .map((name) => name.replace(/\.ts$/, ""))
      assert.isAbove(names.length, 20)
      assert.strictEqual(yield* importAlone(names), "")
    })
  )

  it.live("load nothing that runs an etcd for who only connects to one", () =>
    Effect.gen(function* () {
      const loaded = yield* loadedBy(`
        const EtcdLayer = await import("effect-etcd/EtcdLayer")
        const connected = Layer.build(EtcdLayer.connect({ endpoints: ["127.0.0.1:2379"] }))
        await Effect.runPromise(Effect.scoped(connected))
      `)
      assert.include(loaded, `${source}EtcdKv.ts`)
      const forRunning =
        /src\/(?:Role|Etcd(?:Process|ProcessError|Cluster|Config|Binary|Log))\.ts|src\/internal\/(?:process|binary|config|log)\/|platform-node|child_process/
      assert.deepStrictEqual(
        loaded.filter((url) => forRunning.test(url)),
        []
      )
    })
  )

  it.live("leave Node's own modules to who needs them", () =>
    Effect.gen(function* () {
      const loaded = yield* loadedBy(`await import("effect-etcd")`)
      assert.include(loaded, `${source}EtcdBinary.ts`)
      assert.deepStrictEqual(
        loaded.filter((url) => url.startsWith("node:")),
        []
      )
    })
  )

  it.live("leave what reads and writes messages of any kind to the first call", () =>
    Effect.gen(function* () {
      const loaded = yield* loadedBy(`
        const { EtcdClient, EtcdLayer } = await import("effect-etcd")
        const Proto = await import("effect-etcd/proto")
        const ManagedRuntime = await import("effect/ManagedRuntime")
        const runtime = ManagedRuntime.make(EtcdLayer.connect({ endpoints: ["127.0.0.1:1"] }))
        const client = runtime.runSync(EtcdClient.EtcdClient)
        console.log("made")
        const wrong = client.unary(Proto.Cluster.method.memberRemove, { ID: "1st" })
        const refused = await runtime.runPromise(Effect.flip(wrong))
        if (refused.reason._tag !== "InvalidArgument") throw refused
        await runtime.dispose()
      `)
      const all = loaded.findIndex((url) => url.endsWith("/@bufbuild/protobuf/dist/esm/index.js"))
      assert.isAbove(all, loaded.indexOf("made"))
    })
  )

  it.live("take files, paths and processes of this machine to run an etcd, and leave its terminal alone", () =>
    Effect.gen(function* () {
      const loaded = yield* loadedBy(`
        const EtcdLayer = await import("effect-etcd/EtcdLayer")
        const embedded = Layer.build(EtcdLayer.embedded({}, { binary: "/no/such/etcd" }))
        await Effect.runPromise(Effect.flip(Effect.scoped(embedded)))
      `)
      assert.include(loaded, `${source}EtcdProcess.ts`)
      assert.isTrue(loaded.some((url) => url.includes("NodeFileSystem")))
      assert.deepStrictEqual(
        loaded.filter((url) => /Terminal|Stdio|readline/.test(url)),
        []
      )
    })
  )
})
