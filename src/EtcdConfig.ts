/**
 * The configuration of an etcd node.
 *
 * All options of the etcd server, from 3.4 to 3.7, as one typed object: durations are `Duration`s, sizes are `ByteSize`s,
 * lists are arrays. They come from TypeScript ({@link decode}), from the `[etcd]` table of a TOML file
 * ({@link fromToml}), from etcd's own YAML file ({@link fromYaml}), or from Effect's `Config` ({@link config}).
 * {@link resolve} then fills in the defaults for one version of etcd and refuses whatever that etcd would refuse, all
 * problems in one error, and {@link toFlags} spells the result for its command line.
 *
 * Without any option, a node is a cluster of its own that listens only on Unix sockets in its working directory.
 *
 * Facts are taken from etcd's sources at its release tags: `server/embed/config.go`, `server/etcdmain/config.go` and
 * `client/pkg/types/urls.go`.
 *
 * @packageDocumentation
 * @since 0.1.0
 */

import type * as ByteSize from "effect/ByteSize"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as PlatformError from "effect/PlatformError"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SemVer from "effect/SemVer"
import type * as EtcdProcessError from "./EtcdProcessError.ts"
import * as Read from "./internal/config/read.ts"
import * as Resolve from "./internal/config/resolve.ts"
import * as Table from "./internal/config/table.ts"
import * as Toml from "./internal/config/toml.ts"
import * as Yaml from "./internal/config/yaml.ts"
import * as Json from "./internal/json.ts"
import * as Options from "./internal/options.ts"
import * as Url from "./internal/url.ts"

// ---------------------------------------------------------------------------------------------------------------------
// options
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The options of etcd, read and checked one by one, but not yet against each other or a version of etcd.
 *
 * The keys are etcd's names in camel case (`listen-client-urls` is `listenClientUrls`), without the `experimental-` that
 * older versions put before some. Each key's comment says its default and unit.
 *
 * @category models
 * @since 0.1.0
 */
export interface EtcdOptions extends Table.Values {}

/**
 * The options of etcd as a program may write them: a duration as any `Duration.Input` or as etcd spells it (`"5s"`,
 * `"1h30m"`; a number is milliseconds), a size as any `ByteSize.Input`, a list as an array or as text with commas,
 * `initialCluster` as etcd's text or as URLs by member name.
 *
 * @example
 * ```ts
 * import type { EtcdConfig } from "effect-etcd"
 *
 * const input: EtcdConfig.Input = {
 *   name: "infra0",
 *   listenClientUrls: "http://127.0.0.1:2379",
 *   initialCluster: { infra0: "http://127.0.0.1:2380" },
 *   heartbeatInterval: "50 millis",
 *   electionTimeout: "500ms",
 *   quotaBackendBytes: "8 GiB"
 * }
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export interface Input extends Table.Inputs {}

/**
 * A duration as etcd's documentation writes it: `"100ms"`, `"5s"`, `"1h30m"`.
 *
 * @category models
 * @since 0.1.0
 */
export type GoDuration = `${number}${"ns" | "us" | "ms" | "s" | "m" | "h"}${string}`

/**
 * What a duration may be given as: Go's spelling, or any input of Effect's `Duration` (a number is milliseconds).
 *
 * @category models
 * @since 0.1.0
 */
export type DurationInput = Duration.Input | GoDuration

/**
 * What a size that may have no limit may be given as: `"unlimited"` is none, a number is bytes.
 *
 * @category models
 * @since 0.1.0
 */
export type SizeInput = ByteSize.Input | "unlimited"

/**
 * What a list may be given as: text with commas, or an array.
 *
 * @category models
 * @since 0.1.0
 */
export type ListInput = string | ReadonlyArray<string>

/**
 * The members of a cluster, each with its peer URLs.
 *
 * @category models
 * @since 0.1.0
 */
export type Members = Readonly<Record<string, ReadonlyArray<string>>>

/**
 * What members may be given as: etcd's text (`a=http://…,b=http://…`), or URLs by name.
 *
 * @category models
 * @since 0.1.0
 */
