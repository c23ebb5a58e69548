/**
 * The optional packages `@effect-etcd/<os>-<cpu>`, which bring etcd with the library:
 *
 * - `npm run packages -- build` makes them, of the official archives whose checksums are in
 *   `src/internal/binary/releases.ts`, into `.packages/`: a tarball for each release and platform, and `packages.json`;
 * - `npm run packages -- publish --dry-run`, and without it, publishes them with npm;
 * - `npm run packages -- sums 3.6.15` prints the line for `releases.ts`, as the release's own `SHA256SUMS` has it.
 *
 * `--from DIR` takes archives that are there already; `--line 3.6` and `--platform linux-amd64` make only some.
 *
 * Their version is that of etcd. The library depends on one release exactly (the first one of `releases.ts`), which is
 * `latest`; each line is a dist-tag (`etcd-3.5`). They are published before the library is, into whose `package.json`
 * `optional.ts` puts them when it is packed.
 */
import * as NodeHttp from "node:http"
import { join } from "node:path"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Console from "effect/Console"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Releases from "../../src/internal/binary/releases.ts"
import { baseUrl, build, without } from "./build.ts"
import { publish } from "./publish.ts"
import { entryOf } from "./sums.ts"

const root = join(import.meta.dirname, "..", "..")

const out = Flag.Directory("out").pipe(
  Flag.withDefault(join(root, ".packages")),
  Flag.withDescription("where the tarballs are")
)

const some = <A>(values: ReadonlyArray<A>): ReadonlyArray<A> | undefined => (values.length === 0 ? undefined : values)

const buildCommand = Command.make(
  "build",
  {
    out,
    from: Flag.Directory("from", { mustExist: true }).pipe(
      Flag.optional,
      Flag.withDescription("a directory with the archives, instead of downloading them")
    ),
    line: Flag.String("line").pipe(Flag.atLeast(0), Flag.withDescription("only this release line, such as 3.6")),
    platform: Flag.Literals("platform", Releases.packagedPlatforms).pipe(
      Flag.atLeast(0),
      Flag.withDescription("only this platform")
    )
  },
  Effect.fnUntraced(function* ({ from, line, out, platform }) {
    yield* build({ out, from: Option.getOrUndefined(from), lines: some(line), platforms: some(platform) })
    for (const what of without()) yield* Effect.logWarning(`${what} is not made: there is no checksum of it`)
  })
).pipe(Command.withDescription("Makes the packages of official archives"))

const publishCommand = Command.make(
  "publish",
  { out, dryRun: Flag.Boolean("dry-run").pipe(Flag.withDescription("do all but publish")) },
  publish
).pipe(Command.withDescription("Publishes the packages that were made, with npm"))

const sumsCommand = Command.make(
  "sums",
  { version: Argument.String("version") },
  Effect.fnUntraced(function* ({ version }) {
    const client = HttpClient.filterStatusOk(HttpClient.followRedirects(yield* HttpClient.HttpClient))
    const text = yield* Effect.flatMap(client.get(`${baseUrl}/v${version}/SHA256SUMS`), (response) => response.text)
    yield* Console.log(entryOf(version, text))
  })
).pipe(Command.withDescription("Prints the checksums of a release as src/internal/binary/releases.ts has them"))

Command.make("packages").pipe(
  Command.withDescription("The optional packages that bring etcd with the library"),
  Command.withSubcommands([buildCommand, publishCommand, sumsCommand]),
  Command.run({ version: "none" }),
  Effect.tapErrorTag(["PackageError", "EtcdProcessError"], ({ message }) => Console.error(`effect-etcd: ${message}`)),
  Effect.provide(
    Layer.unwrap(
      Effect.sync(() => {
        NodeHttp.setGlobalProxyFromEnv()
        return Layer.mergeAll(NodeServices.layer, FetchHttpClient.layer)
      })
    )
  ),
  (program) => NodeRuntime.runMain(program, { disableErrorReporting: true })
)
