/**
 * Elections: one of many programs leads, all can see which, and another one takes over when it is gone.
 *
 * An election is a value, made of a name. Whoever stands in it ({@link campaign}) puts a key into its line, with the value
 * that it is to be known by; the first in the line leads, and the others follow in their order. {@link whileElected} runs
 * an effect whenever this program leads, again and again; {@link changes} tells who leads. The keys are those of etcd's
 * own elections, `<name>/<lease>`, so that Go programs (`concurrency.Election`) and `etcdctl elect` stand in the same line.
 * They hang on the lease of the program's session (`EtcdSession`).
 *
 * Leading is holding a lock, with all that `EtcdLock` says of it: when it ends, the fence, and what a program that is
 * stopped may still do. A lock of the same name is the same line: `EtcdLock.line` shows the candidates, with their values,
 * and the holder of such a lock counts as the leader.
 *
 * | what happens | outcome |
 * | --- | --- |
 * | the leader resigns | the next one leads after a round trip |
 * | the leader is killed, or cut off | the next one leads when its lease has run out: after the time to live of its session, up to 1.5 election timeouts more if etcd's own leader is lost at that moment, and half a second or so until etcd notices |
 * | its lease is revoked, or its key deleted | its work is interrupted at that moment, and the next one leads; it stands in line again, at the end |
 * | etcd cannot be reached for less than the time to live less the margin | nothing |
 * | nobody stands | {@link changes} tells `None`; whoever comes next leads at once |
 *
 * ## `whileElected` and `Role.whileLeader`
 *
 * They look alike, and have different leaders. `Role.whileLeader` runs an effect while the *node* that it is given leads
 * its etcd cluster: raft decides, the leader changes with the load and the faults of etcd, and only a program that runs such
 * a node can ask. `whileElected` runs it while this *program* leads an election that has its name: only programs decide, in
 * the order in which they come, whatever etcd's members do, and any client can stand. What the first one runs may overlap
 * for a moment with what it runs elsewhere, and needs a fence of its own. What the second one writes to etcd is fenced.
 *
 * ## Failures
 *
 * Unless something else is said of a function, all fail with `InvalidArgument` where the election or the value makes no sense,
 * before anything is sent, and with the reasons of every call (`EtcdError`).
 *
 * @packageDocumentation
 * @since 0.1.0
 */

import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as EtcdError from "../EtcdError.ts"
import { LeaseId } from "../EtcdId.ts"
import * as EtcdKv from "../EtcdKv.ts"
import type * as EtcdResponse from "../EtcdResponse.ts"
import * as EtcdTxn from "../EtcdTxn.ts"
import * as EtcdWatch from "../EtcdWatch.ts"
import * as Held_ from "../internal/coordination/held.ts"
import * as Hold from "../internal/coordination/hold.ts"
import * as Line from "../internal/coordination/line.ts"
import * as Outage from "../internal/coordination/outage.ts"
import * as Session from "../internal/coordination/session.ts"
import * as Json from "../internal/json.ts"
import * as Keys from "../internal/keys.ts"
import * as Checks from "../internal/options.ts"
import * as Time from "../internal/time.ts"
import * as Tracing from "../internal/tracing.ts"
import type * as KeyRange from "../KeyRange.ts"
import * as EtcdLock from "./EtcdLock.ts"
import { EtcdSession } from "./EtcdSession.ts"

const TypeId = "~effect-etcd/coordination/EtcdElection"

/**
 * What one can stand in. It is a value, which may be used as often as need be.
 *
 * @category models
 * @since 0.1.0
 */
export interface Election {
  readonly [TypeId]: typeof TypeId
  readonly name: string
}

/**
 * How work is run by who leads.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /**
   * Lets etcd carry out what is written inside of {@link whileElected} only while this program leads. Default: true.
   * Without it the writes of a leader that was stopped may land when another one leads.
   */
  readonly fence?: boolean | undefined
  /**
   * What is done, once, when the effect goes on though it was interrupted and somebody else could lead; see
   * `EtcdLock.Options`. Default: an error in the log, and one more in the metric `etcd_coordination_overruns_total`.
   */
  readonly overrun?: ((lost: EtcdLock.LockLost) => Effect.Effect<unknown>) | undefined
  /**
   * The pauses between tries of {@link whileElected} to stand in the election while etcd cannot be reached, in real time,
   * and when to give up. It starts anew after each success. Default: {@link defaultRetry}.
   */
  readonly retry?: Schedule.Schedule<unknown, EtcdError.EtcdError> | undefined
}

