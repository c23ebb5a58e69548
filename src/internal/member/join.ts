/**
 * How an instance without data comes to its place: it listens where its node will, so that the others see that it waits,
 * asks them, and does one thing after the other until it knows how to start.
 *
 * Whatever it is cut off in, the next try begins with what the cluster says: a member that was added and never started is
 * started, a dead one is removed, a learner that nobody starts is removed by who waits for its place.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type * as EtcdError from "../../EtcdError.ts"
import * as EtcdId from "../../EtcdId.ts"
import type * as EtcdMemberError from "../../EtcdMemberError.ts"
import type { Member } from "../../EtcdMembership.ts"
import * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Sockets from "../process/sockets.ts"
import type * as Time from "../time.ts"
import * as Answers from "./answers.ts"
import * as Consult from "./consult.ts"
import * as Data from "./data.ts"
import * as Decide from "./decide.ts"
import * as Http from "./http.ts"
import type { Source } from "./peers.ts"
import * as Place from "./place.ts"
import * as Replace from "./replace.ts"
import { type Declared, declaredBy, isSame, type Settings } from "./settings.ts"

/** As a member that was added to a cluster with these members, itself among them. */
export interface Joining {
  readonly _tag: "Join"
  readonly clusterId: bigint
  readonly member: Member
  readonly members: ReadonlyArray<Member>
}

/** How a node is started. */
export type Start =
  /** As one of the first set. */
  { readonly _tag: "Begin"; readonly urls: ReadonlyArray<string>; readonly clusterId: bigint } | Joining

export type Failure = EtcdMemberError.EtcdMemberError | EtcdProcessError.EtcdProcessError

/** Who is told what becomes of the try. */
export interface Listener {
  /** `details`: what of it may be different the next moment. */
  readonly waits: (what: string, details?: string) => Effect.Effect<void>
  readonly joins: (what: string) => Effect.Effect<void>
  /** It was added, and is to be taken back where it does not come to be started. */
  readonly isAdded: (start: Joining) => Effect.Effect<void>
  /** There is no place: meanwhile it is a client of those who have one. */
  readonly isClient: (view: Consult.View) => Effect.Effect<void>
  /** The cluster that it knows, if any: those whom it was told of may all have left since. */
  readonly known: () => Known | undefined
}

/** A cluster, and where clients reach it. */
export interface Known {
  readonly clusterId: bigint
  readonly clientUrls: ReadonlyArray<string>
}

/** What came of asking a cluster: how to start, or that it is to be asked again. */
type Consulted = Start | undefined

const again: Consulted = undefined

/** Between two tries: of who waits, and of who has what there is for it meanwhile, of which there may be many. */
const pauseMillis = 200
const clientPauseMillis = 1000

const inUse = (settings: Settings, { message }: NodeJS.ErrnoException): EtcdProcessError.EtcdProcessError =>
  EtcdProcessError.make(
    new EtcdProcessError.AddressInUse({
      message: `Something else already listens on ${settings.listenPeerUrls.join(", ")}, or this machine cannot (${message}): stop it, or give this instance another peerUrl`,
      address: settings.listenPeerUrls.join(", "),
      lastLines: [],
      exitCode: null,
      signal: null
    })
  )

/** The etcd of one who was killed may take a moment to go. */
const patience = Schedule.spaced("200 millis").pipe(Schedule.upTo({ duration: "10 seconds" }))

/** What was left behind of a socket is nobody's. */
const clear = ({ listenPeerUrls, runDirectory }: Settings) =>
  Sockets.clear(Sockets.namesIn(listenPeerUrls).map((name) => Sockets.pathOf(runDirectory ?? "", name)))

const listen = (
  settings: Settings,
  body: () => string
): Effect.Effect<void, Failure, Scope.Scope | FileSystem.FileSystem> =>
  Effect.forEach(settings.listenPeerUrls, (url) => Http.answer(settings, url, body), { discard: true }).pipe(
    Effect.mapError((error) => inUse(settings, error)),
    (listening) => Effect.andThen(clear(settings), listening),
    Effect.retry({ while: ({ reason }) => reason._tag === "AddressInUse", schedule: patience })
  )

