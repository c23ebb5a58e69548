/**
 * The life of a node: starts, stops, kills and closings in every order, and what is left behind.
 */
import { execFileSync, spawnSync } from "node:child_process"
import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs"
import { dirname, join, relative } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as ChildProcess from "effect/process/ChildProcess"
import * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import * as Schedule from "effect/Schedule"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import type * as EtcdProcessError from "../src/EtcdProcessError.ts"
import { reasonOf, start } from "./support/effects.ts"
import { host } from "./support/host.ts"
import * as Machine from "./support/machine.ts"
import { freeze, isAlive, ownTemporaryDirectory, temporaryDirectory, variable } from "./support/machine.ts"
import { makeRandom } from "./support/random.ts"
import { turns } from "./support/time.ts"

const quiet = { log: false } as const

/** It must not take long, and a slow machine is no reason to fail. */
const soon = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.timeoutOrElse(effect, { duration: "1 minute", orElse: () => Effect.die("it hangs") })

const until = (condition: () => boolean) => soon(Machine.until(condition))

/** The processes with this in their command line that run, and are no zombies. */
const running = (text: string): ReadonlyArray<number> =>
  // The brackets keep pgrep from finding the shell that runs it.
  String(execFileSync("sh", ["-c", `pgrep -f '[${text[0]}]${text.slice(1)}' || true`]))
    .trim()
    .split("\n")
    .filter((pid) => pid !== "" && isAlive(Number(pid)))
    .map(Number)

const pidOf = (node: EtcdProcess.Node) => Effect.map(node.pid, Option.getOrThrow)

const isDown = (node: EtcdProcess.Node) => until(() => Option.isNone(Effect.runSync(node.pid)))

const isUp = (node: EtcdProcess.Node) => until(() => SubscriptionRef.getUnsafe(node.ready))

const put = (node: EtcdProcess.Node, key = "key") =>
  Effect.provide(EtcdKv.put(key, "value"), EtcdLayer.connect({ endpoints: node.endpoints }))

/** Cannot serve, since the other member is not there. */
const alone = (name: string) => ({
  name,
  listenPeerUrls: `unix://${name}.peer:0`,
  initialAdvertisePeerUrls: `unix://${name}.peer:0`,
  initialCluster: { [name]: `unix://${name}.peer:0`, other: "unix://other.peer:0" }
})

const executable = process.env.ETCD_BINARY ?? String(execFileSync("sh", ["-c", "command -v etcd"])).trim()

/** From 3.5.13 on. */
const takesPaths = !/Version: 3\.(?:4\.|5\.(?:\d|1[0-2])\s)/.test(String(execFileSync(executable, ["--version"])))

let names = 0
const unique = () => `life-${process.pid}-${names++}`

