/**
 * Snapshots of nodes that have gone.
 */
import * as NodeFs from "node:fs"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as EtcdClient from "../../src/EtcdClient.ts"
import type * as EtcdConfig from "../../src/EtcdConfig.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as EtcdMaintenance from "../../src/EtcdMaintenance.ts"
import * as EtcdProcess from "../../src/EtcdProcess.ts"
import { temporaryDirectory } from "./machine.ts"

export type Services = Layer.Success<ReturnType<typeof EtcdLayer.connect>> | EtcdMaintenance.EtcdMaintenance

export type ClientOptions = Omit<EtcdClient.Options, "endpoints">

export const connect = (endpoints: EtcdClient.Options["endpoints"], options?: ClientOptions) =>
  EtcdMaintenance.layer.pipe(Layer.provideMerge(EtcdLayer.connect({ ...options, endpoints })))

/** Runs a node, and does something with it. It is gone afterwards, and its data are where they were. */
export const withNode = <A, E, R>(
  config: EtcdConfig.Input,
  run: Effect.Effect<A, E, R | Services>,
  options?: ClientOptions
) =>
  Effect.scoped(
    Effect.gen(function* () {
      const node = yield* EtcdProcess.ephemeral(config, { log: false })
      return yield* Effect.provide(run, connect(node.endpoints, options))
    })
  )

/** A snapshot of a node in which `fill` was done, and beside it a copy of its database. `after`: after the snapshot. */
export const taken = Effect.fnUntraced(function* <A, B, E>(
  fill: Effect.Effect<A, E, Services>,
  after: Effect.Effect<B, E, Services>,
  options?: ClientOptions
) {
  const directory = yield* temporaryDirectory
  const snapshot = join(directory, "snapshot.db")
  const database = join(directory, "copied.db")
  const dataDir = join(directory, "first.etcd")
  const results = yield* withNode(
    { dataDir },
    Effect.gen(function* () {
      const filled = yield* fill
      yield* EtcdMaintenance.snapshotToFile(snapshot)
      return { filled, later: yield* after }
    }),
    options
  )
  NodeFs.copyFileSync(join(dataDir, "member", "snap", "db"), database)
  return { directory, snapshot, database, dataDir, ...results }
})
