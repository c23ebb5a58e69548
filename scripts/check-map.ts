/**
 * Holds `src/` against its map in `docs/ARCHITECTURE.md`: every module and every room has its line there, and every line
 * names what there is, or what is to come, and so does what it tells of a room, each name in backticks being a module
 * there, and so do its walks; nothing is imported, types neither, from a part of the map that is further up; no rooms load
 * each other in a circle (of modules, Biome's `noImportCycles` finds it); what of Node.js belongs to one room is imported
 * in no other. An index does nothing but export modules, and no module outside `internal/` exports what it calls internal.
 *
 * It reads imports as Biome formats them.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { basename, dirname, join, normalize, sep } from "node:path"
import process from "node:process"

/** A line of the map: a module, or a room, whose name ends with a slash. */
interface Line {
  readonly name: string
  /** Which part of the map it is in, from the top. */
  readonly part: number
  readonly isToCome: boolean
  /** The modules of a room that it tells of. */
  readonly modules: ReadonlyArray<string>
}

const readMap = (text: string): ReadonlyArray<Line> => {
  const [, map = ""] = /^src\/\n((?: {2}.*\n)+)/m.exec(text) ?? []
  // Above the first heading, where the index and the front door are, each line is a part.
  const [top = "", ...parts] = map.split(/^ {2}── .*\n/m)
  const linesIn = (lines: string) =>
    Array.from(lines.matchAll(/^ {2}(\S+)( +to come: )?(.*(?:\n {3,}.*)*)/gm), ([, name, toCome, said]) => ({
      name: name!,
      isToCome: toCome !== undefined,
      modules: name!.endsWith("/") ? Array.from(said!.matchAll(/`(\w+)`/g), ([, module]) => `${name}${module}.ts`) : []
    }))
  return [...linesIn(top).map((line) => [line]), ...parts.map(linesIn)].flatMap((lines, part) =>
    lines.map((line) => ({ ...line, part }))
  )
}

interface Import {
  readonly from: string
  readonly to: string
  /** Whether it stays when the types are gone. */
  readonly isLoaded: boolean
}

const statements = /^(?:import|export) (type )?(?:[\w$*\s{},]+ from )?"(\.[^"]+)"/gm
const expressions = /\bimport\("(\.[^"]+)"\)/g

/** What of Node.js belongs to one room, types too. */
const owned = [{ builtin: "node:http2", room: "internal/nodeHttp2/" }] as const

const names = (text: string, builtin: string): boolean =>
  new RegExp(`(?:\\bfrom |^import |\\bimport\\(|\\bgetBuiltinModule\\()"${builtin}"`, "m").test(text)

const slashed = (path: string): string => path.split(sep).join("/")

const importsOf = (source: string, from: string): ReadonlyArray<Import> => {
  const text = readFileSync(join(source, from), "utf8")
  const resolve = (path: string) => slashed(normalize(join(dirname(from), path)))
  return [
    ...Array.from(text.matchAll(statements), ([, type, path]) => ({
      from,
      to: resolve(path!),
      isLoaded: type === undefined
    })),
    ...Array.from(text.matchAll(expressions), ([, path]) => ({ from, to: resolve(path!), isLoaded: true }))
  ]
}

/** The shortest way from a room to another. */
const wayOf = (
  edges: ReadonlyMap<string, ReadonlySet<string>>,
  from: string,
  to: string
): ReadonlyArray<string> | undefined => {
  const ways: Array<ReadonlyArray<string>> = [[from]]
  const seen = new Set([from])
  for (const way of ways) {
    const last = way.at(-1)!
    if (last === to) return way
    for (const next of edges.get(last) ?? []) {
      if (seen.has(next)) continue
      seen.add(next)
      ways.push([...way, next])
    }
  }
  return undefined
}

