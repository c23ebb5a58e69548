/**
 * A directory of backups: their names, which of them are good, and which are kept.
 *
 * @internal
 */

import * as ByteSize from "effect/ByteSize"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type * as Schedule from "effect/Schedule"
import type * as EtcdClient from "../../EtcdClient.ts"
import type { Backup, BackupDirectoryOptions, Keep, Stored } from "../../EtcdOperations.ts"
import { sync } from "../files/sync.ts"
import * as Json from "../json.ts"
import * as Tracing from "../tracing.ts"
import * as BackupFile from "./backup.ts"
import type { Step } from "./operation.ts"
import * as Record from "./record.ts"

const idOf = (id: bigint): string => BigInt.asUintN(64, id).toString(16).padStart(16, "0")

/** Names of one cluster sort by the time: `etcd-cdf818194e3a8c32-2026-11-30T05-52-18.123Z-4711.db`. */
const nameOf = ({ clusterId, revision, takenAt }: Backup): string =>
  `etcd-${idOf(clusterId)}-${DateTime.formatIso(takenAt).replaceAll(":", "-")}-${revision}.db`

const pattern = /^etcd-([0-9a-f]{16})-([0-9T.-]+)Z-\d+\.db$/

/** A name that a backup would have. */
interface Named {
  readonly name: string
  readonly cluster: string
  readonly time: string
}

const named = (name: string): ReadonlyArray<Named> => {
  const [, cluster, time] = pattern.exec(name) ?? []
  return cluster === undefined || time === undefined ? [] : [{ name, cluster, time }]
}

const names = (directory: string) =>
  Effect.map(
    FileSystem.FileSystem.use((fs) => fs.readDirectory(directory)),
    (all) => all.flatMap(named)
  )

/** What a file is, where its record is there and says as much. */
const goodOne = Effect.fnUntraced(function* (path: string) {
  const fs = yield* FileSystem.FileSystem
  const backup = Option.flatMap(yield* Effect.option(fs.readFileString(Record.of(path))), Record.fromText)
  const info = yield* Effect.option(fs.stat(path))
  return Option.map(
    Option.filter(Option.all([backup, info]), ([{ bytes }, { size }]) => BigInt(bytes) === ByteSize.toBigInt(size)),
    ([backup]): Stored => Json.answer({ ...backup, path })
  )
})

/** The good ones, the newest first. */
export const list = Effect.fnUntraced(function* (directory: string) {
  const path = yield* Path.Path
  const found = yield* Effect.forEach(yield* names(directory), ({ name }) => goodOne(path.resolve(directory, name)))
  return found
    .flatMap(Option.toArray)
    .sort((one, other) => DateTime.toEpochMillis(other.takenAt) - DateTime.toEpochMillis(one.takenAt))
})

/**
 * Removes what is not to be kept of the cluster's. The one that was made just now stays whatever the clock says; what is not
 * good is of no use when it is older than all that are kept. Nothing goes that was not there before this one was begun: of two
 * that are made at the same time each would take the other for an old one. So there is always a good one.
 */
const removeOld = Effect.fnUntraced(function* (
  directory: string,
  { backup, path: own }: { readonly backup: Backup; readonly path: string },
  { last = 1, within }: Keep,
  before: ReadonlySet<string>
) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const cluster = idOf(backup.clusterId)
  const all = (yield* names(directory))
    .filter((one) => one.cluster === cluster && path.join(directory, one.name) !== own)
    .sort((one, other) => (one.name < other.name ? 1 : -1))
  const youngest =
    within === undefined
      ? Number.POSITIVE_INFINITY
      : DateTime.toEpochMillis(backup.takenAt) - Duration.toMillis(Duration.fromInputUnsafe(within))
  const doomed: Array<string> = []
  let kept = 1
  let oldest = named(path.basename(own))[0]!.time
  for (const { name, time } of all) {
    const file = path.join(directory, name)
    const good = yield* goodOne(file)
    if (Option.isNone(good)) {
      if (kept >= last && time < oldest) doomed.push(file)
      continue
    }
    if (kept < last || DateTime.toEpochMillis(good.value.takenAt) >= youngest) {
      kept++
      oldest = time
    } else doomed.push(file)
  }
  // Without its record it is no backup any more, should this be ended half-way.
  const removed = doomed.filter((file) => before.has(path.basename(file)))
  for (const file of removed) {
    yield* fs.remove(Record.of(file), { force: true })
    yield* fs.remove(file, { force: true })
  }
  yield* Effect.ignore(sync(directory))
  return removed
})

export const toDirectory = Effect.fnUntraced(function* (
  client: EtcdClient.Client,
  given: string,
  options: BackupDirectoryOptions = {}
) {
  const context = yield* Effect.context<FileSystem.FileSystem | Path.Path>()
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const directory = path.resolve(given)
  const { keep } = options
  let there: ReadonlySet<string> = new Set()
  const retention = (made: () => { readonly backup: Backup; readonly path: string }): Step => ({
    title: "remove backups that are not to be kept",
    run: () =>
      Effect.map(Effect.provideContext(removeOld(directory, made(), keep!, there), context), (removed) =>
        removed.length === 0 ? "there are none" : removed.map((file) => path.basename(file)).join(", ")
      )
  })
  return yield* BackupFile.toFile(
    client,
    {
      title: directory,
      directory,
      partial: "etcd-backup",
      pathOf: (backup) => path.join(directory, nameOf(backup)),
      before: Effect.gen(function* () {
        yield* fs.makeDirectory(directory, { recursive: true, mode: 0o700 })
        there = new Set(yield* fs.readDirectory(directory))
      }),
      after: keep === undefined ? [] : [retention]
    },
    options
  )
})

/** One after another, by the program's clock; one that fails is told, and the next one comes. */
export const onSchedule = <E, R>(
  client: EtcdClient.Client,
  directory: string,
  schedule: Schedule.Schedule<unknown, unknown, E, R>,
  options: BackupDirectoryOptions | undefined
) =>
  Tracing.traced(toDirectory(client, directory, options), "EtcdOperations.backupToDirectory").pipe(
    Effect.asVoid,
    Effect.catch(({ message }) => Effect.logError(message)),
    Effect.repeat(schedule),
    Effect.asVoid
  )
