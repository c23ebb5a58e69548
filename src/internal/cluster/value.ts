/**
 * A cluster as a program sees it.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdBinary from "../../EtcdBinary.ts"
import * as EtcdClient from "../../EtcdClient.ts"
import type { Cluster, DowngradeOptions, GrowOptions, ReplaceOptions, UpgradeOptions } from "../../EtcdCluster.ts"
import * as EtcdConfig from "../../EtcdConfig.ts"
import type * as EtcdError from "../../EtcdError.ts"
import type * as EtcdProcess from "../../EtcdProcess.ts"
import * as Json from "../json.ts"
import { aMember, ofOperation } from "../operations/options.ts"
import * as Checks from "../options.ts"
import * as ProcessOptions from "../process/options.ts"
import * as Tracing from "../tracing.ts"
import type { Fleet } from "./fleet.ts"
import { aSnapshot, ofRecover, ofRestore } from "./options.ts"

/** Where clients reach a member. */
export type EndpointsOf = (node: EtcdProcess.Node) => Effect.Effect<ReadonlyArray<string>>

const ofNode: EndpointsOf = ({ endpoints }) => Effect.succeed(endpoints)

const wrongMember = (name: string, member: unknown) =>
  Checks.wrongArgument(`EtcdCluster.${name}`, "the member", aMember, member)

const config: Checks.Check = { accepts: Checks.isObject, due: "an object with options of etcd" }

const ofGrow: Checks.Checks<GrowOptions> = { ...ofOperation, to: Checks.count, config }

const ofDowngrade: Checks.Checks<DowngradeOptions> = { ...ofOperation, binary: ProcessOptions.binary }

const ofUpgrade: Checks.Checks<UpgradeOptions> = {
  ...ofDowngrade,
  backup: {
    accepts: (value) => value === false || Checks.text("").accepts(value),
    due: "the name of a file, as text that is not empty, or false"
  }
}

/** What cannot be left out. */
const needed = (name: string, given: Partial<UpgradeOptions> | undefined) => {
  if (given?.binary === undefined)
    return fail(`EtcdCluster.${name}: say with the option binary which etcd is to be run.`)
  if (name !== "upgrade" || given.backup !== undefined) return undefined
  return fail(`EtcdCluster.${name}: say with the option backup which file a snapshot goes to before, or false.`)
}

const fail = (message: string) => Effect.fail(Checks.invalid(message))

/** What a member is to have for itself makes sense by itself. */
const readable = (name: string, given: { readonly config?: EtcdConfig.Input | undefined } | undefined) =>
  Effect.mapError(EtcdConfig.decode(given?.config ?? {}), ({ message }) =>
    Checks.invalid(`EtcdCluster.${name}: what is in the option config makes no sense. ${message}`)
  )

const ofReplace: Checks.Checks<ReplaceOptions> = { ...ofOperation, config }

export const fromFleet = (
  fleet: Fleet,
  options: Pick<EtcdProcess.Options, "client">,
  endpointsOf: EndpointsOf = ofNode
): Cluster => {
  const { awaitLeader, leader, members, opened } = fleet
  const endpoints = SubscriptionRef.changes(opened).pipe(
    Stream.mapEffect((nodes) => Effect.map(Effect.forEach(nodes, endpointsOf), (each) => each.flat())),
    Stream.filter((all) => all.length > 0)
  )
  const allEndpoints = Effect.suspend(() => Effect.forEach(SubscriptionRef.getUnsafe(members), endpointsOf))
  /** One that looks at all members, learners too, though its calls go to none of these. */
  const client = Effect.map(EtcdClient.make({ ...options.client, endpoints }), (client) => ({
    ...client,
    endpoints: Effect.map(allEndpoints, (each) => each.flat())
  }))
  const refused = <O extends object>(name: string, checks: Checks.Checks<O>, given: O | undefined) =>
    Checks.wrongOptions(`EtcdCluster.${name}`, checks, given)
  /** By a client of its own, with what is loaded for it. */
  const operate = <M, A, E>(
    name: string,
    load: () => Promise<M>,
    run: (module: M, client: EtcdClient.Client) => Effect.Effect<A, E>
  ): Effect.Effect<A, E | EtcdError.EtcdError> =>
    Tracing.traced(
      Effect.scoped(
        Effect.flatMap(Effect.all([Effect.promise(load), client]), ([module, client]) => run(module, client))
      ),
      `EtcdCluster.${name}`
    )
  /** Makes another cluster of it, for which a client of before is of no use. */
  const remake = <A, E>(
    name: string,
    run: (module: typeof import("../operations/rebuild.ts")) => Effect.Effect<A, E>
  ): Effect.Effect<A, E> => Tracing.traced(Effect.flatMap(Effect.promise(rebuild), run), `EtcdCluster.${name}`)
  const resize = () => import("../operations/resize.ts")
  const repairing = () => import("../operations/repairCorrupt.ts")
  const versions = () => import("../operations/upgrade.ts")
  const rebuild = () => import("../operations/rebuild.ts")
  const roll = () => import("../operations/roll.ts")
  const cluster: Cluster = {
    members,
    leader,
    awaitLeader,
    endpoints,
    client: EtcdClient.layer({ ...options.client, endpoints }),
    grow: (given) =>
      refused("grow", ofGrow, given) ??
      Effect.andThen(
        readable("grow", given),
        operate("grow", resize, ({ grow }, client) => grow(fleet, client, given))
      ),
    shrink: (member, given) =>
      (member === undefined ? undefined : wrongMember("shrink", member)) ??
      refused("shrink", ofOperation, given) ??
      operate("shrink", resize, ({ shrink }, client) => shrink(fleet, client, member, given)),
    replace: (member, given) =>
      wrongMember("replace", member) ??
      refused("replace", ofReplace, given) ??
      Effect.andThen(
        readable("replace", given),
        operate("replace", resize, ({ replace }, client) => replace(fleet, client, member, given))
      ),
    repairCorrupt: (given) =>
      refused("repairCorrupt", ofReplace, given) ??
      Effect.andThen(
        readable("repairCorrupt", given),
        operate("repairCorrupt", repairing, ({ repairCorrupt }, client) => repairCorrupt(fleet, client, given))
      ),
    restart: (given) =>
      refused("restart", ofOperation, given) ??
      operate("restart", roll, ({ restart }, client) => restart(fleet, client, given)),
    upgrade: (given) =>
      needed("upgrade", given) ??
      refused("upgrade", ofUpgrade, given) ??
      operate("upgrade", versions, ({ upgrade }, client) =>
        upgrade(fleet, client, EtcdBinary.fromInput(given.binary), given)
      ),
    downgrade: (given) =>
      needed("downgrade", given) ??
      refused("downgrade", ofDowngrade, given) ??
      operate("downgrade", versions, ({ downgrade }, client) =>
        downgrade(fleet, client, EtcdBinary.fromInput(given.binary), given)
      ),
    restore: (snapshot, given) =>
      Checks.wrongArgument("EtcdCluster.restore", "the snapshot", aSnapshot, snapshot) ??
      refused("restore", ofRestore, given) ??
      remake("restore", ({ restore }) => restore(fleet, client, EtcdBinary, snapshot, given)),
    recover: (given) =>
      refused("recover", ofRecover, given) ??
      remake("recover", ({ recover }) => recover(fleet, client, EtcdBinary, given))
  }
  return Json.showing(cluster, ({ leader, members }) => ({
    members: SubscriptionRef.getUnsafe(members),
    leader: Option.map(SubscriptionRef.getUnsafe(leader), ({ name }) => name)
  }))
}
