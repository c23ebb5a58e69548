/** The front door, where a program or its surroundings say how: files, and Effect's `Config`. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdSession from "../src/coordination/EtcdSession.ts"
import * as EtcdBatch from "../src/EtcdBatch.ts"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import * as EtcdConfig from "../src/EtcdConfig.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdMember from "../src/EtcdMember.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import * as EtcdFaults from "../src/testing/EtcdFaults.ts"
import { freePort, temporaryDirectory as temporary } from "./support/machine.ts"

const quiet = { log: false } as const

/** The name of the node, after something was written to it, and read. */
const used = Effect.gen(function* () {
  yield* EtcdKv.put("a", "b")
  assert.deepStrictEqual(yield* EtcdKv.getString("a"), Option.some("b"))
  return (yield* EtcdProcess.EtcdProcess).name
})

const provided = (values: unknown) => Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown(values)))

describe("EtcdLayer", () => {
  it.live("runs a node as etcd's own YAML file says", () =>
    Effect.gen(function* () {
      const file = join(yield* temporary, "etcd.conf.yml")
      writeFileSync(
        file,
        `name: yaml\nlisten-client-urls: http://127.0.0.1:${yield* freePort}\nelection-timeout: 500\n`
      )
      assert.strictEqual(yield* Effect.provide(used, EtcdLayer.fromYaml(file, quiet)), "yaml")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("runs a node as the configuration of the program says, or etcd's own environment variables", () =>
    Effect.gen(function* () {
      const below = EtcdLayer.fromConfig("store", quiet).pipe(provided({ store: { name: "config" } }))
      assert.strictEqual(yield* Effect.provide(used, below), "config")
      const environment = ConfigProvider.fromEnv({ env: { ETCD_NAME: "environment" } })
      const own = EtcdLayer.fromConfig(undefined, quiet).pipe(Layer.provide(ConfigProvider.layer(environment)))
      assert.strictEqual(yield* Effect.provide(used, own), "environment")
    }).pipe(Effect.scoped)
  )

  it.live("says what is wrong in a file or a configuration before anything is started", () =>
    Effect.gen(function* () {
      const file = join(yield* temporary, "etcd.conf.yml")
      writeFileSync(file, "nam: a\nelection-timeout: soon\n")
      const yaml = yield* Effect.flip(Layer.build(EtcdLayer.fromYaml(file)))
      assert.include(yaml.message, `${file} has 2 problems`)
      assert.include(
        (yield* Effect.flip(Layer.build(EtcdLayer.fromYaml(`${file}.gone`)))).message,
        "there is no such file"
      )
      const config = yield* Effect.flip(
        Layer.build(EtcdLayer.fromConfig().pipe(provided({ etcd: { electionTimeout: "soon" } })))
      )
      assert.instanceOf(config, Config.ConfigError)
      assert.include(config.message, "electionTimeout")
      const together = yield* Effect.flip(
        Layer.build(EtcdLayer.fromConfig().pipe(provided({ etcd: { electionTimeout: "5ms" } })))
      )
      assert.include(together.message, "election")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})

const environment = (env: Record<string, string>) =>
  Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env })))

const failureOf = <A, E>(layer: Layer.Layer<A, E>) => Effect.flip(Effect.scoped(Layer.build(layer)))

describe("layerConfig", () => {
  /** What a deployment says, and what a program says itself. */
  const connection = {
    endpoints: Config.Array(Schema.String, "ETCD_ENDPOINTS"),
    selection: Config.withDefault(Config.Literals(["leader", "sticky"], "ETCD_SELECTION"), undefined),
    credentials: { username: Config.String("ETCD_USER"), password: Config.Redacted("ETCD_PASSWORD") },
    deadline: Config.Duration("ETCD_DEADLINE"),
    maxReceiveMessageSize: Config.ByteSize("ETCD_MAX_MESSAGE"),
    batching: { maxOperations: Config.withDefault(Config.Int("ETCD_MAX_OPERATIONS"), 16) },
    retry: Schedule.recurs(2),
    memberRefresh: "10 seconds" as const,
    services: { Lease: { deadline: Config.Duration("ETCD_DEADLINE") } }
  }
  const good = {
    ETCD_USER: "root",
    ETCD_PASSWORD: "hunter2",
    ETCD_DEADLINE: "20 seconds",
    ETCD_MAX_MESSAGE: "4 MiB"
  }

  it.live("connects as the environment says: a list, a duration, a size, a secret, and what is no text", () =>
    Effect.gen(function* () {
      const node = yield* EtcdProcess.EtcdProcess
      const endpoints = [`${node.endpoints[0]}`, "unix:///nowhere/etcd.sock"].join(",")
      // The node asks for nobody's name, and so the client does not tell one.
      const layer = EtcdSession.layerConfig({ ttl: Config.Duration("TTL"), onClose: Config.succeed("revoke") }).pipe(
        Layer.provideMerge(EtcdBatch.layerConfig(EtcdKv.layer, { maxOperations: Config.Int("MAX_OPS") })),
        Layer.provideMerge(EtcdLayer.connectConfig({ ...connection, credentials: Config.succeed(undefined) }))
      )
      const program = Effect.gen(function* () {
        const { defaults } = yield* EtcdClient.EtcdClient
        assert.deepStrictEqual(defaults("KV").deadline, defaults("Lease").deadline)
        yield* EtcdKv.put("config", "read")
        const { ttl } = yield* EtcdSession.current
        return [yield* EtcdKv.getString("config"), ttl] as const
      })
      const env = { ...good, ETCD_ENDPOINTS: endpoints, TTL: "7 seconds", MAX_OPS: "8" }
      const [value, ttl] = yield* Effect.provide(program, layer.pipe(environment(env)))
      assert.deepStrictEqual(value, Option.some("read"))
      assert.strictEqual(Duration.toSeconds(ttl), 7)
    }).pipe(Effect.provide(EtcdLayer.ephemeral({}, quiet)))
  )

  it.effect("says what is missing, of the wrong type, or makes no sense, and no secret", () =>
    Effect.gen(function* () {
      const layer = EtcdClient.layerConfig(connection)
      const missing = yield* failureOf(layer.pipe(environment(good)))
      assert.instanceOf(missing, Config.ConfigError)
      assert.include(missing.message, "ETCD_ENDPOINTS")
      const untyped = yield* failureOf(
        layer.pipe(environment({ ...good, ETCD_ENDPOINTS: "a:1", ETCD_DEADLINE: "soon" }))
      )
      assert.include(untyped.message, "ETCD_DEADLINE")
      const senseless = yield* failureOf(layer.pipe(environment({ ...good, ETCD_ENDPOINTS: "ftp://a" })))
      assert.strictEqual((senseless as { reason?: { _tag: string } }).reason?._tag, "InvalidArgument")
      for (const error of [missing, untyped, senseless]) assert.notInclude(String(error), "hunter2")
    })
  )

  it.effect("takes all options as one, streams and effects, and none for what is left out", () =>
    Effect.gen(function* () {
      const layers = [
        EtcdClient.layerConfig(Config.map(Config.Array(Schema.String, "E"), (endpoints) => ({ endpoints }))),
        EtcdClient.layerConfig({ endpoints: Stream.make(["a:1"]), tls: undefined }),
        EtcdClient.layerConfig({ endpoints: ["a:1"], batching: true, deadline: { seconds: 5 } }),
        EtcdClient.layerConfig({
          endpoints: Config.map(Config.String("E"), (endpoint) => Effect.succeed([endpoint])),
          credentials: Effect.succeed({ username: "a", password: Redacted.make("b") })
        }),
        EtcdClient.layerConfig({
          endpoints: Config.succeed(["https://a:1"]),
          tls: { insecureSkipVerify: Config.Boolean("I") }
        })
      ]
      for (const layer of layers) {
        const built = Effect.scoped(Layer.build(layer.pipe(environment({ E: "a:1", I: "yes" }))))
        assert.isDefined(yield* built)
      }
    })
  )

  it.effect("is told what makes no sense as if there were no Config", () =>
    Effect.gen(function* () {
      for (const wrong of [5, null, "a:1", ["a:1"], { endpoints: 5 }, { endpoints: ["a:1"], deadline: "soon" }]) {
        const error = yield* failureOf(EtcdClient.layerConfig(wrong as never))
        assert.deepInclude((error as { readonly reason?: object }).reason, { _tag: "InvalidArgument" }, String(error))
      }
    })
  )

  it.live("runs a node as the environment says, and refuses what makes no sense before anything is started", () =>
    Effect.gen(function* () {
      const layer = EtcdLayer.embeddedConfig(
        { name: Config.String("NAME"), electionTimeout: Config.Duration("ELECTION") },
        {
          startTimeout: Config.Duration("START"),
          log: Config.Boolean("LOG"),
          restart: Schedule.recurs(1),
          client: { batching: { maxOperations: Config.succeed(8) } }
        }
      )
      const env = { NAME: "wrapped", ELECTION: "600 millis", START: "30 seconds", LOG: "false" }
      assert.strictEqual(yield* Effect.provide(used, layer.pipe(environment(env))), "wrapped")
      const node = EtcdProcess.layerConfig(EtcdConfig.config("etcd"), { startTimeout: Config.Duration("START") })
      const client = { credentials: { username: Config.String("NAME"), password: Config.Redacted("NAME") } }
      const refused: ReadonlyArray<readonly [Layer.Layer<any, any, any>, string]> = [
        [layer, "1 millis"],
        [node, "0 millis"],
        [EtcdCluster.layerConfig({ startTimeout: Config.Duration("START"), client }), "0 millis"],
        [EtcdLayer.clusterConfig({ startTimeout: Config.Duration("START"), size: 3, client }), "0 millis"],
        [
          EtcdMember.layerConfig(Config.map(Config.Duration("START"), (joinTimeout) => ({ ...member, joinTimeout }))),
          "0 millis"
        ],
        [
          EtcdLayer.memberConfig(Config.map(Config.Duration("START"), (joinTimeout) => ({ ...member, joinTimeout }))),
          "0 millis"
        ],
        [EtcdLayer.ephemeralConfig({}, { startTimeout: Config.Duration("START") }), "0 millis"],
        [EtcdFaults.layerConfig({ startTimeout: Config.Duration("START") }), "0 millis"]
      ]
      for (const [index, [wrapped, value]] of refused.entries()) {
        const provided = Layer.provide(wrapped, NodeServices.layer).pipe(environment({ ...env, START: value }))
        const error: any = yield* failureOf(provided as Layer.Layer<any, any>)
        assert.strictEqual(error.reason?._tag, index === 0 ? "StartTimeout" : "InvalidConfig", String(error))
        assert.instanceOf(
          yield* failureOf(Layer.provide(wrapped, NodeServices.layer).pipe(environment({})) as Layer.Layer<any, any>),
          Config.ConfigError
        )
      }
    })
  )

  it.live("runs etcd for a test as the environment says", () =>
    Effect.gen(function* () {
      const node = EtcdLayer.ephemeralConfig({ name: Config.String("NAME") }, { log: Config.Boolean("LOG") })
      const env = { NAME: "tested", LOG: "false", MEMBERS: "1" }
      assert.strictEqual(yield* Effect.provide(used, node.pipe(environment(env))), "tested")
      const faults = EtcdFaults.layerConfig({ size: Config.Int("MEMBERS"), log: Config.Boolean("LOG") })
      const members = Effect.gen(function* () {
        yield* EtcdKv.put("a", "b")
        return SubscriptionRef.getUnsafe((yield* EtcdFaults.EtcdFaults).cluster.members).map(({ name }) => name)
      })
      assert.deepStrictEqual(yield* Effect.provide(members, faults.pipe(environment(env))), ["node0"])
    })
  )

  it.live("runs etcd as the file says that the environment names, and as the environment says", () =>
    Effect.gen(function* () {
      const directory = yield* temporary
      const toml = join(directory, "etcd.toml")
      writeFileSync(toml, '[etcd]\nname = "toml"\n')
      const yaml = join(directory, "etcd.conf.yml")
      writeFileSync(yaml, `name: yaml\nlisten-client-urls: http://127.0.0.1:${yield* freePort}\n`)
      const options = { log: false, startTimeout: Config.Duration("START") } as const
      const layers = {
        toml: EtcdLayer.fromTomlConfig(Config.String("TOML"), options),
        yaml: EtcdLayer.fromYamlConfig(Config.String("YAML"), options),
        environment: EtcdLayer.fromConfig("etcd", options)
      }
      const env = { TOML: toml, YAML: yaml, ETCD_NAME: "environment", START: "30 seconds" }
      for (const [name, layer] of Object.entries<Layer.Layer<EtcdKv.EtcdKv | EtcdProcess.EtcdProcess, any>>(layers)) {
        assert.strictEqual(yield* Effect.provide(used, layer.pipe(environment(env))), name)
        const senseless: any = yield* failureOf(layer.pipe(environment({ ...env, START: "0 millis" })))
        assert.strictEqual(senseless.reason?._tag, "InvalidConfig", String(senseless))
        assert.instanceOf(yield* failureOf(layer.pipe(environment({}))), Config.ConfigError)
      }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})

const member: EtcdMember.Options = {
  name: "a",
  dataDir: "/dev/null/data",
  peerUrl: "https://127.0.0.1:1",
  clientUrl: "http://127.0.0.1:1",
  peers: ["https://127.0.0.1:1"],
  size: 1
}
