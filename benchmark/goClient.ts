/**
 * etcd's own Go client: the program in `go/`, built where there is a Go toolchain, as one process for the whole run.
 */
import { fileURLToPath } from "node:url"
import { Effect, FileSystem, Option, Path, type PlatformError, Schema, Stream } from "effect"
import { ChildProcess } from "effect/process"
import { EtcdBinary } from "effect-etcd"
import type { Contender } from "./contest.ts"
import type { Candidate } from "./leaders.ts"
import { type Ask, spawnAsked, spawnLines } from "./lines.ts"
import type { Line } from "./results.ts"
import type { Client } from "./round.ts"
import { BenchError, benchError } from "./support.ts"

const name = "go clientv3"

const sources = fileURLToPath(new URL("go", import.meta.url))

/** A module of its own: who cannot have the cache has the rest. */
const cacheSources = fileURLToPath(new URL("go/cache", import.meta.url))

const say = (line: string) => Effect.sync(() => console.error(`effect-etcd: ${line}`))

const failed = (message: string) => new BenchError({ message })

const cannotRunGo = (error: PlatformError.PlatformError) =>
  failed(error.reason._tag === "NotFound" ? "there is no go on this machine" : error.message)

const lastLine = (text: string) =>
  text
    .split("\n")
    .map((line) => line.trim())
    .findLast((line) => line !== "")

const goBuild = (executable: string, directory: string, flags: string) =>
  Effect.gen(function* () {
    const child = yield* ChildProcess.make("go", ["build", "-trimpath", "-buildvcs=false", "-o", executable, "."], {
      cwd: directory,
      env: { CGO_ENABLED: "0", GOFLAGS: flags, GOWORK: "off", LC_ALL: "C" },
      extendEnv: true,
      stdin: "ignore",
      stdout: "ignore",
      forceKillAfter: "1 second"
    })
    const [output, code] = yield* Effect.all([Stream.mkString(Stream.decodeText(child.stderr)), child.exitCode], {
      concurrency: "unbounded"
    })
    if (code !== 0) return yield* failed(lastLine(output) ?? `go build ended with exit code ${code}`)
  }).pipe(Effect.scoped, Effect.catchTag("PlatformError", cannotRunGo))

const patiently = <R>(build: Effect.Effect<string, { readonly message: string }, R>) =>
  build.pipe(
    Effect.timeoutOrElse({ duration: "5 minutes", orElse: () => failed("go build took longer than 5 minutes") }),
    Effect.mapError((error) => failed(error.message))
  )

/** Builds the program into the cache directory, where Go leaves it alone if it is up to date, and answers its path. */
const build = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const directory = path.join(yield* EtcdBinary.cacheDirectory, "benchmark")
  yield* fs.makeDirectory(directory, { recursive: true })
  const executable = path.join(directory, "go-clientv3")
  if (!(yield* fs.exists(executable))) yield* say("building etcd's Go client (this may take minutes, once)")
  yield* goBuild(executable, sources, "-mod=readonly")
  return executable
}).pipe(patiently)

/** Builds what measures the cache, in a copy, where Go writes down all the modules that it takes. */
const buildCache = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const directory = path.join(yield* EtcdBinary.cacheDirectory, "benchmark", "cache")
  const executable = path.join(directory, "go-cache")
  if (!(yield* fs.exists(executable)))
    yield* say("building the cache of etcd's Go client (this may take minutes, once)")
  yield* fs.makeDirectory(directory, { recursive: true })
  for (const file of ["go.mod", "main.go"])
    yield* fs.copyFile(path.join(cacheSources, file), path.join(directory, file))
  yield* goBuild(executable, directory, "-mod=mod")
  return executable
}).pipe(patiently)

const Spans = Schema.Array(Schema.Tuple([Schema.Number, Schema.Number]))

const LineOfGo = Schema.Struct({ acknowledged: Spans, failed: Spans })

const Answer = Schema.fromJsonString(
  Schema.Struct({
    ops: Schema.Number,
    seconds: Schema.Number,
    cpuMicros: Schema.Number,
    latencyMicros: Schema.optional(Schema.Array(Schema.Number)),
    value: Schema.optional(Schema.String),
    waitMillis: Schema.optional(Schema.Struct({ closed: Schema.Number, open: Schema.Number })),
    lines: Schema.optional(Schema.Struct({ closed: LineOfGo, open: LineOfGo })),
    error: Schema.optional(Schema.String)
  })
)

const decodeAnswer = Schema.decodeUnknownEffect(Answer)

const requestAs =
  <A extends { readonly error?: string | undefined }>(
    who: string,
    ask: Ask,
    decode: (line: string) => Effect.Effect<A, Schema.SchemaError>
  ) =>
  (content: object) =>
    Effect.gen(function* () {
      const line = yield* ask(JSON.stringify(content))
      const answer = yield* Effect.mapError(decode(line), (cause) => benchError(who, cause))
      return answer.error === undefined ? answer : yield* benchError(who, answer.error)
    })

