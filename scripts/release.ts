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

const spawned = (command: string, args: ReadonlyArray<string>): number => {
  const { error, status } = spawnSync(command, args, { cwd: root, stdio: "inherit" })
  if (error !== undefined) console.error(error.message)
  return status ?? 1
}

/**
 * Takes one step after the other, until one ends with another code than 0. What npm puts into `package.json` to publish the
 * library it takes out when it has, and not where it could not.
 */
export const taken = (dryRun: boolean, run: typeof spawned): number => {
  const failure = steps(dryRun)
    .values()
    .map(([command, ...args]) => run(command!, args))
    .find((status) => status !== 0)
  const takingOut = run(process.execPath, [join("scripts", "packages", "optional.ts")])
  return failure ?? takingOut
}

const release = (dryRun: boolean): number => {
  const reasons = unfinished(root)
  for (const reason of reasons) console.error(`not to be published: ${reason}`)
  return reasons.length > 0 && !dryRun ? 1 : taken(dryRun, spawned)
}

if (import.meta.main) {
  const args = process.argv.slice(2).filter((arg) => arg !== "")
  const isKnown = args.every((arg) => arg === "--dry-run")
  if (!isKnown) console.error("usage: npm run release [-- --dry-run]")
  process.exitCode = isKnown ? release(args.length > 0) : 1
}
