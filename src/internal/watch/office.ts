/**
 * Who carries which watch: watches whose calls would be the same share lanes, and a slow reader gets one of its own.
 *
 * @internal
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as SemVer from "effect/SemVer"
import type { CallOptions, Client } from "../../EtcdClient.ts"
import * as EtcdError from "../../EtcdError.ts"
import * as Rpc from "../proto/rpc_pb.ts"
import { Lane } from "./lane.ts"
import { readSnapshot } from "./snapshot.ts"
import type { Carriage, Office, Subscription } from "./subscription.ts"

const isSameMetadata = (a: Carriage["metadata"] = {}, b: Carriage["metadata"] = {}): boolean => {
  const names = Object.keys(a)
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name])
}

const isSame = (a: Carriage, b: Carriage): boolean =>
  a.endpoint === b.endpoint &&
  a.requireLeader === b.requireLeader &&
  a.retry === b.retry &&
  isSameMetadata(a.metadata, b.metadata)

const callOptions = ({ endpoint, metadata, requireLeader, retry }: Carriage): CallOptions => ({
  endpoint,
  metadata,
  requireLeader,
  retry,
  deadline: Duration.infinity
})

/** Whether a member waits with its word on progress until the events before it are sent (etcd's issue 15220). */
const saysTheTruth = (text: string): boolean => {
  const version = SemVer.parse(text)
  if (Result.isFailure(version)) return true
  const { major, minor, patch } = version.success
  if (major > 3 || minor > 5) return true
  return minor === 5 ? patch >= 8 : minor === 4 && patch >= 25
}

const unsupported = (endpoint: string, version: string): EtcdError.EtcdError =>
  EtcdError.make(
    new EtcdError.Unsupported({
      message:
        `${endpoint} runs etcd ${version}, which answers a request for progress with a revision whose events it may ` +
        "not have sent. Run 3.4.25, 3.5.8 or newer, or wait for the notifications that etcd sends by itself.",
      outcome: "not-applied",
      method: "Watch.Watch",
      endpoint,
      feature: "Progress on request",
      since: "3.5.8"
    })
  )

export interface Lanes extends Office {
  /** Asks for the progress of all watches. */
  readonly requestProgress: Effect.Effect<void, EtcdError.EtcdError>
  /** Those in use, for tests. */
  readonly lanes: ReadonlySet<Lane>
}

export const make = (client: Client): Effect.Effect<Lanes, never, Scope.Scope> =>
  Effect.contextWith((context: Context.Context<Scope.Scope>) => {
    const scope = Context.get(context, Scope.Scope)
    const lanes = new Set<Lane>()

    const laneFor = (carriage: Carriage): Lane | undefined => {
      for (const lane of lanes) if (lane.hasRoom && isSame(lane.carriage, carriage)) return lane
      return undefined
    }

    const takeSeat = (subscription: Subscription) =>
      Effect.suspend(() => {
        const { carriage } = subscription.request
        const shared = subscription.isSlow ? undefined : laneFor(carriage)
        if (shared !== undefined) {
          shared.join(subscription)
          return Effect.void
        }
        const lane = new Lane(carriage, subscription.isSlow, (empty) => lanes.delete(empty))
        lanes.add(lane)
        lane.join(subscription)
        // A lane is nobody's: it has the service's context, not that of the first watch, which may end before the others.
        const run = Effect.updateContext(lane.run(client), (_: Context.Context<never>) => context)
        return Effect.asVoid(Effect.forkIn(run, scope, { startImmediately: true }))
      })

    const askLane = Effect.fnUntraced(function* (lane: Lane) {
      const { endpoint } = lane
      if (endpoint === undefined) return
      const { version } = yield* client.unary(Rpc.Maintenance.method.status, {}, { endpoint })
      if (!saysTheTruth(version)) return yield* Effect.fail(unsupported(endpoint, version))
      if (lane.endpoint === endpoint) lane.askProgress()
    })

    return Effect.succeed({
      seat: (subscription) => Effect.uninterruptible(takeSeat(subscription)),
      renewToken: client.renewToken,
      readSnapshot: (request) => readSnapshot(client, request.range, callOptions(request.carriage)),
      requestProgress: Effect.suspend(() => Effect.forEach([...lanes], askLane, { discard: true })),
      lanes
    })
  })
