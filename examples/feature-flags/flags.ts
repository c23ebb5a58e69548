/**
 * Feature flags: what a flag is, which ones there are, and how a program asks for them.
 */
import { createHash } from "node:crypto"
import {
  Context,
  DateTime,
  Deferred,
  type Duration,
  Effect,
  Layer,
  Option,
  Result,
  Schedule,
  Schema,
  Stream,
  SubscriptionRef
} from "effect"
import { EtcdStore } from "effect-etcd"
import { EtcdMirror, EtcdStm } from "effect-etcd/coordination"

/** A flag as it is in etcd: `{"enabled":true,"rollout":25}`. */
export const Flag = Schema.Struct({
  enabled: Schema.Boolean,
  /** The percentage of users that it is on for. Without it: all of them. */
  rollout: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 100 })))
})
export type Flag = typeof Flag.Type

/** The flags of this program, and their values unless etcd has others. */
export const defaults = {
  "dark-mode": { enabled: true },
  "new-checkout": { enabled: false }
} satisfies Record<string, Flag>
export type Name = keyof typeof defaults

export const store = EtcdStore.make("flags/", Flag)

/** The place of a user between 0 and 99: always the same for one flag, and different for another flag. */
export const bucket = (name: string, user: string) =>
  createHash("sha256").update(`${name}/${user}`).digest().readUInt32BE() % 100

/** What a program knows of the flags, and up to which revision of etcd. 0: etcd has not answered yet. */
export interface Known {
  readonly revision: bigint
  readonly flags: ReadonlyMap<string, Flag>
}

export const isOn = ({ flags }: Known, name: Name, user: string) => {
  const { enabled, rollout = 100 }: Flag = flags.get(name) ?? defaults[name]
  return enabled && bucket(name, user) < rollout
}

export class Flags extends Context.Service<
  Flags,
  {
    /** Makes no call, and never fails. */
    readonly isOn: (name: Name, user: string) => Effect.Effect<boolean>
    /** What is known now, and whenever it changes. Get it once per request, so that the whole answer agrees. */
    readonly known: SubscriptionRef.SubscriptionRef<Known>
    /** How long ago this was last known to be what etcd has. `None`: etcd has not answered yet. */
    readonly age: Effect.Effect<Option.Option<Duration.Duration>>
  }
>()("app/Flags") {
  /** Ready within two seconds, with the defaults if etcd has not answered by then. */
  static readonly layer = Layer.effect(
    Flags,
    Effect.gen(function* () {
      const known = yield* SubscriptionRef.make<Known>({ revision: 0n, flags: new Map() })
      const heard = yield* Deferred.make<void>()
      let mirror: Option.Option<EtcdMirror.Mirror<EtcdMirror.Decoded<Flag>>> = Option.none()

      /** A value that does not fit the schema is logged, and the flag stays as it was. */
      const take = (flags: Map<string, Flag>, name: string, decoded: EtcdMirror.Decoded<Flag>) =>
        Result.isSuccess(decoded)
          ? Effect.sync(() => flags.set(name, decoded.success.value))
          : Effect.logWarning(decoded.failure.message)

      const follow = Effect.gen(function* () {
        const live = yield* EtcdMirror.make(store)
        mirror = Option.some(live)
        yield* Stream.runForEach(live.changes, (change) =>
          Effect.gen(function* () {
            const before = yield* SubscriptionRef.get(known)
            const flags = new Map(before.flags)
            if (change._tag === "Snapshot") {
              for (const name of before.flags.keys()) if (Option.isNone(change.view.get(name))) flags.delete(name)
              for (const [name, decoded] of change.view) yield* take(flags, name, decoded)
            } else {
              for (const event of change.events) {
                if (event._tag === "Put") yield* take(flags, event.key, event.value)
                else flags.delete(event.key)
              }
            }
            const { revision } = change._tag === "Snapshot" ? change.view : change
            yield* SubscriptionRef.set(known, { revision, flags })
            yield* Deferred.succeed(heard, undefined)
          })
        )
      }).pipe(Effect.scoped)

      // A mirror fails only for a reason that time does not cure, such as a missing permission. Somebody may grant it.
      yield* follow.pipe(
        Effect.tapError((error) => Effect.logError("the flags stay as they are:", error.message)),
        Effect.retry(Schedule.spaced("10 seconds")),
        Effect.forkScoped
      )
      yield* Effect.timeoutOption(Deferred.await(heard), "2 seconds")

      return Flags.of({
        isOn: (name, user) => Effect.map(SubscriptionRef.get(known), (now) => isOn(now, name, user)),
        known,
        age: Effect.suspend(() =>
          Option.match(mirror, {
            onNone: () => Effect.succeedNone,
            onSome: ({ lag }) => Effect.map(lag, ({ age }) => Option.some(age))
          })
        )
      })
    })
  )
}

/** Who changed a flag, and to what. */
export const Change = Schema.Struct({ by: Schema.String, why: Schema.String, flag: Flag })

export const changes = EtcdStore.make("flag-changes/", Change)

const flagFromJson = Schema.fromJsonString(Flag)
const changeFromJson = Schema.fromJsonString(Change)

/**
 * Changes a flag, with a note of who did it and why: both or neither, at one revision, which is the result. `f` is given
 * what the flag is now, and is called again if somebody else has changed it meanwhile.
 */
export const change = (name: Name, by: string, why: string, f: (now: Flag) => Flag) =>
  Effect.gen(function* () {
    const now = yield* EtcdStm.getString(`flags/${name}`)
    const flag = f(Option.getOrElse(Option.flatMap(now, Schema.decodeOption(flagFromJson)), () => defaults[name]))
    yield* EtcdStm.put(`flags/${name}`, yield* Schema.encodeEffect(flagFromJson)(flag))
    const at = DateTime.formatIso(yield* DateTime.now)
    yield* EtcdStm.put(`flag-changes/${name}/${at}`, yield* Schema.encodeEffect(changeFromJson)({ by, why, flag }))
  }).pipe(
    EtcdStm.txWithRevision,
    Effect.map(({ revision }) => revision)
  )
