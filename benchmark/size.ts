/**
 * What it costs to have this library in a program: the bytes of a bundle, and the time until the module is there. Of what
 * would be published, so it is built first.
 */
import { execFileSync } from "node:child_process"
import { join } from "node:path"
import { Effect } from "effect"
import { programs, sizeOf } from "./bundle.ts"
import { benchError, median, type Row, rounded, table } from "./support.ts"

const root = join(import.meta.dirname, "..")

const modules = [
  "effect",
  "effect-etcd",
  "effect-etcd/EtcdLayer",
  "effect-etcd/EtcdClient",
  "effect-etcd/EtcdTxn",
  "effect-etcd/coordination"
] as const

/** The milliseconds that importing the module takes in a process of its own, on the clock and of the processor. */
const importOnce = (module: string): readonly [millis: number, cpu: number] => {
  const program = `
    const cpu = process.cpuUsage()
    const start = performance.now()
    await import(${JSON.stringify(module)})
    const millis = performance.now() - start
    const { system, user } = process.cpuUsage(cpu)
    console.log(JSON.stringify([millis, (system + user) / 1000]))`
  return JSON.parse(
    execFileSync(process.execPath, ["--input-type=module", "--eval", program], { cwd: root, encoding: "utf8" })
  )
}

const imports = (rounds: number) => {
  const times = modules.map((module) => ({ module, millis: [] as Array<number>, cpu: [] as Array<number> }))
  for (let round = 0; round < rounds; round++) {
    for (const one of times) {
      const [millis, cpu] = importOnce(one.module)
      one.millis.push(millis)
      one.cpu.push(cpu)
    }
  }
  const ofEffect = median(times[0]!.cpu)
  return times.map(({ cpu, millis, module }) => ({
    import: module,
    "median ms": rounded(median(millis), 1),
    "CPU ms": rounded(median(cpu), 1),
    "min CPU ms": rounded(Math.min(...cpu), 1),
    "CPU to effect's": rounded(median(cpu) / ofEffect, 2)
  }))
}

const bundles = async () => {
  const rows = []
  for (const [program, { source }] of Object.entries(programs)) {
    const { effect, whole } = await sizeOf(source)
    const kilo = (bytes: number) => rounded(bytes / 1000, 1)
    rows.push({
      bundle: program,
      "kB gzipped": kilo(whole),
      "of Effect": kilo(effect),
      "beyond it": kilo(whole - effect)
    })
  }
  return rows
}

export const size = (quick: boolean) =>
  Effect.tryPromise({
    try: async (): Promise<ReadonlyArray<Row>> => {
      execFileSync("npm", ["run", "--silent", "build"], {
        cwd: root,
        stdio: "inherit",
        shell: process.platform === "win32"
      })
      table(await bundles())
      table(imports(quick ? 5 : 25))
      return []
    },
    catch: (cause) => benchError("size", cause)
  })
