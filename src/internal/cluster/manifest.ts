/**
 * What is remembered of a cluster beside the data of its members: who they are, where their data are, and who of them was
 * just coming or going. It is a file in the data directory of the cluster, which is replaced as a whole; of a cluster without
 * one it is a value.
 *
 * etcd's own data say who is a member. This says what they cannot: which directory is whose, that a directory was lost, and
 * that a member which has no data yet, or is none any more, is not missing.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as EtcdConfig from "../../EtcdConfig.ts"
import type * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Failures from "../process/failures.ts"
import * as ProcessOptions from "../process/options.ts"

const Member = Schema.Struct({
  name: Schema.NonEmptyString,
  /** Below the data directory of the cluster. */
  directory: Schema.NonEmptyString,
  /** `joining`: until it has its vote. `leaving`: from before it is removed until its data are gone. */
  state: Schema.Literals(["member", "joining", "leaving"]),
  /** Of one that is leaving: its id, and who takes its place. */
  id: Schema.optional(Schema.String),
  successor: Schema.optional(Schema.String),
  /** How the others reach it, where that is not by its socket. */
  peer: Schema.optional(EtcdConfig.EtcdOptions)
})

const Manifest = Schema.Struct({
  /** How many members it was made with. */
  size: Schema.Int,
  /** The number of the next member. None is used again, nor is a directory. */
  next: Schema.Int,
  /** The `initialClusterToken` that it begins with: etcd makes the id of a cluster of that and of the peer URLs. */
  token: Schema.optional(Schema.String),
  members: Schema.Array(Member),
  /** Directories that were lost, and are there again for data to be made anew: until they have some, they are lost. */
  lost: Schema.optional(Schema.Array(Schema.String))
})

export type Member = typeof Member.Type
export type Manifest = typeof Manifest.Type

/** One that is leaving: who, by its id, and who takes its place. */
export interface Leaving {
  readonly name: string
  readonly id: string | undefined
  readonly successor: string | undefined
}

/** The manifest of a cluster, and the one way to change it. */
export interface Keeper {
  readonly current: () => Manifest
  readonly memberOf: (name: string) => Member
  /** Where the data of a member are whose directory that is. */
  readonly directoryOf: (directory: string) => string
  /** Makes the directories of all members, and is on the disk when this returns. */
  readonly keep: Effect.Effect<void, EtcdProcessError.EtcdProcessError>
  /** It is on the disk when this returns. */
  readonly update: (change: (manifest: Manifest) => Manifest) => Effect.Effect<void, EtcdProcessError.EtcdProcessError>
  /** Remembers which directories were lost, before they are there again for data to be made anew. */
  readonly rememberLost: Effect.Effect<void, EtcdProcessError.EtcdProcessError>
}

const fileName = "cluster.json"

const Text = Schema.fromJsonString(Manifest)

const nameOf = (index: number) => `node${index}`

const directoryNameOf = (name: string) => `${name}.etcd`

const numbered = (index: number, state: Member["state"]): Member => ({
  name: nameOf(index),
  directory: directoryNameOf(nameOf(index)),
  state
})

/** Who is to join after so many others: who had begun to, and then somebody new, whose name nobody has who runs elsewhere. */
export const newcomer = ({ members, next }: Manifest, index: number, taken: ReadonlyArray<string> = []): Member => {
  const joining = members.filter(({ state }) => state === "joining")
  const free = Array.from({ length: index + 1 + taken.length }, (_, offset) => next + offset).filter(
    (number) => !taken.includes(nameOf(number))
  )
  return joining[index] ?? numbered(free[index - joining.length]!, "joining")
}

/** Who there is of that name; one of whom nothing is remembered has left. */
const memberOf = ({ members }: Manifest, name: string): Member =>
  members.find((one) => one.name === name) ?? { name, directory: directoryNameOf(name), state: "leaving" }

/** One that is new, with a token that no other one has. */
export const ofSize = (size: number): Manifest => ({
  size,
  next: size,
  token: globalThis.crypto.randomUUID(),
  members: Array.from({ length: size }, (_, index) => numbered(index, "member"))
})

