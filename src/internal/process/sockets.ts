/**
 * The Unix sockets and ports of a node: whether clients can reach them, and whether somebody else listens there.
 *
 * @internal
 */
import * as net from "node:net"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Result from "effect/Result"
import type * as EtcdConfig from "../../EtcdConfig.ts"
import * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Url from "../url.ts"

/**
 * How many bytes the path of a Unix socket may have: what `sun_path` holds, without the byte that ends it. (Facts:
 * `unix(7)` of Linux, `unix(4)` of macOS and the BSDs.)
 */
export const longestPath = globalThis.process.platform === "linux" ? 107 : 103

const bytesOf = (text: string): number => new TextEncoder().encode(text).length

/** The names of sockets in the working directory of etcd. Those with a path of their own are somebody else's affair. */
export const namesIn = (urls: ReadonlyArray<string>): ReadonlyArray<string> =>
  urls.flatMap((text) => {
    const url = Result.getOrUndefined(Url.parse(text))
    return url?.socket === undefined || url.socket.includes("/") ? [] : [url.socket]
  })

/** By how many bytes the path of the longest of these sockets would be too long. */
export const excess = (directory: string, names: ReadonlyArray<string>): number =>
  Math.max(0, ...names.map((name) => bytesOf(`${directory}/${name}`) - longestPath))

const isListenedTo = (path: string): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const socket = net.connect({ path })
    const end = (answer: boolean) => {
      socket.destroy()
      resume(Effect.succeed(answer))
    }
    socket.once("connect", () => end(true))
    // Whoever cannot be asked may be there.
    socket.once("error", (error: NodeJS.ErrnoException) => end(error.code !== "ECONNREFUSED"))
    return Effect.sync(() => socket.destroy())
  })

const inUse = (name: string, directory: string): EtcdProcessError.EtcdProcessError =>
  EtcdProcessError.make(
    new EtcdProcessError.AddressInUse({
      message: `Something else already listens on the socket ${name} in ${directory}: stop it, or give etcd another \`runDirectory\` or another address`,
      address: `unix://${name}`,
      lastLines: [],
      exitCode: null,
      signal: null
    })
  )

/**
 * Removes what a killed etcd has left behind of sockets, over which 3.4 does not start. Fails where somebody listens, who
 * would never be reached again.
 */
export const clear = (
  directory: string,
  names: ReadonlyArray<string>
): Effect.Effect<void, EtcdProcessError.EtcdProcessError, FileSystem.FileSystem> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    for (const name of names) {
      const path = `${directory}/${name}`
      const info = yield* Effect.option(fs.stat(path))
      if (info._tag === "None" || info.value.type !== "Socket") continue
      if (yield* isListenedTo(path)) return yield* Effect.fail(inUse(name, directory))
      yield* Effect.ignore(fs.remove(path))
    }
  })

const freePort = (host: string): Effect.Effect<number | undefined> =>
  Effect.callback((resume) => {
    const server = net.createServer()
    // etcd will say what is wrong with the address.
    server.once("error", () => resume(Effect.undefined))
    server.listen(0, host, () => {
      const { port } = server.address() as net.AddressInfo
      server.close(() => resume(Effect.succeed(port)))
    })
    return Effect.sync(() => server.close())
  })

const withPort = (text: string, port: number | undefined): string => {
  const url = Result.getOrUndefined(Url.parse(text))
  return url?.port !== 0 || url.socket !== undefined || port === undefined ? text : text.replace(/0+$/, String(port))
}

/**
 * Chooses a free port for each client URL with port 0. Were etcd to choose, it would advertise port 0, and another one
 * would be its choice whenever it is started again.
 */
export const choosePorts = (options: EtcdConfig.EtcdOptions): Effect.Effect<EtcdConfig.EtcdOptions> =>
  Effect.gen(function* () {
    const { advertiseClientUrls, listenClientUrls = [] } = options
    const ports: Array<number | undefined> = []
    for (const text of listenClientUrls) {
      const url = Result.getOrUndefined(Url.parse(text))
      ports.push(url?.port === 0 && url.socket === undefined ? yield* freePort(url.host) : undefined)
    }
    if (ports.every((port) => port === undefined)) return options
    const chosen = (urls: ReadonlyArray<string>) => urls.map((text, index) => withPort(text, ports[index]))
    return {
      ...options,
      listenClientUrls: chosen(listenClientUrls),
      ...(advertiseClientUrls === undefined ? {} : { advertiseClientUrls: chosen(advertiseClientUrls) })
    }
  })
