/**
 * The network of a cluster without a cluster: sockets of this machine.
 */
import { execFile } from "node:child_process"
import * as net from "node:net"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Flow from "../../../src/internal/faults/flow.ts"
import * as Network from "../../../src/internal/faults/network.ts"
import * as Rules from "../../../src/internal/faults/rules.ts"
import { temporaryDirectory, until } from "../../support/machine.ts"
import { makeRandom } from "../../support/random.ts"
import { turns } from "../../support/time.ts"

/** One end of a connection, and what has come out of it. */
interface End {
  readonly socket: net.Socket
  readonly heard: () => Buffer
  readonly hasEnded: () => boolean
  readonly isClosed: () => boolean
  /** Whether the other end says no more, in whatever way it has left. */
  readonly isGone: () => boolean
}

const endOf = (socket: net.Socket): End => {
  const chunks: Array<Buffer> = []
  let hasEnded = false
  let isClosed = false
  socket.on("error", () => {})
  socket.on("data", (chunk: Buffer) => void chunks.push(chunk))
  socket.on("end", () => {
    hasEnded = true
  })
  socket.on("close", () => {
    isClosed = true
  })
  return {
    socket,
    heard: () => Buffer.concat(chunks),
    hasEnded: () => hasEnded,
    isClosed: () => isClosed,
    isGone: () => hasEnded || isClosed
  }
}

const text = ({ heard }: End): string => heard().toString("latin1")

/** Who dials at a place. */
const dial = (at: net.NetConnectOpts) =>
  Effect.acquireRelease(
    Effect.sync(() => endOf(net.connect({ ...at, allowHalfOpen: true }))),
    ({ socket }) => Effect.sync(() => void socket.destroy())
  )

