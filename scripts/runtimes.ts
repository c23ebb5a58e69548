/**
 * A step of `npm run check`: the package as it is published, in each runtime that it says it runs in.
 *
 * The runtimes are large, so they are no dependencies of the library: `test/runtimes` has a `package.json` and a lock of its
 * own, and they are installed there when they are needed, once for each lock.
 */
import { spawn, spawnSync } from "node:child_process"
import { copyFileSync, existsSync, readFileSync, writeFileSync } from "node:fs"
import { join, resolve } from "node:path"
import process from "node:process"

const home = resolve("test", "runtimes")
const lock = join(home, "package-lock.json")
const installed = join(home, "node_modules", ".installed")
const program = "suite.mjs"
const certificates = resolve("test", "fixtures", "tls")

const inHome = (...path: ReadonlyArray<string>): string => join(home, "node_modules", ...path)

/** How a program is run in each. The oldest Node.js is the one that `engines` names. */
const runtimes: Readonly<Record<string, readonly [command: string, ...args: ReadonlyArray<string>]>> = {
  "Node.js 24": [process.execPath],
  "Node.js 22": [inHome("node-22", "bin", "node")],
  Bun: [inHome(".bin", "bun")],
  // It is to find what is there, as Node.js does, and to write no lock.
  Deno: [inHome(".bin", "deno"), "run", "--allow-all", "--node-modules-dir=manual", "--no-lock"]
}

/** Whether they are there as the lock says. */
const install = (): boolean => {
  const wanted = readFileSync(lock, "utf8")
  if (existsSync(installed) && readFileSync(installed, "utf8") === wanted) return true
  console.log("installing the runtimes (about 380 MB, once) …")
  const { status } = spawnSync("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: home,
    stdio: "inherit",
    shell: process.platform === "win32"
  })
  if (status !== 0) {
    console.error("The runtimes could not be installed from the npm registry, so the package was not run in them.")
    return false
  }
  writeFileSync(installed, wanted)
  return true
}

interface Told {
  readonly runtime: string
  readonly version: string
  readonly results: Readonly<Record<string, string>>
}

interface Outcome {
  readonly name: string
  readonly told: Told | undefined
  readonly problem: string
}

const patienceMillis = 120_000

const run = (name: string, directory: string): Promise<Outcome> =>
  new Promise((resolve) => {
    const [command, ...args] = runtimes[name]!
    const child = spawn(command, [...args, program, certificates], {
      cwd: directory,
      stdio: ["ignore", "pipe", "pipe"]
    })
    let output = ""
    let problem = ""
    child.stdout.on("data", (chunk) => {
      output += chunk
    })
    child.stderr.on("data", (chunk) => {
      problem += chunk
    })
    const timer = setTimeout(() => {
      problem += `\nit has not ended after ${patienceMillis / 1000} seconds`
      child.kill("SIGKILL")
    }, patienceMillis)
    const end = (last: string, hasSucceeded = false) => {
      clearTimeout(timer)
      const line = output.split("\n").find((text) => text.startsWith("{"))
      const told: Told | undefined = line === undefined || !hasSucceeded ? undefined : JSON.parse(line)
      resolve({ name, told, problem: told === undefined ? `${last}\n${output}${problem}` : "" })
    }
    child.once("error", (error) => end(String(error)))
    child.once("close", (code, signal) => end(`it ended with ${signal ?? code}`, code === 0))
  })

/** Runs the suite in all of them. `directory` has the package, and what it needs, in its `node_modules`. */
export const inAllRuntimes = async (directory: string): Promise<boolean> => {
  if (!install()) return false
  copyFileSync(join(home, program), join(directory, program))
  const outcomes = await Promise.all(Object.keys(runtimes).map((name) => run(name, directory)))
  const parts = new Set(outcomes.flatMap(({ told }) => Object.keys(told?.results ?? {})))
  let passed = parts.size > 0
  for (const { name, problem, told } of outcomes) {
    const failed = [...parts].filter((part) => told?.results[part] !== "ok")
    if (told === undefined) console.error(`${name}: ${problem}`)
    else for (const part of failed) console.error(`${name} ${told.version}: ${part}: ${told.results[part]}`)
    if (failed.length > 0 || told === undefined) passed = false
    else console.log(`${name} (${told.version}): ${parts.size} of ${parts.size}`)
  }
  return passed
}
