/**
 * Making the data of all members anew while the cluster is there: from a snapshot, or from what is left of it.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as SemVer from "effect/SemVer"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as EtcdBinary from "../../EtcdBinary.ts"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdCluster from "../../EtcdCluster.ts"
import type * as EtcdProcess from "../../EtcdProcess.ts"
import type { Fleet } from "../cluster/fleet.ts"
import { perform, type Refuse, refusal, type Step } from "./operation.ts"
import * as Recover from "./recover.ts"
import * as RestoreCluster from "./restoreCluster.ts"
import * as Survey from "./survey.ts"

/**
 * What finds the executables. It is given, since a module that is loaded later and imports `EtcdBinary` keeps bundlers from
 * leaving that out.
 */
export interface Tools {
  readonly fromInput: typeof EtcdBinary.fromInput
  readonly findUtl: typeof EtcdBinary.findUtl
}

const nodesOf = ({ members }: Fleet): ReadonlyArray<EtcdProcess.Node> => SubscriptionRef.getUnsafe(members)

/** The etcd that the members run, and its etcdutl. */
const executables = Effect.fnUntraced(function* (
  fleet: Fleet,
  { findUtl, fromInput }: Tools,
  path: string | undefined,
  refuse: Refuse
) {
  const orRefuse = Effect.mapError(({ message }: { readonly message: string }) =>
    refuse("binary", [message], "Install it, or say where it is by the option etcdutl.")
  )
  const nodes = nodesOf(fleet)
  const versions = new Set(nodes.map(({ version }) => SemVer.format(version)))
  if (versions.size > 1) {
    const evidence = nodes.map(({ name, version }) => `${name} runs etcd ${SemVer.format(version)}`)
    return yield* Effect.fail(refuse("unsupported-version", evidence, "Let all run one version first (upgrade)."))
  }
  const etcd = yield* orRefuse(fromInput(fleet.binaryOf(nodes[0]!)))
  const utl = yield* orRefuse(findUtl(etcd, { path }))
  return { etcd, utl }
})

/** Where the data of the members are to be. A log of its own directory is not among what can be put in place as a whole. */
const placesOf = Effect.fnUntraced(function* (fleet: Fleet, refuse: Refuse) {
  const nodes = nodesOf(fleet)
  const apart = nodes.filter(({ config }) => config.options.walDir !== undefined)
  if (apart.length > 0) {
    const evidence = apart.map(({ config, name }) => `${name} has its log in ${config.options.walDir}`)
    return yield* Effect.fail(
      refuse("config", evidence, "Use etcdutl for members whose log has a directory of its own (walDir).")
    )
  }
  const { dirname } = yield* Path.Path
  const members = nodes.map(({ config, name }) => ({
    name,
    dataDir: config.dataDir,
    peerUrls: config.options.initialAdvertisePeerUrls ?? []
  }))
  return { members, workDirectory: dirname(members[0]!.dataDir) }
})

/** Who is a member and does not run here would be left in the old cluster, and with it its data. */
const noneElsewhere = (fleet: Fleet, survey: Survey.Survey, refuse: Refuse) => {
  const here = nodesOf(fleet).map(({ id }) => id)
  const elsewhere = survey.members.filter(({ member }) => !here.includes(member.id))
  return elsewhere.length === 0
    ? Effect.void
    : Effect.fail(
        refuse(
          "member-runs",
          elsewhere.map((one) => `${Survey.describe(one)}, and does not run here`),
          "All members have to be in the hands of this program."
        )
      )
}

const stopping = (fleet: Fleet): Step => ({
  title: "stop all members",
  run: () => Effect.as(fleet.stop, undefined)
})

/** They are in another cluster from now on, with other ids. */
const starting = (fleet: Fleet): Step => ({
  title: "start all members",
  run: () =>
    Effect.map(
      Effect.forEach(nodesOf(fleet), (node) => fleet.renew(node), { concurrency: "unbounded" }),
      ([node]) => (node === undefined ? undefined : `they are the cluster ${node.clusterId.toString(16)} now`)
    )
})

const isDown = (node: EtcdProcess.Node) => Effect.map(node.pid, Option.isNone)

export const restore = (
  fleet: Fleet,
  client: EtcdClient.Client,
  tools: Tools,
  snapshot: string,
  options: EtcdCluster.RestoreOptions = {}
) => {
  const refuse = refusal("restore")
  const plan = Effect.gen(function* () {
    const { etcdutl, ...own } = options
    const found = yield* executables(fleet, tools, etcdutl, refuse)
    const places = yield* placesOf(fleet, refuse)
    const survey = yield* Effect.option(Survey.make(client))
    if (Option.isSome(survey)) yield* noneElsewhere(fleet, survey.value, refuse)
    const revisions = Option.match(survey, {
      onNone: () => [],
      onSome: ({ members }) => members.flatMap(({ status }) => status?.header.revision ?? [])
    })
    const known = revisions.reduce((newest, revision) => (revision > newest ? revision : newest), 0n)
    const steps = yield* RestoreCluster.plan({ ...own, ...found, ...places, refuse, snapshot, known, setAside: true })
    // All is made beside what there is, so that the cluster is away only for as long as it takes to put that in place.
    return [...steps.slice(0, -1), stopping(fleet), ...steps.slice(-1), starting(fleet)]
  }).pipe(Effect.provideContext(fleet.platform))
  return perform({ name: "restore", client: undefined, plan }, options)
}

export const recover = (
  fleet: Fleet,
  client: EtcdClient.Client,
  tools: Tools,
  options: EtcdCluster.RecoverOptions = {}
) => {
  const refuse = refusal("recover")
  const plan = Effect.gen(function* () {
    const { etcdutl, ...own } = options
    const survey = yield* Effect.option(Survey.make(client))
    if (Option.isSome(survey) && Survey.hasQuorum(survey.value)) {
      return yield* Effect.fail(
        refuse(
          "has-quorum",
          survey.value.members.map(Survey.describe),
          "A cluster that decides is mended by replace, or restored from a snapshot."
        )
      )
    }
    const found = yield* executables(fleet, tools, etcdutl, refuse)
    const places = yield* placesOf(fleet, refuse)
    const areDown = yield* Effect.forEach(nodesOf(fleet), isDown)
    const isStopped = !areDown.includes(false)
    const steps = yield* Recover.plan({ ...own, ...found, ...places, refuse }, isStopped)
    return [...(isStopped ? [] : [stopping(fleet)]), ...steps, starting(fleet)]
  }).pipe(Effect.provideContext(fleet.platform))
  return perform({ name: "recover", client: undefined, plan }, options)
}
