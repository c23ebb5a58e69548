/**
 * Every option and every argument of every module, by the types that the sources declare: what makes no sense is refused
 * with what would be right, before anything is sent, and is never a defect.
 */
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as EtcdAuth from "../src/EtcdAuth.ts"
import * as EtcdBatch from "../src/EtcdBatch.ts"
import * as EtcdBinary from "../src/EtcdBinary.ts"
import type * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLease from "../src/EtcdLease.ts"
import * as EtcdMaintenance from "../src/EtcdMaintenance.ts"
import * as EtcdMembership from "../src/EtcdMembership.ts"
import * as EtcdNamespace from "../src/EtcdNamespace.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import * as EtcdStore from "../src/EtcdStore.ts"
import * as EtcdTxn from "../src/EtcdTxn.ts"
import * as EtcdWatch from "../src/EtcdWatch.ts"
import { makeWith } from "../src/internal/client/client.ts"
import { KV, Maintenance, Watch } from "../src/internal/proto/rpc_pb.ts"
import * as KeyRange from "../src/KeyRange.ts"
import * as Fake from "./support/client/fakeTransport.ts"
import * as Declarations from "./support/declarations.ts"

const huge = 1n << 64n
const noWord = ["neither", "", 1, null]
const noDuration = [-1, Number.NaN, "soon", "-1 seconds", {}, { second: 1 }, null, true]
const noBytes = [5, null, {}, ["a"]]
const noObject = [5, "text", null, ["a"]]

/** What makes no sense, by the type that the source declares. A type that is not here makes the test fail. */
const garbage: { readonly [type: string]: ReadonlyArray<unknown> } = {
  boolean: ["yes", 1, 0, null],
  number: [0, -1, 1.5, Number.NaN, "7", null],
  "number | bigint": [-1, -1n, 1.5, Number.NaN, huge, "7", null],
  bigint: [-1n, huge, 7, 1.5, "7", null],
  LeaseId: [huge, -(1n << 63n) - 1n, 7, "7", null],
  MemberId: [0n, huge, 7, "7", null],
  string: ["", " ", 5, null, {}],
  "ReadonlyArray<string>": [[], [""], [5], "http://a:1", null],
  "Duration.Input": noDuration,
  "ByteSize.Input": [0, -1, Number.NaN, 1.5, "lots", {}, null],
  "KeyRange.Bytes": noBytes,
  "KeyRange.Input": ["", new Uint8Array(0), ...noBytes],
  "Redacted.Redacted<string>": ["hunter2", 5, null, Redacted.make(5)],
  "Readonly<Record<string, string>>": ["a", [], null, { Upper: "a" }, { "grpc-timeout": "1S" }, { a: 1 }, { a: "\n" }],
  Access: noWord,
  Alarm: [null, 5, { memberId: 1n, type: "Full" }, { memberId: 0n, type: "NoSpace" }, {}],
  "Op<A>": [null, {}, "get"],
  Platform: noWord,
  F: noWord,
  Pem: [5, "", " ", "ca.pem", {}, { file: "" }, { file: 5 }],
  "Exclude<Pem, string>": [5, {}, { file: "" }, Redacted.make(""), Redacted.make("client.key")],
  Endpoints: [5, "http://a:1", null, {}, [], [5], [""], ["ftp://a"]],
  Tls: noObject,
  "Credentials | Effect.Effect<Credentials, EtcdError>": [...noObject, {}, { username: "a" }],
  "{ readonly [service in ServiceName]?: CallDefaults }": [
    ...noObject,
    { Kv: {} },
    { KV: 5 },
    { KV: { deadline: "soon" } }
  ],
  "boolean | BatchingOptions": [5, "yes", null, { maxBytes: 0 }],
  "Partial<EtcdClient.Options>": [...noObject, { deadline: "soon" }]
}

const isWords = (type: string): boolean => /^"[^"]*"( \| "[^"]*")*$/.test(type)

