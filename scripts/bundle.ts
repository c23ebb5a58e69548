/**
 * The first part of `npm run build`: the modules of `src/` as JavaScript in `dist/`. What several of them import, and what
 * is internal, is put together in as few files as there can be without a module loading what it does not use: to find and
 * read a hundred files takes Node.js longer than to evaluate what is in them.
 */
import { globSync } from "node:fs"
import { basename, join } from "node:path"
import { rolldown } from "rolldown"

const root = join(import.meta.dirname, "..")
const source = join(root, "src")
const modules = globSync(["*.ts", "coordination/*.ts"], { cwd: source })
const indexes = modules.filter((module) => basename(module) === "index.ts").map((module) => join(source, module))

const build = await rolldown({
  cwd: root,
  input: Object.fromEntries(modules.map((module) => [module.replace(/\.ts$/, ""), join(source, module)])),
  external: /^[^./]/,
  platform: "node",
  plugins: [
    {
      // Bundlers see through an index that names modules, and not through one that makes objects of them.
      name: "index",
      resolveId: (id, importer) =>
        indexes.includes(importer ?? "") ? { id: id.replace(/\.ts$/, ".js"), external: "relative" } : undefined
    }
  ]
})
await build.write({
  dir: "dist",
  cleanDir: true,
  chunkFileNames: "internal/chunks/[name].js",
  // The declarations have the documentation, and the package has the sources.
  comments: { annotation: true, jsdoc: false, legal: false },
  sourcemap: true,
  sourcemapExcludeSources: true
})
await build.close()
