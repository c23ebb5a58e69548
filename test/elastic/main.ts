/**
 * `npm run elastic`: shows that instances come together whatever befalls them, and that nothing is lost. See `usage`.
 */
import process from "node:process"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as SemVer from "effect/SemVer"
import * as EtcdBinary from "../../src/EtcdBinary.ts"
import { commandLine } from "../support/commandLine.ts"
import { type Report, run } from "./run.ts"

const usage = `usage: npm run elastic [-- [--seconds N] [--seed N] [--size N] [--pause MILLISECONDS]]

Programs that embed a member each (ETCD_BINARY names another etcd) are started in any order, as many as there are to be
voters, and later one more. While all of them write, they are killed, stopped, made to stand still, and told to leave, their
etcd is killed, and one at a time loses its data. In the end all have to come together, with as many voters as declared and
never more on the way, in one cluster, which has all that was acknowledged; one leaves, and who waited takes its place.

  --seconds N  how long (default: 60)
  --seed N     what decides who is afflicted when (default: by the clock)
  --size N     how many voters there are to be (default: 5)
  --pause N    how many milliseconds each waits between two writes (default: 20)
  --help       prints this`

const { numberOf } = commandLine(usage, ["seconds", "seed", "size", "pause"])

const options = {
  seconds: numberOf("seconds", 60),
  seed: numberOf("seed", Date.now() % 1_000_000),
  size: numberOf("size", 5),
  pauseMillis: numberOf("pause", 20)
}

const line = (count: number, what: string): string => `${String(count).padStart(8)}  ${what}`

const counted = (counts: ReadonlyMap<string, number>): ReadonlyArray<string> =>
  [...counts].sort(([, one], [, other]) => other - one).map(([what, count]) => line(count, what))

const show = (report: Report): string =>
  [
    line(report.written, "writes were acknowledged"),
    ...counted(new Map([...report.unwritten].map(([why, count]) => [`writes failed with ${why}`, count]))),
    ...counted(report.faults),
    line(report.members, "members the cluster has had"),
    line(report.mostVoters, "voters at most at a time"),
    line(report.voters, "voters in the end"),
    line(report.clusterIds.length, `cluster: ${report.clusterIds.join(", ")}`),
    line(report.problems.length, "problems"),
    ...report.problems.slice(0, 20).map((problem) => `          ${problem}`)
  ].join("\n")

const program = Effect.gen(function* () {
  const { version } = yield* EtcdBinary.find()
  yield* Console.log(`etcd ${SemVer.format(version)}; ${JSON.stringify(options)}\n`)
  const report = yield* run(options)
  yield* Console.log(show(report))
  yield* Console.log(report.problems.length === 0 ? "\nok" : `\nFAILED: ${report.problems[0]}`)
  if (report.problems.length > 0) process.exitCode = 1
})

NodeRuntime.runMain(program.pipe(Effect.provide(NodeServices.layer)))
