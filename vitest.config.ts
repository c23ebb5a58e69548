import { delimiter, join } from "node:path"
import process from "node:process"
import { defineConfig } from "vitest/config"

/** What stands in for etcd refuses to start. */
const withoutEtcd = join(import.meta.dirname, "test", "support", "withoutEtcd")

const unitTests = "test/**/*.unit.test.ts"

/** What takes minutes of processor time: operations that are crossed by others, or by faults, and programs that are afflicted. */
const longTests = "test/**/*.long.test.ts"

/** All programs of the guides, and the demo: a command of its own, and a step of the check. */
const guides = "test/guides.test.ts"

export default defineConfig({
  resolve: { conditions: ["effect-etcd-source"] },
  ssr: { resolve: { conditions: ["effect-etcd-source"] } },
  test: {
    // What takes longer hangs, however busy the machine is.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    // More than the fewest processors: tests of etcd wait for it much of the time.
    maxWorkers: 5,
    // Loading all modules anew for each file took a fifth of the time.
    isolate: false,
    silent: "passed-only",
    // They are compiled once, for workers and for the programs that tests run.
    env: { NODE_COMPILE_CACHE: join(import.meta.dirname, "node_modules", ".cache", "compile") },
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: [unitTests],
          env: {
            ETCD_BINARY: join(withoutEtcd, "etcd"),
            PATH: [withoutEtcd, process.env.PATH].join(delimiter)
          }
        }
      },
      {
        extends: true,
        test: {
          name: "etcd",
          include: ["test/**/*.test.ts", "examples/**/*.test.ts"],
          exclude: [unitTests, longTests, guides]
        }
      },
      {
        extends: true,
        test: { name: "long", include: [longTests] }
      },
      {
        extends: true,
        test: { name: "guides", include: [guides] }
      }
    ]
  }
})
