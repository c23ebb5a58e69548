/**
 * A program that embeds a member, and writes all the time, each key once. It goes on until its stdin ends, or it has left.
 */
import process from "node:process"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as EtcdMember from "../../src/EtcdMember.ts"
import { optionsOf } from "../support/members.ts"
import * as Programs from "../support/programs.ts"
import { leave, quiet, type Said, type Settings } from "./protocol.ts"

const settings = JSON.parse(process.argv[2]!) as Settings

const say = (said: Said): void => Programs.say(said)

let isToWrite = true
const isToLeave = Latch.makeUnsafe(false)
const isToEnd = Deferred.makeUnsafe<void>()

Programs.eachLine(process.stdin, (line) => {
  if (line === quiet) isToWrite = false
  if (line === leave) isToLeave.openUnsafe()
})
process.stdin.on("end", () => Effect.runSync(Deferred.succeed(isToEnd, undefined)))

const tellState = (state: EtcdMember.State) =>
  Effect.gen(function* () {
    const node = "node" in state ? state.node : undefined
    say({
      _tag: "State",
      state: state._tag,
      ...("reason" in state ? { reason: state.reason } : {}),
      ...(node === undefined ? {} : { clusterId: node.clusterId.toString(16) }),
      ...(node === undefined ? {} : Option.match(yield* node.pid, { onNone: () => ({}), onSome: (pid) => ({ pid }) }))
    })
  })

const write = (count: number) => {
  const key = `${settings.prefix}${count}`
  return EtcdKv.put(key, key, { deadline: "10 seconds" }).pipe(
    Effect.match({
      onSuccess: ({ header }) => say({ _tag: "Written", key, revision: String(header.revision) }),
      onFailure: ({ reason }) => say({ _tag: "Unwritten", why: reason._tag })
    }),
    Effect.andThen(Effect.sleep(settings.pauseMillis))
  )
}

const writing = Effect.gen(function* () {
  for (let count = 0; ; count++) yield* isToWrite ? write(count) : Effect.sleep(100)
})

const leaving = Effect.gen(function* () {
  const member = yield* EtcdMember.EtcdMember
  while (true) {
    yield* isToLeave.await
    isToLeave.closeUnsafe()
    const left = yield* Effect.result(member.leave)
    if (left._tag === "Success") return say({ _tag: "Left" })
    say({ _tag: "Stays", why: left.failure.message })
  }
})

const program = Effect.gen(function* () {
  const member = yield* EtcdMember.EtcdMember
  yield* Effect.forkChild(Stream.runForEach(SubscriptionRef.changes(member.state), tellState))
  yield* Effect.raceAllFirst([writing, leaving, Effect.andThen(member.exit, Effect.never)])
}).pipe(
  Effect.provide(
    EtcdLayer.member(
      optionsOf(settings.directory, settings.name, settings.peers, {
        size: settings.size,
        startTimeout: "15 seconds",
        client: { deadline: "10 seconds" }
      })
    )
  ),
  Effect.raceFirst(Deferred.await(isToEnd)),
  Effect.tapCause((cause) => Effect.sync(() => say({ _tag: "Failed", why: String(cause) }))),
  // It would keep the process.
  Effect.ensuring(Effect.sync(() => process.stdin.destroy()))
)

NodeRuntime.runMain(program)
