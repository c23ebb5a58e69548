/**
 * What is filled in where the user says nothing.
 *
 * @internal
 */
import * as Hash from "effect/Hash"
import type * as SemVer from "effect/SemVer"
import * as Url from "../url.ts"
import type { Problem } from "./read.ts"
import * as Table from "./table.ts"
import {
  discovers,
  gatewayObstacles,
  inVersion,
  isFile,
  journal,
  type Key,
  own,
  ownStreams,
  parsed,
  problem,
  unique,
  unixAdvertised,
  urlsOf,
  type Values
} from "./values.ts"

const allBindable = (urls: ReadonlyArray<string>) => parsed(urls).every(Url.isBindable)

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
export const privatePeerUrl = "unix://peer.sock:0"
const unusedClientUrl = "http://localhost:0"
const unusedPeerUrl = "http://localhost:2380"

export const fillClientUrls = (
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

export const fillPeerUrls = (
  given: Values,
  name: string,
  problems: Array<Problem>,
  warnings: Array<string>
): Values => {
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

export const fillSecurity = (given: Values): Values => {
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
export const fillHttpUrls = (given: Values, name: string, version: SemVer.SemVer, warnings: Array<string>): Values => {
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
  const socket = privateHttpUrl(name)
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

/** Without a gateway, where this etcd would end because of one. */
export const fillGateway = (given: Values, version: SemVer.SemVer, warnings: Array<string>): Values => {
  const sockets = gatewayObstacles(given, version)
  if (given.enableGrpcGateway !== undefined || sockets.length === 0) return given
  if (urlsOf(given, "listenClientUrls").length > sockets.length) {
    warnings.push(`there is no JSON gateway, which this etcd cannot serve beside ${sockets[0]!.text}`)
  }
  return { ...given, enableGrpcGateway: false }
}

/** Before, etcd looks for revoked certificates only where it serves HTTP. */
const revocationsWithoutHttp = ">=3.5.32 <3.6.0 || >=3.6.13"
const blindWarning =
  "with listen-client-http-urls, this etcd does not look at client-crl-file where it serves gRPC: revoked certificates " +
  "are accepted there until 3.5.32 and 3.6.13"

const longestFileName = 40

/** A short text of letters, digits, dots, dashes and underscores, for each name another one. */
const fileName = (name: string) => {
  const text = name.replace(/[^A-Za-z0-9.-]/g, (character) => `_${character.charCodeAt(0).toString(16)}_`)
  return text.length <= longestFileName ? text : `${text.slice(0, 30)}_${(Hash.string(name) >>> 0).toString(16)}`
}

/** Where a member of that name serves HTTP apart, unless it is told where. */
export const privateHttpUrl = (name: string) => `unixs://${fileName(name)}.http:0`

/** Where this is among the outputs, etcd logs nowhere. */
const nowhere = "/dev/null"

/** Each line comes by standard output, and by no second way. */
const outputsOf = (given: ReadonlyArray<string>): ReadonlyArray<string> => [
  "stdout",
  ...given.filter((output) => !ownStreams.has(output) && output !== nowhere)
]

export const fillLogging = (given: Values, warnings: Array<string>): Values => {
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

export const absolutePaths = (values: Values, directory: string): Values => {
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
