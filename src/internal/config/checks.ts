/**
 * What etcd itself would refuse, said before anything is spawned, and what it allows although it is not safe.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import type * as SemVer from "effect/SemVer"
import * as Url from "../url.ts"
import type { Problem } from "./read.ts"
import { nearest } from "./read.ts"
import * as Table from "./table.ts"
import {
  gatewayObstacles,
  inVersion,
  isFile,
  journal,
  type Key,
  own,
  parsed,
  problem,
  problemIf,
  unique,
  unixAdvertised,
  urlsOf,
  type Values
} from "./values.ts"

type Check = (values: Values, version: SemVer.SemVer) => ReadonlyArray<Problem>

const unixPaths = ">=3.5.13"
const certificateLists = ">=3.5.15"
const maxSocketPath = 107

const listening: ReadonlyArray<Key> = [
  "listenPeerUrls",
  "listenClientUrls",
  "listenClientHttpUrls",
  "listenMetricsUrls"
]
const advertising: ReadonlyArray<Key> = ["initialAdvertisePeerUrls", "advertiseClientUrls"]

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

const checkGateway: Check = (values, version) => {
  const [socket] = gatewayObstacles(values, version)
  return problemIf(
    values.enableGrpcGateway === true && socket !== undefined,
    "enableGrpcGateway",
    `from 3.4.28 on, etcd 3.4 does not serve the JSON gateway where it listens on ${socket?.text}`
  )
}

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

const all: ReadonlyArray<Check> = [
  checkListening,
  checkSockets,
  checkGateway,
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

/** Everything that etcd would refuse. */
export const problemsOf: Check = (values, version) => all.flatMap((check) => check(values, version))

/** What is allowed and yet not safe. */
export const exposures = (values: Values): ReadonlyArray<string> => {
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
