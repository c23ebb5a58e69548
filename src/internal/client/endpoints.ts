/**
 * Where the list of endpoints comes from: given, from an effect or a stream, or from the cluster itself.
 *
 * @internal
 */
import * as Arr from "effect/Array"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as EtcdClient from "../../EtcdClient.ts"
import * as EtcdError from "../../EtcdError.ts"
import { Cluster, type Member } from "../proto/rpc_pb.ts"
import * as Endpoint from "./endpoint.ts"
import type { Engine } from "./engine.ts"
import * as Selection from "./selection.ts"

export const parse = (
  texts: ReadonlyArray<string>,
  secureByDefault: boolean
): Effect.Effect<ReadonlyArray<Endpoint.Endpoint>, EtcdError.EtcdError> => {
  const parsed = Endpoint.parseAll(texts, secureByDefault)
  return Result.isSuccess(parsed) ? Effect.succeed(parsed.success) : Effect.fail(EtcdError.invalid(parsed.failure))
}

const isList = (endpoints: EtcdClient.Endpoints): endpoints is ReadonlyArray<string> => Array.isArray(endpoints)

export type Lists = Pull.Pull<Arr.NonEmptyReadonlyArray<ReadonlyArray<string>>, EtcdError.EtcdError>

/** The first list, and the lists that follow it. */
export const lists = (
  endpoints: EtcdClient.Endpoints
): Effect.Effect<
  { readonly first: ReadonlyArray<string>; readonly rest: Lists | undefined },
  EtcdError.EtcdError,
  Scope.Scope
> => {
  if (isList(endpoints)) return Effect.succeed({ first: endpoints, rest: undefined })
  if (!Stream.isStream(endpoints)) return Effect.map(endpoints, (first) => ({ first, rest: undefined }))
  return Effect.gen(function* () {
    const rest = yield* Stream.toPull(endpoints)
    const first = yield* Pull.catchDone(rest, () =>
      Effect.fail(EtcdError.invalid("The stream of endpoints ended before its first list."))
    )
    return { first: Arr.lastNonEmpty(first), rest }
  })
}

const takeUp = (engine: Engine, texts: ReadonlyArray<string>): Effect.Effect<void, EtcdError.EtcdError> =>
  Effect.gen(function* () {
    const endpoints = yield* parse(texts, engine.secureByDefault)
    const change = yield* Selection.update(engine.selection, endpoints)
    if (change.added + change.removed === 0) return
    yield* Effect.logDebug("etcd endpoints changed", endpoints.map((endpoint) => endpoint.address).join(", "))
  })

const keepEndpoints = (error: EtcdError.EtcdError) =>
  Effect.logWarning("etcd endpoints stay as they are", error.message)

/** Follows the stream of endpoints. A list that is no good is logged and passed over. */
export const follow = (engine: Engine, rest: Lists): Effect.Effect<void> =>
  rest.pipe(
    Effect.flatMap((batch) => Effect.catch(takeUp(engine, Arr.lastNonEmpty(batch)), keepEndpoints)),
    Effect.forever,
    Pull.catchDone(() => Effect.void),
    Effect.catch(keepEndpoints)
  )

const clientUrls = (members: ReadonlyArray<Member>): ReadonlyArray<string> =>
  members.filter((member) => member.name !== "" && !member.isLearner).flatMap((member) => member.clientURLs)

/** Replaces the endpoints by what the voting members of the cluster advertise. */
export const refresh = (engine: Engine, client: EtcdClient.Client, interval: Duration.Duration): Effect.Effect<void> =>
  client.unary(Cluster.method.memberList, {}).pipe(
    Effect.flatMap((answer) => takeUp(engine, clientUrls(answer.members))),
    Effect.catch(keepEndpoints),
    Effect.repeat(Schedule.spaced(interval)),
    Effect.asVoid
  )
