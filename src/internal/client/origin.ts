/**
 * Where the calls of a client go: to which client below all namespaces, and below which prefix. And how what is above
 * namespaces, batching and whatever else stands between has a call made in another way at the very bottom, where keys are
 * what they are in etcd: with a *detour*, which goes along with the options of the call.
 *
 * Both are properties under names that nobody else can use. They stay in copies (`{ ...client, unary }`) and go through
 * every client that passes the options of a call on.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type { CallOptions, Client } from "../../EtcdClient.ts"
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

/** A way to make calls with one answer, by means of another. */
export type Detour = (unary: Unary) => Unary

/** The option of a call that has its detour. */
export const Detour = Symbol("effect-etcd/Detour")

export interface Detoured {
  readonly [Detour]?: Detour | undefined
}

type Options = (CallOptions & Detoured) | undefined

/** The options of a call that is to make a detour, besides those that it is to make already. */
export const withDetour = <O extends object>(options: O | undefined, detour: Detour): O => {
  const other = (options as Detoured | undefined)?.[Detour]
  const all: Detour = other === undefined ? detour : (unary) => other(detour(unary))
  return { ...(options as O), [Detour]: all }
}

const grounded = (client: Client, isMade: boolean): Client => {
  const self: Client & Known = {
    ...client,
    [OriginKey]: { root: client, prefix: nothing, isMade },
    unary: (method, request, options?: Options) => {
      const detour = options?.[Detour]
      if (detour === undefined) return client.unary(method, request, options)
      const rest: Options = { ...options, [Detour]: undefined }
      return detour(client.unary)(method, request, rest)
    }
  }
  return self
}

/** A client that `EtcdClient.make` has made, as a root: it lets calls make their detours. */
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

const ClientKey = Symbol("effect-etcd/Client")

interface Remembering {
  readonly [ClientKey]?: Client
}

/** A service that remembers its client. */
export const remember = <S extends object>(service: S, client: Client): S => ({ ...service, [ClientKey]: client })

/** The client of a service that has one. */
export const clientOf = (service: object): Client | undefined => (service as Remembering)[ClientKey]
