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
import * as Json from "./internal/json.ts"

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
  /** What the HTTP client or the file system said, where they did. */
  cause: Schema.optionalKey(Schema.Defect())
}) {
  /** As JSON, of which `EtcdResponse` says more. */
  override toJSON(): object {
    return Json.ofError(this)
  }
}

/**
 * The executable is not an etcd of a supported version (3.4 to 3.7), or one that does not run on this machine.
 *
 * @category reasons
 * @since 0.1.0
 */
export class UnsupportedVersion extends Schema.TaggedError<UnsupportedVersion>()("UnsupportedVersion", {
  message: Schema.String,
  /** The executable. */
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
  /** Null where a signal ended it, or it has not run to its end. */
  exitCode: Schema.NullOr(Schema.Int),
  /** The signal that ended it; null where it ended by itself, or has not run to its end. */
  signal: Schema.NullOr(Schema.String)
}

/**
 * Something else listens on one of etcd's addresses. (Where this machine or this user cannot listen there, it is
 * {@link ExitedEarly}.) Nothing was started where that is a Unix socket.
 *
 * @category reasons
 * @since 0.1.0
 */
export class AddressInUse extends Schema.TaggedError<AddressInUse>()("AddressInUse", {
  ...exited,
  /** The address, as etcd or the system says it: `127.0.0.1:2379`, `unix:///run/etcd/client.sock`. */
  address: Schema.String
}) {}

/**
 * Another process holds the data directory. etcd says so after ten seconds, and would wait on: it is ended then.
 *
 * @category reasons
 * @since 0.1.0
 */
export class DataDirInUse extends Schema.TaggedError<DataDirInUse>()("DataDirInUse", {
  ...exited,
  /** The data directory, as its absolute path. */
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
  /** The data directory, as its absolute path. */
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
 * etcd ended before it served, for a reason that has no name here; `message` says what its log tells: no right to an
 * address or a directory, a full disk, no memory, no open files, no member of the cluster to join, a version that does not
 * fit.
 *
 * @category reasons
 * @since 0.1.0
 */
export class ExitedEarly extends Schema.TaggedError<ExitedEarly>()("ExitedEarly", exited) {}

/**
 * etcd was started but did not serve within the time given (`startTimeout`, 30 seconds by default), and was ended. A member
 * of a cluster serves once a majority of the members is up.
 *
 * @category reasons
 * @since 0.1.0
 */
export class StartTimeout extends Schema.TaggedError<StartTimeout>()("StartTimeout", {
  message: Schema.String,
  /** The last lines that etcd printed, oldest first. */
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
  /** What the system said. */
  cause: Schema.Defect()
}) {
  /** As JSON, of which `EtcdResponse` says more. */
  override toJSON(): object {
    return Json.ofError(this)
  }
}

/**
 * The schema of a {@link Reason}.
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
 * Why a node could not be started: one of the reasons of this module, told apart by `_tag`.
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
  /** That of the reason: what was wrong, what would fix it, and etcd's last lines where there are some. */
  override get message(): string {
    return this.reason.message
  }
}

/**
 * An error with this reason, as nodes fail with it: for what stands in for one of them in a test.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdProcessError } from "effect-etcd"
 *
 * const noEtcd = Effect.fail(
 *   EtcdProcessError.make(new EtcdProcessError.BinaryNotFound({ message: "there is no etcd", searched: [] }))
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (reason: Reason): EtcdProcessError => new EtcdProcessError({ reason })
