/**
 * Making the data directory of one member from a snapshot: whole, on the disk, or not at all.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import type { EtcdUtl } from "../../EtcdBinary.ts"
import { syncAll, syncNames } from "../files/sync.ts"
import * as Etcdutl from "./etcdutl.ts"
import type { Refuse } from "./operation.ts"

/** Where the data of a member are, or are to be. */
export interface Place {
  readonly dataDir: string
}

export interface Member extends Place {
  readonly name: string
  readonly peerUrls: ReadonlyArray<string>
}

export interface Restoring extends Omit<Etcdutl.Restoring, "dataDir" | "name" | "peerUrls" | "bumpRevision"> {
  readonly utl: EtcdUtl
  readonly refuse: Refuse
  readonly member: Member
  /** By how much the newest revision is raised; see `revisions.ts`. */
  readonly bumpRevision: bigint
  /**
   * Goes on with a tool that cannot raise the revision: revisions that were given out are given again, to watches and locks
   * that take it for the first time.
   */
  readonly revisionsMayGoBack: boolean
}

/** What a restore has for its own within the data directory, so that it is on the same disk. */
const unfinished = ".restoring-"
/** What is whole, and waits for that of the other members. */
const whole = ".restored"

/** Where data are kept that were there before, below a name that says of which restore. */
const before = ".before-"

const isOurs = (name: string): boolean => name === whole || name.startsWith(unfinished)

/** What a disk has where nothing has been written yet. */
const isEmptyDisk = (name: string): boolean => name === "lost+found"

const isMissing = ({ reason }: PlatformError): boolean => reason._tag === "NotFound"

const list = (directory: string) =>
  FileSystem.FileSystem.use((fs) =>
    Effect.catchIf(fs.readDirectory(directory), isMissing, () => Effect.succeed<Array<string>>([]))
  )

/** What is in the way of a member's data: all that is no rest of a restore. */
export const inTheWay = ({ dataDir }: Place) =>
  Effect.map(list(dataDir), (names) =>
    names.filter((name) => !isOurs(name) && !isEmptyDisk(name) && !name.startsWith(before))
  )

/** Refuses a directory where there is anything. */
export const refuseUnlessFree = Effect.fnUntraced(function* (member: Member, refuse: Refuse) {
  const found = yield* inTheWay(member)
  if (found.length === 0) return
  const what = `${member.dataDir}, of ${member.name}, has ${found.slice(0, 5).join(", ")}${found.length > 5 ? " …" : ""}`
  const help = "Move it away, or name another directory: what is there is not overwritten."
  return yield* Effect.fail(refuse("data-in-the-way", [what], help))
})

/** Refuses a tool that lets revisions go back, unless that is wanted. */
export const refuseUnlessBumps = (utl: EtcdUtl, revisionsMayGoBack: boolean, refuse: Refuse) =>
  utl.bumpsRevisions || revisionsMayGoBack
    ? Effect.void
    : Effect.fail(
        refuse(
          "revisions-would-go-back",
          [`${Etcdutl.nameOf(utl)} (${utl.path}) cannot raise the revision of what it restores`],
          "Use an etcdutl from 3.5.10 on (for etcd 3.4 too: ETCDUTL_BINARY), or an etcdctl from 3.4.27 on; or say " +
            "`revisionsMayGoBack`, if no lock, no watch and no mirror outlives the restore."
        )
      )

/** Whether a member waits to be put in place. */
export const isStaged = Effect.fnUntraced(function* ({ dataDir }: Place) {
  const { join } = yield* Path.Path
  return yield* (yield* FileSystem.FileSystem).exists(join(dataDir, whole, "member"))
})

/** Removes what restores have left in the data directory. */
export const clear = Effect.fnUntraced(function* ({ dataDir }: Place) {
  const fs = yield* FileSystem.FileSystem
  const { join } = yield* Path.Path
  const rests = (yield* list(dataDir)).filter(isOurs)
  yield* Effect.forEach(rests, (name) => fs.remove(join(dataDir, name), { recursive: true, force: true }), {
    discard: true
  })
})

/**
 * Restores a member beside where its data are to be, whole and on the disk. Of what fails or is interrupted, nothing stays.
 * There may be data; `place` deals with them.
 */
export const stage = Effect.fnUntraced(function* ({
  bumpRevision,
  member,
  refuse,
  revisionsMayGoBack,
  ...of
}: Restoring) {
  const { dataDir, name, peerUrls } = member
  const fs = yield* FileSystem.FileSystem
  const { join } = yield* Path.Path
  yield* refuseUnlessBumps(of.utl, revisionsMayGoBack, refuse)
  yield* clear(member)
  yield* fs.makeDirectory(dataDir, { recursive: true, mode: 0o700 })
  const directory = yield* fs.makeTempDirectoryScoped({ directory: dataDir, prefix: unfinished })
  yield* Etcdutl.restore(of.utl, {
    ...of,
    name,
    peerUrls,
    // It has to make it itself.
    dataDir: join(directory, "data"),
    bumpRevision: of.utl.bumpsRevisions ? bumpRevision : undefined
  })
  yield* syncAll(join(directory, "data"))
  yield* fs.rename(join(directory, "data"), join(dataDir, whole))
  yield* syncNames(dataDir)
}, Effect.scoped)

/**
 * Puts a member in place that was staged, and answers where the data are that were there before: below a name with `mark`.
 * Without a mark the system refuses where there are any. Done half-way, it is done to the end.
 */
export const place = Effect.fnUntraced(function* (member: Place, mark?: string) {
  const { dataDir } = member
  const fs = yield* FileSystem.FileSystem
  const { dirname, join } = yield* Path.Path
  const data = join(dataDir, "member")
  const kept = mark === undefined ? undefined : join(dataDir, `${before}${mark}`)
  if (kept !== undefined && (yield* fs.exists(data))) {
    yield* fs.makeDirectory(kept, { recursive: true, mode: 0o700 })
    yield* fs.rename(data, join(kept, "member"))
  }
  yield* fs.rename(join(dataDir, whole, "member"), data)
  yield* syncNames(dataDir)
  yield* syncNames(dirname(dataDir))
  yield* clear(member)
  return kept !== undefined && (yield* fs.exists(kept)) ? kept : undefined
})

/**
 * Makes the data directory of a member from a snapshot. All members of a cluster have to be given the same snapshot, initial
 * cluster, token and bump, or they will not agree.
 */
export const restoreMember = Effect.fnUntraced(function* (of: Restoring) {
  yield* refuseUnlessFree(of.member, of.refuse)
  yield* stage(of)
  yield* place(of.member)
})