/**
 * Leading an election, until its scope closes or it is lost. It is what holding a lock is, and the leader can also publish a
 * value.
 *
 * @category models
 * @since 0.1.0
 */
export interface Leadership extends EtcdLock.Held {
  /**
   * Puts another value in the place of the one that this program stood with, for all who look ({@link leader},
   * {@link changes}), if it still leads; otherwise it fails with `LockLost`, and nothing was written. It goes with the
   * leadership: the next one of {@link whileElected} begins with the value of the candidate.
   */
  readonly proclaim: (value: KeyRange.Bytes) => Effect.Effect<void, EtcdError.EtcdError | EtcdLock.LockLost>
}

/**
 * What an effect requires that can only be run while this program leads; it is provided by {@link whileElected}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Elected {
  readonly _: unique symbol
}

/**
 * The leadership that the effect of {@link whileElected} runs under.
 *
 * @category services
 * @since 0.1.0
 */
export const Leadership: Context.Service<Elected, Leadership> = Context.Service(
  "effect-etcd/coordination/EtcdElection/Leadership"
)

/**
 * Who leads.
 *
 * @category models
 * @since 0.1.0
 */
export interface Leader {
  /** Its key in the line. */
  readonly key: string
  /** What it stood with, or has proclaimed last. */
  readonly value: Uint8Array
  /** The value as text (UTF-8). */
  readonly valueString: string
  /** The create revision of the key: later leaders have higher ones. */
  readonly token: bigint
  /** The revision that changed the value last. */
  readonly revision: bigint
  /** The lease of its session, with which its key goes. */
  readonly lease: LeaseId
}

/**
 * The pauses between tries to stand in an election: 25 ms, twice as long each time up to one second, with jitter, for ever.
 *
 * @category schedules
 * @since 0.1.0
 */
export const defaultRetry: Schedule.Schedule<unknown, EtcdError.EtcdError> = EtcdWatch.defaultRetry

// -----------------------------------------------------------------------------
// Elections as values
// -----------------------------------------------------------------------------

/** What is in an election, which is nobody else's business. */
interface Parts {
  readonly name: string
  readonly fence: boolean
  readonly overrun: Options["overrun"]
  readonly retry: Schedule.Schedule<unknown, EtcdError.EtcdError>
  /** What is wrong with it, if anything is: said when it is used. */
  readonly problem: string | undefined
}

const partsOf = (election: Election): Parts => election[TypeId] as never

const isElection = (input: unknown): input is Election => Predicate.hasProperty(input, TypeId)

const campaigning = "EtcdElection.campaign"

/** The span of standing in an election. Work under a leadership may go on for ever, and so is in no span of the library. */
const spanOf =
  (election: Election): Tracing.Options =>
  () => ({ attributes: isElection(election) ? named(partsOf(election).name) : {} })

const named = (name: string) => ({ "etcd.election.name": name })

const anElection: Checks.Check = { accepts: isElection, due: "an election, as EtcdElection.make gives it" }

const ofElection: Checks.Checks<Options> = {
  fence: Checks.flag,
  overrun: Checks.callback,
  retry: Checks.schedule
}

/**
 * An election of that name.
 *
 * A name is text without NUL, and without a slash at its beginning or end; its last part is neither `read` nor `write`. What
 * makes no sense is said when somebody is to stand in it, or look (`InvalidArgument`). Elections `a` and `a/b` have nothing
 * to do with each other.
 *
 * @example
 * ```ts
 * import { EtcdElection } from "effect-etcd/coordination"
 *
 * const scheduler = EtcdElection.make("scheduler")
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (name: string, options?: Options | undefined): Election => {
  const problem =
    Checks.problemOfArgument("EtcdElection.make", "the name", Line.nameCheck, name) ??
    Checks.problemOf("EtcdElection.make", ofElection, options)
  const { fence = true, overrun, retry = defaultRetry } = problem === undefined ? (options ?? {}) : {}
  const parts: Parts = { name, fence, overrun, retry, problem }
  return { [TypeId]: parts as never, name }
}

/** What is wrong with an election. */
const problemOf = (who: string, election: Election): string | undefined =>
  Checks.problemOfArgument(who, "the election", anElection, election) ?? partsOf(election).problem

