/**
 * Which version an executable has, by its own word.
 *
 * @internal
 */
import * as Cache from "effect/Cache"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as ChildProcess from "effect/process/ChildProcess"
import { ChildProcessSpawner } from "effect/process/ChildProcessSpawner"
import * as Result from "effect/Result"
import * as SemVer from "effect/SemVer"
import * as Stream from "effect/Stream"
import type { EtcdBinary, EtcdUtl } from "../../EtcdBinary.ts"
import * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Json from "../json.ts"
import * as Time from "../time.ts"
import type { FileIdentity } from "./executable.ts"
import { releasesPage } from "./releases.ts"
import { architectureVariable, toolVariables, withheldVariables } from "./settings.ts"

const oldest = { major: 3, minor: 4 }
const newest = { major: 3, minor: 7 }
const endOfLife = { major: 3, minor: 4 }

const timeout = Duration.seconds(10)
/** What an executable has left behind may hold on to its output: that it is silent for so long is its end. */
const quiet = Duration.millis(250)
/** How long it is listened to at most. */
const lingering = Duration.seconds(2)
/** Wrappers may have much to say before etcd has its turn. */
const maxOutput = 1024 * 1024

const compareMinor = (version: SemVer.SemVer, that: { readonly major: number; readonly minor: number }): number =>
  version.major - that.major || version.minor - that.minor

const unsupported = (path: string, version: string, message: string) =>
  EtcdProcessError.make(new EtcdProcessError.UnsupportedVersion({ message, path, version }))

const firstLine = (output: string): string => output.trim().split("\n")[0]!.trim().slice(0, 200)

/** How an executable is asked for its version. */
interface Tool {
  readonly name: string
  readonly ask: string
  readonly variables: () => Record<string, string | undefined>
}

/**
 * What the executable prints, up to about a mebibyte. It may be a wrapper: all that it has started, as far as that is in its
 * process group, ends with it, and what is not, and holds on to its output, is waited for no longer than a moment.
 */
const outputOf = Effect.fnUntraced(function* (path: string, { ask, name, variables }: Tool) {
  // Read together, one would go on in the middle of a line of the other.
  const outputs: ReadonlyArray<Array<Uint8Array>> = [[], []]
  const printed = () => outputs.map((chunks) => new TextDecoder().decode(Buffer.concat(chunks))).join("\n")
  const run = Effect.gen(function* () {
    const spawner = yield* ChildProcessSpawner
    const handle = yield* spawner.spawn(
      ChildProcess.make(path, [ask], {
        env: variables(),
        extendEnv: true,
        stdin: "ignore",
        killSignal: "SIGKILL"
      })
    )
    let bytes = 0
    const isEnough = Latch.makeUnsafe(false)
    const reading = yield* Effect.forkScoped(
      Effect.forEach(
        [handle.stdout, handle.stderr],
        (stream, index) =>
          Stream.runForEach(stream, (chunk) =>
            Effect.sync(() => {
              outputs[index]!.push(chunk)
              bytes += chunk.length
              if (bytes >= maxOutput) isEnough.openUnsafe()
            })
          ),
        { concurrency: 2, discard: true }
      )
    )
    // What this process had no time to read is there all the same.
    const silence: Effect.Effect<void> = Effect.suspend(() => {
      const before = bytes
      return Effect.sleep(quiet).pipe(
        Effect.andThen(Time.reading),
        Effect.andThen(Effect.suspend(() => (bytes === before ? Effect.void : silence)))
      )
    })
    const ended = Effect.andThen(Effect.exit(handle.exitCode), Effect.timeoutOption(silence, lingering))
    yield* Effect.raceAllFirst([Fiber.join(reading), ended, isEnough.await])
    return printed()
  })
  return yield* run.pipe(
    Effect.scoped,
    Effect.mapError((cause) =>
      unsupported(
        path,
        "",
        `${path} could not be run (${cause.message}). Is it an ${name} for this platform ` +
          `(${globalThis.process.platform}, ${globalThis.process.arch})?`
      )
    ),
    Effect.timeoutOrElse({
      duration: timeout,
      orElse: () => {
        const said = firstLine(printed())
        return Effect.fail(
          unsupported(
            path,
            said,
            `${path} did not answer \`${ask}\` within ${Duration.format(timeout)}` +
              (said === "" ? "" : `, but printed ${JSON.stringify(said)}`) +
              `. It was ended. Is it an ${name}, or a wrapper that finds one?`
          )
        )
      }
    })
  )
})

/** Go's names of architectures that etcd does not support, by Node's. */
const architectures: Record<string, string> = { ia32: "386", mips: "mips", mipsel: "mipsle", loong64: "loong64" }

/**
 * The architecture that an etcd refuses to run on. Up to 3.5 it prints which value of the variable it needs; newer ones
 * log it (the last of 3.5 in the words for the opposite).
 */
