/** The API site: `npm run docs` makes it in `site/dist/`. */
import { globSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { OptionDefaults } from "typedoc"
import { indexes, modules, source } from "../scripts/modules.ts"

export const root = resolve(import.meta.dirname, "..")

/** Where the repository is. */
export const home = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).homepage.replace(/#.*/, "")

const inRoot = (pattern) => globSync(pattern, { cwd: root }).sort()

/** What is a page of the site: the README, with which it begins, the guides, and what is beside the README. */
export const pages = [
  "README.md",
  ...inRoot("docs/*.md"),
  ...inRoot("*.md").filter((page) => page !== "README.md")
].map((page) => join(root, page))

export default {
  plugin: [join(import.meta.dirname, "plugin.js")],
  tsconfig: join(import.meta.dirname, "tsconfig.json"),
  out: join(import.meta.dirname, "dist"),
  entryPoints: [...indexes, ...modules].map((place) => join(source, `${place}.ts`)),
  readme: pages[0],
  projectDocuments: pages.slice(1),
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
  highlightLanguages: ["console", "diff", "dockerfile", "ini", "json", "sh", "toml", "ts", "yaml"],
  ignoredHighlightLanguages: ["text", "walk"],
  logLevel: "Warn",
  validation: {
    invalidLink: true,
    notExported: true,
    notDocumented: false,
    invalidPath: false,
    rewrittenLink: true,
    unusedMergeModuleWith: true
  },
  treatWarningsAsErrors: true,
  treatValidationWarningsAsErrors: true
}
