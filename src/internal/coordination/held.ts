/**
 * What whoever holds an entry is given, and work under it with the fence: the same for locks, elections,
 * semaphores and barriers, which differ in what they call it.
 *
 * @internal
 */

import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { memoize } from "effect/Function"
import * as Metric from "effect/Metric"
import type { EtcdError } from "../../EtcdError.ts"
import type { ClusterId } from "../../EtcdId.ts"
import { LeaseId } from "../../EtcdId.ts"
import * as EtcdTxn from "../../EtcdTxn.ts"
import * as Origin from "../client/origin.ts"
import * as Json from "../json.ts"
import * as Checks from "../options.ts"
import * as Fence from "./fence.ts"
import * as Hold from "./hold.ts"
import * as Line from "./line.ts"
import type * as Session from "./session.ts"

/** What the error is made of that tells of a loss. */
export interface Lost {
  readonly names: ReadonlyArray<string>
  readonly token: bigint
  readonly reason: Session.Loss["reason"]
  readonly message: string
  readonly overrun: Duration.Duration
  readonly cause?: EtcdError
}

/** Makes that error. */
export type Tell<L extends Lost> = (entry: Line.Entry, loss: Session.Loss, overrunMillis: number) => L

/** What whoever holds an entry is given. What it says is said where it is given out. */
export interface Held<L> {
  readonly key: string
  readonly keys: ReadonlyArray<string>
  readonly token: bigint
  readonly acquiredRevision: bigint
  readonly lost: Effect.Effect<L>
  readonly remaining: Effect.Effect<Duration.Duration>
  readonly isHeldUnsafe: () => boolean
  readonly fence: EtcdTxn.Compare
  readonly commit: <A>(op: EtcdTxn.Op<A>) => Effect.Effect<A, EtcdError | L>
  readonly sequencer: { readonly key: string; readonly revision: bigint; readonly clusterId: ClusterId }
}

const lostBecause: { readonly [reason in Lost["reason"]]: string } = {
  "not-renewed": "no keep-alive of the session was answered in time",
  "not-found": "etcd does not have the lease of the session any more: it expired, or somebody revoked it",
  deleted: "its key was deleted, or somebody else has put it",
  fenced: "etcd refused a write under it, since its key is not there any more",
  refused: "the user may not renew the lease of the session",
  regressed: "the store has gone back, or is that of another cluster",
  unwatched: "whether its key is there cannot be seen any more",
  closed: "the session was closed",
  revoked: "the session was closed",
  released: "it was given back"
}

const namesOf = ({ spec }: Line.Entry): ReadonlyArray<string> => spec.places.map(({ name }) => name)

const show = (names: ReadonlyArray<string>): string => names.map((name) => JSON.stringify(name)).join(" and ")

/** What is said of a loss. `what`: as in "The lock". */
export const lossOf = (
  what: string,
  entry: Line.Entry,
  { cause, reason }: Session.Loss,
  overrunMillis: number
): Lost => {
  const names = namesOf(entry)
  const overrun = Duration.millis(overrunMillis)
  const tooLong =
    overrunMillis === 0
      ? ""
      : ` What ran under it went on for ${Duration.format(overrun)} when somebody else could have it.`
  const because = cause === undefined ? "" : ` ${cause.message}`
  return {
    names,
    token: entry.revision,
    reason,
    message: `${what} ${show(names)} is lost: ${lostBecause[reason]}.${tooLong}${because}`,
    overrun,
    ...(cause === undefined ? {} : { cause })
  }
}

/** A write was refused, which nothing but the loss of the key explains. */
const onFenced = (entry: Line.Entry) => () => Line.settle(entry, { reason: "fenced", cause: undefined })

/** Holds as long as all keys of an entry are there, as they were put: one that has lost its lease is no place any more. */
const fenceOf = memoize(({ incarnation, keys, revision }: Line.Entry): EtcdTxn.Compare => {
  const lease = LeaseId(incarnation.lease.id)
  return EtcdTxn.every(
    keys.flatMap((key) => [EtcdTxn.createRevision(key).equals(revision), EtcdTxn.lease(key).equals(lease)])
  )
})

/** What is written under an entry is written behind this. */
const fence = memoize(
  (entry: Line.Entry): Fence.Fence => ({
    get compares() {
      return Fence.below(entry.session.client, fenceOf(entry))
    },
    root: Origin.of(entry.session.client).root,
    onFenced: onFenced(entry)
  })
)

