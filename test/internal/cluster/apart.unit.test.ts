import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Apart from "../../../src/internal/cluster/apart.ts"
import * as Manifest from "../../../src/internal/cluster/manifest.ts"
import { temporaryDirectory } from "../../support/machine.ts"

/** A cluster of one, whose second member was just joining, or leaving. */
const growing = (directories: ReadonlyArray<string>, state: "joining" | "leaving" = "joining") =>
  Effect.map(temporaryDirectory, (root) => {
    const manifest = Manifest.withMember({ name: "node1", directory: "node1.etcd", state })(Manifest.ofSize(1))
    writeFileSync(join(root, "cluster.json"), JSON.stringify(manifest))
    for (const directory of directories) mkdirSync(join(root, directory), { recursive: true })
    return root
  })

const members = (root: string) =>
  Effect.map(Apart.look({ dataDir: root }), (found) => found.members.map(({ name }) => name))

describe("the data of a cluster", () => {
  it.effect("were lost where only who was joining has some, until they are made anew", () =>
    Effect.gen(function* () {
      const root = yield* growing(["node1.etcd/member"])
      const refused = Effect.map(Effect.flip(Manifest.inDirectory(root, undefined)), ({ message }) => message)
      assert.include(yield* refused, "does not have node0.etcd")
      const { keeper } = yield* Apart.look({ dataDir: root })
      yield* keeper.keep
      assert.include(yield* refused, "does not have node0.etcd")
      mkdirSync(join(root, "node0.etcd", "member"))
      yield* Manifest.inDirectory(root, undefined)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.effect("are made for where the others reach who has them", () =>
    Effect.gen(function* () {
      const root = yield* growing(["node0.etcd/member", "node1.etcd/member"])
      const initialAdvertisePeerUrls = ["http://127.0.0.1:1"]
      const node1 = {
        name: "node1",
        directory: "node1.etcd",
        state: "member",
        peer: { initialAdvertisePeerUrls }
      } as const
      writeFileSync(join(root, "cluster.json"), JSON.stringify(Manifest.withMember(node1)(Manifest.ofSize(1))))
      assert.deepStrictEqual(
        (yield* Apart.look({ dataDir: root })).members.map(({ peerUrls }) => peerUrls),
        [["unix://node0.peer:0"], initialAdvertisePeerUrls]
      )
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.effect("are also those of who was joining, where they wait to be put in place", () =>
    Effect.gen(function* () {
      const member = "node0.etcd/member"
      // Who was leaving may have none here.
      assert.deepStrictEqual(yield* members(yield* growing([member], "leaving")), ["node0"])
      assert.deepStrictEqual(yield* members(yield* growing([member])), ["node0"])
      assert.deepStrictEqual(yield* members(yield* growing([member, "node1.etcd/member"])), ["node0", "node1"])
      assert.deepStrictEqual(yield* members(yield* growing([member, "node1.etcd/.restored/member"])), [
        "node0",
        "node1"
      ])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it("are of somebody new where the name of a new one is had by who runs elsewhere", () => {
    const names = [0, 1, 2].map((index) => Manifest.newcomer(Manifest.ofSize(1), index, ["node0", "node2"]).name)
    assert.deepStrictEqual(names, ["node1", "node3", "node4"])
  })
})
