/**
 * What `EtcdKv` and `EtcdTxn` have in common: requests from options, and results from answers.
 *
 * @internal
 */

import { LeaseId } from "../../EtcdId.ts"
import type {
  DeleteOptions,
  DeleteResult,
  PutOptions,
  PutResult,
  RangeOptions,
  RangeResult,
  ReadOptions,
  StreamOptions
} from "../../EtcdKv.ts"
import type { Header } from "../../EtcdResponse.ts"
import * as KeyRange from "../../KeyRange.ts"
import * as Wire from "../client/wire.ts"
import * as Json from "../json.ts"
import * as Options from "../options.ts"
import * as Rpc from "../proto/rpc_pb.ts"

export const ofRead: Options.Checks<Options.Own<ReadOptions>> = {
  revision: Options.revision,
  serializable: Options.flag
}

export const ofRange: Options.Checks<Options.Own<RangeOptions>> = {
  ...ofRead,
  limit: Options.limit,
  sortBy: Options.oneOf("key", "version", "createRevision", "modRevision", "value"),
  order: Options.oneOf("ascending", "descending"),
  keysOnly: Options.flag,
  countOnly: Options.flag,
  minModRevision: Options.revision,
  maxModRevision: Options.revision,
  minCreateRevision: Options.revision,
  maxCreateRevision: Options.revision
}

export const ofStream: Options.Checks<Options.Own<StreamOptions>> = {
  ...ofRead,
  keysOnly: Options.flag,
  pageSize: Options.count
}

export const ofPut: Options.Checks<Options.Own<PutOptions>> = {
  lease: Options.lease,
  previousValue: Options.flag,
  ignoreValue: Options.flag,
  ignoreLease: Options.flag
}

export const ofDeleteInTxn: Options.Checks<Pick<DeleteOptions, "previousValues">> = { previousValues: Options.flag }

export const ofDelete: Options.Checks<Options.Own<DeleteOptions>> = { ...ofDeleteInTxn, errorOnMissing: Options.flag }

const sortTargets = {
  key: Rpc.RangeRequest_SortTarget.KEY,
  version: Rpc.RangeRequest_SortTarget.VERSION,
  createRevision: Rpc.RangeRequest_SortTarget.CREATE,
  modRevision: Rpc.RangeRequest_SortTarget.MOD,
  value: Rpc.RangeRequest_SortTarget.VALUE
}

const sortOrder = (options: RangeOptions) => {
  if (options.order === "descending") return Rpc.RangeRequest_SortOrder.DESCEND
  return options.order === undefined && options.sortBy === undefined
    ? Rpc.RangeRequest_SortOrder.NONE
    : Rpc.RangeRequest_SortOrder.ASCEND
}

export const range = (range: KeyRange.KeyRange, options: RangeOptions) => ({
  key: range.key,
  rangeEnd: range.end,
  limit: Options.limitOf(options.limit),
  revision: options.revision ?? 0n,
  sortOrder: sortOrder(options),
  sortTarget: sortTargets[options.sortBy ?? "key"],
  serializable: options.serializable ?? false,
  keysOnly: options.keysOnly ?? false,
  countOnly: options.countOnly ?? false,
  minModRevision: options.minModRevision ?? 0n,
  maxModRevision: options.maxModRevision ?? 0n,
  minCreateRevision: options.minCreateRevision ?? 0n,
  maxCreateRevision: options.maxCreateRevision ?? 0n
})

export const put = (key: KeyRange.Bytes, value: KeyRange.Bytes, options: PutOptions) => ({
  key: KeyRange.toBytes(key),
  value: KeyRange.toBytes(value),
  lease: options.lease === undefined ? 0n : LeaseId(options.lease),
  prevKv: options.previousValue ?? false,
  ignoreValue: options.ignoreValue ?? false,
  ignoreLease: options.ignoreLease ?? false
})

export const deleteRange = (range: KeyRange.KeyRange, options: Pick<DeleteOptions, "previousValues">) => ({
  key: range.key,
  rangeEnd: range.end,
  prevKv: options.previousValues ?? false
})

// Classes, because there are many of them: made as fast as literals are.

class Ranged extends Json.Answer implements RangeResult {
  readonly header: Header
  readonly kvs: RangeResult["kvs"]
  readonly more: boolean
  readonly count: bigint

  constructor(response: Rpc.RangeResponse, header: Header) {
    super()
    this.header = header
    this.kvs = response.kvs.map(Wire.keyValue)
    this.more = response.more
    this.count = response.count
  }
}

class Written extends Json.Answer implements PutResult {
  readonly header: Header
  readonly previous: PutResult["previous"]

  constructor(response: Rpc.PutResponse, header: Header) {
    super()
    this.header = header
    this.previous = Wire.optionalKeyValue(response.prevKv)
  }
}

class Deleted extends Json.Answer implements DeleteResult {
  readonly header: Header
  readonly deleted: bigint
  readonly previous: DeleteResult["previous"]

  constructor(response: Rpc.DeleteRangeResponse, header: Header) {
    super()
    this.header = header
    this.deleted = response.deleted
    this.previous = response.prevKvs.map(Wire.keyValue)
  }
}

for (const Class of [Ranged, Written, Deleted]) Json.asPlain(Class)

export const rangeResult = (response: Rpc.RangeResponse, header: Header): RangeResult => new Ranged(response, header)

export const putResult = (response: Rpc.PutResponse, header: Header): PutResult => new Written(response, header)

export const deleteResult = (response: Rpc.DeleteRangeResponse, header: Header): DeleteResult =>
  new Deleted(response, header)
