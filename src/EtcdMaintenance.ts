/**
 * Looking after the members of a cluster: their status, alarms, space, snapshots, and who leads.
 *
 * `status`, `defragment`, `hash`, `hashKv` and `snapshot` are about one member. Name it with the call option
 * `endpoint`; without it, they are about the member that the client would use for any other call.
 *
 * With authentication, all functions but `status` and `alarms` need a user with the role `root`; others get
 * `PermissionDenied` (but etcd 3.4 lets every user set alarms and move the leader). Besides the reasons that each function
 * names, all fail with `InvalidArgument` for arguments that make no sense, and with those of every call (`EtcdError`).
 *
 * @packageDocumentation
 * @since 0.1.0
 */

import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as EtcdClient from "./EtcdClient.ts"
import type * as EtcdError from "./EtcdError.ts"
import { MemberId } from "./EtcdId.ts"
import type { Header } from "./EtcdResponse.ts"
import { deadlineExceeded, type Limit, limitOf, unlimited } from "./internal/client/limit.ts"
import * as Wire from "./internal/client/wire.ts"
import * as Json from "./internal/json.ts"
import * as Snapshot from "./internal/maintenance/snapshot.ts"
import * as Options from "./internal/options.ts"
import * as Rpc from "./internal/proto/rpc_pb.ts"
import * as Time from "./internal/time.ts"
import * as Tracing from "./internal/tracing.ts"

/**
 * What a member says of itself. Sizes are in bytes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Status {
  /** `memberId` is who answered. */
  readonly header: Header
  /** The version of etcd that the member runs. */
  readonly version: string
  /** How much of the disk the database takes, free pages included. */
  readonly dbSize: bigint
  /** How much of the database is in use. The difference to `dbSize` is what {@link defragment} gives back. */
  readonly dbSizeInUse: bigint
  /** The limit for `dbSize`. etcd 3.6 and newer. */
  readonly dbSizeQuota: Option.Option<bigint>
  /** Who leads, as far as this member knows. */
  readonly leader: Option.Option<MemberId>
  /** Raft's term: a number that grows with each election. */
  readonly raftTerm: bigint
  /** The last log entry that the cluster has agreed on, as far as this member knows. */
  readonly raftIndex: bigint
  /** The last log entry that this member has applied. */
  readonly raftAppliedIndex: bigint
  /** What is wrong: the alarms of the cluster, and that there is no leader. Empty when all is well. */
  readonly errors: ReadonlyArray<string>
  /** Whether it only receives what the others decide, and has no vote. */
  readonly isLearner: boolean
  /** The version of the format on disk. etcd 3.6 and newer, some seconds after a new member has started. */
  readonly storageVersion: Option.Option<string>
  /** The version that a downgrade under way leads to. etcd 3.6 and newer. */
  readonly downgradeTarget: Option.Option<string>
}

/**
 * Why a cluster works only in part.
 *
 * - `NoSpace`: the database of a member has reached its quota (`--quota-backend-bytes`), so the cluster takes deletions
 *   but no puts.
 * - `Corrupt`: the data of a member is not that of the others, so the cluster takes nothing.
 *
 * @category models
 * @since 0.1.0
 */
export type AlarmType = "NoSpace" | "Corrupt"

/**
 * An alarm, which holds until it is disarmed, also when its cause is gone.
 *
 * @category models
 * @since 0.1.0
 */
export interface Alarm {
  /** The member that the alarm is about. */
  readonly memberId: MemberId
  /** What is wrong with it. */
  readonly type: AlarmType
}

/**
 * A hash of a member's database.
 *
 * @category models
 * @since 0.1.0
 */
export interface Hash {
  readonly header: Header
  /** CRC-32 of the whole database of the member, its history and what only this member has included. */
  readonly hash: number
}

/**
 * How keys are hashed.
 *
 * @category options
 * @since 0.1.0
 */
export interface HashKvOptions extends EtcdClient.CallOptions {
  /** Hashes the history up to this revision. Default, and `0n`: all of it. */
  readonly revision?: bigint | undefined
}

/**
 * A hash of a member's keys.
 *
 * @category models
 * @since 0.1.0
 */
export interface HashKv {
  readonly header: Header
  /**
   * CRC-32 of the keys and their history since the last compaction: equal on all members that are well. Some versions hash
   * a compacted history otherwise than others (etcd-io/etcd 18274): compare members of one version.
   */
  readonly hash: number
  /** The revision of the last compaction, -1 before the first. Only hashes with the same one can be compared. */
  readonly compactRevision: bigint
  /** The revision that the hash is of. etcd 3.5.5 and newer. */
  readonly hashRevision: Option.Option<bigint>
}

/**
 * How much of a snapshot has come.
 *
 * @category models
 * @since 0.1.0
 */
