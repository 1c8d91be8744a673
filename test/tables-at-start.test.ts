import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { PGlite } from '@electric-sql/pglite'
import { createClient } from '@libsql/client'
import { createTotp, generateFernetKey, type TotpStore } from 'totp-kit'
import { libsqlStore } from 'totp-kit/store/libsql'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { openSqlite, sqliteStore } from 'totp-kit/store/sqlite'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { printSchema } from '../src/cli/schema.ts'
import type { Dialect } from '../src/store/sql/dialect.ts'
import { migrations, statementsAfter } from '../src/store/sql/migrations.ts'
import { tablesOf } from '../src/store/sql/tables.ts'
import { mysqlPool, postgresPool, services } from './services.ts'

/** An empty database. */
interface Database {
  dialect: Dialect
  execute(sql: string): Promise<unknown>
  /** The names of the tables, and the versions that are noted. */
  contents(): Promise<{ tables: string[]; versions: number[] }>
  /** The store as a host opens it: that of SQLite brings the tables up to date by itself. */
  open(): Promise<TotpStore>
  drop(): Promise<unknown>
}

const needed = migrations.length
const column = (rows: unknown, name: string) => (rows as Record<string, unknown>[]).map((row) => row[name])

function databaseOf(
  dialect: Dialect,
  query: (sql: string) => Promise<unknown>,
  { open, drop }: Pick<Database, 'open' | 'drop'>,
): Database {
  const tables = {
    sqlite: "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name",
    postgres: "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public' ORDER BY name",
    mysql: 'SELECT table_name AS name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY name',
  }[dialect]
  return {
    dialect,
    execute: query,
    async contents() {
      const names = column(await query(tables), 'name').map(String)
      const noted = names.includes('totp_migration') ? await query('SELECT version FROM totp_migration ORDER BY 1') : []
      return { tables: names, versions: column(noted, 'version').map(Number) }
    },
    open,
    drop,
  }
}

/** One for all tests: to make one takes seconds. */
let pglite: PGlite
beforeAll(async () => {
  pglite = await PGlite.create()
}, 60_000)
afterAll(() => pglite.close())

const databases: { name: string; isThere: boolean; connect(): Promise<Database> }[] = [
  {
    name: 'SQLite',
    isThere: true,
    async connect() {
      const database = await openSqlite(':memory:')
      const query = async (sql: string) => {
        if (sql.startsWith('SELECT')) return database.prepare(sql).all({})
        return database.exec(sql)
      }
      return databaseOf('sqlite', query, { open: () => sqliteStore(database), drop: async () => database.close() })
    },
  },
  {
    name: 'libSQL',
    isThere: true,
    async connect() {
      const client = createClient({ url: ':memory:' })
      const query = async (sql: string) => (await client.execute(sql)).rows
      return databaseOf('sqlite', query, { open: async () => libsqlStore(client), drop: async () => client.close() })
    },
  },
  {
    name: 'PostgreSQL',
    isThere: services.postgres,
    async connect() {
      const { pool, drop } = await postgresPool(2)
      const query = async (sql: string) => (await pool.query(sql)).rows
      return databaseOf('postgres', query, { open: async () => postgresStore(pool), drop })
    },
  },
  {
    name: 'PGlite',
    isThere: true,
    async connect() {
      const database = pglite
      const query = async (sql: string) => (await database.query(sql)).rows
      const drop = () => database.exec('DROP SCHEMA public CASCADE; CREATE SCHEMA public')
      return databaseOf('postgres', query, { open: async () => postgresStore(database), drop })
    },
  },
  {
    name: 'MariaDB',
    isThere: services.mysql,
    async connect() {
      const { pool, drop } = await mysqlPool(2)
      const query = async (sql: string) => (await pool.query(sql))[0]
      return databaseOf('mysql', query, { open: async () => mysqlStore(pool), drop })
    },
  },
]

const start = (store: TotpStore) => createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store })

async function executeAll({ execute }: Database, script: string): Promise<void> {
  for (const statement of script.split(';\n').filter((text) => text.trim() !== '')) await execute(statement)
}

/** The tables as Drizzle or Prisma make them of what `totp-kit schema` prints: no version is noted. */
const byAnotherTool = async (database: Database) => {
  const withVersions = printSchema(database.dialect, {})
  const withoutVersions = withVersions.replace(/^INSERT INTO totp_migration .*$/gm, '')
  assert.notEqual(withoutVersions, withVersions)
  await executeAll(database, withoutVersions.replace(/;\n+(?=;)/g, ''))
}

