/**
 * `npm run release`: publishes the packages that bring etcd, and then the library that depends on them. What is published
 * already is left as it is, so a run that broke off is run again. `-- --dry-run` does all but publish.
 *
 * It publishes only what the changelog has under its version, and has no changeset for.
 */
import { spawnSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import process from "node:process"

const root = join(import.meta.dirname, "..")

/** Why what is in the directory is not to be published yet. */
export const unfinished = (directory: string): ReadonlyArray<string> => {
  const { version } = JSON.parse(readFileSync(join(directory, "package.json"), "utf8"))
  const newest = /^## (.*)$/m.exec(readFileSync(join(directory, "CHANGELOG.md"), "utf8"))?.[1]
  const changesets = readdirSync(join(directory, ".changeset")).filter(
    (name) => name.endsWith(".md") && name !== "README.md"
  )
  return [
    ...(newest === version ? [] : [`CHANGELOG.md begins with "${newest}", and package.json has ${version}`]),
    ...(changesets.length === 0
      ? []
      : [`there are changesets, so \`npm run version\` comes first: ${changesets.join(", ")}`])
  ]
}

const steps = (dryRun: boolean): ReadonlyArray<ReadonlyArray<string>> => [
  ["npm", "run", "packages", "--", "build"],
  ["npm", "run", "packages", "--", "publish", ...(dryRun ? ["--dry-run"] : [])],
  dryRun ? ["npm", "publish", "--dry-run"] : ["changeset", "publish"]
]

const release = (dryRun: boolean): number => {
  const reasons = unfinished(root)
  for (const reason of reasons) console.error(`not to be published: ${reason}`)
  if (reasons.length > 0 && !dryRun) return 1
  for (const [command, ...args] of steps(dryRun)) {
    const { status } = spawnSync(command!, args, { cwd: root, stdio: "inherit" })
    if (status !== 0) return status ?? 1
  }
  return 0
}

if (import.meta.main) {
  const args = process.argv.slice(2).filter((arg) => arg !== "")
  const isKnown = args.every((arg) => arg === "--dry-run")
  if (!isKnown) console.error("usage: npm run release [-- --dry-run]")
  process.exitCode = isKnown ? release(args.length > 0) : 1
}
