/**
 * Making a cluster anew that has lost its quorum for good.
 *
 * Of the data that are left, those are taken whose log is furthest (`survivors.ts`). A copy of them is run by an etcd of its
 * own with `--force-new-cluster`, which nobody else can reach: so all that the log has is applied, since the database alone
 * lags behind it. By itself that would throw away what was not known to be committed, though others may have been told that
 * it is: of a write that was just acknowledged, most members know no more than the entry. So it is written into the copy of
 * the log that all of it is committed, as an election would have come to. What nobody had been told of may be there, too, as
 * after any answer that was lost.
 *
 * Leases are revoked there, and all members restored from its snapshot, as in any restore: with a new cluster id, so that
 * those of the old one who come back are none of this, and the revision raised. What the members had before is moved away,
 * and not deleted.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import type { EtcdUtl } from "../../EtcdBinary.ts"
import { format } from "../../EtcdId.ts"
import * as Copies from "../files/copies.ts"
import * as Log from "../files/log.ts"
import * as Cleansing from "./cleansing.ts"
import * as RestoreCluster from "./restoreCluster.ts"
import * as Survivors from "./survivors.ts"

export interface Recovering extends Omit<RestoreCluster.Restoring, "setAside"> {
  /** Where data may be that survived. Default: those of the members. */
  readonly directories?: ReadonlyArray<Survivors.Directory> | undefined
}

const source = "recover"

/** Who knows most, of one cluster; or a refusal. */
const choose = Effect.fnUntraced(function* (of: Recovering) {
  const { directories, members, refuse } = of
  const { lost, ranked } = yield* Survivors.survivors(directories ?? members)
  const evidence = [...ranked, ...lost].map(Survivors.describe)
  if (lost.some(({ isRunning }) => isRunning)) {
    return yield* Effect.fail(refuse("member-runs", evidence, "Stop all members: what still runs may know more."))
  }
  const [best] = ranked
  if (best === undefined) {
    return yield* Effect.fail(
      refuse(
        "no-survivor",
        evidence,
        "Restore the cluster from a snapshot, or from a copy of a member's snap/db, with `skipHashCheck`."
      )
    )
  }
  const clusters = new Set(ranked.map(({ log }) => log.clusterId))
  if (clusters.size > 1) {
    const ids = [...clusters].map(format).join(", ")
    return yield* Effect.fail(
      refuse(
        "other-cluster",
        [`there are data of ${clusters.size} clusters (${ids})`, ...evidence],
        "Leave out those of others."
      )
    )
  }
  // Where some began anew without the data that they had, they may have decided otherwise since.
  const other = ranked.find(({ log }) => log.state.commit > best.log.last.index)
  if (other !== undefined) {
    return yield* Effect.fail(
      refuse(
        "undecided",
        [
          `${other.name} knows of more entries that were committed than ${best.name} has, which has a later term`,
          ...evidence
        ],
        "Some have lost what they had, and began anew: move the data away of those who did."
      )
    )
  }
  yield* RestoreCluster.refuseNewer(of, `the data of ${best.name} are`, best.storageVersion)
  return { best, evidence }
})

/** Copies the data, and commits all that is in the log. */
const copy = Effect.fnUntraced(function* (
  { dataDir, log, walDir, walFile }: Survivors.Survivor,
  workDirectory: string
) {
  const fs = yield* FileSystem.FileSystem
  const { join } = yield* Path.Path
  const copied = join(workDirectory, "once.etcd")
  yield* fs.makeDirectory(join(copied, "member"), { recursive: true, mode: 0o700 })
  yield* Copies.copyDirectory(fs, join(dataDir, "member", "snap"), join(copied, "member", "snap"))
  yield* Copies.copyDirectory(fs, walDir, join(copied, "member", "wal"))
  const handle = yield* fs.open(join(copied, "member", "wal", walFile), { flag: "r+" })
  yield* handle.truncate(log.end)
  yield* handle.seek(BigInt(log.end), "start")
  yield* handle.writeAll(Log.commitAll(log))
  return copied
}, Effect.scoped)

/** Makes the snapshot of whom was chosen. */
const cleanse = Effect.fnUntraced(function* (
  best: Survivors.Survivor,
  evidence: ReadonlyArray<string>,
  utl: EtcdUtl,
  cleansing: Cleansing.Cleansing
) {
  const fs = yield* FileSystem.FileSystem
  const { join } = yield* Path.Path
  yield* Effect.forEach(evidence, cleansing.tell, { discard: true })
  if (best.isRemoved && cleansing.etcd.version.minor >= 6) {
    // All up to that is in its database, and hardly anything came after it.
    yield* cleansing.tell(`${best.name} knows that it was removed: its database is taken as it is`)
    const path = join(best.dataDir, "member", "snap", "db")
    return yield* Cleansing.ofSnapshot({ path, giver: best.log.memberId }, utl, true, cleansing)
  }
  const copied = yield* copy(best, cleansing.workDirectory)
  const clean = yield* Cleansing.ofMember(copied, best.name, best.log.memberId, cleansing)
  yield* fs.remove(copied, { recursive: true, force: true })
  return clean
})

const describeChoice = ({ log: { last, state }, name }: Survivors.Survivor): string => {
  const uncertain = last.index - state.commit
  return (
    `${name} knows most: up to entry ${last.index} of term ${last.term}` +
    (uncertain > 0n ? `, with ${uncertain} that it did not know to be committed` : "")
  )
}

/**
 * Plans a recovery. By when its first step is begun, all members have to be stopped. Where they are (`isStopped`), it is known
 * before who knows most.
 */
export const plan = Effect.fnUntraced(function* (of: Recovering, isStopped = true) {
  const restoring: RestoreCluster.Restoring = { ...of, setAside: true }
  const unfinished = yield* RestoreCluster.finish(restoring, source)
  if (unfinished !== undefined) return unfinished
  yield* Survivors.refuseElsewhere([...of.members, ...(of.directories ?? [])], of.refuse)
  // What another one has begun to put in place is put there first.
  const isKnown = isStopped && !(yield* RestoreCluster.isPlacing(of.workDirectory))
  const known = isKnown ? describeChoice((yield* choose(of)).best) : "of who knows most"
  return yield* RestoreCluster.steps(restoring, source, `take what there is: ${known}`, (cleansing) =>
    Effect.gen(function* () {
      const { best, evidence } = yield* choose(of)
      if (!isKnown) yield* cleansing.tell(describeChoice(best))
      return yield* cleanse(best, evidence, of.utl, cleansing)
    })
  )
})
