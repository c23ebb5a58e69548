/**
 * What a server would refuse about a transaction, found before it is sent, and told with the operation that is wrong.
 *
 * The rules, and which of them comes first, are those of `checkTxnRequest` and `checkIntervals` in etcd's
 * `server/etcdserver/api/v3rpc/key.go`, which are the same from 3.4 to 3.7. Two of them are worth knowing:
 *
 * - A deletion without an upper bound conflicts with no put. But where the put is to keep the value or the lease of a key
 *   that is deleted before it, the server does not notice until it is too late, and stops with a panic (`applyTxn` in
 *   `server/etcdserver/txn`; seen with 3.4 to 3.7), each member of the cluster, and again whenever it is started. So
 *   that is refused here.
 * - Of two transactions side by side, the second may delete what the first puts, but not the other way round.
 *
 * @internal
 */
import type { MessageInitShape } from "@bufbuild/protobuf"
import * as EtcdError from "../../EtcdError.ts"
import type * as Rpc from "../proto/rpc_pb.ts"
import * as Keys from "./keys.ts"

/** How the caller knows an operation: `[0]` or `.name` in its branch, and the names in it where it is a transaction. */
export interface Name {
  readonly label: string
  readonly names: Names | undefined
}

export interface Names {
  readonly success: ReadonlyArray<Name>
  readonly failure: ReadonlyArray<Name>
}

type TxnRequest = MessageInitShape<typeof Rpc.TxnRequestSchema>
type RequestOp = MessageInitShape<typeof Rpc.RequestOpSchema>
type Compare = MessageInitShape<typeof Rpc.CompareSchema>
type PutRequest = MessageInitShape<typeof Rpc.PutRequestSchema>
type DeleteRequest = MessageInitShape<typeof Rpc.DeleteRangeRequestSchema>

const empty = new Uint8Array(0)
const keyOf = (message: { readonly key?: Uint8Array }): Uint8Array => message.key ?? empty

const details = (message: string) => ({ message, outcome: "not-applied" as const, method: "KV.Txn" })

const invalid = (message: string) => EtcdError.make(new EtcdError.InvalidArgument(details(message)))

const tooMany = (what: string, count: number, maxOps: number) =>
  EtcdError.make(
    new EtcdError.TooManyOps(
      details(
        `The transaction has ${count} ${what}; at most ${maxOps} are allowed there. Split it, or raise the server's ` +
          "--max-txn-ops and the client's maxOps."
      )
    )
  )

const duplicate = (message: string) => EtcdError.make(new EtcdError.DuplicateKey(details(message)))

/** A transaction inside of another one. */
const inside = (path: string, name: string) => (path === "" ? name : `${path}.${name}`)

interface Located {
  readonly operation: RequestOp
  readonly path: string
  readonly names: Names | undefined
}

const locate = (
  operations: ReadonlyArray<RequestOp>,
  names: ReadonlyArray<Name> | undefined,
  path: string
): ReadonlyArray<Located> =>
  operations.map((operation, index) => ({
    operation,
    path: `${path}${names?.[index]?.label ?? `[${index}]`}`,
    names: names?.[index]?.names
  }))

const branches = (request: TxnRequest, names: Names | undefined, path: string) => ({
  success: locate(request.success ?? [], names?.success, inside(path, "success")),
  failure: locate(request.failure ?? [], names?.failure, inside(path, "failure"))
})

const checkKey = (key: Uint8Array, path: string) =>
  key.length === 0 ? invalid(`The key of ${path} is empty. Give a key that is not empty.`) : undefined

const checkPut = (put: PutRequest, path: string) => {
  const wrong = checkKey(keyOf(put), path)
  if (wrong !== undefined) return wrong
  const key = Keys.show(keyOf(put))
  if (put.ignoreValue === true && (put.value ?? empty).length > 0) {
    return invalid(`${path} is to keep the value of ${key} and gives one as well. Leave one of them out.`)
  }
  if (put.ignoreLease === true && (put.lease ?? 0n) !== 0n) {
    return invalid(`${path} is to keep the lease of ${key} and gives one as well. Leave one of them out.`)
  }
  return undefined
}

const checkOperation = ({ names, operation, path }: Located, maxOps: number): EtcdError.EtcdError | undefined => {
  const request = operation.request
  switch (request?.case) {
    case "requestRange":
    case "requestDeleteRange":
      return checkKey(keyOf(request.value), path)
    case "requestPut":
      return checkPut(request.value, path)
    case "requestTxn":
      return checkShape(request.value, names, path, maxOps)
    default:
      return invalid(`${path} is no operation.`)
  }
}

const first = <A>(
  items: ReadonlyArray<A>,
  check: (item: A, index: number) => EtcdError.EtcdError | undefined
): EtcdError.EtcdError | undefined => {
  for (const [index, item] of items.entries()) {
    const wrong = check(item, index)
    if (wrong !== undefined) return wrong
  }
  return undefined
}

