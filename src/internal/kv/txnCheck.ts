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
import * as Keys from "../keys.ts"
import type * as Rpc from "../proto/rpc_pb.ts"

/** How the caller knows an operation, and what is wrong with it by itself. */
export interface Part {
  /** `[0]` or `.name` in its branch. */
  readonly label: string
  /** Those of the operation, where it is a transaction. */
  readonly parts: Parts | undefined
  readonly problem: string | undefined
}

/** What is wrong with a comparison, and which of several it is that were given as one: `[0]`. */
export interface Wrong {
  readonly at: string
  readonly problem: string
}

export interface Parts {
  /** What is wrong with each comparison that was given, which may stand for several. */
  readonly compare: ReadonlyArray<Wrong | undefined>
  readonly success: ReadonlyArray<Part>
  readonly failure: ReadonlyArray<Part>
}

type TxnRequest = MessageInitShape<typeof Rpc.TxnRequestSchema>
type RequestOp = MessageInitShape<typeof Rpc.RequestOpSchema>
type PutRequest = MessageInitShape<typeof Rpc.PutRequestSchema>
type DeleteRequest = MessageInitShape<typeof Rpc.DeleteRangeRequestSchema>

const empty = new Uint8Array(0)
const keyOf = (message: { readonly key?: Uint8Array }): Uint8Array => message.key ?? empty

const details = (message: string) => ({ message, outcome: "not-applied" as const, method: "KV.Txn" })

const invalid = (message: string) => EtcdError.make(new EtcdError.InvalidArgument(details(message)))

const duplicate = (message: string) => EtcdError.make(new EtcdError.DuplicateKey(details(message)))

/** A transaction inside of another one. */
const inside = (path: string, name: string) => (path === "" ? name : `${path}.${name}`)

interface Located {
  readonly operation: RequestOp
  readonly path: string
  readonly parts: Parts | undefined
  readonly problem: string | undefined
}

const locate = (
  operations: ReadonlyArray<RequestOp>,
  parts: ReadonlyArray<Part> | undefined,
  path: string
): ReadonlyArray<Located> =>
  operations.map((operation, index) => ({
    operation,
    path: `${path}${parts?.[index]?.label ?? `[${index}]`}`,
    parts: parts?.[index]?.parts,
    problem: parts?.[index]?.problem
  }))

const branches = (request: TxnRequest, parts: Parts | undefined, path: string) => ({
  success: locate(request.success ?? [], parts?.success, inside(path, "success")),
  failure: locate(request.failure ?? [], parts?.failure, inside(path, "failure"))
})

/** What is wrong with a part by itself. */
const told = (path: string, problem: string | undefined) =>
  problem === undefined ? undefined : invalid(`${path}: ${problem}`)

const checkPut = (put: PutRequest, path: string) => {
  const key = Keys.show(keyOf(put))
  if (put.ignoreValue === true && (put.value ?? empty).length > 0) {
    return invalid(`${path} is to keep the value of ${key} and gives one as well. Leave one of them out.`)
  }
  if (put.ignoreLease === true && (put.lease ?? 0n) !== 0n) {
    return invalid(`${path} is to keep the lease of ${key} and gives one as well. Leave one of them out.`)
  }
  return undefined
}

const checkOperation = ({ operation, parts, path, problem }: Located): EtcdError.EtcdError | undefined => {
  if (problem !== undefined) return told(path, problem)
  const request = operation.request
  switch (request?.case) {
    case "requestPut":
      return checkPut(request.value, path)
    case "requestTxn":
      return checkShape(request.value, parts, path)
    default:
      return undefined
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

const checkShape = (request: TxnRequest, parts: Parts | undefined, path: string): EtcdError.EtcdError | undefined => {
  const { failure, success } = branches(request, parts, path)
  return (
    first(parts?.compare ?? [], (wrong, index) =>
      told(`${inside(path, "compare")}[${index}]${wrong?.at ?? ""}`, wrong?.problem)
    ) ??
    first(success, checkOperation) ??
    first(failure, checkOperation)
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

const deletes = ({ request }: Deletion, key: Uint8Array): boolean => {
  const end = request.rangeEnd ?? empty
  const order = Keys.compare(keyOf(request), key)
  return end.length === 0 ? order === 0 : order <= 0 && Keys.compare(key, end) < 0
}

const deletesFrom = ({ request }: Deletion, key: Uint8Array): boolean =>
  Keys.isUnbounded(request.rangeEnd ?? empty) && Keys.compare(keyOf(request), key) <= 0

/** Adds a put to what is there, unless it is in conflict with it. */
const addPut = (effects: Effects, put: Put, exclusive?: Effects): EtcdError.EtcdError | undefined => {
  const text = Keys.nameOf(put.key)
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
  const { failure, success } = branches(request, located.parts, located.path)
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

/** Whether there are no two in a branch that may be in conflict. */
const isSimple = (operations: ReadonlyArray<RequestOp> = []): boolean => {
  const writes = operations.filter(({ request }) => request?.case !== "requestRange")
  return writes.length === 0 || (writes.length === 1 && writes[0]!.request?.case !== "requestTxn")
}

const checkBranch = (
  operations: TxnRequest["success"],
  parts: ReadonlyArray<Part> | undefined,
  name: string
): EtcdError.EtcdError | undefined =>
  isSimple(operations) ? undefined : collect({ puts: new Map(), deletions: [] }, locate(operations ?? [], parts, name))

/** Why a server would refuse the transaction, if it would for another reason than its limit. */
export const check = (request: TxnRequest, parts: Parts | undefined): EtcdError.EtcdError | undefined =>
  checkShape(request, parts, "") ??
  checkBranch(request.success, parts?.success, "success") ??
  checkBranch(request.failure, parts?.failure, "failure")

/** How many comparisons or operations a server counts: of one in a branch, on top of those of the outer one. */
export const sizeOf = ({ compare = [], failure = [], success = [] }: TxnRequest): number => {
  const inner = [...success, ...failure].map(({ request }) =>
    request?.case === "requestTxn" ? sizeOf(request.value) : 0
  )
  return Math.max(compare.length, success.length, failure.length) + Math.max(0, ...inner)
}

/** What a server says that takes fewer, with how many there are. */
export const tooManyOps = (request: TxnRequest, reason: EtcdError.TooManyOps): EtcdError.EtcdError => {
  const fence = reason.fence === undefined ? "" : `, besides ${reason.fence} for the lock that it is made under`
  return EtcdError.make(
    new EtcdError.TooManyOps({
      ...reason,
      message:
        `The transaction has ${sizeOf(request)} comparisons or operations in a branch, those of transactions inside of ` +
        `it included${fence}, and the server takes fewer. Split it, or raise the server's --max-txn-ops (128 by default).`
    })
  )
}

/** What an operation is answered with. */
export const answers = {
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
