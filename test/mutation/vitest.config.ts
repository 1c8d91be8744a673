import { defineConfig } from 'vitest/config'
import base from '../../vitest.config.ts'
import { room } from './rooms.mjs'

export default defineConfig({
  ...base,
  test: { ...base.test, include: room.tests, maxWorkers: 1, isolate: false, coverage: { enabled: false } },
})
