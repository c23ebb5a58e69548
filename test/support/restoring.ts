/**
 * Restoring a cluster of three, as the members of a local cluster are; and, run as a program, with the settings as its
 * argument, one that kills itself when that is so far.
 */
import { join } from "node:path"
import process from "node:process"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Effect from "effect/Effect"
import * as EtcdBinary from "../../src/EtcdBinary.ts"
import type { Options } from "../../src/EtcdOperations.ts"
import { perform, refusal } from "../../src/internal/operations/operation.ts"
import * as RestoreCluster from "../../src/internal/operations/restoreCluster.ts"

export const names = ["node0", "node1", "node2"]

export const membersIn = (root: string) =>
  names.map((name) => ({ name, peerUrls: [`unix://${name}.peer:0`], dataDir: join(root, `${name}.etcd`) }))

export const restore = Effect.fnUntraced(function* (
  snapshot: string,
  root: string,
  own: Partial<RestoreCluster.FromSnapshot> = {},
  options: Options = {}
) {
  const context = yield* Effect.context<RestoreCluster.Platform>()
  const etcd = yield* EtcdBinary.find()
  const utl = yield* EtcdBinary.findUtl(etcd)
  const of: RestoreCluster.FromSnapshot = {
    etcd,
    utl,
    refuse: refusal("restore"),
    snapshot,
    members: membersIn(root),
    workDirectory: root,
    ...own
  }
  const plan = Effect.provideContext(RestoreCluster.plan(of), context)
  return yield* perform({ name: "restore", client: undefined, plan }, options)
})

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
