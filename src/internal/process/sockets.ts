/**
 * The Unix sockets and ports of a node: whether clients can reach them, and whether somebody else listens there.
 *
 * @internal
 */
import type * as net from "node:net"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Record from "effect/Record"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type * as EtcdConfig from "../../EtcdConfig.ts"
import * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Url from "../url.ts"

/**
 * How many bytes the path of a Unix socket may have: what `sun_path` holds, without the byte that ends it. (Facts:
 * `unix(7)` of Linux, `unix(4)` of macOS and the BSDs.)
 */
export const longestPath = globalThis.process.platform === "linux" ? 107 : 103

const loadNet = (): typeof net => globalThis.process.getBuiltinModule("node:net")

const bytesOf = (text: string): number => new TextEncoder().encode(text).length

/** The sockets of these URLs, as etcd names them: relative to its working directory, unless they start with a slash. */
export const namesIn = (urls: ReadonlyArray<string>): ReadonlyArray<string> =>
  urls.flatMap((text) => Result.getOrUndefined(Url.parse(text))?.socket ?? [])

const isAbsolute = (name: string): boolean => name.startsWith("/")

export const pathOf = (directory: string, name: string): string => (isAbsolute(name) ? name : `${directory}/${name}`)

/**
 * By how many bytes the path of the longest of these sockets would be too long, as far as the directory makes it so. (etcd
 * reaches what is relative by a shorter way, and would not notice.)
 */
export const excess = (directory: string, names: ReadonlyArray<string>): number =>
  Math.max(
    0,
    ...names.filter((name) => !isAbsolute(name)).map((name) => bytesOf(pathOf(directory, name)) - longestPath)
  )

/** Whether somebody takes a connection there. `otherwise`: whether it is so for all that, by the code of the error. */
export const takesConnections = (
  address: { readonly path: string } | { readonly host: string; readonly port: number },
  otherwise: (code: string | undefined) => boolean
): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const socket = loadNet().connect(address)
    const end = (answer: boolean) => {
      socket.destroy()
      resume(Effect.succeed(answer))
    }
    socket.once("connect", () => end(true))
    socket.once("error", ({ code }: NodeJS.ErrnoException) => end(otherwise(code)))
    return Effect.sync(() => socket.destroy())
  })

/** Whoever cannot be asked may be there. */
export const isListenedTo = (path: string): Effect.Effect<boolean> =>
  takesConnections({ path }, (code) => code !== "ECONNREFUSED" && code !== "ENOENT")

const inUse = (path: string): EtcdProcessError.EtcdProcessError =>
  EtcdProcessError.make(
    new EtcdProcessError.AddressInUse({
      message: `Something else already listens on the socket ${path}: stop it, or give etcd another \`runDirectory\` or another address`,
      address: `unix://${path}`,
      lastLines: [],
      exitCode: null,
      signal: null
    })
  )

/**
 * Removes what a killed etcd has left behind of sockets, over which 3.4 does not start. Fails where somebody listens, who
 * would never be reached again: etcd from 3.5 on removes a socket before it listens there, whoever has it.
 */
export const clear = (
  paths: ReadonlyArray<string>
): Effect.Effect<void, EtcdProcessError.EtcdProcessError, FileSystem.FileSystem> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    for (const path of paths) {
      const info = yield* Effect.option(fs.stat(path))
      if (info._tag === "None" || info.value.type !== "Socket") continue
      if (yield* isListenedTo(path)) return yield* Effect.fail(inUse(path))
      yield* Effect.ignore(fs.remove(path))
    }
  })

// A worker of `node:cluster` would otherwise share what another one has.
const exclusive = true

/** Keeps nobody alive. */
const listen = (path: string): Effect.Effect<net.Server, NodeJS.ErrnoException> =>
  Effect.callback((resume) => {
    const server = loadNet()
      .createServer((socket) => socket.destroy())
      .unref()
    server.on("error", (error) => resume(Effect.fail(error)))
    server.listen({ path, exclusive }, () => resume(Effect.succeed(server)))
    return Effect.sync(() => server.close())
  })

/** Nobody listens any more when it is closed: who starts the next node on the socket finds it free. */
const closed = (server: net.Server): Effect.Effect<void> =>
  Effect.callback((resume) => {
    server.close(() => resume(Effect.void))
  })

