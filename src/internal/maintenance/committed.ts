/**
 * Letting etcd write down what it has committed.
 *
 * A member writes to its log that entries are committed together with the next entry, and not before (`MustSync` in etcd's
 * raft; the record waits in a buffer of the process until then). Killed in between, it starts with what it knew before. Of two
 * members whose other one was just removed it then waits for the vote of the one that is no member any more, for ever. So
 * whoever has removed a member asks for something that is an entry, and changes nothing: the deletion of a key that is not
 * there.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type * as EtcdClient from "../../EtcdClient.ts"
import * as EtcdKv from "../../EtcdKv.ts"
import * as Origin from "../client/origin.ts"

/** A key that is not there. */
export const nobody = "effect-etcd/nobody"

/** Whether it is done is not known where the user may not delete that key. `endpoint`: who is to be asked, where that matters. */
export const writeDown = (client: EtcdClient.Client, endpoint?: string): Effect.Effect<void> =>
  Effect.ignore(EtcdKv.fromClient(Origin.outside(client)).delete(nobody, { deadline: "3 seconds", endpoint }))
