/**
 * Turns: transactions of one client that have lost a try to each other try again one after another. All at once, each of
 * them would lose but one, again and again.
 *
 * Who has its turn and does not end soon shares it with the next one: nobody waits for a body that waits.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Semaphore from "effect/Semaphore"
import type { Client } from "../../EtcdClient.ts"
import * as Origin from "../client/origin.ts"
import * as Keys from "../keys.ts"
import * as Time from "../time.ts"

const longestTurnMillis = 100

interface Line {
  readonly turn: Semaphore.Semaphore
  count: number
}

/** By where the clients go: those within namespaces and behind fences are in line with the one that they are made of. */
const lines = new WeakMap<Client, Map<string, Line>>()

const linesOf = (root: Client): Map<string, Line> => {
  const known = lines.get(root)
  if (known !== undefined) return known
  const made = new Map<string, Line>()
  lines.set(root, made)
  return made
}

const join = (all: Map<string, Line>, name: string): Line => {
  const line = all.get(name) ?? { turn: Semaphore.makeUnsafe(1), count: 0 }
  all.set(name, line)
  line.count++
  return line
}

const leave = (all: Map<string, Line>, name: string, line: Line): void => {
  line.count--
  if (line.count === 0) all.delete(name)
}

/** Runs an effect when it is its turn; the next one's begins when it has ended, or a while after it began. */
const held = <A, E, R>({ turn }: Line, time: Time.Time, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(restore(turn.take(1)), () => {
      let isOver = false
      const pass = Effect.suspend(() => {
        if (isOver) return Effect.void
        isOver = true
        return turn.release(1)
      })
      const passing = Effect.andThen(Time.sleep(time, longestTurnMillis), pass)
      return Effect.flatMap(Effect.forkChild(passing), (timer) =>
        Effect.ensuring(restore(effect), Effect.andThen(pass, Fiber.interrupt(timer)))
      )
    })
  )

/** Runs a try when it is its turn; at once where it stands in no line. It is told whether it had to wait. */
export const inTurn = <A, E, R>(
  client: Client,
  time: Time.Time,
  name: string | undefined,
  effect: (hasWaited: boolean) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => {
  if (name === undefined) return effect(false)
  const { prefix, root } = Origin.of(client)
  const all = linesOf(root)
  const absolute = `${Keys.nameOf(prefix)}/${name}`
  return Effect.acquireUseRelease(
    Effect.sync(() => join(all, absolute)),
    (line) => held(line, time, effect(line.count > 1)),
    (line) => Effect.sync(() => leave(all, absolute, line))
  )
}
