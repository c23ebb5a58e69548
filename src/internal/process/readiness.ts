/**
 * When a run of etcd serves, or why it will not.
 *
 * It serves when it has answered a `Status` request. The line that says that it is ready only tells when to ask. etcd's
 * own word is taken only where it does not let this client in: without the certificate or the password that it wants. And
 * where its log is not to tell, that it wants a password or another certificate, or shows one that is not trusted, since
 * it answers nobody before it serves.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as EtcdClient from "../../EtcdClient.ts"
import * as EtcdConfig from "../../EtcdConfig.ts"
import type * as EtcdError from "../../EtcdError.ts"
import * as EtcdProcessError from "../../EtcdProcessError.ts"
import { Maintenance } from "../proto/rpc_pb.ts"
import * as Time from "../time.ts"
import * as Failures from "./failures.ts"
import type { Output, Run } from "./run.ts"

export interface Status {
  readonly memberId: bigint
  readonly clusterId: bigint
  readonly leader: bigint
  readonly raftTerm: bigint
  readonly isLearner: boolean
}

export type Ask = Effect.Effect<Status, EtcdError.EtcdError>

/** What asks for the `Status`, on one connection that lives as long as the scope. */
export const connectTo = (
  endpoint: string,
  options: Partial<Omit<EtcdClient.Options, "endpoints">> | undefined,
  call: EtcdClient.CallOptions = {}
): Effect.Effect<Ask, EtcdError.EtcdError, Scope.Scope> =>
  // Of which cluster the node is, it is about to tell.
  Effect.map(EtcdClient.make({ ...options, endpoints: [endpoint], clusterId: undefined }), (client) =>
    Effect.map(
      client.unary(Maintenance.method.status, {}, { deadline: "2 seconds", ...call }),
      (response): Status => ({
        memberId: response.header?.memberId ?? 0n,
        clusterId: response.header?.clusterId ?? 0n,
        leader: response.leader,
        // The header's is read before the leader is. An answer that names another leader, or none, tells by it a term of
        // which this member has applied something and that it does not lead.
        raftTerm: response.header?.raftTerm ?? 0n,
        isLearner: response.isLearner
      })
    )
  )

/** What etcd answers to somebody whom it does not know. A learner knows nobody by a password. */
const refusals: ReadonlySet<EtcdError.Reason["_tag"]> = new Set<EtcdError.Reason["_tag"]>([
  "AuthenticationFailed",
  "AuthOldRevision",
  "InvalidAuthToken",
  "NotSupportedForLearner",
  "PermissionDenied",
  "UserNameEmpty"
])

/** Whether this client is not let in, or does not trust who is there. It would be the same the next time. */
const isShutOut = ({ reason }: EtcdError.EtcdError): boolean =>
  refusals.has(reason._tag) || (reason._tag === "Unreachable" && /^(https|unixs):/.test(reason.endpoint ?? ""))

/** Whether that was said by who is there, and not by nobody. */
const isAnswer = (error: EtcdError.EtcdError): boolean =>
  isShutOut(error) && (error.reason._tag !== "Unreachable" || error.reason.lasting === true)

/** An answer that tells nothing. */
const unknown: Status = { memberId: 0n, clusterId: 0n, leader: 0n, raftTerm: 0n, isLearner: false }

/** What `Status` would have said of the ids, as far as etcd has said that it serves. */
const toldBy = ({ member, ready }: Output): Status | undefined =>
  member === undefined || !ready.isOpen()
    ? undefined
    : { ...unknown, memberId: member.member, clusterId: Option.getOrElse(member.cluster, () => 0n) }

const served = (run: Run, ask: Ask, config: EtcdConfig.Resolved): Effect.Effect<Status> =>
  Effect.raceFirst(run.output.ready.await, Effect.sleep("50 millis")).pipe(
    Effect.andThen(ask),
    Effect.catch((error) => {
      const isMute = isAnswer(error) && !EtcdConfig.showsRole(config)
      const told = isMute ? unknown : isShutOut(error) ? toldBy(run.output) : undefined
      return told === undefined ? Effect.fail(error) : Effect.succeed(told)
    }),
    Effect.retry(Schedule.spaced("10 millis")),
    Effect.orDie
  )

const failed = (run: Run, config: EtcdConfig.Resolved): Effect.Effect<never, EtcdProcessError.EtcdProcessError> =>
  Effect.flatMap(run.ended, (status) =>
    Effect.fail(EtcdProcessError.make(Failures.exitedEarly(status, run.output, config)))
  )

/** etcd waits for ever for a data directory that somebody else holds. */
const stuck = (run: Run, config: EtcdConfig.Resolved): Effect.Effect<never, EtcdProcessError.EtcdProcessError> =>
  run.output.stuck.await.pipe(Effect.andThen(run.close), Effect.andThen(failed(run, config)))

export interface Patience {
  readonly time: Time.Time
  readonly startTimeout: Duration.Duration
}

/** Waits until the run serves. */
export const started = (
  run: Run,
  ask: Ask,
  config: EtcdConfig.Resolved,
  { startTimeout, time }: Patience
): Effect.Effect<Status, EtcdProcessError.EtcdProcessError> =>
  Time.patiently(
    time,
    Effect.raceAllFirst([served(run, ask, config), failed(run, config), stuck(run, config)]),
    Duration.toMillis(startTimeout),
    () => Effect.fail(EtcdProcessError.make(Failures.startTimeout(startTimeout, run.output, config)))
  )
