/**
 * Where the list of endpoints comes from: given, from an effect or a stream, or from the cluster itself; and which of
 * them the client may connect to.
 *
 * A client that was given TLS, or whose endpoints use it, never connects without: whatever a member list, a later list of
 * a stream, or the endpoint of a single call says. One that a stream has given secure endpoints is such a client from then
 * on. What it may connect to besides is what the program itself has in its list beside secure endpoints, which can only
 * be Unix sockets.
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
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdError from "../../EtcdError.ts"
import * as Caller from "../caller.ts"
import * as Options from "../options.ts"
import { Cluster, type Member } from "../proto/rpc_pb.ts"
import * as Tracing from "../tracing.ts"
import * as Endpoint from "./endpoint.ts"
import type { Engine } from "./engine.ts"
import { endpointList } from "./options.ts"
import * as Selection from "./selection.ts"
import * as Subchannel from "./subchannel.ts"

const addressesOf = (endpoints: ReadonlyArray<Endpoint.Endpoint>): string =>
  endpoints.map((endpoint) => endpoint.address).join(", ")

/** What the program itself has given. */
export interface Configured {
  /** Its last list: the way back, where the cluster names endpoints that cannot be reached. */
  endpoints: ReadonlyArray<Endpoint.Endpoint>
  /** Whether nothing may be said that can be read on the way: for good, once there is a secure endpoint. */
  isSecure: boolean
  /** Lists are taken up one after the other, so that none is judged by what another is changing. */
  readonly turn: Semaphore.Semaphore
}

/** TLS options that would go unused, and endpoints that would be asked without, are mistakes that must not go unnoticed. */
export const configure = (
  texts: ReadonlyArray<string>,
  hasTls: boolean
): Result.Result<Configured, EtcdError.EtcdError> => {
  const parsed = Endpoint.parseAll(texts, hasTls)
  if (Result.isFailure(parsed)) return Result.fail(Options.invalid(parsed.failure))
  const endpoints = parsed.success
  const hasSecure = endpoints.some((endpoint) => endpoint.secure)
  const exposed = endpoints.filter(Endpoint.isExposed)
  if (hasTls && !hasSecure) {
    return Result.fail(
      Options.invalid(
        `The client has TLS options, but none of its endpoints uses TLS: ${addressesOf(endpoints)}. Begin them with ` +
          "https:// or unixs://."
      )
    )
  }
  return hasSecure && exposed.length > 0
    ? Result.fail(
        Options.invalid(
          `Some of the client's endpoints use TLS, and these do not: ${addressesOf(exposed)}. What is said to them, ` +
            "passwords included, can be read on the way. Begin all of them with https://."
        )
      )
    : Result.succeed({ endpoints, isSecure: hasSecure, turn: Semaphore.makeUnsafe(1) })
}

const insecure = (address: string): string =>
  `The endpoint ${address} is not secure, and this client talks TLS. It is not connected to.`

/** Reads an endpoint that somebody names beside the list of the program, if the client may connect to it. */
export const admit = ({ endpoints, isSecure }: Configured, text: string): Result.Result<Endpoint.Endpoint, string> =>
  Result.flatMap(Endpoint.parse(text, isSecure), (endpoint) =>
    !isSecure || endpoint.secure || endpoints.some(({ address }) => address === endpoint.address)
      ? Result.succeed(endpoint)
      : Result.fail(insecure(endpoint.address))
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
    // It brings its context along: that of the first list is there then, and later lists are not below its span.
    const rest = yield* Tracing.onItsOwn(Stream.toPull(endpoints))
    const first = yield* Pull.catchDone(rest, () =>
      Effect.fail(Options.invalid("The stream of endpoints ended before its first list."))
    )
    yield* checkList(Arr.lastNonEmpty(first))
    return { first: Arr.lastNonEmpty(first), rest }
  })
}

const say = ({ environment }: Engine, saying: Effect.Effect<void>): Effect.Effect<void> =>
  Caller.say(environment.caller, saying)