export interface SnapshotProgress {
  /** So many bytes have come, and are written. */
  readonly receivedBytes: number
  /** So many bytes it will be, as the server says. */
  readonly totalBytes: number
}

/**
 * How a snapshot is written to a file.
 *
 * @category options
 * @since 0.1.0
 */
export interface SnapshotFileOptions extends EtcdClient.CallOptions {
  /** Runs after each piece that has been written; the next one waits for it. Default: nothing. */
  readonly onProgress?: ((progress: SnapshotProgress) => Effect.Effect<void>) | undefined
}

/**
 * A snapshot in a file.
 *
 * @category models
 * @since 0.1.0
 */
export interface SnapshotFile {
  /** As it was given. */
  readonly path: string
  /** The size of the file, in bytes: the database, and 32 for its SHA-256. */
  readonly bytes: number
  /** SHA-256 of the database, in hexadecimal. */
  readonly sha256: string
  /** The version of the format on disk. etcd 3.6 and newer. */
  readonly storageVersion: Option.Option<string>
}

/**
 * What came of a request about a downgrade.
 *
 * @category models
 * @since 0.1.0
 */
export interface Downgrade {
  readonly header: Header
  /** The version of the cluster now. */
  readonly clusterVersion: string
}

type CallOptions = EtcdClient.CallOptions

/**
 * Looks after one cluster. Its functions are those of this module, which have more to say.
 *
 * @category models
 * @since 0.1.0
 */
export interface Service {
  /** What a member says of itself. */
  readonly status: (options?: CallOptions | undefined) => Effect.Effect<Status, EtcdError.EtcdError>
  /** The alarms that are armed. */
  readonly alarms: (options?: CallOptions | undefined) => Effect.Effect<ReadonlyArray<Alarm>, EtcdError.EtcdError>
  /**
   * Arms an alarm, as etcd does by itself when it has cause to: to stop writes, or to try what a program does then.
   * Answers with the alarm, or with nothing if it was armed already.
   */
  readonly armAlarm: (
    alarm: Alarm,
    options?: CallOptions | undefined
  ) => Effect.Effect<ReadonlyArray<Alarm>, EtcdError.EtcdError>
  /** Disarms an alarm, after its cause is gone. Answers with what was disarmed: nothing if it was not armed. */
  readonly disarmAlarm: (
    alarm: Alarm,
    options?: CallOptions | undefined
  ) => Effect.Effect<ReadonlyArray<Alarm>, EtcdError.EtcdError>
  /** Disarms every alarm, and answers with what was disarmed. */
  readonly disarmAlarms: (options?: CallOptions | undefined) => Effect.Effect<ReadonlyArray<Alarm>, EtcdError.EtcdError>
  /**
   * Gives the free space of one member's database back to the file system. The member answers nothing else meanwhile:
   * defragment one after the other.
   */
  readonly defragment: (options?: CallOptions | undefined) => Effect.Effect<void, EtcdError.EtcdError>
  /**
   * A hash of one member's whole database. Members that hold the same keys may differ; to compare members see
   * {@link hashKv}.
   */
  readonly hash: (options?: CallOptions | undefined) => Effect.Effect<Hash, EtcdError.EtcdError>
  /**
   * A hash of one member's keys up to a revision, to compare members by. Fails with `Compacted` and `FutureRevision` if
   * the member does not have the revision.
   */
  readonly hashKv: (options?: HashKvOptions | undefined) => Effect.Effect<HashKv, EtcdError.EtcdError>
  /**
   * A snapshot of one member's database, as `etcdctl snapshot save` writes it: the database, and its SHA-256 in the
   * last 32 bytes, which `etcdutl snapshot restore` wants to see. More at {@link snapshot}.
   */
  readonly snapshot: (options?: CallOptions | undefined) => Stream.Stream<Uint8Array, EtcdError.EtcdError>
  /**
   * Writes a snapshot of one member's database to a file that only its owner can read. More at {@link snapshotToFile}.
   */
  readonly snapshotToFile: (
    path: string,
    options?: SnapshotFileOptions | undefined
  ) => Effect.Effect<SnapshotFile, EtcdError.EtcdError | PlatformError, FileSystem.FileSystem | Path.Path>
  /** Makes another member the leader. More at {@link moveLeader}. */
  readonly moveLeader: (to: MemberId, options?: CallOptions | undefined) => Effect.Effect<void, EtcdError.EtcdError>
  /**
   * Whether the cluster could be downgraded to a version, such as `3.5.0`: one minor version below its own. More at
   * {@link validateDowngrade}.
   */
  readonly validateDowngrade: (
    version: string,
    options?: CallOptions | undefined
  ) => Effect.Effect<Downgrade, EtcdError.EtcdError>
  /**
   * Prepares the cluster for a version, such as `3.5.0`: from now on members of that version may take part. Fails as
   * {@link validateDowngrade} does. More at {@link enableDowngrade}.
   */
  readonly enableDowngrade: (
    version: string,
    options?: CallOptions | undefined
  ) => Effect.Effect<Downgrade, EtcdError.EtcdError>
  /**
   * Ends the downgrade under way. Where there is none, etcd 3.5 fails with `NoDowngrade`, and newer versions succeed.
   * Fails with `Unsupported` before etcd 3.5.
   */
  readonly cancelDowngrade: (options?: CallOptions | undefined) => Effect.Effect<Downgrade, EtcdError.EtcdError>
}

