/**
 * Go programs of the tests, built where there is a Go toolchain and their modules can be had.
 */
import { spawnSync } from "node:child_process"
import { mkdirSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
import process from "node:process"

export interface Built {
  readonly executable: string | undefined
  /** Why there is none. */
  readonly problem: string
}

/** Where what is built stays, so that Go leaves alone what is up to date. */
const directory = (): string => join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "effect-etcd", "test")

/** Builds the program of a directory, which may take minutes, once. */
export const build = (sources: string, name: string): Built => {
  const executable = join(directory(), name)
  mkdirSync(directory(), { recursive: true })
  const result = spawnSync("go", ["build", "-trimpath", "-buildvcs=false", "-o", executable, "."], {
    cwd: sources,
    env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=readonly", GOWORK: "off", LC_ALL: "C" },
    stdio: ["ignore", "ignore", "pipe"],
    encoding: "utf8",
    timeout: 280_000
  })
  if (result.status === 0) return { executable, problem: "" }
  const problem = result.error === undefined ? result.stderr.trim().split("\n").at(-1)! : "no go in the PATH"
  return { executable: undefined, problem }
}
