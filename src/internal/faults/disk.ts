/**
 * What befalls the data of a member that is stopped, and copies of it.
 *
 * The data as they were lie beside the run directory's other things until the fault is taken back. A member that has served
 * since has made something of what it found, and told others: its data stay.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as PlatformError from "effect/PlatformError"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Node } from "../../EtcdProcess.ts"
import * as Time from "../time.ts"
import * as Bolt from "./bolt.ts"
import * as Copies from "./copies.ts"
import type * as Mounts from "./mounts.ts"
import * as Processes from "./processes.ts"
import * as Wal from "./wal.ts"

/** Where the data of a member are that can be harmed. */
export type Where = "db" | "wal"

export interface Disk {
  /** Fills the disk of a member. */
  readonly fill: (node: Node) => Effect.Effect<Effect.Effect<void>, Processes.NotNow>
  /** Flips bytes of a member that is stopped. Answers what takes it back, as the next ones do. */
  readonly flip: (
    node: Node,
    where: Where,
    count: number,
    seed: string | number | undefined
  ) => Effect.Effect<Effect.Effect<void>, Processes.NotNow>
  /** Cuts off the end of what is written to the log; the half of the last record where no number of bytes is given. */
  readonly tear: (node: Node, bytes: number | undefined) => Effect.Effect<Effect.Effect<void>, Processes.NotNow>
  /** Puts a copy in place of the data. */
  readonly restore: (node: Node, copy: string) => Effect.Effect<Effect.Effect<void>, Processes.NotNow>
  /** Copies the data to a directory that goes with the scope. A member that runs stands still meanwhile. */
  readonly save: (node: Node) => Effect.Effect<string, Processes.NotNow, Scope.Scope>
}

const refuse = (why: string) => Effect.fail(new Processes.NotNow({ why }))

const orRefuse = <A, R>(effect: Effect.Effect<A, PlatformError.PlatformError | Processes.NotNow, R>) =>
  Effect.catchIf(
    effect,
    (error) => error._tag === "PlatformError",
    ({ message }) => refuse(`has data that cannot be read or written (${message})`)
  )

const inverted = 0xff

const fillBytes = 1024 * 1024

/** Where the nth of all bytes in the spans is. */
const placeOf = (spans: ReadonlyArray<Bolt.Span>, nth: number): number => {
  let left = nth
  for (const { from, to } of spans) {
    if (left < to - from) return from + left
    left -= to - from
  }
  return -1
}

/** So many different numbers from zero on, below a limit that is not lower. */
const choose = (below: number, count: number, seed: string | number | undefined) => {
  const chosen = new Set<number>()
  const one = Effect.map(Random.nextIntBetween(0, below, { halfOpen: true }), (n) => chosen.add(n))
  const all = Effect.map(Effect.repeat(one, { until: ({ size }) => size === count }), (numbers) => [...numbers])
  return seed === undefined ? all : Random.withSeed(all, seed)
}

/** Writes single bytes into a file. */
const write = (fs: FileSystem.FileSystem, path: string, bytes: ReadonlyArray<readonly [place: number, byte: number]>) =>
  Effect.gen(function* () {
    const file = yield* fs.open(path, { flag: "r+" })
    for (const [place, byte] of bytes) {
      yield* file.seek(BigInt(place), "start")
      yield* file.writeAll(Uint8Array.of(byte))
    }
  }).pipe(Effect.scoped)

/** Makes a file longer until there is no more room. */
const fillUp = (fs: FileSystem.FileSystem, path: string) =>
  Effect.gen(function* () {
    const file = yield* fs.open(path, { flag: "a", mode: 0o600 })
    const block = new Uint8Array(fillBytes)
    const error = yield* Effect.flip(Effect.forever(file.writeAll(block)))
    const cause = error.reason.cause as NodeJS.ErrnoException | undefined
    if (cause?.code !== "ENOSPC") yield* Effect.fail(error)
  }).pipe(Effect.scoped)

/** The state of each thread of a process; of none where the system does not tell. */
const threadStates = (fs: FileSystem.FileSystem, pid: number) =>
  Effect.flatMap(fs.readDirectory(`/proc/${pid}/task`), (threads) =>
    Effect.forEach(threads, (thread) => fs.readFileString(`/proc/${pid}/task/${thread}/stat`))
  ).pipe(
    Effect.map((stats) => stats.map((stat) => stat.charAt(stat.lastIndexOf(")") + 2))),
    Effect.orElseSucceed((): ReadonlyArray<string> => [])
  )

/** Waits until a process that was sent SIGSTOP writes no more: a thread ends the call that it is in. */
const awaitStandstill = (fs: FileSystem.FileSystem, time: Time.Time, node: Node) =>
  Effect.flatMap(node.pid, (pid) =>
    Option.isNone(pid)
      ? Effect.void
      : threadStates(fs, pid.value).pipe(
          Effect.repeat({
            until: (states) => states.every((state) => state === "T"),
            schedule: Schedule.spaced("1 millis")
          }),
          (waiting) => Time.inRealTime(time, Effect.asVoid(waiting))
        )
  )

/**
 * `runDirectory`: where copies may lie. `scope`: that of the members.
 */
