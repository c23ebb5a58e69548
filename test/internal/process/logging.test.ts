import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import * as SemVer from "effect/SemVer"
import * as fc from "fast-check"
import * as EtcdBinary from "../../../src/EtcdBinary.ts"
import * as EtcdConfig from "../../../src/EtcdConfig.ts"
import * as EtcdLog from "../../../src/EtcdLog.ts"
import * as EtcdProcess from "../../../src/EtcdProcess.ts"
import * as Secrets from "../../../src/internal/log/secrets.ts"
import * as Logging from "../../../src/internal/process/logging.ts"

const version = SemVer.make({ major: 3, minor: 6, patch: 16 })
const context = { version, dataDir: "/var/lib/etcd/x" }

/** All that an event says, its own words left out. */
const textOf = (event: EtcdLog.Event): string =>
  JSON.stringify(event, (_, value) => (typeof value === "bigint" ? String(value) : value))

const hides = (secret: string, event: EtcdLog.Event): void => {
  const text = textOf(event)
  assert.notInclude(text, secret)
  assert.notInclude(text, JSON.stringify(secret).slice(1, -1))
}

const json = (fields: Record<string, unknown>) => JSON.stringify({ level: "warn", msg: "m", ...fields })

/** As Go writes text in quotes. */
const goQuoted = (text: string) =>
  JSON.stringify(text).replace(/[<>&]/g, (char) => `\\u00${char.charCodeAt(0).toString(16)}`)

