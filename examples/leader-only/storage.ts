/**
 * A storage that is not etcd: a database, a bucket, a device. Here it is in the memory of this program.
 */
import { Data, Effect, Ref } from "effect"

/** Somebody with a higher token has written already. */
export class StaleToken extends Data.TaggedError("StaleToken")<{
  readonly token: bigint
  readonly highest: bigint
}> {}

export interface Storage {
  readonly read: Effect.Effect<string>
  readonly write: (value: string, token: bigint) => Effect.Effect<void, StaleToken>
}

/** Accepts every write, whoever it is from. */
export const trusting: Effect.Effect<Storage> = Effect.map(Ref.make(""), (value) => ({
  read: Ref.get(value),
  write: (next) => Ref.set(value, next)
}))

/**
 * Remembers the highest token that it has seen, and refuses writes with a lower one. It compares and writes in one step, and
 * stores the token as durably as the value. In SQL that is `UPDATE … SET value = $1, token = $2 WHERE id = $3 AND token <= $2`;
 * if no row was changed, the token is stale.
 */
export const checking: Effect.Effect<Storage> = Effect.map(Ref.make({ value: "", token: 0n }), (row) => ({
  read: Effect.map(Ref.get(row), ({ value }) => value),
  write: (value, token) =>
    Effect.flatMap(
      Ref.modify(row, (now) => (token < now.token ? [now.token, now] : [token, { value, token }])),
      (highest) => (highest > token ? Effect.fail(new StaleToken({ token, highest })) : Effect.void)
    )
}))
