/**
 * Instances of a program that are members of one cluster: in this process, on Unix sockets in one directory.
 */
import { rmSync } from "node:fs"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as EtcdMember from "../../src/EtcdMember.ts"
import { temporaryDirectory } from "./machine.ts"

export const peerUrlOf = (name: string): string => `unix://${name}.peer:0`

/** The options of an instance whose sockets and data are in a directory. */
export const optionsOf = (
  directory: string,
  name: string,
  peers: ReadonlyArray<string>,
  more: Partial<EtcdMember.Options> = {}
): EtcdMember.Options => ({
  name,
  dataDir: join(directory, name),
  runDirectory: directory,
  peerUrl: peerUrlOf(name),
  clientUrl: `unix://${name}.client:0`,
  peers: peers.map(peerUrlOf),
  size: peers.length,
  log: false,
  config: { heartbeatInterval: "50 millis", electionTimeout: "500 millis" },
  ...more
})

/** An instance that is started and stopped by itself. */
export interface Instance {
  readonly member: EtcdMember.Member
  readonly stop: Effect.Effect<void>
}

/** Where instances live, with what starts one. */
export const home = Effect.gen(function* () {
  const directory = yield* temporaryDirectory
  const all = yield* Scope.fork(yield* Effect.scope, "parallel")
  return {
    directory,
    start: (name: string, peers: ReadonlyArray<string>, more: Partial<EtcdMember.Options> = {}) =>
      Effect.gen(function* () {
        const scope = yield* Scope.fork(all)
        const member = yield* Scope.provide(EtcdMember.make(optionsOf(directory, name, peers, more)), scope)
        return { member, stop: Scope.close(scope, Exit.void) } satisfies Instance
      }),
    loseData: (name: string) => Effect.sync(() => rmSync(join(directory, name), { recursive: true }))
  }
})

/** Waits until an instance is that. */
export const until = (member: EtcdMember.Member, tag: EtcdMember.State["_tag"]) =>
  SubscriptionRef.changes(member.state).pipe(
    Stream.filter((state) => state._tag === tag),
    Stream.runHead,
    Effect.map(Option.getOrThrow)
  )

export const tagOf = (member: EtcdMember.Member): EtcdMember.State["_tag"] =>
  SubscriptionRef.getUnsafe(member.state)._tag

/** The node that an instance has now. */
export const nodeOf = (member: EtcdMember.Member) => {
  const state = SubscriptionRef.getUnsafe(member.state)
  if (!("node" in state)) throw new Error(`${member.name} has no node: ${state._tag}`)
  return state.node
}

/** A client that follows the members, as `EtcdLayer.member` makes it. */
export const connect = ({ clusterId, endpoints }: EtcdMember.Member) =>
  EtcdLayer.connect({
    clusterId,
    endpoints: Stream.filter(SubscriptionRef.changes(endpoints), (list) => list.length > 0)
  })
