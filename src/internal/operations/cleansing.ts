/**
 * Making of a snapshot, or of the data of a member, a snapshot in which there are no leases.
 *
 * Leases of a snapshot live again when it is restored, and with them the keys of locks whose holders are gone, or hold them
 * elsewhere; they are renewed when the first leader is elected. Revoking them when the restored cluster runs is too late for
 * whoever was faster. So it is done before there is a cluster: one etcd that nobody else can reach runs what is to be restored,
 * all leases are revoked there, and what all members are restored from is its snapshot. It has never had a lease, whoever starts
 * a member, and whenever that is; and it is known that etcd can run it.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import type { EtcdBinary, EtcdUtl } from "../../EtcdBinary.ts"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdConfig from "../../EtcdConfig.ts"
import { format } from "../../EtcdId.ts"
import * as EtcdLease from "../../EtcdLease.ts"
import * as EtcdMaintenance from "../../EtcdMaintenance.ts"
import * as Etcdutl from "./etcdutl.ts"
import type { Refuse, Tell } from "./operation.ts"
import * as PrivateNode from "./privateNode.ts"
import type { Verified } from "./snapshotFile.ts"

/** Revokes until there are none, and answers how many there were. A client may hold no lease that is to stay. */
export const revokeAllLeases = Effect.fnUntraced(function* (
  client: EtcdClient.Client,
  as: EtcdClient.CallOptions = {}
) {
  const leases = yield* EtcdLease.fromClient(client)
  let revoked = 0
  for (let all = yield* leases.list(as); all.length > 0; all = yield* leases.list(as)) {
    yield* Effect.forEach(
      all,
      (id) =>
        leases.revoke(id, as).pipe(
          Effect.andThen(Effect.sync(() => void revoked++)),
          Effect.catchReason("EtcdError", "LeaseNotFound", () => Effect.void)
        ),
      { concurrency: 64, discard: true }
    )
  }
  return revoked
}, Effect.scoped)

export interface Clean {
  readonly path: string
  /** The revision that it was taken at. */
  readonly revision: bigint
  readonly leases: number
}

export interface Cleansing {
  readonly etcd: EtcdBinary
  readonly refuse: Refuse
  /** Where there is room for two copies of the database, and which nobody else reads. */
  readonly workDirectory: string
  readonly tell: Tell
}

/**
 * An alarm is about a member that will not be there any more. That of a database that is damaged is about the data, where it
 * may be about whoever they are of.
 */
const dealWithAlarms = Effect.fnUntraced(function* (
  maintenance: EtcdMaintenance.Service,
  as: EtcdClient.CallOptions,
  giver: bigint | undefined,
  { refuse, tell }: Cleansing
) {
  const alarms = yield* maintenance.alarms(as)
  if (alarms.length === 0) return
  const evidence = alarms.map(({ memberId, type }) => `the alarm ${type} is armed for the member ${format(memberId)}`)
  const isOfAnother = (id: bigint) => giver !== undefined && id !== 0n && BigInt.asUintN(64, id) !== giver
  if (alarms.some(({ memberId, type }) => type === "Corrupt" && !isOfAnother(memberId))) {
    const whose = giver === undefined ? "nothing tells whose data these are" : `these are of ${format(giver)}`
    const help =
      "The members did not agree: take the data of one for whom it is not armed (a backup of that member, with its record " +
      "beside it), or a snapshot from before."
    return yield* Effect.fail(refuse("alarm", [...evidence, whose], help))
  }
  yield* Effect.forEach(alarms, (alarm) => maintenance.disarmAlarm(alarm, as), { discard: true })
  yield* tell(`${evidence.join(", ")}, who is none any more: disarmed`)
})

/** Runs the data of a member, and takes the snapshot. `giver`: whose data they are. */
const cleanse = Effect.fnUntraced(function* (
  dataDir: string,
  config: EtcdConfig.Input,
  giver: bigint | undefined,
  of: Cleansing
) {
  const { join } = yield* Path.Path
  const { as, client } = yield* PrivateNode.make(dataDir, of.etcd, config)
  const maintenance = EtcdMaintenance.fromClient(client)
  yield* dealWithAlarms(maintenance, as, giver, of)
  const leases = yield* revokeAllLeases(client, as)
  const file = join(of.workDirectory, "clean.db")
  const written = yield* maintenance.snapshotToFile(file, as)
  const { header } = yield* maintenance.status(as)
  yield* of.tell(`revoked ${leases} leases, and took a snapshot at revision ${header.revision}`)
  const clean: Clean = { path: written.path, revision: header.revision, leases }
  return clean
}, Effect.scoped)

/** Of a snapshot. `giver`: who gave it, where that is known. */
export const ofSnapshot = Effect.fnUntraced(function* (
  { path: snapshot, giver }: Pick<Verified, "path" | "giver">,
  utl: EtcdUtl,
  skipHashCheck: boolean,
  of: Cleansing
) {
  const fs = yield* FileSystem.FileSystem
  const { join } = yield* Path.Path
  const dataDir = join(of.workDirectory, "once.etcd")
  const name = `once-${yield* Clock.currentTimeMillis}`
  const peerUrls = ["unix://peer.sock:0"]
  yield* Etcdutl.restore(utl, {
    snapshot,
    dataDir,
    name,
    peerUrls,
    initialCluster: { [name]: peerUrls },
    token: name,
    bumpRevision: undefined,
    skipHashCheck
  })
  const clean = yield* cleanse(dataDir, { name }, giver, of)
  yield* fs.remove(dataDir, { recursive: true, force: true })
  return clean
})

/** Of the data of a member whose cluster is gone, which are changed: give a copy. All that its log has, and has committed, is applied. */
export const ofMember = (dataDir: string, name: string, memberId: bigint, of: Cleansing) =>
  cleanse(dataDir, { name, forceNewCluster: true }, memberId, of)
