/**
 * A program in a process of its own, for what befalls etcd when its host dies.
 */
import { spawn } from "node:child_process"
import * as Effect from "effect/Effect"

const preamble = `
import { execFileSync } from "node:child_process"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdProcess from "effect-etcd/EtcdProcess"
const say = (value) => console.log("said " + JSON.stringify(value))
const pidOf = (node) => Effect.map(node.pid, Option.getOrThrow)
const program = Effect.gen(function*() {
`

const end = `
  yield* Effect.never
})
NodeRuntime.runMain(program.pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
`

export interface Host {
  /** What the program says first. */
  readonly said: any
  /** SIGKILL. */
  readonly kill: Effect.Effect<void>
}

/** Runs the body of an `Effect.gen`, in which there are `EtcdProcess`, `say` and `pidOf`, until the scope closes. */
export const host = (
  body: string,
  options: { readonly env?: NodeJS.ProcessEnv | undefined; readonly by?: ReadonlyArray<string> | undefined } = {}
) =>
  Effect.gen(function* () {
    const node = [process.execPath, "--conditions=effect-etcd-source", "--input-type=module", "--eval"]
    const [command = "", ...args] = [...(options.by ?? []), ...node, preamble + body + end]
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(command, args, { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ...options.env } })
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    const line = yield* Effect.callback<string>((resume) => {
      let text = ""
      child.stdout.on("data", (data) => {
        text += data
        const line = /(?<=^said ).*(?=\n)/m.exec(text)
        if (line !== null) resume(Effect.succeed(line[0]))
      })
      // Not when it has ended: what it said may still be under way.
      child.once("close", (code) => resume(Effect.die(`the host ended with ${code}`)))
    })
    return { said: JSON.parse(line), kill: Effect.sync(() => void child.kill("SIGKILL")) } satisfies Host
  })