/** Puts a claim aside that was left behind, and back if it turns out that it was not. */
const takeOver = (path: string, claim: string) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    if (yield* isListenedTo(claim)) return yield* Effect.fail(inUse(path))
    const { randomBytes } = globalThis.process.getBuiltinModule("node:crypto")
    const aside = claim.replace(/[^/]*$/, `.${randomBytes(6).toString("base64url")}`)
    yield* Effect.ignore(fs.rename(claim, aside))
    if (yield* isListenedTo(aside)) {
      yield* Effect.ignore(fs.rename(aside, claim))
      return yield* Effect.fail(inUse(path))
    }
    yield* Effect.ignore(fs.remove(aside))
    return yield* Effect.mapError(listen(claim), () => inUse(path))
  })

/**
 * Keeps others of this library from these sockets until the scope closes. Two that start at the same moment find nobody
 * who listens; so each first listens on a socket beside (`.client.sock:0`), where one alone can, whatever its etcd does.
 */
export const claim = (
  paths: ReadonlyArray<string>
): Effect.Effect<void, EtcdProcessError.EtcdProcessError, FileSystem.FileSystem | Scope.Scope> =>
  Effect.forEach(
    paths,
    (path) => {
      const beside = path.replace(/[^/]*$/, ".$&")
      const claimed = Effect.catch(listen(beside), ({ code }) =>
        // Where nobody can listen etcd will say why.
        code === "EADDRINUSE" ? takeOver(path, beside) : Effect.undefined
      )
      return Effect.acquireRelease(claimed, (server) => (server === undefined ? Effect.void : closed(server)))
    },
    { discard: true }
  )

/** A port that nobody has just now; nothing where the host is none of this machine. */
export const freePort = (host: string): Effect.Effect<number | undefined> =>
  Effect.callback((resume) => {
    const server = loadNet().createServer()
    // etcd will say what is wrong with the address.
    server.once("error", () => resume(Effect.undefined))
    server.listen({ port: 0, host, exclusive }, () => {
      const { port } = server.address() as net.AddressInfo
      server.close(() => resume(Effect.succeed(port)))
    })
    return Effect.sync(() => server.close())
  })

/** The host of a URL with port 0. */
const hostWithoutPort = (text: string): string | undefined => {
  const url = Result.getOrUndefined(Url.parse(text))
  return url?.port === 0 && url.socket === undefined ? url.host : undefined
}

const freePorts = (urls: ReadonlyArray<string> = []): Effect.Effect<ReadonlyArray<number | undefined>> =>
  Effect.forEach(
    urls.map(hostWithoutPort).filter((host) => host !== undefined),
    freePort
  )

/** The first URL with port 0 gets the first port, and so on. */
const withPorts = (urls: ReadonlyArray<string>, ports: ReadonlyArray<number | undefined>): ReadonlyArray<string> => {
  let next = 0
  return urls.map((text) => {
    const port = hostWithoutPort(text) === undefined ? undefined : ports[next++]
    return port === undefined ? text : text.replace(/0+$/, String(port))
  })
}

/**
 * Chooses a free port for each URL with port 0 that is for others than members. Were etcd to choose, nobody would be told,
 * it would advertise port 0, and another one would be its choice whenever it is started again.
 */
export const choosePorts = (options: EtcdConfig.EtcdOptions): Effect.Effect<EtcdConfig.EtcdOptions> =>
  Effect.gen(function* () {
    const { listenClientHttpUrls, listenMetricsUrls } = options
    // Where only one of them is given etcd listens on what it advertises.
    const ofClients = yield* freePorts(options.listenClientUrls ?? options.advertiseClientUrls)
    const ports = {
      listenClientUrls: ofClients,
      advertiseClientUrls: ofClients,
      listenClientHttpUrls: yield* freePorts(listenClientHttpUrls),
      listenMetricsUrls: yield* freePorts(listenMetricsUrls)
    }
    const chosen = Record.map(ports, (found, name) => withPorts(options[name] ?? [], found))
    return { ...options, ...Record.filter(chosen, (_, name) => options[name] !== undefined) }
  })
