/**
 * Backups: a snapshot of one member, verified, and what there is to know of it.
 *
 * @internal
 */

import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Semaphore from "effect/Semaphore"
import * as Sink from "effect/Sink"
import * as Stream from "effect/Stream"
import type * as EtcdClient from "../../EtcdClient.ts"
import { ClusterId } from "../../EtcdId.ts"
import * as EtcdMaintenance from "../../EtcdMaintenance.ts"
import type { Backup, BackupOptions, BackupReport } from "../../EtcdOperations.ts"
import * as Revision from "../files/revision.ts"
import { sync } from "../files/sync.ts"
import * as Json from "../json.ts"
import * as Time from "../time.ts"
import * as MoveLeader from "./moveLeader.ts"
import { type Failure, Passed, perform, refusal, type Step, type Tell } from "./operation.ts"
import * as Record from "./record.ts"
import * as Survey from "./survey.ts"

const name = "backup"
const refuse = refusal(name)

/** Who gives it: who is named; a follower, so that who leads has less to do; or who is alone. */
const giverOf = Effect.fnUntraced(function* (client: EtcdClient.Client, options: BackupOptions) {
  const survey = yield* Survey.whole(client, refuse)
  const { member: wanted } = options
  if (wanted === undefined) {
    // Whose data are right nobody knows then.
    yield* Survey.noAlarm(client, survey, refuse, ["Corrupt"])
    return { survey, giver: MoveLeader.mostAdvanced(survey.voters, survey.leader) ?? survey.leader }
  }
  const giver = Survey.find(survey.members, wanted)
  if (giver === undefined) {
    const evidence = [`there is no ${Survey.show(wanted)}`, ...survey.members.map(Survey.describe)]
    return yield* Effect.fail(refuse("no-such-member", evidence, "Name one of these."))
  }
  const ailment = Survey.ailment(survey.leader, giver)
  if (ailment !== undefined) {
    return yield* Effect.fail(refuse("unhealthy-member", [ailment], "Name another, or nobody."))
  }
  return { survey, giver }
})

type Giver = Effect.Success<ReturnType<typeof giverOf>>

/** For how long who gives it may take to apply what there is. */
const catchingUp = "2 minutes"

/** Waits until who gives it has applied all that was acknowledged before it was asked for: whoever led knew of that. */
const caughtUp = Effect.fnUntraced(function* (client: EtcdClient.Client, { giver, survey }: Giver) {
  const { raftIndex } = survey.leader.status!
  const status = yield* Effect.repeat(EtcdMaintenance.fromClient(client).status({ endpoint: giver.endpoint }), {
    until: ({ raftAppliedIndex }) => raftAppliedIndex >= raftIndex,
    schedule: Schedule.spaced("20 millis").pipe(Schedule.upTo({ duration: catchingUp }))
  })
  if (status.raftAppliedIndex >= raftIndex) return status
  const evidence = [`${Survey.nameOf(giver.member)} has applied ${status.raftAppliedIndex} of ${raftIndex} entries`]
  return yield* Effect.fail(refuse("unhealthy-member", evidence, "Wait for it, or name another."))
})

const describe = (
  { giver, survey }: Giver,
  rest: Pick<Backup, "bytes" | "revision" | "sha256" | "storageVersion" | "takenAt">
): Backup =>
  Json.answer({
    ...rest,
    clusterId: ClusterId(survey.clusterId),
    memberId: giver.member.id,
    member: giver.member.name,
    version: giver.status!.version
  })

const now = Effect.map(Clock.currentTimeMillis, DateTime.makeUnsafe)

/** Tells how far it is at each tenth. */
const tenths = (tell: Tell) => {
  let told = 0
  return ({ receivedBytes, totalBytes }: EtcdMaintenance.SnapshotProgress) => {
    const tenth = Math.floor((10 * receivedBytes) / totalBytes)
    if (tenth === told || tenth === 10) return Effect.void
    told = tenth
    return tell(`${tenth}0 %`)
  }
}

/** What was made of it. */
interface Made {
  backup: Backup | undefined
  path: string | undefined
}

