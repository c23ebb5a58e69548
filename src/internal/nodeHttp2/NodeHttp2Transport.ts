/**
 * The gRPC transport over `node:http2`: the one that is short and obviously right, and the reference for any other.
 *
 * **Windows.** `node:http2` gives the window of the connection back as soon as data is read from the socket, so a slow
 * stream never holds up the others.
 *
 * **Limits of `node:http2` that are lifted.** `maxSessionMemory` (10 MB by default) counts what is queued to be sent and
 * would reject large requests; memory is bounded here by flow control and by `maxReceiveMessageBytes`. Request headers may
 * have 1 MiB instead of 64 KiB, because a request that is over that limit costs the whole connection.
 *
 * **What `node:http2` cannot do.** A GOAWAY with an error code ends the calls that are outstanding, though the server
 * might still have answered them. An answer that breaks the rules of HTTP/2 looks like a stream that was reset, and what
 * a server said that does not speak it cannot be told. And after some violations of the protocol it stops to read and
 * tells nobody (Node.js 22 more often than 24); then it is the keep-alive that ends the calls. And where the server takes
 * a large request as fast as it comes, all of it is handed to the socket at once, and calls that begin beside it wait until
 * it has gone.
 *
 * @internal
 */
import { type Dial, transportOf } from "../grpc/connect.ts"
import { connectionWindowBytes, streamWindowBytes } from "../grpc/flow.ts"
import { largestHeaderList } from "../grpc/metadata.ts"
import { NodeGrpcConnection } from "./NodeGrpcConnection.ts"

const sessionOptions = {
  settings: { enablePush: false, initialWindowSize: streamWindowBytes },
  maxSessionMemory: 1_000_000,
  peerMaxConcurrentStreams: 0x7fffffff,
  maxReservedRemoteStreams: 0,
  maxSendHeaderBlockLength: largestHeaderList
}

const startHttp2 = (dial: Dial): (() => void) => {
  const { fail, failWith, ready, socket } = dial
  // Loaded when it is needed, since it is not the transport that is used by default.
  const http2 = globalThis.process.getBuiltinModule("node:http2")
  const session = http2.connect("http://localhost", { ...sessionOptions, createConnection: () => socket })
  session.on("error", failWith)
  session.once("connect", () => session.setLocalWindowSize(connectionWindowBytes))
  session.once("goaway", (code) => fail(`the server closed the connection at once (GOAWAY, error code ${code})`))
  session.once("remoteSettings", () => ready(() => new NodeGrpcConnection(dial, session)))
  return () => session.destroy()
}

export const make = transportOf("node:http2", startHttp2)

export const nodeHttp2Transport = make()
