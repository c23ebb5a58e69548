/**
 * What a program may say of how etcd is found and run.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type { FetchOptions, FindOptions } from "../../EtcdBinary.ts"
import type { Options as ClusterOptions } from "../../EtcdCluster.ts"
import type { Options as NodeOptions } from "../../EtcdProcess.ts"
import * as EtcdProcessError from "../../EtcdProcessError.ts"
import { problemOf as problemOfClient } from "../client/options.ts"
import * as Options from "../options.ts"

const aDirectory = Options.text("the name of a directory")
const anExecutable = Options.text("the name of an executable")

/** What a client for the node is given, but for its endpoints. */
const client: Options.Check = {
  accepts: (value) => Options.isObject(value) && problemOfClient({ endpoints: [], ...value }) === undefined,
  due: "options of a client that make sense",
  show: (value) => (Options.isObject(value) ? (problemOfClient({ endpoints: [], ...value }) ?? "") : typeof value)
}

export const ofNode: Options.Checks<NodeOptions> = {
  binary: anExecutable,
  startTimeout: Options.duration,
  gracePeriod: Options.deadline,
  restart: Options.schedule,
  log: Options.flag,
  eventBuffer: Options.countUpTo(16_777_216),
  statusInterval: Options.duration,
  runDirectory: aDirectory,
  runDirectoryIsTemporary: Options.flag,
  client
}

export const ofCluster: Options.Checks<Pick<ClusterOptions, "size">> = { size: Options.countUpTo(99) }

export const ofFind: Options.Checks<FindOptions> = { path: anExecutable, cacheDirectory: aDirectory }

export const ofFetch: Options.Checks<FetchOptions> = {
  version: Options.text("a version such as 3.6.0"),
  sha256: {
    accepts: (value) => typeof value === "string" && /^[0-9a-f]{64}$/i.test(value),
    due: "64 hexadecimal digits"
  },
  platform: Options.oneOf("linux-amd64", "linux-arm64", "darwin-amd64", "darwin-arm64", "windows-amd64"),
  baseUrl: { accepts: (value) => typeof value === "string" && URL.canParse(value), due: "a URL", show: () => "none" },
  cacheDirectory: aDirectory,
  stallTimeout: Options.duration,
  onProgress: Options.callback
}

/** Fails with the first option that makes no sense. */
export const check = <O extends object>(
  who: string,
  checks: Options.Checks<O>,
  options: O
): Effect.Effect<void, EtcdProcessError.EtcdProcessError> => {
  const problem = Options.find(who, checks, options)
  return problem === undefined
    ? Effect.void
    : Effect.fail(
        EtcdProcessError.make(new EtcdProcessError.InvalidConfig({ message: problem.message, problems: [problem] }))
      )
}