/**
 * The service that looks after the cluster: a {@link Service}.
 *
 * @category services
 * @since 0.1.0
 */
export class EtcdMaintenance extends Context.Service<EtcdMaintenance, Service>()("effect-etcd/EtcdMaintenance") {}

type Client = EtcdClient.Client

const { method } = Rpc.Maintenance

const headerOf = (answer: { readonly header?: Rpc.ResponseHeader | undefined }): Header => Wire.header(answer.header)

const unlessEmpty = (text: string): Option.Option<string> => (text === "" ? Option.none() : Option.some(text))

const unlessZero = (number: bigint): Option.Option<bigint> => (number === 0n ? Option.none() : Option.some(number))

const toStatus = (answer: Rpc.StatusResponse): Status =>
  Json.answer({
    header: headerOf(answer),
    version: answer.version,
    dbSize: answer.dbSize,
    dbSizeInUse: answer.dbSizeInUse,
    dbSizeQuota: unlessZero(answer.dbSizeQuota),
    leader: Option.map(unlessZero(answer.leader), MemberId),
    raftTerm: answer.raftTerm,
    raftIndex: answer.raftIndex,
    raftAppliedIndex: answer.raftAppliedIndex,
    errors: answer.errors,
    isLearner: answer.isLearner,
    storageVersion: unlessEmpty(answer.storageVersion),
    downgradeTarget:
      answer.downgradeInfo?.enabled === true ? unlessEmpty(answer.downgradeInfo.targetVersion) : Option.none()
  })

const statusOf = (client: Client, options?: CallOptions | undefined): Effect.Effect<Status, EtcdError.EtcdError> =>
  Effect.map(client.unary(method.status, {}, options), toStatus)

const alarmTypes = { NoSpace: Rpc.AlarmType.NOSPACE, Corrupt: Rpc.AlarmType.CORRUPT }

const toAlarms = ({ alarms }: Rpc.AlarmResponse): ReadonlyArray<Alarm> =>
  alarms
    .filter(({ alarm }) => alarm !== Rpc.AlarmType.NONE)
    .map(
      ({ alarm, memberID }): Alarm =>
        Json.answer<Alarm>({
          memberId: MemberId(memberID),
          type: alarm === Rpc.AlarmType.NOSPACE ? "NoSpace" : "Corrupt"
        })
    )

const alarmsOf = (client: Client, options?: CallOptions | undefined) =>
  Effect.map(client.unary(method.alarm, { action: Rpc.AlarmRequest_AlarmAction.GET }, options), toAlarms)

const setAlarm = (
  client: Client,
  action: Rpc.AlarmRequest_AlarmAction,
  alarm: Alarm,
  options: CallOptions | undefined
) =>
  Effect.map(
    client.unary(method.alarm, { action, memberID: MemberId(alarm.memberId), alarm: alarmTypes[alarm.type] }, options),
    toAlarms
  )

/** The endpoint whose member says that it leads. */
const leaderEndpoint = (client: Client, deadline: CallOptions["deadline"]): Effect.Effect<string, unknown> =>
  Effect.flatMap(client.endpoints, (endpoints) =>
    Effect.raceAll(
      endpoints.map((endpoint) =>
        statusOf(client, { endpoint, deadline, retry: Schedule.recurs(0) }).pipe(
          Effect.filterOrFail(({ header, leader }) => Option.contains(leader, header.memberId)),
          Effect.as(endpoint)
        )
      )
    )
  )

const leaderNotFound = (limit: Limit): EtcdError.EtcdError =>
  deadlineExceeded(limit, {
    method: "Maintenance.MoveLeader",
    outcome: "not-applied",
    wasSent: false,
    details: ": no member said that it leads"
  })

