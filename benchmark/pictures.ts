/**
 * `npm run bench -- pictures`: what runs have written to `results/`, as pictures and tables in `docs/`. The same results make
 * the same bytes, so a test sees whether what is in `docs/` is what was measured.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { Effect } from "effect"
import { type Conditions, fromFile, type Line, type Run } from "./results.ts"
import { BenchError, type Row } from "./support.ts"

const root = join(import.meta.dirname, "..")

// ── writing SVG ──

const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;")

const short = (value: number): string => String(Math.round(value * 10) / 10)

const text = (x: number, y: number, kind: string, content: string): string =>
  `<text x="${short(x)}" y="${short(y)}" class="${kind}">${escaped(content)}</text>`

const rect = (x: number, y: number, width: number, height: number, kind: string): string =>
  `<rect x="${short(x)}" y="${short(y)}" width="${short(Math.max(width, 1))}" height="${short(height)}" rx="2" class="${kind}"/>`

const path = (kind: string, d: string): string => `<path class="${kind}" d="${d}"/>`

const vertical = (x: number, from: number, to: number): string => `M${short(x)} ${short(from)}V${short(to)}`

const horizontal = (y: number, from: number, to: number): string => `M${short(from)} ${short(y)}H${short(to)}`

/** Light and dark as who looks at it has it. The ground is its own: a page does not always follow. */
const style = `
text{font:13px ui-sans-serif,system-ui,sans-serif;fill:#57606a}
.title{font-size:19px;font-weight:600;fill:#1f2328}.head{font-size:14px;font-weight:600;fill:#1f2328}
.name{fill:#1f2328}.own{fill:#6639ba;font-weight:600}.small{font-size:12px}.value{fill:#1f2328}.strong{font-weight:600}
.end{text-anchor:end}.mid{text-anchor:middle}
.ground{fill:#fff;stroke:#d0d7de}.grid{stroke:#d8dee4;fill:none}.axis{stroke:#8c959f;fill:none}
.ours{fill:#8250df}.other{fill:#afb8c1}.spread{stroke:#1f2328;fill:none;stroke-width:1.2}
.put{stroke:#8250df;fill:none;stroke-width:1.2}.theirs{stroke:#6e7781}.wait{stroke:#afb8c1;fill:none;stroke-dasharray:2 4}
.failed{stroke:#bc4c00;fill:none;stroke-width:1.6}.killed{stroke:#cf222e;fill:none;stroke-width:1.5}
.led{stroke:#1a7f37;fill:none;stroke-width:1.5}.red{fill:#cf222e}.green{fill:#1a7f37}.orange{fill:#bc4c00}
@media (prefers-color-scheme:dark){text{fill:#9198a1}.title,.head,.name,.value{fill:#f0f6fc}.own{fill:#c297ff}
.ground{fill:#0d1117;stroke:#3d444d}.grid{stroke:#262c36}.axis{stroke:#656c76}.ours{fill:#ab7df8}.other{fill:#545d68}
.spread{stroke:#f0f6fc}.put{stroke:#ab7df8}.theirs{stroke:#9198a1}.wait{stroke:#545d68}.failed{stroke:#f0883e}
.killed{stroke:#f85149}.led{stroke:#3fb950}.red{fill:#f85149}.green{fill:#3fb950}.orange{fill:#f0883e}}
`.trim()

const width = 880

interface Picture {
  readonly height: number
  readonly title: string
  /** What is to be seen, for who does not see it. */
  readonly description: string
  readonly content: ReadonlyArray<string>
}

