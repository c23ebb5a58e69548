/**
 * `npm run check`: format and lint, types (examples and benchmarks too), imports as the map says, generated code fresh, and the package as it
 * would be published. Every step runs, also after one has failed.
 */
import { spawnSync } from "node:child_process"
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"

const temporary = mkdtempSync(join(tmpdir(), "effect-etcd-check-"))
process.on("exit", () => rmSync(temporary, { recursive: true, force: true }))

const run = (command: string, args: ReadonlyArray<string>): boolean =>
  spawnSync(command, args, { stdio: "inherit", shell: process.platform === "win32" }).status === 0

const packed = (): boolean => {
  if (!run("npm", ["pack", "--silent", "--pack-destination", temporary])) return false
  const tarball = join(temporary, readdirSync(temporary).find((name) => name.endsWith(".tgz")) ?? "")
  return [
    run("publint", ["run", tarball, "--strict"]),
    run("attw", [tarball, "--profile", "esm-only", "--quiet"])
  ].every((passed) => passed)
}

const steps: Record<string, () => boolean> = {
  "format and lint": () => run("biome", ["check", "--error-on-warnings", "."]),
  types: () => run("tsc", ["--noEmit", "-p", "."]),
  map: () => run(process.execPath, [join("scripts", "check-map.ts")]),
  "generated code": () => run(process.execPath, [join("scripts", "check-generated.ts")]),
  package: packed
}

const failed = Object.entries(steps).filter(([name, step]) => {
  const passed = step()
  console.log(`${passed ? "ok" : "FAILED"}: ${name}`)
  return !passed
})
process.exitCode = failed.length === 0 ? 0 : 1
