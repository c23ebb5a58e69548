/**
 * Reads the table `etcd` of a TOML file.
 *
 * @internal
 */
import * as Toml from "effect/encoding/Toml"
import * as Result from "effect/Result"
import type * as EtcdProcessError from "../../EtcdProcessError.ts"
import { fail, invalid, isRecord, locateIn, type Reading, readEntries, type Spelling, withoutValue } from "./read.ts"
import * as Table from "./table.ts"

const tomlSpelling = (text: string): Spelling => ({
  keys: Table.keyByName,
  formerly: Table.formerly,
  convert: (kind, value) =>
    typeof value === "number" && value !== 0 && kind.bareNumber === "no unit"
      ? Result.fail(`the number ${value} has no unit; write a duration like "${value}s" or "${value}ms"`)
      : Result.succeed(value),
  locate: locateIn(text)
})

/** Reads the table `etcd` of a TOML document. */
export const read = (text: string, file: string): Result.Result<Reading, EtcdProcessError.EtcdProcessError> => {
  const document = Toml.parse(text)
  if (Result.isFailure(document)) {
    return fail(file, file, `not TOML: ${withoutValue(document.failure.message)}`)
  }
  const table = document.success.etcd
  const stray = Object.keys(document.success).filter((name) => name !== "etcd" && Table.keyByName.has(name))
  const misplaced = stray.map((name) => ({ option: name, message: `belongs below [etcd]${locateIn(text)(name)}` }))
  if (!isRecord(table)) {
    const message = table === undefined ? "has no [etcd] table" : "etcd must be one table, written [etcd]"
    return Result.fail(invalid(file, [{ option: file, message }, ...misplaced]))
  }
  const warnings: Array<string> = []
  const values = readEntries(Object.entries(table), tomlSpelling(text), warnings)
  const problems = [...(Result.isFailure(values) ? values.failure : []), ...misplaced]
  return Result.isFailure(values) || problems.length > 0
    ? Result.fail(invalid(file, problems))
    : Result.succeed({ values: values.success, warnings })
}
