import * as NodeChildProcess from "node:child_process"
import * as NodeCrypto from "node:crypto"
import * as NodeFs from "node:fs"
import type * as NodeHttp from "node:http"
import { inspect } from "node:util"
import * as NodeZlib from "node:zlib"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as ByteSize from "effect/ByteSize"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Tar from "effect/encoding/Tar"
import * as Zip from "effect/encoding/Zip"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as PlatformError from "effect/PlatformError"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as SemVer from "effect/SemVer"
import * as Sink from "effect/Sink"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as EtcdBinary from "../src/EtcdBinary.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import { unpack } from "../src/internal/binary/unpack.ts"
import {
  archivePath,
  type Handler,
  host,
  release,
  releaseAt,
  root,
  type Server,
  says,
  sends,
  serve,
  settings,
  sha256,
  tarGz,
  tempDir,
  version,
  writeExecutable
} from "./support/binary/release.ts"
import { reasonOf } from "./support/effects.ts"
import { recorder } from "./support/spans.ts"
import { byTestClock, soon } from "./support/time.ts"

/** Everything that is logged while `effect` runs. */
const logged = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const lines: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      lines.push(`${logLevel} ${String(message)}`)
    })
    return Effect.as(Effect.provide(effect, Logger.layer([logger])), lines)
  })

/** Waits, in real time, until `condition` holds. */
const until = <E, R>(condition: Effect.Effect<boolean, E, R>) =>
  TestClock.withLive(Effect.repeat(condition, { until: (holds) => holds, schedule: Schedule.spaced("5 millis") }))

const isRunning = (pid: number) =>
  Effect.exit(Effect.try({ try: () => process.kill(pid, 0), catch: (cause) => cause })).pipe(Effect.map(Exit.isSuccess))

/** What `find` comes to on each `PATH`, for a user who may not do everything; undefined where only root is here. */
const findUnprivileged = (...paths: ReadonlyArray<ReadonlyArray<string>>) =>
  Effect.callback<ReadonlyArray<string> | undefined>((resume) => {
    const script = `
      import * as NodeServices from "@effect/platform-node/NodeServices"
      import * as ConfigProvider from "effect/ConfigProvider"
      import * as Effect from "effect/Effect"
      import * as EtcdBinary from "effect-etcd/EtcdBinary"
      const find = Effect.match(EtcdBinary.find(), { onSuccess: ({ path }) => path, onFailure: ({ message }) => message })
      const all = Effect.forEach(process.argv.slice(1), (PATH) =>
        Effect.provideService(find, ConfigProvider.ConfigProvider, ConfigProvider.fromUnknown({ PATH }))
      )
      console.log(JSON.stringify(await Effect.runPromise(Effect.provide(all, NodeServices.layer))))
    `
    const isRoot = process.getuid?.() === 0
    const setpriv = ["/usr/bin/setpriv", "/bin/setpriv"].find((path) => NodeFs.existsSync(path))
    if (isRoot && setpriv === undefined) return resume(Effect.succeed(undefined))
    const node = ["--conditions=effect-etcd-source", "--no-warnings", "--input-type=module", "-e", script]
    const child = NodeChildProcess.execFile(
      isRoot ? setpriv! : process.execPath,
      [
        ...(isRoot ? ["--bounding-set=-dac_override", process.execPath] : []),
        ...node,
        ...paths.map((directories) => directories.join(":"))
      ],
      { env: { XDG_CACHE_HOME: "/nonexistent" } },
      (error, stdout, stderr) =>
        resume(error === null ? Effect.succeed(JSON.parse(stdout)) : Effect.die(new Error(stderr || error.message)))
    )
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** Waits until a file tells the process ids of who wrote it. */
const pidsIn = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  yield* until(fs.exists(file))
  return (yield* fs.readFileString(file)).trim().split(/\s+/).map(Number)
})

/** Waits until processes have ended. Whoever has lost its parent may be a zombie for a while, or for ever. */
const ended = (pids: ReadonlyArray<number>) => {
  const isZombie = (pid: number) =>
    Result.getOrElse(
      Result.try(() => /\) Z/.test(NodeFs.readFileSync(`/proc/${pid}/stat`, "utf8"))),
      () => false
    )
  return Effect.forEach(pids, (pid) => until(Effect.map(isRunning(pid), (running) => !running || isZombie(pid))), {
    discard: true
  })
}

/** Kills what a test has left behind although it must not. */
const killed = (pids: ReadonlyArray<number>) =>
  Effect.sync(() => {
    for (const pid of pids) Result.try(() => process.kill(pid, "SIGKILL"))
  })

