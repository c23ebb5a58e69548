/**
 * Other versions of etcd for all members, one after another: newer ones, and older ones after the cluster was prepared.
 *
 * What is checked before the first member is stopped comes from etcd's upgrade guides and these issues: one minor version at
 * a time; to 3.6 only from 3.5.26 on, or members that were promoted by an older one count as learners again (etcd-io/etcd
 * 19557, 20793, 20967); to 3.7 only from 3.6.11 on; options that are gone. From its guides to downgrades: from 3.6 on a
 * cluster is prepared for one; 3.5 knows nothing of it, and 3.4 takes data of 3.5 from 3.4.32 on, with an option for that.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Result from "effect/Result"
import * as SemVer from "effect/SemVer"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdAuth from "../../EtcdAuth.ts"
import type * as EtcdBinary from "../../EtcdBinary.ts"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdCluster from "../../EtcdCluster.ts"
import type * as EtcdConfig from "../../EtcdConfig.ts"
import * as EtcdMaintenance from "../../EtcdMaintenance.ts"
import type * as EtcdProcess from "../../EtcdProcess.ts"
import type { EtcdProcessError } from "../../EtcdProcessError.ts"
import type { Fleet, Platform } from "../cluster/fleet.ts"
import * as Committed from "../maintenance/committed.ts"
import * as Time from "../time.ts"
import * as Backup from "./backup.ts"
import { perform, type Refuse, refusal, type Step, type Tell } from "./operation.ts"
import * as Roll from "./roll.ts"
import * as Survey from "./survey.ts"

const minorOf = ({ major, minor }: SemVer.SemVer): string => `${major}.${minor}`

const isSame = (a: SemVer.SemVer, b: SemVer.SemVer): boolean => SemVer.Order(a, b) === 0

/** From which version of the minor before on a cluster may be upgraded to a minor one. */
const earliest: { readonly [minor: number]: SemVer.SemVer } = {
  6: SemVer.make({ major: 3, minor: 5, patch: 26 }),
  7: SemVer.make({ major: 3, minor: 6, patch: 11 })
}

const earliestOf = (from: SemVer.SemVer, to: SemVer.SemVer): SemVer.SemVer | undefined =>
  from.minor < to.minor ? earliest[to.minor] : undefined

/** The first of 3.4 that takes data of 3.5, without what is logged there of users. */
const takesBack = SemVer.make({ major: 3, minor: 4, patch: 32 })

interface Versioned {
  readonly node: EtcdProcess.Node
  readonly version: SemVer.SemVer
}

const named = ({ node: { name }, version }: Versioned) => ({ name, version })

/** Which version each member is of that runs here. All have to answer, also those that run elsewhere. */
const versionsOf = (fleet: Fleet, survey: Survey.Survey, refuse: Refuse) =>
  Effect.gen(function* () {
    // One that was removed, and whose data are still there, is none of them.
    const nodes = SubscriptionRef.getUnsafe(fleet.members).filter(({ id }) =>
      survey.members.some(({ member }) => member.id === id)
    )
    // Who could be started neither as it was nor anew, when this was tried before, is the first to be tried again.
    const isLost = ({ member: { id } }: Survey.Surveyed) => nodes.some((node) => node.id === id && fleet.isLost(node))
    const silent = survey.members.filter((one) => one.status === undefined && !isLost(one))
    if (silent.length > 0) {
      return yield* Effect.fail(
        refuse(
          "unhealthy-member",
          silent.map(Survey.describe),
          "All members have to be there: start them, or replace them."
        )
      )
    }
    return nodes.map((node): Versioned => ({ node, version: node.version }))
  })

/**
 * Finds the executable, and asks it for its version. It is given, since a module that is loaded later and imports `EtcdBinary`
 * keeps bundlers from leaving that out.
 */
type Find<R> = Effect.Effect<EtcdBinary.EtcdBinary, EtcdProcessError, R>

const executable = <R>(find: Find<R>, refuse: Refuse) =>
  Effect.mapError(find, ({ message }) =>
    refuse("binary", [message], "Give the path of an etcd, or the release to fetch.")
  )

/** Options that the version does not have, or takes in another way, are found before anything is stopped. */
const suiting = (fleet: Fleet, nodes: ReadonlyArray<EtcdProcess.Node>, version: SemVer.SemVer, refuse: Refuse) =>
  Effect.forEach(
    nodes,
    (node) =>
      Effect.mapError(fleet.suits(node, version), ({ message }) =>
        refuse("config", [message], `Change the configuration to what etcd ${SemVer.format(version)} takes.`)
      ),
    { discard: true }
  )

