import { execFile } from "node:child_process"
import { createHash } from "node:crypto"
import {
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync
} from "node:fs"
import { dirname, join } from "node:path"
import process from "node:process"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, layer } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as PlatformError from "effect/PlatformError"
import * as Schedule from "effect/Schedule"
import * as Sink from "effect/Sink"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as TestClock from "effect/testing/TestClock"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import * as EtcdId from "../src/EtcdId.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdMaintenance from "../src/EtcdMaintenance.ts"
import * as EtcdOperations from "../src/EtcdOperations.ts"
import * as EtcdFaults from "../src/testing/EtcdFaults.ts"
import { underLoad } from "./support/load.ts"
import { temporaryDirectory, until } from "./support/machine.ts"
import { turns } from "./support/time.ts"

const { backup, backupOnSchedule, backupToDirectory, backupToSink, listBackups } = EtcdOperations

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex")

const revisionNow = Effect.map(
  EtcdMaintenance.EtcdMaintenance.use((all) => all.status()),
  ({ header }) => header.revision
)

/** What `etcdutl` says of a snapshot, where it is beside etcd; etcd 3.4's `etcdctl` says it as well. */
const statusOf = (path: string) =>
  Effect.callback<{ readonly revision: number; readonly totalSize: number } | undefined>((resume) => {
    const directory = dirname(process.env.ETCD_BINARY ?? "")
    const program = ["etcdutl", "etcdctl"].map((name) => join(directory, name)).find((file) => existsSync(file))
    if (program === undefined) return resume(Effect.succeed(undefined))
    execFile(program, ["snapshot", "status", path, "-w", "json"], (error, stdout) =>
      resume(error === null ? Effect.sync(() => JSON.parse(stdout)) : Effect.die(error))
    )
  })

/** What is in a directory, by the ends of the names. */
const ends = (directory: string) =>
  readdirSync(directory)
    .map((name) => name.replace(/^.*?(\.db(\.json)?|\.part|)$/, "$1"))
    .sort()

const failure = <A, R>(effect: Effect.Effect<A, { readonly _tag: string; readonly message: string }, R>) =>
  Effect.map(Effect.flip(effect), ({ _tag, message }) => ({ _tag, message }))

/** A disk that has no room any more, as Node tells of it. */
const full = (which: (path: string) => boolean) =>
  Layer.effect(
    FileSystem.FileSystem,
    Effect.map(FileSystem.FileSystem, (fs): FileSystem.FileSystem => {
      const error = Effect.fail(
        PlatformError.systemError({
          _tag: "Unknown",
          module: "FileSystem",
          method: "writeAll",
          cause: new Error("ENOSPC: no space left on device, write")
        })
      )
      return {
        ...fs,
        open: (path, options) =>
          Effect.map(fs.open(path, options), (file) =>
            which(path) && options?.flag?.startsWith("w") ? { ...file, writeAll: () => error } : file
          ),
        writeFileString: (path, data, options) =>
          which(path)
            ? Effect.andThen(fs.writeFileString(path, "", options), error)
            : fs.writeFileString(path, data, options)
      }
    })
  )

