import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, test } from 'vitest'
import { services } from './services.ts'

const run = promisify(execFile)

describe.for([
  { name: 'postgres', isThere: services.postgres },
  { name: 'mysql', isThere: services.mysql },
])('four processes on $name under load, whose connections are cut', ({ name, isThere }) => {
  test.skipIf(!isThere)(
    'have no uncaught error, tell nothing wrong, and leave no torn user',
    {
      timeout: 60_000,
    },
    async () => {
      const flags = ['--database', name, '--cuts', '150', '--cut-every', '20']

      const { stdout } = await run(process.execPath, ['test/soak/soak.mjs', ...flags])

      assert.match(stdout, /connections cut: 1\d\d; uncaught errors: 0; wrong answers: 0/)
      assert.match(stdout, /the database is whole/)
      const done = JSON.parse(/^done: (\{.*?\})/m.exec(stdout)?.[1] ?? '{}') as Record<string, number>
      for (const what of ['enrollment', 'code', 'backup code']) assert.ok((done[what] ?? 0) > 0, `no ${what}`)
    },
  )
})