/** How long it may take until the members agree on the version of the cluster: etcd looks every four or five seconds. */
const agreementMillis = 60_000

/**
 * Whether the cluster has that version, and no downgrade is under way. No call answers which one it has; but it says whether
 * it could be downgraded by one from there.
 */
const hasVersion = (client: EtcdClient.Client, { major, minor }: SemVer.SemVer) =>
  minor < 5
    ? Effect.succeed(true)
    : EtcdMaintenance.fromClient(client)
        .validateDowngrade(`${major}.${minor - 1}.0`)
        .pipe(
          Effect.as(true),
          Effect.catchReason("EtcdError", "InvalidDowngradeTarget", () => Effect.succeed(false)),
          Effect.catchReason("EtcdError", "DowngradeInProgress", () => Effect.succeed(false))
        )

const isOf = (version: SemVer.SemVer, text: Option.Option<string> | undefined): boolean =>
  text !== undefined && Option.exists(text, (said) => said.startsWith(minorOf(version)))

/** Waits until the cluster has that version, which is when the next one may follow. */
const agreed = (client: EtcdClient.Client, version: SemVer.SemVer, refuse: Refuse): Step => ({
  title: `await that the cluster has version ${minorOf(version)}`,
  run: () =>
    Effect.gen(function* () {
      const time = yield* Time.Time
      const giveUp = time.now() + agreementMillis
      while (!(yield* hasVersion(client, version))) {
        if (time.now() > giveUp) yield* Effect.fail(notAgreed(version, refuse))
        yield* Time.sleep(time, 100)
      }
      return undefined
    })
})

const notAgreed = (version: SemVer.SemVer, refuse: Refuse) =>
  refuse(
    "unhealthy-member",
    [`the cluster has not come to version ${minorOf(version)}`],
    "All members have to run it, those that run elsewhere too, and to be reached by the leader."
  )

/** How long a member may take to write down how far it is. */
const snapshotMillis = 30_000

/** How far a snapshot is, by the name of its file: `0000000000000002-000000000000001a.snap`. */
const indexOf = (name: string): bigint => BigInt(`0x${/^[0-9a-f]{16}-([0-9a-f]{16})\.snap$/.exec(name)?.[1] ?? "0"}`)

/** The newest snapshot of a member, from which on it reads its log. */
const snapshotOf = (node: EtcdProcess.Node) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const directory = path.join(node.config.dataDir, "member", "snap")
    const names = yield* Effect.orElseSucceed(fs.readDirectory(directory), () => [])
    const newest = names.reduce((one, other) => (indexOf(other) > indexOf(one) ? other : one), "")
    return { index: indexOf(newest), file: path.join(directory, newest) }
  })

/**
 * Lets a member begin its log anew. Members of 3.5 and older announce themselves with requests of the API that was before v3,
 * and 3.7 cannot read these (`apply.Apply` panics: "unmarshal should never fail"), also where they were applied long ago: it
 * reads its log from the last snapshot on, of which there is one in 10,000 entries. A quiet cluster that has come from 3.5
 * would not start with 3.7.
 */
const withoutOldRequests = (fleet: Fleet, node: EtcdProcess.Node) =>
  Effect.gen(function* () {
    const before = yield* snapshotOf(node)
    const renewed = yield* fleet.renew(node, { config: { snapshotCount: 1 } })
    const time = yield* Time.Time
    const giveUp = time.now() + snapshotMillis
    // It announces itself when it starts, which is an entry more.
    while ((yield* snapshotOf(node)).index <= before.index && time.now() < giveUp) yield* Time.sleep(time, 20)
    return renewed
  }).pipe(Effect.provideContext(fleet.platform))

/** With this a 3.4 takes data of 3.5, and writes a snapshot soon. */
const takingBack = { nextClusterVersionCompatible: true, snapshotCount: 1 } as const satisfies EtcdConfig.EtcdOptions

const isTakingBack = ({ config: { options } }: EtcdProcess.Node): boolean =>
  options.nextClusterVersionCompatible === true && options.snapshotCount === 1