const circlesOf = (edges: ReadonlyMap<string, ReadonlySet<string>>): ReadonlyArray<string> => {
  const circles = new Map<string, string>()
  for (const [from, tos] of edges) {
    for (const to of tos) {
      const way = wayOf(edges, to, from)
      if (way === undefined) continue
      const key = [...way].sort().join(" ")
      if (!circles.has(key)) circles.set(key, [from, ...way].join(" → "))
    }
  }
  return [...circles.values()]
}

const onlyExports = (index: string): boolean =>
  index
    .replace(/\/\*[\s\S]*?\*\//g, "")
    .split("\n")
    .every((line) => line === "" || /^export \* as (\w+) from "\.\/\1\.ts"$/.test(line))

/** What of the sources below `root` is not as their map says, in words. */
export const problemsOf = (root: string): ReadonlyArray<string> => {
  const source = join(root, "src")
  const text = readFileSync(join(root, "docs", "ARCHITECTURE.md"), "utf8")
  const lines = new Map(readMap(text).map((line) => [line.name, line]))
  const modules = readdirSync(source, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map(slashed)
    .sort()
  const lineOf = (module: string): Line | undefined => lines.get(module) ?? lines.get(`${dirname(module)}/`)
  const problems: Array<string> = []

  for (const module of modules) {
    if (lineOf(module) === undefined) problems.push(`src/${module} is not on the map, nor is its room.`)
  }
  for (const { isToCome, modules: told, name } of lines.values()) {
    const isThere = name.endsWith("/")
      ? modules.some((module) => `${dirname(module)}/` === name)
      : modules.includes(name)
    if (!isThere && !isToCome) problems.push(`The map names src/${name}, and there is no such thing.`)
    if (isThere && isToCome) problems.push(`The map says that src/${name} is to come, and it is there.`)
    for (const module of told) {
      if (!modules.includes(module)) problems.push(`The map tells of src/${module}, and there is no such thing.`)
    }
  }
  for (const [, path] of text.matchAll(/`(internal\/[\w./-]+)`/g)) {
    if (!existsSync(join(source, path!))) problems.push(`The page tells of src/${path}, and there is no such thing.`)
  }

  for (const [, walk] of text.matchAll(/^```walk\n([\s\S]*?)^```/gm)) {
    for (const [, name, path] of walk!.matchAll(/(\w+) +(\S+\.ts)$/gm)) {
      const module = join(source, path!)
      if (!existsSync(module) || !new RegExp(`\\b${name}\\b`).test(readFileSync(module, "utf8"))) {
        problems.push(`A walk goes to ${name} in src/${path}, and there is no such thing.`)
      }
    }
  }

  const edges = new Map<string, Set<string>>()
  for (const { from, isLoaded, to } of modules.flatMap((module) => importsOf(source, module))) {
    const [here, there] = [lineOf(from), lineOf(to)]
    if (here === undefined || there === undefined || here === there) continue
    if (there.part < here.part) problems.push(`src/${from} imports src/${to}, which is above it on the map.`)
    if (isLoaded) edges.set(here.name, (edges.get(here.name) ?? new Set()).add(there.name))
  }
  for (const circle of circlesOf(edges)) problems.push(`These load each other: ${circle}.`)

  for (const module of modules) {
    const text = readFileSync(join(source, module), "utf8")
    for (const { builtin, room } of owned) {
      if (lineOf(module)?.name !== room && names(text, builtin)) {
        problems.push(`src/${module} imports ${builtin}, which only src/${room} does.`)
      }
    }
    if (!module.startsWith("internal/") && text.includes("@internal")) {
      problems.push(`src/${module} exports what it calls internal.`)
    }
  }
  for (const index of modules.filter((module) => basename(module) === "index.ts")) {
    if (!onlyExports(readFileSync(join(source, index), "utf8"))) {
      problems.push(`src/${index} has more than modules that it exports by their names.`)
    }
  }
  return problems
}

if (import.meta.main) {
  const problems = problemsOf(join(import.meta.dirname, ".."))
  for (const problem of problems) console.error(problem)
  if (problems.length > 0) process.exitCode = 1
}