/** With a member in that state, whether it was there or not. */
export const withMember =
  (member: Member) =>
  ({ members, next, ...rest }: Manifest): Manifest => {
    const isThere = members.some(({ name }) => name === member.name)
    return {
      ...rest,
      next: isThere ? next : Math.max(next, 1 + Number(/^node(\d+)$/.exec(member.name)?.[1] ?? -1)),
      members: isThere ? members.map((one) => (one.name === member.name ? member : one)) : [...members, member]
    }
  }

const isOfPeer = (option: string): boolean => /^(peer|listenPeerUrls$|initialAdvertisePeerUrls$)/.test(option)

/** What of its configuration the others reach a member by. */
export const peerOf = (config: EtcdConfig.EtcdOptions): EtcdConfig.EtcdOptions | undefined => {
  const found = Object.entries(config).filter(([option]) => isOfPeer(option))
  return found.length === 0 ? undefined : Object.fromEntries(found)
}

/** With what the others reach it by already. */
export const withPeerOf = (known: EtcdConfig.EtcdOptions, given: EtcdConfig.EtcdOptions): EtcdConfig.EtcdOptions => ({
  ...Object.fromEntries(Object.entries(given).filter(([option]) => !isOfPeer(option))),
  ...peerOf(known)
})

/** With one that is leaving. */
export const leaving =
  ({ id, name, successor }: Leaving) =>
  (manifest: Manifest): Manifest =>
    withMember({ ...memberOf(manifest, name), state: "leaving", id, successor })(manifest)

/** Who had begun to join, and who to leave. */
export const unfinished = ({ members }: Manifest) => ({
  joining: members.flatMap(({ name, state }) => (state === "joining" ? [name] : [])),
  leaving: members.flatMap(
    ({ id, name, state, successor }): ReadonlyArray<Leaving> => (state === "leaving" ? [{ name, id, successor }] : [])
  )
})

/** With one that was leaving, and is to stay. */
export const staying =
  (name: string) =>
  (manifest: Manifest): Manifest =>
    withMember({ ...memberOf(manifest, name), state: "member", id: undefined, successor: undefined })(manifest)

/** Whose place it was to take, that of those takes whoever took its own. */
export const inherit = <A extends Pick<Member, "successor">>(one: A, name: string, successor: string | undefined): A =>
  one.successor === name ? { ...one, successor } : one

export const withoutMember =
  (name: string) =>
  (manifest: Manifest): Manifest => ({
    ...manifest,
    members: manifest.members
      .filter((one) => one.name !== name)
      .map((one) => inherit(one, name, memberOf(manifest, name).successor))
  })

const list = (names: ReadonlyArray<string>) => names.join(", ")

const refused = (message: string) => ProcessOptions.refused("dataDir", `EtcdCluster: ${message}`)

const aMember = /^node\d+\.etcd$/

/** For a cluster whose data go with it. */
export const inMemory = (root: string, size: number): Effect.Effect<Keeper, never, Path.Path> =>
  Effect.map(Path.Path, (path) => {
    let manifest = ofSize(size)
    return {
      current: () => manifest,
      memberOf: (name) => memberOf(manifest, name),
      directoryOf: (directory) => path.join(root, directory),
      keep: Effect.void,
      update: (change) =>
        Effect.sync(() => {
          manifest = change(manifest)
        }),
      rememberLost: Effect.void
    }
  })

/**
 * For a cluster whose data are kept. The directories of all members are made before one of them is started, and the
 * manifest before them (`keep`): so a directory that is missing beside others with data is one that was lost, and not one of
 * a cluster whose first start was cut short. That is refused, unless the data are made anew (`mayLack`): then it is remembered
 * as one that was lost until it has data.
 */
