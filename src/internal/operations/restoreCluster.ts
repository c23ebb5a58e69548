/**
 * Making the data directories of all members of a cluster from one snapshot.
 *
 * Nothing is put in place before all of it is there, whole and on the disk: until then the directories are as they were, and
 * whoever was killed begins anew. From then on a file (`placing.json`) says so, and only renames are left, which are done to
 * the end. A member that is in its place was restored as all others, has no lease, and a revision above all that there was.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type { ChildProcessSpawner } from "effect/process/ChildProcessSpawner"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as SemVer from "effect/SemVer"
import type { EtcdBinary, EtcdUtl } from "../../EtcdBinary.ts"
import { format } from "../../EtcdId.ts"
import { hold } from "../files/flock.ts"
import { owner } from "../files/owner.ts"
import { sync, syncNames } from "../files/sync.ts"
import * as Ids from "../member/ids.ts"
import * as Cleansing from "./cleansing.ts"
import * as Etcdutl from "./etcdutl.ts"
import type { Failure, Refuse, Step, Tell } from "./operation.ts"
import * as RestoreMember from "./restoreMember.ts"
import { bumpOf } from "./revisions.ts"
import * as SnapshotFile from "./snapshotFile.ts"
import { refuseRunning } from "./survivors.ts"

export interface Restoring {
  readonly etcd: EtcdBinary
  readonly utl: EtcdUtl
  readonly refuse: Refuse
  /** Of all members; none of them runs. */
  readonly members: ReadonlyArray<RestoreMember.Member>
  /** Below it a directory is made for as long as it takes, with room for two copies of the database. */
  readonly workDirectory: string
  /** What no other cluster has, so that a member of the old one that comes back is none of this. Default: one that is made up. */
  readonly token?: string | undefined
  /** By how much the revision is raised at least. Default: see `revisions.ts`. */
  readonly bumpRevision?: bigint | undefined
  /** The newest revision that is known to have been given out. */
  readonly known?: bigint | undefined
  readonly revisionsMayGoBack?: boolean | undefined
  /** What is done before the first change. */
  readonly begin?: Effect.Effect<void, Failure> | undefined
  /** What becomes of data that are there: they are refused, or moved to `.before-…` beside them. Default: refused. */
  readonly setAside?: boolean | undefined
}

export type Platform = FileSystem.FileSystem | Path.Path | ChildProcessSpawner

type Provide = <A, E>(effect: Effect.Effect<A, E, Platform>) => Effect.Effect<A, E>

// ── what is just being put in place ──

const Placing = Schema.Struct({
  /** What it is from, and what was asked for. */
  source: Schema.String,
  /** Where the data are that were there before; without, there were none. */
  mark: Schema.optionalKey(Schema.String),
  /** The data directories, as seen from where this is. */
  directories: Schema.Array(Schema.String)
})

const Text = Schema.fromJsonString(Placing)

const fileName = "placing.json"

const workOf = (workDirectory: string) =>
  Effect.map(Path.Path, ({ join }) => join(workDirectory, ".effect-etcd-restore"))

const readPlacing = Effect.fnUntraced(function* (workDirectory: string) {
  const fs = yield* FileSystem.FileSystem
  const { join } = yield* Path.Path
  const text = yield* Effect.option(fs.readFileString(join(yield* workOf(workDirectory), fileName)))
  if (Option.isNone(text)) return undefined
  return Option.getOrUndefined(yield* Effect.option(Schema.decodeEffect(Text)(text.value)))
})

const writePlacing = Effect.fnUntraced(function* (workDirectory: string, placing: typeof Placing.Type) {
  const fs = yield* FileSystem.FileSystem
  const { join } = yield* Path.Path
  const work = yield* workOf(workDirectory)
  const file = join(work, fileName)
  yield* fs.writeFileString(`${file}.new`, `${JSON.stringify(placing)}\n`, { mode: 0o600 })
  yield* sync(`${file}.new`)
  yield* fs.rename(`${file}.new`, file)
  yield* syncNames(work)
  yield* syncNames(workDirectory)
})

const directoriesOf = ({ members, workDirectory }: Restoring) =>
  Effect.map(Path.Path, ({ relative }) => members.map(({ dataDir }) => relative(workDirectory, dataDir)))

