/**
 * Instances that join their cluster by themselves, with real processes. What they decide is in
 * `test/internal/member/decide.unit.test.ts`, and for how long one may afflict them, in `npm run elastic`.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs"
import { createServer, type RequestListener } from "node:http"
import { createServer as createSecureServer } from "node:https"
import { connect as connectSocket } from "node:net"
import { join } from "node:path"
import type { TLSSocket } from "node:tls"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdAuth from "../src/EtcdAuth.ts"
import * as EtcdBinary from "../src/EtcdBinary.ts"
import type * as EtcdConfig from "../src/EtcdConfig.ts"
import * as EtcdId from "../src/EtcdId.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdMaintenance from "../src/EtcdMaintenance.ts"
import * as EtcdMember from "../src/EtcdMember.ts"
import * as EtcdMembership from "../src/EtcdMembership.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import * as Wal from "../src/internal/files/wal.ts"
import * as Answers from "../src/internal/member/answers.ts"
import * as Consult from "../src/internal/member/consult.ts"
import * as Http from "../src/internal/member/http.ts"
import * as Settings from "../src/internal/member/settings.ts"
import { start as begin } from "./support/effects.ts"
import { freePort, freeze, temporaryDirectory, until as untilTrue } from "./support/machine.ts"
import { connect, home, nodeOf, optionsOf, peerUrlOf, tagOf, until } from "./support/members.ts"
import { fixture, trusted } from "./support/tls.ts"

const abc = ["a", "b", "c"]

const put = (member: EtcdMember.Member, key: string, value: string) =>
  Effect.provide(EtcdKv.put(key, value), connect(member))

const get = (member: EtcdMember.Member, key: string) => Effect.provide(EtcdKv.getString(key), connect(member))

const membersOf = (member: EtcdMember.Member) => Effect.provide(EtcdMembership.list(), connect(member))

const votersOf = (member: EtcdMember.Member) =>
  Effect.map(membersOf(member), ({ members }) =>
    members
      .filter(({ isLearner }) => !isLearner)
      .map(({ name }) => name)
      .sort()
  )

/** Asks one that stays: who is removed may stop before it has answered. */
const remove = (by: EtcdMember.Member, id: EtcdId.MemberId) =>
  Effect.provide(EtcdMembership.remove(id), EtcdLayer.connect({ endpoints: nodeOf(by).endpoints }))

/** The reason of the error with which it fails, with its message. */
const refusal = <R>(effect: Effect.Effect<unknown, EtcdMember.Failure, R>) =>
  Effect.map(Effect.flip(Effect.scoped(effect)), ({ reason }) => `${reason._tag}: ${reason.message}`)

/** Waits until all of that is said in one message, and what hears it. */
const hears = (...said: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const found = yield* Deferred.make<void>()
    const logger = Logger.make(({ message }) => {
      if (said.every((text) => String(message).includes(text))) Deferred.doneUnsafe(found, Exit.void)
    })
    return [Deferred.await(found), Logger.layer([logger])] as const
  })

/** What is logged that it waits for, when it matches. Then it is interrupted. */
const waiting = <E, R>(effect: Effect.Effect<unknown, E, R>, ...said: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const [found, hearing] = yield* hears(...said)
    const ends = Effect.andThen(Effect.scoped(effect), Effect.die("it did not wait"))
    yield* Effect.raceFirst(Effect.provide(ends, hearing), found)
  })

