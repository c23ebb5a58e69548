/**
 * Where a node lives: its directories, and the configuration that these complete.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import type * as Scope from "effect/Scope"
import type * as SemVer from "effect/SemVer"
import * as EtcdConfig from "../../EtcdConfig.ts"
import type * as EtcdProcessError from "../../EtcdProcessError.ts"
import { privateClientUrl, privateHttpUrl, privatePeerUrl } from "../config/defaults.ts"
import * as Read from "../config/read.ts"
import * as Owner from "../files/owner.ts"
import * as Failures from "./failures.ts"
import * as Guard from "./guard.ts"
import * as Sockets from "./sockets.ts"

export interface Place {
  readonly config: EtcdConfig.Resolved
  /** The absolute path of the directory that etcd runs in. */
  readonly runDirectory: string
  readonly guard: Guard.Guard
  /** The paths of all sockets that etcd listens on. */
  readonly sockets: ReadonlyArray<string>
}

type Making<A> = Effect.Effect<
  A,
  EtcdProcessError.EtcdProcessError,
  FileSystem.FileSystem | Path.Path | Scope.Scope | ChildProcessSpawner.ChildProcessSpawner
>

const prefix = "effect-etcd-"

/** Where the usual place for temporary directories has a long name, its sockets could not be reached. */
const short = "/tmp"

/** A directory that etcd runs in, and the guard that is there before anything is made in it. */
interface Guarded {
  readonly runDirectory: string
  readonly guard: Guard.Guard
}

const guarded = (runDirectory: string, isTemporary: boolean) =>
  Effect.map(Guard.make(isTemporary ? runDirectory : undefined), (guard): Guarded => ({ runDirectory, guard }))

/**
 * Makes a directory of mode 0700, in which sockets of these names can be reached. It goes with the scope, or with the host:
 * its guard is there before it, and stays until it has gone.
 */
export const makeRunDirectory = (names: ReadonlyArray<string>): Making<Guarded> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const { randomBytes } = globalThis.process.getBuiltinModule("node:crypto")
    const name = `${prefix}${randomBytes(6).toString("base64url")}`
    const usual = path.resolve(globalThis.process.getBuiltinModule("node:os").tmpdir())
    const fits = Sockets.excess(path.join(usual, name), names) === 0
    const parent = fits || !(yield* Effect.orElseSucceed(fs.exists(short), () => false)) ? usual : short
    const made = yield* guarded(path.join(parent, name), true)
    yield* Effect.acquireRelease(
      Effect.mapError(
        fs.makeDirectory(made.runDirectory, { mode: 0o700 }),
        Failures.systemFailure("create a temporary directory, which TMPDIR or `runDirectory` puts elsewhere")
      ),
      () => Effect.ignore(fs.remove(made.runDirectory, { recursive: true, force: true }))
    )
    return made
  })

const tooLong = (runDirectory: string, names: ReadonlyArray<string>): EtcdProcessError.EtcdProcessError | undefined => {
  const excess = Sockets.excess(runDirectory, names)
  return excess === 0
    ? undefined
    : Read.refused({
        option: "runDirectory",
        message: `${runDirectory} is too long for the sockets in it (${names.join(", ")}): the path of a socket has ${Sockets.longestPath} bytes at most, and the longest would have ${excess} more. Give a shorter directory, shorter names, or listen on a port.`
      })
}

/**
 * The sockets that etcd listens on. Clients use only some, but each has to have a name that can be connected to: after a
 * crash it is asked whether somebody listens there.
 */
const socketsOf = (options: EtcdConfig.EtcdOptions): ReadonlyArray<string> =>
  Sockets.namesIn([
    ...(options.listenClientUrls ?? []),
    ...(options.listenPeerUrls ?? []),
    ...(options.listenClientHttpUrls ?? []),
    ...(options.listenMetricsUrls ?? [])
  ])

/** With every socket that may be filled in where none is given. */
const withPrivate = (options: EtcdConfig.EtcdOptions): EtcdConfig.EtcdOptions => ({
  listenClientUrls: [privateClientUrl],
  listenPeerUrls: [privatePeerUrl],
  listenClientHttpUrls: [privateHttpUrl(options.name ?? "default")],
  ...options
})

/** A directory for a node with that configuration, which may outlive it. */
export const makeHome = (given: EtcdConfig.EtcdOptions): Making<string> =>
  Effect.map(makeRunDirectory(socketsOf(withPrivate(given))), ({ runDirectory }) => runDirectory)

/** A name is no path. */
export const dataDirectoryOf = (name: string): string => `${name.replaceAll(/[/\\]/g, encodeURIComponent)}.etcd`

/** Fails with every problem of the configuration before anything but a guard and a temporary directory has been made. */
export const make = (
  given: EtcdConfig.EtcdOptions,
  version: SemVer.SemVer,
  options: { readonly runDirectory?: string | undefined; readonly runDirectoryIsTemporary?: boolean | undefined }
): Making<Place> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const wanted = yield* Sockets.choosePorts(given)
    const { guard, runDirectory } =
      options.runDirectory === undefined
        ? yield* makeRunDirectory(socketsOf(withPrivate(wanted)))
        : yield* guarded(path.resolve(options.runDirectory), options.runDirectoryIsTemporary === true)
    const dataDir =
      wanted.dataDir === undefined
        ? path.join(runDirectory, dataDirectoryOf(wanted.name ?? "default"))
        : path.resolve(wanted.dataDir)
    const config = yield* EtcdConfig.resolve(wanted, { version, dataDir })
    const names = socketsOf(config.options)
    const problem = tooLong(runDirectory, names)
    if (problem !== undefined) return yield* Effect.fail(problem)
    yield* Effect.mapError(
      fs.makeDirectory(dataDir, { recursive: true, mode: 0o700 }),
      Failures.systemFailure(`create the data directory ${dataDir}`)
    )
    return { config, runDirectory, guard, sockets: names.map((name) => Sockets.pathOf(runDirectory, name)) }
  })

/**
 * Puts aside what a member that was killed in its beginning has left, where that is a log that has nothing in it: etcd that
 * starts with it begins nothing. Whoever is in its beginning just now, in another process, has written into it by the end of
 * the pause.
 */
export const beginAnew = Effect.fnUntraced(function* (
  { dataDir, options: { walDir } }: EtcdConfig.Resolved,
  pause: Effect.Effect<void>
) {
  const directories = { dataDir, walDir }
  const wal = Owner.walDirOf(yield* Path.Path, directories)
  // Of what cannot be read etcd says itself what is wrong.
  const isBlank = Effect.match(Owner.owner(wal), {
    onSuccess: Option.exists((owner) => owner !== "unreadable" && owner.isBlank),
    onFailure: () => false
  })
  if (!(yield* isBlank)) return
  yield* pause
  if (!(yield* isBlank)) return
  yield* Effect.mapError(Owner.putAside(directories), Failures.systemFailure(`put aside the data in ${dataDir}`))
})
