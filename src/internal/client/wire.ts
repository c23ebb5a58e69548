/**
 * Between the messages on the wire and the values that programs see.
 *
 * @internal
 */

import * as Option from "effect/Option"
import { ClusterId, MemberId } from "../../EtcdId.ts"
import { type Header, KeyValue } from "../../EtcdResponse.ts"
import * as Json from "../json.ts"
import type * as Kv from "../proto/kv_pb.ts"
import type * as Rpc from "../proto/rpc_pb.ts"

class ResponseHeader extends Json.Answer implements Header {
  readonly clusterId: ClusterId
  readonly memberId: MemberId
  readonly revision: bigint
  readonly raftTerm: bigint

  constructor(message: Rpc.ResponseHeader | undefined) {
    super()
    this.clusterId = ClusterId(message?.clusterId ?? 0n)
    this.memberId = MemberId(message?.memberId ?? 0n)
    this.revision = message?.revision ?? 0n
    this.raftTerm = message?.raftTerm ?? 0n
  }
}

Json.asPlain(ResponseHeader)

export const header = (message: Rpc.ResponseHeader | undefined): Header => new ResponseHeader(message)

export const keyValue = (message: Kv.KeyValue): KeyValue => new KeyValue(message)

export const optionalKeyValue = (message: Kv.KeyValue | undefined): Option.Option<KeyValue> =>
  message === undefined ? Option.none() : Option.some(new KeyValue(message))
