/**
 * What is written beside a backup, about it: JSON, in which ids are etcd's hexadecimal text and the revision is text, since
 * not every program reads large numbers exactly.
 *
 * @internal
 */

import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { ClusterId, format, MemberId, parse } from "../../EtcdId.ts"
import type { Backup } from "../../EtcdOperations.ts"
import * as Json from "../json.ts"

/** What the record of a file is called. */
export const of = (file: string): string => `${file}.json`

const Written = Schema.fromJsonString(
  Schema.Struct({
    revision: Schema.BigIntFromString,
    clusterId: Schema.String,
    memberId: Schema.String,
    member: Schema.String,
    version: Schema.String,
    storageVersion: Schema.optionalKey(Schema.String),
    bytes: Schema.Number,
    sha256: Schema.String,
    takenAt: Schema.DateTimeUtcFromString
  })
)

const read = Schema.decodeUnknownOption(Written)

/** As people read it. */
export const write = ({ clusterId, memberId, revision, storageVersion, takenAt, ...rest }: Backup): string =>
  `${JSON.stringify(
    {
      takenAt: DateTime.formatIso(takenAt),
      revision: String(revision),
      clusterId: format(clusterId),
      memberId: format(memberId),
      ...rest,
      ...(Option.isNone(storageVersion) ? {} : { storageVersion: storageVersion.value })
    },
    undefined,
    2
  )}\n`

/** Nothing, where it is no such thing. */
export const fromText = (text: string): Option.Option<Backup> =>
  Option.flatMap(read(text), ({ clusterId, memberId, storageVersion, ...rest }) =>
    Option.map(Option.all([parse(clusterId), parse(memberId)]), ([cluster, member]) =>
      Json.answer({
        ...rest,
        clusterId: ClusterId(cluster),
        memberId: MemberId(member),
        storageVersion: Option.fromUndefinedOr(storageVersion)
      })
    )
  )
