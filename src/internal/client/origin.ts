/**
 * Where the calls of a client go: to which client below all namespaces, and below which prefix. And how the calls that a
 * fiber makes are made in another way at the very bottom, where keys are what they are in etcd, whatever service makes
 * them, and whenever that was built: by *detours*, which are part of the context of the fiber, as its span is.
 *
 * Where a client goes is a property under a name that nobody else can use. It stays in copies (`{ ...client, unary }`).
 *
 * @internal
 */
import type { DescMethod } from "@bufbuild/protobuf"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Client } from "../../EtcdClient.ts"
import * as Keys from "../keys.ts"

export interface Origin {
  /** The client below all namespaces: the same one for all clients that go to the same place. */
  readonly root: Client
  /** What comes before each key. */
  readonly prefix: Uint8Array
  /** Whether the root is one that `EtcdClient.make` has made, and not somebody else, so that its keys are those of etcd. */
  readonly isMade: boolean
}

const OriginKey = Symbol("effect-etcd/Origin")

interface Known {
  readonly [OriginKey]?: Origin
}

const AddressesKey = Symbol("effect-etcd/Addresses")

/** What a client says of all the endpoints that it has had so far. */
export interface Addressed {
  readonly [AddressesKey]?: ReadonlySet<string>
}

export const addressed = <C extends Client>(client: C, addresses: ReadonlySet<string>): C & Addressed => ({
  ...client,
  [AddressesKey]: addresses
})

/** All the endpoints that a client has had so far, as far as it says that; otherwise those that it has. */
export const addressesOf = (client: Client & Addressed): Effect.Effect<ReadonlySet<string>> => {
  const known = client[AddressesKey]
  return known === undefined ? Effect.map(client.endpoints, (now) => new Set(now)) : Effect.succeed(known)
}

const nothing = new Uint8Array(0)

/** Where the calls of a client go. One that nobody has said it of is a root itself. */
export const of = (client: Client & Known): Origin =>
  client[OriginKey] ?? { root: client, prefix: nothing, isMade: false }

type Unary = Client["unary"]

/**
 * A way to make calls that may write, by means of those of a client that is a root. Undefined: that one goes elsewhere, as
 * far as can be told.
 */
export type Detour = (root: Origin) => ((unary: Unary) => Unary) | undefined

/** How what a fiber writes gets to etcd. */
interface Way {
  /** The detours that it makes, the outermost first. */
  readonly made: ReadonlyArray<Detour>
  /** Those that it does not make, whoever brings them along. */
  readonly left: ReadonlyArray<Detour>
}

const direct: Way = { made: [], left: [] }

/** Undefined: no detour is made, and none can be brought along. */
const Way: Context.Reference<Way | undefined> = Context.Reference("effect-etcd/Way", {
  defaultValue: (): Way | undefined => direct
})

const making = (way: Way, detour: Detour): Way => ({ ...way, made: [...way.made, detour] })

/** A context in which what is written makes a detour, besides those that it makes already. */
export const withDetour = <R>(context: Context.Context<R>, detour: Detour): Context.Context<R> =>
  Context.add(context, Way, making(Context.get(context, Way) ?? direct, detour)) as Context.Context<R>

/** Brings a detour along, to where it is not made already, nor left. */
export const detoured = <A, E, R>(effect: Effect.Effect<A, E, R>, detour: Detour): Effect.Effect<A, E, R> =>
  Effect.updateService(effect, Way, (way) =>
    way === undefined || way.made.includes(detour) || way.left.includes(detour) ? way : making(way, detour)
  )

const leaving = (way: Way, detours: ReadonlyArray<Detour>): Way => ({
  made: way.made.filter((detour) => !detours.includes(detour)),
  left: [...way.left, ...detours]
})

/** Runs an effect that does not make one of its detours. */
export const besides = <A, E, R>(effect: Effect.Effect<A, E, R>, detour: Detour): Effect.Effect<A, E, R> =>
  Effect.updateService(effect, Way, (way) => way && leaving(way, [detour]))

/** Runs an effect that makes none of the detours that it has now. */
export const straight = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.updateService(effect, Way, (way) => way && leaving(way, way.made))

/** Whether what a fiber writes gets to etcd in a way of its own, and not with what others write. */
export const goesAlone = (fiber: Fiber.Fiber<unknown, unknown>): boolean => {
  const way = fiber.getRef(Way)
  return way === undefined || way.made.length > 0 || way.left.length > 0
}

const writes: ReadonlySet<string> = new Set(["Put", "DeleteRange", "Txn"])

/** By its name, so that a program may have descriptors of its own. */
export const mayWrite = ({ name, parent }: DescMethod): boolean =>
  writes.has(name) && parent.typeName === "etcdserverpb.KV"

/** The calls of a root, and the detours that none of them makes, which may be for what is below. */
const around = (root: Origin, detours: ReadonlyArray<Detour>) =>
  detours.reduce(
    ({ rest, unary }, detour) => {
      const there = detour(root)
      return there === undefined ? { rest: [...rest, detour], unary } : { rest, unary: there(unary) }
    },
    { rest: [] as ReadonlyArray<Detour>, unary: root.root.unary }
  )

const grounded = (client: Client, isMade: boolean): Client => {
  const root: Origin = { root: client, prefix: nothing, isMade }
  const self: Client & Known = {
    ...client,
    [OriginKey]: root,
    unary: (method, request, options) =>
      mayWrite(method)
        ? Effect.withFiber((fiber) => {
            const way = fiber.getRef(Way)
            if (way === undefined || way.made.length === 0) return client.unary(method, request, options)
            const { rest, unary } = around(root, way.made)
            return Effect.provideService(unary(method, request, options), Way, { ...way, made: rest })
          })
        : client.unary(method, request, options)
  }
  return self
}

/** A client that `EtcdClient.make` has made, as a root: it lets what is written make its detours. */
export const made = (client: Client): Client => grounded(client, true)

/** A client that is a root, unless it is above one. */
export const ground = (client: Client & Known): Client =>
  client[OriginKey] === undefined ? grounded(client, false) : client

/** A client, made of a grounded one, whose keys get one more prefix. */
export const within = (client: Client, prefix: Uint8Array): Client => {
  const outer = of(client)
  const inner: Client & Known = {
    ...client,
    [OriginKey]: { ...outer, prefix: Keys.concat(outer.prefix, prefix) }
  }
  return inner
}

/** A client whose calls make no detours, whatever they are a part of. */
export const outside = (client: Client): Client => {
  const below = ground(client)
  return {
    ...below,
    unary: (method, request, options) => Effect.provideService(below.unary(method, request, options), Way, undefined)
  }
}