export type MembersInput = string | Readonly<Record<string, ListInput>>

/**
 * Features by name, switched on or off.
 *
 * @category models
 * @since 0.1.0
 */
export type Features = Readonly<Record<string, boolean>>

/**
 * What features may be given as: etcd's text (`A=true,B=false`), or switches by name.
 *
 * @category models
 * @since 0.1.0
 */
export type FeaturesInput = string | Features

/**
 * The schema of {@link EtcdOptions}, decoded from {@link Input}. It leaves out what it does not know; {@link decode}
 * refuses it.
 *
 * @category schemas
 * @since 0.1.0
 */
export const EtcdOptions: Schema.Codec<EtcdOptions, Input> = Schema.suspend(
  () =>
    Schema.Struct(
      Object.fromEntries(Table.keys.map((key) => [key, Schema.optionalKey(Table.get(key).kind.schema())]))
    ) as unknown as Schema.Codec<EtcdOptions, Input>
)

// ---------------------------------------------------------------------------------------------------------------------
// sources
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Reads options from an object. An empty text counts as not given, as it does for etcd.
 *
 * Fails with `InvalidConfig`, which lists every unknown name and every wrong value.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdConfig } from "effect-etcd"
 *
 * const program = Effect.gen(function*() {
 *   const options = yield* EtcdConfig.decode({ electionTimeout: "1s", hostWhitelist: "localhost,127.0.0.1" })
 *   return options.hostWhitelist // ["localhost", "127.0.0.1"]
 * })
 * ```
 *
 * @category sources
 * @since 0.1.0
 */
export const decode = (input: Input): Effect.Effect<EtcdOptions, EtcdProcessError.EtcdProcessError> =>
  Effect.suspend(() => Effect.fromResult(Read.fromObject(input)))

/**
 * Reads options from the table `[etcd]` of a TOML document, where they have etcd's own names (`listen-client-urls`).
 * Other tables belong to the program and are not looked at. A duration needs a unit (`"5s"`), except for the options
 * that etcd counts in milliseconds. `file` is what errors call the document.
 *
 * Fails with `InvalidConfig`: text that is not TOML (with line and column), no table `[etcd]`, every unknown name and
 * every wrong value.
 *
 * @example
 * ```ts
 * import { EtcdConfig } from "effect-etcd"
 *
 * const options = EtcdConfig.parseToml(`
 * [etcd]
 * name = "infra0"
 * listen-client-urls = "http://127.0.0.1:2379"
 * `)
 * ```
 *
 * @category sources
 * @since 0.1.0
 */
export const parseToml = (
  text: string,
  file = "TOML configuration"
): Effect.Effect<EtcdOptions, EtcdProcessError.EtcdProcessError> => parse("EtcdConfig.parseToml", Toml.read, text, file)

/**
 * Reads options from the table `[etcd]` of a TOML file, as {@link parseToml}.
 *
 * Fails with `InvalidConfig` also if the file cannot be read.
 *
 * @example
 * ```ts
 * import { NodeServices } from "@effect/platform-node"
 * import { Effect } from "effect"
 * import { EtcdConfig, EtcdProcess } from "effect-etcd"
 *
 * const program = Effect.gen(function*() {
 *   const options = yield* EtcdConfig.fromToml("app.toml")
 *   return yield* EtcdProcess.make({ ...options, logLevel: "warn" })
 * }).pipe(Effect.provide(NodeServices.layer))
 * ```
 *
 * @category sources
 * @since 0.1.0
 */
export const fromToml = (
  path: string
): Effect.Effect<EtcdOptions, EtcdProcessError.EtcdProcessError, FileSystem.FileSystem> =>
  Effect.flatMap(readFile("EtcdConfig.fromToml", path), (text) => parseToml(text, path))

/**
 * Reads options from the text of etcd's own configuration file: names as on the command line, the sections
 * `client-transport-security`, `peer-transport-security`, `socket-options` and `discovery-config`, and durations
 * as etcd counts them there: a bare number is nanoseconds, except for the options that are in milliseconds. As for etcd,
 * the last of a name that is given twice counts (which is logged as a warning), and `yes`, `on`, `no` and `off` are
 * booleans. Unlike etcd, it takes `"5s"` as well, and refuses names that it does not know. `file` is what errors call the
 * text.
 *
 * Fails with `InvalidConfig`: text that is not YAML (with line and column), every unknown name and every wrong value.
 *
 * @example
 * ```ts
 * import { EtcdConfig } from "effect-etcd"
 *
 * const options = EtcdConfig.parseYaml(`
 * name: infra0
 * listen-client-urls: https://10.0.0.1:2379
 * client-transport-security:
 *   cert-file: server.pem
 *   key-file: server-key.pem
 * `)
 * ```
 *
 * @category sources
 * @since 0.1.0
 */
export const parseYaml = (
  text: string,
  file = "YAML configuration"
): Effect.Effect<EtcdOptions, EtcdProcessError.EtcdProcessError> => parse("EtcdConfig.parseYaml", Yaml.read, text, file)

/**
 * Reads options from etcd's own YAML configuration file, as {@link parseYaml}.
 *
 * Fails with `InvalidConfig` also if the file cannot be read.
 *
 * @example
 * ```ts
 * import { NodeServices } from "@effect/platform-node"
 * import { Effect } from "effect"
 * import { EtcdConfig, EtcdProcess } from "effect-etcd"
 *
 * const program = EtcdConfig.fromYaml("/etc/etcd/etcd.conf.yml").pipe(
 *   Effect.flatMap((options) => EtcdProcess.make(options)),
 *   Effect.provide(NodeServices.layer)
 * )
 * ```
 *
 * @category sources
 * @since 0.1.0
 */
export const fromYaml = (
  path: string
): Effect.Effect<EtcdOptions, EtcdProcessError.EtcdProcessError, FileSystem.FileSystem> =>
  Effect.flatMap(readFile("EtcdConfig.fromYaml", path), (text) => parseYaml(text, path))

const aText: Options.Check = { accepts: (value) => typeof value === "string", due: "text" }
const aFile = Options.text("the name of a file")

const parse = (who: string, read: typeof Toml.read, text: string, file: string) =>
  Effect.suspend(() => {
    const wrong = Read.wrongArgument(who, "the text", aText, text) ?? Read.wrongArgument(who, "the file", aFile, file)
    if (wrong !== undefined) return Effect.fail(wrong)
    return Effect.flatMap(Effect.fromResult(read(text, file)), ({ values, warnings }) =>
      Effect.as(
        Effect.forEach(warnings, (warning) => Effect.logWarning(`${file}: ${warning}`), { discard: true }),
        values
      )
    )
  })

const readFile = (
  who: string,
  path: string
): Effect.Effect<string, EtcdProcessError.EtcdProcessError, FileSystem.FileSystem> =>
  Effect.flatMap(FileSystem.FileSystem, (fs) => {
    const wrong = Read.wrongArgument(who, "the path", aFile, path)
    return wrong === undefined
      ? Effect.mapError(fs.readFileString(path), (error) =>
          Read.invalid(path, [{ option: path, message: explainUnreadable(error) }])
        )
      : Effect.fail(wrong)
  })

const explainUnreadable = (error: PlatformError.PlatformError): string =>
  error.reason._tag === "NotFound" ? "there is no such file" : `cannot be read: ${error.message}`

/**
 * Reads options from the current `ConfigProvider`, below `prefix`. Each option is looked for under its name in
 * TypeScript (`etcd.listenClientUrls`), under etcd's (`etcd.listen-client-urls`), and as etcd's environment variable
 * (`ETCD_LISTEN_CLIENT_URLS`), so that it can come from the environment of the program as well. Booleans may be written
 * as etcd takes them there (`true`, `T`, `1`), and as `yes` and `on`.
 *
 * Fails with `ConfigError`, whose message lists every wrong value. Names that are no options are not noticed.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdConfig, EtcdProcess } from "effect-etcd"
 *
 * const program = Effect.gen(function*() {
 *   const options = yield* EtcdConfig.config("etcd")
 *   return yield* EtcdProcess.make(options)
 * })
 * ```
 *
 * @category sources
 * @since 0.1.0
 */
