/**
 * What the demo shows: in a terminal a block of three lines that follows the nodes below the story so far, elsewhere
 * plain lines.
 */
import { Clock, Console, DateTime, Effect, Option } from "effect"
import { EtcdId, type Role } from "effect-etcd"

export interface View {
  readonly say: (line: string) => Effect.Effect<void>
  /** A new state: a line if the role or term is another one, and in a terminal the block. */
  readonly state: (name: string, state: Role.State) => Effect.Effect<void>
  readonly end: Effect.Effect<void>
}

const colors: Record<Role.Role, string> = {
  leader: "\x1b[32m",
  follower: "\x1b[36m",
  candidate: "\x1b[33m",
  "pre-candidate": "\x1b[33m",
  stopped: "\x1b[31m"
}

const describe = (state: Role.State) =>
  `${state.role.padEnd(13)} term ${String(state.term).padEnd(3)} leader ${Option.match(state.leader, {
    onNone: () => "-",
    onSome: EtcdId.format
  })}`

export const makeView = (names: ReadonlyArray<string>): Effect.Effect<View> =>
  Effect.gen(function* () {
    const terminal = process.stdout.isTTY === true
    const start = yield* Clock.currentTimeMillis
    const states = new Map<string, Role.State>()
    let drawn = 0

    const stamp = Effect.map(Clock.currentTimeMillis, (now) => `${String(now - start).padStart(6)} ms  `)

    const block = () =>
      names.map((name) => {
        const state = states.get(name)
        return state === undefined
          ? `  ${name}  starting`
          : `  ${name}  ${colors[state.role]}${describe(state)}\x1b[0m  since ${DateTime.formatIso(state.since).slice(11, 23)}`
      })

    const draw = (line: string | undefined) =>
      Effect.sync(() => {
        const erase = drawn === 0 ? "" : `\x1b[${drawn}A\x1b[J`
        const lines = block()
        drawn = states.size === 0 ? 0 : lines.length
        process.stdout.write(
          `${erase}${line === undefined ? "" : `${line}\n`}${states.size === 0 ? "" : `${lines.join("\n")}\n`}`
        )
      })

    const print = (line: string) =>
      Effect.flatMap(stamp, (time) => (terminal ? draw(`${time}${line}`) : Console.log(`${time}${line}`)))

    return {
      say: print,
      state: (name, state) =>
        Effect.suspend(() => {
          const before = states.get(name)
          states.set(name, state)
          if (before?.role !== state.role || before.term !== state.term) return print(`${name} is ${describe(state)}`)
          return terminal ? draw(undefined) : Effect.void
        }),
      end: Effect.sync(() => {
        drawn = 0
      })
    }
  })
