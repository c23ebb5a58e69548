/**
 * Who offers a service, and where: announcements that go with the program, and a live view of them.
 *
 * An endpoint is the key `<service>/<address>`, with the JSON of Go's `naming/endpoints`, so that Go programs and gRPC's
 * resolver for etcd (`naming/resolver`) find what is announced here, and what they announce is found here. Go's manager
 * may call keys below a service as it likes. All below `<service>/` is the service's, so name none below another one. (Older
 * Go clients, such as 3.5.9, take all that begins with the name for it, `users2/…` for `users`.)
 *
 * @packageDocumentation
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import type * as Scope from "effect/Scope"
import type * as EtcdError from "../EtcdError.ts"
import type * as EtcdKv from "../EtcdKv.ts"
import * as EtcdStore from "../EtcdStore.ts"
import type * as EtcdWatch from "../EtcdWatch.ts"
import * as Checks from "../internal/options.ts"
import * as EtcdMirror from "./EtcdMirror.ts"
import * as EtcdSession from "./EtcdSession.ts"

/**
 * Where a service is to be found.
 *
 * @category models
 * @since 0.1.0
 */
export interface Endpoint {
  /** `10.0.0.7:8080`, say: whatever those make of it who connect. */
  readonly address: string
  /** What else they are to know. `null`, where there is nothing. */
  readonly metadata: Schema.Json
}

/**
 * An endpoint of a service that is announced.
 *
 * @category models
 * @since 0.1.0
 */
export interface Registration {
  /** Its name: text that is not empty, without a slash at its beginning or end and without NUL. */
  readonly service: string
  /** `10.0.0.7:8080`, say: whatever those make of it who connect. Text that is not empty, without NUL. */
  readonly address: string
  /** What else they are to know. Default: `null`. */
  readonly metadata?: Schema.Json | undefined
}

/** What Go's `endpoints` writes, in the order in which it does. What is missing is what Go takes for it. */
const Update = Schema.Struct({
  Op: Schema.optionalKey(Schema.Number),
  Addr: Schema.NonEmptyString,
  Metadata: Schema.optionalKey(Schema.Json)
})

/** That an endpoint is added. Whoever reads does not look at it: what is there was added. */
const add = 0

/**
 * An endpoint as it is in etcd, for stores of other keys.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Endpoint: Schema.Codec<Endpoint, typeof Update.Encoded> = Update.pipe(
  Schema.decodeTo(Schema.Struct({ address: Schema.NonEmptyString, metadata: Schema.Json }), {
    decode: SchemaGetter.transform(({ Addr, Metadata = null }) => ({ address: Addr, metadata: Metadata })),
    encode: SchemaGetter.transform(({ address, metadata }) => ({ Op: add, Addr: address, Metadata: metadata }))
  })
)

const isPart = (value: unknown): value is string =>
  typeof value === "string" && value !== "" && value.isWellFormed() && !value.includes("\0")

const service: Checks.Check = {
  accepts: (value) => isPart(value) && !value.startsWith("/") && !value.endsWith("/"),
  due: "text that is not empty, without a slash at its beginning or end and without NUL"
}

const address: Checks.Check = {
  accepts: isPart,
  due: 'text that is not empty and without NUL, such as "10.0.0.7:8080"'
}

const isJson = Schema.is(Schema.Json)

const metadata: Checks.Check = {
  accepts: isJson,
  due: "JSON: null, a boolean, a finite number, text, a list or an object of these",
  // There may be a secret in it.
  show: (value) => `a ${typeof value} that is none`
}

const ofRegistration: Checks.Checks<Registration> = { service, address, metadata }

const toJson = Schema.encodeUnknownEffect(Schema.fromJsonString(Endpoint))

/** What is left out of a registration. */
const missing = (who: string, { address: where, service: what }: Partial<Registration>) =>
  Checks.wrongArgument(who, "the service", service, what) ?? Checks.wrongArgument(who, "the address", address, where)

