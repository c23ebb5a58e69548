/**
 * Why an etcd node could not be started, or could not go on.
 *
 * There is one error, {@link EtcdProcessError}, whose `reason` says which of the known things happened, so that a
 * program can react to one of them with `Effect.catchReason("EtcdProcessError", "AddressInUse", ...)`.
 *
 * @packageDocumentation
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * No etcd executable was found.
 *
 * @category reasons
 * @since 0.1.0
 */
export class BinaryNotFound extends Schema.TaggedError<BinaryNotFound>()("BinaryNotFound", {
  message: Schema.String,
  /** Every place that was looked at, in order, with what is wrong with what is there. */
  searched: Schema.Array(Schema.String)
}) {}

/**
 * A release of etcd could not be fetched, verified or unpacked. Nothing of it was left behind.
 *
 * @category reasons
 * @since 0.1.0
 */
export class FetchFailed extends Schema.TaggedError<FetchFailed>()("FetchFailed", {
  message: Schema.String,
  /** The address that was asked. Of those that it led to, no more than the host is told. */
  url: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {}

/**
 * The executable is not an etcd of a supported version (3.4 to 3.7), or one that does not run on this machine.
 *
 * @category reasons
 * @since 0.1.0
 */
export class UnsupportedVersion extends Schema.TaggedError<UnsupportedVersion>()("UnsupportedVersion", {
  message: Schema.String,
  path: Schema.String,
  /** What the executable said of itself, as far as it could be understood. */
  version: Schema.String
}) {}

/**
 * The configuration has problems; `message` lists all of them. Nothing was spawned.
 *
 * @category reasons
 * @since 0.1.0
 */
export class InvalidConfig extends Schema.TaggedError<InvalidConfig>()("InvalidConfig", {
  message: Schema.String,
  /** One entry a problem: the option it is about (or the file), and what is wrong with it. */
  problems: Schema.Array(Schema.Struct({ option: Schema.String, message: Schema.String }))
}) {}

const exited = {
  message: Schema.String,
  /** The last lines that etcd printed, oldest first. */
  lastLines: Schema.Array(Schema.String),
  exitCode: Schema.NullOr(Schema.Int),
  signal: Schema.NullOr(Schema.String)
}

/**
 * etcd could not listen on one of its addresses.
 *
 * @category reasons
 * @since 0.1.0
 */
export class AddressInUse extends Schema.TaggedError<AddressInUse>()("AddressInUse", {
  ...exited,
  address: Schema.String
}) {}

/**
 * Another process holds the data directory.
 *
 * @category reasons
 * @since 0.1.0
 */
export class DataDirInUse extends Schema.TaggedError<DataDirInUse>()("DataDirInUse", {
  ...exited,
  dataDir: Schema.String
}) {}

/**
 * etcd cannot read or use what is in the data directory. It is to be restored from a snapshot; a member of a cluster can
 * also be removed and added again, with an empty one.
 *
 * `exitCode` and `signal` are both null where etcd had not ended when its time to start was over.
 *
 * @category reasons
 * @since 0.1.0
 */
export class DataDirCorrupt extends Schema.TaggedError<DataDirCorrupt>()("DataDirCorrupt", {
  ...exited,
  dataDir: Schema.String
}) {}

/**
 * The node and the cluster it was to join do not fit together (cluster id, member list, or a removed member).
 *
 * @category reasons
 * @since 0.1.0
 */
export class ClusterMismatch extends Schema.TaggedError<ClusterMismatch>()("ClusterMismatch", exited) {}

/**
 * etcd ended before it served, for a reason that its log does not tell more exactly.
 *
 * @category reasons
 * @since 0.1.0
 */
export class ExitedEarly extends Schema.TaggedError<ExitedEarly>()("ExitedEarly", exited) {}

/**
 * etcd was started but did not serve within the time given.
 *
 * @category reasons
 * @since 0.1.0
 */
export class StartTimeout extends Schema.TaggedError<StartTimeout>()("StartTimeout", {
  message: Schema.String,
  lastLines: Schema.Array(Schema.String)
}) {}

/**
 * The node was not started, or not to the end, because it was stopped meanwhile or its scope is closed.
 *
 * @category reasons
 * @since 0.1.0
 */
export class Stopped extends Schema.TaggedError<Stopped>()("Stopped", {
  message: Schema.String
}) {}

/**
 * The operating system refused something that starting a node needs: a directory, a file, or the process itself.
 *
 * @category reasons
 * @since 0.1.0
 */
export class SystemFailure extends Schema.TaggedError<SystemFailure>()("SystemFailure", {
  message: Schema.String,
  cause: Schema.Defect()
}) {}

/**
 * Every reason of an {@link EtcdProcessError}.
 *
 * @category reasons
 * @since 0.1.0
 */
export const Reason = Schema.Union([
  BinaryNotFound,
  FetchFailed,
  UnsupportedVersion,
  InvalidConfig,
  AddressInUse,
  DataDirInUse,
  DataDirCorrupt,
  ClusterMismatch,
  ExitedEarly,
  StartTimeout,
  Stopped,
  SystemFailure
])

/**
 * Every reason of an {@link EtcdProcessError}.
 *
 * @category reasons
 * @since 0.1.0
 */
export type Reason = typeof Reason.Type

/**
 * An etcd node could not be started, or could not go on; `reason` says why.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdProcess } from "effect-etcd"
 *
 * const program = EtcdProcess.make({ name: "a" }).pipe(
 *   Effect.catchReason("EtcdProcessError", "BinaryNotFound", (reason) => Effect.die(reason.searched))
 * )
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class EtcdProcessError extends Schema.TaggedError<EtcdProcessError>()("EtcdProcessError", {
  reason: Reason
}) {
  override get message(): string {
    return this.reason.message
  }
}

/**
 * Wraps a reason.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (reason: Reason): EtcdProcessError => new EtcdProcessError({ reason })
