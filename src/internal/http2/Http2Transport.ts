/**
 * The gRPC transport over this library's own HTTP/2: made for many small calls at a time, which cost a fraction of what
 * they cost over `node:http2`.
 *
 * **Where things are.** `Http2Connection` is the connection of HTTP/2 and `Stream` one of its streams, over `frames`,
 * `settings`, `windows`, and HPACK (`HpackEncoder`, `HpackDecoder`); `Outbox` puts what is sent in one turn of the event
 * loop into few writes. `Http2GrpcConnection` is the connection as gRPC sees it and `Http2Call` a call; `hearOut` keeps
 * what a server said before it went. What does not depend on the HTTP/2 underneath is in `internal/grpc`.
 *
 * @internal
 */
import { type Dial, transportOf } from "../grpc/connect.ts"
import { resetName } from "../grpc/status.ts"
import { Http2Connection } from "./Http2Connection.ts"
import { Http2GrpcConnection } from "./Http2GrpcConnection.ts"

const startHttp2 = (dial: Dial): (() => void) => {
  const { fail, failAsOther, hear, ready, socket } = dial
  const http2 = new Http2Connection(socket, {
    onSettings: () => ready(() => new Http2GrpcConnection(dial, http2)),
    onGoaway: (_, code) => fail(`the server closed the connection at once (GOAWAY ${resetName(code)})`),
    onBroken: (what) => failAsOther(`it sent ${what}`),
    onRoom: () => {}
  })
  socket.once("data", hear)
  http2.start()
  return () => http2.close()
}

export const make = transportOf("http2", startHttp2)

export const http2Transport = make()
