import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TotpStore } from 'totp-kit'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { openSqlite, sqliteStore } from 'totp-kit/store/sqlite'
import { describe, test } from 'vitest'
import type { Dialect } from '../src/store/sql/dialect.ts'
import { statementsAfter } from '../src/store/sql/migrations.ts'
import { tablesOf } from '../src/store/sql/tables.ts'
import {
  activate,
  attempt,
  byCode,
  byStep,
  device,
  devicesOf,
  limits,
  noon,
  pending,
  usedCodes,
} from '../src/testing/store-fixtures.ts'
import { mysqlPool, postgresPool, services } from './services.ts'

/** A new database, with the tables of an earlier version and whom it enrolled: `test/version-…`, which are never changed. */
interface Old {
  query(sql: string): Promise<unknown[]>
  /** A store that has brought the tables up to date. */
  upToDate(): Promise<TotpStore>
  drop(): Promise<unknown>
}

const fromVersion1 = (dialect: Dialect) => fromVersion(1, dialect)

async function fromVersion(version: number, dialect: Dialect): Promise<Old> {
  const old = await { sqlite: newSqlite, postgres: newPostgres, mysql: newMysql }[dialect]()
  for (const file of [`${dialect}.sql`, 'enrolled.sql']) {
    const script = await readFile(new URL(`version-${version}/${file}`, import.meta.url), 'utf8')
    for (const statement of script.split(';\n').filter((text) => text.trim() !== '')) await old.query(statement)
  }
  return old
}

async function newSqlite(): Promise<Old> {
  const directory = await mkdtemp(join(tmpdir(), 'totp-kit-migrations-'))
  const path = join(directory, 'totp.db')
  const database = await openSqlite(path)
  return {
    query: async (sql) => {
      if (sql.startsWith('SELECT')) return database.prepare(sql).all({})
      database.exec(sql)
      return []
    },
    upToDate: () => sqliteStore(path),
    drop: () => rm(directory, { recursive: true }),
  }
}

async function newPostgres(): Promise<Old> {
  const { pool, drop } = await postgresPool(10)
  const store = postgresStore(pool)
  return {
    query: async (sql) => (await pool.query(sql)).rows,
    upToDate: () => store.migrate().then(() => store),
    drop,
  }
}

async function newMysql(): Promise<Old> {
  const { pool, drop } = await mysqlPool(10)
  const store = mysqlStore(pool)
  return {
    query: async (sql) => (await pool.query(sql))[0] as unknown[],
    upToDate: () => store.migrate().then(() => store),
    drop,
  }
}

/** Ann's authenticator and codes work on as they did, Bob can confirm his, and what is new works beside them. */
async function goesOn(store: TotpStore): Promise<void> {
  const ann = { userId: 'ann', authenticatorId: 'phone', generation: 3, codes: ['a', 'b'] }
  assert.deepEqual(await store.readFactors(attempt()), {
    outcome: 'open',
    user: { generation: 3, changedAt: 1_788_480_000, confirmedAt: 1_788_470_000 },
    authenticators: [
      {
        id: 'phone',
        name: 'Phone',
        sealedSecret: 'sealed secret',
        parameters: { algorithm: 'SHA256', digits: 8, periodSeconds: 60 },
        createdAt: 1_788_470_000,
        lastUsedAt: 1_788_480_000,
        driftSteps: 0,
        resyncStep: null,
      },
    ],
  })
  assert.equal(
    (await store.settleAttempt(byStep(ann, 1_000_000))).outcome,
    'spent_before',
    'that step was spent before',
  )
  assert.equal((await store.settleAttempt(byStep(ann, 1_000_001, { driftSteps: 1 }))).outcome, 'spent')
  assert.deepEqual(await usedCodes(store), ['a'])
  assert.equal((await store.settleAttempt(byCode(ann, ['b']))).outcome, 'spent')
  await store.noteResyncStep('bob', 'new', 1_000_007)
  assert.equal(await activate(store, { userId: 'bob', authenticatorId: 'new', generation: 0 }), 'first')
  await store.noteBackupCodesSaved('ann', noon)
  assert.equal((await store.getStatus('ann', noon, limits)).backupCodesSavedAt, noon)
  await store.putPending('cleo', pending('tablet', { sessionDigest: 'session' }), 0, limits)
  assert.equal((await store.getPending('cleo', noon))?.sessionDigest, 'session')
  await store.keepTrustedDevice(device('laptop'), 3)
  assert.deepEqual(await devicesOf(store), ['laptop'])
  assert.equal((await store.getStatus('ann', noon, limits)).authenticators[0]?.driftSteps, 1)
}

