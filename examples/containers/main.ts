/**
 * One instance. A service would go on where this ends: `Effect.raceFirst(service, member.exit)`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, SubscriptionRef } from "effect"
import { EtcdKv, EtcdMember } from "effect-etcd"
import { etcd } from "./etcd.ts"

const program = Effect.gen(function* () {
  const { name, state } = yield* EtcdMember.EtcdMember
  yield* Console.log(`${name} is a ${(yield* SubscriptionRef.get(state))._tag}`)
  yield* EtcdKv.put("hello", "from one of us")
})

program.pipe(Effect.provide(etcd), NodeRuntime.runMain)
