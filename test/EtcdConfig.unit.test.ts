import { fileURLToPath } from "node:url"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as ByteSize from "effect/ByteSize"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SemVer from "effect/SemVer"
import * as fc from "fast-check"
import * as EtcdConfig from "../src/EtcdConfig.ts"
import type * as EtcdProcessError from "../src/EtcdProcessError.ts"
import * as Table from "../src/internal/config/table.ts"

const version = (text: string) => SemVer.parseUnsafe(text)
const versions = ["3.4.23", "3.5.16", "3.5.30", "3.6.14", "3.7.1"].map(version)

const invalid = <A, R>(effect: Effect.Effect<A, EtcdProcessError.EtcdProcessError, R>) =>
  Effect.flip(effect).pipe(
    Effect.map((error) => {
      if (error.reason._tag !== "InvalidConfig") throw new Error(`expected InvalidConfig, got ${error.reason._tag}`)
      return error.reason
    })
  )

const resolveFor = (input: EtcdConfig.Input, release = "3.5.30") =>
  Effect.flatMap(EtcdConfig.decode(input), (options) =>
    EtcdConfig.resolve(options, { version: version(release), dataDir: "/data", directory: "/home/user" })
  )

const flagsFor = (input: EtcdConfig.Input, release?: string) =>
  Effect.map(resolveFor(input, release), EtcdConfig.toFlags)

const problemsOf = (input: EtcdConfig.Input, release?: string) =>
  Effect.map(invalid(resolveFor(input, release)), (reason) => reason.problems.map(({ option }) => option))

