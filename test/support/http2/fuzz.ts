/**
 * Random and mutated frames, reproducible from a seed.
 */
import type { Random } from "../random.ts"
import * as Frames from "./frames.ts"

const randomBytes = (random: Random, max: number): Buffer => {
  const bytes = Buffer.alloc(random(max + 1))
  for (let index = 0; index < bytes.length; index++) bytes[index] = random(256)
  return bytes
}

const oneOf = <A>(random: Random, choices: ReadonlyArray<A>): A => choices[random(choices.length)]!

const statuses = ["0", "14", "99", "x", ""]
const contentTypes = ["application/grpc", "application/grpc+proto", "text/html", "application/json"]

/** What a server may well say of one stream, in an order that may make no sense. */
const streamFrame = (random: Random, stream: number): Buffer => {
  switch (random(6)) {
    case 0:
      return Frames.headers(stream, [
        [":status", oneOf(random, ["200", "200", "200", "502", "103", "abc"])],
        ["content-type", oneOf(random, contentTypes)]
      ])
    case 1:
      return Frames.data(stream, Frames.message(randomBytes(random, 40), random(8) === 0 ? random(256) : 0), random(2))
    case 2:
      return Frames.data(stream, randomBytes(random, 40))
    case 3:
      return Frames.headers(
        stream,
        [
          ["grpc-status", oneOf(random, statuses)],
          ["grpc-message", "%4"]
        ],
        0x4 | random(2)
      )
    case 4:
      return Frames.rstStream(stream, random(16))
    default:
      return Frames.answer(stream, randomBytes(random, 20))
  }
}

/** What may end the whole connection. */
const connectionFrame = (random: Random, stream: number): Buffer => {
  switch (random(6)) {
    case 0:
      return Frames.windowUpdate(random(2) * stream, random(0x7fffffff))
    case 1:
      return Frames.settings({ [1 + random(8)]: random(0xffffffff) })
    case 2:
      return Frames.ping(randomBytes(random, 8), random(2))
    case 3:
      return Frames.goaway(random(64), random(14), "fuzz")
    case 4:
      return Frames.frame(Frames.Type.continuation, random(256), stream, randomBytes(random, 20))
    default:
      return Frames.frame(random(256), random(256), stream, randomBytes(random, 60))
  }
}

const mutate = (random: Random, frame: Buffer): Buffer => {
  const mutated: Buffer = Buffer.from(frame)
  for (let count = 1 + random(3); count > 0; count--) mutated[random(mutated.length)] = random(256)
  return random(4) === 0 ? mutated.subarray(0, random(mutated.length)) : mutated
}

/**
 * Frames for some of the streams. Half of the batches hold frames of streams only, so that a connection lives through
 * many of them; the others hold frames of the connection, mutated frames and noise as well.
 */
export const fuzzedFrames = (random: Random, streams: ReadonlyArray<number>, count: number): ReadonlyArray<Buffer> => {
  const wild = random(2) === 0
  return Array.from({ length: count }, () => {
    const stream = wild && random(16) === 0 ? random(100) : oneOf(random, streams)
    switch (wild ? random(8) : 8) {
      case 0:
        return randomBytes(random, 60)
      case 1:
        return mutate(random, streamFrame(random, stream))
      case 2:
        return mutate(random, connectionFrame(random, stream))
      case 3:
        return connectionFrame(random, stream)
      default:
        return streamFrame(random, stream)
    }
  })
}
