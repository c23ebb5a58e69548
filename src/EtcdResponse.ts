/**
 * What the answers of etcd have in common: their header, keys with their values, and how they are printed.
 *
 * **JSON.** Whatever this library answers with can be given to `JSON.stringify`, though JSON has neither `bigint`s nor
 * bytes: answers, keys, events, statuses, errors, and what is held. It is for people and logs, and not to be read back:
 *
 * - ids, revisions and other `bigint`s are text of decimal digits, as etcd's own JSON gateway has them (`etcdctl` shows ids
 *   in hexadecimal: `EtcdId.format` does);
 * - keys, values and other bytes are text, in which bytes that are no UTF-8 become U+FFFD;
 * - what an `Option` holds stands by itself, `null` where it holds nothing; a `Duration` is text such as `10s`, a version
 *   such as `3.6.16`, and a time that of ISO 8601;
 * - an error says what it says, and why (`cause`); of one of the system, TLS or another library there are `name`, `message`
 *   and its other texts and numbers, such as `code`;
 * - what is within itself is `[Circular]` there, and `[not printed: …]` says why something of another library could not be
 *   asked for what is in it: it threw;
 * - secrets stay hidden, also the URLs of a configuration in which there may be a password.
 *
 * Otherwise answers are like plain objects: they are equal to them for Effect's `Equal`, `node:assert` and test runners. A
 * copy of one (`{ ...answer }`) is a plain object, which JSON does not take: {@link toJson} makes one that it does.
 *
 * @packageDocumentation
 * @since 0.1.0
 */

import * as Inspectable from "effect/Inspectable"
import * as Option from "effect/Option"
import { type ClusterId, LeaseId, type MemberId } from "./EtcdId.ts"
import * as Json from "./internal/json.ts"

/**
 * Who answered, and at which state of the store.
 *
 * @category models
 * @since 0.1.0
 */
export interface Header {
  readonly clusterId: ClusterId
  /** The member that answered. */
  readonly memberId: MemberId
  /**
   * The revision of the store when the request was applied. `0n` where etcd tells none, as in answers of
   * `EtcdMembership`.
   */
  readonly revision: bigint
  /** Raft's term: a number that grows with each election. */
  readonly raftTerm: bigint
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

/**
 * A key with its value and history.
 *
 * @category models
 * @since 0.1.0
 */
export class KeyValue extends Inspectable.Class {
  /** The key as bytes. */
  readonly key: Uint8Array
  /** The value as bytes: empty where it was left out (`keysOnly`). */
  readonly value: Uint8Array
  /** The revision that created the key. */
  readonly createRevision: bigint
  /** The revision that changed the key last. */
  readonly modRevision: bigint
  /** How often the key was written since it was created: 1 after creation. */
  readonly version: bigint
  /** The lease whose end deletes the key, if it has one. */
  readonly lease: Option.Option<LeaseId>

  constructor(fields: {
    readonly key: Uint8Array
    readonly value: Uint8Array
    readonly createRevision: bigint
    readonly modRevision: bigint
    readonly version: bigint
    readonly lease: bigint
  }) {
    super()
    this.key = fields.key
    this.value = fields.value
    this.createRevision = fields.createRevision
    this.modRevision = fields.modRevision
    this.version = fields.version
    this.lease = fields.lease === 0n ? Option.none() : Option.some(LeaseId(fields.lease))
  }

  /** The key as text. Bytes that are no UTF-8 become U+FFFD. */
  get keyString(): string {
    return decoder.decode(this.key)
  }

  /** The value as text. Bytes that are no UTF-8 become U+FFFD. */
  get valueString(): string {
    return decoder.decode(this.value)
  }

  /** Key and value as text, numbers as texts of digits: for logs, and not to be read back. */
  toJSON(): unknown {
    return {
      _id: "KeyValue",
      key: this.keyString,
      value: this.valueString,
      createRevision: String(this.createRevision),
      modRevision: String(this.modRevision),
      version: String(this.version),
      lease: toJson(this.lease)
    }
  }
}

/**
 * The same as JSON can hold it, for a value of a program's own that has answers, ids, revisions or bytes in it.
 *
 * @example
 * ```ts
 * import { Console, Effect } from "effect"
 * import { EtcdKv, EtcdResponse } from "effect-etcd"
 *
 * const program = Effect.gen(function*() {
 *   const { header } = yield* EtcdKv.put("color", "green")
 *   yield* Console.log(JSON.stringify(EtcdResponse.toJson({ written: "color", ...header })))
 * })
 * ```
 *
 * @category conversions
 * @since 0.1.0
 */
export const toJson: (value: unknown) => unknown = Json.json
