/**
 * The repo's commands, from a bare clone: `node scripts/run.mjs <command> [arguments]`, where the command is `setup`,
 * `demo`, `test`, `test:long`, `guides`, `test:matrix`, `exclusion`, `elastic`, `torture`, `etcd:versions`, `packages`,
 * `bench`, `check`, `docs` or `release`.
 *
 * Installs the npm packages where they are missing or stale, makes sure that there is an etcd, and then runs the
 * command on the repo's own Node.js. It uses nothing but Node.js 20 and npm, and says nothing when all is there.
 */
import { spawn, spawnSync } from "node:child_process"
import {
  accessSync,
  constants,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync
} from "node:fs"
import { homedir } from "node:os"
import { basename, delimiter, dirname, isAbsolute, join, resolve, sep } from "node:path"
import { fileURLToPath } from "node:url"

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..")
const modules = join(root, "node_modules")
const isWindows = process.platform === "win32"
const exe = isWindows ? ".exe" : ""

const say = (line) => process.stderr.write(`effect-etcd: ${line}\n`)

const stop = (line) => {
  say(line)
  process.exit(1)
}

const isExecutable = (path) => {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

const pathDirectories = () => (process.env.PATH ?? "").split(delimiter).filter((directory) => directory !== "")

const onPath = (name, isWanted = () => true) =>
  pathDirectories()
    .filter(isWanted)
    .map((directory) => join(directory, name))
    .find(isExecutable)

/** Runs a step of the set-up, with its output on stderr. A signal that ends the step ends everything. */
const step = (command, args, options = {}) => {
  const result = spawnSync(command, args, { cwd: root, stdio: ["ignore", 2, 2], ...options })
  if (result.signal !== null && result.error === undefined) process.kill(process.pid, result.signal)
  return result
}

// -----------------------------------------------------------------------------
// npm packages
// -----------------------------------------------------------------------------

const readLock = (path) => JSON.parse(readFileSync(path, "utf8")).packages

/** Why `npm ci` is needed in the folder, or nothing. */
const staleness = (folder) => {
  const installedLock = join(folder, "node_modules", ".package-lock.json")
  if (!existsSync(installedLock)) return "not installed yet"
  const installed = readLock(installedLock)
  const stale = Object.entries(readLock(join(folder, "package-lock.json"))).find(
    ([path, wanted]) => path !== "" && !wanted.optional && installed[path]?.version !== wanted.version
  )
  return stale === undefined ? undefined : `${stale[0].slice(stale[0].lastIndexOf("node_modules/") + 13)} is stale`
}

/** The Node.js outside of node_modules: `npm ci` removes the one inside. */
const systemNode = () =>
  onPath(`node${exe}`, (directory) => !resolve(directory).startsWith(modules + sep)) ?? process.execPath

const npm = (args, cwd) => {
  const cli = process.env.npm_execpath
  if (cli !== undefined && /\.c?js$/.test(cli)) return step(systemNode(), [cli, ...args], { cwd })
  return step("npm", args, { cwd, shell: isWindows })
}

const ownNode = join(modules, "node", "bin", `node${exe}`)

/** The package `node` gets its executable in an install script, which npm may be configured not to run. */
const installOwnNode = () => {
  const folder = join(modules, "node")
  const script = join(folder, "installArchSpecificPackage.js")
  if (existsSync(script)) step(systemNode(), [script], { cwd: folder })
  if (!isExecutable(ownNode)) stop("the npm package `node` could not be set up; remove node_modules and try again")
}

const ensurePackages = (folder) => {
  const reason = staleness(folder)
  if (reason === undefined) return
  say(`installing npm packages${folder === root ? "" : ` of ${basename(folder)}/`} (${reason})`)
  const result = npm(["ci", "--no-audit", "--no-fund", "--loglevel=error"], folder)
  if (result.status !== 0) stop(`npm ci failed${result.error === undefined ? "" : ` (${result.error.message})`}`)
}

// -----------------------------------------------------------------------------
// etcd
// -----------------------------------------------------------------------------

/** As `EtcdBinary.cacheDirectory`. */
const cacheDirectory = () => {
  const xdg = process.env.XDG_CACHE_HOME ?? ""
  if (isAbsolute(xdg)) return join(xdg, "effect-etcd")
  if (isWindows) return join(process.env.LOCALAPPDATA || join(homedir(), "AppData", "Local"), "effect-etcd")
  return process.platform === "darwin"
    ? join(homedir(), "Library", "Caches", "effect-etcd")
    : join(homedir(), ".cache", "effect-etcd")
}

const hasCachedEtcd = () => {
  const platform = `${isWindows ? "windows" : process.platform}-${process.arch === "x64" ? "amd64" : process.arch}`
  const directory = cacheDirectory()
  return (
    existsSync(directory) &&
    readdirSync(directory).some(
      (name) =>
        name.startsWith("etcd-v") && name.includes(platform) && isExecutable(join(directory, name, `etcd${exe}`))
    )
  )
}

/** Whether `EtcdBinary.find` has something to go by. What `ETCD_BINARY` names is for it to judge. */
const hasEtcd = () => Boolean(process.env.ETCD_BINARY) || onPath(`etcd${exe}`) !== undefined || hasCachedEtcd()

const policyFile = "/usr/sbin/policy-rc.d"

/**
 * Runs `install` while no package may start a service. What the system says about that otherwise is put aside and back
 * (https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt: 101 is "not allowed").
 */
const withoutServices = (install) => {
  const aside = `${policyFile}.effect-etcd`
  const had = existsSync(policyFile)
  if (had) renameSync(policyFile, aside)
  try {
    writeFileSync(policyFile, "#!/bin/sh\nexit 101\n", { mode: 0o755 })
    return install()
  } finally {
    rmSync(policyFile, { force: true })
    if (had) renameSync(aside, policyFile)
  }
}

const isDebianAsRoot = () =>
  process.getuid?.() === 0 && existsSync("/etc/debian_version") && onPath("apt-get") !== undefined

/** Installs Debian's etcd, and answers why that failed, if it did. */
const installWithApt = () => {
  say("installing etcd-server with apt-get")
  const apt = (...args) =>
    spawnSync("apt-get", ["-qq", "-o", "Dpkg::Use-Pty=0", ...args], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C" }
    })
  const update = apt("update")
  const result =
    update.signal !== null
      ? update
      : withoutServices(() => apt("install", "-y", "--no-install-recommends", "etcd-server"))
  if (result.signal !== null) process.kill(process.pid, result.signal)
  if (result.status === 0 && hasEtcd()) return undefined
  const lines = `${result.stdout}${result.stderr}`.split("\n").filter((line) => /^[EW]: /.test(line))
  return lines.at(-1) ?? result.error?.message ?? `apt-get ended with status ${result.status}`
}

