import { assert, it } from "@effect/vitest"
import { bumpOf, perSecond } from "../../../src/internal/operations/revisions.ts"

it("A restore is above all that a cluster can have given out by then, however often it was restored before", () => {
  const now = Date.UTC(2026, 0, 1)
  const after = (revision: bigint, millis: number, known?: bigint) => revision + bumpOf(revision, millis, known)
  const first = after(7n, now)
  // A day of 50,000 writes a second, and the same snapshot once more.
  const written = first + 24n * 60n * 60n * 50_000n
  assert.isTrue(after(7n, now + 24 * 60 * 60 * 1000) > written)
  assert.strictEqual(first, (BigInt(now) / 1000n) * perSecond)
  assert.isTrue(first < BigInt(Number.MAX_SAFE_INTEGER))
  // Half a second later, of which a tenth is what it takes to start.
  assert.isTrue(after(7n, now + 500) > first + 400n * (perSecond / 1000n))
  // By etcd's own number where the clock is of no use, or the cluster is further.
  assert.strictEqual(after(7n, 0), 1_000_000_007n)
  assert.strictEqual(after(7n, -5), 1_000_000_007n)
  assert.strictEqual(after(7n, 0, 50n), 1_000_000_050n)
  assert.strictEqual(after(first * 2n, now), first * 2n + 1_000_000_000n)
})