export const config = (prefix = "etcd"): Config.Config<EtcdOptions> => {
  const problem = Options.problemOfArgument("EtcdConfig.config", "the prefix", aText, prefix)
  if (problem !== undefined) return Config.mapEffect(Config.succeed({}), () => Effect.fail(configError(problem)))
  return Config.mapEffect(
    Config.all(
      Table.keys.map((key) =>
        Config.map(
          lookup(key, prefix),
          Option.map((text) => [key, text] as const)
        )
      )
    ),
    (found) => decodeTexts(found.flatMap(Option.toArray))
  )
}

const configError = (message: string) =>
  new Config.ConfigError(new Schema.SchemaError(new SchemaIssue.InvalidValue({ message })))

const TextOrList = Schema.Union([Schema.String, Schema.Array(Schema.String)])
const TextOrRecord = Schema.Union([Schema.String, Schema.Record(Schema.String, TextOrList)])

const lookup = (key: Table.Key, prefix: string): Config.Config<Option.Option<unknown>> => {
  const { kind, names } = Table.get(key)
  const schema = { scalar: Schema.String, list: TextOrList, record: TextOrRecord }[kind.shape]
  const below = (segment: string, name: string) => (segment === "" ? [name] : [segment, name])
  const paths = [
    below(prefix, key),
    ...Object.keys(names).map((name) => below(prefix, name)),
    ...Object.keys(names).map((name) => below(constantCase(prefix), constantCase(name)))
  ]
  return paths
    .map((path) => Config.option(Config.schema<unknown>(schema, path)))
    .reduce((found, next) => Config.flatMap(found, (value) => (Option.isSome(value) ? Config.succeed(value) : next)))
}

