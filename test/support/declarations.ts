/**
 * The interfaces and functions that this library's modules export, as their sources declare them: for tests that walk through all of
 * them, so that nobody has to remember to add what is new.
 */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { modules, nameOf, source } from "../../scripts/modules.ts"

/** A property, or a parameter. */
export interface Property {
  readonly name: string
  readonly type: string
  /** Whether it may be left out. */
  readonly isOptional: boolean
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
  const [, texted] = /^(\w+) = "[^"]*"$/.exec(text) ?? []
  if (texted !== undefined) return { name: texted, type: "string", isOptional: true }
  const [, name = "", mark = "", type = ""] = /^(?:readonly )?(\w+)(\??): ([\s\S]*)$/.exec(text) ?? []
  const plain = type
    .replace(/\s+/g, " ")
    .replace(/^\| /, "")
    .replace(/ \| undefined$/, "")
  const withoutDefault = plain.replace(/ = [^>]*$/, "")
  return { name, type: withoutDefault, isOptional: mark === "?" || withoutDefault !== plain }
}

const properties = (body: string): ReadonlyArray<Property> =>
  split(body, "\n  readonly ").map((member) => property(member.replace(/^readonly /, "")))

const places: ReadonlyMap<string, string> = new Map(modules.map((place) => [nameOf(place), place]))

/** The source of a module, as it stands. */
export const textOf = (module: string): string => readFileSync(join(source, `${places.get(module)}.ts`), "utf8")

const sourceOf = (module: string): string => textOf(module).replace(/\/\*[\s\S]*?\*\//g, "")

const readModule = (module: string): ReadonlyArray<readonly [string, Declared]> =>
  Array.from(
    sourceOf(module).matchAll(/^export interface (\w+)(?:<[^{]*>)?(?: extends ([^{]+))? \{(\}|[\s\S]*?\n\})/gm),
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

const helpers = new Set(["Omit", "Pick"])

/** Within its module, an interface has no prefix. */
const qualified = (module: string, word: string): string => (helpers.has(word) ? word : `${module}.${word}`)

const declared: ReadonlyMap<string, Declared> = new Map([...places.keys()].flatMap(readModule))

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

/** A type as it is called outside of its module, and where it is another one's, there. */
export const resolve = (module: string, type: string): string => {
  const here = `${module}.${type}`
  if (declared.has(here)) return here
  const other = new RegExp(`^export type ${type.replace(/\W/g, "\\$&")} = ([\\w.]+)$`, "m").exec(sourceOf(module))
  if (other !== null && declared.has(other[1]!)) return other[1]!
  return type === "CallOptions" ? "EtcdClient.CallOptions" : type
}

/** What stands in brackets that begin at a place, and where they end. */
const bracketed = (text: string, from: number): readonly [inside: string, end: number] => {
  let depth = 0
  for (let at = from; at < text.length; at++) {
    if (text[at] === "(") depth++
    else if (text[at] === ")" && --depth === 0) return [text.slice(from + 1, at), at + 1]
  }
  throw new Error(`no end of the brackets in ${text.slice(from, from + 80)}`)
}

/** The parameters of a property that is a function which may be run. */
export const parametersOf = ({ type }: Property): ReadonlyArray<Property> | undefined =>
  /=> (?:(?:Effect\.Effect|Stream\.Stream)<|Operation\b)/.test(type)
    ? split(bracketed(type, type.indexOf("("))[0], ",").map(property)
    : undefined

/** A function that a module declares. */
export interface Function {
  readonly name: string
  readonly parameters: ReadonlyArray<Property>
  /** The type of its result, without what stands in `<` and `>`. */
  readonly result: string
}

/** The functions of a module with one signature. */
export const functionsOf = (module: string): ReadonlyArray<Function> => {
  const text = sourceOf(module)
  return Array.from(text.matchAll(/^(?:export )?const (\w+) = (?:<.*>)?\(/gm), (match) => {
    const [inside, end] = bracketed(text, match.index + match[0].length - 1)
    const [, result = ""] = /^: ([\w.]+)/.exec(text.slice(end)) ?? []
    return { name: match[1]!.replace(/_$/, ""), parameters: split(inside, ",").map(property), result }
  })
}