/** Only the leader takes the request: it is asked where it can be found, in the time that the call has. */
const askLeader = (
  client: Client,
  options: CallOptions | undefined
): Effect.Effect<CallOptions | undefined, EtcdError.EtcdError> => {
  if (options?.endpoint !== undefined) return Effect.succeed(options)
  const deadline = options?.deadline ?? client.defaults("Maintenance").deadline
  const limit = deadline === undefined ? unlimited : limitOf(deadline)
  return Effect.flatMap(Time.Time, (time) => {
    const begunAt = time.now()
    return Effect.flatMap(Effect.option(leaderEndpoint(client, deadline)), (endpoint) => {
      const left = limit.millis - (time.now() - begunAt)
      // Timers are rounded.
      if (left <= 5) return Effect.fail(leaderNotFound(limit))
      const asked = Option.isSome(endpoint) ? { ...options, endpoint: endpoint.value } : options
      return Effect.succeed(left === Number.POSITIVE_INFINITY ? asked : { ...asked, deadline: left })
    })
  })
}

const downgrade = (
  client: Client,
  action: Rpc.DowngradeRequest_DowngradeAction,
  version: string,
  options: CallOptions | undefined
): Effect.Effect<Downgrade, EtcdError.EtcdError> =>
  Effect.map(client.unary(method.downgrade, { action, version }, options), (answer) =>
    Json.answer({
      header: headerOf(answer),
      clusterVersion: answer.version
    })
  )

interface Piece {
  readonly bytes: Uint8Array
  readonly remaining: number
  readonly storageVersion: string
}

const pieces = (client: Client, options?: CallOptions | undefined): Stream.Stream<Piece, EtcdError.EtcdError> =>
  Stream.map(client.serverStream(method.snapshot, {}, options), (answer) => ({
    bytes: answer.blob,
    remaining: Number(answer.remainingBytes),
    storageVersion: answer.version
  }))

const snapshotOf = (
  client: Client,
  options?: CallOptions | undefined
): Stream.Stream<Uint8Array, EtcdError.EtcdError> =>
  Stream.suspend(() => {
    const check = Snapshot.makeCheck()
    return pieces(client, options).pipe(
      Stream.map(({ bytes }) => {
        check.add(bytes)
        return bytes
      }),
      Stream.concat(Stream.fromEffectDrain(check.end))
    )
  })

/** Writes the snapshot to a new file, and makes sure that it is on the disk. */
const writeSnapshot = Effect.fnUntraced(function* (
  client: Client,
  file: string,
  { onProgress, ...options }: SnapshotFileOptions
) {
  const fs = yield* FileSystem.FileSystem
  const handle = yield* fs.open(file, { flag: "wx", mode: 0o600 })
  const check = Snapshot.makeCheck()
  let totalBytes: number | undefined
  let bytes = 0
  let storageVersion = ""
  yield* Stream.runForEach(pieces(client, options), (piece) => {
    check.add(piece.bytes)
    bytes += piece.bytes.length
    totalBytes ??= bytes + piece.remaining
    storageVersion = piece.storageVersion
    const progress = { receivedBytes: Math.min(bytes, totalBytes), totalBytes }
    return Effect.andThen(handle.writeAll(piece.bytes), onProgress?.(progress) ?? Effect.void)
  })
  const sha256 = yield* check.end
  yield* handle.sync
  return { bytes, sha256, storageVersion: unlessEmpty(storageVersion) }
}, Effect.scoped)

const syncDirectory = (directory: string) =>
  FileSystem.FileSystem.use((fs) => Effect.flatMap(fs.open(directory, { flag: "r" }), (handle) => handle.sync)).pipe(
    Effect.scoped,
    Effect.ignore
  )

/** Writes beside the file that is wanted, and puts it in place when all of it is there and right. */
const saveSnapshot = Effect.fnUntraced(function* (client: Client, path: string, options: SnapshotFileOptions) {
  const fs = yield* FileSystem.FileSystem
  const { dirname } = yield* Path.Path
  const part = `${path}.${(yield* Clock.currentTimeMillis).toString(36)}-${yield* Random.nextIntBetween(0, 0xffffffff)}.part`
  return yield* writeSnapshot(client, part, options).pipe(
    Effect.tap(() => fs.rename(part, path)),
    Effect.onError(() => Effect.ignore(fs.remove(part, { force: true }))),
    Effect.tap(() => syncDirectory(dirname(path))),
    Effect.map((written) => Json.answer<SnapshotFile>({ path, ...written }))
  )
})

const aMember = Options.id("a member")

const alarmType = Options.oneOf("NoSpace", "Corrupt")

const wrongAlarm = (who: string, alarm: unknown) => {
  const { memberId, type }: Partial<Alarm> = Options.isObject(alarm) ? alarm : {}
  return (
    Options.wrongArgument(who, "the alarm's memberId", aMember, memberId) ??
    Options.wrongArgument(who, "the alarm's type", alarmType, type)
  )
}

const wrongVersion = (who: string, version: unknown) =>
  Options.wrongArgument(who, "the version", Options.text("a version such as 3.5.0"), version)

