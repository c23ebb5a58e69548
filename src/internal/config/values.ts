/**
 * What the parts of resolving share: values, problems with them, and what URLs and names among them say.
 *
 * @internal
 */
import * as Result from "effect/Result"
import type * as SemVer from "effect/SemVer"
import * as Url from "../url.ts"
import type { Problem } from "./read.ts"
import * as Table from "./table.ts"

export type Values = Table.Values
export type Key = Table.Key

export const problem = (key: Key, message: string): Problem => ({ option: Table.newestName(key), message })

export const problemIf = (condition: boolean, key: Key, message: string): ReadonlyArray<Problem> =>
  condition ? [problem(key, message)] : []

export const inVersion = (version: SemVer.SemVer, range: string) => Table.contains(range, version)

export const parsed = (urls: ReadonlyArray<string> | undefined): ReadonlyArray<Url.EtcdUrl> =>
  (urls ?? []).flatMap((url) => {
    const result = Url.parse(url)
    return Result.isSuccess(result) ? [result.success] : []
  })

export const urlsOf = (values: Values, key: Key) => parsed(values[key] as ReadonlyArray<string> | undefined)

export const unique = (texts: ReadonlyArray<string>): ReadonlyArray<string> => [...new Set(texts)]

export const discovers = (values: Values) =>
  values.discovery !== undefined || values.discoverySrv !== undefined || values.discoveryEndpoints !== undefined

export const own = (members: Readonly<Record<string, ReadonlyArray<string>>> | undefined, name: string) =>
  members !== undefined && Object.hasOwn(members, name) ? members[name] : undefined

/** Before, etcd does not advertise a socket by an absolute path. */
export const unixAdvertised = ">=3.7.0"

/**
 * There the JSON gateway dials `unix://name:0`, which the gRPC that they were built with refuses, and etcd ends. (Fact:
 * `grpcGatewayDial` in `embed/etcd.go`.)
 */
const gatewayWithoutSockets = ">=3.4.28 <3.5.0"

/** The sockets for clients that keep this etcd from serving its JSON gateway. */
export const gatewayObstacles = (values: Values, version: SemVer.SemVer): ReadonlyArray<Url.EtcdUrl> =>
  inVersion(version, gatewayWithoutSockets)
    ? urlsOf(values, "listenClientUrls").filter(({ socket }) => socket !== undefined)
    : []

export const journal = "systemd/journal"

/** The streams that this library reads, by all names that etcd opens them by. */
export const ownStreams: ReadonlySet<string> = new Set([
  ...["default", "stdout", "stderr"],
  ...["/dev/stdout", "/dev/stderr", "/dev/fd/1", "/dev/fd/2", "/proc/self/fd/1", "/proc/self/fd/2"]
])

export const isFile = (output: string) => output !== journal && !ownStreams.has(output)
