/**
 * Lanes of what lasts for some time: faults, roles and operations.
 */
import type { Operation } from "../history.ts"
import type { Band, Run } from "../run.ts"
import { type Content, type Html, html, raw } from "./html.ts"
import { binned, countsOf, type Outcome, outcomes } from "./series.ts"
import { clockOf, overlaps, placeStyle, second, short, type Window, wholeOf } from "./time.ts"
import { callWords, count, counted, resultWords, tookWords } from "./words.ts"

/** A name, and beside it (or above, where there is little room) what is placed in time. */
export const lane = (kind: string, name: Content, area: Content, attributes: Content = ""): Html =>
  html`<div class="lane ${kind}"><div class="name">${name}</div><div class="area"${attributes}>${area}</div></div>`

const naturally = new Intl.Collator("en", { numeric: true }).compare

// ── faults ──

export interface Fault extends Band {
  readonly window: Window
}

export const faultsOf = (run: Run): ReadonlyArray<Fault> => {
  const clock = clockOf(run)
  return run.bands.map((band) => ({
    ...band,
    window: { from: clock(band.from), to: band.to === null ? wholeOf(run).to : clock(band.to) }
  }))
}

export const faultTitle = ({ kind, to, what, window }: Fault): string =>
  `${kind}: ${what}, ${second(window.from)} to ${to === null ? "the end" : second(window.to)}`

/** Rows in which no two are at the same time. */
const rowsOf = (faults: ReadonlyArray<Fault>): ReadonlyArray<ReadonlyArray<Fault>> => {
  const rows: Array<Array<Fault>> = []
  for (const fault of faults.toSorted((one, other) => one.window.from - other.window.from)) {
    const free = rows.find((row) => row.at(-1)!.window.to <= fault.window.from)
    if (free === undefined) rows.push([fault])
    else free.push(fault)
  }
  return rows
}

const faultBar = (fault: Fault): Html =>
  html`<div class="bar fault" style="${placeStyle(fault.window.from, fault.window.to)}" title="${faultTitle(fault)}"><span>${fault.what}</span></div>`

export const faultLanes = (run: Run, window: Window): ReadonlyArray<Html> => {
  const faults = faultsOf(run).filter((fault) => overlaps(fault.window, window))
  const kinds = [...Map.groupBy(faults, ({ kind }) => kind)].toSorted(([one], [other]) => naturally(one, other))
  return kinds.flatMap(([kind, ofKind]) =>
    rowsOf(ofKind).map((row, index) => lane("faults", index === 0 ? kind : "", row.map(faultBar)))
  )
}

/** Behind a plot. */
export const faultShades = (run: Run): ReadonlyArray<Html> =>
  faultsOf(run).map(
    (fault) =>
      html`<div class="bar shade" style="${placeStyle(fault.window.from, fault.window.to)}" title="${faultTitle(fault)}"></div>`
  )

// ── roles ──

export interface RoleSpan {
  readonly member: string
  readonly role: string
  readonly term: number
  readonly window: Window
}

/** What a member is until it is something else. What it was before is not known. */
export const rolesOf = (run: Run): ReadonlyMap<string, ReadonlyArray<RoleSpan>> => {
  const clock = clockOf(run)
  const byMember = Map.groupBy(
    run.roles.toSorted((one, other) => one.at - other.at),
    ({ member }) => member
  )
  const members = [...new Set([...run.members, ...byMember.keys()])]
  return new Map(
    members.map((member) => {
      const roles = byMember.get(member) ?? []
      return [
        member,
        roles.map(({ at, role, term }, index) => {
          const next = roles[index + 1]
          return {
            member,
            role,
            term,
            window: { from: clock(at), to: next === undefined ? Math.max(clock(at), wholeOf(run).to) : clock(next.at) }
          }
        })
      ]
    })
  )
}

const roleBar = ({ member, role, term, window }: RoleSpan): Html =>
  html`<div class="bar role ${role}" style="${placeStyle(window.from, window.to)}" title="${member}: ${role} in term ${term}, ${second(window.from)} to ${second(window.to)}"><span class="long">${role} ${term}</span><span class="short">${term}</span></div>`