const ofHashKv: Options.Checks<Options.Own<HashKvOptions>> = { revision: Options.revision }

const ofSnapshotFile: Options.Checks<Options.Own<SnapshotFileOptions>> = { onProgress: Options.callback }

/**
 * The service over a client: for a program with more than one client. It ends with the client.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdClient, EtcdMaintenance } from "effect-etcd"
 *
 * const program = Effect.gen(function*() {
 *   const client = yield* EtcdClient.make({ endpoints: ["127.0.0.1:2379"] })
 *   const { dbSize, version } = yield* EtcdMaintenance.fromClient(client).status()
 *   return `etcd ${version}, ${dbSize} bytes`
 * })
 * const shown = Effect.scoped(program)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromClient = (client: EtcdClient.Client): Service => ({
  status: (options) => Options.wrongCall("EtcdMaintenance.status", options) ?? statusOf(client, options),
  alarms: (options) => Options.wrongCall("EtcdMaintenance.alarms", options) ?? alarmsOf(client, options),
  armAlarm: (alarm, options) =>
    wrongAlarm("EtcdMaintenance.armAlarm", alarm) ??
    Options.wrongCall("EtcdMaintenance.armAlarm", options) ??
    setAlarm(client, Rpc.AlarmRequest_AlarmAction.ACTIVATE, alarm, options),
  disarmAlarm: (alarm, options) =>
    wrongAlarm("EtcdMaintenance.disarmAlarm", alarm) ??
    Options.wrongCall("EtcdMaintenance.disarmAlarm", options) ??
    setAlarm(client, Rpc.AlarmRequest_AlarmAction.DEACTIVATE, alarm, options),
  disarmAlarms: (options) =>
    Options.wrongCall("EtcdMaintenance.disarmAlarms", options) ??
    Tracing.traced(
      Effect.flatMap(alarmsOf(client, options), (alarms) =>
        Effect.as(
          Effect.forEach(alarms, (alarm) => setAlarm(client, Rpc.AlarmRequest_AlarmAction.DEACTIVATE, alarm, options), {
            discard: true
          }),
          alarms
        )
      ),
      "EtcdMaintenance.disarmAlarms"
    ),
  defragment: (options) =>
    Options.wrongCall("EtcdMaintenance.defragment", options) ??
    Effect.asVoid(client.unary(method.defragment, {}, options)),
  hash: (options) =>
    Options.wrongCall("EtcdMaintenance.hash", options) ??
    Effect.map(client.unary(method.hash, {}, options), (answer) =>
      Json.answer({ header: headerOf(answer), hash: answer.hash })
    ),
  hashKv: (options) =>
    Options.wrongOptions("EtcdMaintenance.hashKv", ofHashKv, options) ??
    Effect.map(client.unary(method.hashKV, { revision: options?.revision ?? 0n }, options), (answer) =>
      Json.answer({
        header: headerOf(answer),
        hash: answer.hash,
        compactRevision: answer.compactRevision,
        hashRevision: unlessZero(answer.hashRevision)
      })
    ),
  snapshot: (options) => {
    const wrong = Options.wrongCall("EtcdMaintenance.snapshot", options)
    return wrong === undefined ? snapshotOf(client, options) : Stream.fromEffect(wrong)
  },
  snapshotToFile: (path, options) =>
    Options.wrongArgument("EtcdMaintenance.snapshotToFile", "the path", Options.text("the name of a file"), path) ??
    Options.wrongOptions("EtcdMaintenance.snapshotToFile", ofSnapshotFile, options) ??
    Tracing.traced(saveSnapshot(client, path, options ?? {}), "EtcdMaintenance.snapshotToFile"),
  moveLeader: (to, options) =>
    Options.wrongArgument("EtcdMaintenance.moveLeader", "the member", aMember, to) ??
    Options.wrongCall("EtcdMaintenance.moveLeader", options) ??
    Tracing.traced(
      Effect.flatMap(askLeader(client, options), (asked) =>
        Effect.asVoid(client.unary(method.moveLeader, { targetID: MemberId(to) }, asked))
      ),
      "EtcdMaintenance.moveLeader"
    ),
  validateDowngrade: (version, options) =>
    wrongVersion("EtcdMaintenance.validateDowngrade", version) ??
    Options.wrongCall("EtcdMaintenance.validateDowngrade", options) ??
    downgrade(client, Rpc.DowngradeRequest_DowngradeAction.VALIDATE, version, options),
  enableDowngrade: (version, options) =>
    wrongVersion("EtcdMaintenance.enableDowngrade", version) ??
    Options.wrongCall("EtcdMaintenance.enableDowngrade", options) ??
    downgrade(client, Rpc.DowngradeRequest_DowngradeAction.ENABLE, version, options),
  cancelDowngrade: (options) =>
    Options.wrongCall("EtcdMaintenance.cancelDowngrade", options) ??
    downgrade(client, Rpc.DowngradeRequest_DowngradeAction.CANCEL, "", options)
})

/**
 * Provides {@link EtcdMaintenance} over the {@link EtcdClient.EtcdClient} that is there. `EtcdLayer.connect` provides
 * it with all the others.
 *
 * @example
 * ```ts
 * import { Layer } from "effect"
 * import { EtcdClient, EtcdMaintenance } from "effect-etcd"
 *
 * const live = EtcdMaintenance.layer.pipe(Layer.provide(EtcdClient.layer({ endpoints: ["127.0.0.1:2379"] })))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<EtcdMaintenance, never, EtcdClient.EtcdClient> = Layer.effect(
  EtcdMaintenance,
  Effect.map(EtcdClient.EtcdClient, fromClient)
)

/**
 * What a member says of itself.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdClient, EtcdMaintenance } from "effect-etcd"
 *
 * const all = Effect.gen(function*() {
 *   const client = yield* EtcdClient.EtcdClient
 *   const endpoints = yield* client.endpoints
 *   return yield* Effect.forEach(endpoints, (endpoint) => EtcdMaintenance.status({ endpoint }))
 * })
 * ```
 *
 * @category reading
 * @since 0.1.0
 */
