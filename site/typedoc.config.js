/** The API site: `npm run docs` makes it in `site/dist/`. */
import { globSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { bundledLanguages } from "@gerrit0/mini-shiki"
import { OptionDefaults } from "typedoc"
import { modules, source } from "../scripts/modules.ts"

export const root = resolve(import.meta.dirname, "..")

/** Where the repository is. */
export const home = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).homepage.replace(/#.*/, "")

const house = "docs/ARCHITECTURE.md"
const readme = readFileSync(join(root, "README.md"), "utf8")
const others = (pattern) =>
  globSync(pattern, { cwd: root })
    .filter((page) => page !== "README.md" && page !== house)
    .sort()

/** Where the README has a guide in its list of them, at the end of which are those that are not in it. */
const list = readme.slice(Math.max(readme.indexOf("\n## Guides\n"), 0))
const placeOf = (guide) => `${list}${guide}`.indexOf(guide)
const guides = others("docs/*.md").sort((one, other) => placeOf(one) - placeOf(other))

/** What is a page of the site: the README, with which it begins, the guides, and what is about the project. */
export const pages = ["README.md", ...guides, house, ...others("*.md")].map((page) => join(root, page))

/** What blocks of code are in, those of comments too. */
const languages = Array.from(
  new Set([
    ...["ts", "json", "toml", "yaml", "sh"],
    ...pages.flatMap((page) =>
      Array.from(readFileSync(page, "utf8").matchAll(/^```(\S+)/gm), ([, language]) => language)
    )
  ])
)

const isHighlighted = (language) => language in bundledLanguages

export default {
  plugin: [join(import.meta.dirname, "plugin.js")],
  tsconfig: join(import.meta.dirname, "tsconfig.json"),
  out: join(import.meta.dirname, "dist"),
  // The indexes have nothing of their own.
  entryPoints: modules.map((place) => join(source, `${place}.ts`)),
  readme: pages[0],
  projectDocuments: pages.slice(1),
  customCss: join(import.meta.dirname, "site.css"),
  includeVersion: true,
  // `npm run check` has asked the compiler already.
  skipErrorChecking: true,
  excludeInternal: true,
  excludePrivate: true,
  // What Effect's classes have is told by Effect.
  excludeExternals: true,
  blockTags: [...OptionDefaults.blockTags, "@generated"],
  excludeTags: ["@generated"],
  sourceLinkTemplate: `${home}/blob/{gitRevision}/{path}#L{line}`,
  navigationLinks: { Repository: home },
  highlightLanguages: languages.filter(isHighlighted),
  ignoredHighlightLanguages: languages.filter((language) => !isHighlighted(language)),
  logLevel: "Warn",
  validation: {
    invalidLink: true,
    notExported: true,
    notDocumented: false,
    invalidPath: false,
    rewrittenLink: false,
    unusedMergeModuleWith: true
  },
  treatWarningsAsErrors: true,
  treatValidationWarningsAsErrors: true
}
