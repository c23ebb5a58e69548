/**
 * The modules that can be imported, by their places below `src/`, without `.ts`: those of the library itself, and those of
 * the folders that are built on it, each with an index of its own.
 */
import { globSync } from "node:fs"
import { basename, dirname, join, sep } from "node:path"

/** Where they are. */
export const source = join(import.meta.dirname, "..", "src")

const all = globSync(["*.ts", "coordination/*.ts", "testing/*.ts"], { cwd: source })
  .map((file) => file.replace(/\.ts$/, "").replaceAll(sep, "/"))
  .sort()

const isIndex = (place: string): boolean => basename(place) === "index"

/** `index`, `coordination/index`. */
export const indexes: ReadonlyArray<string> = all.filter(isIndex)

/** `EtcdKv`, `coordination/EtcdLock`. */
export const modules: ReadonlyArray<string> = all.filter((place) => !isIndex(place))

/** `EtcdLock` for `coordination/EtcdLock`: no two modules have the same. */
export const nameOf = (place: string): string => basename(place)

/** The index that names the module: `coordination/index` for `coordination/EtcdLock`. */
export const indexOf = (place: string): string => join(dirname(place), "index").replaceAll(sep, "/")

/** What a program imports: `effect-etcd`, `effect-etcd/coordination`, `effect-etcd/coordination/EtcdLock`. */
export const specifierOf = (place: string): string =>
  isIndex(place) ? join("effect-etcd", dirname(place)).replaceAll(sep, "/") : `effect-etcd/${place}`
