/**
 * From the options that a user gave to those that one etcd of one version is started with: the defaults filled in, and
 * all refused that etcd itself would refuse, before anything is spawned.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Equal from "effect/Equal"
import * as Result from "effect/Result"
import * as SemVer from "effect/SemVer"
import * as Url from "../url.ts"
import type { Problem } from "./read.ts"
import { nearest } from "./read.ts"
import * as Table from "./table.ts"

type Values = Table.Values
type Key = Table.Key

/** What came of resolving. */
export interface Outcome {
  readonly name: string
  readonly values: Values
  readonly warnings: ReadonlyArray<string>
  readonly problems: ReadonlyArray<Problem>
}

/** What the options are resolved for. */
export interface Target {
  readonly version: SemVer.SemVer
  readonly dataDir: string
  /** What relative paths of files start from. */
  readonly directory: string
}

export const resolve = (given: Values, target: Target): Outcome => {
  const { directory, version } = target
  const problems: Array<Problem> = []
  const warnings: Array<string> = []
  const name = given.name ?? "default"
  const known = leaveOutImplied(given, version, problems, warnings)
  const gated = foldFeatures(known, version, problems, warnings)
  const named: Values = { ...gated, name, dataDir: target.dataDir }
  const reachable = fillPeerUrls(fillClientUrls(named, version, problems, warnings), name, problems, warnings)
  const secured = fillHttpUrls(fillSecurity(reachable), name, version, warnings)
  const values = absolutePaths(fillLogging(secured, warnings), directory)
  for (const check of checks) problems.push(...check(values, version))
  warnings.push(...exposures(values))
  return { name, values, warnings, problems }
}

const problem = (key: Key, message: string): Problem => ({ option: Table.newestName(key), message })

const problemIf = (condition: boolean, key: Key, message: string): ReadonlyArray<Problem> =>
  condition ? [problem(key, message)] : []

// ---------------------------------------------------------------------------------------------------------------------
// versions
// ---------------------------------------------------------------------------------------------------------------------

const inVersion = (version: SemVer.SemVer, range: string) => Table.contains(range, version)

/**
 * What a version does not have is a problem, unless it says what that version does anyway: files outlive the options in
 * them, and etcd's own sample still switched off what was long gone.
 */
const leaveOutImplied = (
  given: Values,
  version: SemVer.SemVer,
  problems: Array<Problem>,
  warnings: Array<string>
): Values => {
  const left: Partial<Record<Key, unknown>> = { ...given }
  const implied: Array<Key> = []
  const here = `etcd ${SemVer.format(version)}`
  for (const key of Table.keys) {
    const missing = given[key] === undefined ? undefined : whatIsMissing(key, given[key], version)
    if (missing === undefined) continue
    if (isImplied(key, given)) implied.push(key)
    else problems.push(problem(key, `${here} ${missing.told}; it is in ${missing.range}`))
  }
  for (const key of implied) delete left[key]
  if (implied.length > 0) {
    warnings.push(
      `left out is what ${here} does not have, and does not need: ${implied.map(Table.newestName).join(", ")}`
    )
  }
  return left as Values
}

const isNone = (value: unknown) => Array.isArray(value) && value.length === 0

const whatIsMissing = (key: Key, value: unknown, version: SemVer.SemVer) => {
  const { gate, kind } = Table.get(key)
  if (key === "featureGates" || isNone(value)) return undefined
  if (Table.nameFor(key, version) === undefined && !(gate !== undefined && hasFeatureGates(version))) {
    return { told: "does not have this option", range: rangesOf(key) }
  }
  const limit = typeof value === "string" ? kind.limits[value] : undefined
  return limit === undefined || inVersion(version, limit)
    ? undefined
    : { told: `does not know "${value}"`, range: limit }
}

/** What happens when discovery fails is nothing to a node that does not discover. */
const isImplied = (key: Key, given: Values): boolean =>
  Equal.equals(Table.get(key).implied, given[key]) && !(key === "discoveryFallback" && discovers(given))

const rangesOf = (key: Key) => [...new Set(Object.values(Table.get(key).names))].join(" || ")

const hasFeatureGates = (version: SemVer.SemVer) => Table.nameFor("featureGates", version) !== undefined

const gatedKeys: ReadonlyArray<readonly [gate: string, key: Key]> = Table.keys.flatMap((key) => {
  const gate = Table.get(key).gate
  return gate === undefined ? [] : [[gate, key] as const]
})