/** What is in an election, unless something is wrong with it. */
const checked = (who: string, election: Election): Effect.Effect<Parts, EtcdError.EtcdError> => {
  const problem = problemOf(who, election)
  return problem === undefined ? Effect.succeed(partsOf(election)) : Effect.fail(Checks.invalid(problem))
}

// -----------------------------------------------------------------------------
// Standing in them
// -----------------------------------------------------------------------------

const leadershipLost: Held_.Tell<EtcdLock.LockLost> = (entry, loss, overrunMillis) =>
  new EtcdLock.LockLost(Held_.lossOf("The leadership of", entry, loss, overrunMillis))

const leadershipOf = (entry: Line.Entry): Leadership => {
  const held = Held_.make(entry, leadershipLost)
  const lease = LeaseId(entry.incarnation.lease.id)
  const leadership: Leadership = {
    ...held,
    proclaim: (value) =>
      Checks.wrongArgument("Leadership.proclaim", "the value", Checks.value, value) ??
      Effect.asVoid(held.commit(EtcdTxn.put(held.key, value, { lease })))
  }
  return Json.showing(leadership, Held_.shown)
}

/** Own key and place are looked at together after waiting. */
const specOf = ({ name }: Parts, value: KeyRange.Bytes): Line.Spec => ({
  places: [{ name, kind: "own", rule: Line.first }],
  value: Keys.own(value),
  confirms: true
})

/** What is stood in, by a session; or what is wrong. */
const prepared = Effect.fnUntraced(function* (who: string, election: Election, value: KeyRange.Bytes) {
  const parts = yield* checked(who, election)
  const wrong = Checks.wrongArgument(who, "the value", Checks.value, value)
  if (wrong !== undefined) return yield* wrong
  const session = Session.of(yield* EtcdSession)
  yield* Held_.notAgain(who, "leadership", session, [parts.name])
  return { parts, session, spec: specOf(parts, value) }
})

/**
 * Stands in an election, waits until this program leads it, and leads until the scope closes, which resigns.
 *
 * What depends on it is not interrupted by itself when the leadership is lost: race with `lost`, or use
 * {@link whileElected}. Neither is there a fence but that of the transactions that `commit` sends, or that compare `fence`.
 * Closing the scope waits for two seconds at most until etcd has acknowledged that; otherwise the session goes on with it.
 *
 * While it waits, an outage of etcd is waited for, as long as the session is held. Where that, or the key, is lost, it
 * stands in line anew. To wait no longer than some time, use `Effect.timeout`; whoever is interrupted leaves no key.
 *
 * Fails with `InvalidArgument` where the election or the value makes no sense, or this fiber (or, within
 * {@link whileElected}, what it is a part of) leads it already; with `NoSpace` and `PermissionDenied`; and with the reasons
 * of a call when etcd cannot be reached.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdElection } from "effect-etcd/coordination"
 *
 * const scheduler = EtcdElection.make("scheduler")
 *
 * const lead = Effect.gen(function*() {
 *   const leadership = yield* EtcdElection.campaign(scheduler, "10.0.0.7")
 *   yield* leadership.proclaim("10.0.0.7, ready")
 *   const lost = yield* leadership.lost
 *   yield* Effect.log(lost.message)
 * }).pipe(Effect.scoped)
 * ```
 *
 * @category leading
 * @since 0.1.0
 */
export const campaign = (
  election: Election,
  value: KeyRange.Bytes
): Effect.Effect<Leadership, EtcdError.EtcdError, Scope.Scope | EtcdSession> =>
  Tracing.traced(
    Effect.gen(function* () {
      const { session, spec } = yield* prepared("EtcdElection.campaign", election, value)
      const entry = yield* Line.enter(session, spec, "waits")
      return leadershipOf(entry!)
    }),
    campaigning,
    spanOf(election)
  )

