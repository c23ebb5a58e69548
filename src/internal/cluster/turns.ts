/**
 * Members of a new cluster start one shortly after the other.
 *
 * Before a member begins, it asks those that it is to begin with whether they have begun already, one after the other, and
 * gives each a second (`isMemberBootstrapped` in etcd's `server/etcdserver/cluster_util.go`). Who does not listen yet is
 * passed over at once. But members that start at the same moment listen before they answer, and wait for each other until
 * these seconds are over. So the next one starts when the last one answers, some ten milliseconds later.
 *
 * @internal
 */
import type * as net from "node:net"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Time from "../time.ts"
import * as Url from "../url.ts"

/** Nobody waits for longer for who is kept from starting. */
const longestTurnMillis = 1000

/** Nor for those that have data, which may have much to read. */
const longestReadingMillis = 30_000

const loadNet = (): typeof net => globalThis.process.getBuiltinModule("node:net")

/** Where a member listens for the others; nothing where that is not known yet. `directory`: that of its sockets. */
export const addressOf = (
  urls: ReadonlyArray<string> | undefined,
  directory: string | undefined
): net.NetConnectOpts | undefined => {
  const url = Result.getOrUndefined(Url.parse(urls?.[0] ?? ""))
  if (url?.socket !== undefined) {
    if (url.socket.startsWith("/")) return { path: url.socket }
    return directory === undefined ? undefined : { path: `${directory}/${url.socket}` }
  }
  if (url?.port === undefined || url.port === 0) return undefined
  return { host: anyAddress.has(url.host) ? "localhost" : url.host, port: url.port }
}

const anyAddress = new Set(["0.0.0.0", "::"])

/** Whether somebody answers there, whatever it is: that it wants TLS is an answer as well. */
const answers = (address: net.NetConnectOpts): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const socket = loadNet().connect(address)
    const end = (answer: boolean) => {
      socket.destroy()
      resume(Effect.succeed(answer))
    }
    socket.once("connect", () => socket.write("GET /version HTTP/1.0\r\n\r\n"))
    socket.once("data", () => end(true))
    socket.once("end", () => end(true))
    socket.once("error", () => end(false))
    return Effect.sync(() => socket.destroy())
  })

const awaitAnswer = (time: Time.Time, address: net.NetConnectOpts) =>
  Effect.asVoid(Effect.repeat(Effect.tap(answers(address), Time.sleep(time, 2)), { until: (answered) => answered }))

/**
 * What those wait for that have no data beside others that have some: that one of these answers, which knows whether they have
 * begun before. Then etcd begins nothing in their name: what they have acknowledged, and for whom they have voted, is lost.
 */
export const afterOneOf = (
  addresses: ReadonlyArray<net.NetConnectOpts | undefined>
): Effect.Effect<Effect.Effect<void>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const time = yield* Time.Time
    const known = addresses.flatMap((address) => (address === undefined ? [] : [awaitAnswer(time, address)]))
    if (known.length === 0) return Effect.void
    const turn = Latch.makeUnsafe(false)
    yield* Effect.andThen(
      Time.within(time, Effect.raceAll(known), longestReadingMillis, () => Effect.void),
      // Older versions know it when they have applied their logs, and answer before.
      Effect.andThen(Time.sleep(time, 1000), turn.open)
    ).pipe(Effect.forkScoped)
    return turn.await
  })

/** What each of them waits for, by where they listen. */
export const make = (
  addresses: ReadonlyArray<net.NetConnectOpts | undefined>
): Effect.Effect<ReadonlyArray<Effect.Effect<void>>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const time = yield* Time.Time
    const turns = addresses.map((_, index) => Latch.makeUnsafe(index === 0))
    const awaitKnown = (address: net.NetConnectOpts | undefined) =>
      address === undefined ? Effect.void : awaitAnswer(time, address)
    yield* Effect.forEach(
      turns.slice(1),
      (turn, index) =>
        Effect.andThen(
          Time.within(time, awaitKnown(addresses[index]), longestTurnMillis, () => Effect.void),
          turn.open
        ),
      { discard: true }
    ).pipe(Effect.forkScoped)
    return turns.map((turn) => turn.await)
  })
