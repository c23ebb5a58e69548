import { existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { EtcdUtl } from "../../../src/EtcdBinary.ts"
import * as EtcdKv from "../../../src/EtcdKv.ts"
import * as Mounts from "../../../src/internal/faults/mounts.ts"
import * as Bolt from "../../../src/internal/files/bolt.ts"
import * as RestoreMember from "../../../src/internal/operations/restoreMember.ts"
import { bumpOf } from "../../../src/internal/operations/revisions.ts"
import * as SnapshotFile from "../../../src/internal/operations/snapshotFile.ts"
import { reasonOf } from "../../support/effects.ts"
import * as Utl from "../../support/etcdutl.ts"
import * as Snapshots from "../../support/snapshots.ts"

const peerUrl = "unix://peer.sock:0"

const fill = Effect.gen(function* () {
  for (let index = 0; index < 10; index++) yield* EtcdKv.put(`key${index}`, "x".repeat(2000))
  return (yield* EtcdKv.range("key0")).header.revision
})

const taken = Snapshots.taken(fill, EtcdKv.put("key0", "later"))

const restoring = (utl: EtcdUtl, snapshot: string, dataDir: string): RestoreMember.Restoring => ({
  utl,
  refuse: Utl.refuse,
  snapshot,
  member: { name: "node0", peerUrls: [peerUrl], dataDir },
  initialCluster: { node0: [peerUrl] },
  token: "restored",
  bumpRevision: 1_000_000_000n,
  revisionsMayGoBack: false,
  skipHashCheck: false
})

describe("a snapshot", () => {
  it.live("is told apart from what is truncated, foreign, damaged or not there", (context) =>
    Effect.gen(function* () {
      const utl = yield* Utl.any(context)
      const { database, directory, filled, snapshot } = yield* taken
      const verify = (path: string, skipHashCheck = false) =>
        SnapshotFile.verify(path, { utl, refuse: Utl.refuse, skipHashCheck })
      const { bytes, revision, sha256, ...verified } = yield* verify(snapshot)
      assert.strictEqual(revision, filled)
      assert.isAtLeast(verified.keys, 10)
      assert.strictEqual(sha256, readFileSync(snapshot).subarray(-32).toString("hex"))

      const changed = (name: string, change: (bytes: Buffer) => void, from = snapshot) => {
        const path = join(directory, name)
        const contents = readFileSync(from)
        change(contents)
        writeFileSync(path, contents)
        return path
      }
      const cut = (length: number) => {
        const path = changed(`cut-${length}`, () => {})
        truncateSync(path, length)
        return path
      }
      const text = changed("text", (contents) => contents.fill("no database"))
      const cases = [
        [join(directory, "none"), "no-snapshot"],
        [directory, "foreign-snapshot"],
        [text, "foreign-snapshot"],
        [database, "foreign-snapshot"],
        [utl.path, "foreign-snapshot"],
        [cut(0), "truncated-snapshot"],
        [cut(5000), "truncated-snapshot"],
        [cut(8192 + 32), "truncated-snapshot"],
        [cut(bytes - 33), "truncated-snapshot"],
        [cut(bytes - 32), "foreign-snapshot"],
        [cut(bytes - 1), "foreign-snapshot"],
        [
          changed("flipped", (contents) => contents.writeUInt8(contents[bytes - 40]! ^ 1, bytes - 40)),
          "damaged-snapshot"
        ],
        [changed("digest", (contents) => contents.writeUInt8(contents[bytes - 1]! ^ 1, bytes - 1)), "damaged-snapshot"]
      ] as const
      for (const [path, finding] of cases) assert.strictEqual(yield* Utl.findingOf(verify(path)), finding, path)

      // A copy has no checksum, and is taken where somebody wants that; its pages are looked at all the same.
      assert.strictEqual((yield* verify(database, true)).sha256, undefined)
      const holed = changed(
        "holed",
        (contents) => {
          const [{ from } = assert.fail("no page is in use")] = Bolt.used(contents)
          contents.fill(0xff, from, from + 4096)
        },
        database
      )
      assert.strictEqual(yield* Utl.findingOf(verify(holed, true)), "damaged-snapshot")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})

describe("a member", () => {
  it.live("is restored with its revision raised, and what was there before compacted", (context) =>
    Effect.gen(function* () {
      const utl = yield* Utl.bumping(context)
      const { directory, filled, snapshot } = yield* taken
      const dataDir = join(directory, "new", "node0.etcd")
      const bumpRevision = bumpOf(filled, 1_800_000_000_000)
      yield* RestoreMember.restoreMember({ ...restoring(utl, snapshot, dataDir), bumpRevision })
      assert.deepStrictEqual(readdirSync(dataDir), ["member"])
      yield* Snapshots.withNode(
        { name: "node0", dataDir, initialCluster: { node0: peerUrl } },
        Effect.gen(function* () {
          assert.strictEqual(Option.getOrThrow(yield* EtcdKv.getString("key0"))[0], "x")
          const { header } = yield* EtcdKv.put("key0", "after")
          assert.strictEqual(header.revision, 1_800_000_000n * 100_000n + 1n)
          const past = yield* reasonOf(EtcdKv.range("key0", { revision: filled }))
          assert.strictEqual(past._tag, "Compacted")
        })
      )
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("is not restored over anything, and what was left of a restore is no obstacle", (context) =>
    Effect.gen(function* () {
      const utl = yield* Utl.bumping(context)
      const { dataDir: occupied, directory, snapshot } = yield* taken
      const before = readdirSync(occupied, { recursive: true })
      const over = RestoreMember.restoreMember(restoring(utl, snapshot, occupied))
      assert.strictEqual(yield* Utl.findingOf(over), "data-in-the-way")
      assert.deepStrictEqual(readdirSync(occupied, { recursive: true }), before)

      const dataDir = join(directory, "node0.etcd")
      mkdirSync(join(dataDir, ".restoring-killed", "data", "member"), { recursive: true })
      mkdirSync(join(dataDir, ".restored", "member"), { recursive: true })
      yield* RestoreMember.restoreMember(restoring(utl, snapshot, dataDir))
      assert.deepStrictEqual(readdirSync(dataDir), ["member"])
      const twice = RestoreMember.restoreMember(restoring(utl, snapshot, dataDir))
      assert.strictEqual(yield* Utl.findingOf(twice), "data-in-the-way")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("is not restored by what cannot raise revisions, unless that is wanted", (context) =>
    Effect.gen(function* () {
      const utl = { ...(yield* Utl.any(context)), bumpsRevisions: false }
      const { directory, snapshot } = yield* taken
      const dataDir = join(directory, "node0.etcd")
      const restore = restoring(utl, snapshot, dataDir)
      assert.strictEqual(yield* Utl.findingOf(RestoreMember.restoreMember(restore)), "revisions-would-go-back")
      assert.isFalse(existsSync(dataDir))
      yield* RestoreMember.restoreMember({ ...restore, revisionsMayGoBack: true })
      assert.deepStrictEqual(readdirSync(dataDir), ["member"])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("is not restored to a disk that is full, of which nothing stays", (context) =>
    Effect.gen(function* () {
      if (!(yield* Mounts.canMount)) return context.skip("this user cannot mount")
      const utl = yield* Utl.bumping(context)
      const { directory, snapshot } = yield* taken
      const disk = join(directory, "disk")
      mkdirSync(disk)
      // The first file of the log alone has 64 MB.
      const { reach } = yield* Mounts.make(directory, [disk], 8 * 1024 * 1024)
      const dataDir = join(reach(disk), "node0.etcd")
      const error = yield* Effect.flip(RestoreMember.restoreMember(restoring(utl, snapshot, dataDir)))
      assert.match(error.message, /no space left on device/)
      assert.deepStrictEqual(readdirSync(dataDir), [])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