/** For how many questions in a row somebody has to be silent, or to answer, until that is believed. */
const enoughToBelieve = 3

/** Whether a member is dead, which it is when it does not answer again and again. */
const isDead = (settings: Settings, member: Member): Effect.Effect<boolean> =>
  Effect.gen(function* () {
    let silent = 0
    let alive = 0
    while (silent < enoughToBelieve && alive < enoughToBelieve) {
      if (silent + alive > 0) yield* Effect.sleep("400 millis")
      if (yield* Consult.isThere(settings, member)) {
        alive++
        silent = 0
      } else {
        silent++
        alive = 0
      }
    }
    return silent >= enoughToBelieve
  })

const describe = ({ id, name, peerUrls }: Member): string =>
  `${name === "" ? "the member" : name} (${EtcdId.format(id)}, ${peerUrls.join(", ")})`

/** Since when a learner in the way has not answered. */
export interface Silence {
  readonly member: bigint
  readonly since: number
}

/** Nothing where there are data meanwhile. */
export const make = (
  settings: Settings,
  time: Time.Time,
  source: Source,
  listener: Listener
): Effect.Effect<Start | undefined, Failure, FileSystem.FileSystem | Path.Path> => {
  let silence: Silence | undefined
  let isClient = false
  const replace = Replace.make(settings, time)
  const since = time.now()
  const instance = globalThis.crypto.randomUUID()

  /** Removes a learner that has not been there for as long as a start may take. */
  const removeAbandoned = (cluster: Consult.Cluster, learner: Member) =>
    Effect.gen(function* () {
      if (yield* Consult.isThere(settings, learner)) {
        silence = undefined
        return
      }
      if (silence?.member !== learner.id) silence = { member: learner.id, since: time.now() }
      if (time.now() - silence.since < Duration.toMillis(settings.startTimeout)) return
      yield* Effect.logWarning(`etcd learner ${describe(learner)} is not there; removing it`)
      yield* cluster.membership.remove(learner.id, Consult.once)
      silence = undefined
    })

  /** Whoever is interrupted meanwhile has to know whether it was added. */
  const join = <E>({ clusterId }: Consult.View, adding: Effect.Effect<Pick<Joining, "member" | "members">, E>) =>
    adding.pipe(
      Effect.map(({ member, members }): Joining => ({ _tag: "Join", clusterId, member, members })),
      Effect.tap(listener.isAdded),
      Effect.uninterruptible
    )

  const take = (
    cluster: Consult.Cluster,
    declared: Declared,
    view: Consult.View,
    which: string
  ): Effect.Effect<Consulted, EtcdError.EtcdError | Failure> =>
    Effect.gen(function* () {
      const place = Place.find(settings, declared, view)
      isClient = place._tag === "Full"
      switch (place._tag) {
        case "First":
          return { _tag: "Begin", urls: place.urls, clusterId: view.clusterId }
        case "Added":
          return yield* join(view, Effect.succeed({ member: place.member, members: view.members }))
        case "Predecessor": {
          yield* listener.joins(`the place of ${describe(place.member)}, if it is dead`)
          if (!(yield* isDead(settings, place.member))) {
            return yield* Decide.nameInUse(settings, place.member.peerUrls)
          }
          yield* Effect.logWarning(`etcd member ${describe(place.member)} is dead; removing it`)
          yield* cluster.membership.remove(place.member.id, Consult.once)
          return again
        }
        case "Free":
          return yield* join(
            view,
            cluster.membership.add([settings.peerUrl], { ...Consult.once, isLearner: true })
          ).pipe(
            // etcd takes nobody as long as a voter is down, or has just come.
            Effect.catchReason("EtcdError", "Unhealthy", () =>
              Effect.gen(function* () {
                isClient = (yield* replace(cluster, view.members)) && !place.isToVote
                yield* isClient
                  ? listener.isClient(view)
                  : listener.waits(
                      `the members of ${which} to be connected for 5 seconds, before which etcd takes none`
                    )
                return again
              })
            )
          )
        case "Turn":
          yield* listener.waits(`its turn: ${describe(place.learner)} is a learner, and there can be one at a time`)
          yield* removeAbandoned(cluster, place.learner)
          return again
        case "Full":
          yield* listener.isClient(view)
          if (place.learner !== undefined) yield* removeAbandoned(cluster, place.learner)
          return again
      }
    })

  const consult = (declared: Declared, which: string, { clientUrls, clusterId }: Known) => {
    const endpoints = Consult.endpointsOf(settings, [{ clientUrls }])
    if (endpoints.length === 0) {
      const open = clientUrls.filter((url) => /^http:/i.test(url))
      const left = open.length === 0 ? undefined : `${open.join(", ")}: not with TLS, as this client asks for`
      return Effect.as(listener.waits(`a client URL of ${which} that can be reached`, left), again)
    }
    return Effect.gen(function* () {
      const cluster = yield* Consult.connect(settings, endpoints, clusterId)
      const view = yield* Consult.view(cluster)
      const strange = Place.strange(settings, declared, view)
      // Of one that it has been in it knows which it is, wherever all have moved since.
      if (strange !== undefined && !(yield* Data.isNoted(settings, view.clusterId))) return yield* strange
      return yield* take(cluster, declared, view, which)
    }).pipe(
      Effect.scoped,
      Effect.catchTag("EtcdError", (error) => Effect.as(listener.waits(which, error.message), again))
    )
  }

  const declare = (urls: ReadonlyArray<string>) => {
    const declared = declaredBy(settings, urls)
    return declared.clusterId === undefined
      ? Effect.succeed(declared)
      : Effect.map(Data.left(settings, declared.clusterId), (left): Declared => ({ ...declared, left }))
  }

  const step = (declared: Declared): Effect.Effect<Consulted, Failure, FileSystem.FileSystem | Path.Path> =>
    Effect.gen(function* () {
      const others = declared.urls.filter((url) => !isSame(url, settings.peerUrl))
      const known = listener.known()
      const answers = [...(yield* Answers.askAll(settings, others))].filter(([, answer]) =>
        answer._tag === "Waiting"
          ? answer.instance !== instance
          : answer._tag === "Nobody" || known === undefined || answer.clusterId === known.clusterId
      )
      const decision = Decide.decide(settings, declared, new Map(answers), since)
      const other = "clusterId" in decision ? Decide.otherThanNamed(settings, decision.clusterId) : undefined
      if (other !== undefined) return yield* other
      if (known !== undefined && (decision._tag === "Begin" || decision._tag === "Wait")) {
        return yield* consult(declared, `the cluster at ${known.clientUrls.join(", ")}`, known)
      }
      switch (decision._tag) {
        case "Begin":
          return decision
        case "Consult":
          return yield* consult(declared, `the cluster ${EtcdId.format(decision.clusterId)}`, decision)
        case "Wait":
          yield* listener.waits(decision.what, decision.details)
          return again
        case "Refuse":
          return yield* decision.error
      }
    })

  return Effect.gen(function* () {
    let declared: Declared = { urls: [], hasOwn: false, clusterId: undefined, left: undefined }
    const { name } = settings
    yield* listen(settings, () =>
      Answers.presence({
        instance,
        name,
        clusterId: declared.left === undefined ? declared.clusterId : undefined,
        waitedMillis: time.now() - since
      })
    )
    // Not before nobody else can be here: the etcd of one who was killed may have made its data until then.
    if (Option.isSome(yield* Data.read(settings))) return undefined
    yield* Data.putAside(settings)
    while (true) {
      const isKnown = listener.known() !== undefined
      // Who knows the cluster goes on without a word of the program's.
      const told = isKnown
        ? Option.getOrElse(yield* Effect.timeoutOption(source, "2 seconds"), () => Result.fail("no word"))
        : yield* source
      if (Result.isSuccess(told)) declared = yield* declare(told.success)
      if (Result.isSuccess(told) || isKnown) {
        const start = yield* step(declared)
        if (start !== undefined) return start
      } else {
        yield* listener.waits("the peers", told.failure)
      }
      // Not all who wait for the same thing ask at the same moment.
      yield* Effect.sleep((isClient ? clientPauseMillis : pauseMillis) * (0.75 + Math.random() / 2))
    }
  }).pipe(Effect.scoped)
}
