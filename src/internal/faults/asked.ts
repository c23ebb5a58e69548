/**
 * What the members themselves are asked, past the network that lies between them: that they raise an alarm, and whether they
 * agree on a leader.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type * as EtcdError from "../../EtcdError.ts"
import type * as EtcdMaintenance from "../../EtcdMaintenance.ts"
import type { Node } from "../../EtcdProcess.ts"
import * as Time from "../time.ts"

export interface Asked {
  /**
   * Raises the alarm of a member that it has no space, which is there as long as somebody wants it; nobody waits for that any
   * more where `unless` fails. It can be interrupted where it waits. Has it failed, it may have been done nevertheless.
   */
  readonly wantAlarm: <E>(node: Node, unless: Effect.Effect<never, E>) => Effect.Effect<void, E | EtcdError.EtcdError>
  /** Takes that back, also where it has failed; what etcd does of that later yet, {@link agree} takes back. */
  readonly unwantAlarm: (node: Node) => Effect.Effect<void>
  /** Whether all name the same leader, and none has an alarm. */
  readonly agree: Effect.Effect<boolean>
}

/** For how long somebody waits until an alarm is gone. It is tried on afterwards. */
const longestWait = 1000

const deadline = "2 seconds"

/** `endpoints`: those that the members have then. `scope`: of what is done in the background. */
export const make = (
  maintenance: EtcdMaintenance.Service,
  endpoints: () => ReadonlyArray<string>,
  scope: Scope.Scope,
  time: Time.Time
): Asked => {
  const patiently = <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.orDie(Time.inRealTime(time, Effect.retry(effect, Schedule.spaced("20 millis"))))

  /** How many want the alarm of a member, and who sets it: one after the other, by what is wanted then. */
  const wanted = new Map<Node, number>()
  const setting = Semaphore.makeUnsafe(1)
  const want = (node: Node, by: 1 | -1) => Effect.sync(() => void wanted.set(node, (wanted.get(node) ?? 0) + by))
  const set = (node: Node) =>
    Effect.suspend(() => {
      const alarm: EtcdMaintenance.Alarm = { memberId: node.id, type: "NoSpace" }
      return wanted.get(node)! > 0 ? maintenance.armAlarm(alarm) : maintenance.disarmAlarm(alarm, { deadline })
    }).pipe(setting.withPermit)

  const leaderKnownTo = (endpoint: string) =>
    Effect.map(maintenance.status({ endpoint, deadline }), ({ leader }) => leader)
  const sameLeader = Effect.suspend(() =>
    Effect.forEach(endpoints(), leaderKnownTo, { concurrency: "unbounded" })
  ).pipe(
    Effect.filterOrFail(([first, ...rest]) => Option.isSome(first!) && rest.every((one) => Equal.equals(one, first)))
  )
  /** Whose alarm may yet be raised although nobody wants it: who asked for it was not answered. */
  const uncertain = new Set<Node>()
  const lateOf = ({ memberId, type }: EtcdMaintenance.Alarm) => {
    const node = [...uncertain].find(({ id }) => Equal.equals(id, memberId))
    return node !== undefined && type === "NoSpace" && wanted.get(node) === 0 ? [node] : []
  }
  // What a leader was asked that is none any more is answered by nobody.
  const noAlarm = maintenance.alarms({ deadline }).pipe(
    Effect.tap((alarms) => Effect.forEach(alarms.flatMap(lateOf), set)),
    Effect.filterOrFail((alarms) => alarms.length === 0)
  )

  return {
    wantAlarm: (node, unless) =>
      Effect.andThen(
        want(node, 1),
        Effect.onError(Effect.interruptible(Effect.asVoid(Effect.raceFirst(set(node), unless))), () =>
          Effect.sync(() => uncertain.add(node))
        )
      ),
    // A member that cannot be asked now, for want of a majority, is asked again and again in the background.
    unwantAlarm: (node) => {
      const unset = patiently(set(node))
      const soon = Time.within(time, Effect.asVoid(unset), longestWait, () =>
        Effect.asVoid(Effect.forkIn(unset, scope))
      )
      return Effect.andThen(want(node, -1), soon)
    },
    agree: Effect.isSuccess(Effect.andThen(sameLeader, noAlarm))
  }
}
