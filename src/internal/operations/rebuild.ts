/**
 * Making the data of all members anew while the cluster is there: from a snapshot, or from what is left of it.
 *
 * @internal
 */
import type * as Array from "effect/Array"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as SemVer from "effect/SemVer"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as EtcdBinary from "../../EtcdBinary.ts"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdCluster from "../../EtcdCluster.ts"
import type * as EtcdError from "../../EtcdError.ts"
import { format } from "../../EtcdId.ts"
import type { ClusterRefused } from "../../EtcdOperationError.ts"
import type * as EtcdProcess from "../../EtcdProcess.ts"
import type { Fleet } from "../cluster/fleet.ts"
import { withoutBinary } from "./etcdutl.ts"
import { perform, type Refuse, refusal, type Step } from "./operation.ts"
import * as Recover from "./recover.ts"
import * as RestoreCluster from "./restoreCluster.ts"
import * as Survey from "./survey.ts"
import { refuseElsewhere } from "./survivors.ts"

/**
 * What finds the executables. It is given, since a module that is loaded later and imports `EtcdBinary` keeps bundlers from
 * leaving that out.
 */
export interface Tools {
  readonly fromInput: typeof EtcdBinary.fromInput
  readonly findUtl: typeof EtcdBinary.findUtl
}

/** What makes a client of the cluster that is to be ended. It is closed before there is another one, which it would warn of. */
export type Connect = Effect.Effect<EtcdClient.Client, EtcdError.EtcdError, Scope.Scope>

const asked = <A, E, R>(connect: Connect, ask: (client: EtcdClient.Client) => Effect.Effect<A, E, R>) =>
  Effect.scoped(Effect.flatMap(connect, ask))

const nodesOf = ({ members }: Fleet): Array.NonEmptyReadonlyArray<EtcdProcess.Node> =>
  SubscriptionRef.getUnsafe(members)

/** The etcd that the members run, and its etcdutl; where an upgrade was ended half-way, the oldest: all take what it writes. */
const executables = Effect.fnUntraced(function* (
  fleet: Fleet,
  { findUtl, fromInput }: Tools,
  path: string | undefined,
  refuse: Refuse
) {
  const orRefuse = Effect.mapError(({ message }: { readonly message: string }) => withoutBinary(refuse, message))
  const [first, ...others] = nodesOf(fleet)
  const oldest = others.reduce((old, node) => (SemVer.Order(node.version, old.version) < 0 ? node : old), first)
  const etcd = yield* orRefuse(fromInput(fleet.binaryOf(oldest)))
  const utl = yield* orRefuse(findUtl(etcd, { path }))
  return { etcd, utl }
})

/** Where the data of the members are to be. A log of its own directory is not among what can be put in place as a whole. */
const placesOf = Effect.fnUntraced(function* (fleet: Fleet, refuse: Refuse, scope: Scope.Scope) {
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
  const workDirectory = dirname(members[0]!.dataDir)
  const begin = Effect.andThen(RestoreCluster.aloneIn(workDirectory, refuse), fleet.rememberLost).pipe(
    // What members are started with has a scope as well.
    Scope.provide(scope),
    Effect.provideContext(fleet.platform)
  )
  return { members, workDirectory, begin }
})

