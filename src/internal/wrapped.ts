/**
 * Options that come from Effect's `Config`.
 *
 * @internal
 */
import * as Config from "effect/Config"

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Config.isConfig(value)

const given = (value: unknown): unknown =>
  isRecord(value)
    ? Object.fromEntries(
        Object.entries(value).flatMap(([name, one]) => (one === undefined ? [] : [[name, given(one)] as const]))
      )
    : value

/** As `Config.unwrap`, to which an option that is left out must not be `undefined`. */
export const unwrap = <T>(wrapped: Config.Wrap<T>): Config.Config<T> =>
  Config.unwrap<T>(given(wrapped) as Config.Wrap<T>)