/** From 3.6 on, features are given by `feature-gates`; before, each by a flag of its own. */
const foldFeatures = (
  given: Values,
  version: SemVer.SemVer,
  problems: Array<Problem>,
  warnings: Array<string>
): Values => {
  const features = leaveOutFeatures(given.featureGates ?? {}, version, warnings)
  for (const [gate, key] of gatedKeys) {
    const value = given[key]
    if (value !== undefined && Object.hasOwn(features, gate) && features[gate] !== value) {
      problems.push(problem(key, `contradicts ${gate}=${features[gate]} in feature-gates`))
    }
  }
  for (const gate of Object.keys(features)) problems.push(...unknownFeature(gate, version))
  return hasFeatureGates(version) ? flagsToFeatures(given, features) : featuresToFlags(given, features)
}

const rangeOfFeature = (gate: string) => (Object.hasOwn(Table.gates, gate) ? Table.gates[gate] : undefined)

const hasFeature = (gate: string, range: string, version: SemVer.SemVer) => {
  const key = gatedKeys.find(([known]) => known === gate)?.[1]
  return inVersion(version, range) || (key !== undefined && Table.nameFor(key, version) !== undefined)
}

/** A feature that a version does not have is off there. */
const leaveOutFeatures = (
  features: Readonly<Record<string, boolean>>,
  version: SemVer.SemVer,
  warnings: Array<string>
): Readonly<Record<string, boolean>> =>
  Object.fromEntries(
    Object.entries(features).filter(([gate, on]) => {
      const range = rangeOfFeature(gate)
      if (on || range === undefined || hasFeature(gate, range, version)) return true
      warnings.push(
        `${gate}=false in feature-gates is left out: etcd ${SemVer.format(version)} does not have the feature`
      )
      return false
    })
  )

const unknownFeature = (gate: string, version: SemVer.SemVer): ReadonlyArray<Problem> => {
  const range = rangeOfFeature(gate)
  if (range === undefined) {
    const suggestion = nearest(gate, Object.keys(Table.gates))
    const hint = suggestion === undefined ? "" : `; did you mean ${suggestion}?`
    return [problem("featureGates", `${gate} is not a feature of etcd${hint}`)]
  }
  return problemIf(
    !hasFeature(gate, range, version),
    "featureGates",
    `etcd ${SemVer.format(version)} does not have the feature ${gate}; it is in ${range}`
  )
}

const flagsToFeatures = (given: Values, features: Readonly<Record<string, boolean>>): Values => {
  const { featureGates: _, ...others } = given
  const rest: Partial<Record<Key, unknown>> = others
  const all: Record<string, boolean> = { ...features }
  for (const [gate, key] of gatedKeys) {
    const value = given[key]
    delete rest[key]
    if (typeof value === "boolean") all[gate] = value
  }
  return (Object.keys(all).length === 0 ? rest : { ...rest, featureGates: all }) as Values
}

const featuresToFlags = (given: Values, features: Readonly<Record<string, boolean>>): Values => {
  const { featureGates: _, ...rest } = given
  const flags = gatedKeys.flatMap(([gate, key]) => (Object.hasOwn(features, gate) ? [[key, features[gate]]] : []))
  return { ...rest, ...Object.fromEntries(flags) }
}

// ---------------------------------------------------------------------------------------------------------------------
// URLs
// ---------------------------------------------------------------------------------------------------------------------

const parsed = (urls: ReadonlyArray<string> | undefined): ReadonlyArray<Url.EtcdUrl> =>
  (urls ?? []).flatMap((url) => {
    const result = Url.parse(url)
    return Result.isSuccess(result) ? [result.success] : []
  })

const allBindable = (urls: ReadonlyArray<string>) => parsed(urls).every(Url.isBindable)

const unique = (texts: ReadonlyArray<string>): ReadonlyArray<string> => [...new Set(texts)]

/**
 * What to advertise for something listened on. No other machine can use a Unix socket or a wildcard, so these become
 * loopback addresses, which etcd accepts in every version.
 */
const advertisable = (urls: ReadonlyArray<string>, placeholder: string): ReadonlyArray<string> =>
  unique(parsed(urls).map((url) => (url.socket === undefined ? Url.toLoopback(url) : placeholder)))

