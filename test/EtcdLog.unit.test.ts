import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import * as v8 from "node:v8"
import * as vm from "node:vm"
import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as fc from "fast-check"
import * as EtcdId from "../src/EtcdId.ts"
import * as EtcdLog from "../src/EtcdLog.ts"
import * as Role from "../src/Role.ts"
import { makeRandom, type Random } from "./support/random.ts"

const fixtures = join(import.meta.dirname, "fixtures", "logs")
const readFixture = (...path: ReadonlyArray<string>) => readFileSync(join(fixtures, ...path), "utf8")
const linesOf = (text: string) => text.split("\n").filter((line) => line !== "")
const eventsOf = (text: string) => linesOf(text).map(EtcdLog.parse)

const epoch = DateTime.makeUnsafe({ epochMilliseconds: 0 })
const member = (hex: string) => EtcdId.MemberId(BigInt(`0x${hex}`))
const utc = (text: string) => Option.some(DateTime.makeUnsafe(text))

/** Every role that a log goes through, as `role@term`, with the node at its start left out. */
const rolesOf = (events: ReadonlyArray<EtcdLog.Event>): ReadonlyArray<string> => {
  const roles: Array<string> = []
  events.reduce((state, event) => {
    const next = Role.fold(state, event)
    if (next.role !== state.role || next.term !== state.term) {
      roles.push(`${next.role}@${next.term}`)
    }
    return next
  }, Role.initial(epoch))
  return roles
}

const recorded: ReadonlyArray<readonly [file: string, version: string, roles: string]> = [
  ["3.4.23-capnslog/infra0.log", "3.4.23", "follower@0 follower@1 follower@2 candidate@3 leader@3 follower@4"],
  ["3.4.23-capnslog/infra1.log", "3.4.23", "follower@0 follower@1 follower@2 follower@3 follower@4"],
  [
    "3.4.23-capnslog/infra2.log",
    "3.4.23",
    "follower@0 follower@1 candidate@2 leader@2 follower@2 follower@3 candidate@4 leader@4 follower@4"
  ],
  ["3.4.23-zap/infra0.log", "3.4.23", "follower@0 follower@1 follower@2 follower@3 follower@4"],
  ["3.4.23-zap/infra1.log", "3.4.23", "follower@0 follower@1 follower@2 candidate@3 leader@3 follower@4"],
  [
    "3.4.23-zap/infra2.log",
    "3.4.23",
    "follower@0 follower@1 candidate@2 leader@2 follower@2 follower@3 candidate@4 leader@4 follower@4"
  ],
  [
    "3.5.16-zap/infra0.log",
    "3.5.16",
    "follower@0 follower@1 pre-candidate@1 candidate@2 leader@2 follower@2 follower@3 follower@4"
  ],
  ["3.5.30-zap/infra0.log", "3.5.30", "follower@0 follower@1 follower@2 follower@3 follower@4"],
  [
    "3.5.30-zap/infra1.log",
    "3.5.30",
    "follower@0 follower@1 pre-candidate@1 candidate@2 leader@2 follower@2 follower@3 candidate@4 leader@4 follower@5"
  ],
  [
    "3.5.30-zap/infra2.log",
    "3.5.30",
    "follower@0 follower@1 follower@2 pre-candidate@2 candidate@3 leader@3 follower@4 candidate@5 leader@5"
  ],
  ["3.6.14-console/n1.log", "3.6.14", "follower@0 follower@1 pre-candidate@1 candidate@2 leader@2"],
  [
    "3.6.14-zap/infra0.log",
    "3.6.14",
    "follower@0 follower@1 pre-candidate@1 candidate@2 leader@2 follower@2 follower@3 candidate@4 leader@4 follower@5"
  ],
  ["3.6.14-zap/infra1.log", "3.6.14", "follower@0 follower@1 follower@2 follower@3 follower@4 follower@5"],
  [
    "3.6.14-zap/infra2.log",
    "3.6.14",
    "follower@0 follower@1 follower@2 pre-candidate@2 candidate@3 leader@3 follower@4 candidate@5 leader@5 follower@5"
  ],
  ["3.7.1-zap/infra0.log", "3.7.1", "follower@0 follower@1 follower@2 pre-candidate@2 follower@3 follower@4"],
  [
    "3.7.1-zap/infra1.log",
    "3.7.1",
    "follower@0 follower@1 pre-candidate@1 candidate@2 leader@2 follower@2 follower@3 candidate@4 leader@4 follower@5"
  ],
  [
    "3.7.1-zap/infra2.log",
    "3.7.1",
    "follower@0 follower@1 follower@2 pre-candidate@2 candidate@3 leader@3 follower@4 candidate@5 leader@5"
  ]
]