const svg = ({ content, description, height, title }: Picture): string =>
  `${[
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="title desc">`,
    `<title id="title">${escaped(title)}</title>`,
    `<desc id="desc">${escaped(description)}</desc>`,
    `<style>${style}</style>`,
    `<rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="8" class="ground"/>`,
    text(24, 36, "title", title),
    ...content
  ].join("\n")}\n</svg>\n`

/** A round number of steps that reach beyond the value. */
const scaleTo = (value: number): { readonly step: number; readonly end: number } => {
  const rough = value / 3
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough)!
  return { step, end: Math.ceil(value / step) * step }
}

const grouped = (value: number): string => Math.round(value).toLocaleString("en-US")

const thousands = (value: number): string => (value >= 1000 ? `${value / 1000}k` : String(value))

const minor = (version: string): string => version.split(".").slice(0, 2).join(".")

/** What has to be known to believe a picture. */
const measuredWith = ({ cpu, cpus, date, load, quick, versions }: Conditions): string => {
  const warnings = [
    ...(quick ? ["a short run"] : []),
    ...(load > 0.5 ? [`the machine was busy before (load ${load})`] : [])
  ]
  return [
    date,
    `etcd ${versions.etcd}`,
    `Node.js ${minor(versions.node)}`,
    `${cpus} cores${cpu === "" || cpu.startsWith("unknown") ? "" : ` (${cpu})`}`,
    ...warnings
  ].join(" · ")
}

const clientVersions = ({ versions }: Conditions): string =>
  `effect-etcd ${versions["effect-etcd"]}, Go clientv3 ${versions.clientv3}${
    versions.go === undefined ? "" : ` (Go ${minor(versions.go)})`
  }, @grpc/grpc-js ${versions["@grpc/grpc-js"]}, etcd3 ${versions.etcd3}`

// ── how fast it is ──

const clients: ReadonlyArray<readonly [client: string, label: string]> = [
  ["effect-etcd batched", "effect-etcd, batching"],
  ["effect-etcd", "effect-etcd"],
  ["go clientv3", "Go clientv3"],
  ["node http2", "bare node:http2 loop"],
  ["grpc-js", "bare @grpc/grpc-js"],
  ["etcd3", "etcd3"]
]

const isOurs = (client: string): boolean => client.startsWith("effect-etcd")

interface Column {
  readonly head: string
  readonly note: string
  readonly scenario: string
  readonly value: (row: Row) => number
  readonly shown: (value: number) => string
}

const columns: ReadonlyArray<Column> = [
  {
    head: "gets per second",
    note: "more is better",
    scenario: "get",
    value: (row) => row.opsPerSecond,
    shown: grouped
  },
  {
    head: "puts per second",
    note: "more is better",
    scenario: "put",
    value: (row) => row.opsPerSecond,
    shown: grouped
  },
  {
    head: "client CPU per get",
    note: "µs, less is better",
    scenario: "get",
    value: (row) => row.cpuMicrosPerOp,
    shown: (value) => (value < 10 ? value.toFixed(1) : String(Math.round(value)))
  }
]

const pictured = { inFlight: 64, valueBytes: 64 }

const rowOf = (rows: ReadonlyArray<Row>, scenario: string, client: string, inFlight: number, valueBytes: number) =>
  rows.find(
    (row) =>
      row.scenario === scenario && row.client === client && row.inFlight === inFlight && row.valueBytes === valueBytes
  )

const speedPicture = (run: Run): string => {
  const { inFlight, valueBytes } = pictured
  const top = 108
  const lane = 34
  const bar = 18
  const left = 192
  const gap = 30
  const each = (width - left - 24 - gap * (columns.length - 1)) / columns.length
  const valueSpace = 48
  const shown = clients.filter(([client]) => rowOf(run.rows, "get", client, inFlight, valueBytes) !== undefined)
  const bottom = top + lane * shown.length
  const content = shown.map(([client, label], at) =>
    text(left - 14, top + lane * at + 22, isOurs(client) ? "own end" : "name end", label)
  )
  for (const [index, { head, note, scenario, shown: print, value }] of columns.entries()) {
    const x = left + index * (each + gap)
    const rows = shown.map(([client]) => rowOf(run.rows, scenario, client, inFlight, valueBytes)!)
    // The spread of rounds is of rates.
    const spreads = rows.map((row) =>
      value(row) === row.opsPerSecond ? row.spread.split("-").map(Number) : [value(row), value(row)]
    )
    const { end, step } = scaleTo(Math.max(...rows.map(value), ...spreads.flat()))
    const scale = (of: number) => x + (of / end) * (each - valueSpace)
    content.push(text(x, 72, "head", head), text(x, 90, "small", note))
    for (let at = 0; at <= end + step / 2; at += step) {
      content.push(path(at === 0 ? "axis" : "grid", vertical(scale(at), top - 4, bottom)))
      content.push(text(scale(at), bottom + 17, "small mid", thousands(at)))
    }
    for (const [at, row] of rows.entries()) {
      const y = top + lane * at + (lane - bar) / 2
      const [slowest = 0, fastest = 0] = spreads[at]!
      content.push(rect(x, y, scale(value(row)) - x, bar, isOurs(row.client) ? "ours" : "other"))
      if (fastest > slowest) content.push(path("spread", horizontal(y + bar / 2, scale(slowest), scale(fastest))))
      content.push(text(Math.max(scale(value(row)), scale(fastest)) + 7, y + 14, "value", print(value(row))))
    }
  }
  const notes = [
    `${inFlight} calls in flight, values of ${valueBytes} bytes, one node that does not sync to disk. etcd and the client share the cores.`,
    `Medians of ${run.quick ? 3 : 5} rounds in changing order; thin lines from the slowest round to the fastest. Bare: nothing is decoded.`,
    clientVersions(run),
    measuredWith(run)
  ]
  for (const [at, note] of notes.entries()) content.push(text(24, bottom + 50 + at * 18, "small", note))
  const said = columns.map(
    ({ head, scenario, shown: print, value }) =>
      `${head}: ${shown
        .map(([client, label]) => `${label} ${print(value(rowOf(run.rows, scenario, client, inFlight, valueBytes)!))}`)
        .join(", ")}`
  )
  return svg({
    height: bottom + 50 + notes.length * 18 + 4,
    title: `Gets and puts of one key, ${inFlight} at the same time`,
    description: `${said.join(". ")}. ${notes.join(" ")}`,
    content
  })
}

// ── a leader that is killed ──

const from = -1000
const to = 9000

/** The longest time without an acknowledged put, of those that were over after the fault. */
const gapOf = ({ acknowledged }: Line): readonly [from: number, to: number] => {
  const ends = acknowledged.map(([, ended]) => ended).sort((one, other) => one - other)
  let longest: readonly [number, number] = [0, 0]
  for (const [index, end] of ends.entries()) {
    const before = ends[index - 1] ?? from
    if (end > 0 && end - before > longest[1] - longest[0]) longest = [before, end]
  }
  return longest
}

const seconds = (millis: number): string => `${(millis / 1000).toFixed(millis < 10_000 ? 2 : 1)} s`

/** The longest that a put took until it was acknowledged, or failed. */
const slowestOf = ({ acknowledged, failed }: Line): number =>
  Math.max(...[...acknowledged, ...failed].map(([begun, ended]) => ended - begun))

const loopNames = { closed: "one after the other", open: "one every 50 ms" } as const

const failoverClients: ReadonlyArray<readonly [client: string, label: string]> = [
  ["effect-etcd", "effect-etcd"],
  ["go clientv3", "Go clientv3"],
  ["etcd3", "etcd3"]
]

const failoverPicture = (run: Run): string => {
  const left = 170
  const right = width - 216
  const figures = [right + 64, right + 130, width - 24]
  const top = 132
  const lane = 26
  const tick = 18
  const scale = (millis: number) => left + ((millis - from) / (to - from)) * (right - left)
  const ticks = (puts: Line["acknowledged"], middle: number, height: number) => {
    const places = puts.map(([, ended]) => ended).filter((ended) => ended >= from && ended <= to)
    const distinct = new Set(places.map((ended) => short(Math.round(scale(ended) * 2) / 2)))
    return [...distinct].map((x) => `M${x} ${short(middle - height / 2)}v${height}`).join("")
  }
  const content: Array<string> = []
  const said: Array<string> = []
  let y = top
  let election = 0
  for (const [client, label] of failoverClients) {
    const lines = run.timelines.filter((line) => line.fault === "kill" && line.client === client)
    if (lines.length === 0) continue
    content.push(text(24, y + 14, isOurs(client) ? "own head" : "head", label))
    y += 22
    for (const line of lines) {
      election = line.electionMillis
      const middle = y + lane / 2
      const [begin, end] = gapOf(line)
      const failed = line.failed.filter(([, ended]) => ended >= from)
      const values = [seconds(end - begin), seconds(slowestOf(line)), String(failed.length)]
      content.push(text(24, middle + 4, "small", loopNames[line.loop]))
      content.push(path("wait", horizontal(middle, scale(begin), scale(end))))
      content.push(path(isOurs(client) ? "put" : "put theirs", ticks(line.acknowledged, middle, tick)))
      if (failed.length > 0) content.push(path("failed", ticks(failed, middle, tick / 2)))
      for (const [at, value] of values.entries()) {
        content.push(text(figures[at]!, middle + 4, at === 0 ? "value strong end" : "value end", value))
      }
      said.push(
        `${label}, ${loopNames[line.loop]}: ${values[0]} without an acknowledged write, at most ${values[1]} until a write was acknowledged or failed, ${values[2]} failed`
      )
      y += lane + 2
    }
    y += 8
  }
  const bottom = y
  const frame: Array<string> = []
  for (let second = Math.ceil(from / 1000); second * 1000 <= to; second++) {
    const x = scale(second * 1000)
    frame.push(path("grid", vertical(x, top - 4, bottom)))
    frame.push(text(x, bottom + 17, "small mid", (second + 1) * 1000 > to ? `${second} s` : String(second)))
  }
  frame.push(path("killed", vertical(scale(0), top - 18, bottom)))
  frame.push(text(scale(0) - 6, top - 10, "small end red", "leader killed"))
  frame.push(path("led", vertical(scale(election), top - 18, bottom)))
  frame.push(text(scale(election) + 6, top - 10, "small green", "another one leads"))
  const heads = [
    ["longest", "gap"],
    ["slowest", "outcome"],
    ["failed", "writes"]
  ]
  for (const [at, words] of heads.entries()) {
    for (const [line, word] of words.entries()) frame.push(text(figures[at]!, top - 18 + line * 15, "small end", word))
  }
  const legend = [
    path("put", "M25 54v18"),
    text(33, 67, "small", "a write of effect-etcd is acknowledged"),
    path("put theirs", "M293 54v18"),
    text(301, 67, "small", "of another client"),
    path("failed", "M433 58.5v9"),
    text(441, 67, "small", "a write fails")
  ]
  const notes = [
    "Seconds since the SIGKILL. Three members with etcd's own timing (election timeout 1 s); all clients at the same time.",
    "Gap: the longest time without an acknowledged write. Outcome: how long the slowest write took to be acknowledged or to fail.",
    `effect-etcd says of each write that fails here that it is unknown whether it was applied, and never sends one twice.`,
    `Of ${run.quick ? 3 : 20} rounds, that one is shown in which effect-etcd took its median.`,
    clientVersions(run).replace(/, @grpc\/grpc-js [^,]*/, ""),
    measuredWith(run)
  ]
  for (const [at, note] of notes.entries()) frame.push(text(24, bottom + 48 + at * 18, "small", note))
  return svg({
    height: bottom + 48 + notes.length * 18 + 2,
    title: "The leader of a cluster is killed: when are writes acknowledged?",
    description: `The leader is killed at 0 s, and another member leads after ${seconds(election)}. ${said.join(". ")}. ${notes.join(" ")}`,
    content: [...legend, ...frame, ...content]
  })
}

// ── tables, which stand in a guide between two comments ──

const tableOf = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string =>
  [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n")

const labels: Readonly<Record<string, string>> = {
  "effect-etcd": "effect-etcd",
  "effect-etcd batched": "effect-etcd, `batching: true`",
  "effect-etcd unix": "effect-etcd, Unix socket",
  "effect-etcd tls": "effect-etcd, TLS",
  "effect-etcd node:http2": 'effect-etcd, `transport: "node:http2"`',
  "effect-etcd, sticky": 'effect-etcd, `selection: "sticky"`',
  "go clientv3": "Go `clientv3`",
  "node http2": "a bare `node:http2` loop",
  "grpc-js": "bare `@grpc/grpc-js`",
  etcd3: "`etcd3`"
}

const distinct = <A>(items: ReadonlyArray<A>): ReadonlyArray<A> => [...new Set(items)]

const micros = (value: number): string => (value < 10 ? value.toFixed(1) : String(Math.round(value)))

const speedTables = (run: Run): string => {
  const ofKv = run.rows.filter(({ scenario }) => scenario === "get" || scenario === "put")
  const inFlights = distinct(ofKv.map(({ inFlight }) => inFlight))
  const tables = distinct(ofKv.map(({ valueBytes }) => valueBytes)).map((valueBytes) => {
    const rows = (["get", "put"] as const).flatMap((scenario) =>
      Object.entries(labels).flatMap(([client, label]) => {
        const cells = inFlights.map((inFlight) => rowOf(ofKv, scenario, client, inFlight, valueBytes))
        if (cells.some((row) => row === undefined)) return []
        return [
          [
            `${scenario}, ${label}`,
            ...cells.map((row) => `${grouped(row!.opsPerSecond)}, ${micros(row!.cpuMicrosPerOp)} µs`)
          ]
        ]
      })
    )
    const head = [`values of ${valueBytes} bytes`, ...inFlights.map((count) => `${grouped(count)} in flight`)]
    return `Each cell: calls per second, and the client's CPU time per call.\n\n${tableOf(head, rows)}`
  })
  return [...tables, `(${measuredWith(run)} · ${clientVersions(run)})`].join("\n\n")
}