const warnOfWildcards = (urls: ReadonlyArray<string>, key: Key, warnings: Array<string>) => {
  const wildcards = parsed(urls).filter(Url.isWildcard)
  if (wildcards.length > 0) {
    warnings.push(
      `${wildcards.map((url) => url.text).join(", ")} stands for every address of this machine, and is advertised as ` +
        `loopback; give ${Table.newestName(key)} if other machines are to use it`
    )
  }
}

/** One node and the sockets in its working directory; tried with 3.4.23, 3.5.16, 3.5.30, 3.6.14 and 3.7.1. */
export const privateClientUrl = "unix://client.sock:0"
const privatePeerUrl = "unix://peer.sock:0"
const unusedClientUrl = "http://localhost:0"
const unusedPeerUrl = "http://localhost:2380"

const fillClientUrls = (
  given: Values,
  version: SemVer.SemVer,
  problems: Array<Problem>,
  warnings: Array<string>
): Values => {
  const advertised = given.advertiseClientUrls
  const bindable = advertised !== undefined && allBindable(advertised)
  if (given.listenClientUrls === undefined && advertised !== undefined && !bindable) {
    problems.push(problem("listenClientUrls", "is needed, because advertise-client-urls has a name that is not an IP"))
  }
  const listened = given.listenClientUrls ?? (bindable ? advertised : [privateClientUrl])
  if (advertised === undefined) warnOfWildcards(listened, "advertiseClientUrls", warnings)
  const absolute = parsed(listened).every((url) => url.socket?.startsWith("/")) && inVersion(version, unixAdvertised)
  return {
    ...given,
    listenClientUrls: listened,
    advertiseClientUrls: advertised ?? (absolute ? listened : advertisable(listened, unusedClientUrl))
  }
}

const discovers = (values: Values) =>
  values.discovery !== undefined || values.discoverySrv !== undefined || values.discoveryEndpoints !== undefined

const own = (members: Readonly<Record<string, ReadonlyArray<string>>> | undefined, name: string) =>
  members !== undefined && Object.hasOwn(members, name) ? members[name] : undefined