const checkShape = (
  request: TxnRequest,
  names: Names | undefined,
  path: string,
  maxOps: number
): EtcdError.EtcdError | undefined => {
  const compares: ReadonlyArray<Compare> = request.compare ?? []
  const { failure, success } = branches(request, names, path)
  const largest = Math.max(compares.length, success.length, failure.length)
  if (largest > maxOps) {
    if (largest === compares.length) return tooMany(`comparisons in ${inside(path, "compare")}`, largest, maxOps)
    const name = inside(path, largest === success.length ? "success" : "failure")
    return tooMany(`operations in ${name}`, largest, maxOps)
  }
  return (
    first(compares, (compare, index) => checkKey(keyOf(compare), `${inside(path, "compare")}[${index}]`)) ??
    first(success, (located) => checkOperation(located, maxOps - largest)) ??
    first(failure, (located) => checkOperation(located, maxOps - largest))
  )
}

interface Put {
  readonly key: Uint8Array
  /** Whether it keeps the value or the lease that the key has. */
  readonly keeps: boolean
  readonly path: string
}

interface Deletion {
  readonly request: DeleteRequest
  readonly path: string
}

interface Effects {
  /** By the key's bytes. */
  readonly puts: Map<string, Put>
  readonly deletions: Array<Deletion>
}

// Maps different bytes to different text, which UTF-8 does not.
const bytesAsText = new TextDecoder("latin1")

const deletes = ({ request }: Deletion, key: Uint8Array): boolean => {
  const end = request.rangeEnd ?? empty
  const order = Keys.compare(keyOf(request), key)
  return end.length === 0 ? order === 0 : order <= 0 && Keys.compare(key, end) < 0
}

const deletesFrom = ({ request }: Deletion, key: Uint8Array): boolean =>
  Keys.isUnbounded(request.rangeEnd ?? empty) && Keys.compare(keyOf(request), key) <= 0

/** Adds a put to what is there, unless it is in conflict with it. */
const addPut = (effects: Effects, put: Put, exclusive?: Effects): EtcdError.EtcdError | undefined => {
  const text = bytesAsText.decode(put.key)
  const other = effects.puts.get(text)
  if (other !== undefined && exclusive?.puts.has(text) !== true) {
    return duplicate(
      `${other.path} and ${put.path} both put the key ${Keys.show(put.key)}. Put each key at most once in a transaction.`
    )
  }
  const deletion = effects.deletions.find(
    (deletion) => deletes(deletion, put.key) || (put.keeps && deletesFrom(deletion, put.key))
  )
  if (deletion !== undefined) {
    return duplicate(
      `${put.path} puts the key ${Keys.show(put.key)}, which ${deletion.path} deletes. Do one of the two.`
    )
  }
  effects.puts.set(text, put)
  return undefined
}

/** Adds what a transaction within this branch may do; only one of its own branches runs. */
const addTxn = (effects: Effects, request: TxnRequest, located: Located): EtcdError.EtcdError | undefined => {
  const { failure, success } = branches(request, located.names, located.path)
  const ofSuccess: Effects = { puts: new Map(), deletions: [] }
  const ofFailure: Effects = { puts: new Map(), deletions: [] }
  const wrong =
    collect(ofSuccess, success) ??
    collect(ofFailure, failure) ??
    first([...ofSuccess.puts.values()], (put) => addPut(effects, put)) ??
    first([...ofFailure.puts.values()], (put) => addPut(effects, put, ofSuccess))
  effects.deletions.push(...ofSuccess.deletions, ...ofFailure.deletions)
  return wrong
}

const putOf = (request: PutRequest, path: string): Put => ({
  key: keyOf(request),
  keeps: request.ignoreValue === true || request.ignoreLease === true,
  path
})

const collect = (effects: Effects, branch: ReadonlyArray<Located>): EtcdError.EtcdError | undefined => {
  for (const { operation, path } of branch) {
    if (operation.request?.case === "requestDeleteRange") {
      effects.deletions.push({ request: operation.request.value, path })
    }
  }
  return (
    first(branch, (located) => {
      const request = located.operation.request
      return request?.case === "requestTxn" ? addTxn(effects, request.value, located) : undefined
    }) ??
    first(branch, ({ operation, path }) => {
      const request = operation.request
      return request?.case === "requestPut" ? addPut(effects, putOf(request.value, path)) : undefined
    })
  )
}

/** Why a server would refuse the transaction, if it would. */
export const check = (
  request: TxnRequest,
  names: Names | undefined,
  maxOps: number
): EtcdError.EtcdError | undefined => {
  const { failure, success } = branches(request, names, "")
  return (
    checkShape(request, names, "", maxOps) ??
    collect({ puts: new Map(), deletions: [] }, success) ??
    collect({ puts: new Map(), deletions: [] }, failure)
  )
}

const answers = {
  requestRange: "responseRange",
  requestPut: "responsePut",
  requestDeleteRange: "responseDeleteRange",
  requestTxn: "responseTxn"
} as const

const matches = (operation: RequestOp, response: Rpc.ResponseOp): boolean => {
  const request = operation.request
  if (request?.case === undefined || answers[request.case] !== response.response.case) return false
  return request.case !== "requestTxn" || isAnswerTo(request.value, response.response.value as Rpc.TxnResponse)
}

/** Whether the answer has, for each operation of the branch that ran, one of the right kind. */
export const isAnswerTo = (request: TxnRequest, response: Rpc.TxnResponse): boolean => {
  const branch = (response.succeeded ? request.success : request.failure) ?? []
  return (
    branch.length === response.responses.length &&
    branch.every((operation, index) => matches(operation, response.responses[index]!))
  )
}
