/**
 * Go programs, `etcdctl` and locks of this library stand in the same lines.
 *
 * `etcdctl` comes from `ETCDCTL_BINARY`, or from the `PATH`; the Go program (`go/`) is built. Where there is one of them
 * only, it is tested with that one, and where there is none with nothing.
 */
import { spawn } from "node:child_process"
import { join } from "node:path"
import { assert, describe, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as EtcdLock from "../../src/coordination/EtcdLock.ts"
import * as EtcdSession from "../../src/coordination/EtcdSession.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as EtcdLease from "../../src/EtcdLease.ts"
import * as EtcdProcess from "../../src/EtcdProcess.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import { start } from "../support/effects.ts"
import { etcdctl, missing as noCtl } from "../support/etcdctl.ts"
import { build } from "../support/go.ts"
import { eachLine } from "./exclusion/protocol.ts"

const go = build(join(import.meta.dirname, "go"), "go-coordination")

/** Who stands in a line. */
interface Contender {
  readonly who: string
  /** Waits until it has what it waits for; answers the key and the revision at which it has it, if it tells. */
  readonly acquired: Effect.Effect<string>
  readonly release: Effect.Effect<unknown>
}

const endpoint = EtcdProcess.EtcdProcess.useSync((etcd) => etcd.endpoints[0])

/** A process that is told what to do by lines, and answers by lines. */
const program = (command: string, args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(command, args, { env: { ETCDCTL_API: "3" }, stdio: ["pipe", "pipe", "inherit"] })
      const answers: Array<string> = []
      const waiting: Array<Deferred.Deferred<string>> = []
      eachLine(child.stdout, (line) => {
        const first = waiting.shift()
        if (first === undefined) answers.push(line)
        else Deferred.doneUnsafe(first, Exit.succeed(line))
      })
      const answer = Effect.suspend(() => {
        const known = answers.shift()
        if (known !== undefined) return Effect.succeed(known)
        const later = Deferred.makeUnsafe<string>()
        waiting.push(later)
        return Deferred.await(later)
      })
      const ended = Effect.callback<void>((resume) => {
        if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
        child.once("exit", () => resume(Effect.void))
      })
      return { child, answer, ended }
    }),
    ({ child, ended }) => {
      child.kill("SIGKILL")
      return ended
    }
  )

/** `etcdctl lock` or `etcdctl elect`, which gives back when it is interrupted. */
const ctl = (...args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const { answer, child, ended } = yield* program(etcdctl!, ["--endpoints", yield* endpoint, ...args])
    const contender: Contender = {
      who: `etcdctl ${args[0]}`,
      acquired: answer,
      release: Effect.suspend(() => {
        child.kill("SIGINT")
        return ended
      })
    }
    return contender
  })

/** A Go program, which has one session. */
const makeGo = Effect.gen(function* () {
  const { answer, child } = yield* program(go.executable!, [yield* endpoint])
  return (what: string, name: string): Effect.Effect<Contender> =>
    Effect.sync(() => {
      child.stdin.write(`${what} ${name}\n`)
      return {
        who: `go ${what}`,
        acquired: answer,
        release: Effect.suspend(() => {
          child.stdin.write("release\n")
          return Effect.map(answer, (line) => assert.strictEqual(line, "released"))
        })
      }
    })
})

const ours = (name: string, mode: EtcdLock.Mode = "exclusive"): Effect.Effect<Contender, never, Around> =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const fiber = yield* start(Scope.provide(EtcdLock.acquire(EtcdLock.make(name, { mode })), scope))
    const contender: Contender = {
      who: `ours ${mode}`,
      acquired: Effect.map(Effect.orDie(Fiber.join(fiber)), (held) => `${held.key} ${held.acquiredRevision}`),
      release: Scope.close(scope, Exit.void)
    }
    return contender
  })

const queued = (name: string, count: number) =>
  EtcdLock.line(EtcdLock.make(name)).pipe(Effect.repeat({ until: (line) => line.length === count }))

/** What contenders are begun with. */
type Around = EtcdSession.EtcdSession | EtcdProcess.EtcdProcess | Scope.Scope

type Begin = (name: string) => Effect.Effect<Contender, never, Around>

