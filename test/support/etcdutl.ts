/**
 * The etcdutl of the etcd that tests run with (`ETCDUTL_BINARY`, beside it, or on the `PATH`).
 */
import * as Effect from "effect/Effect"
import * as EtcdBinary from "../../src/EtcdBinary.ts"
import { ClusterRefused, type Finding } from "../../src/EtcdOperationError.ts"
import { refusal } from "../../src/internal/operations/operation.ts"

const found = Effect.flatMap(EtcdBinary.find(), (etcd) => EtcdBinary.findUtl(etcd))

interface Context {
  readonly skip: (note: string) => never
}

/** Any that there is; without one the test is skipped. */
export const any = (context: Context) =>
  Effect.catchReason(found, "EtcdProcessError", "BinaryNotFound", ({ message }) =>
    Effect.sync(() => context.skip(message.split("\n")[0]!))
  )

/** One that can raise revisions; without one the test is skipped. */
export const bumping = (context: Context) =>
  Effect.map(any(context), (utl) =>
    utl.bumpsRevisions ? utl : context.skip(`${utl.path} cannot raise revisions: give an etcdutl 3.5 as ETCDUTL_BINARY`)
  )

export const refuse = refusal("restore")

/** What an operation finds that is to be refused. */
export const findingOf = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Finding, A | unknown, R> =>
  Effect.flatMap(Effect.flip(effect), (error) =>
    error instanceof ClusterRefused ? Effect.succeed(error.finding) : Effect.fail(error)
  )