/** Where a backup goes. */
export interface Target {
  /** As in "/var/backups/etcd.db", for titles of steps. */
  readonly title: string
  readonly directory: string
  /** What begins the names of files that are not whole yet. */
  readonly partial: string
  readonly pathOf: (backup: Backup) => string
  /** Refuses what is in the way of it. */
  readonly look?: Effect.Effect<void, Failure> | undefined
  /** What is done before the first byte, and when the backup is in its place. */
  readonly before: Effect.Effect<void, PlatformError>
  readonly after: ReadonlyArray<(made: () => { readonly backup: Backup; readonly path: string }) => Step>
}

/** Of this program one takes its place after the other: two may have the same. */
const placing = Semaphore.makeUnsafe(1)

/** Takes the place of a backup that was there as a whole: no record is beside another one's snapshot. */
const place = (part: string, path: string, directory: string) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const record = Record.of(path)
    yield* fs.remove(record, { force: true })
    yield* fs.rename(part, path)
    yield* fs.rename(Record.of(part), record)
    yield* Effect.ignore(sync(directory))
  }).pipe(Effect.uninterruptible, placing.withPermit)

export const toFile = (client: EtcdClient.Client, target: Target, options: BackupOptions) =>
  Effect.gen(function* () {
    const context = yield* Effect.context<FileSystem.FileSystem | Path.Path>()
    const fs = yield* FileSystem.FileSystem
    const { join } = yield* Path.Path
    const clock = yield* Clock.Clock
    const suffix = (yield* Random.nextIntBetween(0, 0xffffffff)).toString(36)
    const part = join(target.directory, `${target.partial}.${suffix}.part`)
    const made: Made = { backup: undefined, path: undefined }
    const take = (from: Giver): Step => ({
      title: `take a snapshot of ${Survey.nameOf(from.giver.member)}`,
      run: Effect.fnUntraced(function* (tell) {
        yield* target.before
        yield* removeAbandoned(target)
        yield* caughtUp(client, from)
        const takenAt = yield* Effect.provideService(now, Clock.Clock, clock)
        const { path: _, ...written } = yield* EtcdMaintenance.fromClient(client).snapshotToFile(part, {
          endpoint: from.giver.endpoint,
          onProgress: tenths(tell)
        })
        const revision = yield* Revision.inFile(part, Revision.newest)
        if (revision === undefined) {
          const evidence = [`what ${Survey.nameOf(from.giver.member)} has sent is no database of etcd that can be read`]
          return yield* Effect.fail(refuse("damaged-snapshot", evidence, "Name another member. See findCorrupt."))
        }
        made.backup = describe(from, { ...written, takenAt, revision })
        return `revision ${revision}, ${written.bytes} bytes, SHA-256 ${written.sha256}`
      }, Effect.provideContext(context))
    })
    const put: Step = {
      title: `put it into ${target.title}`,
      run: Effect.fnUntraced(function* () {
        const backup = made.backup!
        const path = target.pathOf(backup)
        yield* fs.writeFileString(Record.of(part), Record.write(backup), { mode: 0o600 })
        yield* sync(Record.of(part))
        yield* place(part, path, target.directory)
        made.path = path
        return path
      }, Effect.provideContext(context))
    }
    const whole = () => ({ backup: made.backup!, path: made.path! })
    const report = yield* perform(
      {
        name,
        // It changes nothing in the cluster.
        client: undefined,
        plan: Effect.andThen(
          target.look ?? Effect.void,
          Effect.map(giverOf(client, options), (giver) => [
            take(giver),
            put,
            ...target.after.map((step) => step(whole))
          ])
        )
      },
      options
    ).pipe(
      Effect.ensuring(
        Effect.forEach([part, Record.of(part)], (file) => Effect.ignore(fs.remove(file, { force: true })))
      )
    )
    return Json.answer<BackupReport>({ ...report, ...made })
  })