const faults: ReadonlyArray<readonly [fault: string, label: string]> = [
  ["kill", "leader killed"],
  ["pause", "leader stands still"],
  ["isolate", "leader cut off"],
  ["cut", "client cut off from a member"]
]

const givenUpMicros = 10_000_000

const failoverTable = (run: Run): string => {
  const rows = Object.entries(labels).flatMap(([client, label]) => {
    const cells = faults.map(([fault]) =>
      (["closed", "open"] as const).map((loop) => {
        const row = run.rows.find((row) => row.client === client && row.scenario === `failover ${fault} ${loop}`)
        const median = row?.p50Micros
        if (median === undefined || median === null) return undefined
        return median >= givenUpMicros ? "none in 10" : (median / 1_000_000).toFixed(2)
      })
    )
    return cells.flat().includes(undefined) ? [] : [[label, ...cells.map((cell) => cell.join(", "))]]
  })
  return [
    "Each cell: the seconds until puts were acknowledged again, first of a program that makes one put after the other, " +
      `then of one that makes a put every 50 ms, whatever became of those before; medians of ${run.quick ? 3 : 20} times. ` +
      "“None in 10”: no put was acknowledged within ten seconds.",
    tableOf(["", ...faults.map(([, label]) => label)], rows),
    `(${measuredWith(run)})`
  ].join("\n\n")
}

