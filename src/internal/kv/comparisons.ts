/**
 * What is in a comparison of a transaction: any number of comparisons on the wire, all of which have to hold.
 *
 * @internal
 */
import type { MessageInitShape } from "@bufbuild/protobuf"
import type { Compare } from "../../EtcdTxn.ts"
import * as Json from "../json.ts"
import type * as Rpc from "../proto/rpc_pb.ts"
import type { Wrong } from "./txnCheck.ts"

export const TypeId = "~effect-etcd/EtcdTxn/Compare"

export type TypeId = typeof TypeId

/** A comparison on the wire. */
export type Request = MessageInitShape<typeof Rpc.CompareSchema>

interface Parts {
  readonly requests: ReadonlyArray<Request>
  /** What is wrong with it, if anything is: said when the transaction is to be sent. */
  readonly problem: Wrong | undefined
}

class Comparison {
  readonly [TypeId]: Parts

  constructor(parts: Parts) {
    this[TypeId] = parts
  }

  toJSON(): unknown {
    return Json.ofFields(this[TypeId])
  }
}

export const make = (parts: Parts): Compare => new Comparison(parts) as unknown as Compare

const partsOf = (compare: Compare): Parts => compare[TypeId] as unknown as Parts

export const requestsOf = (compare: Compare): ReadonlyArray<Request> => partsOf(compare).requests

export const problemOf = (compare: Compare): Wrong | undefined => partsOf(compare).problem

export const every = (compares: ReadonlyArray<Compare>): Compare => {
  const wrong = compares.findIndex((compare) => problemOf(compare) !== undefined)
  const problem = wrong === -1 ? undefined : problemOf(compares[wrong]!)
  return make({
    requests: compares.flatMap(requestsOf),
    problem: problem === undefined ? undefined : { ...problem, at: `[${wrong}]${problem.at}` }
  })
}