export const toSink = <A, E, R>(
  client: EtcdClient.Client,
  sink: Sink.Sink<A, Uint8Array, unknown, E, R>,
  options: BackupOptions
) =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const maintenance = EtcdMaintenance.fromClient(client)
    let backup: Backup | undefined
    let result: Option.Option<A> = Option.none()
    const send = (from: Giver): Step<E, R> => ({
      title: `send a snapshot of ${Survey.nameOf(from.giver.member)}`,
      run: Effect.fnUntraced(function* () {
        const { endpoint, member } = from.giver
        const { header } = yield* caughtUp(client, from)
        const takenAt = yield* Effect.provideService(now, Clock.Clock, clock)
        const counted = { bytes: 0, tail: Buffer.alloc(0), isWhole: false }
        const end = Effect.sync(() => {
          counted.isWhole = true
        })
        const snapshot = maintenance.snapshot({ endpoint }).pipe(
          Stream.tap((bytes) =>
            Effect.sync(() => {
              counted.bytes += bytes.length
              counted.tail = Buffer.from(Buffer.concat([counted.tail, bytes.subarray(-32)]).subarray(-32))
            })
          ),
          Stream.concat(Stream.fromEffectDrain(end))
        )
        // What the program has brought along runs by its clock.
        const sent = yield* Stream.run(
          snapshot,
          Sink.mapError(sink, (error) => new Passed(error))
        ).pipe(Effect.provideService(Clock.Clock, clock))
        if (!counted.isWhole) {
          const evidence = [
            `what the snapshot of ${Survey.nameOf(member)} went to took the first ${counted.bytes} bytes of it`
          ]
          return yield* Effect.fail(refuse("truncated-snapshot", evidence, "Give a sink that takes all."))
        }
        result = Option.some(sent)
        backup = describe(from, {
          revision: header.revision,
          bytes: counted.bytes,
          sha256: counted.tail.toString("hex"),
          storageVersion: from.giver.status!.storageVersion,
          takenAt
        })
        return `revision ${header.revision} at least, ${counted.bytes} bytes, SHA-256 ${backup.sha256}`
      })
    })
    const report = yield* perform<E, R>(
      { name, client: undefined, plan: Effect.map(giverOf(client, options), (giver) => [send(giver)]) },
      options
    )
    return Json.answer({ ...report, backup, path: undefined, result })
  })

/** As long as nobody has written to it, a file that is not whole belongs to somebody who was killed. */
const abandonedMillis = 15 * 60_000

/** What follows the name in that of a file that is not whole yet: of a snapshot, while it comes and then, and of its record. */
const partialEnd = /^\.[0-9a-z]+\.part(\.json|\.[0-9a-z]+-\d+\.part)?$/

/** Removes what those have left who were killed. */
const removeAbandoned = ({ directory, partial: begin }: Target) =>
  Effect.gen(function* () {
    const isPartial = (name: string) => name.startsWith(begin) && partialEnd.test(name.slice(begin.length))
    const fs = yield* FileSystem.FileSystem
    const { join } = yield* Path.Path
    const { clock } = yield* Time.Time
    const partial = (yield* fs.readDirectory(directory)).filter(isPartial)
    for (const file of partial.map((name) => join(directory, name))) {
      // It may be gone by now.
      const written = Option.flatMap(yield* Effect.option(fs.stat(file)), ({ mtime }) => mtime)
      const isAbandoned = (at: Date) => clock.currentTimeMillisUnsafe() - at.getTime() >= abandonedMillis
      if (Option.exists(written, isAbandoned)) yield* Effect.ignore(fs.remove(file, { force: true }))
    }
  })

export const oneFile = Effect.fnUntraced(function* (
  client: EtcdClient.Client,
  file: string,
  options: BackupOptions = {}
) {
  const { basename, dirname, resolve } = yield* Path.Path
  const fs = yield* FileSystem.FileSystem
  const path = resolve(file)
  const look = Effect.flatMap(Effect.option(fs.stat(path)), (info) => {
    if (Option.isNone(info) || info.value.type === "File") return Effect.void
    return Effect.fail(
      refuse("data-in-the-way", [`${path} is a ${info.value.type}`], "Name a file. See backupToDirectory.")
    )
  })
  return yield* toFile(
    client,
    {
      title: path,
      directory: dirname(path),
      partial: basename(path),
      pathOf: () => path,
      look,
      before: Effect.void,
      after: []
    },
    options
  )
})
