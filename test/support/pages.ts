/**
 * The programs of the README and of the guides, and what the pages say that they print.
 *
 * A block `ts` is a program. One with a path after the language is that file of the repo, and is run if it is the `main.ts` of its
 * folder. The block `text` that follows a program, before the next one, has lines that it prints, in their order; others may
 * stand between them. There `…` is for anything within a line. A program without such a block prints nothing.
 */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { stripVTControlCharacters } from "node:util"
import * as RegEx from "effect/RegExp"

export interface Program {
  /** Where it stands: the page and the line. */
  readonly at: string
  readonly source: string
  /** The file of the repo that it is. */
  readonly file: string | undefined
  /** The lines that it prints. */
  readonly prints: ReadonlyArray<string>
}

interface Block {
  readonly info: string
  readonly text: string
  readonly line: number
}

const blocks = (markdown: string): ReadonlyArray<Block> =>
  Array.from(markdown.matchAll(/^```(.*)\n([\s\S]*?)^```$/gm), (match) => ({
    info: match[1]!.trim(),
    text: match[2]!,
    line: markdown.slice(0, match.index).split("\n").length
  }))

/** The paths of the README and of the guides. */
export const pages = (root: string): ReadonlyArray<string> => [
  "README.md",
  ...readdirSync(join(root, "docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`)
]

/** The programs of a page. */
export const programs = (root: string, page: string): ReadonlyArray<Program> => {
  const found: Array<Program> = []
  for (const { info, text, line } of blocks(readFileSync(join(root, page), "utf8"))) {
    const [language, file] = info.split(" ")
    if (language === "ts") found.push({ at: `${page}:${line}`, source: text, file, prints: [] })
    const last = found.at(-1)
    if (language === "text" && last?.prints.length === 0) {
      found[found.length - 1] = { ...last, prints: text.trimEnd().split("\n") }
    }
  }
  return found
}

const pattern = (line: string) => new RegExp(`^${line.split("…").map(RegEx.escape).join(".*")}$`)

/** What of a program's output is not as its page says, if anything is not. */
export const differs = ({ prints }: Program, output: string): string | undefined => {
  const lines = stripVTControlCharacters(output)
    .split("\n")
    .map((line) => line.trimEnd())
    .filter((line) => line !== "")
  if (prints.length === 0) {
    const unsaid = lines.find((line) => !/^\[[\d:.]+\] (TRACE|DEBUG|INFO) /.test(line))
    return unsaid === undefined ? undefined : `its page does not say that it prints: ${unsaid}`
  }
  let from = 0
  for (const line of prints) {
    if (line === "" || line === "…") continue
    const index = lines.findIndex((printed, index) => index >= from && pattern(line).test(printed))
    if (index === -1) return `after its line ${from} it does not print: ${line}`
    from = index + 1
  }
  return undefined
}

/** The name of a heading, where a link leads to it. */
const anchor = (heading: string) =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, "")
    .trim()
    .replaceAll(" ", "-")

/** The names of the headings of a page. */
export const anchors = (markdown: string): ReadonlySet<string> =>
  new Set(
    Array.from(markdown.replaceAll(/^```[\s\S]*?^```$/gm, "").matchAll(/^#+ (.*)$/gm), (match) => anchor(match[1]!))
  )

/** Where the links of a page lead that stay within the repo. */
export const links = (markdown: string): ReadonlyArray<string> =>
  [
    ...markdown.replaceAll(/^```[\s\S]*?^```$/gm, "").matchAll(/\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"/g)
  ].flatMap(([, target, source]) => {
    const link = target ?? source!
    return /^[a-z]+:/.test(link) ? [] : [link]
  })
