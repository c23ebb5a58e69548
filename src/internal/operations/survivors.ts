/**
 * Which of the members of a cluster that has lost its quorum knows most, by their data.
 *
 * Raft's own order is right for that: the last entry of the later term, and of one term, the one with the higher index. All
 * that was committed in an earlier term was in the log of whom that term's leader wrote to; and of two logs that end in one
 * term, the longer begins with the shorter. So nobody else here knows of a write that was acknowledged, and that this one
 * does not know of. That one of the members whose data are lost did is not excluded, where fewer are left than half.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Result from "effect/Result"
import { format } from "../../EtcdId.ts"
import { isLocked } from "../files/flock.ts"
import * as Log from "../files/log.ts"
import * as Revision from "../files/revision.ts"
import { takesConnections } from "../process/sockets.ts"
import * as Url from "../url.ts"
import type { Refuse } from "./operation.ts"

/** The data of a member. */
export interface Directory {
  readonly name: string
  readonly dataDir: string
  /** Where its write-ahead log is, if that is not in its data directory. */
  readonly walDir?: string | undefined
}

/** One whose data can be used. */
export interface Survivor extends Directory {
  readonly walDir: string
  /** The file of its log that is written to. */
  readonly walFile: string
  readonly log: Log.Log
  /** The version of the layout of its database, where that says so: from 3.6 on. */
  readonly storageVersion: string | undefined
  /** Its database says that it was removed: from 3.6 on, etcd does not let it go on, not alone either. */
  readonly isRemoved: boolean
}

/** One whose data cannot. */
export interface Lost extends Directory {
  /** As it goes after its name. */
  readonly why: string
  /** Because it still runs. */
  readonly isRunning: boolean
}

export interface Survivors {
  /** Who knows most comes first. */
  readonly ranked: ReadonlyArray<Survivor>
  readonly lost: ReadonlyArray<Lost>
}

/** What is known of one, for evidence. */
export const describe = (one: Survivor | Lost): string => {
  if ("why" in one) return `${one.name} ${one.why} (${one.dataDir})`
  const { clusterId, isTorn, last, memberId, state } = one.log
  return (
    `${one.name} (${format(memberId)} of the cluster ${format(clusterId)}) has a log up to entry ${last.index} of term ` +
    `${last.term}, of which it knew up to ${state.commit} to be committed${isTorn ? ", with a torn end" : ""}`
  )
}

const databaseOf = ({ dataDir }: Pick<Directory, "dataDir">) =>
  Effect.map(Path.Path, ({ join }) => join(dataDir, "member", "snap", "db"))

/** Refuses members that run, as far as that is known. */
export const refuseRunning = Effect.fnUntraced(function* (
  members: ReadonlyArray<Pick<Directory, "dataDir" | "name">>,
  refuse: Refuse
) {
  const fs = yield* FileSystem.FileSystem
  const running = yield* Effect.filter(
    members,
    Effect.fnUntraced(function* (member) {
      const database = yield* databaseOf(member)
      return (yield* fs.exists(database)) && (yield* isLocked(database))
    })
  )
  if (running.length === 0) return
  const evidence = running.map(({ dataDir, name }) => `${name} runs with the data in ${dataDir}`)
  return yield* Effect.fail(refuse("member-runs", evidence, "Stop all members."))
})

/** For how long who is asked may be silent. */
const patience = "1 second"

/** Whether somebody listens there, whatever it says. At sockets are those whose data are here. */
const answers = (text: string) => {
  const url = Result.getOrUndefined(Url.parse(text))
  return url?.port === undefined || url.socket !== undefined
    ? Effect.succeed(false)
    : takesConnections({ host: url.host, port: url.port }, () => false).pipe(
        Effect.timeoutOption(patience),
        Effect.map(Option.contains(true))
      )
}

/**
 * Refuses members that run and whose data are not here: they may have a quorum, and there would be two clusters. Who they are the
 * data of each member say, and they are asked where they listen for each other, where nobody has to be let in.
 */
export const refuseElsewhere = Effect.fnUntraced(function* (
  here: ReadonlyArray<Directory & { readonly peerUrls?: ReadonlyArray<string> }>,
  refuse: Refuse
) {
  const known = yield* Effect.forEach(here, (one) =>
    Effect.flatMap(databaseOf(one), (database) =>
      Effect.orElseSucceed(Revision.inFile(database, Revision.members), () => [])
    )
  )
  const isHere = (name: string | undefined, urls: ReadonlyArray<string>) =>
    here.some((one) => one.name === name || one.peerUrls?.some((url) => urls.includes(url)))
  const others = new Map(
    known.flat().flatMap(({ name, peerURLs }) => (isHere(name, peerURLs) ? [] : peerURLs.map((url) => [url, name])))
  )
  const running = yield* Effect.filter([...others], ([url]) => answers(url!), { concurrency: "unbounded" })
  if (running.length === 0) return
  const evidence = running.map(([url, name = "a member"]) => `${name} answers at ${url}, and its data are not here`)
  return yield* Effect.fail(refuse("member-runs", evidence, "Stop all members: those may have a quorum, or know more."))
})

const look = Effect.fnUntraced(function* (directory: Directory) {
  const fs = yield* FileSystem.FileSystem
  const { join } = yield* Path.Path
  const lost = (why: string, isRunning = false): Lost => ({ ...directory, why, isRunning })
  const database = yield* databaseOf(directory)
  if (!(yield* fs.exists(database))) return lost("has no data")
  if (yield* isLocked(database)) return lost("still runs", true)
  const walDir = directory.walDir ?? join(directory.dataDir, "member", "wal")
  const names = yield* Effect.orElseSucceed(fs.readDirectory(walDir), () => [])
  const files = names.filter((name) => name.endsWith(".wal")).sort()
  const walFile = files.at(-1)
  if (walFile === undefined) return lost(`has no log in ${walDir}`)
  const reader = Log.makeReader()
  for (const name of files) reader.add(yield* fs.readFile(join(walDir, name)))
  const log = reader.end()
  if (Log.isDamage(log)) return lost(`has a log that is damaged: ${log.damage}`)
  const found = yield* Revision.inFile(database, (read) =>
    Effect.all({ storageVersion: Revision.storageVersion(read), isRemoved: Revision.hasRemoved(log.memberId)(read) })
  )
  const survivor: Survivor = { ...directory, walDir, walFile, log, ...found }
  return survivor
})

const isLost = (one: Survivor | Lost): one is Lost => "why" in one
const isSurvivor = (one: Survivor | Lost): one is Survivor => !isLost(one)

/** Who knows more comes first. */
const byKnowledge = ({ log: a }: Survivor, { log: b }: Survivor): number => {
  if (Log.isBefore(a.last, b.last)) return 1
  if (Log.isBefore(b.last, a.last)) return -1
  // Of two that know as much, one that was removed may know that it was, and has no more than its database then.
  return a.sinceRemoval.length - b.sinceRemoval.length || Number(b.state.commit - a.state.commit)
}

/** Nothing is changed. */
export const survivors = Effect.fnUntraced(function* (directories: ReadonlyArray<Directory>) {
  const all = yield* Effect.forEach(directories, look)
  const found: Survivors = { ranked: all.filter(isSurvivor).sort(byKnowledge), lost: all.filter(isLost) }
  return found
})
