/**
 * Options that come from Effect's `Config`.
 *
 * @internal
 */
import * as Config from "effect/Config"
import type { ConfigOf } from "../EtcdClient.ts"
import { isPlainObject } from "./json.ts"

/**
 * As `Config.unwrap`, to which an option that is left out must not be `undefined`, and each has to be a `Config`: what is
 * none is taken as it is.
 */
export const unwrap = <T>(wrapped: ConfigOf<T>): Config.Config<T> => {
  if (Config.isConfig(wrapped)) return wrapped as Config.Config<T>
  if (!isPlainObject(wrapped)) return Config.succeed(wrapped as T)
  const given = Object.entries(wrapped).filter(([, one]) => one !== undefined)
  return Config.all(Object.fromEntries(given.map(([name, one]) => [name, unwrap(one)]))) as Config.Config<T>
}
