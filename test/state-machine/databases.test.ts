import { describe, test } from 'vitest'
import { services } from '../services.ts'
import { runSequences } from './run.ts'
import { mysqlStorage, postgresStorage, type Storage, sqliteStorage } from './storage.ts'

const isFull = process.env.REQUIRE_SERVICES === '1'

const databases: { name: string; isThere: boolean; runs: number; open(): Promise<Storage> }[] = [
  { name: 'SQLite', isThere: true, runs: isFull ? 250 : 50, open: sqliteStorage },
  { name: 'PostgreSQL', isThere: isFull && services.postgres, runs: 24, open: postgresStorage },
  { name: 'MariaDB', isThere: isFull && services.mysql, runs: 12, open: mysqlStorage },
]

describe.each(databases)('$name', ({ isThere, runs, open }) => {
  test.skipIf(!isThere)(
    'no order of steps gets around the second factor or keeps the owner out, on a database',
    {
      timeout: 300_000,
    },
    async () => {
      const storage = await open()
      try {
        await runSequences(storage, runs)
      } finally {
        await storage.close()
      }
    },
  )
})
