/**
 * `npm run docs`: makes the API site in `site/dist/`, and follows every link in it. What TypeDoc warns of, and a link that
 * leads nowhere, is an error. `site/` has packages of its own, since TypeDoc needs an older TypeScript than the library.
 */
import { spawnSync } from "node:child_process"
import { existsSync, globSync, readFileSync, rmSync, statSync } from "node:fs"
import { dirname, join, relative, resolve } from "node:path"
import process from "node:process"

const site = join(import.meta.dirname, "..", "site")
const entities: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'" }

const text = (html: string): string => html.replace(/&(amp|lt|gt|quot|#39);/g, (_, name: string) => entities[name]!)

/** As it is where what is behind a `%` is no byte, or the bytes are no UTF-8: then it is no name of what was made here. */
const decoded = (part: string): string => {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

/** Each link of the pages in the directory that leads to no file, or to no place in it; and how many pages and links there are. */
export const followed = (directory: string): { pages: number; links: number; broken: ReadonlyArray<string> } => {
  const pages = new Map(
    globSync("**/*.html", { cwd: directory })
      .sort()
      .map((page) => {
        const html = readFileSync(join(directory, page), "utf8")
        const ids = new Set(Array.from(html.matchAll(/ (?:id|name)="([^"]*)"/g), ([, id]) => text(id!)))
        const links = new Set(Array.from(html.matchAll(/ (?:href|src)="([^"]*)"/g), ([, link]) => text(link!)))
        return [join(directory, page), { ids, links }] as const
      })
  )
  const leadsSomewhere = (page: string, link: string): boolean => {
    if (/^[a-z]+:/.test(link)) return URL.canParse(link)
    const [path = "", anchor] = link
      .replace(/\?[^#]*/, "")
      .split("#")
      .map(decoded)
    const at = path === "" ? page : resolve(dirname(page), path)
    const file = existsSync(at) && statSync(at).isDirectory() ? join(at, "index.html") : at
    return existsSync(file) && (!anchor || pages.get(file)?.ids.has(anchor) !== false)
  }
  const all = Array.from(pages).flatMap(([page, { links }]) => Array.from(links, (link) => ({ page, link })))
  return {
    pages: pages.size,
    links: all.length,
    broken: all
      .filter(({ page, link }) => !leadsSomewhere(page, link))
      .map(({ page, link }) => `${relative(directory, page)}: ${link}`)
  }
}

const make = (): number => {
  const output = join(site, "dist")
  rmSync(output, { recursive: true, force: true })
  const typedoc = join(site, "node_modules", "typedoc", "bin", "typedoc")
  const { status } = spawnSync(process.execPath, [typedoc, "--options", join(site, "typedoc.config.js")], {
    stdio: "inherit"
  })
  if (status !== 0) return status ?? 1
  const { broken, links, pages } = followed(output)
  for (const link of broken) console.error(`leads nowhere: ${link}`)
  console.log(`${relative(process.cwd(), output)}: ${pages} pages, ${links} links`)
  return broken.length === 0 && pages > 1 ? 0 : 1
}

if (import.meta.main) process.exitCode = make()
