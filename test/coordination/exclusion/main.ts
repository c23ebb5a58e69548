/**
 * `npm run exclusion`: shows that locks exclude, and that their fence is needed for it. See `usage`.
 */
import process from "node:process"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as SemVer from "effect/SemVer"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdCluster from "../../../src/EtcdCluster.ts"
import { commandLine } from "../../support/commandLine.ts"
import { type Options, type Report, run } from "./run.ts"

const usage = `usage: npm run exclusion [-- [--seconds N] [--seed N] [--processes N] [--fibers N] [--ttl SECONDS] [--size N]]

Processes with many fibers each want the same few locks of a cluster (ETCD_BINARY names another etcd), while they are
stopped, killed and cut off, members are killed and paused, leases revoked and keys deleted. Nothing may be written out
of order in etcd, or be refused by a server that looks at tokens though the lock was held, no key and no process may be
left, and where two worked at the same time the first of them has to have been stopped, or its key removed. Afterwards
the same without the fence, for 20 seconds at most: there, something has to be written out of order.

  --seconds N    how long (default: 60)
  --seed N       what decides who is afflicted when (default: by the clock)
  --processes N  default: 8
  --fibers N     in each process (default: 8)
  --ttl SECONDS  of the sessions (default: 2)
  --size N       how many members the cluster has (default: 3)
  --help         prints this`

const { numberOf } = commandLine(usage, ["seconds", "seed", "processes", "fibers", "ttl", "size"])

const seconds = numberOf("seconds", 60)
const seed = numberOf("seed", Date.now() % 1_000_000)
const size = numberOf("size", 3)
const common = {
  seed,
  processes: numberOf("processes", 8),
  fibers: numberOf("fibers", 8),
  ttlMillis: numberOf("ttl", 2) * 1000
}

const counted = (counts: ReadonlyMap<string, number>): ReadonlyArray<string> =>
  [...counts].sort(([, one], [, other]) => other - one).map(([what, count]) => `${String(count).padStart(8)}  ${what}`)

const overlapsOf = ({ overlaps }: Report) => {
  const kinds = Map.groupBy(overlaps, ({ because }) => because ?? "NOT EXPLAINED")
  return [...kinds].map(([because, all]) => {
    const longest = Math.max(...all.map(({ millis }) => millis))
    return `${String(all.length).padStart(8)}  overlaps, ${because}; the longest ${Math.round(longest)} ms`
  })
}

const show = (title: string, report: Report): string =>
  [
    title,
    `${String(report.works).padStart(8)}  works, which made ${report.written} writes in etcd and ${report.filesAccepted} of files; ${report.filesRefused} of files were refused`,
    ...counted(report.ends),
    ...overlapsOf(report),
    ...counted(report.faults),
    `${String(report.ledgerProblems.length).padStart(8)}  writes out of order`,
    ...report.ledgerProblems.slice(0, 3).map((problem) => `          ${problem}`),
    `${String(report.problems.length).padStart(8)}  other violations`,
    ...report.problems.slice(0, 20).map((problem) => `          ${problem}`),
    ""
  ].join("\n")

const verdict = (title: string, cluster: EtcdCluster.Cluster, options: Options) =>
  Effect.tap(run(cluster, options), (report) => Console.log(show(title, report)))

const program = Effect.gen(function* () {
  const cluster = yield* EtcdCluster.ephemeral({ size, log: false })
  const version = SemVer.format(SubscriptionRef.getUnsafe(cluster.members)[0].version)
  yield* Console.log(`etcd ${version}, ${size} members; --seed ${seed} ${JSON.stringify(common)}\n`)
  const fenced = yield* verdict("with the fence", cluster, { ...common, seconds, fence: true, prefix: "fenced/" })
  const unfenced = yield* verdict("without", cluster, {
    ...common,
    seconds: Math.min(seconds, 20),
    fence: false,
    prefix: "unfenced/"
  })
  const wrong = [...fenced.ledgerProblems, ...fenced.problems, ...unfenced.problems]
  if (unfenced.ledgerProblems.length === 0) wrong.push("without the fence nothing was written out of order")
  yield* Console.log(wrong.length === 0 ? "ok" : `FAILED: ${wrong[0]}`)
  if (wrong.length > 0) process.exitCode = 1
})

NodeRuntime.runMain(program.pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