describe("EtcdMember", { concurrent: true }, () => {
  it.live("three begin in any order, come back with their data, and replace one that has lost them", () =>
    Effect.gen(function* () {
      const { loseData, start } = yield* home
      const first = yield* begin(start("c", abc))
      const [b, a] = yield* Effect.all([start("b", abc), start("a", abc)], { concurrency: 2 })
      const c = yield* Fiber.join(first)
      const ids = [a, b, c].map(({ member }) => nodeOf(member).clusterId)
      assert.lengthOf(new Set(ids), 1)
      yield* put(a.member, "key", "value")
      assert.deepStrictEqual(yield* votersOf(b.member), abc)

      // Stopped, and started again: the same member, wherever the others are said to be.
      const { id } = nodeOf(c.member)
      yield* c.stop
      assert.strictEqual(tagOf(c.member), "Stopped")
      const again = yield* start("c", abc, { peers: Effect.never })
      assert.strictEqual(nodeOf(again.member).id, id)

      // Killed by somebody: its instance starts it again.
      const { pid } = nodeOf(again.member)
      const before = Option.getOrThrow(yield* pid)
      const another = SubscriptionRef.changes(again.member.state).pipe(
        Stream.mapEffect((state) => (state._tag === "Voter" ? state.node.pid : Effect.succeedNone)),
        Stream.filter((pid) => Option.isSome(pid) && pid.value !== before),
        Stream.runHead
      )
      yield* Effect.sync(() => process.kill(before, "SIGKILL"))
      assert.isTrue(Option.isSome(yield* another))
      assert.strictEqual(nodeOf(again.member).id, id)

      // Without its data it is another member, in the place of the one that it was.
      yield* again.stop
      yield* loseData("c")
      const anew = yield* start("c", abc)
      assert.strictEqual(tagOf(anew.member), "Voter")
      assert.notStrictEqual(nodeOf(anew.member).id, id)
      assert.deepStrictEqual(yield* votersOf(a.member), abc)
      assert.deepStrictEqual(yield* get(anew.member, "key"), Option.some("value"))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("one that comes later waits as a learner, and takes the place of one that leaves", () =>
    Effect.gen(function* () {
      const { directory, start } = yield* home
      const [a, b, c] = yield* Effect.all([start("a", abc), start("b", abc), start("c", abc)], { concurrency: 3 })
      const d = yield* start("d", abc, { size: 3 })
      assert.strictEqual(tagOf(d.member), "Learner")
      // There is one place for a learner.
      const e = yield* start("e", abc, { size: 3 })
      assert.strictEqual(tagOf(e.member), "Client")
      yield* put(e.member, "key", "value")
      const isDToo = (list: ReadonlyArray<string>) => list.some((endpoint) => endpoint.includes("/d.client"))
      assert.isFalse(isDToo(yield* SubscriptionRef.get(e.member.endpoints)))

      yield* b.member.leave
      assert.strictEqual(tagOf(b.member), "Left")
      yield* b.member.exit
      assert.isFalse(existsSync(join(directory, "b", "member")))
      yield* until(d.member, "Voter")
      assert.deepStrictEqual(yield* votersOf(a.member), ["a", "c", "d"])
      yield* SubscriptionRef.changes(e.member.endpoints).pipe(Stream.filter(isDToo), Stream.runHead)
      yield* until(e.member, "Learner")

      // Removed by somebody, while it runs: it is taken for one that comes anew.
      const { id } = nodeOf(c.member)
      yield* remove(a.member, id)
      yield* until(e.member, "Voter")
      yield* until(c.member, "Learner")
      assert.notStrictEqual(nodeOf(c.member).id, id)
      assert.deepStrictEqual(yield* votersOf(a.member), ["a", "d", "e"])
      assert.deepStrictEqual(yield* get(c.member, "key"), Option.some("value"))

      // Removed while it did not run. A learner that is not there is in nobody's way.
      yield* c.stop
      const { id: second } = nodeOf(e.member)
      yield* e.stop
      yield* remove(a.member, second)
      const back = yield* start("e", abc, { size: 3, startTimeout: "3 seconds" })
      assert.notStrictEqual(nodeOf(back.member).id, second)
      assert.strictEqual(tagOf(back.member), "Voter")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("who waits as a client takes a free place where all that it was told of have left", () =>
    Effect.gen(function* () {
      const { start } = yield* home
      const ab = ["a", "b"]
      const [a, b] = yield* Effect.all([start("a", ab), start("b", ab)], { concurrency: 2 })
      const c = yield* start("c", ab)
      const d = yield* start("d", ab)
      assert.deepStrictEqual([tagOf(c.member), tagOf(d.member)], ["Learner", "Client"])
      yield* a.member.leave
      yield* until(d.member, "Learner")
      // It knows its cluster, whatever becomes of who told it where.
      let asked = 0
      const word = Effect.succeed(ab.map(peerUrlOf))
      const peers = Effect.suspend(() => [word, word, word, Effect.fail("no word")][asked++] ?? Effect.never)
      const e = yield* start("e", ab, { peers })
      assert.strictEqual(tagOf(e.member), "Client")
      yield* b.member.leave
      yield* until(e.member, "Learner")
      assert.deepStrictEqual(yield* votersOf(e.member), ["c", "d"])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live(
    "goes on with what one that was killed has begun, and takes the place of one that is silent for too long",
    () =>
      Effect.gen(function* () {
        const { directory, start } = yield* home
        const [a, , c] = yield* Effect.all([start("a", abc), start("b", abc), start("c", abc)], { concurrency: 3 })
        // Killed when it had been added, and was making its data.
        const { member: added } = yield* Effect.retry(
          Effect.provide(EtcdMembership.add([peerUrlOf("d")], { isLearner: true }), connect(a.member)),
          { while: ({ reason }) => reason._tag === "Unhealthy", schedule: Schedule.spaced(100) }
        )
        mkdirSync(join(directory, "d", "member", "snap"), { recursive: true })
        writeFileSync(join(directory, "d", "member", "snap", "db"), "half")
        const d = yield* start("d", abc, { size: 3, replaceAfter: "1 second" })
        assert.strictEqual(tagOf(d.member), "Learner")
        assert.strictEqual(nodeOf(d.member).id, added.id)

        // Killed as a learner, it comes back as one.
        yield* d.stop
        const again = yield* start("d", abc, { size: 3, replaceAfter: "1 second" })
        assert.strictEqual(tagOf(again.member), "Learner")
        assert.strictEqual(nodeOf(again.member).id, added.id)

        // Nobody else can have its name, while it is alive.
        const twice = yield* refusal(start("e", abc, { size: 3, name: "d", dataDir: join(directory, "e") }))
        assert.include(twice, "NameInUse: Another instance is named d, and alive at unix://d.peer:0")

        const { id } = nodeOf(c.member)
        yield* c.stop
        yield* until(again.member, "Voter")
        assert.deepStrictEqual(yield* votersOf(a.member), ["a", "b", "d"])
        const back = yield* start("c", abc)
        assert.strictEqual(tagOf(back.member), "Learner")
        assert.notStrictEqual(nodeOf(back.member).id, id)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("who comes when a voter is down is a client meanwhile, and takes its place where it is told to", () =>
    Effect.gen(function* () {
      const { start } = yield* home
      const [a, , c] = yield* Effect.all([start("a", abc), start("b", abc), start("c", abc)], { concurrency: 3 })
      yield* c.stop
      const d = yield* start("d", abc)
      assert.strictEqual(tagOf(d.member), "Client")
      yield* put(d.member, "key", "value")
      yield* d.stop
      const told = yield* start("d", abc, { replaceAfter: "1 second" })
      yield* until(told.member, "Voter")
      assert.deepStrictEqual(yield* votersOf(a.member), ["a", "b", "d"])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("one alone begins where the declared size is one, and cannot leave", () =>
    Effect.gen(function* () {
      const { directory, start } = yield* home
      const places = ["a", "aside"].map((name) => join(directory, name)) as [string, string]
      // Killed, whenever it starts, but for the fourth time.
      const script = join(directory, "etcd")
      const { path } = yield* EtcdBinary.find()
      const lines = [
        "#!/bin/sh",
        `case "$*" in *--version*) exec ${path} "$@" ;; esac`,
        `echo >> ${script}.starts`,
        `[ $(wc -l < ${script}.starts) -ge 4 ] || kill -9 $$`,
        `exec ${path} "$@"`
      ]
      writeFileSync(script, lines.join("\n"), { mode: 0o700 })
      const { member, stop } = yield* start("a", ["a"], { binary: script })
      yield* put(member, "key", "value")
      // Who ends again and again is started after a while, in which it has no vote.
      const pid = Option.getOrThrow(yield* nodeOf(member).pid)
      yield* Effect.sync(() => process.kill(pid, "SIGKILL"))
      yield* until(member, "Returning")
      const from = performance.now()
      yield* until(member, "Voter")
      assert.isAbove(performance.now() - from, 3000)

      const { reason } = yield* Effect.flip(member.leave)
      assert.strictEqual(reason._tag, "LeaveRefused")
      assert.include(reason.message, "the only voter")
      assert.strictEqual(tagOf(member), "Voter")
      yield* stop

      // The etcd of one who was killed is still there, and makes its data.
      renameSync(...places)
      const [asked, server] = [yield* Deferred.make<void>(), createServer()]
      server.on("connection", () => Deferred.doneUnsafe(asked, Exit.void))
      yield* Effect.callback<void>((resume) => void server.listen(`${places[0]}.peer:0`, () => resume(Effect.void)))
      const next = yield* begin(start("a", ["a"]))
      yield* Deferred.await(asked)
      renameSync(places[1], places[0])
      server.close()
      const again = yield* Fiber.join(next)
      assert.deepStrictEqual(yield* get(again.member, "key"), Option.some("value"))
      yield* again.stop

      // Killed when its log was just made, it begins once more.
      const logs = join(places[0], "member", "wal")
      const log = join(logs, readdirSync(logs).find((name) => name.endsWith(".wal"))!)
      const file = readFileSync(log)
      writeFileSync(log, file.fill(0, Wal.records(file)[2]!.to))
      assert.strictEqual(tagOf((yield* start("a", ["a"])).member), "Voter")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("who would leave the rest without a majority stays", () =>
    Effect.gen(function* () {
      const { directory, start } = yield* home
      const [a, b, c] = yield* Effect.all([start("a", abc), start("b", abc), start("c", abc)], { concurrency: 3 })
      const { id } = nodeOf(c.member)
      yield* c.stop
      // It is still a member, which nobody removes any more by it.
      assert.strictEqual((yield* Effect.flip(c.member.leave)).reason._tag, "NotAMember")
      const { reason } = yield* Effect.flip(b.member.leave)
      assert.strictEqual(reason._tag, "LeaveRefused")
      assert.include(reason.message, "These do not answer: c")
      assert.deepStrictEqual(yield* votersOf(a.member), abc)

      // Nobody is sent to who was given the directory of another one.
      const dataDir = join(directory, "a")
      yield* refusal(start("d", abc, { size: 3, dataDir, joinTimeout: "500 millis" }))
      assert.include(
        (yield* membersOf(b.member)).members.map(({ peerUrls }) => peerUrls[0]),
        peerUrlOf("a")
      )

      // With its data, it may come back elsewhere.
      const back = yield* start("c", abc, { peerUrl: peerUrlOf("z") })
      const { members } = yield* membersOf(a.member)
      const found = members.find(({ id }) => id === nodeOf(back.member).id)
      assert.deepStrictEqual(found?.peerUrls, [peerUrlOf("z")])
      assert.strictEqual(nodeOf(back.member).id, id)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("one that stands still leaves, and those who write to it go on", () =>
    Effect.gen(function* () {
      const { start } = yield* home
      const [a, b] = [yield* start("a", ["a"]), yield* start("b", ["a"])]
      yield* freeze(nodeOf(b.member))
      // More than a socket takes.
      for (const key of ["0", "1", "2", "3"]) yield* put(a.member, key, "x".repeat(500_000))
      yield* b.member.leave
      yield* put(a.member, "4", "")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("of two that leave at once, one stays", () =>
    Effect.gen(function* () {
      const { start } = yield* home
      const ab = ["a", "b"]
      const all = yield* Effect.all(
        ab.map((name) => start(name, ab)),
        { concurrency: 2 }
      )
      const left = yield* Effect.forEach(all, ({ member }) => Effect.result(member.leave), { concurrency: 2 })
      const refused = left.flatMap((one) => (Result.isFailure(one) ? [one.failure.reason._tag] : []))
      assert.deepStrictEqual(refused, ["LeaveRefused"])
      const rest = all.find(({ member }) => tagOf(member) !== "Left")!
      yield* put(rest.member, "key", "value")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("a learner stays one, wherever it comes back, and whatever those say who lag", () =>
    Effect.gen(function* () {
      const { directory, start } = yield* home
      const { member } = yield* start("a", ["a"])
      const settings = yield* Settings.make(optionsOf(directory, "b", ["a"]))
      const cluster = yield* Consult.connect(settings, nodeOf(member).endpoints, undefined)
      const before = yield* Consult.view(cluster)

      // Nothing is left of one that is interrupted when it has just been added.
      const joining = yield* begin(start("c", ["a"]))
      yield* Effect.repeat(Consult.view(cluster), { until: ({ members }) => members.length > 1 })
      yield* Fiber.interrupt(joining)
      assert.lengthOf((yield* Consult.view(cluster)).members, 1)

      const b = yield* start("b", ["a"])
      const { id } = nodeOf(b.member)
      assert.isFalse(yield* Consult.isGone(settings, cluster, before, id))
      assert.deepStrictEqual(yield* votersOf(member), ["a"])
      yield* b.stop
      const back = yield* start("b", ["a"], { peerUrl: peerUrlOf("z") })
      assert.strictEqual(tagOf(back.member), "Learner")
      assert.deepStrictEqual(yield* votersOf(member), ["a"])
      assert.isTrue(yield* Consult.isGone(settings, cluster, before, id))

      // One that tells nobody its id, neither by a password nor by its log, leaves as others do.
      yield* back.member.leave
      const password = Redacted.make("password")
      yield* Effect.gen(function* () {
        yield* EtcdAuth.addUser("root", password)
        yield* EtcdAuth.addRole("root")
        yield* EtcdAuth.grantRole("root", "root")
        yield* EtcdAuth.enable()
      }).pipe(Effect.provide(connect(member)))
      const client = { credentials: { username: "root", password } }
      const silent = yield* start("d", ["a"], { client, config: { logLevel: "error" } })
      assert.strictEqual(nodeOf(silent.member).id, 0n)
      yield* silent.member.leave
      const asRoot = EtcdLayer.connect({ ...client, endpoints: nodeOf(member).endpoints })
      assert.lengthOf((yield* Effect.provide(EtcdMembership.list(), asRoot)).members, 1)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("who is taken back leaves the data of another one that was given the same directory", () =>
    Effect.gen(function* () {
      const { directory, start } = yield* home
      const { member } = yield* start("a", ["a"])
      const shared = { dataDir: join(directory, "shared"), size: 2 }
      // It begins without data, and is added when the other one has some there.
      const [asked, known] = [yield* Deferred.make<void>(), yield* Deferred.make<ReadonlyArray<string>>()]
      const peers = Effect.andThen(Deferred.succeed(asked, undefined), Deferred.await(known))
      const late = yield* begin(
        refusal(start("c", [], { ...shared, size: 3, peers, startTimeout: "1 second", joinTimeout: "15 seconds" }))
      )
      yield* Deferred.await(asked)
      const b = yield* start("b", ["a"], shared)
      const { id } = nodeOf(b.member)
      yield* Deferred.succeed(known, [peerUrlOf("a")])
      assert.include(yield* Fiber.join(late), "JoinTimeout")
      assert.deepStrictEqual(yield* votersOf(member), ["a", "b"])
      yield* b.stop
      assert.strictEqual(nodeOf((yield* start("b", ["a"], shared)).member).id, id)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("one alone of three waits, says for what, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const { directory, start } = yield* home
      yield* waiting(start("a", abc), "etcd member a waits for", "1 of 3 are there (not there: unix://b.peer:0")
      // The set is not complete, or another one.
      yield* waiting(start("a", ["a", "b"], { size: 3 }), "the peers are 2 of 3")
      yield* waiting(start("d", abc), "the peers are 3 of 3, without unix://d.peer:0")
      // Its own URL in another spelling is not that of another one.
      const port = yield* freePort
      const peers = [`http://127.0.0.1:${port}`, "http://127.0.0.1:1", "http://127.0.0.1:2"]
      const spelled = start("a", [], { size: 3, peers, peerUrl: `http://localhost:${port}` })
      yield* waiting(spelled, `the peers are 3 of 3, without http://localhost:${port}`)
      // The program's own word, which may come later.
      yield* waiting(start("a", [], { size: 3, peers: Effect.fail("no word") }), "the program's peers failed: no word")
      yield* waiting(start("a", [], { size: 3, peers: Stream.never }), "have told nothing yet")
      // It trusts nobody.
      const config = { certFile: fixture.path("server.pem"), keyFile: fixture.path("server.key") }
      const untrusted = start("t", ["t"], { clientUrl: `https://127.0.0.1:${port}`, config })
      yield* waiting(untrusted, "etcd member t cannot ask for the members of its cluster", "certificate")
      const late = yield* refusal(start("a", abc, { joinTimeout: "500 millis" }))
      assert.include(late, "JoinTimeout: etcd member a has no place in its cluster after 500 ms: it waits for ")
      assert.isFalse(existsSync(join(directory, "a", "member")))
      assert.isFalse(existsSync(join(directory, "a.peer:0")))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("two with different sets, tokens, or the same name do not begin", () =>
    Effect.gen(function* () {
      const { directory, start } = yield* home
      const [noticed, noticing] = yield* hears("with the name of this one unix://b.peer:0")
      const a = yield* begin(Effect.provide(start("a", abc), noticing))
      yield* untilTrue(() => existsSync(join(directory, "a.peer:0")))
      yield* waiting(
        start("b", abc, { cluster: "other" }),
        "1 of 3 are there, and with another set or token than this one unix://a.peer:0"
      )
      // The one that was there before asks first, and waits on.
      const peers = Effect.as(noticed, abc.map(peerUrlOf))
      const twice = refusal(start("b", abc, { name: "a", dataDir: "/nowhere", peers }))
      assert.include(yield* Effect.raceFirst(twice, Fiber.join(a)), "NameInUse: Another instance is named a")
      const b = yield* start("b", abc)
      assert.deepStrictEqual([tagOf(b.member), tagOf((yield* Fiber.join(a)).member)], ["Voter", "Voter"])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("who has lost its data waits for those that have theirs, and does not begin without them", () =>
    Effect.gen(function* () {
      const { loseData, start } = yield* home
      const all = yield* Effect.all(
        abc.map((name) => start(name, abc)),
        { concurrency: 3 }
      )
      yield* put(all[0]!.member, "key", "value")
      yield* Effect.forEach(all, ({ stop }) => stop, { concurrency: 3 })
      yield* loseData("a")
      yield* waiting(start("a", abc), "1 of 3 are there")
      const b = start("b", abc, { gracePeriod: "100 millis" })
      yield* waiting(b, "b waits for a majority of its cluster, which was at", peerUrlOf("a"), peerUrlOf("c"))
      const a = yield* begin(start("a", abc))
      const [back] = yield* Effect.all([start("b", abc), start("c", abc)], { concurrency: 2 })
      const { member } = yield* Fiber.join(a)
      assert.deepStrictEqual(yield* get(member, "key"), Option.some("value"))
      assert.deepStrictEqual(yield* votersOf(back.member), abc)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("who has left waits for those who stayed, and does not begin without them", () =>
    Effect.gen(function* () {
      const { directory, start } = yield* home
      const [a, b, c] = yield* Effect.all([start("a", abc), start("b", abc), start("c", abc)], { concurrency: 3 })
      yield* put(a.member, "key", "value")
      // Its node ends meanwhile, and it leaves all the same.
      const { leader } = yield* Effect.provide(EtcdMaintenance.status(), connect(a.member))
      const [first, second] = Option.contains(leader, nodeOf(c.member).id) ? [b, c] : [c, b]
      const pid = Option.getOrThrow(yield* nodeOf(first.member).pid)
      yield* Effect.sync(() => process.kill(pid, "SIGKILL"))
      yield* first.member.leave
      assert.strictEqual(tagOf(first.member), "Left")
      yield* second.member.leave
      const { clusterId } = nodeOf(a.member)
      yield* a.stop

      const stayed = `those who stayed in the cluster ${clusterId.toString(16)}, which it has left`
      yield* waiting(start("b", abc), stayed)
      // Whatever the peers are by now.
      yield* waiting(start("b", ["b", "c", "d"]), stayed)
      const others = yield* begin(Effect.all([start("b", abc), start("c", abc)], { concurrency: 2 }))
      yield* Effect.sleep("1 second")
      assert.isFalse(existsSync(join(directory, "b", "member")))
      const back = yield* start("a", abc)
      assert.strictEqual(nodeOf(back.member).clusterId, clusterId)
      for (const { member } of yield* Fiber.join(others)) {
        assert.deepStrictEqual(yield* get(member, "key"), Option.some("value"))
      }
      assert.deepStrictEqual(yield* votersOf(back.member), abc)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("another cluster is told by its id, and refused", () =>
    Effect.gen(function* () {
      const { start } = yield* home
      const a = yield* start("a", ["a"])
      const b = yield* start("b", ["b"])
      const [idOfA, idOfB] = [a, b].map(({ member }) => nodeOf(member).clusterId.toString(16))
      const token = yield* refusal(start("c", ["a"], { size: 1, cluster: "other" }))
      assert.include(token, `WrongCluster: The peers are of the cluster ${idOfA}, which began with another token`)
      const both = yield* refusal(start("c", ["a", "b"], { size: 3 }))
      assert.include(both, "WrongCluster: The peers that were given belong to different clusters")
      yield* b.stop
      const data = yield* refusal(start("b", ["a", "b"], { size: 2 }))
      assert.include(data, `are of the cluster ${idOfB}, and the peers are of another one: ${idOfA}`)
      yield* (yield* start("b", ["b"])).stop

      // Where all of its members have moved, it is told from one with another token by who knows it.
      yield* a.stop
      const { clusterId } = (yield* start("a", ["a"], { peerUrl: peerUrlOf("z") })).member
      const moved = yield* refusal(start("c", ["z"], { size: 1 }))
      assert.include(moved, `say so: client: { clusterId: EtcdId.ClusterId(0x${idOfA}n) }`)
      const c = yield* start("c", ["z"], { size: 1, client: { clusterId } })
      assert.strictEqual(tagOf(c.member), "Learner")
      // Who has been in it knows it: a learner that comes back elsewhere joins anew.
      yield* c.stop
      const back = yield* start("c", ["z"], { size: 1, peerUrl: peerUrlOf("y") })
      assert.deepStrictEqual([tagOf(back.member), back.member.clusterId], ["Learner", clusterId])
      yield* back.stop
      // Of another one it is not: neither by its data, nor by its peers, nor as the first.
      const client = { clusterId: EtcdId.ClusterId(7n) }
      for (const [name, peer] of [
        ["c", "z"],
        ["d", "z"],
        ["e", "e"]
      ] as const) {
        const named = yield* refusal(start(name, [peer], { size: 1, client }))
        assert.include(named, "WrongCluster: This instance would be of the cluster")
      }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("another cluster that answers where one was that is down is nobody's, and takes no data", () =>
    Effect.gen(function* () {
      const { directory, start } = yield* home
      const all = yield* Effect.all(
        abc.map((name) => start(name, abc)),
        { concurrency: 3 }
      )
      yield* put(all[0]!.member, "key", "value")
      // By their ids, as they are told of; and whoever is told of first is asked first.
      const [down, again] = all.sort((one, other) => (nodeOf(one.member).id < nodeOf(other.member).id ? -1 : 1))
      const first = Effect.provideService(Random.Random, { nextDoubleUnsafe: () => 0, nextIntUnsafe: () => 0 })
      const { id } = nodeOf(again!.member)
      yield* Effect.all([down!.stop, again!.stop], { concurrency: 2 })
      const [clients, peers] = [`unix://${down!.member.name}.client:0`, peerUrlOf("z")]
      const foreign = yield* EtcdProcess.ephemeral(
        {
          ...{ listenClientUrls: [clients], advertiseClientUrls: [clients] },
          ...{ listenPeerUrls: [peers], initialAdvertisePeerUrls: [peers] }
        },
        { runDirectory: directory, log: false }
      )
      const { member } = yield* first(start(again!.member.name, abc))
      assert.deepStrictEqual([nodeOf(member).id, tagOf(member)], [id, "Voter"])
      assert.deepStrictEqual(yield* first(get(member, "key")), Option.some("value"))
      // One without data is led to its cluster, too.
      yield* (yield* first(start("d", abc))).stop
      const there = EtcdLayer.connect({ endpoints: foreign.endpoints })
      assert.lengthOf((yield* Effect.provide(EtcdMembership.list(), there)).members, 1)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("what answers at a peer URL and is no etcd is nobody", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const answers: ReadonlyArray<[string, number]> = [
        ["<html>", 200],
        ["[]", 200],
        ['[{"id":1,"peerURLs":["http://a:1"]}]', 200],
        ["", 500]
      ]
      for (const [body, status] of answers) {
        const path = join(directory, "b.peer:0")
        const server = createServer((_, response) => response.writeHead(status).end(body))
        yield* Effect.callback<void>((resume) => void server.listen(path, () => resume(Effect.void)))
        yield* waiting(
          EtcdMember.make(optionsOf(directory, "a", abc)),
          `unix://b.peer:0 (what answers there is no etcd (HTTP status ${status}))`
        )
        yield* Effect.callback<void>((resume) => {
          server.close(() => resume(Effect.void))
          server.closeAllConnections()
        })
      }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("who takes connections at a socket, and answers nothing, stands still, and is not removed", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const settings = yield* Settings.make(optionsOf(directory, "a", abc))
      const member = { peerUrls: [peerUrlOf("b")], clientUrls: [], name: "b", id: 1n, isLearner: false } as never
      const isThere = (respond: RequestListener) =>
        Effect.gen(function* () {
          const server = createServer(respond)
          const listening = Effect.callback<void>((resume) => {
            server.listen(join(directory, "b.peer:0"), () => resume(Effect.void))
          })
          yield* Effect.acquireRelease(listening, () => Effect.sync(() => server.close()))
          return yield* Consult.isThere(settings, member)
        }).pipe(Effect.scoped)
      assert.isFalse(yield* Consult.isThere(settings, member))
      assert.isTrue(yield* isThere(() => {}))
      // One that waits without data is not what was there before.
      const waits = Answers.presence({ instance: "1", name: "b", clusterId: undefined, waitedMillis: 1 })
      assert.isFalse(yield* isThere((_, response) => response.end(waits)))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  /** Three on ports, as layers, with TLS between them. */
  const overTls = (config: EtcdConfig.Input, forClients: EtcdConfig.Input | undefined = undefined) =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const ports = yield* Effect.all(Array.from({ length: 6 }, () => freePort))
      const peers = ports.slice(0, 3).map((port) => `https://127.0.0.1:${port}`)
      const layerOf = (index: number) => {
        const secured = index === 2 ? forClients : undefined
        return EtcdLayer.member({
          ...optionsOf(directory, abc[index]!, abc, { runDirectory: undefined, peers }),
          peerUrl: peers[index]!,
          clientUrl: `${secured === undefined ? "http" : "https"}://127.0.0.1:${ports[3 + index]}`,
          client: secured === undefined ? {} : { tls: trusted() },
          config: { heartbeatInterval: "50 millis", electionTimeout: "500 millis", ...config, ...secured }
        })
      }
      // The last one is of those without whom none can begin: it would ask no cluster in which nobody has TLS for clients.
      const first = yield* Effect.forEach([2, 0], (index) => Layer.build(layerOf(index)), { concurrency: 2 })
      for (const [index, service] of [...first, yield* Layer.build(layerOf(1))].entries()) {
        yield* Effect.provideContext(EtcdKv.put(`key${index}`, "value"), service)
        assert.strictEqual(tagOf(Context.get(service, EtcdMember.EtcdMember)), "Voter")
      }
    }).pipe(Effect.scoped)

  it.live("over TLS, with certificates of etcd's own making", () => overTls({}))

  it.live("over TLS, with certificates that are given, and where one of them has TLS for clients too", () =>
    overTls(
      {
        peerCertFile: fixture.path("server.pem"),
        peerKeyFile: fixture.path("server.key"),
        peerTrustedCaFile: fixture.path("ca.pem"),
        peerClientCertAuth: true
      },
      { certFile: fixture.path("server.pem"), keyFile: fixture.path("server.key") }
    )
  )

  it.live("who asks for TLS waits where nobody has it for clients, and says so", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const ports = yield* Effect.all(Array.from({ length: 6 }, () => freePort))
      const peers = ports.slice(0, 3).map((port) => `https://127.0.0.1:${port}`)
      const of = (index: number, clientScheme: string, more: Partial<EtcdMember.Options> = {}) =>
        EtcdMember.make({
          ...optionsOf(directory, abc[index]!, abc, { runDirectory: undefined, peers }),
          peerUrl: peers[index]!,
          clientUrl: `${clientScheme}://127.0.0.1:${ports[3 + index]}`,
          ...more
        })
      yield* Effect.forEach([0, 1], (index) => of(index, "http"), { concurrency: 2 })
      const secured = { certFile: fixture.path("server.pem"), keyFile: fixture.path("server.key") }
      yield* waiting(
        of(2, "https", { client: { tls: trusted() }, config: secured }),
        "not with TLS, as this client asks for"
      )
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("who waits goes on when somebody is connected who says nothing", () =>
    Effect.gen(function* () {
      const config = {
        ...{ peerCertFile: fixture.path("server.pem"), peerKeyFile: fixture.path("server.key") },
        peerTrustedCaFile: fixture.path("ca.pem")
      }
      const settings = yield* Settings.make(optionsOf("/nowhere", "a", abc, { config }))
      const port = yield* freePort
      const from = performance.now()
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* Http.answer(settings, `https://127.0.0.1:${port}`, () => "{}")
          yield* Effect.callback<void>((resume) => {
            connectSocket(port, "127.0.0.1", () => resume(Effect.void)).on("error", () => {})
          })
          yield* Http.get(settings, `https://127.0.0.1:${port}`, "/members", 5000)
        })
      )
      assert.isBelow(performance.now() - from, 20_000)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("the others are asked with the certificate that is for that", () =>
    Effect.gen(function* () {
      const given = { cert: fixture.text("server.pem"), key: fixture.text("server.key"), ca: fixture.text("ca.pem") }
      const server = createSecureServer({ ...given, requestCert: true }, ({ socket }, response) =>
        response.end((socket as TLSSocket).getPeerCertificate().subject.CN)
      )
      const port = yield* freePort
      yield* Effect.callback<void>((resume) => void server.listen(port, "127.0.0.1", () => resume(Effect.void)))
      yield* Effect.addFinalizer(() => Effect.sync(() => server.close()))
      const config = {
        ...{ peerCertFile: fixture.path("server.pem"), peerKeyFile: fixture.path("server.key") },
        ...{ peerClientCertFile: fixture.path("client.pem"), peerClientKeyFile: fixture.path("client.key") },
        peerTrustedCaFile: fixture.path("ca.pem")
      }
      const settings = yield* Settings.make(optionsOf("/nowhere", "a", abc, { config }))
      const { body } = yield* Http.get(settings, `https://127.0.0.1:${port}`, "/members", 5000)
      assert.strictEqual(body, "client")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("what makes no sense is refused before anybody is asked", () =>
    Effect.gen(function* () {
      const good = optionsOf("/nowhere", "a", abc)
      const certificate = { peerCertFile: fixture.path("server.pem"), peerKeyFile: fixture.path("server.key") }
      const { name: _, ...nameless } = good
      const refused: ReadonlyArray<readonly [object, string]> = [
        [nameless, "the option name has to be a name"],
        [{ ...good, name: "a,b" }, "without commas"],
        [{ ...good, size: 0 }, "a whole number from 1 up to 99"],
        [{ ...good, peers: ["nonsense"] }, "a list of peer URLs"],
        [{ ...good, peers: { srv: "" } }, '{ srv: "a domain" }'],
        [{ ...good, peerUrl: "10.0.0.1" }, "a URL with a host and a port"],
        [{ ...good, standby: "voter" }, '"learner" or "client"'],
        [{ ...good, joinTimeout: 0 }, "a positive duration"],
        [{ ...good, restart: 5 }, 'there is no option "restart"'],
        [{ ...good, config: { name: "b" } }, "config has name, which is not to be given there. Give the option name."],
        [{ ...good, config: { maxLearners: 2 } }, "config has maxLearners"],
        [{ ...good, config: { electionTimeout: "soon" } }, "electionTimeout: expected"],
        [{ ...good, config: { electionTimeout: "100 millis", heartbeatInterval: "100 millis" } }, "at least 5 times"],
        [{ ...good, runDirectory: undefined }, "Give all instances the same runDirectory"],
        [{ ...good, client: { tls: trusted() } }, "TLS options, and unix:///nowhere/a.client:0 has no TLS"],
        [{ ...good, peerUrl: "http://10.0.0.1:2380" }, "say allowInsecurePeers: true"],
        [{ ...good, peers: ["https://10.0.0.1:2380"] }, "Use https peer URLs, and give config.peerCertFile"],
        [{ ...good, config: { listenPeerUrls: ["http://0.0.0.0:2380"] } }, "are reached at http://0.0.0.0:2380"],
        [{ ...good, peerUrl: "unix:///run/a.peer:0" }, "no etcd reaches another one at unix:///run/a.peer:0"],
        [{ ...good, peers: ["unixs://a.peer:0"] }, "without TLS (unix://a.peer:0)"],
        // Who comes would have to show none.
        [{ ...good, peerUrl: "https://10.0.0.1:2380", config: certificate }, "say allowInsecurePeers: true"],
        [{ ...good, config: { ...certificate, peerTrustedCaFile: "/nowhere" } }, "cannot be used: ENOENT"],
        [{ ...good, config: { ...certificate, peerKeyFile: fixture.path("client.key") } }, "key values mismatch"]
      ]
      for (const [options, said] of refused) {
        const message = yield* refusal(EtcdMember.make(options as EtcdMember.Options))
        assert.include(message, "InvalidConfig: ")
        assert.include(message, said)
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
