/**
 * Makes sure, for one call, that the store behind it is the one that its watches have seen; by what, `identity.ts` says.
 *
 * A server that takes a watch when it is behind that watch is *doubted*: what it sends for the watch is not taken before it
 * has been looked into. Once on each call, and where nothing is heard, the latest write that was delivered is looked up.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Identity from "./identity.ts"
import type { Subscription } from "./subscription.ts"
import type { Host, Watcher } from "./watchCall.ts"

/** What a watch had seen of the store when something was asked about it. */
interface Expectation {
  readonly watcher: Watcher
  readonly seen: Identity.Position
}

/** What is to be looked up: a write, or, where there was none, only how far the store is. */
interface Lookup {
  readonly write: Identity.Write | undefined
  /** Whom it is about, if not all. */
  readonly of: Subscription | undefined
}

export class Verification {
  private readonly host: Host
  private readonly endpoint: string
  private readonly watchers: ReadonlyMap<Subscription, Watcher>
  private readonly trust: (watcher: Watcher) => void
  private readonly doubted = new Set<Watcher>()
  private readonly lookups: Array<Lookup> = []
  /** Open when there is something to be looked into. */
  private readonly hasWork = Latch.makeUnsafe(false)

  /** `trust` is told of a watcher that was doubted, and whose server only lags behind. */
  constructor(
    host: Host,
    endpoint: string,
    watchers: ReadonlyMap<Subscription, Watcher>,
    trust: (watcher: Watcher) => void
  ) {
    this.host = host
    this.endpoint = endpoint
    this.watchers = watchers
    this.trust = trust
  }

  /** There is a call. */
  begin(): void {
    const write = this.latestWrite()
    if (write !== undefined) this.lookUp({ write, of: undefined })
  }

  /** A watch has come to the call. */
  join(subscription: Subscription): void {
    const { write } = subscription
    if (write !== undefined) this.lookUp({ write, of: subscription })
  }

  doubt(watcher: Watcher): void {
    this.doubted.add(watcher)
    this.hasWork.openUnsafe()
  }

  doubts(watcher: Watcher): boolean {
    return this.doubted.has(watcher)
  }

  /** The watcher is none any more. */
  forget(watcher: Watcher): void {
    this.doubted.delete(watcher)
  }

  /**
   * The call may be kept by a proxy, and the store behind it have gone back: then it is silent. What still waits to be
   * looked up, since the store cannot be read now, will do for that.
   */
  suspectSilence(): void {
    if (this.lookups.length === 0) this.lookUp({ write: this.latestWrite(), of: undefined })
  }

  /** Looks into what is doubtful, one thing after the other. */
  readonly run: Effect.Effect<never> = Effect.forever(
    Effect.suspend(() => {
      const lookup = this.lookups.shift()
      const [doubted] = this.doubted
      if (lookup !== undefined) return this.verifyWrite(lookup)
      if (doubted !== undefined) return this.verifyPosition(doubted)
      this.hasWork.closeUnsafe()
      return this.hasWork.await
    })
  )

  private latestWrite(): Identity.Write | undefined {
    let latest: Identity.Write | undefined
    for (const { write } of this.watchers.keys()) {
      if (write !== undefined && (latest === undefined || write.revision > latest.revision)) latest = write
    }
    return latest
  }

  private lookUp(lookup: Lookup): void {
    this.lookups.push(lookup)
    this.hasWork.openUnsafe()
  }

  /** Where that cannot be looked up for good, one goes on without. */
  private verifyWrite({ of, write }: Lookup): Effect.Effect<void> {
    const expectations = this.expectations.filter(({ watcher }) => of === undefined || of === watcher.subscription)
    const key = write?.key ?? expectations[0]?.watcher.subscription.request.range.key
    return key === undefined ? Effect.void : Effect.catch(this.look(key, write, expectations), () => Effect.void)
  }

  /** What is behind cannot be left at that. */
  private verifyPosition(doubted: Watcher): Effect.Effect<void> {
    const { subscription } = doubted
    return Effect.catch(this.look(subscription.request.range.key, undefined, this.expectations), (error) =>
      Effect.sync(() => {
        if (!doubted.left) this.host.expel(subscription, (one) => one.fail(error))
      })
    )
  }

  private get expectations(): ReadonlyArray<Expectation> {
    return Array.from(this.watchers.values(), (watcher) => ({ watcher, seen: watcher.subscription.seen }))
  }

  private look(key: Uint8Array, write: Identity.Write | undefined, expectations: ReadonlyArray<Expectation>) {
    const { endpoint } = this
    const { options, pool } = this.host
    const { term } = expectations.map(({ seen }) => seen).reduce(Identity.later, Identity.unknown)
    return Effect.flatMap(pool.look(options, { endpoint, key, write, term }), (evidence) => {
      this.compare(expectations, evidence)
      return this.host.tellOfService
    })
  }

  private compare(expectations: ReadonlyArray<Expectation>, evidence: Identity.Evidence): void {
    for (const { seen, watcher } of expectations) {
      const { subscription } = watcher
      if (this.watchers.get(subscription) !== watcher) continue
      const regression = Identity.regressionOf(seen, evidence)
      if (regression !== undefined) this.host.expel(subscription, (one) => one.regressed(regression))
      else if (this.doubted.delete(watcher)) this.trust(watcher)
    }
  }
}