/** Whether a snapshot that is so far says that the cluster has that version: there the old API has kept it as JSON. */
const hasSnapshotOf = (node: EtcdProcess.Node, version: SemVer.SemVer, least: bigint) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const { file, index } = yield* snapshotOf(node)
    if (index < least) return false
    const bytes = yield* Effect.orElseSucceed(fs.readFile(file), () => new Uint8Array())
    const found = /"Path":"\/0\/version"[^{}]*"Value":"([\d.]+)"/.exec(new TextDecoder("latin1").decode(bytes))
    return isOf(version, Option.fromNullishOr(found?.[1]))
  })

/**
 * Lets a member of 3.5 become a 3.4, which can be started as usual then. Until it has a snapshot that says that the cluster is of
 * 3.4, it finds in its log that this has been of 3.5, and refuses to start without being told that it may.
 */
const takenBack = (
  fleet: Fleet,
  client: EtcdClient.Client,
  node: EtcdProcess.Node,
  { path, version }: EtcdBinary.EtcdBinary,
  refuse: Refuse,
  tell: Tell
) =>
  Effect.gen(function* () {
    const time = yield* Time.Time
    const isReady = isTakingBack(node) && !fleet.isLost(node)
    const renewed = isReady ? node : yield* fleet.renew(node, { binary: path, config: takingBack })
    const giveUp = time.now() + agreementMillis
    yield* tell(`waits until it has written down that the cluster has version ${minorOf(version)}`)
    const { raftAppliedIndex } = yield* EtcdMaintenance.fromClient(client).status({ endpoint: renewed.endpoints[0] })
    while (!(yield* hasSnapshotOf(renewed, version, raftAppliedIndex))) {
      if (time.now() > giveUp) return yield* Effect.fail(notAgreed(version, refuse))
      // An entry, so that there is something to write a snapshot of.
      yield* Committed.writeDown(client)
      yield* Time.sleep(time, 100)
    }
    return renewed
  }).pipe(Effect.provideContext(fleet.platform))

const rolling = (
  fleet: Fleet,
  client: EtcdClient.Client,
  refuse: Refuse,
  survey: Survey.Survey & { readonly leader: Survey.Surveyed },
  versioned: ReadonlyArray<Versioned>,
  target: EtcdBinary.EtcdBinary
) =>
  Roll.steps(
    client,
    refuse,
    survey,
    versioned
      .filter(({ node, version }) => !isSame(version, target.version) || isTakingBack(node))
      .map(({ node }) => node),
    {
      verb: `run etcd ${SemVer.format(target.version)} as`,
      run: (node, tell) => {
        const { version } = node
        const isBefore = version.minor < 7 && target.version.minor >= 7
        const comesBack = target.version.minor === 4 && (version.minor === 5 || isTakingBack(node))
        const change = Effect.gen(function* () {
          const ready = comesBack
            ? yield* takenBack(fleet, client, node, target, refuse, tell)
            : isBefore
              ? yield* withoutOldRequests(fleet, node)
              : node
          yield* fleet.renew(ready, { binary: target.path }, comesBack ? takingBack : undefined)
          return `it was ${SemVer.format(version)}`
        })
        // Else it would go on as one that writes a snapshot of each entry.
        return isBefore ? Effect.uninterruptible(change) : change
      }
    }
  )

/** Who runs which version, and which is to be run. */
const look = Effect.fnUntraced(function* (
  fleet: Fleet,
  client: EtcdClient.Client,
  find: Find<Platform>,
  refuse: Refuse
) {
  const survey = yield* Survey.whole(client, refuse)
  const target = yield* executable(find, refuse)
  const versioned = yield* versionsOf(fleet, survey, refuse)
  const elsewhere = survey.members.flatMap(({ member, status }) => {
    if (versioned.some(({ node }) => node.id === member.id)) return []
    return Option.toArray(Result.getSuccess(SemVer.parse(status?.version ?? ""))).map((version) => ({
      name: Survey.nameOf(member),
      version
    }))
  })
  const evidence = survey.members.map(Survey.describe)
  const unsupported = (why: string, help: string) =>
    Effect.fail(refuse("unsupported-version", [why, ...evidence], help))
  return { survey, target, version: target.version, versioned, elsewhere, unsupported }
})

/** A snapshot of how it was before. It is not taken again where members have changed already. */
const saved = (fleet: Fleet, client: EtcdClient.Client, file: string): Step => ({
  title: `back up to ${file}`,
  run: () =>
    Backup.oneFile(client, file).pipe(
      Effect.map(({ backup }) =>
        backup === undefined ? undefined : `of ${backup.member}, at revision ${backup.revision}`
      ),
      Effect.catchTag("OperationFailed", ({ cause }) =>
        // It holds no lock.
        cause._tag === "LockLost" ? Effect.die(cause) : Effect.fail(cause)
      ),
      Effect.provideContext(fleet.platform)
    )
})

