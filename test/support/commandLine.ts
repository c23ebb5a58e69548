/**
 * What a command is given, by names that it declares; it is refused with the usage where it makes no sense.
 */
import process from "node:process"
import { parseArgs } from "node:util"

const text = { type: "string" } as const

/** Reads the options of these names. Prints the usage, and ends, where it is asked for. */
export const commandLine = <const Name extends string>(usage: string, names: ReadonlyArray<Name>) => {
  const refuse = (message: string): never => {
    console.error(`effect-etcd: ${message}\n\n${usage}`)
    return process.exit(2)
  }
  const parse = () => {
    try {
      const options = { ...Object.fromEntries(names.map((name) => [name, text])), help: { type: "boolean" } as const }
      return parseArgs({ options }).values as { readonly [key in Name]?: string } & { readonly help?: boolean }
    } catch (error) {
      return refuse(error instanceof Error ? error.message : String(error))
    }
  }
  const values = parse()
  if (values.help === true) {
    console.log(usage)
    process.exit()
  }
  /** A whole number from 1 on. */
  const numberOf = (name: Name, byDefault: number): number => {
    const value: string | undefined = values[name]
    if (value === undefined) return byDefault
    const number = /^\d+$/.test(value) ? Number(value) : 0
    return number > 0 && Number.isSafeInteger(number) ? number : refuse(`--${name} takes a whole number from 1 on`)
  }
  return { values, numberOf, refuse }
}
