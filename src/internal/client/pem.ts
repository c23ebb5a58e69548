/**
 * Whether PEM text is what it should be, before OpenSSL makes something else of it: it passes over what it cannot read,
 * takes no authority at all for those of the system, and says of the rest that there is "no start line".
 *
 * No text of a certificate or a key is part of what is told.
 *
 * @internal
 */
import type * as NodeCrypto from "node:crypto"
import * as Result from "effect/Result"

/** What is due in a text: certificates, or a private key. */
export type Due = "certificates" | "key"

/** What is wrong with a text. It may be no more than a file that is being written. */
export interface Problem {
  readonly what: string
  readonly mayBeHalfWritten: boolean
}

interface Block {
  readonly label: string
  readonly text: string
}

const wholeBlock = /^-----BEGIN ([A-Z0-9 ]+)-----[ \t]*\r?\n[\s\S]*?^-----END \1-----/gm

const blocksOf = (text: string): ReadonlyArray<Block> =>
  Array.from(text.matchAll(wholeBlock), ([block, label]) => ({ label: label!, text: block }))

const isCertificate = ({ label }: Block): boolean => /^(?:X509 |TRUSTED )?CERTIFICATE$/.test(label)

const isKey = ({ label }: Block): boolean => label.endsWith("PRIVATE KEY")

const isEncrypted = ({ label, text }: Block): boolean =>
  label.startsWith("ENCRYPTED") || text.includes("Proc-Type: 4,ENCRYPTED")

const countOf = (text: string, part: string): number => text.split(part).length - 1

const problem = (what: string, mayBeHalfWritten = false): Problem => ({ what, mayBeHalfWritten })

/** What is wrong with the text, if anything is, as the end of a sentence about it. */
export const problemOf = (text: string, due: Due): Problem | undefined => {
  if (text.trim() === "") return problem("is empty", true)
  const blocks = blocksOf(text)
  const begun = countOf(text, "-----BEGIN ")
  if (begun > blocks.length) return unfinished(text)
  if (begun === 0) return problem(noPem(text))
  return due === "key" ? problemOfKey(blocks) : problemOfCertificates(blocks)
}

const unfinished = (text: string): Problem => {
  if (text.includes("\\n")) return problem("has its line breaks written as \\n; give real ones")
  return /^[ \t]+-----BEGIN /m.test(text)
    ? problem("is indented; let each line begin at its margin")
    : problem("is cut off in the middle of a PEM block", true)
}

const noPem = (text: string): string =>
  /^[^\r\n]{1,4096}$/.test(text.trim()) && /[\\/]|\.(?:pem|crt|cer|key)$/i.test(text.trim())
    ? "is no PEM text but looks like the name of a file; give it as { file: name }"
    : "has no PEM block (-----BEGIN ...-----); a file of another format, such as DER, has to be converted"

const labelsOf = (blocks: ReadonlyArray<Block>): string =>
  [...new Set(blocks.map(({ label }) => label.toLowerCase()))].join(" and ")

const problemOfCertificates = (blocks: ReadonlyArray<Block>): Problem | undefined => {
  const certificates = blocks.filter(isCertificate)
  if (certificates.length === 0) return problem(`holds a ${labelsOf(blocks)} where a certificate is due`)
  const bad = certificates.findIndex(
    ({ label, text }) => label !== "TRUSTED CERTIFICATE" && Result.isFailure(certificateIn(text))
  )
  return bad < 0 ? undefined : problem(`cannot be read (certificate ${bad + 1} of ${certificates.length})`)
}

const problemOfKey = (blocks: ReadonlyArray<Block>): Problem | undefined => {
  const key = blocks.find(isKey)
  if (key === undefined) return problem(`holds a ${labelsOf(blocks)} where a private key is due`)
  if (isEncrypted(key)) return problem("is encrypted; decrypt it, since there is no option for a passphrase")
  return Result.isFailure(keyIn(key.text)) ? problem("cannot be read") : undefined
}

const loadCrypto = (): typeof NodeCrypto => globalThis.process.getBuiltinModule("node:crypto")

const certificateIn = (text: string) => {
  const { X509Certificate } = loadCrypto()
  return Result.try(() => new X509Certificate(text.replace("X509 CERT", "CERT")))
}

const keyIn = (text: string) => Result.try(() => loadCrypto().createPrivateKey(text))

/** Whether the key belongs to the first certificate, which is the one that is shown; both texts are good. */
export const belongTogether = (certificates: string, keys: string): boolean => {
  const certificate = certificateIn(blocksOf(certificates).find(isCertificate)?.text ?? "")
  const key = keyIn(blocksOf(keys).find(isKey)?.text ?? "")
  return Result.isSuccess(certificate) && Result.isSuccess(key) && certificate.success.checkPrivateKey(key.success)
}
