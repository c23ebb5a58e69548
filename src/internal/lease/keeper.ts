/**
 * Keeps leases alive: all of a client's on one stream, which is opened when the first of them is due, and opened again,
 * elsewhere if need be, whenever it breaks, falls silent, or its server is about to go.
 *
 * One fiber follows the time: it says which leases are due (a third of their time to live after the last keep-alive
 * that was answered), which are lost (their time to live has passed since that keep-alive was sent), and when an answer
 * is overdue. The other fiber holds the stream. They share the sets below and nothing else.
 *
 * All of it runs on real time. Time in which this process stood still is nobody else's fault: a timer that is overdue
 * fires before the sockets are read, so whatever would blame a server, or give up a lease, reads first what has come.
 * And nobody relies on the timer: who looks at a lease compares its time with now.
 *
 * etcd answers the keep-alives of a stream one after the other and repeats the id, and a time to live of 0 for a lease
 * that it does not have (`LeaseServer.leaseKeepAlive` in etcd's `server/etcdserver/api/v3rpc/lease.go`). So an answer
 * that passes over an earlier keep-alive shows that this one is lost. Only etcd's gRPC proxy answers in any order, and
 * says two things at once; therefore an answer counts from the earliest of the lease's keep-alives that it can be for.
 *
 * @internal
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as EtcdClient from "../../EtcdClient.ts"
import type { EtcdError } from "../../EtcdError.ts"
import { decide } from "../client/retryRules.ts"
import { Lease as LeaseRpc } from "../proto/rpc_pb.ts"
import * as Time from "../time.ts"
import * as Tracing from "../tracing.ts"
import { Agenda } from "./agenda.ts"
import * as Entry from "./entry.ts"
import { isOver, type Loss, never, quantum } from "./entry.ts"
import * as Requests from "./requests.ts"

export interface Keeper {
  /** Keeps a lease that was granted here, or renewed, by a request sent at `renewedAt`. */
  readonly keep: (id: bigint, ttlSeconds: bigint, renewedAt: number, origin: Entry.Origin) => Entry.Entry
  /** The lease that has this id and is kept. */
  readonly find: (id: bigint) => Entry.Entry | undefined
  /** Why the lease is lost, if it is. Who asks first after its time has passed settles it. */
  readonly lossOf: (entry: Entry.Entry) => Effect.Effect<Loss | undefined>
  /** Lets be read what has come, before somebody says that there was no answer. */
  readonly read: (entry: Entry.Entry) => Effect.Effect<void>
  /** Sends a keep-alive now, unless one is under way. */
  readonly hasten: (entry: Entry.Entry) => void
  /** One holder less: the last one ends the keeping. */
  readonly release: (entry: Entry.Entry) => void
  /** The lease is no more. Nothing is changed where that was known already. */
  readonly settle: (entry: Entry.Entry, loss: Loss) => void
  /** Keeps nothing any more, and answers with what was granted here and is held still. */
  readonly close: () => ReadonlyArray<Entry.Entry>
}

const longestPause = 500

/** Times that are so close are looked at together. */
const grain = quantum / 2

/** A timer that fires so much later was kept from it. */
const standstill = 100

/** Why a stream is given up that has not failed. */
type Stop = "idle" | "silent" | "passed over"

/** The stream, from the attempt to open it to its end. */
interface KeepAliveStream {
  readonly begunAt: number
  /** When the last answer came, whichever lease it was for. */
  heardAt: number
  /** For how long this process stood still since. */
  excused: number
  endpoint: string | undefined
  /** The leases that have keep-alives without an answer, in the order in which these were sent last. */
  readonly asked: Map<bigint, Entry.Entry>
  /** Those of them that an answer has passed over. */
  readonly passedOver: Set<Entry.Entry>
  /** Whether answers come in the order of the keep-alives. */
  isOrdered: boolean
  /** Whether a lease had two keep-alives without an answer, so that `asked` does not tell whose turn it is. */
  hasRepeated: boolean
  readonly stop: Deferred.Deferred<Stop>
}

interface State {
  readonly client: EtcdClient.Client
  /** Logs something. */
  readonly say: (saying: Effect.Effect<void>) => Effect.Effect<void>
  readonly time: Time.Time
  readonly entries: Map<bigint, Entry.Entry>
  readonly agenda: Agenda
  /** Leases that a keep-alive is to be sent for. */
  readonly due: Set<bigint>
  /** Open while `due` has something. */
  readonly hasDue: Latch.Latch
  /** Opened to have leases looked at again. */
  readonly changed: Latch.Latch
  /** When they are looked at again anyhow. */
  wakeAt: number
  stream: KeepAliveStream | undefined
  /** Where to open the stream, when where it was is no good. */
  next: string | undefined
  /** How many streams failed since a server was heard. */
  failures: number
  lastFailure: EtcdError | undefined
  /** How many answers came. */
  answers: number
}

