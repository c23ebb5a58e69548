/**
 * Go programs, `etcdctl` and locks of this library stand in the same lines, and share latches and services.
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
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as EtcdBarrier from "../../src/coordination/EtcdBarrier.ts"
import * as EtcdLock from "../../src/coordination/EtcdLock.ts"
import * as EtcdRegistry from "../../src/coordination/EtcdRegistry.ts"
import * as EtcdSession from "../../src/coordination/EtcdSession.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as EtcdLease from "../../src/EtcdLease.ts"
import * as EtcdProcess from "../../src/EtcdProcess.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import { start } from "../support/effects.ts"
import { etcdctl, missing as noCtl } from "../support/etcdctl.ts"
import { build } from "../support/go.ts"
import { eachLine } from "../support/programs.ts"

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
          // It would wait for what is below its name, if that came first.
          yield* inner.acquired
          const innermost = yield* ctl("lock", "nested/inner/most")
          for (const { acquired } of [outer, innermost]) yield* acquired
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

describe("what else etcd's Go client has", () => {
  layer(node, { excludeTestServices: true })((it) => {
    it.effect.skipIf(go.executable === undefined)(
      `closes, opens and waits for a latch as this library does, whoever does what${noGo}`,
      () =>
        Effect.gen(function* () {
          const asked = yield* makeGo
          const waits = yield* makeGo
          const told = (what: string, name: string) =>
            Effect.flatMap(asked(what, name), ({ acquired }) => Effect.map(acquired, (line) => line === name))
          const closing = {
            ours: (name: string) => EtcdBarrier.latch(name).close,
            go: (name: string) => told("hold", name)
          }
          const opening = {
            ours: (name: string) => Effect.asVoid(EtcdBarrier.latch(name).open),
            go: (name: string) => Effect.asVoid(told("open", name))
          }
          const waiting = {
            ours: (name: string) => EtcdBarrier.latch(name).await,
            go: (name: string) => Effect.flatMap(waits("wait", name), ({ acquired }) => acquired)
          }
          const all = <A>(kinds: { readonly [who: string]: A }) => Object.entries(kinds)
          for (const [closer, close] of all(closing)) {
            for (const [opener, open] of all(opening)) {
              const name = `latch/${closer}-${opener}`
              assert.isTrue(yield* close(name))
              assert.isFalse(yield* closing.ours(name))
              assert.isFalse(yield* closing.go(name))
              const fibers = yield* Effect.forEach(all(waiting), ([, wait]) => start(wait(name)))
              // The history goes on: it is not the closing that is waited from.
              yield* EtcdKv.put("latch/other", "")
              yield* Effect.sleep(20)
              for (const fiber of fibers) assert.isUndefined(fiber.pollUnsafe())
              yield* open(name)
              yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber as Fiber.Fiber<unknown, unknown>))
              assert.isTrue(yield* EtcdBarrier.latch(name).isOpen)
            }
          }
        }).pipe(Effect.scoped)
    )

    it.effect.skipIf(go.executable === undefined)(
      `has a DoubleBarrier that has nothing to do with rounds of the same name${noGo}`,
      () =>
        Effect.gen(function* () {
          const enters = [yield* makeGo, yield* makeGo]
          const ours = EtcdBarrier.together(Effect.void, "double", 2)
          const first = yield* enters[0]!("enter", "double")
          const waiting = yield* start(ours)
          yield* queued("double", 1)
          const second = yield* enters[1]!("enter", "double")
          for (const { acquired } of [first, second]) assert.strictEqual(yield* acquired, "double")
          assert.isUndefined(waiting.pollUnsafe())
          yield* ours
          yield* Fiber.join(waiting)
          yield* Effect.forEach([first, second], ({ release }) => release, { concurrency: "unbounded" })
          assert.deepStrictEqual((yield* EtcdKv.range(KeyRange.prefix("double/"))).kvs, [])
        }).pipe(Effect.scoped)
    )

    it.effect.skipIf(go.executable === undefined)(
      `finds the endpoints that are announced here, and is found${noGo}`,
      () =>
        Effect.gen(function* () {
          const theirs = yield* makeGo
          const answer = (what: string, of: string) => Effect.flatMap(theirs(what, of), ({ acquired }) => acquired)
          const users = yield* EtcdRegistry.endpoints("registry/users")
          const metadata: ReadonlyArray<Schema.Json> = [
            null,
            true,
            "",
            '<b> & "\u2028" \\ é 😀',
            0.1,
            -1e21,
            [],
            [[null], {}],
            { zone: "eu", "": { "ключ/\n": [1, 2] } }
          ]
          const expected: { [key: string]: { readonly Addr: string; readonly Metadata: Schema.Json } } = {}
          for (const [index, one] of metadata.entries()) {
            const named = `registry/users/ours-${index}`
            yield* EtcdRegistry.register({ service: "registry/users", address: `ours-${index}`, metadata: one })
            expected[named] = { Addr: `ours-${index}`, Metadata: one }
            const endpoint = { Addr: `10.0.0.${index}:80`, Metadata: one }
            const key = `registry/users/theirs-${index}`
            assert.strictEqual(yield* answer("add", `${key} ${JSON.stringify(endpoint)}`), key)
            expected[key] = endpoint
          }
          yield* EtcdRegistry.register({ service: "registry/users2", address: "another's" })
          assert.deepStrictEqual(JSON.parse(yield* answer("list", "registry/users")), expected)
          const found: typeof expected = {}
          for (const [name, decoded] of yield* users.fresh) {
            const { address, metadata } = Result.getOrThrow(decoded).value
            found[`registry/users/${name}`] = { Addr: address, Metadata: metadata }
          }
          assert.deepStrictEqual(found, expected)
        }).pipe(Effect.scoped)
    )
  })
})
