/**
 * What an instance is given: the checks, and what is made of it.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Path from "effect/Path"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as EtcdConfig from "../../EtcdConfig.ts"
import type { Options as Given, Peers } from "../../EtcdMember.ts"
import type * as EtcdProcess from "../../EtcdProcess.ts"
import type * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Options from "../options.ts"
import * as ProcessOptions from "../process/options.ts"
import * as Url from "../url.ts"
import type { Directories } from "./data.ts"
import * as Ids from "./ids.ts"

const who = "EtcdMember"

/** What proves who somebody is: files. */
interface Certificate {
  readonly certificate: string | undefined
  readonly key: string | undefined
}

/** How the others are asked at peer URLs that are encrypted. */
export interface PeerTls extends Certificate {
  readonly ca: string | undefined
  /** What is shown to who is asked. */
  readonly asking: Certificate
  /** Whether who comes has to show one. */
  readonly isMutual: boolean
  /** Certificates of etcd's own making, which vouch for nobody. */
  readonly isAutomatic: boolean
}

/** What a configuration says of how peers are asked. `file`: where a file of that name is. */
export const peerTlsOf = (
  config: EtcdConfig.EtcdOptions,
  file: (name: string | undefined) => string | undefined
): PeerTls => {
  const certificate = { certificate: file(config.peerCertFile), key: file(config.peerKeyFile) }
  return {
    ca: file(config.peerTrustedCaFile),
    ...certificate,
    asking:
      config.peerClientCertFile === undefined
        ? certificate
        : { certificate: file(config.peerClientCertFile), key: file(config.peerClientKeyFile) },
    // etcd asks for certificates where it is told who signs them, too.
    isMutual:
      config.peerCertFile !== undefined &&
      (config.peerTrustedCaFile !== undefined || config.peerClientCertAuth === true),
    isAutomatic: config.peerCertFile === undefined
  }
}

export interface Settings extends Directories {
  readonly name: string
  readonly token: string
  readonly size: number
  readonly peers: Peers
  readonly peerUrl: string
  readonly clientUrl: string
  readonly listenPeerUrls: ReadonlyArray<string>
  readonly peerTls: PeerTls
  readonly allowInsecurePeers: boolean
  /** Where relative sockets are. */
  readonly runDirectory: string | undefined
  readonly standby: "learner" | "client"
  readonly joinTimeoutMillis: number
  readonly startTimeout: Duration.Duration
  readonly replaceAfterMillis: number
  /** The configuration, but for what says how it begins. */
  readonly config: EtcdConfig.EtcdOptions
  readonly process: EtcdProcess.Options
}

export const majorityOf = (size: number): number => Math.floor(size / 2) + 1

/** Whether two URLs are the same to etcd. */
export const isSame = (one: string, other: string): boolean => {
  const [first, second] = [Url.parse(one), Url.parse(other)]
  return Result.isSuccess(first) && Result.isSuccess(second)
    ? Url.identity(first.success) === Url.identity(second.success)
    : one === other
}

// ── the checks ──

const isUrl = (value: unknown): value is string =>
  typeof value === "string" && value === value.trim() && Result.isSuccess(Url.parse(value))

const url = (example: string): Options.Check => ({
  accepts: isUrl,
  due: `a URL with a host and a port, such as ${example}`
})

/** A list of peer URLs, wherever it came from. */
export const urlList: Options.Check = {
  accepts: (value) => Array.isArray(value) && value.every(isUrl),
  due: "a list of peer URLs, such as https://10.0.0.4:2380"
}

const isSrv = (value: unknown): boolean =>
  Options.isObject(value) &&
  Object.keys(value).every((name) => name === "srv" || name === "service") &&
  Object.values(value).every((text) => typeof text === "string" && text.trim() !== "") &&
  "srv" in value

const isName = (value: unknown): boolean =>
  typeof value === "string" && value.trim() !== "" && value.isWellFormed() && !/[,=]/.test(value)

const { restart: _, runDirectoryIsTemporary: __, ...ofNode } = ProcessOptions.ofNode

