/**
 * What befalls the data of a member that is stopped, and copies of it.
 *
 * The data as they were lie beside the run directory's other things until the fault is taken back. A member that has served
 * since has made something of what it found, and told others: its data stay. Of two faults that overlap the one that ends
 * first takes nothing back, if it is the older one: the other one then has what was there before both.
 *
 * Whatever is done to a disk is done alone, and while nobody starts the member, by hand either.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as PlatformError from "effect/PlatformError"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Node } from "../../EtcdProcess.ts"
import * as Bolt from "../files/bolt.ts"
import * as Copies from "../files/copies.ts"
import * as Wal from "../files/wal.ts"
import * as Time from "../time.ts"
import type * as Mounts from "./mounts.ts"
import * as Processes from "./processes.ts"

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

/** A change of a member's data that has not been taken back. */
interface Change {
  /** A copy of the data before it. */
  before: string
  /** Whether it is for a fault that the member is down, which is to come back then. */
  comesBack: boolean
  hasServed: boolean
}

/** What there is to know of a member's disk. */
interface State {
  /** Held by who does something to it. */
  readonly alone: Semaphore.Semaphore
  /** From the oldest one on. */
  readonly changes: Array<Change>
  /** How many want it to be full. */
  full: number
}

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
    const states = new Map<Node, State>()

    const stateOf = (node: Node): State => {
      const state = states.get(node) ?? { alone: Semaphore.makeUnsafe(1), changes: [], full: 0 }
      states.set(node, state)
      return state
    }

    const alone = <A, E, R>(node: Node, effect: Effect.Effect<A, E, R>) =>
      Effect.suspend(() => stateOf(node).alone.withPermit(effect))

    const directoryOf = ({ config: { dataDir } }: Node): string => disks?.reach(dataDir) ?? dataDir

    /** All that etcd keeps is in one directory below the data directory. */
    const dataOf = (node: Node): string => `${directoryOf(node)}/member`

    const remove = (directory: string) => Effect.ignore(fs.remove(directory, { recursive: true, force: true }))

    /** What copies of its data have in common. */
    const copiesOf = ({ name }: Node): string => `${runDirectory}/${name}.copy`

    const copyOf = (node: Node) =>
      Effect.suspend(() => {
        const copy = `${copiesOf(node)}${copies++}`
        return Effect.as(
          Effect.onError(Copies.copyDirectory(fs, dataOf(node), copy), () => remove(copy)),
          copy
        )
      })

    const replace = (data: string, copy: string) => Effect.andThen(remove(data), Copies.copyDirectory(fs, copy, data))

    const fillingOf = (node: Node): string => `${directoryOf(node)}/filling`

    /** Does something to a disk that may want more room than there was, or less. A full one is full again after it. */
    const whateverRoom = <A, E, R>(node: Node, effect: Effect.Effect<A, E, R>) =>
      Effect.suspend(() =>
        stateOf(node).full === 0
          ? effect
          : Effect.andThen(remove(fillingOf(node)), Effect.ensuring(effect, Effect.ignore(fillUp(fs, fillingOf(node)))))
      )

    /** Begins to watch whether a member serves. */
    const watchServing = (node: Node, change: Change) =>
      SubscriptionRef.changes(node.ready).pipe(
        Stream.filter((ready) => ready),
        Stream.take(1),
        Stream.runForEach(() =>
          Effect.sync(() => {
            change.hasServed = true
          })
        ),
        Effect.forkIn(scope, { startImmediately: true })
      )

    /** Puts the data back as they were before a change, unless somebody has served what they are since. */
    const undo = (node: Node, change: Change) =>
      Effect.suspend(() => {
        const { changes } = stateOf(node)
        const later = changes[changes.indexOf(change) + 1]
        changes.splice(changes.indexOf(change), 1)
        if (change.hasServed || SubscriptionRef.getUnsafe(node.ready)) return remove(change.before)
        if (later !== undefined) {
          const between = later.before
          later.before = change.before
          later.comesBack ||= change.comesBack
          return remove(between)
        }
        const putBack = Effect.orDie(whateverRoom(node, replace(dataOf(node), change.before)))
        // What it writes until it ends is not kept, and it may stand still.
        const stop = Effect.all([node.stop, node.signal("SIGKILL")], { concurrency: "unbounded" })
        const comeBack = change.comesBack ? processes.comeBack(node) : Effect.void
        return Effect.andThen(processes.keepDown(node, Effect.all([stop, putBack, comeBack])), remove(change.before))
      })

    /** Changes the data of a member that is stopped. */
    const tamper = <E extends PlatformError.PlatformError | Processes.NotNow>(
      node: Node,
      harm: (data: string) => Effect.Effect<void, E>
    ) =>
      Effect.gen(function* () {
        const comesBack = processes.isAfflicted(node)
        yield* processes.isStopped(node)
        const data = dataOf(node)
        const before = yield* copyOf(node)
        const putBack = Effect.orDie(replace(data, before))
        yield* whateverRoom(
          node,
          Effect.onError(harm(data), () => Effect.andThen(putBack, remove(before)))
        )
        const change: Change = { before, comesBack, hasServed: false }
        stateOf(node).changes.push(change)
        const watching = yield* watchServing(node, change)
        return alone(node, Effect.andThen(undo(node, change), Fiber.interrupt(watching)))
      }).pipe(
        (tampering) => processes.keepDown(node, tampering),
        (tampering) => alone(node, tampering),
        orRefuse
      )

    /** Copies what a member that stands still has on its disk: anew, where it is another process by then. */
    const copyStanding = (node: Node): Effect.Effect<string, PlatformError.PlatformError> =>
      Effect.gen(function* () {
        const pid = yield* node.pid
        const copied = yield* Effect.acquireUseRelease(
          // Who does not run stands still.
          Effect.orElseSucceed(processes.pause(node), () => Effect.void),
          () => Effect.exit(Effect.andThen(awaitStandstill(fs, time, node), copyOf(node))),
          (goOn) => goOn
        )
        if (Equal.equals(pid, yield* node.pid)) return yield* copied
        if (Exit.isSuccess(copied)) yield* remove(copied.value)
        return yield* copyStanding(node)
      })

    const newestLog = (data: string) =>
      Effect.flatMap(fs.readDirectory(`${data}/wal`), (names) => {
        const name = Wal.newest(names)
        return name === undefined ? refuse("has no write-ahead log") : Effect.succeed(`${data}/wal/${name}`)
      })

    const fill = (node: Node) =>
      Effect.gen(function* () {
        if (disks?.has(node.config.dataDir) !== true) {
          yield* refuse(
            "has no disk of its own: give the cluster the option disks, as where canFillDisk says that it can"
          )
        }
        const state = stateOf(node)
        const makeRoom = Effect.suspend(() => (state.full === 0 ? remove(fillingOf(node)) : Effect.void))
        // It may end before all is full.
        const revive = yield* processes.reviving(node)
        yield* Effect.onError(fillUp(fs, fillingOf(node)), () => Effect.andThen(makeRoom, revive))
        state.full++
        return alone(
          node,
          Effect.suspend(() => {
            state.full--
            return Effect.andThen(makeRoom, revive)
          })
        )
      }).pipe((filling) => alone(node, filling), orRefuse)

    return {
      fill,
      flip: (node, where, count, seed) =>
        tamper(node, (data) =>
          Effect.gen(function* () {
            const path = where === "db" ? `${data}/snap/db` : yield* newestLog(data)
            const file = yield* fs.readFile(path)
            const spans = where === "db" ? Bolt.used(file) : Wal.vouchedFor(file)
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
      restore: (node, copy) =>
        copy.startsWith(copiesOf(node))
          ? tamper(node, (data) => replace(data, copy))
          : refuse("is not what this is a copy of: another cluster, or somebody else, has made it"),
      save: (node) =>
        Effect.acquireRelease(alone(node, processes.keepDown(node, copyStanding(node))), remove).pipe(orRefuse)
    }
  })