const garbageFor = (type: string, what: string): ReadonlyArray<unknown> => {
  if (isWords(type)) return noWord
  if (type.startsWith("Schedule.Schedule<")) return [{}, 3, "1 second", null]
  if (type.startsWith("(")) return ["text", 5, {}, null]
  const found = garbage[type.replace(/^EtcdId\.|^EtcdTxn\./, "")]
  return found ?? assert.fail(`what makes no sense for ${what}: ${type}?`)
}

/** What makes sense, for arguments. */
const sense: { readonly [type: string]: unknown } = {
  LeaseId: 7n,
  MemberId: 7n,
  bigint: 7n,
  string: "text",
  "ReadonlyArray<string>": ["http://127.0.0.1:2380"],
  "Duration.Input": "10 seconds",
  "KeyRange.Bytes": "key",
  "KeyRange.Input": "key",
  "Redacted.Redacted<string>": Redacted.make("password"),
  Access: "read",
  Alarm: { memberId: 7n, type: "NoSpace" },
  "Op<A>": EtcdTxn.get("key"),
  A: { a: 1 }
}

const senseFor = ({ name, type }: Declarations.Property): unknown =>
  type.startsWith("(") ? () => ({ a: 1 }) : name in { options: 0 } ? { revision: 1n } : sense[type]

type Run = (...args: Array<any>) => Effect.Effect<unknown, unknown, any> | Stream.Stream<unknown, unknown, any>

/** Something that takes arguments, some of which are options. */
interface Entrance {
  readonly name: string
  readonly run: Run
  readonly parameters: ReadonlyArray<Declarations.Property>
}

const isOptions = ({ name }: Declarations.Property): boolean => name === "options"

const optionsOf = (type: string): ReadonlyArray<string> => type.split(" & ")

const walked = new Set<string>()

