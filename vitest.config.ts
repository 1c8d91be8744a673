import { availableParallelism } from 'node:os'
import { configDefaults, defineConfig } from 'vitest/config'

const source = (path: string) => new URL(`src/${path}`, import.meta.url).pathname

// Vite puts a stub in the place of an optional peer that is not installed; what a user's Node says of it is what counts.
const optionalPeers = {
  name: 'optional-peers',
  enforce: 'pre',
  resolveId: (id: string) => (id === 'better-sqlite3' ? { id, external: true } : null),
} as const

export default defineConfig({
  plugins: [optionalPeers],
  resolve: {
    alias: [
      { find: /^totp-kit$/, replacement: source('index.ts') },
      { find: /^totp-kit\/(http|jwt|recovery|mail|redis|testing)$/, replacement: source('$1/index.ts') },
      { find: /^totp-kit\/store\/(\w+)$/, replacement: source('store/$1.ts') },
      { find: /^totp-kit\/(express|node|fetch)$/, replacement: source('adapters/$1.ts') },
    ],
  },
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
    // Stryker copies the tests into it while it runs.
    exclude: [...configDefaults.exclude, 'test/mutation/**'],
    // Much of the run waits for browsers, servers and npm: on two cores Vitest by itself would use one worker.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    testTimeout: 20_000,
    hookTimeout: 60_000,
    coverage: {
      provider: 'v8',
      include: ['src/**/*.ts'],
      // The command runs as it is built, in processes of its own (test/cli.test.ts), where nobody counts.
      exclude: ['src/**/*.test.ts', 'src/cli/**'],
      reporter: ['text-summary', 'html'],
      thresholds: { lines: 95, branches: 90 },
    },
  },
})
