/**
 * Where the others are said to be, by DNS and by the program.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Peers from "../../../src/internal/member/peers.ts"
import type { Settings } from "../../../src/internal/member/settings.ts"
import { codes, type Known, nameServer } from "../../support/dns.ts"
import { turns } from "../../support/time.ts"

const settings = (peers: unknown, allowInsecurePeers = true) =>
  ({
    peers,
    allowInsecurePeers,
    peerTls: { ca: undefined, certificate: undefined, key: undefined, isAutomatic: true }
  }) as Settings

/** What DNS says of a domain whose service is `blue`, where there are these records. */
const said = (records: Readonly<Record<string, Known>>) =>
  Effect.gen(function* () {
    yield* nameServer((name) => records[name] ?? { code: codes.noSuchName })
    return yield* yield* Peers.make(settings({ srv: "example.com", service: "blue" }))
  }).pipe(Effect.scoped)

describe("peers", () => {
  it.live("are in DNS as etcd's own discovery has them", () =>
    Effect.gen(function* () {
      const [encrypted, plain] = ["_etcd-server-ssl-blue._tcp.example.com", "_etcd-server-blue._tcp.example.com"]
      const records = [
        { priority: 0, port: 2380, target: "b.example.com" },
        { priority: 10, port: 2381, target: "a.example.com" }
      ]
      const urls = ["https://a.example.com:2381", "https://b.example.com:2380"]
      assert.deepStrictEqual(yield* said({ [encrypted]: { records } }), Result.succeed(urls))
      assert.deepStrictEqual(yield* said({ [encrypted]: { records, isLong: true } }), Result.succeed(urls))
      assert.deepStrictEqual(
        yield* said({ [encrypted]: { records: records.slice(0, 1) }, [plain]: { records: records.slice(1) } }),
        Result.succeed(["http://a.example.com:2381", "https://b.example.com:2380"])
      )
      // There is none, or nobody knows.
      assert.deepStrictEqual(yield* said({ [plain]: {} }), Result.succeed([]))
      const unknown = { code: codes.serverFailure }
      assert.deepStrictEqual(yield* said({ [encrypted]: { records }, [plain]: unknown }), Result.succeed(urls))
      const failed = yield* said({ [plain]: unknown })
      assert.include(Result.isFailure(failed) ? failed.failure : "", `${plain}: querySrv ESERVFAIL`)
    })
  )

  it.effect("are what the program says last", () =>
    Effect.gen(function* () {
      const told = yield* Queue.unbounded<ReadonlyArray<string>>()
      const source = yield* Peers.make(settings(Stream.fromQueue(told)))
      assert.isTrue(Result.isFailure(yield* source))
      for (const list of [["http://a:1"], ["http://a:1", "http://b:1"]]) {
        yield* Queue.offer(told, list)
        yield* turns(5)
        assert.deepStrictEqual(yield* source, Result.succeed(list))
      }
      yield* Queue.shutdown(told)
      yield* turns(5)
      assert.deepStrictEqual(yield* source, Result.succeed(["http://a:1", "http://b:1"]))
    }).pipe(Effect.scoped)
  )

  it.effect("are not known where the program fails, or says what are none", () =>
    Effect.gen(function* () {
      const wrong: ReadonlyArray<readonly [unknown, string]> = [
        [Effect.fail(new Error("no word")), "no word"],
        [Effect.die("a defect"), "a defect"],
        [Stream.die("a defect"), "a defect"],
        [Effect.succeed("http://a:1"), "a list of peer URLs"],
        [Effect.succeed(["nonsense"]), "a list of peer URLs"],
        [Effect.succeed(["unix:///run/a.peer:0"]), "no etcd reaches another one"]
      ]
      for (const [peers, said] of wrong) {
        const source = yield* Peers.make(settings(peers))
        yield* turns(5)
        const known = yield* source
        assert.include(Result.isFailure(known) ? known.failure : "", said)
      }
    }).pipe(Effect.scoped)
  )

  it.effect("are asked for again where the program does not answer", () =>
    Effect.gen(function* () {
      const source = yield* Peers.make(settings(Effect.never))
      const asked = yield* Effect.forkChild(source)
      yield* turns(5)
      yield* TestClock.adjust("30 seconds")
      const known = yield* Fiber.join(asked)
      assert.include(Result.isFailure(known) ? known.failure : "", "have not told anything for 30 seconds")
    }).pipe(Effect.scoped)
  )

  it.effect("of other machines need certificates, whoever tells of them", () =>
    Effect.gen(function* () {
      const source = yield* Peers.make(settings(Effect.succeed(["https://10.0.0.1:2380"]), false))
      const known = yield* source
      assert.include(
        Result.isFailure(known) ? known.failure : "",
        "nothing protects what is said over https://10.0.0.1"
      )
      const local = yield* Peers.make(settings(Effect.succeed(["http://127.0.0.1:2380"]), false))
      assert.isTrue(Result.isSuccess(yield* local))
    }).pipe(Effect.scoped)
  )
})
