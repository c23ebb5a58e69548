/**
 * Making the data of a cluster that does not run.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { EtcdBinary, EtcdUtl } from "../../EtcdBinary.ts"
import type * as EtcdCluster from "../../EtcdCluster.ts"
import type { Places } from "../cluster/apart.ts"
import type { Keeper } from "../cluster/manifest.ts"
import { type Failure, perform, refusal, type Step } from "./operation.ts"
import * as Recover from "./recover.ts"
import * as RestoreCluster from "./restoreCluster.ts"
import { refuseRunning } from "./survivors.ts"

/** Who the members are, where their data are to be, and what makes them. */
export interface Apart extends Places {
  readonly keeper: Keeper
  readonly etcd: EtcdBinary
  readonly utl: EtcdUtl
}

const performed = <R>(
  name: string,
  { keeper, workDirectory }: Apart,
  plan: Effect.Effect<ReadonlyArray<Step>, Failure, R>,
  options: EtcdCluster.RecoverOptions
) =>
  Effect.gen(function* () {
    const context = yield* Effect.context<R | RestoreCluster.Platform | Scope.Scope>()
    /** Before there are data of them. */
    const remember: Step = {
      title: "remember who the members are",
      run: () =>
        Effect.andThen(keeper.keep, RestoreCluster.aloneIn(workDirectory, refusal(name))).pipe(
          Effect.as(undefined),
          Effect.provideContext(context)
        )
    }
    const steps = Effect.map(plan, (steps) => [remember, ...steps])
    return yield* perform({ name, client: undefined, plan: Effect.provideContext(steps, context) }, options)
  }).pipe(Effect.scoped)

export const restore = (
  { keeper, ...of }: Apart,
  snapshot: string,
  options: Omit<EtcdCluster.RestoreDataOptions, keyof EtcdCluster.DataOptions>
) => {
  const refuse = refusal("restore")
  const plan = Effect.andThen(
    refuseRunning(of.members, refuse),
    RestoreCluster.plan({ ...options, ...of, refuse, snapshot })
  )
  return performed("restore", { keeper, ...of }, plan, options)
}

export const recover = (
  { keeper, ...of }: Apart,
  options: Omit<EtcdCluster.RecoverDataOptions, keyof EtcdCluster.DataOptions>
) => {
  const refuse = refusal("recover")
  return performed("recover", { keeper, ...of }, Recover.plan({ ...options, ...of, refuse }), options)
}
