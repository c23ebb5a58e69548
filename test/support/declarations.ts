/**
 * The interfaces that this library's modules export, as their sources declare them: for tests that walk through all of
 * them, so that nobody has to remember to add what is new.
 */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"

const src = join(import.meta.dirname, "..", "..", "src")

/** A property, or a parameter. */
export interface Property {
  readonly name: string
  readonly type: string
}

interface Declared {
  readonly bases: ReadonlyArray<string>
  readonly properties: ReadonlyArray<Property>
}

/** Splits at a separator that is within no brackets. */
const split = (text: string, separator: string): ReadonlyArray<string> => {
  const parts: Array<string> = []
  let depth = 0
  let from = 0
  for (let at = 0; at < text.length; at++) {
    if (text.startsWith("=>", at)) at++
    else if ("([{<".includes(text[at]!)) depth++
    else if (")]}>".includes(text[at]!)) depth--
    else if (depth === 0 && text.startsWith(separator, at)) {
      parts.push(text.slice(from, at))
      from = at + separator.length
    }
  }
  return [...parts, text.slice(from)].map((part) => part.trim()).filter((part) => part !== "")
}

const property = (text: string): Property => {
  const [, name = "", type = ""] = /^(?:readonly )?(\w+)\??: ([\s\S]*)$/.exec(text) ?? []
  const plain = type
    .replace(/\s+/g, " ")
    .replace(/^\| /, "")
    .replace(/ \| undefined$/, "")
  return { name, type: plain }
}

const properties = (body: string): ReadonlyArray<Property> =>
  split(body, "\n  readonly ").map((member) => property(member.replace(/^readonly /, "")))

const readModule = (file: string): ReadonlyArray<readonly [string, Declared]> => {
  const module = file.replace(/\.ts$/, "")
  const text = readFileSync(join(src, file), "utf8").replace(/\/\*[\s\S]*?\*\//g, "")
  return Array.from(
    text.matchAll(/^export interface (\w+)(?:<[^{]*>)?(?: extends ([^{]+))? \{(\}|[\s\S]*?\n\})/gm),
    ([, name, bases = "", body]) => [
      `${module}.${name}`,
      {
        bases: split(bases, ",").map((base) =>
          base.replaceAll(/\b(?<!\.)([A-Z]\w+)\b(?!\.)/g, (word) => qualified(module, word))
        ),
        properties: properties(body!.replace(/\}$/, "\n"))
      }
    ]
  )
}

const helpers = new Set(["Omit", "Pick"])

/** Within its module, an interface has no prefix. */
const qualified = (module: string, word: string): string => (helpers.has(word) ? word : `${module}.${word}`)

const declared: ReadonlyMap<string, Declared> = new Map(
  readdirSync(src)
    .filter((file) => file.endsWith(".ts"))
    .flatMap(readModule)
)

/** The names of all exported interfaces: `EtcdKv.PutOptions`. */
export const names: ReadonlyArray<string> = [...declared.keys()]

const strip = (word: string): string => word.replaceAll('"', "").trim()

const inherited = (base: string): ReadonlyArray<Property> => {
  const [, helper, from, rest] = /^(Omit|Pick)<([\w.]+), (.*)>$/.exec(base) ?? []
  if (helper === undefined) return propertiesOf(base)
  const [, whole] = /^keyof ([\w.]+)$/.exec(rest!) ?? []
  const named = new Set(whole === undefined ? rest!.split("|").map(strip) : propertiesOf(whole).map(({ name }) => name))
  return propertiesOf(from!).filter(({ name }) => named.has(name) === (helper === "Pick"))
}

/** The properties of an interface, inherited ones included. */
export const propertiesOf = (name: string): ReadonlyArray<Property> => {
  const own = declared.get(name)
  if (own === undefined) throw new Error(`there is no interface ${name}`)
  const all = new Map<string, Property>()
  for (const one of [...own.bases.flatMap(inherited), ...own.properties]) all.set(one.name, one)
  return [...all.values()]
}

/** A type as it is called outside of its module. */
export const resolve = (module: string, type: string): string => {
  const here = `${module}.${type}`
  if (declared.has(here)) return here
  return type === "CallOptions" ? "EtcdClient.CallOptions" : type
}

/** The parameters of a property that is a function which may be run. */
export const parametersOf = ({ type }: Property): ReadonlyArray<Property> | undefined => {
  if (!/=> (?:Effect\.Effect|Stream\.Stream)</.test(type)) return undefined
  const from = type.indexOf("(")
  let depth = 0
  for (let at = from; at < type.length; at++) {
    if (type[at] === "(") depth++
    else if (type[at] === ")" && --depth === 0) return split(type.slice(from + 1, at), ",").map(property)
  }
  return undefined
}