const services = Effect.gen(function* () {
  const fake = Fake.make({ "a:1": { answer: () => Effect.fail(Fake.status(12, "unknown method")) } })
  const client = yield* makeWith(fake.transport, { endpoints: ["a:1"] })
  const store = EtcdStore.make("store/", Schema.Struct({ a: Schema.Number }))
  const made = {
    EtcdAuth: EtcdAuth.fromClient(client),
    EtcdKv: EtcdKv.fromClient(client),
    EtcdLease: yield* EtcdLease.fromClient(client),
    EtcdMaintenance: EtcdMaintenance.fromClient(client),
    EtcdMembership: EtcdMembership.fromClient(client),
    EtcdTxn: EtcdTxn.fromClient(client),
    EtcdWatch: yield* EtcdWatch.fromClient(client)
  }
  const of = (module: string, name: string, self: object): ReadonlyArray<Entrance> =>
    Declarations.propertiesOf(`${module}.${name}`).flatMap((property) => {
      const parameters = Declarations.parametersOf(property)
      if (parameters === undefined) return []
      const run = (self as { readonly [name: string]: Run })[property.name]!
      return [
        {
          name: `${module}.${property.name}`,
          run,
          parameters: parameters.map((one) =>
            isOptions(one)
              ? {
                  ...one,
                  type: optionsOf(one.type)
                    .map((part) => Declarations.resolve(module, part))
                    .join(" & ")
                }
              : one
          )
        }
      ]
    })
  const provided = <A, E>(effect: Effect.Effect<A, E, any>) =>
    effect.pipe(
      Effect.provideService(EtcdKv.EtcdKv, made.EtcdKv),
      Effect.provideService(EtcdTxn.EtcdTxn, made.EtcdTxn),
      Effect.provideService(EtcdWatch.EtcdWatch, made.EtcdWatch),
      Effect.provide([NodeServices.layer, FetchHttpClient.layer]),
      Effect.scoped
    ) as Effect.Effect<A, E>
  const takingOptions = (name: string, type: string, run: Run): Entrance => ({
    name,
    run,
    parameters: [{ name: "options", type }]
  })
  const commit = (op: EtcdTxn.Op<unknown>) => made.EtcdTxn.commit(op)
  const key = "key"
  const entrances: ReadonlyArray<Entrance> = [
    ...Object.entries(made).flatMap(([module, self]) => of(module, "Service", self)),
    ...of("EtcdStore", "Store", store),
    takingOptions("unary", "EtcdClient.CallOptions", (options) => client.unary(KV.method.range, {}, options)),
    takingOptions("stream", "EtcdClient.CallOptions", (options) =>
      client.serverStream(Maintenance.method.snapshot, {}, options)
    ),
    takingOptions("duplex", "EtcdClient.CallOptions", (options) => client.bidirectional(Watch.method.watch, options)),
    takingOptions("EtcdClient.make", "EtcdClient.Options", (options) =>
      makeWith(
        fake.transport,
        typeof options === "object" && options !== null ? { endpoints: ["a:1"], ...options } : options
      )
    ),
    takingOptions("defaults", "EtcdClient.CallDefaults", (options) =>
      makeWith(fake.transport, { endpoints: ["a:1"], services: { KV: options } })
    ),
    takingOptions("tls", "EtcdClient.Tls", (tls) => makeWith(fake.transport, { endpoints: ["https://a:1"], tls })),
    takingOptions("credentials", "EtcdClient.Credentials", (given) =>
      makeWith(fake.transport, {
        endpoints: ["a:1"],
        credentials: { username: "a", password: Redacted.make("b"), ...given }
      })
    ),
    takingOptions("credentials of an effect", "EtcdClient.Credentials", (given) => {
      const credentials = Effect.succeed({ username: "a", password: Redacted.make("b"), ...given })
      return Effect.flatMap(makeWith(fake.transport, { endpoints: ["a:1"], credentials }), (client) =>
        client.unary(KV.method.range, {})
      )
    }),
    takingOptions("batching", "EtcdClient.BatchingOptions", (batching) =>
      makeWith(fake.transport, { endpoints: ["a:1"], batching })
    ),
    takingOptions("EtcdBatch", "EtcdClient.BatchingOptions", (options) => EtcdBatch.fromClient(client, options)),
    takingOptions("EtcdStore.make", "EtcdStore.Options", (options) => EtcdStore.make("a/", Schema.Any, options).list()),
    takingOptions("EtcdTxn.get", "EtcdTxn.ReadOptions", (options) => commit(EtcdTxn.get(key, options))),
    takingOptions("EtcdTxn.getString", "EtcdTxn.ReadOptions", (options) => commit(EtcdTxn.getString(key, options))),
    takingOptions("EtcdTxn.range", "EtcdTxn.RangeOptions", (options) => commit(EtcdTxn.range(key, options))),
    takingOptions("EtcdTxn.put", "EtcdTxn.PutOptions", (options) => commit(EtcdTxn.put(key, "", options))),
    takingOptions("EtcdTxn.delete", "EtcdTxn.DeleteOptions", (options) => commit(EtcdTxn.delete(key, options))),
    takingOptions("EtcdTxn.deletePrefix", "EtcdTxn.DeleteOptions", (options) =>
      commit(EtcdTxn.deletePrefix(key, options))
    ),
    takingOptions("EtcdProcess.make", "EtcdProcess.Options", (options) => EtcdProcess.make({}, options)),
    takingOptions("EtcdCluster.make", "EtcdCluster.Options", (options) => EtcdCluster.make(options)),
    takingOptions("EtcdBinary.find", "EtcdBinary.FindOptions", (options) => EtcdBinary.find(options)),
    takingOptions("EtcdBinary.fetch", "EtcdBinary.FetchOptions", (options) => EtcdBinary.fetch(options))
  ]
  return { client, entrances, fake, provided }
})

/** What may be zero, and what has checks of its own. */
const allowed = (option: string, value: unknown): boolean =>
  (value === 0 && (option === "deadline" || option === "gracePeriod")) || option === "config"

const refusalOf = Effect.fnUntraced(function* (
  run: () => ReturnType<Run>,
  provided: (effect: any) => Effect.Effect<any, any>
) {
  const made = Effect.suspend((): Effect.Effect<unknown, unknown, any> => {
    const result = run()
    return Stream.isStream(result)
      ? Stream.runDrain(result as Stream.Stream<unknown, unknown, any>)
      : (result as Effect.Effect<unknown, unknown, any>)
  })
  const exit: Exit.Exit<unknown, any> = yield* Effect.exit(provided(made))
  if (Exit.isSuccess(exit)) return "it is taken"
  const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
  if (error === undefined) return `it is a defect: ${Cause.pretty(exit.cause)}`
  const tag = error.reason?._tag
  return tag === "InvalidArgument" || tag === "InvalidConfig"
    ? { message: String(error.message) }
    : `it fails with ${error.message}`
})

