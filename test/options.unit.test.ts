/**
 * Every option and every argument of every module of the library itself, by the types that the sources declare: what makes no sense is refused
 * with what would be right, before anything is sent, and is never a defect.
 */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Option from "effect/Option"
import type { PlatformError } from "effect/PlatformError"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as SemVer from "effect/SemVer"
import * as Sink from "effect/Sink"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { expectTypeOf } from "vitest"
import * as EtcdElection from "../src/coordination/EtcdElection.ts"
import * as EtcdLock from "../src/coordination/EtcdLock.ts"
import * as EtcdMirror from "../src/coordination/EtcdMirror.ts"
import * as EtcdSemaphore from "../src/coordination/EtcdSemaphore.ts"
import * as EtcdSession from "../src/coordination/EtcdSession.ts"
import * as EtcdStm from "../src/coordination/EtcdStm.ts"
import * as EtcdAuth from "../src/EtcdAuth.ts"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdConfig from "../src/EtcdConfig.ts"
import * as EtcdError from "../src/EtcdError.ts"
import * as EtcdId from "../src/EtcdId.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLease from "../src/EtcdLease.ts"
import * as EtcdMaintenance from "../src/EtcdMaintenance.ts"
import * as EtcdMembership from "../src/EtcdMembership.ts"
import * as EtcdNamespace from "../src/EtcdNamespace.ts"
import type * as EtcdProcessError from "../src/EtcdProcessError.ts"
import * as EtcdResponse from "../src/EtcdResponse.ts"
import * as EtcdStore from "../src/EtcdStore.ts"
import * as EtcdTxn from "../src/EtcdTxn.ts"
import * as EtcdWatch from "../src/EtcdWatch.ts"
import * as All from "../src/index.ts"
import { makeWith } from "../src/internal/client/client.ts"
import type { Fleet } from "../src/internal/cluster/fleet.ts"
import { fromFleet } from "../src/internal/cluster/value.ts"
import * as Options from "../src/internal/options.ts"
import { KV, Maintenance, Watch } from "../src/internal/proto/rpc_pb.ts"
import * as KeyRange from "../src/KeyRange.ts"
import * as EtcdFaults from "../src/testing/EtcdFaults.ts"
import * as Fake from "./support/client/fakeTransport.ts"
import * as Declarations from "./support/declarations.ts"

const huge = 1n << 64n
const noWord = ["neither", "", 1, null]
const noDuration = [
  -1,
  Number.NaN,
  "soon",
  "-1 seconds",
  {},
  { second: 1 },
  { seconds: 1, minuts: 5 },
  { seconds: "1" },
  { seconds: Number.NaN },
  [Number.NaN, 0],
  new Map([["seconds", 5]]),
  new Uint8Array(2),
  null,
  true
]
const noBytes = [5, null, {}, ["a"], "\ud800", "a\udfff"]
const noObject = [5, "text", null, ["a"], new Map([["deadline", 5]])]

const wiped = Redacted.make("hunter2")
Redacted.wipeUnsafe(wiped)

const version = SemVer.parseUnsafe("3.5.30")

/** What makes no sense, by the type that the source declares. A type that is not here makes the test fail. */
const garbage: { readonly [type: string]: ReadonlyArray<unknown> } = {
  boolean: ["yes", 1, 0, null],
  number: [0, -1, 1.5, Number.NaN, 7n, "7", null],
  "number | bigint": [-1, -1n, 1.5, Number.NaN, huge, "7", null],
  bigint: [-1n, huge, 7, 1.5, "7", null],
  LeaseId: [huge, -(1n << 63n) - 1n, EtcdId.LeaseId(huge), 7, EtcdId.LeaseId(7 as never), "7", null],
  ClusterId: [0n, huge, EtcdId.ClusterId(huge), 7, "7", null],
  MemberId: [0n, huge, EtcdId.MemberId(huge), 7, "7", null],
  MemberRef: ["", " ", "\ud800", 5, null, 0n, huge, {}],
  "EtcdOperations.MemberRef": ["", " ", "\ud800", 5, null, 0n, huge, {}],
  "string | false": ["", " ", 5, null, {}, true, "\ud800"],
  string: ["", " ", 5, null, {}, "\ud800"],
  "ReadonlyArray<string>": [[], [""], [5], ["\ud800"], ["http://a:1", "http://a:1"], "http://a:1", null],
  "Duration.Input": noDuration,
  "ByteSize.Input": [0, -1, Number.NaN, 1.5, "lots", {}, null],
  "KeyRange.Bytes": noBytes,
  "KeyRange.Input": [
    "",
    new Uint8Array(0),
    ...noBytes,
    ...noBytes.map((none) => KeyRange.single(none as never)),
    { ...KeyRange.all, key: "a" },
    { ...KeyRange.all, end: 5 }
  ],
  "Redacted.Redacted<string>": ["hunter2", 5, null, Redacted.make(5), Redacted.make(""), wiped],
  "EtcdBinary.Input": ["", 5, null, {}, { fetch: null }, { fetch: { version: "newest" } }, { fetch: {}, path: "etcd" }],
  "EtcdBinary.EtcdBinary": [
    "etcd",
    null,
    {},
    { path: "etcd" },
    { path: "", version },
    { path: "etcd", version: "3.5.30" }
  ],
  Input: ["", 5, null, {}, { fetch: null }, { fetch: { version: "newest" } }],
  Keep: [null, 5, {}, [], { last: 0 }, { last: 1.5 }, { within: -1 }, { first: 1 }, { last: 1, first: 1 }],
  "Sink.Sink<A, Uint8Array, unknown, E, R>": [null, 5, {}, "file"],
  "Readonly<Record<string, string>>": [
    "a",
    [],
    null,
    { Upper: "a" },
    { "grpc-timeout": "1S" },
    { a: 1 },
    { a: "\n" },
    new Map([["a", "b"]]),
    new Headers({ a: "b" })
  ],
  "Record.ReadonlyRecord<string, string>": ["a", [], null, { ETCD_NAME: "a" }, { "a=b": "c" }, { A: 5 }, { A: "\0" }],
  Access: noWord,
  Mode: noWord,
  Isolation: noWord,
  // The schedule of a transaction.
  S: [{}, 3, "1 second", null],
  "EtcdMaintenance.Alarm": [null, 5, { memberId: 1n, type: "Full" }, { memberId: 0n, type: "NoSpace" }, {}],
  "Op<A>": [null, {}, "get"],
  // URLs of members.
  peerUrls: [["nonsense"], ["ftp://a:1"], ["http://a"], ["http://a:1/b"], [" http://a:1"], ["http://a:99999"]],
  // Branches and comparisons.
  B: [null, 5, "ab", new Map(), [null], { a: 5 }, { 1: EtcdTxn.get("a"), a: EtcdTxn.get("b") }],
  "Transaction<Success, Failure>": [
    ...noObject,
    {},
    { compare: null },
    { compare: 5 },
    { compare: [null] },
    { compare: [], success: null },
    { compare: [], success: 5 },
    { compare: [], failure: [null] },
    { compare: [], sucess: [EtcdTxn.put("a", "b")] }
  ],
  "ReadonlyArray<Compare>": [null, 5, "text", {}, new Map(), [null], [EtcdTxn.exists("a"), EtcdTxn.get("a")]],
  "LeaseId | 0n": [huge, 7, "7", null],
  "EtcdConfig.Input": [...noObject, { nam: "a" }, { electionTimeout: "soon" }],
  "Array.NonEmptyReadonlyArray<EtcdConfig.Input>": [5, null, {}, [], [null], [{}, { nam: "a" }]],
  "EtcdConfig.Context": [
    ...noObject,
    {},
    { version: "3.5.30", dataDir: "/data" },
    { version, dataDir: 5 },
    { version, dataDir: "/data", directory: 5 },
    { version, dataDir: "/data", dir: "/" }
  ],
  Schema: [null, 5, {}, "text"],
  // Where the others are.
  Peers: [5, null, "http://a:1", {}, [5], [""], ["nonsense"], { srv: 5 }, { srv: "" }, { srv: "a", names: "b" }],
  // What a program is made of, and nothing that a user writes.
  "EtcdClient.Client": [],
  "Layer.Layer<A, E, R>": [],
  Platform: noWord,
  F: noWord,
  Pem: [5, "", " ", "ca.pem", {}, { file: "" }, { file: 5 }, wiped],
  "Exclude<Pem, string>": [5, {}, { file: "" }, Redacted.make(""), Redacted.make("client.key"), wiped],
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
  'Partial<Omit<EtcdClient.Options, "endpoints">>': [
    ...noObject,
    { deadline: "soon" },
    { deadlin: "1 second" },
    { endpoints: ["a:1"] }
  ]
}