const constantCase = (name: string) => name.replace(/-/g, "_").toUpperCase()

const decodeTexts = (texts: ReadonlyArray<readonly [Table.Key, unknown]>) =>
  Effect.mapError(Effect.fromResult(Read.fromTexts(texts)), (problems) =>
    configError(problems.map(({ message, option }) => `${option}: ${message}`).join("\n"))
  )

// ---------------------------------------------------------------------------------------------------------------------
// resolving
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Options with which one etcd of one version can be started: defaults filled in, and checked.
 *
 * @category models
 * @since 0.1.0
 */
export interface Resolved {
  /** The name of the member. */
  readonly name: string
  /** The data directory, as its absolute path. */
  readonly dataDir: string
  /** The version of etcd that they are for. */
  readonly version: SemVer.SemVer
  /** Everything that is passed to etcd. What is missing here has etcd's own default. */
  readonly options: EtcdOptions
  /** What is allowed, but unsafe or likely not meant, for people to read. */
  readonly warnings: ReadonlyArray<string>
}

/**
 * What options are resolved for.
 *
 * @category models
 * @since 0.1.0
 */
export interface Context {
  /** The version of etcd that is to be started. */
  readonly version: SemVer.SemVer
  /** The absolute path of the data directory. */
  readonly dataDir: string
  /** Where other relative paths of files start. Default: the working directory of this process. */
  readonly directory?: string | undefined
}

const aContext: Options.Check = { accepts: Options.isObject, due: "{ version, dataDir }" }

const ofContext: Options.Checks<Context> = {
  version: { accepts: SemVer.isSemVer, due: "a SemVer" },
  dataDir: Options.text("the name of a directory"),
  directory: Options.text("the name of a directory")
}

