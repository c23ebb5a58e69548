/**
 * A project of somebody who has Node.js and nothing else: an empty directory, an empty `PATH`, and a home of its own.
 */
import { type ChildProcess, execFile } from "node:child_process"
import { existsSync, realpathSync } from "node:fs"
import { delimiter, join } from "node:path"
import process from "node:process"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import { PackageError } from "./build.ts"

export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface Project {
  readonly directory: string
  /** Runs Node.js there, with these variables in its environment. */
  readonly node: (args: ReadonlyArray<string>, variables?: Record<string, string>) => Effect.Effect<Ran>
  /** Runs npm there, and fails with what it says if it fails. */
  readonly npm: (...args: ReadonlyArray<string>) => Effect.Effect<Ran, PackageError>
}

/** npm's program: of the npm that runs this, or else of the one on the `PATH`. */
const npmProgram = Effect.suspend(() => {
  const given = process.env.npm_execpath ?? ""
  const onPath = (process.env.PATH ?? "").split(delimiter).map((directory) => join(directory, "npm"))
  const programs = [given, ...onPath.filter((path) => existsSync(path)).map((path) => realpathSync(path))]
  const found = programs.find((path) => path.endsWith("npm-cli.js"))
  return found === undefined ? Effect.fail(new PackageError({ message: "there is no npm" })) : Effect.succeed(found)
})

/** How long a program may take to end by itself, in milliseconds. */
const patienceMillis = 5000

/** Ends a program, and waits until it has ended. */
const ended = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const timer = setTimeout(() => child.kill("SIGKILL"), patienceMillis)
    child.once("close", () => {
      clearTimeout(timer)
      resume(Effect.void)
    })
    child.kill()
  })

/** Makes one, with a `package.json` and what npm is told in its environment. */
export const make = Effect.fnUntraced(function* (manifest: object, settings: Record<string, string>) {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.realPath(yield* fs.makeTempDirectoryScoped({ prefix: "effect-etcd-project-" }))
  const home = `${directory}/home`
  yield* fs.makeDirectory(home)
  yield* fs.writeFileString(`${directory}/package.json`, JSON.stringify({ type: "module", ...manifest }))
  const program = yield* npmProgram
  const node = (args: ReadonlyArray<string>, variables: Record<string, string> = {}) =>
    Effect.callback<Ran>((resume) => {
      const env = { HOME: home, PATH: "", TMPDIR: process.env.TMPDIR ?? "/tmp", ...variables }
      let isClosed = false
      const child = execFile(process.execPath, args, { cwd: directory, env }, (error, stdout, stderr) =>
        resume(Effect.succeed({ code: error === null ? 0 : 1, stdout, stderr }))
      )
      child.once("close", () => {
        isClosed = true
      })
      // Its directory is removed next, in which it may be writing.
      return Effect.suspend(() => (isClosed ? Effect.void : ended(child)))
    })
  const project: Project = {
    directory,
    node,
    npm: (...args) =>
      Effect.flatMap(node([program, ...args], settings), (ran) =>
        ran.code === 0
          ? Effect.succeed(ran)
          : Effect.fail(new PackageError({ message: `npm ${args.join(" ")} failed: ${ran.stderr}${ran.stdout}` }))
      )
  }
  return project
})