const isWords = (type: string): boolean => /^"[^"]*"( \| "[^"]*")*$/.test(type)

const garbageFor = (type: string, what: string): ReadonlyArray<unknown> => {
  if (isWords(type)) return noWord
  if (type.startsWith("Schedule.Schedule<")) return [{}, 3, "1 second", null]
  if (type.startsWith("(")) return ["text", 5, {}, null]
  const found = garbage[type.replace(/^EtcdId\.|^EtcdTxn\./, "")] ?? garbage[`KeyRange.${type}`]
  return found ?? assert.fail(`what makes no sense for ${what}: ${type}?`)
}

/** What makes sense, for arguments. */
const sense: { readonly [type: string]: unknown } = {
  LeaseId: 7n,
  MemberId: 7n,
  MemberRef: "node0",
  "EtcdOperations.MemberRef": "node0",
  "string | false": false,
  Keep: { last: 1 },
  "Sink.Sink<A, Uint8Array, unknown, E, R>": Sink.drain,
  "Schedule.Schedule<unknown, unknown, E, R>": Schedule.recurs(0),
  bigint: 7n,
  string: "text",
  "ReadonlyArray<string>": ["http://127.0.0.1:2380"],
  "Duration.Input": "10 seconds",
  "KeyRange.Bytes": "key",
  "KeyRange.Input": "key",
  "Redacted.Redacted<string>": Redacted.make("password"),
  Access: "read",
  "EtcdMaintenance.Alarm": { memberId: 7n, type: "NoSpace" },
  "Op<A>": EtcdTxn.get("key"),
  A: { a: 1 },
  B: [EtcdTxn.get("key")],
  "Transaction<Success, Failure>": { compare: [] },
  "EtcdConfig.Input": {},
  "Array.NonEmptyReadonlyArray<EtcdConfig.Input>": [{}],
  "EtcdConfig.Context": { version, dataDir: "/data" },
  Schema: Schema.Struct({ a: Schema.Number }),
  "Layer.Layer<A, E, R>": EtcdKv.layer,
  "EtcdBinary.EtcdBinary": { path: "/nowhere/etcd", version }
}

/** What a parameter takes as Effect's `Config`, as if it took it as it is; the same parameter where it does not. */
const unwrapped = (parameter: Declarations.Property): Declarations.Property => {
  const [, type] = /^(?:EtcdClient\.)?ConfigOf<(.*)>$/.exec(parameter.type) ?? []
  return type === undefined ? parameter : { ...parameter, type }
}

/** What some options cannot do without. */
const baseOf = (type: string): object | undefined =>
  type.includes("Expected")
    ? { revision: 1n }
    : {
        "EtcdClient.Options": { endpoints: ["a:1"] },
        "EtcdSemaphore.Options": { permits: 7 },
        "EtcdCluster.UpgradeOptions": { binary: "/nowhere/etcd", backup: false },
        "EtcdCluster.DowngradeOptions": { binary: "/nowhere/etcd" },
        // Nobody is asked, and nothing made, before there is an executable.
        "EtcdCluster.RestoreDataOptions": { dataDir: "/dev/null/data", binary: "/nowhere/etcd" },
        "EtcdCluster.RecoverDataOptions": { dataDir: "/dev/null/data", binary: "/nowhere/etcd" },
        "EtcdMember.Options": {
          name: "a",
          dataDir: "/dev/null/data",
          peerUrl: "https://127.0.0.1:1",
          clientUrl: "http://127.0.0.1:1",
          peers: ["https://127.0.0.1:1"],
          size: 1,
          binary: "/nowhere/etcd"
        }
      }[type]

