/**
 * The official releases whose checksums the library has.
 */
import * as Effect from "effect/Effect"
import * as EtcdBinary from "../../src/EtcdBinary.ts"
import * as Releases from "../../src/internal/binary/releases.ts"
import { failed, type Source, within } from "./source.ts"

/** What is behind the last colon: the same for every release that fails for the same reason. */
const innermost = (message: string) => message.slice(message.lastIndexOf(": ") + 1).trim()

export const releases = (): ReadonlyArray<Source> => {
  const platform = Releases.hostPlatform()
  return Releases.releases
    .filter((release) => platform !== undefined && release.sha256[platform] !== undefined)
    .map(({ version }) => ({
      name: `official release ${version}`,
      has: version,
      get: EtcdBinary.fetch({ version, stallTimeout: "15 seconds" }).pipe(
        Effect.map((etcd) => etcd.path),
        Effect.catchTag("EtcdProcessError", (error) => failed(innermost(error.message))),
        within("5 minutes")
      )
    }))
}
