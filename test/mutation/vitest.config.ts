import { defineConfig } from 'vitest/config'
import base from '../../vitest.config.ts'

/** The tests that run in this process and need no build and no server: what a mutant of a rule has to fail. */
export default defineConfig({
  ...base,
  test: {
    ...base.test,
    include: [
      'src/**/*.test.ts',
      'test/stores.test.ts',
      'test/migrations.test.ts',
      'test/mail.test.ts',
      'test/http/wire-*.test.ts',
      'test/http/matrix.test.ts',
    ],
    maxWorkers: 1,
    coverage: { enabled: false },
  },
})