export const status = (
  options?: CallOptions | undefined
): Effect.Effect<Status, EtcdError.EtcdError, EtcdMaintenance> =>
  EtcdMaintenance.use((maintenance) => maintenance.status(options))

/**
 * The alarms that are armed.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdMaintenance } from "effect-etcd"
 *
 * const takesWrites = Effect.map(EtcdMaintenance.alarms(), (alarms) => alarms.length === 0)
 * ```
 *
 * @category alarms
 * @since 0.1.0
 */
export const alarms = (
  options?: CallOptions | undefined
): Effect.Effect<ReadonlyArray<Alarm>, EtcdError.EtcdError, EtcdMaintenance> =>
  EtcdMaintenance.use((maintenance) => maintenance.alarms(options))

/**
 * Arms an alarm, as etcd does by itself when it has cause to: to stop writes, or to try what a program does then.
 * Answers with the alarm, or with nothing if it was armed already.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdMaintenance } from "effect-etcd"
 *
 * // Writes are refused while this is used, as if the database were full.
 * const readOnly = <A, E, R>(use: Effect.Effect<A, E, R>) =>
 *   Effect.gen(function*() {
 *     const { header } = yield* EtcdMaintenance.status()
 *     const alarm = { memberId: header.memberId, type: "NoSpace" } as const
 *     const armed = EtcdMaintenance.armAlarm(alarm)
 *     return yield* Effect.acquireUseRelease(armed, () => use, () => Effect.orDie(EtcdMaintenance.disarmAlarm(alarm)))
 *   })
 * ```
 *
 * @category alarms
 * @since 0.1.0
 */
export const armAlarm = (
  alarm: Alarm,
  options?: CallOptions | undefined
): Effect.Effect<ReadonlyArray<Alarm>, EtcdError.EtcdError, EtcdMaintenance> =>
  EtcdMaintenance.use((maintenance) => maintenance.armAlarm(alarm, options))

/**
 * Disarms an alarm, after its cause is gone. Answers with what was disarmed: nothing if it was not armed. A member whose
 * database is still beyond its quota arms it again with the next write.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdMaintenance } from "effect-etcd"
 *
 * // Those of one kind, and no others.
 * const roomIsMade = Effect.gen(function*() {
 *   const alarms = yield* EtcdMaintenance.alarms()
 *   yield* Effect.forEach(alarms.filter(({ type }) => type === "NoSpace"), (alarm) => EtcdMaintenance.disarmAlarm(alarm))
 * })
 * ```
 *
 * @category alarms
 * @since 0.1.0
 */
export const disarmAlarm = (
  alarm: Alarm,
  options?: CallOptions | undefined
): Effect.Effect<ReadonlyArray<Alarm>, EtcdError.EtcdError, EtcdMaintenance> =>
  EtcdMaintenance.use((maintenance) => maintenance.disarmAlarm(alarm, options))

/**
 * Disarms every alarm, and answers with what was disarmed.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv, EtcdMaintenance } from "effect-etcd"
 *
 * const makeRoom = Effect.gen(function*() {
 *   const { header } = yield* EtcdMaintenance.status()
 *   yield* EtcdKv.compact(header.revision, { physical: true })
 *   yield* EtcdMaintenance.defragment()
 *   yield* EtcdMaintenance.disarmAlarms()
 * })
 * ```
 *
 * @category alarms
 * @since 0.1.0
 */
