/**
 * The endpoints that single calls name, whether they are among the client's or not.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as EtcdError from "../../EtcdError.ts"
import * as Options from "../options.ts"
import * as Time from "../time.ts"
import type { Engine } from "./engine.ts"
import * as Resolver from "./resolver.ts"
import * as Selection from "./selection.ts"
import * as Subchannel from "./subchannel.ts"

/** How long at least an endpoint stays connected that single calls have named, after the last one, in milliseconds. */
const lingerMillis = 10_000

/** Lets go of an endpoint that only single calls have named, when none has for a while. */
const letGo = (engine: Engine, subchannel: Subchannel.Subchannel): Effect.Effect<void> => {
  const { address } = subchannel.endpoint
  const isUnused = () => {
    if (subchannel.isNamed) {
      subchannel.isNamed = false
      return false
    }
    return subchannel.link === undefined ? subchannel.dialing === undefined : Subchannel.isIdle(subchannel.link)
  }
  const wait = Time.sleep(engine.environment.time, lingerMillis)
  return Effect.gen(function* () {
    for (let idle = 0; idle < 2; idle = isUnused() ? idle + 1 : 0) yield* wait
    if (engine.others.get(address) !== subchannel) return
    engine.others.delete(address)
    yield* Subchannel.remove(subchannel)
  })
}

/** The endpoint that a call names, if the client may connect to it. One that is not among its own is kept for a while. */
export const find = (engine: Engine, text: string): Result.Result<Subchannel.Subchannel, EtcdError.EtcdError> => {
  const admitted = Resolver.admit(engine.configured, text)
  if (Result.isFailure(admitted)) return Result.fail(Options.invalid(admitted.failure))
  const endpoint = admitted.success
  const known =
    Selection.all(engine.selection).find((subchannel) => subchannel.endpoint.address === endpoint.address) ??
    engine.others.get(endpoint.address)
  if (known !== undefined) {
    known.isNamed = true
    return Result.succeed(known)
  }
  const subchannel = Subchannel.make(endpoint, false)
  engine.others.set(endpoint.address, subchannel)
  Subchannel.fork(engine.environment, letGo(engine, subchannel))
  return Result.succeed(subchannel)
}
