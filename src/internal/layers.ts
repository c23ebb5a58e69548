/**
 * Nodes and clusters as layers, with what they need of this machine, and a connection to them: what `EtcdLayer` loads
 * when there is an etcd to run.
 *
 * @internal
 */
import * as NodeChildProcessSpawner from "@effect/platform-node/NodeChildProcessSpawner"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as EtcdClient from "../EtcdClient.ts"
import * as EtcdCluster from "../EtcdCluster.ts"
import * as EtcdConfig from "../EtcdConfig.ts"
import type * as EtcdError from "../EtcdError.ts"
import * as EtcdMember from "../EtcdMember.ts"
import * as EtcdProcess from "../EtcdProcess.ts"

/** What of this machine nodes and clusters need. */
export const machine = NodeChildProcessSpawner.layer.pipe(
  Layer.provideMerge(Layer.mergeAll(NodeFileSystem.layer, NodePath.layer))
)

type Connect<Services> = (options: EtcdClient.Options) => Layer.Layer<Services, EtcdError.EtcdError>

const withNode =
  (make: typeof EtcdProcess.make) =>
  <Services>(connect: Connect<Services>, config: EtcdConfig.Input, options: EtcdProcess.Options) =>
    Layer.unwrap(
      EtcdProcess.EtcdProcess.useSync((etcd) => connect({ ...options.client, endpoints: etcd.endpoints }))
    ).pipe(Layer.provideMerge(Layer.effect(EtcdProcess.EtcdProcess, make(config, options))), Layer.provide(machine))

export const embedded = withNode(EtcdProcess.make)

export const ephemeral = withNode(EtcdProcess.ephemeral)

const withConfig =
  <Args extends ReadonlyArray<unknown>, E>(
    read: (...args: Args) => Effect.Effect<EtcdConfig.EtcdOptions, E, FileSystem.FileSystem>
  ) =>
  <Services>(connect: Connect<Services>, options: EtcdProcess.Options, ...args: Args) =>
    read(...args).pipe(
      Effect.map((config) => embedded(connect, config, options)),
      Layer.unwrap,
      Layer.provide(machine)
    )

export const fromToml = withConfig(EtcdConfig.fromToml)

export const fromYaml = withConfig(EtcdConfig.fromYaml)

export const fromConfig = withConfig(EtcdConfig.config)

export const cluster = <Services>(connect: Connect<Services>, options: EtcdCluster.Options) =>
  Layer.unwrap(
    EtcdCluster.EtcdCluster.useSync((etcd) => connect({ ...options.client, endpoints: etcd.endpoints }))
  ).pipe(Layer.provideMerge(EtcdCluster.layer(options)), Layer.provide(machine))

/** The endpoints follow the members: those of voters that serve, of their cluster. */
export const member = <Services>(connect: Connect<Services>, options: EtcdMember.Options) =>
  Layer.unwrap(
    EtcdMember.EtcdMember.useSync(({ clusterId, endpoints }) =>
      connect({
        ...options.client,
        clusterId: options.client?.clusterId ?? clusterId,
        endpoints: Stream.filter(SubscriptionRef.changes(endpoints), (list) => list.length > 0)
      })
    )
  ).pipe(Layer.provideMerge(EtcdMember.layer(options)), Layer.provide(machine))
