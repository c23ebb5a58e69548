/**
 * A call with one request and one message for an answer: what nearly every call of etcd is, and so the path that does
 * the least.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { Code } from "../grpc/status.ts"
import { type CallOptions, type Connection, TransportError } from "../grpc/Transport.ts"
import type { Call, Observer } from "./Call.ts"
import type { Channel } from "./Channel.ts"
import type { Stream } from "./Stream.ts"

type Resume = (effect: Effect.Effect<Uint8Array, TransportError>) => void

class UnaryCall implements Observer {
  readonly call: Call
  private readonly channel: Channel
  private readonly path: string
  private readonly request: Uint8Array
  private readonly resume: Resume
  private answer: Uint8Array | undefined

  constructor(channel: Channel, path: string, request: Uint8Array, options: CallOptions | undefined, resume: Resume) {
    this.channel = channel
    this.path = path
    this.request = request
    this.resume = resume
    this.call = channel.begin(path, options, this)
  }

  onStart(stream: Stream): void {
    stream.write(this.request, true)
  }

  onMessage(message: Uint8Array): void {
    if (this.answer === undefined) this.answer = message
    else this.call.end(this.wrongCount(Code.unimplemented, "sent more than one message"))
  }

  onEnd(error: TransportError | undefined): void {
    if (error !== undefined) this.resume(Exit.fail(error))
    else if (this.answer !== undefined) this.resume(Exit.succeed(this.answer))
    else this.resume(Exit.fail(this.wrongCount(Code.internal, "answered OK with no message")))
  }

  onWritable(): void {}

  private wrongCount(code: number, what: string): TransportError {
    return new TransportError({
      kind: "Protocol",
      code,
      message: `${this.path} to ${this.channel.peer}: the server ${what}, and one was due`,
      processed: "unknown"
    })
  }
}

export const unary =
  (channel: Channel): Connection["unary"] =>
  (path, request, options) =>
    Effect.callback((resume) => {
      const { call } = new UnaryCall(channel, path, request, options, resume)
      return Effect.sync(() => call.cancel())
    })
