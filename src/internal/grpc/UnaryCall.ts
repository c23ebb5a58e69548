/**
 * A call with one request and one message for an answer: what nearly every call of etcd is, and so the path that does
 * the least.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { CallListener } from "./CallListener.ts"
import { protocolError } from "./errors.ts"
import { readBytes } from "./framing.ts"
import type { GrpcCall } from "./GrpcCall.ts"
import type { GrpcConnection } from "./GrpcConnection.ts"
import { Code } from "./status.ts"
import type { CallOptions, Connection, Read, TransportError } from "./Transport.ts"

class UnaryCall<A> implements CallListener {
  readonly call: GrpcCall
  private readonly read: Read<A>
  private readonly resume: (exit: Exit.Exit<A, TransportError>) => void
  private answer: Exit.Exit<A, TransportError> | undefined

  constructor(
    connection: GrpcConnection,
    path: string,
    request: Uint8Array,
    options: CallOptions | undefined,
    read: Read<A>,
    resume: (exit: Exit.Exit<A, TransportError>) => void
  ) {
    this.read = read
    this.resume = resume
    this.call = connection.begin(path, options, request, this)
    if (options?.holder !== undefined) options.holder.begun = this.call
  }

  onStart(): void {}

  onMessage(bytes: Uint8Array, start: number, end: number): void {
    if (this.answer === undefined) this.answer = this.read(bytes, start, end)
    else this.call.end(this.wrongCount(Code.unimplemented, "sent more than one message"))
  }

  onEnd(error: TransportError | undefined): void {
    if (error !== undefined) this.resume(Exit.fail(error))
    else if (this.answer !== undefined) this.resume(this.answer)
    else this.resume(Exit.fail(this.wrongCount(Code.internal, "answered OK with no message")))
  }

  onWritable(): void {}

  private wrongCount(code: number, what: string): TransportError {
    return protocolError(this.call.name, code, `the server ${what}, and one was due`)
  }
}

export const unary =
  (connection: GrpcConnection): Connection["unary"] =>
  <A>(path: string, request: Uint8Array, options?: CallOptions | undefined, read: Read<A> = readBytes as Read<any>) =>
    Effect.callback<A, TransportError>((resume) => {
      const { call } = new UnaryCall(connection, path, request, options, read, resume)
      return Effect.sync(() => call.cancel())
    })
