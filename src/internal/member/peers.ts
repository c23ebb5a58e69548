/**
 * Where the others are said to be: a list that stays, DNS, or what the program says each time.
 *
 * @internal
 */
import type * as dns from "node:dns/promises"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Peers } from "../../EtcdMember.ts"
import { shorten } from "../grpc/status.ts"
import { show } from "../options.ts"
import * as Tracing from "../tracing.ts"
import { type Settings, unprotected, unreachable, unreachableMessage, urlList } from "./settings.ts"

/** What is known now, or why nothing is. */
export type Source = Effect.Effect<Result.Result<ReadonlyArray<string>, string>>

const loadDns = (): typeof dns => globalThis.process.getBuiltinModule("node:dns/promises")

/** There are no such records, as opposed to nobody who could be asked. */
const isNone = (cause: unknown): boolean =>
  typeof cause === "object" && cause !== null && "code" in cause && /^(ENOTFOUND|ENODATA)$/.test(String(cause.code))

const whyOf = (cause: unknown): string => shorten(cause instanceof Error ? cause.message : String(cause), 200)

/**
 * By etcd's rules for `--discovery-srv` (`GetDNSClusterNames` in `server/embed/config.go`): both services are looked for, and
 * what is found of one counts where the other cannot be asked for.
 */
const fromDns = ({ service, srv }: { readonly srv: string; readonly service?: string | undefined }): Source =>
  Effect.gen(function* () {
    const suffix = service === undefined ? "" : `-${service}`
    const [found, failures] = yield* Effect.partition(
      [
        ["https", `_etcd-server-ssl${suffix}._tcp.${srv}`],
        ["http", `_etcd-server${suffix}._tcp.${srv}`]
      ] as const,
      ([scheme, name]) =>
        Effect.tryPromise({ try: () => loadDns().resolveSrv(name), catch: (cause) => cause }).pipe(
          Effect.map((records) => records.map(({ name, port }) => `${scheme}://${name.replace(/\.$/, "")}:${port}`)),
          Effect.catch((cause) => (isNone(cause) ? Effect.succeed([]) : Effect.fail(`${name}: ${whyOf(cause)}`)))
        ),
      { concurrency: 2 }
    )
    const urls = found.flat().sort()
    return urls.length === 0 && failures.length > 0 ? Result.fail(failures.join("; ")) : Result.succeed(urls)
  })

const isSrv = (peers: Peers): peers is { readonly srv: string; readonly service?: string | undefined } =>
  typeof peers === "object" && "srv" in peers

const told = Effect.catchCause((cause: Cause.Cause<unknown>) =>
  Effect.succeed(Result.fail(`the program's peers failed: ${whyOf(Cause.squash(cause))}`))
)

/** How long the program may take each time. One question whose answer is lost is not to keep an instance for ever. */
const patience = "30 seconds"

const sourceOf = (peers: Peers): Effect.Effect<Source, never, Scope.Scope> => {
  if (Stream.isStream(peers)) {
    return Effect.gen(function* () {
      let latest: Result.Result<ReadonlyArray<string>, string> = Result.fail(
        "the program's peers have told nothing yet"
      )
      const follow = Stream.runForEach(peers, (urls) =>
        Effect.sync(() => {
          latest = Result.succeed(urls)
        })
      ).pipe(Effect.as(latest), told, Tracing.onItsOwn)
      yield* Effect.forkScoped(
        Effect.tap(follow, (end) =>
          Effect.sync(() => {
            // What was told before goes on to be so.
            if (Result.isFailure(end) && Result.isFailure(latest)) latest = end
          })
        )
      )
      return Effect.sync(() => latest)
    })
  }
  if (Effect.isEffect(peers)) {
    return Effect.succeed(
      told(Effect.map(peers, (urls) => Result.succeed(urls))).pipe(
        Effect.timeoutOption(patience),
        Effect.map(Option.getOrElse(() => Result.fail(`the program's peers have not told anything for ${patience}`)))
      )
    )
  }
  return Effect.succeed(isSrv(peers) ? fromDns(peers) : Effect.succeed(Result.succeed(peers)))
}

/** What an effect, a stream or DNS says is looked at as options are. */
const checked =
  (settings: Settings) =>
  (urls: ReadonlyArray<string>): Result.Result<ReadonlyArray<string>, string> => {
    if (!urlList.accepts(urls)) return Result.fail(`the peers have to be ${urlList.due}, and not ${show(urls)}`)
    const lost = unreachable(urls)
    if (lost.length > 0) return Result.fail(unreachableMessage(lost))
    const exposed = unprotected(settings, urls)
    return exposed.length === 0
      ? Result.succeed(urls)
      : Result.fail(`nothing protects what is said over ${exposed.join(", ")} (see the option allowInsecurePeers)`)
  }

export const make = (settings: Settings): Effect.Effect<Source, never, Scope.Scope> =>
  Effect.map(sourceOf(settings.peers), (source) => Effect.map(source, Result.flatMap(checked(settings))))
