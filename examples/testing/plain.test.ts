import { Effect, ManagedRuntime, Option } from "effect"
import { EtcdKv } from "effect-etcd"
import { EtcdFaults } from "effect-etcd/testing"
import { afterAll, beforeEach, expect, test } from "vitest"

const runtime = ManagedRuntime.make(EtcdFaults.layer({ log: false }))

beforeEach(() => runtime.runPromise(EtcdFaults.awaitHealthy), 60_000)
afterAll(() => runtime.dispose(), 60_000)

test("a member is slow, and the others answer", () =>
  Effect.gen(function* () {
    yield* EtcdKv.put("hello", "world")
    yield* EtcdFaults.stall("node0", { duty: 0.1 })
    expect(yield* EtcdKv.getString("hello")).toEqual(Option.some("world"))
  }).pipe(Effect.scoped, runtime.runPromise))
