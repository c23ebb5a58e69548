import type { DescMethod } from "@bufbuild/protobuf"
import { create } from "@bufbuild/protobuf"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Ref from "effect/Ref"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import fc from "fast-check"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import * as EtcdError from "../src/EtcdError.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import type * as EtcdResponse from "../src/EtcdResponse.ts"
import { KV, RangeStreamResponseSchema } from "../src/internal/proto/rpc_pb.ts"
import * as KeyRange from "../src/KeyRange.ts"
import { startAgain } from "./support/machine.ts"

const text = (kv: EtcdResponse.KeyValue) => `${kv.keyString}=${kv.valueString}`
const hex = (kv: EtcdResponse.KeyValue) => Buffer.from(kv.key).toString("hex")

const putAll = (client: EtcdClient.Client, prefix: string, count: number) =>
  Effect.forEach(
    Array.from({ length: count / 100 }, (_, block) => block * 100),
    (start) =>
      client.unary(KV.method.txn, {
        success: Array.from({ length: 100 }, (_, index) => ({
          request: {
            case: "requestPut" as const,
            value: {
              key: KeyRange.toBytes(prefix + String(start + index).padStart(5, "0")),
              value: KeyRange.toBytes("x".repeat((start + index) % 50))
            }
          }
        }))
      }),
    { concurrency: 4, discard: true }
  )

interface Hooks {
  readonly unary?: (method: DescMethod, request: any, call: Effect.Effect<any, EtcdError.EtcdError>) => typeof call
  readonly serverStream?: (
    method: DescMethod,
    request: any,
    call: Stream.Stream<any, EtcdError.EtcdError>
  ) => typeof call
}

/** The client that is there, with something between it and the caller. */
const hooked = (hooks: Hooks) =>
  Effect.map(EtcdClient.EtcdClient, (client) => {
    const between: EtcdClient.Client = {
      ...client,
      unary: (method, request, options) => {
        const call = client.unary(method, request, options)
        return hooks.unary === undefined ? call : hooks.unary(method, request, call)
      },
      serverStream: (method, request, options) => {
        const call = client.serverStream(method, request, options)
        return hooks.serverStream === undefined ? call : hooks.serverStream(method, request, call)
      }
    }
    return EtcdKv.fromClient(between)
  })

/** A client whose server has pages only, and how many keys they were to have. */
const paged = (client: EtcdClient.Client) => {
  const limits: Array<number> = []
  const kv = EtcdKv.fromClient({
    ...client,
    unary: (method, request: any, options) => {
      limits.push(Number(request.limit))
      return client.unary(method, request, options)
    },
    serverStream: () => Stream.fail(failure(EtcdError.Unsupported))
  })
  return { kv, limits }
}

const failure = (
  Reason: typeof EtcdError.ConnectionLost | typeof EtcdError.FutureRevision | typeof EtcdError.Unsupported
) => EtcdError.make(new Reason({ message: "on purpose", outcome: "not-applied", feature: "KV.RangeStream" }))

