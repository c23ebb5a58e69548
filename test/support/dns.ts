/**
 * A name server on this machine, which knows what a test tells it of services, and nothing else.
 */
import { createSocket } from "node:dgram"
import { getServers, setServers } from "node:dns"
import { type AddressInfo, createServer } from "node:net"
import * as Effect from "effect/Effect"

export const codes = { noError: 0, serverFailure: 2, noSuchName: 3 } as const

/** What is known of a name. */
export interface Known {
  readonly code?: number
  readonly records?: ReadonlyArray<{ readonly priority: number; readonly port: number; readonly target: string }>
  /** Whether they are told over TCP only. */
  readonly isLong?: boolean
}

const typeOfServices = 33
const classOfInternet = 1

const headBytes = 12

const encode = (name: string): Buffer =>
  Buffer.concat([...name.split("."), ""].map((label) => Buffer.from([label.length, ...Buffer.from(label)])))

/** The name that is asked for, and where the question ends. */
const questionOf = (query: Buffer): { readonly name: string; readonly end: number } => {
  const labels: Array<string> = []
  let at = headBytes
  for (let length = query[at]!; length > 0; length = query[at]!) {
    labels.push(query.toString("latin1", at + 1, at + 1 + length))
    at += 1 + length
  }
  return { name: labels.join("."), end: at + 5 }
}

const numbers = (...values: ReadonlyArray<number>): Buffer =>
  Buffer.concat(values.map((value) => Buffer.from([value >> 8, value & 0xff])))

const reply = (known: (name: string) => Known, query: Buffer, isTcp: boolean): Buffer => {
  const { end, name } = questionOf(query)
  const { code = codes.noError, isLong = false, records = [] } = known(name)
  const isCut = isLong && !isTcp
  const told = isCut ? [] : records
  return Buffer.concat([
    query.subarray(0, 2),
    numbers(0x8180 | (isCut ? 0x0200 : 0) | code, 1, told.length, 0, 0),
    query.subarray(headBytes, end),
    ...told.flatMap(({ port, priority, target }) => {
      const encoded = encode(target)
      // The name is that of the question. It counts for a minute.
      const head = numbers(0xc000 | headBytes, typeOfServices, classOfInternet, 0, 60, 6 + encoded.length)
      return [head, numbers(priority, 0, port), encoded]
    })
  ])
}

/** Until the scope closes, this process asks nobody else. */
export const nameServer = (known: (name: string) => Known) =>
  Effect.acquireRelease(
    Effect.callback<() => void>((resume) => {
      const udp = createSocket("udp4", (query, from) => udp.send(reply(known, query, false), from.port, from.address))
      const tcp = createServer((socket) =>
        socket.once("data", (query) => {
          const answer = reply(known, query.subarray(2), true)
          socket.end(Buffer.concat([numbers(answer.length), answer]))
        })
      )
      const before = getServers()
      tcp.listen(0, "127.0.0.1", () => {
        const { port } = tcp.address() as AddressInfo
        udp.bind(port, "127.0.0.1", () => {
          setServers([`127.0.0.1:${port}`])
          resume(
            Effect.succeed(() => {
              setServers(before)
              udp.close()
              tcp.close()
            })
          )
        })
      })
    }),
    (close) => Effect.sync(close)
  )