/** Fetches an official release, and answers why that failed, if it did. */
const fetchRelease = () => {
  say(`fetching an official release of etcd into ${cacheDirectory()}`)
  const result = step(
    ownNode,
    ["--conditions=effect-etcd-source", join(root, "scripts", "fetch-etcd.mjs")],
    // stdout carries the reason of a failure, stderr what a person may watch.
    { stdio: ["ignore", "pipe", 2], encoding: "utf8", env: { NODE_USE_ENV_PROXY: "1", ...process.env } }
  )
  return result.status === 0 ? undefined : result.stdout.trim() || result.error?.message || "it could not be fetched"
}

const tried = (attempt) => {
  try {
    return attempt()
  } catch (error) {
    return error.message
  }
}

const ensureEtcd = () => {
  if (hasEtcd()) return
  const failures = []
  const attempts = isDebianAsRoot() ? [installWithApt, fetchRelease] : [fetchRelease]
  for (const attempt of attempts) {
    const failure = tried(attempt)
    if (failure === undefined) return
    failures.push(failure)
  }
  stop(
    [
      "there is no etcd on this machine, and it could not be had:",
      ...failures.map((failure) => `  - ${failure}`),
      "Any one of these provides it:",
      "  - Debian and Ubuntu: apt-get install etcd-server (this command does it itself when run as root)",
      "  - macOS: brew install etcd",
      "  - a release from https://github.com/etcd-io/etcd/releases, with ETCD_BINARY set to its etcd, or etcd on the PATH",
      `  - a network that reaches github.com (a proxy is taken from HTTPS_PROXY): the release then goes into ${cacheDirectory()}`
    ].join("\n")
  )
}

// -----------------------------------------------------------------------------
// commands
// -----------------------------------------------------------------------------

const commands = {
  setup: undefined,
  demo: ["--conditions=effect-etcd-source", join("examples", "demo", "main.ts")],
  exclusion: ["--conditions=effect-etcd-source", join("test", "coordination", "exclusion", "main.ts")],
  elastic: ["--conditions=effect-etcd-source", join("test", "elastic", "main.ts")],
  torture: ["--conditions=effect-etcd-source", join("test", "torture", "main.ts")],
  bench: ["--conditions=effect-etcd-source", join("benchmark", "main.ts")],
  check: [join("scripts", "check.ts")],
  test: [join("node_modules", "vitest", "vitest.mjs"), "run", "--project=unit", "--project=etcd"],
  "test:long": [join("node_modules", "vitest", "vitest.mjs"), "run", "--project=long"],
  guides: [join("node_modules", "vitest", "vitest.mjs"), "run", "--project=guides"],
  "test:matrix": ["--conditions=effect-etcd-source", join("scripts", "matrix.ts")],
  "etcd:versions": ["--conditions=effect-etcd-source", join("scripts", "etcd-versions.ts")],
  packages: ["--conditions=effect-etcd-source", join("scripts", "packages", "main.ts")],
  docs: [join("scripts", "docs.ts")],
  release: [join("scripts", "release.ts")]
}

/** The commands that need no etcd, or get what they need themselves. */
const withoutEtcd = ["docs", "release", "test:matrix", "etcd:versions", "packages"]

/** The commands that make the API site, for which `site/` has packages of its own. */
const withSite = ["check", "docs"]

/** Becomes the command as far as that is possible: its input and output, its signals and its exit code. */
const become = (args) => {
  const path = [join(modules, ".bin"), ...pathDirectories()].join(delimiter)
  const child = spawn(ownNode, args, { cwd: root, stdio: "inherit", env: { ...process.env, PATH: path } })
  const forward = (signal) => child.kill(signal)
  process.on("SIGTERM", forward)
  process.on("SIGHUP", forward)
  // A terminal sends Ctrl-C to the command as well.
  process.on("SIGINT", (signal) => process.stdin.isTTY || forward(signal))
  child.on("error", (error) => stop(`${ownNode} could not be run (${error.message})`))
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
  })
}

const [command, ...args] = process.argv.slice(2)
if (!Object.hasOwn(commands, command ?? "")) {
  stop(`usage: node scripts/run.mjs <${Object.keys(commands).join(" | ")}> [arguments]`)
}
ensurePackages(root)
if (!isExecutable(ownNode)) installOwnNode()
if (withSite.includes(command)) ensurePackages(join(root, "site"))
if (!withoutEtcd.includes(command)) ensureEtcd()
if (commands[command] !== undefined) become([...commands[command], ...args])