describe("EtcdOperations, backups", () => {
  const cluster = EtcdFaults.layer({ size: 3, config: { electionTimeout: "2 seconds" } }).pipe(
    Layer.provideMerge(NodeServices.layer)
  )

  layer(cluster, { excludeTestServices: true })((it) => {
    it.effect("in a file, with its record, of a follower, under load", () =>
      Effect.gen(function* () {
        const { awaitLeader } = yield* EtcdCluster.EtcdCluster
        const leader = yield* awaitLeader
        const directory = yield* temporaryDirectory
        const path = join(directory, "etcd.db")
        yield* Effect.forEach(["a", "b"], (key) => EtcdKv.put(key, new Uint8Array(1024 * 1024)))
        const before = yield* revisionNow
        const dry = yield* backup(path, { dryRun: true })
        assert.deepStrictEqual([dry.backup, dry.path, dry.steps.length], [undefined, undefined, 2])
        assert.deepStrictEqual(readdirSync(directory), [])
        const { refused, result } = yield* underLoad(backup(path))
        assert.deepStrictEqual(refused, [])
        const made = result.backup!
        assert.strictEqual(result.path, path)
        assert.notStrictEqual(made.memberId, leader.id)
        assert.isTrue(made.revision >= before && made.revision <= (yield* revisionNow))
        const bytes = readFileSync(path)
        assert.deepStrictEqual([made.bytes, made.sha256], [bytes.length, sha256(bytes.subarray(0, -32))])
        assert.deepStrictEqual([statSync(path).mode & 0o777, statSync(`${path}.json`).mode & 0o777], [0o600, 0o600])
        assert.deepStrictEqual(readdirSync(directory), ["etcd.db", "etcd.db.json"])
        const record = JSON.parse(readFileSync(`${path}.json`, "utf8"))
        assert.strictEqual(record.clusterId, EtcdId.format(made.clusterId))
        assert.strictEqual(record.revision, String(made.revision))
        assert.strictEqual(record.takenAt, DateTime.formatIso(made.takenAt))
        // Nothing of the file that it was before it was whole.
        for (const one of [made, record]) assert.notProperty(one, "path")
        const told = yield* statusOf(path)
        if (told !== undefined) assert.strictEqual(BigInt(told.revision), made.revision)
        // The one before goes only for one that is whole.
        const again = yield* backup(path, { member: leader.name })
        assert.strictEqual(again.backup!.memberId, leader.id)
        assert.isTrue(again.backup!.revision > made.revision)
      })
    )

    it.effect("has all that was acknowledged before, also where who gives it hears of that later", () =>
      Effect.gen(function* () {
        const { awaitLeader, members } = yield* EtcdCluster.EtcdCluster
        const leader = yield* awaitLeader
        const late = (yield* SubscriptionRef.get(members)).find((member) => member !== leader)!
        yield* EtcdFaults.slow(leader, late, { delay: "300 millis" })
        const { header } = yield* EtcdKv.put("key", "acknowledged")
        const path = join(yield* temporaryDirectory, "etcd.db")
        const { backup: inFile } = yield* backup(path, { member: late.id })
        assert.isTrue(inFile!.revision >= header.revision)
        const { header: next } = yield* EtcdKv.put("key", "acknowledged")
        const { backup: sent } = yield* backupToSink(Sink.drain, { member: late.id })
        assert.isTrue(sent!.revision >= next.revision)
      })
    )

    it.effect("says which revision is in it, whatever the database is like", () =>
      Effect.gen(function* () {
        const path = join(yield* temporaryDirectory, "etcd.db")
        const exact = Effect.gen(function* () {
          const { backup: made } = yield* backup(path)
          assert.strictEqual(made!.revision, yield* revisionNow)
        })
        const many = Array.from({ length: 3000 }, (_, index) => `many/${index}/${"x".repeat(100)}`)
        yield* Effect.forEach(many, (key) => EtcdKv.put(key, "x"), { concurrency: 64 })
        yield* exact
        // The last one of all is a deletion, and compacted; what is left are the others.
        const { header } = yield* EtcdKv.deletePrefix("")
        yield* exact
        yield* EtcdKv.compact(header.revision, { physical: true })
        yield* exact
        yield* EtcdKv.put("large", new Uint8Array(1_400_000))
        yield* exact
      })
    )

    it.effect("goes to a sink, which is told when all of it is right", () =>
      Effect.gen(function* () {
        const before = yield* revisionNow
        const all = Sink.reduceArray<Array<Uint8Array>, Uint8Array>(
          () => [],
          (whole, pieces) => [...whole, ...pieces]
        )
        const { backup: made, path, result } = yield* backupToSink(all)
        const bytes = Buffer.concat(Option.getOrThrow(result))
        assert.deepStrictEqual([made!.bytes, made!.sha256], [bytes.length, sha256(bytes.subarray(0, -32))])
        assert.deepStrictEqual([made!.revision, path], [before, undefined])
        assert.strictEqual(yield* Effect.flip(backupToSink(Sink.fail("mine"))), "mine")
        const few = yield* failure(backupToSink(Sink.take<Uint8Array>(1)))
        assert.strictEqual(few._tag, "OperationFailed")
        assert.match(few.message, /took the first \d+ bytes of it\. Give a sink that takes all/)
        const dry = yield* backupToSink(all, { dryRun: true })
        assert.deepStrictEqual([dry.result, dry.backup], [Option.none(), undefined])
      })
    )

    it.effect("leaves nothing where the disk is full, or it is killed at whatever step, and the one before stays", () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        const path = join(directory, "etcd.db")
        const first = (yield* backup(path)).backup!
        const isThere = () => {
          assert.deepStrictEqual(readdirSync(directory), ["etcd.db", "etcd.db.json"])
          assert.strictEqual(sha256(readFileSync(path).subarray(0, -32)), first.sha256)
          assert.strictEqual(JSON.parse(readFileSync(`${path}.json`, "utf8")).sha256, first.sha256)
        }
        yield* EtcdKv.put("more", "than before")
        for (const which of [() => true, (file: string) => file.endsWith(".json")]) {
          const { _tag, message } = yield* failure(Effect.provide(backup(path), full(which)))
          assert.strictEqual(_tag, "OperationFailed")
          assert.include(message, "ENOSPC")
          isThere()
        }
        // Told are the two steps when they begin, and the first when it ends.
        for (let nth = 0; nth < 3; nth++) {
          const reached = yield* Deferred.make<void>()
          let told = 0
          const fiber = yield* Effect.forkChild(
            backup(path, {
              onProgress: () =>
                told++ === nth ? Effect.andThen(Deferred.succeed(reached, undefined), Effect.never) : Effect.void
            }),
            { startImmediately: true }
          )
          yield* Deferred.await(reached)
          yield* Fiber.interrupt(fiber)
          isThere()
        }
        // What a process has left that was killed, and what somebody else is at.
        const [old, fresh] = ["etcd.db.1.part", "etcd.db.2.part.json"]
        for (const name of [old!, fresh!]) writeFileSync(join(directory, name), "")
        const anHourAgo = statSync(path).mtimeMs / 1000 - 3600
        utimesSync(join(directory, old!), anHourAgo, anHourAgo)
        yield* backup(path)
        assert.deepStrictEqual(readdirSync(directory), [fresh, "etcd.db", "etcd.db.json"].sort())
        const nowhere = yield* failure(backup(join(directory, "none", "etcd.db")))
        assert.strictEqual(nowhere._tag, "OperationFailed")
        // What is beside a directory belongs to somebody else.
        writeFileSync(`${directory}.json`, "")
        for (const dryRun of [true, false]) {
          const inTheWay = yield* failure(backup(directory, { dryRun }))
          assert.match(inTheWay.message, /refused \(data-in-the-way\): .* is a Directory\. /)
        }
        const device = yield* failure(backup("/dev/null", { dryRun: true }))
        assert.match(device.message, /refused \(data-in-the-way\): \/dev\/null is a CharacterDevice\. /)
        assert.isTrue(existsSync(`${directory}.json`))
        rmSync(`${directory}.json`)
      })
    )

    it.effect("in a file: of two that are made at the same time none has the record of the other", () =>
      Effect.gen(function* () {
        const path = join(yield* temporaryDirectory, "etcd.db")
        const fs = yield* FileSystem.FileSystem
        const [isPlaced, isOver] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        // Between the snapshot and its record there is time enough for another one.
        const slow: FileSystem.FileSystem = {
          ...fs,
          rename: (from, to) =>
            Effect.when(
              Effect.andThen(
                Deferred.succeed(isPlaced, undefined),
                Effect.raceFirst(Deferred.await(isOver), Effect.sleep("500 millis"))
              ),
              Effect.sync(() => to.endsWith(".json"))
            ).pipe(Effect.andThen(fs.rename(from, to)))
        }
        const first = yield* backup(path).pipe(
          Effect.provideService(FileSystem.FileSystem, slow),
          Effect.forkChild({ startImmediately: true })
        )
        yield* Deferred.await(isPlaced)
        yield* EtcdKv.put("more", "than the first has")
        yield* backup(path)
        yield* Deferred.succeed(isOver, undefined)
        yield* Fiber.join(first)
        const { sha256: recorded } = JSON.parse(readFileSync(`${path}.json`, "utf8"))
        assert.strictEqual(sha256(readFileSync(path).subarray(0, -32)), recorded)
      })
    )

    it.effect("are refused, and say why", () =>
      Effect.gen(function* () {
        const faults = yield* EtcdCluster.EtcdCluster
        const leader = yield* faults.awaitLeader
        const followers = (yield* SubscriptionRef.get(faults.members)).filter((member) => member !== leader)
        const maintenance = yield* EtcdMaintenance.EtcdMaintenance
        const path = join(yield* temporaryDirectory, "etcd.db")
        const finding = (options?: EtcdOperations.BackupOptions) =>
          Effect.flatMap(Effect.flip(backup(path, options)), (error) =>
            error._tag === "ClusterRefused" ? Effect.succeed(error.finding) : Effect.die(error)
          )
        assert.strictEqual(yield* finding({ member: "nobody" }), "no-such-member")
        yield* maintenance.armAlarm({ memberId: leader.id, type: "Corrupt" })
        assert.strictEqual(yield* finding(), "alarm")
        yield* backup(path, { member: leader.id })
        yield* maintenance.disarmAlarms()
        // Where there is no space it is needed most.
        yield* maintenance.armAlarm({ memberId: leader.id, type: "NoSpace" })
        yield* backup(path)
        yield* maintenance.disarmAlarms()
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* EtcdFaults.kill(followers[0]!)
            assert.strictEqual(yield* finding({ member: followers[0]!.name }), "unhealthy-member")
            const { backup: made } = yield* backup(path)
            assert.strictEqual(made!.memberId, followers[1]!.id)
            yield* EtcdFaults.kill(followers[1]!)
            assert.strictEqual(yield* finding(), "no-quorum")
          })
        )
        yield* EtcdFaults.awaitHealthy
      })
    )
  })

  layer(EtcdLayer.ephemeral({}, { log: false }).pipe(Layer.provideMerge(NodeServices.layer)))((it) => {
    /** A backup an hour later. */
    const later = (directory: string, options?: EtcdOperations.BackupDirectoryOptions) =>
      Effect.andThen(TestClock.adjust("1 hour"), backupToDirectory(directory, options))

    it.effect("in a directory: the last ones stay, and those that are young, and the new one in any case", () =>
      Effect.gen(function* () {
        const directory = join(yield* temporaryDirectory, "made", "for it")
        const hours = Effect.map(listBackups(directory), (all) =>
          all.map(({ takenAt }) => DateTime.toEpochMillis(takenAt) / 3_600_000)
        )
        assert.strictEqual((yield* failure(listBackups(directory)))._tag, "PlatformError")
        const first = yield* later(directory)
        assert.strictEqual(statSync(directory).mode & 0o777, 0o700)
        assert.match(first.path!, /\/etcd-[0-9a-f]{16}-1970-01-01T01-00-00\.000Z-\d+\.db$/)
        for (let hour = 2; hour <= 5; hour++) yield* later(directory)
        assert.deepStrictEqual(yield* hours, [5, 4, 3, 2, 1])
        const { steps } = yield* later(directory, { keep: { last: 4 } })
        assert.match(steps[2]!.detail!, /^etcd-.*T02-00-00.*, etcd-.*T01-00-00.*\.db$/)
        assert.deepStrictEqual(yield* hours, [6, 5, 4, 3])
        // Either asks for it.
        yield* later(directory, { keep: { last: 2, within: "3 hours" } })
        assert.deepStrictEqual(yield* hours, [7, 6, 5, 4])
        yield* later(directory, { keep: { within: "1 second" } })
        assert.deepStrictEqual(yield* hours, [8])
        assert.deepStrictEqual(ends(directory), [".db", ".db.json"])
      })
    )

    it.effect("in a directory: what is not good counts for nothing, and what is somebody else's stays", () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        const [one, two, three] = yield* Effect.forEach([1, 2, 3], () => later(directory))
        truncateSync(two!.path!, 4096)
        writeFileSync(`${three!.path!}.json`, "{}")
        const others = ["notes.txt", "etcd-0000000000000001-1970-01-01T00-00-00.000Z-1.db", "etcd-of-somebody.part"]
        for (const name of [...others, "etcd-backup.1.part"]) {
          writeFileSync(join(directory, name), "")
          // By the clock of this machine, long ago.
          utimesSync(join(directory, name), 0, 0)
        }
        // Neither is one of the last two.
        const four = yield* later(directory, { keep: { last: 2 } })
        const paths = Effect.map(listBackups(directory), (all) => all.map(({ path }) => path))
        assert.deepStrictEqual(yield* paths, [four.path, one!.path])
        assert.isTrue(existsSync(two!.path!))
        const five = yield* later(directory, { keep: { last: 2 } })
        assert.deepStrictEqual(yield* paths, [five.path, four.path])
        assert.strictEqual(readdirSync(directory).length, 4 + others.length)
        // The clock is set back, to before all of them: the new one stays.
        yield* TestClock.setTime(0)
        const six = yield* backupToDirectory(directory, { keep: { last: 1 } })
        assert.deepStrictEqual(yield* paths, [six.path])
      })
    )

    it.effect("in a directory: of those that are made at the same time, none takes another for an old one", () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        const first = yield* later(directory)
        const isThere = (path: string | undefined) => existsSync(path!) && existsSync(`${path}.json`)
        const together = yield* Latch.make()
        let waiting = 0
        // Each is in its place before one of them looks which are to be kept.
        const onProgress = ({ detail, index }: EtcdOperations.Progress) =>
          index < 2 || detail !== undefined
            ? Effect.void
            : Effect.andThen(++waiting === 2 ? together.open : Effect.void, together.await)
        const made = yield* Effect.forEach([1, 2], () => later(directory, { keep: { last: 1 }, onProgress }), {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(
          made.map(({ path }) => isThere(path)),
          [true, true]
        )
        assert.isFalse(isThere(first.path))
        const last = yield* later(directory, { keep: { last: 1 } })
        assert.deepStrictEqual(
          (yield* listBackups(directory)).map(({ path }) => path),
          [last.path]
        )
      })
    )

    it.effect("on a schedule: one that fails is told, and the next one comes", () =>
      Effect.gen(function* () {
        const directory = join(yield* temporaryDirectory, "backups")
        writeFileSync(directory, "in the way")
        const errors: Array<string> = []
        const logger = Logger.make(({ logLevel, message }) => {
          if (logLevel === "Error") errors.push(String(message))
        })
        const fiber = yield* backupOnSchedule(directory, Schedule.spaced("1 hour"), { keep: { last: 1 } }).pipe(
          Effect.provide(Logger.layer([logger])),
          Effect.forkChild({ startImmediately: true })
        )
        yield* until(() => errors.length === 1)
        assert.match(errors[0]!, /^backup stopped at step 1 of 3 \(take a snapshot of default\): /)
        rmSync(directory)
        const names = () =>
          (existsSync(directory) ? readdirSync(directory) : []).filter((name) => name.endsWith(".json"))
        const seen = new Set<string>()
        for (let nth = 1; nth <= 2; nth++) {
          const isNext = () => names().length === 1 && !seen.has(names()[0]!)
          // It may not wait yet.
          yield* Effect.repeat(Effect.andThen(TestClock.adjust("1 hour"), turns(20)), { until: isNext })
          seen.add(names()[0]!)
        }
        yield* Fiber.interrupt(fiber)
        assert.strictEqual(errors.length, 1)
        yield* backupOnSchedule(directory, Schedule.recurs(0))
        assert.isAtLeast((yield* listBackups(directory)).length, 2)
      })
    )
  })
})
