/**
 * Keeps leases alive: all of a client's on one stream, which is opened when the first of them is due, and opened again,
 * elsewhere if need be, whenever it breaks or falls silent.
 *
 * One fiber watches the time: it says which leases are due (a third of their time to live after the last keep-alive
 * that was answered), which are lost (their time to live has passed since that keep-alive was sent), and when the
 * server has been silent for too long. The other fiber holds the stream. They share the sets below and nothing else.
 *
 * etcd answers the keep-alives of a stream one after the other and repeats the id, and a time to live of 0 for a lease
 * that it does not have (`LeaseServer.leaseKeepAlive` in etcd's `server/etcdserver/api/v3rpc/lease.go`).
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as EtcdClient from "../../EtcdClient.ts"
import type { EtcdError } from "../../EtcdError.ts"
import { Lease as LeaseRpc } from "../proto/rpc_pb.ts"

/** Why a lease is held no longer. */
export interface Loss {
  readonly reason: "not-found" | "revoked" | "not-renewed" | "refused" | "closed"
  /** What failed last on the way to the server, if anything did since it was heard. */
  readonly cause: EtcdError | undefined
}

/** A lease that is kept alive. Times are milliseconds of the keeper's clock. */
export interface Entry {
  readonly id: bigint
  readonly lost: Deferred.Deferred<Loss>
  loss: Loss | undefined
  ttl: number
  /** When the server may let the lease expire, unless it is renewed before. */
  expiresAt: number
  /** When the next keep-alive is due; infinity while one is waiting to be sent or answered. */
  dueAt: number
  /** Since when a keep-alive is waiting to be sent or answered; infinity when none is. */
  waitingSince: number
  /** How many want it kept. */
  holders: number
}

export interface Keeper {
  /** The keeper's monotonic time, in milliseconds. */
  readonly now: () => number
  /** Keeps a lease that was granted or renewed by a request sent at `renewedAt`. */
  readonly keep: (id: bigint, ttlSeconds: bigint, renewedAt: number) => Entry
  /** One holder less: the last one ends the keeping. */
  readonly release: (entry: Entry) => void
  /** The lease is no more. */
  readonly settle: (id: bigint, loss: Loss) => void
}

/** What happens within this time happens at once: leases are sent a bit early and given up a bit early, never late. */
const quantum = 50

const longestPause = 500

/** The stream, from the attempt to open it to its end. */
interface Session {
  /** The last sign of life: the beginning, then each answer. */
  heardAt: number
  /** Whether there was an answer. */
  answered: boolean
  endpoint: string | undefined
  /** When the keep-alives that are not answered yet were sent, in the order of sending. */
  readonly outstanding: Map<bigint, number>
  readonly stop: Deferred.Deferred<"idle" | "silent">
}

interface State {
  readonly client: EtcdClient.Client
  readonly now: () => number
  readonly entries: Map<bigint, Entry>
  /** Leases that a keep-alive is to be sent for. */
  readonly due: Set<bigint>
  /** Open while `due` has something. */
  readonly hasDue: Latch.Latch
  /** Opened to make the watch look again. */
  readonly changed: Latch.Latch
  /** When the watch looks again by itself. */
  wakeAt: number
  session: Session | undefined
  /** Where to open the stream, when it has been silent where it was. */
  next: string | undefined
  /** How many streams failed since a server was heard. */
  failures: number
  lastFailure: EtcdError | undefined
}

const wake = (state: State, at: number): void => {
  if (at < state.wakeAt) state.changed.openUnsafe()
}

const remove = (state: State, entry: Entry): void => {
  state.entries.delete(entry.id)
  state.due.delete(entry.id)
  if (state.entries.size === 0 && state.session !== undefined) {
    Deferred.doneUnsafe(state.session.stop, Exit.succeed("idle" as const))
  }
}

const settle = (state: State, entry: Entry, loss: Loss): void => {
  remove(state, entry)
  entry.loss = loss
  Deferred.doneUnsafe(entry.lost, Exit.succeed(loss))
}

const notRenewed = (state: State): Loss => ({ reason: "not-renewed", cause: state.lastFailure })

const renew = (entry: Entry, ttlSeconds: bigint, sentAt: number): void => {
  entry.ttl = Number(ttlSeconds) * 1000
  entry.expiresAt = sentAt + entry.ttl
  entry.dueAt = sentAt + entry.ttl / 3
  entry.waitingSince = Number.POSITIVE_INFINITY
}

