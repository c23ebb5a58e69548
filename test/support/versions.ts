/**
 * Executables of several versions of etcd, as `npm run etcd:versions` has got them: for tests of how one follows another.
 */
import { execFileSync } from "node:child_process"
import { existsSync, readdirSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
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

/** The newest of a minor version; nothing, where there is none on this machine. */
export const newest = (minor: number): string | undefined =>
  executables.findLast(({ version }) => version.minor === minor)?.path

/** The oldest of a minor version. */
export const oldest = (minor: number): Executable | undefined =>
  executables.find(({ version }) => version.minor === minor)
