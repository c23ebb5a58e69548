/**
 * What each host runs: a member of the cluster, with TLS to the other members and to clients.
 */
import { Effect, Layer, SubscriptionRef } from "effect"
import { type EtcdClient, EtcdLayer, EtcdMember } from "effect-etcd"

export interface Host {
  /** Its name in the cluster, and the name of its certificate. */
  readonly name: string
  readonly peerUrl: string
  readonly clientUrl: string
  readonly dataDir: string
}

/** The TLS options of a client with the certificate of this name. */
export const tls = (certificates: string, name: string): EtcdClient.Tls => ({
  ca: { file: `${certificates}/hosts.pem` },
  certificate: { file: `${certificates}/${name}.pem` },
  key: { file: `${certificates}/${name}.key` }
})

/** A member: the same on all hosts, except for which host it is. */
export const instance = (host: Host, peers: ReadonlyArray<string>, certificates: string) => {
  const own = { certificate: `${certificates}/${host.name}.pem`, key: `${certificates}/${host.name}.key` }
  return EtcdLayer.member({
    ...host,
    peers,
    size: peers.length,
    cluster: "orders",
    log: false,
    config: {
      // Between members, both sides show a certificate of the hosts' authority.
      peerCertFile: own.certificate,
      peerKeyFile: own.key,
      peerTrustedCaFile: `${certificates}/hosts.pem`,
      peerClientCertAuth: true,
      // Clients show a certificate of the clients' authority. Without one they cannot connect.
      certFile: own.certificate,
      keyFile: own.key,
      trustedCaFile: `${certificates}/clients.pem`,
      clientCertAuth: true
    },
    // The instance itself talks to the cluster as root: it has to be able to add itself.
    client: { tls: tls(certificates, "root") }
  })
}

/** A client of another user in the same program, which follows the members, too. */
export const connectAs = (user: string, certificates: string) =>
  EtcdMember.EtcdMember.pipe(
    Effect.map(({ clusterId, endpoints }) =>
      EtcdLayer.connect({ clusterId, endpoints: SubscriptionRef.changes(endpoints), tls: tls(certificates, user) })
    ),
    Layer.unwrap
  )