describe("decode", () => {
  it.effect("takes what people write and makes one type of it", () =>
    Effect.gen(function* () {
      const options = yield* EtcdConfig.decode({
        heartbeatInterval: 50,
        electionTimeout: "1s",
        backendBatchInterval: "1h30m",
        grpcKeepaliveInterval: "2 hours",
        grpcKeepaliveTimeout: "1.5s",
        autoCompactionRetention: "10m",
        quotaBackendBytes: "8 GiB",
        maxRequestBytes: 1024,
        listenClientUrls: "http://127.0.0.1:1, http://127.0.0.1:2",
        listenPeerUrls: ["https://[::1]:1"],
        initialCluster: "a=http://127.0.0.1:1,b=http://127.0.0.1:2,a=http://127.0.0.1:3",
        featureGates: "InitialCorruptCheck=true,AllBeta=false",
        discoveryPassword: "hunter2"
      })
      assert.deepStrictEqual(options.heartbeatInterval, Duration.millis(50))
      assert.deepStrictEqual(Duration.toMillis(options.electionTimeout!), 1000)
      assert.deepStrictEqual(Duration.toMinutes(options.backendBatchInterval!), 90)
      assert.deepStrictEqual(Duration.toHours(options.grpcKeepaliveInterval!), 2)
      assert.deepStrictEqual(Duration.toMillis(options.grpcKeepaliveTimeout!), 1500)
      assert.deepStrictEqual(Duration.toMinutes(options.autoCompactionRetention as Duration.Duration), 10)
      assert.deepStrictEqual(options.quotaBackendBytes, ByteSize.gibibytes(8))
      assert.deepStrictEqual(options.maxRequestBytes, ByteSize.bytes(1024))
      assert.deepStrictEqual(options.listenClientUrls, ["http://127.0.0.1:1", "http://127.0.0.1:2"])
      assert.deepStrictEqual(options.listenPeerUrls, ["https://[::1]:1"])
      assert.deepStrictEqual(options.initialCluster, {
        a: ["http://127.0.0.1:1", "http://127.0.0.1:3"],
        b: ["http://127.0.0.1:2"]
      })
      assert.deepStrictEqual(options.featureGates, { InitialCorruptCheck: true, AllBeta: false })
      assert.strictEqual(Redacted.value(options.discoveryPassword!), "hunter2")
      assert.deepStrictEqual(yield* EtcdConfig.decode(options), options)
    })
  )

  it.effect("reads a number as revisions or hours, -1 as no quota, and an empty text as nothing", () =>
    Effect.gen(function* () {
      const options = yield* EtcdConfig.decode({
        autoCompactionRetention: 1000,
        quotaBackendBytes: -1,
        walDir: "",
        name: undefined
      })
      assert.deepStrictEqual(options, { autoCompactionRetention: 1000, quotaBackendBytes: "unlimited" })
    })
  )

  it.effect("is what the schema decodes, and the schema encodes what it decodes", () =>
    Effect.gen(function* () {
      const input: EtcdConfig.Input = {
        electionTimeout: "1500ms",
        initialCluster: "a=http://127.0.0.1:1",
        preVote: true
      }
      const decoded = yield* Schema.decodeEffect(EtcdConfig.EtcdOptions)(input)
      assert.deepStrictEqual(decoded, yield* EtcdConfig.decode(input))
      const encoded = yield* Schema.encodeEffect(EtcdConfig.EtcdOptions)(decoded)
      assert.deepStrictEqual(encoded, {
        electionTimeout: "1500ms",
        initialCluster: { a: ["http://127.0.0.1:1"] },
        preVote: true
      })
      assert.deepStrictEqual(yield* EtcdConfig.decode(encoded), decoded)
    })
  )

  it.effect("takes what is given twice in a list for one", () =>
    Effect.gen(function* () {
      const options = yield* EtcdConfig.decode({
        listenClientUrls: "http://127.0.0.1:1,http://127.0.0.1:2, http://127.0.0.1:1",
        initialCluster: "a=http://127.0.0.1:1,a=http://127.0.0.1:1",
        hostWhitelist: ["a", "a"]
      })
      assert.deepStrictEqual(options, {
        listenClientUrls: ["http://127.0.0.1:1", "http://127.0.0.1:2"],
        initialCluster: { a: ["http://127.0.0.1:1"] },
        hostWhitelist: ["a"]
      })
    })
  )

  it.effect("lists every problem in one message", () =>
    Effect.gen(function* () {
      const reason = yield* invalid(
        EtcdConfig.decode({
          nam: "x",
          "listen-client-urls": "http://127.0.0.1:1",
          configFile: "x.yaml",
          preVote: "true",
          snapshotCount: 1.5,
          bcryptCost: 50,
          metrics: "some",
          electionTimeout: "soon",
          grpcKeepaliveMinTime: "-1 seconds",
          quotaBackendBytes: "8 GiBs",
          logRotationConfigJson: "{",
          initialCluster: "a",
          hostWhitelist: ["a", ""],
          walDir: "a\0b"
        } as unknown as EtcdConfig.Input)
      )
      assert.deepStrictEqual(
        reason.problems.map(({ option }) => option),
        [
          "nam",
          "listen-client-urls",
          "configFile",
          "preVote",
          "snapshotCount",
          "bcryptCost",
          "metrics",
          "electionTimeout",
          "grpcKeepaliveMinTime",
          "quotaBackendBytes",
          "logRotationConfigJson",
          "initialCluster",
          "hostWhitelist",
          "walDir"
        ]
      )
      for (const { message, option } of reason.problems) assert.include(reason.message, `${option}: ${message}`)
      assert.include(reason.message, "did you mean name?")
      assert.include(reason.message, "did you mean listenClientUrls?")
      assert.include(reason.message, "EtcdConfig.fromYaml")
      assert.include(reason.message, "NUL")
    })
  )

  it.effect.each([Number.NaN, [0, Number.NaN], {}, { second: 5 }, true, "5", "", "Infinity", -1, 2n ** 63n, "1h1x"])(
    "does not take %s for a duration",
    (value) =>
      Effect.gen(function* () {
        const given = { backendBatchInterval: value as EtcdConfig.Input["backendBatchInterval"] }
        if (value === "") assert.deepStrictEqual(yield* EtcdConfig.decode(given), {})
        else yield* invalid(EtcdConfig.decode(given))
      })
  )

  it.effect("refuses what is not an object, and never shows a secret", () =>
    Effect.gen(function* () {
      for (const input of [null, 1, "name", []]) yield* invalid(EtcdConfig.decode(input as unknown as EtcdConfig.Input))
      const reason = yield* invalid(
        EtcdConfig.decode({ discoveryPassword: "hunter2\0", discoveryUser: Redacted.make("u\0") })
      )
      assert.lengthOf(reason.problems, 2)
      assert.notInclude(JSON.stringify(reason), "hunter2")
    })
  )

  it.effect("shows no password of a URL that it refuses, from whatever source", () =>
    Effect.gen(function* () {
      const url = "http://me:hunter2@127.0.0.1:2379"
      for (const reason of [
        yield* invalid(EtcdConfig.decode({ listenClientUrls: url, initialCluster: url })),
        yield* invalid(EtcdConfig.decode({ cors: [url], initialCluster: { a: url } })),
        yield* invalid(EtcdConfig.parseToml(`[etcd]\nlisten-peer-urls = "${url}"`)),
        yield* invalid(EtcdConfig.parseYaml(`listen-peer-urls: ${url}`))
      ]) {
        assert.notInclude(JSON.stringify(reason), "hunter2")
        assert.include(reason.message, "me:<redacted>@127.0.0.1:2379")
      }
      const env = ConfigProvider.fromEnv({ env: { ETCD_LISTEN_CLIENT_URLS: url } })
      const error = yield* Effect.flip(EtcdConfig.config().parse(env))
      assert.notInclude(String(error), "hunter2")
      const long = "x".repeat(200)
      for (const given of [
        ...["hun/ter2", 'hun"ter2', "hun\\ter2", "p@hunter2", "hunter2@p", "hunter2,p", "p,hunter2", "p,a=hunter2"].map(
          (password) => `http://me:${password}@127.0.0.1:2379`
        ),
        ...["p hunter2", `hunter2${long}`].map((password) => `http://me:${password}@127.0.0.1:2379`),
        ...["http://hunter2@127.0.0.1:2379", "http://hunter2:@127.0.0.1:2379", `http://${long.slice(93)}:hunter2@a:1`]
      ]) {
        for (const input of [
          { listenClientUrls: given, initialCluster: `a=${given}` },
          { cors: [given], initialCluster: given },
          { initialCluster: { a: given } },
          { electionTimeout: given, logLevel: given, snapshotCount: given, clientCertAuth: given }
        ]) {
          const reason = yield* invalid(EtcdConfig.decode(input as unknown as EtcdConfig.Input))
          assert.notMatch(JSON.stringify(reason), /hun|ter2/, given)
        }
      }
      // Where the scheme was forgotten, or a slash of it, what is given for a URL is still one.
      for (const given of ["me:hunter2@127.0.0.1:2379", "http:/me:hunter2,x@127.0.0.1:2379", "hunter2@a:1"]) {
        for (const input of [
          { listenClientUrls: given },
          { cors: [given] },
          { initialCluster: `a=${given}` },
          { initialCluster: given },
          { initialCluster: { a: given } }
        ]) {
          const reason = yield* invalid(EtcdConfig.decode(input))
          assert.notMatch(JSON.stringify(reason), /hunter2/, given)
        }
      }
    })
  )

  it.effect.each([
    "127.0.0.1:2379",
    "ftp://127.0.0.1:2379",
    "http://127.0.0.1",
    "http://127.0.0.1:",
    "http://:2379",
    "http://127.0.0.1:2379/",
    "http://127.0.0.1:2379/v3",
    "http://127.0.0.1:70000",
    "http://::1:2379",
    "http://user@127.0.0.1:2379",
    "http://a b:2379",
    "unix://",
    "unix:client.sock",
    "unix://client.sock:port",
    "http://"
  ])("refuses %s, which is no URL for etcd", (url) =>
    Effect.gen(function* () {
      const reason = yield* invalid(EtcdConfig.decode({ advertiseClientUrls: [url] }))
      // A user without a password may be a token.
      assert.include(reason.message, url.replace("user@", "<redacted>@"))
    })
  )
})