export const make = (
  processes: Processes.Processes,
  options: {
    readonly runDirectory: string
    /** Where members have disks of their own. */
    readonly disks: Mounts.Mounts | undefined
    readonly scope: Scope.Scope
    readonly time: Time.Time
  }
): Effect.Effect<Disk, never, FileSystem.FileSystem> =>
  Effect.gen(function* () {
    const { disks, runDirectory, scope, time } = options
    const fs = yield* FileSystem.FileSystem
    let copies = 0
    /** How many want a disk to be full. */
    const full = new Map<Node, number>()

    const directoryOf = ({ config: { dataDir } }: Node): string => disks?.reach(dataDir) ?? dataDir

    /** All that etcd keeps is in one directory below the data directory. */
    const dataOf = (node: Node): string => `${directoryOf(node)}/member`

    const remove = (directory: string) => Effect.ignore(fs.remove(directory, { recursive: true, force: true }))

    const copyOf = (data: string) =>
      Effect.suspend(() => {
        const copy = `${runDirectory}/copy${copies++}`
        return Effect.as(
          Effect.onError(Copies.copyDirectory(fs, data, copy), () => remove(copy)),
          copy
        )
      })

    const replace = (data: string, copy: string) => Effect.andThen(remove(data), Copies.copyDirectory(fs, copy, data))

    /** Begins to watch whether a member serves. */
    const watchServing = (node: Node) =>
      SubscriptionRef.changes(node.ready).pipe(
        Stream.filter((ready) => ready),
        Stream.runHead,
        Effect.forkIn(scope, { startImmediately: true })
      )

    /** Changes the data of a member that is stopped. */
    const tamper = <E extends PlatformError.PlatformError | Processes.NotNow>(
      node: Node,
      change: (data: string) => Effect.Effect<void, E>
    ) =>
      Effect.gen(function* () {
        yield* processes.isStopped(node)
        const data = dataOf(node)
        const before = yield* copyOf(data)
        const putBack = Effect.orDie(replace(data, before))
        yield* Effect.onError(change(data), () => Effect.andThen(putBack, remove(before)))
        const serving = yield* watchServing(node)
        const comeBack = processes.comingBack(node)
        const takeBack = Effect.suspend(() =>
          serving.pollUnsafe() === undefined ? Effect.all([node.stop, putBack, comeBack]) : Effect.void
        )
        return Effect.asVoid(Effect.all([takeBack, Fiber.interrupt(serving), remove(before)]))
      }).pipe(orRefuse)

    const newestLog = (data: string) =>
      Effect.flatMap(fs.readDirectory(`${data}/wal`), (names) => {
        const name = Wal.newest(names)
        return name === undefined ? refuse("has no write-ahead log") : Effect.succeed(`${data}/wal/${name}`)
      })

    const fill = (node: Node) =>
      Effect.gen(function* () {
        if (disks === undefined) {
          yield* refuse(
            "has no disk of its own: give the cluster the option disks, as where canFillDisk says that it can"
          )
        }
        const filling = `${directoryOf(node)}/filling`
        yield* fillUp(fs, filling)
        full.set(node, (full.get(node) ?? 0) + 1)
        const revive = yield* processes.reviving(node)
        return Effect.suspend(() => {
          full.set(node, full.get(node)! - 1)
          return full.get(node) === 0 ? Effect.andThen(remove(filling), revive) : Effect.void
        })
      }).pipe(orRefuse)

    return {
      fill,
      flip: (node, where, count, seed) =>
        tamper(node, (data) =>
          Effect.gen(function* () {
            const path = where === "db" ? `${data}/snap/db` : yield* newestLog(data)
            const file = yield* fs.readFile(path)
            const spans = where === "db" ? Bolt.used(file) : Wal.records(file).map(({ body }) => body)
            const total = spans.reduce((sum, { from, to }) => sum + to - from, 0)
            if (total < count) return yield* refuse(`has ${total} bytes in its ${where}, which is less than ${count}`)
            const chosen = yield* choose(total, count, seed)
            const invert = (place: number) => [place, file[place]! ^ inverted] as const
            yield* write(
              fs,
              path,
              chosen.map((nth) => invert(placeOf(spans, nth)))
            )
          })
        ),
      tear: (node, bytes) =>
        tamper(node, (data) =>
          Effect.gen(function* () {
            const path = yield* newestLog(data)
            const last = Wal.records(yield* fs.readFile(path)).at(-1)
            if (last === undefined || (bytes ?? 0) >= last.to) {
              return yield* refuse(`has ${last?.to ?? 0} bytes in its newest log, of which something is to stay`)
            }
            const { body, to } = last
            yield* fs.truncate(path, bytes === undefined ? Math.floor((body.from + body.to) / 2) : to - bytes)
          })
        ),
      restore: (node, copy) => tamper(node, (data) => replace(data, copy)),
      save: (node) =>
        Effect.acquireRelease(
          Effect.acquireUseRelease(
            // Who does not run stands still.
            Effect.orElseSucceed(processes.pause(node), () => Effect.void),
            () => Effect.andThen(awaitStandstill(fs, time, node), copyOf(dataOf(node))),
            (goOn) => goOn
          ),
          remove
        ).pipe(orRefuse)
    }
  })
