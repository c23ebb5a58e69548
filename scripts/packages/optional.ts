/**
 * Puts the optional packages into `package.json` while the library is packed or published, and takes them out again: the
 * scripts `prepack`, `postpack` and `postpublish` of npm.
 *
 * They are not in it otherwise. Whoever works on the library installs it before they are published, since a new release of
 * etcd comes with packages of its own: `npm ci` would look for what is not there, and find `package-lock.json` out of date.
 * So the table of releases is the one place that says which etcd the library brings.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import process from "node:process"
import { optionalPackages } from "../../src/internal/binary/releases.ts"

const file = join(import.meta.dirname, "..", "..", "package.json")
const { optionalDependencies: _, ...manifest } = JSON.parse(readFileSync(file, "utf8"))

const write = (content: object) => writeFileSync(file, `${JSON.stringify(content, null, 2)}\n`)

// The registry is told what stands in the file after `postpack`, not what is in the tarball.
const isToStay = process.env.npm_command === "publish" && process.env.npm_lifecycle_event === "postpack"

if (process.env.npm_lifecycle_event === "prepack") write({ ...manifest, optionalDependencies: optionalPackages() })
else if (!isToStay) write(manifest)
