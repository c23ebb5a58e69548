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
import * as Rpc from "../proto/rpc_pb.ts"

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

/** The detours of what a fiber writes, the outermost first. Undefined: it makes none, whoever asks for one. */
const Detours: Context.Reference<ReadonlyArray<Detour> | undefined> = Context.Reference("effect-etcd/Detours", {
  defaultValue: (): ReadonlyArray<Detour> | undefined => []
})

/** Runs an effect whose writes make a detour, besides those that they make already. */
export const detoured = <A, E, R>(effect: Effect.Effect<A, E, R>, detour: Detour): Effect.Effect<A, E, R> =>
  Effect.updateService(effect, Detours, (known) =>
    known === undefined || known.includes(detour) ? known : [...known, detour]
  )

/** The same for what runs in a context, also where that was to make none. */
export const withDetour = <R>(context: Context.Context<R>, detour: Detour): Context.Context<R> =>
  Context.add(context, Detours, [...(Context.get(context, Detours) ?? []), detour]) as Context.Context<R>

/** Runs an effect without one of the detours that it would make. */
export const besides = <A, E, R>(effect: Effect.Effect<A, E, R>, detour: Detour): Effect.Effect<A, E, R> =>
  Effect.updateService(effect, Detours, (known) => known?.filter((other) => other !== detour))

/** Runs an effect that makes no detours. */
export const straight: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R> = Effect.provideService(
  Detours,
  undefined
)

/** Whether what a fiber writes makes detours. */
export const isDetoured = (fiber: Fiber.Fiber<unknown, unknown>): boolean => {
  const detours = fiber.getRef(Detours)
  return detours !== undefined && detours.length > 0
}

const { deleteRange, put, txn } = Rpc.KV.method

export const mayWrite = (method: DescMethod): boolean => method === put || method === deleteRange || method === txn

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
            if (!isDetoured(fiber)) return client.unary(method, request, options)
            const { rest, unary } = around(root, fiber.getRef(Detours)!)
            return Effect.provideService(unary(method, request, options), Detours, rest)
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

/** A client, and what is above it, whose calls make no detours. */
export const outside = (client: Client): Client => {
  const below = ground(client)
  return { ...below, unary: (method, request, options) => straight(below.unary(method, request, options)) }
}
