import { inflateSync } from "node:zlib"
import { assert, describe, it } from "@effect/vitest"
import type { Operation, Violation } from "./history.ts"
import { escaped } from "./report/html.ts"
import { indexOf, positionsOf, scenesOf } from "./report/scenes.ts"
import { bySecond } from "./report/series.ts"
import { ticksOf } from "./report/time.ts"
import { report } from "./report.ts"
import type { Run } from "./run.ts"
import { syntheticRun } from "./support/syntheticRun.ts"

const faulty = syntheticRun({ operations: 20_000, clients: 12, seconds: 120, isFaulty: true })
const page = report(faulty)

const clean = syntheticRun({ operations: 500, clients: 3, seconds: 10, isFaulty: false })

const violations = faulty.verdicts.flatMap((verdict) => verdict.violations)

const occurrences = (text: string, part: string): number => text.split(part).length - 1

/** What is between the first of one and the next of the other. */
const between = (text: string, from: string, to: string): string => {
  const start = text.indexOf(from)
  assert.isAtLeast(start, 0, `there is no ${from}`)
  return text.slice(start, text.indexOf(to, start))
}

const titleOf = (text: string): string => between(text, "<h1>", "</h1>").slice(4)

const withViolations = (run: Run, some: ReadonlyArray<Violation>): Run => ({
  ...run,
  verdicts: [{ judge: "a judge", examined: "all of it", millis: 1, violations: some }]
})

const operation = (id: number, begun: number, ended: number | null, client = "one"): Operation => ({
  id,
  client,
  begun,
  ended,
  call: { name: "get", serializable: false, compare: [], success: [{ do: "get", key: "k/1" }], failure: [] },
  result:
    ended === null
      ? { outcome: "unknown", error: "killed" }
      : { outcome: "answered", revision: 2, memberId: "m1", succeeded: true, found: [null] }
})

/** A run of a second for each operation, or so. */
const runOf = (operations: ReadonlyArray<Operation>, more: Partial<Run> = {}): Run => ({
  ...clean,
  begun: 1000,
  ended: 11_000,
  operations,
  entries: [],
  bands: [],
  roles: [],
  longestUnavailability: { millis: 0, from: 1000 },
  ...more
})

/** The operations that the script of the page has. */
const embedded = (text: string) => {
  const [, base64 = ""] = /<script type="text\/plain" id="operations">([^<]*)</.exec(text) ?? []
  return JSON.parse(inflateSync(Buffer.from(base64, "base64")).toString("utf8")) as {
    readonly clients: ReadonlyArray<string>
    readonly id: ReadonlyArray<number>
    readonly begun: ReadonlyArray<number>
    readonly took: ReadonlyArray<number>
    readonly call: ReadonlyArray<string>
    readonly result: ReadonlyArray<string>
  }
}