const fillPeerUrls = (given: Values, name: string, problems: Array<Problem>, warnings: Array<string>): Values => {
  const announced = given.initialAdvertisePeerUrls ?? own(given.initialCluster, name)
  const bindable = announced !== undefined && allBindable(announced)
  if (given.listenPeerUrls === undefined && announced !== undefined && !bindable) {
    problems.push(problem("listenPeerUrls", "is needed, because the advertised peer URL has a name that is not an IP"))
  }
  const listened = given.listenPeerUrls ?? (bindable ? announced : [privatePeerUrl])
  if (announced === undefined) warnOfWildcards(listened, "initialAdvertisePeerUrls", warnings)
  const advertised = announced ?? advertisable(listened, unusedPeerUrl)
  return {
    ...given,
    listenPeerUrls: listened,
    initialAdvertisePeerUrls: advertised,
    ...(given.initialCluster === undefined && !discovers(given) ? { initialCluster: { [name]: advertised } } : {})
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// the other defaults
// ---------------------------------------------------------------------------------------------------------------------

const fillSecurity = (given: Values): Values => {
  const peersEncrypted = parsed(given.listenPeerUrls).some(Url.isEncrypted)
  const needsPeerCertificate = peersEncrypted && given.peerCertFile === undefined && given.peerKeyFile === undefined
  const clientHosts = parsed([...(given.listenClientUrls ?? []), ...(given.advertiseClientUrls ?? [])])
    .filter((url) => url.socket === undefined && !Url.isWildcard(url))
    .map((url) => url.host)
  return {
    ...given,
    hostWhitelist: given.hostWhitelist ?? unique(["localhost", "127.0.0.1", ...clientHosts]),
    ...(given.peerAutoTls === undefined && needsPeerCertificate ? { peerAutoTls: true } : {})
  }
}

/**
 * With TLS, a port that serves HTTP too runs gRPC through Go's general HTTP server: several times fewer calls, and watches
 * that starve. So HTTP gets a socket of its own, which asks for the same certificates as the port did.
 */
const fillHttpUrls = (given: Values, name: string, version: SemVer.SemVer, warnings: Array<string>): Values => {
  const { listenClientHttpUrls: urls, ...rest } = given
  const blind = given.clientCrlFile !== undefined && !inVersion(version, revocationsWithoutHttp)
  if (urls !== undefined) {
    if (blind && urls.length > 0) warnings.push(blindWarning)
    return urls.length === 0 ? rest : given
  }
  const encrypted = urlsOf(given, "listenClientUrls").filter(Url.isEncrypted)
  const certified = given.certFile !== undefined || given.autoTls === true
  const wanted = given.enableV2 === true || given.enableGrpcGateway === true
  if (
    encrypted.length === 0 ||
    !certified ||
    wanted ||
    blind ||
    Table.nameFor("listenClientHttpUrls", version) === undefined
  ) {
    return given
  }
  const socket = `unixs://${fileName(name)}.http:0`
  const ports = urlsOf(given, "listenClientUrls").filter((url) => url.socket === undefined)
  if (ports.some((url) => url.scheme === "http" || !Url.isLocal(url))) {
    warnings.push(
      `${ports.map((url) => url.text).join(", ")} serves gRPC alone, which is faster with TLS; HTTP (/health, /metrics, ` +
        `/version, the JSON gateway) is only at ${socket} in the node's working directory. Give listen-client-http-urls ` +
        "where it is to be reached, or an empty list to have it on the same ports"
    )
  }
  return { ...given, listenClientHttpUrls: [socket] }
}

/** Before, etcd looks for revoked certificates only where it serves HTTP. */
const revocationsWithoutHttp = ">=3.5.32 <3.6.0 || >=3.6.13"
const blindWarning =
  "with listen-client-http-urls, this etcd does not look at client-crl-file where it serves gRPC: revoked certificates " +
  "are accepted there until 3.5.32 and 3.6.13"

/** A text of letters, digits, dots and dashes, for each name another one. */
const fileName = (name: string) =>
  name.replace(/[^A-Za-z0-9.-]/g, (character) => `_${character.charCodeAt(0).toString(16)}_`).slice(0, 80)

const journal = "systemd/journal"

/** The streams that this library reads, by all names that etcd opens them by. */
const ownStreams: ReadonlySet<string> = new Set([
  ...["default", "stdout", "stderr"],
  ...["/dev/stdout", "/dev/stderr", "/dev/fd/1", "/dev/fd/2", "/proc/self/fd/1", "/proc/self/fd/2"]
])

/** Where this is among the outputs, etcd logs nowhere. */
const nowhere = "/dev/null"

/** Each line comes by standard output, and by no second way. */
const outputsOf = (given: ReadonlyArray<string>): ReadonlyArray<string> => [
  "stdout",
  ...given.filter((output) => !ownStreams.has(output) && output !== nowhere)
]

const fillLogging = (given: Values, warnings: Array<string>): Values => {
  const outputs = given.logOutputs ?? []
  const hidden = outputs.includes(journal)
  if (hidden) warnings.push(`log-outputs has ${journal}, so no events are seen and the role is asked for instead`)
  return {
    ...given,
    logger: given.logger ?? "zap",
    logLevel: given.logLevel ?? "info",
    logOutputs: hidden ? outputs : outputsOf(outputs)
  }
}

const absolute = /^(?:\/|\\\\|[A-Za-z]:[\\/])/

const isFile = (output: string) => output !== journal && !ownStreams.has(output)

const absolutePaths = (values: Values, directory: string): Values => {
  const from = (file: string) => (absolute.test(file) ? file : `${directory.replace(/[\\/]$/, "")}/${file}`)
  const entries = Object.entries(values).map(([name, value]): readonly [string, unknown] => {
    const key = name as Key
    if (key === "authToken") return [key, withAbsoluteKeys(value as string, from)]
    if (!Table.get(key).kind.file) return [key, value]
    return [
      key,
      typeof value === "string"
        ? from(value)
        : (value as ReadonlyArray<string>).map((output) => (isFile(output) ? from(output) : output))
    ]
  })
  return Object.fromEntries(entries) as Values
}

const withAbsoluteKeys = (token: string, from: (file: string) => string) =>
  token
    .split(",")
    .map((part) => part.replace(/^(pub-key|priv-key)=(.+)$/s, (_, name, file: string) => `${name}=${from(file)}`))
    .join(",")

// ---------------------------------------------------------------------------------------------------------------------
// what etcd refuses
// ---------------------------------------------------------------------------------------------------------------------

type Check = (values: Values, version: SemVer.SemVer) => ReadonlyArray<Problem>

const unixPaths = ">=3.5.13"
const unixAdvertised = ">=3.7.0"
const certificateLists = ">=3.5.15"
const maxSocketPath = 107

const listening: ReadonlyArray<Key> = [
  "listenPeerUrls",
  "listenClientUrls",
  "listenClientHttpUrls",
  "listenMetricsUrls"
]
const advertising: ReadonlyArray<Key> = ["initialAdvertisePeerUrls", "advertiseClientUrls"]

const urlsOf = (values: Values, key: Key) => parsed(values[key] as ReadonlyArray<string> | undefined)

const checkListening: Check = (values) =>
  listening.flatMap((key) =>
    urlsOf(values, key)
      .filter((url) => !Url.isBindable(url))
      .map((url) => problem(key, `etcd listens only on IP addresses and localhost, and "${url.host}" is a name`))
  )

const checkSockets: Check = (values, version) => [
  ...[...listening, ...advertising].flatMap((key) =>
    urlsOf(values, key).flatMap((url) => [
      ...problemIf(
        url.socket !== undefined && !inVersion(version, unixPaths) && !/^[^/]+:\d*$/.test(url.socket),
        key,
        `before 3.5.13, etcd takes sockets only in the form ${url.scheme}://name:0, so not ${url.text}`
      ),
      ...problemIf(
        (url.socket?.length ?? 0) > maxSocketPath,
        key,
        `the path of a Unix socket has at most ${maxSocketPath} characters, and ${url.text} has ${url.socket?.length}`
      )
    ])
  ),
  ...advertising.flatMap((key) =>
    urlsOf(values, key)
      .filter((url) => url.host === "" && inVersion(version, unixPaths) && !inVersion(version, unixAdvertised))
      .map((url) => problem(key, `before 3.7.0, etcd does not advertise a socket by an absolute path like ${url.text}`))
  )
]

/** Addresses that two listeners want. */
const checkCollisions: Check = (values) => {
  const takenBy = new Map<string, Key>()
  return listening.flatMap((key) =>
    urlsOf(values, key).flatMap((url) => {
      const address = Url.listenKey(url)
      const other = takenBy.get(address)
      takenBy.set(address, key)
      return problemIf(
        other !== undefined && other !== key && (url.socket !== undefined || url.port !== 0),
        key,
        `${url.text} is in ${Table.newestName(other ?? key)} too; each needs an address of its own`
      )
    })
  )
}

const checkMembership: Check = (values) => {
  const cluster = values.initialCluster
  if (cluster === undefined) return []
  const name = values.name!
  const urls = own(cluster, name)
  if (urls === undefined) {
    const others = Object.keys(cluster)
    const suggestion = nearest(name, others)
    const hint = suggestion === undefined ? "" : `; did you mean the name ${suggestion}?`
    return [problem("initialCluster", `does not have this node, ${name}, but only ${others.join(", ")}${hint}`)]
  }
  return values.initialClusterState === "existing"
    ? []
    : checkAdvertised(name, parsed(urls), urlsOf(values, "initialAdvertisePeerUrls"))
}

/** etcd looks names up before it compares, so only addresses can be compared here. */
const checkAdvertised = (
  name: string,
  inCluster: ReadonlyArray<Url.EtcdUrl>,
  advertised: ReadonlyArray<Url.EtcdUrl>
): ReadonlyArray<Problem> => {
  const known = new Set(inCluster.map(Url.identity))
  const same = known.size === advertised.length && advertised.every((url) => known.has(Url.identity(url)))
  if (same) return []
  const comparable = [...inCluster, ...advertised].every((url) => url.socket !== undefined || Url.isIp(url.host))
  const list = (urls: ReadonlyArray<Url.EtcdUrl>) => urls.map((url) => url.text).join(", ")
  return problemIf(
    comparable,
    "initialAdvertisePeerUrls",
    `is ${list(advertised)}, but initial-cluster has ${list(inCluster)} for ${name}; both must be the same`
  )
}

const checkDuplicateMembers: Check = (values) => {
  const owners = new Map<string, string>()
  return Object.entries(values.initialCluster ?? {}).flatMap(([name, urls]) =>
    parsed(urls).flatMap((url) => {
      const other = owners.get(Url.identity(url))
      owners.set(Url.identity(url), name)
      return problemIf(
        other !== undefined && other !== name,
        "initialCluster",
        `${url.text} belongs to ${other} and to ${name}; each member needs a URL of its own`
      )
    })
  )
}

const bootstraps: ReadonlyArray<Key> = ["discovery", "discoverySrv", "discoveryEndpoints", "initialCluster"]

const checkBootstrap: Check = (values) => {
  const given = bootstraps.filter((key) => values[key] !== undefined)
  const names = given.map(Table.newestName).join(", ")
  return [
    ...problemIf(given.length > 1, given[0] ?? "discovery", `${names}: only one of these can tell the members`),
    ...problemIf(
      values.initialClusterState === "existing" && values.discovery !== undefined,
      "discovery",
      "cannot be used when initial-cluster-state is existing"
    ),
    ...problemIf(
      (values.discoveryToken === undefined) !== (values.discoveryEndpoints === undefined),
      values.discoveryToken === undefined ? "discoveryToken" : "discoveryEndpoints",
      "discovery-token and discovery-endpoints must be given together"
    )
  ]
}

const maxElectionTimeout = 50_000

const checkTiming: Check = (values) => {
  const heartbeat = Duration.toMillis(values.heartbeatInterval ?? 100)
  const election = Duration.toMillis(values.electionTimeout ?? 1000)
  return [
    ...problemIf(heartbeat === 0, "heartbeatInterval", "must be more than 0"),
    ...problemIf(election === 0, "electionTimeout", "must be more than 0"),
    ...problemIf(
      election > 0 && 5 * heartbeat > election,
      "electionTimeout",
      `is ${election} ms, but must be at least 5 times heartbeat-interval, which is ${heartbeat} ms`
    ),
    ...problemIf(
      election > maxElectionTimeout,
      "electionTimeout",
      `is ${election} ms, but must be at most ${maxElectionTimeout} ms`
    )
  ]
}

const checkCompaction: Check = (values) => [
  ...problemIf(
    values.autoCompactionMode === "revision" && Duration.isDuration(values.autoCompactionRetention),
    "autoCompactionRetention",
    "must be a number of revisions, because auto-compaction-mode is revision"
  ),
  ...problemIf(
    values.compactHashCheckTime !== undefined && Duration.isZero(values.compactHashCheckTime),
    "compactHashCheckTime",
    "must be more than 0"
  )
]

const isOn = (values: Values, key: Key, gate: string) => (values.featureGates?.[gate] ?? values[key]) === true

const checkLeases: Check = (values) =>
  problemIf(
    isOn(values, "enableLeaseCheckpointPersist", "LeaseCheckpointPersist") &&
      !isOn(values, "enableLeaseCheckpoint", "LeaseCheckpoint"),
    "enableLeaseCheckpointPersist",
    "needs experimental-enable-lease-checkpoint (the feature LeaseCheckpoint from 3.6 on)"
  )

const filePairs: ReadonlyArray<readonly [certificate: Key, key: Key]> = [
  ["certFile", "keyFile"],
  ["clientCertFile", "clientKeyFile"],
  ["peerCertFile", "peerKeyFile"],
  ["peerClientCertFile", "peerClientKeyFile"]
]

const checkCertificates: Check = (values, version) => [
  ...filePairs.flatMap(([certificate, key]) => {
    const missing = values[certificate] === undefined ? certificate : key
    const present = missing === key ? certificate : key
    return problemIf(
      (values[certificate] === undefined) !== (values[key] === undefined),
      missing,
      `is needed, because ${Table.newestName(present)} is given`
    )
  }),
  ...(["listenClientUrls", "listenClientHttpUrls"] as const).flatMap((key) =>
    problemIf(
      urlsOf(values, key).some(Url.isEncrypted) && values.certFile === undefined && values.autoTls !== true,
      key,
      "has an encrypted URL, which needs cert-file and key-file, or auto-tls"
    )
  ),
  ...problemIf(
    urlsOf(values, "listenPeerUrls").some(Url.isEncrypted) &&
      values.peerCertFile === undefined &&
      values.peerAutoTls === false,
    "listenPeerUrls",
    "has an encrypted URL, which needs peer-cert-file and peer-key-file, or peer-auto-tls"
  ),
  ...problemIf(
    values.peerCertAllowedCn !== undefined && values.peerCertAllowedHostname !== undefined,
    "peerCertAllowedCn",
    "cannot be combined with peer-cert-allowed-hostname"
  ),
  ...(["clientCertAllowedHostname", "peerCertAllowedCn", "peerCertAllowedHostname"] as const).flatMap((key) =>
    problemIf(
      (values[key]?.length ?? 0) > 1 && !inVersion(version, certificateLists),
      key,
      "takes only one name before etcd 3.5.15"
    )
  )
]

const checkTls: Check = (values) => [
  ...problemIf(
    values.tlsMinVersion === "TLS1.3" && values.tlsMaxVersion === "TLS1.2",
    "tlsMinVersion",
    "is TLS1.3, but tls-max-version is TLS1.2"
  ),
  ...problemIf(
    values.tlsMinVersion === "TLS1.3" && values.cipherSuites !== undefined,
    "cipherSuites",
    "cannot be chosen for TLS 1.3, and tls-min-version is TLS1.3"
  )
]

const checkOrigins: Check = (values) =>
  problemIf(
    (values.cors?.length ?? 0) > 1 && values.cors?.includes("*") === true,
    "cors",
    'has "*" besides other origins; give "*" alone'
  )

const checkLogging: Check = (values) => {
  const outputs = values.logOutputs ?? []
  const files = outputs.filter(isFile)
  return [
    ...problemIf(
      outputs.length > 1 && outputs.includes(journal),
      "logOutputs",
      `"${journal}" cannot be combined with other outputs`
    ),
    ...problemIf(
      values.logger === "capnslog" && (files.length > 0 || outputs.includes(journal)),
      "logOutputs",
      "has more than a standard stream, and the logger capnslog knows nothing else"
    ),
    ...problemIf(
      values.enableLogRotation === true && files.length !== 1,
      "enableLogRotation",
      `needs exactly one file in log-outputs, which has ${files.length}`
    )
  ]
}

const tokenOptions: ReadonlySet<string> = new Set(["sign-method", "pub-key", "priv-key", "ttl"])

const checkAuthToken: Check = (values) => {
  const [type, ...options] = (values.authToken ?? "simple").split(",")
  const pairs = options.map((option) => option.split("="))
  const unknown = pairs.find(([name, value, more]) => value === undefined || more !== undefined || name === undefined)
  return [
    ...problemIf(type !== "simple" && type !== "jwt", "authToken", 'must be "simple", or "jwt" and its options'),
    ...problemIf(
      type === "jwt" && (unknown !== undefined || pairs.some(([name]) => !tokenOptions.has(name!))),
      "authToken",
      `after jwt, etcd takes only ${[...tokenOptions].map((name) => `${name}=…`).join(", ")}`
    ),
    ...problemIf(
      type === "jwt" && !pairs.some(([name]) => name === "sign-method"),
      "authToken",
      "jwt needs sign-method, like sign-method=RS256"
    )
  ]
}

const checks: ReadonlyArray<Check> = [
  checkListening,
  checkSockets,
  checkCollisions,
  checkMembership,
  checkDuplicateMembers,
  checkBootstrap,
  checkTiming,
  checkCompaction,
  checkLeases,
  checkCertificates,
  checkTls,
  checkOrigins,
  checkLogging,
  checkAuthToken
]

// ---------------------------------------------------------------------------------------------------------------------
// what is allowed and yet not safe
// ---------------------------------------------------------------------------------------------------------------------

const exposures = (values: Values): ReadonlyArray<string> => {
  const others = Object.entries(values.initialCluster ?? {}).flatMap(([name, urls]) =>
    name === values.name ? [] : urls
  )
  const peers = parsed(unique([...(values.listenPeerUrls ?? []), ...others])).filter((url) => url.scheme === "http")
  const clients = [...urlsOf(values, "listenClientUrls"), ...urlsOf(values, "listenClientHttpUrls")].filter(
    (url) => url.scheme === "http" && !Url.isLocal(url)
  )
  const list = (urls: ReadonlyArray<Url.EtcdUrl>) => urls.map((url) => url.text).join(", ")
  return [
    ...(peers.length === 0
      ? []
      : [
          `the traffic between members over ${list(peers)} is not encrypted` +
            `${peers.every(Url.isLocal) ? "" : " and leaves this machine"}; use https for peer URLs`
        ]),
    ...(clients.length === 0
      ? []
      : [`clients reach ${list(clients)} from other machines, and their traffic is not encrypted; use https`]),
    ...(values.name === "default" && Object.keys(values.initialCluster ?? {}).length > 1
      ? ["a member of a cluster of several is named default; give each member a name of its own"]
      : [])
  ]
}