/** Puts it between `<!-- name -->` and `<!-- /name -->`. */
const between = (page: string, name: string, content: string): string => {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`]
  const [from, to] = [page.indexOf(begin), page.indexOf(end)]
  return from === -1 || to === -1 ? page : `${page.slice(0, from + begin.length)}\n\n${content}\n\n${page.slice(to)}`
}

// ── all of it ──

const guide = join("docs", "speed.md")

/** What is made of the results that there are, by where it belongs. */
export const made = (): ReadonlyMap<string, string> => {
  const [speed, failover] = ["speed", "failover"].map((name) =>
    fromFile(join(root, "benchmark", "results", `${name}.json`))
  )
  const files = new Map<string, string>()
  let page = readFileSync(join(root, guide), "utf8")
  if (speed !== undefined) {
    files.set(join("docs", "pictures", "speed.svg"), speedPicture(speed))
    page = between(page, "speed", speedTables(speed))
  }
  if (failover !== undefined) {
    files.set(join("docs", "pictures", "failover.svg"), failoverPicture(failover))
    page = between(page, "failover", failoverTable(failover))
  }
  return files.size === 0 ? files : files.set(guide, page)
}

export const pictures: Effect.Effect<void, BenchError> = Effect.gen(function* () {
  const files = made()
  if (files.size === 0) {
    return yield* new BenchError({
      message:
        "there are no results yet: npm run bench -- --json benchmark/results/speed.json, " +
        "npm run bench -- failover --json benchmark/results/failover.json"
    })
  }
  for (const [file, content] of files) {
    mkdirSync(join(root, dirname(file)), { recursive: true })
    writeFileSync(join(root, file), content)
    console.log(`${file} (${Buffer.byteLength(content)} bytes)`)
  }
})
