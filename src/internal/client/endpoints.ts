/**
 * Where the list of endpoints comes from: given, from an effect or a stream, or from the cluster itself; and which of
 * them the client may connect to.
 *
 * A client that was given TLS, or whose endpoints use it, never connects without: whatever a member list, a later list of
 * a stream, or the endpoint of a single call says. What it may connect to besides is what the program itself has
 * configured beside its secure endpoints, which can only be Unix sockets.
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
import * as Caller from "../caller.ts"
import * as Options from "../options.ts"
import { Cluster, type Member } from "../proto/rpc_pb.ts"
import * as Endpoint from "./endpoint.ts"
import type { Engine } from "./engine.ts"
import { endpointList } from "./options.ts"
import * as Selection from "./selection.ts"

const addressesOf = (endpoints: ReadonlyArray<Endpoint.Endpoint>): string =>
  endpoints.map((endpoint) => endpoint.address).join(", ")

/** What the program has configured. */
export interface Configured {
  readonly endpoints: ReadonlyArray<Endpoint.Endpoint>
  /** Whether nothing may be said that can be read on the way. */
  readonly isSecure: boolean
}

/** TLS options that would go unused, and endpoints that would be asked without, are mistakes that must not go unnoticed. */
export const configure = (
  texts: ReadonlyArray<string>,
  hasTls: boolean
): Result.Result<Configured, EtcdError.EtcdError> => {
  const parsed = Endpoint.parseAll(texts, hasTls)
  if (Result.isFailure(parsed)) return Result.fail(EtcdError.invalid(parsed.failure))
  const endpoints = parsed.success
  const hasSecure = endpoints.some((endpoint) => endpoint.secure)
  const exposed = endpoints.filter(Endpoint.isExposed)
  if (hasTls && !hasSecure) {
    return Result.fail(
      EtcdError.invalid(
        `The client has TLS options, but none of its endpoints uses TLS: ${addressesOf(endpoints)}. Begin them with ` +
          "https:// or unixs://."
      )
    )
  }
  return hasSecure && exposed.length > 0
    ? Result.fail(
        EtcdError.invalid(
          `Some of the client's endpoints use TLS, and these do not: ${addressesOf(exposed)}. What is said to them, ` +
            "passwords included, can be read on the way. Begin all of them with https://."
        )
      )
    : Result.succeed({ endpoints, isSecure: hasSecure })
}

/** Reads an endpoint that somebody else names than who made the client, if the client may connect to it. */
export const admit =
  ({ endpoints, isSecure }: Configured) =>
  (text: string): Result.Result<Endpoint.Endpoint, string> =>
    Result.flatMap(Endpoint.parse(text, isSecure), (endpoint) =>
      !isSecure || endpoint.secure || endpoints.some(({ address }) => address === endpoint.address)
        ? Result.succeed(endpoint)
        : Result.fail(
            `The endpoint ${endpoint.address} is not secure, and this client talks TLS. It is not connected to.`
          )
    )

const isList = (endpoints: EtcdClient.Endpoints): endpoints is ReadonlyArray<string> => Array.isArray(endpoints)

/** What an effect or a stream says need not be what its type says. */
const checkList = (list: ReadonlyArray<string>): Effect.Effect<void, EtcdError.EtcdError> =>
  Options.wrongArgument("EtcdClient", "what the option endpoints gives", endpointList, list) ?? Effect.void

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
  if (!Stream.isStream(endpoints)) {
    return Effect.map(Effect.tap(endpoints, checkList), (first) => ({ first, rest: undefined }))
  }
  return Effect.gen(function* () {
    const rest = yield* Stream.toPull(endpoints)
    const first = yield* Pull.catchDone(rest, () =>
      Effect.fail(EtcdError.invalid("The stream of endpoints ended before its first list."))
    )
    yield* checkList(Arr.lastNonEmpty(first))
    return { first: Arr.lastNonEmpty(first), rest }
  })
}

/** What the program has given last: the way back, where the cluster names endpoints that cannot be reached. */
interface Seeds {
  endpoints: ReadonlyArray<Endpoint.Endpoint>
}

const say = ({ environment }: Engine, saying: Effect.Effect<void>): Effect.Effect<void> =>
  Caller.as(environment.caller, saying)

/** Takes up what may be taken up, and warns of the rest. */
const takeUp = Effect.fnUntraced(function* (
  engine: Engine,
  texts: ReadonlyArray<string>,
  seedsOf: (endpoints: ReadonlyArray<Endpoint.Endpoint>) => ReadonlyArray<Endpoint.Endpoint>
) {
  yield* checkList(texts)
  const [admitted, problems] = Arr.partition(texts, engine.admit)
  if (problems.length > 0) yield* say(engine, Effect.logWarning("etcd endpoints passed over", problems.join(" ")))
  const endpoints = Arr.dedupeWith(admitted, (a, b) => a.address === b.address)
  if (endpoints.length === 0) return yield* Effect.fail(EtcdError.invalid("No endpoint is left."))
  const change = yield* Selection.update(engine.selection, endpoints, seedsOf(endpoints), engine.others)
  if (change.added + change.removed === 0) return
  yield* say(engine, Effect.logDebug("etcd endpoints changed", addressesOf(endpoints)))
})

const keepEndpoints = (engine: Engine) => (error: EtcdError.EtcdError) =>
  say(engine, Effect.logWarning("etcd endpoints stay as they are", error.message))

/** Follows the stream of endpoints. A list that is no good is logged and passed over. */
export const follow = (engine: Engine, rest: Lists, seeds: Seeds): Effect.Effect<void> =>
  rest.pipe(
    Effect.flatMap((batch) =>
      takeUp(engine, Arr.lastNonEmpty(batch), (endpoints) => {
        seeds.endpoints = endpoints
        return endpoints
      }).pipe(Effect.catch(keepEndpoints(engine)))
    ),
    Effect.forever,
    Pull.catchDone(() => Effect.void),
    Effect.catch(keepEndpoints(engine))
  )

const clientUrls = (members: ReadonlyArray<Member>): ReadonlyArray<string> =>
  members.filter((member) => member.name !== "" && !member.isLearner).flatMap((member) => member.clientURLs)

/** Replaces the endpoints by what the voting members of the cluster advertise. */
export const refresh = (
  engine: Engine,
  client: EtcdClient.Client,
  interval: Duration.Duration,
  seeds: Seeds
): Effect.Effect<void> =>
  Caller.as(engine.environment.caller, client.unary(Cluster.method.memberList, {})).pipe(
    Effect.flatMap((answer) => takeUp(engine, clientUrls(answer.members), () => seeds.endpoints)),
    Effect.catch(keepEndpoints(engine)),
    Effect.repeat(Schedule.spaced(interval)),
    Effect.asVoid
  )
