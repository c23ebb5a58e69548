/**
 * Receipts: keys that transactions write along, so that whoever has lost the answer finds out what became of one.
 *
 * A receipt is written once: by the transaction itself, or, where that has turned out not to have been applied and
 * must not be applied late either, as void. Both want it to be missing, so that only one of them happens. It goes with
 * its lease, and what comes after the end of the lease is refused by etcd for want of it.
 *
 * The receipts of a client share leases, none of which has so many that its end would hold up a member.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import * as EtcdClient from "../../EtcdClient.ts"
import type { EtcdError } from "../../EtcdError.ts"
import { format, LeaseId } from "../../EtcdId.ts"
import * as Origin from "../client/origin.ts"
import * as Reasons from "../client/reasons.ts"
import * as Requests from "../lease/requests.ts"
import * as Time from "../time.ts"

/** Below which the receipts are, each as `<prefix><lease in hexadecimal>/<number>`. */
export const prefix = "effect-etcd/receipts/"

export const applied = "applied"
export const isVoid = "void"

const ttl = Duration.minutes(2)
/** For so long a lease is given to new receipts: each of them lasts a minute at least. */
const usefulMillis = Duration.toMillis(ttl) / 2
const largestLease = 1000

export interface Receipt {
  readonly key: string
  readonly lease: LeaseId
}

interface Current {
  readonly lease: LeaseId
  readonly usefulUntil: number
  count: number
}

type Client = EtcdClient.Client

interface Book {
  readonly turn: Semaphore.Semaphore
  current: Current | undefined
  /** Why there was no lease the last time. */
  failure: EtcdError | undefined
}

/** By where the clients go: those within namespaces and behind fences have the book of the one that they are made of. */
const books = new WeakMap<Client, Book>()

const bookOf = (client: Client): Book => {
  const { root } = Origin.of(client)
  const known = books.get(root)
  if (known !== undefined) return known
  const book: Book = { turn: Semaphore.makeUnsafe(1), current: undefined, failure: undefined }
  books.set(root, book)
  return book
}

const isUseful = (current: Current, time: Time.Time): boolean =>
  time.now() < current.usefulUntil && current.count < largestLease

/** The transaction was not sent, whatever has become of the lease. */
const unsent = (error: EtcdError): EtcdError => {
  const message = `The transaction was not sent, since there was no lease for its receipt. ${error.reason.message}`
  return Reasons.retold(error, { message, outcome: "not-applied" })
}

/** Where the answer is lost, another one is asked for: what nobody knows of ends by itself. */
const grant = (client: Client, time: Time.Time): Effect.Effect<Current, EtcdError> => {
  const once = Effect.suspend(() => {
    const usefulUntil = time.now() + usefulMillis
    return Effect.map(
      Requests.grant(client, 0n, BigInt(Duration.toSeconds(ttl)), {}),
      ({ ID }): Current => ({ lease: LeaseId(ID), usefulUntil, count: 0 })
    )
  })
  const pauses = client.defaults("Lease").retry ?? EtcdClient.defaultRetry
  return Effect.mapError(Requests.retrying(time, once, pauses, Requests.isMendable), unsent)
}

const next = (current: Current): Receipt => ({
  key: `${prefix}${format(current.lease)}/${current.count++}`,
  lease: current.lease
})

/** A receipt that nobody has had. One asks for the lease, for all who wait for it. */
export const take = (client: Client): Effect.Effect<Receipt, EtcdError> =>
  Effect.flatMap(Time.Time, (time) => {
    const book = bookOf(client)
    const { failure } = book
    return book.turn.withPermit(
      Effect.suspend(() => {
        const { current } = book
        if (current !== undefined && isUseful(current, time)) return Effect.succeed(next(current))
        if (book.failure !== failure) return Effect.fail(book.failure!)
        return Effect.matchEffect(grant(client, time), {
          onFailure: (error) => {
            book.failure = error
            return Effect.fail(error)
          },
          onSuccess: (granted) => {
            book.current = granted
            return Effect.succeed(next(granted))
          }
        })
      })
    )
  })

/** The lease is gone. */
export const forget = (client: Client, { lease }: Receipt): void => {
  const book = bookOf(client)
  if (book.current?.lease === lease) book.current = undefined
}