describe("EtcdBinary.find", () => {
  it.effect(
    "prefers the option, then ETCD_BINARY, then the first executable on the PATH, then the newest release",
    () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const dir = yield* tempDir
        const put = (path: string, version: string) =>
          Effect.andThen(
            fs.makeDirectory(`${dir}/${path}`, { recursive: true }),
            writeExecutable(`${dir}/${path}/etcd`, says(version))
          )
        const option = yield* put("option", "3.5.1")
        const variable = yield* put("variable", "3.5.2")
        const first = yield* put("first", "3.5.3")
        yield* put("second", "3.5.4")
        yield* fs.makeDirectory(`${dir}/directory/etcd`, { recursive: true })
        yield* fs.makeDirectory(`${dir}/plain`)
        yield* fs.writeFileString(`${dir}/plain/etcd`, says("3.5.5"), { mode: 0o644 })
        const host = `${process.platform === "darwin" ? "darwin" : "linux"}-${process.arch === "x64" ? "amd64" : "arm64"}`
        const cached = (version: string, platform: string) =>
          put(`cache/effect-etcd/etcd-v${version}-${platform}-0123456789ab`, version)
        yield* cached("3.5.9", host)
        const newest = yield* cached("3.5.10", host)
        yield* cached("3.6.0", "plan9-mips")
        yield* fs.makeDirectory(`${dir}/cache/effect-etcd/etcd-v3.7.0-${host}-0123456789ab`)

        const path = ["missing", "directory", "plain", "first", "second"].map((name) => `${dir}/${name}`).join(":")
        const all = { ETCD_BINARY: variable, PATH: path, XDG_CACHE_HOME: `${dir}/cache` }
        const findPath = (options: EtcdBinary.FindOptions | undefined, values: Record<string, string>) =>
          Effect.map(settings(values)(EtcdBinary.find(options)), (etcd) => etcd.path)

        assert.strictEqual(yield* findPath({ path: option }, all), option)
        assert.strictEqual(yield* findPath({}, all), variable)
        assert.strictEqual(yield* findPath({}, { ...all, ETCD_BINARY: "" }), first)
        const onlyCache = { XDG_CACHE_HOME: `${dir}/cache`, PATH: `${dir}/missing` }
        assert.strictEqual(yield* findPath({}, onlyCache), newest)
        assert.strictEqual(yield* findPath({ cacheDirectory: `${dir}/cache/effect-etcd` }, { PATH: dir }), newest)
      }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("answers with an absolute path, whatever it was told is relative", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const dir = yield* tempDir
      const relative = path.relative(process.cwd(), dir)
      const host = `${process.platform === "darwin" ? "darwin" : "linux"}-${process.arch === "x64" ? "amd64" : "arm64"}`
      const put = (directory: string) =>
        Effect.andThen(
          fs.makeDirectory(`${dir}/${directory}`, { recursive: true }),
          writeExecutable(`${dir}/${directory}/etcd`, says("3.5.1"))
        )
      const onPath = yield* put("bin")
      const cached = yield* put(`etcd-v3.5.1-${host}-0123456789ab`)
      const inHome = yield* put(
        `home/${process.platform === "darwin" ? "Library/Caches" : ".cache"}/effect-etcd/etcd-v3.5.1-${host}-0123456789ab`
      )
      const findPath = (values: Record<string, string>, options: EtcdBinary.FindOptions = {}) =>
        Effect.map(settings(values)(EtcdBinary.find(options)), (etcd) => etcd.path)

      assert.strictEqual(yield* findPath({ PATH: `${relative}/bin` }), onPath)
      assert.strictEqual(yield* findPath({ ETCD_BINARY: `${relative}/bin/etcd` }), onPath)
      assert.strictEqual(yield* findPath({}, { path: `${relative}/bin/etcd` }), onPath)
      assert.strictEqual(yield* findPath({}, { cacheDirectory: relative }), cached)
      assert.strictEqual(yield* findPath({ HOME: `${relative}/home` }), inHome)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("does not search on when the path that was given leads to no executable", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const dir = yield* tempDir
      yield* fs.writeFileString(`${dir}/plain`, says("3.5.0"), { mode: 0o644 })
      yield* writeExecutable(`${dir}/etcd`, says("3.5.0"))
      const cases = [
        [`${dir}/none`, "does not exist"],
        [dir, "is a Directory, not a file"],
        [`${dir}/plain`, "is not executable"]
      ] as const
      for (const [given, why] of cases) {
        const byOption = yield* reasonOf(settings({ PATH: dir })(EtcdBinary.find({ path: given })))
        assert.strictEqual(byOption._tag, "BinaryNotFound")
        assert.include(byOption.message, `The executable given is ${JSON.stringify(given)}, which ${why}`)
        const byVariable = yield* reasonOf(settings({ ETCD_BINARY: given, PATH: dir })(EtcdBinary.findOrFetch()))
        assert.strictEqual(byVariable._tag, "BinaryNotFound")
        assert.include(byVariable.message, `ETCD_BINARY is ${JSON.stringify(given)}, which ${why}`)
      }
    }).pipe(Effect.provide([NodeServices.layer, FetchHttpClient.layer]))
  )

  it.effect("passes over what is on the PATH and cannot be run by this user, as a shell does", (context) =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const dir = yield* tempDir
      const put = Effect.fnUntraced(function* (name: string, mode: number) {
        yield* fs.makeDirectory(`${dir}/${name}`)
        yield* fs.writeFileString(`${dir}/${name}/etcd`, says("3.5.1"))
        yield* fs.chmod(`${dir}/${name}/etcd`, mode)
      })
      // For the group, which an owner who is not root does not belong to as far as this file goes.
      yield* put("others", 0o050)
      yield* put("plain", 0o644)
      yield* put("locked", 0o050)
      yield* fs.chmod(`${dir}/locked`, 0)
      yield* Effect.addFinalizer(() => Effect.orDie(fs.chmod(`${dir}/locked`, 0o700)))
      yield* fs.makeDirectory(`${dir}/directory/etcd`, { recursive: true })
      yield* fs.makeDirectory(`${dir}/broken`)
      yield* fs.symlink("nowhere", `${dir}/broken/etcd`)
      yield* fs.makeDirectory(`${dir}/loop`)
      yield* fs.symlink("etcd", `${dir}/loop/etcd`)
      yield* fs.writeFileString(`${dir}/file`, "")
      yield* put("good", 0o755)
      const bad = ["others", "plain", "locked", "directory", "broken", "loop", "file", "missing"]
      const bads = bad.map((name) => `${dir}/${name}`)
      const found = yield* findUnprivileged([...bads, `${dir}/good`], bads)
      if (found === undefined) return context.skip("nothing here takes root's privileges away")
      assert.strictEqual(found[0], `${dir}/good/etcd`)
      const reason = found[1]!
      for (const name of bad) assert.include(reason, `${dir}/${name}/etcd`)
      assert.match(reason, /others\/etcd, which this user may not run/)
      assert.match(reason, /plain\/etcd, which is not executable/)
      assert.match(reason, /directory\/etcd, which is a Directory, not a file/)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("lists every place it looked at and every way to get etcd", () =>
    Effect.gen(function* () {
      const dir = yield* tempDir
      const reason = yield* reasonOf(
        settings({ PATH: `${dir}/a:${dir}/b`, XDG_CACHE_HOME: `${dir}/cache` })(EtcdBinary.find())
      )
      if (reason._tag !== "BinaryNotFound") return assert.fail(reason._tag)
      assert.deepStrictEqual(reason.searched, [
        "ETCD_BINARY (not set)",
        `the package @effect-etcd/${process.platform}-${process.arch} (not installed)`,
        `${dir}/a/etcd`,
        `${dir}/b/etcd`,
        `a fetched release in ${dir}/cache/effect-etcd`
      ])
      for (const part of [...reason.searched, "apt-get install", "brew install", "github.com/etcd-io", "findOrFetch"]) {
        assert.include(reason.message, part)
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("refuses what is older than 3.4 and what is not an etcd, with what it said", () =>
    Effect.gen(function* () {
      const dir = yield* tempDir
      const cases = [
        [says("3.3.27"), "3.3.27", "is etcd 3.3.27, which is not supported"],
        [says("2.3.8"), "2.3.8", "is etcd 2.3.8, which is not supported"],
        [says("of no kind"), "etcd Version: of no kind", "is not an etcd"],
        ["#!/bin/sh\necho consul v1.20.1\n", "consul v1.20.1", 'answered "consul v1.20.1"'],
        ["#!/bin/sh\necho broken >&2\nexit 3\n", "broken", 'answered "broken"'],
        ["#!/bin/sh\nexit 0\n", "", "answered nothing"],
        ["#!/nonexistent/interpreter\n", "", "could not be run"],
        ["#!/bin/sh\nexec yes etcd\n", "etcd", 'answered "etcd"']
      ] as const
      for (const [index, [script, version, message]] of cases.entries()) {
        const path = yield* writeExecutable(`${dir}/etcd${index}`, script)
        const reason = yield* reasonOf(EtcdBinary.find({ path }))
        if (reason._tag !== "UnsupportedVersion") return assert.fail(reason._tag)
        assert.strictEqual(reason.path, path)
        assert.strictEqual(reason.version, version)
        assert.include(reason.message, message)
        assert.include(reason.message, path)
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("warns once of a version past its end of life or newer than what is tested", () =>
    Effect.gen(function* () {
      const dir = yield* tempDir
      const warnings = Effect.fnUntraced(function* (version: string) {
        const path = yield* writeExecutable(`${dir}/etcd-${version}`, says(version))
        return yield* logged(Effect.andThen(EtcdBinary.find({ path }), EtcdBinary.find({ path })))
      })
      const old = yield* warnings("3.4.23")
      assert.lengthOf(old, 1)
      assert.match(old[0]!, /^Warn .*etcd-3.4.23 is etcd 3.4.23, which is past its end of life/)
      for (const version of ["3.8.0-rc.0", "4.0.0"]) {
        const untested = yield* warnings(version)
        assert.lengthOf(untested, 1)
        assert.include(untested[0]!, `is etcd ${version}; effect-etcd is tested with 3.4 to 3.7 only`)
      }
      for (const version of ["3.5.0", "3.6.14", "3.7.1", "3.5.16+ds1"]) {
        assert.deepStrictEqual(yield* warnings(version), [])
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("asks an executable once, and again when it was replaced", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const dir = yield* tempDir
      const path = `${dir}/etcd`
      const counting = (version: string) => `${says(version)}echo asked >> ${dir}/count\n`
      const count = Effect.map(fs.readFileString(`${dir}/count`), (text) => text.trim().split("\n").length)
      yield* writeExecutable(path, counting("3.5.1"))
      const both = yield* Effect.all([EtcdBinary.find({ path }), EtcdBinary.find({ path })], {
        concurrency: "unbounded"
      })
      yield* EtcdBinary.find({ path })
      assert.deepStrictEqual(
        both.map((etcd) => SemVer.format(etcd.version)),
        ["3.5.1", "3.5.1"]
      )
      assert.strictEqual(yield* count, 1)

      yield* fs.remove(path)
      yield* writeExecutable(path, counting("3.6.10"))
      assert.strictEqual(SemVer.format((yield* EtcdBinary.find({ path })).version), "3.6.10")
      assert.strictEqual(yield* count, 2)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("asks again after a failure", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const dir = yield* tempDir
      const path = yield* writeExecutable(`${dir}/etcd`, `#!/bin/sh\ncat ${dir}/answer\n`)
      assert.strictEqual((yield* reasonOf(EtcdBinary.find({ path })))._tag, "UnsupportedVersion")
      yield* fs.writeFileString(`${dir}/answer`, "etcd Version: 3.5.7\n")
      assert.strictEqual(SemVer.format((yield* EtcdBinary.find({ path })).version), "3.5.7")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("answers whoever still waits when another caller is interrupted", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const dir = yield* tempDir
      const path = yield* writeExecutable(
        `${dir}/etcd`,
        `#!/bin/sh\ntouch ${dir}/started\nuntil [ -e ${dir}/go ]; do sleep 0.01; done\necho "etcd Version: 3.5.8"\n`
      )
      const first = yield* Effect.forkChild(EtcdBinary.find({ path }))
      yield* until(fs.exists(`${dir}/started`))
      const second = yield* Effect.forkChild(EtcdBinary.find({ path }), { startImmediately: true })
      yield* TestClock.withLive(Effect.sleep("20 millis"))
      yield* Fiber.interrupt(first)
      yield* fs.writeFileString(`${dir}/go`, "")
      assert.strictEqual(SemVer.format((yield* Fiber.join(second)).version), "3.5.8")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("does not hand ETCD_ variables on", () =>
    Effect.gen(function* () {
      const dir = yield* tempDir
      const path = yield* writeExecutable(`${dir}/etcd`, `#!/bin/sh\nenv > ${dir}/env\necho "etcd Version: 3.5.6"\n`)
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          process.env.ETCD_EFFECT_ETCD_TEST = "1"
        }),
        () =>
          Effect.sync(() => {
            delete process.env.ETCD_EFFECT_ETCD_TEST
          })
      )
      yield* EtcdBinary.find({ path })
      const env = yield* Effect.flatMap(FileSystem.FileSystem, (fs) => fs.readFileString(`${dir}/env`))
      assert.include(env, "PATH=")
      assert.notMatch(env, /^ETCD_/m)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("tells of an etcd that refuses this architecture what it is, and how to run it", () =>
    Effect.gen(function* () {
      const dir = yield* tempDir
      const logged = (message: string) =>
        `echo '{"level":"error","ts":"2026-11-29T03:47:05.835945Z","caller":"etcdmain/etcd.go:251","msg":"${message}","arch":"riscv64"}' >&2`
      const refusals = [
        // 3.4 to 3.5.
        `echo "etcd on unsupported platform without ETCD_UNSUPPORTED_ARCH=riscv64 set"`,
        // The last of 3.5, in the words of the opposite.
        logged("running etcd on unsupported architecture since ETCD_UNSUPPORTED_ARCH is set"),
        // 3.6 and newer.
        logged("Refusing to run etcd on unsupported architecture since ETCD_UNSUPPORTED_ARCH is not set")
      ]
      const variable = Effect.fnUntraced(function* (value: string) {
        yield* Effect.acquireRelease(
          Effect.sync(() => {
            process.env.ETCD_UNSUPPORTED_ARCH = value
          }),
          () =>
            Effect.sync(() => {
              delete process.env.ETCD_UNSUPPORTED_ARCH
            })
        )
      })
      for (const [index, refusal] of refusals.entries()) {
        const path = yield* writeExecutable(
          `${dir}/etcd${index}`,
          `#!/bin/sh\nif [ "$ETCD_UNSUPPORTED_ARCH" != riscv64 ]; then\n${refusal}\nexit 1\nfi\n` +
            `echo 'running etcd on unsupported architecture "riscv64" since ETCD_UNSUPPORTED_ARCH is set'\n` +
            `echo "etcd Version: 3.5.9"\n`
        )
        const reason = yield* reasonOf(EtcdBinary.find({ path }))
        assert.strictEqual(reason._tag, "UnsupportedVersion")
        assert.include(reason.message, "refuses to run on this architecture, riscv64")
        assert.include(reason.message, "set ETCD_UNSUPPORTED_ARCH=riscv64 in the environment of this program.")
        assert.notInclude(reason.message, "is not an etcd")
        const other = yield* Effect.scoped(Effect.andThen(variable("mips"), reasonOf(EtcdBinary.find({ path }))))
        assert.include(other.message, 'ETCD_UNSUPPORTED_ARCH=riscv64 in the environment of this program (it is "mips"')
        const etcd = yield* Effect.scoped(Effect.andThen(variable("riscv64"), EtcdBinary.find({ path })))
        assert.strictEqual(SemVer.format(etcd.version), "3.5.9")
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("reads the version whatever a wrapper prints before it, or beside it", () =>
    Effect.gen(function* () {
      const dir = yield* tempDir
      const chatter = [
        "printf 'looking for etcd... ' >&2",
        "printf 'looking for etcd... '",
        "printf 12 >&2; sleep 0.1",
        "seq 1 20000 >&2",
        "seq 1 20000"
      ]
      for (const [index, line] of chatter.entries()) {
        const path = yield* writeExecutable(
          `${dir}/etcd${index}`,
          says("3.5.9").replace("\n", () => `\n${line}\n`)
        )
        assert.strictEqual(SemVer.format((yield* EtcdBinary.find({ path })).version), "3.5.9", line)
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("does not wait for what a wrapper has left behind, and ends it", () =>
    Effect.gen(function* () {
      const dir = yield* tempDir
      const path = yield* writeExecutable(
        `${dir}/etcd`,
        `#!/bin/sh\nsleep 60 &\necho $! > ${dir}/pids\necho "etcd Version: 3.5.9"\n`
      )
      const etcd = yield* soon(EtcdBinary.find({ path }))
      assert.strictEqual(SemVer.format(etcd.version), "3.5.9")
      const pids = yield* pidsIn(`${dir}/pids`)
      yield* Effect.addFinalizer(() => killed(pids))
      for (const pid of pids) yield* until(Effect.map(isRunning(pid), (running) => !running))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect(
    "ends a wrapper that hangs with all that it has started, when it is interrupted and after ten seconds",
    () =>
      Effect.gen(function* () {
        const dir = yield* tempDir
        const hanging = (name: string) =>
          writeExecutable(
            `${dir}/${name}`,
            `#!/bin/sh\ntrap '' TERM\necho "looking for versions"\nsleep 60 &\n` +
              `echo $$ $! > ${dir}/${name}.part\nmv ${dir}/${name}.part ${dir}/${name}.pids\nwait\nsleep 60\n`
          )
        const interrupted = yield* Effect.forkChild(EtcdBinary.find({ path: yield* hanging("interrupted") }))
        const late = yield* Effect.forkChild(byTestClock(reasonOf(EtcdBinary.find({ path: yield* hanging("late") }))))
        const pids = [...(yield* pidsIn(`${dir}/interrupted.pids`)), ...(yield* pidsIn(`${dir}/late.pids`))]
        yield* Effect.addFinalizer(() => killed(pids))
        yield* TestClock.adjust("10 seconds")
        yield* Fiber.interrupt(interrupted)
        const reason = yield* Fiber.join(late)
        assert.include(reason.message, 'did not answer `--version` within 10s, but printed "looking for versions"')
        assert.include(reason.message, "It was ended. Is it an etcd, or a wrapper that finds one?")
        yield* ended(pids)
      }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("gives up on an executable that does not answer, and ends it", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const dir = yield* tempDir
      const path = yield* writeExecutable(
        `${dir}/etcd`,
        `#!/bin/sh\ntrap '' TERM\necho $$ > ${dir}/pid.part\nmv ${dir}/pid.part ${dir}/pid\nexec sleep 60\n`
      )
      const finding = yield* Effect.forkChild(byTestClock(reasonOf(EtcdBinary.find({ path }))))
      yield* until(fs.exists(`${dir}/pid`))
      const pid = Number(yield* fs.readFileString(`${dir}/pid`))
      assert.isTrue(yield* isRunning(pid))
      yield* TestClock.adjust("10 seconds")
      const reason = yield* Fiber.join(finding)
      assert.strictEqual(reason._tag, "UnsupportedVersion")
      assert.include(reason.message, "did not answer `--version` within 10s")
      assert.isFalse(yield* isRunning(pid))
    }).pipe(Effect.provide(NodeServices.layer))
  )
})

describe("EtcdBinary.cacheDirectory", () => {
  it.effect("follows XDG_CACHE_HOME where that is absolute, else the home directory", () =>
    Effect.gen(function* () {
      const at = (values: Record<string, string>) => settings(values)(EtcdBinary.cacheDirectory)
      const home = process.platform === "darwin" ? "/home/me/Library/Caches/effect-etcd" : "/home/me/.cache/effect-etcd"
      assert.strictEqual(yield* at({ XDG_CACHE_HOME: "/caches", HOME: "/home/me" }), "/caches/effect-etcd")
      assert.strictEqual(yield* at({ XDG_CACHE_HOME: "caches", HOME: "/home/me" }), home)
      assert.strictEqual(yield* at({ HOME: "/home/me" }), home)
    }).pipe(Effect.provide(NodeServices.layer))
  )
})

// -----------------------------------------------------------------------------
// fetch
// -----------------------------------------------------------------------------

const zip = (entries: ReadonlyArray<Zip.ContentEntry>) =>
  Stream.mkUint8Array(Stream.pipeThroughChannel(Stream.fromIterable(entries), Zip.encode()))

/** Sends the first half, and leaves the rest to `then`. */
const sendsHalf =
  (bytes: Uint8Array, then: (response: NodeHttp.ServerResponse) => void): Handler =>
  (_request, response) => {
    response.writeHead(200, { "content-length": bytes.length })
    response.write(bytes.subarray(0, bytes.length / 2), () => then(response))
  }

const listing = (directory: string) =>
  Effect.flatMap(FileSystem.FileSystem, (fs) => fs.readDirectory(directory, { recursive: true }))

/** Fetches into an empty directory, and answers why that fails and what it leaves there. */
const failure = Effect.fnUntraced(function* (server: Server, options: EtcdBinary.FetchOptions) {
  const cacheDirectory = yield* tempDir
  const reason = yield* reasonOf(
    EtcdBinary.fetch({ version, platform: "linux-amd64", cacheDirectory, baseUrl: server.baseUrl, ...options })
  )
  if (reason._tag !== "FetchFailed") return assert.fail(`${reason._tag}: ${reason.message}`)
  assert.include(reason.message, reason.url)
  assert.deepStrictEqual(yield* listing(cacheDirectory), [])
  return reason
})

const platform = Layer.mergeAll(NodeServices.layer, FetchHttpClient.layer)

describe("EtcdBinary.fetch", () => {
  it.effect("fetches, verifies and unpacks a release, and only etcd's executables of it", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const cacheDirectory = `${yield* tempDir}/new/cache`
      const archive = yield* tarGz(release)
      const checksum = sha256(archive)
      const server = yield* serve(sends(archive))
      const progress: Array<EtcdBinary.Progress> = []
      const etcd = yield* EtcdBinary.fetch({
        version,
        sha256: checksum.toUpperCase(),
        platform: "linux-amd64",
        baseUrl: `${server.baseUrl}/`,
        cacheDirectory,
        onProgress: (step) => Effect.sync(() => progress.push(step))
      })
      const directory = `${root}-${checksum.slice(0, 12)}`
      assert.strictEqual(etcd.path, `${cacheDirectory}/${directory}/etcd`)
      assert.strictEqual(SemVer.format(etcd.version), version)
      assert.deepStrictEqual((yield* listing(cacheDirectory)).sort(), [
        directory,
        `${directory}/SHA256SUMS`,
        `${directory}/etcd`,
        `${directory}/etcdctl`
      ])
      assert.deepStrictEqual(server.requests, [archivePath])
      assert.deepStrictEqual(progress.at(-1), {
        url: server.baseUrl + archivePath,
        receivedBytes: archive.length,
        totalBytes: Option.some(archive.length)
      })
      for (const name of ["etcd", "etcdctl"]) {
        assert.strictEqual((yield* fs.stat(`${cacheDirectory}/${directory}/${name}`)).mode & 0o777, 0o755)
      }
      assert.deepStrictEqual(yield* EtcdBinary.find({ path: etcd.path }), etcd)
    }).pipe(Effect.provide(platform))
  )

  it.effect("takes what is there already without asking the server", () =>
    Effect.gen(function* () {
      const cacheDirectory = yield* tempDir
      const archive = yield* tarGz(release)
      const server = yield* serve(sends(archive))
      const options = {
        version,
        sha256: sha256(archive),
        platform: "linux-amd64",
        baseUrl: server.baseUrl,
        cacheDirectory
      } as const
      const first = yield* EtcdBinary.fetch(options)
      assert.deepStrictEqual(yield* EtcdBinary.fetch(options), first)
      assert.lengthOf(server.requests, 1)
    }).pipe(Effect.provide(platform))
  )

  it.effect("fetches a release again that is damaged in any way, and find passes it over", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const dir = yield* tempDir
      const archive = yield* tarGz(release)
      const server = yield* serve(sends(archive))
      const nothing = settings({ PATH: `${dir}/none`, XDG_CACHE_HOME: dir })
      const { path: etcd } = yield* nothing(EtcdBinary.fetch(releaseAt(server, archive, host)))
      const directory = etcd.replace(/\/etcd$/, "")
      const text = yield* fs.readFileString(etcd)
      // Each of them, and whether an etcd that runs is left.
      const damages: Record<string, readonly [Effect.Effect<void, PlatformError.PlatformError>, boolean]> = {
        removed: [fs.remove(etcd), false],
        empty: [fs.truncate(etcd), false],
        "cut short": [fs.truncate(etcd, 20), false],
        "not executable": [fs.chmod(etcd, 0o644), false],
        "other than it was": [fs.writeFileString(etcd, text.replace("none", "some")), false],
        "a directory": [Effect.andThen(fs.remove(etcd), fs.makeDirectory(`${etcd}/etcd`, { recursive: true })), false],
        "a broken link": [Effect.andThen(fs.remove(etcd), fs.symlink("nowhere", etcd)), false],
        "of a cleared directory": [
          Effect.andThen(fs.remove(directory, { recursive: true }), fs.makeDirectory(directory)),
          false
        ],
        "in a file for a directory": [
          Effect.andThen(fs.remove(directory, { recursive: true }), fs.writeFileString(directory, "")),
          false
        ],
        "without its checksums": [fs.remove(`${directory}/SHA256SUMS`), true],
        "beside a damaged etcdctl": [fs.truncate(`${directory}/etcdctl`), true]
      }
      let requests = 1
      for (const [what, [damage, runs]] of Object.entries(damages)) {
        yield* damage
        if (!runs) {
          const reason = yield* reasonOf(nothing(EtcdBinary.find()))
          assert.strictEqual(reason._tag, "BinaryNotFound", what)
          assert.include(reason.message, dir, what)
        }
        const again = yield* nothing(
          what === "empty"
            ? EtcdBinary.findOrFetch(releaseAt(server, archive, host))
            : EtcdBinary.fetch(releaseAt(server, archive, host))
        )
        assert.strictEqual(again.path, etcd, what)
        assert.strictEqual(yield* fs.readFileString(etcd), text, what)
        assert.deepStrictEqual(yield* nothing(EtcdBinary.find()), again, what)
        assert.deepStrictEqual(yield* nothing(EtcdBinary.fetch(releaseAt(server, archive, host))), again, what)
        assert.lengthOf(server.requests, ++requests, what)
        assert.sameMembers(yield* fs.readDirectory(directory), ["SHA256SUMS", "etcd", "etcdctl"], what)
        assert.lengthOf(yield* fs.readDirectory(`${dir}/effect-etcd`), 1, what)
      }
    }).pipe(Effect.provide(platform))
  )

  it.effect("an older release is found where a newer one is damaged", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const dir = yield* tempDir
      const nothing = settings({ PATH: `${dir}/none`, XDG_CACHE_HOME: dir })
      const archive = yield* tarGz(release)
      const server = yield* serve(sends(archive))
      const older = yield* nothing(EtcdBinary.fetch({ ...releaseAt(server, archive, host), version: "3.5.98" }))
      const newer = yield* nothing(EtcdBinary.fetch(releaseAt(server, archive, host)))
      assert.strictEqual((yield* nothing(EtcdBinary.find())).path, newer.path)
      yield* fs.truncate(newer.path, 30)
      assert.strictEqual((yield* nothing(EtcdBinary.find())).path, older.path)
      yield* fs.truncate(older.path, 30)
      const reason = yield* reasonOf(nothing(EtcdBinary.find()))
      for (const { path } of [newer, older]) assert.include(reason.message, `${path}, which is damaged`)
    }).pipe(Effect.provide(platform))
  )

  it.effect("unpacks zip archives, and etcd.exe of those for Windows", () =>
    Effect.gen(function* () {
      const cacheDirectory = yield* tempDir
      const fetched = Effect.fnUntraced(function* (platform: EtcdBinary.Platform, extension: string) {
        const folder = `etcd-v${version}-${platform}`
        const archive = yield* zip([
          Zip.directory(folder),
          Zip.file(`${folder}/README.md`, "read me"),
          Zip.file(`${folder}/etcd${extension}`, says(version)),
          Zip.file(`${folder}/etcdutl${extension}`, says(version), { method: "Store" })
        ])
        const server = yield* serve(sends(archive))
        const etcd = yield* EtcdBinary.fetch({
          version,
          sha256: sha256(archive),
          platform,
          baseUrl: server.baseUrl,
          cacheDirectory
        })
        assert.deepStrictEqual(server.requests, [`/v${version}/${folder}.zip`])
        const directory = (yield* Path.Path).dirname(etcd.path)
        return (yield* listing(directory)).sort()
      })
      assert.deepStrictEqual(yield* fetched("darwin-arm64", ""), ["SHA256SUMS", "etcd", "etcdutl"])
      assert.deepStrictEqual(yield* fetched("windows-amd64", ".exe"), ["SHA256SUMS", "etcd.exe", "etcdutl.exe"])
    }).pipe(Effect.provide(platform))
  )

  it.effect("unpacks nothing when the checksum is wrong", () =>
    Effect.gen(function* () {
      const archive = yield* tarGz(release)
      const server = yield* serve(sends(archive))
      const expected = sha256(new Uint8Array())
      const reason = yield* failure(server, { sha256: expected })
      assert.include(reason.message, `its SHA-256 is ${sha256(archive)}, not ${expected}`)
    }).pipe(Effect.provide(platform))
  )

  it.effect("asks for a checksum of what it has none for, and for a version and a checksum that are one", () =>
    Effect.gen(function* () {
      const server = yield* serve(sends(new Uint8Array()))
      assert.include((yield* failure(server, {})).message, "no checksum of etcd-v3.5.99-linux-amd64 is known")
      const refused = Effect.fnUntraced(function* (options: EtcdBinary.FetchOptions) {
        const reason = yield* reasonOf(EtcdBinary.fetch({ baseUrl: server.baseUrl, ...options }))
        assert.strictEqual(reason._tag, "InvalidConfig")
        return reason.message
      })
      assert.include(yield* refused({ sha256: "abc" }), "64 hexadecimal digits")
      assert.include(yield* refused({ version: "newest" }), 'such as "3.6.14", without a leading v, and not "newest"')
      assert.include(yield* refused({ version: "v3.6.14" }), "without a leading v")
      assert.include(yield* refused({ version: "../../3.5.0" }), 'and not "../../3.5.0"')
      const secret = yield* refused({ baseUrl: "https://reader:hunter2@mirror.example/etcd" })
      assert.include(secret, "without a user and a password")
      assert.notInclude(secret, "hunter2")
      for (const signed of ["https://mirror.example/etcd?token=hunter2", "https://mirror.example/etcd#hunter2"]) {
        const unsaid = yield* refused({ baseUrl: signed })
        assert.include(unsaid, "a query or a fragment")
        assert.notInclude(unsaid, "hunter2")
      }
      assert.include(yield* refused({ baseUrl: "ftp://mirror.example/etcd" }), "an http or https URL")
      assert.deepStrictEqual(server.requests, [])
    }).pipe(Effect.provide(platform))
  )

  it.effect("knows a release with its checksum for each platform", () =>
    Effect.gen(function* () {
      const server = yield* serve((_request, response) => response.writeHead(404).end())
      const platforms = ["linux-amd64", "linux-arm64", "darwin-amd64", "darwin-arm64", "windows-amd64"] as const
      for (const platform of platforms) {
        const reason = yield* failure(server, { version: undefined, platform })
        const extension = platform.startsWith("linux") ? "tar.gz" : "zip"
        assert.match(reason.url, new RegExp(`/v3\\.\\d+\\.\\d+/etcd-v3\\.\\d+\\.\\d+-${platform}\\.${extension}$`))
        assert.include(reason.message, "the server answered with status 404")
      }
    }).pipe(Effect.provide(platform))
  )

  it.effect("reports a status that is not 200", () =>
    Effect.gen(function* () {
      for (const status of [204, 404, 503]) {
        const server = yield* serve((_request, response) => response.writeHead(status).end())
        const reason = yield* failure(server, { sha256: sha256(new Uint8Array()) })
        assert.include(reason.message, `the server answered with status ${status}`)
      }
    }).pipe(Effect.provide(platform))
  )

  it.effect("reports a server that is not there, with every HTTP client", () =>
    Effect.gen(function* () {
      const gone = yield* Effect.scoped(serve(() => {}))
      for (const client of [FetchHttpClient.layer, NodeHttpClient.layerUndici, NodeHttpClient.layerNodeHttp]) {
        const reason = yield* Effect.provide(failure(gone, { sha256: sha256(new Uint8Array()) }), client)
        assert.include(reason.message, "ECONNREFUSED")
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("follows redirects, with every HTTP client", () =>
    Effect.gen(function* () {
      const archive = yield* tarGz(release)
      for (const client of [FetchHttpClient.layer, NodeHttpClient.layerUndici, NodeHttpClient.layerNodeHttp]) {
        const cacheDirectory = yield* tempDir
        const server = yield* serve((request, response) =>
          request.url === archivePath
            ? response.writeHead(302, { location: "/elsewhere" }).end("moved")
            : sends(archive)(request, response)
        )
        yield* EtcdBinary.fetch({
          version,
          sha256: sha256(archive),
          platform: "linux-amd64",
          baseUrl: server.baseUrl,
          cacheDirectory
        }).pipe(Effect.provide(client))
        assert.deepStrictEqual(server.requests, [archivePath, "/elsewhere"])
        assert.lengthOf(yield* listing(cacheDirectory), 4)
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("logs how far it is every five seconds, and when it is there", () =>
    Effect.gen(function* () {
      const archive = yield* tarGz([...release, Tar.file(`${root}/padding`, NodeCrypto.randomBytes(4 << 20))])
      for (const announces of [true, false]) {
        const cacheDirectory = yield* tempDir
        const received: Array<number> = []
        let send: (until: number) => void = () => {}
        const server = yield* serve((_request, response) => {
          let sent = 0
          response.writeHead(200, announces ? { "content-length": archive.length } : {})
          send = (until) => {
            response.write(archive.subarray(sent, until))
            sent = until
            if (until === archive.length) response.end()
          }
          send(1 << 20)
        })
        const all = yield* Effect.forkChild(
          byTestClock(
            logged(
              EtcdBinary.fetch({
                ...releaseAt(server, archive),
                cacheDirectory,
                stallTimeout: "1 hour",
                onProgress: ({ receivedBytes }) => Effect.sync(() => received.push(receivedBytes))
              })
            )
          )
        )
        const arrived = (bytes: number) => until(Effect.sync(() => received.at(-1) === bytes))
        yield* arrived(1 << 20)
        for (const bytes of [2 << 20, 3 << 20]) {
          yield* TestClock.adjust("5 seconds")
          send(bytes)
          yield* arrived(bytes)
        }
        yield* TestClock.adjust("4 seconds")
        send(archive.length)
        const lines = yield* Fiber.join(all)
        const directory = `${root}-${sha256(archive).slice(0, 12)}`
        const line = announces
          ? /^Info Fetching etcd 3\.5\.99: [\d.]+ MiB of 4 MiB \(\d+%\)$/
          : /^Info Fetching etcd 3\.5\.99: [\d.]+ MiB$/
        assert.lengthOf(lines, 4)
        assert.match(lines[1]!, line)
        assert.match(lines[2]!, line)
        assert.strictEqual(lines[3], `Info Fetched etcd 3.5.99: 4 MiB in 14.0s, into ${cacheDirectory}/${directory}`)
      }
    }).pipe(Effect.provide(platform))
  )

  it.effect("leaves nothing behind when the connection is cut midway", () =>
    Effect.gen(function* () {
      const archive = yield* tarGz([...release, Tar.file("large", NodeCrypto.randomBytes(1 << 20))])
      const server = yield* serve(sendsHalf(archive, (response) => response.destroy()))
      const reason = yield* failure(server, { sha256: sha256(archive) })
      assert.match(reason.message, /the download broke off after \d+ bytes/)
    }).pipe(Effect.provide(platform))
  )

  it.effect("leaves nothing behind when the server falls silent", () =>
    Effect.gen(function* () {
      const archive = yield* tarGz([...release, Tar.file("large", NodeCrypto.randomBytes(1 << 20))])
      const half = yield* Deferred.make<void>()
      const server = yield* serve(sendsHalf(archive, () => {}))
      const failing = yield* Effect.forkChild(
        byTestClock(
          failure(server, {
            sha256: sha256(archive),
            stallTimeout: "10 seconds",
            onProgress: ({ receivedBytes }) =>
              receivedBytes >= Math.floor(archive.length / 2) ? Deferred.succeed(half, undefined) : Effect.void
          })
        )
      )
      yield* Deferred.await(half)
      // The timeout of the next piece starts after this one was taken.
      yield* Effect.forkChild(Effect.forever(Effect.andThen(TestClock.adjust("10 seconds"), Effect.yieldNow)))
      const reason = yield* Fiber.join(failing)
      assert.include(reason.message, "the server sent nothing for 10s")
    }).pipe(Effect.provide(platform))
  )

  it.effect("leaves nothing behind when it is interrupted midway", () =>
    Effect.gen(function* () {
      const cacheDirectory = yield* tempDir
      const archive = yield* tarGz([...release, Tar.file("large", NodeCrypto.randomBytes(1 << 20))])
      const started = yield* Deferred.make<void>()
      const server = yield* serve(sendsHalf(archive, () => {}))
      const fetching = yield* Effect.forkChild(
        EtcdBinary.fetch({
          version,
          sha256: sha256(archive),
          platform: "linux-amd64",
          baseUrl: server.baseUrl,
          cacheDirectory,
          onProgress: () => Deferred.succeed(started, undefined)
        })
      )
      yield* Deferred.await(started)
      assert.isAbove((yield* listing(cacheDirectory)).length, 0)
      yield* Fiber.interrupt(fetching)
      const exit = yield* Fiber.await(fetching)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
      assert.deepStrictEqual(yield* listing(cacheDirectory), [])
    }).pipe(Effect.provide(platform))
  )

  it.live("removes what a killed process left behind, but not what another one is working on", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const cacheDirectory = yield* tempDir
      const archive = yield* tarGz(release)
      const server = yield* serve(sends(archive))
      for (const name of [".fetch-old", ".fetch-new", "old"]) {
        yield* fs.makeDirectory(`${cacheDirectory}/${name}`)
        yield* fs.writeFileString(`${cacheDirectory}/${name}/archive`, "")
      }
      const past = new Date("2026-01-01")
      yield* fs.utimes(`${cacheDirectory}/.fetch-old`, past, past)
      yield* fs.utimes(`${cacheDirectory}/old`, past, past)
      yield* EtcdBinary.fetch({
        version,
        sha256: sha256(archive),
        platform: "linux-amd64",
        baseUrl: server.baseUrl,
        cacheDirectory
      })
      const left = yield* fs.readDirectory(cacheDirectory)
      assert.sameMembers(left, [".fetch-new", "old", `${root}-${sha256(archive).slice(0, 12)}`])
    }).pipe(Effect.provide(platform))
  )

  it.effect("refuses archives that are damaged, cut short or hold no etcd", () =>
    Effect.gen(function* () {
      const whole = yield* tarGz([...release, Tar.file("large", NodeCrypto.randomBytes(1 << 16))])
      const bare = yield* Stream.mkUint8Array(Stream.pipeThroughChannel(Stream.fromIterable(release), Tar.encode()))
      const cases: ReadonlyArray<readonly [Uint8Array, string]> = [
        [whole.subarray(0, whole.length / 2), "cannot be unpacked"],
        [whole.map((byte, index) => (index > 2000 ? byte ^ 0xff : byte)), "cannot be unpacked"],
        [new Uint8Array(NodeZlib.gzipSync(bare.subarray(0, 1800))), "cannot be unpacked"],
        [new TextEncoder().encode("<html>not found</html>"), "cannot be unpacked"],
        [new Uint8Array(), "cannot be unpacked"],
        [yield* tarGz(release.filter((entry) => entry.header.path !== `${root}/etcd`)), "holds no etcd"]
      ]
      for (const [archive, message] of cases) {
        const server = yield* serve(sends(archive))
        const reason = yield* failure(server, { sha256: sha256(archive) })
        assert.include(reason.message, message)
      }
    }).pipe(Effect.provide(platform))
  )

  it.effect("writes nothing outside of its directory, and follows no link", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const outside = yield* tempDir
      const etcd = Tar.file(`${root}/etcd`, says(version), { mode: 0o755 })
      const cases: ReadonlyArray<readonly [ReadonlyArray<Tar.Entry>, string]> = [
        [[etcd, Tar.file("../etcd", "out")], "points outside"],
        [[etcd, Tar.file(`${root}/../../etcdctl`, "out")], "points outside"],
        [[etcd, Tar.file(`${outside}/etcdctl`, "out")], "points outside"],
        [[etcd, Tar.file(`..\\etcdctl`, "out")], "points outside"],
        [[etcd, Tar.file(`C:/etcdctl`, "out")], "points outside"],
        [[Tar.symlink(`${root}/etcd`, `${outside}/target`), etcd], "is of type Symlink, not a file"],
        [[Tar.hardlink(`${root}/etcd`, `${root}/README.md`)], "is of type Hardlink, not a file"],
        [[etcd, etcd], "appears twice"]
      ]
      for (const [entries, message] of cases) {
        const archive = yield* tarGz(entries)
        const server = yield* serve(sends(archive))
        const reason = yield* failure(server, { sha256: sha256(archive) })
        assert.include(reason.message, message)
      }
      // A linked folder is never made, so the file in it lands in the release after all.
      const linked = yield* tarGz([Tar.symlink(root, outside), etcd])
      const server = yield* serve(sends(linked))
      const cacheDirectory = yield* tempDir
      yield* EtcdBinary.fetch({
        version,
        sha256: sha256(linked),
        platform: "linux-amd64",
        baseUrl: server.baseUrl,
        cacheDirectory
      })
      assert.deepStrictEqual(yield* fs.readDirectory(outside), [])
    }).pipe(Effect.provide(platform))
  )

  it.effect("stops unpacking at the most that a release can hold, in all files together", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const dir = yield* tempDir
      const zeros = new Uint8Array(600 << 10)
      const unpacking = Effect.fnUntraced(function* (kind: "tar.gz" | "zip", archive: Uint8Array, maxBytes: number) {
        yield* fs.remove(`${dir}/out`, { recursive: true, force: true })
        yield* fs.makeDirectory(`${dir}/out`)
        yield* fs.writeFile(`${dir}/archive`, archive)
        return yield* unpack({
          archive: `${dir}/archive`,
          kind,
          directory: `${dir}/out`,
          names: ["etcd"],
          maxBytes: ByteSize.bytes(maxBytes)
        })
      })
      const archives = [
        ["tar.gz", yield* tarGz([Tar.file("etcd", zeros), Tar.file("other", zeros)])],
        ["zip", yield* zip([Zip.file("etcd", zeros), Zip.file("other", zeros)])]
      ] as const
      for (const [kind, archive] of archives) {
        assert.isBelow(archive.length, 10_000)
        const error = yield* Effect.flip(unpacking(kind, archive, 1 << 20))
        assert.strictEqual(error.message, "it holds more than 1 MiB")
        assert.deepStrictEqual([...(yield* unpacking(kind, archive, 2 << 20)).keys()], ["etcd"])
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("leaves nothing behind when the disk is full, and names the directory", () =>
    Effect.gen(function* () {
      const archive = yield* tarGz(release)
      const server = yield* serve(sends(archive))
      const fs = yield* FileSystem.FileSystem
      const full = PlatformError.systemError({
        _tag: "Unknown",
        module: "FileSystem",
        method: "write",
        description: "ENOSPC: no space left on device"
      })
      for (const file of ["archive.tar.gz", "etcd"]) {
        const disk = FileSystem.FileSystem.of({
          ...fs,
          sink: (path, options) => (path.endsWith(`/${file}`) ? Sink.fail(full) : fs.sink(path, options))
        })
        const reason = yield* failure(server, { sha256: sha256(archive) }).pipe(
          Effect.provideService(FileSystem.FileSystem, disk)
        )
        assert.include(reason.message, "could not be written to")
        assert.include(reason.message, "ENOSPC")
      }
    }).pipe(Effect.provide(platform))
  )

  it.effect("reports a cache directory that cannot be made", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const file = `${yield* tempDir}/file`
      yield* fs.writeFileString(file, "")
      const server = yield* serve(() => {})
      const reason = yield* reasonOf(
        EtcdBinary.fetch({ cacheDirectory: `${file}/cache`, baseUrl: server.baseUrl, platform: "linux-amd64" })
      )
      assert.strictEqual(reason._tag, "FetchFailed")
      assert.include(reason.message, "could not be written to")
      assert.deepStrictEqual(server.requests, [])
    }).pipe(Effect.provide(platform))
  )

  it.effect("downloads once for all who ask at the same time, each of whom hears how far it is", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const cacheDirectory = yield* tempDir
      const archive = yield* tarGz(release)
      const go = yield* Deferred.make<void>()
      const server = yield* serve((request, response) => {
        Effect.runFork(
          Effect.andThen(
            Deferred.await(go),
            Effect.sync(() => sends(archive)(request, response))
          )
        )
      })
      const heard = new Map<number, number>()
      const fetching = yield* Effect.forEach(Array.from({ length: 12 }).keys(), (index) =>
        Effect.forkChild(
          EtcdBinary.fetch({
            ...releaseAt(server, archive),
            cacheDirectory,
            // Some of them listen.
            ...(index % 2 === 0
              ? {}
              : { onProgress: ({ receivedBytes }) => Effect.sync(() => heard.set(index, receivedBytes)) })
          }),
          { startImmediately: true }
        )
      )
      yield* until(Effect.sync(() => server.requests.length > 0))
      yield* Deferred.succeed(go, undefined)
      const fetched = yield* Effect.forEach(fetching, Fiber.join)
      assert.lengthOf(server.requests, 1)
      assert.lengthOf(new Set(fetched.map((etcd) => etcd.path)), 1)
      assert.deepStrictEqual([...heard.keys()].sort(), [1, 11, 3, 5, 7, 9])
      for (const receivedBytes of heard.values()) assert.strictEqual(receivedBytes, archive.length)
      // Whoever comes later looks at what is there, and downloads what is not.
      yield* EtcdBinary.fetch({ ...releaseAt(server, archive), cacheDirectory })
      assert.lengthOf(server.requests, 1)
      yield* fs.remove(fetched[0]!.path)
      yield* EtcdBinary.fetch({ ...releaseAt(server, archive), cacheDirectory })
      assert.lengthOf(server.requests, 2)
    }).pipe(Effect.provide(platform))
  )

  it.effect("goes on while anybody waits for it, whatever the others do, and ends with the last one", () =>
    Effect.gen(function* () {
      const cacheDirectory = yield* tempDir
      const archive = yield* tarGz([...release, Tar.file("large", NodeCrypto.randomBytes(1 << 20))])
      let isFinishing = false
      let gone = 0
      // Comes bit by bit, so that whoever waits for it hears so.
      const server = yield* serve((_request, response) => {
        let sent = 0
        const dripping = setInterval(() => {
          const next = isFinishing ? archive.length : Math.min(sent + 1024, archive.length - 1)
          if (next > sent) response.write(archive.subarray(sent, next))
          sent = next
          if (isFinishing) response.end()
        }, 2)
        response.on("finish", () => clearInterval(dripping))
        response.on("close", () => {
          clearInterval(dripping)
          if (!response.writableFinished) gone++
        })
      })
      const asks = Effect.fnUntraced(function* (then: Effect.Effect<void>) {
        const heard = yield* Deferred.make<void>()
        const onProgress = () => Effect.andThen(Deferred.succeed(heard, undefined), then)
        const fiber = yield* Effect.forkChild(
          EtcdBinary.fetch({ ...releaseAt(server, archive), cacheDirectory, onProgress })
        )
        return { fiber, heard: Deferred.await(heard) }
      })
      const all = yield* Effect.forEach([Effect.void, Effect.void, Effect.never, Effect.die("of hearing")], asks)
      const [first, second, deaf, dying] = all.map(({ fiber }) => fiber)
      yield* Effect.forEach(all, ({ heard }) => heard)
      yield* Fiber.interrupt(first!)
      assert.isTrue(Exit.isFailure(yield* Fiber.await(dying!)))
      isFinishing = true
      yield* Fiber.join(second!)
      yield* Fiber.interrupt(deaf!)
      assert.lengthOf(server.requests, 1)
      assert.strictEqual(gone, 0)

      isFinishing = false
      yield* Effect.flatMap(FileSystem.FileSystem, (fs) => fs.remove(cacheDirectory, { recursive: true }))
      const last = yield* Effect.forEach([Effect.void, Effect.void], asks)
      yield* Effect.forEach(last, ({ heard }) => heard)
      yield* Fiber.interruptAll(last.map(({ fiber }) => fiber))
      yield* until(Effect.sync(() => gone === 1))
      assert.lengthOf(server.requests, 2)
      assert.deepStrictEqual(yield* listing(cacheDirectory), [])
    }).pipe(Effect.provide(platform))
  )

  it.effect("is safe when several processes fetch the same release at once, also over a damaged one that runs", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const archive = yield* tarGz(release)
      for (const isDamaged of [false, true]) {
        const cacheDirectory = yield* tempDir
        const target = `${cacheDirectory}/${root}-${sha256(archive).slice(0, 12)}`
        if (isDamaged) {
          yield* fs.makeDirectory(target)
          yield* writeExecutable(`${target}/etcd`, says("3.5.1"))
        }
        // Nobody gets the archive before all have asked for it, so that all of them unpack and move it. Those who ask
        // at different addresses have nothing to do with each other, as if they were processes of their own.
        const waiting: Array<() => void> = []
        const server = yield* serve((request, response) => {
          waiting.push(() => sends(archive)(request, response))
          if (waiting.length === 4) for (const send of waiting) send()
        })
        const watching = yield* Effect.forkChild(
          isDamaged
            ? Effect.forever(Effect.andThen(Effect.orDie(fs.access(`${target}/etcd`)), Effect.yieldNow))
            : Effect.never
        )
        const fetched = yield* Effect.forEach(
          ["a", "b", "c", "d"],
          (name) =>
            EtcdBinary.fetch({
              ...releaseAt(server, archive),
              baseUrl: `${server.baseUrl}/${name}`,
              cacheDirectory
            }),
          { concurrency: "unbounded" }
        )
        assert.lengthOf(server.requests, 4)
        assert.lengthOf(new Set(fetched.map((etcd) => etcd.path)), 1)
        assert.lengthOf(yield* listing(cacheDirectory), 4)
        assert.strictEqual(SemVer.format((yield* EtcdBinary.find({ path: fetched[0]!.path })).version), version)
        assert.isUndefined(watching.pollUnsafe(), "there was always an etcd")
        yield* Fiber.interrupt(watching)
      }
    }).pipe(Effect.provide(platform))
  )

  it.effect("tells nobody the address that a server has sent it on to, with every HTTP client", () =>
    Effect.gen(function* () {
      const archive = yield* tarGz(release)
      const gone = yield* Effect.scoped(serve(() => {}))
      const cut = yield* serve(sendsHalf(archive, (response) => response.destroy()))
      const refusing = yield* serve((_request, response) => response.writeHead(403).end())
      const address = "/hunter2/etcd?X-Signature=hunter2&jwt=hunter2#hunter2"
      for (const client of [FetchHttpClient.layer, NodeHttpClient.layerUndici, NodeHttpClient.layerNodeHttp]) {
        const { spans, tracer } = recorder()
        for (const { baseUrl } of [gone, cut, refusing, { baseUrl: "http://[hunter2" }]) {
          const server = yield* serve((_request, response) =>
            response.writeHead(302, { location: baseUrl + address }).end()
          )
          const reason = yield* failure(server, { sha256: sha256(archive) }).pipe(
            Effect.provide(client),
            Effect.withTracer(tracer)
          )
          assert.notInclude(inspect(reason, { depth: 20, showHidden: true }), "hunter2")
          assert.notInclude(Cause.pretty(Cause.fail(reason)), "hunter2")
        }
        assert.isAbove(spans.length, 0)
        for (const { attributes, events, name, status } of spans) {
          assert.notInclude(inspect([name, [...attributes], events, status], { depth: 20 }), "hunter2")
        }
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )
})

describe("EtcdBinary.findOrFetch", () => {
  it.effect("fetches where nothing is found, and finds it from then on", () =>
    Effect.gen(function* () {
      const dir = yield* tempDir
      const archive = yield* tarGz(release)
      const server = yield* serve(sends(archive))
      const nothing = settings({ PATH: `${dir}/none`, XDG_CACHE_HOME: dir })
      const host = `${process.platform === "darwin" ? "darwin" : "linux"}-${process.arch === "x64" ? "amd64" : "arm64"}`
      if (!host.startsWith("linux")) return
      const fetched = yield* nothing(
        EtcdBinary.findOrFetch({ version, sha256: sha256(archive), baseUrl: server.baseUrl })
      )
      assert.strictEqual(
        fetched.path,
        `${dir}/effect-etcd/etcd-v${version}-${host}-${sha256(archive).slice(0, 12)}/etcd`
      )
      assert.deepStrictEqual(yield* nothing(EtcdBinary.find()), fetched)
      assert.deepStrictEqual(yield* nothing(EtcdBinary.findOrFetch()), fetched)
      assert.lengthOf(server.requests, 1)
    }).pipe(Effect.provide(platform))
  )
})

describe("EtcdBinary.fromInput", () => {
  /** What the platform's `fetch` is asked for, and answers. */
  const platformFetch = (answer: () => Response) => {
    const asked: Array<string> = []
    const layer = Layer.succeed(FetchHttpClient.Fetch, (input) => {
      asked.push(String(input))
      return Promise.resolve(answer())
    })
    return { asked, layer }
  }

  it.effect("finds as find does without a choice and with a path", () =>
    Effect.gen(function* () {
      const dir = yield* tempDir
      const path = yield* writeExecutable(`${dir}/etcd`, says("3.5.1"))
      assert.strictEqual((yield* settings({ PATH: dir })(EtcdBinary.fromInput())).path, path)
      assert.strictEqual((yield* settings({ PATH: "" })(EtcdBinary.fromInput(path))).path, path)
      const missing = yield* reasonOf(settings({ PATH: dir })(EtcdBinary.fromInput(`${dir}/fetch`)))
      assert.strictEqual(missing._tag, "BinaryNotFound")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect('with "fetch" takes what is installed, and else a release that comes with its checksum', () =>
    Effect.gen(function* () {
      const dir = yield* tempDir
      const { asked, layer } = platformFetch(() => new Response("no", { status: 404 }))
      const path = yield* writeExecutable(`${dir}/etcd`, says("3.5.1"))
      const installed = yield* settings({ PATH: dir })(EtcdBinary.fromInput("fetch")).pipe(Effect.provide(layer))
      assert.strictEqual(installed.path, path)
      assert.deepStrictEqual(asked, [])
      const nowhere = settings({ PATH: "", XDG_CACHE_HOME: dir })
      const reason = yield* reasonOf(nowhere(EtcdBinary.fromInput("fetch"))).pipe(Effect.provide(layer))
      assert.strictEqual(reason._tag, "FetchFailed")
      assert.lengthOf(asked, 1)
      assert.match(asked[0]!, /^https:\/\/github\.com\/etcd-io\/etcd\/releases\/download\/v3\.6\.\d+\/etcd-v3/)
      const wrong = settings({ PATH: dir, ETCD_BINARY: `${dir}/none` })(EtcdBinary.fromInput("fetch"))
      assert.strictEqual((yield* reasonOf(wrong))._tag, "BinaryNotFound")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("with a release fetches that one, whatever is installed, over the program's client if it has one", () =>
    Effect.gen(function* () {
      const dir = yield* tempDir
      yield* writeExecutable(`${dir}/etcd`, says("3.5.1"))
      const archive = yield* tarGz(release)
      const server = yield* serve(sends(archive))
      const { asked, layer } = platformFetch(() => new Response(archive))
      const here = settings({ PATH: dir, XDG_CACHE_HOME: `${dir}/cache` })
      const input = { fetch: releaseAt(server, archive, host) }
      const lines = yield* logged(here(EtcdBinary.fromInput(input)).pipe(Effect.provide(layer)))
      assert.strictEqual(lines[0], `Info Fetching etcd ${version} from ${asked[0]}`)
      assert.match(lines[1]!, new RegExp(`^Info Fetched etcd ${version}: \\d+(\\.\\d)? B in \\d+\\.\\ds, into /`))
      assert.lengthOf(lines, 2)
      const etcd = yield* here(EtcdBinary.fromInput(input)).pipe(Effect.provide(layer))
      assert.strictEqual(SemVer.format(etcd.version), version)
      assert.isTrue(etcd.path.startsWith(`${dir}/cache/`))
      assert.lengthOf(asked, 1)
      assert.lengthOf(server.requests, 0)
      const elsewhere = { fetch: { ...input.fetch, cacheDirectory: `${dir}/other` } }
      yield* here(EtcdBinary.fromInput(elsewhere)).pipe(Effect.provide([layer, NodeHttpClient.layerNodeHttp]))
      assert.lengthOf(asked, 1)
      assert.lengthOf(server.requests, 1)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("refuses what no executable can be meant by, and says why", () =>
    Effect.gen(function* () {
      const cases: ReadonlyArray<readonly [unknown, string]> = [
        ["", 'has to be the name of an executable, "fetch", or { fetch: the options of EtcdBinary.fetch }'],
        [true, "and not true"],
        [{}, "There is no fetch in it"],
        [{ fetch: "3.6.14" }, "the options have to be an object"],
        [{ fetch: { verison: "3.6.14" } }, 'there is no option "verison"'],
        [{ fetch: { version: "v3.6.14" } }, "without a leading v"],
        [{ fetch: {}, version: "3.6.14" }, 'there is no option "version"']
      ]
      for (const [input, message] of cases) {
        const direct = yield* reasonOf(EtcdBinary.fromInput(input as never))
        const ofNode = yield* reasonOf(EtcdProcess.make({}, { binary: input as never }))
        for (const reason of [direct, ofNode]) {
          assert.strictEqual(reason._tag, "InvalidConfig")
          assert.include(reason.message, message)
        }
      }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("is imported without an HTTP client and without what unpacks archives", () =>
    Effect.gen(function* () {
      const script = `
        import { registerHooks } from "node:module"
        const loaded = []
        registerHooks({
          load: (url, context, next) => {
            loaded.push(url)
            return next(url, context)
          }
        })
        await import("effect-etcd/EtcdBinary")
        console.log(loaded.join("\\n"))
      `
      const loaded = NodeChildProcess.execFileSync(
        process.execPath,
        ["--conditions=effect-etcd-source", "--no-warnings", "--input-type=module", "-e", script],
        { encoding: "utf8" }
      )
      assert.include(loaded, "EtcdBinary.ts")
      assert.notMatch(loaded, /\/http\/(Fetch)?HttpClient|\/encoding\/(Tar|Zip)|\/binary\/(fetch|unpack|download)/)
    })
  )
})
