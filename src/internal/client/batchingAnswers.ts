/**
 * Takes the answer of a transaction apart, so that each call gets the answer that it would have got alone.
 *
 * @internal
 */
import type * as Rpc from "../proto/rpc_pb.ts"
import type { Message, Operation } from "./batchingMember.ts"

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
    messages.push(answer.value)
  }
  return messages
}

const valueOf = (message: Message): number => {
  switch (message.$typeName) {
    case "etcdserverpb.RangeResponse":
      return message.kvs[0]?.value.length ?? 0
    case "etcdserverpb.PutResponse":
      return message.prevKv?.value.length ?? 0
    case "etcdserverpb.DeleteRangeResponse":
      return message.prevKvs[0]?.value.length ?? 0
  }
}

/** How large the values in the answers are. */
export const valueBytes = (messages: ReadonlyArray<Message>): number => {
  let bytes = 0
  for (const message of messages) bytes += valueOf(message)
  return bytes
}