/** Sees to it that a lease is looked at then, if not before. */
const checkBy = (state: State, entry: Entry.Entry, at: number): void => {
  if (at >= entry.checkAt) return
  state.agenda.put(entry, at)
  if (at < state.wakeAt) state.changed.openUnsafe()
}

const stop = (stream: KeepAliveStream, why: Stop): void => {
  Deferred.doneUnsafe(stream.stop, Exit.succeed(why))
}

const settle = (state: State, entry: Entry.Entry, loss: Loss): void => {
  state.entries.delete(entry.id)
  state.agenda.remove(entry)
  state.due.delete(entry.id)
  if (state.entries.size === 0 && state.stream !== undefined) stop(state.stream, "idle")
  entry.loss = loss
  Deferred.doneUnsafe(entry.lost, Exit.succeed(loss))
}

const notFound: Loss = { reason: "not-found", cause: undefined }

const notRenewed = (state: State): Loss => ({ reason: "not-renewed", cause: state.lastFailure })

const markDue = (state: State, entry: Entry.Entry, now: number): void => {
  entry.dueAt = never
  entry.waitingSince = now
  state.due.add(entry.id)
  state.hasDue.openUnsafe()
}

/**
 * When it is suspicious that there is no answer for a lease: after a third of its time to live, but no later than when
 * half of the time is over that is left to try elsewhere.
 */
const suspiciousAt = (stream: KeepAliveStream | undefined, entry: Entry.Entry): number => {
  if (stream === undefined || entry.waitingSince === never) return never
  const since = Math.max(stream.begunAt, entry.waitingSince)
  return since + Math.max(quantum, Math.min(entry.ttl / 3, (entry.expiresAt - since) / 2))
}

/** Half of what is left is not spent on the time for which this process stood still. */
const isSuspicious = (stream: KeepAliveStream, entry: Entry.Entry, now: number): boolean => {
  const at = suspiciousAt(stream, entry)
  return at + Math.min(stream.excused, Math.max(0, entry.expiresAt - at) / 2) <= now
}

const canRepeat = (entry: Entry.Entry): boolean => entry.sentAt !== never && entry.sentAgainAt === never

/**
 * There is no answer for a lease. If others got theirs meanwhile, the connection is good, and the keep-alive is sent
 * once more on it; otherwise the stream had better be elsewhere.
 */
const doubt = (state: State, stream: KeepAliveStream, entry: Entry.Entry, now: number): void => {
  const hearsOthers = stream.heardAt > Math.max(stream.begunAt, entry.waitingSince)
  if (hearsOthers && canRepeat(entry)) markDue(state, entry, now)
  else stop(stream, hearsOthers ? "passed over" : "silent")
}

/**
 * Does what the time says about one lease. What would blame somebody is done only if all is read that has come; the
 * answer says whether there is such a thing.
 */
const check = (state: State, entry: Entry.Entry, now: number, hasRead: boolean): boolean => {
  if (entry.loss !== undefined) return false
  const { stream } = state
  if (isOver(entry, now)) {
    if (hasRead) settle(state, entry, notRenewed(state))
    return true
  }
  if (entry.dueAt <= now + quantum) markDue(state, entry, now)
  const isGrave = stream !== undefined && isSuspicious(stream, entry, now)
  if (isGrave && !hasRead) return true
  if (isGrave) doubt(state, stream, entry, now)
  const next = Math.min(entry.expiresAt, entry.dueAt) - quantum
  checkBy(state, entry, Math.max(Math.min(next, suspiciousAt(stream, entry)), now + grain))
  return isGrave
}

/** Looks at all leases whose time it is, and answers with those about which there is something to be decided. */
const look = (state: State): ReadonlyArray<Entry.Entry> => {
  const now = state.time.now()
  const grave: Array<Entry.Entry> = []
  for (let entry = state.agenda.take(now); entry !== undefined; entry = state.agenda.take(now)) {
    entry.checkAt = never
    if (check(state, entry, now, false)) grave.push(entry)
  }
  return grave
}

/** How often the event loop goes round to read what has come, and may go round while answers are still coming in. */
const fewestTurns = 3
const mostTurns = 100

