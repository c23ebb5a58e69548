/**
 * The same etcd in each instance, configured by the environment of its container.
 */
import { Config, Effect, Layer, Option } from "effect"
import { EtcdLayer } from "effect-etcd"

const settings = Config.all({
  /** The name by which the others reach this instance, for example `counters-0.counters`. */
  host: Config.withDefault(Config.String("HOST"), "127.0.0.1"),
  /** The names of all instances, the same list for each: `counters-0.counters,counters-1.counters,counters-2.counters`. */
  hosts: Config.withDefault(Config.String("HOSTS"), "127.0.0.1"),
  /** etcd listens on addresses, not on names: in a container, on all addresses that it has. */
  listen: Config.withDefault(Config.String("LISTEN"), "127.0.0.1"),
  /** The volume. */
  dataDir: Config.withDefault(Config.String("DATA_DIR"), "data"),
  /** A directory with `tls.crt`, `tls.key` and `ca.crt`, as a secret of Kubernetes is mounted. */
  certificates: Config.option(Config.String("CERTIFICATES"))
})

/** Rejects everybody without a certificate of the CA. */
const secured = (directory: string) => {
  const [cert, key, ca] = [`${directory}/tls.crt`, `${directory}/tls.key`, `${directory}/ca.crt`]
  return {
    config: {
      certFile: cert,
      keyFile: key,
      trustedCaFile: ca,
      clientCertAuth: true,
      peerCertFile: cert,
      peerKeyFile: key,
      peerTrustedCaFile: ca,
      peerClientCertAuth: true
    },
    client: { tls: { ca: { file: ca }, certificate: { file: cert }, key: { file: key } } }
  }
}

export const etcd = Layer.unwrap(
  Effect.gen(function* () {
    const { certificates, dataDir, host, hosts, listen } = yield* settings
    const security = Option.getOrUndefined(Option.map(certificates, secured))
    const scheme = security === undefined ? "http" : "https"
    const peers = hosts.split(",").map((host) => `https://${host}:2380`)
    return EtcdLayer.member({
      name: host,
      dataDir,
      peerUrl: `https://${host}:2380`,
      clientUrl: `${scheme}://${host}:2379`,
      peers,
      size: peers.length,
      config: {
        ...security?.config,
        listenPeerUrls: `https://${listen}:2380`,
        listenClientUrls: `${scheme}://${listen}:2379`
      },
      client: security?.client
    })
  })
)
