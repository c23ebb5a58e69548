/**
 * Which member has data that are not those of the others.
 *
 * @internal
 */

import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdError from "../../EtcdError.ts"
import * as EtcdMaintenance from "../../EtcdMaintenance.ts"
import type { Comparison } from "../../EtcdOperations.ts"
import * as Json from "../json.ts"
import * as Time from "../time.ts"
import { refusal } from "./operation.ts"
import * as Survey from "./survey.ts"

/** What a voter says of its data at a revision. */
interface Said {
  readonly one: Survey.Surveyed
  /**
   * Equal where the data are. `missing`: it has applied all that the one has who has the revision, and does not have it.
   * `silent`: it cannot be compared.
   */
  readonly hash: number | "missing" | "silent"
  readonly compactRevision: bigint | undefined
}

/** For how long somebody is waited for who reads all of a database. */
const patience = "5 minutes"
/** For how long who lags behind is waited for. */
const catchingUp = 5000

const highest = (numbers: ReadonlyArray<bigint>): bigint => numbers.reduce((most, one) => (one > most ? one : most), 0n)

const statuses = (survey: Survey.Survey) => survey.voters.flatMap(({ status }) => status ?? [])

const refuse = refusal("findCorrupt")

/**
 * A revision that a member has, and which of the voters should have it as well, since they have applied what that one had.
 * A member that has more revisions than the others does not belong to them, nor does one that has fewer.
 */
const common = (client: EtcdClient.Client) =>
  Effect.gen(function* () {
    const time = yield* Time.Time
    const revision = highest(statuses(yield* Survey.whole(client, refuse)).map(({ header }) => header.revision))
    // Older members say how far they are before they say which revision they have.
    const goal = highest(statuses(yield* Survey.whole(client, refuse)).map(({ raftIndex }) => raftIndex))
    const begun = time.now()
    const hasCome = ({ status }: Survey.Surveyed) => status !== undefined && status.raftAppliedIndex >= goal
    const survey = yield* Effect.repeat(Survey.whole(client, refuse), {
      until: ({ voters }) =>
        voters.every((one) => one.status === undefined || hasCome(one)) || time.now() - begun >= catchingUp,
      schedule: Schedule.spaced("50 millis")
    })
    return { revision, survey, hasCome }
  })

/** Asks a member for its hash, where it still has the revision, or that is its newest; nothing, where it is to be asked anew. */
const ask = (
  client: EtcdClient.Client,
  one: Survey.Surveyed,
  revision: bigint
): Effect.Effect<Said | undefined, EtcdError.EtcdError> => {
  const maintenance = EtcdMaintenance.fromClient(client)
  const options = { endpoint: one.endpoint, deadline: patience, retry: Schedule.recurs(0) } as const
  const said = ({ compactRevision, hash, header }: EtcdMaintenance.HashKv): Said =>
    // A balancer in between may have asked somebody else.
    header.memberId === one.member.id
      ? { one, hash, compactRevision }
      : { one, hash: "silent", compactRevision: undefined }
  return maintenance.hashKv({ ...options, revision }).pipe(
    Effect.map(said),
    Effect.catch((error): Effect.Effect<Said | undefined, EtcdError.EtcdError> => {
      const { reason } = error
      if (Survey.isForbidden(error)) return Effect.fail(error)
      if (reason._tag === "FutureRevision") {
        return Effect.succeed({ one, hash: "missing", compactRevision: undefined })
      }
      if (reason._tag !== "Compacted") return Effect.succeed({ one, hash: "silent", compactRevision: undefined })
      // The newest revision can be hashed though it is compacted, if it is asked for without its number.
      return Effect.map(maintenance.hashKv(options), (found) =>
        found.header.revision === revision ? said(found) : undefined
      )
    })
  )
}

/** What all voters say, one after another, since each reads all of its data; nothing where it is not of the same history. */
const compare = (client: EtcdClient.Client) =>
  Effect.gen(function* () {
    const { hasCome, revision, survey } = yield* common(client)
    const all: Array<Said> = []
    for (const one of survey.voters) {
      const said: Said | undefined = hasCome(one)
        ? yield* ask(client, one, revision)
        : { one, hash: "silent", compactRevision: undefined }
      if (said === undefined) return undefined
      all.push(said)
    }
    const compacted = new Set(all.flatMap(({ compactRevision }) => compactRevision ?? []))
    return { revision, survey, all, compactRevision: compacted.size === 1 ? [...compacted][0]! : undefined }
  })

const tell = ({ compactRevision, hash, one }: Said): string => {
  if (hash === "silent") return `${Survey.describe(one)}, and cannot be compared`
  if (hash === "missing") return `${Survey.describe(one)}, and does not have the revision`
  // Until something is compacted, etcd says -1.
  const compacted = compactRevision! < 0n ? "never compacted" : `compacted up to ${compactRevision}`
  return `${Survey.describe(one)}: hash ${hash}, ${compacted}`
}

/** The voters who say the same as a majority of all voters. */
const majorityOf = (all: ReadonlyArray<Said>): ReadonlyArray<Said> =>
  all
    .map(({ hash }) => all.filter((other) => other.hash === hash && hash !== "silent"))
    .find(({ length }) => length >= Survey.majority(all.length)) ?? []

export const findCorrupt = (client: EtcdClient.Client) =>
  Time.really(
    Effect.gen(function* () {
      // A compaction reaches one member after the other.
      const found = yield* Effect.repeat(compare(client), {
        until: (found) => found?.compactRevision !== undefined,
        schedule: Schedule.spaced("200 millis"),
        times: 50
      })
      if (found === undefined) {
        return yield* Effect.fail(
          refuse(
            "unhealthy-member",
            ["the history was compacted faster than the members could be asked about it"],
            "Try again when it is compacted less often."
          )
        )
      }
      const { all, compactRevision, revision, survey } = found
      const members = (some: ReadonlyArray<Said>) => some.map(({ one }) => one.member)
      const alike = compactRevision === undefined || all.length === 1 ? [] : majorityOf(all)
      const others = all.filter((said) => said.hash !== "silent" && !alike.includes(said))
      const ofSameVersion = ({ one }: Said) => alike.some((other) => other.one.status!.version === one.status!.version)
      const isUndecided = alike.length === 0 || !others.every(ofSameVersion)
      const compared = isUndecided ? [] : [...alike, ...others]
      const evidence = [
        ...all.map(tell),
        ...(compactRevision === undefined
          ? ["they have not compacted the same, so their hashes cannot be compared"]
          : []),
        ...(all.length === 1 ? ["there is nobody to compare it with"] : []),
        ...(alike.length === 0 && compactRevision !== undefined && all.length > 1
          ? [`no ${Survey.majority(all.length)} of ${all.length} voters have the same data`]
          : []),
        ...(alike.length > 0 && isUndecided
          ? ["members of other versions may have other hashes of the same data (etcd-io/etcd 18274)"]
          : [])
      ]
      const comparison: Comparison = Json.answer<Comparison>({
        verdict: isUndecided ? "undecided" : others.length > 0 ? "corrupt" : "sound",
        revision,
        corrupt: isUndecided ? [] : members(others),
        sound: isUndecided ? [] : members(alike),
        unknown: survey.members
          .map(({ member }) => member)
          .filter((member) => !compared.some(({ one }) => one.member.id === member.id)),
        evidence
      })
      return comparison
    })
  )
