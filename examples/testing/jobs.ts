/**
 * Jobs in etcd: any program enters them, and the one that leads does them.
 */
import { Effect, Schedule } from "effect"
import { EtcdKv, EtcdTxn, KeyRange } from "effect-etcd"
import { EtcdElection } from "effect-etcd/coordination"

const again = Schedule.spaced("100 millis")

/**
 * Enters a job. If this succeeds, the job was entered; if it fails, it certainly was not.
 *
 * A call whose `outcome` is unknown may have entered the job, or may still do so. No failure of a later call proves that it has
 * not, so the call is repeated until one succeeds. That does no harm: a job is entered only if there is none with its id, and
 * its key stays when it is done.
 */
export const enter = (id: string) => {
  const once = EtcdTxn.commit(
    EtcdTxn.make({ compare: [EtcdTxn.missing(`jobs/${id}`)], success: [EtcdTxn.put(`jobs/${id}`, "to do")] })
  )
  return Effect.catchIf(
    once,
    ({ outcome }) => outcome === "unknown",
    () => Effect.retry(once, again)
  )
}

/**
 * Does the jobs, one after another, whenever this program leads, and writes the result of each.
 *
 * That write is fenced, as everything is that is written within `whileElected`: it lands only while this leadership lasts. So
 * if it fails, for whatever reason, the worker resigns, and then the write can no longer land. The next leader reads again what
 * there is to do.
 */
export const worker = (name: string, work: (job: string) => Effect.Effect<string>) =>
  Effect.gen(function* () {
    const { kvs } = yield* EtcdKv.range(KeyRange.prefix("jobs/"))
    for (const { keyString } of kvs.filter(({ valueString }) => valueString === "to do")) {
      yield* EtcdKv.put(keyString, yield* work(keyString))
    }
  }).pipe(
    Effect.repeat(again),
    EtcdElection.whileElected(EtcdElection.make("worker"), name),
    Effect.tapError((error) => Effect.logWarning(error.message)),
    Effect.retry(again)
  )
