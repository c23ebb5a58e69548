/**
 * The checksums of a release, from the file `SHA256SUMS` that it has published, as `src/internal/binary/releases.ts` has them.
 */
import * as Releases from "../../src/internal/binary/releases.ts"

/** The entry of a release. What the file does not have is left out. */
export const entryOf = (version: string, text: string): string => {
  const sums = new Map(Array.from(text.matchAll(/^([0-9a-f]{64}) [ *](\S+)$/gm), ([, sum, name]) => [name, sum]))
  const lines = Releases.platforms.flatMap((platform) => {
    const sum = sums.get(Releases.archiveFile(version, platform))
    return sum === undefined ? [] : [`      "${platform}": "${sum}"`]
  })
  return `  {\n    version: "${version}",\n    sha256: {\n${lines.join(",\n")}\n    }\n  },`
}