/**
 * Fills in the defaults and checks the options for one version of etcd, without a look at files or the network. Takes
 * what {@link decode} takes, and its result.
 *
 * The defaults, where the user says nothing: the name `default`; Unix sockets in etcd's working directory for clients
 * and peers; to listen on what is advertised, and to advertise what is listened on; a cluster of this member alone;
 * `host-whitelist` with `localhost`, `127.0.0.1` and the hosts of the client URLs; `peer-auto-tls` where a peer URL is
 * `https` without a certificate; HTTP on a Unix socket of its own where a client URL is encrypted (see
 * `listenClientHttpUrls`); no JSON gateway where this etcd would end because of it (see `enableGrpcGateway`); JSON logs of
 * level `info` on standard output. The rest is left to etcd.
 *
 * `dataDir` is the absolute path of the data directory. Other relative paths of files start from `directory` (default:
 * that of this process), because etcd runs in a directory of its own. A path in a `unix:` URL stays relative to that one.
 *
 * Fails with `InvalidConfig`, which lists everything that etcd would refuse, and the options that this version does not
 * have. Those that only say what this version does anyway (`enableV2: false` for etcd 3.6) are left out with a warning.
 *
 * @example
 * ```ts
 * import { Effect, SemVer } from "effect"
 * import { EtcdConfig } from "effect-etcd"
 *
 * const program = Effect.gen(function*() {
 *   const resolved = yield* EtcdConfig.resolve({ name: "a" }, {
 *     version: SemVer.make({ major: 3, minor: 5, patch: 30 }),
 *     dataDir: "/var/lib/etcd"
 *   })
 *   return EtcdConfig.toFlags(resolved)
 * })
 * ```
 *
 * @category resolving
 * @since 0.1.0
 */
export const resolve = (input: Input, context: Context): Effect.Effect<Resolved, EtcdProcessError.EtcdProcessError> =>
  Effect.flatMap(decode(input), (given) => {
    const wrong =
      Read.wrongArgument("EtcdConfig.resolve", "the context", aContext, context) ??
      Read.wrongOptions("EtcdConfig.resolve", ofContext, context) ??
      Read.wrongArgument("EtcdConfig.resolve", "the option version", ofContext.version, context.version) ??
      Read.wrongArgument("EtcdConfig.resolve", "the option dataDir", ofContext.dataDir, context.dataDir)
    if (wrong !== undefined) return Effect.fail(wrong)
    const { dataDir, directory = currentDirectory(), version } = context
    const { name, problems, values, warnings } = Resolve.resolve(given, { version, dataDir, directory })
    return problems.length > 0
      ? Effect.fail(Read.invalid(`The configuration of ${name} for etcd ${SemVer.format(version)}`, problems))
      : Effect.succeed(Json.answer({ name, dataDir, version, options: Json.answer(values), warnings }))
  })

/** The current directory may have been removed. */
const currentDirectory = () =>
  Result.getOrElse(
    Result.try(() => process.cwd()),
    () => "."
  )

/**
 * The command line for etcd: `--name=value` for each option, by the name that this version knows. Secrets are not among
 * them, because other users can read command lines; see {@link toEnvironment}.
 *
 * @example
 * ```ts
 * import { Effect, SemVer } from "effect"
 * import { EtcdConfig } from "effect-etcd"
 *
 * const version = SemVer.make({ major: 3, minor: 6, patch: 0 })
 *
 * const flags = EtcdConfig.resolve({ name: "a", snapshotCount: 1000 }, { version, dataDir: "/var/lib/etcd" }).pipe(
 *   Effect.map(EtcdConfig.toFlags) // ["--name=a", "--data-dir=/var/lib/etcd", "--snapshot-count=1000", …]
 * )
 * ```
 *
 * @category resolving
 * @since 0.1.0
 */
export const toFlags = (resolved: Resolved): ReadonlyArray<string> =>
  spelled(resolved, false).map(([name, value]) => `--${name}=${value}`)

/**
 * The environment variables for etcd: the options that are secret, which {@link toFlags} leaves out (`discovery`,
 * `discoveryProxy`, `discoveryUser` and `discoveryPassword`). Do not log it; etcd itself prints what it takes from its
 * environment, which `EtcdLog` leaves out.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { ChildProcess } from "effect/process"
 * import { EtcdConfig } from "effect-etcd"
 *
 * // As EtcdProcess starts it, but for all that belongs to a node's life.
 * const started = (resolved: EtcdConfig.Resolved) =>
 *   Effect.gen(function*() {
 *     const flags = EtcdConfig.toFlags(resolved)
 *     return yield* ChildProcess.make("etcd", flags, { env: EtcdConfig.toEnvironment(resolved), extendEnv: true })
 *   })
 * ```
 *
 * @category resolving
 * @since 0.1.0
 */