describe("the report of a torture run", () => {
  it("has a verdict", () => {
    const [violation] = violations
    assert.strictEqual(titleOf(page), "1 violation")
    assert.strictEqual(titleOf(report(clean)), "Passed")
    assert.strictEqual(titleOf(report({ ...clean, verdicts: [] })), "Not judged")
    assert.strictEqual(
      titleOf(report({ ...clean, expected: [{ violation: violation!, issue: "123" }] })),
      "Passed, 1 expected violation"
    )
  })

  it("takes a violation of a judge for expected if it is said to be", () => {
    const [violation] = violations
    const text = report({ ...faulty, expected: [{ violation: { ...violation! }, issue: "etcd-io/etcd#18667" }] })
    assert.strictEqual(titleOf(text), "Passed, 1 expected violation")
    assert.strictEqual(occurrences(text, "<article"), 1)
    assert.include(text, '<a href="https://github.com/etcd-io/etcd/issues/18667"')
  })

  it("tells what the run was and how to run it again", () => {
    const header = between(page, "<header>", "</header>")
    for (const part of [
      "etcd 3.6.4",
      faulty.operations.length.toLocaleString("en-US"),
      "120.0 s",
      "5 members",
      "12 clients",
      escaped(faulty.command)
    ]) {
      assert.include(header, part)
    }
  })

  it("has each judge with what it examined", () => {
    const judges = between(page, '<section id="judges">', '<section id="timeline">')
    for (const { examined, judge } of faulty.verdicts) {
      assert.include(judges, `<h3>${judge} `)
      assert.include(judges, escaped(examined))
    }
  })

  it("has each violation with its operations", () => {
    for (const [index, { message, operations }] of violations.entries()) {
      const article = between(page, `id="violation-${index + 1}"`, "</article>")
      assert.include(article, escaped(message))
      for (const id of operations) {
        assert.include(article, `<b>#${id}</b>`)
        assert.include(article, `id="violation-${index + 1}-operation-${id}"`)
      }
    }
  })

  it("has each fault, and behind each plot too", () => {
    const timeline = between(page, '<section id="timeline">', '<section id="violations">')
    assert.strictEqual(occurrences(timeline, 'class="bar fault"'), faulty.bands.length)
    assert.strictEqual(occurrences(timeline, 'class="bar shade"'), 2 * faulty.bands.length)
    for (const { kind, what } of faulty.bands) assert.include(timeline, `title="${escaped(`${kind}: ${what}`)}, `)
  })

  it("has each role of each member", () => {
    const timeline = between(page, '<section id="timeline">', '<section id="violations">')
    for (const member of faulty.members) assert.include(timeline, `<div class="name">${member}</div>`)
    for (const { member, role, term } of faulty.roles) {
      assert.include(timeline, `title="${member}: ${role} in term ${term}, `)
    }
    assert.strictEqual(occurrences(timeline, 'class="bar role '), faulty.roles.length)
  })

  it("has a lane for each client", () => {
    for (const client of new Set(faulty.operations.map((each) => each.client))) {
      assert.strictEqual(occurrences(page, `data-client="${client}"`), 1)
    }
  })

  it("has faults that last until the end, and members of which nothing is known", () => {
    const text = report(
      runOf([], { members: ["silent"], bands: [{ kind: "kill", what: "silent", from: 2000, to: null }] })
    )
    assert.include(text, '<div class="name">silent</div>')
    assert.include(text, 'style="--a:1;--b:10" title="kill: silent, 1.000\u00a0s to the end"')
  })

  it("stands alone, and lets no script run but its own", () => {
    const addresses = page.match(/\b(?:https?|file|data):\/*[^"'\s<]*/g) ?? []
    assert.deepStrictEqual(addresses, [])
    assert.notMatch(page, /<(?:link|iframe|img|object|embed|base)\b|@import|url\(|\bsrc=/)
    assert.match(page, /default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-[\w+/]+=*';/)
  })

  it("lets nothing of a run be markup", () => {
    const evil = `</script><script>alert(1)</script><b onclick='x' title="y">&amp;\u0000\u202e`
    const call = { ...operation(1, 2000, 2001).call, name: evil, compare: [{ key: evil, value: evil }] }
    const violation = { kind: evil, message: evil, operations: [1, 2] }
    const text = report(
      runOf(
        [
          { ...operation(1, 2000, 2001), client: evil, call },
          { ...operation(2, 2000, 2001), client: evil, result: { outcome: "not-applied", error: evil } }
        ],
        {
          etcd: evil,
          command: evil,
          members: [evil],
          entries: [{ revision: 2, changes: [{ key: evil, value: evil }] }],
          bands: [{ kind: evil, what: evil, from: 2000, to: 3000 }],
          roles: [{ member: evil, at: 2000, role: "leader", term: 2 }],
          verdicts: [{ judge: evil, examined: evil, millis: 1, violations: [violation] }],
          expected: [{ violation: { ...violation, message: `also ${evil}` }, issue: evil }]
        }
      )
    )
    assert.strictEqual(occurrences(text, "<script"), 3)
    assert.strictEqual(occurrences(text, "</script"), 3)
    assert.notInclude(text, "<b onclick")
    assert.notInclude(text, "&amp;amp;amp;")
    assert.include(text, escaped(evil))
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is about.
    assert.notMatch(text, /[\u0000\u202e]/)
  })

  it("has all operations for its script to draw", () => {
    const { begun, call, clients, id, result, took } = embedded(page)
    const inOrder = faulty.operations.toSorted((one, other) => one.begun - other.begun)
    assert.deepStrictEqual(
      id,
      inOrder.map((each) => each.id)
    )
    assert.sameMembers([...clients], [...new Set(inOrder.map(({ client }) => client))])
    const last = inOrder.at(-1)!
    const sum = begun.reduce((one, other) => one + other)
    assert.approximately(sum / 100, last.begun - faulty.begun, 0.01)
    assert.approximately((took.at(-1)! - 1) / 100, last.ended! - last.begun, 0.01)
    assert.include(call.at(-1), last.call.name)
    assert.isNotEmpty(result.at(-1))
    assert.include(page, "All operations are in this page")
  })

  it("is small enough to be opened quickly with 200,000 operations of 40 clients", () => {
    const large = syntheticRun({ operations: 200_000, clients: 40, seconds: 600, isFaulty: true })
    const text = report(large)
    assert.isBelow(text.length, 15_000_000)
    assert.strictEqual(embedded(text).id.length, large.operations.length)
  })

  it("says how many operations it has if these are too many, and has those of violations", () => {
    const many = Array.from({ length: 260_000 }, (_, index) =>
      operation(index, 1000 + index / 30, 1000 + index / 30 + 1)
    )
    const text = report(withViolations(runOf(many), [{ kind: "odd", message: "odd", operations: [77_777] }]))
    const { id } = embedded(text)
    assert.isBelow(id.length, 250_000)
    assert.include(id, 77_777)
    assert.include(text, `Of 260,000 operations ${id.length.toLocaleString("en-US")} are in this page`)
  })

  it("draws the first of many violations, and has the sentences of all", () => {
    const operations = Array.from({ length: 40 }, (_, index) => operation(index, 1000 + index, 1001 + index))
    const many = operations.map(({ id }) => ({ kind: "odd", message: `sentence ${id}.`, operations: [id] }))
    const text = report(withViolations(runOf(operations), many))
    const judges = between(text, '<section id="judges">', '<section id="timeline">')
    for (const { message } of many) assert.include(judges, `<p>${message}</p>`)
    assert.strictEqual(occurrences(text, "<article"), 25)
    assert.strictEqual(occurrences(text, 'class="flag '), many.length)
    assert.include(text, "of the other 15 there is the sentence")
    for (const [index] of many.entries()) assert.strictEqual(occurrences(text, ` id="violation-${index + 1}"`), 1)
  })

  it("says of operations that are not in the history that they are not", () => {
    const text = report(withViolations(runOf([]), [{ kind: "odd", message: "odd", operations: [5, 5] }]))
    assert.include(text, "1 operation that it is about is not in the history")
  })

  it("can be made of a run of no time in which nothing happened", () => {
    assert.include(report(runOf([], { ended: 1000, verdicts: [], members: [] })), "Nobody has judged this run")
  })
})

describe("the seconds of a report", () => {
  it("count operations where they ended, or began if they never did", () => {
    const seconds = bySecond(
      runOf([operation(1, 1100, 1200), operation(2, 1900, 2100), operation(3, 3500, null), operation(4, 500, 900)])
    )
    assert.deepStrictEqual(
      seconds.slice(0, 3).map(({ answered, unknown }) => [answered, unknown]),
      [
        [2, 0],
        [1, 0],
        [0, 1]
      ]
    )
  })

  it("have latencies by the nearest rank, of what was answered", () => {
    const all = Array.from({ length: 200 }, (_, index) => operation(index, 1000, 1001 + index))
    const [first, second] = bySecond(runOf(all))
    assert.deepStrictEqual(first?.latency, { p50: 100, p99: 198, max: 200 })
    assert.isNull(second?.latency)
  })
})

describe("the drawings of a violation", () => {
  const scenesIn = (operations: ReadonlyArray<Operation>, about: ReadonlyArray<Operation>) => {
    const index = indexOf(runOf(operations))
    const ids = about.map(({ id }) => id)
    const violation = { kind: "odd", message: "odd", operations: ids }
    return scenesOf(index, positionsOf(index, { number: 1, judge: "a judge", violation, issue: undefined }))
  }
  const one = operation(-1, 2000, 2001, "two")
  const other = operation(-2, 9000, 9001, "two")

  it("are one where little is between its operations, and several where much is", () => {
    assert.strictEqual(scenesIn([other, one], [one, other]).length, 1)
    const much = Array.from({ length: 1000 }, (_, index) => operation(index, 3000 + index, 3001 + index))
    const scenes = scenesIn([other, one, ...much], [one, other])
    assert.strictEqual(scenes.length, 2)
    assert.include(scenes[0]?.operations, one)
    assert.include(scenes[1]?.operations, other)
  })

  it("have what it is about, and then what has its keys, where not all can be drawn", () => {
    const long = operation(-1, 2000, 8000, "two")
    const others = Array.from({ length: 1000 }, (_, index) => {
      const each = operation(index, 3000 + index, 3001 + index)
      return index === 999
        ? each
        : { ...each, call: { ...each.call, success: [{ do: "get", key: "other/1" } as const] } }
    })
    const [scene] = scenesIn([long, ...others], [long])
    assert.strictEqual(scene?.operations.length, 300)
    assert.strictEqual(scene?.leftOut, 701)
    assert.include(scene?.operations, long)
    assert.include(scene?.operations, others[999])
  })
})

describe("the axis of time", () => {
  it("has round times", () => {
    assert.deepStrictEqual(
      ticksOf({ from: 0.3, to: 1.1 }).ticks.map(({ text }) => text),
      ["0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1.0", "1.1"]
    )
    assert.deepStrictEqual(
      ticksOf({ from: 0, to: 600 }).ticks.map(({ at }) => at),
      [0, 100, 200, 300, 400, 500, 600]
    )
  })
})
