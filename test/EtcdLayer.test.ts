/** The front door, where a program or its surroundings say how: files, and Effect's `Config`. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
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