/**
 * Lets the event loop read what has come, until whole turns have brought nothing more. While the time of a lease is not
 * over yet, nothing is read beyond it, or the lease would be held for longer.
 */
const afterReading = (state: State, entries: ReadonlyArray<Entry.Entry>): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    const { time } = state
    const begun = time.now()
    const until = entries.reduce(
      (first, { expiresAt }) => (expiresAt > begun ? Math.min(first, expiresAt) : first),
      never
    )
    let { answers } = state
    let turns = 0
    let quiet = 0
    const turn = (): void => {
      turns++
      quiet = state.answers === answers ? quiet + 1 : 0
      answers = state.answers
      // The first turn may have begun when the sockets of this round had been looked at already.
      const isEnough = turns > fewestTurns && time.now() >= until - grain
      if (quiet >= fewestTurns || isEnough || turns > mostTurns) resume(Effect.void)
      else waiting = setImmediate(turn)
    }
    let waiting = setImmediate(turn)
    return Effect.sync(() => clearImmediate(waiting))
  })

const hasten = (state: State, entry: Entry.Entry): void => {
  if (entry.loss !== undefined || entry.waitingSince !== never) return
  markDue(state, entry, state.time.now())
  checkBy(state, entry, suspiciousAt(state.stream, entry))
}

const lossOf = (state: State, entry: Entry.Entry): Effect.Effect<Loss | undefined> =>
  Effect.suspend(() => {
    if (entry.loss !== undefined || !isOver(entry, state.time.now())) return Effect.succeed(entry.loss)
    return Effect.map(afterReading(state, [entry]), () => {
      if (entry.loss === undefined && isOver(entry, state.time.now())) settle(state, entry, notRenewed(state))
      return entry.loss
    })
  })

const excuseStandstill = ({ stream, time, wakeAt }: State): void => {
  const late = time.now() - wakeAt
  if (stream !== undefined && late > standstill) stream.excused += late
}

const followTime = (state: State): Effect.Effect<never> =>
  Effect.gen(function* () {
    const { agenda, changed, time } = state
    changed.closeUnsafe()
    excuseStandstill(state)
    const grave = look(state)
    if (grave.length > 0) {
      yield* afterReading(state, grave)
      for (const entry of grave) check(state, entry, time.now(), true)
    }
    const now = time.now()
    state.wakeAt = Math.max(agenda.nextAt, now + grain)
    const woken = state.wakeAt === never ? Effect.never : Time.sleep(time, state.wakeAt - now)
    yield* Effect.raceFirst(woken, changed.await)
  }).pipe(Effect.forever)

type Duplex = EtcdClient.Duplex<
  (typeof LeaseRpc.method.leaseKeepAlive)["input"],
  (typeof LeaseRpc.method.leaseKeepAlive)["output"]
>

/** Remembers that a keep-alive goes out, unless its answer could not be told from others. */
const note = (stream: KeepAliveStream, entry: Entry.Entry, now: number): boolean => {
  const asked = stream.asked.get(entry.id)
  // The answers to come are for a lease that had the same id.
  if (asked !== undefined && asked !== entry) return false
  if (entry.sentAt === never) {
    entry.sentAt = now
  } else if (entry.sentAgainAt === never) {
    entry.sentAgainAt = now
    stream.hasRepeated = true
  } else {
    return false
  }
  stream.asked.delete(entry.id)
  stream.asked.set(entry.id, entry)
  return true
}

/** Sends what is due, for ever. */
const sendDue = (state: State, stream: KeepAliveStream, duplex: Duplex): Effect.Effect<never, EtcdError> =>
  Effect.gen(function* () {
    yield* state.hasDue.await
    for (const id of state.due) {
      state.due.delete(id)
      const entry = state.entries.get(id)
      if (entry !== undefined && note(stream, entry, state.time.now())) yield* duplex.send({ ID: id })
    }
    if (state.due.size === 0) state.hasDue.closeUnsafe()
  }).pipe(Effect.forever)

/** What was sent before is lost, where answers come in order: it is sent again, behind all that is under way. */
const passOver = (state: State, stream: KeepAliveStream, answered: Entry.Entry, now: number): void => {
  for (const entry of stream.asked.values()) {
    if (entry === answered) return
    stream.asked.delete(entry.id)
    stream.asked.set(entry.id, entry)
    stream.passedOver.add(entry)
    if (entry.loss === undefined && entry.waitingSince !== never && canRepeat(entry)) markDue(state, entry, now)
  }
}

