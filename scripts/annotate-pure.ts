/**
 * The second part of `npm run build`: marks the calls that the modules in `dist/` make when they are loaded as `PURE`, so
 * that a bundler leaves out what a program does not use. It is what Babel's `annotate-pure-calls` does, with which `effect`
 * is built, and keeps the source maps true.
 *
 * Marked are the calls in the values of constants, in static properties and in what a class extends; nothing within a
 * function. A call that stands by itself is there for what it does, and stays.
 */
import { globSync, readFileSync, writeFileSync } from "node:fs"
import { parseAst } from "rolldown/parseAst"

const mark = "/* @__PURE__ */ "

interface Node {
  readonly type: string
  readonly start: number
}

const isNode = (value: unknown): value is Node => typeof value === "object" && value !== null && "type" in value

/** Where calls begin in an expression. */
const callsIn = (value: unknown): ReadonlyArray<number> => {
  if (Array.isArray(value)) return value.flatMap(callsIn)
  if (!isNode(value)) return []
  switch (value.type) {
    case "FunctionExpression":
    case "FunctionDeclaration":
    case "ArrowFunctionExpression":
    case "MethodDefinition":
    case "StaticBlock":
    case "ExpressionStatement":
      return []
    case "PropertyDefinition":
      if (!("static" in value) || value.static !== true) return []
  }
  const own = value.type === "CallExpression" || value.type === "NewExpression" ? [value.start] : []
  return [...own, ...Object.values(value).flatMap(callsIn)]
}

const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

/** The first number of a segment of a source map, which is how far its column is from the one before, and the rest. */
const readColumn = (segment: string): readonly [column: number, rest: string] => {
  let value = 0
  for (let at = 0; ; at++) {
    const digit = digits.indexOf(segment[at]!)
    value += (digit & 31) << (5 * at)
    if (digit < 32) return [value >> 1, segment.slice(at + 1)]
  }
}

const writeColumn = (column: number): string => {
  let text = ""
  for (let value = column << 1; ; value >>= 5) {
    if (value < 32) return text + digits[value]
    text += digits[(value & 31) | 32]
  }
}

/** Moves the columns of a line behind the marks that are put into it. */
const shift = (line: string, marks: ReadonlyArray<number>): string => {
  let before = 0
  let after = 0
  return line
    .split(",")
    .map((segment) => {
      const [column, rest] = readColumn(segment)
      before += column
      const moved = before + mark.length * marks.filter((at) => at <= before).length
      const text = writeColumn(moved - after) + rest
      after = moved
      return text
    })
    .join(",")
}

const annotate = (file: string): void => {
  const code = readFileSync(file, "utf8")
  const places = Array.from(new Set(callsIn(parseAst(code).body)))
    .filter((at) => !/__PURE__\s*\*\/\s*$/.test(code.slice(0, at)))
    .sort((a, b) => a - b)
  if (places.length === 0) return
  writeFileSync(file, [0, ...places].map((from, index) => code.slice(from, places[index])).join(mark))
  const starts = [0, ...Array.from(code.matchAll(/\n/g), ({ index }) => index + 1)]
  const marks = starts.map((start, line) =>
    places.filter((at) => at >= start && at < (starts[line + 1] ?? code.length)).map((at) => at - start)
  )
  const map = JSON.parse(readFileSync(`${file}.map`, "utf8"))
  map.mappings = map.mappings
    .split(";")
    .map((line: string, index: number) =>
      line === "" || marks[index]!.length === 0 ? line : shift(line, marks[index]!)
    )
    .join(";")
  writeFileSync(`${file}.map`, JSON.stringify(map))
}

for (const file of globSync("dist/**/*.js")) annotate(file)