export const disarmAlarms = (
  options?: CallOptions | undefined
): Effect.Effect<ReadonlyArray<Alarm>, EtcdError.EtcdError, EtcdMaintenance> =>
  EtcdMaintenance.use((maintenance) => maintenance.disarmAlarms(options))

/**
 * Gives the free space of one member's database back to the file system. The member answers nothing else meanwhile:
 * defragment one after the other.
 *
 * It takes as long as what is in use is large, needs room on the disk for a second copy of that, and has no deadline by
 * default. A learner refuses it (`NotSupportedForLearner`). etcd answers without a header: all of it is 0.
 * `EtcdOperations.defragment` does all members, the leader last.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdMaintenance } from "effect-etcd"
 *
 * const tidy = (endpoint: string) =>
 *   Effect.gen(function*() {
 *     const { dbSize, dbSizeInUse } = yield* EtcdMaintenance.status({ endpoint })
 *     if (dbSize > 2n * dbSizeInUse) yield* EtcdMaintenance.defragment({ endpoint })
 *   })
 * ```
 *
 * @category changing
 * @since 0.1.0
 */
export const defragment = (
  options?: CallOptions | undefined
): Effect.Effect<void, EtcdError.EtcdError, EtcdMaintenance> =>
  EtcdMaintenance.use((maintenance) => maintenance.defragment(options))

/**
 * A hash of one member's whole database. Members that hold the same keys may differ; to compare members see
 * {@link hashKv}. It has no deadline by default.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdMaintenance } from "effect-etcd"
 *
 * const crc32 = Effect.map(EtcdMaintenance.hash(), ({ hash }) => hash)
 * ```
 *
 * @category reading
 * @since 0.1.0
 */
export const hash = (options?: CallOptions | undefined): Effect.Effect<Hash, EtcdError.EtcdError, EtcdMaintenance> =>
  EtcdMaintenance.use((maintenance) => maintenance.hash(options))

/**
 * A hash of one member's keys up to a revision, to compare members by. Fails with `Compacted` and `FutureRevision` if
 * the member does not have the revision.
 *
 * It has no deadline by default. `EtcdOperations.findCorrupt` compares all members.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdMaintenance } from "effect-etcd"
 *
 * const areEqual = (one: string, other: string) =>
 *   Effect.gen(function*() {
 *     const { header } = yield* EtcdMaintenance.status({ endpoint: one })
 *     const revision = header.revision
 *     const a = yield* EtcdMaintenance.hashKv({ endpoint: one, revision })
 *     const b = yield* EtcdMaintenance.hashKv({ endpoint: other, revision })
 *     return a.compactRevision !== b.compactRevision || a.hash === b.hash
 *   })
 * ```
 *
 * @category reading
 * @since 0.1.0
 */
export const hashKv = (
  options?: HashKvOptions | undefined
): Effect.Effect<HashKv, EtcdError.EtcdError, EtcdMaintenance> =>
  EtcdMaintenance.use((maintenance) => maintenance.hashKv(options))

/**
 * A snapshot of one member's database, as `etcdctl snapshot save` writes it: the database, and its SHA-256 in the last
 * 32 bytes, which `etcdutl snapshot restore` wants to see.
 *
 * The digest is checked at the end: the stream fails with `ProtocolViolation` if it is wrong, so do not use what came
 * before the stream has ended. A slow reader slows the server, and keeps it from reusing space in its database. A snapshot
 * that breaks off fails the stream, and does not go on elsewhere: another member's is another file.
 *
 * @example
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { EtcdMaintenance } from "effect-etcd"
 *
 * const bytes = Stream.runFold(EtcdMaintenance.snapshot(), () => 0, (sum, piece) => sum + piece.length)
 * ```
 *
 * @category snapshots
 * @since 0.1.0
 */
export const snapshot = (
  options?: CallOptions | undefined
): Stream.Stream<Uint8Array, EtcdError.EtcdError, EtcdMaintenance> =>
  Stream.unwrap(EtcdMaintenance.useSync((maintenance) => maintenance.snapshot(options)))

/**
 * Writes a snapshot of one member's database to a file that only its owner can read.
 *
 * The file appears, and takes the place of one that was there, only when all of the snapshot has come, its SHA-256 is
 * right, and it is on the disk. Until then it is in a file beside it, whose name ends in `.part`; when anything fails, or
 * it is interrupted, that is removed.
 *
 * Fails with a `PlatformError` where the file cannot be written, with `ProtocolViolation` where the SHA-256 is wrong, and as
 * {@link snapshot} does. `EtcdOperations.backup` chooses the member, and writes a record of what is in the file.
 *
 * @example
 * ```ts
 * import { Console } from "effect"
 * import { EtcdMaintenance } from "effect-etcd"
 *
 * const backup = EtcdMaintenance.snapshotToFile("/var/backups/etcd.db", {
 *   onProgress: ({ receivedBytes, totalBytes }) => Console.log(`${Math.floor((100 * receivedBytes) / totalBytes)} %`)
 * })
 * ```
 *
 * @category snapshots
 * @since 0.1.0
 */