describe("EtcdLog: recorded clusters", () => {
  for (const [file, version, roles] of recorded) {
    const events = eventsOf(readFixture(file))
    const cluster = !file.includes("console")

    it(`${file}: roles`, () => {
      assert.strictEqual(rolesOf(events).join(" "), roles)
    })

    it(`${file}: version, own id, readiness, leaders, peers`, () => {
      const of = <T extends EtcdLog.Event["_tag"]>(tag: T) =>
        events.filter((event): event is Extract<EtcdLog.Event, { _tag: T }> => event._tag === tag)
      assert.deepStrictEqual([...new Set(of("Version").flatMap((event) => Option.toArray(event.version)))], [version])
      assert.deepStrictEqual(
        [...new Set(of("Version").flatMap((event) => Option.toArray(event.clusterVersion)))].filter((text) =>
          text.startsWith(version.slice(0, 3))
        ).length > 0,
        true
      )
      const own = new Set(of("LocalMember").map((event) => event.member))
      assert.strictEqual(own.size, 1)
      assert.isTrue([...of("RoleChange"), ...of("LeaderChange")].every((event) => own.has(event.member)))
      assert.isTrue(of("LocalMember").some((event) => Option.isSome(event.cluster)))
      assert.isAbove(of("Ready").length, 0)
      assert.isAbove(of("LeaderChange").length, 0)
      if (cluster) {
        assert.strictEqual(new Set(of("PeerUp").map((event) => event.peer)).size, 2)
        assert.isAbove(of("PeerDown").length, 0)
        assert.isTrue([...of("PeerUp"), ...of("PeerDown")].every((event) => !own.has(event.peer)))
      }
    })

    it(`${file}: nothing is taken for a failure, and every line of the logger is understood`, () => {
      assert.deepStrictEqual(
        events.filter((event) => event._tag === "Failure"),
        []
      )
      const unparsed = events.filter((event) => event._tag === "Unparsed").map((event) => event.line)
      assert.deepStrictEqual(
        unparsed.filter((line) => !line.startsWith("[WARNING]")),
        []
      )
      assert.isTrue(events.every((event) => event._tag === "Unparsed" || Option.isSome(event.time)))
      assert.deepStrictEqual(
        events.map((event) => event.line),
        linesOf(readFixture(file))
      )
    })
  }
})

/** A JSON line as `--log-format=console` writes it: etcd's encoder puts spaces into the fields. */
const asConsole = (line: string): string => {
  const { level, ts, logger, caller, msg, stacktrace: _, ...fields } = JSON.parse(line)
  const spaced = JSON.stringify(fields, null, 1).replaceAll(/,\n */g, ", ").replaceAll(/\n */g, "")
  return [ts, level, ...(logger === undefined ? [] : [logger]), caller, msg, ...(spaced === "{}" ? [] : [spaced])].join(
    "\t"
  )
}

describe("EtcdLog: the console format", () => {
  for (const file of readdirSync(fixtures, { recursive: true, encoding: "utf8" }).filter(
    (path) => /3\.[67]\S*-zap/.test(path) && path.endsWith(".log")
  )) {
    it(`${file}: every line means what it means in JSON`, () => {
      for (const json of linesOf(readFixture(file)).filter((line) => /^\{.*"caller".*\}$/.test(line))) {
        const { line: _, fields, ...event } = EtcdLog.parse(json)
        const { stacktrace: __, ...shown } = fields
        const line = asConsole(json)
        assert.deepEqual(EtcdLog.parse(line), { ...event, fields: shown, line } as EtcdLog.Event, json)
      }
    })
  }
})

type ReasonTag = EtcdLog.FailureReason["_tag"]

const reasons: Readonly<Record<string, ReasonTag>> = {
  advertise: "InvalidConfig",
  badaddr: "AddressUnavailable",
  "client-port": "AddressInUse",
  "corrupt-db": "DataDirCorrupt",
  "corrupt-db-trunc": "DataDirCorrupt",
  "corrupt-wal": "DataDirCorrupt",
  "corrupt-wal-crc": "DataDirCorrupt",
  "dir-is-file": "DataDirInaccessible",
  "disk-full": "DiskFull",
  downgrade: "IncompatibleVersion",
  election: "InvalidConfig",
  filesize: "DiskFull",
  flag: "InvalidConfig",
  "join-alone": "ClusterUnreachable",
  "join-new": "ClusterMismatch",
  "join-unequal": "ClusterMismatch",
  name: "InvalidConfig",
  "peer-port": "AddressInUse",
  perm: "DataDirInaccessible",
  perm4: "DataDirInaccessible",
  port80: "AddressUnavailable",
  removed: "ClusterMismatch",
  "removed-restart": "ClusterMismatch",
  "same-dir": "DataDirInUse",
  tls: "Other",
  url: "InvalidConfig"
}