/** Whether some members are in place, and others not yet. */
export const isPlacing = (workDirectory: string) =>
  Effect.map(readPlacing(workDirectory), (placing) => placing !== undefined)

/** Who asks for another token, or for a higher revision, is not given what another one had begun. */
const sourceOf = ({ bumpRevision, token }: Restoring, source: string) =>
  [source, token, bumpRevision].filter((one) => one !== undefined).join(" ")

/** What one who was killed in the last step has left to do: some members are in place, and all others wait beside it. */
const unfinishedOf = Effect.fnUntraced(function* (of: Restoring, source: string) {
  const placing = yield* readPlacing(of.workDirectory)
  const { join } = yield* Path.Path
  const fs = yield* FileSystem.FileSystem
  if (placing === undefined || placing.source !== sourceOf(of, source)) return undefined
  if (placing.directories.join("\0") !== (yield* directoriesOf(of)).join("\0")) return undefined
  const staged = yield* Effect.filter(of.members, RestoreMember.isStaged)
  const placed = yield* Effect.filter(of.members, ({ dataDir }) => fs.exists(join(dataDir, "member")))
  const isWhole = of.members.every((member) => staged.includes(member) || placed.includes(member))
  // Where all are in place, it was done but for its traces; what is restored over data is restored once more then.
  return isWhole && (staged.length > 0 || of.setAside !== true) ? placing : undefined
})

// ── the steps ──

const clearWork = Effect.fnUntraced(function* (workDirectory: string) {
  yield* (yield* FileSystem.FileSystem).remove(yield* workOf(workDirectory), { recursive: true, force: true })
})

/** Leaves nothing of what was not put in place. */
const clearAll = (of: Restoring) =>
  Effect.andThen(Effect.forEach(of.members, RestoreMember.clear, { discard: true }), clearWork(of.workDirectory)).pipe(
    Effect.ignore
  )

/** No more than renames, which may have been begun. */
const placeAll = Effect.fnUntraced(function* (workDirectory: string, { directories, mark }: typeof Placing.Type) {
  const kept: Array<string> = []
  const { resolve } = yield* Path.Path
  for (const directory of directories) {
    const dataDir = resolve(workDirectory, directory)
    if (yield* RestoreMember.isStaged({ dataDir })) {
      const before = yield* RestoreMember.place({ dataDir }, mark)
      if (before !== undefined) kept.push(before)
    }
    yield* RestoreMember.clear({ dataDir })
  }
  yield* clearWork(workDirectory)
  return kept.length === 0 ? undefined : `what was there before is in ${kept.join(", ")}`
})

/** Before any is in place, all have to be there: somebody else may have begun, and cleared away what was made. */
const refuseUnlessWhole = Effect.fnUntraced(function* ({ members, refuse, setAside }: Restoring) {
  if (setAside !== true) {
    yield* Effect.forEach(members, (member) => RestoreMember.refuseUnlessFree(member, refuse), { discard: true })
  }
  const missing = yield* Effect.filter(members, (member) => Effect.map(RestoreMember.isStaged(member), (is) => !is))
  if (missing.length === 0) return
  const evidence = missing.map(({ name }) => `what was made for ${name} is gone`)
  return yield* Effect.fail(refuse("changed", evidence, "Somebody else makes the data of this cluster anew."))
})

/** `begun`: some members are in place. */
const placingStep = (of: Restoring, placing: () => typeof Placing.Type, provide: Provide, begun: boolean): Step => ({
  title: "put the data of all members in place",
  run: () =>
    Effect.suspend(() => {
      const all = placing()
      return refuseRunning(of.members, of.refuse).pipe(
        Effect.andThen(begun ? (of.begin ?? Effect.void) : refuseUnlessWhole(of)),
        Effect.andThen(writePlacing(of.workDirectory, all)),
        Effect.andThen(placeAll(of.workDirectory, all))
      )
    }).pipe(Effect.uninterruptible, provide)
})