const checks: Options.Checks<Given> = {
  ...ofNode,
  name: { accepts: isName, due: "a name without commas and equals signs, which no other instance has" },
  dataDir: Options.text("the name of a directory"),
  peerUrl: url("https://10.0.0.4:2380"),
  clientUrl: url("https://10.0.0.4:2379"),
  peers: {
    accepts: (value) => urlList.accepts(value) || isSrv(value) || Effect.isEffect(value) || Stream.isStream(value),
    due: `${urlList.due}, { srv: "a domain" }, or an Effect or a Stream of lists`
  },
  size: Options.countUpTo(99),
  cluster: Options.text("a token that names the cluster"),
  config: { accepts: Options.isObject, due: "an object with options of etcd" },
  standby: Options.oneOf("learner", "client"),
  joinTimeout: Options.duration,
  replaceAfter: Options.duration,
  allowInsecurePeers: Options.flag
}

const required = ["name", "dataDir", "peerUrl", "clientUrl", "peers", "size"] as const

/** What an instance says by options of its own, or decides when it joins. */
const own = {
  name: "the option name",
  dataDir: "the option dataDir",
  initialAdvertisePeerUrls: "the option peerUrl",
  advertiseClientUrls: "the option clientUrl",
  initialCluster: "the option peers",
  initialClusterToken: "the option cluster",
  initialClusterState: undefined,
  discovery: "the option peers",
  discoverySrv: "the option peers",
  discoverySrvName: "the option peers",
  discoveryEndpoints: "the option peers",
  discoveryToken: "the option cluster",
  forceNewCluster: undefined,
  // One learner at a time: so no two can be promoted to the same place.
  maxLearners: undefined
} as const

const problemOfOwn = (config: EtcdConfig.EtcdOptions): { option: string; message: string } | undefined => {
  for (const [option, instead] of Object.entries(own)) {
    if (config[option as keyof EtcdConfig.EtcdOptions] === undefined) continue
    const advice = instead === undefined ? "An instance that joins by itself decides that." : `Give ${instead}.`
    return { option, message: `${who}: config has ${option}, which is not to be given there. ${advice}` }
  }
  return undefined
}

const isExposed = (text: string): boolean => {
  const url = Result.getOrUndefined(Url.parse(text))
  return url !== undefined && !Url.isLocal(url)
}

export const isEncrypted = (text: string): boolean => {
  const url = Result.getOrUndefined(Url.parse(text))
  return url !== undefined && Url.isEncrypted(url)
}

/** Of these URLs, those over which anybody could join, or read along. */
export const unprotected = (settings: Pick<Settings, "allowInsecurePeers" | "peerTls">, urls: ReadonlyArray<string>) =>
  settings.allowInsecurePeers
    ? []
    : urls.filter((text) => isExposed(text) && !(isEncrypted(text) && settings.peerTls.isMutual))

export const unprotectedMessage = (urls: ReadonlyArray<string>): string =>
  `${who}: members of other machines are reached at ${urls.join(", ")}, and nothing there shows who they are or hides what ` +
  "they say. Use https peer URLs, and give config.peerCertFile, config.peerKeyFile and config.peerTrustedCaFile with " +
  "config.peerClientCertAuth: true. Where the network itself sees to that, say allowInsecurePeers: true."

/**
 * Of these URLs, those at which no etcd reaches another: it asks for the host of a URL, which an absolute socket has not, and
 * from 3.5 on it has no TLS on the sockets of its peers.
 */
export const unreachable = (urls: ReadonlyArray<string>): ReadonlyArray<string> =>
  urls.filter((text) => {
    const url = Result.getOrUndefined(Url.parse(text))
    return url?.socket !== undefined && (url.socket.startsWith("/") || Url.isEncrypted(url))
  })

export const unreachableMessage = (urls: ReadonlyArray<string>): string =>
  `no etcd reaches another one at ${urls.join(", ")}: of sockets, use those that are relative to the runDirectory of all ` +
  "instances, without TLS (unix://a.peer:0)"

const relativeSockets = (urls: ReadonlyArray<string>): ReadonlyArray<string> =>
  urls.filter((text) => Result.getOrUndefined(Url.parse(text))?.socket?.startsWith("/") === false)

// ── what is made of it ──

type Made<A> = Effect.Effect<A, EtcdProcessError.EtcdProcessError, Path.Path>

