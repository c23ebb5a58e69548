/**
 * Fails when `src/internal/proto` is not what `buf generate` makes of `proto/`.
 *
 * Works offline: buf and the plugin come from `node_modules`. With `--write` it brings the files up to date instead.
 */
import { spawnSync } from "node:child_process"
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import process from "node:process"

const root = join(import.meta.dirname, "..")
const committed = join(root, "src", "internal", "proto")

const generate = (out: string): void => {
  const bin = join(root, "node_modules", ".bin")
  const result = spawnSync(join(bin, "buf"), ["generate", "--output", out], {
    cwd: root,
    stdio: "inherit",
    shell: process.platform === "win32",
    env: { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH ?? ""}` }
  })
  if (result.status !== 0) {
    throw new Error(`buf generate failed (exit code ${result.status}); run npm install first`, { cause: result.error })
  }
}

const contents = (directory: string): Map<string, string> =>
  new Map(readdirSync(directory).map((name) => [name, readFileSync(join(directory, name), "utf8")]))

const firstDifference = (fresh: string, stale: string): string => {
  const staleLines = stale.split("\n")
  const freshLines = fresh.split("\n")
  const line = freshLines.findIndex((text, index) => text !== staleLines[index])
  const at = line === -1 ? freshLines.length : line
  return `line ${at + 1}:\n  - ${staleLines[at] ?? "(end of file)"}\n  + ${freshLines[at] ?? "(end of file)"}`
}

const compare = (fresh: Map<string, string>, stale: Map<string, string>): Array<string> =>
  [...new Set([...fresh.keys(), ...stale.keys()])].sort().flatMap((name) => {
    const after = fresh.get(name)
    const before = stale.get(name)
    if (after === before) return []
    if (before === undefined) return [`${name} is missing`]
    if (after === undefined) return [`${name} comes from no .proto file`]
    return [`${name} is stale, ${firstDifference(after, before)}`]
  })

const temporary = mkdtempSync(join(tmpdir(), "effect-etcd-generated-"))
process.on("exit", () => rmSync(temporary, { recursive: true, force: true }))

generate(temporary)
const fresh = join(temporary, "src", "internal", "proto")

if (process.argv.includes("--write")) {
  rmSync(committed, { recursive: true, force: true })
  cpSync(fresh, committed, { recursive: true })
} else {
  const problems = compare(contents(fresh), contents(committed))
  if (problems.length > 0) {
    console.error(`The generated code does not fit proto/. Run: node scripts/check-generated.ts --write\n`)
    for (const problem of problems) console.error(problem)
    process.exitCode = 1
  }
}
