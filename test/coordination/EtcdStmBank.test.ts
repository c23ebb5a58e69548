/**
 * Money that several processes move between accounts, while members of the cluster are killed and stand still: none is
 * made and none is lost, whoever looks and whenever.
 *
 * In the suite two processes do it while the leader is killed once; `STM_SECONDS=300 vitest run
 * test/coordination/EtcdStmBank.test.ts` has eight of them for five minutes each, with receipts and without.
 */
import { spawn } from "node:child_process"
import { join } from "node:path"
import process from "node:process"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as EtcdClient from "../../src/EtcdClient.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import * as Etcd from "../support/client/etcd.ts"
import * as Bank from "../support/coordination/bank.ts"

const seconds = Number(process.env.STM_SECONDS ?? 0)
const accounts = 100
const money = 100

const program = join(import.meta.dirname, "..", "support", "coordination", "bank.ts")

/** Runs clerks in a process of their own, until they are told to end. */
const office = (settings: Bank.Settings) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const args = ["--no-warnings", program, JSON.stringify(settings)]
      const child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] })
      let said = ""
      child.stdout.on("data", (data) => {
        said += data
      })
      const end = Effect.callback<ReadonlyArray<Bank.Tally>>((resume) => {
        child.once("close", () => resume(Effect.sync(() => JSON.parse(said))))
        child.stdin.end()
      })
      return { child, end }
    }),
    ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
  )

const offices = seconds > 0 ? 8 : 2
const clerks = Array.from({ length: offices }, (_, index) =>
  Array.from({ length: 4 }, (_, clerk) => `${index}-${clerk}`)
)

describe("transfers between accounts, by several processes on three members", () => {
  for (const receipt of [true, false]) {
    if (seconds === 0 && !receipt) continue
    it.live(`${receipt ? "with" : "without"} receipts: the sum is right at every read, and each happened once`, () =>
      Effect.gen(function* () {
        const nodes = yield* Etcd.cluster(3)
        const endpoints = nodes.map((node) => node.endpoint)
        const kv = EtcdKv.fromClient(yield* EtcdClient.make({ endpoints }))
        yield* Effect.forEach(
          Array.from({ length: accounts }, (_, index) => index),
          (index) => kv.put(Bank.account(index), String(money)),
          { concurrency: 16 }
        )
        const working = yield* Effect.forEach(clerks, (clerks) =>
          office({ endpoints, accounts, money, clerks, receipt })
        )
        const count = Effect.gen(function* () {
          const { kvs } = yield* kv.range(KeyRange.prefix("bank/clerks/"))
          return new Map(kvs.map((kv) => [kv.keyString, Number(kv.valueString)]))
        }).pipe(Effect.retry(Schedule.spaced("10 millis")))
        // All of them: where a leader is lost, one clerk may be the only one whom etcd leaves without an answer.
        const counters = clerks.flat().map(Bank.counter)
        const progress = Effect.gen(function* () {
          const before = yield* count
          yield* count.pipe(
            Effect.filterOrFail((now) => counters.every((key) => (now.get(key) ?? 0) >= (before.get(key) ?? 0) + 4)),
            Effect.retry(Schedule.spaced("10 millis"))
          )
        })
        const until = performance.now() + seconds * 1000
        yield* progress
        do {
          for (const node of seconds > 0 ? nodes : [yield* Etcd.leading(nodes)]) {
            yield* node.kill
            yield* progress
            yield* node.start
            yield* Etcd.serving(node)
            if (seconds === 0) continue
            yield* node.pause
            yield* progress
            yield* node.resume
          }
        } while (performance.now() < until)
        yield* progress
        const tallies = (yield* Effect.forEach(working, ({ end }) => end, { concurrency: "unbounded" })).flat()
        const counts = yield* count
        for (const tally of tallies) {
          const { clerk, looks, transfers, unknown, wrong } = tally
          assert.deepStrictEqual(wrong, [], clerk)
          assert.isAbove(looks, 0, JSON.stringify(tally))
          const counted = counts.get(Bank.counter(clerk)) ?? 0
          assert.isAtLeast(counted, transfers, JSON.stringify(tally))
          assert.isAtMost(counted, transfers + unknown, JSON.stringify(tally))
        }
        if (seconds > 0) console.log(tallies)
        const { kvs } = yield* kv.range(KeyRange.prefix("bank/accounts/"))
        assert.strictEqual(
          kvs.reduce((sum, kv) => sum + Number(kv.valueString), 0),
          accounts * money
        )
      })
    )
  }
})
