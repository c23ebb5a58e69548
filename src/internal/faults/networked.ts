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
import * as Scope from "effect/Scope"
import type * as EtcdCluster from "../../EtcdCluster.ts"
import type { EtcdOptions } from "../../EtcdConfig.ts"
import * as EtcdProcess from "../../EtcdProcess.ts"
import type * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Fleet from "../cluster/fleet.ts"
import { peerSocketOf } from "../cluster/sockets.ts"
import * as ProcessOptions from "../process/options.ts"
import * as Sockets from "../process/sockets.ts"
import * as Mounts from "./mounts.ts"
import * as Network from "./network.ts"

export interface Networked {
  readonly fleet: Fleet.Fleet
  readonly network: Network.Network
  readonly runDirectory: string
  /** Where the members have disks of their own. */
  readonly disks: Mounts.Mounts | undefined
  /** Of each member by its name. While it is closed, nobody starts the member: neither who asks for it nor a schedule. */
  readonly gates: ReadonlyMap<string, Latch.Latch>
}

/** How a member listens for the others, and where its way out is. */
interface Address {
  /** By what the others call it. */
  readonly host: string
  /** Where it listens. */
  readonly listens: net.NetConnectOpts
  readonly config: EtcdOptions
  readonly wayOut: net.ListenOptions
}

type AddressOf = (name: string) => Effect.Effect<Address>

/** On Unix sockets, as members of a cluster listen by themselves. */
const onSockets =
  ({ runDirectory }: Fleet.Home): AddressOf =>
  (name) =>
    Effect.succeed({
      host: peerSocketOf(name),
      listens: { path: `${runDirectory}/${peerSocketOf(name)}` },
      config: {},
      wayOut: { path: `${runDirectory}/${name}.out:0` }
    })

const loopback = "127.0.0.1"

/**
 * To this machine nothing goes through a proxy (`useProxy` in Go's `http/httpproxy`), unless its name is written so. It has to
 * be one that can be looked up: who joins compares what it is told of the others, by where that leads, with what they say
 * (`ValidateClusterAndAssignIDs` in etcd's `membership/cluster.go`).
 */
const thisMachine = "Localhost"

/**
 * On ports, since etcd has no TLS on Unix sockets from 3.5 on. These are others each time; what members call each other, and
 * keep in their data, is not, and no such port is ever dialled.
 */
const onPorts = ({ names }: Fleet.Home): AddressOf => {
  const hostOf = (name: string) => `${thisMachine}:${Number(/\d+$/.exec(name)![0]) + 1}`
  const initialCluster = Object.fromEntries(names.map((name) => [name, [`https://${hostOf(name)}`]]))
  return (name) =>
    Effect.map(Sockets.freePort(loopback), (port) => ({
      host: hostOf(name),
      listens: { host: loopback, port: port! },
      config: {
        listenPeerUrls: [`https://${loopback}:${port}`],
        initialAdvertisePeerUrls: [`https://${hostOf(name)}`],
        initialCluster
      },
      wayOut: { host: loopback, port: 0 }
    }))
}

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
const makeDisks = ({ names, runDirectory }: Fleet.Home, bytes: number) =>
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
    let made!: Omit<Networked, "fleet">
    const scope = yield* Effect.scope
    const prepare: Fleet.Prepare = (home) =>
      Effect.gen(function* () {
        const { names, runDirectory, shared } = home
        const withTls = shared.peerAutoTls === true || shared.peerCertFile !== undefined
        const addressOf = withTls ? onPorts(home) : onSockets(home)
        const peers = new Map<string, Network.Called>()
        const network = Network.make((host) => peers.get(host))
        const disks = diskBytes === undefined ? undefined : yield* makeDisks(home, diskBytes)
        const gates = new Map<string, Latch.Latch>()
        made = { network, runDirectory, disks, gates }
        const owns = new Map<string, Fleet.Own>()
        /** Where one that joins has none yet, or has lost it with the directory below. */
        const ownDisk = (name: string) =>
          disks === undefined || names.includes(name)
            ? Effect.void
            : Effect.asVoid(disks.mount(`${runDirectory}/${name}.etcd`))
        const settle = (name: string) =>
          Effect.gen(function* () {
            const { config, host, listens, wayOut } = yield* addressOf(name)
            const way = nameOf(wayOut, yield* Effect.orDie(Scope.provide(network.wayOut(name, wayOut), scope)))
            const gate = Latch.makeUnsafe(true)
            gates.set(name, gate)
            peers.set(host, { name, address: listens })
            const own: Fleet.Own = {
              config,
              through: disks?.through ?? [],
              mayStart: Effect.andThen(gate.await, ownDisk(name)),
              options: { environment: { ...options.environment, ...calling(way) } }
            }
            owns.set(name, own)
            return own
          })
        // The others are called by their names before they have started.
        yield* Effect.forEach(names, settle, { discard: true })
        return (name) => Effect.suspend(() => (owns.has(name) ? Effect.succeed(owns.get(name)!) : settle(name)))
      })
    const fleet = yield* Fleet.onSockets(EtcdProcess.ephemeral, options, Fleet.ephemeral, prepare)
    return { fleet, ...made }
  })
