/**
 * Who may do what. This may be run again, and by several instances at once: what exists already is left alone.
 */
import { Effect, type Redacted } from "effect"
import { EtcdAuth, KeyRange } from "effect-etcd"

const user = (name: string, role: string, password?: Redacted.Redacted<string>) =>
  EtcdAuth.addUser(name, password).pipe(
    Effect.catchReason("EtcdError", "UserExists", () => Effect.void),
    Effect.andThen(EtcdAuth.grantRole(name, role))
  )

const role = (name: string) =>
  EtcdAuth.addRole(name).pipe(Effect.catchReason("EtcdError", "RoleExists", () => Effect.void))

export const users = (alicesPassword: Redacted.Redacted<string>) =>
  Effect.gen(function* () {
    yield* role("root")
    yield* role("orders")
    yield* EtcdAuth.grantPermission("orders", "readwrite", KeyRange.prefix("orders/"))
    yield* role("reader")
    yield* EtcdAuth.grantPermission("reader", "read", KeyRange.prefix("orders/"))
    // Programs have no password: they are identified by the common name of their certificate.
    yield* user("root", "root")
    yield* user("app", "orders")
    // People have one, in addition to the certificate of the machine that they work on.
    yield* user("alice", "reader", alicesPassword)
    // From now on, whatever is not permitted is refused.
    yield* EtcdAuth.enable()
  })
