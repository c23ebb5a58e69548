import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as SemVer from "effect/SemVer"
import * as EtcdConfig from "../../../src/EtcdConfig.ts"
import * as EtcdLog from "../../../src/EtcdLog.ts"
import * as Failures from "../../../src/internal/process/failures.ts"
import * as Run from "../../../src/internal/process/run.ts"

const version = SemVer.make({ major: 3, minor: 6, patch: 16 })

const outputOf = (lines: ReadonlyArray<string>): Run.Output => {
  const output = Run.makeOutput()
  for (const line of lines) Run.remember(output, EtcdLog.parse(line))
  return output
}

/** Why a node did not serve in time that is configured so and has said this. */
const timeoutOf = (input: EtcdConfig.Input, ...lines: ReadonlyArray<string>) =>
  Effect.map(EtcdConfig.resolve(input, { version, dataDir: "/var/lib/etcd/x" }), (config) =>
    Failures.startTimeout(Duration.seconds(30), outputOf(lines), config)
  )

const exitOf = (...lines: ReadonlyArray<string>) =>
  Effect.map(EtcdConfig.resolve({}, { version, dataDir: "/var/lib/etcd/x" }), (config) =>
    Failures.exitedEarly({ code: 2, signal: null }, outputOf(lines), config)
  )

const others = "a=http://127.0.0.1:1,b=http://127.0.0.1:2"

describe("failures", () => {
  it.effect("a member that is alone is not told to wait for a majority", () =>
    Effect.gen(function* () {
      const alone = yield* timeoutOf({ name: "a" })
      assert.strictEqual(alone._tag, "StartTimeout")
      assert.notInclude(alone.message, "majority")
      assert.include(alone.message, "startTimeout")
    })
  )

  it.effect("a member that has others, or may find some, is told to wait for a majority", () =>
    Effect.gen(function* () {
      const peer = '{"level":"info","msg":"starting remote peer","remote-peer-id":"8e9e05c52164694d"}'
      const urls = { listenPeerUrls: "http://127.0.0.1:1", initialAdvertisePeerUrls: "http://127.0.0.1:1" }
      const discovered = { discoveryToken: "t", discoveryEndpoints: "http://127.0.0.1:9", ...urls }
      for (const reason of [
        yield* timeoutOf({ name: "a", initialCluster: others, ...urls }),
        yield* timeoutOf(discovered),
        // The data directory knows of them.
        yield* timeoutOf({ name: "a" }, peer),
        yield* timeoutOf({ name: "a" }, "2026-11-23 04:03:50.1 I | rafthttp: starting peer 22118168b863a0d7...")
      ]) {
        assert.strictEqual(reason._tag, "StartTimeout")
        assert.include(reason.message, "majority")
      }
    })
  )

  it.effect("a log that ends before the database is damage, a log that was repaired may be", () =>
    Effect.gen(function* () {
      const repaired = '{"level":"info","msg":"repaired WAL","error":"unexpected EOF"}'
      const applied = '{"level":"info","msg":"restore consistentIndex","index":906}'
      const newRaft =
        '{"level":"info","msg":"newRaft c2 [peers: [c2], term: 2, commit: 603, applied: 505, lastindex: 604, lastterm: 2]"}'
      const may = yield* timeoutOf({ name: "a" }, repaired)
      assert.strictEqual(may._tag, "StartTimeout")
      assert.include(may.message, "If the data directory /var/lib/etcd/x is damaged, restore it from a snapshot")
      const is = yield* timeoutOf({ name: "a" }, repaired, applied, newRaft)
      assert.deepInclude(is, { _tag: "DataDirCorrupt", dataDir: "/var/lib/etcd/x", exitCode: null, signal: null })
      assert.include(is.message, "restore it from a snapshot")
    })
  )

  it.effect("a log that ends before the database may be in another directory, which is said first", () =>
    Effect.gen(function* () {
      const applied = '{"level":"info","msg":"restore consistentIndex","index":4}'
      const newRaft = '{"level":"info","msg":"newRaft c2 [peers: [], term: 0, commit: 0, applied: 0, lastindex: 0]"}'
      const forgotten = yield* timeoutOf({ name: "a" }, applied, newRaft)
      assert.match(forgotten.message, /write-ahead log in a directory of its own, give it as `walDir`; if not, restore/)
      const another = yield* timeoutOf({ name: "a", walDir: "/fast/wal" }, applied, newRaft)
      assert.match(another.message, /another `walDir` than \/fast\/wal, give that; if not, restore/)
    })
  )

  it.effect("what has no reason of its own is said in a sentence", () =>
    Effect.gen(function* () {
      const failed = (error: string) => `{"level":"fatal","msg":"discovery failed","error":"${error}"}`
      const message = (line: string) => Effect.map(exitOf(line), ({ _tag, message }) => `${_tag}: ${message}`)
      assert.match(
        yield* message(failed("write /var/lib/etcd/x/member/wal/1.tmp: no space left on device")),
        /^ExitedEarly: There is no room for what etcd writes to \/var\/lib\/etcd\/x/
      )
      assert.match(
        yield* message(failed("mkdir /var/lib/etcd/x/member: permission denied")),
        /^ExitedEarly: etcd may not read or write \/var\/lib\/etcd\/x\/member \(.*\): give this user the rights/
      )
      assert.match(yield* message("fatal error: runtime: out of memory"), /^ExitedEarly: etcd got no more memory/)
      assert.match(yield* message(failed("accept: too many open files")), /^ExitedEarly: .*raise the limit/)
      assert.match(
        yield* message(
          '{"level":"warn","msg":"failed to bootstrap","error":"failed to join (context deadline exceeded)"}'
        ),
        /^ExitedEarly: etcd ended before it served: failed to bootstrap \(failed to join \(context deadline exceeded\)\)/
      )
      assert.match(yield* message("nothing"), /^ExitedEarly: etcd ended before it served \(/)
    })
  )
})
