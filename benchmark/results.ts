/**
 * What a run writes with `--json`: the rows, and what has to be known of them to make something of them.
 */
import { spawnSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { cpus, loadavg } from "node:os"
import { join } from "node:path"
import { Effect, SemVer } from "effect"
import { EtcdBinary } from "effect-etcd"
import type { Row } from "./support.ts"

/** The puts of one client in one loop: when each was begun and when it ended, in milliseconds since the fault. */
export interface Line {
  readonly acknowledged: ReadonlyArray<readonly [begun: number, ended: number]>
  readonly failed: ReadonlyArray<readonly [begun: number, ended: number]>
}

export interface Timeline extends Line {
  /** What befell the leader. */
  readonly fault: string
  readonly client: string
  /** `closed`: one put after the other. `open`: one every 50 ms. */
  readonly loop: "closed" | "open"
  /** When another member led. */
  readonly electionMillis: number
}

export interface Measured {
  readonly rows: ReadonlyArray<Row>
  /** None, but of failovers. */
  readonly timelines: ReadonlyArray<Timeline>
}

/** What was measured with, where, and when. */
export interface Conditions {
  /** The day on which the run began. */
  readonly date: string
  /** Short rounds, and few of them. */
  readonly quick: boolean
  /** Of all that was measured; nothing where there is none. */
  readonly versions: {
    readonly etcd: string
    readonly node: string
    readonly "effect-etcd": string
    readonly effect: string
    readonly etcd3: string
    readonly "@grpc/grpc-js": string
    readonly go: string | undefined
    readonly clientv3: string
  }
  readonly cpus: number
  readonly cpu: string
  /** Of the machine in the minute before the run: 0 where it did nothing else. */
  readonly load: number
}

export interface Run extends Conditions, Measured {}

const root = join(import.meta.dirname, "..")

const versionOf = (...path: ReadonlyArray<string>): string =>
  JSON.parse(readFileSync(join(root, ...path, "package.json"), "utf8")).version

const goVersion = (): string | undefined =>
  /go(\d[\d.]*)/.exec(spawnSync("go", ["version"]).stdout?.toString() ?? "")?.[1]

/** Asked for before anything is measured. */
export const conditions = (quick: boolean) =>
  Effect.map(
    EtcdBinary.find(),
    ({ version }): Conditions => ({
      date: new Date().toISOString().slice(0, 10),
      quick,
      versions: {
        etcd: SemVer.format(version),
        node: process.versions.node,
        "effect-etcd": versionOf(),
        effect: versionOf("node_modules", "effect"),
        etcd3: versionOf("node_modules", "etcd3"),
        "@grpc/grpc-js": versionOf("node_modules", "@grpc", "grpc-js"),
        go: goVersion(),
        clientv3: /client\/v3 v(\S+)/.exec(readFileSync(join(root, "benchmark/go/go.mod"), "utf8"))?.[1] ?? ""
      },
      cpus: cpus().length,
      cpu: cpus()[0]?.model ?? "",
      load: Math.round(loadavg()[0]! * 10) / 10
    })
  )

/** One row, and one timeline, a line. */
export const toJson = ({ rows, timelines, ...conditions }: Run): string => {
  const list = (items: ReadonlyArray<unknown>) =>
    `[\n${items.map((item) => `    ${JSON.stringify(item)}`).join(",\n")}\n  ]`
  const fields = Object.entries(conditions).map(
    ([name, value]) => `  ${JSON.stringify(name)}: ${JSON.stringify(value)}`
  )
  return `{\n${[...fields, `  "rows": ${list(rows)}`, `  "timelines": ${list(timelines)}`].join(",\n")}\n}\n`
}

/** What a run has written, where there is such a file. */
export const fromFile = (file: string): Run | undefined =>
  existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : undefined
