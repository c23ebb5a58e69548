import { create, type DescField, type DescFile, type DescMessage, ScalarType } from "@bufbuild/protobuf"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdNamespace from "../src/EtcdNamespace.ts"
import { MessageLimit } from "../src/internal/client/batched.ts"
import * as Origin from "../src/internal/client/origin.ts"
import { rpcs } from "../src/internal/client/rpcs.ts"
import * as Namespace from "../src/internal/kv/namespace.ts"
import { KV, Watch } from "../src/internal/proto/rpc_pb.ts"
import * as KeyRange from "../src/KeyRange.ts"
import * as Proto from "../src/proto.ts"

const bytes = KeyRange.toBytes

/** What the fields hold that are bytes, by their names. */
const holdsKey = new Map([
  ["key", true],
  ["keys", true],
  ["name", true],
  ["range_end", true],
  ["value", false],
  ["blob", false]
])

type Fields = { [name: string]: any }

/** Messages in which every field is set that may lead to a key, and each that excludes others in one of them. */
const samplesOf = (
  message: DescMessage,
  bytesOf: (field: DescField) => Uint8Array,
  depth = 0
): ReadonlyArray<Fields> => {
  const valueOf = (field: DescField): unknown => {
    if (field.message === undefined) return field.scalar === ScalarType.BYTES ? bytesOf(field) : undefined
    if (depth > 6) return undefined
    return samplesOf(field.message, bytesOf, depth + 1)
  }
  const common: Fields = {}
  const samples: Array<Fields> = []
  for (const field of message.fields) {
    const values = valueOf(field)
    if (values === undefined) continue
    const single = Array.isArray(values) ? values : [values]
    if (field.fieldKind === "list") common[field.localName] = single
    else if (field.oneof === undefined) {
      assert.lengthOf(single, 1)
      common[field.localName] = single[0]
    } else for (const value of single) samples.push({ [field.oneof.localName]: { case: field.localName, value } })
  }
  return samples.length === 0 ? [common] : samples.map((sample) => ({ ...common, ...sample }))
}

/** All bytes of a message, by the paths of their fields. */
const bytesIn = (message: DescMessage, fields: Fields, path = message.name): ReadonlyArray<readonly [string, string]> =>
  message.fields.flatMap((field) => {
    const chosen = fields[field.oneof?.localName ?? ""]
    const value = field.oneof === undefined ? fields[field.localName] : chosen?.case === field.localName && chosen.value
    const here = `${path}.${field.name}`
    return [value]
      .flat()
      .filter((one) => typeof one === "object")
      .flatMap(
        (one, index): ReadonlyArray<readonly [string, string]> =>
          field.message === undefined
            ? [[here, Buffer.from(one).toString()] as const]
            : bytesIn(field.message, one, field.fieldKind === "list" ? `${here}[${index}]` : here)
      )
  })

const files = Object.values(Proto).filter((value): value is DescFile => Reflect.get(value, "kind") === "file")
const methods = files.flatMap((file) => file.services).flatMap((service) => service.methods)

describe("the messages of every RPC in a namespace", () => {
  const namespace = Namespace.make(bytes("n/"))

  /** Whether a field holds a key or not is to be said here of a name that is new. */
  const fill = (prefix: string) => (field: DescField) => {
    const isKey = holdsKey.get(field.name)
    assert(isKey !== undefined, `${field.parent.name}.${field.name}`)
    return bytes(isKey ? `${prefix}${field.name === "range_end" ? "z" : "k"}` : "v")
  }

  const check = (message: DescMessage, inside: Fields, outside: Fields, what: string) => {
    const expected = bytesIn(message, inside).map(([path, text]) => [path, text === "v" ? "v" : `n/${text}`])
    assert.deepStrictEqual(bytesIn(message, outside), expected as ReadonlyArray<any>, what)
  }

  it("are those of etcd's whole API", () => {
    assert.sameMembers(
      files.flatMap((file) => file.services).map(({ typeName }) => typeName),
      Object.keys(rpcs)
    )
    assert.isAbove(methods.length, 40)
    const [request] = samplesOf(KV.method.txn.input, fill(""))
    assert.isAbove(bytesIn(KV.method.txn.input, request!).length, 50)
  })

  for (const method of methods) {
    const name = `${method.parent.name}.${method.name}`

    it(`have their keys in it: ${name}`, () => {
      const rewrite = Namespace.rewriteOf(method)
      assert(rewrite !== undefined)
      for (const request of samplesOf(method.input, fill(""))) {
        check(method.input, request, rewrite.request?.(namespace, request) ?? request, `request of ${name}`)
      }
      const answersOf = (prefix: string) =>
        samplesOf(method.output, fill(prefix)).map((fields): Fields => create(method.output, fields))
      const inside = answersOf("")
      answersOf("n/").forEach((response, index) => {
        const outside = structuredClone(response)
        rewrite.response?.(namespace, response)
        check(method.output, inside[index]!, outside, `sample of ${name}`)
        check(method.output, response, outside, `response of ${name}`)
      })
    })
  }
})

describe("a client in a namespace", () => {
  it("has all that a client has, and so have its streams", () => {
    const messages = Stream.empty
    const duplex = { send: () => Effect.void, end: Effect.void, messages, endpoint: "e", draining: Effect.never }
    const outside: EtcdClient.Client & MessageLimit = {
      [MessageLimit]: 1000,
      unary: () => Effect.never,
      serverStream: () => Stream.never,
      bidirectional: () => Effect.succeed({ ...duplex, renewToken: Effect.succeed(true) }),
      defaults: () => ({}),
      endpoints: Effect.succeed(["e"])
    }
    const inside = EtcdNamespace.fromClient(outside, "n/")
    assert.sameMembers(Reflect.ownKeys(inside), Reflect.ownKeys(Origin.ground(outside)))
    assert.includeMembers(Reflect.ownKeys(inside), Reflect.ownKeys(outside))
    assert.strictEqual(inside.defaults, outside.defaults)
    assert.strictEqual(inside.endpoints, outside.endpoints)
    const [theirs, ours] = [outside, inside].map((client) =>
      Effect.runSync(Effect.scoped(client.bidirectional(Watch.method.watch)))
    )
    assert.sameMembers(Object.keys(ours!), Object.keys(theirs!))
  })
})
