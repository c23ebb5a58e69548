/**
 * What a program's configuration, or its environment, says of where things are.
 *
 * @internal
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as EtcdProcessError from "../../EtcdProcessError.ts"

const homedir = (): string => globalThis.process.getBuiltinModule("node:os").homedir()

export const isWindows = globalThis.process.platform === "win32"

/** Without it, etcd refuses to say even its version where its makers do not support the architecture. */
export const architectureVariable = "ETCD_UNSUPPORTED_ARCH"

const isWithheld = (name: string): boolean => name.startsWith("ETCD_") && name !== architectureVariable

/** The options of etcd in the environment of this process, which are not for an etcd that it starts. */
export const withheldVariables = (): Record<string, undefined> =>
  Object.fromEntries(
    Object.keys(globalThis.process.env)
      .filter(isWithheld)
      .map((name) => [name, undefined])
  )

/** Options of `etcdctl` and `etcdutl` in the environment of this process, which are not for those that it starts. */
export const toolVariables = (): Record<string, string | undefined> => ({
  ...withheldVariables(),
  ...Object.fromEntries(
    Object.keys(globalThis.process.env)
      .filter((name) => /^ETCD(CTL|UTL)_/.test(name))
      .map((name) => [name, undefined])
  ),
  // Where that is to be said, which is up to 3.5.
  ETCDCTL_API: "3"
})

/**
 * A setting from the `ConfigProvider`, or from the process environment where the provider does not have it (it may be
 * a program's own configuration file, which knows nothing of a `PATH`). Empty counts as not set.
 */
export const setting = (name: string): Effect.Effect<string | undefined, EtcdProcessError.EtcdProcessError> =>
  Effect.gen(function* () {
    const configured = yield* Config.option(Config.String(name))
    const value = Option.getOrElse(configured, () => globalThis.process.env[name])
    return value === "" ? undefined : value
  }).pipe(
    Effect.mapError((cause) =>
      EtcdProcessError.make(
        new EtcdProcessError.SystemFailure({
          message: `The setting ${name} could not be read from the ConfigProvider: ${cause.message}`,
          cause
        })
      )
    )
  )

/** See `EtcdBinary.cacheDirectory`. */
export const cacheDirectory: Effect.Effect<string, EtcdProcessError.EtcdProcessError, Path.Path> = Effect.gen(
  function* () {
    const path = yield* Path.Path
    const xdg = yield* setting("XDG_CACHE_HOME")
    if (xdg !== undefined && path.isAbsolute(xdg)) return path.join(xdg, "effect-etcd")
    if (isWindows) {
      const local = yield* setting("LOCALAPPDATA")
      return path.join(local ?? path.join(homedir(), "AppData", "Local"), "effect-etcd")
    }
    const home = (yield* setting("HOME")) ?? homedir()
    return globalThis.process.platform === "darwin"
      ? path.join(home, "Library", "Caches", "effect-etcd")
      : path.join(home, ".cache", "effect-etcd")
  }
)
