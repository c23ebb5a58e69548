/**
 * How patient watches are. All of it is real time. A test that cannot wait so long puts its own in place.
 *
 * @internal
 */
import * as Context from "effect/Context"

export interface Settings {
  /** How often a call asks how far its watches are, about. */
  readonly progressIntervalMillis: number
  /** How long a server may take to take a watch, from when it was asked, or has taken the one before. */
  readonly createdMillis: number
  /** How long a read may take that a watch needs, a page of a snapshot for example; twice as long at each try. */
  readonly readMillis: number
  /** How long a server may take to say which version it is, when it is asked for progress. */
  readonly askMillis: number
  /** How long a call is kept that has no watch. */
  readonly lingerMillis: number
}

export const Settings: Context.Reference<Settings> = Context.Reference("effect-etcd/WatchSettings", {
  defaultValue: () => ({
    progressIntervalMillis: 30_000,
    createdMillis: 10_000,
    readMillis: 30_000,
    askMillis: 5_000,
    lingerMillis: 1_000
  })
})