/** Stands in the election as long as it takes. */
const elected = ({ name, retry }: Parts, session: Session.Session, spec: Line.Spec, restore: Line.Restore) =>
  Tracing.traced(
    Outage.untilPast(
      session,
      retry,
      `etcd election ${JSON.stringify(name)} cannot be stood in at the moment`,
      Effect.map(Line.take(session, spec, "waits", restore), (entry) => entry!),
      restore
    ),
    campaigning,
    () => ({ attributes: named(name) })
  )

/** Runs an effect under an entry, and gives that back. */
const runUnder = <A, E, R>(
  entry: Line.Entry,
  { fence, overrun }: Parts,
  self: Effect.Effect<A, E, R>,
  restore: Line.Restore
) => {
  const leadership = leadershipOf(entry)
  const services = Context.add(EtcdLock.Held.context(leadership), Leadership, leadership)
  return Held_.during(entry, { fence, overrun, tell: leadershipLost }, services, self, restore)
}

const serve = <A, E, R>(
  who: string,
  self: Effect.Effect<A, E, R>,
  election: Election,
  value: KeyRange.Bytes
): Effect.Effect<A, E | EtcdError.EtcdError, Exclude<R, EtcdLock.Held | Elected> | EtcdSession> =>
  Effect.flatMap(prepared(who, election, value), ({ parts, session, spec }) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        while (true) {
          yield* restore(Effect.void)
          const entry = yield* elected(parts, session, spec, restore)
          const end = yield* runUnder(entry, parts, self, restore)
          if (!Hold.isByLoss(end)) return yield* end.exit
        }
      })
    )
  )

/**
 * Runs an effect while this program leads an election.
 *
 * It stands in the election, waits, and runs the effect when it leads. When the leadership is lost, the effect is
 * interrupted, and when it has ended this program stands in line again, with another incarnation of the session if need
 * be, and runs the effect the next time that it leads. Two runs never overlap, neither here nor, with what is said in
 * `EtcdLock`, anywhere else. If the effect ends otherwise than by that interruption, so does `whileElected`, with the same
 * result, and resigns; a finalizer that fails is such an end. So an effect that never ends by itself serves for as long as
 * the caller lets it, and a finite one is carried through once.
 *
 * It has `Leadership` and `EtcdLock.Held` as services, and all that it writes to this etcd is fenced (see `EtcdLock`).
 * That a write was refused by the fence, or by `proclaim` and `commit` with `LockLost`, is the loss, and no end of the
 * effect, unless it has made another failure of it.
 *
 * Outages of etcd are waited for, with the pauses of `retry`, and one warning in the log; full space as well. It fails with
 * an `EtcdError` where time mends nothing: `InvalidArgument` where the election or the value makes no sense, or it is led
 * already by what this is a part of; `PermissionDenied` and what else a user may not; a session that is closed; another
 * cluster.
 *
 * @example
 * ```ts
 * import { Effect, Schedule } from "effect"
 * import { EtcdKv } from "effect-etcd"
 * import { EtcdElection } from "effect-etcd/coordination"
 *
 * const scheduler = EtcdElection.make("scheduler")
 *
 * const tick = Effect.gen(function*() {
 *   const leadership = yield* EtcdElection.Leadership
 *   yield* EtcdKv.put("scheduler/last", `by ${leadership.token}`) // not at all, if another one leads
 * })
 *
 * const serve = tick.pipe(
 *   Effect.repeat(Schedule.spaced("1 minute")),
 *   EtcdElection.whileElected(scheduler, "10.0.0.7")
 * )
 * ```
 *
 * @category leading
 * @since 0.1.0
 */
