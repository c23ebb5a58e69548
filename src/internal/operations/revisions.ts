/**
 * By how much the newest revision of a snapshot is raised when it is restored.
 *
 * What was written after the snapshot was taken has given out revisions that the snapshot does not know: to watches, as the
 * tokens of locks, as the place of a mirror. None of them may be given out again, for other changes. How many there were, no
 * file tells. etcd's page on disaster recovery proposes 1,000,000,000, which is a week of 1,500 writes a second
 * (https://etcd.io/docs/v3.6/op-guide/recovery/#restoring-with-revision-bump). But who restores the same snapshot once more
 * raises it to where the last restore began, and what was written since is given out again.
 *
 * So the revision after a restore is at least the time: as many as a cluster that writes {@link perSecond} revisions a
 * second would have come to since 1970. A cluster that writes less, which every etcd does, is below that whenever it was
 * begun or restored in this way; so every restore is above all before it, however old its snapshot is. It rests on the clock of
 * this machine: where that is wrong by years, etcd's thousand million are what is left. JavaScript's numbers hold such a
 * revision exactly for the next 2,800 years.
 *
 * @internal
 */

/** etcd's own measurements came to 50,000 (https://etcd.io/docs/v3.6/op-guide/performance/). */
export const perSecond = 100_000n

const least = 1_000_000_000n

/** `revision`: that of the snapshot; `known`: the newest one that is known to have been given out; `millis`: since 1970. */
export const bumpOf = (revision: bigint, millis: number, known = revision): bigint => {
  // Two restores may be in one second.
  const byTime = (BigInt(Math.max(0, Math.floor(millis))) * perSecond) / 1000n
  const newest = known > revision ? known : revision
  const target = newest + least > byTime ? newest + least : byTime
  return target - revision
}
