/**
 * Lets be read what has come over a socket when writing to it fails. A server that has gone may have answered before, and
 * those answers lie in the socket, which `node:net` throws away with the first write that fails.
 *
 * @internal
 */
import type * as net from "node:net"

const isOfWriting = (error: NodeJS.ErrnoException | undefined): boolean => error?.syscall === "write"

/** `onBroken`: nothing goes out any more; the socket closes with the same error when what has come is read. */
export const hearOut = (socket: net.Socket, onBroken: (error: Error) => void): void => {
  const destroy = socket.destroy.bind(socket)
  const push = socket.push.bind(socket)
  let isBroken = false
  socket.destroy = (error) => {
    if (error === undefined || isBroken || !isOfWriting(error)) return destroy(error)
    isBroken = true
    onBroken(error)
    // The first may come before the sockets are read once more.
    setImmediate(() => setImmediate(() => destroy(error)))
    return socket
  }
  // A stream that has failed emits no more data.
  socket.push = (chunk, encoding) => (isBroken && chunk !== null ? socket.emit("data", chunk) : push(chunk, encoding))
}
