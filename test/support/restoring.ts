/**
 * Restoring a cluster of three, as the members of a local cluster are; and, run as a program, with the settings as its
 * argument, one that kills itself when that is so far.
 */
import { join } from "node:path"
import process from "node:process"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as EtcdBinary from "../../src/EtcdBinary.ts"
import type { Options } from "../../src/EtcdOperations.ts"
import { type Failure, perform, refusal, type Step } from "../../src/internal/operations/operation.ts"
import * as Recover from "../../src/internal/operations/recover.ts"
import * as RestoreCluster from "../../src/internal/operations/restoreCluster.ts"

export const names = ["node0", "node1", "node2"]

export const membersIn = (root: string) =>
  names.map((name) => ({ name, peerUrls: [`unix://${name}.peer:0`], dataDir: join(root, `${name}.etcd`) }))

const options = Effect.fnUntraced(function* (root: string) {
  const etcd = yield* EtcdBinary.find()
  const utl = yield* EtcdBinary.findUtl(etcd)
  return { etcd, utl, members: membersIn(root), workDirectory: root }
})

const operate = Effect.fnUntraced(function* (
  name: string,
  plan: Effect.Effect<ReadonlyArray<Step>, Failure, RestoreCluster.Platform>,
  given: Options | undefined
) {
  const context = yield* Effect.context<RestoreCluster.Platform>()
  return yield* perform({ name, client: undefined, plan: Effect.provideContext(plan, context) }, given)
})

export const restore = Effect.fnUntraced(function* (
  snapshot: string,
  root: string,
  own: Partial<RestoreCluster.FromSnapshot> = {},
  given?: Options
) {
  const of = { ...(yield* options(root)), refuse: refusal("restore"), snapshot, ...own }
  return yield* operate("restore", RestoreCluster.plan(of), given)
})

/** As from a snapshot in which there was nothing to revoke. */
export const restoreClean = Effect.fnUntraced(function* (
  path: string,
  root: string,
  own: Partial<RestoreCluster.Restoring> = {},
  given?: Options
) {
  const of = { ...(yield* options(root)), refuse: refusal("restore"), ...own }
  const clean = Effect.succeed({ path, revision: 1n, leases: 0 })
  return yield* operate(
    "restore",
    RestoreCluster.steps(of, path, "take it as it is", () => clean),
    given
  )
})

export const recover = Effect.fnUntraced(function* (
  root: string,
  own: Partial<Recover.Recovering> = {},
  given?: Options
) {
  const of = { ...(yield* options(root)), refuse: refusal("recover"), ...own }
  return yield* operate("recover", Recover.plan(of), given)
})

/** A file system that dies when so many more changes were made in it: from then on it makes none, as one who was killed. */
export const mortal = (fs: FileSystem.FileSystem) => {
  let left = Number.POSITIVE_INFINITY
  const dying =
    <Args extends ReadonlyArray<any>, A, E, R>(change: (...args: Args) => Effect.Effect<A, E, R>) =>
    (...args: Args) =>
      Effect.suspend(() => (left-- > 0 ? change(...args) : Effect.die("killed")))
  return {
    dieAfter: (changes: number) =>
      Effect.sync(() => {
        left = changes
      }),
    fs: {
      ...fs,
      makeDirectory: dying(fs.makeDirectory),
      rename: dying(fs.rename),
      remove: dying(fs.remove),
      writeFileString: dying(fs.writeFileString)
    } satisfies FileSystem.FileSystem
  }
}

export interface Settings {
  readonly snapshot: string
  readonly root: string
  /** It kills itself when it is told of progress for the time after so many. */
  readonly after: number
}

if (import.meta.main) {
  const { after, root, snapshot } = JSON.parse(process.argv[2]!) as Settings
  let told = 0
  const onProgress = () =>
    Effect.suspend(() => {
      if (told++ < after) return Effect.void
      process.kill(process.pid, "SIGKILL")
      return Effect.never
    })
  restore(snapshot, root, {}, { onProgress }).pipe(Effect.provide(NodeServices.layer), Effect.runPromise)
}