export const upgrade = (
  fleet: Fleet,
  client: EtcdClient.Client,
  find: Find<Platform>,
  options: Omit<EtcdCluster.UpgradeOptions, "binary">
) => {
  const refuse = refusal("upgrade")
  const plan = Effect.gen(function* () {
    const { elsewhere, survey, target, unsupported, version, versioned } = yield* look(fleet, client, find, refuse)
    const to = `etcd ${SemVer.format(version)}`
    const isMixed = versioned.some(({ version: { minor } }) => minor === version.minor)
    for (const { name, version: from } of [...versioned.map(named), ...elsewhere]) {
      if (from.major !== version.major || from.minor > version.minor) {
        return yield* unsupported(
          `${name} has a newer version than ${to}`,
          "Use downgrade, one minor version at a time."
        )
      }
      if (version.minor - from.minor > 1) {
        return yield* unsupported(
          `from ${minorOf(from)} to ${minorOf(version)} is more than one minor version`,
          `Upgrade to ${from.major}.${from.minor + 1} first.`
        )
      }
      const least = earliestOf(from, version)
      if (least !== undefined && SemVer.Order(from, least) < 0) {
        return yield* unsupported(
          `${name} has ${SemVer.format(from)}, and to ${minorOf(version)} all members have to come from ` +
            `${SemVer.format(least)} or newer, as etcd's guide to upgrades says`,
          // A downgrade may have been ended half-way.
          `${isMixed ? "Downgrade" : "Upgrade"} all to the newest ${minorOf(from)} first.`
        )
      }
    }
    const nodes = versioned.map(({ node }) => node)
    yield* suiting(fleet, nodes, version, refuse)
    const steps = rolling(fleet, client, refuse, survey, versioned, target)
    const agree = agreed(client, version, refuse)
    // Who was of 3.5 did not tell of a downgrade.
    const agreeAnew: Step = { ...agree, run: (tell) => Effect.andThen(cancel(client, refuse), agree.run(tell)) }
    const isFirst = versioned.every((one) => isSame(one.version, versioned[0]!.version))
    const isNewMinor = versioned.some(({ version: { minor } }) => minor !== version.minor)
    const wasDowngrading = survey.members.some(isDowngrading)
    if (steps.length === 0 && !wasDowngrading) return (yield* hasVersion(client, version)) ? [] : [agreeAnew]
    return [
      ...(wasDowngrading ? [cancelled(client, refuse)] : []),
      ...(options.backup === false || !isFirst || steps.length === 0 ? [] : [saved(fleet, client, options.backup)]),
      ...steps,
      ...(isNewMinor || wasDowngrading ? [agreeAnew] : [])
    ]
  }).pipe(Effect.provideContext(fleet.platform))
  return perform({ name: "upgrade", client, turn: fleet.turn, plan }, options)
}

const isDowngrading = ({ status }: Survey.Surveyed): boolean => Option.isSome(status?.downgradeTarget ?? Option.none())

/** Asks a member that tells of the downgrade: one of 3.5 cancels it too, but never answers that it has. */
const cancel = (client: EtcdClient.Client, refuse: Refuse) =>
  Effect.gen(function* () {
    const { members } = yield* Survey.settled(client, refuse)
    const endpoint = members.find(isDowngrading)?.endpoint
    if (endpoint === undefined) return
    yield* Effect.catchReason(
      EtcdMaintenance.fromClient(client).cancelDowngrade({ endpoint }),
      "EtcdError",
      "NoDowngrade",
      () => Effect.void
    )
  })

const cancelled = (client: EtcdClient.Client, refuse: Refuse): Step => ({
  title: "cancel the downgrade",
  run: () => Effect.as(cancel(client, refuse), undefined)
})

/**
 * Lets the cluster take members of the older version, which takes until all have written their data in its format: etcd says
 * so from 3.6 on. A cluster has the older version soon after that was enabled, and etcd then refuses to enable it once more,
 * as it refuses a version that is too old. So it does where the cluster has still to come to the version that its members
 * have, which were started with it again a moment ago.
 */
