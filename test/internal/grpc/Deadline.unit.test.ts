/** Deadlines and keep-alives that are longer than a timer can wait. */
import { afterEach, assert, beforeEach, describe, it, vi } from "@effect/vitest"
import { Deadline } from "../../../src/internal/grpc/Deadline.ts"
import { KeepAlive } from "../../../src/internal/grpc/KeepAlive.ts"
import { longestTimer } from "../../../src/internal/time.ts"

describe("times that no timer can wait for", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "setInterval", "setImmediate", "performance"] }))
  afterEach(() => void vi.useRealTimers())

  it("a deadline comes when it is due, and not before", () => {
    const ends: Array<number> = []
    const millis = longestTimer * 2 + 1000
    new Deadline({ expire: (millis) => void ends.push(millis) }, millis)
    vi.advanceTimersByTime(millis - 10)
    assert.deepStrictEqual(ends, [])
    vi.advanceTimersByTime(11)
    assert.deepStrictEqual(ends, [millis])
  })

  it("a deadline that is stopped when it is just due does not come", () => {
    const ends: Array<number> = []
    const deadline = new Deadline({ expire: (millis) => void ends.push(millis) }, 5)
    setTimeout(() => deadline.stop(), 5)
    vi.advanceTimersByTime(10)
    assert.deepStrictEqual(ends, [])
  })

  it("a keep-alive of months does not look all the time", () => {
    let looks = 0
    const options = {
      connectTimeoutMillis: 1000,
      keepAliveIntervalMillis: longestTimer * 10,
      keepAliveTimeoutMillis: 1000,
      maxReceiveMessageBytes: 1000
    }
    const peer = { bytesHeard: () => looks++, probe: () => {}, onSilence: () => {} }
    const keepAlive = new KeepAlive(options, peer)
    vi.advanceTimersByTime(60_000)
    keepAlive.stop()
    assert.strictEqual(looks, 0)
  })

  it("a keep-alive that was stopped, or is never to be done, asks nothing", () => {
    const probesOf = (keepAliveIntervalMillis: number) => {
      let probes = 0
      const options = {
        connectTimeoutMillis: 1000,
        keepAliveIntervalMillis,
        keepAliveTimeoutMillis: 1000,
        maxReceiveMessageBytes: 1000
      }
      const keepAlive = new KeepAlive(options, { bytesHeard: () => 0, probe: () => probes++, onSilence: () => {} })
      keepAlive.ask()
      keepAlive.stop()
      keepAlive.ask()
      return probes
    }
    assert.strictEqual(probesOf(60_000), 1)
    assert.strictEqual(probesOf(0), 0)
  })
})