type Run = (...args: Array<any>) => Effect.Effect<unknown, unknown, any> | Stream.Stream<unknown, unknown, any>

/** Something that takes arguments, some of which are options. */
interface Entrance {
  readonly name: string
  readonly run: Run
  readonly parameters: ReadonlyArray<Declarations.Property>
}

const isOptions = ({ name, type }: Declarations.Property): boolean => name === "options" && type !== "EtcdConfig.Input"

const optionsOf = (type: string): ReadonlyArray<string> => type.split(" & ")

const walked = new Set<string>()

/** Functions in which nobody can be told of anything, since they neither run nor fail. */
const cannotRefuse = new Set([
  // Values of values.
  ...["MemberId", "ClusterId", "LeaseId", "format", "parse"].map((name) => `EtcdId.${name}`),
  ...["toBytes", "prefixEnd", "isKeyRange", "fromInput"].map((name) => `KeyRange.${name}`),
  ...["toFlags", "toEnvironment", "endpoints", "showsRole", "ephemeral"].map((name) => `EtcdConfig.${name}`),
  ...["parse", "makeLineReader", "fromLine", "decode", "decodeWith", "explain"].map((name) => `EtcdLog.${name}`),
  "EtcdStore.isStore",
  "EtcdResponse.toJson",
  "EtcdTxn.isOp",
  // The name of any metric.
  "EtcdTelemetry.prometheusName",
  // Errors.
  ...["make", "isTransient", "isRetryable", "isOutcomeUnknown", "isAuth", "isNotFound", "isAlreadyExists"].map(
    (name) => `EtcdError.${name}`
  ),
  "EtcdProcessError.make",
  "EtcdMemberError.make",
  // They take a node or its state, and what they run.
  ...["initial", "fold", "stopped", "fromStatus", "changes", "whileLeader", "onTransition"].map(
    (name) => `Role.${name}`
  ),
  // They take a client, or nothing but a layer.
  ...["EtcdAuth", "EtcdKv", "EtcdLease", "EtcdMaintenance", "EtcdMembership", "EtcdTxn", "EtcdWatch"].map(
    (module) => `${module}.fromClient`
  ),
  // Fails as Effect's Config does: see below.
  ...["EtcdConfig.config", "EtcdLayer.fromConfig"]
])

/** A cluster of which nobody can be reached. */
const unreached = Effect.gen(function* () {
  const seen = { name: "node0", version, endpoints: ["http://127.0.0.1:1"], pid: Effect.succeedNone }
  const node = seen as unknown as All.EtcdProcess.Node
  const fleet = {
    binaryOf: () => "/nowhere/etcd",
    platform: yield* Effect.context(),
    members: yield* SubscriptionRef.make([node]),
    opened: yield* SubscriptionRef.make([node])
  }
  return fromFleet(fleet as unknown as Fleet, { client: { retry: Schedule.recurs(0) } })
}).pipe(Effect.provide(NodeServices.layer))

