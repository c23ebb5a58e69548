import { execFileSync } from "node:child_process"
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { dirname, join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as TestClock from "effect/testing/TestClock"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import type * as EtcdProcessError from "../src/EtcdProcessError.ts"
import * as Role from "../src/Role.ts"
import { freeze, isAlive, standStill, temporaryDirectory as temporary, until } from "./support/machine.ts"
import { soon, wallClock } from "./support/time.ts"

const quiet = { log: false } as const

const pidOf = (node: EtcdProcess.Node) => Effect.map(node.pid, Option.getOrThrow)

const reasonOf = <A>(
  effect: Effect.Effect<A, EtcdProcessError.EtcdProcessError, Scope.Scope | NodeServices.NodeServices>
) =>
  Effect.scoped(effect).pipe(
    Effect.flip,
    Effect.map((error) => error.reason)
  )

const awaitRole = (node: EtcdProcess.Node, role: Role.Role) =>
  Role.changes(node).pipe(
    Stream.filter((state) => state.role === role),
    Stream.runHead,
    Effect.map(Option.getOrThrow)
  )

const keys = (node: EtcdProcess.Node) => EtcdLayer.connect({ endpoints: node.endpoints })

const ephemeralNodes = (count: number, concurrency: number) =>
  Effect.forEach(Array.from({ length: count }), () => Effect.scoped(Effect.asVoid(EtcdProcess.ephemeral({}, quiet))), {
    concurrency,
    discard: true
  }).pipe(Effect.provide(NodeServices.layer))

describe("EtcdProcess", () => {
  it.live("without a configuration: a private node that leads, and nothing left of it afterwards", () =>
    Effect.gen(function* () {
      const seen = yield* Effect.scoped(
        Effect.gen(function* () {
          const node = yield* EtcdProcess.make({}, quiet)
          assert.strictEqual(node.name, "default")
          assert.isTrue(node.id > 0n)
          assert.isTrue(yield* SubscriptionRef.get(node.ready))
          const state = yield* awaitRole(node, "leader")
          assert.deepStrictEqual(state.leader, Option.some(node.id))
          assert.isTrue(DateTime.toEpochMillis(state.since) <= Date.now())
          const socket = new URL(node.endpoints[0]).pathname
          assert.strictEqual(statSync(dirname(socket)).mode & 0o777, 0o700)
          const pid = yield* pidOf(node)
          if (process.platform === "linux") {
            const own = execFileSync("sh", ["-c", `ls -l /proc/${pid}/fd | sed -n 's/.*socket:\\[\\(.*\\)\\]/\\1/p'`])
            const listening = execFileSync("sh", [
              "-c",
              "cat /proc/net/tcp /proc/net/tcp6 | awk '$4 == \"0A\" { print $10 }'"
            ])
            const ports = new Set(String(listening).trim().split("\n"))
            assert.deepStrictEqual(
              String(own)
                .trim()
                .split("\n")
                .filter((inode) => ports.has(inode)),
              []
            )
          }
          return { pid, directory: dirname(socket) }
        })
      )
      assert.isFalse(isAlive(seen.pid))
      assert.isFalse(existsSync(seen.directory))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("a given data directory is made private, kept, and used again", () =>
    Effect.gen(function* () {
      const dataDir = join(yield* temporary, "data")
      const put = Effect.flatMap(EtcdProcess.ephemeral({ dataDir }, quiet), (node) =>
        Effect.as(Effect.provide(EtcdKv.put("kept", "yes"), keys(node)), node.id)
      )
      const get = Effect.flatMap(EtcdProcess.ephemeral({ dataDir }, quiet), (node) =>
        Effect.map(Effect.provide(EtcdKv.getString("kept"), keys(node)), (kept) => ({ kept, id: node.id }))
      )
      const id = yield* Effect.scoped(put)
      assert.strictEqual(statSync(dataDir).mode & 0o777, 0o700)
      assert.deepStrictEqual(yield* Effect.scoped(get), { kept: Option.some("yes"), id })
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("a wrong configuration is refused before anything is spawned", () =>
    Effect.gen(function* () {
      const reason = yield* reasonOf(
        EtcdProcess.make({ listenClientUrls: "nowhere", heartbeatInterval: "1 minute" } as never, {
          ...quiet
        })
      )
      assert.strictEqual(reason._tag, "InvalidConfig")
      assert.include(reason.message, "nowhere")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("an address in use is named", () =>
    Effect.gen(function* () {
      const server = yield* Effect.acquireRelease(
        Effect.callback<ReturnType<typeof createServer>>((resume) => {
          // It reads what it is sent, so that it can be closed while somebody is connected.
          const server = createServer((socket) => socket.resume())
          server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
      )
      const address = server.address()
      const port = typeof address === "object" && address !== null ? address.port : 0
      const reason = yield* reasonOf(EtcdProcess.ephemeral({ listenClientUrls: `http://127.0.0.1:${port}` }, quiet))
      assert.strictEqual(reason._tag, "AddressInUse")
      if (reason._tag === "AddressInUse") {
        assert.include(reason.address, String(port))
        assert.strictEqual(reason.exitCode, 1)
        assert.isAbove(reason.lastLines.length, 0)
      }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("a node that cannot serve in time fails with StartTimeout and is gone", () =>
    Effect.gen(function* () {
      const reason = yield* reasonOf(
        EtcdProcess.ephemeral(
          {
            name: "a",
            listenPeerUrls: "unix://a.peer:0",
            initialAdvertisePeerUrls: "unix://a.peer:0",
            initialCluster: { a: "unix://a.peer:0", b: "unix://b.peer:0" }
          },
          { ...quiet, startTimeout: "1 second" }
        )
      )
      assert.strictEqual(reason._tag, "StartTimeout")
      assert.include(reason.message, "majority")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("a killed node completes exit, and its role is stopped", () =>
    Effect.gen(function* () {
      const node = yield* EtcdProcess.ephemeral({}, quiet)
      yield* awaitRole(node, "leader")
      yield* node.signal("SIGKILL")
      assert.deepStrictEqual(yield* node.exit, { code: null, signal: "SIGKILL" })
      assert.strictEqual((yield* SubscriptionRef.get(node.role)).role, "stopped")
      assert.isFalse(yield* SubscriptionRef.get(node.ready))
      assert.deepStrictEqual(yield* node.pid, Option.none())
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("a restart schedule brings it back with its data, and begins anew with each outage", () =>
    Effect.gen(function* () {
      const node = yield* EtcdProcess.ephemeral({}, { ...quiet, restart: Schedule.recurs(1) })
      yield* Effect.provide(EtcdKv.put("kept", "yes"), keys(node))
      for (const _ of [1, 2, 3]) {
        const pid = yield* pidOf(node)
        const back = yield* Effect.forkChild(
          SubscriptionRef.changes(node.ready).pipe(
            Stream.dropWhile((ready) => ready),
            Stream.filter((ready) => ready),
            Stream.runHead
          ),
          { startImmediately: true }
        )
        yield* node.signal("SIGKILL")
        yield* Fiber.join(back)
        assert.notStrictEqual(yield* pidOf(node), pid)
        yield* awaitRole(node, "leader")
        assert.deepStrictEqual(yield* Effect.provide(EtcdKv.getString("kept"), keys(node)), Option.some("yes"))
      }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("stop and start keep the data", () =>
    Effect.gen(function* () {
      const node = yield* EtcdProcess.ephemeral({}, { ...quiet, restart: Schedule.forever })
      yield* Effect.provide(EtcdKv.put("kept", "yes"), keys(node))
      const pid = yield* pidOf(node)
      yield* node.stop
      assert.isFalse(isAlive(pid))
      assert.strictEqual((yield* SubscriptionRef.get(node.role)).role, "stopped")
      yield* node.start
      yield* node.start
      assert.deepStrictEqual(yield* Effect.provide(EtcdKv.getString("kept"), keys(node)), Option.some("yes"))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("a node that does not end by SIGTERM is killed after the grace period", () =>
    Effect.gen(function* () {
      const pid = yield* Effect.scoped(
        Effect.gen(function* () {
          const node = yield* EtcdProcess.ephemeral({}, { ...quiet, gracePeriod: "50 millis" })
          yield* freeze(node)
          return yield* pidOf(node)
        })
      )
      assert.isFalse(isAlive(pid))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("stop, start, and a restart take real time, whatever clock the program has", () =>
    Effect.gen(function* () {
      // Starting again is tried until it serves, and each pause is one that no test clock lets pass.
      const options = { ...quiet, gracePeriod: "200 millis", restart: Schedule.spaced("100 millis") } as const
      const scope = yield* Scope.make()
      const node = yield* Scope.provide(EtcdProcess.ephemeral({}, options), scope)
      yield* freeze(node)
      yield* soon(node.stop)
      assert.isTrue(Option.isNone(yield* node.pid))
      yield* soon(node.start)
      const killed = yield* pidOf(node)
      yield* node.signal("SIGKILL")
      const isBack = Effect.map(node.pid, (pid) => Option.isSome(pid) && pid.value !== killed)
      yield* soon(
        TestClock.withLive(Effect.repeat(isBack, { until: (is) => is, schedule: Schedule.spaced("10 millis") }))
      )
      yield* freeze(node)
      yield* soon(Scope.close(scope, Exit.void))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("a node that serves meanwhile is not given up where this process stood still", () =>
    Effect.gen(function* () {
      const starting = yield* Effect.forkChild(EtcdProcess.make({}, { ...quiet, startTimeout: "2 seconds" }), {
        startImmediately: true
      })
      // It has been spawned, and takes a while until it has elected itself.
      yield* Effect.sleep("200 millis")
      yield* standStill(3000)
      const node = yield* Fiber.join(starting)
      assert.isTrue(yield* SubscriptionRef.get(node.ready))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("a restart schedule is asked in time that the wall clock does not set", () =>
    Effect.gen(function* () {
      const clock = yield* wallClock
      const restart = Schedule.spaced("1 millis").pipe(Schedule.upTo({ duration: "500 millis" }))
      const node = yield* EtcdProcess.ephemeral({}, { ...quiet, restart })
      const isOver = yield* Effect.forkChild(node.exit, { startImmediately: true })
      yield* node.signal("SIGKILL")
      yield* until(() => !SubscriptionRef.getUnsafe(node.ready))
      yield* until(() => SubscriptionRef.getUnsafe(node.ready))
      clock.step(-3_600_000)
      for (let kill = 0; kill < 100 && isOver.pollUnsafe() === undefined; kill++) {
        yield* node.signal("SIGKILL")
        yield* Effect.sleep("20 millis")
      }
      assert.isDefined(isOver.pollUnsafe())
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("interrupting the start leaves nothing", () =>
    Effect.gen(function* () {
      const name = `interrupted-${process.pid}`
      // The brackets keep pgrep from finding the shell that runs it.
      const left = () => String(execFileSync("sh", ["-c", `pgrep -f 'name=[i]${name.slice(1)}' || true`])).trim()
      for (const delay of [0, 5, 20, 40]) {
        // A start that is over by then must not end by itself.
        const starting = Effect.andThen(EtcdProcess.ephemeral({ name }, quiet), Effect.never)
        const fiber = yield* Effect.forkChild(Effect.scoped(starting))
        yield* Effect.sleep(delay)
        const exit = yield* Fiber.interrupt(fiber).pipe(Effect.andThen(Fiber.await(fiber)))
        assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
        assert.strictEqual(left(), "")
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )

  describe("on Effect's logger", () => {
    interface Line {
      readonly level: string
      readonly message: string
      readonly annotations: Readonly<Record<string, unknown>>
    }

    /** What the effect logs of the node, its debug level included. */
    const linesOf = <A, E, R>(effect: Effect.Effect<A, E, R>) => {
      const lines: Array<Line> = []
      const logger = Logger.make(({ fiber, logLevel, message }) => {
        const annotations = fiber.getRef(References.CurrentLogAnnotations)
        if (annotations.member === "talkative") lines.push({ level: logLevel, message: String(message), annotations })
      })
      return effect.pipe(
        Effect.provideService(References.MinimumLogLevel, "Trace"),
        Effect.provide(Logger.layer([logger])),
        Effect.as(lines)
      )
    }

    const isAbove =
      (...levels: ReadonlyArray<string>) =>
      (line: Line) =>
        levels.includes(line.level)

    it.live(
      "a node that starts, serves and stops is one line at info; etcd's own are at debug, with their fields",
      () =>
        Effect.gen(function* () {
          const lines = yield* linesOf(Effect.scoped(EtcdProcess.ephemeral({ name: "talkative" })))
          const isTold = isAbove("Info", "Warn", "Error", "Fatal")
          const told = lines.filter(isTold).map(({ message }) => message)
          assert.match(told[0]!, /^etcd 3\.\d+\.\d+ serves at unix:\/\/\/.*client\.sock:0$/)
          // A machine may be so slow that etcd warns of it, while it serves.
          assert.deepStrictEqual(
            told.slice(1).filter((message) => !/too long|slow|overload|on time/.test(message)),
            []
          )
          const starting = lines.find(({ message }) => message === "starting an etcd server")
          assert.strictEqual(starting?.level, "Debug")
          assert.deepInclude(starting?.annotations, { name: "talkative", member: "talkative" })
          assert.isTrue(lines.some(({ message }) => message.includes("became leader")))
          assert.isTrue(lines.some(({ message }) => message === "closed etcd server"))
        }).pipe(Effect.provide(NodeServices.layer))
    )

    it.live("nothing where that is switched off", () =>
      Effect.gen(function* () {
        const lines = yield* linesOf(Effect.scoped(EtcdProcess.ephemeral({ name: "talkative" }, quiet)))
        // What is left is the client's, which asks the node for its status.
        assert.deepStrictEqual(
          lines.filter(({ message }) => !message.startsWith("etcd: ")),
          []
        )
      }).pipe(Effect.provide(NodeServices.layer))
    )

    it.live("a node that does not start says why in its error alone", () =>
      Effect.gen(function* () {
        const dataDir = join(yield* temporary, "data")
        yield* Effect.scoped(EtcdProcess.ephemeral({ dataDir }, quiet))
        writeFileSync(join(dataDir, "member/snap/db"), "not a database")
        const lines = yield* linesOf(Effect.flip(Effect.scoped(EtcdProcess.ephemeral({ name: "talkative", dataDir }))))
        assert.deepStrictEqual(lines.filter(isAbove("Info", "Warn", "Error", "Fatal")), [])
        assert.isAbove(lines.length, 0)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
    )
  })

  it.live("inherited ETCD_ variables do not reach it", () =>
    Effect.gen(function* () {
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          process.env.ETCD_SNAPSHOT_COUNT = "7"
        }),
        () =>
          Effect.sync(() => {
            delete process.env.ETCD_SNAPSHOT_COUNT
          })
      )
      const node = yield* EtcdProcess.ephemeral({}, quiet)
      yield* node.stop
      const events = yield* Stream.runCollect(
        Stream.takeUntil(
          node.events,
          (event) => event._tag !== "Missed" && event.message.includes("closed etcd server")
        )
      )
      assert.isAbove(events.length, 10)
      const mentions = events.filter(
        (event) => event._tag !== "Missed" && event.message.includes("environment variable")
      )
      assert.deepStrictEqual(mentions, [])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("with a log level that hides the role, Status tells it", () =>
    Effect.gen(function* () {
      const node = yield* EtcdProcess.ephemeral({ logLevel: "error" }, quiet)
      const state = yield* awaitRole(node, "leader")
      assert.isTrue(state.term > 0n)
      assert.deepStrictEqual(state.leader, Option.some(node.id))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("events reach back to the start, and a reader that is too slow is told what it missed", () =>
    Effect.gen(function* () {
      const node = yield* EtcdProcess.ephemeral({}, { ...quiet, eventBuffer: 4 })
      const events = yield* Stream.runCollect(Stream.take(node.events, 4))
      assert.strictEqual(events.length, 4)
      const late = yield* Effect.forkChild(
        node.events.pipe(
          Stream.tap(() => node.stop),
          Stream.takeUntil((event) => event._tag === "Missed"),
          Stream.runLast
        )
      )
      const last = Option.getOrThrow(yield* Fiber.join(late))
      assert.strictEqual(last._tag, "Missed")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("its environment is this process's and what is given, without a proxy that it is not given", () =>
    Effect.gen(function* () {
      const directory = yield* temporary
      const real = process.env.ETCD_BINARY ?? String(execFileSync("sh", ["-c", "command -v etcd"])).trim()
      const binary = join(directory, "etcd")
      const seen = () => readFileSync(join(directory, "seen"), "utf8")
      writeFileSync(binary, `#!/bin/sh\necho "$MARK $HTTP_PROXY" > ${directory}/seen\nexec '${real}' "$@"\n`, {
        mode: 0o755
      })
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          const before = process.env.HTTP_PROXY
          process.env.HTTP_PROXY = "http://127.0.0.1:9"
          return before
        }),
        (before) =>
          Effect.sync(() => {
            if (before === undefined) delete process.env.HTTP_PROXY
            else process.env.HTTP_PROXY = before
          })
      )
      const peers = { listenPeerUrls: "unix://peer.sock:0", initialAdvertisePeerUrls: "unix://peer.sock:0" }
      const onSockets = { name: "a", ...peers, initialCluster: { a: "unix://peer.sock:0" } }
      const run = (environment: Record<string, string>) =>
        Effect.scoped(EtcdProcess.ephemeral(onSockets, { ...quiet, binary, environment }))
      yield* run({ MARK: "given" })
      assert.strictEqual(seen(), "given \n")
      yield* run({ MARK: "given", HTTP_PROXY: "http://127.0.0.1:10" })
      assert.strictEqual(seen(), "given http://127.0.0.1:10\n")
      assert.strictEqual(
        (yield* reasonOf(EtcdProcess.ephemeral({}, { environment: { ETCD_NAME: "a" } })))._tag,
        "InvalidConfig"
      )
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("twenty ephemeral nodes, one after another", () => ephemeralNodes(20, 1))
})

// etcd says after ten seconds that a directory is in use.
describe("EtcdProcess, several at a time", { concurrent: true }, () => {
  it.live("a data directory in use is named, and a corrupt one", () =>
    Effect.gen(function* () {
      const dataDir = join(yield* temporary, "data")
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* EtcdProcess.ephemeral({ dataDir }, quiet)
          const reason = yield* reasonOf(EtcdProcess.ephemeral({ dataDir }, quiet))
          assert.strictEqual(reason._tag, "DataDirInUse")
        })
      )
      writeFileSync(join(dataDir, "member/snap/db"), "not a database")
      const reason = yield* reasonOf(EtcdProcess.ephemeral({ dataDir }, quiet))
      assert.strictEqual(reason._tag, "DataDirCorrupt")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("a hundred ephemeral nodes, one after another in eight places", () => ephemeralNodes(100, 8))
})