/** Takes the answer for the earliest keep-alive that it can be for, and says when that was sent. */
const take = (stream: KeepAliveStream, entry: Entry.Entry): number => {
  const { sentAt } = entry
  entry.sentAt = entry.sentAgainAt
  entry.sentAgainAt = never
  if (entry.sentAt === never) {
    stream.asked.delete(entry.id)
    // It was passed over, and yet nothing was lost.
    if (stream.passedOver.delete(entry)) stream.isOrdered = false
  }
  return sentAt
}

/** Sends for a lease that waits, or for one of the same id that waited for the answers to the one before it. */
const sendAgain = (state: State, id: bigint): void => {
  const entry = state.entries.get(id)
  if (entry === undefined || entry.waitingSince === never) return
  state.due.add(id)
  state.hasDue.openUnsafe()
}

const hear = (
  state: State,
  stream: KeepAliveStream,
  answer: { readonly ID: bigint; readonly TTL: bigint }
): Effect.Effect<void> =>
  Effect.sync(() => {
    const now = state.time.now()
    stream.heardAt = now
    stream.excused = 0
    state.answers++
    state.failures = 0
    state.lastFailure = undefined
    const entry = stream.asked.get(answer.ID)
    if (entry === undefined) return
    if (stream.isOrdered && entry.sentAgainAt === never) passOver(state, stream, entry, now)
    const sentAt = take(stream, entry)
    if (entry.loss !== undefined) return sendAgain(state, entry.id)
    if (answer.TTL <= 0n) return settle(state, entry, notFound)
    Entry.renew(entry, answer.TTL, sentAt)
    state.due.delete(entry.id)
    checkBy(state, entry, entry.dueAt - quantum)
  })

/** Opens the stream, elsewhere if it was no good where it was, and uses it until it ends or had better move. */
const useStream = (state: State, stream: KeepAliveStream): Effect.Effect<void, EtcdError> =>
  Effect.scoped(
    Effect.gen(function* () {
      const endpoint = state.next
      stream.endpoint = endpoint
      const duplex = yield* state.client.bidirectional(
        LeaseRpc.method.leaseKeepAlive,
        endpoint === undefined ? {} : { endpoint, retry: Requests.once }
      )
      stream.endpoint = duplex.endpoint
      yield* Effect.raceAllFirst([
        sendDue(state, stream, duplex),
        Stream.runForEach(duplex.messages, (answer) => hear(state, stream, answer)),
        duplex.draining
      ])
    })
  )

/**
 * etcd refuses the whole stream for the sake of one lease whose keys the user may not write: the one whose turn it is.
 * Where the order does not tell which one that is, the next stream will.
 */
const dropRefused = (state: State, stream: KeepAliveStream, failure: EtcdError): void => {
  if (failure.reason._tag !== "PermissionDenied" || stream.hasRepeated || !stream.isOrdered) return
  for (const entry of stream.asked.values()) {
    if (entry.loss === undefined) settle(state, entry, { reason: "refused", cause: failure })
    return
  }
}

/** What was sent and not answered is due again. */
const forget = (state: State, stream: KeepAliveStream): void => {
  for (const entry of stream.asked.values()) {
    entry.sentAt = never
    entry.sentAgainAt = never
    sendAgain(state, entry.id)
  }
}

/** Nothing after the first failure, then ever more up to half a second, until a server is heard again. */
const pauseAfterFailure = (state: State): Effect.Effect<void> =>
  state.failures <= 1 ? Effect.void : Time.sleep(state.time, Math.min(25 * 2 ** (state.failures - 1), longestPause))

/** The stream ended: with a failure, or by the server's will. */
const ended = Effect.fnUntraced(function* (state: State, stream: KeepAliveStream, exit: Exit.Exit<void, EtcdError>) {
  const failure = Exit.isFailure(exit) ? Option.getOrUndefined(Cause.findErrorOption(exit.cause)) : undefined
  // The client leaves an endpoint that it blames by itself, unless it is told which to take.
  const isLeft = state.next === undefined && (failure === undefined || decide(failure.reason) !== "fail")
  const wasHeard = stream.heardAt >= stream.begunAt
  state.next = wasHeard || isLeft ? undefined : yield* Requests.endpointAfter(state.client, stream.endpoint)
  state.failures++
  if (failure !== undefined) {
    state.lastFailure = failure
    dropRefused(state, stream, failure)
  }
  if (Exit.isFailure(exit)) {
    yield* state.say(
      Effect.annotateLogs(Effect.logDebug("etcd lease stream failed", failure?.message ?? exit.cause), {
        ...(stream.endpoint === undefined ? {} : { endpoint: stream.endpoint }),
        ...(failure === undefined ? {} : { "error.type": failure.reason._tag })
      })
    )
  }
})

