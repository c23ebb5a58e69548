/**
 * Three hosts, and a day in their life. Each is an address of this machine, or, on macOS, which has only one, a pair of ports.
 */
import { createServer } from "node:net"
import { connect } from "node:tls"
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Context, Effect, Exit, FileSystem, Layer, Redacted, Schedule, Scope, SubscriptionRef } from "effect"
import { type EtcdClient, type EtcdError, EtcdKv, EtcdLayer, EtcdMember, EtcdMembership } from "effect-etcd"
import { authority, certificate } from "./certificates.ts"
import { connectAs, type Host, instance, tls } from "./instance.ts"
import { users } from "./users.ts"

const freePort = (address: string) =>
  Effect.callback<number>((resume) => {
    const server = createServer().listen(0, address, () => {
      const place = server.address()
      server.close(() => resume(Effect.succeed(typeof place === "object" ? (place?.port ?? 0) : 0)))
    })
  })

const tell = <A>(what: string, call: Effect.Effect<A, EtcdError.EtcdError>) =>
  Effect.matchEffect(call, {
    onSuccess: () => Console.log(`${what}: done`),
    onFailure: ({ reason }) => Console.log(`${what}: ${reason._tag}, ${reason.message}`)
  })

/** How many days the certificate at this URL is still valid. */
const daysLeft = (url: string) =>
  Effect.callback<number>((resume) => {
    const { hostname, port } = new URL(url)
    const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false }, () => {
      const left = Date.parse(socket.getPeerCertificate().valid_to) - Date.now()
      resume(Effect.succeed(Math.round(left / 86_400_000)))
      socket.destroy()
    })
  })

const program = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped()
  const certificates = `${directory}/certificates`
  yield* fs.makeDirectory(certificates)
  yield* authority(certificates, "hosts")
  yield* authority(certificates, "clients")
  for (const name of ["root", "app", "laptop"]) yield* certificate(certificates, name)

  /** A new certificate of a host. Connections within this machine come from its first address, so that is in it, too. */
  const renew = ({ name, peerUrl }: Pick<Host, "name" | "peerUrl">, days?: number) =>
    certificate(certificates, name, [new URL(peerUrl).hostname, "127.0.0.1"], days)
  const place = Effect.fnUntraced(function* (name: string, number: number) {
    const address = process.platform === "linux" ? `127.0.0.${number}` : "127.0.0.1"
    const [peerPort, clientPort] = [yield* freePort(address), yield* freePort(address)]
    const urls = { peerUrl: `https://${address}:${peerPort}`, clientUrl: `https://${address}:${clientPort}` }
    const host: Host = { name, dataDir: `${directory}/${name}`, ...urls }
    yield* renew(host)
    return host
  })
  const hosts = [yield* place("host1", 1), yield* place("host2", 2), yield* place("host3", 3)] as const
  const [host1, host2, host3] = hosts
  const peers = hosts.map(({ peerUrl }) => peerUrl)

  /** Runs the instance of a host, until it is stopped. At the end they are stopped one after the other. */
  const all = yield* Scope.fork(yield* Effect.scope)
  const start = Effect.fn(function* (host: Host) {
    const scope = yield* Scope.fork(all)
    const services = yield* Layer.buildWithScope(instance(host, peers, certificates), scope)
    const { state } = Context.get(services, EtcdMember.EtcdMember)
    yield* Console.log(`${host.name} is a ${(yield* SubscriptionRef.get(state))._tag}`)
    return { services, stop: Scope.close(scope, Exit.void) }
  })

  // In any order: they wait for each other.
  const [first, second, third] = yield* Effect.all([start(host1), start(host2), start(host3)], { concurrency: 3 })

  yield* users(Redacted.make("her password")).pipe(Effect.provide(first.services))
  const app = yield* Layer.build(Layer.provide(connectAs("app", certificates), Layer.succeedContext(first.services)))
  const writes = EtcdKv.put("orders/1", "new").pipe(Effect.provide(app))
  yield* tell("app writes orders/1", writes)
  yield* tell("app writes payroll/1", EtcdKv.put("payroll/1", "much").pipe(Effect.provide(app)))

  const endpoints = hosts.map(({ clientUrl }) => clientUrl)
  const connectBy = (options: Partial<EtcdClient.Options>) => EtcdLayer.connect({ endpoints, ...options })
  const alice = (password: string) => ({
    tls: tls(certificates, "laptop"),
    credentials: { username: "alice", password: Redacted.make(password) }
  })
  const reads = EtcdKv.getString("orders/1")
  yield* tell("alice reads", Effect.provide(reads, connectBy(alice("her password"))))
  yield* tell("alice writes", Effect.provide(EtcdKv.put("orders/1", "old"), connectBy(alice("her password"))))
  yield* tell("a wrong password", Effect.provide(reads, connectBy(alice("a guess"))))
  yield* tell("a certificate that is no user's", Effect.provide(reads, connectBy({ tls: tls(certificates, "laptop") })))
  const { ca } = tls(certificates, "app")
  yield* tell("no certificate", Effect.provide(reads, connectBy({ tls: { ca } })))
  yield* tell("another authority", Effect.provide(reads, connectBy({})))

  // A certificate is renewed while the member runs: it is enough to replace the files.
  yield* Console.log(`host1 shows a certificate for ${yield* daysLeft(host1.clientUrl)} days`)
  yield* renew(host1, 365)
  yield* Console.log(
    `host1 shows a certificate for ${yield* daysLeft(host1.clientUrl)} days, and to members for ${yield* daysLeft(host1.peerUrl)}`
  )
  yield* renew(host1, 0)
  const atHost1 = { endpoints: [host1.clientUrl], tls: tls(certificates, "app") }
  // Without this, the client would try again, since somebody may be about to renew it.
  const once = { ...atHost1, retry: Schedule.recurs(0) }
  yield* tell("at host1, which has forgotten to", Effect.provide(reads, connectBy(once)))
  yield* renew(host1, 90)
  yield* tell("at host1, which has done it", Effect.provide(reads, connectBy(atHost1)))

  // A rolling restart: the next one only when the one before is back.
  yield* second.stop
  yield* tell("app writes while host2 is down", writes)
  yield* start(host2)

  // A machine is lost, with its disk. Another one takes its name, and with it its place.
  yield* third.stop
  yield* fs.remove(host3.dataDir, { recursive: true })
  yield* start(yield* place("host3", 4))
  const { members } = yield* Effect.provide(EtcdMembership.list(), first.services)
  const isNew = ({ peerUrls }: EtcdMembership.Member) => peerUrls.every((url) => !peers.includes(url))
  yield* Console.log(
    members.length,
    "members, at another address:",
    members
      .filter(isNew)
      .map(({ name }) => name)
      .join(", ")
  )
  yield* tell("app reads", Effect.provide(reads, app))
}).pipe(Effect.scoped)

program.pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