/** A transaction under an entry, which compares that by itself. */
const commit = <A>(entry: Line.Entry, op: EtcdTxn.Op<A>) =>
  Origin.besides(
    entry.session.txnUnder.commit(EtcdTxn.make({ compare: fenceOf(entry), success: op })),
    Fence.detour(fence(entry))
  )

/** What is printed of what is held. */
export const shown = ({
  acquiredRevision,
  key,
  keys,
  token
}: Pick<Held<Lost>, "acquiredRevision" | "key" | "keys" | "token">) => ({
  key,
  keys,
  token,
  acquiredRevision
})

/** What costs something is made when it is asked for. */
export const make = <L extends Lost>(entry: Line.Entry, tell: Tell<L>): Held<L> => {
  const { keys, revision, session } = entry
  const lossNow = Effect.suspend(() =>
    entry.loss === undefined ? Effect.void : Effect.fail(tell(entry, entry.loss, 0))
  )
  const held: Held<L> = {
    key: keys[0]!,
    keys,
    token: revision,
    acquiredRevision: entry.acquiredRevision,
    lost: Effect.map(Deferred.await(entry.lost), (loss) => tell(entry, loss, 0)),
    remaining: Effect.sync(() => Duration.millis(Line.remaining(entry))),
    isHeldUnsafe: () => Line.isHeld(entry),
    get fence() {
      return fenceOf(entry)
    },
    commit: (op) =>
      Effect.andThen(
        lossNow,
        Effect.flatMap(commit(entry, op), (result) => {
          if (result.succeeded) return Effect.succeed(result.results as never)
          onFenced(entry)()
          return Effect.fail(tell(entry, { reason: "fenced", cause: undefined }, 0))
        })
      ),
    get sequencer() {
      return Json.answer({ key: Line.absolute(session, keys[0]!), revision, clusterId: entry.clusterId })
    }
  }
  return Json.showing(held, shown)
}

/** Refuses whoever would wait for itself. `what`: as in "lock". */
export const notAgain = Effect.fnUntraced(function* (
  who: string,
  what: string,
  session: Session.Session,
  names: ReadonlyArray<string>
): Effect.fn.Return<void, EtcdError> {
  for (const name of names) {
    if (!(yield* Hold.holdsAlready(session, name))) continue
    const message =
      `${who}: ${JSON.stringify(name)} is held already by this fiber, or by the work that it is a part of, which would ` +
      `wait for itself. Use the ${what} that is held, give it back before, which is due even if it is lost, or use ` +
      "another name for what is inside of it."
    return yield* Effect.fail(Checks.invalid(message))
  }
})

const overruns = Metric.counter("etcd_coordination_overruns_total", {
  description: "How often work went on under a lock, permits or a leadership when somebody else could have it",
  attributes: { unit: "{overrun}" },
  incremental: true
})

const tellOfOverrun = (lost: Lost): Effect.Effect<void> =>
  Effect.andThen(
    Metric.update(overruns, 1),
    Effect.logError(
      "what runs under a lock, permits or a leadership goes on although that is lost",
      show(lost.names),
      lost.message
    )
  )

/** How work is run. */
export interface How<L extends Lost> {
  readonly fence: boolean
  /** Undefined: it is logged, and counted. */
  readonly overrun: ((lost: L) => Effect.Effect<unknown>) | undefined
  readonly tell: Tell<L>
}

/** Runs an effect under an entry, with services of its own, and gives the entry back. */
export const during = <A, E, R, Provided, L extends Lost>(
  entry: Line.Entry,
  { fence: isFenced, overrun = tellOfOverrun, tell }: How<L>,
  services: Context.Context<Provided>,
  self: Effect.Effect<A, E, R>,
  restore: Line.Restore
): Effect.Effect<Hold.End<A, E>, never, Exclude<R, Provided>> => {
  const inside = Effect.updateContext(self, (context: Context.Context<Exclude<R, Provided>>) => {
    const own = Context.merge(context, services) as Context.Context<R>
    return isFenced ? Fence.services(own, fence(entry)) : own
  })
  return Effect.ensuring(
    Hold.run(entry, inside, (loss) => overrun(tell(entry, loss, 0)), restore),
    Line.leave(entry)
  )
}