/** Keeps others from doing the same for as long as the scope is open. The directory may have been lost with all data. */
export const aloneIn = Effect.fnUntraced(function* (workDirectory: string, refuse: Refuse) {
  yield* (yield* FileSystem.FileSystem).makeDirectory(workDirectory, { recursive: true, mode: 0o700 })
  if (!(yield* hold(workDirectory))) return
  const evidence = [`somebody else makes data of the members in ${workDirectory} anew`]
  return yield* Effect.fail(refuse("changed", evidence, "Wait for that."))
})

/**
 * Finishes what one who was killed had begun to put in place: before the members of a cluster are started, since some are of
 * the old one, and some of that which was restored. Of one who had not come so far, all is removed. Nothing where nothing was
 * begun. Answers whether somebody is still at it, whom nothing is taken from then.
 */
export const resume = Effect.fnUntraced(function* (workDirectory: string) {
  const fs = yield* FileSystem.FileSystem
  const { join } = yield* Path.Path
  if (yield* hold(workDirectory)) return true
  const placing = yield* readPlacing(workDirectory)
  if (placing !== undefined) {
    const told = yield* placeAll(workDirectory, placing)
    yield* Effect.logInfo(
      `A restore of the cluster in ${workDirectory} was finished${told === undefined ? "" : `: ${told}`}`
    )
    return false
  }
  const beside = yield* fs.readDirectory(workDirectory)
  yield* Effect.forEach(beside, (name) => Effect.ignore(RestoreMember.clear({ dataDir: join(workDirectory, name) })), {
    discard: true
  })
  yield* clearWork(workDirectory)
  return false
}, Effect.scoped)

/** What is left to do of a restore from there that was ended while all was put in place. */
export const finish = Effect.fnUntraced(function* (of: Restoring, source: string) {
  const context = yield* Effect.context<Platform>()
  const unfinished = yield* unfinishedOf(of, source)
  return unfinished === undefined
    ? undefined
    : [
        placingStep(
          of,
          () => unfinished,
          (effect) => Effect.provideContext(effect, context),
          true
        )
      ]
})

/** Whether the data of a member are of that cluster. */
const isOf =
  (clusterId: bigint) =>
  ({ dataDir }: RestoreMember.Place) =>
    Effect.flatMap(Path.Path, ({ join }) =>
      Effect.map(
        owner(join(dataDir, "member", "wal")),
        Option.exists((data) => data !== "unreadable" && data.clusterId === clusterId)
      )
    )

/** With the token that they had, members of the old cluster that come back would be taken for those of the new one. */
const refuseUnlessNew = Effect.fnUntraced(function* ({ members, refuse, token }: Restoring) {
  if (token === undefined) return
  const id = Ids.ofCluster(
    members.map(({ peerUrls }) => peerUrls),
    token
  )
  const same = yield* Effect.filter(members, isOf(id))
  if (same.length === 0) return
  const evidence = [
    `with the token ${JSON.stringify(token)} it would have the id ${format(id)}, which the data have that there are`
  ]
  yield* Effect.fail(refuse("token", evidence, "Leave the token out, or give one that no cluster has had."))
})

/** Makes the snapshot that all members are restored from. */
export type Cleanse = (of: Cleansing.Cleansing) => Effect.Effect<Cleansing.Clean, Failure, Platform | Scope.Scope>

