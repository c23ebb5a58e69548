/**
 * What tests do with mirrors: somebody who replays the changes.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type * as EtcdMirror from "../../src/coordination/EtcdMirror.ts"

/** Reads the changes, and keeps what they make. Each of them is looked at: whether it fits what there was before. */
export const replaying = <A>(mirror: EtcdMirror.Mirror<A>, pause: Effect.Effect<void> = Effect.void) =>
  Effect.gen(function* () {
    const got: Array<EtcdMirror.Change<A>> = []
    let map = new Map<string, A>()
    let revision = 0n
    const replay = (change: EtcdMirror.Change<A>) => {
      got.push(change)
      if (change._tag === "Snapshot") {
        assert.strictEqual(got.length, 1)
        map = new Map(change.view)
        revision = change.view.revision
        return
      }
      if (change.history !== "lost") assert.isAbove(Number(change.revision), Number(revision))
      revision = change.revision
      for (const event of change.events) {
        const before = map.get(event.key)
        if (event._tag === "Put") {
          assert.strictEqual(before, Option.getOrUndefined(event.previous))
          map.set(event.key, event.value)
        } else {
          assert.strictEqual(before, event.previous)
          map.delete(event.key)
        }
      }
    }
    const fiber = yield* mirror.changes.pipe(
      Stream.runForEach((change) =>
        Effect.andThen(
          Effect.sync(() => replay(change)),
          pause
        )
      ),
      Effect.forkScoped({ startImmediately: true })
    )
    return { all: () => ({ map, revision }), fiber, got }
  })
