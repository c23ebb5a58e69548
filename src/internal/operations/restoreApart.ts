/**
 * Making the data of a cluster that does not run.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Path from "effect/Path"
import type * as Scope from "effect/Scope"
import type { EtcdBinary, EtcdUtl } from "../../EtcdBinary.ts"
import type * as EtcdCluster from "../../EtcdCluster.ts"
import type { EtcdProcessError } from "../../EtcdProcessError.ts"
import type { Places } from "../cluster/apart.ts"
import type { Keeper } from "../cluster/manifest.ts"
import * as Revision from "../files/revision.ts"
import { withoutBinary } from "./etcdutl.ts"
import { type Failure, perform, type Refuse, refusal, type Step } from "./operation.ts"
import * as Recover from "./recover.ts"
import * as RestoreCluster from "./restoreCluster.ts"
import { refuseRunning } from "./survivors.ts"

/** Who the members are, where their data are to be, and what finds that which makes them. */
export interface Apart extends Places {
  readonly keeper: Keeper
  readonly tools: Effect.Effect<Tools, EtcdProcessError, RestoreCluster.Platform>
}

interface Tools {
  readonly etcd: EtcdBinary
  readonly utl: EtcdUtl
}

const performed = <R>(
  name: string,
  { keeper, tools, ...places }: Apart,
  plan: (of: Places & Tools & { readonly refuse: Refuse }) => Effect.Effect<ReadonlyArray<Step>, Failure, R>,
  options: EtcdCluster.RecoverOptions
) =>
  Effect.gen(function* () {
    const context = yield* Effect.context<R | RestoreCluster.Platform | Scope.Scope>()
    const refuse = refusal(name)
    /** Before there are data of them. */
    const remember: Step = {
      title: "remember who the members are",
      run: () =>
        Effect.andThen(RestoreCluster.aloneIn(places.workDirectory, refuse), keeper.keep).pipe(
          Effect.as(undefined),
          Effect.provideContext(context)
        )
    }
    const steps = Effect.gen(function* () {
      const found = yield* Effect.mapError(tools, ({ message }) => withoutBinary(refuse, message))
      return [remember, ...(yield* plan({ ...places, ...found, refuse }))]
    })
    return yield* perform({ name, client: undefined, plan: Effect.provideContext(steps, context) }, options)
  }).pipe(Effect.scoped)

/** What is said to be newer than that is damaged: see `revisions.ts`. */
const newestOfAll = BigInt(Number.MAX_SAFE_INTEGER)

/** The newest revision of the data that are there, which is above the time where a clock was wrong. No member runs. */
const newestIn = Effect.fnUntraced(function* (members: Places["members"]) {
  const { join } = yield* Path.Path
  const revisions = yield* Effect.forEach(members, ({ dataDir }) =>
    Effect.orElseSucceed(Revision.inFile(join(dataDir, "member", "snap", "db"), Revision.newest), () => undefined)
  )
  return revisions.reduce<bigint>((most, one = 0n) => (one > most && one <= newestOfAll ? one : most), 0n)
})

export const restore = (
  apart: Apart,
  snapshot: string,
  options: Omit<EtcdCluster.RestoreDataOptions, keyof EtcdCluster.DataOptions>
) =>
  performed(
    "restore",
    apart,
    (of) =>
      refuseRunning(of.members, of.refuse).pipe(
        Effect.andThen(newestIn(of.members)),
        Effect.flatMap((known) => RestoreCluster.plan({ ...options, ...of, snapshot, known }))
      ),
    options
  )

export const recover = (apart: Apart, options: Omit<EtcdCluster.RecoverDataOptions, keyof EtcdCluster.DataOptions>) =>
  performed("recover", apart, (of) => Recover.plan({ ...options, ...of }), options)
