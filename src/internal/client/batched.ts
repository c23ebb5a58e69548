/**
 * What batching and the client below it tell each other, under names that nobody else can use.
 *
 * @internal
 */
import type * as Tracer from "effect/Tracer"
import type { Limit } from "./limit.ts"

/** How large a message a client takes: a property of clients that only this library knows. */
export const MessageLimit = Symbol("effect-etcd/MessageLimit")

export interface MessageLimit {
  readonly [MessageLimit]?: number
}

/** What batching gives along with the options of a call. */
export const Batched = Symbol("effect-etcd/Batched")

export interface Batched {
  readonly [Batched]?: {
    /** What is left of the usual limit, where nobody has set a deadline. */
    readonly limit: Limit | undefined
    /**
     * Set by the client, for when the time of one of several callers is up while the call goes on. What its endpoint would
     * be suspected of, had it been a call of its own, it is suspected of then.
     */
    doubt: (() => void) | undefined
    /** Set by the client: how much has come over the connection that the call is out on. */
    heard: (() => number) | undefined
    /** The spans of those who share the call, beside the one that it is below. */
    readonly links?: ReadonlyArray<Tracer.SpanLink> | undefined
  }
}