describe("EtcdKv.stream", () => {
  layer(EtcdLayer.ephemeral({}, { log: false }))((it) => {
    it.effect("gives each key once, in order, as all were at one revision", () =>
      Effect.gen(function* () {
        yield* putAll(yield* EtcdClient.EtcdClient, "s/", 3000)
        const before = yield* EtcdKv.range(KeyRange.prefix("s/"))
        for (const pageSize of [7, 500, undefined]) {
          const changed = yield* Ref.make(false)
          const read = yield* EtcdKv.stream(KeyRange.prefix("s/"), {
            pageSize,
            revision: pageSize === undefined ? before.header.revision : undefined
          }).pipe(
            Stream.tap(() =>
              Effect.when(
                Effect.all([EtcdKv.put("s/00001", "new"), EtcdKv.put("s/02999x", "new"), EtcdKv.delete("s/02000")]),
                Effect.map(Ref.getAndSet(changed, true), (done) => !done)
              )
            ),
            Stream.runCollect
          )
          if (pageSize === 7 || pageSize === undefined) {
            assert.deepStrictEqual(read.map(text), before.kvs.map(text))
          } else {
            assert.strictEqual(read.length, 3000)
          }
        }
      })
    )

    it.effect("agrees with range on every kind of range, key and page size", () =>
      Effect.gen(function* () {
        const bytes = fc.uint8Array({ minLength: 1, maxLength: 4, min: 0, max: 3 }).map((key) =>
          // A few bytes only, the least and the greatest among them.
          key.map((byte) => [0, 1, 0x61, 0xff][byte]!)
        )
        yield* EtcdKv.delete(KeyRange.all)
        const keys = fc.sample(bytes, 150)
        yield* Effect.forEach(keys, (key) => EtcdKv.put(key, ""), { concurrency: 16, discard: true })
        const range = fc.oneof(
          bytes.map(KeyRange.prefix),
          bytes.map(KeyRange.from),
          bytes.map(KeyRange.single),
          fc.tuple(bytes, bytes).map(([start, end]) => KeyRange.interval(start, end)),
          fc.constant(KeyRange.all)
        )
        const kv = yield* hooked({ serverStream: () => Stream.fail(failure(EtcdError.Unsupported)) })
        yield* Effect.forEach(
          fc.sample(fc.tuple(range, fc.integer({ min: 1, max: 20 })), 200),
          ([range, pageSize]) =>
            Effect.gen(function* () {
              const whole = yield* kv.range(range)
              const { revision } = whole.header
              const read = yield* Stream.runCollect(kv.stream(range, { pageSize, revision }))
              assert.deepStrictEqual(read.map(hex), whole.kvs.map(hex))
            }),
          { concurrency: 8, discard: true }
        )
      })
    )

    it.effect("options", () =>
      Effect.gen(function* () {
        yield* putAll(yield* EtcdClient.EtcdClient, "o/", 200)
        const keys = yield* Stream.runCollect(EtcdKv.stream(KeyRange.prefix("o/"), { keysOnly: true, pageSize: 9 }))
        assert.strictEqual(keys.length, 200)
        assert.isTrue(keys.every((kv) => kv.value.length === 0))
        const stale = yield* Stream.runCollect(EtcdKv.stream(KeyRange.prefix("o/"), { serializable: true }))
        assert.strictEqual(stale.length, 200)
        const few = yield* EtcdKv.stream(KeyRange.prefix("o/"), { pageSize: 9 }).pipe(Stream.take(5), Stream.runCollect)
        assert.deepStrictEqual(
          few.map((kv) => kv.keyString),
          [0, 1, 2, 3, 4].map((index) => `o/0000${index}`)
        )
        assert.deepStrictEqual(yield* Stream.runCollect(EtcdKv.stream("o/none")), [])
      })
    )

    it.effect("falls back to pages where the server has no RangeStream, and asks it only once", () =>
      Effect.gen(function* () {
        yield* putAll(yield* EtcdClient.EtcdClient, "f/", 1000)
        let asked = 0
        const kv = yield* hooked({
          serverStream: (method) => {
            assert.strictEqual(method.name, "RangeStream")
            asked++
            return Stream.fail(failure(EtcdError.Unsupported))
          }
        })
        const read = yield* Stream.runCollect(kv.stream(KeyRange.prefix("f/"), { pageSize: 50 }))
        assert.strictEqual(read.length, 1000)
        assert.strictEqual(asked, 1)
        const plain = yield* Stream.runCollect(EtcdKv.stream(KeyRange.prefix("f/"), { pageSize: 50 }))
        assert.deepStrictEqual(plain.map(text), read.map(text))
      })
    )

    it.effect("uses RangeStream where the server has it", () =>
      Effect.gen(function* () {
        yield* putAll(yield* EtcdClient.EtcdClient, "u/", 1000)
        const { version } = yield* EtcdProcess.EtcdProcess
        const has = version.major > 3 || version.minor >= 7
        let pages = 0
        let parts = 0
        const kv = yield* hooked({
          unary: (_method, _request, call) => {
            pages++
            return call
          },
          serverStream: (_method, _request, call) => Stream.tap(call, () => Effect.sync(() => parts++))
        })
        const read = yield* Stream.runCollect(kv.stream(KeyRange.prefix("u/"), { pageSize: 50 }))
        assert.deepStrictEqual(read.map(text), (yield* EtcdKv.range(KeyRange.prefix("u/"))).kvs.map(text))
        if (has) assert.deepStrictEqual([pages, parts > 1], [1, true])
        else assert.deepStrictEqual([pages >= 20, parts], [true, 0])
      })
    )

    it.effect("goes on where a RangeStream broke off", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        yield* putAll(client, "b/", 1000)
        const opened: Array<string> = []
        const kv = yield* hooked({
          // What a server of 3.7 does, in parts of 90 keys, of which the third is lost.
          serverStream: (_, request) => {
            opened.push(new TextDecoder().decode(request.key))
            const part = (key: Uint8Array) =>
              client.unary(KV.method.range, { key, rangeEnd: request.rangeEnd, revision: request.revision, limit: 90n })
            return Stream.fromEffect(part(request.key)).pipe(
              Stream.concat(
                Stream.unwrap(
                  Effect.map(part(request.key), ({ kvs }) =>
                    Stream.fromEffect(part(Buffer.concat([kvs.at(-1)?.key ?? request.key, new Uint8Array(1)])))
                  )
                )
              ),
              Stream.map((rangeResponse) => create(RangeStreamResponseSchema, { rangeResponse })),
              Stream.concat(Stream.fail(failure(EtcdError.ConnectionLost)))
            )
          }
        })
        const read = yield* kv.stream(KeyRange.prefix("b/"), { pageSize: 10 }).pipe(Stream.runCollect)
        assert.strictEqual(read.length, 1000)
        assert.deepStrictEqual(read.map(text), (yield* EtcdKv.range(KeyRange.prefix("b/"))).kvs.map(text))
        assert.isAbove(opened.length, 3)
        assert.strictEqual(new Set(opened).size, opened.length)
      })
    )

    it.effect("lets a server count each key a few times only, however long the range is", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        yield* putAll(client, "n/", 5000)
        let counted = 0n
        const kv = EtcdKv.fromClient({
          ...client,
          unary: (method, request, options) =>
            Effect.tap(client.unary(method, request, options), (answer: any) => {
              counted += answer.count
              return Effect.void
            }),
          serverStream: () => Stream.fail(failure(EtcdError.Unsupported))
        })
        const read = yield* Stream.runCollect(kv.stream(KeyRange.prefix("n/"), { pageSize: 10 }))
        assert.strictEqual(read.length, 5000)
        // Asked for up to the end of the range, pages of ten would have them counted 250 times each.
        assert.isBelow(Number(counted), 5000 * 20)
        yield* EtcdKv.delete(KeyRange.prefix("n/"))
      })
    )

    it.effect("reads large values behind small ones, also where the client takes few of them in one message", () =>
      Effect.gen(function* () {
        const prefix = KeyRange.prefix("v/")
        yield* putAll(yield* EtcdClient.EtcdClient, "v/a", 700)
        const large = new Uint8Array(1024 * 1024)
        for (let index = 0; index < 6; index++) yield* EtcdKv.put(`v/b${index}`, large)
        yield* EtcdKv.put("v/c", "")
        const { endpoints } = yield* EtcdProcess.EtcdProcess
        const read = Effect.fnUntraced(function* (maxReceiveMessageSize: number) {
          const client = yield* EtcdClient.make({ endpoints, maxReceiveMessageSize })
          const { kv, limits } = paged(client)
          return { limits, exit: yield* Effect.exit(Stream.runCollect(kv.stream(prefix))) }
        }, Effect.scoped)
        const few = yield* read(2.5 * 1024 * 1024)
        assert.deepStrictEqual((yield* few.exit).map(text), (yield* EtcdKv.range(prefix)).kvs.map(text))
        assert.isBelow(few.limits.length, 35)
        // What is too large by itself is told, and not asked for again and again.
        const none = yield* read(512 * 1024)
        assert.include(String(none.exit), "ask for less at a time")
        assert.isBelow(none.limits.length, 35)
        assert.strictEqual(none.limits.at(-1), 1)
        yield* EtcdKv.delete(prefix)
      })
    )

    it.effect("a serializable page at a member that lags is read from the cluster instead", () =>
      Effect.gen(function* () {
        yield* putAll(yield* EtcdClient.EtcdClient, "l/", 200)
        let lagged = 0
        const kv = yield* hooked({
          serverStream: () => Stream.fail(failure(EtcdError.Unsupported)),
          unary: (_, request, call) => {
            if (!request.serializable || request.revision === 0n) return call
            lagged++
            return Effect.fail(failure(EtcdError.FutureRevision))
          }
        })
        const read = yield* Stream.runCollect(kv.stream(KeyRange.prefix("l/"), { serializable: true, pageSize: 50 }))
        assert.strictEqual(read.length, 200)
        assert.isAbove(lagged, 2)
      })
    )

    it.effect("fails with Compacted when the revision goes away meanwhile", () =>
      Effect.gen(function* () {
        yield* putAll(yield* EtcdClient.EtcdClient, "c/", 400)
        const changed = yield* Ref.make(false)
        const compact = Effect.flatMap(EtcdKv.put("c/x", ""), ({ header }) => EtcdKv.compact(header.revision))
        const kv = yield* hooked({ serverStream: () => Stream.fail(failure(EtcdError.Unsupported)) })
        const error = yield* kv.stream(KeyRange.prefix("c/"), { pageSize: 10 }).pipe(
          Stream.tap(() =>
            Effect.when(
              compact,
              Effect.map(Ref.getAndSet(changed, true), (done) => !done)
            )
          ),
          Stream.runDrain,
          Effect.flip
        )
        assert.strictEqual(error.reason._tag, "Compacted")
      })
    )
  })

  it.live("survives the death of the members that it reads from", () =>
    Effect.gen(function* () {
      const cluster = yield* EtcdCluster.ephemeral({ log: false })
      const services = EtcdLayer.connect({ endpoints: cluster.endpoints })
      yield* Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        yield* putAll(client, "k/", 3000)
        const before = yield* EtcdKv.range(KeyRange.prefix("k/"))
        let count = 0
        // Each member in turn, so that the one that is being read from is among them.
        const restart = (index: number) =>
          Effect.gen(function* () {
            const node = SubscriptionRef.getUnsafe(cluster.members)[index]!
            yield* node.signal("SIGKILL")
            yield* node.exit
            yield* startAgain(node)
          })
        const read = yield* EtcdKv.stream(KeyRange.prefix("k/"), { pageSize: 40 }).pipe(
          Stream.tap(() => {
            count++
            return count % 900 === 0 ? Effect.orDie(restart(count / 900 - 1)) : Effect.void
          }),
          Stream.runCollect
        )
        assert.deepStrictEqual(read.map(text), before.kvs.map(text))
      }).pipe(Effect.provide(services))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