export const roleLanes = (run: Run, window: Window): ReadonlyArray<Html> =>
  [...rolesOf(run)].map(([member, spans]) =>
    lane("roles", member, spans.filter((span) => overlaps(span.window, window)).map(roleBar))
  )

// ── operations ──

export const clientsOf = (operations: ReadonlyArray<Operation>): ReadonlyMap<string, ReadonlyArray<Operation>> =>
  new Map([...Map.groupBy(operations, ({ client }) => client)].toSorted(([one], [other]) => naturally(one, other)))

const bins = 240

const height = 24

/** Answered stand on the ground, the others hang from above, and are seen also where they are few. */
const densityPath = (counts: ReadonlyArray<number>, most: number, hangs: boolean): string => {
  let path = ""
  for (const [index, value] of counts.entries()) {
    if (value === 0) continue
    const size = Math.round(Math.max(hangs ? 4 : 1.5, (value / most) * height) * 10) / 10
    path += `M${index} ${hangs ? 0 : height}v${hangs ? size : -size}h1v${hangs ? -size : size}`
  }
  return path
}

const outcomeWords = (counts: Readonly<Record<Outcome, number>>): string =>
  `${count(counts.answered)} answered, ${count(counts["not-applied"])} not applied, ${count(counts.unknown)} unknown`

/** How many operations each client has ended, over the whole run. The script of the page draws the single ones here. */
export const densityLanes = (run: Run): ReadonlyArray<Html> => {
  const seconds = wholeOf(run).to
  const clients = [...clientsOf(run.operations)].map(([client, operations]) => ({
    client,
    all: countsOf(operations),
    bins: binned(run, operations, bins, bins / seconds).map(countsOf)
  }))
  const most = clients.reduce((max, client) => Math.max(max, ...client.bins.map(({ answered }) => answered)), 1)
  const scale = (seconds / bins).toFixed(6)
  return clients.map(({ all, bins: parts, client }) => {
    const paths = outcomes.map((outcome) => {
      const path = densityPath(
        parts.map((counts) => counts[outcome]),
        most,
        outcome !== "answered"
      )
      return path === "" ? undefined : html`<path class="${outcome}" transform="scale(${scale} 1)" d="${path}"/>`
    })
    const total = all.answered + all["not-applied"] + all.unknown
    return lane(
      "operations",
      html`${client} <small>${count(total)}</small>`,
      html`<svg class="over-time" viewBox="0 0 ${short(seconds)} ${height}" preserveAspectRatio="none" role="img" aria-label="${client}: ${counted(total, "operation")}, ${outcomeWords(all)}">${paths}</svg><canvas aria-hidden="true"></canvas>`,
      html` data-client="${client}"`
    )
  })
}

export const operationTitle = (operation: Operation): string =>
  [
    `#${operation.id} ${operation.client}`,
    callWords(operation.call),
    resultWords(operation.call, operation.result),
    tookWords(operation)
  ].join("\n")

/** Single operations of each client. Who has its number on it is one that all is about; the others lead nowhere. */
export const operationLanes = (
  run: Run,
  operations: ReadonlyArray<Operation>,
  looks: (operation: Operation) => {
    readonly kind: string
    readonly label: Html | undefined
    readonly href: string | undefined
  }
): ReadonlyArray<Html> => {
  const clock = clockOf(run)
  return [...clientsOf(operations)].map(([client, ofClient]) =>
    lane(
      "operations",
      client,
      ofClient.map((operation) => {
        const { href, kind, label } = looks(operation)
        const to = clock(operation.ended ?? operation.begun)
        const attributes = html`class="bar operation ${operation.result.outcome} ${kind}${operation.ended === null ? " endless" : ""}" style="${placeStyle(clock(operation.begun), to)}" title="${operationTitle(operation)}"`
        return href === undefined ? html`<div ${attributes}></div>` : html`<a href="${href}" ${attributes}>${label}</a>`
      })
    )
  )
}

export const axis = (name: string, ticks: ReadonlyArray<{ readonly at: number; readonly text: string }>): Html =>
  lane(
    "axis",
    name,
    ticks.map(({ at, text }) => html`<span class="tick" style="${placeStyle(at)}">${text}</span>`),
    raw(' aria-hidden="true"')
  )