/** Reads the options. Fails with `InvalidConfig`. */
export const make = (options: Given): Made<Settings> =>
  Effect.gen(function* () {
    yield* ProcessOptions.check(who, checks, options ?? (null as never))
    const missing = required.find((name) => options[name] === undefined)
    if (missing !== undefined) {
      return yield* ProcessOptions.refused(missing, `${who}: the option ${missing} has to be ${checks[missing].due}.`)
    }
    const path = yield* Path.Path
    const { clientUrl, config: given = {}, name, peerUrl, peers, size } = options
    const config = yield* EtcdConfig.decode(given)
    const problem = problemOfOwn(config)
    if (problem !== undefined) return yield* ProcessOptions.refused(problem.option, problem.message)
    const runDirectory = options.runDirectory === undefined ? undefined : path.resolve(options.runDirectory)
    const isList = Array.isArray(peers)
    const told = [peerUrl, ...(isList ? (peers as ReadonlyArray<string>) : [])]
    const lost = unreachable(told)
    if (lost.length > 0) return yield* ProcessOptions.refused("peerUrl", `${who}: ${unreachableMessage(lost)}.`)
    const sockets = relativeSockets([clientUrl, ...told])
    if (sockets.length > 0 && runDirectory === undefined) {
      return yield* ProcessOptions.refused(
        "runDirectory",
        `${who}: ${sockets.join(", ")} is relative to the directory that etcd runs in. Give all instances the same runDirectory.`
      )
    }
    const file = (name: string | undefined) => (name === undefined ? undefined : path.resolve(name))
    const settings: Settings = {
      name,
      token: options.cluster ?? "etcd-cluster",
      size,
      peers,
      peerUrl,
      clientUrl,
      dataDir: path.resolve(options.dataDir),
      walDir: file(config.walDir),
      listenPeerUrls: config.listenPeerUrls ?? [peerUrl],
      peerTls: peerTlsOf(config, file),
      allowInsecurePeers: options.allowInsecurePeers ?? false,
      runDirectory,
      standby: options.standby ?? "learner",
      joinTimeoutMillis: Duration.toMillis(Duration.fromInputUnsafe(options.joinTimeout ?? Duration.infinity)),
      startTimeout: Duration.fromInputUnsafe(options.startTimeout ?? "30 seconds"),
      replaceAfterMillis: Duration.toMillis(Duration.fromInputUnsafe(options.replaceAfter ?? Duration.infinity)),
      config,
      process: {
        ...{ binary: options.binary, gracePeriod: options.gracePeriod, log: options.log, client: options.client },
        ...{ eventBuffer: options.eventBuffer, statusInterval: options.statusInterval },
        ...{ runDirectory, environment: options.environment }
      }
    }
    const exposed = unprotected(settings, [...new Set([...told, ...settings.listenPeerUrls])])
    if (exposed.length > 0) return yield* ProcessOptions.refused("peerUrl", unprotectedMessage(exposed))
    return settings
  })

/** The set of URLs of which a cluster can begin: this instance is among them, and there are as many as there are to be. */
export interface Declared {
  readonly urls: ReadonlyArray<string>
  readonly hasOwn: boolean
  /** The id of the cluster that they would begin, where they are complete. */
  readonly clusterId: bigint | undefined
  /** The one that this instance has been a member of, and is none any more: that one, or what it began as. */
  readonly left: bigint | undefined
}

export const declaredBy = (settings: Settings, urls: ReadonlyArray<string>): Declared => {
  const different = urls.filter((url, index) => urls.findIndex((other) => isSame(url, other)) === index)
  const hasOwn = different.some((url) => isSame(url, settings.peerUrl))
  const isComplete = hasOwn && different.length === settings.size
  return {
    urls: different,
    hasOwn,
    clusterId: isComplete
      ? Ids.ofCluster(
          different.map((url) => [url]),
          settings.token
        )
      : undefined,
    left: undefined
  }
}

/** Where clients, and this library, reach what is at a URL: relative sockets by their paths. */
export const reached = ({ runDirectory }: Pick<Settings, "runDirectory">, text: string): string => {
  const url = Result.getOrUndefined(Url.parse(text))
  if (url?.socket === undefined || url.socket.startsWith("/") || runDirectory === undefined) return text
  return `${url.scheme}://${runDirectory}/${url.socket}`
}
