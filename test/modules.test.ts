import { execFile } from "node:child_process"
import { readdirSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

const root = join(import.meta.dirname, "..")

/** What a process says that loads nothing but this module. */
const load = (module: string) =>
  Effect.callback<string>((resume) => {
    const child = execFile(
      process.execPath,
      ["--conditions=effect-etcd-source", "--no-warnings", "--eval", `await import("${module}")`],
      { cwd: root },
      (_error, _stdout, stderr) => resume(Effect.succeed(stderr))
    )
    return Effect.sync(() => child.kill())
  })

describe("the modules", () => {
  it.live(
    "can each be imported alone",
    () =>
      Effect.gen(function* () {
        const names = readdirSync(join(root, "src"))
          .filter((name) => name.endsWith(".ts"))
          .map((name) => name.replace(/\.ts$/, ""))
        assert.isAbove(names.length, 20)
        const said = yield* Effect.forEach(
          names,
          (name) => load(name === "index" ? "effect-etcd" : `effect-etcd/${name}`),
          { concurrency: 2 }
        )
        for (const [index, name] of names.entries()) assert.strictEqual(said[index], "", name)
      }),
    60_000
  )
})