const stopped = Effect.fnUntraced(function* (state: State, stream: KeepAliveStream, why: Stop) {
  state.next = why === "idle" ? undefined : yield* Requests.endpointAfter(state.client, stream.endpoint)
  if (why !== "idle")
    yield* state.say(
      Effect.annotateLogs(
        Effect.logDebug(`etcd lease stream is ${why}`, stream.endpoint ?? "", state.next ?? ""),
        stream.endpoint === undefined ? {} : { endpoint: stream.endpoint }
      )
    )
})

const makeStream = (state: State): KeepAliveStream => ({
  begunAt: state.time.now(),
  heardAt: Number.NEGATIVE_INFINITY,
  excused: 0,
  endpoint: undefined,
  asked: new Map(),
  passedOver: new Set(),
  isOrdered: true,
  hasRepeated: false,
  stop: Deferred.makeUnsafe()
})

/** Has a stream whenever there is something to send. Not even a defect of the client ends it. */
const holdStream = (state: State): Effect.Effect<never> =>
  Effect.gen(function* () {
    yield* state.hasDue.await
    if (state.due.size === 0) {
      state.hasDue.closeUnsafe()
      return
    }
    const stream = makeStream(state)
    state.stream = stream
    for (const id of state.due) {
      const entry = state.entries.get(id)
      if (entry !== undefined) checkBy(state, entry, suspiciousAt(stream, entry))
    }
    yield* Effect.raceFirst(
      Effect.flatMap(Effect.exit(useStream(state, stream)), (exit) => ended(state, stream, exit)),
      Effect.flatMap(Deferred.await(stream.stop), (why) => stopped(state, stream, why))
    )
    state.stream = undefined
    forget(state, stream)
    yield* pauseAfterFailure(state)
  }).pipe(Effect.forever)

const keep = (state: State, id: bigint, ttlSeconds: bigint, renewedAt: number, origin: Entry.Origin): Entry.Entry => {
  const known = state.entries.get(id)
  const isNew = origin !== "found"
  // What was granted now is another lease than the one that had the id.
  if (known !== undefined && isNew) settle(state, known, notFound)
  const entry = (isNew ? undefined : known) ?? Entry.make(id, origin)
  state.entries.set(id, entry)
  entry.holders++
  const ttl = Number(ttlSeconds) * 1000
  if (ttl < entry.ttl || renewedAt + ttl > entry.expiresAt) {
    Entry.renew(entry, ttlSeconds, renewedAt)
    state.due.delete(id)
    checkBy(state, entry, entry.dueAt - quantum)
  }
  return entry
}

const closed: Loss = { reason: "closed", cause: undefined }

const release = (state: State, entry: Entry.Entry): void => {
  entry.holders--
  if (entry.holders === 0 && entry.loss === undefined) settle(state, entry, closed)
}

const close = (state: State): ReadonlyArray<Entry.Entry> => {
  const entries = [...state.entries.values()]
  const now = state.time.now()
  for (const entry of entries) settle(state, entry, closed)
  return entries.filter((entry) => entry.origin !== "found" && !isOver(entry, now))
}

/** A keeper that works as long as the scope is open. */
export const make = (client: EtcdClient.Client, say: State["say"]): Effect.Effect<Keeper, never, Scope.Scope> =>
  Effect.gen(function* () {
    const state: State = {
      client,
      say,
      time: yield* Time.Time,
      entries: new Map(),
      agenda: new Agenda(),
      due: new Set(),
      hasDue: yield* Latch.make(),
      changed: yield* Latch.make(),
      wakeAt: never,
      stream: undefined,
      next: undefined,
      failures: 0,
      lastFailure: undefined,
      answers: 0
    }
    yield* Effect.forkScoped(Tracing.inBackground(followTime(state)))
    yield* Effect.forkScoped(Tracing.inBackground(holdStream(state)))
    return {
      keep: (id, ttlSeconds, renewedAt, origin) => keep(state, id, ttlSeconds, renewedAt, origin),
      find: (id) => state.entries.get(id),
      lossOf: (entry) => lossOf(state, entry),
      read: (entry) => afterReading(state, [entry]),
      hasten: (entry) => hasten(state, entry),
      release: (entry) => release(state, entry),
      settle: (entry, loss) => {
        if (entry.loss === undefined) settle(state, entry, loss)
      },
      close: () => close(state)
    }
  })