describe("EtcdLog: failures, each produced with the real etcd", () => {
  for (const file of readdirSync(join(fixtures, "failures"))) {
    const cases = readFixture("failures", file)
      .split(/^### /m)
      .slice(1)
      .map((block) => [block.slice(0, block.indexOf("\n")), block.slice(block.indexOf("\n") + 1)] as const)

    for (const [name, text] of cases) {
      it(`${file}: ${name}`, () => {
        const failure = Option.getOrThrow(EtcdLog.explain(eventsOf(text)))
        assert.strictEqual(failure.reason._tag, reasons[name])
        if (failure.reason._tag === "AddressInUse" || failure.reason._tag === "AddressUnavailable") {
          assert.match(failure.reason.address, /^(127\.0\.0\.1|192\.0\.2\.1):\d+$/)
        }
        if (failure.reason._tag === "DataDirInUse" || failure.reason._tag === "DataDirInaccessible") {
          assert.match(Option.getOrThrow(failure.reason.path), /^\/var\/lib\/etcd\/\S+[^\s"):]$/)
        }
        assert.isAbove(failure.detail.length, 0)
      })
    }

    it(`${file}: has the cases`, () => {
      assert.includeMembers(
        cases.map(([name]) => name),
        ["client-port", "peer-port", "same-dir", "corrupt-db", "corrupt-wal-crc", "removed", "perm", "flag"]
      )
    })
  }

  for (const file of readdirSync(join(fixtures, "damage"))) {
    for (const block of readFixture("damage", file).split(/^### /m).slice(1)) {
      const [name, ...lines] = block.trimEnd().split("\n")

      it(`${file}: ${name}: the data directory is corrupt`, () => {
        const failure = Option.getOrThrow(EtcdLog.explain(lines.map(EtcdLog.parse)))
        assert.strictEqual(failure.reason._tag, "DataDirCorrupt")
        assert.isAbove(failure.detail.length, 0)
      })
    }
  }

  it("explain: a panic of Go is damage only where its stack shows that the data directory was read", () => {
    const panic = "panic: runtime error: invalid memory address or nil pointer dereference"
    const reasonAfter = (...lines: ReadonlyArray<string>) =>
      Option.map(EtcdLog.explain([panic, "", "goroutine 1 [running]:", ...lines].map(EtcdLog.parse)), (failure) => [
        failure.reason._tag,
        failure.detail
      ])
    const skipped = [
      "panic({0x1, 0x2})",
      "\truntime/panic.go:884 +0x212",
      "runtime.goPanicIndex(0x1)",
      "sync.(*Once).Do(...)"
    ]
    for (const reader of [
      "go.etcd.io/bbolt.(*Bucket).Get(0x1)",
      "go.etcd.io/etcd/vendor/go.etcd.io/bbolt.(*DB).page(...)",
      "go.etcd.io/bbolt/internal/common.(*Page).FastCheck(...)",
      "go.etcd.io/etcd/wal.(*WAL).ReadAll(0x1)",
      "go.etcd.io/etcd/server/v3/storage/wal.(*decoder).decodeRecord(0x1)",
      "go.etcd.io/etcd/server/v3/storage/mvcc.(*store).restore(0x1)",
      "go.etcd.io/etcd/server/v3/etcdserver.bootstrap({{0x1}})"
    ]) {
      assert.deepStrictEqual(reasonAfter(...skipped, reader), Option.some(["DataDirCorrupt", panic]), reader)
    }
    for (const other of [
      "go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp.(*peer).send(0x1)",
      "github.com/someone/bbolt.(*DB).page(...)",
      "go.uber.org/zap/zapcore.(*CheckedEntry).Write(0x1)"
    ]) {
      const deeper = "go.etcd.io/bbolt.(*DB).View(0x1)"
      assert.deepStrictEqual(reasonAfter(...skipped, other, deeper), Option.some(["Other", panic]), other)
    }
  })

  it("explain: what befell the whole process is no damage, whatever it did just then", () => {
    const frames = ["goroutine 1 [running]:", "go.etcd.io/bbolt.(*DB).page(...)"]
    for (const lines of [
      ["runtime/cgo: pthread_create failed: Resource temporarily unavailable", "SIGABRT: abort"],
      ["runtime: failed to create new OS thread (have 7 already; errno=11)", "fatal error: newosproc"]
    ]) {
      const failure = Option.getOrThrow(EtcdLog.explain([...lines, ...frames].map(EtcdLog.parse)))
      assert.deepStrictEqual([failure.reason._tag, failure.detail], ["Other", lines[0]])
    }
    const cycle = EtcdLog.explain(["fatal error: stack overflow", ...frames].map(EtcdLog.parse))
    assert.strictEqual(Option.getOrThrow(cycle).reason._tag, "DataDirCorrupt")
  })

  it("explain: of several fatal lines it is the first that tells a reason", () => {
    const reasonIn = (...lines: ReadonlyArray<string>) =>
      Option.getOrThrow(EtcdLog.explain(lines.map(EtcdLog.parse))).reason._tag
    const later = ["panic: freepages: failed to get all reachable pages (page 3: multiple references)"]
    assert.strictEqual(reasonIn("runtime: out of memory: cannot allocate 4194304-byte block", ...later), "OutOfMemory")
    assert.strictEqual(reasonIn("fatal error: runtime: out of memory", ...later), "OutOfMemory")
    const failed = (error: string) => JSON.stringify({ level: "panic", msg: "failed to open database", error })
    assert.strictEqual(reasonIn(failed("cannot allocate memory"), "panic: failed to open database"), "OutOfMemory")
    assert.strictEqual(reasonIn(failed("open /x/db: too many open files"), ...later), "TooManyOpenFiles")
    for (const line of [
      failed("listen tcp 127.0.0.1:2379: socket: too many open files"),
      '{"level":"fatal","msg":"file descriptor limit of etcd process is too low; please set higher","limit":12,"recommended-limit":150}',
      "fatal error: runtime: netpollinit failed"
    ]) {
      assert.strictEqual(reasonIn(line), "TooManyOpenFiles", line)
    }
    assert.strictEqual(reasonIn("fatal error: failed to reserve page summary memory"), "OutOfMemory")
    assert.strictEqual(reasonIn(failed("open /x/db: read-only file system"), ...later), "DataDirInaccessible")
    assert.strictEqual(reasonIn(failed("write /x/db: no space left on device"), ...later), "DiskFull")
    assert.strictEqual(reasonIn(failed("read /x/db: input/output error"), ...later), "DataDirCorrupt")
    const tls = { level: "fatal", msg: "discovery failed", error: "open /etc/tls/ca.pem: is a directory" }
    assert.strictEqual(reasonIn(JSON.stringify(tls)), "Other")
    assert.strictEqual(
      reasonIn(
        '{"level":"fatal","msg":"discovery failed","error":"8e9e05c52164694d found data inconsistency with peers"}'
      ),
      "DataDirCorrupt"
    )
    assert.strictEqual(
      reasonIn(
        "raft2026/11/23 04:04:05 PANIC: tocommit(9) is out of range [lastIndex(3)]. Was the raft log corrupted?"
      ),
      "DataDirCorrupt"
    )
    // Neither tells a reason: the first is the cause, and has the words.
    const words = EtcdLog.explain([failed("what nobody knows"), "panic: failed to open database"].map(EtcdLog.parse))
    assert.strictEqual(Option.getOrThrow(words).detail, "what nobody knows")
  })

  it("explain: a log that ends before the database is damage, but not in a cluster, where others have the rest", () => {
    const lines = (index: number, newRaft: string) => [
      `{"level":"info","caller":"etcdserver/bootstrap.go:249","msg":"restore consistentIndex","index":${index}}`,
      `{"level":"info","logger":"raft","caller":"v3@v3.7.0/raft.go:471","msg":"newRaft c2b4cce0b101b3ac ${newRaft}"}`
    ]
    const reasonIn = (index: number, newRaft: string) =>
      Option.map(EtcdLog.explain(lines(index, newRaft).map(EtcdLog.parse)), (failure) => failure.reason._tag)
    const missing = "[peers: [], term: 0, commit: 0, applied: 0, lastindex: 0, lastterm: 0]"
    const older = "[peers: [c2b4cce0b101b3ac], term: 2, commit: 604, applied: 505, lastindex: 604, lastterm: 2]"
    const shared = older.replace("]", ",8e9e05c52164694d]")
    assert.deepStrictEqual(reasonIn(906, missing), Option.some("DataDirCorrupt"))
    assert.deepStrictEqual(reasonIn(906, older), Option.some("DataDirCorrupt"))
    assert.deepStrictEqual(reasonIn(906, shared), Option.none())
    assert.deepStrictEqual(reasonIn(604, older), Option.none())
    assert.deepStrictEqual(reasonIn(0, missing), Option.none())
  })

  it("explain: data that is more than a version older is not damaged, but not for this etcd", () => {
    const starting = (version: string, cluster: string) =>
      `{"level":"info","caller":"etcdserver/server.go:575","msg":"starting etcd server","local-member-id":"8e9e05c52164694d","local-server-version":"${version}","cluster-id":"cdf818194e3a8c32","cluster-version":"${cluster}"}`
    const unknown =
      '{"level":"panic","caller":"schedule/schedule.go:202","msg":"execute job failed","job":"server_applyAll","panic":"unmarshal should never fail (proto: cannot parse invalid wire-format data)"}'
    const panic = "panic: unmarshal should never fail (proto: cannot parse invalid wire-format data) [recovered]"
    const explained = (...lines: ReadonlyArray<string>) =>
      Option.getOrThrow(EtcdLog.explain(lines.map((line) => EtcdLog.parse(line))))
    const skipped = explained(starting("3.7.3", "3.5"), unknown, panic)
    assert.strictEqual(skipped.reason._tag, "IncompatibleVersion")
    assert.include(
      skipped.detail,
      "the data is of etcd 3.5, and no version may be left out on the way to 3.7.3: panic: "
    )
    const voters = explained(starting("3.6.16", "3.4"), "panic: removed all voters")
    assert.strictEqual(voters.reason._tag, "IncompatibleVersion")
    for (const cluster of ["3.6", "3.7", "to_be_decided"]) {
      const old = explained(starting("3.7.3", cluster), unknown, panic)
      assert.strictEqual(old.reason._tag, "IncompatibleVersion")
      assert.include(old.detail, "the log has requests of etcd 3.5, which 3.7.3 cannot read; nothing is damaged")
      assert.strictEqual(explained(starting("3.6.16", cluster), unknown, panic).reason._tag, "DataDirCorrupt")
    }
    const full = '{"level":"fatal","msg":"failed to save","error":"write /x/wal: no space left on device"}'
    assert.strictEqual(explained(starting("3.7.3", "3.5"), full).reason._tag, "DiskFull")
  })

  it("explain: what etcd gets over is no damage", () => {
    const warning = '{"level":"warn","msg":"failed to read a snap file","path":"/x.snap","error":"snap: crc mismatch"}'
    assert.deepStrictEqual(EtcdLog.explain([EtcdLog.parse(warning)]), Option.none())
  })

  it("explain: a known reason wins over a later fatal line, the last known one over those before", () => {
    const repaired = EtcdLog.parse('{"level":"info","ts":"2026-01-01T00:00:00Z","msg":"repaired WAL","error":"EOF"}')
    const inUse = EtcdLog.parse(
      '{"level":"warn","msg":"failed to start etcd","error":"listen tcp [::1]:2379: bind: address already in use"}'
    )
    const panic = EtcdLog.parse("panic: runtime error: index out of range")
    const entry = EtcdLog.parse('{"level":"info","msg":"hello"}')
    assert.deepStrictEqual(EtcdLog.explain([repaired, inUse, panic, entry]), Option.some(inUse as EtcdLog.Failure))
    assert.deepStrictEqual(EtcdLog.explain([entry, panic]), Option.some(panic as EtcdLog.Failure))
    assert.deepStrictEqual(EtcdLog.explain([entry]), Option.none())
    assert.deepStrictEqual((inUse as EtcdLog.Failure).reason, { _tag: "AddressInUse", address: "[::1]:2379" })
  })
})

const zap = (msg: string, more: Record<string, unknown> = {}) =>
  EtcdLog.parse(JSON.stringify({ level: "info", ts: "2026-11-23T04:04:42.931044Z", caller: "a/b.go:1", msg, ...more }))

describe("EtcdLog: one line", () => {
  it("keeps level, time, caller, message and all other fields of a JSON line", () => {
    const line =
      '{"level":"warn","ts":"2026-11-23T04:04:42.931044Z","logger":"raft","caller":"a/b.go:1","msg":"m","n":1,"__proto__":{"x":1},"stacktrace":"s"}'
    const event = EtcdLog.parse(line)
    assert.strictEqual(event._tag, "Entry")
    assert.strictEqual(event.line, line)
    assert.strictEqual(event.level, "Warn")
    assert.deepStrictEqual(event.time, utc("2026-11-23T04:04:42.931Z"))
    assert.deepStrictEqual(event.caller, Option.some("a/b.go:1"))
    assert.strictEqual(event.message, "m")
    assert.deepStrictEqual(Object.keys(event.fields), ["logger", "n", "__proto__", "stacktrace"])
    assert.strictEqual(Object.getPrototypeOf(event.fields), Object.prototype)
  })

  it("knows zap's levels and kinds of time", () => {
    const level = (text: string) => EtcdLog.parse(`{"level":"${text}","msg":"m"}`).level
    assert.deepStrictEqual(["debug", "info", "warn", "error", "dpanic", "panic", "fatal", "toString"].map(level), [
      "Debug",
      "Info",
      "Warn",
      "Error",
      "Fatal",
      "Fatal",
      "Fatal",
      "Info"
    ])
    const time = (ts: unknown) => EtcdLog.parse(JSON.stringify({ msg: "m", ts })).time
    assert.deepStrictEqual(time("2026-11-23T04:04:42.931+0100"), utc("2026-11-23T03:04:42.931Z"))
    assert.deepStrictEqual(time(1.5), utc("1970-01-01T00:00:01.500Z"))
    for (const wrong of ["yesterday", 1e300, null, {}]) {
      assert.deepStrictEqual(time(wrong), Option.none())
    }
  })

  it("reads the plain text of 3.4, whose time is local", () => {
    const event = EtcdLog.parse("2026-11-23 04:03:49.542813 N | embed: serving insecure client requests on [::1]:1, x")
    assert.strictEqual(event._tag, "Ready")
    assert.strictEqual(event.level, "Info")
    assert.deepStrictEqual(event.caller, Option.some("embed"))
    assert.deepStrictEqual(
      Option.map(event.time, DateTime.toEpochMillis),
      Option.some(new Date(2026, 10, 23, 4, 3, 49, 542).getTime())
    )
    const levels = ["C", "E", "W", "N", "I", "D", "T"].map(
      (letter) => EtcdLog.parse(`2026-11-23 04:03:49.5 ${letter} | pkg: text`).level
    )
    assert.deepStrictEqual(levels, ["Fatal", "Error", "Warn", "Info", "Info", "Debug", "Trace"])
    assert.strictEqual(EtcdLog.parse("raft2026/11/23 04:04:05 WARN: ab stepped down").level, "Warn")
  })

  it("tells the role of the node", () => {
    for (const role of ["follower", "pre-candidate", "candidate", "leader"] as const) {
      assert.deepInclude(
        EtcdLog.parse(`raft2026/11/23 04:03:49 INFO: 7b became ${role} at term 18446744073709551615`),
        {
          _tag: "RoleChange",
          role,
          member: member("7b"),
          term: 18446744073709551615n
        }
      )
      assert.deepInclude(zap(`76dd2145bcd0fd58 became ${role} at term 2`), {
        _tag: "RoleChange",
        role,
        member: member("76dd2145bcd0fd58"),
        term: 2n
      })
    }
  })

  it("does not take other lines for a role", () => {
    for (const text of [
      "peer 22118168b863a0d7 became active",
      "peer became active",
      "76dd2145bcd0fd58 became emperor at term 2",
      "76dd2145bcd0fd58 became leader at term 2 or so",
      "x76dd2145bcd0fd58 became leader at term 2",
      "the learner 76dd2145bcd0fd58 became leader at term 2",
      "176dd2145bcd0fd58 became leader at term 2",
      "76dd2145bcd0fd58 became leader at term 123456789012345678901",
      "76dd2145bcd0fd58 became leader at term -1"
    ]) {
      assert.notStrictEqual(zap(text)._tag, "RoleChange", text)
    }
  })

  it("tells the leader", () => {
    const one = member("1a")
    const event = (text: string) => zap(`raft.node: 1a ${text} at term 4`)
    assert.deepInclude(event("elected leader 2b"), {
      _tag: "LeaderChange",
      member: one,
      leader: Option.some(member("2b")),
      previous: Option.none(),
      term: 4n
    })
    assert.deepInclude(event("lost leader 2b"), {
      _tag: "LeaderChange",
      leader: Option.none(),
      previous: Option.some(member("2b"))
    })
    assert.deepInclude(event("changed leader from 2b to 3c"), {
      _tag: "LeaderChange",
      leader: Option.some(member("3c")),
      previous: Option.some(member("2b"))
    })
    assert.strictEqual(event("dislikes leader 2b")._tag, "Entry")
  })

  it("tells peers, from JSON and from text", () => {
    const peer = member("22118168b863a0d7")
    const down = "peer became inactive (message send to peer failed)"
    assert.deepInclude(zap("peer became active", { "peer-id": "22118168b863a0d7" }), { _tag: "PeerUp", peer })
    assert.deepInclude(zap(down, { level: "warn", "peer-id": "22118168b863a0d7", error: "EOF" }), {
      _tag: "PeerDown",
      peer,
      cause: Option.some("EOF")
    })
    assert.deepInclude(EtcdLog.parse("2026-11-23 04:04:04.1 I | rafthttp: peer 22118168b863a0d7 became active"), {
      _tag: "PeerUp",
      peer
    })
    assert.deepInclude(
      EtcdLog.parse("2026-11-23 04:04:04.1 I | rafthttp: peer 22118168b863a0d7 became inactive (send failed)"),
      { _tag: "PeerDown", peer, cause: Option.some("send failed") }
    )
    for (const id of [undefined, 7, "", "zz", "00000000000000001"]) {
      assert.strictEqual(zap("peer became active", { "peer-id": id })._tag, "Entry")
    }
  })

  it("tells versions", () => {
    assert.deepInclude(
      zap("starting etcd server", { "local-server-version": "3.5.30", "cluster-version": "to_be_decided" }),
      { _tag: "Version", version: Option.some("3.5.30"), clusterVersion: Option.none() }
    )
    // As JSON of etcd 3.4, which has both by the same name, is read.
    assert.deepInclude(zap("updated cluster version", { from: "3.4" }), {
      clusterVersion: Option.some("3.4")
    })
    assert.deepInclude(zap("updated cluster version", { from: "3.5", to: "3.6" }), {
      _tag: "Version",
      version: Option.none(),
      clusterVersion: Option.some("3.6")
    })
    assert.deepInclude(
      EtcdLog.parse("2026-11-23 04:04:04.1 I | etcdserver: starting server... [version: 3.4.23, cluster version: 3.4]"),
      { _tag: "Version", version: Option.some("3.4.23"), clusterVersion: Option.some("3.4") }
    )
    assert.deepInclude(
      EtcdLog.parse("2026-11-23 04:04:04.1 N | etcdserver/membership: updated the cluster version from 3.3 to 3.4"),
      { _tag: "Version", version: Option.none(), clusterVersion: Option.some("3.4") }
    )
  })

  it("keeps no secret that etcd prints", () => {
    const lines = [
      '{"level":"info","ts":"2026-11-28T23:46:29Z","caller":"flags/flag.go:114","msg":"recognized and used environment variable","variable-name":"ETCD_DISCOVERY_PASSWORD","variable-value":"hun\\"ter2"}',
      '2026-11-28T23:46:29.573Z\tinfo\tflags/flag.go:114\trecognized and used environment variable\t{"variable-name": "ETCD_DISCOVERY_PASSWORD", "variable-value": "hun\\"ter2"}',
      '{"level":"info","ts":"2026-11-28T23:46:29Z","caller":"embed/etcd.go:323","msg":"starting an etcd server","discovery-user":"hun\\"ter2","discovery-token":"t"}'
    ]
    for (const line of lines) {
      const event = EtcdLog.parse(line)
      assert.notInclude(JSON.stringify(event), "ter2")
      assert.include(event.line, "<redacted>")
      assert.strictEqual(Object.values(event.fields).filter((value) => value === "<redacted>").length, 1)
    }
    assert.notInclude(JSON.stringify(EtcdLog.fromLine({ text: lines[0]!, omittedBytes: 9 })), "ter2")
    // A line that was too long, or whose rest never came.
    const secret = lines[0]!.indexOf("hun")
    for (let length = secret + 1; length < lines[0]!.length; length++) {
      const text = lines[0]!.slice(0, length)
      for (const event of [EtcdLog.parse(text), EtcdLog.fromLine({ text, omittedBytes: 9 })]) {
        assert.notInclude(JSON.stringify(event), '"h')
        assert.notInclude(event.line, "hu")
        assert.notInclude(event.line, "ter2")
      }
    }
  })

  it("keeps every digit of a whole number, in JSON and in console lines", () => {
    const fields =
      '{"id": 7587886574837421337, "max": 18446744073709551615, "low": -9223372036854775808, "deep": [{"at":9007199254740993}], "few": 9007199254740991, "rate": 1234567890123456.8, "text": "12345678901234567890"}'
    const expected = {
      id: 7587886574837421337n,
      max: 18446744073709551615n,
      low: -9223372036854775808n,
      deep: [{ at: 9007199254740993n }],
      few: 9007199254740991,
      rate: 1234567890123456.8,
      text: "12345678901234567890"
    }
    assert.deepStrictEqual(EtcdLog.parse(`{"level":"info","msg":"m",${fields.slice(1)}`).fields, expected)
    const line = `2026-11-28T23:46:29.573Z\tinfo\ta/b.go:1\tm\t${fields}`
    assert.deepStrictEqual(EtcdLog.parse(line).fields, expected)
  })

  it("reads a console line whose message has tabs, with or without fields", () => {
    const head = "2026-11-28T23:46:29.573Z\twarn\traft\ta/b.go:1\t"
    assert.deepInclude(EtcdLog.parse(`${head}a\tb\t{"n": 1}`), { message: "a\tb", fields: { logger: "raft", n: 1 } })
    assert.deepInclude(EtcdLog.parse(`${head}a\tb`), { message: "a\tb", fields: { logger: "raft" } })
    assert.deepInclude(EtcdLog.parse(`${head}only`), { message: "only", level: "Warn" })
  })

  // In quadratic time it takes a quarter of a minute, in linear time some milliseconds.
  it("is soon read, however often the words of a failure stand in it", () => {
    const start = performance.now()
    EtcdLog.parse(JSON.stringify({ level: "fatal", msg: "database file (".repeat(30_000) }))
    EtcdLog.parse(JSON.stringify({ level: "warn", msg: `@${"/".repeat(300_000)}` }))
    EtcdLog.parse(JSON.stringify({ level: "warn", msg: `${"//a".repeat(100_000)} @` }))
    EtcdLog.parse(JSON.stringify({ level: "warn", msg: "//:".repeat(100_000), key: "@" }))
    assert.isBelow(performance.now() - start, 5_000)
  })

  it("keeps any other text", () => {
    for (const text of [
      "",
      "{",
      "{}",
      "[]",
      '{"msg":1}',
      "null",
      "goroutine 1 [running]:",
      "2026-11-23",
      "raft2",
      "\t"
    ]) {
      const event = EtcdLog.parse(text)
      assert.deepInclude(event, { _tag: "Unparsed", message: text, line: text, omittedBytes: 0 }, text)
    }
    assert.strictEqual(EtcdLog.parse("[WARNING] Deprecated '--logger=capnslog' flag is set").level, "Warn")
  })
})

const encoder = new TextEncoder()

const cut = (bytes: Uint8Array, at: ReadonlyArray<number>): ReadonlyArray<Uint8Array> => {
  const marks = [0, ...at.map((index) => index % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  return marks.slice(1).map((end, index) => bytes.slice(marks[index], end))
}

const readAll = (chunks: ReadonlyArray<Uint8Array>, options?: EtcdLog.LineOptions) => {
  const reader = EtcdLog.makeLineReader(options)
  return [...chunks.flatMap(reader.push), ...reader.end()]
}

const anyLine = fc
  .oneof(fc.string({ unit: "binary" }), fc.string({ unit: "grapheme" }), fc.constantFrom("", "é", "🙂🙂", "\r\r a"))
  .map((text) => text.replaceAll("\n", "").replace(/\r+$/, "").toWellFormed())

describe("EtcdLog: bytes to lines", () => {
  it("gives the same lines however the bytes are cut", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(anyLine, fc.constantFrom("\n", "\r\n"))),
        anyLine,
        fc.array(fc.nat()),
        (terminated, last, at) => {
          const bytes = encoder.encode(terminated.map(([line, end]) => line + end).join("") + last)
          const expected = [...terminated.map(([line]) => line), ...(last === "" ? [] : [last])]
          assert.deepStrictEqual(
            readAll(cut(bytes, at)),
            expected.map((text) => ({ text, omittedBytes: 0 }))
          )
          assert.deepStrictEqual(readAll([...bytes].map((byte) => Uint8Array.of(byte))), readAll([bytes]))
        }
      )
    )
  })

  it("cuts a line that is too long, and finds the next one", () => {
    fc.assert(
      fc.property(fc.array(anyLine, { minLength: 1 }), fc.nat(12), fc.array(fc.nat()), (lines, maxLineBytes, at) => {
        const bytes = encoder.encode(lines.map((line) => `${line}\r\n`).join(""))
        const read = readAll(cut(bytes, at), { maxLineBytes })
        assert.strictEqual(read.length, lines.length)
        read.forEach(({ omittedBytes, text }, index) => {
          const size = encoder.encode(lines[index]).length
          assert.strictEqual(encoder.encode(text).length + omittedBytes, size)
          assert.strictEqual(omittedBytes > 0, size > maxLineBytes)
          assert.isTrue(lines[index]!.startsWith(text))
        })
      })
    )
  })

  it("replaces what is not UTF-8, and throws on no bytes", () => {
    assert.deepStrictEqual(readAll([Uint8Array.of(0x61, 0xff, 0xc3, 0x0a, 0xef, 0xbb, 0xbf, 0x62)]), [
      { text: "a\ufffd\ufffd", omittedBytes: 0 },
      { text: "\ufeffb", omittedBytes: 0 }
    ])
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.array(fc.nat()), (bytes, at) => {
        assert.deepStrictEqual(readAll(cut(bytes, at)), readAll([bytes]))
        readAll([bytes]).map(EtcdLog.fromLine)
      })
    )
  })

  it("keeps the head of a line beyond the default limit, as an Unparsed event", () => {
    const reader = EtcdLog.makeLineReader()
    const chunk = encoder.encode("é".repeat(32 * 1024))
    for (let size = 0; size <= 16 * 1024 * 1024; size += chunk.length) {
      assert.deepStrictEqual(reader.push(chunk), [])
    }
    const events = reader.push(encoder.encode("\nnext\n")).map(EtcdLog.fromLine)
    assert.deepStrictEqual(
      events.map((event) => [event._tag, event.message.length]),
      [
        ["Unparsed", 2048],
        ["Unparsed", 4]
      ]
    )
    assert.deepInclude(events[0], { omittedBytes: 16 * 1024 * 1024 + chunk.length - 4096 })
  })

  it("reads a line of exactly the limit", () => {
    const exact = "x".repeat(1024 * 1024)
    assert.deepStrictEqual(readAll([encoder.encode(`${exact}\r`), encoder.encode("\n")]), [
      { text: exact, omittedBytes: 0 }
    ])
    assert.strictEqual(readAll([encoder.encode(`${exact}x\n`)])[0]?.omittedBytes, 1024 * 1024 + 1 - 4096)
  })

  it("does not keep a chunk that its owner overwrites", () => {
    const reader = EtcdLog.makeLineReader()
    const chunk = encoder.encode("one")
    reader.push(chunk)
    chunk.fill(0x7a)
    assert.deepStrictEqual(reader.push(encoder.encode("\n")), [{ text: "one", omittedBytes: 0 }])
  })

  it.effect("decode: a stream of bytes becomes a stream of events, the last line included", () =>
    Effect.gen(function* () {
      const text = readFixture("3.5.30-zap/infra1.log").trimEnd()
      const bytes = encoder.encode(text)
      for (const size of [1, 7, 4096, bytes.length]) {
        const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
          bytes.subarray(i * size, (i + 1) * size)
        )
        const events = yield* Stream.fromIterable(chunks).pipe(EtcdLog.decode, Stream.runCollect)
        assert.deepStrictEqual(events, eventsOf(text))
      }
      const short = yield* Stream.make(encoder.encode("abc\ndef")).pipe(
        EtcdLog.decodeWith({ maxLineBytes: 2 }),
        Stream.runCollect
      )
      assert.deepStrictEqual(
        short.map((event) => event.message),
        ["ab", "de"]
      )
    })
  )
})