describe("what makes no sense", () => {
  it.effect("is refused by every option of every module", () =>
    Effect.gen(function* () {
      const { entrances, fake, provided } = yield* services
      let tried = 0
      for (const { name, parameters, run } of entrances) {
        const args = parameters.map(senseFor)
        for (const [index, parameter] of parameters.entries()) {
          if (!isOptions(parameter)) continue
          for (const type of optionsOf(parameter.type)) {
            walked.add(type)
            for (const option of Declarations.propertiesOf(type)) {
              const what = `${name}: ${type}.${option.name}`
              // What a store decodes it must not leave out.
              if (option.type === "undefined") continue
              if (option.name === "config") continue
              const values = [...garbageFor(option.type, what), ...(option.type === "Duration.Input" ? [0] : [])]
              for (const value of values) {
                if (allowed(option.name, value)) continue
                const base = typeof args[index] === "object" ? args[index] : {}
                const own = type.includes("Expected") || parameter.type.includes("Expected") ? base : {}
                const given = args.map((arg, at) => (at === index ? { ...own, [option.name]: value } : arg))
                const refusal = yield* refusalOf(() => run(...given), provided)
                const told = `${what} is ${String(typeof value === "object" ? JSON.stringify(value) : value)}`
                if (typeof refusal === "string") return assert.fail(`${told}: ${refusal}`)
                assert.include(refusal.message.toLowerCase(), option.name.toLowerCase().replace(/s$/, ""), told)
                assert.notInclude(refusal.message, "hunter2")
                tried++
              }
            }
          }
          for (const none of [null, 5, "text"]) {
            const given = args.map((arg, at) => (at === index ? none : arg))
            if (name.startsWith("credentials")) continue
            const refusal = yield* refusalOf(() => run(...given), provided)
            if (typeof refusal === "string") return assert.fail(`${name} with ${none} as options: ${refusal}`)
          }
        }
      }
      assert.isAbove(tried, 1000)
      assert.deepStrictEqual(
        fake.sent.map(({ path }) => path),
        []
      )
    })
  )

  it("is there for every interface of options", () => {
    const others = new Set([
      // A pure function of lines, which has no way to refuse.
      "EtcdLog.LineOptions",
      // etcd's own options have a table, and tests of it.
      "EtcdConfig.EtcdOptions",
      // Is part of those that are walked through.
      "EtcdStore.InvalidOptions"
    ])
    const all = Declarations.names.filter((name) => /(Options|Defaults|Expected|Credentials|Tls)$/.test(name))
    assert.isAbove(all.length, 25)
    assert.deepStrictEqual(
      all.filter((name) => !walked.has(name) && !others.has(name)),
      []
    )
  })

  it.effect("is refused by every argument of every module", () =>
    Effect.gen(function* () {
      const { client, entrances, fake, provided } = yield* services
      let tried = 0
      for (const { name, parameters, run } of entrances) {
        const args = parameters.map(senseFor)
        for (const [index, parameter] of parameters.entries()) {
          // The value of a store is its schema's.
          if (isOptions(parameter) || parameter.type === "A") continue
          for (const value of garbageFor(parameter.type, `${name}: ${parameter.name}`)) {
            const given = args.map((arg, at) => (at === index ? value : arg))
            const refusal = yield* refusalOf(() => run(...given), provided)
            if (typeof refusal === "string")
              return assert.fail(`${name}: ${parameter.name} is ${String(value)}: ${refusal}`)
            assert.notInclude(refusal.message, "hunter2")
            tried++
          }
        }
      }
      assert.isAbove(tried, 100)
      for (const prefix of [5, null, {}]) {
        const inside = EtcdKv.fromClient(EtcdNamespace.fromClient(client, prefix as never))
        assert.strictEqual((yield* Effect.flip(inside.get("key"))).reason._tag, "InvalidArgument")
        const store = EtcdStore.make(prefix as never, Schema.String)
        assert.isObject(yield* refusalOf(() => store.list(), provided))
      }
      assert.deepStrictEqual(
        fake.sent.map(({ path }) => path),
        []
      )
    })
  )

  it.effect("is refused by every comparison of a transaction", () =>
    Effect.gen(function* () {
      const { client } = yield* services
      const txn = EtcdTxn.fromClient(client)
      const compares: ReadonlyArray<() => EtcdTxn.Compare> = [
        () => EtcdTxn.value("").equals("a"),
        () => EtcdTxn.value("a").equals(5 as never),
        () => EtcdTxn.version("a").equals(1 as never),
        () => EtcdTxn.createRevision("a").lessThan(-1n),
        () => EtcdTxn.modRevision("a").greaterThan(huge),
        () => EtcdTxn.lease("a").notEquals(7 as never),
        () => EtcdTxn.exists(5 as never),
        () => EtcdTxn.missing(KeyRange.single(""))
      ]
      for (const [index, compare] of compares.entries()) {
        const given = [EtcdTxn.exists("fine"), compare()]
        const { message, reason } = yield* Effect.flip(txn.commit(EtcdTxn.make({ compare: given })))
        assert.strictEqual(reason._tag, "InvalidArgument", String(index))
        assert.match(message, /^compare\[1\]: EtcdTxn\.\w+: .* has to be /)
      }
    })
  )
})

