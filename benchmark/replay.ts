/**
 * A server that has nothing to do but to tell what it has told before, so that a mirror is measured, and not etcd or
 * who writes: `replay.ts PREFIX KEYS VALUE_BYTES`. It has so many keys below the prefix, answers reads of them, and takes one watch at a time.
 *
 * Each line on stdin is answered with one line: `port` with the port, `prepare COUNT PER_REVISION` with `ready` when the
 * messages are encoded that tell the watch of so many changes, `go` with `gone` when they are under way. It ends when
 * stdin does.
 */
import { createServer, type ServerHttp2Stream } from "node:http2"
import type { AddressInfo } from "node:net"
import { createInterface } from "node:readline"
import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf"
import * as Proto from "effect-etcd/proto"

const [prefix = "", ...counts] = process.argv.slice(2)
const [keyCount = 0, valueBytes = 0] = counts.map(Number)

const value = Buffer.alloc(valueBytes, "v")

let revision = BigInt(keyCount) + 1n

const keys = Array.from({ length: keyCount }, (_, n) => Buffer.from(`${prefix}${String(n).padStart(8, "0")}`))

const kvs = keys.map((key, n) =>
  create(Proto.KeyValueSchema, { key, value, createRevision: BigInt(n + 2), modRevision: BigInt(n + 2), version: 1n })
)

const header = () => ({ clusterId: 1n, memberId: 1n, raftTerm: 1n, revision })

const encode = <D extends DescMessage>(schema: D, message: MessageInitShape<D>): Buffer => {
  const bytes = toBinary(schema, create(schema, message))
  const frame = Buffer.alloc(5 + bytes.length)
  frame.writeUInt32BE(bytes.length, 1)
  frame.set(bytes, 5)
  return frame
}

const isWanted = (key: Buffer, { key: start, rangeEnd: end }: Proto.RangeRequest) =>
  end.length === 0 ? key.equals(start) : key.compare(start) >= 0 && key.compare(end) < 0

const range = (request: Proto.RangeRequest) => {
  const wanted = kvs.filter((kv) => isWanted(kv.key as Buffer, request) && kv.modRevision >= request.minModRevision)
  const some = request.limit > 0n ? wanted.slice(0, Number(request.limit)) : wanted
  return encode(Proto.RangeResponseSchema, {
    header: header(),
    kvs: request.countOnly ? [] : some,
    more: some.length < wanted.length,
    count: BigInt(wanted.length)
  })
}

/** Where the newest watch is told of changes. */
let watching: { readonly stream: ServerHttp2Stream; readonly watchId: bigint } | undefined

/** Of watches whose clients leave it to the server which id they have. */
let nextWatchId = 1_000_000n

const watch = (stream: ServerHttp2Stream, { requestUnion: { case: what, value } }: Proto.WatchRequest) => {
  if (what === "createRequest") {
    const watchId = value.watchId === 0n ? nextWatchId++ : value.watchId
    watching = { stream, watchId }
    stream.write(encode(Proto.WatchResponseSchema, { header: header(), watchId, created: true }))
  }
  if (what === "progressRequest") {
    stream.write(encode(Proto.WatchResponseSchema, { header: header(), watchId: -1n }))
  }
}

const answers: Readonly<Record<string, (stream: ServerHttp2Stream, message: Buffer) => void>> = {
  "/etcdserverpb.KV/Range": (stream, message) => stream.end(range(fromBinary(Proto.RangeRequestSchema, message))),
  "/etcdserverpb.Watch/Watch": (stream, message) => watch(stream, fromBinary(Proto.WatchRequestSchema, message)),
  "/etcdserverpb.Maintenance/Status": (stream) =>
    stream.end(encode(Proto.StatusResponseSchema, { header: header(), version: "3.7.1", leader: 1n }))
}

/** All keys in one answer, and all changes at once, are more than a session may hold otherwise. */
const options = { maxSessionMemory: 1024, settings: { initialWindowSize: 1 << 20 } }

const server = createServer(options).on("stream", (stream, headers) => {
  const answer = answers[String(headers[":path"])]
  stream.on("error", () => {})
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true })
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": answer === undefined ? "12" : "0" }))
  if (answer === undefined) {
    stream.end()
    return
  }
  let pending = Buffer.alloc(0)
  stream.on("data", (bytes: Buffer) => {
    pending = Buffer.concat([pending, bytes])
    while (pending.length >= 5 && pending.length >= 5 + pending.readUInt32BE(1)) {
      const end = 5 + pending.readUInt32BE(1)
      answer(stream, pending.subarray(5, end))
      pending = pending.subarray(end)
    }
  })
})

/** One message for each revision, as etcd sends them to who keeps up. */
const changes = (count: number, perRevision: number) => {
  const messages: Array<Buffer> = []
  for (let from = 0; from < count; from += perRevision) {
    revision++
    const events: Array<MessageInitShape<typeof Proto.EventSchema>> = []
    for (let n = from; n < from + perRevision; n++) {
      const { createRevision, key, version } = kvs[n]!
      kvs[n] = create(Proto.KeyValueSchema, {
        key,
        value,
        createRevision,
        modRevision: revision,
        version: version + 1n
      })
      events.push({ kv: kvs[n]! })
    }
    messages.push(encode(Proto.WatchResponseSchema, { header: header(), watchId: watching!.watchId, events }))
  }
  return Buffer.concat(messages)
}

let prepared = Buffer.alloc(0)

const carryOut = (line: string) => {
  const [command, count, perRevision] = line.split(" ")
  switch (command) {
    case "port":
      return String((server.address() as AddressInfo).port)
    case "prepare":
      prepared = changes(Number(count), Number(perRevision))
      return "ready"
    default:
      watching!.stream.write(prepared)
      return "gone"
  }
}

process.stdin.on("end", () => process.exit())

server.listen(0, "127.0.0.1", () => {
  createInterface(process.stdin).on("line", (line) => console.log(carryOut(line)))
})