for (const { name, isThere, connect } of databases) {
  describe.skipIf(!isThere)(name, () => {
    for (const version of [1, 2]) {
      const holds = name === 'SQLite' ? 'is brought up to date by the store' : 'stops the start in words'
      test(`a database of version ${version} ${holds}`, async () => {
        const database = await connect()
        const script = new URL(`version-${version}/${database.dialect}.sql`, import.meta.url)
        await executeAll(database, await readFile(script, 'utf8'))
        const before = await database.contents()

        const store = await database.open()

        if (name !== 'SQLite') {
          await assert.rejects(start(store), {
            message: `the totp-kit tables are at version ${version}, this version of totp-kit needs ${needed}: call store.migrate(), or run totp-kit migrate`,
          })
          assert.deepEqual(await database.contents(), before)
          await store.migrate()
        }
        await start(store)
        assert.equal((await database.contents()).versions.at(-1), needed)
        await database.drop()
      })
    }

    test('a database of a later version stops the start in words', async () => {
      const database = await connect()
      const store = await database.open()
      await store.migrate()
      await database.execute(`INSERT INTO totp_migration (version) VALUES (${needed + 1})`)

      await assert.rejects(start(store), {
        message: `the totp-kit tables are at version ${needed + 1}, this version of totp-kit needs ${needed}: install the later version of totp-kit`,
      })

      await assert.rejects(store.migrate(), /install the later version/)
      await database.drop()
    })

    test('whole tables of another tool are used as they are, and a migration leaves them to that tool', async () => {
      const database = await connect()
      await byAnotherTool(database)
      const before = await database.contents()
      assert.deepEqual(before.versions, [])

      const store = await database.open()
      await store.migrate()

      assert.deepEqual(await database.contents(), before)
      await (await start(store)).createTotpSetup({ id: 'ann', accountName: 'ann' })
      await database.drop()
    })

    test('tables of another tool that lack a column stop the migration and the start in words', async () => {
      const database = await connect()
      await byAnotherTool(database)
      await database.execute('ALTER TABLE totp_user DROP COLUMN codes_saved_at')
      const before = await database.contents()
      const inWords = {
        message:
          'the totp-kit tables lack totp_user.codes_saved_at. They have no version, so another tool made them: print the tables with totp-kit schema, and update them with that tool',
      }

      if (name === 'SQLite') await assert.rejects(database.open(), inWords)
      else {
        const store = await database.open()
        await assert.rejects(store.migrate(), inWords)
        await assert.rejects(start(store), inWords)
      }

      assert.deepEqual(await database.contents(), before)
      await database.drop()
    })

    test('tables of another tool that lack a table stop the migration, which adds none', async () => {
      const database = await connect()
      await byAnotherTool(database)
      await database.execute('DROP TABLE totp_trusted_device')
      const before = await database.contents()

      await assert.rejects(
        database.open().then((store) => store.migrate()),
        /^Error: the totp-kit tables lack totp_trusted_device\.id\. They have no version/,
      )

      assert.deepEqual(await database.contents(), before)
      await database.drop()
    })
  })
}

describe.skipIf(!services.mysql)('a first migration that broke off in MariaDB, which cannot undo it', () => {
  const statements = statementsAfter(0, 'mysql', tablesOf())

  test.each([1, 5, statements.indexOf('INSERT INTO totp_migration (version) VALUES (1)')])(
    'is not taken for tables of another tool where %i of its statements were done',
    async (done) => {
      const { pool, drop } = await mysqlPool(2)
      let asked = 0
      const breaking = new Proxy(pool, {
        get: (target, property) => {
          if (property !== 'getConnection') return Reflect.get(target, property).bind(target)
          return async () => {
            const connection = await target.getConnection()
            const query = connection.query.bind(connection)
            connection.query = (async (sql: string) => {
              if (statements.includes(sql) && asked++ === done) throw new Error('the process was killed')
              return query(sql)
            }) as typeof connection.query
            return connection
          }
        },
      })
      await assert.rejects(mysqlStore(breaking).migrate(), /killed/)
      await assert.rejects(start(mysqlStore(pool)), /are missing|at version 0/)

      await mysqlStore(pool).migrate()

      await start(mysqlStore(pool))
      await drop()
    },
  )
})