describe("what is known to be secret", () => {
  it("is in no part of an event, however it is written", () => {
    const secret = 'hu"n\\te<r>&2\té'
    const hide = Secrets.hide([secret])
    for (const line of [
      json({ any: secret }),
      json({ deep: [{ any: secret }], error: `failed: ${secret}!` }),
      json({ error: `rpc error: desc = ${goQuoted(secret)}` }),
      json({ target: `etcd-endpoints://0x1/u:${encodeURIComponent(secret)}@127.0.0.1:1` }),
      `{"level":"warn","msg":"m","any":${goQuoted(secret)}}`,
      JSON.stringify({ level: "fatal", msg: secret, error: `open /x/${secret}: permission denied` }),
      JSON.stringify({ level: "fatal", msg: "m", error: `listen tcp ${encodeURIComponent(secret)}: bind: no` }),
      `2026-11-28T23:46:29.573Z\twarn\ta/b.go:1\tm\t{"any": ${goQuoted(secret)}}`,
      `2026-11-23 04:03:50.1 C | etcdmain: failed with ${goQuoted(secret)}`,
      `panic: ${goQuoted(secret)}`,
      secret
    ]) {
      const event = hide(EtcdLog.parse(line))
      hides(secret, event)
      hides(encodeURIComponent(secret), event)
      assert.include(textOf(event), "<redacted>")
      assert.strictEqual(event._tag, EtcdLog.parse(line)._tag)
    }
  })

  it("is hidden for any secret of some length", () => {
    fc.assert(
      fc.property(fc.string({ minLength: 8, maxLength: 30, unit: "grapheme" }), fc.string(), (secret, around) => {
        fc.pre(!"<redacted>".includes(secret) && !around.includes(secret) && secret.trim().length >= 8)
        const event = Secrets.hide([secret])(EtcdLog.parse(json({ any: `${around}${secret}${around}` })))
        assert.notInclude(String(event.fields.any), secret)
        assert.include(event.line, "<redacted>")
      }),
      { numRuns: 50 }
    )
  })

  it("is hidden where backslashes stand in a row, in it and around it", () => {
    const secret = "C:\\\\\\share\\x"
    for (const line of [
      json({ any: secret }),
      json({ any: goQuoted(goQuoted(secret)) }),
      json({ target: `//u:${encodeURIComponent(secret)}@a` }),
      json({ any: `${"\\".repeat(9)}${secret}` })
    ]) {
      const event = Secrets.hide([secret])(EtcdLog.parse(line))
      hides("share", event)
    }
  })

  // In quadratic time it takes a quarter of a minute, in linear time some milliseconds.
  it("is soon looked for, also in a long line of backslashes", () => {
    const event = EtcdLog.parse("\\".repeat(60_000))
    const start = performance.now()
    assert.deepStrictEqual(Secrets.hide(["some password"])(event), event)
    assert.isBelow(performance.now() - start, 5_000)
  })

  it("is not found in the middle of words where it is short, nor anywhere where it is a word or a number", () => {
    const line = '{"level":"info","msg":"node root1 of rooted a1 is root","path":"/var/lib/root","n":12}'
    const short = Secrets.hide(["root"])(EtcdLog.parse(line))
    assert.strictEqual(short.message, "node root1 of rooted a1 is <redacted>")
    for (const none of ["", "a", "1", "12", "lib"]) {
      assert.deepStrictEqual(Secrets.hide([none])(EtcdLog.parse(line)), EtcdLog.parse(line))
    }
  })

  it("leaves what an event is, whatever its words are", () => {
    const words = Secrets.hide(["became leader at term", "RoleChange", "follower", "Info", "DataDirCorrupt"])
    assert.deepInclude(words(EtcdLog.parse('{"level":"info","msg":"1a became follower at term 2"}')), {
      _tag: "RoleChange",
      level: "Info",
      role: "follower",
      term: 2n
    })
    const corrupt = words(EtcdLog.parse("panic: invalid database follower"))
    assert.deepInclude(corrupt, { _tag: "Failure", detail: "panic: invalid database <redacted>" })
    assert.deepInclude((corrupt as EtcdLog.Failure).reason, { _tag: "DataDirCorrupt" })
  })

  it("is hidden where a line was cut in the middle of it, and where it came in several", () => {
    const secret = "correct horse"
    const hide = Secrets.hide([secret, "first half\nsecond half"])
    for (let length = 4; length < secret.length; length++) {
      const text = `{"level":"info","msg":"m","any":"${secret.slice(0, length)}`
      for (const event of [EtcdLog.parse(text), EtcdLog.fromLine({ text, omittedBytes: 9 })]) {
        assert.isTrue(hide(event).line.endsWith('"any":"<redacted>'))
      }
    }
    assert.strictEqual(hide(EtcdLog.parse("it was first half")).message, "it was <redacted>")
    // What is left can be printed as before.
    const text = json({ msg: "1a became leader at term 2", any: secret })
    for (const role of [EtcdLog.parse(text), EtcdLog.fromLine({ text, omittedBytes: 0 })]) {
      assert.include(JSON.stringify(hide(role)), "<redacted>")
    }
    assert.strictEqual(hide(EtcdLog.parse("second half, it was")).message, "<redacted>, it was")
  })

  it.effect("are all secret options of etcd, and the passwords in its URLs", () =>
    Effect.gen(function* () {
      const config = yield* EtcdConfig.resolve(
        {
          discoveryToken: "public-token",
          discoveryProxy: "http://someone:url-pass%40word@127.0.0.1:1",
          discoveryEndpoints: ["http://127.0.0.1:1"],
          discoveryUser: "root:user-password",
          discoveryPassword: "other-password",
          listenPeerUrls: "http://127.0.0.1:1",
          initialAdvertisePeerUrls: "http://127.0.0.1:1"
        },
        context
      )
      const hide = Logging.withoutSecrets(config)
      for (const secret of ["user-password", "other-password", "url-pass@word", "url-pass%40word"]) {
        hides(secret, hide(EtcdLog.parse(json({ args: ["x", secret] }))))
      }
      const open = json({ user: "root", token: "public-token" })
      assert.deepStrictEqual(hide(EtcdLog.parse(open)), EtcdLog.parse(open))
    })
  )

  it.effect("are all of the URL of a discovery service but its host, and who is let in by a name alone", () =>
    Effect.gen(function* () {
      const of = (options: EtcdConfig.Input) =>
        Effect.map(
          EtcdConfig.resolve(options, { version: SemVer.make({ major: 3, minor: 5, patch: 35 }), dataDir: "/d" }),
          Logging.withoutSecrets
        )
      const discovery = "https://user-token@discovery.example:1/v2/keys/path%2Dtoken?q=query-token"
      const hide = yield* of({ discovery, discoveryProxy: "http://proxy-token@proxy.example:2" })
      const lines = [
        json({ "discovery-url": discovery, "initial-cluster-token": discovery }),
        json({ url: "https://user-token@discovery.example:1?q=query-token", path: "/v2/keys/path-token/_config/size" }),
        json({ key: "/path-token/8e9e05c52164694d", "proxy-url": "http://proxy-token@proxy.example:2" }),
        `2026-11-23 04:03:50.1 I | embed: discovery URL= ${discovery}`
      ]
      for (const line of lines) {
        const event = hide(EtcdLog.parse(line))
        for (const secret of ["user-token", "path-token", "path%2Dtoken", "query-token", "proxy-token"]) {
          hides(secret, event)
        }
      }
      const shown = lines.map((line) => hide(EtcdLog.parse(line)).line).join()
      for (const host of ["discovery.example:1", "proxy.example:2", "8e9e05c52164694d"]) assert.include(shown, host)
      for (const password of ["pass/word", "pass@word", 'pass"word', "pass,word"]) {
        const hide = yield* of({ discovery: `http://me:${password}@discovery.example:1/t` })
        hides(password, hide(EtcdLog.parse(json({ error: `no: ${password}` }))))
      }
    })
  )

  it.live("is in no error and no line of a real etcd", () =>
    Effect.gen(function* () {
      const { version } = yield* EtcdBinary.find()
      const url = "http://someone:url-password@127.0.0.1:1/v2/keys/path-secret?q=query-secret"
      const discovery: EtcdConfig.Input =
        version.minor < 6
          ? { discovery: url, discoveryProxy: "http://proxy-secret@127.0.0.1:2" }
          : {
              discoveryToken: "token",
              discoveryEndpoints: "http://127.0.0.1:1",
              discoveryUser: "root",
              discoveryPassword: "other-password",
              discoveryDialTimeout: "200 millis",
              discoveryRequestTimeout: "200 millis"
            }
      const logged: Array<unknown> = []
      const logger = Logger.make(({ fiber, message }) => {
        logged.push([String(message), fiber.getRef(References.CurrentLogAnnotations)])
      })
      const error = yield* EtcdProcess.ephemeral(discovery, { startTimeout: "2 seconds" }).pipe(
        Effect.scoped,
        Effect.flip,
        Effect.provideService(References.MinimumLogLevel, "Trace"),
        Effect.provide(Logger.layer([logger]))
      )
      const all = JSON.stringify([error.message, error, logged])
      assert.include(all, "<redacted>")
      if (version.minor < 6) assert.include(all, "someone")
      for (const secret of ["url-password", "other-password", "path-secret", "query-secret", "proxy-secret"]) {
        assert.notInclude(all, secret)
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it("is hidden by its place in a line also where nobody knows it", () => {
    for (const line of [
      json({ args: ["etcd", "--discovery-proxy=http://user:pass-word@127.0.0.1:2", "--name=n"] }),
      "2026-11-23 04:03:50.1 E | discovery: error connecting to http://user:pass-word@127.0.0.1:1, retrying in 2s",
      json({ request: "header:<ID:7 > authenticate:<name:root simple_token:pass-word>" }),
      json({ args: ["etcd", "--discovery=http://a.example:1/pass-word"] }),
      json({ args: ["etcd", "--discovery", "http://a.example:1/pass-word"] }),
      json({
        "discovery-url": "http://a.example:1/pass-word",
        "initial-cluster-token": "http://a.example:1/pass-word"
      }),
      json({ "discovery-url": "http://pass-word@a.example:1", path: "/pass-word/_config/size" }),
      json({ "discovery-url": "http://me:pass-word/and@a@a.example:1" }),
      json({ "discovery-url": 'http://me:"pass-word@a.example:1' }),
      json({ "environment-variable": "ETCD_PASSWORD=pass-word" }),
      "2026-11-23 04:03:50.1 I | pkg/flags: recognized and used environment variable ETCD_DISCOVERY=http://a:1/pass-word",
      "2026-11-23 04:03:50.1 W | pkg/flags: unrecognized environment variable ETCD_PASSWORD=pass-word and more",
      "2026-11-23 04:03:50.1 I | embed: discovery URL= http://a.example:1/pass-word",
      '2026-11-23 04:03:50.1 I | discovery: using proxy "http://pass-word@a.example:1"'
    ]) {
      const event = EtcdLog.parse(line)
      hides("pass-word", event)
      assert.include(event.line, "<redacted>")
    }
    for (const line of [
      "http://127.0.0.1:2379/a:b and user@host",
      json({ url: "http://127.0.0.1:2379/a:b", user: "user@host", "environment-variable": "ETCD_NAME" }),
      json({ "discovery-url": "http://a.example:1", "initial-cluster-token": "etcd/cluster" })
    ]) {
      assert.strictEqual(EtcdLog.parse(line).line, line)
    }
  })
})

describe("a line on Effect's logger", () => {
  const logged = (line: string, phase: Logging.Phase) => {
    const seen: Array<unknown> = []
    const logger = Logger.make(({ fiber, logLevel, message }) => {
      seen.push([logLevel, String(message), fiber.getRef(References.CurrentLogAnnotations)])
    })
    return Logging.logEvent(EtcdLog.parse(line), phase).pipe(
      Effect.annotateLogs({ member: "infra0" }),
      Effect.provideService(References.MinimumLogLevel, "Trace"),
      Effect.provide(Logger.layer([logger])),
      Effect.as(seen)
    )
  }

  it.effect("has the fields of etcd's line as annotations, and the name of the node", () =>
    Effect.gen(function* () {
      const line =
        '{"level":"fatal","msg":"discovery failed","error":"EOF","id":9007199254740993,"deep":[{"n":18446744073709551615}],"stacktrace":"a\\nb","member":"{ID:1}"}'
      assert.deepStrictEqual(yield* logged(line, "serving"), [
        [
          "Fatal",
          "discovery failed",
          {
            member: "infra0",
            error: "EOF",
            id: "9007199254740993",
            deep: [{ n: "18446744073709551615" }],
            "etcd.member": "{ID:1}"
          }
        ]
      ])
    })
  )

  it.effect("is at debug also where somebody else ends the node", () =>
    Effect.gen(function* () {
      for (const end of [
        json({ level: "info", msg: "received signal; shutting down", signal: "terminated" }),
        "2026-11-23 04:04:12.1 N | pkg/osutil: received terminated signal, shutting down..."
      ]) {
        const levels: Array<string> = []
        const logger = Logger.make(({ logLevel }) => void levels.push(logLevel))
        const run = Logging.make({ log: undefined, version, endpoints: ["http://127.0.0.1:2379"] })
        const warning = EtcdLog.parse(json({}))
        yield* Effect.forEach(
          [run.take(warning), run.serves, run.take(warning), run.take(EtcdLog.parse(end)), run.take(warning)],
          (step) => step
        ).pipe(Effect.provideService(References.MinimumLogLevel, "Trace"), Effect.provide(Logger.layer([logger])))
        assert.deepStrictEqual(levels, ["Debug", "Info", "Warn", "Debug", "Debug"])
      }
    })
  )

  it.effect("is a warning or an error only while the node serves", () =>
    Effect.gen(function* () {
      const levels = { debug: "Debug", info: "Debug", warn: "Warn", error: "Error", panic: "Fatal", fatal: "Fatal" }
      for (const [level, serving] of Object.entries(levels)) {
        const line = JSON.stringify({ level, msg: "m" })
        const annotations = { member: "infra0" }
        assert.deepStrictEqual(yield* logged(line, "serving"), [[serving, "m", annotations]])
        assert.deepStrictEqual(yield* logged(line, "starting"), [["Debug", "m", annotations]])
        assert.deepStrictEqual(yield* logged(line, "stopping"), [["Debug", "m", annotations]])
      }
    })
  )
})