export const toEnvironment = (resolved: Resolved): Readonly<Record<string, string>> =>
  Object.fromEntries(spelled(resolved, true).map(([name, value]) => [`ETCD_${constantCase(name)}`, value]))

const spelled = ({ options, version }: Resolved, secret: boolean): ReadonlyArray<readonly [string, string]> =>
  Table.keys.flatMap((key) => {
    const value = options[key]
    const kind = Table.get(key).kind
    if (value === undefined || kind.secret !== secret) return []
    const name = Table.nameFor(key, version)
    return name === undefined ? [] : [[name, kind.toFlag(value)]]
  })

/**
 * Where clients on this machine reach the node, in the order of `listen-client-urls`. Sockets are given by their
 * absolute path (`unix:///run/etcd/client.sock:0`), wildcard addresses become loopback.
 *
 * `workingDirectory` is the absolute path of the directory that etcd runs in.
 *
 * @example
 * ```ts
 * import { Effect, SemVer } from "effect"
 * import { EtcdConfig } from "effect-etcd"
 *
 * const version = SemVer.make({ major: 3, minor: 6, patch: 0 })
 *
 * const program = EtcdConfig.resolve({ listenClientUrls: "http://0.0.0.0:2379" }, { version, dataDir: "/var/lib/etcd" }).pipe(
 *   Effect.map((resolved) => EtcdConfig.endpoints(resolved, "/run/etcd")) // ["http://127.0.0.1:2379"]
 * )
 * ```
 *
 * @category resolving
 * @since 0.1.0
 */
export const endpoints = (resolved: Resolved, workingDirectory: string): readonly [string, ...Array<string>] =>
  (resolved.options.listenClientUrls ?? []).map((text) => toEndpoint(text, workingDirectory)) as [string]

const toEndpoint = (text: string, workingDirectory: string): string =>
  Result.match(Url.parse(text), {
    onFailure: () => text,
    onSuccess: (url) =>
      url.socket === undefined
        ? Url.toLoopback(url)
        : `${url.scheme}://${url.socket.startsWith("/") ? "" : `${workingDirectory.replace(/\/$/, "")}/`}${url.socket}`
  })

/**
 * Whether the role that the node has in raft can be followed in its log: lines of level `info` or more detailed, in any
 * format, on standard output.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdConfig, EtcdProcess } from "effect-etcd"
 *
 * const isFollowed = EtcdProcess.EtcdProcess.use(({ config }) => Effect.succeed(EtcdConfig.showsRole(config)))
 * ```
 *
 * @category resolving
 * @since 0.1.0
 */
export const showsRole = ({ options }: Resolved): boolean =>
  (options.logLevel === "info" || options.logLevel === "debug") && options.logOutputs?.includes("stdout") === true

// ---------------------------------------------------------------------------------------------------------------------
// presets
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Options for a node in a test: it elects itself within milliseconds, does not sync its data to disk where its version
 * can leave that out, and hashes passwords at the least cost. Its data does not survive a crash of the machine. It is what
 * `EtcdProcess.ephemeral` starts with.
 *
 * @example
 * ```ts
 * import { SemVer } from "effect"
 * import { EtcdConfig } from "effect-etcd"
 *
 * const quick = EtcdConfig.ephemeral(SemVer.make({ major: 3, minor: 6, patch: 0 })).electionTimeout // 25 milliseconds
 * ```
 *
 * @category presets
 * @since 0.1.0
 */
export const ephemeral = (version: SemVer.SemVer): Input => ({
  heartbeatInterval: Duration.millis(5),
  electionTimeout: Duration.millis(25),
  bcryptCost: 4,
  ...(Table.nameFor("unsafeNoFsync", version) === undefined ? {} : { unsafeNoFsync: true })
})
