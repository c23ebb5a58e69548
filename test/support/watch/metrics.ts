/**
 * How many watches a server has, by its own count.
 */
import * as http from "node:http"
import * as Effect from "effect/Effect"
import type { Node } from "../../../src/EtcdProcess.ts"

const address = (endpoint: string): http.RequestOptions => {
  const socket = /^unix:\/\/(.*)$/.exec(endpoint)?.[1]
  if (socket !== undefined) return { socketPath: socket }
  const { hostname, port } = new URL(endpoint)
  return { host: hostname, port }
}

const metrics = (endpoint: string): Effect.Effect<string> =>
  Effect.callback((resume) => {
    http.get({ ...address(endpoint), path: "/metrics" }, (response) => {
      let text = ""
      response.setEncoding("utf8")
      response.on("data", (chunk) => {
        text += chunk
      })
      response.on("end", () => resume(Effect.succeed(text)))
    })
  })

const gauge = (name: string) => (node: Node) =>
  Effect.map(metrics(node.endpoints[0]), (text) => Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1]))

export const watchers: (node: Node) => Effect.Effect<number> = gauge("etcd_debugging_mvcc_watcher_total")
export const calls: (node: Node) => Effect.Effect<number> = gauge("etcd_debugging_mvcc_watch_stream_total")
