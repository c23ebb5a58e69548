import { execFile } from "node:child_process"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { indexes, indexOf, modules, nameOf, specifierOf } from "../scripts/modules.ts"
import * as Coordination from "../src/coordination/index.ts"
import * as Library from "../src/index.ts"
import * as Testing from "../src/testing/index.ts"
import * as Declarations from "./support/declarations.ts"
import * as Documentation from "./support/documentation.ts"

const root = join(import.meta.dirname, "..")

/** What each index names. */
const rooms: { readonly [index: string]: object } = {
  index: Library,
  "coordination/index": Coordination,
  "testing/index": Testing
}

const All: { readonly [module: string]: object } = { ...Library, ...Coordination, ...Testing }

/**
 * Imports each module as if it were the first of this package that is imported: all that it imports of the package is
 * evaluated anew. Told are those that cannot be.
 */
const importer = `
  import { registerHooks, stripTypeScriptTypes } from "node:module"
  const [source, ...specifiers] = process.argv.slice(1)
  // Types are the same each time.
  const stripped = new Map()
  registerHooks({
    resolve: (specifier, context, next) => {
      const resolved = next(specifier, context)
      const [, alone] = (context.parentURL ?? "").split("?")
      return alone !== undefined && resolved.url.startsWith(source) && !resolved.url.includes("?")
        ? { ...resolved, url: resolved.url + "?" + alone }
        : resolved
    },
    load: (url, context, next) => {
      const [file, alone] = url.split("?")
      if (alone === undefined) return next(url, context)
      if (!stripped.has(file)) stripped.set(file, stripTypeScriptTypes(String(next(url, context).source)))
      return { format: "module", source: stripped.get(file), shortCircuit: true }
    }
  })
  for (const specifier of specifiers) {
    const url = import.meta.resolve(specifier)
    await import(url + "?" + specifier).catch((error) => console.error(specifier, error))
    console.log(url)
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

const { textOf } = Declarations

/** Those that have a service of their name, each with the name of its shape. */
const withService = modules.flatMap((place) => {
  const service = /^export class (\w+) extends Context\.Service<\1, (\w+)>\(\)\("effect-etcd\/([\w/]+)"\) \{\}$/gm
  const module = nameOf(place)
  return Array.from(textOf(module).matchAll(service)).flatMap(([, name, shape, key]) => {
    if (name !== module) return []
    assert.strictEqual(key, place)
    return [{ module, shape: shape! }]
  })
})

/** What there is to run an etcd. */
const forRunning =
  /src\/(?:Role|Etcd(?:Process|ProcessError|Cluster|Config|Binary|Log))\.ts|src\/internal\/(?:process|binary|config|log)\/|platform-node|child_process/

/** Those whose service is made over a client. */
const overClient = withService.filter(({ shape }) => shape === "Service").map(({ module }) => module)

const exportsOf = (module: string): ReadonlyMap<string, unknown> => new Map(Object.entries(All[module] ?? {}))

const functionsOf = (module: string) =>
  new Map(
    Declarations.functionsOf(module)
      .filter(({ name }) => exportsOf(module).has(name))
      .map(({ name, parameters }) => [name, parameters])
  )

describe("the modules", () => {
  it("are named by the index of their folder, with names that no other folder has", () => {
    assert.sameMembers(Object.keys(rooms), [...indexes])
    const named = modules.filter((place) => place !== "proto")
    for (const [index, exported] of Object.entries(rooms)) {
      assert.sameMembers(Object.keys(exported), named.filter((place) => indexOf(place) === index).map(nameOf), index)
    }
    assert.strictEqual(new Set(modules.map(nameOf)).size, modules.length)
  })

  it("with a service have one manner", () => {
    // Above the library some have services of other names, which what they run may use.
    const sources = Object.keys(Library).filter((module) => /\bContext\.Service\b/.test(textOf(module)))
    assert.includeMembers(
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
        // How it is done comes last, and may be left out; with what is built on the calls of etcd that is settled before.
        if (!Object.hasOwn(Library, module)) continue
        const last = parameters.at(-1)!
        assert.strictEqual(last.name, "options", what)
        assert.isTrue(last.isOptional, what)
      }
    }
  })

  it("with a layer that takes options have one that takes them from Effect's Config", () => {
    /** What they take is no option, and a program says it itself. */
    const positional = [
      "EtcdNamespace.layer", // a prefix, and services
      "EtcdLayer.namespace", // a prefix
      "EtcdElection.layerWhileElected" // what is run, an election, and what its leader is known by
    ]
    const walked: Array<string> = []
    const missing = modules.flatMap((place) => {
      const module = nameOf(place)
      const functions = functionsOf(module)
      return Documentation.exported
        .filter((one) => one.module === module && one.isFunction && /(?:\)|=>)(?:: | )Layer\.Layer</.test(one.type))
        .flatMap(({ name }) => {
          const id = `${module}.${name}`
          walked.push(id)
          if (positional.includes(id)) return []
          const options = functions.get(name)?.find((parameter) => parameter.name === "options")?.type
          if (options === undefined) return [`${id} has no options, nor a reason to have none`]
          if (name.endsWith("Config")) {
            return /^(?:EtcdClient\.)?ConfigOf</.test(options) ? [] : [`${id} takes its options as they are`]
          }
          const beside = `${name.replace(/With$/, "")}Config`
          return functions.has(beside) ? [] : [`${module}.${beside}`]
        })
    })
    assert.includeMembers(walked, [...positional, "EtcdFaults.layer", "EtcdLayer.fromConfig", "EtcdSession.layerWith"])
    assert.deepStrictEqual(missing, [])
  })

  it("of errors have reasons, what can be asked of them, and nothing that only this library makes errors with", () => {
    for (const module of [Library.EtcdError, Library.EtcdProcessError]) {
      const functions = Object.entries(module).filter(([, value]) => !Schema.isSchema(value))
      assert.deepStrictEqual(
        functions.map(([name]) => name).filter((name) => !name.startsWith("is")),
        ["make"]
      )
    }
  })

  it.live("can each be imported alone", () =>
    Effect.gen(function* () {
      const places = [...indexes, ...modules]
      assert.isAbove(places.length, 20)
      const { problems, stdout } = yield* evaluate(importer, source, ...places.map(specifierOf))
      assert.strictEqual(problems, "")
      assert.deepStrictEqual(
        stdout.trim().split("\n"),
        places.map((place) => `${source}${place}.ts`)
      )
    })
  )

  it.live("load nothing of what is built on them", () =>
    Effect.gen(function* () {
      const loaded = yield* loadedBy(`await import("effect-etcd")`)
      assert.include(loaded, `${source}EtcdKv.ts`)
      assert.deepStrictEqual(
        loaded.filter((url) => /src\/(?:coordination|testing|internal\/(?:coordination|faults))\//.test(url)),
        []
      )
    })
  )

  it.live("that are built on a client alone load nothing that runs an etcd", () =>
    Effect.gen(function* () {
      const loaded = yield* loadedBy(`await import("effect-etcd/coordination")`)
      assert.include(loaded, `${source}coordination/index.ts`)
      assert.deepStrictEqual(
        loaded.filter((url) => forRunning.test(url)),
        []
      )
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