describe("what makes sense", () => {
  it.effect("is taken: no limit, now, no lease, for ever, no time at all", () =>
    Effect.gen(function* () {
      const sent: Array<Fake.Sent> = []
      const fake = Fake.make({
        "a:1": {
          answer: (call) =>
            Effect.sync(() => {
              sent.push(call)
              return new Uint8Array(0)
            })
        }
      })
      const client = yield* makeWith(fake.transport, {
        endpoints: ["a:1"],
        deadline: Number.POSITIVE_INFINITY,
        memberRefresh: "Infinity",
        connectTimeout: "Infinity",
        keepAliveInterval: "Infinity",
        keepAliveTimeout: "Infinity",
        maxReceiveMessageSize: Number.POSITIVE_INFINITY,
        services: { KV: { retry: Schedule.recurs(0) }, Lease: { deadline: "1 minute" } },
        batching: { maxBytes: "1 MiB", maxOperations: Number.POSITIVE_INFINITY, maxInFlight: Number.POSITIVE_INFINITY }
      })
      const kv = EtcdKv.fromClient(client)
      const taken: ReadonlyArray<Effect.Effect<unknown, { readonly reason: { readonly _tag: string } }>> = [
        kv.range("a", { limit: Number.POSITIVE_INFINITY, minModRevision: 0n }),
        kv.range(KeyRange.interval("b", "a"), { limit: 0n, order: "descending" }),
        kv.get("a", { revision: 0n, deadline: "Infinity", metadata: { "x-tenant": "a" } }),
        kv.put("a", "", { lease: 0n as never }),
        kv.put("a", new Uint8Array(0), { lease: 0xffff_ffff_ffff_fff0n as never }),
        kv.deletePrefix(""),
        Stream.runDrain(kv.stream(KeyRange.all, { pageSize: Number.POSITIVE_INFINITY })),
        EtcdTxn.fromClient(client).commit(EtcdTxn.all({ 1: EtcdTxn.get("a") }))
      ]
      for (const [index, effect] of taken.entries()) {
        const exit = yield* Effect.exit(effect)
        const error = Exit.isFailure(exit) ? Option.getOrUndefined(Cause.findErrorOption(exit.cause)) : undefined
        assert.notStrictEqual(error?.reason._tag, "InvalidArgument", `${index}: ${String(error)}`)
        if (Exit.isFailure(exit)) assert.isDefined(error, Cause.pretty(exit.cause))
      }
      assert.isAbove(sent.length, 6)
      const late: EtcdClient.CallOptions = { deadline: 0 }
      assert.strictEqual((yield* Effect.flip(kv.get("a", late))).reason._tag, "DeadlineExceeded")
    })
  )
})
