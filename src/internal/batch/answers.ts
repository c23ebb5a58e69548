/**
 * Takes the answer of a transaction apart, so that each call gets the answer that it would have got alone.
 *
 * @internal
 */
import { shortData } from "../keys.ts"
import type * as Kv from "../proto/kv_pb.ts"
import type * as Rpc from "../proto/rpc_pb.ts"
import type { Message, Operation } from "./member.ts"

/** In a transaction, an answer's own header has the revision alone (`server/etcdserver/txn` in etcd). */
const completeHeader = (message: Message, whole: Rpc.ResponseHeader): void => {
  const header = message.header
  if (header === undefined) {
    message.header = { ...whole }
    return
  }
  header.clusterId = whole.clusterId
  header.memberId = whole.memberId
  header.raftTerm = whole.raftTerm
}

const keyValues = (message: Message): ReadonlyArray<Kv.KeyValue> => {
  switch (message.$typeName) {
    case "etcdserverpb.RangeResponse":
      return message.kvs
    case "etcdserverpb.PutResponse":
      return message.prevKv === undefined ? none : [message.prevKv]
    case "etcdserverpb.DeleteRangeResponse":
      return message.prevKvs
  }
}

const none: ReadonlyArray<Kv.KeyValue> = []

/**
 * Bytes that lie in the memory of the whole answer are copied where they are much less than their share of it. Short ones
 * do not lie there, and looking would cost them their own cheap memory.
 */
const detach = (bytes: Uint8Array, count: number): Uint8Array =>
  bytes.length > shortData && bytes.length * count * 2 < bytes.buffer.byteLength ? new Uint8Array(bytes) : bytes

/** Who keeps something small is not to keep the large things that others have asked for. */
const detachAll = (message: Message, count: number): void => {
  for (const kv of keyValues(message)) {
    kv.key = detach(kv.key, count)
    kv.value = detach(kv.value, count)
  }
}

const responses = {
  requestRange: "responseRange",
  requestPut: "responsePut",
  requestDeleteRange: "responseDeleteRange"
} as const

/** The answers in the order of the calls; `undefined` if the server did not answer what it was asked. */
export const answers = (
  operation: Operation,
  response: Rpc.TxnResponse,
  count: number
): ReadonlyArray<Message> | undefined => {
  const whole = response.header
  if (response.responses.length !== count || whole === undefined) return undefined
  const expected = responses[operation.request]
  const messages: Array<Message> = []
  for (const { response: answer } of response.responses) {
    if (answer.case !== expected) return undefined
    completeHeader(answer.value, whole)
    detachAll(answer.value, count)
    messages.push(answer.value)
  }
  return messages
}

/** How large the values in the answers are. */
export const valueBytes = (messages: ReadonlyArray<Message>): number => {
  let bytes = 0
  for (const message of messages) bytes += keyValues(message)[0]?.value.length ?? 0
  return bytes
}