export const snapshotToFile = (
  path: string,
  options?: SnapshotFileOptions | undefined
): Effect.Effect<
  SnapshotFile,
  EtcdError.EtcdError | PlatformError,
  EtcdMaintenance | FileSystem.FileSystem | Path.Path
> => EtcdMaintenance.use((maintenance) => maintenance.snapshotToFile(path, options))

/**
 * Makes another member the leader.
 *
 * The leader itself must be asked for it; unless an `endpoint` is given, it is looked for among the client's endpoints.
 * Fails with `NotLeader` if it is not found there, and with `BadLeaderTransferee` if the member cannot lead. A member
 * that does not answer cannot take over, and etcd waits for it as long as the caller does: set a `deadline`. It succeeds
 * when the member leads, also where it did before. etcd answers without a header: all of it is 0.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdMaintenance, EtcdMembership } from "effect-etcd"
 *
 * const lead = (name: string) =>
 *   Effect.gen(function*() {
 *     const { members } = yield* EtcdMembership.list()
 *     const member = members.find((one) => one.name === name)
 *     if (member !== undefined) yield* EtcdMaintenance.moveLeader(member.id, { deadline: "10 seconds" })
 *   })
 * ```
 *
 * @category changing
 * @since 0.1.0
 */
export const moveLeader = (
  to: MemberId,
  options?: CallOptions | undefined
): Effect.Effect<void, EtcdError.EtcdError, EtcdMaintenance> =>
  EtcdMaintenance.use((maintenance) => maintenance.moveLeader(to, options))

/**
 * Whether the cluster could be downgraded to a version, such as `3.5.0`: one minor version below its own.
 *
 * Fails with `InvalidDowngradeTarget`, or with `DowngradeInProgress`. etcd 3.5 and newer; fails with `Unsupported`
 * before.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdMaintenance } from "effect-etcd"
 *
 * const prepare = EtcdMaintenance.validateDowngrade("3.5.0").pipe(
 *   Effect.andThen(EtcdMaintenance.enableDowngrade("3.5.0"))
 * )
 * const goBack = EtcdMaintenance.cancelDowngrade()
 * ```
 *
 * @category downgrade
 * @since 0.1.0
 */
export const validateDowngrade = (
  version: string,
  options?: CallOptions | undefined
): Effect.Effect<Downgrade, EtcdError.EtcdError, EtcdMaintenance> =>
  EtcdMaintenance.use((maintenance) => maintenance.validateDowngrade(version, options))

/**
 * Prepares the cluster for a version, such as `3.5.0`: from now on members of that version may take part. Fails as
 * {@link validateDowngrade} does.
 *
 * etcd 3.5 does it but does not answer (its `applierV3backend.Apply` drops the result), so that the call fails with
 * `ServerTimeout` or `DeadlineExceeded`; `validateDowngrade` fails with `DowngradeInProgress` then. The same is true of
 * {@link cancelDowngrade}. `downgrade` of a cluster of `EtcdCluster` does all that belongs to it.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdMaintenance } from "effect-etcd"
 *
 * const prepare = EtcdMaintenance.validateDowngrade("3.6.0").pipe(
 *   Effect.andThen(EtcdMaintenance.enableDowngrade("3.6.0"))
 * )
 * ```
 *
 * @category downgrade
 * @since 0.1.0
 */
export const enableDowngrade = (
  version: string,
  options?: CallOptions | undefined
): Effect.Effect<Downgrade, EtcdError.EtcdError, EtcdMaintenance> =>
  EtcdMaintenance.use((maintenance) => maintenance.enableDowngrade(version, options))

/**
 * Ends the downgrade under way. Where there is none, etcd 3.5 fails with `NoDowngrade`, and newer versions succeed.
 * Fails with `Unsupported` before etcd 3.5.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdMaintenance } from "effect-etcd"
 *
 * const stay = EtcdMaintenance.cancelDowngrade().pipe(
 *   Effect.catchReason("EtcdError", "NoDowngrade", () => Effect.void) // etcd 3.5, where none is under way
 * )
 * ```
 *
 * @category downgrade
 * @since 0.1.0
 */
export const cancelDowngrade = (
  options?: CallOptions | undefined
): Effect.Effect<Downgrade, EtcdError.EtcdError, EtcdMaintenance> =>
  EtcdMaintenance.use((maintenance) => maintenance.cancelDowngrade(options))