const prepared = (client: EtcdClient.Client, version: SemVer.SemVer, refuse: Refuse): Step => ({
  title: `prepare the cluster for ${minorOf(version)}`,
  run: (tell) =>
    Effect.gen(function* () {
      const maintenance = EtcdMaintenance.fromClient(client)
      const time = yield* Time.Time
      const giveUp = time.now() + agreementMillis
      const isEnabled = ({ status }: Survey.Surveyed) => isOf(version, status?.downgradeTarget)
      const isWritten = ({ status }: Survey.Surveyed) => isOf(version, status?.storageVersion)
      const enable = maintenance.enableDowngrade(`${minorOf(version)}.0`).pipe(
        Effect.asVoid,
        Effect.catchReason("EtcdError", "DowngradeInProgress", () => Effect.void)
      )
      let told: string | undefined
      while (true) {
        const { members } = yield* Survey.settled(client, refuse)
        const others = members.filter((one) => !isWritten(one))
        const enabled = members.some(isEnabled)
        if (enabled && others.length === 0) return undefined
        const isOver = time.now() > giveUp
        if (!enabled) {
          yield* Effect.catchReason(enable, "EtcdError", "InvalidDowngradeTarget", (_, error) =>
            isOver ? Effect.fail(error) : Effect.void
          )
        } else if (isOver) {
          return yield* Effect.fail(
            refuse(
              "unhealthy-member",
              others.map(Survey.describe),
              "They have not written their data in the older format."
            )
          )
        }
        const waits = others.length === 0 ? "the cluster" : others.map(({ member }) => Survey.nameOf(member)).join(", ")
        if (told !== waits) yield* tell(`waits for ${waits}`)
        told = waits
        yield* Time.sleep(time, 250)
      }
    })
})

/** Whether members of 3.5 may become that 3.4. */
const goesBack = <E>(
  client: EtcdClient.Client,
  version: SemVer.SemVer,
  unsupported: (why: string, help: string) => Effect.Effect<never, E>
) =>
  Effect.gen(function* () {
    if (SemVer.Order(version, takesBack) < 0) {
      return yield* unsupported(
        `etcd ${SemVer.format(version)} does not take data of 3.5, as 3.4 does from ${SemVer.format(takesBack)} on`,
        "Give a newer 3.4, or restore a backup that the older version has made."
      )
    }
    const auth = EtcdAuth.fromClient(client)
    // Without users it is not enabled, which a member that is a 3.4 by now does not say.
    const isEnabled = yield* auth.status().pipe(
      Effect.map(({ enabled }) => enabled),
      Effect.catchReason("EtcdError", "Unsupported", () => Effect.succeed(false))
    )
    if (isEnabled || (yield* auth.users()).length > 0) {
      return yield* unsupported(
        "there are users with passwords, of whom etcd 3.5 logs what 3.4 cannot read",
        "Disable authentication and delete all users before, as etcd's guide to downgrades says."
      )
    }
  })

export const downgrade = (
  fleet: Fleet,
  client: EtcdClient.Client,
  find: Find<Platform>,
  options: Omit<EtcdCluster.DowngradeOptions, "binary">
) => {
  const refuse = refusal("downgrade")
  const plan = Effect.gen(function* () {
    const { survey, target, unsupported, version, versioned } = yield* look(fleet, client, find, refuse)
    for (const { node, version: from } of versioned) {
      if (isSame(from, version)) continue
      if (from.major !== version.major || from.minor < version.minor) {
        return yield* unsupported(`${node.name} has an older version than ${SemVer.format(version)}`, "Use upgrade.")
      }
      if (from.minor - version.minor > 1) {
        return yield* unsupported(
          `from ${minorOf(from)} to ${minorOf(version)} is more than one minor version`,
          `Downgrade to ${from.major}.${from.minor - 1} first.`
        )
      }
      if (from.minor === 5 && version.minor === 4) yield* goesBack(client, version, unsupported)
    }
    const nodes = versioned.map(({ node }) => node)
    yield* suiting(fleet, nodes, version, refuse)
    const steps = rolling(fleet, client, refuse, survey, versioned, target)
    const agree = agreed(client, version, refuse)
    if (steps.length === 0) return (yield* hasVersion(client, version)) ? [] : [agree]
    const isFirst = version.minor > 4 && versioned.every(({ version: { minor } }) => minor !== version.minor)
    return [...(isFirst ? [prepared(client, version, refuse)] : []), ...steps, agree]
  }).pipe(Effect.provideContext(fleet.platform))
  return perform({ name: "downgrade", client, turn: fleet.turn, plan }, options)
}
