import { name, room } from './room.mjs'

export default {
  testRunner: 'vitest',
  vitest: { configFile: 'test/mutation/vitest.config.ts', related: false },
  plugins: ['@stryker-mutator/vitest-runner'],
  coverageAnalysis: 'perTest',
  // FILES=src/store/memory.ts,… : some of the room's files only.
  mutate: process.env.FILES?.split(',') ?? [...room.mutate, '!src/**/*.test.ts'],
  ignorePatterns: [
    '.stryker-tmp',
    'dist',
    'dist-demo',
    'coverage',
    'bench',
    'data',
    'test/*/node_modules',
    'test/mutation/reports',
  ],
  reporters: ['clear-text', 'json', 'progress-append-only'],
  clearTextReporter: { allowColor: false, reportTests: false },
  jsonReporter: { fileName: process.env.REPORT ?? `test/mutation/reports/${name}.json` },
  tempDirName: `.stryker-tmp/${name}`,
  concurrency: Number(process.env.CONCURRENCY ?? 2),
  timeoutMS: 20_000,
  thresholds: { high: 95, low: 90, break: 90 },
}
