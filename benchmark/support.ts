/**
 * Numbers and tables for the benchmarks.
 */
export const percentile = (values: ReadonlyArray<number>, fraction: number): number => {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? Number.NaN
}

export const median = (values: ReadonlyArray<number>): number => percentile(values, 0.5)

/** Prints rows as a Markdown table. */
export const table = (rows: ReadonlyArray<Record<string, string | number>>): void => {
  const columns = Object.keys(rows[0] ?? {})
  console.log(`| ${columns.join(" | ")} |`)
  console.log(`| ${columns.map(() => "---").join(" | ")} |`)
  for (const row of rows) console.log(`| ${columns.map((column) => row[column]).join(" | ")} |`)
}