const spices = [
  '"',
  "\\",
  "{",
  "}",
  ":",
  ",",
  " became leader at term ",
  "raft.node: ",
  "\u0000",
  "🙂",
  "panic: ",
  "0x",
  "9"
]

const mutate = (line: string, other: string, random: Random): string => {
  const at = random(line.length + 1)
  switch (random(6)) {
    case 0:
      return line.slice(0, at)
    case 1:
      return line.slice(0, at) + line.slice(at + 1 + random(8))
    case 2:
      return line.slice(0, at) + spices[random(spices.length)] + line.slice(at)
    case 3:
      return line.slice(0, at) + other.slice(random(other.length + 1))
    case 4:
      return line.slice(0, at) + String.fromCharCode(32 + random(95)) + line.slice(at + 1)
    default:
      return line
  }
}

const noise = (random: Random): string =>
  String.fromCharCode(...Array.from({ length: random(60) }, () => 11 + random(0xd000)))

const allFixtures = () =>
  readdirSync(fixtures, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".log"))
    .flatMap((path) => linesOf(readFixture(path)))

const collectGarbage = (): (() => void) => {
  v8.setFlagsFromString("--expose-gc")
  return vm.runInNewContext("gc") as () => void
}

describe("EtcdLog: endurance", () => {
  it("reads half a million random and mutated lines: no exception, no memory kept", () => {
    const gc = collectGarbage()
    const lines = allFixtures()
    const random = makeRandom(20261123)
    const reader = EtcdLog.makeLineReader()
    const perBatch = 500
    let state = Role.initial(epoch)
    const counts = new Map<string, number>()

    const batch = () => {
      const texts = Array.from({ length: perBatch }, () =>
        random(20) === 0 ? noise(random) : mutate(lines[random(lines.length)]!, lines[random(lines.length)]!, random)
      )
      for (const event of reader.push(encoder.encode(`${texts.join("\n")}\n`)).map(EtcdLog.fromLine)) {
        state = Role.fold(state, event)
        counts.set(event._tag, (counts.get(event._tag) ?? 0) + 1)
      }
    }
    // What the last batch left on the stack counts at random: the least of several looks is what is really held.
    const memoryHeld = () =>
      Math.min(
        ...Array.from({ length: 5 }, () => {
          batch()
          gc()
          const { arrayBuffers, heapUsed } = process.memoryUsage()
          return heapUsed + arrayBuffers
        })
      )
    const batches = (lineCount: number) => {
      for (let i = 0; i < lineCount / perBatch; i++) {
        batch()
      }
    }

    batches(100_000)
    const before = memoryHeld()
    counts.clear()
    batches(500_000)
    const total = [...counts.values()].reduce((sum, count) => sum + count, 0)
    const after = memoryHeld()

    assert.strictEqual(total, 500_000)
    for (const tag of [
      "Entry",
      "Unparsed",
      "Version",
      "LocalMember",
      "Ready",
      "RoleChange",
      "LeaderChange",
      "PeerUp",
      "PeerDown",
      "Failure"
    ]) {
      assert.isAbove(counts.get(tag) ?? 0, 100, tag)
    }
    // Tables of the JavaScript engine grow and shrink by a few MiB; anything kept of each line would be an object, 16 bytes, at least.
    assert.isBelow(after - before, 16 * 500_000)
  })
})
