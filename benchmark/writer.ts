/**
 * A process that writes on demand, so that the one that measures only reads: `writer.ts ENDPOINT VALUE_BYTES`. Each line
 * on stdin, `prefix count eventsPerRevision`, is answered with `done` when so many keys have been written below the
 * prefix. It ends when stdin does.
 */
import { createInterface } from "node:readline"
import { Effect } from "effect"
import { EtcdLayer, EtcdTxn } from "effect-etcd"

const [endpoint = "", valueBytes = ""] = process.argv.slice(2)

const value = "v".repeat(Number(valueBytes))

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

const answer = async (line: string) => {
  const [prefix = "", count, perRevision] = line.split(" ")
  await Effect.runPromise(
    write(prefix, Number(count), Number(perRevision)).pipe(Effect.provide(EtcdLayer.connect({ endpoints: [endpoint] })))
  )
  console.log("done")
}

// Also in the middle of a line's work: who asked for it has ended then.
process.stdin.on("end", () => process.exit())

for await (const line of createInterface(process.stdin)) await answer(line)