const markDue = (state: State, entry: Entry, now: number): void => {
  entry.dueAt = Number.POSITIVE_INFINITY
  entry.waitingSince = now
  state.due.add(entry.id)
  state.hasDue.openUnsafe()
}

/** When the silence of the server becomes suspicious, for the sake of one lease. */
const suspiciousAt = (session: Session, entry: Entry): number =>
  Math.max(session.heardAt, entry.waitingSince) + entry.ttl / 3

/** Does what the time says, and answers when to look again. */
const look = (state: State): number => {
  const now = state.now()
  let next = Number.POSITIVE_INFINITY
  let silent = false
  for (const entry of state.entries.values()) {
    if (entry.expiresAt <= now + quantum) {
      settle(state, entry, notRenewed(state))
      continue
    }
    if (entry.dueAt <= now + quantum) markDue(state, entry, now)
    const suspicious = state.session === undefined ? Number.POSITIVE_INFINITY : suspiciousAt(state.session, entry)
    if (suspicious <= now) silent = true
    next = Math.min(next, entry.expiresAt - quantum, entry.dueAt - quantum, suspicious)
  }
  if (silent && state.session !== undefined) {
    Deferred.doneUnsafe(state.session.stop, Exit.succeed("silent" as const))
  }
  return Math.max(next, now + quantum)
}

const watchTime = (state: State): Effect.Effect<never> =>
  Effect.suspend(() => {
    state.changed.closeUnsafe()
    state.wakeAt = look(state)
    return state.wakeAt === Number.POSITIVE_INFINITY
      ? state.changed.await
      : Effect.raceFirst(Effect.sleep(state.wakeAt - state.now()), state.changed.await)
  }).pipe(Effect.forever)

type Duplex = EtcdClient.Duplex<
  (typeof LeaseRpc.method.leaseKeepAlive)["input"],
  (typeof LeaseRpc.method.leaseKeepAlive)["output"]
>

/** Sends what is due, for ever. */
const sendDue = (state: State, session: Session, duplex: Duplex): Effect.Effect<never, EtcdError> =>
  Effect.gen(function* () {
    yield* state.hasDue.await
    for (const id of state.due) {
      state.due.delete(id)
      if (session.outstanding.has(id)) continue
      session.outstanding.set(id, state.now())
      yield* duplex.send({ ID: id })
    }
    if (state.due.size === 0) state.hasDue.closeUnsafe()
  }).pipe(Effect.forever)

const hear = (
  state: State,
  session: Session,
  answer: { readonly ID: bigint; readonly TTL: bigint }
): Effect.Effect<void> =>
  Effect.sync(() => {
    session.heardAt = state.now()
    session.answered = true
    state.failures = 0
    state.lastFailure = undefined
    const sentAt = session.outstanding.get(answer.ID)
    session.outstanding.delete(answer.ID)
    const entry = state.entries.get(answer.ID)
    if (entry === undefined || sentAt === undefined) return
    if (answer.TTL <= 0n) return settle(state, entry, { reason: "not-found", cause: undefined })
    if (entry.expiresAt <= session.heardAt) return settle(state, entry, notRenewed(state))
    renew(entry, answer.TTL, sentAt)
    wake(state, entry.dueAt - quantum)
  })

const once = Schedule.recurs(0)

/** Opens the stream, where it should be if it was silent where it was, and uses it until it ends. */
const useStream = (state: State, session: Session): Effect.Effect<void, EtcdError> =>
  Effect.scoped(
    Effect.gen(function* () {
      const endpoint = state.next
      session.endpoint = endpoint
      const duplex = yield* state.client.bidirectional(
        LeaseRpc.method.leaseKeepAlive,
        endpoint === undefined ? {} : { endpoint, retry: once }
      )
      session.endpoint = duplex.endpoint
      yield* Effect.raceFirst(
        sendDue(state, session, duplex),
        Stream.runForEach(duplex.messages, (answer) => hear(state, session, answer))
      )
    })
  )

/** The endpoint after one that has been silent, where there is another. */
const endpointAfter = (state: State, silent: string | undefined): Effect.Effect<string | undefined> =>
  Effect.map(state.client.endpoints, (endpoints) => {
    const next = endpoints[(endpoints.indexOf(silent ?? "") + 1) % endpoints.length]
    return next === silent ? undefined : next
  })

/** etcd refuses the whole stream for the sake of one lease whose keys the user may not write: the one whose turn it is. */
const dropRefused = (state: State, session: Session, failure: EtcdError): void => {
  if (failure.reason._tag !== "PermissionDenied") return
  const [first] = session.outstanding.keys()
  const entry = first === undefined ? undefined : state.entries.get(first)
  if (entry !== undefined) settle(state, entry, { reason: "refused", cause: failure })
}

