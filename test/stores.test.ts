import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import { createClient as createLibsqlClient } from '@libsql/client'
import { Redis } from 'ioredis'
import postgres from 'postgres'
import { createClient } from 'redis'
import type { TotpStore } from 'totp-kit'
import { withRedis } from 'totp-kit/redis'
import { libsqlStore } from 'totp-kit/store/libsql'
import { memoryStore } from 'totp-kit/store/memory'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { sqliteStore } from 'totp-kit/store/sqlite'
import { storeCases } from 'totp-kit/testing'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { currentTables } from '../src/store/sql/migrations.ts'
import { tablesOf } from '../src/store/sql/tables.ts'
import { mysqlPool, postgresPool, redisUrl, services } from './services.ts'

/** Gives each case a storage of its own, and further connections to it. */
interface Storage {
  open(index: number): Promise<TotpStore>
  close?(): Promise<void>
}

function runCases(name: string, make: () => Promise<Storage>, isThere = true): void {
  describe.skipIf(!isThere)(name, () => {
    let storage: Storage
    beforeAll(async () => {
      storage = await make()
    })
    afterAll(() => storage.close?.())

    for (const [index, { name, run }] of storeCases.entries()) {
      test(name, async () => {
        const connections: TotpStore[] = []
        try {
          await run(async () => {
            const store = await storage.open(index)
            connections.push(store)
            return store
          })
        } finally {
          for (const connection of connections) await connection.close()
        }
      })
    }
  })
}

runCases('memory', async () => {
  const stores = new Map<number, TotpStore>()
  return {
    async open(index) {
      const store = stores.get(index) ?? memoryStore()
      stores.set(index, store)
      return store
    },
  }
})

runCases('SQLite', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'totp-kit-stores-'))
  return {
    open: (index) => sqliteStore(join(directory, `case-${index}.db`)),
    close: () => rm(directory, { recursive: true }),
  }
})

runCases('libSQL', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'totp-kit-stores-'))
  // Whole numbers as a host may have asked for them.
  const intModes = ['number', 'bigint', 'string'] as const
  let clients = 0
  return {
    async open(index) {
      const intMode = intModes[clients++ % intModes.length] ?? 'number'
      const client = createLibsqlClient({ url: `file:${join(directory, `case-${index}.db`)}`, intMode })
      await client.execute('PRAGMA journal_mode = WAL')
      const store = libsqlStore(client)
      await store.migrate()
      return { ...store, close: async () => client.close() }
    },
    close: () => rm(directory, { recursive: true }),
  }
})

/** One set of tables for all cases, emptied before each: to make them anew costs a server a second. */
function emptiedFor(open: () => Promise<TotpStore>, empty: (table: string) => PromiseLike<unknown>) {
  const tables = currentTables.map(({ name }) => tablesOf()[name])
  let last: number | null = null
  return async (index: number) => {
    const store = await open()
    if (last === null) await store.migrate()
    if (last !== index) for (const table of tables) await empty(table)
    last = index
    return store
  }
}

runCases('PGlite', async () => {
  const database = await PGlite.create()
  return {
    open: emptiedFor(
      async () => postgresStore(database),
      (table) => database.exec(`DELETE FROM ${table}`),
    ),
    close: () => database.close(),
  }
})

runCases(
  'PostgreSQL',
  async () => {
    const { pool, drop } = await postgresPool()
    return {
      open: emptiedFor(
        async () => postgresStore(pool),
        (table) => pool.query(`DELETE FROM ${table}`),
      ),
      close: drop,
    }
  },
  services.postgres,
)

runCases(
  'PostgreSQL by postgres.js',
  async () => {
    const { url, drop } = await postgresPool()
    const sql = postgres(url, { max: 8, onnotice: () => undefined })
    return {
      open: emptiedFor(
        async () => postgresStore(sql),
        (table) => sql.unsafe(`DELETE FROM ${table}`),
      ),
      async close() {
        await sql.end()
        await drop()
      },
    }
  },
  services.postgres,
)

runCases(
  'MariaDB',
  async () => {
    const { pool, drop } = await mysqlPool()
    return {
      open: emptiedFor(
        async () => mysqlStore(pool),
        (table) => pool.query(`DELETE FROM ${table}`),
      ),
      close: drop,
    }
  },
  services.mysql,
)

/** The same store as a class, whose operations are not properties of its own. */
function asClass(store: TotpStore): TotpStore {
  class ClassStore {
    readonly inner = store as unknown as Record<string, (...args: unknown[]) => unknown>
  }
  for (const name of Object.keys(store)) {
    Object.defineProperty(ClassStore.prototype, name, {
      value(this: ClassStore, ...args: unknown[]) {
        return this.inner[name]?.(...args)
      },
    })
  }
  return new ClassStore() as unknown as TotpStore
}

for (const [name, connect, written] of [
  ['redis', async () => createClient({ url: redisUrl }).connect(), (store: TotpStore) => store],
  ['ioredis, and a store that is a class', async () => new Redis(redisUrl), asClass],
] as const) {
  runCases(
    `SQLite with Redis in front (${name})`,
    async () => {
      const directory = await mkdtemp(join(tmpdir(), 'totp-kit-stores-'))
      const client = await connect()
      const run = `${process.pid}-${name}-${Date.now()}`
      return {
        async open(index) {
          const store = await sqliteStore(join(directory, `case-${index}.db`))
          return withRedis(written(store), client as Redis, { prefix: `totp-test:${run}:${index}:` })
        },
        async close() {
          await client.quit()
          await rm(directory, { recursive: true })
        },
      }
    },
    services.redis,
  )
}
