/**
 * Jobs in etcd: any program enters them, and the one that leads does them.
 */
import { Effect, Schedule } from "effect"
import { EtcdKv, EtcdTxn, KeyRange } from "effect-etcd"
import { EtcdElection } from "effect-etcd/coordination"

const again = Schedule.spaced("100 millis")

/**
 * Enters a job. It is there when this has succeeded, and surely not where this fails.
 *
 * A call whose `outcome` is unknown may have entered it, or may do so yet. Nothing that a later call fails with says that it has
 * not; so it is made until one succeeds. That does no harm: a job is entered only where there is none of its id, and its key
 * stays when it is done.
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
 * Does the jobs, one after another, whenever this program leads, and writes what each comes to.
 *
 * That write is fenced, as all that is written within `whileElected` is: it lands only while this leadership lasts. So where it
 * fails, whatever has become of it, the worker resigns, and it cannot land any more. Whoever leads next reads anew what there
 * is to do.
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