export const inDirectory = (
  dataDir: string,
  given: number | undefined,
  { mayLack = false }: { readonly mayLack?: boolean } = {}
): Effect.Effect<Keeper, EtcdProcessError.EtcdProcessError, FileSystem.FileSystem | Path.Path> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const root = path.resolve(dataDir)
    const file = path.join(root, fileName)
    const orFail = Effect.mapError(Failures.systemFailure(`keep the members of the cluster in ${root}`))
    const makeDirectory = (directory: string) => orFail(fs.makeDirectory(directory, { recursive: true, mode: 0o700 }))
    const directoryOf = (directory: string) => path.join(root, directory)

    const write = (manifest: Manifest) =>
      Effect.gen(function* () {
        const made = `${file}.new`
        const handle = yield* fs.open(made, { flag: "w", mode: 0o600 })
        yield* handle.writeAll(new TextEncoder().encode(`${JSON.stringify(manifest, undefined, 2)}\n`))
        yield* handle.sync
        yield* fs.rename(made, file)
        yield* Effect.flatMap(fs.open(root), (directory) => directory.sync)
      }).pipe(Effect.scoped, orFail, Effect.uninterruptible)

    const isThere = yield* orFail(fs.exists(root))
    const found = isThere ? (yield* orFail(fs.readDirectory(root))).filter((name) => aMember.test(name)) : []
    const holdsData = (directory: string) => orFail(fs.exists(path.join(root, directory, "member")))
    const kept = yield* Effect.filter(found, holdsData)

    const read = Effect.gen(function* () {
      const text = yield* orFail(fs.readFileString(file))
      return yield* Effect.mapError(Schema.decodeEffect(Text)(text), ({ message }) =>
        refused(`${file} does not say who the members of the cluster are (${message}). Nothing was started.`)
      )
    })

    const made = ofSize(given ?? 3)
    let manifest = (yield* orFail(fs.exists(file))) ? yield* read : made
    const counted = manifest.members.filter(({ state }) => state !== "joining")
    /** Who was joining may be a member by now, and who was leaving none any more. */
    const fewest = manifest.members.filter(({ state }) => state === "member").length
    const isSize = (size: number) => size === manifest.size || (size >= fewest && size <= manifest.members.length)
    if (given !== undefined && !isSize(given)) {
      return yield* Effect.fail(
        refused(
          `the cluster in ${root} has ${counted.length} members (${list(counted.map(({ name }) => name))}), and the size is ${given}. ` +
            "Give the size that it has, or none; grow and shrink change it."
        )
      )
    }
    const wanted = manifest.members.map(({ directory }) => directory)
    const strange = manifest === made ? kept.filter((name) => !wanted.includes(name)) : []
    /** What is lost now of those that are members. */
    const withLost = Effect.gen(function* () {
      const { lost = [], members } = manifest
      const holding = yield* Effect.filter(members, ({ directory }) => holdsData(directory))
      // Where nobody has data, none were lost: the first start was cut short, or all begins anew.
      const without = holding.length === 0 ? [] : members.filter((one) => !holding.includes(one))
      const isLost = (directory: string) =>
        Effect.map(orFail(fs.exists(path.join(root, directory))), (isThere) => !isThere || lost.includes(directory))
      const found = yield* Effect.filter(
        without.flatMap(({ directory, state }) => (state === "member" ? [directory] : [])),
        isLost
      )
      return { ...manifest, lost: found.length === 0 ? undefined : found }
    })
    manifest = yield* withLost
    const missing = mayLack ? [] : (manifest.lost ?? [])
    if (strange.length > 0 || missing.length > 0) {
      const told = strange.length > 0 ? `has ${list(strange)} as well` : `does not have ${list(missing)}`
      return yield* Effect.fail(
        refused(
          `the cluster in ${root} ${told}, and the size is ${counted.length}. A cluster keeps the members that it ` +
            "has: give its size. A member without its data cannot begin anew under its name: where they are lost, " +
            "EtcdCluster.recover makes those of all members anew from what is left."
        )
      )
    }
    /** Two changes at a time would be one: each is of what the other one has left. */
    const turn = Semaphore.makeUnsafe(1).withPermit
    const become = (changed: Manifest) =>
      Effect.andThen(
        write(changed),
        Effect.sync(() => {
          manifest = changed
        })
      )
    return {
      keep: Effect.gen(function* () {
        yield* makeDirectory(root)
        yield* write(manifest)
        yield* Effect.forEach(counted, (member) => makeDirectory(directoryOf(member.directory)), { discard: true })
      }),
      current: () => manifest,
      memberOf: (name) => memberOf(manifest, name),
      directoryOf,
      update: (change) => Effect.suspend(() => become(change(manifest))).pipe(turn, Effect.uninterruptible),
      rememberLost: Effect.flatMap(withLost, become).pipe(turn, Effect.uninterruptible)
    }
  })
