/**
 * The first part of `npm run build`: the modules of `src/` as JavaScript in `dist/`. What several of them import, and what
 * is internal, is put together in as few files as there can be without a module loading what it does not use: to find and
 * read a hundred files takes Node.js longer than to evaluate what is in them.
 */
import { join } from "node:path"
import { rolldown } from "rolldown"
import { indexes, modules, source } from "./modules.ts"

const root = join(import.meta.dirname, "..")
const fileOf = (place: string): string => join(source, `${place}.ts`)
const indexFiles = indexes.map(fileOf)

const build = await rolldown({
  cwd: root,
  input: Object.fromEntries([...indexes, ...modules].map((place) => [place, fileOf(place)])),
  external: /^[^./]/,
  platform: "node",
  plugins: [
    {
      // Bundlers see through an index that names modules, and not through one that makes objects of them.
      name: "index",
      resolveId: (id, importer) =>
        indexFiles.includes(importer ?? "") ? { id: id.replace(/\.ts$/, ".js"), external: "relative" } : undefined
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