/**
 * Announces an endpoint of a service until the scope closes. It is announced when this succeeds, by the session of the
 * program: it disappears with the program, at the latest when the session's time to live is over, and comes back when the
 * session was lost and there is a new incarnation of it. More at `EtcdSession.keep`.
 *
 * Two announcements of one address of a service share a key: the later one is what is there. So what else is to be known
 * of an endpoint is changed by announcing it anew, and closing the scope of the first announcement afterwards.
 *
 * Fails with `InvalidArgument` for what makes no sense, and as a put does.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdRegistry } from "effect-etcd/coordination"
 *
 * const serve = Effect.gen(function*() {
 *   yield* EtcdRegistry.register({ service: "users", address: "10.0.0.7:8080", metadata: { zone: "eu" } })
 *   return yield* Effect.never
 * }).pipe(Effect.scoped)
 * ```
 *
 * @category registry
 * @since 0.1.0
 */
export const register = (
  registration: Registration
): Effect.Effect<void, EtcdError.EtcdError, EtcdSession.EtcdSession | Scope.Scope> => {
  const who = "EtcdRegistry.register"
  const problem = Checks.isObject(registration)
    ? Checks.problemOf(who, ofRegistration, registration)
    : `${who}: the registration has to be an object with a service and an address, and not ${Checks.show(registration)}.`
  if (problem !== undefined) return Effect.fail(Checks.invalid(problem))
  return (
    missing(who, registration) ??
    Effect.suspend(() => {
      const { address, metadata = null, service } = registration
      return toJson({ address, metadata }).pipe(
        Effect.mapError(() =>
          Checks.invalid(`${who}: the option metadata is nested too deeply to be written as JSON.`)
        ),
        Effect.flatMap((json) => EtcdSession.keep(`${service}/${address}`, json))
      )
    })
  )
}

/**
 * The endpoints of a service, as a live view: by their keys without `<service>/`, which are addresses unless somebody
 * else names them otherwise. What is no endpoint is an entry in error. {@link addresses} tells where to connect to. More at
 * `EtcdMirror.make`.
 *
 * @example
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { EtcdRegistry } from "effect-etcd/coordination"
 *
 * const program = Effect.gen(function*() {
 *   const users = yield* EtcdRegistry.endpoints("users")
 *   yield* users.changes.pipe(
 *     Stream.mapEffect(() => users.view),
 *     Stream.runForEach((view) => Effect.log("users are at", EtcdRegistry.addresses(view)))
 *   )
 * }).pipe(Effect.scoped)
 * ```
 *
 * @category registry
 * @since 0.1.0
 */
export const endpoints = (
  name: string,
  options?: EtcdMirror.Options | undefined
): Effect.Effect<
  EtcdMirror.Mirror<EtcdMirror.Decoded<Endpoint>>,
  EtcdError.EtcdError,
  EtcdKv.EtcdKv | EtcdWatch.EtcdWatch | Scope.Scope
> =>
  Checks.wrongArgument("EtcdRegistry.endpoints", "the service", service, name) ??
  EtcdMirror.make(EtcdStore.make(`${name}/`, Endpoint), options)

/**
 * The addresses of a view of endpoints, each once, without those in error.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdRegistry } from "effect-etcd/coordination"
 *
 * const program = Effect.gen(function*() {
 *   const users = yield* EtcdRegistry.endpoints("users")
 *   return EtcdRegistry.addresses(yield* users.view) // ["10.0.0.7:8080", "10.0.0.8:8080"]
 * })
 * ```
 *
 * @category registry
 * @since 0.1.0
 */
export const addresses = (view: EtcdMirror.View<EtcdMirror.Decoded<Endpoint>>): ReadonlyArray<string> => {
  const all = new Set<string>()
  for (const [, decoded] of view) if (Result.isSuccess(decoded)) all.add(decoded.success.value.address)
  return [...all]
}
