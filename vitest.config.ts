import { defineConfig } from "vitest/config"

export default defineConfig({
  resolve: { conditions: ["effect-etcd-source"] },
  ssr: { resolve: { conditions: ["effect-etcd-source"] } },
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    silent: "passed-only"
  }
})
