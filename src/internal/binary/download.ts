/**
 * Downloads an archive.
 *
 * A server may send us on to an address that is signed, and that whoever sees it may use. So of every address but the
 * one that was asked for no more than the host is told, in errors and in what caused them, and there are no spans of
 * the requests.
 *
 * @internal
 */
import * as NodeCrypto from "node:crypto"
import * as ByteSize from "effect/ByteSize"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Progress } from "../../EtcdBinary.ts"
import * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Json from "../json.ts"

const maxArchiveBytes = ByteSize.mebibytes(256)

// ── what is told of failures ──

const hostOnly = (address: string): string => {
  const url = URL.parse(address)
  return url === null ? "another address" : `${url.protocol}//${url.host}/…`
}

/** Text in which every address but `url` is a host. */
const concealed = (text: string, url: string): string =>
  text.replace(/\bhttps?:\/\/[^\s"'<>]+/gi, (address) =>
    address.replace(/[).,:;]+$/, "") === url ? address : hostOnly(address)
  )

/** An error and what caused it, without what else they hold: clients attach the requests. */
const concealedError = (error: unknown, url: string, depth = 0): unknown => {
  if (!(error instanceof Error)) return typeof error === "string" ? concealed(error, url) : undefined
  const cause = depth < 5 ? concealedError(error.cause, url, depth + 1) : undefined
  const copy = new Error(concealed(messageOf(error), url), cause === undefined ? {} : { cause })
  copy.name = error.name
  copy.stack = concealed(error.stack ?? String(copy), url)
  return copy
}

/** An `AggregateError` of several addresses has no message, but a code. */
const messageOf = (error: Error): string =>
  error.message === "" && "code" in error ? String(error.code) : error.message

/** The messages of an error and of what caused it: the outer one alone often says no more than "fetch failed". */
export const explain = (error: unknown): string => {
  const messages: Array<string> = []
  for (let cause = error; cause instanceof Error && messages.length < 5; cause = cause.cause) {
    const message = messageOf(cause)
    if (message !== "" && !messages.includes(message)) messages.push(message)
  }
  return messages.join(": ")
}

export const fetchFailed = (url: string, message: string, cause?: unknown) =>
  EtcdProcessError.make(
    new EtcdProcessError.FetchFailed({
      message: `etcd could not be fetched from ${url}: ${message}`,
      url,
      ...(cause === undefined ? {} : { cause })
    })
  )

// ── the download ──

/** What to download, and where to. */
interface Download {
  readonly url: string
  readonly file: string
  readonly stallMillis: number
  readonly onProgress: (progress: Progress) => Effect.Effect<void>
}

const open = Effect.fnUntraced(function* (url: string) {
  const client = HttpClient.followRedirects(yield* HttpClient.HttpClient)
  // A compressed response would be unpacked on the way and no longer match the checksum.
  const response = yield* client.execute(HttpClientRequest.get(url, { headers: { "accept-encoding": "identity" } }))
  return response.status === 200
    ? response
    : yield* Effect.fail(fetchFailed(url, `the server answered with status ${response.status}`))
})

const contentLength = (header: string | undefined): Option.Option<number> =>
  header !== undefined && /^\d+$/.test(header) ? Option.some(Number(header)) : Option.none()

/** Writes an archive to a file, and answers its SHA-256. */
export const download = Effect.fnUntraced(
  function* ({ file, onProgress, stallMillis, url }: Download) {
    const fs = yield* FileSystem.FileSystem
    const stalled = () =>
      Effect.fail(fetchFailed(url, `the server sent nothing for ${Duration.format(Duration.millis(stallMillis))}`))
    const response = yield* Effect.timeoutOrElse(open(url), { duration: stallMillis, orElse: stalled })
    const totalBytes = contentLength(response.headers["content-length"])
    const hash = NodeCrypto.createHash("sha256")
    let receivedBytes = 0
    const body = Stream.timeoutOrElse(response.stream, {
      duration: stallMillis,
      orElse: () => Stream.fromEffect(stalled())
    })
    const tooLarge = () =>
      Stream.fail(fetchFailed(url, `the archive is larger than ${ByteSize.format(maxArchiveBytes)}`))
    yield* Stream.limitBytes(body, maxArchiveBytes, tooLarge).pipe(
      Stream.tap((chunk) =>
        Effect.suspend(() => {
          hash.update(chunk)
          receivedBytes += chunk.length
          return onProgress(Json.answer({ url, receivedBytes, totalBytes }))
        })
      ),
      Stream.run(fs.sink(file, { flag: "wx" })),
      Effect.catchTag("HttpClientError", (error) => {
        const cause = concealedError(error, url)
        return Effect.fail(
          fetchFailed(url, `the download broke off after ${receivedBytes} bytes (${explain(cause)})`, cause)
        )
      })
    )
    return hash.digest("hex")
  },
  (effect, { url }) =>
    effect.pipe(
      Effect.catchTag("HttpClientError", (error) => {
        const cause = concealedError(error, url)
        return Effect.fail(fetchFailed(url, explain(cause), cause))
      }),
      Effect.provideService(HttpClient.TracerDisabledWhen, () => true)
    )
)