const services = Effect.gen(function* () {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "options-"))),
    (directory) => Effect.sync(() => rmSync(directory, { recursive: true }))
  )
  const file = join(directory, "etcd.toml")
  writeFileSync(file, "[etcd]\n")
  const yaml = join(directory, "etcd.yaml")
  writeFileSync(yaml, "name: a\n")
  const fake = Fake.make({ "a:1": { answer: () => Effect.fail(Fake.status(12, "unknown method")) } })
  const client = yield* makeWith(fake.transport, { endpoints: ["a:1"] })
  const session = yield* EtcdSession.fromClient(client)
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
      return [{ name: `${module}.${property.name}`, run, parameters: resolved(module, parameters) }]
    })
  const resolved = (module: string, parameters: ReadonlyArray<Declarations.Property>) =>
    parameters.map((one) => ({
      ...one,
      type: optionsOf(one.type)
        .map((part) => Declarations.resolve(module, part))
        .join(" & ")
    }))
  const provided = <A, E>(effect: Effect.Effect<A, E, any>) =>
    effect.pipe(
      Effect.provideService(EtcdKv.EtcdKv, made.EtcdKv),
      Effect.provideService(EtcdTxn.EtcdTxn, made.EtcdTxn),
      Effect.provideService(EtcdWatch.EtcdWatch, made.EtcdWatch),
      Effect.provideService(EtcdClient.EtcdClient, client),
      Effect.provideService(EtcdSession.EtcdSession, session),
      Effect.provide([NodeServices.layer, FetchHttpClient.layer]),
      Effect.scoped
    ) as Effect.Effect<A, E>
  const takingOptions = (name: string, type: string, run: Run): Entrance => ({
    name,
    run,
    parameters: [{ name: "options", type, isOptional: true }]
  })
  const argument = (name: string, type: string): Declarations.Property => ({ name, type, isOptional: false })
  const commit = (op: EtcdTxn.Op<unknown>) => made.EtcdTxn.commit(op)
  /** How what a function makes comes to be used, by the type of it. */
  const uses: { readonly [result: string]: (made: any) => ReturnType<Run> } = {
    "Effect.Effect": (effect) => effect,
    "Layer.Layer": (layer) => Effect.provide(EtcdKv.get("key"), layer),
    Op: commit,
    KeyRange: (range) => made.EtcdKv.range(range),
    "EtcdClient.Client": (client) => EtcdKv.fromClient(client).get("key")
  }
  const isAccessor = (module: string, name: string) =>
    Object.hasOwn(made, module) && Object.hasOwn((made as Record<string, object>)[module]!, name)
  const functions = Object.entries(All).flatMap(([module, exported]) =>
    Declarations.functionsOf(module).flatMap(({ name, parameters, result }): ReadonlyArray<Entrance> => {
      const use = uses[result]
      const made = (exported as Record<string, any>)[name]
      const id = `${module}.${name}`
      const isYaml = name.startsWith("fromYaml")
      if (use === undefined || made === undefined || cannotRefuse.has(id) || isAccessor(module, name)) return []
      const taken = resolved(module, parameters.map(unwrapped)).map((one) =>
        isYaml && one.name === "path" ? { ...one, name: "yaml" } : one
      )
      const wrap = (arg: unknown, index: number) =>
        arg !== undefined && parameters[index] !== unwrapped(parameters[index]!) ? Config.succeed(arg) : arg
      return [{ name: id, run: (...args) => use(made(...args.map(wrap))), parameters: taken }]
    })
  )
  /** Operations inside of transactions inside of transactions. */
  const inside = functions
    .filter(({ name }) => Declarations.functionsOf("EtcdTxn").some((one) => `EtcdTxn.${one.name}` === name))
    .map(({ name, parameters }): Entrance => {
      const make = (EtcdTxn as Record<string, any>)[name.replace("EtcdTxn.", "")]
      return {
        name: `${name} inside`,
        run: (...args) => commit(EtcdTxn.all([EtcdTxn.make({ compare: [], failure: { inner: make(...args) } })])),
        parameters
      }
    })
  const entrances: ReadonlyArray<Entrance> = [
    ...Object.entries(made).flatMap(([module, self]) => of(module, "Service", self)),
    ...of("EtcdStore", "Store", store),
    ...of("EtcdCluster", "Cluster", yield* unreached),
    takingOptions("unary", "EtcdClient.CallOptions", (options) => client.unary(KV.method.range, {}, options)),
    takingOptions("stream", "EtcdClient.CallOptions", (options) =>
      client.serverStream(Maintenance.method.snapshot, {}, options)
    ),
    takingOptions("duplex", "EtcdClient.CallOptions", (options) => client.bidirectional(Watch.method.watch, options)),
    takingOptions("EtcdClient.make", "EtcdClient.Options", (options) =>
      makeWith(
        fake.transport,
        Predicate.isObject(options) && !(Symbol.iterator in options) ? { endpoints: ["a:1"], ...options } : options
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
    takingOptions("EtcdSession.fromClient", "EtcdSession.Options", (options) =>
      EtcdSession.fromClient(client, options)
    ),
    takingOptions("EtcdMirror.make", "EtcdMirror.Options", (options) => EtcdMirror.make("a/", options)),
    takingOptions("EtcdElection.make", "EtcdElection.Options", (options) =>
      EtcdElection.campaign(EtcdElection.make("name", options), "value")
    ),
    takingOptions("EtcdSemaphore.make", "EtcdSemaphore.Options", (options) =>
      EtcdSemaphore.withPermit(Effect.void, EtcdSemaphore.make("name", options as EtcdSemaphore.Options))
    ),
    takingOptions("EtcdLock.make", "EtcdLock.Options", (options) => EtcdLock.acquire(EtcdLock.make("name", options))),
    takingOptions("EtcdLayer.fromConfig", "EtcdProcess.Options", (options) =>
      Effect.provide(EtcdKv.get("key"), All.EtcdLayer.fromConfig("none", options))
    ),
    takingOptions("EtcdFaults.make", "EtcdFaults.Options", EtcdFaults.make),
    takingOptions("EtcdFaults.layerConfig", "EtcdFaults.Options", (options) =>
      Effect.provide(EtcdKv.get("key"), EtcdFaults.layerConfig(options))
    ),
    takingOptions("EtcdStm.tx", "EtcdStm.Options", (options) => EtcdStm.tx(EtcdStm.get("a"), options)),
    takingOptions("EtcdStm.put", "EtcdStm.PutOptions", (options) => EtcdStm.tx(EtcdStm.put("a", "b", options))),
    takingOptions("EtcdStm.range", "EtcdStm.RangeOptions", (options) => EtcdStm.tx(EtcdStm.range("a", options))),
    {
      name: "EtcdStore.make",
      run: (...args) => (EtcdStore.make as any)(...args).list(),
      parameters: [
        argument("prefix", "KeyRange.Bytes"),
        argument("schema", "Schema"),
        { name: "options", type: "EtcdStore.Options", isOptional: true }
      ]
    },
    {
      name: "EtcdTxn.map",
      run: (...args) => commit((EtcdTxn.map as any)(...args)),
      parameters: [argument("self", "Op<A>"), argument("f", "(result: A) => B")]
    },
    ...functions,
    ...inside
  ]
  const senseFor = ({ name, type }: Declarations.Property): unknown => {
    if (type.startsWith("(")) return () => ({ a: 1 })
    if (type === "EtcdClient.Client") return client
    if (type === "string" && name === "path") return file
    if (type === "string" && name === "yaml") return yaml
    return sense[type] ?? sense[`KeyRange.${type}`] ?? baseOf(type)
  }
  return { client, entrances, fake, provided, senseFor }
})

/** What may be zero. */
const mayBe = (option: string, value: unknown): boolean =>
  value === 0 && (option === "deadline" || option === "gracePeriod")

/** What is left of a deadline, which a program computes, may come to any number of milliseconds. */
const isComputed = (type: string, option: string) =>
  option === "deadline" && /Options$/.test(type) && type !== "EtcdClient.Options"

/** Names that no interface has, one of which every object has. */
const noNames = ["deadlin", "constructor"]