const versions = 'SELECT version FROM totp_migration ORDER BY version'
const versionsOf = async (old: Old) =>
  (await old.query(versions)).map((row) => Number((row as { version: number }).version))

for (const [name, dialect, isThere] of [
  ['SQLite', 'sqlite', true],
  ['PostgreSQL', 'postgres', services.postgres],
  ['MariaDB', 'mysql', services.mysql],
] as const) {
  describe.skipIf(!isThere).each([1, 2, 3])(`a database of version %i in ${name}`, (version) => {
    test('is brought up to date, and whom it enrolled goes on with the same authenticator', async () => {
      const old = await fromVersion(version, dialect)
      const store = await old.upToDate()

      assert.deepEqual(await versionsOf(old), [1, 2, 3, 4])
      await goesOn(store)
      await store.close()
      await old.drop()
    })

    test('is brought up to date once by ten connections that begin at once', async () => {
      const old = await fromVersion(version, dialect)

      const stores = await Promise.all(Array.from({ length: 10 }, () => old.upToDate()))

      assert.deepEqual(await versionsOf(old), [1, 2, 3, 4])
      await goesOn(stores[9] as TotpStore)
      for (const store of stores) await store.close()
      await old.drop()
    })
  })
}

describe.skipIf(!services.mysql)('a step that broke off in MariaDB, which cannot undo one', () => {
  const statements = statementsAfter(1, 'mysql', tablesOf())

  test.each(Array.from(statements.keys()).slice(1))(
    'is taken again where %i of its statements were done',
    async (done) => {
      const old = await fromVersion1('mysql')
      for (const statement of statements.slice(0, done)) await old.query(statement)

      const store = await old.upToDate()

      assert.deepEqual(await versionsOf(old), [1, 2, 3, 4])
      await goesOn(store)
      await old.drop()
    },
  )
})

describe('where a step fails', () => {
  test.skipIf(!services.postgres)(
    'PostgreSQL keeps nothing of it, and the database is as version 1 left it',
    async () => {
      const old = await fromVersion1('postgres')
      await old.query('ALTER TABLE totp_pending_authenticator ADD COLUMN far_step text')

      await assert.rejects(old.upToDate(), /far_step/)

      assert.deepEqual(await versionsOf(old), [1])
      assert.deepEqual(await old.query("SELECT 1 FROM pg_tables WHERE tablename = 'totp_trusted_device'"), [])
      await old.drop()
    },
  )

  test.skipIf(!services.mysql)('MariaDB notes nothing of it, and lets the next process in at once', async () => {
    const old = await fromVersion1('mysql')
    await old.query('RENAME TABLE totp_pending_authenticator TO elsewhere')

    await assert.rejects(old.upToDate(), /totp_pending_authenticator/)

    assert.deepEqual(await versionsOf(old), [1])
    await old.query('RENAME TABLE elsewhere TO totp_pending_authenticator')
    const [store] = await Promise.all(Array.from({ length: 4 }, () => old.upToDate()))
    assert.deepEqual(await versionsOf(old), [1, 2, 3, 4])
    await goesOn(store as TotpStore)
    await old.drop()
  })
})

for (const [name, isThere, connect] of [
  ['PostgreSQL', services.postgres, onePostgresConnection],
  ['MariaDB', services.mysql, oneMysqlConnection],
] as const) {
  test.skipIf(!isThere)(`${name} makes the tables on a connection that goes back to its pool`, async () => {
    const { store, number, drop } = await connect()
    const before = await number()

    await store.migrate()

    assert.equal(await number(), before)
    await drop()
  })
}

/** A pool with one connection, and which one that is. */
async function onePostgresConnection() {
  const { pool, drop } = await postgresPool(1)
  const number = async () => Number((await pool.query('SELECT pg_backend_pid() AS number')).rows[0].number)
  return { store: postgresStore(pool), number, drop }
}

async function oneMysqlConnection() {
  const { pool, drop } = await mysqlPool(1)
  const number = async () => {
    const [rows] = await pool.query('SELECT connection_id() AS number')
    return Number((rows as { number: number }[])[0]?.number)
  }
  return { store: mysqlStore(pool), number, drop }
}
