/**
 * A process that writes on demand, so that the one that measures only reads. Each line on stdin, `prefix count
 * eventsPerRevision`, is answered with `done` when so many keys of 64 bytes have been written below the prefix.
 */
import { createInterface } from "node:readline"
import { Effect } from "effect"
import { EtcdLayer, EtcdTxn } from "effect-etcd"

const value = "v".repeat(64)

const write = (prefix: string, count: number, perRevision: number) =>
  Effect.forEach(
    Array.from({ length: count / perRevision }, (_, index) => index),
    (revision) =>
      EtcdTxn.commit(
        EtcdTxn.all(
          Array.from({ length: perRevision }, (_, index) =>
            EtcdTxn.put(`${prefix}${String(revision * perRevision + index).padStart(8, "0")}`, value)
          )
        )
      ),
    { concurrency: 16, discard: true }
  )

const program = Effect.promise(async () => {
  for await (const line of createInterface(process.stdin)) {
    const [prefix = "", count, perRevision] = line.split(" ")
    await Effect.runPromise(
      write(prefix, Number(count), Number(perRevision)).pipe(
        Effect.provide(EtcdLayer.connect({ endpoints: [process.argv[2] ?? ""] }))
      )
    )
    console.log("done")
  }
})

await Effect.runPromise(program)