/** What may be taken up of a list, with a warning of the rest. */
const sift = Effect.fnUntraced(function* (
  engine: Engine,
  texts: ReadonlyArray<string>,
  read: (text: string) => Result.Result<Endpoint.Endpoint, string>
) {
  const [admitted, problems] = Arr.partition(texts, read)
  if (problems.length > 0) yield* say(engine, Effect.logWarning("etcd endpoints passed over", problems.join(" ")))
  const endpoints = Arr.dedupeWith(admitted, (a, b) => a.address === b.address)
  if (endpoints.length === 0) return yield* Effect.fail(Options.invalid("No endpoint is left."))
  return endpoints
})

const takeUp = Effect.fnUntraced(function* (engine: Engine, endpoints: ReadonlyArray<Endpoint.Endpoint>) {
  const { configured, others, selection } = engine
  const change = yield* Selection.update(selection, endpoints, configured.endpoints, others)
  if (change.added + change.removed === 0) return
  const addresses = addressesOf(endpoints)
  yield* say(
    engine,
    Effect.annotateLogs(Effect.logDebug("etcd endpoints changed", addresses), { endpoints: addresses })
  )
})

/** Takes up a list of the program. From the first secure endpoint on, the client leaves those that are not. */
const takeGiven = Effect.fnUntraced(function* (engine: Engine, texts: ReadonlyArray<string>) {
  yield* checkList(texts)
  const { configured, others } = engine
  const read = (text: string) => Endpoint.parse(text, configured.isSecure)
  const isSecure =
    configured.isSecure ||
    texts.some((text) => Result.match(read(text), { onSuccess: ({ secure }) => secure, onFailure: () => false }))
  const endpoints = yield* sift(engine, texts, (text) =>
    Result.flatMap(read(text), (endpoint) =>
      isSecure && Endpoint.isExposed(endpoint) ? Result.fail(insecure(endpoint.address)) : Result.succeed(endpoint)
    )
  )
  configured.isSecure = isSecure
  configured.endpoints = endpoints
  yield* takeUp(engine, endpoints)
  for (const [address, subchannel] of others) {
    if (!isSecure || subchannel.endpoint.secure) continue
    others.delete(address)
    yield* Subchannel.remove(subchannel)
  }
})

const inTurn = <A, E>({ configured }: Engine, taking: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  configured.turn.withPermit(taking)

const keepEndpoints = (engine: Engine) => (error: EtcdError.EtcdError) =>
  say(engine, Effect.logWarning("etcd endpoints stay as they are", error.message))

/** Follows the stream of endpoints. A list that is no good is logged and passed over. */
export const follow = (engine: Engine, rest: Lists): Effect.Effect<void> =>
  rest.pipe(
    Effect.flatMap((batch) =>
      Effect.catch(inTurn(engine, takeGiven(engine, Arr.lastNonEmpty(batch))), keepEndpoints(engine))
    ),
    Effect.forever,
    Pull.catchDone(() => Effect.void),
    Effect.catch(keepEndpoints(engine)),
    Effect.catchDefect((defect) => say(engine, Effect.logWarning("etcd endpoints stay as they are", defect)))
  )

const clientUrls = (members: ReadonlyArray<Member>): ReadonlyArray<string> =>
  members.filter((member) => member.name !== "" && !member.isLearner).flatMap((member) => member.clientURLs)

const takeListed = (engine: Engine, members: ReadonlyArray<Member>) =>
  Effect.flatMap(
    sift(engine, clientUrls(members), (text) => admit(engine.configured, text)),
    (endpoints) => takeUp(engine, endpoints)
  )

/** Replaces the endpoints by what the voting members of the cluster advertise. */
export const refresh = (engine: Engine, client: EtcdClient.Client, interval: Duration.Duration): Effect.Effect<void> =>
  Caller.as(engine.environment.caller, client.unary(Cluster.method.memberList, {})).pipe(
    Effect.flatMap(({ members }) => inTurn(engine, takeListed(engine, members))),
    Effect.catch(keepEndpoints(engine)),
    Effect.repeat(Schedule.spaced(interval)),
    Effect.asVoid
  )