const refusedArchitecture = (output: string): string | undefined =>
  output.includes(architectureVariable)
    ? (new RegExp(`${architectureVariable}=(\\w+)`).exec(output)?.[1] ??
      /"arch":\s*"(\w+)"/.exec(output)?.[1] ??
      architectures[globalThis.process.arch] ??
      globalThis.process.arch)
    : undefined

const refuses = (path: string, said: string, architecture: string) => {
  const given = globalThis.process.env[architectureVariable]
  return unsupported(
    path,
    said,
    `${path} is an etcd that refuses to run on this architecture, ${architecture}, which its makers do not support. ` +
      `To run it nevertheless, set ${architectureVariable}=${architecture} in the environment of this program` +
      (given === undefined ? "." : ` (it is ${JSON.stringify(given)} there).`)
  )
}

const parse = (path: string, output: string) => {
  // Not at the beginning of a line where a wrapper has left one unfinished.
  const version = /(?<![\w-])etcd Version: (\d\S*)/.exec(output)?.[1]
  const parsed = version === undefined ? Option.none() : Result.getSuccess(SemVer.parse(version))
  if (Option.isSome(parsed)) return Effect.succeed(parsed.value)
  const said = firstLine(output)
  const architecture = refusedArchitecture(output)
  if (architecture !== undefined) return Effect.fail(refuses(path, said, architecture))
  return Effect.fail(
    unsupported(
      path,
      said,
      `${path} is not an etcd: \`--version\` answered ` +
        (said === "" ? "nothing" : JSON.stringify(said)) +
        `, not "etcd Version: <version>". Point ETCD_BINARY, or the option that names the executable, at an etcd 3.4 to 3.7.`
    )
  )
}

const check = Effect.fnUntraced(function* (path: string, version: SemVer.SemVer) {
  const text = SemVer.format(version)
  if (compareMinor(version, oldest) < 0) {
    return yield* Effect.fail(
      unsupported(path, text, `${path} is etcd ${text}, which is not supported. Use 3.4 to 3.7 (${releasesPage}).`)
    )
  }
  if (compareMinor(version, endOfLife) <= 0) {
    yield* Effect.logWarning(`${path} is etcd ${text}, which is past its end of life. Use 3.5 or newer.`)
  }
  if (compareMinor(version, newest) > 0) {
    yield* Effect.logWarning(`${path} is etcd ${text}; effect-etcd is tested with 3.4 to 3.7 only.`)
  }
})

const etcd: Tool = { name: "etcd", ask: "--version", variables: withheldVariables }

const read = Effect.fnUntraced(function* ({ path }: FileIdentity) {
  const output = yield* outputOf(path, etcd)
  const version = yield* parse(path, output)
  yield* check(path, version)
  return version
})

/** Asking takes a process of its own, so every executable is asked once, whoever wants to know. */
const versions = /*#__PURE__*/ Effect.runSync(
  /*#__PURE__*/ Cache.makeWith(read, {
    capacity: 64,
    timeToLive: (exit) => (Exit.isSuccess(exit) ? Duration.infinity : Duration.zero),
    requireServicesAt: "lookup"
  })
)

/** The etcd that a file is. */
export const probe = (file: FileIdentity) =>
  Effect.map(Cache.get(versions, file), (version) => Json.answer<EtcdBinary>({ path: file.path, version }))

// ── the tools beside it ──

/** What looks after files of etcd: `etcdutl`, and, up to 3.5, `etcdctl`. */
export type ToolName = EtcdUtl["tool"]

const readTool = Effect.fnUntraced(function* ({ name, path }: FileIdentity & { readonly name: ToolName }) {
  const output = yield* outputOf(path, { name, ask: "version", variables: toolVariables })
  const text = new RegExp(`(?<![\\w-])${name} version: (\\d\\S*)`).exec(output)?.[1]
  const version = text === undefined ? Option.none() : Result.getSuccess(SemVer.parse(text))
  if (Option.isSome(version)) return version.value
  const said = firstLine(output)
  return yield* Effect.fail(
    unsupported(
      path,
      said,
      `${path} is not an ${name}: \`version\` answered ${said === "" ? "nothing" : JSON.stringify(said)}, ` +
        `not "${name} version: <version>".`
    )
  )
})

const toolVersions = /*#__PURE__*/ Effect.runSync(
  /*#__PURE__*/ Cache.makeWith(readTool, {
    capacity: 64,
    timeToLive: (exit) => (Exit.isSuccess(exit) ? Duration.infinity : Duration.zero),
    requireServicesAt: "lookup"
  })
)

/** Which version the tool of that name says that it has. */
export const probeTool = (name: ToolName, file: FileIdentity) => Cache.get(toolVersions, { ...file, name })
