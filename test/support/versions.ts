/**
 * Executables of several versions of etcd, as `npm run etcd:versions` has got them: for tests of how one follows another.
 */
import { execFileSync } from "node:child_process"
import { existsSync, readdirSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import * as SemVer from "effect/SemVer"

const directory = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "effect-etcd", "versions")

export interface Executable {
  readonly path: string
  readonly version: SemVer.SemVer
}

const versionOf = (path: string): SemVer.SemVer =>
  SemVer.parseUnsafe(/etcd Version: (\S+)/.exec(String(execFileSync(path, ["--version"])))![1]!)

/** The oldest first. */
export const executables: ReadonlyArray<Executable> = (existsSync(directory) ? readdirSync(directory) : [])
  .map((name) => join(directory, name, "etcd"))
  .filter((path) => existsSync(path))
  .map((path) => ({ path, version: versionOf(path) }))
  .sort((one, other) => SemVer.Order(one.version, other.version))

/** What goes through several versions is tested once, with the newest of them: no other run of the matrix adds to that. */
export const isWithNewest = executables.at(-1)?.path === process.env.ETCD_BINARY

/** The newest of a minor version; nothing, where there is none on this machine. */
export const newest = (minor: number): string | undefined =>
  executables.findLast(({ version }) => version.minor === minor)?.path

/** The oldest of a minor version. */
export const oldest = (minor: number): Executable | undefined =>
  executables.find(({ version }) => version.minor === minor)

/** The newest of each minor version to go through, the oldest first; none where another run does that. */
export const lines: ReadonlyArray<string> = isWithNewest ? [4, 5, 6, 7].flatMap((minor) => newest(minor) ?? []) : []
