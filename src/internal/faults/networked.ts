/**
 * A cluster whose members call each other over a network that can be disturbed.
 *
 * @internal
 */
import type * as net from "node:net"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Latch from "effect/Latch"
import type * as Path from "effect/Path"
import type * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import type * as Scope from "effect/Scope"
import type * as EtcdCluster from "../../EtcdCluster.ts"
import type { EtcdOptions } from "../../EtcdConfig.ts"
import * as EtcdProcess from "../../EtcdProcess.ts"
import type * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Members from "../cluster/fleet.ts"
import * as ProcessOptions from "../process/options.ts"
import * as Sockets from "../process/sockets.ts"
import * as Mounts from "./mounts.ts"
import * as Network from "./network.ts"

export interface Networked {
  readonly cluster: EtcdCluster.Cluster
  readonly network: Network.Network
  readonly runDirectory: string
  /** Where the members have disks of their own. */
  readonly disks: Mounts.Mounts | undefined
  /** Of each member by its name. While it is closed, nobody starts the member: neither who asks for it nor a schedule. */
  readonly gates: ReadonlyMap<string, Latch.Latch>
}

/** Where members listen for each other, and where their ways out are. */
interface Addresses {
  /** Where the member listens that others call by a host. */
  readonly peers: ReadonlyMap<string, Network.Called>
  readonly configOf: (name: string) => EtcdOptions
  readonly wayOutOf: (name: string) => net.ListenOptions
}

const peersOf = (
  names: ReadonlyArray<string>,
  hostOf: (name: string) => string,
  addressOf: (name: string) => net.NetConnectOpts
) => new Map(names.map((name) => [hostOf(name), { name, address: addressOf(name) }]))

/** On Unix sockets, as members of a cluster listen by themselves. */
const onSockets = ({ names, runDirectory }: Members.Home): Addresses => ({
  peers: peersOf(names, Members.peerSocketOf, (name) => ({ path: `${runDirectory}/${Members.peerSocketOf(name)}` })),
  configOf: () => ({}),
  wayOutOf: (name) => ({ path: `${runDirectory}/${name}.out:0` })
})

const loopback = "127.0.0.1"

/** To this machine nothing goes through a proxy, unless its name is written so. It is looked up by nobody. */
const thisMachine = "localhost."

/**
 * On ports, since etcd has no TLS on Unix sockets from 3.5 on. These are others each time; what members call each other, and
 * keep in their data, is not, and no such port is ever dialled.
 */
const onPorts = ({ names }: Members.Home): Effect.Effect<Addresses> =>
  Effect.gen(function* () {
    const ports = new Map<string, number>()
    for (const name of names) ports.set(name, (yield* Sockets.freePort(loopback))!)
    const hostOf = (name: string) => `${thisMachine}:${names.indexOf(name) + 1}`
    const initialCluster = Object.fromEntries(names.map((name) => [name, [`https://${hostOf(name)}`]]))
    return {
      peers: peersOf(names, hostOf, (name) => ({ host: loopback, port: ports.get(name)! })),
      configOf: (name) => ({
        listenPeerUrls: [`https://${loopback}:${ports.get(name)}`],
        initialAdvertisePeerUrls: [`https://${hostOf(name)}`],
        initialCluster
      }),
      wayOutOf: () => ({ host: loopback, port: 0 })
    }
  })

/** As a proxy is named: the socket in the working directory, or the port. */
const nameOf = (wayOut: net.ListenOptions, server: net.Server): string => {
  const address = server.address()
  return typeof address === "string"
    ? wayOut.path!.slice(wayOut.path!.lastIndexOf("/") + 1)
    : `${loopback}:${address!.port}`
}

/**
 * Lets a member call others by its way out, whatever this process has in its environment, and itself without: etcd 3.4 does
 * that for its JSON gateway, and asks for a proxy first, also where it listens on a socket. (To this machine's ports nothing
 * goes through a proxy.)
 */
const calling = (wayOut: string): Readonly<Record<string, string>> => ({
  HTTP_PROXY: `http://${wayOut}`,
  HTTPS_PROXY: `http://${wayOut}`,
  NO_PROXY: ".client",
  no_proxy: "",
  REQUEST_METHOD: ""
})

/** Disks for all members, each below its data directory. */
const makeDisks = ({ names, runDirectory }: Members.Home, bytes: number) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const directories = names.map((name) => `${runDirectory}/${name}.etcd`)
    yield* Effect.forEach(directories, (directory) => fs.makeDirectory(directory, { mode: 0o700 }))
    return yield* Mounts.make(runDirectory, directories, bytes)
  }).pipe(
    Effect.mapError((error) =>
      ProcessOptions.refused(
        "disks",
        `EtcdFaults: members cannot have disks of their own here: ${error._tag === "CannotMount" ? error.why : error.message}. ` +
          "That takes Linux, unshare and nsenter of util-linux, and that users may make namespaces (see EtcdFaults.canFillDisk)."
      )
    )
  )

export const start = (
  options: EtcdCluster.Options,
  diskBytes: number | undefined
): Effect.Effect<
  Networked,
  EtcdProcessError.EtcdProcessError,
  Scope.Scope | FileSystem.FileSystem | Path.Path | ChildProcessSpawner.ChildProcessSpawner
> =>
  Effect.gen(function* () {
    let made!: Omit<Networked, "cluster">
    const prepare: Members.Prepare = (home) =>
      Effect.gen(function* () {
        const { names, runDirectory, shared } = home
        const withTls = shared.peerAutoTls === true || shared.peerCertFile !== undefined
        const { configOf, peers, wayOutOf } = withTls ? yield* onPorts(home) : onSockets(home)
        const network = Network.make((host) => peers.get(host))
        const disks = diskBytes === undefined ? undefined : yield* makeDisks(home, diskBytes)
        const gates = new Map(names.map((name) => [name, Latch.makeUnsafe(true)]))
        made = { network, runDirectory, disks, gates }
        const waysOut = new Map<string, string>()
        for (const name of names) {
          const wayOut = wayOutOf(name)
          waysOut.set(name, nameOf(wayOut, yield* Effect.orDie(network.wayOut(name, wayOut))))
        }
        return (name) => ({
          config: configOf(name),
          through: disks?.through ?? [],
          mayStart: gates.get(name)!.await,
          options: { environment: { ...options.environment, ...calling(waysOut.get(name)!) } }
        })
      })
    const cluster = yield* Members.onSockets(EtcdProcess.ephemeral, options, Members.ephemeral, prepare)
    return { cluster, ...made }
  })