describe("a restart pause", () => {
  const pausing = { ...quiet, restart: Schedule.spaced("1 hour") } as const

  it.live("ends with start, and stop is not undone afterwards", () =>
    Effect.gen(function* () {
      const name = unique()
      const node = yield* EtcdProcess.ephemeral({ name }, pausing)
      for (let outage = 0; outage < 2; outage++) {
        yield* node.signal("SIGKILL")
        yield* isDown(node)
        yield* soon(Effect.all([node.start, node.start], { concurrency: 2 }))
        assert.strictEqual(running(`name=${name}`).length, 1)
        yield* put(node)
      }
      yield* soon(node.stop)
      yield* soon(node.exit)
      assert.deepStrictEqual(running(`name=${name}`), [])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("ends with stop, and with the scope", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const node = yield* Scope.provide(EtcdProcess.ephemeral({}, pausing), scope)
      yield* node.signal("SIGKILL")
      yield* isDown(node)
      yield* soon(node.stop)
      assert.deepStrictEqual(yield* soon(node.exit), { code: null, signal: "SIGKILL" })
      yield* soon(node.start)
      yield* node.signal("SIGKILL")
      yield* isDown(node)
      yield* soon(Scope.close(scope, Exit.void))
      assert.deepStrictEqual(yield* soon(node.exit), { code: null, signal: "SIGKILL" })
    }).pipe(Effect.provide(NodeServices.layer))
  )
})

describe("a start that is pending", () => {
  it.live("ends with the scope, and says why", () =>
    Effect.gen(function* () {
      const name = unique()
      const scope = yield* Scope.make()
      const starting = yield* start(reasonOf(Scope.provide(EtcdProcess.ephemeral(alone(name), quiet), scope)))
      yield* until(() => running(`name=${name}`).length > 0)
      yield* soon(Scope.close(scope, Exit.void))
      assert.strictEqual((yield* soon(Fiber.join(starting)))._tag, "Stopped")
      assert.deepStrictEqual(running(`name=${name}`), [])
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("ends with stop, for all who wait; and for one who waits no more only where nobody else waits", () =>
    Effect.gen(function* () {
      const members = SubscriptionRef.getUnsafe((yield* EtcdCluster.ephemeral(quiet)).members)
      yield* Effect.forEach(members, (node) => node.stop, { concurrency: "unbounded", discard: true })
      // Without a majority it does not serve.
      const [node] = members
      const waiting = yield* Effect.forEach([1, 2, 3], () => start(reasonOf(node.start)))
      yield* until(() => Option.isSome(Effect.runSync(node.pid)))
      const pid = yield* pidOf(node)
      yield* soon(Fiber.interrupt(waiting[0]!))
      assert.isTrue(isAlive(pid))
      yield* soon(node.stop)
      for (const fiber of waiting.slice(1)) assert.strictEqual((yield* soon(Fiber.join(fiber)))._tag, "Stopped")
      assert.isFalse(isAlive(pid))
      const last = yield* start(node.start)
      yield* until(() => Option.isSome(Effect.runSync(node.pid)))
      yield* soon(Fiber.interrupt(last))
      assert.deepStrictEqual(yield* node.pid, Option.none())
      yield* soon(node.exit)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})

describe("a start that is interrupted", () => {
  it.live("is taken back, however little it has done", () =>
    Effect.gen(function* () {
      const node = yield* EtcdProcess.ephemeral({}, quiet)
      yield* node.stop
      for (const operations of [3, 4, 5]) {
        for (let turns = 0; turns < 4; turns++) {
          // The fiber pauses, and can be interrupted, after so many operations.
          const starting = yield* start(Effect.provideService(node.start, Scheduler.MaxOpsBeforeYield, operations))
          for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
          yield* soon(Fiber.interrupt(starting))
          assert.deepStrictEqual(yield* node.pid, Option.none())
          yield* soon(node.exit)
        }
      }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})

describe("what has failed to start", () => {
  it.live("leaves nothing behind, though its scope lives on", () =>
    Effect.gen(function* () {
      const directory = yield* ownTemporaryDirectory
      const taken = { listenClientUrls: "http://192.0.2.1:1234" }
      const initialCluster = { other: "unix://other.peer:0", default: "unix://default.peer:0" }
      assert.strictEqual((yield* reasonOf(EtcdProcess.ephemeral(taken, quiet)))._tag, "ExitedEarly")
      assert.strictEqual(
        (yield* reasonOf(
          EtcdCluster.fromConfigs(
            [
              { name: "other", initialCluster },
              { ...taken, initialCluster }
            ],
            quiet
          )
        ))._tag,
        "ExitedEarly"
      )
      assert.deepStrictEqual(readdirSync(directory), [])
      assert.deepStrictEqual(running(directory), [])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer), Effect.provide(Logger.layer([])))
  )

  it.live("or whose scope was closed meanwhile, at whatever moment, leaves nothing behind", () =>
    Effect.gen(function* () {
      const directory = yield* ownTemporaryDirectory
      for (const make of [EtcdProcess.ephemeral({}, quiet), EtcdCluster.ephemeral({ ...quiet, size: 2 })]) {
        for (const count of [0, 1, 2, 4, 8, 16, 32]) {
          const scope = yield* Scope.make()
          const starting = yield* start(
            reasonOf(Scope.provide(Effect.asVoid<unknown, EtcdProcessError.EtcdProcessError, any>(make), scope))
          )
          yield* turns(count + 1)
          yield* soon(Scope.close(scope, Exit.void))
          assert.strictEqual((yield* soon(Fiber.join(starting)))._tag, "Stopped")
          assert.deepStrictEqual(readdirSync(directory), [])
          assert.deepStrictEqual(running(directory), [])
        }
      }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("since it was interrupted when its guard had just begun, ends", () =>
    Effect.gen(function* () {
      const directory = yield* ownTemporaryDirectory
      const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
      const isGuard = (command: ChildProcess.Command) =>
        command._tag === "StandardCommand" && command.args.includes("effect-etcd-guard")
      const slow = ChildProcessSpawner.make((command) =>
        Effect.tap(spawner.spawn(command), () => Effect.sleep(isGuard(command) ? "1 second" : 0))
      )
      const starting = yield* EtcdProcess.ephemeral({}, quiet).pipe(
        Effect.scoped,
        Effect.provideService(ChildProcessSpawner.ChildProcessSpawner, slow),
        start
      )
      yield* until(() => running(`effect-etcd-guard ${directory}`).length > 0)
      yield* Effect.sleep("100 millis")
      yield* soon(Fiber.interrupt(starting))
      assert.deepStrictEqual(readdirSync(directory), [])
      assert.deepStrictEqual(running(directory), [])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})

describe("a node whose scope is closed", () => {
  it.live("is not held up by a guard that stands still, or has gone", () =>
    Effect.gen(function* () {
      const directory = yield* ownTemporaryDirectory
      for (const signal of ["SIGSTOP", "SIGKILL"] as const) {
        const scope = yield* Scope.make()
        const node = yield* Scope.provide(EtcdProcess.ephemeral({}, quiet), scope)
        const guards = running(`effect-etcd-guard ${directory}`)
        assert.strictEqual(guards.length, 1)
        process.kill(guards[0]!, signal)
        yield* soon(node.stop)
        yield* soon(node.start)
        yield* soon(Scope.close(scope, Exit.void))
        assert.deepStrictEqual(running(directory), [])
        assert.deepStrictEqual(readdirSync(directory), [])
      }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("refuses to start, and is stopped", () =>
    Effect.gen(function* () {
      const node = yield* Effect.scoped(EtcdProcess.ephemeral({}, { ...quiet, restart: Schedule.forever }))
      assert.strictEqual((yield* soon(reasonOf(node.start)))._tag, "Stopped")
      yield* soon(node.stop)
      yield* node.signal("SIGTERM")
      assert.strictEqual((yield* soon(node.exit)).error, undefined)
      assert.deepStrictEqual(yield* node.pid, Option.none())
    }).pipe(Effect.provide(NodeServices.layer))
  )
})

describe("restarts", () => {
  it.live("that fail are told by exit, with their reason", () =>
    Effect.gen(function* () {
      const dataDir = join(yield* temporaryDirectory, "data")
      const restart = Schedule.upTo(Schedule.spaced("500 millis"), { times: 2 })
      const node = yield* EtcdProcess.ephemeral({ dataDir }, { ...quiet, restart })
      yield* node.signal("SIGKILL")
      yield* isDown(node)
      writeFileSync(join(dataDir, "member/snap/db"), "not a database")
      const { error } = yield* soon(node.exit)
      assert.strictEqual(error?.reason._tag, "DataDirCorrupt")
      assert.strictEqual((yield* reasonOf(node.start))._tag, "DataDirCorrupt")
      assert.strictEqual((yield* soon(node.exit)).error?.reason._tag, "DataDirCorrupt")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("do not come where the schedule fails, and all else goes on", () =>
    Effect.gen(function* () {
      const restart = Schedule.map(Schedule.forever, () => {
        throw new Error("a schedule of the program's")
      })
      const node = yield* EtcdProcess.ephemeral({}, { ...quiet, restart })
      yield* node.signal("SIGKILL")
      yield* soon(node.exit)
      yield* soon(node.start)
      yield* put(node)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer), Effect.provide(Logger.layer([])))
  )

  it.live("end with stop, start and the scope, also where the schedule itself waits for ever", () =>
    Effect.gen(function* () {
      const restart = Schedule.addDelay(Schedule.forever, () => Effect.never)
      const scope = yield* Scope.make()
      const node = yield* Scope.provide(EtcdProcess.ephemeral({}, { ...quiet, restart }), scope)
      const outage = Effect.andThen(node.signal("SIGKILL"), isDown(node))
      yield* outage
      yield* soon(node.start)
      yield* outage
      yield* soon(node.stop)
      yield* soon(node.exit)
      yield* soon(node.start)
      yield* outage
      yield* soon(Scope.close(scope, Exit.void))
      yield* soon(node.exit)
    }).pipe(Effect.provide(NodeServices.layer))
  )
})

describe("a logger that throws", () => {
  it.live("does not keep etcd's lines from being read, nor a node from being started again", () =>
    Effect.gen(function* () {
      const logger = Logger.make(() => {
        throw new Error("a logger of the program's")
      })
      const node = yield* EtcdProcess.ephemeral(
        // It is warned of, before etcd is started.
        { logLevel: "debug", logPackageLevels: undefined, listenClientUrls: "http://0.0.0.0:0" },
        { log: true, restart: Schedule.spaced("10 millis") }
      ).pipe(Effect.provide(Logger.layer([logger])))
      yield* node.signal("SIGKILL")
      yield* until(() => !SubscriptionRef.getUnsafe(node.ready))
      yield* isUp(node)
      const events = yield* Stream.runCollect(Stream.takeUntil(node.events, (event) => event._tag === "Ready"))
      assert.isAbove(events.length, 10)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})

describe("a run directory that two have", () => {
  it.live("keeps the socket that somebody listens on, and the second is refused", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const runDirectory = join(directory, "run")
      mkdirSync(runDirectory)
      const options = { ...quiet, runDirectory, restart: Schedule.forever } as const
      const first = yield* EtcdProcess.ephemeral({ dataDir: join(directory, "first") }, options)
      const reason = yield* reasonOf(
        Effect.scoped(EtcdProcess.ephemeral({ dataDir: join(directory, "second") }, options))
      )
      assert.strictEqual(reason._tag, "AddressInUse")
      assert.include(reason.message, "client.sock:0")
      assert.include(reason.message, runDirectory)
      yield* put(first)
      // Standing still, it still listens.
      yield* freeze(first)
      const again = yield* reasonOf(
        Effect.scoped(EtcdProcess.ephemeral({ dataDir: join(directory, "second") }, options))
      ).pipe(Effect.ensuring(first.signal("SIGCONT")))
      assert.strictEqual(again._tag, "AddressInUse")
      // What it leaves behind when it is killed is nobody's.
      yield* first.signal("SIGKILL")
      yield* until(() => !SubscriptionRef.getUnsafe(first.ready))
      yield* isUp(first)
      yield* put(first)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("belongs to one of them, though they start at the same moment, also where one was killed before", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const runDirectory = join(directory, "run")
      mkdirSync(runDirectory)
      const copies = Effect.forEach(
        ["first", "second"],
        (name) => Effect.result(EtcdProcess.ephemeral({ dataDir: join(directory, name) }, { ...quiet, runDirectory })),
        { concurrency: 2 }
      )
      const { kill, said } = yield* host(`
        yield* EtcdProcess.ephemeral({}, { log: false, runDirectory: ${JSON.stringify(runDirectory)} })
        say(process.pid)`)
      yield* kill
      yield* until(() => !isAlive(said) && running(runDirectory).length === 0)
      for (let round = 0; round < 2; round++) {
        yield* Effect.scoped(
          Effect.gen(function* () {
            const [served, refused] = Arr.separate(yield* copies)
            assert.strictEqual(refused[0]?.reason._tag, "AddressInUse")
            yield* put(served[0]!)
          })
        )
      }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live.skipIf(!takesPaths)("is no matter where a socket has a path of its own", () =>
    Effect.gen(function* () {
      const listenClientUrls = `unix://${join(yield* temporaryDirectory, "client.sock")}`
      const first = yield* EtcdProcess.ephemeral({ listenClientUrls }, quiet)
      const reason = yield* reasonOf(Effect.scoped(EtcdProcess.ephemeral({ listenClientUrls }, quiet)))
      assert.strictEqual(reason._tag, "AddressInUse")
      yield* put(first)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})

describe("a node that listens on port 0", () => {
  it.live("has a port that clients reach, also when it is started again, and advertises it", () =>
    Effect.gen(function* () {
      const node = yield* EtcdProcess.ephemeral({ listenClientUrls: "http://127.0.0.1:0" }, quiet)
      assert.match(node.endpoints[0], /^http:\/\/127\.0\.0\.1:[1-9]\d*$/)
      assert.isTrue(node.clusterId > 0n)
      assert.deepStrictEqual(node.config.options.advertiseClientUrls, node.endpoints)
      yield* put(node)
      yield* node.stop
      yield* node.start
      yield* put(node)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("has one also beside a socket, for metrics, and where it is only advertised", () =>
    Effect.gen(function* () {
      const node = yield* EtcdProcess.ephemeral(
        {
          listenClientUrls: ["unix://a.sock:0", "http://127.0.0.1:0"],
          advertiseClientUrls: "http://127.0.0.1:0",
          listenMetricsUrls: "http://127.0.0.1:0"
        },
        quiet
      )
      assert.deepStrictEqual(node.config.options.advertiseClientUrls, node.endpoints.slice(1))
      for (const endpoint of node.endpoints) yield* put({ ...node, endpoints: [endpoint] })
      const [metrics] = node.config.options.listenMetricsUrls ?? []
      assert.match(yield* Effect.promise(() => fetch(`${metrics}/metrics`).then((answer) => answer.text())), /etcd_/)
      const advertised = yield* EtcdProcess.ephemeral({ advertiseClientUrls: "http://127.0.0.1:0" }, quiet)
      yield* put(advertised)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})

describe("a temporary directory", () => {
  it.live("with a long name is not used for sockets, and a given one is refused with its length", () =>
    Effect.gen(function* () {
      const long = join(yield* temporaryDirectory, "x".repeat(80))
      mkdirSync(long)
      const reason = yield* reasonOf(EtcdProcess.ephemeral({}, { ...quiet, runDirectory: long }))
      assert.strictEqual(reason._tag, "InvalidConfig")
      assert.match(reason.message, /10[37] bytes/)
      // Nobody connects to these, and yet whether somebody listens there could not be asked after a crash.
      const onPorts = { listenClientUrls: "http://127.0.0.1:0", listenPeerUrls: `unix://${"p".repeat(20)}:0` }
      const ofPeers = yield* reasonOf(EtcdProcess.ephemeral(onPorts, { ...quiet, runDirectory: long }))
      assert.match(ofPeers.message, /p{20}:0.* 10[37] bytes/)
      yield* variable("TMPDIR", long)
      const node = yield* EtcdProcess.ephemeral({}, quiet)
      yield* put(node)
      yield* put(yield* EtcdProcess.ephemeral(onPorts, quiet))
      const { endpoints } = yield* EtcdCluster.ephemeral({ ...quiet, size: 1 })
      yield* Effect.provide(EtcdKv.put("key", "value"), EtcdLayer.connect({ endpoints }))
      assert.deepStrictEqual(readdirSync(long), [])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("that is relative, and a name with slashes, leave nothing elsewhere", () =>
    Effect.gen(function* () {
      const directory = join(yield* temporaryDirectory, "tmp")
      mkdirSync(directory)
      const { kill, said } = yield* host(
        `const node = yield* EtcdProcess.ephemeral({ name: "../../up" }, { log: false })
         say({ pid: yield* pidOf(node), dataDir: node.config.dataDir, socket: node.endpoints[0] })`,
        { env: { TMPDIR: relative(process.cwd(), directory) } }
      )
      assert.strictEqual(dirname(dirname(new URL(said.socket).pathname)), directory)
      assert.strictEqual(dirname(dirname(said.dataDir)), directory)
      yield* kill
      yield* until(() => !isAlive(said.pid) && readdirSync(directory).length === 0)
      assert.deepStrictEqual(readdirSync(dirname(directory)), ["tmp"])
    }).pipe(Effect.scoped)
  )
})

describe("a place where no temporary directory can be made", () => {
  it.live("is told with the code of the system, and with what to do", () =>
    Effect.gen(function* () {
      const file = join(yield* temporaryDirectory, "file")
      writeFileSync(file, "")
      yield* variable("TMPDIR", file)
      const reason = yield* reasonOf(EtcdProcess.ephemeral({}, quiet))
      assert.strictEqual(reason._tag, "SystemFailure")
      assert.match(
        reason.message,
        /^Could not create a temporary directory, which TMPDIR or `runDirectory` .*\(ENOTDIR\)/
      )
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})

describe("a host that dies by SIGKILL", () => {
  it.live("leaves no etcd and no temporary directory behind, whatever its nodes were doing", () =>
    Effect.gen(function* () {
      const { kill, said } = yield* host(`
        const options = { log: false, restart: Schedule.spaced("1 hour") }
        const nodes = yield* Effect.all([0, 1, 2].map(() => EtcdProcess.ephemeral({}, options)), { concurrency: 3 })
        const [serving, stopped, pausing] = nodes
        yield* stopped.stop
        yield* pausing.signal("SIGKILL")
        yield* Effect.repeat(pausing.pid, { until: Option.isNone, schedule: Schedule.spaced("10 millis") })
        say({ pid: yield* pidOf(serving), sockets: nodes.map((node) => node.endpoints[0]) })`)
      const directories = said.sockets.map((socket: string) => dirname(new URL(socket).pathname))
      assert.isTrue(isAlive(said.pid) && directories.every(existsSync))
      yield* kill
      yield* until(() => !isAlive(said.pid) && !directories.some(existsSync))
      yield* until(() => running(directories[0]).length === 0)
    }).pipe(Effect.scoped)
  )

  it.live("leaves nothing of an etcd that was not started to the end", () =>
    Effect.gen(function* () {
      const name = unique()
      const config = JSON.stringify(alone(name))
      const { kill } = yield* host(`
        yield* Effect.forkChild(EtcdProcess.ephemeral(${config}, { log: false }))
        yield* Effect.sleep("200 millis")
        say({})`)
      yield* kill
      yield* until(() => running(`name=${name}`).length === 0)
    }).pipe(Effect.scoped)
  )

  it.live("leaves no directory behind that was just made, or about to be removed", () =>
    Effect.gen(function* () {
      const dies = Effect.fnUntraced(function* (module: string, what: string) {
        const directory = yield* temporaryDirectory
        yield* host(
          `
          const FileSystem = yield* Effect.promise(() => import("effect/FileSystem"))
          const module = yield* Effect.promise(() => import("effect-etcd/${module}"))
          const fs = yield* FileSystem.FileSystem
          const die = Effect.sync(() => {
            say({})
            process.kill(process.pid, "SIGKILL")
          })
          const makeDirectory = (path, options) => Effect.andThen(fs.makeDirectory(path, options), die)
          const deadly = { ...fs, ...${what} }
          const make = Effect.scoped(module.ephemeral({}, { log: false }))
          yield* Effect.provideService(make, FileSystem.FileSystem, deadly)`,
          { env: { TMPDIR: directory } }
        )
        yield* until(() => readdirSync(directory).length === 0 && running(directory).length === 0)
      })
      yield* Effect.all(
        [
          dies("EtcdProcess", "{ makeDirectory }"),
          dies("EtcdCluster", "{ makeDirectory }"),
          dies("EtcdProcess", "{ remove: () => die }")
        ],
        { concurrency: 3 }
      )
    }).pipe(Effect.scoped)
  )
})

const mayUnshare = spawnSync("unshare", ["--pid", "--fork", "--mount-proc", "true"]).status === 0

describe("a host that is the first process, as in a container", () => {
  it.live.skipIf(!mayUnshare)("has no zombies of the nodes that it has stopped", () =>
    Effect.gen(function* () {
      const { said } = yield* host(
        `yield* Effect.scoped(Effect.gen(function* () {
           const node = yield* EtcdProcess.ephemeral({}, { log: false })
           for (let time = 0; time < 3; time++) {
             yield* node.stop
             yield* node.start
           }
           yield* node.signal("SIGKILL")
           yield* node.exit
         }))
         say({ pid: process.pid, states: String(execFileSync("ps", ["-A", "-o", "stat="])).trim().split(/\\s+/) })`,
        { by: ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"] }
      )
      assert.strictEqual(said.pid, 1)
      assert.deepStrictEqual(
        said.states.filter((state: string) => state.startsWith("Z")),
        []
      )
    }).pipe(Effect.scoped)
  )
})

describe("SIGTERM to a host that is the first process, as a container's end begins", () => {
  it.live.skipIf(!mayUnshare)("stops its etcd, removes its directory, and ends it", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const { said } = yield* host(
        `const node = yield* EtcdProcess.ephemeral({}, { log: false })
         say({ pid: process.pid, socket: node.endpoints[0] })
         process.kill(1, "SIGTERM")`,
        { by: ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"], env: { TMPDIR: directory } }
      )
      assert.strictEqual(said.pid, 1)
      yield* until(() => readdirSync(directory).length === 0 && running(directory).length === 0)
    }).pipe(Effect.scoped)
  )
})

describe("an executable that is a script without exec", () => {
  const wrapper = Effect.map(temporaryDirectory, (directory) => {
    const path = join(directory, "etcd")
    writeFileSync(path, ["#!/bin/sh", `'${executable}' "$@"`, "exit $?"].join("\n"))
    chmodSync(path, 0o755)
    return path
  })

  it.live("is signalled, ended, and started again together with what it runs", () =>
    Effect.gen(function* () {
      const name = unique()
      const binary = yield* wrapper
      const restart = Schedule.spaced("10 millis")
      yield* Effect.scoped(
        Effect.gen(function* () {
          const node = yield* EtcdProcess.ephemeral({ name }, { ...quiet, binary, restart })
          const before = running(`name=${name}`)
          assert.strictEqual(before.length, 2)
          yield* node.signal("SIGKILL")
          yield* until(() => !before.some(isAlive))
          yield* isUp(node)
          yield* put(node)
          // The script alone: what it runs goes with it.
          process.kill(yield* pidOf(node), "SIGKILL")
          yield* until(() => !SubscriptionRef.getUnsafe(node.ready))
          yield* isUp(node)
          yield* put(node)
          assert.strictEqual(running(`name=${name}`).length, 2)
        })
      )
      assert.deepStrictEqual(running(`name=${name}`), [])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("does not survive its host", () =>
    Effect.gen(function* () {
      const name = unique()
      const binary = JSON.stringify(yield* wrapper)
      const { kill } = yield* host(`
        yield* EtcdProcess.ephemeral({ name: "${name}" }, { log: false, binary: ${binary} })
        say({})`)
      assert.strictEqual(running(`name=${name}`).length, 2)
      yield* kill
      yield* until(() => running(`name=${name}`).length === 0)
    }).pipe(Effect.scoped)
  )
})

describe("a machine without /bin/sh", () => {
  it.live("is told in a sentence", () =>
    Effect.gen(function* () {
      const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
      const without = ChildProcessSpawner.make((command) =>
        spawner.spawn(
          command._tag === "StandardCommand" && command.command === "/bin/sh"
            ? ChildProcess.make("/no/such/sh", command.args, command.options)
            : command
        )
      )
      const reason = yield* reasonOf(
        Effect.provideService(EtcdProcess.ephemeral({}, quiet), ChildProcessSpawner.ChildProcessSpawner, without)
      )
      assert.strictEqual(reason._tag, "SystemFailure")
      assert.match(reason.message, /^Could not run \/bin\/sh \(ENOENT\)/)
      assert.notInclude(reason.message, "exec")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})

describe("starts, stops and kills in any order", () => {
  const steps = ["start", "stop", "kill", "give up", "wait"] as const

  it.live("never run two processes of one node, and leave it as it was left last", () =>
    Effect.gen(function* () {
      const name = unique()
      const restart = Schedule.spaced("20 millis")
      const node = yield* EtcdProcess.ephemeral({ name }, { ...quiet, restart })
      const random = makeRandom(20261129)
      const forked: Array<Fiber.Fiber<unknown, unknown>> = []
      for (let step = 0; step < 150; step++) {
        switch (steps[random(steps.length)]) {
          case "start":
            forked.push(yield* start(Effect.exit(node.start)))
            break
          case "stop":
            forked.push(yield* start(node.stop))
            break
          case "kill":
            yield* node.signal("SIGKILL")
            break
          case "give up":
            if (forked.length > 0) yield* start(Fiber.interrupt(forked[random(forked.length)]!))
            break
          default:
            yield* Effect.sleep(random(100))
        }
        assert.isAtMost(running(`name=${name}`).length, 1)
      }
      yield* soon(node.stop)
      yield* Effect.forEach(forked, (fiber) => soon(Fiber.await(fiber)))
      yield* soon(node.start)
      yield* put(node)
      yield* soon(node.stop)
      yield* soon(node.exit)
      assert.deepStrictEqual(running(`name=${name}`), [])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer), Effect.provide(Logger.layer([])))
  )
})
