/**
 * Checks what a program asks of a watch. All the checks are here.
 *
 * @internal
 */
import * as Result from "effect/Result"
import type * as EtcdError from "../../EtcdError.ts"
import type { ChangesOptions, WatchOptions } from "../../EtcdWatch.ts"
import * as KeyRange from "../../KeyRange.ts"
import * as Options from "../options.ts"
import { WatchCreateRequest_FilterType as Filter } from "../proto/rpc_pb.ts"
import type { Request } from "./subscription.ts"

const defaultBufferBytes = 4 * 1024 * 1024

const { endpoint, metadata, requireLeader } = Options.ofCall

export const ofWatch: Options.Checks<WatchOptions> = {
  startRevision: { ...Options.revision, due: `${Options.revision.due} (0n: from now on)` },
  previousValues: Options.flag,
  ignore: Options.oneOf("puts", "deletes"),
  fragment: Options.flag,
  bufferSize: Options.size,
  retry: Options.schedule,
  endpoint,
  metadata,
  requireLeader
}

export const ofChanges: Options.Checks<ChangesOptions> = {
  ...ofWatch,
  progress: Options.flag,
  created: Options.flag,
  snapshot: Options.oneOf("never", "when-compacted", "first")
}

const filters = ({ ignore }: ChangesOptions): ReadonlyArray<Filter> => {
  if (ignore === "puts") return [Filter.NOPUT]
  return ignore === "deletes" ? [Filter.NODELETE] : []
}

/** The watch that is asked for, or what would be right. */
export const request = (
  who: string,
  checks: Options.Checks<ChangesOptions> | Options.Checks<WatchOptions>,
  input: KeyRange.Input,
  given: ChangesOptions | undefined,
  retry: Request["streamOptions"]["retry"]
): Result.Result<Request, EtcdError.EtcdError> => {
  const problem =
    Options.problemOfArgument(who, "the range", Options.rangeOfKeys, input) ??
    Options.problemOf<ChangesOptions | WatchOptions>(who, checks, given)
  if (problem !== undefined) return Result.fail(Options.invalid(problem))
  const options = given ?? {}
  return Result.succeed({
    range: KeyRange.fromInput(input),
    startRevision: options.startRevision ?? 0n,
    previousValues: options.previousValues ?? false,
    filters: filters(options),
    fragment: options.fragment ?? false,
    progress: options.progress ?? false,
    created: options.created ?? false,
    snapshot: options.snapshot ?? "never",
    bufferBytes: Options.bytesOf(options.bufferSize) ?? defaultBufferBytes,
    streamOptions: {
      endpoint: options.endpoint,
      metadata: options.metadata,
      requireLeader: options.requireLeader,
      retry: options.retry ?? retry
    }
  })
}