const permutations = <A>(items: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
  items.length === 0
    ? [[]]
    : items.flatMap((item) => permutations(items.filter((other) => other !== item)).map((rest) => [item, ...rest]))

/** All stand in line, one after the other, and get it in that order. */
const inOrder = (name: string, begins: ReadonlyArray<Begin>) =>
  Effect.gen(function* () {
    const contenders: Array<Contender> = []
    const got: Array<string> = []
    for (const begin of begins) {
      const contender = yield* begin(name)
      contenders.push(contender)
      yield* start(Effect.tap(contender.acquired, () => Effect.sync(() => got.push(contender.who))))
      yield* queued(name, contenders.length)
    }
    for (const [index, { release }] of contenders.entries()) {
      yield* Effect.repeat(Effect.sleep(1), { until: () => got.length > index })
      assert.deepStrictEqual(
        got,
        contenders.slice(0, index + 1).map(({ who }) => who)
      )
      yield* release
    }
    yield* queued(name, 0)
  })

const node = EtcdSession.layer.pipe(
  Layer.provideMerge(EtcdLease.layer),
  Layer.provideMerge(EtcdLayer.ephemeral({}, { log: false }))
)

const noGo = go.executable === undefined ? ` (skipped: ${go.problem})` : ""

describe("locks beside etcd's own", () => {
  layer(node, { excludeTestServices: true })((it) => {
    it.effect.skipIf(etcdctl === undefined)(`stand in line with etcdctl, in every order${noCtl}`, () =>
      Effect.gen(function* () {
        const begins: ReadonlyArray<Begin> = [ours, (name: string) => ctl("lock", name)]
        for (const order of permutations(begins)) yield* inOrder("ctl", order)
      }).pipe(Effect.scoped)
    )

    it.effect.skipIf(go.executable === undefined || etcdctl === undefined)(
      `stand in line with a Go program and etcdctl, in every order${noCtl || noGo}`,
      () =>
        Effect.gen(function* () {
          const theirs = yield* makeGo
          const begins: ReadonlyArray<Begin> = [
            ours,
            (name: string) => theirs("lock", name),
            (name: string) => ctl("lock", name)
          ]
          for (const order of permutations(begins)) yield* inOrder("all/three", order)
        }).pipe(Effect.scoped)
    )

    it.effect.skipIf(go.executable === undefined || etcdctl === undefined)(
      `stand in line with candidates of elections${noCtl || noGo}`,
      () =>
        Effect.gen(function* () {
          const theirs = yield* makeGo
          const begins: ReadonlyArray<Begin> = [
            ours,
            (name: string) => theirs("campaign", name),
            (name: string) => ctl("elect", name, "ctl")
          ]
          for (const order of permutations(begins)) yield* inOrder("election", order)
        }).pipe(Effect.scoped)
    )

    it.effect.skipIf(go.executable === undefined)(`and Go's readers and writers wait for each other${noGo}`, () =>
      Effect.gen(function* () {
        const theirs = yield* makeGo
        const own = {
          exclusive: (name: string) => ours(name),
          shared: (name: string) => ours(name, "shared"),
          write: (name: string) => ours(name, "write")
        }
        const goes = { rlock: (name: string) => theirs("rlock", name), wlock: (name: string) => theirs("wlock", name) }
        const pairs = Object.entries(own).flatMap(([mode, our]) =>
          Object.entries(goes).flatMap(([kind, their]) => [
            { pair: `${mode} before ${kind}`, begins: [our, their] },
            { pair: `${kind} before ${mode}`, begins: [their, our] }
          ])
        )
        // Readers of Go do not see the keys of a Mutex.
        const together = ["shared before rlock", "rlock before shared", "exclusive before rlock"]
        for (const { begins, pair } of pairs) {
          const name = `rw/${pair.replaceAll(" ", "-")}`
          if (!together.includes(pair)) {
            yield* inOrder(name, begins)
            continue
          }
          const both = yield* Effect.forEach(begins, (begin) => Effect.tap(begin(name), ({ acquired }) => acquired))
          yield* queued(name, 2)
          for (const { release } of both) yield* release
        }
      }).pipe(Effect.scoped)
    )

    it.effect.skipIf(go.executable === undefined || etcdctl === undefined)(
      `of nested names have nothing to do with each other${noCtl || noGo}`,
      () =>
        Effect.gen(function* () {
          const theirs = yield* makeGo
          // Theirs wait for all keys below a name: not so ours.
          const outer = yield* ours("nested")
          const inner = yield* theirs("lock", "nested/inner")
          const innermost = yield* ctl("lock", "nested/inner/most")
          for (const { acquired } of [outer, inner, innermost]) yield* acquired
          yield* outer.release
          const again = [yield* ours("nested"), yield* ours("nested/other")]
          for (const { acquired, release } of again) yield* Effect.andThen(acquired, release)
          yield* queued("nested/inner", 1)
          yield* inner.release
          yield* innermost.release
        }).pipe(Effect.scoped)
    )

    it.effect("do not mind other keys below their names", () =>
      Effect.gen(function* () {
        const { id } = yield* EtcdSession.current
        yield* EtcdKv.put("plain/config", "1")
        yield* EtcdKv.put("plain/leased", "1", { lease: id })
        const contender = yield* ours("plain")
        yield* contender.acquired
        yield* queued("plain", 1)
        yield* contender.release
        const { kvs } = yield* EtcdKv.range(KeyRange.prefix("plain/"))
        assert.deepStrictEqual(
          kvs.map((kv) => kv.keyString),
          ["plain/config", "plain/leased"]
        )
      })
    )

    it.effect.skipIf(go.executable === undefined)(
      `fence with Go programs by the revision at which they were acquired${noGo}`,
      () =>
        Effect.gen(function* () {
          const name = "revisions"
          const one = yield* makeGo
          const other = yield* makeGo
          const contenders: Array<Contender> = []
          for (const begin of [ours(name), one("lock", name), ours(name), other("lock", name), ours(name)]) {
            contenders.push(yield* begin)
            yield* queued(name, contenders.length)
          }
          const tokens = (yield* EtcdLock.line(EtcdLock.make(name))).map(({ token }) => token)
          const revisions: Array<bigint> = []
          for (const { acquired, release } of contenders) {
            revisions.push(BigInt((yield* acquired).split(" ")[1]!))
            yield* release
          }
          assert.deepStrictEqual(
            revisions,
            [...new Set(revisions)].sort((a, b) => Number(a - b))
          )
          // The tokens of ours would be refused by who has seen the revision of a Go program.
          assert.isTrue(tokens[2]! < revisions[1]!)
        }).pipe(Effect.scoped)
    )
  })
})
