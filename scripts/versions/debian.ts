/**
 * Debian's packages, through the mirror that apt is configured with, unpacked and not installed. apt runs with lists of
 * its own and verifies all it fetches; the system's lists and packages stay as they are.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import { cached, failed, run, type Source, say, tools, within } from "./source.ts"

/** Debian's releases whose etcd is 3.4 or newer, oldest first. */
const suites = ["bookworm", "trixie", "forky", "sid"]

const aptConfig = (directory: string) => `#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::State "${directory}/state";
Dir::State::status "${directory}/status";
Dir::Cache "${directory}/cache";
Dir::Etc::sourcelist "${directory}/sources.list";
Dir::Etc::sourceparts "${directory}/none";
Dir::Etc::preferences "${directory}/no-preferences";
Dir::Etc::preferencesparts "${directory}/none";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
APT::Sandbox::User "root";
`

const debianKeyrings = ["gpg", "pgp"].map((kind) => `/usr/share/keyrings/debian-archive-keyring.${kind}`)

/** The addresses of the repositories that apt is configured with, in either format of its sources, for a Debian suite. */
const mirrors = Effect.gen(function* () {
  const known = [...suites, "bullseye", "stable", "oldstable", "testing", "unstable"]
  const uris = yield* run("apt-get", ["update", "--print-uris"])
  const found = [...uris.matchAll(/^'(.+)\/dists\/([^/']+)\/InRelease'/gm)].flatMap(([, base, suite]) =>
    known.includes(suite!) ? [base!] : []
  )
  return found.length > 0 ? [...new Set(found)] : yield* failed("apt has no mirror of Debian configured")
})

const unpackDebian = Effect.fnUntraced(function* (mirror: string, suite: string, directory: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const apt = path.join(directory, "apt")
  yield* fs.remove(apt, { recursive: true, force: true })
  for (const name of ["state/lists/partial", "cache/archives/partial", "none", "packages", "root"]) {
    yield* fs.makeDirectory(path.join(apt, name), { recursive: true })
  }
  const config = path.join(apt, "apt.conf")
  const keyring = (yield* Effect.filter(debianKeyrings, fs.exists))[0]
  const architecture = (yield* run("dpkg", ["--print-architecture"])).trim()
  const settings = [
    "target=Packages",
    `arch=${architecture}`,
    ...(keyring === undefined ? [] : [`signed-by=${keyring}`])
  ].join(" ")
  yield* fs.writeFileString(config, aptConfig(apt))
  yield* fs.writeFileString(path.join(apt, "status"), "")
  yield* fs.writeFileString(path.join(apt, "sources.list"), `deb [${settings}] ${mirror} ${suite} main\n`)
  const packages = path.join(apt, "packages")
  yield* run("apt-get", ["-c", config, "-qq", "update"])
  yield* run("apt-get", ["-c", config, "-qq", "download", "etcd-server", "etcd-client"], { cwd: packages })
  const root = path.join(apt, "root")
  for (const name of yield* fs.readDirectory(packages)) {
    yield* run("dpkg-deb", ["-x", path.join(packages, name), root])
  }
  for (const tool of tools) {
    const from = path.join(root, "usr", "bin", tool)
    if (yield* fs.exists(from)) yield* fs.rename(from, path.join(directory, "bin", tool))
  }
})

/** The etcd of each release of Debian that has 3.4 or newer. */
export const debian = (update: boolean): Effect.Effect<ReadonlyArray<Source>> =>
  Effect.map(Effect.cached(mirrors.pipe(within("30 seconds"))), (mirrorsOnce) =>
    suites.map((suite) => ({
      name: `Debian ${suite}`,
      get: cached(`debian-${suite}`, update, (directory) =>
        Effect.gen(function* () {
          const candidates = yield* mirrorsOnce
          yield* say(`fetching Debian ${suite}'s etcd`)
          yield* Effect.firstSuccessOf(candidates.map((mirror) => unpackDebian(mirror, suite, directory)))
        }).pipe(within("3 minutes"))
      )
    }))
  )