/** Who is called, and the ends of those who have called. */
const listener = Effect.fnUntraced(function* (path: string) {
  const ends: Array<End> = []
  yield* Effect.acquireRelease(
    Effect.callback<net.Server>((resume) => {
      const server = net.createServer({ allowHalfOpen: true }, (socket) => void ends.push(endOf(socket)))
      server.listen({ path }, () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.sync(() => {
        for (const { socket } of ends) socket.destroy()
        server.close()
      })
  )
  const next = Effect.gen(function* () {
    yield* until(() => ends.length > 0)
    return ends.shift()!
  })
  return { next, waiting: ends }
})

/** Two parties, `a` and `b`. `b` listens, and `a` has a way in to it, and a way out at which `b` is called `b.peer:0`. */
const twoParties = Effect.gen(function* () {
  const directory = yield* temporaryDirectory
  const b = { name: "b", address: { path: join(directory, "b") } }
  const gone = { name: "gone", address: { path: join(directory, "gone") } }
  const network = Network.make((host) => ({ "b.peer:0": b, "gone.peer:0": gone })[host])
  const wayIn = { path: join(directory, "in") }
  const wayOut = { path: join(directory, "out") }
  const wayToNobody = { path: join(directory, "nobody") }
  yield* network.wayIn("a", b, wayIn)
  yield* network.wayIn("a", gone, wayToNobody)
  yield* network.wayOut("a", wayOut)
  const called = yield* listener(b.address.path)
  const connected = Effect.gen(function* () {
    const caller = yield* dial(wayIn)
    return { caller, called: yield* called.next }
  })
  return { network, wayIn, wayOut, wayToNobody, called, connected }
})

const hanging = Rules.apart([["a"], ["b"]], "hang")
const cut = Rules.apart([["a"], ["b"]], "cut")
const slowBy = (condition: Partial<Flow.Condition>) => Rules.slow(["a"], ["b"], condition)

const bytesOf = (count: number): Buffer => {
  const random = makeRandom(count)
  return Buffer.from(Array.from({ length: count }, () => random(256)))
}

/** What has been sent is on its way as far as it gets: many turns in which nothing moves. */
const settled = turns(50)

describe("a connection", () => {
  it.effect("gets everything through in order, in both directions, and ends in each by itself", () =>
    Effect.gen(function* () {
      const { connected } = yield* twoParties
      const { called, caller } = yield* connected
      const bytes = bytesOf(300_000)
      for (let from = 0; from < bytes.length; from += 7001) caller.socket.write(bytes.subarray(from, from + 7001))
      caller.socket.end()
      yield* until(called.hasEnded)
      assert.isTrue(called.heard().equals(bytes))
      assert.isFalse(caller.hasEnded())
      called.socket.end(bytes)
      yield* until(() => caller.isClosed() && called.isClosed())
      assert.isTrue(caller.heard().equals(bytes))
    }).pipe(Effect.scoped)
  )

  it.effect("closes where there is nobody who could be called", () =>
    Effect.gen(function* () {
      const { wayToNobody } = yield* twoParties
      const caller = yield* dial(wayToNobody)
      caller.socket.write("hello")
      yield* until(caller.isGone)
      assert.strictEqual(text(caller), "")
    }).pipe(Effect.scoped)
  )

  it.effect("closes with the other end, also where that was reset", () =>
    Effect.gen(function* () {
      const { connected } = yield* twoParties
      const one = yield* connected
      one.called.socket.destroy()
      yield* until(one.caller.isGone)
      const other = yield* connected
      other.called.socket.pause()
      other.caller.socket.write("unread")
      other.caller.socket.destroy()
      other.called.socket.resume()
      yield* until(other.called.isGone)
    }).pipe(Effect.scoped)
  )

  it.effect("holds so much of what cannot go on, and then lets its source wait", () =>
    Effect.gen(function* () {
      const { connected } = yield* twoParties
      const { called, caller } = yield* connected
      called.socket.pause()
      const bytes = bytesOf(65_536)
      const sent: Array<Buffer> = []
      // As long as the machine takes it, and then not any more.
      for (let quiet = 0; quiet < 20; ) {
        if (caller.socket.writableLength === 0) {
          quiet = 0
          sent.push(bytes)
          caller.socket.write(bytes)
        } else quiet++
        yield* settled
      }
      assert.isBelow(sent.length * bytes.length, 8 * 1024 * 1024)
      called.socket.resume()
      caller.socket.end()
      yield* until(called.hasEnded)
      assert.isTrue(called.heard().equals(Buffer.concat(sent)))
    }).pipe(Effect.scoped)
  )
})

describe("a way that hangs", () => {
  it.effect("lets nothing through, and all of it late, once and in order, with the end after it", () =>
    Effect.gen(function* () {
      const { connected, network } = yield* twoParties
      const { called, caller } = yield* connected
      caller.socket.write("before")
      yield* until(() => text(called) === "before")
      network.disturb(hanging)
      const bytes = bytesOf(200_000)
      caller.socket.write(bytes)
      caller.socket.end()
      called.socket.write("back")
      yield* settled
      assert.strictEqual(text(called), "before")
      assert.strictEqual(text(caller), "")
      assert.isFalse(called.hasEnded())
      network.settle(hanging)
      yield* until(() => called.hasEnded() && text(caller) === "back")
      assert.isTrue(called.heard().equals(Buffer.concat([Buffer.from("before"), bytes])))
    }).pipe(Effect.scoped)
  )

  it.effect("takes connections, which hang too, and whose end it holds back", () =>
    Effect.gen(function* () {
      const { connected, network, wayToNobody } = yield* twoParties
      network.disturb(hanging)
      const { called, caller } = yield* connected
      caller.socket.write("hello")
      caller.socket.destroy()
      const nobody = Rules.apart([["a"], ["gone"]], "hang")
      network.disturb(nobody)
      const toNobody = yield* dial(wayToNobody)
      yield* settled
      assert.strictEqual(text(called), "")
      assert.isFalse(called.hasEnded())
      assert.isFalse(toNobody.isGone())
      network.settle(hanging)
      yield* until(called.hasEnded)
      assert.strictEqual(text(called), "hello")
      network.settle(nobody)
      yield* until(toNobody.isGone)
    }).pipe(Effect.scoped)
  )

  it.effect("holds so much, and then lets its source wait", () =>
    Effect.gen(function* () {
      const { connected, network } = yield* twoParties
      const { called, caller } = yield* connected
      network.disturb(hanging)
      const bytes = bytesOf(65_536)
      let sent = 0
      for (let quiet = 0; quiet < 20; ) {
        if (caller.socket.writableLength === 0) {
          quiet = 0
          sent += bytes.length
          caller.socket.write(bytes)
        } else quiet++
        yield* settled
      }
      assert.isBelow(sent, 8 * 1024 * 1024)
      network.settle(hanging)
      yield* until(() => called.heard().length === sent)
    }).pipe(Effect.scoped)
  )

  it.effect("is one direction only: what one says, whoever has dialled", () =>
    Effect.gen(function* () {
      const { connected, network } = yield* twoParties
      const { called, caller } = yield* connected
      for (const [rule, mute, heard] of [
        [Rules.oneWay(["a"], ["b"]), caller, called],
        [Rules.oneWay(["b"], ["a"]), called, caller]
      ] as const) {
        const [before, after] = [text(heard), text(mute)]
        network.disturb(rule)
        mute.socket.write("1")
        heard.socket.write("2")
        yield* until(() => text(mute) === `${after}2`)
        assert.strictEqual(text(heard), before)
        network.settle(rule)
        yield* until(() => text(heard) === `${before}1`)
      }
    }).pipe(Effect.scoped)
  )

  it.effect("hangs until the last of those that want it to is over", () =>
    Effect.gen(function* () {
      const { connected, network } = yield* twoParties
      const { called, caller } = yield* connected
      const again = Rules.oneWay(["a"], ["b"])
      network.disturb(hanging)
      network.disturb(again)
      caller.socket.write("hello")
      network.settle(hanging)
      network.settle(hanging)
      yield* settled
      assert.strictEqual(text(called), "")
      network.settle(again)
      yield* until(() => text(called) === "hello")
    }).pipe(Effect.scoped)
  )
})

describe("a way that is cut", () => {
  it.effect("closes what is open, and each new connection, until it is over", () =>
    Effect.gen(function* () {
      const { called: listening, connected, network, wayIn } = yield* twoParties
      const { called, caller } = yield* connected
      network.disturb(hanging)
      caller.socket.write("lost")
      yield* settled
      network.disturb(cut)
      yield* until(() => caller.isGone() && called.isGone())
      assert.strictEqual(text(called), "")
      const refused = yield* dial(wayIn)
      yield* until(refused.isGone)
      assert.lengthOf(listening.waiting, 0)
      network.settle(cut)
      network.settle(hanging)
      const { called: again, caller: anew } = yield* connected
      anew.socket.write("hello")
      yield* until(() => text(again) === "hello")
    }).pipe(Effect.scoped)
  )
})

describe("a way that is slow", () => {
  it.effect(
    "keeps the order, whatever the jitter, and what is late is not early because something else befalls it",
    () =>
      Effect.gen(function* () {
        const { connected, network } = yield* twoParties
        const { called, caller } = yield* connected
        const slow = slowBy({ delayMillis: 10, jitterMillis: 10 })
        network.disturb(slow)
        let sent = ""
        for (let number = 0; number < 50; number++) {
          sent += `${number};`
          caller.socket.write(`${number};`)
          yield* turns(2)
          const other = Rules.oneWay(["a"], ["c"])
          network.disturb(other)
          network.settle(other)
        }
        caller.socket.end()
        yield* until(called.hasEnded)
        assert.strictEqual(text(called), sent)
      }).pipe(Effect.scoped)
  )

  it.effect("is late in both directions, however late that is to be, and no more when that is over", () =>
    Effect.gen(function* () {
      const { connected, network } = yield* twoParties
      // The last one is more than a timer takes.
      for (const delayMillis of [60_000, 86_400_000, 3_155_760_000_000]) {
        const { called, caller } = yield* connected
        const slow = slowBy({ delayMillis })
        network.disturb(slow)
        caller.socket.end("1")
        called.socket.write("2")
        yield* settled
        assert.strictEqual(text(called) + text(caller), "")
        assert.isFalse(called.hasEnded())
        network.settle(slow)
        yield* until(() => text(called) === "1" && called.hasEnded() && text(caller) === "2")
      }
    }).pipe(Effect.scoped)
  )

  it.effect("lets through in proportion to its rate, and no more when something else befalls it or is over", () =>
    Effect.gen(function* () {
      const { connected, network } = yield* twoParties
      const fast = yield* connected
      const slow = slowBy({ bytesPerSecond: 200_000 })
      network.disturb(slow)
      const bytes = bytesOf(400_000)
      const began = performance.now()
      fast.caller.socket.write(bytes)
      /** What may have come by now: the rate, and what goes at once. */
      const most = () => 200 * (performance.now() - began + 50)
      const never = () => assert.isAtMost(fast.called.heard().length, most())
      const other = Rules.oneWay(["a"], ["b"])
      for (const share of [0.05, 0.1, 0.15]) {
        yield* until(() => fast.called.heard().length >= share * bytes.length)
        never()
        network.disturb(other)
        yield* turns(5)
        network.settle(other)
        yield* turns(5)
        never()
      }
      network.settle(slow)
      yield* until(() => fast.called.heard().length === bytes.length)
      assert.isTrue(fast.called.heard().equals(bytes))
    }).pipe(Effect.scoped)
  )

  it.effect("of one byte in a second keeps no more in memory than others, and goes on at once when that is over", () =>
    Effect.gen(function* () {
      const { connected, network } = yield* twoParties
      const { called, caller } = yield* connected
      const slow = slowBy({ bytesPerSecond: 1 })
      network.disturb(slow)
      const bytes = bytesOf(900_000)
      caller.socket.write(bytes)
      yield* until(() => called.heard().length >= 1)
      network.settle(slow)
      yield* until(() => called.heard().length === bytes.length)
      assert.isTrue(called.heard().equals(bytes))
    }).pipe(Effect.scoped)
  )
})

describe("a way out", () => {
  const post = (host: string) => `POST http://${host}/raft HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 2\r\n\r\nhi`

  it.effect("passes a request on, of which it may get half at first, and asks for no second one", () =>
    Effect.gen(function* () {
      const { called: listening, wayOut } = yield* twoParties
      const caller = yield* dial(wayOut)
      const request = post("b.peer:0")
      caller.socket.write(request.slice(0, 20))
      yield* settled
      assert.lengthOf(listening.waiting, 0)
      caller.socket.write(request.slice(20))
      const called = yield* listening.next
      const expected = request.replace("\r\n", "\r\nConnection: close\r\n")
      yield* until(() => text(called) === expected)
      called.socket.end("HTTP/1.1 204 No Content\r\n\r\n")
      yield* until(caller.hasEnded)
      assert.strictEqual(text(caller), "HTTP/1.1 204 No Content\r\n\r\n")
    }).pipe(Effect.scoped)
  )

  it.effect("connects through, and what came with the head goes on", () =>
    Effect.gen(function* () {
      const { called: listening, network, wayOut } = yield* twoParties
      const caller = yield* dial(wayOut)
      caller.socket.write("CONNECT b.peer:0 HTTP/1.1\r\nHost: b.peer:0\r\n\r\n\0\x01TLS")
      const called = yield* listening.next
      yield* until(() => text(called) === "\0\x01TLS")
      called.socket.write("answer")
      yield* until(() => text(caller) === "HTTP/1.1 200 OK\r\n\r\nanswer")
      network.disturb(Rules.oneWay(["b"], ["a"]))
      called.socket.write("more")
      caller.socket.write("more")
      yield* until(() => text(called) === "\0\x01TLSmore")
      assert.strictEqual(text(caller), "HTTP/1.1 200 OK\r\n\r\nanswer")
    }).pipe(Effect.scoped)
  )

  it.effect("closes where it is not told whom to call, or somebody who is not there", () =>
    Effect.gen(function* () {
      const { called: listening, wayOut } = yield* twoParties
      const requests = [
        post("stranger:0"),
        post("gone.peer:0"),
        "CONNECT stranger:0 HTTP/1.1\r\n\r\n",
        "GET /raft HTTP/1.1\r\nHost: b.peer:0\r\n\r\n",
        "GET http://b.peer:0/ HTTP/1.0\r\n\r\n",
        "\r\n\r\n",
        "\x16\x03\x01\r\n\r\n",
        `GET http://b.peer:0/${"a".repeat(1024 * 1024)}`,
        "x".repeat(1024 * 1024)
      ]
      for (const request of requests) {
        const caller = yield* dial(wayOut)
        caller.socket.write(request)
        yield* until(caller.isGone)
        assert.notInclude(text(caller), "200", request.slice(0, 40))
      }
      const half = yield* dial(wayOut)
      half.socket.end(post("b.peer:0").slice(0, 20))
      yield* until(half.isClosed)
      assert.lengthOf(listening.waiting, 0)
    }).pipe(Effect.scoped)
  )
})

/** Says at which ports two workers of `node:cluster` have a way in. */
const workers = fileURLToPath(new URL("../../support/workers.ts", import.meta.url))

describe("networks of several workers", () => {
  it.live("have ports of their own", () =>
    Effect.gen(function* () {
      const said = yield* Effect.callback<string, Error>((resume) => {
        execFile(process.execPath, [workers], (error, stdout) =>
          resume(error === null ? Effect.succeed(stdout) : Effect.fail(error))
        )
      })
      const [one, other] = JSON.parse(said)
      assert.notStrictEqual(one, other)
    })
  )
})

describe("a network whose scope closes", () => {
  it.effect("leaves no socket, listener or timer, whatever was on", () =>
    Effect.gen(function* () {
      const counted = () => process.getActiveResourcesInfo().filter((name) => /Pipe|TCP/.test(name)).length
      const before = counted()
      const scope = yield* Scope.make()
      yield* Effect.gen(function* () {
        const { connected, network, wayOut } = yield* twoParties
        for (let round = 0; round < 10; round++) {
          const { called, caller } = yield* connected
          const rules = [slowBy({ bytesPerSecond: 10, delayMillis: 1000 }), Rules.oneWay(["a"], ["b"])]
          for (const rule of rules) network.disturb(rule)
          caller.socket.write("hello")
          called.socket.end("hello")
          yield* dial(wayOut)
          yield* turns(3)
          for (const rule of rules) network.settle(rule)
        }
      }).pipe(Scope.provide(scope))
      yield* Scope.close(scope, Exit.void)
      yield* until(() => counted() <= before)
    })
  )
})

describe("two conditions", () => {
  it("are as bad as the worse of them", () => {
    const { undisturbed, worse } = Flow
    assert.deepStrictEqual(worse(undisturbed, undisturbed), undisturbed)
    const one = { isCut: false, hangs: true, delayMillis: 1, jitterMillis: 2, bytesPerSecond: 3 }
    const other = { isCut: true, hangs: false, delayMillis: 10, jitterMillis: 20, bytesPerSecond: 30 }
    assert.deepStrictEqual(worse(one, other), {
      isCut: true,
      hangs: true,
      delayMillis: 11,
      jitterMillis: 22,
      bytesPerSecond: 3
    })
  })
})