/** The client's own functions get what a service gets, and check what every call has. */
const takesOthers = new Set(["unary", "stream", "duplex"])

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
      const { entrances, fake, provided, senseFor } = yield* services
      let tried = 0
      for (const { name, parameters, run } of entrances) {
        const args = parameters.map(senseFor)
        for (const [index, parameter] of parameters.entries()) {
          if (!isOptions(parameter)) continue
          const own = baseOf(parameter.type)
          const giving = (option: string, value: unknown) =>
            args.map((arg, at) => (at === index ? { ...own, [option]: value } : arg))
          for (const none of noNames) {
            if (takesOthers.has(name)) continue
            const refusal = yield* refusalOf(() => run(...giving(none, 5)), provided)
            if (typeof refusal === "string") return assert.fail(`${name} with the option ${none}: ${refusal}`)
            assert.include(refusal.message, `there is no option "${none}". There `, name)
          }
          for (const type of optionsOf(parameter.type)) {
            walked.add(type)
            for (const option of Declarations.propertiesOf(type)) {
              const what = `${name}: ${type}.${option.name}`
              // What a store decodes it must not leave out.
              if (option.type === "undefined") continue
              const values = [
                ...garbageFor(option.type, what),
                ...(option.type === "Duration.Input" ? [0] : []),
                ...(option.isOptional ? [] : [undefined])
              ]
              for (const value of values) {
                if (mayBe(option.name, value)) continue
                const given = giving(option.name, value)
                const refusal = yield* refusalOf(() => run(...given), provided)
                const told = `${what} is ${String(typeof value === "object" ? JSON.stringify(value) : value)}`
                if (typeof refusal === "string") return assert.fail(`${told}: ${refusal}`)
                // What is in a configuration has a name of its own.
                if (option.name !== "config" || !Predicate.isObject(value)) {
                  assert.include(refusal.message.toLowerCase(), option.name.toLowerCase().replace(/s$/, ""), told)
                }
                assert.notInclude(refusal.message, "hunter2")
                tried++
              }
            }
          }
          for (const none of [null, 5, "text", [], new Map()]) {
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

  it.effect("is a bare small number where a duration is meant, which is told to take a unit", () =>
    Effect.gen(function* () {
      const { entrances, provided, senseFor } = yield* services
      const told: Array<string> = []
      for (const { name, parameters, run } of entrances) {
        const args = parameters.map(senseFor)
        const refused = Effect.fnUntraced(function* (what: string, given: Array<unknown>) {
          const refusal = yield* refusalOf(() => run(...given), provided)
          const message = typeof refusal === "string" ? assert.fail(`${what}: ${refusal}`) : refusal.message
          assert.include(
            message,
            'not 10 (a bare number counts milliseconds: give it with its unit, as in "10 seconds")'
          )
          told.push(what)
        })
        for (const [index, parameter] of parameters.entries()) {
          const giving = (value: unknown) => args.map((arg, at) => (at === index ? value : arg))
          if (parameter.type === "Duration.Input") yield* refused(`${name} ${parameter.name}`, giving(10))
          if (!isOptions(parameter)) continue
          for (const type of optionsOf(parameter.type)) {
            for (const option of Declarations.propertiesOf(type)) {
              const what = `${type}.${option.name}`
              if (option.type !== "Duration.Input" || isComputed(type, option.name) || told.includes(what)) continue
              yield* refused(what, giving({ ...baseOf(parameter.type), [option.name]: 10 }))
            }
          }
        }
      }
      assert.includeMembers(told, [
        "EtcdLease.make ttl",
        "EtcdLease.grant ttl",
        "EtcdSession.Options.ttl",
        "EtcdSession.Options.margin",
        "EtcdClient.Options.deadline",
        "EtcdClient.Options.connectTimeout",
        "EtcdProcess.Options.startTimeout",
        "EtcdProcess.Options.gracePeriod",
        "EtcdMember.Options.replaceAfter",
        "EtcdMirror.Options.maxAge"
      ])
    })
  )

  it.effect("is no bare number that is large enough, or a small duration with its unit", () =>
    Effect.gen(function* () {
      const { fake, provided, senseFor } = yield* services
      assert.isDefined(senseFor)
      const taken = [
        makeWith(fake.transport, { endpoints: ["a:1"], connectTimeout: 100, keepAliveInterval: "10 millis" }),
        makeWith(fake.transport, { endpoints: ["a:1"], deadline: 0, memberRefresh: Duration.millis(10) }),
        EtcdConfig.decode({
          grpcKeepaliveInterval: 100,
          raftReadTimeout: "10ms",
          corruptCheckTime: 0,
          electionTimeout: 50
        })
      ]
      for (const effect of taken) yield* provided(effect as Effect.Effect<unknown>)
      const wrong = yield* Effect.flip(EtcdConfig.decode({ grpcKeepaliveInterval: 10 }))
      assert.include(wrong.message, "grpcKeepaliveInterval: got 10, and a bare number counts milliseconds")
    })
  )

  it.effect("is no bigint, which is of nanoseconds, as Effect reads it", () =>
    Effect.gen(function* () {
      const { client, fake, provided } = yield* services
      const nanos = 50_000_000n
      const taken = [
        makeWith(fake.transport, { endpoints: ["a:1"], connectTimeout: nanos, deadline: nanos, keepAliveInterval: 5n }),
        EtcdSession.fromClient(client, { ttl: 10_000_000_000n, margin: nanos }),
        EtcdMirror.make(EtcdStore.make("a/", Schema.String), { maxAge: nanos })
      ]
      for (const effect of taken) {
        const refusal = yield* refusalOf(() => effect as Effect.Effect<unknown, unknown, any>, provided)
        if (typeof refusal !== "string") assert.fail(refusal.message)
      }
      const options = yield* EtcdConfig.decode({ watchProgressNotifyInterval: nanos, electionTimeout: 500_000_000n })
      assert.strictEqual(Duration.toMillis(options.watchProgressNotifyInterval!), 50)
      assert.strictEqual(Duration.toMillis(options.electionTimeout!), 500)
      const negative = yield* Effect.flip(EtcdConfig.decode({ watchProgressNotifyInterval: -5n }))
      assert.include(negative.message, "must not be negative")
    })
  )

  it("is there for every interface of options", () => {
    const others = new Set([
      // A pure function of lines, which has no way to refuse.
      "EtcdLog.LineOptions",
      // etcd's own options have a table, and tests of it.
      "EtcdConfig.EtcdOptions",
      // Belong to a cluster that runs, which a unit test has not.
      "EtcdFaults.PartitionOptions",
      "EtcdFaults.SlowOptions",
      "EtcdFaults.StallOptions",
      "EtcdFaults.FlipOptions",
      "EtcdFaults.TearOptions",
      "EtcdFaults.ClientOptions",
      // Is part of those that are walked through.
      "EtcdCluster.DataOptions",
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
      const { client, entrances, fake, provided, senseFor } = yield* services
      let tried = 0
      for (const { name, parameters, run } of entrances) {
        const args = parameters.map(senseFor)
        for (const [index, parameter] of parameters.entries()) {
          // The value of a store is its schema's.
          if (isOptions(parameter) || parameter.type === "A") continue
          const values = [
            ...garbageFor(parameter.type, `${name}: ${parameter.name}`),
            ...(parameter.name === "peerUrls" ? garbage.peerUrls! : [])
          ]
          const missing = parameter.isOptional || values.length === 0 ? [] : [undefined]
          for (const value of [...values, ...missing]) {
            if (name === "EtcdConfig.parseYaml" && typeof value === "string") continue
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
      const refused = Effect.fnUntraced(function* (compare: EtcdTxn.Compare, what: string) {
        const txns: ReadonlyArray<EtcdTxn.Op<unknown>> = [
          EtcdTxn.make({ compare: [EtcdTxn.exists("fine"), compare] }),
          EtcdTxn.all({ inner: EtcdTxn.make({ compare: [EtcdTxn.exists("fine"), compare] }) })
        ]
        for (const [index, op] of txns.entries()) {
          const { message, reason } = yield* Effect.flip(txn.commit(op))
          assert.strictEqual(reason._tag, "InvalidArgument", what)
          const path = index === 0 ? "compare[1]" : "success.inner.compare[1]"
          assert.isTrue(message.startsWith(`${path}: EtcdTxn.`), message)
          assert.match(message, / has to be /)
        }
      })
      let tried = 0
      for (const { name, parameters, result } of Declarations.functionsOf("EtcdTxn")) {
        const make: ((key: unknown) => any) | undefined = (EtcdTxn as Record<string, any>)[name]
        if (make === undefined || !/^Compar(e|ison)$/.test(result)) continue
        const what = `EtcdTxn.${name}`
        const keys = [...garbageFor(parameters[0]!.type, what), undefined]
        if (result === "Compare") {
          for (const key of keys) yield* refused(make(key), `${what}(${String(key)})`)
          continue
        }
        const type = { value: "KeyRange.Bytes", lease: "LeaseId | 0n" }[name] ?? "bigint"
        const sensible = { value: "value", lease: 7n }[name] ?? 7n
        for (const how of Declarations.propertiesOf("EtcdTxn.Comparison")) {
          for (const key of keys) yield* refused(make(key)[how.name](sensible), `${what}(${String(key)}).${how.name}`)
          for (const value of [...garbageFor(type, what), undefined]) {
            yield* refused(make("key")[how.name](value), `${what}.${how.name}(${String(value)})`)
            tried++
          }
        }
      }
      assert.isAbove(tried, 50)
    })
  )

  it.effect("is looked for in every function of every module", () =>
    Effect.gen(function* () {
      const { entrances } = yield* services
      const known = new Set(entrances.map(({ name }) => name))
      const isComparison = (module: string, name: string) =>
        module === "EtcdTxn" &&
        Declarations.functionsOf(module).some((one) => one.name === name && /^Compar/.test(one.result))
      const missing = Object.entries(All).flatMap(([module, exported]) =>
        Object.entries(exported).flatMap(([name, value]) => {
          const id = `${module}.${name}`
          const isPlain = typeof value === "function" && !Schema.isSchema(value) && !/^class\b/.test(String(value))
          return !isPlain || "key" in value || known.has(id) || cannotRefuse.has(id) || isComparison(module, name)
            ? []
            : [id]
        })
      )
      assert.deepStrictEqual(missing, [])
      for (const id of cannotRefuse) {
        const [module = "", name = ""] = id.split(".")
        assert.isTrue(name in (new Map(Object.entries(All)).get(module) ?? {}), `there is no ${id} any more`)
      }
    })
  )

  it.effect("is a secret that was wiped after the client was made", () =>
    Effect.gen(function* () {
      const { fake } = yield* services
      const password = Redacted.make("hunter2")
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"], credentials: { username: "a", password } })
      Redacted.wipeUnsafe(password)
      const { message, reason } = yield* Effect.flip(EtcdKv.fromClient(client).get("key"))
      assert.strictEqual(reason._tag, "InvalidArgument")
      assert.include(message, "the option password has to be text in a Redacted")
    })
  )

  it.effect("is told without what may be a secret", () =>
    Effect.gen(function* () {
      const { client, fake } = yield* services
      const kv = EtcdKv.fromClient(client)
      const auth = EtcdAuth.fromClient(client)
      const secrets = { password: "hunter2", name: "a" } as never
      const secret = new EtcdResponse.KeyValue({
        ...{ key: KeyRange.toBytes("key"), value: KeyRange.toBytes("hunter2") },
        ...{ createRevision: 1n, modRevision: 1n, version: 1n, lease: 0n }
      })
      const event = new EtcdWatch.Put({ kv: secret, previous: Option.some(secret) })
      class Box {
        readonly kept: string
        constructor(kept: string) {
          this.kept = kept
        }
      }
      const refused: ReadonlyArray<Effect.Effect<unknown, EtcdError.EtcdError>> = [
        kv.put("key", secrets),
        kv.get(secrets),
        kv.get("key", { endpoint: secrets }),
        kv.get("key", { endpoint: "http://root:hunter2@a:1" }),
        ...[secret, [secret], [[secret]], Option.some(secret), Result.succeed(secret), Effect.succeed("hunter2")].map(
          (wrong) => kv.get(wrong as never)
        ),
        ...[event, new Map([["key", "hunter2"]]), new Set(["hunter2"]), () => "hunter2", new Box("hunter2")].map(
          (wrong) => kv.get("key", { deadline: wrong as never })
        ),
        EtcdTxn.fromClient(client).commit(EtcdTxn.put("key", secrets)),
        EtcdTxn.fromClient(client).commit(EtcdTxn.make({ compare: EtcdTxn.value("key").equals(secrets) })),
        auth.addUser(secrets),
        auth.addUser("a", secrets),
        auth.addUser("a", "hunter2" as never),
        Effect.scoped(makeWith(fake.transport, { endpoints: "http://root:hunter2@a:1" as never })),
        Effect.scoped(makeWith(fake.transport, { endpoints: ["http://root:hunter2@a:1"] })),
        Effect.scoped(makeWith(fake.transport, { endpoints: ["a:1"], tls: "hunter2" as never })),
        Effect.scoped(makeWith(fake.transport, { endpoints: ["a:1"], credentials: "root:hunter2" as never })),
        Effect.scoped(makeWith(fake.transport, { endpoints: ["a:1"], credentials: { username: secrets } as never }))
      ]
      for (const [index, effect] of refused.entries()) {
        const { message, reason } = yield* Effect.flip(effect)
        assert.strictEqual(reason._tag, "InvalidArgument", String(index))
        assert.notInclude(message, "hunter2")
      }
      for (const password of ["hun/ter2", "hun,ter2", "hun ter2", 'hun"ter2', "ter2@hun", `ter2${"x".repeat(100)}`]) {
        for (const endpoints of [`http://root:${password}@a:1`, [`http://root:${password}@a:1`]]) {
          const refused = yield* Effect.flip(Effect.scoped(makeWith(fake.transport, { endpoints: endpoints as never })))
          assert.notMatch(refused.message, /hun|ter2/)
        }
      }
      const { message } = yield* Effect.flip(kv.get(secret as never))
      assert.include(message, "and not a KeyValue with key, value, createRevision, modRevision, version and lease")
    })
  )

  it("shows what it is, and no more of it than can be read", () => {
    class Failed extends Data.TaggedError("Failed")<{ readonly cause: unknown; readonly password: string }> {}
    let looked = 0
    const counted = Array.from({ length: 1000 }, () => ({
      get a() {
        return looked++
      }
    }))
    const cases: ReadonlyArray<readonly [value: unknown, shown: string]> = [
      [new RangeError("no", { cause: { password: "hunter2" } }), "RangeError: no"],
      [new Failed({ cause: { password: "hunter2" }, password: "hunter2" }), "Failed"],
      [new Error("at http://me:hunter2@a:1"), "Error: at http://me:<redacted>@a:1"],
      [new Uint8Array(1000), "1000 bytes"],
      [new Uint8Array(1), "1 byte"],
      [new Uint8Array([1, 2]).buffer, "2 bytes"],
      [new Float64Array(2), "16 bytes"],
      [SemVer.parseUnsafe("3.6.0-rc.1"), "3.6.0-rc.1"],
      [KeyRange.interval("a", "b"), 'a KeyRange from "a" to "b"'],
      [[1, "a", [2], new Uint8Array(3)], '[1,"a",a list,3 bytes]'],
      [Array.from({ length: 12 }, (_, index) => index), "[0,1,2,3,4,5,6,7,8,9, and 2 more]"],
      [new URL("http://me:hunter2@a:1/b"), "http://me:<redacted>@a:1/b"],
      [`http://me:${"x".repeat(60)}hunter2@a:1`, '"http://me:<redacted>@a:1"']
    ]
    for (const [value, shown] of cases) assert.strictEqual(Options.show(value), shown)
    Options.show(counted)
    assert.strictEqual(looked, 0)
    const asked: Array<PropertyKey> = []
    const list = new Proxy(counted, {
      get: (all, name) => {
        asked.push(name)
        return Reflect.get(all, name)
      }
    })
    Options.show(list)
    assert.notInclude(asked, "10")
  })

  it.effect("is told as Effect's Config tells it, where that is what asks", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(EtcdConfig.config(5 as never))
      assert.include(error.message, "the prefix has to be text, and not 5")
    })
  )
})

/** What the functions of a service may fail with. */
type Failures<Service> = {
  [Name in keyof Service]: Service[Name] extends (...args: Array<any>) => Effect.Effect<any, infer E, any>
    ? E
    : Service[Name] extends (...args: Array<any>) => Stream.Stream<any, infer E, any>
      ? E
      : Service[Name] extends Effect.Effect<any, infer E, any>
        ? E
        : never
}[keyof Service]

describe("the types", () => {
  it("say what each service may fail with", () => {
    expectTypeOf<Failures<EtcdAuth.Service>>().toEqualTypeOf<EtcdError.EtcdError>()
    expectTypeOf<Failures<EtcdKv.Service>>().toEqualTypeOf<EtcdError.EtcdError>()
    expectTypeOf<Failures<EtcdLease.Service>>().toEqualTypeOf<EtcdError.EtcdError>()
    expectTypeOf<Failures<EtcdMaintenance.Service>>().toEqualTypeOf<EtcdError.EtcdError | PlatformError>()
    expectTypeOf<Failures<EtcdMembership.Service>>().toEqualTypeOf<EtcdError.EtcdError>()
    expectTypeOf<Failures<EtcdTxn.Service>>().toEqualTypeOf<EtcdError.EtcdError>()
    expectTypeOf<Failures<EtcdWatch.Service>>().toEqualTypeOf<EtcdError.EtcdError>()
    expectTypeOf<Failures<Omit<EtcdStore.Store<string>, "updateEffect">>>().toEqualTypeOf<
      EtcdError.EtcdError | EtcdStore.EtcdSchemaError | EtcdStore.EtcdConflict
    >()
    expectTypeOf<
      Failures<Pick<typeof All.EtcdProcess, "make" | "ephemeral">>
    >().toEqualTypeOf<EtcdProcessError.EtcdProcessError>()
    expectTypeOf<
      Failures<Pick<typeof All.EtcdCluster, "make" | "ephemeral" | "fromConfigs">>
    >().toEqualTypeOf<EtcdProcessError.EtcdProcessError>()
  })

  it("do not let names pass that there are none of", () => {
    const calls = () => [
      // @ts-expect-error
      EtcdKv.get("key", { revison: 5n }),
      // @ts-expect-error
      EtcdKv.put("key", "value", { leese: EtcdId.LeaseId(7n) }),
      // @ts-expect-error: a lease is no member
      EtcdKv.put("key", "value", { lease: EtcdId.MemberId(7n) }),
      // @ts-expect-error
      EtcdAuth.enable({ deadlin: "1 second" }),
      // @ts-expect-error
      EtcdLease.grant("10 seconds", { ID: EtcdId.LeaseId(7n) }),
      // @ts-expect-error
      EtcdMaintenance.snapshotToFile("file", { progress: () => Effect.void }),
      // @ts-expect-error
      EtcdMembership.add(["http://a:2380"], { asLearner: true }),
      // @ts-expect-error: a transaction has one deadline for all of it
      EtcdTxn.get("key", { deadline: "1 second" }),
      // @ts-expect-error
      EtcdTxn.make({ compare: [], sucess: [EtcdTxn.put("key", "value")] }),
      // @ts-expect-error: only `changes` tells of progress
      EtcdWatch.watch("key", { progress: true }),
      // @ts-expect-error
      EtcdStore.make("a/", Schema.String, { fromat: "json" }),
      // @ts-expect-error
      EtcdClient.make({ endpoints: ["a:1"], selecton: "leader" }),
      // @ts-expect-error
      EtcdClient.make({ endpoints: ["a:1"], tls: { insecureSkipVerfy: true } }),
      // @ts-expect-error: they are the node's
      All.EtcdProcess.make({}, { client: { endpoints: ["a:1"] } }),
      // @ts-expect-error
      All.EtcdProcess.make({ nam: "a" }),
      // @ts-expect-error: each member has one, and all have the same
      All.EtcdCluster.make({ runDirectory: "/run" }),
      // @ts-expect-error
      All.EtcdProcess.make({}, { binary: { fetch: { verison: "3.6.14" } } }),
      // @ts-expect-error
      All.EtcdCluster.make({ binary: { version: "3.6.14" } }),
      // @ts-expect-error
      All.EtcdBinary.find({ pth: "etcd" })
    ]
    assert.isFunction(calls)
  })
})

/** What makes sense for an option; undefined where that depends on others. */
const senseForOption = ({ name, type }: Declarations.Property): unknown => {
  const named: { readonly [name: string]: unknown } = {
    sha256: "a".repeat(64),
    version: "3.6.14",
    // Where nothing can be made.
    dataDir: "/dev/null/data",
    cacheDirectory: "/dev/null/cache",
    runDirectory: "/dev/null/run",
    disks: "128 MiB",
    minShare: 0.5,
    margin: "1 second",
    mode: "shared",
    baseUrl: "http://127.0.0.1:1",
    endpoint: "a:1",
    peerUrl: "https://127.0.0.1:1",
    clientUrl: "http://127.0.0.1:1",
    peers: { srv: "example.com" }
  }
  if (Object.hasOwn(named, name)) return named[name]
  if (isWords(type)) return JSON.parse(type.split(" | ")[0]!)
  if (type.startsWith("Schedule.Schedule<")) return Schedule.recurs(0)
  if (type.startsWith("(")) return () => Effect.void
  return {
    ...sense,
    boolean: true,
    number: 7,
    "EtcdBinary.Input": { fetch: { baseUrl: "http://127.0.0.1:1" } },
    "number | bigint": 7,
    "EtcdId.ClusterId": 7n,
    "EtcdId.LeaseId": 7n,
    "ByteSize.Input": "1 MiB",
    "Readonly<Record<string, string>>": { "x-tenant": "a" },
    "Record.ReadonlyRecord<string, string>": { GOMAXPROCS: "2" },
    Platform: "linux-amd64",
    F: "json",
    Isolation: "serializable",
    S: Schedule.recurs(0),
    Endpoints: ["a:1"],
    Tls: {},
    "Credentials | Effect.Effect<Credentials, EtcdError>": { username: "a", password: Redacted.make("b") },
    "{ readonly [service in ServiceName]?: CallDefaults }": { KV: { deadline: "1 second" } },
    "boolean | BatchingOptions": true,
    'Partial<Omit<EtcdClient.Options, "endpoints">>': { deadline: "1 second" }
  }[type]
}

/** Options with which nothing is started, fetched or waited for. */
const harmless = (type: string): object | undefined =>
  /^Etcd(Process|Cluster|Faults)\.Options$/.test(type)
    ? { binary: "/nowhere/etcd" }
    : type.includes("FindOptions") || type.includes("FindUtlOptions")
      ? { path: "/nowhere/etcd" }
      : type === "EtcdBinary.FetchOptions"
        ? { baseUrl: "http://127.0.0.1:1" }
        : type === "EtcdClient.Options"
          ? { endpoints: ["127.0.0.1:1"], retry: Schedule.recurs(0) }
          : baseOf(type)

describe("what makes sense", () => {
  it.effect("is taken by every option of every module", () =>
    Effect.gen(function* () {
      const { entrances, provided, senseFor } = yield* services
      let tried = 0
      for (const { name, parameters, run } of entrances) {
        const args = parameters.map(senseFor)
        for (const [index, parameter] of parameters.entries()) {
          if (!isOptions(parameter)) continue
          for (const option of optionsOf(parameter.type).flatMap(Declarations.propertiesOf)) {
            const value = senseForOption(option)
            if (value === undefined) {
              assert.match(option.type, /Pem|^undefined$/, `what makes sense for ${name}: ${option.name}?`)
              continue
            }
            const given = { ...harmless(parameter.type), [option.name]: value }
            const refusal = yield* refusalOf(
              () => run(...args.map((arg, at) => (at === index ? given : arg))),
              provided
            )
            if (typeof refusal === "string") assert.notMatch(refusal, /defect/, `${name}: ${option.name}`)
            else assert.notMatch(refusal.message, /there is no option|the options? \w+ has to be/, name)
            tried++
          }
        }
      }
      assert.isAbove(tried, 300)
    })
  )

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
      const alone = yield* makeWith(fake.transport, { endpoints: ["a:1"] })
      const lease = yield* EtcdLease.fromClient(alone)
      const calls: ReadonlyArray<Effect.Effect<unknown, EtcdError.EtcdError, Scope.Scope>> = [
        EtcdKv.fromClient(client).get("a", late),
        EtcdKv.fromClient(alone).get("a", late),
        EtcdKv.fromClient(client).put("a", "1", late),
        EtcdKv.fromClient(alone).put("a", "1", late),
        EtcdMaintenance.fromClient(alone).moveLeader(1n as never, late),
        lease.keepAliveOnce(1n as never, late),
        lease.make("10 seconds", late),
        lease.grant("10 seconds", late)
      ]
      const before = sent.length
      for (const call of calls) {
        const inVain = yield* Effect.flip(call)
        assert.deepInclude(inVain.reason, { _tag: "DeadlineExceeded", lasting: true, outcome: "not-applied" })
        assert.isFalse(EtcdError.isTransient(inVain))
      }
      assert.lengthOf(sent, before)
    })
  )
})
