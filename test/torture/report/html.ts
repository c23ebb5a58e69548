/**
 * Markup in which all that is not markup is escaped.
 */

/** What is markup already. */
export interface Html {
  readonly markup: string
}

export type Content = Html | string | number | undefined | ReadonlyArray<Content>

const entities: { readonly [character: string]: string } = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;"
}

// Control characters may not stand in a page, and what turns the direction of text would make it lie.
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is about.
const unprintable = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]|\p{Surrogate}/gu

/** Text with what cannot be shown as escape sequences. */
export const printable = (text: string): string =>
  text.replace(unprintable, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`)

export const escaped = (text: string): string =>
  printable(text).replace(/[&<>"']/g, (character) => entities[character] ?? character)

const markupOf = (content: Content): string => {
  if (content === undefined) return ""
  if (typeof content === "string") return escaped(content)
  if (typeof content === "number") return String(content)
  return "markup" in content ? content.markup : content.map(markupOf).join("")
}

/** A template of markup: what is put in is escaped where it is not markup itself. */
export const html = (strings: TemplateStringsArray, ...contents: ReadonlyArray<Content>): Html => ({
  markup: String.raw({ raw: strings }, ...contents.map(markupOf))
})

export const raw = (markup: string): Html => ({ markup })

/** JSON that may stand in a script element, with text as it may be shown. */
export const json = (value: unknown): Html => {
  const text = JSON.stringify(value, (_, part: unknown) => (typeof part === "string" ? printable(part) : part))
  return raw(text.replaceAll("<", "\\u003c"))
}
