/**
 * What those who are said to be peers answer: one is an etcd, another an instance that waits as this one does, a third
 * something else, or nobody.
 *
 * An etcd serves its members at its peer URLs, with the id of the cluster in a header, from before there is a leader. Who
 * waits answers with an object, which no etcd takes for members. (Facts: `server/etcdserver/api/etcdhttp/peer.go` and
 * `getClusterFromRemotePeers` in `server/etcdserver/cluster_util.go`, of etcd 3.5 to 3.7; the same in 3.4.)
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as EtcdId from "../../EtcdId.ts"
import * as Time from "../time.ts"
import * as Http from "./http.ts"

/** A member, as etcd tells of it to whoever asks. */
export interface Listed {
  readonly id: bigint
  readonly name: string
  readonly peerUrls: ReadonlyArray<string>
  /** Empty until the member has served. */
  readonly clientUrls: ReadonlyArray<string>
  readonly isLearner: boolean
}

/** What an instance that waits says of itself. */
export interface Waiting {
  /** By which it knows itself, at a URL that is its own in another spelling. */
  readonly instance: string
  readonly name: string
  readonly clusterId: bigint | undefined
  /** For how long it has waited, in milliseconds. */
  readonly waitedMillis: number
}

/** Between which times it has answered, by this instance's clock. */
export interface Asked {
  readonly from: number
  readonly to: number
}

export type Answer =
  | { readonly _tag: "Etcd"; readonly clusterId: bigint; readonly members: ReadonlyArray<Listed> }
  /** It has no data, and waits until it knows how to begin: with the cluster of this id, where its set is complete. */
  | ({ readonly _tag: "Waiting"; readonly asked: Asked } & Waiting)
  /** Nobody, or somebody else. */
  | { readonly _tag: "Nobody"; readonly why: string }

const Presence = Schema.Struct({
  "effect-etcd": Schema.Literal("waiting"),
  instance: Schema.String,
  name: Schema.String,
  clusterId: Schema.NullOr(Schema.String),
  waitedMillis: Schema.Number
})

export const presence = ({ clusterId, instance, name, waitedMillis }: Waiting): string =>
  JSON.stringify({
    ...{ "effect-etcd": "waiting", instance, name, waitedMillis },
    clusterId: clusterId === undefined ? null : EtcdId.format(clusterId)
  } satisfies typeof Presence.Type)

const Members = Schema.Array(
  Schema.Struct({
    id: Schema.BigInt,
    peerURLs: Schema.Array(Schema.String),
    name: Schema.optionalKey(Schema.String),
    clientURLs: Schema.optionalKey(Schema.NullOr(Schema.Array(Schema.String))),
    isLearner: Schema.optionalKey(Schema.Boolean)
  })
)

/** Ids are numbers of 64 bits, of which a number of JavaScript would keep 53. */
const parse = Schema.decodeUnknownOption(Schema.Unknown)
const withIds = (text: string): Option.Option<unknown> =>
  Option.flatMap(
    Option.liftThrowable(() =>
      JSON.parse(text, ((key: string, value: unknown, context?: { readonly source?: string }) =>
        key === "id" && typeof value === "number" && /^\d+$/.test(context?.source ?? "")
          ? BigInt(context!.source!)
          : value) as (this: unknown, key: string, value: unknown) => unknown)
    )(),
    parse
  )

const nobody = (why: string): Answer => ({ _tag: "Nobody", why })

const read = ({ body, headers, status }: Http.Answer, asked: Asked): Answer => {
  const json = withIds(body)
  const waiting = Option.flatMap(json, Schema.decodeUnknownOption(Presence))
  if (Option.isSome(waiting)) {
    const { clusterId, instance, name, waitedMillis } = waiting.value
    const id = Option.getOrUndefined(EtcdId.parse(clusterId ?? ""))
    return { _tag: "Waiting", asked, instance, name, clusterId: id, waitedMillis }
  }
  const clusterId = EtcdId.parse(String(headers["x-etcd-cluster-id"] ?? ""))
  const members = Option.flatMap(json, Schema.decodeUnknownOption(Members))
  if (status !== 200 || Option.isNone(clusterId) || Option.isNone(members) || members.value.length === 0) {
    return nobody(`what answers there is no etcd (HTTP status ${status})`)
  }
  return {
    _tag: "Etcd",
    clusterId: clusterId.value,
    members: members.value.map(({ clientURLs, id, isLearner, name, peerURLs }) => ({
      id,
      name: name ?? "",
      peerUrls: peerURLs,
      clientUrls: clientURLs ?? [],
      isLearner: isLearner ?? false
    }))
  }
}

const patienceMillis = 2000

/** Asks who is at a peer URL. */
export const ask = (settings: Http.Where, url: string): Effect.Effect<Answer> =>
  Effect.flatMap(Time.Time, ({ now }) => {
    const from = now()
    return Effect.match(Http.get(settings, url, "/members", patienceMillis), {
      onSuccess: (answer) => read(answer, { from, to: now() }),
      onFailure: nobody
    })
  })

/** All at once, by their URLs. */
export const askAll = (settings: Http.Where, urls: ReadonlyArray<string>): Effect.Effect<ReadonlyMap<string, Answer>> =>
  Effect.map(
    Effect.forEach(urls, (url) => Effect.map(ask(settings, url), (answer) => [url, answer] as const), {
      concurrency: "unbounded"
    }),
    (answers) => new Map(answers)
  )
