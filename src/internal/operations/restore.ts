/**
 * A cluster that is given the data of a snapshot, or of the one of its members that knows most, while it is there to be
 * stopped and started; and the data directory of one that is not.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { EtcdBinary, EtcdUtl } from "../../EtcdBinary.ts"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdCluster from "../../EtcdCluster.ts"
import type * as EtcdError from "../../EtcdError.ts"
import { format } from "../../EtcdId.ts"
import * as EtcdMaintenance from "../../EtcdMaintenance.ts"
import type { EtcdProcessError } from "../../EtcdProcessError.ts"
import type { Places } from "../cluster/apart.ts"
import type { Fleet, Platform } from "../cluster/fleet.ts"
import type { Keeper } from "../cluster/manifest.ts"
import { composite, perform, type Refuse, refusal, type Step } from "./operation.ts"
import * as Recover from "./recover.ts"
import * as RestoreCluster from "./restoreCluster.ts"
import * as Survey from "./survey.ts"

/** The executables that it takes. */
export interface Tools {
  readonly etcd: EtcdBinary
  readonly utl: EtcdUtl
}

type FindTools = Effect.Effect<Tools, EtcdProcessError, Platform>

const tools = (find: FindTools, refuse: Refuse) =>
  Effect.mapError(find, ({ message }) => refuse("binary", [message], "Install etcdutl beside etcd."))

const nodesOf = (fleet: Fleet) => SubscriptionRef.getUnsafe(fleet.members)

/** Who is to be restored, and where. */
const placesOf = Effect.fnUntraced(function* (fleet: Fleet, refuse: Refuse) {
  const { dirname } = yield* Path.Path
  const nodes = nodesOf(fleet)
  const apart = nodes.filter(({ config }) => config.options.walDir !== undefined)
  if (apart.length > 0) {
    const evidence = apart.map(({ config, name }) => `${name} has its log in ${config.options.walDir}`)
    return yield* Effect.fail(
      refuse("config", evidence, "What is restored has its log beside its data: leave out walDir.")
    )
  }
  return {
    members: nodes.map(({ config, name }) => ({
      name,
      peerUrls: config.options.initialAdvertisePeerUrls ?? [],
      dataDir: config.dataDir
    })),
    workDirectory: dirname(nodes[0].config.dataDir)
  }
})

const stopAll = (fleet: Fleet): Step => ({
  title: "stop all members",
  run: () => Effect.as(fleet.stopAll, undefined)
})

/** They have other ids than before, so each is another node. */
const startAll = (fleet: Fleet): Step => ({
  title: "start all members",
  run: () =>
    Effect.forEach(nodesOf(fleet), (node) => fleet.renew(node), { concurrency: "unbounded" }).pipe(
      Effect.map(([node]) => `the cluster is ${format(node!.clusterId)} now`),
      Effect.tap(Effect.suspend(() => Effect.forEach(nodesOf(fleet), fleet.open, { discard: true })))
    )
})

const once = { deadline: "2 seconds", retry: Schedule.recurs(0) } as const

/** The revision that the cluster has given out last, where it can be asked. */
const newestRevision = (connect: Connect) =>
  Effect.flatMap(connect, (client) => EtcdMaintenance.fromClient(client).status(once)).pipe(
    Effect.map(({ header }) => header.revision),
    Effect.scoped,
    Effect.orElseSucceed(() => undefined)
  )

/** A client, for as long as the cluster is what it was. */
type Connect = Effect.Effect<EtcdClient.Client, EtcdError.EtcdError, Scope.Scope>