/** `source`: what tells it from others. `title`: of the step that makes the snapshot. */
export const steps = Effect.fnUntraced(function* (
  of: Restoring,
  source: string,
  title: string,
  cleanse: Cleanse
): Effect.fn.Return<ReadonlyArray<Step>, Failure, Platform> {
  const context = yield* Effect.context<Platform>()
  const provide: Provide = (effect) => Effect.provideContext(effect, context)
  const { members, refuse, revisionsMayGoBack = false, utl } = of
  yield* RestoreMember.refuseUnlessBumps(utl, revisionsMayGoBack, refuse)
  const unfinished = yield* finish(of, source)
  if (unfinished !== undefined) return unfinished
  yield* refuseUnlessNew(of)
  if (of.setAside !== true) {
    yield* Effect.forEach(members, (member) => RestoreMember.refuseUnlessFree(member, refuse), { discard: true })
  }
  const now = yield* Clock.currentTimeMillis
  const unique = globalThis.crypto.randomUUID()
  const mark = `${new Date(now).toISOString().replace(/[-:]|\..*/g, "")}-${unique.slice(0, 8)}`
  const token = of.token ?? `restored-${unique}`
  const made: { snapshot: string; bumpRevision: bigint } = { snapshot: "", bumpRevision: 0n }
  const initialCluster = Object.fromEntries(members.map(({ name, peerUrls }) => [name, peerUrls]))

  /** Of what another one has made nothing is taken away, whatever becomes of this. */
  const begin = Effect.gen(function* () {
    if (of.begin !== undefined) yield* of.begin
    // What another one has begun to put in place is whole, or not there.
    const placing = yield* readPlacing(of.workDirectory)
    if (placing === undefined) return
    yield* refuseRunning(members, refuse)
    yield* placeAll(of.workDirectory, placing)
  })
  const cleansing: Step = {
    title,
    run: (tell: Tell) =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        yield* clearAll(of)
        const workDirectory = yield* workOf(of.workDirectory)
        yield* fs.makeDirectory(workDirectory, { recursive: true, mode: 0o700 })
        const { path, revision } = yield* cleanse({ etcd: of.etcd, refuse, workDirectory, tell })
        const status = yield* Etcdutl.status(utl, path)
        const known = of.known !== undefined && of.known > revision ? of.known : revision
        const least = bumpOf(status.revision, yield* Clock.currentTimeMillis, known)
        const given = of.bumpRevision ?? 0n
        made.snapshot = path
        made.bumpRevision = given > least ? given : least
        return utl.bumpsRevisions
          ? `the cluster goes on at revision ${status.revision + made.bumpRevision}`
          : `the cluster goes on at revision ${revision}, which may have been given out`
      }).pipe(
        Effect.scoped,
        Effect.onError(() => clearAll(of)),
        (cleaning) => Effect.andThen(begin, cleaning),
        provide
      )
  }
  const staging = members.map(
    (member): Step => ({
      title: `restore ${member.name}`,
      run: () =>
        RestoreMember.stage({
          ...made,
          utl,
          refuse,
          member,
          initialCluster,
          token,
          revisionsMayGoBack,
          skipHashCheck: false
        }).pipe(
          Effect.as(undefined),
          Effect.onError(() => clearAll(of)),
          provide
        )
    })
  )
  const directories = yield* directoriesOf(of)
  const placing = () => ({
    source: sourceOf(of, source),
    directories,
    ...(of.setAside === true ? { mark } : {})
  })
  return [cleansing, ...staging, placingStep(of, placing, provide, false)]
})

/**
 * The data of a newer minor version are not for this etcd: up to 3.5 it does not even see that they are. Up to 3.5, data do not
 * say which one wrote them. `what`: as in "the snapshot is".
 */
export const refuseNewer = ({ etcd, refuse }: Restoring, what: string, storageVersion: string | undefined) => {
  const [major, minor] = (storageVersion ?? "0.0").split(".").map(Number)
  const isNewer = major === etcd.version.major && (minor ?? 0) > etcd.version.minor
  if (!isNewer) return Effect.void
  const evidence = [`${what} of etcd ${storageVersion}, and ${etcd.path} is ${SemVer.format(etcd.version)}`]
  return Effect.fail(refuse("unsupported-version", evidence, "Let the members run that version."))
}

// ── from a snapshot ──

export interface FromSnapshot extends Restoring {
  readonly snapshot: string
  /** Takes a database that was copied from the directory of a member that did not run, which has no checksum. */
  readonly skipHashCheck?: boolean | undefined
}

/** Plans to restore a cluster from a snapshot. By when the last step is begun, no member may run. */
export const plan = Effect.fnUntraced(function* (of: FromSnapshot) {
  const { skipHashCheck = false, snapshot, utl } = of
  const verified = yield* SnapshotFile.verify(snapshot, { utl, refuse: of.refuse, skipHashCheck })
  yield* refuseNewer(of, "the snapshot is", verified.storageVersion)
  const { bytes, hash, revision, sha256 } = verified
  return yield* steps(
    of,
    sha256 ?? `${bytes}-${hash}`,
    `make a copy without leases of ${snapshot}, which is at revision ${revision}`,
    (cleansing) => Cleansing.ofSnapshot(verified, utl, skipHashCheck, cleansing)
  )
})
