/**
 * A program that moves money between accounts in etcd until its standard input ends, and looks at the sum all the time.
 * It prints what it has done as JSON.
 *
 * Each of its clerks has a client of its own, and counts its transfers in the transactions themselves.
 */
import process from "node:process"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as EtcdStm from "../../../src/coordination/EtcdStm.ts"
import * as EtcdClient from "../../../src/EtcdClient.ts"
import * as KeyRange from "../../../src/KeyRange.ts"
import { makeRandom } from "../random.ts"

export interface Settings {
  readonly endpoints: ReadonlyArray<string>
  readonly accounts: number
  /** What each account has at first. */
  readonly money: number
  readonly clerks: ReadonlyArray<string>
  readonly receipt: boolean
}

export interface Tally {
  readonly clerk: string
  transfers: number
  /** Transfers of which it is not known whether they happened. */
  unknown: number
  /** Failures that wrote nothing. */
  refused: number
  looks: number
  /** What the sum was where it was wrong. */
  readonly wrong: Array<number>
}

export const account = (index: number): string => `bank/accounts/${String(index).padStart(3, "0")}`
export const counter = (clerk: string): string => `bank/clerks/${clerk}`

class Poor extends Data.TaggedError("Poor") {}

const numberAt = (key: string) =>
  Effect.map(EtcdStm.getString(key), (text) => Number(Option.getOrElse(text, () => "0")))

const transfer = (from: string, to: string, amount: number, clerk: string) =>
  Effect.gen(function* () {
    const has = yield* numberAt(from)
    if (has < amount) return yield* new Poor()
    yield* EtcdStm.put(from, String(has - amount))
    yield* EtcdStm.put(to, String((yield* numberAt(to)) + amount))
    yield* EtcdStm.put(counter(clerk), String((yield* numberAt(counter(clerk))) + 1))
  })

const sum = Effect.map(EtcdStm.range(KeyRange.prefix("bank/accounts/")), (kvs) =>
  kvs.reduce((sum, kv) => sum + Number(kv.valueString), 0)
)

const work = Effect.fnUntraced(function* (settings: Settings, tally: Tally, seed: number) {
  const random = makeRandom(seed)
  const { accounts, receipt } = settings
  while (true) {
    const from = random(accounts)
    const to = (from + 1 + random(accounts - 1)) % accounts
    const moving = EtcdStm.tx(transfer(account(from), account(to), 1 + random(10), tally.clerk), { receipt })
    yield* Effect.match(moving, {
      onFailure: (error) => {
        if (error._tag === "Poor" || error.outcome === "not-applied") tally.refused++
        else tally.unknown++
      },
      onSuccess: () => {
        tally.transfers++
      }
    })
    const seen = yield* Effect.option(EtcdStm.tx(sum))
    if (Option.isNone(seen)) continue
    tally.looks++
    if (seen.value !== accounts * settings.money) tally.wrong.push(seen.value)
  }
})

const untilTold = Effect.callback<void>((resume) => {
  process.stdin.on("end", () => resume(Effect.void)).resume()
})

const clerk = (settings: Settings, name: string, index: number) =>
  Effect.gen(function* () {
    const tally: Tally = { clerk: name, transfers: 0, unknown: 0, refused: 0, looks: 0, wrong: [] }
    const client = yield* EtcdClient.make({ endpoints: settings.endpoints })
    const working = Effect.provideService(work(settings, tally, process.pid + index), EtcdClient.EtcdClient, client)
    const fiber = yield* Effect.forkChild(working)
    yield* untilTold
    // What it is at is not known to have happened.
    yield* Fiber.interrupt(fiber)
    tally.unknown++
    return tally
  }).pipe(Effect.scoped)

if (process.argv[1] === import.meta.filename) {
  const settings: Settings = JSON.parse(process.argv[2]!)
  const all = Effect.forEach(settings.clerks, (name, index) => clerk(settings, name, index), {
    concurrency: "unbounded"
  })
  Effect.runPromise(all).then((tallies) => console.log(JSON.stringify(tallies)))
}
