/**
 * Where the tool may be that restores what an etcd has written, in order.
 *
 * `etcdutl` came with 3.5 (https://etcd.io/docs/v3.5/upgrades/upgrade_3_5/); before, `etcdctl` did it. That revisions can be
 * bumped came with 3.5.10, 3.6.0, and `etcdctl` 3.4.27 (`--bump-revision` in etcd's changelogs). What etcdutl 3.5 restores,
 * etcd 3.4 runs: the files of a member are the same, and what 3.5 has in them besides is ignored (tried with 3.4.23).
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import * as Result from "effect/Result"
import * as SemVer from "effect/SemVer"
import type { EtcdBinary, EtcdUtl, FindUtlOptions } from "../../EtcdBinary.ts"
import * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Json from "../json.ts"
import * as Executable from "./executable.ts"
import * as Package from "./package.ts"
import * as Releases from "./releases.ts"
import { isWindows, setting } from "./settings.ts"
import { probeTool, type ToolName } from "./version.ts"

const isAtLeast = ({ major, minor, patch }: SemVer.SemVer, least: number): boolean =>
  major === 3 && (minor > 5 || (minor === 5 && patch >= 10) || (minor === 4 && patch >= least))

/** Whether a tool of that version can bump revisions. */
export const bumps = (version: SemVer.SemVer): boolean => isAtLeast(version, 27)

const line = ({ major, minor }: SemVer.SemVer): string => `${major}.${minor}`

/** Why a tool does not go with an etcd. */
const misfit = (tool: ToolName, version: SemVer.SemVer, etcd: SemVer.SemVer): string | undefined => {
  if (line(version) === line(etcd)) return undefined
  if (tool === "etcdutl" && line(version) === "3.5" && line(etcd) === "3.4" && bumps(version)) return undefined
  return `is ${tool} ${SemVer.format(version)}, which is not for etcd ${SemVer.format(etcd)}`
}

/** What a file is to an etcd: its tool, or why not. */
const toolAt = Effect.fnUntraced(function* (tool: ToolName, path: string, etcd: EtcdBinary) {
  const file = yield* Executable.runnableAt(path)
  if (Result.isFailure(file)) return Result.fail(file.failure)
  const version = yield* Effect.result(probeTool(tool, file.success))
  if (Result.isFailure(version)) {
    return Result.fail<Executable.Unusable>({ why: `cannot be used: ${version.failure.message}`, isMissing: false })
  }
  const why = misfit(tool, version.success, etcd.version)
  if (why !== undefined) return Result.fail<Executable.Unusable>({ why, isMissing: false })
  const found: EtcdUtl = Json.answer({
    path,
    version: version.success,
    tool,
    bumpsRevisions: bumps(version.success)
  })
  return Result.succeed(found)
})

const variables = { etcdutl: "ETCDUTL_BINARY", etcdctl: "ETCDCTL_BINARY" } as const

/** What is not there without it. */
const without =
  "Without it no snapshot can be restored, and no cluster recovered that has lost its quorum (`restore` and `recover` of " +
  "EtcdCluster), and of a snapshot no more is known than whether its checksum is right. All else works."

const notFound = (etcd: EtcdBinary, searched: ReadonlyArray<string>) => {
  const version = SemVer.format(etcd.version)
  const is34 = line(etcd.version) === "3.4"
  const packaged = Package.hostPackage()
  const what = is34 ? "etcdutl 3.5 (from 3.5.10 on), nor an etcdctl 3.4," : `etcdutl ${line(etcd.version)}`
  return EtcdProcessError.make(
    new EtcdProcessError.BinaryNotFound({
      message: [
        `No ${what} was found for etcd ${version} (${etcd.path}). ${without} Looked for:`,
        ...searched.map((place) => `  - ${place}`),
        "Any one of these provides it:",
        ...(packaged === undefined || line(SemVer.parseUnsafe(packaged.version)) !== line(etcd.version)
          ? []
          : [`  - the package ${packaged.name}, which comes with effect-etcd unless optional packages are left out`]),
        "  - Debian and Ubuntu: apt-get install etcd-client, of the release that has that etcd",
        `  - a release from ${Releases.releasesPage}, which has it beside its etcd; or ETCDUTL_BINARY set to it`,
        '  - `binary: "fetch"`, or EtcdBinary.fetch, which fetch all of a release'
      ].join("\n"),
      searched
    })
  )
}

/** The tool that somebody named: it is used, or it is an error. */
const named = Effect.fnUntraced(function* (source: string, tool: ToolName, value: string, etcd: EtcdBinary) {
  const path = (yield* Path.Path).resolve(value)
  const found = yield* toolAt(tool, path, etcd)
  if (Result.isSuccess(found)) return found.success
  return yield* Effect.fail(
    EtcdProcessError.make(
      new EtcdProcessError.BinaryNotFound({
        message: `${source} is ${JSON.stringify(value)}, which ${found.failure.why}. ${without}`,
        searched: [path]
      })
    )
  )
})

/** See `EtcdBinary.findUtl`. */
export const findUtl = Effect.fnUntraced(function* (etcd: EtcdBinary, options: FindUtlOptions) {
  if (options.path !== undefined) return yield* named("The etcdutl given", "etcdutl", options.path, etcd)
  const configured = yield* setting(variables.etcdutl)
  if (configured !== undefined) return yield* named(variables.etcdutl, "etcdutl", configured, etcd)

  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const real = yield* Effect.orElseSucceed(fs.realPath(etcd.path), () => etcd.path)
  const onPath = ((yield* setting("PATH")) ?? "").split(isWindows ? ";" : ":").filter((directory) => directory !== "")
  const packaged = yield* Package.executables()
  const beside = [path.dirname(etcd.path), path.dirname(real), ...(packaged === undefined ? [] : [packaged])]
  const directories = [...new Set([...beside, ...onPath])]
  const searched: Array<string> = [`${variables.etcdutl} (not set)`]

  const searchFor = Effect.fnUntraced(function* (tool: ToolName) {
    for (const directory of directories) {
      const candidate = path.resolve(directory, Releases.executableName(tool, isWindows ? "windows" : ""))
      const found = yield* toolAt(tool, candidate, etcd)
      if (Result.isSuccess(found)) return found.success
      searched.push(found.failure.isMissing ? candidate : `${candidate}, which ${found.failure.why}`)
    }
    return undefined
  })

  const found = yield* searchFor("etcdutl")
  if (found !== undefined) return found
  if (line(etcd.version) === "3.4") {
    const ctl = yield* setting(variables.etcdctl)
    if (ctl !== undefined) return yield* named(variables.etcdctl, "etcdctl", ctl, etcd)
    const old = yield* searchFor("etcdctl")
    if (old !== undefined) return old
  }
  return yield* Effect.fail(notFound(etcd, searched))
})
