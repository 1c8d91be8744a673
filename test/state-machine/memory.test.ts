import { test } from 'vitest'
import { runSequences } from './run.ts'
import { memoryStorage } from './storage.ts'

const RUNS = process.env.REQUIRE_SERVICES === '1' ? 960 : 190

test('no order of steps reaches a session, token or change without its factors, or keeps the owner out', {
  timeout: 300_000,
}, async () => {
  await runSequences(await memoryStorage(), RUNS)
})