/** What was sent and not answered is due again. */
const resend = (state: State, session: Session): void => {
  for (const id of session.outstanding.keys()) {
    if (state.entries.has(id)) state.due.add(id)
  }
  state.hasDue.openUnsafe()
}

/** Nothing after the first failure, then ever more up to half a second, until a server is heard again. */
const pauseAfterFailure = (state: State): Effect.Effect<void> =>
  state.failures <= 1 ? Effect.void : Effect.sleep(Math.min(25 * 2 ** (state.failures - 1), longestPause))

/** The stream ended: with a failure, or by the server's will. */
const ended = Effect.fnUntraced(function* (state: State, session: Session, failure: EtcdError | undefined) {
  const elsewhereFailed = state.next !== undefined && !session.answered
  state.next = elsewhereFailed ? yield* endpointAfter(state, session.endpoint) : undefined
  state.failures++
  if (failure === undefined) return
  state.lastFailure = failure
  dropRefused(state, session, failure)
  yield* Effect.logDebug("etcd lease stream failed", failure.message)
})

const stopped = Effect.fnUntraced(function* (state: State, session: Session, why: "idle" | "silent") {
  state.next = why === "idle" ? undefined : yield* endpointAfter(state, session.endpoint)
  if (why === "silent") yield* Effect.logDebug("etcd lease stream is silent", session.endpoint ?? "", state.next ?? "")
})

/** Has a stream whenever there is something to send. */
const holdStream = (state: State): Effect.Effect<never> =>
  Effect.gen(function* () {
    yield* state.hasDue.await
    if (state.due.size === 0) {
      state.hasDue.closeUnsafe()
      return
    }
    const session: Session = {
      heardAt: state.now(),
      answered: false,
      endpoint: undefined,
      outstanding: new Map(),
      stop: yield* Deferred.make<"idle" | "silent">()
    }
    state.session = session
    state.changed.openUnsafe()
    yield* Effect.raceFirst(
      Effect.matchEffect(useStream(state, session), {
        onFailure: (failure) => ended(state, session, failure),
        onSuccess: () => ended(state, session, undefined)
      }),
      Effect.flatMap(Deferred.await(session.stop), (why) => stopped(state, session, why))
    )
    state.session = undefined
    resend(state, session)
    yield* pauseAfterFailure(state)
  }).pipe(Effect.forever)

const makeEntry = (id: bigint): Entry => ({
  id,
  lost: Deferred.makeUnsafe(),
  loss: undefined,
  ttl: 0,
  expiresAt: 0,
  dueAt: 0,
  waitingSince: Number.POSITIVE_INFINITY,
  holders: 0
})

const keep = (state: State, id: bigint, ttlSeconds: bigint, renewedAt: number): Entry => {
  const known = state.entries.get(id)
  const entry = known ?? makeEntry(id)
  entry.holders++
  if (known === undefined) {
    renew(entry, ttlSeconds, renewedAt)
    state.entries.set(id, entry)
    wake(state, Math.min(entry.dueAt, entry.expiresAt) - quantum)
  }
  return entry
}

const closed: Loss = { reason: "closed", cause: undefined }

const release = (state: State, entry: Entry): void => {
  entry.holders--
  if (entry.holders === 0 && state.entries.get(entry.id) === entry) settle(state, entry, closed)
}

/** A keeper that lives as long as the scope; the leases that it still keeps then are not kept any longer. */
export const make = (client: EtcdClient.Client): Effect.Effect<Keeper, never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const state: State = {
      client,
      now: () => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000,
      entries: new Map(),
      due: new Set(),
      hasDue: yield* Latch.make(),
      changed: yield* Latch.make(),
      wakeAt: Number.POSITIVE_INFINITY,
      session: undefined,
      next: undefined,
      failures: 0,
      lastFailure: undefined
    }
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        for (const entry of state.entries.values()) settle(state, entry, closed)
      })
    )
    yield* Effect.forkScoped(watchTime(state))
    yield* Effect.forkScoped(holdStream(state))
    return {
      now: state.now,
      keep: (id, ttlSeconds, renewedAt) => keep(state, id, ttlSeconds, renewedAt),
      release: (entry) => release(state, entry),
      settle: (id, loss) => {
        const entry = state.entries.get(id)
        if (entry !== undefined) settle(state, entry, loss)
      }
    }
  })
