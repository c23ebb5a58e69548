/**
 * Who stands in a line of keys: what is read of it, and in which order.
 *
 * @internal
 */
import * as Option from "effect/Option"
import * as EtcdId from "../../EtcdId.ts"
import type { KeyValue } from "../../EtcdResponse.ts"
import * as KeyRange from "../../KeyRange.ts"

/** Who stands in a line. */
export interface Standing {
  readonly key: string
  /** Its place: the revision that created the key. */
  readonly revision: bigint
  readonly lease: EtcdId.LeaseId
  /** What kind of entry it is, by where its key is. */
  readonly kind: Kind
  readonly kv: KeyValue
}

/**
 * Go's `RWMutex` puts the keys of readers and writers into directories of their own, and everybody else into the line
 * itself.
 */
export type Kind = "own" | "read" | "write"

export const directories: { readonly [K in Kind]: string } = { own: "", read: "read/", write: "write/" }

/** A line as it is at a revision. */
export interface State {
  readonly revision: bigint
  /** Who stands there, in their order. */
  readonly standings: ReadonlyArray<Standing>
  /** The key beside the line that its rule looks at, if it is there. */
  readonly beside: KeyValue | undefined
}

const isText = (text: string): boolean => text !== "" && text.isWellFormed() && !text.includes("\0")

/** What the name of a line has to be. */
export const nameCheck = {
  accepts: (name: unknown): boolean =>
    typeof name === "string" && isText(name) && !/^\/|\/$|(?:^|\/)(?:read|write)$/.test(name),
  due:
    "text that is not empty, without a slash at its beginning or end and without NUL; the last part of it cannot be " +
    '"read" or "write", where the keys of shared locks are'
}

export const prefixOf = (name: string): KeyRange.KeyRange => KeyRange.prefix(`${name}/`)

const pattern = /^(?:(read|write)\/)?([^/]+)$/

/** Keys of locks and elections are called after their lease; those of Go's shared locks have one. */
const kindOf = (suffix: string, lease: EtcdId.LeaseId): Kind | undefined => {
  const [, directory, own] = pattern.exec(suffix) ?? []
  if (own === undefined) return undefined
  if (directory !== undefined) return directory as Kind
  const hex = EtcdId.format(lease)
  return own === hex || own.startsWith(`${hex}.`) ? "own" : undefined
}

/** Who has a key in a line, if anybody stands there with it. */
export const standingOf = (name: string, kv: KeyValue): Standing | undefined => {
  const lease = Option.getOrUndefined(kv.lease)
  if (lease === undefined) return undefined
  const key = kv.keyString
  const kind = kindOf(key.slice(name.length + 1), lease)
  return kind === undefined ? undefined : { key, revision: kv.createRevision, lease, kind, kv }
}

const byPlace = (one: Standing, other: Standing): number => (one.revision < other.revision ? -1 : 1)

/** Who stands in a line, in their order. */
export const standings = (name: string, kvs: ReadonlyArray<KeyValue>): ReadonlyArray<Standing> =>
  kvs
    .map((kv) => standingOf(name, kv))
    .filter((standing) => standing !== undefined)
    .sort(byPlace)