const requestOf = (ask: Ask) => requestAs(name, ask, decodeAnswer)

const clientOf = (ask: Ask): Client => {
  const request = requestOf(ask)
  return {
    name,
    round: (round) => Effect.map(request(round), ({ latencyMicros = [], ...answer }) => ({ ...answer, latencyMicros })),
    putAndGet: (key, value) =>
      Effect.map(request({ scenario: "check", key, value: Buffer.from(value).toString("base64") }), (answer) =>
        Buffer.from(answer.value ?? "", "base64")
      )
  }
}

/** The program or, where it cannot be had, a line that says why, and nothing. */
const builtAs = <R>(who: string, build: Effect.Effect<string, BenchError, R>) =>
  Effect.matchEffect(build, {
    onSuccess: (executable) => Effect.succeed(Option.some(executable)),
    onFailure: (error) => Effect.as(say(`no "${who}" in this run: ${error.message}`), Option.none<string>())
  })

const built = builtAs(name, build)

const started = <A>(endpoints: ReadonlyArray<string>, make: (ask: Ask) => A) =>
  Effect.flatMap(built, (executable) =>
    Effect.transposeOption(
      Option.map(executable, (executable) => Effect.map(spawnLines(name, executable, endpoints), make))
    )
  )

/** The Go client or, where it cannot be had, a line that says why, and nothing. */
export const goClient = (endpoint: string) => started([endpoint], clientOf)

/** The Go client, as it goes through a fault. */
export interface GoFailover {
  readonly start: Effect.Effect<void, BenchError>
  /**
   * How long it takes from a moment until a put is acknowledged that was begun since, the first of so many in a row that
   * are, in milliseconds. The moment is in those since 1970.
   */
  readonly await: (
    since: number,
    row: number,
    longestMillis: number
  ) => Effect.Effect<{ readonly closed: number; readonly open: number }, BenchError>
  /** Ends it, and answers with all puts, from two seconds before that moment on. */
  readonly stop: Effect.Effect<{ readonly closed: Line; readonly open: Line }, BenchError>
}

export const goFailover = (endpoints: ReadonlyArray<string>) =>
  started(endpoints, (ask): GoFailover => {
    const request = requestOf(ask)
    return {
      start: Effect.asVoid(request({ scenario: "load" })),
      await: (since, row, millis) =>
        Effect.flatMap(request({ scenario: "wait", since, row, millis }), ({ waitMillis }) =>
          waitMillis === undefined ? failed("the Go client did not say how long it waited") : Effect.succeed(waitMillis)
        ),
      stop: Effect.flatMap(request({ scenario: "stop" }), ({ lines }) =>
        lines === undefined ? failed("the Go client did not say what it put") : Effect.succeed(lines)
      )
    }
  })

/** A program of the Go client that stands in an election. */
const spawnCandidate = (executable: string, endpoint: string, key: string, seconds: number) =>
  Effect.map(spawnAsked(name, executable, [endpoint]), ({ ask, signal }): Candidate => {
    const request = requestOf(ask)
    return {
      stand: Effect.asVoid(request({ scenario: "stand", key, seconds })),
      resign: Effect.asVoid(request({ scenario: "resign" })),
      signal
    }
  })

/** The Go client, as it locks, as it increments numbers whose keys begin so, and as it stands in an election. */
export interface GoCoordination {
  readonly locks: Contender
  readonly transactions: (prefix: string) => Contender
  readonly candidate: (election: string, ttlSeconds: number) => ReturnType<typeof spawnCandidate>
}

const coordinationOf = (executable: string, endpoint: string, ask: Ask): GoCoordination => {
  const request = requestOf(ask)
  const contender = (more: object): Contender => ({
    name,
    round: (round) =>
      Effect.map(request({ ...round, ...more }), ({ latencyMicros = [], ...answer }) => ({ ...answer, latencyMicros }))
  })
  return {
    locks: contender({}),
    transactions: (key) => contender({ key }),
    candidate: (election, seconds) => spawnCandidate(executable, endpoint, election, seconds)
  }
}

export const goCoordination = (endpoint: string) =>
  Effect.flatMap(built, (executable) =>
    Effect.transposeOption(
      Option.map(executable, (executable) =>
        Effect.map(spawnLines(name, executable, [endpoint]), (ask) => coordinationOf(executable, endpoint, ask))
      )
    )
  )

const CacheAnswer = Schema.fromJsonString(
  Schema.Struct({
    millis: Schema.Number,
    cpuMicros: Schema.Number,
    bytes: Schema.Number,
    keys: Schema.Number,
    error: Schema.optional(Schema.String)
  })
)

const decodeCacheAnswer = Schema.decodeUnknownEffect(CacheAnswer)

/** The cache of the Go client, at any endpoint. */
export const goCache = Effect.map(
  builtAs("go cache", buildCache),
  Option.map(
    (executable) => (endpoint: string) =>
      Effect.map(spawnLines("go cache", executable, [endpoint]), (ask) => requestAs("go cache", ask, decodeCacheAnswer))
  )
)
