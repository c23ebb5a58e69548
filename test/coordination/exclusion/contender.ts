/**
 * A program of many fibers that want the same few locks: read-modify-write in etcd under them, and writes to the file
 * server. It goes on until its stdin ends.
 */
import { connect, type Socket } from "node:net"
import process from "node:process"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as EtcdLock from "../../../src/coordination/EtcdLock.ts"
import * as EtcdSession from "../../../src/coordination/EtcdSession.ts"
import { EtcdError } from "../../../src/EtcdError.ts"
import * as EtcdKv from "../../../src/EtcdKv.ts"
import * as EtcdLayer from "../../../src/EtcdLayer.ts"
import * as Programs from "../../support/programs.ts"
import { makeRandom, type Random } from "../../support/random.ts"
import {
  type FileWrite,
  ledgerOf,
  nameOf,
  type Outcome,
  type Said,
  type Settings,
  steps,
  stopBetween,
  type Written
} from "./protocol.ts"

const settings = JSON.parse(process.argv[2]!) as Settings

const say = (said: Said): void => Programs.say(said)

// ── what it is told ──

let isToStop = false

const told = Effect.callback<void>((resume) => {
  Programs.eachLine(process.stdin, (line) => {
    if (line === stopBetween) isToStop = true
  })
  process.stdin.on("end", () => resume(Effect.void))
})

// ── the file server ──

/** The file server has refused a token: it has seen a higher one. */
class Refused {
  readonly _tag = "Refused"
}

/** Answers come in the order of the questions. */
const fileServer = (socket: Socket) => {
  const waiting: Array<Deferred.Deferred<void, Refused>> = []
  Programs.eachLine(socket, (line) => {
    Deferred.doneUnsafe(waiting.shift()!, line === "yes" ? Exit.void : Exit.fail(new Refused()))
  })
  return (write: FileWrite): Effect.Effect<void, Refused> =>
    Effect.suspend(() => {
      const answer = Deferred.makeUnsafe<void, Refused>()
      waiting.push(answer)
      socket.write(`${JSON.stringify(write)}\n`)
      return Deferred.await(answer)
    })
}

// ── the work ──

const read = (lock: string) =>
  Effect.map(EtcdKv.getString(ledgerOf(settings.prefix, lock)), (value) =>
    Option.match(value, { onNone: () => 0, onSome: (text) => (JSON.parse(text) as Written).count })
  )

/** Stands still, if it was told to, until somebody lets it go on, and says whether it did. */
const standStill = (token: number, locks: ReadonlyArray<string>) =>
  Effect.sync(() => {
    if (!isToStop) return false
    isToStop = false
    say({ _tag: "Stopping", token, locks, at: Programs.now() })
    process.kill(process.pid, "SIGSTOP")
    return true
  })

const work = (token: number, locks: ReadonlyArray<string>, random: Random, files: ReturnType<typeof fileServer>) =>
  Effect.gen(function* () {
    const counts = yield* Effect.forEach(locks, read)
    const hasStopped = yield* standStill(token, locks)
    for (let step = 0; step < steps; step++) {
      for (const [index, lock] of locks.entries()) {
        const written: Written = { count: counts[index]! + 1, token, step }
        const put = EtcdKv.put(ledgerOf(settings.prefix, lock), JSON.stringify(written))
        // What it was about to write is on its way then, whatever it learns.
        yield* hasStopped && step === 0 ? Effect.uninterruptible(put) : put
      }
      if (random(4) === 0) yield* Effect.sleep(random(20))
    }
    for (const lock of locks) yield* files({ lock, token })
  })

const outcomeOf = (exit: Exit.Exit<void, EtcdLock.LockLost | EtcdError | Refused>): Outcome => {
  if (Exit.isSuccess(exit)) return "done"
  const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
  if (error?._tag === "LockLost") return "lost"
  return error?._tag === "Refused" ? "refused" : "failed"
}

const whyOf = (exit: Exit.Exit<void, EtcdLock.LockLost | EtcdError | Refused>): string => {
  if (Exit.isSuccess(exit)) return ""
  const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
  if (error === undefined) return Cause.hasInterruptsOnly(exit.cause) ? "interrupted" : Cause.pretty(exit.cause)
  if (error instanceof EtcdLock.LockLost) return error.reason
  return error instanceof EtcdError ? error.reason._tag : error._tag
}

/** One of the locks, or now and then all of them. */
const choose = (random: Random): ReadonlyArray<string> =>
  random(8) === 0 ? settings.locks : [settings.locks[random(settings.locks.length)]!]

const overrun = () => Effect.sync(() => say({ _tag: "Overrun" }))

const turn = (random: Random, files: ReturnType<typeof fileServer>) =>
  Effect.gen(function* () {
    const locks = choose(random)
    const lock = EtcdLock.all(
      locks.map((name) => EtcdLock.make(nameOf(settings.prefix, name), { fence: settings.fence, overrun }))
    )
    let entered: number | undefined
    const inside = Effect.gen(function* () {
      const token = Number((yield* EtcdLock.Held).token)
      entered = token
      say({ _tag: "Entered", token, locks, at: Programs.now() })
      yield* Effect.ensuring(
        work(token, locks, random, files),
        Effect.sync(() => say({ _tag: "Left", token, at: Programs.now() }))
      )
    })
    const exit = yield* Effect.exit(EtcdLock.withLock(inside, lock))
    const why = whyOf(exit)
    if (entered === undefined) say({ _tag: "NotAcquired", why })
    else say({ _tag: "Returned", token: entered, outcome: outcomeOf(exit), why })
    yield* Effect.sleep(random(Exit.isSuccess(exit) ? 10 : 100))
  })

const etcd = EtcdSession.layerWith({ ttl: Duration.millis(settings.ttlMillis) }).pipe(
  Layer.provideMerge(EtcdLayer.connect({ endpoints: settings.endpoints }))
)

const contend = Effect.gen(function* () {
  const socket = yield* Effect.acquireRelease(
    Effect.sync(() => connect(settings.files)),
    (socket) => Effect.sync(() => socket.destroy())
  )
  const files = fileServer(socket)
  Programs.watchEventLoop((from, to) => say({ _tag: "Stalled", from, to }))
  say({ _tag: "Ready" })
  yield* Effect.forEach(
    Array.from({ length: settings.fibers }, (_, fiber) => makeRandom(settings.seed + fiber)),
    (random) => Effect.forever(turn(random, files)),
    { concurrency: "unbounded", discard: true }
  )
})

NodeRuntime.runMain(Effect.raceFirst(contend, told).pipe(Effect.scoped, Effect.provide(etcd)))