export const whileElected: {
  (
    election: Election,
    value: KeyRange.Bytes
  ): <A, E, R>(
    self: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | EtcdError.EtcdError, Exclude<R, EtcdLock.Held | Elected> | EtcdSession>
  <A, E, R>(
    self: Effect.Effect<A, E, R>,
    election: Election,
    value: KeyRange.Bytes
  ): Effect.Effect<A, E | EtcdError.EtcdError, Exclude<R, EtcdLock.Held | Elected> | EtcdSession>
} = dual(3, <A, E, R>(self: Effect.Effect<A, E, R>, election: Election, value: KeyRange.Bytes) =>
  serve("EtcdElection.whileElected", self, election, value)
)

/** Between runs of a layer that has failed. */
const restarts: Schedule.Schedule<unknown> = Schedule.exponential("1 second").pipe(Schedule.jittered)

const longestRestart = 30_000

/** Runs something again and again, whatever it ends with, as long as there is a session to run it in. */
const again = Effect.fnUntraced(function* <E, R>(
  name: string,
  session: Session.Session,
  serving: Effect.Effect<never, E, R>
) {
  const time = yield* Time.Time
  const step = yield* Schedule.toStep(restarts)
  while (true) {
    const exit = yield* Effect.exit(serving)
    if (Exit.isFailure(exit)) {
      yield* Effect.logError(`what runs while elected has failed: ${JSON.stringify(name)}`, exit.cause)
    }
    if (session.isClosed) return
    const pause = (yield* Time.nextPause(time, step, undefined)) ?? longestRestart
    yield* Time.sleep(time, Math.min(pause, longestRestart))
  }
})

/**
 * A layer that builds another one whenever this program leads an election, and releases it when it does not any more, as
 * {@link whileElected} runs an effect. It is there at once, and stands in the election in the background until its scope
 * closes, or the session.
 *
 * What the inner layer provides is for the inner layer. Each time it is built anew, with all that it is made of, over
 * services that write through the fence. Where it fails, or etcd refuses this program as a candidate, the log has the
 * error, somebody else may lead, and it is tried again after a pause, from a second up to half a minute. Building the outer
 * layer fails with `InvalidArgument` where the election or the value makes no sense.
 *
 * @example
 * ```ts
 * import { Effect, Layer, Schedule } from "effect"
 * import { EtcdElection } from "effect-etcd/coordination"
 *
 * const cleaning = Effect.log("cleaning up").pipe(
 *   Effect.repeat(Schedule.spaced("1 minute")),
 *   Effect.forkScoped,
 *   Layer.effectDiscard
 * )
 *
 * const oneCleans = cleaning.pipe(EtcdElection.layerWhileElected(EtcdElection.make("cleaner"), "10.0.0.7"))
 * ```
 *
 * @category leading
 * @since 0.1.0
 */
export const layerWhileElected: {
  (
    election: Election,
    value: KeyRange.Bytes
  ): <A, E, R>(
    self: Layer.Layer<A, E, R>
  ) => Layer.Layer<never, EtcdError.EtcdError, Exclude<R, EtcdLock.Held | Elected> | EtcdSession>
  <A, E, R>(
    self: Layer.Layer<A, E, R>,
    election: Election,
    value: KeyRange.Bytes
  ): Layer.Layer<never, EtcdError.EtcdError, Exclude<R, EtcdLock.Held | Elected> | EtcdSession>
} = dual(3, <A, E, R>(self: Layer.Layer<A, E, R>, election: Election, value: KeyRange.Bytes) => {
  const who = "EtcdElection.layerWhileElected"
  const serving = serve(who, Layer.launch(Layer.fresh(self)), election, value)
  return Layer.effectDiscard(
    Effect.flatMap(prepared(who, election, value), ({ parts, session }) =>
      Effect.forkScoped(again(parts.name, session, serving))
    )
  )
})

// -----------------------------------------------------------------------------
// Looking
// -----------------------------------------------------------------------------

const leaderOf = ({ key, kv, lease, revision }: Line.Standing): Leader =>
  Json.answer({
    key,
    value: kv.value,
    valueString: kv.valueString,
    token: revision,
    revision: kv.modRevision,
    lease
  })

/** Who stands first leads, unless that is no candidate: where others share a lock of that name, nobody does. */
const leading = (first: Line.Standing | undefined): Option.Option<Leader> =>
  first?.kind === "own" ? Option.some(leaderOf(first)) : Option.none()

/**
 * Who leads an election now; `None` if nobody does. It is read from a majority of etcd's members, and says nothing of the
 * next moment. Fails as `EtcdKv.range` does.
 *
 * @example
 * ```ts
 * import { Effect, Option } from "effect"
 * import { EtcdElection } from "effect-etcd/coordination"
 *
 * const address = EtcdElection.leader(EtcdElection.make("scheduler")).pipe(
 *   Effect.map(Option.map(({ valueString }) => valueString))
 * )
 * ```
 *
 * @category observing
 * @since 0.1.0
 */
export const leader = (election: Election): Effect.Effect<Option.Option<Leader>, EtcdError.EtcdError, EtcdKv.EtcdKv> =>
  Tracing.traced(
    Effect.gen(function* () {
      const { name } = yield* checked("EtcdElection.leader", election)
      const range = Line.prefixOf(name)
      const { kvs } = yield* EtcdKv.range(range, { limit: 1, sortBy: "createRevision" })
      if (kvs[0] === undefined) return Option.none()
      const first = Line.standingOf(name, kvs[0])
      if (first !== undefined) return leading(first)
      // The oldest key below the prefix is nobody's place in this line.
      const all = yield* EtcdKv.range(range)
      return leading(Line.standings(name, all.kvs)[0])
    }),
    "EtcdElection.leader",
    spanOf(election)
  )

/** What is known of an election while its keys are watched. */
interface Known {
  readonly name: string
  /** Who stands in it, by their keys. */
  readonly standing: Map<string, Line.Standing>
  /** Who was told to lead last. Undefined: nothing was told yet. */
  readonly told: Option.Option<Leader> | undefined
}

const firstOf = (standing: Iterable<Line.Standing>): Line.Standing | undefined => {
  let first: Line.Standing | undefined
  for (const one of standing) if (first === undefined || one.revision < first.revision) first = one
  return first
}

const place = ({ name, standing }: Known, kv: EtcdResponse.KeyValue): void => {
  const one = Line.standingOf(name, kv)
  if (one === undefined) standing.delete(kv.keyString)
  else standing.set(one.key, one)
}

const takeIn = (known: Known, change: EtcdWatch.Change): void => {
  if (change._tag === "Snapshot") {
    known.standing.clear()
    for (const kv of change.kvs) place(known, kv)
  } else if (change._tag === "Revision") {
    for (const event of change.events) {
      if (event._tag === "Put") place(known, event.kv)
      else known.standing.delete(event.kv.keyString)
    }
  }
}

/** Where a store has gone back, another value may have the same revision. */
const isSame = Option.makeEquivalence<Leader>(
  (one, other) =>
    one.key === other.key &&
    one.token === other.token &&
    one.revision === other.revision &&
    (one.value === other.value || Keys.compare(one.value, other.value) === 0)
)

/** Takes in what has changed, and says who leads where that is news. */
const fold = (known: Known, change: EtcdWatch.Change): readonly [Known, ReadonlyArray<Option.Option<Leader>>] => {
  takeIn(known, change)
  const now = leading(firstOf(known.standing.values()))
  return known.told !== undefined && isSame(known.told, now) ? [known, []] : [{ ...known, told: now }, [now]]
}

/**
 * Who leads an election: first who does now, then every leader, every value that one proclaims, and `None` when there is
 * nobody. Nothing is told twice.
 *
 * All candidates are followed, in their order, so that it never names one that only waits, and leaves no leader out, however
 * short it led. It continues when etcd fails over. Where etcd no longer has what has happened meanwhile (a compaction, a
 * backup that was restored), it continues with the current leader. Otherwise it fails as `EtcdWatch.changes` does.
 *
 * @example
 * ```ts
 * import { Effect, Option, Stream } from "effect"
 * import { EtcdElection } from "effect-etcd/coordination"
 *
 * const tell = EtcdElection.changes(EtcdElection.make("scheduler")).pipe(
 *   Stream.runForEach(Option.match({
 *     onNone: () => Effect.log("nobody leads"),
 *     onSome: ({ valueString }) => Effect.log(`${valueString} leads`)
 *   }))
 * )
 * ```
 *
 * @category observing
 * @since 0.1.0
 */
export const changes = (
  election: Election
): Stream.Stream<Option.Option<Leader>, EtcdError.EtcdError, EtcdWatch.EtcdWatch> =>
  Stream.unwrap(
    Effect.map(checked("EtcdElection.changes", election), ({ name }) =>
      Stream.mapAccum(
        EtcdWatch.changes(Line.prefixOf(name), { snapshot: "first" }),
        (): Known => ({ name, standing: new Map(), told: undefined }),
        fold
      )
    )
  )