export const restore = (
  fleet: Fleet,
  connect: Connect,
  find: FindTools,
  snapshot: string,
  options: EtcdCluster.RestoreOptions = {}
) => {
  const refuse = refusal("restore")
  const { dryRun: _, onProgress: __, ...given } = options
  const plan = Effect.gen(function* () {
    const { etcd, utl } = yield* tools(find, refuse)
    const known = yield* newestRevision(connect)
    const restoring = yield* RestoreCluster.plan({
      ...given,
      ...(yield* placesOf(fleet, refuse)),
      ...{ etcd, utl, refuse, snapshot, known, setAside: true }
    })
    // All is made while the members run, which are stopped for no more than what is left.
    return [...restoring.slice(0, -1), stopAll(fleet), ...restoring.slice(-1), startAll(fleet)]
  }).pipe(Effect.provideContext(fleet.platform))
  return perform({ name: "restore", client: undefined, plan }, options)
}

/** Whoever is a member and does not run here may know more, and may run. */
const noneElsewhere = Effect.fnUntraced(function* (fleet: Fleet, connect: Connect, refuse: Refuse) {
  const survey = yield* Effect.option(Effect.scoped(Effect.flatMap(connect, Survey.make)))
  if (Option.isNone(survey)) return
  const { members } = survey.value
  if (Survey.hasQuorum(survey.value)) {
    return yield* Effect.fail(
      refuse(
        "has-quorum",
        members.map(Survey.describe),
        "Nothing has to be recovered: see replace, for members that are lost."
      )
    )
  }
  const own = new Set(nodesOf(fleet).map(({ id }) => id))
  const elsewhere = members.filter(({ member }) => !own.has(member.id))
  if (elsewhere.length === 0) return
  return yield* Effect.fail(
    refuse(
      "member-runs",
      elsewhere.map(
        (one) => `${Survey.nameOf(one.member)} (${format(one.member.id)}) is a member, and not one of this program`
      ),
      "Recover where all members are, and when it is known that all others are dead."
    )
  )
})

export const recover = (fleet: Fleet, connect: Connect, find: FindTools, options: EtcdCluster.RecoverOptions = {}) => {
  const refuse = refusal("recover")
  const { dryRun: _, onProgress: __, ...given } = options
  const plan = Effect.gen(function* () {
    yield* noneElsewhere(fleet, connect, refuse)
    const { etcd, utl } = yield* tools(find, refuse)
    const places = yield* placesOf(fleet, refuse)
    const recovering = Recover.plan({ ...given, ...places, etcd, utl, refuse }).pipe(
      Effect.provideContext(fleet.platform)
    )
    return [
      stopAll(fleet),
      composite("make the data of all members from those of who knows most", recovering),
      startAll(fleet)
    ]
  }).pipe(Effect.provideContext(fleet.platform))
  return perform({ name: "recover", client: undefined, plan }, options)
}

/** Remembers who the members are, before there are data of them. */
const remember = (keeper: Keeper): Step => ({
  title: "remember who the members are",
  run: () => Effect.as(keeper.keep, undefined)
})

/** Makes the data of a cluster that does not run. */
export const restoreApart = (
  keeper: Keeper,
  places: Places,
  { etcd, utl }: Tools,
  snapshot: string,
  options: EtcdCluster.RestoreOptions & { readonly setAside?: boolean | undefined }
) =>
  Effect.flatMap(Effect.context<Platform>(), (context) => {
    const refuse = refusal("restore")
    const { dryRun: _, onProgress: __, ...given } = options
    const plan = RestoreCluster.plan({ ...given, ...places, etcd, utl, refuse, snapshot }).pipe(
      Effect.map((steps) => [remember(keeper), ...steps]),
      Effect.provideContext(context)
    )
    return perform({ name: "restore", client: undefined, plan }, options)
  })

export const recoverApart = (
  keeper: Keeper,
  places: Places,
  { etcd, utl }: Tools,
  options: EtcdCluster.RecoverOptions
) =>
  Effect.flatMap(Effect.context<Platform>(), (context) => {
    const refuse = refusal("recover")
    const { dryRun: _, onProgress: __, ...given } = options
    const plan = Recover.plan({ ...given, ...places, etcd, utl, refuse }).pipe(
      Effect.map((steps) => [remember(keeper), ...steps]),
      Effect.provideContext(context)
    )
    return perform({ name: "recover", client: undefined, plan }, options)
  })