/** Who is a member and does not run here would be left in the old cluster, and with it its data, if it was ever started. */
const noneElsewhere = (fleet: Fleet, survey: Survey.Survey, refuse: Refuse) => {
  const here = nodesOf(fleet).map(({ id }) => id)
  const elsewhere = survey.members.filter(({ member }) => !here.includes(member.id) && member.clientUrls.length > 0)
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

/** Those for whom data were made are those who get them. */
const stopping = (fleet: Fleet, refuse: Refuse): Step => {
  const planned = nodesOf(fleet)
  return {
    title: "stop all members",
    run: () =>
      Effect.gen(function* () {
        const now = nodesOf(fleet)
        if (now.length !== planned.length || now.some((node) => !planned.includes(node))) {
          const evidence = [`there were ${planned.map(({ name }) => name).join(", ")}`]
          return yield* Effect.fail(
            refuse("changed", evidence, "Another operation has changed the members: run it again.")
          )
        }
        yield* fleet.stop
        // One that is down may be about to be started again by its schedule.
        yield* Effect.forEach(now, (node) => node.stop, { concurrency: "unbounded", discard: true })
        return undefined
      })
  }
}

/** They are in another cluster from now on, with other ids. */
const starting = (fleet: Fleet): Step => ({
  title: "start all members",
  run: () =>
    Effect.map(
      Effect.forEach(nodesOf(fleet), (node) => fleet.renew(node), { concurrency: "unbounded" }),
      ([node]) => (node === undefined ? undefined : `they are the cluster ${format(node.clusterId)} now`)
    )
})

/** The clusters whose data are just made anew. Such an operation holds no lock in the cluster, which it ends. */
const busy = new WeakSet<Fleet>()

const alone = <A, E>(fleet: Fleet, refuse: Refuse, use: (scope: Scope.Scope) => Effect.Effect<A, E>) =>
  Effect.suspend((): Effect.Effect<A, E | ClusterRefused> => {
    if (busy.has(fleet)) {
      const evidence = ["the data of this cluster are just being made anew"]
      return Effect.fail(refuse("changed", evidence, "Wait for that."))
    }
    busy.add(fleet)
    return Effect.ensuring(
      Effect.scoped(Effect.flatMap(Effect.scope, use)),
      Effect.sync(() => busy.delete(fleet))
    )
  })

const isRunning = (node: EtcdProcess.Node) => Effect.map(node.pid, Option.isSome)

/** For how long those that run may be about to elect a leader. */
const electing = "10 seconds"

/**
 * Whether the cluster decides: as its members say, or as their logs do. A client may not be let in to ask them, and who has
 * lost a leader may be about to elect the next one.
 */
const decides = Effect.fnUntraced(function* (fleet: Fleet, client: EtcdClient.Client) {
  const nodes = nodesOf(fleet)
  const least = Survey.majority(nodes.length)
  const look = Effect.gen(function* () {
    const survey = yield* Effect.option(Survey.make(client))
    if (Option.isSome(survey) && Survey.hasQuorum(survey.value)) return survey.value.members.map(Survey.describe)
    const running = yield* Effect.filter(nodes, isRunning)
    const led = running.filter(({ role }) => Option.isSome(SubscriptionRef.getUnsafe(role).leader))
    if (led.length >= least) return led.map(({ name }) => `${name} runs, and knows of a leader`)
    return running.length >= least ? ("perhaps" as const) : undefined
  })
  const seen = yield* Effect.repeat(look, {
    while: (found) => found === "perhaps",
    schedule: Schedule.spaced("100 millis").pipe(Schedule.upTo({ duration: electing }))
  })
  return seen === "perhaps" ? undefined : seen
})

export const restore = (
  fleet: Fleet,
  connect: Connect,
  tools: Tools,
  snapshot: string,
  options: EtcdCluster.RestoreOptions = {}
) => {
  const refuse = refusal("restore")
  const plan = (scope: Scope.Scope) =>
    Effect.gen(function* () {
      const { etcdutl, ...own } = options
      const found = yield* executables(fleet, tools, etcdutl, refuse)
      const places = yield* placesOf(fleet, refuse, scope)
      const survey = yield* asked(connect, (client) => Effect.option(Survey.make(client)))
      if (Option.isSome(survey)) yield* noneElsewhere(fleet, survey.value, refuse)
      // Where nobody here can be asked, their data can.
      yield* refuseElsewhere(places.members, refuse)
      const revisions = Option.match(survey, {
        onNone: () => [],
        onSome: ({ members }) => members.flatMap(({ status }) => status?.header.revision ?? [])
      })
      const known = revisions.reduce((newest, revision) => (revision > newest ? revision : newest), 0n)
      const steps = yield* RestoreCluster.plan({ ...own, ...found, ...places, refuse, snapshot, known, setAside: true })
      // All is made beside what there is, so that the cluster is away only for as long as it takes to put that in place.
      return [...steps.slice(0, -1), stopping(fleet, refuse), ...steps.slice(-1), starting(fleet)]
    }).pipe(Effect.provideContext(fleet.platform))
  return alone(fleet, refuse, (scope) => perform({ name: "restore", client: undefined, plan: plan(scope) }, options))
}

export const recover = (fleet: Fleet, connect: Connect, tools: Tools, options: EtcdCluster.RecoverOptions = {}) => {
  const refuse = refusal("recover")
  const plan = (scope: Scope.Scope) =>
    Effect.gen(function* () {
      const { etcdutl, ...own } = options
      const evidence = yield* asked(connect, (client) => decides(fleet, client))
      if (evidence !== undefined) {
        return yield* Effect.fail(
          refuse("has-quorum", evidence, "A cluster that decides is mended by replace, or restored from a snapshot.")
        )
      }
      const found = yield* executables(fleet, tools, etcdutl, refuse)
      const places = yield* placesOf(fleet, refuse, scope)
      const running = yield* Effect.filter(nodesOf(fleet), isRunning)
      const isStopped = running.length === 0
      const steps = yield* Recover.plan({ ...own, ...found, ...places, refuse }, isStopped)
      return [stopping(fleet, refuse), ...steps, starting(fleet)]
    }).pipe(Effect.provideContext(fleet.platform))
  return alone(fleet, refuse, (scope) => perform({ name: "recover", client: undefined, plan: plan(scope) }, options))
}
