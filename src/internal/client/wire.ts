/**
 * Between the messages on the wire and the values that programs see.
 *
 * @internal
 */

import * as Option from "effect/Option"
import { ClusterId, MemberId } from "../../EtcdId.ts"
import { type Header, KeyValue } from "../../EtcdResponse.ts"
import type * as Kv from "../proto/kv_pb.ts"
import type * as Rpc from "../proto/rpc_pb.ts"

export const header = (message: Rpc.ResponseHeader | undefined): Header => ({
  clusterId: ClusterId(message?.clusterId ?? 0n),
  memberId: MemberId(message?.memberId ?? 0n),
  revision: message?.revision ?? 0n,
  raftTerm: message?.raftTerm ?? 0n
})

export const keyValue = (message: Kv.KeyValue): KeyValue => new KeyValue(message)

export const optionalKeyValue = (message: Kv.KeyValue | undefined): Option.Option<KeyValue> =>
  message === undefined ? Option.none() : Option.some(new KeyValue(message))