describe("TOML", () => {
  it.effect("reads the three files of a cluster, and warns that their traffic is not encrypted", () =>
    Effect.gen(function* () {
      for (const index of [0, 1, 2]) {
        const path = fileURLToPath(new URL(`./fixtures/config/infra${index}.toml`, import.meta.url))
        const options = yield* EtcdConfig.fromToml(path)
        const resolved = yield* EtcdConfig.resolve(options, { version: version("3.5.30"), dataDir: "/data" })
        assert.strictEqual(resolved.name, `infra${index}`)
        assert.deepStrictEqual(EtcdConfig.endpoints(resolved, "/run"), [`http://127.0.0.1:2${3 + index}79`])
        assert.lengthOf(resolved.warnings, 1)
        assert.match(resolved.warnings[0]!, /not encrypted/)
        assert.includeMembers(EtcdConfig.toFlags(resolved) as Array<string>, [
          `--name=infra${index}`,
          "--initial-cluster=infra0=http://127.0.0.1:2380,infra1=http://127.0.0.1:2480,infra2=http://127.0.0.1:2580",
          "--host-whitelist=127.0.0.1"
        ])
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("takes numbers where etcd counts milliseconds, tables for members, and older names", () =>
    Effect.gen(function* () {
      const options = yield* EtcdConfig.parseToml(`
        [server]
        name = "not etcd's"
        [etcd]
        heartbeat-interval = 50
        pre-vote = false
        cipher-suites = ["TLS_A", "TLS_B"]
        experimental-corrupt-check-time = "1m"
        auto-compaction-retention = "1"
        [etcd.initial-cluster]
        a = "http://127.0.0.1:1"
      `)
      assert.deepStrictEqual(options, {
        heartbeatInterval: Duration.millis(50),
        preVote: false,
        cipherSuites: ["TLS_A", "TLS_B"],
        corruptCheckTime: options.corruptCheckTime!,
        autoCompactionRetention: 1,
        initialCluster: { a: ["http://127.0.0.1:1"] }
      })
      assert.strictEqual(Duration.toMinutes(options.corruptCheckTime!), 1)
    })
  )

  it.effect("says where the text stops being TOML, and on which line a problem is", () =>
    Effect.gen(function* () {
      const syntax = yield* invalid(EtcdConfig.parseToml('[etcd]\nname = "a"\npre-vote = \n', "etcd.toml"))
      assert.match(syntax.message, /^etcd\.toml: .*line 3, column \d+/)
      const problems = yield* invalid(
        EtcdConfig.parseToml("[etcd]\nnme = 'a'\npre-vote = 'yes'\ngrpc-keepalive-timeout = 20\n", "etcd.toml")
      )
      assert.match(problems.message, /etcd\.toml has 3 problems/)
      assert.match(problems.message, /nme: .*did you mean name\? \(line 2\)/)
      assert.match(problems.message, /pre-vote: .*"yes" \(line 3\)/)
      assert.match(problems.message, /grpc-keepalive-timeout: .*unit.*\(line 4\)/)
    })
  )

  it.effect("shows no secret that lacks its quotes", () =>
    Effect.gen(function* () {
      const secrets = ["hunter2", "0hunter2", "+hunter2", "99999999999999999999", "2026-99-99", "hun'ter2"]
      for (const secret of secrets) {
        const reason = yield* invalid(EtcdConfig.parseToml(`[etcd]\ndiscovery-password = ${secret}\n`, "etcd.toml"))
        assert.notInclude(JSON.stringify(reason), secret)
        assert.match(reason.message, /^etcd\.toml: not TOML: .* at line 2, column \d+$/)
      }
    })
  )

  it.effect("refuses one option under two names, a missing table, and options outside of it", () =>
    Effect.gen(function* () {
      const twice = yield* invalid(
        EtcdConfig.parseToml("[etcd]\ncorrupt-check-time = '1m'\nexperimental-corrupt-check-time = '1m'")
      )
      assert.match(twice.message, /same option as corrupt-check-time/)
      const outside = yield* invalid(EtcdConfig.parseToml("name = 'a'"))
      assert.deepStrictEqual(
        outside.problems.map(({ message }) => message),
        ["has no [etcd] table", "belongs below [etcd] (line 1)"]
      )
      yield* invalid(EtcdConfig.parseToml("[[etcd]]\nname = 'a'"))
      yield* invalid(EtcdConfig.parseToml("name = 'a'\n[etcd]\n"))
    })
  )

  it.effect("names a file that is not there", () =>
    Effect.gen(function* () {
      const toml = yield* invalid(EtcdConfig.fromToml("/no/such/etcd.toml"))
      assert.strictEqual(toml.message, "/no/such/etcd.toml: there is no such file")
      const yaml = yield* invalid(EtcdConfig.fromYaml("/"))
      assert.match(yaml.message, /^\/: cannot be read/)
    }).pipe(Effect.provide(NodeServices.layer))
  )
})

describe("YAML", () => {
  it.effect("reads etcd's own file, its sections and its nanoseconds", () =>
    Effect.gen(function* () {
      const options = yield* EtcdConfig.fromYaml(
        fileURLToPath(new URL("./fixtures/config/etcd.conf.yml", import.meta.url))
      )
      assert.deepStrictEqual(options, {
        name: "yaml",
        snapshotCount: 10000,
        heartbeatInterval: Duration.millis(100),
        electionTimeout: Duration.millis(1000),
        grpcKeepaliveMinTime: Duration.nanos(5_000_000_000n),
        quotaBackendBytes: ByteSize.bytes(0),
        listenClientUrls: ["http://127.0.0.1:2379", "http://127.0.0.1:4001"],
        advertiseClientUrls: ["http://127.0.0.1:2379"],
        certFile: "client.pem",
        keyFile: "client-key.pem",
        clientCertAuth: false,
        autoTls: false,
        peerCertFile: "peer.pem",
        peerKeyFile: "peer-key.pem",
        peerAutoTls: false,
        peerCertAllowedCn: ["a", "b"],
        socketReusePort: true,
        autoCompactionMode: "periodic",
        autoCompactionRetention: 1,
        logOutputs: ["stderr"],
        cipherSuites: ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]
      })
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("reads the credentials of a discovery service without showing them", () =>
    Effect.gen(function* () {
      const options = yield* EtcdConfig.parseYaml(
        "discovery-config:\n  token: t\n  client:\n    endpoints: [http://a:1]\n    auth:\n      password: hunter2\n"
      )
      assert.strictEqual(options.discoveryToken, "t")
      assert.deepStrictEqual(options.discoveryEndpoints, ["http://a:1"])
      assert.notInclude(String(options.discoveryPassword), "hunter2")
    })
  )

  it.effect.each([
    ["name: a\n  b: c\n", 2],
    ["name: a\nlog-outputs: [stderr\n", 2],
    ["name: a\ncipher-suites: [\n  A,\n  B\n]\ncors: *missing\n", 6],
    ["\tname: a\n", 1]
  ] as const)("says where %j stops being YAML", ([text, line]) =>
    Effect.gen(function* () {
      const reason = yield* invalid(EtcdConfig.parseYaml(text, "etcd.yml"))
      assert.match(reason.message, new RegExp(`^etcd\\.yml: not YAML: .* at line ${line}, column \\d+$`))
    })
  )

  it.effect("takes the last of a name that is given again, as etcd does, and says so", () =>
    Effect.gen(function* () {
      const logged: Array<unknown> = []
      const log = Logger.make(({ message }) => void logged.push(message))
      const read = (text: string) =>
        Effect.provide(EtcdConfig.parseYaml(text, "etcd.yml"), Logger.layer([log], { mergeWithExisting: false }))
      const text = [
        "name: a",
        "client-transport-security:",
        "  cert-file: old.pem",
        "name: b",
        "client-transport-security:",
        "  key-file: k.pem",
        "  'key-file': l.pem",
        "cipher-suites: [",
        "  TLS_A",
        "]",
        '"name" : c # the last one',
        "cipher-suites:",
        "- TLS_B"
      ]
      assert.deepStrictEqual(yield* read(text.join("\n")), { name: "c", keyFile: "l.pem", cipherSuites: ["TLS_B"] })
      assert.lengthOf(logged, 5)
      assert.include(String(logged), "etcd.yml: name is given again on line 11; the last one counts")
      const reason = yield* invalid(EtcdConfig.parseYaml("name: a\nname: b\nnam: c\nname: [\n", "etcd.yml"))
      assert.match(reason.message, /^etcd\.yml: not YAML: .* at line 4, column 7$/)
      yield* invalid(EtcdConfig.parseYaml("name: a\nname: b\nnam: c\n"))
    })
  )

  it.effect("shows no secret that lacks its quotes", () =>
    Effect.gen(function* () {
      for (const value of [
        "*hunter2",
        "[*hunter2]",
        "{a: *hunter2}",
        "@hunter2",
        "%hunter2",
        "`hunter2",
        "'hunter2",
        "hunter2: x"
      ]) {
        const text = `discovery-config:\n  client:\n    auth:\n      password: ${value}\n`
        const result = yield* Effect.result(EtcdConfig.parseYaml(text, "etcd.yml"))
        assert.notInclude(JSON.stringify(result), "hunter2")
      }
    })
  )

  it.effect("reads booleans and texts as etcd does, which reads YAML 1.1", () =>
    Effect.gen(function* () {
      for (const word of ["y", "Yes", "YES", "on", "On", "True", "TRUE"]) {
        assert.deepStrictEqual(yield* EtcdConfig.parseYaml(`pre-vote: ${word}\n`), { preVote: true })
      }
      for (const word of ["n", "No", "NO", "off", "Off", "False", "FALSE"]) {
        assert.deepStrictEqual(yield* EtcdConfig.parseYaml(`pre-vote: ${word}\n`), { preVote: false })
      }
      for (const word of ["t", "1", "0", "yEs", "enabled"]) yield* invalid(EtcdConfig.parseYaml(`pre-vote: ${word}\n`))
      const options = yield* EtcdConfig.parseYaml(
        "name: 1\ninitial-cluster-token: 1.5\nhost-whitelist: [1, a]\ndiscovery-config:\n  client:\n    auth:\n      password: 5\n"
      )
      assert.deepStrictEqual(Redacted.value(options.discoveryPassword!), "5")
      assert.deepStrictEqual(options, {
        name: "1",
        initialClusterToken: "1.5",
        hostWhitelist: ["1", "a"],
        discoveryPassword: options.discoveryPassword!
      })
      yield* invalid(EtcdConfig.parseYaml("name: 12345678901234567890\n"))
    })
  )

  const sample = (release: string) =>
    EtcdConfig.fromYaml(
      fileURLToPath(new URL(`./fixtures/config/etcd-${release}.conf.yml.sample`, import.meta.url))
    ).pipe(Effect.provide(NodeServices.layer))

  it.effect("takes etcd's own samples, where they switch off what there is no more", () =>
    Effect.gen(function* () {
      const old = yield* sample("3.3")
      for (const release of ["3.4.23", "3.5.35"]) {
        assert.isAbove((yield* resolveFor(old, release)).warnings.length, 0)
      }
      // It asks for the v2 API.
      assert.deepStrictEqual(yield* problemsOf(old, "3.6.16"), ["enable-v2"])
      const recent = yield* sample("3.6")
      for (const release of ["3.5.35", "3.6.16", "3.7.3"]) yield* resolveFor(recent, release)
      const { options, warnings } = yield* resolveFor(recent, "3.6.16")
      assert.isUndefined(options.proxy)
      assert.include(warnings.join("\n"), "does not need: discovery-fallback, proxy, proxy-failure-wait")
    })
  )

  it.effect("refuses what etcd would take no notice of, where it says something", () =>
    Effect.gen(function* () {
      const off = "peer-transport-security:\n  peer-client-cert-auth: false\n  ca-file:\n"
      assert.deepStrictEqual(yield* EtcdConfig.parseYaml(off), {})
      const on = yield* invalid(
        EtcdConfig.parseYaml("peer-transport-security:\n  peer-client-cert-auth: true\nlog-output: a.log\n")
      )
      assert.include(on.message, "write peer-transport-security.client-cert-auth (line 2)")
      assert.include(on.message, "write log-outputs (line 3)")
    })
  )

  it.effect("names unknown options by their path, and takes an empty file", () =>
    Effect.gen(function* () {
      const reason = yield* invalid(EtcdConfig.parseYaml("peer-transport-security:\n  cert-fil: a\n"))
      assert.include(reason.message, "did you mean peer-transport-security.cert-file? (line 2)")
      yield* invalid(EtcdConfig.parseYaml("- a\n"))
      assert.deepStrictEqual(yield* EtcdConfig.parseYaml("# nothing\n"), {})
    })
  )
})

describe("config", () => {
  const read = (provider: ConfigProvider.ConfigProvider, prefix?: string) => EtcdConfig.config(prefix).parse(provider)

  it.effect("reads etcd's environment variables", () =>
    Effect.gen(function* () {
      const env = {
        ETCD_NAME: "env",
        ETCD_LISTEN_CLIENT_URLS: "http://127.0.0.1:1,http://127.0.0.1:2",
        ETCD_INITIAL_CLUSTER: "env=http://127.0.0.1:3",
        ETCD_HEARTBEAT_INTERVAL: "50",
        ETCD_PRE_VOTE: "true",
        ETCD_SNAPSHOT_COUNT: "5000",
        ETCD_PROXY_FAILURE_WAIT: "5000",
        ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME: "5s",
        ETCD_BINARY: "/usr/bin/etcd",
        OTHER: "x"
      }
      const options = yield* read(ConfigProvider.fromEnv({ env }))
      assert.deepStrictEqual(options, {
        name: "env",
        listenClientUrls: ["http://127.0.0.1:1", "http://127.0.0.1:2"],
        initialCluster: { env: ["http://127.0.0.1:3"] },
        heartbeatInterval: Duration.millis(50),
        preVote: true,
        snapshotCount: 5000,
        proxyFailureWait: Duration.millis(5000),
        corruptCheckTime: options.corruptCheckTime!
      })
      assert.strictEqual(Duration.toSeconds(options.corruptCheckTime!), 5)
    })
  )

  it.effect("reads booleans as etcd reads them in its environment", () =>
    Effect.gen(function* () {
      for (const text of ["1", "t", "T", "TRUE", "true", "True"]) {
        assert.deepStrictEqual(yield* read(ConfigProvider.fromEnv({ env: { ETCD_PRE_VOTE: text } })), { preVote: true })
      }
      for (const text of ["0", "f", "F", "FALSE", "false", "False"]) {
        const options = yield* read(ConfigProvider.fromEnv({ env: { ETCD_PRE_VOTE: text } }))
        assert.deepStrictEqual(options, { preVote: false })
      }
    })
  )

  it.effect("reads nested values by the names of TypeScript and of etcd, below any prefix", () =>
    Effect.gen(function* () {
      const provider = ConfigProvider.fromUnknown({
        database: {
          listenClientUrls: ["http://127.0.0.1:1"],
          "max-txn-ops": 256,
          initialCluster: { a: "http://127.0.0.1:3" },
          autoTls: false
        }
      })
      assert.deepStrictEqual(yield* read(provider, "database"), {
        listenClientUrls: ["http://127.0.0.1:1"],
        maxTxnOps: 256,
        initialCluster: { a: ["http://127.0.0.1:3"] },
        autoTls: false
      })
      assert.deepStrictEqual(yield* read(provider), {})
    })
  )

  it.effect("lists every wrong value", () =>
    Effect.gen(function* () {
      const env = { ETCD_MAX_TXN_OPS: "many", ETCD_PRE_VOTE: "perhaps", ETCD_ELECTION_TIMEOUT: "5 bananas" }
      const error = yield* Effect.flip(read(ConfigProvider.fromEnv({ env })))
      for (const part of ["maxTxnOps", "many", "preVote", "perhaps", "electionTimeout", "5 bananas"]) {
        assert.include(error.message, part)
      }
    })
  )
})

describe("resolve", () => {
  it.effect("makes one node that listens only on sockets", () =>
    Effect.gen(function* () {
      const resolved = yield* resolveFor({})
      assert.deepStrictEqual(EtcdConfig.toFlags(resolved), [
        "--name=default",
        "--data-dir=/data",
        "--listen-peer-urls=unix://peer.sock:0",
        "--listen-client-urls=unix://client.sock:0",
        "--initial-advertise-peer-urls=http://localhost:2380",
        "--initial-cluster=default=http://localhost:2380",
        "--advertise-client-urls=http://localhost:0",
        "--host-whitelist=localhost,127.0.0.1",
        "--logger=zap",
        "--log-outputs=stdout",
        "--log-level=info"
      ])
      assert.deepStrictEqual(resolved.warnings, [])
      assert.deepStrictEqual(EtcdConfig.endpoints(resolved, "/run/etcd"), ["unix:///run/etcd/client.sock:0"])
      assert.isTrue(EtcdConfig.showsRole(resolved))
    })
  )

  it.effect("advertises what is listened on, and listens on what is advertised", () =>
    Effect.gen(function* () {
      const listening = yield* resolveFor({
        name: "a",
        listenClientUrls: "http://10.0.0.1:1",
        listenPeerUrls: "https://10.0.0.1:2"
      })
      assert.deepStrictEqual(listening.options.advertiseClientUrls, ["http://10.0.0.1:1"])
      assert.deepStrictEqual(listening.options.initialAdvertisePeerUrls, ["https://10.0.0.1:2"])
      assert.deepStrictEqual(listening.options.initialCluster, { a: ["https://10.0.0.1:2"] })
      assert.deepStrictEqual(listening.options.hostWhitelist, ["localhost", "127.0.0.1", "10.0.0.1"])
      assert.isTrue(listening.options.peerAutoTls)
      const advertising = yield* resolveFor({
        name: "a",
        advertiseClientUrls: "http://127.0.0.1:1",
        initialCluster: "a=http://127.0.0.1:2,b=http://127.0.0.1:3"
      })
      assert.deepStrictEqual(advertising.options.listenClientUrls, ["http://127.0.0.1:1"])
      assert.deepStrictEqual(advertising.options.listenPeerUrls, ["http://127.0.0.1:2"])
      assert.deepStrictEqual(advertising.options.initialAdvertisePeerUrls, ["http://127.0.0.1:2"])
      assert.isUndefined(advertising.options.peerAutoTls)
    })
  )

  it.effect("leaves peers with a certificate of their own to it", () =>
    Effect.gen(function* () {
      const { options } = yield* resolveFor({
        listenPeerUrls: "https://127.0.0.1:2",
        peerCertFile: "peer.pem",
        peerKeyFile: "/keys/peer.pem"
      })
      assert.isUndefined(options.peerAutoTls)
      assert.strictEqual(options.peerCertFile, "/home/user/peer.pem")
      assert.strictEqual(options.peerKeyFile, "/keys/peer.pem")
    })
  )

  it.effect("turns wildcards into loopback for those who connect, and says so", () =>
    Effect.gen(function* () {
      const resolved = yield* resolveFor({ listenClientUrls: ["http://0.0.0.0:1", "http://[::]:2"] })
      assert.deepStrictEqual(EtcdConfig.endpoints(resolved, "/run"), ["http://127.0.0.1:1", "http://[::1]:2"])
      assert.deepStrictEqual(resolved.options.advertiseClientUrls, ["http://127.0.0.1:1", "http://[::1]:2"])
      assert.isTrue(resolved.warnings.some((warning) => warning.includes("advertise-client-urls")))
      assert.isTrue(resolved.warnings.some((warning) => warning.includes("from other machines")))
    })
  )

  it.effect("keeps standard output among the log outputs, and knows when the log hides the role", () =>
    Effect.gen(function* () {
      const file = yield* resolveFor({ logOutputs: "default,etcd.log", enableLogRotation: true })
      assert.deepStrictEqual(file.options.logOutputs, ["stdout", "/home/user/etcd.log"])
      for (const logOutputs of ["stderr", "default", "stdout,stderr", "/dev/stderr,/dev/fd/1", "/dev/null,stderr"]) {
        assert.deepStrictEqual((yield* resolveFor({ logOutputs })).options.logOutputs, ["stdout"])
      }
      assert.isTrue(EtcdConfig.showsRole(file))
      assert.isFalse(EtcdConfig.showsRole(yield* resolveFor({ logLevel: "warn" })))
      const plain = yield* resolveFor({ logFormat: "console" }, "3.6.14")
      assert.isTrue(EtcdConfig.showsRole(plain))
      assert.lengthOf(plain.warnings, 0)
      assert.isFalse(EtcdConfig.showsRole(yield* resolveFor({ logOutputs: "systemd/journal" })))
    })
  )

  it.effect("does not derive members where a discovery service knows them", () =>
    Effect.gen(function* () {
      const { options } = yield* resolveFor({ discoverySrv: "example.com" })
      assert.isUndefined(options.initialCluster)
    })
  )

  it.effect("makes paths absolute, also those of the keys for tokens", () =>
    Effect.gen(function* () {
      const flags = yield* flagsFor({ authToken: "jwt,pub-key=a.pub,priv-key=/k,sign-method=RS256", walDir: "wal" })
      assert.includeMembers(flags as Array<string>, [
        "--auth-token=jwt,pub-key=/home/user/a.pub,priv-key=/k,sign-method=RS256",
        "--wal-dir=/home/user/wal"
      ])
    })
  )

  const refused: ReadonlyArray<readonly [string, EtcdConfig.Input, option: string, release?: string]> = [
    ["an election that is too close to the heartbeat", { electionTimeout: 400 }, "election-timeout"],
    ["an election that is too far", { electionTimeout: "51s" }, "election-timeout"],
    ["no heartbeat", { heartbeatInterval: 0 }, "heartbeat-interval"],
    ["a node outside of its cluster", { name: "x", initialCluster: "a=http://127.0.0.1:1" }, "initial-cluster"],
    [
      "two members with one URL",
      { name: "a", initialCluster: "a=http://127.0.0.1:1,b=http://127.0.0.1:1" },
      "initial-cluster"
    ],
    [
      "another URL than the cluster has",
      { name: "a", initialAdvertisePeerUrls: "http://127.0.0.1:2", initialCluster: "a=http://127.0.0.1:1" },
      "initial-advertise-peer-urls"
    ],
    ["an address that is none", { listenClientUrls: "http://[1:2]:1" }, "listen-client-urls"],
    [
      "two ways to find members",
      { discoverySrv: "example.com", initialCluster: "default=http://127.0.0.1:1" },
      "discovery-srv"
    ],
    ["half a discovery service", { discoveryToken: "t" }, "discovery-endpoints", "3.6.14"],
    ["to listen on a name", { listenClientUrls: "http://example.com:1" }, "listen-client-urls"],
    ["to guess where to listen", { advertiseClientUrls: "http://example.com:1" }, "listen-client-urls"],
    ["to guess where to listen for peers", { initialCluster: "default=http://example.com:1" }, "listen-peer-urls"],
    [
      "clients and peers on one address",
      { listenClientUrls: "http://localhost:1", listenPeerUrls: "http://127.0.0.1:1" },
      "listen-client-urls"
    ],
    ["a path of a socket in old versions", { listenClientUrls: "unix:///run/a.sock" }, "listen-client-urls", "3.4.23"],
    ["a path of a socket in old versions", { listenClientUrls: "unix://a.sock" }, "listen-client-urls", "3.5.12"],
    [
      "to advertise a path before 3.7",
      { advertiseClientUrls: "unix:///run/a.sock" },
      "advertise-client-urls",
      "3.6.14"
    ],
    ["a socket's path that is too long", { listenClientUrls: `unix:///${"a".repeat(107)}` }, "listen-client-urls"],
    ["https without a certificate", { listenClientUrls: "https://127.0.0.1:1" }, "listen-client-urls"],
    ["https peers without any", { listenPeerUrls: "https://127.0.0.1:1", peerAutoTls: false }, "listen-peer-urls"],
    ["a certificate without its key", { certFile: "a.pem" }, "key-file"],
    ["a key without its certificate", { peerKeyFile: "a.pem" }, "peer-cert-file"],
    [
      "names and common names at once",
      { peerCertAllowedCn: "a", peerCertAllowedHostname: "b" },
      "peer-cert-allowed-cn"
    ],
    [
      "several names before they were a list",
      { clientCertAllowedHostname: "a,b" },
      "client-cert-allowed-hostname",
      "3.5.14"
    ],
    ["TLS versions in the wrong order", { tlsMinVersion: "TLS1.3", tlsMaxVersion: "TLS1.2" }, "tls-min-version"],
    ["cipher suites for TLS 1.3", { tlsMinVersion: "TLS1.3", cipherSuites: "TLS_A" }, "cipher-suites"],
    [
      "revisions as a time",
      { autoCompactionMode: "revision", autoCompactionRetention: "5m" },
      "auto-compaction-retention"
    ],
    ["no time between checks", { compactHashCheckTime: 0 }, "compact-hash-check-time"],
    [
      "leases kept without being checked",
      { enableLeaseCheckpointPersist: true },
      "experimental-enable-lease-checkpoint-persist"
    ],
    ["rotation without a file", { enableLogRotation: true }, "enable-log-rotation"],
    ["a file for a logger that knows none", { logger: "capnslog", logOutputs: "a.log" }, "log-outputs", "3.4.23"],
    ["an unknown kind of token", { authToken: "paseto" }, "auth-token"],
    ["an unknown option of a token", { authToken: "jwt,sign-method=RS256,secret=x" }, "auth-token"],
    ["a token without its method", { authToken: "jwt,ttl=5m" }, "auth-token"],
    ["any and some origins", { cors: "*,http://127.0.0.1:1" }, "cors"],
    ["an option of a newer version", { maxLearners: 2 }, "max-learners"],
    ["an option of an older version", { debug: true }, "debug"],
    ["an option before its patch", { tlsMinVersion: "TLS1.3" }, "tls-min-version", "3.5.7"],
    ["a value of an older version", { logger: "capnslog" }, "logger"],
    ["a feature that does not exist", { featureGates: { InitialCorruptChek: true } }, "feature-gates", "3.6.14"],
    ["a feature of a newer version", { featureGates: { FastLeaseKeepAlive: true } }, "feature-gates", "3.6.14"],
    ["a feature that was no flag", { featureGates: { SetMemberLocalAddr: true } }, "feature-gates"],
    [
      "a feature on and off",
      { featureGates: { InitialCorruptCheck: false }, initialCorruptCheck: true },
      "experimental-initial-corrupt-check",
      "3.6.14"
    ]
  ]

  it.effect.each(refused)("refuses %s", ([_, input, option, release]) =>
    Effect.map(problemsOf(input, release), (options) => assert.deepStrictEqual(options, [option]))
  )

  it.effect("leaves out what says what a version does anyway", () =>
    Effect.gen(function* () {
      for (const current of [...versions, version("3.6.0"), version("3.4.9")]) {
        for (const key of Table.keys) {
          const { gate, implied, kind } = Table.get(key)
          if (implied === undefined) continue
          const known =
            (gate !== undefined && Table.nameFor("featureGates", current) !== undefined) ||
            (Table.nameFor(key, current) !== undefined && Table.contains(kind.limits[String(implied)] ?? "*", current))
          const given = { [key]: implied } as EtcdConfig.Input
          const { options, warnings } = yield* EtcdConfig.resolve(given, { version: current, dataDir: "/data" })
          const told = `${key} for ${SemVer.format(current)}`
          assert.strictEqual(options[key] === undefined && options.featureGates === undefined, !known, told)
          assert.strictEqual(warnings.join().includes("left out"), !known, told)
        }
      }
      const features = yield* resolveFor(
        { featureGates: { FastLeaseKeepAlive: false, LeaseCheckpoint: true } },
        "3.6.14"
      )
      assert.deepStrictEqual(features.options.featureGates, { LeaseCheckpoint: true })
    })
  )

  it.effect("does not leave out what a version would need to obey it", () =>
    Effect.gen(function* () {
      const needed: ReadonlyArray<readonly [EtcdConfig.Input, string]> = [
        [{ enableV2: true }, "enable-v2"],
        [{ proxy: "on" }, "proxy"],
        [{ proxyFailureWait: 4000 }, "proxy-failure-wait"],
        [{ discoverySrv: "example.com", discoveryFallback: "proxy" }, "discovery-fallback"]
      ]
      for (const [input, option] of needed) assert.deepStrictEqual(yield* problemsOf(input, "3.6.14"), [option])
      assert.deepStrictEqual(yield* problemsOf({ tlsMinVersion: "TLS1.2" }, "3.4.23"), ["tls-min-version"])
    })
  )

  it.effect("serves no JSON gateway where etcd would end because of it", () =>
    Effect.gen(function* () {
      const port = { listenClientUrls: "http://127.0.0.1:1" }
      const both = { listenClientUrls: ["http://127.0.0.1:1", "unix://a:0"] }
      const gatewayOf = (input: EtcdConfig.Input, release: string) =>
        Effect.map(resolveFor(input, release), ({ options, warnings }) => [
          options.enableGrpcGateway,
          warnings.filter((warning) => warning.includes("gateway")).length
        ])
      for (const release of ["3.4.28", "3.4.45"]) {
        assert.deepStrictEqual(yield* gatewayOf({}, release), [false, 0])
        assert.deepStrictEqual(yield* gatewayOf(both, release), [false, 1])
        assert.deepStrictEqual(yield* gatewayOf(port, release), [undefined, 0])
        assert.deepStrictEqual(yield* problemsOf({ enableGrpcGateway: true }, release), ["enable-grpc-gateway"])
      }
      for (const release of ["3.4.27", "3.5.0", "3.7.3"]) {
        assert.deepStrictEqual(yield* gatewayOf(both, release), [undefined, 0])
        assert.deepStrictEqual(yield* gatewayOf({ enableGrpcGateway: true }, release), [true, 0])
      }
    })
  )

  it.effect("serves HTTP on a socket of its own beside an encrypted client URL, which asks for the same", () =>
    Effect.gen(function* () {
      const secure: EtcdConfig.Input = {
        name: "a b/..",
        listenClientUrls: "https://127.0.0.1:1",
        certFile: "/c",
        keyFile: "/k"
      }
      const httpOf = (input: EtcdConfig.Input, release?: string) =>
        Effect.map(resolveFor({ ...secure, ...input }, release), ({ options }) => options.listenClientHttpUrls)
      assert.deepStrictEqual(yield* httpOf({}), ["unixs://a_20_b_2f_...http:0"])
      const [ofLong, ofAnother] = [
        yield* httpOf({ name: `${"n".repeat(90)}1` }),
        yield* httpOf({ name: `${"n".repeat(90)}2` })
      ]
      assert.notDeepEqual(ofLong, ofAnother)
      assert.isBelow(ofLong![0]!.length, 60)
      assert.deepStrictEqual((yield* resolveFor(secure)).warnings, [])
      assert.isUndefined(yield* httpOf({}, "3.4.23"))
      assert.isUndefined(yield* httpOf({}, "3.5.7"))
      assert.isUndefined(yield* httpOf({ listenClientUrls: "http://127.0.0.1:1" }))
      assert.isUndefined(yield* httpOf({ listenClientHttpUrls: [] }))
      assert.isUndefined(yield* httpOf({ listenClientHttpUrls: [] }, "3.4.23"))
      assert.isUndefined(yield* httpOf({ enableV2: true }))
      assert.isUndefined(yield* httpOf({ enableGrpcGateway: true }))
      assert.deepStrictEqual(yield* httpOf({ listenClientHttpUrls: "https://127.0.0.1:2" }), ["https://127.0.0.1:2"])
      // These would take no notice of revoked certificates.
      for (const release of ["3.5.30", "3.6.12"]) {
        assert.isUndefined(yield* httpOf({ clientCrlFile: "/crl" }, release))
        const own = yield* resolveFor(
          { ...secure, clientCrlFile: "/crl", listenClientHttpUrls: "https://127.0.0.1:2" },
          release
        )
        assert.include(own.warnings.join(), "revoked certificates")
      }
      for (const release of ["3.5.32", "3.6.13", "3.7.1"]) {
        assert.isDefined(yield* httpOf({ clientCrlFile: "/crl" }, release))
      }
      const open = yield* resolveFor({ ...secure, listenClientUrls: "https://10.0.0.1:1" })
      assert.include(open.warnings.join(), "https://10.0.0.1:1 serves gRPC alone")
      const mixed = yield* resolveFor({ ...secure, listenClientUrls: "https://127.0.0.1:1,http://127.0.0.1:2" })
      assert.include(mixed.warnings.join(), "https://127.0.0.1:1, http://127.0.0.1:2 serves gRPC alone")
    })
  )

  it.effect("lists all of it in one message, with the version", () =>
    Effect.gen(function* () {
      const reason = yield* invalid(resolveFor({ name: "a", electionTimeout: 1, maxLearners: 1, certFile: "x" }))
      assert.lengthOf(reason.problems, 3)
      assert.match(reason.message, /^The configuration of a for etcd 3\.5\.30 has 3 problems:\n/)
    })
  )
})

describe("what makes no sense", () => {
  const wiped = Redacted.make("hunter2")
  Redacted.wipeUnsafe(wiped)
  const circular: { [name: string]: unknown } = {}
  circular.self = circular
  const garbage: ReadonlyArray<unknown> = [
    -5n,
    Symbol("x"),
    circular,
    [circular],
    () => 5,
    new Map([["seconds", 5]]),
    new Date(Number.NaN),
    new Uint8Array(3),
    [5n],
    { a: 5n },
    { seconds: 1, minuts: 2 },
    { seconds: Number.NaN },
    Number.NaN,
    Number.POSITIVE_INFINITY,
    -1.5,
    "a\0b",
    "a\ud800",
    wiped,
    Redacted.make(5)
  ]

  it("is refused by every option, and is no defect", () => {
    for (const key of Table.keys) {
      for (const value of garbage) {
        const result = Effect.runSync(Effect.result(EtcdConfig.decode({ [key]: value } as EtcdConfig.Input)))
        const told = `${key}: ${String(value)}`
        if (Result.isSuccess(result)) return assert.fail(`${told} is taken: ${JSON.stringify(result.success)}`)
        assert.strictEqual(result.failure.reason._tag, "InvalidConfig", told)
        assert.include(result.failure.message, key)
        assert.notInclude(result.failure.message, "hunter2")
      }
    }
  })

  it("is a name that is blank", () => {
    for (const key of ["name", "dataDir", "certFile", "initialClusterToken"] as const) {
      const { failure } = Effect.runSync(Effect.result(EtcdConfig.decode({ [key]: "  " }))) as Result.Failure<
        unknown,
        EtcdProcessError.EtcdProcessError
      >
      assert.include(failure.message, `${key}: must not be blank`)
    }
  })
})

describe("any input", () => {
  const anyRelease = fc.constantFrom(...versions)
  const context = (release: SemVer.SemVer) => ({ version: release, dataDir: "/data" })
  const noDefect = <A>(effect: Effect.Effect<A, EtcdProcessError.EtcdProcessError>) => {
    const result = Effect.runSync(Effect.result(effect))
    if (Result.isFailure(result)) assert.strictEqual(result.failure.reason._tag, "InvalidConfig")
    else assert.isDefined(result.success)
  }
  const words = fc.constantFrom(
    "1",
    "a=http://127.0.0.1:1",
    "http://[::1]:2",
    "unix://a:0",
    "5s",
    "true",
    "a,b",
    "\0",
    "{}",
    "*"
  )
  const anything = fc.oneof(
    words,
    fc.string(),
    fc.anything({ withBigInt: true, withDate: true, withNullPrototype: true })
  )
  const anyOptions = fc.dictionary(fc.constantFrom(...Table.keys), anything, { maxKeys: 8 })

  it("becomes options or InvalidConfig, and never a defect", () => {
    fc.assert(
      fc.property(anyOptions, anyRelease, (options, release) =>
        noDefect(Effect.map(EtcdConfig.resolve(options as EtcdConfig.Input, context(release)), EtcdConfig.toFlags))
      ),
      { numRuns: 500 }
    )
    const lines = fc.array(
      fc.tuple(
        fc.constantFrom(...Table.keyByName.keys(), "[etcd]", "socket-options", " - "),
        fc.constantFrom(" = ", ": ", ":\n  "),
        anything.map((value) => fc.stringify(value))
      ),
      { maxLength: 6 }
    )
    const text = lines.map((lines) => lines.map((parts) => parts.join("")).join("\n"))
    fc.assert(
      fc.property(fc.oneof(text, fc.string()), (text) => {
        noDefect(EtcdConfig.parseToml(`[etcd]\n${text}`))
        noDefect(EtcdConfig.parseToml(text))
        noDefect(EtcdConfig.parseYaml(text))
      }),
      { numRuns: 500 }
    )
  })
})

describe("toFlags", () => {
  const has = (input: EtcdConfig.Input, release: string, flag: string) =>
    Effect.map(flagsFor(input, release), (flags) => assert.include(flags, flag))

  it.effect("spells values as etcd reads them", () =>
    Effect.gen(function* () {
      const flags = yield* flagsFor({
        heartbeatInterval: "50 millis",
        electionTimeout: "2s",
        backendBatchInterval: Duration.micros(1500n),
        grpcKeepaliveInterval: 0,
        watchProgressNotifyInterval: "90 minutes",
        quotaBackendBytes: "unlimited",
        maxRequestBytes: "2 MiB",
        autoCompactionRetention: "30m",
        preVote: false,
        cors: ["http://a:1", "http://b:2"]
      })
      assert.includeMembers(flags as Array<string>, [
        "--heartbeat-interval=50",
        "--election-timeout=2000",
        "--backend-batch-interval=1500us",
        "--grpc-keepalive-interval=0s",
        "--experimental-watch-progress-notify-interval=90m",
        "--quota-backend-bytes=-1",
        "--max-request-bytes=2097152",
        "--auto-compaction-retention=30m",
        "--pre-vote=false",
        "--cors=http://a:1,http://b:2"
      ])
    })
  )

  it.effect("uses the name of each version, and features from 3.6 on", () =>
    Effect.gen(function* () {
      yield* has({ corruptCheckTime: "5s" }, "3.4.23", "--experimental-corrupt-check-time=5s")
      yield* has({ corruptCheckTime: "5s" }, "3.6.14", "--corrupt-check-time=5s")
      yield* has({ backendBboltFreelistType: "map" }, "3.4.23", "--experimental-backend-bbolt-freelist-type=map")
      yield* has({ backendBboltFreelistType: "map" }, "3.5.30", "--backend-bbolt-freelist-type=map")
      yield* has({ initialCorruptCheck: true }, "3.5.30", "--experimental-initial-corrupt-check=true")
      yield* has({ initialCorruptCheck: true }, "3.7.1", "--feature-gates=InitialCorruptCheck=true")
      yield* has({ featureGates: { InitialCorruptCheck: true } }, "3.5.30", "--experimental-initial-corrupt-check=true")
    })
  )

  it.effect("keeps secrets off the command line", () =>
    Effect.gen(function* () {
      const resolved = yield* resolveFor(
        { discoveryToken: "t", discoveryEndpoints: "http://a:1", discoveryUser: "me", discoveryPassword: "hunter2" },
        "3.6.14"
      )
      assert.notInclude(EtcdConfig.toFlags(resolved).join(" "), "hunter2")
      assert.deepStrictEqual(EtcdConfig.toEnvironment(resolved), {
        ETCD_DISCOVERY_USER: "me",
        ETCD_DISCOVERY_PASSWORD: "hunter2"
      })
      // A password may stand in a URL as well.
      const urls = { discovery: "http://me:hunter2@a:1/token", discoveryProxy: "http://me:hunter2@b:1" }
      const older = yield* resolveFor(urls, "3.5.30")
      assert.notInclude(EtcdConfig.toFlags(older).join(" "), "hunter2")
      assert.deepStrictEqual(EtcdConfig.toEnvironment(older), {
        ETCD_DISCOVERY: urls.discovery,
        ETCD_DISCOVERY_PROXY: urls.discoveryProxy
      })
    })
  )

  it.effect("has no password where etcd looks at none", () =>
    Effect.gen(function* () {
      const reason = yield* invalid(EtcdConfig.decode({ discoveryEndpoints: "http://me:hunter2@a:1" }))
      assert.include(reason.message, "write discovery-user and discovery-password")
      assert.notInclude(JSON.stringify(reason), "hunter2")
    })
  )
})

it.effect.each(versions)("resolves the defaults for %s", (current) =>
  Effect.gen(function* () {
    const resolved = yield* EtcdConfig.resolve({}, { version: current, dataDir: "/data" })
    assert.include(EtcdConfig.toFlags(resolved), "--logger=zap")
    const preset = yield* EtcdConfig.decode(EtcdConfig.ephemeral(current))
    assert.include(
      EtcdConfig.toFlags(yield* EtcdConfig.resolve(preset, { version: current, dataDir: "/data" })),
      "--unsafe-no-fsync=true"
    )
  })
)
