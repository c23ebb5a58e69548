/**
 * The newest patch of a release line, built from the Go module proxy.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import { cached, failed, run, type Source, say, tools, within } from "./source.ts"

/** The release lines that are built from source. */
const lines = ["3.5", "3.6", "3.7"]

/** The modules whose root packages are the tools. */
const goModules = { etcd: "server", etcdctl: "etcdctl", etcdutl: "etcdutl" } as const

const goModule = (tool: (typeof tools)[number]) => `go.etcd.io/etcd/${goModules[tool]}/v3`

const newestOf = Effect.fnUntraced(function* (line: string, directory: string) {
  const listed = yield* run("go", ["list", "-m", "-versions", goModule("etcd")], { cwd: directory })
  const patches = listed
    .trim()
    .split(/\s+/)
    .filter((word) => /^v\d+\.\d+\.\d+$/.test(word) && word.startsWith(`v${line}.`))
    .map((word) => Number(word.slice(line.length + 2)))
  return patches.length > 0 ? `v${line}.${Math.max(...patches)}` : yield* failed(`there is no ${line} on the proxy`)
})

const buildWithGo = Effect.fnUntraced(function* (line: string, directory: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const env = { GOFLAGS: "-mod=mod", GOWORK: "off", CGO_ENABLED: "0" }
  const go = (...args: ReadonlyArray<string>) => run("go", args, { cwd: directory, env })
  yield* fs.writeFileString(path.join(directory, "go.mod"), "module versions\n")
  const version = yield* newestOf(line, directory)
  yield* say(`building etcd ${version} with Go (this takes minutes, once)`)
  yield* go("get", ...tools.map((tool) => `${goModule(tool)}@${version}`))
  for (const tool of tools) {
    yield* go("build", "-buildvcs=false", "-trimpath", "-o", path.join(directory, "bin", tool), goModule(tool))
  }
})

export const go = (update: boolean): ReadonlyArray<Source> =>
  lines.map((line) => ({
    name: `Go module proxy, newest ${line}`,
    has: line,
    get: cached(`go-${line}`, update, (directory) => buildWithGo(line, directory).pipe(within("15 minutes")))
  }))
