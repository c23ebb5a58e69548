import { defineConfig } from "vitest/config"

export default defineConfig({
  resolve: { conditions: ["effect-etcd-source"] },
  ssr: { resolve: { conditions: ["effect-etcd-source"] } },
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    // Elections and leases are decided by clocks: a machine that stands still for seconds can fail a test that is right.
    retry: process.env.CI === undefined ? 0 : 1,
    silent: "passed-only"
  }
})
